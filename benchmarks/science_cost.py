"""What the steps from F to a signal cost: time beside plain ones and the movie, sizes of graphs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import xs2p
from benchmarks import plain
from benchmarks.scaling import make_movie, make_rois
from benchmarks.suite.recordings import FS, TAU, make_frames, make_traces
from xs2p.compute.threads import cores
from xs2p.traces.detrend import trend_of
from xs2p.traces.neuropil import Neuropil, correct
from xs2p.traces.ranks import percentile_of_numpy

THREADS = 2
RATIO = 0.7
VARIABLES = ("F", "Fneu", "Fc", "F0", "dFF")


@dataclass
class Sizes:
    """How much there is to do; what takes a plain version long is done for ``few`` ROIs by both."""

    rois: int = 1000
    few: int = 200
    frames: int = 10_000
    of_movie: int = 2000
    side: int = 512
    trials: int = 1000
    of_trial: int = 50
    repeats: int = 5

    @classmethod
    def toy(cls) -> Sizes:
        return cls(12, 4, 300, 100, 32, 6, 20, 1)


class Step(NamedTuple):
    """The same work by xs2p and by what is plain."""

    ours: Callable[[], Any]
    beside: str
    plain: Callable[[], Any]
    agreement: Callable[[Any, Any], str]


STEPS = (
    "prctile",
    "rolling_prctile",
    "rolling_median",
    "inactive_median",
    "detrend",
    "noise",
    "dff",
    "centred",
    "quality",
    "deconvolve",
)
SLOW = ("detrend",)  # plain


def make_dataset(n_rois: int, n_frames: int) -> xr.Dataset:
    """F, Fneu, Fc, F0 and dFF of traces that bleach, with transients, drift and noise."""
    bleached = 0.7 + 0.3 * np.exp(-np.arange(n_frames) / FS / 120)
    F = (make_traces(n_rois, n_frames) * bleached).astype(np.float32)
    Fneu, attrs = make_traces(n_rois, n_frames, seed=1), {"fs": FS}
    ds = xr.Dataset({"F": (("roi", "time"), F, attrs), "Fneu": (("roi", "time"), Fneu, attrs)})
    return ds.s2p.reprocess(
        neuropil_coefficient=RATIO, neuropil="centred", baseline="maximin", dff=True
    )


def steps(ds: xr.Dataset) -> dict[str, Step]:
    """Every step from F to a signal, of traces in memory."""
    window, short = (int(seconds * FS / 2) * 2 + 1 for seconds in (60.0, 3.33))
    F, Fneu, Fc, F0, dFF = (ds[name].values for name in VARIABLES)
    flat = (ds.Fc - ds.F0).assign_attrs(ds.Fc.attrs)
    valid = np.random.default_rng(0).random(ds.sizes["time"]) > 0.1
    holes = flat.assign_coords(valid=("time", valid))
    bare = ds.drop_vars(["dFF", "noise", "dff_flag"])
    long = np.tile(Fc[: max(len(Fc) // 2, 1)], (1, 10))
    filters = "`scipy.ndimage.median_filter`"
    return {
        "prctile": Step(
            lambda: percentile_of_numpy(long, 8.0),
            f"`numpy.percentile`, {long.shape[0]} × {long.shape[1]:,} by both",
            lambda: np.percentile(long, 8, axis=1),
            within,
        ),
        "rolling_prctile": Step(
            lambda: xs2p.baseline(ds.Fc, "rolling_prctile").values,
            "`scipy.ndimage.percentile_filter`",
            lambda: plain.rolling_percentile(Fc, window, 8),
            within,
        ),
        "rolling_median": Step(
            lambda: xs2p.baseline(ds.Fc, "rolling_median").values,
            filters,
            lambda: plain.rolling_median(Fc, window),
            within,
        ),
        "inactive_median": Step(
            lambda: xs2p.baseline(ds.Fc, "inactive_median").values,
            "SciPy's filters, pandas' rolling median",
            lambda: plain.inactive_median(Fc, window, window, 3 * plain.noise(Fc, short)),
            within,
        ),
        "detrend": Step(
            lambda: trend_of(ds.F, FS, 1, device="cpu", in_passes=False).values,
            "`scipy.optimize.curve_fit`",
            lambda: plain.bleaching(F, FS),
            within,
        ),
        "noise": Step(
            lambda: xs2p.noise(ds.Fc).values,
            f"{filters}, numpy",
            lambda: plain.noise(Fc, short),
            within,
        ),
        "dff": Step(
            lambda: bare.s2p.dff(),
            f"{filters}, numpy",
            lambda: plain.dff(Fc, F0, short, F, Fneu),
            lambda ours, theirs: within(ours.dFF.values, theirs[0]),
        ),
        "centred": Step(
            lambda: correct(ds, Neuropil(RATIO, "centred")).values,
            "numpy",
            lambda: plain.centred(F, Fneu),
            within,
        ),
        "quality": Step(
            lambda: xs2p.quality(ds[[*VARIABLES]]),
            "numpy, SciPy",
            lambda: plain.quality(F, Fneu, Fc, F0, dFF, FS),
            alike,
        ),
        "deconvolve": Step(
            lambda: xs2p.deconvolve(holes, tau=TAU).values[:, valid],
            "xs2p too, of all frames; xs2p: 10 % not valid",
            lambda: xs2p.deconvolve(flat, tau=TAU).values[:, valid],
            lambda a, b: f"r = {np.corrcoef(a.ravel(), b.ravel())[0, 1]:.3f}",
        ),
    }


def within(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"within {np.abs(ours - theirs).max() / np.abs(theirs).max():.1g}"


def alike(ours: xr.Dataset, theirs: dict[str, np.ndarray]) -> str:
    """How many measures there are in both, and which is furthest off."""
    off = {
        name: float(np.abs(ours[name] - values).max() / np.abs(values).max())
        for name, values in theirs.items()
    }
    worst = max(off, key=lambda name: off[name])
    return f"{len(off)} measures, within {off[worst]:.1g} ({worst})"


def side_by_side(
    works: list[Callable[[], Any]], repeats: int
) -> tuple[list[float], list[float], list[Any]]:
    """Run each once for compilation and caches, then in turn; median seconds, and results.

    Seconds are those of the clock, and those of processors: which others' work hardly lengthens.
    """
    results = [work() for work in works]
    clock: list[list[float]] = [[] for _ in works]
    processor: list[list[float]] = [[] for _ in works]
    for _ in range(repeats):
        for n, work in enumerate(works):
            start = time.perf_counter(), time.process_time()
            work()
            clock[n].append(time.perf_counter() - start[0])
            processor[n].append(time.process_time() - start[1])
    medians = [[float(np.median(own)) for own in each] for each in (clock, processor)]
    return medians[0], medians[1], results


def times(sizes: Sizes, folder: Path, only: Sequence[str] = STEPS) -> Iterator[str]:
    """Time of each step beside a plain version, and beside the movie that traces come from."""
    yield "\n### Time of each step\n"
    yield f"{sizes.frames} frames at {FS:.0f} Hz, float32 in memory. Medians of {sizes.repeats}"
    yield f"runs in turn, after one not counted; xs2p takes {cores()} cores, plain ones take one."
    yield "The second ratio is of processor time."
    columns = ("step", "ROIs", "xs2p", "plain", "ratio", "on one core", "what is plain", "results")
    yield table(*columns)
    ds = make_dataset(sizes.rois, sizes.frames)
    some = ds.isel(roi=slice(sizes.few))
    of_all, of_few = steps(ds), steps(some)
    for name in only:
        step, n_rois = (of_few[name], sizes.few) if name in SLOW else (of_all[name], sizes.rois)
        (ours, theirs), used, results = side_by_side([step.ours, step.plain], sizes.repeats)
        ratios = f"**{digits(theirs / ours)} ×**", f"{digits(used[1] / max(used[0], 1e-9))} ×"
        agreement = step.agreement(*results)
        yield row(name, n_rois, shown(ours), shown(theirs), *ratios, step.beside, agreement)
        del results
    del step, of_all, of_few
    del ds, some
    yield from beside_movie(sizes, folder, only)


def beside_movie(sizes: Sizes, folder: Path, only: Sequence[str]) -> Iterator[str]:
    """Time of each step over that to read and sum the movie, in turn."""
    n, side = sizes.of_movie, sizes.side
    path = folder / "data.bin"
    with open(path, "wb") as file:
        for start in range(0, n, 500):
            make_frames(min(500, n - start), (side, side)).tofile(file)
    movie = xs2p.open_movie(path, shape=(side, side), fs=FS)
    yield f"\nBeside the movie: {sizes.rois} ROIs × {n} frames, and the time that {THREADS} Dask"
    yield f"threads need to read {n} frames of {side} × {side} int16 from disk (its cache) and sum"
    yield "them, in turn."
    yield table("step", "xs2p", "read and sum", "ratio")

    def read() -> Any:
        return movie.sum().compute(scheduler="threads", num_workers=THREADS)

    known = steps(make_dataset(sizes.rois, n))
    for name in only:
        step = known[name]
        (ours, reading), _, _ = side_by_side([step.ours, read], sizes.repeats)
        yield row(name, shown(ours), shown(reading), f"**{digits(ours / reading)} ×**")


def table(*columns: str) -> str:
    return f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def row(*cells: Any) -> str:
    return f"| {' | '.join(f'{c:.3g}' if isinstance(c, float) else str(c) for c in cells)} |"


def digits(ratio: float) -> str:
    return f"{ratio:.0f}" if ratio >= 10 else f"{ratio:.2g}"


def shown(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.3g} ms"


CENTRED = {"dff": True, "neuropil": "centred"}
GRAPHS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("maximin, no dFF", {}),
    ("maximin, dFF", {"dff": True}),
    ("centred, maximin, dFF", CENTRED),
    ("centred, rolling_prctile, dFF", {**CENTRED, "baseline": "rolling_prctile"}),
    ("centred, inactive_median, dFF", {**CENTRED, "baseline": "inactive_median"}),
    ("centred, detrend, maximin, dFF", {**CENTRED, "detrend": "exponential"}),
    ("centred, constant, dFF", {**CENTRED, "baseline": "constant"}),
)


def graphs(sizes: Sizes) -> Iterator[str]:
    """Tasks of a movie of many trials, each a segment, beside those of one segment."""
    n_frames = sizes.trials * sizes.of_trial
    yield "\n### Graphs of many trials\n"
    yield f"{sizes.trials} trials of {sizes.of_trial} frames of 64 × 64, a chunk each, 50 ROIs;"
    yield "`extract`, lazy: seconds to build, tasks, the graph as it goes to workers, seconds to"
    yield "compute all."
    yield table("what", "segments", "build", "tasks", "tasks, optimized", "pickled", "compute")
    rois, trial = make_rois(50, (64, 64), 20.0), np.repeat(np.arange(sizes.trials), sizes.of_trial)
    for name, options in GRAPHS:
        graph(make_movie(100, (64, 64), 50), rois, None, options)  # imports and compiles
        for n_segments in dict.fromkeys((1, sizes.trials)):
            segments = None if n_segments == 1 else trial
            movie = make_movie(n_frames, (64, 64), sizes.of_trial)
            yield row(name, n_segments, *graph(movie, rois, segments, options))


def graph(
    movie: xr.DataArray, rois: xr.Dataset, segments: Any, options: dict[str, Any]
) -> tuple[str, ...]:
    """Cells of a row of the table."""
    import cloudpickle
    import dask

    start = time.perf_counter()
    ds = movie.s2p.extract(rois, tau=TAU, segments=segments, **options)
    built = time.perf_counter() - start
    tasks = len(dict(ds.__dask_graph__()))
    optimized = dict(dask.optimize(ds)[0].__dask_graph__())
    size = len(cloudpickle.dumps(optimized)) / 1e6
    start = time.perf_counter()
    ds.compute(scheduler="threads", num_workers=THREADS)
    computed = time.perf_counter() - start
    counts = (f"{tasks:,}", f"{len(optimized):,}", f"{size:.2g} MB")
    return shown(built), *counts, shown(computed)
