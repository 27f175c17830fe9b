"""Taps of a Gaussian along time, none of them beyond the trace."""

from __future__ import annotations

import math

import numpy as np

_MANY = 2**20  # taps beyond which their sum is that of the bell


def gaussian_taps(sigma: float, radius: int, n_frames: int, reflect: bool) -> np.ndarray:
    """Half of a Gaussian cut at ``radius`` frames, for a trace whose edges are held or reflected.

    Taps that reach beyond the trace from everywhere are added to those that stand for the same
    samples: what is held at an edge is the sample there, and a reflected trace repeats itself. So
    there are never more of them than ``n_frames + 1``, and short traces get them as they are.
    """
    if radius <= max(n_frames, _MANY // 16):
        taps = _bell(sigma, np.arange(-radius, radius + 1))
        taps = (taps / taps.sum())[radius:]
        return taps if radius <= n_frames else _folded(taps, n_frames, reflect)
    near = min(radius, max(_MANY // (2 * n_frames), 1) * 2 * n_frames)  # whole rounds
    taps = _bell(sigma, np.arange(near + 1))
    rest = _area(sigma, near + 0.5, radius + 0.5)
    taps /= taps[0] + 2 * (taps[1:].sum() + rest)
    beyond = 0.5 * (1 - taps[0]) - taps[1:].sum() if rest else 0.0
    taps = _folded(taps, n_frames, reflect)
    if reflect:  # the rest goes round so often that it lies everywhere
        taps[1:-1] += beyond / n_frames
        taps[[0, -1]] += beyond / n_frames, beyond / n_frames / 2
    else:
        taps[-1] += beyond
    return taps


def _bell(sigma: float, frames: np.ndarray) -> np.ndarray:
    return np.asarray(np.exp(-0.5 / max(sigma, 1e-9) ** 2 * frames**2))


def _area(sigma: float, start: float, stop: float) -> float:
    """Sum of a wide bell over the frames between, as its integral."""
    scale = sigma * math.sqrt(2)
    return sigma * math.sqrt(math.pi / 2) * (math.erf(stop / scale) - math.erf(start / scale))


def _folded(taps: np.ndarray, n_frames: int, reflect: bool) -> np.ndarray:
    frames = np.arange(taps.size)
    if not reflect:
        return np.bincount(np.minimum(frames, n_frames), taps, n_frames + 1)
    at = frames % (2 * n_frames)
    # Both of a pair of taps are the sample itself, where a round is whole.
    twice = np.where((at == 0) & (frames > 0), 2.0, 1.0)
    return np.bincount(np.minimum(at, 2 * n_frames - at), taps * twice, n_frames + 1)
