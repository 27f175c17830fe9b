"""Later steps again, with other parameters, of traces that were extracted before."""

from __future__ import annotations

from typing import Any, NamedTuple

import xarray as xr

from xs2p._attrs import TRACES, UNFINISHED, check_number, parameters_in, resolve, restated
from xs2p._names import explain_names, same_as, without_other
from xs2p._warnings import warn
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.pipeline.regions import RUN
from xs2p.traces.baseline_methods import (
    METHODS,
    USED_BY,
    Baseline,
    check_baseline,
    estimate_baseline,
)
from xs2p.traces.deconvolve import Decay, check_decay, estimate_spikes
from xs2p.traces.neuropil import correct
from xs2p.traces.quality import skew, snr, std


class _Plan(NamedTuple):
    """What is made anew; None is what stays, or is not there."""

    coefficient: float | None
    baseline: Baseline | None
    decay: Decay | None


_STATISTICS = {"snr": snr, "skew": skew, "std": std}
_OF_BASELINE = {
    "baseline": "maximin",
    "win_baseline": 60.0,
    "sig_baseline": 10.0,
    "prctile_baseline": 8.0,
}


@without_other
def reprocess(
    ds: xr.Dataset,
    *,
    neuropil_coefficient: float | None = None,
    baseline: str | None = None,
    win_baseline: float | None = None,
    sig_baseline: float | None = None,
    prctile_baseline: float | None = None,
    tau: float | xr.DataArray | None = None,
    fs: float | None = None,
    device: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Redo the steps after extraction with other parameters; the movie is not needed.

    What depends on a parameter that changes is redone, and nothing else: ``Fc`` of
    ``neuropil_coefficient``; ``F0`` of ``Fc`` and the baseline's; ``spks`` of both and ``tau``.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)``: of :func:`xs2p.extract`, of a store that was opened, of
        :func:`xs2p.read_suite2p` or :func:`xs2p.read_nwb`; lazy or not. ``F``, and ``Fneu`` where
        there is one, are needed where ``Fc`` is to be made.
    neuropil_coefficient
        ``Fc = F − neuropil_coefficient · Fneu``.
    baseline, win_baseline, sig_baseline, prctile_baseline
        Method, window in seconds, Gaussian in frames, percentile: see :func:`xs2p.baseline`.
    tau
        Decay time of the indicator in seconds, a number or a DataArray over ``roi``. Where ``ds``
        has no ``spks``, they are made if it is given.
    fs
        Frame rate in Hz, where ``ds`` does not say it.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``; by default where the traces are.

    Returns
    -------
    Dataset
        As ``ds``, with ``Fc``, ``F0`` and ``spks`` by the parameters given, and else by those that
        the variables' own attributes say (the baseline's defaults where there was none); float32,
        lazy where ``ds`` is. The coordinates ``snr``, ``skew`` and ``std``, those that are there,
        are of the new ``Fc``. The attributes of the Dataset are made of its variables'. What else
        was made of the old traces, ``dFF``, is left out with a warning.

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
    }
    _check_traces(ds)
    known = parameters_in(ds)
    fs = _rate(ds, fs, known.get("fs"))
    first = ds["F" if "F" in ds else "Fc"]
    device = resolve_device(device, unread(first), "the array of traces")
    plan = _planned(
        ds,
        first.assign_attrs({} if fs is None else {"fs": fs}),
        given,
        known,
        (neuropil_coefficient, tau),
    )
    if fs is not None:
        own = [name for name in TRACES if name in ds.data_vars]
        ds = ds.assign({name: ds[name].assign_attrs(fs=fs) for name in own})
    new = _redone(ds, plan, device)
    if plan.coefficient is not None and plan.coefficient != known.get("neuropil_coefficient"):
        new = _with_statistics(new)
    if plan.baseline is not None and "dFF" in new:
        warn("dFF is left out: it was made of the traces as they were; make it anew of Fc and F0")
        new = new.drop_vars("dFF")
    new = restated(new)
    new.attrs.pop(RUN, None)  # tells how the store that was opened was made
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
    if UNFINISHED in ds.attrs:
        raise ValueError(f"reprocess: the traces are not complete: {ds.attrs[UNFINISHED]}")


def _rate(ds: xr.Dataset, fs: float | None, known: float | None) -> float | None:
    """Return the frame rate, compared with the time of the frames where that is in seconds."""
    fs = known if fs is None else fs
    if fs is None:
        return None
    return resolve("fs", None, ds["F" if "F" in ds else "Fc"].assign_attrs(fs=fs))


