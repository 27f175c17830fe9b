"""OASIS with a penalty on spikes, or with a smallest one, on the CPU."""

from __future__ import annotations

import math

import numpy as np

from xs2p.compute.kernels import njit
from xs2p.traces.decays import decay_length, far, forgotten, grown

__all__ = ["penalties", "sparse"]

CLOSE = 1e-10  # of the sum of squares that is wanted
MOST_STEPS = 100  # to a penalty; some five are taken


@njit
def _pools(F, tau_fs, penalty, s_min, table, known, v, w, length):  # type: ignore[no-untyped-def]
    """Fill the pools (value, weight, length) ``0 … n − 1`` of one trace; their number.

    Friedrich, Zhou & Paninski 2017: ``½ Σ (y − c)² + penalty · Σ s`` is the problem without a
    penalty of ``y − penalty · (1 − g)``, the last frame less all of it; and a pool is merged with
    the one before unless it rises by ``s_min`` above what that has decayed to, or above 0 where
    that is below. All is float64. A NaN has no weight, and gaps are told from 0, as in
    ``oasis_pools``.
    """
    last, n, gone, forget = table.size - 1, 0, 0, forgotten(tau_fs)
    sealed = 0  # pools that are before a gap which is so long
    known = grown(table, known, 2, tau_fs)
    each = penalty * (1 - table[min(1, last)])
    for frame in range(F.size):
        if math.isnan(F[frame]):
            gone += 1
            if n == 0:
                v[0], w[0], length[0], n = 0.0, 0.0, 0, 1
            length[n - 1] += 1
        else:
            if gone >= forget:
                if length[n - 1] > gone:
                    length[n - 1] -= gone
                    n += 1
                v[n - 1], w[n - 1], length[n - 1] = 0.0, 1.0, gone
                sealed = n - 1
            gone = 0
            value = F[frame] - (penalty if frame == F.size - 1 else each)
            weight, span = 1.0, 1
            while n > sealed:
                before = length[n - 1]
                decay = table[min(before, last)]
                if not value < max(v[n - 1], 0.0) * decay + s_min:
                    break
                total = w[n - 1] + weight * table[min(2 * before, last)]
                value = (v[n - 1] * w[n - 1] + value * weight * decay) / total
                weight, span, n = total, span + before, n - 1
            v[n], w[n], length[n] = value, weight, span
            n += 1
        if min(2 * length[n - 1], last) >= known:
            known = grown(table, known, 2 * length[n - 1], tau_fs)
    return n, known


@njit
def _misfit(F, table, v, w, length, n):  # type: ignore[no-untyped-def]
    """Sum of squares of what pools leave of a trace, and what it gains with more of a penalty.

    With so much more, and the same pools, it is the sum of it, of the second number times more and
    of the third times more squared.
    """
    last, start = table.size - 1, 0
    squares, linear, quadratic = 0.0, 0.0, 0.0
    each = 1 - table[min(1, last)]
    for i in range(n):
        slope = 0.0
        if v[i] > 0 and w[i] > 0:
            for k in range(length[i]):
                if not math.isnan(F[start + k]):
                    share = 1.0 if start + k == F.size - 1 else each
                    slope -= share * table[min(k, last)] / w[i]
        for k in range(length[i]):
            if not math.isnan(F[start + k]):
                decay = table[min(k, last)]
                left, moved = F[start + k] - max(v[i], 0.0) * decay, slope * decay
                squares += left * left
                linear -= 2 * left * moved
                quadratic += moved * moved
        start += length[i]
    return squares, linear, quadratic


