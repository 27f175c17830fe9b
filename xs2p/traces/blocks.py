"""How every step on traces goes over its input: in memory, or chunk by chunk with Dask."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from xs2p._frames import starts_of
from xs2p.compute.arrays import array_module, meta
from xs2p.compute.threads import cores, in_threads
from xs2p.traces.pieces import Pieces, counted, ends_beside, longest_gap

if TYPE_CHECKING:
    import dask.array as da

Traces = TypeVar("Traces", xr.DataArray, xr.Dataset)

_PARALLEL = 2**20  # samples that are worth a second thread


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


def check_same(F: xr.DataArray, other: xr.DataArray, name: str, makes: str = "") -> None:
    """Raise a ValueError unless ``F`` and other traces are of the same ROIs and frames.

    Those are called ``name``; ``makes`` is the call that makes such as are.
    """
    if dict(F.sizes) != dict(other.sizes):
        raise ValueError(
            f"F and {name} must be of the same ROIs and frames; F has sizes {dict(F.sizes)}, "
            f"{name} {dict(other.sizes)}{makes and f': {makes} makes one'}"
        )
    for dim in set(F.indexes) & set(other.indexes):
        if not F.indexes[dim].equals(other.indexes[dim]):
            raise ValueError(
                f"F and {name} have different labels of {dim}; "
                f"{makes and f'{makes} makes one that fits, '}{name}.reindex_like(F) picks the same"
            )


def map_traces(
    block: Callable[..., np.ndarray], F: xr.DataArray, *per_trace: Any, **how: Any
) -> xr.DataArray:
    """:func:`mapped`, labelled as the traces are; coordinates and name are kept."""
    F = ordered(F)
    return with_data(F, mapped(block, F, *per_trace, **how))


def mapped(
    block: Callable[..., np.ndarray],
    F: xr.DataArray,
    *per_trace: Any,
    reach: int,
    then: int = 0,
    made: int = 0,
    size: int | None = None,
    through: Callable[..., Any] | None = None,
    whole: bool = False,
    bridged: bool = False,
    holes: bool = False,
    gaps: bool = False,
    dtype: Any = np.float32,
    **options: Any,
) -> Any:
    """Map a function of traces ``(…, time)`` over a checked array, eager or lazy.

    It is called for each segment by itself, and given NaN where a frame does not count; or,
    ``bridged``, what :func:`xs2p.traces.pieces.bridge` makes of it, where results are NaN only if
    ``holes`` are wanted; then, ``gaps``, the same with NaN too.

    ``reach`` is how many frames to each side a sample of the result can depend on: chunks of
    time see so many of their neighbours'. ``per_trace`` arrays, ``(roi or 1, 1)`` or, of each
    trace, ``(…, 1 or segments)``, are cut into blocks with the traces. Traces in memory are shared
    out among threads, or, ``whole``, given to ``block`` at once.

    A block of two steps, of which the second sees ``then`` frames of what the first makes, returns
    as many arrays as are ``made``, ``(made, …, time)``. It is called by way of ``through``, as
    ``through(pieces, parts, inner, own, **options)``: with the parts of time that it sees, and the
    frames of them that are wanted. What makes ``size`` numbers of these, in place of frames, is
    called by such a way too; lazily those of all chunks lie side by side.

    ``F`` is as :func:`ordered` has it; what comes back is what it holds, made anew.
    """
    held = counted(F).data
    pieces = Pieces(block, starts_of(F), longest_gap(reach) if bridged else 0, holes, gaps)
    if F.chunks is None and through is not None:
        return through(pieces, [held], slice(None), per_trace, **options)
    if F.chunks is None and whole:
        return pieces(held, *per_trace, **options)
    if F.chunks is None:
        out = np.empty(F.shape, dtype)

        def write(some: Any) -> None:
            own = [own_rows(a, some, F.shape) for a in per_trace]
            out[some] = pieces(held[some], *own, **options)

        in_parallel(write, F.shape)
        return out
    import dask.array as da

    traces = join(held, max(reach, then))
    axes = range(F.ndim)
    new = {F.ndim + 1: made} if made else {}
    more: list[Any] = []
    function: Any = pieces if through is None else functools.partial(_alone, pieces, through)
    if traces.numblocks[-1] > 1:
        more = _neighbours(traces, reach + then, pieces.longest)
        n_ends = (len(more) - 6) // 2
        function = functools.partial(_between, pieces, n_ends=n_ends, through=through or _here)
    for a in per_trace:
        more += cut_as(traces, a)
    return da.blockwise(
        function,
        (*new, *axes),
        traces,
        axes,
        *more,
        new_axes=new,
        adjust_chunks={} if size is None else {axes[-1]: size},
        concatenate=True,
        align_arrays=False,
        dtype=dtype,
        meta=meta(traces, F.ndim + len(new), dtype),
        **options,
    )


def own_rows(a: Any, some: Any, shape: tuple[int, ...]) -> Any:
    """Rows of what is known of each trace, or of each ROI, that belong to some traces."""
    if a.shape[:-1] == shape[:-1]:
        return a[some[:-1]]
    return a[some[-2]] if len(a) > 1 else a


def cut_as(traces: da.Array, a: Any) -> list[Any]:
    """Cut what is known of each trace, or of each ROI, as the traces: an argument of blockwise."""
    import dask.array as da

    of_traces = a.shape[:-1] == traces.shape[:-1]
    if not of_traces and len(a) == 1:
        return [a, None]
    axes = range(traces.ndim)[:-1] if of_traces else range(traces.ndim)[-2:-1]
    lazy = a if isinstance(a, da.Array) else da.from_array(a, -1, asarray=False)
    return [lazy.rechunk((*(traces.chunks[k] for k in axes), -1)), (*axes, traces.ndim)]


def with_data(F: xr.DataArray, data: Any) -> xr.DataArray:
    """Put new data in the place of an array's: how the old were packed in a file is not theirs."""
    return storable(F.copy(data=data))


