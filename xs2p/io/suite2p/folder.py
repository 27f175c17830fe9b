"""Read and write the folder of one plane as suite2p keeps it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import TIME

if TYPE_CHECKING:
    import xarray as xr

TRACES = {
    "F": "fluorescence",
    "Fneu": "neuropil fluorescence",
    "spks": "deconvolved activity",
    "F_chan2": "fluorescence, second channel",
    "Fneu_chan2": "neuropil fluorescence, second channel",
}
FLAGS = {"iscell": "cell, by suite2p's classifier or by hand", "redcell": "red cell"}
# Attribute of a Dataset -> key in ops, and the section of ops that suite2p 1.x has it in.
PARAMETERS = {
    "fs": ("fs", None),
    "tau": ("tau", None),
    "neuropil_coefficient": ("neucoeff", "extraction"),
    "baseline": ("baseline", "dcnv_preprocess"),
    "win_baseline": ("win_baseline", "dcnv_preprocess"),
    "sig_baseline": ("sig_baseline", "dcnv_preprocess"),
    "prctile_baseline": ("prctile_baseline", "dcnv_preprocess"),
}
Path = str | os.PathLike[str]


def read_stat(path: Path, shape: tuple[int, int] | None = None) -> xr.Dataset:
    """Read suite2p's ``stat.npy`` as an ROI set.

    Parameters
    ----------
    path : str or path-like
        The file.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels. By default that of ``ops.npy`` beside
        the file.

    Returns
    -------
    xarray.Dataset
        The ROI set, as `xs2p.rois.rois_from_stat` makes it: over ``roi`` and ``pixel``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The frame size is neither given nor beside the file, or disagrees with it; or the
        file is damaged or holds no ROIs of suite2p's.
    """
    name = os.fspath(path)
    ops = _read_ops(os.path.join(os.path.dirname(name), "ops.npy"))
    return _rois(name, _frame_shape(name, shape, ops))


def read_plane_rois(path: str, shape: tuple[int, int] | None, moved: bool = False) -> xr.Dataset:
    """ROI set of a ``stat.npy``, with ``iscell`` and ``redcell`` of the files beside it.

    ``moved``: the ROIs go to another frame afterwards, and ``shape`` is that one's.
    """
    from xs2p.rois.stat import widened

    folder = os.path.dirname(path)
    ops = _read_ops(os.path.join(folder, "ops.npy"))
    stat = _load_stat(path)
    known = {"Ly", "Lx"} <= set(ops)
    frame = _frame_shape(path, None if moved and known else shape, ops)
    rois = _rois(path, widened(stat, frame) if moved and not known else frame, stat)
    if os.path.basename(path) != "stat.npy":
        return rois  # the flags beside it are those of another one
    here = [file for file in os.listdir(folder or ".") if file.endswith(".npy")]
    return rois.assign_coords(_flags(folder, here, {"stat.npy": rois.sizes["roi"]}))


def read_suite2p(folder: Path, *, shape: tuple[int, int] | None = None) -> xr.Dataset:
    """Read a suite2p plane folder, such as ``suite2p/plane0``.

    Parameters
    ----------
    folder : str or path-like
        The folder that holds ``F.npy``, ``stat.npy`` and so on. What is absent is left out.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels; needed where there is no ``ops.npy``.

    Returns
    -------
    xarray.Dataset
        ``F``, ``Fneu``, ``spks`` and, of a second channel, ``F_chan2``, ``Fneu_chan2`` over
        ``(roi, time)``, float32. The ROI set of ``stat.npy`` as coordinates over ``roi`` and
        ``pixel``; ``iscell`` and ``redcell`` (bool) with ``iscell_prob`` and ``redcell_prob``
        over ``roi``; ``time`` in s where ``ops`` has ``fs``. ``attrs`` has ``Ly``, ``Lx``,
        ``fs`` (Hz), ``tau`` (s), ``neuropil_coefficient``, ``baseline`` and its parameters,
        as xs2p names them (what suite2p 0.x called maximin is ``maximin_legacy``, what it
        calls constant is ``constant_global``), and all of ``ops`` as the JSON text ``ops``: its
        images of the frame's size are variables over ``(y, x)``, such as ``meanImg``, and its
        other arrays of more than 10,000 elements variables ``ops_<key>``. `write_suite2p`
        undoes all of it.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or neither ROIs nor traces in it.
    ValueError
        A file is damaged, two files disagree, the frame size is not known, or the folder is
        one above the plane folders.

    Examples
    --------
    >>> ds = read_suite2p("suite2p/plane0")  # doctest: +SKIP
    >>> ds.F.sel(roi=ds.iscell)              # doctest: +SKIP
    """
    import xarray as xr

    from xs2p.io.suite2p.packed_ops import pack_ops

    name = os.fspath(folder)
    here = _plane_files(name)
    ops = _read_ops(os.path.join(name, "ops.npy"))
    coords: dict[str, Any] = {}
    attrs: dict[str, Any] = {}
    counts: dict[str, int] = {}
    frame: tuple[int, int] | None = None
    if "stat.npy" in here:
        path = os.path.join(name, "stat.npy")
        frame = _frame_shape(path, shape, ops)
        rois = _rois(path, frame)
        coords.update({str(key): value for key, value in rois.variables.items()})
        attrs.update(rois.attrs)
        counts["stat.npy"] = rois.sizes["roi"]
    elif {"Ly", "Lx"} <= set(ops):
        frame = _frame_shape(os.path.join(name, "ops.npy"), shape, ops)
        attrs.update(Ly=frame[0], Lx=frame[1])
    attrs.update(_parameters(ops))
    data = _read_traces(name, here, counts)
    coords.update(_flags(name, here, counts))
    if "roi" not in coords:
        attrs_of_roi = {"long_name": "ROI label", "description": "Row of the arrays, from 0."}
        coords["roi"] = ("roi", np.arange(next(iter(counts.values()))), attrs_of_roi)
    if data and "fs" in attrs:
        seconds = np.arange(next(iter(data.values()))[1].shape[1]) / attrs["fs"]
        coords["time"] = ("time", seconds, TIME)
    if ops:
        dims = map(str, xr.Dataset(data, coords).dims)
        taken = {*TRACES, *coords, *dims, "time", "y", "x"}
        attrs["ops"], variables = pack_ops(ops, frame, taken)
        data.update(variables)
    return xr.Dataset(data, coords, {**attrs, "source": name})


def write_suite2p(ds: xr.Dataset, folder: Path, *, overwrite: bool = False) -> None:
    """Write traces and their ROIs as a plane folder that suite2p loads.

    Writes ``F.npy``, ``Fneu.npy``, ``spks.npy``, ``stat.npy``, ``iscell.npy`` and
    ``ops.npy``, with a second channel ``F_chan2.npy`` and ``Fneu_chan2.npy`` too. Everything
    lazy is computed in one pass, and traces go to their files block by block: they need not fit
    in memory. All files are complete under temporary names before the first gets its own,
    so an error leaves none of them, and none by halves.

    suite2p knows no missing traces: where an ROI has a ``status`` other than ``ok``, or
    nothing but NaN, zeros are written, as suite2p itself does. ``Fneu`` and ``spks`` that
    were not made are zeros as well. Without ``iscell`` every ROI is one, with probability 1.

    ``ops`` is what `read_suite2p` kept of it, and over it what ``ds.attrs`` says: ``fs``,
    ``tau``, ``neuropil_coefficient`` and the baseline's parameters; suite2p's defaults stand
    for what neither says. suite2p's names for ``maximin_legacy`` and ``constant_global`` are
    ``maximin`` and ``constant``. suite2p's viewer needs a mean image: that is the variable
    ``meanImg`` over ``(y, x)``, and a black one where there is none.

    Parameters
    ----------
    ds : xarray.Dataset
        ``F`` over ``(roi, time)``, and ``Fneu``, ``spks``, ``F_chan2``, ``Fneu_chan2`` where
        there; the ROI set as coordinates; ``attrs`` with ``fs`` in Hz, ``Ly`` and ``Lx``.
    folder : str or path-like
        The plane folder, made where it is not there.
    overwrite : bool
        Replace such files where they exist; those of them that this set has not, such as an
        old ``F_chan2.npy``, are removed.

    Raises
    ------
    FileExistsError
        A file of the set exists and ``overwrite`` is False.
    ValueError
        The Dataset has no ``F``, no ROI set or no ``fs``, or a trace has NaN in some frames.

    Examples
    --------
    >>> ds["meanImg"] = movie.mean("time")          # doctest: +SKIP
    >>> write_suite2p(ds, "export/suite2p/plane0")  # doctest: +SKIP
    """
    from xs2p.io.suite2p import export as _write
    from xs2p.rois.build import rois_to_stat

    name = os.fspath(folder)
    known = [f"{key}.npy" for key in (*TRACES, *FLAGS, "stat", "ops")]
    _write.check_writable(ds)
    if not overwrite:
        _write.check_absent(name, known)
    other = [key for key in ds.data_vars if "time" in ds[key].dims and key not in TRACES]
    with _write.file_set(name, known, overwrite=overwrite) as new:
        ds = _write.write_traces(ds.drop_vars(other), new)
        tables = {
            key: _write.flag_table(ds, key)
            for key in FLAGS
            if key in ds.variables or key == "iscell"
        }
        drop = [key for flag in FLAGS for key in (flag, f"{flag}_prob") if key in ds.variables]
        stat = np.empty(ds.sizes["roi"], dtype=object)
        stat[:] = rois_to_stat(ds.drop_vars(drop))
        ops = np.array(_write.ops_of(ds, name), dtype=object)
        for key, array in {**tables, "stat": stat, "ops": ops}.items():
            with open(new(f"{key}.npy"), "wb") as file:
                np.lib.format.write_array(file, array)


def _plane_files(name: str) -> set[str]:
    if not os.path.isdir(name):
        kind = "is a file" if os.path.exists(name) else "does not exist"
        raise FileNotFoundError(
            f"read_suite2p: {name!r} {kind}, expected a plane folder such as 'suite2p/plane0'"
        )
    here = set(os.listdir(name))
    if {"stat.npy", *(f"{key}.npy" for key in TRACES)} & here:
        return here
    planes = [
        os.path.join(top, plane)
        for top in (name, os.path.join(name, "suite2p"))
        if os.path.isdir(top)
        for plane in sorted(os.listdir(top))
        if plane.startswith("plane") and os.path.isdir(os.path.join(top, plane))
    ]
    if planes:
        raise ValueError(
            f"read_suite2p: {name!r} is above the plane folders {', '.join(planes)}; "
            f"read one: read_suite2p({planes[0]!r})"
        )
    raise FileNotFoundError(
        f"read_suite2p: neither stat.npy nor F.npy, Fneu.npy or spks.npy is in {name!r}"
    )


def _read_ops(path: str) -> dict[str, Any]:
    from xs2p.disk.npy import load_pickled

    if not os.path.exists(path):
        return {}
    ops = load_pickled(path)
    if ops.dtype != object or ops.size != 1 or not isinstance(ops.item(), dict):
        raise ValueError(f"{path}: expected a dict, found an array of {ops.dtype} {ops.shape}")
    found = dict(ops.item())
    for key, whole in (("Ly", True), ("Lx", True), ("fs", False), ("tau", False)):
        value = found.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and np.isfinite(value) and value > 0 and (not whole or value == int(value))):
            kind = "a whole number of pixels" if whole else "a number"
            raise ValueError(f"{path}: {key} is {value!r}, expected {kind} above 0")
    return found


def _frame_shape(
    path: str, shape: tuple[int, int] | None, ops: Mapping[str, Any]
) -> tuple[int, int]:
    from xs2p.movie.open import checked_shape

    given = checked_shape(shape)
    stored = (int(ops["Ly"]), int(ops["Lx"])) if {"Ly", "Lx"} <= set(ops) else None
    if given is None:
        if stored is None:
            raise ValueError(
                f"{path}: the size of the frame is not known, since no ops.npy with Ly and Lx lies "
                "beside it; give shape=(Ly, Lx) in pixels, as in shape=(512, 512)"
            )
        return stored
    if stored is not None and stored != given:
        raise ValueError(
            f"shape={given} disagrees with ops.npy beside {path}, which says (Ly, Lx) = "
            f"{stored}; leave shape out to take that"
        )
    return given


def _rois(path: str, shape: tuple[int, int], stat: Any = None) -> xr.Dataset:
    from xs2p.rois.build import rois_from_stat
    from xs2p.rois.stat import completed

    stat = _load_stat(path) if stat is None else stat
    try:
        return rois_from_stat(completed(stat, path), shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _load_stat(path: str) -> np.ndarray:
    from xs2p.disk.npy import load_npy

    stat = load_npy(path)
    if stat.ndim != 1 or not all(isinstance(entry, dict) for entry in stat):
        raise ValueError(
            f"{path}: expected suite2p's stat, an array of one dict per ROI; found an array of "
            f"{stat.dtype} with shape {stat.shape}"
        )
    return np.asarray(stat)


def _parameters(ops: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, (key, section) in PARAMETERS.items():
        inner = ops.get(section) if section else None
        value = inner.get(name, inner.get(key)) if isinstance(inner, dict) else None
        value = ops.get(key) if value is None else value
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str | int | float):
            found[name] = value
    if "baseline" in found:
        found["baseline"] = _baseline_by_our_name(found["baseline"], ops.get("suite2p_version"))
    return found


def _baseline_by_our_name(baseline: Any, version: Any) -> Any:
    """Name what the folder's suite2p computed under the name that xs2p gives it."""
    if baseline == "constant":
        return "constant_global"
    if baseline == "maximin" and str(version).startswith("0."):
        return "maximin_legacy"
    return baseline


