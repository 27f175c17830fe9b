"""Baselines F0 of traces, and traces with their baseline taken off."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_number, resolve
from xs2p.compute.arrays import unread
from xs2p.compute.device import kernels_on, resolve_device
from xs2p.traces.blocks import check_traces, map_traces, reduce_whole

_FILTERS = "xs2p.traces.filters"
METHODS = ("maximin", "maximin_legacy", "constant", "constant_global", "prctile", "none")


def baseline(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    device: str | None = None,
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
        - ``"prctile"``: a percentile of each trace. The one method that, lazily, brings all of
          time into one chunk (of some ROIs) to find it.
        - ``"none"``: 0.
    fs
        Frame rate in Hz, for the maximin methods; by default ``F.attrs["fs"]``.
    win_baseline
        Window of the running minimum and maximum in seconds.
    sig_baseline
        Standard deviation of the Gaussian in frames.
    prctile_baseline
        Percentile, 0 to 100, for ``"prctile"``; linear interpolation.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the
        traces are. The result is where they are.

    Returns
    -------
    DataArray
        ``F0``, float32, of the shape of ``F`` with ``time`` last, in its units; lazy where
        ``F`` is. A trace that holds NaN has NaN as far as the filters reach.

    Raises
    ------
    ValueError
        If the method is unknown, ``fs`` is needed and not known, a parameter is out of range or
        the device cannot be used.

    Examples
    --------
    >>> F = xr.DataArray(np.arange(12.0).reshape(2, 6), dims=("roi", "time"))
    >>> baseline(F, "prctile", prctile_baseline=50).values[:, 0].tolist()
    [2.5, 8.5]
    """
    return estimate_baseline(
        F,
        method,
        fs=fs,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        device=device,
    )


def preprocess(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    device: str | None = None,
) -> xr.DataArray:
    """Take the baseline off every trace: ``F − baseline(F)``, what deconvolution wants.

    Parameters
    ----------
    F, method, fs, win_baseline, sig_baseline, prctile_baseline, device
        As for :func:`baseline`.

    Returns
    -------
    DataArray
        ``F − F0``, float32, of the shape of ``F`` with ``time`` last, in its units.

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
    F0 = baseline(
        F,
        method,
        fs=fs,
        win_baseline=win_baseline,
        sig_baseline=sig_baseline,
        prctile_baseline=prctile_baseline,
        device=device,
    )
    corrected = F.astype(np.float32).transpose(*F0.dims) - F0
    long_name = F.attrs.get("long_name", "fluorescence")
    corrected.attrs = {
        **F0.attrs,
        "long_name": f"{long_name}, baseline subtracted",
        "description": "The trace less its baseline, by xs2p.preprocess.",
    }
    return corrected.rename(F.name)


def needs_fs(method: str) -> bool:
    """Whether a method's window is in seconds; a ValueError for an unknown method."""
    if method not in METHODS:
        raise ValueError(f"unknown baseline {method!r}; choose one of {', '.join(METHODS)}")
    return method in ("maximin", "maximin_legacy")


def baseline_parameters(
    method: str,
    fs: float | None,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
) -> tuple[int, dict[str, Any]]:
    """Check the parameters; the window in frames and the attributes of the result.

    ``fs`` is a number where the method needs it.
    """
    in_seconds = needs_fs(method)
    check_number("win_baseline", win_baseline, low=0, unit="seconds")
    check_number("sig_baseline", sig_baseline, low=0, unit="frames")
    check_number("prctile_baseline", prctile_baseline, 0, 100)
    window = 1
    uses: dict[str, Any] = {"baseline": method}
    if in_seconds and fs is not None:
        if win_baseline * fs > 2**31:
            raise ValueError(
                f"win_baseline={win_baseline!r} s at fs={fs!r} Hz is {win_baseline * fs:.3g} "
                "frames; win_baseline is in seconds, 60 by default"
            )
        window = max(int(win_baseline * fs), 1)
        if method == "maximin":
            window += window % 2 == 0
        uses.update(fs=fs, win_baseline=float(win_baseline))
    if method not in ("prctile", "none"):
        uses["sig_baseline"] = float(sig_baseline)
    if method == "prctile":
        uses["prctile_baseline"] = float(prctile_baseline)
    return int(window), attributes(**uses)


