"""Masks of cells and of neuropil by suite2p's names, on numpy."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from xs2p.masks.build import cell_pixels, neuropil_pixels
from xs2p.rois.build import rois_from_stat
from xs2p.rois.pixels import PixelTable, pixel_table

CellMask = tuple[np.ndarray, np.ndarray]


def create_masks(
    stats: Iterable[Mapping[str, Any]],
    Ly: int,
    Lx: int,
    lam_percentile: float = 50.0,
    allow_overlap: bool = False,
    neuropil_extract: bool = True,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular_neuropil: bool = False,
) -> tuple[list[CellMask], list[np.ndarray] | None]:
    """Create the cell and neuropil masks of all ROIs.

    Parameters
    ----------
    stats
        ROI dicts with ``ypix, xpix, lam, overlap, radius``.
    Ly, Lx
        Rows and columns of the frame.
    lam_percentile, allow_overlap, neuropil_extract, inner_neuropil_radius
        As :func:`xs2p.build_masks` has them.
    min_neuropil_pixels, circular_neuropil
        As :func:`xs2p.build_masks` has them.

    Returns
    -------
    cell_masks
        A list of ``(flat pixels int64, weights float32)``.
    neuropil_masks
        A list of flat pixels, int64; None without ``neuropil_extract``.

    Examples
    --------
    >>> stat = {"ypix": [4, 4], "xpix": [5, 6], "lam": [1, 3], "overlap": [False, False]}
    >>> cell, neuropil = create_masks([stat | {"radius": 1.0}], 32, 32)
    >>> cell[0][0].tolist(), cell[0][1].tolist(), neuropil[0].size
    ([133, 134], [0.25, 0.75], 510)
    """
    stats = list(stats)
    cell_masks = [create_cell_mask(stat, Ly, Lx, allow_overlap) for stat in stats]
    if not neuropil_extract:
        return cell_masks, None
    neuropil_masks = create_neuropil_masks(
        [stat["ypix"] for stat in stats],
        [stat["xpix"] for stat in stats],
        create_cell_pix(stats, Ly, Lx, lam_percentile),
        inner_neuropil_radius,
        min_neuropil_pixels,
        circular_neuropil,
    )
    return cell_masks, neuropil_masks


def create_cell_pix(
    stats: Iterable[Mapping[str, Any]], Ly: int, Lx: int, lam_percentile: float = 50.0
) -> np.ndarray:
    """Mark the pixels of cells.

    Parameters
    ----------
    stats
        ROI dicts with ``ypix, xpix, lam, radius``.
    Ly, Lx
        Rows and columns of the frame.
    lam_percentile
        Percentile that a weight must reach in its surroundings; 0: any ROI pixel counts.

    Returns
    -------
    numpy.ndarray
        Bool ``(Ly, Lx)``.
    """
    fields = ("ypix", "xpix", "lam", "radius")
    rois = rois_from_stat([{k: s[k] for k in fields if k in s} for s in stats], (Ly, Lx))
    return cell_pixels(pixel_table(rois), rois["radius"].values, lam_percentile)


def create_cell_mask(
    stat: Mapping[str, Any], Ly: int, Lx: int, allow_overlap: bool = False
) -> CellMask:
    """Create the cell mask of one ROI.

    Parameters
    ----------
    stat
        ROI dict with ``ypix, xpix, lam, overlap``.
    Ly, Lx
        Rows and columns of the frame.
    allow_overlap
        Keep pixels that another ROI has too.

    Returns
    -------
    cell_mask
        Flat pixels, int64.
    lam_normed
        Weights of sum 1, of the dtype of ``lam``.
    """
    keep = slice(None) if allow_overlap else ~np.asarray(stat["overlap"], dtype=bool)
    ypix = np.asarray(stat["ypix"], dtype=np.int64)[keep]
    xpix = np.asarray(stat["xpix"], dtype=np.int64)[keep]
    lam = np.asarray(stat["lam"])[keep]
    lam = lam if lam.dtype.kind == "f" else lam.astype(np.float32)
    flat = _flat(ypix, xpix, (Ly, Lx))
    return flat, lam / lam.sum()


def create_neuropil_masks(
    ypixs: Sequence[np.ndarray],
    xpixs: Sequence[np.ndarray],
    cell_pix: np.ndarray,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular: bool = False,
) -> list[np.ndarray]:
    """Create the neuropil masks around ROIs.

    Parameters
    ----------
    ypixs, xpixs
        Rows and columns of each ROI's pixels.
    cell_pix
        Bool ``(Ly, Lx)``: pixels of cells, which no mask may use.
    inner_neuropil_radius
        Pixels around an ROI to leave out.
    min_neuropil_pixels
        A mask grows until it has more pixels than this.
    circular
        Grow by the ROI's shape instead of a rectangle.

    Returns
    -------
    list of numpy.ndarray
        Flat pixels, int64, for each ROI.
    """
    npix = [np.size(ypix) for ypix in ypixs]
    offsets = np.concatenate([[0], np.cumsum(npix)]).astype(np.int64)
    empty = np.zeros(0, np.int64)
    ypix = np.concatenate([empty, *ypixs]).astype(np.int64)
    xpix = np.concatenate([empty, *xpixs]).astype(np.int64)
    _flat(ypix, xpix, cell_pix.shape)  # raises where a pixel is outside
    table = PixelTable(np.arange(len(npix)), offsets, ypix, xpix, ypix, ypix, cell_pix.shape)
    cells = np.array(cell_pix, dtype=bool, order="C")  # a copy: it is written to on the way
    indptr, indices = neuropil_pixels(
        table, cells, inner_neuropil_radius, min_neuropil_pixels, circular
    )
    indices = indices.astype(np.int64)
    return [indices[a:b] for a, b in zip(indptr[:-1], indptr[1:], strict=True)]


def _flat(ypix: np.ndarray, xpix: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    outside = (ypix < 0) | (ypix >= shape[0]) | (xpix < 0) | (xpix >= shape[1])
    if outside.any():
        n = int(np.flatnonzero(outside)[0])
        raise ValueError(
            f"an ROI has the pixel (y, x) = ({ypix[n]}, {xpix[n]}), outside the frame (Ly, Lx) = "
            f"{tuple(shape)}; is that the frame of the movie, rows first?"
        )
    return np.ravel_multi_index((ypix, xpix), (shape[0], shape[1]))
