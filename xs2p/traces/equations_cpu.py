"""Solving for many frames at once: sparse triangular systems, and descent with no light below 0."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xs2p.compute.kernels import njit

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["descend", "product", "solve"]

_SIDE_BY_SIDE = 64  # frames: what is known of all unknowns in them stays in the cache
_SMALL = 1e-9  # of a unit vector's square: what is left of a footprint that is all background


def product(matrix: scipy.sparse.csr_array, x: np.ndarray) -> np.ndarray:
    """Multiply a sparse matrix by frames ``(column, time)``."""
    made: np.ndarray = matrix @ np.ascontiguousarray(x)
    return made


@njit
def solve(order, start, rows, values, pivots, x):  # type: ignore[no-untyped-def]
    """Solve ``L D Lᵀ x = b`` in place, of frames ``x`` ``(unknown, time)``.

    Column ``p`` of the factor is that of the unknown ``order[p]``: what it has below its diagonal
    of 1 are ``values`` in the ``rows`` of unknowns, from ``start[p]`` on.
    """
    n = order.size
    for first in range(0, x.shape[1], _SIDE_BY_SIDE):
        last = min(first + _SIDE_BY_SIDE, x.shape[1])
        for p in range(n):
            own = x[order[p], first:last]
            for k in range(start[p], start[p + 1]):
                other, value = x[rows[k], first:last], values[k]
                for t in range(own.size):
                    other[t] -= value * own[t]
        for p in range(n - 1, -1, -1):
            own = x[order[p], first:last]
            for t in range(own.size):
                own[t] /= pivots[p]
            for k in range(start[p], start[p + 1]):
                other, value = x[rows[k], first:last], values[k]
                for t in range(own.size):
                    own[t] -= value * other[t]


@njit
def descend(start, rows, values, light, spread, sums, x, sweeps, enough):  # type: ignore[no-untyped-def]
    """Go on from ``x`` ``(unknown, time)`` to the least squares with no ROI below 0, in place.

    The unknowns are ROIs, and after them the background, which is free: at every step it is what
    fits best. Each ROI in turn is set to what is best given all others, until no change of a frame
    is more than ``enough`` of its largest, or for so many ``sweeps``.

    ``values`` in ``rows`` from ``start`` on are products of the footprint of each ROI, a unit
    vector, with the ROIs; ``light`` ``(roi, hat)`` those with the background; ``spread``
    ``(roi, hat)`` is what the background loses where the ROI gains 1; ``sums`` are products of
    footprints and frames.
    """
    n_rois, n_hats = light.shape
    for first in range(0, x.shape[1], _SIDE_BY_SIDE):
        last = min(first + _SIDE_BY_SIDE, x.shape[1])
        n = last - first
        change, done = np.empty(n), np.zeros(n, np.bool_)
        moved, largest = np.empty(n), np.empty(n)
        for j in range(n_rois):
            own = x[j, first:last]
            for t in range(n):
                change[t] = max(own[t], 0.0) - own[t]
                own[t] += change[t]
            _take_off(spread[j], change, x, n_rois, first, last)
        for _ in range(sweeps):
            moved[:] = 0.0
            largest[:] = 0.0
            for j in range(n_rois):
                scale = 1.0
                for b in range(n_hats):
                    scale -= light[j, b] * spread[j, b]
                if start[j] == start[j + 1] or scale < _SMALL:
                    continue
                change[:] = sums[j, first:last]
                for k in range(start[j], start[j + 1]):
                    other, value = x[rows[k], first:last], values[k]
                    for t in range(n):
                        change[t] -= value * other[t]
                for b in range(n_hats):
                    value = light[j, b]
                    if value != 0.0:
                        other = x[n_rois + b, first:last]
                        for t in range(n):
                            change[t] -= value * other[t]
                own = x[j, first:last]
                for t in range(n):
                    better = max(own[t] + change[t] / scale, 0.0)
                    change[t] = 0.0 if done[t] else better - own[t]
                    own[t] = own[t] if done[t] else better
                    moved[t] = max(moved[t], abs(change[t]))
                    largest[t] = max(largest[t], own[t])
                _take_off(spread[j], change, x, n_rois, first, last)
            done |= moved <= enough * largest
            if done.all():
                break


@njit
def _take_off(spread, change, x, n_rois, first, last):  # type: ignore[no-untyped-def]
    """Let the background follow the change of an ROI."""
    for b in range(spread.size):
        value = spread[b]
        if value != 0.0:
            other = x[n_rois + b, first:last]
            for t in range(other.size):
                other[t] -= value * change[t]
