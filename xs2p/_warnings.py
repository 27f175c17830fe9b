"""One shape for the package's warnings."""

from __future__ import annotations

import os
import sys
import warnings
from types import FrameType
from typing import Any

import numpy as np

_PACKAGE = os.path.dirname(__file__) + os.sep
# Packages, and modules of Python's own, through which a call comes here from the user's line.
_BETWEEN = ("xarray", "dask", "distributed", "typer", "click")
_WRAPPERS = ("contextlib.py", "functools.py", "threading.py")


def warn(message: str) -> None:
    """Warn at the line of the user's own code, not inside the package or what calls it."""
    level, frame = 1, sys._getframe(0)
    while frame.f_back is not None and _is_between(frame):
        frame = frame.f_back
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level)


def _is_between(frame: FrameType) -> bool:
    file = frame.f_code.co_filename
    if file.startswith(_PACKAGE) or os.path.basename(file) in _WRAPPERS:
        return True
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _BETWEEN


def names(values: Any, most: int = 5) -> str:
    """Write the first few labels: ``3, 7, 9, … (12 in all)``."""
    listed = [str(v) for v in np.asarray(values).tolist()]
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text}, … ({len(listed)} in all)"
