"""Measures of the quality of ROIs, one ROI and one frame at a time: slow and obviously right."""

from __future__ import annotations

import naive_rolling
import numpy as np
import scipy.signal
import scipy.stats


def noise_level(dFF, segment, fs):
    """Cascade's: median of the steps, of those between neighbours of one segment."""
    levels = []
    for trace in dFF:
        steps = [
            abs(b - a)
            for a, b, one, other in zip(trace, trace[1:], segment, segment[1:], strict=False)
            if one == other and not np.isnan(a) and not np.isnan(b)
        ]
        levels.append(100 * np.median(steps) / np.sqrt(fs))
    return np.array(levels)


def noise_psd(F, segment):
    """SciPy's spectra of windows without NaN, the longest of which there are some."""
    parts = [F[:, segment == label] for label in np.unique(segment)]
    levels = []
    for row in range(len(F)):
        n, powers = min(max(part.shape[1] for part in parts), 256), []
        while n >= 8 and not np.isfinite(powers).any():
            powers = [
                _power(part[row, start : start + n].astype(float))
                for part in parts
                for start in range(0, part.shape[1] - n + 1, n - n // 2)
            ]
            n //= 2
        levels.append(np.sqrt(np.nanmean(powers)) if np.isfinite(powers).any() else np.nan)
    return np.array(levels)


def _power(window):
    f, power = scipy.signal.welch(window, nperseg=window.size)
    power[-1] *= 2 if window.size % 2 == 0 else 1  # one-sided: fs/2 itself is not doubled
    return power[f >= 0.25].mean() / 2


def measures(ds, segment, fs, coefficient, polarity=1):
    """All that are of traces, of a dict of arrays ``(roi, time)``; NaN does not count."""
    Fc, F0 = ds["Fc"].astype(float), ds["F0"].astype(float)
    window = int(3.33 * fs / 2) * 2 + 1
    apart = [
        np.abs(part - naive_rolling.rolling_percentile(part, window, 50))
        for part in (Fc[:, segment == label] for label in np.unique(segment))
    ]
    noise = 1.4826 * np.nanmedian(np.concatenate(apart, axis=1), axis=1)
    tenth = int(np.ceil(Fc.shape[1] / 10))
    first, last = np.nanmean(F0[:, :tenth], axis=1), np.nanmean(F0[:, -tenth:], axis=1)
    light = first if polarity == 1 else np.abs(first)
    both = [~np.isnan(a) & ~np.isnan(b) for a, b in zip(Fc, ds["Fneu"], strict=True)]
    neuropil = coefficient * np.nanmedian(ds["Fneu"], axis=1) / np.nanmedian(ds["F"], axis=1)
    return {
        "noise": noise,
        "noise_psd": noise_psd(Fc, segment),
        "skew": polarity * scipy.stats.skew(Fc, axis=1, nan_policy="omit"),
        "std": np.nanstd(Fc, axis=1),
        "snr_events": np.nanpercentile(polarity * (Fc - F0), 99.5, axis=1) / noise,
        "noise_level": noise_level(ds["dFF"].astype(float), segment, fs),
        "neuropil_ratio": np.where(np.nanmedian(ds["F"], axis=1) > 0, neuropil, np.nan),
        "neuropil_corr": np.array(
            [np.corrcoef(a[k], b[k])[0, 1] for a, b, k in zip(Fc, ds["Fneu"], both, strict=True)]
        ),
        "valid_share": (~np.isnan(Fc)).mean(axis=1),
        "F0_drift": np.where(light > noise, (last - first) / first, np.nan),
    }


def footprints(table, plane=None):
    """Weights of the ROIs as unit vectors over all pixels of all planes, ``(pixel, roi)``."""
    n = table.shape[0] * table.shape[1]
    plane = np.zeros(table.roi.size, int) if plane is None else plane
    weights = np.zeros((n * (plane.max() + 1), table.roi.size))
    weights[table.flat + n * plane[table.owner], table.owner] = table.lam
    return weights / np.linalg.norm(weights, axis=0)


def vif(table, plane=None):
    """Diagonal of the inverse of the Gram matrix of all ROIs."""
    each = footprints(table, plane)
    return np.diag(np.linalg.inv(each.T @ each))
