"""ROI sets turned into others, and into label images and stats."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p.rois.assemble import DESCRIPTIONS, frac_overlap
from xs2p.rois.pixels import pixel_order, pixel_table, planes_of, shared_pixels
from xs2p.rois.stat import stat_from_fields


def recompute_overlap(rois: xr.Dataset) -> xr.Dataset:
    """Flag anew which pixels more than one ROI of the set has.

    Parameters
    ----------
    rois
        An ROI set over ``roi`` and ``pixel``, also one selected over ``roi``.

    Returns
    -------
    Dataset
        The same ROI set with ``overlap(pixel)`` and ``frac_overlap(roi)`` of the ROIs at hand.

    Examples
    --------
    >>> import xs2p
    >>> stat = [{"ypix": [0, 0], "xpix": [x, x + 1], "lam": [1, 1]} for x in (0, 1)]
    >>> rois = xs2p.rois_from_stat(stat, (1, 3))
    >>> recompute_overlap(rois.isel(roi=[0])).overlap.values.tolist()
    [False, False]
    """
    rois = contiguous(rois)
    table = pixel_table(rois)
    table = table._replace(overlap=shared_pixels(table, planes_of(rois)))
    rois = rois.copy()
    rois["overlap"] = ("pixel", table.overlap, DESCRIPTIONS["overlap"])
    share = ("roi", frac_overlap(table), DESCRIPTIONS["frac_overlap"])
    return rois.assign_coords(frac_overlap=share)


def rois_to_labels(rois: xr.Dataset) -> xr.DataArray:
    """Draw an ROI set as a label image.

    Parameters
    ----------
    rois
        An ROI set, or a Dataset of traces that carries one.

    Returns
    -------
    DataArray
        Integer image ``(y, x)``, 0 is background. Values are the ``roi`` labels where all of
        them are whole numbers from 1 on, else one more than the ROI's position;
        ``attrs["values"]`` says which. A pixel of several ROIs goes to the one with the largest
        weight, the first of equals.
    """
    table = pixel_table(rois)
    positive = table.roi.dtype.kind in "iu" and bool((table.roi > 0).all())
    values = table.roi if positive else np.arange(table.roi.size) + 1
    small = not values.size or values.max() < 2**31
    image = np.zeros(table.shape, np.int32 if small else np.int64)
    # Written from the lightest to the heaviest, and among equals from the last to the first.
    order = np.lexsort((-table.owner, table.lam))
    image.ravel()[table.flat[order]] = values[table.owner[order]]
    attrs = {
        "long_name": "ROI labels",
        "description": "ROI set drawn as an image by to_labels, 0 where no ROI is.",
        "values": "roi labels" if positive else "position in roi, plus 1",
    }
    return xr.DataArray(image, dims=("y", "x"), name="labels", attrs=attrs)


def rois_to_stat(rois: xr.Dataset) -> list[dict[str, Any]]:
    """Give an ROI set back as suite2p's ``stat``, a list of dicts.

    Parameters
    ----------
    rois
        An ROI set, or a Dataset of traces that carries one.

    Returns
    -------
    list of dict
        ``ypix, xpix, lam, overlap, npix, med, radius`` and every further field that
        :func:`xs2p.rois_from_stat` took, of the same types.
    """
    rois = contiguous(rois)
    return stat_from_fields(rois, pixel_table(rois))


def compact(rois: xr.Dataset) -> xr.Dataset:
    """Leave out the pixels of ROIs that are not in ``roi`` any more, and order them as ``roi`` is.

    A selection over ``roi`` is a valid ROI set as it is, and keeps the pixels of all ROIs: call
    this before you store one yourself, with ``to_zarr`` or ``to_netcdf``, so that the file is as
    small as it can be and other programs read the right pixels. What this package writes is
    compact always.

    Parameters
    ----------
    rois
        An ROI set over ``roi`` and ``pixel``, also one selected or sorted over ``roi``; or a
        Dataset of traces that carries one, whose traces stay as they are, and lazy.

    Returns
    -------
    Dataset
        The same over ``roi``; over ``pixel`` the pixels of its first ROI, then those of its second,
        and so on; of fields of a stat such as ``neuropil_mask`` the elements of its ROIs. That
        makes it a contiguous ragged array of the CF conventions, and ``npix`` says so by its
        attribute ``sample_dimension``. A selection from the result is none again, though it keeps
        the attribute: select first.

    Raises
    ------
    ValueError
        If ``rois`` is no ROI set, or pixels were selected apart from their ROIs.

    Examples
    --------
    >>> import xs2p
    >>> rois = xs2p.sample_rois()
    >>> some = compact(rois.isel(roi=[5, 3]))
    >>> some.sizes["pixel"] == int(some.npix.sum()) < rois.sizes["pixel"]
    True
    """
    rois = contiguous(rois)
    npix = rois["npix"].variable.copy(deep=False)
    npix.attrs["sample_dimension"] = "pixel"
    return _with_npix(rois, npix)


def contiguous(rois: xr.Dataset) -> xr.Dataset:
    """As `compact`, for sets that stay in memory: ``npix`` does not say that it is so.

    The next selection would make that untrue, and no selection drops an attribute.
    """
    order, _ = pixel_order(rois)
    return without_claim(_own_elements(rois if order is None else rois.isel(pixel=order)))


def _own_elements(rois: xr.Dataset) -> xr.Dataset:
    """Drop the elements of 1-D fields of a stat, such as ``neuropil_mask``, of other ROIs."""
    kept: dict[str, np.ndarray] = {}
    for dim in map(str, rois.dims):
        owner = f"{dim.removesuffix('_element')}_roi"
        if dim.endswith("_element") and owner in rois.variables and "roi_id" in rois.variables:
            own = np.isin(rois[owner].values, rois["roi_id"].values)
            kept |= {} if own.all() else {dim: np.flatnonzero(own)}
    return rois.isel(kept) if kept else rois


def without_claim(rois: xr.Dataset) -> xr.Dataset:
    """Drop from ``npix`` what `compact` has said there."""
    if "sample_dimension" not in rois["npix"].attrs:
        return rois
    npix = rois["npix"].variable.copy(deep=False)
    del npix.attrs["sample_dimension"]
    return _with_npix(rois, npix)


def _with_npix(rois: xr.Dataset, npix: xr.Variable) -> xr.Dataset:
    """Put ``npix`` in its place: a coordinate where traces are beside it, else a variable."""
    if "npix" in rois.coords:
        return rois.assign_coords(npix=npix)
    return rois.assign(npix=npix)
