"""Movies that are arrays already: in memory, mapped from a file, of Dask, or of anything else."""

from __future__ import annotations

import mmap
import os
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._warnings import warn
from xs2p.disk.reads import named_read
from xs2p.movie.check import DIMS, check_dims
from xs2p.movie.chunks import even_chunks, from_array, to_dask
from xs2p.movie.frames import Frames, RawFrames, Stamp, truncated

if TYPE_CHECKING:
    import xarray as xr

_MASKED = "some pixels are masked, and a movie here has a value in each: fill them"


def open_array(array: Any, chunks: int | None, dims: tuple[str, ...] | None = None) -> xr.DataArray:
    """Label an array as a movie, its axes ``dims``; nothing of it is read or copied."""
    import xarray as xr

    from xs2p.movie.check import check_dtype

    told = type(array).__name__
    if _module(array) == "h5py":
        _check_h5py(array)
    if isinstance(array, xr.Dataset):
        listing = ", ".join(f"{key}{tuple(v.dims)}" for key, v in array.data_vars.items())
        raise ValueError(
            f"open_movie: a Dataset, which holds {listing or 'no variables'}; give one of them, as "
            "in open_movie(ds['movie'])"
        )
    if not all(hasattr(array, name) for name in ("shape", "dtype", "__getitem__")):
        raise ValueError(
            f"open_movie: cannot open {told}; expected a path, a list of paths, a Zarr store, or "
            "an array (time, y, x)"
        )
    if dims is not None and dims != DIMS:
        array = _named(array, dims)
    if isinstance(array, xr.DataArray):
        check_dims(array)
        check_dtype(np.dtype(array.dtype), "the movie")
        _check_pixels(array, told)
        data = array.variable._data if array.chunks is None else None  # .data may read it
        if isinstance(data, np.memmap):
            return array.copy(data=_data(data, chunks))
        return array if chunks is None else array.chunk(time=chunks)
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise ValueError(f"open_movie: {_MASKED}, as with array.filled(0)")
        array = np.asarray(array)
    if len(array.shape) != 3:
        raise ValueError(
            f"open_movie: {told} of shape {tuple(array.shape)}, expected 3 dims, (time, y, x); "
            "with channels or planes say which axis is which, as in open_movie(array, dims='tczyx')"
        )
    check_dtype(np.dtype(array.dtype), told)
    _check_pixels(array, told)
    return xr.DataArray(_data(array, chunks), dims=DIMS, name="movie")


def _named(array: Any, dims: tuple[str, ...]) -> Any:
    """Give an array the names of its axes, and put them as a movie has them."""
    import xarray as xr

    from xs2p.movie.dims import dims_of

    told = type(array).__name__
    dims_of(array.shape, dims, f"open_movie: {told}")
    if not isinstance(array, xr.DataArray | np.ndarray) and _module(array) not in ("cupy", "dask"):
        raise ValueError(
            f"open_movie: dims= of {told} is for numpy, Dask and DataArrays; give the path of the "
            "file or store it is of, with dims= and variable=, or dask.array.from_array(array)"
        )
    if isinstance(array, xr.DataArray):
        movie = array.rename(
            {old: new for old, new in zip(array.dims, dims, strict=True) if old != new}
        )
    else:
        movie = xr.DataArray(array, dims=dims, name="movie")
    ones = [dim for dim in ("channel", "plane") if movie.sizes.get(dim) == 1]
    return movie.squeeze(ones).transpose("channel", "plane", *DIMS, missing_dims="ignore")


def _module(array: Any) -> str:
    return type(array).__module__.partition(".")[0]


def _check_pixels(array: Any, told: str) -> None:
    if 0 in array.shape:
        raise ValueError(f"open_movie: {told} holds no pixels, its shape is {tuple(array.shape)}")


def _check_h5py(array: Any) -> None:
    import h5py

    if not isinstance(array, h5py.Dataset):
        raise ValueError(
            f"open_movie: cannot open {type(array).__name__} of h5py; give the dataset itself, as "
            "in open_movie(file['movie']), and convert the movie with .astype('float32')"
        )
    if not array:
        raise ValueError(
            "open_movie: the h5py.Dataset is of a file that is closed; give the path, as in "
            "open_movie('movie.h5', variable='movie')"
        )


