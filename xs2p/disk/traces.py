"""Stores of traces opened: of one movie, or with a group for each of several."""

from __future__ import annotations

import json
import os
from typing import Any

import xarray as xr

from xs2p._attrs import GROUPS, LEDGER


def open_store(store: str, over_dask: bool = True) -> xr.Dataset:
    """Traces lazy, over Dask unless not ``over_dask``; labels in memory."""
    ds = xr.open_zarr(store, chunks={} if over_dask else None, consolidated=is_consolidated(store))
    labels = {name: coord.load() for name, coord in ds.coords.items()}
    # Zarr gives text a dtype of its own; in memory it is object.
    # NetCDF knows neither that dtype nor the encoding that says it.
    text = {n: c.astype(object).drop_encoding() for n, c in labels.items() if c.dtype.kind in "OT"}
    return ds.assign_coords({**labels, **text})


def is_consolidated(store: str) -> bool:
    """Whether the metadata of a store's members are in its own: it is complete."""
    with open(os.path.join(store, "zarr.json"), "rb") as file:
        return json.load(file).get("consolidated_metadata") is not None


def groups_in(store: str) -> list[str] | None:
    """Paths of the groups of a store of several; None where it is one of a single movie.

    Where its own metadata are damaged, the ledger tells.
    """
    for name, read in (("", lambda attrs: attrs[GROUPS]), (LEDGER, _groups_told)):
        try:
            with open(os.path.join(store, name, "zarr.json"), "rb") as file:
                return list(json.loads(read(json.load(file)["attributes"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return None


def _groups_told(attrs: dict[str, Any]) -> str:
    return str(json.loads(json.loads(attrs["ledger"])["run"])[GROUPS])


def place_of(store: str, group: str) -> str:
    """Return the folder of a group."""
    return os.path.join(store, *filter(None, group.split("/")))


def groups_to(group: str) -> list[str]:
    """Paths of the groups that lead to one, the root first."""
    names = group.strip("/").split("/")[:-1]
    return ["/", *("/" + "/".join(names[:n]) for n in range(1, len(names) + 1))]


def open_tree(store: str, over_dask: bool = True) -> xr.DataTree:
    """Traces of all groups lazy, over Dask unless not ``over_dask``; labels in memory."""
    return xr.DataTree.from_dict(open_groups(store, over_dask))


def open_groups(store: str, over_dask: bool) -> dict[str, xr.Dataset]:
    """Datasets of a store by the paths of their groups; that of a single movie is the root's."""
    groups = groups_in(store)
    if groups is None:
        return {"/": open_store(store, over_dask)}
    found = {}
    for group in groups:
        place = place_of(store, group)
        for above in groups_to(group):
            with open(os.path.join(place_of(store, above), "zarr.json"), "rb") as file:
                found[above] = xr.Dataset(attrs=json.load(file)["attributes"])
        if os.path.exists(place):  # of one that is not complete some may not be there
            found[group] = open_store(place, over_dask)
        elif is_consolidated(store):
            raise FileNotFoundError(f"{store} lacks the group {group}, which it had")
    return found
