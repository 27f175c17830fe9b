"""Small whole movies in every format that is read, to be damaged."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import tifffile
import zarr
from microscope_files import (
    lif_image,
    oif_files,
    write_czi,
    write_lif,
    write_nd2,
    write_oib,
    write_oif,
)
from scipy.io import savemat

T, LY, LX = 6, 8, 10
FRAMES = np.random.default_rng(3).integers(1, 4000, (T, LY, LX)).astype("<u2")
VOLUMES = FRAMES.reshape(3, 1, 2, LY, LX)  # (time, plane, channel, y, x)


class Case(NamedTuple):
    """A movie in a folder: what is opened, with which arguments, and the files to damage."""

    path: str
    options: dict[str, Any] = {}  # noqa: RUF012  (a tuple's default, never changed)
    kept: bool = False  # all files stay: that one is gone is what the format cannot tell


def _tiff(folder: Path, **options: Any) -> Case:
    tifffile.imwrite(folder / "m.tif", FRAMES, **options)
    return Case("m.tif")


def _pages(folder: Path, **options: Any) -> Case:
    with tifffile.TiffWriter(folder / "m.tif") as tif:
        for frame in FRAMES:
            tif.write(frame, photometric="minisblack", metadata=None, contiguous=False, **options)
    return Case("m.tif")


def _scanimage(folder: Path) -> Case:
    said = "SI.hChannels.channelSave = [1;2]\nSI.hRoiManager.scanFrameRate = 30\n"
    said += "SI.hStackManager.enable = false\nSI.VERSION_MAJOR = 2020\n"
    with tifffile.TiffWriter(folder / "m.tif", bigtiff=True) as tif:
        for frame in FRAMES:
            about = {"software": said, "description": "frameNumbers = 1\n", "metadata": None}
            tif.write(frame, photometric="minisblack", contiguous=False, **about)
    return Case("m.tif")


def _h5(folder: Path, name: str = "m.h5", **options: Any) -> Case:
    with h5py.File(folder / name, "w") as file:
        file.create_dataset("mov", data=FRAMES, **options)
        file["mov"].attrs["units"] = "a.u."
    return Case(name)


def _h5_virtual(folder: Path) -> Case:
    _h5(folder, "part.h5", chunks=(2, LY, LX))
    with h5py.File(folder / "m.h5", "w") as file:
        layout = h5py.VirtualLayout((T, LY, LX), "<u2")
        layout[:] = h5py.VirtualSource("part.h5", "mov", (T, LY, LX))
        file.create_virtual_dataset("mov", layout)
    return Case("m.h5")


def _nwb(folder: Path) -> Case:
    with h5py.File(folder / "m.nwb", "w") as file:
        group = file.create_group("acquisition/TwoPhotonSeries")
        group.attrs["neurodata_type"] = "TwoPhotonSeries"
        group.attrs["description"] = "frames"
        data = group.create_dataset("data", data=FRAMES.transpose(0, 2, 1), chunks=(2, LX, LY))
        data.attrs.update(conversion=1.0, unit="n.a.", offset=0.0)
        start = group.create_dataset("starting_time", data=0.0)
        start.attrs.update(rate=30.0, unit="seconds")
    return Case("m.nwb")


def _zarr(folder: Path, version: int, **options: Any) -> Case:
    group = zarr.open_group(folder / "m.zarr", mode="w", zarr_format=version)
    names = {"dimension_names": ("time", "y", "x")} if version == 3 else {}
    array = group.create_array(
        "movie", shape=FRAMES.shape, chunks=(2, LY, LX), dtype="<u2", **names, **options
    )
    array[:] = FRAMES
    array.attrs.update(units="a.u.", _ARRAY_DIMENSIONS=["time", "y", "x"])
    times = group.create_array(
        "time",
        shape=(T,),
        chunks=(T,),
        dtype="<f8",
        **({"dimension_names": ("time",)} if version == 3 else {}),
    )
    times[:] = np.arange(T) / 30
    times.attrs.update(_ARRAY_DIMENSIONS=["time"])
    return Case("m.zarr")


def _zarr_crc(folder: Path) -> Case:
    from zarr.codecs import Crc32cCodec

    array = zarr.create_array(
        folder / "m.zarr", shape=FRAMES.shape, chunks=(2, LY, LX), dtype="<u2",
        compressors=[Crc32cCodec()],
    )  # fmt: skip
    array[:] = FRAMES
    return Case("m.zarr", {}, True)


def _zarr_zip(folder: Path) -> Case:
    with zarr.storage.ZipStore(folder / "m.zarr.zip", mode="w") as store:
        array = zarr.create_array(store, shape=FRAMES.shape, chunks=(2, LY, LX), dtype="<u2")
        array[:] = FRAMES
    return Case("m.zarr.zip")


def _ome_zarr(folder: Path, version: int) -> Case:
    group = zarr.open_group(folder / "m.zarr", mode="w", zarr_format=version)
    array = group.create_array("0", shape=(T, 1, 1, LY, LX), chunks=(2, 1, 1, LY, LX), dtype="<u2")
    array[:] = FRAMES[:, None, None]
    axes = [{"name": a} | ({"unit": "second"} if a == "t" else {}) for a in "tczyx"]
    scale = [{"type": "scale", "scale": [0.1, 1, 1, 1, 1]}]
    said = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
    group.attrs.update({"multiscales": said} if version == 2 else {"ome": {"multiscales": said}})
    return Case("m.zarr")


def _npy(folder: Path) -> Case:
    np.save(folder / "m.npy", FRAMES)
    return Case("m.npy")


def _npy_boxes(folder: Path) -> Case:
    np.save(folder / "m.npy", np.asfortranarray(FRAMES[:, None]))
    return Case("m.npy", {"dims": "tzyx"})


def _suite2p(folder: Path) -> Case:
    plane = folder / "suite2p" / "plane0"
    plane.mkdir(parents=True)
    FRAMES.astype("<i2").tofile(plane / "data.bin")
    ops = {"Ly": LY, "Lx": LX, "fs": 30.0, "tau": 1.0, "badframes": np.zeros(T, bool)}
    np.save(plane / "ops.npy", ops | {"frames_per_file": np.array([T]), "filelist": ["a.tif"]})
    return Case("suite2p")


def _mat(folder: Path, packed: bool) -> Case:
    savemat(folder / "m.mat", {"Y": FRAMES.transpose(1, 2, 0)}, do_compression=packed)
    return Case("m.mat")


def _sbx(folder: Path) -> Case:
    np.subtract(65535, FRAMES).astype("<u2").tofile(folder / "m.sbx")
    info = {"sz": [LY, LX], "channels": 2, "resfreq": 7930.0, "scanmode": 1}
    savemat(folder / "m.mat", {"info": info})
    return Case("m.sbx")


def _thor(folder: Path) -> Case:
    inside = folder / "rec"
    inside.mkdir()
    FRAMES.tofile(inside / "Image_001_001.raw")
    (inside / "Experiment.xml").write_text(
        f'<?xml version="1.0"?>\n<ThorImageExperiment>\n<LSM pixelX="{LX}" pixelY="{LY}" '
        'frameRate="30.12" averageMode="0" averageNum="4" />\n<ZStage steps="1" enable="1" />\n'
        f'<Streaming enable="1" frames="{T}" rawData="1" zFastEnable="0" flybackFrames="0" />\n'
        '<CaptureMode mode="1" />\n<Modality name="M" primaryDetectorType="1" />\n'
        '<RawData onlyEnabledChannels="1" />\n<Wavelengths>\n<Wavelength name="ChanA" />\n'
        '<ChannelEnable Set="1" />\n</Wavelengths>\n</ThorImageExperiment>\n'
    )
    return Case("rec")


def _prairie(folder: Path) -> Case:
    inside = folder / "TSeries-1"
    inside.mkdir()
    out = ['<?xml version="1.0"?><PVScan version="5.5"><PVStateShard>']
    out.append('<PVStateValue key="framePeriod" value="0.1" /></PVStateShard>')
    out.append('<Sequence type="TSeries Timed Element" cycle="1">')
    for t, frame in enumerate(FRAMES):
        name = f"TSeries-1_Cycle00001_Ch2_{t + 1:06}.ome.tif"
        tifffile.imwrite(inside / name, frame)
        out.append(
            f'<Frame relativeTime="{t}" absoluteTime="{t / 10}" index="{t + 1}">'
            f'<File channel="2" filename="{name}" page="1" /></Frame>'
        )
    (inside / "TSeries-1.xml").write_text("\n".join([*out, "</Sequence></PVScan>"]))
    return Case("TSeries-1")


def _nd2(folder: Path, packed: bool) -> Case:
    frames = VOLUMES.reshape(3, 2, LY, LX)
    write_nd2(folder / "m.nd2", frames, [("T", 3)], times=np.arange(3) * 1e2, packed=packed)
    return Case("m.nd2")


def _lif(folder: Path) -> Case:
    stamps = np.repeat(np.arange(3) / 10, 2)
    write_lif(folder / "m.lif", lif_image("S1", VOLUMES, "TZCYX", stamps=stamps))
    return Case("m.lif")


def _czi(folder: Path, pack: Any = None) -> Case:
    each = [({"C": c, "T": t}, VOLUMES[t, 0, c]) for t, c in np.ndindex(3, 2)]
    write_czi(folder / "m.czi", each, times=np.arange(3) / 10, pack=pack)
    return Case("m.czi")


def _zstd(array: Any) -> tuple[int, bytes]:
    from numcodecs.zstd import compress

    return 5, bytes(compress(array.tobytes(), 1))


def _olympus(folder: Path, kind: str) -> Case:
    files = oif_files(VOLUMES, "TZCYX", np.arange(3) / 10)
    (write_oif if kind == "oif" else write_oib)(folder / f"m.{kind}", *files)
    return Case(f"m.{kind}")


def _video(folder: Path, suffix: str) -> Case:
    import av

    with av.open(str(folder / f"m.{suffix}"), "w") as file:
        stream = file.add_stream("ffv1", rate=20, options={"level": "3", "slicecrc": "1"})
        stream.width, stream.height, stream.pix_fmt = 24, 16, "gray"
        for i in range(T):
            image = np.tile((FRAMES[i] // 16).astype("u1"), (2, 3))[:16, :24]
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="gray")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return Case(f"m.{suffix}")


def _mmap(folder: Path) -> Case:
    name = f"m_d1_{LY}_d2_{LX}_d3_1_order_F_frames_{T}.mmap"
    FRAMES.transpose(0, 2, 1).astype("<f4").tofile(folder / name)
    return Case(name)


MOVIES = {
    "tiff": lambda f: _tiff(f, photometric="minisblack"),
    "tiff_pages": _pages,
    "tiff_deflate": lambda f: _pages(f, compression="zlib"),
    "tiff_strips": lambda f: _pages(f, rowsperstrip=3, compression="zlib"),
    "tiff_big": lambda f: _tiff(f, photometric="minisblack", bigtiff=True, byteorder=">"),
    "tiff_imagej": lambda f: _tiff(f, imagej=True, metadata={"axes": "TYX", "finterval": 0.1}),
    "tiff_ome": lambda f: _tiff(f, ome=True, metadata={"axes": "TYX", "TimeIncrement": 0.1}),
    "tiff_scanimage": _scanimage,
    "hdf5": _h5,
    "hdf5_chunks": lambda f: _h5(f, chunks=(2, LY, LX), compression="gzip", fletcher32=True),
    "hdf5_virtual": _h5_virtual,
    "nwb": _nwb,
    "zarr2": lambda f: _zarr(f, 2),
    "zarr3": lambda f: _zarr(f, 3),
    "zarr_shards": lambda f: _zarr(f, 3, shards=(4, LY, LX)),
    "zarr_crc": _zarr_crc,
    "zarr_zip": _zarr_zip,
    "ome_zarr2": lambda f: _ome_zarr(f, 2),
    "ome_zarr3": lambda f: _ome_zarr(f, 3),
    "npy": _npy,
    "npy_boxes": _npy_boxes,
    "suite2p": _suite2p,
    "mat": lambda f: _mat(f, False),
    "mat_packed": lambda f: _mat(f, True),
    "sbx": _sbx,
    "thor": _thor,
    "prairie": _prairie,
    "nd2": lambda f: _nd2(f, False),
    "nd2_packed": lambda f: _nd2(f, True),
    "lif": _lif,
    "czi": _czi,
    "czi_packed": lambda f: _czi(f, _zstd),
    "oif": lambda f: _olympus(f, "oif"),
    "oib": lambda f: _olympus(f, "oib"),
    "avi": lambda f: _video(f, "avi"),
    "mkv": lambda f: _video(f, "mkv"),
    "mmap": _mmap,
}
