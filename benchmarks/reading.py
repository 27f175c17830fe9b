"""What reading costs beside the work: small chunks, and formats beside decoding them alone.

python -m benchmarks.reading
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.scaling import make_rois, table
from benchmarks.suite.recordings import FS, TAU, make_frames

THREADS = 2
DIMS = ("time", "y", "x")


def in_turn(works: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median seconds of the clock and of the processor, of works that take turns."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for n in range(repeats + 1):
        for name, work in works.items():
            start, busy = time.perf_counter(), time.process_time()
            work()
            took = time.perf_counter() - start, time.process_time() - busy
            if n:
                times[name].append(took)
    return {name: tuple(np.median(each, 0).tolist()) for name, each in times.items()}  # type: ignore[misc]


def small_chunks(n_frames: int, side: int, n_rois: int, repeats: int, folder: str) -> None:
    """A file for each frame, as one chunk each and as 2000 together."""
    import dask.array as da

    frames = make_frames(n_frames, (side, side))
    paths = np.array([os.path.join(folder, f"{n:06d}.npy") for n in range(n_frames)])
    for path, frame in zip(paths, frames, strict=True):
        np.save(path, frame[None])
    rois = make_rois(n_rois, (side, side), 60.0)

    def read(names: np.ndarray) -> np.ndarray:
        return np.concatenate([np.load(name) for name in names.ravel()])

    def movie(chunk: int, reads: Any) -> xr.DataArray:
        names = da.from_array(paths[:, None, None], chunks=(chunk, 1, 1))
        data = da.map_blocks(
            reads, names, chunks=(names.chunks[0], (side,), (side,)), dtype=frames.dtype,
            meta=frames[:0],
        )  # fmt: skip
        return xr.DataArray(data, dims=DIMS, attrs={"fs": FS})

    def in_memory(names: np.ndarray) -> np.ndarray:
        return frames[: len(names)]

    def work(chunk: int, reads: Any) -> Callable[[], Any]:
        return lambda: movie(chunk, reads).s2p.extract(rois, tau=TAU).compute()

    many = min(2000, n_frames)
    took = in_turn(
        {
            "read, 1": work(1, read),
            "read, many": work(many, read),
            "made, 1": work(1, in_memory),
            "made, many": work(many, in_memory),
        },
        repeats,
    )
    print(f"\n{n_frames:,} frames of {side} × {side} int16, {n_rois} ROIs, built and computed")
    rows = []
    for where, name in (("a file each", "read"), ("in memory", "made")):
        one, more = took[f"{name}, 1"], took[f"{name}, many"]
        rows.append((where, *(f"{s:.2f}" for s in (*one, *more)), f"**{one[1] / more[1]:.1f} ×**"))
    table(f"frames | chunks of 1, s | of the cores | of {many}, s | of the cores | ratio", rows)


def packed_movies(frames: np.ndarray, folder: str) -> dict[str, str]:
    """Write frames in formats that are to be unpacked; their paths by name."""
    import h5py
    import zarr

    chunks = (50, 512, 512)
    options: dict[str, dict[str, Any]] = {
        "HDF5, plain, chunks of 50": {"chunks": chunks},
        "HDF5, gzip, chunks of 50": {"chunks": chunks, "compression": "gzip"},
        "HDF5, gzip and shuffle, h5py's own chunks": {"compression": "gzip", "shuffle": True},
    }
    paths = {}
    for n, (name, how) in enumerate(options.items()):
        paths[name] = os.path.join(folder, f"{n}.h5")
        with h5py.File(paths[name], "w") as file:
            file.create_dataset("mov", data=frames, **how)
    path = paths["Zarr, blosc lz4, chunks of 100"] = os.path.join(folder, "a.zarr")
    codec = zarr.codecs.BloscCodec(cname="lz4")
    zarr.create_array(path, data=frames, chunks=(100, 512, 512), compressors=[codec])
    return paths


def formats(n_frames: int, n_rois: int, repeats: int, folder: str) -> None:
    """Packed movies: unpacked alone, and all of ``extract``; HDF5 by its library's lock beside."""
    import xs2p
    from xs2p.movie import hdf5

    rois = make_rois(n_rois, (512, 512), 60.0)
    rows, here = [], hdf5.read_chunks
    paths = packed_movies(make_frames(n_frames, (512, 512)), folder)

    def work(path: str, extracted: bool, locked: bool) -> Callable[[], None]:
        def run() -> None:
            hdf5.read_chunks = (lambda *_: None) if locked else here
            movie = xs2p.open_movie(path, fs=FS)
            if extracted:
                movie.s2p.extract(rois, tau=TAU).compute()
            else:
                movie.data.map_blocks(lambda block: block[:1, :1, :1].copy()).compute()

        return run

    for name, path in paths.items():
        works = {"alone": work(path, False, False), "all": work(path, True, False)}
        if name.startswith("HDF5"):
            works["alone, locked"] = work(path, False, True)
            works["all, locked"] = work(path, True, True)
        took = in_turn(works, repeats)
        hdf5.read_chunks = here
        alone, whole = took["alone"], took["all"]
        row = [f"{alone[0]:.2f}", f"{whole[0]:.2f}", f"**{whole[0] / alone[0]:.2f} ×**"]
        row += [f"{whole[1] / alone[1]:.2f} ×", "–", "–", "–"]
        if "all, locked" in took:
            by_library = took["alone, locked"][0], took["all, locked"][0]
            row[-3:] = [*(f"{s:.2f}" for s in by_library), f"{by_library[1] / whole[0]:.2f} ×"]
        rows.append((name, *row))
    print(f"\n{n_frames:,} frames of 512 × 512 int16, {n_rois} ROIs, {THREADS} threads")
    table(
        "format | unpacked alone, s | movie to spikes, s | ratio | of the cores | unpacked by the "
        "library, s | all of it, s | so many times as fast",
        rows,
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    import dask

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=20_000)
    parser.add_argument("--side", type=int, default=64)
    parser.add_argument("--rois", type=int, default=50)
    parser.add_argument("--packed-frames", type=int, default=2000)
    parser.add_argument("--packed-rois", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--folder", help="where to write; a temporary one unless given")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*ROIs lack a mask")
    with dask.config.set(num_workers=THREADS):
        with tempfile.TemporaryDirectory(dir=options.folder) as folder:
            small_chunks(options.frames, options.side, options.rois, options.repeats, folder)
            formats(options.packed_frames, options.packed_rois, options.repeats, folder)


if __name__ == "__main__":
    main()
