"""How far a run is: frames per second, gigabytes read, time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import xarray as xr

from xs2p._attrs import check_flag
from xs2p.compute.cluster import has_client, naming_what_was_lost

# In the names of tasks that are counted: those that read a movie, write traces, note what is done.
READS, WRITES, MARKS = "xs2p-extract", "xs2p-write", "xs2p-mark"
_EVERY = 0.5  # seconds between two looks at a cluster

_Tell = Callable[[float, float], tuple[str, str]]


def reading(frames: float, movie_bytes: float | None = None) -> _Tell:
    """Say how much of a movie has been read, and how fast."""

    def tell(share: float, seconds: float) -> tuple[str, str]:
        read = f"{frames * share / seconds if seconds else 0.0:,.0f} frames/s"
        if movie_bytes is not None:
            read += f" {movie_bytes * share / 1e9:.1f} GB read"
        return f"{frames * share:,.0f} of {frames:,.0f} frames", read

    return tell


class Watch:
    """A run that is watched, computed in one part or in several."""

    def __init__(self, task: str, report: Callable[[float], None] | None) -> None:
        self._task, self._report, self._done = task, report, 0.0

    @contextlib.contextmanager
    def part(self, n_tasks: float) -> Iterator[None]:
        """Count tasks while a graph is computed that has ``n_tasks`` of them, about."""
        report = self._report
        if report is None:
            yield
            return
        count = _on_cluster if has_client() else _in_process
        with count(self._task, lambda n: report(self._done + min(n, n_tasks))):
            yield
        self._done += n_tasks  # whoever looked last
        report(self._done)


@contextlib.contextmanager
def watch(
    tell: _Tell, n_tasks: float, task: str = READS, show: bool | None = None
) -> Iterator[Watch]:
    """Show a bar while Dask computes, locally or on a cluster.

    ``n_tasks`` is how many tasks will have ``task`` in their name; ``tell`` makes of the share of
    them that is done, and the seconds that took, what stands before the bar and behind it. It is
    shown on stderr where that is a terminal, and in a notebook.
    """
    show = is_watched() if show is None else show
    if not show or n_tasks <= 0:
        yield Watch(task, None)
        return
    with _bar(tell) as report:
        report(0.0)
        yield Watch(task, lambda done: report(done / n_tasks))


@contextlib.contextmanager
def progress_bar(patience: float = 1.0) -> Iterator[None]:
    """Show a bar while the block computes, if that takes longer than some seconds and is seen.

    It counts all tasks of whatever is computed, locally or on a cluster.
    """
    if not is_watched():
        yield
        return
    count = _all_on_cluster if has_client() else _all_in_process
    with _bar(lambda *_: ("computing", ""), patience) as report, count(report):
        yield


@contextlib.contextmanager
def _bar(tell: _Tell, patience: float = 0.0) -> Iterator[Callable[[float], None]]:
    """Give a function that is told the share that is done: the ONE bar, rich's, on stderr.

    In a notebook it is a line of text that is written anew. It appears after ``patience`` seconds.
    """
    if in_notebook():
        line = _Line(tell, patience)
        yield line
        if line.width:
            print(flush=True)
        return
    from rich.console import Console
    from rich.errors import LiveError
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.fields[before]}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[behind]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    shown = bar.add_task("", total=1.0, before="", behind="")
    start = time.monotonic()

    def report(share: float) -> None:
        share = min(share, 1.0)
        if not bar.live.is_started and not bar.disable:
            if time.monotonic() - start < patience:
                return
            try:
                bar.start()
            except LiveError:  # somebody else's bar is on the screen
                bar.disable = True
        before, behind = tell(share, bar.tasks[shown].elapsed or 0.0)
        bar.update(shown, completed=share, before=before, behind=behind)

    try:
        yield report
    finally:
        if bar.live.is_started:
            bar.stop()


class _Line:
    """Reports on one line of a notebook's output; rich would need ipywidgets for it."""

    def __init__(self, tell: _Tell, patience: float) -> None:
        self.tell, self.patience = tell, patience
        self.start, self.last = time.monotonic(), -1.0
        self.width = 0
        """Of what is written; 0 where nothing is."""

    def __call__(self, share: float) -> None:
        """Write the line anew."""
        share, seconds = min(share, 1.0), time.monotonic() - self.start
        soon = self.last + _EVERY > seconds and share < 1 and self.last >= 0
        if seconds < self.patience or soon:
            return
        before, behind = self.tell(share, seconds)
        left = f"{seconds / share - seconds:.0f} s left" if 0 < share < 1 else ""
        text = f"{before} [{'#' * round(30 * share):30}] {share:.0%} {behind} {left}".strip()
        print("\r" + text.ljust(self.width), end="", flush=True)
        self.last, self.width = seconds, len(text)


def count_reads(*arrays: Any) -> int:
    """Count the tasks of Dask arrays that read a chunk of a movie."""
    layers: dict[str, Any] = {}
    for array in arrays:
        layers |= {name: layer for name, layer in array.dask.layers.items() if READS in name}
    return sum(map(len, layers.values()))


