"""Raw recordings read as suite2p registered them, against what it wrote itself."""

from __future__ import annotations

import pickle

import dask
import numpy as np
import pytest
import tifffile
import xarray as xr
from loaders import REFERENCE

import xs2p
from xs2p.testing import raise_if_dask_computes

CASES = ("rigid", "nonrigid", "bidiphase", "two_steps")


@pytest.fixture(scope="module")
def stored():
    with np.load(REFERENCE / "registration.npz") as z:
        return dict(z)


def ops_of(stored, case, **more):
    """What suite2p 1.1.0 said of a case, as its ops.npy has it."""
    keys = ("yoff", "xoff", "yoff1", "xoff1", "bidiphase")
    said = {key: stored[f"{case}_{key}"] for key in keys if f"{case}_{key}" in stored}
    settings = {"block_size": tuple(stored[f"{case}_block_size"].tolist())}
    settings["two_step_registration"] = case == "two_steps"
    _, Ly, Lx = stored[f"{case}_data"].shape
    sizes = {"Ly": Ly, "Lx": Lx, "fs": 15.0, "tau": 0.7, "nplanes": 1, "nchannels": 1}
    said["bidiphase"] = float(said["bidiphase"])
    return {**sizes, **said, "registration": settings, "version": "1.1.0", **more}


def save(folder, ops):
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ops.npy", ops)
    return folder


@pytest.fixture
def recording(stored, tmp_path):
    """A function that writes a case's TIFF and plane folder, and gives both paths."""

    def write(case, **more):
        raw = stored[str(stored[f"{case}_raw"])]
        tifffile.imwrite(tmp_path / "raw.tif", raw, photometric="minisblack")
        return tmp_path / "raw.tif", save(tmp_path / "plane0", ops_of(stored, case, **more))

    return write


@pytest.mark.parametrize("chunks", [None, 5])
@pytest.mark.parametrize("case", CASES)
def test_frames_are_those_that_suite2p_wrote(stored, recording, case, chunks):
    raw, folder = recording(case)
    with raise_if_dask_computes():
        movie = xs2p.open_movie(raw, registration=folder, chunks=chunks)
    expected = stored[f"{case}_data"]
    assert movie.dtype == np.int16 and movie.shape == expected.shape
    if case == "rigid":
        np.testing.assert_array_equal(movie, expected)
    off = np.abs(movie.values.astype(int) - expected)
    assert off.max() <= 1 and (off > 0).mean() < 0.005
    assert movie.attrs["fs"] == 15.0 and movie.attrs["tau"] == 0.7 and int(movie.plane) == 0
    part = movie.isel(time=slice(3, 9, 2), y=slice(7, 40), x=[3, 30])
    np.testing.assert_array_equal(part, movie.values[3:9:2, 7:40, [3, 30]])
    # The blocks matter: rigid shifts alone are far from it.
    if case != "rigid":
        rigid = xs2p.open_movie(
            raw, registration=save(folder, {**ops_of(stored, case), "yoff1": None})
        )
        assert np.abs(rigid.values.astype(int) - expected).max() > 50


def test_each_chunk_is_read_for_itself(recording, stored):
    raw, folder = recording("nonrigid")
    movie = xs2p.open_movie(raw, registration=folder, chunks=4)
    whole = movie.values
    raw.write_bytes(raw.read_bytes())  # was written anew since: reading it now is an error
    with pytest.raises(OSError, match="written anew"):
        movie.isel(time=slice(0, 4)).compute()
    array = xr.DataArray(stored["raw_int16"], dims=("time", "y", "x"))
    for given in (array, array.chunk(time=5, y=11)):
        moved = xs2p.open_movie(given, registration=str(folder))
        assert moved.chunks is not None
        np.testing.assert_array_equal(moved, whole)
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(moved.data)), whole)
    same = [dask.base.tokenize(xs2p.open_movie(array, registration=folder)) for _ in range(2)]
    assert same[0] == same[1]


