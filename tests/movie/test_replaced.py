"""A movie that is replaced, cut or removed while it is read: named, and nothing of another passes.

One case for each reader that opens a file or a folder.
"""

from __future__ import annotations

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import zarr
from loaders import opened
from microscope_files import (
    lif_image,
    oif_files,
    write_czi,
    write_lif,
    write_nd2,
    write_oib,
    write_oif,
)

T, LY, LX = 24, 20, 16


def _bin(path, frames):
    frames.astype("<i2").tofile(path)
    return path, {"shape": (LY, LX)}


def _npy(path, frames):
    np.save(path, frames)


def _fortran(path, frames):
    np.save(path, np.asfortranarray(frames))


def _npy_axes(path, frames):
    np.save(path, frames[:, None])
    return path, {"dims": "tcyx"}


def _tif(path, frames):
    tifffile.imwrite(path, frames, photometric="minisblack")


def _tif_deflate(path, frames):
    tifffile.imwrite(path, frames, photometric="minisblack", compression="zlib")


def _tif_scattered(path, frames):
    with tifffile.TiffWriter(path) as tif:
        for i, frame in enumerate(frames):
            told = f"frame {i:>{i + 1}}"
            tif.write(frame, description=told, metadata=None, photometric="minisblack")


def _h5(path, frames):
    import h5py

    with h5py.File(path, "w") as file:
        file.create_dataset("movie", data=frames, chunks=(4, LY, LX))


def _h5_axes(path, frames):
    import h5py

    with h5py.File(path, "w") as file:
        file["movie"] = frames[:, None]
    return path, {"dims": "tcyx"}


def _h5_virtual(path, frames):
    """The frames are in another file."""
    import h5py

    source = path.with_name("source.h5")
    _h5(source, frames)
    layout = h5py.VirtualLayout(frames.shape, frames.dtype)
    layout[:] = h5py.VirtualSource("source.h5", "movie", frames.shape)
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("virtual", layout)


def _nwb(path, frames):
    import h5py

    with h5py.File(path, "w") as file:
        series = file.create_group("acquisition/movie")
        series.attrs["neurodata_type"] = "TwoPhotonSeries"
        series["data"] = frames.transpose(0, 2, 1)
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 10.0


def _mat(path, frames, packed=False):
    from scipy.io import savemat

    savemat(path, {"M": np.moveaxis(frames, 0, 2)}, do_compression=packed)


def _mat_packed(path, frames):
    _mat(path, frames, packed=True)


def _mmap(path, frames, order="C"):
    name = f"rec_d1_{LY}_d2_{LX}_d3_1_order_{order}_frames_{T}_.mmap"
    pixels = frames.transpose(1, 2, 0).reshape(-1, T, order="F").astype("f4")
    mapped = np.memmap(path.with_name(name), "f4", "w+", shape=pixels.shape, order=order)
    mapped[:] = pixels
    mapped.flush()
    return path.with_name(name), {}


def _mmap_fortran(path, frames):
    return _mmap(path, frames, "F")


def _sbx(path, frames):
    from scipy.io import savemat

    (65535 - frames[..., None].astype("u2")).tofile(path)
    info = {"sz": (LY, LX), "resfreq": 7938.0, "scanmode": 1, "volscan": 0, "channels": 2}
    savemat(path.with_suffix(".mat"), {"info": info})


def _video(path, frames):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=20)
        stream.width, stream.height, stream.pix_fmt = LX, LY, "gray"
        for image in frames.astype("u1"):
            file.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="gray")))
        file.mux(stream.encode())


def _nd2(path, frames):
    pytest.importorskip("nd2")
    write_nd2(path, frames[:, None].astype("u2"), [("T", T)])


def _lif(path, frames):
    pytest.importorskip("liffile")
    write_lif(path, lif_image("Series001", frames.astype("u2"), "TYX"))


def _czi(path, frames):
    pytest.importorskip("czifile")
    write_czi(path, [({"T": t}, frame) for t, frame in enumerate(frames.astype("u2"))])


