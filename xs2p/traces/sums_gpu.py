"""Extraction on a GPU: frames of the host or of the device, and the masks as its kernels read them.

The names of ``sums_cpu.py``, and its results to the last bit. Imported inside functions only; CuPy
inside those that need it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import as_array
from xs2p.compute.gpu import available, launch, on_its_device
from xs2p.compute.gpu_frames import Way, in_slices, over_frames
from xs2p.compute.gpu_memory import Uploads, batch_size
from xs2p.masks.layout import LANES, SEGMENT, Layout, check_layout

__all__ = ["batches", "map_sums", "mask_sums"]

_GROUPS = 8  # of 32 frames whose rows are in memory at once
_PARTS, _WARPS = 8, 4  # rows of threads in a block of the two kernels

# Kernels by the dtype of the pixels: what loads them, the dtype of the rows, what gathers them.
_BY_DTYPE = {
    "int8": ("load_i1", "int32", "gather_i4"),
    "uint8": ("load_u1", "int32", "gather_i4"),
    "int16": ("load_i2", "int32", "gather_i4"),
    "uint16": ("load_u2", "int32", "gather_i4"),
    "int32": ("load_i4", "int64", "gather_i8"),
    "uint32": ("load_u4", "int64", "gather_i8"),
    "int64": ("load_i8", "float64", "gather_f8"),
    "uint64": ("load_u8", "float64", "gather_f8"),
    "float32": ("load_f4", "float32", "gather_f4"),
    "float64": ("load_f8", "float64", "gather_f8"),
}


class DeviceMasks(NamedTuple):
    """Masks as the kernels read them: arrays of the device, or of the host before the upload.

    Rows count the pixels of all segments, 257 to each; those of a ROI are in the order in which
    the CPU's kernels meet them.
    """

    first: Any
    low: Any
    high: Any
    cell_bounds: Any
    cell_row: Any
    cell_weight: Any
    run_bounds: Any
    run_start: Any
    run_stop: Any


UPLOADS: Uploads[DeviceMasks] = Uploads()


def gather_order(masks: Layout) -> DeviceMasks:
    """Masks in the order of the ROIs, on the host."""
    segment = [np.repeat(np.arange(b.size - 1), np.diff(b)) for b in (masks[1][-1], masks[2][-1])]
    n_rois = masks.cell_npix.size
    parts: list[Any] = []
    for of, pixels, columns in (
        (segment[0], masks.cell, (masks.cell.place,)),
        (segment[1], masks.runs, (masks.runs.start, masks.runs.stop)),
    ):
        order = np.argsort(pixels.roi, kind="stable")
        bounds = np.zeros(n_rois + 1, np.int64)
        np.cumsum(np.bincount(pixels.roi, minlength=n_rois), out=bounds[1:])
        rows = [((of * (SEGMENT + 1) + column)[order]).astype(np.uint32) for column in columns]
        if pixels is masks.cell:
            rows.append(masks.cell.weight[order])
        parts += [bounds, *rows]
    first, low, high = masks.segments
    return DeviceMasks(first.astype(np.int64), low.astype(np.int32), high.astype(np.int32), *parts)


def masks_on_device(masks: Layout) -> DeviceMasks:
    """Masks on the current device: uploaded once, however many tasks and threads use them."""
    import cupy

    def upload() -> DeviceMasks:
        copy = DeviceMasks(*(as_array(cupy, part) for part in gather_order(masks)))
        cupy.cuda.get_current_stream().synchronize()  # other streams are about to read them
        return copy

    # A tuple cannot be referred to weakly; this array lives as long as the masks do.
    return UPLOADS.get(masks.cell_npix, cupy.cuda.Device().id, upload)


def batches(frames: Any, masks: Layout) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` of the host for some threads, each of a pipeline.

    Those of CuPy stay whole, on the stream that is the current one.
    """
    yield from in_slices(frames, LANES)


@on_its_device
def mask_sums(frames: Any, masks: Layout, out: Any = None) -> Any:
    """Add up CuPy frames ``(time, y, x)`` over each mask, float64 ``(kind, roi, time)``."""
    import cupy

    own, frames = masks_on_device(masks), _native(frames)
    kinds = 1 if masks.neuropil_npix is None else 2
    load, stored, gather = _BY_DTYPE[frames.dtype.name]
    n_frames, n_pixels = len(frames), math.prod(frames.shape[1:])
    n_rois, n_segments = own.cell_bounds.size - 1, own.first.size
    sums = cupy.empty((kinds, n_rois, n_frames), np.float64) if out is None else out
    n_rows = n_segments * (SEGMENT + 1)
    for start in range(0, n_frames, _GROUPS * LANES):
        some = frames[start : start + _GROUPS * LANES]
        groups = -(-len(some) // LANES)
        rows = cupy.empty(groups * n_rows * LANES, stored)
        numbers = np.int64(len(some)), np.int64(n_pixels)
        segments = own.first, own.low, own.high
        launch(load, (n_segments, groups), (LANES, _PARTS), some, *numbers, *segments, rows)
        # All frames of a batch that fits at once go straight to their place.
        whole = len(some) == n_frames and sums.flags.c_contiguous
        part = sums if whole else cupy.empty((kinds, n_rois, len(some)), np.float64)
        launch(
            gather,
            (-(-n_rois // _WARPS), groups),
            (LANES, _WARPS),
            rows,
            np.int64(n_rows),
            np.int32(n_rois),
            np.int32(kinds),
            *own[3:],
            np.int64(len(some)),
            part,
        )
        if not whole:
            sums[..., start : start + len(some)] = part
    return sums


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
    check_layout(masks, math.prod(frames.shape[-2:]))
    kinds = 1 if masks.neuropil_npix is None else 2

    def at_once(shape: tuple[int, ...], dtype: np.dtype[Any], most: int) -> int:
        return frames_at_once(shape, dtype, masks, most)

    def work(some: Any) -> Any:
        return finish(mask_sums(some, masks))

    way = Way(lambda: masks_on_device(masks), _staged, at_once, work)
    n_made = masks.cell_npix.size if n_rois is None else n_rois
    return over_frames(frames, (kinds, n_made), dtype, way, out)


def _native(frames: Any) -> Any:
    """Frames of the device as the kernels read them."""
    import cupy

    return cupy.ascontiguousarray(frames).astype(_staged(frames.dtype), copy=False)


def _staged(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what the kernels read a dtype as."""
    if dtype == np.float16:
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def frames_at_once(shape: tuple[int, ...], dtype: np.dtype[Any], masks: Layout, most: int) -> int:
    """How many frames ``(y, x)`` to work on at once: whole groups of them where memory allows."""
    kinds = 1 if masks.neuropil_npix is None else 2
    # Two buffers of frames; the sums, and what is made of them.
    each = 2 * math.prod(shape) * dtype.itemsize + 32 * kinds * masks.cell_npix.size
    stored = np.dtype(_BY_DTYPE[dtype.name][1]).itemsize
    rows_of_a_group = masks.segments.first.size * (SEGMENT + 1) * LANES * stored
    free = available()
    # Rows for each of a few groups, or for as many groups as there ever are.
    few = batch_size(each + rows_of_a_group // LANES, free, min(most, _GROUPS * LANES), LANES)
    return max(few, batch_size(each, free - _GROUPS * rows_of_a_group, most, LANES))
