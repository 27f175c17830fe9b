import functools
import http.server
import os
import pickle
import shutil
import threading
import warnings

import numpy as np
import pytest
import xarray as xr
import zarr
from loaders import LY, T, opened

import xs2p
from xs2p.io import open_movie
from xs2p.movie import chunks as movie_chunks
from xs2p.movie import zarr_state

EMPTY = pytest.mark.filterwarnings("ignore:.*chunks are not there")  # only their sizes count


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
    with pytest.warns(
        UserWarning, match=r"fs=10 Hz .* steps by 0.0333333 s \(30 Hz\): frame 22 is"
    ):
        again = opened(path, fs=10)
    np.testing.assert_array_equal(again.time, np.arange(T) / 30)
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


def test_times_that_are_stored_packed(tmp_path, frames):
    """As timedeltas, or scaled: what was written comes back."""
    ds = xr.Dataset({"m": (("time", "y", "x"), frames)}, {"time": np.arange(T) / 2.0})
    packed = {"time": {"dtype": "f4", "scale_factor": 0.5}}
    ds.to_zarr(tmp_path / "a.zarr", consolidated=False, encoding=packed)
    np.testing.assert_array_equal(opened(tmp_path / "a.zarr").time, np.arange(T) / 2)
    deltas = (np.arange(T) * 100).astype("m8[ms]").astype("m8[ns]")
    ds.assign_coords(time=deltas).to_zarr(tmp_path / "b.zarr", consolidated=False)
    np.testing.assert_array_equal(opened(tmp_path / "b.zarr", fs=10.0).time, deltas)


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
        with pytest.raises(ValueError, match="expected 3: .time, y, x"):
            open_movie(other)
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(ValueError, match="no Zarr array or group"):
        open_movie(tmp_path / "empty.zarr")


@EMPTY
def test_chunks_are_the_stores(tmp_path, monkeypatch):
    path = tmp_path / "m.zarr"
    zarr.create_array(path, shape=(100, 40, 60), chunks=(7, 16, 16), dtype="i2")
    assert opened(path).chunks == ((100,), (40,), (60,))
    monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 15 * 40 * 60 * 2)
    assert opened(path).chunks == ((14,) * 7 + (2,), (40,), (60,))
    monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 15 * 16 * 16 * 2)
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


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_token_follows_what_is_written_in_place(tmp_path, frames, zarr_format, monkeypatch):
    path = tmp_path / "m.zarr"
    ds = xr.Dataset({"m": (("time", "y", "x"), frames)})
    ds.to_zarr(path, consolidated=False, zarr_format=zarr_format)
    array = zarr.open_group(path, mode="r+")["m"]
    first = opened(path)
    assert opened(path).data.name == first.data.name == opened(f"file://{path}").data.name
    array[20] = 5
    assert opened(path).data.name != first.data.name
    second = opened(path)
    array.attrs["scale_factor"] = 2.0
    scaled = opened(path)
    array.attrs["scale_factor"] = 0.5
    assert len({m.data.name for m in (first, second, scaled, opened(path))}) == 4
    monkeypatch.setattr(zarr_state, "MOST_FILES", 1)  # too many to look at
    assert opened(path).data.name != opened(path).data.name


def test_stores_in_memory_are_each_their_own(frames):
    store = zarr.storage.MemoryStore()
    zarr.create_array(store, data=frames)
    assert opened(store).data.name != opened(store).data.name


def test_a_run_goes_on_whatever_the_token_is(tmp_path):
    """What a run was made from is told by frames, not by how the movie was opened."""
    movie, rois = xs2p.sample_movie(None)[:60], xs2p.sample_rois()
    store = zarr.storage.MemoryStore()
    zarr.create_array(store, data=movie.values)
    for resume in (False, True):
        again = opened(store, fs=7.0)
        xs2p.extract_to_zarr(again, rois, tmp_path / "out.zarr", resume=resume, progress=False)


def test_an_array_of_other_dims(tmp_path, frames):
    path = tmp_path / "m.zarr"
    names = ("x", "y", "time")
    array = zarr.create_array(path, data=frames.T.copy(), dimension_names=names)
    with pytest.raises(ValueError, match=r"\(x, y, time\) \(9, 7, 23\) int16, expected .*time, y"):
        open_movie(array)
    np.testing.assert_array_equal(opened(path), frames)  # its own names say what is what


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_byte_order_is_this_machines(tmp_path, frames, zarr_format):
    path = tmp_path / "m.zarr"
    zarr.create_array(path, data=frames.astype(">i2"), zarr_format=zarr_format)
    movie = opened(path)
    assert movie.dtype.isnative and movie.values.dtype == movie.dtype
    np.testing.assert_array_equal(movie, frames)


@pytest.mark.parametrize(("stored", "told", "dtype"), [("i1", "true", "u1"), ("u2", "false", "i2")])
@pytest.mark.parametrize("labels", [True, False])
def test_the_other_sign(tmp_path, frames, stored, told, dtype, labels):
    wanted = frames.astype(dtype)
    group = zarr.open_group(tmp_path / "m.zarr", mode="w", zarr_format=2)
    array = group.create_array("m", data=wanted.view(stored))
    array.attrs["_Unsigned"] = told
    if labels:
        array.attrs["_ARRAY_DIMENSIONS"] = ["time", "y", "x"]
    movie = opened(tmp_path / "m.zarr")
    assert movie.dtype == dtype and "_Unsigned" not in movie.attrs
    np.testing.assert_array_equal(movie, wanted)
    np.testing.assert_array_equal(opened(array), wanted)