def estimate_baseline(
    F: xr.DataArray,
    method: str,
    *,
    fs: float | None,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
    device: str | None = None,
    in_passes: bool = False,
) -> xr.DataArray:
    """:func:`baseline`; ``in_passes``: compute what is one number for all of a trace at once."""
    in_seconds = needs_fs(method)
    check_traces(F, "baseline")
    device = resolve_device(device, unread(F), "the array of traces")
    window, parameters = baseline_parameters(
        method,
        resolve("fs", fs, F) if in_seconds else None,
        win_baseline,
        sig_baseline,
        prctile_baseline,
    )
    if in_seconds:
        F0 = map_traces(
            _running_block,
            F,
            reach=baseline_reach(method, window, sig_baseline),
            whole=device == "gpu",
            device=device,
            method=method,
            window=window,
            sigma=float(sig_baseline),
        )
    else:
        level = _level(F, method, float(sig_baseline), float(prctile_baseline), device)
        if in_passes and level.chunks is not None:
            level = level.compute().chunk()
        F0 = _same_at_all_times(level, F)
    F0.attrs = {
        "units": "a.u.",
        **F.attrs,
        "long_name": "baseline of the fluorescence",
        "description": f"Baseline of the trace by the method {method}, by xs2p.baseline.",
        **parameters,
    }
    return F0.rename("F0")


def baseline_reach(method: str, window: int, sig_baseline: float) -> int:
    """How many frames to each side a baseline can depend on, but for what is taken over all."""
    if method == "maximin":
        return round(3 * sig_baseline) + 2 * (window // 2)
    if method == "maximin_legacy":
        return _scipy_radius(sig_baseline) + 2 * (window // 2)
    return _scipy_radius(sig_baseline) if method.startswith("constant") else 0


def _scipy_radius(sigma: float) -> int:
    """Where SciPy cuts a Gaussian."""
    return int(4 * sigma + 0.5)


def _running_block(F: Any, method: str, window: int, sigma: float, device: str) -> Any:
    """F0 of a block of traces ``(…, time)``."""
    filters = kernels_on(device, _FILTERS)
    return filters.maximin(F, sigma, window, legacy=method == "maximin_legacy")


def _smooth_block(F: Any, sigma: float, device: str) -> Any:
    return kernels_on(device, _FILTERS).gaussian_scipy(F, sigma)


def _percentile_block(F: Any, percentile: float, device: str) -> Any:
    return kernels_on(device, _FILTERS).percentile(F, percentile)


def _level(
    F: xr.DataArray, method: str, sigma: float, percentile: float, device: str
) -> xr.DataArray:
    """Baseline of each trace where it is one number, float32 over the dims but time."""
    F = F.drop_vars([name for name, coord in F.coords.items() if "time" in coord.dims])
    if method == "none" or F.size == 0:  # no ROI has a baseline
        first = F.isel(time=0, drop=True)
        return first.copy(data=np.zeros_like(first.data, dtype=np.float32))
    if method == "prctile":
        level = reduce_whole(
            _percentile_block, F, whole=device == "gpu", device=device, percentile=percentile
        )
    else:
        reach = _scipy_radius(sigma)
        smooth = map_traces(
            _smooth_block, F, reach=reach, whole=device == "gpu", device=device, sigma=sigma
        )
        level = smooth.min("time", skipna=False)
    if method == "constant_global" and "roi" in level.dims:
        return level.min("roi").broadcast_like(level)  # of the ROIs that have a trace
    return level


def _same_at_all_times(level: xr.DataArray, F: xr.DataArray) -> xr.DataArray:
    dims = (*level.dims, "time")
    F = F.transpose(*dims)
    if F.chunks is None:
        return F.copy(data=np.repeat(level.data[..., None], F.sizes["time"], axis=-1))
    import dask.array as da

    data = level.data.rechunk(F.chunks[:-1])[..., None]
    return F.copy(data=da.broadcast_to(data, F.shape, chunks=F.chunks))
