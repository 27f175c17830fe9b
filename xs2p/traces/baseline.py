"""Baselines F0 of traces, and traces with their baseline taken off."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, same_as, without_other
from xs2p._time import check_increasing
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.traces.baseline_methods import check_baseline, estimate_baseline
from xs2p.traces.blocks import check_traces, storable, turned


@without_other
def baseline(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    detrend: str | None = None,
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Estimate the baseline F0 of every trace.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``; over Dask in any chunks. Chunks of
        ``time`` that are short beside the filters are joined with their neighbours.
    method
        - ``"maximin"``: Gaussian smoothing, then a running minimum and a running maximum of
          that, edges replicated; as suite2p 1.x.
        - ``"maximin_legacy"``: the same as suite2p up to 0.14 computed it, reflecting at the
          ends: stored ``spks`` of older result folders come out bit for bit.
        - ``"constant"``: the minimum of each smoothed trace.
        - ``"constant_global"``: ONE minimum over all ROIs, as suite2p's ``constant``.
        - ``"prctile"``: a percentile of each trace. Lazily, all of time is brought into one chunk
          (of some ROIs) to find it.
        - ``"rolling_prctile"``: the percentile of the window around each frame, exact, edges
          reflected.
        - ``"rolling_median"``: the same with the median, for traces with events both ways.
        - ``"inactive_median"``: the rolling median of the frames at which nothing happens: those
          within 3 σ (:func:`xs2p.noise`) of the rolling 10th percentile over 60 s; where none in
          the window is, that percentile. For cells that are active for long. As ``"prctile"``, it
          wants all of time lazily, to know σ.
        - ``"none"``: 0.
    fs
        Frame rate in Hz, for the methods with a window, and ``detrend``; by default
        ``F.attrs["fs"]``.
    win_baseline
        Window in seconds, of the methods that have one.
    sig_baseline
        Standard deviation of the Gaussian in frames.
    prctile_baseline
        Percentile, 0 to 100, for ``"prctile"`` and ``"rolling_prctile"``; linear interpolation.
    detrend
        ``"exponential"``: the trace is divided by how it bleaches, a double exponential fitted to
        each segment robustly, the baseline is found of what is left, and is multiplied by the
        bleaching. It is taken to end at a twentieth of where it began, at the lowest; traces that
        are not above 0, or too short to tell, stay as they are. Wants all of time lazily. None, or
        ``"none"``: no trend.
    polarity
        -1 for an indicator that darkens with activity: the baseline is that of ``−F``, with its
        sign turned, and lies along the top of the trace.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the
        traces are. The result is where they are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    DataArray
        ``F0``, float32, of the shape of ``F`` with ``time`` last, in its units; lazy where
        ``F`` is. Each ``segment(time)`` stands by itself. Frames that are not ``valid``, and NaN,
        do not count: the filters see the trace interpolated linearly over them, and held at the
        ends, and minima and percentiles pass them over. Gaps are bridged up to five times the
        reach of the filters, and to 2048 frames; deep within longer ones, and where no frame in a
        rolling window counts, ``F0`` is NaN.

    Raises
    ------
    ValueError
        If the method is unknown, ``fs`` is needed and not known or not the rate of the times, a
        parameter is out of range, time goes back or repeats, or the device cannot be used.

    Examples
    --------
    >>> F = xr.DataArray(np.arange(12.0).reshape(2, 6), dims=("roi", "time"))
    >>> baseline(F, "prctile", prctile_baseline=50).values[:, 0].tolist()
    [2.5, 8.5]
    """
    method = same_as("method", method, "maximin", "baseline", other)
    explain_names("baseline", baseline, other)
    check_traces(F, "baseline")
    check_increasing(F, "F")
    how = check_baseline(
        method,
        fs,
        F,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        detrend=detrend,
        polarity=polarity,
    )
    if "fs" in how.attrs and fs is None:
        warn_of_gaps(F, "F")
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    return estimate_baseline(F, how, device)


@without_other
def preprocess(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    detrend: str | None = None,
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Take the baseline off every trace: ``F − baseline(F)``, what deconvolution wants.

    Parameters
    ----------
    F, method, fs, win_baseline, sig_baseline, prctile_baseline, detrend, polarity
        As for :func:`baseline`.
    device, kernels
        As for :func:`baseline`.

    Returns
    -------
    DataArray
        ``F − F0``, float32, of the shape of ``F`` with ``time`` last, in its units; ``F0 − F`` with
        ``polarity=-1``, so that activity goes up.

    Raises
    ------
    ValueError
        As :func:`baseline`.

    Examples
    --------
    >>> F = xr.DataArray([[4.0, 3.0, 5.0]], dims=("roi", "time"))
    >>> preprocess(F, "constant", sig_baseline=0).values.tolist()
    [[1.0, 0.0, 2.0]]
    """
    method = same_as("method", method, "maximin", "baseline", other)
    explain_names("preprocess", preprocess, other)
    F0 = baseline(
        F,
        method,
        fs=fs,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        detrend=detrend,
        polarity=polarity,
        device=device,
        kernels=kernels,
    )
    corrected = turned(F.astype(np.float32).transpose(*F0.dims) - F0, polarity)
    long_name = F.attrs.get("long_name", "fluorescence")
    corrected.attrs = {
        **F0.attrs,
        "long_name": f"{long_name}, baseline subtracted",
        "description": "The trace less its baseline, by xs2p.preprocess.",
    }
    return storable(corrected.rename(F.name))
