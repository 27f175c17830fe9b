"""Runs that can be killed: what is on disk counts, and the end is the same to the last byte."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pickle
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import time
import tracemalloc
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from stores import files

import xs2p
from xs2p.disk import replace
from xs2p.disk.lock import locked
from xs2p.movie import chunks
from xs2p.pipeline import regions as _regions
from xs2p.pipeline import shards, store
from xs2p.pipeline.whole import Writer
from xs2p.testing import raise_if_dask_computes, simulate

FS, N, CHUNK, REGION = 10.0, 1000, 50, 100
OPTIONS = {
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "win_baseline": 1.0,
    "sig_baseline": 2.0,
    "frames_per_region": REGION,
    "progress": False,
}


@pytest.fixture(scope="module")
def recording():
    return simulate(8, (40, 44), N, fs=FS, chunks=CHUNK)[:2]


@pytest.fixture(scope="module")
def whole(recording, tmp_path_factory):
    """The store of a run that nothing happened to."""
    path = tmp_path_factory.mktemp("whole") / "whole.zarr"
    xs2p.extract_to_zarr(*recording, path, **OPTIONS)
    return files(path)


def counted(movie):
    """The same movie, and how often each of its frames has been read."""
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((CHUNK, *movie.shape[1:])))
    return lazy, frames


STORE_ATTRS = ("xs2p_run", "xs2p_history")


class Killed(BaseException):
    """Stands for what ends a run in the middle."""


def stop_after(monkeypatch, name, number):
    module = _regions if hasattr(_regions, name) else store
    plain, calls = getattr(module, name), []

    @functools.wraps(plain)  # Dask looks at the signature
    def once(*args, **kwargs):
        calls.append(1)
        if len(calls) > number:
            raise Killed
        return plain(*args, **kwargs)

    monkeypatch.setattr(module, name, once)


@contextlib.contextmanager
def stopped_after(monkeypatch, name, number):
    """A run that ends in the middle; what ended it is gone afterwards."""
    with monkeypatch.context() as patched:
        stop_after(patched, name, number)
        with pytest.raises(Killed) as stopped:
            yield stopped


@pytest.mark.parametrize("baseline", ["maximin", "constant", "constant_global", "prctile"])
def test_store_holds_what_extract_gives(recording, tmp_path, baseline):
    movie, rois = recording
    options = {k: v for k, v in OPTIONS.items() if k not in ("frames_per_region", "progress")}
    expected = xs2p.extract(movie, rois, baseline=baseline, **options).compute()
    counting, frames = counted(movie)
    ds = xs2p.extract_to_zarr(counting, rois, tmp_path / "out.zarr", baseline=baseline, **OPTIONS)
    assert list(ds.data_vars) == sorted(expected.data_vars) and ds.F.chunks is not None
    for name, array in expected.items():
        xr.testing.assert_equal(ds[name].variable, array.variable)
        assert ds[name].attrs == array.attrs
    xr.testing.assert_equal(ds.coords.to_dataset().compute(), expected.coords.to_dataset())
    run = json.loads(ds.attrs["xs2p_run"])
    assert run["tau"] == 0.1 and run["baseline"] == baseline
    assert {k: v for k, v in ds.attrs.items() if k not in STORE_ATTRS} == expected.attrs
    assert os.listdir(tmp_path) == ["out.zarr"]
    # Once for the traces, and three frames once more for the movie's fingerprint.
    assert sorted(frames.reads)[: N - 3] == [1] * (N - 3) and frames.reads.max() <= 2
    with xr.open_zarr(tmp_path / "out.zarr") as opened:
        xr.testing.assert_equal(opened.F, ds.F)


@pytest.mark.parametrize(
    ("n_frames", "chunk", "region", "at_once"),
    [
        (1000, 50, 100, 3),
        (1001, 50, 400, 8),
        (1201, 500, 300, 1),
        (997, 1, 33, 256),
        (60, 7, 50, 1),
    ],
)
def test_any_number_of_frames_and_any_region(
    tmp_path, monkeypatch, n_frames, chunk, region, at_once
):
    """Chunks of the steps end where no region does; graphs end in the middle of it all."""
    monkeypatch.setattr(_regions, "_CHUNKS_AT_ONCE", at_once)
    monkeypatch.setattr(shards, "_CHUNK_SAMPLES", 3 * region)
    movie, rois, _ = simulate(8, (40, 44), n_frames, fs=FS, chunks=chunk)
    options = {**OPTIONS, "frames_per_region": region}
    ds = xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **options)
    assert ds.F.chunks[0] == (3, 3, 2)
    del options["frames_per_region"], options["progress"]
    for name, array in xs2p.extract(movie, rois, **options).compute().items():
        np.testing.assert_array_equal(ds[name], array)


@pytest.mark.parametrize("what", ["_write_block", "_mark_block", "complete", "put_in_place"])
@pytest.mark.parametrize("number", [0, 1, 13, 61])
def test_a_run_that_stops_anywhere_goes_on(recording, whole, tmp_path, monkeypatch, what, number):
    if number and what in ("complete", "put_in_place"):
        pytest.skip("called once")
    movie, rois = recording
    path = tmp_path / "out.zarr"
    stop_after(monkeypatch, what, number)
    try:
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    except Killed:
        assert not path.exists()
    monkeypatch.undo()
    xs2p.extract_to_zarr(movie, rois, path, resume=True, **OPTIONS)
    assert files(path) == whole
    assert os.listdir(tmp_path) == ["out.zarr"]


FIGURE = {**OPTIONS, "neuropil": "centred", "dff": True, "detrend": "exponential"}


@pytest.fixture(scope="module")
def figure(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("figure") / "whole.zarr"
    xs2p.extract_to_zarr(*recording, path, segments=np.arange(N) // 300, **FIGURE)
    return path


def test_dff_in_a_store_is_that_in_memory(recording, figure):
    movie, rois = recording
    options = {k: v for k, v in FIGURE.items() if k not in ("frames_per_region", "progress")}
    expected = movie.s2p.extract(rois, segments=np.arange(N) // 300, **options).compute()
    ds = xr.open_zarr(figure).compute()
    assert set(ds.data_vars) == set(expected.data_vars) and set(ds.coords) == set(expected.coords)
    for name, array in expected.items():
        xr.testing.assert_equal(ds[name].variable, array.variable)
        assert ds[name].attrs == array.attrs and ds[name].dtype == array.dtype
    assert ds.noise.dims == ("roi",) and ds.dff_flag.dtype == np.uint8


@pytest.mark.parametrize(
    ("what", "number"),
    [("_write_block", 22), ("write_found", 0), ("complete", 0)],
)
def test_dff_of_a_run_that_stops_anywhere_goes_on(
    recording, figure, tmp_path, monkeypatch, what, number
):
    path, said = tmp_path / "out.zarr", {"segments": np.arange(N) // 300}
    with stopped_after(monkeypatch, what, number):
        xs2p.extract_to_zarr(*recording, path, **said, **FIGURE)
    partial = xr.open_zarr(tmp_path / "out.partial.zarr", consolidated=False)
    if what != "complete":  # no flag of 0 before it is known
        assert "dff_flag" not in partial
    xs2p.extract_to_zarr(*recording, path, resume=True, **said, **FIGURE)
    assert files(path) == files(figure)


@pytest.mark.parametrize("how", ["noise", "s_min", "s_min of each"])
def test_sparse_spikes_and_calcium_in_a_store(recording, tmp_path, monkeypatch, how):
    """As in memory, also of a run that stops; and they are part of what a run is."""
    movie, rois = recording
    each = xr.DataArray(np.linspace(0, 40, 8), dims="roi", coords={"roi": rois.roi})
    sparse = {"noise": {"penalty": "noise"}, "s_min": {"s_min": 20.0}}.get(how, {"s_min": each})
    options = {**OPTIONS, "denoised": True, "segments": np.arange(N) // 600, **sparse}
    path = tmp_path / "out.zarr"
    with stopped_after(monkeypatch, "_mark_block", 10):
        xs2p.extract_to_zarr(movie, rois, path, **options)
    other = {"s_min": 2.0, "penalty": None} if how == "noise" else {"penalty": "noise", "s_min": 0}
    for name, value in {**other, "denoised": False}.items():
        with pytest.raises(ValueError, match=f"cannot be resumed: .*{name}="):
            changed = {**options, **other} if name != "denoised" else {**options, name: value}
            xs2p.extract_to_zarr(movie, rois, path, resume=True, **changed)
    ds = xs2p.extract_to_zarr(movie, rois, path, resume=True, **options).compute()
    del options["frames_per_region"], options["progress"]
    expected = xs2p.extract(movie, rois, **options).compute()
    assert set(ds.data_vars) == {"F", "Fneu", "Fc", "F0", "spks", "denoised"}
    assert set(ds.coords) == set(expected.coords)
    for name, array in expected.items():
        xr.testing.assert_equal(ds[name].variable, array.variable)
        assert ds[name].attrs == array.attrs
    upward = (expected.Fc - expected.F0).assign_attrs(fs=FS)
    alone = xs2p.deconvolve(upward, tau=0.1, return_denoised=True, **sparse)
    for name, array in alone.items():
        np.testing.assert_array_equal(ds[name], array)
    assert {
        k: v for k, v in ds.attrs.items() if k not in ("xs2p_run", "xs2p_history")
    } == expected.attrs
    plain = xs2p.deconvolve(upward, tau=0.1)
    assert (ds.spks > 0).sum() < (plain > 0).sum()


def test_only_what_is_unfinished_is_read_again(recording, whole, tmp_path, monkeypatch):
    movie, rois = recording
    path = tmp_path / "out.zarr"
    with stopped_after(monkeypatch, "_mark_block", 4) as stopped:
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    # The last mark may still be on its way as it is counted.
    assert re.match("[34] of 10 regions of F are kept", stopped.value.__notes__[0])
    partial = tmp_path / "out.partial.zarr"
    done = _regions.done_regions(str(partial), 0)
    assert done.sum() == 4
    with xr.open_zarr(partial, consolidated=False) as ds:
        assert "resumes the run" in ds.attrs["xs2p_unfinished"]
        with pytest.warns(UserWarning, match="not complete"):
            ds.s2p  # noqa: B018
        # What is not there yet is NaN, not zeros.
        written = np.isfinite(ds.F.values).all(axis=0)
        assert np.isnan(ds.F.values[:, ~written]).all() and np.isnan(ds.spks.values).all()
        assert written.reshape(-1, REGION)[done].all()
    counting, frames = counted(movie)
    xs2p.extract_to_zarr(counting, rois, path, resume=True, **OPTIONS)
    assert files(path) == whole
    reads = frames.reads.copy()
    reads[[0, N // 2, N - 1]] -= 1  # the fingerprint
    np.testing.assert_array_equal(
        reads.reshape(-1, REGION), np.where(done, 0, 1)[:, None] * np.ones(REGION)
    )  # noqa: E501


def test_spikes_resume_from_stored_traces(recording, whole, tmp_path, monkeypatch):
    movie, rois = recording
    path = tmp_path / "out.zarr"
    with stopped_after(monkeypatch, "write_rest", 0):
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    counting, frames = counted(movie)
    xs2p.extract_to_zarr(counting, rois, path, resume=True, **OPTIONS)
    assert frames.reads.sum() == 3  # the fingerprint alone
    assert files(path) == whole


def test_what_a_kill_leaves_is_cleared_away(recording, whole, tmp_path, monkeypatch):
    """Files that Zarr had not finished, and a store that was not yet begun."""
    movie, rois = recording
    path = tmp_path / "out.zarr"
    (tmp_path / ".out.partial.zarr.new" / "F").mkdir(parents=True)
    with stopped_after(monkeypatch, "_mark_block", 3):
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    half = tmp_path / "out.partial.zarr" / "F" / "c" / "0" / f"7.{'0123456789abcdef' * 2}.partial"
    half.write_bytes(b"half of a chunk")
    xs2p.extract_to_zarr(movie, rois, path, resume=True, **OPTIONS)
    assert files(path) == whole
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_what_differs_is_named(recording, tmp_path, monkeypatch):
    movie, rois = recording
    path = tmp_path / "out.zarr"
    # No other thread is still writing when this one has stopped.
    with stopped_after(monkeypatch, "_mark_block", 3), dask.config.set(scheduler="synchronous"):
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    before = files(tmp_path)
    other = movie.copy(data=movie.data + np.int16(1))
    for change, message in (
        ({"tau": 0.2}, "tau=0.1, and 0.2 is given now"),
        ({"baseline": "prctile"}, "baseline='maximin', and 'prctile' is given now"),
        ({"frames_per_region": 200}, "frames_per_region=100, and 200 is given now"),
        ({"rois": rois.isel(roi=slice(1, None))}, "other rois"),
        ({"movie": other}, r"other movie \(content\)"),
        ({"movie": movie.isel(time=slice(500))}, r"other movie \(shape, content\)"),
        ({"movie_chan2": movie}, "other movie_chan2"),
    ):
        arguments = {"movie": movie, "rois": rois, **OPTIONS, **change}
        with pytest.raises(ValueError, match=f"cannot be resumed: .*{message}"):
            xs2p.extract_to_zarr(path=path, resume=True, **arguments)
    with pytest.raises(FileExistsError, match="resume=True goes on with it"):
        xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    assert files(tmp_path) == before
    ds = xs2p.extract_to_zarr(movie, rois, path, overwrite=True, **{**OPTIONS, "tau": 0.2})
    assert ds.attrs["tau"] == 0.2 and os.listdir(tmp_path) == ["out.zarr"]
    # A store that is complete is given back, or refused likewise.
    counting, frames = counted(movie)
    again = xs2p.extract_to_zarr(counting, rois, path, resume=True, **{**OPTIONS, "tau": 0.2})
    xr.testing.assert_identical(again.compute(), ds.compute())
    assert frames.reads.sum() == 3
    with pytest.raises(ValueError, match=r"tau=0.2, and 0.1 is given now"):
        xs2p.extract_to_zarr(movie, rois, path, resume=True, **OPTIONS)


def test_labels_are_part_of_a_run(recording, tmp_path, monkeypatch):
    """Also those that Dask holds: they are written, and compared."""
    movie, rois = recording
    labelled = movie.assign_coords(
        speed=("time", da.arange(N, chunks=CHUNK) + 5.0), trial=("time", np.zeros(N))
    )
    path = tmp_path / "out.zarr"
    options = {k: v for k, v in OPTIONS.items() if k not in ("frames_per_region", "progress")}
    expected = labelled.s2p.extract(rois, **options).coords.to_dataset().compute()
    with stopped_after(monkeypatch, "_mark_block", 3):
        xs2p.extract_to_zarr(labelled, rois.chunk(), path, **OPTIONS)
    for some, where, what in (
        (labelled.assign_coords(trial=("time", np.ones(N))), rois, "trial"),
        (labelled, rois.assign_coords(iscell=("roi", np.ones(8))), "iscell"),
        (labelled.drop_vars("speed"), rois, "speed"),
    ):
        with pytest.raises(ValueError, match=rf"other labels \({what}\)"):
            xs2p.extract_to_zarr(some, where, path, resume=True, **OPTIONS)
    ds = xs2p.extract_to_zarr(labelled, rois, path, resume=True, **OPTIONS)
    xr.testing.assert_equal(ds.coords.to_dataset().compute(), expected)


def test_other_planes_are_another_run(recording, tmp_path, monkeypatch):
    movie, rois = recording
    stack = xr.concat([movie, movie + np.int16(9)], "plane").assign_attrs(movie.attrs)
    own = np.arange(8) % 2
    with stopped_after(monkeypatch, "_mark_block", 3):
        placed = rois.assign_coords(plane=("roi", own))
        xs2p.extract_to_zarr(stack, placed, tmp_path / "out.zarr", **OPTIONS)
    other = rois.assign_coords(plane=("roi", 1 - own))
    with pytest.raises(ValueError, match=r"other labels \(.*plane"):
        xs2p.extract_to_zarr(stack, other, tmp_path / "out.zarr", resume=True, **OPTIONS)


def test_a_task_that_a_failed_run_left_over_writes_nothing(recording, tmp_path, monkeypatch):
    movie, rois = recording
    plain, left, path = _regions._write_block, [], tmp_path / "out.zarr"

    @functools.wraps(plain)
    def failing(*args, **kwargs):
        left.append((args, kwargs))
        raise OSError("the disk is gone")

    # No other thread is still writing when this one has stopped.
    with dask.config.set(scheduler="synchronous"):
        with monkeypatch.context() as patched, pytest.raises(OSError, match="disk is gone"):
            patched.setattr(_regions, "_write_block", failing)
            xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
        args, kwargs = left[0]
        with stopped_after(monkeypatch, "_mark_block", 1):
            xs2p.extract_to_zarr(movie, rois, path, **OPTIONS)
    before = files(tmp_path)
    with pytest.raises(OSError, match="this run writes no more"):
        plain(*args, **kwargs)
    assert files(tmp_path) == before


def test_a_replacement_that_was_killed_says_how_to_go_on(recording, whole, tmp_path, monkeypatch):
    movie, rois = recording
    path = tmp_path / "out.zarr"
    xs2p.extract_to_zarr(movie, rois, path, **{**OPTIONS, "tau": np.float32(0.5)})
    with stopped_after(monkeypatch, "_mark_block", 3):
        xs2p.extract_to_zarr(movie, rois, path, overwrite=True, **OPTIONS)
    with pytest.raises(FileExistsError, match="resume=True, overwrite=True goes on with it"):
        xs2p.extract_to_zarr(movie, rois, path, resume=True, **OPTIONS)
    half = tmp_path / "out.partial.zarr" / "xs2p_done_rest"
    xs2p.extract_to_zarr(movie, rois, path, resume=True, overwrite=True, **OPTIONS)
    assert files(path) == whole and not half.exists()


@pytest.mark.parametrize("half", [False, True])
def test_what_a_replacement_that_was_killed_has_left(recording, whole, tmp_path, monkeypatch, half):
    """After the new store has its place, and before the old one is gone; and between the two."""
    movie, rois = recording
    path, other = tmp_path / "out.zarr", tmp_path / ".out.zarr.0123abcd.old"
    other.mkdir()
    (other / "theirs.txt").write_text("not of xs2p")
    xs2p.extract_to_zarr(movie, rois, path, **{**OPTIONS, "tau": 0.5})
    monkeypatch.setattr(store, "clear", lambda *_: None)
    monkeypatch.setattr(replace, "remove", lambda old: os.remove(Path(old) / "zarr.json"))
    if not half:
        monkeypatch.setattr(replace, "remove", lambda old: None)
    xs2p.extract_to_zarr(movie, rois, path, overwrite=True, **OPTIONS)
    monkeypatch.undo()
    (old,) = set(tmp_path.glob(".out.zarr.*.old")) - {other}
    with pytest.warns(UserWarning, match=rf"{old.name} is what .*out\.zarr was before a run that"):
        assert xs2p.check_store(path).empty
    path.rename(tmp_path / "out.partial.zarr")
    with pytest.raises(FileNotFoundError, match=rf"no store .*{old.name} is what it was before"):
        xs2p.check_store(path)
    xs2p.extract_to_zarr(movie, rois, path, resume=True, **OPTIONS)
    assert files(path) == whole and set(os.listdir(tmp_path)) == {"out.zarr", other.name}


def test_a_frame_rate_that_is_given_is_that_of_the_movie(recording, tmp_path, monkeypatch):
    movie, rois = recording
    movie = movie.drop_vars("time").assign_attrs(fs=FS)
    bare = movie.copy()
    del bare.attrs["fs"]
    for first, then in (
        ((movie, {}), (movie, {"fs": FS})),
        ((movie, {"fs": FS}), (bare, {"fs": int(FS)})),
        ((bare, {"fs": FS}), (movie, {})),
    ):
        path = tmp_path / "out.zarr"
        with stopped_after(monkeypatch, "_mark_block", 3):
            xs2p.extract_to_zarr(first[0], rois, path, **OPTIONS, **first[1])
        with pytest.raises(ValueError, match=r"fs=10.* is given now"):
            xs2p.extract_to_zarr(bare, rois, path, resume=True, fs=11, **OPTIONS)
        found = xs2p.extract_to_zarr(then[0], rois, path, resume=True, **OPTIONS, **then[1])
        assert found.attrs["fs"] == FS
        shutil.rmtree(path)


@pytest.mark.parametrize("more", [{"fs": np.float32(10)}, {"tau": np.array(0.1)}], ids=str)
def test_numbers_of_numpy(recording, tmp_path, more):
    movie, rois = recording
    movie = movie.assign_attrs(fs=np.float32(FS))
    ds = xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **{**OPTIONS, **more})
    assert ds.attrs["fs"] == FS


def test_bad_input_is_refused_before_any_work(recording, tmp_path):
    movie, rois = recording
    (tmp_path / "there.zarr").mkdir()
    for change, kind, message in (
        ({"path": tmp_path / "out.nc"}, ValueError, "ends in .zarr"),
        ({"path": tmp_path / "no" / "out.zarr"}, FileNotFoundError, "no folder"),
        ({"path": tmp_path / "there.zarr"}, FileExistsError, "overwrite=True"),
        ({"frames_per_region": 0}, ValueError, "positive number, got 0"),
        ({"tau": -1.0}, ValueError, "tau must be a positive number"),
        ({"wrong": 1}, TypeError, "wrong"),
    ):
        arguments = {"movie": movie, "rois": rois, "path": tmp_path / "out.zarr", **OPTIONS}
        with pytest.raises(kind, match=message), raise_if_dask_computes():
            xs2p.extract_to_zarr(**{**arguments, **change})
    (tmp_path / "there.zarr").rmdir()
    assert os.listdir(tmp_path) == []


def test_movies_in_memory_channels_and_planes(recording, tmp_path):
    movie, rois = recording
    options = {k: v for k, v in OPTIONS.items() if k not in ("frames_per_region", "progress")}
    two = xr.concat([movie, movie + np.int16(3)], "channel").assign_attrs(movie.attrs)
    planes = xr.concat([movie, movie + np.int16(3)], "plane").assign_attrs(movie.attrs)
    placed = rois.assign_coords(plane=("roi", np.arange(8) % 2))
    for some, where, more in (
        (movie.compute(), rois, {}),
        (two, rois, {}),
        (planes, placed, {}),
        (movie, rois, {"movie_chan2": movie + np.int16(5)}),
        (movie, rois, {"neuropil_extract": False, "tau": None}),
    ):
        given = {**options, **more}
        expected = xs2p.extract(some, where, **given).compute()
        ds = xs2p.extract_to_zarr(
            some, where, tmp_path / "o.zarr", overwrite=True, **{**OPTIONS, **more}
        )
        for name, array in expected.items():
            np.testing.assert_array_equal(ds[name], array)


@pytest.mark.parametrize("cut", [1000, 20_000])
def test_a_full_disk_loses_nothing(recording, whole, tmp_path, cut):
    """A process that may write files of so many bytes only, as on a disk that is full."""
    script = textwrap.dedent(
        """
        import resource, signal, sys
        import xs2p
        from xs2p.testing import simulate
        movie, rois, _ = simulate(8, (40, 44), 1000, fs=10.0, chunks=50)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
        options = eval(sys.argv[3])
        xs2p.extract_to_zarr(movie, rois, sys.argv[1], **options)
        """
    )
    path = tmp_path / "out.zarr"
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(cut), repr(OPTIONS)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    if cut == 1000:
        assert done.returncode != 0 and "File too large" in done.stderr
        assert not path.exists()
    xs2p.extract_to_zarr(*recording, path, resume=True, **OPTIONS)
    assert files(path) == whole


@pytest.mark.slow
def test_a_killed_process_goes_on(recording, whole, tmp_path):
    """SIGKILL several times, whenever it comes; each run starts where the last one was."""
    script = textwrap.dedent(
        """
        import functools, sys, time
        import xs2p
        from xs2p.pipeline import regions as _regions
        from xs2p.testing import simulate
        movie, rois, _ = simulate(8, (40, 44), 1000, fs=10.0, chunks=50)
        plain = _regions._write_block
        @functools.wraps(plain)
        def slow(*args, **kwargs):
            time.sleep(0.05)
            return plain(*args, **kwargs)
        _regions._write_block = slow
        print("ready", flush=True)
        xs2p.extract_to_zarr(movie, rois, sys.argv[1], resume=True, **eval(sys.argv[2]))
        """
    )
    path, kills = tmp_path / "out.zarr", 0
    choose = random.Random(os.getpid())
    for _ in range(40):
        process = subprocess.Popen(
            [sys.executable, "-c", script, str(path), repr(OPTIONS)],
            stdout=subprocess.PIPE,
            text=True,
        )
        process.stdout.readline()
        if kills < 4:
            time.sleep(choose.uniform(0.1, 1.2))
            process.send_signal(signal.SIGKILL)
            kills += process.wait() == -signal.SIGKILL
            process.stdout.close()
            continue
        process.communicate(timeout=60)
        assert process.returncode == 0
        break
    assert kills == 4 or path.exists()
    assert files(path) == whole
    assert os.listdir(tmp_path) == ["out.zarr"]


def test_memory_of_a_process_is_measured_here():
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0


@pytest.mark.filterwarnings("ignore:.*are dropped")
def test_a_run_with_an_snr_threshold_does_not_judge_twice(recording, tmp_path, monkeypatch):
    movie, rois = recording
    ratio = xs2p.snr(movie.s2p.extract(rois, fs=FS, min_neuropil_pixels=50).Fc).compute()
    options = {**OPTIONS, "snr_threshold": float(np.sort(ratio.values)[2])}
    whole = xs2p.extract_to_zarr(movie, rois, tmp_path / "whole.zarr", **options)
    assert whole.sizes["roi"] == 5
    counting, frames = counted(movie)
    with stopped_after(monkeypatch, "_mark_block", 3):
        xs2p.extract_to_zarr(counting, rois, tmp_path / "out.zarr", **options)
    assert frames.reads.max() >= 2  # to judge, and to extract
    frames.reads[:] = 0
    done = _regions.done_regions(str(tmp_path / "out.partial.zarr"), 0)
    assert 3 <= done.sum() < done.size
    xs2p.extract_to_zarr(counting, rois, tmp_path / "out.zarr", resume=True, **options)
    assert files(tmp_path / "out.zarr") == files(tmp_path / "whole.zarr")
    looked_at = np.isin(np.arange(N) // CHUNK, [0, N // 2 // CHUNK, N // CHUNK - 1])  # to compare
    read = np.repeat(~done, REGION)
    np.testing.assert_array_equal(frames.reads[~looked_at], read[~looked_at].astype(int))


@pytest.mark.parametrize("lead", [(), ("channel",)], ids=str)
def test_a_map_of_a_file_is_not_copied(tmp_path, lead, monkeypatch):
    """Dask would put all of it into its graph, and so into memory, and send it to workers."""
    monkeypatch.setattr(chunks, "TARGET_BYTES", 2**22)
    shape = (*(2 for _ in lead), 20_000, 40, 44)
    mapped = np.lib.format.open_memmap(tmp_path / "movie.npy", "w+", "<i2", shape)
    mapped[..., :50, :, :] = 7
    mapped.flush()
    movie = xr.DataArray(mapped, dims=(*lead, "time", "y", "x"), attrs={"fs": FS})
    _, rois, _ = simulate(8, (40, 44), 10, fs=FS)
    options = {**OPTIONS, "frames_per_region": 5000, "baseline": "none", "tau": None}
    xs2p.extract_to_zarr(movie[..., :50, :, :], rois, tmp_path / "few.zarr", **options)
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="synchronous"):
            ds = xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40e6 < 70e6 < mapped.nbytes
    np.testing.assert_allclose(ds.F[..., :50], 7, rtol=1e-6)
    assert not ds.F[..., 50:].any()


def test_workers_have_zarr_before_a_task_of_theirs_needs_it(tmp_path):
    """Else a task and what unpacks the next one import it at once, and one sees half of it."""
    with locked(str(tmp_path / "lock"), str(tmp_path / "o.zarr")) as hold:
        data = pickle.dumps(Writer(str(tmp_path / "o.zarr"), hold, True))
    code = (
        "import pickle, sys, xs2p.pipeline.store; assert 'zarr' not in sys.modules;"
        "writer = pickle.load(sys.stdin.buffer); assert 'zarr' in sys.modules;"
        "assert writer.durable and writer.store.endswith('o.zarr')"
    )
    source = Path(xs2p.__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, cwd=source)
    assert done.returncode == 0, done.stderr.decode()
