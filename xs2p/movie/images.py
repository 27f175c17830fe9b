"""Images of a whole movie: mean, maximum, standard deviation and local correlation, in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, check_flag
from xs2p._frames import valid_of
from xs2p.compute.arrays import is_cupy, to_host
from xs2p.compute.cluster import naming_what_was_lost
from xs2p.compute.progress import READS, reading, watch
from xs2p.movie.check import LABELLED, check_dims, check_dtype
from xs2p.movie.chunks import even_chunks
from xs2p.movie.image_sums import FIRST_PAIR, LARGEST, N_SUMS, PAIRS, SQUARE, SUM

KINDS = ("mean", "max", "std", "correlation")
_LONG_NAMES = {
    "mean": "mean over frames",
    "max": "largest value over frames",
    "std": "standard deviation over frames",
    "correlation": "mean correlation with the neighbouring pixels",
}


def mean_image(movie: xr.DataArray, *, progress: bool = True) -> xr.DataArray:
    """Compute the mean image of a movie, with a bar.

    Parameters
    ----------
    movie
        ``([channel, plane,] time, y, x)``, lazy or not. Frames that are not ``valid`` are left out.
    progress
        Show frames per second and the time that is left, where the output is a terminal, or in a
        notebook.

    Returns
    -------
    DataArray
        ``([channel, plane,] y, x)``, float32, in memory.

    Raises
    ------
    ValueError
        If it is no movie, or no frame of it counts.

    Examples
    --------
    >>> import xs2p
    >>> mean_image(xs2p.sample_movie()).sizes
    Frozen({'y': 64, 'x': 64})
    """
    return summary_images(movie, ("mean",), progress=progress)["mean"].rename("meanImg")


def summary_images(
    movie: xr.DataArray, which: Sequence[str] = KINDS, *, progress: bool = True
) -> xr.Dataset:
    """Compute images of a whole movie in one pass over it, with a bar.

    Parameters
    ----------
    movie
        ``([channel, plane,] time, y, x)``, lazy or not. Frames that are not ``valid`` are left out.
    which
        Of ``"mean"``, ``"max"``, ``"std"`` and ``"correlation"``: by default all.
    progress
        Show frames per second and the time that is left, where the output is a terminal, or in a
        notebook.

    Returns
    -------
    Dataset
        The images ``([channel, plane,] y, x)``, in memory: ``mean`` and ``std`` (over all frames
        that count) float32, ``max`` in the movie's dtype; ``correlation``, the mean of the
        Pearson correlations of a pixel with those of its eight neighbours that are not constant
        (Smith and Häusser 2010, doi:10.1038/nn.2620), float32, NaN where the pixel is.

    Raises
    ------
    ValueError
        If it is no movie, no frame of it counts, or there is no such image.
    OSError, MemoryError
        A chunk cannot be read, or does not fit in the memory of a worker; the message names it.

    Examples
    --------
    >>> import xs2p
    >>> images = summary_images(xs2p.sample_movie())
    >>> list(images)
    ['mean', 'max', 'std', 'correlation']
    """
    check_flag("progress", progress)
    names = [which] if isinstance(which, str) else list(which)
    if not names or not set(names) <= set(KINDS):
        raise ValueError(f"which={which!r}; choose of {', '.join(map(repr, KINDS))}")
    if not isinstance(movie, xr.DataArray):
        raise ValueError(
            f"images are of a movie, a DataArray (time, y, x), got {type(movie).__name__}"
        )
    check_dims(movie, LABELLED, "movie")
    check_dtype(movie.dtype, "movie")
    if "max" in names and movie.dtype.kind in "iu" and movie.dtype.itemsize == 8:
        raise ValueError(
            f"the largest values of {movie.dtype} may have more digits than are kept; leave 'max' "
            "out of which, or give movie.astype('int32')"
        )
    counted = _counted(movie)
    pairs = bool({"std", "correlation"} & set(names))
    first = counted.isel(time=slice(0, 1)).data
    first = np.asarray(to_host(first.compute() if hasattr(first, "compute") else first))
    first = first[..., 0, :, :].astype(np.float64)
    first = np.where(np.isfinite(first), first, 0.0)
    sums = _sums(counted, first, pairs, progress)
    made = _images(sums, first, counted.sizes["time"], names)
    return _labelled(movie, made)


def _counted(movie: xr.DataArray) -> xr.DataArray:
    """Take the frames that count."""
    valid = valid_of(movie)
    if valid is not None:
        mask = np.asarray(valid.compute().values)
        if mask.ndim > 1:
            raise ValueError("valid is of each ROI, and images are of all: drop_vars('valid')")
        movie = movie.isel(time=np.flatnonzero(mask))
    if not movie.sizes["time"]:
        raise ValueError("images are over frames, and the movie has none that counts")
    return movie


def _sums(movie: xr.DataArray, first: np.ndarray, pairs: bool, progress: bool) -> np.ndarray:
    """Add up all frames, ``([channel, plane,] SUMS, y, x)``, of what differs from the first."""
    import dask

    if movie.chunks is None and not movie.variable._in_memory:
        sizes = movie.sizes
        shape = sizes["time"], sizes["y"], sizes["x"]
        movie = movie.chunk(time=even_chunks(shape, movie.dtype.itemsize))
    if movie.chunks is None:
        return _sums_of(movie.data, first, pairs)
    axis = movie.ndim - 3
    # Neighbours of a pixel, and what the first frame has there, lie in the same chunk.
    whole = {k: -1 for k in range(movie.ndim) if k != axis}
    data = movie.data.rechunk(whole)
    chunks = (*data.chunks[:axis], (N_SUMS,) * data.numblocks[axis], *data.chunks[axis + 1 :])
    parts = data.map_blocks(
        _sums_of,
        first,
        pairs,
        chunks=chunks,
        dtype=np.float64,
        meta=np.empty((0,) * movie.ndim),
        name=f"{READS}-images-{dask.base.tokenize(data.name, first, pairs)}",
    )
    left = list(parts.to_delayed().ravel())
    while len(left) > 1:  # a tree: few of them are in memory at once
        together = dask.delayed(_together, pure=True)
        left = [together(left[i : i + 8]) for i in range(0, len(left), 8)]
    frames, size = movie.sizes["time"], movie.size * movie.dtype.itemsize
    show = None if progress else False
    with (
        naming_what_was_lost(),
        watch(reading(frames, size), data.numblocks[axis], show=show) as seen,
        seen.part(data.numblocks[axis]),
    ):
        return np.asarray(dask.compute(left[0])[0])


def _sums_of(frames: Any, first: np.ndarray, pairs: bool) -> np.ndarray:
    """Add up the frames of a chunk; the sums are on the host."""
    if is_cupy(frames):
        from xs2p.movie.images_gpu import frame_sums
    else:
        from xs2p.movie.images_cpu import frame_sums
    ahead = frames.shape[:-3]
    each = frames.reshape(-1, *frames.shape[-3:])
    begin = first.reshape(-1, *first.shape[-2:])
    found = [frame_sums(own, f, pairs) for own, f in zip(each, begin, strict=True)]
    return np.stack(found).reshape(*ahead, N_SUMS, *frames.shape[-2:])


def _together(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Put the sums of some chunks together."""
    total = parts[0].copy()
    for part in parts[1:]:
        largest = np.maximum(total[..., LARGEST, :, :], part[..., LARGEST, :, :])
        total += part
        total[..., LARGEST, :, :] = largest
    return total


