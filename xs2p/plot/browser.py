"""A browser of recordings for notebooks: click on an ROI, see its traces, pan and zoom."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import unit_shown
from xs2p.plot.drawing import (
    COLORS,
    FAINT,
    INK,
    has_baseline,
    position_of,
)
from xs2p.plot.flags import doubts_of, facts_of
from xs2p.plot.frame import FrameMap
from xs2p.plot.marks import BORDER, GREY, marks_of
from xs2p.plot.reader import Reader, frames_in_view
from xs2p.plot.rows import is_said, why
from xs2p.plot.times import broken, time_axis
from xs2p.plot.traces import best_rois, check_traces_of
from xs2p.rois.pixels import pixel_table
from xs2p.traces.quality import SNR, is_of

_FIRST = 5000  # frames in view at first
_MOST_BORDERS = 200  # of segments that are drawn
_MAIN = "#0072B2"
_SHADES = {"F": COLORS[0], "Fneu": COLORS[4], "Fc": _MAIN, "F0": INK, "spks": INK, "dFF": COLORS[2]}


def browse(
    ds: xr.Dataset,
    *,
    background: Any = None,
    variables: list[str] | None = None,
    roi: Any = None,
) -> Browser:
    """Open a browser: click on an ROI in the image, and pan and zoom in its traces.

    For notebooks: let the call be the last line of a cell. Of a lazy ``ds``, such as one that
    ``xarray.open_zarr`` opened, only what is in view is read: a range of up to 20,000 frames as it
    is; of a longer one every chunk in view once, of which the extremes of every 64 frames are kept.
    No peak is lost at any zoom. Grey are frames that do not count (``valid``), and a line stands
    where a segment begins. What ``dff_flag(roi)`` and ``demix_flag(roi)`` say of an ROI is in the
    title of its traces, unless it is lazy and yet to be made of them. panel loads its scripts from
    the web; where there is none, call ``panel.extension(inline=True)`` first.

    Of ROIs of several planes, by ``plane(roi)``, the image shows those in the plane of the ROI that
    is chosen; beneath it another plane can be chosen.

    Parameters
    ----------
    ds
        Traces over ``roi`` and ``time``, with their ROI set as coordinates, lazy or not.
    background
        Image ``(y, x)`` to show beneath the ROIs, such as ``movie.s2p.mean_image()``, of several
        planes also ``(plane, y, x)``; None shows ``ds.meanImg``, of a plane ``ds.meanImg_plane0``
        and so on, where there is one, else the weights of the ROIs' pixels.
    variables
        Which traces to show; by default ``Fc`` (else ``F``), ``F0`` and ``spks``. ``spks`` has
        axes of its own.
    roi
        Label of the ROI to show first; by default one of a high signal to noise, as
        :func:`xs2p.plot.plot_traces` chooses.

    Returns
    -------
    Browser
        Shows itself in a notebook; ``browser.show()`` opens it in a window of the web browser.
        ``browser.roi`` is the label of the ROI that is shown, ``browser.select(label)`` shows
        another, ``browser.show_range(start, end)`` another range of time.

    Raises
    ------
    ImportError
        If panel and bokeh are not installed: ``pip install "xs2p[browser]"``.
    ValueError
        If ``ds`` holds no traces or no ROI set, or a name, a label or an image does not fit.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> ds.s2p.browse(background=xs2p.sample_movie().s2p.mean_image())  # doctest: +SKIP
    """
    try:
        import bokeh  # noqa: F401
        import panel
    except ModuleNotFoundError as error:
        raise ImportError(
            f"browse needs panel and bokeh, and {error.name} is not installed: "
            'pip install "xs2p[browser]"'
        ) from error
    check_traces_of(ds)
    if not (ds.sizes["roi"] and ds.sizes["time"] > 1):
        raise ValueError(
            f"there is nothing to browse: ds has {ds.sizes['roi']} ROIs and {ds.sizes['time']} "
            "frames"
        )
    if "ipykernel" in sys.modules:
        panel.extension()
    return Browser(ds, background, _names(ds, variables), roi)


def _names(ds: xr.Dataset, variables: list[str] | None) -> list[str]:
    known = [str(n) for n, v in ds.data_vars.items() if set(v.dims) == {"roi", "time"}]
    if variables is None:
        names = ["Fc" if "Fc" in ds else "F", "F0", "spks"]
        return [n for n in names if n in known and (n != "F0" or has_baseline(ds))]
    absent = [name for name in variables if name not in known]
    if absent or not variables or isinstance(variables, str):
        raise ValueError(
            f"variables={variables!r} must be a list of names of traces; there are "
            f"{', '.join(known)}"
        )
    return list(variables)


class Browser:
    """What :func:`browse` opens: figures of bokeh's in a layout of panel's.

    Attributes
    ----------
    roi
        Label of the ROI that is shown.
    image, traces, spikes
        bokeh's figures; ``spikes`` is None without ``spks``.
    lines
        bokeh's data source of each variable: ``time`` and ``value``.
    layout
        panel's layout.
    """

    def __init__(self, ds: xr.Dataset, background: Any, names: list[str], roi: Any) -> None:
        import panel
        from bokeh.events import RangesUpdate, Tap

        self._ds = ds
        self._table = pixel_table(ds)
        self._map = FrameMap(ds, self._table, background)
        axis = time_axis(ds)
        self._time, self._label, self._runs = axis.values, axis.label, axis.runs
        self._marks = marks_of(ds, axis)
        self._reader = Reader(ds, names)
        self._doubts = doubts_of(ds) or [""] * ds.sizes["roi"]
        if roi is None:
            roi = best_rois(ds, slice(0, ds.sizes["time"]), 1)[0]
        self._place = position_of(self._table.roi, roi)
        self._range = float(self._time[0]), float(self._time[min(_FIRST, self._time.size) - 1])

        self.image = self._map.figure
        _dress(self.image)
        self.traces, self.spikes, self.lines = self._make_traces(names)
        self._choice = panel.widgets.Select(
            options=self._table.roi.tolist(), value=self.roi, width=110
        )
        self._choice.param.watch(lambda event: self.select(event.new), "value")
        planes = self._map.planes
        self._plane = panel.widgets.Select(options=planes, width=80, visible=bool(planes))
        self._plane.param.watch(lambda event: self._to_plane(event.new), "value")
        self._about = panel.pane.Markdown("", margin=(5, 10))
        self.image.on_event(Tap, self._tapped)
        self.traces.on_event(RangesUpdate, self._moved)
        right = [self.traces] if self.spikes is None else [self.traces, self.spikes]
        self.layout = panel.Row(
            panel.Column(
                panel.pane.Bokeh(self.image),
                panel.Row(*(["Plane", self._plane] if planes else []), "ROI", self._choice),
                self._about,
            ),
            panel.Column(*map(panel.pane.Bokeh, right), sizing_mode="stretch_width"),
            sizing_mode="stretch_width",
        )
        self._update()

    @property
    def roi(self) -> Any:
        """Label of the ROI that is shown."""
        return self._table.roi.tolist()[self._place]

    @property
    def range(self) -> tuple[float, float]:
        """Start and end of the time that is shown."""
        return self._range

    def select(self, roi: Any) -> None:
        """Show another ROI, by its label."""
        self._place = position_of(self._table.roi, roi)
        self._update()

    def show_range(self, start: float, end: float) -> None:
        """Show another range of time, in the unit of the axis."""
        if not end > start:
            raise ValueError(f"the end of the range must be after its start; got {start}, {end}")
        self._range = float(start), float(end)
        self.traces.x_range.start, self.traces.x_range.end = self._range
        self._update()

    def show(self) -> Any:
        """Open the browser in a window of the web browser, from a script or a terminal."""
        return self.layout.show()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> Any:
        return self.layout._repr_mimebundle_(include, exclude)

    def _tapped(self, event: Any) -> None:
        """Choose the ROI where the image was clicked; again, the next of several there."""
        place = self._map.pick(event.y, event.x, self._place)
        if place is not None:
            self._place = place
            self._update()

    def _to_plane(self, plane: Any) -> None:
        """Show a plane, by its label: the first of its ROIs, unless one is shown already."""
        rois = self._map.rois_of(plane)
        if self._place not in rois:
            self._place = int(rois[0])
            self._update()

    def _moved(self, event: Any) -> None:
        """Read what has come into view."""
        if (event.x0, event.x1) != self._range:
            self._range = float(event.x0), float(event.x1)
            self._update()

    def _update(self) -> None:
        """Show the ROI and the range that are chosen."""
        frames = frames_in_view(self._time, *self._range)
        found = self._reader.read(self._place, frames)
        low, high = np.inf, -np.inf
        for name, line in found.items():
            time, value = self._time[line.frames], line.values
            if name == "spks":
                # From a foot at 0, only where there is any.
                fired = value > 0
                time, value = time[fired], value[fired]
                self._fit(self.spikes, 0.0, float(value.max(initial=0.0)))
            elif np.isfinite(value).any():
                low, high = min(low, float(np.nanmin(value))), max(high, float(np.nanmax(value)))
                time, value = broken(time, value, self._runs[line.frames])
            self.lines[name].data = {"time": time, "value": value}
        shown = bool(high >= low)
        reason = why(self._ds, self._place)
        told = "" if shown and not is_said(reason) else reason
        if shown:
            self._fit(self.traces, low, high)
        self._grey.data = dict(zip(("x0", "x1"), self._marks.spans(self._place).T, strict=True))
        self._map.show(self._place)
        self._about.object = self._facts(told)
        words = ", ".join(word for word in (told, self._doubts[self._place]) if word)
        self.traces.title.text = f"ROI {self.roi}" + (f": {words}" if words else "")
        if self._choice.value != self.roi:
            self._choice.value = self.roi
        if self._map.planes:
            self._plane.value = self._map.planes[self._map.plane_of(self._place)]

    @staticmethod
    def _fit(figure: Any, low: float, high: float) -> None:
        span = high - low if high > low else 1.0
        figure.y_range.update(start=low - 0.04 * span, end=high + 0.06 * span)

    def _facts(self, told: str) -> str:
        words = [f"{np.diff(self._table.offsets)[self._place]} pixels"]
        snr, main = self._ds.coords.get("snr"), self._ds["Fc" if "Fc" in self._ds else "F"]
        if snr is not None and snr.dims == ("roi",) and is_of(snr, main):
            words.append(f"{SNR}: {float(snr[self._place]):.2f}")
        return ", ".join([*words, *facts_of(self._ds, self._place), *([told] if told else [])])

    def _make_traces(self, names: list[str]) -> tuple[Any, Any, dict[str, Any]]:
        from bokeh.models import ColumnDataSource, Range1d, Span
        from bokeh.plotting import figure

        first, last = float(self._time[0]), float(self._time[-1])
        tools: dict[str, Any] = {
            "tools": "xpan,xwheel_zoom,xbox_zoom,reset",
            "active_scroll": "xwheel_zoom",
            "sizing_mode": "stretch_width",
            "min_width": 500,
        }
        along = Range1d(*self._range, bounds=(first, last) if last > first else None)
        along.reset_start, along.reset_end = self._range
        lines = {name: ColumnDataSource({"time": [], "value": []}) for name in names}
        spikes = None
        main = [name for name in names if name != "spks"]
        units = unit_shown((main or names)[0], self._ds[(main or names)[0]].attrs)
        alone = "spks" not in names
        plot = figure(
            height=330 if not alone else 420,
            x_range=along,
            y_range=Range1d(0, 1),
            y_axis_label="dF/F" if main == ["dFF"] else f"fluorescence ({units})",
            x_axis_label=self._label if alone else None,
            title=" ",
            **tools,
        )
        self._grey = ColumnDataSource({"x0": [], "x1": []})
        plot.vstrip("x0", "x1", source=self._grey, color=GREY, level="underlay")
        for place in self._marks.borders[:_MOST_BORDERS].tolist():
            plot.add_layout(Span(location=place, dimension="height", line_color=BORDER))
        for name in main:
            plot.line(
                "time",
                "value",
                source=lines[name],
                color=_SHADES.get(name, FAINT),
                line_width=1.2,
                line_dash="dashed" if name == "F0" else "solid",
                legend_label=name,
            )
        if main:
            plot.legend.update(
                location="top_left", orientation="horizontal", click_policy="hide", padding=4
            )
            plot.add_layout(plot.legend[0], "above")
        if not alone:
            units = unit_shown("spks", self._ds["spks"].attrs)
            spikes = _make_spikes(lines["spks"], along, self._label, units, tools)
        _dress(plot)
        return plot, spikes, lines


def _make_spikes(source: Any, along: Any, label: str, units: str, tools: dict[str, Any]) -> Any:
    """Make the plot of spikes below that of the traces, over the same time."""
    from bokeh.models import Range1d
    from bokeh.plotting import figure

    plot = figure(
        height=190,
        x_range=along,
        y_range=Range1d(0, 1),
        x_axis_label=label,
        y_axis_label=f"spks ({units})",
        **tools,
    )
    plot.segment("time", 0, "time", "value", source=source, color=INK)
    _dress(plot)
    return plot


def _dress(plot: Any) -> None:
    plot.toolbar.logo = None
    plot.grid.visible = False
    plot.outline_line_color = None
    plot.title.text_font_style = "normal"
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.axis_label_text_color = INK
    plot.axis.major_label_text_font_size = "12px"
    plot.min_border_left = 60
