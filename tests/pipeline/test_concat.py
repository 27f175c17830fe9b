"""Recordings joined: time goes on, each is a segment, and nothing is read."""

import pickle

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate

LY, LX = 12, 16


def movie(n, seed=0, fs=10.0, start=0.0, chunks=7, **coords):
    values = np.random.default_rng(seed).integers(0, 900, (n, LY, LX)).astype("i2")
    time = ("time", start + np.arange(n) / 10.0, {"units": "s", "long_name": "time"})
    array = xr.DataArray(
        values, {"time": time, **coords}, ("time", "y", "x"), "movie", {"tau": 0.7, "units": "1"}
    )
    array = array if fs is None else array.assign_attrs(fs=fs)
    return array if chunks is None else array.chunk(time=chunks)


def rois(shift=0):
    labels = np.zeros((LY, LX), int)
    labels[2:5, 3 + shift : 6 + shift] = 1
    labels[7:10, 9:13] = 2
    return xs2p.rois_from_labels(labels)


def traces(n, seed=0, **options):
    how = {"tau": 0.7, "fs": 10.0, "win_baseline": 1.0, "min_neuropil_pixels": 20, **options}
    return movie(n, seed).s2p.extract(rois(), **how)


class TestMovies:
    def test_time_goes_on_and_nothing_is_read(self):
        a, b, c = movie(10, 1), movie(12, 2, start=77.0), movie(10, 3)
        with raise_if_dask_computes():
            whole = xs2p.concat([a, b, c])
        assert whole.chunks[0] == (7, 3, 7, 5, 7, 3) and whole.dtype == np.int16
        assert whole.dims == ("time", "y", "x") and whole.name == "movie"
        np.testing.assert_allclose(whole.time, np.arange(32) / 10, atol=1e-12)
        assert whole.time.attrs == {"units": "s", "long_name": "time"}
        assert whole.segment.values.tolist() == [0] * 10 + [1] * 12 + [2] * 10
        assert "names" not in whole.segment.attrs
        assert whole.attrs == {"tau": 0.7, "units": "1", "fs": 10.0}
        expected = np.concatenate([part.values for part in (a, b, c)])
        np.testing.assert_array_equal(whole, expected)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(whole)), expected)
        xs2p.extract(whole, rois(), tau=0.7, min_neuropil_pixels=20)  # times are not refused

    def test_in_memory_stays_so(self):
        whole = xs2p.concat((movie(10, chunks=None), movie(5, chunks=None)))
        assert isinstance(whole.data, np.ndarray) and whole.sizes["time"] == 15

    @pytest.mark.parametrize("fs", [10.0, None])
    def test_a_gap_and_names(self, fs):
        whole = xs2p.concat({"day 1": movie(10, fs=fs), "day 2": movie(5, fs=fs)}, gap=3.0)
        np.testing.assert_allclose(whole.time[[0, 9, 10, 14]], [0, 0.9, 4.0, 4.4])
        assert whole.segment.attrs["names"] == ["day 1", "day 2"]
        for bad in (-1, "2", np.nan):
            with pytest.raises(ValueError, match="gap must be a number of seconds"):
                xs2p.concat([movie(5)], gap=bad)

    def test_segments_are_counted_on(self):
        a = xs2p.concat({"x": movie(4), "y": movie(6)})
        b = movie(5).assign_coords(segment=("time", [9, 9, 3, 3, 3]))
        whole = xs2p.concat({"a": a, "b": b, "c": movie(2)})
        assert whole.segment.values.tolist() == [0] * 4 + [1] * 6 + [2] * 2 + [3] * 3 + [4] * 2
        assert whole.segment.attrs["names"] == ["a/x", "a/y", "b/9", "b/3", "c"]

    def test_names_are_the_sources(self):
        parts = [movie(4).assign_attrs(source=f"/data/day{n}/m.tif") for n in (1, 2)]
        names = xs2p.concat(parts).segment.attrs["names"]
        assert names == ["/data/day1/m.tif", "/data/day2/m.tif"]

    def test_frames_that_count(self):
        valid, bad = np.arange(6) != 2, np.arange(5) == 1
        a = movie(6).assign_coords(valid=("time", valid), speed=("time", np.arange(6.0)))
        b = movie(5).assign_coords(badframes=("time", bad), speed=("time", np.ones(5)))
        whole = xs2p.concat([a, b])
        assert whole.valid.values.tolist() == [*valid.tolist(), *[True] * 5]
        assert whole.badframes.values.tolist() == [*[False] * 6, *bad.tolist()]
        assert whole.speed.values.tolist() == [0, 1, 2, 3, 4, 5, 1, 1, 1, 1, 1]
        assert "valid" not in xs2p.concat([b, b]).coords
        with pytest.warns(
            UserWarning, match="concat: speed differ from recording to recording, or"
        ):
            assert "speed" not in xs2p.concat([a, b.drop_vars("speed")]).coords

    @pytest.mark.parametrize(
        "unit, times, step",
        [
            ("ms", np.arange(4) * 100.0, 100.0),
            ("frames", np.arange(4), 1),
            (None, np.arange(4), 1),
            ("s", (np.arange(4) * 100).astype("m8[ms]"), np.timedelta64(100, "ms")),
        ],
    )
    def test_other_units_go_on_in_theirs(self, unit, times, step):
        attrs = {} if unit is None or times.dtype.kind == "m" else {"units": unit}
        part = movie(4).assign_coords(time=("time", times, attrs))
        whole = xs2p.concat([part, part])
        assert whole.time.dtype.kind == times.dtype.kind
        np.testing.assert_array_equal(whole.time, times[0] + np.arange(8) * step)
        whole = xs2p.concat([part, part], gap=2.0)
        assert whole.time.values[4] == times[0] + (4 + 20) * step

    def test_dates_stay(self):
        dates = np.datetime64("2024-05-01T10:00") + (np.arange(4) * 100).astype("m8[ms]")
        a = movie(4).assign_coords(time=dates.astype("M8[ns]"))
        b = movie(4).assign_coords(time=(dates + np.timedelta64(1, "D")).astype("M8[ns]"))
        whole = xs2p.concat([a, b])
        np.testing.assert_array_equal(whole.time, np.concatenate([a.time, b.time]))
        with pytest.raises(ValueError, match="begins at 2024-05-01T10:00:00.0.*movies.0. before"):
            xs2p.concat([b, a])
        with pytest.raises(ValueError, match="begins at 2024-05-01T10:00:00.1"):
            xs2p.concat([a, a.isel(time=slice(1, None))])
        with pytest.raises(ValueError, match="gap=1 s, and time is of dates, which stay"):
            xs2p.concat([a, b], gap=1.0)
        with pytest.raises(ValueError, match="in dates, that of movies.1. in s; give both in one"):
            xs2p.concat([a, movie(4)])

    def test_dates_of_cftime(self):
        a, b = (
            movie(4).assign_coords(time=xr.date_range(f"200{n}-02-01", periods=4, use_cftime=True))
            for n in (1, 2)
        )
        assert xs2p.concat([a, b]).time.values[4] == b.time.values[0]
        with pytest.raises(ValueError, match="begins at 2001-02-01"):
            xs2p.concat([b, a])

    def test_without_time(self):
        part = movie(4).drop_vars("time")
        whole = xs2p.concat([part, part])
        assert "time" not in whole.coords and whole.segment.values.tolist() == [0] * 4 + [1] * 4
        with pytest.raises(ValueError, match="gap=1 s, and the recordings have no coordinate time"):
            xs2p.concat([part, part], gap=1.0)
        with pytest.raises(ValueError, match="movies.1. has a coordinate time and movies.0. has n"):
            xs2p.concat([part, movie(4)])

    def test_what_a_frame_lasts_is_not_known(self):
        one = movie(1, fs=None)
        with pytest.raises(ValueError, match="when movies.1. begins is not known.*assign_attrs"):
            xs2p.concat([one, one])
        np.testing.assert_allclose(xs2p.concat([one, one.assign_attrs(fs=5.0)]).time, [0, 0.2])
        frames = movie(4, fs=None).assign_coords(time=("time", np.arange(4), {"units": "frames"}))
        with pytest.raises(ValueError, match="gap=2 s, and time is in frames, .* give fs"):
            xs2p.concat([frames, frames], gap=2.0)

    def test_fs_of_one_clock(self):
        whole = xs2p.concat([movie(4), movie(4, fs=10.005), movie(4, fs=None)])
        assert whole.attrs["fs"] == 10.0
        with pytest.raises(ValueError, match="fs of a is 10 Hz, that of b 10.2 Hz"):
            xs2p.concat({"a": movie(4), "b": movie(4, fs=10.2)})

    @pytest.mark.parametrize(
        "change, message",
        [
            (lambda m: m.isel(y=slice(3)), "differ in their sizes, .*'y': 12.* and .*'y': 3"),
            (lambda m: m.astype("f4"), "int16 .* and float32 .*astype"),
            (lambda m: m.rename(y="row"), "differ in their sizes"),
            (
                lambda m: m.assign_coords(plane=1),
                "differ in plane: join recordings of the same ROI",
            ),
            (lambda m: m.assign_coords(y=np.arange(12) + 0.5), "differ in y: .*drop_vars"),
            (lambda m: m.isel(time=0), r"has no dim time, only \('y', 'x'\)"),
            (lambda m: m.isel(time=[0, 2, 1, 3]), r"time of movies\[1\] goes back at frame 2"),
            (lambda m: m.to_dataset(), r"movies\[1\] is a Dataset, expected movies"),
            (
                lambda m: m.assign_coords(segment=("time", [0, 1, 0, 1])),
                "segment 0 comes back at f",
            ),
        ],
    )
    def test_what_is_not_of_one_field(self, change, message):
        with pytest.raises(ValueError, match=message):
            xs2p.concat([movie(4), change(movie(4))])

    @pytest.mark.parametrize("given", [[], {}, "a.tif", 3])
    def test_no_recordings(self, given):
        with pytest.raises(ValueError, match="concat takes a list of recordings, or a dict"):
            xs2p.concat(given)

    def test_channels_and_planes(self):
        many = xs2p.open_movie(np.arange(2 * 3 * 4 * 5 * 6).reshape(2, 3, 4, 5, 6), dims="cztyx")
        whole = xs2p.concat([many, many])
        assert whole.dims == many.dims and whole.sizes["time"] == 8

    def test_recordings_whose_times_start_anew_are_told_of_it(self):
        joined = xr.concat([movie(4), movie(4)], "time")
        with pytest.raises(ValueError, match=r"goes back at frame 4.*xs2p.concat\(\[a, b\]\), or"):
            joined.s2p.extract(rois(), tau=0.7)