def _images(
    sums: np.ndarray, first: np.ndarray, n_frames: int, names: Sequence[str]
) -> dict[str, np.ndarray]:
    """Images ``([channel, plane,] y, x)`` from sums."""
    found: dict[str, np.ndarray] = {}
    off = sums[..., SUM, :, :]
    squares = sums[..., SQUARE, :, :] - off * off / n_frames
    for name in names:
        if name == "mean":
            found[name] = (first + off / n_frames).astype(np.float32)
        elif name == "max":
            found[name] = np.where(np.isnan(off), np.nan, sums[..., LARGEST, :, :])
        elif name == "std":
            found[name] = np.sqrt(np.maximum(squares, 0.0) / n_frames).astype(np.float32)
        else:
            found[name] = _correlation(sums, off, squares, n_frames)
    return found


def _correlation(
    sums: np.ndarray, off: np.ndarray, squares: np.ndarray, n_frames: int
) -> np.ndarray:
    """Mean correlation of each pixel with its neighbours."""
    total, number = np.zeros_like(off), np.zeros(off.shape, np.int64)
    for k, (dy, dx) in enumerate(PAIRS):
        one, other = _beside(off.shape[-2:], dy, dx)
        products = sums[..., FIRST_PAIR + k, :, :][one]
        shared = products - off[one] * off[other] / n_frames
        both = squares[one] * squares[other]
        there = both > 0
        value = np.where(there, shared / np.sqrt(np.where(there, both, 1.0)), 0.0)
        for place in (one, other):
            total[place] += value
            number[place] += there
    some = np.where(number > 0, number, 1)
    return np.where(number > 0, total / some, np.nan).astype(np.float32)


def _beside(shape: tuple[int, ...], dy: int, dx: int) -> tuple[Any, Any]:
    """Pixels that have a neighbour ``(dy, dx)`` away, and these neighbours."""
    rows = slice(0, shape[0] - dy), slice(dy, shape[0])
    columns = slice(max(0, -dx), shape[1] - max(0, dx)), slice(max(0, dx), shape[1] - max(0, -dx))
    return (..., rows[0], columns[0]), (..., rows[1], columns[1])


def _labelled(movie: xr.DataArray, made: dict[str, np.ndarray]) -> xr.Dataset:
    kept = {n: c for n, c in movie.coords.items() if "time" not in c.dims}
    dims = [dim for dim in movie.dims if dim != "time"]
    units = {"units": movie.attrs.get("units", ARBITRARY)}
    found = xr.Dataset()
    for name, values in made.items():
        values = values.astype(movie.dtype) if name == "max" else values
        attrs = {
            **({"units": "1"} if name == "correlation" else units),
            "long_name": _LONG_NAMES[name],
            "description": "Over the frames that count, by xs2p.summary_images.",
        }
        found[name] = xr.DataArray(values, kept, dims, attrs=attrs)
    return found
