"""How an ROI set is put together: the one constructor, and what its status says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT
from xs2p._warnings import names, warn
from xs2p.rois.pixels import PixelTable, check_pixels, frame_shape, medians, radii, shared_pixels

OK = "ok"
NO_CELL_PIXELS = "no_cell_pixels"
NO_NEUROPIL_PIXELS = "no_neuropil_pixels"
OUTSIDE_FRAME = "outside_frame"
OTHER_PLANE = "other_plane"
ZERO_TRACE = "zero_trace"
COLLINEAR = "collinear"
KNOWN_STATUS = (
    OK,
    NO_CELL_PIXELS,
    NO_NEUROPIL_PIXELS,
    OUTSIDE_FRAME,
    OTHER_PLANE,
    ZERO_TRACE,
    COLLINEAR,
)

STATUS = {
    "long_name": "why the ROI has no trace, or ok",
    "description": "ok, no_cell_pixels, no_neuropil_pixels, outside_frame or other_plane (than "
    "the movie's); an ROI that is not ok has NaN in place of a trace, but for the F of "
    "no_neuropil_pixels, which needs no neuropil.",
}

DESCRIPTIONS = {
    "npix": {
        "long_name": "number of pixels",
        "units": "1",
        "description": "How many of the pixels, in the order of roi, are the ROI's.",
    },
    "ypix": {
        "long_name": "row of the pixel in the frame",
        "units": "1",
        "description": "Row y of the frame, from 0, as the ROI set was given.",
    },
    "xpix": {
        "long_name": "column of the pixel in the frame",
        "units": "1",
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
        "units": "1",
        "description": "Median of ypix, or as the ROI set was given.",
    },
    "med_x": {
        "long_name": "column of the ROI's median pixel",
        "units": "1",
        "description": "Median of xpix, or as the ROI set was given.",
    },
    "radius": {
        "long_name": "twice the major-axis standard deviation, in pixels",
        "units": "1",
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


class Known(NamedTuple):
    """What is known of some ROIs and need not be computed from the pixels."""

    where: np.ndarray
    """Of which ROIs, bool ``(roi,)``."""
    values: np.ndarray
    """Over ``roi``, and ``(roi, 2)`` of medians; arbitrary where it is not known."""


class Fields(NamedTuple):
    """What an ROI set holds beside its pixels and weights; what is absent is computed."""

    pixels: Mapping[str, xr.Variable] = {}
    """Over ``pixel``; of ``overlap`` the values, and of ``soma_crop`` the radius follows."""
    per_roi: Mapping[str, xr.Variable] = {}
    """Further coordinates over ``roi``; of ``plane`` or ``iplane`` the overlap follows."""
    ragged: Mapping[str, tuple[np.ndarray, xr.Variable]] = {}
    """Positions of the ROIs that elements are of, and the variables over ``<name>_element``."""
    radius: Known | None = None
    med: Known | None = None
    status: np.ndarray | None = None


def assemble(
    *,
    roi: np.ndarray,
    npix: np.ndarray,
    ypix: np.ndarray,
    xpix: np.ndarray,
    lam: np.ndarray,
    shape: tuple[int, ...],
    fields: Fields | None = None,
) -> xr.Dataset:
    """Make the ROI set of pixels ROI after ROI, ``npix`` of each, all in the frame.

    Raises
    ------
    ValueError
        Where pixels are outside the frame, doubled, or without a usable weight.
    """
    fields = fields or Fields()
    frame = frame_shape(shape)
    npix = np.asarray(npix, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(npix)]).astype(np.int64)
    none = np.zeros(ypix.size, bool)
    table = PixelTable(roi, offsets, ypix, xpix, np.asarray(lam), none, frame)
    check_pixels(table)
    table = table._replace(overlap=_overlap(table, fields))
    ds = _pixels_of(table).assign_coords(measures(table, fields))
    ds = ds.assign({key: v for key, v in fields.pixels.items() if key != "overlap"})
    ds = ds.assign_coords(fields.per_roi)
    for key, (owner, values) in fields.ragged.items():
        ds = ds.assign({key: values})
        ds = ds.assign_coords({f"{key}_roi": (f"{key}_element", owner, _owner_of(key))})
    return ds


def _overlap(table: PixelTable, fields: Fields) -> np.ndarray:
    if "overlap" in fields.pixels:
        return np.asarray(fields.pixels["overlap"].values, dtype=bool)
    plane = fields.per_roi.get("plane", fields.per_roi.get("iplane"))
    return shared_pixels(table, None if plane is None else plane.values)


def _pixels_of(table: PixelTable) -> xr.Dataset:
    """Pixels, and what ties them to their ROIs."""
    npix = np.diff(table.offsets)
    columns = {
        "npix": ("roi", npix),
        "ypix": ("pixel", table.ypix.astype(np.int32)),
        "xpix": ("pixel", table.xpix.astype(np.int32)),
        "lam": ("pixel", table.lam.astype(np.float32)),
        "overlap": ("pixel", table.overlap),
    }
    return xr.Dataset(
        {name: (*column, DESCRIPTIONS[name]) for name, column in columns.items()},
        coords={"roi": ("roi", table.roi, DESCRIPTIONS["roi"]), **ties(npix)},
        attrs={"Ly": table.shape[0], "Lx": table.shape[1]},
    )


def ties(npix: np.ndarray, first: int = 0) -> dict[str, xr.Variable]:
    """``roi_id`` and ``pixel_roi``, which tie pixels to their ROIs, counted from ``first`` on."""
    ids = np.arange(first, first + npix.size)
    return {
        "roi_id": xr.Variable("roi", ids, DESCRIPTIONS["roi_id"]),
        "pixel_roi": xr.Variable("pixel", np.repeat(ids, npix), DESCRIPTIONS["pixel_roi"]),
    }


def measures(table: PixelTable, fields: Fields) -> dict[str, xr.Variable]:
    """Coordinates over ``roi`` that say where ROIs are and how large; known, else computed."""
    crop = fields.pixels.get("soma_crop")
    radius = radii(table, None if crop is None else crop.values.astype(bool))
    if fields.radius is not None:
        radius = np.where(fields.radius.where, fields.radius.values, radius)
    med = medians(table)
    if fields.med is not None:
        med = np.where(fields.med.where[:, None], fields.med.values, med)
    status = fields.status
    if status is None:
        status = status_of(np.diff(table.offsets), np.zeros(table.roi.size, bool))
    columns = {
        "med_y": med[:, 0],
        "med_x": med[:, 1],
        "radius": np.asarray(radius, dtype=np.float64),
        "frac_overlap": frac_overlap(table),
        "status": status,
    }
    return {k: xr.Variable("roi", values, DESCRIPTIONS[k]) for k, values in columns.items()}


def _owner_of(key: str) -> dict[str, str]:
    return {
        "long_name": f"roi_id of the ROI that the element of {key} belongs to",
        "description": f"Ties the elements of {key} to their ROI.",
    }


def frac_overlap(table: PixelTable) -> np.ndarray:
    """Share of each ROI's pixels that another has too."""
    npix = np.diff(table.offsets)
    shared = np.bincount(table.owner, weights=table.overlap, minlength=npix.size)
    return np.asarray(shared / np.maximum(npix, 1))


