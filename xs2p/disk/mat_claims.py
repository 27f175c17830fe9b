"""What a MAT-file of version 5 to 7 claims of its own sizes, checked before scipy believes it.

scipy's reader is compiled, and follows counts of a damaged file out of memory, for minutes, or to
the end of the process.
"""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Collection

import numpy as np

MOST = 2**26  # bytes that a compressed struct or cell is unpacked to
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _OBJECT, _CHAR, _SPARSE, _FUNCTION, _OPAQUE = 1, 2, 3, 4, 5, 16, 17
_SIZES = {1: 1, 2: 1, 3: 2, 4: 2, 5: 4, 6: 4, 7: 4, 9: 8, 12: 8, 13: 8, 16: 1, 17: 2, 18: 4}
_COMPLEX = 0x0800
_DEEPEST = 50  # structs in cells in structs


def check_mat(path: str, names: Collection[str] | None) -> None:
    """Raise a ValueError where an array of a MAT-file claims more than its own bytes can hold."""
    with open(path, "rb") as file:
        head = file.read(128)
        if len(head) < 128 or head[126:128] not in (b"IM", b"MI"):
            return  # of version 4, or none
        order = "<" if head[126:128] == b"IM" else ">"
        while len(tag := file.read(8)) == 8:
            code, size = struct.unpack(order + "II", tag)
            if size > os.fstat(file.fileno()).st_size - file.tell():
                raise ValueError("it was cut")
            data = file.read(size)
            try:
                if code == _COMPRESSED:
                    _check_packed(data, order, names)
                elif code == _MATRIX:
                    _check_array(data, order, 0)
            except (struct.error, zlib.error, RecursionError) as error:
                raise ValueError(f"an array of it is damaged ({error})") from error


def _check_packed(data: bytes, order: str, names: Collection[str] | None) -> None:
    head = zlib.decompressobj().decompress(data, 4096)
    code, size = struct.unpack_from(order + "II", head)
    if code != _MATRIX:
        raise ValueError(f"an array of it is of no known kind ({code})")
    kind, name = _kind(head[8:], order)
    if kind not in (_CELL, _STRUCT, _OBJECT, _SPARSE):
        return _check_array(head[8:], order, 0, size)
    if names is not None and name not in names:
        return None
    if size > MOST:
        raise ValueError(f"its {name!r} of {len(data)} bytes unpacks to {size}")
    packed = zlib.decompressobj()
    unpacked = packed.decompress(data, size + 8)
    if kind == _SPARSE and (len(unpacked) != size + 8 or packed.decompress(packed.unconsumed_tail)):
        raise ValueError(f"its {name!r} does not unpack to the {size} bytes that it tells of")
    return _check_array(unpacked[8:], order, 0)


def _kind(data: bytes, order: str) -> tuple[int, str]:
    """Class of an array, and its name."""
    kind = struct.unpack_from(order + "I", data, 8)[0] & 0xFF
    at = _part(data, 16, order)[3]
    _, size, begin, _ = _part(data, at, order)
    return kind, data[begin : begin + size].decode("latin-1")


def _check_array(data: bytes, order: str, depth: int, size: int | None = None) -> None:
    """Check the array whose bytes ``data`` are, or begin it where it has ``size`` of them."""
    if not data:
        return  # an empty one
    if depth > _DEEPEST:
        raise ValueError(f"arrays lie in each other more than {_DEEPEST} deep")
    room, whole = (len(data), True) if size is None else (size, False)
    code, size, _, at = _part(data, 0, order)
    if (code, size) != (6, 8):
        raise ValueError("an array of it does not begin with its kind")
    flags = struct.unpack_from(order + "I", data, 8)[0]
    kind = flags & 0xFF
    if kind in (_FUNCTION, _OPAQUE):
        return
    code, size, begin, at = _part(data, at, order)
    if code != 5 or size % 4 or size < 8 or begin + size > len(data):  # of fewer dims scipy dies
        raise ValueError("an array of it does not say its shape")
    shape = struct.unpack_from(f"{order}{size // 4}i", data, begin)
    number = math.prod(shape)
    if min(shape, default=0) < 0 or number > 8 * room:
        raise ValueError(f"an array of the shape {shape} in {room} bytes")
    code, size, begin, at = _part(data, at, order)  # its name
    if begin + size > len(data):
        raise ValueError("a name in it is longer than the file")
    if kind in (_CELL, _STRUCT, _OBJECT):
        _check_parts(data, at, order, depth, kind, number)
    elif kind == _SPARSE:
        _check_sparse(data, at, order, shape)
    elif number:
        at = _check_numbers(data, at, order, kind, shape, room)
        if flags & _COMPLEX and at < len(data):
            _check_numbers(data, at, order, kind, shape, room)
        elif flags & _COMPLEX and whole:
            raise ValueError(f"a complex array of the shape {shape} has no imaginary part")


