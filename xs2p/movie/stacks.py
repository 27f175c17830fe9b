"""Open stacks of frames: one file or several, each with frames one after the other."""

from __future__ import annotations

import logging
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._warnings import warn
from xs2p.disk.mat import is_hdf5
from xs2p.movie.check import CHANNEL, DIMS, PLANE, check_dtype
from xs2p.movie.dims import letters
from xs2p.movie.raw import npy_stack, raw_frames
from xs2p.movie.sources import HDF5, MICROSCOPES

if TYPE_CHECKING:
    import xarray as xr

    from xs2p.movie.sources import Source
    from xs2p.movie.turns import Stack

log = logging.getLogger("xs2p")


def open_stacks(
    source: Source,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    chunks: int | None,
    variable: str | None,
    turns: dict[str, Any],
    dims: tuple[str, ...] | None = None,
    segments: str | None = None,
) -> xr.DataArray:
    """Open a recording of one file or several of them; ``segments`` are its files or folders."""
    import xarray as xr

    from xs2p.movie.recording import recordings_to_dask
    from xs2p.movie.segments import of_files
    from xs2p.movie.sources import plane_of_files, suffix_of
    from xs2p.movie.turns import lay_out

    if variable is not None and suffix_of(source.names[0]) not in (*HDF5, *MICROSCOPES):
        raise ValueError(
            f"variable={variable!r} picks an array of a Zarr store, an HDF5 or an NWB file; "
            f"{source.told!r} holds one movie only: call open_movie without it"
        )
    stacks, left = [], list(source.names)
    while left:  # files that the metadata of another name come with it
        stack = _stack(left[0], source.names, frame, dtype, variable, turns, dims)
        stacks.append(stack)
        left = [name for name in left[1:] if os.path.realpath(name) not in stack.files]
    first = stacks[0].frames
    for stack in stacks:
        _check_alike(stack, stacks[0])
    _tell(source.told, stacks)
    front, grid = lay_out(stacks, **turns)
    data: Any
    if len(stacks) == 1 and not front and grid[()].shape == first.shape:
        from xs2p.movie.chunks import to_dask
        from xs2p.movie.hdf5 import H5Frames, h5_to_dask

        data = h5_to_dask(first, chunks) if isinstance(first, H5Frames) else to_dask(first, chunks)
    else:
        data = recordings_to_dask(grid, chunks)
    plane = None if "plane" in front else plane_of_files(source.names)
    coords: dict[str, Any] = {} if plane is None else {"plane": ((), plane, PLANE)}
    if "channel" in front and stacks[0].channels:
        coords["channel"] = ("channel", list(stacks[0].channels), CHANNEL)
    if segments is not None:
        coords["segment"] = of_files(grid, segments, source.told, source.names)
    attrs = dict(set.intersection(*(set(stack.periods) for stack in stacks)))
    if stacks[0].flipped:
        movie = xr.DataArray(data, coords, (*front, "time", "x", "y"), "movie", attrs)
        return _timed(movie.transpose(*front, *DIMS), stacks, turns)
    return _timed(xr.DataArray(data, coords, (*front, *DIMS), "movie", attrs), stacks, turns)


def _tell(told: str, stacks: list[Stack]) -> None:
    """Say once what a recording lacks that its metadata tell of, and what else they say."""
    lacks = [stack.lacks for stack in stacks if stack.lacks]
    expected, here = stacks[0].told, sum(stack.frames.shape[0] for stack in stacks)
    if lacks:
        warn(f"{told}: {lacks[0]}")
    elif expected > here:
        warn(
            f"{told}: its metadata tell of {expected} frames, and {here} are here, which are taken "
            "in the order of the files and pages"
        )
    if any(stack.note for stack in stacks):
        log.info("%s: %s", told, stacks[0].note)


def _timed(movie: xr.DataArray, stacks: list[Stack], turns: dict[str, Any]) -> xr.DataArray:
    """Give a movie the frame rate that its files say, where they say one and agree.

    It is that of the file's own channels and planes: where the user says others, it is not known.
    """
    from xs2p._attrs import time_attrs
    from xs2p.movie.turns import LETTERS

    known = {turn.dim for turn in stacks[0].turns} | {letter for letter, _ in stacks[0].axes}
    said = {str(dim) for dim in movie.dims[:-3]}
    if turns["order"] is not None or any(d not in known and LETTERS[d] not in known for d in said):
        return movie

    if len(stacks) == 1 and stacks[0].times is not None:
        return _with_times(movie, stacks[0])
    rates = {stack.fs for stack in stacks}
    rate = rates.pop()
    if rates:
        log.info("%s …: frame rates differ from file to file; give fs=", stacks[0].name)
        return movie
    if rate is None:
        return movie
    log.info("%s: fs=%g Hz, from the file", stacks[0].name, rate)
    seconds = np.arange(movie.sizes["time"]) / rate
    return movie.assign_attrs(fs=rate).assign_coords(time=("time", seconds, time_attrs()))


