"""Where the pages of a TIFF lie and whether they are alike, read from its directories alone.

tifffile takes pages for alike after a look at a few of them, and decodes one that is not as if it
were. And it reads every tag of a page each time the page is read, which holds the interpreter's
lock for longer than the disk takes for a frame: where a writer such as ScanImage has put
uncompressed pages at equal distances, a file can be read like a raw one.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

import numpy as np

_OFFSETS, _COUNTS, _DESCRIPTION = 273, 279, 270
# Tags that must be the same in all pages, their names, and what holds where they are not there.
_ALIKE = {
    256: ("width", None),
    257: ("height", None),
    258: ("bits", 1),
    259: ("compression", 1),
    277: ("samples", 1),
    317: ("predictor", 1),
    339: ("sample format", 1),
}
_TILE_OFFSETS, _TILE_COUNTS, _SUB_DIRECTORIES = 324, 325, 330
_REST = 2**20  # bytes after the last page in which directories that were lost are looked for
_SIZES = {3: "H", 4: "I", 16: "Q"}  # types of TIFF that hold numbers


class Pages(NamedTuple):
    """What the directories of a file say of its pages."""

    number: int
    offset: int | None  # of the first page's pixels; None: not at equal distances
    stride: int


def survey(name: str, page: Any) -> Pages:
    """Look at the directories of all pages; ``page`` is the first as tifffile has it.

    Raises
    ------
    ValueError
        A page differs from the first in size, dtype or compression, or the file is damaged.
    """
    even = (page.compression, page.predictor, page.fillorder, page.is_tiled) == (1, 1, 1, False)
    even = even and page.dtype is not None and page.dtype.itemsize * 8 == page.bitspersample
    first: dict[int, int] | None = None
    offset = stride = number = 0
    for tags in _directories(name):
        at, count = tags.pop(_OFFSETS, None), tags.pop(_COUNTS, None)
        if first is None:
            first = tags
        elif tags != first:
            _check_alike(name, number, tags, first)
        even = even and at is not None and count == page.nbytes
        if even and at is not None:
            offset = at if number == 0 else offset
            stride = at - offset if number == 1 else stride
            even = at == offset + number * stride
        number += 1
    return Pages(number, offset if even and stride >= page.nbytes else None, stride)


def offsets(name: str) -> list[int | None]:
    """Where the pixels of each page begin; None where they are in several strips or tiles."""
    return [tags.get(_OFFSETS) for tags in _directories(name)]


def _check_alike(name: str, number: int, tags: dict[int, int], first: dict[int, int]) -> None:
    for code, (what, default) in _ALIKE.items():
        has, wanted = tags.get(code, default), first.get(code, default)
        if has != wanted:
            raise ValueError(
                f"{name}: page {number} has the {what} {has}, and the first page {wanted}: "
                "expected pages of one kind. Read those you want with tifffile.imread(path, "
                "key=range(…)) and write them with tifffile.imwrite(path, frames, "
                "photometric='minisblack')"
            )


def _directories(name: str) -> Iterator[dict[int, int]]:
    """Yield the tags of one number of each directory of a file, or raise where it is damaged.

    tifffile only logs that a directory is not there, and takes the pages before it for the file.
    """
    number = 0
    try:
        with open(name, "rb") as file:
            for tags in _read(file):
                yield tags
                number += 1
    except (struct.error, KeyError, ValueError, OverflowError, OSError) as error:
        raise ValueError(
            f"{name}: the file is damaged, or was cut while it was written or copied: page "
            f"{number} is not readable ({error})"
        ) from error


def _read(file: BinaryIO) -> Iterator[dict[int, int]]:
    """Yield the tags of one number of each directory of a TIFF or BigTIFF file."""
    order = {b"II": "<", b"MM": ">"}[file.read(2)]
    big = struct.unpack(f"{order}H", file.read(2))[0] == 43
    number, link = (f"{order}Q", f"{order}Q") if big else (f"{order}H", f"{order}I")
    entry, inline = (f"{order}HHQ8s", 8) if big else (f"{order}HHI4s", 4)
    size, wanted = struct.calcsize(entry), {_OFFSETS, _COUNTS, *_ALIKE}
    parts = {_OFFSETS, _COUNTS, _TILE_OFFSETS, _TILE_COUNTS}
    one = {kind: struct.Struct(order + letter) for kind, letter in _SIZES.items()}
    one = {kind: part for kind, part in one.items() if part.size <= inline}
    end = file.seek(0, os.SEEK_END)
    file.seek(8 if big else 4)
    (at,) = struct.unpack(link, file.read(struct.calcsize(link)))
    seen: set[int] = set()
    last, deep = 0, False
    while at:
        if at in seen:
            raise struct.error("it is one of the pages before it")
        seen.add(at)
        file.seek(at)
        (n,) = struct.unpack(number, file.read(struct.calcsize(number)))
        if n * size > end:
            raise struct.error(f"a header of {n} tags")
        body, after = file.read(n * size), file.read(struct.calcsize(link))
        tags, places = {}, {}
        for code, kind, count, value in struct.iter_unpack(entry, body):
            if code in wanted and count == 1 and kind in one:
                tags[code] = one[kind].unpack_from(value)[0]
            deep |= code == _SUB_DIRECTORIES
            if code in parts and kind in _SIZES:
                places[code] = _numbers(file, order + _SIZES[kind], count, value, inline, one)
            elif code == _DESCRIPTION and count > inline:
                if one[16 if big else 4].unpack_from(value)[0] + count > end:
                    raise struct.error("its description ends beyond the file")
        last = max(last, file.tell(), _check_places(places, end))
        yield tags
        (at,) = struct.unpack(link, after)
    if not deep:
        file.seek(last)
        _check_rest(file.read(_REST), order, "Q" if big else "I")


def _check_rest(rest: bytes, order: str, kind: str) -> None:
    """Raise where a directory comes after the last page, to which none before it leads."""
    width, height = (re.escape(struct.pack(f"{order}H", code)) for code in (256, 257))
    kinds = b"|".join(re.escape(struct.pack(f"{order}H", code)) for code in _SIZES)
    one = re.escape(struct.pack(order + kind, 1))
    value = b".{%d}" % struct.calcsize(kind)
    entry = b"(?:" + kinds + b")" + one
    if re.search(width + entry + value + height + entry, rest, re.DOTALL):
        raise struct.error("nothing leads to it, and a page comes after those that can be found")


def _numbers(
    file: BinaryIO, kind: str, count: int, value: bytes, inline: int, one: dict[int, Any]
) -> np.ndarray[Any, Any]:
    """Numbers of a tag, which lie in it or elsewhere in the file."""
    dtype = np.dtype(kind)
    if count * dtype.itemsize > inline:
        file.seek(one[16 if inline == 8 else 4].unpack_from(value)[0])
        left = file.seek(0, os.SEEK_CUR)
        if left + count * dtype.itemsize > file.seek(0, os.SEEK_END):
            raise struct.error("the list of its strips ends beyond the file")
        file.seek(left)
        value = file.read(count * dtype.itemsize)
    return np.frombuffer(value, dtype, count)


def _check_places(places: dict[int, np.ndarray[Any, Any]], end: int) -> int:
    """Raise where strips or tiles are nowhere: readers take zeros. Gives the end of the last."""
    last = 0
    for offsets, counts in ((_OFFSETS, _COUNTS), (_TILE_OFFSETS, _TILE_COUNTS)):
        at = places.get(offsets)
        if at is None:
            continue
        sizes = places.get(counts)
        if sizes is None:
            sizes = np.ones(1, "u1")
        elif sizes.size != at.size:
            raise struct.error(f"it has {at.size} strips or tiles, and sizes of {sizes.size}")
        if int(at.min(initial=8)) < 8 or not sizes.all():  # the file itself begins with 8 others
            raise struct.error("a strip or tile of its pixels is nowhere, or of 0 bytes")
        if int(at.max()) > end or int(sizes.max()) > end:
            raise struct.error("its pixels end beyond the file")
        last = max(last, int((at.astype("u8") + sizes).max()))
        if last > end:
            raise struct.error("its pixels end beyond the file")
    return last