def _data(array: Any, chunks: int | None) -> Any:
    import dask.array as da

    if isinstance(array, np.memmap) and array.ndim > 3:
        return da.stack([_data(part, chunks) for part in array])
    module = _module(array)
    identity = array
    if isinstance(array, np.memmap):
        mapped = _mapped(array)
        if mapped is not None:
            return to_dask(mapped, chunks)
        identity = uuid.uuid4()  # Dask would read the whole map to name it
        warn(
            "open_movie: the memory map holds what its file does not (it was opened with mode='c', "
            "or the file was replaced since): it is read through this process alone, and other "
            "processes get a copy of all of it; map the file anew, with mode='r'"
        )
    elif isinstance(array, np.ndarray) or module in ("cupy", "dask"):
        if isinstance(array, da.Array):
            return array if chunks is None else array.rechunk((chunks, -1, -1))
        if chunks is None:
            return array
        return da.from_array(array, chunks=(chunks, *array.shape[1:]))
    if module == "h5py":
        from xs2p.movie.hdf5 import axes_of, h5_frames, h5_to_dask

        if array.file.mode == "r" and os.path.exists(array.file.filename):
            return h5_to_dask(h5_frames(array), chunks)
        if axes_of(array) != DIMS:
            raise ValueError(
                f"open_movie: {array.name} of {array.file.filename} is of NWB or MATLAB, with "
                "dims (time, x, y); open that with mode 'r', or give its path"
            )
        identity = uuid.uuid4()  # what it holds may change at any time
        warn(
            "open_movie: the h5py.Dataset is of a file that is open for writing, or in memory "
            "alone: only threads of this process can read it; open the file with mode 'r', or give "
            "its path, to compute on processes or a cluster"
        )
    if module == "zarr":
        from xs2p.movie.zarr import array_to_dask

        return array_to_dask(array, chunks)
    frames = _Foreign(array, tuple(array.shape), np.dtype(array.dtype))
    step = even_chunks(frames.shape, frames.dtype.itemsize) if chunks is None else chunks
    return from_array(frames, (min(step, array.shape[0]), *frames.shape[1:]), identity)


@dataclass(frozen=True)
class _Foreign:
    """An array that reads itself, whose errors say which frames could not be read."""

    array: Any
    shape: tuple[int, int, int]
    stored: np.dtype[Any]

    ndim = 3

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.stored.newbyteorder("=")

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        start, stop, _ = key[0].indices(self.shape[0])
        with named_read(type(self.array).__name__, start, stop):
            frames = self.array[key]
            if np.ma.is_masked(frames):
                raise ValueError(
                    f"{_MASKED}, or open the file with xarray.open_dataset, and give a DataArray"
                )
            got = np.asarray(frames)
            if got.dtype.newbyteorder("=") != self.dtype:
                raise TypeError(
                    f"its dtype is {self.dtype}, but {got.dtype} came out of it, as of an array "
                    "that scales what is stored; open the file with xarray.open_dataset, and give "
                    "a DataArray"
                )
            return got.astype(self.dtype, copy=False)


@dataclass(frozen=True)
class StridedFrames(Frames):
    """Frames that lie in a file with any strides, as a part of a memory map does."""

    offset: int = 0
    strides: tuple[int, ...] = ()

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Map the file and copy these frames."""
        size = os.path.getsize(self.stamp.path)
        if size < self.stamp.size:
            raise truncated(self, 0, size)
        mapped = np.memmap(self.stamp.path, np.uint8, "r")
        frames: np.ndarray[Any, Any] = np.ndarray(
            self.shape, self.stored, mapped, self.offset, self.strides
        )
        return np.array(frames[start:stop], dtype=self.dtype, order="C")


def _mapped(array: np.memmap[Any, Any]) -> Frames | None:
    """Frames in the file of a memory map; None where they cannot be read from there.

    Dask copies a memory map as a whole, and so does pickle.
    """
    root: Any = array
    while isinstance(root.base, np.memmap):
        root = root.base
    path = array.filename
    changed = getattr(root, "mode", None) == "c"  # what was changed is in memory alone
    if path is None or changed or not os.path.exists(path):
        return None
    root.flush()
    if not _is_of_file(root, path):
        return None
    # A part of a map says the offset of the whole: addresses tell where it is.
    offset = root.offset + array.ctypes.data - root.ctypes.data
    shape = (array.shape[0], array.shape[1], array.shape[2])
    if array.flags.c_contiguous:
        return RawFrames(Stamp.of(path), shape, array.dtype.str, offset)
    return StridedFrames(Stamp.of(path), shape, array.dtype.str, offset, array.strides)


def _is_of_file(root: np.memmap[Any, Any], path: Any) -> bool:
    """Whether a file has what the map of it has: other files of its name differ in some bytes."""
    mapped = memoryview(root._mmap)  # type: ignore[attr-defined]
    begin = root.offset - root.offset % mmap.ALLOCATIONGRANULARITY
    size = os.path.getsize(path)
    if size < begin + len(mapped):
        raise ValueError(
            f"open_movie: the memory map is of {begin + len(mapped)} bytes of {path}, which now "
            f"has {size}: it was cut or replaced; map it anew"
        )
    with open(path, "rb", buffering=0) as file:
        for at in np.linspace(0, max(0, len(mapped) - 64), 64, dtype=np.int64).tolist():
            file.seek(begin + at)
            if file.read(min(64, len(mapped) - at)) != mapped[at : at + 64]:
                return False
    return True
