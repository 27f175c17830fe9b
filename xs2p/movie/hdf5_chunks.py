"""Chunks of an HDF5 dataset, read from its file and unpacked outside of the library's lock.

HDF5 does one thing at a time in a process, and unpacks while it does. Unpacking gzip takes twenty
times as long as reading, so that all threads together made what one does. HDF5 still says where a
chunk lies.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import zlib
from typing import Any, NamedTuple

import numpy as np

LEAST, _MOST = 2**16, 2**31  # bytes of a chunk unpacked: smaller ones cost more here than there
_DEFLATE, _SHUFFLE = 1, 2  # HDF5's numbers


class _Part(NamedTuple):
    """One chunk of those that a read needs."""

    offset: int
    size: int
    inside: tuple[slice, ...]
    """What is wanted of the chunk."""
    at: tuple[slice, ...]
    """Where it goes in what is read."""


def read_chunks(stored: Any, key: tuple[slice, ...]) -> np.ndarray[Any, Any] | None:
    """Read a part of a dataset of an open file, or None: then it is for HDF5 to read it.

    That is so where a chunk is packed in a way that is not known here, is damaged (HDF5 says how)
    or is not in the file, where a part is not all of whole frames of chunks that are not packed,
    and where chunks are small. What is returned has no fill value in place of a chunk.
    """
    filters = _filters(stored)
    spans = [s.indices(n) for s, n in zip(key, stored.shape, strict=True)]
    if filters is None or any(step != 1 for _, _, step in spans):
        return None
    bounds = [(start, max(start, stop)) for start, stop, _ in spans]
    if not filters and not _of_whole_frames(stored, bounds):
        return None
    parts = _parts(stored, bounds)
    if parts is None:
        return None
    out = np.empty([stop - start for start, stop in bounds], stored.dtype)
    with contextlib.suppress(OSError, ValueError, zlib.error):
        with open(stored.file.filename, "rb", buffering=0) as file:
            for part in parts:
                _read(file, part, filters, stored.chunks, out)
        return out
    return None


def _filters(stored: Any) -> tuple[int, ...] | None:
    """How chunks are packed, in the order of packing; None where only HDF5 can read them."""
    import h5py

    if stored.chunks is None or stored.is_virtual or stored.external:
        return None
    size = stored.dtype.itemsize
    if not LEAST <= int(np.prod(stored.chunks, dtype=object)) * size <= _MOST:
        return None
    if not hasattr(stored.id, "get_chunk_info_by_coord"):
        return None
    kind = stored.id.get_type()
    if stored.dtype.kind not in "iuf" or not kind.equal(h5py.h5t.py_create(stored.dtype)):
        return None  # fewer bits than its bytes have
    properties = stored.id.get_create_plist()
    filters = [properties.get_filter(n) for n in range(properties.get_nfilters())]
    codes = tuple(int(code) for code, *_ in filters)
    known = all(
        code == _DEFLATE or (code == _SHUFFLE and values[:1] == (size,))
        for code, _, values, _ in filters
    )
    # HDF5's versions count places from different bytes where a file begins with a block of a user,
    # as MATLAB's do. By gzip's checksum a wrong place is found; what has none must have no block.
    safe = _DEFLATE in codes or not (codes or stored.file.userblock_size)
    return codes if known and safe else None


def _of_whole_frames(stored: Any, bounds: list[tuple[int, int]]) -> bool:
    """Whether chunks are whole along all axes but the first, and all of those is wanted."""
    whole = [(0, n) for n in stored.shape[1:]]
    return bounds[1:] == whole and tuple(stored.chunks[1:]) == tuple(stored.shape[1:])


def _parts(stored: Any, bounds: list[tuple[int, int]]) -> list[_Part] | None:
    """Find the chunks that have something of what is wanted; None where one is not as usual."""
    steps = stored.chunks
    grid = [
        range(start // step * step, stop, step)
        for (start, stop), step in zip(bounds, steps, strict=True)
    ]
    length = os.path.getsize(stored.file.filename)
    found = []
    for place in itertools.product(*grid):
        info = stored.id.get_chunk_info_by_coord(place)
        if not info.byte_offset or not info.size or info.filter_mask:
            return None
        if info.byte_offset + info.size > length:
            return None
        ends = [
            (max(corner, start), min(corner + step, stop))
            for corner, step, (start, stop) in zip(place, steps, bounds, strict=True)
        ]
        inside = tuple(slice(a - n, b - n) for (a, b), n in zip(ends, place, strict=True))
        at = tuple(slice(a - n, b - n) for (a, b), (n, _) in zip(ends, bounds, strict=True))
        found.append(_Part(int(info.byte_offset), int(info.size), inside, at))
    return found


def _read(
    file: Any, part: _Part, filters: tuple[int, ...], shape: tuple[int, ...], out: np.ndarray
) -> None:
    """Read one chunk into its place."""
    if not filters:
        rows = out[part.at]
        frame = int(np.prod(shape[1:])) * out.dtype.itemsize
        _fill(file, rows.reshape(-1).view(np.uint8), part.offset + part.inside[0].start * frame)
        return
    packed: Any = np.empty(part.size, np.uint8)
    _fill(file, packed, part.offset)
    size = int(np.prod(shape)) * out.dtype.itemsize
    for code in reversed(filters):
        packed = _inflated(packed, size) if code == _DEFLATE else _in_order(packed, out.itemsize)
    out[part.at] = np.frombuffer(packed, out.dtype).reshape(shape)[part.inside]


def _fill(file: Any, into: np.ndarray, offset: int) -> None:
    """Read as many bytes as ``into`` has from ``offset`` on."""
    file.seek(offset)
    done = 0
    while done < into.size:
        count = file.readinto(into[done:])
        if not count:
            raise OSError("the file ends within a chunk")
        done += count


def _inflated(packed: Any, size: int) -> bytes:
    """Unpack gzip's bytes, which must be as many as the chunk has; their checksum is compared."""
    unpacking = zlib.decompressobj()
    found = unpacking.decompress(packed, size)
    found += unpacking.decompress(unpacking.unconsumed_tail, 1)  # what is too much, and the end
    if len(found) != size or not unpacking.eof:
        raise ValueError(f"a chunk unpacks to {len(found)} bytes, not {size}")
    return found


def _in_order(shuffled: Any, size: int) -> np.ndarray:
    """Put the bytes of each number together: HDF5 shuffles all first bytes before all second."""
    rows = np.frombuffer(shuffled, np.uint8).reshape(size, -1)
    out = np.empty((rows.shape[1], size), np.uint8)
    for n, row in enumerate(rows):
        out[:, n] = row
    return out.reshape(-1)
