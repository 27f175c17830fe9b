"""Find the movie in a Zarr store, keep its labels, and chunk it along the store's chunks."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.disk.reads import named_read
from xs2p.movie.check import DIMS, LABELLED
from xs2p.movie.dims import MOST, dims_of
from xs2p.movie.ome_zarr import find_image, with_times
from xs2p.movie.zarr_damage import sorted_out, sound_part
from xs2p.movie.zarr_state import State, patience, patient, state_of
from xs2p.movie.zarr_store import (
    check_blosc,
    check_chunks,
    check_filled,
    check_shape,
    check_there,
    check_zip,
)

if TYPE_CHECKING:
    import xarray as xr

# Dims of Minian's movies, and what they are here.
MINIAN = {"frame": "time", "height": "y", "width": "x"}


def open_zarr_movie(
    source: Any,
    told: str,
    chunks: int | None,
    variable: str | None,
    said: tuple[str, ...] | None = None,
    order: str | None = None,
) -> Any:
    """Open the movie of a Zarr store: a (time, y, x) array, alone, in a Dataset, or OME's.

    ``said``: its axes, whatever the store says; ``order``: that of a frame's axes, of NWB.
    """
    import zarr

    from xs2p.movie.check import check_dtype

    node = _open(source, told)
    nwb = None if said else _of_nwb(node, told, chunks, variable, order)
    if nwb is not None:
        return nwb
    dims: tuple[str, ...] | None
    if isinstance(node, zarr.Array):
        if variable is not None:
            raise ValueError(
                f"variable={variable!r}, but {told!r} is a single array of shape {node.shape}: "
                "leave variable out"
            )
        array, axes = node, None
        dims = said or _dims(array) or dims_of(array.shape, None, f"{told}: one array,")
        axes = None if dims == DIMS else dims
        if said is None and sorted(dims) not in map(sorted, (DIMS, *LABELLED)):
            raise ValueError(
                f"{told}: one array, {_described('', array)}, expected the dims (time, y, x), and "
                "channel and plane where there are several; dims= says them, as in dims='tczyx'"
            )
    else:
        try:
            array, axes = _pick(node, told, variable, said)
        except Exception as error:
            if isinstance(error, ValueError) or "://" not in told:
                raise
            raise ValueError(
                f"{told}: the server does not list what the group holds ({type(error).__name__}: "
                f"{error}); give the address of the movie's array, as in "
                f"open_movie({_joined(told, variable or 'movie')!r}), or consolidate the store's "
                "metadata where it was written, with zarr.consolidate_metadata"
            ) from error
        dims = axes or _dims(array)
    if dims is not None:
        dims_of(array.shape, dims, told)
    check_dtype(np.dtype(array.dtype), told)
    if 0 in array.shape:
        raise ValueError(f"{told}: holds no pixels, its shape is {array.shape}")
    name = _joined(told, array.path.removeprefix(node.path).strip("/"))
    sizes = _chunk_sizes(array, dims or DIMS, chunks, name)
    if array is node or dims is None or axes is not None:
        movie = _bare(array, dims or DIMS, sizes, name)
        of_ome = array is not node and variable is None and said is None
        return with_times(movie, node.attrs) if of_ome else movie
    consolidated = getattr(node.metadata, "consolidated_metadata", None) is not None
    at = array.path.rpartition("/")[0] == node.path
    return _from_dataset(array, sizes, name, consolidated and at)


def _of_nwb(
    node: Any, told: str, chunks: int | None, variable: str | None, order: str | None
) -> Any:
    """Open the movie of NWB in Zarr form; None where a store is no NWB."""
    import zarr

    from xs2p.movie.nwb import nwb_axes, order_attrs
    from xs2p.movie.nwb_zarr import find_nwb_movie, is_nwb, labelled, nwb_dims

    if isinstance(node, zarr.Array):
        dims = nwb_dims(node, order) if variable is None else None
        if dims is not None:
            sizes = _chunk_sizes(node, dims, chunks, told)
            return _bare(node, dims, sizes, told).assign_attrs(order_attrs(order))
    elif is_nwb(node):
        axes = nwb_axes(order)
        array, attrs, coords = find_nwb_movie(node, told, variable)
        name = _joined(told, array.path.removeprefix(node.path).strip("/"))
        movie = _bare(array, axes, _chunk_sizes(array, axes, chunks, name), name).drop_attrs()
        return labelled(movie, attrs, coords, order)
    if order is not None:
        raise ValueError(
            f"order={order!r} says which axis of its frames an NWB file has first, and {told} is "
            "none; leave order out"
        )
    return None


def _open(source: Any, told: str) -> Any:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    import zarr

    if isinstance(source, str) and source.startswith("file://"):
        source = url2pathname(urlsplit(source).path)
    remote = isinstance(source, str) and "://" in source
    try:
        if isinstance(source, str) and not remote and source.lower().endswith(".zip"):
            check_zip(source)
            source = zarr.storage.ZipStore(source, mode="r")
        if isinstance(source, zarr.Group):
            return source
        # A server that lists nothing can only be read by what was consolidated.
        how: dict[str, Any] = {"use_consolidated": None if remote else False}
        how |= patience(source) if remote else {}
        return patient(lambda: zarr.open(source, mode="r", **how))
    except ImportError as error:
        raise ImportError(
            f"{told}: zarr needs another package to read it ({error}): pip install s3fs for s3://, "
            "gcsfs for gs://, aiohttp for https://"
        ) from error
    except Exception as error:
        raise ValueError(
            f"{told}: no Zarr array or group can be opened there ({type(error).__name__}: {error})"
        ) from error


def _joined(told: str, key: str) -> str:
    return told if not key else f"{told}/{key}" if "://" in told else os.path.join(told, key)


def _dims(array: Any) -> tuple[str, ...] | None:
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if not names or None in names:
        return None
    return tuple(MINIAN.get(n, n) for n in names) if set(names) == set(MINIAN) else tuple(names)


def _described(key: str, array: Any) -> str:
    dims = _dims(array)
    return f"{key}{'(' + ', '.join(dims) + ')' if dims else ''} {array.shape} {array.dtype}".strip()


def _pick(
    node: Any, told: str, variable: str | None, said: tuple[str, ...] | None
) -> tuple[Any, tuple[str, ...] | None]:
    """Find the movie of a group, and its dims where OME's metadata or the user say them."""
    import zarr

    if variable is None and said is None:
        image = find_image(node, told)
        if image is not None:
            return image
    arrays = _arrays(node, told, variable)
    if variable is not None and "/" in variable and variable in node:
        inner = node[variable]
        if isinstance(inner, zarr.Array):
            arrays[variable] = inner
    elif not arrays:
        inside = node.members(max_depth=None)
        arrays = {key: part for key, part in inside if isinstance(part, zarr.Array)}
    listing = "; ".join(_described(key, arrays[key]) for key in sorted(arrays)) or "no arrays"
    labelled = [key for key, array in arrays.items() if _dims(array) in LABELLED]
    bare = [key for key, array in arrays.items() if array.ndim == 3 and _dims(array) is None]
    if said is not None:
        labelled, bare = [key for key, array in arrays.items() if array.ndim == len(said)], []
    elif not labelled + bare:  # of four and five axes: some may be of length 1
        bare = [key for key, a in arrays.items() if 3 < a.ndim <= MOST and _dims(a) is None]
        if len(bare) == 1:
            said = dims_of(arrays[bare[0]].shape, None, f"{told}: {bare[0]}")
    if variable is not None:
        if variable in labelled + bare:
            return arrays[variable], said
        raise ValueError(
            f"variable={variable!r} is no (time, y, x) array of {told!r}, which holds: {listing}"
        )
    found = labelled or bare
    if len(found) == 1:
        return arrays[found[0]], said
    if found:
        problem = f"{len(found)} movies; pick one with variable={sorted(found)[0]!r}"
    elif not arrays and "://" in told:
        problem = f"none that the server lists; give its address, as {_joined(told, 'movie')}"
    else:
        problem = (
            "none; say its axes as they are stored, as in dims='tczyx', or name its dims with "
        )
        problem += "Dataset.rename before storing it"
    raise ValueError(
        f"{told}: expected one array with dims (time, y, x), found {problem}. It holds: {listing}"
    )


