"""The steps from F to a signal with numpy, SciPy and pandas alone, trace by trace.

Two kinds. What is ``naive`` looks at every window of its own, in float64: slow and obviously right,
what results are compared with. The others are what one would write to have it fast, and what times
are compared with. Windows are odd numbers of frames, edges are reflected.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

SIGMA = 1.4826  # of a normal distribution, over its median absolute deviation


def naive_percentile(F: np.ndarray, percent: float) -> np.ndarray:
    """Percentile along time of what is not NaN, between samples linearly."""
    ordered = np.sort(np.asarray(F, np.float64), axis=-1)  # NaN last
    count = np.isfinite(ordered).sum(axis=-1)
    where = percent / 100 * np.maximum(count - 1, 0)
    low = where.astype(int)
    high = np.minimum(low + 1, np.maximum(count - 1, 0))
    a, b = (np.take_along_axis(ordered, i[..., None], -1)[..., 0] for i in (low, high))
    return a + (b - a) * (where - low)


def naive_rolling(F: np.ndarray, window: int, percent: float) -> np.ndarray:
    """Percentile of the window around each frame of one trace."""
    padded = np.pad(F, window // 2, mode="symmetric")
    return naive_percentile(np.lib.stride_tricks.sliding_window_view(padded, window), percent)


def naive_noise(F: np.ndarray, window: int) -> float:
    """Median distance of one trace from its rolling median, as a standard deviation."""
    return float(SIGMA * naive_percentile(np.abs(F - naive_rolling(F, window, 50)), 50))


def naive_inactive(F: np.ndarray, low_window: int, window: int, near: float) -> np.ndarray:
    """Rolling median of one trace where it is near its 10th percentile, else that percentile."""
    low = naive_rolling(F, low_window, 10)
    level = naive_rolling(np.where(np.abs(F - low) > near, np.nan, F), window, 50)
    return np.where(np.isnan(level), low, level)


def rolling_percentile(F: np.ndarray, window: int, percent: float) -> np.ndarray:
    """SciPy's filter of each trace, which takes a sample and does not interpolate."""
    from scipy.ndimage import percentile_filter

    return np.stack([percentile_filter(trace, percent, window, mode="reflect") for trace in F])


def rolling_median(F: np.ndarray, window: int) -> np.ndarray:
    from scipy.ndimage import median_filter

    return np.stack([median_filter(trace, window, mode="reflect") for trace in F])


def inactive_median(F: np.ndarray, low_window: int, window: int, near: np.ndarray) -> np.ndarray:
    """With pandas for the median, which passes over NaN as SciPy does not."""
    import pandas as pd

    low = rolling_percentile(F, low_window, 10)
    quiet = np.where(np.abs(F - low) > near[:, None], np.nan, F)
    half = window // 2
    padded = pd.DataFrame(np.pad(quiet, [(0, 0), (half, half)], mode="symmetric").T)
    level = padded.rolling(window, center=True, min_periods=1).median().to_numpy().T
    level = level[:, half : half + F.shape[1]]
    return np.where(np.isnan(level), low, level)


def noise(F: np.ndarray, window: int) -> np.ndarray:
    return SIGMA * np.median(np.abs(F - rolling_median(F, window)), axis=1)


def bleaching(F: np.ndarray, fs: float) -> np.ndarray:
    """Trend of each trace over its first frame: least squares of a double exponential.

    Events pull at it; those of ``xs2p`` hardly do, which is not compared here.
    """
    from scipy.optimize import curve_fit

    t = np.arange(F.shape[1]) / fs
    length, trends = t[-1], np.empty(F.shape)
    for n, trace in enumerate(F):
        level = float(np.median(trace))
        first = (level, level / 10, length / 10, level / 10, length)
        highest = (np.inf, np.inf, 5 * length, np.inf, 5 * length)
        try:
            found, _ = curve_fit(_double, t, trace, first, bounds=(0, highest))
        except RuntimeError:  # it does not converge
            found = (level, 0, length, 0, length)
        trends[n] = _double(t, *found)
    return trends / trends[:, :1]


def _double(t: Any, c: float, a1: float, tau1: float, a2: float, tau2: float) -> Any:
    return c + a1 * np.exp(-t / tau1) + a2 * np.exp(-t / tau2)


def dff(
    F: np.ndarray, F0: np.ndarray, window: int, raw: np.ndarray, Fneu: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """dF/F guarded by the noise, the noise, and the flags."""
    sigma = noise(F, window)
    change = (F - F0) / np.maximum(F0, sigma[:, None])
    flags = (
        1 * (F0 <= 0).any(axis=1)
        + 2 * ((F0 < sigma[:, None]).mean(axis=1) > 0.01)
        + 4 * (0.7 * np.median(Fneu, axis=1) > 0.9 * np.median(raw, axis=1))
        + 8 * (np.abs(change) > 10).any(axis=1)
    )
    return change, sigma, flags


def centred(F: np.ndarray, Fneu: np.ndarray) -> np.ndarray:
    return F - np.float32(0.7) * (Fneu - np.median(Fneu, axis=1, keepdims=True))


def quality(
    F: np.ndarray, Fneu: np.ndarray, Fc: np.ndarray, F0: np.ndarray, dFF: np.ndarray, fs: float
) -> dict[str, np.ndarray]:
    """Measures of traces, as ``xs2p.quality`` names them."""
    from scipy.signal import welch
    from scipy.stats import skew

    sigma = noise(Fc, int(3.33 * fs / 2) * 2 + 1)
    frequency, power = welch(Fc, fs)
    tenth = -(-F0.shape[1] // 10)
    first, last = F0[:, :tenth].mean(axis=1), F0[:, -tenth:].mean(axis=1)
    a, b = (x - x.mean(axis=1, keepdims=True) for x in (Fc.astype(float), Fneu.astype(float)))
    variance = Fc.var(axis=1, dtype=float, ddof=1)
    steps = np.diff(Fc, axis=1)
    return {
        "noise": sigma,
        "noise_psd": np.sqrt(power[:, frequency >= fs / 4].mean(axis=1) * fs / 2),
        "snr": 1 - 0.5 * steps.var(axis=1, dtype=float) / variance,
        "skew": skew(Fc.astype(float), axis=1),
        "std": Fc.std(axis=1, dtype=float),
        "snr_events": np.percentile(Fc - F0, 99.5, axis=1) / sigma,
        "noise_level": 100 * np.median(np.abs(np.diff(dFF, axis=1)), axis=1) / np.sqrt(fs),
        "neuropil_ratio": 0.7 * np.median(Fneu, axis=1) / np.median(F, axis=1),
        "neuropil_corr": (a * b).sum(axis=1) / np.sqrt((a**2).sum(axis=1) * (b**2).sum(axis=1)),
        "valid_share": np.isfinite(Fc).mean(axis=1),
        "F0_drift": (last - first) / first,
    }


def largest(values: np.ndarray) -> np.ndarray:
    """Largest size of each trace; NaN where there is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of traces that are all NaN
        return np.nanmax(np.abs(values), axis=1)
