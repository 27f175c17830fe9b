"""The movie of an NWB file in Zarr form, whose arrays of texts and references stay closed."""

from __future__ import annotations

import os
from typing import Any

from xs2p.movie.check import check_dtype
from xs2p.movie.hdf5 import NWB_IMAGES
from xs2p.movie.nwb import is_series, nwb_axes, order_attrs, pick_series, series_data, series_labels
from xs2p.movie.zarr_damage import names_in


def is_nwb(group: Any) -> bool:
    """Whether a group of Zarr's is an NWB file, or a series of one."""
    attrs = group.attrs
    return "nwb_version" in attrs or attrs.get("neurodata_type") == "NWBFile" or is_series(group)


def find_nwb_movie(node: Any, told: str, variable: str | None) -> tuple[Any, dict[str, Any], Any]:
    """Find the array of a movie, its attributes, and the coordinate ``time`` where it is known."""
    found = {"": node} if is_series(node) else dict(_series(node, node.path))
    if variable is not None and variable.endswith("/data"):
        variable = variable.removesuffix("/data")
    series = pick_series(found, told, variable)
    where = f"{told}/{series.path.removeprefix(node.path).strip('/')}"
    try:
        data = series_data(series, where)
    except (TypeError, KeyError) as error:  # a list of other files, as an array of objects
        raise ValueError(
            f"{where}: its frames cannot be read by zarr ({type(error).__name__}: {error}); they "
            "may be in other files: open those, or write the file as HDF5 with hdmf-zarr"
        ) from error
    check_dtype(data.dtype, where)
    attrs, coords = series_labels(series, data, where)
    return data, attrs, coords


def nwb_dims(array: Any, order: str | None = None) -> tuple[str, ...] | None:
    """Dims of an array that is the frames of an NWB series; None where it is another."""
    import zarr

    if array.ndim != 3:
        return None
    above, _, name = array.path.rpartition("/")
    where: dict[str, Any] = {"store": array.store, "path": above}
    if isinstance(array.store, zarr.storage.LocalStore):  # which may begin at the array
        folder, name = os.path.split(os.path.abspath(os.path.join(array.store.root, array.path)))
        where = {"store": folder}
    try:
        group = zarr.open_group(**where, mode="r", use_consolidated=False)
    except Exception:  # no group holds it
        return None
    kind = group.attrs.get("neurodata_type")
    return nwb_axes(order) if name == "data" and kind in NWB_IMAGES else None


def labelled(movie: Any, attrs: dict[str, Any], coords: Any, order: str | None) -> Any:
    """Give a movie what its series says of it."""
    return movie.assign_attrs(attrs | order_attrs(order)).assign_coords(coords)


def _series(node: Any, path: str) -> Any:
    """Series of images below a group, by their path; arrays are not opened."""
    import zarr

    for name in names_in(node.store, path):
        inner = f"{path}/{name}".strip("/")
        if ".zarray" in (inside := names_in(node.store, inner)) or not (
            {".zgroup", "zarr.json"} & set(inside)
        ):
            continue
        try:
            group = zarr.open_group(node.store, path=inner, mode="r", use_consolidated=False)
        except Exception:  # an array of Zarr 3
            continue
        if is_series(group):
            yield inner.removeprefix(node.path).strip("/"), group
        else:
            yield from _series(node, inner)