def _arrays(node: Any, told: str, variable: str | None) -> dict[str, Any]:
    """Arrays of a group; of one that zarr cannot read as a whole those that it can."""
    try:
        return dict(node.arrays())
    except Exception as error:
        if "://" in told:  # a server that lists nothing has a message of its own
            raise
        sound, damaged = sorted_out(node)
        if variable is not None and variable.partition("/")[0] not in damaged:
            return sound
        listing = "; ".join(_described(key, sound[key]) for key in sorted(sound)) or "no arrays"
        raise ValueError(
            f"{told}: zarr cannot read all arrays of the group, not {', '.join(damaged)} "
            f"({type(error).__name__}: {error}); it can read: {listing}; variable=... picks those"
        ) from error


def _chunk_sizes(
    array: Any, dims: tuple[str, ...], chunks: int | None, name: str
) -> tuple[int, ...]:
    from xs2p.movie.chunks import aligned_chunks

    stored = getattr(array, "shards", None) or array.chunks
    three = [dims.index(dim) for dim in DIMS]
    # What is stored together is read together: all channels and planes of a chunk.
    together = math.prod(n for dim, n in enumerate(stored) if dim not in three)
    t, y, x = aligned_chunks(
        (array.shape[three[0]], array.shape[three[1]], array.shape[three[2]]),
        np.dtype(array.dtype).itemsize * together,
        (stored[three[0]], stored[three[1]], stored[three[2]]),
        chunks,
        name,
    )
    sizes = list(stored)
    for place, size in zip(three, (t, y, x), strict=True):
        sizes[place] = size
    return tuple(sizes)


