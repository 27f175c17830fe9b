"""The pixels of an ROI set as plain arrays, checked."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._warnings import names

# Pixels of a side, whose numbers are int32, and of a frame: those of all ROIs are numbered through.
_LONGEST, _LARGEST = 2**31 - 1, 2**40


class PixelTable(NamedTuple):
    """The pixels of an ROI set as plain arrays, ROI after ROI in the order of ``roi``."""

    roi: np.ndarray
    """ROI labels, ``(roi,)``."""
    offsets: np.ndarray
    """Pixels ``offsets[i]:offsets[i + 1]`` belong to ROI ``i``; int64 ``(roi + 1,)``."""
    ypix: np.ndarray
    xpix: np.ndarray
    lam: np.ndarray
    overlap: np.ndarray
    shape: tuple[int, int]
    """Frame size ``(Ly, Lx)``."""

    @property
    def owner(self) -> np.ndarray:
        """Position of the ROI that each pixel belongs to, int64 ``(pixel,)``."""
        return np.repeat(np.arange(self.roi.size), np.diff(self.offsets))

    @property
    def flat(self) -> np.ndarray:
        """Flat index ``y · Lx + x`` of each pixel, int64 ``(pixel,)``."""
        return self.ypix.astype(np.int64) * self.shape[1] + self.xpix

    @property
    def key(self) -> np.ndarray:
        """Number that orders pixels by ROI, then by flat index, int64 ``(pixel,)``."""
        return self.owner * (self.shape[0] * self.shape[1]) + self.flat


def pixel_table(rois: xr.Dataset) -> PixelTable:
    """Check an ROI set and return its pixels as plain arrays.

    Raises
    ------
    ValueError
        Where the Dataset is not an ROI set, or its pixels are not those of one frame.
    """
    order, offsets = pixel_order(rois)
    take = slice(None) if order is None else order
    shape = frame_shape((rois.attrs["Ly"], rois.attrs["Lx"]))
    table = PixelTable(
        roi=rois["roi"].values,
        offsets=offsets,
        ypix=rois["ypix"].values[take],
        xpix=rois["xpix"].values[take],
        lam=rois["lam"].values[take],
        overlap=rois["overlap"].values[take],
        shape=shape,
    )
    check_pixels(table)
    return table


def given_radii(rois: xr.Dataset) -> np.ndarray:
    """``radius`` of an ROI set, float ``(roi,)``, checked: masks look that far around a pixel."""
    if "radius" not in rois or rois["radius"].dims != ("roi",):
        raise ValueError(
            "the ROI set has no radius over roi, by whose median masks tell cells from their "
            "surroundings; rois.assign_coords(radius=('roi', pixels)) gives it one"
        )
    radius = np.asarray(rois["radius"].values, dtype=np.float64)
    wrong = ~((radius >= 0) & np.isfinite(radius))
    if wrong.any():
        raise ValueError(
            f"radius must be finite and not negative, but is {radius[wrong][0]} for roi "
            f"{names(rois['roi'].values[wrong])}; give each ROI its own, in pixels, as in "
            "rois.assign_coords(radius=('roi', pixels))"
        )
    return radius


def planes_of(rois: xr.Dataset) -> np.ndarray | None:
    """Plane of each ROI, where the set says it: ``plane``, or suite2p's ``iplane``.

    One number for all is that of each.
    """
    for key in ("plane", "iplane"):
        if key in rois.variables and rois[key].dims in (("roi",), ()):
            return np.array(np.broadcast_to(rois[key].values, rois.sizes["roi"]))
    return None


def shared_pixels(table: PixelTable, plane: np.ndarray | None = None) -> np.ndarray:
    """Whether another ROI of the same plane has the pixel too, bool ``(pixel,)``."""
    flat = table.flat
    if plane is not None:
        planes = np.unique(plane, return_inverse=True)[1]
        flat = flat + planes[table.owner] * (table.shape[0] * table.shape[1])
    _, inverse, count = np.unique(flat, return_inverse=True, return_counts=True)
    return np.asarray(count[inverse] > 1)


def pixel_order(rois: xr.Dataset) -> tuple[np.ndarray | None, np.ndarray]:
    """Where the pixels of each ROI are: ``(order or None if contiguous, offsets)``."""
    _check_is_roi_set(rois)
    roi, npix = rois["roi"].values, rois["npix"].values.astype(np.int64)
    n_pixels = rois.sizes["pixel"]
    offsets = np.concatenate([[0], np.cumsum(npix)])
    if np.unique(roi).size != roi.size:
        raise ValueError(
            "the roi labels are not unique; assign_coords(roi=range(n)) renumbers them"
        )
    if "pixel_roi" not in rois.variables or "roi_id" not in rois.variables:
        if offsets[-1] != n_pixels:
            raise ValueError(
                f"npix counts {offsets[-1]} pixels but there are {n_pixels}: pixels were selected "
                "apart from their ROIs. Select over roi only: rois.isel(roi=...)"
            )
        return None, offsets
    owner, ids = rois["pixel_roi"].values, rois["roi_id"].values
    if owner.size == offsets[-1] and np.array_equal(owner, np.repeat(ids, npix)):
        return None, offsets
    return _order_by_id(owner, ids, npix), offsets


def _check_is_roi_set(rois: Any) -> None:
    """Raise unless a Dataset has the variables of an ROI set, over its dims."""
    if not isinstance(rois, xr.Dataset):
        raise ValueError(
            f"rois must be an ROI set (an xarray Dataset), got {type(rois).__name__}; make one "
            "with xs2p.read_rois, rois_from_stat, rois_from_labels or rois_from_footprints"
        )
    absent = [name for name in ("npix", "ypix", "xpix", "lam", "overlap") if name not in rois]
    absent += [name for name in ("Ly", "Lx") if name not in rois.attrs]
    if absent or "roi" not in rois.coords:
        raise ValueError(
            f"this Dataset is no ROI set: it lacks {', '.join(absent) or 'the coordinate roi'}; "
            "make one with xs2p.read_rois, rois_from_stat, rois_from_labels or "
            "rois_from_footprints"
        )
    expected = {"npix": "roi", **dict.fromkeys(("ypix", "xpix", "lam", "overlap"), "pixel")}
    odd = [name for name, dim in expected.items() if rois[name].dims != (dim,)]
    if rois["roi"].ndim != 1 or rois["npix"].dtype.kind not in "iu":
        odd.append("npix")
    if odd:
        first = rois[odd[0]]
        raise ValueError(
            f"this is no ROI set any more: {odd[0]} has dims {first.dims} and dtype "
            f"{first.dtype}, as after rois.where(…, drop=True), which spreads the pixels. "
            "Choose ROIs with a list or a mask over roi, as in rois.isel(roi=[3]) or "
            "rois.sel(roi=rois.npix > 20)"
        )


def _order_by_id(owner: np.ndarray, ids: np.ndarray, npix: np.ndarray) -> np.ndarray:
    """Places of the pixels of each ROI in turn, by the ``roi_id`` beside ROIs and pixels."""
    if np.unique(ids).size != ids.size:
        raise ValueError(
            "an ROI is in the set twice, or two sets were joined; put stats together instead: "
            "rois_from_stat([*a.s2p.to_stat(), *b.s2p.to_stat()], shape)"
        )
    by_id = np.argsort(ids, kind="stable")
    place = np.searchsorted(ids, owner, sorter=by_id)
    known = place < ids.size
    position = np.full(owner.size, ids.size)
    position[known] = by_id[place[known]]
    known[known] = ids[position[known]] == owner[known]
    kept = np.flatnonzero(known)
    if not np.array_equal(np.bincount(position[kept], minlength=ids.size), npix):
        raise ValueError(
            "npix and pixel_roi disagree: pixels were selected apart from their ROIs. Select "
            "over roi only: rois.isel(roi=...)"
        )
    return np.asarray(kept[np.argsort(position[kept], kind="stable")])


def check_pixels(table: PixelTable) -> None:
    """Raise where pixels are outside the frame, doubled, or without a usable weight."""
    ly, lx = table.shape
    for name, values, limit in (("ypix", table.ypix, ly), ("xpix", table.xpix, lx)):
        wrong = np.flatnonzero((values < 0) | (values >= limit))
        if wrong.size:
            k = wrong[0]
            owners = np.unique(table.owner[wrong])
            raise ValueError(
                f"{name} of roi {table.roi[table.owner[k]]} is {values[k]}, outside the frame "
                f"(Ly, Lx) = ({ly}, {lx}); {owners.size} ROIs have such pixels. Is shape=(Ly, Lx) "
                "that of the movie, rows first? rois_from_stat(..., outside='drop') leaves such "
                "pixels out"
            )
    if table.lam.dtype.kind not in "biuf":
        raise ValueError(f"lam holds {table.lam.dtype} numbers; weights must be real")
    bad = np.flatnonzero(~(table.lam <= np.finfo(np.float32).max) | (table.lam < 0))
    if bad.size:
        raise ValueError(
            f"lam of roi {names(table.roi[np.unique(table.owner[bad])])} holds "
            f"{table.lam[bad[0]]}; weights must be finite and not negative (as float32)"
        )
    unique, first, count = np.unique(table.key, return_index=True, return_counts=True)
    if unique.size != table.lam.size:
        k = first[count > 1][0]
        twice = np.unique(table.owner[first[count > 1]])
        raise ValueError(
            f"roi {names(table.roi[twice])} has pixels more than once, the first being "
            f"(y={table.ypix[k]}, x={table.xpix[k]}); merge them by adding up their weights"
        )


def radii(table: PixelTable, crop: np.ndarray | None) -> np.ndarray:
    """Twice the major-axis standard deviation of the weighted pixels, in pixels."""
    n, owner = table.roi.size, table.owner
    lam = table.lam.astype(np.float64)
    if crop is not None:
        # An ROI without a single soma pixel keeps all of its own.
        has_soma = np.bincount(owner, weights=crop, minlength=n) > 0
        lam = np.where(crop | ~has_soma[owner], lam, 0.0)
    total = np.bincount(owner, weights=lam, minlength=n)
    lam = np.where(total[owner] > 0, lam, 1.0)
    total = np.maximum(np.bincount(owner, weights=lam, minlength=n), np.finfo(float).tiny)

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(np.bincount(owner, weights=lam * values, minlength=n) / total)

    dy = table.ypix - mean(table.ypix)[owner]
    dx = table.xpix - mean(table.xpix)[owner]
    yy, xx, xy = mean(dy * dy), mean(dx * dx), mean(dy * dx)
    largest = (yy + xx) / 2 + np.hypot((yy - xx) / 2, xy)
    return np.asarray(2 * np.sqrt(largest))


def medians(table: PixelTable) -> np.ndarray:
    """Median row and column of each ROI's pixels, ``(roi, 2)``; NaN without pixels."""
    med = np.full((table.roi.size, 2), np.nan)
    some = np.flatnonzero(np.diff(table.offsets))
    start, stop = table.offsets[:-1][some], table.offsets[1:][some]
    for k, values in enumerate((table.ypix, table.xpix)):
        ordered = values[np.lexsort((values, table.owner))]
        lower, upper = ordered[(start + stop - 1) // 2], ordered[(start + stop) // 2]
        med[some, k] = (lower.astype(np.float64) + upper) / 2
    return med


def frame_shape(shape: Any) -> tuple[int, int]:
    """Frame size as two ints, or a ValueError."""
    try:
        ly, lx = (int(n) for n in shape)
    except (TypeError, ValueError, OverflowError):
        ly = lx = 0
    if ly < 1 or lx < 1 or (ly, lx) != tuple(shape):
        raise ValueError(f"shape must be (Ly, Lx), two positive integers, got {shape!r}")
    if max(ly, lx) > _LONGEST or ly * lx > _LARGEST:
        raise ValueError(f"shape={shape!r}: no frame has so many pixels; (Ly, Lx) are in pixels")
    return ly, lx


def agreed_frame(shape: Any, known: tuple[int, int] | None, name: str) -> tuple[int, int] | None:
    """Frame size as given, else as ``name`` says it; None where neither does.

    Raises
    ------
    ValueError
        Where both do and disagree.
    """
    if shape is None:
        return known
    given = frame_shape(shape)
    if known is not None and given != known:
        raise ValueError(
            f"shape={given} disagrees with {name}, which says (Ly, Lx) = {known}; leave shape out "
            "to take that"
        )
    return given
