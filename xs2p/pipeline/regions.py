"""The store of a run, region by region: what is on disk is marked, and the rest is still to do."""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import operator
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import UNFINISHED
from xs2p._warnings import names, warn
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
from xs2p.disk.traces import open_store
from xs2p.pipeline.ledger import empty_ledger, fault
from xs2p.pipeline.marks import (
    DONE,
    MADE,
    RUN,
    create_marks,
    done_regions,
    marked_files,
    unmark,
    write_mark,
)
from xs2p.pipeline.sessions import empty_sessions
from xs2p.pipeline.shards import cut, grid_of, layouts, written_of
from xs2p.pipeline.shards import written as written_in
from xs2p.pipeline.whole import Writer
from xs2p.traces.blocks import rechunk

_UNFINISHED = "some frames are NaN; extract_to_zarr resumes the run"
_CHUNKS_AT_ONCE = 256  # of the movie in one graph: each takes some 0.1 MB there


def create(writer: Writer, ds: xr.Dataset, frames: int, run: str) -> None:
    """Make a store of the right size with all labels and nothing in it."""
    import zarr

    growing = writer.store
    new = scratch_of(growing)
    discard(growing)
    try:
        encoding, empty = _empty(ds, frames)
        text = {name: c.astype(object) for name, c in empty.coords.items() if c.dtype.kind == "U"}
        empty = empty.assign_coords(text).drop_encoding()
        empty = empty.assign_attrs({RUN: run, UNFINISHED: _UNFINISHED})
        empty.to_zarr(new, compute=False, encoding=encoding, consolidated=False)
        group: Any = zarr.open_group(new, mode="r+")
        grids = {name: grid_of(group[name]) for name in encoding}
        create_marks(group, grids)
        empty_ledger(new)
        empty_sessions(new)
        # Folders of chunks are made now: on disk they are before anything lies in them.
        for name in (*grids, *DONE):
            for lead in np.ndindex(*grid_of(group[name])[:-1]):
                os.makedirs(os.path.join(new, name, "c", *map(str, lead)))
        put_in_place(new, growing, overwrite=False, durable=writer.durable)
    except BaseException:
        remove_written(new)
        raise


def scratch_of(growing: str) -> str:
    """Return where parts of a store are made before they get their place in it."""
    return os.path.join(os.path.dirname(growing), f".{os.path.basename(growing)}.new")


def discard(growing: str) -> None:
    """Remove an unfinished store, and what a killed run left: never is half of it there."""
    new = scratch_of(growing)
    if holds_only_zarr(new):  # of a run that was killed just here
        remove(new)
    elif os.path.lexists(new):
        raise FileExistsError(f"{new} is in the way, and holds more than a Zarr store; delete it")
    if os.path.lexists(growing):
        os.rename(growing, new)
        remove_written(new)


def _empty(ds: xr.Dataset, frames: int) -> tuple[dict[str, Any], xr.Dataset]:
    import dask.array as da
    from zarr.codecs import ZstdCodec

    encoding: dict[str, Any] = {}
    empty: dict[str, Any] = {}
    ds = ds.drop_vars([name for name, array in ds.data_vars.items() if "time" not in array.dims])
    for name, layout in layouts(ds, frames).items():
        array = ds[name]
        encoding[name] = {
            "chunks": layout.chunks,
            **({"shards": layout.shards} if layout.shards else {}),
            "fill_value": np.nan,
            "_FillValue": np.float32(np.nan),
            # Level 3 makes no smaller files. The checksum tells whoever reads a chunk what broke.
            "compressors": ZstdCodec(level=1, checksum=True),
        }
        data = da.zeros(array.shape, dtype=array.dtype, chunks=layout.shards or layout.chunks)
        empty[name] = (array.dims, data, array.attrs)
    return encoding, ds.assign(empty)


def recheck(writer: Writer, checksums: bool) -> None:
    """Let what is marked and does not hold be done again, and warn of it."""
    bad: dict[tuple[int, tuple[int, ...]], str] = {}
    marked = list(marked_files(writer.store))
    for stage, where, name, number in marked:
        why = fault(os.path.join(writer.store, name), number, checksums)
        if why:
            bad.setdefault((stage, where), f"{name}: {why}")
    if not bad:
        return
    warn(
        f"{writer.store}: {len(bad)} of the regions that were marked as done are not what was "
        f"written, and are done again ({names(list(bad.values()), 3)}); has the disk lost them?"
    )
    if any(stage == 0 for stage, _ in bad):  # the rest may have been made of these
        bad |= {(1, where): "" for stage, where, _, _ in marked if stage == 1}
    for (stage, where), _ in sorted(bad.items(), reverse=True):
        unmark(writer.store, stage, where, writer.durable)


@naming_what_was_lost()
def write_traces(
    writer: Writer, traces: xr.Dataset, frames: int, movie: xr.DataArray, progress: bool
) -> None:
    """Write what is extracted from the movie, of the regions that are not on disk yet."""
    done = done_regions(writer.store, 0)
    if done is None or done.all():
        return
    stored = open_store(writer.store)
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
                    chunks = (*_lead(stored[name]), (span.stop - span.start,))
                    data = rechunk(array.data[..., span], chunks)
                    written.append(_write(data, writer, str(name), span.start).all())
                whole = functools.reduce(operator.and_, written)
                marks.append(_mark(whole, writer, 0, (region,)))
            with watched.part(reads * len(marks) / done.size):
                compute_marks(marks)


