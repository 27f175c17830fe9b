"""Which pixels the extraction kernels read, and in which order.

A kernel goes through the frames in segments of 256 pixels: it copies a segment of 32 frames to a
buffer that stays in the processor's cache, frames innermost, and then adds up there what each
mask has of the segment.
"""

from __future__ import annotations

import threading
from typing import Any, NamedTuple

import numpy as np

from xs2p.masks.packing import MaskArrays, pack, runs_of, unpack

# Pixels of a segment, and frames that are added up side by side: chosen together, by trial.
SEGMENT = 256
LANES = 32


class Segments(NamedTuple):
    """The segments that any mask has a pixel of."""

    first: np.ndarray  # flat index y · Lx + x of the segment's first pixel
    low: np.ndarray  # the pixels that are used lie in low:high, counted from the first
    high: np.ndarray


class Groups(NamedTuple):
    """What an ROI has in a segment: by segment, then by how many pixels or runs that is.

    A loop over as many as before ends where the processor expects it to.
    """

    roi: np.ndarray
    end: np.ndarray  # the first pixel or run behind its own, of all
    bounds: np.ndarray  # groups bounds[s]:bounds[s + 1] are those of segment s


class Pixels(NamedTuple):
    """Weighted pixels of the cell masks: by segment, then by group."""

    roi: np.ndarray
    place: np.ndarray  # in the segment
    weight: np.ndarray
    groups: Groups
    bounds: np.ndarray  # pixels bounds[s]:bounds[s + 1] are those of segment s


class Runs(NamedTuple):
    """Runs ``start:stop`` of neuropil pixels: by segment, then by group."""

    roi: np.ndarray
    start: np.ndarray  # in the segment
    stop: np.ndarray
    groups: Groups
    bounds: np.ndarray


class Layout(NamedTuple):
    """Cell and neuropil masks as the kernels read them; without neuropil there are no runs."""

    segments: Segments
    cell: Pixels
    runs: Runs
    cell_npix: np.ndarray
    neuropil_npix: np.ndarray | None


def layout(masks: MaskArrays) -> Layout:
    """Lay the masks out for the kernels."""
    indptr, indices = masks.neuropil_indptr, masks.neuropil_indices
    npix = None if indptr is None else np.diff(indptr)
    if indptr is None or indices is None:
        indptr, indices = np.zeros(1, np.int64), np.zeros(0, np.int64)
    start, stop, ring = _runs(indptr, indices)
    pixel = masks.cell_indices.astype(np.int64)
    owner = np.repeat(np.arange(masks.cell_indptr.size - 1), np.diff(masks.cell_indptr))
    order, grouped_rings = _grouped(start // SEGMENT, ring)
    start, stop, ring = start[order], stop[order], ring[order]
    order, grouped_cells = _grouped(pixel // SEGMENT, owner)
    pixel, owner, weight = pixel[order], owner[order], masks.cell_weights[order]

    used = np.union1d(pixel // SEGMENT, start // SEGMENT)
    bounds = [np.searchsorted(p // SEGMENT, np.append(used, 2**62)) for p in (pixel, start)]
    cells, rings = (
        Groups(whose, end, np.searchsorted(end, edges, side="right"))
        for (whose, end), edges in zip((grouped_cells, grouped_rings), bounds, strict=True)
    )
    low, high = np.full(used.size, SEGMENT), np.zeros(used.size, np.int64)
    for first, last, edges in ((pixel, pixel + 1, bounds[0]), (start, stop, bounds[1])):
        some = np.diff(edges) > 0
        if some.any():
            lowest = np.minimum.reduceat(first % SEGMENT, edges[:-1][some])
            highest = np.maximum.reduceat(first % SEGMENT + last - first, edges[:-1][some])
            low[some] = np.minimum(low[some], lowest)
            high[some] = np.maximum(high[some], highest)
    start_place = start % SEGMENT
    return Layout(
        Segments(used * SEGMENT, low, high),
        Pixels(
            owner.astype(np.uint32),
            (pixel % SEGMENT).astype(np.uint32),
            weight.astype(np.float64),
            cells,
            bounds[0],
        ),
        Runs(
            ring.astype(np.uint32),
            start_place.astype(np.uint32),
            (start_place + stop - start).astype(np.uint32),
            rings,
            bounds[1],
        ),
        np.diff(masks.cell_indptr),
        npix,
    )


def _grouped(
    segment: np.ndarray, roi: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Order pixels or runs by segment and group; and of each group its ROI and its end."""
    # Stable sorts: what an ROI has keeps its order.
    order = np.argsort(segment, kind="stable")
    segment, roi = segment[order], roi[order]
    begins = np.ones(roi.size, bool)
    begins[1:] = (np.diff(segment) != 0) | (np.diff(roi) != 0)
    first = np.flatnonzero(begins)
    count = np.diff(np.append(first, roi.size))
    most = count.max(initial=0)
    groups = np.argsort(segment[first] * (most + 1) + count, kind="stable")
    first, count = first[groups], count[groups]
    end = np.cumsum(count)
    inside = np.repeat(first - (end - count), count) + np.arange(roi.size)
    return order[inside], (roi[first].astype(np.uint32), end)


def check_layout(masks: Layout, n_pixels: int) -> None:
    """Raise a ValueError where masks would lead the kernels, which work on addresses, astray."""
    first, low, high = (part[[0, -1]] if part.size else part for part in masks.segments)
    if first.size and (first[0] + low[0] < 0 or first[1] + high[1] > n_pixels):
        raise ValueError(f"masks hold pixels outside frames of {n_pixels} pixels")
    if masks.neuropil_npix is not None and masks.neuropil_npix.size != masks.cell_npix.size:
        raise ValueError(
            f"cell masks and neuropil masks differ in number: {masks.cell_npix.size} and "
            f"{masks.neuropil_npix.size}"
        )


class PackedMasks:
    """Masks on their way to the tasks: few bytes, laid out where they arrive, once a process.

    In a graph they are data, no task: a task that everything waits for would hide from Dask
    which chunks of the movie a result needs, and it would read them all first. They are packed
    where they leave the process, and not before.
    """

    def __init__(self, masks: MaskArrays | tuple[Any, ...]) -> None:
        self._masks = masks
        self._layout: Layout | None = None
        self._lock = threading.Lock()

    def layout(self) -> Layout:
        """Return the masks as the kernels read them; all threads get the same."""
        with self._lock:
            if self._layout is None:
                here = self._masks
                self._layout = layout(here if isinstance(here, MaskArrays) else unpack(here))
            return self._layout

    def __reduce__(self) -> tuple[Any, ...]:
        with self._lock:
            if isinstance(self._masks, MaskArrays):
                self._masks = pack(self._masks)
            return PackedMasks, (self._masks,)


def _runs(indptr: np.ndarray, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Find the runs of pixels of each mask, cut at the segments: starts, stops, ROIs."""
    first, length = runs_of(indptr, indices)
    start = indices[first].astype(np.int64)
    stop = start + length
    roi = np.searchsorted(indptr, first, side="right") - 1
    pieces = (stop - 1) // SEGMENT - start // SEGMENT + 1
    whose = np.repeat(np.arange(start.size), pieces)
    nth = np.arange(whose.size) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    segment = start[whose] // SEGMENT + nth
    return (
        np.maximum(start[whose], segment * SEGMENT),
        np.minimum(stop[whose], (segment + 1) * SEGMENT),
        roi[whose],
    )
