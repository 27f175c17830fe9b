"""Rolling percentiles and noise on a GPU: the names of ``rolling_cpu.py``, and its results.

Imported inside functions only; CuPy inside those that need it. Array expressions take their array
module from what they are given, and so run on numpy too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from xs2p.compute.arrays import array_module, as_array, is_cupy
from xs2p.compute.gpu import by_traces
from xs2p.compute.gpu_traces import BATCH_BYTES, of_host_too

__all__ = [
    "deviation",
    "inactive_median",
    "median",
    "noise",
    "percentile",
    "rolling_median",
    "rolling_percentile",
]

_SIGMA = 1.4826
_SAMPLES = 2**28  # whose places are counted in 32 bits


@of_host_too(at_once=BATCH_BYTES)
def rolling_percentile(F: Any, window: int, percent: float) -> Any:
    """Percentile of the ``window`` frames around each frame of CuPy traces, exact."""
    return _rolling(F, window, percent)


@of_host_too(at_once=BATCH_BYTES)
def rolling_median(F: Any, window: int) -> Any:
    """Median of the ``window`` frames around each frame of CuPy traces."""
    return _rolling(F, window, 50)


def _one_after_another(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let traces be ``(trace, time)``, and a threshold ``(…, 1)`` have one number for each."""

    @functools.wraps(function)
    def flat(F: Any, low_window: int, window: int, threshold: Any) -> Any:
        xp, n_traces = array_module(F), int(np.prod(F.shape[:-1]))
        if np.ndim(threshold):
            each = xp.broadcast_to(as_array(xp, threshold), (*F.shape[:-1], 1))
            threshold = each.reshape(n_traces, 1)
        traces = F.reshape(n_traces, F.shape[-1])
        return function(traces, low_window, window, threshold).reshape(F.shape)

    return flat


@_one_after_another
@of_host_too(at_once=BATCH_BYTES)
def inactive_median(F: Any, low_window: int, window: int, threshold: Any) -> Any:
    """Median of the frames around each at which a CuPy trace is near its low level."""
    xp = array_module(F)
    F = F.astype(np.float32, copy=False)
    low = _rolling(F, low_window, 10)
    quiet = xp.where(xp.abs(F - low) > as_array(xp, threshold), np.float32(np.nan), F)
    level = _rolling(quiet, window, 50)
    return xp.where(xp.isnan(level), low, level)


@of_host_too(at_once=BATCH_BYTES)
def deviation(F: Any, window: int) -> Any:
    """Distance of each sample of CuPy traces from the rolling median; NaN where ``F`` is."""
    return _deviation(F, window)


@of_host_too(at_once=BATCH_BYTES)
def noise(F: Any, window: int) -> Any:
    """Estimate the noise's standard deviation of CuPy traces, float32 ``(…)``."""
    level = _percentile(_deviation(F, window), 50)
    return (_SIGMA * level.astype(np.float64)).astype(np.float32)


@of_host_too(at_once=BATCH_BYTES)
def median(F: Any) -> Any:
    """Median of each CuPy trace, float32 ``(…)``; NaN where no frame counts."""
    return _percentile(F, 50)


@of_host_too(at_once=BATCH_BYTES)
def percentile(F: Any, percent: float) -> Any:
    """Percentile of each CuPy trace, float32 ``(…)``; NaN does not count."""
    return _percentile(F, percent)


def _deviation(F: Any, window: int) -> Any:
    F = F.astype(np.float32, copy=False)
    return array_module(F).abs(F - _rolling(F, window, 50))


def _percentile(F: Any, percent: float) -> Any:
    xp = array_module(F)
    levels = xp.full(F.shape[:-1], np.nan, np.float32)
    if F.size == 0:
        return levels
    n_frames = F.shape[-1]
    traces, flat = F.reshape(-1, n_frames), levels.reshape(-1)

    def work(start: int, stop: int) -> None:
        flat[start:stop] = _levels(traces[start:stop], percent)

    if is_cupy(F):
        by_traces(len(traces), n_frames, 24, work, _SAMPLES)
    else:
        work(0, len(traces))
    return levels


def _levels(traces: Any, percent: float) -> Any:
    """Percentiles of traces ``(trace, time)``."""
    xp, n_frames = array_module(traces), traces.shape[-1]
    traces = traces.astype(np.float32, copy=False)
    ordered = xp.sort(traces, axis=-1).reshape(-1)  # NaN last
    n_valid = n_frames - xp.isnan(traces).sum(axis=-1)
    below, above, part = _wanted(n_valid, percent)
    rows = xp.arange(len(traces)) * n_frames
    level = _between(ordered[rows + below], ordered[rows + above], part)
    return xp.where(n_valid > 0, level, np.float32(np.nan))


def _wanted(n_valid: Any, percent: float) -> tuple[Any, Any, Any]:
    """Places of the two samples around a percentile of so many, and how far it is between them."""
    xp = array_module(n_valid)
    last = xp.maximum(n_valid - 1, 0).astype(np.int32)
    where = percent / 100 * last.astype(np.float64)
    below = xp.minimum(where.astype(np.int32), last)
    return below, xp.minimum(below + np.int32(1), last), where - below


