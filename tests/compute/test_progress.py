"""One bar, on stderr, for whatever computes; it is there to be seen and never in the way."""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from terminals import Terminal

import xs2p
from xs2p.compute import progress

PACKAGE = Path(xs2p.__file__).parent


@pytest.fixture(scope="module")
def lazy():
    return xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)


def test_tasks_are_named_by_one_constant_each():
    """A name that is typed twice would be counted no more when one of the two changes."""
    spelled = {"xs2p-extract": [], "xs2p-write": [], "xs2p-mark": []}
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        for name, where in spelled.items():
            where += [path.name] * len(re.findall(rf"[\"']{name}", text))
    assert spelled == {name: ["progress.py"] for name in spelled}
    assert (progress.READS, progress.WRITES, progress.MARKS) == tuple(spelled)


def test_there_is_one_bar():
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert "ProgressBar" not in text, path
        assert ("rich.progress" in text) == (path.name == "progress.py"), path


def test_it_counts_frames_where_a_movie_is_read(lazy, terminal, capfd):
    with terminal() as seen:
        lazy.s2p.compute()
    assert re.search(r"500 of 500 frames .* 100 % +[\d,]+ frames/s", seen.getvalue())
    with terminal() as seen:
        lazy.F.s2p.compute()
    assert "500 of 500 frames" in seen.getvalue()
    assert capfd.readouterr().out == ""


def test_it_counts_tasks_where_none_is(terminal):
    F = xr.DataArray(np.ones((4, 900), np.float32), dims=("roi", "time")).chunk(time=300)
    with terminal() as seen:
        made = F.s2p.deconvolve(tau=0.1, fs=10.0).s2p.compute()
    assert isinstance(made.data, np.ndarray)
    assert re.search(r"computing .* 100 %", seen.getvalue())


@pytest.mark.parametrize("what", ["suite2p", "nwb", "dataframe", "store"])
def test_writers_and_tables_show_it(lazy, terminal, tmp_path, what, monkeypatch, capfd):
    import datetime

    start = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    plain = progress.progress_bar
    monkeypatch.setattr("xs2p.io.dataframe.progress_bar", lambda: plain(patience=0.0))
    with terminal() as seen:
        if what == "suite2p":
            xs2p.write_suite2p(lazy, tmp_path / "plane0")
        elif what == "nwb":
            xs2p.write_nwb(lazy, tmp_path / "a.nwb", session_start_time=start)
        elif what == "dataframe":
            lazy.s2p.to_dataframe()
        else:
            xs2p.extract_to_zarr(
                xs2p.sample_movie(), xs2p.sample_rois(), tmp_path / "out.zarr", tau=1.0
            )
    told = {"suite2p": "writing traces", "nwb": "writing traces", "dataframe": "computing"}
    assert re.search(rf"{told.get(what, 'Fc, F0, spks')} .* 100 %", seen.getvalue())
    assert capfd.readouterr().out == ""


def test_what_is_quick_shows_nothing(terminal):
    data = xr.DataArray(da.ones(4, chunks=2), dims="time")
    with terminal() as seen, progress.progress_bar(patience=60.0):
        data.compute()
    assert seen.getvalue() == ""


def test_nothing_where_nobody_looks(lazy, capfd):
    lazy.s2p.compute()
    with progress.progress_bar(patience=0.0):
        lazy.F.compute()
    assert capfd.readouterr() == ("", "")


def test_without_a_stderr(lazy, monkeypatch):
    """As in a program without a console, or where somebody has closed it."""
    closed = io.StringIO()
    closed.close()
    for stream in (None, closed):
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stderr", stream)
            assert lazy.F.s2p.compute().dtype == np.float32


def test_within_another_bar(lazy, terminal):
    """Some releases of rich show one bar at a time: ours gives way there."""
    from rich.console import Console
    from rich.progress import Progress

    with terminal() as seen, Progress(console=Console(stderr=True)) as other:
        task = other.add_task("somebody else's", total=1)
        made = lazy.s2p.compute()
        other.update(task, completed=1)
    assert made.F.dtype == np.float32
    assert "somebody else's" in seen.getvalue()


def test_an_error_and_ctrl_c_pass_through_and_leave_the_terminal_clean(terminal):
    for error in (KeyboardInterrupt, ZeroDivisionError):

        def fails(block, error=error):
            raise error

        data = xr.DataArray(da.ones(4, chunks=2).map_blocks(fails, meta=np.ones(0)), dims="time")
        with terminal() as seen, pytest.raises(error):
            data.s2p.compute()
        assert seen.getvalue().count("\x1b[?25l") == seen.getvalue().count("\x1b[?25h")


def test_it_costs_little(lazy):
    """A bar that is told of 20,000 tasks: some microseconds each."""
    with contextlib.redirect_stderr(Terminal()), progress._bar(lambda *_: ("", "")) as report:
        start = time.perf_counter()
        for n in range(20_000):
            report(n / 20_000)
        assert time.perf_counter() - start < 20  # a millisecond each would be a defect


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
def test_on_a_terminal(tmp_path):
    """As a user sees it, in a process of its own."""
    import pty

    code = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "import xs2p\n"
        "ds = xs2p.sample_movie(20).s2p.extract(xs2p.sample_rois(), tau=1.0)\n"
        "ds.s2p.compute(); print('done')"
    )
    reader, writer = pty.openpty()
    env = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "CI")}
    done = subprocess.run(
        [sys.executable, "-c", code],
        stderr=writer, stdout=subprocess.PIPE, text=True, env={**env, "TERM": "xterm"},
    )  # fmt: skip
    os.close(writer)
    seen = b""
    with contextlib.suppress(OSError):
        while part := os.read(reader, 65536):
            seen += part
    os.close(reader)
    assert done.stdout == "done\n" and done.returncode == 0
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode())
    assert re.search(r"500 of 500 frames .*100 %", plain), plain


def test_all_tasks_on_a_cluster(terminal):
    distributed = pytest.importorskip("distributed")
    F = xr.DataArray(np.ones((4, 900), np.float32), dims=("roi", "time")).chunk(time=100)
    slow = F.copy(data=F.data.map_blocks(lambda block: (time.sleep(0.2), block)[1], dtype="f4"))
    with (
        distributed.LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None
        ) as own,
        distributed.Client(own),
        terminal() as seen,
    ):
        slow.s2p.compute()
    shares = [int(n) for n in re.findall(r"(\d+) %", seen.getvalue())]
    assert "computing" in seen.getvalue() and max(shares) >= 50 and shares == sorted(shares)
