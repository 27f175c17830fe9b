"""The normal equations of footprints and background: made and factored once, solved by frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module, as_array, is_cupy
from xs2p.compute.device import kernels_on
from xs2p.masks.footprints import Footprints
from xs2p.rois.inflation import Factor, factored, inflation

if TYPE_CHECKING:
    import scipy.sparse

_EQUATIONS = "xs2p.traces.equations"
_LEAST = 1e-6  # of a unit vector's square that others must leave of a footprint
_PART = 1e-4  # of a footprint, that is part of what cannot be told apart
_SWEEPS, _ENOUGH = 30, 1e-4


class _Solved(NamedTuple):
    """A factor whose columns and rows are called by the unknowns that they are of."""

    order: np.ndarray
    start: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    pivots: np.ndarray

    def solve(self, x: Any, device: str = "cpu") -> None:
        """Solve in place; unknowns that are not in the factor are 0."""
        absent = np.ones(len(x), bool)
        absent[self.order] = False
        if absent.any():
            x[array_module(x).asarray(np.flatnonzero(absent))] = 0.0
        kernels_on(device, _EQUATIONS).solve(*self, x)


class _Descent(NamedTuple):
    """What the fit with no ROI below 0 needs beside, as ``descend`` takes it."""

    start: np.ndarray
    rows: np.ndarray
    values: np.ndarray
    light: np.ndarray
    spread: np.ndarray


class System(NamedTuple):
    """Sums over the pixels of a frame in, ``F`` and ``Fneu`` of every ROI out."""

    length: np.ndarray
    """Of the footprint of each ROI, whose weights add up to 1; 0 where it is not fitted."""
    hats: scipy.sparse.csr_array | None
    """``(hat, square)``, by which the sums over the hats, as unit vectors, are made."""
    beneath: scipy.sparse.csr_array | None
    """``(roi, hat)``: mean of each hat over the ROI, by its weights."""
    factor: _Solved
    descent: _Descent | None
    unknown: np.ndarray
    """Positions of the ROIs that have no trace."""

    def traces(self, sums: Any, device: str) -> Any:
        """Float32 ``([channel,] kind, roi, time)`` of sums, solved where these are.

        That is the host or the ``device``, whose kernels are then used.
        """
        xp = array_module(sums)
        out = xp.empty((*sums.shape[:-2], self.length.size, sums.shape[-1]), np.float32)
        for channel in np.ndindex(*sums.shape[:-3]):
            self._solve(sums[channel], out[channel], device if is_cupy(sums) else "cpu")
        return out

    def _solve(self, sums: Any, out: Any, device: str) -> None:
        """Fill ``out`` with traces ``(kind, roi, time)`` of sums ``(kind, mask, time)``."""
        xp, kernels = array_module(sums), kernels_on(device, _EQUATIONS)
        n = self.length.size
        n_hats = 0 if self.hats is None else self.hats.shape[0]
        x = xp.empty((n + n_hats, sums.shape[-1]))
        length = as_array(xp, self.length)[:, None]
        x[:n] = sums[0, :n]
        x[:n] /= xp.where(length > 0, length, 1.0)
        if self.hats is not None:
            x[n:] = kernels.product(self.hats, sums[1, : self.hats.shape[1]])
        lost = ~xp.isfinite(x).all(axis=0)  # light of one pixel is in every equation
        xp.copyto(x, 0.0, where=lost)
        given = x.copy() if self.descent is not None else x
        self.factor.solve(x, device)
        if self.descent is not None:
            kernels.descend(*self.descent, given, x, _SWEEPS, _ENOUGH)
        cells = x[:n]
        cells *= length
        with np.errstate(over="ignore"):
            if self.beneath is not None:
                below = kernels.product(self.beneath, x[n:])
                out[1] = below
                cells += below
            out[0] = cells
        xp.copyto(out, np.nan, where=lost)
        if self.unknown.size:
            out[:, as_array(xp, self.unknown)] = np.nan


class Certainty(NamedTuple):
    """How well the ROIs can be told from each other and from the background."""

    vif: np.ndarray
    """Inflation of the variance of each ROI's trace; NaN where it is not fitted."""
    collinear: np.ndarray
    """Positions of the ROIs that others and the background can stand for."""


