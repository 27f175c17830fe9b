"""How frames are given to a GPU, whatever is made of them there.

Those of the host go over two pinned buffers, and are copied while earlier ones are worked on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module, is_cupy
from xs2p.compute.gpu import Pipeline, by_pipeline, on_its_device, release
from xs2p.compute.gpu_copies import Slots, Stage
from xs2p.compute.gpu_memory import in_batches

_BATCH_BYTES = 2**29  # of frames of the host that a thread is given at once
STAGE_BYTES = 2**26  # of frames in one pinned buffer, about


class Way(NamedTuple):
    """One way to make something of frames ``(time, y, x)`` of the device."""

    prepare: Callable[[], Any]
    """Called before the memory that is left is shared out."""
    read_as: Callable[[np.dtype[Any]], np.dtype[Any]]
    """What frames of a dtype are copied to the device as."""
    at_once: Callable[[tuple[int, ...], np.dtype[Any], int], int]
    """How many frames ``(y, x)`` of what they are read as to work on at once, of so many."""
    work: Callable[[Any], Any]
    """Makes ``(…, time)`` of frames, on the current stream."""


def in_slices(frames: Any, multiple: int) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` of the host for some threads, each of a pipeline.

    Those of CuPy stay whole, on the stream that is the current one.
    """
    n_frames, height, width = frames.shape[-3:]
    step = max(n_frames, 1)
    if not is_cupy(frames):
        step = max(_BATCH_BYTES // max(height * width * frames.dtype.itemsize, 1), multiple)
    for start in range(0, n_frames, step):
        yield slice(start, start + step)


@on_its_device
def over_frames(frames: Any, shape: tuple[int, ...], dtype: Any, way: Way, out: Any = None) -> Any:
    """Return what is made of frames ``(…, time, y, x)``: ``(…, *shape, time)`` of ``dtype``.

    It is where the frames are, on the host or on the device: ``out``, or an array of its own.
    """
    *lead, n_frames = frames.shape[:-2]
    if out is None:
        out = array_module(frames).empty((*lead, *shape, n_frames), dtype)
    if out.size == 0:
        return out
    for channel in np.ndindex(*lead):
        source, target = frames[channel], out[channel]
        if is_cupy(frames):
            _in_place(source, target, way)
            continue

        def work(
            pipeline: Pipeline, start: int, stop: int, source: Any = source, target: Any = target
        ) -> None:
            _of_host(source[start:stop], target[..., start:stop], way, pipeline)

        by_pipeline(n_frames, n_frames, work, "frame")
    return out


def _in_place(frames: Any, out: Any, way: Way) -> None:
    """Work on frames of the device, on the current stream."""
    import cupy

    way.prepare()
    size = way.at_once(frames.shape[1:], way.read_as(frames.dtype), len(frames))

    def work(start: int, stop: int) -> None:
        some = cupy.ascontiguousarray(frames[start:stop])
        out[..., start:stop] = way.work(some.astype(way.read_as(some.dtype), copy=False))

    in_batches(len(frames), size, work, release, "frame")
    # The masks may be gone after this: what reads them must have ended, whichever stream it is on.
    cupy.cuda.get_current_stream().synchronize()


def _of_host(frames: np.ndarray, out: np.ndarray, way: Way, pipeline: Pipeline) -> None:
    """Work on frames of the host: meanwhile the next batch is copied.

    Called with the pipeline's stream for work as the current one, with nothing on it.
    """
    import cupy

    way.prepare()
    dtype = way.read_as(frames.dtype)
    frame = math.prod(frames.shape[1:]) * dtype.itemsize
    most = min(max(STAGE_BYTES // max(frame, 1), 32), len(frames))
    size = way.at_once(frames.shape[1:], dtype, most)
    result = cupy.empty(out.shape, out.dtype)
    try:
        stage = Stage(min(STAGE_BYTES, size * frame))
        slots = Slots(size, frames.shape[1:], dtype, pipeline, stage)

        def work(start: int, stop: int) -> None:
            on_device = slots.copy(frames[start:stop])
            result[..., start:stop] = way.work(on_device)
            slots.used(pipeline.work)

        in_batches(len(frames), size, work, release, "frame")
        stage.finish()
        stage.down(result, out, pipeline.work)
        stage.finish()
    finally:
        # What is on its way must have arrived before its memory can be used for other things.
        for stream in pipeline:
            stream.synchronize()
