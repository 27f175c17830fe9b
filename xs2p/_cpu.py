"""All numba kernels of xs2p, on plain numpy arrays.

Imported inside functions only, so that ``import xs2p`` does not import numba. Every kernel
is serial and releases the GIL: threads are Dask's.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any, Literal

import numba
import numpy as np

Kernel = Callable[..., Any]
_compile_lock = threading.Lock()


def _njit(func: Kernel) -> Kernel:
    """Compile at first call, cached on disk where a cache folder can be written."""
    try:
        return numba.njit(nogil=True, cache=True)(func)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.njit(nogil=True)(func)


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
def rank_at_least(padded, flat, width, size, rank, out):  # type: ignore[no-untyped-def]
    """Set ``out[i]`` where pixel ``flat[i]`` is at or above the rank-filtered image.

    A value is at or above the ``rank``-th smallest of its window exactly when fewer than
    ``size² − rank`` values of the window exceed it. ``padded`` is the image with
    ``size // 2`` rows and columns in front of it and as many as the window needs behind.
    """
    before = size // 2
    allowed = size * size - rank - 1
    for i in range(flat.size):
        y = flat[i] // width
        x = flat[i] % width
        value = padded[y + before, x + before]
        above = 0
        for dy in range(size):
            for dx in range(size):
                if padded[y + dy, x + dx] > value:
                    above += 1
            if above > allowed:
                break
        out[i] = above <= allowed


@_njit
def _stamp_diamonds(ypix, xpix, radius, y0, x0, height, width, stamp):  # type: ignore[no-untyped-def]
    """Mark in ``stamp`` (a box at y0, x0) all pixels within city-block ``radius``."""
    for y in range(height):
        for x in range(width):
            stamp[y, x] = False
    for i in range(ypix.size):
        cy = ypix[i] - y0
        cx = xpix[i] - x0
        for y in range(max(cy - radius, 0), min(cy + radius, height - 1) + 1):
            reach = radius - abs(y - cy)
            for x in range(max(cx - reach, 0), min(cx + reach, width - 1) + 1):
                stamp[y, x] = True


@_njit
def rectangular_neuropil(ypix, xpix, offsets, cell, table, inner, min_pixels):  # type: ignore[no-untyped-def]
    """Neuropil masks grown as bounding boxes; ``(indptr, flat indices)``.

    ``table`` is the summed-area table, ``(Ly + 1, Lx + 1)``, of the pixels that are in no
    cell: how many of them a box holds is four look-ups, whatever its size.
    """
    ly, lx = cell.shape
    n_rois = offsets.size - 1
    indptr = np.zeros(n_rois + 1, np.int64)
    boxes = np.zeros((n_rois, 4), np.int64)
    side_y = 1
    side_x = 1
    for n in range(n_rois):
        if offsets[n] == offsets[n + 1]:
            continue
        y = ypix[offsets[n] : offsets[n + 1]]
        x = xpix[offsets[n] : offsets[n + 1]]
        side_y = max(side_y, y.max() - y.min() + 1 + 2 * inner)
        side_x = max(side_x, x.max() - x.min() + 1 + 2 * inner)
    stamp = np.zeros((min(side_y, ly), min(side_x, lx)), np.bool_)
    indices = np.empty(0, np.int64)
    for fill in range(2):
        for n in range(n_rois):
            if offsets[n] == offsets[n + 1]:
                indptr[n + 1] = indptr[n]
                continue
            y = ypix[offsets[n] : offsets[n + 1]]
            x = xpix[offsets[n] : offsets[n + 1]]
            ring_y0 = max(y.min() - inner, 0)
            ring_x0 = max(x.min() - inner, 0)
            ring_y1 = min(y.max() + inner, ly - 1) + 1
            ring_x1 = min(x.max() + inner, lx - 1) + 1
            height = ring_y1 - ring_y0
            width = ring_x1 - ring_x0
            _stamp_diamonds(y, x, inner, ring_y0, ring_x0, height, width, stamp)
            if fill == 0:
                n_ring = 0
                for i in range(height):
                    for j in range(width):
                        if stamp[i, j] and not cell[ring_y0 + i, ring_x0 + j]:
                            n_ring += 1
                y0, x0, y1, x1 = ring_y0, ring_x0, ring_y1, ring_x1
                found = 0
                for _ in range(100):
                    if found > min_pixels:
                        break
                    y0 = max(y0 - 5, 0)
                    x0 = max(x0 - 5, 0)
                    y1 = min(y1 + 5, ly)
                    x1 = min(x1 + 5, lx)
                    found = table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0] - n_ring
                boxes[n] = (y0, x0, y1, x1)
                indptr[n + 1] = indptr[n] + found
            else:
                y0, x0, y1, x1 = boxes[n]
                at = indptr[n]
                for i in range(y0, y1):
                    row_in_ring = ring_y0 <= i < ring_y1
                    for j in range(x0, x1):
                        if cell[i, j]:
                            continue
                        if row_in_ring and ring_x0 <= j < ring_x1:
                            if stamp[i - ring_y0, j - ring_x0]:
                                continue
                        indices[at] = i * lx + j
                        at += 1
        if fill == 0:
            indices = np.empty(indptr[n_rois], np.int64)
    return indptr, indices


@_njit
def circular_neuropil(ypix, xpix, offsets, cell, inner, min_pixels):  # type: ignore[no-untyped-def]
    """Neuropil masks grown by the 4-connected cross; ``(indptr, flat indices)``.

    Dilation by the cross is a breadth-first walk: the wave front is all that is visited, so
    the cost follows the region and not the frame.
    """
    ly, lx = cell.shape
    n_rois = offsets.size - 1
    indptr = np.zeros(n_rois + 1, np.int64)
    indices = np.empty(1024 + n_rois * 512, np.int64)
    seen = np.full((ly, lx), -1, np.int32)
    queue = np.empty(ly * lx, np.int64)
    for n in range(n_rois):
        start = indptr[n]
        if offsets[n] == offsets[n + 1]:
            indptr[n + 1] = start
            continue
        head = 0
        tail = 0
        for k in range(offsets[n], offsets[n + 1]):
            if seen[ypix[k], xpix[k]] != n:
                seen[ypix[k], xpix[k]] = n
                queue[tail] = ypix[k] * lx + xpix[k]
                tail += 1
        ring_end = tail
        found = 0
        for step in range(inner + 500):
            if step >= inner and (step - inner) % 5 == 0:
                if step == inner:
                    ring_end = tail
                elif found > min_pixels:
                    break
            front_end = tail
            while head < front_end:
                y = queue[head] // lx
                x = queue[head] % lx
                head += 1
                for direction in range(4):
                    yy = y
                    xx = x
                    if direction == 0:
                        yy -= 1
                    elif direction == 1:
                        yy += 1
                    elif direction == 2:
                        xx -= 1
                    else:
                        xx += 1
                    if yy < 0 or yy >= ly or xx < 0 or xx >= lx or seen[yy, xx] == n:
                        continue
                    seen[yy, xx] = n
                    queue[tail] = yy * lx + xx
                    tail += 1
                    if step >= inner and not cell[yy, xx]:
                        found += 1
            if front_end == tail:  # the whole frame is taken: no step can add a pixel
                if step < inner:
                    ring_end = tail
                break
        if start + found > indices.size:
            grown = np.empty(max(2 * indices.size, start + found), np.int64)
            grown[:start] = indices[:start]
            indices = grown
        at = start
        for k in range(ring_end, tail):
            if not cell[queue[k] // lx, queue[k] % lx]:
                indices[at] = queue[k]
                at += 1
        indices[start:at] = np.sort(indices[start:at])
        indptr[n + 1] = at
    return indptr, indices[: indptr[n_rois]].copy()


@_njit
def weighted_sums(frames, indptr, indices, weights, out):  # type: ignore[no-untyped-def]
    """``out[n, t] = Σ weights[k] · frames[t, indices[k]]`` over the pixels of mask ``n``."""
    for t in range(frames.shape[0]):
        for n in range(indptr.size - 1):
            total = 0.0
            for k in range(indptr[n], indptr[n + 1]):
                total += weights[k] * frames[t, indices[k]]
            out[n, t] = total


@_njit
def _sums_from(zero, frames, indptr, indices, out):  # type: ignore[no-untyped-def]
    """``out[n, t] = Σ frames[t, indices[k]]``, added up in the type of ``zero``."""
    for t in range(frames.shape[0]):
        for n in range(indptr.size - 1):
            total = zero
            for k in range(indptr[n], indptr[n + 1]):
                total += frames[t, indices[k]]
            out[n, t] = total


def plain_sums(
    frames: np.ndarray, indptr: np.ndarray, indices: np.ndarray, out: np.ndarray
) -> None:
    """``out[n, t] = Σ frames[t, indices[k]]``, exact for integers below 64 bits.

    Those are added up in int64; 64-bit integers, whose sum could pass 2^63, in float64 as
    floats are.
    """
    exact = frames.dtype.kind != "f" and frames.dtype.itemsize < 8
    _sums_from(np.int64(0) if exact else np.float64(0), frames, indptr, indices, out)


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
def oasis_pools(F, table, v, w, t, length, s):  # type: ignore[no-untyped-def]
    """One trace: fill the pools (value, weight, start, length) and spikes ``s``; their number.

    Friedrich, Zhou & Paninski 2017, AR(1) without sparsity penalty. Pools are float32 and
    decays float64, as in the reference, so that results agree to the last bit. Decays
    longer than ``table`` are zero in float64.
    """
    last = table.size - 1
    n = -1
    for frame in range(F.size):
        n += 1
        v[n] = F[frame]
        w[n] = 1.0
        t[n] = frame
        length[n] = 1
        while n > 0:
            span = length[n - 1]
            decay = table[span] if span <= last else 0.0
            if not v[n - 1] * decay > v[n]:
                break
            decay2 = table[2 * span] if 2 * span <= last else 0.0
            weight = w[n - 1] + w[n] * decay2
            v[n - 1] = (v[n - 1] * w[n - 1] + v[n] * w[n] * decay) / weight
            w[n - 1] = weight
            length[n - 1] = span + length[n]
            n -= 1
    for frame in range(F.size):
        s[frame] = 0.0
    # An ROI without a trace has no spikes: NaN, in its first frame too.
    if F.size > 0 and math.isnan(F[0]):
        s[0] = F[0]
    for i in range(1, n + 1):
        span = length[i - 1]
        decay = table[span] if span <= last else 0.0
        s[t[i]] = v[i] - v[i - 1] * decay
    return n + 1


def decay_length(tau_fs: np.float32, n_frames: int) -> int:
    """How long a table of decays must be: to the last pair of pools, or to where it is zero."""
    return int(min(2 * n_frames + 1, math.ceil(746 * float(tau_fs)) + 1))


@functools.cache
def _compiled_oasis() -> Kernel:
    def kernel(F, table, s):  # type: ignore[no-untyped-def]
        v = np.empty(F.size, np.float32)
        w = np.empty(F.size, np.float32)
        t = np.empty(F.size, np.int64)
        length = np.empty(F.size, np.int64)
        oasis_pools(F, table, v, w, t, length, s)

    signature = "void(float32[:], float64[:], float32[:])"
    layout = "(t),(k)->(t)"
    try:
        return numba.guvectorize([signature], layout, nopython=True, cache=True)(kernel)
    except RuntimeError:  # numba finds no folder that it may write a cache to
        return numba.guvectorize([signature], layout, nopython=True)(kernel)


def oasis_gufunc() -> Kernel:
    """Return the gufunc ``(time), (decays) -> (time)`` over any leading dimensions."""
    with _compile_lock:  # two threads at once would compile it twice
        return _compiled_oasis()


def oasis(F: np.ndarray, tau_fs: np.ndarray | np.float32) -> np.ndarray:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, float32, broadcasts over the leading dims."""
    F = np.ascontiguousarray(F, dtype=np.float32)
    if F.size == 0:
        return np.zeros_like(F)
    gufunc = oasis_gufunc()
    tau_fs = np.broadcast_to(np.asarray(tau_fs, dtype=np.float32), F.shape[:-1])
    spikes = np.empty_like(F)
    for value in np.unique(tau_fs):
        table = decay_table(value, decay_length(value, F.shape[-1]))
        same = tau_fs == value
        if same.all():
            return np.asarray(gufunc(F, table))
        spikes[same] = gufunc(F[same], table)
    return spikes


