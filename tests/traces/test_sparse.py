"""Smallest spikes, penalties and fitted calcium: naive versions, oasis-deconv's numbers, chunks."""

from __future__ import annotations

from pathlib import Path

import naive
import numpy as np
import pytest
import xarray as xr
from gpu_checks import clean_decays
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes
from xs2p.traces import oasis_cpu, sparse_cpu
from xs2p.traces.decays import decay_length

FS = 10.0
KEPT = Path(__file__).parents[1] / "data" / "oasis_deconv_sparse.npz"
WAYS = ({}, {"s_min": 0.5}, {"penalty": 0.4}, {"penalty": "noise"})


def calcium(rng, n_rois, n_frames, tau_fs=3.0, noise=0.3):
    c = rng.poisson(0.04, (n_rois, n_frames)) * rng.uniform(0.5, 2, (n_rois, n_frames))
    for t in range(1, n_frames):
        c[:, t] += np.exp(-1 / tau_fs) * c[:, t - 1]
    return (c + rng.normal(0, noise, c.shape)).astype(np.float32)


def traces(seed=0, n_rois=5, n_frames=4000):
    F = calcium(np.random.default_rng(seed), n_rois, n_frames)
    return xr.DataArray(F, dims=("roi", "time"), coords={"roi": range(n_rois)}, attrs={"fs": FS})


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 120),
    st.sampled_from([0.3, 3.0, 30.0]),
    st.sampled_from([(0, 0), (0.5, 0), (0, 0.4), (0, 3.0), (0.2, 0.2)]),
    st.booleans(),
    st.integers(0, 999),
)
def test_sparse_spikes_are_those_of_the_naive_version(n_frames, tau_fs, how, holed, seed):
    rng = np.random.default_rng(seed)
    F = calcium(rng, 1, n_frames, tau_fs)[0] + np.float32(rng.choice([-0.5, 0, 1]))
    F[rng.random(n_frames) < 0.1 * holed] = np.nan
    c, s = naive.sparse(F, tau_fs, *how)
    scale = 1e-6 * max(1, np.nanmax(np.abs(c), initial=0))
    tau_fs = np.float32(tau_fs)
    if not holed or tau_fs > 1:  # else a gap may be long enough to be told from 0
        np.testing.assert_allclose(sparse_cpu.sparse(F, tau_fs, *how), s, rtol=0, atol=scale)
        found = sparse_cpu.sparse(F, tau_fs, *how, calcium=True)
        np.testing.assert_allclose(found, c, rtol=0, atol=scale)


@pytest.mark.parametrize("holed", [False, True])
def test_penalty_is_that_of_the_naive_version(holed):
    rng = np.random.default_rng(0)
    F = calcium(rng, 6, 300)
    F[rng.random(F.shape) < 0.2 * holed] = np.nan
    sigma = np.array([0.3, 0.25, 0.4, 0.01, 0.3, 0.3])
    found = sparse_cpu.penalties(F, np.float32(3), sigma)
    for trace, level, penalty in zip(F, sigma, found, strict=True):
        np.testing.assert_allclose(penalty, naive.penalty(trace, 3.0, level), rtol=1e-6, atol=1e-9)
    assert found[3] == 0 and (found > 0.1).sum() >= 4  # more is left than so little noise


def test_a_penalty_that_is_too_large_is_made_smaller(monkeypatch):
    F, tau_fs, sigma = clean_decays()
    found = sparse_cpu.penalties(F, tau_fs, sigma)
    tried, pools = [], sparse_cpu._pools

    def watched(trace, tau, penalty, *rest):
        tried.append(penalty)
        return pools(trace, tau, penalty, *rest)

    monkeypatch.setattr(sparse_cpu, "_pools", watched)
    back = []
    for n in range(len(F)):
        tried.clear()
        room = np.empty(61), np.empty(61), np.empty(61, np.int64)
        table = np.empty(decay_length(tau_fs, 60))
        assert sparse_cpu._penalty.py_func(F[n], tau_fs, sigma[n], table, *room) == found[n]
        if (np.diff(tried) < 0).any():
            back.append(n)
    assert len(back) >= 5
    for n in back[:2]:
        np.testing.assert_allclose(found[n], naive.penalty(F[n], 20.0, sigma[n]), rtol=1e-5)


def test_penalty_of_odd_traces_is_a_number():
    F = np.stack([np.zeros(50), np.full(50, np.nan), np.ones(50), -np.ones(50)]).astype(np.float32)
    F = np.concatenate([F, np.random.default_rng(0).normal(size=(1, 50)).astype(np.float32)])
    found = sparse_cpu.penalties(F, np.float32(3), np.array([0.0, np.nan, 0.5, 0.1, 2.0]))
    assert np.isfinite(found).all() and (found[[0, 1, 3]] == 0).all()
    assert not sparse_cpu.sparse(F[4], np.float32(3), found[4], 0.0).any()  # all of it is noise


