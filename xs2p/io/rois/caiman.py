"""Spatial footprints of CaImAn: its estimates in memory, and the HDF5 file they are saved in.

The file is as CaImAn's ``CNMF.save`` leaves it: a group ``estimates`` (older files have the same
at the top) in which ``A`` is a group of ``data``, ``indices``, ``indptr`` and ``shape``, a sparse
matrix of pixels × components in compressed columns whose pixels are numbered down the columns of
the frame; ``dims``, the size of the frame, at the top, in ``estimates`` or in ``params/data``; and
``idx_components``, the components that were accepted. What was not computed is a placeholder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.disk.reads import naming
from xs2p.movie.hdf5_sources import check_hdf5

if TYPE_CHECKING:
    import xarray as xr

_QUALITY = {
    "SNR_comp": "CaImAn's signal to noise of the component",
    "r_values": "CaImAn's spatial correlation of the component",
    "cnn_preds": "CaImAn's probability, by its network, that this is a neuron",
}


def rois_of_estimates(source: Any, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of a CNMF object or of its ``estimates``: what has ``A`` and, mostly, ``dims``."""
    estimates = getattr(source, "estimates", source)
    dims = getattr(estimates, "dims", None)
    dims = getattr(source, "dims", None) if dims is None else dims
    fields = {key: getattr(estimates, key, None) for key in ("idx_components", *_QUALITY)}
    return rois_of_columns(estimates.A, dims, shape, fields, f"the {type(source).__name__}")


def rois_of_sparse(A: Any, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of a bare sparse matrix, pixels × ROIs as CaImAn numbers them."""
    return rois_of_columns(A, None, shape, {}, "a sparse matrix of footprints")


def read_caiman(path: str, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of CaImAn's HDF5 file of results."""
    import h5py
    from scipy.sparse import csc_array

    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: no HDF5 file can be read ({error})") from error
    with naming(path), file:
        check_hdf5(path)
        group = file["estimates"] if "estimates" in file else file
        if not isinstance(group, h5py.Group) or "A" not in group:
            raise ValueError(
                f"{path}: no footprints are in it, expected CaImAn's results with the group "
                f"estimates/A; it holds {', '.join(sorted(file)) or 'nothing'}"
            )
        A = group["A"]
        if isinstance(A, h5py.Group):
            absent = [key for key in ("data", "indices", "indptr", "shape") if key not in A]
            if absent:
                raise ValueError(f"{path}: estimates/A lacks {', '.join(absent)}")
            try:
                parts: Any = [_column(A[key], key) for key in ("data", "indices", "indptr")]
                rows, columns = (int(n) for n in _column(A["shape"], "shape"))
                footprints = csc_array(tuple(parts), shape=(rows, columns))
                footprints.check_format()
                if (np.diff(footprints.indptr) < 0).any():  # not looked at where the last is 0
                    raise ValueError("its columns end before they begin")
            except (ValueError, TypeError) as error:
                raise ValueError(f"{path}: estimates/A is damaged ({error})") from error
        elif A.ndim == 2:
            footprints = csc_array(_column(A, "A"))
        else:
            raise ValueError(f"{path}: estimates/A is {A.shape}, expected pixels × components")
        places = (group.get("dims"), file.get("dims"), file.get("params/data/dims"))
        dims = next((d for d in map(_numbers, places) if d is not None), None)
        fields = {key: _numbers(group.get(key)) for key in ("idx_components", *_QUALITY)}
    return rois_of_columns(footprints, dims, shape, fields, path)


def _column(stored: Any, key: str) -> np.ndarray:
    """Read real numbers, whole ones but for the weights."""
    values = np.asarray(stored[()]) if hasattr(stored, "dtype") else np.empty(0, object)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{key} holds no real numbers")
    if key in ("data", "A"):
        return values
    whole = values.astype(np.int64) if np.isfinite(values).all() else None
    if whole is None or not np.array_equal(whole, values) or (whole < 0).any():
        raise ValueError(f"{key} holds what is no whole number from 0 on")
    if key == "indptr" and (np.diff(whole) < 0).any():
        raise ValueError("indptr goes back")
    return whole


def _numbers(stored: Any) -> np.ndarray | None:
    """Return a 1-D array of numbers; None for the text that stands for what was not computed."""
    value = None if stored is None or not hasattr(stored, "dtype") else np.asarray(stored[()])
    return value if value is not None and value.ndim == 1 and value.dtype.kind in "biuf" else None


def rois_of_columns(
    A: Any, dims: Any, shape: tuple[int, int] | None, fields: dict[str, Any], name: str
) -> xr.Dataset:
    """ROI set of pixels × components, numbered down the columns of a frame of ``dims``."""
    from scipy.sparse import csc_array

    from xs2p.rois.build import rois_from_footprints
    from xs2p.rois.pixels import agreed_frame

    A = A if hasattr(A, "tocsc") else csc_array(np.asarray(A))
    sizes = np.asarray([] if dims is None else dims)
    sizes = sizes.astype(np.float64) if sizes.dtype.kind in "biuf" else np.array([np.nan])
    if not np.isfinite(sizes).all() or (sizes != np.rint(sizes)).any() or (sizes < 1).any():
        raise ValueError(f"{name}: its frame has the dims {dims}, expected whole numbers from 1 on")
    frame = None if dims is None else tuple(int(n) for n in sizes)
    if frame is not None and len(frame) != 2:
        raise ValueError(
            f"{name}: its frame has the dims {frame}, and ROIs here lie in one plane; pass the "
            "rows of A of one plane to xs2p.rois_from_footprints(A, shape=(Ly, Lx), order='F')"
        )
    agreed = agreed_frame(shape, frame, name)
    if agreed is None:
        raise ValueError(
            f"{name} does not say the size of the frame; give it in pixels: shape=(Ly, Lx)"
        )
    try:
        rois = rois_from_footprints(A, shape=agreed, order="F")
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    n = rois.sizes["roi"]
    index = fields.pop("idx_components", None)
    if index is not None:
        index = np.asarray(index).ravel()
        if index.size and (index.dtype.kind not in "iuf" or (index % 1 != 0).any()):
            raise ValueError(f"{name}: idx_components holds what is no number of a component")
        if index.size and (index.min() < 0 or index.max() >= n):
            odd = index[(index < 0) | (index >= n)][0]
            raise ValueError(
                f"{name}: idx_components holds {odd}, but A has {n} columns, numbered from 0"
            )
        accepted = np.isin(np.arange(n), index.astype(np.int64))
        rois = rois.assign_coords(
            accepted=("roi", accepted, {"long_name": "accepted by CaImAn or by hand"})
        )
    for key, values in fields.items():
        if values is not None and np.shape(values) == (n,):
            about = {"long_name": _QUALITY[key]}
            rois = rois.assign_coords({key: ("roi", np.asarray(values), about)})
    return rois
