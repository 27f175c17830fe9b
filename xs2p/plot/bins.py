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


def bin_time(array: xr.DataArray, width: int) -> Any:
    """Lowest, highest and sum of each bin of time, as :func:`join_bins` takes them.

    Parameters
    ----------
    array
        Traces ``(roi, time)``, over Dask in any chunks, which stay as they are.
    width
        Frames in a bin; bins do not end where chunks do.

    Returns
    -------
    array
        ``(3, roi, bins)``, a bin that is cut by the end of a chunk once for each of its parts;
        Dask's where the traces are, and of a size that does not follow the number of frames.
    """
    data = array.transpose("roi", "time").data
    if array.chunks is None:
        return _bins(np.asarray(data), 0, width)
    import dask.array as da

    stops = np.cumsum(data.chunks[1])
    starts = stops - data.chunks[1]
    parts = tuple(
        int((b - 1) // width - a // width + 1) for a, b in zip(starts, stops, strict=True)
    )

    def block(values: Any, block_info: Any = None) -> np.ndarray:
        from xs2p.compute.arrays import to_host

        return _bins(to_host(values), block_info[0]["array-location"][1][0], width)

    return da.map_blocks(
        block,
        data,
        chunks=((3,), data.chunks[0], parts),
        new_axis=0,
        dtype=np.float64,
        meta=np.empty((0, 0, 0)),
    )


def join_bins(
    parts: np.ndarray, array: xr.DataArray, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lowest, highest and mean of every bin, each ``(roi, bin)``, from :func:`bin_time`'s parts."""
    n_frames = array.sizes["time"]
    chunks = (n_frames,) if array.chunks is None else array.variable.chunksizes["time"]
    stops = np.cumsum(chunks)
    pairs = zip(stops - chunks, stops, strict=True)
    numbers = np.concatenate([np.arange(a // width, (b - 1) // width + 1) for a, b in pairs])
    first = np.flatnonzero(np.diff(numbers, prepend=-1))
    frames = np.diff(np.append(np.arange(0, n_frames, width), n_frames))
    return (
        np.fmin.reduceat(parts[0], first, axis=1),
        np.fmax.reduceat(parts[1], first, axis=1),
        np.add.reduceat(parts[2], first, axis=1) / frames,
    )


def _bins(values: np.ndarray, start: int, width: int) -> np.ndarray:
    """Lowest, highest and sum of a block ``(roi, time)`` that begins at frame ``start``."""
    edges = np.arange(start // width * width, start + values.shape[1], width) - start
    first = np.maximum(edges, 0)
    return np.stack(
        [
            np.fmin.reduceat(values, first, axis=1).astype(np.float64),
            np.fmax.reduceat(values, first, axis=1).astype(np.float64),
            np.add.reduceat(values, first, axis=1, dtype=np.float64),
        ]
    )
