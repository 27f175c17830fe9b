"""Frames that lie column by column, as MATLAB keeps them, and CaImAn's memory maps."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import Frames, RawFrames, Stamp

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack


@dataclass(frozen=True)
class ColumnFrames(RawFrames):
    """Frames one after the other, the pixels of each numbered down its columns."""

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Seek and read exactly these frames."""
        return self._turned(super().read(start, stop))

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Seek to each of these frames."""
        return self._turned(super().take(start, step, count))

    def _turned(self, frames: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        n, ly, lx = frames.shape
        return np.ascontiguousarray(frames.reshape(n, lx, ly).swapaxes(1, 2))


@dataclass(frozen=True)
class TraceFrames(Frames):
    """Frames of a file that keeps each pixel's trace in one piece, plane after plane.

    Planes come in turn in what is read: frame ``t · planes + z``.
    """

    planes: int = 1

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Gather the frames through a memory map of the file."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Gather every ``step``-th frame, and of other planes none."""
        self.stamp.check()
        n, ly, lx = self.shape
        stored = np.memmap(
            self.stamp.path, self.stored, "r", shape=(self.planes, lx, ly, n // self.planes)
        )
        out = np.empty((count, ly, lx), self.dtype)
        wanted = start + step * np.arange(count)
        for plane in np.unique(wanted % self.planes):
            here = np.flatnonzero(wanted % self.planes == plane)
            times = wanted[here] // self.planes
            gap = int(times[1] - times[0]) if len(times) > 1 else 1
            part = stored[plane, :, :, int(times[0]) : int(times[-1]) + 1 : gap]
            out[here] = part.transpose(2, 1, 0)
        return out


_SHAPE = re.compile(r"_d1_(\d+)_d2_(\d+)(?:_d3_(\d+))?_.*?order_([CF])_.*?frames_(\d+)")


def mmap_stack(name: str, dtype: np.dtype[Any] | None) -> Stack:
    """Find the frames of CaImAn's memory map; its name says all that the file does not."""
    from xs2p.movie.turns import Stack, Turn

    base = os.path.basename(name)
    found = _SHAPE.search(base)
    if found is None:
        raise ValueError(
            f"{name}: the name of CaImAn's memory maps says their shape, as in "
            "'Yr_d1_512_d2_512_d3_1_order_C_frames_3000.mmap'; this one does not: give it the "
            "name that CaImAn gave it"
        )
    ly, lx, planes, n_frames = (int(found[i] or 1) for i in (1, 2, 3, 5))
    stored = np.dtype("<f4" if dtype is None else dtype)
    stamp = Stamp.of(name)
    needed = ly * lx * planes * n_frames * stored.itemsize
    if stamp.size != needed or not needed:
        raise ValueError(
            f"{name}: {stamp.size} bytes, but its name says {n_frames} frames of {planes} planes "
            f"of {ly} x {lx} pixels of {stored}, {needed} bytes: it was cut, renamed, or is of "
            "another dtype= than CaImAn's float32"
        )
    shape = (n_frames * planes, ly, lx)
    frames: Frames = (
        TraceFrames(stamp, shape, stored.str, planes)
        if found[4] == "C"
        else ColumnFrames(stamp, shape, stored.str)
    )
    return Stack(frames, turns=(Turn("plane", planes),) if planes > 1 else ())
