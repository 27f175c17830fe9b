"""Frames that do not count, and segments that stand by themselves, in every step on traces."""

from __future__ import annotations

from pathlib import Path

import naive
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

import xs2p
from xs2p.testing import raise_if_dask_computes, time_chunks
from xs2p.traces import blocks
from xs2p.traces.baseline_methods import METHODS
from xs2p.traces.pieces import bridge

FS = 10.0
N = 900
SHORT = {"win_baseline": 3.0, "sig_baseline": 2.0}
OASIS = Path(__file__).parents[1] / "data" / "oasis_deconv_nan.npz"


def traces(seed=0, n_rois=5):
    rng = np.random.default_rng(seed)
    spikes = rng.poisson(0.03, (n_rois, N)).astype(float)
    for t in range(1, N):
        spikes[:, t] += 0.9 * spikes[:, t - 1]
    F = 100 + 20 * spikes + rng.normal(0, 3, spikes.shape) + np.arange(N) / 30
    return xr.DataArray(
        F.astype(np.float32),
        dims=("roi", "time"),
        coords={"roi": np.arange(n_rois) * 3, "time": np.arange(N) / FS},
        attrs={"fs": FS},
        name="F",
    )


def holes(seed):
    """Some frames, short gaps, a gap longer than any filter, and one at an end."""
    rng = np.random.default_rng(seed)
    valid = rng.random(N) > 0.1
    for length in (5, 30, 200):
        start = rng.integers(-length // 2, N)
        valid[max(start, 0) : start + length] = False
    valid[rng.integers(0, N, 3)] = True
    return valid


def borders(seed):
    """Labels of some segments, the last of few frames."""
    cuts = np.sort(np.random.default_rng(seed).integers(1, N - 10, 3))
    return np.digitize(np.arange(N), [*cuts, N - 5])


def steps(F):
    for method in METHODS:
        yield xs2p.baseline(F, method, **SHORT)
    yield xs2p.deconvolve(F, tau=0.3)
    yield xs2p.deconvolve(F, tau=xr.DataArray(np.linspace(0.1, 0.5, F.sizes["roi"]), dims="roi"))


@pytest.mark.parametrize("method", METHODS)
def test_filters_see_a_line_over_what_does_not_count(method):
    for seed in range(3):
        F, valid = traces(seed), holes(seed)
        frames = np.arange(N)
        lines = np.stack([np.interp(frames, frames[valid], f[valid]) for f in F.values])
        lines = lines.astype(np.float32)
        F0 = xs2p.baseline(F.assign_coords(valid=("time", valid)), method, **SHORT)
        if method.startswith("maximin"):
            np.testing.assert_array_equal(F0, xs2p.baseline(F.copy(data=lines), method, **SHORT))
            np.testing.assert_allclose(F0, naive.baseline(lines, method, FS, 3.0, 2.0), rtol=1e-5)
        elif method == "prctile":
            expected = np.percentile(F.values[:, valid], 8, axis=1)
            np.testing.assert_allclose(F0, np.repeat(expected[:, None], N, 1), rtol=1e-6)
        elif method.startswith("constant"):
            smooth = ndimage.gaussian_filter1d(lines, 2.0)
            low = smooth[:, valid].min(axis=1 if method == "constant" else None)
            expected = np.broadcast_to(np.reshape(low, (-1, 1)), F.shape)
            np.testing.assert_allclose(F0, expected, rtol=1e-6)
        elif method != "none":
            seen = np.where(valid, F.values, np.nan)
            expected = naive.baseline(seen, method, FS, 3.0)
            bridged = naive.baseline(lines, method, FS, 3.0)
            assert method != "rolling_median" or np.isnan(expected).any()
            if method != "inactive_median":  # whose noise is that of what counts
                expected = np.where(np.isnan(expected), bridged, expected)
            known = ~np.isnan(expected)
            np.testing.assert_allclose(F0.values[known], expected[known], rtol=1e-5)
        assert np.isfinite(F0).all()


def test_bridges_are_numpys_lines_to_the_last_bit():
    rng = np.random.default_rng(0)
    F = rng.normal(size=(6, 200)).astype(np.float32)
    F[rng.random(F.shape) < 0.6] = np.nan
    F[4] = np.nan
    frames = np.arange(200)
    full = bridge(F, 200)
    for trace, made in zip(F, full, strict=True):
        known = ~np.isnan(trace)
        if known.any():
            expected = np.interp(frames, frames[known], trace[known]).astype(np.float32)
            np.testing.assert_array_equal(made, expected)
    assert np.isnan(full[4]).all()
    assert bridge(full[:4], 200) is not None and not np.isnan(full[:4]).any()
    # Further than 10 frames from what counts there is nothing to tell by.
    gap = np.r_[1.0, np.full(30, np.nan), 2.0].astype(np.float32)
    expected = np.r_[np.full(11, 1.0), np.full(10, np.nan), np.full(11, 2.0)]
    np.testing.assert_array_equal(bridge(gap, 10), expected.astype(np.float32))


@settings(max_examples=8, deadline=None)
@given(
    chunks=time_chunks(N),
    roi=st.sampled_from([-1, 2]),
    seed=st.integers(0, 999),
    joined=st.booleans(),
)
def test_chunks_of_time_change_no_bit(chunks, roi, seed, joined):
    F = traces().assign_coords(valid=("time", holes(seed)))
    if joined:
        F = F.assign_coords(segment=("time", borders(seed)))
    with raise_if_dask_computes():
        lazy = list(steps(F.chunk(time=chunks, roi=roi)))
    for whole, cut in zip(steps(F), lazy, strict=True):
        np.testing.assert_array_equal(cut, whole)
    for statistic in (xs2p.snr, xs2p.skew, xs2p.std):
        cut = statistic(F.chunk(time=chunks, roi=roi))
        np.testing.assert_array_equal(cut, statistic(F))


def test_what_lies_beyond_the_neighbours_edge_matters(monkeypatch):
    """The test above can fail: without the ends of other chunks, long gaps are not bridged."""
    valid = np.ones(N, bool)
    valid[100:400] = False
    F = traces().assign_coords(valid=("time", valid))
    whole = xs2p.baseline(F, **SHORT)
    np.testing.assert_array_equal(xs2p.baseline(F.chunk(time=50), **SHORT), whole)
    monkeypatch.setattr(blocks, "ends_beside", lambda *_: [])
    assert (xs2p.baseline(F.chunk(time=50), **SHORT) != whole).any()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 999), chunk=st.sampled_from([None, 61, 300]), gaps=st.booleans())
