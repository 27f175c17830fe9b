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


def bin_time(array: xr.DataArray, bins: Bins, valid: np.ndarray | None = None) -> Any:
    """Lowest, highest, sum and number of each bin of time, as :func:`join_bins` takes them.

    NaN is passed over; a bin of nothing else has NaN.

    Parameters
    ----------
    array
        Traces ``(roi, time)``, over Dask in any chunks, which stay as they are.
    bins
        Frames in a bin, or the first frame of each, from 0; bins do not end where chunks do.
    valid
        Frames that count, bool ``(time,)`` or ``(roi, time)``: the others are passed over too.

    Returns
    -------
    array
        ``(4, roi, bins)``, a bin that is cut by the end of a chunk once for each of its parts;
        Dask's where the traces are, and of a size that does not follow the number of frames.
    """
    data = array.transpose("roi", "time").data
    first = _first(bins, array.sizes["time"])
    if array.chunks is None:
        return _bins(_of_valid(np.asarray(data), valid, (0, 0)), 0, first)
    import dask.array as da

    stops = np.cumsum(data.chunks[1])
    starts = stops - data.chunks[1]
    parts = tuple(_within(first, a, b).size for a, b in zip(starts, stops, strict=True))

    def block(values: Any, block_info: Any = None) -> np.ndarray:
        from xs2p.compute.arrays import to_host

        (row, _), (start, _) = block_info[0]["array-location"]
        return _bins(_of_valid(to_host(values), valid, (row, start)), start, first)

    return da.map_blocks(
        block,
        data,
        chunks=((4,), data.chunks[0], parts),
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
    total, count = (np.add.reduceat(part, first, axis=1) for part in parts[2:])
    return (
        np.fmin.reduceat(parts[0], first, axis=1),
        np.fmax.reduceat(parts[1], first, axis=1),
        np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0),
    )


def _first(bins: Bins, n_frames: int) -> np.ndarray:
    return np.arange(0, n_frames, bins) if isinstance(bins, int) else bins


def _within(first: np.ndarray, start: int, stop: int) -> np.ndarray:
    """Which bins have some of the frames ``start:stop``."""
    return np.arange(
        np.searchsorted(first, start, "right") - 1, np.searchsorted(first, stop, "left")
    )


def _of_valid(values: np.ndarray, valid: np.ndarray | None, at: tuple[int, int]) -> np.ndarray:
    """Put NaN where frames of a block do not count."""
    if valid is None:
        return values
    rows, frames = (slice(a, a + n) for a, n in zip(at, values.shape, strict=True))
    return np.where(valid[frames] if valid.ndim == 1 else valid[rows, frames], values, np.nan)


def _bins(values: np.ndarray, start: int, of_bin: np.ndarray) -> np.ndarray:
    """Bins of a block ``(roi, time)`` that begins at frame ``start``."""
    edges = of_bin[_within(of_bin, start, start + values.shape[1])] - start
    first = np.maximum(edges, 0)
    nothing = np.isnan(values)
    return np.stack(
        [
            np.fmin.reduceat(values, first, axis=1).astype(np.float64),
            np.fmax.reduceat(values, first, axis=1).astype(np.float64),
            np.add.reduceat(np.where(nothing, 0, values), first, axis=1, dtype=np.float64),
            np.add.reduceat(~nothing, first, axis=1, dtype=np.float64),
        ]
    )
