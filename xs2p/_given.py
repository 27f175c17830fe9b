"""ROI sets that are given as a path are read by whoever knows the formats.

Readers are floors above those who are given ROIs; imports go down only, so ``_register`` puts it
here.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr

_READERS: list[Callable[..., xr.Dataset]] = []


def register_reader(read: Callable[..., xr.Dataset]) -> None:
    """Let ``read(path, shape=(Ly, Lx))`` read the ROIs that are given as a path."""
    _READERS[:] = [read]


def rois_given(rois: Any, shape: tuple[int, int] | None = None) -> Any:
    """Read ROIs that are given as a path, for frames ``(Ly, Lx)``; others are as they were."""
    if not isinstance(rois, str | os.PathLike):
        return rois
    (read,) = _READERS
    return read(rois, shape=shape)
