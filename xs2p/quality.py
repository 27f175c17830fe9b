"""How good a trace is: signal to noise, skewness, standard deviation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import xarray as xr

from xs2p._attrs import attributes
from xs2p._traces import check_traces, map_traces


def snr(F: xr.DataArray) -> xr.DataArray:
    """Signal to noise of every trace: ``1 − 0.5 · var(diff(F)) / var(F)``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask ``time``
        must be one chunk.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit: near 1 for a slow signal, 0 for white noise; NaN
        for a trace that is constant, holds NaN, or has fewer than two frames.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces, or ``time`` is chunked.

    Examples
    --------
    >>> F = xr.DataArray([[0.0, 1.0, 2.0, 3.0]], dims=("roi", "time"))
    >>> snr(F).values.tolist()
    [1.0]
    """
    return _per_trace(F, _snr_block, "snr", "signal to noise", "1")


def skew(F: xr.DataArray) -> xr.DataArray:
    """Skewness of every trace, biased, as ``scipy.stats.skew`` and suite2p's ``stat["skew"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask ``time``
        must be one chunk.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit; NaN for a trace that is constant or holds NaN.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces, or ``time`` is chunked.
    """
    return _per_trace(F, _skew_block, "skew", "skewness", "1")


def std(F: xr.DataArray) -> xr.DataArray:
    """Compute the standard deviation of every trace over time, as suite2p's ``stat["std"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask ``time``
        must be one chunk.

    Returns
    -------
    DataArray
        Float64 over the other dims, in the units of ``F``; NaN for a trace that holds NaN.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces, or ``time`` is chunked.
    """
    return _per_trace(F, _std_block, "std", "standard deviation", None)


def _per_trace(
    F: xr.DataArray,
    block: Callable[[np.ndarray], np.ndarray],
    name: str,
    long_name: str,
    units: str | None,
) -> xr.DataArray:
    check_traces(F, name)
    units = F.attrs.get("units", "a.u.") if units is None else units
    result = map_traces(block, F, dtype=np.float64, reduce=True)
    result.attrs = {"long_name": f"{long_name} of the trace", "units": units, **attributes()}
    return result.rename(name)


def _snr_block(F: np.ndarray) -> np.ndarray:
    F = F.astype(np.float64)
    if F.shape[-1] < 2:
        return np.full(F.shape[:-1], np.nan)
    noise = np.diff(F, axis=-1).var(axis=-1)
    return np.asarray(1 - 0.5 * noise / _variance(F.var(axis=-1), F.mean(axis=-1)))


def _skew_block(F: np.ndarray) -> np.ndarray:
    F = F.astype(np.float64)
    mean = F.mean(axis=-1)
    F -= mean[..., None]
    return np.asarray((F**3).mean(axis=-1) / _variance((F**2).mean(axis=-1), mean) ** 1.5)


def _std_block(F: np.ndarray) -> np.ndarray:
    return np.asarray(F.astype(np.float64).std(axis=-1))


def _variance(variance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """NaN for a variance that is nothing but the rounding of a constant trace's mean."""
    rounding = (np.finfo(np.float64).resolution * mean) ** 2
    return np.where(variance > rounding, variance, np.nan)
