"""Outlines that enclose given pixels exactly, as regions of ImageJ."""

from __future__ import annotations

from typing import Any

import numpy as np

MOVE, LINE, CLOSE = 0.0, 1.0, 4.0


def outlines(ypix: np.ndarray, xpix: np.ndarray) -> list[np.ndarray]:
    """Return closed outlines ``(n, 2)`` of x and y, int64, along the edges of pixels.

    Parts that touch by a corner share an outline. Holes have outlines of their own, the other
    way round.
    """
    top, left = int(ypix.min()), int(xpix.min())
    mask = np.zeros((int(ypix.max()) - top + 3, int(xpix.max()) - left + 3), bool)
    mask[ypix - top + 1, xpix - left + 1] = True
    follow: dict[tuple[int, int], list[tuple[int, int]]] = {}
    # Each edge between a pixel and what is not one, with the pixel to the right of the way.
    for (dy, dx), (y0, x0), (y1, x1) in (
        ((-1, 0), (0, 0), (0, 1)),
        ((0, 1), (0, 1), (1, 1)),
        ((1, 0), (1, 1), (1, 0)),
        ((0, -1), (1, 0), (0, 0)),
    ):
        y, x = np.nonzero(mask & ~np.roll(mask, (-dy, -dx), (0, 1)))
        start = zip((x + x0).tolist(), (y + y0).tolist(), strict=True)
        stop = zip((x + x1).tolist(), (y + y1).tolist(), strict=True)
        for a, b in zip(start, stop, strict=True):
            follow.setdefault(a, []).append(b)
    found = []
    while follow:
        first = min(follow)
        path, here, before = [first], first, None
        while True:
            ways = follow[here]
            step = _left_turn(before, here, ways) if len(ways) > 1 else ways[0]
            ways.remove(step)
            if not ways:
                del follow[here]
            before, here = here, step
            if here == first and here not in follow:
                break
            path.append(here)
        found.append(_corners(np.array(path)) + [left - 1, top - 1])
    return found


def _left_turn(
    before: tuple[int, int] | None, here: tuple[int, int], ways: list[tuple[int, int]]
) -> tuple[int, int]:
    """Of two ways where pixels touch by a corner, the one that goes on to the other pixel."""
    if before is None:
        return ways[0]
    along = (here[0] - before[0], here[1] - before[1])
    left = (here[0] + along[1], here[1] - along[0])
    return left if left in ways else ways[0]


def _corners(path: np.ndarray) -> np.ndarray:
    """Leave out the points at which a closed path goes straight on."""
    back = path - np.roll(path, 1, 0)
    ahead = np.roll(path, -1, 0) - path
    return path[(back != ahead).any(1)]


def region(ypix: np.ndarray, xpix: np.ndarray, name: str) -> Any:
    """Make a `roifile.ImagejRoi` of pixels: traced, or composite where outlines are several."""
    import roifile

    paths = outlines(ypix, xpix)
    made = roifile.ImagejRoi()
    made.name = name
    made.top, made.left = int(ypix.min()), int(xpix.min())
    made.bottom, made.right = int(ypix.max()) + 1, int(xpix.max()) + 1
    if len(paths) == 1:
        made.roitype = roifile.ROI_TYPE.TRACED
        made.integer_coordinates = (paths[0] - [made.left, made.top]).astype(np.int32)
        made.n_coordinates = len(paths[0])
        return made
    made.roitype = roifile.ROI_TYPE.RECT
    steps: list[float] = []
    for path in paths:
        for k, (x, y) in enumerate(path.tolist()):
            steps += [LINE if k else MOVE, x, y]
        steps.append(CLOSE)
    made.multi_coordinates = np.array(steps, np.float32)
    made.shape_roi_size = len(steps)
    return made
