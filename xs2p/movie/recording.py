"""One recording over the frames of several files, of one channel and plane or of all."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from dask.layers import ArrayBlockwiseDep

from xs2p.movie.chunks import even_chunks
from xs2p.movie.frames import Frames, Sliced, read_of
from xs2p.movie.in_file import InFile, lies_in

if TYPE_CHECKING:
    import dask.array as da


Grid: TypeAlias = Any  # an array of Recording, which numpy's types cannot tell


@dataclass(frozen=True)
class Run:
    """Frames ``first, first + step, …`` of one file, ``count`` of them."""

    frames: Frames
    first: int
    step: int
    count: int

    @classmethod
    def of(cls, frames: Frames) -> Run:
        """Take all frames of a file."""
        return cls(frames, 0, 1, frames.shape[0])

    def part(self, start: int, stop: int) -> Run:
        """Cut out the frames ``start:stop``, counted within the run."""
        return replace(self, first=self.first + start * self.step, count=stop - start)

    def every(self, nth: int, first: int) -> Run:
        """Take every ``nth`` frame of the run, from one on."""
        count = max(0, -(-(self.count - first) // nth))
        return replace(
            self, first=self.first + first * self.step, step=self.step * nth, count=count
        )

    def named(self) -> contextlib.AbstractContextManager[None]:
        """Say in errors which file and frames these are."""
        stop = self.first + (self.count - 1) * self.step + 1
        return read_of(self.frames.stamp, self.first, stop, self.step)

    def read(self) -> np.ndarray[Any, Any]:
        """Read the frames."""
        if self.step == 1:
            return self.frames.read(self.first, self.first + self.count)
        return self.frames.take(self.first, self.step, self.count)


@dataclass(frozen=True)
class Recording(Sliced):
    """Runs of frames, one after the other, as one duck array ``(time, y, x)``."""

    runs: tuple[Run, ...]

    @property
    def shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        """Frames of all runs, and the size of one."""
        return (sum(run.count for run in self.runs), *self.runs[0].frames.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the frames, the same in all runs."""
        return self.runs[0].frames.dtype

    def __dask_tokenize__(self) -> tuple[object, ...]:
        runs = [
            (run.frames.__dask_tokenize__(), run.first, run.step, run.count) for run in self.runs
        ]
        return (type(self).__name__, runs)

    def cut(self, start: int, stop: int) -> Recording:
        """Keep the frames ``start:stop``, and only the files that they are in."""
        parts, before = [], 0
        for run in self.runs:
            a, b = max(start - before, 0), min(stop - before, run.count)
            if a < b:
                parts.append(run.part(a, b))
            before += run.count
        return Recording(tuple(parts) or (self.runs[0].part(0, 0),))

    def every(self, nth: int, first: int) -> Recording:
        """Take every ``nth`` frame from one on, counted on from file to file."""
        parts, before = [], 0
        for run in self.runs:
            part = run.every(nth, (first - before) % nth)
            if part.count:
                parts.append(part)
            before += run.count
        return Recording(tuple(parts) or (self.runs[0].part(0, 0),))

    def named(self, start: int, stop: int) -> contextlib.AbstractContextManager[None]:
        """Leave it to each file to name itself: `read` does."""
        return contextlib.nullcontext()

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read frames of as many files as they are in."""
        runs = self.cut(start, stop).runs
        if len(runs) == 1:
            with runs[0].named():
                return runs[0].read()
        with runs[0].named():
            frames = np.empty((stop - start, *self.shape[1:]), self.dtype)
        at = 0
        for run in runs:
            with run.named():
                frames[at : at + run.count] = run.read()
            at += run.count
        return frames

    @property
    def reads_into(self) -> bool:  # type: ignore[override]
        """Where those of all its files do."""
        return all(run.frames.reads_into for run in self.runs)

    def read_into(self, start: int, out: np.ndarray[Any, Any], step: int = 1) -> None:
        """Read them from as many files as they are in; ``step`` is 1."""
        before, stop = 0, start + len(out)
        for run in self.runs:
            a, b = max(start - before, 0), min(stop - before, run.count)
            if a < b:
                at = before + a - start
                with run.named():
                    run.frames.read_into(run.first + a * run.step, out[at : at + b - a], run.step)
            before += run.count


@dataclass(frozen=True)
class _Block:
    """The frames of one chunk, with dims of size 1 in front for its channel and plane."""

    frames: Recording
    lead: int

    @property
    def shape(self) -> tuple[int, ...]:
        return (1,) * self.lead + self.frames.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.frames.dtype

    @property
    def ndim(self) -> int:
        return self.lead + 3

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (type(self).__name__, self.lead, self.frames.__dask_tokenize__())

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        key = key if isinstance(key, tuple) else (key,)
        some = self.frames[key[self.lead :]]
        return some[(None,) * self.lead][(*key[: self.lead], ...)]

    def in_file(self) -> InFile:
        """Return its frames unread."""
        return InFile(self.frames, 0, self.frames.shape[0])


class _WholeBlock(ArrayBlockwiseDep):
    """Slices of a chunk within itself."""

    def __getitem__(self, index: tuple[int, ...]) -> tuple[slice, ...]:
        sizes = (sizes[i] for i, sizes in zip(index, self.chunks, strict=True))
        return tuple(slice(0, size, None) for size in sizes)


def recordings_to_dask(grid: Grid, chunks: int | None) -> da.Array:
    """Wrap an array of `Recording` of equal shapes as ``(…, time, y, x)``.

    Each chunk has one channel and plane, and its task holds the names of its own files alone.
    """
    import dask.array as da
    from dask.base import tokenize
    from dask.blockwise import BlockwiseDepDict, blockwise
    from dask.highlevelgraph import HighLevelGraph

    first: Recording = grid.flat[0]
    n_frames, *frame = first.shape
    unit = getattr(first.runs[0].frames, "unit", 1)
    step = even_chunks(first.shape, first.dtype.itemsize, unit) if chunks is None else chunks
    sizes = tuple(min(step, n_frames - at) for at in range(0, n_frames, step))
    edges = list(itertools.pairwise([0, *np.cumsum(sizes).tolist()]))
    blocks = {
        (*index, i, 0, 0): _Block(grid[index].cut(*span), grid.ndim)
        for index in np.ndindex(*grid.shape)
        for i, span in enumerate(edges)
    }
    every = (*((1,) * n for n in grid.shape), sizes, *((n,) for n in frame))
    token = tokenize([part.__dask_tokenize__() for part in grid.flat], grid.shape, sizes)
    name = f"movie-{token}"
    dims = tuple(range(len(every)))
    numblocks = tuple(len(sizes) for sizes in every)
    deps = BlockwiseDepDict(blocks, numblocks)
    layer = blockwise(
        da.core.getter,
        name,
        dims,
        deps,
        dims,
        _WholeBlock(every),
        dims,
        numblocks={},
    )
    graph = HighLevelGraph.from_collections(name, layer)
    data = da.Array(graph, name, every, meta=np.empty((0,) * len(every), first.dtype))
    return data if grid.ndim else lies_in(data, deps)


def split(recording: Recording, counts: Sequence[int]) -> Grid:
    """Take frames apart that come in turn: the last of ``counts`` changes fastest.

    The parts may differ in length, by one frame, where the recording ends in the middle of a turn.
    """
    grid: Grid = np.empty(tuple(counts), object)
    period = int(np.prod(counts))
    for place, index in enumerate(np.ndindex(*counts)):
        grid[index] = recording.every(period, place)
    return grid


def shortened(grid: Grid, n_frames: int) -> Grid:
    """Keep the first frames of each recording."""
    cut: Grid = np.empty_like(grid)
    for index in np.ndindex(*grid.shape):
        cut[index] = grid[index].cut(0, n_frames)
    return cut
