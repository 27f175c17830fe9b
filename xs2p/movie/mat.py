"""Movies in MAT-files of version 5 to 7, as ``scipy.io.savemat`` and MATLAB write them.

The array of a movie lies in the file as it is, unless it is compressed: then it is read whole, at
the first frame that is asked for.
"""

from __future__ import annotations

import functools
import logging
import math
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.movie.frames import Frames, Stamp

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

log = logging.getLogger("xs2p")
_MATRIX, _COMPRESSED = 14, 15
# MAT-file codes of number types on disk, and of the classes that arrays are of.
_STORED = {
    1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8",
}  # fmt: skip
_CLASSES = {
    6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8",
}  # fmt: skip
_SHAPE = ("time", "x", "y")  # MATLAB's (y, x, time), the slowest first
_COMPLEX = 0x08


class _Array(NamedTuple):
    """An array of numbers, and where its values begin; None where they are compressed."""

    name: str
    shape: tuple[int, ...]  # as MATLAB shows it
    kind: str
    stored: str
    offset: int | None


@dataclass(frozen=True)
class MatFrames(Frames):
    """Frames of an array of MATLAB's: its first dim changes fastest."""

    kind: str = ""
    offset: int | None = None
    array: str = ""
    axes: tuple[str, str, str] = _SHAPE

    @property
    def dtype(self) -> np.dtype[Any]:
        """The class that MATLAB shows: what is stored may be smaller."""
        return np.dtype(self.kind)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Gather the frames through a memory map of the file, or from memory."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Gather every ``step``-th frame."""
        self.stamp.check()
        size = dict(zip(("time", "y", "x"), self.shape, strict=True))
        shape = tuple(size[axis] for axis in self.axes)
        if self.offset is None:
            array = _unpacked(self.stamp, self.array).T
        else:
            array = np.memmap(self.stamp.path, self.stored, "r", self.offset, shape=shape)
        movie = array.transpose([self.axes.index(axis) for axis in ("time", "y", "x")])
        wanted = movie[start : start + step * (count - 1) + 1 : step]
        return np.array(wanted, dtype=self.dtype, order="C", subok=False)


@functools.lru_cache(maxsize=1)
def _unpacked(stamp: Stamp, name: str) -> np.ndarray[Any, Any]:
    from xs2p.disk.mat import load_mat

    array: np.ndarray[Any, Any] = load_mat(stamp.path, [name])[name]
    return array


def mat_stack(
    name: str, frame: tuple[int, int] | None, variable: str | None, dims: tuple[str, ...] | None
) -> Stack:
    """Find the array of a MAT-file that is a movie."""
    from xs2p.movie.turns import Stack

    arrays = list(_arrays(name))
    listing = "; ".join(f"{a.name} {a.shape} {a.kind}" for a in arrays) or "no arrays of numbers"
    found = [a for a in arrays if len(a.shape) == 3 and variable in (None, a.name)]
    if len(found) != 1:
        problem = f"{len(found)}; pick one with variable={found[0].name!r}" if found else "none"
        raise ValueError(
            f"{name}: expected one array of numbers with 3 dims, (y, x, time) as MATLAB shows it"
            f"{'' if variable is None else f', of the name variable={variable!r}'}, found "
            f"{problem}. It holds: {listing}"
        )
    array = found[0]
    axes = _axes(array, frame, dims, name)
    stored = array.shape[::-1]
    shape = (stored[axes.index("time")], stored[axes.index("y")], stored[axes.index("x")])
    if array.offset is None:
        log.warning(
            "%s: %s is compressed and is read whole, %.0f MB, at the first frame; "
            "save(file, '-v7.3') in MATLAB writes what is read by parts",
            name,
            array.name,
            np.prod(array.shape) * np.dtype(array.kind).itemsize / 1e6,
        )
    frames = MatFrames(
        Stamp.of(name), shape, array.stored, array.kind, array.offset, array.name, axes
    )
    return Stack(frames, note=f"{array.name} {array.shape} in MATLAB, stored as {axes}")


