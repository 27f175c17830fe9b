"""Sums of frames over masks, on the CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xs2p.compute.kernels import Kernel, native, njit
from xs2p.masks.layout import LANES, SEGMENT, Layout, check_layout

__all__ = ["batches", "map_sums", "mask_sums"]

# Frames that are read at once one by one: more streams cost more than they save.
_STREAMS = 4


@njit
def _load(frames, lane, first, low, high, buffer):  # type: ignore[no-untyped-def]
    """Copy the pixels of four frames, ``buffer[p, lane + i] = frames[lane + i, first + p]``."""
    last = frames.shape[0] - 1
    a, b = frames[lane], frames[min(lane + 1, last)]
    c, d = frames[min(lane + 2, last)], frames[min(lane + 3, last)]
    one, lane, first = np.uint64(1), np.uint64(lane), np.uint64(first)
    for p in range(np.uint64(low), np.uint64(high)):
        buffer[p, lane] = a[first + p]
        buffer[p, lane + one] = b[first + p]
        buffer[p, lane + one + one] = c[first + p]
        buffer[p, lane + one + one + one] = d[first + p]


def _vector(builder, kind, address, step=None, i=0):  # type: ignore[no-untyped-def]
    """LLVM's pointer to 8 numbers of a numba type, ``i`` steps of bytes behind an address."""
    if step is not None:
        address = builder.add(address, builder.mul(step, ir.Constant(address.type, i)))
    return builder.inttoptr(address, _eight(kind).as_pointer())


def _eight(kind):  # type: ignore[no-untyped-def]
    """LLVM's type of 8 numbers of a numba type; its pointers do not tell what they point to."""
    item = ir.DoubleType() if kind == types.float64 else ir.IntType(kind.bitwidth)
    return ir.VectorType(item, 8)


@intrinsic
def _add_up_8_by_8(typingctx, element, total, source, frame_step, target, step):  # type: ignore[no-untyped-def]
    """Add up 8 pixels of 8 frames, ``target[i + 1] = target[i] + source[:, i]``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, source, frame_step, target, step = arguments
        rows = [
            builder.load(
                _vector(builder, element, source, frame_step, i),
                align=element.bitwidth // 8,
                typ=_eight(element),
            )
            for i in range(8)
        ]
        # Three perfect shuffles of eight rows of eight transpose them.
        indices = ir.VectorType(ir.IntType(32), 8)
        first = ir.Constant(indices, [0, 8, 1, 9, 2, 10, 3, 11])
        second = ir.Constant(indices, [4, 12, 5, 13, 6, 14, 7, 15])
        for _ in range(3):
            rows = [
                builder.shuffle_vector(rows[i], rows[i + 4], half)
                for i in range(4)
                for half in (first, second)
            ]
        extend = builder.sext if element.signed else builder.zext
        pointer = _vector(builder, total, target)
        sums = builder.load(pointer, align=total.bitwidth // 8, typ=_eight(total))
        for i, row in enumerate(rows):
            sums = builder.add(sums, extend(row, _eight(total)))
            pointer = _vector(builder, total, target, step, i + 1)
            builder.store(sums, pointer, align=total.bitwidth // 8)
        return context.get_dummy_value()

    return types.none(element, total, *(types.uintp,) * 4), generate


@intrinsic
def _add_difference(typingctx, total, sums, weight, target, stop, start):  # type: ignore[no-untyped-def]
    """Add ``stop − start`` of 8 frames to integer sums, ``weight`` times it to float64 sums."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, factor, target, stop, start = arguments
        last, first = (
            builder.load(
                _vector(builder, total, address), align=total.bitwidth // 8, typ=_eight(total)
            )
            for address in (stop, start)
        )
        pointer = _vector(builder, sums, target)
        kind, align = _eight(sums), sums.bitwidth // 8
        change = builder.sub(last, first)
        before = builder.load(pointer, align=align, typ=kind)
        if sums == types.float64:
            factors = ir.Constant(kind, ir.Undefined)
            for i in range(8):
                factors = builder.insert_element(factors, factor, ir.IntType(32)(i))
            change = builder.fmul(factors, builder.sitofp(change, kind))
            after = builder.fadd(before, change)
        else:
            wide = builder.sext(change, kind) if sums.bitwidth > total.bitwidth else change
            after = builder.add(before, wide)
        builder.store(after, pointer, align=align)
        return context.get_dummy_value()

    return types.none(total, sums, weight, *(types.uintp,) * 3), generate


