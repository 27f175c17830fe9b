"""When ROIs are scanned within a frame, and traces at the times of the frames."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate, time_chunks

FS, N = 10.0, 60


def traces(offsets, seed=0):
    offsets = np.asarray(offsets)
    F = np.random.default_rng(seed).normal(100, 20, (len(offsets), N)).astype("f4")
    labels = {
        "roi": np.arange(len(offsets)) + 3,
        "time": ("time", np.arange(N) / FS, {"units": "s"}),
        "time_offset": ("roi", offsets),
    }
    data = {n: (("roi", "time"), F + k, {"fs": FS, "units": "1"}) for k, n in enumerate("FG")}
    return xr.Dataset(data, labels).rename(G="spks")


def naive(F, offsets, segments, counts):
    """``numpy.interp`` of what counts, within each segment; NaN where a neighbour is missing."""
    out = np.full(F.shape, np.nan)
    for segment in np.unique(segments):
        frames = np.flatnonzero(segments == segment)
        for row, offset in enumerate(offsets):
            later = frames / FS + offset
            for t in frames:
                behind = (later <= t / FS + 1e-9).nonzero()[0]
                ahead = (later >= t / FS - 1e-9).nonzero()[0]
                if not behind.size or not ahead.size:
                    continue
                a, b = behind[-1], ahead[0]
                if counts[frames[a]] and counts[frames[b]]:
                    out[row, t] = np.interp(t / FS, later[[a, b]], F[row, frames[[a, b]]])
    return out


OFFSETS = [0.0, 0.03, 0.099, 0.1, 0.27, -0.04]


@settings(max_examples=25, deadline=None)
@given(
    chunks=time_chunks(N),
    roi=st.sampled_from([-1, 1, 4]),
    cut=st.integers(1, N - 1),
    bad=st.sets(st.integers(0, N - 1), max_size=8),
)
def test_traces_are_interpolated_as_by_numpy_in_any_chunks(chunks, roi, cut, bad):
    counts = ~np.isin(np.arange(N), list(bad))
    segments = (np.arange(N) >= cut).astype(int)
    ds = traces(OFFSETS).assign_coords(valid=("time", counts), segment=("time", segments))
    found = ds.s2p.align_time()
    for name in ("F", "spks"):
        expected = naive(ds[name].values.astype(float), OFFSETS, segments, counts)
        np.testing.assert_allclose(found[name], expected, rtol=1e-5)
        assert found[name].attrs == {**ds[name].attrs, "time_aligned": 1}
        assert found[name].dtype == np.float32
    assert "time_offset" not in found.coords and list(found.roi) == list(ds.roi)
    lazy = ds.chunk(time=chunks, roi=roi)
    lazy = lazy.assign_coords({n: ds[n].variable for n in ("valid", "segment", "time_offset")})
    with raise_if_dask_computes():
        later = lazy.s2p.align_time()
    assert later.F.chunks is not None
    xr.testing.assert_identical(later.compute(), found)


def test_a_signal_seen_late_is_put_right():
    offsets = np.array([0.0, 0.04, 0.08])
    time = np.arange(N) / FS
    ds = traces(offsets)
    ds["F"] = ds.F.copy(data=np.sin(time + offsets[:, None]).astype("f4"))
    found = ds.s2p.align_time().F
    assert np.isnan(found[1:, 0]).all() and not np.isnan(found[0]).any()
    off = np.abs(found - np.sin(time)).max("time")
    assert (off < 0.002).all() and (np.abs(ds.F - np.sin(time)).max("time")[1:] > 0.03).all()


def test_longer_than_all_frames_is_nan():
    found = traces([100.0, -100.0, 0.0]).s2p.align_time()
    assert np.isnan(found.F[:2]).all() and not np.isnan(found.F[2]).any()


def test_channels_keep_their_order():
    ds = traces(OFFSETS)
    both = ds.assign(F=xr.concat([ds.F, 2 * ds.F], "channel").assign_attrs(ds.F.attrs))
    found, one = both.s2p.align_time(), ds.s2p.align_time()
    assert found.F.dims == ("channel", "roi", "time")
    np.testing.assert_array_equal(found.F[0], one.F)
    np.testing.assert_array_equal(found.F[1], 2 * one.F)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda ds: ds.drop_vars("time_offset"), r"no time_offset\(roi\).*line_period"),
        (lambda ds: ds.s2p.align_time().assign_coords(ds.coords), "times of frames already"),
        (lambda ds: ds.drop_vars(["F", "spks"]), "needs traces over roi and time"),
        (lambda ds: ds.assign_coords(time_offset=("roi", [np.nan] * 6)), "finite number"),
        (lambda ds: ds.drop_attrs().drop_vars("time"), "fs is not known"),
        (lambda ds: ds.assign_attrs(xs2p_unfinished="half"), "not complete: half"),
    ],
)
@pytest.mark.filterwarnings("ignore:these traces are from a store")
def test_what_does_not_fit_is_told(change, told):
    ds = change(traces(OFFSETS))
    with pytest.raises(ValueError, match=told):
        ds.s2p.align_time()


PERIODS = {"line_period": 0.001, "plane_period": 0.025}


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (30, 41), 60, fs=FS, chunks=25)
    return movie, rois


def test_extract_says_when_rois_are_scanned(recording, tmp_path):
    movie, rois = recording
    assert "time_offset" not in movie.s2p.extract(rois).variables
    movie = movie.assign_attrs(PERIODS)
    with raise_if_dask_computes():
        ds = movie.s2p.extract(rois)
    np.testing.assert_allclose(ds.time_offset, rois.med_y * 0.001)
    assert ds.time_offset.attrs["units"] == "s" and ds.time_offset.chunks is None
    plain = recording[0].s2p.extract(rois)
    np.testing.assert_array_equal(ds.F, plain.F)  # nothing is moved by itself
    stored = xs2p.extract_to_zarr(movie, rois, tmp_path / "a.zarr", progress=False)
    np.testing.assert_array_equal(stored.time_offset, ds.time_offset)
    assert stored.time_offset.attrs == ds.time_offset.attrs
    table = stored.s2p.to_dataframe("rois")
    np.testing.assert_array_equal(table.time_offset, ds.time_offset)
    assert table.attrs["units"]["time_offset"] == "s"
    # An earlier result's is not that of a movie that says nothing.
    assert "time_offset" not in recording[0].s2p.extract(ds).variables
    for name in PERIODS:
        with pytest.raises(ValueError, match=f"{name}.*must be a number of seconds, 0 or more"):
            movie.assign_attrs({name: -1.0}).s2p.extract(rois)


def test_planes(recording):
    movie, rois = recording
    planes = np.array([0, 1, 2, 0, 1, 2])
    three = xr.concat([movie] * 3, "plane").assign_attrs({**movie.attrs, **PERIODS})
    ds = three.s2p.extract(rois.assign_coords(plane=("roi", planes)))
    np.testing.assert_allclose(ds.time_offset, planes * 0.025 + ds.med_y * 0.001)
    one = movie.assign_coords(plane=2).assign_attrs(plane_period=0.025)
    np.testing.assert_allclose(one.s2p.extract(rois).time_offset, 0.05)
    names = three.assign_coords(plane=["a", "b", "c"])
    with pytest.warns(UserWarning, match="labels of planes are no numbers"):
        ds = names.s2p.extract(rois.assign_coords(plane=("roi", np.array(list("abcabc")))))
    assert "time_offset" not in ds.variables


def test_nwb_has_a_column(recording, tmp_path):
    pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    movie, rois = recording
    ds = movie.assign_attrs(PERIODS).s2p.extract(rois)
    start = datetime(2024, 5, 1, tzinfo=UTC)
    xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=start)
    back = xs2p.read_nwb(tmp_path / "a.nwb")
    np.testing.assert_array_equal(back.time_offset, ds.time_offset)
    assert "scanned" in back.time_offset.attrs["description"]
    np.testing.assert_array_equal(back.s2p.align_time().F, ds.s2p.align_time().F)
