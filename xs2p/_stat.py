"""How the fields of suite2p's ``stat`` dicts map to variables of an ROI set, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn

if TYPE_CHECKING:
    from xs2p._table import PixelTable

REQUIRED = ("ypix", "xpix", "lam")
# Computed from the pixels again, or spelled otherwise in an ROI set.
_DERIVED = (*REQUIRED, "npix")
# Names that an ROI set uses for something else: a stat field of such a name is prefixed.
_TAKEN = ("roi", "pixel", "pixel_roi", "status", "frac_overlap", "med_y", "med_x", "time", "y", "x")
_PREFIX = "stat_"


def stat_fields(entries: Sequence[Mapping[str, Any]], npix: np.ndarray) -> dict[str, Any]:
    """Sort every field that is not a pixel position or weight by the shape it has.

    Returns ``pixels`` (arrays over pixel), ``per_roi`` (arrays or coordinate tuples over roi)
    and ``ragged`` (owner and values of 1-D arrays of other lengths).
    """
    pixels: dict[str, np.ndarray] = {}
    per_roi: dict[str, Any] = {}
    ragged: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    keys = dict.fromkeys(key for entry in entries for key in entry if key not in _DERIVED)
    for key in keys:
        values = [entry.get(key) for entry in entries]
        present = np.array([value is not None for value in values], dtype=bool)
        arrays = [np.asarray(value) for value in values if value is not None]
        name = _PREFIX + key if key in _TAKEN else key
        if not arrays or any(a.dtype.kind not in "biufcUS" or a.ndim > 1 for a in arrays):
            warn(f"stat field {key!r} is left out: it is no number, string or 1-D array of those")
            continue
        if key == "med" and present.all() and all(a.shape == (2,) for a in arrays):
            per_roi["med"] = np.stack(arrays)
        elif key in ("overlap", "soma_crop") or all(a.ndim == 1 for a in arrays):
            sizes = np.array([a.size for a in arrays])
            whole = present.all() and np.array_equal(sizes, npix)
            if key in ("overlap", "soma_crop") and not whole:
                short = np.flatnonzero(~present)
                short = short if short.size else np.flatnonzero(sizes != npix)
                if key == "overlap" and not present.any():
                    continue
                raise ValueError(
                    f"stat field {key!r} must hold one value per pixel in every ROI or be absent "
                    f"from all; it does not for ROIs {names(short)}"
                )
            if whole:
                pixels[name] = np.concatenate(arrays)
            else:
                owner = np.repeat(np.flatnonzero(present), sizes)
                ragged[name] = owner, np.concatenate(arrays)
        elif all(a.ndim == 0 for a in arrays):
            column = _scalar_column(arrays, present)
            if key == "radius":
                if present.all():
                    per_roi["radius"] = np.asarray(column[1], dtype=np.float64)
            else:
                per_roi[name] = column
        else:
            warn(f"stat field {key!r} is left out: it is a scalar in some ROIs, an array in others")
    return {"pixels": pixels, "per_roi": per_roi, "ragged": ragged}


def stat_from_fields(rois: xr.Dataset, table: PixelTable) -> list[dict[str, Any]]:
    """Give every ROI its dict back; ``rois`` must be compact."""
    per_roi, pixels, ragged = {}, {}, {}
    for name, variable in rois.variables.items():
        key = str(name).removeprefix(_PREFIX)
        if name in (*_TAKEN, "npix", "radius", *REQUIRED, "overlap"):
            continue
        if variable.dims == ("roi",):
            per_roi[key] = variable
        elif variable.dims == ("pixel",):
            pixels[key] = variable.values
        elif variable.dims == (f"{name}_element",) and f"{name}_roi" in rois.variables:
            ragged[key] = rois[f"{name}_roi"].values, variable.values
    for key in ragged:
        per_roi.pop(f"{key}_roi", None)
    radius = rois["radius"].values
    med = np.stack([rois["med_y"].values, rois["med_x"].values], axis=1)
    whole = np.isfinite(med).all() and np.array_equal(med, med.astype(np.int64))
    stat = []
    for i, label in enumerate(table.roi):
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
            entry[key] = values[owner == label]
        for key, variable in per_roi.items():
            value = variable.values[i]
            if variable.attrs.get("absent") and (value == "" or value != value):
                continue
            entry[key] = value
        stat.append(entry)
    return stat


def _scalar_column(arrays: list[np.ndarray], present: np.ndarray) -> tuple[str, np.ndarray, dict]:
    """One value per ROI; where a ROI lacks the field NaN or an empty string stands for it."""
    stacked = np.stack(arrays)
    attrs = {"long_name": "suite2p stat field"}
    if stacked.dtype.kind in "US":
        column = np.full(present.size, "", dtype=object)
        column[present] = [str(value) for value in stacked.astype(str)]
    elif present.all():
        return "roi", stacked, attrs
    else:
        dtype = np.result_type(stacked.dtype, np.float32)
        column = np.full(present.size, np.nan, dtype=dtype)
        column[present] = stacked
    if not present.all():
        attrs["absent"] = "NaN or an empty string stands for a field that the ROI did not have"
    return "roi", column, attrs
