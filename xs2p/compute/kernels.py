"""All numba kernels of xs2p, on plain numpy arrays.

Imported inside functions only, so that ``import xs2p`` does not import numba. Every kernel
is serial and releases the GIL: threads are Dask's.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

Kernel = Callable[..., Any]


def njit(func: Kernel) -> Kernel:
    """Compile at first call, cached on disk where a cache folder can be written."""
    # numpy's error model: no test for divisors of 0. Nobody calls a kernel from C.
    how: dict[str, Any] = {"nogil": True, "error_model": "numpy", "no_cfunc_wrapper": True}
    try:
        kernel = numba.njit(cache=True, **how)(func)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.njit(**how)(func)
    _name_files_apart(kernel)
    return kernel


def inner(func: Kernel) -> Kernel:
    """Compile what kernels of the same file call, and nobody else: no wrapper, and no cache.

    Its code is in that of the kernels, and so in their caches.
    """
    how: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
    return numba.njit(nogil=True, error_model="numpy", **how)(func)


def _name_files_apart(kernel: Any) -> None:
    """Give each file of a kernel's cache a name that no other process takes.

    numba numbers them. Two processes that compile at once take the same number, each for the
    signature that it has come to, and the index of one then leads to the code of the other's.
    """
    files = kernel._cache._cache_file
    numbered = files._data_name_pattern

    def named(number: int) -> str:
        return str(numbered.format(number=number)).replace(".nbc", f".{uuid.uuid4().hex}.nbc")

    files._data_name = named


def native(array: np.ndarray) -> np.ndarray:
    """Return ``array`` C-contiguous, in native byte order and of a dtype that numba knows.

    A copy is made only of what is not so already; int16 stays int16.
    """
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).view(np.uint8)
    if array.dtype == np.float16:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
