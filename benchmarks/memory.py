"""Peak memory of an extraction against its chunks: one new process a dtype.

python -m benchmarks.memory
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

IN_FILE = "int16 in a file"
DTYPES = ("uint8", "int16", IN_FILE, "float32", ">i2", "float16")
THREADS = 2
MIB = 2**20


def measure(dtype: str, n_rois: int, n_frames: int, chunk: int, folder: Path) -> dict[str, float]:
    """Extract a movie in this process: MiB of a chunk, and at the peak beside the start."""
    import dask.array as da
    import xarray as xr

    import xs2p
    from benchmarks.suite.recordings import SHAPE, make_stat

    rois = xs2p.rois_from_stat(make_stat(n_rois), SHAPE)
    masks = xs2p.build_masks(rois)

    def movie(n: int) -> xr.DataArray:
        if dtype == IN_FILE:
            path = folder / f"{n}.bin"
            with open(path, "wb") as file:
                for _ in range(n):
                    file.write(np.full(SHAPE, 7, np.int16))
            return xs2p.open_movie(path, shape=SHAPE, chunks=chunk)
        frames = da.zeros((n, *SHAPE), dtype=dtype, chunks=(chunk, *SHAPE))
        # Each chunk anew and written to, as a read from disk is.
        frames = frames.map_blocks(lambda block: np.full(block.shape, 7, block.dtype))
        return xr.DataArray(frames, dims=("time", "y", "x"))

    def peak() -> float:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (
            MIB if sys.platform == "darwin" else 1024
        )

    xs2p.extract_traces(movie(4), masks).compute(num_workers=THREADS)
    before = peak()
    traces = xs2p.extract_traces(movie(n_frames), masks).compute(num_workers=THREADS)
    own = 2 * traces.nbytes / MIB  # in blocks, and joined
    return {
        "chunk": chunk * SHAPE[0] * SHAPE[1] * np.dtype(dtype.split()[0]).itemsize / MIB,
        "peak": peak() - before,
        "traces": own,
    }


def main(arguments: list[str] | None = None) -> None:
    """Print a line for each dtype."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rois", type=int, default=1000)
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--chunk", type=int, default=250)
    parser.add_argument("--dtypes", nargs="+", default=DTYPES)
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    sizes = (options.rois, options.frames, options.chunk)
    if options.child:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(options.child, *sizes, Path(folder))))
        return
    print(f"{sizes[0]} ROIs, {sizes[1]} frames of 512 × 512, {THREADS} threads; MiB\n")
    print("| movie | a chunk | peak beside the start | of it the traces | a thread, beside chunk |")
    print("|---|---|---|---|---|")
    for dtype in options.dtypes:
        command = [sys.executable, "-W", "ignore", "-m", "benchmarks.memory", "--child", dtype]
        command += [
            f"--{name}={n}" for name, n in zip(("rois", "frames", "chunk"), sizes, strict=True)
        ]
        done = subprocess.run(
            command, cwd=Path(__file__).parent.parent, check=True, capture_output=True, text=True
        )
        found = json.loads(done.stdout.splitlines()[-1])
        beside = (found["peak"] - found["traces"]) / THREADS - found["chunk"]
        cells = (found["chunk"], found["peak"], found["traces"], beside)
        print(f"| {dtype} | {' | '.join(f'{value:.0f}' for value in cells)} |", flush=True)


if __name__ == "__main__":
    main()
