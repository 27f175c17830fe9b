"""Read and write the folder of one plane as suite2p keeps it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import ARBITRARY, check_flag, parameters_by_variable, time_attrs
from xs2p._frames import with_frames
from xs2p.disk.reads import naming
from xs2p.disk.suite2p_ops import frame_in, read_ops
from xs2p.io.suite2p.fall import (
    FALL,
    foreign_fall,
    is_fall,
    own_fall,
    pack_fall,
    read_fall,
    write_fall,
)
from xs2p.io.suite2p.names import FLAGS, STORED, Path, check_traces, parameters_of
from xs2p.io.suite2p.stat import count_rows, flags_in, frame_shape_in, of_folder, rois_in
from xs2p.movie.segments import by_source, said_of_plane
from xs2p.rois.assemble import status_of_zeros

if TYPE_CHECKING:
    import xarray as xr


def read_suite2p(
    folder: Path, *, shape: tuple[int, int] | None = None, segments: Any = None
) -> xr.Dataset:
    """Read a suite2p plane folder, such as ``suite2p/plane0``, or all planes of a folder.

    Parameters
    ----------
    folder : str or path-like
        The folder that holds ``F.npy``, ``stat.npy`` and so on, or suite2p's ``Fall.mat``. What
        is absent is left out. Or the one above the plane folders: the ROIs of all planes are
        numbered through, with their ``plane(roi)``; images and ops of each plane get an ending,
        as ``meanImg_plane0``.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels; needed where there is no ``ops.npy``.
    segments : {"files", "folders", "gaps"} or array, optional
        Set ``segment(time)``, as :func:`xs2p.open_movie` does: by the files or folders that
        suite2p joined, where time makes a pause, or by a label for each frame.

    Returns
    -------
    xarray.Dataset
        ``F``, ``Fneu``, ``spks`` and, of a second channel, ``F_chan2``, ``Fneu_chan2`` over
        ``(roi, time)``, float32. The ROI set of ``stat.npy`` as coordinates over ``roi`` and
        ``pixel``; ``iscell`` and ``redcell`` (bool) with ``iscell_prob`` and ``redcell_prob``
        over ``roi``; ``status`` of an ROI whose ``F`` is 0 in all frames, which is suite2p's way
        to say that there is none, is ``no_cell_pixels`` where it has no pixel of its own, else
        ``zero_trace``; ``time`` in s where ``ops`` has ``fs``;
        ``badframes(time)``, True where ``ops`` calls a frame bad (in any plane), which is used
        only where ``valid="badframes"`` is given. ``attrs`` has ``Ly``, ``Lx``,
        ``fs`` (Hz), ``tau`` (s), ``neuropil_coefficient``, ``baseline`` and its parameters,
        as xs2p names them (what suite2p 0.x called maximin is ``maximin_legacy``, what it calls
        constant is ``constant_global``); ``spks`` has in its own those that made it. And all
        of ``ops`` as the JSON text ``ops``: its images of the frame's size are variables
        over ``(y, x)``, such as ``meanImg``, and its other arrays of more than 10,000 elements
        variables ``ops_<key>``. `write_suite2p` undoes all of it.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or neither ROIs nor traces in it.
    ValueError
        A file is damaged, two files disagree, the frame size is not known, planes differ in
        frame size, frame rate, or by more than one frame, or segments are not known or not of as
        many frames.

    Examples
    --------
    >>> ds = read_suite2p("suite2p/plane0")  # doctest: +SKIP
    >>> ds.F.sel(roi=ds.iscell)              # doctest: +SKIP
    """
    return read_folder(os.fspath(folder), shape, segments)


def read_folder(
    name: str,
    shape: tuple[int, int] | None,
    segments: Any,
    rows: Callable[[str], Any] | None = None,
) -> xr.Dataset:
    """Read a folder as `read_suite2p` does; ``rows`` opens the files of traces lazily."""
    with naming(name):
        return _read(name, shape, segments, rows or _float32)


def _float32(path: str) -> Any:
    """Read an array of traces whole."""
    from xs2p.disk.npy import load_npy

    array = load_npy(path)
    check_traces(path, array.shape, array.dtype)
    return array.astype(np.float32, copy=False)


def _read(
    name: str, shape: tuple[int, int] | None, segments: Any, rows: Callable[[str], Any]
) -> xr.Dataset:
    if is_fall(name):
        return read_fall(name, shape, functools.partial(read_suite2p, segments=segments), "")
    by = by_source(segments)
    planes = folders_in(name)
    if planes is None:
        ds = _read_plane(name, shape, by, rows)
    else:
        from xs2p.io.suite2p.planes import join_folders

        sets = {n: _read_plane(path, shape, by, rows) for n, path in planes.items()}
        ds = join_folders(sets, name).assign_attrs(source=name)
    if segments is not None and "time" not in ds.dims:
        raise ValueError(f"segments={segments!r}: {name} has no traces, whose frames they are of")
    return with_frames(ds, segments=None if by else segments)


def _read_plane(
    name: str, shape: tuple[int, int] | None, segments: str | None, rows: Callable[[str], Any]
) -> xr.Dataset:
    """Read one plane folder."""
    import xarray as xr

    from xs2p.io.suite2p.packed_ops import pack_ops

    here = set(os.listdir(name))
    ops = read_ops(name)
    coords: dict[str, Any] = {}
    attrs: dict[str, Any] = {}
    counts: dict[str, int] = {}
    frame: tuple[int, int] | None = None
    if "stat.npy" in here:
        path = os.path.join(name, "stat.npy")
        frame = frame_shape_in(path, shape, ops)
        rois = of_folder(rois_in(path, frame), path)
        coords.update({str(key): value for key, value in rois.variables.items()})
        attrs.update(rois.attrs)
        counts["stat.npy"] = rois.sizes["roi"]
    elif frame_in(ops) is not None:
        frame = frame_shape_in(os.path.join(name, "ops.npy"), shape, ops)
        attrs.update(Ly=frame[0], Lx=frame[1])
    attrs.update(parameters_of(ops))
    data = _read_traces(name, here, counts, rows)
    coords.update(flags_in(name, here, counts))
    if "roi" not in coords:
        attrs_of_roi = {"long_name": "ROI label", "description": "Row of the arrays, from 0."}
        coords["roi"] = ("roi", np.arange(next(iter(counts.values()))), attrs_of_roi)
    if data:
        n_frames = next(iter(data.values())).shape[1]
        coords.update(said_of_plane(name, ops, n_frames, segments))
        if "fs" in attrs:
            coords["time"] = ("time", np.arange(n_frames) / attrs["fs"], time_attrs())
    if "F" in data:
        coords.update(status_of_zeros(coords, data["F"]))
    for key, made_with in parameters_by_variable(attrs, data).items():
        data[key].attrs.update(made_with)
    if ops:
        dims = map(str, xr.Dataset(data, coords).dims)
        taken = {*STORED, *coords, *dims, "time", "y", "x"}
        attrs["ops"], variables = pack_ops(ops, frame, taken)
        data.update(variables)
    return xr.Dataset(data, coords, {**attrs, "source": name})


def write_suite2p(
    ds: xr.Dataset, folder: Path, *, mat: bool = False, overwrite: bool = False
) -> None:
    """Write traces and their ROIs as a plane folder that suite2p loads.

    Writes ``F.npy``, ``Fneu.npy``, ``spks.npy``, ``stat.npy``, ``iscell.npy`` and
    ``ops.npy``, with a second channel ``F_chan2.npy`` and ``Fneu_chan2.npy`` too. Everything
    lazy is computed in one pass, and traces go to their files block by block: they need not fit
    in memory. All files are complete under temporary names before the first gets its own,
    so an error leaves none of them, and none by halves.

    suite2p knows no missing traces: where a trace is NaN, as its ROI's ``status`` says, or
    nothing but NaN, zeros are written, as suite2p itself does, also in frames that do not count
    (the coordinate ``valid``), which are ``badframes`` of its ops. ``Fneu`` and ``spks`` that
    were not made are zeros as well. Without ``iscell`` every ROI is one, with probability 1. Of a
    ``valid`` of each ROI ``badframes`` are the frames that count for none; which others do not
    count for some is lost. ``Fc``, ``F0`` and ``dFF`` have no file there, and are not computed for
    it; what else is over ``roi``, as ``noise``, ``dff_flag`` and ``snr``, is a field of ``stat`` by
    its name.

    ``ops`` is what `read_suite2p` kept of it, and over it what the variables' own attributes say
    that they were made with: ``fs``, ``tau`` and ``neuropil_coefficient`` (the medians where each
    ROI has its own) and the baseline's parameters; ``ds.attrs`` counts for what is not
    there. suite2p's defaults stand for what nothing says. suite2p's names for ``maximin_legacy``
    and ``constant_global`` are ``maximin`` and ``constant``. suite2p's viewer needs a mean image:
    that is the variable ``meanImg`` over ``(y, x)``; without it no image is written, which the
    logger ``xs2p`` says. ``refImg``, ``meanImgE``, ``max_proj`` and ``Vcorr`` over ``(y, x)`` are
    images of ops likewise, the last two cut to its ``yrange`` and ``xrange``.

    Parameters
    ----------
    ds : xarray.Dataset
        ``F`` over ``(roi, time)``, and ``Fneu``, ``spks``, ``F_chan2``, ``Fneu_chan2`` where
        there; the ROI set as coordinates; ``attrs`` with ``fs`` in Hz, ``Ly`` and ``Lx``.
    folder : str or path-like
        The plane folder, made where it is not there; for ROIs of several planes the one above, in
        which each plane gets its own, with its image ``meanImg_plane0`` and so on. Or a ``.mat``
        file, ``Fall.mat`` for MATLAB, which holds what one plane folder does.
    mat : bool
        Write ``Fall.mat`` into each plane folder, too, as suite2p does with ``save_mat``.
    overwrite : bool
        Replace the files of an earlier `write_suite2p`, which its ``ops.npy`` tells, not those of
        suite2p itself; such of them that this set has not, as an old ``F_chan2.npy``, are removed.

    Raises
    ------
    FileExistsError
        A file of the set exists and ``overwrite`` is False, or it was not written here, or the
        Dataset is read from it.
    ValueError
        The Dataset has no ``F``, no ROI set or no ``fs``, a trace has NaN in some frames that
        count, or ROIs of several planes were to go into the folder of one.

    Warns
    -----
    UserWarning
        ROIs have frames of their own that do not count, or a ``tau`` or neuropil coefficient of
        their own, the traces do not say with which parameters they were made, or the folder has
        other planes, as of an earlier set.

    Examples
    --------
    >>> ds["meanImg"] = movie.s2p.mean_image()          # doctest: +SKIP
    >>> write_suite2p(ds, "export/suite2p/plane0")  # doctest: +SKIP
    """
    import contextlib

    from xs2p.disk.inputs import paths_read
    from xs2p.disk.replace import check_absent, check_place, file_set
    from xs2p.io.suite2p.export import (
        check_writable,
        foreign_file,
        parameters_said,
        tell_of_no_image,
        tell_of_own_frames,
    )
    from xs2p.io.suite2p.planes import folders_of, tell_of_other_planes

    check_flag("mat", mat)
    check_flag("overwrite", overwrite)
    if is_fall(os.fspath(folder)):
        return write_fall(ds, os.fspath(folder), overwrite, write_suite2p)
    files = [f"{key}.npy" for key in (*STORED, *FLAGS, "stat", "ops")]
    parts = folders_of(ds, os.fspath(folder)) if _is_dataset(ds) else {os.fspath(folder): ds}
    read = paths_read(ds)
    known = {name: [*files, *([FALL] if mat or own_fall(name) else [])] for name in parts}
    for name, part in parts.items():
        check_writable(part)
        if not overwrite:
            check_absent(name, known[name])
        for file in known[name]:
            check_place(
                os.path.join(name, file),
                overwrite=True,
                foreign=foreign_fall if file == FALL else foreign_file,
                inputs=read,
                step="write_suite2p",
            )
    said = parameters_said(parts)
    tell_of_own_frames(parts)
    tell_of_other_planes(os.fspath(folder), parts)
    without: list[str] = []
    with contextlib.ExitStack() as sets:
        for name, part in parts.items():
            new = sets.enter_context(file_set(name, known[name], overwrite=overwrite))
            paths: dict[str, str] = {}
            noted = _noting(new, paths)
            if "meanImg" not in _write_plane(part, name, noted, said[name], len(parts)):
                without.append(name)
            if mat:
                pack_fall(paths, name, new(FALL))
    tell_of_no_image(without, len(parts))


def _noting(new: Callable[[str], str], paths: dict[str, str]) -> Callable[[str], str]:
    """Return ``new``, and have ``paths`` keep what it says of each file."""

    def noted(file: str) -> str:
        paths[file] = new(file)
        return paths[file]

    return noted


def _is_dataset(ds: Any) -> bool:
    import xarray as xr

    return isinstance(ds, xr.Dataset)


def _write_plane(
    ds: xr.Dataset,
    name: str,
    new: Callable[[str], str],
    said: Mapping[str, Any],
    n_planes: int,
) -> dict[str, Any]:
    """Write one plane, and return its ops."""
    from xs2p.io.suite2p.export import flag_table, ops_of, write_traces
    from xs2p.rois.convert import rois_to_stat

    other = [key for key in ds.data_vars if "time" in ds[key].dims and key not in STORED]
    ds = write_traces(ds.drop_vars(other), new, said)
    tables = {key: flag_table(ds, key) for key in FLAGS if key in ds.variables or key == "iscell"}
    drop = [key for flag in FLAGS for key in (flag, f"{flag}_prob") if key in ds.variables]
    stat = np.empty(ds.sizes["roi"], dtype=object)
    stat[:] = rois_to_stat(ds.drop_vars(drop))
    ops = ops_of(ds, name, said, n_planes)
    for key, array in {**tables, "stat": stat, "ops": np.array(ops, dtype=object)}.items():
        with open(new(f"{key}.npy"), "wb") as file:
            np.lib.format.write_array(file, array)
    return ops


def folders_in(name: str) -> dict[int, str] | None:
    """Plane folders with results in a folder, by number; None where it is one itself."""
    from xs2p.movie.sources import plane_folders, plane_number

    if not os.path.isdir(name):
        kind = "is a file" if os.path.exists(name) else "does not exist"
        raise FileNotFoundError(
            f"read_suite2p: {name!r} {kind}, expected a plane folder such as 'suite2p/plane0'"
        )
    files = {"stat.npy", *(f"{key}.npy" for key in STORED)}
    if files & set(os.listdir(name)):
        return None
    planes = {
        plane_number(os.path.abspath(path)) or 0: path
        for path in plane_folders(name)
        if files & set(os.listdir(path))
    }
    if planes:
        return planes
    raise FileNotFoundError(
        f"read_suite2p: neither stat.npy nor F.npy, Fneu.npy or spks.npy is in {name!r}, nor in a "
        "plane folder in it"
    )


def _read_traces(
    name: str, here: set[str], counts: dict[str, int], rows: Callable[[str], Any]
) -> dict[str, Any]:
    import xarray as xr

    data: dict[str, xr.Variable] = {}
    first = ""
    for key, meaning in STORED.items():
        file = f"{key}.npy"
        if file not in here:
            continue
        path = os.path.join(name, file)
        array = rows(path)
        count_rows(path, array.shape[0], counts)
        if data and array.shape != data[first].shape:
            raise ValueError(
                f"{path}: {array.shape[1]} frames, but {first}.npy beside it has "
                f"{data[first].shape[1]}"
            )
        first = first or key
        attrs = {
            "units": ARBITRARY,
            "long_name": meaning,
            "description": f"{file} of the folder, as suite2p made it.",
        }
        data[key] = xr.Variable(("roi", "time"), array, attrs)
    return data
