"""All numba kernels of xs2p, on plain numpy arrays.

Imported inside functions only, so that ``import xs2p`` does not import numba. Every kernel
is serial and releases the GIL: threads are Dask's.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from xs2p.masks.layout import LANES, SEGMENT, Layout, check_layout

Kernel = Callable[..., Any]
_compile_lock = threading.Lock()


def _njit(func: Kernel) -> Kernel:
    """Compile at first call, cached on disk where a cache folder can be written."""
    # numpy's error model: no test for divisors of 0.
    try:
        return numba.njit(nogil=True, error_model="numpy", cache=True)(func)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.njit(nogil=True, error_model="numpy")(func)


def native(array: np.ndarray) -> np.ndarray:
    """Return ``array`` C-contiguous, in native byte order and of a dtype that numba knows.

    A copy is made only of what is not so already; int16 stays int16.
    """
    if array.dtype == np.bool_:
        return np.ascontiguousarray(array).view(np.uint8)
    if array.dtype == np.float16:
        return np.ascontiguousarray(array, dtype=np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))


@_njit
def _count_above(values, limit):  # type: ignore[no-untyped-def]
    # Alone in a function, as all loops here that must become vector instructions.
    above = np.int32(0)
    for i in range(values.size):
        above = np.int32(above + (values[i] > limit))
    return above


@_njit
def _rank_at_least(image, y, x, offsets, rows, columns, size, rank, strip, out):  # type: ignore[no-untyped-def]
    allowed = size * size - rank - 1
    for n in range(offsets.size - 1):
        start, stop = offsets[n], offsets[n + 1]
        if start == stop:
            continue
        left, right, top = x[start], x[start], y[start]
        for i in range(start, stop):
            left, right = min(left, x[i]), max(right, x[i])
        # The windows' columns one after the other, so that a window is contiguous. From one
        # row of pixels to the next, one value of each column is replaced.
        for column in range(right - left + size):
            for i in range(size):
                strip[column * size + i] = image[rows[top + i], columns[left + column]]
        now = top
        for i in range(start, stop):
            while now < y[i]:
                for column in range(right - left + size):
                    place = column * size + (now - top) % size
                    strip[place] = image[rows[now + size], columns[left + column]]
                now += 1
            first = (x[i] - left) * size
            above = _count_above(strip[first : first + size * size], image[y[i], x[i]])
            out[i] = above <= allowed


def rank_at_least(
    image: np.ndarray, y: np.ndarray, x: np.ndarray, offsets: np.ndarray, size: int, rank: int
) -> np.ndarray:
    """Whether pixels ``(y[i], x[i])`` are at or above the rank-filtered image, bool.

    A value is at or above the ``rank``-th smallest of its window, ``size`` by ``size`` pixels with
    edges reflected, exactly when fewer than ``size² − rank`` values of the window exceed it.
    Pixels come in groups ``offsets[n]:offsets[n + 1]``, each sorted by ``y``: one for each ROI,
    for the work follows the groups' bounding boxes.
    """
    pads = (size // 2, size - 1 - size // 2)
    # Which row and column of the image stand at each of the padded image.
    rows, columns = (np.pad(np.arange(n), pads, mode="symmetric") for n in image.shape)
    strip = np.empty(columns.size * size, image.dtype)
    out = np.empty(y.size, bool)
    _rank_at_least(image, y, x, offsets, rows, columns, size, rank, strip, out)
    return out


@_njit
def _free(cell, y0, x0, y1, x1):  # type: ignore[no-untyped-def]
    """Count the pixels of a box that are in no cell."""
    cells = np.int32(0)
    for y in range(np.uint64(y0), np.uint64(y1)):
        for x in range(np.uint64(x0), np.uint64(x1)):
            cells = np.int32(cells + cell[y, x])
    return (y1 - y0) * (x1 - x0) - cells


@_njit
def _rectangles(first, ypix, xpix, offsets, boxes, cell, inner, least, ring, indptr, indices):  # type: ignore[no-untyped-def]
    """Neuropil masks of ROI ``first`` and the next ones, until ``indices`` is full; the next ROI.

    ``boxes`` are the ROIs' bounding boxes, ``ring`` is scratch for the pixels of a dilated one.
    """
    ly, lx = cell.shape
    at = 0
    for n in range(first, offsets.size - 1):
        if offsets[n] == offsets[n + 1]:
            indptr[n + 1] = indptr[n]
            continue
        # Pixels within city-block distance `inner` are taken: for now they count as cells.
        taken = 0
        for i in range(offsets[n], offsets[n + 1]):
            for y in range(max(ypix[i] - inner, 0), min(ypix[i] + inner + 1, ly)):
                reach = inner - abs(y - ypix[i])
                for x in range(max(xpix[i] - reach, 0), min(xpix[i] + reach + 1, lx)):
                    if not cell[y, x]:
                        cell[y, x] = True
                        ring[taken] = y * lx + x
                        taken += 1
        y0, x0 = max(boxes[n, 0] - inner, 0), max(boxes[n, 1] - inner, 0)
        y1, x1 = min(boxes[n, 2] + inner, ly), min(boxes[n, 3] + inner, lx)
        found = 0
        for _ in range(100):
            y0, x0 = max(y0 - 5, 0), max(x0 - 5, 0)
            y1, x1 = min(y1 + 5, ly), min(x1 + 5, lx)
            found = _free(cell, y0, x0, y1, x1)
            if found > least or (y1 - y0 == ly and x1 - x0 == lx):
                break
        room = at + found < indices.size
        if room:
            indptr[n + 1] = indptr[n] + found
            # Every pixel is written, and the next one over it unless it is free: no branch.
            for y in range(y0, y1):
                for x in range(x0, x1):
                    indices[at] = y * lx + x
                    at += not cell[y, x]
        for i in range(taken):
            cell[ring[i] // lx, ring[i] % lx] = False
        if not room:
            return n
    return offsets.size - 1


def rectangular_neuropil(
    ypix: np.ndarray,
    xpix: np.ndarray,
    offsets: np.ndarray,
    cell: np.ndarray,
    inner: int,
    least: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Neuropil masks grown as bounding boxes; ``(indptr, flat indices)``.

    Pixels are int64, those of ROI ``n`` at ``offsets[n]:offsets[n + 1]``; ``cell`` is the cell
    image, bool, written to on the way and at the end as it was. The work follows the
    boxes, not the frame.
    """
    n_rois = offsets.size - 1
    boxes = np.zeros((n_rois, 4), np.int64)
    some = np.diff(offsets) > 0
    start = offsets[:-1][some]
    if start.size:
        boxes[some, 0] = np.minimum.reduceat(ypix, start)
        boxes[some, 1] = np.minimum.reduceat(xpix, start)
        boxes[some, 2] = np.maximum.reduceat(ypix, start) + 1
        boxes[some, 3] = np.maximum.reduceat(xpix, start) + 1
    diamond = 2 * inner * (inner + 1) + 1
    ring = np.empty(min(np.diff(offsets).max(initial=0) * diamond, cell.size), np.int64)
    arguments = (ypix, xpix, offsets, boxes, cell, inner, least, ring)
    return _grow(_rectangles, arguments, n_rois, cell.size)


