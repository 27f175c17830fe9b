"""Recordings of several planes: each ROI belongs to one of them."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xs2p._warnings import names
from xs2p.rois.assemble import ties
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import planes_of

Planes = list[tuple[xr.DataArray, xr.Dataset]]


def split_planes(movie: xr.DataArray, rois: xr.Dataset, name: str) -> Planes:
    """Movie and ROIs of each plane that has any; just the two where the movie has no planes.

    Raises
    ------
    ValueError
        If the ROIs do not say their plane, or one that the movie has not.
    """
    if not isinstance(movie, xr.DataArray) or "plane" not in movie.dims:
        return [(movie, rois)]
    if "channel" in movie.dims:
        raise ValueError(
            f"{name} has planes and channels; give the second channel as movie_chan2, as in "
            f"{name}.isel(channel=0) and {name}.isel(channel=1)"
        )
    own = planes_of(rois)
    if own is None:
        raise ValueError(
            f"{name} has a dim plane, but the ROIs do not say which plane they are in; give "
            "rois.assign_coords(plane=('roi', planes))"
        )
    known = movie["plane"].values if "plane" in movie.coords else np.arange(movie.sizes["plane"])
    strange = ~np.isin(own, known)
    if strange.any():
        raise ValueError(
            f"{int(strange.sum())} ROIs are in planes that {name} has not (roi "
            f"{names(rois.roi.values[strange])}, the first in plane {own[strange][0]}); it has "
            f"{known.tolist()}"
        )
    attrs = {
        "long_name": "plane of the ROI",
        "description": "Label of the plane of the movie that the ROI is extracted from.",
    }
    rois = rois.assign_coords(plane=("roi", own, attrs))
    return [
        (movie.isel(plane=n, drop=True), contiguous(rois.isel(roi=np.flatnonzero(own == plane))))
        for n, plane in enumerate(known)
        if (own == plane).any() or (n == 0 and not own.size)
    ]


def join_planes(sets: list[xr.Dataset], labels: np.ndarray) -> xr.Dataset:
    """ROI sets of all planes as one, in the order of ``labels``."""
    if len(sets) == 1:
        return sets[0]
    whole = join_rois(sets)
    order = _order(whole, labels)
    return whole if order is None else contiguous(whole.isel(roi=order))


def join_traces(parts: list[xr.Dataset], labels: np.ndarray) -> xr.Dataset:
    """Traces of all planes as one Dataset, in the order of ``labels``."""
    if len(parts) == 1:
        return parts[0]
    traces = xr.concat(
        parts,
        "roi",
        data_vars="all",
        coords="minimal",
        compat="override",
        join="exact",
        combine_attrs="override",
    )
    order = _order(traces, labels)
    return traces if order is None else traces.isel(roi=order)


def _order(joined: xr.Dataset, labels: np.ndarray) -> list[int] | None:
    """Where the ROIs of these labels are; None where they are in this order already."""
    place = {label: n for n, label in enumerate(joined["roi"].values.tolist())}
    order = [place[label] for label in labels.tolist() if label in place]
    return None if order == sorted(order) else order


def join_rois(sets: list[xr.Dataset]) -> xr.Dataset:
    """ROI sets of one frame size as one, the ROIs of the first before those of the second."""
    names = {str(v) for rois in sets for v in rois.coords}
    bare = [contiguous(rois).reset_coords() for rois in sets]
    ids = np.concatenate([s["roi_id"].values if "roi_id" in s else [0, 0] for s in bare])
    if np.unique(ids).size < ids.size:
        # Of sets that come from apart, what ties pixels to ROIs counts from one on to the next.
        first = np.cumsum([0, *(s.sizes["roi"] for s in bare)])
        bare = [s.assign(ties(s["npix"].values, n)) for s, n in zip(bare, first, strict=False)]
    whole = xr.Dataset(attrs=bare[0].attrs)
    for dim in ("roi", "pixel"):
        columns = [s[[v for v in s.variables if s[v].dims == (dim,)]] for s in bare]
        joined = xr.concat(columns, dim, join="outer", combine_attrs="override")
        whole = whole.assign({v: joined[v].variable for v in joined.variables})
    return whole.set_coords([v for v in whole.variables if v in {*names, "roi_id", "pixel_roi"}])
