from __future__ import annotations

import subprocess
import sys

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import chunked_movies, raise_if_dask_computes, simulate, time_chunks


def test_simulated_recordings_do_not_depend_on_chunks():
    movie, rois, truth = simulate(n_rois=4, shape=(20, 25), n_frames=30)
    assert movie.dims == ("time", "y", "x") and movie.dtype == np.int16 and movie.chunks is None
    assert movie.attrs["fs"] == truth.attrs["fs"] == 30.0
    np.testing.assert_allclose(movie.time, np.arange(30) / 30)
    for chunks in (7, (1, 20, 9), 1, 30):
        with raise_if_dask_computes():
            lazy, same_rois, same_truth = simulate(4, (20, 25), 30, chunks=chunks)
        assert lazy.chunks is not None
        xr.testing.assert_identical(lazy.compute(), movie)
        xr.testing.assert_identical(same_rois, rois)
        xr.testing.assert_identical(same_truth, truth)
    again = simulate(4, (20, 25), 30, chunks=7)[0]
    assert again.data.name == simulate(4, (20, 25), 30, chunks=7)[0].data.name
    assert not simulate(4, (20, 25), 30, seed=1)[0].equals(movie)


def test_simulated_spikes_are_found_again():
    movie, rois, truth = simulate(n_rois=8, n_frames=600, chunks=100)
    found = movie.s2p.extract(rois, tau=1.0).spks.compute()
    assert truth.spikes.sum() > 40 and not truth.spikes[:, 0].any()
    for n in range(8):
        assert np.corrcoef(found[n], truth.spikes[n])[0, 1] > 0.95


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
@pytest.mark.parametrize(
    ("n_rois", "shape", "n_frames"), [(0, (5, 5), 3), (3, (1, 1), 1), (9, (7, 3), 2)]
)
def test_small_recordings(n_rois, shape, n_frames, dtype):
    movie, rois, truth = simulate(n_rois, shape, n_frames, dtype=dtype)
    assert movie.shape == (n_frames, *shape) and movie.dtype == dtype
    assert rois.sizes["roi"] == n_rois and truth.calcium.shape == (n_rois, n_frames)
    assert (rois.npix > 0).all()


@pytest.mark.parametrize(
    "options", [{"n_rois": -1}, {"n_frames": 0}, {"fs": 0.0}, {"tau": -1.0}, {"shape": (0, 4)}]
)
def test_impossible_recordings_are_named(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        simulate(**options)


def test_raise_if_dask_computes():
    array = da.ones(4, chunks=2)
    with pytest.raises(AssertionError, match="computed 1 times, allowed were 0"):
        with raise_if_dask_computes():
            array.sum().compute()
    with raise_if_dask_computes(max_computes=1):
        assert array.sum().compute() == 4
        with pytest.raises(AssertionError, match="computed 2 times"):
            array.compute()
    assert dask.config.get("scheduler", None) is None


@given(st.data())
def test_time_chunks_add_up(data):
    n = data.draw(st.integers(1, 40))
    chunks = data.draw(time_chunks(n))
    assert sum(chunks) == n and min(chunks) > 0
    assert all(type(size) is int for size in chunks)


@settings(max_examples=25, deadline=None)
@given(movie=chunked_movies(), cut_in_time=chunked_movies(whole_frames=True))
def test_chunked_movies_are_movies(movie, cut_in_time):
    assert movie.dims == ("time", "y", "x") and movie.chunks is not None
    assert movie.shape[1:] == (12, 15) and movie.attrs["fs"] > 0
    assert cut_in_time.data.numblocks[1:] == (1, 1)
    rois = xs2p.rois_from_stat([{"ypix": [3, 4], "xpix": [5, 5], "lam": [1, 1]}], (12, 15))
    masks = xs2p.build_masks(rois, min_neuropil_pixels=20)
    lazy, eager = (xs2p.extract_traces(m, masks).F for m in (movie, movie.compute()))
    np.testing.assert_allclose(lazy, eager, rtol=1e-6)


def test_import_is_light():
    code = (
        "import sys, xarray\n"
        "there = set(sys.modules)\n"
        "import xs2p.testing\n"
        "heavy = {'dask', 'numba', 'scipy', 'hypothesis', 'pytest'}\n"
        "print(sorted(heavy & set(sys.modules) - there))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
