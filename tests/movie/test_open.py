import os
import pickle

import dask
import dask.array as da
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from dask.base import tokenize
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaders import LX, LY, T, opened

from xs2p.io import open_movie
from xs2p.movie import chunks as movie_chunks
from xs2p.movie import frames as lazy


def written(tmp_path, kind, frames):
    """One file of each kind that holds the same frames."""
    name, _, detail = kind.partition("-")
    path = tmp_path / f"movie.{name}"
    kwargs = {}
    if name in ("bin", "raw"):
        kwargs["shape"] = frames.shape[1:]
        kwargs["dtype"] = frames.dtype.newbyteorder(">" if detail == "big" else "<")
        frames.astype(kwargs["dtype"]).tofile(path)
    elif name == "npy":
        stored = frames.astype(frames.dtype.newbyteorder(">")) if detail == "big" else frames
        np.save(path, np.asfortranarray(stored) if detail == "fortran" else stored)
    elif name in ("tif", "tiff"):
        options = {"photometric": "minisblack"}
        if detail == "big":
            options["byteorder"] = ">"
        if detail == "deflate":
            options |= {"compression": "zlib"}
        if detail == "imagej":
            options |= {"imagej": True, "metadata": {"axes": "TYX"}}
        if detail == "scattered":
            with tifffile.TiffWriter(path) as tif:
                for i, frame in enumerate(frames):
                    tif.write(frame, description=f"frame {i:>{i + 1}}", metadata=None, **options)
        else:
            tifffile.imwrite(path, frames, **options)
    else:
        format_ = 2 if detail == "v2" else 3
        store = {"store": path, "shape": frames.shape, "chunks": (5, 4, 9), "dtype": frames.dtype}
        if detail == "sharded":
            store |= {"shards": (10, 8, 9)}
        if detail in ("bare", "v2", "sharded"):
            array = zarr.create_array(zarr_format=format_, fill_value=0, **store)
            array[:] = frames
        elif detail == "group":
            group = zarr.open_group(path, mode="w")
            group.create_array("other", shape=(3,), dtype="f4")
            store.pop("store")
            group.create_array("images", **store)[:] = frames
        else:
            ds = xr.Dataset({"m": (("time", "y", "x"), frames)})
            ds.to_zarr(
                path, zarr_format=2 if detail == "dataset2" else 3, consolidated=False,
                encoding={"m": {"chunks": (5, 4, 9)}},
            )  # fmt: skip
    return path, kwargs


KINDS = [
    "bin", "bin-big", "raw", "npy", "npy-big", "npy-fortran", "tif", "tiff", "tif-big",
    "tif-deflate", "tif-imagej", "tif-scattered", "zarr-dataset", "zarr-dataset2", "zarr-bare",
    "zarr-v2", "zarr-sharded", "zarr-group",
]  # fmt: skip


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_format_gives_the_frames_in_their_dtype(tmp_path, frames, kind, dtype):
    if kind == "tif-imagej" and dtype not in ("uint8", "uint16", "float32"):
        pytest.skip("ImageJ has no such dtype")
    frames = frames.astype(dtype)
    frames[3] = 0  # a dark frame is data, whatever a store's fill value
    path, kwargs = written(tmp_path, kind, frames)
    movie = opened(path, **kwargs)
    assert movie.name == "movie" and movie.dims == ("time", "y", "x")
    assert isinstance(movie.data, da.Array) and movie.shape == frames.shape
    assert movie.dtype == frames.dtype and movie.dtype.isnative
    assert movie.attrs["source"] == str(path)
    assert movie.attrs["units"] == "1" and movie.attrs["long_name"] == "fluorescence movie"
    assert "fs" not in movie.attrs and "time" not in movie.coords
    values = movie.values
    assert values.dtype == frames.dtype and values.dtype.isnative
    np.testing.assert_array_equal(values, frames)


