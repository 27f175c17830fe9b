"""Pictures of ROIs, masks and traces.

``plot_rois``, ``plot_roi``, ``plot_traces``, ``plot_summary`` and ``browse`` are the methods
``.s2p.plot`` and so on of Datasets. Those that are given axes draw into them and change nothing
else, so that they fit into any figure; matplotlib is imported only when one is called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xs2p.plot.browser import Browser, browse
from xs2p.plot.drawing import COLORS, FAINT, INK, NORMAL, SMALL, bare, draw_length
from xs2p.plot.roi import plot_roi
from xs2p.plot.rois import plot_rois
from xs2p.plot.summary import plot_summary
from xs2p.plot.traces import plot_traces

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "COLORS",
    "Browser",
    "browse",
    "draw_length",
    "plot_roi",
    "plot_rois",
    "plot_summary",
    "plot_traces",
    "say",
    "title",
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
