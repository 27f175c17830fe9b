"""Traces of some ROIs, one above another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag, check_number, unit_shown
from xs2p.compute.progress import progress_bar
from xs2p.plot.choice import (
    SATURATED,
    by_unit,
    check_variables,
    default_row,
    default_variables,
    frames_of,
    others_in,
    rows_of,
    saturated_in,
)
from xs2p.plot.drawing import COLORS, INK, NEUROPIL, SMALL, new_axes, position_of
from xs2p.plot.flags import doubts_of
from xs2p.plot.marks import GREY, Marks, draw_marks, marks_of
from xs2p.plot.rows import OTHERS, RED, Row, draw_rows
from xs2p.plot.stimuli import draw_happened, happened
from xs2p.plot.times import frames_in, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_ACROSS = 6  # entries of a legend in a line
_JUDGED = 2000  # frames of lazy traces that the ROIs to show are chosen by


def plot_traces(
    ds: xr.Dataset,
    rois: Any = None,
    ax: Axes | None = None,
    *,
    time: tuple[float | None, float | None] | None = None,
    segments: Any = None,
    variables: Sequence[str] | None = None,
    events: Any = None,
    saturation: float | None = None,
    corrected: bool = False,
    neuropil_coefficient: float | None = None,
    same_scale: bool = False,
    colors: Sequence[str] = COLORS,
    legend: bool = True,
) -> Axes:
    """Draw fluorescence, neuropil, baseline and spikes of some ROIs, one above another.

    ``F`` is drawn over ``c · Fneu``, where ``c`` is the neuropil coefficient, and the baseline
    over that, as ``c · Fneu + F0``: what ``F`` is where the cell is silent. Of centred neuropil it
    is ``F − Fc + F0``.

    Parameters
    ----------
    ds
        Traces over ``roi`` and ``time``: ``F`` or ``Fc`` and, where there, ``Fneu``, ``F0`` and
        ``spks``; lazy or not. Only the ROIs and the time that are shown are computed, all
        variables in one pass.
    rois
        Labels of the ROIs, from top to bottom, or one label. None takes the five of the highest
        signal to noise (:func:`xs2p.snr`): by the coordinate ``snr`` where there is one, else by
        their traces, of lazy ones the first 2000 frames shown.
    ax
        Axes to draw into; None makes a figure.
    time
        ``(start, end)`` to show, in the unit of the axis: s, what ``ds.time.attrs["units"]`` says,
        or frames where neither ``ds.time`` nor ``ds.attrs["fs"]`` says the time. Of dates, s from
        the first, or dates as ``ds.time`` has them. Timedeltas count from 0.
        None, also for one of the two, is as far as the recording goes.
    segments
        Names or labels of the segments to show, or one of them; None shows all. Each stands where
        it is in the whole recording; where others lie between them the axis has a gap.
    variables
        Names of traces to draw as they are, such as ``["dFF"]`` or ``["dFF", "Fc", "F0", "spks"]``.
        Those of one unit share a row, dF/F has one of its own, spikes stand in the first. None
        draws fluorescence over neuropil and baseline, as above.
    events
        What happened, drawn behind the traces: onsets ``(event,)`` as dashed lines, intervals
        ``(event, 2)`` as spans; a table with ``start_time`` and ``stop_time`` (NWB), ``start`` and
        ``end`` (pynapple) or ``onset`` and ``duration``; a dict of any of these by name; or what
        :func:`xs2p.events` found, each behind its own ROI. Times as in ``time``; where
        ``attrs["units"]`` says ``"s"``, as of :func:`xs2p.events`, ``"ms"`` or another unit of
        time, they are put in that of the axis.
    saturation
        ``F`` from which the detector is saturated, in the units of ``F``: such frames have a red
        bar above the trace. None marks frames in which ``ds.saturated``, over ``time`` or
        ``(roi, time)``, is True or above 0, where there is one.
    corrected
        Draw ``Fc = F − c · Fneu`` and ``F0`` instead.
    neuropil_coefficient
        ``c``; by default the one that ``Fc``, or else ``F0``, says that it was made with, or that
        of each ROI.
    same_scale
        One scale for the fluorescence of all ROIs; else each fills its row.
    colors
        Of the ROIs, in turn.
    legend
        Draw the legend, above the axes.

    Returns
    -------
    matplotlib.axes.Axes
        Time to the right. The bars at the right are the scale of the fluorescence. Spikes are
        scaled to the largest shown of their ROI. Of more than 5000 samples, the lowest and the
        highest of each column of pixels are drawn. An ROI without a trace has its ``status`` in
        place of one, ``zero_trace`` too. What ``dff_flag(roi)`` and ``demix_flag(roi)`` say is
        written over its trace, unless it is lazy and yet to be made of the traces. Lines break at
        gaps in time: steps of more than one and a half times the usual one; and between segments,
        where a thin line stands. Grey are frames that do not count (``valid``): lines break there,
        and each ROI's scale is that of the others.

    Raises
    ------
    ValueError
        If there is no such ROI, segment or variable, no time in the range, time goes back or
        repeats, events are no times or in a unit that the axis cannot be told in, or ``ds`` has
        no traces or several channels.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> ax = plot_traces(ds, [4, 5], time=(5, 20))
    >>> ax.get_xlabel()
    'time (s)'
    >>> from matplotlib import pyplot
    >>> pyplot.close("all")
    """
    for name, flag in (("same_scale", same_scale), ("corrected", corrected), ("legend", legend)):
        check_flag(name, flag)
    check_traces_of(ds)
    if saturation is not None:
        check_number("saturation", saturation)
        if "F" not in ds:
            raise ValueError("saturation is a level of F, which ds has not")
    names = None if variables is None else check_variables(ds, variables)
    groups = None if names is None else by_unit(ds, names)
    if names is not None and (corrected or neuropil_coefficient is not None):
        raise ValueError(
            "variables are drawn as they are; corrected and neuropil_coefficient are for the rest"
        )
    kept = frames_of(ds, segments)
    axis = time_axis(ds, kept)
    ds = ds if kept is None else ds.isel(time=kept)
    around = happened(events, axis)
    frames = frames_in(axis, time)
    labels = _chosen(ds, rois, frames)
    places = [position_of(ds["roi"].values, label) for label in labels]
    show, coefficient = (
        (names, None) if names else default_variables(ds, corrected, neuropil_coefficient)
    )
    some = _computed(ds, show, places, frames, saturation)
    marks = marks_of(ds, axis)
    rows = _rows(some, show, groups, coefficient, places)
    rows = _marked(rows, ds, some, marks, places, frames, saturation)
    if ax is None:
        ax = new_axes((10.0, 1.1 * max(len(rows), 1) + 1.1))
    columns = max(int(ax.get_window_extent().width), 1000)
    shown, runs = axis.values[frames], axis.runs[frames]
    ends = (float(shown[0]), float(shown[-1])) if shown.size else (0.0, 1.0)
    draw_rows(ax, rows, shown, runs, ends, axis.label, columns, colors, same_scale)
    of_rows = [places[row.number or 0] for row in rows]
    grey = draw_marks(ax, marks, of_rows, frames)
    entries = draw_happened(ax, around, [row.label for row in rows], ends)
    if legend and rows:
        words = _words(rows[0], show, coefficient) if groups is None else _words_of(groups)
        _legend(ax, rows, words, colors, grey, entries)
    return ax


def _computed(
    ds: xr.Dataset, show: list[str], places: list[int], frames: slice, saturation: float | None
) -> xr.Dataset:
    """Compute what is shown, all in one pass."""
    extra = ["F"] * (saturation is not None and "F" not in show)
    extra += [SATURATED] * (saturation is None and SATURATED in ds.variables)
    some = ds.reset_coords([n for n in extra if n in ds.coords])[[*show, *extra]]
    some = some.isel(roi=places, time=frames)
    # The variables alone: coordinates over pixel would only be copied. One compute for all.
    some = some.drop_vars([n for n, c in some.coords.items() if n not in ("roi", "status")])
    with progress_bar():
        return some.compute().as_numpy()


def _rows(
    some: xr.Dataset,
    show: list[str],
    groups: list[tuple[str, list[str]]] | None,
    coefficient: float | xr.DataArray | None,
    places: list[int],
) -> list[Row]:
    """Rows of all ROIs, from top to bottom; ``groups`` are variables to draw as they are."""
    if groups is not None:
        spikes = "spks" in show and groups[0][1] != ["spks"]
        each = [rows_of(some.isel(roi=k), groups, spikes, k) for k in range(len(places))]
        return sum(each, [])
    own = _of_each(coefficient, places)
    units = unit_shown(show[0], some[show[0]].attrs)
    one = some[show]
    return [default_row(one.isel(roi=k), own[k], k, units) for k in range(len(places))]


def _marked(
    rows: list[Row],
    ds: xr.Dataset,
    some: xr.Dataset,
    marks: Marks,
    places: list[int],
    frames: slice,
    saturation: float | None,
) -> list[Row]:
    """Say in each row which frames count, which are saturated, and what speaks against it."""
    doubts = doubts_of(ds, places) or [""] * len(places)
    saturated = saturated_in(some, saturation)
    count = None
    if marks.valid is not None:
        count = np.broadcast_to(marks.valid, (ds.sizes["roi"], ds.sizes["time"]))[places, frames]
    found, seen = [], set()
    for row in rows:
        k = row.number or 0
        found.append(
            row._replace(
                doubts="" if k in seen else doubts[k],
                valid=None if count is None else count[k],
                saturated=None if saturated is None or k in seen else saturated[k],
            )
        )
        seen.add(k)
    return found


def check_traces_of(ds: xr.Dataset) -> None:
    """Raise unless these are traces of one channel."""
    if "channel" in ds.dims:
        raise ValueError("ds has several channels; choose one: ds.isel(channel=0)")
    if "roi" in ds.coords and "roi" not in ds.dims:
        raise ValueError(
            f"ds is of one ROI and has no dim roi; choose it as ds.sel(roi=[{ds['roi'].item()!r}])"
        )
    if not {"F", "Fc"} & set(ds.data_vars) or "roi" not in ds.coords or "time" not in ds.dims:
        raise ValueError(
            "ds has neither F nor Fc over roi and time; make traces with movie.s2p.extract(rois). "
            f"It has {', '.join(map(str, ds.data_vars)) or 'no variables'}"
        )


def _chosen(ds: xr.Dataset, rois: Any, frames: slice) -> list[Any]:
    if rois is None:
        return best_rois(ds, frames)
    labels = np.atleast_1d(np.asarray(rois))
    if labels.ndim != 1 or labels.dtype.kind == "b":
        raise ValueError(
            f"rois must be labels, as in rois=[3, 5]; got {labels.dtype} of shape {labels.shape}. "
            "Of a mask: rois=ds.roi[mask].values"
        )
    return list(labels)


def best_rois(ds: xr.Dataset, frames: slice, n: int = 5) -> list[Any]:
    """Labels of the ROIs of the highest signal to noise, the highest first."""
    from xs2p.traces.quality import is_of, snr

    traces = ds["Fc" if "Fc" in ds else "F"]
    if "snr" in ds.coords and ds["snr"].dims == ("roi",) and is_of(ds["snr"], traces):
        quality = ds["snr"]
    else:
        if not traces.variable._in_memory:
            frames = slice(frames.start, min(frames.stop, frames.start + _JUDGED))
        quality = snr(traces.isel(time=frames))
    with progress_bar():
        values = np.asarray(quality.compute().as_numpy(), dtype=np.float64)
    order = np.argsort(-values, kind="stable")
    known = [i for i in order[:n] if np.isfinite(values[i])]
    return list(ds["roi"].values[known if known else order[:n]])


def _of_each(coefficient: float | xr.DataArray | None, places: list[int]) -> list[float | None]:
    """Return the neuropil coefficient of each ROI that is shown."""
    if coefficient is None or isinstance(coefficient, float | int):
        return [coefficient] * len(places)
    return list(coefficient.isel(roi=places).as_numpy().values.tolist())


def _words(row: Row, show: list[str], coefficient: float | xr.DataArray | None) -> dict[str, str]:
    """Say what the lines of a row are, by the part of it."""
    each = isinstance(coefficient, xr.DataArray)
    times = "Fneu" if coefficient is None else f"{'c' if each else f'{coefficient:g}'} · Fneu"
    over = "" if row.neuropil is None else "F − Fc + " if "Fc" in show[1:] else f"{times} + "
    return {
        "main": "F" if show[0] == "F" else "Fc, corrected for neuropil",
        "neuropil": f"{times} (neuropil)",
        "baseline": f"{over}F0 (baseline)",
    }


def _words_of(groups: list[tuple[str, list[str]]]) -> dict[str, str]:
    """Say what the lines are of variables that are drawn as they are."""
    each: dict[str, list[str]] = {"main": [names[0] for _, names in groups]}
    for _, names in groups:
        for k, name in enumerate(others_in(names)):
            each.setdefault(f"other {k}", []).append(name)
    joined = {part: ", ".join(names) for part, names in each.items()}
    return {**joined, "neuropil": "Fneu (neuropil)", "baseline": "F0 (baseline)"}


def _legend(
    ax: Axes,
    rows: list[Row],
    words: dict[str, str],
    colors: Sequence[str],
    grey: bool,
    more: list[tuple[Any, str]],
) -> None:
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    n_rois = len({row.number for row in rows})
    shown = tuple(Line2D([], [], color=colors[k % len(colors)]) for k in range(min(n_rois, 3)))
    entries: list[tuple[Any, str]] = [(shown, words["main"])]
    if any(row.neuropil is not None for row in rows):
        entries.append((Line2D([], [], color=NEUROPIL, alpha=0.6), words["neuropil"]))
    if any(row.baseline is not None for row in rows):
        dashed = Line2D([], [], color=INK, linestyle=(0, (3, 1.5)), linewidth=1.0)
        entries.append((dashed, words["baseline"]))
    for k in range(max(len(row.others) for row in rows)):
        entries.append((Line2D([], [], color=OTHERS[k % len(OTHERS)]), words[f"other {k}"]))
    if any(row.spikes is not None for row in rows):
        bar: dict[str, Any] = {
            "marker": "|",
            "markersize": 8,
            "markeredgewidth": 1,
            "linestyle": "none",
        }
        entries.append((Line2D([], [], color=INK, **bar), "spikes, to each ROI's largest"))
    if any(row.saturated is not None and row.saturated.any() for row in rows):
        entries.append((Line2D([], [], color=RED, linewidth=2.5), "saturated"))
    if grey:
        entries.append((Patch(color=GREY), "not counted"))
    entries += more
    handles, labels = zip(*entries, strict=True)
    ax.legend(
        handles,
        labels,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.0)},
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        ncols=min(len(handles), _ACROSS),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        columnspacing=1.6,
    )
