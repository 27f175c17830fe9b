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
    units: str,
    columns: int,
    colors: Sequence[str],
    same_scale: bool = False,
) -> None:
    """Draw rows of one unit of height each, the first on top, with their time axis.

    ``runs`` are the stretches of time that the samples are in: lines break between them.
    """
    from matplotlib.collections import LineCollection

    limits, tops = [_limits(row) for row in rows], _tops(ax, rows, same_scale)
    common = max((high - low for low, high in limits), default=1.0) if same_scale else None
    start, width = ends[0], max(ends[1] - ends[0], 1e-9)
    for k, row in enumerate(rows):
        floor, color = float(len(rows) - 1 - k), colors[k % len(colors)]
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
        scale = (floor + tops[k] - foot) / (common or (high - low))
        draw_value(ax, foot, common or (high - low), units, scale)
        styles: list[tuple[np.ndarray | None, dict[str, Any]]] = [
            (row.neuropil, {"color": NEUROPIL, "linewidth": 0.8, "alpha": 0.6}),
            (row.main, {"color": color, "linewidth": 1.0}),
            (row.baseline, {"color": INK, "linewidth": 0.8, "linestyle": (0, (3, 1.5))}),
        ]
        for values, style in styles:
            if values is not None:
                kept = _kept(values, runs, columns)
                y = foot + (_within(values, row.valid, low, high)[kept] - low) * scale
                line = broken(time[kept], y, runs[kept])
                ax.plot(*line, solid_joinstyle="round", **style)
        if row.spikes is not None:
            heights = np.nan_to_num(row.spikes)
            kept = _kept(heights, runs, columns)
            kept = kept[heights[kept] > 0]
            tall = 0.2 * heights[kept] / max(heights.max(initial=0.0), 1e-30)
            feet = np.full(kept.size, floor + 0.03)
            lines = np.stack([np.stack([time[kept]] * 2, 1), np.stack([feet, feet + tall], 1)], 2)
            ax.add_collection(
                LineCollection(list(lines), colors=INK, linewidths=0.8), autolim=False
            )
    _frame(ax, [row.label for row in rows], colors, start, width, label)


def _tops(ax: Axes, rows: list[Row], same_scale: bool) -> list[float]:
    """How high in its row each trace reaches: where words stand over it, as far as these."""
    points = ax.get_window_extent().height / ax.figure.dpi * 72 / max(len(rows), 1)
    if points < _LOWEST:
        return [_TOP] * len(rows)
    tops = [_TOP - min((_WORDS + 1.5) / points, 0.2) * bool(row.doubts) for row in rows]
    return [min(tops)] * len(rows) if same_scale and rows else tops


def _limits(row: Row) -> tuple[float, float]:
    """Lowest and highest value of the frames that count."""
    values = [v for v in (row.main, row.neuropil, row.baseline) if v is not None]
    joined = np.concatenate([v if row.valid is None else v[row.valid] for v in values])
    finite = joined[np.isfinite(joined)]
    if not finite.size:
        return 0.0, 1.0
    low, high = float(finite.min()), float(finite.max())
    return (low, high) if high > low else (low - 0.5, low + 0.5)


def _within(values: np.ndarray, valid: np.ndarray | None, low: float, high: float) -> np.ndarray:
    """Keep frames that do not count within the scale of the others."""
    return values if valid is None else np.where(valid, values, np.clip(values, low, high))


def _kept(values: np.ndarray, runs: np.ndarray, columns: int) -> np.ndarray:
    """Which samples to draw: of many the extremes, and where stretches end."""
    if values.size <= _SAMPLES:
        return np.arange(values.size)
    ends = np.flatnonzero(np.diff(runs))[:columns]
    return np.unique(np.concatenate([extremes(values, columns), ends, ends + 1]))


def _frame(
    ax: Axes, labels: list[Any], colors: Sequence[str], start: float, width: float, label: str
) -> None:
    """Time axis beneath, labels of the ROIs at the left."""
    n = len(labels)
    # The scale bars stand in the last tenth.
    ax.set_xlim(start - 0.01 * width, start + 1.1 * width)
    ax.set_ylim(-0.02, max(n, 1) + 0.02)
    middle = [n - 1 - k + 0.55 for k in range(n)]
    names = [f"ROI {name}" if len(str(name)) < 5 else f"ROI\n{name}" for name in labels]
    ax.set_yticks(middle, names, fontsize=NORMAL if n <= 15 else SMALL - 1, fontweight="bold")
    for k, tick in enumerate(ax.get_yticklabels()):
        tick.set_color(darker(colors[k % len(colors)]))
    ax.tick_params(axis="y", length=0)
    for side, spine in ax.spines.items():
        spine.set_visible(side == "bottom")
    ax.spines["bottom"].set_bounds(start, start + width)
    ax.spines["bottom"].set_color(INK)
    ticks = [tick for tick in ax.get_xticks() if start <= tick <= start + width * (1 + 1e-9)]
    ax.set_xticks(ticks)
    ax.tick_params(axis="x", labelsize=SMALL, colors=INK)
    ax.set_xlabel(label, fontsize=NORMAL, color=INK)
