"""The parts that pictures are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    from xs2p.rois.pixels import PixelTable

NEUROPIL, EXCLUDED, INK, FAINT = "#5E4B8B", "#BDBDBD", "#222222", "#767676"
SMALL, NORMAL = 8.5, 10.0
COLORS = (
    *("#E69F00", "#56B4E9", "#009E73", "#D55E00", "#CC79A7"),
    *("#0072B2", "#882255", "#999933", "#44AA99", "#8C564B"),
)
"""Colours that colour-blind people tell apart (Okabe and Ito, then Tol), one for each trace."""


def check_image(background: Any, shape: tuple[int, int]) -> np.ndarray:
    """Check and compute a background, before any figure is made."""
    if isinstance(background, xr.DataArray):
        if set(background.dims) == {"y", "x"}:
            background = background.transpose("y", "x")
        background = background.compute().as_numpy().values
    image = np.asarray(background, dtype=np.float64)
    if image.shape != shape:
        raise ValueError(
            f"background must be an image (y, x) of {shape}, the ROIs' frame; it is {image.shape}"
            + (f"; {how_to_flatten(background)}" if image.ndim > 2 else "")
        )
    return image


def how_to_flatten(background: Any) -> str:
    """Say what makes an image ``(y, x)`` of what has more dims."""
    dims = [d for d in getattr(background, "dims", ("time",)) if d not in ("y", "x")]
    if "time" in dims:
        return "take a mean over time: movie.mean('time')"
    return "choose one, as in background.isel(" + ", ".join(f"{d}=0" for d in dims) + ")"


def show_image(ax: Axes, image: np.ndarray | None, shape: tuple[int, int]) -> None:
    """Show an image that :func:`check_image` gave, or none, in axes of the frame's size."""
    if image is not None:
        finite = image[np.isfinite(image)]
        low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
        ax.imshow(
            image,
            cmap="gray",
            vmin=low,
            vmax=max(high, low + 1e-9),
            interpolation="nearest",
            extent=frame_extent(shape),
        )
    ax.set_xlim(-0.5, shape[1] - 0.5)
    ax.set_ylim(shape[0] - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_facecolor("#333333")
    bare(ax)


def bare(ax: Axes) -> None:
    """Take the frame and the ticks away."""
    ax.set_xticks([])
    ax.set_yticks([])
    for spine in ax.spines.values():
        spine.set_visible(False)


def frame_extent(shape: tuple[int, int]) -> tuple[float, float, float, float]:
    """Where an image lies whose pixels have whole numbers in their middle."""
    return (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)


def label_roi(
    ax: Axes,
    outline: np.ndarray,
    text: str,
    color: Any,
    shape: tuple[int, int],
    size: float = NORMAL,
) -> None:
    """Write an ROI's label beside it, on the side where the frame has room."""
    from matplotlib.patheffects import withStroke

    right, left = outline[..., 0].max(), outline[..., 0].min()
    middle = outline[..., 1].mean()
    fits = right + 0.08 * shape[1] < shape[1]
    ax.annotate(
        text,
        (right if fits else left, middle),
        xytext=(4 if fits else -4, 0),
        textcoords="offset points",
        ha="left" if fits else "right",
        va="center",
        color=color,
        fontsize=size,
        fontweight="bold",
        path_effects=[withStroke(linewidth=2.5, foreground="black")],
    )


def draw_value(ax: Axes, low: float, span: float, unit: str, scale: float = 1.0) -> None:
    """Draw a bar of a round fluorescence right of the trace; ``scale`` is its size in the axes."""
    value = round_number(span / 1.5)
    height = value * scale
    gap = " " if len(unit) <= 4 else "\n"
    transform = ax.get_yaxis_transform()
    ax.plot(
        [0.926, 0.926],
        [low, low + height],
        color=INK,
        linewidth=1.5,
        transform=transform,
        clip_on=False,
        solid_capstyle="butt",
    )
    ax.text(
        0.932,
        low + height / 2,
        f"{value:g}{gap}{unit}",
        transform=transform,
        ha="left",
        va="center",
        fontsize=SMALL,
        color=INK,
    )


def draw_length(ax: Axes) -> None:
    """Draw a scale bar of a round number of pixels under an image, at its right end.

    Parameters
    ----------
    ax
        Axes that an image or ROIs were drawn into.
    """
    from matplotlib.transforms import ScaledTranslation

    left, right = ax.get_xlim()
    length = round_number((right - left) / 5)
    # In points under the axes, however tall they are.
    below = ScaledTranslation(0, -7 / 72, ax.figure.dpi_scale_trans)
    ax.plot(
        [right - length, right],
        [0, 0],
        color=INK,
        linewidth=2.5,
        transform=ax.get_xaxis_transform() + below,
        clip_on=False,
        solid_capstyle="butt",
    )
    ax.annotate(
        f"{length:g} pixels" if length != 1 else "1 pixel",
        (right, 0),
        xycoords=ax.get_xaxis_transform(),
        xytext=(0, -10),
        textcoords="offset points",
        ha="right",
        va="top",
        fontsize=SMALL,
        color=INK,
        annotation_clip=False,
    )


def round_number(about: float) -> float:
    """Return the 1, 2 or 5 times a power of ten next below."""
    power = 10.0 ** np.floor(np.log10(max(about, 1e-300)))
    return float(max(step * power for step in (1.0, 2.0, 5.0) if step * power <= about * 1.000001))


def color_scale(
    values: xr.DataArray, on_image: bool, cmap: Any = None, vmin: Any = None, vmax: Any = None
) -> ScalarMappable:
    """Return what turns numbers into the colours of a map."""
    import matplotlib
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    numbers = np.asarray(values.values, dtype=np.float64)
    finite = numbers[np.isfinite(numbers)]
    ends = (0.0, 1.0)
    if finite.size:
        ends = tuple(np.percentile(finite, (1, 99) if finite.size >= 50 else (0, 100)))
    low = ends[0] if vmin is None else float(vmin)
    high = ends[1] if vmax is None else float(vmax)
    if vmin is None and vmax is None and not high > low:
        low, high = low - 0.5, high + 0.5
    if not high > low:
        raise ValueError(f"vmax must be above vmin; the colours would go from {low:g} to {high:g}")
    if cmap is None:
        # Every colour is to be seen: dark ones are not on an image, nor pale ones on paper.
        name, darkest, palest = ("plasma", 0.25, 0.97) if on_image else ("viridis", 0.0, 0.95)
        cmap = ListedColormap(matplotlib.colormaps[name](np.linspace(darkest, palest, 256)))
    return ScalarMappable(Normalize(low, high), cmap)


def zoom(ax: Axes, flat: np.ndarray, shape: tuple[int, int], margin: int) -> None:
    """Show a square around pixels, as far as the frame reaches."""
    limits = []
    spans = [np.array([v.min() - margin, v.max() + margin + 1]) for v in np.divmod(flat, shape[1])]
    side = max(int(b - a) for a, b in spans)
    for (first, last), size in zip(spans, shape, strict=True):
        start = (first + last - side) // 2
        start = max(min(start, size - side), 0)
        limits.append((start - 0.5, min(start + side, size) - 0.5))
    ax.set_ylim(limits[0][::-1])
    ax.set_xlim(limits[1])


def has_baseline(ds: xr.Dataset) -> bool:
    """Whether there is an F0 to show; that of the method "none" is 0 everywhere."""
    return "F0" in ds and ds["F0"].attrs.get("baseline") != "none"


def mask_pixels(matrix: Any, position: int) -> np.ndarray:
    """Flat pixels of one mask."""
    start, end = matrix.indptr[position : position + 2]
    return np.asarray(matrix.indices[start:end], dtype=np.int64)


def position_of(labels: np.ndarray, label: int) -> int:
    """Find where an ROI of that label is."""
    where = np.flatnonzero(labels == label)
    if where.size != 1:
        asked = label.item() if isinstance(label, np.generic) else label
        some = ", ".join(map(repr, labels[:5].tolist())) + (", …" if labels.size > 5 else "")
        raise ValueError(
            f"there is no roi {asked!r}; there are {labels.size}, see rois.roi, with the labels "
            f"{some or '(none)'}"
        )
    return int(where[0])


def darker(color: str) -> tuple[float, float, float]:
    """Return the same hue dark enough to be read as text on white."""
    from matplotlib.colors import to_rgb

    r, g, b = (0.72 * part for part in to_rgb(color))
    return r, g, b


def new_axes(size: tuple[float, float]) -> Axes:
    """Axes in a figure of their own, which pyplot and notebooks show."""
    return new_figure(size).add_subplot()


def new_figure(size: tuple[float, float]) -> Figure:
    """Make a figure without pyplot."""
    from matplotlib import pyplot
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1, hspace=0.02)
    return pyplot.figure(figsize=size, layout=layout)


