"""Rows of traces, one above another, as pictures of ROIs have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p.plot.bins import extremes
from xs2p.plot.drawing import FAINT, INK, NEUROPIL, NORMAL, SMALL, darker, draw_value
from xs2p.plot.times import broken

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SAMPLES = 5000  # that are drawn one by one
_NONE = "no trace"
_TOP = 0.94  # of a row, that its trace reaches
_WORDS = SMALL - 1  # points of words over a trace
_LOWEST = 24  # points of a row that has room for them
OTHERS = ("#222222", "#767676", "#0072B2")  # colours of lines beside the first
RED = "#C1121F"


class Row(NamedTuple):
    """What is drawn of one ROI, each ``(time,)`` or None."""

    label: Any
    main: np.ndarray
    neuropil: np.ndarray | None = None
    baseline: np.ndarray | None = None
    spikes: np.ndarray | None = None
    why: str = _NONE
    valid: np.ndarray | None = None
    """Frames that count; None where all do."""
    doubts: str = ""
    """What speaks against its dF/F, in words."""
    others: tuple[np.ndarray, ...] = ()
    """More lines on the same scale."""
    units: str = ""
    name: str = ""
    """Of what is drawn, where an ROI has several rows."""
    number: int | None = None
    """Of the ROI among those that are shown, by which its colour is chosen."""
    saturated: np.ndarray | None = None


def why(ds: xr.Dataset, position: Any = ()) -> str:
    """Say why there is no trace where one would be."""
    status = str(ds["status"].values[position]) if "status" in ds.coords else "ok"
    return _NONE if status == "ok" else f"{_NONE}: {status}"


def has_nothing(values: np.ndarray, why: str) -> bool:
    """Whether values are none: NaN in all frames, or 0 where the status says that they are none."""
    return not np.isfinite(values).any() or (is_said(why) and not values.any())


def is_said(why: str) -> bool:
    """Whether what :func:`why` gave names a status."""
    return why != _NONE


def draw_rows(
    ax: Axes,
    rows: list[Row],
    time: np.ndarray,
    runs: np.ndarray,
    ends: tuple[float, float],
    label: str,
    columns: int,
    colors: Sequence[str],
    same_scale: bool = False,
) -> None:
    """Draw rows of one unit of height each, the first on top, with their time axis.

    ``runs`` are the stretches of time that the samples are in: lines break between them, and where
    frames do not count.
    """
    limits, tops = [_limits(row) for row in rows], _tops(ax, rows, same_scale)
    common: dict[str, float] = {}
    for row, (low, high) in zip(rows, limits, strict=True):
        common[row.name] = max(common.get(row.name, 0.0), high - low)
    start, width = ends[0], max(ends[1] - ends[0], 1e-9)
    shades = [
        colors[(k if row.number is None else row.number) % len(colors)]
        for k, row in enumerate(rows)
    ]
    for k, row in enumerate(rows):
        floor = float(len(rows) - 1 - k)
        low, high = limits[k]
        nothing = has_nothing(row.main, row.why)
        if nothing or is_said(row.why):  # over a trace, as that of a corrected zero, above it
            place = {"va": "center"} if nothing else {"va": "top", "zorder": 3}
            at = start + width / 2, floor + (0.5 if nothing else 0.98)
            words = ", ".join([row.why, *[row.doubts] * bool(row.doubts and not nothing)])
            ax.text(*at, words, ha="center", fontsize=SMALL, color=FAINT, **place)
        if nothing:
            continue
        if tops[k] < _TOP and not is_said(row.why):
            ax.text(start, floor + 0.98, row.doubts, va="top", fontsize=_WORDS, color=FAINT)
        foot = floor + (0.28 if row.spikes is not None else 0.06)
        span = common[row.name] if same_scale else high - low
        scale = (floor + tops[k] - foot) / span
        draw_value(ax, foot, span, row.units, scale)
        _draw_lines(ax, row, time, runs, columns, shades[k], (low, foot, scale))
        if row.spikes is not None:
            _draw_spikes(ax, row, time, runs, columns, floor)
        if row.saturated is not None:
            _draw_saturated(ax, row.saturated, time, runs, floor + tops[k] + 0.02)
    _frame(ax, rows, shades, start, width, label)


def _draw_lines(
    ax: Axes,
    row: Row,
    time: np.ndarray,
    runs: np.ndarray,
    columns: int,
    color: str,
    place: tuple[float, float, float],
) -> None:
    """Draw the lines of a row; ``place`` is its lowest value, where that lies, and its scale."""
    low, foot, scale = place
    styles: list[tuple[np.ndarray | None, dict[str, Any]]] = [
        (row.neuropil, {"color": NEUROPIL, "linewidth": 0.8, "alpha": 0.6}),
        (row.main, {"color": color, "linewidth": 1.0}),
        (row.baseline, {"color": INK, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}),
    ]
    for k, other in enumerate(row.others):
        styles.append((other, {"color": OTHERS[k % len(OTHERS)], "linewidth": 0.8}))
    valid = row.valid
    if valid is not None:  # a stretch ends where frames do not count, as it does at a gap
        runs = runs + np.cumsum(np.diff(valid, prepend=valid[:1]))
    for values, style in styles:
        if values is not None:
            if valid is not None:
                values = np.where(valid, values, np.nan)
            kept = _kept(values, runs, columns)
            kept = kept if valid is None else kept[valid[kept]]
            if kept.size:
                line = broken(time[kept], foot + (values[kept] - low) * scale, runs[kept])
                ax.plot(*line, solid_joinstyle="round", **style)


def _draw_spikes(
    ax: Axes, row: Row, time: np.ndarray, runs: np.ndarray, columns: int, floor: float
) -> None:
    from matplotlib.collections import LineCollection

    heights = np.nan_to_num(np.asarray(row.spikes))
    if row.valid is not None:
        heights = np.where(row.valid, heights, 0.0)
    kept = _kept(heights, runs, columns)
    kept = kept[heights[kept] > 0]
    tall = 0.2 * heights[kept] / max(heights.max(initial=0.0), 1e-30)
    feet = np.full(kept.size, floor + 0.03)
    lines = np.stack([np.stack([time[kept]] * 2, 1), np.stack([feet, feet + tall], 1)], 2)
    ax.add_collection(LineCollection(list(lines), colors=INK, linewidths=0.8), autolim=False)


def _draw_saturated(
    ax: Axes, saturated: np.ndarray, time: np.ndarray, runs: np.ndarray, height: float
) -> None:
    """Draw a bar over each run of saturated frames, none over a gap."""
    from matplotlib.collections import LineCollection

    if not saturated.any():
        return
    goes_on = saturated[1:] & saturated[:-1] & (runs[1:] == runs[:-1])
    first = np.flatnonzero(saturated & ~np.append(False, goes_on))
    last = np.flatnonzero(saturated & ~np.append(goes_on, False))
    half = 0.5 * float(np.median(np.diff(time))) if time.size > 1 else 0.5
    x = np.stack([time[first] - half, time[last] + half], 1)
    lines = np.stack([x, np.full_like(x, height)], 2)
    ax.add_collection(
        LineCollection(list(lines), colors=RED, linewidths=2.5, capstyle="butt", zorder=3),
        autolim=False,
    )


def _tops(ax: Axes, rows: list[Row], same_scale: bool) -> list[float]:
    """How high in its row each trace reaches: where words stand over it, as far as these."""
    points = ax.get_window_extent().height / ax.figure.dpi * 72 / max(len(rows), 1)
    if points < _LOWEST:
        return [_TOP] * len(rows)
    tops = [_TOP - min((_WORDS + 1.5) / points, 0.2) * bool(row.doubts) for row in rows]
    return [min(tops)] * len(rows) if same_scale and rows else tops


def _limits(row: Row) -> tuple[float, float]:
    """Lowest and highest value of the frames that count."""
    lines = (row.main, row.neuropil, row.baseline, *row.others)
    values = [v for v in lines if v is not None]
    joined = np.concatenate([v if row.valid is None else v[row.valid] for v in values])
    finite = joined[np.isfinite(joined)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _kept(values: np.ndarray, runs: np.ndarray, columns: int) -> np.ndarray:
    """Which samples to draw: of many the extremes, and where stretches end."""
    if values.size <= _SAMPLES:
        return np.arange(values.size)
    ends = np.flatnonzero(np.diff(runs))[:columns]
    return np.unique(np.concatenate([extremes(values, columns), ends, ends + 1]))


def _frame(
    ax: Axes, rows: list[Row], shades: list[str], start: float, width: float, label: str
) -> None:
    """Time axis beneath, labels of the ROIs at the left."""
    n = len(rows)
    # The scale bars stand in the last tenth.
    ax.set_xlim(start - 0.01 * width, start + 1.1 * width)
    ax.set_ylim(-0.02, max(n, 1) + 0.02)
    middle = [n - 1 - k + 0.55 for k in range(n)]
    names = []
    for row in rows:
        name = f"ROI {row.label}" if len(str(row.label)) < 5 else f"ROI\n{row.label}"
        names.append(f"{name}\n{row.name}" if row.name else name)
    ax.set_yticks(middle, names, fontsize=NORMAL if n <= 15 else SMALL - 1, fontweight="bold")
    for k, tick in enumerate(ax.get_yticklabels()):
        tick.set_color(darker(shades[k]))
    ax.tick_params(axis="y", length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
    ax.spines["bottom"].set_bounds(start, start + width)
    ax.spines["bottom"].set_color(INK)
    ticks = [tick for tick in ax.get_xticks() if start <= tick <= start + width * (1 + 1e-9)]
    ax.set_xticks(ticks)
    ax.tick_params(axis="x", labelsize=SMALL, colors=INK)
    ax.set_xlabel(label, fontsize=NORMAL, color=INK)
