"""ROIs of another session, or another zoom, on the frame of this one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import (
    PixelTable,
    frame_shape,
    medians,
    pixel_table,
    planes_of,
    radii,
    shared_pixels,
)

# Coordinates this close to a pixel's edge are on it: 0.1 + 0.2 is not quite 0.3.
_CLOSE = 1e-9
_OUTSIDE_FRAME = "outside_frame"


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
    (dy, dx), (sy, sx) = pair("shift", shift), pair("scale", scale)
    rois = contiguous(rois)
    rois = rois.drop_dims([dim for dim in rois.dims if dim not in ("roi", "pixel")])
    table = pixel_table(rois)
    if sy == sx == 1 and dy == int(dy) and dx == int(dx):
        y, x = table.ypix.astype(np.int64) + int(dy), table.xpix.astype(np.int64) + int(dx)
        moved, owner, whole = rois, table.owner, True
    else:
        crop = rois["soma_crop"].values if "soma_crop" in rois.variables else None
        owner, y, x, lam, crop = _resampled(table, crop, (dy, dx), (sy, sx))
        whole = False
        moved = rois.drop_dims("pixel").assign(
            lam=("pixel", lam.astype(np.float32), rois["lam"].attrs),
            overlap=("pixel", np.zeros(lam.size, bool), rois["overlap"].attrs),
            ypix=("pixel", y, rois["ypix"].attrs),
            xpix=("pixel", x, rois["xpix"].attrs),
        )
        if crop is not None:
            moved["soma_crop"] = ("pixel", crop, rois["soma_crop"].attrs)
    inside = (y >= 0) & (y < frame[0]) & (x >= 0) & (x < frame[1])
    before = np.bincount(owner, minlength=table.roi.size)
    npix = np.bincount(owner[inside], minlength=table.roi.size)
    _warn_of_lost(table.roi, before, npix, frame)
    moved = moved.isel(pixel=inside)
    ids, where = np.arange(npix.size), ("pixel", np.repeat(np.arange(npix.size), npix))
    moved = moved.assign(
        npix=("roi", npix, rois["npix"].attrs),
        ypix=("pixel", y[inside].astype(np.int32), rois["ypix"].attrs),
        xpix=("pixel", x[inside].astype(np.int32), rois["xpix"].attrs),
    ).assign_coords(roi_id=("roi", ids, _about(rois, "roi_id")))
    moved = moved.assign_coords(pixel_roi=(*where, _about(rois, "pixel_roi")))
    moved.attrs = {**rois.attrs, "Ly": frame[0], "Lx": frame[1]}
    if not whole:
        shared = shared_pixels(pixel_table(moved), planes_of(moved))
        moved["overlap"] = ("pixel", shared, rois["overlap"].attrs)
    # The centre of pixel 0 is at 0: scaled about the corner of the frame it moves.
    middle = {"med_y": sy * rois["med_y"] + dy + (sy - 1) / 2}
    middle["med_x"] = sx * rois["med_x"] + dx + (sx - 1) / 2
    return _with_measures(moved, rois, middle, sy if sy == sx else None, npix == before)


def _about(rois: xr.Dataset, name: str) -> dict[str, Any]:
    return rois[name].attrs if name in rois.variables else {}


def pair(name: str, value: Any) -> tuple[float, float]:
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
    shift: tuple[float, float],
    scale: tuple[float, float],
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


def _warn_of_lost(
    roi: np.ndarray, before: np.ndarray, after: np.ndarray, frame: tuple[int, int]
) -> None:
    lost = np.flatnonzero(after < before)
    if lost.size:
        wholly = ((after == 0) & (before > 0)).sum()
        warn(
            f"{(before - after).sum()} pixels of {lost.size} ROIs lie outside the frame {frame} "
            f"after shift and scale and are left out (roi {names(roi[lost])}); {wholly} ROIs lie "
            "wholly outside and get the status outside_frame"
        )


def _with_measures(
    moved: xr.Dataset,
    rois: xr.Dataset,
    middle: dict[str, xr.DataArray],
    scale: float | None,
    intact: np.ndarray,
) -> xr.Dataset:
    """Set what an ROI set says of each ROI; what lost pixels is measured anew."""
    table = pixel_table(moved)
    npix = np.diff(table.offsets)
    crop = moved["soma_crop"].values.astype(bool) if "soma_crop" in moved.variables else None
    radius = radii(table, crop)
    if scale is not None:
        radius = np.where(intact, scale * rois["radius"].values, radius)
    med = medians(table)
    shares = np.bincount(table.owner, weights=table.overlap, minlength=npix.size)
    measures = {
        "radius": radius,
        "med_y": np.where(intact, middle["med_y"].values, med[:, 0]),
        "med_x": np.where(intact, middle["med_x"].values, med[:, 1]),
        "frac_overlap": shares / np.maximum(npix, 1),
    }
    if "status" in moved.variables:
        status = moved["status"].values.astype(object)
        status[~intact & (npix == 0)] = _OUTSIDE_FRAME
        measures["status"] = status
    return moved.assign_coords(
        {key: ("roi", values, _about(rois, key)) for key, values in measures.items()}
    )
