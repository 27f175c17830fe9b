"""One shape for the package's warnings."""

from __future__ import annotations

import sys
import warnings
from types import FrameType
from typing import Any

import numpy as np

# Whose lines say nothing to a user: ours, and what calls us or is called by us on the way.
_NOT_THE_USERS = {
    *("xs2p", "xarray", "dask", "distributed", "numpy", "numba"),
    *("contextlib", "functools", "concurrent", "threading", "typer", "click"),
}


def warn(message: str) -> None:
    """Warn at the line of the caller's own code, not inside the package or xarray.

    In a thread of Dask's there is no such line: the warning then points at the outermost of ours.
    """
    level = ours = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        level += 1
        if _is_users(frame):
            break
        if _package(frame) == "xs2p":
            ours = level
        frame = frame.f_back
    warnings.warn(message, UserWarning, stacklevel=ours if frame is None else level)


def _is_users(frame: FrameType) -> bool:
    # A doctest or a cell of a notebook is the user's, also where it runs among a module's names.
    return frame.f_code.co_filename.startswith("<doctest") or _package(frame) not in _NOT_THE_USERS


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def names(values: Any, most: int = 5) -> str:
    """Write the first few labels: ``3, 7, 9, … (12 in all)``."""
    listed = [str(v) for v in np.asarray(values).tolist()]
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text}, … ({len(listed)} in all)"
