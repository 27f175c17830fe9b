"""How good a trace is: signal to noise, skewness, standard deviation."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, attributes, check_flag
from xs2p.compute.arrays import array_module
from xs2p.traces.blocks import check_traces
from xs2p.traces.reductions import each_segment, reduce_traces

SNR = "suite2p SNR, 1 − ½ var(diff)/var"  # what it is called wherever it is shown


def snr(F: xr.DataArray, *, by_segment: bool = False) -> xr.DataArray:
    """suite2p's SNR of every trace: ``1 − ½ var(diff(F)) / var(F)``, 0 to 1.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks. Frames that are not ``valid``, or NaN, are passed over.
    by_segment
        One for each segment, ``(segment, roi)``, in place of one of the whole recording.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit: near 1 for a slow signal, 0 for white noise (and
        below for what is faster); it is no ratio of amplitudes, and others' SNR are not to be
        compared with it. Steps are from one frame that counts to the next, within a segment. NaN
        for a trace that is constant, or in which fewer than two frames count.

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
    return _per_trace(F, by_segment, _snr_of, "snr", SNR, "1", "; 0 is white noise, 1 the most")


def skew(F: xr.DataArray, *, by_segment: bool = False) -> xr.DataArray:
    """Skewness of every trace, biased, as ``scipy.stats.skew`` and suite2p's ``stat["skew"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks. Frames that are not ``valid``, or NaN, are passed over.
    by_segment
        One for each segment, ``(segment, roi)``, in place of one of the whole recording.

    Returns
    -------
    DataArray
        Float64 over the other dims, no unit; NaN for a trace that is constant or in which no frame
        counts.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces.
    """
    return _per_trace(F, by_segment, _skew_of, "skew", "skewness of the trace", "1")


def std(F: xr.DataArray, *, by_segment: bool = False) -> xr.DataArray:
    """Compute the standard deviation of every trace over time, as suite2p's ``stat["std"]``.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, neuropil-corrected; over Dask in any
        chunks. Frames that are not ``valid``, or NaN, are passed over.
    by_segment
        One for each segment, ``(segment, roi)``, in place of one of the whole recording.

    Returns
    -------
    DataArray
        Float64 over the other dims, in the units of ``F``; NaN where no frame counts.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces.
    """
    return _per_trace(F, by_segment, _std_of, "std", "standard deviation of the trace", None)