def _read_traces(name: str, here: set[str], counts: dict[str, int]) -> dict[str, Any]:
    from xs2p.disk.npy import load_npy

    data: dict[str, Any] = {}
    first = ""
    for key, meaning in TRACES.items():
        file = f"{key}.npy"
        if file not in here:
            continue
        path = os.path.join(name, file)
        array = load_npy(path)
        if array.ndim != 2 or array.dtype.kind not in "biuf":
            raise ValueError(
                f"{path}: expected numbers over (roi, time), found {array.dtype} of shape "
                f"{array.shape}"
            )
        _count(path, len(array), counts)
        if data and array.shape != data[first][1].shape:
            raise ValueError(
                f"{path}: {array.shape[1]} frames, but {first}.npy beside it has "
                f"{data[first][1].shape[1]}"
            )
        first = first or key
        attrs = {
            "units": "a.u.",
            "long_name": meaning,
            "description": f"{file} of the folder, as suite2p made it.",
        }
        data[key] = (("roi", "time"), array.astype(np.float32, copy=False), attrs)
    return data


def _read_flags(path: str, counts: dict[str, int]) -> np.ndarray:
    from xs2p.disk.npy import load_npy

    table = load_npy(path)
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: expected one row (flag, probability) per ROI, found {table.dtype} of shape "
            f"{table.shape}"
        )
    _count(path, len(table), counts)
    return np.asarray(table)


def _flags(name: str, here: Collection[str], counts: dict[str, int]) -> dict[str, Any]:
    """``iscell`` and ``redcell`` of those that are there, as coordinates over ``roi``."""
    coords: dict[str, Any] = {}
    for key, meaning in FLAGS.items():
        if f"{key}.npy" in here:
            table = _read_flags(os.path.join(name, f"{key}.npy"), counts)
            of = f"column of {key}.npy, as the folder has it."
            flag = {"long_name": meaning, "description": f"First {of}"}
            chance = {
                "long_name": f"probability of {key}",
                "units": "1",
                "description": f"Second {of}",
            }
            coords[key] = ("roi", table[:, 0] > 0, flag)
            coords[f"{key}_prob"] = ("roi", table[:, 1], chance)
    return coords


def _count(path: str, rows: int, counts: dict[str, int]) -> None:
    for file, number in counts.items():
        if rows != number:
            raise ValueError(f"{path}: {rows} ROIs, but {file} beside it has {number}")
    counts[os.path.basename(path)] = rows
