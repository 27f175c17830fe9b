"""Find the movie in an HDF5 file, and read its frames lazily."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xs2p.io._lazy import Stamp, _Frames, _truncated

DIMS = ("time", "y", "x")


@dataclass(frozen=True)
class H5Frames(_Frames):
    """Frames of a dataset of an HDF5 file, which every read opens anew.

    ``axes`` says in which order the file has ``time``, ``y`` and ``x`` (NWB has x before y);
    ``shape`` is ``(time, y, x)`` all the same.
    """

    dataset: str = ""
    axes: tuple[str, str, str] = DIMS

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames, whole."""
        return self._read(slice(start, stop), slice(None), slice(None))

    def _select(self, wanted: np.ndarray[Any, Any], space: Any) -> np.ndarray[Any, Any]:
        # A part of each frame is a part of the file too, where steps go forward.
        steps = np.unique(np.diff(wanted))
        forward = all(isinstance(k, slice) and (k.step or 1) > 0 for k in space[1:])
        if not len(wanted) or not forward or len(steps) > 1 or (len(steps) and steps[0] < 1):
            return super()._select(wanted, space)
        step = int(steps[0]) if len(steps) else 1
        return self._read(slice(int(wanted[0]), int(wanted[-1]) + 1, step), *_both(space[1:]))

    def _read(self, time: slice, y: slice, x: slice) -> np.ndarray[Any, Any]:
        with _opened(self.stamp.path) as file:
            stored = file.get(self.dataset)
            order = [DIMS.index(axis) for axis in self.axes]
            held = tuple(self.shape[i] for i in order)
            if getattr(stored, "shape", None) != held:
                found = 0 if stored is None else stored.shape[self.axes.index("time")]
                raise _truncated(self, found, os.path.getsize(self.stamp.path))
            require_filters(stored, f"{self.stamp.path}/{self.dataset}")
            keys = (time, y, x)
            frames = stored[tuple(keys[i] for i in order)]
        frames = frames.transpose([self.axes.index(dim) for dim in DIMS])
        return np.ascontiguousarray(frames).astype(self.dtype, copy=False)


def _both(space: Any) -> tuple[slice, slice]:
    y, x = (*space, slice(None), slice(None))[:2]
    return y, x


def h5_frames(stored: Any, axes: tuple[str, str, str] = DIMS) -> H5Frames:
    """Wrap a dataset of an open ``h5py.File``; nothing but its header is read."""
    path = stored.file.filename
    require_filters(stored, f"{path}{stored.name}")
    shape = tuple(int(stored.shape[axes.index(dim)]) for dim in DIMS)
    return H5Frames(
        Stamp.of(path),
        (shape[0], shape[1], shape[2]),
        stored.dtype.newbyteorder("=").str,
        dataset=stored.name.lstrip("/"),
        axes=axes,
    )


def require_filters(stored: Any, name: str) -> None:
    """Raise unless all filters that a dataset was compressed with are here."""
    import h5py

    properties = stored.id.get_create_plist()
    for n in range(properties.get_nfilters()):
        code, _, _, label = properties.get_filter(n)
        if h5py.h5z.filter_avail(code):
            continue
        with contextlib.suppress(ImportError):
            import hdf5plugin  # noqa: F401  (registers its filters)
        if not h5py.h5z.filter_avail(code):
            raise ValueError(
                f"{name} is compressed with the HDF5 filter {code} "
                f"({label.decode(errors='replace') or 'without a name'}), which is not installed; "
                "pip install hdf5plugin brings the common ones"
            )


@contextlib.contextmanager
def _opened(path: str) -> Iterator[Any]:
    import h5py

    with h5py.File(path, "r") as file:
        yield file
