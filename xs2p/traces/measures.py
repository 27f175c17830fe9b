"""Measures of traces that :func:`xs2p.quality` puts together: one number a trace, no labels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import xarray as xr

from xs2p._frames import SEGMENT, starts_of
from xs2p.compute.arrays import array_module, as_array
from xs2p.compute.device import kernels_on
from xs2p.traces.blocks import ordered
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import reduce_traces, reduce_whole

_ROLLING = "xs2p.traces.rolling"
_WINDOW = 256  # frames of Welch's windows
_LEAST = 8  # of a window that has an upper half to speak of
_SAMPLES = 2**17  # that are worked on at once: they stay in the processor's cache
_GPU_SAMPLES = 2**25


def percentile(F: xr.DataArray, percent: float, device: str) -> xr.DataArray:
    """Percentile of each trace over the frames that count, float32, by all of them at once."""
    return _of_whole(_percentile_block, F, device, percent=percent)


def noise_level(dFF: xr.DataArray, fs: float, device: str) -> xr.DataArray:
    """Median step of dF/F from a frame to the next, over √fs: % / √Hz, float32, by all at once.

    Steps to and from a frame that does not count, and to another segment, are none.
    """
    return _of_whole(_steps_block, dFF, device, starts=starts_of(dFF), fs=fs)


def noise_psd(F: xr.DataArray, device: str) -> xr.DataArray:
    """Noise of each trace by the upper half of its power spectrum, float32, by all at once.

    Welch's estimate: windows of Hann's of 256 frames, or of the longest segment where that is
    shorter, half overlapping, each less its mean. The square root of the mean power from fs/4 to
    fs/2, times fs/2, is the standard deviation of white noise; what is one-sided counts the power
    at fs/2 itself half, which is made up for. Windows lie within a segment, from its first frame
    on; those with a frame that does not count are left out. Where none is left, windows of half so
    many frames are taken, and so on; NaN where there are none of 8 frames.
    """
    starts = starts_of(F)
    longest = int(np.diff((*starts, F.sizes["time"])).max())
    return _of_whole(_spectrum_block, F, device, starts=starts, window=min(longest, _WINDOW))


def correlation(F: xr.DataArray, other: xr.DataArray) -> xr.DataArray:
    """Pearson's correlation of traces with others, over frames in which both count, in one pass.

    NaN for a trace that is constant.
    """
    return reduce_traces(F, _products, _merge_products, _correlation_of, 6, beside=[other])


def mean(F: xr.DataArray) -> xr.DataArray:
    """Mean of each trace over the frames that count, in one pass; NaN where none does."""
    return reduce_traces(F, _sums, np.add, _mean_of, 2)


def share(F: xr.DataArray) -> xr.DataArray:
    """Share of the frames that count, of each trace, in one pass."""
    return reduce_traces(F, _counts, np.add, _count_of, 1, exact=True) / F.sizes["time"]


def _of_whole(block: Any, F: xr.DataArray, device: str, **options: Any) -> xr.DataArray:
    F = counted(ordered(F)).drop_vars(SEGMENT, errors="ignore")
    return reduce_whole(block, F, whole=device != "cpu", device=device, **options)


def _percentile_block(F: Any, percent: float, device: str) -> Any:
    return kernels_on(device, _ROLLING).percentile(F, percent)


def _steps_block(dFF: Any, starts: tuple[int, ...], fs: float, device: str) -> Any:
    dFF = dFF.astype(np.float32, copy=False)
    steps = abs(dFF[..., 1:] - dFF[..., :-1])
    for start in starts[1:]:
        steps[..., start - 1] = np.nan
    level = kernels_on(device, _ROLLING).median(steps)
    return (100 / fs**0.5 * level.astype(np.float64)).astype(np.float32)


def _spectrum_block(F: Any, starts: tuple[int, ...], window: int, device: str) -> Any:
    """Noise of traces ``(…, time)``, from the mean power of the longest windows that are whole."""
    xp = array_module(F)
    traces = F.reshape(-1, F.shape[-1])
    noise = xp.full(len(traces), np.nan, np.float32)
    while window >= _LEAST:
        left = xp.flatnonzero(xp.isnan(noise))
        if not left.size:
            break
        noise[left] = _from_windows(traces[left], starts, window)
        window //= 2
    return noise.reshape(F.shape[:-1])


def _from_windows(traces: Any, starts: tuple[int, ...], window: int) -> Any:
    """Noise of traces ``(trace, time)`` from windows of so many frames; NaN where none is whole."""
    xp, n_frames = array_module(traces), traces.shape[-1]
    hop = window - window // 2
    firsts = [np.arange(a, b - window + 1, hop) for a, b in itertools.pairwise((*starts, n_frames))]
    frames = as_array(xp, np.concatenate(firsts)[:, None] + np.arange(window))
    noise = xp.full(len(traces), np.nan, np.float32)
    step = max((_SAMPLES if xp is np else _GPU_SAMPLES) // frames.size, 1)
    for start in range(0, len(traces), step):
        power = _powers(xp.take(traces[start : start + step], frames, axis=-1).astype(np.float64))
        known = ~xp.isnan(power)
        n = known.sum(axis=1)
        total = xp.where(known, power, 0.0).sum(axis=1)
        noise[start : start + step] = xp.sqrt(total / xp.where(n > 0, n, np.nan))
    return noise


def _powers(windows: Any) -> Any:
    """Mean power of windows ``(trace, window, frame)`` from fs/4 to fs/2: of white noise, σ²."""
    xp, n = array_module(windows), windows.shape[-1]
    hann = as_array(xp, 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(n) / n))
    windows -= windows.mean(axis=-1, keepdims=True)
    spectrum = np.fft.rfft(windows * hann, axis=-1)[..., -(-n // 4) :]
    power = np.real(spectrum) ** 2 + np.imag(spectrum) ** 2
    return power.mean(axis=-1) / float((hann**2).sum())


def _counts(F: Any, _: Any) -> Any:
    """How many samples count, ``(…, 1)``."""
    return (~array_module(F).isnan(F)).sum(axis=-1, keepdims=True).astype(np.float64)


def _sums(F: Any, _: Any) -> Any:
    """How many samples count, and their sum, ``(…, 2)``."""
    return _by_rows(_sums_of, 2, F)


def _products(F: Any, other: Any, _: Any) -> Any:
    """How many pairs of samples count, their means, squares and products, ``(…, 6)``."""
    return _by_rows(_products_of, 6, F, other)


def _by_rows(state: Any, size: int, *traces: Any) -> Any:
    """Make states of some traces after the others, so that what is worked on stays small."""
    first, n_frames = traces[0], traces[0].shape[-1]
    xp, rows = array_module(first), [trace.reshape(-1, n_frames) for trace in traces]
    out = xp.empty((len(rows[0]), size))
    step = max((_SAMPLES if xp is np else _GPU_SAMPLES) // n_frames, 1)
    for start in range(0, len(out), step):
        some = [xp.array(row[start : start + step], np.float64, order="C") for row in rows]
        out[start : start + step] = xp.stack(state(*some), axis=-1)
    return out.reshape(*first.shape[:-1], size)


def _sums_of(x: Any) -> tuple[Any, ...]:
    xp = array_module(x)
    known = ~xp.isnan(x)
    return known.sum(axis=1), xp.where(known, x, 0.0).sum(axis=1)


def _products_of(x: Any, y: Any) -> tuple[Any, ...]:
    xp = array_module(x)
    known = ~(xp.isnan(x) | xp.isnan(y))
    n = known.sum(axis=1)
    means = [xp.where(known, z, 0.0).sum(axis=1) / xp.maximum(n, 1) for z in (x, y)]
    x, y = (xp.where(known, z - mean[:, None], 0.0) for z, mean in zip((x, y), means, strict=True))
    return n, *means, (x * x).sum(axis=1), (y * y).sum(axis=1), (x * y).sum(axis=1)


def _merge_products(a: Any, b: Any) -> Any:
    """State of two parts (Chan, Golub and LeVeque 1983)."""
    n_a, n_b = a[..., 0], b[..., 0]
    n = array_module(a).maximum(n_a + n_b, 1)
    x, y = b[..., 1] - a[..., 1], b[..., 2] - a[..., 2]
    merged = a + b
    merged[..., 1], merged[..., 2] = a[..., 1] + x * n_b / n, a[..., 2] + y * n_b / n
    for k, apart in enumerate((x * x, y * y, x * y), start=3):
        merged[..., k] += apart * n_a * n_b / n
    return merged


def _correlation_of(state: Any) -> Any:
    n, means, squares = state[..., 0, None], state[..., 1:3], state[..., 3:5]
    rounding = n * (np.finfo(np.float64).resolution * means) ** 2  # of a trace that is constant
    xp = array_module(state)
    lengths = xp.sqrt(xp.where(squares > rounding, squares, np.nan))
    return xp.clip(state[..., 5] / (lengths[..., 0] * lengths[..., 1]), -1.0, 1.0)


def _mean_of(state: Any) -> Any:
    xp = array_module(state)
    return state[..., 1] / xp.where(state[..., 0] > 0, state[..., 0], np.nan)


def _count_of(state: Any) -> Any:
    return state[..., 0]
