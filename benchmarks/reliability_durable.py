"""What it costs that everything is on disk before it is marked."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

import numpy as np

import xs2p
from xs2p.testing import simulate


def main(repeats: int = 3, folder: str | None = None) -> None:
    """Print seconds with and without, in turn, of one movie in memory: nothing waits for reads."""
    movie, rois, _ = simulate(200, (256, 256), 4000, fs=30.0, chunks=200)
    movie = movie.compute()
    times: dict[bool, list[float]] = {True: [], False: []}
    with tempfile.TemporaryDirectory(dir=folder or os.getcwd()) as name:
        for turn in range(repeats + 1):
            for durable in times:
                began = time.perf_counter()
                xs2p.extract_to_zarr(
                    movie,
                    rois,
                    Path(name) / "a.zarr",
                    overwrite=True,
                    durable=durable,
                    tau=1.0,
                    frames_per_region=400,
                    progress=False,
                )
                if turn:  # the first of them compiles
                    times[durable].append(time.perf_counter() - began)
    synced, not_synced = (float(np.median(times[durable])) for durable in (True, False))
    print("| 200 ROIs, 4,000 frames of 256 x 256 in memory, 10 regions | s |\n|---|---|")
    print(f"| durable, median of {repeats} | {synced:.2f} |")
    print(f"| durable=False | {not_synced:.2f} |")
    print(f"| ratio | {synced / not_synced:.2f} |")


if __name__ == "__main__":
    main()
