"""Baselines on a GPU by CuPy's own filters: the names of ``filters_cpu.py``, and its results.

Those of Gaussians to rounding. Imported inside functions only; CuPy inside those that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.gpu import by_traces
from xs2p.compute.gpu_traces import BATCH_BYTES, of_host_too
from xs2p.traces.filters_gpu import percentile, running_by_doubling
from xs2p.traces.taps import gaussian_taps

__all__ = ["gaussian_scipy", "maximin", "percentile"]

# Frames of the longest window whose every sample is looked at: beyond it, passes over all traces
# for 2, 4, 8 … samples cost less.
SHORT = 64


@of_host_too(at_once=BATCH_BYTES)
def maximin(F: Any, sigma: float, size: int, *, legacy: bool = False) -> Any:
    """Gaussian, running minimum and maximum of CuPy traces."""
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
        filled = cupy.where(gap, np.float32(0), some) if holed else some
        smooth = _smooth(filled, sigma, radius, "reflect" if legacy else "nearest")
        high = _running(_running(smooth, left, right, True), left, right, False)
        if holed:  # blank what a NaN reaches
            reach = min(radius + 2 * (size // 2), n_frames)
            high[_running(gap.astype(np.float32), reach, reach, False) > 0] = np.nan
        F0[start:stop] = high

    by_traces(len(traces), n_frames + left + right, 32, work)
    return F0.reshape(F.shape)


@of_host_too(at_once=BATCH_BYTES)
def gaussian_scipy(F: Any, sigma: float) -> Any:
    """SciPy's own Gaussian along time of CuPy traces: cut at 4 sigma, edges reflected."""
    import cupy

    F = cupy.ascontiguousarray(F, dtype=np.float32)
    if sigma <= 0 or F.size == 0:
        return F
    traces = F.reshape(-1, F.shape[-1])
    return _smooth(traces, sigma, int(4 * sigma + 0.5), "reflect").reshape(F.shape)


def _smooth(traces: Any, sigma: float, radius: int, mode: str) -> Any:
    """Filter traces ``(trace, time)`` with a Gaussian, in float64."""
    import cupy
    from cupyx.scipy.ndimage import correlate1d

    taps = gaussian_taps(sigma, radius, traces.shape[-1], mode == "reflect")
    taps = np.concatenate([taps[:0:-1], taps])
    return correlate1d(traces, cupy.asarray(taps), axis=-1, mode=mode)


def _running(traces: Any, left: int, right: int, smallest: bool) -> Any:
    """Minimum or maximum of traces over ``left`` frames before and ``right`` after each."""
    from cupyx.scipy.ndimage import maximum_filter1d, minimum_filter1d

    window = left + right + 1
    if window > SHORT or left - right not in (0, 1):
        return running_by_doubling(traces, left, right, smallest)
    # What is replicated beyond an end is a sample that the window has anyway.
    extreme = minimum_filter1d if smallest else maximum_filter1d
    return extreme(traces, window, axis=-1, mode="nearest")
