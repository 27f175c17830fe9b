"""Baselines on a GPU: the names of ``filters_cpu.py``, and its results.

Imported inside functions only; CuPy inside those that need it. Array expressions take their array
module from what they are given, and so run on numpy too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module, as_array, is_cupy
from xs2p.compute.gpu import by_traces, fits_shared, launch
from xs2p.compute.gpu_traces import BATCH_BYTES, of_host_too
from xs2p.traces.taps import gaussian_taps

__all__ = ["gaussian_scipy", "maximin", "percentile"]

# Samples that a block of the running extremes holds at most, and its threads; samples that a thread
# of the Gaussian makes, and its threads at most: as in kernels.cu.
_TILE, _THREADS = 12288, 512
_EACH, _MOST_THREADS = 7, 256


class Filters(NamedTuple):
    """Baselines of CuPy traces, whichever kernels filter those ``(trace, time)`` in a row."""

    smooth: Callable[[Any, float, int, bool, bool], Any]
    """By a Gaussian of sigma, cut at a radius, edges reflected or not; NaN can count as 0."""
    running: Callable[[Any, int, int, bool], Any]
    """Minimum, or maximum, over so many frames before and after each."""

    def maximin(self, F: Any, sigma: float, size: int, legacy: bool) -> Any:
        """Gaussian, running minimum and maximum."""
        import cupy

        if F.size == 0:
            return F.astype(np.float32)
        n_frames = F.shape[-1]
        radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
        left, right = (min(side, n_frames) for side in (size // 2, size - 1 - size // 2))
        traces = cupy.ascontiguousarray(F, dtype=np.float32).reshape(-1, n_frames)
        F0 = cupy.empty(traces.shape, np.float32)

        def work(start: int, stop: int) -> None:
            some = traces[start:stop]
            gap = cupy.isnan(some)
            holed = bool(gap.any())
            smoothed = self.smooth(some, sigma, radius, legacy, holed)
            low = self.running(smoothed, left, right, True)
            high = self.running(low, left, right, False)
            if holed:  # blank what a NaN reaches
                reach = min(radius + 2 * (size // 2), n_frames)
                high[self.running(gap.astype(np.float32), reach, reach, False) > 0] = np.nan
            F0[start:stop] = high

        by_traces(len(traces), n_frames + left + right, 32, work)
        return F0.reshape(F.shape)

    def gaussian_scipy(self, F: Any, sigma: float) -> Any:
        """SciPy's own Gaussian along time: cut at 4 sigma, edges reflected."""
        import cupy

        F = cupy.ascontiguousarray(F, dtype=np.float32)
        if sigma <= 0 or F.size == 0:
            return F
        traces = F.reshape(-1, F.shape[-1])
        return self.smooth(traces, sigma, int(4 * sigma + 0.5), True, False).reshape(F.shape)


@of_host_too(at_once=BATCH_BYTES)
def maximin(F: Any, sigma: float, size: int, *, legacy: bool = False) -> Any:
    """Gaussian, running minimum and maximum of CuPy traces."""
    return Filters(_smooth, _running).maximin(F, sigma, size, legacy)


@of_host_too(at_once=BATCH_BYTES)
def gaussian_scipy(F: Any, sigma: float) -> Any:
    """SciPy's own Gaussian along time of CuPy traces."""
    return Filters(_smooth, _running).gaussian_scipy(F, sigma)


