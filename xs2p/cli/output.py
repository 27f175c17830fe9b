"""Where the demo writes to: what it made before is replaced, and nothing else."""

from __future__ import annotations

import functools
import os
import warnings

import xarray as xr

from xs2p.disk.replace import check_place, foreign_store, put_in_place, scratch_folder

MADE_BY = "xs2p demo"  # in the figure's metadata


def check_demo(store: str, figure: str) -> None:
    """Refuse to run where the demo's store or figure would replace something else."""
    foreign = functools.partial(foreign_store, marks=("xs2p_version",))
    check_place(store, overwrite=True, foreign=foreign)
    check_place(figure, overwrite=True, foreign=_foreign_figure)


def _foreign_figure(path: str) -> str | None:
    if os.path.isdir(path):
        return "is a folder"
    with open(path, "rb") as file:
        return None if MADE_BY.encode() in file.read(4096) else "is no picture of the demo"


def write_store(ds: xr.Dataset, store: str) -> None:
    """Write traces with consolidated metadata, so that opening them is quick and silent."""
    store = os.path.realpath(store)
    with scratch_folder(store) as scratch, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        new = os.path.join(scratch, os.path.basename(store))
        ds.to_zarr(new, mode="w", consolidated=True)
        put_in_place(new, store, overwrite=True)
