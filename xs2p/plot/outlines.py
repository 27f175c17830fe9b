"""Where ROIs end, and which of several has a pixel."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.rois.pixels import PixelTable, shared_pixels

_MANY = 50  # ROIs, of fewer the outlines can be told apart
_SHARED = 0.3  # of the pixels


def within(table: PixelTable, weight: float | None) -> PixelTable:
    """Keep the pixels whose weight is at least that share of the largest of their ROI."""
    if weight is None or not table.lam.size:
        return table
    largest = np.full(table.roi.size, -np.inf)
    np.maximum.at(largest, table.owner, table.lam)
    return some_pixels(table, table.lam >= weight * largest[table.owner])


def some_pixels(table: PixelTable, kept: np.ndarray) -> PixelTable:
    """Leave pixels out; the ROIs stay, also those without any."""
    npix = np.bincount(table.owner[kept], minlength=table.roi.size)
    return table._replace(
        offsets=np.concatenate([[0], np.cumsum(npix)]),
        ypix=table.ypix[kept],
        xpix=table.xpix[kept],
        lam=table.lam[kept],
        overlap=table.overlap[kept],
    )


def is_dense(table: PixelTable) -> bool:
    """Whether so many ROIs share so many pixels that outlines cannot be told apart."""
    if table.roi.size < _MANY or not table.lam.size:
        return False
    return float(shared_pixels(table).mean()) > _SHARED


def owners(table: PixelTable, last: np.ndarray | None = None) -> np.ndarray:
    """Image ``(y, x)``: the ROI that a pixel weighs the most in, by its position; -1 for none.

    Weights are over the largest of their ROI; ``last`` are ROIs that stand behind the others.
    """
    largest = np.full(table.roi.size, 1e-30)
    np.maximum.at(largest, table.owner, table.lam)
    share = table.lam / largest[table.owner]
    if last is not None:
        share = share - 2.0 * last[table.owner]
    order = np.argsort(share, kind="stable")
    image = np.full(table.shape, -1, np.int64)
    image[table.ypix[order], table.xpix[order]] = table.owner[order]  # the largest comes last
    return image


def borders(image: np.ndarray) -> np.ndarray:
    """Lines ``(line, end, (x, y))`` between pixels of different owners."""
    y, x = np.nonzero(image[:, 1:] != image[:, :-1])
    upright = np.stack([np.stack([x + 0.5, y - 0.5], 1), np.stack([x + 0.5, y + 0.5], 1)], 1)
    y, x = np.nonzero(image[1:] != image[:-1])
    flat = np.stack([np.stack([x - 0.5, y + 0.5], 1), np.stack([x + 0.5, y + 0.5], 1)], 1)
    return np.concatenate([upright, flat])


def apart(table: PixelTable, n_colors: int) -> np.ndarray:
    """Choose a colour by number for each ROI, another than those it shares pixels with have.

    Where there are not enough, the one that the fewest of them have.
    """
    from scipy import sparse

    n = table.roi.size
    shape = (n, table.shape[0] * table.shape[1])
    has = sparse.csr_array((np.ones(table.flat.size, np.int32), (table.owner, table.flat)), shape)
    near: Any = sparse.csr_array(has @ has.T)
    colors = np.full(n, -1)
    used = np.zeros(n_colors, np.int64)
    for i in range(n):
        others = colors[near.indices[near.indptr[i] : near.indptr[i + 1]]]
        taken = np.bincount(others[others >= 0], minlength=n_colors)
        colors[i] = np.lexsort((used, taken))[0]
        used[colors[i]] += 1
    return colors