@njit
def _penalty(F, tau_fs, sigma, table, v, w, length):  # type: ignore[no-untyped-def]
    """Find the penalty by which ``Σ (y − c)² = sigma² · frames``; 0 where it is more without one.

    The sum grows with the penalty, piece by piece as a parabola: Newton's steps on it, between
    bounds that close in.
    """
    n_frames, known = 0, 0
    for sample in F:
        n_frames += not math.isnan(sample)
    wanted = sigma * sigma * n_frames
    if not wanted > 0:
        return 0.0
    low, high, penalty = 0.0, np.inf, 0.0
    for _ in range(MOST_STEPS):
        n, known = _pools(F, tau_fs, penalty, 0.0, table, known, v, w, length)
        squares, linear, quadratic = _misfit(F, table, v, w, length, n)
        over = squares - wanted
        nothing = quadratic == 0 and high == np.inf  # is left to take off
        if (penalty == 0 and over >= 0) or abs(over) <= CLOSE * wanted or nothing:
            break
        low, high = (penalty, high) if over < 0 else (low, penalty)
        penalty = 0.5 * (low + high)
        root = linear * linear - 4 * quadratic * over
        if quadratic > 0 and root >= 0:
            there = (low if over < 0 else high) + (math.sqrt(root) - linear) / (2 * quadratic)
            penalty = there if low < there < high else penalty
    return penalty


@njit
def _sparse(F, tau_fs, penalty, s_min, calcium, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` with the spikes, or the calcium, of traces ``(n, time)``."""
    n_frames = F.shape[1]
    v, w = np.empty(n_frames + 1), np.empty(n_frames + 1)
    length = np.empty(n_frames + 1, np.int64)
    table, known, tau = np.empty(decay_length(tau_fs.max(), n_frames)), 0, np.float32(0)
    last = table.size - 1
    for i in range(F.shape[0]):
        known, tau = (known if tau_fs[i] == tau else 0), tau_fs[i]
        n, known = _pools(F[i], tau, penalty[i], s_min[i], table, known, v, w, length)
        start, left, long = 0, 0.0, far(tau)
        out[i] = 0
        for k in range(n):
            value = max(v[k], 0.0)
            if calcium:
                for frame in range(min(length[k], long)):
                    out[i, start + frame] = value * table[min(frame, last)]
            elif k > 0:
                out[i, start] = value - left
            left = value * table[min(length[k], last)]
            start += length[k]
        for frame in range(n_frames):
            if math.isnan(F[i, frame]) or math.isnan(s_min[i]):
                out[i, frame] = np.nan


@njit
def _penalties(F, tau_fs, sigma, out):  # type: ignore[no-untyped-def]
    n_frames = F.shape[1]
    v, w = np.empty(n_frames + 1), np.empty(n_frames + 1)
    length = np.empty(n_frames + 1, np.int64)
    table = np.empty(decay_length(tau_fs.max(), n_frames))
    for i in range(F.shape[0]):
        out[i] = _penalty(F[i], tau_fs[i], sigma[i], table, v, w, length)


def sparse(
    F: np.ndarray,
    tau_fs: np.ndarray | np.float32,
    penalty: np.ndarray | float,
    s_min: np.ndarray | float,
    calcium: bool = False,
) -> np.ndarray:
    """Spikes, or ``calcium``, of traces ``(…, time)`` that is never below 0; float32.

    The others broadcast over the leading dims.
    """
    out = np.empty(F.shape, np.float32)
    if F.size:
        rows, each = _rows(F), F.shape[:-1]
        of_each = (
            _of_each(tau_fs, each, np.float32),
            _of_each(penalty, each),
            _of_each(s_min, each),
        )
        _sparse(rows, *of_each, calcium, out.reshape(rows.shape))
    return out


def penalties(
    F: np.ndarray, tau_fs: np.ndarray | np.float32, sigma: np.ndarray | float
) -> np.ndarray:
    """Penalties ``(…)``, float64, by which what is left of traces ``(…, time)`` is the noise."""
    out = np.zeros(F.shape[:-1])
    if F.size:
        each = F.shape[:-1]
        of_each = (_of_each(tau_fs, each, np.float32), _of_each(sigma, each))
        _penalties(_rows(F), *of_each, out.reshape(-1))
    return out


def _rows(F: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(F, dtype=np.float32).reshape(-1, F.shape[-1])


def _of_each(
    values: np.ndarray | float | np.float32, shape: tuple[int, ...], dtype: type = np.float64
) -> np.ndarray:
    return np.broadcast_to(np.asarray(values, dtype), shape).flatten()
