"""Later steps again, with other parameters, of traces that were extracted before."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xs2p._attrs import (
    HISTORY,
    TRACES,
    check_complete,
    coefficient_in,
    parameters_in,
    resolve,
    restated,
)
from xs2p._frames import with_frames
from xs2p._names import explain_names, same_as, without_other
from xs2p._warnings import warn
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.pipeline.dff import relative
from xs2p.pipeline.plan import Plan, planned
from xs2p.pipeline.quality import OF_TRACES
from xs2p.pipeline.regions import RUN
from xs2p.pipeline.spikes import activity_in, baseline_and_activity
from xs2p.traces.baseline_methods import estimate_baseline
from xs2p.traces.neuropil import with_corrected
from xs2p.traces.quality import skew, snr, std

_STATISTICS = {"snr": snr, "skew": skew, "std": std}


@without_other
def reprocess(
    ds: xr.Dataset,
    *,
    neuropil_coefficient: float | str | xr.DataArray | None = None,
    neuropil: str | None = None,
    dark_offset: float | xr.DataArray | None = None,
    valid: Any = None,
    segments: Any = None,
    baseline: str | None = None,
    win_baseline: float | None = None,
    sig_baseline: float | None = None,
    prctile_baseline: float | None = None,
    detrend: str | None = None,
    polarity: int | None = None,
    tau: float | str | xr.DataArray | None = None,
    dff: bool | None = None,
    s_min: float | xr.DataArray | None = None,
    penalty: str | float | None = None,
    denoised: bool | None = None,
    fs: float | None = None,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Redo the steps after extraction with other parameters; the movie is not needed.

    What depends on a parameter that changes is redone, and nothing else: ``Fc`` of the neuropil's;
    ``F0`` of ``Fc`` and the baseline's; ``spks``, and ``denoised`` where there is one, of both and
    ``tau``, ``s_min`` and ``penalty``; ``dFF`` of ``Fc`` and ``F0``.
    Other frames that count, or segments, change all of these.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)``: of :func:`xs2p.extract`, of a store that was opened, of
        :func:`xs2p.read_suite2p` or :func:`xs2p.read_nwb`; lazy or not. ``F``, and ``Fneu`` where
        there is one, are needed where ``Fc`` is to be made.
    neuropil_coefficient, neuropil, dark_offset
        How ``Fc`` is made: see :func:`xs2p.extract`.
    valid, segments
        Which frames count, and to which session each belongs: see :func:`xs2p.extract`. By default
        what the coordinates say.
    baseline, win_baseline, sig_baseline, prctile_baseline, detrend
        Method, window in seconds, Gaussian in frames, percentile, bleaching (``"none"`` leaves out
        one that was): see :func:`xs2p.baseline`.
    polarity
        1, or -1 for an indicator that darkens with activity.
    tau
        Decay time of the indicator in seconds, a number or a DataArray over ``roi``, or its name
        (:func:`xs2p.indicators`). Where ``ds`` has no ``spks``, they are made if it is given.
    dff
        Whether there is to be ``dFF``, with ``noise`` and ``dff_flag``: see :func:`xs2p.dff`. By
        default where there is one.
    s_min, penalty
        How sparse spikes are: see :func:`xs2p.deconvolve`; 0 and ``"none"`` leave out what was. One
        that is given takes the place of the other.
    denoised
        Whether there is to be the calcium that was fitted. By default where there is one.
    fs
        Frame rate in Hz, where ``ds`` does not say it.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    Dataset
        As ``ds``, with ``Fc``, ``F0``, ``spks``, ``denoised`` and ``dFF`` by the parameters given,
        and else by those that the variables' own attributes say (the baseline's defaults where
        there was none); float32, lazy where ``ds`` is. The coordinates ``snr``, ``skew`` and
        ``std``, those that are there, are of the new ``Fc``. The attributes of the Dataset are made
        of its variables'. A ``dFF`` or ``denoised`` of another program is left out with a warning
        where it would not fit, and so are measures of :func:`xs2p.quality` of traces that are made
        anew.

    Raises
    ------
    ValueError
        If a parameter is out of range or plays no part, or what is needed is not there or not
        known; before any work starts.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> ds = reprocess(ds, neuropil_coefficient=0.5, baseline="prctile")
    >>> ds.attrs["neuropil_coefficient"], ds.spks.attrs["baseline"], ds.spks.attrs["tau"]
    (0.5, 'prctile', 1.0)
    """
    baseline = same_as("baseline", baseline, None, "method", other)
    explain_names("reprocess", reprocess, other)
    given = {
        "baseline": baseline,
        "win_baseline": win_baseline,
        "sig_baseline": sig_baseline,
        "prctile_baseline": prctile_baseline,
        "detrend": detrend,
        "polarity": polarity,
    }
    of_neuropil = {
        "neuropil_coefficient": neuropil_coefficient,
        "neuropil": neuropil,
        "dark_offset": dark_offset,
    }
    _check_traces(ds)
    frames_anew = valid is not None or segments is not None
    if frames_anew:
        ds = with_frames(ds, valid, segments)
    known = parameters_in(ds)
    fs = _rate(ds, fs, known.get("fs"))
    first = ds["F" if "F" in ds else "Fc"]
    device = resolve_device(device, unread(first), "the array of traces", kernels)
    first = first.assign_attrs({} if fs is None else {"fs": fs})
    of_spikes = {"tau": tau, "s_min": s_min, "penalty": penalty, "denoised": denoised}
    plan = planned(ds, first, given, of_neuropil, known, of_spikes, dff, frames_anew)
    if fs is not None:
        own = [name for name in TRACES if name in ds.data_vars]
        ds = ds.assign({name: ds[name].assign_attrs(fs=fs) for name in own})
    if plan.traces_differ or plan.baseline is not None:
        ds = _without_measures(ds)
    new = _redone(ds, plan, device)
    if plan.traces_differ:
        new = _with_statistics(new)
    new = restated(new)
    for tells_of_the_store in (RUN, HISTORY):
        new.attrs.pop(tells_of_the_store, None)
    return new