def test_numbers_of_oasis_deconv():
    with np.load(KEPT) as kept:
        z = dict(kept)
    tau = float(z["tau"])

    def found(F, **how):
        F = xr.DataArray(F, dims=("roi", "time"))
        return xs2p.deconvolve(F, tau=tau, fs=1.0, return_denoised=True, **how)

    close = {"rtol": 0, "atol": 2e-6}
    for F, holed in ((z["F"], ""), (z["holed"], "_holed")):
        for name, how in (("s_min", {"s_min": 0.5}), ("penalty", {"penalty": 0.8})):
            ds = found(F, **how)
            c = np.where(np.isnan(F), np.nan, z[f"c_{name}{holed}"])  # which it fills gaps with
            np.testing.assert_allclose(ds.denoised, c, **close)
            known = ~np.isnan(ds.spks.values)
            expected = z[f"s_{name}{holed}"]
            np.testing.assert_allclose(ds.spks.values[known], expected[known], **close)
    for n, trace in enumerate(z["F"]):  # its own steps end where the sum is within 0.3 %
        ds = found(trace[None], penalty=float(z["lam"][n]))
        np.testing.assert_allclose(ds.spks[0], z["s_noise"][n], **close)
        np.testing.assert_allclose(ds.denoised[0], z["c_noise"][n], **close)
    sigma = np.full(4, float(z["sigma"]))
    penalties = sparse_cpu.penalties(z["F"], np.float32(tau), sigma)
    far = np.sort(np.abs(penalties / z["lam"] - 1))
    assert (far < [1e-6, 1e-4, 1e-4, 0.02]).all()


def test_what_is_left_has_the_variance_of_the_noise_in_each_segment():
    F = traces().assign_coords(segment=("time", np.repeat(["a", "b"], [1500, 2500])))
    F[:, 1500:] *= 3
    F[:, ::7] = np.nan
    ds = xs2p.deconvolve(F, tau=0.3, penalty="noise", return_denoised=True)
    left = ((F - ds.denoised) ** 2).groupby("segment").mean("time")
    sigma = xs2p.noise(F, by_segment=True)
    np.testing.assert_allclose(left.transpose("segment", "roi"), sigma**2, rtol=1e-5)


