"""xs2p beside suite2p, in one process: medians, speed-ups, agreement of the results.

From the top of the checkout, in an environment with xs2p:

    pip install -r benchmarks/requirements-suite2p.txt
    python -m benchmarks.versus_suite2p

The whole table takes about half an hour, and 11 GB in ``--folder`` for the movie of its last row.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import platform
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import xarray as xr

import xs2p
from benchmarks.suite.recordings import (
    FS,
    SHAPE,
    TAU,
    make_frames,
    make_stat,
    make_traces,
    write_movie,
)
from xs2p.compute.threads import cores

HOW = (
    "suite2p is not installed here; it is needed only for this comparison:\n"
    "    pip install -r benchmarks/requirements-suite2p.txt"
)


@dataclass
class Row:
    """One line of the table: the same work by suite2p and by xs2p."""

    step: str
    work: str
    theirs: Callable[[], Any]
    ours: Callable[[], Any]
    agreement: Callable[[Any, Any], str]
    bar: float
    aim: float
    amount: float | None = None  # frames or samples, for a rate
    limit: Callable[[], Any] | None = None  # what the memory or the disk allows


def functions(name: str, masks: Any, extract: Any, dcnv: Any, open: Any) -> Any:
    """Gather the functions that are compared, from suite2p's modules or what stands for them."""
    return SimpleNamespace(
        name=name,
        create_masks=masks.create_masks,
        extract_traces=extract.extract_traces,
        extraction_wrapper=extract.extraction_wrapper,
        preprocess=dcnv.preprocess,
        oasis=dcnv.oasis,
        open=open,
    )


def suite2p() -> Any:
    """Return suite2p's functions, on the CPU."""
    try:
        import suite2p.extraction  # noqa: F401
    except ImportError:
        raise SystemExit(HOW) from None
    from suite2p.extraction import dcnv, extract, masks
    from suite2p.io import BinaryFile

    name = f"suite2p {importlib.metadata.version('suite2p')}"
    return functions(name, masks, extract, dcnv, lambda path: BinaryFile(*SHAPE, str(path)))


def drop_in() -> Any:
    """Return xs2p's own functions of those names, to try this script without suite2p."""
    import xs2p.suite2p as same

    def frames(path: Path) -> np.ndarray:
        return np.memmap(path, np.int16, "r").reshape(-1, *SHAPE)

    return functions("xs2p's drop-in", same, same, same, frames)


def masks_row(reference: Any, n_rois: int, circular: bool, from_stat: bool, bars: Any) -> Row:
    """Time the masks of a stat, or of an ROI set that is made already."""
    stat = make_stat(n_rois)
    rois = xs2p.rois_from_stat(stat, SHAPE)

    def ours() -> Any:
        these = xs2p.rois_from_stat(stat, SHAPE) if from_stat else rois
        return xs2p.build_masks(these, circular_neuropil=circular)

    def agreement(theirs: Any, masks: Any) -> str:
        cells, rings = theirs
        same = all(
            np.array_equal(np.asarray(pixels), column(masks.cell, n))
            and np.array_equal(np.asarray(weights), column(masks.cell, n, "data"))
            for n, (pixels, weights) in enumerate(cells)
        ) and all(np.array_equal(ring, column(masks.neuropil, n)) for n, ring in enumerate(rings))
        return "identical" if same else "DIFFERENT"

    growth = "circular" if circular else "rectangular"
    return Row(
        "masks",
        f"{n_rois} ROIs, {growth}" + (", from stat" if from_stat else ""),
        lambda: reference.create_masks(stat, *SHAPE, circular_neuropil=circular),
        ours,
        agreement,
        *bars,
    )


def column(matrix: Any, n: int, part: str = "indices") -> np.ndarray:
    """Pixels or weights of one mask."""
    return np.asarray(getattr(matrix, part)[matrix.indptr[n] : matrix.indptr[n + 1]])


