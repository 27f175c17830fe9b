"""How the baselines of traces are found, each method in the segments of a recording."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, attributes, check_number, check_polarity, resolve
from xs2p._frames import SEGMENT, by_segment
from xs2p.compute.arrays import array_module, is_cupy
from xs2p.compute.device import kernels_on, with_kernels
from xs2p.traces.blocks import map_traces, mapped, ordered, turned, with_data
from xs2p.traces.detrend import DETREND, trend_of
from xs2p.traces.levels import levels_of, spread
from xs2p.traces.noise import noise_levels, noise_window
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import reduce_traces

_FILTERS, _ROLLING = "xs2p.traces.filters", "xs2p.traces.rolling"
_MAXIMIN = ("maximin", "maximin_legacy")
_MOVING = ("rolling_prctile", "rolling_median", "inactive_median")
_CONSTANT = ("constant", "constant_global")
METHODS = (*_MAXIMIN, *_CONSTANT, "prctile", *_MOVING, "none")
# Parameter -> the methods that use it.
USED_BY = {
    "win_baseline": (*_MAXIMIN, *_MOVING),
    "sig_baseline": (*_MAXIMIN, *_CONSTANT),
    "prctile_baseline": ("prctile", "rolling_prctile"),
}
_LOW_SECONDS = 60.0  # of the rolling percentile that frames without activity are near to
_NEAR = 3.0  # times the noise


class Baseline(NamedTuple):
    """How a baseline is estimated, checked; what the method does not use is as it was given."""

    method: str
    window: int
    """Frames of the window that moves."""
    sigma: float
    """Standard deviation of the Gaussian, in frames."""
    percentile: float
    attrs: dict[str, Any]
    """What the result says of it."""
    fs: float | None = None
    """Hz, where it is needed."""
    detrend: str | None = None
    polarity: int = 1

    @property
    def low_window(self) -> int:
        """Frames of the rolling percentile that tells where nothing happens."""
        assert self.fs is not None
        return _odd(_LOW_SECONDS, self.fs)

    @property
    def reach(self) -> int:
        """How many frames to each side F0 can depend on, but for what is taken over all."""
        if self.method == "maximin":
            return round(3 * self.sigma) + 2 * (self.window // 2)
        if self.method == "maximin_legacy":
            return _scipy_radius(self.sigma) + 2 * (self.window // 2)
        if self.method == "inactive_median":
            assert self.fs is not None
            return max(self.low_window // 2 + self.window // 2, noise_window(self.fs) // 2)
        if self.method in _MOVING:
            return self.window // 2
        return _scipy_radius(self.sigma) if self.method in _CONSTANT else 0


def check_baseline(
    method: str,
    fs: float | None,
    array: xr.DataArray,
    *,
    win_baseline: float,
    sig_baseline: float,
    prctile_baseline: float,
    detrend: str | None = None,
    polarity: int = 1,
) -> Baseline:
    """Check the parameters of :func:`xs2p.baseline`; ``fs`` else that of ``array``, if needed."""
    if method not in METHODS:
        raise ValueError(f"unknown baseline {method!r}; choose one of {', '.join(METHODS)}")
    check_number("win_baseline", win_baseline, low=0, unit="seconds")
    check_number("sig_baseline", sig_baseline, low=0, unit="frames")
    check_number("prctile_baseline", prctile_baseline, 0, 100)
    check_polarity(polarity)
    detrend = None if detrend == "none" else detrend
    if detrend not in (None, *DETREND):
        raise ValueError(f"unknown detrend {detrend!r}; choose {', '.join(DETREND)} or none")
    if detrend is not None and method == "none":
        raise ValueError(f"detrend={detrend!r} plays no part in the baseline 'none'")
    used = {name for name, methods in USED_BY.items() if method in methods}
    uses: dict[str, Any] = {"baseline": method}
    window = 1
    if "win_baseline" in used or detrend is not None:
        uses["fs"] = fs = resolve("fs", fs, array)
    if "win_baseline" in used:
        assert fs is not None
        window = _window(method, win_baseline, fs)
        uses["win_baseline"] = float(win_baseline)
    if "sig_baseline" in used:
        if sig_baseline > 2**31:
            raise ValueError(
                f"sig_baseline={sig_baseline!r} is more frames than can be counted; it is in "
                "frames, 10 by default"
            )
        uses["sig_baseline"] = float(sig_baseline)
    if "prctile_baseline" in used:
        uses["prctile_baseline"] = float(prctile_baseline)
    uses |= {"detrend": detrend, "polarity": -1 if polarity == -1 else None}
    sigma, percentile = float(sig_baseline), float(prctile_baseline)
    rate = uses.get("fs")
    return Baseline(
        method, window, sigma, percentile, attributes(**uses), rate, detrend, int(polarity)
    )


def _window(method: str, seconds: float, fs: float) -> int:
    """Frames of a window, odd but for the method that has it as older versions of suite2p."""
    if seconds * fs > 2**31:
        raise ValueError(
            f"win_baseline={seconds!r} s at fs={fs!r} Hz is {seconds * fs:.3g} "
            "frames; win_baseline is in seconds, 60 by default"
        )
    if method in _MOVING:
        return _odd(seconds, fs)
    window = max(int(seconds * fs), 1)
    return window + (window % 2 == 0 and method == "maximin")


def _odd(seconds: float, fs: float) -> int:
    return int(seconds * fs / 2) * 2 + 1


def estimate_baseline(
    F: xr.DataArray, how: Baseline, device: str, in_passes: bool = False
) -> xr.DataArray:
    """:func:`xs2p.baseline` of what is checked.

    ``in_passes``: what is one number for all of a trace is computed at once.
    """
    upward = turned(F, how.polarity)
    if how.detrend is None:
        F0 = _of_traces(upward, how, device, in_passes)
    else:
        assert how.fs is not None
        trend = trend_of(F, how.fs, how.polarity, device=device, in_passes=in_passes)
        F0 = _of_traces(_kept(upward / trend, F), how, device, in_passes) * trend
    return as_baseline(turned(F0, how.polarity), F, how, device)


def as_baseline(F0: xr.DataArray, F: xr.DataArray, how: Baseline, device: str) -> xr.DataArray:
    """Name the baseline of ``F``, and say how it was made."""
    F0.attrs = {
        "units": ARBITRARY,
        **with_kernels(F.attrs, device),
        "long_name": "baseline of the fluorescence",
        "description": f"Baseline of the trace by the method {how.method}, by xs2p.baseline.",
        **how.attrs,
    }
    return F0.rename("F0")


def _kept(made: xr.DataArray, F: xr.DataArray) -> xr.DataArray:
    """Let traces be float32 and have the attributes of those that they were made of."""
    return made.astype(np.float32).assign_attrs(F.attrs)


def _of_traces(F: xr.DataArray, how: Baseline, device: str, in_passes: bool) -> xr.DataArray:
    """Baseline of traces whose events go up."""
    block = moving_block(F, how, device, in_passes)
    if block is None:
        return spread(_levels(F, how, device, in_passes), F)
    options: dict[str, Any] = {"reach": how.reach, "whole": device != "cpu", "bridged": True}
    return map_traces(block.function, F, *block.own, gaps=block.gaps, **options, **block.options)


class MovingBlock(NamedTuple):
    """What finds a baseline that moves, in blocks of bridged traces ``(…, time)``."""

    function: Callable[..., Any]
    own: tuple[Any, ...]
    """What it is given of each trace."""
    gaps: bool
    """Whether it is given the traces with their gaps too, after those without."""
    options: dict[str, Any]


def moving_block(
    F: xr.DataArray, how: Baseline, device: str, in_passes: bool = False
) -> MovingBlock | None:
    """How the baseline of traces that go up is found; None where it is one number of a segment."""
    options: dict[str, Any] = {"device": device, "window": how.window}
    if how.method in _MAXIMIN:
        options |= {"method": how.method, "sigma": how.sigma}
        return MovingBlock(_running_block, (), False, options)
    if how.method == "inactive_median":
        assert how.fs is not None
        near = _NEAR * noise_levels(F, how.fs, device, in_passes=in_passes)
        options |= {"low_window": how.low_window}
        return MovingBlock(_inactive_block, (near,), True, options)
    if how.method in _MOVING:
        percentile = 50.0 if how.method == "rolling_median" else how.percentile
        return MovingBlock(_rolling_block, (), True, options | {"percentile": percentile})
    return None


class LevelBlock(NamedTuple):
    """What finds a baseline that is one number ``(…)`` of a segment of traces ``(…, time)``."""

    function: Callable[..., Any]
    """It is given the traces bridged, and with their gaps."""
    bridged: bool
    """Whether it looks at the former."""
    options: dict[str, Any]


def level_block(how: Baseline, device: str) -> LevelBlock | None:
    """How a baseline that is one number is found of each trace alone; None where it is not."""
    options: dict[str, Any] = {"device": device}
    if how.method == "prctile":
        return LevelBlock(_percentile_level, False, options | {"percentile": how.percentile})
    if how.method == "constant":
        return LevelBlock(_lowest_level, True, options | {"sigma": how.sigma})
    return None


def _levels(F: xr.DataArray, how: Baseline, device: str, in_passes: bool) -> Any:
    """Baselines of segments that are one number for each trace, ``(…, segments)``."""
    F = ordered(F)
    if how.method == "prctile":
        return levels_of(
            _percentile_block,
            F,
            whole=device != "cpu",
            in_passes=in_passes,
            device=device,
            percentile=how.percentile,
        )
    levels = [_level(part, how, device) for part in by_segment(_free(F))]
    if in_passes and any(level.chunks is not None for level in levels):
        import dask

        levels = [level.chunk() for level in dask.compute(*levels)]
    if F.chunks is None:
        return array_module(levels[0].data).stack([level.data for level in levels], axis=-1)
    import dask.array as da

    return da.stack([level.data for level in levels], axis=-1)


def _scipy_radius(sigma: float) -> int:
    """Where SciPy cuts a Gaussian."""
    return int(4 * sigma + 0.5)


def _running_block(F: Any, method: str, window: int, sigma: float, device: str) -> Any:
    """F0 of a block of traces ``(…, time)``."""
    filters = kernels_on(device, _FILTERS)
    return filters.maximin(F, sigma, window, legacy=method == "maximin_legacy")


def _rolling_block(full: Any, F: Any, window: int, percentile: float, device: str) -> Any:
    """Find rolling percentiles; where no frame in a window counts, those of lines over the gap."""
    rolling = kernels_on(device, _ROLLING).rolling_percentile
    return _over_gaps(full, F, lambda traces: rolling(traces, window, percentile))


def _inactive_block(full: Any, F: Any, near: Any, low_window: int, window: int, device: str) -> Any:
    inactive = kernels_on(device, _ROLLING).inactive_median
    return _over_gaps(full, F, lambda traces: inactive(traces, low_window, window, near))


def _over_gaps(full: Any, F: Any, find: Callable[[Any], Any]) -> Any:
    """Find a level of traces with gaps, and where there is none that of traces without."""
    xp, level = array_module(F), find(F)
    if full is F or not bool(xp.isnan(level).any()):
        return level
    return xp.where(xp.isnan(level), find(full), level)


def _smooth_block(F: Any, sigma: float, device: str) -> Any:
    return kernels_on(device, _FILTERS).gaussian_scipy(F, sigma)


def _percentile_block(F: Any, percentile: float, device: str) -> Any:
    return kernels_on(device, _FILTERS).percentile(F, percentile)


def _percentile_level(full: Any, F: Any, percentile: float, device: str) -> Any:
    return _percentile_block(F, percentile, device)


def _lowest_level(full: Any, F: Any, sigma: float, device: str) -> Any:
    """Lowest smoothed sample of those that count."""
    xp = array_module(F)
    smooth = xp.where(xp.isnan(F), np.float32(np.nan), _smooth_block(full, sigma, device))
    return _known(_lowest(smooth)).astype(np.float32)


def _free(F: xr.DataArray) -> xr.DataArray:
    """Traces with NaN where a frame does not count, and without labels of time."""
    F = counted(F)
    return F.drop_vars([n for n, c in F.coords.items() if "time" in c.dims and n != SEGMENT])


def _level(F: xr.DataArray, how: Baseline, device: str) -> xr.DataArray:
    """Baseline of each trace of one segment, float32 over the dims but time."""
    F = F.drop_vars(SEGMENT, errors="ignore")
    if how.method == "none" or F.size == 0:  # no ROI has a baseline
        first = F.isel(time=0, drop=True)
        return with_data(first, np.zeros_like(first.data, dtype=np.float32))
    options: dict[str, Any] = {"reach": how.reach, "bridged": True, "holes": True}
    options |= {"device": device, "sigma": how.sigma}
    if device == "cpu" or is_cupy(F.data):
        smooth = map_traces(_smooth_block, F, whole=device != "cpu", **options)
        level = reduce_traces(smooth, _lowest, np.fmin, _known, 1, exact=True)
    else:  # of what is smoothed there, nothing else comes back
        lowest = mapped(
            _smooth_block, F, size=1, dtype=np.float64, through=_lowest_there, **options
        )
        level = F.isel(time=0, drop=True).copy(data=lowest.min(axis=-1))
        level = level.where(level < np.inf)
    level = level.astype(np.float32)
    if how.method == "constant_global" and "roi" in level.dims:
        return level.min("roi").broadcast_like(level)  # of the ROIs that have a trace
    return level


def _lowest_there(pieces: Any, parts: Any, inner: slice, own: Any, **options: Any) -> Any:
    """Lowest sample of what is made on a GPU of traces of the host, ``(…, 1)``."""
    from xs2p.compute.gpu_traces import stay

    def lowest(*traces: Any, **how: Any) -> Any:
        return _lowest(pieces(*traces, **how)[..., inner])

    return stay(lowest, parts, slice(None), own, **options)


def _lowest(traces: Any, _: Any = None) -> Any:
    """Lowest sample of traces that counts, ``(…, 1)``."""
    xp = array_module(traces)
    return xp.where(xp.isnan(traces), np.inf, traces).min(axis=-1)[..., None].astype(np.float64)


def _known(lowest: Any) -> Any:
    """NaN where no sample counts."""
    return array_module(lowest).where(lowest[..., 0] == np.inf, np.nan, lowest[..., 0])
