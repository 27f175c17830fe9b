"""Rolling percentiles and noise, frame by frame: slow and obviously right."""

from __future__ import annotations

import warnings

import numpy as np


def percentile(F, percent):
    """Percentile along time of what is not NaN; NaN where nothing is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of traces that are all NaN
        return np.nanpercentile(np.asarray(F, np.float64), percent, axis=-1)


def rolling_percentile(F, window, percent):
    """Percentile of what is not NaN in the centred window, edges reflected, float64."""
    half = window // 2
    sides = [(0, 0)] * (F.ndim - 1) + [(half, half)]
    padded = np.pad(F, sides, mode="symmetric")
    frames = range(F.shape[-1])
    return np.stack([percentile(padded[..., t : t + window], percent) for t in frames], axis=-1)


def noise(F, window):
    """Standard deviation by the median absolute deviation from the rolling median."""
    return 1.4826 * percentile(np.abs(F - rolling_percentile(F, window, 50)), 50)


def inactive_median(F, low_window, window, threshold):
    """Rolling median of the frames near the low level; the low level where there are none."""
    low = rolling_percentile(F, low_window, 10)
    quiet = np.where(np.abs(F - low) > threshold, np.nan, F)
    level = rolling_percentile(quiet, window, 50)
    return np.where(np.isnan(level), low, level)