@njit
def _load_sums(frames, lane, first, low, high, buffer):  # type: ignore[no-untyped-def]
    """Add up the pixels of four frames: ``buffer[p + 1] = buffer[p] + frames[:, first + p]``."""
    last = frames.shape[0] - 1
    a, b = frames[lane], frames[min(lane + 1, last)]
    c, d = frames[min(lane + 2, last)], frames[min(lane + 3, last)]
    one, lane, first = np.uint64(1), np.uint64(lane), np.uint64(first)
    sum_a, sum_b = buffer[low, lane], buffer[low, lane + one]
    sum_c, sum_d = buffer[low, lane + one + one], buffer[low, lane + one + one + one]
    for p in range(np.uint64(low), np.uint64(high)):
        sum_a += a[first + p]
        sum_b += b[first + p]
        sum_c += c[first + p]
        sum_d += d[first + p]
        buffer[p + one, lane] = sum_a
        buffer[p + one, lane + one] = sum_b
        buffer[p + one, lane + one + one] = sum_c
        buffer[p + one, lane + one + one + one] = sum_d


@njit
def _load_segment(frames, first, low, high, buffer):  # type: ignore[no-untyped-def]
    """Fill ``buffer[p]`` with the sums of the pixels ``first + low`` to ``first + p − 1``."""
    for lane in range(buffer.shape[1]):
        buffer[low, lane] = 0
    n_frames, size, step = frames.shape[0], frames.itemsize, buffer.strides[0]
    for lane in range(0, n_frames, 8):
        done = low
        if lane + 8 <= n_frames:
            source = np.int64(frames.ctypes.data) + lane * frames.strides[0] + (first + low) * size
            target = np.int64(buffer.ctypes.data) + low * step + lane * buffer.itemsize
            while done + 8 <= high:
                _add_up_8_by_8(  # type: ignore[call-arg]
                    frames[0, 0],
                    buffer[0, 0],
                    np.uintp(source),
                    np.uintp(frames.strides[0]),
                    np.uintp(target),
                    np.uintp(step),
                )
                source += 8 * size
                target += 8 * step
                done += 8
        if done < high:
            for part in range(lane, min(lane + 8, n_frames), _STREAMS):
                _load_sums(frames, part, first, done, high, buffer)


@njit
def _integer_sums(frames, segments, cell, runs, buffer, weighted, plain):  # type: ignore[no-untyped-def]
    """Add up integers. A run's sum is the difference of two sums of all pixels before it: exact."""
    row, sums = buffer.strides[0], np.int64(buffer.ctypes.data)
    cells, rings = np.int64(weighted.ctypes.data), np.int64(plain.ctypes.data)
    for s in range(segments.first.size):
        _load_segment(frames, segments.first[s], segments.low[s], segments.high[s], buffer)
        for k in range(cell.bounds[s], cell.bounds[s + 1]):
            target, start = cells + cell.roi[k] * weighted.strides[0], sums + cell.place[k] * row
            for lane in range(0, buffer.shape[1], 8):
                place = np.uintp(start + lane * buffer.itemsize)
                _add_difference(  # type: ignore[call-arg]
                    buffer[0, 0],
                    weighted[0, 0],
                    cell.weight[k],
                    np.uintp(target + lane * weighted.itemsize),
                    place + np.uintp(row),
                    place,
                )
        for k in range(runs.bounds[s], runs.bounds[s + 1]):
            target = rings + runs.roi[k] * plain.strides[0]
            start, stop = sums + runs.start[k] * row, sums + runs.stop[k] * row
            for lane in range(0, buffer.shape[1], 8):
                _add_difference(  # type: ignore[call-arg]
                    buffer[0, 0],
                    plain[0, 0],
                    1.0,
                    np.uintp(target + lane * plain.itemsize),
                    np.uintp(stop + lane * buffer.itemsize),
                    np.uintp(start + lane * buffer.itemsize),
                )


