"""What `write_suite2p` writes, and how a set of files appears whole or not at all."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import COEFFICIENT, coefficient_in, parameters_in, unsaid_in
from xs2p._frames import BAD, VALID, valid_of
from xs2p._time import rate_shown
from xs2p._version import __version__
from xs2p._warnings import warn
from xs2p.compute.arrays import to_host
from xs2p.compute.progress import WRITES, watch
from xs2p.disk.npy import data_offset, make_npy
from xs2p.disk.suite2p_ops import read_ops
from xs2p.io.suite2p.names import CROPPED, IMAGES, PARAMETERS, STORED

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger("xs2p")
_UNSAID = ("neuropil_coefficient", "baseline", "tau")
# suite2p's own defaults, for what neither the Dataset nor its ops say.
DEFAULTS = {
    "tau": 1.0,
    "neucoeff": 0.7,
    "baseline": "maximin",
    "win_baseline": 60.0,
    "sig_baseline": 10.0,
    "prctile_baseline": 8.0,
    "nplanes": 1,
    "functional_chan": 1,
}
ROI_VARIABLES = ("roi", "npix", "ypix", "xpix", "lam", "overlap")
SUITE2P_BASELINES = {"maximin_legacy": "maximin", "constant_global": "constant"}


def check_writable(ds: xr.Dataset) -> None:
    """Raise unless the Dataset has what a suite2p folder needs, before anything is computed."""
    import xarray as xr

    from xs2p.io.suite2p.packed_ops import parse_ops

    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"write_suite2p: ds is a {type(ds).__name__}, expected the Dataset of traces and ROIs "
            "that xs2p.extract(movie, rois, ...) gives"
        )
    if "F" not in ds:
        raise ValueError(
            "write_suite2p: the Dataset has no F(roi, time), only "
            f"{sorted(map(str, ds.data_vars))}; make it with xs2p.extract(movie, rois, ...)"
        )
    for key in STORED:
        if key not in ds:
            continue
        if set(ds[key].dims) != {"roi", "time"}:
            raise ValueError(
                f"write_suite2p: {key} has dims {ds[key].dims}, expected ('roi', 'time'); take one "
                "channel with ds.isel(channel=0), or rename with ds.rename({old: new})"
            )
    absent = [name for name in ROI_VARIABLES if name not in ds.variables]
    absent += [name for name in ("Ly", "Lx") if name not in ds.attrs]
    if absent:
        raise ValueError(
            f"write_suite2p: the Dataset carries no ROI set, it lacks {', '.join(absent)}; put one "
            "beside the traces: ds.assign_coords(rois.variables).assign_attrs(rois.attrs)"
        )
    kept = parse_ops(ds.attrs["ops"]) if "ops" in ds.attrs else {}
    if all(known.get("fs") is None for known in (parameters_in(ds), kept)):
        shown = rate_shown(ds)
        raise ValueError(
            "write_suite2p: the frame rate is not known; give it in Hz: ds.attrs['fs'] = "
            + (f"{shown:g}, as the times look like" if shown else "30.0")
        )


def write_traces(ds: xr.Dataset, new: Callable[[str], str], said: Mapping[str, Any]) -> xr.Dataset:
    """Write every trace as float32 ``(roi, time)``, zeros where an ROI has none.

    All that is lazy is computed in one pass: blocks of traces go to the files as they are
    ready. ``new`` gives the path to write a file to, ``said`` is of :func:`parameters_said`.
    Returned is the Dataset with all else in memory, and with ``skew`` and ``std`` where it had
    none.
    """
    import dask

    missing = np.zeros(ds.sizes["roi"], bool)
    valid = valid_of(ds)
    count = np.full(ds.sizes["roi"], ds.sizes["time"] if valid is None else valid.sum("time"))
    paths, holes = {}, {}
    for key in STORED:
        if key in ds:
            paths[key] = new(f"{key}.npy")
            traces = ds[key] if valid is None else ds[key].where(ds[key].notnull() | valid, 0)
            holes[key] = write_lazily(traces.transpose("roi", "time"), paths[key])
        elif not key.endswith("_chan2"):
            make_npy(new(f"{key}.npy"), (ds.sizes["roi"], ds.sizes["time"]))
    ds = _with_statistics(ds, said.get(COEFFICIENT, DEFAULTS["neucoeff"]))
    lazy = {
        name: array.data
        for name, array in ds.variables.items()
        if name not in paths and dask.is_dask_collection(array.data)
    }
    with watching(holes.values()):
        holes, done = dask.compute(holes, lazy)
    for name, data in done.items():
        array = ds[name].copy(data=data)
        ds = ds.assign({name: array}) if name in ds.data_vars else ds.assign_coords({name: array})
    if "status" in ds.variables:
        missing = ds["status"].values != "ok"
    for key, path in paths.items():
        _settle_holes(
            key, path, holes[key].sum(axis=1), missing, ds["roi"].values, ds.sizes["time"], count
        )
    return ds


@contextlib.contextmanager
def watching(written: Iterable[Any]) -> Iterator[None]:
    """Show progress while what :func:`write_lazily` returned is computed."""
    n_writes = sum(getattr(counts, "npartitions", 0) for counts in written)
    with watch(lambda *_: ("writing traces", ""), n_writes, WRITES) as watched:
        with watched.part(n_writes):
            yield


def write_lazily(traces: xr.DataArray, path: str) -> Any:
    """Write traces to a new file, at once or lazily; NaN frames of each ROI, by chunk of time."""
    make_npy(path, traces.shape)
    if traces.chunks is None:
        return _write_block(traces.values, path)
    import dask.array as da
    from dask.base import tokenize

    return da.map_blocks(
        _write_block,
        traces.data,
        path=path,
        dtype=np.int64,
        chunks=(traces.chunks[0], (1,) * traces.data.numblocks[1]),
        meta=np.empty((0, 0), np.int64),
        name=f"{WRITES}-{tokenize(traces.data.name, path)}",
    )


def _write_block(
    block: np.ndarray, path: str, block_info: dict[Any, Any] | None = None
) -> np.ndarray:
    """Write a block of traces where it belongs; its NaN of each ROI ``(roi, 1)``."""
    block = np.ascontiguousarray(block, dtype=np.float32)
    (row, _), (column, _) = ((0, 0), (0, 0))
    n_frames = block.shape[1]
    if block_info:
        (row, _), (column, _) = block_info[0]["array-location"]
        n_frames = block_info[0]["shape"][1]
    with open(path, "r+b") as file:
        start = data_offset(file)
        pieces = [block] if n_frames == block.shape[1] else block  # whole rows: all in one
        for n, piece in enumerate(pieces):
            file.seek(start + 4 * ((row + n) * n_frames + column))
            piece.tofile(file)
    return np.isnan(block).sum(axis=1, keepdims=True)


def _settle_holes(
    key: str,
    path: str,
    nan: np.ndarray,
    missing: np.ndarray,
    labels: np.ndarray,
    n_frames: int,
    count: np.ndarray,
) -> None:
    """Put zeros where an ROI has no trace; raise where a trace has holes in frames that count.

    ``count`` is how many these are, of each ROI.
    """
    absent = (nan > 0) & ((nan == count) | missing)
    partial = np.flatnonzero((nan > 0) & ~absent)
    if len(partial):
        raise ValueError(
            f"write_suite2p: {key} is NaN in {int(nan[partial[0]])} of {n_frames} frames of roi "
            f"{labels[partial[0]]} ({len(partial)} such ROIs), and suite2p knows no missing "
            f"frames; fill them first, for example ds[{key!r}] = ds[{key!r}].fillna(0)"
        )
    with open(path, "r+b") as file:
        start = data_offset(file)
        for row in np.flatnonzero(absent):
            file.seek(start + 4 * int(row) * n_frames)
            file.write(bytes(4 * n_frames))


def _with_statistics(ds: xr.Dataset, coefficient: float) -> xr.Dataset:
    """Add ``skew`` and ``std`` of the corrected traces, which suite2p has in its stat."""
    import xarray as xr

    from xs2p.traces.quality import skew, std

    Fc, each = ds["F"], coefficient_in(ds)
    if "Fneu" in ds:
        own = each if isinstance(each, xr.DataArray) else xr.DataArray(coefficient)
        Fc = Fc - own.astype(np.float32) * ds["Fneu"]
    for name, values in (("skew", skew), ("std", std)):
        if name not in ds.variables and Fc.sizes["time"]:
            # An ROI without a trace has zeros in F, and so no spread.
            variable = values(Fc).fillna(0).astype(np.float32).variable
            ds = ds.assign_coords({name: ("roi", variable.data)})
    return ds


def flag_table(ds: xr.Dataset, key: str) -> np.ndarray:
    """Rows of (flag, probability), as suite2p keeps ``iscell`` and ``redcell``."""
    count = ds.sizes["roi"]
    flag = ds[key].values if key in ds.variables else np.ones(count)
    prob = ds[f"{key}_prob"].values if f"{key}_prob" in ds.variables else flag
    dtype = np.float64 if prob.dtype == np.float64 and f"{key}_prob" in ds.variables else np.float32
    return np.stack([flag.astype(dtype), prob.astype(dtype)], axis=1)


def foreign_file(path: str) -> str | None:
    """Why a file of a plane folder is not of a set that was written here: its ops say who did."""
    try:
        ops = read_ops(os.path.dirname(path))
    except ValueError as error:
        return f"lies beside an ops.npy that cannot be read ({error})"
    return (
        None
        if "xs2p_version" in ops
        else "is suite2p's own, or somebody's (another folder leaves it)"
    )


def parameters_said(parts: Mapping[str, xr.Dataset]) -> dict[str, dict[str, Any]]:
    """Ask the traces of each plane what made them; warn once of what they do not say."""
    found: dict[str, dict[str, Any]] = {}
    medians: list[str] = []
    own = False
    unsaid: dict[str, str] = {}
    for name, ds in parts.items():
        found[name] = said = parameters_in(ds)
        if "tau" in ds.coords and "spks" in ds:
            said["tau"] = float(np.median(ds["tau"].values))
            if np.ptp(ds["tau"].values) > 0:
                medians.append(f"{said['tau']:g} s")
        own |= "Fneu" in ds and COEFFICIENT in ds.variables and COEFFICIENT not in said
        unsaid |= {name: by for name, by in unsaid_in(ds).items() if name in _UNSAID}
    of_plane = " of each plane" if len(parts) > 1 else ""
    if own:
        warn(
            "write_suite2p: each ROI has a neuropil coefficient of its own, and ops.npy has room "
            f"for one, the median{of_plane}; the spikes are as they are"
        )
    if medians:
        warn(
            f"write_suite2p: each ROI has a tau of its own, and ops.npy has room for one: "
            f"{', '.join(medians)}, the median{of_plane}; the spikes are as they are"
        )
    if unsaid:
        by = ", ".join(dict.fromkeys(unsaid.values()))
        first, variable = next(iter(unsaid.items()))
        warn(
            f"write_suite2p: {by} does not say with which {', '.join(unsaid)} it was made, so "
            f"ops.npy may not say it right; ds.s2p.reprocess(...) makes it with labels, or say it: "
            f"ds[{variable!r}].attrs[{first!r}] = ..."
        )
    return found


def tell_of_no_image(names: Collection[str], n_planes: int) -> None:
    """Say once which folders have no mean image."""
    if not names:
        return
    of_planes = [os.path.basename(name) for name in names] if n_planes > 1 else []
    log.warning(
        "write_suite2p: ds has no mean image%s, and suite2p's viewer does not open a folder "
        "without one; ds[%r] = movie.mean('time') before adds it",
        f" of {', '.join(of_planes)}" if of_planes else "",
        f"meanImg_{of_planes[0]}" if of_planes else "meanImg",
    )


def ops_of(
    ds: xr.Dataset, folder: str, said: Mapping[str, Any], n_planes: int = 1
) -> dict[str, Any]:
    """``ops``: what was kept of suite2p's, what the traces said, and defaults under it."""
    from xs2p.io.suite2p.packed_ops import unpack_ops

    ops: dict[str, Any] = unpack_ops(ds.attrs["ops"], ds) if "ops" in ds.attrs else {}
    for name, (key, section) in PARAMETERS.items():
        value = said.get(name)
        if name == COEFFICIENT and value is None and name in ds.variables and "Fneu" in ds:
            value = float(np.median(to_host(ds[name].data)))
        if value is None:
            continue
        if name == "baseline":
            value = SUITE2P_BASELINES.get(value, value)
        value = value.item() if isinstance(value, np.generic) else value
        ops[key] = value
        if section and isinstance(ops.get(section), dict):
            ops[section][name] = value
    _tell_of_frames(ops, ds)
    frame = (int(ds.attrs["Ly"]), int(ds.attrs["Lx"]))
    ops.update(Ly=frame[0], Lx=frame[1], nframes=int(ds.sizes["time"]))
    _add_images(ops, ds, frame)
    if not np.any(ops.get("meanImg", 0)):
        ops.pop("meanImg", None)
    # suite2p's viewer needs this one too.
    ops.setdefault("diameter", np.array([12.0, 12.0]))
    ops.setdefault("align_by_chan", 1)
    ops.setdefault("nchannels", 2 if "F_chan2" in ds else 1)
    if n_planes > 1:
        ops.update(nplanes=n_planes)
    ops.setdefault("save_path", os.path.abspath(folder))
    ops["xs2p_version"] = __version__
    return {**DEFAULTS, **ops}


