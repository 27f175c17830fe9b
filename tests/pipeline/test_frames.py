"""Frames that do not count and segments, through the whole of extract."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.testing import simulate

N = 400
HOW = {"tau": 0.7, "win_baseline": 3.0, "min_neuropil_pixels": 60}


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (40, 44), N, fs=10.0, seed=3)
    return movie, rois


@pytest.fixture
def valid():
    valid = np.ones(N, bool)
    valid[40:70], valid[::19], valid[-5:] = False, False, False
    return valid


def assert_same(one, other):
    assert set(one.data_vars) == set(other.data_vars)
    for name in one.data_vars:
        np.testing.assert_array_equal(one[name], other[name], err_msg=name)


def test_valid_can_be_said_in_many_ways(recording, valid, tmp_path):
    movie, rois = recording
    ds = movie.s2p.extract(rois, valid=valid, **HOW)
    np.save(tmp_path / "bad_frames.npy", np.flatnonzero(~valid))
    np.save(tmp_path / "mask.npy", ~valid)  # suite2p's meaning: True is a bad frame
    each = xr.DataArray(np.tile(valid, (6, 1)), dims=("roi", "time"), coords={"roi": rois.roi})
    for said in (
        xr.DataArray(valid, dims="time", coords={"time": movie.time}),
        np.flatnonzero(~valid),
        np.flatnonzero(~valid).tolist(),
        tmp_path / "bad_frames.npy",
        str(tmp_path / "mask.npy"),
        each[::-1],
    ):
        assert_same(movie.s2p.extract(rois, valid=said, **HOW), ds)
    own = movie.assign_coords(valid=("time", valid))
    assert_same(own.chunk(time=37).s2p.extract(rois, **HOW), ds)
    bad = movie.assign_coords(badframes=("time", ~valid))
    assert_same(bad.s2p.extract(rois, valid="badframes", **HOW), ds)
    plain = movie.s2p.extract(rois, **HOW)
    assert_same(bad.s2p.extract(rois, **HOW), plain)  # only when asked
    assert_same(movie.s2p.extract(rois, valid=np.ones(N, bool), **HOW), plain)
    for name in ("F", "Fneu", "Fc"):  # as they are
        np.testing.assert_array_equal(ds[name], plain[name])
    assert np.isfinite(ds.F0).all() and (ds.F0 != plain.F0).any()
    np.testing.assert_array_equal(np.isnan(ds.spks), np.tile(~valid, (6, 1)))
    np.testing.assert_array_equal(ds.valid, valid)


@pytest.mark.parametrize("chunk", [None, 53])
@pytest.mark.parametrize("labels", [("one", "two"), (4, 2)])
def test_two_sessions_are_each_alone(recording, valid, chunk, labels, tmp_path):
    movie, rois = recording
    segments = np.repeat(labels, [150, 250])
    parts = [
        movie[span].s2p.extract(rois, valid=valid[span], **HOW)
        for span in (slice(0, 150), slice(150, N))
    ]
    alone = xr.concat(parts, "time")
    whole = movie if chunk is None else movie.chunk(time=chunk)
    ds = whole.s2p.extract(rois, valid=valid, segments=segments, **HOW)
    assert_same(ds, alone)
    np.testing.assert_array_equal(ds.segment, segments)
    stored = whole.s2p.extract_to_zarr(
        rois, tmp_path / "traces.zarr", valid=valid, segments=segments, progress=False, **HOW
    )
    assert_same(stored, alone)
    np.testing.assert_array_equal(stored.segment, segments)
    np.testing.assert_array_equal(stored.valid, valid)
    # The store knows what it was made with.
    again = {"resume": True, "progress": False, **HOW}
    whole.s2p.extract_to_zarr(
        rois, tmp_path / "traces.zarr", valid=np.flatnonzero(~valid), segments=segments, **again
    )
    with pytest.raises(ValueError, match="valid="):
        whole.s2p.extract_to_zarr(rois, tmp_path / "traces.zarr", segments=segments, **again)


def test_gaps_make_segments(recording):
    movie, rois = recording
    times = np.arange(N) / 10.0
    times[200:] += 5.0
    movie = movie.assign_coords(time=("time", times, {"units": "s"}))
    with pytest.warns(UserWarning, match="movie pauses before frame 200.*segments='gaps'"):
        movie.s2p.extract(rois, **HOW)
    ds = movie.s2p.extract(rois, segments="gaps", **HOW)
    np.testing.assert_array_equal(ds.segment, np.arange(N) // 200)


def test_a_nan_pixel_is_a_frame_that_does_not_count_for_its_rois(recording):
    movie, rois = recording
    movie = movie.astype(np.float32).compute()
    y, x = int(rois.ypix[3]), int(rois.xpix[3])
    movie[100, y, x] = np.nan
    ds = movie.s2p.extract(rois, allow_overlap=True, **HOW)
    holed = np.isnan(ds.F.values) | np.isnan(ds.Fneu.values)
    assert holed[:, 100].any() and not holed[:, :100].any() and not holed.all(axis=0).any()
    assert np.isfinite(ds.F0).all()
    np.testing.assert_array_equal(np.isnan(ds.spks), holed)


def test_noisy_rois_are_judged_by_frames_that_count(recording):
    movie, rois = recording
    movie = movie.compute().copy()
    movie[50:60] = 2**13  # a flash: slow, and so signal to suite2p's ratio
    valid = np.ones(N, bool)
    valid[45:65] = False
    ds = movie.s2p.extract(rois, valid=valid, snr_threshold=1e-3, **HOW)
    np.testing.assert_allclose(ds.snr, xs2p.snr(ds.Fc), rtol=1e-6)
    each = xr.DataArray(np.tile(valid, (6, 1)), dims=("roi", "time"), coords={"roi": rois.roi})
    assert_same(movie.s2p.extract(rois, valid=each, snr_threshold=1e-3, **HOW), ds)


@pytest.mark.parametrize(
    "valid, told",
    [
        (np.ones(N - 1, bool), "expected True or False for each of 400 frames"),
        (np.ones(N), "got float64 of shape"),
        (slice(24, 27), r"got slice\(24, 27, None\)\. By time: valid=\(movie\.time < 24\) \|"),
        ([3, N], "frame 400 is to be left out, and frames go from 0 to 399"),
        (np.zeros(N, bool), "leaves no frame that counts"),
        ("badframes", "the movie has no coordinate badframes"),
        ("no_such.npy", "no_such.npy"),
        (
            xr.DataArray(np.ones((2, N), bool), dims=("roi", "time"), coords={"roi": [0, 1]}),
            "roi 2",
        ),
    ],
)
def test_what_is_said_wrongly_is_refused(recording, valid, told):
    movie, rois = recording
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        movie.s2p.extract(rois, valid=valid, **HOW)


def test_segments_that_are_said_wrongly_are_refused(recording):
    movie, rois = recording
    for segments, told in (
        (np.zeros(3, int), "expected a label for each of 400 frames"),
        ("days", "must be a label for each frame or 'gaps'"),
        ([*"ab" * 200], "comes back at frame 2"),
    ):
        with pytest.raises(ValueError, match=told):
            movie.s2p.extract(rois, segments=segments, **HOW)


@pytest.mark.parametrize("neuropil", ["full", "centred"])
@pytest.mark.parametrize("detrend", [None, "exponential"])
def test_a_movie_that_was_turned_gives_the_same_activity(recording, valid, neuropil, detrend):
    movie, rois = recording
    options = {**HOW, "neuropil": neuropil, "detrend": detrend, "dff": True, "valid": valid}
    ds = movie.s2p.extract(rois, **options)
    other = (-movie).assign_attrs(movie.attrs).s2p.extract(rois, polarity=-1, **options)
    for name in ("spks", "dFF", "noise", "dff_flag"):
        np.testing.assert_array_equal(other[name], ds[name], err_msg=name)
    for name in ("F", "Fneu", "Fc", "F0"):
        np.testing.assert_array_equal(other[name], -ds[name], err_msg=name)
    assert other.attrs["polarity"] == other.dFF.attrs["polarity"] == -1
    assert np.isnan(ds.dFF[:, ~valid]).all() and np.isfinite(ds.dFF[:, valid]).all()
