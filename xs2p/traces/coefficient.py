"""How much of its neuropil each ROI has in it, found from its own traces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, resolve
from xs2p._frames import SEGMENT, VALID
from xs2p._names import explain_names, without_other
from xs2p.compute.arrays import array_module, as_array, meta, unread
from xs2p.compute.device import resolve_device
from xs2p.traces.baseline_methods import check_baseline, estimate_baseline
from xs2p.traces.blocks import check_same, check_traces, ordered
from xs2p.traces.levels import levels_of

USUAL = 0.7  # where nothing can be found
_WINDOW, _LOW = 60.0, 5.0  # s and percentile of what is taken off both, and percentile in a bin
_BINS, _ENDS, _MOST = 20, (10.0, 90.0), 2.0
_STEPS, _CELLS = np.arange(201) / 100, 100
_ENOUGH, _FEW = 5, 0.8  # estimates below 1 that have a mean, and what is taken of fewer
CLIPPED, REPLACED, UNKNOWN = 1, 2, 4
FLAG = {
    "long_name": "doubts about the neuropil coefficient",
    "flag_masks": [CLIPPED, REPLACED, UNKNOWN],
    "flag_meanings": "clipped_to_0_to_2 at_or_above_1_and_replaced no_estimate",
    "description": "The slope is below 0 or above 2; the estimate is 1 or more, which the mean of "
    "those below 1 replaces; or there is none, and 0.7 is used.",
}


class Found(NamedTuple):
    """Coefficients over the dims of the traces but time."""

    used: xr.DataArray
    raw: xr.DataArray
    flag: xr.DataArray


@without_other
def neuropil_coefficient(
    F: xr.DataArray,
    Fneu: xr.DataArray,
    method: str = "binned",
    *,
    fs: float | None = None,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Estimate for each ROI how much of its neuropil's light is in its trace: the r of F − r·Fneu.

    Two published ways, neither of which is better than 0.7 for all: see the guide. Noise of
    ``Fneu`` makes both estimates too small, so that they rise where frames are averaged first.

    Parameters
    ----------
    F, Fneu
        Traces of ROIs and of their neuropil with a dim ``time``, as ``(roi, time)``; over Dask in
        any chunks. Frames that are not ``valid``, or NaN in either, are passed over. Lazily, all
        of time comes into one chunk (of some ROIs).
    method
        ``"binned"``: the rolling 5th percentile over 60 s is taken off both (of each segment); in
        each of 20 bins of ``Fneu`` between its 10th and 90th percentile, the 5th percentile of
        ``F``, where the cell is silent; r is the slope of the line through these, clipped to 0–2.
        ``"mutualinfo"``: the r of 0, 0.01 … 2 for which ``F − r·Fneu`` and ``Fneu`` have the least
        mutual information, over the geometric mean of their entropies, in 100 bins of each; one of
        1 or more is replaced by the mean of those below 1 (of fewer than 5 by 0.8).
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``; ``"mutualinfo"`` needs none.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    DataArray
        ``neuropil_coefficient``, float64 over the dims but time, one for the whole recording, for
        ``xs2p.extract(neuropil_coefficient=...)``; with the coordinates ``raw``, the estimate as
        it was, and ``flag``: 1 where it was clipped, 2 where it was replaced, 4 where there is no
        estimate and 0.7 is used, as for ROIs without a trace.

    Raises
    ------
    ValueError
        If the traces are none, or not of the same ROIs and frames, the method is unknown, or
        ``fs`` is not known.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois())
    >>> found = neuropil_coefficient(ds.F, ds.Fneu).compute()
    >>> found.dims, float(found.median().round(2)), int((found.flag > 0).sum())
    (('roi',), 1.01, 5)
    """
    explain_names("neuropil_coefficient", neuropil_coefficient, other)
    check_method("method", method)
    for traces in (F, Fneu):
        check_traces(traces, "neuropil_coefficient")
    check_same(F, Fneu, "Fneu")
    rate = resolve("fs", fs, F) if method == "binned" else None
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    found = estimate(F, Fneu, method, rate, device)
    return found.used.assign_coords(raw=found.raw.variable, flag=found.flag.variable)


