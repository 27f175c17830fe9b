"""Recordings of Bruker's Prairie View: a folder of TIFF files, and an XML file that orders them.

``PVScan`` holds a ``Sequence`` for each cycle, with ``Frame`` elements, and in each of these a
``File`` for each channel, with its ``filename`` and ``page``. In cycles of the type ``TSeries
ZSeries Element`` the frames are the planes of one volume; in others they follow each other in time,
and the microscope may have paused between one cycle and the next. Version 4 has a cycle for each
frame, too.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import time_attrs
from xs2p._frames import spans_of
from xs2p._warnings import warn
from xs2p.movie.check import DIMS, check_dtype, rate_of
from xs2p.movie.frames import Stamp, TiffPages
from xs2p.movie.recording import Grid, Recording, Run, recordings_to_dask
from xs2p.movie.segments import of_cycles

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    Place = tuple[str, int]  # file and page, from 1

log = logging.getLogger("xs2p")


class Volume(NamedTuple):
    """What was recorded at one time: an image of each plane and channel."""

    planes: list[dict[int, Place]]  # files, by the numbers of the channels
    begins: float  # s, NaN where that is not said
    cycle: int  # place of its Sequence in the XML


def open_prairie(path: str, told: str, chunks: int | None, segments: str | None) -> xr.DataArray:
    """Open the recording that an XML file of Prairie View's describes; cycles are its segments."""
    root = _root(path)
    volumes, numbers = _volumes(root, path)
    volumes = volumes[: _present(volumes, path)]
    frames = _first(path, volumes[0].planes[0][numbers[0]])
    grid: Grid = np.empty((len(numbers), len(volumes[0].planes)), object)
    for (c, z), _ in np.ndenumerate(grid):
        places = [volume.planes[z][numbers[c]] for volume in volumes]
        grid[c, z] = Recording(tuple(_runs(places, os.path.dirname(path), frames)))
    dims = [dim for dim, n in (("channel", grid.shape[0]), ("plane", grid.shape[1])) if n > 1]
    grid = grid.reshape([n for n in grid.shape if n > 1])
    movie = xr.DataArray(recordings_to_dask(grid, chunks), dims=(*dims, *DIMS), name="movie")
    if len(numbers) > 1:
        about = {"long_name": "channel", "description": "Number of the channel in Prairie View."}
        movie = movie.assign_coords(channel=("channel", numbers, about))
    if segments is not None:
        of = [volume.cycle for volume in volumes]
        movie = movie.assign_coords(segment=of_cycles(of, _names(root), segments, told))
    return _timed(movie, root, [volume.begins for volume in volumes], path)


def _root(path: str) -> Element:
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: no XML file can be read ({error})") from error
    if root.tag != "PVScan":
        raise ValueError(
            f"{path}: <{root.tag}>, expected <PVScan> of Prairie View; give the movie's own file"
        )
    return root


def _volumes(root: Element, path: str) -> tuple[list[Volume], list[int]]:
    """Find what was recorded at each time, and the channels' numbers."""
    volumes: list[Volume] = []
    for n, cycle in enumerate(root.iter("Sequence")):
        frames = list(cycle.iter("Frame"))
        files = [_files(frame) for frame in frames]
        begins = [float(frame.get("absoluteTime", "nan")) for frame in frames]
        if "ZSeries" not in cycle.get("type", ""):
            volumes.extend(Volume([f], at, n) for f, at in zip(files, begins, strict=True))
        elif frames:
            if cycle.get("bidirectionalZ", "").lower() == "true" and cycle.get("cycle") != "1":
                raise ValueError(
                    f"{path}: planes were recorded back and forth (bidirectionalZ), and which "
                    "plane a frame of every other volume is of is not known here; give the .tif "
                    "files in a list, those of one plane at a time"
                )
            volumes.append(Volume(files, min(begins), n))
    if not volumes:
        raise ValueError(f"{path}: no frames are in it; the recording was stopped before the first")
    numbers = sorted(volumes[0].planes[0])
    planes = len(volumes[0].planes)
    while len(volumes) > 1 and len(volumes[-1].planes) < planes:
        warn(f"{path}: the recording ends within a volume, which is left out")
        volumes.pop()
    for i, (volume, *_) in enumerate(volumes):
        if len(volume) != planes or not numbers or any(sorted(p) != numbers for p in volume):
            raise ValueError(
                f"{path}: time {i} has {len(volume)} planes of channels {sorted(volume[0])}, the "
                f"first {planes} of {numbers}, so it is no one movie; give the .tif files of one "
                "kind, in a list"
            )
    return volumes, numbers


