"""Draw what runs where: four backends by three steps, the functions and kernels in each cell.

``test_docs.py`` holds the names to the code.
"""

from __future__ import annotations

import io
from typing import NamedTuple

STEPS = {
    "sums": "extraction: F, Fneu",
    "filters": "baseline: F0 by maximin",
    "oasis": "OASIS: spks",
}


class Backend(NamedTuple):
    """A row: what it is called, what the kernels' modules end in, its colour."""

    title: str
    where: str
    ending: str
    colour: str


BACKENDS = {
    "numpy": Backend(
        "numpy", 'on all cores; device="gpu":\nthere and back, by CuPy\'s', "cpu", "#dbe9f6"
    ),
    "dask": Backend("Dask", "a task a chunk; over CuPy\nthe rows below in each", "cpu", "#ece6f4"),
    "cupyx": Backend("CuPy", 'kernels="cupyx"', "cupyx", "#e2f0d9"),
    "own": Backend("CuPy", 'kernels="own"', "gpu", "#fdebd3"),
}


class Cell(NamedTuple):
    """What runs: functions of ``xs2p.traces``, what they call, and in a few words how."""

    functions: tuple[str, ...]
    kernels: tuple[str, ...]
    how: str


_EXTREMES = "numpy.minimum", "numpy.maximum"
CELLS = {
    "numpy": {
        "sums": Cell(
            ("extraction.in_memory", "sums_cpu.map_sums"),
            ("sums_cpu._sums",),
            "numba: 32 frames side by side",
        ),
        "filters": Cell(
            ("blocks.in_parallel", "filters_cpu.maximin"),
            ("filters_cpu._smooth", *_EXTREMES),
            "numba; doubling shifts",
        ),
        "oasis": Cell(
            ("blocks.in_parallel", "oasis_cpu.oasis"),
            ("oasis_cpu._oasis_side_by_side",),
            "numba: traces side by side",
        ),
    },
    "dask": {
        "sums": Cell(
            ("extraction.map_blocks", "sums_cpu.map_sums"), (), "the masks in the graph once"
        ),
        "filters": Cell(
            ("blocks.map_traces", "filters_cpu.maximin"), (), "chunks see their neighbours' edges"
        ),
        "oasis": Cell(("blocks.map_traces", "oasis_cpu.oasis"), (), "as far as the decay reaches"),
    },
    "cupyx": {
        "sums": Cell(
            ("sums_cupyx.map_sums",),
            ("cupyx.scipy.sparse.csc_matrix",),
            "dense(T, P) @ CSC(P, N), float32",
        ),
        "filters": Cell(
            ("filters_cupyx.maximin",),
            (
                "cupyx.scipy.ndimage.correlate1d",
                "cupyx.scipy.ndimage.minimum_filter1d",
                "cupyx.scipy.ndimage.maximum_filter1d",
            ),
            "long windows: doubling shifts",
        ),
        "oasis": Cell(
            ("oasis_cupyx.oasis", "oasis_gpu.oasis"),
            ("CUDA oasis",),
            "the CPU's where it does not compile",
        ),
    },
    "own": {
        "sums": Cell(
            ("sums_gpu.map_sums",),
            ("CUDA load_i2", "CUDA gather_i4"),
            "and those of other dtypes; the CPU's bits",
        ),
        "filters": Cell(
            ("filters_gpu.maximin",),
            ("CUDA smooth_tile", "CUDA smooth", "CUDA running_min", "CUDA running_max"),
            "the CPU's bits",
        ),
        "oasis": Cell(("oasis_gpu.oasis",), ("CUDA oasis",), "the CPU's bits"),
    },
}

WIDTH, HEIGHT, TITLE = 3.1, 1.34, 2.0  # inches of a cell, and the width of what names a row


def picture() -> str:
    """All of it as SVG, the same bytes from the same versions."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    width, height = TITLE + len(STEPS) * WIDTH, 0.45 + len(CELLS) * HEIGHT
    with matplotlib.rc_context({"svg.hashsalt": "xs2p", "font.family": "DejaVu Sans"}):
        figure = Figure(figsize=(width, height), facecolor="white")
        axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
        axes.axis("off")
        for k, step in enumerate(STEPS.values()):
            axes.text(TITLE + (k + 0.5) * WIDTH, 0.28, step, size=11, weight="bold", ha="center")
        for row, (name, backend) in enumerate(BACKENDS.items()):
            top = 0.4 + row * HEIGHT
            axes.text(0.15, top + 0.45, backend.title, size=12, weight="bold")
            axes.text(0.15, top + 0.62, backend.where, size=8.5, va="top", color="#444444")
            for k, step in enumerate(STEPS):
                _draw(axes, CELLS[name][step], TITLE + k * WIDTH, top, backend.colour)
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(written, metadata={"Date": None})
    return written.getvalue()


def _draw(axes: object, cell: Cell, left: float, top: float, colour: str) -> None:
    from matplotlib.patches import Rectangle

    size = WIDTH - 0.08, HEIGHT - 0.08
    axes.add_patch(Rectangle((left, top), *size, facecolor=colour, edgecolor="#888888", lw=0.6))
    lines = [(name, "bold") for name in cell.functions]
    lines += [(f"  {name.removeprefix('cupyx.scipy.')}", "normal") for name in cell.kernels]
    for i, (text, weight) in enumerate(lines):
        at = left + 0.1, top + 0.2 + 0.175 * i
        axes.text(*at, text, size=8.5, weight=weight, family="DejaVu Sans Mono")
    axes.text(left + 0.1, top + size[1] - 0.1, cell.how, size=8, style="italic", color="#444444")


if __name__ == "__main__":
    print(picture(), end="")