@pytest.mark.parametrize("kind", KINDS)
def test_slices_and_chunks(tmp_path, frames, kind):
    path, kwargs = written(tmp_path, kind, frames.astype(np.uint16))
    movie = opened(path, **kwargs, chunks=5 if "sharded" not in kind else 10)
    assert movie.chunks[0][0] == (10 if "sharded" in kind else 5) and len(movie.chunks[1]) == 1
    expected = frames.astype(np.uint16)
    for key in [
        np.s_[4:17], np.s_[::-3, 1:4, ::2], np.s_[7], np.s_[-1, :, 3], np.s_[2:2], np.s_[..., -2],
        np.s_[6:8, ::-1], np.s_[[3, 1, 20]], np.s_[:, [0, 5]],
    ]:  # fmt: skip
        np.testing.assert_array_equal(movie[key].values, expected[key])


@pytest.mark.parametrize("kind", KINDS)
def test_processes_read_it_too(tmp_path, frames, kind):
    path, kwargs = written(tmp_path, kind, frames.astype(np.uint16))
    movie = opened(path, **kwargs)
    again = pickle.loads(pickle.dumps(movie))
    np.testing.assert_array_equal(again.values, frames.astype(np.uint16))


def test_a_real_process_pool(tmp_path, frames):
    path, kwargs = written(tmp_path, "bin", frames)
    movie = open_movie(os.path.relpath(path), **kwargs, chunks=6)
    total = movie.astype("int64").sum().compute(scheduler="processes", num_workers=2)
    assert total == frames.astype("int64").sum()


def test_source_is_as_given_and_reading_survives_a_change_of_folder(tmp_path, frames, monkeypatch):
    path, kwargs = written(tmp_path, "bin", frames)
    monkeypatch.chdir(tmp_path)
    movie = open_movie("movie.bin", **kwargs)
    monkeypatch.chdir(os.sep)
    assert movie.attrs["source"] == "movie.bin"
    np.testing.assert_array_equal(movie.values, frames)


@pytest.fixture
def reads(monkeypatch):
    """Every (start, stop) that is read from a file."""
    log = []
    for kind in (lazy.RawFrames, lazy.TiffPages, lazy.FortranFrames):
        plain = kind.read

        def read(self, start, stop, plain=plain):
            log.append((start, stop))
            return plain(self, start, stop)

        monkeypatch.setattr(kind, "read", read)
    return log


@pytest.mark.parametrize("kind", ["bin", "npy", "npy-fortran", "tif", "tif-deflate"])
def test_opening_reads_nothing_and_computing_reads_each_chunk_once(tmp_path, frames, kind, reads):
    path, kwargs = written(tmp_path, kind, frames)
    movie = opened(path, **kwargs, chunks=10)
    a, b = movie.sum("time"), movie.max(("y", "x"))
    assert reads == []
    dask.compute(a, b, scheduler="sync")
    assert sorted(reads) == [(0, 10), (10, 20), (20, 23)]
    reads.clear()
    movie[11:13, 2:4, :3].compute(scheduler="sync")
    assert len(reads) == 1 and reads[0] in [(10, 20), (11, 13)]  # as this Dask fuses slices


def test_part_of_each_frame_is_read_in_blocks(tmp_path, frames, reads, monkeypatch):
    monkeypatch.setattr(lazy, "BLOCK_BYTES", 4 * LY * LX * 2)
    path, kwargs = written(tmp_path, "bin", frames)
    duck = lazy.RawFrames(lazy.Stamp.of(path), frames.shape, frames.dtype.str)
    np.testing.assert_array_equal(duck[:10, 1:3], frames[:10, 1:3])
    assert reads == [(0, 4), (4, 8), (8, 10)]
    reads.clear()
    # Whole frames go where they belong at once, however the slice is written.
    for whole in (slice(None), slice(0, LY), slice(None, None, 1)):
        np.testing.assert_array_equal(duck[:10, whole, 0:LX], frames[:10])
    opened(path, **kwargs, chunks=10).compute(scheduler="sync")
    assert sorted(reads) == [(0, 10)] * 4 + [(10, 20), (20, 23)]