def _smooth(traces: Any, sigma: float, radius: int, reflect: bool, skip_nan: bool) -> Any:
    import cupy

    n_traces, n_frames = traces.shape
    half = gaussian_taps(sigma, radius, n_frames, reflect)
    taps, radius = as_array(cupy, half), half.size - 1
    numbers = np.int32(radius), np.int32(reflect), np.int32(skip_nan)
    out = cupy.empty(traces.shape, np.float32)
    tiles, threads, shared = smooth_tiles(n_frames, radius)
    if fits_shared(shared):
        args = traces, np.int64(n_frames), taps, *numbers, out
        launch("smooth_tile", (n_traces * tiles,), (threads,), *args, shared=shared)
    else:
        shape = np.int64(n_traces), np.int64(n_frames)
        launch("smooth", (-(-traces.size // 256),), (256,), traces, *shape, taps, *numbers, out)
    return out


def smooth_tiles(n_frames: int, radius: int) -> tuple[int, int, int]:
    """How many blocks a trace takes, the threads of each, and its bytes of shared memory.

    Blocks of a trace are alike, whole warps, and no larger than they must. 48 kB, which every
    device has, are enough up to a radius of 2176.
    """
    tiles = -(-n_frames // (_MOST_THREADS * _EACH))
    threads = -(-n_frames // (tiles * _EACH * 32)) * 32
    return tiles, threads, 8 * (threads * _EACH + 2 * radius)


def _running(traces: Any, left: int, right: int, smallest: bool) -> Any:
    import cupy

    window = left + right + 1
    if window > _TILE // 2:
        return running_by_doubling(traces, left, right, smallest)
    n_traces, n_frames = traces.shape
    tiles, size = tiles_of(n_frames, window)
    out = cupy.empty(traces.shape, np.float32)
    launch(
        "running_min" if smallest else "running_max",
        (n_traces * tiles,),
        (_THREADS,),
        traces,
        np.int64(n_frames),
        np.int32(left),
        np.int32(right),
        np.int32(size),
        np.float32(np.inf if smallest else -np.inf),
        out,
    )
    return out


def tiles_of(n_frames: int, window: int) -> tuple[int, int]:
    """How many blocks a trace takes, and how many samples each of them holds: no more than it must.

    That is what it makes and ``window - 1`` of its neighbours', rounded up to the threads.
    """
    tiles = -(-n_frames // (_TILE - window + 1))
    held = -(-n_frames // tiles) + window - 1
    return tiles, -(-held // _THREADS) * _THREADS


def running_by_doubling(traces: Any, left: int, right: int, smallest: bool) -> Any:
    """Minimum or maximum of windows of any length: of 2, 4, 8 … samples, and then of the window."""
    xp = array_module(traces)
    extreme, nothing = (xp.minimum, np.inf) if smallest else (xp.maximum, -np.inf)
    n_traces, n_frames = traces.shape
    now = xp.full((n_traces, n_frames + left + right), nothing, traces.dtype)
    now[:, left : left + n_frames] = traces
    width, window = 1, left + right + 1
    while width < window:
        step = min(width, window - width)
        now = extreme(now[:, :-step], now[:, step:])
        width += step
    return now


@of_host_too(at_once=BATCH_BYTES)
def percentile(F: Any, percent: float) -> Any:
    """Percentile of each trace, float32: between two samples linearly; NaN are passed over."""
    xp = array_module(F)
    levels = xp.zeros(F.shape[:-1], np.float32)
    if F.size == 0:
        return levels
    traces, flat = F.reshape(-1, F.shape[-1]), levels.reshape(-1)

    def work(start: int, stop: int) -> None:
        flat[start:stop] = _percentile(traces[start:stop], percent)

    if is_cupy(F):
        by_traces(len(traces), F.shape[-1], 24, work)
    else:
        work(0, len(traces))
    return levels


def _percentile(traces: Any, percent: float) -> Any:
    xp = array_module(traces)
    ordered = xp.sort(traces.astype(np.float32, copy=False), axis=-1)  # NaN last
    last = xp.maximum((~xp.isnan(ordered)).sum(axis=-1) - 1, 0)
    place = percent / 100 * last
    below = place.astype(np.int64)
    low, high = (
        xp.take_along_axis(ordered, index[..., None], axis=-1)[..., 0]
        for index in (below, xp.minimum(below + 1, last))
    )
    return low + (high - low) * (place - below).astype(np.float32)