@contextlib.contextmanager
def _in_process(task: str, report: Callable[[float], None]) -> Iterator[None]:
    from dask.callbacks import Callback

    seen: set[Any] = set()

    def posttask(key: Any, *_: Any) -> None:
        if is_counted(key, task):
            seen.add(key)
            report(len(seen))

    with Callback(posttask=posttask):
        yield


@contextlib.contextmanager
def _all_in_process(report: Callable[[float], None]) -> Iterator[None]:
    """Report the share of all tasks of each graph that is computed."""
    from dask.callbacks import Callback

    left = [0, 0]

    def start_state(_: Any, state: Any) -> None:
        left[:] = 0, sum(len(state[kind]) for kind in ("ready", "waiting", "finished"))

    def posttask(*_: Any) -> None:
        left[0] += 1
        report(left[0] / max(left[1], 1))

    with Callback(start_state=start_state, posttask=posttask):
        yield


@contextlib.contextmanager
def _all_on_cluster(report: Callable[[float], None]) -> Iterator[None]:
    from distributed import get_client

    client = get_client()
    before = set(client.run_on_scheduler(tasks_of_all))

    def look() -> None:
        found = client.run_on_scheduler(tasks_of_all)
        new = [counts for name, counts in found.items() if name not in before]
        report(sum(done for done, _ in new) / max(sum(total for _, total in new), 1))

    with _looking(look):
        yield


@contextlib.contextmanager
def _on_cluster(task: str, report: Callable[[float], None]) -> Iterator[None]:
    from distributed import get_client

    client = get_client()
    before = client.run_on_scheduler(tasks_done, task)

    def look() -> None:
        done = client.run_on_scheduler(tasks_done, task)
        report(sum(max(n - before.get(name, 0), 0) for name, n in done.items()))

    with _looking(look):
        yield


@contextlib.contextmanager
def _looking(look: Callable[[], None]) -> Iterator[None]:
    """Look at a cluster now and then, from a thread beside."""
    ended = threading.Event()

    def again() -> None:
        while not ended.wait(_EVERY):
            with contextlib.suppress(Exception):  # a look that fails must not end the run
                look()

    thread = threading.Thread(target=again, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def is_counted(key: Any, task: str) -> bool:
    """Whether a key is that of a task whose name has ``task`` in it."""
    return isinstance(key, tuple) and task in str(key[0])


def tasks_done(task: str, dask_scheduler: Any = None) -> dict[str, int]:
    """Count the tasks that are done, by the name of their group; on the scheduler."""
    groups = dask_scheduler.task_groups.items()
    return {name: _done_of(group) for name, group in groups if task in name}


def tasks_of_all(dask_scheduler: Any = None) -> dict[str, tuple[int, int]]:
    """Count the tasks that are done, and all of them, by their group; on the scheduler."""
    groups = dask_scheduler.task_groups.items()
    return {name: (_done_of(group), sum(group.states.values())) for name, group in groups}


def _done_of(group: Any) -> int:
    states = group.states
    ended = states["memory"] + states["forgotten"]
    # Released: done and no longer needed, or not yet begun.
    begun = ended + states["processing"] > 0
    return int(ended + (states["released"] if begun else 0))


T = TypeVar("T", xr.DataArray, xr.Dataset)


def compute(obj: T, *, progress: bool = True) -> T:
    """Compute every lazy variable at once, in one pass over the movie, with a progress bar.

    Parameters
    ----------
    obj
        Dataset or DataArray, lazy or not.
    progress
        Show how far it is, on stderr where that is a terminal, or in a notebook: frames that were
        read where the movie is read, else a share of the tasks.

    Returns
    -------
    Dataset or DataArray
        As ``obj.compute()`` gives it.

    Raises
    ------
    MemoryError
        Workers of a cluster died: the message names the part of the movie that they read.
    """
    check_flag("progress", progress)
    with naming_what_was_lost(), _watched(obj) if progress else contextlib.nullcontext():
        return obj.compute()


def is_watched() -> bool:
    """Whether a bar is seen: in a log file it would be a line of many megabytes."""
    if in_notebook():
        return True
    try:
        return bool(sys.stderr.isatty())
    except (AttributeError, ValueError, OSError):  # there is none, or it is closed
        return False


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    return "ipykernel" in sys.modules


@contextlib.contextmanager
def _watched(obj: xr.DataArray | xr.Dataset) -> Iterator[None]:
    lazy = [v.data for v in _variables(obj) if v.chunks]
    reads = count_reads(*lazy)
    if not lazy:
        yield
    elif reads and "time" in obj.sizes:
        with watch(reading(obj.sizes["time"]), reads) as watched, watched.part(reads):
            yield
    else:
        with progress_bar(patience=0.0):
            yield


def _variables(obj: xr.DataArray | xr.Dataset) -> list[xr.Variable]:
    if isinstance(obj, xr.DataArray):
        return [obj.variable, *(c.variable for c in obj.coords.values())]
    return list(obj.variables.values())
