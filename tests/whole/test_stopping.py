"""Signals, disks that fail and folders that go away while a run writes: nothing is lost."""

from __future__ import annotations

import errno
import functools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import dask
import pytest
from stores import files
from zarr.storage import _local as local

import xs2p
from xs2p.cli import main
from xs2p.movie import chunks
from xs2p.pipeline import regions, spans
from xs2p.testing import simulate

FS, N, SHAPE = 10.0, 400, (30, 32)
OPTIONS = {
    "fs": FS,
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "frames_per_region": 40,
    "progress": False,
}
# The command, with a movie that takes its time; it says when a region is marked.
COMMAND = textwrap.dedent(
    """
    import functools, signal, sys, time
    signal.signal(signal.SIGINT, signal.default_int_handler)
    from xs2p.cli import main
    from xs2p.movie import chunks
    from xs2p.pipeline import regions, spans, store
    spans._REGION_FRAMES = 40
    chunks.TARGET_BYTES = 20 * 30 * 32 * 2
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


@pytest.fixture(autouse=True)
def listening():
    """Ctrl-C is heard, also where a shell started the tests in its background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A movie and ROIs in files, and the store of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("recording")
    movie, rois, _ = simulate(4, SHAPE, N, fs=FS)
    movie.values.astype("<i2").tofile(folder / "data.bin")
    xs2p.write_rois(rois, folder / "rois.zarr")
    extracted(folder, folder / "whole.zarr")
    extracted(folder, folder / "plain.zarr", min_neuropil_pixels=350)  # as the command does
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


def small_regions(patched):
    """Ten regions of two chunks each, also by the command."""
    patched.setattr(spans, "_REGION_FRAMES", 40)
    patched.setattr(chunks, "TARGET_BYTES", 20 * SHAPE[0] * SHAPE[1] * 2)


def stopped(err, code, told, partial, signals):
    """Check what a run that was stopped has said, and what it has left."""
    lines = err.splitlines()
    assert lines[-1].startswith(f"xs2p: {told}; ") and "--resume goes on from there" in lines[-1]
    assert len(lines) <= 2
    if len(signals) == 1:
        assert "stops after the region under way" in lines[0]
    done = regions.done_regions(str(partial), 0)
    assert 1 <= done.sum() < done.size == 10
    ended = xs2p.provenance(partial)["sessions"][0]["ended"]
    assert ended.startswith("KeyboardInterrupt" if code == 130 else "SystemExit")


SIGNALS = pytest.mark.parametrize(
    ("signals", "code", "told"),
    [
        ([signal.SIGINT], 130, "interrupted"),
        ([signal.SIGTERM], 143, "stopped by SIGTERM"),
        ([signal.SIGINT, signal.SIGINT], 130, "interrupted"),
    ],
    ids=["Ctrl-C", "SIGTERM", "twice"],
)


@SIGNALS
def test_signals(folder, tmp_path, capfd, monkeypatch, signals, code, told):
    """The first lets the region be finished; the second ends it now. What is done is kept."""
    plain, left = regions._mark_block, list(signals)

    @functools.wraps(plain)
    def marking(*args, **kwargs):
        done = plain(*args, **kwargs)
        while left:
            os.kill(os.getpid(), left.pop(0))
            time.sleep(0.1)
        return done

    with monkeypatch.context() as patched:
        patched.setattr(regions, "_mark_block", marking)
        small_regions(patched)
        before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        with pytest.raises(SystemExit) as ended:
            main(shell(folder, tmp_path / "traces.zarr", "-q"))
        assert before == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert ended.value.code == code
    stopped(capfd.readouterr().err, code, told, tmp_path / "traces.partial.zarr", signals)


@pytest.mark.slow
@SIGNALS
def test_signals_of_a_process(folder, tmp_path, signals, code, told):
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
    stopped(err, code, told, tmp_path / "traces.partial.zarr", signals)


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_with_workers(folder, tmp_path):
    """It goes to all processes of the group; workers finish what they have begun."""
    pytest.importorskip("distributed")
    script, partial = tmp_path / "command.py", tmp_path / "traces.partial.zarr"
    script.write_text(
        "import signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from xs2p.movie import chunks\n"
        "from xs2p.pipeline import spans\n"
        "spans._REGION_FRAMES, chunks.TARGET_BYTES = 4, 4 * 30 * 32 * 2\n"
        "if __name__ == '__main__':\n"
        "    import sys\n"
        "    from xs2p.cli import main\n"
        "    main(sys.argv[1:])\n"
    )
    process = subprocess.Popen(
        [sys.executable, script, *shell(folder, tmp_path / "traces.zarr", "-q", "--workers", "2")],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    for _ in range(1200):
        time.sleep(0.05)
        if partial.exists() and regions.done_regions(str(partial), 0).any():
            break
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    ours = [line for line in err.splitlines() if " - distributed." not in line]
    assert len(ours) == 2 and "--resume goes on from there" in ours[1], err
    assert 1 <= regions.done_regions(str(partial), 0).sum() < 100


def test_a_run_that_was_stopped_goes_on(folder, tmp_path, monkeypatch):
    """From Python: KeyboardInterrupt, and what is kept in its notes."""
    plain = regions._mark_block

    @functools.wraps(plain)
    def marking(*args, **kwargs):
        signal.raise_signal(signal.SIGINT)
        return plain(*args, **kwargs)

    path = tmp_path / "traces.zarr"
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt) as stop:
        patched.setattr(regions, "_mark_block", marking)
        with dask.config.set(scheduler="synchronous"):
            extracted(folder, path)
    assert "1 of 10 regions of F are kept" in stop.value.__notes__[0]
    extracted(folder, path, resume=True)
    assert files(path) == files(folder / "whole.zarr")


# Disks and folders


@pytest.mark.parametrize(
    ("number", "after"),
    [(errno.ENOSPC, 3), (errno.EDQUOT, 75), (errno.EROFS, 90), (errno.EIO, 105)],
)
def test_a_disk_that_takes_no_more(folder, tmp_path, monkeypatch, capfd, number, after):
    """Full, over the quota, read-only, or gone: one line that names it, and nothing is lost."""
    plain, calls = local._put, []

    def failing(path, *args, **kwargs):
        calls.append(path)
        if len(calls) > after:
            raise OSError(number, os.strerror(number))
        return plain(path, *args, **kwargs)

    path = tmp_path / "traces.zarr"
    with monkeypatch.context() as patched:
        patched.setattr(local, "_put", failing)
        small_regions(patched)
        with pytest.raises(SystemExit, match="2"):
            main(shell(folder, path, "-q"))
    (line,) = capfd.readouterr().err.splitlines()
    assert os.strerror(number) in line and "traces.partial.zarr" in line, line
    assert not path.exists() and len(calls) > after
    print(len(calls), line)
    extracted(folder, path, resume=True, min_neuropil_pixels=350)
    assert files(path) == files(folder / "plain.zarr")


@pytest.mark.parametrize(("what", "after"), [("renamed", 0), ("renamed", 10), ("deleted", 5)])
def test_a_folder_that_goes_away(folder, tmp_path, monkeypatch, capfd, what, after):
    """One line says so; renamed back, the run goes on from where it was."""
    plain, calls = regions._mark_block, []
    partial, aside = tmp_path / "traces.partial.zarr", tmp_path / "aside"

    @functools.wraps(plain)
    def marking(*args, **kwargs):
        done = plain(*args, **kwargs)
        calls.append(1)
        if len(calls) == after + 1:
            os.rename(partial, aside)
            if what == "deleted":
                shutil.rmtree(aside)
        return done

    with monkeypatch.context() as patched, dask.config.set(scheduler="synchronous"):
        patched.setattr(regions, "_mark_block", marking)
        small_regions(patched)
        with pytest.raises(SystemExit, match="2"):
            main(shell(folder, tmp_path / "traces.zarr", "-q"))
    (line,) = capfd.readouterr().err.splitlines()
    assert "traces.partial.zarr has gone" in line and "--resume" in line, line
    assert not partial.exists()
    if what == "renamed":
        assert regions.done_regions(str(aside), 0).sum() >= min(after + 1, 10)
        os.rename(aside, partial)
    extracted(folder, tmp_path / "traces.zarr", resume=True, min_neuropil_pixels=350)
    assert files(tmp_path / "traces.zarr") == files(folder / "plain.zarr")
