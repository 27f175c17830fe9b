"""Chunks of a movie that are still in their files, of which a task reads some frames at a time.

A chunk is large, so that there are few tasks. Who only adds its frames up needs no more than some
of them at once, in memory that is used again for the next.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.groups import joins

if TYPE_CHECKING:
    import dask.array as da

    from xs2p.movie.frames import Sliced

_SOURCE = "xs2p_source"  # attribute of a layer of Dask's, by which it says what its chunks are of


@dataclass(frozen=True)
class InFile:
    """Frames ``start:stop`` of a file or recording, in the place of a chunk ``(time, y, x)``."""

    frames: Sliced
    start: int
    stop: int

    ndim = 3

    @property
    def shape(self) -> tuple[int, int, int]:
        """That of the chunk."""
        return (self.stop - self.start, *self.frames.shape[1:])

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the chunk."""
        return self.frames.dtype

    def some(self, spans: Iterable[slice]) -> Iterator[tuple[slice, np.ndarray[Any, Any]]]:
        """Read the frames of each span of the chunk; each is overwritten by the next."""
        held = np.empty((0, *self.shape[1:]), self.dtype)
        with self.frames.named(self.start, self.stop):
            for span in spans:
                start, stop, _ = span.indices(self.shape[0])
                if len(held) < stop - start:
                    held = np.empty((stop - start, *self.shape[1:]), self.dtype)
                frames = held[: stop - start]
                self.frames.read_into(self.start + start, frames)
                yield span, frames


def lies_in(array: da.Array, source: Any) -> da.Array:
    """Note that the chunks of an array are of these frames, and return it.

    ``source`` is what they are cut from, or the ``BlockwiseDepDict`` that has those of each. It is
    noted with the layer that reads them: an array that is in memory by now has another.
    """
    setattr(array.dask.layers[array.name], _SOURCE, source)
    return array


def in_file(array: da.Array) -> da.Array | None:
    """Return an array whose chunks are `InFile`; None where they are not known to lie in a file.

    They are for functions that take them, not for Dask's own. None too where several movies share
    chunks (see `groups.apart`): each would read them.
    """
    from dask.array import Array
    from dask.blockwise import BlockwiseDepDict, blockwise
    from dask.highlevelgraph import HighLevelGraph

    source = getattr(array.dask.layers.get(array.name), _SOURCE, None)
    if source is None or not joins():
        return None
    if isinstance(source, BlockwiseDepDict):
        chunks = {index: block.in_file() for index, block in source.mapping.items()}
    else:
        edges = itertools.pairwise(np.cumsum([0, *array.chunks[0]]).tolist())
        chunks = {(n, 0, 0): InFile(source, *span) for n, span in enumerate(edges)}
    if not all(chunk.frames.reads_into for chunk in chunks.values()):
        return None
    name = f"in-file-{array.name}"
    dims = (0, 1, 2)
    deps = BlockwiseDepDict(chunks, array.numblocks)
    layer = blockwise(_itself, name, dims, deps, dims, numblocks={})
    return Array(HighLevelGraph.from_collections(name, layer), name, array.chunks, meta=array._meta)


def _itself(chunk: InFile) -> InFile:
    return chunk