def whole_numbers(axis: Axis) -> None:
    """Put the ticks of an axis at whole numbers only."""
    from matplotlib.ticker import MaxNLocator

    axis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))


def outline_paths(table: PixelTable) -> list[Any]:
    """One path for each ROI, along the edges of its pixels; of all ROIs at once."""
    from matplotlib.path import Path

    height, width = (n + 2 for n in table.shape)
    key = (table.owner * height + table.ypix + 1) * width + table.xpix + 1
    lines, owners = [np.empty((0, 2, 2))], [np.empty(0, np.int64)]
    # To the neighbour that is not in the ROI, and the edge towards it, from corner to corner.
    for step, a, b in (
        (-width, (-0.5, -0.5), (0.5, -0.5)),
        (width, (-0.5, 0.5), (0.5, 0.5)),
        (-1, (-0.5, -0.5), (-0.5, 0.5)),
        (1, (0.5, -0.5), (0.5, 0.5)),
    ):
        edge = np.flatnonzero(~np.isin(key + step, key))
        centre = np.stack([table.xpix[edge], table.ypix[edge]], axis=1)
        lines.append(np.stack([centre + a, centre + b], axis=1))
        owners.append(table.owner[edge])
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    points = np.concatenate(lines)[order].reshape(-1, 2)
    stops = 2 * np.cumsum(np.bincount(owner, minlength=table.roi.size))
    codes = np.tile([Path.MOVETO, Path.LINETO], len(points) // 2)
    return [
        Path(points[a:b], codes[a:b])
        for a, b in zip([0, *stops[:-1].tolist()], stops.tolist(), strict=False)
    ]


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
