"""What happened during a recording, such as stimuli: intervals and onsets, behind traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._time import per_second, unit_of
from xs2p.plot.times import TimeAxis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHADES = ("#56B4E9", "#E69F00", "#009E73", "#CC79A7", "#F0E442", "#D55E00")
# Pairs of columns that tables of intervals have: NWB's, pynapple's, BIDS's and ours.
_ENDS = (("start_time", "stop_time"), ("start", "stop"), ("start", "end"))
_ONSETS = ("onset", "start_time", "start", "time")


class Happened(NamedTuple):
    """Intervals of one kind, on the axis of time."""

    name: str
    spans: np.ndarray
    """Start and end, ``(event, 2)``; the same where only the onset is known."""
    rois: np.ndarray | None = None
    """Label of the ROI of each, where they are of ROIs."""


def happened(events: Any, axis: TimeAxis) -> list[Happened]:
    """Put events as a user gives them onto the axis of time.

    Raises
    ------
    ValueError
        If they are no times, or an end is before its start.
    """
    if events is None:
        return []
    if isinstance(events, Mapping) and not isinstance(events, xr.Dataset):
        return [_of_kind(str(name), some, axis) for name, some in events.items()]
    return [_of_kind("events", events, axis)]


def _of_kind(name: str, events: Any, axis: TimeAxis) -> Happened:
    rois = None
    if isinstance(events, xr.Dataset) and "roi" in events.variables:
        rois = events["roi"].values
    columns = getattr(events, "columns", None)
    if isinstance(events, xr.Dataset):
        columns = list(events.variables)
    if columns is not None and hasattr(events, "__getitem__"):
        events = _of_table(name, events, list(columns), axis)
    else:
        events = _column(name, events, axis)
    if events.ndim not in (1, 2) or (events.ndim == 2 and events.shape[1] != 2):
        raise ValueError(
            f"events {name!r} must be onsets (event,) or intervals (event, 2) from start to end, "
            f"or a table of them; got shape {events.shape}"
        )
    try:
        places = np.array([axis.at(one) for one in events.ravel()], np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            f"events {name!r} must be times on the axis {axis.label}; got {events.dtype}"
        ) from None
    spans = places.reshape(-1, 2) if events.ndim == 2 else np.stack([places, places], 1)
    wrong = ~np.isfinite(spans).all(1) | (spans[:, 1] < spans[:, 0])
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(
            f"events {name!r}: number {first} goes from {spans[first, 0]:g} to "
            f"{spans[first, 1]:g}; an end must not be before its start, and both be known"
        )
    return Happened(name, spans, rois)


def _of_table(name: str, table: Any, columns: list[Any], axis: TimeAxis) -> np.ndarray:
    """Take times from the columns of a table whose names say what they are."""
    for first, last in _ENDS:
        if first in columns and last in columns:
            return np.stack([_column(name, table[k], axis) for k in (first, last)], 1)
    for first in _ONSETS:
        if first in columns:
            start = _column(name, table[first], axis)
            if "duration" in columns:
                length = _column(name, table["duration"], axis).astype(np.float64)
                places = np.array([axis.at(one) for one in start], np.float64)
                return np.stack([places, places + length], 1)
            return start
    raise ValueError(
        f"events {name!r}: a table needs columns start_time and stop_time, start and stop or end, "
        f"or onset (and duration); it has {', '.join(map(str, columns))}"
    )


def _column(name: str, column: Any, axis: TimeAxis) -> np.ndarray:
    """Values in the unit of the axis: timedeltas, and numbers whose ``units`` say another."""
    values = np.asarray(column)
    flat = values.ravel()
    if values.dtype.kind == "O" and flat.size and all(hasattr(x, "total_seconds") for x in flat):
        values = values.astype("m8[ns]")
    if values.dtype.kind == "m":
        seconds = values / np.timedelta64(1, "s")
    else:
        said = getattr(column, "attrs", {}).get("units")
        if values.dtype.kind not in "iuf" or said is None or unit_of(said) == axis.clock.unit:
            return values
        rate = per_second(unit_of(said))
        if rate is None:
            raise ValueError(
                f"events {name!r} are in {said!r}, and the axis is {axis.label}: give times of the "
                "axis, or s"
            )
        seconds = values / rate
    try:
        return np.asarray(axis.of_seconds(seconds))
    except ValueError as error:
        raise ValueError(f"events {name!r} {error}") from None


def draw_happened(
    ax: Axes, all_of: Sequence[Happened], labels: Sequence[Any], ends: tuple[float, float]
) -> list[tuple[Any, str]]:
    """Draw what happened behind rows of ROIs; return handles and words for the legend."""
    from matplotlib.collections import LineCollection, PolyCollection
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    entries: list[tuple[Any, str]] = []
    for k, some in enumerate(all_of):
        color = SHADES[k % len(SHADES)]
        spans, onsets = [], []
        for i, (start, end) in enumerate(some.spans.tolist()):
            if end < ends[0] or start > ends[1]:
                continue
            a, b = max(start, ends[0]), min(end, ends[1])
            for low, high in _heights(some, i, labels):
                if end > start:
                    spans.append([(a, low), (b, low), (b, high), (a, high)])
                else:
                    onsets.append([(a, low), (a, high)])
        if spans:
            style: dict[str, Any] = {
                "facecolors": color,
                "edgecolors": "none",
                "alpha": 0.28,
                "zorder": 0.15,
            }
            ax.add_collection(PolyCollection(spans, **style), autolim=False)
        if onsets:
            style = {"colors": color, "linewidths": 1.0, "linestyles": "--", "zorder": 0.3}
            ax.add_collection(LineCollection(onsets, **style), autolim=False)
        handle = (
            Patch(facecolor=color, alpha=0.28)
            if spans
            else Line2D([], [], color=color, linestyle="--", linewidth=1.0)
        )
        if spans or onsets:
            entries.append((handle, some.name))
    return entries


def _heights(some: Happened, i: int, labels: Sequence[Any]) -> list[tuple[float, float]]:
    """Which rows an event is behind: all, or those of its ROI."""
    n = len(labels)
    if some.rois is None:
        return [(0.0, float(n))]
    rows = (k for k, label in enumerate(labels) if label == some.rois[i])
    return [(n - 1.0 - k, float(n - k)) for k in rows]
