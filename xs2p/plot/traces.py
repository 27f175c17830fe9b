"""Traces of some ROIs, one above another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag, coefficient_in, parameters_in, unit_shown
from xs2p._warnings import warn
from xs2p.compute.progress import progress_bar
from xs2p.plot.drawing import (
    COLORS,
    INK,
    NEUROPIL,
    SMALL,
    has_baseline,
    new_axes,
    position_of,
)
from xs2p.plot.flags import doubts_of
from xs2p.plot.marks import GREY, draw_marks, marks_of
from xs2p.plot.rows import Row, draw_rows, why
from xs2p.plot.times import frames_in, time_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_JUDGED = 2000  # frames of lazy traces that the ROIs to show are chosen by


def plot_traces(
    ds: xr.Dataset,
    rois: Any = None,
    ax: Axes | None = None,
    *,
    time: tuple[float | None, float | None] | None = None,
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
        the first, or dates as ``ds.time`` has them. None, also for one of the two, is as far as the
        recording goes.
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
        where a thin line stands. Grey are frames that do not count (``valid``): each ROI's scale is
        that of the others, and what is beyond it in them is drawn at its end.

    Raises
    ------
    ValueError
        If there is no such ROI, no time in the range, time goes back or repeats, or ``ds`` has no
        traces or several channels.

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
    check_flag("same_scale", same_scale)
    check_flag("corrected", corrected)
    check_flag("legend", legend)
    check_traces_of(ds)
    axis = time_axis(ds)
    frames = frames_in(axis, time)
    labels = _chosen(ds, rois, frames)
    places = [position_of(ds["roi"].values, label) for label in labels]
    show, coefficient = _variables(ds, corrected, neuropil_coefficient)
    some = ds[show].isel(roi=places, time=frames)
    # The variables alone: coordinates over pixel would only be copied. One compute for all.
    some = some.drop_vars([n for n, c in some.coords.items() if n not in ("roi", "status")])
    with progress_bar():
        some = some.compute().as_numpy()
    marks = marks_of(ds, axis)
    each = _of_each(coefficient, places)
    rows = [_row(some.isel(roi=k), each[k], corrected) for k in range(len(places))]
    doubts = doubts_of(ds, places) or [""] * len(rows)
    rows = [row._replace(doubts=words) for row, words in zip(rows, doubts, strict=True)]
    if marks.valid is not None:
        count = np.broadcast_to(marks.valid, (ds.sizes["roi"], axis.values.size))[places, frames]
        rows = [row._replace(valid=own) for row, own in zip(rows, count, strict=True)]
    if ax is None:
        ax = new_axes((10.0, 1.1 * max(len(rows), 1) + 1.1))
    columns = max(int(ax.get_window_extent().width), 1000)
    units = unit_shown(show[0], ds[show[0]].attrs)
    shown, runs = axis.values[frames], axis.runs[frames]
    ends = (float(shown[0]), float(shown[-1])) if shown.size else (0.0, 1.0)
    draw_rows(ax, rows, shown, runs, ends, axis.label, units, columns, colors, same_scale)
    grey = draw_marks(ax, marks, places, frames)
    if legend and rows:
        _legend(ax, rows, coefficient, show[0], colors, grey, "Fc" in show[1:])
    return ax


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


def _variables(
    ds: xr.Dataset, corrected: bool, coefficient: float | None
) -> tuple[list[str], float | xr.DataArray | None]:
    """Names of what is needed, what is drawn in colour first; and the neuropil coefficient."""
    if corrected and "Fc" not in ds:
        raise ValueError("corrected=True needs Fc, which ds has not; leave it out to see F")
    main = "Fc" if corrected or "F" not in ds else "F"
    show = [main]
    known: float | xr.DataArray | None = coefficient
    if main == "F" and "Fneu" in ds:
        show.append("Fneu")
        if coefficient is None:
            known = coefficient_in(ds)
    if has_baseline(ds):
        if "Fneu" in show and "Fc" in ds and parameters_in(ds).get("neuropil") == "centred":
            show += ["Fc", "F0"]  # F0 is not a baseline of F − c · Fneu
        elif "Fneu" in show and known is None:
            warn(
                "F0 is not drawn: it is a baseline of F − c · Fneu, and c is not known; give "
                "neuropil_coefficient=..."
            )
        else:
            show.append("F0")
    return show + (["spks"] if "spks" in ds else []), known


def _row(one: xr.Dataset, coefficient: float | None, corrected: bool) -> Row:
    values = {str(n): v.values.astype(np.float64) for n, v in one.data_vars.items()}
    main = values["F" if "F" in values else "Fc"]
    neuropil = baseline = None
    if "Fneu" in values:
        neuropil = values["Fneu"] * (1.0 if coefficient is None else coefficient)
    if "F0" in values:
        baseline = values["F0"] if neuropil is None else values["F0"] + neuropil
        if {"F", "Fc"} <= set(values):
            baseline = values["F0"] + (values["F"] - values["Fc"])
    return Row(one["roi"].item(), main, neuropil, baseline, values.get("spks"), why(one))


def _legend(
    ax: Axes,
    rows: list[Row],
    coefficient: float | xr.DataArray | None,
    main: str,
    colors: Sequence[str],
    grey: bool,
    centred: bool,
) -> None:
    from matplotlib.legend_handler import HandlerTuple
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    row = rows[0]
    each = isinstance(coefficient, xr.DataArray)
    times = "Fneu" if coefficient is None else f"{'c' if each else f'{coefficient:g}'} · Fneu"
    shown = tuple(Line2D([], [], color=colors[k % len(colors)]) for k in range(min(len(rows), 3)))
    handles: list[Any] = [shown]
    words = ["F" if main == "F" else "Fc, corrected for neuropil"]
    if row.neuropil is not None:
        handles.append(Line2D([], [], color=NEUROPIL, alpha=0.6))
        words.append(f"{times} (neuropil)")
    if row.baseline is not None:
        handles.append(Line2D([], [], color=INK, linestyle=(0, (3, 1.5)), linewidth=1.0))
        over = "" if row.neuropil is None else "F − Fc + " if centred else f"{times} + "
        words.append(f"{over}F0 (baseline)")
    if row.spikes is not None:
        handles.append(
            Line2D([], [], color=INK, marker="|", markersize=8, markeredgewidth=1, linestyle="none")
        )
        words.append("spikes, to each ROI's largest")
    if grey:
        handles.append(Patch(color=GREY))
        words.append("not counted")
    ax.legend(
        handles,
        words,
        handler_map={tuple: HandlerTuple(ndivide=None, pad=0.0)},
        loc="lower left",
        bbox_to_anchor=(0.0, 1.0),
        borderaxespad=0.2,
        ncols=len(handles),
        frameon=False,
        fontsize=SMALL,
        labelcolor=INK,
        columnspacing=1.6,
    )