@dataclass(frozen=True)
class _NamedReads:
    """An array in a store, whose errors say which frames could not be read."""

    array: Any
    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    time: int  # which dim is time
    state: State
    stored: Any  # the array of Zarr's, which this may be decoded from

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        start, stop, _ = key[self.time].indices(self.shape[self.time])
        with named_read(self.path, start, stop), self.state.holding(key):
            if self.stored.metadata.fill_value is None:  # chunks that are not there have no value
                check_there(self.stored, key)
            check_blosc(self.stored, key)
            part = np.asarray(patient(lambda: self.array[key])).astype(self.dtype, copy=False)
            check_filled(self.stored, key, part, self.path)
            return part


def array_to_dask(array: Any, chunks: int | None) -> Any:
    """Wrap a ``zarr.Array`` (time, y, x) that is open."""
    from xs2p.movie.nwb_zarr import nwb_dims

    name = f"{array.store_path}"
    stored = nwb_dims(array)
    if stored is not None:
        sizes = _chunk_sizes(array, stored, chunks, name)
        turned = _to_dask(array, array, stored, sizes, name)
        return turned.transpose([stored.index(dim) for dim in DIMS])
    if _dims(array) not in (None, DIMS):
        raise ValueError(
            f"open_movie: zarr.Array {_described('', array)}, expected the dims (time, y, x); "
            "label and reorder it, as in xarray.DataArray(dask.array.from_zarr(array), "
            f"dims={_dims(array)}).transpose('time', 'y', 'x')"
        )
    sizes = _chunk_sizes(array, DIMS, chunks, name)
    return _to_dask(array, array, DIMS, sizes, name)


