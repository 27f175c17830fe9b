"""A movie that shows how often each frame is read."""

from __future__ import annotations

import threading

import dask.array as da
import numpy as np


class CountingFrames:
    """Frames that count how often each one is read; lazy for Dask, as a file would be."""

    def __init__(self, frames):
        self.frames = frames
        self.shape, self.dtype, self.ndim = frames.shape, frames.dtype, frames.ndim
        self.reads = np.zeros(frames.shape[-3], int)
        self._lock = threading.Lock()

    def __getitem__(self, index):
        with self._lock:
            self.reads[index[-3]] += 1
        return self.frames[index]

    def __dask_tokenize__(self):
        return "CountingFrames", id(self)

    def to_dask(self, chunks):
        meta = np.empty((0,) * self.ndim, self.dtype)
        return da.from_array(self, chunks=chunks, asarray=False, meta=meta, inline_array=True)