def _with_times(movie: xr.DataArray, stack: Stack) -> xr.DataArray:
    """Give a movie the times that its file has of each frame, and their rate where it is one."""
    from xs2p._attrs import time_attrs

    times = np.asarray(stack.times)
    if times.size != movie.sizes["time"]:
        return movie
    about = {**time_attrs("file"), "description": stack.times_by}
    movie = movie.assign_coords(time=("time", times, about))
    if stack.fs is None:
        log.info("%s: times are %s They are of no one frame rate", stack.name, stack.times_by)
        return movie
    log.info("%s: fs=%g Hz, the mean of its times: %s", stack.name, stack.fs, stack.times_by)
    return movie.assign_attrs(fs=stack.fs)


def _stack(
    name: str,
    names: list[str],
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    variable: str | None,
    turns: dict[str, Any],
    dims: tuple[str, ...] | None,
) -> Stack:
    from xs2p.movie.sources import LABS, suffix_of

    suffix = suffix_of(name)
    if os.path.isdir(name):
        raise ValueError(f"open_movie: expected {name!r} to be a file as its suffix says")
    if suffix in (".bin", ".raw"):
        stack = _raw_stack(name, names, frame, dtype, turns, dims)
    elif suffix == ".npy":
        stack = npy_stack(name, dims)
    elif suffix == ".mat" and not is_hdf5(name):
        from xs2p.movie.mat import mat_stack

        stack = mat_stack(name, frame, variable, dims)
    elif suffix in HDF5:
        from xs2p.movie.hdf5 import find_movie

        stack = find_movie(name, variable, dims)
    elif suffix in LABS:
        from xs2p.movie.labs import lab_stack

        if dims is not None:
            raise ValueError(f"dims={letters(dims)!r}: {name!r} says its axes itself; leave it out")
        plain = turns["order"] is not None
        stack = lab_stack(suffix, name, frame, dtype, variable, plain)
    else:
        from xs2p.movie.tiff import tiff_stack

        plain = turns["order"] is not None or dims is not None
        stack = tiff_stack(name, names, plain)
        if dims is not None:
            stack = _said(stack, dims, turns)
    check_dtype(stack.frames.dtype, name)
    if 0 in stack.frames.shape:
        raise ValueError(f"{name}: holds no pixels, its shape is {stack.frames.shape}")
    return stack


def _raw_stack(
    name: str,
    names: list[str],
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    turns: dict[str, Any],
    dims: tuple[str, ...] | None,
) -> Stack:
    from xs2p.movie.sources import thor_file
    from xs2p.movie.turns import Stack

    if dims is not None:
        raise ValueError(
            f"dims={letters(dims)!r} names the axes of an array, and {name!r} has frames one "
            "after the other; say how they come in turn with channels=, planes= and order="
        )
    described = thor_file(name) if name.lower().endswith(".raw") else None
    if described is None:
        return Stack(raw_frames(name, frame, dtype))
    from xs2p.movie.thor import thor_stack

    return thor_stack(name, names, described, frame, dtype, turns)


def _said(stack: Stack, dims: tuple[str, ...], turns: dict[str, Any]) -> Stack:
    """Take the user's word for the axes of a TIFF, and the sizes of the file where they fit."""
    if set(dims[-2:]) != {"y", "x"}:
        raise ValueError(
            f"dims={letters(dims)!r}, but {stack.name} is a TIFF, whose pages are its last two "
            "axes: expected dims that end with yx or xy"
        )
    names, number = dims[:-2], stack.frames.shape[0]
    sizes = [n for _, n in stack.axes]
    if len(sizes) != len(names) or math.prod(sizes) != number:
        given = {"channel": turns["channels"], "plane": turns["planes"]}
        sizes = [given.get(dim) or 0 for dim in names]
        others = math.prod(n for n, dim in zip(sizes, names, strict=True) if dim != "time")
        if not others or number % others:
            told = "".join(f"{letter}={n} " for letter, n in stack.axes) or "no axes "
            raise ValueError(
                f"dims={letters(dims)!r}: {stack.name} has {number} pages and says {told}of them; "
                "say how many channels and planes they are, as in open_movie(path, "
                f"dims={letters(dims)!r}, channels=2, planes=3)"
            )
        sizes[names.index("time")] = number // others
    axes = tuple(zip((letters([dim]).upper() for dim in names), sizes, strict=True))
    fs = stack.fs if axes == stack.axes else None  # that of other axes
    return replace(stack, axes=axes, turns=(), said=True, flipped=dims[-1] == "y", fs=fs)


def _check_alike(stack: Stack, first: Stack) -> None:
    for what, has, wanted in (
        ("frames (Ly, Lx) =", stack.frames.shape[1:], first.frames.shape[1:]),
        ("dtype", stack.frames.dtype, first.frames.dtype),
    ):
        if has != wanted:
            raise ValueError(
                f"{stack.name} has {what} {has}, but {first.name} has {wanted}: files of one "
                "recording must agree; open those of each kind by themselves"
            )
