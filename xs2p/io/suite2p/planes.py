"""Traces and ROIs of all planes of a suite2p folder as one Dataset, and apart again."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
import xarray as xr

from xs2p._frames import BAD, SEGMENT
from xs2p._warnings import warn
from xs2p.io.suite2p.lazy import joined
from xs2p.io.suite2p.names import PLANE, STORED
from xs2p.movie.segments import of_planes
from xs2p.movie.sources import plane_number
from xs2p.rois.planes import equally_long, join_rois

_OF_ALL = ("roi", "time", "pixel")


def join_folders(sets: Mapping[int, xr.Dataset], name: str) -> xr.Dataset:
    """Join what plane folders hold, by their numbers: ROIs numbered through, with their plane.

    Images and other arrays of a plane get the ending ``_plane0`` and so on, its ops too.
    """
    for key in ("Ly", "Lx", "fs"):
        found = {n: ds.attrs.get(key) for n, ds in sets.items()}
        if len(set(found.values())) > 1:
            raise ValueError(
                f"read_suite2p: {name!r}: its planes differ in {key}, {found}; read each: "
                f"read_suite2p({os.path.join(name, f'plane{next(iter(sets))}')!r})"
            )
    within = ", since the recording ended within a volume"
    sets = equally_long(sets, f"read_suite2p: {name!r}", "read each", within)
    n_frames = max((ds.sizes.get("time", 0) for ds in sets.values()), default=0)
    said = [{k: ds[k].variable for k in (BAD, SEGMENT) if k in ds.coords} for ds in sets.values()]
    sets = {n: ds.drop_vars((BAD, SEGMENT), errors="ignore") for n, ds in sets.items()}
    whole = xr.Dataset()
    labelled = _numbered(sets)
    with_rois = ["npix" in ds.variables for ds in sets.values()]
    if any(with_rois) != all(with_rois):
        raise ValueError(
            f"read_suite2p: {name!r}: stat.npy is in some plane folders and not in all; read each"
        )
    bare = [ds.drop_vars(list(ds.data_vars)).drop_attrs(deep=False) for ds in labelled.values()]
    if all(with_rois):
        keep = [
            ds.assign_attrs({k: sets[n].attrs[k] for k in ("Ly", "Lx")})
            for n, ds in zip(sets, bare, strict=True)
        ]
        whole = join_rois(keep)
        whole = whole.set_coords(list(whole.data_vars))
    else:
        whole = xr.concat([ds.drop_dims("time", errors="ignore") for ds in bare], "roi")
    whole = whole.assign(_traces(list(labelled.values())))
    times = [ds["time"] for ds in labelled.values() if "time" in ds.coords]
    if times:
        whole = whole.assign_coords(time=times[0])
    whole = whole.assign_coords(of_planes(said, n_frames, name))
    for n, ds in labelled.items():
        own = [v for v in ds.data_vars if v not in STORED and not set(ds[v].dims) & set(_OF_ALL)]
        whole = whole.assign(_renamed(ds[own].reset_coords(drop=True), f"_plane{n}").variables)
    return whole.assign_attrs(_attrs(sets))


def join_plane_rois(sets: Mapping[int, xr.Dataset], path: str) -> xr.Dataset:
    """All ROIs with their plane, numbered through."""
    frames = {plane: (rois.attrs["Ly"], rois.attrs["Lx"]) for plane, rois in sets.items()}
    if len(set(frames.values())) > 1:
        raise ValueError(
            f"{path}: its planes have frames of different sizes, {frames}; read each: "
            f"read_rois({os.path.join(path, 'plane0')!r})"
        )
    return join_rois(list(_numbered(sets).values()))


def _numbered(sets: Mapping[int, xr.Dataset]) -> dict[int, xr.Dataset]:
    """Give the ROIs of all planes one numbering, and each its plane."""
    labelled, first = {}, 0
    for plane, ds in sets.items():
        n_rois = ds.sizes["roi"]
        labels = ("roi", np.arange(first, first + n_rois), ds["roi"].attrs)
        labelled[plane] = ds.assign_coords(roi=labels, plane=("roi", np.full(n_rois, plane), PLANE))
        first += n_rois
    return labelled


def folders_of(ds: xr.Dataset, name: str) -> dict[str, xr.Dataset]:
    """Plane folders to write, and the Dataset of each; the one given where it is of one plane."""
    if "plane" not in ds.variables or ds["plane"].dims != ("roi",):
        return {name: ds}
    planes = np.unique(ds["plane"].values)
    if planes.size < 2:
        return {name: ds}
    if plane_number(os.path.abspath(name)) is not None:
        raise ValueError(
            f"write_suite2p: the ROIs are of the planes {planes.tolist()}, and {name!r} is the "
            "folder of one; give the folder above it, or write each: "
            f"ds.isel(roi=ds.plane.values == {planes[0]})"
        )
    if planes.dtype.kind not in "iuf" or (planes != planes.astype(int)).any() or planes[0] < 0:
        raise ValueError(
            f"write_suite2p: the planes {planes.tolist()} are no numbers of suite2p's, 0, 1, 2 …; "
            "give them such: ds.assign_coords(plane=('roi', numbers))"
        )
    return {os.path.join(name, f"plane{n}"): of_plane(ds, n) for n in planes.astype(int).tolist()}


def tell_of_other_planes(name: str, parts: Mapping[str, xr.Dataset]) -> None:
    """Warn where the folder has planes that are not among those to be written."""
    if name in parts or not os.path.isdir(name):
        return
    written = {os.path.basename(path) for path in parts}
    other = sorted(
        plane
        for plane in set(os.listdir(name)) - written
        if plane_number(plane) is not None and os.path.isdir(os.path.join(name, plane))
    )
    if other:
        warn(
            f"write_suite2p: {', '.join(other)} in {name} stays as it is and is not of these "
            "traces: who reads the folder takes it for one of their planes. Remove it, or write "
            "into another folder"
        )


def of_plane(ds: xr.Dataset, n: int) -> xr.Dataset:
    """Take what is of one plane: its ROIs, and under their own names its images and ops."""
    part = ds.isel(roi=np.flatnonzero(ds["plane"].values == n))
    ending = f"_plane{n}"
    images = [v for v in part.data_vars if not set(part[v].dims) & set(_OF_ALL)]
    own = part[[v for v in images if str(v).endswith(ending)]]
    part = part.drop_vars(images).assign(
        _renamed(own.reset_coords(drop=True), ending, back=True).variables
    )
    attrs = {k: v for k, v in ds.attrs.items() if not str(k).startswith("ops")}
    if f"ops{ending}" in ds.attrs:
        attrs["ops"] = ds.attrs[f"ops{ending}"]
    part.attrs = attrs
    return part


def _renamed(ds: xr.Dataset, ending: str, back: bool = False) -> xr.Dataset:
    names = [str(n) for n in {*ds.variables, *ds.dims} if n not in ("y", "x")]
    return ds.rename({n: n.removesuffix(ending) if back else f"{n}{ending}" for n in names})


def _traces(sets: list[xr.Dataset]) -> dict[str, xr.Variable]:
    """Traces of all ROIs, NaN where a plane has none of a kind."""
    frames = max((ds.sizes["time"] for ds in sets if "time" in ds.dims), default=0)
    dims, found = ("roi", "time"), {}
    for key in STORED:
        having = [ds[key].attrs for ds in sets if key in ds]
        if having:
            first, *others = having  # what only some planes were made with is said by none
            attrs = {k: v for k, v in first.items() if all(o.get(k) == v for o in others)}
            parts = [
                ds[key].variable
                if key in ds
                else xr.Variable(dims, np.full((ds.sizes["roi"], frames), np.nan, "f4"))
                for ds in sets
            ]
            found[key] = xr.Variable(dims, joined(parts), attrs)
    return found


def _attrs(sets: Mapping[int, xr.Dataset]) -> dict[str, object]:
    """Attributes that all planes have alike, and the ops of each."""
    first, *others = sets.values()
    attrs: dict[str, object] = {
        str(k): v
        for k, v in first.attrs.items()
        if k not in ("ops", "source") and all(o.attrs.get(k) == v for o in others)
    }
    ops = {f"ops_plane{n}": ds.attrs["ops"] for n, ds in sets.items() if "ops" in ds.attrs}
    return {**attrs, **ops}
