"""What suite2p's ``ops.npy`` says, read in one place."""

from __future__ import annotations

import os
from typing import Any

import numpy as np


def shape_in_ops(name: str) -> tuple[int, int] | None:
    """``(Ly, Lx)`` of the ``ops.npy`` beside a file, if there is one and it says so."""
    from xs2p.disk.npy import load_npy

    path = os.path.join(os.path.dirname(name), "ops.npy")
    if not os.path.exists(path):
        return None
    try:
        ops = load_npy(path).item()
        return int(ops["Ly"]), int(ops["Lx"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def read_ops(path: str) -> dict[str, Any]:
    """Read an ``ops.npy``, checked; an empty dict where there is none."""
    from xs2p.disk.npy import load_pickled

    if not os.path.exists(path):
        return {}
    ops = load_pickled(path)
    if ops.dtype != object or ops.size != 1 or not isinstance(ops.item(), dict):
        raise ValueError(f"{path}: expected a dict, found an array of {ops.dtype} {ops.shape}")
    found = dict(ops.item())
    for key, whole in (("Ly", True), ("Lx", True), ("fs", False), ("tau", False)):
        value = found.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and np.isfinite(value) and value > 0 and (not whole or value == int(value))):
            kind = "a whole number of pixels" if whole else "a number"
            raise ValueError(f"{path}: {key} is {value!r}, expected {kind} above 0")
    return found
