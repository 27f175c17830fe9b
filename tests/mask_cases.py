"""Masks of all shapes, as plain arrays."""

from __future__ import annotations

import numpy as np

from xs2p.masks.packing import MaskArrays

DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64"]


def ragged(parts, dtype=np.int64):
    indptr = np.cumsum([0, *(len(part) for part in parts)])
    return indptr, np.concatenate([np.zeros(0, dtype), *parts]).astype(dtype)


def random_masks(rng, shape, n_rois, crowded=0.2):
    """Masks of any shape: scattered pixels, long runs, none at all, all of the frame."""
    n_pixels = shape[0] * shape[1]
    cells, rings = [], []
    for n in range(n_rois):
        cells.append(np.flatnonzero(rng.random(n_pixels) < crowded * (n % 3)))
        start, stop = np.sort(rng.integers(0, n_pixels + 1, 2))
        ring = np.arange(start, stop) if n % 4 else np.arange(n_pixels)
        rings.append(ring[rng.random(ring.size) < 0.9] if n % 2 else ring)
    cell_indptr, cell = ragged(cells)
    weights = rng.random(cell.size).astype(np.float32)
    return MaskArrays(cell_indptr, cell, weights, *ragged(rings), shape), cells, rings
