"""Stacks whose frames are of several channels and planes in turn, and recordings of many files."""

from __future__ import annotations

import importlib.util
import itertools
import logging
import os
import pickle
import struct
import warnings

import dask
import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from loaders import opened

import xs2p
from xs2p.io import open_movie
from xs2p.movie import chunks as movie_chunks
from xs2p.movie import frames as lazy
from xs2p.movie.sources import natural

C, P, T, LY, LX = 2, 3, 4, 6, 7


@pytest.fixture
def stack():
    """Frames (time, plane, channel, y, x)."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**15, (T, P, C, LY, LX)).astype(np.uint16)


@pytest.fixture
def reads(monkeypatch):
    """Every frame that is read from a file: (name, frame)."""
    log = []

    def watch(kind, method, frames_of):
        plain = getattr(kind, method)

        def read(self, *args):
            log.extend((os.path.basename(self.stamp.path), int(n)) for n in frames_of(*args))
            return plain(self, *args)

        monkeypatch.setattr(kind, method, read)

    def taken(start, step, count):
        return range(start, start + step * count, step)

    watch(lazy.RawFrames, "read", range)
    watch(lazy.RawFrames, "take", taken)
    watch(lazy.TiffPages, "take", taken)  # also called by its read
    return log


def expected(stack):
    return stack.transpose(2, 1, 0, 3, 4)  # (channel, plane, time, y, x)


def write_scanimage(path, pages, header=True, **settings):
    """A BigTIFF as ScanImage lays it out: settings before the first page and in every page."""
    defaults = {"hChannels.channelSave": "[1;2]", "hStackManager.enable": "false"}
    settings = {**defaults, **{k.replace("__", "."): v for k, v in settings.items()}}
    text = "\n".join(f"SI.{key} = {value}" for key, value in settings.items()).encode() + b"\0"
    groups = b"{}\0"
    with open(path, "wb") as file:
        file.write(struct.pack("<2sHHHQ", b"II", 43, 8, 0, 0))
        if header:
            file.write(struct.pack("<IIII", 0x07030301, 4, len(text), len(groups)))
            file.write(text + groups)
        link = 8
        for i, page in enumerate(pages):
            where = {}
            described = f"frameNumbers = {i + 1}\n".encode() + b"\0"
            for key, part in (("described", described), ("text", text)):
                file.write(bytes(-file.tell() % 8))
                where[key] = file.tell()
                file.write(part)
            file.write(bytes(-file.tell() % 8))
            at, (ly, lx), n = file.tell(), page.shape, 12
            tags = [
                (256, 4, 1, lx), (257, 4, 1, ly), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
                (270, 2, len(described), where["described"]), (273, 16, 1, at + 16 + 20 * n),
                (277, 3, 1, 1), (278, 4, 1, ly), (279, 16, 1, page.nbytes),
                (305, 2, len(text), where["text"]), (339, 3, 1, 2),
            ]  # fmt: skip
            file.write(struct.pack("<Q", n) + b"".join(struct.pack("<HHQQ", *t) for t in tags))
            file.write(bytes(8) + page.astype("<i2").tobytes())
            file.seek(link)
            file.write(struct.pack("<Q", at))
            file.seek(0, os.SEEK_END)
            link = at + 8 + 20 * n
    with tifffile.TiffFile(path) as tif:
        assert tif.is_scanimage and tif.is_bigtiff
        assert bool((tif.scanimage_metadata or {}).get("FrameData")) is header


VOLUME = {
    "hStackManager__enable": "true", "hStackManager__numSlices": P,
    "hStackManager__framesPerSlice": 1, "hStackManager__numFramesPerVolume": P,
    "hStackManager__numFramesPerVolumeWithFlyback": P + 1,
}  # fmt: skip


# What the file itself says


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["".join(order) for order in itertools.permutations("TZC")])
def test_ome_in_any_order(tmp_path, stack, axes, compression, reads):
    path = tmp_path / "m.ome.tif"
    stored = stack.transpose(["TZC".index(a) for a in axes] + [3, 4])
    tifffile.imwrite(
        path, stored, ome=True, photometric="minisblack", compression=compression,
        metadata={"axes": f"{axes}YX"},
    )  # fmt: skip
    movie = opened(path, chunks=3, channels=C)
    assert movie.dims == ("channel", "plane", "time", "y", "x") and movie.dtype == np.uint16
    np.testing.assert_array_equal(movie, expected(stack))
    assert sorted(reads) == [("m.ome.tif", n) for n in range(T * P * C)]
    reads.clear()
    some = movie.sel(channel=1, plane=2).compute()
    np.testing.assert_array_equal(some, stack[:, 2, 1])
    assert len(reads) == T
    np.testing.assert_array_equal(movie[:, 1, 1:3, ::-1, 2], expected(stack)[:, 1, 1:3, ::-1, 2])


@pytest.mark.parametrize("kind", [{"imagej": True}, {"ome": True}, {"ome": True, "bigtiff": True}])
@pytest.mark.parametrize("axes", ["TCYX", "TZYX", "CTYX", "ZTYX", "ZCYX"])
def test_channels_or_planes(tmp_path, stack, axes, kind):
    if "imagej" in kind and axes[:2] in ("CT", "ZT"):
        pytest.skip("ImageJ has time first")
    frames = stack.reshape(-1, 2, LY, LX)
    time_last = axes[1] == "T"
    stored = frames.swapaxes(0, 1) if time_last else frames
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stored, photometric="minisblack", metadata={"axes": axes}, **kind)
    if axes == "ZCYX" and "ome" in kind:
        with pytest.warns(UserWarning, match=r"12 planes \(Z\) are taken .* dims='tcyx'"):
            movie = open_movie(path)
    else:
        movie = opened(path)
    # Without time, slices are the frames: Fiji calls them so.
    other = "plane" if axes in ("TZYX", "ZTYX") else "channel"
    assert movie.dims == (other, "time", "y", "x")
    np.testing.assert_array_equal(movie, frames.swapaxes(0, 1))


def test_planes_that_only_the_user_knows_of_within_a_file_that_says_its_channels(tmp_path, stack):
    path = tmp_path / "m.tif"
    frames = stack.reshape(T * P, C, LY, LX)
    tifffile.imwrite(path, frames, imagej=True, metadata={"axes": "TCYX"})
    np.testing.assert_array_equal(opened(path, planes=P), expected(stack))
    with pytest.raises(ValueError, match=r"channels=3 disagrees with .*m\.tif, .* it has 2"):
        open_movie(path, channels=3)
    # The user may know better.
    movie = opened(path, channels=3, order=("time", "channel"))
    np.testing.assert_array_equal(movie, stack.reshape(-1, 3, LY, LX).swapaxes(0, 1))


def test_few_images_that_are_called_channels(tmp_path, stack):
    path = tmp_path / "m.tif"
    two = stack[0, 0]
    tifffile.imwrite(path, two, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(ValueError, match=r"say channels=2 if they are channels, channels=1 if"):
        open_movie(path)
    np.testing.assert_array_equal(opened(path, channels=1), two)
    movie = opened(path, channels=2)
    assert movie.dims == ("channel", "time", "y", "x")
    np.testing.assert_array_equal(movie[:, 0], two)


def test_axes_that_are_no_movie(tmp_path):
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, np.zeros((5, 2, 8, 9), "u2"), metadata={"axes": "TPYX"}, ome=False)
    with pytest.raises(ValueError, match=r"axes 'TPYX' with P \(pos.*expected frames over time"):
        open_movie(path)


def test_ome_in_two_files(tmp_path, stack):
    """OME-TIFF may name other files, whose frames belong to it: they must not be read twice."""
    frames = stack[:, 0, 0]
    for n in range(2):
        tifffile.imwrite(tmp_path / f"{n}.ome.tif", frames[2 * n : 2 * n + 2], metadata=None)
    planes = "".join(
        f'<TiffData IFD="{t % 2}" FirstT="{t}" PlaneCount="1"><UUID FileName="{t // 2}.ome.tif">'
        f"urn:uuid:0000000{t // 2}-0000-0000-0000-000000000000</UUID></TiffData>"
        for t in range(4)
    )
    for n in range(2):
        xml = (
            '<?xml version="1.0" encoding="UTF-8"?><OME '
            'xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:0000000{n}-0000-0000-0000-000000000000"><Image ID="Image:0"><Pixels '
            f'ID="Pixels:0" DimensionOrder="XYTZC" Type="uint16" SizeX="{LX}" SizeY="{LY}" '
            f'SizeC="1" SizeZ="1" SizeT="4">{planes}</Pixels></Image></OME>'
        )
        tifffile.imwrite(
            tmp_path / f"{n}.ome.tif", frames[2 * n : 2 * n + 2], description=xml, metadata=None
        )
    np.testing.assert_array_equal(opened(tmp_path / "0.ome.tif", chunks=1), frames)
    np.testing.assert_array_equal(opened(tmp_path / "*.ome.tif"), frames)
    (tmp_path / "1.ome.tif").unlink()
    with pytest.warns(UserWarning, match=r"4 frames, of which 2 are there: the first 2 of 4 times"):
        movie = open_movie(tmp_path / "0.ome.tif")
    np.testing.assert_array_equal(movie, frames[:2])


class TestScanImage:
    @pytest.mark.parametrize("header", [True, False])
    def test_channels(self, tmp_path, stack, header, reads):
        frames = stack.reshape(-1, C, LY, LX).astype("i2")
        write_scanimage(tmp_path / "s.tif", frames.reshape(-1, LY, LX), header=header)
        movie = opened(tmp_path / "s.tif", chunks=5)
        assert movie.dims == ("channel", "time", "y", "x") and movie.dtype == np.int16
        assert "fs" not in movie.attrs
        np.testing.assert_array_equal(movie, frames.swapaxes(0, 1))
        reads.clear()
        np.testing.assert_array_equal(movie.sel(channel=1), frames[:, 1])
        assert sorted(reads) == [("s.tif", n) for n in range(1, T * P * C, 2)]

    def test_one_channel(self, tmp_path, stack):
        frames = stack[:, 0, 0].astype("i2")
        write_scanimage(tmp_path / "s.tif", frames, hChannels__channelSave=1)
        assert opened(tmp_path / "s.tif").dims == ("time", "y", "x")
        # Slices that were set for another recording do not count.
        write_scanimage(
            tmp_path / "s.tif", frames, hChannels__channelSave=2, hStackManager__numSlices=11
        )
        np.testing.assert_array_equal(opened(tmp_path / "s.tif"), frames)

    @pytest.mark.parametrize("settings", [
        VOLUME,
        {"hFastZ__enable": "true", "hStackManager__numSlices": P,
         "hFastZ__numFramesPerVolume": P + 1, "hFastZ__numDiscardFlybackFrames": 1},
        {"hFastZ__enable": "true", "hStackManager__numSlices": P,
         "hFastZ__discardFlybackFrames": "true", "hFastZ__numDiscardFlybackFrames": 1},
    ])  # fmt: skip
    def test_volumes_with_flyback(self, tmp_path, settings, reads):
        frames = np.arange(T * (P + 1) * C * LY * LX, dtype="i2").reshape(T, P + 1, C, LY, LX)
        write_scanimage(tmp_path / "s.tif", frames.reshape(-1, LY, LX), **settings)
        movie = opened(tmp_path / "s.tif")
        np.testing.assert_array_equal(movie, expected(frames[:, :P]))
        flyback = {("s.tif", n) for t in range(T) for n in (t * 8 + 6, t * 8 + 7)}
        assert len(reads) == T * P * C and not flyback & set(reads)
        # It is there for those who ask for it.
        np.testing.assert_array_equal(opened(tmp_path / "s.tif", planes=P + 1), expected(frames))
        assert opened(tmp_path / "s.tif", planes=P).sizes["plane"] == P
        with pytest.raises(
            ValueError, match=r"planes=2 disagrees .* says that 3 planes and 1 of fly-back come"
        ):
            open_movie(tmp_path / "s.tif", planes=2)
        with pytest.raises(ValueError, match=r"channels=3 disagrees .* 2 channels come in turn"):
            open_movie(tmp_path / "s.tif", channels=3)

    def test_a_recording_that_stops_within_a_volume(self, tmp_path):
        frames = np.arange(T * (P + 1) * C * LY * LX, dtype="i2").reshape(T, P + 1, C, LY, LX)
        pages = frames.reshape(-1, LY, LX)[:-5]  # in the middle of the last volume's planes
        write_scanimage(tmp_path / "s.tif", pages, **VOLUME)
        with pytest.warns(UserWarning, match=r"its last 3 frames are left out, and 3 of each"):
            movie = open_movie(tmp_path / "s.tif")
        np.testing.assert_array_equal(movie, expected(frames[: T - 1, :P]))
        # Only the flyback is missing: nothing that anyone wants.
        write_scanimage(tmp_path / "s.tif", frames.reshape(-1, LY, LX)[:-2], **VOLUME)
        np.testing.assert_array_equal(opened(tmp_path / "s.tif"), expected(frames[:, :P]))

    @pytest.mark.parametrize("cuts", [(1,), (3, 7, 8), (5, 21, 22, 23)])
    def test_files_that_break_anywhere(self, tmp_path, cuts, reads):
        frames = np.arange(T * (P + 1) * C * LY * LX, dtype="i2").reshape(T, P + 1, C, LY, LX)
        pages = frames.reshape(-1, LY, LX)
        for n, part in enumerate(np.split(pages, cuts)):
            write_scanimage(tmp_path / f"rec_{n + 8:05d}.tif", part, **VOLUME)
        movie = opened(tmp_path / "rec_*.tif", chunks=3)
        np.testing.assert_array_equal(movie, expected(frames[:, :P]))
        assert len(reads) == len(set(reads)) == T * P * C

    def test_settings_that_are_no_movie(self, tmp_path, stack):
        pages = stack.reshape(-1, LY, LX).astype("i2")
        depths = {"hStackManager__enable": "true", "hStackManager__numSlices": 6}
        write_scanimage(tmp_path / "s.tif", pages, **depths, hStackManager__framesPerSlice=2)
        with pytest.raises(ValueError, match=r"2 frames at each of 6 depths.*planes=6, order="):
            open_movie(tmp_path / "s.tif")
        movie = opened(tmp_path / "s.tif", planes=6, channels=2, order="plane, time, channel")
        np.testing.assert_array_equal(
            movie, pages.reshape(6, 2, 2, LY, LX).transpose(2, 0, 1, 3, 4)
        )
        # Two frames, averaged to one as they were saved.
        write_scanimage(
            tmp_path / "s.tif", pages, **depths, hStackManager__framesPerSlice=2,
            hScan2D__logAverageFactor=2,
        )  # fmt: skip
        assert opened(tmp_path / "s.tif").sizes["plane"] == 6
        write_scanimage(tmp_path / "s.tif", pages, **depths, hStackManager__numFramesPerVolume=4)
        with pytest.raises(ValueError, match=r"contradict each other: 6 slices, 4 frames"):
            open_movie(tmp_path / "s.tif")
        for channels in ("''", "[]"):
            write_scanimage(tmp_path / "s.tif", pages, hChannels__channelSave=channels)
            with pytest.raises(ValueError, match=r"this version of ScanImage does not say"):
                open_movie(tmp_path / "s.tif")
        tifffile.imwrite(tmp_path / "old.tif", pages, description="state.config=1\r", metadata=None)
        with pytest.raises(ValueError, match=r"this version of ScanImage does not say"):
            open_movie(tmp_path / "old.tif")
        movie = opened(tmp_path / "old.tif", channels=C, planes=P, order="time plane channel")
        np.testing.assert_array_equal(movie, expected(stack))

    @pytest.mark.parametrize("link", ["circle", 2**33, 2**64 - 1, "tags"])
    def test_damaged_directories(self, tmp_path, stack, link):
        """Pages are counted by them alone: no shorter movie, and no puzzle for a message."""
        path = tmp_path / "s.tif"
        write_scanimage(path, stack.reshape(-1, LY, LX).astype("i2"))
        with tifffile.TiffFile(path) as tif:
            at = [page.offset for page in tif.pages]
        with open(path, "r+b") as file:
            file.seek(at[11] if link == "tags" else at[10] + 8 + 20 * 12)
            number = {"circle": at[3], "tags": 2**62}.get(link, link)
            file.write(struct.pack("<Q", number))
        with pytest.raises(
            ValueError, match=r"s\.tif: the file is damaged.*page 11 is not readable"
        ):
            open_movie(path)

    def test_the_rate_is_told_but_not_taken(self, tmp_path, stack, caplog):
        pages = stack.reshape(-1, LY, LX).astype("i2")
        rate = {"hRoiManager__scanFrameRate": 30.1, "hRoiManager__mroiEnable": "true"}
        write_scanimage(tmp_path / "s.tif", pages, **rate)
        with caplog.at_level(logging.INFO, "xs2p"):
            movie = opened(tmp_path / "s.tif")
        assert "scanFrameRate = 30.1 Hz, which fs= would take; frames are of sev" in caplog.text
        assert "fs" not in movie.attrs

    def test_periods_of_lines_and_planes(self, tmp_path):
        frames = np.arange(T * (P + 1) * C * LY * LX, dtype="i2").reshape(T, P + 1, C, LY, LX)
        pages = frames.reshape(-1, LY, LX)
        lines = {"hRoiManager__linePeriod": 6.25e-05, "hRoiManager__scanFrameRate": 40.0}

        def periods(**settings):
            write_scanimage(tmp_path / "s.tif", pages, **settings)
            attrs = opened(tmp_path / "s.tif").attrs
            return attrs.get("line_period"), attrs.get("plane_period")

        assert periods(**lines) == (6.25e-05, None)
        assert periods(**VOLUME, **lines) == (6.25e-05, 0.025)
        other = {"hRoiManager__scanFramePeriod": 0.05}
        assert periods(**VOLUME, **other) == (None, 0.05)
        averaged = {**VOLUME, "hStackManager__framesPerSlice": 2, "hScan2D__logAverageFactor": 2}
        assert periods(**averaged, **lines) == (6.25e-05, 0.05)
        assert periods(**VOLUME, **lines, hRoiManager__mroiEnable="true") == (None, None)
        assert periods(**VOLUME, hRoiManager__linePeriod="NaN") == (None, None)
        # Files of one recording that disagree say nothing.
        for n, period in enumerate((6.25e-05, 7e-05)):
            settings = {**lines, "hRoiManager__linePeriod": period}
            write_scanimage(tmp_path / f"rec_{n}.tif", pages, **VOLUME, **settings)
        movie = opened(tmp_path / "rec_*.tif")
        assert "line_period" not in movie.attrs and movie.attrs["plane_period"] == 0.025
        assert movie.isel(plane=1).attrs["plane_period"] == 0.025


@pytest.mark.parametrize("options", [
    {}, {"bigtiff": True}, {"byteorder": ">"}, {"bigtiff": True, "byteorder": ">"},
], ids=str)  # fmt: skip
def test_even_pages_are_read_as_they_lie(tmp_path, frames, options):
    """One directory a page, at equal distances: no tags are read again with each page."""
    path, dtypes = tmp_path / "m.tif", ("i2", "u1", "f4", "f8")
    options = dict(options)
    order = options.pop("byteorder", "<")
    for dtype in dtypes:
        with tifffile.TiffWriter(path, byteorder=order, **options) as tif:
            for frame in frames.astype(dtype):
                tif.write(frame, contiguous=False, metadata=None, description="same length")
        movie = opened(path, chunks=5)
        assert frames_of(movie).stride > frames[0].size * np.dtype(dtype).itemsize
        np.testing.assert_array_equal(movie, frames.astype(dtype))
        os.truncate(path, path.stat().st_size - 1)
        with pytest.raises((ValueError, OSError), match=r"m\.tif"):
            open_movie(path).compute()


@pytest.mark.parametrize("odd", ["compressed", "longer", "another", "strips", "dtype"])
def test_pages_that_are_not_even_are_left_to_tifffile(tmp_path, frames, odd):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path) as tif:
        for n, frame in enumerate(frames):
            options = {"description": "x" * 9, "metadata": None, "contiguous": False}
            if n == 11 and odd == "compressed":
                options["compression"] = "zlib"
            if n == 11 and odd == "longer":
                options["description"] = "x" * 99
            if n == 11 and odd == "another":
                frame = frame[:-1]
            if odd == "strips":
                options["rowsperstrip"] = 3
            if n == 11 and odd == "dtype":
                frame = frame.astype("u2")
            tif.write(frame, **options)
    told = {"compressed": "compression 8", "another": "height 6", "dtype": "sample format 1"}
    if odd in told:  # tifffile would read these as if they were like the others
        with pytest.raises(
            ValueError, match=rf"m\.tif: page 11 has the {told[odd]}, and the first"
        ):
            open_movie(path)
        return
    movie = opened(path, chunks=5)
    assert isinstance(frames_of(movie), lazy.TiffPages)
    np.testing.assert_array_equal(movie, frames)


def frames_of(movie):
    """The duck array in a movie of one file."""
    found = []

    def look(task):
        found.append(task) if isinstance(task, lazy.Frames) else None
        value = getattr(task, "value", None)
        for part in (value, *getattr(task, "args", ())):
            if part is not None:
                look(part)

    for task in movie.data.dask.values():
        look(task)
    return found[0]


def test_a_compression_that_needs_another_package(tmp_path, stack):
    """It is said at opening; here one that no package knows."""
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, stack[:, 0, 0], photometric="minisblack", compression="zlib")
    with tifffile.TiffFile(path) as tif:
        tags = [page.tags["Compression"].valueoffset for page in tif.pages]
    for code, error, message in (
        (5, ImportError, r"LZW.*; pip install imagecodecs"),
        (34665, ValueError, r"m\.tif: its pages cannot be decoded"),
    ):
        with open(path, "r+b") as file:
            for at in tags:
                file.seek(at)
                file.write(struct.pack("<H", code))
        if error is ImportError and importlib.util.find_spec("imagecodecs"):
            continue
        with pytest.raises(error, match=message):
            open_movie(path)


# What only the user knows


@pytest.mark.parametrize("kind", ["bin", "npy", "tif", "deflate", "h5"])
def test_plain_stacks(tmp_path, stack, kind):
    h5py = pytest.importorskip("h5py")
    frames = stack.reshape(-1, LY, LX)
    path = tmp_path / f"m.{'tif' if kind == 'deflate' else kind}"
    kwargs = {}
    if kind == "bin":
        frames.tofile(path)
        kwargs = {"shape": (LY, LX), "dtype": "u2"}
    elif kind == "npy":
        np.save(path, frames)
    elif kind == "h5":
        with h5py.File(path, "w") as file:
            file["m"] = frames
    else:
        compression = "zlib" if kind == "deflate" else None
        tifffile.imwrite(path, frames, photometric="minisblack", compression=compression)
    movie = opened(path, channels=C, planes=P, chunks=3, fs=2.0, **kwargs)
    assert movie.dims == ("channel", "plane", "time", "y", "x")
    np.testing.assert_array_equal(movie.time, np.arange(T) / 2)
    np.testing.assert_array_equal(movie, expected(stack))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(movie)), expected(stack))
    channels = opened(path, channels=C, **kwargs)
    np.testing.assert_array_equal(channels, stack.reshape(-1, C, LY, LX).swapaxes(0, 1))
    planes = opened(path, planes=P * C, channels=1, **kwargs)
    assert planes.dims == ("plane", "time", "y", "x")
    np.testing.assert_array_equal(planes[3], stack[:, 1, 1])
    assert opened(path, channels=1, planes=1, **kwargs).dims == ("time", "y", "x")


@pytest.mark.parametrize(
    "order", [o for n in (2, 3) for o in itertools.permutations(["time", "plane", "channel"], n)]
)
def test_orders(tmp_path, stack, order):
    if "time" not in order:
        pytest.skip("a movie has time")
    letters = {"time": 0, "plane": 1, "channel": 2}
    of_one = stack[:, : None if "plane" in order else 1, : None if "channel" in order else 1]
    absent = [n for dim, n in letters.items() if dim not in order]
    stored = of_one.transpose([letters[dim] for dim in order] + absent + [3, 4])
    np.save(tmp_path / "m.npy", stored.reshape(-1, LY, LX))
    counts = {f"{dim}s": n for dim, n in (("channel", C), ("plane", P)) if dim in order}
    movie = opened(tmp_path / "m.npy", order=order, **counts)
    np.testing.assert_array_equal(movie, expected(of_one).squeeze())


@pytest.mark.parametrize("cuts", [(12,), (1, 7, 20)])
@pytest.mark.parametrize("order", list(itertools.permutations(["time", "plane", "channel"])))
def test_orders_over_several_files(tmp_path, stack, order, cuts):
    """The order is one of the recording, wherever its files break."""
    letters = {"time": 0, "plane": 1, "channel": 2}
    stored = stack.transpose([letters[dim] for dim in order] + [3, 4]).reshape(-1, LY, LX)
    for n, part in enumerate(np.split(stored, cuts)):
        np.save(tmp_path / f"{n}.npy", part)
    movie = opened(tmp_path / "*.npy", order=order, channels=C, planes=P, chunks=3)
    assert movie.dims == ("channel", "plane", "time", "y", "x")
    np.testing.assert_array_equal(movie, expected(stack))
    if order[0] != "time":
        np.save(tmp_path / "9.npy", stored[:1])
        with pytest.raises(ValueError, match=r"0\.npy … .*9\.npy: 25 frames are not 2 chan"):
            open_movie(tmp_path / "*.npy", order=order, channels=C, planes=P)


@settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(data=st.data())
def test_any_cuts_chunks_and_counts(tmp_path, data):
    """Any files, any turns: as numpy takes them apart."""
    channels, planes = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    n = data.draw(st.integers(channels * planes, 40))
    cuts = sorted(data.draw(st.sets(st.integers(1, n - 1), max_size=6))) if n > 1 else []
    frames = np.arange(n * 2 * 3, dtype="<i2").reshape(n, 2, 3)
    names = []
    for i, part in enumerate(np.split(frames, cuts)):
        names.append(tmp_path / f"{i}.bin")
        part.tofile(names[-1])
    whole = n // (channels * planes)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        movie = open_movie(
            names, shape=(2, 3), channels=channels, planes=planes,
            chunks=data.draw(st.integers(1, 50)),
        )  # fmt: skip
    lost = n - whole * channels * planes
    told = "its last frame is left out" if lost == 1 else f"its last {lost} frames are left out"
    assert len(said) == bool(lost) and all(told in str(w.message) for w in said)
    turns = frames[: whole * channels * planes].reshape(whole, planes, channels, 2, 3)
    wanted = expected(turns)
    got = movie.values.reshape(wanted.shape)
    np.testing.assert_array_equal(got, wanted)
    key = (..., *(data.draw(st.slices(size)) for size in wanted.shape[-3:]))
    np.testing.assert_array_equal(movie[key].values, wanted.reshape(movie.shape)[key])


def test_counts_are_checked(tmp_path, stack):
    path = tmp_path / "m.npy"
    np.save(path, stack.reshape(-1, LY, LX))
    for bad in (0, -1, 2.0, "2", True):
        with pytest.raises(ValueError, match=f"planes={bad!r}: expected how many planes"):
            open_movie(path, planes=bad)
    for order in ("tpc", ("time",), ("time", "channel", "channel"), ("channel",)):
        with pytest.raises(ValueError, match=r"order=.*: expected channel, time, the slowest"):
            open_movie(path, channels=2, order=order)
    with pytest.raises(ValueError, match=r"24 frames are fewer than 5 channels times 6 planes"):
        open_movie(path, channels=5, planes=6)
    with pytest.raises(ValueError, match=r"24 frames are not 5 channels times a number of frames"):
        open_movie(path, channels=5, order=("channel", "time"))
    zarr.create_array(tmp_path / "m.zarr", shape=(4, 5, 6), dtype="i2")
    for other in (tmp_path / "m.zarr", np.zeros((4, 5, 6))):
        with pytest.raises(ValueError, match=r"channels=2 tells how frames come in turn in files"):
            open_movie(other, channels=2)


def test_extract_takes_it(tmp_path):
    """The dims are those that extract knows; a second channel is movie_chan2."""
    movie, rois = xs2p.sample_movie(None)[:60], xs2p.sample_rois()
    frames = np.stack([movie.values, movie.values + 5]).swapaxes(0, 1)
    path = tmp_path / "m.tif"
    tifffile.imwrite(path, frames, imagej=False, metadata={"axes": "TCYX"}, compression="zlib")
    both = opened(path, fs=7.0, chunks=20)
    ds = both.isel(channel=0).s2p.extract(rois, tau=1.0, movie_chan2=both.isel(channel=1))
    whole = movie.assign_attrs(fs=7.0).s2p.extract(rois, tau=1.0)
    np.testing.assert_array_equal(ds.F, whole.F)
    assert float((ds.F_chan2 - ds.F).mean()) > 1
    np.testing.assert_array_equal(both.s2p.extract(rois, tau=1.0).F[0], whole.F)
    in_turn = np.stack([movie.values, movie.values[::-1]], 1).reshape(-1, *movie.shape[1:])
    in_turn.astype("<i2").tofile(tmp_path / "p.bin")
    planes = opened(tmp_path / "p.bin", shape=movie.shape[1:], planes=2, fs=7.0, chunks=17)
    some = rois.assign_coords(plane=("roi", np.arange(rois.sizes["roi"]) % 2))
    some = xs2p.recompute_overlap(some)
    ds = planes.s2p.extract(some, tau=1.0)
    alone = planes[1].s2p.extract(some.isel(roi=some.plane.values == 1), tau=1.0)
    np.testing.assert_allclose(ds.spks[ds.plane.values == 1], alone.spks, rtol=1e-5)


# Several files


def files_of(tmp_path, frames, cuts, kind="tif"):
    for n, part in enumerate(np.split(frames, cuts)):
        path = tmp_path / f"rec_{n}.{'bin' if kind == 'bin' else 'tif'}"
        if kind == "bin":
            part.tofile(path)
        else:
            compression = "zlib" if n % 2 else None
            tifffile.imwrite(path, part, photometric="minisblack", compression=compression)


@pytest.mark.parametrize("kind", ["tif", "bin"])
def test_a_pattern_in_natural_order(tmp_path, frames, kind, reads):
    """Twelve files, evenly chunked; each frame is read once, and no task knows all the files."""
    cuts = [1, 2, 4, 7, 8, 9, 10, 15, 16, 20, 22]
    files_of(tmp_path, frames, cuts, kind)
    kwargs = {} if kind == "tif" else {"shape": frames.shape[1:]}
    movie = opened(tmp_path / "rec_*", chunks=10, **kwargs)
    assert movie.chunks[0] == (10, 10, 3) and movie.attrs["source"] == str(tmp_path / "rec_*")
    np.testing.assert_array_equal(movie, frames)
    assert len(reads) == len(set(reads)) == len(frames)
    named = [os.path.join(tmp_path, f"rec_{n}.{kind}") for n in range(12)]
    assert opened(named, chunks=10, **kwargs).data.name == movie.data.name
    again = opened(named[::-1], chunks=10, **kwargs)
    np.testing.assert_array_equal(again[:1], frames[22:])
    assert again.attrs["source"].endswith("(12 files)") and again.data.name != movie.data.name
    before = os.stat(named[7])
    os.utime(named[7], ns=(1, 1))
    assert opened(named, chunks=10, **kwargs).data.name != movie.data.name
    os.utime(named[7], ns=(before.st_atime_ns, before.st_mtime_ns))
    first = pickle.dumps(dask.optimize(movie.data[:10])[0].__dask_graph__())
    assert b"rec_6" in first and b"rec_11" not in first
    total = movie.astype("i8").sum().compute(scheduler="processes", num_workers=2)
    assert total == frames.astype("i8").sum()


def test_natural_order_of_odd_names(tmp_path, frames):
    """Digits that are no numbers, and numbers that are equal: the order is always the same."""
    names = ["a1²2", "a1²10", "b_01", "b_1", "b_001"]
    for n, name in enumerate(names):
        np.save(tmp_path / f"{name}.npy", frames[n : n + 1])
    np.testing.assert_array_equal(opened(tmp_path / "a*.npy"), frames[[0, 1]])
    np.testing.assert_array_equal(opened(tmp_path / "b*.npy"), frames[[4, 2, 3]])
    assert sorted(names[::-1], key=natural) == sorted(names, key=natural)


def test_small_files_make_large_chunks(tmp_path, frames, monkeypatch):
    files_of(tmp_path, frames, range(1, 23))
    monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 12 * frames[0].nbytes)
    assert opened(tmp_path / "rec_*.tif").chunks[0] == (12, 11)


def test_files_that_do_not_belong_together(tmp_path, frames):
    a, b = tmp_path / "a.tif", tmp_path / "b.tif"
    tifffile.imwrite(a, frames, photometric="minisblack")
    for other, what in (
        (frames[:, :-1], r"b\.tif has frames \(Ly, Lx\) = \(6, 9\), but .*a\.tif has \(7, 9\)"),
        (frames.astype("u2"), r"b\.tif has dtype uint16, but .*a\.tif has int16"),
    ):
        tifffile.imwrite(b, other, photometric="minisblack")
        with pytest.raises(ValueError, match=what):
            open_movie([a, b])
    tifffile.imwrite(b, frames[:22].reshape(11, 2, 7, 9), metadata={"axes": "TCYX"})
    with pytest.raises(ValueError, match=r"b\.tif has 2 channels, but .*a\.tif has one channel"):
        open_movie([a, b])
    np.save(tmp_path / "c.npy", frames)
    for paths, what in (
        ([a, tmp_path / "c.npy"], r"files of \.npy, \.tif, expected one recording"),
        ([a, a], "the same file is given twice"),
        ([a, tmp_path / "gone.tif"], "no file or folder .*gone"),
        ([], "an empty list of files"),
        (tmp_path / "x_*.tif", "no file matches"),
        ([a, tmp_path], "several files are opened as one recording where"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=what):
            open_movie(paths)
    with pytest.raises(ValueError, match=r"neither a Zarr store .* give a pattern"):
        open_movie(tmp_path)


def test_a_file_that_was_cut_since_is_named(tmp_path, frames):
    files_of(tmp_path, frames[:22], [8, 16], "bin")
    movie = opened(tmp_path / "rec_*.bin", shape=frames.shape[1:], chunks=10, channels=2)
    os.truncate(tmp_path / "rec_1.bin", 5 * frames[0].nbytes)
    with pytest.raises(
        OSError,
        match=r"rec_1\.bin: the chunk with frames 1 to 7, one in 2, cannot .*had 1008 bytes",
    ):
        movie[1].compute(scheduler="sync")
    (tmp_path / "rec_2.bin").unlink()
    with pytest.raises(OSError, match=r"rec_2\.bin: the chunk with frames 4 to 4 cannot"):
        movie[0, -2:].compute(scheduler="sync")


def test_the_log_says_what_was_chosen(tmp_path, frames, caplog):
    np.save(tmp_path / "m.npy", frames)
    with caplog.at_level(logging.INFO, "xs2p"):
        open_movie(tmp_path / "m.npy", chunks=10)
        open_movie(frames)
    assert "(time 23, y 7, x 9) int16; 3 chunks of 10 x 7 x 9 (0.0 MB), as asked" in caplog.text
    assert "in memory, not chunked" in caplog.text


def test_reading_and_extracting_are_one_task(tmp_path):
    """Also where each chunk is of several files; and a store of a run can be resumed."""
    movie, rois = xs2p.sample_movie(None)[:90], xs2p.sample_rois().isel(roi=range(9))
    rois = xs2p.recompute_overlap(rois)
    for n, part in enumerate(np.split(movie.values, [40, 41])):
        tifffile.imwrite(tmp_path / f"{n}.tif", part, compression="zlib", photometric="minisblack")
    several = opened(tmp_path / "*.tif", chunks=30, fs=7.0)
    masks = xs2p.build_masks(rois)
    traces = xs2p.extract_traces(several, masks)
    tasks = [str(key) for key in dask.optimize(traces.F.data)[0].__dask_graph__()]
    assert sum("xs2p-extract" in key for key in tasks) == 3
    assert not [key for key in tasks if "movie-" in key]
    stored = xs2p.extract_to_zarr(several, rois, tmp_path / "out.zarr", progress=False)
    np.testing.assert_array_equal(stored.F, xs2p.extract_traces(movie, masks).F)
    again = opened([tmp_path / f"{n}.tif" for n in range(3)], chunks=30, fs=7.0)
    xs2p.extract_to_zarr(again, rois, tmp_path / "out.zarr", progress=False, resume=True)
    other = opened(tmp_path / "*.tif", chunks=30, fs=7.0, channels=2, order=("time", "channel"))
    with pytest.raises(ValueError, match=r"cannot be resumed: it was made with other movie"):
        xs2p.extract_to_zarr(other[1], rois, tmp_path / "out.zarr", progress=False, resume=True)