def gaussian_scipy(F: np.ndarray, sigma: float) -> np.ndarray:
    """SciPy's own Gaussian along time: cut at 4 sigma, edges reflected."""
    from scipy.ndimage import gaussian_filter1d

    return np.asarray(gaussian_filter1d(F, sigma, axis=-1)) if sigma > 0 else F


def maximin(F: np.ndarray, sigma: float, size: int, *, legacy: bool = False) -> np.ndarray:
    """Gaussian, then the centred running minimum and maximum of ``size`` frames.

    The Gaussian is cut at ``round(3·sigma)`` and edges are replicated; ``legacy``: cut at 4
    sigma and edges reflected, as SciPy does by default.
    """
    from scipy.ndimage import gaussian_filter1d, maximum_filter1d, minimum_filter1d

    mode: Literal["nearest", "reflect"] = "reflect" if legacy else "nearest"
    radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
    gap = np.isnan(F)
    holed = bool(gap.any())
    smooth = np.where(gap, np.float32(0), F) if holed else F
    if radius > 0:
        smooth = gaussian_filter1d(smooth, sigma, axis=-1, mode=mode, radius=radius)
    low = minimum_filter1d(smooth, size, axis=-1, mode=mode)
    F0 = maximum_filter1d(low, size, axis=-1, mode=mode)
    if holed:  # blank what a NaN reaches: SciPy's minimum would step over it
        reach = radius + 2 * (size // 2)
        near = maximum_filter1d(gap, 2 * reach + 1, axis=-1, mode="constant")
        F0 = np.where(near, np.float32(np.nan), F0)
    return np.asarray(F0)
