"""What suite2p says of a plane folder, read in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# What is read of it here, and whether it is a whole number of pixels.
_NUMBERS = {"Ly": True, "Lx": True, "fs": False, "tau": False}


def read_ops(folder: str) -> dict[str, Any]:
    """Read the ``ops.npy`` of a folder, checked; an empty dict where there is none.

    From suite2p 1.0 on there are ``db.npy`` and ``settings.npy`` too: this is the place to read
    them, for all that ask what suite2p says.

    Raises
    ------
    ValueError
        The file is damaged or holds no dict, or a size or rate in it is none.
    """
    from xs2p.disk.npy import load_pickled

    path = os.path.join(folder, "ops.npy")
    if not os.path.exists(path):
        return {}
    ops = load_pickled(path)
    if ops.dtype != object or ops.size != 1 or not isinstance(ops.item(), dict):
        raise ValueError(f"{path}: expected a dict, found an array of {ops.dtype} {ops.shape}")
    found = dict(ops.item())
    for key, whole in _NUMBERS.items():
        value = found.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and np.isfinite(value) and value > 0 and (not whole or value == int(value))):
            kind = "a whole number of pixels" if whole else "a number"
            raise ValueError(f"{path}: {key} is {value!r}, expected {kind} above 0")
    return found


def frame_in(ops: Mapping[str, Any]) -> tuple[int, int] | None:
    """``(Ly, Lx)`` in pixels, where it says both."""
    if ops.get("Ly") is None or ops.get("Lx") is None:
        return None
    return int(ops["Ly"]), int(ops["Lx"])


def rate_in(ops: Mapping[str, Any]) -> float | None:
    """Frames per second in Hz, where it says them."""
    return None if ops.get("fs") is None else float(ops["fs"])


def tau_in(ops: Mapping[str, Any]) -> float | None:
    """Decay time of the indicator in seconds, where it says it."""
    return None if ops.get("tau") is None else float(ops["tau"])
