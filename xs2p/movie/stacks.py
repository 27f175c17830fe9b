"""Open stacks of frames: one file or several, each with frames one after the other."""

from __future__ import annotations

import logging
import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.open import DIMS, check_dtype

if TYPE_CHECKING:
    import xarray as xr
    from numpy.typing import DTypeLike

    from xs2p.movie.frames import _Frames
    from xs2p.movie.sources import Source
    from xs2p.movie.turns import Stack

log = logging.getLogger("xs2p")
# What suite2p calls its binaries, with their ops.npy beside them.
_SUITE2P = ("data.bin", "data_raw.bin", "data_chan2.bin", "data_chan2_raw.bin")


def open_stacks(
    source: Source,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    chunks: int | None,
    variable: str | None,
    turns: dict[str, Any],
) -> xr.DataArray:
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
        from xs2p.movie.frames import to_dask
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
        stack = Stack(_npy_frames(name))
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


def raw_frames(name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None) -> Any:
    """Find the frames of a file without a header."""
    from xs2p.movie.frames import RawFrames, Stamp

    if frame is None:
        frame = _shape_from_ops(name)
    elif os.path.basename(name) in _SUITE2P:
        known = _shape_in_ops(name)
        if known not in (None, frame):
            raise ValueError(
                f"shape={frame} disagrees with the ops.npy beside {name!r}, whose (Ly, Lx) = "
                f"{known}; leave shape out"
            )
    stored = np.dtype("<i2" if dtype is None else dtype)
    check_dtype(stored, name)
    stamp = Stamp.of(name)
    frame_bytes = frame[0] * frame[1] * stored.itemsize
    if stamp.size == 0:
        raise ValueError(f"{name}: the file is empty, expected frames of {frame_bytes} bytes")
    if stamp.size % frame_bytes:
        raise ValueError(
            f"{name}: {stamp.size} bytes are not a multiple of the {frame_bytes} bytes of a frame "
            f"of shape={frame} and dtype={stored}: {stamp.size // frame_bytes} frames and "
            f"{stamp.size % frame_bytes} bytes more. Give the right shape=(Ly, Lx) and dtype=; if "
            "they are right, the file was cut while it was written"
        )
    return RawFrames(stamp, (stamp.size // frame_bytes, *frame), stored.str)


def _shape_from_ops(name: str) -> tuple[int, int]:
    call = f"open_movie({name!r}, shape=(Ly, Lx))"
    path = os.path.join(os.path.dirname(name), "ops.npy")
    if not os.path.exists(path):
        raise ValueError(
            f"{name}: a raw binary does not say the size of its frames; give it in pixels: {call}"
        )
    known = _shape_in_ops(name)
    if known is None:
        raise ValueError(f"{path}: holds no Ly and Lx; give them: {call}")
    return known


def _shape_in_ops(name: str) -> tuple[int, int] | None:
    """``(Ly, Lx)`` of the ``ops.npy`` beside a file, if there is one and it says so."""
    from xs2p.disk.npy import load_npy

    path = os.path.join(os.path.dirname(name), "ops.npy")
    if not os.path.exists(path):
        return None
    try:
        ops = load_npy(path).item()
        return int(ops["Ly"]), int(ops["Lx"])
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def _npy_frames(name: str) -> _Frames:
    from xs2p.disk.npy import read_header
    from xs2p.movie.frames import FortranFrames, RawFrames, Stamp

    stamp = Stamp.of(name)
    with open(name, "rb") as file:
        shape, fortran, dtype = read_header(file, name)
        offset = file.tell()
    check_dtype(dtype, name)
    if len(shape) != 3:
        raise ValueError(
            f"{name}: an array of {len(shape)} dims, shape {shape}, expected 3: (time, y, x). Load "
            "it with numpy.load, take or add an axis, and save it anew"
        )
    needed = offset + math.prod(shape) * dtype.itemsize
    if stamp.size < needed:
        raise ValueError(
            f"{name}: {stamp.size} bytes, but shape {shape} of {dtype} needs {needed}: "
            "the file was cut"
        )
    layout = FortranFrames if fortran else RawFrames
    return layout(stamp, (shape[0], shape[1], shape[2]), dtype.str, offset)
