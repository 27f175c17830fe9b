"""The map of all traces over time, averaged in bins."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from xs2p.plot.drawing import INK, NORMAL, SMALL, whole_numbers
from xs2p.plot.times import TimeAxis, first_frames

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BINS = 1000
_LARGE = 10  # times the dF/F of the median ROI, beyond which that of another is of a poor F0


class Bins(NamedTuple):
    """The bins of time that a page shows."""

    first: np.ndarray
    """First frame of each."""
    runs: np.ndarray
    """The stretch without a gap that each is in."""
    start: np.ndarray
    stop: np.ndarray
    """Where each begins and ends on the axis."""
    ends: tuple[float, float]
    """Times of the first and the last frame."""
    length: str
    """How long one is, in words; "" where it is one frame."""


class Shown(NamedTuple):
    """What a map shows."""

    values: np.ndarray
    """``(roi, bin)``."""
    ends: tuple[float, float]
    """Values at the ends of the colours."""
    name: str
    """The variable that they are of."""
    words: str
    """What they are called."""


def bins_of(axis: TimeAxis) -> Bins:
    """Cut the frames of a recording into bins: no more than 2000, and none over a gap."""
    first, runs, width = first_frames(axis.values, BINS, axis.starts)
    last = np.append(first[1:], axis.values.size) - 1
    unit = axis.label[axis.label.index("(") + 1 : -1].partition(" from ")[0]
    number = f"{width}" if unit == "frames" else f"{axis.clock.step * width:.3g}"
    return Bins(
        first,
        runs,
        axis.values[first] - axis.step / 2,
        axis.values[last] + axis.step / 2,
        (float(axis.values[0]), float(axis.values[-1])),
        "" if width == 1 else f"{number} {unit}",
    )


def draw_raster(ax: Axes, shown: Shown, order: np.ndarray, bins: Bins, some: bool) -> None:
    """Draw all ROIs over time, the highest signal to noise on top; ``some`` frames count."""
    import matplotlib

    values, (low, high), name, words = shown
    values = values[order]
    columns, left, right = _columns(bins)
    image = ax.imshow(
        np.where(columns < 0, np.nan, values[:, columns]),
        aspect="auto",
        cmap=matplotlib.colormaps["gray_r"].with_extremes(bad="#F3E6D8"),
        vmin=low,
        vmax=high,
        extent=(left, right, len(values) + 0.5, 0.5),
        interpolation="auto" if len(values) > 100 else "nearest",
        interpolation_stage="data",
    )
    pauses = bins.start[1:] - bins.stop[:-1]
    gaps = np.flatnonzero(np.diff(bins.runs) * pauses > 0.25 * (bins.stop - bins.start)[:-1])
    edges = np.stack([bins.stop[gaps], pauses[gaps]], axis=1)
    ax.broken_barh(edges.tolist(), (0.5, len(values)), facecolor="white", linewidth=0)
    first, length = bins.ends[0], max(bins.ends[1] - bins.ends[0], 1e-9)  # as the traces beneath
    ax.set_xlim(first - 0.01 * length, first + 1.1 * length)
    for side in ("top", "right", "bottom", "left"):
        ax.spines[side].set_visible(False)
    inside = ax.inset_axes((0.935, 0.05, 0.012, 0.6))
    bar = ax.figure.colorbar(image, cax=inside)
    bar.outline.set_visible(False)
    bar.ax.set_title(words, loc="left", fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL, colors=INK)
    ax.set_xticks([])
    ax.tick_params(labelsize=SMALL, colors=INK)
    whole_numbers(ax.yaxis)
    ax.set_ylabel("ROIs, from high to low SNR", fontsize=SMALL + 0.5, color=INK)
    binned = f", means of {bins.length}" if bins.length else ""
    tinted = ["frames that do not count"] * some
    tinted += ["no trace"] * bool(np.isnan(values).all(1).any())
    nothing = [f"tinted: {' or '.join(tinted)}"] * bool(tinted)
    nothing += ["white: no frames"] if gaps.size else []
    said = f" ({', '.join(nothing)})" if nothing else ""
    what = f"{name} of all ROIs" + (f", {words}" if name != "dFF" else "")
    ax.set_title(f"{what}{binned}{said}", loc="left", fontsize=NORMAL, color=INK)


def shown_as(
    found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]],
    kind: str,
    doubtful: np.ndarray | None,
) -> Shown:
    """Values of the map, as z-score or dF/F, the ends of its colours, and what they are called.

    ``found`` are the lowest, highest and mean value of each bin, by variable; ``doubtful`` says of
    which ROIs flags speak against the dF/F.
    """
    if kind == "dFF" and "dFF" in found:
        values = found["dFF"][2]
        low, high = _ends_of_trusted(values, doubtful)
        # Where there are more rows than pixels their means are drawn: no row is to drown others.
        return Shown(np.clip(values, low, high), (low, high), "dFF", "dF/F")
    name = "Fc" if "Fc" in found else "F"
    values, words = _scaled(found[name][2], found, kind)
    return Shown(values, _ends(values), name, words)


def _ends(values: np.ndarray) -> tuple[float, float]:
    finite = values[np.isfinite(values)]
    low, high = np.percentile(finite, (5, 99)) if finite.size else (0.0, 1.0)
    return float(low), float(max(high, low + 1e-9))


def _ends_of_trusted(values: np.ndarray, doubtful: np.ndarray | None) -> tuple[float, float]:
    """Find the ends of the colours by ROIs whose dF/F nothing speaks against, nor its size.

    An F0 near 0 makes it as large as can be: ROIs do not count whose dF/F is more than ten times
    that of the median ROI, by the 99th percentile of its distance from 0.
    """
    large = np.full(len(values), np.nan)
    for k, row in enumerate(values):
        finite = row[np.isfinite(row)]
        large[k] = np.percentile(abs(finite), 99) if finite.size else np.nan
    known = np.isfinite(large)
    if doubtful is not None and (known & ~doubtful).any():
        known &= ~doubtful
    some = large[known & (large > 0)]
    typical = np.quantile(some, 0.5, method="lower") if some.size else np.inf
    return _ends(values[known & (large <= _LARGE * typical)])


def _scaled(
    main: np.ndarray, found: dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]], kind: str
) -> tuple[np.ndarray, str]:
    """Values of the map, and what they are called."""
    import warnings

    if kind == "zscore":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of ROIs that are NaN throughout
            mean, spread = np.nanmean(main, 1), np.nanstd(main, 1)
        return (main - mean[:, None]) / np.where(spread > 0, spread, np.nan)[:, None], "z-score"
    base = found["F0"][2]
    return (main - base) / np.where(base > 0, base, np.nan), "dF/F"


def _columns(bins: Bins) -> tuple[np.ndarray, float, float]:
    """Which bin each column of the map shows, -1 for none, and where the columns lie in time.

    They are of one width. Bins are so too, one a column, unless there are gaps or the frame rate
    changes: then as many columns as there may be bins.
    """
    left, n = float(bins.start[0]), bins.start.size
    even = left + np.arange(n) * (bins.stop[0] - left)
    width = float(bins.stop[0] - left)
    if np.abs(bins.start - even).max() <= 0.5 * width:
        return np.arange(n), left, left + n * width
    right, most = float(bins.stop[-1]), 2 * BINS
    middle = left + (np.arange(most) + 0.5) * (right - left) / most
    column = np.searchsorted(bins.start, middle, "right") - 1
    return np.where(middle <= bins.stop[column], column, -1), left, right