def status_of(npix: np.ndarray, gone: np.ndarray) -> np.ndarray:
    """Status of ROIs of so many pixels, of which ``gone`` lie wholly outside the frame."""
    status = np.full(npix.size, OK, dtype=TEXT)
    status[npix == 0] = NO_CELL_PIXELS
    status[gone] = OUTSIDE_FRAME
    return status


def status_of_zeros(coords: Mapping[Any, Any], F: np.ndarray | xr.Variable) -> dict[str, Any]:
    """``status`` where files have an ``F`` of 0 in all frames, as suite2p says that there is none.

    ``coords`` are those of the ROIs that ``F(roi, time)`` is of. What has another status than
    ``ok`` keeps it; nothing is returned where no ``F`` is 0. Of a lazy ``F`` the first frame is
    read, and the ROIs that are 0 in it.
    """
    F = F if isinstance(F, xr.Variable) else xr.Variable(("roi", "time"), F)
    first = np.flatnonzero(~F[:, :1].values.any(axis=1))
    zero = np.array([n for n in first.tolist() if not F[n].values.any()], dtype=np.intp)
    if not zero.size or not F.shape[1]:
        return {}
    known = coords["status"].values if "status" in coords else np.full(len(F), OK)
    status = np.array(known, dtype=TEXT)
    free = np.ones(len(F), bool)
    if "overlap" in coords:
        npix = coords["npix"].values
        owner = np.repeat(np.arange(npix.size), npix)
        free = np.bincount(owner, ~coords["overlap"].values, minlength=npix.size) > 0
    for n in zero:
        status[n] = (ZERO_TRACE if free[n] else NO_CELL_PIXELS) if status[n] == OK else status[n]
    attrs = {
        "long_name": STATUS["long_name"],
        "description": "zero_trace: F is 0 in all frames; no_cell_pixels: so it is, since all "
        "pixels are shared with other ROIs or there are none. Traces are as the files have them.",
    }
    return {"status": ("roi", status, attrs)}


class Cut(NamedTuple):
    """What is left of ROIs within a frame."""

    inside: np.ndarray
    """Which pixels, bool ``(pixel,)``."""
    npix: np.ndarray
    """How many of each ROI, ``(roi,)``."""
    lost: np.ndarray
    """ROIs that lost some or all, bool ``(roi,)``."""
    gone: np.ndarray
    """ROIs that lost all, bool ``(roi,)``."""
    outside: int
    """How many pixels are lost."""


def cut_to_frame(
    owner: np.ndarray,
    ypix: np.ndarray,
    xpix: np.ndarray,
    n_rois: int,
    frame: tuple[int, int],
    outside: np.ndarray | int = 0,
) -> Cut:
    """Find the pixels in the frame; ``owner`` are the positions of the ROIs that pixels are of.

    ``outside`` counts those of each ROI that were left out before.
    """
    inside = (ypix >= 0) & (ypix < frame[0]) & (xpix >= 0) & (xpix < frame[1])
    before = np.bincount(owner, minlength=n_rois) + outside
    left = np.bincount(owner[inside], minlength=n_rois)
    lost = int((before - left).sum())
    return Cut(inside, left, left < before, (left == 0) & (before > 0), lost)


def warn_of_lost(
    cut: Cut, shown: np.ndarray, where: str, source: str = "", kind: str = "roi "
) -> None:
    """Warn of pixels outside the frame, if any; ``shown`` are the names, by ``kind``, of ROIs."""
    if cut.lost.any():
        warn(
            f"{source}{cut.outside} pixels of {cut.lost.sum()} ROIs lie outside the frame "
            f"{where} and are left out ({kind}{names(shown[cut.lost])}); {cut.gone.sum()} ROIs lie "
            "wholly outside and get the status outside_frame"
        )
