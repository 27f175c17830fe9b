"""Compound files of Microsoft's, as ``.oib`` is one: whether their chains of sectors end."""

from __future__ import annotations

import os
import struct

import numpy as np

_MAGIC = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_FIRST = 109  # numbers of sectors of the table that are in the header


def check_chains(name: str) -> None:
    """Raise where a chain of sectors goes in a circle: who follows it never comes to its end."""
    with open(name, "rb") as file:
        head = file.read(512)
        if len(head) < 512 or not head.startswith(_MAGIC):
            return  # the library says so
        size = os.fstat(file.fileno()).st_size
        sector = 4096 if struct.unpack_from("<H", head, 26)[0] == 4 else 512
        tables, mini, first, blocks = struct.unpack_from("<I12xI4xII", head, 44)
        if max(tables, blocks) > size // sector:
            raise ValueError(f"{name}: a table of {tables} sectors in {size} bytes: it is damaged")

        def read(at: int) -> np.ndarray:
            file.seek((at + 1) * sector)
            return np.frombuffer(file.read(sector).ljust(sector, b"\xff"), "<u4")

        places = np.frombuffer(head, "<u4", _FIRST, 76)
        for _ in range(blocks):
            block = read(first)
            places, first = np.append(places, block[:-1]), int(block[-1])
        table = np.concatenate([read(int(at)) for at in places[:tables]] or [places[:0]])
        _check(name, table)
        chain, at = [], mini
        while at < table.size:
            chain.append(read(at))
            at = int(table[at])
        _check(name, np.concatenate(chain or [table[:0]]))


def _check(name: str, table: np.ndarray) -> None:
    """Raise where following a table of what comes next does not leave it."""
    n = table.size
    after = np.append(np.minimum(table, n), n).astype(np.int64)
    for _ in range(n.bit_length() + 1):
        after = after[after]
    if (after != n).any():
        raise ValueError(f"{name}: its sectors follow each other in a circle: the file is damaged")
