"""ROIs of another session, or another zoom, on the frame of this one."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p.rois.assemble import (
    DESCRIPTIONS,
    OUTSIDE_FRAME,
    Cut,
    Fields,
    Known,
    assemble,
    cut_to_frame,
    warn_of_lost,
)
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import PixelTable, frame_shape, pixel_table

# Coordinates this close to a pixel's edge are on it: 0.1 + 0.2 is not quite 0.3.
_CLOSE = 1e-9
Pair = tuple[float, float]


def warp_rois(
    rois: xr.Dataset,
    shape: tuple[int, int],
    shift: tuple[float, float] = (0.0, 0.0),
    scale: float | tuple[float, float] = 1.0,
) -> xr.Dataset:
    """Scale ROIs about the upper left corner of the frame, then shift them.

    The corner ``(y, x)`` of a pixel goes to ``(sy · y + dy, sx · x + dx)``. Without scaling and
    by whole pixels, pixels move as they are. Otherwise a pixel of the new frame gets, of each
    ROI, the weights of the old pixels that now lie on it, by the share of its area that they
    cover, and belongs to the ROI where they cover half of it or more; an ROI that covers half
    of no pixel keeps those that it covers most of.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``.
    shape
        ``(Ly, Lx)`` of the new frame, in pixels.
    shift
        ``(dy, dx)`` in pixels of the new frame: down and to the right.
    scale
        New pixels per old pixel, one number or ``(sy, sx)``.

    Returns
    -------
    Dataset
        ROI set of the new frame. Pixels outside it are left out, with one warning; an ROI with
        none left stays, with the status ``outside_frame``. ``med`` and ``radius`` go with their
        ROI; of one that lost pixels they are measured anew, and the radius also where the scales
        of y and x differ. Pixels that moved as they are keep what is known of them; otherwise
        ``overlap`` is computed anew, and variables over ``pixel`` but ``soma_crop`` are left out.
        Lists of pixels of the old frame, such as suite2p's ``neuropil_mask``, are left out always.

    Raises
    ------
    ValueError
        If ``shift`` or ``scale`` is not as above.
    """
    frame = frame_shape(shape)
    shift, factors = pair("shift", shift), pair("scale", scale)
    rois = contiguous(rois)
    rois = rois.drop_dims([dim for dim in rois.dims if dim not in ("roi", "pixel")])
    table = pixel_table(rois)
    moved = _moved(rois, table, shift, factors)
    cut = cut_to_frame(moved.owner, moved.ypix, moved.xpix, table.roi.size, frame)
    warn_of_lost(cut, table.roi, f"{frame} after shift and scale")
    inside = cut.inside
    made = assemble(
        roi=table.roi,
        npix=cut.npix,
        ypix=moved.ypix[inside],
        xpix=moved.xpix[inside],
        lam=moved.lam[inside],
        shape=frame,
        fields=Fields(
            pixels={name: values[inside] for name, values in moved.columns.items()},
            per_roi={n: v for n, v in _columns(rois, "roi").items() if n not in DESCRIPTIONS},
            radius=_radius(rois, factors, ~cut.lost),
            med=_med(rois, shift, factors, ~cut.lost),
            status=_status(rois, cut),
        ),
    )
    return _labelled_as(rois, made)


class _Moved(NamedTuple):
    """Pixels on the new frame and beside it, and what else is known of each."""

    owner: np.ndarray
    ypix: np.ndarray
    xpix: np.ndarray
    lam: np.ndarray
    columns: dict[str, xr.Variable]


def _moved(rois: xr.Dataset, table: PixelTable, shift: Pair, scale: Pair) -> _Moved:
    """Move pixels as they are where they can be, with all that is known of them; else resample."""
    (dy, dx), columns = shift, _columns(rois, "pixel")
    if scale == (1, 1) and dy == int(dy) and dx == int(dx):
        y, x = table.ypix.astype(np.int64) + int(dy), table.xpix.astype(np.int64) + int(dx)
        known = {n: v for n, v in columns.items() if n == "overlap" or n not in DESCRIPTIONS}
        return _Moved(table.owner, y, x, table.lam, known)
    crop = columns.get("soma_crop")
    owner, y, x, lam, kept = _resampled(table, None if crop is None else crop.values, shift, scale)
    new = {} if crop is None else {"soma_crop": xr.Variable("pixel", kept, crop.attrs)}
    return _Moved(owner, y, x, lam.astype(np.float32), new)


def _columns(rois: xr.Dataset, dim: str) -> dict[str, xr.Variable]:
    return {str(name): v for name, v in rois.variables.items() if v.dims == (dim,)}


def _radius(rois: xr.Dataset, scale: Pair, whole: np.ndarray) -> Known | None:
    """Radii of ROIs that lost no pixels, where they are scaled alike in y and x."""
    return Known(whole, scale[0] * rois["radius"].values) if scale[0] == scale[1] else None


def _med(rois: xr.Dataset, shift: Pair, scale: Pair, whole: np.ndarray) -> Known:
    # The centre of pixel 0 is at 0: scaled about the corner of the frame it moves.
    moved = [
        factor * rois[name].values + by + (factor - 1) / 2
        for name, by, factor in zip(("med_y", "med_x"), shift, scale, strict=True)
    ]
    return Known(whole, np.stack(moved, axis=1))


def _status(rois: xr.Dataset, cut: Cut) -> np.ndarray | None:
    """Status as it was, but of ROIs that lost pixels and have none left."""
    if "status" not in rois.variables:
        return None
    status = rois["status"].values.astype(object)
    status[cut.lost & (cut.npix == 0)] = OUTSIDE_FRAME
    return np.asarray(status)


def _labelled_as(rois: xr.Dataset, made: xr.Dataset) -> xr.Dataset:
    """Give a moved set the scalars and attributes of the old one, and the same for coordinates."""
    made = made.assign({n: v for n, v in rois.variables.items() if not v.dims})
    for name in set(made.variables) & set(rois.variables):
        made[name].attrs = dict(rois[name].attrs)
    data = [n for n in made.coords if n in rois.data_vars]
    coords = [n for n in made.data_vars if n in rois.coords]
    return made.reset_coords(data).set_coords(coords).assign_attrs({**rois.attrs, **made.attrs})


def pair(name: str, value: Any) -> Pair:
    """Two finite numbers (y, x); a single scale serves for both."""
    if name == "scale" and np.ndim(value) == 0:
        value = (value, value)
    try:
        first, second = (float(number) for number in value)
    except (TypeError, ValueError):
        first = second = math.nan
    if not (math.isfinite(first) and math.isfinite(second)):
        expected = {
            "shift": "(dy, dx), two numbers of pixels, as in shift=(3, -2)",
            "scale": "a number or (sy, sx), new pixels per old pixel, as in scale=2.0",
        }[name]
        raise ValueError(f"{name}={value!r}: expected {expected}")
    if name == "scale" and min(first, second) <= 0:
        raise ValueError(f"scale={value!r}: must be above 0; 2.0 makes ROIs twice as wide and high")
    return first, second


def _resampled(
    table: PixelTable,
    crop: np.ndarray | None,
    shift: Pair,
    scale: Pair,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray | None]:
    """``(owner, y, x, lam, soma_crop)`` of the new pixels, ROI by ROI and row by row."""
    starts, shares = [], []
    for old, move, size in zip((table.ypix, table.xpix), shift, scale, strict=True):
        low, high = (_snapped(size * edge + move) for edge in (old.astype(float), old + 1.0))
        first = np.floor(low)
        cells = first[:, None] + np.arange(math.ceil(size) + 1)
        starts.append(cells.astype(np.int64))
        overlap = np.minimum(high[:, None], cells + 1) - np.maximum(low[:, None], cells)
        shares.append(np.maximum(overlap, 0.0))
    area = shares[0][:, :, None] * shares[1][:, None, :]
    k, i, j = np.nonzero(area)
    area = area[k, i, j]
    place = np.stack([table.owner[k], starts[0][k, i], starts[1][k, j]])
    order = np.lexsort(place[::-1])
    place, area, k = place[:, order], area[order], k[order]
    new = np.ones(area.size, bool)
    new[1:] = (np.diff(place, axis=1) != 0).any(0)
    cell = np.cumsum(new) - 1
    covered = np.bincount(cell, area)
    weight = np.bincount(cell, area * table.lam[k].astype(np.float64))
    owner, y, x = place[:, new]
    most = np.zeros(table.roi.size)
    np.maximum.at(most, owner, covered)
    kept = covered >= np.minimum(most, 0.5)[owner] - _CLOSE
    if crop is not None:  # of the soma where most of what covers the new pixel is
        crop = (np.bincount(cell, area * crop[k]) >= covered / 2 - _CLOSE)[kept]
    return owner[kept], y[kept], x[kept], weight[kept], crop


def _snapped(edges: np.ndarray) -> np.ndarray:
    whole = np.round(edges)
    return np.where(np.abs(edges - whole) < _CLOSE, whole, edges)