def _neighbours(traces: da.Array, reach: int, longest: int) -> list[Any]:
    """Return what :func:`_between` sees beside a chunk of time, as arguments of ``blockwise``.

    That is ``reach`` frames of each neighbour, in copies: a part of a chunk would keep all of it
    in memory. The first chunk and the last are given frames of their own in place of the
    neighbour that they lack; the frame that each chunk begins with, and how many there are, tell.
    Where gaps are bridged, the ends of chunks that are ``longest`` frames away come too.
    """
    import dask.array as da

    axes = tuple(range(traces.ndim))
    n_chunks, frames = traces.numblocks[-1], traces.chunks[-1]
    begins = np.cumsum([0, *frames])[:-1]
    firsts = da.from_array(np.stack([begins, np.full(n_chunks, sum(frames))], -1).ravel(), 2)
    last = n_chunks - 1
    more: list[Any] = []
    for side, there in (("before", (0, *range(last))), ("after", (*range(1, last + 1), last))):
        edges = da.map_blocks(
            _edge,
            traces,
            side=side,
            reach=reach,
            chunks=(*traces.chunks[:-1], (reach,) * n_chunks),
            dtype=traces.dtype,
            meta=traces._meta,
        )
        more += [edges.blocks[(..., list(there))], axes]
    more += [firsts, axes[-1:]]
    if longest and traces.dtype.kind == "f":
        beside = min(-(-(longest + reach) // max(frames)), last)
        more += ends_beside(traces, firsts, reach, beside)
    return more


def _edge(traces: np.ndarray, side: str, reach: int) -> np.ndarray:
    start = 0 if side == "after" else traces.shape[-1] - reach
    return traces[..., start : start + reach].copy()


def _here(pieces: Pieces, parts: list[Any], inner: slice, own: Any, **options: Any) -> Any:
    """Call ``pieces`` on parts of time that follow each other, and keep some frames."""
    seen = parts[0] if len(parts) == 1 else array_module(parts[0]).concatenate(parts, axis=-1)
    return pieces(seen, *own, **options)[..., inner]


def _alone(pieces: Pieces, through: Any, traces: np.ndarray, *own: Any, **options: Any) -> Any:
    return through(pieces, [traces], slice(None), own, **options)


def _between(
    pieces: Pieces,
    traces: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    place: np.ndarray,
    *others: Any,
    n_ends: int,
    through: Callable[..., Any],
    **options: Any,
) -> np.ndarray:
    """Call ``pieces`` on a chunk of time that sees so much of its neighbours."""
    first, n_frames = map(int, place)
    parts, start = [traces], 0
    if first > 0:
        parts.insert(0, before)
        start = before.shape[-1]
    if first + traces.shape[-1] < n_frames:
        parts.append(after)
    ends, own = others[:n_ends], others[n_ends:]
    inner = slice(start, start + traces.shape[-1])
    return through(pieces, parts, inner, own, first=first - start, ends=ends, **options)


def join(traces: da.Array, reach: int, samples: int = 0) -> da.Array:
    """Join chunks of time next to each other until what they see of others is under a third.

    And until they hold ``samples``. Only neighbours are joined, whatever the scheduler, and all
    ROIs stay together: cut into two chunks, Dask would go through all of time with one of them
    while the other waits in memory. Joined chunks are of one size, but for a shorter one at the
    end, which is what a Zarr store can take.
    """
    per_frame = traces.size // max(traces.shape[-1], 1)
    return in_chunks(traces, joined_chunks(traces.chunks[-1], per_frame, reach, samples))


def joined_chunks(
    frames: tuple[int, ...], per_frame: int, reach: int, samples: int = 0
) -> tuple[int, ...]:
    """Frames of each chunk that :func:`join` makes of chunks of ``frames``."""
    return _even(frames, max(6 * reach, samples // max(per_frame, 1)) + 1, reach)


def _even(frames: tuple[int, ...], least: int, reach: int) -> tuple[int, ...]:
    """Cut time into equal chunks of ``least`` frames and more, the last of ``reach`` or more."""
    total, first = sum(frames), max(frames, default=0)
    least = max(least, first)
    sizes = itertools.chain(
        range(-(-least // max(first, 1)) * first, min(2 * least, total), max(first, 1)),  # borders
        range(least, total),
    )
    for size in sizes:
        rest = total % size
        if rest == 0 or rest >= reach:
            return (*(size,) * (total // size), *((rest,) if rest else ()))
    return (total,)


def in_chunks(traces: da.Array, frames: tuple[int, ...]) -> da.Array:
    """Cut time into chunks of so many frames."""
    return traces if frames == traces.chunks[-1] else rechunk(traces, {traces.ndim - 1: frames})


def rechunk(traces: da.Array, chunks: Any) -> da.Array:
    """Cut traces anew in one step and by tasks: distributed would shuffle everything."""
    return traces.rechunk(chunks, threshold=2**62, method="tasks")


def turned(F: xr.DataArray, polarity: int) -> xr.DataArray:
    """Traces in which activity goes up: as they are, or, with the polarity -1, −F."""
    return F if polarity == 1 else (-F.astype(np.float32)).assign_attrs(F.attrs).rename(F.name)


def ordered(F: xr.DataArray) -> xr.DataArray:
    """Bring ``roi`` and ``time`` to the end."""
    return F.transpose(..., *(("roi", "time") if "roi" in F.dims else ("time",)))


def in_parallel(work: Callable[[Any], None], shape: tuple[int, ...]) -> None:
    """Do work on parts of traces in memory, on all cores where there is enough of it.

    It is given the indices of each part: ``(…, some ROIs, all of time)``.
    """
    whole = (slice(None),) * len(shape)
    size = int(np.prod(shape))
    if len(shape) < 2 or size < _PARALLEL or cores() == 1:
        work(whole)
        return
    n_parts = min(max(4 * cores(), size // _PARALLEL), shape[-2])
    edges = np.linspace(0, shape[-2], n_parts + 1).astype(int)
    parts = [(*whole[:-2], slice(a, b), whole[-1]) for a, b in zip(edges, edges[1:], strict=False)]
    in_threads(work, parts)


SAMPLES = 2**18  # of a variable in one chunk of time, at least


def long_chunks(frames: tuple[int, ...], n_rois: int, reach: int) -> tuple[int, ...]:
    """Join chunks of time until the steps to come are at ease with them."""
    return joined_chunks(frames, n_rois, reach, SAMPLES)


def joined(traces: xr.Dataset, reach: int) -> xr.Dataset:
    """Traces in chunks of time that are long enough for the steps to come, the same for all."""
    if traces["F"].chunks is None:
        return traces
    # The variables alone: ds.chunk would make Dask arrays of the labels too.
    data = traces["F"].data
    frames = long_chunks(data.chunks[-1], data.size // max(data.shape[-1], 1), reach)
    joined: dict[str, Any] = {
        str(name): (
            array.dims,
            array.data if array.chunks is None else in_chunks(array.data, frames),
            array.attrs,
        )
        for name, array in traces.data_vars.items()
    }
    return traces.assign(joined)


def storable(traces: Traces) -> Traces:
    """Traces that go to a store as they are, whatever file their labels are from.

    How those were packed and chunked there is no matter of the traces, and lazy labels, of a movie
    that may have been cut anywhere, get the chunks that the traces have.
    """
    data = traces["F"] if isinstance(traces, xr.Dataset) else traces
    frames = data.variable.chunksizes.get("time", -1)
    lazy = {
        name: coord.variable.chunk({d: frames if d == "time" else -1 for d in coord.dims})
        for name, coord in traces.coords.items()
        # One chunk of all ROIs is left as it is: older xarray computes one of its texts to cut it.
        if coord.chunks is not None and ("time" in coord.dims or max(map(len, coord.chunks)) > 1)
    }
    return traces.assign_coords(lazy).drop_encoding()
