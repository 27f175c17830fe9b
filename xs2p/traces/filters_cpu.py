"""Baselines on the CPU: Gaussians, running extremes, percentiles."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.kernels import inner, njit
from xs2p.traces.ranks import percentile_of_numpy
from xs2p.traces.taps import gaussian_taps

__all__ = ["gaussian_scipy", "maximin", "percentile"]


def gaussian_scipy(F: np.ndarray, sigma: float) -> np.ndarray:
    """SciPy's own Gaussian along time: cut at 4 sigma, edges reflected."""
    from scipy.ndimage import correlate1d, gaussian_filter1d

    F = np.ascontiguousarray(F, dtype=np.float32)
    if sigma <= 0 or F.size == 0:
        return F
    radius = int(4 * sigma + 0.5)
    if radius <= F.shape[-1]:
        return np.asarray(gaussian_filter1d(F, sigma, axis=-1))
    taps = gaussian_taps(sigma, radius, F.shape[-1], reflect=True)
    taps = np.concatenate([taps[:0:-1], taps])
    return np.asarray(correlate1d(F, taps, axis=-1))


def percentile(F: np.ndarray, percent: float) -> np.ndarray:
    """Percentile of each trace, float32: between two samples linearly; NaN are passed over."""
    return percentile_of_numpy(F.astype(np.float32, copy=False), percent)


# Samples whose sums stay in the processor's first cache, and those of which two copies stay
# in its second.
_TILE = 2048

_BLOCK = 2**17


@inner
def _add_tap(before, behind, tap, sums):  # type: ignore[no-untyped-def]
    # Alone in a function: only so is it compiled to vector instructions.
    for i in range(sums.size):
        sums[i] += (before[i] + behind[i]) * tap


@njit
def _smooth(padded, taps, sums, out):  # type: ignore[no-untyped-def]
    """Symmetric filter of traces, in float64, its terms in SciPy's order: the same bits."""
    radius = taps.size - 1
    for n in range(out.shape[0]):
        trace, result = padded[n], out[n]
        for start in range(0, result.size, sums.size):
            size = min(sums.size, result.size - start)
            centre = start + radius
            for i in range(size):
                sums[i] = trace[centre + i] * taps[0]
            for k in range(radius, 0, -1):
                _add_tap(trace[centre - k :], trace[centre + k :], taps[k], sums[:size])
            for i in range(size):
                result[start + i] = sums[i]


def _running(F: np.ndarray, left: int, right: int, extreme: Any, nothing: float) -> np.ndarray:
    """Minimum or maximum of ``F[:, i - left : i + right + 1]``, cut at the ends.

    That of 2, 4, 8 … samples and then of the window: as many passes as its logarithm, none
    with a branch.
    """
    n_frames, window = F.shape[1], left + right + 1
    out = np.empty_like(F)
    tile = min(max(_BLOCK // F.shape[0], window), n_frames)
    scratch = np.empty((2, F.shape[0], tile + window - 1), F.dtype)
    for start in range(0, n_frames, tile):
        stop = min(start + tile, n_frames)
        first, last = max(start - left, 0), min(stop + right, n_frames)
        count, shift = stop - start + window - 1, first - (start - left)
        now, then = scratch
        now[:, :shift] = nothing
        now[:, shift : shift + last - first] = F[:, first:last]
        now[:, shift + last - first : count] = nothing
        width = 1
        while width < window:
            step = min(width, window - width)
            count -= step
            extreme(now[:, :count], now[:, step : step + count], out=then[:, :count])
            now, then = then, now
            width += step
        out[:, start:stop] = now[:, :count]
    return out


def maximin(F: np.ndarray, sigma: float, size: int, *, legacy: bool = False) -> np.ndarray:
    """Gaussian, then the centred running minimum and maximum of ``size`` frames.

    The Gaussian is cut at ``round(3·sigma)`` and edges are replicated; ``legacy``: cut at 4
    sigma and edges reflected, as SciPy does by default.
    """
    F = np.ascontiguousarray(F, dtype=np.float32)
    if F.size == 0:
        return F
    n_frames = F.shape[-1]
    radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
    taps = gaussian_taps(sigma, radius, n_frames, reflect=legacy)
    radius = taps.size - 1
    # Which frame stands at each place of the padded trace.
    frame = np.pad(np.arange(n_frames), radius, mode="symmetric" if legacy else "edge")
    # A window that takes in the whole trace from everywhere needs no more.
    left, right = (min(side, n_frames) for side in (size // 2, size - 1 - size // 2))
    F0 = np.empty(F.shape, np.float32)
    traces, sums = F.reshape(-1, n_frames), np.empty(min(_TILE, n_frames), np.float64)
    rows = max(_BLOCK // max(n_frames, radius), 1)
    for start in range(0, traces.shape[0], rows):
        some = slice(start, start + rows)
        padded = np.take(traces[some].astype(np.float64), frame, axis=1)
        gap = np.isnan(padded)
        holed = bool(gap.any())
        smooth = np.empty((padded.shape[0], n_frames), np.float32)
        _smooth(np.where(gap, 0.0, padded) if holed else padded, taps, sums, smooth)
        low = _running(smooth, left, right, np.minimum, np.inf)
        high = _running(low, left, right, np.maximum, -np.inf)
        if holed:  # blank what a NaN reaches
            reach = min(radius + 2 * (size // 2), n_frames)
            inside = gap[:, radius : radius + n_frames]
            high[_running(inside, reach, reach, np.logical_or, False)] = np.nan
        F0.reshape(-1, n_frames)[some] = high
    return F0
