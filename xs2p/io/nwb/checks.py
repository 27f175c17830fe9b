"""What `write_nwb` is asked for, checked before anything is computed."""

from __future__ import annotations

import datetime
import os
import uuid
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from xs2p._attrs import check_complete
from xs2p.disk.replace import check_place
from xs2p.io.nwb.columns import by_channel, column_names
from xs2p.io.nwb.file import SERIES
from xs2p.io.nwb.parts import MADE_BY
from xs2p.rois.pixels import pixel_table

if TYPE_CHECKING:
    import xarray as xr

# What is added to the module ophys.
CONTAINERS = ("ImageSegmentation", "Fluorescence", "DfOverF", "SegmentationImages")


def _foreign(path: str) -> str | None:
    """Why an NWB file is not one of ours, or is more than that."""
    import h5py

    found = []

    def look(name: str, item: Any) -> None:
        if "description" in item.attrs and item.attrs.get("neurodata_type") == "PlaneSegmentation":
            found.append(str(item.attrs["description"]).startswith(MADE_BY))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(look)
            recorded = list(file.get("acquisition", ()))
    except (OSError, KeyError) as error:
        return f"cannot be read as NWB ({error})"
    if recorded:
        return f"holds a recording ({', '.join(recorded)})"
    return None if found and all(found) else "is an NWB file of something else"


def check_path(path: str | os.PathLike[str], overwrite: bool, inputs: Iterable[str]) -> str:
    """Absolute path of the file, if it can be written."""
    target = os.path.abspath(os.fspath(path))
    if os.path.splitext(target)[1].lower() != ".nwb":
        raise ValueError(f"write_nwb: {os.fspath(path)!r} must be a file whose name ends in .nwb")
    if not os.path.isdir(os.path.dirname(target)):
        raise FileNotFoundError(
            f"write_nwb: no folder {os.path.dirname(target)!r} to write "
            f"{os.path.basename(target)} into"
        )
    if os.path.isdir(target):
        raise IsADirectoryError(f"write_nwb: {target!r} is a folder, expected a file")
    if os.path.lexists(target) and not overwrite:
        raise FileExistsError(
            f"write_nwb: {target!r} exists; write to another file, or replace it with "
            "overwrite=True. To add to an existing file: "
            "write_nwb(ds, new, nwbfile=pynwb.read_nwb(old))"
        )
    check_place(target, overwrite=overwrite, foreign=_foreign, inputs=inputs, step="write_nwb")
    return target


def check_traces(ds: xr.Dataset) -> None:
    """Raise unless a Dataset has traces and ROIs that a file can hold."""
    import xarray as xr

    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"write_nwb: ds is a {type(ds).__name__}, expected the Dataset of traces and ROIs that "
            "xs2p.extract(movie, rois, ...) gives"
        )
    check_complete(ds, "write_nwb")
    here = [name for name in SERIES if name in ds]
    if not here:
        raise ValueError(
            f"write_nwb: the Dataset has no traces ({', '.join(SERIES)}), only "
            f"{sorted(map(str, ds.data_vars))}; make it with xs2p.extract(movie, rois, ...)"
        )
    for name in here:
        if set(ds[name].dims) - {"channel"} != {"roi", "time"}:
            raise ValueError(
                f"write_nwb: {name} has dims {ds[name].dims}, expected ('roi', 'time') or "
                "('channel', 'roi', 'time'); rename with ds.rename({old: new})"
            )
    if 0 in (ds.sizes["roi"], ds.sizes["time"]):
        raise ValueError(
            f"write_nwb: there is nothing to write, ds has {ds.sizes['roi']} ROIs and "
            f"{ds.sizes['time']} frames"
        )
    try:
        table = pixel_table(ds)
    except ValueError as error:
        raise ValueError(
            f"write_nwb: {error}. Put an ROI set beside the traces: "
            "ds.assign_coords(rois.variables).assign_attrs(rois.attrs)"
        ) from error
    if table.roi.dtype.kind not in "iu" or (table.roi < 0).any():
        raise ValueError(
            "write_nwb: NWB numbers ROIs, and the roi labels are not all whole numbers from 0 on; "
            "ds.assign_coords(roi=range(ds.sizes['roi'])) renumbers them"
        )
    column_names(by_channel(ds))


def new_file(
    pynwb: Any,
    session_start_time: Any,
    session_description: str | None,
    identifier: str | None,
    fields: dict[str, Any],
) -> Any:
    """Make the ``pynwb.NWBFile`` of a session."""
    how = (
        "datetime(2024, 5, 1, 14, 30, tzinfo=ZoneInfo('Europe/London')), or give "
        "nwbfile=pynwb.NWBFile(...)"
    )
    if not isinstance(session_start_time, datetime.datetime):
        raise ValueError(
            f"session_start_time={session_start_time!r}: NWB requires the date and time at which "
            f"the session began, as in session_start_time={how}"
        )
    if session_start_time.tzinfo is None:
        raise ValueError(
            f"session_start_time={session_start_time!r} has no time zone, and NWB would take that "
            f"of this machine; give it, as in {how}"
        )
    if isinstance(fields.get("subject"), dict):
        fields = {**fields, "subject": pynwb.file.Subject(**fields["subject"])}
    return pynwb.NWBFile(
        session_description=session_description or "calcium imaging: ROIs, traces and spikes",
        identifier=identifier or str(uuid.uuid4()),
        session_start_time=session_start_time,
        **fields,
    )


def checked_file(pynwb: Any, nwbfile: Any, given: tuple[Any, ...], fields: dict[str, Any]) -> Any:
    """Return a ``pynwb.NWBFile`` that takes the results; ``given`` and ``fields`` are in it."""
    if not isinstance(nwbfile, pynwb.NWBFile):
        raise ValueError(
            f"nwbfile is a {type(nwbfile).__name__}, expected a pynwb.NWBFile: one that you made, "
            "or pynwb.read_nwb(path)"
        )
    if any(value is not None for value in given):
        raise ValueError(
            "nwbfile has session_start_time, session_description and identifier already; leave "
            "them out"
        )
    here = nwbfile.processing.get("ophys")
    taken = set(CONTAINERS) & set(here.data_interfaces if here is not None else ())
    if taken:
        raise ValueError(
            f"nwbfile holds {', '.join(sorted(taken))} in its module ophys already; they are not "
            "replaced: write to a file without them"
        )
    if fields:
        raise ValueError(f"nwbfile is given, so its {', '.join(fields)} must be set on it")
    return nwbfile
