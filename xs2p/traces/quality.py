"""How good a trace is: signal to noise, skewness, standard deviation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import attributes
from xs2p.compute.arrays import array_module
from xs2p.traces.blocks import check_traces, reduce_traces

SNR = "suite2p SNR, 1 − ½ var(diff)/var"  # what it is called wherever it is shown


def snr(F: xr.DataArray) -> xr.DataArray:
    """suite2p's SNR of every trace: ``1 − ½ var(diff(F)) / var(F)``, 0 to 1.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit: near 1 for a slow signal, 0 for white noise (and
        below for what is faster); it is no ratio of amplitudes, and others' SNR are not to be
        compared with it. NaN for a trace that is constant, holds NaN, or has fewer than two frames.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces.

    Examples
    --------
    >>> F = xr.DataArray([[0.0, 1.0, 2.0, 3.0]], dims=("roi", "time"))
    >>> snr(F).values.tolist()
    [1.0]
    """
    return _per_trace(F, _snr_of, "snr", SNR, "1", "; 0 is white noise, 1 the most")


def skew(F: xr.DataArray) -> xr.DataArray:
    """Skewness of every trace, biased, as ``scipy.stats.skew`` and suite2p's ``stat["skew"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit; NaN for a trace that is constant or holds NaN.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces.
    """
    return _per_trace(F, _skew_of, "skew", "skewness of the trace", "1")


def std(F: xr.DataArray) -> xr.DataArray:
    """Compute the standard deviation of every trace over time, as suite2p's ``stat["std"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks.

    Returns
    -------
    DataArray
        Float64 over the other dims, in the units of ``F``; NaN for a trace that holds NaN.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces.
    """
    return _per_trace(F, _std_of, "std", "standard deviation of the trace", None)


def _per_trace(
    F: xr.DataArray,
    finish: Callable[[np.ndarray], np.ndarray],
    name: str,
    long_name: str,
    units: str | None,
    more: str = "",
) -> xr.DataArray:
    check_traces(F, name)
    units = F.attrs.get("units", "a.u.") if units is None else units
    result = reduce_traces(F, _moments, _merge, finish, _SIZE)
    result.attrs = {
        "long_name": long_name,
        "units": units,
        "description": f"Of the whole trace of the ROI, by xs2p.{name}{more}.",
        **attributes(neuropil_coefficient=F.attrs.get("neuropil_coefficient")),
    }
    return result.rename(name)


def is_of(statistic: xr.DataArray, F: xr.DataArray) -> bool:
    """Whether a statistic that was kept is of these traces, as far as it says what it is of."""
    said = statistic.attrs.get("neuropil_coefficient")
    return said is None or said == F.attrs.get("neuropil_coefficient")


# The state of a trace, or of a part of it, that parts next to each other merge to: moments of
# the samples, moments of the steps from each to the next, the samples at the two ends. Sums are
# of powers of the distance to the mean, so that nothing cancels.
_N, _MEAN, _SQUARES, _CUBES, _STEPS, _STEP_MEAN, _STEP_SQUARES, _FIRST, _LAST = range(9)
_SIZE = 9
_SAMPLES = 2**17  # that are worked on at once: they stay in the processor's cache
_GPU_SAMPLES = 2**26


def _moments(F: np.ndarray) -> np.ndarray:
    """States ``(…, 9)`` of traces ``(…, time)`` of at least one frame."""
    n_frames, xp = F.shape[-1], array_module(F)
    state = xp.empty((*F.shape[:-1], _SIZE))
    traces, states = F.reshape(-1, n_frames), state.reshape(-1, _SIZE)
    step = max((_SAMPLES if xp is np else _GPU_SAMPLES) // n_frames, 1)
    for start in range(0, len(traces), step):
        some = slice(start, start + step)
        samples, now = traces[some].astype(np.float64), states[some]
        now[:, _FIRST], now[:, _LAST] = samples[:, 0], samples[:, -1]
        steps = np.diff(samples, axis=1)
        now[:, _N], now[:, _STEPS] = n_frames, n_frames - 1
        now[:, _MEAN] = samples.mean(axis=1)
        samples -= now[:, _MEAN, None]
        now[:, _SQUARES] = np.einsum("it,it->i", samples, samples)
        now[:, _CUBES] = np.einsum("it,it,it->i", samples, samples, samples)
        now[:, _STEP_MEAN] = steps.sum(axis=1) / max(n_frames - 1, 1)
        steps -= now[:, _STEP_MEAN, None]
        now[:, _STEP_SQUARES] = np.einsum("it,it->i", steps, steps)
    return state


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """State of two parts, ``b`` after ``a`` (Pébay 2008, doi:10.2172/1028931)."""
    merged = np.empty_like(a)
    merged[..., _FIRST], merged[..., _LAST] = a[..., _FIRST], b[..., _LAST]
    n_a, n_b, n = a[..., _N], b[..., _N], a[..., _N] + b[..., _N]
    apart = b[..., _MEAN] - a[..., _MEAN]
    merged[..., _N] = n
    merged[..., _MEAN] = a[..., _MEAN] + apart * n_b / n
    merged[..., _SQUARES] = a[..., _SQUARES] + b[..., _SQUARES] + apart**2 * n_a * n_b / n
    merged[..., _CUBES] = (
        a[..., _CUBES]
        + b[..., _CUBES]
        + apart**3 * n_a * n_b * (n_a - n_b) / n**2
        + 3 * apart * (n_a * b[..., _SQUARES] - n_b * a[..., _SQUARES]) / n
    )
    # The steps of both, and the one from the end of a to the start of b.
    count, mean, squares = a[..., _STEPS], a[..., _STEP_MEAN], a[..., _STEP_SQUARES]
    between = b[..., _FIRST] - a[..., _LAST]
    for more, its_mean, its_squares in (
        (1.0, between, 0.0),
        (b[..., _STEPS], b[..., _STEP_MEAN], b[..., _STEP_SQUARES]),
    ):
        apart = its_mean - mean
        squares = squares + its_squares + apart**2 * count * more / (count + more)
        mean = mean + apart * more / (count + more)
        count = count + more
    merged[..., _STEPS], merged[..., _STEP_MEAN], merged[..., _STEP_SQUARES] = count, mean, squares
    return merged


def _snr_of(state: np.ndarray) -> np.ndarray:
    steps = np.where(state[..., _STEPS] > 0, state[..., _STEPS], np.nan)
    variance = _variance(state[..., _SQUARES] / state[..., _N], state[..., _MEAN])
    return _array(1 - 0.5 * (state[..., _STEP_SQUARES] / steps) / variance)


def _skew_of(state: np.ndarray) -> np.ndarray:
    n = state[..., _N]
    variance = _variance(state[..., _SQUARES] / n, state[..., _MEAN])
    return _array(state[..., _CUBES] / n / variance**1.5)


def _std_of(state: np.ndarray) -> np.ndarray:
    return _array(np.sqrt(state[..., _SQUARES] / state[..., _N]))


def _array(values: Any) -> Any:
    """Keep what numpy would turn into a number an array."""
    return array_module(values).asarray(values)


def _variance(variance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """NaN for a variance that is nothing but the rounding of a constant trace's mean."""
    rounding = (np.finfo(np.float64).resolution * mean) ** 2
    return np.where(variance > rounding, variance, np.nan)
