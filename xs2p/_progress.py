"""How far a run is: frames per second, gigabytes read, time left."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from xs2p._compute import has_client

_TASK = "xs2p-extract"  # in the name of every task that reads a chunk of the movie
_EVERY = 0.5  # seconds between two looks at a cluster


@contextlib.contextmanager
def watch(
    frames: float, movie_bytes: float, reads: float, show: bool | None = None
) -> Iterator[None]:
    """Show a bar on stderr while Dask computes, locally or on a cluster.

    ``reads`` is how many tasks will read a chunk, about; ``frames`` and ``movie_bytes`` are what
    they read in all. Where stderr is no terminal nothing is shown.
    """
    show = sys.stderr.isatty() if show is None else show
    if not show or reads <= 0:
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    bar = Progress(
        TextColumn("{task.fields[frames_read]:,.0f} of {task.fields[frames]:,.0f} frames"),
        BarColumn(),
        TextColumn("{task.percentage:.0f} %"),
        TextColumn("{task.fields[speed]:,.0f} frames/s"),
        TextColumn("{task.fields[gigabytes]:.1f} GB read"),
        TimeRemainingColumn(elapsed_when_finished=True),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(
            "", total=reads, frames=frames, frames_read=0.0, speed=0.0, gigabytes=0.0
        )

        def report(done: float) -> None:
            share = min(done / reads, 1.0)
            elapsed = bar.tasks[task].elapsed or 0.0
            bar.update(
                task,
                completed=min(done, reads),
                frames_read=frames * share,
                speed=frames * share / elapsed if elapsed else 0.0,
                gigabytes=movie_bytes * share / 1e9,
            )

        with _on_cluster(report) if has_client() else _in_process(report):
            yield
        report(reads)  # all is read, whoever looked last


def count_reads(*arrays: Any) -> int:
    """Count the tasks of Dask arrays that read a chunk of a movie."""
    layers: dict[str, Any] = {}
    for array in arrays:
        layers |= {name: layer for name, layer in array.dask.layers.items() if _TASK in name}
    return sum(map(len, layers.values()))


@contextlib.contextmanager
def _in_process(report: Callable[[float], None]) -> Iterator[None]:
    from dask.callbacks import Callback

    seen: set[Any] = set()

    def posttask(key: Any, *_: Any) -> None:
        if _reads_movie(key):
            seen.add(key)
            report(len(seen))

    with Callback(posttask=posttask):
        yield


@contextlib.contextmanager
def _on_cluster(report: Callable[[float], None]) -> Iterator[None]:
    from distributed import get_client

    client = get_client()
    before = client.run_on_scheduler(reads_done)
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(_EVERY):
            with contextlib.suppress(Exception):  # a look that fails must not end the run
                done = client.run_on_scheduler(reads_done)
                report(sum(max(n - before.get(name, 0), 0) for name, n in done.items()))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _reads_movie(key: Any) -> bool:
    """Whether a task of this key reads a chunk of a movie."""
    return isinstance(key, tuple) and _TASK in str(key[0])


def reads_done(dask_scheduler: Any = None) -> dict[str, int]:
    """Count the tasks that have read a chunk, by the name of their group; on the scheduler."""
    done = {}
    for name, group in dask_scheduler.task_groups.items():
        if _TASK in name:
            states = group.states
            ended = states["memory"] + states["forgotten"]
            # Released: done and no longer needed, or not yet begun.
            begun = ended + states["processing"] > 0
            done[name] = ended + (states["released"] if begun else 0)
    return done
