"""Fc: F corrected for the light of the neuropil."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_number
from xs2p._frames import SEGMENT
from xs2p.compute.device import kernels_on
from xs2p.traces.blocks import ordered, with_data
from xs2p.traces.levels import levels_of, spread

WAYS = ("full", "centred")


class Neuropil(NamedTuple):
    """How ``Fc`` is made, checked."""

    coefficient: float
    way: str = "full"
    """``"full"``: ``F − r · Fneu``; ``"centred"``: ``F − d − r · (Fneu − its median)``."""
    dark: float = 0.0
    """The offset d, one for all ROIs."""
    darks: np.ndarray | None = None
    """Of each ROI, float64, where they have their own."""

    def of_rois(self, positions: np.ndarray) -> Neuropil:
        """Keep what is said of some ROIs."""
        return self if self.darks is None else self._replace(darks=self.darks[positions])

    @property
    def attrs(self) -> dict[str, Any]:
        """What the result says of it, but for what it says by saying nothing."""
        said: dict[str, Any] = {"neuropil_coefficient": float(self.coefficient)}
        if self.way != "full":
            said["neuropil"] = self.way
            if self.darks is None and self.dark:
                said["dark_offset"] = self.dark
        return said


def check_neuropil(coefficient: Any, way: Any, dark_offset: Any, rois: xr.DataArray) -> Neuropil:
    """Check how ``Fc`` is to be made; ``rois`` has the ROIs that there are.

    Raises
    ------
    ValueError
        If any of it is out of range, or plays no part.
    """
    check_number("neuropil_coefficient", coefficient)
    way = "centred" if way == "centered" else way
    if way not in WAYS:
        raise ValueError(
            f"unknown neuropil {way!r}; choose one of {', '.join(WAYS)} "
            "(neuropil_extract says whether there is any)"
        )
    darks = None
    if isinstance(dark_offset, xr.DataArray) and dark_offset.ndim:
        darks = _checked_darks(dark_offset, rois)
    else:
        check_number("dark_offset", _one(dark_offset), unit="the units of F")
    dark = 0.0 if darks is not None else float(_one(dark_offset))
    if way == "full" and (darks is not None or dark):
        shown = "dark_offset" if darks is not None else f"dark_offset={dark:g}"
        raise ValueError(
            f'{shown} plays no part with neuropil="full"; give neuropil="centred", or leave it out'
        )
    return Neuropil(float(coefficient), way, dark, darks)


def _one(value: Any) -> Any:
    return (
        value.item() if isinstance(value, xr.DataArray | np.ndarray) and not value.ndim else value
    )


def _checked_darks(given: xr.DataArray, rois: xr.DataArray) -> np.ndarray:
    n_rois = rois.sizes["roi"]
    if given.dims != ("roi",) or given.sizes["roi"] != n_rois:
        raise ValueError(
            f"dark_offset must be a number or have one value per roi ({n_rois}); it has sizes "
            f"{dict(given.sizes)}"
        )
    if {"roi"} <= set(given.indexes) & set(rois.indexes) and not given.indexes["roi"].equals(
        rois.indexes["roi"]
    ):
        raise ValueError(
            "the roi labels of dark_offset are not those of the ROIs; "
            "dark_offset.reindex_like(rois.roi) or dark_offset.drop_vars('roi') says what is meant"
        )
    values = np.asarray(given.values, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("every dark_offset must be a finite number")
    return values


def correct(
    ds: xr.Dataset, how: Neuropil, device: str = "cpu", in_passes: bool = False
) -> xr.DataArray:
    """``Fc`` of ``F`` and ``Fneu``; of ``F`` alone where there is no neuropil."""
    centred = how.way == "centred"
    attrs = {
        **ds["F"].attrs,
        "long_name": "fluorescence corrected for neuropil",
        "description": "F less neuropil_coefficient times Fneu, by xs2p.extract.",
        **how.attrs,
    }
    F = _above_dark(ds["F"], how) if centred else ds["F"]
    if "Fneu" not in ds:
        del attrs["neuropil_coefficient"]
        less = " less dark_offset" if centred and (how.dark or how.darks is not None) else ""
        as_it_is = f"F{less or ' as it is'}, since no neuropil was extracted, by xs2p.extract."
        return with_data(F, F.data).assign_attrs(attrs, description=as_it_is)
    Fneu = ds["Fneu"]
    if centred:
        Fneu = Fneu - spread(medians(Fneu, device, in_passes=in_passes), Fneu)
        attrs["description"] = (
            "F less dark_offset and neuropil_coefficient times what Fneu is above its median of "
            "the segment, by xs2p.extract."
        )
    corrected = F - np.float32(how.coefficient) * Fneu
    corrected.attrs = attrs
    return corrected.transpose(*ds["F"].dims)


def _above_dark(F: xr.DataArray, how: Neuropil) -> xr.DataArray:
    """Take the dark offset off, and say that of each ROI."""
    if how.darks is None:
        return F - np.float32(how.dark) if how.dark else F
    attrs = {
        "long_name": "dark offset",
        "units": F.attrs.get("units", "a.u."),
        "description": "What was taken off F of the ROI before all, as it was given.",
    }
    offset = xr.DataArray(how.darks.astype(np.float32), dims="roi")
    return (F - offset).assign_coords(dark_offset=("roi", how.darks, attrs))


def medians(
    F: xr.DataArray, device: str, *, by_segment: bool = True, in_passes: bool = False
) -> Any:
    """Median of each trace over the frames that count, ``(…, segments)``, or ``(…, 1)``."""
    F = ordered(F)
    if not by_segment:
        F = F.drop_vars(SEGMENT, errors="ignore")
    options: dict[str, Any] = {"whole": device != "cpu", "in_passes": in_passes}
    return levels_of(_median_block, F, device=device, **options)


def _median_block(F: Any, device: str) -> Any:
    return kernels_on(device, "xs2p.traces.rolling").median(F)


def neuropil_ratio(
    ds: xr.Dataset, coefficient: float, device: str, in_passes: bool = False
) -> xr.DataArray:
    """Share of the light that is the neuropil's, ``r · median Fneu / median F``: ``(roi,)``.

    NaN where F is not above 0.
    """
    neuropil, light = (
        xr.DataArray(
            medians(ds[name], device, by_segment=False, in_passes=in_passes)[..., 0],
            dims=ordered(ds[name]).dims[:-1],
        )
        for name in ("Fneu", "F")
    )
    return coefficient * neuropil / light.where(light > 0)
