"""Traces with dF/F, its noise and its flags, made by hand: what the steps give, and no step."""

from __future__ import annotations

import numpy as np
import xarray as xr

FLAGS = {
    "long_name": "what is wrong with dF/F",
    "description": "Why the dF/F of an ROI is not to be trusted; 0 where nothing speaks against.",
    "flag_masks": [1, 2, 4, 8],
    "flag_meanings": "F0_not_positive F0_below_noise neuropil_above_90_percent dFF_above_10",
}
NOISE = {
    "long_name": "noise of the trace",
    "units": "1",
    "description": "1.4826 times the median distance of Fc to its running median.",
    "xs2p_version": "1.0",
}


def with_dff(ds: xr.Dataset, flags: list[int] | np.ndarray, **more) -> xr.Dataset:
    """Add ``dFF``, ``noise`` and ``dff_flag``; ``more`` are attributes of ``dFF``."""
    dFF = ((ds.Fc - ds.F0) / ds.F0).astype("f4")
    if "valid" in ds.coords:
        dFF = dFF.where(ds.valid)
    dFF.attrs = {
        "fs": ds.F0.attrs.get("fs", 10.0),
        "units": "1",
        "long_name": "dF/F",
        "description": "(Fc − F0) / F0, NaN in frames that do not count.",
        "xs2p_version": "1.0",
        **more,
    }
    whole = ds.Fc if ds.Fc.chunks is None else ds.Fc.chunk(time=-1)
    noise = (1.4826 * abs(whole - whole.median("time")).median("time")).astype("f4")
    noise = noise.reset_coords(drop=True).assign_attrs(NOISE)
    flags = xr.Variable("roi", np.asarray(flags, "u1"), FLAGS)
    return ds.assign(dFF=dFF, noise=noise, dff_flag=flags)
