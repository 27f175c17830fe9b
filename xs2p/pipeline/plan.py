"""What has to be made anew of traces, when parameters change."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import COEFFICIENT, check_flag, coefficient_in, resolve
from xs2p._warnings import warn
from xs2p.traces.baseline_methods import METHODS, USED_BY, Baseline, check_baseline
from xs2p.traces.deconvolve import Decay, check_decay, fitted_here
from xs2p.traces.dff import made_here
from xs2p.traces.neuropil import Neuropil, check_neuropil
from xs2p.traces.sparsity import Sparsity, check_sparsity

_OF_BASELINE = {
    "baseline": "maximin",
    "win_baseline": 60.0,
    "sig_baseline": 10.0,
    "prctile_baseline": 8.0,
    "detrend": None,
    "polarity": 1,
}


class Spikes(NamedTuple):
    """How spikes are made."""

    decay: Decay
    sparsity: Sparsity
    denoised: bool
    """Whether the calcium that is fitted is made, too."""
    stay: bool
    """Whether the spikes that are there are these."""


class Plan(NamedTuple):
    """What is made anew; None is what stays, or is not there."""

    neuropil: Neuropil | None
    baseline: Baseline | None
    spikes: Spikes | None
    without_denoised: bool
    """Whether the fitted calcium that is there goes."""
    dff_rate: float | None
    """Frame rate that ``dFF`` is made with."""
    without_dff: bool
    """Whether the one that is there goes."""
    traces_differ: bool
    """Whether statistics of ``Fc`` are other ones now."""


def planned(
    ds: xr.Dataset,
    first: xr.DataArray,
    of_baseline: dict[str, Any],
    of_neuropil: dict[str, Any],
    known: dict[str, Any],
    of_spikes: dict[str, Any],
    dff: bool | None,
    frames_anew: bool,
) -> Plan:
    """Check all that is given, and find what has to be made anew; ``first`` says ``fs``."""
    neuropil = _neuropil(ds, of_neuropil, known, frames_anew)
    said = {"fs": first.attrs.get("fs")}
    if neuropil is not None and "Fneu" in ds:
        said["neuropil_coefficient"] = neuropil.coefficient
    elif "Fc" in ds:
        said["neuropil_coefficient"] = ds["Fc"].attrs.get("neuropil_coefficient")
    stays = neuropil is None and not frames_anew
    how = _baseline(ds, first, of_baseline, known, said if stays else None)
    if "F0" in ds:
        said = {name: ds["F0"].attrs.get(name) for name in _OF_BASELINE} | said
    spikes = _spikes(ds, first, of_spikes, known, said, how is not None)
    stale = "denoised" in ds and (spikes is not None or of_spikes["denoised"] is False)
    rate, without = _of_dff(ds, first, dff, how is not None)
    other = neuropil is not None and (
        neuropil.own
        or COEFFICIENT in ds.variables
        or any(
            known.get(name) != value
            for name, value in (dict.fromkeys(_SAID) | neuropil.attrs).items()
        )
    )
    no_calcium = stale and not (spikes is not None and spikes.denoised)
    return Plan(neuropil, how, spikes, no_calcium, rate, without, other or frames_anew)


_SAID = ("neuropil_coefficient", "neuropil", "dark_offset")


def _neuropil(
    ds: xr.Dataset, given: dict[str, Any], known: dict[str, Any], frames_anew: bool
) -> Neuropil | None:
    """How ``Fc`` is made anew; None where it stays."""
    coefficient = given["neuropil_coefficient"]
    way = given["neuropil"] or known.get("neuropil", "full")
    dark = given["dark_offset"]
    if dark is None:
        dark = ds["dark_offset"] if "dark_offset" in ds.coords else known.get("dark_offset", 0.0)
        dark = 0.0 if way == "full" else dark
    demixed = known.get("method") == "demix"
    if demixed and not (coefficient is None or _is_one(coefficient)):
        shown = "a DataArray" if isinstance(coefficient, xr.DataArray) else repr(coefficient)
        raise ValueError(
            f"neuropil_coefficient={shown}: the traces were demixed, and their Fneu is the "
            "background that was fitted beneath the ROI, all of which is to be taken off; leave it "
            "out"
        )
    if demixed and coefficient_in(ds) is None:
        coefficient = 1.0
    first = ds["F" if "F" in ds else "Fc"]
    how, used = _with_coefficient(ds, coefficient, way, dark, first, frames_anew)
    if coefficient is not None and "Fneu" not in ds:
        shown = "a DataArray" if isinstance(coefficient, xr.DataArray) else repr(coefficient)
        raise ValueError(
            f"neuropil_coefficient={shown} plays no part: ds has no Fneu to take off; "
            "leave it out, or extract anew with neuropil_extract=True"
        )
    moved = frames_anew and (way == "centred" or how.method is not None)
    if "Fc" in ds and not moved and _as_it_was(how, ds, known, given):
        return None
    if "F" not in ds:
        raise ValueError("Fc has to be made anew of F and Fneu, and ds has no F")
    if "Fneu" not in ds:
        return how._replace(coefficient=0.0, each=None, method=None)
    if not used:
        raise ValueError(
            "how much of Fneu to take off is not known: give neuropil_coefficient, 0.7 in suite2p"
        )
    if how.method != "binned":
        return how
    fs = first.attrs.get("fs", known.get("fs"))
    return how._replace(fs=resolve("fs", fs, first))


def _is_one(coefficient: Any) -> bool:
    return not isinstance(coefficient, xr.DataArray | str) and coefficient == 1


def _with_coefficient(
    ds: xr.Dataset, given: Any, way: Any, dark: Any, first: xr.DataArray, frames_anew: bool
) -> tuple[Neuropil, bool]:
    """How ``Fc`` is made, by what is given or else as it was, and whether the coefficient is known.

    Of other frames an estimate is another one.
    """
    used = coefficient_in(ds) if given is None else given
    if given is not None or not isinstance(used, xr.DataArray):
        return check_neuropil(0.0 if used is None else used, way, dark, first), used is not None
    method = used.attrs.get("method")
    if method is not None and frames_anew and COEFFICIENT in ds.data_vars:
        return check_neuropil(method, way, dark, first), True
    how = check_neuropil(0.0, way, dark, first)
    return how._replace(coefficient=None, each=used, stays=True), True


def _as_it_was(how: Neuropil, ds: xr.Dataset, known: dict[str, Any], given: dict[str, Any]) -> bool:
    """Whether ``Fc`` was made this way, so far as anything is given."""
    if given[COEFFICIENT] is not None and not _same_coefficient(how, coefficient_in(ds)):
        return False
    if how.way != known.get("neuropil", "full"):
        return False
    each = ds["dark_offset"].values if "dark_offset" in ds.coords else None
    if how.darks is None or each is None:
        return how.darks is each is None and how.dark == known.get("dark_offset", 0.0)
    return np.array_equal(how.darks, each)


def _same_coefficient(how: Neuropil, used: float | xr.DataArray | None) -> bool:
    """Whether what is asked for is what was used; one that is to be estimated is made anew."""
    if not isinstance(used, xr.DataArray):
        return how.coefficient is not None and how.coefficient == used
    if how.each is None or used.chunks is not None:
        return False
    return np.array_equal(how.each.values, used.values)


def _of_dff(
    ds: xr.Dataset, first: xr.DataArray, wanted: bool | None, anew: bool
) -> tuple[float | None, bool]:
    """Frame rate to make ``dFF`` anew with, or None, and whether the one that is there goes."""
    if wanted is not None:
        check_flag("dff", wanted)
    there = "dFF" in ds
    ours = there and made_here(ds["dFF"])
    if wanted is None and there and anew and not ours:
        warn(
            "dFF is left out: another program made it, of the traces as they were; dff=True makes "
            "one of those that are made now"
        )
        return None, True
    if wanted is False:
        return None, there
    if not there and not wanted or (not ours and wanted is None):
        return None, False
    if ours and not anew:
        return None, False
    return resolve("fs", None, first), False


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


def _spikes(
    ds: xr.Dataset,
    first: xr.DataArray,
    given: dict[str, Any],
    known: dict[str, Any],
    said: dict[str, Any],
    anew: bool,
) -> Spikes | None:
    """How ``spks`` are to be made of ``anew`` or old traces; None where they stay or are not."""
    tau, denoised = given["tau"], given["denoised"]
    if denoised is not None:
        check_flag("denoised", denoised)
    asked = [n for n in ("s_min", "penalty") if given[n] is not None] + ["denoised"] * bool(
        denoised
    )
    if tau is None and "spks" not in ds:
        if asked:
            raise ValueError(
                f"{asked[0]} plays no part: ds has no spks; give tau in seconds too, and they are "
                "made"
            )
        return None
    each = ds["tau"] if "tau" in ds.coords and ds["tau"].dims == ("roi",) else None
    silent = each is None and "tau" not in known
    if tau is None:
        tau = each if each is not None else known.get("tau")
    if tau is None:
        if not (anew or asked):
            return None
        raise ValueError(
            "spks have to be made anew, and their attributes do not say with which tau they were "
            "made: give tau in seconds, or leave them out with ds.drop_vars('spks')"
        )
    decay = check_decay(tau, None, first)
    old = ds["spks"].attrs if "spks" in ds else {}
    same = "spks" in ds and not anew and not silent
    same &= all(old.get(name, said[name]) == said[name] for name in said)
    if decay.taus is None:
        same &= each is None and old.get("tau", known.get("tau")) == decay.tau
    else:
        same &= each is not None and bool((each.values == decay.taus).all())
    sparsity = _sparsity(ds, first, given, known, same)
    same &= sparsity is None or _as_sparse(sparsity, ds, known)
    there = "denoised" in ds
    if there and not same and denoised is None and not fitted_here(ds["denoised"]):
        warn(
            "denoised is left out: another program made it, of the traces as they were; "
            "denoised=True makes one of those that are made now"
        )
        denoised = there = False
    wanted = there if denoised is None else bool(denoised)
    if sparsity is None or (same and (there or not wanted)):
        return None
    return Spikes(decay, sparsity, wanted, same)


def _sparsity(
    ds: xr.Dataset, first: xr.DataArray, given: dict[str, Any], known: dict[str, Any], same: bool
) -> Sparsity | None:
    """How sparse spikes are to be: as they were, but for what is given; None where they stay.

    A penalty takes the place of a smallest spike, and the other way round.
    """
    s_min, penalty = given["s_min"], given["penalty"]
    none = isinstance(penalty, str) and penalty == "none"
    keeps = s_min is None and (penalty is None or none)
    if penalty is None and (s_min is None or not np.any(s_min)):
        penalty = known.get("penalty")
    if keeps:
        s_min = ds["s_min"] if _of_each_roi(ds) else known.get("s_min", 0.0)
    if keeps and isinstance(s_min, str):  # that of each ROI, which is not there any more
        if same and not given["denoised"]:
            return None
        raise ValueError(
            "spks have to be made anew, and were made with an s_min of each ROI that ds does not "
            "have: give s_min, a number or a DataArray over roi"
        )
    return check_sparsity(None if none else penalty, 0.0 if s_min is None else s_min, first)


def _of_each_roi(ds: xr.Dataset) -> bool:
    return "s_min" in ds.coords and ds["s_min"].dims == ("roi",)


def _as_sparse(sparsity: Sparsity, ds: xr.Dataset, known: dict[str, Any]) -> bool:
    """Whether spikes are as sparse as this."""
    if sparsity.penalty != known.get("penalty") or (sparsity.each is not None) != _of_each_roi(ds):
        return False
    if sparsity.each is None:
        return sparsity.s_min == known.get("s_min", 0.0)
    return np.array_equal(sparsity.each, ds["s_min"].values, equal_nan=True)
