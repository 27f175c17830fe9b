"""Write traces and their ROIs into an NWB file, as neuroconv and roiextractors name things."""

from __future__ import annotations

import contextlib
import datetime
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import check_flag
from xs2p.disk.inputs import paths_read
from xs2p.disk.replace import put_file_in_place, scratch_folder
from xs2p.io.nwb.checks import CONTAINERS, check_path, check_traces, checked_file, new_file
from xs2p.io.nwb.clock import clock_of
from xs2p.io.nwb.columns import by_channel
from xs2p.io.nwb.events import check_events
from xs2p.io.nwb.file import SERIES
from xs2p.io.nwb.intervals import add_intervals, observed
from xs2p.io.nwb.parts import (
    add_images,
    add_series,
    frame_images,
    new_imaging_plane,
    roi_table,
)
from xs2p.rois.convert import compact
from xs2p.rois.pixels import planes_of

if TYPE_CHECKING:
    import xarray as xr


def write_nwb(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    session_start_time: datetime.datetime | None = None,
    session_description: str | None = None,
    identifier: str | None = None,
    nwbfile: Any = None,
    imaging_plane: Any = None,
    indicator: str = "unknown",
    location: str = "unknown",
    excitation_lambda: float = float("nan"),
    emission_lambda: float = float("nan"),
    image_masks: bool = True,
    events: xr.Dataset | None = None,
    overwrite: bool = False,
    **fields: Any,
) -> None:
    """Write traces, spikes and their ROIs as an NWB file.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` and their ROI set, as :func:`xs2p.extract` or
        :func:`xs2p.read_suite2p` gives them; lazy or not. ``time`` is in seconds from the start
        of the session, or in what its ``units`` say (``"ms"``), or of ``timedelta64``, or dates on
        the clock of ``session_start_time``'s zone; without it ``attrs["fs"]`` (Hz) says the frame
        rate. Where frames are not regular, ``timestamps`` are written in place of ``rate``.
    path
        The file, ``.nwb``. It gets its name when it is complete.
    session_start_time
        When the session began, with its time zone. NWB requires it, and nothing else knows it.
    session_description, identifier
        Of the session; by default a line that says what is in the file, and a random UUID.
    nwbfile
        A ``pynwb.NWBFile`` to add the results to, in place of the three above: one made by you,
        or one read with ``pynwb.read_nwb``, whose content goes into the new file with them. The
        object itself gets the results, too.
    imaging_plane
        The ``pynwb.ophys.ImagingPlane`` of ``nwbfile`` that was imaged, for a recording of one
        plane; by default a new one, made of the next four.
    indicator, location
        Of the imaging plane, such as ``"GCaMP6s"`` and ``"VISp"``.
    excitation_lambda, emission_lambda
        Wavelengths in nm; NaN says that they are not known.
    image_masks
        Write masks as images too, which roiextractors and viewers ask for; only the parts of them
        that hold pixels take space. ``pixel_mask`` is always written.
    events
        What :func:`xs2p.events` found in these traces: a row each, in order of time, of the table
        of intervals ``calcium_events``, with ``roi``, ``amplitude`` and ``size``.
    overwrite
        Replace an existing file, once the new one is complete.
    **fields
        Further fields of ``pynwb.NWBFile``: ``experimenter``, ``lab``, ``institution`` … and
        ``subject``, as a ``pynwb.file.Subject`` or a dict of its fields. Archives such as DANDI
        ask for one: ``nwbinspector`` calls a file without it critical.

    Notes
    -----
    The processing module ``ophys`` gets ``ImageSegmentation`` with the table
    ``PlaneSegmentation`` (``id`` is the ``roi`` label; all that is over ``roi`` is a column, such
    as ``iscell``, ``noise`` and ``dff_flag``, whose description says what its flags mean; of
    ``iscell`` also ``Accepted`` and ``Rejected``), and ``Fluorescence`` with ``F`` as
    ``RoiResponseSeries``, ``Fneu`` as ``Neuropil``, ``Fc`` as ``NeuropilCorrected``, ``F0`` as
    ``Baseline``, ``spks`` as ``Deconvolved`` and ``denoised`` as ``Denoised``; ``dFF`` is
    ``RoiResponseSeries`` in ``DfOverF``.
    Data is ``(time, roi)``, the parameters are JSON in ``comments``; the attributes of a data
    variable over ``roi`` are JSON in its column's description. Of several channels the series of
    the second end in ``Chan2``, its columns in ``_chan2``; of several planes each has a table, an
    imaging plane and series that end in ``Plane<label>``. Images ``(y, x)`` go to
    ``SegmentationImages``. Segments (the coordinate ``segment``) are ``epochs``, their label the
    first of the tags; runs of frames that do not count (``valid``) are ``invalid_times``; beside
    those that ``nwbfile`` has. Of a ``valid`` of each ROI these are frames that count for none, and
    the ROI's own are in its table: the column ``obs_intervals``, as the schema's ``Units`` have it,
    holds the intervals ``(start, stop)`` in s in which an ROI counts.
    A column whose name such a table has for something else, such as ``name`` or ``id``, is
    ``xs2p_name`` there; `read_nwb` and `rois_from_nwb` give it its own name again.
    Fields of single pixels but for the weight (``overlap``, ``soma_crop``), ragged ones and
    suite2p's ``ops`` have no place there and are left out.
    Traces are computed in one pass into temporary files beside ``path``, and never held whole.

    Raises
    ------
    ImportError
        If pynwb is not installed.
    FileExistsError
        If the file exists.
    ValueError
        If ``ds`` has no traces or ROIs, the frame rate or the start of the session is not known,
        or the latter has no time zone; if ``time`` has no unit and is no seconds (frame numbers,
        ms) by ``fs``, or is before the start, or goes back where ``valid`` or ``segment`` are
        there; if a coordinate over ``roi`` has a name with ``/`` or ``:``; if ``events`` are of
        other ROIs or times.

    Warns
    -----
    UserWarning
        Images that are not of the ROIs' frame are left out.

    Examples
    --------
    >>> from datetime import datetime
    >>> from zoneinfo import ZoneInfo
    >>> start = datetime(2024, 5, 1, 14, 30, tzinfo=ZoneInfo("Europe/London"))
    >>> write_nwb(ds, "session.nwb", session_start_time=start)  # doctest: +SKIP
    """
    from xs2p.io.nwb.file import require_pynwb

    check_flag("overwrite", overwrite)
    check_flag("image_masks", image_masks)
    pynwb = require_pynwb()
    stored = getattr(nwbfile, "container_source", None)  # the file that it was read from
    target = check_path(path, overwrite, paths_read(ds, *([stored] if stored else [])))
    check_traces(ds)
    traces = _traces(ds)
    start = getattr(nwbfile, "session_start_time", session_start_time)
    clock = clock_of(ds, start if isinstance(start, datetime.datetime) else None)
    if nwbfile is None:
        made = new_file(pynwb, session_start_time, session_description, identifier, fields)
    else:
        given = (session_start_time, session_description, identifier)
        made = checked_file(pynwb, nwbfile, given, fields)
    check_events(events, ds, made)
    images = frame_images(ds)
    rois = _rois(ds)
    planes = _by_plane(rois, imaging_plane)
    optics = {
        "indicator": indicator,
        "location": location,
        "excitation_lambda": float(excitation_lambda),
        "emission_lambda": float(emission_lambda),
        "rate": clock.get("rate"),
    }
    stack, undo = contextlib.ExitStack(), contextlib.ExitStack()
    try:
        scratch = stack.enter_context(scratch_folder(target))
        held, rois = _in_reach(traces, rois, scratch)
        images = {k: v.compute() for k, v in images.items()}
        new = os.path.join(scratch, os.path.basename(target))
        module = _ophys(made)
        undo.callback(_empty, module)
        for suffix, where in planes.items():
            own = compact(rois.isel(roi=where))
            plane = imaging_plane or new_imaging_plane(pynwb, made, suffix, _channels(ds), optics)
            more = observed(ds, where, clock)
            table = roi_table(pynwb, module, own, suffix, plane, image_masks, more)
            add_series(pynwb, module, traces, held, ds, where, suffix, table, clock)
        add_images(pynwb, module, images)
        add_intervals(pynwb, made, ds, clock, events, undo)
        _write(pynwb, made, new)
        put_file_in_place(new, target, overwrite)
    except BaseException:
        undo.close()  # an nwbfile that was given is as it was, for another try
        raise
    finally:
        stack.close()


