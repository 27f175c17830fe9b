"""On a cluster: the same answers, masks once, bounded memory, and what happens when workers die."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from loaders import as_movie, reference
from stores import files
from terminals import Terminal

import xs2p
from xs2p.compute import progress as _progress
from xs2p.compute.cluster import naming_what_was_lost
from xs2p.movie import chunks as movie_chunks
from xs2p.movie import frames as _lazy
from xs2p.pipeline import store
from xs2p.testing import simulate

distributed = pytest.importorskip("distributed")

FS, N, CHUNK, REGION = 10.0, 400, 10, 40
LY, LX = 40, 44
STEPS = {"tau": 0.1, "min_neuropil_pixels": 50, "win_baseline": 1.0, "sig_baseline": 2.0}
STORE = {**STEPS, "frames_per_region": REGION, "progress": False}
CONFIG = {
    # Every other second this manager may drop a spare copy of the masks, to be fetched again.
    "distributed.scheduler.active-memory-manager.start": False,
    # Every transition of a task is looked at here.
    "distributed.admin.low-level-log-length": 10**6,
}
# What a run that is killed or waits must not take: it hangs.
PATIENCE = 120
HERE = Path(__file__).parents[1]  # beside what tests share
SEED = 0 if os.environ.get("CI") else os.getpid()


@dataclass(frozen=True)
class SlowFrames(_lazy.RawFrames):
    """Frames of a file on a slow disk, so that a run has a middle."""

    seconds: float = 0.05

    def read(self, start, stop):
        time.sleep(self.seconds)
        return super().read(start, stop)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    """A movie as a .bin file, its path, and ROIs."""
    path = tmp_path_factory.mktemp("recording") / "data.bin"
    movie, rois, _ = simulate(8, (LY, LX), N, fs=FS)
    movie.values.astype("<i2").tofile(path)
    return path, rois


def opened(path, chunk=CHUNK, seconds=0.0):
    """The recording; each chunk takes some seconds to read."""
    movie = xs2p.open_movie(path, shape=(LY, LX), fs=FS)
    stamp = _lazy.Stamp.of(path)
    frames = SlowFrames(stamp, movie.shape, "<i2", seconds=seconds)
    return movie.copy(data=movie_chunks.to_dask(frames, chunk))


@pytest.fixture(scope="module")
def whole(recording, tmp_path_factory):
    """What threads of this process make of the recording, in memory and in a store."""
    path, rois = recording
    store = tmp_path_factory.mktemp("whole") / "whole.zarr"
    with dask.config.set(scheduler="threads"):
        xs2p.extract_to_zarr(opened(path), rois, store, **STORE)
        return opened(path).s2p.extract(rois, **STEPS).compute(), files(store)


@contextlib.contextmanager
def local_cluster(tmp_path, n_workers=2, threads=1, config=(), **options):
    """Worker processes of this machine; a fresh scheduler that logs every transition."""
    with dask.config.set({**CONFIG, **dict(config)}), contextlib.ExitStack() as stack:
        cluster = distributed.LocalCluster(
            n_workers=n_workers,
            threads_per_worker=threads,
            dashboard_address=":0",
            local_directory=tmp_path,
            silence_logs=logging.CRITICAL,
            **options,
        )
        stack.callback(close, cluster)
        yield cluster, stack.enter_context(distributed.Client(cluster))


def close(cluster):
    """Close a cluster, and where it waits for workers that were killed, kill the others too."""
    try:
        cluster.close(timeout=PATIENCE)
    except TimeoutError:
        for worker in multiprocessing.active_children():
            worker.kill()
        cluster.close(timeout=PATIENCE)


@contextlib.contextmanager
def process(*command, env=None, **options):
    """A process that has ended when the block has, whatever happens."""
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            map(str, [Path(xs2p.__file__).parents[1], HERE, Path(__file__).parent])
        ),
        "PYTHONUNBUFFERED": "1",
        **(env or {}),
    }
    started = subprocess.Popen(
        [sys.executable, *map(str, command)], env=environment, start_new_session=True, **options
    )
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)  # and the workers that it may have started
        started.communicate()


@contextlib.contextmanager
def command_line_cluster(tmp_path):
    """A scheduler and two workers as ``dask scheduler`` and ``dask worker`` start them."""
    file = tmp_path / "scheduler.json"
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(open(tmp_path / "log.txt", "wb"))
        start = functools.partial(process, "-m", "dask", stdout=log, stderr=log, cwd=tmp_path)
        address = ["--host", "127.0.0.1", "--port", "0"]
        stack.enter_context(
            start("scheduler", *address, "--dashboard-address", ":0", "--scheduler-file", file)
        )
        for n in range(2):
            where = ["--host", "127.0.0.1", "--local-directory", tmp_path / str(n)]
            how = ["--nthreads", 1, "--dashboard-address", ":0"]
            stack.enter_context(start("worker", "--scheduler-file", file, *where, *how))
        until(file.exists)
        with distributed.Client(scheduler_file=str(file), timeout=PATIENCE) as client:
            client.wait_for_workers(2, timeout=PATIENCE)
            yield client


def until(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with local_cluster(tmp_path_factory.mktemp("workers")) as (cluster, _):
        yield cluster


@pytest.fixture
def client(cluster):
    with distributed.Client(cluster) as client:
        cluster.scheduler.transition_log.clear()
        yield client


def computed(cluster):
    """Names of the tasks that have been computed, one for each."""
    return [
        distributed.utils.key_split_group(entry.key)
        for entry in list(cluster.scheduler.transition_log)
        if (entry.start, entry.finish) == ("processing", "memory")
    ]


# Same answers, masks once


def count_unpacked():
    """Let a worker count how often it lays masks out; the tasks look the function up by name."""
    from xs2p.masks import layout as _layout

    plain = _layout.layout
    if hasattr(plain, "calls"):
        return

    @functools.wraps(plain)
    def counting(masks):
        counting.calls += 1
        return plain(masks)

    counting.calls = 0
    _layout.layout = counting


def masks_had(dask_worker):
    """How often a worker has laid out the masks, and how often it got them from another."""
    from xs2p.masks import layout as _layout

    log = dask_worker.transfer_incoming_log
    received = sum(str(key).startswith("masks-") for entry in log for key in entry["keys"])
    return np.array([_layout.layout.calls, received])


def check_answers_and_masks(client, recording, whole, tmp_path):
    path, rois = recording
    expected, stored = whole
    client.run(count_unpacked)
    movie = opened(path, seconds=0.05)
    for run in ("extract", "extract_to_zarr"):
        before = client.run(masks_had)
        if run == "extract":
            xr.testing.assert_identical(
                movie.s2p.extract(rois, **STEPS).compute().drop_attrs(),
                expected.drop_attrs(),
            )
        else:
            xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **STORE)
            assert files(tmp_path / "out.zarr") == stored
        had = [after - before[worker] for worker, after in client.run(masks_had).items()]
        # The other got them from the one; each has laid them out once, for all of its tasks.
        assert sorted(map(tuple, had)) == [(1, 0), (1, 1)], run


def test_worker_processes_of_this_machine(client, recording, whole, tmp_path):
    check_answers_and_masks(client, recording, whole, tmp_path)


@pytest.mark.slow
def test_a_cluster_that_the_dask_command_started(recording, whole, tmp_path):
    with command_line_cluster(tmp_path) as client:
        check_answers_and_masks(client, recording, whole, tmp_path)


def test_thousands_of_rois(cluster, client):
    """Nothing warns of a large graph, and the masks still travel once."""
    _, stat, shape, _ = reference("masks_dense_overlap")
    rois = xs2p.rois_from_stat(stat * 60, shape)  # 5,400 ROIs
    frames = np.random.default_rng(0).integers(0, 1000, (12, *shape), dtype=np.int16)
    options = {"allow_overlap": True, "baseline": "none", "fs": 10.0}
    expected = as_movie(frames).s2p.extract(rois, **options)
    client.run(count_unpacked)
    before = client.run(masks_had)
    result = as_movie(frames).chunk(time=2).s2p.extract(rois, **options).compute()
    had = [after - before[worker] for worker, after in client.run(masks_had).items()]
    assert all(laid_out <= 1 and received <= 1 for laid_out, received in had)
    assert sum(received for _, received in had) <= 1
    xr.testing.assert_identical(result, expected)


# One task a chunk, and few of them at a time


@pytest.mark.parametrize("options", [{}, {"neuropil_extract": False}], ids=["Fneu", "no Fneu"])
def test_reading_and_extracting_are_one_task(cluster, client, recording, tmp_path, options):
    path, rois = recording
    movie = opened(path)
    movie.s2p.extract(rois, **STEPS, **options).compute()
    names = computed(cluster)
    extracts = [name for name in names if "xs2p-extract" in name]
    assert len(extracts) == N // CHUNK
    assert not [name for name in names if "movie" in name and "xs2p-extract" not in name]
    cluster.scheduler.transition_log.clear()
    xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **STORE, **options)
    names = computed(cluster)
    extracts = [name for name in names if "xs2p-extract" in name]
    assert len(extracts) == N // CHUNK
    # But for the three frames that tell movies apart.
    assert len([n for n in names if "movie" in n and "xs2p-extract" not in n]) == 3


def test_reading_does_not_run_ahead(cluster, client, recording, whole, tmp_path):
    """What has been read and is not yet written stays a region or so, not the movie."""
    path, rois = recording
    chunk, region = 2, 20
    xs2p.extract_to_zarr(
        opened(path, chunk), rois, tmp_path / "out.zarr", **{**STORE, "frames_per_region": region}
    )
    with xr.open_zarr(tmp_path / "out.zarr") as ds:
        xr.testing.assert_equal(ds.spks.variable, whole[0].spks.variable)
    queued, held, most = 0, set(), 0
    for entry in list(cluster.scheduler.transition_log):
        if "xs2p-extract" in str(entry.key):
            (held.add if entry.finish == "memory" else held.discard)(entry.key)
            most = max(most, len(held))
            queued += entry.finish == "queued"
    assert queued > N // chunk // 2  # the scheduler keeps them back
    assert most <= 3 * region // chunk


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="as Linux shows it")
def test_memory_of_a_worker_does_not_grow_with_the_movie(recording, tmp_path):
    _, rois = recording
    shape, chunk, threads = (256, 256), 64, 2  # 8 MiB
    rois = simulate(20, shape, 2)[1]
    peaks = {}
    with local_cluster(tmp_path, n_workers=1, threads=threads) as (_, client):
        for n_chunks in (20, 20, 200):  # the first of them compiles
            path = tmp_path / f"{n_chunks}.bin"
            n_frames = n_chunks * chunk
            with open(path, "wb") as file:
                file.truncate(n_frames * shape[0] * shape[1] * 2)
            movie = xs2p.open_movie(path, shape=shape, fs=FS, chunks=chunk)
            before = client.run(forget_peak)
            options = {**STORE, "frames_per_region": 4 * chunk, "overwrite": True}
            xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **options)
            ((_, start),) = before.items()
            peaks[n_chunks] = client.run(memory, "VmHWM").popitem()[1] - start
            path.unlink()
    chunk_mib = chunk * shape[0] * shape[1] * 2 / 2**20
    assert peaks[200] < peaks[20] + 6 * chunk_mib  # the movie is 1440 MiB longer
    assert peaks[200] < 10 * threads * chunk_mib


def forget_peak():
    """Start anew with the peak of this process's memory; how much it has now, in MiB.

    Not ``resource.getrusage``: on Linux its peak is that of the process that started this one.
    """
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def memory(which):
    """Memory of this process now (VmRSS) or at most (VmHWM), in MiB."""
    return int(re.search(rf"{which}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


# Workers that die


@pytest.mark.parametrize(
    "run", [pytest.param("extract", marks=pytest.mark.slow), "extract_to_zarr"]
)
def test_workers_that_are_killed(recording, whole, tmp_path, run):
    """SIGKILL at random, four times: all is there, and the same."""
    path, rois = recording
    expected, stored = whole
    choose = random.Random(f"{SEED} {run}")
    movie = opened(path, seconds=0.15)
    # A task that was there when three workers died fails, unless more are allowed.
    allowed = {"distributed.scheduler.allowed-failures": 20}
    with (
        local_cluster(tmp_path, config=allowed) as (cluster, client),
        killing_workers(cluster, client, 4, choose) as killed,
    ):
        if run == "extract":
            result = movie.s2p.extract(rois, **STEPS).compute()
            xr.testing.assert_identical(result.drop_attrs(), expected.drop_attrs())
        else:
            xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **STORE)
            assert files(tmp_path / "out.zarr") == stored
    assert len(killed) >= 2, killed


@contextlib.contextmanager
def killing_workers(cluster, client, number, choose):
    """Kill workers while the block runs, once they read; their nannies start others."""
    ended, killed = threading.Event(), []

    def kill():
        while not client.get_events("xs2p-reads") and not ended.wait(0.02):
            pass
        while len(killed) < number and not ended.wait(choose.uniform(0.1, 1.2)):
            pid = choose.choice(list(cluster.workers.values())).pid
            if pid is not None and pid not in killed:
                os.kill(pid, signal.SIGKILL)
                killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        ended.set()
        thread.join()


def test_what_a_killed_writer_left_is_not_in_the_store(recording, whole, tmp_path, monkeypatch):
    """Zarr writes a chunk under another name first; a process that dies leaves it there."""
    path, rois = recording
    complete = store.complete

    def dying(writer):
        (Path(writer.store) / "F" / "c" / "0" / f"0.{'a' * 32}.partial").write_bytes(
            b"half a chunk"
        )
        complete(writer)

    monkeypatch.setattr(store, "complete", dying)
    xs2p.extract_to_zarr(opened(path), rois, tmp_path / "out.zarr", **STORE)
    assert files(tmp_path / "out.zarr") == whole[1]


@pytest.mark.slow
def test_a_chunk_that_does_not_fit_is_named(recording, tmp_path):
    _, rois = recording
    path, large = tmp_path / "large.bin", 300_000  # frames: 1 GB
    # The first frame, the middle one and the last, which tell movies apart, can be read.
    sizes = (10, large, 20, large, 10)
    with open(path, "wb") as file:
        file.truncate(sum(sizes) * LY * LX * 2)
    frames = _lazy.RawFrames(_lazy.Stamp.of(path), (sum(sizes), LY, LX), "<i2")
    data = movie_chunks.from_array(frames, (sizes, (LY,), (LX,)), frames)
    movie = as_movie(data, fs=FS)
    limits = {"memory_limit": "500 MB", "config": {"distributed.scheduler.allowed-failures": 1}}
    options = {"min_neuropil_pixels": 50, "baseline": "none"}
    frames = rf"10 to {large + 9}|{large + 30} to {2 * large + 29}"
    expected = rf"{path}: the chunk with frames ({frames}): 2 workers died, .* more memory"
    with local_cluster(tmp_path, n_workers=1, **limits):
        with pytest.raises(MemoryError, match=expected):
            movie.s2p.extract(rois, **options).s2p.compute()
        with pytest.raises(MemoryError, match=expected):
            xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", progress=False, **options)


def test_only_reads_of_this_run_are_named(client, recording):
    """Stored traces do not fit either: the movie that was read before is not to blame."""
    path, _ = recording
    (worker,) = client.run(os.getpid, workers=[next(iter(client.scheduler_info()["workers"]))])
    last = SimpleNamespace(address=worker)
    killed = distributed.KilledWorker("rechunk-merge", last, 3)
    read = client.compute(opened(path)[:CHUNK].data, workers=[worker])
    read.result()
    with pytest.raises(MemoryError, match="^4 workers died"), naming_what_was_lost():
        raise killed
    with pytest.raises(MemoryError, match="frames 10 to 19: 4 workers"), naming_what_was_lost():
        client.compute(opened(path)[CHUNK : 2 * CHUNK].data, workers=[worker]).result()
        raise killed


# Chunks that cannot be read


def cut(path):
    movie = xs2p.open_movie(path, shape=(LY, LX), fs=FS, chunks=CHUNK)
    os.truncate(path, 205 * LY * LX * 2)
    return movie


def spoilt_zarr(path):
    store = path.with_suffix(".zarr")
    xs2p.open_movie(path, shape=(LY, LX), fs=FS, chunks=CHUNK).to_dataset(name="movie").to_zarr(
        store, consolidated=False
    )
    movie = xs2p.open_movie(store, chunks=CHUNK)
    chunk = store / "movie" / "c" / "23" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:20] + bytes(40))
    return movie


def spoilt_tiff(path):
    import tifffile

    stack = path.with_suffix(".tif")
    frames = np.fromfile(path, "<i2").reshape(N, LY, LX)
    tifffile.imwrite(stack, frames, photometric="minisblack", compression="zlib")
    movie = xs2p.open_movie(stack, fs=FS, chunks=CHUNK)
    with tifffile.TiffFile(stack) as tif:
        page = tif.pages[235]
        start, size = page.dataoffsets[0], page.databytecounts[0]
    before = stack.stat()
    with open(stack, "r+b") as file:
        file.seek(start)
        file.write(bytes(size))
    os.utime(stack, ns=(before.st_atime_ns, before.st_mtime_ns))  # as a disk that fails has it
    return movie


@pytest.mark.parametrize("where", ["threads", "workers"])
@pytest.mark.parametrize("spoilt", [cut, spoilt_zarr, spoilt_tiff], ids=lambda f: f.__name__)
def test_a_chunk_that_cannot_be_read_is_named(recording, tmp_path, request, spoilt, where):
    path, rois = recording
    copy = tmp_path / "data.bin"
    copy.write_bytes(path.read_bytes())
    movie = spoilt(copy)
    if where == "workers":
        request.getfixturevalue("client")
    # Of a file that was cut no chunk is read: which is tried first is not said.
    frames = r"\d*0 to \d*9" if spoilt is cut else "230 to 239"
    suffix = {cut: "bin", spoilt_zarr: "zarr/movie", spoilt_tiff: "tif"}[spoilt]
    message = rf"{tmp_path}/data\.{suffix}: the chunk with frames {frames} cannot be read"
    with pytest.raises(OSError, match=message):
        movie.s2p.extract(rois, **STEPS).compute()
    with pytest.raises(OSError, match=message):
        movie.s2p.extract(rois, **STEPS).s2p.compute()
    with pytest.raises(OSError, match=message):
        xs2p.extract_to_zarr(movie, rois, tmp_path / "out.zarr", **STORE)


# The command


SLOW = """
import time
from xs2p.movie import frames

