"""Regions as runs of pixels along rows: what lies outside of a frame is counted, never laid out."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# ImageJ moves each crossing to the right by this, so that rounding errors do not decide.
_NUDGE = 1e-8
_FAR = 2**15  # rows above and below a frame that are looked at: whole coordinates go no further
_MANY = 2**18  # crossings of edges and rows that are worked on at once


class Runs(NamedTuple):
    """Pixels ``start`` to ``stop - 1`` of the rows ``y``; int64, none of them empty."""

    y: np.ndarray
    start: np.ndarray
    stop: np.ndarray
    beyond: int = 0
    """1 where there are more, so far from the frame that they were not looked at."""

    def pixels(self) -> tuple[np.ndarray, np.ndarray]:
        """``(ypix, xpix)``, run after run."""
        length = self.stop - self.start
        first = np.repeat(np.cumsum(length) - length, length)
        xpix = np.repeat(self.start, length) + np.arange(length.sum()) - first
        return np.repeat(self.y, length), xpix

    def number(self) -> int:
        """How many pixels there are."""
        return int((self.stop - self.start).sum())

    def within(self, frame: tuple[int, int]) -> Runs:
        """Keep what lies in a frame ``(Ly, Lx)``."""
        rows = (self.y >= 0) & (self.y < frame[0])
        start, stop = self.start[rows].clip(0, frame[1]), self.stop[rows].clip(0, frame[1])
        return _some(self.y[rows], start, stop)


def _some(y: np.ndarray, start: np.ndarray, stop: np.ndarray) -> Runs:
    kept = stop > start
    return Runs(y[kept], start[kept], stop[kept])


def runs_of_box(top: int, left: int, bottom: int, right: int) -> Runs:
    """All pixels of a box."""
    y = np.arange(top, bottom)
    return _some(y, np.full(y.size, left), np.full(y.size, right))


def runs_of_oval(top: int, left: int, bottom: int, right: int) -> Runs:
    """Pixels of a box whose centres are in the ellipse that touches its sides."""
    b, a = (bottom - top) / 2, (right - left) / 2
    y = np.arange(bottom - top)
    if not y.size or right <= left:
        return runs_of_box(0, 0, 0, 0)
    above = (y - (b - 0.5)) ** 2 / (b * b)
    # Where the ellipse begins, to one pixel; what is inside is then asked of the pixels there.
    near = np.ceil((a - 0.5) - a * np.sqrt(np.maximum(1 - above, 0))).astype(np.int64)
    x = near[:, None] + np.arange(-1, 3)
    inside = (x - (a - 0.5)) ** 2 / (a * a) + above[:, None] <= 1.0
    first = x[np.arange(y.size), inside.argmax(axis=1)]
    start = np.where(inside.any(axis=1), first, right - left).clip(0, right - left)
    return _some(y + top, start + left, right - start)  # as far from the right as from the left


def runs_of_outlines(outlines: list[np.ndarray], frame: tuple[int, int] | None) -> Runs:
    """Pixels whose centres are inside an odd number of closed outlines ``(n, 2)`` of x, y.

    Of a ``frame`` rows far from it are left out, and of many crossings all that are not of it.
    """
    start = np.concatenate([p for p in outlines]) if outlines else np.empty((0, 2))
    stop = np.concatenate([np.roll(p, -1, 0) for p in outlines]) if outlines else start
    if not np.isfinite(start).all():
        raise ValueError("damaged (coordinates of its outline are not finite)")
    # Rows whose centres an edge passes, from below its upper end down to its lower one.
    flip = start[:, 1] > stop[:, 1]
    a, b = np.where(flip[:, None], stop, start), np.where(flip[:, None], start, stop)
    ly = 2 * _FAR if frame is None else frame[0]
    whole = np.floor(np.stack([a[:, 1], b[:, 1]]) + 0.5)
    ends = whole.clip(-_FAR, ly + _FAR).astype(np.int64)
    if frame is not None and (ends[1] - ends[0]).sum() > _MANY:
        ends = ends.clip(0, ly)
    beyond = int((whole != ends).any())
    low, high = (int(ends.min()), int(ends.max())) if ends.size else (0, 0)
    rows = max(_MANY // max(start.shape[0], 1), 1)
    parts = [_crossed(a, b, ends.clip(y, y + rows)) for y in range(low, high, rows)]
    none = np.empty(0, np.int64)
    y, left, right = map(np.concatenate, zip((none,) * 3, *parts, strict=True))
    return _some(y, left, right)._replace(beyond=beyond)


def _crossed(a: np.ndarray, b: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, ...]:
    """Find the runs between edges from ``a`` down to ``b``, in rows ``ends[0]`` to ``ends[1]``."""
    first, rows = ends[0], ends[1] - ends[0]
    edge = np.repeat(np.arange(rows.size), rows)
    y = np.arange(edge.size) - np.repeat(np.cumsum(rows) - rows, rows) + first[edge]
    slope = (b[edge, 0] - a[edge, 0]) / (b[edge, 1] - a[edge, 1])
    x = a[edge, 0] + (y + 0.5 - a[edge, 1]) * slope + _NUDGE
    order = np.lexsort((x, y))
    x = np.floor(x[order] + 0.5).clip(-(2.0**40), 2.0**40).astype(np.int64)
    # Closed outlines cross a row an even number of times: from each odd crossing to the next.
    return y[order][::2], x[::2], x[1::2]
