"""How much neuropil there is, and how fast a trace decays, in a few lines of numpy."""

from __future__ import annotations

import numpy as np
from naive_rolling import rolling_percentile


def binned(F, Fneu, window):
    """Slope of the 5th percentile of F in 20 bins of Fneu, after the rolling 5th percentile."""
    F, Fneu = (x.astype(float) - rolling_percentile(x[None], window, 5)[0] for x in (F, Fneu))
    return slope(F, Fneu)


def slope(F, Fneu):
    kept = np.isfinite(F) & np.isfinite(Fneu)
    F, Fneu = F[kept], Fneu[kept]
    edges = np.linspace(*np.percentile(Fneu, [10, 90]), 21)
    middles, low = [], []
    for n, (a, b) in enumerate(zip(edges, edges[1:], strict=False)):
        within = (Fneu >= a) & ((Fneu < b) | ((n == 19) & (Fneu <= b)))
        if within.any():
            middles.append((a + b) / 2)
            low.append(np.percentile(F[within], 5))
    return np.polyfit(middles, low, 1)[0]


def mutualinfo(F, Fneu):
    """The r for which F − r · Fneu and Fneu share least, by numpy's histograms."""
    kept = np.isfinite(F) & np.isfinite(Fneu)
    F, Fneu = F[kept].astype(float), Fneu[kept].astype(float)
    shared = []
    for r in np.arange(201) / 100:
        p = np.histogram2d(F - r * Fneu, Fneu, 100)[0] / F.size
        one, other = p.sum(1), p.sum(0)
        full = p > 0
        information = (p * np.log(np.where(full, p, 1) / np.outer(one, other).clip(1e-300))).sum()
        h = [-(q[q > 0] * np.log(q[q > 0])).sum() for q in (one, other)]
        shared.append(information / np.sqrt(h[0] * h[1]))
    return np.argmin(shared) / 100


def tau(F, fs, starts=(0,), longest=1.5):
    """Time constant of the exponential nearest to the autocovariance, without distance 0."""
    parts = [p.astype(float) - np.nanmean(p) for p in np.split(F, starts[1:])]
    covariance = []
    for lag in range(1, int(longest * fs) + 1):
        products = np.concatenate([p[:-lag] * p[lag:] for p in parts])
        covariance.append(np.nanmean(products))
    seconds = np.arange(1, len(covariance) + 1) / fs
    taus = np.geomspace(0.1 / fs, 60, 40000)
    shapes = np.exp(-seconds / taus[:, None])
    heights = (shapes @ covariance / (shapes**2).sum(axis=1)).clip(0)
    errors = ((covariance - heights[:, None] * shapes) ** 2).sum(axis=1)
    best = np.argmin(errors)
    return np.nan if best in (0, taus.size - 1) else taus[best]
