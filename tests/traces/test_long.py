"""Recordings of any length: chunks of time give what the whole trace gives, to the last bit."""

from __future__ import annotations

import importlib

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.stats
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate, time_chunks
from xs2p.traces import blocks
from xs2p.traces.baseline_methods import METHODS
from xs2p.traces.blocks import join

FS = 10.0
N = 3000
SHORT = {"win_baseline": 5.0, "sig_baseline": 3.0}


def traces(seed=0, n_frames=N):
    """Calcium with noise, and everything that has ever made a deconvolution go wrong."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(0, 1, n_frames)
    frames = np.arange(n_frames)
    spikes = rng.poisson(0.03, n_frames).astype(float)
    decay = np.exp(-frames[:200] / (0.3 * FS))
    calcium = np.convolve(spikes, decay)[:n_frames]
    kinds = [
        20 * calcium + noise,
        300 + 20 * calcium + noise,
        noise,
        1e6 + noise,
        -300 + noise,
        np.zeros(n_frames),
        np.full(n_frames, 7.0),
        np.full(n_frames, -7.0),
        100.0 - frames,
        frames - 100.0,
        np.exp(-frames / 3.0),
        np.where(frames % 2, 5.0, -5.0),
        np.where(frames == n_frames // 2, -1e9, noise),
        np.where(frames == n_frames // 2, 1e9, noise),
        np.where(frames == n_frames // 3, 1e6, 0.0),
        np.where(frames < n_frames // 2, noise, 0.0),
        np.where(frames == n_frames // 2, np.nan, noise),
        np.where(frames == 0, np.nan, noise),
        np.full(n_frames, np.nan),
    ]
    return xr.DataArray(
        np.array(kinds, np.float32),
        dims=("roi", "time"),
        coords={"roi": np.arange(len(kinds)), "time": frames / FS},
        attrs={"fs": FS},
        name="Fc",
    )


@pytest.mark.parametrize("method", METHODS)
@settings(max_examples=6, deadline=None)
@given(chunks=time_chunks(N), roi=st.sampled_from([-1, 5, 1]))
def test_baseline_of_chunked_traces_is_that_of_whole_ones(method, chunks, roi):
    F = traces()
    whole = xs2p.baseline(F, method, **SHORT)
    lazy = F.chunk(time=chunks, roi=roi)
    with raise_if_dask_computes():
        F0 = xs2p.baseline(lazy, method, **SHORT)
    assert F0.dtype == np.float32 and F0.shape == F.shape
    np.testing.assert_array_equal(F0, whole)


@pytest.mark.filterwarnings("ignore:tau · fs is")
@settings(max_examples=20, deadline=None)
@given(
    chunks=time_chunks(N),
    roi=st.sampled_from([-1, 5]),
    tau=st.sampled_from([0.05, 0.3, 0.7]),
    seed=st.integers(0, 99),
)
def test_oasis_of_chunked_traces_is_that_of_whole_ones(chunks, roi, tau, seed):
    F = traces(seed)
    whole = xs2p.deconvolve(F, tau=tau)
    lazy = F.chunk(time=chunks, roi=roi)
    with raise_if_dask_computes():
        spks = xs2p.deconvolve(lazy, tau=tau)
    np.testing.assert_array_equal(spks, whole)
    taus = xr.DataArray(np.linspace(0.05, tau, F.sizes["roi"]), dims="roi")
    np.testing.assert_array_equal(xs2p.deconvolve(lazy, tau=taus), xs2p.deconvolve(F, tau=taus))


def test_oasis_needs_what_it_sees_of_its_neighbours(monkeypatch):
    """The test above can fail: with 3 · tau · fs frames on each side, samples differ."""
    F = traces()
    whole = xs2p.deconvolve(F, tau=0.7)
    module = importlib.import_module("xs2p.traces.deconvolve")
    monkeypatch.setattr(module, "oasis_reach", lambda tau_fs: 3 * 7)
    assert (xs2p.deconvolve(F.chunk(time=300), tau=0.7) != whole).any()


def test_chunks_are_joined_with_neighbours_and_repeat_less_than_a_third():
    F = traces().chunk(time=50, roi=4)
    reach = 56 * 3
    spks = xs2p.deconvolve(F, tau=0.3)
    frames = spks.chunksizes["time"]
    assert len(frames) > 1 and 2 * reach * (len(frames) - 1) < N / 3
    assert spks.chunksizes["roi"] == F.chunksizes["roi"]
    long = F.chunk(time=1500)
    assert xs2p.deconvolve(long, tau=0.3).chunksizes["time"] == long.chunksizes["time"]
    # A decay that nothing fits beside: one chunk.
    assert xs2p.deconvolve(F, tau=30.0).chunksizes["time"] == (N,)


@settings(max_examples=10, deadline=None)
@given(chunks=time_chunks(N), roi=st.sampled_from([-1, 5]))
def test_quality_of_chunked_traces(chunks, roi):
    F = traces()
    for name in ("snr", "skew", "std"):
        whole = getattr(xs2p, name)(F)
        with raise_if_dask_computes():
            lazy = getattr(xs2p, name)(F.chunk(time=chunks, roi=roi))
        np.testing.assert_allclose(lazy, whole, rtol=1e-9, atol=1e-9)


def test_moments_are_stable():
    rng = np.random.default_rng(1)
    x = (1e4 + rng.gamma(1.0, 1.0, (2, 10**6))).astype(np.float32)
    F = xr.DataArray(x, dims=("roi", "time"))
    x = x.astype(np.float64)
    expected = {
        "std": x.std(axis=1),
        "skew": scipy.stats.skew(x, axis=1),
        "snr": 1 - 0.5 * np.diff(x, axis=1).var(axis=1) / x.var(axis=1),
    }
    for name, values in expected.items():
        for chunks in (None, {"time": 777}, {"time": 10**5, "roi": 1}):
            some = F if chunks is None else F.chunk(chunks)
            result = getattr(xs2p, name)(some)
            # snr of this trace is nearly 0: a difference of two ones.
            np.testing.assert_allclose(result, values, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("chunk", [37, 400, 2500])
def test_extract_of_a_long_movie_equals_that_in_memory(method, chunk, monkeypatch):
    monkeypatch.setattr(blocks, "SAMPLES", 0)
    movie, rois, _ = simulate(8, (40, 44), 2500, fs=FS)
    options = {"tau": 0.3, "baseline": method, "min_neuropil_pixels": 50, **SHORT}
    expected = movie.s2p.extract(rois, **options)
    with raise_if_dask_computes():
        ds = movie.chunk(time=chunk).s2p.extract(rois, **options)
    for name in ("F", "Fneu", "Fc", "F0", "spks"):
        np.testing.assert_array_equal(ds[name], expected[name])


@settings(max_examples=100, deadline=None)
@given(
    frames=st.lists(st.integers(1, 60), min_size=1, max_size=30),
    reach=st.integers(0, 40),
    samples=st.integers(0, 500),
)
def test_joined_chunks_are_even_and_long_enough(frames, reach, samples):
    joined = join(da.zeros((1, sum(frames)), chunks=(1, tuple(frames))), reach, samples).chunks[-1]
    assert sum(joined) == sum(frames)
    assert set(joined[:-1]) <= {joined[0]} and joined[-1] <= joined[0]
    if len(joined) > 1:
        assert joined[-1] >= reach and joined[0] > max(6 * reach, samples)
    if len(joined) == 1 and reach == 0:
        assert sum(frames) <= max(samples + 1, *frames)


@pytest.mark.parametrize("chunk", [50, 499, (700, 41, 1, 758, 1000)])
def test_a_lazy_result_goes_to_zarr_as_it_is(chunk, monkeypatch, tmp_path):
    monkeypatch.setattr(blocks, "SAMPLES", 0)
    movie, rois, _ = simulate(8, (40, 44), 2500, fs=FS)
    ds = movie.chunk(time=chunk).s2p.extract(rois, tau=0.1, min_neuropil_pixels=50, **SHORT)
    assert ds.F.data.numblocks[-1] > 1
    ds.to_zarr(tmp_path / "traces.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "traces.zarr", consolidated=False) as stored:
        for name, array in ds.items():
            np.testing.assert_array_equal(stored[name], array)


def feeds(array):
    """Which chunks of the movie each chunk of a result is made from."""
    graph = dict(array.__dask_graph__())
    needs = {key: set(dask.core.get_dependencies(graph, key)) for key in graph}
    known = {}

    def sources(key):
        if key not in known:
            name = key[0] if isinstance(key, tuple) else str(key)
            known[key] = {key[1]} if name == "source" else set()
            for needed in needs[key]:
                known[key] |= sources(needed)
        return known[key]

    return [sources(key) for key in dask.core.flatten(array.__dask_keys__())]


@pytest.mark.parametrize("method", ["maximin", "maximin_legacy", "none"])
def test_extract_is_one_pass_without_a_rechunk_of_everything(method, monkeypatch):
    monkeypatch.setattr(blocks, "SAMPLES", 0)
    some, rois, _ = simulate(8, (40, 44), 1, fs=FS)
    n_frames, chunk = 60_000, 500
    frames = da.from_array(
        np.broadcast_to(some.values, (n_frames, 40, 44)), (chunk, 40, 44), name="source"
    )
    movie = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": FS})
    ds = movie.s2p.extract(
        rois, tau=0.3, baseline=method, min_neuropil_pixels=50, win_baseline=60.0
    )
    # A chunk of F holds its own frames; one of spks sees two neighbours on each side.
    for name, most in (("F", 1), ("spks", 5)):
        size = max(ds[name].chunksizes["time"])
        assert n_frames / size > 6
        assert all(len(made_from) * chunk <= most * size for made_from in feeds(ds[name].data))
    for name in ds.data_vars:
        assert not any("p2p" in layer for layer in ds[name].data.dask.layers)
