"""Reading what is in view, and no more: for a browser over long recordings."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p.plot.bins import bin_time, extremes
from xs2p.rois.pixels import PixelTable

DIRECT = 20_000  # frames that are read as they are
GROUP = 64  # frames of which only the lowest and the highest value is kept, of longer views


class Line(NamedTuple):
    """A trace as it is drawn: positions in time, in frames, and values."""

    frames: np.ndarray
    values: np.ndarray


def pick_roi(
    table: PixelTable, y: float, x: float, after: int | None = None, reach: float = 3.0
) -> int | None:
    """Position of the ROI at a place in the frame.

    Parameters
    ----------
    table
        The ROIs' pixels.
    y, x
        The place in pixels; the pixel in row 2 reaches from 1.5 to 2.5.
    after
        Position of the ROI that is chosen already: of several at the place the next one is picked.
    reach
        Where no ROI has the pixel, that of the nearest pixel no farther away than this.

    Returns
    -------
    int or None
        Of several ROIs the one with the largest share of its weight in the pixel.
    """
    distance = np.hypot(table.ypix - y, table.xpix - x)
    inside = (abs(table.ypix - y) <= 0.5) & (abs(table.xpix - x) <= 0.5)
    if not inside.any():
        if not distance.size or distance.min() > reach:
            return None
        inside = distance == distance.min()
    pixels = np.flatnonzero(inside)
    owner = table.owner[pixels]
    total = np.array([table.lam[slice(*table.offsets[i : i + 2])].sum() for i in owner])
    order = np.argsort(-table.lam[pixels] / np.maximum(total, 1e-30), kind="stable")
    found = list(dict.fromkeys(owner[order].tolist()))
    if after in found:
        return int(found[(found.index(after) + 1) % len(found)])
    return int(found[0])


def frames_in_view(seconds: np.ndarray, start: float, end: float) -> slice:
    """Frames from the last before a range of time to the first after it; at least two."""
    first = int(np.searchsorted(seconds, start, "right")) - 1
    last = int(np.searchsorted(seconds, end, "left")) + 1
    first = max(min(first, seconds.size - 2), 0)
    return slice(first, min(max(last, first + 2), seconds.size))


class Reader:
    """Reads traces of one ROI at a time, of any range of frames, with few reads.

    Ranges of up to ``DIRECT`` frames are read as they are. Of longer ones, every chunk in view is
    read once, ever: the lowest and the highest of every ``GROUP`` frames are kept, of all
    ROIs in the chunk, at 1/32 of its size. No chunk out of view is read.

    Parameters
    ----------
    ds
        Traces ``(roi, time)``, in memory or lazy, over Dask or not.
    names
        Variables to read.
    """

    def __init__(self, ds: xr.Dataset, names: list[str]) -> None:
        arrays = {name: ds[name].transpose("roi", "time") for name in names}
        # The variables alone: coordinates need not be read for every view.
        self._arrays = {name: xr.DataArray(a.variable) for name, a in arrays.items()}
        self._edges = {name: (_edges(ds[name], "roi"), _edges(ds[name], "time")) for name in names}
        self._kept: dict[tuple[str, int, int], np.ndarray] = {}

    def read(self, position: int, frames: slice, columns: int = 1500) -> dict[str, Line]:
        """Lines of one ROI, of no more than two points for each column of pixels."""
        n_frames = frames.stop - frames.start
        lines: dict[str, Line] = {}
        near = n_frames <= DIRECT
        direct = {n: a for n, a in self._arrays.items() if near or a.variable._in_memory}
        if direct:
            some = xr.Dataset(direct).isel(roi=[position], time=frames).compute().as_numpy()
            for name in direct:
                values = some[name].values[0].astype(np.float64)
                kept = extremes(values, columns)
                lines[name] = Line(frames.start + kept, values[kept])
        rest = {n: a for n, a in self._arrays.items() if n not in direct}
        if rest:
            self._keep(rest, position, frames)
            for name, array in rest.items():
                lines[name] = self._from_kept(name, array, position, frames, columns)
        return {name: lines[name] for name in self._arrays}

    def _keep(self, arrays: dict[str, xr.DataArray], position: int, frames: slice) -> None:
        """Read the chunks in view that were not read before, of all variables in one pass."""
        import dask

        wanted: dict[tuple[str, int, int], Any] = {}
        for name, array in arrays.items():
            rois, times = self._edges[name]
            i = int(np.searchsorted(rois, position, "right")) - 1
            for j in _blocks(times, frames):
                if (name, i, j) not in self._kept:
                    block = array.isel(
                        roi=slice(rois[i], rois[i + 1]), time=slice(times[j], times[j + 1])
                    )
                    # Arrays of a file without Dask are read here, one block after another.
                    parts = bin_time(block if block.chunks else block.compute(), GROUP)
                    wanted[name, i, j] = parts[:2].astype(np.float32)
        (found,) = dask.compute(wanted)
        self._kept.update(found)

    def _from_kept(
        self, name: str, array: xr.DataArray, position: int, frames: slice, columns: int
    ) -> Line:
        rois, times = self._edges[name]
        i = int(np.searchsorted(rois, position, "right")) - 1
        at, values = [], []
        for j in _blocks(times, frames):
            ends = self._kept[name, i, j][:, position - rois[i]]
            start = times[j] + GROUP * np.arange(ends.shape[1])
            middle = np.minimum(start + GROUP // 2, times[j + 1] - 1)
            at.append(np.stack([start, middle], axis=1).ravel())
            values.append(ends.T.ravel().astype(np.float64))
        whole, joined = np.concatenate(at), np.concatenate(values)
        inside = slice(*np.searchsorted(whole, (frames.start - GROUP, frames.stop)))
        kept = extremes(joined[inside], columns)
        return Line(np.minimum(whole[inside][kept], array.sizes["time"] - 1), joined[inside][kept])


def _edges(array: xr.DataArray, dim: str) -> np.ndarray:
    """Where chunks begin and end: Dask's, else those of the file, else some thousand frames."""
    size = array.sizes[dim]
    if array.chunks is not None:
        return np.concatenate([[0], np.cumsum(array.variable.chunksizes[dim])])
    step = {"roi": 500, "time": 2**14}[dim]
    stored = array.encoding.get("chunks")
    if stored and len(stored) == 2:
        step = stored[array.dims.index(dim)]
    return np.unique(np.append(np.arange(0, size, step), size))


def _blocks(edges: np.ndarray, frames: slice) -> range:
    first = int(np.searchsorted(edges, frames.start, "right")) - 1
    return range(first, int(np.searchsorted(edges, frames.stop, "left")))
