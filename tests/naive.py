"""Every step in a few lines of numpy and scipy: slow and obviously right.

Nothing here imports the package; the kernels are compared with these functions.
"""

from __future__ import annotations

import math

import naive_rolling
import numpy as np
from scipy import ndimage, stats

CROSS = ndimage.generate_binary_structure(2, 1)


def flat(roi, shape):
    """Pixel numbers ``y * Lx + x`` of an ROI."""
    return np.asarray(roi["ypix"], np.int64) * shape[1] + roi["xpix"]


def overlap(stat, shape):
    """For each ROI, which of its pixels another ROI has too."""
    count = np.zeros(shape, int)
    for roi in stat:
        count[roi["ypix"], roi["xpix"]] += 1
    return [count[roi["ypix"], roi["xpix"]] > 1 for roi in stat]


def radius(roi):
    """Twice the major-axis standard deviation of the weighted soma pixels, in pixels."""
    kept = np.asarray(roi.get("soma_crop", np.ones(len(roi["ypix"]), bool)), bool)
    lam = np.asarray(roi["lam"], np.float64)[kept]
    points = np.array([roi["ypix"], roi["xpix"]], np.float64)[:, kept]
    off = points - (points @ lam / lam.sum())[:, None]
    return 2 * math.sqrt(max(np.linalg.eigvalsh((lam * off) @ off.T / lam.sum())[-1], 0.0))


def cell_image(stat, shape, lam_percentile=50.0):
    """Pixels that belong to a cell, bool ``(Ly, Lx)``."""
    heaviest = np.zeros(shape, np.float32)
    for roi in stat:
        np.maximum.at(heaviest, (roi["ypix"], roi["xpix"]), roi["lam"])
    if lam_percentile == 0:
        return heaviest > 0
    size = int(5 * np.median([roi["radius"] for roi in stat]))
    if size <= min(shape):
        ranked = ndimage.percentile_filter(heaviest, lam_percentile, size=size)
    else:  # of windows larger than the frame, SciPy 1.17 gives numbers that are not in it
        around = np.pad(heaviest, size, mode="symmetric")[size - size // 2 :, size - size // 2 :]
        windows = np.lib.stride_tricks.sliding_window_view(around, (size, size))
        windows = windows[: shape[0], : shape[1]].reshape(*shape, -1)
        rank = min(int(size * size * lam_percentile / 100), size * size - 1)
        ranked = np.sort(windows, axis=-1)[..., rank]
    return (heaviest > 0) & (heaviest >= ranked)


def cell_mask(roi, shape, allow_overlap=False):
    """Pixel numbers and weights of an ROI's own pixels."""
    kept = np.full(len(roi["ypix"]), True) if allow_overlap else ~np.asarray(roi["overlap"])
    lam = np.asarray(roi["lam"], np.float32)[kept]
    return flat(roi, shape)[kept], lam / lam.sum() if lam.size else lam


def neuropil_mask(roi, cells, inner_radius=2, min_pixels=350, circular=False):
    """Pixel numbers of the non-cell pixels that surround an ROI."""
    Ly, Lx = cells.shape
    own = np.zeros(cells.shape, bool)
    own[roi["ypix"], roi["xpix"]] = True
    if inner_radius > 0:  # scipy takes 0 iterations as "until nothing changes"
        own = ndimage.binary_dilation(own, CROSS, iterations=inner_radius)
    region, n_ring = own, (own & ~cells).sum()
    for _ in range(100):
        if circular:
            region = ndimage.binary_dilation(region, CROSS, iterations=5)
        else:
            y, x = np.nonzero(region)
            region = np.zeros(cells.shape, bool)
            rows = slice(max(y.min() - 5, 0), min(y.max() + 6, Ly))
            region[rows, max(x.min() - 5, 0) : min(x.max() + 6, Lx)] = True
        if (region & ~cells).sum() - n_ring > min_pixels:
            break
    return np.flatnonzero(region & ~cells & ~own)


def extract(movie, masks):
    """Weighted sums of a movie's pixels, float64 ``(roi, time)``; masks are (pixels, weights)."""
    frames = np.asarray(movie, np.float64).reshape(len(movie), -1)
    F = np.full((len(masks), len(frames)), np.nan)
    for n, (pixels, weights) in enumerate(masks):
        if len(pixels):
            F[n] = frames[:, pixels] @ np.asarray(weights, np.float64)
    return F


def mean_weights(pixels):
    """A neuropil mask as (pixels, equal weights)."""
    return pixels, np.full(len(pixels), 1 / max(len(pixels), 1))


def baseline(F, method, fs, win_baseline=60.0, sig_baseline=10.0, prctile_baseline=8.0):
    """The baseline of traces ``(roi, time)``, float64."""
    F = np.asarray(F, np.float64)
    if method == "maximin":
        half = int(round(3 * sig_baseline))
        kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sig_baseline) ** 2)
        smooth = ndimage.correlate1d(F, kernel / kernel.sum(), mode="nearest")
        window = int(win_baseline * fs)
        window += window % 2 == 0
        low = ndimage.minimum_filter1d(smooth, window, mode="nearest")
        return ndimage.maximum_filter1d(low, window, mode="nearest")
    if method == "maximin_legacy":
        window = int(win_baseline * fs)
        low = ndimage.minimum_filter1d(ndimage.gaussian_filter1d(F, sig_baseline), window)
        return ndimage.maximum_filter1d(low, window)
    if method in ("constant", "constant_global"):
        smooth = ndimage.gaussian_filter1d(F, sig_baseline)
        axis = None if method == "constant_global" else 1
        return np.broadcast_to(smooth.min(axis=axis, keepdims=True), F.shape)
    if method == "prctile":
        return np.broadcast_to(np.percentile(F, prctile_baseline, axis=1, keepdims=True), F.shape)
    window, low_window = (int(seconds * fs / 2) * 2 + 1 for seconds in (win_baseline, 60))
    if method == "rolling_prctile":
        return naive_rolling.rolling_percentile(F, window, prctile_baseline)
    if method == "rolling_median":
        return naive_rolling.rolling_percentile(F, window, 50)
    if method == "inactive_median":
        near = 3 * naive_rolling.noise(F, int(3.33 * fs / 2) * 2 + 1)[..., None]
        return naive_rolling.inactive_median(F, low_window, window, near)
    if method == "none":
        return np.zeros(F.shape)
    raise ValueError(method)