class TestTraces:
    @pytest.mark.parametrize("n", [1, 2])
    def test_stored_and_read_again(self, tmp_path, n):
        whole = xs2p.concat({f"day {k}": traces(6, k) for k in range(n)})
        whole.to_zarr(tmp_path / "a.zarr", consolidated=False)
        whole.to_netcdf(tmp_path / "a.nc")
        for opens, name in ((xr.open_zarr, "a.zarr"), (xr.open_dataset, "a.nc")):
            more = {"consolidated": False} if name == "a.zarr" else {}
            with opens(tmp_path / name, **more) as back:
                again = xs2p.concat([back, back])
                assert again.segment.values.tolist() == np.repeat(range(2 * n), 6).tolist()
                names = again.segment.attrs["names"]
            assert [each.split("/")[1] for each in names] == [f"day {k}" for k in range(n)] * 2

    def test_joined_traces_are_those_of_the_joined_movie(self):
        with raise_if_dask_computes():
            lazy = xs2p.concat([traces(20, 1), traces(12, 2)])
        assert lazy.segment.values.tolist() == [0] * 20 + [1] * 12
        whole = xs2p.concat([movie(20, 1), movie(12, 2)])
        expected = whole.s2p.extract(rois(), tau=0.7, win_baseline=1.0, min_neuropil_pixels=20)
        for name in ("F", "Fneu", "Fc"):
            np.testing.assert_array_equal(lazy[name], expected[name])
        assert lazy.Fc.attrs == expected.Fc.attrs and lazy.attrs["fs"] == 10.0
        np.testing.assert_allclose(lazy.time, expected.time)
        xr.testing.assert_equal(
            lazy.drop_dims("time").reset_coords(), expected.drop_dims("time").reset_coords()
        )
        lazy.s2p.to_dataframe("rois")

    def test_parameters_that_differ_are_said_by_none(self):
        whole = xs2p.concat([traces(10), traces(10, neuropil_coefficient=0.5)])
        assert "neuropil_coefficient" not in whole.Fc.attrs and whole.F0.attrs["win_baseline"] == 1

    def test_valid_of_each_roi(self):
        a = traces(6).assign_coords(valid=(("roi", "time"), np.arange(12).reshape(2, 6) != 3))
        whole = xs2p.concat([a, traces(5)])
        assert whole.valid.dims == ("roi", "time")
        assert np.argwhere(~whole.valid.values).tolist() == [[0, 3]]

    def test_other_rois_or_variables(self):
        other = movie(10).s2p.extract(rois(1), tau=0.7, min_neuropil_pixels=20)
        with pytest.raises(ValueError, match="differ in xpix: join recordings of the same ROIs"):
            xs2p.concat([traces(10), other])
        with pytest.raises(ValueError, match="differ in their sizes"):
            xs2p.concat([traces(10), traces(10).isel(roi=[0])])
        with pytest.raises(ValueError, match="their variables: spks only in one"):
            xs2p.concat([traces(10), traces(10).drop_vars("spks")])

    def test_what_differs_is_left_out_with_a_word(self):
        a, b = (
            traces(10)
            .assign_coords(snr=("roi", [0.1, n]))
            .assign(meanImg=(("y", "x"), np.full((LY, LX), n)), same=("x", np.arange(LX)))
            for n in (0.3, 0.4)
        )
        with pytest.warns(UserWarning, match="meanImg, snr differ|snr, meanImg differ") as told:
            whole = xs2p.concat([a, b])
        assert len(told) == 1 and not {"snr", "meanImg"} & set(whole.variables)
        assert "same" in whole

    def test_traces_that_are_not_complete(self):
        part = traces(10).assign_attrs(xs2p_unfinished="5 of 10 frames")
        with pytest.raises(ValueError, match=r"movies\[1\] is not complete: 5 of 10 frames"):
            xs2p.concat([traces(10), part])


@pytest.mark.parametrize("lazy", [False, True])
def test_flags_of_dff_are_of_the_whole_recording(lazy):
    movie, cells, _ = simulate(4, (30, 41), 400, fs=10.0)
    movie = movie.chunk(time=50) if lazy else movie
    halves = {"a": movie[:200], "b": movie[200:]}
    options = {"tau": 1.0, "dff": True, "min_neuropil_pixels": 60}
    parts = {name: half.s2p.extract(cells, **options) for name, half in halves.items()}
    with raise_if_dask_computes():
        joined = xs2p.concat(parts, gap=5.0)
    expected = xs2p.concat(halves, gap=5.0).s2p.extract(cells, **options)
    for name in ("dFF", "noise", "dff_flag"):
        np.testing.assert_array_equal(joined[name], expected[name])
        assert joined[name].attrs == expected[name].attrs
    assert (joined.noise != parts["a"].noise).any()
