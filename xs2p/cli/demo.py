"""``xs2p demo``: the whole job on the sample recording, and one figure of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p import plot
from xs2p.cli.output import MADE_BY, check_demo, write_store
from xs2p.disk.replace import put_file_in_place, scratch_folder
from xs2p.rois.pixels import PixelTable, pixel_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xs2p.masks.masks import Masks

STORE = "xs2p-demo.zarr"
FIGURE = "xs2p-demo.png"
TRY_NEXT = f"""\
import xarray as xr
ds = xr.open_zarr("{STORE}")
print(ds.spks.sel(time=slice(10, 20)).sum("time").to_series().nlargest(5))"""


def run(compute: Callable[[xr.Dataset], xr.Dataset]) -> tuple[xr.DataArray, xr.Dataset]:
    """Extract the sample movie into the current folder: a Zarr store and a figure.

    Parameters
    ----------
    compute
        Computes the lazy traces, as ``ds.compute()`` does.

    Returns
    -------
    movie : DataArray
        The sample movie, ``(time, y, x)``.
    ds : Dataset
        Its computed traces, as they stand in the store.

    Raises
    ------
    OSError
        If the folder cannot be written to.
    """
    import xs2p

    check_demo(STORE, FIGURE)
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    ds = compute(movie.s2p.extract(rois, tau=1.0))
    write_store(ds, STORE)
    figure = os.path.realpath(FIGURE)
    with scratch_folder(figure) as scratch:
        sketch = os.path.join(scratch, os.path.basename(figure))
        plot_demo(movie.mean("time"), rois, xs2p.build_masks(rois), ds, path=sketch)
        put_file_in_place(sketch, figure, overwrite=True)
    return movie, ds


def plot_demo(
    image: Any,
    rois: xr.Dataset,
    masks: Masks,
    ds: xr.Dataset,
    path: str | os.PathLike[str] | None = None,
    *,
    n_traces: int = 5,
) -> Figure:
    """Compose one figure of a whole job: the field of view, one ROI's masks, some traces.

    Parameters
    ----------
    image
        Image ``(y, x)`` of the field of view, such as ``movie.mean("time")``.
    rois
        ROI set over ``roi`` and ``pixel``.
    masks
        Its masks, from :func:`xs2p.build_masks`.
    ds
        Its traces, from :func:`xs2p.extract`.
    path
        PNG file to write; None only returns the figure.
    n_traces
        How many traces to show, of the ROIs that :func:`choose_rois` finds.

    Returns
    -------
    matplotlib.figure.Figure
        Made without pyplot: no window opens and no backend is chosen.

    Raises
    ------
    ValueError
        If ROIs, masks and traces do not belong together.

    Examples
    --------
    >>> import xs2p
    >>> movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    >>> ds = movie.s2p.extract(rois, tau=1.0)
    >>> figure = plot_demo(movie.mean("time"), rois, xs2p.build_masks(rois), ds)
    >>> len(figure.axes)
    3
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = choose_rois(ds, n_traces)
    n_rois = rois.sizes["roi"]
    figure = Figure(figsize=(12.4, 7.2), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(
        1, 2, width_ratios=(1.0, 2.0), left=0.02, right=0.985, top=0.94, bottom=0.085, wspace=0.42
    )
    left = grid[0].subgridspec(2, 1, height_ratios=(1.0, 0.82), hspace=0.19)
    view, zoom = (figure.add_subplot(cell) for cell in (left[0], left[1]))
    for ax in (view, zoom):
        ax.set_anchor("NW")
    traces = figure.add_subplot(grid[1])
    plot.plot_rois(rois, view, background=image, highlight=shown)
    plot.title(view, f"Mean image and {n_rois} ROI{'' if n_rois == 1 else 's'}")
    if shown:
        largest = int(np.argmax([rois["npix"].sel(roi=label).item() for label in shown]))
        color = plot.COLORS[largest % len(plot.COLORS)]
        plot.plot_roi(rois, shown[largest], zoom, masks=masks, color=color)
        plot.title(zoom, f"Masks of ROI {shown[largest]}")
        plot.plot_traces(ds, shown, traces)
    else:
        plot.say(zoom, "no masks to show")
        plot.say(traces, "no traces to show")
    if path is not None:
        figure.savefig(path, format="png", metadata={"Software": MADE_BY})
    return figure


def choose_rois(ds: xr.Dataset, n: int = 5) -> list[int]:
    """Choose ROIs whose traces are worth a look: a high signal to noise, compact, and apart.

    Parameters
    ----------
    ds
        Traces over ``roi`` and ``time``, with their ROI set as coordinates.
    n
        How many at most.

    Returns
    -------
    list of int
        ROI labels, those with the highest :func:`xs2p.snr` first. ROIs without a trace are
        never chosen; scattered ones, ones whose trace is skewed downwards, and ones near
        another only where there are no others.

    Raises
    ------
    ValueError
        If ``ds`` has several channels, or carries no ROI set.
    """
    from xs2p.traces.quality import skew, snr

    if "channel" in ds.dims:
        raise ValueError("ds has several channels; choose one: ds.isel(channel=0)")
    table = pixel_table(ds)
    quality = np.asarray(snr(ds["Fc"]), dtype=np.float64)
    upwards = np.nan_to_num(np.asarray(skew(ds["Fc"]), dtype=np.float64)) > 0
    good = upwards & (_fill(table) >= 0.5)
    order = np.lexsort((-quality, ~good))
    order = order[np.isfinite(quality[order])]
    centre = np.stack([ds["med_y"].values, ds["med_x"].values], axis=1).astype(np.float64)
    apart = 0.15 * max(table.shape)
    chosen: list[int] = []
    for candidates, distance in ((order[good[order]], apart), (order, apart), (order, 0.0)):
        for i in candidates:
            far = all(np.hypot(*(centre[i] - centre[j])) >= distance for j in chosen)
            if len(chosen) < n and i not in chosen and far:
                chosen.append(int(i))
    chosen.sort(key=lambda i: -quality[i])
    return [int(label) for label in table.roi[chosen]]


def _fill(table: PixelTable) -> np.ndarray:
    """How much of its bounding box every ROI fills, 0 to 1."""
    fill = np.zeros(table.roi.size)
    for i, (a, b) in enumerate(zip(table.offsets[:-1], table.offsets[1:], strict=True)):
        if b > a:
            height, width = np.ptp(table.ypix[a:b]) + 1, np.ptp(table.xpix[a:b]) + 1
            fill[i] = (b - a) / (int(height) * int(width))
    return fill
