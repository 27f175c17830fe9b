"""Frames of files without a header, and of ``.npy``."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.disk.suite2p_ops import frame_in, has_ops, rate_in, read_ops, tau_in
from xs2p.movie.check import DIMS, check_dtype
from xs2p.movie.sources import BINARIES

if TYPE_CHECKING:
    from numpy.typing import DTypeLike

    from xs2p.movie.turns import Stack


def raw_frames(name: str, frame: tuple[int, int] | None, dtype: DTypeLike | None) -> Any:
    """Find the frames of a file without a header."""
    from xs2p.movie.frames import RawFrames, Stamp

    if frame is None:
        frame = _shape_from_ops(name)
    elif os.path.basename(name) in BINARIES:
        known = frame_in(read_ops(os.path.dirname(name)))
        if known not in (None, frame):
            raise ValueError(
                f"shape={frame} disagrees with the ops.npy or db.npy beside {name!r}, whose "
                f"(Ly, Lx) = {known}; leave shape out"
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
    ops = read_ops(os.path.dirname(name))
    if not ops:
        raise ValueError(
            f"{name}: a raw binary does not say the size of its frames; give it in pixels: {call}"
        )
    known = frame_in(ops)
    if known is None:
        raise ValueError(
            f"{name}: what suite2p says beside it holds no Ly and Lx; give them: {call}"
        )
    return known


def is_beside_ops(names: Sequence[str]) -> bool:
    """Whether files are one binary of suite2p's, with what it says of it beside."""
    (name, *others) = names
    return not others and os.path.basename(name) in BINARIES and has_ops(os.path.dirname(name))


def told_beside(names: Sequence[str]) -> dict[str, float]:
    """``fs`` and ``tau`` that suite2p says beside its binaries, where all of them have the same."""
    if not all(os.path.basename(name) in BINARIES for name in names):
        return {}
    all_ops = [read_ops(folder) for folder in {os.path.dirname(name) for name in names}]
    told = {}
    for key, find in (("fs", rate_in), ("tau", tau_in)):
        values = {find(ops) for ops in all_ops}
        if len(values) == 1 and None not in values:
            told[key] = float(values.pop() or 0)
    return told


def npy_stack(name: str, dims: tuple[str, ...] | None) -> Stack:
    """Find the frames of an ``.npy`` file, whose axes are ``dims``."""
    from xs2p.disk.npy import read_header
    from xs2p.movie.boxes import NpyBox
    from xs2p.movie.dims import dims_of, lead
    from xs2p.movie.frames import FortranFrames, RawFrames, Stamp
    from xs2p.movie.turns import Stack

    stamp = Stamp.of(name)
    with open(name, "rb") as file:
        shape, fortran, dtype = read_header(file, name)
        offset = file.tell()
    check_dtype(dtype, name)
    if min(shape, default=0) < 0 or any(isinstance(n, bool) for n in shape):
        raise ValueError(f"{name}: its header says the shape {shape}: it is damaged")
    needed = offset + math.prod(shape) * dtype.itemsize
    if stamp.size < needed:
        raise ValueError(
            f"{name}: {stamp.size} bytes, but shape {shape} of {dtype} needs {needed}: "
            "the file was cut"
        )
    axes = dims_of(shape, dims, name)
    size = dict(zip(axes, shape, strict=True))
    frame = (math.prod(shape) // max(1, size["y"] * size["x"]), size["y"], size["x"])
    told = lead(axes, shape)
    if axes == DIMS or (axes[-2:] == ("y", "x") and not fortran):
        layout = FortranFrames if fortran else RawFrames
        return Stack(layout(stamp, frame, dtype.str, offset), told, said=True)
    box = NpyBox(stamp, frame, dtype.str, tuple(shape), axes, 1, offset, fortran)
    return Stack(box, told, said=True)
