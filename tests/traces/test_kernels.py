"""The kernels against numpy and SciPy, at sizes that do not divide evenly."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path

import naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_cases import DTYPES, ragged, random_masks
from numpy.lib.stride_tricks import sliding_window_view
from scipy import ndimage

from xs2p.masks import masks_cpu
from xs2p.masks.layout import LANES, SEGMENT, layout
from xs2p.masks.packing import MaskArrays
from xs2p.traces import decays, filters_cpu, oasis_cpu, sums_cpu
from xs2p.traces.extraction import _extract_block
from xs2p.traces.sums_cpu import _BATCH_BYTES


def mask_sums(frames, masks, n_rois):
    out = np.empty((2, n_rois, len(frames)))
    sums_cpu.mask_sums(frames, layout(masks), out)
    return out


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(DTYPES),
    st.integers(1, 2 * LANES + 3),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 6),
    st.integers(0, 99),
)
def test_mask_sums_equal_naive(dtype, n_frames, shape, n_rois, seed):
    rng = np.random.default_rng(seed)
    masks, cells, rings = random_masks(rng, shape, n_rois)
    if np.dtype(dtype).kind == "f":
        frames = rng.normal(size=(n_frames, *shape)).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -(2**40)), min(limits.max, 2**40)
        frames = rng.integers(low, high, (n_frames, *shape), endpoint=True).astype(dtype)
    out = mask_sums(frames, masks, n_rois)
    flat = frames.reshape(n_frames, -1)
    for n, (cell, ring) in enumerate(zip(cells, rings, strict=True)):
        weights = masks.cell_weights[slice(*masks.cell_indptr[n : n + 2])].astype(np.float64)
        scale = np.abs(flat.astype(np.float64)).max() * flat.shape[1]
        np.testing.assert_allclose(
            out[0, n], flat[:, cell].astype(np.float64) @ weights, rtol=0, atol=1e-14 * scale
        )
        if np.dtype(dtype).kind == "f":
            expected = flat[:, ring].sum(axis=1, dtype=np.float64)
            np.testing.assert_allclose(out[1, n], expected, rtol=0, atol=1e-14 * scale)
        else:  # exact
            np.testing.assert_array_equal(out[1, n], flat[:, ring].sum(axis=1, dtype=np.int64))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_frame_gives_the_same_sums_whatever_is_beside_it(dtype):
    rng = np.random.default_rng(0)
    masks, *_ = random_masks(rng, (31, 33), 5)
    frames = (rng.random((2 * LANES + 5, 31, 33)) * 100).astype(dtype)
    whole = mask_sums(frames, masks, 5)
    for start, stop in ((0, 1), (3, 5), (LANES - 1, LANES + 4), (LANES, 2 * LANES + 5)):
        part = mask_sums(frames[start:stop], masks, 5)
        np.testing.assert_array_equal(part, whole[..., start:stop])


@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_integer_sums_are_exact_beyond_2_to_31(dtype, extreme):
    value = int(getattr(np.iinfo(dtype), extreme))
    n_pixels = 300 * 1001
    frames = np.full((3, 300, 1001), value, dtype)
    masks = MaskArrays(
        *ragged([[0]]), np.ones(1, np.float32), *ragged([np.arange(n_pixels)]), (300, 1001)
    )
    total = value * n_pixels
    assert abs(total) > 2**31 or value == 0
    assert mask_sums(frames, masks, 1)[1, 0].tolist() == [total] * 3


def test_masks_that_do_not_fit_are_refused_before_any_address_is_made():
    frames = np.zeros((4, 3, 5), np.int16)
    for pixels in ([15], [-1], [2**40]):
        masks = MaskArrays(*ragged([pixels]), np.ones(1, np.float32), *ragged([[0]]), (3, 5))
        with pytest.raises(ValueError, match="outside frames of 15 pixels"):
            mask_sums(frames, masks, 1)
        masks = MaskArrays(*ragged([[0]]), np.ones(1, np.float32), *ragged([pixels]), (3, 5))
        with pytest.raises(ValueError, match="outside frames of 15 pixels"):
            mask_sums(frames, masks, 1)
    masks = MaskArrays(*ragged([[0]]), np.ones(1, np.float32), *ragged([[0], [1]]), (3, 5))
    with pytest.raises(ValueError, match="differ in number"):
        mask_sums(frames, masks, 1)


def test_infinite_and_missing_pixels_stay_in_their_masks():
    frames = np.ones((4, 2, SEGMENT), np.float32)
    frames[1, 0, 10], frames[2, 0, 20] = np.nan, np.inf
    rings = [np.arange(10), np.arange(11, 40), np.arange(5, 15), np.arange(11, 20)]
    masks = MaskArrays(*ragged([[0]] * 4), np.ones(4, np.float32), *ragged(rings), (2, SEGMENT))
    sums = mask_sums(frames, masks, 4)[1]
    np.testing.assert_array_equal(
        sums, [[10] * 4, [29, 29, np.inf, 29], [10, np.nan, 10, 10], [9] * 4]
    )


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
    st.integers(1, 35),
    st.floats(0, 100),
    st.integers(0, 99),
)
def test_rank_equals_percentile_filter(shape, size, percentile, seed):
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 5, shape).astype(np.float32) * (rng.random(shape) < 0.6)
    pixel, group = np.arange(image.size), rng.integers(0, 5, image.size)
    order = np.lexsort((pixel, group))
    y, x = np.divmod(pixel[order], shape[1])
    offsets = np.searchsorted(group[order], np.arange(6))
    rank = min(int(size * size * percentile / 100.0), size * size - 1)
    out = masks_cpu.rank_at_least(image, y, x, offsets, size, rank)
    # SciPy's own filter errs where a window is many times a side of the frame.
    pads = (size // 2, size - 1 - size // 2)
    windows = sliding_window_view(np.pad(image, pads, mode="symmetric"), (size, size))
    filtered = np.sort(windows.reshape(*shape, -1), axis=-1)[..., rank]
    np.testing.assert_array_equal(out, (image >= filtered)[y, x])
    if size <= min(shape):
        np.testing.assert_array_equal(filtered, ndimage.rank_filter(image, rank, size=size))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 3000),
    st.floats(0, 12),
    st.integers(1, 4000),
    st.booleans(),
    st.integers(0, 99),
)
def test_maximin_equals_scipy_to_the_last_bit(n_frames, sigma, size, legacy, seed):
    F = np.random.default_rng(seed).normal(100, 30, (2, n_frames)).astype(np.float32)
    mode = "reflect" if legacy else "nearest"
    radius = int(4 * sigma + 0.5) if legacy else int(round(3 * sigma))
    smooth = F
    if radius > 0:
        smooth = ndimage.gaussian_filter1d(F, sigma, axis=-1, mode=mode, radius=radius)
    low = ndimage.minimum_filter1d(smooth, size, axis=-1, mode=mode)
    expected = ndimage.maximum_filter1d(low, size, axis=-1, mode=mode)
    np.testing.assert_array_equal(filters_cpu.maximin(F, sigma, size, legacy=legacy), expected)


@pytest.mark.parametrize("size", [1, 2, 1801, 30_001])
def test_maximin_of_a_long_trace(size):
    F = np.random.default_rng(0).normal(100, 30, (2, 50_000)).astype(np.float32)
    smooth = ndimage.gaussian_filter1d(F, 10, axis=-1, mode="nearest", radius=30)
    low = ndimage.minimum_filter1d(smooth, size, axis=-1, mode="nearest")
    expected = ndimage.maximum_filter1d(low, size, axis=-1, mode="nearest")
    np.testing.assert_array_equal(filters_cpu.maximin(F, 10.0, size), expected)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 300), st.floats(0.05, 50), st.integers(0, 99))
def test_oasis_pools_are_those_of_the_naive_version(n_frames, tau, seed):
    rng = np.random.default_rng(seed)
    trace = (rng.normal(size=n_frames) + 20 * (rng.random(n_frames) < 0.05)).astype(np.float32)
    spikes = oasis_cpu.oasis(trace, np.float32(tau))
    np.testing.assert_array_equal(spikes, naive.oasis(trace, tau, 1.0))
    again, pools, n = alone(trace, tau)
    np.testing.assert_array_equal(again, spikes)
    value, weight, length = (pool[1 : n + 1] for pool in pools)
    assert length.sum() == n_frames and (length > 0).all() and (weight >= 1).all()
    # Each pool, decayed, ends above no later one: nothing is left to merge.
    decay = np.exp(-length[:-1] / np.float64(np.float32(tau)))
    assert (value[:-1] * decay <= value[1:]).all()


def test_rois_with_as_much_in_a_segment_follow_each_other():
    rng = np.random.default_rng(0)
    masks = layout(random_masks(rng, (30, 47), 12)[0])
    for part, place in ((masks.cell, masks.cell.place), (masks.runs, masks.runs.start)):
        groups, steps = part.groups, 0
        for s in range(masks.segments.first.size):
            these = slice(*groups.bounds[s : s + 2])
            edges = np.r_[part.bounds[s], groups.end[these]]
            assert edges[-1] == part.bounds[s + 1]
            assert (np.diff(edges) > 0).all() and (np.diff(edges, 2) >= 0).all()
            assert len(set(groups.roi[these])) == groups.roi[these].size
            for roi, *ends in zip(groups.roi[these], edges, edges[1:], strict=False):
                assert (part.roi[slice(*ends)] == roi).all()
                assert (np.diff(place[slice(*ends)].astype(int)) > 0).all()
            steps += np.diff(edges, 2).any()
        assert steps > 1


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_pixels_of_a_cell_are_added_in_their_order(dtype):
    rng = np.random.default_rng(1)
    masks, cells, _ = random_masks(rng, (30, 47), 12)
    frames = (1e4 * rng.normal(size=(LANES, 30, 47))).astype(dtype)
    sums, flat = mask_sums(frames, masks, 12)[0], frames.reshape(LANES, -1).astype(np.float64)
    weights = np.split(masks.cell_weights.astype(np.float64), masks.cell_indptr[1:-1])
    for of_roi, pixels, cell_weights in zip(sums, cells, weights, strict=True):
        wanted = np.zeros(LANES)
        for pixel, weight in zip(pixels, cell_weights, strict=True):
            wanted += weight * flat[:, pixel]
        np.testing.assert_array_equal(of_roi, wanted)


@pytest.mark.parametrize("dtype", ["int16", ">i2", "float16", "float32"])
def test_extracting_a_block_needs_little_beside_it(dtype):
    rng = np.random.default_rng(0)
    masks, *_ = random_masks(rng, (256, 256), 20, crowded=0.01)
    arrays = layout(masks)
    block = np.zeros((800, 256, 256), dtype)
    _extract_block(block[:8], arrays, "cpu")
    tracemalloc.start()
    traces = _extract_block(block, arrays, "cpu")
    peak = tracemalloc.get_traced_memory()[1] - traces.nbytes
    tracemalloc.stop()
    native = dtype in ("int16", "float32")
    # A float copy of an int16 block would be twice its 105 MB.
    assert peak < (2**20 if native else 1.2 * _BATCH_BYTES) < 2**26


@pytest.mark.parametrize("tau", [0.4, 3.0, 40.0])
@pytest.mark.parametrize("n_traces", [1, 5, 6, 13, 32, 70])
def test_traces_side_by_side_are_as_each_alone(n_traces, tau):
    rng = np.random.default_rng(n_traces)
    F = rng.normal(size=(n_traces, 517)) + 20 * (rng.random((n_traces, 517)) < 0.05)
    F *= rng.choice([0, 1, 1e6], (n_traces, 1))
    F[::3] += rng.choice([-1e3, 1e6], F[::3, :1].shape)
    F[::4] -= np.cumsum(np.ones(517))
    F[1::5, rng.integers(0, 517)] = np.nan
    F[2::7, 0] = np.nan
    F[3::7, rng.integers(0, 517)] = np.inf
    F[4::7] = np.nan
    F[5::7, :100] = -np.inf
    F = F.astype(np.float32)
    expected = np.stack([alone(trace, tau)[0] for trace in F])
    np.testing.assert_array_equal(oasis_cpu.oasis(F, np.float32(tau)), expected)
    stacked = oasis_cpu.oasis(np.stack([F, F[::-1]]), np.float32(tau))
    np.testing.assert_array_equal(stacked[1], expected[::-1])


@pytest.mark.parametrize("n_traces", [1, 6, 33, 70])
def test_traces_side_by_side_may_each_have_a_tau_of_their_own(n_traces, monkeypatch):
    """Some share theirs; some have pools far longer than the decays that are known at first."""
    rng = np.random.default_rng(n_traces)
    F = rng.normal(size=(n_traces, 1201)) + 20 * (rng.random((n_traces, 1201)) < 0.05)
    F[::3] -= np.cumsum(np.ones(1201))  # one pool
    F[1::4] = 50 * np.exp(-np.arange(1201) / 300) + 0.1 * F[1::4]
    F[2::5, rng.integers(0, 1100) :][:, :100] = np.nan
    F[3::7] = 0
    F = F.astype(np.float32)
    tau_fs = rng.choice([0.05, 0.7, 3.3, 21, 400], n_traces) * rng.choice([1, 1.01], n_traces)
    tau_fs = tau_fs.astype(np.float32)
    expected = np.stack([alone(trace, tau)[0] for trace, tau in zip(F, tau_fs, strict=True)])
    np.testing.assert_array_equal(oasis_cpu.oasis(F, tau_fs), expected)
    np.testing.assert_array_equal(oasis_cpu.oasis(F[::-1], tau_fs[::-1]), expected[::-1])
    for n in range(0, n_traces, 7):
        np.testing.assert_array_equal(oasis_cpu.oasis(F[n], tau_fs[n]), expected[n])
        if not np.isnan(F[n]).any():
            np.testing.assert_array_equal(expected[n], naive.oasis(F[n], tau_fs[n], 1.0))
    monkeypatch.setattr(oasis_cpu, "_SMALL", F.size + 1)
    np.testing.assert_array_equal(oasis_cpu.oasis(F, tau_fs), expected)


def test_short_recordings_wait_for_one_kernel_only(monkeypatch):
    monkeypatch.setattr(oasis_cpu, "_SMALL", 6000)
    asked, compiled = [], oasis_cpu.oasis_gufunc

    def asks(*kernel):
        asked.append([one.__name__ for one in kernel])
        return compiled(*kernel)

    monkeypatch.setattr(oasis_cpu, "oasis_gufunc", asks)
    F = np.random.default_rng(0).normal(size=(20, 300)).astype(np.float32)
    short, long = (oasis_cpu.oasis(F[:, :n], np.float32(2)) for n in (299, 300))
    assert asked == [["_one_by_one"], []]
    expected = np.stack([alone(trace, 2.0)[0] for trace in F])
    np.testing.assert_array_equal(long, expected)
    np.testing.assert_array_equal(short, np.stack([alone(trace, 2.0)[0] for trace in F[:, :299]]))


def test_a_tau_of_its_own_costs_a_trace_no_table_of_all_decays():
    """Counted, not timed: of 22,381 decays a trace of noise needs some hundreds."""
    F = np.random.default_rng(0).normal(size=20_000).astype(np.float32)
    table, known = np.empty(22_381), np.zeros(1, np.int64)
    alone(F, 30.0, table, known)
    assert 64 < known[0] < 4000
    assert np.array_equal(table[: known[0]], decays.decay_table(np.float32(30), known[0]))


def alone(trace, tau, table=None, known=None):
    """Spikes of one trace by the kernel of one trace, its pools and how many there are."""
    if table is None:
        table = np.empty(decays.decay_length(np.float32(tau), trace.size))
        known = np.zeros(1, np.int64)
    pools = [np.empty(trace.size + 1, dtype) for dtype in (np.float32, np.float32, np.int64)]
    spikes = np.empty(trace.size, np.float32)
    n = oasis_cpu.oasis_pools(trace, np.float32(tau), table, known, *pools, spikes)
    return spikes, pools, n


def test_kernels_do_not_ask_what_a_pointer_points_to():
    """Pointers of newer LLVM do not tell: llvmlite's ``pointee`` is on its way out.

    A process in which asking for it from our file is an error compiles the kernels anew.
    """
    code = """
