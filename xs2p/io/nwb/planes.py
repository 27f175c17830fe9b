"""Tables of ROIs of an NWB file that are those of the planes of one recording, read as one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._warnings import warn
from xs2p.io.nwb.file import tables
from xs2p.rois.planes import OF_ROIS, equally_long, join_rois

if TYPE_CHECKING:
    import xarray as xr

_NUMBERED = re.compile(r"plane[ _-]?(\d+)$", re.IGNORECASE)
_CHANNEL = re.compile(r"chan|colou?r|green|red", re.IGNORECASE)


def tables_of_planes(file: Any, where: str) -> dict[Any, Any]:
    """Tables by the number of their plane; empty where they are not those of several planes.

    They are where they lie in one container, and a column ``plane`` says so, or their names end in
    ``plane0`` and so on, or they are each of an imaging plane of its own. Numbers are those of the
    column, else of the tables' names, else of the imaging planes', else their order by name,
    with a warning.
    """
    found = sorted(tables(file).values(), key=lambda table: table.name)
    if len(found) < 2 or any(table.parent is not found[0].parent for table in found):
        return {}
    said = [_said(table) for table in found]
    if None not in said and len(set(said)) == len(found):
        order = sorted(range(len(said)), key=lambda n: (isinstance(said[n], str), said[n]))
        return {said[n]: found[n] for n in order}
    imaged = [table.imaging_plane for table in found]
    apart = len({plane.object_id for plane in imaged}) == len(found)
    names, planes = [t.name for t in found], [plane.name for plane in imaged]
    for called in (names, planes) if apart else (names,):
        numbers = [_NUMBERED.search(name) for name in called]
        labels = [int(match.group(1)) for match in numbers if match]
        if len(set(labels)) == len(found):
            return dict(sorted(zip(labels, found, strict=True), key=lambda pair: pair[0]))
    if not apart or any(_CHANNEL.search(name) for name in (*names, *planes)):
        return {}  # of one plane, or channels of it
    listing = ", ".join(f"{n} is {table.name} of {planes[n]}" for n, table in enumerate(found))
    warn(
        f"{where}: its tables of ROIs are of different imaging planes without numbers, which are "
        f"numbered in the order of their names: {listing}; name= picks one of them"
    )
    return dict(enumerate(found))


def _said(table: Any) -> Any:
    """Plane that a column of the table says for all of its ROIs; else None."""
    if "plane" not in table.colnames or not len(table):
        return None
    values = np.unique(np.asarray(table["plane"].data[:]))
    return values[0].item() if values.ndim == 1 and values.size == 1 else None


def join_tables(sets: Mapping[Any, xr.Dataset], where: str) -> xr.Dataset:
    """Join ROI sets, or traces with their ROIs: numbered through, each with its plane.

    Labels stay where no two planes have one alike.
    """
    frames = {n: (ds.attrs["Ly"], ds.attrs["Lx"]) for n, ds in sets.items()}
    if len(set(frames.values())) > 1:
        raise ValueError(
            f"{where}: its planes have frames of different sizes, {frames}; read each table, with "
            "name="
        )
    labels = np.concatenate([ds["roi"].values for ds in sets.values()])
    if np.unique(labels).size < labels.size:
        labels = np.arange(labels.size)
    parts, first = [], 0
    for plane, ds in equally_long(sets, where, "read each table, with name=").items():
        n = ds.sizes["roi"]
        own = ("roi", labels[first : first + n], ds["roi"].attrs)
        parts.append(ds.assign_coords(roi=own, plane=("roi", np.full(n, plane), OF_ROIS)))
        first += n
    bare = [ds.drop_dims("time", errors="ignore") for ds in parts]
    whole = join_rois(bare)
    whole = whole.set_coords([name for name in whole.variables if name in bare[0].coords])
    if "time" in parts[0].dims:
        whole = whole.assign_coords(time=parts[0]["time"]).assign(_traces(parts))
        some = [str(k) for k in whole.data_vars if not all(k in ds for ds in parts)]
        if some:
            warn(f"{where}: {', '.join(some)} are of some planes only, and NaN for ROIs of others")
    attrs = [ds.attrs for ds in parts]
    same = {k: v for k, v in attrs[0].items() if all(a.get(k) == v for a in attrs)}
    return whole.drop_attrs(deep=False).assign_attrs(same)


def _traces(parts: list[xr.Dataset]) -> dict[str, xr.Variable]:
    """Traces of all ROIs, NaN where a plane has none of a kind."""
    import xarray as xr

    joined = {}
    for key in dict.fromkeys(str(k) for ds in parts for k in ds.data_vars if "time" in ds[k].dims):
        first, *others = [ds[key].attrs for ds in parts if key in ds]
        attrs = {k: v for k, v in first.items() if all(o.get(k) == v for o in others)}
        values = [
            ds[key].values
            if key in ds
            else np.full((ds.sizes["roi"], ds.sizes["time"]), np.nan, np.float32)
            for ds in parts
        ]
        joined[key] = xr.Variable(("roi", "time"), np.concatenate(values), attrs)
    return joined
