"""The CUDA kernels without a device: compiled by NVIDIA's compilers, and run as C++ on the CPU."""

from __future__ import annotations

import ctypes
import glob
import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cuda_on_cpu
import naive
import numpy as np
import pytest
from cuda_on_cpu import launch
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_cases import DTYPES, ragged, random_masks
from scipy import sparse

from xs2p.compute import gpu
from xs2p.compute.gpu_memory import pieces_of_time
from xs2p.masks.layout import LANES, SEGMENT, layout
from xs2p.masks.packing import MaskArrays
from xs2p.traces import (
    equations,
    equations_cpu,
    equations_gpu,
    filters_cpu,
    filters_gpu,
    oasis_cpu,
    sparse_cpu,
    sums_cpu,
    sums_gpu,
)
from xs2p.traces.columns import decays_of, from_columns, to_columns
from xs2p.traces.taps import gaussian_taps

NAN = np.float32(np.nan)
on_cpu = pytest.mark.skipif(cuda_on_cpu.why_not() is not None, reason=str(cuda_on_cpu.why_not()))


def kernel_sums(frames, masks, backwards=False):
    """What sums_gpu.mask_sums computes, all frames at once, with the kernels on the CPU."""
    own = sums_gpu.gather_order(masks)
    load, stored, gather = sums_gpu._BY_DTYPE[frames.dtype.name]
    n_frames, n_rois = len(frames), masks.cell_npix.size
    groups, n_segments = -(-n_frames // LANES), own.first.size
    n_rows = n_segments * (SEGMENT + 1)
    # What no kernel writes must not matter.
    rows = np.full(groups * n_rows * LANES, 77, stored)
    out = np.full((2, n_rois, n_frames), np.nan)
    frames = np.ascontiguousarray(frames.reshape(n_frames, -1))
    sizes = np.int64(n_frames), np.int64(frames.shape[1])
    if n_segments:
        grid = n_segments, groups
        block = LANES, sums_gpu._PARTS
        launch(load, grid, block, (frames, *sizes, *own[:3], rows), backwards=backwards)
    numbers = np.int64(n_rows), np.int32(n_rois), np.int32(2)
    grid = -(-n_rois // sums_gpu._WARPS), groups
    args = (rows, *numbers, *own[3:], np.int64(n_frames), out)
    if n_rois:
        launch(gather, grid, (LANES, sums_gpu._WARPS), args, backwards=backwards)
    return out


def cpu_sums(frames, masks):
    out = np.empty((2, masks.cell_npix.size, len(frames)))
    sums_cpu.mask_sums(frames, masks, out)
    return out


def random_frames(rng, dtype, n_frames, shape):
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=(n_frames, *shape)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (n_frames, *shape), dtype, endpoint=True)


@on_cpu
@settings(max_examples=60)
@given(
    st.sampled_from(DTYPES + ["uint64"]),
    st.integers(1, 2 * LANES + 3),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.integers(0, 6),
    st.integers(0, 99),
    st.booleans(),
)
def test_sums_are_the_cpus_to_the_last_bit(dtype, n_frames, shape, n_rois, seed, backwards):
    rng = np.random.default_rng(seed)
    masks = layout(random_masks(rng, shape, n_rois)[0])
    frames = random_frames(rng, dtype, n_frames, shape)
    sums = kernel_sums(frames, masks, backwards)
    np.testing.assert_array_equal(sums, cpu_sums(frames, masks))


@on_cpu
@pytest.mark.parametrize("dtype", DTYPES)
def test_sums_equal_naive(dtype):
    rng = np.random.default_rng(1)
    masks, cells, rings = random_masks(rng, (23, 31), 5)
    frames = (rng.random((37, 23, 31)) * 100).astype(dtype)
    sums = kernel_sums(frames, layout(masks))
    weights = np.split(masks.cell_weights, masks.cell_indptr[1:-1])
    expected = naive.extract(frames, list(zip(cells, weights, strict=True)))
    np.testing.assert_allclose(sums[0], np.nan_to_num(expected), rtol=1e-12)
    flat = frames.reshape(37, -1).astype(np.float64)
    for n, ring in enumerate(rings):
        np.testing.assert_allclose(sums[1, n], flat[:, ring].sum(axis=1), rtol=1e-12)


@on_cpu
@pytest.mark.parametrize("dtype", ["int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_integer_sums_are_exact(dtype, extreme):
    value = int(getattr(np.iinfo(dtype), extreme))
    frames = np.full((3, 300, 101), value, dtype)
    masks = MaskArrays(
        *ragged([[0]]), np.ones(1, np.float32), *ragged([np.arange(30300)]), (300, 101)
    )
    assert kernel_sums(frames, layout(masks))[1, 0].tolist() == [value * 30300] * 3


@on_cpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_missing_pixels_stay_in_their_masks(dtype):
    rng = np.random.default_rng(2)
    masks, cells, rings = random_masks(rng, (9, 50), 4)
    frames = rng.normal(size=(34, 9, 50)).astype(dtype)
    frames[33, 3, 7] = np.nan
    frames[5, 8, 49] = np.inf
    sums = kernel_sums(frames, layout(masks))
    np.testing.assert_array_equal(sums, cpu_sums(frames, layout(masks)))
    for kind, parts in enumerate((cells, rings)):
        for n, pixels in enumerate(parts):
            holed = np.zeros(34, bool)
            holed[33] = 157 in pixels
            assert (np.isnan(sums[kind, n]) == holed).all()


@on_cpu
@settings(max_examples=40)
@given(
    st.integers(1, 4),
    st.integers(1, 300),
    st.sampled_from([0.0, 0.3, 2.0, 10.0, 40.0]),
    st.booleans(),
    st.integers(0, 9),
)
def test_smooth_is_the_cpus(n_traces, n_frames, sigma, reflect, seed):
    F = np.random.default_rng(seed).normal(300, 30, (n_traces, n_frames)).astype(np.float32)
    radius = int(4 * sigma + 0.5) if reflect else round(3 * sigma)
    # A window of one frame leaves the Gaussian alone.
    expected = filters_cpu.maximin(F, sigma, 1, legacy=reflect)
    for backwards in (False, True):
        smoothed = kernel_smooth(F, sigma, radius, reflect, True, backwards)
        np.testing.assert_array_equal(smoothed, expected)
    np.testing.assert_array_equal(kernel_smooth_far(F, sigma, radius, reflect, True), expected)
    if reflect:
        np.testing.assert_array_equal(smoothed, filters_cpu.gaussian_scipy(F, sigma))


@on_cpu
@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize(
    ("n_frames", "radius"), [(1793, 1), (5000, 900), (40, 2000), (1792, 2176), (3000, 2177)]
)
def test_smooth_of_several_tiles_and_far_neighbours(n_frames, radius, reflect):
    F = np.random.default_rng(0).normal(300, 30, (2, n_frames)).astype(np.float32)
    sigma = radius / (4 if reflect else 3)
    radius = int(4 * sigma + 0.5) if reflect else round(3 * sigma)
    smoothed = kernel_smooth(F, sigma, radius, reflect, False)
    expected = filters_cpu.maximin(F, sigma, 1, legacy=reflect)
    np.testing.assert_array_equal(smoothed, expected)


@given(st.integers(1, 10**6), st.integers(0, 20_000))
def test_gaussians_hold_no_more_than_they_must(n_frames, radius):
    tiles, threads, shared = filters_gpu.smooth_tiles(n_frames, radius)
    each = filters_gpu._EACH
    assert threads % 32 == 0 and 32 <= threads <= 256
    assert (tiles - 1) * threads * each < n_frames <= tiles * threads * each
    assert threads * each * tiles < n_frames + tiles * 33 * each
    assert (shared <= gpu._SHARED) or radius > 2176


def kernel_smooth(F, sigma, radius, reflect, skip_nan, backwards=False):
    taps = gaussian_taps(sigma, radius, F.shape[1], reflect)
    radius, out = taps.size - 1, np.full_like(F, 77)
    numbers = np.int32(radius), np.int32(reflect), np.int32(skip_nan)
    tiles, threads, shared = filters_gpu.smooth_tiles(F.shape[1], radius)
    args = F, np.int64(F.shape[1]), taps, *numbers, out
    launch("smooth_tile", (len(F) * tiles,), (threads,), args, backwards=backwards, shared=shared)
    return out


def kernel_smooth_far(F, sigma, radius, reflect, skip_nan):
    taps = gaussian_taps(sigma, radius, F.shape[1], reflect)
    radius, out = taps.size - 1, np.full_like(F, 77)
    numbers = np.int32(radius), np.int32(reflect), np.int32(skip_nan)
    shape = np.int64(len(F)), np.int64(F.shape[1])
    launch("smooth", (-(-F.size // 256),), (256,), (F, *shape, taps, *numbers, out))
    return out


@on_cpu
def test_smooth_takes_nan_for_zero_or_spreads_it():
    F = np.ones((2, 60), np.float32)
    F[1, 30] = np.nan
    zeroed = np.nan_to_num(F)
    for smooth in (kernel_smooth, kernel_smooth_far):
        a = smooth(F, 2.0, 6, False, True)
        np.testing.assert_array_equal(a, smooth(zeroed, 2.0, 6, False, True))
        spread = np.isnan(smooth(F, 2.0, 6, False, False))
        assert not spread[0].any() and np.flatnonzero(spread[1]).tolist() == list(range(24, 37))


def kernel_running(F, left, right, smallest, backwards=False):
    out = np.full_like(F, 77)
    tiles, size = filters_gpu.tiles_of(F.shape[1], left + right + 1)
    launch(
        "running_min" if smallest else "running_max",
        (len(F) * tiles,),
        (filters_gpu._THREADS,),
        (
            F,
            np.int64(F.shape[1]),
            np.int32(left),
            np.int32(right),
            np.int32(size),
            np.float32(np.inf if smallest else -np.inf),
            out,
        ),
        backwards=backwards,
    )
    return out


@given(st.integers(1, 10**6), st.integers(1, filters_gpu._TILE // 2))
def test_running_extremes_hold_no_more_than_they_must(n_frames, window):
    """A chunk of some hundred frames is not to cost as much as one of twelve thousand."""
    tiles, size = filters_gpu.tiles_of(n_frames, window)
    made = size - window + 1
    assert size % filters_gpu._THREADS == 0 and size <= filters_gpu._TILE
    assert (tiles - 1) * made < n_frames <= tiles * made
    assert tiles * size < n_frames + tiles * (window + filters_gpu._THREADS)


@on_cpu
@settings(max_examples=25)
@given(
    st.integers(1, 3),
    st.sampled_from([1, 2, 63, 500, filters_gpu._TILE - 4, filters_gpu._TILE, 14000]),
    st.integers(0, 40) | st.sampled_from([900, 3000]),
    st.integers(0, 40) | st.sampled_from([900, 3071]),
    st.booleans(),
    st.booleans(),
)
def test_running_extremes_are_the_cpus(n_traces, n_frames, left, right, smallest, backwards):
    F = np.random.default_rng(0).normal(size=(n_traces, n_frames)).astype(np.float32)
    left, right = min(left, n_frames), min(right, n_frames)
    extreme, nothing = (np.minimum, np.inf) if smallest else (np.maximum, -np.inf)
    expected = filters_cpu._running(F, left, right, extreme, nothing)
    result = kernel_running(F, left, right, smallest, backwards)
    np.testing.assert_array_equal(result, expected)
    np.testing.assert_array_equal(
        filters_gpu.running_by_doubling(F, left, right, smallest), expected
    )


@on_cpu
@pytest.mark.parametrize("smallest", [True, False])
def test_running_extremes_of_nan_and_infinity(smallest):
    F = np.random.default_rng(0).normal(size=(2, 99)).astype(np.float32)
    F[0, 50], F[0, 70], F[1, 20], F[1, 98] = np.nan, np.inf, -np.inf, np.inf
    extreme, nothing = (np.minimum, np.inf) if smallest else (np.maximum, -np.inf)
    expected = filters_cpu._running(F, 5, 4, extreme, nothing)
    np.testing.assert_array_equal(kernel_running(F, 5, 4, smallest), expected)


def kernel_oasis(F, tau_fs, n_pieces=1, step=0, reach=0, of_each=(), calcium=False):
    """Spikes or calcium of traces as columns.py makes them."""
    columns, first, last = to_columns(F, n_pieces, step, reach)
    room = columns.shape[0] + 1, columns.shape[1]
    pools = np.float64 if of_each else np.float32
    out = np.zeros(columns.shape, np.float32)
    launch(
        "sparse_oasis" if of_each else "oasis",
        (-(-columns.shape[1] // 64),),
        (64,),
        (
            columns,
            np.int64(columns.shape[1]),
            np.repeat(first, len(F)),
            np.repeat(last, len(F)),
            *decays_of(tau_fs, F.shape[1], n_pieces),
            *(np.tile(a, n_pieces) for a in of_each),
            np.full(room, np.nan, pools),
            np.full(room, np.nan, pools),
            np.full(room, -(2**30), np.int32),
            np.int32(calcium),
            out,
        ),
    )
    return from_columns(out, F.shape[1], n_pieces, step, reach)


def kernel_penalties(F, tau_fs, sigma):
    """Penalties of traces as sparse_gpu makes them."""
    room, out = (F.shape[1] + 1, len(F)), np.zeros(len(F))
    launch(
        "oasis_penalty",
        (-(-len(F) // 64),),
        (64,),
        (
            np.ascontiguousarray(F.T),
            np.int64(len(F)),
            np.int32(F.shape[1]),
            *decays_of(tau_fs, F.shape[1])[:-1],
            sigma,
            np.int32(sparse_cpu.MOST_STEPS),
            np.float64(sparse_cpu.CLOSE),
            np.float64(np.inf),
            np.full(room, np.nan),
            np.full(room, np.nan),
            np.full(room, -(2**30), np.int32),
            out,
        ),
    )
    return out


def calcium(rng, n_traces, n_frames, g=0.95):
    spikes = rng.poisson(0.05, (n_traces, n_frames)).astype(float)
    for t in range(1, n_frames):
        spikes[:, t] += g * spikes[:, t - 1]
    return (100 * spikes + rng.normal(0, 20, spikes.shape)).astype(np.float32)


@on_cpu
@settings(max_examples=40)
@given(
    st.integers(1, 70),
    st.integers(1, 200),
    st.sampled_from([0.05, 0.5, 7.0, 300.0]),
    st.integers(0, 99),
)
def test_oasis_is_the_cpus_to_the_last_bit(n_traces, n_frames, tau_fs, seed):
    rng = np.random.default_rng(seed)
    F = calcium(rng, n_traces, n_frames)
    F[0] = rng.choice([0.0, -5.0, 1e-30, 1e30])
    F[-1] = np.sort(F[-1])[:: rng.choice([-1, 1])]  # one pool, or as many as frames
    tau_fs = rng.choice(np.float32([tau_fs, 3.0]), n_traces)
    for holed in (False, True):
        if holed:  # frames that do not count
            F[rng.random(F.shape) < 0.2] = np.nan
            start = rng.integers(0, n_frames)
            F[: rng.integers(0, n_traces), start : start + rng.integers(0, 150)] = np.nan
        np.testing.assert_array_equal(kernel_oasis(F, tau_fs), oasis_cpu.oasis(F, tau_fs))
        c = kernel_oasis(F, tau_fs, calcium=True)
        np.testing.assert_array_equal(c, oasis_cpu.calcium(F, tau_fs))


@on_cpu
@settings(max_examples=40)
@given(
    st.integers(1, 70),
    st.integers(1, 200),
    st.sampled_from([0.05, 0.5, 7.0, 300.0]),
    st.integers(0, 99),
)
def test_sparse_oasis_is_the_cpus_to_the_last_bit(n_traces, n_frames, tau_fs, seed):
    """With a penalty, a smallest spike, none or both in each trace; and a penalty that is found."""
    rng = np.random.default_rng(seed)
    F = calcium(rng, n_traces, n_frames) / np.float32(100)
    F[0] = rng.choice([0.0, -5.0, 1e-30, 1e30])
    tau_fs = rng.choice(np.float32([tau_fs, 3.0]), n_traces)
    penalty = rng.choice([0.0, 0.4, 3.0], n_traces)
    s_min = rng.choice([0.0, 0.3, np.nan], n_traces)
    sigma = rng.choice([0.0, 0.1, 0.3, 5.0, np.nan], n_traces)
    for holed in (False, True):
        if holed:
            F[rng.random(F.shape) < 0.2] = np.nan
            start = rng.integers(0, n_frames)
            F[: rng.integers(0, n_traces), start : start + rng.integers(0, 150)] = np.nan
        for wanted in (False, True):
            made = kernel_oasis(F, tau_fs, of_each=(penalty, s_min), calcium=wanted)
            expected = sparse_cpu.sparse(F, tau_fs, penalty, s_min, wanted)
            np.testing.assert_array_equal(made, expected)
        found = kernel_penalties(F, tau_fs, sigma)
        np.testing.assert_array_equal(found, sparse_cpu.penalties(F, tau_fs, sigma))


@on_cpu
@pytest.mark.parametrize("tau_fs", [0.7, 9.0, 40.0])
def test_oasis_of_many_samples_is_the_cpus(tau_fs):
    F = calcium(np.random.default_rng(1), 300, 1500)
    tau_fs = np.full(300, np.float32(tau_fs))
    np.testing.assert_array_equal(kernel_oasis(F, tau_fs), oasis_cpu.oasis(F, tau_fs))


@on_cpu
def test_oasis_equals_naive():
    F = calcium(np.random.default_rng(0), 5, 300)
    expected = np.stack([naive.oasis(f, 0.7, 10.0) for f in F])
    result = kernel_oasis(F, np.full(5, np.float32(0.7) * np.float32(10)))
    np.testing.assert_array_equal(result, expected)


@on_cpu
def test_oasis_of_traces_without_a_mask_is_nan():
    F = calcium(np.random.default_rng(0), 3, 50)
    F[1] = np.nan
    spikes = kernel_oasis(F, np.full(3, np.float32(5)))
    assert np.isnan(spikes[1]).all() and np.isfinite(spikes[[0, 2]]).all()
    np.testing.assert_array_equal(spikes, oasis_cpu.oasis(F, np.float32(5)))


@on_cpu
@settings(max_examples=20)
@given(st.integers(1, 5), st.integers(1, 4000), st.sampled_from([0.2, 1.5]), st.integers(0, 9))
def test_oasis_in_pieces_of_time_is_the_cpus(n_traces, n_frames, tau_fs, seed):
    F = calcium(np.random.default_rng(seed), n_traces, n_frames, 0.5)
    reach = int(np.ceil(37 * tau_fs))
    n_pieces, step = pieces_of_time(n_traces, n_frames, reach, 64)
    assert n_pieces > 1 or n_frames < 16 * reach
    tau_fs = np.full(n_traces, np.float32(tau_fs))
    for of_each, wanted, expected in (
        ((), False, oasis_cpu.oasis(F, tau_fs)),
        ((), True, oasis_cpu.calcium(F, tau_fs)),
        ((8.0, 0.0), False, sparse_cpu.sparse(F, tau_fs, 8.0, 0.0)),
        ((8.0, 0.0), True, sparse_cpu.sparse(F, tau_fs, 8.0, 0.0, True)),
    ):
        own = [np.full(n_traces, a) for a in of_each]
        pieces = kernel_oasis(F, tau_fs, n_pieces, step, reach, own, wanted)
        np.testing.assert_array_equal(pieces, expected)


def overlapping(rng, n_rois, n_hats):
    """Equations of footprints at random and of hats beneath them, as ``System`` has them."""
    pixels = sparse.random_array((60, n_rois), density=0.1, rng=rng) + sparse.eye_array(60, n_rois)
    hats = sparse.csc_array(rng.random((60, n_hats)))
    both = sparse.csc_array(sparse.hstack([pixels, hats]))
    both = both @ sparse.diags_array(1 / np.sqrt((both**2).sum(axis=0)))
    gram = sparse.csc_array(both.T @ both)
    named = np.arange(n_rois + n_hats)
    factor = equations._named(equations.factored(gram), named)
    parts = (gram[:n_rois, :n_rois], gram[:n_rois, n_rois:], gram[n_rois:, n_rois:])
    return factor, equations._descent_of(*(sparse.csr_array(part) for part in parts))


def kernel_solve(factor, x):
    grid = (-(-x.shape[1] // 64),)
    sizes = np.int64(factor.order.size), np.int64(x.shape[1])
    launch("solve_frames", grid, (64,), (*equations_gpu.both_ways(*factor), *sizes, x))
    return x


def kernel_descend(descent, sums, x):
    (n_rois, n_hats), n_frames = descent.light.shape, x.shape[1]
    scale = equations_gpu.scale_of(descent.start, descent.light, descent.spread)
    sizes = (np.int64(n) for n in (n_rois, n_hats, n_frames, 30))
    grid = (-(-n_frames // 64),)
    launch("descend_frames", grid, (64,), (*descent, scale, sums, *sizes, np.float64(1e-4), x))
    return x


@on_cpu
@settings(max_examples=30)
@given(st.integers(1, 12), st.integers(0, 4), st.integers(1, 150), st.integers(0, 99))
def test_equations_are_solved_to_the_cpus_last_bit(n_rois, n_hats, n_frames, seed):
    rng = np.random.default_rng(seed)
    factor, descent = overlapping(rng, n_rois, n_hats)
    given_ = rng.normal(size=(n_rois + n_hats, n_frames))
    cpu, gpu_ = given_.copy(), kernel_solve(factor, given_.copy())
    equations_cpu.solve(*factor, cpu)
    np.testing.assert_array_equal(gpu_, cpu)
    kernel_descend(descent, given_, gpu_)
    equations_cpu.descend(*descent, given_, cpu, 30, 1e-4)
    np.testing.assert_array_equal(gpu_, cpu)
    assert (cpu[:n_rois] >= 0).all() and (n_frames < 9 or (cpu[:n_rois] == 0).any())


@on_cpu
def test_products_with_sparse_rows_are_scipys():
    rng = np.random.default_rng(0)
    matrix = sparse.random_array((40, 17), density=0.3, rng=rng, format="csr")
    x, out = rng.normal(size=(17, 70)), np.full((40, 70), np.nan)
    parts = matrix.indptr.astype(np.int64), matrix.indices.astype(np.int64), matrix.data
    launch("sparse_rows", (2, 7), (64,), (*parts, x, np.int64(40), np.int64(70), out))
    np.testing.assert_allclose(out, matrix @ x, rtol=1e-12)  # a compiler may contract scipy's


@on_cpu
@pytest.mark.parametrize("at_start", [False, True])
def test_no_kernel_steps_outside_of_its_arrays(at_start):
    """In a process of its own, which such a step would end."""
    code = f"""
import functools, numpy as np, cuda_on_cpu, test_cuda as t
t.launch = functools.partial(cuda_on_cpu.launch_guarded, at_start={at_start})
rng = np.random.default_rng(0)
masks = t.layout(t.random_masks(rng, (11, 47), 5)[0])  # the last segment is not a whole one
for dtype in (*t.DTYPES, "uint64"):
    for n_frames in (1, 32, 45):
        frames = t.random_frames(rng, dtype, n_frames, (11, 47))
        assert np.array_equal(t.kernel_sums(frames, masks), t.cpu_sums(frames, masks))
for n_frames in (1, 5, 200, 13000):
    F = t.calcium(rng, 3, n_frames)
    for reflect in (False, True):
        t.kernel_smooth(F, 10.0, 30, reflect, True)
        t.kernel_smooth_far(F, 10.0, 30, reflect, True)
    for smallest in (False, True):
        t.kernel_running(F, min(n_frames, 900), min(n_frames, 31), smallest)
F = t.calcium(rng, 70, 400)
taus = rng.choice(np.float32([0.3, 1.0, 500.0]), 70)
assert np.array_equal(t.kernel_oasis(F, taus), t.oasis_cpu.oasis(F, taus))
own = rng.choice([0.0, 9.0], 70), rng.choice([0.0, 20.0], 70)
for each in ((), own):
    for calcium in (False, True):
        t.kernel_oasis(F, taus, of_each=each, calcium=calcium)
        t.kernel_oasis(F, np.full(70, np.float32(0.3)), 4, 100, 12, each, calcium)
assert t.kernel_penalties(F, taus, np.full(70, 20.0)).any()
for n_rois, n_hats, n_frames in ((1, 0, 1), (9, 3, 70)):
    factor, descent = t.overlapping(rng, n_rois, n_hats)
    x = rng.normal(size=(n_rois + n_hats, n_frames))
    t.kernel_descend(descent, x.copy(), t.kernel_solve(factor, x))
t.test_products_with_sparse_rows_are_scipys()
print("inside")
"""
    here = Path(__file__).parent
    path = os.pathsep.join(map(str, [here.parents[1], here.parent, here]))
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "inside\n", (result.returncode, result.stderr)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="no nvcc was found")
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_nvcc_compiles_the_kernels(tmp_path, architecture):
    source = tmp_path / "kernels.cu"
    source.write_text(gpu.kernel_source())
    command = [
        "nvcc",
        "--Werror",
        "all-warnings",
        f"-arch={architecture}",
        "-cubin",
        *gpu.OPTIONS,
    ]
    built = subprocess.run(
        [*command, "-Xptxas", "-v", "-o", str(tmp_path / "out"), str(source)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr
    for name in cuda_on_cpu.KERNELS:
        assert f"Compiling entry function '{name}'" in built.stderr
    # Each at once in registers and in what shared memory every device has.
    assert built.stderr.count("0 bytes spill stores") == len(cuda_on_cpu.KERNELS)


def nvrtc():
    """NVRTC as a toolkit or the wheel nvidia-cuda-nvrtc brings it; None without."""
    found = importlib.util.find_spec("nvidia")
    folders = list(found.submodule_search_locations or []) if found else []
    paths = [p for f in folders for p in glob.glob(f"{f}/**/libnvrtc.so*", recursive=True)]
    for path in [*paths, "libnvrtc.so", "libnvrtc.so.13", "libnvrtc.so.12"]:
        if "alt" not in os.path.basename(path):
            try:
                return ctypes.CDLL(path)
            except OSError:
                continue
    return None


def test_nvrtc_compiles_the_kernels():
    """As CuPy does, with its options; NVRTC needs no device."""
    library = nvrtc()
    if library is None:
        pytest.skip("no NVRTC was found: pip install nvidia-cuda-nvrtc has it, 58 MB")
    program = ctypes.c_void_p()
    source = gpu.kernel_source().encode()
    made = library.nvrtcCreateProgram(ctypes.byref(program), source, b"xs2p.cu", 0, None, None)
    assert made == 0
    options = [o.encode() for o in (*gpu.OPTIONS, "-ftz=true", "-arch=sm_90")]
    options.append(b"--device-as-default-execution-space")
    failed = library.nvrtcCompileProgram(
        program, len(options), (ctypes.c_char_p * len(options))(*options)
    )
    size = ctypes.c_size_t()
    library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    library.nvrtcGetProgramLog(program, log)
    assert failed == 0 and not log.value.strip(), log.value.decode()
    library.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    library.nvrtcGetPTX(program, ptx)
    for name in cuda_on_cpu.KERNELS:
        assert f".visible .entry {name}(".encode() in ptx.value
    # Contraction would change the last bit.
    assert b"fma.rn" not in ptx.value
