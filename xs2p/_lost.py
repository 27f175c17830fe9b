"""What a cluster lost when its workers died: the movie, the chunk and its frames."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def naming_what_was_lost() -> Iterator[None]:
    """Say which frames workers died of, in place of the key of a task."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "KilledWorker":
            raise
        raise MemoryError(
            f"{_last_read(error)}: {_deaths(error)}, as happens to one that needs more memory than "
            "it may use: give workers more memory or fewer threads, or open the movie with smaller "
            "chunks. Where workers die for other reasons, allow more deaths by Dask's setting "
            f"distributed.scheduler.allowed-failures ({error})"
        ) from error


def _deaths(error: Any) -> str:
    n = error.allowed_failures + 1
    return "the worker at it died" if n == 1 else f"{n} workers died, the last one at it"


def _last_read(error: Any) -> str:
    """Name what the worker that died last had begun to read.

    The key of the task that failed does not tell: it may be one that waited for the same worker.
    """
    from distributed import get_client
    from distributed.utils import key_split

    name = str(error.task[0] if isinstance(error.task, tuple) else error.task)
    if "xs2p-extract" not in name and "movie" not in name:
        return f"traces, at the step {key_split(error.task)}"
    read = "the movie"
    with contextlib.suppress(Exception):  # the cluster itself may be gone
        from xs2p.io._named import READS

        for _, event in get_client().get_events(READS):
            if event["worker"] == error.last_worker.address:
                read = event["reads"]
    return read
