"""Extraction of many ROIs with neuropil beside reading the movie and adding it up.

python -m benchmarks.many_rois
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from typing import Any

from benchmarks.reading import THREADS, in_turn
from benchmarks.scaling import table
from benchmarks.suite.recordings import FS, make_frames, make_stat

# ROIs, rows and columns of a frame, frames.
SIZES = ((3000, 512, 2048), (10_000, 1024, 1024))


def write_frames(path: str, n_frames: int, side: int) -> None:
    """Write a raw file of the same 64 frames again and again."""
    frames = make_frames(min(n_frames, 64), (side, side))
    with open(path, "wb") as file:
        for start in range(0, n_frames, len(frames)):
            file.write(frames[: n_frames - start].tobytes())


def measure(
    n_rois: int, side: int, n_frames: int, repeats: int, folder: str
) -> list[tuple[str, ...]]:
    """Rows of one movie, each work beside reading and adding up."""
    import xs2p

    path = os.path.join(folder, "movie.raw")
    write_frames(path, n_frames, side)
    chunk = max(1, min(n_frames, 2**27 // (2 * side * side)))  # 128 MiB
    movie = xs2p.open_movie(path, shape=(side, side), dtype="int16", fs=FS, chunks=chunk)
    rois = xs2p.rois_from_stat(make_stat(n_rois, (side, side)), (side, side))
    masks = xs2p.build_masks(rois)
    store = os.path.join(folder, "traces.zarr")

    def to_disk() -> Any:
        return xs2p.extract_to_zarr(movie, rois, store, overwrite=True, progress=False)

    works = {
        "reading": lambda: movie.data.map_blocks(lambda b: b[:, :1, :1].copy()).compute(),
        "reading and adding up": lambda: movie.data.sum(dtype="int64").compute(),
        "extraction": lambda: xs2p.extract_traces(movie, masks).compute(),
        "extraction to disk": to_disk,
    }
    took = in_turn(works, repeats)
    clock, busy = took["reading and adding up"]
    os.remove(path)
    return [
        (
            f"{n_rois:,} ROIs, {side}², {n_frames} frames",
            work,
            f"{1e6 * each[0] / n_frames:.0f}",
            f"{1e6 * each[1] / n_frames:.0f}",
            f"**{each[0] / clock:.2f} ×**",
            f"{each[1] / busy:.2f} ×",
        )
        for work, each in took.items()
    ]


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    import dask

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--toy", action="store_true", help="tiny sizes: only to see it run")
    parser.add_argument("--folder", help="where to write; a temporary one unless given")
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore", message=".*ROIs lack a mask")
    sizes = ((20, 64, 40),) if options.toy else SIZES
    rows: list[tuple[str, ...]] = []
    with (
        dask.config.set(num_workers=THREADS),
        tempfile.TemporaryDirectory(dir=options.folder) as folder,
    ):
        for size in sizes:
            rows += measure(*size, options.repeats, folder)
    print(f"int16 from a raw file in the system's cache, {THREADS} threads; medians in turn\n")
    table(
        "movie | work | µs a frame | of the cores | over reading and adding up | of the cores", rows
    )


if __name__ == "__main__":
    main()