def extraction_row(
    reference: Any, n_rois: int, n_frames: int, dtype: str, bars: Any, shape: Any = SHAPE
) -> Row:
    """Time the traces of a movie in memory."""
    stat = make_stat(n_rois, shape)
    frames = make_frames(n_frames, shape, dtype)
    movie = xr.DataArray(frames, dims=("time", "y", "x")).chunk(time=-(-n_frames // 8))
    masks = xs2p.build_masks(xs2p.rois_from_stat(stat, shape))
    cells, rings = reference.create_masks(stat, *shape)

    def theirs() -> Any:
        return reference.extract_traces(frames, cells, rings, batch_size=500, device=cpu())

    pixels = f"{masks.cell.nnz / 1e3:.0f} k cell, {masks.neuropil.nnz / 1e3:.0f} k neuropil pixels"
    return Row(
        "extraction",
        f"{n_rois} ROIs ({pixels}), {dtype}, {shape[0]} × {shape[1]}",
        theirs,
        lambda: xs2p.extract_traces(movie, masks).compute(),
        lambda a, b: furthest((a[0], b.F.values), (a[1], b.Fneu.values)),
        *bars,
        amount=n_frames,
        limit=lambda: movie.sum().compute(),
    )


def maximin_row(reference: Any, n_rois: int, n_frames: int, bars: Any) -> Row:
    """Time the baseline and its subtraction, traces in memory."""
    F = make_traces(n_rois, n_frames)
    traces = xr.DataArray(F, dims=("roi", "time"), attrs={"fs": FS})
    return Row(
        "maximin",
        f"{n_rois} traces × {n_frames} frames, 60 s at {FS:.0f} Hz",
        lambda: reference.preprocess(F.copy(), "maximin", 60.0, 10.0, FS, device=cpu()),
        lambda: xs2p.preprocess(traces, "maximin"),
        lambda a, b: furthest((a, b.values)),
        *bars,
        amount=F.size,
    )


def oasis_row(reference: Any, n_rois: int, n_frames: int, bars: Any) -> Row:
    """Time the spikes of baselined traces in memory."""
    F = xr.DataArray(make_traces(n_rois, n_frames), dims=("roi", "time"), attrs={"fs": FS})
    traces = xs2p.preprocess(F, "maximin")

    def agreement(theirs: Any, ours: Any) -> str:
        return f"{(theirs == ours.values).mean():.2%} of samples identical"

    return Row(
        "OASIS",
        f"{n_rois} traces × {n_frames} frames, tau {TAU} s",
        lambda: reference.oasis(traces.values, 500, TAU, FS),
        lambda: xs2p.deconvolve(traces, tau=TAU),
        agreement,
        *bars,
        amount=F.size,
    )


def pipeline_row(reference: Any, n_rois: int, n_frames: int, folder: Path, bars: Any) -> Row:
    """Time the whole job, from a raw file to the files of traces and spikes."""
    stat = make_stat(n_rois)
    path = folder / "data.bin"
    write_movie(path, stat, n_frames)

    def theirs() -> dict[str, np.ndarray]:
        F, Fneu = reference.extraction_wrapper(stat, reference.open(path), device=cpu())[:2]
        corrected = reference.preprocess(F - 0.7 * Fneu, "maximin", 60.0, 10.0, FS, device=cpu())
        spks = reference.oasis(corrected, 500, TAU, FS)
        (folder / "theirs").mkdir(exist_ok=True)
        for name, values in (("F", F), ("Fneu", Fneu), ("spks", spks)):
            np.save(folder / "theirs" / f"{name}.npy", values)
        return load("theirs")

    def open_movie() -> xr.DataArray:
        return xs2p.open_movie(path, shape=SHAPE, fs=FS)

    def ours() -> dict[str, np.ndarray]:
        ds = open_movie().s2p.extract(xs2p.rois_from_stat(stat, SHAPE), tau=TAU)
        xs2p.write_suite2p(ds, folder / "ours", overwrite=True)
        return load("ours")

    def load(which: str) -> dict[str, np.ndarray]:
        names = ("F", "Fneu", "spks")
        return {name: np.load(folder / which / f"{name}.npy", mmap_mode="r") for name in names}

    def agreement(a: Any, b: Any) -> str:
        far = furthest((a["F"], b["F"]), (a["Fneu"], b["Fneu"]))
        spks = [np.concatenate([x["spks"][n] for n in range(0, n_rois, 10)]) for x in (a, b)]
        spks = [np.nan_to_num(x).astype(np.float64) for x in spks]
        return f"F, Fneu {far}; spks r = {np.corrcoef(*spks)[0, 1]:.6f}"

    return Row(
        "whole pipeline",
        f"{n_rois} ROIs × {n_frames} frames: raw int16 on disk to F, Fneu and spikes on disk",
        theirs,
        ours,
        agreement,
        *bars,
        amount=n_frames,
        limit=lambda: open_movie().sum().compute(),
    )


def furthest(*pairs: tuple[np.ndarray, np.ndarray]) -> str:
    """Largest difference of traces; ROIs without a mask are 0 there and NaN here."""
    far = 0.0
    for theirs, ours in pairs:
        for a, b in zip(theirs, ours, strict=True):
            if not np.isnan(b).any():
                far = max(far, float(np.abs(np.asarray(a, np.float64) - b).max()))
    return f"within {far:.1g}"


def cpu() -> Any:
    """PyTorch's CPU, where there is PyTorch."""
    torch = sys.modules.get("torch")
    return "cpu" if torch is None else torch.device("cpu")


ROWS = (
    "masks",
    "masks-stat",
    "masks-3000",
    "masks-circular",
    "extraction",
    "extraction-3000",
    "extraction-10000",
    "extraction-float32",
    "maximin",
    "oasis",
    "pipeline",
)


def make_row(name: str, reference: Any, toy: bool, folder: Path, frames: int = 4000) -> Row:
    """Prepare a row; the bars and aims are what the project set itself."""
    n, more, frames = (30, 60, 50) if toy else (1000, 3000, frames)
    if name == "masks":
        return masks_row(reference, n, False, False, (40, 100))
    if name == "masks-stat":
        return masks_row(reference, n, False, True, (40, 100))
    if name == "masks-3000":
        return masks_row(reference, more, False, False, (40, 100))
    if name == "masks-circular":
        return masks_row(reference, n, True, False, (150, 400))
    if name == "extraction":
        return extraction_row(reference, n, frames, "int16", (15, 30))
    if name == "extraction-3000":
        return extraction_row(reference, more, frames, "int16", (15, 30))
    if name == "extraction-10000":
        large = (SHAPE if toy else (1024, 1024), 60 if toy else 10_000, 50 if toy else frames // 4)
        return extraction_row(reference, *large[1:], "int16", (10, 20), large[0])
    if name == "extraction-float32":
        return extraction_row(reference, n, frames, "float32", (5, 10))
    if name == "maximin":
        return maximin_row(reference, 20 if toy else 500, 300 if toy else 10_000, (10, 25))
    if name == "oasis":
        return oasis_row(reference, 20 if toy else 500, 300 if toy else 10_000, (3.5, 6))
    return pipeline_row(reference, n, 100 if toy else 20_000, folder, (10, 20))


REST = 1.0  # seconds: PyTorch's idle threads keep the cores busy for a while after its work


def clocks() -> np.ndarray:
    """Seconds of the clock, and of the processors for all threads of this process."""
    return np.array([time.perf_counter(), time.process_time()])


def medians(works: list[Callable[[], Any]], repeats: int) -> tuple[np.ndarray, list[Any]]:
    """Run each once for compilation and caches, then some times in turn; results too.

    Medians are ``(work, clock)``: seconds of the clock and of the processors.
    """
    results = [work() for work in works]
    taken = np.empty((repeats, len(works), 2))
    for n in range(repeats):
        for i, work in enumerate(works):
            time.sleep(REST)
            start = clocks()
            work()
            taken[n, i] = clocks() - start
    return np.median(taken, axis=0), results


def measure(row: Row, repeats: int) -> str:
    """Run both and write a line of the table."""
    works = [row.theirs, row.ours] + ([] if row.limit is None else [row.limit])
    taken, (theirs, ours, *_) = medians(works, repeats)
    agreement = row.agreement(theirs, ours)
    del theirs, ours
    (reference, _), (here, _) = taken[:2]
    limit = "–" if row.limit is None else " / ".join(f"{x:.1f} ×" for x in taken[1] / taken[2])
    cells = (
        row.step,
        row.work,
        amount(reference, row.amount),
        amount(here, row.amount),
        f"**{short(reference / here)} ×**",
        f"{short(taken[0, 1] / taken[1, 1])} ×",
        f"{row.bar:g} × / {row.aim:g} ×",
        limit,
        agreement,
    )
    return f"| {' | '.join(cells)} |"


def amount(median: float, n: float | None) -> str:
    """Write a time, and the rate that it is."""
    time = f"{median:.2f} s" if median >= 0.1 else f"{median * 1e3:.1f} ms"
    if n is None:
        return time
    rate = n / median
    if n >= 1e5 or rate >= 1e6:
        return f"{time} ({short(rate / 1e6)} M samples/s)"
    return f"{time} ({rate:,.0f} frames/s)"


def short(value: float) -> str:
    """Two digits, or all before the point."""
    return f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def machine(reference: Any = None) -> str:
    """Describe the machine and the versions, of what xs2p is measured against too."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next(x.split(":")[1].strip() for x in lines if x.startswith("model name"))
    except (OSError, StopIteration):
        pass
    against = "" if reference is None else f" against {reference.name}"
    names = (
        "numpy",
        "numba",
        "dask",
        "xarray",
        "scipy",
        "pandas" if reference is None else "torch",
    )
    versions = []
    for name in names:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    return (
        f"{datetime.date.today()}; {cores()} cores, {model}; {platform.system()}, "
        f"Python {platform.python_version()}; xs2p {xs2p.__version__}{against}; "
        f"{', '.join(versions)}"
    )


def main(arguments: list[str] | None = None, reference: Any = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="of each measurement; median")
    parser.add_argument("--folder", type=Path, help="where the movie is written, and removed")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--frames", type=int, default=4000, help="of the rows of extraction")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: only to see it run")
    options = parser.parse_args(arguments)
    reference = suite2p() if reference is None else reference
    repeats = 1 if options.toy else options.repeats
    print(machine(reference))
    print(f"medians of {repeats} runs in turn, after one that is not counted\n")
    print(
        "| step | work | suite2p | xs2p | speed-up | of the cores | bar / aim | "
        "time to read and sum / of the cores | results |"
    )
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    for name in options.rows:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*ROIs lack a mask")
            print(
                measure(
                    make_row(name, reference, options.toy, Path(folder), options.frames), repeats
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
