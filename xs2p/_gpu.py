"""All that runs on a GPU: the kernels of ``_kernels.cu``, and array expressions on CuPy.

Imported inside functions only; CuPy inside those that need it. Array expressions take their array
module from what they are given, and so run on numpy too. Names and results are those of
``_cpu.py``: the kernels do the same arithmetic in the same order.

Streams: work on CuPy arrays goes to the stream that is current, as CuPy's own does. Arrays of the
host are worked on by pipelines, a few on a device, each with a stream for copies and one for work,
and whatever a pipeline allocates on the device is gone when it is given back.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from xs2p._backend import array_module, is_cupy
from xs2p._device import Lent, Uploads, batch_size, in_batches, pieces_of_time
from xs2p._layout import LANES, SEGMENT, Layout, check_layout
from xs2p._packing import MaskArrays

_PIPELINES = 4  # on a device: more threads than these wait for one
_STAGE_BYTES = 2**26  # of frames in one pinned buffer, about
_SHARE = 0.5  # of the free memory that all pipelines together plan with
_GROUPS = 8  # of 32 frames whose rows are in memory at once
_PARTS, _WARPS = 8, 4  # rows of threads in a block of the two kernels of extraction
_TILE = 12288  # samples that a block of the running extremes holds, as in _kernels.cu
_THREADS = 2**16  # columns that are deconvolved at once, if there are so many
_SAMPLES = 2**28  # of traces that are worked on at once, at most

# CuPy's options and those here; -ftz=true is CuPy's own.
_OPTIONS = ("--std=c++14", "--fmad=false")

# Kernels by the dtype of the pixels: what loads them, the dtype of the rows, what gathers them.
_BY_DTYPE = {
    "int8": ("load_i1", "int32", "gather_i4"),
    "uint8": ("load_u1", "int32", "gather_i4"),
    "int16": ("load_i2", "int32", "gather_i4"),
    "uint16": ("load_u2", "int32", "gather_i4"),
    "int32": ("load_i4", "int64", "gather_i8"),
    "uint32": ("load_u4", "int64", "gather_i8"),
    "int64": ("load_i8", "float64", "gather_f8"),
    "uint64": ("load_u8", "float64", "gather_f8"),
    "float32": ("load_f4", "float32", "gather_f4"),
    "float64": ("load_f8", "float64", "gather_f8"),
}
KERNELS = (
    *sorted({name for load, _, gather in _BY_DTYPE.values() for name in (load, gather)}),
    *("smooth", "running_min", "running_max", "oasis"),
)


class Pipeline(NamedTuple):
    """Two streams of the device, for copies from the host and for the work on them."""

    copy: Any
    work: Any


class DeviceMasks(NamedTuple):
    """Masks as the kernels read them: arrays of the device, or of the host before the upload.

    Rows count the pixels of all segments, 257 to each; those of a ROI are in the order in which
    the CPU's kernels meet them.
    """

    first: Any
    low: Any
    high: Any
    cell_bounds: Any
    cell_row: Any
    cell_weight: Any
    run_bounds: Any
    run_start: Any
    run_stop: Any


def _on_its_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of a CuPy array run on the device that holds it, whichever is current."""

    @functools.wraps(function)
    def there(array: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_cupy(array):
            return function(array, *args, **kwargs)
        with array.device:
            return function(array, *args, **kwargs)

    return there


def kernel_source() -> str:
    """Return the CUDA source of all kernels."""
    from importlib.resources import files

    return files("xs2p").joinpath("_kernels.cu").read_text(encoding="utf-8")


@functools.cache
def _kernel(name: str) -> Any:
    return _module().get_function(name)


@functools.cache
def _module() -> Any:
    import cupy

    return cupy.RawModule(code=kernel_source(), options=_OPTIONS)


def _launch(name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
    """Start a kernel on the current stream; numbers must have the kernel's own types."""
    if all(grid):
        _kernel(name)(grid, block, args)


def _new_pipeline() -> Pipeline:
    import cupy

    return Pipeline(cupy.cuda.Stream(non_blocking=True), cupy.cuda.Stream(non_blocking=True))


PIPELINES = Lent(_new_pipeline, _PIPELINES)
UPLOADS: Uploads[DeviceMasks] = Uploads()


def release() -> None:
    """Give back the memory that CuPy keeps for later; another allocator has its own way."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()


def _available() -> int:
    """Bytes of device memory that one of several pipelines plans with."""
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    kept = cupy.get_default_memory_pool().free_bytes()
    return int((free + kept) * _SHARE / _PIPELINES)


def _by_pipeline(n: int, size: int, work: Callable[[Pipeline, int, int], None], unit: str) -> None:
    """Do work in batches with a pipeline whose stream for work is the current one.

    Where not even one thing fits beside what other threads do, it is done while they wait.
    """
    import cupy

    device = cupy.cuda.Device().id
    for lend in (PIPELINES.on, PIPELINES.alone):

        def now(start: int, stop: int, lend: Any = lend) -> None:
            with lend(device) as pipeline, pipeline.work:
                work(pipeline, start, stop)

        try:
            in_batches(n, size, now, release, unit)
            return
        except MemoryError:
            if lend == PIPELINES.alone:
                raise
        release()


# Extraction


def gather_order(masks: Layout) -> DeviceMasks:
    """Masks in the order of the ROIs, on the host."""
    segment = [np.repeat(np.arange(b.size - 1), np.diff(b)) for b in (masks[1][-1], masks[2][-1])]
    n_rois = masks.cell_npix.size
    parts: list[Any] = []
    for of, pixels, columns in (
        (segment[0], masks.cell, (masks.cell.place,)),
        (segment[1], masks.runs, (masks.runs.start, masks.runs.stop)),
    ):
        order = np.argsort(pixels.roi, kind="stable")
        bounds = np.zeros(n_rois + 1, np.int64)
        np.cumsum(np.bincount(pixels.roi, minlength=n_rois), out=bounds[1:])
        rows = [((of * (SEGMENT + 1) + column)[order]).astype(np.uint32) for column in columns]
        if pixels is masks.cell:
            rows.append(masks.cell.weight[order])
        parts += [bounds, *rows]
    first, low, high = masks.segments
    return DeviceMasks(first.astype(np.int64), low.astype(np.int32), high.astype(np.int32), *parts)


def masks_on_device(masks: Layout) -> DeviceMasks:
    """Masks on the current device: uploaded once, however many tasks and threads use them."""
    import cupy

    def upload() -> DeviceMasks:
        copy = DeviceMasks(*(cupy.asarray(part) for part in gather_order(masks)))
        cupy.cuda.get_current_stream().synchronize()  # other streams are about to read them
        return copy

    # A tuple cannot be referred to weakly; this array lives as long as the masks do.
    return UPLOADS.get(masks.cell_npix, cupy.cuda.Device().id, upload)


def mask_sums(frames: Any, masks: DeviceMasks, kinds: int) -> Any:
    """Add up frames ``(time, y, x)`` of the device over each mask, float64 ``(kind, roi, time)``.

    Frames are CuPy's, contiguous. As :func:`xs2p._cpu.mask_sums`, in the same order.
    """
    import cupy

    load, stored, gather = _BY_DTYPE[frames.dtype.name]
    n_frames, n_pixels = len(frames), math.prod(frames.shape[1:])
    n_rois, n_segments = masks.cell_bounds.size - 1, masks.first.size
    sums = cupy.empty((kinds, n_rois, n_frames), np.float64)
    n_rows = n_segments * (SEGMENT + 1)
    for start in range(0, n_frames, _GROUPS * LANES):
        some = frames[start : start + _GROUPS * LANES]
        groups = -(-len(some) // LANES)
        rows = cupy.empty(groups * n_rows * LANES, stored)
        numbers = np.int64(len(some)), np.int64(n_pixels)
        segments = masks.first, masks.low, masks.high
        _launch(load, (n_segments, groups), (LANES, _PARTS), some, *numbers, *segments, rows)
        # All frames of a batch that fits at once go straight to their place.
        whole = len(some) == n_frames
        part = sums if whole else cupy.empty((kinds, n_rois, len(some)), np.float64)
        _launch(
            gather,
            (-(-n_rois // _WARPS), groups),
            (LANES, _WARPS),
            rows,
            np.int64(n_rows),
            np.int32(n_rois),
            np.int32(kinds),
            *masks[3:],
            np.int64(len(some)),
            part,
        )
        if not whole:
            sums[..., start : start + len(some)] = part
    return sums


@_on_its_device
def map_sums(frames: Any, masks: Layout, finish: Callable[[Any], Any], dtype: Any) -> Any:
    """Return what ``finish`` makes of sums ``(kind, roi, time)`` of frames ``(…, time, y, x)``.

    It is ``(…, kind, roi, time)`` of ``dtype``, where the frames are: on the host or on the device.
    """
    check_layout(masks, math.prod(frames.shape[-2:]))
    *lead, n_frames = frames.shape[:-2]
    kinds = 1 if masks.neuropil_npix is None else 2
    shape = (*lead, kinds, masks.cell_npix.size, n_frames)
    out = array_module(frames).empty(shape, dtype)
    if out.size == 0:
        return out
    if is_cupy(frames):
        for channel in np.ndindex(*lead):
            _sums_in_place(_native(frames[channel]), masks, finish, out[channel])
        return out
    for channel in np.ndindex(*lead):
        source, target = frames[channel], out[channel]

        def work(
            pipeline: Pipeline, start: int, stop: int, source: Any = source, target: Any = target
        ) -> None:
            _sums_of_host(source[start:stop], masks, finish, target[..., start:stop], pipeline)

        _by_pipeline(n_frames, n_frames, work, "frame")
    return out


def _native(frames: Any) -> Any:
    """Frames of the device as the kernels read them."""
    import cupy

    return cupy.ascontiguousarray(frames).astype(_staged(frames.dtype), copy=False)


def _staged(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return what the kernels read a dtype as."""
    if dtype == np.float16:
        return np.dtype(np.float32)
    return np.dtype(np.uint8) if dtype == np.bool_ else dtype.newbyteorder("=")


def _bytes_per_frame(n_pixels: int, dtype: np.dtype[Any], masks: Layout) -> int:
    """Device memory that a frame needs: itself twice, its sums and what is made of them."""
    kinds = 1 if masks.neuropil_npix is None else 2
    return 2 * n_pixels * dtype.itemsize + 32 * kinds * masks.cell_npix.size


def _rows_bytes(dtype: np.dtype[Any], masks: Layout) -> int:
    """Device memory for the rows of the groups of frames that are worked on at once."""
    stored = np.dtype(_BY_DTYPE[dtype.name][1])
    return masks.segments.first.size * (SEGMENT + 1) * LANES * _GROUPS * stored.itemsize


def _sums_in_place(frames: Any, masks: Layout, finish: Callable[[Any], Any], out: Any) -> None:
    """Add up frames of the device, on the current stream."""
    own, kinds = masks_on_device(masks), len(out)
    n_pixels = math.prod(frames.shape[1:])
    each = _bytes_per_frame(n_pixels, frames.dtype, masks)
    spare = _available() - _rows_bytes(frames.dtype, masks)
    size = batch_size(each, spare, len(frames), LANES)

    def work(start: int, stop: int) -> None:
        out[..., start:stop] = finish(mask_sums(frames[start:stop], own, kinds))

    in_batches(len(frames), size, work, release, "frame")


def _sums_of_host(
    frames: np.ndarray,
    masks: Layout,
    finish: Callable[[Any], Any],
    out: np.ndarray,
    pipeline: Pipeline,
) -> None:
    """Add up frames of the host: while a batch is worked on, the next one is copied.

    Called with the pipeline's stream for work as the current one, with nothing on it.
    """
    import cupy

    own, dtype = masks_on_device(masks), _staged(frames.dtype)
    n_pixels = math.prod(frames.shape[1:])
    each = _bytes_per_frame(n_pixels, dtype, masks)
    spare = _available() - _rows_bytes(dtype, masks)
    most = max(_STAGE_BYTES // max(n_pixels * dtype.itemsize, 1), LANES)
    size = batch_size(each, spare, min(most, len(frames)), LANES)
    result = cupy.empty(out.shape, out.dtype)
    try:
        slots = _Slots(size, frames.shape[1:], dtype, pipeline)

        def work(start: int, stop: int) -> None:
            on_device = slots.copy(frames[start:stop])
            result[..., start:stop] = finish(mask_sums(on_device, own, len(out)))
            slots.used()

        in_batches(len(frames), size, work, release, "frame")
        out[...] = result.get(stream=pipeline.work)
    finally:
        # What is on its way must have arrived before its memory can be used for other things.
        pipeline.copy.synchronize()
        pipeline.work.synchronize()


class _Slots:
    """Two buffers for frames, in pinned memory and on the device, used in turn."""

    def __init__(self, size: int, shape: tuple[int, ...], dtype: Any, pipeline: Pipeline) -> None:
        import cupy
        import cupyx

        self._pipeline = pipeline
        self._pinned = [cupyx.empty_pinned((size, *shape), dtype) for _ in range(2)]
        self._device = [cupy.empty((size, *shape), dtype) for _ in range(2)]
        self._copied = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._used = [cupy.cuda.Event(disable_timing=True) for _ in range(2)]
        self._now = 0

    def copy(self, frames: np.ndarray) -> Any:
        """Start to copy frames; the array of the device that later work will find them in."""
        now, n = self._now, len(frames)
        self._copied[now].synchronize()  # the pinned buffer has been read
        np.copyto(self._pinned[now][:n], frames, casting="same_kind")
        self._pipeline.copy.wait_event(self._used[now])
        self._device[now][:n].set(self._pinned[now][:n], stream=self._pipeline.copy)
        self._copied[now].record(self._pipeline.copy)
        self._pipeline.work.wait_event(self._copied[now])
        return self._device[now][:n]

    def used(self) -> None:
        """Say that all work on the frames has been given to the stream."""
        self._used[self._now].record(self._pipeline.work)
        self._now = 1 - self._now


def mask_matrix(masks: MaskArrays, csc_matrix: Any) -> Any:
    """Masks, cell and neuropil, as one sparse matrix ``(pixel, mask)`` of SciPy's or cupyx's kind.

    What :func:`mask_products` multiplies: the tests' and the benchmark's reference.
    """
    weights, indices, bounds = masks.cell_weights, masks.cell_indices, masks.cell_indptr
    if masks.neuropil_indptr is not None and masks.neuropil_indices is not None:
        npix = np.diff(masks.neuropil_indptr)
        equal = np.repeat((1 / np.maximum(npix, 1)).astype(np.float32), npix)
        weights = np.concatenate([weights, equal])
        indices = np.concatenate([indices, masks.neuropil_indices])
        bounds = np.concatenate([bounds, bounds[-1] + masks.neuropil_indptr[1:]])
    shape = masks.shape[0] * masks.shape[1], bounds.size - 1
    arrays = weights.astype(np.float32), indices.astype(np.int32), bounds.astype(np.int32)
    if csc_matrix.__module__.partition(".")[0] == "cupyx":
        import cupy

        arrays = tuple(cupy.asarray(a) for a in arrays)
    return csc_matrix(arrays, shape=shape)


def mask_products(frames: Any, matrix: Any) -> Any:
    """Traces ``(time, mask)`` as one product ``dense(T, P) @ CSC(P, N)`` in float32."""
    return frames.reshape(len(frames), -1).astype(np.float32) @ matrix


# Traces


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
    _by_pipeline(n_traces, batch_size(each, _available(), n_traces), work, "trace")
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
    size = batch_size(bytes_per_sample * n_frames, _available(), most)
    in_batches(n_traces, size, work, release, "trace")


@_on_its_device
def maximin(F: Any, sigma: float, size: int, *, legacy: bool = False) -> Any:
    """Gaussian, running minimum and maximum of CuPy traces; as :func:`xs2p._cpu.maximin`."""
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


@_on_its_device
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
    _launch(
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
    _launch(
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


@_on_its_device
def oasis(F: Any, tau_fs: Any, out: Any = None) -> Any:
    """Deconvolve CuPy traces ``(…, time)``; as :func:`xs2p._cpu.oasis`, to the last bit.

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
    _launch(
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
    from xs2p import _cpu

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
