"""Fc = F − c · Fneu."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xs2p.traces.blocks import with_data


def correct(ds: xr.Dataset, coefficient: float) -> xr.DataArray:
    """Fc = F − coefficient · Fneu."""
    attrs = {
        **ds["F"].attrs,
        "long_name": "fluorescence corrected for neuropil",
        "description": "F less neuropil_coefficient times Fneu, by xs2p.extract.",
    }
    if "Fneu" not in ds:
        as_it_is = "F as it is, since no neuropil was extracted, by xs2p.extract."
        return with_data(ds["F"], ds["F"].data).assign_attrs(attrs, description=as_it_is)
    corrected = ds["F"] - np.float32(coefficient) * ds["Fneu"]
    corrected.attrs = {**attrs, "neuropil_coefficient": float(coefficient)}
    return corrected
