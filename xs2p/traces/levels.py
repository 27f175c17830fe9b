"""Numbers for each trace in each segment, of all its frames at once, and back to every frame."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xs2p._frames import starts_of
from xs2p.compute.arrays import array_module, as_array, meta
from xs2p.traces.blocks import cut_as, in_parallel, ordered, own_rows, rechunk, with_data
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import whole_in_time


def levels_of(
    block: Callable[..., Any],
    F: xr.DataArray,
    *per_trace: Any,
    size: int = 1,
    dtype: Any = np.float32,
    whole: bool = False,
    in_passes: bool = False,
    beside: Sequence[xr.DataArray] = (),
    **options: Any,
) -> Any:
    """Find ``size`` numbers for each trace of a checked array in each of its segments.

    Parameters
    ----------
    block
        Makes an array ``(…)``, or ``(…, size)``, of traces ``(…, time)`` of one segment, NaN where
        a frame does not count, of those ``beside`` them, and of what is known ``per_trace``.
    F
        Traces; lazily all of time comes into one chunk, of some ROIs.
    per_trace
        Arrays ``(roi or 1, 1)``, of which ``block`` is given the rows of its traces.
    whole
        Give traces in memory to ``block`` at once, not in parts to threads.
    in_passes
        Compute it now, some ROIs after the others: that no more of a stored array is in memory.
    beside
        Other traces of the same ROIs and frames.

    Returns
    -------
    Array ``(…, segments · size)``, lazy where ``F`` is, but for ``in_passes``.
    """
    F = ordered(F)
    held, edges = counted(F).data, (*starts_of(F), F.sizes["time"])
    others = [counted(array.transpose(*F.dims)).data for array in beside]
    width = size * (len(edges) - 1)
    find = functools.partial(
        _of_each,
        n_traces=1 + len(others),
        block=block,
        edges=edges,
        size=size,
        dtype=dtype,
        options=options,
    )
    if F.chunks is None and (whole or array_module(held) is not np):
        return find(held, *others, *per_trace)
    if F.chunks is None:
        out = np.empty((*F.shape[:-1], width), dtype)

        def write(some: Any) -> None:
            same = (other[some] for other in others)
            own = (own_rows(a, some, F.shape) for a in per_trace)
            out[some[:-1]] = find(held[some], *same, *own)

        in_parallel(write, F.shape)
        return out
    import dask.array as da

    traces = whole_in_time(held)
    axes, more = tuple(range(F.ndim)), []
    for other in others:
        more += [rechunk(da.asarray(other), traces.chunks), axes]
    for a in per_trace:
        more += cut_as(traces, a)
    levels = da.blockwise(
        find,
        axes,
        traces,
        axes,
        *more,
        adjust_chunks={axes[-1]: width},
        concatenate=True,
        align_arrays=False,
        dtype=dtype,
        meta=meta(held, F.ndim, dtype),
    )
    return _in_passes(levels) if in_passes else levels


def _of_each(
    *arrays: Any,
    n_traces: int,
    block: Callable[..., Any],
    edges: tuple[int, ...],
    size: int,
    dtype: Any,
    options: dict[str, Any],
) -> Any:
    """Call ``block`` on each segment of so many traces; what else there is goes with each."""
    traces, own = arrays[:n_traces], arrays[n_traces:]
    found = [
        block(*(each[..., a:b] for each in traces), *own, **options)
        for a, b in itertools.pairwise(edges)
    ]
    rows = (*traces[0].shape[:-1], size)
    return array_module(traces[0]).concatenate(
        [part.reshape(rows).astype(dtype, copy=False) for part in found], axis=-1
    )


def _in_passes(levels: Any) -> Any:
    """Compute one row of chunks after the other."""
    if levels.ndim < 2:
        return levels.compute()
    rows = [levels.blocks[..., n, :].compute() for n in range(levels.numblocks[-2])]
    return array_module(rows[0]).concatenate(rows, axis=-2) if rows else levels.compute()


def spread(
    levels: Any,
    F: xr.DataArray,
    value: Callable[[Any, np.ndarray], Any] | None = None,
    size: int = 1,
) -> xr.DataArray:
    """Give every frame what :func:`levels_of` found for its segment: float32, as ``F``, in order.

    ``value`` makes it of the ``size`` numbers of a segment ``(…, size)`` and the numbers of frames
    in that; by default it is the one number that there is.
    """
    F = ordered(F)
    lengths = np.diff([*starts_of(F), F.sizes["time"]])
    place = np.stack(
        [np.repeat(np.arange(lengths.size), lengths), np.concatenate([*map(np.arange, lengths)])],
        axis=-1,
    )
    put = functools.partial(_at_frames, size=size, value=value)
    if F.chunks is None:
        return with_data(F, put(levels, place))
    import dask.array as da

    axes = tuple(range(F.ndim))
    if not isinstance(levels, da.Array):
        levels = da.from_array(levels, -1, asarray=False)
    own = levels.rechunk((*F.chunks[:-1], -1))
    data = da.blockwise(
        put,
        axes,
        own,
        (*axes[:-1], F.ndim),
        da.from_array(place, (F.chunks[-1], 2)),
        (axes[-1], F.ndim + 1),
        concatenate=True,
        align_arrays=False,
        dtype=np.float32,
        meta=meta(F.data, F.ndim, np.float32),
    )
    return with_data(F, data)


def _at_frames(levels: Any, place: np.ndarray, *, size: int, value: Any) -> Any:
    """Put together ``(…, time)`` of the levels of segments; ``place`` is segment and frame."""
    xp = array_module(levels)
    if value is None:
        return xp.take(levels, as_array(xp, place[:, 0]), axis=-1).astype(np.float32, copy=False)
    cuts = np.flatnonzero(np.diff(place[:, 0])) + 1
    parts = []
    for some in np.split(place, cuts):
        first = int(some[0, 0]) * size if len(some) else 0
        parts.append(value(levels[..., first : first + size], some[:, 1]))
    return xp.concatenate(parts, axis=-1).astype(np.float32, copy=False)
