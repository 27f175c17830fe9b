"""Bleaching: what a trace is divided by before its baseline is found."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import xarray as xr

from xs2p.compute.arrays import array_module
from xs2p.traces.bleaching import PARAMETERS, fit_double_exponential, trend
from xs2p.traces.levels import levels_of, spread

DETREND = ("exponential",)
_LEAST = 0.05  # of the first frame: what is left of the light, at the lowest


def trend_of(
    F: xr.DataArray, fs: float, polarity: int, *, device: str, in_passes: bool
) -> xr.DataArray:
    """Bleaching of checked traces relative to the first frame of each segment: float32, 0.05 to 1.

    It is of the light itself, above 0, whichever way activity goes; ``polarity`` says where events
    lie, and -1 that the sign of the light may have been turned before.
    """
    fits = levels_of(
        _fit_block,
        F,
        size=PARAMETERS,
        dtype=np.float64,
        whole=device != "cpu",
        in_passes=in_passes,
        fs=fs,
        polarity=polarity,
        device=device,
    )
    return spread(fits, F, functools.partial(_relative, fs=fs), PARAMETERS)


def _fit_block(F: Any, fs: float, polarity: int, device: str) -> Any:
    """Parameters of a block of traces ``(…, time)`` of one segment."""
    if device == "cpu":
        return _fit(F, fs, polarity)
    from xs2p.compute.gpu_traces import BATCH_BYTES, of_host_too

    return of_host_too(_fit, at_once=BATCH_BYTES)(F, fs, polarity)


def _fit(F: Any, fs: float, polarity: int) -> Any:
    if polarity == 1:
        return fit_double_exponential(F, fs)
    xp = array_module(F)
    sign = xp.where(xp.nansum(F, axis=-1, dtype=np.float64) < 0, -1.0, 1.0)[..., None]
    return fit_double_exponential(F * sign.astype(np.float32), fs, events=-sign)


def _relative(parameters: Any, frames: np.ndarray, fs: float) -> Any:
    """Trend over that of the first frame, 1 where a trace has none."""
    xp = array_module(parameters)
    first = trend(parameters, np.zeros(1), fs).astype(np.float64)
    has_one = first > 0
    shape = trend(parameters, frames, fs) / xp.where(has_one, first, 1.0)
    return xp.where(has_one, xp.clip(shape, _LEAST, 1.0), 1.0)
