"""A panel for each plane, where ROIs are of several; and what is drawn into it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._warnings import names
from xs2p.plot.drawing import INK, NORMAL, new_figure
from xs2p.rois.pixels import PixelTable, planes_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def by_plane(rois: xr.Dataset) -> dict[Any, np.ndarray]:
    """Positions of the ROIs of each plane; empty where they are of one, or nobody says it."""
    own = planes_of(rois)
    known = [] if own is None else np.unique(own).tolist()
    return {plane: np.flatnonzero(own == plane) for plane in known} if len(known) > 1 else {}


def panels(planes: list[Any], shape: tuple[int, int]) -> list[Axes]:
    """Axes for each plane in a figure of their own, with the plane's label above."""
    across = min(len(planes), 3)
    down = -(-len(planes) // across)
    high = float(np.clip(3.4 * shape[0] / shape[1] + 0.5, 2.0, 7.0))
    figure = new_figure((4.2 * across, down * high))
    axes = figure.subplots(down, across, squeeze=False).ravel().tolist()
    for ax in axes[len(planes) :]:
        ax.remove()
    for ax, plane in zip(axes, planes, strict=False):
        ax.set_title(f"Plane {plane}", loc="left", fontsize=NORMAL, color=INK)
    return axes[: len(planes)]


def rows_and_columns(n_planes: int) -> tuple[int, int]:
    """How panels beside something else lie: at least one, at most four in a row."""
    across = max(1, n_planes if n_planes <= 3 else 3 if n_planes <= 6 else 4)
    return max(1, -(-n_planes // across)), across


def image_of_plane(image: Any, plane: Any, name: str = "background") -> Any:
    """Image of one plane, where there is one of each; else the one for all."""
    if not isinstance(image, xr.DataArray) or "plane" not in image.dims:
        return image
    n = image.sizes["plane"]
    known = image["plane"].values.tolist() if "plane" in image.coords else list(range(n))
    if plane not in known:
        raise ValueError(
            f"{name} has no image of plane {plane}, in which some ROIs are; it has "
            f"{names(known)}. {name}.assign_coords(plane=[...]) says which they are"
        )
    return image.isel(plane=known.index(plane), drop=True)


def draw_outlines(
    ax: Axes, paths: list[Any], rgba: np.ndarray, widths: np.ndarray, last: list[int]
) -> None:
    """Draw outlines, the `last` of them over the others."""
    from matplotlib.collections import PathCollection

    order = [*np.setdiff1d(np.arange(len(paths)), last), *last]
    ax.add_collection(
        PathCollection(
            [paths[i] for i in order],
            facecolors="none",
            edgecolors=rgba[order] if len(paths) else "none",
            linewidths=widths[order],
            capstyle="projecting",
        ),
        autolim=False,
    )


def filled_image(table: PixelTable, rgba: np.ndarray) -> np.ndarray:
    """Image ``(y, x, 4)``: in each pixel the mean of its ROIs' colours, more opaque for several."""
    n_pixels = table.shape[0] * table.shape[1]
    count = np.bincount(table.flat, minlength=n_pixels)
    tint = np.zeros((n_pixels, 4), np.float32)
    for k in range(3):
        total = np.bincount(table.flat, rgba[table.owner, k], n_pixels)
        tint[:, k] = total / np.maximum(count, 1)
    tint[:, 3] = 1 - 0.45**count
    return tint.reshape(*table.shape, 4)
