import os
import shutil
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from loaders import LY, T, opened

from xs2p.io import _lazy as lazy
from xs2p.io import open_movie


def written(tmp_path, kind, frames):
    path = tmp_path / "movie.zarr"
    if kind == "bare":
        chunks = (5, 4, 9)
        zarr.create_array(path, shape=frames.shape, chunks=chunks, dtype=frames.dtype)[:] = frames
    else:
        ds = xr.Dataset({"m": (("time", "y", "x"), frames)})
        ds.to_zarr(path, consolidated=False, encoding={"m": {"chunks": (5, 4, 9)}})
    return path


def test_keeps_labels(tmp_path, frames):
    path = tmp_path / "m.zarr"
    movie = xr.DataArray(
        frames, dims=("time", "y", "x"), name="green",
        coords={"time": np.arange(T) / 30, "y": np.arange(LY) * 0.5, "depth": 120.0},
        attrs={"fs": 30.0, "units": "photons"},
    )  # fmt: skip
    movie.time.attrs["units"] = "s"
    movie.to_dataset().to_zarr(path, consolidated=False)
    got = opened(path)
    xr.testing.assert_equal(got, movie.rename("movie"))
    assert "open_movie" in got.attrs.pop("description")
    assert got.attrs == {
        "fs": 30.0, "units": "photons", "long_name": "fluorescence movie", "source": str(path),
    }  # fmt: skip
    assert got.time.attrs == {"units": "s"}
    again = opened(path, fs=10)
    np.testing.assert_array_equal(again.time, np.arange(T) / 10)
    assert again.attrs["fs"] == 10.0 and float(again.depth) == 120.0


def test_opens_again_what_was_saved_from_it(tmp_path, frames):
    path = written(tmp_path, "dataset", frames)
    movie = opened(path, fs=5.0)
    movie.to_zarr(tmp_path / "copy.zarr", consolidated=False)
    xr.testing.assert_equal(opened(tmp_path / "copy.zarr"), movie)


def test_seconds_are_no_timedelta(tmp_path, frames):
    ds = xr.Dataset({"m": (("time", "y", "x"), frames)}, {"time": np.arange(T) / 2.0})
    ds.time.attrs["units"] = "seconds"
    ds.to_zarr(tmp_path / "m.zarr", consolidated=False)
    np.testing.assert_array_equal(opened(tmp_path / "m.zarr").time, np.arange(T) / 2)


def test_scaled_movies_are_scaled(tmp_path):
    values = np.linspace(0, 1, 2 * 3 * 4).reshape(2, 3, 4)
    ds = xr.Dataset({"m": (("time", "y", "x"), values)})
    encoding = {"m": {"dtype": "int16", "scale_factor": 1e-4, "_FillValue": -1}}
    ds.to_zarr(tmp_path / "m.zarr", encoding=encoding, consolidated=False)
    movie = opened(tmp_path / "m.zarr")
    assert movie.dtype.kind == "f"
    np.testing.assert_allclose(movie, values, atol=1e-4)


def test_which_array(tmp_path, frames):
    path = tmp_path / "m.zarr"
    dims = ("time", "y", "x")
    ds = xr.Dataset({"a": (dims, frames), "b": (dims, frames + 1), "mean": (dims[1:], frames[0])})
    ds.to_zarr(path, consolidated=False)
    with pytest.raises(ValueError, match=r"2 movies; pick one with variable='a'.*b\(time, y, x\)"):
        open_movie(path)
    np.testing.assert_array_equal(opened(path, variable="b"), frames + 1)
    for name in ("mean", "nothing"):
        with pytest.raises(ValueError, match=rf"variable='{name}' is no .* holds: a\(time, y, x"):
            open_movie(path, variable=name)
    ds[["mean"]].to_zarr(path, mode="w", consolidated=False)
    with pytest.raises(ValueError, match=r"found none.*mean\(y, x\) \(7, 9\) int16"):
        open_movie(path)
    turned = xr.Dataset({"a": (("t", "row", "col"), frames)})
    turned.to_zarr(path, mode="w", consolidated=False)
    with pytest.raises(ValueError, match=r"found none.*rename.*a\(t, row, col\)"):
        open_movie(path)


def test_single_array(tmp_path, frames):
    path = written(tmp_path, "bare", frames)
    with pytest.raises(ValueError, match="leave variable out"):
        open_movie(path, variable="a")
    for shape in [(3, 4), (2, 3, 4, 5)]:
        other = tmp_path / f"m{len(shape)}.zarr"
        zarr.create_array(other, shape=shape, dtype="i2")
        with pytest.raises(ValueError, match="expected 3 dims"):
            open_movie(other)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="no Zarr array or group"):
        open_movie(tmp_path / "empty.zarr")


def test_chunks_are_the_stores(tmp_path, monkeypatch):
    path = tmp_path / "m.zarr"
    zarr.create_array(path, shape=(100, 40, 60), chunks=(7, 16, 16), dtype="i2")
    assert opened(path).chunks == ((100,), (40,), (60,))
    monkeypatch.setattr(lazy, "TARGET_BYTES", 15 * 40 * 60 * 2)
    assert opened(path).chunks == ((14,) * 7 + (2,), (40,), (60,))
    monkeypatch.setattr(lazy, "TARGET_BYTES", 15 * 16 * 16 * 2)
    assert opened(path).chunks == ((14,) * 7 + (2,), (16, 16, 8), (16, 16, 16, 12))


def test_each_stored_chunk_is_read_once(tmp_path, frames):
    for detail in ("bare", "dataset"):
        path = written(tmp_path, detail, frames)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert opened(path, chunks=10).chunks[0] == (10, 10, 3)
            opened(path, chunks=T)
        with pytest.warns(UserWarning, match=r"chunks=6 cuts through .* 5 frames"):
            movie = open_movie(path, chunks=6)
        np.testing.assert_array_equal(movie.values, frames)
        shutil.rmtree(path)


def test_token_follows_the_store(tmp_path, frames):
    path = written(tmp_path, "bare", frames)
    first = opened(path)
    assert first.data.name == opened(path).data.name
    os.utime(path / "zarr.json", ns=(1, 1))
    assert first.data.name != opened(path).data.name
