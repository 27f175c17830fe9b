"""As many threads as this process was given cores, not as the machine has."""

from __future__ import annotations

import concurrent.futures
import os
import subprocess
import sys

import dask
import dask.system
import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.compute.threads import cores, in_threads


@pytest.fixture
def pools(monkeypatch):
    """Sizes of the thread pools that are made, on a node of 128 cores of which 3 are allotted."""
    sizes = []

    class Pool(concurrent.futures.ThreadPoolExecutor):
        def __init__(self, max_workers=None, **options):
            sizes.append(max_workers)
            super().__init__(max_workers, **options)

    monkeypatch.setattr(concurrent.futures, "ThreadPoolExecutor", Pool)
    monkeypatch.setattr(os, "cpu_count", lambda: 128)
    monkeypatch.setattr(dask.system, "CPU_COUNT", 3)
    return sizes


def test_work_in_memory_uses_the_cores_that_are_allotted(pools):
    movie = xs2p.sample_movie(chunks=None)
    movie = xr.concat([movie.drop_vars("time")] * 60, "time")  # enough for several batches
    masks = xs2p.build_masks(xs2p.sample_rois())
    xs2p.extract_traces(movie, masks)
    F = xr.DataArray(np.ones((500, 5000), np.float32), dims=("roi", "time"))
    F.s2p.deconvolve(tau=1.0, fs=10.0)
    F.s2p.std()
    assert len(pools) >= 3 and set(pools) == {3}
    with dask.config.set(num_workers=2):
        F.s2p.std()
    assert pools[-1] == 2


def test_cores_are_those_that_dask_counts():
    assert cores() == dask.system.CPU_COUNT
    if hasattr(os, "sched_setaffinity"):
        code = (
            "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
            "from xs2p.compute.threads import cores; print(cores())\n"
            "from xs2p.cli.info import info; print(info())"
        )
        told = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        ).stdout
        assert told.startswith("1\n") and ", 1 of them for this process" in told


def test_one_part_stays_on_the_caller_s_thread(pools):
    import threading

    seen = []
    in_threads(lambda part: seen.append((part, threading.current_thread())), [7])
    assert seen == [(7, threading.current_thread())] and not pools
    in_threads(lambda part: seen.append(part), [])
    with pytest.raises(ZeroDivisionError):
        in_threads(lambda part: 1 / part, [1, 0, 2])