def _bare(array: Any, dims: tuple[str, ...], sizes: tuple[int, ...], name: str) -> xr.DataArray:
    import xarray as xr

    ours = ("_ARRAY_DIMENSIONS", "_Unsigned", "multiscales", "omero", "ome")
    attrs = {key: value for key, value in array.attrs.items() if key not in ours}
    movie = xr.DataArray(_to_dask(array, array, dims, sizes, name), dims=dims, attrs=attrs)
    single = [dim for dim in ("channel", "plane") if movie.sizes.get(dim) == 1]
    return movie.squeeze(single).transpose("channel", "plane", *DIMS, missing_dims="ignore")


def _to_dask(values: Any, array: Any, dims: Any, sizes: tuple[int, ...], name: str) -> Any:
    from xs2p.movie.chunks import from_array

    state = state_of(array)
    # An integer that another convention than Zarr's calls the other sign's; wrapping gives it.
    dtype = np.dtype(values.dtype).newbyteorder("=")
    signs = {"true": "iu", "false": "ui"}.get(str(array.attrs.get("_Unsigned")).lower(), "")
    if signs.startswith(dtype.kind):
        dtype = np.dtype(f"{signs[1]}{dtype.itemsize}")
    check_shape(array, name)
    time = tuple(dims).index("time")
    check_chunks(array, name, time)
    reads = _NamedReads(values, name, values.shape, dtype, time, state, array)
    return from_array(reads, sizes, (state.token, str(dtype)))


def _as_ours(movie: xr.DataArray) -> xr.DataArray:
    """Rename the dims of Minian's; frame numbers stay a coordinate, they are no seconds."""
    if set(movie.dims) != set(MINIAN):
        return movie
    labelled = [dim for dim in movie.dims if dim in movie.coords]
    renamed = movie.to_dataset(name="movie").reset_index(labelled).rename_dims(MINIAN)
    return renamed.drop_vars(["height", "width"], errors="ignore")["movie"]


def _from_dataset(
    array: Any, sizes: tuple[int, ...], name: str, consolidated: bool
) -> xr.DataArray:
    import xarray as xr

    # Zarr 2 stores declare a fill value of 0, and decoding it would turn dark pixels into NaN
    # and the movie into floats. Scaled movies have to be decoded all the same.
    options: dict[str, Any] = {"chunks": None, "decode_timedelta": False}
    options["consolidated"] = consolidated  # a server may list nothing, and have only this
    group, _, key = array.path.rpartition("/")
    options["group"] = group or None
    options["decode_times"] = {key: False}  # of its own array units are no dates
    store = array.store
    try:
        dataset = xr.open_zarr(store, mask_and_scale=False, **options)
    except Exception:
        if consolidated:
            raise
        named = {*(_dims(array) or ()), *str(array.attrs.get("coordinates", "")).split()}
        store = sound_part(store, group, named)
        dataset = xr.open_zarr(store, mask_and_scale=False, **options)
    if {"scale_factor", "add_offset"} & set(dataset[key].attrs):
        dataset = xr.open_zarr(store, mask_and_scale=True, **options)
    movie = _as_ours(_with_decoded_labels(dataset[key]))
    for part in (movie, *movie.coords.values()):
        part.attrs.pop("_FillValue", None)
    movie.attrs.pop("_Unsigned", None)
    data = _to_dask(movie.variable, array, movie.dims, sizes, name)
    return movie.copy(data=data).drop_encoding()


def _with_decoded_labels(movie: xr.DataArray) -> xr.DataArray:
    """Unpack coordinates, times among them, that are stored scaled or as timedeltas."""
    import xarray as xr

    decoded = {}
    for name, coord in movie.coords.items():
        timedelta = str(coord.attrs.get("dtype", "")).startswith("timedelta64")
        if timedelta or {"scale_factor", "add_offset"} & set(coord.attrs):
            stored = xr.Dataset({name: coord.variable.to_base_variable()})
            decoded[name] = xr.decode_cf(stored, decode_timedelta=timedelta)[name].variable
    return movie.assign_coords(decoded) if decoded else movie
