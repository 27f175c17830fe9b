"""Find the movie in a Zarr store, keep its labels, and chunk it along the store's chunks."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.io._named import named_read

if TYPE_CHECKING:
    import xarray as xr

DIMS = ("time", "y", "x")


def open_zarr_movie(name: str, chunks: int | None, variable: str | None) -> xr.DataArray:
    """Open the movie of a Zarr directory: a (time, y, x) array, alone or in a Dataset."""
    import zarr

    from xs2p.io.movie import check_dtype

    try:
        node: Any = zarr.open(name, mode="r", use_consolidated=False)
    except Exception as error:
        raise ValueError(
            f"{name}: no Zarr array or group can be opened there ({type(error).__name__}: {error})"
        ) from error
    if isinstance(node, zarr.Array):
        if variable is not None:
            raise ValueError(
                f"variable={variable!r}, but {name!r} is a single array of shape {node.shape}: "
                "leave variable out"
            )
        array, key = node, None
        dims = _dims(array)
        if array.ndim != 3 or dims not in (None, DIMS):
            raise ValueError(
                f"{name}: one array, {_described('', array)}, expected 3 dims (time, y, x)"
            )
    else:
        key = _pick(dict(node.arrays()), name, variable)
        array = node[key]
        dims = _dims(array)
    check_dtype(np.dtype(array.dtype), name)
    if 0 in array.shape:
        raise ValueError(f"{name}: holds no pixels, its shape is {array.shape}")
    sizes = _chunk_sizes(array, chunks, name)
    if key is None or dims is None:
        return _bare(array, sizes, os.path.join(name, key or ""))
    return _from_dataset(name, key, array, sizes)


def _dims(array: Any) -> tuple[str, ...] | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    return tuple(names) if names and None not in names else None


def _described(key: str, array: Any) -> str:
    dims = _dims(array)
    return f"{key}{'(' + ', '.join(dims) + ')' if dims else ''} {array.shape} {array.dtype}".strip()


def _pick(arrays: dict[str, Any], name: str, variable: str | None) -> str:
    listing = "; ".join(_described(key, arrays[key]) for key in sorted(arrays)) or "no arrays"
    labelled = [key for key, array in arrays.items() if _dims(array) == DIMS]
    bare = [key for key, array in arrays.items() if array.ndim == 3 and _dims(array) is None]
    if variable is not None:
        if variable in labelled + bare:
            return variable
        raise ValueError(
            f"variable={variable!r} is no (time, y, x) array of {name!r}, which holds: {listing}"
        )
    found = labelled or bare
    if len(found) == 1:
        return found[0]
    if found:
        problem = f"{len(found)} movies; pick one with variable={sorted(found)[0]!r}"
    else:
        problem = "none; name its dims with Dataset.rename before storing it"
    raise ValueError(
        f"{name}: expected one array with dims (time, y, x), found {problem}. It holds: {listing}"
    )


def _chunk_sizes(array: Any, chunks: int | None, name: str) -> tuple[int, int, int]:
    from xs2p._warnings import warn
    from xs2p.io._lazy import TARGET_BYTES, even_chunks

    shape = array.shape
    stored = getattr(array, "shards", None) or array.chunks
    itemsize = np.dtype(array.dtype).itemsize
    if chunks is not None:
        if chunks % stored[0] and chunks < shape[0]:
            warn(
                f"{name}: chunks={chunks} cuts through the store's chunks of {stored[0]} frames, "
                f"some of which are then read more than once; a multiple of {stored[0]} avoids it"
            )
        return chunks, shape[1], shape[2]
    if stored[0] * shape[1] * shape[2] * itemsize <= TARGET_BYTES:
        return even_chunks(shape, itemsize, stored[0]), shape[1], shape[2]
    tile = (shape[0], min(stored[1], shape[1]), min(stored[2], shape[2]))
    return even_chunks(tile, itemsize, stored[0]), tile[1], tile[2]


@dataclass(frozen=True)
class _NamedReads:
    """An array in a store, whose errors say which frames could not be read."""

    array: Any
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    ndim = 3

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        start, stop, _ = key[0].indices(self.shape[0])
        with named_read(self.path, start, stop):
            return np.asarray(self.array[key])


def _bare(array: Any, sizes: tuple[int, int, int], path: str) -> xr.DataArray:
    import xarray as xr

    attrs = {key: value for key, value in array.attrs.items() if key != "_ARRAY_DIMENSIONS"}
    return xr.DataArray(_to_dask(array, array, sizes, path), dims=DIMS, attrs=attrs)


def _to_dask(values: Any, array: Any, sizes: tuple[int, int, int], path: str) -> Any:
    from xs2p.io._lazy import Stamp, from_array

    document = "zarr.json" if array.metadata.zarr_format == 3 else ".zarray"
    stamp = Stamp.of(os.path.join(path, document))
    reads = _NamedReads(values, path, values.shape, np.dtype(values.dtype))
    return from_array(reads, sizes, (stamp, str(values.dtype)))


def _from_dataset(name: str, key: str, array: Any, sizes: tuple[int, int, int]) -> xr.DataArray:
    import xarray as xr

    # Zarr 2 stores declare a fill value of 0, and decoding it would turn dark pixels into NaN
    # and the movie into floats. Scaled movies have to be decoded all the same.
    options: dict[str, Any] = {"chunks": None, "consolidated": False, "decode_timedelta": False}
    dataset = xr.open_zarr(name, mask_and_scale=False, **options)
    if {"scale_factor", "add_offset"} & set(dataset[key].attrs):
        dataset = xr.open_zarr(name, mask_and_scale=True, **options)
    movie = dataset[key]
    for part in (movie, *movie.coords.values()):
        part.attrs.pop("_FillValue", None)
    data = _to_dask(movie.variable, array, sizes, os.path.join(name, key))
    return movie.copy(data=data).drop_encoding()