def _axes(
    array: _Array, frame: tuple[int, int] | None, dims: tuple[str, ...] | None, name: str
) -> tuple[str, str, str]:
    """Axes as they are stored: as they were said, else by the frame given, else MATLAB's."""
    if dims is not None:
        if len(dims) != 3:
            raise ValueError(f"dims={dims!r} names {len(dims)} axes, but {name} has 3 of them")
        return dims[0], dims[1], dims[2]
    first, second, third = array.shape
    if frame in ((first, second), None) and not (frame is None and second == third != first):
        return _SHAPE
    if frame == (second, third):
        return ("x", "y", "time")  # (time, y, x), as Python has it
    if frame is None:
        raise ValueError(
            f"{name}: {array.name} is {array.shape} in MATLAB, whose movies are (y, x, time), but "
            f"it looks as if time were first; say which: shape=({second}, {third}) for (time, y, "
            f"x), dims='txy' for (y, x, time)"
        )
    raise ValueError(
        f"shape={frame} disagrees with {name}, where {array.name} is {array.shape}, (y, x, time) "
        "in MATLAB; say its axes in reversed order where they are others, as in dims='tyx'"
    )


def _arrays(name: str) -> Iterator[_Array]:
    """Go through the file from variable to variable, and read the head of each."""
    with open(name, "rb") as file:
        head = file.read(128)
        if len(head) < 128 or head[126:128] not in (b"IM", b"MI"):
            raise ValueError(
                f"{name}: no MAT-file of version 5 to 7.3, or one that is damaged; write it anew "
                "in MATLAB, with save(file, '-v7.3')"
            )
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            code, size = struct.unpack(order + "II", tag)
            at = file.tell()
            data = file.read(min(size, 4096))
            if code == _COMPRESSED:
                try:
                    data = zlib.decompressobj().decompress(data, 4096)[8:]
                except zlib.error as error:
                    raise ValueError(f"{name}: the MAT-file is damaged ({error})") from error
            array = _head(data, order) if code in (_MATRIX, _COMPRESSED) else None
            if array is not None:
                _check_size(array, name, size if code == _MATRIX else None)
                begins = None if code == _COMPRESSED else at + (array.offset or 0)
                yield array._replace(offset=begins)
            file.seek(at + size)
        if file.tell() > file.seek(0, 2):
            raise ValueError(f"{name}: the MAT-file was cut")


def _check_size(array: _Array, name: str, size: int | None) -> None:
    """Raise where an array claims more than its element of ``size`` bytes, or less than nothing."""
    needed = math.prod(array.shape) * np.dtype(array.stored).itemsize
    if min(array.shape, default=0) < 0 or (
        size is not None and (array.offset or 0) + needed > size
    ):
        raise ValueError(
            f"{name}: {array.name} is {array.shape} of {array.stored}, {needed} bytes, and the "
            f"file has {size} for it: it is damaged"
        )


def _head(data: bytes, order: str) -> _Array | None:
    """Read flags, dims, name and where the numbers begin; None of what is no array of them."""
    try:
        flags = struct.unpack_from(order + "I", data, 8)[0]
        kind, at = _CLASSES.get(flags & 0xFF), 16
        size, begin, at = _element(data, at, order)[1:]
        shape = struct.unpack_from(f"{order}{size // 4}i", data, begin)
        _, size, begin, at = _element(data, at, order)
        name = data[begin : begin + size].decode("latin-1")
        code, _, begin, _ = _element(data, at, order)
    except struct.error:
        return None
    if kind is None or code not in _STORED or (flags >> 8) & _COMPLEX:
        return None
    return _Array(name, shape, kind, order + _STORED[code], begin)


def _element(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Type, bytes and beginning of an element, and where the next one begins."""
    code, size = struct.unpack_from(order + "II", data, at)
    if code >> 16:  # a small one: four bytes of data within the tag
        return code & 0xFFFF, code >> 16, at + 4, at + 8
    return code, size, at + 8, at + 8 + -(-size // 8) * 8
