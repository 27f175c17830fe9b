"""Copies between the host and a GPU, by pinned memory that is small and used in turn.

Of pinned memory there may be little, or none: then it is smaller, or memory like any other.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from xs2p.compute.gpu import Pipeline

_LEAST = 2**20  # bytes of a buffer: with less, copies take longer to start than to run


def _buffers(nbytes: int) -> list[np.ndarray]:
    """Two buffers of pinned memory of so many bytes, or of less; else of pageable memory."""
    import cupy
    import cupyx

    size = max(nbytes, 1)
    while size >= min(nbytes, _LEAST):
        try:
            return [cupyx.empty_pinned((size,), np.uint8) for _ in range(2)]
        except (MemoryError, RuntimeError):  # CuPy raises the latter for what the driver refuses
            cupy.get_default_pinned_memory_pool().free_all_blocks()
            size //= 2
    return [np.empty(min(max(nbytes, 1), _LEAST), np.uint8) for _ in range(2)]


class InTurn:
    """Arrays of the host ``([trace,] time)`` that follow each other in time, seen as one.

    They lie where they lay until they are copied to the device.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = parts
        first = parts[0]
        self.dtype, self.ndim = first.dtype, first.ndim
        self.shape = (*first.shape[:-1], sum(part.shape[-1] for part in parts))
        self.size = math.prod(self.shape)
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: Any) -> InTurn:
        """Cut the first dim: traces, or, of one trace, time."""
        if self.ndim > 1:
            return InTurn([part[key] for part in self._parts])
        start, stop, _ = key.indices(len(self))
        own, at = [], 0
        for part in self._parts:
            own.append(part[max(start - at, 0) : max(stop - at, 0)])
            at += len(part)
        return InTurn(own)

    def copy_to(self, buffer: np.ndarray) -> None:
        """Copy all of it, as the buffer's dtype."""
        at = 0
        for part in self._parts:
            stop = at + part.shape[-1]
            np.copyto(buffer[..., at:stop], part, casting="same_kind")
            at = stop


def pieces(a: Any, b: Any, itemsize: int, nbytes: int) -> Iterator[tuple[Any, Any]]:
    """Cut two arrays of one shape alike, into parts of so many bytes that lie in a row."""
    row = itemsize * math.prod(a.shape[1:])
    if a.ndim == 0 or row * len(a) <= nbytes:
        yield a, b
    elif row <= nbytes:
        step = nbytes // row
        for i in range(0, len(a), step):
            yield a[i : i + step], b[i : i + step]
    else:
        for i in range(len(a)):
            yield from pieces(a[i], b[i], itemsize, nbytes)


class Stage:
    """Two buffers in turn, for copies of one direction."""

    def __init__(self, nbytes: int) -> None:
        import cupy

        self._buffers = _buffers(max(nbytes, 16))
        self._done = [cupy.cuda.Event(block=True, disable_timing=True) for _ in range(2)]
        # What a buffer's bytes are to be copied to once they are there, and where they come from.
        self._to: list[Any] = [None, None]
        self._now = 0

    def _next(self, array: Any, dtype: Any) -> np.ndarray:
        """Wait for the buffer whose turn it is; its memory for an array of this shape."""
        self._now = 1 - self._now
        self._clear(self._now)
        nbytes = math.prod(array.shape) * np.dtype(dtype).itemsize
        return self._buffers[self._now][:nbytes].view(dtype).reshape(array.shape)

    def _clear(self, n: int) -> None:
        self._done[n].synchronize()
        waiting, self._to[n] = self._to[n], None
        if waiting is not None:
            target, buffer, _ = waiting
            target[...] = buffer

    def up(self, source: np.ndarray | InTurn, target: Any, stream: Any) -> None:
        """Start to copy an array of the host, of any dtype and strides, to one of the device."""
        size = self._buffers[0].size
        for some, there in pieces(source, target, target.dtype.itemsize, size):
            buffer = self._next(there, there.dtype)
            if isinstance(some, InTurn):
                some.copy_to(buffer)
            else:
                np.copyto(buffer, some, casting="same_kind")
            there.set(buffer, stream=stream)
            self._done[self._now].record(stream)

    def down(self, source: Any, target: np.ndarray, stream: Any) -> None:
        """Start to copy an array of the device; it is there after :meth:`finish`."""
        import cupy

        source, size = cupy.ascontiguousarray(source), self._buffers[0].size
        for some, there in pieces(source, target, source.dtype.itemsize, size):
            buffer = self._next(some, some.dtype)
            some.get(stream=stream, out=buffer, blocking=False)
            self._done[self._now].record(stream)
            # The source stays until it is copied: its memory would be given to other work.
            self._to[self._now] = there, buffer, source

    def finish(self) -> None:
        """Wait until all that was started is where it is to be."""
        self._clear(1 - self._now)
        self._clear(self._now)


class Slots:
    """Buffers of the device, used in turn, for what is copied to it while others are used.

    Of two, or of one where all is copied at once.
    """

    def __init__(
        self,
        size: int,
        shape: tuple[int, ...],
        dtype: Any,
        pipeline: Pipeline,
        stage: Stage,
        count: int = 2,
    ) -> None:
        import cupy

        self._pipeline, self._stage = pipeline, stage
        self._device = [cupy.empty((size, *shape), dtype) for _ in range(count)]
        self._used = [cupy.cuda.Event(disable_timing=True) for _ in range(count)]
        self._now = 0

    def copy(self, array: np.ndarray | InTurn) -> Any:
        """Start to copy an array; the one of the device that later work will find it in."""
        now, pipeline = self._now, self._pipeline
        pipeline.copy.wait_event(self._used[now])
        there = self._device[now][: len(array)]
        self._stage.up(array, there, pipeline.copy)
        pipeline.work.wait_event(pipeline.copy.record())
        return there

    def used(self, stream: Any) -> None:
        """Say that all work on it has been given to the stream."""
        self._used[self._now].record(stream)
        self._now = (self._now + 1) % len(self._used)
