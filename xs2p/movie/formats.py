"""Which module opens what: files and stores by their format, and what is in memory."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import time_attrs
from xs2p._warnings import warn
from xs2p.disk.reads import naming

if TYPE_CHECKING:
    import xarray as xr

log = logging.getLogger("xs2p")


def open_source(
    source: Any,
    frame: tuple[int, int] | None,
    kind: Any,
    chunks: int | None,
    fs: float | None,
    variable: str | None,
    turns: dict[str, Any],
    dims: tuple[str, ...] | None,
    of_frame: dict[str, Any],
    segments: str | None,
) -> tuple[xr.DataArray, float | None]:
    """Open files and stores by their format; the frame rate too, where suite2p's folder has it."""
    from xs2p.movie.segments import refuse_segments

    movie: xr.DataArray
    told = source.told
    if source.kind == "thor":
        from xs2p.movie.thor import one_recording

        source = source._replace(kind="stack", names=one_recording(source.names, told))
    if source.kind == "stack":
        from xs2p.movie.raw import is_beside_ops
        from xs2p.movie.stacks import open_stacks

        one = (turns["channels"] or 1) == (turns["planes"] or 1) == 1
        by_ops = segments if one and is_beside_ops(source.names) else None
        by_files = None if by_ops else segments
        movie = open_stacks(source, frame, kind, chunks, variable, turns, dims, by_files)
        return _told_beside(movie, source.names, told, fs, by_ops) if one else (movie, None)
    refuse(turns, variable if source.kind == "suite2p" else None, repr(told))
    if dims is not None and source.kind != "zarr":
        raise ValueError(f"dims={dims}: {told!r} says its axes itself; leave dims out")
    if source.kind == "suite2p":
        from xs2p.movie.suite2p import open_planes

        movie, rate = open_planes(source.names, told, frame, kind, chunks, fs, segments)
        if fs is None and rate is not None:
            log.info("%s: fs=%g Hz, as suite2p says", told, rate)
        if "tau" in movie.attrs:
            log.info("%s: tau=%g s, as suite2p says", told, movie.attrs["tau"])
        return movie, rate
    if source.kind == "prairie":
        from xs2p.movie.prairie import open_prairie

        refuse({}, variable, repr(told))
        return open_prairie(source.names[0], told, chunks, segments), None
    refuse_segments(segments, repr(told))
    if source.kind == "nwb":
        from xs2p.movie.nwb import open_nwb_movie

        read = {"chunks": chunks, "variable": variable, **of_frame}
        return open_nwb_movie(source.names[0], **read), None
    from xs2p.movie.zarr import open_zarr_movie

    return open_zarr_movie(source.names[0], told, chunks, variable, dims, **of_frame), None


def _told_beside(
    movie: xr.DataArray,
    names: Sequence[str],
    told: str,
    fs: float | None,
    segments: str | None,
) -> tuple[xr.DataArray, float | None]:
    """Take from the ops beside suite2p's binaries what they say: ``fs``, if not given, and tau.

    Of one binary also which frames are bad and, where asked, its segments.
    """
    from xs2p.movie.raw import is_beside_ops, told_beside

    known = told_beside(names)
    if is_beside_ops(names):
        from xs2p.disk.suite2p_ops import read_ops
        from xs2p.movie.segments import said_of_plane

        folder = os.path.dirname(names[0])
        n_frames = movie.sizes["time"]
        movie = movie.assign_coords(said_of_plane(folder, read_ops(folder), n_frames, segments))
    if fs is None and "fs" in known:
        fs = known["fs"]
        log.info("%s: fs=%g Hz, as suite2p says beside it", told, fs)
    if "tau" in known:
        movie = movie.assign_attrs(tau=known["tau"])
        log.info("%s: tau=%g s, as suite2p says beside it", told, known["tau"])
    return movie, fs


def is_store(path: Any) -> bool:
    """Whether something is a store or a group of Zarr's, without importing it."""
    return type(path).__module__.partition(".")[0] == "zarr" and not hasattr(path, "shape")


def open_object(
    source: Any,
    chunks: int | None,
    variable: str | None,
    dims: tuple[str, ...] | None,
    fs: float | None,
    **order: Any,
) -> xr.DataArray:
    """Open what is given by itself: an array, a store of Zarr's, an extractor of roiextractors."""
    if is_store(source):
        from xs2p.movie.zarr import open_zarr_movie

        with naming(str(source)):
            movie: xr.DataArray = open_zarr_movie(
                source, str(source), chunks, variable, dims, **order
            )
            return movie
    from xs2p.movie.extractor import is_imaging, open_extractor

    if is_imaging(source):
        told = type(source).__name__
        if dims is not None:
            raise ValueError(f"dims={dims}: {told} says its axes itself; leave dims out")
        movie, set_by_hand = open_extractor(source, chunks)
        return movie if set_by_hand else without_times_of_a_rate(movie, told, fs)
    from xs2p.movie.array import open_array

    return open_array(source, chunks, dims)


def _stacks() -> str:
    from xs2p.movie.sources import STACKS

    return ", ".join(STACKS)


def refuse(turns: dict[str, Any], variable: str | None, what: str) -> None:
    """Raise where it is said how to read ``what``, which says that itself."""
    if variable is not None:
        raise ValueError(
            f"variable={variable!r} picks an array of a Zarr store, an HDF5 or an NWB file; {what} "
            "holds one movie only: call open_movie without it"
        )
    for name, value in turns.items():
        if value is not None:
            raise ValueError(
                f"{name}={value!r} tells how frames come in turn in files of {_stacks()}, not "
                f"in {what}; select frames with movie.isel(time=slice(0, None, 2))"
            )


def without_times_of_a_rate(movie: xr.DataArray, told: str, fs: float | None) -> xr.DataArray:
    """Give times by ``fs`` where the file has no timestamps, but a rate and the first one."""
    rate = movie.attrs.get("fs")
    if fs is None or rate is None or "time" not in movie.coords:
        return movie
    time, frames = movie["time"].values, np.arange(movie.sizes["time"])
    if not np.array_equal(time, time[0] + frames / rate):
        return movie
    if not math.isclose(fs, rate, rel_tol=1e-6):
        warn(
            f"fs={fs:g} Hz is taken in place of the rate that {told} says, "
            f"{rate:g} Hz; leave fs out to take that"
        )
    label = time_attrs("start" if time[0] else "fs")
    return movie.assign_coords(time=("time", time[0] + frames / fs, label))
