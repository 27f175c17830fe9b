"""Runs that survive: traces go to a Zarr store region by region, and a killed run goes on."""

from __future__ import annotations

import errno
import functools
import hashlib
import inspect
import itertools
import json
import math
import operator
import os
import re
import shutil
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import UNFINISHED
from xs2p._backend import resolve_device, to_host, unread
from xs2p._compute import has_client
from xs2p._lost import naming_what_was_lost
from xs2p._progress import MARKS, count_reads, reading, watch
from xs2p._replace import put_in_place
from xs2p._table import pixel_table
from xs2p._traces import rechunk
from xs2p.pipeline import extract, plan

RUN = "xs2p_run"  # attribute: what the traces were made from
DONE = ("xs2p_done_traces", "xs2p_done_rest")  # which regions are on disk

_REGION_SAMPLES = 2**22  # of a variable, about
_REGION_BYTES = 8e9  # of the movie, at most: what a killed run reads again
_CHUNK_SAMPLES, _CHUNK_ROIS = 2**20, 500  # of a variable in a chunk of the store, at most
_CHUNKS_AT_ONCE = 256  # of the movie in one graph: each takes some 0.1 MB there
_HALF_WRITTEN = re.compile(
    r"\.[0-9a-f]{32}\.partial$"
)  # what Zarr leaves of a write that was killed


def extract_to_zarr(
    movie: xr.DataArray,
    rois: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    frames_per_region: int | None = None,
    **options: Any,
) -> xr.Dataset:
    """Extract traces and spikes into a Zarr store, in a run that can be killed and resumed.

    The movie is read once. ``F`` and ``Fneu`` are written region by region, a region being some
    thousand frames and a chunk of the store; then ``Fc``, ``F0`` and ``spks`` are made from what is
    stored. A region is marked complete once it is on disk. Memory follows the movie's chunks and
    the number of ROIs, not the number of frames.

    Until it is complete the store is called ``<name>.partial.zarr`` and says in its attributes
    that it is unfinished; then it gets its name. A run that failed or was killed goes on with
    ``resume=True``, and only reads what is not on disk yet; the store is in the end the same, to
    the last byte.

    With a ``distributed.Client``, workers read and write: all must see the movie and the folder.
    What a worker had when it died is done again by others. A task that was on four workers that
    died fails the run, since it may be what they died of; where workers die of other things, as
    on nodes that are taken away, Dask's setting ``distributed.scheduler.allowed-failures`` allows
    more.

    Parameters
    ----------
    movie, rois
        As for :func:`xs2p.extract`.
    path
        The store, a folder whose name ends in ``.zarr``.
    resume
        Go on with the unfinished store of an earlier run, if there is one. It must be of the
        same movie, ROIs and parameters.
    overwrite
        Replace an existing store, once the new one is complete.
    progress
        Show frames per second, gigabytes read and the time that is left; nothing where the
        output is no terminal.
    frames_per_region
        Frames of a region, by default a multiple of the movie's chunks that makes some 64 MB of
        each variable.
    **options
        Of :func:`xs2p.extract`: ``fs``, ``tau``, ``baseline`` and so on. With ``snr_threshold``
        the pass that drops ROIs is made again by every resumed run. ``device``, as it was found,
        is one of the parameters: a run that began on a GPU goes on on one.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    FileExistsError
        The store, or an unfinished one, exists.
    ValueError
        An input does not fit, or the store to resume was made from another movie, ROIs or
        parameters: the message names which.
    OSError, MemoryError
        A chunk of the movie cannot be read, or does not fit in the memory of a worker: the
        message names the file and the frames.

    Examples
    --------
    >>> ds = xs2p.extract_to_zarr(movie, rois, "traces.zarr", tau=1.0, resume=True)
    ... # doctest: +SKIP
    """
    final = _check_path(path)
    growing = partial_path(final)
    _check_free(final, growing, resume, overwrite)
    options = _with_defaults(movie, rois, options)
    movie = _lazy(movie)
    if isinstance(movie, xr.DataArray):
        # Part of what a run is: a GPU may round otherwise than the CPU that goes on with it.
        options["device"] = resolve_device(options["device"], unread(movie), "movie")
    if options["movie_chan2"] is not None:
        options["movie_chan2"] = _lazy(options["movie_chan2"])
    traces, finish = plan(movie, rois, **options)
    frames = _frames_per_region(movie, traces, frames_per_region)
    run = _identity(movie, rois, options, frames)
    if resume and os.path.exists(growing):
        _check_same(run, growing)
    elif resume and os.path.exists(final) and not overwrite:
        _check_same(run, final)
        return _open(final)
    else:
        shutil.rmtree(growing, ignore_errors=True)
        _create(growing, finish(traces), frames, run)
    try:
        _extract(growing, traces, frames, movie, progress)
        stored = _open(growing)
        variables = {n: v.drop_attrs(deep=False).assign_attrs(v.attrs) for n, v in traces.items()}
        same = xr.Dataset({n: v.copy(data=stored[n].data) for n, v in variables.items()})
        _derive(growing, finish(same, in_passes=True), frames, progress)
    except BaseException as error:
        _keep_what_is_done(growing, error)
        raise
    _complete(growing)
    put_in_place(growing, final, overwrite)
    return _open(final)


