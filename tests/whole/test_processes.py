"""Several runs at once, in threads and processes, and machines where little may be written."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType

import dask
import numpy as np
import pytest
import xarray as xr
from stores import files

import xs2p
from xs2p.compute.cluster import has_client, naming_what_was_lost
from xs2p.disk.reads import named_read
from xs2p.testing import simulate

OPTIONS = {"tau": 0.1, "min_neuropil_pixels": 50}
STORE = {**OPTIONS, "frames_per_region": 50, "progress": False}
SCRIPT = textwrap.dedent(
    """
    import sys
    import xs2p
    from xs2p.testing import simulate
    def run(path):
        movie, rois, _ = simulate(4, (30, 32), 100, fs=10.0, chunks=25, seed=1)
        ds = movie.s2p.extract(rois, tau=0.1, min_neuropil_pixels=50).compute()
        ds[["F", "spks"]].drop_encoding().to_netcdf(path)
    """
)


def recording(seed):
    return simulate(4, (30, 32), 100, fs=10.0, chunks=25, seed=seed)[:2]


@pytest.fixture(scope="module")
def expected():
    movie, rois = recording(1)
    return movie.s2p.extract(rois, **OPTIONS).compute()


def check(path, expected):
    with xr.open_dataset(path) as ds:
        for name in ("F", "spks"):
            np.testing.assert_array_equal(ds[name], expected[name])


def started(code, *args, **env):
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(code), *map(str, args)],
        env={**os.environ, "PYTHONFAULTHANDLER": "1", **env},  # a crash says where
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process, timeout=120):
    err = process.communicate(timeout=timeout)[1]
    assert process.returncode == 0, err
    return err


def test_several_at_once_in_one_process(tmp_path):
    """Each gets its own result, in memory and in stores, and its own history."""

    def both(seed):
        movie, rois = recording(seed)
        path = tmp_path / f"{seed}.zarr"
        xs2p.extract_to_zarr(movie, rois, path, **STORE)
        return movie.s2p.extract(rois, **OPTIONS).compute(), path

    seeds = range(1, 5)
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(both, seeds))
    for seed, (ds, path) in zip(seeds, found, strict=True):
        movie, rois = recording(seed)
        alone = movie.s2p.extract(rois, **OPTIONS).compute()
        stored = xr.open_zarr(path).compute()
        for name in alone.data_vars:
            np.testing.assert_array_equal(ds[name], alone[name])
            np.testing.assert_array_equal(stored[name], alone[name])
        told = xs2p.provenance(path)
        assert told["resumes"] == 0 and told["complete"]


@pytest.mark.parametrize("name", ["FutureCancelledError", "CommClosedError"])
def test_a_scheduler_that_is_lost_is_named(name):
    with pytest.raises(ConnectionError, match="scheduler was lost .*go on without one"):
        with naming_what_was_lost():
            raise type(name, (Exception,), {})("finalize-hlg cancelled")


def test_distributed_that_another_thread_is_importing(monkeypatch):
    """A module is in sys.modules before its names are."""
    monkeypatch.setitem(sys.modules, "distributed", ModuleType("distributed"))
    assert not has_client()
    with named_read("movie", 0, 1):
        pass


@pytest.mark.slow
def test_the_processes_scheduler(tmp_path, expected):
    movie, rois = recording(1)
    with dask.config.set(scheduler="processes", num_workers=2):
        ds = movie.s2p.extract(rois, **OPTIONS).compute()
        xs2p.extract_to_zarr(movie, rois, tmp_path / "there.zarr", **STORE)
    xs2p.extract_to_zarr(movie, rois, tmp_path / "here.zarr", **STORE)
    for name in expected.data_vars:
        np.testing.assert_array_equal(ds[name], expected[name])
    assert files(tmp_path / "there.zarr") == files(tmp_path / "here.zarr")


@pytest.mark.slow
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_threading_layers_of_numba(tmp_path, expected, layer):
    """That of xs2p's kernels is Dask's; workqueue dies where two threads enter it."""
    ended(started("run(sys.argv[1])", tmp_path / "a.nc", NUMBA_THREADING_LAYER=layer))
    check(tmp_path / "a.nc", expected)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_made_after_threads_worked(tmp_path, expected, method):
    """As pools of multiprocessing make them, of a process that has already computed."""
    (tmp_path / "job.py").write_text(SCRIPT)
    code = f"""
    import multiprocessing, warnings
    sys.path.insert(0, {str(tmp_path)!r})
    import job
    job.run(sys.argv[1] + "0.nc")
    warnings.simplefilter("ignore")  # Python's of a fork beside threads
    context = multiprocessing.get_context({method!r})
    children = [
        context.Process(target=job.run, args=(sys.argv[1] + f"{{n}}.nc",)) for n in (1, 2)
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0], children
    """
    script = tmp_path / "main.py"
    script.write_text("if __name__ == '__main__':\n    import sys\n" + textwrap.indent(
        textwrap.dedent(code), "    "))  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(script), f"{tmp_path}/"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    ended(process)
    for n in range(3):
        check(tmp_path / f"{n}.nc", expected)


@pytest.mark.slow
def test_two_processes_that_compile_at_once(tmp_path, expected):
    """Into one empty cache: neither reads what the other has half written."""
    cache = {"NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    several = [started("run(sys.argv[1])", tmp_path / f"{n}.nc", **cache) for n in range(2)]
    told = [process.communicate(timeout=300)[1] for process in several]  # none goes on alone
    for n, process in enumerate(several):
        assert process.returncode == 0, told[n]
        check(tmp_path / f"{n}.nc", expected)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="of POSIX")
def test_nothing_can_be_written_but_the_result(tmp_path, expected):
    """HOME and site-packages are read-only: kernels are compiled for this process alone."""
    home = tmp_path / "home"
    home.mkdir()
    code = """
    import builtins, os
    from pathlib import Path
    free, plain, make = os.environ["FREE"], os.open, os.mkdir
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))
    def opened(path, flags, *args, **kwargs):
        if flags & (os.O_WRONLY | os.O_RDWR) and not str(path).startswith(("/dev", free)):
            refuse(path)
        return plain(path, flags, *args, **kwargs)
    def made(path, *args, **kwargs):
        return make(path, *args, **kwargs) if str(path).startswith(free) else refuse(path)
    whole = builtins.open
    def read(path, mode="r", *args, **kwargs):
        if set(mode) & set("wax+") and not str(path).startswith(("/dev", free)):
            refuse(path)
        return whole(path, mode, *args, **kwargs)
    os.open, os.mkdir, builtins.open = opened, made, read
    run(sys.argv[1])
    """
    (tmp_path / "out").mkdir()
    env = {"HOME": str(home), "XDG_CACHE_HOME": str(home), "FREE": str(tmp_path / "out")}
    env |= {"MPLCONFIGDIR": str(tmp_path / "out"), "PYTHONDONTWRITEBYTECODE": "1"}
    # As an installed copy: no cache of this checkout is found.
    code = "import tempfile; tempfile.tempdir = sys.argv[2]" + textwrap.dedent(code)
    ended(started(code, tmp_path / "out" / "a.nc", tmp_path / "out", **env), timeout=300)
    check(tmp_path / "out" / "a.nc", expected)
    assert not list(home.iterdir())


@pytest.mark.slow
def test_an_interpreter_that_ends_while_work_goes_on(tmp_path):
    """No crash, and no hang: it waits for tasks that have begun, and starts no others."""
    code = """
    import threading, time
    movie, rois, _ = simulate(4, (30, 32), 2000, fs=10.0, chunks=25, seed=1)
    def slow(block):
        time.sleep(0.02)
        return block
    movie = movie.copy(data=movie.data.map_blocks(slow, dtype=movie.dtype))
    options = dict(tau=0.1, frames_per_region=100, progress=False)
    def work():
        xs2p.extract_to_zarr(movie, rois, sys.argv[1], **options)
    threading.Thread(target=work, daemon=True).start()
    while not __import__("os").path.isdir(sys.argv[1].replace(".zarr", ".partial.zarr")):
        time.sleep(0.01)
    """
    path = tmp_path / "traces.zarr"
    process = started(code, path)
    process.communicate(timeout=60)
    assert process.returncode == 0
    movie, rois, _ = simulate(4, (30, 32), 2000, fs=10.0, chunks=25, seed=1)
    options = {"tau": 0.1, "frames_per_region": 100, "progress": False}
    ds = xs2p.extract_to_zarr(movie, rois, path, resume=True, **options)
    whole = movie.s2p.extract(rois, tau=0.1).compute()
    np.testing.assert_array_equal(ds.F, whole.F)


def test_processes_take_no_names_of_each_others_cached_code(tmp_path):
    """numba counts them: two at once would take 1, each for its own signature."""
    code = """
    import numpy as np
    from xs2p.compute.kernels import njit
    from xs2p.traces.oasis_cpu import oasis_pools
    names = {oasis_pools._cache._cache_file._data_name(1) for _ in range(3)}
    assert len(names) == 3 and all(name.endswith(".nbc") for name in names), names
    """
    ended(started(code))