def _names(root: Element) -> list[str]:
    """Names of the cycles by their numbers, counted where two have the same one."""
    said = [cycle.get("cycle", "") for cycle in root.iter("Sequence")]
    if "" in said or len(set(said)) < len(said):
        said = [str(n + 1) for n in range(len(said))]
    return [f"cycle {number}" for number in said]


def _files(frame: Element) -> dict[int, Place]:
    return {
        int(file.get("channel", 1)): (file.get("filename", ""), int(file.get("page", 1)))
        for file in frame.iter("File")
    }


def _present(volumes: Sequence[Volume], path: str) -> int:
    """Count the volumes that have all their files, with one warning where others have not."""
    here = set(os.listdir(os.path.dirname(path) or "."))
    files = [[f[0] for plane in volume.planes for f in plane.values()] for volume in volumes]
    whole = [here.issuperset(some) for some in files]
    count = whole.index(False) if False in whole else len(whole)
    if any(whole[count:]):
        missing = next(name for name in files[count] if name not in here)
        raise FileNotFoundError(
            f"{path}: {missing} is missing in the middle of the recording; put it back, or give "
            "the files that are there in a list: their times are then not known"
        )
    if count == 0:
        raise FileNotFoundError(f"{path}: none of its TIFF files lies beside it")
    if count < len(whole):
        warn(
            f"{path}: it tells of {len(whole)} times, and the files of {count} are here; these are "
            "taken"
        )
    return count


def _first(path: str, place: Place) -> tuple[tuple[int, int], str]:
    """Find size of a frame and dtype in the first file; the others must be like it when read."""
    import tifffile

    name = os.path.join(os.path.dirname(path), place[0])
    try:
        with tifffile.TiffFile(name) as tif:
            page = tif.pages[place[1] - 1]
            shape, dtype = page.shape, np.dtype(page.dtype)
    except (tifffile.TiffFileError, IndexError) as error:
        raise ValueError(f"{name}: page {place[1]} cannot be read ({error})") from error
    check_dtype(dtype, name)
    if len(shape) != 2:
        raise ValueError(f"{name}: a page is {shape}, expected an image (y, x)")
    return (int(shape[0]), int(shape[1])), dtype.str


def _runs(places: Sequence[Place], folder: str, frame: tuple[tuple[int, int], str]) -> list[Run]:
    """Put files and pages together to runs of frames, pages that follow each other in one."""
    last: dict[str, int] = {}
    for name, page in places:
        last[name] = max(last.get(name, 0), page)
    files = {
        name: TiffPages(Stamp.of(os.path.join(folder, name)), (n, *frame[0]), frame[1], None)
        for name, n in last.items()
    }
    runs: list[Run] = []
    for name, page in places:
        before = runs[-1] if runs else None
        if before and before.frames is files[name] and before.first + before.count == page - 1:
            runs[-1] = Run(before.frames, before.first, 1, before.count + 1)
        else:
            runs.append(Run(files[name], page - 1, 1, 1))
    return runs


def _timed(movie: xr.DataArray, root: Element, times: list[float], path: str) -> xr.DataArray:
    """Give it times as the file has them of each frame; else by ``framePeriod``, of one plane."""
    seconds = np.asarray(times)
    if len(times) > 1 and np.isfinite(seconds).all() and (np.diff(seconds) > 0).all():
        about = {**time_attrs(), "description": "absoluteTime of Prairie View, of the first plane."}
        rate = rate_of(seconds)
        movie = movie.assign_coords(time=("time", seconds, about))
        if rate is None:  # jitter of a frame's fraction, or pauses between cycles
            steps = np.concatenate([np.diff(seconds[span]) for span in spans_of(movie)])
            middle = float(np.median(steps))
            rate = 1 / middle if (np.abs(steps - middle) < middle / 2).all() else None
        return movie if rate is None else movie.assign_attrs(fs=rate)
    period = _period(root)
    if period is None or "plane" in movie.dims:
        return movie
    log.info("%s: fs=%g Hz, from framePeriod", path, 1 / period)
    label = time_attrs()
    steps = np.arange(movie.sizes["time"]) * period
    return movie.assign_attrs(fs=1 / period).assign_coords(time=("time", steps, label))


def _period(root: Element) -> float | None:
    """Find seconds of a frame as the state says them, of this version or of older ones."""
    for tag in ("PVStateValue", "Key"):
        for element in root.iter(tag):
            if element.get("key") == "framePeriod" and element.get("value"):
                period = float(str(element.get("value")))
                return period if period > 0 else None
    return None
