"""Pictures of ROIs, masks and traces.

``plot_rois``, ``plot_roi``, ``plot_traces``, ``plot_summary`` and ``browse`` are the methods
``.s2p.plot`` and so on of Datasets. Every ``draw_*`` function draws into axes that it is given and
changes nothing else, so that it fits into any figure; matplotlib is imported only when one is
called.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._browser import Browser, browse
from xs2p._drawing import (
    COLORS,
    EXCLUDED,
    FAINT,
    INK,
    NEUROPIL,
    NORMAL,
    SMALL,
    bare,
    darker,
    draw_length,
    draw_value,
    frame_extent,
    has_baseline,
    label_roi,
    mask_pixels,
    pixel_edges,
    position_of,
    show_image,
    time_axis,
    zoom,
)
from xs2p._plot_roi import plot_roi
from xs2p._plot_rois import plot_rois
from xs2p._plot_summary import plot_summary
from xs2p._plot_traces import plot_traces
from xs2p._table import pixel_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from xs2p.masks import Masks
__all__ = [
    "COLORS",
    "Browser",
    "browse",
    "draw_length",
    "draw_masks",
    "draw_rois",
    "draw_time",
    "draw_traces",
    "plot_roi",
    "plot_rois",
    "plot_summary",
    "plot_traces",
    "say",
    "title",
]


def draw_rois(
    ax: Axes,
    rois: xr.Dataset,
    *,
    background: Any = None,
    highlight: Sequence[int] = (),
    colors: Sequence[str] = COLORS,
) -> None:
    """Draw the outlines of ROIs over an image.

    Parameters
    ----------
    ax
        Axes to draw into.
    rois
        ROI set over ``roi`` and ``pixel``, or a Dataset of traces, which carries one.
    background
        Image ``(y, x)`` in the movie's units, such as its mean; None leaves it out. It is
        shown in grey from its 1st to its 99.5th percentile.
    highlight
        Labels of ROIs to draw last, in ``colors`` and with their label beside them; the others
        are thin and pale.
    colors
        Colours of the highlighted ROIs, in their order; used again from the first if too few.

    Raises
    ------
    ValueError
        If ``rois`` is no ROI set, or a highlighted label is not in it.
    """
    from matplotlib.collections import LineCollection

    table = pixel_table(rois)
    show_image(ax, background, table.shape)
    chosen = [position_of(table.roi, label) for label in highlight]
    outlines = [
        pixel_edges(table.ypix[a:b], table.xpix[a:b])
        for a, b in zip(table.offsets[:-1], table.offsets[1:], strict=True)
    ]
    pale = [lines for i, lines in enumerate(outlines) if i not in chosen]
    segments = np.concatenate(pale) if pale else np.empty((0, 2, 2))
    ax.add_collection(LineCollection(list(segments), colors="white", linewidths=0.5, alpha=0.3))
    for k, i in enumerate(chosen):
        color = colors[k % len(colors)]
        ax.add_collection(
            LineCollection(list(outlines[i]), colors=color, linewidths=1.8, capstyle="projecting")
        )
        if len(outlines[i]):
            label_roi(ax, outlines[i], str(table.roi[i]), color, table.shape)


def draw_masks(
    ax: Axes,
    rois: xr.Dataset,
    masks: Masks,
    roi: int,
    *,
    background: Any = None,
    color: str = COLORS[0],
    margin: int = 2,
) -> None:
    """Draw what is summed for one ROI, its cell mask and its neuropil, and what is left out.

    Parameters
    ----------
    ax
        Axes to draw into; zoomed to the masks.
    rois
        ROI set over ``roi`` and ``pixel``.
    masks
        Its masks, from :func:`xs2p.build_masks`.
    roi
        Label of the ROI.
    background
        Image ``(y, x)``, as for :func:`draw_rois`; None gives a plain map.
    color
        Colour of the cell mask.
    margin
        Pixels to show around the masks.

    Raises
    ------
    ValueError
        If the ROI is not there or has no pixels, or masks and ROIs have other frame sizes.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgb
    from matplotlib.patches import Patch

    from xs2p.masks import cell_image

    table = pixel_table(rois)
    if masks.shape != table.shape:
        raise ValueError(f"the masks are for frames of {masks.shape}, the ROIs for {table.shape}")
    place = position_of(table.roi, roi)
    own = slice(*table.offsets[place : place + 2])
    cell = mask_pixels(masks.cell, position_of(masks.rois["roi"].values, roi))
    neuropil = np.empty(0, np.int64)
    if masks.neuropil is not None:
        neuropil = mask_pixels(masks.neuropil, position_of(masks.rois["roi"].values, roi))
    everything = np.concatenate([cell, neuropil, table.flat[own]])
    if not everything.size:
        raise ValueError(f"roi {roi} has no pixels to draw")
    cells = cell_image(rois, float(masks.attrs.get("lam_percentile", 50.0))).values

    tint = np.zeros((*table.shape, 4))
    kinds = [
        (np.flatnonzero(cells), EXCLUDED, 1.0, "other cells,\nnot used"),
        (table.flat[own], color, 0.35, "shared pixels,\nnot used"),
        (neuropil, NEUROPIL, 0.85, f"neuropil,\n{neuropil.size} pixels"),
        (cell, color, 1.0, f"cell mask,\n{cell.size} pixels"),
    ]
    opacity = 1.0 if background is None else 0.7
    show_image(ax, background, table.shape)
    handles = []
    for flat, shade, weight, label in kinds:
        red, green, blue = (1 - weight * (1 - part) for part in to_rgb(shade))
        pale = (red, green, blue)
        tint.reshape(-1, 4)[flat] = (*pale, opacity)
        if np.setdiff1d(flat, cell).size or label.startswith("cell mask"):
            handles.append(Patch(facecolor=pale, label=label))
    ax.imshow(tint, interpolation="nearest", extent=frame_extent(table.shape))
    outline = pixel_edges(table.ypix[own], table.xpix[own])
    ax.add_collection(
        LineCollection(list(outline), colors=color, linewidths=1.8, capstyle="projecting")
    )
    if background is None:
        ax.set_facecolor("#F4F4F4")
    zoom(ax, everything, table.shape, margin)
    ax.legend(
        handles=handles[::-1],
        loc="upper left",
        bbox_to_anchor=(1.03, 1.0),
        borderaxespad=0,
        frameon=False,
        fontsize=SMALL,
        handlelength=1.0,
        handletextpad=0.6,
        labelspacing=0.9,
        labelcolor=INK,
    )


