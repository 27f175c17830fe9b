"""Texts of an HDF5 file lie in heaps, and HDF5 never comes to the end of some that are damaged."""

from __future__ import annotations

import mmap
import os
import struct

_MARK = b"GCOL\x01\0\0\0"
_LOOKED_AT = 2**24  # bytes at the beginning of a file, where writers have what describes it


def check_heaps(name: str) -> None:
    """Raise where a heap has an entry of 0 bytes: who goes through it stays there."""
    size = min(os.path.getsize(name), _LOOKED_AT) if os.path.isfile(name) else 0
    if not size:
        return
    with open(name, "rb") as file, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as data:
        at = data.find(_MARK)
        while at >= 0:
            _check(data, at, name)
            at = data.find(_MARK, at + len(_MARK))


def _check(data: mmap.mmap, at: int, name: str) -> None:
    if at + 16 > len(data):
        return
    end = at + struct.unpack_from("<Q", data, at + 8)[0]
    at += 16
    while at + 16 <= min(end, len(data)):
        index, _, _, size = struct.unpack_from("<HHIQ", data, at)
        step = 16 + -(-size // 8) * 8 if index else size
        if not step:
            raise ValueError(f"{name}: a heap of its texts has an entry of no size: it is damaged")
        at += step
