"""How far a run is: frames per second, gigabytes read, time left."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import xarray as xr

from xs2p.compute.cluster import has_client, naming_what_was_lost

READS, MARKS = "xs2p-extract", "xs2p-mark"  # in the names of tasks that are counted
_EVERY = 0.5  # seconds between two looks at a cluster

_Tell = Callable[[float, float], tuple[str, str]]


def reading(frames: float, movie_bytes: float) -> _Tell:
    """Say how much of a movie has been read, and how fast."""

    def tell(share: float, seconds: float) -> tuple[str, str]:
        speed = frames * share / seconds if seconds else 0.0
        read = f"{speed:,.0f} frames/s {movie_bytes * share / 1e9:.1f} GB read"
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
    show = sys.stderr.isatty() or in_notebook() if show is None else show
    if not show or n_tasks <= 0:
        yield Watch(task, None)
        return
    if in_notebook():
        yield Watch(task, _line(tell, n_tasks))
        print(flush=True)
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.fields[before]}"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[behind]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    with bar:
        shown = bar.add_task("", total=n_tasks, before="", behind="")

        def report(done: float) -> None:
            done = min(done, n_tasks)
            before, behind = tell(done / n_tasks, bar.tasks[shown].elapsed or 0.0)
            bar.update(shown, completed=done, before=before, behind=behind)

        report(0.0)
        yield Watch(task, report)


def _line(tell: _Tell, n_tasks: float) -> Callable[[float], None]:
    """Report on one line of a notebook's output; rich would need ipywidgets for it."""
    start = time.monotonic()
    last = [-1.0, 0]

    def report(done: float) -> None:
        share, seconds = min(done / n_tasks, 1.0), time.monotonic() - start
        if last[0] + _EVERY > seconds and share < 1 and last[0] >= 0:
            return
        before, behind = tell(share, seconds)
        left = f"{seconds / share - seconds:.0f} s left" if 0 < share < 1 else ""
        text = f"{before} [{'#' * round(30 * share):30}] {share:.0%} {behind} {left}".strip()
        print("\r" + text.ljust(int(last[1])), end="", flush=True)
        last[:] = seconds, len(text)

    return report


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
def _on_cluster(task: str, report: Callable[[float], None]) -> Iterator[None]:
    from distributed import get_client

    client = get_client()
    before = client.run_on_scheduler(tasks_done, task)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            with contextlib.suppress(Exception):  # a look that fails must not end the run
                done = client.run_on_scheduler(tasks_done, task)
                report(sum(max(n - before.get(name, 0), 0) for name, n in done.items()))

    thread = threading.Thread(target=look, daemon=True)
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
    done = {}
    for name, group in dask_scheduler.task_groups.items():
        if task in name:
            states = group.states
            ended = states["memory"] + states["forgotten"]
            # Released: done and no longer needed, or not yet begun.
            begun = ended + states["processing"] > 0
            done[name] = ended + (states["released"] if begun else 0)
    return done


T = TypeVar("T", xr.DataArray, xr.Dataset)


def compute(obj: T, *, progress: bool = True) -> T:
    """Compute every lazy variable at once, in one pass over the movie, with a progress bar.

    Parameters
    ----------
    obj
        Dataset or DataArray, lazy or not.
    progress
        Show the bar, on a terminal or in a notebook. With a ``distributed.Client`` it is
        distributed's, else Dask's own.

    Returns
    -------
    Dataset or DataArray
        As ``obj.compute()`` gives it.

    Raises
    ------
    MemoryError
        Workers of a cluster died: the message names the part of the movie that they read.
    """
    with naming_what_was_lost():
        return _compute(obj, progress and _is_watched())


def _is_watched() -> bool:
    """Whether a bar is seen: in a log file it would be a line of many megabytes."""
    return sys.stdout.isatty() or in_notebook()


def in_notebook() -> bool:
    """Whether this is the kernel of a notebook."""
    return "ipykernel" in sys.modules


def _compute(obj: T, progress: bool) -> T:
    if not progress or not any(v.chunks for v in _variables(obj)):
        return obj.compute()
    if has_client():
        from dask.distributed import progress as distributed_progress

        # The bar follows the persisted chunks; gathering them afterwards is quick.
        persisted = obj.persist()
        distributed_progress(persisted, notebook=False)
        return persisted.compute()
    from dask.diagnostics import ProgressBar

    with ProgressBar():
        return obj.compute()


@contextlib.contextmanager
def progress_bar() -> Iterator[None]:
    """Show Dask's bar while the block computes, if that takes longer than a second and is seen.

    Not on a cluster: its dashboard shows the same.
    """
    if not _is_watched() or has_client():
        yield
        return
    from dask.diagnostics import ProgressBar

    with ProgressBar(minimum=1.0):
        yield


def _variables(obj: xr.DataArray | xr.Dataset) -> list[xr.Variable]:
    if isinstance(obj, xr.DataArray):
        return [obj.variable, *(c.variable for c in obj.coords.values())]
    return list(obj.variables.values())
