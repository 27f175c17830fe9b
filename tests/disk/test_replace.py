"""What is there is replaced only where this package made it, and never where it is being read."""

from __future__ import annotations

import datetime
import os
import shutil
from pathlib import Path

import dask.array as da
import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from loaders import square

import xs2p
from xs2p.disk.inputs import paths_read
from xs2p.disk.replace import scratch_folder

OPTIONS = {"fs": 10.0, "min_neuropil_pixels": 50, "baseline": "none", "progress": False}
START = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)


@pytest.fixture
def frames():
    return np.random.default_rng(0).integers(0, 500, (40, 20, 24)).astype(np.int16)


@pytest.fixture
def rois():
    return xs2p.rois_from_stat([square(2, 3), square(11, 14)], (20, 24))


def as_movie(frames):
    return xr.DataArray(frames, dims=("time", "y", "x"), name="movie")


def everything_in(folder):
    return {str(p): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


class TestStores:
    """`extract_to_zarr`, whose stores are folders."""

    @pytest.fixture
    def movie_store(self, tmp_path, frames):
        as_movie(frames).to_dataset().to_zarr(tmp_path / "rec.zarr", consolidated=False)
        return tmp_path / "rec.zarr"

    def refused(self, match, movie, rois, path, folder, **options):
        before = everything_in(folder)
        with pytest.raises(FileExistsError, match=match):
            xs2p.extract_to_zarr(movie, rois, path, **OPTIONS, **options)
        assert everything_in(folder) == before

    @pytest.mark.parametrize("kind", ["opened", "path", "xarray", "arithmetic"])
    def test_the_movie_is_not_replaced_by_its_traces(self, movie_store, rois, kind, tmp_path):
        movie = {
            "opened": lambda: xs2p.open_movie(movie_store),
            "path": lambda: movie_store,
            "xarray": lambda: xr.open_zarr(movie_store, consolidated=False).movie,
            "arithmetic": lambda: (xs2p.open_movie(movie_store).drop_attrs() + 1)[::2],
        }[kind]()
        match = r"rec\.zarr (is|holds) the input"
        self.refused(match, movie, rois, movie_store, tmp_path, overwrite=True)
        self.refused(match, movie, rois, movie_store, tmp_path, overwrite=True, resume=True)

    def test_nor_a_movie_that_is_not_read_or_is_in_memory(
        self, movie_store, rois, frames, tmp_path
    ):
        match = r"rec\.zarr exists and is a Zarr store of something else \(movie\)"
        self.refused(match, as_movie(frames), rois, movie_store, tmp_path, overwrite=True)

    def test_nor_a_folder_that_holds_the_movie(self, rois, frames, tmp_path):
        traces = tmp_path / "out.zarr"
        xs2p.extract_to_zarr(as_movie(frames), rois, traces, **OPTIONS)
        np.save(traces / "movie.npy", frames)
        movie = xs2p.open_movie(traces / "movie.npy")
        self.refused("out.zarr holds the input .*movie.npy", movie, rois, traces, tmp_path,
                     overwrite=True)  # fmt: skip
        # Nor one that holds anything else that is not of the store.
        match = r"out\.zarr exists and holds movie\.npy, which is not of a Zarr store"
        self.refused(match, as_movie(frames), rois, traces, tmp_path, overwrite=True)

    def test_nor_a_folder_that_holds_files_given_by_a_pattern(self, rois, frames, tmp_path):
        traces = tmp_path / "out.zarr"
        xs2p.extract_to_zarr(as_movie(frames), rois, traces, **OPTIONS)
        (traces / "F" / "c").mkdir(exist_ok=True)
        for n in range(2):
            tifffile.imwrite(traces / "F" / "c" / f"rec_{n}.tif", frames)
        pattern = str(traces / "F" / "c" / "rec_*.tif")
        for movie in (pattern, sorted((traces / "F" / "c").glob("rec_*.tif"))):
            match = r"out\.zarr holds the input .*rec_\d\.tif"
            self.refused(match, movie, rois, traces, tmp_path, overwrite=True)

    def test_nor_traces_with_a_movie_beside_them(self, rois, frames, tmp_path):
        ds = as_movie(frames).s2p.extract(rois, fs=10.0, min_neuropil_pixels=50)
        ds.assign(movie=as_movie(frames)).to_zarr(tmp_path / "both.zarr", consolidated=False)
        self.refused(r"holds a movie \(movie\)", as_movie(frames), rois, tmp_path / "both.zarr",
                     tmp_path, overwrite=True)  # fmt: skip

    @pytest.mark.skipif(os.name != "posix", reason="links")
    def test_nor_the_movie_through_a_link(self, movie_store, rois, tmp_path):
        (tmp_path / "link.zarr").symlink_to(movie_store)
        movie = xs2p.open_movie(movie_store)
        self.refused("link.zarr is the input", movie, rois, tmp_path / "link.zarr", tmp_path,
                     overwrite=True)  # fmt: skip
        sideways = tmp_path / "." / "nothing" / ".." / "rec.zarr"
        (tmp_path / "nothing").mkdir()
        self.refused("rec.zarr (is|holds) the input", movie, rois, f"{sideways}/", tmp_path,
                     overwrite=True)  # fmt: skip

    @pytest.mark.parametrize("resume", [False, True])
    def test_a_folder_of_something_else(self, rois, frames, tmp_path, resume):
        for name in ("precious.zarr", "out.partial.zarr"):
            (tmp_path / name).mkdir()
            (tmp_path / name / "thesis.txt").write_text("all of it")
            target = tmp_path / ("precious.zarr" if name[0] == "p" else "out.zarr")
            self.refused(
                f"{name} exists and is no Zarr store, but a folder that holds thesis.txt",
                as_movie(frames), rois, target, tmp_path, overwrite=True, resume=resume,
            )  # fmt: skip

    @pytest.mark.parametrize("options", [{"resume": True}, {"overwrite": True}, {}], ids=str)
    def test_an_unfinished_store_of_something_else(
        self, movie_store, rois, frames, tmp_path, options
    ):
        movie_store.rename(tmp_path / "out.partial.zarr")
        match = r"out\.partial\.zarr exists and is a Zarr store of something else"
        self.refused(match, as_movie(frames), rois, tmp_path / "out.zarr", tmp_path, **options)

    def test_a_file(self, rois, frames, tmp_path):
        (tmp_path / "out.zarr").write_text("a file")
        self.refused("out.zarr exists and is a file", as_movie(frames), rois, tmp_path / "out.zarr",
                     tmp_path, overwrite=True)  # fmt: skip

    def test_what_this_package_made_is_replaced(self, rois, frames, tmp_path):
        path = tmp_path / "out.zarr"
        xs2p.extract_to_zarr(as_movie(frames), rois, path, **OPTIONS)
        (path / ".DS_Store").write_bytes(b"of a file manager")
        xs2p.extract_to_zarr(as_movie(frames), rois, path, overwrite=True, **OPTIONS, tau=1.0)
        assert "spks" in xr.open_zarr(path)
        shutil.rmtree(path)
        ds = as_movie(frames).s2p.extract(rois, fs=10.0, min_neuropil_pixels=50)
        ds.to_zarr(path, consolidated=False)
        xs2p.extract_to_zarr(as_movie(frames), rois, path, overwrite=True, **OPTIONS, tau=1.0)
        assert "spks" in xr.open_zarr(path) and os.listdir(tmp_path) == ["out.zarr"]


class TestFiles:
    """`write_rois`, `write_nwb` and `write_suite2p`."""

    @pytest.mark.parametrize("name", ["a.tif", "a.npy", "a.zip", "a.roi", "stat.npy", "a.nc"])
    def test_a_file_of_another_kind(self, name, rois, frames, tmp_path):
        path = tmp_path / name
        if name.endswith(".npy"):
            np.save(path, frames)
        elif name == "a.nc":
            as_movie(frames).to_netcdf(path, engine="h5netcdf")
        elif name == "a.zip":
            shutil.make_archive(str(path)[:-4], "zip", root_dir=__file__[: -len("test_replace.py")])
        else:
            tifffile.imwrite(path, frames)
        before = path.read_bytes()
        with pytest.raises(FileExistsError, match=f"{name} exists and .* left as it is"):
            xs2p.write_rois(rois.isel(roi=[0]), path, overwrite=True)
        assert path.read_bytes() == before

    def test_a_label_image_or_regions_of_another_program(self, rois, tmp_path):
        import zipfile

        tifffile.imwrite(tmp_path / "a.tif", np.ones((20, 24), np.uint16))
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("0001.roi", b"Iout")
        before = everything_in(tmp_path)
        for name in ("a.tif", "a.zip"):
            with pytest.raises(FileExistsError, match=f"{name} exists and .* another program made"):
                xs2p.write_rois(rois, tmp_path / name, overwrite=True)
        assert everything_in(tmp_path) == before

    def test_a_recording_in_nwb(self, rois, frames, tmp_path):
        pynwb = pytest.importorskip("pynwb")
        ds = as_movie(frames).s2p.extract(rois, fs=10.0, min_neuropil_pixels=50)
        file = pynwb.NWBFile("a", "b", START)
        file.add_acquisition(pynwb.TimeSeries(name="raw", data=[1.0], unit="V", rate=1.0))
        with pynwb.NWBHDF5IO(tmp_path / "raw.nwb", "w") as io:
            io.write(file)
        before = everything_in(tmp_path)
        with pytest.raises(FileExistsError, match=r"raw\.nwb exists and holds a recording \(raw\)"):
            xs2p.write_nwb(ds, tmp_path / "raw.nwb", session_start_time=START, overwrite=True)
        with pynwb.NWBHDF5IO(tmp_path / "raw.nwb", "r") as io:
            stored = io.read()
            with pytest.raises(FileExistsError, match=r"raw\.nwb is the input"):
                xs2p.write_nwb(ds, tmp_path / "raw.nwb", nwbfile=stored, overwrite=True)
        assert everything_in(tmp_path) == before
        for _ in range(2):  # our own
            xs2p.write_nwb(ds, tmp_path / "ours.nwb", session_start_time=START, overwrite=True)

    def test_files_that_the_traces_are_read_from(self, rois, frames, tmp_path):
        ds = as_movie(frames).s2p.extract(rois, fs=10.0, min_neuropil_pixels=50)
        xs2p.write_suite2p(ds, tmp_path / "plane0")
        mapped = np.load(tmp_path / "plane0" / "F.npy", mmap_mode="r")
        lazy = ds.assign(F=ds.F.copy(data=xs2p.open_movie(mapped[None], chunks=1).data[0]))
        before = everything_in(tmp_path)
        with pytest.raises(FileExistsError, match=r"F\.npy is the input"):
            xs2p.write_suite2p(lazy, tmp_path / "plane0", overwrite=True)
        assert everything_in(tmp_path) == before
        xs2p.write_suite2p(ds, tmp_path / "plane0", overwrite=True)


WRITERS = {
    "extract_to_zarr": lambda ds, rois, movie, folder: xs2p.extract_to_zarr(
        movie, rois, folder / "out.zarr", overwrite=True, **OPTIONS
    ),
    "write_rois zip": lambda ds, rois, movie, folder: xs2p.write_rois(
        rois, folder / "out.zip", overwrite=True
    ),
    "write_rois zarr": lambda ds, rois, movie, folder: xs2p.write_rois(
        rois, folder / "out.zarr", overwrite=True
    ),
    "write_suite2p": lambda ds, rois, movie, folder: xs2p.write_suite2p(
        ds, folder / "plane0", overwrite=True
    ),
    "write_nwb": lambda ds, rois, movie, folder: xs2p.write_nwb(
        ds, folder / "out.nwb", session_start_time=START, identifier="same", overwrite=True
    ),
}


@pytest.fixture
def inputs(frames, rois):
    movie = as_movie(frames)
    return movie.s2p.extract(rois, fs=10.0, min_neuropil_pixels=50), rois, movie


@pytest.mark.parametrize("writer", WRITERS)
def test_whatever_step_fails_there_is_the_old_or_the_new_whole(
    writer, inputs, tmp_path, monkeypatch
):
    """Each rename fails in turn: what is under the final name is never half of either."""
    write, (ds, rois, movie) = WRITERS[writer], inputs
    write(ds, rois, movie, tmp_path)
    old = everything_in(tmp_path)
    number, fails = 0, True
    while fails:
        number, calls = number + 1, []

        def failing(plain, calls=calls, number=number):
            def call(*args, **kwargs):
                calls.append(1)
                if len(calls) == number:
                    raise PermissionError(13, "Permission denied", str(args[0]))
                return plain(*args, **kwargs)

            return call

        try:
            with monkeypatch.context() as patched:
                for name in ("rename", "replace"):
                    patched.setattr(os, name, failing(getattr(os, name)))
                write(ds, rois, movie, tmp_path)
            fails = False
        except (PermissionError, OSError):
            kept = {k: v for k, v in everything_in(tmp_path).items() if ".partial.zarr" not in k}
            assert set(kept) == set(old)
            if writer != "write_nwb":  # whose files hold the time that they were written at
                assert kept == old
        for left in tmp_path.glob("*.partial.zarr"):
            shutil.rmtree(left)
    assert number >= 2
    assert set(everything_in(tmp_path)) == set(old)


def test_files_that_a_thread_still_writes_go_with_the_folder(tmp_path, monkeypatch):
    """As Zarr's do, which raises the first error of its threads while the others go on."""
    late, rmtree = [1, 2, 3], shutil.rmtree

    def removed(folder, **kwargs):
        rmtree(folder, **kwargs)
        if late:
            (Path(folder) / f"{late.pop()}").mkdir(parents=True)

    monkeypatch.setattr(shutil, "rmtree", removed)
    with pytest.raises(OSError, match="disk is full"), scratch_folder(str(tmp_path / "a")):
        raise OSError("disk is full")
    assert not late
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="folders are synced on posix")
@pytest.mark.parametrize("writer", WRITERS)
def test_all_is_on_disk_before_it_gets_its_name_and_the_name_after(
    writer, inputs, tmp_path, monkeypatch
):
    write, (ds, rois, movie) = WRITERS[writer], inputs
    log = []
    plain_open, plain_fsync = os.open, os.fsync
    handles = {}

    def spy_open(path, *args, **kwargs):
        handle = plain_open(path, *args, **kwargs)
        handles[handle] = os.path.realpath(path)
        return handle

    def spy_fsync(handle):
        log.append(("sync", handles.get(handle, "")))
        plain_fsync(handle)

    def spy(plain):
        def rename(source, target, **kwargs):
            files = [str(p) for p in Path(source).rglob("*") if p.is_file()] or [str(source)]
            log.append(("rename", str(target), [os.path.realpath(p) for p in files]))
            plain(source, target, **kwargs)

        return rename

    monkeypatch.setattr(os, "open", spy_open)
    monkeypatch.setattr(os, "fsync", spy_fsync)
    for name in ("rename", "replace"):
        monkeypatch.setattr(os, name, spy(getattr(os, name)))
    write(ds, rois, movie, tmp_path)
    finals = [
        n
        for n, entry in enumerate(log)
        if entry[0] == "rename" and not os.path.basename(entry[1]).startswith(".")
        and Path(entry[1]).parent in (tmp_path, tmp_path / "plane0")
    ]  # fmt: skip
    assert finals
    for n in finals:
        _, target, files = log[n]
        synced = {entry[1] for entry in log[:n] if entry[0] == "sync"}
        assert set(files) <= synced, sorted(set(files) - synced)
        folder = os.path.realpath(os.path.dirname(target))
        assert ("sync", folder) in log[n:], target