@settings(
    max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_any_slice_equals_numpy(tmp_path, data):
    frames = np.arange(11 * 4 * 5, dtype="<i2").reshape(11, 4, 5)
    path = tmp_path / "m.bin"
    if not path.exists():
        frames.tofile(path)
    duck = lazy.RawFrames(lazy.Stamp.of(path), frames.shape, "<i2")
    key = tuple(
        data.draw(st.slices(n) | st.integers(-n, n - 1))
        for n in frames.shape[: data.draw(st.integers(0, 3))]
    )  # fmt: skip
    got = duck[key]
    assert got.dtype == frames.dtype
    np.testing.assert_array_equal(got, frames[key])


def test_token_follows_file_layout_and_chunks(tmp_path, frames):
    path, kwargs = written(tmp_path, "bin", frames)
    movie = opened(path, **kwargs)
    names = [movie.data.name, opened(path, **kwargs).data.name]
    assert names[0] == names[1]
    names = names[1:] + [opened(path, **kwargs, chunks=4).data.name]
    names.append(opened(path, shape=(LX, LY)).data.name)
    names.append(opened(path, shape=(LY, LX), dtype="uint16").data.name)
    copy = tmp_path / "copy.bin"
    copy.write_bytes(path.read_bytes())
    names.append(opened(copy, **kwargs).data.name)
    os.utime(path, ns=(1, 1))
    names.append(opened(path, **kwargs).data.name)
    assert len(set(names)) == len(names) == 6
    duck = lazy.RawFrames(lazy.Stamp.of(path), (T, LY, LX), "<i2")
    assert tokenize(duck) == tokenize(pickle.loads(pickle.dumps(duck)))
    assert not hasattr(duck, "copy")


def data_offset(path):
    if path.suffix == ".tif":
        with tifffile.TiffFile(path) as tif:
            return tif.series[0].dataoffset
    return path.stat().st_size - T * LY * LX * 2


@pytest.mark.parametrize("kind", ["bin", "npy", "npy-fortran", "tif", "tif-scattered"])
def test_a_file_cut_after_opening(tmp_path, frames, kind):
    path, kwargs = written(tmp_path, kind, frames)
    movie = opened(path, **kwargs, chunks=10)
    size = path.stat().st_size
    keep = 12 * LY * LX * 2
    if kind == "tif-scattered":
        tifffile.imwrite(path, frames[:12], photometric="minisblack", compression="zlib")
    else:
        os.truncate(path, data_offset(path) + keep)
    with pytest.raises(
        OSError, match=rf"{path.name}: the chunk with frames [12]\d to [12]\d"
    ) as caught:
        movie[15:].compute(scheduler="sync")
    said = str(caught.value)
    assert f"has {path.stat().st_size} bytes now, and had {size} bytes when it was opened" in said
    with pytest.raises(OSError, match="open it anew"):  # who knows what else has changed
        movie[:10].compute(scheduler="sync")


@pytest.mark.parametrize("kind", ["bin", "npy", "npy-fortran", "tif", "tif-deflate"])
def test_a_file_written_anew_after_opening(tmp_path, frames, kind):
    """Of the same size: its frames would go by the old one's name, and in the wrong dtype."""
    path, kwargs = written(tmp_path, kind, frames // 2**9)
    movie = opened(path, **kwargs, chunks=10)
    before = path.stat()
    new = (frames // 2**9 + 2**7).astype("u2")
    _, new_kwargs = written(tmp_path, kind, new)
    with open(path, "ab") as file:
        file.write(bytes(before.st_size - path.stat().st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(OSError, match=rf"{path.name} was written anew since it was opened; open"):
        movie[15:].compute(scheduler="sync")
    np.testing.assert_array_equal(opened(path, **new_kwargs), new)


def test_times_are_compared_on_one_machine_only(tmp_path, frames, monkeypatch):
    """Others may see other times of the same file, but not another size or dtype."""
    path, kwargs = written(tmp_path, "bin", frames)
    movie = opened(path, **kwargs)
    there = pickle.dumps(movie)
    os.utime(path, ns=(1, 1))
    with pytest.raises(OSError, match="written anew"):
        pickle.loads(there).compute(scheduler="sync")
    monkeypatch.setattr(lazy.platform, "node", lambda: "another")
    movie = pickle.loads(there)
    np.testing.assert_array_equal(movie, frames)
    stamp = lazy.Stamp.of(path)
    monkeypatch.undo()
    assert tokenize(stamp) == tokenize(lazy.Stamp.of(path))  # opened there or here
    os.truncate(path, path.stat().st_size - LY * LX * 2)
    monkeypatch.setattr(lazy.platform, "node", lambda: "another")
    with pytest.raises(OSError, match="cut, written on or replaced"):
        movie.compute(scheduler="sync")


@pytest.mark.parametrize("new", ["u2", "f4", "wide"])
def test_decoded_pages_must_be_as_they_were(tmp_path, frames, monkeypatch, new):
    """Also where nothing else tells that the file is another one."""
    path, _ = written(tmp_path, "tif-deflate", frames)
    movie = opened(path)
    other = frames.swapaxes(1, 2) if new == "wide" else frames.astype(new)
    tifffile.imwrite(path, other, photometric="minisblack", compression="zlib")
    monkeypatch.setattr(lazy.Stamp, "check", lambda self: None)
    with pytest.raises(OSError, match=r"its pages are .* now, and were \(7, 9\) of int16 when"):
        movie.compute(scheduler="sync")


def test_fs_makes_seconds(tmp_path, frames):
    path, kwargs = written(tmp_path, "bin", frames)
    movie = opened(path, **kwargs, fs=np.float32(4))
    assert movie.attrs["fs"] == 4.0 and type(movie.attrs["fs"]) is float
    np.testing.assert_array_equal(movie.time, np.arange(T) / 4)
    assert movie.time.attrs["units"] == "s" and movie.time.attrs["long_name"] == "time"
    with pytest.raises(ValueError, match="dtype='foo': expected a number type"):
        open_movie(path, shape=(LY, LX), dtype="foo")
    for fs in (0, -1, float("nan"), float("inf"), "30", True):
        with pytest.raises(ValueError, match=f"fs={fs!r}"):
            open_movie(path, **kwargs, fs=fs)


def test_default_chunks_are_whole_frames_of_64_to_128_mb():
    for shape in [(10_000, 512, 512), (3001, 512, 796), (100_000, 64, 64), (7, 4200, 4200)]:
        n = movie_chunks.even_chunks(shape, 2)
        size = n * shape[1] * shape[2] * 2
        assert 2**26 <= size <= 2**27
        for multiple in (1, 3, 50):
            assert movie_chunks.even_chunks(shape, 2, multiple) % multiple == 0
    assert movie_chunks.even_chunks((5, 20_000, 20_000), 2) == 1
    assert movie_chunks.even_chunks((5, 2, 2), 2) == 5


class TestRaw:
    def test_size_must_be_whole_frames(self, tmp_path):
        path = tmp_path / "data.bin"
        path.write_bytes(bytes(1000))
        with pytest.raises(ValueError, match=r"1000 bytes.*126 bytes of a frame.*7 frames and 118"):
            open_movie(path, shape=(LY, LX))
        path.write_bytes(b"")
        with pytest.raises(ValueError, match="empty"):
            open_movie(path, shape=(LY, LX))

    def test_shape_is_asked_for(self, tmp_path, frames):
        path, _ = written(tmp_path, "bin", frames)
        with pytest.raises(ValueError, match=r"open_movie\('.*movie.bin', shape=\(Ly, Lx\)\)"):
            open_movie(path)
        for shape in [(LY,), (LY, LX, 1), (0, LX), (-1, LX), (2.5, LX), 5, "ab", (True, 2)]:
            with pytest.raises(ValueError, match=r"two whole numbers"):
                open_movie(path, shape=shape)

    def test_ops_beside_it_say_the_shape_and_nothing_else(self, tmp_path, frames):
        path, _ = written(tmp_path, "bin", frames)
        np.save(tmp_path / "ops.npy", {"Ly": LY, "Lx": np.int64(LX), "fs": 30.0})
        movie = opened(path)
        np.testing.assert_array_equal(movie.values, frames)
        assert "fs" not in movie.attrs and "time" not in movie.coords
        assert opened(path, shape=(LX, LY)).shape == (T, LX, LY)
        np.save(tmp_path / "ops.npy", {"fs": 30.0})
        with pytest.raises(ValueError, match="no Ly and Lx"):
            open_movie(path)

    @pytest.mark.parametrize("name", ["data.bin", "data_raw.bin", "data_chan2.bin"])
    def test_suite2p_says_fs_and_tau_beside_its_binaries(self, tmp_path, frames, name, caplog):
        frames.tofile(tmp_path / name)
        np.save(tmp_path / "ops.npy", {"Ly": LY, "Lx": LX, "fs": 30.0, "tau": 1.5})
        with caplog.at_level("INFO", "xs2p"):
            movie = opened(tmp_path / name)
        assert "fs=30 Hz, as suite2p says" in caplog.text and "tau=1.5 s" in caplog.text
        assert movie.attrs["fs"] == 30.0 and movie.attrs["tau"] == 1.5
        np.testing.assert_allclose(movie.time, np.arange(T) / 30)
        movie = opened(str(tmp_path / name), fs=15.0)
        assert movie.attrs["fs"] == 15.0 and movie.time.values[1] == 1 / 15
        if name == "data.bin":
            assert opened(tmp_path).attrs["tau"] == 1.5
        np.save(tmp_path / "ops.npy", {"Ly": LY, "Lx": LX})
        assert not {"fs", "tau"} & set(opened(tmp_path / name).attrs)

    def test_dtype(self, tmp_path):
        path = tmp_path / "data.raw"
        np.arange(12, dtype=">f4").tofile(path)
        movie = opened(path, shape=(2, 2), dtype=">f4")
        assert movie.dtype == np.float32
        np.testing.assert_array_equal(movie.values.ravel(), np.arange(12))
        for dtype in ("complex64", "O", "S2"):
            with pytest.raises(ValueError, match="expected real numbers"):
                open_movie(path, shape=(2, 2), dtype=dtype)


class TestNpy:
    @pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 4, 5)])
    def test_dims(self, tmp_path, shape):
        np.save(tmp_path / "m.npy", np.zeros(shape))
        with pytest.raises(ValueError, match=rf"{len(shape)} dims.*expected 3"):
            open_movie(tmp_path / "m.npy")

    def test_dtypes(self, tmp_path):
        for dtype in ("O", "c8", "U3", "i4,f4"):
            np.save(tmp_path / "m.npy", np.zeros((2, 3, 4), dtype))
            with pytest.raises(ValueError, match="expected real numbers"):
                open_movie(tmp_path / "m.npy")

    def test_damage(self, tmp_path):
        path = tmp_path / "m.npy"
        np.save(path, np.zeros((2, 3, 4)))
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(ValueError, match=r"m\.npy: 319 bytes.*needs 320"):
            open_movie(path)
        path.write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"not an \.npy file"):
            open_movie(path)
        np.save(path, np.zeros((0, 3, 4)))
        with pytest.raises(ValueError, match="no pixels"):
            open_movie(path)


class TestTiff:
    def test_contiguous_stacks_are_read_raw(self, tmp_path, frames, reads):
        for kind, raw in [("tif", True), ("tif-big", True), ("tif-deflate", False)]:
            path, _ = written(tmp_path, kind, frames)
            movie = opened(path)
            kinds = {type(part) for task in movie.__dask_graph__().values() for part in parts(task)}
            assert (lazy.RawFrames in kinds) is raw and (lazy.TiffPages in kinds) is not raw

    def test_one_frame(self, tmp_path, frames):
        tifffile.imwrite(tmp_path / "m.tif", frames[0], photometric="minisblack")
        np.testing.assert_array_equal(opened(tmp_path / "m.tif").values, frames[:1])

    def test_colours(self, tmp_path):
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, np.zeros((8, 9, 3), np.uint8), photometric="rgb")
        with pytest.raises(ValueError, match=r"axes 'YXS'.*grey-scale"):
            open_movie(path)
        tifffile.imwrite(
            path, np.zeros((2, 8, 9), np.uint16), imagej=True, metadata={"axes": "CYX"}
        )
        with pytest.raises(ValueError, match=r"axes 'CYX'"):
            open_movie(path)

    def test_several_stacks(self, tmp_path):
        with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
            tif.write(np.zeros((3, 8, 9), np.uint16), photometric="minisblack")
            tif.write(np.zeros((3, 4, 4), np.uint16), photometric="minisblack")
        with pytest.raises(ValueError, match="holds 2 series"):
            open_movie(tmp_path / "m.tif")

    @pytest.mark.parametrize("compression", [None, "zlib"])
    def test_written_frame_by_frame(self, tmp_path, frames, compression):
        with tifffile.TiffWriter(tmp_path / "m.tif") as tif:
            for frame in frames:
                tif.write(frame, contiguous=False, compression=compression)
        movie = opened(tmp_path / "m.tif", chunks=5)
        assert movie.dtype == frames.dtype
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(movie[3:17:2, 1], frames[3:17:2, 1])

    @pytest.mark.parametrize("kind", ["imagej", "ome"])
    def test_stack_that_calls_its_frames_channels(self, tmp_path, frames, kind):
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, frames.astype("u2"), photometric="minisblack", **{kind: True})
        with tifffile.TiffFile(path) as tif:
            assert tif.series[0].axes == "CYX"
        if kind == "ome":  # which knows time: they may be channels indeed
            with pytest.raises(ValueError, match="say channels=23 if they are channels"):
                opened(path)
            movie = opened(path, channels=23)
            assert movie.dims == ("channel", "time", "y", "x") and movie.sizes["time"] == 1
            np.testing.assert_array_equal(movie[:, 0], frames.astype("u2"))
            movie = opened(path, dims="tyx")
        else:
            movie = opened(path)
        np.testing.assert_array_equal(movie, frames.astype("u2"))

    @pytest.mark.parametrize("letter", ["C", "Z"])
    def test_what_ome_calls_otherwise_is_time_with_a_warning(self, tmp_path, letter):
        path, n = tmp_path / "m.ome.tif", 40
        frames = np.arange(n * 12, dtype="u2").reshape(n, 3, 4)
        axes = {"axes": f"{letter}YX"}
        tifffile.imwrite(path, frames, photometric="minisblack", metadata=axes)
        dim = {"C": "channel", "Z": "plane"}[letter]
        told = rf"m\.ome\.tif.* 40 {dim}s \({letter}\) are taken as .*'tyx'.* {dim}s=40 that"
        with pytest.warns(UserWarning, match=told) as caught:
            movie = open_movie(path)
        assert len(caught) == 1 and movie.dims == ("time", "y", "x")
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(open_movie(path, dims="tyx"), frames)
        np.testing.assert_array_equal(open_movie(path, **{f"{dim}s": 1}), frames)
        movie = open_movie(path, **{f"{dim}s": n})
        assert movie.dims == (dim, "time", "y", "x")
        np.testing.assert_array_equal(movie[:, 0], frames)

    @pytest.mark.parametrize("keep", [0.5, 0.9, 0.99])
    @pytest.mark.parametrize("kind", ["compressed", "pages", "frame by frame", "imagej"])
    def test_a_cut_file_is_no_shorter_movie(self, tmp_path, frames, kind, keep):
        path = tmp_path / "m.tif"
        if kind == "compressed":
            tifffile.imwrite(path, frames, photometric="minisblack", compression="zlib")
        elif kind == "imagej":
            tifffile.imwrite(path, frames.astype("u2"), imagej=True)
        else:
            with tifffile.TiffWriter(path) as tif:
                for frame in frames:
                    tif.write(frame, contiguous=False, metadata=None if kind == "pages" else {})
        os.truncate(path, int(path.stat().st_size * keep))
        with pytest.raises((ValueError, OSError), match=r"m\.tif"):
            open_movie(path).compute(scheduler="sync")

    def test_garbled_headers_are_a_clear_error(self, tmp_path, frames):
        path = tmp_path / "m.tif"
        tifffile.imwrite(path, frames, photometric="minisblack", compression="zlib")
        whole = path.read_bytes()
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(60):
            data = bytearray(whole)
            data[rng.integers(4, 300)] = rng.integers(0, 256)
            path.write_bytes(data)
            try:
                open_movie(path).compute(scheduler="sync")
            except (ValueError, OSError) as error:
                assert "m.tif" in str(error)
                refused += 1
        assert refused > 5

    def test_damage(self, tmp_path, frames):
        path, _ = written(tmp_path, "tif", frames)
        os.truncate(path, data_offset(path) + frames.nbytes - 1)
        with pytest.raises(ValueError, match=r"movie\.tif"):
            open_movie(path)
        path.write_bytes(b"nothing")
        with pytest.raises(ValueError, match="not a readable TIFF"):
            open_movie(path)


