"""What of long traces has to be looked at to draw them: bins of time, and their extremes."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr


def extremes(values: np.ndarray, columns: int) -> np.ndarray:
    """Which samples to draw so that no peak is lost: the lowest and the highest of each column.

    Parameters
    ----------
    values
        One trace, ``(time,)``.
    columns
        How many columns of pixels the trace is drawn over.

    Returns
    -------
    ndarray of int
        Positions in ``values``, in order of time; all of them where there are no more than two
        for each column. A column of nothing but NaN keeps one of them: the line has its gap.

    Examples
    --------
    >>> extremes(np.array([0, 9, 1, 2, 5, -3, 4, 4]), columns=2).tolist()
    [0, 1, 4, 5]
    """
    n = values.size
    if n <= 2 * columns:
        return np.arange(n)
    width = -(-n // columns)
    whole = n // width * width
    kept = [np.empty(0, np.int64)]
    for start, stop, rows in ((0, whole, whole // width), (whole, n, 1)):
        if stop > start:
            part = values[start:stop].reshape(rows, -1)
            gap = np.isnan(part)
            first = start + np.arange(rows) * part.shape[1]
            kept.append(first + np.where(gap, np.inf, part).argmin(1))
            kept.append(first + np.where(gap, -np.inf, part).argmax(1))
    return np.unique(np.concatenate(kept))


Bins = int | np.ndarray
"""Frames in a bin, or the first frame of each."""


def bin_time(array: xr.DataArray, bins: Bins) -> Any:
    """Lowest, highest and sum of each bin of time, as :func:`join_bins` takes them.

    Parameters
    ----------
    array
        Traces ``(roi, time)``, over Dask in any chunks, which stay as they are.
    bins
        Frames in a bin, or the first frame of each, from 0; bins do not end where chunks do.

    Returns
    -------
    array
        ``(3, roi, bins)``, a bin that is cut by the end of a chunk once for each of its parts;
        Dask's where the traces are, and of a size that does not follow the number of frames.
    """
    data = array.transpose("roi", "time").data
    first = _first(bins, array.sizes["time"])
    if array.chunks is None:
        return _bins(np.asarray(data), 0, first)
    import dask.array as da

    stops = np.cumsum(data.chunks[1])
    starts = stops - data.chunks[1]
    parts = tuple(_within(first, a, b).size for a, b in zip(starts, stops, strict=True))

    def block(values: Any, block_info: Any = None) -> np.ndarray:
        from xs2p.compute.arrays import to_host

        return _bins(to_host(values), block_info[0]["array-location"][1][0], first)

    return da.map_blocks(
        block,
        data,
        chunks=((3,), data.chunks[0], parts),
        new_axis=0,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )


def join_bins(
    parts: np.ndarray, array: xr.DataArray, bins: Bins
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest, highest and mean of every bin, each ``(roi, bin)``, from :func:`bin_time`'s parts."""
    n_frames = array.sizes["time"]
    chunks = (n_frames,) if array.chunks is None else array.variable.chunksizes["time"]
    stops = np.cumsum(chunks)
    of_bin = _first(bins, n_frames)
    pairs = zip(stops - chunks, stops, strict=True)
    numbers = np.concatenate([_within(of_bin, a, b) for a, b in pairs])
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    frames = np.diff(np.append(of_bin, n_frames))
    return (
        np.fmin.reduceat(parts[0], first, axis=1),
        np.fmax.reduceat(parts[1], first, axis=1),
        np.add.reduceat(parts[2], first, axis=1) / frames,
    )


def _first(bins: Bins, n_frames: int) -> np.ndarray:
    return np.arange(0, n_frames, bins) if isinstance(bins, int) else bins


def _within(first: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Which bins have some of the frames ``start:stop``."""
    return np.arange(
        np.searchsorted(first, start, "right") - 1, np.searchsorted(first, stop, "left")
    )


def _bins(values: np.ndarray, start: int, of_bin: np.ndarray) -> np.ndarray:
    """Lowest, highest and sum of a block ``(roi, time)`` that begins at frame ``start``."""
    edges = of_bin[_within(of_bin, start, start + values.shape[1])] - start
    first = np.maximum(edges, 0)
    return np.stack(
        [
            np.fmin.reduceat(values, first, axis=1).astype(np.float64),
            np.fmax.reduceat(values, first, axis=1).astype(np.float64),
            np.add.reduceat(values, first, axis=1, dtype=np.float64),
        ]
    )
