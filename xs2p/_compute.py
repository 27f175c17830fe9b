"""Compute with a progress bar."""

from __future__ import annotations

from typing import TypeVar

import xarray as xr

T = TypeVar("T", xr.DataArray, xr.Dataset)


def compute(obj: T, *, progress: bool = True) -> T:
    """Compute every lazy variable at once, in one pass over the movie, with a progress bar.

    Parameters
    ----------
    obj
        Dataset or DataArray, lazy or not.
    progress
        Show the bar. With a ``distributed.Client`` it is distributed's, else Dask's own.

    Returns
    -------
    Dataset or DataArray
        As ``obj.compute()`` gives it.
    """
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


def _variables(obj: xr.DataArray | xr.Dataset) -> list[xr.Variable]:
    if isinstance(obj, xr.DataArray):
        return [obj.variable, *(c.variable for c in obj.coords.values())]
    return list(obj.variables.values())


def has_client() -> bool:
    """Whether computations go to a distributed cluster; distributed itself is not imported."""
    import sys

    module = sys.modules.get("distributed")
    if module is None:
        return False
    try:
        module.get_client()
    except ValueError:
        return False
    return True
