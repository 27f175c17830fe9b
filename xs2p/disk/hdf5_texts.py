"""Texts and lists of an HDF5 file that lie in its heaps: whether what leads to them can be right.

HDF5 makes room for as much as a reference to a heap says before it looks whether there is a heap.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from typing import Any

from xs2p.disk.hdf5_damage import MOST, VLEN, heaps_in

_REFERENCE = struct.Struct("<IQI")  # number of items, address of the heap, which of its objects
_ATTRIBUTE, _GOES_ON = 0x0C, 0x10  # messages of an object's header
_MOST_MESSAGES = 10_000
_MOST_REFERENCES = 2**16  # of a dataset that are looked at


def check_references(items: list[tuple[str, Any]], path: str) -> None:
    """Raise a ValueError where a text or list of an open file is said to be where no heap is.

    ``items`` are what :func:`xs2p.disk.hdf5_damage.objects_in` finds, the file itself first.
    """
    import h5py

    size = os.path.getsize(path)
    if size < 64:
        return
    try:
        places = [(name, h5py.h5o.get_info(item.id).addr, item) for name, item in items]
    except RuntimeError as error:  # HDF5's own checksums
        raise ValueError(f"{path}: the HDF5 file is damaged ({error})") from error
    with open(path, "rb") as raw, mmap.mmap(raw.fileno(), 0, access=mmap.ACCESS_READ) as data:
        base = items[0][1].userblock_size  # before what HDF5 counts from, as MATLAB's files have it
        heaps = {at - base for at in heaps_in(data)} if size <= MOST else None
        for name, address, item in places:
            own = () if base else _in_dataset(data, item)
            for found in (*_in_attributes(data, address + base, base), *own):
                number, heap, _ = found
                if number and (number > size or (heaps is not None and heap not in heaps)):
                    raise ValueError(
                        f"{path}: the HDF5 file is damaged: a text of {name} or its attributes is "
                        f"said to have {number} items, at byte {heap}, where there are none"
                    )


def _in_dataset(data: mmap.mmap, item: Any) -> Iterator[tuple[int, int, int]]:
    """Read the references of a dataset whose items lie in the file as they are."""
    if not hasattr(item, "shape") or item.dtype.kind != "O" or item.shape is None:
        return
    if item.id.get_type().get_class() != VLEN and not _is_text(item):
        return
    spans = []
    if item.chunks is None and item.id.get_offset() is not None:
        spans = [(item.id.get_offset(), item.size * _REFERENCE.size)]
    elif item.chunks is not None and not item.id.get_create_plist().get_nfilters():
        number = min(item.id.get_num_chunks(), _MOST_REFERENCES)
        infos = [item.id.get_chunk_info(n) for n in range(number)]
        spans = [(info.byte_offset, info.size) for info in infos]
    for start, length in spans:
        stop = min(start + length, len(data), start + _MOST_REFERENCES * _REFERENCE.size)
        yield from _references(data, start, stop)


def _is_text(item: Any) -> bool:
    import h5py

    kind = item.id.get_type()
    return isinstance(kind, h5py.h5t.TypeStringID) and bool(kind.is_variable_str())


def _references(data: Any, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    for at in range(start, stop - _REFERENCE.size + 1, _REFERENCE.size):
        yield _REFERENCE.unpack_from(data, at)


def _in_attributes(data: mmap.mmap, address: int, base: int) -> Iterator[tuple[int, int, int]]:
    """Read the references of the attributes in the header of an object."""
    for start, stop in _attributes(data, address, base):
        yield from _in_attribute(data[start:stop])


def _in_attribute(message: bytes) -> Iterator[tuple[int, int, int]]:
    if len(message) < 9:
        return
    version, flags, name, kind, space = struct.unpack_from("<BBHHH", message)
    if version not in (1, 2, 3) or (version > 1 and flags & 1):  # a type that others share
        return
    at = 9 if version == 3 else 8
    sizes = [(n + 7) // 8 * 8 if version == 1 else n for n in (name, kind, space)]
    at += sizes[0]
    if at < len(message) and message[at] & 15 == VLEN:
        yield from _references(message, at + sizes[1] + sizes[2], len(message))


def _attributes(data: mmap.mmap, address: int, base: int) -> Iterator[tuple[int, int]]:
    """Find where the messages lie that are attributes, of a header of version 1 or 2."""
    if data[address : address + 4] == b"OHDR":
        yield from _of_version_2(data, address, base)
    elif address + 16 <= len(data) and data[address] == 1:
        blocks = [(address + 16, struct.unpack_from("<I", data, address + 8)[0])]
        yield from _messages(data, blocks, "<HHB3x", 0, 0, base)


def _of_version_2(data: mmap.mmap, address: int, base: int) -> Iterator[tuple[int, int]]:
    if address + 16 > len(data):
        return
    flags = data[address + 5]
    at = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
    width = 1 << (flags & 3)
    length = int.from_bytes(data[at : at + width], "little")
    yield from _messages(data, [(at + width, length)], "<BHB", 2 * bool(flags & 4), 4, base)


def _messages(
    data: mmap.mmap, blocks: list[tuple[int, int]], form: str, order: int, mark: int, base: int
) -> Iterator[tuple[int, int]]:
    """Go through blocks of messages; ``mark`` bytes are before those that a header goes on in."""
    head, seen = struct.calcsize(form), 0
    while blocks:
        at, length = blocks.pop()
        stop = min(at + length, len(data))
        while at + head + order <= stop and seen < _MOST_MESSAGES:
            kind, size, _ = struct.unpack_from(form, data, at)
            at, seen = at + head + order, seen + 1
            if kind == _ATTRIBUTE:
                yield at, min(at + size, stop)
            elif kind == _GOES_ON and at + 16 <= stop:
                where, more = struct.unpack_from("<QQ", data, at)
                blocks.append((where + base + mark, max(more - 2 * mark, 0)))
            at += size
