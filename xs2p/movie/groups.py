"""Chunks of a few frames, as of a movie with a file for each: many are read in one task."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module

if TYPE_CHECKING:
    import xarray as xr

_FEW = 256  # chunks that Dask is at ease with, whatever they hold
_BYTES = 2**24  # of a group, at most
_MOST = 128  # chunks of a group: so many tasks become one


_joins = contextvars.ContextVar("xs2p joins small chunks", default=True)


@contextlib.contextmanager
def apart() -> Iterator[None]:
    """Leave chunks as they are: movies that share them are computed in one graph."""
    token = _joins.set(False)
    try:
        yield
    finally:
        _joins.reset(token)


def joins() -> bool:
    """Whether a movie's chunks may be read by other tasks than its own: not within `apart`."""
    return _joins.get()


class _Group(NamedTuple):
    """Tasks of some chunks of a graph, each after those that it depends on."""

    steps: tuple[tuple[Any, tuple[Any, ...]], ...]
    """Each task, and the keys of what no later one needs."""
    chunks: tuple[Any, ...]
    shape: tuple[int, ...]
    shared: tuple[Any, ...]

    def __call__(self, *shared: Any) -> Any:
        """Read the chunks and join them, given what they share with others."""
        values = dict(zip(self.shared, shared, strict=True))
        for task, done in self.steps:
            values[task.key] = task(values)
            for key in done:
                del values[key]
        parts = [values[key] for key in self.chunks]
        frames = array_module(parts[0]).concatenate(parts, axis=-3)
        if frames.shape != self.shape:
            raise ValueError(
                f"the movie's chunks hold frames of shape {frames.shape}, and its Dask array says "
                f"that they are {self.shape}: what reads them returns other than it was said to"
            )
        return frames


def grouped(movie: xr.DataArray, frames: Iterable[int] = ()) -> xr.DataArray:
    """Join small chunks of time of a lazy movie, some to a task; any other movie as it is.

    Dask takes longer over a chunk of one frame than its sums do. What chunks share stays a task of
    its own. No group crosses the borders of chunks of so many ``frames``, where chunks of the movie
    do not.
    """
    if movie.chunks is None or not joins() or not _is_cut_small(movie):
        return movie
    sizes = movie.chunksizes["time"]
    spans = list(_spans(sizes, max(movie.nbytes // movie.sizes["time"], 1), frames))
    if len(spans) == len(sizes):
        return movie
    data = _joined(movie.data, spans)
    if data is None:
        return movie
    # Labels that were cut with the movie are lazy, in its chunks.
    lazy = {n: c for n, c in movie.coords.items() if c.chunks and "time" in c.dims}
    whole = {n: c.chunk(time=data.chunks[-3]) for n, c in lazy.items()}
    return movie.drop_vars(list(lazy)).copy(data=data).assign_coords(whole)


def _is_cut_small(movie: xr.DataArray) -> bool:
    """Whether a movie is in many small chunks of time, and in one of anything else."""
    number = len(movie.chunksizes["time"])
    alone = movie.data.npartitions == number
    return alone and number > _FEW and 2 * movie.nbytes < _BYTES * number


def _spans(sizes: tuple[int, ...], frame_bytes: int, frames: Iterable[int]) -> Iterable[slice]:
    """Chunks of each group."""
    borders = set(np.cumsum(list(frames)).tolist())
    start = first = at = 0
    for n, size in enumerate(sizes):
        full = n - start >= _MOST or (at + size - first) * frame_bytes > _BYTES
        if n > start and (full or at in borders):
            yield slice(start, n)
            start, first = n, at
        at += size
    yield slice(start, len(sizes))


def _joined(data: Any, spans: list[slice]) -> Any:
    """Make one task of the tasks of each span; None where a graph has what only Dask can run."""
    import dask.array as da
    from dask._task_spec import convert_legacy_graph
    from dask.base import tokenize
    from dask.core import flatten
    from dask.highlevelgraph import HighLevelGraph

    if any(getattr(layer, "annotations", None) for layer in data.dask.layers.values()):
        return None  # where and how its tasks are to run
    keys = list(flatten(data.__dask_keys__()))
    # As Dask would before it runs them: a selection of each frame goes into its read.
    graph = convert_legacy_graph(dict(data.__dask_optimize__(data.dask, keys)))
    needed = set(keys).union(*(task.dependencies for task in graph.values()))
    if not needed <= graph.keys():
        return None  # results that are on a cluster
    owner = _owners(graph, keys, spans)
    name = f"movie-{tokenize(data.name, [span.stop for span in spans])}"
    sizes = data.chunks[-3]
    frames = tuple(sum(sizes[span]) for span in spans)
    chunks = (*data.chunks[:-3], frames, *data.chunks[-2:])
    layer: dict[Any, Any] = {key: graph[key] for key, number in owner.items() if number < 0}
    for number, (span, length) in enumerate(zip(spans, frames, strict=True)):
        shape = (*data.shape[:-3], length, *data.shape[-2:])
        group = _group(graph, keys[span], owner, shape)
        layer[(name, *(0,) * (data.ndim - 3), number, 0, 0)] = (group, *group.shared)
    high = HighLevelGraph.from_collections(name, layer)
    return da.Array(high, name, chunks, meta=data._meta)


def _owners(graph: dict[Any, Any], keys: list[Any], spans: list[slice]) -> dict[Any, int]:
    """Find the number of the group that alone needs a task; -1 of what several do."""
    owner: dict[Any, int] = {}
    for number, span in enumerate(spans):
        left = keys[span]
        while left:
            key = left.pop()
            known = owner.get(key)
            if known in (number, -1):
                continue
            owner[key] = number if known is None else -1
            left.extend(graph[key].dependencies)
    # What a shared task needs is shared.
    left = [key for key, number in owner.items() if number < 0]
    while left:
        for key in graph[left.pop()].dependencies:
            if owner[key] >= 0:
                owner[key] = -1
                left.append(key)
    return owner


def _group(
    graph: dict[Any, Any], chunks: list[Any], owner: dict[Any, int], shape: tuple[int, ...]
) -> _Group:
    """Tasks of some chunks, in an order in which they can run."""
    tasks: dict[Any, Any] = {}
    shared: dict[Any, None] = {}
    left = chunks[::-1]
    while left:
        key = left.pop()
        if key in tasks:
            continue
        if owner[key] < 0:
            shared[key] = None
            continue
        waits = [k for k in graph[key].dependencies if k not in tasks and k not in shared]
        if waits:
            left += [key, *waits]
        else:
            tasks[key] = graph[key]
    used, last = {*chunks, *shared}, {}
    for key, task in reversed(tasks.items()):
        last[key] = tuple(task.dependencies - used)
        used |= task.dependencies
    steps = tuple((task, last[key]) for key, task in tasks.items())
    return _Group(steps, tuple(chunks), shape, tuple(shared))
