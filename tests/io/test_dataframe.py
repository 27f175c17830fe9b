from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from counting import CountingFrames

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (40, 44), 120, fs=10.0, chunks=50)
    return movie, rois.assign_coords(roi=[3, 1, 4, 15, 9, 2])


@pytest.fixture(scope="module")
def ds(recording):
    movie, rois = recording
    return movie.s2p.extract(rois, tau=1.0, win_baseline=5.0)


def test_a_row_for_each_roi_and_frame(ds):
    with raise_if_dask_computes(max_computes=1):
        table = ds.s2p.to_dataframe()
    assert table.columns.tolist() == ["roi", "time", "F", "Fneu", "Fc", "F0", "spks"]
    assert table.dtypes.tolist() == [np.int64, np.float64, *[np.float32] * 5]
    assert len(table) == 6 * 120 and isinstance(table.index, pd.RangeIndex)
    assert table.attrs["units"]["F"] == "1" and table.attrs["units"]["time"] == "s"
    for label in ds.roi.values:  # by label, as pandas would be asked
        one = table[table.roi == label]
        np.testing.assert_array_equal(one.time, ds.time)
        for name in ("F", "Fneu", "spks"):
            np.testing.assert_array_equal(one[name], ds[name].sel(roi=label))
    wide = table.pivot(index="time", columns="roi", values="Fc")
    np.testing.assert_array_equal(wide[15], ds.Fc.sel(roi=15))


def test_frames_first_gives_the_same_table(ds):
    turned = ds.transpose("time", "roi", ...)
    assert turned.F.dims == ("time", "roi")
    pd.testing.assert_frame_equal(turned.s2p.to_dataframe(), ds.s2p.to_dataframe())


def test_the_movie_is_read_once(recording):
    movie, rois = recording
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((50, -1, -1)))
    lazy.s2p.extract(rois, tau=1.0).s2p.to_dataframe()
    assert set(frames.reads) == {1}
    lazy.s2p.extract(rois, tau=1.0).s2p.to_dataframe("rois")
    assert set(frames.reads) == {2}


