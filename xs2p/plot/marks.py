"""Where segments begin and which frames do not count, drawn behind traces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from xs2p._frames import names_of, starts_of, valid_of
from xs2p.plot.drawing import SMALL
from xs2p.plot.times import TimeAxis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

GREY, BORDER = "#E2E2E2", "#0072B2"
_NAMED = 30  # segments, at most, that are told by name
_LETTER = 7.0  # pixels that a letter of a name takes, or less
MOST = 2000  # spans, or borders, that are drawn one by one


class Marks(NamedTuple):
    """What is drawn behind traces, as places on the axis of time."""

    valid: np.ndarray | None
    """Whether frames count, bool ``(time,)`` or ``(roi, time)``; None where all do."""
    borders: np.ndarray
    """Where segments begin, but for the first."""
    edges: np.ndarray
    """Where each frame begins and ends, ``(time, 2)``."""
    names: Sequence[str] = ()
    """Of segments, where they have any."""

    def spans(self, row: int, frames: slice = slice(None)) -> np.ndarray:
        """Begin and end of runs of frames that do not count, ``(span, 2)``, of an ROI."""
        if self.valid is None:
            return np.empty((0, 2))
        bad = ~(self.valid if self.valid.ndim == 1 else self.valid[row])[frames]
        steps = np.diff(np.concatenate([[0], bad, [0]]))
        first, stop = np.flatnonzero(steps > 0), np.flatnonzero(steps < 0)
        edges = self.edges[frames]
        spans = np.stack([edges[first, 0], edges[stop - 1, 1]], axis=1)
        return spans if len(spans) <= MOST else _merged(spans)


def marks_of(ds: xr.Dataset, axis: TimeAxis) -> Marks:
    """Find what tells apart the frames of traces."""
    valid = valid_of(ds)
    mask = None if valid is None else valid.values
    half, times = axis.step / 2, axis.values
    edges = np.stack([times - half, times + half], axis=1)
    starts = list(starts_of(ds))
    names = (names_of(ds) or []) if len(starts) > 1 else []
    return Marks(mask, edges[starts[1:], 0], edges, names)


def draw_marks(ax: Axes, marks: Marks, rows: Sequence[int], frames: slice = slice(None)) -> bool:
    """Draw marks behind the traces of some ROIs, one above another; whether any is a span."""
    any_span = False
    for k, row in enumerate(rows):
        spans = marks.spans(row, frames)
        if len(spans):
            _draw_spans(ax, spans, len(rows) - 1 - k, len(rows) - k)
            any_span = True
    draw_borders(ax, marks, frames)
    return any_span


def _draw_spans(ax: Axes, spans: np.ndarray, low: float, high: float) -> None:
    """Draw a grey span over each stretch of time, behind what else is drawn."""
    from matplotlib.collections import PolyCollection

    corners = [[(a, low), (b, low), (b, high), (a, high)] for a, b in spans.tolist()]
    ax.add_collection(
        PolyCollection(corners, facecolors=GREY, edgecolors=GREY, linewidths=0.6, zorder=0.2),
        autolim=False,
    )


def _merged(spans: np.ndarray) -> np.ndarray:
    """Spans that are nearer to each other than can be seen, as one."""
    near = (spans[-1, 1] - spans[0, 0]) / MOST
    first = np.append(True, spans[1:, 0] - spans[:-1, 1] > near)
    return np.stack([spans[first, 0], spans[np.append(first[1:], True), 1]], axis=1)


def draw_borders(ax: Axes, marks: Marks, frames: slice = slice(None)) -> None:
    """Draw a thin line where each segment within some frames begins."""
    edges = marks.edges[frames, 0]
    within = marks.borders[(marks.borders > edges[:1].min()) & (marks.borders <= edges[-1:].max())]
    for place in within[:MOST].tolist():
        ax.axvline(place, color=BORDER, linewidth=0.7, zorder=2.5)
    if 0 < within.size < _NAMED and marks.names:
        _draw_names(ax, marks, float(edges[0]), float(marks.edges[frames, 1][-1]))


def _draw_names(ax: Axes, marks: Marks, start: float, stop: float) -> None:
    """Write over each segment what it is called, where there is room for it."""
    begins = np.concatenate([[-np.inf], marks.borders])
    ends = np.concatenate([marks.borders, [np.inf]])
    width = ax.get_window_extent().width / max(stop - start, 1e-300)  # pixels in a unit of time
    for name, a, b in zip(
        marks.names, begins.clip(start, stop), ends.clip(start, stop), strict=True
    ):
        if (b - a) * width < _LETTER * (len(name) + 1):
            continue
        ax.annotate(
            name,
            (a, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, -2),
            textcoords="offset points",
            va="top",
            fontsize=SMALL,
            color=BORDER,
            zorder=3,
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.8},
        )
