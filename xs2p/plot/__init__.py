"""Pictures of ROIs, masks and traces.

``plot_rois``, ``plot_roi``, ``plot_traces``, ``plot_summary`` and ``browse`` are the methods
``.s2p.plot`` and so on of Datasets. Those that are given axes draw into them and change nothing
else, so that they fit into any figure; matplotlib is imported only when one is called.
"""

from typing import TYPE_CHECKING

from xs2p._lazy import lazy

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

if TYPE_CHECKING:
    from xs2p.plot.browser import Browser, browse
    from xs2p.plot.drawing import COLORS, draw_length, say, title
    from xs2p.plot.roi import plot_roi
    from xs2p.plot.rois import plot_rois
    from xs2p.plot.summary import plot_summary
    from xs2p.plot.traces import plot_traces
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "xs2p.plot.browser": ["Browser", "browse"],
            "xs2p.plot.drawing": ["COLORS", "draw_length", "say", "title"],
            "xs2p.plot.roi": ["plot_roi"],
            "xs2p.plot.rois": ["plot_rois"],
            "xs2p.plot.summary": ["plot_summary"],
            "xs2p.plot.traces": ["plot_traces"],
        },
    )