def test_a_joined_recording_is_its_parts(seed, chunk, gaps):
    F = traces(1).assign_coords(segment=("time", borders(seed)))
    if gaps:
        F = F.assign_coords(valid=("time", holes(seed)))
    parts = [part.drop_vars("segment") for _, part in F.groupby("segment")]
    alone = [xr.concat(each, "time") for each in zip(*map(list, map(steps, parts)), strict=True)]
    for own, joined in zip(alone, steps(F if chunk is None else F.chunk(time=chunk)), strict=True):
        np.testing.assert_array_equal(joined, own)
    for statistic in (xs2p.snr, xs2p.skew, xs2p.std):
        result = statistic(F, by_segment=True)
        assert result.dims == ("segment", "roi")
        np.testing.assert_array_equal(result, np.stack([statistic(part) for part in parts]))
        np.testing.assert_array_equal(result.segment, np.unique(F.segment))


def test_nan_samples_are_frames_that_do_not_count():
    F, valid = traces(), np.ones((5, N), bool)
    valid[1, 20:70], valid[2, 0], valid[4] = False, False, False
    said = F.assign_coords(valid=(("roi", "time"), valid))
    holed = F.where(xr.DataArray(valid, dims=("roi", "time")))
    for own, other, clean in zip(steps(said), steps(holed), steps(F), strict=True):
        np.testing.assert_array_equal(own, other)
        if own.attrs.get("baseline") == "constant_global":
            continue
        np.testing.assert_array_equal(own[[0, 3]], clean[[0, 3]])  # of no other ROI
        if own.name == "spks":
            np.testing.assert_array_equal(np.isnan(own), ~valid)
        elif own.attrs["baseline"] != "none":
            assert np.isnan(own[4]).all() and np.isfinite(own[:4]).all()
    for statistic in (xs2p.snr, xs2p.skew, xs2p.std):
        np.testing.assert_array_equal(statistic(said), statistic(holed))


