"""How masks are made, on the CPU: ranks of weights, and neuropil that grows around ROIs."""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.kernels import Kernel, inner, njit


@inner
def _count_above(values, limit):  # type: ignore[no-untyped-def]
    # Alone in a function, as all loops here that must become vector instructions.
    above = np.int32(0)
    for i in range(values.size):
        above = np.int32(above + (values[i] > limit))
    return above


@njit
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


@inner
def _free(cell, y0, x0, y1, x1):  # type: ignore[no-untyped-def]
    """Count the pixels of a box that are in no cell."""
    cells = np.int32(0)
    for y in range(np.uint64(y0), np.uint64(y1)):
        for x in range(np.uint64(x0), np.uint64(x1)):
            cells = np.int32(cells + cell[y, x])
    return (y1 - y0) * (x1 - x0) - cells


@inner
def _take_ring(ypix, xpix, inner, cell, ring):  # type: ignore[no-untyped-def]
    """Let pixels within city-block distance ``inner`` count as cells for now; how many are new."""
    ly, lx = cell.shape
    taken = 0
    for i in range(ypix.size):
        for y in range(max(ypix[i] - inner, 0), min(ypix[i] + inner + 1, ly)):
            reach = inner - abs(y - ypix[i])
            for x in range(max(xpix[i] - reach, 0), min(xpix[i] + reach + 1, lx)):
                if not cell[y, x]:
                    cell[y, x] = True
                    ring[taken] = y * lx + x
                    taken += 1
    return taken


@inner
def _give_back(ring, taken, cell):  # type: ignore[no-untyped-def]
    for i in range(taken):
        cell[ring[i] // cell.shape[1], ring[i] % cell.shape[1]] = False


@njit
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
        own = slice(offsets[n], offsets[n + 1])
        taken = _take_ring(ypix[own], xpix[own], inner, cell, ring)
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
        _give_back(ring, taken, cell)
        if not room:
            return n
    return offsets.size - 1


@njit
def _in_crowds(  # type: ignore[no-untyped-def]
    first, ypix, xpix, offsets, boxes, cell, inner, least, ring, above, free, indptr, indices
):
    """As :func:`_rectangles`, by tables of the frame: the work does not follow the boxes' areas.

    ``above[y, x]`` counts the pixels above and left of one that are in no cell, and ``free`` lists
    all of these in the order of the frame.
    """
    ly, lx = cell.shape
    at = 0
    for n in range(first, offsets.size - 1):
        if offsets[n] == offsets[n + 1]:
            indptr[n + 1] = indptr[n]
            continue
        own = slice(offsets[n], offsets[n + 1])
        taken = _take_ring(ypix[own], xpix[own], inner, cell, ring)
        y0, x0 = max(boxes[n, 0] - inner, 0), max(boxes[n, 1] - inner, 0)
        y1, x1 = min(boxes[n, 2] + inner, ly), min(boxes[n, 3] + inner, lx)
        found = 0
        for _ in range(100):
            y0, x0 = max(y0 - 5, 0), max(x0 - 5, 0)
            y1, x1 = min(y1 + 5, ly), min(x1 + 5, lx)
            found = above[y1, x1] - above[y0, x1] - above[y1, x0] + above[y0, x0] - taken
            if found > least or (y1 - y0 == ly and x1 - x0 == lx):
                break
        room = at + found < indices.size
        if room:
            indptr[n + 1] = indptr[n] + found
            for y in range(y0, y1):
                row = above[y, lx]
                start = row + above[y + 1, x0] - above[y, x0]
                for i in range(start, row + above[y + 1, x1] - above[y, x1]):
                    indices[at] = free[i]
                    at += not cell[y, free[i] - y * lx]
        _give_back(ring, taken, cell)
        if not room:
            return n
    return offsets.size - 1


# Pixels of the frame for each ROI, below which boxes may have to grow far to find free ones.
_CROWDED = 4096


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
    image, bool, written to on the way and at the end as it was. The work follows the boxes, not
    the frame; where ROIs are crowded the frame once, and then the pixels that are found.
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
    arguments: tuple[Any, ...] = (ypix, xpix, offsets, boxes, cell, inner, least, ring)
    if cell.size > _CROWDED * n_rois:
        return _grow(_rectangles, arguments, n_rois, cell.size)
    above = np.zeros((cell.shape[0] + 1, cell.shape[1] + 1), np.int64)
    np.cumsum(~cell, axis=0, out=above[1:, 1:])
    np.cumsum(above, axis=1, out=above)
    return _grow(_in_crowds, (*arguments, above, np.flatnonzero(~cell)), n_rois, cell.size)


@njit
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
