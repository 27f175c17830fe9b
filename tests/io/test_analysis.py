"""Traces for Pynapple, as its own objects read them, and for Cascade."""

import numpy as np
import pynapple as nap
import pytest
import xarray as xr

import xs2p
from xs2p.testing import simulate


@pytest.fixture(scope="module")
def ds():
    movie, rois, _ = simulate(5, (32, 40), 300, fs=10.0)
    return movie.s2p.extract(rois, tau=0.5, dff=True, min_neuropil_pixels=50).compute()


def test_a_frame_has_the_traces_their_times_and_what_is_known_of_rois(ds):
    frame = ds.assign_coords(roi=np.arange(5) * 10 + 3).s2p.to_pynapple()
    assert isinstance(frame, nap.TsdFrame) and frame.columns.tolist() == [3, 13, 23, 33, 43]
    np.testing.assert_array_equal(frame.d, ds.dFF.T)
    np.testing.assert_allclose(frame.t, np.arange(300) / 10)
    np.testing.assert_array_equal(frame.noise, ds.noise)
    assert frame.status.tolist() == ["ok"] * 5 and {"npix", "radius"} <= {*frame.metadata_columns}
    np.testing.assert_array_equal(frame.get(5.0, 6.0).d, ds.dFF.sel(time=slice(5, 6)).T)
    np.testing.assert_array_equal(ds.chunk(time=70).s2p.to_pynapple("spks").d, ds.spks.T)


def test_support_ends_at_segments_gaps_and_frames_that_do_not_count(ds):
    valid = np.ones(300, bool)
    valid[[40, 41, 299]] = False
    time = np.arange(300) / 10 + np.repeat([0.0, 7.0], [200, 100])
    told = ("time", np.repeat([0, 1], [100, 200]), {"names": ["rest", "run"]})
    frame = ds.assign_coords(
        time=("time", time, {"units": "s"}), valid=("time", valid), segment=told
    ).s2p.to_pynapple("F")
    np.testing.assert_array_equal(frame.d, ds.F.T[valid])
    begin, end = frame.time_support.start, frame.time_support.end
    np.testing.assert_allclose(begin, time[[0, 42, 100, 200]])
    np.testing.assert_allclose(end, time[[39, 99, 199, 298]] + 0.05)
    assert frame.time_support["segment"].tolist() == ["rest", "rest", "run", "run"]
    of_each = np.stack([valid] * 5)
    of_each[0] = True
    own = ds.assign_coords(valid=(("roi", "time"), of_each)).s2p.to_pynapple("F")
    assert len(own) == 300  # every frame counts for some ROI


def test_onsets_of_events_by_roi(ds):
    events = xs2p.events(ds.spks.assign_coords(roi=list("abcde")), threshold=2.0)
    group = events.s2p.to_pynapple()
    assert isinstance(group, nap.TsGroup) and group["roi"].tolist() == list("abcde")
    for n, label in enumerate("abcde"):
        own = events.isel(event=events.roi.values == label)
        np.testing.assert_allclose(group[n].t, own.onset)
        assert group["events"][n] == own.sizes["event"]
        assert group["mean_amplitude"][n] == pytest.approx(float(own.amplitude.mean()))
    assert group.count(1.0).d.sum() == events.sizes["event"]
    one = events.isel(event=[0])
    assert one.s2p.to_pynapple()[0].t.tolist() == one.onset.values.tolist()


def test_cascade_has_fractions_and_noise_without_rois_that_have_no_trace(ds):
    lost = ds.copy(deep=True)
    lost.dFF[2] = np.nan
    found = lost.chunk(time=50).s2p.to_cascade()
    rows = [0, 1, 3, 4]
    np.testing.assert_array_equal(found.dFF, ds.dFF[rows])
    assert found.dFF.dtype == np.float32 and found.frame_rate == 10.0
    assert found.roi.tolist() == rows
    steps = 100 * np.median(abs(np.diff(ds.dFF[rows], axis=1)), axis=1) / np.sqrt(10.0)
    np.testing.assert_allclose(found.noise_levels, steps, rtol=1e-5)


BARE = xr.Dataset({"F": (("roi", "time"), np.ones((2, 9), "f4"), {"fs": 1.0})})


@pytest.mark.parametrize(
    ("step", "given", "message"),
    [
        ("to_cascade", BARE, "needs dFF .*reprocess"),
        ("to_cascade", BARE.rename(F="G"), "needs traces"),
        ("to_cascade", BARE.assign(dFF=BARE.F * np.nan), "no ROI has a trace: 2 are NaN"),
        ("to_cascade", BARE.assign(dFF=BARE.F.where(BARE.F.cumsum("time") > 2)), "NaN in 2 of 9"),
        ("to_pynapple", BARE.drop_attrs(), "fs"),
        ("to_pynapple", BARE.assign_coords(time=np.arange(9)[::-1] / 1.0), "time"),
        ("to_pynapple", BARE.assign_attrs(xs2p_unfinished="x"), "not complete"),
        ("to_pynapple", xr.Dataset({"onset": ("event", [1.0])}), "no amplitude, duration, roi"),
    ],
)
@pytest.mark.filterwarnings("ignore:these traces are from a store that is not complete")
def test_what_cannot_be_given_is_told(step, given, message):
    if step == "to_cascade" and "dFF" in given:
        given["dFF"].attrs["fs"] = 1.0
    with pytest.raises(ValueError, match=message):
        getattr(given.s2p, step)()
    with pytest.raises(ValueError, match="no traces spks over"):
        BARE.s2p.to_pynapple("spks")