@_njit
def _circles(n, ypix, xpix, offsets, cell, inner, least, seen, queue, indptr, indices):  # type: ignore[no-untyped-def]
    """Neuropil masks of ROI ``n`` and the next ones, until ``indices`` is full; the next ROI.

    ``seen``, all False before and after, and ``queue`` are scratch of the frame's size.
    """
    ly, lx = cell.shape
    filled = 0
    while n < offsets.size - 1:
        head = 0
        tail = 0
        for k in range(offsets[n], offsets[n + 1]):
            if not seen[ypix[k], xpix[k]]:
                seen[ypix[k], xpix[k]] = True
                queue[tail] = ypix[k] * lx + xpix[k]
                tail += 1
        ring_end = 0
        found = 0
        for step in range(inner + 500):
            if step == inner:
                ring_end = tail
            elif step > inner and (step - inner) % 5 == 0 and found > least:
                break
            front_end = tail
            while head < front_end:
                y = queue[head] // lx
                x = queue[head] - y * lx
                head += 1
                for direction in range(4):
                    yy = y + (direction == 0) - (direction == 1)
                    xx = x + (direction == 2) - (direction == 3)
                    if 0 <= yy < ly and 0 <= xx < lx and not seen[yy, xx]:
                        seen[yy, xx] = True
                        queue[tail] = yy * lx + xx
                        tail += 1
                        found += step >= inner and not cell[yy, xx]
            if front_end == tail:  # the whole frame is taken: no step can add a pixel
                if step < inner:
                    ring_end = tail
                break
        for k in range(tail):
            seen[queue[k] // lx, queue[k] % lx] = False
        if filled + found > indices.size:
            break
        for k in range(ring_end, tail):
            if not cell[queue[k] // lx, queue[k] % lx]:
                indices[filled] = queue[k]
                filled += 1
        n += 1
        indptr[n] = indptr[n - 1] + found
    return n


def circular_neuropil(
    ypix: np.ndarray,
    xpix: np.ndarray,
    offsets: np.ndarray,
    cell: np.ndarray,
    inner: int,
    least: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Neuropil masks grown by the 4-connected cross; as :func:`rectangular_neuropil`.

    Dilation by the cross is a breadth-first walk: the wave front is all that is visited, so
    the cost follows the region and not the frame.
    """
    seen = np.zeros(cell.shape, bool)
    # Touched, and so in memory, only as far as a mask grows.
    queue = np.empty(cell.size, np.int64)
    n_rois = offsets.size - 1
    arguments = (ypix, xpix, offsets, cell, inner, least, seen, queue)
    indptr, indices = _grow(_circles, arguments, n_rois, cell.size)
    first = np.repeat(np.arange(n_rois), np.diff(indptr)) * cell.size
    return indptr, (np.sort(indices + first) - first).astype(indices.dtype)


def _grow(
    kernel: Kernel, arguments: Any, n_rois: int, n_pixels: int
) -> tuple[np.ndarray, np.ndarray]:
    """Call a kernel until it has done all ROIs, with room for more pixels each time."""
    indptr = np.zeros(n_rois + 1, np.int64)
    dtype = np.int32 if n_pixels < 2**31 else np.int64
    parts: list[np.ndarray] = []
    n, room = 0, 1024 * n_rois
    while n < n_rois:
        part = np.empty(room, dtype)  # in memory only as far as it is filled
        start, done = indptr[n], kernel(n, *arguments, indptr, part)
        parts.append(part[: indptr[done] - start])
        n, room = done, room if done > n else 2 * room
    return indptr, parts[0] if len(parts) == 1 else np.concatenate([np.empty(0, dtype), *parts])


# Frames that are read at once one by one: more streams cost more than they save.
_STREAMS = 4

# In the loops below that run over the frames side by side, their number is a variable: were
# it a constant, they would be unrolled and not compiled to vector instructions. Indices
# in the loops over pixels are unsigned: numba then leaves out the test for negative ones.


@_njit
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
    item = ir.DoubleType() if kind == types.float64 else ir.IntType(kind.bitwidth)
    return builder.inttoptr(address, ir.VectorType(item, 8).as_pointer())


# What takes most of an extraction's time, as vectors of 8 frames, which LLVM turns into what the
# processor has. Arguments that are not addresses or steps in bytes are there for their types.


@intrinsic
def _add_up_8_by_8(typingctx, element, total, source, frame_step, target, step):  # type: ignore[no-untyped-def]
    """Add up 8 pixels of 8 frames, ``target[i + 1] = target[i] + source[:, i]``."""

    def generate(context, builder, signature, arguments):  # type: ignore[no-untyped-def]
        _, _, source, frame_step, target, step = arguments
        rows = [
            builder.load(
                _vector(builder, element, source, frame_step, i), align=element.bitwidth // 8
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
        sums = builder.load(pointer, align=total.bitwidth // 8)
        for i, row in enumerate(rows):
            sums = builder.add(sums, extend(row, pointer.type.pointee))
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
            builder.load(_vector(builder, total, address), align=total.bitwidth // 8)
            for address in (stop, start)
        )
        pointer = _vector(builder, sums, target)
        kind, align = pointer.type.pointee, sums.bitwidth // 8
        change, before = builder.sub(last, first), builder.load(pointer, align=align)
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


@_njit
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


@_njit
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


@_njit
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


@_njit
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


def mask_sums(frames: np.ndarray, masks: Layout, out: np.ndarray) -> None:
    """Add up frames ``(time, y, x)``, contiguous, over each mask.

    ``out`` is float64 ``(kind, roi, time)``: kind 0 the weighted sums over the cell masks, kind 1,
    if ``out`` has it, the plain sums over the neuropil masks. These are exact for integers below
    64 bits; 64-bit integers, whose sum could pass 2^63, are added up in float64 as floats are.
    Each frame's sums are the same to the last bit whatever frames stand beside it.
    """
    if frames.size == 0:
        out[:] = 0
        return
    n_frames, n_rois = frames.shape[0], out.shape[1]
    frames = frames.reshape(n_frames, -1)
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


@_njit
def decay_table(tau_fs, n):  # type: ignore[no-untyped-def]
    """``exp(−l / (tau·fs))`` for ``l = 0 … n − 1``, float64.

    Compiled, because numpy's vectorised ``exp`` rounds some values differently from the
    scalar one that the reference calls.
    """
    table = np.empty(n, np.float64)
    for length in range(n):
        table[length] = math.exp(-length / tau_fs)
    return table


@_njit
def _spikes(first, table, v, length, n, s):  # type: ignore[no-untyped-def]
    """Spikes ``s`` of a trace with the pools ``1 … n``, where ``first`` is its first sample."""
    last = table.size - 1
    one = np.uint64(1)
    for frame in range(s.size):
        s[frame] = 0.0
    # An ROI without a trace has no spikes: NaN, in its first frame too.
    if math.isnan(first):
        s[0] = first
    start = length[min(n, one)]
    for i in range(np.uint64(2), n + one):
        s[start] = v[i] - v[i - one] * table[min(length[i - one], last)]
        start += length[i]


@_njit
def oasis_pools(F, table, v, w, length, s):  # type: ignore[no-untyped-def]
    """One trace: fill the pools (value, weight, length) and the spikes ``s``; their number.

    Friedrich, Zhou & Paninski 2017, AR(1) without sparsity penalty. Pools are float32 and
    decays float64, as in the reference, so that results agree to the last bit. Decays
    longer than ``table`` are its last, zero in float64. ``v``, ``w`` and ``length`` are stacks
    with room for one more than there are frames; the last pool is held apart from its stack.
    """
    last = table.size - 1
    one = np.uint64(1)
    n = np.uint64(0)
    unit = np.float32(1)
    g, g2 = table[min(1, last)], table[min(2, last)]
    # Below the first pool: it decays to less than any value, and nothing merges with it.
    pool_v, pool_w, pool_length = np.float32(-np.inf), unit, 0
    decay, decay2, decayed = g, g2, np.float64(-np.inf)
    for frame in range(F.size):
        value, weight, span = F[frame], unit, 1
        if not decayed > value:
            v[n], w[n], length[n] = pool_v, pool_w, pool_length
            n += one
            pool_v, pool_w, pool_length = value, unit, 1
            decay, decay2 = g, g2
        else:
            while decayed > value:
                total = pool_w + weight * decay2
                value = np.float32((pool_v * pool_w + value * weight * decay) / total)
                weight = np.float32(total)
                span += pool_length
                n -= one
                pool_v, pool_w, pool_length = v[n], w[n], length[n]
                decay = table[min(pool_length, last)]
                decay2 = table[min(2 * pool_length, last)]
                decayed = pool_v * decay
            n += one
            pool_v, pool_w, pool_length = value, weight, span
            decay = table[min(span, last)]
            decay2 = table[min(2 * span, last)]
        decayed = pool_v * decay
    v[n], w[n], length[n] = pool_v, pool_w, pool_length
    _spikes(F[0], table, v, length, n, s)
    return n


# Traces that are deconvolved side by side, by trial, and the rows of their state: of the last
# pool its value, weight, decays by its length and twice that, and what it has decayed to; what the
# pool before it has decayed to; value and weight of the last pool with the next frame, and what
# is left to do with it.
_TRACES = 32
_FRAMES = 64  # that are brought into order at once
_FEW = 6  # traces: fewer are faster one by one
_V, _W, _DECAY, _DECAY2, _DECAYED, _UNDER, _NEW_V, _NEW_W, _TODO = (
    np.uint64(row * _TRACES) for row in range(9)
)
_OPEN, _MERGE = 1.0, 2.0


@_njit
def _next_frame(frame, state):  # type: ignore[no-untyped-def]
    """Merge a frame into the last pool of each trace, or let it open one: mostly, that is all."""
    # One array and no branch: only so is the loop compiled to vector instructions. The values
    # are float32 in float64, so that every product and sum is as in oasis_pools.
    for i in range(np.uint64(frame.size)):
        v, w, sample = state[_V + i], state[_W + i], np.float64(frame[i])
        merges = state[_DECAYED + i] > sample
        total = w + state[_DECAY2 + i]
        value = np.float32((np.float32(v * w) + sample * state[_DECAY + i]) / total)
        new = np.float64(value) if merges else sample
        state[_NEW_V + i] = new
        state[_NEW_W + i] = np.float64(np.float32(total)) if merges else 1.0
        again = _MERGE if state[_UNDER + i] > new else 0.0
        state[_TODO + i] = again if merges else _OPEN


@_njit
def _oasis_side_by_side(F, table, frames, state, span, n, v, w, length, s):  # type: ignore[no-untyped-def]
    """Deconvolve some traces ``(n, time)`` at once: as :func:`oasis_pools`, to the last bit.

    Frame by frame, all traces merge their frame in vectors; the few that open a pool or must
    merge it with one more are gone through one by one. Alone, a trace waits in every frame for
    the division of the one before.
    """
    last = table.size - 1
    one = np.uint64(1)
    count = np.uint64(F.shape[0])
    opening, merging = np.empty(_TRACES + 1, np.uint64), np.empty(_TRACES + 1, np.uint64)
    # Whole vectors: places beyond the last trace hold a trace of zeros.
    width = (F.shape[0] + 7) // 8 * 8
    frames[:] = 0
    for i in range(np.uint64(width)):
        state[_V + i], state[_W + i] = -np.inf, 1.0
        state[_DECAY + i], state[_DECAY2 + i] = table[min(1, last)], table[min(2, last)]
        state[_DECAYED + i], state[_UNDER + i] = -np.inf, -np.inf
        span[i], n[i] = 0, 0
    for start in range(0, F.shape[1], _FRAMES):
        size = min(_FRAMES, F.shape[1] - start)
        for i in range(count):
            for t in range(size):
                frames[t, i] = F[i, start + t]
        for t in range(size):
            _next_frame(frames[t, :width], state)
            n_opening, n_merging = np.uint64(0), np.uint64(0)
            for i in range(count):
                opening[n_opening], merging[n_merging] = i, i
                n_opening += np.uint64(state[_TODO + i] == _OPEN)
                n_merging += np.uint64(state[_TODO + i] == _MERGE)
            for k in range(n_opening):
                i = opening[k]
                top = np.uint64(n[i])
                v[i, top], w[i, top], length[i, top] = state[_V + i], state[_W + i], span[i]
                n[i], span[i] = top + one, 0
                state[_UNDER + i] = state[_DECAYED + i]
            for k in range(n_merging):
                i = merging[k]
                top, long = np.uint64(n[i]), span[i]
                value, weight = np.float32(state[_NEW_V + i]), np.float32(state[_NEW_W + i])
                under = state[_UNDER + i]
                while under > value:
                    top -= one
                    decay = table[min(length[i, top], last)]
                    total = w[i, top] + weight * table[min(2 * length[i, top], last)]
                    value = np.float32((v[i, top] * w[i, top] + value * weight * decay) / total)
                    weight = np.float32(total)
                    long += length[i, top]
                    under = v[i, top - one] * table[min(length[i, top - one], last)]
                n[i], span[i] = top, long
                state[_NEW_V + i], state[_NEW_W + i] = value, weight
                state[_UNDER + i] = under
            for i in range(count):
                span[i] += 1
                decay = table[min(span[i], last)]
                state[_V + i], state[_W + i] = state[_NEW_V + i], state[_NEW_W + i]
                state[_DECAY + i], state[_DECAY2 + i] = decay, table[min(2 * span[i], last)]
                state[_DECAYED + i] = state[_V + i] * decay
    for i in range(count):
        top = np.uint64(n[i])
        v[i, top], w[i, top], length[i, top] = state[_V + i], state[_W + i], span[i]
        _spikes(F[i, 0], table, v[i], length[i], top, s[i])


def decay_length(tau_fs: np.float32, n_frames: int) -> int:
    """How long a table of decays must be: to the last pair of pools, or to where it is zero."""
    return int(min(2 * n_frames + 1, math.ceil(746 * float(tau_fs)) + 1))


@functools.cache
def _compiled_oasis() -> Kernel:
    def kernel(F, table, s):  # type: ignore[no-untyped-def]
        n_traces, room = min(F.shape[0], _TRACES), F.shape[1] + 1
        v = np.empty((n_traces, room), np.float32)
        w = np.empty((n_traces, room), np.float32)
        length = np.empty((n_traces, room), np.int64)
        frames = np.empty((_FRAMES, _TRACES), np.float32)
        state = np.empty(9 * _TRACES, np.float64)
        span, n = np.empty(_TRACES, np.int64), np.empty(_TRACES, np.int64)
        for start in range(0, F.shape[0], _TRACES):
            some = slice(start, min(start + _TRACES, F.shape[0]))
            if some.stop - start < _FEW:
                for i in range(start, some.stop):
                    oasis_pools(F[i], table, v[0], w[0], length[0], s[i])
            else:
                _oasis_side_by_side(F[some], table, frames, state, span, n, v, w, length, s[some])

    signature = "void(float32[:,:], float64[:], float32[:,:])"
    layout = "(r,t),(k)->(r,t)"
    try:
        return numba.guvectorize([signature], layout, nopython=True, cache=True)(kernel)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.guvectorize([signature], layout, nopython=True)(kernel)


def oasis_gufunc() -> Kernel:
    """Return the gufunc ``(roi, time), (decays) -> (roi, time)`` over any leading dimensions."""
    with _compile_lock:  # two threads at once would compile it twice
        return _compiled_oasis()


def oasis(
    F: np.ndarray, tau_fs: np.ndarray | np.float32, out: np.ndarray | None = None
) -> np.ndarray:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, float32, broadcasts over the leading dims."""
    F = np.ascontiguousarray(F, dtype=np.float32)
    spikes = np.empty(F.shape, np.float32) if out is None else out
    if F.size == 0:
        return spikes
    gufunc = oasis_gufunc()
    tau_fs = np.broadcast_to(np.asarray(tau_fs, dtype=np.float32), F.shape[:-1])
    for value in np.unique(tau_fs):
        table = decay_table(value, decay_length(value, F.shape[-1]))
        same = tau_fs == value
        with np.errstate(all="ignore"):  # what a vector does in the places of no trace
            if same.all():
                gufunc(np.atleast_2d(F), table, np.atleast_2d(spikes))
            else:
                spikes[same] = gufunc(F[same], table)
    return spikes


def gaussian_scipy(F: np.ndarray, sigma: float) -> np.ndarray:
    """SciPy's own Gaussian along time: cut at 4 sigma, edges reflected."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(F, sigma, axis=-1)) if sigma > 0 else F


def percentile(F: np.ndarray, percent: float) -> np.ndarray:
    """Percentile of each trace, float32: between two samples linearly."""
    return np.asarray(np.percentile(F, percent, axis=-1), dtype=np.float32)


# Samples whose sums stay in the processor's first cache, and those of which two copies stay
# in its second.
_TILE = 2048
_BLOCK = 2**17


@_njit
def _add_tap(before, behind, tap, sums):  # type: ignore[no-untyped-def]
    # Alone in a function: only so is it compiled to vector instructions.
    for i in range(sums.size):
        sums[i] += (before[i] + behind[i]) * tap


@_njit
def _smooth(padded, taps, sums, out):  # type: ignore[no-untyped-def]
    """Symmetric filter of traces, in float64, its terms in SciPy's order: the same bits."""
    radius = taps.size - 1
    for n in range(out.shape[0]):
        trace, result = padded[n], out[n]
        for start in range(0, result.size, sums.size):
            size = min(sums.size, result.size - start)
            centre = start + radius
            for i in range(size):
                sums[i] = trace[centre + i] * taps[0]
            for k in range(radius, 0, -1):
                _add_tap(trace[centre - k :], trace[centre + k :], taps[k], sums[:size])
            for i in range(size):
                result[start + i] = sums[i]


def _running(F: np.ndarray, left: int, right: int, extreme: Any, nothing: float) -> np.ndarray:
    """Minimum or maximum of ``F[:, i - left : i + right + 1]``, cut at the ends.

    That of 2, 4, 8 … samples and then of the window: as many passes as its logarithm, none
    with a branch.
    """
    n_frames, window = F.shape[1], left + right + 1
    out = np.empty_like(F)
    tile = min(max(_BLOCK // F.shape[0], window), n_frames)
    scratch = np.empty((2, F.shape[0], tile + window - 1), F.dtype)
    for start in range(0, n_frames, tile):
        stop = min(start + tile, n_frames)
        first, last = max(start - left, 0), min(stop + right, n_frames)
        count, shift = stop - start + window - 1, first - (start - left)
        now, then = scratch
        now[:, :shift] = nothing
        now[:, shift : shift + last - first] = F[:, first:last]
        now[:, shift + last - first : count] = nothing
        width = 1
        while width < window:
            step = min(width, window - width)
            count -= step
            extreme(now[:, :count], now[:, step : step + count], out=then[:, :count])
            now, then = then, now
            width += step
        out[:, start:stop] = now[:, :count]
    return out


def maximin(F: np.ndarray, sigma: float, size: int, *, legacy: bool = False) -> np.ndarray:
    """Gaussian, then the centred running minimum and maximum of ``size`` frames.

    The Gaussian is cut at ``round(3·sigma)`` and edges are replicated; ``legacy``: cut at 4
    sigma and edges reflected, as SciPy does by default.
    """
    n_frames = F.shape[-1]
    radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
    # Which frame stands at each place of the padded trace.
    frame = np.pad(np.arange(n_frames), radius, mode="symmetric" if legacy else "edge")
    taps = np.exp(-0.5 / max(sigma, 1e-9) ** 2 * np.arange(-radius, radius + 1) ** 2)
    taps = (taps / taps.sum())[radius:]
    # A window that takes in the whole trace from everywhere needs no more.
    left, right = (min(side, n_frames) for side in (size // 2, size - 1 - size // 2))
    F0 = np.empty(F.shape, np.float32)
    traces, sums = F.reshape(-1, n_frames), np.empty(min(_TILE, n_frames), np.float64)
    for start in range(0, traces.shape[0], max(_BLOCK // n_frames, 1)):
        some = slice(start, start + max(_BLOCK // n_frames, 1))
        padded = np.take(traces[some].astype(np.float64), frame, axis=1)
        gap = np.isnan(padded)
        holed = bool(gap.any())
        smooth = np.empty((padded.shape[0], n_frames), np.float32)
        _smooth(np.where(gap, 0.0, padded) if holed else padded, taps, sums, smooth)
        low = _running(smooth, left, right, np.minimum, np.inf)
        high = _running(low, left, right, np.maximum, -np.inf)
        if holed:  # blank what a NaN reaches
            reach = min(radius + 2 * (size // 2), n_frames)
            inside = gap[:, radius : radius + n_frames]
            high[_running(inside, reach, reach, np.logical_or, False)] = np.nan
        F0.reshape(-1, n_frames)[some] = high
    return F0
