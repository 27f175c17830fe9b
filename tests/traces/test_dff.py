"""dF/F: guarded by the noise, flagged, in any chunks, of segments, for both polarities."""

from __future__ import annotations

import naive_rolling
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes, time_chunks
from xs2p.traces.baseline_methods import METHODS
from xs2p.traces.bleaching import fit_double_exponential, trend

FS, N = 10.0, 500
SHORT = {"win_baseline": 4.0, "sig_baseline": 2.0}
WINDOW = 33


def array(values, **coords):
    return xr.DataArray(
        np.asarray(values, np.float32), dims=("roi", "time"), coords=coords, attrs={"fs": FS}
    )


def traces(seed=0, n_rois=5):
    """Transients on a level that is far above 0, near it, and below, of each ROI."""
    rng = np.random.default_rng(seed)
    spikes = rng.poisson(0.03, (n_rois, N)).astype(float)
    for t in range(1, N):
        spikes[:, t] += 0.9 * spikes[:, t - 1]
    level = np.array([200, 60, 8, 1, -20.0])[:n_rois, None]
    return array(level + 25 * spikes + rng.normal(0, 3, (n_rois, N)))


def naive_dff(F, F0):
    """Of one segment, float64; NaN does not count."""
    sigma = naive_rolling.noise(F.astype(float), WINDOW)
    divisor = np.maximum(F0, sigma[:, None])
    return (F.astype(float) - F0) / np.where(divisor > 0, divisor, np.nan), sigma


def naive_flags(F, dFF, F0, sigma):
    known = ~np.isnan(F)
    flags = 1 * ((F0 <= 0) & known).any(axis=1)
    flags += 2 * (((F0 < sigma) & known).sum(axis=1) > 0.01 * known.sum(axis=1))
    return flags + 8 * (np.abs(np.where(known, dFF, 0)) > 10).any(axis=1)


@settings(max_examples=10, deadline=None)
@given(
    chunks=time_chunks(N),
    roi=st.sampled_from([-1, 2]),
    seed=st.integers(0, 99),
    cut=st.integers(1, N - 1),
)
def test_dff_is_naive_in_any_chunks(chunks, roi, seed, cut):
    rng = np.random.default_rng(seed)
    valid = rng.random(N) > 0.1
    valid[50:120] = seed % 3 == 0
    F = traces(seed).assign_coords(
        valid=("time", valid), segment=("time", (np.arange(N) >= cut).astype(int))
    )
    F0 = xs2p.baseline(F, **SHORT)
    dFF = xs2p.dff(F, F0)
    assert dFF.name == "dFF" and dFF.dtype == np.float32 and dFF.attrs["units"] == "1"
    seen, sigmas, expected = np.where(valid, F.values, np.nan), [], []
    for part in (slice(0, cut), slice(cut, N)):
        change, sigma = naive_dff(seen[:, part], F0.values[:, part])
        expected.append(change)
        sigmas.append(np.broadcast_to(sigma[:, None], change.shape))
    expected, sigmas = np.concatenate(expected, 1), np.concatenate(sigmas, 1)
    np.testing.assert_allclose(dFF, expected, rtol=2e-5, atol=1e-6)
    assert np.isnan(dFF[:, ~valid]).all()
    np.testing.assert_array_equal(dFF.noise, xs2p.noise(F))
    np.testing.assert_array_equal(dFF.dff_flag, naive_flags(seen, expected, F0.values, sigmas))
    lazy = F.chunk(time=chunks, roi=roi)
    with raise_if_dask_computes():
        some = lazy.s2p.dff(xs2p.baseline(lazy, **SHORT))
    assert some.chunks is not None
    xr.testing.assert_identical(some.compute(), dFF)


def test_a_joined_recording_is_its_parts():
    F = traces(3).assign_coords(segment=("time", np.repeat([0, 1, 2], [180, 20, 300])))
    whole = xs2p.dff(F, xs2p.baseline(F, **SHORT))
    for label in range(3):
        frames = (F["segment"] == label).values
        alone = F[:, frames].drop_vars("segment")
        dFF = xs2p.dff(alone, xs2p.baseline(alone, **SHORT))
        np.testing.assert_array_equal(whole[:, frames], dFF)


def test_each_flag_tells_of_its_own_kind():
    rng = np.random.default_rng(0)
    F = np.tile(100 + rng.normal(0, 2, N), (6, 1))
    F0 = np.full((6, N), 100.0)
    F0[1, 7] = 0.0  # not above 0, in one frame
    F0[2, :4] = 0.5  # below the noise in less than 1 % of the frames
    F0[3, :6] = 0.5  # and in more
    F[4, 9] = 1200.0  # 11 times
    ratio = xr.DataArray([0, 0, 0, 0, 0, 0.91], dims="roi")
    dFF = xs2p.dff(array(F), array(F0), neuropil_ratio=ratio)
    # A baseline that is near 0 lets dFF be high too.
    assert dFF.dff_flag.values.tolist() == [0, 9, 8, 10, 8, 4]
    named = dict(zip(dFF.dff_flag.flag_masks, dFF.dff_flag.flag_meanings.split(), strict=True))
    assert named[1] == "F0_not_positive" and named[8] == "dFF_above_10" and len(named) == 4
    assert xs2p.dff(array(F), array(F0)).dff_flag.values.tolist() == [0, 9, 8, 10, 8, 0]
    # Where a frame does not count, nothing is found in it.
    valid = np.ones(N, bool)
    valid[:10] = False
    quiet = xs2p.dff(array(F).assign_coords(valid=("time", valid)), array(F0))
    assert quiet.dff_flag.values.tolist() == [0] * 6


