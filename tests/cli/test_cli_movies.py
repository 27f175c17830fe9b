"""``xs2p extract`` with movies of several files, channels and planes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from test_cli import FS, one_line, recording, xs2p_shell  # noqa: F401  (fixtures)

import xs2p


def shell(xs2p_shell, movie, *args, rois="stat.npy"):  # noqa: F811
    return xs2p_shell("extract", movie, rois, "out.zarr", "--fs", FS, "-q", *args)


@pytest.fixture
def turns(recording):  # noqa: F811
    """Two channels of two planes in turn, in three files that break anywhere; and the ROIs."""
    frames = recording[0].values
    stack = np.stack([frames, frames // 2, frames[::-1], frames // 3], 1).reshape(-1, 64, 64)
    for n, part in enumerate(np.split(stack, [101, 102])):
        np.save(f"rec_{n + 9}.npy", part)
    return stack.reshape(-1, 2, 2, 64, 64), recording[1]


def test_a_pattern_planes_and_channels(xs2p_shell, turns):  # noqa: F811
    stack, rois = turns
    own = np.arange(rois.sizes["roi"]) % 2
    some = xs2p.recompute_overlap(rois.assign_coords(plane=("roi", own)))
    some.to_zarr("rois.zarr", consolidated=False)
    given = ["--channels", 2, "--planes", 2, "--channel", 0, "--channel-chan2", 1]
    code, _, err = shell(xs2p_shell, "rec_*.npy", *given, rois="rois.zarr")
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        for plane in (0, 1):
            for channel, name in enumerate(("F", "F_chan2")):
                movie = xs2p.open_movie(stack[:, plane, channel], fs=FS)
                alone = movie.s2p.extract(some.isel(roi=own == plane))
                np.testing.assert_array_equal(ds[name][ds.plane.values == plane], alone.F)


def test_all_channels(xs2p_shell, recording):  # noqa: F811
    movie, rois = recording
    np.save("two.npy", np.stack([movie.values, movie.values[::-1]]).reshape(-1, 64, 64))
    assert shell(xs2p_shell, "two.npy", "--channels", 2, "--order", "channel,time")[0] == 0
    with xr.open_zarr("out.zarr") as ds:
        assert ds.F.dims == ("channel", "roi", "time")
        np.testing.assert_array_equal(ds.F[0], ds.F[1, :, ::-1])


def test_a_second_movie_has_a_format_of_its_own(xs2p_shell, turns):  # noqa: F811
    """What is said of the first one's files is not said of the second's."""
    stack, rois = turns
    stack[:, 0].astype("<f4").tofile("two.raw")
    np.save("one.npy", stack[:, 0, 1])
    given = ["--channels", 2, "--channel", 0, "--shape", "64x64", "--dtype", "float32"]
    code, _, err = shell(xs2p_shell, "two.raw", *given, "--movie-chan2", "one.npy")
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        for channel, name in enumerate(("F", "F_chan2")):
            alone = xs2p.open_movie(stack[:, 0, channel], fs=FS).s2p.extract(rois)
            np.testing.assert_array_equal(ds[name], alone.F)


def test_a_second_movie_of_several_planes(xs2p_shell, turns):  # noqa: F811
    stack, rois = turns
    own = np.arange(rois.sizes["roi"]) % 2
    some = xs2p.recompute_overlap(rois.assign_coords(plane=("roi", own)))
    some.to_zarr("rois.zarr", consolidated=False)
    np.save("one.npy", stack[:, :, 1].reshape(-1, 64, 64))
    given = ["--channels", 2, "--planes", 2, "--order", "time,plane,channel", "--channel", 0]
    code, _, err = shell(
        xs2p_shell, "rec_*.npy", *given, "--movie-chan2", "one.npy", rois="rois.zarr"
    )
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        for plane in (0, 1):
            alone = xs2p.open_movie(stack[:, plane, 1], fs=FS).s2p.extract(
                some[{"roi": own == plane}]
            )
            np.testing.assert_array_equal(ds.F_chan2[ds.plane.values == plane], alone.F)


@pytest.mark.filterwarnings("ignore:.* ROIs are in planes that movie has not")
def test_the_plane_of_a_movie_of_one(xs2p_shell, recording):  # noqa: F811
    tifffile = pytest.importorskip("tifffile")
    movie, rois = recording
    own = np.arange(rois.sizes["roi"]) % 2
    some = xs2p.recompute_overlap(rois.assign_coords(plane=("roi", own)))
    some.to_zarr("rois.zarr", consolidated=False)
    tifffile.imwrite("one.tif", movie.values)
    code, _, err = shell(xs2p_shell, "one.tif", rois="rois.zarr")
    assert code != 0 and "2 planes (0, 1), and one.tif does not say" in one_line(err)
    assert "--plane 0" in one_line(err)
    code, _, err = shell(xs2p_shell, "one.tif", "--plane", 1, rois="rois.zarr")
    assert code == 0 and "other_plane" in one_line(err)
    with xr.open_zarr("out.zarr") as ds:
        alone = movie.assign_coords(plane=1).s2p.extract(some, fs=FS)
        np.testing.assert_array_equal(ds.F, alone.F)
        assert (
            np.isfinite(ds.F[own == 1]).all()
            and np.isnan(ds.F[own == 0]).all()
            and ds.plane.values.tolist() == own.tolist()
        )
    labelled = xr.Dataset({"movie": movie.assign_coords(plane=0)})
    labelled.to_zarr("said.zarr", consolidated=False)
    np.save("turns.npy", movie.values)
    for path, given, message in (
        ("said.zarr", ["--plane", 1], "said.zarr says itself that it is of plane 0"),
        ("turns.npy", ["--plane", 1, "--planes", 2], "turns.npy has 2 planes"),
    ):
        code, _, err = shell(xs2p_shell, path, *given, "--overwrite", rois="rois.zarr")
        assert code != 0 and message in one_line(err)


def test_segments(xs2p_shell, turns):  # noqa: F811
    code, _, err = shell(xs2p_shell, "rec_*.npy", "--segments", "files", "--baseline", "none")
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        assert np.bincount(ds.segment).tolist() == [101, 1, 378]
        assert ds.segment.attrs["names"] == ["rec_9.npy", "rec_10.npy", "rec_11.npy"]
    code, out, err = shell(xs2p_shell, "movie.npy", "--segments", "files", "--overwrite")
    assert (code, out) == (2, "") and "does not say of which files" in one_line(err)


def test_frames_that_do_not_count(xs2p_shell, recording):  # noqa: F811
    np.save("bad_frames.npy", [3, 40])
    np.save("ops.npy", {"Ly": 64, "Lx": 64, "badframes": np.arange(120) == 7})
    for given, bad in (("bad_frames.npy", [3, 40]), ("badframes", [7])):
        code, _, err = shell(xs2p_shell, "data.bin", "--valid", given, "--overwrite")
        assert (code, err) == (0, "")
        with xr.open_zarr("out.zarr") as ds:
            assert np.flatnonzero(~ds.valid.values).tolist() == bad
    code, _, err = shell(xs2p_shell, "data.bin", "--valid", "none.npy", "--overwrite")
    assert code == 2 and "none.npy" in one_line(err)


@pytest.mark.parametrize(
    ("movie", "args", "named"),
    [
        (
            "rec_*.npy",
            ("--channels", 2, "--channel", 2),
            "--channel 2: the movie has 2 channels, 0",
        ),
        ("movie.npy", ("--channel", 1), "--channel 1: the movie has one channel"),
        ("movie.npy", ("--channel-chan2", 0), "give it with --channel"),
        ("movie.npy", ("--planes", 0), "planes=0: expected how many planes"),
        ("movie.npy", ("--channels", 2, "--order", "c,t"), "order='c,t': expected channel, time"),
        ("nope_*.npy", (), "no file matches 'nope_*.npy'"),
    ],
    ids=str,
)
def test_bad_input(xs2p_shell, turns, movie, args, named):  # noqa: F811
    code, out, err = shell(xs2p_shell, movie, *args)
    assert (code, out) == (2, "") and named in one_line(err)


def test_a_raw_recording_as_suite2p_registered_it(xs2p_shell, recording):  # noqa: F811
    movie, rois = recording
    frames = movie.values.astype(np.int16)
    np.save("raw.npy", frames)
    np.save("second.npy", frames[::-1].copy())
    shifts = np.arange(2 * len(frames)).reshape(2, -1) % 7 - 3
    Path("plane0").mkdir()
    said = {"Ly": 64, "Lx": 64, "fs": FS, "tau": 1.0, "version": "1.1.0"}
    np.save(Path("plane0") / "ops.npy", {**said, "yoff": shifts[0], "xoff": shifts[1]})
    given = ["--registration", "plane0", "--movie-chan2", "second.npy"]
    code, _, err = shell(xs2p_shell, "raw.npy", *given)
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        for name, raw in (("F", frames), ("F_chan2", frames[::-1])):
            moves = zip(raw, *-shifts, strict=True)
            moved = np.stack([np.roll(frame, (y, x), (0, 1)) for frame, y, x in moves])
            alone = xs2p.open_movie(moved, fs=FS).s2p.extract(rois)
            np.testing.assert_array_equal(ds[name], alone.F)