def partial_path(path: str) -> str:
    """Return what a store is called while it is not complete."""
    return f"{os.path.splitext(path)[0]}.partial.zarr"


# What is asked for


def _check_path(path: str | os.PathLike[str]) -> str:
    final = os.path.abspath(os.fspath(path))
    if os.path.splitext(final)[1].lower() != ".zarr":
        raise ValueError(f"the store {os.fspath(path)!r} must be a folder whose name ends in .zarr")
    if not os.path.isdir(os.path.dirname(final)):
        raise FileNotFoundError(
            f"no folder {os.path.dirname(final)!r} to write {os.path.basename(final)} into"
        )
    return final


def _check_free(final: str, growing: str, resume: bool, overwrite: bool) -> None:
    if resume:
        return
    if os.path.lexists(final) and not overwrite:
        raise FileExistsError(
            f"{final} exists; overwrite=True replaces it once the new one is complete"
        )
    if os.path.lexists(growing) and not overwrite:
        raise FileExistsError(
            f"{growing} exists, from a run that did not end; resume=True goes on with it, "
            "overwrite=True starts anew"
        )


def _with_defaults(movie: Any, rois: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of :func:`xs2p.extract`, which also knows which there are."""
    bound = inspect.signature(extract).bind(movie, rois, **options)
    bound.apply_defaults()
    return {key: value for key, value in bound.arguments.items() if key not in ("movie", "rois")}


def _lazy(movie: Any) -> Any:
    """Chunk a movie in memory, so that it goes the way of every other one."""
    if not isinstance(movie, xr.DataArray) or movie.chunks is not None or "time" not in movie.dims:
        return movie
    from xs2p.io._lazy import TARGET_BYTES

    frame = max(movie.nbytes // max(movie.sizes["time"], 1), 1)
    return movie.chunk(time=max(TARGET_BYTES // frame, 1))


def _frames_per_region(movie: xr.DataArray, traces: xr.Dataset, asked: int | None) -> int:
    n_frames = movie.sizes["time"]
    if asked is not None:
        if isinstance(asked, bool) or int(asked) != asked or asked < 1:
            raise ValueError(f"frames_per_region must be a positive number, got {asked!r}")
        return min(int(asked), n_frames)
    chunk = max(movie.chunksizes["time"])
    frame_bytes = max(movie.nbytes // n_frames, 1)
    most = min(_REGION_SAMPLES // max(traces.sizes["roi"], 1), _REGION_BYTES / frame_bytes)
    return min(max(int(most // chunk), 1) * chunk, n_frames)


# What a store was made from


def _identity(
    movie: xr.DataArray, rois: xr.Dataset, options: dict[str, Any], frames: int
) -> dict[str, Any]:
    from xs2p._version import __version__

    table = pixel_table(rois)
    identity: dict[str, Any] = {
        "movie": _fingerprint(movie),
        "rois": _digest(*table[:-1], rois["radius"].values, *table.shape),
    }
    for name, value in options.items():
        if name == "movie_chan2":
            value = None if value is None else _fingerprint(value)
        elif isinstance(value, xr.DataArray):
            value = _digest(value.values)
        elif isinstance(value, np.generic):
            value = value.item()
        identity[name] = value
    return {**identity, "frames_per_region": frames, "xs2p_version": __version__}


@naming_what_was_lost()
def _fingerprint(movie: xr.DataArray) -> dict[str, Any]:
    """Size, dtype, labels, and what is in the first frame, the middle one and the last."""
    import dask

    n = movie.sizes["time"]
    # Slices, since a list of frames would read whole chunks.
    picked = [movie.isel(time=slice(i, i + 1)).data for i in sorted({0, n // 2, n - 1})]
    some = [to_host(part) for part in dask.compute(*picked)]
    labels = [movie["time"].values] if "time" in movie.coords else []
    return {
        "shape": list(movie.shape),
        "dtype": str(movie.dtype),
        "fs": movie.attrs.get("fs"),
        "content": _digest(*some, *labels),
    }


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        data = str(array.tolist()).encode() if array.dtype == object else array.tobytes()
        digest.update(data)
    return digest.hexdigest()[:32]


def _check_same(run: dict[str, Any], store: str) -> None:
    """Raise, naming what differs, unless a store was made from the same."""
    import zarr

    try:
        kept = json.loads(str(zarr.open_group(store, mode="r").attrs[RUN]))
    except Exception as error:
        raise ValueError(
            f"{store} is no store that extract_to_zarr made; overwrite=True replaces it"
        ) from error
    run = json.loads(json.dumps(run))
    differs = []
    for name in dict.fromkeys([*run, *kept]):
        now, then = run.get(name), kept.get(name)
        if now == then:
            continue
        if isinstance(now, dict) and isinstance(then, dict):
            parts = [part for part in now if now[part] != then.get(part)]
            differs.append(f"{name} ({', '.join(parts)})")
        elif name == "rois" or isinstance(now, dict) or isinstance(then, dict):
            differs.append(name)
        else:
            differs.append(f"{name}={then!r} then and {now!r} now")
    if differs:
        raise ValueError(
            f"{store} cannot be resumed: it was made with other {'; '.join(differs)}. Give what "
            "it was made with, choose another store, or start anew with overwrite=True, "
            "resume=False"
        )


# The store


def _create(growing: str, ds: xr.Dataset, frames: int, run: dict[str, Any]) -> None:
    """Make a store of the right size with all labels and nothing in it."""
    import dask.array as da
    import zarr

    n_rois, n_frames = ds.sizes["roi"], ds.sizes["time"]
    widest = max(ds["F"].chunksizes["roi"], default=1)
    most = max(min(_CHUNK_SAMPLES // frames, _CHUNK_ROIS, widest), 1)
    per_chunk = max(-(-n_rois // max(-(-n_rois // most), 1)), 1)
    encoding, empty = {}, {}
    for name, array in ds.data_vars.items():
        chunks = (*(1,) * (array.ndim - 2), per_chunk, frames)
        encoding[name] = {"chunks": chunks, "fill_value": np.nan, "_FillValue": np.float32(np.nan)}
        data = da.zeros(array.shape, dtype=array.dtype, chunks=chunks)
        empty[name] = (array.dims, data, array.attrs)
    ds = ds.assign(empty).assign_attrs(
        {RUN: json.dumps(run), UNFINISHED: "some frames are NaN; extract_to_zarr resumes the run"}
    )
    new = os.path.join(os.path.dirname(growing), f".{os.path.basename(growing)}.new")
    shutil.rmtree(new, ignore_errors=True)  # of a run that was killed just here
    try:
        ds.to_zarr(new, compute=False, encoding=encoding, consolidated=False)
        group = zarr.open_group(new, mode="r+")
        n_regions = -(-n_frames // frames)
        shapes = ((n_regions,), (-(-n_rois // per_chunk), n_regions))
        for name, shape, dims in zip(
            DONE, shapes, (["region"], ["roi_chunk", "region"]), strict=True
        ):
            group.create_array(
                name, shape=shape, chunks=(1,) * len(shape), dtype="u1", dimension_names=dims
            )
        os.rename(new, growing)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _open(store: str) -> xr.Dataset:
    """Traces lazy, labels in memory."""
    complete = not store.endswith(".partial.zarr")
    ds = xr.open_zarr(store, chunks={}, consolidated=complete)
    labels = {name: coord.load() for name, coord in ds.coords.items()}
    # Zarr gives text a dtype of its own; in memory it is object.
    text = {name: c.astype(object) for name, c in labels.items() if c.dtype.kind == "T"}
    return ds.assign_coords({**labels, **text})


def _done(store: str, stage: int) -> np.ndarray | None:
    """Which regions are on disk; None where the store is complete."""
    import zarr

    group: Any = zarr.open_group(store, mode="r", use_consolidated=False)
    return np.asarray(group[DONE[stage]][...]) > 0 if DONE[stage] in group else None


@naming_what_was_lost()
def _extract(
    store: str, traces: xr.Dataset, frames: int, movie: xr.DataArray, progress: bool
) -> None:
    """Write what is extracted from the movie, of the regions that are not on disk yet."""
    import dask

    done = _done(store, 0)
    if done is None or done.all():
        return
    stored = _open(store)
    n_frames = traces.sizes["time"]
    spans = {
        region: slice(region * frames, min((region + 1) * frames, n_frames))
        for region in np.flatnonzero(~done).tolist()
    }
    left = sum(span.stop - span.start for span in spans.values()) / n_frames
    reads = count_reads(*(array.data for array in traces.data_vars.values()))
    channels = 1 + any(str(name).endswith("_chan2") for name in traces.data_vars)
    tell = reading(n_frames * left, channels * movie.nbytes * left)
    with watch(tell, reads * left, show=None if progress else False) as watched:
        for some in _batches(np.array(list(spans)), reads / done.size):
            marks = []
            for region in some.tolist():
                span, written = spans[region], []
                for name, array in traces.data_vars.items():
                    chunks = (*stored[name].data.chunks[:-1], (span.stop - span.start,))
                    data = rechunk(array.data[..., span], chunks)
                    written.append(_write(data, store, str(name), span.start).all())
                marks.append(_mark(functools.reduce(operator.and_, written), store, 0, (region,)))
            with watched.part(reads * len(marks) / done.size):
                dask.compute(*marks)


@naming_what_was_lost()
def _derive(store: str, ds: xr.Dataset, frames: int, progress: bool) -> None:
    """Write what is made from stored traces, of the regions that are not on disk yet."""
    import dask

    done = _done(store, 1)
    if done is None or done.all():
        return
    stored = _open(store)
    written = []
    made = [name for name in ("Fc", "F0", "spks") if name in ds]
    for name in made:
        data = ds[name].data
        chunks = (*stored[name].data.chunks[:-1], _whole_regions(data.chunks[-1], frames))
        ok = _write(rechunk(data, chunks), store, name, 0)
        written.append(ok.all(axis=tuple(range(ok.ndim - 2))) if ok.ndim > 2 else ok)
    whole = functools.reduce(operator.and_, written)
    edges = (np.cumsum([0, *chunks[-1]]) / frames).tolist()
    regions = [slice(int(a), math.ceil(b)) for a, b in itertools.pairwise(edges)]
    todo = {
        i: [j for j, some in enumerate(regions) if not done[i, some].all()]
        for i in np.flatnonzero(~done.all(axis=1)).tolist()
    }
    n_marks = sum(map(len, todo.values()))
    show = None if progress else False
    with watch(lambda *_: (", ".join(made), ""), n_marks, MARKS, show) as watched:
        for some in _batches(np.array(list(todo)), whole.numblocks[-1] * 8):
            marks = [
                _mark(whole.blocks[i, j].all(), store, 1, (i, regions[j]))
                for i in some.tolist()
                for j in todo[i]
            ]
            with watched.part(len(marks)):
                dask.compute(*marks)


def _batches(what: np.ndarray, chunks_each: float) -> list[np.ndarray]:
    """Cut work into graphs of a bounded size that still keep all threads of a cluster busy."""
    chunks = _CHUNKS_AT_ONCE
    if has_client():
        from distributed import get_client

        chunks = max(chunks, 16 * sum(get_client().nthreads().values()))
    per_batch = max(int(chunks / max(chunks_each, 1e-9)), 1)
    return [what[start : start + per_batch] for start in range(0, what.size, per_batch)]


def _whole_regions(chunks: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """Chunks of time moved to the next border of a region: no two write to one chunk of a store."""
    edges = -(-np.cumsum([0, *chunks]) // frames) * frames
    return tuple(np.diff(np.unique(np.minimum(edges, sum(chunks)))).tolist())


def _write(data: Any, store: str, name: str, offset: int) -> Any:
    """Write every chunk where it belongs; a True for each."""
    import dask.array as da

    return da.map_blocks(
        _write_block,
        data,
        store=store,
        variable=name,
        offset=offset,
        dtype=bool,
        chunks=tuple((1,) * n for n in data.numblocks),
        meta=np.empty((0,) * data.ndim, bool),
    )


def _write_block(
    block: np.ndarray, store: str, variable: str, offset: int, block_info: Any = None
) -> np.ndarray:
    import zarr

    *lead, (start, stop) = block_info[0]["array-location"]
    where = (*(slice(a, b) for a, b in lead), slice(start + offset, stop + offset))
    array: Any = zarr.open_group(store, mode="r+", use_consolidated=False)[variable]
    for span, size, whole in zip(where, array.chunks, array.shape, strict=True):
        if span.start % size or (span.stop % size and span.stop != whole):
            raise RuntimeError(f"{variable} {where} cuts a chunk of {store}, which others write to")
    array[where] = to_host(block)
    _sync(array, store, variable, where)
    return np.ones((1,) * block.ndim, bool)


def _mark(ok: Any, store: str, stage: int, where: tuple[Any, ...]) -> Any:
    from dask.base import tokenize

    return ok.map_blocks(
        _mark_block,
        store=store,
        stage=stage,
        where=where,
        name=f"{MARKS}-{tokenize(ok.name, store, stage, where)}",
        dtype=bool,
        meta=np.empty((), bool),
    )


def _mark_block(ok: np.ndarray, store: str, stage: int, where: tuple[Any, ...]) -> np.ndarray:
    """Note that regions are on disk: all that comes before has been written."""
    import zarr

    array: Any = zarr.open_group(store, mode="r+", use_consolidated=False)[DONE[stage]]
    array[where] = 1
    where = tuple(w if isinstance(w, slice) else slice(w, w + 1) for w in where)
    _sync(array, store, DONE[stage], where)
    return ok


def _sync(array: Any, store: str, name: str, where: tuple[slice, ...]) -> None:
    """See to it that chunks are on disk, and not on their way there."""
    first = [w.start // size for w, size in zip(where, array.chunks, strict=True)]
    last = [-(-w.stop // size) for w, size in zip(where, array.chunks, strict=True)]
    folders = set()
    for index in np.ndindex(*(b - a for a, b in zip(first, last, strict=True))):
        at = tuple(a + i for a, i in zip(first, index, strict=True))
        path = os.path.join(store, name, array.metadata.encode_chunk_key(at))
        if os.path.exists(path):  # Zarr writes no chunk that holds the fill value only
            _fsync(path)
            folders.add(os.path.dirname(path))
    if os.name == "posix":
        for folder in folders:
            _fsync(folder)


def _fsync(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _complete(store: str) -> None:
    """Take away what only an unfinished store has."""
    import zarr

    for path in Path(store).rglob("*.partial"):
        if _HALF_WRITTEN.search(path.name):
            path.unlink()
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    for name in DONE:
        if name in group:
            del group[name]
    if UNFINISHED in group.attrs:
        del group.attrs[UNFINISHED]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(store)


def _keep_what_is_done(store: str, error: BaseException) -> None:
    full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
    if isinstance(error, OSError) and error.errno in full and error.filename is None:
        error.filename = store
    done = _done(store, 0)
    if done is not None and not done.any():
        shutil.rmtree(store, ignore_errors=True)
        return
    part = "all" if done is None else f"{int(done.sum())} of {done.size} regions"
    error.add_note(f"{part} of F are kept in {store}; resume=True goes on from there")
