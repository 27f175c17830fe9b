"""One ROI and what is summed for it."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag
from xs2p.masks.build import build_masks, cell_image, mask_options_in
from xs2p.masks.masks import Masks
from xs2p.plot.drawing import (
    COLORS,
    EXCLUDED,
    FAINT,
    INK,
    NORMAL,
    SMALL,
    check_image,
    draw_length,
    frame_extent,
    mask_pixels,
    new_axes,
    outline_paths,
    position_of,
    show_image,
    zoom,
)
from xs2p.plot.flags import facts_of
from xs2p.rois.convert import compact
from xs2p.rois.pixels import PixelTable, pixel_table, planes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Colours of the ring, the neuropil and the other cells: on paper, and to shine through an image.
_ON_PAPER = ("#F5E9A9", "#7D6BA8", EXCLUDED)
_ON_IMAGE = ("#F5E9A9", "#A58BE8", "#009E73")


def plot_roi(
    rois: xr.Dataset,
    roi: Any,
    ax: Axes | None = None,
    *,
    masks: Masks | None = None,
    background: Any = None,
    color: str = COLORS[0],
    margin: int = 2,
    legend: bool = True,
    lam_percentile: float | None = None,
    allow_overlap: bool | None = None,
    neuropil_extract: bool | None = None,
    inner_neuropil_radius: int | None = None,
    min_neuropil_pixels: int | None = None,
    circular_neuropil: bool | None = None,
) -> Axes:
    """Draw what is summed for one ROI, pixel by pixel: cell mask, neuropil, what is left out.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel`` of the whole frame, or a Dataset of traces, which
        carries one: other ROIs have a part in the masks of this one. Of several planes,
        ``plane(roi)`` or ``iplane(roi)``, only those in its own plane have.
    roi
        Label of the ROI, a value of ``rois.roi``; not its position.
    ax
        Axes to draw into, zoomed to the masks; None makes a figure.
    masks
        Masks of these ROIs, from :func:`xs2p.build_masks`; None builds them.
    background
        Image ``(y, x)`` to show beneath; None gives a plain map.
    color
        Colour of the cell mask; the heavier a pixel's weight, the stronger.
    margin
        Pixels to show around the masks.
    legend
        Draw the legend, right of the axes.
    lam_percentile, allow_overlap, neuropil_extract
        Of the masks to build, as :func:`xs2p.build_masks` takes them; by default those that the
        traces were made with (``rois.attrs``), else its own.
    inner_neuropil_radius, min_neuropil_pixels, circular_neuropil
        The same.

    Returns
    -------
    matplotlib.axes.Axes
        Rows downwards and columns to the right, in pixels of the frame. Above it are the ROI's
        ``noise``, ``vif`` and what ``dff_flag`` and ``demix_flag`` say, unless lazy and yet to be
        made of the traces.

    Raises
    ------
    ValueError
        If there is no such label, the ROI has no pixels, masks and ROIs do not belong together,
        or both masks and parameters to build them are given.

    Examples
    --------
    >>> import xs2p
    >>> ax = plot_roi(xs2p.sample_rois(), 5, inner_neuropil_radius=3)
    >>> [text.get_text().split(chr(10))[0] for text in ax.get_legend().get_texts()][:2]
    ['cell mask, 14 pixels', 'shared, not used, 2 pixels']
    >>> from matplotlib import pyplot
    >>> pyplot.close("all")
    """
    check_flag("legend", legend)
    options = {
        "lam_percentile": lam_percentile,
        "allow_overlap": allow_overlap,
        "neuropil_extract": neuropil_extract,
        "inner_neuropil_radius": inner_neuropil_radius,
        "min_neuropil_pixels": min_neuropil_pixels,
        "circular_neuropil": circular_neuropil,
    }
    given = {name: value for name, value in options.items() if value is not None}
    place = position_of(rois["roi"].values, roi) if "roi" in rois.coords else 0
    facts = facts_of(rois, place)
    plane = planes_of(rois)
    if plane is not None:
        rois = compact(rois.isel(roi=np.flatnonzero(plane == plane[place])))
    table = pixel_table(rois)
    image = None if background is None else check_image(background, table.shape)
    pixels = _pixels(rois, table, roi, _masks(rois, masks, given, table.shape))
    if ax is None:
        ax = new_axes((7.0, 4.6))
    show_image(ax, image, table.shape)
    if image is None:
        ax.set_facecolor("#F4F4F4")
    shades = _ON_PAPER if image is None else _ON_IMAGE
    layers = list(zip((pixels.ring, pixels.neuropil, pixels.others), shades, strict=True))
    strength = 1.0 if image is None else 0.5
    _tint(ax, table.shape, layers, pixels.own, pixels.cell, pixels.weights, color, strength)
    _outline(ax, rois, position_of(table.roi, roi))
    _hatch(ax, pixels.own[pixels.shared], table.shape[1])
    seen = np.concatenate([pixels.own, pixels.neuropil, pixels.ring])
    zoom(ax, seen, table.shape, margin)
    draw_length(ax)
    _head(ax, f"ROI {roi}", facts)
    if legend:
        _legend(ax, _kinds(ax, pixels, table.shape, color, shades))
    return ax


class _Pixels(NamedTuple):
    """Flat pixels of what is drawn of one ROI, and what its masks were made with."""

    own: np.ndarray
    shared: np.ndarray
    """Whether another ROI has each of its own too."""
    cell: np.ndarray
    weights: np.ndarray
    neuropil: np.ndarray
    ring: np.ndarray
    others: np.ndarray
    radius: int
    allow_overlap: bool


def _masks(
    rois: xr.Dataset, masks: Masks | None, given: dict[str, Any], shape: tuple[int, int]
) -> Masks:
    """Take the masks that are given, or build them."""
    if masks is None:
        masks = build_masks(rois, **{**mask_options_in(rois.attrs), **given})
    elif given:
        raise ValueError(
            f"{', '.join(given)} and masks= are both given; leave one out: masks are built with "
            "those parameters only where none are given"
        )
    if masks.shape != shape:
        raise ValueError(f"the masks are for frames of {masks.shape}, the ROIs for {shape}")
    return masks


def _pixels(rois: xr.Dataset, table: PixelTable, roi: Any, masks: Masks) -> _Pixels:
    place, column = position_of(table.roi, roi), position_of(masks.rois["roi"].values, roi)
    some = slice(*table.offsets[place : place + 2])
    own = table.flat[some]
    if not own.size:
        raise ValueError(f"roi {roi} has no pixels to draw")
    neuropil = np.empty(0, np.int64)
    if masks.neuropil is not None:
        neuropil = mask_pixels(masks.neuropil, column)
    cells = cell_image(rois, float(masks.attrs.get("lam_percentile", 50.0))).values.ravel()
    radius = int(masks.attrs.get("inner_neuropil_radius", 2))
    ring = _around(own, table.shape, radius if masks.neuropil is not None else 0)
    return _Pixels(
        own=own,
        shared=table.overlap[some],
        cell=mask_pixels(masks.cell, column),
        weights=np.asarray(masks.cell.data[slice(*masks.cell.indptr[column : column + 2])]),
        neuropil=neuropil,
        ring=ring[~cells[ring]],
        others=np.setdiff1d(np.flatnonzero(cells), own),
        radius=radius,
        allow_overlap=bool(masks.attrs.get("allow_overlap", False)),
    )


def _kinds(
    ax: Axes, pixels: _Pixels, shape: tuple[int, int], color: str, shades: tuple[str, ...]
) -> list[tuple[Any, str, str, str]]:
    """Entries of the legend: how many there are, their shade and hatch, and what they are."""
    n_shared, used = int(pixels.shared.sum()), pixels.allow_overlap
    unused = max(pixels.own.size - pixels.cell.size - (0 if used else n_shared), 0)
    y, x = np.divmod(pixels.others, shape[1])
    (left, right), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    visible = ((x > left) & (x < right) & (y > top) & (y < bottom)).any()
    ring, neuropil, others = shades
    shared = f"shared, {'' if used else 'not '}used, {n_shared} pixels"
    cell = f"cell mask, {pixels.cell.size} pixels\n(stronger is heavier)"
    around = f"left out around it\n(inner_neuropil_radius {pixels.radius})"
    return [
        (pixels.cell.size + 1, color, "", cell),
        (n_shared, "white", "//////", shared),
        (unused, "white", "", f"of no weight, {unused} pixels"),
        (pixels.ring.size, ring, "", around),
        (pixels.neuropil.size, neuropil, "", f"neuropil, {pixels.neuropil.size} pixels"),
        (visible, others, "", "cell pixels of other ROIs"),
    ]


def _around(own: np.ndarray, shape: tuple[int, int], radius: int) -> np.ndarray:
    """Flat indices of what is within ``radius`` steps of an ROI, and not it."""
    ypix, xpix = np.divmod(own, shape[1])
    steps = np.arange(-radius, radius + 1)
    dy, dx = (d.ravel() for d in np.meshgrid(steps, steps, indexing="ij"))
    near = abs(dy) + abs(dx) <= radius
    y, x = ypix[:, None] + dy[near], xpix[:, None] + dx[near]
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    return np.setdiff1d(y[inside] * shape[1] + x[inside], own)


def _tint(
    ax: Axes,
    shape: tuple[int, int],
    layers: list[tuple[np.ndarray, str]],
    own: np.ndarray,
    cell: np.ndarray,
    weights: np.ndarray,
    color: str,
    opacity: float,
) -> None:
    """Colour pixels by what they are, those of the cell mask by their weight."""
    from matplotlib.colors import to_rgba

    tint = np.zeros((shape[0] * shape[1], 4))
    for flat, shade in layers:
        tint[flat] = to_rgba(shade, opacity)
    tint[own] = to_rgba("white", 0.4)
    if cell.size:
        strength = 0.3 + 0.7 * (weights / weights.max())[:, None]
        tint[cell, :3] = 1 - strength * (1 - np.array(to_rgba(color)[:3]))
        tint[cell, 3] = 0.8 + 0.2 * opacity
    ax.imshow(tint.reshape(*shape, 4), interpolation="nearest", extent=frame_extent(shape))


def _outline(ax: Axes, rois: xr.Dataset, place: int) -> None:
    from matplotlib.collections import PathCollection

    path = outline_paths(pixel_table(rois.isel(roi=[place])))
    ax.add_collection(
        PathCollection(
            path, facecolors="none", edgecolors=INK, linewidths=1.6, capstyle="projecting"
        ),
        autolim=False,
    )


def _hatch(ax: Axes, flat: np.ndarray, width: int) -> None:
    """Hatch pixels."""
    from matplotlib.collections import PolyCollection

    y, x = np.divmod(flat, width)
    corners = np.array([(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)])
    squares = np.stack([x, y], axis=1)[:, None] + corners
    ax.add_collection(
        PolyCollection(
            list(squares), facecolors="none", edgecolors=INK, linewidths=0, hatch="//////"
        ),
        autolim=False,
    )


def _head(ax: Axes, title: str, facts: list[str]) -> None:
    """Write the title, and beneath it, smaller, what is known of the ROI's traces."""
    lines = textwrap.wrap(", ".join(facts), 60)
    pad = 8 + 1.3 * SMALL * len(lines) if lines else None
    ax.set_title(title, loc="left", fontsize=NORMAL, color=INK, pad=pad)
    if lines:
        ax.annotate(
            "\n".join(lines),
            (0, 1),
            (0, 4),
            xycoords="axes fraction",
            textcoords="offset points",
            va="bottom",
            fontsize=SMALL,
            color=FAINT,
        )


def _legend(ax: Axes, kinds: list[tuple[Any, str, str, str]]) -> None:
    from matplotlib.patches import Patch

    handles = [
        Patch(
            facecolor=shade, label=text, hatch=hatch, edgecolor=INK if shade == "white" else "none"
        )
        for count, shade, hatch, text in kinds
        if count
    ]
    ax.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(1.03, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=SMALL,
        handlelength=1.2,
        handleheight=1.2,
        handletextpad=0.6,
        labelspacing=0.8,
        labelcolor=INK,
    )
