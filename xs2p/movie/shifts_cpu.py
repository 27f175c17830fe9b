"""Frames moved as suite2p moves them, by whole pixels and by blocks, on the CPU."""

from __future__ import annotations

import numpy as np

from xs2p.compute.kernels import njit

__all__ = ["move_by_blocks"]


@njit
def _spread(blocks, low, weight, out):  # type: ignore[no-untyped-def]
    """Interpolate shifts of a grid of blocks along x: ``(ny, nx)`` to ``(ny, Lx)``."""
    one = np.float32(1)
    last = blocks.shape[1] - 1
    for row in range(blocks.shape[0]):
        for x in range(low.size):
            a, b = blocks[row, low[x]], blocks[row, min(low[x] + 1, last)]
            out[row, x] = (one - weight[x]) * a + weight[x] * b


@njit
def _place(at, shift, size):  # type: ignore[no-untyped-def]
    """Where a pixel comes from, within the frame; rounded as from −1 to 1 and back."""
    one, two = np.float32(1), np.float32(2)
    across = np.float32(size - 1)
    relative = (np.float32(at) + shift) / across * two - one
    place = (relative + one) * (across / two)
    return min(max(place, np.float32(0)), across)


@njit
def _roll(frame, up, left, out):  # type: ignore[no-untyped-def]
    """Move a frame by whole pixels, round its edges."""
    height, width = frame.shape
    left %= width
    for y in range(height):
        source = frame[(y + up) % height]
        for x in range(width - left):
            out[y, x] = source[x + left]
        for x in range(left):
            out[y, width - left + x] = source[x]


@njit
def move_by_blocks(frames, rigid, dy, dx, rows, row_weight, columns, column_weight, out):  # type: ignore[no-untyped-def]
    """Move int16 frames ``(time, y, x)``, first by whole pixels, then by blocks, to ``out``.

    ``rigid`` is ``(time, 2)``, ``dy`` and ``dx`` are ``(time, ny, nx)`` in pixels, float32. Pixel
    ``y`` lies ``row_weight[y]`` of the way from block row ``rows[y]`` to the next; so with x.
    """
    n_frames, height, width = frames.shape
    one, last = np.float32(1), dy.shape[1] - 1
    along_y = np.empty((dy.shape[1], width), np.float32)
    along_x = np.empty((dy.shape[1], width), np.float32)
    frame = np.empty((height, width), np.float32)
    for t in range(n_frames):
        _roll(frames[t], rigid[t, 0], rigid[t, 1], frame)
        _spread(dy[t], columns, column_weight, along_y)
        _spread(dx[t], columns, column_weight, along_x)
        for y in range(height):
            a, w = rows[y], row_weight[y]
            b = min(a + 1, last)
            for x in range(width):
                down = (one - w) * along_y[a, x] + w * along_y[b, x]
                right = (one - w) * along_x[a, x] + w * along_x[b, x]
                at_y, at_x = _place(y, down, height), _place(x, right, width)
                y0, x0 = np.int64(at_y), np.int64(at_x)
                fy, fx = at_y - np.float32(y0), at_x - np.float32(x0)
                y1, x1 = min(y0 + 1, height - 1), min(x0 + 1, width - 1)
                out[t, y, x] = np.int16(
                    frame[y0, x0] * (one - fy) * (one - fx)
                    + frame[y0, x1] * (one - fy) * fx
                    + frame[y1, x0] * fy * (one - fx)
                    + frame[y1, x1] * fy * fx
                )
