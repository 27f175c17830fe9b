"""A browser of recordings for notebooks: click on an ROI, see its traces, pan and zoom."""

from __future__ import annotations

import os
import sys
from typing import Any

import numpy as np
import xarray as xr

from xs2p.disk.replace import check_page, put_bytes
from xs2p.plot.controls import Controls, listening
from xs2p.plot.curating import KEYS, Curation, measures_at_hand
from xs2p.plot.drawing import has_baseline, position_of
from xs2p.plot.flags import doubts_of, facts_of
from xs2p.plot.frame import FrameMap
from xs2p.plot.lanes import OverTime, dress, shade_of
from xs2p.plot.marks import marks_of
from xs2p.plot.page import MADE_HERE, page_of
from xs2p.plot.reader import Reader, frames_in_view
from xs2p.plot.rows import is_said, why
from xs2p.plot.shades import shades_of_map
from xs2p.plot.times import time_axis
from xs2p.plot.traces import best_rois, check_traces_of
from xs2p.rois.curation import accepted_of, curated, write_choices
from xs2p.rois.pixels import pixel_table
from xs2p.traces.quality import SNR, is_of

_FIRST = 5000  # frames in view at first


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

    ROIs are accepted and rejected one after another, by buttons or by keys once the browser was
    clicked on: a accepts and r rejects, and each goes on to the next; n or → is next, p or ← is
    previous, u takes the last choice back. What they begin with is ``iscell``, else all are
    accepted. The ROIs can be sorted, filtered and coloured by any number over ``roi`` that is known
    without computing the traces; ``ds.assign(ds.s2p.quality().compute())`` has many.

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
        Which traces to show; by default ``Fc`` (else ``F``), ``F0``, ``Fneu`` and ``spks``. dF/F,
        spikes and, unless it is beside ``F``, neuropil have axes of their own.
    roi
        Label of the ROI to show first; by default one of a high signal to noise, as
        :func:`xs2p.plot.plot_traces` chooses.

    Returns
    -------
    Browser
        Shows itself in a notebook; ``browser.show()`` opens it in a window of the web browser.
        ``browser.roi`` is the label of the ROI that is shown, ``browser.select(label)`` shows
        another, ``browser.show_range(start, end)`` another range of time. ``browser.curated()`` is
        ``ds`` with the choices, ``browser.save_choices("choices.csv")`` a table of them, and
        ``browser.save("browse.html")`` the browser as one file, for those without Jupyter.

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
        names = ["Fc" if "Fc" in ds else "F", "F0", "Fneu", "spks"]
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
    figures
        All figures over time, from top to bottom.
    curation
        The choices, and the order in which ROIs are gone through.
    lines
        bokeh's data source of each variable: ``time`` and ``value``.
    layout
        panel's layout.
    """

    def __init__(self, ds: xr.Dataset, background: Any, names: list[str], roi: Any) -> None:
        self._ds = ds
        self._table = pixel_table(ds)
        self._map = FrameMap(ds, self._table, background)
        axis = time_axis(ds)
        self._time, self._marks = axis.values, marks_of(ds, axis)
        self._reader = Reader(ds, names)
        self._doubts = doubts_of(ds) or [""] * ds.sizes["roi"]
        if roi is None:
            roi = best_rois(ds, slice(0, ds.sizes["time"]), 1)[0]
        self._place = position_of(self._table.roi, roi)
        self._range = float(self._time[0]), float(self._time[min(_FIRST, self._time.size) - 1])

        self.curation = Curation(accepted_of(ds), measures_at_hand(ds))
        self._color: str | None = None
        self._background, self._names = background, names
        self.image = self._map.figure
        dress(self.image)
        self._over_time = OverTime(ds, names, axis, self._marks, self._range)
        self.lines, self.figures = self._over_time.lines, self._over_time.figures
        self.traces, self.spikes = self._over_time.traces, self._over_time.spikes
        self.layout = listening(self._make_layout(), self.press)
        self._paint()
        self._update()

    def _make_layout(self) -> Any:
        """Put figures and widgets side by side, and let them hear what happens."""
        import panel
        from bokeh.events import RangesUpdate, Tap

        self._choice = panel.widgets.Select(
            options=self._table.roi.tolist(), value=self.roi, width=110
        )
        self._choice.param.watch(lambda event: self.select(event.new), "value")
        planes = self._map.planes
        self._plane = panel.widgets.Select(options=planes, width=80, visible=bool(planes))
        self._plane.param.watch(lambda event: self._to_plane(event.new), "value")
        self._about = panel.pane.Markdown("", margin=(5, 10))
        self.image.on_event(Tap, self._tapped)
        self.figures[0].on_event(RangesUpdate, self._moved)
        self._controls = Controls(self, list(self.curation.measures))
        return panel.Row(
            panel.Column(
                panel.pane.Bokeh(self.image, sizing_mode="scale_width"),
                panel.Row(*(["Plane", self._plane] if planes else []), "ROI", self._choice),
                self._about,
                self._controls.layout,
                sizing_mode="stretch_width",
                max_width=900,
            ),
            panel.Column(
                *(panel.pane.Bokeh(plot, sizing_mode=plot.sizing_mode) for plot in self.figures),
                sizing_mode="stretch_both",
                min_height=560,
            ),
            sizing_mode="stretch_both",
        )

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

    def press(self, key: str) -> None:
        """Do what a key does, as it is called in the web browser: ``"a"``, ``"ArrowRight"``."""
        if key in KEYS:
            getattr(self, KEYS[key])()

    def accept(self) -> None:
        """Accept the ROI that is shown, and go on to the next."""
        self._decide(True)

    def reject(self) -> None:
        """Reject the ROI that is shown, and go on to the next."""
        self._decide(False)

    def next(self) -> None:
        """Show the next ROI, in the order that was chosen."""
        self._go(self.curation.step(self._place, 1))

    def previous(self) -> None:
        """Show the ROI before."""
        self._go(self.curation.step(self._place, -1))

    def undo(self) -> None:
        """Take the last choice back, and show its ROI."""
        place = self.curation.undo()
        if place is not None:
            self._paint()
            self._go(place)

    def sort(self, by: str | None, descending: bool = True) -> None:
        """Go through the ROIs in the order of a number over ``roi``; None as they are listed."""
        self.curation.sort(by, descending)
        self._go(self.curation.step(-1, 0) if self.curation.order.size else self._place)

    def filter(self, by: str | None, low: float | None = None, high: float | None = None) -> None:
        """Go through ROIs of which a number is within ends, or ``"accepted"`` or ``"rejected"``."""
        self.curation.filter(by, low, high)
        inside = self._place in self.curation.order or not self.curation.order.size
        self._paint()
        self._go(self._place if inside else int(self.curation.order[0]))

    def color(self, by: str | None) -> None:
        """Colour the map by a number over ``roi``; None by what is accepted."""
        if by is not None and by not in self.curation.measures:
            known = ", ".join(self.curation.measures)
            raise ValueError(f"there are no numbers {by!r} over roi; there are {known}")
        self._color = by
        self._paint()

    def curated(self) -> xr.Dataset:
        """Return the Dataset with the choices as its coordinate ``iscell``, bool ``(roi,)``."""
        own = xr.DataArray(self.curation.accepted, {"roi": self._table.roi}, "roi")
        return curated(self._ds, own)

    def save_choices(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the choices as a CSV file, which ``ds.s2p.curated(path)`` reads.

        ``overwrite`` replaces one that is there; no other file is replaced.
        """
        write_choices(self._table.roi, self.curation.accepted, path, overwrite)

    def save(self, path: str | os.PathLike[str], *, overwrite: bool = False) -> None:
        """Write the browser as one HTML file, which needs no server and nothing beside it.

        Keys and lists are the same; choices stay in the web browser, and its key s saves them as a
        CSV file, which ``ds.s2p.curated(path)`` reads. Of long recordings the lowest and the
        highest value of each of up to 2000 bins of time are kept. All traces are computed, once.

        Parameters
        ----------
        path
            The file, whose name ends in ``.html``.
        overwrite
            Replace such a file that is there; no other file is replaced.

        Raises
        ------
        FileExistsError
            The file exists, and is no browser or ``overwrite`` is False.
        """
        target = os.fspath(path)
        check_page(target, "browser", MADE_HERE, overwrite=overwrite, step="browse")
        page = page_of(
            self._ds,
            self._names,
            {name: shade_of(name) for name in self._names},
            self._background,
            self.curation.accepted,
            self.curation.measures,
            self._place,
            os.path.splitext(os.path.basename(target))[0],
        )
        put_bytes(page.encode(), target)

    def _decide(self, yes: bool) -> None:
        place = self.curation.decide(self._place, yes)
        self._paint()
        self._go(place)

    def _go(self, place: int) -> None:
        self._place = place
        self._update()

    def _paint(self) -> None:
        """Colour the map, and say how many ROIs are accepted."""
        some = self.curation
        rgba = shades_of_map(some.accepted, some.measures.get(self._color or ""))
        rgba[~np.isin(np.arange(len(rgba)), some.order), 3] *= 0.3
        self._map.paint(rgba, ~some.accepted)

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
        reason = why(self._ds, self._place)
        shown = self._over_time.show(found, self._place)
        told = "" if shown and not is_said(reason) else reason
        self._map.show(self._place)
        self._about.object = self._facts(told)
        words = ", ".join(word for word in (told, self._doubts[self._place]) if word)
        self.traces.title.text = f"ROI {self.roi}" + (f": {words}" if words else "")
        if self._choice.value != self.roi:
            self._choice.value = self.roi
        some = self.curation.accepted
        now = "accepted" if some[self._place] else "**rejected**"
        self._controls.state.object = (
            f"ROI {self.roi} is {now}; {int(some.sum())} of {some.size} are accepted"
        )
        if self._map.planes:
            self._plane.value = self._map.planes[self._map.plane_of(self._place)]

    def _facts(self, told: str) -> str:
        words = [f"{np.diff(self._table.offsets)[self._place]} pixels"]
        snr, main = self._ds.coords.get("snr"), self._ds["Fc" if "Fc" in self._ds else "F"]
        if snr is not None and snr.dims == ("roi",) and is_of(snr, main):
            words.append(f"{SNR}: {float(snr[self._place]):.2f}")
        return ", ".join([*words, *facts_of(self._ds, self._place), *([told] if told else [])])
