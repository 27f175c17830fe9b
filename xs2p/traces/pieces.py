"""What a step sees of a block of traces: one segment at a time, and gaps of time bridged.

A sample that is NaN does not count, whether it was NaN or its frame is not ``valid``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._frames import valid_of
from xs2p.compute.arrays import array_module, as_array

if TYPE_CHECKING:
    import dask.array as da

_LONG = 2**11  # frames of a gap that is bridged, at least
# Of a chunk: value and frame of its first sample that counts, of its last one, and the same without
# the frames at either end that its neighbours see.
_FIRST, _LAST, _INNER_FIRST, _INNER_LAST = range(0, 8, 2)
_ENDS = 8


def longest_gap(reach: int) -> int:
    """How far a sample that does not count looks for ones that do, in frames."""
    return max(5 * reach, _LONG)


class Pieces(NamedTuple):
    """A function of traces ``(…, time)`` that is called for each segment by itself."""

    block: Callable[..., Any]
    starts: tuple[int, ...]
    """First frame of each segment, of the whole recording."""
    longest: int = 0
    """Frames over which gaps are bridged; 0: the function is given NaN as they are."""
    holes: bool = False
    """Whether results are NaN in gaps."""
    gaps: bool = False
    """Whether the function is given the traces with their gaps too, after those without."""

    def __call__(
        self, traces: Any, *own: Any, first: int = 0, ends: Sequence[Any] = (), **options: Any
    ) -> Any:
        """Call it on frames ``first …`` of a recording; of its other chunks ``ends`` are known."""
        n_frames = traces.shape[-1]
        cuts = [start - first for start in self.starts if 0 < start - first < n_frames]
        parts = []
        for start, stop in zip([0, *cuts], [*cuts, n_frames], strict=True):
            part = traces[..., start:stop]
            full = part
            if self.longest:
                full = self._bridged(part, first + start, ends)
            mine = [self._of_segment(a, first + start) for a in own]
            made = self.block(full, *([part] if self.gaps else []), *mine, **options)
            if self.holes and full is not part:
                made = array_module(made).where(array_module(made).isnan(part), np.nan, made)
                made = made.astype(np.float32, copy=False)
            parts.append(made)
        return parts[0] if len(parts) == 1 else array_module(parts[0]).concatenate(parts, axis=-1)

    def _number(self, frame: int) -> int:
        """Return which segment a frame is of, from 0."""
        return int(np.searchsorted(np.array(self.starts), frame, side="right")) - 1

    def _of_segment(self, known: Any, frame: int) -> Any:
        """Choose what is known of each trace in the segment of a frame: ``(…, 1)``."""
        if known.shape[-1] == 1:
            return known
        number = self._number(frame)
        return known[..., number : number + 1]

    def _bridged(self, part: Any, first: int, ends: Sequence[Any]) -> Any:
        """Fill the gaps of a part of one segment, from what is known beyond it too."""
        stop = first + part.shape[-1]
        starts = np.array([*self.starts, np.iinfo(np.int64).max])
        n = self._number(first)
        left, right = starts[n], starts[n + 1]  # of its segment
        before = after = None
        for known in ends:
            for end in (_LAST, _INNER_LAST):
                frame = known[..., end + 1]
                before = _nearer(before, known[..., end], first - frame, frame >= left)
            for end in (_FIRST, _INNER_FIRST):
                frame = known[..., end + 1]
                after = _nearer(after, known[..., end], frame - stop + 1, frame < right)
        return bridge(part, self.longest, before, after)


def _nearer(best: Any, value: Any, distance: Any, fits: Any) -> Any:
    """Keep of two samples beyond a part, ``(value, frames away)``, the nearer that is one."""
    xp = array_module(value)
    distance = xp.where(fits & (distance > 0), distance, np.inf)
    if best is None:
        return value, distance
    nearer = distance < best[1]
    return xp.where(nearer, value, best[0]), xp.where(nearer, distance, best[1])


def bridge(traces: Any, longest: int, before: Any = None, after: Any = None) -> Any:
    """Fill NaN of traces ``(…, time)`` linearly; at the ends of a trace they are held.

    A sample takes part of what counts within ``longest`` frames of it, to either side: of both by
    its distance, of one alone as it is, of none NaN. ``before`` and ``after`` are the nearest ones
    beyond the ends, values and frames away ``(…,)``. The same array comes back where nothing is to
    be filled.
    """
    xp = array_module(traces)
    gap = xp.isnan(traces) if traces.dtype.kind == "f" else None
    if gap is None or not bool(gap.any()):
        return traces
    n_frames = traces.shape[-1]
    known, holes = xp.flatnonzero(~gap), xp.flatnonzero(gap)
    row, at = holes // n_frames, holes % n_frames
    flat = xp.ascontiguousarray(traces).reshape(-1)
    place = xp.searchsorted(known, holes)

    def beside(index: Any, there: Any, distance: Any, beyond: Any, away: Any) -> Any:
        value, far = xp.full(holes.shape, np.nan), xp.full(holes.shape, np.inf)
        if beyond is not None:
            value, far = beyond[0].reshape(-1)[row], beyond[1].reshape(-1)[row] + away
        if not known.size:
            return value, far
        sample = known[xp.clip(index, 0, known.size - 1)]
        same = there & (sample // n_frames == row)
        value = xp.where(same, flat[sample].astype(np.float64), value)
        return value, xp.where(same, distance(sample), far)

    a, to_a = beside(place - 1, place > 0, lambda sample: holes - sample, before, at)
    b, to_b = beside(
        place, place < known.size, lambda sample: sample - holes, after, n_frames - 1 - at
    )
    near_a, near_b = to_a <= longest, to_b <= longest
    both = near_a & near_b
    whole = xp.where(both, to_a + to_b, 1.0)
    slope = xp.where(both, b - a, 0.0) / whole  # in numpy.interp's order
    linear = slope * xp.where(both, to_a, 0.0) + a
    filled = flat.copy()
    filled[holes] = xp.where(both, linear, xp.where(near_a, a, xp.where(near_b, b, np.nan)))
    return filled.reshape(traces.shape)


def ends_of(traces: Any, frames: np.ndarray, reach: int) -> Any:
    """Find the ends of a chunk that begins at ``frames[0]``: ``(…, 8)``; NaN where none counts."""
    xp, n_frames = array_module(traces), traces.shape[-1]
    counts = ~xp.isnan(traces)
    ends = xp.full((*traces.shape[:-1], _ENDS), np.nan)
    for end, start, stop in (
        (_FIRST, 0, n_frames),
        (_LAST, 0, n_frames),
        (_INNER_FIRST, reach, n_frames),
        (_INNER_LAST, 0, n_frames - reach),
    ):
        own = counts[..., start:stop]
        if stop <= start:
            continue
        if end in (_LAST, _INNER_LAST):
            index = stop - 1 - own[..., ::-1].argmax(axis=-1)
        else:
            index = start + own.argmax(axis=-1)
        sample = xp.take_along_axis(traces, index[..., None], axis=-1)[..., 0]
        some = own.any(axis=-1)
        ends[..., end] = xp.where(some, sample, np.nan)
        ends[..., end + 1] = xp.where(some, index + int(frames[0]), np.nan)
    return ends


def ends_beside(traces: da.Array, firsts: da.Array, reach: int, n_beside: int) -> list[Any]:
    """Return ends of the chunks up to ``n_beside`` away, as arguments of ``blockwise``.

    Those that a chunk at the end lacks are others', which the frames tell.
    """
    import dask.array as da

    axes = tuple(range(traces.ndim))
    n_chunks = traces.numblocks[-1]
    ends = da.blockwise(
        ends_of,
        axes,
        traces,
        axes,
        firsts,
        axes[-1:],
        adjust_chunks={axes[-1]: (_ENDS,) * n_chunks},
        align_arrays=False,
        dtype=np.float64,
        meta=traces._meta.astype(np.float64),
        reach=reach,
    )
    more: list[Any] = []
    for shift in (*range(-n_beside, 0), *range(1, n_beside + 1)):
        there = np.clip(np.arange(n_chunks) + shift, 0, n_chunks - 1)
        more += [ends.blocks[(..., there.tolist())], axes]
    return more


def counted(F: xr.DataArray) -> xr.DataArray:
    """Traces with NaN where a frame does not count; as they are where all do."""
    valid = valid_of(F)
    if valid is None:
        return F
    mask: Any = valid.data
    if "roi" in valid.dims and F.dims[-2:] != ("roi", "time"):
        raise ValueError(f"valid is over roi and time, the traces are over {F.dims}")
    dtype = F.dtype if F.dtype.kind == "f" else np.dtype(np.float32)
    data: Any
    if F.chunks is None:
        data = _where(F.data, valid.values, dtype)
    else:
        import dask.array as da

        axes = tuple(range(F.ndim))
        held, chunks = F.data, F.data.chunks[-mask.ndim :]
        blocks = da.from_array(mask, chunks) if valid.chunks is None else mask.rechunk(chunks)
        args = (held, axes, blocks, axes[-mask.ndim :])
        data = da.blockwise(_where, axes, *args, kind=dtype, dtype=dtype, align_arrays=False)
    return F.copy(data=data)


def _where(traces: Any, mask: Any, kind: Any) -> Any:
    xp = array_module(traces)
    return xp.where(as_array(xp, mask), traces.astype(kind, copy=False), kind.type(np.nan))
