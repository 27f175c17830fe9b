"""Maps: ROIs coloured by what is known of them, and what is summed for one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag, check_number
from xs2p.plot.drawing import (
    INK,
    NORMAL,
    SMALL,
    check_image,
    draw_length,
    frame_extent,
    label_roi,
    new_axes,
    outline_paths,
    position_of,
    show_image,
)
from xs2p.plot.outlines import borders, is_dense, owners, within
from xs2p.plot.panels import by_plane, draw_outlines, filled_image, image_of_plane, panels
from xs2p.plot.shades import Shades, apart_shades, explain, highlights, shades_of
from xs2p.rois.convert import contiguous
from xs2p.rois.curation import accepted_in
from xs2p.rois.pixels import PixelTable, pixel_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PAPER = "#F4F4F4"
_STRENGTH = 0.55  # of colours over an image


def plot_rois(
    rois: xr.Dataset,
    ax: Axes | None = None,
    *,
    background: Any = None,
    color: Any = None,
    filled: bool | None = None,
    contour: float | None = None,
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
        that reads them all. None, or one colour, draws ROIs that ``iscell`` (``accepted``) says are
        rejected in grey, behind the others.
    filled
        True fills the ROIs; pixels of several are more opaque and have the mean of their colours.
        None does so where outlines cannot be told apart: of 50 ROIs and more that share more than
        30 % of their pixels each pixel has the colour of the one ROI that it weighs the most in,
        with a thin line between ROIs; without ``color``, ROIs that share pixels have different
        ones. False never fills.
    contour
        Draw outlines at this share, 0 to 1, of each ROI's largest weight: of soft ROIs the core.
        What lies outside is not filled, nor counted as shared. None draws them around all pixels.
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
        Of the outlines in points; by default 1.5 up to 50 ROIs and thinner the more there are, as
        0.75 of 200 and 0.4 of 800.

    Returns
    -------
    matplotlib.axes.Axes
        Rows downwards and columns to the right, in pixels, with a bar of a length in pixels. Of
        several panels the first; ``ax.figure.axes`` has all. Axes of its own have the number of
        ROIs as their title.

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
    if filled is not None:
        check_flag("filled", filled)
    check_flag("legend", legend)
    if contour is not None:
        check_number("contour", contour, 0, 1)
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
    accepted = accepted_in(rois) if highlight is None else None
    if highlight is None:
        shades = shades_of(rois, color, background is not None, cmap, vmin, vmax, accepted)
    else:
        shades = highlights(table.roi.size, marked, background is not None)
        chosen = chosen if labels is True else list(dict.fromkeys([*marked, *named]))
        filled = False
    kept = (
        np.ones(table.roi.size, bool) if accepted is None or shades.scale is not None else accepted
    )
    style = _Style(filled, legend, linewidth, contour, highlight is not None, color is None)
    parts = by_plane(rois) if ax is None else {}
    if not parts:
        image = None if background is None else check_image(background, table.shape)
        own_axes = ax is None
        if ax is None:
            ly, lx = table.shape
            ax = new_axes((6.4, float(np.clip(5.0 * ly / lx + 0.4, 2.5, 9.0))))
        if own_axes:
            _count(ax, kept if highlight is None else None, table.roi.size)
        return _draw(ax, table, image, shades, kept, chosen, marked, style)
    images = [image_of_plane(background, plane) for plane in parts]
    images = [None if image is None else check_image(image, table.shape) for image in images]
    axes = panels(list(parts), table.shape)
    for panel, image, (plane, where) in zip(axes, images, parts.items(), strict=True):
        own = pixel_table(contiguous(rois.isel(roi=where)))
        at = {int(i): k for k, i in enumerate(where)}
        some, strong = ([at[i] for i in each if i in at] for each in (chosen, marked))
        tints = shades._replace(rgba=shades.rgba[where])
        now = style._replace(legend=legend and panel is axes[-1])
        _count(panel, kept[where], where.size, f"Plane {plane}: ")
        _draw(panel, own, image, tints, kept[where], some, strong, now)
    return axes[0]


def _count(ax: Axes, kept: np.ndarray | None, n_rois: int, before: str = "") -> None:
    """Write over axes how many ROIs they show."""
    rejected = 0 if kept is None else int((~kept).sum())
    more = f", {rejected} of them rejected" if rejected else ""
    noun = "ROI" if n_rois == 1 else "ROIs"
    ax.set_title(f"{before}{n_rois} {noun}{more}", loc="left", fontsize=NORMAL, color=INK)


class _Style(NamedTuple):
    filled: bool | None
    legend: bool
    linewidth: float | None
    contour: float | None
    pale: bool  # but for those that are marked
    plain: bool  # no colours were asked for


def _draw(
    ax: Axes,
    table: PixelTable,
    image: np.ndarray | None,
    shades: Shades,
    kept: np.ndarray,
    chosen: Sequence[int],
    marked: list[int],
    style: _Style,
) -> Axes:
    """Draw ROIs into axes; ``chosen`` get labels, ``marked`` strong lines."""
    show_image(ax, image, table.shape)
    if image is None:
        ax.set_facecolor(_PAPER)
    table = within(table, style.contour)
    linewidth = style.linewidth
    if linewidth is None:
        linewidth = float(np.clip(1.5 * (50 / max(table.roi.size, 1)) ** 0.5, 0.4, 1.5))
        linewidth *= 0.6 if style.filled else 1.0
    paths = outline_paths(table)
    if style.filled is None and is_dense(table):
        if style.plain:
            shades = apart_shades(shades, table, kept)
        _fill_dense(ax, table, shades, kept, linewidth, image is not None)
    else:
        if style.filled:
            tint = filled_image(table, shades.rgba)
            ax.imshow(tint, interpolation="nearest", extent=frame_extent(table.shape))
        widths = np.full(len(paths), 0.5 if style.pale else linewidth)
        widths[marked] = max(linewidth, 1.8)
        draw_outlines(
            ax, paths, shades.rgba, widths, [*np.setdiff1d(np.flatnonzero(kept), marked), *marked]
        )
    for i in chosen:
        if len(paths[i].vertices):
            outline = paths[i].vertices.reshape(-1, 2, 2)
            size = NORMAL if len(chosen) <= 10 else SMALL - 1
            color_of = tuple(shades.rgba[i, :3])
            label_roi(ax, outline, str(table.roi[i]), color_of, table.shape, size)
    draw_length(ax)
    if style.legend:
        explain(ax, shades)
    return ax


def _fill_dense(
    ax: Axes,
    table: PixelTable,
    shades: Shades,
    kept: np.ndarray,
    linewidth: float,
    on_image: bool,
) -> None:
    """Fill each pixel by one ROI, and draw a line where the next one begins."""
    from matplotlib.collections import LineCollection

    of = owners(table, last=~kept)
    tint = np.where((of >= 0)[..., None], shades.rgba[of], 0.0)
    tint[..., 3] *= _STRENGTH if on_image else 0.9
    extent = frame_extent(table.shape)
    ax.imshow(tint, interpolation="nearest", extent=extent)
    ax.add_collection(
        LineCollection(
            list(borders(of)),
            colors="black" if on_image else "white",
            linewidths=linewidth,
            capstyle="projecting",
        ),
        autolim=False,
    )
