"""What a movie is fitted with: all pixels of each ROI, and a smooth background over the frame."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT
from xs2p.masks.build import cell_masks
from xs2p.masks.masks import roi_labels
from xs2p.masks.packing import MaskArrays
from xs2p.rois.assemble import NO_CELL_PIXELS, OK, OTHER_PLANE, OUTSIDE_FRAME
from xs2p.rois.pixels import pixel_table, planes_of

if TYPE_CHECKING:
    import scipy.sparse

_SMALL = 64  # pixels of a side of a frame up to which hats have a value in each of them
_STRIPS = 32  # of a larger side: a value in each, so that sums are few and stay in the cache


class Background(NamedTuple):
    """Bilinear hats on a grid over the frame, each constant in squares of pixels."""

    squares: np.ndarray
    """Which square each pixel is in, int64 ``(Ly · Lx,)``."""
    hats: scipy.sparse.csr_array
    """``(hat, square)``, their values at the middles of the squares."""

    @property
    def npix(self) -> np.ndarray:
        """Pixels of each square."""
        return np.bincount(self.squares, minlength=self.hats.shape[1])


class Footprints(NamedTuple):
    """ROIs with all of their pixels, and the background, as sums over pixels see them."""

    weights: scipy.sparse.csc_array
    """Float32 ``(Ly · Lx, roi)``, each column adding up to 1; none of an ROI that is not fitted."""
    background: Background | None
    rois: xr.Dataset
    """What labels the traces; ``status`` says which ROIs have no pixels here."""
    shape: tuple[int, int]

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return int(self.weights.shape[1])

    def arrays(self) -> MaskArrays:
        """Return ROIs as cell masks and squares as neuropil masks, which the sums are made of.

        There are as many of both: what is missing has no pixels.
        """
        indptr, indices, data = self.weights.indptr, self.weights.indices, self.weights.data
        if self.background is None:
            return MaskArrays(indptr, indices, data, None, None, self.shape)
        npix = self.background.npix
        n_masks = max(self.n_rois, npix.size)
        npix = np.concatenate([npix, np.zeros(n_masks - npix.size, npix.dtype)])
        indptr = np.concatenate([indptr, np.full(n_masks - self.n_rois, indptr[-1])])
        outer = np.concatenate([[0], np.cumsum(npix)])
        order = np.argsort(self.background.squares, kind="stable")
        return MaskArrays(indptr, indices, data, outer, order, self.shape)

    def token(self) -> str:
        """Hash of pixels, weights and hats."""
        digest = hashlib.blake2b(repr((self.shape, self.n_rois)).encode(), digest_size=16)
        parts: list[Any] = [self.weights.indptr, self.weights.indices, self.weights.data]
        if self.background is not None:
            hats = self.background.hats
            parts += [self.background.squares, hats.indptr, hats.indices, hats.data]
        for part in parts:
            digest.update(np.ascontiguousarray(part).data)
            digest.update(b"|")
        return digest.hexdigest()


def footprints_of(rois: xr.Dataset, grid: tuple[int, int] | None, plane: Any = None) -> Footprints:
    """All pixels of ROIs, weighted by their ``lam``, and hats on a ``grid``; None for no hats.

    Of a ``plane`` its own ROIs; the others are in nobody's way, and have no pixels and the status
    ``other_plane``.
    """
    table = pixel_table(rois)
    used = np.ones(table.lam.size, bool)
    status = np.full(table.roi.size, OK, dtype=TEXT)
    if plane is not None:
        here = np.asarray(planes_of(rois) == plane)
        used, status[~here] = here[table.owner], OTHER_PLANE
    weights = cell_masks(table, used)
    nothing = np.diff(weights.indptr) == 0
    if "status" in rois:
        outside = rois["status"].values == OUTSIDE_FRAME
        status[outside & (status == OK)] = OUTSIDE_FRAME
    status[nothing & (status == OK)] = NO_CELL_PIXELS
    labels = roi_labels(rois).assign_coords(status=("roi", status))
    background = None if grid is None else background_of(table.shape, grid)
    return Footprints(weights, background, labels, table.shape)


def background_of(shape: tuple[int, int], grid: tuple[int, int]) -> Background:
    """Hats in the middle of the corner pixels and, in between, equally far from each other."""
    import scipy.sparse

    places, values = zip(*(_hats(*along) for along in zip(shape, grid, strict=True)), strict=True)
    n_columns = values[1].shape[0]
    squares = (places[0][:, None] * n_columns + places[1]).ravel()
    rows, columns = (scipy.sparse.csr_array(v.T) for v in values)
    hats = scipy.sparse.csr_array(scipy.sparse.kron(rows, columns))
    hats.eliminate_zeros()
    return Background(squares, hats)


def _hats(length: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Which strip each row of the frame is in, and ``n`` hats ``(strip, hat)`` over strips."""
    if n == 1:
        return np.zeros(length, np.int64), np.ones((1, 1))
    gap = (length - 1) / (n - 1)
    strips = np.arange(length) // (1 if length <= _SMALL else -(-length // _STRIPS))
    middle = np.bincount(strips, np.arange(length)) / np.bincount(strips)
    if gap == 0:  # a frame of one row
        return strips, np.ones((1, 1))
    hats = np.maximum(0.0, 1.0 - np.abs(middle[:, None] - np.arange(n) * gap) / gap)
    return strips, hats[:, hats.any(axis=0)]  # between pixels there may be some
