"""ROI sets of xs2p itself: in memory, in a Zarr store or in a NetCDF file."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING

from xs2p.disk.reads import check_claim
from xs2p.movie.hdf5_sources import check_hdf5
from xs2p.movie.zarr_store import check_blosc

if TYPE_CHECKING:
    import xarray as xr

_UNSEEN = 2**25  # bytes that an array may have whatever the size of its store
_PACKED = 4000  # bytes that one may have been packed from, and chunks of nothing beside one
_PIXELS = ("npix", "ypix", "xpix", "lam", "overlap")


def rois_of_dataset(ds: xr.Dataset, shape: tuple[int, int] | None, name: str = "") -> xr.Dataset:
    """Return the ROI set that a Dataset is, or that it carries beside traces."""
    from xs2p.rois.convert import without_claim
    from xs2p.rois.pixels import agreed_frame

    where = f"{name}: it" if name else "read_rois: the Dataset"
    absent = [key for key in ("roi", *_PIXELS) if key not in ds.variables]
    absent += [key for key in ("Ly", "Lx") if key not in ds.attrs]
    if absent:
        raise ValueError(
            f"{where} is no ROI set, it lacks {', '.join(absent)}; expected what "
            "xs2p.write_rois or xs2p.extract leaves, or an ROI set's own ds.to_zarr(path)"
        )
    frame = (int(ds.attrs["Ly"]), int(ds.attrs["Lx"]))
    agreed_frame(shape, frame, name or "the ROI set")
    if not {"time", "y", "x"} & set(ds.dims):
        return without_claim(ds)
    # Traces and images go, and with them the parameters in the attributes that made them.
    ds = ds.drop_dims(["time", "y", "x"], errors="ignore").reset_coords(_PIXELS)
    ds = ds.drop_vars([key for key in ds.variables if ds[key].dims == ()])
    ds.attrs = {"Ly": frame[0], "Lx": frame[1]}
    return without_claim(ds)


def _check_whole(rois: xr.Dataset) -> None:
    """Raise where it is no ROI set, or holds what stands for parts of a store that are gone."""
    import numpy as np

    from xs2p.rois.assemble import KNOWN_STATUS
    from xs2p.rois.pixels import pixel_table

    some = np.diff(pixel_table(rois).offsets) > 0
    for name in ("radius", "med_y", "med_x"):
        if name in rois.variables and not np.isfinite(rois[name].values[some]).all():
            raise ValueError(f"{name} is no number for ROIs that have pixels: it is damaged")
    odd = set(rois["status"].values.tolist()) if "status" in rois.variables else set()
    if odd - set(KNOWN_STATUS):
        raise ValueError(f"status is {', '.join(map(repr, sorted(odd - set(KNOWN_STATUS))))}")


def _check_claims(path: str) -> None:
    """Raise where arrays of a store claim much more than its files can have been packed from.

    What has a dimension of its own is read whole, of others a chunk at a time.
    """
    import zarr

    files = [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]
    size = sum(map(os.path.getsize, files))
    for name, array in zarr.open_group(path, mode="r", use_consolidated=False).arrays():
        stored = array.shape if array.ndim == 1 else array.chunks
        needed = math.prod(stored) * array.dtype.itemsize
        check_claim(f"{path}/{name}", "bytes", needed, _UNSEEN + _PACKED * size)
        chunks = math.prod(-(-n // c) for n, c in zip(array.shape, array.chunks, strict=True))
        check_claim(f"{path}/{name}", "chunks", chunks, _PACKED * (1 + len(files)))
        check_blosc(array)


def read_own(path: str, shape: tuple[int, int] | None) -> xr.Dataset:
    """Read the ROI set of a Zarr store or NetCDF file; of traces beside it nothing is read."""
    import xarray as xr

    from xs2p.io.rois.minian import footprints_in, rois_of_minian

    try:
        if path.lower().endswith(".nc"):
            check_hdf5(path)
            stored = xr.open_dataset(path)
        else:
            _check_claims(path)
            stored = xr.open_zarr(path, consolidated=False)
        with stored:
            footprints = footprints_in(stored)
            if footprints is not None and "unit_id" not in footprints.coords:
                raise ValueError("its footprints have no unit_id, their numbers: it is damaged")
            if footprints is not None:
                return rois_of_minian(footprints, shape, path)
            rois = rois_of_dataset(stored, None, path).load()
            _check_whole(rois)
    except (ValueError, OSError, KeyError) as error:
        text = str(error)
        if text.startswith(path):
            raise
        raise ValueError(f"{path}: no ROI set can be read from it ({text})") from error
    for key, variable in rois.variables.items():
        if variable.dtype.kind in "TU":  # strings as the files give them, not every one takes
            rois[key] = rois[key].astype(object)
        if rois[key].dtype.kind == "O":  # xarray of 2025 writes text as it was stored, or fails
            rois[key].encoding.pop("dtype", None)
    return rois_of_dataset(rois, shape)