def _per_trace(
    F: xr.DataArray,
    by_segment: bool,
    finish: Callable[[np.ndarray], np.ndarray],
    name: str,
    long_name: str,
    units: str | None,
    more: str = "",
) -> xr.DataArray:
    check_traces(F, name)
    check_flag("by_segment", by_segment)
    units = F.attrs.get("units", ARBITRARY) if units is None else units

    def of(traces: xr.DataArray) -> xr.DataArray:
        return reduce_traces(traces, _moments, _merge, finish, _SIZE)

    result = each_segment(of, F) if by_segment else of(F)
    whole = " in each segment" if by_segment else ""
    result.attrs = {
        "long_name": long_name,
        "units": units,
        "description": f"Of the trace of the ROI{whole}, by xs2p.{name}{more}.",
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
_GPU_SAMPLES = 2**25


def _moments(F: np.ndarray, begins: np.ndarray | None = None) -> np.ndarray:
    """States ``(…, 9)`` of traces ``(…, time)`` of at least one frame, NaN where it does not count.

    No step goes to a frame with which a segment ``begins``.
    """
    starts = [] if begins is None else np.flatnonzero(begins).tolist()
    edges = [0, *(start for start in starts if start > 0), F.shape[-1]]
    state = None
    for a, b in itertools.pairwise(edges):
        part = _moments_of(F[..., a:b])
        if a in starts:
            part[..., _FIRST] = np.nan
        state = part if state is None else _merge(state, part)
    assert state is not None
    return state


def _moments_of(F: np.ndarray) -> np.ndarray:
    """States of traces of one segment."""
    n_frames, xp = F.shape[-1], array_module(F)
    state = xp.empty((*F.shape[:-1], _SIZE))
    traces, states = F.reshape(-1, n_frames), state.reshape(-1, _SIZE)
    step = max((_SAMPLES if xp is np else _GPU_SAMPLES) // n_frames, 1)
    for start in range(0, len(traces), step):
        some = slice(start, start + step)
        samples, now = xp.array(traces[some], np.float64, order="C"), states[some]
        now[:, _FIRST], now[:, _LAST] = samples[:, 0], samples[:, -1]
        steps = np.diff(samples, axis=1)
        now[:, _N], now[:, _STEPS] = n_frames, n_frames - 1
        now[:, _MEAN] = samples.mean(axis=1)
        now[:, _STEP_MEAN] = steps.sum(axis=1) / max(n_frames - 1, 1)
        holed = bool(xp.isnan(now[:, _MEAN]).any())
        if holed:
            now[:, _N], now[:, _MEAN] = _mean_of_known(samples)
            now[:, _STEPS], now[:, _STEP_MEAN] = _mean_of_known(steps)
        samples -= now[:, _MEAN, None]
        steps -= now[:, _STEP_MEAN, None]
        if holed:
            samples[xp.isnan(samples)], steps[xp.isnan(steps)] = 0, 0
        # Not by einsum: CuPy makes of it a matrix product for each trace.
        powers = samples * samples
        now[:, _SQUARES] = powers.sum(axis=1)
        powers *= samples
        now[:, _CUBES] = powers.sum(axis=1)
        steps *= steps
        now[:, _STEP_SQUARES] = steps.sum(axis=1)
    return state


def _mean_of_known(samples: Any) -> tuple[Any, Any]:
    """How many samples of each trace count, and their mean, 0 where none does."""
    xp = array_module(samples)
    known = ~xp.isnan(samples)
    n = known.sum(axis=1)
    return n, xp.where(known, samples, 0.0).sum(axis=1) / xp.maximum(n, 1)


def _merge(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """State of two parts, ``b`` after ``a`` (Pébay 2008, doi:10.2172/1028931)."""
    merged = np.empty_like(a)
    merged[..., _FIRST], merged[..., _LAST] = a[..., _FIRST], b[..., _LAST]
    n_a, n_b, n = a[..., _N], b[..., _N], _divisor(a[..., _N] + b[..., _N])
    apart = b[..., _MEAN] - a[..., _MEAN]
    merged[..., _N] = n_a + n_b
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
    is_one = ~np.isnan(between)
    for more, its_mean, its_squares in (
        (is_one * 1.0, np.where(is_one, between, 0.0), 0.0),
        (b[..., _STEPS], b[..., _STEP_MEAN], b[..., _STEP_SQUARES]),
    ):
        apart, total = its_mean - mean, _divisor(count + more)
        squares = squares + its_squares + apart**2 * count * more / total
        mean = mean + apart * more / total
        count = count + more
    merged[..., _STEPS], merged[..., _STEP_MEAN], merged[..., _STEP_SQUARES] = count, mean, squares
    return merged


def _divisor(n: Any) -> Any:
    """How many there are, 1 where there is none: their sum is 0 then."""
    return array_module(n).maximum(n, 1)


def _snr_of(state: np.ndarray) -> np.ndarray:
    steps = np.where(state[..., _STEPS] > 0, state[..., _STEPS], np.nan)
    n = np.where(state[..., _N] > 0, state[..., _N], np.nan)
    variance = _variance(state[..., _SQUARES] / n, state[..., _MEAN])
    return _array(1 - 0.5 * (state[..., _STEP_SQUARES] / steps) / variance)


def _skew_of(state: np.ndarray) -> np.ndarray:
    n = np.where(state[..., _N] > 0, state[..., _N], np.nan)
    variance = _variance(state[..., _SQUARES] / n, state[..., _MEAN])
    return _array(state[..., _CUBES] / n / variance**1.5)


def _std_of(state: np.ndarray) -> np.ndarray:
    n = np.where(state[..., _N] > 0, state[..., _N], np.nan)
    return _array(np.sqrt(state[..., _SQUARES] / n))


def _array(values: Any) -> Any:
    """Keep what numpy would turn into a number an array."""
    return array_module(values).asarray(values)


def _variance(variance: np.ndarray, mean: np.ndarray) -> np.ndarray:
    """NaN for a variance that is nothing but the rounding of a constant trace's mean."""
    rounding = (np.finfo(np.float64).resolution * mean) ** 2
    return np.where(variance > rounding, variance, np.nan)