def draw_traces(
    ax: Axes, ds: xr.Dataset, roi: int, *, color: str = COLORS[0], spikes: bool = True
) -> None:
    """Draw one ROI's corrected fluorescence with its baseline, and its spikes beneath.

    The bar at the right is the scale of the fluorescence. Spikes are scaled to the largest.

    Parameters
    ----------
    ax
        Axes to draw into.
    ds
        Traces over ``roi`` and ``time``: ``Fc`` and, where there, ``F0`` and ``spks``. Time is
        in seconds if ``ds`` has the coordinate ``time`` or the attribute ``fs``, else in frames.
    roi
        Label of the ROI.
    color
        Colour of the fluorescence.
    spikes
        Draw ``spks`` beneath the fluorescence.

    Raises
    ------
    ValueError
        If ``ds`` has no such ROI, or has several channels.
    """
    if "Fc" not in ds:
        held = ", ".join(map(str, ds.data_vars)) or "no variables"
        raise ValueError(
            f"ds has no traces Fc(roi, time), only {held}; make them with xs2p.extract(movie, rois)"
        )
    if "channel" in ds.dims:
        raise ValueError("ds has several channels; choose one: ds.isel(channel=0)")
    one = ds.isel(roi=position_of(ds["roi"].values, roi))
    ax.set_ylabel(
        f"ROI {roi}" if len(str(roi)) < 4 else f"ROI\n{roi}",
        color=darker(color),
        fontsize=NORMAL,
        fontweight="bold",
        rotation=0,
        ha="right",
        va="center",
    )
    time = time_axis(ds)[0]
    Fc = np.asarray(one["Fc"], dtype=np.float64)
    finite = Fc[np.isfinite(Fc)]
    if not finite.size:
        say(ax, f"no trace: {one['status'].item()}" if "status" in one.coords else "no trace")
        return
    low, high = float(finite.min()), float(finite.max())
    span = high - low if high > low else 1.0
    ax.plot(time, Fc, color=color, linewidth=1.0, solid_joinstyle="round")
    if has_baseline(one):
        F0 = np.asarray(one["F0"], dtype=np.float64)
        ax.plot(time, F0, color=INK, linewidth=1.0, linestyle=(0, (4, 2)))
    floor = low - 0.05 * span
    if spikes and "spks" in one:
        spks = np.nan_to_num(np.asarray(one["spks"], dtype=np.float64))
        floor = low - 0.5 * span
        heights = 0.4 * span * spks / max(float(spks.max()), 1e-30)
        fired = spks > 0
        ax.vlines(time[fired], floor, floor + heights[fired], color=INK, linewidth=0.9)
    ax.set_ylim(floor - 0.02 * span, high + 0.06 * span)
    ax.set_yticks([])
    draw_value(ax, low, span, str(ds["Fc"].attrs.get("units", "a.u.")))


def draw_time(axes: Sequence[Axes], ds: xr.Dataset) -> None:
    """Give stacked traces one time axis, under the last of them.

    Parameters
    ----------
    axes
        Axes that :func:`draw_traces` drew into, from top to bottom.
    ds
        The traces: see :func:`draw_traces` for the unit of time.
    """
    time, label = time_axis(ds)
    start, end = (float(time[0]), float(time[-1])) if time.size else (0.0, 1.0)
    width = max(end - start, 1e-6)
    for ax in axes:
        ax.set_xlim(start - 0.01 * width, start + 1.1 * width)
        ax.set_yticks([])
        for side, spine in ax.spines.items():
            spine.set_visible(side == "bottom" and ax is axes[-1])
        if ax is not axes[-1]:
            ax.set_xticks([])
    last = axes[-1]
    last.spines["bottom"].set_bounds(start, start + width)
    last.spines["bottom"].set_color(INK)
    last.set_xticks([tick for tick in last.get_xticks() if start <= tick <= start + width])
    last.tick_params(axis="x", labelsize=SMALL, colors=INK)
    last.set_xlabel(label, fontsize=NORMAL, color=INK)


def title(ax: Axes, text: str) -> None:
    """Write a heading over the left end of axes.

    Parameters
    ----------
    ax
        Axes to write over.
    text
        The heading.
    """
    ax.set_title(text, loc="left", fontsize=NORMAL + 0.5, color=INK, pad=7)


def say(ax: Axes, text: str) -> None:
    """Write into empty axes why they are empty.

    Parameters
    ----------
    ax
        Axes to write into.
    text
        What to say.
    """
    bare(ax)
    ax.text(
        0.5,
        0.5,
        text,
        transform=ax.transAxes,
        ha="center",
        va="center",
        fontsize=SMALL,
        color=FAINT,
    )
