"""Fc: F corrected for the light of the neuropil."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, COEFFICIENT, check_each_roi, check_number
from xs2p._frames import SEGMENT
from xs2p.compute.arrays import array_module, as_array, to_host
from xs2p.compute.device import kernels_on
from xs2p.traces.blocks import ordered, with_data
from xs2p.traces.coefficient import check_method, estimate
from xs2p.traces.levels import levels_of, spread

WAYS = ("full", "centred")
ESTIMATED = (COEFFICIENT, "neuropil_coefficient_raw", "neuropil_flag")
_GIVEN = {
    "long_name": "neuropil coefficient",
    "units": "1",
    "description": "How much of Fneu is taken off F of the ROI, as it was given.",
}


class Neuropil(NamedTuple):
    """How ``Fc`` is made, checked."""

    coefficient: float | None
    """None where each ROI has its own."""
    way: str = "full"
    """``"full"``: ``F − r · Fneu``; ``"centred"``: ``F − d − r · (Fneu − its median)``."""
    dark: float = 0.0
    """The offset d, one for all ROIs."""
    darks: np.ndarray | None = None
    """Of each ROI, float64, where they have their own."""
    each: xr.DataArray | None = None
    """Coefficients over the dims of the traces but time, lazy or not, without coordinates."""
    method: str | None = None
    """How those are to be estimated where they are not known yet."""
    fs: float | None = None
    """Hz, where the method needs it."""
    stays: bool = False
    """Whether the coefficients are those that the Dataset has already."""

    @property
    def own(self) -> bool:
        """Whether each ROI has its own coefficient."""
        return self.coefficient is None

    def of_rois(self, positions: np.ndarray) -> Neuropil:
        """Keep what is said of some ROIs."""
        darks = None if self.darks is None else self.darks[positions]
        each = None if self.each is None else self.each.isel(roi=positions)
        return self._replace(darks=darks, each=each)

    @property
    def attrs(self) -> dict[str, Any]:
        """What the result says of it, but for what it says by saying nothing."""
        said: dict[str, Any] = {}
        if self.coefficient is not None:
            said[COEFFICIENT] = float(self.coefficient)
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
    way = "centred" if way == "centered" else way
    if way not in WAYS:
        raise ValueError(
            f"unknown neuropil {way!r}; choose one of {', '.join(WAYS)} "
            "(neuropil_extract says whether there is any)"
        )
    darks = None
    if isinstance(dark_offset, xr.DataArray) and dark_offset.ndim:
        darks = _checked_each("dark_offset", dark_offset, rois)
    else:
        check_number("dark_offset", _one(dark_offset), unit="the units of F")
    dark = 0.0 if darks is not None else float(_one(dark_offset))
    if way == "full" and (darks is not None or dark):
        shown = "dark_offset" if darks is not None else f"dark_offset={dark:g}"
        raise ValueError(
            f'{shown} plays no part with neuropil="full"; give neuropil="centred", or leave it out'
        )
    how = Neuropil(None, way, dark, darks)
    if isinstance(coefficient, str):
        check_method(COEFFICIENT, coefficient)
        return how._replace(method=coefficient)
    if isinstance(coefficient, xr.DataArray) and coefficient.ndim:
        values = _checked_each(COEFFICIENT, coefficient, rois)
        method = coefficient.attrs.get("method")
        each = xr.DataArray(values, dims="roi", attrs={} if method is None else {"method": method})
        return how._replace(each=each)
    check_number(COEFFICIENT, _one(coefficient))
    return how._replace(coefficient=float(_one(coefficient)))


def _one(value: Any) -> Any:
    return (
        value.item() if isinstance(value, xr.DataArray | np.ndarray) and not value.ndim else value
    )


def _checked_each(name: str, given: xr.DataArray, rois: xr.DataArray) -> np.ndarray:
    check_each_roi(name, given, rois, "the ROIs", "rois")
    values = np.asarray(to_host(given.compute().data), dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError(f"every {name} must be a finite number")
    return values


def with_corrected(
    ds: xr.Dataset, how: Neuropil, device: str = "cpu", in_passes: bool = False
) -> xr.Dataset:
    """Add ``Fc``, and the coefficients where each ROI has its own.

    Those that were given are a coordinate, as other labels of ROIs; those that are estimated here
    are variables: coordinates would be computed with whatever is.
    """
    made: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    if not how.stays:
        ds = ds.drop_vars(ESTIMATED, errors="ignore")
    if how.method is not None and "Fneu" in ds:
        found = estimate(ds["F"], ds["Fneu"], how.method, how.fs, device, in_passes)
        made = {str(array.name): array.variable for array in found}
        how = how._replace(each=found.used, method=None)
    elif how.each is not None and not how.stays and "Fneu" in ds:
        labels[COEFFICIENT] = ("roi", how.each.values, {**_GIVEN, **how.each.attrs})
    Fc = correct(ds, how, device, in_passes)
    return ds.assign_coords(labels).assign(Fc=Fc, **made)


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
        attrs.pop(COEFFICIENT, None)
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
    corrected = F - _factor(ds, how, device, in_passes) * Fneu
    corrected.attrs = attrs
    return corrected.transpose(*ds["F"].dims)


def _factor(ds: xr.Dataset, how: Neuropil, device: str, in_passes: bool) -> Any:
    """Give what Fneu is multiplied with, float32: a number, or one of each trace and frame."""
    if how.coefficient is not None:
        return np.float32(how.coefficient)
    each, like = how.each, ordered(ds["Fneu"]).drop_vars(SEGMENT, errors="ignore")
    if each is None:
        assert how.method is not None
        each = estimate(ds["F"], ds["Fneu"], how.method, how.fs, device, in_passes).used
    data = each.data
    if not hasattr(data, "dask"):
        data = as_array(array_module(like.data), data)
    if data.ndim < like.ndim - 1:  # one for all channels
        data = array_module(data).broadcast_to(data, like.shape[:-1])
    return spread(data[..., None], like)


def _above_dark(F: xr.DataArray, how: Neuropil) -> xr.DataArray:
    """Take the dark offset off, and say that of each ROI."""
    if how.darks is None:
        return F - np.float32(how.dark) if how.dark else F
    attrs = {
        "long_name": "dark offset",
        "units": F.attrs.get("units", ARBITRARY),
        "description": "What was taken off F of the ROI before all, as it was given.",
    }
    offset = xr.DataArray(_beside(F, how.darks.astype(np.float32)), dims="roi")
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
    ds: xr.Dataset, coefficient: float | xr.DataArray, device: str, in_passes: bool = False
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
    if isinstance(coefficient, xr.DataArray) and coefficient.chunks is None:
        coefficient = coefficient.copy(data=_beside(neuropil, coefficient.data))
    return coefficient * neuropil / light.where(light > 0)


def _beside(F: xr.DataArray, known: Any) -> Any:
    """Numbers in memory as an array that arithmetic with those of traces takes, CuPy's too."""
    here = as_array(array_module(F.data), known)
    if F.chunks is None:
        return here
    import dask.array as da

    return da.from_array(here, -1, asarray=False)  # else Dask takes CuPy's for numpy's