def parts(task):
    """Everything inside a Dask task."""
    yield task
    if hasattr(task, "value"):
        yield task.value
    for part in getattr(task, "args", task if isinstance(task, tuple) else ()):
        yield from parts(part)


class TestArguments:
    def test_missing_and_unknown(self, tmp_path):
        with pytest.raises(FileNotFoundError, match=r"no file or folder '.*gone\.bin'"):
            open_movie(tmp_path / "gone.bin", shape=(2, 2))
        (tmp_path / "m.mp4").write_bytes(b"")
        with pytest.raises(ValueError, match=r"'\.mp4', expected one of \.bin, \.raw, \.npy"):
            open_movie(tmp_path / "m.mp4")
        (tmp_path / "m.npy").mkdir()
        (tmp_path / "m.zarr").write_bytes(b"")
        for name, kind in (("m.npy", "file"), ("m.zarr", "folder")):
            with pytest.raises(ValueError, match=f"to be a {kind}"):
                open_movie(tmp_path / name)

    @pytest.mark.parametrize("kind", ["npy", "tif", "zarr-dataset", "zarr-bare"])
    def test_shape_and_dtype_must_agree(self, tmp_path, frames, kind):
        path, _ = written(tmp_path, kind, frames)
        assert opened(path, shape=(LY, LX), dtype="<i2").shape == frames.shape
        with pytest.raises(ValueError, match=r"shape=\(9, 7\) disagrees.*\(7, 9\)"):
            open_movie(path, shape=(LX, LY))
        with pytest.raises(ValueError, match=r"dtype=float32 disagrees.*int16"):
            open_movie(path, dtype="float32")

    @pytest.mark.parametrize("chunks", [0, -3, 2.5, "auto"])
    def test_chunks(self, tmp_path, frames, chunks):
        path, kwargs = written(tmp_path, "bin", frames)
        with pytest.raises(ValueError, match=f"chunks={chunks!r}"):
            open_movie(path, **kwargs, chunks=chunks)

    def test_variable_is_for_zarr(self, tmp_path, frames):
        path, kwargs = written(tmp_path, "bin", frames)
        with pytest.raises(ValueError, match="Zarr"):
            open_movie(path, **kwargs, variable="a")