def read(self, start, stop, plain=frames.RawFrames.read):
    time.sleep(0.1)
    return plain(self, start, stop)

frames.RawFrames.read = read
"""
# What the command is, but for movies in small chunks and stores of many regions.
COMMAND = f"""
from xs2p import cli
from xs2p.movie import chunks
from xs2p.pipeline import spans
chunks.TARGET_BYTES = {CHUNK * LY * LX * 2}
spans._REGION_SAMPLES = {REGION * 8}
cli.main()
"""


def extract_command(folder, *options, env=None, **more):
    arguments = ["data.bin", "rois.zarr", "out.zarr", "--shape", f"{LY}x{LX}", "--fs", FS]
    arguments += ["--tau", 0.1, "--min-neuropil-pixels", 50, "--win-baseline", 1]
    command = ["-W", "error", "-c", COMMAND, "extract", *arguments, *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return process(*command, cwd=folder, env=env, **pipes, **more)


@pytest.fixture
def folder(recording, tmp_path):
    """A folder with the recording's files, to call the command in."""
    path, rois = recording
    (tmp_path / "data.bin").write_bytes(path.read_bytes())
    rois.to_zarr(tmp_path / "rois.zarr", consolidated=False)
    return tmp_path


@pytest.fixture(scope="module")
def from_shell(recording, tmp_path_factory):
    """The store that the command makes with threads."""
    path, rois = recording
    folder = tmp_path_factory.mktemp("shell")
    (folder / "data.bin").write_bytes(path.read_bytes())
    rois.to_zarr(folder / "rois.zarr", consolidated=False)
    with extract_command(folder) as run:
        out, err = run.communicate(timeout=PATIENCE)
    assert (run.returncode, err) == (0, "")
    return out, files(folder / "out.zarr")


