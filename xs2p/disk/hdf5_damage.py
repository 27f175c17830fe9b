"""Damage of an HDF5 file in which its library hangs, or with which it takes the process down."""

from __future__ import annotations

import math
import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

from xs2p.disk.reads import check_claim

VLEN = 9  # class of a type whose items are references to a heap
MOST = 2**28  # bytes of a file that are looked through: what describes it lies at its beginning
_HEAP = b"GCOL\1\0\0\0"
BEGINNING = 2**24  # of files as large as movies


def objects_in(file: Any) -> list[tuple[str, Any]]:
    """List the groups and datasets of an open file, itself first, by their names."""
    found = [("/", file)]
    file.visititems(lambda name, item: found.append((name, item)))
    return found


def check_types(items: list[tuple[str, Any]], path: str) -> None:
    """Look at the types of all that has a length of its own: others than two have no functions.

    And at how many of them there are said to be: h5py makes room for all before it reads one.
    """
    import h5py

    found: list[tuple[str, bytes]] = []
    size = os.path.getsize(path)
    for name, item in items:
        own = [item.attrs.get_id(key) for key in item.attrs]
        kinds = [one.get_type() for one in own]
        for key, one, kind in zip(item.attrs, own, kinds, strict=True):
            check_claim(f"{path}: {name} {key}", "bytes", _bytes(one.shape, kind), size)
        if isinstance(item, h5py.Dataset) and item.dtype.kind == "O" and item.chunks is None:
            claimed = _bytes(item.shape or (), item.id.get_type())
            check_claim(f"{path}: {name}", "bytes", claimed, size)
        kinds += [item.id.get_type()] if isinstance(item, h5py.Dataset) else []
        found.extend((name, kind.encode()[2:]) for kind in kinds)

    for name, told in found:
        if told[0] & 15 == VLEN and told[1] & 15 > 1:
            raise ValueError(f"{path}: the HDF5 file is damaged: {name} is of a type that is none")


def _bytes(shape: tuple[int, ...], kind: Any) -> int:
    """Bytes of a file that so many items take."""
    return math.prod(shape) * int(kind.get_size())


def check_heaps(path: str, most: int = MOST) -> None:
    """Raise a ValueError where a heap of texts is damaged so that the HDF5 library hangs in it.

    The first ``most`` bytes are looked through. HDF5 goes from one object of a heap to the next by
    their sizes, and does not look whether they lead anywhere: an object of no size is the next one
    of itself.
    """
    size = os.path.getsize(path) if os.path.isfile(path) else 0
    if size < 64:
        return
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        for at in heaps_in(data, min(size, most)):
            stop = at + min(struct.unpack_from("<Q", data, at + 8)[0], size - at)
            if at + 16 <= stop and not _ends(data, at + 16, stop):
                raise ValueError(
                    f"{path}: the HDF5 file is damaged: the heap of texts at byte {at} does not end"
                )


def heaps_in(data: mmap.mmap, most: int = MOST) -> Iterator[int]:
    """Find where heaps of texts lie in the first bytes of a file."""
    at = data.find(_HEAP, 0, most)
    while at >= 0:
        yield at
        at = data.find(_HEAP, at + 8, most)


def _ends(data: mmap.mmap, at: int, stop: int) -> bool:
    while at + 16 <= stop:
        index, length = struct.unpack_from("<HxxxxxxQ", data, at)
        step = 16 + (length + 7) // 8 * 8 if index else length
        if not 16 <= step <= stop - at:
            return False
        at += step
    return True
