"""How a movie is cut into chunks, and becomes a Dask array."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import Frames
from xs2p.movie.in_file import lies_in

if TYPE_CHECKING:
    import dask.array as da


MOST_CHUNKS = 10**7
TARGET_BYTES = 2**27  # upper bound of a chunk; evened out, chunks come to 64-128 MB


def to_dask(frames: Frames, chunks: int | None) -> da.Array:
    """Wrap frames as a Dask array chunked in time, its name derived from file and layout."""
    unit = getattr(frames, "unit", 1)
    whole = even_chunks(frames.shape, frames.dtype.itemsize, unit)
    time_chunks = whole if chunks is None else chunks
    sizes = (max(1, min(time_chunks, frames.shape[0])), *frames.shape[1:])
    return lies_in(from_array(frames, sizes, frames), frames)


def from_array(array: Any, sizes: tuple[Any, ...], identity: Any) -> da.Array:
    """Wrap anything that slices to frames; its name derives from ``identity`` and the chunks."""
    import dask.array as da
    from dask.base import tokenize

    number = math.prod(
        len(size) if isinstance(size, tuple) else -(-n // max(1, size))
        for n, size in zip(array.shape, sizes, strict=True)
    )
    if number > MOST_CHUNKS:
        raise ValueError(
            f"its shape {tuple(array.shape)} makes {number:.0e} chunks of {tuple(sizes)}, more "
            "than any recording has: what it says of its size is damaged, or its own chunks are "
            "too small; chunks= makes larger ones"
        )
    return da.from_array(
        array,
        chunks=sizes,
        name=f"movie-{tokenize(identity, sizes)}",
        inline_array=True,
        fancy=False,
        meta=np.empty((0,) * len(array.shape), array.dtype),
    )


def even_chunks(shape: tuple[int, int, int], itemsize: int, multiple: int = 1) -> int:
    """Frames per chunk of at most 128 MB, evened out, a multiple of ``multiple``."""
    total = -(-max(1, shape[0]) // multiple)
    unit = max(1, shape[1] * shape[2] * itemsize * multiple)
    per_chunk = max(1, min(total, TARGET_BYTES // unit))
    number = -(-total // per_chunk)
    return -(-total // number) * multiple


def aligned_chunks(
    shape: tuple[int, int, int],
    itemsize: int,
    stored: tuple[int, int, int] | None,
    chunks: int | None,
    name: str,
) -> tuple[int, int, int]:
    """Sizes of chunks along those of a store, or of the frames asked for; None: it has none.

    Frames are cut in y and x only where one chunk of the store's in time would be too many of them.
    """
    from xs2p._warnings import warn

    stored = stored or (1, shape[1], shape[2])
    if chunks is not None:
        if chunks % stored[0] and chunks < shape[0]:
            warn(
                f"{name}: chunks={chunks} cuts through the store's chunks of {stored[0]} frames, "
                f"some of which are then read more than once; a multiple of {stored[0]} avoids it"
            )
        return chunks, shape[1], shape[2]
    if stored[0] * shape[1] * shape[2] * itemsize <= TARGET_BYTES:
        return even_chunks(shape, itemsize, stored[0]), shape[1], shape[2]
    tile = (shape[0], min(stored[1], shape[1]), min(stored[2], shape[2]))
    frames = even_chunks(tile, itemsize, stored[0])
    room = TARGET_BYTES // (itemsize * min(frames, shape[0]) * tile[1] * tile[2])
    sides = list(tile)
    for dim in (2, 1):  # many small tiles are put together
        total = -(-shape[dim] // tile[dim])
        number = -(-total // max(1, min(total, room)))
        tiles = -(-total // number)
        sides[dim], room = min(tile[dim] * tiles, shape[dim]), room // tiles
    return frames, sides[1], sides[2]


def is_all(part: np.ndarray[Any, Any], value: Any) -> bool:
    """Whether all is ``value``; of most parts some pixels tell that it is not."""
    some = part[tuple(slice(None, None, max(n // 4, 1)) for n in part.shape)]
    return bool((some == value).all() and (part == value).all())