def test_traces_without_light_or_noise_do_not_become_infinite():
    F = array(np.stack([np.zeros(N), np.full(N, 5.0), np.full(N, np.nan), np.full(N, -5.0)]))
    dFF = xs2p.dff(F, F.copy())
    assert np.isnan(dFF[[0, 2, 3]]).all() and (dFF[1] == 0).all()
    assert dFF.dff_flag.values.tolist() == [1, 0, 0, 3]
    assert np.isnan(dFF.noise[2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("detrend", [None, "exponential"])
def test_polarity_turns_all_of_it(method, detrend):
    if method == "none" and detrend:
        return
    F = traces(1)[:2] * np.exp(-np.arange(N) / 400).astype(np.float32)
    F.attrs["fs"] = FS
    options = {**SHORT, "detrend": detrend}
    F0 = xs2p.baseline(F, method, **options)
    turned = xs2p.baseline(-F, method, polarity=-1, **options)
    np.testing.assert_array_equal(turned, -F0)
    assert turned.attrs["polarity"] == -1 and "polarity" not in F0.attrs
    up = xs2p.preprocess(F, method, **options)
    np.testing.assert_array_equal(xs2p.preprocess(-F, method, polarity=-1, **options), up)
    if method == "none":
        return
    dFF = xs2p.dff(F, F0)
    other = xs2p.dff(-F, turned)  # the baseline says the polarity
    np.testing.assert_array_equal(other, dFF)
    np.testing.assert_array_equal(other.dff_flag, dFF.dff_flag)
    np.testing.assert_array_equal(xs2p.dff(-F, turned, polarity=-1), dFF)
    spks = xs2p.deconvolve(F - F0, tau=0.5, fs=FS)
    np.testing.assert_array_equal(xs2p.deconvolve(-F - turned, tau=0.5, fs=FS, polarity=-1), spks)


def test_an_indicator_that_darkens():
    """Recorded as it is: light above 0, events downwards."""
    up = traces(2)[:1] - 200
    F = (300 - up).assign_attrs(fs=FS)
    F0 = xs2p.baseline(F, "rolling_prctile", polarity=-1, **SHORT)
    assert ((F0 > F.median("time")) & (F0 < F.max("time"))).mean() > 0.95
    dFF = xs2p.dff(F, F0)
    assert dFF.max() > 0.05 and dFF.max() > -2 * dFF.min() and (dFF.dff_flag == 0).all()
    np.testing.assert_allclose(dFF, (F0 - F) / F0, rtol=1e-5, atol=1e-6)


def test_bleaching_is_divided_off_each_segment():
    rng = np.random.default_rng(0)
    t = np.arange(N) / FS
    fade = 0.3 + 0.5 * np.exp(-t / 20) + 0.2 * np.exp(-t / 3)
    F = array(np.stack([400 * fade + rng.normal(0, 2, N), rng.normal(-50, 2, N)]))
    F0 = xs2p.baseline(F, "prctile", prctile_baseline=50, detrend="exponential")
    assert F0.attrs["detrend"] == "exponential"
    np.testing.assert_allclose(F0[0], 400 * fade, rtol=0.01)
    np.testing.assert_array_equal(F0[1], xs2p.baseline(F, "prctile", prctile_baseline=50)[1])
    cut = 200
    joined = F.assign_coords(segment=("time", np.arange(N) >= cut))
    whole = xs2p.baseline(joined, detrend="exponential", **SHORT)
    for part in (slice(0, cut), slice(cut, None)):
        some = F[:, part]
        alone = xs2p.baseline(some, detrend="exponential", **SHORT)
        np.testing.assert_array_equal(whole[:, part], alone)
        shape = trend(fit_double_exponential(some.values, FS), np.arange(some.sizes["time"]), FS)
        shape = (shape / shape[:, :1])[:1]
        by_hand = xs2p.baseline(some[:1] / shape, fs=FS, **SHORT) * shape
        np.testing.assert_allclose(alone[:1], by_hand, rtol=1e-5)
    lazy = xs2p.baseline(joined.chunk(time=37, roi=1), detrend="exponential", **SHORT)
    np.testing.assert_array_equal(lazy, whole)
    # Also where activity darkens, recorded as it is or turned.
    dips = F[:1] - 60 * array(rng.random((1, N)) < 0.1).values
    dips.attrs["fs"] = FS
    top = xs2p.baseline(dips, "rolling_median", detrend="exponential", polarity=-1, **SHORT)
    np.testing.assert_allclose(top[0], 400 * fade, rtol=0.02)


def test_what_does_not_fit_is_refused():
    F = traces()
    F0 = xs2p.baseline(F, **SHORT)
    for arguments, options, message in (
        ((F, F0[:, :-1]), {}, "same ROIs and frames"),
        ((F.assign_coords(roi=range(5)), F0.assign_coords(roi=range(1, 6))), {}, "labels of roi"),
        ((F, F0), {"polarity": 0}, "polarity must be 1, or -1"),
        ((F.drop_attrs(), F0), {}, "fs is not known"),
        ((F, F0), {"neuropil_ratio": 0.5}, "neuropil_ratio must be a DataArray"),
        ((F.values, F0), {}, "takes a DataArray"),
    ):
        with pytest.raises(ValueError, match=message):
            xs2p.dff(*arguments, **options)
    with pytest.raises(ValueError, match="unknown detrend 'linear'; choose exponential or none"):
        xs2p.baseline(F, detrend="linear")
    with pytest.raises(ValueError, match="plays no part in the baseline 'none'"):
        xs2p.baseline(F, "none", detrend="exponential")
    with pytest.raises(ValueError, match="polarity must be"):
        xs2p.baseline(F, polarity=2)
