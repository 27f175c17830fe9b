"""Spikes from fluorescence: OASIS."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes, check_polarity, resolve
from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing
from xs2p._warnings import warn
from xs2p.compute.arrays import unread
from xs2p.compute.device import kernels_on, resolve_device, with_kernels
from xs2p.traces.blocks import check_traces, map_traces, turned

_LONG = 60.0  # seconds that no indicator takes to decay


@without_other
def deconvolve(
    F: xr.DataArray,
    *,
    tau: float | xr.DataArray | None = None,
    fs: float | None = None,
    polarity: int = 1,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.DataArray:
    """Deconvolve traces with OASIS: non-negative, AR(1), no sparsity penalty.

    Parameters
    ----------
    F
        Traces with a dim ``time``, as ``(roi, time)``, baseline subtracted; over Dask in any
        chunks. Chunks of ``time`` that are short beside ``55 · tau · fs`` frames are joined with
        their neighbours.
    tau
        Decay time of the indicator in seconds: a number, or a DataArray over ``roi`` with the
        labels of ``F``; by default ``F.attrs["tau"]``.
    fs
        Frame rate in Hz; by default ``F.attrs["fs"]``.
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

    Raises
    ------
    ValueError
        If ``tau`` or ``fs`` is not known or not positive, ``fs`` is not the rate of the times, time
        goes back or repeats, or the device cannot be used.

    References
    ----------
    Friedrich, Zhou & Paninski (2017), Fast online deconvolution of calcium imaging data,
    PLoS Comput Biol 13(3): e1005423. Bit for bit what suite2p 1.1.0 computes.

    Examples
    --------
    >>> F = xr.DataArray([[0.0, 1.0, 0.5, 0.25]], dims=("roi", "time"))
    >>> deconvolve(F, tau=1 / np.log(2), fs=1.0).values.round(3).tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """
    explain_names("deconvolve", deconvolve, other)
    check_traces(F, "deconvolve")
    check_increasing(F, "F")
    check_polarity(polarity)
    decay = check_decay(tau, fs, F)
    if fs is None:
        warn_of_gaps(F, "F")
    device = resolve_device(device, unread(F), "the array of traces", kernels)
    return estimate_spikes(turned(F, polarity), decay, device)


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

    def of_rois(self, positions: np.ndarray) -> Decay:
        """Keep what is said of some ROIs."""
        if self.taus is None:
            return self
        return self._replace(frames=self.frames[positions], taus=self.taus[positions])


def estimate_spikes(F: xr.DataArray, decay: Decay, device: str) -> xr.DataArray:
    """:func:`deconvolve` of what is checked."""
    # A decay time for each ROI that an earlier deconvolution used is not that of this one.
    F = F.drop_vars("tau", errors="ignore")
    spks = map_traces(
        _oasis_block,
        F,
        decay.frames,
        reach=oasis_reach(decay.frames),
        whole=device != "cpu",
        device=device,
    )
    kept = {key: value for key, value in F.attrs.items() if key != "tau"}
    spks.attrs = {
        "units": "a.u.",
        **with_kernels(kept, device),
        "long_name": "deconvolved fluorescence",
        "description": "Activity from the trace less its baseline by OASIS, no count of spikes, by "
        "xs2p.deconvolve.",
        **attributes(fs=decay.fs, tau=decay.tau),
    }
    if decay.taus is not None:
        attrs = {
            "long_name": "decay time of the indicator",
            "units": "s",
            "description": "The tau that spks of the ROI was made with, as it was given.",
        }
        spks = spks.assign_coords(tau=("roi", decay.taus, attrs))
    return spks.rename("spks")


def oasis_reach(tau_fs: np.ndarray) -> int:
    """How many frames away a frame still matters: what is left of it then is below 2^-53.

    That is 37 decay times; half as many more tell how long a gap is that lies before them.
    """
    return math.ceil(55.5 * float(tau_fs.max(initial=0)))


def check_decay(tau: float | xr.DataArray | None, fs: float | None, array: xr.DataArray) -> Decay:
    """Check ``tau`` and ``fs`` for an array over ``roi``, which may say them itself."""
    fs = resolve("fs", fs, array)
    seconds = taus = None
    if isinstance(tau, xr.DataArray) and tau.ndim:
        _check_taus(tau, array)
        taus = tau.values.astype(np.float64)
        tau_fs = tau.values.astype(np.float32)[:, None] * np.float32(fs)
    else:
        given = tau.item() if isinstance(tau, xr.DataArray) else tau
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
    return Decay(fs, tau_fs, seconds, taus)


def _check_taus(tau: xr.DataArray, F: xr.DataArray) -> None:
    if tau.dims != ("roi",) or "roi" not in F.dims or tau.sizes["roi"] != F.sizes["roi"]:
        raise ValueError(
            f"tau must be a number or have one value per roi ({F.sizes.get('roi')}); it has "
            f"sizes {dict(tau.sizes)}"
        )
    if {"roi"} <= set(tau.indexes) & set(F.indexes) and not tau.indexes["roi"].equals(
        F.indexes["roi"]
    ):
        raise ValueError(
            "the roi labels of tau are not those of the traces; tau.reindex_like(F.roi) or "
            "tau.drop_vars('roi') says what is meant"
        )
    values = np.asarray(tau.values, dtype=np.float64)
    if not (np.isfinite(values) & (values > 0)).all():
        n = int(np.flatnonzero(~(np.isfinite(values) & (values > 0)))[0])
        label = F["roi"].values[n] if "roi" in F.coords else n
        raise ValueError(
            f"every tau must be a positive number of seconds; it is {values[n]} for roi {label}"
        )


def _oasis_block(F: Any, tau_fs: np.ndarray, device: str) -> Any:
    """Spikes of a block of traces ``(…, time)``; ``tau_fs`` is ``(roi or 1, 1)``."""
    oasis = kernels_on(device, "xs2p.traces.oasis").oasis
    return oasis(F, tau_fs[:, 0] if F.ndim > 1 else tau_fs[0, 0])