# On a busy machine distributed itself may remark that a worker takes its time to end.
DASHBOARD = r"xs2p: dashboard at http://127\.0\.0\.1:\d+/status\n(.*still alive after.*\n)*"


@pytest.mark.slow
def test_the_command_starts_workers(folder, from_shell):
    with extract_command(folder, "--workers", 2, "--threads-per-worker", 1) as run:
        out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    assert (out, files(folder / "out.zarr")) == from_shell
    assert re.fullmatch(DASHBOARD, err), err


@pytest.mark.slow
def test_the_command_works_on_a_cluster(cluster, folder, from_shell):
    address = cluster.scheduler_address
    # Meanwhile one that nobody answers. Port 1 is nobody's.
    wrong = folder / "elsewhere"
    wrong.mkdir()
    for name in ("data.bin", "rois.zarr"):
        (wrong / name).symlink_to(folder / name)
    with extract_command(wrong, "--scheduler", "tcp://127.0.0.1:1") as waiting:
        with extract_command(folder, "--scheduler", address) as run:
            out, err = run.communicate(timeout=PATIENCE)
        assert run.returncode == 0, err
        assert (out, files(folder / "out.zarr")) == from_shell
        assert re.fullmatch(DASHBOARD, err), err
        out, err = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, out) == (2, "")
    wanted = r"xs2p: --scheduler tcp://127\.0\.0\.1:1: no Dask scheduler answers there \(.*\)\n"
    assert re.fullmatch(wanted, err), err
    assert not (wrong / "out.zarr").exists()
    with extract_command(wrong, "--scheduler", "nonsense") as run:
        out, err = run.communicate(timeout=PATIENCE)
    assert (run.returncode, out) == (2, "")
    assert re.fullmatch(r"xs2p: --scheduler nonsense: no Dask scheduler .*\n", err), err


