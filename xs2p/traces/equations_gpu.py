"""Equations of frames on a GPU: the names of ``equations_cpu.py``, and its results to the last bit.

All take frames of the device, and of the host what the equations are. Imported inside functions
only; CuPy inside those that need it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.compute.arrays import as_array
from xs2p.compute.gpu import launch
from xs2p.compute.gpu_memory import Uploads

if TYPE_CHECKING:
    import scipy.sparse

__all__ = ["descend", "product", "solve"]

_THREADS = 64  # of a block, a frame each
_ROWS = 2**15  # blocks side by side that take turns with the rows of a product
_SMALL = 1e-9  # as in equations_cpu.py

UPLOADS: Uploads[Any] = Uploads()


def product(matrix: scipy.sparse.csr_array, x: Any) -> Any:
    """Multiply a sparse matrix of the host by frames ``(column, time)`` of the device."""
    import cupy

    n_rows, n_frames = matrix.shape[0], x.shape[1]
    made = cupy.empty((n_rows, n_frames), np.float64)

    def parts() -> tuple[np.ndarray, ...]:
        return matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data

    own, x = uploaded(matrix.data, parts), cupy.ascontiguousarray(x, np.float64)
    sizes = np.int64(n_rows), np.int64(n_frames)
    grid = (-(-n_frames // _THREADS), min(n_rows, _ROWS))
    launch("sparse_rows", grid, (_THREADS,), *own, x, *sizes, made)
    return made


def solve(
    order: np.ndarray,
    start: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    pivots: np.ndarray,
    x: Any,
) -> None:
    """Solve ``L D Lᵀ x = b`` in place, of frames ``x`` ``(unknown, time)`` of the device."""
    own = uploaded(order, lambda: both_ways(order, start, rows, values, pivots))
    n, n_frames = np.int64(order.size), np.int64(x.shape[1])
    launch("solve_frames", (-(-x.shape[1] // _THREADS),), (_THREADS,), *own, n, n_frames, x)


def both_ways(
    order: np.ndarray,
    start: np.ndarray,
    rows: np.ndarray,
    values: np.ndarray,
    pivots: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Return the factor as the kernel reads it: by rows, unknowns by name, and by columns."""
    import scipy.sparse

    n = order.size
    place = np.zeros(int(order.max(initial=-1)) + 1, np.int64)
    place[order] = np.arange(n)
    lower = scipy.sparse.csc_array((values, place[rows], start), shape=(n, n)).tocsr()
    left = lower.indptr.astype(np.int64), order[lower.indices], lower.data
    return order, *left, start, rows, values, pivots


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

    (n_rois, n_hats), n_frames = light.shape, x.shape[1]
    own = uploaded(
        start, lambda: (start, rows, values, light, spread, scale_of(start, light, spread))
    )
    sums = cupy.ascontiguousarray(sums)
    sizes = np.int64(n_rois), np.int64(n_hats), np.int64(n_frames), np.int64(sweeps)
    grid = (-(-n_frames // _THREADS),)
    launch("descend_frames", grid, (_THREADS,), *own, sums, *sizes, np.float64(enough), x)


def scale_of(start: np.ndarray, light: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Return what of each ROI the background cannot follow; 0 of one that is left as it is."""
    scale = np.ones(len(light))
    for one, other in zip(light.T, spread.T, strict=True):
        scale -= one * other
    scale[(np.diff(start) == 0) | (scale < _SMALL)] = 0.0
    return scale


def uploaded(source: np.ndarray, parts: Callable[[], tuple[np.ndarray, ...]]) -> Any:
    """Parts of the equations on the current device: copied once, for as long as ``source`` is."""
    import cupy

    def upload() -> tuple[Any, ...]:
        copies = tuple(as_array(cupy, part) for part in parts())
        cupy.cuda.get_current_stream().synchronize()  # other streams are about to read them
        return copies

    return UPLOADS.get(source, cupy.cuda.Device().id, upload)
