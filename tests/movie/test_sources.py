"""Movies in suite2p's folders, HDF5 files, Zarr stores of every kind, and arrays."""

from __future__ import annotations

import importlib.util
import os
import pickle
import re
import shutil
import subprocess
import sys

import dask
import dask.array as da
import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from loaders import LX, LY, T, opened

import xs2p
from xs2p.io import open_movie
from xs2p.movie import chunks as movie_chunks
from xs2p.movie import hdf5 as _hdf5
from xs2p.testing import raise_if_dask_computes


class TestSuite2p:
    @staticmethod
    def folder(tmp_path, frames, lengths=(T, T, T), channels=1, sizes=None, fs=7.5):
        for n, length in enumerate(lengths):
            plane = tmp_path / "suite2p" / f"plane{n}"
            plane.mkdir(parents=True)
            for name in ("data.bin", "data_chan2.bin")[:channels]:
                (frames[:length] + n + 100 * (name != "data.bin")).astype("<i2").tofile(
                    plane / name
                )
            ly, lx = (LY, LX) if sizes is None else sizes[n]
            ops = {"Ly": ly, "Lx": lx, "nframes": length}
            np.save(plane / "ops.npy", ops | ({} if fs is None else {"fs": fs}))
        (tmp_path / "suite2p" / "combined").mkdir()
        return tmp_path / "suite2p"

    def test_planes(self, tmp_path, frames):
        frames = frames // 2
        folder = self.folder(tmp_path, frames)
        movie = opened(folder, chunks=10)
        assert movie.dims == ("plane", "time", "y", "x") and movie.dtype == np.int16
        assert movie.chunks[:2] == ((1, 1, 1), (10, 10, 3))
        np.testing.assert_array_equal(movie, frames + np.arange(3)[:, None, None, None])
        assert movie.plane.values.tolist() == [0, 1, 2] and movie.attrs["fs"] == 7.5
        np.testing.assert_allclose(movie.time, np.arange(T) / 7.5)
        for same in (
            tmp_path,
            [folder / f"plane{n}" for n in range(3)],
            [str(folder / f"plane{n}" / "data.bin") for n in range(3)],
            folder / "plane*",
            folder / "plane*" / "data.bin",
        ):
            again = opened(same, chunks=10)
            xr.testing.assert_identical(again.drop_attrs(), movie.drop_attrs())
            assert again.data.name == movie.data.name
        some = opened([folder / "plane2", folder / "plane0"])
        assert some.plane.values.tolist() == [2, 0]
        np.testing.assert_array_equal(some.sel(plane=2), movie[2])
        assert opened(folder, fs=3.0).attrs["fs"] == 3.0

    def test_ten_planes_are_in_order_of_their_numbers(self, tmp_path, frames):
        movie = opened(self.folder(tmp_path, frames // 2, (3,) * 11))
        assert movie.plane.values.tolist() == list(range(11))
        np.testing.assert_array_equal(movie[10], frames[:3] // 2 + 10)

    def test_one_plane(self, tmp_path, frames):
        folder = self.folder(tmp_path, frames, (T,))
        for path in (folder, folder / "plane0"):
            movie = opened(path)
            assert movie.dims == ("time", "y", "x") and movie.attrs["fs"] == 7.5
            np.testing.assert_array_equal(movie, frames)
        assert opened(folder / "plane0" / "data.bin").attrs["fs"] == 7.5

    def test_two_channels(self, tmp_path, frames):
        folder = self.folder(tmp_path, frames // 2, (T, T), channels=2)
        movie = opened(folder)
        assert movie.dims == ("channel", "plane", "time", "y", "x")
        np.testing.assert_array_equal(movie.sel(channel=1, plane=1), frames // 2 + 101)
        assert opened(folder / "plane1").dims == ("channel", "time", "y", "x")
        (folder / "plane1" / "data_chan2.bin").unlink()
        with pytest.raises(ValueError, match=r"in some plane folders but not in all: .*plane1"):
            open_movie(folder)

    def test_planes_of_different_lengths(self, tmp_path, frames):
        folder = self.folder(tmp_path / "a", frames // 2, (T, T, T - 1))
        with pytest.warns(UserWarning, match=rf"plane0, plane1 have {T} frames and the others 22"):
            movie = open_movie(folder)
        np.testing.assert_array_equal(movie[:, -1], frames[21] // 2 + np.arange(3)[:, None, None])
        with pytest.raises(ValueError, match=r"more than one frame \(.*plane0: 23, .*plane1: 20"):
            open_movie(self.folder(tmp_path / "b", frames, (T, 20)))

    def test_what_does_not_fit(self, tmp_path, frames):
        folder = self.folder(tmp_path / "a", frames, (T, T), sizes=[(LY, LX), (LX, LY)])
        with pytest.raises(ValueError, match=r"plane1 are \(Ly, Lx\) = \(9, 7\).*open each alone"):
            open_movie(folder)
        os.remove(folder / "plane1" / "ops.npy")
        with pytest.raises(ValueError, match=r"no ops\.npy with Ly and Lx in .*plane1.*shape=\("):
            open_movie(folder)
        assert opened(folder, shape=(LY, LX)).sizes["plane"] == 2
        np.save(folder / "plane1" / "ops.npy", {"Ly": LY, "Lx": LX, "fs": 5.0})
        with pytest.raises(ValueError, match=r"different frame rates, 5\.0, 7\.5 Hz; give fs="):
            open_movie(folder)
        assert opened(folder, fs=6).attrs["fs"] == 6.0
        os.rename(folder / "plane1" / "data.bin", folder / "plane1" / "data_raw.bin")
        with pytest.raises(FileNotFoundError, match=r"delete_bin is on; .*data_raw\.bin"):
            open_movie(folder)
        with pytest.raises(ValueError, match=r"channels=2 tells how frames come in turn in files"):
            open_movie(folder, channels=2)
        with pytest.raises(ValueError, match=r"variable='a' picks an array"):
            open_movie(folder, variable="a")

    def test_suite2p_1_without_ops(self, tmp_path, frames):
        """db.npy, settings.npy and the outputs say what ops.npy says; a plane was ignored."""
        folder = self.folder(tmp_path / "a", frames, (T, T, T))
        for n in range(3):
            plane = folder / f"plane{n}"
            os.remove(plane / "ops.npy")
            np.save(plane / "db.npy", {"Ly": LY, "Lx": LX, "ignore_flyback": [2], "iplane": n})
            np.save(plane / "settings.npy", {"fs": 6.0, "tau": 0.7, "run": {}})
        os.remove(folder / "plane2" / "data.bin")
        with pytest.warns(UserWarning, match=r"plane2 is in ignore_flyback; open_movie\(.*plane2"):
            movie = opened(folder)
        assert movie.plane.values.tolist() == [0, 1] and movie.attrs["fs"] == 6.0
        assert opened([folder / "plane0", folder / "plane1"]).sizes["plane"] == 2
        alone = opened(folder / "plane1" / "data.bin")
        assert alone.plane.item() == 1 and alone.shape == (T, LY, LX)
        os.remove(folder / "plane2" / "db.npy")
        np.save(folder / "plane0" / "db.npy", {"Ly": LY, "Lx": 0})
        with pytest.raises(ValueError, match=r"db\.npy: Lx is 0, expected a whole number"):
            open_movie(folder)

    def test_folders_of_several_recordings(self, tmp_path, frames):
        """They are no planes of one; files of one plane follow each other in time."""
        days = [self.folder(tmp_path / day, frames, (T, T)) for day in ("a", "b")]
        for paths in (
            [day / "plane0" for day in days],
            [days[0] / "plane0", days[1] / "plane1"],
            [days[0] / "plane0" / "data.bin", days[1] / "plane1" / "data.bin"],
        ):
            with pytest.raises(ValueError, match=r"planes of one recording where they lie in one"):
                open_movie(paths)
        movie = opened([day / "plane0" / "data.bin" for day in days])
        np.testing.assert_array_equal(movie, np.concatenate([frames, frames]))

    def test_extract_finds_the_plane_of_each_roi(self, tmp_path):
        movie, rois = xs2p.sample_movie(None)[:60], xs2p.sample_rois()
        for n in (0, 3):
            plane = tmp_path / f"plane{n}"
            plane.mkdir()
            (movie.values[:: 1 - 2 * (n > 0)]).astype("<i2").tofile(plane / "data.bin")
            np.save(plane / "ops.npy", {"Ly": 64, "Lx": 64, "fs": 7.0})
        own = np.where(np.arange(rois.sizes["roi"]) % 2, 3, 0)
        some = xs2p.recompute_overlap(rois.assign_coords(iplane=("roi", own)))
        with raise_if_dask_computes():
            ds = open_movie(tmp_path, chunks=20).s2p.extract(some, tau=1.0)
        alone = opened(tmp_path / "plane3").s2p.extract(some.isel(roi=own == 3), tau=1.0)
        np.testing.assert_array_equal(ds.F[ds.plane.values == 3], alone.F)


class TestHdf5:
    @pytest.mark.parametrize("dtype", ["int16", ">u2", "float32", "uint8"])
    @pytest.mark.parametrize("layout", [
        {}, {"chunks": (5, 4, 9)}, {"chunks": (1, LY, LX), "compression": "gzip"},
        {"chunks": (7, 3, 5), "compression": "lzf", "shuffle": True, "fletcher32": True},
    ], ids=str)  # fmt: skip
    def test_values(self, tmp_path, frames, dtype, layout):
        frames = frames.astype(dtype)
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("mov", data=frames, **layout)
        movie = opened(tmp_path / "m.h5", fs=4)
        assert movie.dtype == frames.dtype.newbyteorder("=") and movie.attrs["fs"] == 4.0
        np.testing.assert_array_equal(movie, frames)
        assert pickle.loads(pickle.dumps(movie)).identical(movie)
        for key in [
            np.s_[4:17], np.s_[::-3, 1:4, ::2], np.s_[7], np.s_[-1, :, 3], np.s_[2:2],
            np.s_[..., -2], np.s_[6:8, ::-1], np.s_[[3, 1, 20]], np.s_[:, [0, 5]],
            np.s_[1:20:4, 2:],
        ]:  # fmt: skip
            np.testing.assert_array_equal(movie[key], frames[key])

    def test_threads_read_at_once(self, tmp_path):
        frames = np.arange(400 * 16 * 16, dtype="u4").reshape(400, 16, 16)
        with h5py.File(tmp_path / "m.hdf5", "w") as file:
            file.create_dataset("a/b/mov", data=frames, chunks=(2, 16, 16), compression="gzip")
        movie = opened(tmp_path / "m.hdf5", chunks=2)
        with dask.config.set(scheduler="threads", num_workers=8):
            np.testing.assert_array_equal(movie, frames)

    def test_which_dataset(self, tmp_path, frames):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file["a/mov"], file["b"], file["mean"] = frames, frames + 1, frames[0]
            file["names"] = np.array([b"x", b"y"])
        with pytest.raises(ValueError, match=r"found 2; pick one with variable='a/mov'\..*b \(23"):
            open_movie(tmp_path / "m.h5")
        np.testing.assert_array_equal(opened(tmp_path / "m.h5", variable="b"), frames + 1)
        np.testing.assert_array_equal(opened(tmp_path / "m.h5", variable="/a/mov"), frames)
        for name in ("mean", "gone", "a"):
            with pytest.raises(ValueError, match=rf"variable='{name}' is no .* mean \(7, 9\) int"):
                open_movie(tmp_path / "m.h5", variable=name)
        with h5py.File(tmp_path / "n.h5", "w") as file:
            file["mean"] = frames[0]
        with pytest.raises(ValueError, match=r"found none\. It holds: mean \(7, 9\) int16"):
            open_movie(tmp_path / "n.h5")
        (tmp_path / "n.h5").write_bytes(b"nothing")
        with pytest.raises(ValueError, match=r"n\.h5: not a readable HDF5 file"):
            open_movie(tmp_path / "n.h5")

    def test_chunks_are_the_files(self, tmp_path, monkeypatch):
        for name, chunks in (("a", (7, 40, 60)), ("b", (100, 16, 16))):
            with h5py.File(tmp_path / f"{name}.h5", "w") as file:
                file.create_dataset("m", (100, 40, 60), "i2", chunks=chunks)
        assert opened(tmp_path / "a.h5").chunks == ((100,), (40,), (60,))
        monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 15 * 40 * 60 * 2)
        assert opened(tmp_path / "a.h5").chunks == ((14,) * 7 + (2,), (40,), (60,))
        # Whole frames would be read over and over: tiles, each read by itself.
        assert opened(tmp_path / "b.h5").chunks == ((100,), (16, 16, 8), (16, 16, 16, 12))
        with pytest.warns(UserWarning, match=r"chunks=6 cuts through .* 7 frames"):
            open_movie(tmp_path / "a.h5", chunks=6)

    def test_one_read_a_chunk(self, tmp_path, frames, monkeypatch):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("m", data=frames, chunks=(5, LY, LX))
        log, plain = [], _hdf5.H5Frames._read

        def read(self, *keys):
            log.append(tuple(k.indices(n)[:2] for k, n in zip(keys, self.shape, strict=True)))
            return plain(self, *keys)

        monkeypatch.setattr(_hdf5.H5Frames, "_read", read)
        movie = opened(tmp_path / "m.h5", chunks=10)
        assert not log
        dask.compute(movie.sum("time"), movie.max(("y", "x")), scheduler="sync")
        assert sorted(log) == [((a, min(a + 10, T)), (0, LY), (0, LX)) for a in (0, 10, 20)]

    def test_other_orders(self, tmp_path, frames):
        """As NWB has them: x before y."""
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("m", data=frames.swapaxes(1, 2), chunks=(3, 4, 5))
        with h5py.File(tmp_path / "m.h5") as file:
            duck = _hdf5.h5_frames(file["m"], ("time", "x", "y"))
        assert duck.shape == frames.shape
        movie = _hdf5.h5_to_dask(duck, None)
        np.testing.assert_array_equal(movie, frames)
        np.testing.assert_array_equal(movie[3:9:2, 1:, 4], frames[3:9:2, 1:, 4])

    def test_filters(self, tmp_path, frames, monkeypatch):
        """A filter that is not there is named, at opening."""
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("m", data=frames, chunks=(5, LY, LX), compression="gzip")
        monkeypatch.setattr(h5py.h5z, "filter_avail", lambda code: False)
        monkeypatch.setitem(sys.modules, "hdf5plugin", None)
        with pytest.raises(
            ValueError, match=r"m\.h5/m is compressed with the HDF5 filter 1 \(deflate\).*hdf5plug"
        ):
            open_movie(tmp_path / "m.h5")

    def test_a_plugin_is_loaded(self, tmp_path, frames):
        plugin = pytest.importorskip("hdf5plugin")
        with h5py.File(tmp_path / "m.h5", "w") as file:
            file.create_dataset("m", data=frames, chunks=(5, LY, LX), **plugin.Blosc())
        np.testing.assert_array_equal(opened(tmp_path / "m.h5"), frames)

    def test_a_file_that_changed(self, tmp_path, frames):
        path = tmp_path / "m.h5"
        for n in (T, 12):
            with h5py.File(path, "w") as file:
                file["m"] = frames[:n]
            if n == T:
                movie = opened(path, chunks=10)
                assert opened(path, chunks=10).data.name == movie.data.name
        assert opened(path, chunks=10).data.name != movie.data.name
        with pytest.raises(OSError, match=r"m\.h5: the chunk with frames 2\d to .*and had"):
            movie[20:].compute(scheduler="sync")
        path.unlink()
        with pytest.raises(OSError, match=r"m\.h5: the chunk with frames"):
            movie[:5].compute(scheduler="sync")

    def test_a_file_of_another_dtype(self, tmp_path, frames):
        path = tmp_path / "m.h5"
        with h5py.File(path, "w") as file:
            file["m"] = frames
        movie = opened(path)
        with h5py.File(path, "w") as file:
            file["m"] = frames + np.float32(70000.6)
        with pytest.raises(OSError, match=r"m\.h5 has \d+ bytes now, .* open it anew"):
            movie.compute(scheduler="sync")

    @pytest.mark.parametrize("where", ["beside", "absolute"])
    def test_frames_in_other_files(self, tmp_path, frames, where):
        """Virtual datasets: HDF5 shows zeros for sources that are gone."""
        layout = h5py.VirtualLayout(frames.shape, "i2")
        for name, part in (("a.h5", slice(0, 12)), ("b.h5", slice(12, T))):
            with h5py.File(tmp_path / name, "w") as file:
                file["m"] = frames[part]
            told = name if where == "beside" else str(tmp_path / name)
            layout[part] = h5py.VirtualSource(told, "m", frames[part].shape)
        path = tmp_path / "m.h5"
        with h5py.File(path, "w") as file:
            file.create_virtual_dataset("m", layout)
        movie = opened(path, chunks=5)
        np.testing.assert_array_equal(movie, frames)
        assert opened(path, chunks=5).data.name == movie.data.name
        with h5py.File(tmp_path / "b.h5", "w") as file:
            file["m"] = frames[12:] + 1
        os.utime(tmp_path / "b.h5", ns=(1, 1))
        assert opened(path, chunks=5).data.name != movie.data.name
        os.rename(tmp_path / "b.h5", tmp_path / "gone")
        with pytest.raises(OSError, match=r"frames 20 to 22 .*its frames are in .*b\.h5, which is"):
            movie[20:].compute(scheduler="sync")
        with pytest.raises(ValueError, match=r"m\.h5/m is a virtual .* in '.*b\.h5', which is not"):
            open_movie(path)
        for odd, part in (("other", frames[12:]), ("m", frames[12:20])):
            with h5py.File(tmp_path / "b.h5", "w") as file:
                file[odd] = part
            with pytest.raises(ValueError, match=r"are m of .*b\.h5, which has no such dataset or"):
                open_movie(path)

    def test_virtual_datasets_of_virtual_datasets(self, tmp_path, frames):
        with h5py.File(tmp_path / "a.h5", "w") as file:
            file["m"] = frames
        for name, source in (("b.h5", "a.h5"), ("m.h5", "b.h5")):
            layout = h5py.VirtualLayout(frames.shape, "i2")
            layout[:] = h5py.VirtualSource(source, "m", frames.shape)
            with h5py.File(tmp_path / name, "w") as file:
                file.create_virtual_dataset("m", layout)
        np.testing.assert_array_equal(opened(tmp_path / "m.h5"), frames)
        (tmp_path / "a.h5").write_bytes(b"no HDF5")
        with pytest.raises(ValueError, match=r"b\.h5/m is .* m of .*a\.h5, which cannot be opened"):
            open_movie(tmp_path / "m.h5")
        (tmp_path / "a.h5").unlink()
        with pytest.raises(ValueError, match=r"b\.h5/m is a virtual .* in 'a\.h5', which is not"):
            open_movie(tmp_path / "m.h5")

    def test_frames_in_raw_files(self, tmp_path, frames):
        raw = tmp_path / "m.raw"
        frames.tofile(raw)
        with h5py.File(tmp_path / "m.h5", "w") as file:
            external = [(str(raw), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("m", frames.shape, "i2", external=external)
        movie = opened(tmp_path / "m.h5")
        np.testing.assert_array_equal(movie, frames)
        os.utime(raw, ns=(1, 1))
        assert opened(tmp_path / "m.h5").data.name != movie.data.name
        raw.write_bytes(raw.read_bytes()[:-2])
        with pytest.raises(ValueError, match=r"take 2898 bytes, and the files .*m\.raw, have 2896"):
            open_movie(tmp_path / "m.h5")
        raw.unlink()
        with pytest.raises(ValueError, match=r"dataset with external storage, .*m\.raw', which is"):
            open_movie(tmp_path / "m.h5")

    def test_several_files(self, tmp_path, frames):
        for n, part in enumerate(np.split(frames[:22], [9, 10])):
            with h5py.File(tmp_path / f"{n}.h5", "w") as file:
                file.create_dataset(
                    "m", data=part, chunks=(2, LY, LX)[: part.ndim] if n != 1 else None
                )
        np.testing.assert_array_equal(opened(tmp_path / "*.h5", chunks=5), frames[:22])
        movie = opened(tmp_path / "*.h5", planes=2, variable="m")
        np.testing.assert_array_equal(movie, frames[:22].reshape(11, 2, LY, LX).swapaxes(0, 1))


class TestZarr:
    @pytest.mark.parametrize("zarr_format", [2, 3])
    @pytest.mark.parametrize("where", ["zip", "memory", "url", "store", "group", "array"])
    def test_any_store(self, tmp_path, frames, zarr_format, where):
        path = tmp_path / "m.zarr"
        ds = xr.Dataset({"m": (("time", "y", "x"), frames)}, {"depth": 3.0}).chunk(time=5)
        variable = None
        if where == "zip":
            ds.to_zarr(path, consolidated=False, zarr_format=zarr_format)
            source = shutil.make_archive(str(path), "zip", path)
        elif where == "memory":
            source = zarr.storage.MemoryStore()
            ds.to_zarr(source, consolidated=False, zarr_format=zarr_format)
        elif where == "group":
            ds.to_zarr(path, group="a/b", consolidated=False, zarr_format=zarr_format)
            source, variable = path, "a/b/m"
            np.testing.assert_array_equal(opened(path / "a" / "b"), frames)
            np.testing.assert_array_equal(opened(path), frames)
        else:
            ds.to_zarr(path, consolidated=False, zarr_format=zarr_format)
            source = {
                "url": f"file://{path}",
                "store": zarr.storage.LocalStore(path, read_only=True),
                "array": zarr.open_group(path, mode="r")["m"],
            }[where]
        movie = opened(source, variable=variable)
        assert movie.dtype == np.int16 and movie.dims == ("time", "y", "x")
        np.testing.assert_array_equal(movie, frames)
        if where not in ("array",):
            assert float(movie.depth) == 3.0
        if where != "memory":
            assert opened(source, variable=variable).data.name == movie.data.name
            np.testing.assert_array_equal(pickle.loads(pickle.dumps(movie)), frames)

    def test_remote(self, frames):
        """A server, here fsspec's of this process; what cannot be found is said."""
        pytest.importorskip("fsspec")
        ds = xr.Dataset({"m": (("time", "y", "x"), frames)})
        ds.to_zarr("memory://xs2p-test/m.zarr")
        movie = opened("memory://xs2p-test/m.zarr", fs=2.0)
        np.testing.assert_array_equal(movie, frames)
        assert movie.attrs["source"] == "memory://xs2p-test/m.zarr"
        assert opened("memory://xs2p-test/m.zarr").data.name != movie.data.name  # it may change
        with pytest.raises(
            ValueError, match=r"memory://xs2p-test/gone\.zarr: no Zarr array or gro"
        ):
            open_movie("memory://xs2p-test/gone.zarr")
        if importlib.util.find_spec("s3fs") is None:
            with pytest.raises(ImportError, match=r"s3://b/m\.zarr: .*pip install s3fs for s3://"):
                open_movie("s3://b/m.zarr")

    @pytest.mark.parametrize("version", ["0.4", "0.5"])
    def test_ome(self, tmp_path, frames, version):
        images = np.stack([frames, frames // 2], 1)[:, :, None]
        group = zarr.open_group(
            tmp_path / "m.zarr", mode="w", zarr_format=2 if version == "0.4" else 3
        )
        for n, data in enumerate((images, images[..., ::2, ::2])):
            group.create_array(str(n), shape=data.shape, chunks=(3, 1, 1, LY, LX), dtype="i2")[
                :
            ] = data
        axes = [{"name": name, "type": "space"} for name in "tczyx"]
        image = {"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}], "version": version}
        group.attrs.update(
            {"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}}
        )
        movie = opened(tmp_path / "m.zarr", chunks=6)
        assert movie.dims == ("channel", "time", "y", "x")
        np.testing.assert_array_equal(movie, images[:, :, 0].swapaxes(0, 1))
        image["axes"] = axes[1:]
        group.attrs.update(
            {"multiscales": [image]} if version == "0.4" else {"ome": {"multiscales": [image]}}
        )
        with pytest.raises(ValueError, match=r"OME-Zarr image of axes \['c', 'z', 'y', 'x'\]"):
            open_movie(tmp_path / "m.zarr")

    def test_channels_and_planes_go_there_and_back(self, tmp_path, frames):
        np.save(tmp_path / "m.npy", frames[:20])
        movie = opened(tmp_path / "m.npy", channels=2, planes=2, fs=3.0)
        movie.to_zarr(tmp_path / "m.zarr", consolidated=False)
        again = opened(tmp_path / "m.zarr")
        xr.testing.assert_equal(again, movie)
        assert again.attrs["fs"] == 3.0 and again.dims == movie.dims


def test_nwb_is_left_to_its_reader(tmp_path, frames, monkeypatch):
    given = {}

    def open_nwb_movie(path, chunks=None, variable=None):
        given.update(path=path, chunks=chunks, variable=variable)
        data = da.from_array(frames, chunks=(chunks, -1, -1))
        return xr.DataArray(
            data, {"time": np.arange(T) / 3.0}, ("time", "y", "x"), attrs={"fs": 3.0}
        )

    monkeypatch.setattr("xs2p.movie.nwb.open_nwb_movie", open_nwb_movie)
    (tmp_path / "s.nwb").write_bytes(b"")
    movie = opened(tmp_path / "s.nwb", chunks=5, variable="red")
    assert given == {"path": str(tmp_path / "s.nwb"), "chunks": 5, "variable": "red"}
    assert movie.attrs["fs"] == 3.0 and movie.time[3] == 1.0
    assert movie.attrs["source"] == str(tmp_path / "s.nwb") and movie.name == "movie"
    with pytest.raises(ValueError, match=r"channels=2 tells how frames come in turn in files"):
        open_movie(tmp_path / "s.nwb", channels=2)


def test_a_pattern_that_one_store_matches(tmp_path, frames):
    zarr.create_array(tmp_path / "rec_1.zarr", data=frames)
    movie = opened(tmp_path / "rec_*.zarr")
    np.testing.assert_array_equal(movie, frames)
    assert movie.attrs["source"] == str(tmp_path / "rec_1.zarr")
    zarr.create_array(tmp_path / "rec_2.zarr", data=frames)
    with pytest.raises(ValueError, match=r"rec_\*\.zarr: several files are opened as one"):
        open_movie(tmp_path / "rec_*.zarr")


def test_arguments_of_another_type(tmp_path, frames):
    np.save(tmp_path / "m.npy", frames)
    with pytest.raises(ValueError, match=r"order=3: expected time, the slowest first"):
        open_movie(tmp_path / "m.npy", order=3)
    with pytest.raises(ValueError, match=r"variable=0: expected the name of an array"):
        open_movie(tmp_path / "m.npy", variable=0)


class Readings:
    """An array that only knows to read itself."""

    def __init__(self, frames):
        self.frames, self.shape, self.dtype, self.read = frames, frames.shape, frames.dtype, []

    def __getitem__(self, key):
        self.read.append(key[0])
        return self.frames[key]


class TestArrays:
    def test_numpy_is_not_copied(self, frames):
        movie = opened(frames, fs=2)
        assert (
            movie.dims == ("time", "y", "x")
            and movie.values is frames
            or np.shares_memory(movie.values, frames)
        )
        assert movie.attrs["units"] == "1" and movie.attrs["fs"] == 2.0
        assert "source" not in movie.attrs
        assert opened(frames, chunks=10).chunks[0] == (10, 10, 3)

    def test_data_arrays_keep_their_labels(self, frames):
        given = xr.DataArray(
            da.from_array(frames, chunks=(9, -1, -1)), dims=("time", "y", "x"), name="green",
            coords={"depth": 3.0}, attrs={"fs": 4.0, "units": "photons"},
        )  # fmt: skip
        movie = opened(given)
        assert movie.attrs["fs"] == 4.0 and movie.attrs["units"] == "photons"
        assert movie.chunks == given.chunks and float(movie.depth) == 3.0
        assert given.name == "green" and list(given.attrs) == ["fs", "units"]
        assert opened(given, fs=2).time[1] == 0.5
        assert opened(given.expand_dims(channel=2)).sizes["channel"] == 2
        for odd, what in (
            (given.rename(time="t"), r"rename them with movie\.rename\(\{'t': 'time'\}\)"),
            (given.transpose("y", "x", "time"), r"movie\.transpose\('time', 'y', 'x'\)"),
            (given[0], "select or rename"),
            (given.to_dataset(), r"a Dataset, which holds green.*give one of them"),
            (given.astype(complex), "expected real numbers"),
            (given[:0], r"DataArray holds no pixels, its shape is \(0, 7, 9\)"),
        ):
            with pytest.raises(ValueError, match=what):
                open_movie(odd)

    def test_dask(self, frames):
        array = da.from_array(frames, chunks=(6, -1, -1))
        assert opened(array).data is array
        assert opened(array, chunks=8).chunks[0] == (8, 8, 7)

    @pytest.mark.parametrize("part", [
        np.s_[:], np.s_[3:], np.s_[2:20:3], np.s_[:, 1:5, ::2], np.s_[4:9, 2:3],
    ], ids=str)  # fmt: skip
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_memory_maps_are_read_from_their_file(self, tmp_path, frames, part, order):
        np.save(tmp_path / "m.npy", np.asarray(frames, order=order))
        mapped = np.load(tmp_path / "m.npy", mmap_mode="r")[part]
        movie = opened(mapped, chunks=4)
        (layer,) = movie.data.dask.layers.values()
        assert len(pickle.dumps(movie)) < 6000 + mapped.shape[0] * 100
        np.testing.assert_array_equal(movie, frames[part])
        np.testing.assert_array_equal(movie[1:3, ::-1], frames[part][1:3, ::-1])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(movie)), frames[part])
        assert opened(mapped, chunks=4).data.name == movie.data.name

    def test_memory_maps_that_the_file_does_not_tell_of(self, tmp_path, frames):
        frames.tofile(tmp_path / "m.bin")
        changed = np.memmap(tmp_path / "m.bin", "i2", "c", shape=frames.shape)
        changed[3] = 7
        with pytest.warns(UserWarning, match=r"holds what its file does not .*mode='c'.*mode='r'"):
            movie = opened(changed, chunks=5)
        np.testing.assert_array_equal(movie, changed)
        written = np.memmap(tmp_path / "m.bin", "i2", "r+", shape=frames.shape)
        written[4] = 9
        np.testing.assert_array_equal(opened(written, chunks=5), written)
        np.testing.assert_array_equal(opened(written[::-1], chunks=5), written[::-1])

    def test_a_map_of_a_file_that_was_replaced(self, tmp_path, frames):
        """The array still has what was in the old one."""
        np.save(tmp_path / "m.npy", frames)
        mapped = np.load(tmp_path / "m.npy", mmap_mode="r")
        other = frames.copy()
        other[12] += 1
        np.save(tmp_path / "other.npy", other)
        os.replace(tmp_path / "other.npy", tmp_path / "m.npy")
        with pytest.warns(UserWarning, match="replaced since"):
            movie = opened(mapped, chunks=5)
        np.testing.assert_array_equal(movie, frames)
        with pytest.warns(UserWarning, match="replaced since"):
            assert opened(mapped, chunks=5).data.name != movie.data.name
        np.save(tmp_path / "other.npy", frames[:3])
        os.replace(tmp_path / "other.npy", tmp_path / "m.npy")
        with pytest.raises(ValueError, match=r"m\.npy, which now has 506: it was cut or replaced"):
            open_movie(mapped)

    @pytest.mark.parametrize("how", ["as it is", "backwards", "labelled"])
    def test_a_memory_map_does_not_come_into_memory(self, tmp_path, how):
        """In a process of its own: the peak of this one is that of earlier tests."""
        pytest.importorskip("resource")
        with open(tmp_path / "m.bin", "wb") as file:
            file.truncate(2**31)
        script = f"""
import pickle, resource
import numpy as np, xarray as xr
from xs2p.io import open_movie
open_movie(np.zeros((3, 4, 5), "i2"), chunks=2).compute()
mapped = np.memmap({str(tmp_path / "m.bin")!r}, "i2", "r", shape=(2**12, 512, 512))
given = {{
    "as it is": mapped, "backwards": mapped[::-1],
    "labelled": xr.DataArray(mapped, dims=("time", "y", "x"), attrs={{"fs": 3.0}}),
}}[{how!r}]
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
movie = open_movie(given)
assert movie.attrs.get("fs") == (3.0 if {how!r} == "labelled" else None)
assert len(movie.chunks[0]) == 16 and len(pickle.dumps(movie)) < 5000
movie[5:7].compute()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        assert int(run.stdout) < 2**18  # kB: 256 MB of the 2 GB

    def test_h5py(self, tmp_path, frames):
        with h5py.File(tmp_path / "m.h5", "w") as file:
            stored = file.create_dataset("g/m", data=frames, chunks=(4, LY, LX))
            with pytest.warns(UserWarning, match=r"open for writing.* only threads of this proc"):
                movie = opened(stored, chunks=5)
            np.testing.assert_array_equal(movie, frames)  # not yet on disk
        with h5py.File(tmp_path / "m.h5") as file:
            movie = opened(file["g/m"], chunks=8)
            view = file["g/m"].astype("f4")
            with pytest.raises(ValueError, match=r"cannot open As\w+ of h5py; give the dataset"):
                open_movie(view)
            stored = file["g/m"]
        np.testing.assert_array_equal(movie, frames)  # closed: it is opened anew
        with pytest.raises(ValueError, match=r"of a file that is closed; give the path"):
            open_movie(stored)
        assert movie.data.name == opened(tmp_path / "m.h5", chunks=8).data.name

    @pytest.mark.parametrize("mode", ["r", "r+"])
    def test_h5py_of_nwb(self, tmp_path, frames, mode):
        """NWB has x before y, whatever the file is called."""
        with h5py.File(tmp_path / "m.h5", "w") as file:
            group = file.create_group("acquisition/movie")
            group.attrs["neurodata_type"] = "TwoPhotonSeries"
            group["data"], group["else"] = frames.swapaxes(1, 2), frames
        path = tmp_path / "m.h5"
        np.testing.assert_array_equal(opened(path, variable="acquisition/movie/data"), frames)
        np.testing.assert_array_equal(opened(path, variable="acquisition/movie/else"), frames)
        with h5py.File(path, mode) as file:
            if mode == "r":
                np.testing.assert_array_equal(opened(file["acquisition/movie/data"]), frames)
            else:
                with pytest.raises(ValueError, match=r"dims \(time, x, y\); open that with mode"):
                    open_movie(file["acquisition/movie/data"])

    @pytest.mark.parametrize("how", ["scaled", "masked", "mask of nothing"])
    def test_arrays_that_are_not_what_they_say(self, frames, how):
        """As netCDF4's, which scales and masks what it reads, and tells the dtype of the file."""

        class Variable(Readings):
            def __getitem__(self, key):
                got = self.frames[key]
                if how == "scaled":
                    return got * 0.1
                return np.ma.masked_array(got, (got == got[0, 0, 0]) & (how == "masked"))

        movie = opened(Variable(frames), chunks=10)
        if how == "mask of nothing":
            np.testing.assert_array_equal(movie, frames)
            return
        problem = {"scaled": "dtype is int16, but float64 came", "masked": "pixels are masked"}[how]
        with pytest.raises(OSError, match=rf"frames 0 to 9 .*{problem}.*xarray\.open_dataset"):
            movie[:10].compute(scheduler="sync")

    def test_anything_that_can_be_sliced(self, frames):
        given = Readings(frames)
        movie = opened(given, chunks=10)
        assert given.read == [] and movie.chunks[0] == (10, 10, 3)
        np.testing.assert_array_equal(movie.compute(scheduler="sync"), frames)
        assert sorted((k.start, k.stop) for k in given.read) == [(0, 10), (10, 20), (20, 23)]
        given.frames = None
        with pytest.raises(OSError, match=r"Readings: the chunk with frames 0 to 9 cannot be read"):
            movie[:10].compute(scheduler="sync")
        for odd, what in (
            (5, "cannot open int; expected a path"),
            ([[1, 2]], "cannot open list"),
            (frames[0], r"shape \(7, 9\), expected 3 dims"),
            (frames[:0], "no pixels"),
            (frames.astype(complex), "expected real numbers"),
            (np.ma.masked_equal(frames, frames[0, 0, 0]), r"pixels are masked.*array\.filled\(0\)"),
        ):
            with pytest.raises(ValueError, match=what):
                open_movie(odd)
        np.testing.assert_array_equal(opened(np.ma.array(frames), chunks=5).values, frames)
        with pytest.raises(ValueError, match=r"shape=\(9, 7\) disagrees with 'ndarray'"):
            open_movie(frames, shape=(LX, LY))
        with pytest.raises(ValueError, match=re.escape("variable='a' picks an array")):
            open_movie(frames, variable="a")


def test_another_process_reads_them_all(tmp_path, frames):
    """One of each kind, sent to a process in one graph."""
    folder = TestSuite2p.folder(tmp_path, frames, (T, T))
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file["m"] = frames
    np.save(tmp_path / "m.npy", frames)
    zarr.create_array(tmp_path / "m.zarr", data=frames)
    source = shutil.make_archive(str(tmp_path / "m.zarr"), "zip", tmp_path / "m.zarr")
    movies = [
        opened(folder)[0],
        opened(tmp_path / "m.h5"),
        opened(source),
        opened(f"file://{tmp_path / 'm.zarr'}"),
        opened(np.load(tmp_path / "m.npy", mmap_mode="r")[:, ::-1])[:, ::-1],
        opened([tmp_path / "m.npy"]),
    ]
    sums = [movie.astype("i8").sum(("y", "x")) for movie in movies]
    for got in dask.compute(*sums, scheduler="processes", num_workers=1):
        np.testing.assert_array_equal(got, frames.astype("i8").sum((1, 2)))


def test_a_single_number_is_no_movie():
    with pytest.raises(ValueError, match=r"movie has dims \(\), expected .* a single number"):
        open_movie(xr.DataArray(3.0))
    with pytest.raises(ValueError, match=r"movie has dims \(\), expected .* a single number"):
        xs2p.extract(xr.DataArray(3.0), xs2p.sample_rois(), fs=1.0)
