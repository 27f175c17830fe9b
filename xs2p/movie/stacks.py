"""Open stacks of frames: one file or several, each with frames one after the other."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.check import DIMS, check_dtype
from xs2p.movie.raw import npy_frames, raw_frames

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
) -> xr.DataArray:
    """Open a recording of one file or several of them."""
    import xarray as xr

    from xs2p.movie.recording import recordings_to_dask
    from xs2p.movie.sources import suffix_of
    from xs2p.movie.turns import lay_out

    h5 = suffix_of(source.names[0]) in (".h5", ".hdf5")
    if variable is not None and not h5:
        raise ValueError(
            f"variable={variable!r} picks an array of a Zarr store, an HDF5 or an NWB file; "
            f"{source.told!r} holds one movie only: call open_movie without it"
        )
    alone = len(source.names) == 1
    plain = turns["order"] is not None
    stacks = [_stack(n, frame, dtype, variable, alone, plain) for n in source.names]
    first = stacks[0].frames
    for stack in stacks:
        _check_alike(stack, stacks[0])
    if any(stack.note for stack in stacks):
        log.info("%s: %s", source.told, stacks[0].note)
    dims, grid = lay_out(stacks, **turns)
    data: Any
    if alone and not dims and grid[()].shape == first.shape:
        from xs2p.movie.chunks import to_dask
        from xs2p.movie.hdf5 import H5Frames, h5_to_dask

        data = h5_to_dask(first, chunks) if isinstance(first, H5Frames) else to_dask(first, chunks)
    else:
        data = recordings_to_dask(grid, chunks)
    return xr.DataArray(data, dims=(*dims, *DIMS), name="movie")


def _stack(
    name: str,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    variable: str | None,
    alone: bool,
    plain: bool,
) -> Stack:
    from xs2p.movie.sources import suffix_of
    from xs2p.movie.turns import Stack

    suffix = suffix_of(name)
    if os.path.isdir(name):
        raise ValueError(f"open_movie: expected {name!r} to be a file as its suffix says")
    if suffix in (".bin", ".raw"):
        stack = Stack(raw_frames(name, frame, dtype))
    elif suffix == ".npy":
        stack = Stack(npy_frames(name))
    elif suffix in (".h5", ".hdf5"):
        from xs2p.movie.hdf5 import find_movie

        stack = Stack(find_movie(name, variable))
    else:
        from xs2p.movie.tiff import tiff_stack

        stack = tiff_stack(name, alone, plain)
    check_dtype(stack.frames.dtype, name)
    if 0 in stack.frames.shape:
        raise ValueError(f"{name}: holds no pixels, its shape is {stack.frames.shape}")
    return stack


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