def _between(low: Any, high: Any, part: Any) -> Any:
    low, high = low.astype(np.float64), high.astype(np.float64)
    level = array_module(low).where((high > low) & (part > 0), low + (high - low) * part, low)
    return level.astype(np.float32)


def _rolling(F: Any, window: int, percent: float) -> Any:
    xp = array_module(F)
    out = xp.empty(F.shape, np.float32)
    if F.size == 0:
        return out
    n_frames = F.shape[-1]
    traces, results = F.reshape(-1, n_frames), out.reshape(-1, n_frames)

    def work(start: int, stop: int) -> None:
        results[start:stop] = _windows(traces[start:stop], window, percent)

    if is_cupy(F):
        by_traces(len(traces), n_frames + window, 120, work, _SAMPLES)
    else:
        work(0, len(traces))
    return out


def _windows(traces: Any, window: int, percent: float) -> Any:
    """Percentiles of windows by a wavelet matrix over the ranks of samples.

    Ranks are looked at bit by bit, the highest first. For each bit, samples are put in order of
    it, those of a window stay together, and how many of them have 0 there tells which the bit of
    the rank that is asked for is. All windows of all traces are looked up at once.
    """
    xp = array_module(traces)
    traces = traces.astype(np.float32) + np.float32(0)  # 0 and -0 are one number
    n_traces, n_frames = traces.shape
    order = xp.argsort(traces, axis=-1)  # NaN last
    rows = (xp.arange(n_traces) * n_frames)[:, None]
    order = (order + rows).reshape(-1)
    values = traces.reshape(-1)[order]
    rank = xp.empty(n_traces * n_frames, np.int32)
    rank[order] = xp.tile(xp.arange(n_frames, dtype=np.int32), n_traces)
    # Edges are reflected as often as it takes.
    frame = xp.arange(-(window // 2), n_frames + window // 2) % (2 * n_frames)
    frame = xp.minimum(frame, 2 * n_frames - 1 - frame)
    valid = ~xp.isnan(traces)[:, frame]
    before = _sums_before(valid)
    n_valid = before[:, window:] - before[:, :-window]
    del valid, before, order
    padded = rank.reshape(n_traces, n_frames)[:, frame]
    below, above, part = _wanted(n_valid, percent)
    low, high = (values[rows + k] for k in _ranks(padded, [below, above], window, n_frames))
    return xp.where(n_valid > 0, _between(low, high, part), np.float32(np.nan))


def _ranks(ranks: Any, wanted: list[Any], window: int, n_frames: int) -> list[Any]:
    """Ranks at the places ``wanted`` among the ascending ones of each window."""
    xp = array_module(ranks)
    n_traces, n_samples = ranks.shape
    row = (xp.arange(n_traces, dtype=np.int32) * n_samples)[:, None]
    row_sums = (xp.arange(n_traces, dtype=np.int32) * (n_samples + 1))[:, None]
    start = xp.tile(xp.arange(n_frames, dtype=np.int32), (n_traces, 1))
    queries = [(start, start + np.int32(window), k, xp.zeros_like(k)) for k in wanted]
    for bit in reversed(range(int(n_frames - 1).bit_length())):
        ones = ((ranks >> bit) & 1).astype(bool)
        sums = _sums_before(~ones)  # how many have 0, before each place
        n_zeros = sums[:, -1:]
        place = xp.arange(n_samples, dtype=np.int32)
        place = xp.where(ones, n_zeros + place - sums[:, :-1], sums[:, :-1]) + row
        moved = xp.empty(ranks.size, np.int32)
        moved[place.reshape(-1)] = ranks.reshape(-1)
        ranks, flat = moved.reshape(ranks.shape), sums.reshape(-1)
        for i, (left, right, k, found) in enumerate(queries):
            zeros_left, zeros_right = flat[row_sums + left], flat[row_sums + right]
            zeros = zeros_right - zeros_left
            one = k >= zeros
            left = xp.where(one, n_zeros + left - zeros_left, zeros_left)
            right = xp.where(one, n_zeros + right - zeros_right, zeros_right)
            k = xp.where(one, k - zeros, k)
            queries[i] = left, right, k, found | (one.astype(np.int32) << np.int32(bit))
    return [found for *_, found in queries]


def _sums_before(flags: Any) -> Any:
    """How many of the flags of each row stand before each place, int32, and of the whole row."""
    xp = array_module(flags)
    n_rows, n = flags.shape
    # Of all rows in one go, as one long sum is made of many threads.
    total = xp.cumsum(flags.reshape(-1), dtype=np.int32).reshape(n_rows, n)
    sums = xp.zeros((n_rows, n + 1), np.int32)
    sums[:, 1:] = total
    sums[1:, 1:] -= total[:-1, -1:]
    return sums
