"""Sums of frames over masks, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xs2p.compute.kernels import native, njit
from xs2p.compute.vectors import (
    LONG,
    add_runs,
    add_runs_long,
    add_weighted,
    add_weighted_long,
    copy_bytes,
    transpose_8_by_8,
)
from xs2p.masks.layout import LANES, SEGMENT, Layout, check_layout
from xs2p.movie.in_file import InFile

__all__ = ["batches", "map_sums", "mask_sums"]

# Bytes of a frame that are copied at once, by trial: so many that the memory gives them at its full
# speed, and so few that those of all frames side by side stay in the processor's cache.
_STAGE = 2**14


@njit
def _stage(frames, first, low, stop, stage):  # type: ignore[no-untyped-def]
    """Copy pixels ``first + low`` to ``stop`` of each frame to where ``first`` is the first.

    Frames lie a power of 2 apart, mostly, and the caches have few places for such addresses.
    """
    size = frames.itemsize
    for lane in range(frames.shape[0]):
        source = np.int64(frames.ctypes.data) + lane * frames.strides[0] + (first + low) * size
        target = np.int64(stage.ctypes.data) + lane * stage.strides[0] + low * size
        n_bytes = (stop - first - low) * size
        copy_bytes(np.uintp(target), np.uintp(source), np.uintp(n_bytes))  # type: ignore[call-arg]


@njit
def _load_segment(stage, offset, low, high, buffer):  # type: ignore[no-untyped-def]
    """Fill the rows of the buffer with a segment: pixels, or of integers sums of all before."""
    size, step = stage.itemsize, buffer.strides[0]
    buffer[low] = 0
    for lane in range(0, buffer.shape[1], 8):
        source = np.int64(stage.ctypes.data) + lane * stage.strides[0] + (offset + low) * size
        target = np.int64(buffer.ctypes.data) + low * step + lane * buffer.itemsize
        for _ in range(low, high, 8):
            transpose_8_by_8(  # type: ignore[call-arg]
                stage[0, 0],
                buffer[0, 0],
                np.uintp(source),
                np.uintp(stage.strides[0]),
                np.uintp(target),
                np.uintp(step),
            )
            source += 8 * size
            target += 8 * step


@njit
def _weigh(cell, s, buffer, weighted):  # type: ignore[no-untyped-def]
    """Add the pixels of the cell masks in a segment, ROI by ROI."""
    rows, step = np.int64(buffer.ctypes.data), np.uintp(buffer.strides[0])
    places, weights = np.int64(cell.place.ctypes.data), np.int64(cell.weight.ctypes.data)
    k = cell.bounds[s]
    for group in range(cell.groups.bounds[s], cell.groups.bounds[s + 1]):
        n, end = cell.groups.roi[group], cell.groups.end[group]
        target = np.int64(weighted.ctypes.data) + np.int64(n) * weighted.strides[0]
        place, weight = np.uintp(places + 4 * k), np.uintp(weights + 8 * k)
        count = np.uintp(end - k)
        if buffer.shape[1] == LONG:
            add_weighted_long(  # type: ignore[call-arg]
                buffer[0, 0], np.uintp(rows), step, place, weight, count, np.uintp(target)
            )
        else:
            for lane in range(0, buffer.shape[1], 8):
                row, sums = rows + lane * buffer.itemsize, target + lane * weighted.itemsize
                add_weighted(  # type: ignore[call-arg]
                    buffer[0, 0], np.uintp(row), step, place, weight, count, np.uintp(sums)
                )
        k = end


@njit
def _add_up(runs, s, buffer, plain):  # type: ignore[no-untyped-def]
    """Add the pixels of the neuropil masks in a segment, ROI by ROI."""
    rows, step = np.int64(buffer.ctypes.data), np.uintp(buffer.strides[0])
    starts, stops = np.int64(runs.start.ctypes.data), np.int64(runs.stop.ctypes.data)
    k = runs.bounds[s]
    for group in range(runs.groups.bounds[s], runs.groups.bounds[s + 1]):
        n, end = runs.groups.roi[group], runs.groups.end[group]
        target = np.int64(plain.ctypes.data) + np.int64(n) * plain.strides[0]
        first, last = np.uintp(starts + 4 * k), np.uintp(stops + 4 * k)
        count = np.uintp(end - k)
        if buffer.shape[1] == LONG:
            add_runs_long(  # type: ignore[call-arg]
                buffer[0, 0], plain[0, 0], np.uintp(rows), step, first, last, count,
                np.uintp(target),
            )  # fmt: skip
        else:
            for lane in range(0, buffer.shape[1], 8):
                row, sums = rows + lane * buffer.itemsize, target + lane * plain.itemsize
                add_runs(  # type: ignore[call-arg]
                    buffer[0, 0], plain[0, 0], np.uintp(row), step, first, last, count,
                    np.uintp(sums),
                )  # fmt: skip
        k = end


@njit
def _sums(frames, segments, cell, runs, stage, buffer, weighted, plain):  # type: ignore[no-untyped-def]
    """Add up some frames over all masks.

    Of integers a run's sum is the difference of two sums of all pixels before it: exact. Floats
    are added pixel by pixel: a NaN in one mask touches no other.
    """
    s, first = np.int64(0), segments.first  # a literal 0 would be a type of its own to compile for
    while s < first.size:
        # Segments that follow each other are copied together.
        end = s + 1
        while end < first.size and first[end] == first[end - 1] + SEGMENT:
            if (first[end] - first[s] + SEGMENT) * stage.itemsize > _STAGE:
                break
            end += 1
        start, low = first[s], segments.low[s] // 8 * 8
        _stage(frames, start, low, first[end - 1] + segments.high[end - 1], stage)
        while s < end:
            low, high = segments.low[s] // 8 * 8, segments.high[s]
            _load_segment(stage, first[s] - start, low, high, buffer)
            _weigh(cell, s, buffer, weighted)
            _add_up(runs, s, buffer, plain)
            s += 1


def mask_sums(frames: np.ndarray, masks: Layout, out: np.ndarray | None = None) -> np.ndarray:
    """Add up frames ``(time, y, x)`` over each mask, to ``out`` where it is given.

    That is float64 ``(kind, roi, time)``: kind 0 the weighted sums over the cell masks, kind 1, if
    there are any, the plain sums over the neuropil masks. These are exact for integers below
    64 bits; 64-bit integers, whose sum could pass 2^63, are added up in float64 as floats are.
    Each frame's sums are the same to the last bit whatever frames stand beside it.
    """
    if out is None:
        kinds = 1 if masks.neuropil_npix is None else 2
        out = np.empty((kinds, masks.cell_npix.size, frames.shape[0]), np.float64)
    if frames.size == 0:
        out[:] = 0
        return out
    n_frames, n_rois = frames.shape[0], out.shape[1]
    frames = native(frames).reshape(n_frames, -1)
    check_layout(masks, frames.shape[1])
    if n_rois != masks.cell_npix.size:
        raise ValueError(f"masks and traces differ in number: {masks.cell_npix.size} and {n_rois}")
    in_buffer, in_sums = _kinds(frames.dtype, masks)
    lanes = min(LANES, -(-n_frames // 8) * 8)
    # Rows of the stage are an odd number of lines of the cache apart; those of no frame are 0.
    stage = np.zeros((lanes, (_STAGE + 64) // frames.itemsize), frames.dtype)
    buffer = np.zeros((SEGMENT + 1, lanes), in_buffer)
    weighted = np.empty((n_rois, lanes), np.float64)
    plain = np.empty((n_rois, lanes), in_sums)
    for start in range(0, n_frames, lanes):
        some = frames[start : start + lanes]
        weighted.fill(0)
        plain.fill(0)
        _sums(some, masks.segments, masks.cell, masks.runs, stage, buffer, weighted, plain)
        for sums, kind in zip((weighted, plain), out, strict=False):
            kind[:, start : start + lanes] = sums[:, : some.shape[0]]
    return out


def _kinds(dtype: np.dtype[Any], masks: Layout) -> tuple[Any, Any]:
    """Types of the rows of pixels and of the plain sums, in which nothing is lost."""
    if dtype.kind == "f":
        return dtype, np.float64
    if dtype.itemsize == 8:
        return np.float64, np.float64
    if dtype.itemsize == 4:
        return np.int64, np.int64
    # 256 pixels of 16 bits add up to less than 2^24, and 2^15 of them to less than 2^31.
    largest = 0 if masks.neuropil_npix is None else masks.neuropil_npix.max(initial=0)
    return np.int32, np.int32 if largest < 2**15 else np.int64


# Bytes of frames that the kernels see at once.
_BATCH_BYTES = 2**25


def batches(frames: np.ndarray, masks: Layout) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` so that what a batch needs beside them is small.

    That is their sums and, where they do not lie in memory as the kernels want them, a copy.
    """
    copied = not (frames.flags.c_contiguous and frames.dtype.isnative)
    return _spans(frames, masks, copied)


