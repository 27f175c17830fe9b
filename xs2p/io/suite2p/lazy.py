"""suite2p's arrays of traces, read from their files where they are sliced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr
from xarray.backends import BackendArray
from xarray.core import indexing

from xs2p.disk.npy import read_header
from xs2p.disk.reads import naming
from xs2p.io.suite2p.names import check_traces
from xs2p.movie.frames import Stamp


def open_rows(path: str) -> indexing.LazilyIndexedArray:
    """Open ``(roi, time)`` of an ``.npy`` file, whose header alone is read."""
    stamp = Stamp.of(path)
    with open(path, "rb") as file:
        shape, fortran, dtype = read_header(file, path)
        offset = file.tell()
    check_traces(path, shape, dtype)
    size = offset + int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size > stamp.size:
        raise ValueError(f"{path}: damaged .npy file (its header tells of {size} bytes)")
    return indexing.LazilyIndexedArray(Rows(stamp, shape, dtype.str, offset, fortran))


@dataclass(frozen=True)
class Rows(BackendArray):
    """Rows of an ``.npy`` file, as float32."""

    stamp: Stamp
    shape: tuple[int, ...]
    stored: str
    offset: int
    fortran: bool

    @property
    def dtype(self) -> np.dtype[Any]:
        """What they are read as."""
        return np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray[Any, Any]:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        rows, frames = key
        path = self.stamp.path
        order: Literal["F", "C"] = "F" if self.fortran else "C"
        with naming(path):
            self.stamp.check()
            if 0 in self.shape:  # nothing can be mapped
                return np.empty(self.shape, np.float32)[rows][..., frames]
            mapped = np.memmap(path, self.stored, "r", self.offset, self.shape, order)
            # What a slice leaves out is not touched; indices copy.
            some = mapped[:, frames] if isinstance(frames, slice) else mapped
            some = some[rows] if isinstance(frames, slice) else some[rows][..., frames]
            found = np.array(some, np.float32, subok=False)
            self.stamp.check()
        return found


class Joined(BackendArray):
    """Rows of several planes one after the other; NaN where a plane has none."""

    def __init__(self, parts: list[xr.Variable]) -> None:
        self.parts = parts
        self.shape = (sum(part.sizes["roi"] for part in parts), parts[0].sizes["time"])
        self.dtype = np.dtype(np.float32)

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray[Any, Any]:
        support = indexing.IndexingSupport.OUTER
        return indexing.explicit_indexing_adapter(key, self.shape, support, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray[Any, Any]:
        rows, frames = (np.arange(n)[k] for n, k in zip(self.shape, key, strict=True))
        wanted, times = np.atleast_1d(rows), np.atleast_1d(frames)
        ends = np.cumsum([part.sizes["roi"] for part in self.parts])
        of = np.searchsorted(ends, wanted, side="right")
        found = np.empty((wanted.size, times.size), np.float32)
        for n in np.unique(of).tolist():
            part, here = self.parts[n], np.flatnonzero(of == n)
            own = wanted[here] - (ends[n] - part.sizes["roi"])
            if own.size == own[-1] - own[0] + 1 and (np.diff(own) == 1).all():
                own = slice(int(own[0]), int(own[-1]) + 1)
            found[here] = part.isel(roi=own, time=key[1] if frames.ndim else times).values
        return found.reshape(rows.shape + frames.shape)


def joined(parts: list[xr.Variable]) -> Any:
    """Join traces of planes along ``roi``, lazily where any of them is lazy."""
    if all(part._in_memory for part in parts):
        return np.concatenate([part.values for part in parts])
    return indexing.LazilyIndexedArray(Joined(parts))
