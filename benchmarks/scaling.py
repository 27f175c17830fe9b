"""How a run grows: memory and time against frames, workers, huge frames, what a worker needs.

python -m benchmarks.scaling

Prints the tables and draws three of them as one picture. Every number is of a new process. The
whole takes some ten minutes, and 8 GB in ``--folder``.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

SMALL, FS, TAU = (64, 64), 30.0, 1.0
THREADS = 2
WAYS = ("extract_to_zarr", "extract().to_zarr()")
MIB = 2**20
# What Dask gives every worker that a nanny starts. Without it glibc keeps what is freed, the more
# of it the more threads there are.
AS_WORKER = {"MALLOC_TRIM_THRESHOLD_": "65536"}
GREEN, ORANGE = "#009e73", "#d55e00"


def make_movie(
    n_frames: int, shape: tuple[int, int], chunk: int, tile: int | None = None
) -> xr.DataArray:
    """Frames of int16; each chunk is made when it is asked for, as a read from a disk is."""
    import dask.array as da

    sizes = da.core.normalize_chunks((chunk, *((tile,) * 2 if tile else shape)), (n_frames, *shape))
    frames = da.map_blocks(
        _make_chunk, chunks=sizes, dtype="int16", meta=np.empty((0, 0, 0), "int16")
    )
    return xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": FS})


def _make_chunk(block_info: Any = None) -> np.ndarray:
    where = block_info[None]["array-location"]
    n_frames, *shape = (stop - start for start, stop in where)
    rng = np.random.default_rng([start for start, _ in where])
    frames = np.empty((n_frames, *shape), np.int16)
    frames[:] = rng.integers(0, 1000, shape, dtype=np.int16)  # cheap: what is measured is not this
    frames += rng.integers(0, 100, (n_frames, 1, 1), dtype=np.int16)
    return frames


def make_rois(n_rois: int, shape: tuple[int, int], area: float) -> xr.Dataset:
    """Discs on a grid: cheap to make for a frame of any size."""
    import xs2p

    radius = np.sqrt(area / np.pi)
    reach = int(radius) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = y**2 + x**2 <= radius**2
    per_row = int(np.ceil(np.sqrt(n_rois)))
    stat = []
    for n in range(n_rois):
        cy, cx = ((np.array(divmod(n, per_row)) + 0.5) * np.array(shape) / per_row).astype(int)
        py, px = y[inside] + cy, x[inside] + cx
        kept = (py >= 0) & (py < shape[0]) & (px >= 0) & (px < shape[1])
        stat.append(
            {"ypix": py[kept], "xpix": px[kept], "lam": np.ones(kept.sum()), "radius": radius}
        )
    return xs2p.recompute_overlap(xs2p.rois_from_stat(stat, shape))


def peak() -> float:
    """MiB this process has had at most."""
    with contextlib.suppress(OSError):
        # What resource says begins with the size of the process that started this one.
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) / 1024
    size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return size / (MIB if sys.platform == "darwin" else 1024)


def run_frames(way: str, n_frames: int, n_rois: int, chunk: int, folder: str) -> dict[str, float]:
    """Movie to traces on disk; peak memory and seconds."""
    import xs2p

    rois = make_rois(n_rois, SMALL, 20.0)

    def once(n: int) -> float:
        movie, path = make_movie(n, SMALL, chunk), os.path.join(folder, f"{n}.zarr")
        start = time.perf_counter()
        if way == "extract_to_zarr":
            xs2p.extract_to_zarr(movie, rois, path, tau=TAU, progress=False, overwrite=True)
        else:
            ds = movie.s2p.extract(rois, tau=TAU)
            ds.to_zarr(path, mode="w", consolidated=False)
        return time.perf_counter() - start

    once(min(n_frames, 2 * chunk))  # imports and compiles
    before = peak()
    seconds = once(n_frames)
    return {"before": before, "peak": peak(), "seconds": seconds}


def run_workers(n_workers: int, path: str, n_rois: int, folder: str) -> dict[str, float]:
    """A raw movie on disk to traces on disk, by processes of one thread each."""
    from distributed import Client, LocalCluster

    import xs2p
    from benchmarks.suite.recordings import SHAPE, make_stat

    rois = xs2p.rois_from_stat(make_stat(n_rois), SHAPE)
    movie = xs2p.open_movie(path, shape=SHAPE, fs=FS)
    with (
        LocalCluster(n_workers=n_workers, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):

        def once(part: xr.DataArray) -> float:
            start = time.perf_counter()
            xs2p.extract_to_zarr(
                part,
                rois,
                os.path.join(folder, "w.zarr"),
                tau=TAU,
                progress=False,
                overwrite=True,
            )
            return time.perf_counter() - start

        once(movie)  # imports, compiles, and brings the file into the disk's cache
        seconds = [once(movie) for _ in range(3)]
        most = max(client.run(peak).values())
        parts = np.array_split(np.arange(movie.sizes["time"]), n_workers)

        def control() -> float:
            start = time.perf_counter()
            client.gather(
                [client.submit(add_up, movie[p[0] : p[-1] + 1], pure=False) for p in parts]
            )
            return time.perf_counter() - start

        control()
        alone = [control() for _ in range(3)]
    return {
        "seconds": float(np.median(seconds)),
        "peak": most,
        "frames": movie.sizes["time"],
        "alone": float(np.median(alone)),
    }


def add_up(movie: xr.DataArray) -> int:
    """Read a movie chunk by chunk, in this thread, and add it up: what workers could do at best."""
    import dask

    with dask.config.set(scheduler="synchronous"):
        return int(movie.sum().compute())


def run_mosaic(side: int, tile: int, n_frames: int, n_rois: int) -> dict[str, float]:
    """A stitched frame, cut in y and x, to spikes in memory."""
    rois = make_rois(n_rois, (side, side), 150.0)
    movie = make_movie(n_frames, (side, side), max(n_frames // 2, 1), tile)
    start = time.perf_counter()
    traces = movie.s2p.extract(rois, tau=TAU).compute()
    assert np.isfinite(traces.spks.values).all()
    return {"peak": peak(), "seconds": time.perf_counter() - start}


def run_need(
    chunk_mb: float, n_rois: int, threads: int, n_frames: int, folder: str
) -> dict[str, float]:
    """What a worker of so many threads needs beside its start, and what the formula says."""
    import dask

    import xs2p
    from benchmarks.suite.recordings import SHAPE

    chunk = max(int(chunk_mb * 1e6 / (2 * SHAPE[0] * SHAPE[1])), 1)
    rois = make_rois(n_rois, SHAPE, 60.0)
    some = make_rois(4, SHAPE, 60.0)
    options = {"tau": TAU, "progress": False, "overwrite": True}
    path = os.path.join(folder, "n.zarr")
    with dask.config.set(scheduler="threads", num_workers=threads):
        xs2p.extract_to_zarr(make_movie(8, SHAPE, 4), some, path, **options)
        before = peak()
        movie = make_movie(n_frames, SHAPE, chunk)
        xs2p.extract_to_zarr(movie, rois, path, **options)
    return {"before": before, "peak": peak() - before, "formula": need(chunk_mb, n_rois, threads)}


def need(chunk_mb: float, n_rois: int, threads: int) -> float:
    """MB that a worker needs beside a bare process (docs/running.md, Planning a big run)."""
    return 100 + threads * max(chunk_mb + 50, 0.17 * min(n_rois, 2000))


def run_rates(side: int, n_rois: int, n_frames: int, folder: str) -> dict[str, float]:
    """Seconds that two threads need for a frame in memory, and for a sample from F to disk."""
    import dask.array as da

    import xs2p

    rois = make_rois(n_rois, (side, side), 80.0)
    frames = np.random.default_rng(0).integers(0, 1000, (64, side, side), dtype=np.int16)
    sizes = ((64,) * max(n_frames // 64, 1), (side,), (side,))
    movie = xr.DataArray(
        # The same frames each time, from memory: what is measured is the work on them.
        da.map_blocks(lambda: frames, chunks=sizes, dtype="int16", meta=frames[:0]),
        dims=("time", "y", "x"),
        attrs={"fs": FS},
    )
    masks = xs2p.build_masks(rois)
    xs2p.extract_traces(movie[:128], masks).compute()
    start = time.perf_counter()
    xs2p.extract_traces(movie, masks).compute()
    extraction = time.perf_counter() - start
    start = time.perf_counter()
    ds = xs2p.extract_to_zarr(
        movie, rois, os.path.join(folder, "r.zarr"), tau=TAU, progress=False, overwrite=True
    )
    rest = time.perf_counter() - start - extraction
    return {"frame": extraction / movie.sizes["time"], "sample": rest / ds.F.size}


def run_store(side: int, n_rois: int, n_frames: int, folder: str) -> dict[str, float]:
    """Files of a store of many ROIs; one of them over all time, and all in a second, read."""
    import xs2p

    path = os.path.join(folder, "s.zarr")
    # Of a size that leaves most of them pixels of their own.
    rois = make_rois(n_rois, (side, side), 0.4 * side**2 / n_rois)
    movie = make_movie(n_frames, (side, side), min(256, n_frames))
    ds = xs2p.extract_to_zarr(movie, rois, path, tau=TAU, progress=False, overwrite=True)
    files = [name for _, _, found in os.walk(path) for name in found]

    def seconds(**part: Any) -> float:
        took = []
        for _ in range(5):
            start = time.perf_counter()
            xr.open_zarr(path)[["F", "spks"]].isel(part).load()
            took.append(time.perf_counter() - start)
        return float(np.median(took))

    second = slice(n_frames // 2, n_frames // 2 + int(FS))
    return {
        "files": len(files),
        "mb": sum(ds[name].nbytes for name in ds.data_vars) / 1e6,
        "one": seconds(roi=n_rois // 2),
        "all": seconds(time=second),
    }


def plan_run(rates: dict[str, float], n_workers: int, gb_per_s: float) -> tuple[float, float]:
    """Hours of 10^6 frames of 1024 × 1024 and 10,000 ROIs: until F, and from F to spikes.

    What takes longer counts, the workers' own time or the storage, which all of them share.
    """
    n_frames, n_rois = 10**6, 10_000
    movie, variable = 2 * n_frames * 1024**2 / 1e9, 4 * n_frames * n_rois / 1e9
    return (
        max(n_frames * rates["frame"] / n_workers, (movie + 2 * variable) / gb_per_s) / 3600,
        max(n_frames * n_rois * rates["sample"] / n_workers, 5 * variable / gb_per_s) / 3600,
    )


RUNS: dict[str, Callable[..., dict[str, float]]] = {
    "frames": run_frames,
    "workers": run_workers,
    "mosaic": run_mosaic,
    "need": run_need,
    "rates": run_rates,
    "store": run_store,
}


def in_new_process(name: str, *arguments: Any, **environ: str) -> dict[str, float]:
    """Call one of ``RUNS`` in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling", "--child", json.dumps([name, *arguments])],
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        env={**os.environ, **environ},
    )
    if done.returncode:
        raise SystemExit(f"{name} {arguments} failed:\n{done.stderr}")
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def table(header: str, rows: list[tuple[Any, ...]]) -> None:
    """Print a table in Markdown."""
    columns = [column.strip() for column in header.split("|")]
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")
    for row in rows:
        print(f"| {' | '.join(str(cell) for cell in row)} |")
    sys.stdout.flush()


