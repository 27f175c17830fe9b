"""Figures against the pictures in tests/baseline."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

BASELINE = Path(__file__).parent / "baseline"
# RMS of grey levels, 0 to 255, between means of 4 × 4 pixels. Releases of matplotlib round the
# edges of pixels differently: 1.2 is the most between 3.10.7 and 3.11.2. Each test shows that a
# change of what is drawn moves it by more than twice this.
TOLERANCE = 2.0
_written: set[str] = set()


def axes(width=240, height=180):
    """Axes of so many pixels at 60 dpi, at a fixed place: whatever the size of any text is."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    page = width + 40, height + 40
    figure = Figure(figsize=(page[0] / 60, page[1] / 60))
    FigureCanvasAgg(figure)
    return figure.add_axes((20 / page[0], 20 / page[1], width / page[0], height / page[1]))


def difference(figure, name, tmp_path, dpi=60):
    """RMS between a figure and its picture, without text and legends: other tests read those.

    With the environment variable XS2P_BASELINE set, the figure becomes the picture.
    """
    from matplotlib.image import imread
    from matplotlib.legend import Legend
    from matplotlib.text import Text

    figure.set_layout_engine("none")
    for part in (*figure.findobj(Text), *figure.findobj(Legend)):
        part.set_visible(False)
    expected, drawn = BASELINE / f"{name}.png", tmp_path / f"{name}.png"
    if os.environ.get("XS2P_BASELINE") and name not in _written:
        _written.add(name)  # what comes after is drawn to differ
        BASELINE.mkdir(exist_ok=True)
        figure.savefig(expected, dpi=dpi, metadata={"Software": None})
    figure.savefig(drawn, dpi=dpi)
    one, two = (_blocks(imread(path)[..., :3]) for path in (expected, drawn))
    assert one.shape == two.shape
    return float(np.sqrt(np.mean((255 * (one - two)) ** 2)))


def _blocks(image, n=4):
    """Means of n × n pixels."""
    height, width = (size // n * n for size in image.shape[:2])
    blocks = image[:height, :width].reshape(height // n, n, width // n, n, 3)
    return blocks.mean((1, 3))


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
