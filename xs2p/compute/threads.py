"""Work on arrays in memory, on all the cores that this process may use."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any


def _forget_threads() -> None:
    """Let a process that was forked have threads of its own: Dask's pool waits for its parent's."""
    threaded: Any = sys.modules.get("dask.threaded")
    if threaded is not None:
        threaded.default_pool = None
        threaded.pools.clear()
        threaded.pools_lock = threading.Lock()  # which another thread may have held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)


def cores() -> int:
    """How many cores to use: Dask's ``num_workers``, else as many as this process was given.

    Dask counts those that affinity and cgroups leave; the machine may have many more.
    """
    import dask
    from dask.system import CPU_COUNT

    return max(int(dask.config.get("num_workers", None) or CPU_COUNT), 1)


def in_threads(work: Callable[[Any], None], parts: Iterable[Any]) -> None:
    """Do work on each of the parts, a thread to a core; it must release the GIL to gain by it."""
    from concurrent.futures import ThreadPoolExecutor

    parts = list(parts)
    if len(parts) < 2:  # here, where the caller's CUDA stream is the current one
        for part in parts:
            work(part)
        return
    with ThreadPoolExecutor(cores()) as pool:
        list(pool.map(work, parts))
