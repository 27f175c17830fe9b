"""The store of a run, region by region: what is on disk is marked, and the rest is still to do."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import math
import operator
import os
import re
import shutil
import uuid
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import UNFINISHED
from xs2p.compute.arrays import to_host
from xs2p.compute.cluster import has_client, naming_what_was_lost
from xs2p.compute.progress import MARKS, count_reads, reading, watch
from xs2p.compute.stopping import compute_marks
from xs2p.disk.replace import (
    holds_only_zarr,
    put_in_place,
    remove,
    remove_written,
    sync_file,
    sync_folder,
)
from xs2p.traces.blocks import rechunk

RUN = "xs2p_run"  # attribute: what the traces were made from
DONE = ("xs2p_done_traces", "xs2p_done_rest")  # which regions are on disk
_OWNER = "xs2p_owner"  # attribute: whose tasks may write; one left over of a failed run has another

_UNFINISHED = "some frames are NaN; extract_to_zarr resumes the run"
_CHUNK_SAMPLES, _CHUNK_ROIS = 2**20, 500  # of a variable in a chunk of the store, at most
_CHUNKS_AT_ONCE = 256  # of the movie in one graph: each takes some 0.1 MB there
# What Zarr leaves of a write that was killed.
_HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.partial$")


def create(growing: str, ds: xr.Dataset, frames: int, run: dict[str, Any]) -> None:
    """Make a store of the right size with all labels and nothing in it."""
    import dask.array as da
    import zarr

    n_rois, n_frames = ds.sizes["roi"], ds.sizes["time"]
    widest = max(ds["F"].chunksizes["roi"], default=1)
    most = max(min(_CHUNK_SAMPLES // frames, _CHUNK_ROIS, widest), 1)
    per_chunk = max(-(-n_rois // max(-(-n_rois // most), 1)), 1)
    encoding, empty = {}, {}
    ds = ds.drop_vars([name for name, array in ds.data_vars.items() if "time" not in array.dims])
    for name, array in ds.data_vars.items():
        chunks = (*(1,) * (array.ndim - 2), per_chunk, frames)
        encoding[name] = {"chunks": chunks, "fill_value": np.nan, "_FillValue": np.float32(np.nan)}
        data = da.zeros(array.shape, dtype=array.dtype, chunks=chunks)
        empty[name] = (array.dims, data, array.attrs)
    text = {name: c.astype(object) for name, c in ds.coords.items() if c.dtype.kind == "U"}
    ds = ds.assign(empty).assign_coords(text).drop_encoding()
    ds = ds.assign_attrs({RUN: json.dumps(run), UNFINISHED: _UNFINISHED, _OWNER: uuid.uuid4().hex})
    new = os.path.join(os.path.dirname(growing), f".{os.path.basename(growing)}.new")
    if holds_only_zarr(new):  # of a run that was killed just here
        remove(new)
    elif os.path.lexists(new):
        raise FileExistsError(f"{new} is in the way, and holds more than a Zarr store; delete it")
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
        put_in_place(new, growing, overwrite=False)
    except BaseException:
        remove_written(new)
        raise


def open_store(store: str) -> xr.Dataset:
    """Traces lazy, labels in memory."""
    complete = not store.endswith(".partial.zarr")
    ds = xr.open_zarr(store, chunks={}, consolidated=complete)
    labels = {name: coord.load() for name, coord in ds.coords.items()}
    # Zarr gives text a dtype of its own; in memory it is object.
    # NetCDF knows neither that dtype nor the encoding that says it.
    text = {n: c.astype(object).drop_encoding() for n, c in labels.items() if c.dtype.kind in "OT"}
    return ds.assign_coords({**labels, **text})


def done_regions(store: str, stage: int) -> np.ndarray | None:
    """Which regions are on disk; None where the store is complete."""
    import zarr

    group: Any = zarr.open_group(store, mode="r", use_consolidated=False)
    return np.asarray(group[DONE[stage]][...]) > 0 if DONE[stage] in group else None


@naming_what_was_lost()
def write_traces(
    store: str, traces: xr.Dataset, frames: int, movie: xr.DataArray, progress: bool
) -> None:
    """Write what is extracted from the movie, of the regions that are not on disk yet."""
    done = done_regions(store, 0)
    if done is None or done.all():
        return
    stored, owner = open_store(store), _owner(store)
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
                    written.append(_write(data, store, owner, str(name), span.start).all())
                whole = functools.reduce(operator.and_, written)
                marks.append(_mark(whole, store, owner, 0, (region,)))
            with watched.part(reads * len(marks) / done.size):
                compute_marks(marks)


@naming_what_was_lost()
def write_rest(store: str, ds: xr.Dataset, frames: int, progress: bool) -> None:
    """Write what is made from stored traces, of the regions that are not on disk yet."""
    done = done_regions(store, 1)
    if done is None or done.all():
        return
    stored, owner = open_store(store), _owner(store)
    written = []
    made = [name for name in ("Fc", "F0", "spks", "dFF") if name in ds]
    for name in made:
        data = ds[name].data
        chunks = (*stored[name].data.chunks[:-1], _whole_regions(data.chunks[-1], frames))
        ok = _write(rechunk(data, chunks), store, owner, name, 0)
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
        # A chunk of time takes some eight times the tasks here that one of the movie takes above.
        for some in _batches(np.array(list(todo)), whole.numblocks[-1] * 8):
            marks = [
                _mark(whole.blocks[i, j].all(), store, owner, 1, (i, regions[j]))
                for i in some.tolist()
                for j in todo[i]
            ]
            with watched.part(len(marks)):
                compute_marks(marks)


def write_found(store: str, found: xr.Dataset) -> None:
    """Write variables over ROIs, once all that they are made of is on disk.

    By Zarr: xarray would say anew which variables are coordinates, and know these alone.
    """
    import zarr

    group: Any = zarr.open_group(store, mode="r+", use_consolidated=False)
    for name, variable in found.variables.items():
        if name in found.coords:
            continue
        values = to_host(variable.data)
        array = group.create_array(
            str(name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(n, 1) for n in values.shape),
            dimension_names=variable.dims,
            attributes=variable.attrs,
            overwrite=True,  # what a run that was killed has left
        )
        array[...] = values
        _sync(array, store, str(name), tuple(slice(0, n) for n in values.shape))


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


def _write(data: Any, store: str, owner: str, name: str, offset: int) -> Any:
    """Write every chunk where it belongs; a True for each."""
    import dask.array as da

    return da.map_blocks(
        _write_block,
        data,
        store=store,
        owner=owner,
        variable=name,
        offset=offset,
        dtype=bool,
        chunks=tuple((1,) * n for n in data.numblocks),
        meta=np.empty((0,) * data.ndim, bool),
    )


def _owner(store: str) -> str:
    import zarr

    return str(zarr.open_group(store, mode="r", use_consolidated=False).attrs[_OWNER])


def _opened(store: str, owner: str, name: str) -> Any:
    """Open an array of the store for writing, if it is the one that the task was made for."""
    import zarr

    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    if group.attrs.get(_OWNER) != owner:
        raise RuntimeError(f"{store} has become that of another run; this one has ended")
    return group[name]


def _write_block(
    block: np.ndarray, store: str, owner: str, variable: str, offset: int, block_info: Any = None
) -> np.ndarray:
    *lead, (start, stop) = block_info[0]["array-location"]
    where = (*(slice(a, b) for a, b in lead), slice(start + offset, stop + offset))
    array = _opened(store, owner, variable)
    for span, size, whole in zip(where, array.chunks, array.shape, strict=True):
        if span.start % size or (span.stop % size and span.stop != whole):
            raise RuntimeError(f"{variable} {where} cuts a chunk of {store}, which others write to")
    array[where] = to_host(block)
    _sync(array, store, variable, where)
    return np.ones((1,) * block.ndim, bool)


def _mark(ok: Any, store: str, owner: str, stage: int, where: tuple[Any, ...]) -> Any:
    from dask.base import tokenize

    return ok.map_blocks(
        _mark_block,
        store=store,
        owner=owner,
        stage=stage,
        where=where,
        name=f"{MARKS}-{tokenize(ok.name, store, stage, where)}",
        dtype=bool,
        meta=np.empty((), bool),
    )


def _mark_block(
    ok: np.ndarray, store: str, owner: str, stage: int, where: tuple[Any, ...]
) -> np.ndarray:
    """Note that regions are on disk: all that comes before has been written."""
    array = _opened(store, owner, DONE[stage])
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
            sync_file(path)
            folders.add(os.path.dirname(path))
    for folder in folders:
        sync_folder(folder)


def complete(store: str) -> None:
    """Take away what only an unfinished store has."""
    import zarr

    for path in Path(store).rglob("*.partial"):
        if _HALF_WRITTEN.search(path.name):
            path.unlink()
    for name in DONE:
        with contextlib.suppress(FileNotFoundError):  # also what a kill has left of it
            shutil.rmtree(os.path.join(store, name))
    group = zarr.open_group(store, mode="r+", use_consolidated=False)
    for name in (_OWNER, UNFINISHED):
        if name in group.attrs:
            del group.attrs[name]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(store)
