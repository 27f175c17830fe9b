"""What a cluster lost when its workers died: the movie, the chunk and its frames."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def naming_what_was_lost() -> Iterator[None]:
    """Say which frames workers died of, in place of the key of a task."""
    began = 0.0
    if has_client():
        from distributed import get_client

        began = get_client().run_on_scheduler(time.time)
    try:
        yield
    except Exception as error:
        if type(error).__name__ in ("FutureCancelledError", "CommClosedError"):
            raise ConnectionError(
                f"the cluster's scheduler was lost ({error}); start another, or go on without one"
            ) from error
        if type(error).__name__ != "KilledWorker":
            raise
        raise MemoryError(
            f"{_deaths(error, began)}, as happens to one that needs more memory than it may use: "
            "give workers more memory or fewer threads, or open the movie with smaller chunks. "
            "Where workers die for other reasons, allow more deaths by Dask's setting "
            f"distributed.scheduler.allowed-failures ({error})"
        ) from error


def _deaths(error: Any, began: float) -> str:
    """Name what the worker that died last had begun to read.

    The key of the task that failed does not tell: it may be one that waited for the same worker.
    """
    from distributed import get_client

    from xs2p.disk.reads import READS

    read = None
    with contextlib.suppress(Exception):  # the cluster itself may be gone
        for when, event in get_client().get_events(READS):
            if when >= began and event["worker"] == error.last_worker.address:
                read = event["reads"]
    died = f"{error.allowed_failures + 1} workers died, one after the other"
    return died if read is None else f"{read}: {died}, the last when it had begun to read this"


def has_client() -> bool:
    """Whether computations go to a distributed cluster; distributed itself is not imported."""
    module: Any = sys.modules.get("distributed")
    # Another thread may be in the middle of importing it.
    if getattr(module, "get_client", None) is None:
        return False
    try:
        module.get_client()
    except ValueError:
        return False
    return True
