"""Numbers for each trace, in one pass over any chunks or of all of time at once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._frames import by_segment, labels_of, starts_of
from xs2p.compute.arrays import array_module, meta
from xs2p.traces.blocks import in_parallel, ordered, rechunk
from xs2p.traces.pieces import counted

if TYPE_CHECKING:
    import dask.array as da

_CHUNK_BYTES = 128e6  # of traces in one chunk that has to hold all of time, about


def reduce_traces(
    F: xr.DataArray,
    state: Callable[[np.ndarray, np.ndarray | None], np.ndarray],
    merge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    size: int,
) -> xr.DataArray:
    """Turn each trace of a checked array into a float64 number, in one pass over any chunks.

    ``state`` makes arrays ``(…, size)`` of parts ``(…, time)`` and of where segments begin in them
    (None where none does but the first), ``merge`` one of two of them that are next to each other,
    ``finish`` numbers ``(…)`` of the last one. A frame that does not count is NaN.
    """
    F = ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    held, starts = counted(F).data, starts_of(F)
    begins = None
    if len(starts) > 1:
        begins = np.zeros(F.sizes["time"], bool)
        begins[list(starts)] = True
    data: Any
    if F.chunks is None:
        data = _reduce_eager(lambda traces: finish(state(traces, begins)), held, np.float64)
    else:
        import dask.array as da

        axes = tuple(range(F.ndim))
        more = () if begins is None else (da.from_array(begins, held.chunks[-1]), axes[-1:])
        states = da.blockwise(
            _state_of,
            axes,
            held,
            axes,
            *more,
            adjust_chunks={axes[-1]: (size,) * held.numblocks[-1]},
            align_arrays=False,
            dtype=np.float64,
            meta=meta(held, F.ndim, np.float64),
            state=state,
        )

        def merged(states: np.ndarray, **_: Any) -> np.ndarray:
            """Merge what Dask has put side by side along the last axis."""
            parts = [states[..., i : i + size] for i in range(0, states.shape[-1], size)]
            return functools.reduce(merge, parts)

        def finished(states: np.ndarray, **_: Any) -> np.ndarray:
            return finish(merged(states))

        data = da.reduction(
            states,
            merged,
            finished,
            axis=F.ndim - 1,
            combine=merged,
            dtype=np.float64,
            meta=meta(held, F.ndim - 1, np.float64),
        )
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def _state_of(
    traces: np.ndarray, begins: np.ndarray | None = None, *, state: Callable[..., np.ndarray]
) -> np.ndarray:
    return state(traces, begins)


def each_segment(statistic: Callable[[xr.DataArray], xr.DataArray], F: xr.DataArray) -> Any:
    """Statistic of each segment of traces, over ``segment`` and the dims of one of the whole."""
    parts = [statistic(part.drop_vars("segment", errors="ignore")) for part in by_segment(F)]
    label = labels_of(F)
    joined: xr.DataArray = xr.concat(parts, xr.DataArray(label, name="segment"), coords="minimal")
    return joined.assign_coords(segment=label)


def reduce_whole(
    block: Callable[..., np.ndarray], F: xr.DataArray, *, whole: bool = False, **options: Any
) -> xr.DataArray:
    """Turn each trace of a checked array into a float32 number, from all of it at once.

    Lazily this brings all of time into one chunk, of some ROIs: each chunk goes to every other.
    """
    F = ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    held = F.data
    data: Any
    if F.chunks is None and whole:
        data = block(held, **options)
    elif F.chunks is None:
        data = _reduce_eager(lambda traces: block(traces, **options), held, np.float32)
    else:
        import dask.array as da

        data = da.map_blocks(
            block,
            whole_in_time(held),
            drop_axis=F.ndim - 1,
            dtype=np.float32,
            meta=meta(held, F.ndim - 1, np.float32),
            **options,
        )
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def whole_in_time(traces: da.Array) -> da.Array:
    """Bring all of time into one chunk, of as many ROIs as are not too much."""
    chunks: dict[int, Any] = {traces.ndim - 1: -1}
    if traces.ndim > 1:
        widest = max(traces.chunks[-2], default=0)
        most = int(max(_CHUNK_BYTES // (4 * traces.shape[-1]), 1))
        if widest > most:
            chunks[traces.ndim - 2] = -(-widest // -(-widest // most))
    return rechunk(traces, chunks)


def _reduce_eager(
    block: Callable[[np.ndarray], np.ndarray], F: np.ndarray, dtype: Any
) -> np.ndarray:
    if array_module(F) is not np:
        return block(F)
    out = np.empty(F.shape[:-1], dtype)

    def write(some: Any) -> None:
        out[some[:-1]] = block(F[some])

    in_parallel(write, F.shape)
    return out
