"""Times that a movie has: kept, compared with fs, of any kind, going on; by every door."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import xs2p
from xs2p.cli import app

T = 300
SMALL = {"min_neuropil_pixels": 30, "win_baseline": 5.0}
STAMPS = np.arange(T) / 10 + np.where(np.arange(T) < 100, 0, 60)


def movie_at(times=None, fs=None, units=None, chunks=None):
    frames = np.random.default_rng(0).integers(0, 900, (T, 20, 24)).astype("i2")
    movie = xr.DataArray(frames, dims=("time", "y", "x"), name="movie")
    if times is not None:
        movie = movie.assign_coords(time=("time", times, {"units": units} if units else {}))
    if fs is not None:
        movie.attrs["fs"] = fs
    return movie if chunks is None else movie.chunk(time=chunks)


@pytest.fixture(scope="module")
def rois():
    labels = np.zeros((20, 24), int)
    labels[3:8, 3:9] = 1
    return xs2p.rois_from_labels(labels)


def with_store(movie, folder):
    movie.to_dataset(name="movie").to_zarr(folder / "m.zarr", consolidated=False)
    return folder / "m.zarr"


@pytest.mark.parametrize("door", ["array", "zarr"])
def test_timestamps_are_kept_whatever_fs_says(tmp_path, door):
    movie = movie_at(STAMPS, units="s")
    source = movie if door == "array" else with_store(movie, tmp_path)
    with pytest.warns(
        UserWarning, match=r"fs=10 Hz .*: frame 100 is at 70 s, and by fs at 10 s"
    ) as told:
        got = xs2p.open_movie(source, fs=10.0)
    assert len(told) == 1
    np.testing.assert_array_equal(got.time, STAMPS)
    assert got.attrs["fs"] == 10.0


def test_timestamps_that_jitter_by_less_than_half_a_frame_say_nothing():
    jitter = np.arange(T) / 10 + np.random.default_rng(0).uniform(-0.02, 0.02, T)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        got = xs2p.open_movie(movie_at(jitter), fs=10.0)
    np.testing.assert_array_equal(got.time, jitter)


def test_each_door_warns_once(rois, tmp_path):
    """Of a rate that is not that of the times; what comes after the opening is silent."""
    movie = movie_at(STAMPS, units="s", chunks=50)
    path = with_store(movie, tmp_path)
    doors = {
        "extract": lambda: movie.s2p.extract(rois, fs=10.0, tau=1.0, **SMALL).time,
        "path": lambda: xs2p.extract(path, rois, fs=10.0, tau=1.0, **SMALL).time,
        "store": lambda: (
            xs2p.extract_to_zarr(
                movie, rois, tmp_path / "t.zarr", fs=10.0, tau=1.0, progress=False, **SMALL
            ).time
        ),
    }
    for door in doors.values():
        with pytest.warns(UserWarning, match="the times are kept") as told:
            np.testing.assert_array_equal(door(), STAMPS)
        assert len(told) == 1
    F = xr.DataArray(np.zeros((1, T), "f4"), dims=("roi", "time"), coords={"time": movie.time})
    for step in (lambda: F.s2p.baseline(fs=10.0), lambda: F.s2p.deconvolve(fs=10.0, tau=1.0)):
        with pytest.warns(UserWarning, match="the times are kept") as told:
            np.testing.assert_array_equal(step().time, STAMPS)
        assert len(told) == 1


def test_the_command_line_keeps_them_too(rois, tmp_path):
    path = with_store(movie_at(STAMPS, units="s"), tmp_path)
    rois.to_zarr(tmp_path / "rois.zarr", consolidated=False)
    args = ["extract", path, tmp_path / "rois.zarr", tmp_path / "t.zarr", "--fs", "10"]
    said = CliRunner().invoke(app, [*map(str, args), "--min-neuropil-pixels", "30"])
    assert said.exit_code == 0 and said.output.count("the times are kept") == 1
    ds = xr.open_zarr(tmp_path / "t.zarr", consolidated=False)
    np.testing.assert_array_equal(ds.time, STAMPS)


@pytest.mark.parametrize(
    ("times", "units", "told"),
    [
        (np.arange(0, 2 * T, 2), None, "not say its unit: .* ms 500 Hz, as frame numbers 15"),
        (np.arange(0, 2 * T, 2), "frames", r"steps by 2 frames \(15 Hz\)"),
        (np.arange(T) / 15 * 1e3, "ms", r"66.6667 ms \(15 Hz\)"),
        (np.arange(T) / 15, "seconds", r"0.0666667 s \(15 Hz\)"),
        (np.arange(T) / 15, None, "does not say its unit: in s that is 15 Hz"),
        ((np.arange(T) / 15 * 1e9).astype("m8[ns]"), None, r"0.0666667 s \(15 Hz\)"),
        (np.datetime64("2024-01-01", "ns") + (np.arange(T) / 15 * 1e9).astype("m8[ns]"), None,
         r"0.0666667 s \(15 Hz\)"),
    ],
)  # fmt: skip
def test_a_stale_rate_is_told_in_any_unit(rois, times, units, told):
    movie = movie_at(times, fs=30.0, units=units)
    with pytest.raises(ValueError, match=rf"attrs\['fs'\] is 30.0 Hz, .*{told}"):
        movie.s2p.extract(rois, tau=1.0, **SMALL)
    with pytest.warns(UserWarning, match=rf"fs=30 Hz .*{told}"):
        movie.s2p.extract(rois, tau=1.0, fs=30.0, **SMALL)


@pytest.mark.parametrize("times", [np.arange(T), np.arange(T) / 30 * 1e3, np.arange(T) / 30])
def test_frame_numbers_ms_and_s_are_recognised(rois, times):
    ds = movie_at(times, fs=30.0).s2p.extract(rois, tau=1.0, fs=30.0, **SMALL)
    assert ds.attrs["fs"] == 30.0


def dates(kind):
    seconds = (STAMPS * 1e9).astype("m8[ns]")
    if kind == "timedelta64":
        return seconds
    if kind == "datetime64":
        return np.datetime64("2024-01-01T10:00:00", "ns") + seconds
    cftime = pytest.importorskip("cftime")
    start = cftime.DatetimeNoLeap(2024, 1, 1, 10)
    return [start + one for one in seconds.astype("m8[us]").tolist()]


@pytest.mark.filterwarnings("ignore:time of .* pauses before frame 100")
@pytest.mark.parametrize("kind", ["datetime64", "timedelta64", "cftime"])
def test_dates_go_all_the_way(rois, tmp_path, kind):
    movie = movie_at(dates(kind), fs=10.0, chunks=50)
    ds = xs2p.extract_to_zarr(
        movie, rois, tmp_path / "t.zarr", tau=1.0, progress=False, resume=True, **SMALL
    )
    assert ds.indexes["time"].equals(movie.indexes["time"])
    want = movie.s2p.extract(rois, tau=1.0, **SMALL)
    xr.testing.assert_equal(ds[list(want.data_vars)], want.compute()[list(want.data_vars)])
    assert want.F.s2p.baseline().indexes["time"].equals(movie.indexes["time"])
    assert want.Fc.s2p.deconvolve(tau=1.0).indexes["time"].equals(movie.indexes["time"])


SECONDS = np.datetime64("2024-01-01", "ns") + np.arange(T) * np.timedelta64(100, "ms")


@pytest.mark.parametrize(
    ("times", "how"),
    [
        (np.arange(T) % 200 / 10, "goes back at frame 200: 0.0 after 19.9 of frame 199"),
        (np.maximum(np.arange(T) - 1, 3) / 10, "repeats at frame 1: .* and at 3 more"),
        (
            np.datetime64("2024-01-01") + np.arange(T) % 200 * np.timedelta64(1, "s"),
            "goes back at frame 200: 2024",
        ),
        (np.where(np.arange(T) == 50, np.nan, np.arange(T) % 200 / 10), "back at frame 200"),
        (np.where(np.arange(T) == 50, np.nan, np.arange(T) / 10), "is nan at frame 50;"),
        (
            np.where(np.arange(T) % 200 == 7, np.datetime64("NaT", "ns"), SECONDS),
            "is NaT at frame 7, and of 1 more;",
        ),
    ],
)
def test_time_goes_on_or_is_refused(rois, tmp_path, times, how):
    movie = movie_at(times, fs=10.0)
    F = xr.DataArray(np.zeros((1, T), "f4"), dims=("roi", "time"), coords={"time": movie.time})
    for door in (
        lambda: movie.s2p.extract(rois, tau=1.0),
        lambda: movie.s2p.extract_traces(xs2p.build_masks(rois, min_neuropil_pixels=30)),
        lambda: xs2p.extract_to_zarr(movie, rois, tmp_path / "t.zarr", tau=1.0),
        lambda: F.s2p.baseline(fs=10.0),
        lambda: F.s2p.preprocess(fs=10.0),
        lambda: F.s2p.deconvolve(fs=10.0, tau=1.0),
    ):
        with pytest.raises(ValueError, match=rf"{how}.*assign_coords\(time="):
            door()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("times", "units", "looks"),
    [
        (np.arange(T) / 30 + 5, None, r"\. The times look like 30 Hz: fs=30$"),
        (np.arange(T) * 40.0, "ms", r"\. The times look like 25 Hz: fs=25$"),
        (SECONDS, None, r"\. The times look like 10 Hz: fs=10$"),
        (np.arange(T), None, "= 30.0$"),  # frame numbers
        (np.arange(T) * 40.0, None, "= 30.0$"),  # ms or s
        (STAMPS, "s", "= 30.0$"),  # with a gap
        (None, None, "= 30.0$"),
    ],
)
def test_the_rate_that_is_asked_for_is_the_one_of_the_times(rois, tmp_path, times, units, looks):
    with pytest.raises(ValueError, match=rf"fs is not known: give .*{looks}"):
        movie_at(times, units=units).s2p.extract(rois, tau=1.0, **SMALL)


def test_other_doors_name_the_rate_of_the_times_too(rois, tmp_path):
    movie = movie_at(np.arange(T) / 25, units="s")
    traces = movie.s2p.extract(rois, baseline="none", **SMALL)
    traces = traces.assign_coords(rois.variables).assign_attrs(rois.attrs)
    with pytest.raises(ValueError, match=r"ds\.attrs\['fs'\] = 25, as the times look like"):
        xs2p.write_suite2p(traces, tmp_path / "plane0")
    given = [str(with_store(movie, tmp_path)), str(tmp_path / "r.zarr"), str(tmp_path / "t.zarr")]
    rois.to_zarr(given[1], consolidated=False)
    told = CliRunner().invoke(app, ["extract", *given]).output
    assert "--fs 25, as its times look like" in " ".join(told.split())


def test_labels_of_a_store_do_not_break_the_next_one(rois, tmp_path):
    """Neither its chunks and packing, nor a selection that cuts them anywhere."""
    movie = movie_at(np.arange(T) / 10, fs=10.0).assign_coords(trial=("time", np.arange(T) // 40))
    packed = {"trial": {"dtype": "i1", "scale_factor": 0.5, "_FillValue": -1, "chunks": (100,)}}
    movie.chunk(time=100).to_dataset(name="movie").to_zarr(
        tmp_path / "m.zarr", consolidated=False, encoding=packed
    )
    movie = xr.open_zarr(tmp_path / "m.zarr", consolidated=False).movie.isel(time=slice(37, 277))
    assert movie.trial.chunks
    ds = movie.s2p.extract(rois, tau=1.0, **SMALL)
    assert ds.trial.chunks and movie.trial.encoding["scale_factor"] == 0.5
    steps = {"all": ds, "F0": ds.F.s2p.baseline(), "spks": ds.Fc.s2p.deconvolve(tau=1.0)}
    steps["preprocess"] = ds.F.s2p.preprocess()
    for name, made in steps.items():
        made.to_zarr(tmp_path / f"{name}.zarr", consolidated=False)
        again = xr.open_zarr(tmp_path / f"{name}.zarr", consolidated=False)
        np.testing.assert_array_equal(again.trial, np.arange(T)[37:277] // 40)
