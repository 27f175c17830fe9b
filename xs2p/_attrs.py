"""Attributes of outputs, and the arguments that may come from attributes instead."""

from __future__ import annotations

import math
from typing import Any

import xarray as xr

from xs2p._version import __version__

_HOW = {
    "fs": "frames per second: fs=30.0, or movie.attrs['fs'] = 30.0",
    "tau": "decay time of the indicator in seconds: tau=1.0 (GCaMP6f 0.7, 6m 1.0, 6s 1.25–1.5)",
}


def attributes(**parameters: Any) -> dict[str, Any]:
    """Parameters and the package's version, as attributes that Zarr and NetCDF can hold."""
    attrs: dict[str, Any] = {"xs2p_version": __version__}
    for name, value in parameters.items():
        if value is not None:
            attrs[name] = int(value) if isinstance(value, bool) else value
    return attrs


def resolve(name: str, value: float | None, array: xr.DataArray) -> float:
    """Return the argument, else the array's attribute, as a positive number.

    Raises
    ------
    ValueError
        If neither is given, or it is not a positive number.
    """
    given = value if value is not None else array.attrs.get(name)
    if given is None:
        raise ValueError(f"{name} is not known: give {_HOW[name]}")
    try:
        number = float(given)
    except (TypeError, ValueError):
        number = math.nan
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} must be a positive number, got {given!r}: give {_HOW[name]}")
    return number
