"""Percentiles of each trace, by counting and not by sorting. NaN is passed over."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from xs2p.compute.kernels import njit

# Frames from which counting is faster: tables of 2 · 65,536 counts are gone over for each trace.
_MANY = 2**14

_MISSING = np.uint32(0xFFFFFFFF)


def percentile_of_numpy(F: np.ndarray, percent: float) -> np.ndarray:
    """``np.percentile(trace, percent)`` of float32 traces ``(…, time)``, to its last bit ``(…)``.

    As of numpy 2.4, which draws the line between two samples in float32.
    """

    def between(part: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        step = high - low
        return low + step * part if part < 0.5 else high - step * (1 - part)

    return _percentile(F, percent, between)


def percentile(F: np.ndarray, percent: float) -> np.ndarray:
    """Percentile of float32 traces ``(…, time)``, the line between two samples in float64."""

    def between(part: float, low: np.ndarray, high: np.ndarray) -> np.ndarray:
        low, high = low.astype(np.float64), high.astype(np.float64)
        return np.where(high > low, low + (high - low) * part, low)

    return _percentile(F, percent, between)


def _percentile(
    F: np.ndarray,
    percent: float,
    between: Callable[[float, np.ndarray, np.ndarray], np.ndarray],
) -> np.ndarray:
    """Level of each trace by the samples of two ranks; NaN where no frame counts."""
    levels = np.full(F.shape[:-1], np.nan, np.float32)
    if F.size == 0:
        return levels
    traces, out = F.reshape(-1, F.shape[-1]), levels.reshape(-1)
    n_valid = F.shape[-1] - np.isnan(traces).sum(axis=-1)
    for count in np.unique(n_valid[n_valid > 0]).tolist():
        rows = np.flatnonzero(n_valid == count)
        place = percent / 100 * (count - 1)
        below = min(int(place), count - 1)
        some = traces if rows.size == len(traces) else traces[rows]
        out[rows] = between(place - below, *two_ranks(some, np.full(rows.size, below)))
    return levels


def two_ranks(traces: np.ndarray, below: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the sample of rank ``below``, from 0, and that of the next rank.

    Parameters
    ----------
    traces
        float32 ``(trace, time)``. NaN are beyond all others and have no rank.
    below
        Ranks ``(trace,)``, each less than the number of the trace's samples that are not NaN.

    Returns
    -------
    Two float32 ``(trace,)``; twice the same where there is no next rank.
    """
    low = np.empty(len(traces), np.float32)
    high = np.empty(len(traces), np.float32)
    if traces.shape[-1] < _MANY:
        for rank in np.unique(below):
            rows = np.flatnonzero(below == rank)
            ordered = traces[rows]
            # By one place alone: numpy has no vector instructions for two.
            ordered.partition(rank, axis=-1)
            low[rows] = ordered[:, rank]
            beyond = ordered[:, min(rank + 1, traces.shape[-1] - 1) :]
            high[rows] = np.fmax(np.fmin.reduce(beyond, axis=-1), low[rows])
        return low, high
    bits = np.ascontiguousarray(traces).view(np.uint32)
    _count(bits, below, low.view(np.uint32), high.view(np.uint32))
    return low, high


@njit
def _key(bits):  # type: ignore[no-untyped-def]
    """Bits of a float32 as a number of the same order, NaN beyond all."""
    missing = (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
    key = bits ^ (np.uint32(np.int32(bits) >> np.int32(31)) | np.uint32(0x80000000))
    return _MISSING if missing else np.uint32(key)


@njit
def _bits(key):  # type: ignore[no-untyped-def]
    below_0 = (key & np.uint32(0x80000000)) == 0
    return np.uint32(~key) if below_0 else np.uint32(key ^ np.uint32(0x80000000))


@njit
def _place(counts, rank):  # type: ignore[no-untyped-def]
    """Which of the counts holds ``rank``, and how many samples are before it."""
    seen, start = 0, 0
    while True:  # by 256, which compiles to vector instructions
        some = np.uint32(0)
        for i in range(start, start + 256):
            some += counts[i]
        if seen + some > rank:
            break
        seen += int(some)
        start += 256
    while seen + counts[start] <= rank:
        seen += counts[start]
        start += 1
    return start, seen


@njit
def _least_beyond(trace, half):  # type: ignore[no-untyped-def]
    """Least key whose upper half is beyond ``half``."""
    least = _MISSING
    for i in range(trace.size):
        key = _key(trace[i])
        least = min(least, key if key >> np.uint32(16) > half else _MISSING)
    return least


@njit
def _count(traces, below, low, high):  # type: ignore[no-untyped-def]
    """Count samples by the upper half of their key; those of one upper half by the lower."""
    upper, lower = np.empty(65536, np.uint32), np.empty(65536, np.uint32)
    for n in range(traces.shape[0]):
        trace, rank = traces[n], below[n]
        upper[:] = 0
        for i in range(trace.size):
            upper[_key(trace[i]) >> np.uint32(16)] += np.uint32(1)
        half, seen = _place(upper, rank)
        lower[:] = 0
        for i in range(trace.size):
            key = _key(trace[i])
            if key >> np.uint32(16) == half:
                lower[key & np.uint32(0xFFFF)] += np.uint32(1)
        rest, before = _place(lower, rank - seen)
        first = np.uint32(half << 16 | rest)
        low[n] = high[n] = _bits(first)
        if seen + before + lower[rest] > rank + 1:
            continue
        if seen + upper[half] > rank + 1:
            rest, _ = _place(lower, rank + 1 - seen)
            high[n] = _bits(np.uint32(half << 16 | rest))
        else:
            following = _least_beyond(trace, half)
            high[n] = _bits(first if following == _MISSING else following)
