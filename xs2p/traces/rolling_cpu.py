"""Rolling percentiles and noise on the CPU. NaN is a frame that does not count."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xs2p.compute.kernels import njit
from xs2p.traces.ranks import percentile

__all__ = [
    "deviation",
    "inactive_median",
    "median",
    "noise",
    "percentile",
    "rolling_median",
    "rolling_percentile",
]

# Of a normal distribution, the standard deviation over the median absolute deviation.
_SIGMA = 1.4826

# Frames of a result that are worked on at once, at least, and samples of such blocks that stay
# in the processor's second cache.
_FRAMES, _SAMPLES = 1024, 2**16


def rolling_percentile(F: np.ndarray, window: int, percent: float) -> np.ndarray:
    """Percentile of the ``window`` frames around each frame, exact, as numpy's "linear".

    Parameters
    ----------
    F
        Traces ``(…, time)``; NaN does not count.
    window
        Odd number of frames, ``window // 2`` to each side. Edges are reflected, as often as it
        takes (SciPy's "reflect", numpy's "symmetric").
    percent
        From 0 to 100.

    Returns
    -------
    float32 ``(…, time)``, at frames that are NaN too; NaN where no frame in the window counts.
    """
    F = np.asarray(F)
    out = np.empty(F.shape, np.float32)
    if F.size == 0:
        return out
    n_frames = F.shape[-1]
    traces, results = F.reshape(-1, n_frames), out.reshape(-1, n_frames)
    step = max(4 * window, _FRAMES)
    n_blocks = -(-n_frames // step)
    step = -(-n_frames // n_blocks)
    some = max(_SAMPLES // min(step + window, n_frames), 1)
    for first in range(0, n_frames, step):
        last = min(first + step, n_frames)
        places, low, high, rounds = _places(first, last, window, n_frames)
        for start in range(0, len(traces), some):
            # 0 and -0 are one number, whichever comes first.
            block = traces[start : start + some, low:high].astype(np.float32, order="C")
            block += np.float32(0)
            result = np.empty((len(block), last - first), np.float32)
            _select(_ordered(block), block, places, 2 * rounds, percent / 100, result)
            results[start : start + some, first:last] = result
    return out


def _places(first: int, last: int, window: int, n_frames: int) -> tuple[np.ndarray, int, int, int]:
    """Where the frames lie that windows around ``first`` to ``last`` take in, one after another.

    A reflected trace repeats itself: of windows longer than that, whole ``rounds`` are left out.
    Places count from frame ``low``; none is beyond ``high``.
    """
    rounds, rest = divmod(window, 2 * n_frames)
    start = first - window // 2
    frame = np.arange(start, start + last - first + rest - 1) % (2 * n_frames)
    frame = np.minimum(frame, 2 * n_frames - 1 - frame)
    low, high = (0, n_frames) if rounds else (int(frame.min()), int(frame.max()) + 1)
    return (frame - low).astype(np.int32), low, high, rounds


def _ordered(block: np.ndarray) -> np.ndarray:
    """Places of samples in ascending order, NaN anywhere, as the lower halves of uint64."""
    bits = block.view(np.uint32)
    sign = np.uint32(2**31)
    keys = np.where(bits & sign, ~bits, bits | sign)
    places = np.arange(block.shape[1], dtype=np.uint64)
    return np.sort((keys.astype(np.uint64) << np.uint64(32)) | places, axis=-1)


@intrinsic
def _zeros_below(typingctx, word):  # type: ignore[no-untyped-def]
    """Place of the lowest bit of a word that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