@pytest.mark.slow
def test_the_command_resumes_after_it_was_killed(folder, from_shell):
    (folder / "slow.py").write_text(SLOW)
    slow = {"DASK_DISTRIBUTED__WORKER__PRELOAD": str(folder / "slow.py")}
    options = ["--workers", 2, "--threads-per-worker", 1, "--resume"]
    with extract_command(folder, *options, env=slow) as run:
        marks = folder / "out.partial.zarr" / "xs2p_done_traces" / "c" / "0"
        until(lambda: len(list(marks.glob("*"))) >= 2 or run.poll() is not None)
        assert run.poll() is None, run.communicate()
        run.kill()
        run.wait(PATIENCE)
        # Its workers see that it is gone, and end.
        until(lambda: subprocess.run(["pgrep", "-g", str(run.pid)], capture_output=True).returncode)
    assert len(list(marks.glob("*"))) < N // REGION
    assert not (folder / "out.zarr").exists()
    with extract_command(folder, *options) as run:
        out, err = run.communicate(timeout=PATIENCE)
    assert run.returncode == 0, err
    assert (out, files(folder / "out.zarr")) == from_shell
    assert re.fullmatch(DASHBOARD, err), err
    assert not (folder / "out.partial.zarr").exists()


@pytest.mark.slow
def test_a_scheduler_that_dies_in_the_middle(tmp_path, capsys):
    """The run ends and is named; another, on threads of this process, goes on to the same bytes."""
    cluster = pytest.importorskip("benchmarks.reliability_cluster")
    cluster.scheduler_dies(tmp_path, cluster.prepared(tmp_path))
    out, err = capsys.readouterr()
    assert "| the scheduler dies | 1 | 1 | 1 | 1 of 1 |" in out
    assert re.search(r"without a scheduler: \w+Error: .*scheduler", err), err


