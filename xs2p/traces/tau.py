"""How fast fluorescence decays, found from the traces themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, resolve
from xs2p._frames import SEGMENT, starts_of
from xs2p._names import explain_names, without_other
from xs2p._warnings import warn
from xs2p.compute.arrays import array_module, as_array, meta, to_host, unread
from xs2p.compute.device import resolve_device
from xs2p.traces.blocks import check_traces, ordered
from xs2p.traces.deconvolve import too_fast
from xs2p.traces.levels import levels_of

_LONGEST = 1.5  # s between samples that are compared
_FEWEST = 3  # distances that an exponential can be fitted to
_SHORT, _LONG = 0.1, 60.0  # frames and seconds: what lies beyond is no decay that was found
_GRID, _GOLDEN = 400, (np.sqrt(5) - 1) / 2


@without_other
def estimate_tau(
    F: xr.DataArray,
    *,
    fs: float | None = None,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Estimate the decay time of the indicator from traces, pooled over ROIs.

    To the autocovariance of each trace, at distances from one frame to 1.5 s, an exponential is
    fitted by least squares; noise that is new in every frame is at distance 0, which is left out.
    The median over ROIs is what :func:`xs2p.deconvolve` can be given; that of a single ROI follows
    its activity as much as its indicator, and makes worse spikes: it is there as a diagnostic.

    Parameters
    ----------
    F
        Traces with the dims ``roi`` and ``time``, best ``Fc − F0``: drift looks like a slow decay.
        Over Dask in any chunks; lazily, all of time comes into one chunk (of some ROIs). Frames
        that are not ``valid``, or NaN, are passed over, and no distance crosses a border of
        segments.
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``, as everywhere; here CuPy does the work with either.

    Returns
    -------
    Dataset
        ``tau``, in s, the median; ``tau_low`` and ``tau_high``, the quartiles, which say how far
        ROIs agree; ``tau_of_roi(roi)``, for diagnosis only, NaN where no exponential fits. Lazy
        where ``F`` is: ``deconvolve(F, tau=estimate_tau(F).tau)`` computes it.

    Raises
    ------
    ValueError
        If ``F`` is no array of traces, ``fs`` is not known, or there are too few frames for it.

    Warns
    -----
    UserWarning
        Of traces in memory: ``tau · fs`` is below 1, the decay is lost between two frames; or
        fewer than half of the traces show a decay at all.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois()).compute()
    >>> found = estimate_tau((ds.Fc - ds.F0).assign_attrs(fs=ds.attrs["fs"]))
    >>> round(float(found.tau), 1), round(float(found.tau_low), 1), round(float(found.tau_high), 1)
    (2.1, 1.6, 3.8)
    """
    explain_names("estimate_tau", estimate_tau, other)
    check_traces(F, "estimate_tau")
    fs = resolve("fs", fs, F)
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    F = ordered(F)
    edges = (*starts_of(F), F.sizes["time"])
    longest = int(np.diff(edges).max())
    lags = min(int(_LONGEST * fs), longest - 1)
    if lags < _FEWEST:
        raise ValueError(
            f"estimate_tau compares frames up to {_LONGEST} s apart, {_FEWEST} distances or more; "
            f"at fs={fs:g} Hz and {longest} frames (of the longest segment) there are "
            f"{max(lags, 0)}: give tau in seconds, or by the indicator's name (xs2p.indicators())"
        )
    whole = F.drop_vars(SEGMENT, errors="ignore")
    options: dict[str, Any] = {"whole": device != "cpu", "edges": edges, "lags": lags, "fs": fs}
    each = levels_of(_tau_block, whole, dtype=np.float64, **options)[..., 0]
    labels = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    found = _pooled(each, {**{"units": "s"}, **attributes(fs=fs)})
    of_roi = {
        "long_name": "decay time by the trace of the ROI alone",
        "units": "s",
        "description": "For diagnosis only: it follows activity as much as the indicator. By "
        "xs2p.estimate_tau.",
    }
    found["tau_of_roi"] = xr.DataArray(each, labels, F.dims[:-1], attrs=of_roi)
    if F.chunks is None:
        too_fast(float(to_host(found["tau"].data)), fs)
        _few(to_host(each))
    return found


