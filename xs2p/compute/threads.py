"""Work on arrays in memory, on all the cores that this process may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any


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
