"""Signals, disks that fail and folders that go away while a run writes: nothing is lost."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import dask
import numpy as np
import pytest
import zarr
from stores import files

import xs2p
from xs2p.cli import main
from xs2p.pipeline import regions
from xs2p.testing import simulate

FS, N, SHAPE = 10.0, 400, (30, 32)
OPTIONS = {"tau": 0.1, "min_neuropil_pixels": 50, "frames_per_region": 40, "progress": False}
# The command, with a movie that takes its time; it says when a region is marked.
COMMAND = textwrap.dedent(
    """
    import functools, sys, time
    from xs2p.cli import main
    from xs2p.pipeline import regions, store
    store._REGION_FRAMES = 40
    plain = regions._mark_block
    @functools.wraps(plain)
    def told(*args, **kwargs):
        done = plain(*args, **kwargs)
        print("marked", flush=True)
        time.sleep(0.3)
        return done
    regions._mark_block = told
    main(sys.argv[1:])
    """
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A movie and ROIs in files, and the store of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("recording")
    movie, rois, _ = simulate(4, SHAPE, N, fs=FS)
    movie.values.astype("<i2").tofile(folder / "data.bin")
    xs2p.write_rois(rois, folder / "rois.zarr")
    xs2p.extract_to_zarr(*inputs(folder), folder / "whole.zarr", **OPTIONS)
    return folder


def inputs(folder):
    movie = xs2p.open_movie(folder / "data.bin", shape=SHAPE, fs=FS, chunks=20)
    return movie, xs2p.read_rois(folder / "rois.zarr")


def extracted(folder, path, **more):
    return xs2p.extract_to_zarr(*inputs(folder), path, **{**OPTIONS, **more})


def shell(folder, out, *more):
    frame = f"{SHAPE[0]}x{SHAPE[1]}"
    words = ["extract", folder / "data.bin", folder / "rois.zarr", out, "--shape", frame]
    return [*map(str, words), "--fs", str(FS), "--tau", "0.1", *more]


@pytest.mark.parametrize(
    ("signals", "code", "told"),
    [
        ([signal.SIGINT], 130, "interrupted"),
        ([signal.SIGTERM], 143, "stopped by SIGTERM"),
        ([signal.SIGINT, signal.SIGINT], 130, "interrupted"),
    ],
    ids=["Ctrl-C", "SIGTERM", "twice"],
)
def test_signals(folder, tmp_path, signals, code, told):
    """The first lets the region be finished; the second ends it now. What is done is kept."""
    path = tmp_path / "traces.zarr"
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, *shell(folder, path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.readline()
    for number in signals:
        process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    lines = err.splitlines()
    assert lines[-1].startswith(f"xs2p: {told}; ") and "--resume goes on from there" in lines[-1]
    assert len(lines) <= 2
    if len(signals) == 1:
        assert "stops after the region under way" in lines[0]
    partial = tmp_path / "traces.partial.zarr"
    assert 1 <= regions.done_regions(str(partial), 0).sum() < 10
    ended = xs2p.provenance(partial)["sessions"][0]["ended"]
    assert ended.startswith("KeyboardInterrupt" if code == 130 else "SystemExit")
