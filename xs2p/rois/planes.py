"""Recordings of several planes: each ROI belongs to one of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.rois.assemble import ties
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import planes_of

OF_ROIS = {
    "long_name": "plane of the ROI",
    "description": "Label of the plane of the movie that the ROI is extracted from.",
}


class Plane(NamedTuple):
    """Frames of one plane, and the ROIs that are extracted from them."""

    movie: Any
    rois: xr.Dataset
    label: Any = None
    """Its label, where some of the ROIs are of planes that are not there; else None."""


Planes = list[Plane]


def split_planes(movie: Any, rois: xr.Dataset, name: str) -> Planes:
    """Movie and ROIs of each plane that has any; just the two where nobody speaks of planes.

    ROIs of planes that the movie has not are with those of the first: see :class:`Plane`.

    Raises
    ------
    ValueError
        If either says its planes and the other does not, where that matters, or no ROI is in a
        plane of the movie's.
    """
    if not isinstance(movie, xr.DataArray):
        return [Plane(movie, rois)]
    own = planes_of(rois)
    if "plane" not in movie.dims:
        return [_of_one_plane(movie, rois, own, name)]
    if own is None:
        raise ValueError(
            f"{name} has a dim plane, but the ROIs do not say which plane they are in; give "
            "rois.assign_coords(plane=('roi', planes))"
        )
    labelled = "plane" in movie.coords
    known = movie["plane"].values if labelled else np.arange(movie.sizes["plane"])
    strange = _strange(own, known, rois, name)
    if strange.any() and not labelled:
        raise ValueError(
            f"{int(strange.sum())} ROIs are in planes that {name} has not (roi "
            f"{names(rois.roi.values[strange])}, the first in plane {own[strange][0]}); it has "
            f"{known.tolist()}, counted, since it has no coordinate plane: "
            f"{name}.assign_coords(plane=[...]) says which they are"
        )
    rois = rois.assign_coords(plane=("roi", own, OF_ROIS))
    some = [n for n, plane in enumerate(known) if (own == plane).any()] or [0]
    parts = []
    for n in some:
        with_strange = bool(strange.any()) and n == some[0]
        here = (own == known[n]) | (strange & with_strange)
        parts.append(
            Plane(
                movie.isel(plane=n, drop=True),
                contiguous(rois.isel(roi=np.flatnonzero(here))),
                known[n] if with_strange else None,
            )
        )
    return parts


def plane_of(movie: xr.DataArray) -> Any:
    """Label of the one plane that a movie says it is of, its scalar coordinate; else None."""
    if "plane" not in movie.coords or movie["plane"].ndim:
        return None
    return movie["plane"].values[()]


def check_one_plane(rois: xr.Dataset, what: str, mend: str) -> None:
    """Raise where the ROIs are of several planes, for ``what`` is of one."""
    own = planes_of(rois)
    if own is not None and np.unique(own).size > 1:
        raise ValueError(
            f"the ROIs lie in {np.unique(own).size} planes ({names(np.unique(own))}), and {what}; "
            f"{mend}, or rois.isel(roi=rois.{_keys(rois)[0]}.values == {own[0]}) takes those of one"
        )


def _of_one_plane(
    movie: xr.DataArray, rois: xr.Dataset, own: np.ndarray | None, name: str
) -> Plane:
    here = plane_of(movie)
    if here is None:
        check_one_plane(
            rois,
            f"{name} does not say which plane its frames are of",
            f"{name}.assign_coords(plane=...) says it; where all ROIs are of that plane, whatever "
            f"they say, use rois.drop_vars({_keys(rois)})",
        )
        return Plane(movie, rois)
    movie = movie.drop_vars("plane")
    if own is None:
        own = np.full(rois.sizes["roi"], here)
    strange = _strange(own, np.array([here]), rois, name)
    rois = rois.assign_coords(plane=("roi", own, OF_ROIS))
    return Plane(movie, rois, here if strange.any() else None)


def _keys(rois: xr.Dataset) -> list[str]:
    return [key for key in ("plane", "iplane") if key in rois.variables]


def _strange(own: np.ndarray, known: np.ndarray, rois: xr.Dataset, name: str) -> np.ndarray:
    """Which ROIs are in planes that the movie has not; an error where all of them are."""
    unsaid = own != own if own.dtype.kind == "f" else np.zeros(own.size, bool)
    if unsaid.any():
        raise ValueError(
            f"{int(unsaid.sum())} ROIs do not say which plane they are in (roi "
            f"{names(rois.roi.values[unsaid])}), and {name} is of plane {names(known)}; give "
            "rois.assign_coords(plane=('roi', planes))"
        )
    strange = ~np.isin(own, known)
    if own.size and strange.all():
        raise ValueError(
            f"none of the ROIs is in a plane of {name}: it has plane {names(known)}, and they are "
            f"in {names(np.unique(own))}. Take their movie; or, where one of the two is numbered "
            f"otherwise, {name}.assign_coords(plane=...) or rois.assign_coords(plane=('roi', "
            "planes)) says the right one"
        )
    return strange


def warn_of_strange(parts: Planes, name: str) -> None:
    """Say once which ROIs are in planes that the movie has not."""
    for part in parts:
        if part.label is not None:
            own = part.rois["plane"].values
            here = {p.rois["plane"].values[0] for p in parts[1:]} | {part.label}
            strange = ~np.isin(own, list(here))
            warn(
                f"{int(strange.sum())} of {sum(p.rois.sizes['roi'] for p in parts)} ROIs are in "
                f"planes that {name} has not (plane {names(np.unique(own[strange]))}; it has "
                f"{names(sorted(here))}) and get NaN instead of a trace, with the status "
                f"other_plane (roi {names(part.rois.roi.values[strange])})"
            )


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


def equally_long(
    sets: Mapping[Any, xr.Dataset], where: str, mend: str, because: str = ""
) -> dict[Any, xr.Dataset]:
    """Leave out a last frame that not all planes have, of recordings that ended within a volume.

    Parameters
    ----------
    sets
        What is of each plane, by its label; those without a dim ``time`` stay as they are.
    where, mend, because
        For messages: what the planes are of, what helps where they do not belong together, and why
        some may be longer.

    Raises
    ------
    ValueError
        If numbers of frames differ by more than one, or frames are at different times.

    Warns
    -----
    UserWarning
        If a frame is left out.
    """
    lengths = {n: ds.sizes["time"] for n, ds in sets.items() if "time" in ds.dims}
    least, most = min(lengths.values(), default=0), max(lengths.values(), default=0)
    if most > least + 1:
        told = ", ".join(f"plane {n} has {size}" for n, size in lengths.items())
        raise ValueError(f"{where}: its planes have different numbers of frames: {told}; {mend}")
    cut = {n: ds.isel(time=slice(least)) if n in lengths else ds for n, ds in sets.items()}
    times = [cut[n]["time"].values for n in lengths]
    if not all(np.array_equal(times[0], other, equal_nan=True) for other in times[1:]):
        raise ValueError(
            f"{where}: its planes have frames at different times, and traces here have one time; "
            f"{mend}"
        )
    if most > least:
        longer = [n for n, size in lengths.items() if size > least]
        warn(
            f"{where}: planes {longer} have {most} frames and the others {least}{because}; the "
            "last one is left out"
        )
    return cut


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
