"""How every step on traces goes over its input: in memory, or chunk by chunk with Dask."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

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
    **options: Any,
) -> xr.DataArray:
    """Map a function of traces ``(…, time)`` over a checked array, eager or lazy.

    ``reach`` is how many frames to each side a sample of the result can depend on: chunks of
    time see so many of their neighbours'. ``per_trace`` arrays, ``(roi or 1, 1)``, are cut into
    blocks with the traces. Coordinates and name are kept.
    """
    F = _ordered(F)
    if F.chunks is None:
        return F.copy(data=_eager(block, F.values, per_trace, options, F.shape, dtype))
    import dask.array as da

    traces = join(F.data, reach)
    cut = traces.numblocks[-1] > 1
    depth = {axis: reach if axis == F.ndim - 1 else 0 for axis in range(F.ndim)}
    if cut:
        traces = da.overlap.overlap(traces, depth, "none", allow_rechunk=False)
    data = da.map_blocks(
        block,
        traces,
        *(da.from_array(a, (traces.chunks[-2] if len(a) > 1 else 1, 1)) for a in per_trace),
        dtype=dtype,
        meta=np.empty((0,) * F.ndim, dtype),
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

        def whole(traces: np.ndarray) -> np.ndarray:
            return finish(state(traces))

        data = _eager(whole, F.values, (), {}, F.shape[:-1], np.float64)
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
            meta=np.empty((0,) * (F.ndim - 1)),
        )
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def reduce_whole(block: Callable[..., np.ndarray], F: xr.DataArray, **options: Any) -> xr.DataArray:
    """Turn each trace of a checked array into a float32 number, from all of it at once.

    Lazily this brings all of time into one chunk, of some ROIs: each chunk goes to every other.
    """
    F = _ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    data: Any
    if F.chunks is None:
        data = _eager(block, F.values, (), options, F.shape[:-1], np.float32)
    else:
        import dask.array as da

        data = da.map_blocks(
            block,
            _rechunk(F.data, (F.shape[-1],)),
            drop_axis=F.ndim - 1,
            dtype=np.float32,
            meta=np.empty((0,) * (F.ndim - 1), np.float32),
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
    if len(frames) == len(traces.chunks[-1]):
        return traces
    return _rechunk(traces, tuple(frames))


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


def _eager(
    block: Callable[..., np.ndarray],
    F: np.ndarray,
    per_trace: Any,
    options: dict[str, Any],
    shape: tuple[int, ...],
    dtype: Any,
) -> np.ndarray:
    """Apply ``block`` to traces in memory, on all cores where there is work for them."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    cores = os.cpu_count() or 1
    if F.ndim < 2 or cores == 1 or F.size < _PARALLEL:
        return block(F, *per_trace, **options)
    n_blocks = min(max(4 * cores, F.size // _PARALLEL), F.shape[-2])
    edges = np.linspace(0, F.shape[-2], n_blocks + 1).astype(int)
    out = np.empty(shape, dtype)
    time: Any = (slice(None),) * (len(shape) - F.ndim + 1)  # where the result has it

    def apply(start: int, stop: int) -> None:
        own = [a[start:stop] if len(a) > 1 else a for a in per_trace]
        out[(..., slice(start, stop), *time)] = block(F[..., start:stop, :], *own, **options)

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(apply, edges[:-1], edges[1:]))
    return out
