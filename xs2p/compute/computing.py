"""Compute with a progress bar."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import TypeVar

import xarray as xr

from xs2p.compute.cluster import naming_what_was_lost

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


def has_client() -> bool:
    """Whether computations go to a distributed cluster; distributed itself is not imported."""
    module = sys.modules.get("distributed")
    if module is None:
        return False
    try:
        module.get_client()
    except ValueError:
        return False
    return True
