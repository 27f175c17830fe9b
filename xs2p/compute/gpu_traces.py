"""How traces are given to a GPU: those of the host go there and back, in batches.

While a batch is worked on, the next one is copied there, and the one before is copied back.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from xs2p.compute.arrays import as_array, is_cupy
from xs2p.compute.gpu import Pipeline, available, by_pipeline, pipelines_of, release
from xs2p.compute.gpu_copies import InTurn, Slots, Stage
from xs2p.compute.gpu_memory import batch_size, in_batches
from xs2p.compute.threads import in_threads

STAGE_BYTES = 2**25  # of a pinned buffer; a pipeline has two each way
BATCH_BYTES = 2**26  # of traces, where work on many at once is no faster than on these
_STAYING = 16  # arrays of traces that there are at once, where more than one step is made of them


def of_host_too(
    function: Callable[..., Any] | None = None, *, at_once: int | None = None
) -> Callable[..., Any]:
    """Let a function of CuPy traces ``(…, roi, time)`` take those of the host: there and back.

    It makes ``(…, roi, time)`` or ``(…, roi)`` of them. Arguments that are arrays of several
    numbers hold one for each ROI; they stay on the host and are cut as the traces are. Batches are
    of ``at_once`` bytes, else as large as memory allows.
    """
    if function is None:
        return functools.partial(of_host_too, at_once=at_once)

    @functools.wraps(function)
    def anywhere(traces: Any, *args: Any, **options: Any) -> Any:
        if is_cupy(traces):
            with traces.device:
                return function(traces, *args, **options)
        if traces.ndim == 1 or traces.size == 0:
            return _at_once(function, traces, args, options)
        return _ThereAndBack(function, traces, args, options, at_once).result()

    return anywhere


def stay(
    pieces: Callable[..., Any],
    parts: Sequence[Any],
    inner: slice,
    own: Sequence[Any],
    *,
    ends: Sequence[Any] = (),
    **options: Any,
) -> Any:
    """Call what makes several steps of CuPy traces for those of the host: there and back once.

    The traces ``(…, time)`` are the ``parts`` one after the other in time, and of what is made of
    them, ``(…, time)`` or ``(made, …, time)``, the frames ``inner`` come back. ``own`` and ``ends``
    are known of each trace, ``(…, numbers)``, or of each ROI.
    """
    *lead, _ = parts[0].shape
    n_traces = math.prod(lead)
    known = [_of_each(a, tuple(lead)) for a in (*ends, *own)]

    def steps(traces: Any, *known: Any) -> Any:
        import cupy

        there = [as_array(cupy, a) for a in known[: len(ends)]]
        return pieces(traces, *known[len(ends) :], ends=there, **options)[..., inner]

    traces = InTurn([part.reshape(n_traces, -1) for part in parts])
    made = _ThereAndBack(steps, traces, known, {}, None, _STAYING).result()
    return made.reshape(*made.shape[:-2], *lead, made.shape[-1])


def _of_each(known: Any, lead: tuple[int, ...]) -> Any:
    """Lay what is known of traces, of their ROIs or of all, a row to a trace."""
    if known.shape[:-1] != lead and len(known) > 1:
        known = np.broadcast_to(known, (*lead, known.shape[-1]))
    return known.reshape(-1, known.shape[-1])


def _at_once(function: Callable[..., Any], traces: np.ndarray, args: Any, options: Any) -> Any:
    import cupy

    result = None

    def work(pipeline: Pipeline, start: int, stop: int) -> None:
        nonlocal result
        result = function(as_array(cupy, traces), *args, **options).get(stream=pipeline.work)

    by_pipeline(1, 1, work, "trace")
    return result


class _ThereAndBack:
    """One call of a function for all traces of an array of the host."""

    def __init__(
        self,
        function: Callable[..., Any],
        traces: np.ndarray | InTurn,
        args: Any,
        options: Any,
        at_once: int | None,
        copies: int = 6,
    ) -> None:
        self._function, self._args, self._options = function, args, options
        # ROIs first: some of them lie in a row there.
        self._traces = traces if isinstance(traces, InTurn) else np.moveaxis(traces, -2, 0)
        self._at_once = at_once
        # Two buffers, and at least what is made of them and as much on the way.
        self._copies = copies
        self._out: np.ndarray | None = None
        self._lock = threading.Lock()

    def result(self) -> Any:
        import cupy

        n = len(self._traces)
        device = cupy.cuda.Device()
        # Several pipelines fill the bus; for little, one is enough.
        n_parts = min(pipelines_of(device.id), -(-self._traces.nbytes // (4 * BATCH_BYTES)), n)
        edges = np.linspace(0, n, n_parts + 1).astype(int)

        def part(k: int) -> None:
            with device:  # the current one of each thread is the first
                first, last = int(edges[k]), int(edges[k + 1])

                def work(pipeline: Pipeline, start: int, stop: int) -> None:
                    self._some(pipeline, first + start, first + stop)

                by_pipeline(last - first, last - first, work, "trace")

        in_threads(part, range(n_parts))
        return self._out

    def _some(self, pipeline: Pipeline, first: int, last: int) -> None:
        """Work on some traces, with the pipeline's stream for work as the current one."""
        traces = self._traces[first:last]
        nbytes = traces[:1].nbytes
        most = len(traces)
        if self._at_once is not None:
            most = min(max(self._at_once // max(nbytes, 1), 1), most)
        each = self._copies * max(nbytes, 4 * traces[:1].size)
        size = batch_size(each, available(), most)
        try:
            stages = [Stage(min(STAGE_BYTES, size * nbytes)) for _ in range(2)]
            count = 1 if size == len(traces) else 2
            slots = Slots(size, traces.shape[1:], traces.dtype, pipeline, stages[0], count)

            def work(start: int, stop: int) -> None:
                there = slots.copy(traces[start:stop])
                made = self._made(there, first + start, first + stop)
                pipeline.back.wait_event(pipeline.work.record())
                stages[1].down(
                    made, self._target(made)[first + start : first + stop], pipeline.back
                )
                slots.used(pipeline.back)  # what was made may be what was copied

            in_batches(len(traces), size, work, release, "trace")
            stages[1].finish()
        finally:
            # What is on its way must have arrived before its memory can be used for other things.
            for stream in pipeline:
                stream.synchronize()

    def _made(self, there: Any, start: int, stop: int) -> Any:
        """Return what the function makes of some traces, ROIs first, in one piece."""
        import cupy

        own = [a[start:stop] if np.size(a) > 1 else a for a in self._args]
        made = self._function(cupy.moveaxis(there, 0, -2), *own, **self._options)
        return cupy.ascontiguousarray(cupy.moveaxis(made, self._rois(made), 0))

    def _rois(self, made: Any) -> int:
        return -1 if made.ndim < self._traces.ndim else -2

    def _target(self, made: Any) -> np.ndarray:
        """Return the array for all results, ROIs first, which is made when the first are there."""
        with self._lock:
            if self._out is None:
                shape = list(made.shape[1:])
                shape.insert(len(shape) + 1 + self._rois(made), len(self._traces))
                self._out = np.empty(shape, made.dtype)
            return np.moveaxis(self._out, self._rois(made), 0)