@pytest.fixture
def several(tmp_path):
    """A raw TIFF of 2 planes and 2 channels in turn, shifts of each plane, what must come out."""
    rng = np.random.default_rng(4)
    frames = rng.integers(-900, 900, (21, 2, 2, 12, 10)).astype(np.int16)  # time, plane, channel
    tifffile.imwrite(tmp_path / "raw.tif", frames.reshape(-1, 12, 10), photometric="minisblack")
    expected = np.empty((2, 2, 21, 12, 10), np.int16)  # channel, plane, time
    common = {"Ly": 12, "Lx": 10, "fs": 5.0, "nplanes": 2, "nchannels": 2, "version": "1.1.0"}
    for plane in range(2):
        shifts = rng.integers(-4, 5, (2, 21))
        bad = rng.random(21) < 0.3
        ops = {**common, "yoff": shifts[0], "xoff": shifts[1], "badframes": bad, "tau": 1.0}
        save(tmp_path / "suite2p" / f"plane{plane}", ops)
        for t, channel in np.ndindex(21, 2):
            frame = frames[t, plane, channel]
            moved = np.empty_like(frame)
            for y, x in np.ndindex(frame.shape):  # a pixel goes up by yoff and left by xoff
                moved[(y - shifts[0, t]) % 12, (x - shifts[1, t]) % 10] = frame[y, x]
            expected[channel, plane, t] = moved
    return tmp_path / "raw.tif", tmp_path / "suite2p", expected


def test_planes_and_channels_in_turn(several):
    raw, folder, expected = several
    how = {"planes": 2, "channels": 2, "chunks": 8}
    for given in (folder, folder.parent, [folder / "plane0", folder / "plane1"]):
        movie = xs2p.open_movie(raw, registration=given, **how)
        assert movie.dims == ("channel", "plane", "time", "y", "x")
        np.testing.assert_array_equal(movie, expected)
    for plane in range(2):
        movie = xs2p.open_movie(raw, registration=folder / f"plane{plane}", **how)
        assert movie.dims == ("channel", "time", "y", "x") and int(movie.plane) == plane
        np.testing.assert_array_equal(movie, expected[:, plane])
        said = np.load(folder / f"plane{plane}" / "ops.npy", allow_pickle=True).item()
        np.testing.assert_array_equal(movie.badframes, said["badframes"])
    turned = xs2p.open_movie(raw, registration=[folder / "plane1", folder / "plane0"], **how)
    np.testing.assert_array_equal(turned, expected[:, ::-1])
    assert turned.plane.values.tolist() == [1, 0]


def test_a_recording_that_ends_within_a_volume(several):
    raw, folder, expected = several
    tifffile.imwrite(raw, tifffile.imread(raw)[:-2], photometric="minisblack")
    path = folder / "plane1" / "ops.npy"
    ops = np.load(path, allow_pickle=True).item()
    np.save(path, {**ops, **{k: ops[k][:20] for k in ("yoff", "xoff", "badframes")}})
    with pytest.warns(UserWarning, match="ends before all"):
        movie = xs2p.open_movie(raw, registration=folder, planes=2, channels=2)
    np.testing.assert_array_equal(movie, expected[:, :, :20])
    assert movie.badframes.dims == ("time",)


def test_what_is_asked_for_wrongly(several, tmp_path):
    raw, folder, _ = several
    for how, match in (
        (
            {},
            r"has 84 frames of a .*plane0.* shifts of 21: .*: planes=2, channels=2",
        ),
        ({"planes": 2}, "has 42 frames of a plane.*21: is it the recording"),
        ({"channels": 4}, r"has 4 channels, and suite2p was told nchannels=2"),
        ({"planes": 4}, r"has 4 planes, and suite2p was told nplanes=2"),
    ):
        with pytest.raises(ValueError, match=match):
            xs2p.open_movie(raw, registration=folder / "plane0", **how)
    with pytest.raises(ValueError, match=r"is of 2 planes, and .* has one"):
        xs2p.open_movie(raw, registration=folder)
    with pytest.raises(ValueError, match=r"has 2 planes, numbered from 0.*plane7"):
        (folder / "plane1").rename(folder / "plane7")
        xs2p.open_movie(raw, registration=folder, planes=2, channels=2)
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        xs2p.open_movie(raw, registration=tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"neither ops\.npy nor reg_outputs\.npy"):
        xs2p.open_movie(raw, registration=tmp_path / "empty")
    for wrong in (3, [], [3]):
        with pytest.raises(ValueError, match="expected a folder of suite2p's"):
            xs2p.open_movie(raw, registration=wrong)


