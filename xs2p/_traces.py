"""How every step on traces goes over its input: in memory, or chunk by chunk with Dask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._backend import array_module, meta, placed, resolve_device, unread

if TYPE_CHECKING:
    import dask.array as da

_PARALLEL = 2**20  # samples that are worth a second thread
_CHUNK_BYTES = 128e6  # of one variable's traces in one chunk, about


def check_traces(F: Any, step: str) -> None:
    """Raise a ValueError unless ``F`` is an array of real traces."""
    if not isinstance(F, xr.DataArray):
        raise ValueError(
            f"{step} takes a DataArray of traces, got {type(F).__name__}; choose a variable, as "
            'in ds.Fc, or wrap an array with xr.DataArray(array, dims=("roi", "time"))'
        )
    if "time" not in F.dims:
        raise ValueError(
            f"{step} works along the dim time, but the traces have dims {F.dims}; rename the "
            "right one with F.rename({...: 'time'})"
        )
    if F.sizes["time"] == 0:
        raise ValueError(f"{step} needs at least one frame; the traces have none")
    if F.dtype.kind not in "iufb":
        raise ValueError(f"{step} takes traces of real numbers, got dtype {F.dtype}")


def map_traces(
    block: Callable[..., np.ndarray],
    F: xr.DataArray,
    *per_trace: Any,
    reach: int,
    dtype: Any = np.float32,
    device: str | None = None,
    **options: Any,
) -> xr.DataArray:
    """Map a function of traces ``(…, time)`` over a checked array, eager or lazy.

    ``reach`` is how many frames to each side a sample of the result can depend on: chunks of
    time see so many of their neighbours'. ``per_trace`` arrays, ``(roi or 1, 1)``, are cut into
    blocks with the traces. ``block`` can write to an array ``out`` that it is given.
    Coordinates and name are kept. ``block`` is called where ``device`` says, and the result is
    where ``F`` is.
    """
    device = resolve_device(device, unread(F), "the array of traces")
    F = _ordered(F)
    held = F.data
    block = placed(block, held, device)
    if F.chunks is None and device == "gpu":
        return F.copy(data=block(held, *per_trace, **options))
    if F.chunks is None:
        out = np.empty(F.shape, dtype)

        def write(some: Any) -> None:
            own = [a[some[-2]] if len(a) > 1 else a for a in per_trace]
            block(held[some], *own, **options, out=out[some])

        _in_parallel(write, F.shape)
        return F.copy(data=out)
    import dask.array as da

    traces = join(held, reach)
    cut = traces.numblocks[-1] > 1
    depth = {axis: reach if axis == F.ndim - 1 else 0 for axis in range(F.ndim)}
    if cut:
        traces = da.overlap.overlap(traces, depth, "none", allow_rechunk=False)
    data = da.map_blocks(
        block,
        traces,
        *(da.from_array(a, (traces.chunks[-2] if len(a) > 1 else 1, 1)) for a in per_trace),
        dtype=dtype,
        meta=meta(traces, F.ndim, dtype),
        **options,
    )
    return F.copy(data=da.overlap.trim_internal(data, depth, "none") if cut else data)


def reduce_traces(
    F: xr.DataArray,
    state: Callable[[np.ndarray], np.ndarray],
    merge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    size: int,
) -> xr.DataArray:
    """Turn each trace of a checked array into a float64 number, in one pass over any chunks.

    ``state`` makes arrays ``(…, size)`` of parts ``(…, time)``, ``merge`` one of two of them that
    are next to each other, ``finish`` numbers ``(…)`` of the last one.
    """
    F = _ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    data: Any
    if F.chunks is None:
        data = _reduce_eager(lambda traces: finish(state(traces)), F.data, np.float64)
    else:
        import dask.array as da

        def of_chunk(traces: np.ndarray, **_: Any) -> np.ndarray:
            return state(traces)

        def merged(states: np.ndarray, **_: Any) -> np.ndarray:
            """Merge what Dask has put side by side along the last axis."""
            parts = [states[..., i : i + size] for i in range(0, states.shape[-1], size)]
            return functools.reduce(merge, parts)

        def finished(states: np.ndarray, **_: Any) -> np.ndarray:
            return finish(merged(states))

        data = da.reduction(
            F.data,
            of_chunk,
            finished,
            axis=F.ndim - 1,
            combine=merged,
            dtype=np.float64,
            meta=meta(F.data, F.ndim - 1, np.float64),
        )
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def reduce_whole(
    block: Callable[..., np.ndarray], F: xr.DataArray, device: str | None = None, **options: Any
) -> xr.DataArray:
    """Turn each trace of a checked array into a float32 number, from all of it at once.

    Lazily this brings all of time into one chunk, of some ROIs: each chunk goes to every other.
    """
    device = resolve_device(device, unread(F), "the array of traces")
    F = _ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    held = F.data
    block = placed(block, held, device)
    data: Any
    if F.chunks is None and device == "gpu":
        data = block(held, **options)
    elif F.chunks is None:
        data = _reduce_eager(lambda traces: block(traces, **options), held, np.float32)
    else:
        import dask.array as da

        data = da.map_blocks(
            block,
            _rechunk(held, (F.shape[-1],)),
            drop_axis=F.ndim - 1,
            dtype=np.float32,
            meta=meta(held, F.ndim - 1, np.float32),
            **options,
        )
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def join(traces: da.Array, reach: int, samples: int = 0) -> da.Array:
    """Join chunks of time next to each other until what they see of others is under a third.

    And until they hold ``samples``. Only neighbours are joined, whatever the scheduler. Where
    the joined chunks would be large, they hold fewer ROIs.
    """
    least = max(6 * reach, samples // max(traces.size // max(traces.shape[-1], 1), 1))
    frames, now = [], 0
    for size in traces.chunks[-1]:
        now += size
        if now > least:
            frames.append(now)
            now = 0
    if now:
        frames = [*frames[:-1], sum(frames[-1:]) + now]
    return in_chunks(traces, tuple(frames))


def in_chunks(traces: da.Array, frames: tuple[int, ...]) -> da.Array:
    """Cut time into chunks of so many frames; where these are large, with fewer ROIs in each."""
    return traces if frames == traces.chunks[-1] else _rechunk(traces, frames)


def _rechunk(traces: da.Array, frames: tuple[int, ...]) -> da.Array:
    chunks: list[tuple[int, ...]] = [*traces.chunks[:-1], frames]
    if traces.ndim > 1:
        most = max(int(_CHUNK_BYTES / (4 * max(*frames, 1))), 1)
        parts = [
            np.diff(np.linspace(0, size, -(-size // most) + 1).astype(int))
            for size in traces.chunks[-2]
            if size
        ]
        chunks[-2] = tuple(int(n) for n in np.concatenate(parts)) if parts else (0,)
    # In one step, and by tasks: distributed would otherwise choose a shuffle of everything.
    return traces.rechunk(tuple(chunks), threshold=2**62, method="tasks")


def _ordered(F: xr.DataArray) -> xr.DataArray:
    return F.transpose(..., *(("roi", "time") if "roi" in F.dims else ("time",)))


def _reduce_eager(
    block: Callable[[np.ndarray], np.ndarray], F: np.ndarray, dtype: Any
) -> np.ndarray:
    if array_module(F) is not np:
        return block(F)
    out = np.empty(F.shape[:-1], dtype)

    def write(some: Any) -> None:
        out[some[:-1]] = block(F[some])

    _in_parallel(write, F.shape)
    return out


def _in_parallel(work: Callable[[Any], None], shape: tuple[int, ...]) -> None:
    """Do work on parts of traces in memory, on all cores where there is enough of it.

    It is given the indices of each part: ``(…, some ROIs, all of time)``.
    """
    import os
    from concurrent.futures import ThreadPoolExecutor

    whole = (slice(None),) * len(shape)
    cores, size = os.cpu_count() or 1, int(np.prod(shape))
    if len(shape) < 2 or cores == 1 or size < _PARALLEL:
        work(whole)
        return
    n_parts = min(max(4 * cores, size // _PARALLEL), shape[-2])
    edges = np.linspace(0, shape[-2], n_parts + 1).astype(int)
    parts = [(*whole[:-2], slice(a, b), whole[-1]) for a, b in zip(edges, edges[1:], strict=False)]
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(work, parts))
