"""One shape for the package's warnings."""

from __future__ import annotations

import os
import warnings
from typing import Any

import numpy as np

_PACKAGE = os.path.dirname(__file__)


def warn(message: str) -> None:
    """Warn at the line of the caller's own code, not inside the package or xarray."""
    import sys

    level = 2
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_PACKAGE):
        frame = frame.f_back  # type: ignore[assignment]
        level += 1
    warnings.warn(message, UserWarning, stacklevel=level)


def names(values: Any, most: int = 5) -> str:
    """Write the first few labels: ``3, 7, 9, … (12 in all)``."""
    listed = [str(v) for v in np.asarray(values).tolist()]
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text}, … ({len(listed)} in all)"
