"""Baselines and spikes by suite2p's names, on numpy."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.suite2p.device import check_device


def preprocess(
    F: np.ndarray,
    baseline: str,
    win_baseline: float,
    sig_baseline: float,
    fs: float,
    prctile_baseline: float = 8,
    batch_size: int = 100,
    device: Any = "cpu",
) -> np.ndarray:
    """Take the baseline off traces.

    Parameters
    ----------
    F
        Traces ``(roi, time)``, neuropil-corrected.
    baseline
        ``"maximin"``, ``"constant"`` or ``"prctile"``; anything else leaves ``F`` as it is.
    win_baseline
        Window in seconds.
    sig_baseline
        Gaussian in frames.
    fs
        Frame rate in Hz.
    prctile_baseline
        Percentile, 0 to 100.
    batch_size, device
        Accepted as suite2p accepts them; neither changes the result.

    Returns
    -------
    numpy.ndarray
        A new array ``(roi, time)``; ``F`` is not changed.
    """
    from scipy.ndimage import gaussian_filter1d

    check_device(device)
    if baseline == "maximin":
        return baseline_maximin(F, win_baseline, sig_baseline, fs, batch_size, device)
    F = np.asarray(F)
    if baseline == "constant":
        smooth = gaussian_filter1d(F, sig_baseline, axis=-1) if sig_baseline > 0 else F
        return np.asarray(F - smooth.min())
    if baseline == "prctile":
        return np.asarray(F - np.percentile(F, prctile_baseline, axis=1, keepdims=True))
    return F.copy()


def baseline_maximin(
    F: np.ndarray,
    win_baseline: float,
    sig_baseline: float,
    fs: float,
    batch_size: int = 100,
    device: Any = "cpu",
) -> np.ndarray:
    """Take the maximin baseline off traces.

    Parameters
    ----------
    F
        Traces ``(roi, time)``.
    win_baseline
        Window in seconds.
    sig_baseline
        Gaussian in frames.
    fs
        Frame rate in Hz.
    batch_size, device
        Accepted as suite2p accepts them; neither changes the result.

    Returns
    -------
    numpy.ndarray
        ``F`` less its baseline, ``(roi, time)``.
    """
    from xs2p.traces.filters_cpu import maximin

    check_device(device)
    F = np.asarray(F)
    window = int(win_baseline * fs)
    window += window % 2 == 0
    return np.asarray(F - maximin(F.astype(np.float32), sig_baseline, window))


def oasis(F: np.ndarray, batch_size: int, tau: float, fs: float) -> np.ndarray:
    """Deconvolve traces: non-negative, without sparsity penalty.

    Parameters
    ----------
    F
        Traces ``(roi, time)``, baseline taken off.
    batch_size
        Accepted as suite2p accepts it; it does not change the result.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.

    Returns
    -------
    numpy.ndarray
        Float32 ``(roi, time)``.
    """
    from xs2p.traces.oasis_cpu import oasis as deconvolved

    return deconvolved(np.asarray(F), np.float32(tau) * np.float32(fs))


def oasis_matrix(
    F: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    l: np.ndarray,  # noqa: E741  (suite2p's name)
    s: np.ndarray,
    tau: float,
    fs: float,
) -> None:
    """Deconvolve traces into arrays of the caller's, all ``(roi, time)``.

    Parameters
    ----------
    F
        Traces.
    v, w, t, l
        Filled with each pool's value, weight, start and length, from the front of the row.
    s
        Filled with the spikes.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.
    """
    for n in range(F.shape[0]):
        oasis_trace(F[n], v[n], w[n], t[n], l[n], s[n], tau, fs)


def oasis_trace(
    F: np.ndarray,
    v: np.ndarray,
    w: np.ndarray,
    t: np.ndarray,
    l: np.ndarray,  # noqa: E741  (suite2p's name)
    s: np.ndarray,
    tau: float,
    fs: float,
) -> None:
    """Deconvolve one trace into arrays of the caller's, all ``(time,)``.

    Parameters
    ----------
    F
        Trace.
    v, w, t, l
        Filled with each pool's value, weight, start and length, from the front.
    s
        Filled with the spikes.
    tau
        Decay time of the indicator in seconds.
    fs
        Frame rate in Hz.
    """
    from xs2p.traces.decays import decay_length
    from xs2p.traces.oasis_cpu import oasis_pools

    n_frames = F.size
    tau_fs = np.float32(tau) * np.float32(fs)
    table, known = np.empty(decay_length(tau_fs, n_frames)), np.zeros(1, np.int64)
    pools = [np.empty(n_frames + 1, dtype) for dtype in (np.float32, np.float32, np.int64)]
    spikes = np.empty(n_frames, np.float32)
    trace = np.ascontiguousarray(F, dtype=np.float32)
    n = oasis_pools(trace, tau_fs, table, known, *pools, spikes)
    value, weight, length = (pool[1 : n + 1] for pool in pools)
    v[:n], w[:n], l[:n], t[:n] = value, weight, length, np.cumsum(length) - length
    s[:] = spikes