import sys, numpy as np
from llvmlite import ir
class Forgets:
    def __set_name__(self, owner, name): pass
    def __get__(self, thing, owner):
        assert not sys._getframe(1).f_code.co_filename.endswith("vectors.py"), "asked"
        return thing.__dict__["pointee"]
    def __set__(self, thing, value): thing.__dict__["pointee"] = value
ir.PointerType.pointee = Forgets()
from mask_cases import random_masks
from xs2p.masks.layout import layout
from xs2p.traces import sums_cpu
rng = np.random.default_rng(0)
masks = layout(random_masks(rng, (9, 40), 3)[0])
for dtype in ("int16", "int32", "float32"):
    frames = rng.integers(0, 99, (9, 9, 40)).astype(dtype)
    print(float(sums_cpu.mask_sums(frames, masks).sum()))
"""
    rng = np.random.default_rng(0)
    masks = layout(random_masks(rng, (9, 40), 3)[0])
    expected = []
    for dtype in ("int16", "int32", "float32"):
        frames = rng.integers(0, 99, (9, 9, 40)).astype(dtype)
        expected.append(float(sums_cpu.mask_sums(frames, masks).sum()))
    here = Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as cache:  # nothing that was compiled before
        env = {**os.environ, "NUMBA_CACHE_DIR": cache}
        env["PYTHONPATH"] = os.pathsep.join([str(here.parent), str(here)])
        done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert [float(line) for line in done.stdout.split()] == expected, done.stderr[-2000:]
