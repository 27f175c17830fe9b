"""What a movie must be: dims, dtype, size, times."""

from __future__ import annotations

from collections.abc import Container, Hashable, Iterable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from xs2p._time import check_increasing

DIMS = ("time", "y", "x")
# Dims of a movie that can be opened: channels and planes are in front where there are several.
LABELLED = (DIMS, ("channel", *DIMS), ("plane", *DIMS), ("channel", "plane", *DIMS))

# What the plane of suite2p's folders is, on movies.
PLANE = {
    "long_name": "plane",
    "description": "Number of the plane, as in the name of suite2p's folder.",
}
PLANES = {"long_name": "plane", "description": "Number of the plane in the file, from 0."}
CHANNEL = {"long_name": "channel", "description": "Number of the channel, from 1 (A)."}


def check_dtype(dtype: np.dtype[Any], name: str) -> None:
    """Raise unless the dtype is one of real numbers."""
    if dtype.kind not in "biuf":
        raise ValueError(
            f"{name}: dtype {dtype}, expected real numbers such as int16, uint16 or float32"
        )


def checked_shape(shape: Sequence[int] | None) -> tuple[int, int] | None:
    """Give ``(Ly, Lx)`` as two ints, or raise."""
    if shape is None:
        return None
    values = tuple(shape) if isinstance(shape, Iterable) else ()
    if len(values) != 2 or not all(is_whole(n) and n > 0 for n in values):
        raise ValueError(
            f"shape={shape!r}: expected (Ly, Lx), two whole numbers of pixels from 1 on, "
            "as in shape=(512, 512)"
        )
    return int(values[0]), int(values[1])


def is_whole(number: Any) -> bool:
    """Whether something is a whole number, of Python or of numpy."""
    return isinstance(number, int | np.integer) and not isinstance(number, bool)


def check_movie(
    movie: Any,
    shape: tuple[int, int] | None = None,
    name: str = "movie",
    taken: Container[Hashable] = (),
) -> None:
    """Raise a ValueError unless ``movie`` is one that :func:`extract_traces` takes.

    ``taken`` are the names that the ROIs use, which no coordinate of the movie may have.
    """
    if not isinstance(movie, xr.DataArray):
        raise ValueError(
            f"{name} must be an xarray DataArray, got {type(movie).__name__}; wrap an array with "
            'xr.DataArray(array, dims=("time", "y", "x")) or open a file with xs2p.open_movie'
        )
    check_dims(movie, LABELLED[:2], name)
    check_increasing(movie, name)
    if movie.dtype.kind not in "iufb" or movie.dtype.itemsize > 8:
        raise ValueError(
            f"{name} must be of real numbers, got dtype {movie.dtype}; "
            f"{name}.astype('int16') or abs({name}) makes them"
        )
    frame = (movie.sizes["y"], movie.sizes["x"])
    if shape is not None and frame != shape:
        raise ValueError(
            f"frames of {name} are (y, x) = {frame}, but the ROIs are for (Ly, Lx) = {shape}; "
            "ROIs and movie must be of the same field of view"
        )
    clash = [
        str(key)
        for key, coord in movie.coords.items()
        if key in taken and not {"y", "x"} & set(coord.dims)
    ]
    if clash:
        raise ValueError(
            f"{name} has the coordinate {clash[0]!r}, a name that the ROIs use; rename it with "
            f"{name}.rename({{{clash[0]!r}: ...}}) or leave it out with "
            f"{name}.drop_vars({clash[0]!r})"
        )


def check_dims(
    movie: xr.DataArray, known: Sequence[tuple[str, ...]] = LABELLED, name: str = "movie"
) -> None:
    """Raise unless a DataArray has dims that are ``known``, by default those of any movie."""
    dims = movie.dims
    if dims in known:
        return
    alike = [order for order in known if set(order) == set(dims)]
    if alike:
        mend = f"reorder them with {name}.transpose{alike[0]}"
    elif len(dims) == 3:
        renames = {d: want for d, want in zip(dims, DIMS, strict=True) if d != want}
        mend = f"if these are they, rename them with {name}.rename({renames})"
    elif dims:
        mend = f"select or rename, as in {name}.rename({{{str(dims[0])!r}: 'time', ...}})"
    else:
        mend = "it is a single number"
    raise ValueError(f"{name} has dims {dims}, expected {' or '.join(map(str, known))}; {mend}")


def rate_of(time: np.ndarray) -> float | None:
    """Frame rate in Hz of regular times in seconds; None where they are not regular."""
    if time.size < 2 or not np.isfinite(time).all():
        return None
    step = (float(time[-1]) - float(time[0])) / (time.size - 1)
    if not step > 0:
        return None
    off = np.abs(time - (time[0] + step * np.arange(time.size))).max()
    return float(1 / step) if off <= 1e-3 * step else None
