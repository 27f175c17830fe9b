"""Sums of frames for the images of a movie, on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.kernels import native, njit
from xs2p.movie.image_sums import LARGEST, N_SUMS

__all__ = ["frame_sums"]


@njit
def _plain(frames, first, out):  # type: ignore[no-untyped-def]
    """Add up each pixel, less the first frame, and find its largest value."""
    for y in range(frames.shape[1]):
        for t in range(frames.shape[0]):
            for x in range(frames.shape[2]):
                value = np.float64(frames[t, y, x])
                out[0, y, x] += value - first[y, x]
                out[2, y, x] = out[2, y, x] if out[2, y, x] >= value else value


@njit
def _with_pairs(frames, first, row, below, out):  # type: ignore[no-untyped-def]
    """As `_plain`, with squares and the products of neighbouring pixels."""
    n_rows, n_columns = frames.shape[1], frames.shape[2]
    for y in range(n_rows):
        last = y + 1 == n_rows
        for t in range(frames.shape[0]):
            for x in range(n_columns):
                row[x] = np.float64(frames[t, y, x]) - first[y, x]
            for x in range(n_columns):
                value = row[x]
                out[0, y, x] += value
                out[1, y, x] += value * value
                whole = np.float64(frames[t, y, x])
                out[2, y, x] = out[2, y, x] if out[2, y, x] >= whole else whole
            for x in range(n_columns - 1):
                out[3, y, x] += row[x] * row[x + 1]
            if last:
                continue
            for x in range(n_columns):
                below[x] = np.float64(frames[t, y + 1, x]) - first[y + 1, x]
                out[4, y, x] += row[x] * below[x]
            for x in range(n_columns - 1):
                out[5, y, x] += row[x] * below[x + 1]
                out[6, y, x + 1] += row[x + 1] * below[x]


def frame_sums(frames: Any, first: np.ndarray, pairs: bool) -> np.ndarray:
    """Add up ``(SUMS, y, x)`` of frames ``(time, y, x)`` less the first frame of all."""
    frames = native(np.asarray(frames))
    out = np.zeros((N_SUMS, *frames.shape[1:]))
    out[LARGEST] = -np.inf
    first = np.ascontiguousarray(first)
    if not pairs:
        _plain(frames, first, out)
    else:
        row, below = np.empty((2, frames.shape[2]))
        _with_pairs(frames, first, row, below, out)
    return out