def system_of(footprints: Footprints, nonnegative: bool) -> tuple[System, Certainty]:
    """Build the system of an ROI set, and find how certain its answers are."""
    import scipy.sparse

    weights = footprints.weights.astype(np.float64)
    n_pixels, n = weights.shape
    background = footprints.background
    gram = scipy.sparse.csr_array(weights.T @ weights)
    length = np.sqrt(gram.diagonal())
    unit = scipy.sparse.diags_array(1 / np.where(length > 0, length, 1.0))
    gram, hats, beneath, light = scipy.sparse.csr_array(unit @ gram @ unit), None, None, None
    if background is not None:
        npix = background.npix.astype(np.float64)
        products = background.hats @ scipy.sparse.diags_array(npix) @ background.hats.T
        scale = scipy.sparse.diags_array(1 / np.sqrt(products.diagonal()))
        hats = scipy.sparse.csr_array(scale @ background.hats)
        in_square = scipy.sparse.csr_array(
            (np.ones(n_pixels), background.squares, np.arange(n_pixels + 1)),
            shape=(n_pixels, npix.size),
        )
        beneath = scipy.sparse.csr_array(weights.T @ in_square @ hats.T)
        light = scipy.sparse.csr_array(unit @ beneath)
        for product in (hats, beneath):
            product.sum_duplicates()  # in the order of their columns, as CuPy has them
        products = scipy.sparse.csr_array(scale @ products @ scale)
        whole = scipy.sparse.block_array([[gram, light], [light.T, products]], format="csc")
    else:
        whole = scipy.sparse.csc_array(gram)
    fitted = np.flatnonzero(whole.diagonal() > 0)
    factor, alike = _factor(whole, fitted, n)
    descent = None
    if nonnegative:
        descent = _descent_of(gram, light, None if light is None else products)
    vif = np.full(whole.shape[0], np.nan)
    vif[fitted] = inflation(whole[fitted][:, fitted]) if fitted.size else 0.0
    certainty = Certainty(vif[:n], alike[alike < n])
    unknown = np.union1d(np.flatnonzero(length == 0), certainty.collinear)
    return System(length, hats, beneath, factor, descent, unknown), certainty


def _factor(
    whole: scipy.sparse.csc_array, fitted: np.ndarray, n_rois: int
) -> tuple[_Solved, np.ndarray]:
    """Factor of equations that do not depend on each other, and the unknowns that have no answer.

    Of those that do some are left out, ROIs before hats: the others have the same answer whichever.
    """
    dropped = np.zeros(0, np.int64)
    while True:
        found = factored(whole[fitted][:, fitted])
        weak = found.pivots[found.place] < _LEAST
        new, kept = fitted[weak], fitted[~weak]
        solved = _named(factored(whole[kept][:, kept], small=0.0), kept)
        parts = whole[:, new].toarray()
        solved.solve(parts)  # how those that are left out are made of the others
        instead = np.abs(parts[:n_rois, new >= n_rois])
        if not instead.size or instead.max() <= _PART:
            break
        # What an ROI and hats make up alike is the background's, which others need.
        worst = np.unravel_index(instead.argmax(), instead.shape)[0]
        dropped, fitted = np.append(dropped, worst), fitted[fitted != worst]
    new = np.concatenate([dropped, new])
    if not new.size:
        return solved, new
    parts = whole[:, new].toarray()
    solved.solve(parts)
    involved = np.flatnonzero((np.abs(parts) > _PART).any(axis=1))
    return solved, np.union1d(new, involved)


def _named(factor: Factor, names: np.ndarray) -> _Solved:
    order = np.empty(names.size, np.int64)
    order[factor.place] = names
    lower = factor.lower
    return _Solved(
        order, lower.indptr.astype(np.int64), order[lower.indices], lower.data, factor.pivots
    )


def _descent_of(gram: Any, light: Any, products: Any) -> _Descent:
    n = gram.shape[0]
    gram.sort_indices()
    rows = gram.indptr.astype(np.int64), gram.indices.astype(np.int64), gram.data
    if light is None:
        return _Descent(*rows, np.zeros((n, 0)), np.zeros((n, 0)))
    best = np.linalg.pinv(products.toarray(), hermitian=True)  # of sums that ROIs leave over
    each = light.toarray()
    return _Descent(*rows, each, np.ascontiguousarray(each @ best))