def test_paths_that_arrays_read(tmp_path, frames, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames.tofile("a.bin")
    np.save("a.npy", frames)
    tifffile.imwrite("a.tif", frames)
    tifffile.imwrite("b.tif", frames, compression="zlib")
    with h5py.File("a.h5", "w") as file:
        file["movie"] = frames
    as_movie(frames).to_dataset().to_zarr("a.zarr", consolidated=False)
    as_movie(frames).to_dataset().to_netcdf("a.nc", engine="h5netcdf")
    for name in ("a.bin", "a.npy", "a.tif", "b.tif", "a.h5", "a.zarr"):
        movie = xs2p.open_movie(name, shape=(20, 24)).drop_attrs()
        for derived in (movie, (movie * 2)[::3], movie.astype("f4").rolling(time=2).mean()):
            (found,) = paths_read(derived)
            assert name in found
    assert len(paths_read(xs2p.open_movie(["a.tif", "b.tif"]))) == 2
    for lazy in (xr.open_zarr("a.zarr", consolidated=False), xr.open_dataset("a.nc", chunks={})):
        assert len(paths_read(lazy)) == len(paths_read(lazy.movie.drop_attrs() + 1)) == 1
    assert paths_read(as_movie(np.load("a.npy", mmap_mode="r"))) == {str(tmp_path / "a.npy")}
    assert paths_read(as_movie(frames), as_movie(da.from_array(frames)), None) == set()
    (tmp_path / "movie").mkdir()  # as the array in the store is called
    assert paths_read(xr.open_zarr("a.zarr", consolidated=False).movie + 1) == {
        str(tmp_path / "a.zarr")
    }
    assert paths_read("a.npy", tmp_path / "gone.npy", "s3://a/b") == {"a.npy"}
