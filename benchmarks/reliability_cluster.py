"""Runs on a cluster of which parts die: what is lost, and what the store is in the end.

python -m benchmarks.reliability_cluster [--runs 50] prints the rows of RESULTS.md, section
"Reliability: clusters".
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import dask

import xs2p
from benchmarks.store_files import files
from xs2p.testing import simulate

FS, SHAPE, N, CHUNK = 10.0, (40, 44), 400, 10
OPTIONS = {
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "win_baseline": 1.0,
    "sig_baseline": 2.0,
    "frames_per_region": 40,
    "progress": False,
}
SLOW = 0.05  # seconds that a chunk takes, so that a run has a middle


def slow(block, seconds):
    time.sleep(seconds)
    return block


def inputs(folder, seconds=SLOW):
    """Open the movie, on a slow disk, and the ROIs."""
    movie = xs2p.open_movie(folder / "data.bin", shape=SHAPE, fs=FS, chunks=CHUNK)
    movie = movie.copy(data=movie.data.map_blocks(slow, seconds, dtype=movie.dtype))
    return movie, xs2p.read_rois(folder / "rois.zarr")


def prepared(folder):
    """Write the recording, and the store of a run that nothing happened to."""
    movie, rois, _ = simulate(8, SHAPE, N, fs=FS)
    movie.values.astype("<i2").tofile(folder / "data.bin")
    xs2p.write_rois(rois, folder / "rois.zarr")
    with dask.config.set(scheduler="threads"):
        xs2p.extract_to_zarr(*inputs(folder), folder / "whole.zarr", **OPTIONS)
    return files(folder / "whole.zarr")


def extracted(folder, path, most=20):
    """Run, and resume until it is done; how often it failed, and with which errors."""
    errors = []
    for _ in range(most):
        try:
            xs2p.extract_to_zarr(*inputs(folder), path, resume=True, **OPTIONS)
            return errors
        except Exception as error:  # counted
            errors.append(f"{type(error).__name__}: {str(error)[:90]}")
    raise RuntimeError(f"{path} was not done after {most} tries: {errors[-1]}")


def pids(cluster):
    """Processes of the workers, as their nannies know them."""
    return [nanny.pid for nanny in cluster.workers.values() if nanny.pid]


def killing(cluster, stop, choose, kills):
    """Kill a worker now and then; its nanny starts another.

    Only where all have come up since the last one: a nanny gives up on one that dies at its start.
    """
    last = frozenset()
    while not stop.wait(choose.uniform(0.2, 3.0)):
        there = frozenset(cluster.scheduler.workers)
        if len(there) < len(cluster.workers) or there == last:
            continue
        try:
            os.kill(choose.choice(pids(cluster)), signal.SIGKILL)
        except ProcessLookupError:
            continue
        kills.append(time.monotonic())
        last = there


def killed_at_random(cluster, folder, whole, runs, seed):
    """Run again and again while workers are killed."""
    choose, kills, failed, same = random.Random(seed), [], 0, 0
    for n in range(runs):
        stop, path = threading.Event(), folder / f"killed{n}.zarr"
        thread = threading.Thread(target=killing, args=(cluster, stop, choose, kills))
        thread.start()
        try:
            failed += len(extracted(folder, path))
        finally:
            stop.set()
            thread.join()
        same += files(path) == whole
    row("workers killed at random", runs, len(kills), failed, same)


def full_disk(client, folder, whole):
    """Let one worker write no files, as where its disk is full; then let it again."""

    import resource

    worker = sorted(client.scheduler_info()["workers"])[0]
    client.submit(limit_files, 100, workers=[worker], pure=False).result()
    path = folder / "full.zarr"
    try:
        xs2p.extract_to_zarr(*inputs(folder), path, **OPTIONS)
        failed = 0
    except OSError as error:
        failed = 1
        print(f"  a full disk says: {type(error).__name__}: {error}", file=sys.stderr)
    client.submit(limit_files, resource.RLIM_INFINITY, workers=[worker], pure=False).result()
    failed += len(extracted(folder, path))
    row("a worker whose disk is full", 1, 1, failed, int(files(path) == whole))


def limit_files(size):
    """Bound the size of files that this process writes."""
    import resource

    # From another thread than the main one signals cannot be set; Python ignores this one already.
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


def scaled_down(cluster, client, folder, whole):
    """Let the cluster lose all workers but one in the middle of a run."""
    path = folder / "scaled.zarr"
    timer = threading.Timer(1.0, lambda: cluster.scale(1))
    timer.start()
    failed = len(extracted(folder, path))
    timer.join()
    left = len(client.scheduler_info()["workers"])
    row(f"scaled down to {left} in mid-run", 1, 1, failed, int(files(path) == whole))


def adaptive(cluster, client, folder, whole):
    """Let the cluster grow and shrink by itself from run to run."""
    cluster.adapt(minimum=1, maximum=3, interval="200ms", wait_count=1)
    failed, same = 0, 0
    for n in range(5):
        path = folder / f"adaptive{n}.zarr"
        failed += len(extracted(folder, path))
        same += files(path) == whole
    row("adaptive, 1 to 3 workers", 5, 0, failed, same)


def scheduler_dies(folder, whole):
    """Kill the scheduler in the middle; go on with threads of this process."""
    from distributed import Client

    address = folder / "scheduler.json"
    dask_command = [sys.executable, "-m", "distributed.cli.dask_scheduler"]
    started = [
        subprocess.Popen(
            [*dask_command, "--scheduler-file", str(address), "--port", "0", "--no-dashboard"],
            stderr=subprocess.DEVNULL,
        )
    ]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--scheduler-file", str(address)]
    started.append(
        subprocess.Popen(
            [*worker, "--nthreads", "2", "--no-dashboard", "--death-timeout", "5"],
            stderr=subprocess.DEVNULL,
        )
    )
    path, failed = folder / "scheduler.zarr", 0
    try:
        while not address.exists():
            time.sleep(0.1)
        with Client(scheduler_file=str(address), timeout=10) as client:  # it looks for it as long
            client.wait_for_workers(1, timeout=60)
            partial = folder / "scheduler.partial.zarr"
            timer = threading.Thread(target=kill_when, args=(started[0], partial))
            timer.start()
            try:
                # Slower, so that it is in the middle whatever else the machine does.
                xs2p.extract_to_zarr(*inputs(folder, 6 * SLOW), path, **OPTIONS)
            except BaseException as error:
                failed = 1
                print(f"  without a scheduler: {type(error).__name__}: {error}", file=sys.stderr)
            timer.join()
    except Exception as error:  # closing what is no longer there
        print(f"  closing: {type(error).__name__}", file=sys.stderr)
    finally:
        for process in started:
            process.kill()
            process.wait()
    with dask.config.set(scheduler="threads"):
        failed += len(extracted(folder, path))
    row("the scheduler dies", 1, 1, failed, int(files(path) == whole))


def kill_when(process, partial):
    """Kill a process once some regions are on disk."""
    from xs2p.pipeline.regions import done_regions

    while True:
        time.sleep(0.05)
        try:
            done = done_regions(str(partial), 0)
        except Exception:  # it is not there yet
            continue
        if done is None or done.sum() >= 2:
            process.kill()
            return


def row(what, runs, blows, failed, same):
    print(f"| {what} | {runs} | {blows} | {failed} | {same} of {runs} |", flush=True)


def main(args: list[str] | None = None) -> None:
    """Print a table of all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(args or [])
    from distributed import Client, LocalCluster

    faulthandler.register(signal.SIGUSR1)
    print("| what happens | runs | blows | failed and resumed | same store in the end |")
    print("|---|---|---|---|---|", flush=True)
    settings = {
        "distributed.scheduler.allowed-failures": 3,
        "distributed.comm.retry.count": 1,
        # A worker that takes longer to come back is given up, and nothing takes its place.
        "distributed.deploy.lost-worker-timeout": "1h",
    }
    with tempfile.TemporaryDirectory() as name, dask.config.set(settings):
        folder = Path(name)
        whole = prepared(folder)
        with (
            LocalCluster(
                n_workers=3, threads_per_worker=1, dashboard_address=None, silence_logs=50
            ) as cluster,
            Client(cluster) as client,
        ):
            killed_at_random(cluster, folder, whole, given.runs, given.seed)
            client.wait_for_workers(3)
            full_disk(client, folder, whole)
            scaled_down(cluster, client, folder, whole)
            adaptive(cluster, client, folder, whole)
        scheduler_dies(folder, whole)


if __name__ == "__main__":
    main(sys.argv[1:])
