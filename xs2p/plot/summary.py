"""One page about a recording."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import unit_shown
from xs2p._flags import DFF_FLAG, flags_of
from xs2p.compute.arrays import to_host
from xs2p.compute.progress import progress_bar
from xs2p.plot.bins import bin_time, join_bins
from xs2p.plot.drawing import (
    COLORS,
    FAINT,
    INK,
    NORMAL,
    SMALL,
    color_scale,
    has_baseline,
    new_figure,
    show_image,
)
from xs2p.plot.flags import counted, flags_in
from xs2p.plot.images import Picture, finished, pictures
from xs2p.plot.marks import draw_borders, draw_marks, marks_of
from xs2p.plot.measures import check_measure, finite, measures_in, told
from xs2p.plot.measures import histogram as draw_histogram
from xs2p.plot.panels import by_plane, rows_and_columns
from xs2p.plot.raster import BINS, Bins, bins_of, draw_raster, shown_as
from xs2p.plot.rois import plot_rois
from xs2p.plot.rows import Row, draw_rows, why
from xs2p.plot.times import time_axis
from xs2p.plot.traces import check_traces_of
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import PixelTable, pixel_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.gridspec import SubplotSpec


def plot_summary(
    ds: xr.Dataset,
    *,
    background: Any = None,
    movie: xr.DataArray | None = None,
    raster: str = "zscore",
    color: str = "snr",
    n_traces: int = 5,
) -> Figure:
    """Draw one page about a recording: image, ROIs, signal to noise, all traces, some traces.

    Parameters
    ----------
    ds
        Traces over ``roi`` and ``time``, with their ROI set as coordinates, lazy or not. Everything
        is computed in one pass, also with ``movie``, and held only in at most 2000 bins of time.
    background
        Image ``(y, x)`` of the field of view. None takes the mean of ``movie``, else the variable
        ``meanImg`` or ``mean_image`` of ``ds``, else the weights of the ROIs' pixels. Of ROIs of
        several planes also ``(plane, y, x)``, or the variables ``meanImg_plane0`` and so on:
        each plane gets a panel, its ROIs over its image.
    movie
        Movie ``(time, y, x)``, or ``(time, plane, y, x)``, to make the mean image of.
    raster
        What the map of all ROIs shows of ``Fc`` (of ``F`` where there is no ``Fc``):
        ``"zscore"``, each ROI less its mean and over its standard deviation, or ``"dFF"``: the
        variable ``dFF``, else ``(Fc − F0) / F0``; the colours of ``dFF`` end where those ROIs do
        that nothing speaks against. A recording of more than 2000 frames is averaged in bins of
        time, the z-score that of the bins. Frames that do not count (``valid``) are passed over.
    color
        What the ROIs are coloured by, and the histogram is of: ``"snr"``, suite2p's signal to
        noise, or the name of any numbers over ``roi`` that ``ds`` has, such as ``"noise_level"`` of
        ``ds.assign(ds.s2p.quality())``.
    n_traces
        How many ROIs to show beneath, of the highest signal to noise.

    Returns
    -------
    matplotlib.figure.Figure
        In a notebook it is shown once, as what the cell returns. The axes that pyplot draws into,
        ``plt.gca()``, stay what they were. Where ``ds`` has
        ``dff_flag(roi)`` or ``demix_flag(roi)``, a line beneath the map says how many ROIs have
        which flag; where it has measures of :func:`xs2p.quality`, another says what they are in
        the middle of all ROIs.

    Raises
    ------
    ValueError
        If ``ds`` holds no traces or no ROI set, has several channels or no frames, time goes back
        or repeats, ``raster`` is neither of the two or needs a ``dFF`` or ``F0`` that is not there,
        ``color`` is no number over ``roi``, or an image does not fit.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    >>> figure = plot_summary(ds, movie=xs2p.sample_movie())
    >>> [ax.get_title(loc="left") for ax in figure.axes[:3]]
    ['Mean image', '98 ROIs', 'suite2p SNR']
    >>> from matplotlib import pyplot
    >>> pyplot.close("all")
    """
    import matplotlib
    from matplotlib import pyplot

    check_traces_of(ds)
    table = pixel_table(ds)
    if raster not in ("zscore", "dFF"):
        raise ValueError(f"raster={raster!r}; choose 'zscore' or 'dFF'")
    if raster == "dFF" and not (has_baseline(ds) or _has_dff(ds)):
        raise ValueError("raster='dFF' needs a baseline F0, or dFF; ds has neither: use 'zscore'")
    check_measure(ds, color)
    if not ds.sizes["time"]:
        raise ValueError("ds has no frames to draw")
    parts = by_plane(ds)
    views = pictures(ds, background, movie, table.shape)

    axis = time_axis(ds)
    bins, marks = bins_of(axis), marks_of(ds, axis)
    more = ["dFF"] * (raster == "dFF" and _has_dff(ds))
    made = _compute(ds, [view.image for view in views], bins.first, marks.valid, more, color)

    down, _ = rows_and_columns(len(parts))
    before = pyplot.gcf().number if pyplot.get_fignums() else None
    figure = new_figure((10.0, 7.0 + 3.6 * down))
    grid = figure.add_gridspec(3, 1, height_ratios=(3.6 * down, 2.9, 3.3))
    if parts:
        _maps_of_planes(figure, grid[0], ds, parts, views, made)
    else:
        _map(figure, grid[0], ds, table, finished(views[0], made.images[0], table), made)
    order = _by_quality(made.quality)
    raster_ax = figure.add_subplot(grid[1])
    map_of_all = shown_as(made.found, raster, made.doubtful)
    draw_raster(raster_ax, map_of_all, order, bins, marks.valid is not None)
    draw_borders(raster_ax, marks)
    lines = [told(made.measures), *(counted(flags) for flags in made.flags)]
    if any(lines):
        text = "\n".join(textwrap.fill(line, 130) for line in lines if line)
        raster_ax.set_xlabel(text, loc="left", fontsize=SMALL, color=FAINT)
    units = unit_shown("F", ds["Fc" if "Fc" in ds else "F"].attrs)
    shown = [_row(ds, made, int(i))._replace(units=units) for i in order[:n_traces]]
    example = figure.add_subplot(grid[2])
    places, runs = np.repeat((bins.start + bins.stop) / 2, 2), np.repeat(bins.runs, 2)
    draw_rows(example, shown, places, runs, bins.ends, axis.label, BINS, COLORS)
    draw_marks(example, marks, order[:n_traces].tolist())
    _heading(example, _what(made.found, bins, marks.valid is not None))
    if "inline" in matplotlib.get_backend():
        # Jupyter shows what a cell returns and every open figure: it would be there twice.
        pyplot.close(figure)
    if before is not None:
        pyplot.figure(before)  # what was current stays so: a page is no place to draw into
    return figure


def _map(
    figure: Figure,
    place: SubplotSpec,
    ds: xr.Dataset,
    table: PixelTable,
    shown: tuple[str, np.ndarray],
    made: _Made,
) -> None:
    """Draw image, ROIs over it and signal to noise, side by side."""
    name, image = shown
    across = place.subgridspec(1, 3, width_ratios=(1, 1, 0.72))
    fov, rois_ax, histogram = (figure.add_subplot(across[k]) for k in range(3))
    show_image(fov, image, table.shape)
    _heading(fov, name)
    thin = _thin(table.roi.size)
    plot_rois(ds, rois_ax, background=image, color=made.shades, legend=False, linewidth=thin)
    _heading(rois_ax, f"{table.roi.size} ROIs")
    draw_histogram(histogram, made.shades)


def _maps_of_planes(
    figure: Figure,
    place: SubplotSpec,
    ds: xr.Dataset,
    parts: dict[Any, np.ndarray],
    views: list[Picture],
    made: _Made,
) -> None:
    """Draw the ROIs of each plane over its image, in colours that mean the same in all."""
    shades = made.shades
    rois = ds.drop_vars([name for name, v in ds.variables.items() if "time" in v.dims])
    low, high = color_scale(shades, on_image=True).get_clim()
    down, across = rows_and_columns(len(parts))
    grid = place.subgridspec(down, across + 1, width_ratios=(*[1] * across, 0.72))
    thin = _thin(max(where.size for where in parts.values()))
    for k, (plane, where) in enumerate(parts.items()):
        own = contiguous(rois.isel(roi=where))
        name, image = finished(views[k], made.images[k], pixel_table(own))
        ax = figure.add_subplot(grid[k // across, k % across])
        plot_rois(
            own,
            ax,
            background=image,
            color=shades.isel(roi=where),
            vmin=low,
            vmax=high,
            legend=False,
            linewidth=thin,
        )
        _heading(ax, f"Plane {plane}: {where.size} ROIs\n{name}")
    draw_histogram(figure.add_subplot(grid[:, across]), shades)


def _thin(n_rois: int) -> float:
    return 1.5 if n_rois <= 30 else 0.8 if n_rois <= 300 else 0.5


class _Made(NamedTuple):
    """What is computed of a recording."""

    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]
    """Lowest, highest and mean value of each bin, by variable."""
    images: list[Any]
    quality: xr.DataArray
    """Signal to noise of each ROI, which they are ordered by."""
    shades: xr.DataArray
    """What they are coloured by."""
    flags: list[xr.DataArray]
    """Flags of each ROI: of demixing, and of the dF/F."""
    measures: dict[str, Any]

    @property
    def doubtful(self) -> np.ndarray | None:
        """Which ROIs have any flag of their dF/F."""
        of_dff = (flags.fillna(0).values != 0 for flags in self.flags if flags.name == DFF_FLAG)
        return next(of_dff, None)


def _has_dff(ds: xr.Dataset) -> bool:
    return "dFF" in ds and set(ds["dFF"].dims) == {"roi", "time"}


def _compute(
    ds: xr.Dataset,
    images: list[Any],
    first: np.ndarray,
    valid: np.ndarray | None,
    more: list[str],
    color: str,
) -> _Made:
    """Compute bins of every trace, images, signal to noise and flags, all in one pass."""
    import dask

    from xs2p.traces.quality import is_of, snr

    main = "Fc" if "Fc" in ds else "F"
    wanted = [main, *["F0"] * has_baseline(ds), *["spks"] * ("spks" in ds), *more]
    known = "snr" in ds.coords and ds["snr"].dims == ("roi",) and is_of(ds["snr"], ds[main])
    quality = ds["snr"] if known else snr(ds[main])
    parts = {name: bin_time(ds[name], first, valid) for name in wanted}
    arrays = [image.data if isinstance(image, xr.DataArray) else image for image in images]
    flags = flags_in(ds)
    others = {name: ds[name].data for name in {*measures_in(ds), *([color] * (color in ds))}}
    with progress_bar():
        parts, arrays, values, bits, others = dask.compute(
            parts, arrays, quality.data, [each.data for each in flags], others
        )
    found = {name: join_bins(part, ds[name], first) for name, part in parts.items()}
    coords = {"roi": ds["roi"].values}
    quality = xr.DataArray(values, coords, "roi", "snr", quality.attrs).as_numpy()
    flags = [
        xr.DataArray(own, coords, "roi", each.name, each.attrs).as_numpy()
        for own, each in zip(bits, flags, strict=True)
    ]
    shades = quality
    if color != "snr":
        shades = xr.DataArray(others[color], coords, "roi", color, ds[color].attrs).as_numpy()
    told_of = {name: to_host(others[name]) for name in measures_in(ds)}
    return _Made(found, arrays, quality, finite(shades), flags, told_of)


def _by_quality(quality: xr.DataArray) -> np.ndarray:
    """Positions of the ROIs from the highest signal to noise; those without one are last."""
    return np.argsort(-quality.values, kind="stable")


def _heading(ax: Axes, text: str) -> None:
    ax.set_title(text, loc="left", fontsize=NORMAL, color=INK)


def _row(ds: xr.Dataset, made: _Made, i: int) -> Row:
    """One ROI's traces, each bin by its lowest and highest value."""
    found = made.found
    low, high, _ = found["Fc" if "Fc" in found else "F"]
    baseline = np.repeat(found["F0"][2][i], 2) if "F0" in found else None
    spikes = None
    if "spks" in found:
        spikes = np.stack([np.zeros(low.shape[1]), found["spks"][1][i]], 1).ravel()
    main = np.stack([low[i], high[i]], axis=1).ravel()
    doubts = sum((flags_of(flags[i : i + 1])[0] for flags in made.flags), [])
    label = ds["roi"].values[i]
    return Row(label, main, None, baseline, spikes, why(ds, i), doubts=", ".join(doubts))


def _what(found: dict[str, Any], bins: Bins, some: bool) -> str:
    name = "Fc" if "Fc" in found else "F"
    parts = [f"{name} of the ROIs of the highest SNR"]
    parts += ["baseline F0 (dashed)"] if "F0" in found else []
    parts += ["spikes (black, to each ROI's largest)"] if "spks" in found else []
    parts += [f"extremes in {bins.length}"] if bins.length else []
    parts += ["grey: not counted"] if some else []
    return ", ".join(parts)