def _check_traces(ds: Any) -> None:
    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"reprocess takes a Dataset of traces, got {type(ds).__name__}; xs2p.extract(movie, "
            "rois, ...) makes one, xs2p.read_suite2p(folder) reads one"
        )
    has = [n for n in ("F", "Fc") if n in ds and {"roi", "time"} <= set(ds[n].dims)]
    if not has or ds.sizes["time"] == 0:
        raise ValueError(
            "reprocess needs F or Fc over roi and time, of one frame or more; the Dataset has "
            f"{sorted(map(str, ds.data_vars))} of sizes {dict(ds.sizes)}"
        )
    check_complete(ds, "reprocess")


def _rate(ds: xr.Dataset, fs: float | None, known: float | None) -> float | None:
    """Return the frame rate, compared with the time of the frames where that is in seconds."""
    fs = known if fs is None else fs
    if fs is None:
        return None
    return resolve("fs", None, ds["F" if "F" in ds else "Fc"].assign_attrs(fs=fs))


def _redone(ds: xr.Dataset, plan: Plan, device: str) -> xr.Dataset:
    """Make ``Fc``, ``F0``, ``spks``, ``denoised`` and ``dFF`` by the plan."""
    if plan.neuropil is not None:
        ds = ds.drop_vars("dark_offset", errors="ignore")
        ds = with_corrected(ds, plan.neuropil, device)
    how = plan.spikes
    made: dict[str, xr.DataArray] = {}
    if plan.baseline is not None and how is not None:
        options = (how.decay, how.sparsity, device, how.denoised)
        made = baseline_and_activity(ds, plan.baseline, *options)
        ds = ds.assign(F0=made.pop("F0"))
    elif plan.baseline is not None:
        ds = ds.assign(F0=estimate_baseline(ds["Fc"], plan.baseline, device))
    elif how is not None:
        made = activity_in(ds, how.decay, how.sparsity, device, how.denoised)
    polarity = int(ds["F0"].attrs.get("polarity", 1)) if "F0" in ds else 1
    if plan.without_denoised:
        ds = ds.drop_vars("denoised")
    if how is not None and how.stay:
        ds = ds.assign(denoised=made["denoised"])
    elif how is not None:
        ds = ds.drop_vars(["tau", "s_min"], errors="ignore").assign(made)
    if plan.without_dff:
        ds = ds.drop_vars(["dFF", "noise", "dff_flag"], errors="ignore")
    if plan.dff_rate is not None:
        ds = ds.drop_vars(["noise", "dff_flag"], errors="ignore")
        ds = ds.assign(relative(ds, plan.dff_rate, polarity, coefficient_in(ds), device))
    return ds


def _without_measures(ds: xr.Dataset) -> xr.Dataset:
    """Leave out what `quality` found of the traces as they were."""
    anew = {*_STATISTICS, *(["noise"] if "dFF" in ds else [])}
    stale = [name for name in OF_TRACES if name in ds.variables and name not in anew]
    if "skew" in ds.variables and "polarity" in ds["skew"].attrs:
        stale.append("skew")
    if stale:
        warn(
            f"{', '.join(stale)}: left out, for the traces they were of are made anew; "
            "ds.assign(ds.s2p.quality()) finds them of the new ones"
        )
    return ds.drop_vars(stale)


def _with_statistics(ds: xr.Dataset) -> xr.Dataset:
    """Find the statistics that ``ds`` has anew, of ``Fc``."""
    for name, statistic in _STATISTICS.items():
        if name in ds.variables:
            found = statistic(ds["Fc"]).astype(ds[name].dtype)
            variable = xr.Variable(found.dims, found.data, found.attrs)
            in_coords = name in ds.coords
            ds = ds.drop_vars(name).assign({name: variable})
            ds = ds.set_coords(name) if in_coords else ds
    return ds