def check_method(name: str, method: Any) -> None:
    """Raise a ValueError unless an argument is a method that is known."""
    if method not in _BLOCKS:
        of_job = "" if name == "method" else "must be a number, a DataArray over roi, or "
        raise ValueError(f"{name} {of_job}one of {', '.join(_BLOCKS)}; got {method!r}")


def estimate(
    F: xr.DataArray,
    Fneu: xr.DataArray,
    method: str,
    fs: float | None,
    device: str,
    in_passes: bool = False,
) -> Found:
    """:func:`neuropil_coefficient` of what is checked, lazy where ``F`` is unless ``in_passes``."""
    F, Fneu = ordered(F), ordered(Fneu)
    labels = {name: coord for name, coord in F.coords.items() if "time" not in coord.dims}
    F, Fneu = (x.drop_vars(set(x.coords) - {VALID, SEGMENT}) for x in (F, Fneu))
    if method == "binned":
        F, Fneu = (_above_low(traces, fs, device) for traces in (F, Fneu))
    F, Fneu = (traces.drop_vars(SEGMENT, errors="ignore") for traces in (F, Fneu))
    options: dict[str, Any] = {"whole": device != "cpu", "in_passes": in_passes}
    raw = levels_of(_BLOCKS[method], F, beside=[Fneu], dtype=np.float64, **options)[..., 0]
    attrs = {"units": "1", **attributes(method=method, fs=fs)}
    words = f"by xs2p.neuropil_coefficient, method {method!r}."

    def labelled(data: Any, name: str, about: dict[str, Any]) -> xr.DataArray:
        return xr.DataArray(data, labels, F.dims[:-1], name, about)

    return Found(
        labelled(
            _whole(_used, raw, np.float64, method),
            "neuropil_coefficient",
            {
                "long_name": "neuropil coefficient",
                **attrs,
                "description": f"How much of Fneu is taken off F of the ROI, {words}",
            },
        ),
        labelled(
            raw,
            "neuropil_coefficient_raw",
            {
                "long_name": "neuropil coefficient as it was found",
                **attrs,
                "description": f"The estimate, {words} NaN where there is none.",
            },
        ),
        labelled(_whole(_flag, raw, np.uint8, method), "neuropil_flag", FLAG),
    )


def _above_low(F: xr.DataArray, fs: float | None, device: str) -> xr.DataArray:
    """Take the rolling 5th percentile off."""
    low = check_baseline(
        "rolling_prctile", fs, F, win_baseline=_WINDOW, sig_baseline=0.0, prctile_baseline=_LOW
    )
    # The numbers alone: labels over time that are lazy would be compared, and computed for it.
    return F.copy(data=F.data - estimate_baseline(F, low, device).data)


def _whole(work: Callable[..., Any], raw: Any, dtype: Any, method: str) -> Any:
    """Work on the estimates of all ROIs together."""
    if not hasattr(raw, "dask"):
        return work(raw, method)
    return raw.rechunk({raw.ndim - 1: -1}).map_blocks(
        work, method, dtype=dtype, meta=meta(raw, raw.ndim, dtype)
    )


def _used(raw: Any, method: str) -> Any:
    xp = array_module(raw)
    if method == "binned":
        used = xp.clip(raw, 0.0, _MOST)
    else:
        below = raw < 1
        number = below.sum(axis=-1, keepdims=True)
        mean = xp.where(below, raw, 0.0).sum(axis=-1, keepdims=True) / xp.maximum(number, 1)
        used = xp.where(raw >= 1, xp.where(number < _ENOUGH, _FEW, mean), raw)
    return xp.where(xp.isnan(raw), USUAL, used)


def _flag(raw: Any, method: str) -> Any:
    xp = array_module(raw)
    odd, bit = ((raw < 0) | (raw > _MOST), CLIPPED) if method == "binned" else (raw >= 1, REPLACED)
    return (odd * np.uint8(bit) + xp.isnan(raw) * np.uint8(UNKNOWN)).astype(np.uint8)


