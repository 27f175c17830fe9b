"""Equations of frames by CuPy's products, as far as float64 goes: names of ``equations_cpu.py``.

The inverse of the equations is one dense matrix on the device, made there once, column by column,
of the factor; each batch of frames is one product with it. No step of refinement follows: columns
are as exact as any solution by the factor, and the sums come in float32. Where the inverse takes
more than a gigabyte, or than is free, the kernel of ``equations_gpu.py`` solves by the sparse
factor, as it does the descent; where that does not compile, the CPU does. Imported inside functions
only; CuPy inside those that need it.
"""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.compute.arrays import as_array
from xs2p.compute.device import own_kernels, tell
from xs2p.compute.gpu import available
from xs2p.compute.gpu_memory import Uploads

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["descend", "product", "solve"]

_MOST = 2**30  # bytes of an inverse: of 11,585 equations
_COLUMNS = 512  # of the inverse, made on the host at once

UPLOADS: Uploads[Any] = Uploads()


def product(matrix: scipy.sparse.csr_array, x: Any) -> Any:
    """Multiply a sparse matrix of the host by frames ``(column, time)`` of the device."""
    import cupy
    from cupyx.scipy.sparse import csc_matrix

    def upload() -> Any:
        parts = (as_array(cupy, part) for part in (matrix.data, matrix.indices, matrix.indptr))
        copy = csc_matrix(tuple(parts), shape=matrix.shape[::-1])  # rows of it, transposed
        cupy.cuda.get_current_stream().synchronize()  # other streams are about to read it
        return copy

    transposed = UPLOADS.get(matrix.data, cupy.cuda.Device().id, upload)
    return (cupy.ascontiguousarray(x.T, np.float64) @ transposed).T


def solve(
    order: np.ndarray,
    start: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    pivots: np.ndarray,
    x: Any,
) -> None:
    """Solve ``L D Lᵀ x = b`` in place, of frames ``x`` ``(unknown, time)`` of the device."""
    import cupy

    factor = order, start, rows, values, pivots
    inverse = UPLOADS.get(
        order, (cupy.cuda.Device().id, len(x)), lambda: _inverse_of(factor, len(x))
    )
    if inverse is not None:
        x[...] = inverse @ x
    elif (own := _own()) is not None:
        own.solve(*factor, x)
    else:
        from xs2p.traces.equations_cpu import solve

        here = x.get()
        solve(*factor, here)
        x[...] = as_array(cupy, here)


def descend(
    start: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    light: np.ndarray,
    spread: np.ndarray,
    sums: Any,
    x: Any,
    sweeps: int,
    enough: float,
) -> None:
    """Go on to the least squares with no ROI below 0, in place: see ``equations_cpu.py``."""
    import cupy

    fixed = start, rows, values, light, spread
    if (own := _own()) is not None:
        own.descend(*fixed, sums, x, sweeps, enough)
        return
    from xs2p.traces.equations_cpu import descend

    here = x.get()
    descend(*fixed, np.ascontiguousarray(sums.get()), here, sweeps, enough)
    x[...] = as_array(cupy, here)


def _own() -> ModuleType | None:
    """Return the package's own kernels, where they compile."""
    compiled, reason = own_kernels()
    if compiled:
        from xs2p.traces import equations_gpu

        return equations_gpu
    tell(f"equations are solved on the CPU, since kernels do not compile for the device: {reason}")
    return None


def _inverse_of(factor: tuple[np.ndarray, ...], n: int) -> Any:
    """Inverse of the equations, float64 ``(unknown, unknown)`` of the device, 0 where none is.

    None where it is too large.
    """
    import cupy

    from xs2p.traces.equations_cpu import solve

    if 8 * n * n <= min(_MOST, available()):
        try:
            inverse = cupy.zeros((n, n), np.float64)
            order = factor[0]
            for first in range(0, order.size, _COLUMNS):
                some = order[first : first + _COLUMNS]
                columns = np.zeros((n, some.size))
                columns[some, np.arange(some.size)] = 1.0
                solve(*factor, columns)
                inverse[as_array(cupy, some)] = as_array(cupy, columns.T.copy())  # it is symmetric
            cupy.cuda.get_current_stream().synchronize()  # other streams are about to read it
            return inverse
        except MemoryError:
            pass
    tell(
        f"demixing: an inverse of {n} equations takes {8 * n * n / 2**20:.0f} MiB, more than there "
        "is room for on the GPU; they are solved by their sparse factor"
    )
    return None
