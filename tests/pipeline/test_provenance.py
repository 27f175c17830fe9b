"""What a store says of where it comes from."""

from __future__ import annotations

import json
import time
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from stores import files

import xs2p
from xs2p._warnings import hearing, warn
from xs2p.cli import main
from xs2p.pipeline import identity, regions
from xs2p.testing import simulate

FS, N = 10.0, 120
OPTIONS = {"tau": 0.1, "min_neuropil_pixels": 50, "frames_per_region": 40, "progress": False}


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A movie and ROIs in files."""
    folder = tmp_path_factory.mktemp("recording")
    movie, rois, _ = simulate(4, (30, 32), N, fs=FS)
    movie.values.astype("<i2").tofile(folder / "data.bin")
    xs2p.write_rois(rois, folder / "rois.zarr")
    opened = xs2p.open_movie(folder / "data.bin", shape=(30, 32), fs=FS, chunks=20)
    return opened, xs2p.read_rois(folder / "rois.zarr"), folder


@pytest.fixture(scope="module")
def store(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "traces.zarr"
    with hearing(), pytest.warns(UserWarning, match="of before"):
        warn("of before")
        xs2p.extract_to_zarr(*recording[:2], path, **OPTIONS)
    return path


def test_all_of_it_is_told(recording, store):
    folder = recording[2]
    told = xs2p.provenance(store)
    movie = told["movie"]
    assert movie["files"] == [{"path": str(folder / "data.bin"), "bytes": N * 30 * 32 * 2}]
    assert movie["bytes"] == N * 30 * 32 * 2 and movie["shape"] == [N, 30, 32]
    assert movie["source"] == str(folder / "data.bin") and len(movie["content"]) == 32
    assert told["rois"]["files"] == [{"path": str(folder / "rois.zarr"), "bytes": None}]
    assert told["rois"]["number"] == 4 and len(told["rois"]["content"]) == 32
    assert told["parameters"]["tau"] == 0.1 and told["parameters"]["lam_percentile"] == 50.0
    assert {"xs2p", "python", "numpy", "numba", "dask", "zarr", "xarray"} <= set(told["versions"])
    assert told["versions"]["numpy"] == np.__version__
    assert told["device"].startswith("cpu") and told["kernels"] is None
    assert told["warnings"] == ["of before"] and told["complete"]
    assert told["start"] < told["end"] and told["resumes"] == 0
    assert told["sessions"][0]["ended"] == "complete"
    assert xs2p.provenance(xr.open_zarr(store)) == told


def test_what_goes_on_is_counted_and_what_failed_is_told(recording, store, tmp_path, monkeypatch):
    path, plain = tmp_path / "traces.zarr", regions.write_rest
    monkeypatch.setattr(regions, "write_rest", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        xs2p.extract_to_zarr(*recording[:2], path, **OPTIONS)
    partial = xs2p.provenance(tmp_path / "traces.partial.zarr")
    assert not partial["complete"] and partial["resumes"] == 0
    assert partial["sessions"][0]["ended"] == "ZeroDivisionError: division by zero"
    opened = xr.open_zarr(tmp_path / "traces.partial.zarr", consolidated=False)
    assert xs2p.provenance(opened) == partial and "spks" in opened
    monkeypatch.setattr(regions, "write_rest", plain)
    xs2p.extract_to_zarr(*recording[:2], path, resume=True, **OPTIONS)
    told = xs2p.provenance(path)
    assert told["resumes"] == 1 and [s["ended"][:8] for s in told["sessions"]] == [
        "ZeroDivi",
        "complete",
    ]
    assert files(path) == files(store)


@pytest.mark.parametrize("name", ["complete", "put_in_place"])
def test_a_history_outlives_a_stop_at_the_very_end(recording, tmp_path, monkeypatch, name):
    from xs2p.pipeline import store as module

    path = tmp_path / "traces.zarr"
    with monkeypatch.context() as patched, pytest.raises(ZeroDivisionError):
        patched.setattr(module, name, lambda *_: 1 / 0)
        xs2p.extract_to_zarr(*recording[:2], path, **OPTIONS)
    xs2p.extract_to_zarr(*recording[:2], path, resume=True, **OPTIONS)
    # Once all is written and told there is nothing to go on with, but the name to be given.
    assert xs2p.provenance(path)["resumes"] == (name != "put_in_place")


def test_a_clock_that_is_set_back(recording, tmp_path, monkeypatch):
    """Times of day are told as they were; how long it took goes by another clock."""
    start, calls = time.time(), []

    def back():
        calls.append(1)
        return start - 3600 * len(calls)

    monkeypatch.setattr(time, "time", back)
    xs2p.extract_to_zarr(*recording[:2], tmp_path / "traces.zarr", **OPTIONS)
    assert 0 <= xs2p.provenance(tmp_path / "traces.zarr")["sessions"][0]["seconds"] < 60


def test_stores_of_other_versions(recording, tmp_path, monkeypatch):
    """The number of results decides, not the version; who is refused is told who made it."""
    path, partial = tmp_path / "traces.zarr", tmp_path / "traces.partial.zarr"
    plain = regions.write_rest
    monkeypatch.setattr(regions, "write_rest", lambda *_: 1 / 0)
    monkeypatch.setattr(identity, "__version__", "0.0.9")
    with pytest.raises(ZeroDivisionError):
        xs2p.extract_to_zarr(*recording[:2], path, **OPTIONS)
    monkeypatch.undo()
    assert regions.write_rest is plain

    def said(**changes):
        group = zarr.open_group(partial, mode="r+", use_consolidated=False)
        run = json.loads(group.attrs["xs2p_run"]) | changes
        run = {name: value for name, value in run.items() if value != "none of it"}
        group.attrs["xs2p_run"] = json.dumps(run)

    for number in (identity.RESULTS + 1, "none of it"):
        said(results_format=number)
        with pytest.raises(ValueError, match=r"resumed: xs2p 0\.0\.9 made it, .*xs2p==0\.0\.9"):
            xs2p.extract_to_zarr(*recording[:2], path, resume=True, **OPTIONS)
    said(results_format=identity.RESULTS)
    (partial / "xs2p_files").rename(tmp_path / "aside")
    with pytest.raises(ValueError, match=r"xs2p 0\.0\.9 began it, before stores had checksums"):
        xs2p.extract_to_zarr(*recording[:2], path, resume=True, **OPTIONS)
    (tmp_path / "aside").rename(partial / "xs2p_files")
    # The older one did not know this option, and did what it does by default.
    said(results_format=identity.RESULTS, polarity="none of it")
    with pytest.raises(ValueError, match="polarity=1, and -1 is given now"):
        xs2p.extract_to_zarr(*recording[:2], path, resume=True, polarity=-1, **OPTIONS)
    xs2p.extract_to_zarr(*recording[:2], path, resume=True, **OPTIONS)
    assert xs2p.provenance(path)["versions"]["xs2p"] == xs2p.__version__


def test_the_command_prints_it(store, recording, capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["info", str(store)])
    said = capsys.readouterr().out
    for part in (str(recording[2] / "data.bin"), "tau=0.1", f"numpy {np.__version__}", "of before"):
        assert part in said
    with pytest.raises(SystemExit, match="0"):
        main(["info", str(store), "--json"])
    assert json.loads(capsys.readouterr().out) == xs2p.provenance(store)
    for args, message in (
        (["info", "nowhere.zarr"], "no store 'nowhere.zarr'"),
        (["info", "--json"], "--json is for a store"),
        (["info", str(recording[2] / "rois.zarr")], "does not say where its traces come from"),
    ):
        with pytest.raises(SystemExit, match="2"):
            main(args)
        assert message in capsys.readouterr().err


def test_traces_that_were_made_anew_do_not_tell_of_the_old_ones(store):
    new = xs2p.reprocess(xr.open_zarr(store), tau=0.2)
    assert "xs2p_history" not in new.attrs
    with pytest.raises(ValueError, match="does not say where its traces come from"):
        xs2p.provenance(new)


def test_warnings_of_libraries_are_heard_and_still_shown():
    shown = warnings.showwarning
    with pytest.warns(RuntimeWarning, match="of numpy's"), hearing() as heard:
        warnings.warn("of numpy's", RuntimeWarning, stacklevel=1)
        with hearing() as inner:
            assert inner == heard == ["of numpy's"]
    with warnings.catch_warnings(), hearing() as heard:
        warnings.simplefilter("ignore")
        warn("nobody sees it")
    assert heard == ["nobody sees it"] and warnings.showwarning is shown