@pytest.mark.parametrize(
    ("more", "match"),
    [
        ({"yoff": None}, "how frames were moved"),
        ({"yoff": np.zeros(7, int)}, r"xoff is int64 \(12,\), expected finite numbers \(7,\)"),
        ({"xoff": np.full(12, 0.5)}, "no whole numbers"),
        ({"xoff1": np.zeros((12, 4))}, r"xoff1 is float64 \(12, 4\).*\(12, 9\)"),
        ({"yoff1": np.full((12, 9), np.nan)}, "yoff1 is float64"),
        ({"Ly": 61}, r"\(60, 48\), those of .* \(61, 48\)"),
        ({"version": "0.14.4"}, r"suite2p 0\.14\.4, and non-rigid shifts"),
        ({"registration": {}}, "block_size of its settings is None"),
        (
            {"registration": {"two_step_registration": True}, "yoff1": None, "version": "0.14.4"},
            "or those of two steps",
        ),
        ({"bidiphase": 0.5}, "bidiphase is 0.5"),
    ],
)
def test_what_cannot_be_replayed(recording, more, match):
    raw, folder = recording("nonrigid", **more)
    with pytest.raises(ValueError, match=match):
        xs2p.open_movie(raw, registration=folder)


def test_what_is_doubtful_is_told(stored, recording):
    raw, folder = recording("rigid", version="0.14.4")
    with pytest.warns(UserWarning, match=r"by suite2p 0\.14\.4; its shifts are applied as 1\.1\.0"):
        movie = xs2p.open_movie(raw, registration=folder)
    np.testing.assert_array_equal(movie, stored["rigid_data"])
    raw, folder = recording("rigid", bidiphase=2.0)
    with pytest.warns(UserWarning, match="bidiphase is 2, above 0"):
        movie = xs2p.open_movie(raw, registration=folder)
    frames = stored["raw_int16"].copy()
    frames[:, 1::2, 2:] = stored["raw_int16"][:, 1::2, :-2]
    down, right = (stored[f"rigid_{key}"] for key in ("yoff", "xoff"))
    for n in range(len(frames)):
        expected = np.roll(np.roll(frames[n], -down[n], 0), -right[n], 1)
        np.testing.assert_array_equal(movie[n], expected)
    with pytest.raises(ValueError, match="float32, and suite2p's registered movie int16"):
        xs2p.open_movie(movie.astype("float32"), registration=folder)


def test_parts_of_ops_and_traces(stored, recording, tmp_path):
    raw, folder = recording("nonrigid")
    whole = xs2p.open_movie(raw, registration=folder)
    ops = ops_of(stored, "nonrigid")
    shifts = {key: ops.pop(key) for key in ("yoff", "xoff", "yoff1", "xoff1", "bidiphase")}
    np.save(folder / "ops.npy", ops)
    np.save(folder / "reg_outputs.npy", shifts)
    np.testing.assert_array_equal(xs2p.open_movie(raw, registration=folder), whole)
    labels = np.zeros(whole.shape[1:], int)
    labels[10:20, 12:20] = 1
    rois = xs2p.rois_from_labels(labels)
    how = {"neuropil_extract": False}
    moved = whole.s2p.extract(rois, **how).F
    memory = xr.DataArray(whole.values, dims=whole.dims, attrs=whole.attrs).s2p.extract(rois, **how)
    np.testing.assert_array_equal(moved, memory.F)


@pytest.mark.parametrize("name", ["", "data.bin"])
def test_what_is_registered_already_is_not_moved_again(tmp_path, name):
    folder = tmp_path / "suite2p" / "plane0"
    folder.mkdir(parents=True)
    np.zeros((10, 4, 6), "<i2").tofile(folder / "data.bin")
    np.save(folder / "ops.npy", {"Ly": 4, "Lx": 6, "yoff": np.ones(10, int), "nframes": 10})
    with pytest.raises(ValueError, match="is registered already .data.bin of suite2p's"):
        xs2p.open_movie(folder / name, registration=folder)
