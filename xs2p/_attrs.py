"""Attributes of outputs, and the arguments that may come from attributes instead."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xs2p._time import check_rate, compare_rate, rate_shown
from xs2p._version import __version__

# Names of traces over (roi, time): no other variable of a Dataset has one of them.
TRACES = ("F", "Fneu", "Fc", "F0", "spks", "denoised", "dFF", "F_chan2", "Fneu_chan2")
# How the times of frames are known.
_TIMES = {
    "fs": "Time of each frame: its number, from 0, over the frame rate fs.",
    "file": "Time of each frame from the start of the session, as the file has it.",
    "start": "Time of each frame, from the start of the session: that of the first, as the file "
    "has it, plus its number over fs.",
}
# Of text over roi: Python strings, and known for text by Zarr and NetCDF also where there are none.
TEXT = np.dtype(object, metadata={"element_type": str})
ARBITRARY = "1"  # the unit of light, as UDUNITS and CF have it: what a pixel counts says nothing
_NO_UNIT = ("", "dimensionless", "n.a.", "na", "none", "unknown", "px", "pixels", "a.u.", "lumens")
UNFINISHED = "xs2p_unfinished"  # attribute of a store of traces that is not complete
GROUPS = "xs2p_groups"  # attribute of a store that has a store in each of these groups
LEDGER = "xs2p_files"  # a group of a store: size and checksum of its files
HISTORY = "xs2p_history"  # attribute of one that is: who made it, when and by what

_HOW = {
    "fs": "frames per second: fs=30.0, or movie.attrs['fs'] = 30.0",
    "tau": "the decay time of the indicator in seconds: tau=1.0 (GCaMP6f 0.7, 6m 1.0, 6s 1.25–1.5 "
    "as suite2p has it), or its name: tau='GCaMP8m'",
}


def time_attrs(known_by: str = "fs") -> dict[str, str]:
    """Attributes of the coordinate ``time``, in seconds: by ``fs``, by a ``file``, by its start."""
    return {"units": "s", "long_name": "time", "description": _TIMES[known_by]}


def unit_shown(name: str, attrs: Mapping[str, Any]) -> str:
    """Return the unit of traces for people: arbitrary units, but nothing of what is a ratio."""
    unit = unit_read(str(attrs.get("units", ARBITRARY)))
    return unit if unit != ARBITRARY else "" if name == "dFF" else "a.u."


def unit_read(unit: str) -> str:
    """Return the unit that a file says; the arbitrary one where it says that it knows none."""
    return ARBITRARY if unit.lower() in _NO_UNIT else unit


def attributes(**parameters: Any) -> dict[str, Any]:
    """Parameters and the package's version, as attributes that Zarr and NetCDF can hold."""
    attrs: dict[str, Any] = {"xs2p_version": __version__}
    for name, value in parameters.items():
        if value is not None:
            value = value.item() if isinstance(value, np.generic) else value
            attrs[name] = int(value) if isinstance(value, bool) else value
    return attrs


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, unit: str = ""
) -> None:
    """Raise a ValueError unless ``value`` is one finite number from ``low`` to ``high``."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool | np.bool_)
    if number and math.isfinite(value) and low <= value <= high:
        return
    limits = ""
    if math.isfinite(high):
        limits = f" from {low:g} to {high:g}"
    elif math.isfinite(low):
        limits = f", {low:g} or more"
    shown = repr(value) if np.ndim(value) == 0 else f"an array of shape {np.shape(value)}"
    raise ValueError(f"{name} must be a number{unit and ' of ' + unit}{limits}; got {shown}")


def check_flag(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is True or False: "no" and 2 are true for Python."""
    if not isinstance(value, bool | np.bool_):
        raise ValueError(f"{name} must be True or False, got {value!r}")


def check_each_roi(
    name: str, given: xr.DataArray, array: xr.DataArray, of: str = "the traces", shown: str = "F"
) -> None:
    """Raise a ValueError unless ``given`` has one value for each ROI of an array, of its labels.

    The array is one ``of`` what the message says, and ``shown`` as it calls it.
    """
    n_rois = array.sizes.get("roi")
    if given.dims != ("roi",) or given.sizes["roi"] != n_rois:
        raise ValueError(
            f"{name} must be a number or have one value per roi ({n_rois}); it has sizes "
            f"{dict(given.sizes)}"
        )
    both = {"roi"} <= set(given.indexes) & set(array.indexes)
    if both and not given.indexes["roi"].equals(array.indexes["roi"]):
        raise ValueError(
            f"the roi labels of {name} are not those of {of}; {name}.reindex_like({shown}.roi) or "
            f"{name}.drop_vars('roi') says what is meant"
        )


def check_polarity(value: Any) -> None:
    """Raise a ValueError unless ``value`` is 1 or -1."""
    check_number("polarity", value)
    if value not in (1, -1):
        raise ValueError(
            f"polarity must be 1, or -1 for an indicator that darkens with activity; got {value!r}"
        )


def check_complete(ds: xr.Dataset, step: str) -> None:
    """Raise where traces are of a store that is not complete; ``step`` is who asks."""
    if UNFINISHED in ds.attrs:
        raise ValueError(f"{step}: the traces are not complete: {ds.attrs[UNFINISHED]}")


