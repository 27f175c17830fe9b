"""How much the overlap of ROIs costs: free pixels, and the inflation of variance."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.rois.pixels import PixelTable

if TYPE_CHECKING:
    import scipy.sparse

_SMALL = 1e-12  # added to the squared length of footprints: those that are equal have an inverse
_MOST = 1e6  # and what comes near to the reciprocal of that is infinite


def free_pixels(table: PixelTable) -> np.ndarray:
    """Count the pixels of each ROI that are flagged as no other's, int64 ``(roi,)``."""
    free = table.owner[~table.overlap.astype(bool)]
    return np.bincount(free, minlength=table.roi.size).astype(np.int64)


def variance_inflation(table: PixelTable, plane: np.ndarray | None = None) -> np.ndarray:
    """Find by how much overlap inflates the variance of each ROI's demixed trace.

    Traces that are fitted to the movie together, by least squares over the pixels of all ROIs of a
    plane, have the covariance of the inverse of the Gram matrix of their footprints. Of footprints
    that are unit vectors, its diagonal is 1 for an ROI that shares no pixel, and
    ``1 / (1 − R²)`` for one of whose footprint a part ``R²`` can be made of the others'.

    Parameters
    ----------
    table
        Pixels of the ROIs with their weights, shared pixels too.
    plane
        Of each ROI, ``(roi,)``; ROIs of different planes share nothing.

    Returns
    -------
    Float64 ``(roi,)``, 1 and more; infinite, from 10⁶ on, where others' footprints add up to the
    ROI's; NaN for an ROI without weight.
    """
    gram, known = _gram(table, plane)
    vif = np.full(table.roi.size, np.nan)
    if gram is None:
        return vif
    vif[known] = inflation(gram)
    return vif


def inflation(gram: scipy.sparse.csc_array) -> np.ndarray:
    """Inflation of variance by a Gram matrix of unit vectors: 1 and more, infinite from 10⁶ on."""
    found = np.maximum(_inverse_diagonal(gram), 1.0)  # what is alone is less than 1 by _SMALL
    found[found >= _MOST] = np.inf
    return found


def _gram(table: PixelTable, plane: np.ndarray | None) -> tuple[Any, np.ndarray]:
    """Products of the footprints as unit vectors, and which ROIs have one."""
    import scipy.sparse

    lam, owner, flat = table.lam.astype(np.float64), table.owner, table.flat
    length = np.sqrt(np.bincount(owner, weights=lam**2, minlength=table.roi.size))
    known = np.flatnonzero(length > 0)
    if not known.size:
        return None, known
    if plane is not None:
        planes = np.unique(plane, return_inverse=True)[1]
        flat = flat + planes[owner] * (table.shape[0] * table.shape[1])
    some = lam > 0
    pixels, row = np.unique(flat[some], return_inverse=True)
    column, values = (
        np.searchsorted(known, owner[some]),
        (lam / np.where(length > 0, length, 1)[owner])[some],
    )
    shape = (pixels.size, known.size)
    footprints = scipy.sparse.csc_array((values, (row, column)), shape=shape)
    return (footprints.T @ footprints).tocsc(), known


class Factor(NamedTuple):
    """``L D Lᵀ`` of a sparse symmetric matrix whose rows and columns were put in another order."""

    lower: scipy.sparse.csc_array
    """L below its diagonal of ones."""
    pivots: np.ndarray
    """The diagonal of D."""
    place: np.ndarray
    """Where each row of the matrix is in the factor."""


def factored(gram: scipy.sparse.csc_array, small: float = _SMALL) -> Factor:
    """Factor a Gram matrix, to whose diagonal ``small`` is added, as sparsely as it allows.

    Groups of ROIs that share pixels lie apart in it, so that they may be as large as they like.
    """
    import scipy.sparse
    from scipy.sparse.linalg import splu

    factors = splu(
        (gram + small * scipy.sparse.eye_array(gram.shape[0])).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,  # no pivot but those on the diagonal, which are positive
        options={"SymmetricMode": True},
    )
    lower = scipy.sparse.tril(factors.L, -1, format="csc")
    lower.sort_indices()
    return Factor(lower, factors.U.diagonal(), factors.perm_c)


def _inverse_diagonal(gram: scipy.sparse.csc_array) -> np.ndarray:
    """Diagonal of the inverse of a Gram matrix.

    No more of the inverse is found than where the factor is not 0.
    """
    from xs2p.rois.inflation_cpu import fill, inverse_diagonal

    lower, pivots, place = factored(gram)
    n = pivots.size
    start, rows = fill(lower.indptr, lower.indices)
    columns = np.repeat(np.arange(n), np.diff(start))
    own = np.repeat(np.arange(n), np.diff(lower.indptr))
    values = np.zeros(rows.size)  # those that are too small for a number are not in the factor
    values[np.searchsorted(columns * n + rows, own * n + lower.indices)] = lower.data
    return inverse_diagonal(start, rows, values, pivots)[place]