def _add_images(ops: dict[str, Any], ds: xr.Dataset, frame: tuple[int, int]) -> None:
    """Take images of the frame under suite2p's names, some cut to what it detected ROIs in."""
    for key in IMAGES:
        if key not in ds or ds[key].dims != ("y", "x") or ds[key].shape != frame:
            continue
        image = to_host(ds[key].data)
        if key in CROPPED:
            ranges = [ops.setdefault(f"{d}range", [0, n]) for d, n in zip("yx", frame, strict=True)]
            image = image[tuple(slice(int(a), int(b)) for a, b in ranges)]
        ops[key] = image


def _tell_of_frames(ops: dict[str, Any], ds: xr.Dataset) -> None:
    """Say which frames are bad, and leave out what was said of other frames than these."""
    n_frames = ds.sizes["time"]
    for key in ("frames_per_file", "frames_per_folder", "nframes_per_folder"):
        if key in ops and np.sum(ops[key]) != n_frames:
            del ops[key]
    if VALID in ds.coords:
        valid = valid_of(ds)
        ops[BAD] = np.zeros(n_frames, bool) if valid is None else ~_for_any(valid)
    elif BAD in ds.coords and ds[BAD].dims == ("time",):
        ops[BAD] = ds[BAD].values.astype(bool)
    elif BAD in ops and np.size(ops[BAD]) != n_frames:
        del ops[BAD]


def _for_any(valid: xr.DataArray) -> np.ndarray:
    """Frames that count for any ROI: suite2p knows none that do for some."""
    return np.asarray(valid.values.any(axis=0) if "roi" in valid.dims else valid.values)


def tell_of_own_frames(parts: Mapping[str, xr.Dataset]) -> None:
    """Say once of how many ROIs it is lost which frames do not count, and what becomes of these."""
    n_rois = n_own = 0
    for ds in parts.values():
        n_rois += ds.sizes["roi"]
        valid = valid_of(ds)
        if valid is not None and "roi" in valid.dims:
            own = ~valid.values & _for_any(valid)
            n_own += int(own.any(axis=1).sum())
    if n_own:
        warn(
            f"write_suite2p: {n_own} of {n_rois} ROIs have frames of their own that do not count "
            "(valid over roi and time), and suite2p has no place for these: badframes of its ops "
            "are the frames that count for none of the ROIs. In the others the traces are written "
            "as they are, and as 0 where they are NaN, as spks; ds.to_zarr and xs2p.write_nwb keep "
            "which frames count"
        )