@intrinsic
def _zeros_above(typingctx, word):  # type: ignore[no-untyped-def]
    """63 less the place of the highest bit of a word that is not 0."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        return builder.ctlz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.uint64(types.uint64), generate


_ONE, _SIX, _63 = np.uint64(1), np.uint64(6), np.uint64(63)


@njit
def _after(rank, words, pages):  # type: ignore[no-untyped-def]
    """Find the next rank above that is in the window; one there must be."""
    word = rank >> _SIX
    bits = words[word] >> (rank & _63) >> _ONE
    if bits:
        return rank + _ONE + _zeros_below(bits)  # type: ignore[call-arg]
    page = word >> _SIX
    bits = pages[page] >> (word & _63) >> _ONE
    if bits:
        word = word + _ONE + _zeros_below(bits)  # type: ignore[call-arg]
    else:
        page += _ONE
        while pages[page] == 0:
            page += _ONE
        word = (page << _SIX) + _zeros_below(pages[page])  # type: ignore[call-arg]
    return (word << _SIX) + _zeros_below(words[word])  # type: ignore[call-arg]


@njit
def _before(rank, words, pages):  # type: ignore[no-untyped-def]
    """Find the next rank below that is in the window; one there must be."""
    word = rank >> _SIX
    bits = words[word] << (_63 - (rank & _63)) << _ONE
    if bits:
        return rank - _ONE - _zeros_above(bits)  # type: ignore[call-arg]
    page = word >> _SIX
    bits = pages[page] << (_63 - (word & _63)) << _ONE
    if bits:
        word = word - _ONE - _zeros_above(bits)  # type: ignore[call-arg]
    else:
        page -= _ONE
        while pages[page] == 0:
            page -= _ONE
        word = (page << _SIX) + _63 - _zeros_above(pages[page])  # type: ignore[call-arg]
    return (word << _SIX) + _63 - _zeros_above(words[word])  # type: ignore[call-arg]


@njit
def _put_in(rank, counts, words, pages):  # type: ignore[no-untyped-def]
    counts[rank] += 1
    word = rank >> _SIX
    words[word] |= _ONE << (rank & _63)
    pages[word >> _SIX] |= _ONE << (word & _63)


@njit
def _take_out(rank, counts, words, pages):  # type: ignore[no-untyped-def]
    counts[rank] -= 1
    if counts[rank] == 0:
        word = rank >> _SIX
        words[word] &= ~(_ONE << (rank & _63))
        if words[word] == 0:
            pages[word >> _SIX] &= ~(_ONE << (word & _63))


@njit
def _select(ordered, block, places, always, fraction, out):  # type: ignore[no-untyped-def]
    """Percentiles of windows that move over traces by a frame at a time.

    ``ordered`` holds the places of samples in order, of which the windows take in ``places`` one
    after another, and each sample ``always`` times more. What is in the window is a bit at its
    rank; the one that is asked for moves by few of these from frame to frame.
    """
    n_samples, width = block.shape[1], places.size - out.shape[1] + 1
    counts, ranks = np.empty(n_samples, np.int32), np.empty(n_samples, np.int32)
    values = np.empty(n_samples, np.float32)
    words = np.empty((n_samples >> 6) + 1, np.uint64)
    pages = np.empty((words.size >> 6) + 1, np.uint64)
    for n in range(out.shape[0]):
        counts[:], words[:], pages[:] = 0, 0, 0
        total = np.int64(0)
        for rank in range(n_samples):
            place = np.uint32(ordered[n, rank])
            values[rank] = block[n, place]
            valid = not np.isnan(values[rank])
            ranks[place] = rank if valid else -1
            if valid and always:
                _put_in(np.uint64(rank), counts, words, pages)
                counts[rank] = always
                total += always
        for i in range(width):
            rank = ranks[places[i]]
            if rank >= 0:
                _put_in(np.uint64(rank), counts, words, pages)
                total += 1
        _move(places, ranks, values, counts, words, pages, total, fraction, out[n])


@njit
def _move(places, ranks, values, counts, words, pages, total, fraction, out):  # type: ignore[no-untyped-def]
    """Percentiles of a trace, from the first window on; ``total`` samples are in that."""
    width = places.size - out.size + 1
    cursor, below = np.uint64(0), np.int64(0)  # a rank, and how many samples are of lower ones
    for t in range(out.size):
        if total == 0:
            out[t] = np.nan
        else:
            where = fraction * (total - 1)
            wanted = min(np.int64(where), total - 1)
            while wanted < below:
                cursor = _before(cursor, words, pages)
                below -= counts[cursor]
            while wanted >= below + counts[cursor]:
                below += counts[cursor]
                cursor = _after(cursor, words, pages)
            low = np.float64(values[cursor])
            if where > wanted and wanted + 1 >= below + counts[cursor]:
                high = np.float64(values[_after(cursor, words, pages)])
                low = low + (high - low) * (where - wanted) if high > low else low
            out[t] = low
        if t + 1 == out.size:
            break
        gone, new = ranks[places[t]], ranks[places[t + width]]
        if gone >= 0:
            _take_out(np.uint64(gone), counts, words, pages)
            below -= np.int64(np.uint64(gone) < cursor)
            total -= 1
        if new >= 0:
            _put_in(np.uint64(new), counts, words, pages)
            below += np.int64(np.uint64(new) < cursor)
            total += 1


def rolling_median(F: np.ndarray, window: int) -> np.ndarray:
    """Median of the ``window`` frames around each frame: see `rolling_percentile`."""
    return rolling_percentile(F, window, 50)


def inactive_median(F: np.ndarray, low_window: int, window: int, threshold: Any) -> np.ndarray:
    """Median of the frames around each at which a trace is near its low level, ``(…, time)``.

    That level is the rolling 10th percentile over ``low_window`` frames; frames further than
    ``threshold``, ``(…, 1)``, from it, above or below, do not count. Where none in the window is
    left, the result is the low level itself. A frame depends on
    ``low_window // 2 + window // 2`` to each side.
    """
    F = np.asarray(F, dtype=np.float32)
    low = rolling_percentile(F, low_window, 10)
    quiet = np.where(np.abs(F - low) > threshold, np.float32(np.nan), F)
    level = rolling_median(quiet, window)
    return np.where(np.isnan(level), low, level)


def deviation(F: np.ndarray, window: int) -> np.ndarray:
    """Distance of each sample from the rolling median, float32; NaN where ``F`` is."""
    F = np.asarray(F, dtype=np.float32)
    return np.asarray(np.abs(F - rolling_median(F, window)))


def noise(F: np.ndarray, window: int) -> np.ndarray:
    """Estimate the standard deviation of noise, ``(…)``: 1.4826 · median |F − rolling median|."""
    return (_SIGMA * median(deviation(F, window)).astype(np.float64)).astype(np.float32)


def median(F: np.ndarray) -> np.ndarray:
    """Median of each trace, float32 ``(…)``; NaN where no frame counts."""
    return percentile(np.asarray(F, dtype=np.float32), 50)