@njit
def _direct_sums(frames, segments, cell, runs, buffer, weighted, plain):  # type: ignore[no-untyped-def]
    """Add up any numbers, pixel by pixel: a NaN in one mask touches no other."""
    lanes = buffer.shape[1]
    for s in range(segments.first.size):
        for lane in range(0, frames.shape[0], _STREAMS):
            _load(frames, lane, segments.first[s], segments.low[s], segments.high[s], buffer)
        for k in range(cell.bounds[s], cell.bounds[s + 1]):
            n, p, weight = cell.roi[k], cell.place[k], cell.weight[k]
            for lane in range(lanes):
                weighted[n, lane] += weight * buffer[p, lane]
        for k in range(runs.bounds[s], runs.bounds[s + 1]):
            n, p, stop = runs.roi[k], np.int64(runs.start[k]), np.int64(runs.stop[k])
            while p + 4 <= stop:
                for lane in range(lanes):
                    plain[n, lane] += (buffer[p, lane] + buffer[p + 1, lane]) + (
                        buffer[p + 2, lane] + buffer[p + 3, lane]
                    )
                p += 4
            while p < stop:
                for lane in range(lanes):
                    plain[n, lane] += buffer[p, lane]
                p += 1


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
    integers = frames.dtype.kind != "f" and frames.dtype.itemsize < 8
    lanes = min(LANES, -(-n_frames // 8) * 8)
    kernel: Kernel = _direct_sums
    in_buffer: Any = np.float64
    in_sums: Any = np.float64
    if integers:
        # 256 pixels of 16 bits add up to less than 2^24, and 2^15 of them to less than 2^31.
        kernel, in_buffer, in_sums = _integer_sums, np.int64, np.int64
        if frames.dtype.itemsize <= 2:
            in_buffer = np.int32
            largest = 0 if masks.neuropil_npix is None else masks.neuropil_npix.max(initial=0)
            in_sums = np.int32 if largest < 2**15 else np.int64
    buffer = np.zeros((SEGMENT + 1, lanes), in_buffer)
    weighted = np.empty((n_rois, lanes), np.float64)
    plain = np.empty((n_rois, lanes), in_sums)
    for start in range(0, n_frames, lanes):
        some = frames[start : start + lanes]
        weighted.fill(0)
        plain.fill(0)
        kernel(some, masks.segments, masks.cell, masks.runs, buffer, weighted, plain)
        for sums, kind in zip((weighted, plain), out, strict=False):
            kind[:, start : start + lanes] = sums[:, : some.shape[0]]
    return out


# Bytes of frames that the kernels see at once.
_BATCH_BYTES = 2**25


def batches(frames: np.ndarray, masks: Layout) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` so that what a batch needs beside them is small.

    That is their sums and, where they do not lie in memory as the kernels want them, a copy.
    """
    n_frames, height, width = frames.shape[-3:]
    itemsize = max(frames.dtype.itemsize, 4 if frames.dtype.kind == "f" else 1)
    frame_bytes = max(height * width * itemsize, 1)
    copied = not (frames.flags.c_contiguous and frames.dtype.isnative)
    copied |= frames.dtype == np.float16  # the kernels know none
    step = _BATCH_BYTES // max(frame_bytes, 64 * masks.cell_npix.size)
    step = max(step // LANES * LANES, min(_BATCH_BYTES // frame_bytes, LANES) if copied else LANES)
    step = max(step, 1)
    for start in range(0, n_frames, step):
        yield slice(start, start + step)


def map_sums(
    frames: np.ndarray,
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
    for now in batches(frames, masks):
        some = frames[..., now, :, :]
        sums = np.empty((*lead, kinds, n_masks, some.shape[-3]), np.float64)
        for channel in np.ndindex(*lead):
            mask_sums(some[channel], masks, sums[channel])
        made[..., now] = finish(sums)
    return made