def test_without_time_and_with_labels_of_frames(ds):
    table = ds.drop_vars("time").s2p.to_dataframe(variables=["spks"])
    assert table.columns.tolist() == ["roi", "frame", "spks"]
    assert table.frame.tolist() == [*range(120)] * 6
    segment = ("time", np.arange(120) // 60)
    table = ds.assign_coords(segment=segment).s2p.to_dataframe(variables="F")
    assert table.columns.tolist() == ["roi", "time", "segment", "F"]
    assert table.groupby("segment").F.size().tolist() == [360, 360]


def test_segments_and_frames_that_count_are_columns(ds):
    segment = ("time", np.repeat(["rest", "task"], 60))
    some = ds.assign_coords(valid=("time", np.arange(120) != 5), segment=segment)
    table = some.s2p.to_dataframe(variables=["F"])
    assert table.columns.tolist() == ["roi", "time", "valid", "segment", "F"]
    assert table.segment[table.roi == 4].tolist() == some.segment.values.tolist()
    assert table.F[table.valid].size == 6 * 119
    of_each = np.random.default_rng(0).random((6, 120)) > 0.1
    some = ds.assign_coords(valid=(("roi", "time"), of_each))
    table = some.transpose("time", ...).s2p.to_dataframe(variables=["F"])
    assert table.columns.tolist() == ["roi", "time", "valid", "F"]
    for label, valid in zip(ds.roi.values, of_each, strict=True):
        assert table.valid[table.roi == label].tolist() == valid.tolist()


def test_channels(recording):
    movie, rois = recording
    two = xr.concat([movie, movie + np.int16(9)], pd.Index(["green", "red"], name="channel"))
    ds = two.assign_attrs(movie.attrs).s2p.extract(rois)
    table = ds.s2p.to_dataframe(variables=["Fneu"])
    assert table.columns.tolist() == ["channel", "roi", "time", "Fneu"]
    some = table[(table.channel == "red") & (table.roi == 4)]
    np.testing.assert_array_equal(some.Fneu, ds.Fneu.sel(channel="red", roi=4))
    rois = ds.s2p.to_dataframe("rois", variables=["npix", "snr"])
    assert rois.columns.tolist() == ["roi", "channel", "npix", "snr"] and len(rois) == 12
    expected = ds.Fc.s2p.snr().sel(channel="green", roi=9).compute().item()
    assert rois[(rois.channel == "green") & (rois.roi == 9)].snr.item() == expected


def test_a_row_for_each_roi(ds, recording):
    with raise_if_dask_computes(max_computes=1):
        table = ds.s2p.to_dataframe("rois")
    assert table.columns.tolist()[:6] == ["roi", "npix", "med_y", "med_x", "radius", "status"]
    assert "roi_id" not in table and len(table) == 6
    for name in ("roi", "npix", "radius", "status", "frac_overlap"):
        assert table[name].tolist() == ds[name].values.tolist()
    for name in ("snr", "skew", "std"):
        np.testing.assert_array_equal(table[name], getattr(ds.Fc.s2p, name)())
    assert table.attrs["units"]["med_y"] == "1"
    alone = recording[1].s2p.to_dataframe()
    assert "snr" not in alone and alone.radius.tolist() == table.radius.tolist()
    # What is there is kept: the values that a filter judged by.
    kept = ds.assign_coords(snr=("roi", np.arange(6.0))).s2p.to_dataframe("rois")
    assert kept.snr.tolist() == [*range(6)]
    both = ds.s2p.to_dataframe(variables=["F"]).merge(table, on="roi")
    assert len(both) == 720 and (both.groupby("roi").npix.nunique() == 1).all()


def test_no_rois(ds):
    none = ds.isel(roi=[])
    assert len(none.s2p.to_dataframe()) == 0
    assert len(none.s2p.to_dataframe("rois")) == 0


def test_refused(ds, recording):
    with raise_if_dask_computes():
        message = r"720 rows and take 0\.0 GB, more than max_bytes=10000.*isel\(roi=slice"
        with pytest.raises(ValueError, match=message):
            ds.s2p.to_dataframe(max_bytes=1e4)
        with pytest.raises(ValueError, match="choose from F, Fneu"):
            ds.s2p.to_dataframe(variables=["dff"])
        with pytest.raises(ValueError, match="choose 'traces', 'frames' or 'rois'"):
            ds.s2p.to_dataframe("cells")
        with pytest.raises(ValueError, match="no variables over roi and time"):
            recording[1].s2p.to_dataframe("traces")
        with pytest.raises(ValueError, match="needs a dim roi"):
            xr.Dataset().s2p.to_dataframe()


def test_rois_that_where_has_spread_are_told_how_to_be_chosen():
    rois = xs2p.sample_rois()
    spread = rois.where(rois.npix > 20, drop=True)
    with pytest.raises(ValueError, match=r"where\(…, drop=True\).*rois.sel\(roi=rois.npix > 20\)"):
        spread.s2p.build_masks()
    assert rois.sel(roi=rois.npix > 20).s2p.compact().sizes["roi"] == spread.sizes["roi"]


def test_measures_of_segments_and_flags_in_words():
    movie, rois, _ = simulate(5, (30, 41), 200, fs=10.0)
    movie = xs2p.concat({"rest": movie[:90], "touch": movie[90:]}, gap=1.0)
    ds = movie.s2p.extract(rois, dff=True, min_neuropil_pixels=50)
    each = ds.Fc.s2p.noise(by_segment=True)
    table = ds.assign(noise=each).s2p.to_dataframe("rois")
    assert "noise" not in table
    np.testing.assert_array_equal(table["noise_rest"], each[0])
    np.testing.assert_array_equal(table["noise_touch"], each[1])
    flagged = ds.assign(dff_flag=ds.dff_flag.copy(data=np.array([0, 1, 9, 0, 4], "u1")))
    words = flagged.s2p.to_dataframe("rois").dff_flag_words
    expected = ["", "F0 not positive", "F0 not positive, dFF above 10", ""]
    assert words.tolist() == [*expected, "neuropil above 90 percent"]