def oasis(trace, tau, fs):
    """Spikes of one trace; pools are [value, weight, start, length].

    To the last bit: pools and spikes are stored as float32, the two products ``v * w`` are
    float32, all else is float64, and ``v`` is divided by ``w`` before that is rounded. A NaN has
    weight 0: it lengthens its pool, or opens the first.
    """
    f4, f8 = np.float32, np.float64
    tau_fs = f8(f4(tau) * f4(fs))
    pools = []
    for t, y in enumerate(np.asarray(trace, f4)):
        if np.isnan(y) and pools:
            pools[-1][3] += 1
            continue
        pools.append([f4(0), f4(0), t, 1] if np.isnan(y) else [y, f4(1), t, 1])
        while len(pools) > 1:
            (v0, w0, t0, l0), (v1, w1, _, l1) = pools[-2:]
            decay = np.exp(-l0 / tau_fs)
            if not f8(v0) * decay > f8(v1):
                break
            w = f8(w0) + f8(w1) * np.exp(-2 * l0 / tau_fs)
            v = (f8(v0 * w0) + f8(v1 * w1) * decay) / w
            pools[-2:] = [[f4(v), f4(w), t0, l0 + l1]]
    spikes = np.zeros(len(trace), f4)
    for (v0, _, _, l0), (v1, _, t1, _) in zip(pools[:-1], pools[1:], strict=True):
        spikes[t1] = f8(v1) - f8(v0) * np.exp(-l0 / tau_fs)
    return np.where(np.isnan(trace), f4(np.nan), spikes)


def sparse(trace, tau_fs, penalty=0.0, s_min=0.0):
    """Calcium and spikes by Friedrich et al. 2017; pools are [numerator, weight, length]."""
    y, g = np.asarray(trace, np.float64), np.exp(-1 / np.float64(np.float32(tau_fs)))
    pools = []
    for t, sample in enumerate(y):
        if np.isnan(sample):
            pools = pools or [[0.0, 0.0, 0]]
            pools[-1][2] += 1
            continue
        pools.append([sample - penalty * (1 if t == y.size - 1 else 1 - g), 1.0, 1])
        while len(pools) > 1:
            (a, w0, n0), (b, w1, n1) = pools[-2:]
            before = max(a / w0, 0) if w0 else 0
            if b / w1 >= before * g**n0 + s_min:
                break
            pools[-2:] = [[a + b * g**n0, w0 + w1 * g ** (2 * n0), n0 + n1]]
    c = np.concatenate([(max(a / w, 0) if w else 0) * g ** np.arange(n) for a, w, n in pools])
    s = np.append(0, c[1:] - g * c[:-1])
    return np.where(np.isnan(y), np.nan, c), np.where(np.isnan(y), np.nan, s)