# Progress


DONE = r"{n} of {n} frames .* 100 % +[\d,]+ frames/s +\d+\.\d GB read +\d+:\d\d:\d\d"


@pytest.mark.parametrize("where", ["threads", pytest.param("workers", marks=pytest.mark.slow)])
def test_progress(recording, tmp_path, request, terminal, monkeypatch, where):
    path, rois = recording
    if where == "workers":
        request.getfixturevalue("client")
    options = {**STORE, "progress": True}
    store = tmp_path / "out.zarr"
    with terminal() as seen:
        xs2p.extract_to_zarr(opened(path, seconds=0.05), rois, store, **options)
    read, made = seen.lines()
    assert re.match(DONE.format(n=N), read), read
    assert re.match(r"Fc, F0, spks .* 100 % +\d+:\d\d:\d\d", made), made
    # There was something to see on the way there.
    numbers = {int(n) for n in re.findall(rf"(\d+) of {N} frames", seen.getvalue())}
    assert len(numbers) > 2 and max(numbers) == N
    # What is not read again does not count.
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(xs2p.pipeline.regions, "write_rest", interrupt)
        xs2p.extract_to_zarr(opened(path), rois, store, overwrite=True, **STORE)
    zarr.open_group(tmp_path / "out.partial.zarr", mode="r+")["xs2p_done_traces"][:, 3:6] = 0
    with terminal() as seen:
        xs2p.extract_to_zarr(opened(path), rois, store, overwrite=True, resume=True, **options)
    read, made = seen.lines()
    assert re.match(DONE.format(n=3 * REGION), read), read
    assert re.match(r"Fc, F0, spks .* 100 %", made), made


