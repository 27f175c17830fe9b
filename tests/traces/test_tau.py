"""Decay times: of indicators by name, and estimated from traces in any chunks."""

from __future__ import annotations

import naive_neuropil as naive
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate, time_chunks

FS, N = 10.0, 600
TAUS = np.array([0.4, 0.7, 1.0])


def traces(taus=TAUS, n_frames=N, seed=0, noise=0.2, rate=0.03):
    rng = np.random.default_rng(seed)
    F = np.zeros((len(taus), n_frames))
    spikes = rng.random(F.shape) < rate
    for t in range(1, n_frames):
        F[:, t] = F[:, t - 1] * np.exp(-1 / (np.asarray(taus) * FS)) + spikes[:, t]
    F += rng.normal(0, noise, F.shape)
    labels = {"roi": np.arange(5, 5 + len(taus))}
    return xr.DataArray(F.astype("f4"), labels, ("roi", "time"), attrs={"fs": FS})


@settings(max_examples=15, deadline=None)
@given(chunks=time_chunks(N), roi=st.sampled_from([-1, 1, 2]), cut=st.integers(100, N - 100))
def test_estimates_are_naive_in_any_chunks(chunks, roi, cut):
    F = traces(seed=cut)
    valid = np.random.default_rng(cut).random(N) > 0.1
    F[:, cut:] += 50  # another session has another level
    F = F.assign_coords(valid=("time", valid), segment=("time", np.arange(N) >= cut))
    found = xs2p.estimate_tau(F)
    seen = np.where(valid, F.values, np.nan)
    expected = [naive.tau(row, FS, (0, cut)) for row in seen]
    np.testing.assert_allclose(found.tau_of_roi, expected, rtol=1e-3)
    for name, share in (("tau", 50), ("tau_low", 25), ("tau_high", 75)):
        pooled = np.nanpercentile(expected, share)
        np.testing.assert_allclose(found[name], pooled, rtol=1e-3)
    assert list(found.tau_of_roi.roi) == [5, 6, 7] and found.tau.attrs["units"] == "s"
    lazy = F.chunk(time=chunks, roi=roi)
    with raise_if_dask_computes():
        later = lazy.s2p.estimate_tau()
    assert later.tau.chunks is not None
    xr.testing.assert_identical(later.compute(), found)


def test_a_known_decay_is_found_and_noise_does_not_shorten_it():
    for tau in (0.4, 0.8):
        F = traces([tau] * 12, 6000, noise=1.0)
        found = xs2p.estimate_tau(F)
        assert abs(float(found.tau) / tau - 1) < 0.15
        assert found.tau_low < found.tau < found.tau_high
        spks = xs2p.deconvolve(F, tau=found.tau)
        np.testing.assert_array_equal(spks, xs2p.deconvolve(F, tau=float(found.tau)))


def test_traces_without_a_decay_are_nan():
    F = traces([0.5, 0.5, 0.5])
    F[0], F[1] = 3.0, np.nan
    with pytest.warns(UserWarning, match="found a decay in 1 of 3 traces: .* may be noise"):
        found = xs2p.estimate_tau(F)
    assert np.isnan(found.tau_of_roi.values).tolist() == [True, True, False]
    assert found.tau == found.tau_of_roi[2]
    alternating = F.copy(data=np.tile([1.0, -1.0], (3, N // 2)).astype("f4"))
    with pytest.warns(UserWarning, match="in 0 of 3 traces"):
        assert np.isnan(xs2p.estimate_tau(alternating).tau)
    short = traces()[:, :3]
    for few, told in ((short, "3 frames"), (traces().assign_attrs(fs=1.0), "fs=1 Hz")):
        with pytest.raises(ValueError, match=f"{told}.*give tau in seconds"):
            xs2p.estimate_tau(few)


def test_a_decay_shorter_than_a_frame_is_told():
    F = traces()
    with pytest.warns(UserWarning, match=r"tau · fs is 0.5 frames \(0.05 s at 10 Hz\)"):
        xs2p.deconvolve(F, tau=0.05)
    some = xr.DataArray([0.5, 0.09, 1.0], dims="roi")
    with pytest.warns(UserWarning, match=r"tau · fs is 0.9 frames"):
        xs2p.deconvolve(F, tau=some)
    fast = traces([0.07] * 5, 8000, noise=0.0)
    with pytest.warns(UserWarning, match="tau · fs is 0"):
        found = xs2p.estimate_tau(fast)
    assert float(found.tau) < 0.1
    xs2p.deconvolve(F, tau=0.1)  # a warning would be an error


def test_indicators_have_a_paper_each():
    table = xs2p.indicators()
    assert {"GCaMP6f", "GCaMP6s", "jGCaMP8m"} <= set(table.indicator.values)
    assert all(doi.startswith("10.") for doi in table.doi.values)
    assert table.tau.attrs["units"] == "s" and ((table.tau > 0.05) & (table.tau < 2)).all()
    np.testing.assert_allclose(table.tau.sel(indicator="jGCaMP8m"), 0.1183 / np.log(2), atol=1e-3)


@pytest.mark.parametrize("name", ["jGCaMP8m", "GCaMP8m", "gcamp8m", "jGCaMP-8m", "GCAMP 8M"])
def test_tau_by_the_name_of_an_indicator(name):
    F = traces()
    spks = xs2p.deconvolve(F, tau=name)
    assert spks.attrs["tau"] == 0.171 and spks.attrs["indicator"] == "jGCaMP8m"
    np.testing.assert_array_equal(spks, xs2p.deconvolve(F, tau=0.171))


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("GCaMP8", "did you mean 'jGCaMP8[fms]'"),
        ("GCaMP6", "did you mean 'GCaMP6[fs]'"),
        ("aspirin", "takes GCaMP6f, .*or a number of seconds"),
        ("", "is no indicator"),
    ],
)
def test_unknown_indicators_are_told_with_the_nearest(name, told):
    with pytest.raises(ValueError, match=told):
        xs2p.deconvolve(traces(), tau=name)


def test_jobs_take_names_and_scalars(tmp_path):
    movie, rois, _ = simulate(3, (20, 24), 120, fs=10.0, chunks=50)
    options = {"win_baseline": 5.0, "min_neuropil_pixels": 50}
    ds = movie.s2p.extract(rois, tau="GCaMP6s", **options)
    assert ds.attrs["tau"] == 0.75 and ds.spks.attrs["indicator"] == "GCaMP6s"
    other = movie.s2p.extract(rois, tau=2.0, **options)
    again = other.s2p.reprocess(tau="gcamp6s")
    np.testing.assert_array_equal(again.spks, ds.spks)
    assert again.spks.attrs == ds.spks.attrs
    assert "indicator" not in ds.s2p.reprocess(tau=2.0).spks.attrs
    path = tmp_path / "a.zarr"
    stored = xs2p.extract_to_zarr(movie, rois, path, tau="GCaMP6s", progress=False, **options)
    np.testing.assert_array_equal(stored.spks, ds.spks)
    assert stored.spks.attrs == ds.spks.attrs
    found = xs2p.estimate_tau((ds.Fc - ds.F0).assign_attrs(fs=10.0))
    made = movie.s2p.extract(rois, tau=found.tau, **options)
    assert made.attrs["tau"] == float(found.tau)
    with pytest.raises(ValueError, match="GCaMP9.*did you mean"):
        movie.s2p.extract(rois, tau="GCaMP9")