def draw(
    path: str,
    frames: dict[str, list[tuple[int, dict[str, float]]]],
    workers: list[tuple[int, dict[str, float]]],
) -> None:
    """Peak memory against frames, time against frames, frames per second against workers."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (memory, seconds, speed) = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for (way, runs), colour, marker in zip(frames.items(), (GREEN, ORANGE), "os", strict=True):
        n = [n for n, _ in runs]
        memory.plot(n, [r["peak"] for _, r in runs], marker + "-", color=colour, label=way)
        memory.plot(
            n,
            [r["as_worker"] for _, r in runs],
            marker + "--",
            color=colour,
            markerfacecolor="white",
            label=f"{way}, as a worker",
        )
        seconds.plot(n, [r["seconds"] for _, r in runs], marker + "-", color=colour, label=way)
    n, first = np.array([n for n, _ in runs]), runs[-1]
    seconds.plot(n, first[1]["seconds"] * n / first[0], ":", color="0.4", label="in proportion")
    memory.set(xscale="log", ylabel="peak memory of the process (MiB)")
    memory.set_ylim(0, 1.7 * max(r["peak"] for runs in frames.values() for _, r in runs))
    seconds.set(xscale="log", yscale="log", ylabel="time (s)")
    for axes in (memory, seconds):
        axes.set_xlabel(f"frames of {SMALL[0]} × {SMALL[1]} pixels")
        axes.legend(frameon=False)
    rate = [r["frames"] / r["seconds"] for _, r in workers]
    count = [n for n, _ in workers]
    speed.plot(count, rate, "o-", color=GREEN, label="measured")
    speed.plot(count, rate[0] * np.array(count) / count[0], ":", color="0.4", label="in proportion")
    speed.set(xlabel="workers of one thread", ylabel="frames/s (512 × 512)", ylim=0)
    speed.set_xticks(count)
    speed.legend(frameon=False)
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> None:
    """Print the tables and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[5_000, 50_000, 500_000])
    parser.add_argument("--rois", type=int, default=50)
    parser.add_argument("--chunk", type=int, default=2000, help="frames in a chunk")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--worker-frames", type=int, default=12_000)
    parser.add_argument("--side", type=int, default=10_000, help="of the mosaic, in pixels")
    parser.add_argument("--tile", type=int, default=1024)
    parser.add_argument("--mosaic-frames", type=int, default=32)
    parser.add_argument("--mosaic-rois", type=int, default=5_000)
    parser.add_argument("--need", default="[[64,1000,2],[128,1000,1],[128,1000,2],[128,5000,2]]",
                        help="JSON: MB of a chunk, ROIs, threads")  # fmt: skip
    parser.add_argument("--need-frames", type=int, default=40_000)
    parser.add_argument("--rates-side", type=int, default=1024)
    parser.add_argument("--rates-rois", type=int, default=10_000)
    parser.add_argument("--rates-frames", type=int, default=24_000)
    parser.add_argument("--store-rois", type=int, default=10_000)
    parser.add_argument("--store-frames", type=int, default=4_000)
    parser.add_argument("--folder", help="where to write; a temporary one unless given")
    parser.add_argument("--picture", default="scaling.png")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*ROIs lack a mask")
    if options.child:
        import dask

        name, *rest = json.loads(options.child)
        with dask.config.set(num_workers=THREADS):
            print(json.dumps(RUNS[name](*rest)))
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        report(options, folder)


