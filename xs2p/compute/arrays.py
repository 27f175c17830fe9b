"""Arrays of numpy or CuPy, and of Dask over either; CuPy itself is not imported here."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import numpy as np


def is_cupy(array: Any) -> bool:
    """Whether an array, or each chunk of a Dask array, is CuPy's."""
    kind = type(getattr(array, "_meta", array))
    return kind.__module__.partition(".")[0] == "cupy"


def unread(array: Any) -> Any:
    """Return what a DataArray holds, for a look at its type: a lazy file is not read for it."""
    return array.data if array.chunks is not None else array.variable._data


def array_module(array: Any) -> ModuleType:
    """Return the module that makes arrays like this one, or like its chunks: numpy or cupy."""
    return sys.modules["cupy"] if is_cupy(array) else np


def meta(like: Any, ndim: int, dtype: Any) -> Any:
    """Return an empty array that says what the chunks of a lazy result are."""
    return array_module(like).empty((0,) * ndim, dtype)


def as_array(xp: ModuleType, array: Any, dtype: Any = None) -> Any:
    """Return an array of the host, or of ``xp``, as one of ``xp``: as its ``asarray`` does.

    CuPy's own takes pinned memory of the array's size and keeps it; where there is none it warns.
    """
    if xp is np or is_cupy(array):
        return xp.asarray(array, dtype=dtype)
    source = np.asarray(array, dtype=dtype, order="C")
    there = xp.empty(source.shape, source.dtype)
    there.set(source)
    return there


def to_host(array: Any) -> Any:
    """Copy a CuPy array to the host; any other is returned as it is."""
    return array.get() if is_cupy(array) else array