def _planned(
    ds: xr.Dataset,
    first: xr.DataArray,
    given: dict[str, Any],
    known: dict[str, Any],
    others: tuple[float | None, float | xr.DataArray | None],
) -> _Plan:
    """Check all that is given, and find what has to be made anew; ``first`` says ``fs``."""
    coefficient = _coefficient(ds, others[0], known.get("neuropil_coefficient"))
    said = {"fs": first.attrs.get("fs")}
    if coefficient is not None and "Fneu" in ds:
        said["neuropil_coefficient"] = coefficient
    elif "Fc" in ds:
        said["neuropil_coefficient"] = ds["Fc"].attrs.get("neuropil_coefficient")
    how = _baseline(ds, first, given, known, said if coefficient is None else None)
    if "F0" in ds:
        said = {name: ds["F0"].attrs.get(name) for name in _OF_BASELINE} | said
    return _Plan(coefficient, how, _decay(ds, first, others[1], known, said, how is not None))


def _coefficient(ds: xr.Dataset, given: float | None, known: float | None) -> float | None:
    """Neuropil coefficient of the new ``Fc``; None where that stays, 0 without neuropil."""
    if given is not None:
        check_number("neuropil_coefficient", given)
        if "Fneu" not in ds:
            raise ValueError(
                f"neuropil_coefficient={given!r} plays no part: ds has no Fneu to take off; leave "
                "it out, or extract anew with neuropil_extract=True"
            )
    if "Fc" in ds and given in (None, known):
        return None
    if "F" not in ds:
        raise ValueError("Fc has to be made anew of F and Fneu, and ds has no F")
    if "Fneu" not in ds:
        return 0.0
    if given is None and known is None:
        raise ValueError(
            "how much of Fneu to take off is not known: give neuropil_coefficient, 0.7 in suite2p"
        )
    return float(known if given is None else given)  # type: ignore[arg-type]


def _baseline(
    ds: xr.Dataset,
    first: xr.DataArray,
    given: dict[str, Any],
    known: dict[str, Any],
    said: dict[str, Any] | None,
) -> Baseline | None:
    """How ``F0`` is to be made; None where it stays. ``said`` of ``Fc``, None where that is new."""
    wanted = {name: value for name, value in given.items() if value is not None}
    old = ds["F0"].attrs if "F0" in ds else {}
    if "F0" in ds and "baseline" not in {**known, **wanted}:
        if said is not None and not wanted:
            return None
        raise ValueError(
            "F0 has to be made anew, and its attributes do not say by which method it was made: "
            "give baseline=, as in baseline='maximin'"
        )
    chosen = {name: known.get(name, value) for name, value in _OF_BASELINE.items()} | wanted
    for name in wanted:
        users = USED_BY.get(name, (chosen["baseline"],))
        if chosen["baseline"] not in users and chosen["baseline"] in METHODS:
            raise ValueError(
                f"{name}={wanted[name]!r} plays no part in the baseline {chosen['baseline']!r}; "
                f"give baseline= too, one of {', '.join(users)}"
            )
    how = check_baseline(chosen.pop("baseline"), None, first, **chosen)
    if "F0" not in ds or said is None:
        return how
    told = {**dict.fromkeys(_OF_BASELINE), **how.attrs}
    told["neuropil_coefficient"] = said.get("neuropil_coefficient")
    del told["xs2p_version"]
    return how if any(old.get(name) != value for name, value in told.items()) else None


def _decay(
    ds: xr.Dataset,
    first: xr.DataArray,
    tau: float | xr.DataArray | None,
    known: dict[str, Any],
    said: dict[str, Any],
    anew: bool,
) -> Decay | None:
    """How ``spks`` are to be made of ``anew`` or old traces; None where they stay or are not."""
    if tau is None and "spks" not in ds:
        return None
    old = ds["spks"].attrs if "spks" in ds else {}
    each = ds["tau"] if "tau" in ds.coords and ds["tau"].dims == ("roi",) else None
    silent = each is None and "tau" not in known
    if tau is None:
        tau = each if each is not None else known.get("tau")
    if tau is None:
        if not anew:
            return None
        raise ValueError(
            "spks have to be made anew, and their attributes do not say with which tau they were "
            "made: give tau in seconds, or leave them out with ds.drop_vars('spks')"
        )
    decay = check_decay(tau, None, first)
    same = "spks" in ds and not anew and not silent
    same &= all(old.get(name, said[name]) == said[name] for name in said)
    if decay.taus is None:
        same &= each is None and old.get("tau", known.get("tau")) == decay.tau
    else:
        same &= each is not None and bool((each.values == decay.taus).all())
    return None if same else decay


def _redone(ds: xr.Dataset, plan: _Plan, device: str) -> xr.Dataset:
    """Make ``Fc``, ``F0`` and ``spks`` by the plan."""
    if plan.coefficient is not None:
        ds = ds.assign(Fc=correct(ds, plan.coefficient))
    if plan.baseline is not None:
        ds = ds.assign(F0=estimate_baseline(ds["Fc"], plan.baseline, device))
    if plan.decay is None:
        return ds
    F0 = ds["F0"]
    spks = estimate_spikes((ds["Fc"] - F0).assign_attrs(F0.attrs), plan.decay, device)
    return ds.drop_vars("tau", errors="ignore").assign(spks=spks)


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
