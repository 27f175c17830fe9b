"""What was written is what is read; one run at a time; damage is found, and made good."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import dask
import numpy as np
import pytest
import xarray as xr
from stores import files

import xs2p
from xs2p import cli
from xs2p.disk import lock
from xs2p.disk.lock import LostLock
from xs2p.pipeline import regions
from xs2p.testing import simulate

N, REGION = 300, 100
OPTIONS = {
    "fs": 10.0,
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "win_baseline": 1.0,
    "sig_baseline": 2.0,
    "frames_per_region": REGION,
    "progress": False,
}


@pytest.fixture(scope="module")
def recording():
    return simulate(6, (40, 44), N, fs=10.0, chunks=50)[:2]


@pytest.fixture(scope="module")
def made(recording, tmp_path_factory):
    path = tmp_path_factory.mktemp("made") / "a.zarr"
    xs2p.extract_to_zarr(*recording, path, dff=True, **OPTIONS)
    return path


@pytest.fixture
def store(made, tmp_path):
    shutil.copytree(made, tmp_path / "a.zarr")
    return tmp_path / "a.zarr"


def flip(path, at=-1):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def stop_after(monkeypatch, name, number):
    plain, calls = getattr(regions, name), []

    def once(*args, **kwargs):
        calls.append(1)
        if len(calls) > number:
            raise KeyboardInterrupt
        return plain(*args, **kwargs)

    monkeypatch.setattr(regions, name, once)


def unfinished(recording, folder, monkeypatch, name="write_found"):
    with monkeypatch.context() as patched, dask.config.set(scheduler="synchronous"):
        stop_after(patched, name, 0)
        with pytest.raises(KeyboardInterrupt):
            xs2p.extract_to_zarr(*recording, folder / "a.zarr", dff=True, **OPTIONS)
    return folder / "a.partial.zarr"


# Finished stores


def test_a_store_is_opened_as_ever_and_holds(made):
    assert xs2p.check_store(made).empty
    for consolidated in (None, False):
        with xr.open_zarr(made, consolidated=consolidated) as ds:
            assert not [name for name in ds.variables if "xs2p" in str(name)]


def test_a_byte_of_any_file_is_found(store):
    for path in sorted(p for p in store.rglob("*") if p.is_file()):
        name, whole = path.relative_to(store).as_posix(), path.read_bytes()
        flip(path, len(whole) // 2)
        if name == "xs2p_files/zarr.json":
            with pytest.raises(ValueError, match="damaged itself"):
                xs2p.check_store(store)
        else:
            assert xs2p.check_store(store)["file"].tolist() == [name]
        path.write_bytes(whole)
    assert xs2p.check_store(store).empty


def test_what_is_damaged_is_named(store):
    flip(store / "F" / "c" / "0" / "1")
    (store / "spks" / "c" / "0" / "2").unlink()
    (store / "F0" / "c" / "0" / "0").write_bytes(b"")
    table = xs2p.check_store(store).set_index("variable")
    assert table.loc["F", "fault"] == "other bytes than were written"
    assert table.loc["F"][["first_roi", "last_roi", "first_frame", "last_frame"]].tolist() == [
        0, 5, 100, 199]  # fmt: skip
    assert table.loc["spks", "fault"] == "missing" and table.loc["F0", "fault"][:7] == "0 bytes"
    with pytest.raises(Exception, match="(?i)checksum|decompress|corrupt"):
        xr.open_zarr(store).F.compute()


@pytest.mark.parametrize(
    "hurt",
    [
        ["F/c/0/1"],
        ["spks/c/0/0", "Fneu/c/0/2", "F/c/0/2"],
        ["time/c/0", "zarr.json", "noise/zarr.json"],
    ],
    ids=str,
)
def test_what_is_damaged_is_made_anew_to_the_same_bits(recording, made, store, hurt):
    movie, rois = recording
    for name in hurt:
        flip(store / name)
    given = rois if "zarr.json" in hurt else None
    if given is not None:
        with pytest.raises(ValueError, match="give those that it was made from"):
            xs2p.repair_store(store, movie, progress=False)
    damaged = xs2p.repair_store(store, movie, given, progress=False)
    assert set(damaged["file"]) == set(hurt)
    assert files(store) == files(made) and os.listdir(store.parent) == ["a.zarr"]
    assert xs2p.repair_store(store, movie, given).empty


def test_another_movie_repairs_nothing(recording, store):
    movie, rois = recording
    flip(store / "F" / "c" / "0" / "1")
    before = files(store.parent)
    with pytest.raises(ValueError, match=r"other movie \(content\)"):
        xs2p.repair_store(store, movie + np.int16(1), rois)
    # Of a movie that is another only between the frames that are compared.
    other = movie.copy(data=movie.data.copy())
    other[120] = 0
    with pytest.raises(ValueError, match=r"a.zarr cannot be repaired.*F/c/0/1"):
        xs2p.repair_store(store, other, rois, progress=False)
    assert files(store.parent) == before
    with pytest.raises(FileNotFoundError, match="there is no store"):
        xs2p.check_store("nowhere.zarr")


def test_from_a_shell(recording, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie, rois = recording
    movie.values.astype("<i2").tofile("data.bin")
    xs2p.write_rois(rois, "rois.zarr")

    def shell(*args):
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(map(str, args)))
        return stopped.value.code, *capsys.readouterr()

    how = ["--shape", "40x44", "--fs", 10]
    options = ["--no-durable", "--wait", 5, "--min-neuropil-pixels", 50]
    assert shell("extract", "data.bin", "rois.zarr", "a.zarr", *how, *options)[0] == 0
    assert shell("check", "a.zarr")[:2] == (0, "a.zarr is what was written\n")
    flip(Path("a.zarr/Fc/c/0/0"))
    code, _, err = shell("check", "a.zarr")
    assert code == 1 and "Fc, ROIs 0 to 5, frames 0 to 299: other bytes" in err
    again = ["extract", "data.bin", "rois.zarr", "a.zarr", *how, *options, "--resume"]
    assert shell(*again)[0] == 0
    code, _, err = shell(*again, "--verify")
    assert code == 2 and "is not what was written any more (Fc/c/0/0" in err
    code, _, err = shell("check", "a.zarr", "--repair", "data.bin", *how)
    assert code == 0 and err.endswith("made anew, to the same bits\n")
    assert shell("check", "a.zarr")[0] == 0


def test_the_command_repairs_what_is_of_channels_and_planes(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    movie, rois, _ = simulate(6, (30, 32), 60, fs=10.0)
    both = np.stack([movie.values, movie.values[::-1]], 1).astype("u2")
    np.save("m.npy", np.stack([both, both + 7], 2))  # (time, channel, plane, y, x)
    rois = rois.assign_coords(plane=("roi", np.arange(6) % 2))
    xs2p.write_rois(xs2p.recompute_overlap(rois), "rois.zarr")

    def shell(*args):
        with pytest.raises(SystemExit) as stopped:
            cli.main(list(map(str, args)))
        return stopped.value.code, capsys.readouterr().err

    how = "--fs 10 --dims tczyx --channel 0 --channel-chan2 1".split()
    options = "--no-durable --tau 0.2 --min-neuropil-pixels 50 -q".split()
    code, err = shell("extract", "m.npy", "rois.zarr", "a.zarr", *how, *options)
    assert code == 0, err
    before = files(Path("a.zarr"))
    for name in ("F_chan2/c/0/0", "spks/c/0/0"):
        flip(Path("a.zarr") / name)
    code, err = shell("check", "a.zarr", "--repair", "m.npy", *how[:-1], "0")
    assert code == 2 and "other movie_chan2" in err
    code, err = shell("check", "a.zarr", *how)
    assert code == 2 and "go with --repair" in err
    code, err = shell("check", "a.zarr", "--repair", "m.npy", *how)
    assert code == 0 and files(Path("a.zarr")) == before, err


# Going on


def test_what_is_marked_and_does_not_hold_is_done_again(recording, made, tmp_path, monkeypatch):
    partial = unfinished(recording, tmp_path, monkeypatch)
    (partial / "F" / "c" / "0" / "1").write_bytes(b"half")
    (partial / "Fneu" / "c" / "0" / "0").unlink()
    marked = [regions.done_regions(str(partial), stage).sum() for stage in (0, 1)]
    assert marked == [3, 3]
    with pytest.warns(UserWarning, match=r"2 of the regions .* done again .*F/c/0/1: 4 bytes"):
        xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", dff=True, resume=True, **OPTIONS)
    assert files(tmp_path / "a.zarr") == files(made)


def test_checksums_are_compared_when_asked(recording, made, tmp_path, monkeypatch):
    partial = unfinished(recording, tmp_path, monkeypatch)
    flip(partial / "spks" / "c" / "0" / "1")
    with pytest.warns(UserWarning, match=r"1 of the regions .*spks/c/0/1: other bytes"):
        xs2p.extract_to_zarr(
            *recording, tmp_path / "a.zarr", dff=True, resume=True, verify=True, **OPTIONS
        )
    assert files(tmp_path / "a.zarr") == files(made)


def test_a_mark_that_is_damaged_is_none(recording, tmp_path, monkeypatch):
    partial = unfinished(recording, tmp_path, monkeypatch)
    for number, mark in enumerate(sorted((partial / "xs2p_done_traces" / "c" / "0").iterdir())):
        flip(mark) if number else mark.write_bytes(b"")
    assert not regions.done_regions(str(partial), 0).any()


# One writer


def test_a_second_run_is_refused_or_waits(recording, made, tmp_path, monkeypatch, caplog):
    plain, begun, go = regions._write_block, threading.Event(), threading.Event()

    def slow(block, writer, variable, offset, block_info=None):
        begun.set()
        assert go.wait(60)
        return plain(block, writer, variable, offset, block_info)

    def run(**options):
        return xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", dff=True, **OPTIONS, **options)

    monkeypatch.setattr(regions, "_write_block", slow)
    first = threading.Thread(target=run)
    first.start()
    assert begun.wait(60)
    before = sorted(os.listdir(tmp_path))
    for options in ({"resume": True}, {"overwrite": True}, {}, {"resume": True, "wait": 0.1}):
        with pytest.raises(BlockingIOError, match=f"is being written by process {os.getpid()} on"):
            run(**options)
    assert sorted(os.listdir(tmp_path)) == before
    threading.Timer(0.5, go.set).start()
    ds = run(resume=True, wait=60)
    first.join()
    xr.testing.assert_identical(ds.F.compute(), xr.open_zarr(made).F.compute())
    assert files(tmp_path / "a.zarr") == files(made) and os.listdir(tmp_path) == ["a.zarr"]
    for wait in (-1, "long", np.nan):
        with pytest.raises(ValueError, match="wait must be a number"):
            run(wait=wait)


@pytest.mark.parametrize("when", ["_write_block", "_mark_block", "complete", "put_in_place"])
def test_a_run_that_was_taken_over_stops(recording, made, tmp_path, monkeypatch, when):
    """As one of a laptop that was asleep: the other goes on, and nothing of both is lost."""
    from xs2p.pipeline import store as module

    place = module if hasattr(module, when) else regions
    plain, calls = getattr(place, when), []

    @functools.wraps(plain)  # Dask looks at the signature
    def asleep(*args, **kwargs):
        calls.append(1)
        if len(calls) == (2 if when[0] == "_" else 1):
            monkeypatch.undo()
            lock._mine.clear()  # seen as dead
            xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", dff=True, resume=True, **OPTIONS)
        return plain(*args, **kwargs)

    monkeypatch.setattr(place, when, asleep)
    with dask.config.set(scheduler="synchronous"), pytest.raises(OSError) as lost:
        xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", dff=True, **OPTIONS)
    if when == "put_in_place":
        assert "has come into being meanwhile" in str(lost.value)
    else:
        assert isinstance(lost.value, LostLock) and "writes no more" in str(lost.value)
    assert files(tmp_path / "a.zarr") == files(made) and os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.slow
def test_two_processes_at_once_make_one_store(made, tmp_path):
    """Both begin with the same command: one is refused, or finds the work done."""
    script = textwrap.dedent(
        """
        import sys, time
        import xs2p
        from xs2p.testing import simulate
        movie, rois, _ = simulate(6, (40, 44), 300, fs=10.0, chunks=50)
        print("ready", flush=True)
        sys.stdin.readline()
        wait = float(sys.argv[3])
        xs2p.extract_to_zarr(movie, rois, sys.argv[1], resume=True, wait=wait, **eval(sys.argv[2]))
        """
    )
    path = tmp_path / "a.zarr"
    options = repr({**OPTIONS, "dff": True})
    for wait in ("60", "0"):
        shutil.rmtree(path, ignore_errors=True)
        command = [sys.executable, "-c", script, str(path), options, wait]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        two = [subprocess.Popen(command, text=True, **pipes) for _ in range(2)]
        for process in two:
            assert process.stdout.readline() == "ready\n"
        for process in two:
            process.stdin.write("go\n")
            process.stdin.flush()
        ends = [process.communicate(timeout=120)[1] for process in two]
        codes = sorted(process.returncode for process in two)
        assert codes == [0, 0] if wait == "60" else codes[0] == 0, ends
        if codes[1]:
            assert any("BlockingIOError" in end for end in ends), ends
        assert files(path) == files(made) and os.listdir(tmp_path) == ["a.zarr"]


def test_a_store_from_before_there_were_checksums_is_refused(recording, tmp_path, monkeypatch):
    path, growing = tmp_path / "a.zarr", unfinished(recording, tmp_path, monkeypatch)
    shutil.rmtree(growing / "xs2p_files")
    with pytest.raises(ValueError, match="began it, before stores had checksums"):
        xs2p.extract_to_zarr(*recording, path, dff=True, resume=True, **OPTIONS)
    assert growing.exists()
