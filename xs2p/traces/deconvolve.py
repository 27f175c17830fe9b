"""Spikes from fluorescence: OASIS."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, overload

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_each_roi, check_flag, check_polarity, resolve, restated
from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing
from xs2p._warnings import warn
from xs2p.compute.arrays import unread
from xs2p.compute.device import kernels_on, resolve_device, with_kernels
from xs2p.traces.blocks import check_traces, map_traces, ordered, turned, with_data
from xs2p.traces.indicators import find_indicator
from xs2p.traces.levels import levels_of
from xs2p.traces.noise import noise_of, noise_window
from xs2p.traces.reductions import whole_in_time
from xs2p.traces.sparsity import NOISE, NOT_SPARSE, Sparsity, check_sparsity

_LONG = 60.0  # seconds that no indicator takes to decay
_OASIS, _SPARSE = "xs2p.traces.oasis", "xs2p.traces.sparse"
_MEANS = (
    "Activity from the trace less its baseline by OASIS, by xs2p.deconvolve: how far calcium rises"
    " in a frame above what a decay by tau leaves of it, in the units of the trace; in an ROI it "
    "grows with the number of spikes, as far as the indicator does, but is no count of spikes, no "
    "rate and no probability, noise alone makes small values, ROIs compare only as far as one "
    "spike is as large in each, and the first frame is 0."
)
_FITTED = (
    "Calcium that OASIS fitted to the trace less its baseline, of which spks are the rises, by "
    "xs2p.deconvolve."
)


@overload
def deconvolve(
    F: xr.DataArray,
    *,
    tau: float | str | xr.DataArray | None = None,
    fs: float | None = None,
    s_min: float | xr.DataArray = 0.0,
    penalty: str | float | None = None,
    return_denoised: Literal[False] = False,
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
) -> xr.DataArray: ...
@overload
def deconvolve(
    F: xr.DataArray,
    *,
    tau: float | str | xr.DataArray | None = None,
    fs: float | None = None,
    s_min: float | xr.DataArray = 0.0,
    penalty: str | float | None = None,
    return_denoised: Literal[True],
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
) -> xr.Dataset: ...
@without_other
def deconvolve(
    F: xr.DataArray,
    *,
    tau: float | str | xr.DataArray | None = None,
    fs: float | None = None,
    s_min: float | xr.DataArray = 0.0,
    penalty: str | float | None = None,
    return_denoised: bool = False,
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray | xr.Dataset:
    """Deconvolve traces with OASIS: non-negative, AR(1), by default no sparsity penalty.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, baseline subtracted; over Dask in any
        chunks. Chunks of ``time`` that are short beside ``55 · tau · fs`` frames are joined with
        their neighbours.
    tau
        Decay time of the indicator in seconds: a number, as :func:`xs2p.estimate_tau` finds one; a
        DataArray over ``roi`` with the labels of ``F``; or an indicator's name, as ``"GCaMP8m"``
        (:func:`xs2p.indicators`); by default ``F.attrs["tau"]``.
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``.
    s_min
        The smallest spike, in the units of ``F``: a number, or a DataArray over ``roi``, which is
        computed now, and where it is NaN so are the spikes. Calcium rises by so much or not at all.
        What a frame is can depend on all before it: lazily, all of time comes into one chunk, of
        some ROIs.
    penalty
        ``"noise"``: the sum of spikes is the least by which what is left, ``F`` less the calcium,
        has the variance of the noise, that of :func:`xs2p.noise` of ``F`` in each segment; lazily,
        all of time comes into one chunk. Or a number in the units of ``F``: λ of
        ``½ Σ (F − c)² + λ Σ s`` over the frames that count.
    return_denoised
        Return the calcium that was fitted too.
    polarity
        -1 where activity goes down, as in ``F − xs2p.baseline(F, polarity=-1)``
        (:func:`xs2p.preprocess` has turned it already).
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the
        traces are. The result is where they are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    DataArray
        ``spks``, float32, of the shape of ``F`` with ``time`` last: deconvolved fluorescence
        in the units of ``F``, no spike count. The first frame is 0. Lazy where ``F`` is. Each
        ``segment(time)`` stands by itself. Frames that are not ``valid``, and NaN, have weight 0:
        they are NaN in ``spks``, and the calcium decays over them as over all others.
        With ``return_denoised`` a Dataset of ``spks`` and ``denoised``, float32, of the same shape:
        ``c``, which lies along ``F``, also where that goes down, and is NaN where ``spks`` is.

    Raises
    ------
    ValueError
        If ``tau`` or ``fs`` is not known or not positive, ``fs`` is not the rate of the times, time
        goes back or repeats, ``penalty`` or ``s_min`` do not fit, or the device cannot be used.

    Warns
    -----
    UserWarning
        ``tau · fs`` is below 1, or ``tau`` is above a minute.

    References
    ----------
    Friedrich, Zhou & Paninski (2017), Fast online deconvolution of calcium imaging data,
    PLoS Comput Biol 13(3): e1005423. Without ``penalty`` and ``s_min``, bit for bit what suite2p
    1.1.0 computes, whose calcium may be below 0 where a trace begins; with one of them it never is.

    Examples
    --------
    >>> F = xr.DataArray([[0.0, 1.0, 0.5, 0.25]], dims=("roi", "time"))
    >>> deconvolve(F, tau=1 / np.log(2), fs=1.0).values.round(3).tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    >>> ds = deconvolve(F, tau=1 / np.log(2), fs=1.0, s_min=0.5, return_denoised=True)
    >>> ds.denoised.values.round(3).tolist()
    [[0.0, 1.0, 0.5, 0.25]]
    """
    explain_names("deconvolve", deconvolve, other)
    check_traces(F, "deconvolve")
    check_increasing(F, "F")
    check_polarity(polarity)
    check_flag("return_denoised", return_denoised)
    decay, sparsity = check_decay(tau, fs, F), check_sparsity(penalty, s_min, F)
    if fs is None:
        warn_of_gaps(F, "F")
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    made = activity(turned(F, polarity), decay, device, sparsity, polarity, return_denoised)
    return restated(xr.Dataset(made)) if return_denoised else made["spks"]


class Decay(NamedTuple):
    """How fast the indicator decays, checked."""

    fs: float
    """Hz."""
    frames: np.ndarray
    """Decay time ``tau · fs`` in frames, float32 ``(roi or 1, 1)``."""
    tau: float | None
    """Seconds; None where each ROI has its own."""
    taus: np.ndarray | None
    """Seconds of each ROI, float64, where they have their own."""
    indicator: str | None = None
    """Its name, where ``tau`` was given by it."""

    def of_rois(self, positions: np.ndarray) -> Decay:
        """Keep what is said of some ROIs."""
        if self.taus is None:
            return self
        return self._replace(frames=self.frames[positions], taus=self.taus[positions])


def activity(
    upward: xr.DataArray,
    decay: Decay,
    device: str,
    sparsity: Sparsity = NOT_SPARSE,
    polarity: int = 1,
    denoised: bool = False,
    in_passes: bool = False,
) -> dict[str, xr.DataArray]:
    """:func:`deconvolve` of what is checked, and turned: ``spks`` and, if wanted, ``denoised``.

    ``in_passes``, penalties that are to be found are found now, some ROIs after the others: then
    chunks of time stay as they are.
    """
    apart = in_passes and sparsity.penalty == NOISE
    if sparsity.of_all_time and upward.chunks is not None and not apart:
        upward = ordered(upward)
        upward = with_data(upward, whole_in_time(upward.data))
    own = _per_trace(upward, decay, sparsity, device, in_passes)
    made = {"spks": _estimate_spikes(upward, decay, device, sparsity, own)}
    if denoised:
        c = turned(_estimate_calcium(upward, decay, device, sparsity, own), polarity)
        made["denoised"] = c.rename("denoised")
    return made


def _estimate_spikes(
    F: xr.DataArray, decay: Decay, device: str, sparsity: Sparsity, own: tuple[Any, ...]
) -> xr.DataArray:
    """:func:`deconvolve` of what is checked; ``own`` is what is known of each trace."""
    return as_spikes(_mapped(F, _OASIS_BLOCK[sparsity.wanted], decay, device, sparsity, own))


def as_spikes(spks: xr.DataArray) -> xr.DataArray:
    """Name spikes, and say what they are."""
    spks.attrs |= {"long_name": "deconvolved fluorescence", "description": _MEANS}
    return spks.rename("spks")


def _estimate_calcium(
    F: xr.DataArray, decay: Decay, device: str, sparsity: Sparsity, own: tuple[Any, ...]
) -> xr.DataArray:
    c = _mapped(F, _CALCIUM_BLOCK[sparsity.wanted], decay, device, sparsity, own)
    c.attrs |= {"long_name": "denoised fluorescence", "description": _FITTED}
    return c


def fitted_here(denoised: xr.DataArray) -> bool:
    """Whether :func:`deconvolve` made a ``denoised``, as that says."""
    return bool(denoised.attrs.get("description") == _FITTED)


def _per_trace(
    F: xr.DataArray, decay: Decay, sparsity: Sparsity, device: str, in_passes: bool
) -> tuple[Any, ...]:
    """Find what blocks are given of their traces: decay, and with it penalty and least spike."""
    if not sparsity.wanted:
        return (decay.frames,)
    if sparsity.penalty != NOISE:
        return decay.frames, np.full((1, 1), sparsity.penalty or 0.0), sparsity.least
    found = levels_of(
        _penalty_block,
        F,
        decay.frames,
        dtype=np.float64,
        whole=device != "cpu",
        in_passes=in_passes and F.chunks is not None,
        window=noise_window(decay.fs),
        device=device,
    )
    return decay.frames, found, sparsity.least


def _mapped(
    F: xr.DataArray,
    block: Any,
    decay: Decay,
    device: str,
    sparsity: Sparsity,
    own: tuple[Any, ...],
) -> xr.DataArray:
    """Map a block over traces, and say how it was made."""
    # What an earlier deconvolution used for each ROI is not what this one does.
    F = F.drop_vars(["tau", "s_min"], errors="ignore")
    reach = oasis_reach(decay.frames)
    options: dict[str, Any] = {"reach": reach, "whole": device != "cpu", "device": device}
    made = map_traces(block, F, *own, **options)
    return by_decay(made, F.attrs, decay, device, sparsity)


def by_decay(
    made: xr.DataArray,
    attrs: Mapping[Any, Any],
    decay: Decay,
    device: str,
    sparsity: Sparsity = NOT_SPARSE,
) -> xr.DataArray:
    """Say how what is ``made`` of traces with such attributes was made."""
    old = ("tau", "indicator", "penalty", "s_min")
    kept = {key: value for key, value in attrs.items() if key not in old}
    said = attributes(fs=decay.fs, tau=decay.tau, indicator=decay.indicator)
    said |= sparsity.attrs
    made.attrs = {"units": "1", **with_kernels(kept, device), **said}
    if decay.taus is not None:
        says = {
            "long_name": "decay time of the indicator",
            "units": "s",
            "description": "The tau that spks of the ROI was made with, as it was given.",
        }
        made = made.assign_coords(tau=("roi", decay.taus, says))
    if sparsity.each is not None:
        says = {
            "long_name": "smallest spike",
            "units": made.attrs["units"],
            "description": "The s_min that spks of the ROI was made with, as it was given.",
        }
        made = made.assign_coords(s_min=("roi", sparsity.each, says))
    return made


def oasis_reach(tau_fs: np.ndarray) -> int:
    """How many frames away a frame still matters: what is left of it then is below 2^-53.

    That is 37 decay times; half as many more tell how long a gap is that lies before them.
    """
    return math.ceil(55.5 * float(tau_fs.max(initial=0)))


def check_decay(
    tau: float | str | xr.DataArray | None, fs: float | None, array: xr.DataArray
) -> Decay:
    """Check ``tau`` and ``fs`` for an array over ``roi``, which may say them itself."""
    fs = resolve("fs", fs, array)
    seconds = taus = name = None
    if isinstance(tau, str) and not tau.replace(".", "", 1).isdigit():  # "1.0" is told below
        name, tau = find_indicator(tau)
    if isinstance(tau, xr.DataArray) and tau.ndim:
        _check_taus(tau, array)
        taus = tau.values.astype(np.float64)
        tau_fs = tau.values.astype(np.float32)[:, None] * np.float32(fs)
    else:
        given: Any = tau.values.item() if isinstance(tau, xr.DataArray) else tau
        if given is not None and np.ndim(given):
            raise ValueError(
                f"tau must be a number of seconds, or a DataArray over roi, got a "
                f"{type(given).__name__} of {np.size(given)} numbers; with one for each ROI: "
                'xr.DataArray(tau, dims="roi", coords={"roi": F.roi})'
            )
        seconds = resolve("tau", given, array)
        tau_fs = np.full((1, 1), np.float32(seconds) * np.float32(fs))
    if not (np.isfinite(tau_fs) & (tau_fs > 0)).all():
        raise ValueError(
            f"tau · fs, the decay time in frames, must be a positive number; tau={tau} s and "
            f"fs={fs} Hz leave none in float32"
        )
    longest = float(tau_fs.max(initial=0.0)) / fs
    if longest > _LONG:
        warn(
            f"tau is {longest:g} s, and indicators of calcium decay in tenths of a second to "
            "some seconds: tau is in seconds, not in milliseconds or frames"
        )
    too_fast(float(tau_fs.min(initial=np.inf)) / fs, fs)
    return Decay(fs, tau_fs, seconds, taus, name)


def too_fast(tau: float, fs: float) -> None:
    """Warn where a decay time in s is shorter than a frame."""
    if tau * fs < 1:
        warn(
            f"tau · fs is {tau * fs:.2g} frames ({tau:.3g} s at {fs:g} Hz): what a spike leaves is "
            "gone by the next frame, so that spks are little else than the trace; a number of "
            "seconds, not of milliseconds or frames, is wanted"
        )


def _check_taus(tau: xr.DataArray, F: xr.DataArray) -> None:
    check_each_roi("tau", tau, F)
    values = np.asarray(tau.values, dtype=np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        n = int(np.flatnonzero(~(np.isfinite(values) & (values > 0)))[0])
        label = F["roi"].values[n] if "roi" in F.coords else n
        raise ValueError(
            f"every tau must be a positive number of seconds; it is {values[n]} for roi {label}"
        )


def _of_traces(F: Any, known: Any) -> Any:
    """Shape what is known ``(roi or 1, 1)``, or ``(…, 1)``, of the traces of a block as these."""
    return known[..., 0] if F.ndim > 1 else known.reshape(-1)[0]


def oasis_block(F: Any, tau_fs: np.ndarray, device: str) -> Any:
    """Spikes of a block of traces ``(…, time)``; ``tau_fs`` is ``(roi or 1, 1)``."""
    return kernels_on(device, _OASIS).oasis(F, _of_traces(F, tau_fs))


def _calcium_block(F: Any, tau_fs: np.ndarray, device: str) -> Any:
    return kernels_on(device, _OASIS).calcium(F, _of_traces(F, tau_fs))


def _sparse_block(F: Any, *known: Any, device: str, calcium: bool = False) -> Any:
    """Spikes, or calcium, of a block; known are ``tau_fs``, the penalty and the smallest spike."""
    own = [_of_traces(F, a) for a in known]
    return kernels_on(device, _SPARSE).sparse(F, *own, calcium)


def _penalty_block(F: Any, tau_fs: np.ndarray, window: int, device: str) -> Any:
    sigma = noise_of(F, window, device)
    return kernels_on(device, _SPARSE).penalties(F, _of_traces(F, tau_fs), sigma)


# By whether spikes are to be sparse.
_OASIS_BLOCK = {False: oasis_block, True: _sparse_block}
_CALCIUM_BLOCK = {False: _calcium_block, True: functools.partial(_sparse_block, calcium=True)}
