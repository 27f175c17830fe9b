"""The benchmarks run, once and at toy size, so that they cannot rot."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import shutil
import statistics
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "benchmarks"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason="benchmarks are not in this copy")

if FOLDER.is_dir():
    from benchmarks import (
        first_call,
        many_rois,
        memory,
        reading,
        reliability,
        scaling,
        science,
        science_cost,
        science_demix,
        science_spikes,
        versus_gpu,
        versus_suite2p,
    )
    from benchmarks.suite import steps
    from benchmarks.suite.recordings import make_stat

    CLASSES = [c for _, c in inspect.getmembers(steps, inspect.isclass) if hasattr(c, "toy")]
else:
    CLASSES = []


@pytest.mark.parametrize("benchmark", CLASSES, ids=lambda c: c.__name__)
@pytest.mark.filterwarnings("ignore:.*ROIs lack a mask")
def test_every_benchmark_runs_and_computes(benchmark):
    import dask

    case = benchmark()
    case.setup(*benchmark.toy)
    methods = [m for m in dir(case) if re.match("(time|peakmem|track)_", m)]
    assert methods
    for method in methods:
        result = getattr(case, method)(*benchmark.toy)
        assert result is not None and not dask.is_dask_collection(result), method
    three = benchmark.params if not isinstance(benchmark.params, tuple) else benchmark.params[0]
    assert len(three) == 3


def test_every_benchmark_is_found():
    assert len(CLASSES) == 9
    timed = {m for c in CLASSES for m in dir(c)}
    for step in ("build_masks", "extract_traces", "maximin", "constant", "prctile", "deconvolve"):
        assert any(m.endswith(step) for m in timed), step
    assert json.loads((FOLDER / "asv.conf.json").read_text())["benchmark_dir"] == "suite"


def test_tables_of_neuropil_and_tau(monkeypatch, tmp_path, capsys):
    """Of simulated cells: the numbers are printed, and right where that is easy."""
    monkeypatch.setenv("XS2P_DATA", str(tmp_path))
    science.main(["--toy", "--sections", "wise"])
    assert "Not measured" in capsys.readouterr().out
    rng, fs, n = np.random.default_rng(0), 120.0, 12000
    columns = {"F": [], "Fneu": [], "spikes": []}
    for _ in range(2):
        spikes = rng.random(n) < 0.005
        calcium = np.convolve(spikes, np.exp(-np.arange(300) / (0.6 * fs)))[:n]
        slow = np.convolve(rng.normal(0, 1, n + 399), np.ones(400) / 20, "valid")
        Fneu = 100 + 10 * slow + rng.normal(0, 0.5, n)
        columns["F"].append(100 + 40 * calcium + 0.7 * Fneu + rng.normal(0, 1, n))
        columns["Fneu"].append(Fneu)
        columns["spikes"].append(np.flatnonzero(spikes) / fs)
    os.makedirs(tmp_path / "spikes")
    np.savez(
        tmp_path / "spikes" / "spikes_a.npz",
        n=[n, n],
        n_spikes=[len(s) for s in columns["spikes"]],
        fs=[fs, fs],
        name=["a_7f", "b"],
        **{key: np.concatenate(values) for key, values in columns.items()},
    )
    science.main(["--toy", "--sections", "wise"])
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines() if "**" in line]
    assert len(rows) == 4 + 6 + 5 + 6
    errors = [float(re.search(r"\*\*(.+)\*\*", line[2])[1]) for line in rows[:4]]
    assert max(errors) < 0.1
    pooled = next(line for line in rows if "pooled" in line[0])
    assert abs(float(pooled[1]) - 0.6) < 0.15


def test_stat_is_the_same_every_time():
    a, b = make_stat(30), make_stat(30)
    assert all(np.array_equal(a[n]["ypix"], b[n]["ypix"]) for n in range(30))
    assert any(roi["overlap"].any() for roi in make_stat(300))


def test_versus_says_how_to_install_suite2p(monkeypatch):
    monkeypatch.setitem(sys.modules, "suite2p", None)
    with pytest.raises(SystemExit, match=r"pip install -r benchmarks/requirements-suite2p.txt"):
        versus_suite2p.main(["--toy"])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*ROIs lack a mask")
def test_versus_runs_at_toy_size(monkeypatch, capsys, tmp_path):
    # Our own drop-in in suite2p's place: the names and signatures are the same.
    versus_suite2p.main(["--toy", "--folder", str(tmp_path)], reference=versus_suite2p.drop_in())
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(versus_suite2p.ROWS)
    for line in table[2:]:
        assert re.search(r"\d+(\.\d)? ×", line), line
    assert not list(tmp_path.iterdir())


@pytest.mark.filterwarnings("ignore:.*ROIs lack a mask")
def test_versus_gpu_runs_at_toy_size(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(versus_gpu, "gpu_status", lambda: (False, "CuPy is not installed"))
    picture = tmp_path / "gpu.png"
    with pytest.raises(SystemExit, match=r"CuPy is not installed. .* --toy runs it"):
        versus_gpu.main(["--png", str(picture)])
    versus_gpu.main(["--toy", "--png", str(picture)])
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if line.startswith("| ")]
    assert len(table) >= 1 + 5 + 3 + 2
    for line in table[1:]:
        cells = line.strip("| ").split(" | ")
        assert float(cells[3].removesuffix(" ms")) > 0, line
        assert cells[-1] in ("–", "identical") or float(cells[-1].removeprefix("within ")) < 0.01
    assert "bus: " in out and picture.stat().st_size > 10_000


def tables(out):
    """Cells of the rows of each table that was printed, without its head."""
    parts = re.findall(r"^\|(?:---\|)+\n((?:\|.*\n)+)", out, re.M)
    return [[row.strip("| ").split(" | ") for row in part.splitlines()] for part in parts]


def test_science_counts_what_ships(monkeypatch, capsys):
    monkeypatch.delenv("XS2P_DATA", raising=False)
    science.main(["--sections", "dff", "frames", "noise"])
    out = capsys.readouterr().out
    (rows,) = tables(out)
    found = {(row[0], row[2]): [float(cell) for cell in row[3:]] for row in rows}
    for name, full, centred in (
        ("nape_ofc_vta_2p.npz", 1, 0),
        ("pynapple_a0662_1p.npz", 81, 25),
        ("thunder_oracle.npz", 22, 1),
    ):
        assert found[name, "full"][0] == full and found[name, "centred"][0] == centred
    for way in ("full", "centred"):
        parts = np.array([v for (name, w), v in found.items() if w == way and name != "**all**"])
        total = found["**all**", way]
        assert total == [*parts[:, :-1].sum(axis=0), parts[:, -1].max()]
        _, unguarded, guarded, alone, _, largest = total
        assert unguarded >= guarded >= alone and 0 < largest <= 10
    assert out.count("XS2P_DATA names no folder with spikes/spikes_a.npz") == 2


def write_cells(path, n_cells=2, fs=100.0, seconds=40):
    """Cells that spike on a known level, with white noise, as the recordings that have spikes."""
    rng, n = np.random.default_rng(0), int(fs * seconds)
    spikes = [np.sort(rng.uniform(1, seconds - 1, 8)) for _ in range(n_cells)]
    F = [400 + rng.normal(0, 4, n) for _ in spikes]
    t = np.arange(n) / fs
    for trace, times in zip(F, spikes, strict=True):
        trace += sum(60 * np.exp(-(t - s) / 0.7) * (t >= s) for s in times)
    path.parent.mkdir()
    np.savez(
        path,
        F=np.concatenate(F).astype("f4"),
        Fneu=np.full(n * n_cells, 100, "f4"),
        n=np.full(n_cells, n),
        fs=np.full(n_cells, fs),
        spikes=np.concatenate(spikes),
        n_spikes=[len(times) for times in spikes],
        name=["cell"] * n_cells,
    )


OF_DFF = ("dff", "frames", "noise", "baselines", "times", "graphs")


@pytest.mark.slow
def test_science_runs_at_toy_size(monkeypatch, capsys, tmp_path):
    data, folder = tmp_path / "data", tmp_path / "folder"
    folder.mkdir()
    shutil.copytree(ROOT / "tests/data/suite2p-folder-2p", data / "suite2p-folder-2p")
    (data / "movie-2p-2000x128x128").mkdir()
    oracle = data / "movie-2p-2000x128x128/oracle_suite2p_1.1.0.npz"
    shutil.copy(ROOT / "tests/data/thunder_oracle.npz", oracle)
    write_cells(data / "spikes/spikes_a.npz")
    monkeypatch.setenv("XS2P_DATA", str(data))
    science.main(["--toy", "--folder", str(folder), "--sections", *OF_DFF])
    dff, frames, noise, baselines, aind, times, beside, graphs = tables(capsys.readouterr().out)
    names = {row[0] for row in dff}
    assert {"suite2p-folder-2p", "movie-2p-2000x128x128", "thunder_oracle.npz"} < names
    r = {row[0]: float(row[1].strip("*")) for row in frames}
    assert r[science.ALL] > 0.8 and r[science.VALID] > 0.8
    assert r[science.VALID] > r[science.AFTER] > r[science.BEFORE]
    assert r[science.HALF] > r[science.WHOLE]
    # White noise of 4 on 330: steps of median 0.954 σ, and the level does not know the rate.
    for row in noise:
        assert float(row[2].strip("*")) == pytest.approx(95.4 * 4 / 330 / 10, rel=0.1)
    assert max(float(cell) for row in baselines for cell in row[2:]) < 1e-6
    low, own, ours, sigma = (float(row[1]) for row in aind)
    assert max(low, own) < 1e-6 < ours < 0.05 and 0 < sigma < 0.5
    assert [row[0] for row in times] == [row[0] for row in beside] == [*science_cost.STEPS]
    for name, *_, results in times:
        far = re.search(r"within ([\d.e-]+)", results)
        rough = {"detrend": 0.5, "quality": 0.02}.get(name, 1e-6)
        assert float(far[1]) < rough if far else float(results.removeprefix("r = ")) > 0.9, name
    tasks = {(row[0], row[1]): int(row[3]) for row in graphs}
    assert len(tasks) == 2 * len(science_cost.GRAPHS)
    assert tasks["maximin, no dFF", "6"] == tasks["maximin, no dFF", "1"]
    assert not list(folder.iterdir())


def test_spikes_one_can_read_at_toy_size(monkeypatch, capsys):
    monkeypatch.delenv("XS2P_DATA", raising=False)
    science.main(["--toy", "--sections", "spikes"])
    out = capsys.readouterr().out
    assert len(re.findall(r"\| \*\*\d+\.\d\d\*\* \|", out)) == 6 + 5
    apart = re.findall(r"^\| `(?:s_min|penalty|both)` \| (\S+) \| (\S+) \|$", out, re.MULTILINE)
    assert len(apart) == 3 and all(float(a) < 1e-6 for pair in apart for a in pair)
    assert "Events: not measured" in out


def test_scores_of_events():
    class Cell:
        times = np.array([1.0, 1.02, 5.0, 9.0])

    right, found, f1, single, many = science_spikes._scores(np.array([0.95, 5.05, 7.0]), Cell)
    assert (right, found, many) == (2 / 3, 3 / 4, 3 / 4)
    assert single == 2 * 2 / 7 and abs(f1 - 12 / 17) < 1e-12


def test_memory_of_an_extraction_is_measured(capfd):
    memory.main(["--rois=20", "--frames=8", "--chunk=4", "--dtypes", "int16", "int16 in a file"])
    lines = capfd.readouterr().out.splitlines()[-2:]
    for line, movie in zip(lines, ("int16", "int16 in a file"), strict=True):
        assert re.fullmatch(rf"\| {movie} \| 2 \| -?\d+ \| 0 \| -?\d+ \|", line)


@pytest.mark.slow
def test_scaling_runs_at_toy_size(capfd, tmp_path):
    pytest.importorskip("distributed")
    picture = tmp_path / "scaling.png"
    scaling.main(
        "--frames 200 400 --rois 9 --chunk 100 --workers 1 --worker-frames 200 "
        "--side 300 --tile 128 --mosaic-frames 4 --mosaic-rois 9 "
        "--need [[1,9,1]] --need-frames 16 --rates-side 64 "
        "--rates-rois 9 --rates-frames 128 --store-rois 9 --store-frames 120 "
        f"--folder {tmp_path} --picture {picture}".split()
    )
    out = capfd.readouterr().out
    assert len(re.findall(r"^\| extract.*\| [2-9]00 ", out, re.M)) == 4
    assert len(re.findall(r"^\| (1|16|64) \| (0.5|2|10) \|", out, re.M)) == 9
    assert re.search(r"^\| \d+ \| 0 \| \d+ \| \d+ \|$", out, re.M)  # of a store
    assert picture.stat().st_size > 10_000
    assert os.listdir(tmp_path) == ["scaling.png"]


@pytest.mark.slow
@pytest.mark.parametrize("way", scaling.WAYS if CLASSES else [])
def test_memory_does_not_grow_with_the_recording(way, tmp_path):
    """A hundred times as many frames, at most 15 % more, with the environment of Dask's workers.

    As glibc manages memory by default, what is freed is not all given back: there from 200,000 on.
    """

    def peak(n_frames, runs=1, **environ):
        arguments = "frames", way, n_frames, 50, 2000, str(tmp_path)
        peaks = [scaling.in_new_process(*arguments, **environ)["peak"] for _ in range(runs)]
        return statistics.median(peaks)

    # In a short run it is chance how many chunks meet in memory.
    assert peak(500_000, **scaling.AS_WORKER) < 1.15 * peak(5_000, runs=3, **scaling.AS_WORKER)
    assert peak(1_000_000) < 1.15 * peak(200_000)


def test_a_plan_is_bound_by_storage_or_by_workers():
    rates = {"frame": 1e-3, "sample": 1e-8}
    slow, fast = scaling.plan_run(rates, 64, 0.5), scaling.plan_run(rates, 64, 1000)
    # F and Fneu are written while the movie is read; then they are read, and three more written.
    assert slow[0] == pytest.approx((10**6 * 2 * 1024**2 + 2 * 4e10) / 0.5e9 / 3600)
    assert slow[1] == pytest.approx(5 * 4e10 / 0.5e9 / 3600)
    assert fast == pytest.approx((10**6 * 1e-3 / 64 / 3600, 1e10 * 1e-8 / 64 / 3600))


@pytest.mark.slow
def test_first_call_is_measured(capsys):
    first_call.main(["--repeats", "1"])
    lines = capsys.readouterr().out.splitlines()
    imports, without, cached = (float(line.split("|")[2]) for line in lines[2:])
    assert 0 < imports and cached < without


def test_reading_runs_at_toy_size(capsys, tmp_path):
    small = "--frames 300 --side 24 --rois 9 --packed-frames 100 --packed-rois 4 --repeats 1"
    reading.main(f"{small} --folder {tmp_path}".split())
    out = capsys.readouterr().out
    assert len(re.findall(r"^\| (a file each|in memory) .*\*\*\d+\.\d ×\*\* \|$", out, re.M)) == 2
    numbers = r"(\d+\.\d\d \| ){2}\*\*\d+\.\d\d ×\*\* \| \d+\.\d\d ×"
    assert len(re.findall(rf"^\| HDF5, .*? \| {numbers}( \| \d+\.\d\d){{3}} × \|$", out, re.M)) == 3
    assert len(re.findall(rf"^\| Zarr, .*? \| {numbers}( \| –){{3}} \|$", out, re.M)) == 1
    assert not os.listdir(tmp_path)


def test_many_rois_runs_at_toy_size(capsys, tmp_path):
    many_rois.main(["--toy", "--repeats", "1", "--folder", str(tmp_path)])
    rows = re.findall(r"^\| 20 ROIs, 64², 40 frames \| (.*?) \|", capsys.readouterr().out, re.M)
    assert rows == ["reading", "reading and adding up", "extraction", "extraction to disk"]
    assert not os.listdir(tmp_path)


def test_demixing_is_nearer_to_the_truth_than_masks():
    lines = list(science_demix.demixing(None, toy=True))
    rows = [line.strip("| \n").split(" | ") for line in lines if line.startswith("| 98 of 98")]
    r = {row[1]: [float(number.strip("*")) for number in row[2:4]] for row in rows}
    masks, demixed = r["masks, coefficient 1"], r["`demix`"]
    assert demixed[0] >= max(0.975, masks[0]) and demixed[1] >= max(0.975, masks[1])
    off = [r[f"{way}, a pixel off"] for way in ("`demix`", "masks, coefficient 1")]
    assert off[0][0] >= off[1][0] and off[0][1] >= off[1][1]
    assert r["least squares, no background"][0] < demixed[0]
    text = "\n".join(lines)
    assert "demixing 47 (claimed" in text and text.count("≤ 2") == 2


@pytest.mark.parametrize("part", reliability.PARTS if FOLDER.is_dir() else [])
def test_parts_of_reliability_are_there(part):
    module = importlib.import_module(f"benchmarks.reliability_{part}")
    assert not [
        p for p in inspect.signature(module.main).parameters.values() if p.default is p.empty
    ]
