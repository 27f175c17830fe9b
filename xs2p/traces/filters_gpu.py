"""Baselines and spikes on a GPU: the names of ``_cpu.py``, and its results.

Imported inside functions only; CuPy inside those that need it. Array expressions take their array
module from what they are given, and so run on numpy too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xs2p.compute.device import array_module
from xs2p.compute.gpu import Pipeline, available, by_pipeline, launch, on_its_device, release
from xs2p.compute.gpu_memory import batch_size, in_batches, pieces_of_time

_TILE = 12288  # samples that a block of the running extremes holds, as in _kernels.cu
_THREADS = 2**16  # columns that are deconvolved at once, if there are so many
_SAMPLES = 2**28  # of traces that are worked on at once, at most


def there_and_back(
    block: Callable[..., Any],
    array: np.ndarray,
    *per_trace: Any,
    out: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
    """Call a function of traces ``(…, roi, time)`` with those of the host, on the device.

    ``per_trace`` arrays, ``(roi or 1, 1)``, stay on the host and are cut as the traces are.
    """
    import cupy

    # Of no traces, too, the result has the right type and size.
    n_traces = max(array.shape[-2], 1) if array.ndim > 1 else 1
    parts: dict[int, np.ndarray] = {}

    def work(pipeline: Pipeline, start: int, stop: int) -> None:
        own = [a[start:stop] if len(a) > 1 else a for a in per_trace]
        some = array[..., start:stop, :] if array.ndim > 1 else array
        if start == 0:
            parts.clear()
        parts[start] = block(cupy.asarray(some), *own, **options).get(stream=pipeline.work)

    each = 4 * max(array.itemsize, 4) * (array.size // n_traces)
    by_pipeline(n_traces, batch_size(each, available(), n_traces), work, "trace")
    some = [parts[start] for start in sorted(parts)]
    result = some[0] if len(some) == 1 else np.concatenate(some, axis=array.ndim - 2)
    if out is None:
        return result
    out[...] = result
    return out


def _by_traces(
    n_traces: int, n_frames: int, bytes_per_sample: int, work: Callable[[int, int], None]
) -> None:
    """Do work on some traces at a time, as many as memory holds what it needs for each sample."""
    most = max(_SAMPLES // max(n_frames, 1), 1)
    size = batch_size(bytes_per_sample * n_frames, available(), most)
    in_batches(n_traces, size, work, release, "trace")


@on_its_device
def maximin(F: Any, sigma: float, size: int, *, legacy: bool = False) -> Any:
    """Gaussian, running minimum and maximum of CuPy traces; as :func:`xs2p.compute.kernels.maximin`."""
    import cupy

    n_frames = F.shape[-1]
    radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
    left, right = (min(side, n_frames) for side in (size // 2, size - 1 - size // 2))
    traces = cupy.ascontiguousarray(F, dtype=np.float32).reshape(-1, n_frames)
    F0 = cupy.empty(traces.shape, np.float32)

    def work(start: int, stop: int) -> None:
        some = traces[start:stop]
        smoothed = _smooth(some, sigma, radius, legacy, skip_nan=True)
        high = _running(_running(smoothed, left, right, True), left, right, False)
        gap = cupy.isnan(some)
        if bool(gap.any()):  # blank what a NaN reaches
            reach = min(radius + 2 * (size // 2), n_frames)
            high[_running(gap.astype(np.float32), reach, reach, False) > 0] = np.nan
        F0[start:stop] = high

    _by_traces(len(traces), n_frames, 24, work)
    return F0.reshape(F.shape)


@on_its_device
def gaussian_scipy(F: Any, sigma: float) -> Any:
    """SciPy's own Gaussian along time of CuPy traces: cut at 4 sigma, edges reflected."""
    import cupy

    F = cupy.ascontiguousarray(F, dtype=np.float32)
    if sigma <= 0 or F.size == 0:
        return F
    traces = F.reshape(-1, F.shape[-1])
    smoothed = _smooth(traces, sigma, int(4 * sigma + 0.5), reflect=True, skip_nan=False)
    return smoothed.reshape(F.shape)


