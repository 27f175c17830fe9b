"""Maps: ROIs coloured by what is known of them, and what is summed for one of them."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag
from xs2p._flags import flags_of, meanings_of
from xs2p.compute.progress import progress_bar
from xs2p.plot.drawing import (
    COLORS,
    EXCLUDED,
    FAINT,
    INK,
    NORMAL,
    SMALL,
    check_image,
    color_scale,
    draw_length,
    frame_extent,
    label_roi,
    new_axes,
    outline_paths,
    position_of,
    show_image,
)
from xs2p.plot.panels import by_plane, draw_outlines, filled_image, image_of_plane, panels
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import PixelTable, pixel_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito without black, in an order in which neighbours differ most.
CATEGORIES = ("#E69F00", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#F0E442", "#0072B2")
_ON_IMAGE, _ON_PAPER, _PAPER = "#F0E442", "#0072B2", "#F4F4F4"
_FROM_TRACES = ("snr", "skew", "std")


def plot_rois(
    rois: xr.Dataset,
    ax: Axes | None = None,
    *,
    background: Any = None,
    color: Any = None,
    filled: bool = False,
    cmap: Any = None,
    vmin: float | None = None,
    vmax: float | None = None,
    labels: bool | Sequence[int] = False,
    highlight: Sequence[int] | None = None,
    legend: bool = True,
    linewidth: float | None = None,
) -> Axes:
    """Draw ROIs over an image, as outlines or filled, coloured by what is known of them.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``, or a Dataset of traces, which carries one.
    ax
        Axes to draw into; None makes a figure, with a panel for each plane of the ROIs.
    background
        Image ``(y, x)``, of the panels also ``(plane, y, x)``, such as ``movie.s2p.mean_image()``,
        in grey from its 1st to its 99.5th percentile; None leaves it out.
    color
        Name of what is over ``roi``, such as ``"radius"``, ``"status"`` or ``"iscell"``; values
        over ``roi``; or one colour of matplotlib's for all. Text, booleans and flags
        (``"dff_flag"``, ``"demix_flag"``) get a legend, numbers a colour bar. Of traces, ``"snr"``,
        ``"skew"`` and ``"std"`` are computed from ``Fc`` where they are not there; of lazy traces
        that reads them all.
    filled
        Fill the ROIs; pixels of several are more opaque and have the mean of their colours.
    cmap
        Colour map for numbers; by default viridis, or the brighter part of plasma over an image.
    vmin, vmax
        Numbers at the ends of the colour map; by default those of the data, of 50 ROIs and more
        their 1st and 99th percentile.
    labels
        Write the ROIs' labels beside them: of all, or of those listed.
    highlight
        Labels of ROIs to draw last, each in the colour that :func:`xs2p.plot.plot_traces` gives
        it in the same list, with its label beside it; the others are thin and pale.
    legend
        Draw the legend or the colour bar.
    linewidth
        Of the outlines in points; by default 1.5, of more than 100 ROIs 1, of more than 500 0.6.

    Returns
    -------
    matplotlib.axes.Axes
        Rows downwards and columns to the right, in pixels, with a bar of a length in pixels. Of
        several panels the first; ``ax.figure.axes`` has all.

    Raises
    ------
    ValueError
        If ``rois`` is no ROI set, ``background`` is of another size, or ``color`` is neither
        a coordinate over ``roi`` nor a colour: the message lists the coordinates; if a label is
        not there, or ``highlight`` is given together with ``color`` or ``filled``.

    Examples
    --------
    >>> import xs2p
    >>> ax = plot_rois(xs2p.sample_rois(), color="radius", filled=True)
    >>> len(ax.collections[0].get_paths())
    98
    >>> from matplotlib import pyplot
    >>> pyplot.close("all")
    """
    check_flag("filled", filled)
    check_flag("legend", legend)
    table = pixel_table(rois)
    named = (
        [] if isinstance(labels, bool | np.bool_) else [position_of(table.roi, n) for n in labels]
    )
    chosen = range(table.roi.size) if labels is True else named
    marked = [position_of(table.roi, label) for label in (() if highlight is None else highlight)]
    if highlight is not None and (color is not None or filled):
        raise ValueError(
            f"highlight={list(highlight)} chooses the colours, and so do color and filled; give "
            "one of them"
        )
    if highlight is None:
        shades = _shades(rois, color, background is not None, cmap, vmin, vmax)
    else:
        shades = _highlights(table.roi.size, marked, background is not None)
        chosen = chosen if labels is True else list(dict.fromkeys([*marked, *named]))
    style = _Style(filled, legend, linewidth, highlight is not None)
    if ax is None and (parts := by_plane(rois)):
        images = [image_of_plane(background, plane) for plane in parts]
        images = [None if image is None else check_image(image, table.shape) for image in images]
        axes = panels(list(parts), table.shape)
        for panel, image, where in zip(axes, images, parts.values(), strict=True):
            own = pixel_table(contiguous(rois.isel(roi=where)))
            at = {int(i): k for k, i in enumerate(where)}
            some, strong = ([at[i] for i in each if i in at] for each in (chosen, marked))
            tints = shades._replace(rgba=shades.rgba[where])
            now = style._replace(legend=legend and panel is axes[-1])
            _draw(panel, own, image, tints, some, strong, now)
        return axes[0]
    image = None if background is None else check_image(background, table.shape)
    if ax is None:
        ly, lx = table.shape
        ax = new_axes((6.4, float(np.clip(5.0 * ly / lx + 0.4, 2.5, 9.0))))
    return _draw(ax, table, image, shades, chosen, marked, style)


class _Style(NamedTuple):
    filled: bool
    legend: bool
    linewidth: float | None
    pale: bool  # but for those that are marked


def _draw(
    ax: Axes,
    table: PixelTable,
    image: np.ndarray | None,
    shades: _Shades,
    chosen: Sequence[int],
    marked: list[int],
    style: _Style,
) -> Axes:
    """Draw ROIs into axes; ``chosen`` get labels, ``marked`` strong lines."""
    show_image(ax, image, table.shape)
    if image is None:
        ax.set_facecolor(_PAPER)
    if style.filled:
        tint = filled_image(table, shades.rgba)
        ax.imshow(tint, interpolation="nearest", extent=frame_extent(table.shape))
    linewidth = style.linewidth
    if linewidth is None:
        linewidth = 1.5 if table.roi.size <= 100 else 1.0 if table.roi.size <= 500 else 0.6
        linewidth *= 0.6 if style.filled else 1.0
    paths = outline_paths(table)
    widths = np.full(len(paths), 0.5 if style.pale else linewidth)
    widths[marked] = max(linewidth, 1.8)
    draw_outlines(ax, paths, shades.rgba, widths, marked)
    for i in chosen:
        if len(paths[i].vertices):
            outline = paths[i].vertices.reshape(-1, 2, 2)
            size = NORMAL if len(chosen) <= 10 else SMALL - 1
            color_of = tuple(shades.rgba[i, :3])
            label_roi(ax, outline, str(table.roi[i]), color_of, table.shape, size)
    draw_length(ax)
    if style.legend:
        _explain(ax, shades)
    return ax


class _Shades(NamedTuple):
    """The colour of each ROI, and what says what it means."""

    rgba: np.ndarray
    title: str = ""
    entries: tuple[tuple[str, Any], ...] = ()
    scale: Any = None
    extend: str = "neither"


def _shades(
    rois: xr.Dataset, color: Any, on_image: bool, cmap: Any, vmin: Any, vmax: Any
) -> _Shades:
    from matplotlib.colors import is_color_like, to_rgba

    n = rois.sizes["roi"]
    if color is None:
        color = _ON_IMAGE if on_image else _ON_PAPER
    values = _values(rois, color)
    if values is None:
        if not is_color_like(color):
            raise ValueError(_unknown(rois, color))
        return _Shades(np.tile(to_rgba(color), (n, 1)))
    if meanings_of(values):
        words = [",\n".join(words) or "no flag" for words in flags_of(values)]
        return _categories(values.copy(data=np.array(words, object)))
    if values.dtype.kind in "OUSb":
        return _categories(values)
    return _numbers(values, on_image, cmap, vmin, vmax)


def _highlights(n_rois: int, marked: Sequence[int], on_image: bool) -> _Shades:
    """Give each of some ROIs a colour of its own, and the others a pale one."""
    from matplotlib.colors import to_rgba

    rgba = np.tile(to_rgba("white", 0.3) if on_image else to_rgba(FAINT, 0.6), (n_rois, 1))
    for k, i in enumerate(marked):
        rgba[i] = to_rgba(COLORS[k % len(COLORS)])
    return _Shades(rgba)


def _values(rois: xr.Dataset, color: Any) -> xr.DataArray | None:
    """Values over ``roi`` that the ROIs are to be coloured by; None if it is no such thing."""
    from matplotlib.colors import is_color_like

    labels = rois["roi"].values
    if isinstance(color, str):
        traces = next((rois[name] for name in ("Fc", "F") if name in rois), None)
        if color in rois.variables and not _is_stale(rois[color], traces):
            values = rois[color]
            if values.dims != ("roi",):
                raise ValueError(
                    f"color={color!r} has the dims {values.dims}, expected ('roi',). "
                    + _coordinates(rois)
                )
            return values.compute()
        if color in _FROM_TRACES and traces is not None and traces.dims == ("roi", "time"):
            from xs2p.traces import quality

            with progress_bar():
                found: xr.DataArray = getattr(quality, color)(traces).compute().as_numpy()
            return found
        return None
    if isinstance(color, xr.DataArray):
        if color.dims != ("roi",):
            raise ValueError(f"color has the dims {color.dims}, expected ('roi',)")
        if "roi" in color.coords:
            absent = np.setdiff1d(labels, color["roi"].values)
            if absent.size:
                raise ValueError(f"color has no values for {absent.size} ROIs, as roi {absent[0]}")
            return color.sel(roi=labels).compute()
    array = np.asarray(color)
    one_colour = isinstance(color, tuple) and is_color_like(color)
    if one_colour or array.shape != labels.shape or array.dtype.kind not in "OUSbiuf":
        return None
    name = color.name if isinstance(color, xr.DataArray) else None
    return xr.DataArray(array, dims="roi", coords={"roi": labels}, name=name)


def _unknown(rois: xr.Dataset, color: Any) -> str:
    shown = f"={color!r}" if isinstance(color, str) else f" of shape {np.shape(color)}"
    more = ""
    if isinstance(color, str) and color in _FROM_TRACES:
        more = f" It is made of traces: color=ds.Fc.s2p.{color}()."
    return (
        f"color{shown} is neither a coordinate over roi, nor {rois.sizes['roi']} values, one for "
        f"each ROI, nor a colour.{more} " + _coordinates(rois)
    )


def _is_stale(values: xr.DataArray, traces: xr.DataArray | None) -> bool:
    """Whether a statistic is of traces that were replaced since."""
    from xs2p.traces.quality import is_of

    return values.name in _FROM_TRACES and traces is not None and not is_of(values, traces)


def _coordinates(rois: xr.Dataset) -> str:
    over_roi = sorted(str(name) for name, v in rois.variables.items() if v.dims == ("roi",))
    made = [name for name in _FROM_TRACES if name not in over_roi and {"F", "Fc"} & set(rois)]
    return f"There are {', '.join(over_roi + made)}"


def _title(values: xr.DataArray) -> str:
    """Say what values are, with their unit: ``radius: twice … (pixel)``."""
    long_name, unit = values.attrs.get("long_name", ""), values.attrs.get("units", "")
    name = "" if values.name is None else str(values.name)
    if long_name in ("", "suite2p stat field", name):
        text = name
    else:
        text = f"{name}: {long_name}" if name else long_name
    return text if unit in ("", "1") else f"{text} ({unit})"


def _categories(values: xr.DataArray) -> _Shades:
    from matplotlib.colors import to_rgba

    words = np.array([str(value) for value in values.values], dtype=object)
    kinds, counts = np.unique(words, return_counts=True)
    # What most ROIs are comes first, but True before False: their colours do not change.
    order = (
        np.argsort(kinds == "False") if values.dtype.kind == "b" else np.lexsort((kinds, -counts))
    )
    kinds = kinds[order]
    rgba = np.tile(to_rgba(EXCLUDED), (words.size, 1))
    entries = []
    fits = len(CATEGORIES) if kinds.size <= len(CATEGORIES) else len(CATEGORIES) - 1
    for kind, shade in zip(kinds[:fits], CATEGORIES, strict=False):
        shade = CATEGORIES[1] if values.dtype.kind == "b" and kind == "False" else shade
        rgba[words == kind] = to_rgba(shade)
        entries.append((f"{kind} ({(words == kind).sum()})", shade))
    if kinds.size > fits:
        others = np.isin(words, kinds[fits:]).sum()
        entries.append((f"{kinds.size - fits} others ({others})", EXCLUDED))
    return _Shades(rgba, _title(values), tuple(entries))


def _numbers(values: xr.DataArray, on_image: bool, cmap: Any, vmin: Any, vmax: Any) -> _Shades:
    from matplotlib.colors import to_rgba

    scale = color_scale(values, on_image, cmap, vmin, vmax)
    numbers = np.asarray(values.values, dtype=np.float64)
    rgba = np.asarray(scale.to_rgba(numbers))
    missing = ~np.isfinite(numbers)
    grey = "white" if on_image else EXCLUDED
    rgba[missing] = to_rgba(grey)
    low, high = scale.get_clim()
    below, above = (numbers < low).any(), (numbers > high).any()
    extend = {(False, False): "neither", (True, False): "min", (False, True): "max"}
    entries = ((f"no value ({missing.sum()})", grey),) if missing.any() else ()
    shown = None if missing.all() else scale
    title = _title(values)
    return _Shades(rgba, title, entries, shown, extend.get((bool(below), bool(above)), "both"))


def _explain(ax: Axes, shades: _Shades) -> None:
    """Draw the legend or the colour bar, right of the axes."""
    from matplotlib.patches import Patch

    title = "\n".join(textwrap.wrap(shades.title, 44 if shades.scale is not None else 24))
    if shades.scale is not None:
        bar = ax.figure.colorbar(
            shades.scale, ax=ax, extend=shades.extend, fraction=0.046, pad=0.03
        )
        bar.set_label(title, fontsize=SMALL, color=INK)
        bar.ax.tick_params(labelsize=SMALL, colors=INK)
        bar.outline.set_visible(False)
    if shades.entries:
        below = shades.scale is not None
        ax.legend(
            handles=[
                Patch(facecolor=shade, label=text, edgecolor=INK if shade == "white" else "none")
                for text, shade in shades.entries
            ],
            title=None if below else title,
            loc="upper left",
            bbox_to_anchor=(0.0, -0.01) if below else (1.02, 1.0),
            borderaxespad=0.2 if below else 0,
            frameon=False,
            fontsize=SMALL,
            title_fontsize=SMALL,
            alignment="left",
            handlelength=1.0,
            handletextpad=0.6,
            labelcolor=INK,
        )
