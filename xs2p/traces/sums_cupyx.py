"""Extraction on a GPU by CuPy alone: products of frames with a sparse matrix of the masks.

The names of ``sums_cpu.py``, and its results as far as float32 goes. Imported inside functions
only; CuPy inside those that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xs2p.compute.arrays import as_array
from xs2p.compute.gpu import available, on_its_device
from xs2p.compute.gpu_frames import Way, in_slices, over_frames
from xs2p.compute.gpu_memory import Uploads, batch_size
from xs2p.masks.layout import Layout, check_layout

__all__ = ["batches", "map_sums", "mask_sums"]

UPLOADS: Uploads[Any] = Uploads()


def batches(frames: Any, masks: Layout) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` of the host for some threads, each of a pipeline.

    Those of CuPy stay whole, on the stream that is the current one.
    """
    yield from in_slices(frames, 1)


@on_its_device
def mask_sums(frames: Any, masks: Layout, out: Any = None) -> Any:
    """Add up CuPy frames ``(time, y, x)`` over each mask, float32 ``(kind, roi, time)``.

    One product ``dense(T, P) @ CSC(P, N)``, the frames cast on the device.
    """
    n_frames, n_pixels = len(frames), math.prod(frames.shape[1:])
    shape = _kinds(masks), masks.cell_npix.size, n_frames
    dense = frames.reshape(n_frames, n_pixels).astype(np.float32, copy=False)
    sums = (dense @ matrix_on_device(masks, n_pixels)).T.reshape(shape)
    if out is None:
        return sums
    out[...] = sums
    return out


def map_sums(
    frames: Any,
    masks: Layout,
    finish: Callable[[Any], Any],
    dtype: Any,
    n_rois: int | None = None,
    out: Any = None,
) -> Any:
    """Return what ``finish`` makes of sums ``(kind, mask, time)`` of frames ``(…, time, y, x)``.

    It is ``(…, kind, roi, time)`` of ``dtype``, or ``out``, where the frames are: on the host or on
    the device; of as many ROIs as masks unless ``n_rois`` are given.
    """
    n_pixels = math.prod(frames.shape[-2:])
    check_layout(masks, n_pixels)
    n_masks = _kinds(masks) * masks.cell_npix.size

    def at_once(shape: tuple[int, ...], dtype: np.dtype[Any], most: int) -> int:
        # Two buffers of frames, and those in float32; the product, and what is made of it.
        each = (2 * dtype.itemsize + 4) * n_pixels + 32 * n_masks
        return batch_size(each, available(), most)

    def work(some: Any) -> Any:
        return finish(mask_sums(some, masks))

    way = Way(lambda: matrix_on_device(masks, n_pixels), _native, at_once, work)
    n_made = masks.cell_npix.size if n_rois is None else n_rois
    return over_frames(frames, (_kinds(masks), n_made), dtype, way, out)


def matrix_on_device(masks: Layout, n_pixels: int) -> Any:
    """Masks on the current device: uploaded once, however many tasks and threads use them."""
    import cupy
    from cupyx.scipy.sparse import csc_matrix

    def upload() -> Any:
        matrix = sum_matrix(masks, n_pixels)
        arrays = (as_array(cupy, part) for part in (matrix.data, matrix.indices, matrix.indptr))
        copy = csc_matrix(tuple(arrays), shape=matrix.shape)
        cupy.cuda.get_current_stream().synchronize()  # other streams are about to read them
        return copy

    # A tuple cannot be referred to weakly; this array lives as long as the masks do.
    return UPLOADS.get(masks.cell_npix, (cupy.cuda.Device().id, n_pixels), upload)


def sum_matrix(masks: Layout, n_pixels: int) -> Any:
    """Masks, cell and then neuropil, as one sparse float32 matrix ``(pixel, mask)`` of the host.

    Neuropil has weights of 1: its sums are divided later, as those of parts of frames must be.
    """
    from scipy.sparse import csc_matrix

    n_rois, first = masks.cell_npix.size, masks.segments.first
    cell, runs = masks.cell, masks.runs
    pixel = np.repeat(first, np.diff(cell.bounds)) + cell.place
    column, weight = cell.roi.astype(np.int64), cell.weight
    if masks.neuropil_npix is not None:
        length = (runs.stop - runs.start).astype(np.int64)
        start = np.repeat(first, np.diff(runs.bounds)) + runs.start
        nth = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
        pixel = np.concatenate([pixel, np.repeat(start, length) + nth])
        column = np.concatenate([column, np.repeat(n_rois + runs.roi.astype(np.int64), length)])
        weight = np.concatenate([weight, np.ones(nth.size)])
    shape = n_pixels, _kinds(masks) * n_rois
    return csc_matrix((weight.astype(np.float32), (pixel, column)), shape=shape)


def _kinds(masks: Layout) -> int:
    return 1 if masks.neuropil_npix is None else 2


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return dtype.newbyteorder("=")