def test_shape_disagrees_with_the_ops_beside_it(tmp_path):
    np.zeros((4, 6, 8), "<i2").tofile(tmp_path / "data.bin")
    np.zeros((4, 6, 8), "<i2").tofile(tmp_path / "other.bin")
    np.save(tmp_path / "ops.npy", {"Ly": 6, "Lx": 8})
    assert open_movie(tmp_path / "data.bin", shape=(6, 8)).shape == (4, 6, 8)
    with pytest.raises(ValueError, match=r"shape=\(3, 8\) disagrees with the ops.npy.*\(6, 8\)"):
        open_movie(tmp_path / "data.bin", shape=(3, 8))
    assert open_movie(tmp_path / "other.bin", shape=(3, 8)).shape == (8, 3, 8)


@pytest.mark.parametrize("size", [6.5, 0, "6", None])
def test_ops_beside_a_binary_is_checked_as_everywhere(tmp_path, size):
    np.zeros((4, 6, 8), "<i2").tofile(tmp_path / "data.bin")
    np.save(tmp_path / "ops.npy", {"Ly": size, "Lx": 8})
    message = (
        "holds no Ly and Lx" if size is None else rf"ops\.npy: Ly is {size!r}, expected a whole"
    )
    with pytest.raises(ValueError, match=message):
        open_movie(tmp_path / "data.bin")


def test_ops_that_is_a_bare_pickle_says_the_shape(tmp_path):
    np.zeros((4, 6, 8), "<i2").tofile(tmp_path / "data.bin")
    (tmp_path / "ops.npy").write_bytes(pickle.dumps({"Ly": 6, "Lx": 8}))
    assert open_movie(tmp_path / "data.bin").shape == (4, 6, 8)