def interrupt(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["threads", "workers"])
def test_no_progress_where_nobody_looks(recording, tmp_path, request, capfd, where):
    path, rois = recording
    if where == "workers":
        request.getfixturevalue("client")
    xs2p.extract_to_zarr(opened(path), rois, tmp_path / "out.zarr", **{**STORE, "progress": True})
    traces = opened(path).s2p.extract(rois, **STEPS)
    traces.s2p.compute()
    assert capfd.readouterr() == ("", "")
    with contextlib.redirect_stderr(Terminal()) as seen:
        traces.s2p.compute()
    assert re.search(rf"{N} of {N} frames .* 100 %", seen.getvalue())


def test_progress_can_be_asked_for(capsys):
    tell = _progress.reading(20, 4e9)
    with _progress.watch(tell, 5, show=True) as watched, watched.part(5):
        pass
    assert re.search(r"20 of 20 frames .* 4\.0 GB read", capsys.readouterr().err)
    with pytest.raises(KeyboardInterrupt), _progress.watch(tell, 5, show=True):
        raise KeyboardInterrupt
    assert "0 of 20 frames" in capsys.readouterr().err


@pytest.mark.parametrize(
    "case", ["plain", "no neuropil", "second channel", "channels", "planes", "tiles"]
)
def test_progress_counts_the_tasks_that_read(recording, case):
    path, rois = recording
    movie, options = opened(path), dict(STEPS)
    if case == "no neuropil":
        options["neuropil_extract"] = False
    elif case == "second channel":
        options["movie_chan2"] = opened(path, chunk=25)
    elif case == "channels":
        movie = xr.concat([movie, movie + np.int16(1)], "channel").assign_attrs(movie.attrs)
    elif case == "planes":
        movie = xr.concat([movie, movie + np.int16(1)], "plane").assign_attrs(movie.attrs)
        rois = rois.assign_coords(plane=("roi", np.arange(8) % 2))
    elif case == "tiles":
        movie = movie.chunk(y=25, x=30)
    traces = movie.s2p.extract(rois, **options)
    ran = []
    with dask.callbacks.Callback(
        pretask=lambda key, *_: ran.append(_progress.is_counted(key, _progress.READS))
    ):
        traces.compute(scheduler="sync")
    assert sum(ran) == _progress.count_reads(traces.spks.data, *(v.data for v in traces.values()))


