"""How the fields of suite2p's ``stat`` dicts map to variables of an ROI set, and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, TEXT, TRACES
from xs2p._warnings import names, warn
from xs2p.rois.assemble import Fields, Known

if TYPE_CHECKING:
    from xs2p.rois.pixels import PixelTable

REQUIRED = ("ypix", "xpix", "lam")
# Computed from the pixels again, or spelled otherwise in an ROI set.
_DERIVED = (*REQUIRED, "npix")
# Names that an ROI set uses for something else: a stat field of such a name is prefixed.
_OF_ROIS = ("roi", "pixel", "pixel_roi", "roi_id", "status", "frac_overlap", "med_y", "med_x")
TAKEN = (*_OF_ROIS, *TRACES, "tau", "time", "channel", "y", "x")
_PER_PIXEL = ("overlap", "soma_crop")
_MEANINGS = {"med": "[y, x], two numbers", "radius": "a number"}
_PREFIX = "stat_"
# What suite2p's documentation says of its fields, and their units.
_FIELDS: dict[str, tuple[str, str | None]] = {
    "skew": ("skewness of the trace corrected for neuropil", "1"),
    "std": ("standard deviation of the trace corrected for neuropil", ARBITRARY),
    "aspect_ratio": ("ratio of the axes of a Gaussian fitted to the ROI", "1"),
    "compact": ("how compact the ROI is; 1 is a disk", "1"),
    "footprint": ("spatial extent of the ROI's signal", None),
    "npix_norm": ("number of pixels relative to the mean over ROIs", "1"),
    "npix_soma": ("number of pixels of the soma", "1"),
    "iplane": ("plane of the ROI", None),
    "soma_crop": ("the pixel is of the soma", None),
    "neuropil_mask": ("flat index of a pixel of the ROI's neuropil", None),
}


def completed(stat: Iterable[Any], name: str) -> list[Any]:
    """Make good, with a warning, what some versions and ROIs drawn by hand lack in a ``stat``.

    Without ``lam`` in any ROI every pixel weighs 1. ``overlap`` and ``soma_crop`` that only some
    ROIs have are left out, and so computed from the pixels.
    """
    entries = list(stat)
    if not all(isinstance(entry, Mapping) and {"ypix", "xpix"} <= set(entry) for entry in entries):
        return entries  # rois_from_stat says what is wrong with it
    if entries and not any("lam" in entry for entry in entries):
        warn(f"{name}: no ROI has lam, its weights; every pixel gets the weight 1")
        entries = [{**entry, "lam": np.ones(np.size(entry["ypix"]))} for entry in entries]
    for key in _PER_PIXEL:
        without = [i for i, entry in enumerate(entries) if entry.get(key) is None]
        if 0 < len(without) < len(entries):
            warn(
                f"{name}: {len(without)} of {len(entries)} ROIs have no {key} (roi "
                f"{names(without)}); it is left out of all, and what follows from it computed "
                "from the pixels"
            )
            entries = [{k: v for k, v in entry.items() if k != key} for entry in entries]
    return entries


def widened(stat: Iterable[Any], shape: tuple[int, int]) -> tuple[int, int]:
    """Return a frame of at least ``shape`` that holds every pixel of a ``stat``."""
    frame = list(shape)
    for entry in stat:
        for axis, key in enumerate(("ypix", "xpix")):
            pixels = np.asarray(entry.get(key, ()) if isinstance(entry, Mapping) else ())
            if pixels.size and pixels.dtype.kind in "iu":
                frame[axis] = max(frame[axis], int(pixels.max()) + 1)
    return frame[0], frame[1]


def stat_fields(entries: Sequence[Mapping[str, Any]], npix: np.ndarray) -> Fields:
    """Sort every field that is not a pixel position or weight by the shape it has."""
    pixels: dict[str, xr.Variable] = {}
    per_roi: dict[str, xr.Variable] = {}
    ragged: dict[str, tuple[np.ndarray, xr.Variable]] = {}
    known: dict[str, Known] = {}
    keys = dict.fromkeys(key for entry in entries for key in entry if key not in _DERIVED)
    for key in keys:
        values = [entry.get(key) for entry in entries]
        present = np.array([value is not None for value in values], dtype=bool)
        arrays = [np.asarray(value) for value in values if value is not None]
        if not arrays:
            continue
        if key in _MEANINGS:
            known[key] = _known(key, arrays, present)
            continue
        name = _PREFIX + key if key in TAKEN else key
        depth = _depth(key, arrays)
        if depth is None:
            continue
        if depth == 0 and key not in _PER_PIXEL:
            per_roi[name] = _scalar_column(key, arrays, present)
            continue
        sizes = np.array([a.size for a in arrays])
        whole = bool(present.all()) and np.array_equal(sizes, npix)
        if key in _PER_PIXEL and not whole:
            short = np.flatnonzero(~present)
            short = short if short.size else np.flatnonzero(sizes != npix)
            raise ValueError(
                f"stat field {key!r} must hold one value per pixel in every ROI or be absent "
                f"from all; it does not for ROIs {names(short)}"
            )
        attrs = describe(name.removeprefix(_PREFIX))
        if whole:
            if key in _PER_PIXEL:
                _check_flags(key, arrays)
            pixels[name] = xr.Variable("pixel", np.concatenate(arrays), attrs)
            continue
        elements = xr.Variable(f"{name}_element", np.concatenate(arrays), attrs)
        ragged[name] = np.repeat(np.flatnonzero(present), sizes), elements
        if not present.all():
            per_roi[f"{name}_present"] = _presence(key, present)
    return Fields(pixels, per_roi, ragged, known.get("radius"), known.get("med"))


def _check_flags(key: str, arrays: list[np.ndarray]) -> None:
    for i, flags in enumerate(arrays):
        if flags.dtype.kind not in "biuf" or not np.isin(flags, (0, 1)).all():
            raise ValueError(
                f"stat field {key!r} must be True or False of each pixel, and is not for ROI {i}; "
                "leave it out of stat and it is computed"
            )


def check_radius(fields: Fields, frame: tuple[int, int]) -> None:
    """Raise where a radius is larger than the frame: masks look that far around each pixel."""
    if fields.radius is None:
        return
    wrong = fields.radius.where & (fields.radius.values > sum(frame) + 10)
    if wrong.any():
        raise ValueError(
            f"radius is {fields.radius.values[wrong][0]:g} pixels for roi "
            f"{names(np.flatnonzero(wrong))}, more than the frame {frame}; leave it out of stat "
            "and it is computed"
        )


def _known(key: str, arrays: list[np.ndarray], present: np.ndarray) -> Known:
    """``med`` or ``radius`` of the ROIs that have it, checked."""
    shape = (2,) if key == "med" else ()
    if any(a.shape != shape or a.dtype.kind not in "biuf" for a in arrays):
        raise ValueError(f"stat field {key!r} must be {_MEANINGS[key]} in every ROI")
    column = np.zeros((present.size, *shape))
    column[present] = arrays
    wrong = present & ~(np.isfinite(column) & (column >= 0)) if key == "radius" else present[:0]
    if wrong.any():
        raise ValueError(
            f"radius must be finite and not negative, but is {column[wrong][0]} for roi "
            f"{names(np.flatnonzero(wrong))}; leave it out of stat and it is computed"
        )
    if key == "med":  # computed where it is no place
        present = present & np.isfinite(column).all(axis=1)
    return Known(present, column)


def _depth(key: str, arrays: list[np.ndarray]) -> int | None:
    """0 where a field is one value per ROI, 1 where it is a list; None, with a warning, else."""
    text = [a.dtype.kind in "US" for a in arrays]
    depths = {a.ndim for a in arrays}
    odd = any(a.dtype.kind not in "biufcUS" for a in arrays) or any(text) != all(text)
    if odd or depths not in ({0}, {1}):
        warn(
            f"stat field {key!r} is left out: it is not one kind of number, string or 1-D "
            "array of those in all ROIs"
        )
        return None
    return depths.pop()


def _presence(key: str, present: np.ndarray) -> xr.Variable:
    attrs = {
        "long_name": f"the ROI has {key}",
        "description": f"Whether the stat of the ROI had the field {key}.",
    }
    return xr.Variable("roi", present, attrs)


def stat_from_fields(rois: xr.Dataset, table: PixelTable) -> list[dict[str, Any]]:
    """Give every ROI its dict back; ``rois`` must be compact."""
    per_roi, pixels, ragged = {}, {}, {}
    for name, variable in rois.variables.items():
        key = str(name).removeprefix(_PREFIX)
        if name in (*TAKEN, "npix", "radius", *REQUIRED, "overlap"):
            continue
        if variable.dims == ("roi",):
            per_roi[key] = variable
        elif variable.dims == ("pixel",):
            pixels[key] = variable.values
        elif variable.dims == (f"{name}_element",) and f"{name}_roi" in rois.variables:
            ragged[key] = rois[f"{name}_roi"].values, variable.values
    _name_plane(per_roi, table.roi.size)
    ids = rois["roi_id"].values if "roi_id" in rois.variables else table.roi
    has = {key: per_roi.pop(f"{key}_present", None) for key in ragged}
    radius = rois["radius"].values
    med = np.stack([rois["med_y"].values, rois["med_x"].values], axis=1)
    whole = np.isfinite(med).all() and np.array_equal(med, med.astype(np.int64))
    stat = []
    for i in range(table.roi.size):
        own = slice(table.offsets[i], table.offsets[i + 1])
        entry: dict[str, Any] = {
            "ypix": table.ypix[own],
            "xpix": table.xpix[own],
            "lam": table.lam[own],
            "overlap": table.overlap[own],
            "npix": int(table.offsets[i + 1] - table.offsets[i]),
            "med": [int(m) if whole else float(m) for m in med[i]],
            "radius": radius[i],
        }
        for key, values in pixels.items():
            entry[key] = values[own]
        for key, (owner, values) in ragged.items():
            present = has[key]
            if present is None or present.values[i]:
                entry[key] = values[owner == ids[i]]
        for key, variable in per_roi.items():
            value = variable.values[i]
            if variable.attrs.get("absent"):
                if value == "" or value != value:
                    continue
                value = np.asarray(value).astype(variable.attrs["stat_dtype"])[()]
            entry[key] = value
        stat.append(entry)
    return stat


def _name_plane(per_roi: dict[str, xr.Variable], n_rois: int) -> None:
    """Call the plane as suite2p does, ``iplane``, but where the stat itself had a ``plane``."""
    plane = per_roi.get("plane")
    if plane is None or plane.attrs.get("description") == describe("plane")["description"]:
        return
    del per_roi["plane"]
    whole = plane.dtype.kind in "iuf" and np.array_equal(plane.values, plane.values.astype(int))
    # The plane is what counts here; an iplane beside it may be of another numbering.
    per_roi["iplane" if whole else "plane"] = plane.astype(int) if whole else plane


def describe(key: str) -> dict[str, str]:
    """Say what a field of ``stat`` is; units where they are known."""
    if key not in _FIELDS:
        return {
            "long_name": "suite2p stat field",
            "description": f"The field {key} of stat, as it was given.",
        }
    meaning, units = _FIELDS[key]
    described = {"long_name": meaning, "description": f"The field {key} of suite2p's stat."}
    return described if units is None else {**described, "units": units}


def _scalar_column(key: str, arrays: list[np.ndarray], present: np.ndarray) -> xr.Variable:
    """One value per ROI; where a ROI lacks the field NaN or an empty string stands for it."""
    stacked = np.stack(arrays)
    attrs = describe(key)
    if stacked.dtype.kind in "US":
        column = np.full(present.size, "", dtype=TEXT)
        column[present] = [str(value) for value in stacked.astype(str)]
    elif present.all():
        return xr.Variable("roi", stacked, attrs)
    else:
        column = np.full(present.size, np.nan, dtype=np.result_type(stacked.dtype, np.float64))
        column[present] = stacked
    if not present.all():
        attrs["stat_dtype"] = stacked.dtype.str if stacked.dtype.kind not in "US" else "str"
        attrs["absent"] = "NaN or an empty string stands for a field that the ROI did not have"
    return xr.Variable("roi", column, attrs)
