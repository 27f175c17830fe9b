"""From ``import xs2p`` to the first result of the demo, in new processes.

python -m benchmarks.first_call
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

import numpy as np

IMPORTS = "import xarray, dask.array, zarr, numba"
RESULT = """
import xs2p
xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0).compute()
"""
CLOCK = "import time; start = time.perf_counter()\n{}\nprint(time.perf_counter() - start)"


def seconds(code: str, cache: str) -> float:
    """Run code in a new process that keeps numba's cache in a folder; its own time."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": cache}
    command = [sys.executable, "-W", "ignore", "-c", CLOCK.format(code)]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def main(arguments: list[str] | None = None) -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args(arguments).repeats
    times: dict[str, list[float]] = {"imports": [], "without": [], "with": []}
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            times["imports"].append(seconds(IMPORTS, cache))
            times["without"].append(seconds(RESULT, cache))
            times["with"].append(seconds(RESULT, cache))
    median = {name: float(np.median(values)) for name, values in times.items()}
    print("| new process, median | s |\n|---|---|")
    print(f"| import of xarray, dask, zarr and numba alone | {median['imports']:.2f} |")
    print(f"| first result, nothing in numba's cache | {median['without']:.2f} |")
    print(f"| first result, kernels in numba's cache | {median['with']:.2f} |")


if __name__ == "__main__":
    main()
