"""Whole runs of suite2p without and with xs2p's extraction; needs suite2p, and some minutes."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import suite2p_run

ROOT = Path(__file__).parents[2]


def test_without_suite2p_it_says_how_to_install_it(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "suite2p", None)
    with pytest.raises(SystemExit, match=r"pip install -r benchmarks/requirements-suite2p.txt"):
        suite2p_run.main(["--folder", str(tmp_path)])
    assert not list(tmp_path.iterdir())


def test_the_recording_moves(tmp_path):
    import tifffile

    suite2p_run.write_recording(tmp_path / "a.tif", 3, 24, 2)
    frames = tifffile.imread(tmp_path / "a.tif")
    assert frames.shape == (12, 24, 24) and frames.dtype == "int16"
    assert all((frames[i] != frames[j]).any() for i in range(12) for j in range(i))


@pytest.mark.slow
def test_whole_runs_come_to_the_same(tmp_path):
    try:
        importlib.metadata.version("suite2p")  # an import would find this folder of tests
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("suite2p is not installed")
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.suite2p_run"]
    sizes = ["--frames", "250", "--size", "96", "--cells", "20", "--warm-up", "0"]
    done = subprocess.run(
        [*command, *sizes, "--folder", str(tmp_path)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("% of pixels equal") == 4
