"""Traces and ROIs of several fields of view as one Dataset."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from xs2p.io.alf import names as alf

if TYPE_CHECKING:
    import xarray as xr


def join_fovs(sets: dict[str, xr.Dataset], path: str) -> xr.Dataset:
    """Join fields of view of one frame size and the same times."""
    from xs2p.rois.convert import compact
    from xs2p.rois.planes import equally_long, join_planes, join_traces

    mend = (
        "read each, or all as a tree: xr.DataTree.from_dict({name: xs2p.read_alf(folder), …}), "
        f"with folders as {next(iter(sets))!r}"
    )
    for key in ("Ly", "Lx"):
        found = {os.path.basename(name): ds.attrs.get(key) for name, ds in sets.items()}
        if len(set(found.values())) > 1:
            raise ValueError(f"{path}: its fields of view differ in {key}, {found}; {mend}")
    if not all("npix" in ds.variables for ds in sets.values()):
        raise ValueError(f"{path}: some of its fields of view have no {alf.MASKS}; {mend}")
    whole = equally_long(sets, path, mend)
    labels = [ds["roi"].values for ds in whole.values()]
    if np.unique(np.concatenate(labels)).size < sum(map(len, labels)):
        first = np.cumsum([0, *map(len, labels)])
        whole = {
            name: ds.assign_coords(roi=("roi", n + np.arange(ds.sizes["roi"]), ds["roi"].attrs))
            for n, (name, ds) in zip(first, whole.items(), strict=False)
        }
    bare = [
        compact(ds.drop_vars([*ds.data_vars]).drop_dims("time", errors="ignore"))
        for ds in whole.values()
    ]
    order = np.concatenate([ds["roi"].values for ds in whole.values()])
    rois = join_planes(bare, order)
    traces = join_traces([ds[[n for n in alf.TRACES if n in ds]] for ds in whole.values()], order)
    images = {
        f"meanImg_plane{alf.fov_number(name)}": ds["meanImg"].variable
        for name, ds in whole.items()
        if "meanImg" in ds
    }
    keep = traces.drop_vars([n for n, c in traces.coords.items() if "time" not in c.dims])
    first_set = next(iter(whole.values()))
    return (
        keep.assign_coords(rois.variables)
        .assign(images)
        .assign_attrs({**first_set.attrs, "source": path})
    )