def _few(each: np.ndarray) -> None:
    """Warn where most traces show no decay: the median of the rest says little."""
    fitted = int(np.isfinite(each).sum())
    if 2 * fitted < each.size:
        warn(
            f"estimate_tau found a decay in {fitted} of {each.size} traces: what it gives may be "
            "noise; compare it with the indicator's (xs2p.indicators())"
        )


def _pooled(each: Any, attrs: dict[str, Any]) -> xr.Dataset:
    """Median and quartiles over all ROIs."""
    found = {}
    for name, share, words in (
        ("tau", 50, "decay time"),
        ("tau_low", 25, "decay time, a quarter of ROIs have less"),
        ("tau_high", 75, "decay time, a quarter of ROIs have more"),
    ):
        if hasattr(each, "dask"):
            whole = each.rechunk(-1)
            every = tuple(range(each.ndim))
            like = meta(each, 0, np.float64)
            data = whole.map_blocks(_share, share, drop_axis=every, dtype=np.float64, meta=like)
        else:
            data = _share(each, share)
        about = {**attrs, "long_name": words, "description": _HOW}
        found[name] = xr.DataArray(data, attrs=about)
    return xr.Dataset(found)


_HOW = (
    "Exponentials fitted to the autocovariance of traces, pooled over ROIs, by xs2p.estimate_tau."
)


def _share(each: Any, share: float) -> Any:
    """Percentile of all that is not NaN; NaN where nothing is."""
    values = np.asarray(to_host(each))
    known = values[np.isfinite(values)]
    found = np.percentile(known, share) if known.size else np.nan
    return as_array(array_module(each), found, dtype=np.float64)


def _tau_block(F: Any, edges: tuple[int, ...], lags: int, fs: float) -> Any:
    """Decay time of each trace ``(…, time)``."""
    xp, rows = array_module(F), F.reshape(-1, F.shape[-1])
    found = [_fitted(to_host(_autocovariance(row, edges, lags)), fs) for row in rows]
    return as_array(xp, found, dtype=np.float64).reshape(F.shape[:-1])


def _autocovariance(F: Any, edges: tuple[int, ...], lags: int) -> Any:
    """Mean product of samples 1 … ``lags`` frames apart, less the mean of their segment."""
    xp = array_module(F)
    sums, number = xp.zeros(lags), xp.zeros(lags)
    for a, b in zip(edges, edges[1:], strict=False):
        part = F[a:b].astype(np.float64)
        here = xp.isfinite(part)
        count = here.sum()
        part = xp.where(here, part, 0.0)
        part = xp.where(here, part - part.sum() / xp.maximum(count, 1), 0.0)
        here = here.astype(np.float64)
        for lag in range(1, min(lags, b - a - 1) + 1):
            sums[lag - 1] += (part[:-lag] * part[lag:]).sum()
            number[lag - 1] += (here[:-lag] * here[lag:]).sum()
    return sums / xp.where(number > 0, number, np.nan)


def _fitted(covariance: np.ndarray, fs: float) -> float:
    """Time constant in s of the exponential nearest to an autocovariance; NaN where none is."""
    known = np.isfinite(covariance)
    seconds, values = (np.flatnonzero(known) + 1) / fs, covariance[known]
    if known.sum() < _FEWEST or not values.any():
        return np.nan
    values = values / np.abs(values).max()

    def explained(log_tau: float) -> float:
        """How much of the squares an exponential takes away; its height is 0 or more."""
        shape = np.exp(-seconds / np.exp(log_tau))
        height = max((values * shape).sum(), 0.0)
        return float(height * height / (shape * shape).sum())

    grid = np.linspace(np.log(_SHORT / fs), np.log(_LONG), _GRID)
    best = int(np.argmax([explained(log_tau) for log_tau in grid]))
    if best in (0, _GRID - 1):
        return np.nan
    low, high = grid[best - 1], grid[best + 1]
    for _ in range(50):  # the golden section, to the last digits
        left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        low, high = (low, right) if explained(left) > explained(right) else (left, high)
    return float(np.exp((low + high) / 2))