@naming_what_was_lost()
def write_rest(writer: Writer, ds: xr.Dataset, progress: bool) -> None:
    """Write what is made from stored traces, of the regions that are not on disk yet."""
    done = done_regions(writer.store, 1)
    if done is None or done.all():
        return
    stored = open_store(writer.store)
    written: list[Any] = []
    made = [name for name in MADE if name in ds]
    frames = written_of(stored[made[0]])[-1]
    for name in made:
        data = ds[name].data
        chunks = (*_lead(stored[name]), _whole_shards(data.chunks[-1], frames))
        ok = _write(rechunk(data, chunks), writer, name, 0)
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
                _mark(whole.blocks[i, j].all(), writer, 1, (i, regions[j]))
                for i in some.tolist()
                for j in todo[i]
            ]
            with watched.part(len(marks)):
                compute_marks(marks)


def write_found(writer: Writer, found: xr.Dataset) -> None:
    """Write variables over ROIs, once all that they are made of is on disk.

    By Zarr: xarray would say anew which variables are coordinates, and know these alone. Each is
    made beside the store, and put into it whole.
    """
    import zarr

    new = scratch_of(writer.store)
    for name, variable in found.variables.items():
        if name in found.coords:
            continue
        remove(new) if os.path.lexists(new) else None
        values = to_host(variable.data)
        array = zarr.open_group(new, mode="w").create_array(
            str(name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=tuple(max(n, 1) for n in values.shape),
            dimension_names=map(str, variable.dims),
            attributes=variable.attrs,
        )
        array[...] = values
        writer.hold.check()
        place = os.path.join(writer.store, str(name))
        if os.path.lexists(place):  # what a run that was killed has left
            os.rename(place, os.path.join(new, "before"))
        put_in_place(os.path.join(new, str(name)), place, overwrite=False, durable=writer.durable)
        remove(new)


def _batches(what: np.ndarray, chunks_each: float) -> list[np.ndarray]:
    """Cut work into graphs of a bounded size that still keep all threads of a cluster busy."""
    chunks = _CHUNKS_AT_ONCE
    if has_client():
        from distributed import get_client

        chunks = max(chunks, 16 * sum(get_client().nthreads().values()))
    per_batch = max(int(chunks / max(chunks_each, 1e-9)), 1)
    return [what[start : start + per_batch] for start in range(0, what.size, per_batch)]


def _lead(stored: xr.DataArray) -> tuple[tuple[int, ...], ...]:
    """Chunks along all dims but time in which a variable is written."""
    return tuple(map(cut, stored.shape[:-1], written_of(stored)[:-1]))


def _whole_shards(chunks: tuple[int, ...], frames: int) -> tuple[int, ...]:
    """Chunks of time moved to the next border of a shard: no two write to one file of a store."""
    edges = -(-np.cumsum([0, *chunks]) // frames) * frames
    return tuple(np.diff(np.unique(np.minimum(edges, sum(chunks)))).tolist())


def _write(data: Any, writer: Writer, name: str, offset: int) -> Any:
    """Write every chunk where it belongs; a True for each."""
    import dask.array as da

    return da.map_blocks(
        _write_block,
        data,
        writer=writer,
        variable=name,
        offset=offset,
        dtype=bool,
        chunks=tuple((1,) * n for n in data.numblocks),
        meta=np.empty((0,) * data.ndim, bool),
    )


def _write_block(
    block: np.ndarray, writer: Writer, variable: str, offset: int, block_info: Any = None
) -> np.ndarray:
    import zarr

    *lead, (start, stop) = block_info[0]["array-location"]
    where = (*(slice(a, b) for a, b in lead), slice(start + offset, stop + offset))
    writer.hold.check()  # a task that a failed run left over has another's
    array: Any = zarr.open_group(writer.store, mode="r+", use_consolidated=False)[variable]
    for span, size, whole in zip(where, written_in(array), array.shape, strict=True):
        if span.start % size or (span.stop % size and span.stop != whole):
            raise RuntimeError(
                f"{variable} {where} cuts a file of {writer.store}, which others write to"
            )
    if array.shards:  # Zarr would add to what is there, which may be damaged
        _unlink(array, writer.store, variable, where)
    array[where] = to_host(block)
    if writer.durable:
        _sync(array, writer.store, variable, where)
    return np.ones((1,) * block.ndim, bool)


def _mark(ok: Any, writer: Writer, stage: int, where: tuple[Any, ...]) -> Any:
    from dask.base import tokenize

    return ok.map_blocks(
        _mark_block,
        writer=writer,
        stage=stage,
        where=where,
        name=f"{MARKS}-{tokenize(ok.name, writer.store, stage, where)}",
        dtype=bool,
        meta=np.empty((), bool),
    )


def _mark_block(ok: np.ndarray, writer: Writer, stage: int, where: tuple[Any, ...]) -> np.ndarray:
    """Note that regions are on disk: all that comes before has been written."""
    spans = [range(w.start, w.stop) if isinstance(w, slice) else (w,) for w in where]
    for each in itertools.product(*spans):
        writer.hold.check()
        write_mark(writer.store, stage, each, writer.durable)
    return ok


def _sync(array: Any, store: str, name: str, where: tuple[slice, ...]) -> None:
    """See to it that chunks are on disk, and not on their way there."""
    folders = set()
    for path in _files(array, store, name, where):
        if os.path.exists(path):  # Zarr writes no chunk that holds the fill value only
            sync_file(path)
            folders.add(os.path.dirname(path))
    for folder in folders:
        sync_folder(folder)


def _unlink(array: Any, store: str, name: str, where: tuple[slice, ...]) -> None:
    for path in _files(array, store, name, where):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _files(array: Any, store: str, name: str, where: tuple[slice, ...]) -> Iterator[str]:
    """Files that a part of an array is in."""
    sizes = written_in(array)
    spans = [range(w.start // n, -(-w.stop // n)) for w, n in zip(where, sizes, strict=True)]
    for at in itertools.product(*spans):
        yield os.path.join(store, name, array.metadata.encode_chunk_key(at))