def _each(find: Callable[[Any, Any], Any], F: Any, Fneu: Any) -> Any:
    """Find a number for each trace ``(…, time)``, of the frames that both have."""
    xp, shape = array_module(F), F.shape[:-1]
    found = []
    for one, around in zip(F.reshape(-1, F.shape[-1]), Fneu.reshape(-1, F.shape[-1]), strict=True):
        kept = xp.isfinite(one) & xp.isfinite(around)
        found.append(find(one[kept].astype(np.float64), around[kept].astype(np.float64)))
    return as_array(xp, found, dtype=np.float64).reshape(shape)


def _binned_block(F: Any, Fneu: Any) -> Any:
    return _each(_slope, F, Fneu)


def _mutualinfo_block(F: Any, Fneu: Any) -> Any:
    return _each(_least_shared, F, Fneu)


_BLOCKS = {"binned": _binned_block, "mutualinfo": _mutualinfo_block}
METHODS = tuple(_BLOCKS)


def _slope(F: Any, Fneu: Any) -> float:
    """Slope of the low edge of ``F`` over ``Fneu``."""
    xp = array_module(F)
    if not F.size:
        return np.nan
    low, high = (float(x) for x in xp.percentile(Fneu, as_array(xp, _ENDS)))
    if not high > low:
        return np.nan
    within = (Fneu >= low) & (Fneu <= high)
    place = xp.minimum((Fneu[within] - low) * (_BINS / (high - low)), _BINS - 1).astype(np.int64)
    traces = F[within]
    ranked = traces[xp.lexsort(xp.stack([traces, place.astype(np.float64)]))]
    number = xp.bincount(place, minlength=_BINS)
    filled = xp.flatnonzero(number)
    if filled.size < 2:
        return np.nan
    number, last = number[filled], xp.cumsum(number)[filled] - 1
    at = (number - 1) * (_LOW / 100)
    whole = xp.floor(at)
    first = last - (number - 1) + whole.astype(np.int64)
    edge, above = ranked[first], ranked[xp.minimum(first + 1, last)]
    edge = edge + (at - whole) * (above - edge)
    middle = (filled + 0.5) * ((high - low) / _BINS)
    apart = middle - middle.mean()
    return float((apart * (edge - edge.mean())).sum() / (apart * apart).sum())


def _least_shared(F: Any, Fneu: Any) -> float:
    """Coefficient for which what is left shares least with ``Fneu``, the first of several."""
    xp = array_module(F)
    if not F.size or not bool(Fneu.max() > Fneu.min()):
        return np.nan
    column, counts = _cells(Fneu), xp.arange(F.size + 1)
    weights = counts * xp.log(xp.maximum(counts, 1))  # n · log n, of as many as there can be
    other = _entropy(xp.bincount(column, minlength=_CELLS), weights)
    shared = xp.empty(_STEPS.size)
    for i, r in enumerate(_STEPS.tolist()):
        left = F - r * Fneu
        if not bool(left.max() > left.min()):
            return r  # nothing is left
        joint = xp.bincount(_cells(left) * _CELLS + column, minlength=_CELLS * _CELLS)
        one = _entropy(joint.reshape(_CELLS, _CELLS).sum(axis=1), weights)
        shared[i] = (one + other - _entropy(joint, weights)) / xp.sqrt(one * other)
    return float(_STEPS[int(xp.argmin(shared))])


def _cells(values: Any) -> Any:
    """Find the bin, of 100 between the least and the largest, that each value is in."""
    low, high = values.min(), values.max()
    xp = array_module(values)
    return xp.minimum((values - low) * (_CELLS / (high - low)), _CELLS - 1).astype(np.int64)


def _entropy(number: Any, weights: Any) -> Any:
    """Entropy in nats of what was counted in bins."""
    total = weights.size - 1
    return (weights[-1] - weights[number].sum()) / total