@pytest.mark.parametrize("where", ["threads", "workers"])
def test_progress_of_what_is_written_and_filtered(recording, tmp_path, request, terminal, where):
    path, rois = recording
    if where == "workers":
        request.getfixturevalue("client")
    movie = opened(path)
    with terminal() as seen:
        traces = movie.s2p.extract(rois, snr_threshold=-1e9, **STEPS)
        assert seen.getvalue() == ""  # no filter, nothing to wait for
        xs2p.write_suite2p(traces, tmp_path / "plane0")
    (written,) = seen.lines()
    assert re.match(r"writing traces .* 100 %", written), written
    with terminal() as seen:
        movie.s2p.extract(rois, snr_threshold=1e-9, **STEPS)
    (read,) = seen.lines()
    assert re.match(DONE.format(n=N), read), read


def test_progress_in_a_notebook(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ipykernel", None)
    with _progress.progress_bar(patience=60.0):  # of what is quick there is not even a line
        da.ones(4, chunks=2).compute()
    assert capsys.readouterr().out == ""
    with _progress.watch(_progress.reading(20, 4e9), 5) as watched:
        with watched.part(5):
            pass
    *_, last = capsys.readouterr().out.split("\r")
    assert re.fullmatch(r"20 of 20 frames \[#{30}\] 100% [\d,]+ frames/s 4\.0 GB read\n", last)
