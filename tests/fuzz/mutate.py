"""Damage to files, as disks, copies and people do it who want a reader to fall: by a seed alone."""

from __future__ import annotations

import re
import struct

import numpy as np

# Values at the edges of what headers hold, as little and big endian numbers of 1 to 8 bytes.
_EDGES = (0, 1, 2, 3, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**40)
_EDGES += (2**62, 2**63 - 1, 2**64 - 1, 10**9, 65535 * 65535)
_WORDS = (b"-1", b"0", b"1", b"nan", b"inf", b"1e9", b"999999999", b"1" + b"0" * 30, b"null", b"x")
_WORDS += (b"[]", b"{}", b'"a"', b"\xff\xfe", b"..", b"/", b"")


def mutant(rng: np.random.Generator, data: bytes, soft: np.ndarray) -> tuple[bytes, bool]:
    """Damage some bytes; whether any of them but the ``soft`` ones (pixels) were touched, too.

    ``soft`` are the places of pixels: one in ten mutations is of them.
    """
    kinds = (_flip, _byte, _edge, _edge, _edge, _zeros, _cut, _gone, _twice, _word, _word, _swap)
    found, hard = bytearray(data), False
    for _ in range(int(rng.choice([1, 1, 1, 2, 4]))):
        kind = kinds[int(rng.integers(len(kinds)))]
        at = _place(rng, soft, len(found))
        before = bytes(found)
        found = kind(rng, found, at)
        hard |= _touched(before, bytes(found), soft)
    return bytes(found), hard


def _place(rng: np.random.Generator, soft: np.ndarray, size: int) -> int:
    if not size:
        return 0
    if soft.all() or rng.random() < 0.1:
        return int(rng.integers(size))
    hard = np.flatnonzero(~soft)
    return min(int(hard[rng.integers(hard.size)]), size - 1)


def _touched(before: bytes, after: bytes, soft: np.ndarray) -> bool:
    if len(before) != len(after):
        return True
    a, b = np.frombuffer(before, "u1"), np.frombuffer(after, "u1")
    changed = np.flatnonzero(a != b)
    return bool(changed.size) and not (changed.max() < soft.size and soft[changed].all())


def _flip(rng, data, at):
    if data:
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _byte(rng, data, at):
    if data:
        data[at] = int(rng.integers(256))
    return data


def _edge(rng, data, at):
    size = int(rng.choice([1, 2, 4, 8]))
    number = int(rng.choice(np.array(_EDGES, object))) % 2 ** (8 * size)
    at -= at % size if rng.random() < 0.7 else 0
    order = "<" if rng.random() < 0.8 else ">"
    value = struct.pack(order + {1: "B", 2: "H", 4: "I", 8: "Q"}[size], number)
    data[at : at + size] = value[: max(0, len(data) - at)]
    return data


def _zeros(rng, data, at):
    stop = min(len(data), at + int(rng.choice([4, 16, 64, 512])))
    data[at:stop] = bytes(stop - at)
    return data


def _cut(rng, data, at):
    return data[: at if rng.random() < 0.5 else int(rng.integers(len(data) + 1))]


def _gone(rng, data, at):
    del data[at : at + int(rng.choice([1, 2, 8, 100]))]
    return data


def _twice(rng, data, at):
    data[at:at] = data[at : at + int(rng.choice([1, 4, 20, 300]))]
    return data


def _swap(rng, data, at):
    n = int(rng.choice([1, 4, 12]))
    other = int(rng.integers(len(data) + 1))
    if abs(other - at) >= n and max(other, at) + n <= len(data):
        data[at : at + n], data[other : other + n] = data[other : other + n], data[at : at + n]
    return data


def _word(rng, data, at):
    """Put another word in the place of a number or a name, where there is text."""
    found = list(re.finditer(rb"-?\d+|[A-Za-z_]{3,}", data[at : at + 200]))
    if not found:
        return _byte(rng, data, at)
    word = found[int(rng.integers(len(found)))]
    new = _WORDS[int(rng.integers(len(_WORDS)))]
    data[at + word.start() : at + word.end()] = new
    return data
