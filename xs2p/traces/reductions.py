"""Numbers for each trace, in one pass over any chunks or of all of time at once."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._frames import Labelled, by_segment, labels_of, starts_of
from xs2p.compute.arrays import array_module, meta
from xs2p.traces.blocks import in_parallel, ordered, rechunk
from xs2p.traces.pieces import counted

if TYPE_CHECKING:
    import dask.array as da

_PART = 2**11  # frames that are reduced at once, counted from the first of all
_CHUNK_BYTES = 128e6  # of traces in one chunk that has to hold all of time, about


def reduce_traces(
    F: xr.DataArray,
    state: Callable[..., np.ndarray],
    merge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    size: int,
    *,
    beside: Sequence[xr.DataArray] = (),
    exact: bool = False,
) -> xr.DataArray:
    """Turn each trace of a checked array into a float64 number, in one pass over any chunks.

    ``state`` makes arrays ``(…, size)`` of parts ``(…, time)`` of the traces, then of those
    ``beside`` them, which have the same sizes, and of where segments begin in them (None where
    none does but the first); ``merge`` makes one of two of parts that are next to each other,
    ``finish`` numbers ``(…)`` of the last one. A frame that does not count is NaN. Parts are the
    same frames whatever the chunks are, and results so the same bits; where merging is ``exact``,
    chunks may be the parts.
    """
    F = ordered(F)
    coords = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    held = [counted(array.transpose(*F.dims)).data for array in (F, *beside)]
    starts, begins = starts_of(F), None
    if len(starts) > 1:
        begins = np.zeros(F.sizes["time"], bool)
        begins[list(starts)] = True
    states = functools.partial(_states, state=state, part=None if exact else _PART)
    finished = functools.partial(_finished, merge=merge, finish=finish, size=size)
    data: Any
    if F.chunks is None:
        data = _reduce_eager(lambda *some: finished(states(*some, begins)), held, np.float64)
    else:
        data = _reduce_lazy(states, finished, held, begins, None if exact else _PART, size)
    return xr.DataArray(data, coords, F.dims[:-1], name=F.name)


def _states(*held: Any, state: Callable[..., np.ndarray], part: int | None) -> np.ndarray:
    """States of the parts of some traces, side by side; last, where segments begin in them."""
    *traces, begins = held
    n_frames = traces[0].shape[-1]
    made = []
    for start in range(0, n_frames, part or n_frames):
        frames = slice(start, start + (part or n_frames))
        own = None if begins is None else begins[frames]
        made.append(state(*(trace[..., frames] for trace in traces), own))
    return made[0] if len(made) == 1 else array_module(made[0]).concatenate(made, axis=-1)


def _finished(
    states: np.ndarray,
    merge: Callable[[np.ndarray, np.ndarray], np.ndarray],
    finish: Callable[[np.ndarray], np.ndarray],
    size: int,
) -> np.ndarray:
    """Merge what lies side by side, the first with the second and so on."""
    parts = [states[..., i : i + size] for i in range(0, states.shape[-1], size)]
    return finish(functools.reduce(merge, parts))


def _reduce_lazy(
    states: Callable[..., np.ndarray],
    finished: Callable[..., np.ndarray],
    held: list[Any],
    begins: np.ndarray | None,
    part: int | None,
    size: int,
) -> Any:
    """States chunk by chunk, in chunks of whole parts, and what is made of all of them."""
    import dask.array as da

    first, axes = held[0], tuple(range(held[0].ndim))
    chunks = first.chunks if part is None else (*first.chunks[:-1], _whole(first.chunks[-1], part))
    args: list[Any] = []
    for array in held:
        array = da.asarray(array)
        args += [array if array.chunks == chunks else rechunk(array, chunks), axes]
    known = begins is not None
    args += [da.from_array(begins, chunks[-1:]) if known else None, axes[-1:] if known else None]
    of_each = tuple(size * (1 if part is None else -(-n // part)) for n in chunks[-1])
    made = da.blockwise(
        states,
        axes,
        *args,
        adjust_chunks={axes[-1]: of_each},
        align_arrays=False,
        dtype=np.float64,
        meta=meta(first, first.ndim, np.float64),
    )
    return da.blockwise(
        finished,
        axes[:-1],
        made,
        axes,
        concatenate=True,
        dtype=np.float64,
        meta=meta(first, first.ndim - 1, np.float64),
    )


def _whole(frames: tuple[int, ...], part: int) -> tuple[int, ...]:
    """Move the borders of chunks of time to the nearest ones of parts."""
    *borders, last = np.cumsum((0, *frames)).tolist()
    moved = {min((border + part // 2) // part * part, last) for border in borders}
    return tuple(np.diff(sorted({*moved, last})).tolist())


def each_segment(statistic: Callable[[Labelled], Labelled], F: Labelled) -> Any:
    """Statistic of each segment of traces, over ``segment`` and the dims of one of the whole."""
    parts = [statistic(part.drop_vars("segment", errors="ignore")) for part in by_segment(F)]
    label = labels_of(F)
    joined: Any = xr.concat(parts, xr.DataArray(label, name="segment"), coords="minimal")
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
        data = _reduce_eager(lambda traces: block(traces, **options), [held], np.float32)
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


def _reduce_eager(block: Callable[..., np.ndarray], held: list[Any], dtype: Any) -> np.ndarray:
    first = held[0]
    if array_module(first) is not np:
        return block(*held)
    out = np.empty(first.shape[:-1], dtype)

    def write(some: Any) -> None:
        out[some[:-1]] = block(*(array[some] for array in held))

    in_parallel(write, first.shape)
    return out
