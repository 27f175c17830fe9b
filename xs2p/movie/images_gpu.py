"""Sums of frames for the images of a movie, by CuPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.movie.image_sums import FIRST_PAIR, LARGEST, N_SUMS, PAIRS, SQUARE, SUM

__all__ = ["frame_sums"]

_VALUES = 2**24  # that are worked on at once


def frame_sums(frames: Any, first: np.ndarray, pairs: bool) -> np.ndarray:
    """Add up ``(SUMS, y, x)`` of frames ``(time, y, x)`` less the first of all; on the host."""
    import cupy as cp

    size = frames.shape[1:]
    begin = cp.asarray(first)
    out = cp.zeros((N_SUMS, *size))
    out[LARGEST] = -np.inf
    step = max(1, _VALUES // max(1, size[0] * size[1]))
    for start in range(0, frames.shape[0], step):
        some = frames[start : start + step].astype(cp.float64)
        out[LARGEST] = cp.maximum(out[LARGEST], some.max(axis=0))
        some -= begin
        out[SUM] += some.sum(axis=0)
        if not pairs:
            continue
        out[SQUARE] += (some * some).sum(axis=0)
        for k, (dy, dx) in enumerate(PAIRS):
            low, high = max(0, -dx), size[1] - max(0, dx)
            one = some[:, : size[0] - dy, low:high]
            other = some[:, dy:, low + dx : high + dx]
            out[FIRST_PAIR + k, : size[0] - dy, low:high] += (one * other).sum(axis=0)
    return cp.asnumpy(out)