def test_statistics_pass_over_what_does_not_count():
    F, valid = traces(), holes(3)
    kept = F.values[:, valid].astype(np.float64)
    F = F.assign_coords(valid=("time", valid))
    np.testing.assert_allclose(xs2p.std(F), kept.std(axis=1), rtol=1e-12)
    np.testing.assert_allclose(xs2p.skew(F), naive.skew(kept), rtol=1e-9)
    both = valid[1:] & valid[:-1]  # steps from one frame that counts to the next
    moves = np.diff(F.values.astype(np.float64), axis=1)[:, both]
    snr = 1 - 0.5 * moves.var(axis=1) / kept.var(axis=1)
    np.testing.assert_allclose(xs2p.snr(F), snr, rtol=1e-9)
    halves = F.drop_vars("valid").assign_coords(segment=("time", np.arange(N) // 450))
    x = halves.values.astype(np.float64)
    moves = np.delete(np.diff(x, axis=1), 449, axis=1)  # none from one segment to the next
    snr = 1 - 0.5 * moves.var(axis=1) / x.var(axis=1)
    np.testing.assert_allclose(xs2p.snr(halves), snr, rtol=1e-9)
    np.testing.assert_allclose(xs2p.snr(halves.chunk(time=450)), snr, rtol=1e-9)


@pytest.mark.parametrize("n_rois", [3, 40])
def test_oasis_gives_no_weight_to_what_does_not_count(n_rois):
    """One by one and side by side, as the naive version; gaps are too short to forget over."""
    rng = np.random.default_rng(0)
    F = traces(2, n_rois) - 110
    F.values[rng.random(F.shape) < 0.2] = np.nan
    F.values[::3, 100:150], F.values[::4, :40] = np.nan, np.nan
    for tau in (0.3, 2.0):
        spks = xs2p.deconvolve(F, tau=tau)
        expected = np.stack([naive.oasis(f, tau, FS) for f in F.values])
        np.testing.assert_array_equal(spks, expected)


def test_oasis_equals_oasis_deconv_which_takes_nan():
    """Of traces that are positive: oasis-deconv cuts calcium at 0, and suite2p's OASIS does not."""
    with np.load(OASIS) as kept:
        F, expected, tau = kept["F"], kept["s"], float(kept["tau"])
    traces = xr.DataArray(F, dims=("roi", "time"))
    spks = xs2p.deconvolve(traces, tau=tau, fs=1.0)
    assert np.isnan(expected).any()
    np.testing.assert_allclose(spks, expected, rtol=1e-4, atol=1e-4)


def test_frames_that_are_said_wrongly_are_refused():
    F = traces()
    for valid, told in (
        (("time", np.ones(N)), "valid must be True or False"),
        (("roi", np.ones(5, bool)), "valid must be True or False"),
    ):
        with pytest.raises(ValueError, match=told):
            xs2p.baseline(F.assign_coords(valid=valid))
    back = np.repeat(["a", "b", "a"], [300, 300, 300])
    with pytest.raises(ValueError, match="segment .*a.* comes back at frame 600"):
        xs2p.deconvolve(F.assign_coords(segment=("time", back)), tau=1.0)
    with pytest.raises(ValueError, match="segment must be whole numbers or names over time"):
        xs2p.std(F.assign_coords(segment=("time", np.ones(N))))


def test_a_pause_within_a_segment_is_told_once():
    times = np.arange(N) / FS
    times[400:] += 20.0
    F = traces().assign_coords(time=("time", times, {"units": "s"}))
    told = r"pauses before frame 400: 60.0 after 39.9.*segments='gaps'"
    with pytest.warns(UserWarning, match=told) as caught:
        xs2p.baseline(F)
    assert len(caught) == 1
    with pytest.warns(UserWarning, match=told):
        xs2p.deconvolve(F, tau=1.0)
    F = F.assign_coords(segment=("time", np.arange(N) >= 400))
    xs2p.deconvolve(F, tau=1.0)  # each part stands by itself: nothing to tell