def _smooth(traces: Any, sigma: float, radius: int, reflect: bool, skip_nan: bool) -> Any:
    """Filter contiguous CuPy traces ``(trace, time)`` with a Gaussian; NaN can count as 0."""
    import cupy

    taps = np.exp(-0.5 / max(sigma, 1e-9) ** 2 * np.arange(-radius, radius + 1) ** 2)
    taps = (taps / taps.sum())[radius:]
    out = cupy.empty(traces.shape, np.float32)
    launch(
        "smooth",
        (-(-traces.size // 256),),
        (256,),
        traces,
        np.int64(traces.shape[0]),
        np.int64(traces.shape[1]),
        cupy.asarray(taps),
        np.int32(radius),
        np.int32(reflect),
        np.int32(skip_nan),
        out,
    )
    return out


def _running(traces: Any, left: int, right: int, smallest: bool) -> Any:
    """Minimum or maximum of CuPy traces over ``left`` frames before and ``right`` after each."""
    import cupy

    window = left + right + 1
    if window > _TILE // 2:
        return running_by_doubling(traces, left, right, smallest)
    n_traces, n_frames = traces.shape
    tiles = -(-n_frames // (_TILE - window + 1))
    out = cupy.empty(traces.shape, np.float32)
    launch(
        "running_min" if smallest else "running_max",
        (n_traces * tiles,),
        (512,),
        traces,
        np.int64(n_frames),
        np.int32(left),
        np.int32(right),
        np.float32(np.inf if smallest else -np.inf),
        out,
    )
    return out


def running_by_doubling(traces: Any, left: int, right: int, smallest: bool) -> Any:
    """Minimum or maximum of windows of any length: of 2, 4, 8 … samples, and then of the window."""
    xp = array_module(traces)
    extreme, nothing = (xp.minimum, np.inf) if smallest else (xp.maximum, -np.inf)
    n_traces, n_frames = traces.shape
    now = xp.full((n_traces, n_frames + left + right), nothing, traces.dtype)
    now[:, left : left + n_frames] = traces
    width, window = 1, left + right + 1
    while width < window:
        step = min(width, window - width)
        now = extreme(now[:, :-step], now[:, step:])
        width += step
    return now


def percentile(F: Any, percent: float) -> Any:
    """Percentile of each trace, float32: between two samples linearly, NaN where there is any."""
    xp = array_module(F)
    ordered = xp.sort(F, axis=-1)
    place = percent / 100 * (F.shape[-1] - 1)
    below = int(place)
    low, high = ordered[..., below], ordered[..., min(below + 1, F.shape[-1] - 1)]
    level = low + (high - low) * np.float32(place - below)
    return xp.where(xp.isnan(ordered[..., -1]), np.float32(np.nan), level)


@on_its_device
def oasis(F: Any, tau_fs: Any, out: Any = None) -> Any:
    """Deconvolve CuPy traces ``(…, time)``; as :func:`xs2p.compute.kernels.oasis`, to the last bit.

    ``tau_fs``, float32 and of the host, broadcasts over the leading dims.
    """
    import cupy

    n_frames = F.shape[-1]
    spikes = cupy.empty(F.shape, np.float32) if out is None else out
    if F.size == 0:
        return spikes
    traces = cupy.ascontiguousarray(F, dtype=np.float32).reshape(-1, n_frames)
    made = cupy.empty(traces.shape, np.float32)
    tau_fs = np.broadcast_to(np.asarray(tau_fs, np.float32), F.shape[:-1]).ravel()

    def work(start: int, stop: int) -> None:
        made[start:stop] = _oasis_of(traces[start:stop], tau_fs[start:stop])

    _by_traces(len(traces), n_frames, 40, work)
    spikes[...] = made.reshape(F.shape)
    return spikes


def _oasis_of(traces: Any, tau_fs: np.ndarray) -> Any:
    import cupy

    n_traces, n_frames = traces.shape
    reach = math.ceil(37 * float(tau_fs.max()))
    n_pieces, step = pieces_of_time(n_traces, n_frames, reach, _THREADS)
    columns, first, last = to_columns(traces, n_pieces, step, reach)
    taus, which = np.unique(tau_fs, return_inverse=True)
    table = decay_tables(taus, n_frames)
    n_columns, room = columns.shape[1], (columns.shape[0] + 1, columns.shape[1])
    spikes = cupy.zeros(columns.shape, np.float32)
    launch(
        "oasis",
        (-(-n_columns // 64),),
        (64,),
        columns,
        np.int64(n_columns),
        cupy.asarray(np.repeat(first, n_traces)),
        cupy.asarray(np.repeat(last, n_traces)),
        cupy.asarray(table),
        np.int32(table.shape[1]),
        cupy.asarray(np.tile(which.astype(np.int32), n_pieces)),
        cupy.empty(room, np.float32),
        cupy.empty(room, np.float32),
        cupy.empty(room, np.int32),
        spikes,
    )
    return from_columns(spikes, n_frames, n_pieces, step, reach)


def decay_tables(tau_fs: np.ndarray, n_frames: int) -> np.ndarray:
    """Decays ``exp(−l / (tau·fs))`` of each tau, float64 ``(tau, l)``: the CPU's, to the last bit.

    Those of a short tau end in zeros.
    """
    from xs2p.compute import kernels as _cpu

    lengths = [_cpu.decay_length(value, n_frames) for value in tau_fs]
    tables = np.zeros((len(lengths), max(lengths)))
    for table, value, length in zip(tables, tau_fs, lengths, strict=True):
        table[:length] = _cpu.decay_table(value, length)
    return tables


def to_columns(
    traces: Any, n_pieces: int, step: int, reach: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Lay pieces of traces side by side, float32 ``(row, piece · trace)``, time going down.

    A piece has ``step`` rows of its own between ``reach`` rows of its neighbours on each side.
    Also for each piece its first row and the one behind its last: at the ends of a trace there
    are fewer.
    """
    xp = array_module(traces)
    n_traces, n_frames = traces.shape
    if n_pieces == 1:
        one = np.ones(1, np.int32)
        return xp.ascontiguousarray(traces.T), 0 * one, n_frames * one
    start, n_rows = np.arange(n_pieces) * step - reach, step + 2 * reach
    frame = np.clip(start + np.arange(n_rows)[:, None], 0, n_frames - 1)
    columns = traces.T[xp.asarray(frame)].reshape(n_rows, n_pieces * n_traces)
    first, last = np.maximum(-start, 0), np.minimum(n_frames - start, n_rows)
    return xp.ascontiguousarray(columns), first.astype(np.int32), last.astype(np.int32)


def from_columns(columns: Any, n_frames: int, n_pieces: int, step: int, reach: int) -> Any:
    """Undo :func:`to_columns`: each piece's own rows, ``(trace, time)``."""
    xp = array_module(columns)
    if n_pieces == 1:
        return xp.ascontiguousarray(columns.T)
    own = columns.reshape(len(columns), n_pieces, -1)[reach : reach + step]
    traces = own.transpose(2, 1, 0).reshape(own.shape[2], n_pieces * step)
    return traces[:, :n_frames]