def _check_numbers(
    data: bytes, at: int, order: str, kind: int, shape: tuple[int, ...], room: int
) -> int:
    """Check that there are as many numbers as the shape says; where what is after them begins."""
    code, size, begin, after = _part(data, at, order)
    right = kind == _CHAR or math.prod(shape) * _SIZES.get(code, 0) == size
    if code not in _SIZES or begin + size > room or not right:
        raise ValueError(f"an array of the shape {shape} has {size} bytes of the kind {code}")
    return after


def _check_sparse(data: bytes, at: int, order: str, shape: tuple[int, ...]) -> None:
    """Check that the rows and columns of a sparse matrix are in it."""
    parts = []
    for _ in range(2):
        code, size, begin, at = _part(data, at, order)
        if code not in (5, 6) or size % 4 or begin + size > len(data):
            raise ValueError("a sparse matrix does not say where its numbers are")
        parts.append(np.frombuffer(data, f"{order}i4", size // 4, begin))
    code, size, begin, _ = _part(data, at, order)
    rows, ends = parts
    right = len(shape) == 2 and ends.size == shape[1] + 1 and (np.diff(ends) >= 0).all()
    if not right or ends[0] != 0 or ends[-1] > rows.size:
        raise ValueError(f"the columns of a sparse matrix of the shape {shape} do not follow")
    rows = rows[: ends[-1]]
    if rows.size and not 0 <= rows.min() <= rows.max() < shape[0]:
        raise ValueError(f"a sparse matrix of the shape {shape} has rows that are not in it")
    if code not in _SIZES or begin + size > len(data) or size // _SIZES[code] < rows.size:
        raise ValueError(f"a sparse matrix has fewer numbers than the {rows.size} it tells of")


def _check_parts(data: bytes, at: int, order: str, depth: int, kind: int, number: int) -> None:
    """Check the arrays in a cell, or in a struct of so many elements."""
    if kind == _OBJECT:
        at = _part(data, at, order)[3]
    if kind in (_STRUCT, _OBJECT):
        code, size, begin, at = _part(data, at, order)
        length = struct.unpack_from(order + "i", data, begin)[0]
        code, size, begin, at = _part(data, at, order)
        if code != 1 or begin + size > len(data) or length < 1 or size % length:
            raise ValueError("a struct of it does not say its fields")
        number *= size // length
    if 8 * number > len(data):
        raise ValueError(f"{number} arrays in {len(data)} bytes")
    for _ in range(number):
        code, size, begin, at = _part(data, at, order)
        if code != _MATRIX or begin + size > len(data):
            raise ValueError("a part of a struct or cell is no array, or longer than the file")
        _check_array(data[begin : begin + size], order, depth + 1)


def _part(data: bytes, at: int, order: str) -> tuple[int, int, int, int]:
    """Type, bytes and beginning of an element, and where the next one begins."""
    code, size = struct.unpack_from(order + "II", data, at)
    if code >> 16:  # a small one: four bytes of data within the tag
        return code & 0xFFFF, code >> 16, at + 4, at + 8
    step = size if code == _MATRIX else -(-size // 8) * 8
    return code, size, at + 8, at + 8 + step
