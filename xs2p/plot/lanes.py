"""The figures over time of a browser: lines of one scale in each, over the same time."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import unit_shown
from xs2p.plot.drawing import COLORS, FAINT, INK, NEUROPIL
from xs2p.plot.marks import BORDER, GREY, Marks
from xs2p.plot.page import lanes_of
from xs2p.plot.reader import Line
from xs2p.plot.times import TimeAxis, broken

_MOST_BORDERS = 200  # of segments that are drawn
SHADES = {
    "F": COLORS[0],
    "Fneu": NEUROPIL,
    "Fc": "#0072B2",
    "F0": INK,
    "spks": INK,
    "dFF": COLORS[2],
}


def shade_of(name: str) -> str:
    """Return the colour of a variable."""
    return SHADES.get(name, FAINT)


class OverTime:
    """Figures of bokeh's over time.

    Attributes
    ----------
    lines
        bokeh's data source of each variable.
    figures, traces, spikes
        All figures, the first, and that of ``spks``, None without.
    """

    def __init__(
        self,
        ds: xr.Dataset,
        names: list[str],
        axis: TimeAxis,
        marks: Marks,
        shown: tuple[float, float],
    ) -> None:
        from bokeh.models import ColumnDataSource, Range1d

        self._ds, self._axis, self._marks = ds, axis, marks
        self._time, self._runs = axis.values, axis.runs
        first, last = float(self._time[0]), float(self._time[-1])
        along = Range1d(*shown, bounds=(first, last) if last > first else None)
        along.reset_start, along.reset_end = shown
        self.lines = {name: ColumnDataSource({"time": [], "value": []}) for name in names}
        self.grey = ColumnDataSource({"x0": [], "x1": []})
        self._lanes = lanes_of(names)
        self.figures = [
            self._make_lane(lane, along, first=k == 0, last=k == len(self._lanes) - 1)
            for k, lane in enumerate(self._lanes)
        ]
        self.traces = self.figures[0]
        spikes = [k for k, lane in enumerate(self._lanes) if lane == ["spks"]]
        self.spikes = self.figures[spikes[0]] if spikes else None

    def show(self, found: dict[str, Line], place: int) -> bool:
        """Show lines of an ROI; whether there is any that is no spikes."""
        self.grey.data = dict(zip(("x0", "x1"), self._marks.spans(place).T, strict=True))
        shown = False
        for names, plot in zip(self._lanes, self.figures, strict=True):
            low, high = np.inf, -np.inf
            for name in names:
                line = found[name]
                time = self._time[line.frames]
                value = np.where(np.isfinite(line.values), line.values, np.nan)
                if name == "spks":
                    # From a foot at 0, only where there is any.
                    fired = value > 0
                    time, value = time[fired], value[fired]
                    low, high = 0.0, float(value.max(initial=0.0))
                elif np.isfinite(value).any():
                    low = min(low, float(np.nanmin(value)))
                    high = max(high, float(np.nanmax(value)))
                    time, value = broken(time, value, self._runs[line.frames])
                self.lines[name].data = {"time": time, "value": value}
            if high >= low:
                _fit(plot, low, high)
                shown |= names != ["spks"]
        return shown

    def _make_lane(self, names: list[str], along: Any, first: bool, last: bool) -> Any:
        from bokeh.models import BasicTicker, Range1d, Span
        from bokeh.plotting import figure

        unit = unit_shown(names[0], self._ds[names[0]].attrs)
        word = {"dFF": "dF/F", "spks": "spks", "Fneu": "Fneu"}.get(names[0], "fluorescence")
        plot = figure(
            sizing_mode="stretch_both" if first else "stretch_width",
            height=None if first else 150,
            min_height=300 if first else 150,
            min_width=500,
            x_range=along,
            y_range=Range1d(0, 1),
            y_axis_label=f"{word} ({unit})" if unit else word,
            x_axis_label=self._axis.label if last else None,
            title=" " if first else None,
            tools="xpan,xwheel_zoom,xbox_zoom,reset",
            active_scroll="xwheel_zoom",
        )
        plot.vstrip("x0", "x1", source=self.grey, color=GREY, level="underlay")
        for place in self._marks.borders[:_MOST_BORDERS].tolist():
            plot.add_layout(Span(location=place, dimension="height", line_color=BORDER))
        for name in names:
            source, color = self.lines[name], shade_of(name)
            if name == "spks":
                plot.segment("time", 0, "time", "value", source=source, color=color)
                continue
            dash = "dashed" if name == "F0" else "solid"
            more = {"color": color, "line_width": 1.2, "line_dash": dash, "legend_label": name}
            plot.line("time", "value", source=source, **more)
        if names != ["spks"]:
            plot.legend.update(
                location="top_left", orientation="horizontal", click_policy="hide", padding=4
            )
            plot.add_layout(plot.legend[0], "above")
        if not first:
            plot.yaxis.ticker = BasicTicker(desired_num_ticks=3, num_minor_ticks=0)
        dress(plot)
        return plot


def _fit(figure: Any, low: float, high: float) -> None:
    span = high - low if high > low else 1.0
    figure.y_range.update(start=low - 0.04 * span, end=high + 0.06 * span)


def dress(plot: Any) -> None:
    """Leave away what is no data."""
    plot.toolbar.logo = None
    plot.grid.visible = False
    plot.outline_line_color = None
    if plot.title is not None:
        plot.title.text_font_style = "normal"
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_color = INK
    plot.axis.major_label_text_font_size = "12px"
    plot.min_border_left = 60
