"""Runs that are killed at random, and go on: what is lost, and whether the end is the same."""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.store_files import files

SCRIPT = """
import functools, sys, time
import xs2p
from xs2p.pipeline import regions
from xs2p.testing import simulate
movie, rois, _ = simulate(8, (40, 44), 600, fs=10.0, chunks=50)
plain = regions._write_block
@functools.wraps(plain)
def slow(*args, **kwargs):
    time.sleep(0.05)
    return plain(*args, **kwargs)
regions._write_block = slow
print("ready", flush=True)
xs2p.extract_to_zarr(
    movie, rois, sys.argv[1], resume=True, wait=60, verify=True, tau=0.1, dff=True,
    min_neuropil_pixels=50, win_baseline=1.0, frames_per_region=100, progress=False,
)
"""


def start(store: Path) -> subprocess.Popen[str]:
    """Start a run, and wait until it begins."""
    command = [sys.executable, "-W", "error", "-c", SCRIPT, str(store)]
    # What it says of locks that are taken over goes nowhere.
    run = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, bufsize=1
    )
    assert run.stdout is not None
    run.stdout.readline()
    return run


def main(runs: int = 10, two: bool = True) -> None:
    """Kill runs at random, where two at once write one store; print what came of it."""
    choose = random.Random(0)
    with tempfile.TemporaryDirectory() as name:
        whole = Path(name) / "whole.zarr"
        start(whole).communicate()
        expected = files(whole)
        kills = same = begun = 0
        for number in range(runs):
            store = Path(name) / f"{number}.zarr"
            while not store.exists():
                at_once = [start(store) for _ in range(1 + (two and number % 2))]
                begun += len(at_once)
                time.sleep(choose.uniform(0.05, 1.5))
                if choose.random() < 0.8:
                    at_once[0].send_signal(signal.SIGKILL)
                ends = [run.wait() for run in at_once]
                kills += ends.count(-signal.SIGKILL)
                for run in at_once:
                    run.stdout.close()  # type: ignore[union-attr]
            same += files(store) == expected
        left = sorted(set(os.listdir(name)) - {"whole.zarr", *(f"{n}.zarr" for n in range(runs))})
    print("| SIGKILL at random | |\n|---|---|")
    print(f"| processes, on every other store two at once | {begun} |")
    print(f"| of them killed | {kills} |")
    print(f"| stores that came out the same, to the last byte | {same} of {runs} |")
    print(f"| files left beside them | {len(left)} {left if left else ''}|")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=10)
    main(parser.parse_args().runs)