def report(options: argparse.Namespace, folder: str) -> None:
    """Run everything and say it."""
    frames = {
        way: [
            (
                n,
                {
                    **in_new_process("frames", *arguments),
                    "as_worker": in_new_process("frames", *arguments, **AS_WORKER)["peak"],
                },
            )
            for n in options.frames
            for arguments in [(way, n, options.rois, options.chunk, folder)]
        ]
        for way in WAYS
    }
    print(f"{THREADS} threads, {options.rois} ROIs, {SMALL[0]} × {SMALL[1]}, int16; MiB")
    table(
        "way | frames | before | peak | peak as a worker | s | frames/s",
        [
            (way, f"{n:,}", f"{r['before']:.0f}", f"{r['peak']:.0f}", f"{r['as_worker']:.0f}",
             f"{r['seconds']:.1f}", f"{n / r['seconds']:,.0f}")
            for way, runs in frames.items()
            for n, r in runs
        ],
    )  # fmt: skip
    from benchmarks.suite.recordings import make_stat, write_movie

    path = os.path.join(folder, "movie.bin")
    n_rois = max(options.rois, 20)
    write_movie(path, make_stat(n_rois), options.worker_frames)
    workers = [(n, in_new_process("workers", n, path, n_rois, folder)) for n in options.workers]
    os.unlink(path)
    print(f"\n{options.worker_frames} frames of 512 × 512 from a .bin, {n_rois} ROIs")
    table(
        "workers | s | frames/s | times as fast | reading and adding up alone | peak of a worker",
        [
            (n, f"{r['seconds']:.2f}", f"{r['frames'] / r['seconds']:,.0f}",
             f"{workers[0][1]['seconds'] / r['seconds']:.2f}",
             f"{workers[0][1]['alone'] / r['alone']:.2f}", f"{r['peak']:.0f}")
            for n, r in workers
        ],
    )  # fmt: skip
    size = (options.side, options.tile, options.mosaic_frames, options.mosaic_rois)
    mosaic = in_new_process("mosaic", *size)
    print(f"\nframes of {size[0]} × {size[0]} in tiles of {size[1]}²")
    table(
        "frames | ROIs | peak of the process | s",
        [(size[2], size[3], f"{mosaic['peak']:.0f}", f"{mosaic['seconds']:.1f}")],
    )
    print("\nextract_to_zarr beside a bare process, and what the formula says")
    needs = [
        (case, in_new_process("need", *case, options.need_frames, folder))
        for case in json.loads(options.need)
    ]
    table(
        "chunk, MB | ROIs | threads | measured | formula",
        [(*case, f"{r['peak']:.0f}", f"{r['formula']:.0f}") for case, r in needs],
    )
    size = (options.rates_side, options.rates_rois, options.rates_frames)
    rates = in_new_process("rates", *size, folder)
    print(
        f"\ntwo threads, {size[0]}² pixels, {size[1]} ROIs: "
        f"{1 / rates['frame']:,.0f} frames/s from memory to F and Fneu; "
        f"{1e-6 / rates['sample']:.1f} M samples/s from there to F0 and spikes on disk\n\n"
        "2 TB (10^6 frames of 1024 × 1024, 10,000 ROIs), workers of two threads, calculated"
    )
    table(
        "workers | storage, GB/s | hours to F | hours to spikes | all",
        [
            (n, speed, *(f"{hours:.2f}" for hours in (*plan, sum(plan))))
            for n in (1, 16, 64)
            for speed in (0.5, 2, 10)
            for plan in [plan_run(rates, n, speed)]
        ],
    )
    store = (min(options.rates_side, 512), options.store_rois, options.store_frames, folder)
    r = in_new_process("store", *store)
    print(f"\na store of {store[1]:,} ROIs and {store[2]:,} frames; F and spks, opened and read")
    table(
        "files | MB of traces | one ROI over all time, ms | all ROIs in a second, ms",
        [(r["files"], f"{r['mb']:.0f}", f"{1e3 * r['one']:.0f}", f"{1e3 * r['all']:.0f}")],
    )
    draw(options.picture, frames, workers)
    print(f"\ndrawn: {options.picture}")


if __name__ == "__main__":
    main()
