"""The masks as tasks see them: plain arrays, cut into tiles, packed into few bytes."""

from __future__ import annotations

import zlib
from typing import Any, NamedTuple

import numpy as np


class MaskArrays(NamedTuple):
    """Plain arrays of the masks: all that a task needs to extract a block."""

    cell_indptr: np.ndarray
    cell_indices: np.ndarray
    cell_weights: np.ndarray
    neuropil_indptr: np.ndarray | None
    neuropil_indices: np.ndarray | None
    shape: tuple[int, int]


def tiles(
    arrays: MaskArrays, ychunks: tuple[int, ...], xchunks: tuple[int, ...]
) -> list[list[tuple[np.ndarray, MaskArrays]]]:
    """Cut the masks into tiles of the frame: ``[row of tiles][column of tiles]``.

    Each is the ROIs that have a pixel in the tile, and their masks there.
    """
    y_edges, x_edges = np.cumsum((0, *ychunks)), np.cumsum((0, *xchunks))
    cell = _split(arrays.cell_indptr, arrays.cell_indices, arrays.shape, y_edges, x_edges)
    neuropil = None
    if arrays.neuropil_indptr is not None and arrays.neuropil_indices is not None:
        neuropil = _split(
            arrays.neuropil_indptr, arrays.neuropil_indices, arrays.shape, y_edges, x_edges
        )
    rows = []
    for i, height in enumerate(ychunks):
        row = []
        for j, width in enumerate(xchunks):
            counts, indices, kept = cell[i][j]
            here = counts > 0
            if neuropil is not None:
                here |= neuropil[i][j][0] > 0
            outer: tuple[Any, Any] = (None, None)
            if neuropil is not None:
                outer = _indptr(neuropil[i][j][0][here]), neuropil[i][j][1]
            tile = MaskArrays(
                _indptr(counts[here]), indices, arrays.cell_weights[kept], *outer, (height, width)
            )
            row.append((np.flatnonzero(here), tile))
        rows.append(row)
    return rows


def _indptr(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)])


def pack(arrays: MaskArrays) -> tuple[Any, ...]:
    """Masks as few bytes, for a task graph: pixels as runs, compressed.

    A graph above some 10 MB makes distributed complain, and every byte of it goes through
    the scheduler. Neuropil masks are long runs: this is about a tenth of their CSC matrix.
    """
    cell = _pack_indices(arrays.cell_indptr, arrays.cell_indices)
    neuropil = None
    if arrays.neuropil_indptr is not None and arrays.neuropil_indices is not None:
        neuropil = _pack_indices(arrays.neuropil_indptr, arrays.neuropil_indices)
    return cell, arrays.cell_weights.tobytes(), neuropil, arrays.shape


def unpack(packed: tuple[Any, ...]) -> MaskArrays:
    """Undo :func:`pack`."""
    cell, weights, neuropil, shape = packed
    indptr, indices = _unpack_indices(*cell)
    outer: tuple[Any, Any] = (None, None) if neuropil is None else _unpack_indices(*neuropil)
    return MaskArrays(indptr, indices, np.frombuffer(weights, np.float32), *outer, shape)


def runs_of(indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the runs of consecutive pixels of each mask: positions of their first, and lengths."""
    opens = np.ones(indices.size, bool)
    opens[1:] = np.diff(indices) != 1
    opens[indptr[:-1][np.diff(indptr) > 0]] = True
    first = np.flatnonzero(opens)
    return first, np.diff(np.append(first, indices.size))


def _pack_indices(indptr: np.ndarray, indices: np.ndarray) -> tuple[bytes, bytes, bytes, str]:
    first, lengths = runs_of(indptr, indices)
    steps = np.diff(indices[first].astype(np.int64), prepend=0)
    parts = (indptr.astype(np.int64), steps, lengths.astype(np.int32))
    # Bytes of equal significance side by side compress far better.
    packed = (zlib.compress(_shuffle(part), 1) for part in parts)
    a, b, c = packed
    return a, b, c, "int32" if indices.size == 0 or indices.max() < 2**31 else "int64"


def _unpack_indices(
    indptr: bytes, steps: bytes, lengths: bytes, dtype: str
) -> tuple[np.ndarray, np.ndarray]:
    first = np.cumsum(_unshuffle(zlib.decompress(steps), np.int64))
    runs = _unshuffle(zlib.decompress(lengths), np.int32).astype(np.int64)
    before = np.cumsum(runs) - runs
    indices = np.arange(runs.sum()) + np.repeat(first - before, runs)
    return _unshuffle(zlib.decompress(indptr), np.int64), indices.astype(dtype)


def _shuffle(array: np.ndarray) -> bytes:
    return array.view(np.uint8).reshape(array.size, -1).T.tobytes() if array.size else b""


def _unshuffle(data: bytes, dtype: Any) -> np.ndarray:
    width = np.dtype(dtype).itemsize
    columns = np.frombuffer(data, np.uint8).reshape(width, -1)
    return np.ascontiguousarray(columns.T).view(dtype).ravel()


def _split(
    indptr: np.ndarray,
    indices: np.ndarray,
    shape: tuple[int, int],
    y_edges: np.ndarray,
    x_edges: np.ndarray,
) -> list[list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """For each tile ``(pixels of each ROI, indices within the tile, positions in indices)``."""
    n_rois = indptr.size - 1
    y, x = np.divmod(indices.astype(np.int64), shape[1])
    tile_y = np.searchsorted(y_edges, y, side="right") - 1
    tile_x = np.searchsorted(x_edges, x, side="right") - 1
    n_x = x_edges.size - 1
    tile = tile_y * n_x + tile_x
    order = np.argsort(tile, kind="stable")
    bounds = np.searchsorted(tile[order], np.arange((y_edges.size - 1) * n_x + 1))
    owner = np.repeat(np.arange(n_rois), np.diff(indptr))
    rows = []
    for i in range(y_edges.size - 1):
        row = []
        for j in range(n_x):
            kept = order[bounds[i * n_x + j] : bounds[i * n_x + j + 1]]
            width = x_edges[j + 1] - x_edges[j]
            local = (y[kept] - y_edges[i]) * width + (x[kept] - x_edges[j])
            counts = np.bincount(owner[kept], minlength=n_rois)
            row.append((counts, local, kept))
        rows.append(row)
    return rows