def _oif(path, frames):
    pytest.importorskip("oiffile")
    write_oif(path, *oif_files(frames.astype("u2"), "TYX"))


def _oib(path, frames):
    pytest.importorskip("oiffile")
    write_oib(path, *oif_files(frames.astype("u2"), "TYX"))


def _zarr(path, frames, **how):
    zarr.create_array(path, data=frames, chunks=(4, LY, LX), overwrite=True, **how)


def _zarr2(path, frames):
    _zarr(path, frames, zarr_format=2)


def _zarr_sharded(path, frames):
    _zarr(path, frames, shards=(8, LY, LX))


def _zarr_dataset(path, frames):
    import xarray as xr

    movie = xr.DataArray(frames, dims=("time", "y", "x"), name="movie")
    encoding = {"movie": {"chunks": (4, LY, LX)}}
    movie.to_dataset().to_zarr(path, mode="w", consolidated=False, encoding=encoding)


def _zarr_zip(path, frames):
    with zarr.storage.ZipStore(path, mode="w") as store:
        zarr.create_array(store, data=frames, chunks=(4, LY, LX))


def _several(path, frames):
    """Files of one recording; the second is replaced."""
    path.mkdir(exist_ok=True)
    for i, part in enumerate((frames[: T // 2], frames[T // 2 :])):
        _tif(path / f"rec_{i}.tif", part)
    return str(path / "rec_*.tif"), {}


def _suite2p(path, frames):
    plane = path / "suite2p" / "plane0"
    plane.mkdir(parents=True, exist_ok=True)
    frames.astype("<i2").tofile(plane / "data.bin")
    ops = {"Ly": LY, "Lx": LX, "nframes": T, "fs": 10.0}
    np.save(plane / "ops.npy", np.array(ops, dtype=object))
    return path / "suite2p", {}


def _prairie(path, frames):
    path.mkdir(exist_ok=True)
    out = ['<?xml version="1.0"?><PVScan version="5.5"><PVStateShard>']
    out.append('<PVStateValue key="framePeriod" value="0.1" /></PVStateShard>')
    out.append('<Sequence type="TSeries Timed Element" cycle="1">')
    for i, frame in enumerate(frames.astype("u2"), 1):
        name = f"a_Cycle00001_Ch2_{i:06}.ome.tif"
        tifffile.imwrite(path / name, frame)
        out.append(f'<Frame relativeTime="{i}" absoluteTime="{i / 10}" index="{i}">')
        out.append(f'<File channel="2" filename="{name}" page="1" /></Frame>')
    (path / "a.xml").write_text("\n".join([*out, "</Sequence></PVScan>"]))


READERS = {
    "a.bin": _bin,
    "a.npy": _npy,
    "fortran.npy": _fortran,
    "axes.npy": _npy_axes,
    "a.tif": _tif,
    "deflate.tif": _tif_deflate,
    "scattered.tif": _tif_scattered,
    "a.h5": _h5,
    "axes.h5": _h5_axes,
    "virtual.h5": _h5_virtual,
    "a.nwb": _nwb,
    "a.mat": _mat,
    "packed.mat": _mat_packed,
    "c.mmap": _mmap,
    "f.mmap": _mmap_fortran,
    "a.sbx": _sbx,
    "a.avi": _video,
    "a.mkv": _video,
    "a.nd2": _nd2,
    "a.lif": _lif,
    "a.czi": _czi,
    "a.oif": _oif,
    "a.oib": _oib,
    "a.zarr": _zarr,
    "v2.zarr": _zarr2,
    "sharded.zarr": _zarr_sharded,
    "dataset.zarr": _zarr_dataset,
    "a.zarr.zip": _zarr_zip,
    "several": _several,
    "suite2p": _suite2p,
    "prairie": _prairie,
}
# What holds the frames, where that is not the file that is opened.
HOLDS = {
    "virtual.h5": "source.h5",
    "a.oif": "*.files/*.tif",
    "a.zarr": "c/*/0/0",
    "v2.zarr": "*.0.0",
    "sharded.zarr": "c/*/0/0",
    "dataset.zarr": "movie/c/*/0/0",
    "several": "rec_1.tif",
    "suite2p": "suite2p/plane0/data.bin",
    "prairie": "*.tif",
}


def holders(name, path):
    """Files with the frames of a movie."""
    pattern = HOLDS.get(name)
    if pattern is None:
        return [path]
    root = path if path.is_dir() else path.parent
    found = sorted(root.glob(pattern))
    assert found
    return found


@pytest.fixture(scope="module")
def recordings():
    """Two movies of one shape, of which no frame is alike."""
    random = np.random.default_rng(0)
    old = random.integers(0, 100, (T, LY, LX)).astype("i2")
    return SimpleNamespace(old=old, new=old + 100)


def written(name, folder, frames):
    path = folder / ("rec" if "." not in name else name)
    given = READERS[name](path, frames)
    return given if given is not None else (path, {})


@pytest.fixture
def movie(tmp_path, recordings, request):
    """One that is open, and has been read in part; and where its frames lie."""
    name = request.param
    (tmp_path / "here").mkdir()
    path, how = written(name, tmp_path / "here", recordings.old)
    lazy = opened(path, chunks=4 if "sharded" not in name else 8, **how)
    read = lazy[:4].compute(scheduler="sync")
    np.testing.assert_array_equal(np.squeeze(read), recordings.old[:4])
    real = path if "." in name else tmp_path / "here" / "rec"
    return SimpleNamespace(name=name, lazy=lazy, path=real, how=how, folder=tmp_path)


def refused(movie, *names):
    with pytest.raises(OSError) as caught:
        movie.lazy[12:].compute(scheduler="sync")
    said = str(caught.value)
    assert any(name in said for name in names), said


EVERY = pytest.mark.parametrize("movie", READERS, indirect=True)


@EVERY
def test_replaced_by_another_recording(movie, recordings):
    """Of the same size, and under the same name."""
    there = movie.folder / "there"
    there.mkdir()
    written(movie.name, there, recordings.new)
    root = movie.path if movie.path.is_dir() else movie.path.parent
    other = there / root.relative_to(movie.folder / "here")
    names = []
    for path in holders(movie.name, movie.path):
        os.replace(other / path.relative_to(root), path)
        names.append(path.name)
    refused(movie, movie.path.name, *names)


@EVERY
def test_cut(movie):
    for path in holders(movie.name, movie.path):
        os.truncate(path, path.stat().st_size // 2)
    refused(movie, movie.path.name, *(p.name for p in holders(movie.name, movie.path)))


@EVERY
def test_removed(movie):
    names = [path.name for path in holders(movie.name, movie.path)]
    for path in holders(movie.name, movie.path):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(movie, movie.path.name, *names)


@pytest.mark.parametrize("movie", ["a.zarr", "v2.zarr", "dataset.zarr"], indirect=True)
def test_a_store_that_is_removed_as_a_whole(movie):
    """Zarr would give zeros for each of its chunks."""
    shutil.rmtree(movie.path)
    refused(movie, movie.path.name)


@pytest.mark.parametrize("movie", ["a.bin", "a.h5", "a.zarr"], indirect=True)
def test_replaced_in_the_middle_of_a_read(movie, recordings, monkeypatch):
    """What was read is not passed on: nobody knows of which it is."""
    there = movie.folder / "there"
    there.mkdir()
    written(movie.name, there, recordings.new)
    from xs2p.movie import frames

    check, calls = frames.Stamp.check, []

    def checked(stamp):
        check(stamp)
        calls.append(1)
        if len(calls) == 1:
            for path in holders(movie.name, movie.path):
                new = there / path.relative_to(movie.folder / "here")
                os.replace(new, path)

    monkeypatch.setattr(frames.Stamp, "check", checked)
    refused(movie, movie.path.name)