def penalty(trace, tau_fs, sigma):
    """Penalty by which what is left has the variance sigma**2: halving it, 200 times."""
    counts = ~np.isnan(trace)
    low, high = 0.0, 1e9
    for _ in range(200):
        middle = (low + high) / 2
        left = (trace - sparse(trace, tau_fs, middle)[0])[counts]
        low, high = (middle, high) if (left**2).mean() < sigma**2 else (low, middle)
    return middle


def events(s, threshold, fs, segment=None):
    """(onset, amplitude, size, duration) of each run of one trace, frame by frame."""
    above = s[s > 0]
    sigma = 1.4826 * np.median(above) if above.size else 0
    runs = []
    for t, value in enumerate(s):
        if not value > threshold * sigma:
            continue
        same = segment is None or t == 0 or segment[t] == segment[t - 1]
        if not (same and runs and runs[-1][-1] == t - 1):
            runs.append([])
        runs[-1].append(t)
    return [(r[0] / fs, max(s[r]), sum(s[r].astype(float)), len(r) / fs) for r in runs]


def snr(Fc):
    """Signal-to-noise of each trace."""
    return 1 - 0.5 * np.diff(Fc, axis=1).var(axis=1) / Fc.var(axis=1)


def skew(Fc):
    """Biased skewness of each trace."""
    return stats.skew(Fc, axis=1)


def std(Fc):
    """Standard deviation of each trace."""
    return Fc.std(axis=1)


def pixel_edges(ypix, xpix):
    """Pixel edges between an ROI and what is not the ROI, as segments ``(n, 2, (x, y))``."""
    if not ypix.size:
        return np.empty((0, 2, 2))
    top, left = int(ypix.min()) - 1, int(xpix.min()) - 1
    inside = np.zeros((int(ypix.max()) - top + 2, int(xpix.max()) - left + 2), bool)
    inside[ypix - top, xpix - left] = True
    y, x = np.nonzero(inside[1:] != inside[:-1])
    level = np.stack([np.stack([x - 0.5, y + 0.5], 1), np.stack([x + 0.5, y + 0.5], 1)], 1)
    y, x = np.nonzero(inside[:, 1:] != inside[:, :-1])
    upright = np.stack([np.stack([x + 0.5, y - 0.5], 1), np.stack([x + 0.5, y + 0.5], 1)], 1)
    return np.asarray(np.concatenate([level, upright]) + (left, top))


def hats(length, n):
    """Values ``(length, hat)`` of ``n`` hats along one side of a frame."""
    if n == 1 or length == 1:
        return np.ones((length, 1))
    knots = np.linspace(0, length - 1, n)
    return np.stack([np.interp(np.arange(length), knots, one) for one in np.eye(n)], axis=1)


def demixed(frames, stat, grid):
    """``F``, ``Fneu`` and which ROIs have an answer, of frames ``(time, y, x)``."""
    frames = np.asarray(frames, np.float64)
    shape, n = frames.shape[1:], len(stat)
    w = np.zeros((shape[0] * shape[1], n))
    for i, roi in enumerate(stat):
        lam = np.asarray(roi["lam"], np.float32)
        w[flat(roi, shape), i] = lam / lam.sum()
    a = w / np.linalg.norm(w, axis=0)
    b = np.kron(*(hats(*along) for along in zip(shape, grid, strict=True)))
    both = np.hstack([a, b])
    coefficients, _, rank, _ = np.linalg.lstsq(both, frames.reshape(len(frames), -1).T, rcond=1e-6)
    nothing = np.linalg.svd(both)[2][rank:, :n]  # what can be added and changes no pixel
    known = (np.abs(nothing) < 1e-5).all(axis=0)
    Fneu = (w.T @ b) @ coefficients[n:]
    return (w * a).sum(axis=0)[:, None] * coefficients[:n] + Fneu, Fneu, known
