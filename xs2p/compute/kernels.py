"""All numba kernels of xs2p, on plain numpy arrays.

Imported inside functions only, so that ``import xs2p`` does not import numba. Every kernel
is serial and releases the GIL: threads are Dask's.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.np.ufunc.ufuncbuilder import GUFuncBuilder
from numba.np.ufunc.wrappers import GufWrapperCache

Kernel = Callable[..., Any]
COMPILING = threading.Lock()


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


def gufunc(kernel: Kernel, signature: str, layout: str) -> Kernel:
    """Compile a gufunc as ``numba.guvectorize`` does, cached on disk where that can be."""
    try:
        return _gufunc(kernel, signature, layout, cache=True)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return _gufunc(kernel, signature, layout, cache=False)


def _gufunc(kernel: Kernel, signature: str, layout: str, cache: bool) -> Kernel:
    builder = _Builder(kernel, layout, cache=cache, targetoptions={"nopython": True})
    builder.add(signature)
    return builder.build_ufunc()  # type: ignore[no-any-return]


class _Builder(GUFuncBuilder):  # type: ignore[misc]
    """numba's, which does not call what is not there.

    It keeps a function and the loop around it apart in its cache, and looks the loop up by a name
    that has a number of the process which compiled the function. Of two processes that compile at
    once, the one's loop can lie beside the other's function: the loop is not found, its
    address is 0, and whoever calls it ends, now and whenever that cache is read.
    """

    def build(self, cres: Any) -> Any:
        """Give types, address and environment of the loop, made anew where it is another's."""
        found = super().build(cres)
        if not found[1]:
            GufWrapperCache(py_func=self.py_func).flush()
            found = super().build(cres)
        return found


def native(array: np.ndarray) -> np.ndarray:
    """Return ``array`` C-contiguous, in native byte order and of a dtype that numba knows.

    A copy is made only of what is not so already; int16 stays int16.
    """
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).view(np.uint8)
    if array.dtype == np.float16:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
