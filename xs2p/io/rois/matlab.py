"""ROIs in MATLAB's files of version 7.3, which are HDF5 with all axes the other way round.

A label image ``(y, x)`` of MATLAB's lies there as ``(x, y)``, masks ``(y, x, roi)`` as
``(roi, x, y)``. A sparse matrix is a group of ``data``, ``ir`` and ``jc`` with its number of rows
as the attribute ``MATLAB_sparse``; pixels of CaImAn's are numbered down the columns of the frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.hdf5_sources import check_hdf5

if TYPE_CHECKING:
    import xarray as xr


def read_matlab(path: str, shape: tuple[int, int] | None, name: str | None = None) -> xr.Dataset:
    """ROI set of the variable of a file that holds ROIs; ``name``: which one it is."""
    import h5py

    check_hdf5(path)
    with h5py.File(path, "r") as file:
        found: dict[str, Any] = {}

        def note(key: str, item: Any) -> None:
            sparse = "MATLAB_sparse" in item.attrs
            image = isinstance(item, h5py.Dataset) and min(item.shape, default=0) > 1
            if not key.startswith("#") and (sparse or (image and item.ndim in (2, 3))):
                found[key] = item

        file.visititems(note)
        listing = ", ".join(f"{key} {_size(item)}" for key, item in found.items()) or "none"
        if name is not None and name not in found:
            raise ValueError(f"{path}: name={name!r} is no image or matrix of it; it has {listing}")
        chosen = [name] if name is not None else list(found)
        if len(chosen) != 1:
            raise ValueError(
                f"{path}: expected one variable with ROIs, a label image (y, x), masks "
                f"(y, x, roi) or a sparse matrix (pixel, roi), found {listing}"
                + ("; choose it with name=" if found else "")
            )
        return _read(found[chosen[0]], f"{path}, {chosen[0]}", shape)


def _size(item: Any) -> str:
    rows = item.attrs.get("MATLAB_sparse")
    return f"sparse, {rows} rows" if rows is not None else "x".join(map(str, item.shape[::-1]))


def _read(item: Any, name: str, shape: tuple[int, int] | None) -> xr.Dataset:
    from xs2p.io.rois.caiman import rois_of_columns
    from xs2p.io.rois.labels import rois_of_labels
    from xs2p.rois.build import rois_from_footprints
    from xs2p.rois.pixels import agreed_frame

    if "MATLAB_sparse" in item.attrs:
        from scipy.sparse import csc_array

        rows, ends = int(item.attrs["MATLAB_sparse"]), item["jc"][()].astype(np.int64)
        empty = "data" not in item
        data = np.empty(0) if empty else item["data"][()].astype(np.float64)
        places = np.empty(0, np.int64) if empty else item["ir"][()].astype(np.int64)
        matrix = csc_array((data, places, ends), shape=(rows, ends.size - 1))
        matrix.check_format()
        if (np.diff(ends) < 0).any():  # which is not looked at where the last says: nothing
            raise ValueError(f"{name}: its columns end before they begin: the file is damaged")
        return rois_of_columns(matrix, None, shape, {}, name)
    array = item[()].T
    if array.ndim == 3:
        masks = array.transpose(2, 0, 1)
        agreed_frame(shape, (masks.shape[1], masks.shape[2]), name)
        return rois_from_footprints(masks)
    if shape is not None and array.shape != tuple(shape) and array.shape[0] == shape[0] * shape[1]:
        return rois_of_columns(array, None, shape, {}, name)
    whole = np.rint(array)
    if array.dtype.kind == "f" and np.array_equal(whole, array):  # MATLAB's numbers are doubles
        array = whole.astype(np.int64)
    return rois_of_labels(array, shape, name, insist=False)
