"""Frames of arrays in files whose axes are in any order, four or five of them too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from xs2p.movie.check import DIMS
from xs2p.movie.frames import Frames


@dataclass(frozen=True)
class BoxFrames(Frames):
    """Frames of an array of the shape ``held`` with the ``axes``.

    They are numbered as the array has its axes other than ``y`` and ``x``, the last fastest.
    ``unit`` is how many frames over time are stored together.
    """

    held: tuple[int, ...] = ()
    axes: tuple[str, ...] = DIMS
    unit: int = 1

    def box(self, key: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Read a part of the array, with all of its axes."""
        raise NotImplementedError

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames, whole."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame: one part for all that differ along one axis alone."""
        lead = [i for i, axis in enumerate(self.axes) if axis not in ("y", "x")]
        order = [*lead, self.axes.index("y"), self.axes.index("x")]
        sizes = [self.held[i] for i in lead]
        places = np.stack(np.unravel_index(start + step * np.arange(count), sizes))
        out = np.empty((count, *self.shape[1:]), self.dtype)
        fast = int(np.argmax([len(np.unique(place)) for place in places]))
        jumps = np.diff(places, axis=1)
        others = np.delete(jumps, fast, axis=0).any(axis=0)
        stride = int(jumps[fast][0]) if count > 1 else 1
        breaks = np.flatnonzero(others | (jumps[fast] != stride) | (jumps[fast] < 1)) + 1
        for run in np.split(np.arange(count), breaks):
            key = [slice(None)] * len(self.axes)
            for axis, place in zip(lead, places, strict=True):
                first, last = int(place[run[0]]), int(place[run[-1]])
                key[axis] = slice(first, last + 1, max(stride, 1) if axis == lead[fast] else 1)
            part = self.box(tuple(key)).transpose(order)
            out[run[0] : run[-1] + 1] = part.reshape(len(run), *self.shape[1:])
        return out


@dataclass(frozen=True)
class NpyBox(BoxFrames):
    """Frames of an ``.npy`` file."""

    offset: int = 0
    fortran: bool = False

    def box(self, key: tuple[slice, ...]) -> np.ndarray[Any, Any]:
        """Copy a part out of a memory map of the file."""
        self.stamp.check()
        order: Any = "F" if self.fortran else "C"
        mapped = np.memmap(
            self.stamp.path, self.stored, "r", self.offset, shape=self.held, order=order
        )
        return np.array(mapped[key], dtype=self.dtype, subok=False)
