"""Figures against the pictures in tests/baseline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

BASELINE = Path(__file__).parent / "baseline"
# RMS of grey levels, 0 to 255. Each test shows that a change of what is drawn moves it by more than
# twice this; that another version of matplotlib or of a font does not, is why text is left out.
TOLERANCE = 1.0
_written: set[str] = set()


def axes(width=4.0, height=3.0, right=0.9):
    """Axes at a fixed place: what is drawn does not depend on the size of any text."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure.add_axes((0.1, 0.1, right - 0.1, 0.8))


def difference(figure, name, tmp_path):
    """RMS between a figure without its text and its picture; strings are tested as strings.

    With the environment variable XS2P_BASELINE set, the figure becomes the picture.
    """
    from matplotlib.testing.compare import compare_images
    from matplotlib.text import Text

    figure.set_layout_engine("none")
    for text in figure.findobj(Text):
        text.set_visible(False)
    expected, drawn = BASELINE / f"{name}.png", tmp_path / f"{name}.png"
    if os.environ.get("XS2P_BASELINE") and name not in _written:
        _written.add(name)  # what comes after is drawn to differ
        BASELINE.mkdir(exist_ok=True)
        figure.savefig(expected, dpi=60, metadata={"Software": None})
    figure.savefig(drawn, dpi=60)
    result = compare_images(str(expected), str(drawn), tol=0, in_decorator=True)
    return 0.0 if result is None else float(np.asarray(result["rms"]))


def texts(figure):
    """Every piece of text that is shown, with its box in pixels."""
    from matplotlib.axis import Axis
    from matplotlib.text import Text

    figure.canvas.draw()
    outside = set()  # ticks beyond the ends of an axis are there, and not drawn
    for axis in figure.findobj(Axis):
        low, high = sorted(axis.get_view_interval())
        for tick in axis.get_major_ticks() + axis.get_minor_ticks():
            if not low - 1e-9 <= tick.get_loc() <= high + 1e-9:
                outside |= {tick.label1, tick.label2}
    found = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    shown = [t for t in found if t not in outside]
    boxes = [(t, t.get_window_extent()) for t in shown]
    return [(text, box) for text, box in boxes if box.width > 0]


def words(figure):
    """Every string that is shown."""
    return [text.get_text() for text, _ in texts(figure)]


def check_legible(figure):
    """All text is inside the figure, 7 pt or larger, and apart from other text."""
    page = figure.bbox
    found = texts(figure)
    for text, box in found:
        said = text.get_text()
        assert page.x0 <= box.x0 + 1 and box.x1 - 1 <= page.x1, said
        assert page.y0 <= box.y0 + 1 and box.y1 - 1 <= page.y1, said
        assert text.get_fontsize() >= 7, said
    for k, (one, a) in enumerate(found):
        for other, b in found[:k]:
            # Labels of ROIs stand where the ROIs are.
            if one.get_path_effects() and other.get_path_effects():
                continue
            assert not a.overlaps(b), f"{one.get_text()!r} lies over {other.get_text()!r}"