def _spans(frames: Any, masks: Layout, copied: bool) -> Iterator[slice]:
    n_frames, height, width = frames.shape[-3:]
    itemsize = max(frames.dtype.itemsize, 4 if frames.dtype.kind == "f" else 1)
    frame_bytes = max(height * width * itemsize, 1)
    copied |= frames.dtype == np.float16  # the kernels know none
    step = _BATCH_BYTES // max(frame_bytes, 64 * masks.cell_npix.size)
    step = max(step // LANES * LANES, min(_BATCH_BYTES // frame_bytes, LANES) if copied else LANES)
    step = max(step, 1)
    for start in range(0, n_frames, step):
        yield slice(start, start + step)


def _some(frames: Any, masks: Layout) -> Iterator[tuple[slice, np.ndarray]]:
    if isinstance(frames, InFile):
        return frames.some(_spans(frames, masks, copied=False))
    return ((now, frames[..., now, :, :]) for now in batches(frames, masks))


def map_sums(
    frames: np.ndarray | InFile,
    masks: Layout,
    finish: Callable[[np.ndarray], np.ndarray],
    dtype: Any,
    n_rois: int | None = None,
    out: np.ndarray | None = None,
) -> np.ndarray:
    """Return what ``finish`` makes of sums ``(…, kind, mask, time)`` of frames ``(…, time, y, x)``.

    It is ``(…, kind, roi, time)``, of as many ROIs as masks unless ``n_rois`` are given. Some
    frames at a time: sums are float64, and a copy of odd frames stays small.
    """
    *lead, n_frames = frames.shape[:-2]
    kinds, n_masks = 1 if masks.neuropil_npix is None else 2, masks.cell_npix.size
    shape = (*lead, kinds, n_masks if n_rois is None else n_rois, n_frames)
    made = np.empty(shape, dtype) if out is None else out
    for now, some in _some(frames, masks):
        sums = np.empty((*lead, kinds, n_masks, some.shape[-3]), np.float64)
        for channel in np.ndindex(*lead):
            mask_sums(some[channel], masks, sums[channel])
        made[..., now] = finish(sums)
    return made