def _traces(ds: xr.Dataset) -> dict[tuple[str, str], xr.DataArray]:
    """Name what goes into the file by container and series, each ``(roi, time)``."""
    found = {}
    for key, (container, name) in SERIES.items():
        if key not in ds:
            continue
        array = ds[key]
        if "channel" not in array.dims:
            found[container, name] = array.transpose("roi", "time")
            continue
        for n in range(ds.sizes["channel"]):
            suffix = f"Chan{n + 1}" if n else ""
            found[container, name + suffix] = array.isel(channel=n).transpose("roi", "time")
    return found


def _channels(ds: xr.Dataset) -> int:
    if "channel" in ds.dims:
        return int(ds.sizes["channel"])
    return 2 if "F_chan2" in ds else 1


def _in_reach(
    traces: dict[tuple[str, str], xr.DataArray], rois: xr.Dataset, scratch: str
) -> tuple[dict[tuple[str, str], Any], xr.Dataset]:
    """Arrays to slice, and what there is of the ROIs in memory.

    What is lazy is computed in one pass, traces into files of the scratch folder: what is said of
    an ROI, such as ``noise``, may be made of them.
    """
    import dask

    from xs2p.compute.arrays import to_host
    from xs2p.compute.cluster import naming_what_was_lost
    from xs2p.io.suite2p.export import watching, write_lazily

    held, lazy = {}, {}
    for n, (key, array) in enumerate(traces.items()):
        if array.chunks is None:
            held[key] = to_host(array.data)
        else:
            path = os.path.join(scratch, f"{n}.npy")
            lazy[key] = path, write_lazily(array, path)
    written = [counts for _, counts in lazy.values()]
    with naming_what_was_lost(), watching(written):
        _, rois = dask.compute(written, rois)
    for key, (path, _) in lazy.items():
        held[key] = _Stored(path, traces[key].shape)
    return {key: held[key] for key in traces}, rois.as_numpy()