@EMPTY
def test_channels_that_are_stored_together(tmp_path, monkeypatch):
    """Chunks of a bounded size, whatever of OME's other axes they span."""
    group = zarr.open_group(tmp_path / "m.zarr", mode="w")
    group.create_array("0", shape=(40, 2, 3, 16, 16), chunks=(1, 2, 3, 16, 16), dtype="u2")
    image = {"axes": [{"name": name} for name in "tczyx"], "datasets": [{"path": "0"}]}
    group.attrs["ome"] = {"multiscales": [image]}
    monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 10 * 2 * 3 * 16 * 16 * 2)
    movie = opened(tmp_path / "m.zarr")
    assert movie.chunks == ((2,), (3,), (10,) * 4, (16,), (16,))


@EMPTY
@pytest.mark.parametrize(
    ("stored", "chunks"),
    [((100, 1, 1), (100, 1, 60)), ((100, 7, 8), (100, 7, 8)), ((10, 2, 15), (100, 2, 30))],
)
def test_small_tiles_are_put_together(tmp_path, monkeypatch, stored, chunks):
    path = tmp_path / "m.zarr"
    zarr.create_array(path, shape=(100, 40, 60), chunks=stored, dtype="i2")
    monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 12001)
    assert opened(path).data.chunksize == chunks


class Unlisted(http.server.SimpleHTTPRequestHandler):
    """Gives files, and says no to whoever asks what there is, with the code of its class."""

    code = 404

    def list_directory(self, path):
        self.send_error(self.code)

    def log_message(self, *args):
        pass


@pytest.mark.parametrize("code", [403, 404])
def test_a_server_that_lists_nothing(tmp_path, frames, code):
    pytest.importorskip("aiohttp")
    ds = xr.Dataset({"m": (("time", "y", "x"), frames)}, {"depth": 3.0})
    ds.to_zarr(tmp_path / "m.zarr", consolidated=True, zarr_format=2)
    ds.to_zarr(tmp_path / "bare.zarr", consolidated=False, zarr_format=2)
    kind = type("Handler", (Unlisted,), {"code": code})
    handler = functools.partial(kind, directory=tmp_path)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        movie = opened(f"{url}/m.zarr")
        np.testing.assert_array_equal(movie, frames)
        assert movie.depth == 3.0
        np.testing.assert_array_equal(opened(f"{url}/bare.zarr/m"), frames)
        with pytest.raises(ValueError, match=r"bare\.zarr: .*give .*address.*bare\.zarr/movie"):
            open_movie(f"{url}/bare.zarr")
        server.shutdown()


@pytest.mark.parametrize("kind", ["bare", "dataset"])
@pytest.mark.parametrize("inner", ["", "deep/"])
def test_a_damaged_neighbour_closes_only_itself(tmp_path, frames, kind, inner):
    path = tmp_path / "store.zarr"
    group = zarr.create_group(path)
    group = group.create_group(inner) if inner else group
    if kind == "bare":
        group.create_array("movie", data=frames)
        group.create_array("other", data=np.arange(3))
    else:
        time = ("time", np.arange(T) / 30, {"units": "s"})
        ds = xr.Dataset({"movie": (("time", "y", "x"), frames)}, {"time": time})
        ds["other"] = "roi", np.arange(3)
        ds.to_zarr(path / inner, mode="a", consolidated=False)
    (path / inner / "other" / "zarr.json").write_text('{"zarr_format"')
    movie = opened(path, variable=f"{inner}movie")
    np.testing.assert_array_equal(movie, frames)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(movie)), frames)
    assert ("time" in movie.coords) == (kind == "dataset")
    if not inner:
        with pytest.raises(ValueError, match=r"store\.zarr: .*not other \(.*it can read: .*movie"):
            open_movie(path)
    if kind == "dataset":
        (path / inner / "time" / "zarr.json").write_text('{"zarr_format"')
        with pytest.raises(ValueError, match=r"store\.zarr.*time, a coordinate of the movie"):
            open_movie(path, variable=f"{inner}movie")
    with pytest.raises(ValueError, match=r"store\.zarr"):
        open_movie(path, variable=f"{inner}other")


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_blosc_chunk_that_claims_more_than_it_has_is_not_unpacked(tmp_path, zarr_format):
    """Blosc's library reads on behind the end of such a chunk, which may end the process."""
    import numcodecs

    path, frames = tmp_path / "m.zarr", np.arange(40 * 12, dtype="i2").reshape(40, 3, 4)
    packer = numcodecs.Blosc() if zarr_format == 2 else zarr.codecs.BloscCodec()
    array = zarr.create_array(
        path, shape=frames.shape, chunks=(10, 3, 4), dtype="i2", compressors=packer,
        zarr_format=zarr_format,
    )  # fmt: skip
    array[:] = frames
    movie = xs2p.open_movie(path)
    np.testing.assert_array_equal(movie, frames)
    (chunk,) = (p for p in path.rglob("*") if p.name in ("1.0.0",) or p.match("c/1/0/0"))
    whole = chunk.read_bytes()
    for damaged in (
        whole[:-1],
        whole[:10],
        whole[:12] + (2**28).to_bytes(4, "little") + whole[16:],
        whole[:4] + (2**28).to_bytes(4, "little") + whole[8:],
    ):
        chunk.write_bytes(damaged)
        movie = xs2p.open_movie(path, chunks=10)
        with pytest.raises(OSError, match=r"m\.zarr.* frames 10 to 19.*it is damaged, or was cut"):
            movie.compute()
        np.testing.assert_array_equal(movie[20:].compute(), frames[20:])