def resolve(name: str, value: float | None, array: xr.DataArray) -> float:
    """Return the argument, else the array's attribute, as a positive number.

    Raises
    ------
    ValueError
        If neither is given, it is not a positive number, or the attribute ``fs`` is not the rate of
        the times that the array has.

    Warns
    -----
    UserWarning
        ``fs`` is given, and the array has times that are half a frame off somewhere, or more.
    """
    given = value if value is not None else array.attrs.get(name)
    if given is None:
        shown = rate_shown(array) if name == "fs" else None
        looks = f". The times look like {shown:g} Hz: fs={shown:g}" if shown else ""
        raise ValueError(f"{name} is not known: give {_HOW[name]}{looks}")
    try:
        number = math.nan if isinstance(given, str) else float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a positive number, got {given!r}: give {_HOW[name]}")
    if name == "fs" and value is None:
        check_rate(number, array)
    elif name == "fs":
        compare_rate(number, array, opened=array.attrs.get("fs") == value)
    return number


COEFFICIENT = "neuropil_coefficient"
_EXTRACTION = ("method", "background", "nonnegative")
_NEUROPIL = (COEFFICIENT, "neuropil", "dark_offset")
_BASELINE = (
    "baseline",
    "win_baseline",
    "sig_baseline",
    "prctile_baseline",
    "detrend",
    "polarity",
)
_SPARSITY = ("s_min", "penalty")
# Parameter -> the variables that it makes: the first of them that is there says what it was.
_MADE = {
    "fs": TRACES,
    **dict.fromkeys(_EXTRACTION, ("F", "Fneu", "Fc", "F_chan2", "Fneu_chan2")),
    **dict.fromkeys(_NEUROPIL, ("Fc", "F0", "spks", "denoised", "dFF")),
    **dict.fromkeys(_BASELINE, ("F0", "spks", "denoised", "dFF")),
    **dict.fromkeys(("tau", *_SPARSITY), ("spks", "denoised")),
}
_BY_PROGRAM = ("xs2p_version", "ops")  # attributes of a Dataset whose others tell how it was made


def parameters_in(ds: xr.Dataset) -> dict[str, Any]:
    """Parameters that the variables of a Dataset were made with, as they themselves say.

    Attributes of the Dataset count for what is not there, and where they are the user's own: those
    that a program wrote say how variables were made that may have been replaced since.
    """
    found: dict[str, Any] = {}
    unsaid = unsaid_in(ds)
    for name, variables in _MADE.items():
        made = [ds[v].attrs for v in variables if v in ds.variables]
        if name == "fs":
            made = [attrs for attrs in made if name in attrs]
        value = made[0].get(name) if made else None
        each = bool(made) and _has_own_neuropil(ds, made[0])
        if value is None and made and (_says_all(made[0], name) or (each and name in _NEUROPIL)):
            continue  # it is not used, or as it is by default, or each ROI has its own
        if value is None and name not in unsaid:
            value = ds.attrs.get(name)
        if value is not None and not (name in ("tau", "s_min") and name in ds.coords):
            found[name] = value
    return found


def _says_all(attrs: Mapping[str, Any], name: str) -> bool:
    """Whether a variable says what it was made with, so far as a parameter belongs to that."""
    if name in (*_EXTRACTION, *_SPARSITY):  # masks, and plain OASIS, say nothing of it
        return "xs2p_version" in attrs
    return any(name in names and names[0] in attrs for names in (_BASELINE, _NEUROPIL))


def _has_own_neuropil(ds: xr.Dataset, made: Mapping[str, Any]) -> bool:
    """Whether each ROI has a neuropil coefficient of its own, of what a variable was made with."""
    return COEFFICIENT in ds.variables and COEFFICIENT not in made


def coefficient_in(ds: xr.Dataset) -> float | xr.DataArray | None:
    """Return the neuropil coefficient that traces were made with, a number or one of each ROI."""
    made = [ds[v].attrs for v in _MADE[COEFFICIENT] if v in ds.variables]
    if COEFFICIENT in ds.variables and not (made and COEFFICIENT in made[0]):
        return xr.DataArray(ds[COEFFICIENT].variable)
    return parameters_in(ds).get(COEFFICIENT)


def parameters_by_variable(said: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    """Tell what each variable was made with, of what a file says of all of them."""
    made = {}
    for variable in set(names) & set(TRACES):
        made[variable] = {n: v for n, v in said.items() if variable in _MADE.get(n, ())}
    return made


def unsaid_in(ds: xr.Dataset) -> dict[str, str]:
    """Parameters that no variable says, though one was made with them: its name, by parameter."""
    if not set(_BY_PROGRAM) & set(ds.attrs):
        return {}
    unsaid = {}
    for name in ("neuropil_coefficient", "baseline", "tau"):
        made = [v for v in _MADE[name] if v in ds.variables]
        needed = name != "neuropil_coefficient" or "Fneu" in ds.variables
        said = name == "tau" and "tau" in ds.coords
        said |= name == COEFFICIENT and name in ds.variables
        if made and needed and not said and name not in ds[made[0]].attrs:
            unsaid[name] = made[0]
    if "baseline" in unsaid:
        unsaid |= dict.fromkeys(_BASELINE, unsaid["baseline"])
    return unsaid


def restated(ds: xr.Dataset) -> xr.Dataset:
    """Let a Dataset's attributes say what its variables say."""
    kept = {key: value for key, value in ds.attrs.items() if key not in _MADE}
    said = parameters_in(ds)
    return ds.drop_attrs(deep=False).assign_attrs({**kept, **said})
