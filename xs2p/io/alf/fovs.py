"""Traces and ROIs of several fields of view as one Dataset."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._frames import BAD
from xs2p._warnings import warn
from xs2p.io.alf import names as alf
from xs2p.io.alf.kept import read_kept

if TYPE_CHECKING:
    import xarray as xr

_AROUND, _AROUND_OF = "neuropil_mask", "neuropil_mask_roi"
_FILES = {
    **alf.TRACES,
    "time": alf.TIMES,
    "npix": alf.MASKS,
    "iscell": alf.TYPES,
    "roi_type": alf.TYPES,
    "iscell_prob": alf.CLASSIFIER,
    alf.UUID: alf.UUIDS,
}


def join_fovs(sets: dict[str, xr.Dataset], path: str) -> xr.Dataset:
    """Join fields of view of one frame size and the same times."""
    from xs2p.rois.convert import compact
    from xs2p.rois.planes import equally_long, join_planes, join_traces

    mend = (
        "read each, or all as a tree: xr.DataTree.from_dict({name: xs2p.read_alf(folder), …}), "
        f"with folders as {next(iter(sets))!r}"
    )
    _check_alike(sets, path, mend)
    whole = equally_long(sets, path, mend)
    around = _neuropil(whole, path)
    labels = [ds["roi"].values for ds in whole.values()]
    if np.unique(np.concatenate(labels)).size < sum(map(len, labels)):
        first = np.cumsum([0, *map(len, labels)])
        whole = {
            name: ds.assign_coords(roi=("roi", n + np.arange(ds.sizes["roi"]), ds["roi"].attrs))
            for n, (name, ds) in zip(first, whole.items(), strict=False)
        }
    over_time = _of_frames(whole, path)
    whole = {name: ds.drop_vars((BAD, alf.QC), errors="ignore") for name, ds in whole.items()}
    bare = [
        compact(ds.drop_vars([*ds.data_vars]).drop_dims("time", errors="ignore"))
        for ds in whole.values()
    ]
    order = np.concatenate([ds["roi"].values for ds in whole.values()])
    rois = join_planes(bare, order)
    traces = next(iter(whole.values()))[[]]
    if any(n in ds for ds in whole.values() for n in alf.TRACES):
        held = [ds[[n for n in alf.TRACES if n in ds]] for ds in whole.values()]
        traces = join_traces(held, order)
    images = {
        f"meanImg_plane{alf.fov_number(name)}": ds["meanImg"].variable
        for name, ds in whole.items()
        if "meanImg" in ds
    }
    keep = traces.drop_vars([n for n, c in traces.coords.items() if "time" not in c.dims])
    for key in keep.data_vars:
        keep[key].attrs = _shared([ds[key].attrs for ds in whole.values()])
    attrs = _shared([ds.attrs for ds in whole.values()])
    joined = keep.assign_coords({**rois.variables, **around, **over_time}).assign(images)
    joined.attrs = {**attrs, "source": path}
    return joined


def warn_of_absent(folders: list[str], path: str) -> None:
    """Warn where fields of view that `write_alf` wrote at once are not all there."""
    there = {os.path.basename(folder) for folder in folders}
    absent: set[str] = set()
    for folder in folders:
        kept = os.path.join(folder, alf.OURS)
        if folder != path and os.path.exists(kept):
            absent |= set(read_kept(kept).get("together", ())) - there
    if absent:
        warn(
            f"{path}: {', '.join(sorted(absent))} was written together with "
            f"{', '.join(sorted(there))}, and is not there"
        )


def _check_alike(sets: Mapping[str, xr.Dataset], path: str, mend: str) -> None:
    """Raise where fields of view have other frames, or one has what another has not."""
    having = {
        folder: {
            str(name)
            for name, v in ds.variables.items()
            if name in ("time", *alf.TRACES) or (v.dims == ("roi",) and name != _AROUND_OF)
        }
        for folder, ds in sets.items()
    }
    for folder, names in having.items():
        lacking = sorted(set.union(*having.values()) - names)
        if lacking:
            first = "npix" if "npix" in lacking else lacking[0]
            other = next(o for o, have in having.items() if first in have)
            dataset = _FILES.get(first, f"{alf.OF_ROIS}{first}.npy")
            raise ValueError(
                f"{path}: {os.path.basename(folder)} has no {first} ({dataset}), and "
                f"{os.path.basename(other)} has; {mend}"
            )
    for key in ("Ly", "Lx"):
        found = {os.path.basename(name): ds.attrs.get(key) for name, ds in sets.items()}
        if len(set(found.values())) > 1:
            raise ValueError(f"{path}: its fields of view differ in {key}, {found}; {mend}")
    if not all("npix" in names for names in having.values()):
        raise ValueError(f"{path}: its fields of view have no {alf.MASKS}; {mend}")


def _neuropil(sets: Mapping[str, xr.Dataset], path: str) -> dict[str, Any]:
    """Neuropil masks of all, if all have them, of the ROIs as they are counted through."""
    import xarray as xr

    having = [name for name, ds in sets.items() if _AROUND in ds.variables]
    if having and len(having) < len(sets):
        names = ", ".join(os.path.basename(name) for name in sets if name not in having)
        warn(f"{path}: {names} has no {alf.NEUROPIL_MASKS}; those of the others are left out")
    if len(having) < len(sets):
        return {}
    first = np.cumsum([0, *(ds.sizes["roi"] for ds in sets.values())])
    owner = [ds[_AROUND_OF].values + n for n, ds in zip(first, sets.values(), strict=False)]
    flat = [ds[_AROUND].values for ds in sets.values()]
    one = sets[having[0]]
    dims = (f"{_AROUND}_element",)
    return {
        _AROUND: xr.Variable(dims, np.concatenate(flat), one[_AROUND].attrs),
        _AROUND_OF: xr.Variable(dims, np.concatenate(owner), one[_AROUND_OF].attrs),
    }


def _of_frames(sets: Mapping[str, xr.Dataset], path: str) -> dict[str, Any]:
    """Join what is said of frames: bad in any is bad, and quality stays where all have the same."""
    found: dict[str, Any] = {}
    bad = [ds[BAD].variable for ds in sets.values() if BAD in ds.coords]
    if bad:
        found[BAD] = bad[0].copy(data=np.any([each.values for each in bad], axis=0))
        found[BAD].attrs["description"] = (
            f"{alf.BAD_FRAMES} of the folders: True where a frame is bad in any of them."
        )
    quality = [ds[alf.QC].variable for ds in sets.values() if alf.QC in ds.coords]
    if quality and (
        len(quality) < len(sets) or not all(quality[0].identical(each) for each in quality)
    ):
        warn(
            f"{path}: its fields of view differ in frame_qc ({alf.FRAME_QC}), which is left out; "
            "read each for its own"
        )
    elif quality:
        found[alf.QC] = quality[0]
    return found


def _shared(attrs: list[dict[Any, Any]]) -> dict[Any, Any]:
    """Attributes that all have alike: what only some were made with is said by none."""
    first, *others = attrs
    return {
        key: value
        for key, value in first.items()
        if all(key in other and repr(other[key]) == repr(value) for other in others)
    }
