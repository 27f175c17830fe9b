"""Events of deconvolved traces against a loop over frames."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p

FS = 8.0


def spikes(seed=0, n_rois=6, n_frames=300):
    rng = np.random.default_rng(seed)
    s = np.abs(rng.normal(size=(n_rois, n_frames))) * (rng.random((n_rois, n_frames)) < 0.5)
    s += 8 * (rng.random(s.shape) < 0.1)
    s[1] = 0
    s[2, ::3] = np.nan
    return xr.DataArray(s.astype(np.float32), dims=("roi", "time"), attrs={"fs": FS}, name="spks")


def expected(spks, threshold, segment=None):
    rows = []
    for n, s in enumerate(spks.values):
        rows += [(n, *run) for run in naive.events(s, threshold, FS, segment)]
    return np.array(rows, float).reshape(-1, 5)


def as_rows(ds):
    return np.stack([ds[n] for n in ("roi", "onset", "amplitude", "size", "duration")], -1)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 60), st.sampled_from([0, 1, 3, 20]), st.booleans(), st.integers(0, 99))
def test_events_are_those_of_a_loop(n_frames, threshold, segmented, seed):
    spks = spikes(seed, 6, n_frames)
    segment = np.sort(np.random.default_rng(seed).integers(0, 4, n_frames)) if segmented else None
    if segmented:
        spks = spks.assign_coords(segment=("time", segment))
    found = xs2p.events(spks, threshold)
    np.testing.assert_allclose(as_rows(found), expected(spks, threshold, segment), rtol=1e-6)


@pytest.mark.parametrize("chunks", [{"time": 70}, {"roi": 4, "time": 33}, {"roi": 1}])
def test_chunks_change_nothing(chunks):
    spks = spikes().assign_coords(segment=("time", np.arange(300) // 111))
    eager = xs2p.events(spks)
    assert eager.sizes["event"] > 20
    xr.testing.assert_identical(xs2p.events(spks.chunk(chunks)), eager)


def test_runs_end_at_frames_that_do_not_count_and_where_a_segment_ends():
    s = np.full((1, 12), 9.0)
    s[0, :2] = 0.1
    s[0, 9:] = 0.1
    spks = xr.DataArray(s, dims=("roi", "time"), attrs={"fs": 2.0})
    assert xs2p.events(spks, 0.5).duration.values.tolist() == [3.5]
    spks = spks.assign_coords(
        valid=("time", np.arange(12) != 6), segment=("time", (np.arange(12) > 3).astype(int))
    )
    ds = xs2p.events(spks, 0.5)
    assert ds.onset.values.tolist() == [1.0, 2.0, 3.5]
    assert ds["size"].values.tolist() == [18.0, 18.0, 18.0]


def test_events_say_roi_channel_and_time_by_their_labels():
    spks = spikes().assign_coords(roi=np.arange(6) * 10, time=100 + np.arange(300) / FS)
    spks.time.attrs["units"] = "s"
    ds = spks.s2p.events()
    plain = xs2p.events(spikes())
    np.testing.assert_array_equal(ds.roi, plain.roi * 10)
    np.testing.assert_allclose(ds.onset, plain.onset + 100)
    table = ds.to_dataframe()
    assert table.columns.tolist() == ["roi", "onset", "amplitude", "size", "duration"]
    assert len(table) == ds.sizes["event"]
    both = xr.concat([spks, spks], xr.DataArray(["green", "red"], dims="channel"))
    found = xs2p.events(both.chunk({"roi": 2}))
    assert found.sizes["event"] == 2 * ds.sizes["event"]
    red = found.isel(event=found.channel == "red")
    np.testing.assert_array_equal(red.onset, ds.onset)
    assert ds.onset.attrs["units"] == "s" and ds.attrs["threshold"] == 3
    ms = spks.assign_coords(time=("time", spks.time.values * 1000, {"units": "ms"}))
    np.testing.assert_allclose(xs2p.events(ms).onset, ds.onset)


def test_no_events():
    spks = spikes(n_frames=5) * 0
    ds = xs2p.events(spks.assign_attrs(fs=FS))
    assert ds.sizes["event"] == 0 and len(ds.to_dataframe()) == 0
    assert xs2p.events(spks[:0].assign_attrs(fs=FS)).sizes["event"] == 0


def test_events_of_simulated_spikes_are_found():
    rng = np.random.default_rng(0)
    true = np.zeros((4, 3000))
    true[:, rng.permutation(290)[:40] * 10 + 50] = 1
    c = true.copy()
    for t in range(1, 3000):
        c[:, t] += np.exp(-1 / 5) * c[:, t - 1]
    F = xr.DataArray(c + rng.normal(0, 0.1, c.shape), dims=("roi", "time"))
    spks = xs2p.deconvolve(F, tau=0.5, fs=10.0)
    ds = xs2p.events(spks)
    at = np.flatnonzero(true[0]) / 10.0
    away = np.abs(ds.onset.values[:, None] - at).min(axis=1)
    assert (away < 0.11).mean() > 0.9
    assert all((np.abs(ds.onset[ds.roi == 0].values - t) < 0.11).any() for t in at)


def test_what_does_not_fit_is_told():
    spks = spikes(n_frames=20)
    with pytest.raises(ValueError, match="threshold must be a number, 0 or more"):
        xs2p.events(spks, -1)
    with pytest.raises(ValueError, match="fs is not known"):
        xs2p.events(spks.drop_attrs())
    with pytest.raises(ValueError, match="events takes a DataArray"):
        xs2p.events(spks.values)
    odd = spks.assign_coords(time=("time", np.arange(20.0) * 7, {"units": "furlongs"}))
    with pytest.raises(ValueError, match="what time is in is not known"):
        xs2p.events(odd, fs=FS)
    with pytest.warns(UserWarning, match="threshold=0 takes every one"):
        xs2p.events(spks.assign_attrs(s_min=0.5))
    xs2p.events(spks.assign_attrs(s_min=0.5), 0)
