"""The noise of a trace, in any chunks, by segments, with frames that do not count."""

from __future__ import annotations

import naive_rolling as naive
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes, time_chunks

FS, N = 10.0, 400
WINDOW = 33  # 3.33 s


def traces(seed=0, n_rois=3):
    rng = np.random.default_rng(seed)
    F = 50 + 20 * (rng.random((n_rois, N)) < 0.05) + rng.normal(0, 3, (n_rois, N))
    F += 20 * np.sin(np.arange(N) / 60)
    return xr.DataArray(F.astype("f4"), dims=("roi", "time"), attrs={"fs": FS, "units": "photons"})


@settings(max_examples=8, deadline=None)
@given(chunks=time_chunks(N), roi=st.sampled_from([-1, 2]), cut=st.integers(1, N - 1))
def test_noise_is_naive_in_any_chunks(chunks, roi, cut):
    F = traces()
    np.testing.assert_allclose(xs2p.noise(F), naive.noise(F.values, WINDOW), rtol=1e-6)
    valid = np.random.default_rng(cut).random(N) > 0.2
    F = F.assign_coords(valid=("time", valid), segment=("time", np.arange(N) >= cut))
    seen = np.where(valid, F.values, np.nan)
    parts = [seen[:, :cut], seen[:, cut:]]
    apart = [np.abs(part - naive.rolling_percentile(part, WINDOW, 50)) for part in parts]
    for lazy in (False, True):
        given_ = F.chunk(time=chunks, roi=roi) if lazy else F
        with raise_if_dask_computes():
            whole, each = xs2p.noise(given_), given_.s2p.noise(by_segment=True)
        assert whole.dims == ("roi",) and each.dims == ("segment", "roi")
        assert whole.attrs["units"] == "photons" and whole.attrs["fs"] == FS
        expected = 1.4826 * np.nanmedian(np.concatenate(apart, axis=1), axis=1)
        np.testing.assert_allclose(whole, expected, rtol=1e-5)
        np.testing.assert_allclose(
            each, [naive.noise(part, WINDOW) for part in parts], rtol=1e-5, equal_nan=True
        )
        if lazy:
            np.testing.assert_array_equal(whole, xs2p.noise(F))
            np.testing.assert_array_equal(each, xs2p.noise(F, by_segment=True))


def test_noise_of_normal_noise_is_its_standard_deviation():
    rng = np.random.default_rng(1)
    F = xr.DataArray(rng.normal(100, 5, (4, 20000)), dims=("roi", "time"))
    np.testing.assert_allclose(xs2p.noise(F, fs=30.0), 5, rtol=0.03)


def test_noise_wants_traces_and_a_frame_rate():
    with pytest.raises(ValueError, match="fs is not known"):
        xs2p.noise(traces().drop_attrs())
    with pytest.raises(ValueError, match="takes a DataArray"):
        xs2p.noise(np.zeros((2, 3)))
    assert np.isnan(xs2p.noise(traces() * np.nan, fs=FS)).all()