def test_fitted_calcium_is_what_spks_are_the_rises_of():
    F = traces() - 0.1
    F[1, 50:60], F[2, ::9], F[3, :40] = np.nan, np.nan, np.nan
    for how in WAYS:
        ds = xs2p.deconvolve(F, tau=0.3, return_denoised=True, **how)
        assert set(ds) == {"spks", "denoised"} and ds.denoised.dims == ("roi", "time")
        xr.testing.assert_identical(ds.spks, xs2p.deconvolve(F, tau=0.3, **how))
        c, s = ds.denoised.values.astype(float), ds.spks.values.astype(float)
        rises = c[:, 1:] - np.exp(-1 / np.float64(np.float32(3.0))) * c[:, :-1]
        both = ~np.isnan(rises)
        np.testing.assert_allclose(s[:, 1:][both], rises[both], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(np.isnan(c), np.isnan(F))


def test_fitted_calcium_is_nearer_to_the_truth_than_the_trace_and_sparse_is_nonnegative():
    rng = np.random.default_rng(0)
    truth = calcium(rng, 4, 3000, noise=0)
    F = xr.DataArray(truth + rng.normal(0, 0.3, truth.shape).astype("f4"), dims=("roi", "time"))
    far = []
    for how in WAYS:
        c = xs2p.deconvolve(F, tau=0.3, fs=FS, return_denoised=True, **how).denoised
        far.append(float(((c - truth) ** 2).mean()))
        assert not how or c.min() >= 0
    assert far[1] < far[0] < 0.09 / 2  # a penalty makes it smaller than it is
    assert (xs2p.deconvolve(F, tau=0.3, fs=FS, s_min=0.5).values[:, 1:] > 0).mean() < 0.05


@pytest.mark.parametrize("chunks", [{"roi": 2, "time": -1}, {"time": 97}, {"roi": 3, "time": 1301}])
@pytest.mark.parametrize("how", WAYS)
def test_chunks_change_no_bit(how, chunks):
    F = traces(1) + 0.2 * (np.arange(5)[:, None] == 4)
    F[1, ::5], F[2, 700:1000], F[3] = np.nan, np.nan, 0.2  # the last may saw for ever
    F = F.assign_coords(segment=("time", (np.arange(4000) > 2500).astype(int)))
    F = F.assign_coords(valid=("time", np.arange(4000) % 250 != 3))
    taus = xr.DataArray(np.linspace(0.1, 0.4, 5), dims="roi")
    for tau in (0.3, taus):
        eager = xs2p.deconvolve(F, tau=tau, return_denoised=True, **how)
        with raise_if_dask_computes():
            lazy = xs2p.deconvolve(F.chunk(chunks), tau=tau, return_denoised=True, **how)
        xr.testing.assert_identical(lazy.compute(), eager)


def test_what_is_before_a_long_gap_does_not_see_what_is_behind():
    """A value below 0 behind the gap took part of the last pool before it with it."""
    F = traces(2, 3, 400)
    F[:, 200:300], F[:, 199], F[:, 300:] = np.nan, 2.0, -0.5
    for how in WAYS[:3]:
        whole = xs2p.deconvolve(F, tau=0.3, **how)
        np.testing.assert_array_equal(
            whole[:, :199], xs2p.deconvolve(F[:, :300], tau=0.3, **how)[:, :199]
        )
        assert (whole[:, 199] > 1).all()


def test_calcium_of_traces_that_go_down_lies_along_them():
    F = traces()
    down = xs2p.deconvolve(-F, tau=0.3, polarity=-1, return_denoised=True)
    up = xs2p.deconvolve(F, tau=0.3, return_denoised=True)
    np.testing.assert_array_equal(down.spks, up.spks)
    np.testing.assert_array_equal(down.denoised, -up.denoised)


def test_smallest_spikes_may_be_of_each_roi():
    F = traces()
    each = xr.DataArray([np.nan, 0.3, 0.5, 1.0, 9.0], dims="roi")
    spks = xs2p.deconvolve(F, tau=0.3, s_min=each)
    for n, s_min in enumerate(each.values):
        if s_min > 0:
            alone = xs2p.deconvolve(F[[n]], tau=0.3, s_min=s_min)
            np.testing.assert_array_equal(spks[[n]], alone)
    assert "s_min" in spks.attrs and not spks[4].any() and spks[0].isnull().all()


def test_calcium_of_leading_dims_and_of_one_trace():
    F = traces()
    stacked = xr.concat([F, 2 * F], "channel")
    for how in WAYS:
        ds = xs2p.deconvolve(F, tau=0.3, return_denoised=True, **how)
        both = xs2p.deconvolve(stacked, tau=0.3, return_denoised=True, **how)
        np.testing.assert_array_equal(both.denoised[0], ds.denoised)
        one = xs2p.deconvolve(F[2], tau=0.3, return_denoised=True, **how)
        np.testing.assert_array_equal(one.denoised, ds.denoised[2])
        np.testing.assert_array_equal(one.spks, ds.spks[2])
        lazy = xs2p.deconvolve(F[2].chunk(time=700), tau=0.3, return_denoised=True, **how)
        xr.testing.assert_identical(lazy.compute(), one)
        lazy = xs2p.deconvolve(stacked.chunk(roi=2), tau=0.3, return_denoised=True, **how)
        xr.testing.assert_identical(lazy.compute(), both)
    assert oasis_cpu.calcium(np.zeros((0, 5), np.float32), np.float32(1)).shape == (0, 5)
    assert sparse_cpu.sparse(np.zeros((0, 5), np.float32), np.float32(1), 0.0, 1.0).shape == (0, 5)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"penalty": "much"}, "penalty must be 'noise', a number .* got 'much'"),
        ({"penalty": -1.0}, "penalty must be a number of the units of F, 0 or more"),
        ({"s_min": -1.0}, "s_min must be a number"),
        ({"s_min": 1.0, "penalty": "noise"}, "give one"),
        ({"s_min": xr.DataArray([1.0, 2.0], dims="roi")}, "one value per roi"),
        ({"s_min": xr.DataArray([1.0, -2.0, 0, 0, 0], dims="roi")}, "-2.0 for the ROI at .* 1"),
        (
            {"s_min": xr.DataArray(np.ones(5), {"roi": range(1, 6)}, "roi")},
            "roi labels of s_min are not those",
        ),
        ({"return_denoised": "yes"}, "return_denoised must be True or False"),
    ],
)
def test_what_does_not_fit_is_told(how, message):
    with pytest.raises(ValueError, match=message):
        xs2p.deconvolve(traces(n_frames=20), tau=0.3, **how)


def test_attributes_say_what_was_done():
    ds = xs2p.deconvolve(traces(n_frames=60), tau=0.3, penalty="noise", return_denoised=True)
    for name in ds:
        assert ds[name].attrs["penalty"] == "noise" and ds[name].attrs["tau"] == 0.3
    assert "no count of spikes" in ds.spks.attrs["description"]
    again = xs2p.deconvolve(ds.denoised, tau=0.3)
    assert "penalty" not in again.attrs and ds.attrs["fs"] == FS
