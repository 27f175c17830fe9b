"""Baselines F0 of traces, and traces with their baseline taken off."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_number, resolve
from xs2p._frames import SEGMENT, by_segment, spans_of, warn_of_gaps
from xs2p._names import explain_names, same_as, without_other
from xs2p._time import check_increasing
from xs2p.compute.arrays import array_module, unread
from xs2p.compute.device import kernels_on, resolve_device
from xs2p.traces.blocks import (
    check_traces,
    map_traces,
    storable,
    with_data,
)
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import reduce_traces, reduce_whole

_FILTERS = "xs2p.traces.filters"
_IN_SECONDS = ("maximin", "maximin_legacy")  # their window is
METHODS = ("maximin", "maximin_legacy", "constant", "constant_global", "prctile", "none")


@without_other
def baseline(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    device: str | None = None,
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
        ``F`` is. Each ``segment(time)`` stands by itself. Frames that are not ``valid``, and NaN,
        do not count: the filters see the trace interpolated linearly over them, and held at the
        ends, and minima and percentiles pass them over. Gaps are bridged up to five times the
        reach of the filters, and to 2048 frames; deep within longer ones ``F0`` is NaN.

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
    )
    if how.method in _IN_SECONDS and fs is None:
        warn_of_gaps(F, "F")
    return estimate_baseline(F, how, resolve_device(device, unread(F), "the array of traces"))


@without_other
def preprocess(
    F: xr.DataArray,
    method: str = "maximin",
    *,
    fs: float | None = None,
    win_baseline: float = 60.0,
    sig_baseline: float = 10.0,
    prctile_baseline: float = 8.0,
    device: str | None = None,
    **other: Any,
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
    method = same_as("method", method, "maximin", "baseline", other)
    explain_names("preprocess", preprocess, other)
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
    return storable(corrected.rename(F.name))


class Baseline(NamedTuple):
    """How a baseline is estimated, checked; what the method does not use is as it was given."""

    method: str
    window: int
    """Frames of the running minimum and maximum."""
    sigma: float
    """Standard deviation of the Gaussian, in frames."""
    percentile: float
    attrs: dict[str, Any]
    """What the result says of it."""

    @property
    def reach(self) -> int:
        """How many frames to each side F0 can depend on, but for what is taken over all."""
        if self.method == "maximin":
            return round(3 * self.sigma) + 2 * (self.window // 2)
        if self.method == "maximin_legacy":
            return _scipy_radius(self.sigma) + 2 * (self.window // 2)
        return _scipy_radius(self.sigma) if self.method.startswith("constant") else 0


def check_baseline(
    method: str,
    fs: float | None,
    array: xr.DataArray,
    *,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
) -> Baseline:
    """Check the parameters of :func:`baseline`; ``fs`` is else that of ``array``, where needed."""
    if method not in METHODS:
        raise ValueError(f"unknown baseline {method!r}; choose one of {', '.join(METHODS)}")
    check_number("win_baseline", win_baseline, low=0, unit="seconds")
    check_number("sig_baseline", sig_baseline, low=0, unit="frames")
    check_number("prctile_baseline", prctile_baseline, 0, 100)
    window = 1
    uses: dict[str, Any] = {"baseline": method}
    if method in _IN_SECONDS:
        fs = resolve("fs", fs, array)
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
    sigma, percentile = float(sig_baseline), float(prctile_baseline)
    return Baseline(method, int(window), sigma, percentile, attributes(**uses))


def estimate_baseline(
    F: xr.DataArray, how: Baseline, device: str, in_passes: bool = False
) -> xr.DataArray:
    """:func:`baseline` of what is checked.

    ``in_passes``: what is one number for all of a trace is computed at once.
    """
    if how.method in _IN_SECONDS:
        F0 = map_traces(
            _running_block,
            F,
            reach=how.reach,
            whole=device == "gpu",
            bridged=True,
            device=device,
            method=how.method,
            window=how.window,
            sigma=how.sigma,
        )
    else:
        levels = [_level(part, how, device) for part in by_segment(_free(F))]
        if in_passes and any(level.chunks is not None for level in levels):
            import dask

            levels = [level.chunk() for level in dask.compute(*levels)]
        F0 = _same_within_segments(levels, F)
    F0.attrs = {
        "units": "a.u.",
        **F.attrs,
        "long_name": "baseline of the fluorescence",
        "description": f"Baseline of the trace by the method {how.method}, by xs2p.baseline.",
        **how.attrs,
    }
    return F0.rename("F0")


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


def _free(F: xr.DataArray) -> xr.DataArray:
    """Traces with NaN where a frame does not count, and without labels of time."""
    F = counted(F.transpose(..., *(("roi", "time") if "roi" in F.dims else ("time",))))
    return F.drop_vars([n for n, c in F.coords.items() if "time" in c.dims and n != SEGMENT])


def _level(F: xr.DataArray, how: Baseline, device: str) -> xr.DataArray:
    """Baseline of each trace of one segment, float32 over the dims but time."""
    F = F.drop_vars(SEGMENT, errors="ignore")
    whole = device == "gpu"
    if how.method == "none" or F.size == 0:  # no ROI has a baseline
        first = F.isel(time=0, drop=True)
        return with_data(first, np.zeros_like(first.data, dtype=np.float32))
    if how.method == "prctile":
        options = {"device": device, "percentile": how.percentile}
        level = reduce_whole(_percentile_block, F, whole=whole, **options)
    else:
        options = {"device": device, "sigma": how.sigma}
        smooth = map_traces(
            _smooth_block, F, reach=how.reach, whole=whole, bridged=True, holes=True, **options
        )
        level = reduce_traces(smooth, _lowest, np.fmin, _known, 1, exact=True).astype(np.float32)
    if how.method == "constant_global" and "roi" in level.dims:
        return level.min("roi").broadcast_like(level)  # of the ROIs that have a trace
    return level


def _lowest(traces: Any, _: Any) -> Any:
    """Lowest sample of traces that counts, ``(…, 1)``."""
    xp = array_module(traces)
    return xp.where(xp.isnan(traces), np.inf, traces).min(axis=-1)[..., None].astype(np.float64)


def _known(lowest: Any) -> Any:
    """NaN where no sample counts."""
    return array_module(lowest).where(lowest[..., 0] == np.inf, np.nan, lowest[..., 0])


def _same_within_segments(levels: list[xr.DataArray], F: xr.DataArray) -> xr.DataArray:
    """Give every frame the level of its segment."""
    dims = (*levels[0].dims, "time")
    F = F.transpose(*dims)
    lengths = [span.stop - span.start for span in spans_of(F)]
    if F.chunks is None:
        xp = array_module(levels[0].data)
        each = xp.stack([level.data for level in levels], axis=-1)
        return with_data(F, xp.repeat(each, lengths, axis=-1))
    import dask.array as da

    parts = [
        da.broadcast_to(
            level.data.rechunk(F.chunks[:-1])[..., None],
            (*F.shape[:-1], length),
            chunks=(*F.chunks[:-1], (length,)),
        )
        for level, length in zip(levels, lengths, strict=True)
    ]
    data = parts[0] if len(parts) == 1 else da.concatenate(parts, axis=-1)
    return with_data(F, data.rechunk(F.chunks))
