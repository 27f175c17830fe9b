"""Spatial footprints of Minian: ``A(unit_id, height, width)``, in memory or in its Zarr store."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_DIMS = {"unit_id": "roi", "height": "y", "width": "x"}


def is_minian(array: xr.DataArray) -> bool:
    """Whether an array has the dims of Minian's footprints."""
    return set(array.dims) == set(_DIMS)


def rois_of_minian(array: xr.DataArray, shape: tuple[int, int] | None, name: str) -> xr.Dataset:
    """ROI set of Minian's footprints; ``unit_id`` are the labels.

    Lazy ones are read chunk by chunk, of which only the pixels of ROIs are kept.
    """
    from xs2p.rois.build import rois_from_footprints
    from xs2p.rois.pixels import agreed_frame, pixel_table

    footprints = array.drop_vars(["height", "width"], errors="ignore").rename(
        {old: new for old, new in _DIMS.items() if old in array.dims}
    )
    footprints = footprints.reset_coords(drop=True).transpose("roi", "y", "x")
    frame = (footprints.sizes["y"], footprints.sizes["x"])
    agreed_frame(shape, frame, name)
    labels = footprints["roi"].variable if "roi" in footprints.coords else None
    try:
        if footprints.chunks is None:
            rois = rois_from_footprints(footprints)
        else:
            rois = rois_from_footprints(_sparse(footprints.data), shape=frame, order="C")
            rois = rois if labels is None else rois.assign_coords(roi=labels)
        pixel_table(rois)  # labels are what the array says
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    return rois


def _sparse(footprints: Any) -> Any:
    """Sparse ``pixels × rois`` of footprints ``(roi, y, x)``, read one chunk at a time."""
    from scipy.sparse import csc_matrix

    n, ly, lx = footprints.shape
    starts = [np.cumsum([0, *sizes[:-1]]) for sizes in footprints.chunks]
    rows, columns, weights = [], [], []
    for where in np.ndindex(*footprints.numblocks):
        part = np.asarray(footprints.blocks[where].compute(scheduler="synchronous"))
        at = np.nonzero(part)
        roi, y, x = (i + s[k] for i, s, k in zip(at, starts, where, strict=True))
        rows.append(y * lx + x)
        columns.append(roi)
        weights.append(part[at])
    places = np.concatenate(rows), np.concatenate(columns)
    return csc_matrix((np.concatenate(weights), places), shape=(ly * lx, n))


def footprints_in(stored: xr.Dataset) -> xr.DataArray | None:
    """Return the one array of a Dataset that has footprints of Minian's."""
    found = [key for key in stored.data_vars if is_minian(stored[key])]
    return stored[found[0]] if len(found) == 1 else None