@dataclass(frozen=True)
class _Stored:
    """Traces of an ``.npy`` file, mapped for each read only: nothing of it stays in memory."""

    path: str
    shape: tuple[int, ...]

    def __getitem__(self, key: Any) -> np.ndarray:
        return np.array(np.load(self.path, mmap_mode="r")[key])


def _rois(ds: xr.Dataset) -> xr.Dataset:
    """Take what there is of ROIs and their pixels, lazy where it is."""
    ds = by_channel(ds)
    keep = [n for n, v in ds.variables.items() if set(v.dims) & {"roi", "pixel"}]
    keep = [n for n in keep if set(ds[n].dims) <= {"roi", "pixel"}]
    return ds[keep]


def _by_plane(rois: xr.Dataset, imaging_plane: Any) -> dict[str, np.ndarray]:
    """Find the positions of the ROIs of each plane, by the ending of its names."""
    planes = planes_of(rois)
    known = np.unique(planes) if planes is not None else np.zeros(1)
    if planes is None or known.size == 1:
        return {"": np.arange(rois.sizes["roi"])}
    if imaging_plane is not None:
        raise ValueError(
            f"imaging_plane is one, but the ROIs lie in {known.size} planes; leave it out, or "
            "write each plane: ds.isel(roi=ds.plane.values == 0)"
        )
    return {f"Plane{label}": np.flatnonzero(planes == label) for label in known.tolist()}


def _ophys(nwbfile: Any) -> Any:
    module = nwbfile.processing.get("ophys")
    if module is not None:
        return module
    return nwbfile.create_processing_module(
        "ophys", "optical physiology: ROIs, their traces and spikes"
    )


def _empty(module: Any) -> None:
    """Take what was added out of a module."""
    for key in set(CONTAINERS) & set(module.data_interfaces):
        module.data_interfaces.pop(key)


def _write(pynwb: Any, nwbfile: Any, path: str) -> None:
    source = nwbfile.read_io
    options = {} if source is None else {"manager": source.manager}
    with pynwb.NWBHDF5IO(path, "w", **options) as io:
        if source is None:
            io.write(nwbfile)
        else:
            io.export(src_io=source, nwbfile=nwbfile)
