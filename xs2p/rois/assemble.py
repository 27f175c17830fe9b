"""How an ROI set is put together: the one constructor, and what its status says."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT
from xs2p._warnings import names, warn
from xs2p.rois.pixels import PixelTable, check_pixels, frame_shape, medians, radii, shared_pixels
from xs2p.rois.stat import describe

OK = "ok"

NO_CELL_PIXELS = "no_cell_pixels"

NO_NEUROPIL_PIXELS = "no_neuropil_pixels"

OUTSIDE_FRAME = "outside_frame"
KNOWN_STATUS = (OK, NO_CELL_PIXELS, NO_NEUROPIL_PIXELS, OUTSIDE_FRAME)

STATUS = {
    "long_name": "why the ROI has no trace, or ok",
    "description": "ok, no_cell_pixels, no_neuropil_pixels or outside_frame; an ROI that is not ok "
    "has NaN in place of a trace.",
}

DESCRIPTIONS = {
    "npix": {
        "long_name": "number of pixels",
        "units": "pixel",
        "description": "How many of the pixels, in the order of roi, are the ROI's.",
    },
    "ypix": {
        "long_name": "row of the pixel in the frame",
        "units": "pixel",
        "description": "Row y of the frame, from 0, as the ROI set was given.",
    },
    "xpix": {
        "long_name": "column of the pixel in the frame",
        "units": "pixel",
        "description": "Column x of the frame, from 0, as the ROI set was given.",
    },
    "lam": {
        "long_name": "pixel weight",
        "units": "1",
        "description": "Weight of the pixel in its ROI, as given and not normalised; 1 where the "
        "ROIs came without weights.",
    },
    "overlap": {
        "long_name": "another ROI has the pixel too",
        "description": "Cell masks leave such pixels out unless allow_overlap is set; "
        "xs2p.recompute_overlap finds them anew.",
    },
    "pixel_roi": {
        "long_name": "roi_id of the ROI that the pixel belongs to",
        "description": "Ties pixels to their ROI, so that a selection over roi stays an ROI set.",
    },
    "roi_id": {
        "long_name": "number of the ROI in its table of pixels, whatever its label",
        "description": "What pixel_roi refers to; it stays when ROIs are selected or relabelled.",
    },
    "roi": {
        "long_name": "ROI label",
        "description": "Names the ROI in every result; as given, or numbered from 0.",
    },
    "med_y": {
        "long_name": "row of the ROI's median pixel",
        "units": "pixel",
        "description": "Median of ypix, or as the ROI set was given.",
    },
    "med_x": {
        "long_name": "column of the ROI's median pixel",
        "units": "pixel",
        "description": "Median of xpix, or as the ROI set was given.",
    },
    "radius": {
        "long_name": "twice the major-axis standard deviation",
        "units": "pixel",
        "description": "Of the weighted pixels, along their longest axis; or as the ROI set was "
        "given.",
    },
    "frac_overlap": {
        "long_name": "fraction of the pixels that another ROI has too",
        "units": "1",
        "description": "Mean of overlap over the ROI's pixels.",
    },
    "status": STATUS,
}


def assemble(
    roi: np.ndarray,
    npix: np.ndarray,
    ypix: np.ndarray,
    xpix: np.ndarray,
    lam: np.ndarray,
    shape: tuple[int, ...],
    outside: str = "raise",
    fields: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Check pixels and assemble the Dataset; what is not given is computed."""
    if outside not in ("raise", "drop"):
        raise ValueError(f"outside={outside!r}; choose 'raise' or 'drop'")
    fields = fields or {}
    pixels: dict[str, np.ndarray] = fields.pop("pixels", {})
    per_roi: dict[str, Any] = fields.pop("per_roi", {})
    ragged: dict[str, tuple[np.ndarray, np.ndarray]] = fields.pop("ragged", {})
    ly, lx = frame_shape(shape)
    npix = np.asarray(npix, dtype=np.int64)
    status = np.full(npix.size, OK, dtype=TEXT)
    status[npix == 0] = NO_CELL_PIXELS
    inside = (ypix >= 0) & (ypix < ly) & (xpix >= 0) & (xpix < lx)
    if outside == "drop" and not inside.all():
        owner = np.repeat(np.arange(npix.size), npix)[inside]
        left = np.bincount(owner, minlength=npix.size)
        status[(left == 0) & (npix > 0)] = OUTSIDE_FRAME
        lost = np.flatnonzero(left < npix)
        warn(
            f"{lost.size} ROIs have pixels outside the frame ({ly}, {lx}); those pixels are left "
            f"out (roi {names(roi[lost])}); {(status == OUTSIDE_FRAME).sum()} ROIs lie wholly "
            "outside and get the status outside_frame"
        )
        npix, ypix, xpix, lam = left, ypix[inside], xpix[inside], lam[inside]
        pixels = {key: values[inside] for key, values in pixels.items()}
    offsets = np.concatenate([[0], np.cumsum(npix)]).astype(np.int64)
    no_overlap = np.zeros(ypix.size, bool)
    table = PixelTable(roi, offsets, ypix, xpix, np.asarray(lam), no_overlap, (ly, lx))
    check_pixels(table)
    overlap = pixels.pop("overlap", None)
    if overlap is None:
        plane = per_roi.get("plane", per_roi.get("iplane"))
        overlap = shared_pixels(table, None if plane is None else plane[1])
    overlap = overlap.astype(bool)
    table = table._replace(overlap=overlap)
    crop = pixels.get("soma_crop")
    radius = radii(table, None if crop is None else crop.astype(bool))
    given, values = per_roi.pop("radius", (np.zeros(npix.size, bool), radius))
    wrong = given & ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"radius must be finite and not negative, but is {values[wrong][0]} for roi "
            f"{names(roi[wrong])}; leave it out of stat and it is computed"
        )
    radius = np.where(given, values, radius)
    given, values = per_roi.pop("med", (np.zeros(npix.size, bool), np.zeros((npix.size, 2))))
    med = np.where(given[:, None], values, medians(table))
    ds = xr.Dataset(
        {
            "npix": ("roi", npix),
            "ypix": ("pixel", ypix.astype(np.int32)),
            "xpix": ("pixel", xpix.astype(np.int32)),
            "lam": ("pixel", np.asarray(lam).astype(np.float32)),
            "overlap": ("pixel", overlap),
        },
        coords={
            "roi": ("roi", np.asarray(roi, dtype=np.int64)),
            "roi_id": ("roi", np.arange(npix.size)),
            "pixel_roi": ("pixel", np.repeat(np.arange(npix.size), npix)),
            "med_y": ("roi", med[:, 0]),
            "med_x": ("roi", med[:, 1]),
            "radius": ("roi", np.asarray(radius, dtype=np.float64)),
            "frac_overlap": frac_overlap(overlap, offsets),
            "status": ("roi", status),
        },
        attrs={"Ly": ly, "Lx": lx},
    )
    for key, values in pixels.items():
        ds[key] = ("pixel", values, describe(key.removeprefix("stat_")))
    for key, coordinate in per_roi.items():
        ds = ds.assign_coords({key: coordinate})
    for key, (owner, values) in ragged.items():
        ds = ds.assign({key: (f"{key}_element", values, describe(key.removeprefix("stat_")))})
        ds = ds.assign_coords({f"{key}_roi": (f"{key}_element", owner, _owner_of(key))})
    for name, attrs in DESCRIPTIONS.items():
        ds[name].attrs.update(attrs)
    return ds


def _owner_of(key: str) -> dict[str, str]:
    return {
        "long_name": f"roi_id of the ROI that the element of {key} belongs to",
        "description": f"Ties the elements of {key} to their ROI.",
    }


def frac_overlap(overlap: np.ndarray, offsets: np.ndarray) -> tuple[str, np.ndarray, dict]:
    """Share of each ROI's pixels that another has too, as a coordinate."""
    npix = np.diff(offsets)
    owner = np.repeat(np.arange(npix.size), npix)
    shared = np.bincount(owner, weights=overlap, minlength=npix.size)
    return "roi", shared / np.maximum(npix, 1), DESCRIPTIONS["frac_overlap"]
