"""TIFF files of Micro-Manager, and files that are damaged or whose metadata are wrong."""

from __future__ import annotations

import json
import logging
import os
import struct
import threading

import numpy as np
import pytest
import tifffile
from loaders import opened

from xs2p.io import open_movie
from xs2p.movie import tiff_file
from xs2p.movie.tiff_pages import offsets, survey

LY, LX = 6, 8
PIXELS = LY * LX * 2
SIZE = 162 + PIXELS + 4 + 16


@pytest.fixture
def images():
    return np.random.default_rng(0).integers(1, 1000, (20, LY, LX)).astype("u2")


def write_mmstack(path, images, at, n_times, n_channels=1, **summary):
    """A file of Micro-Manager's: an index of (channel, slice, frame, position), then the pages."""
    text = json.dumps(
        {"MicroManagerVersion": "2.0", "Frames": n_times, "Channels": n_channels, "Slices": 1,
         "Positions": 1, "Prefix": path.name.partition("_MMStack")[0], **summary}
    ).encode()  # fmt: skip
    text += b" " * (len(text) % 2)
    first = 40 + len(text) + 8 + 20 * len(images)
    offsets = [first + n * SIZE for n in range(len(images))]
    with open(path, "wb") as file:
        file.write(b"II*\0" + struct.pack("<III", first, 54773648, 40 + len(text)))
        file.write(struct.pack("<IIIIII", 483765892, 0, 99384722, 0, 2355492, len(text)) + text)
        file.write(struct.pack("<II", 3453623, len(images)))
        for place, offset in zip(at, offsets, strict=True):
            file.write(struct.pack("<5I", *place, offset))
        write_directories(file, images, offsets)
    with tifffile.TiffFile(path) as tif:
        assert tif.is_mmstack and len(tif.pages) == len(images)
        assert tif.series[0].kind == "mmstack"


def write_directories(file, images, offsets):
    """Pages one after the other, each of ``SIZE`` bytes."""
    for n, (image, offset) in enumerate(zip(images, offsets, strict=True)):
        data, meta = offset + 162, offset + 162 + PIXELS
        tags = [
            (256, 3, 1, LX), (257, 3, 1, LY), (258, 3, 1, 16), (259, 3, 1, 1), (262, 3, 1, 1),
            (273, 4, 1, data), (277, 3, 1, 1), (278, 3, 1, LY), (279, 4, 1, PIXELS),
            (282, 5, 1, meta + 4), (283, 5, 1, meta + 12), (296, 3, 1, 3), (51123, 2, 4, meta),
        ]  # fmt: skip
        file.write(struct.pack("<H", 13) + b"".join(struct.pack("<HHII", *t) for t in tags))
        file.write(struct.pack("<I", offset + SIZE if n < len(images) - 1 else 0))
        file.write(image.tobytes() + b"{}\0\0" + struct.pack("<IIII", 1, 1, 1, 1))


def write_ndtiff(folder, files):
    """A folder of NDTiff: files of ``(images, axes of each)``, and an index of where they lie."""
    index = b""
    for n, (images, axes) in enumerate(files):
        name = f"d_NDTiffStack{f'_{n}' if n else ''}.tif".encode()
        with open(folder / name.decode(), "wb") as file:
            file.write(b"II*\0" + struct.pack("<7I", 40, 483729, 3, 0, 2355492, 2, 0)[:24])
            file.write(b"{}".ljust(12))
            offsets = [40 + i * SIZE for i in range(len(images))]
            write_directories(file, images, offsets)
        for at, offset in zip(axes, offsets, strict=True):
            told = json.dumps(at).encode()
            index += struct.pack("<I", len(told)) + told + struct.pack("<I", len(name)) + name
            index += struct.pack("<8I", offset + 162, LX, LY, 1, 0, 0, 0, 0)
    (folder / "NDTiff.index").write_bytes(index)
    with tifffile.TiffFile(folder / "d_NDTiffStack.tif") as tif:
        assert tif.series[0].kind == "ndtiff"


def over_time(start, stop):
    return [(0, 0, t, 0) for t in range(start, stop)]


class TestMicroManager:
    def test_one_file(self, tmp_path, images):
        write_mmstack(tmp_path / "a_MMStack_Pos0.tif", images, over_time(0, 20), 20)
        np.testing.assert_array_equal(opened(tmp_path / "a_MMStack_Pos0.tif", chunks=6), images)

    def test_channels(self, tmp_path, images):
        at = [(n % 2, 0, n // 2, 0) for n in range(20)]
        write_mmstack(tmp_path / "a_MMStack_Pos0.tif", images, at, 10, 2)
        movie = opened(tmp_path / "a_MMStack_Pos0.tif", chunks=3)
        np.testing.assert_array_equal(movie, images.reshape(10, 2, LY, LX).swapaxes(0, 1))

    def test_pages_in_another_order_than_the_index_tells(self, tmp_path, images):
        order = np.random.default_rng(1).permutation(20)
        at = [(0, 0, int(t), 0) for t in order]
        write_mmstack(tmp_path / "a_MMStack_Pos0.tif", images[order], at, 20)
        np.testing.assert_array_equal(opened(tmp_path / "a_MMStack_Pos0.tif", chunks=6), images)

    def test_two_files(self, tmp_path, images):
        """Each brings the other along: together they are read once."""
        names = [tmp_path / "a_MMStack_Pos0.tif", tmp_path / "a_MMStack_Pos0_1.tif"]
        for name, part in zip(names, (slice(0, 12), slice(12, 20)), strict=True):
            write_mmstack(name, images[part], over_time(part.start, part.stop), 20)
        movie = opened(names[0], chunks=5)
        np.testing.assert_array_equal(movie, images)
        np.testing.assert_array_equal(opened(names[1]), images)
        for several in (names, tmp_path / "*.tif"):
            np.testing.assert_array_equal(opened(several), images)
        pages = opened(names, order=("time",))
        np.testing.assert_array_equal(pages, images)
        # The second file is one of the movie's too.
        before = names[1].stat()
        write_mmstack(names[1], images[12:] * 0, over_time(12, 20), 20)
        os.utime(names[1], ns=(before.st_atime_ns, before.st_mtime_ns + 1))
        again = opened(names[0], chunks=5)
        assert again.data.name != movie.data.name
        assert int(again[12:].max()) == 0
        with pytest.raises(OSError, match=r"Pos0_1\.tif was written anew since it was opened"):
            movie[14:].compute(scheduler="sync")
        with pytest.warns(UserWarning, match="was to take 20 frames, and 12 are here"):
            names[1].unlink()
            movie = open_movie(names[0])
        np.testing.assert_array_equal(movie, images[:12])

    def test_a_recording_that_was_stopped_within_a_turn(self, tmp_path, images):
        """tifffile reads zeros for the frame that is not there."""
        path = tmp_path / "a_MMStack_Pos0.tif"
        at = [(n % 2, 0, n // 2, 0) for n in range(19)]
        write_mmstack(path, images[:19], at, 10, 2)
        with pytest.warns(UserWarning, match=r"20 frames, of which 19 are there.*1 more are left"):
            movie = open_movie(path)
        np.testing.assert_array_equal(movie, images[:18].reshape(9, 2, LY, LX).swapaxes(0, 1))
        with pytest.warns(UserWarning) as said:
            movie = open_movie(path, channels=2, order=("time", "plane", "channel"))
        told = [str(w.message) for w in said]
        assert "20 frames, and 19 are here" in told[0] and "its last frame is left out" in told[1]
        np.testing.assert_array_equal(movie, images[:18].reshape(9, 2, LY, LX).swapaxes(0, 1))

    @pytest.mark.parametrize("quiet", [False, True])
    def test_a_cut_file(self, tmp_path, images, quiet):
        """The index tells of pages beyond the end: zeros again."""
        path = tmp_path / "a_MMStack_Pos0.tif"
        write_mmstack(path, images, over_time(0, 20), 20)
        os.truncate(path, int(path.stat().st_size * 0.7))
        logging.disable(logging.CRITICAL if quiet else logging.NOTSET)
        try:
            with pytest.raises(ValueError, match=r"Pos0\.tif.*cut"):
                open_movie(path)
        finally:
            logging.disable(logging.NOTSET)


class TestNDTiff:
    def test_several_files(self, tmp_path, images):
        """Channels in turn, in two files, the second of which is written out of order."""
        axes = [{"time": n // 2, "channel": n % 2} for n in range(20)]
        order = [*range(12), *range(19, 11, -1)]
        images_there = [images[n] for n in order]
        axes_there = [axes[n] for n in order]
        files = [(images_there[:12], axes_there[:12]), (images_there[12:], axes_there[12:])]
        write_ndtiff(tmp_path, files)
        path = tmp_path / "d_NDTiffStack.tif"
        movie = opened(path, chunks=4)
        np.testing.assert_array_equal(movie, images.reshape(10, 2, LY, LX).swapaxes(0, 1))
        assert opened(tmp_path / "*.tif", chunks=4).data.name == movie.data.name
        os.utime(tmp_path / "d_NDTiffStack_1.tif", ns=(1, 1))
        assert opened(path, chunks=4).data.name != movie.data.name
        write_ndtiff(tmp_path, [files[0], (files[1][0][1:], files[1][1][1:])])
        with pytest.warns(UserWarning, match=r"ndtiff .* 20 frames, of which 19 are there"):
            assert open_movie(path).shape == (2, 9, LY, LX)
        with pytest.warns(UserWarning, match="20 frames, and 19 are here"):
            written = open_movie(tmp_path / "*.tif", order=("time",))
        np.testing.assert_array_equal(written, images[[*order[:12], *order[13:]]])


# Counts that are wrong


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_metadata_that_tell_of_fewer_frames(tmp_path, images, kind, compression):
    path = tmp_path / "m.tif"
    tifffile.imwrite(
        path, images, photometric="minisblack", compression=compression,
        metadata={"axes": "TYX"}, **{kind: True},
    )  # fmt: skip
    np.testing.assert_array_equal(opened(path), images)
    data = path.read_bytes()
    for told in (b"images=20\n", b"frames=20\n", b'SizeT="20"'):
        data = data.replace(told, told.replace(b"20", b"10"))
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.tif: .*20 .*10 frames"):
        open_movie(path)


# Files that are damaged


def write_pages(path, images, **options):
    with tifffile.TiffWriter(path) as tif:
        for image in images:
            tif.write(image, contiguous=False, metadata=None, **options)


def silence(how, monkeypatch):
    if how == "level":
        monkeypatch.setattr(logging.getLogger("tifffile"), "level", logging.CRITICAL)
    else:
        monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)
    logging.getLogger("tifffile").manager._clear_cache()


@pytest.mark.parametrize("how", ["level", "disable"])
@pytest.mark.parametrize("kind", ["pages", "compressed", "ome"])
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_a_cut_file_is_refused_where_nothing_is_logged(
    tmp_path, images, kind, how, keep, monkeypatch
):
    path = tmp_path / "m.tif"
    if kind == "pages":
        write_pages(path, images)
    else:
        tifffile.imwrite(
            path, images, photometric="minisblack", compression="zlib", ome=kind == "ome"
        )
    os.truncate(path, int(path.stat().st_size * keep))
    silence(how, monkeypatch)
    try:
        with pytest.raises((ValueError, OSError), match=r"m\.tif"):
            open_movie(path)
    finally:
        monkeypatch.undo()
        logging.getLogger("tifffile").manager._clear_cache()


def test_threads_do_not_hear_each_other(tmp_path, images):
    good, cut = tmp_path / "good.tif", tmp_path / "cut.tif"
    for path in (good, cut):
        write_pages(path, images, compression="zlib")
    os.truncate(cut, int(cut.stat().st_size * 0.6))
    refused = []

    def open_often(path):
        for _ in range(30):
            try:
                open_movie(path)
            except ValueError:
                refused.append(path)

    threads = [threading.Thread(target=open_often, args=(path,)) for path in (good, cut) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert refused.count(cut) == 60 and good not in refused
    log = logging.getLogger("tifffile")
    assert log.propagate and not log.filters


def test_what_others_log_is_heard(caplog):
    """While headers are read, what tifffile says in other threads goes where it always does."""
    log = logging.getLogger("tifffile")
    with pytest.raises(ValueError, match="says 'mine'"), tiff_file.headers("m.tif"):
        log.error("mine")
        other = threading.Thread(target=log.error, args=("another's",))
        other.start()
        other.join()
    assert "another's" in caplog.text and "mine" not in caplog.text


def first_links(path, n):
    """Where the first ``n`` directories of a little-endian TIFF are, and their links."""
    with open(path, "rb") as file:
        file.seek(4)
        at, found = struct.unpack("<I", file.read(4))[0], []
        for _ in range(n):
            file.seek(at)
            link = at + 2 + 12 * struct.unpack("<H", file.read(2))[0]
            found.append((at, link))
            file.seek(link)
            at = struct.unpack("<I", file.read(4))[0]
    return found


def test_directories_in_a_circle(tmp_path, images):
    """As ScanImage's are counted by their directories alone, no shorter movie must come of it."""
    path = tmp_path / "m.tif"
    write_pages(path, images)
    found = first_links(path, 11)
    with open(path, "r+b") as file:
        file.seek(found[10][1])
        file.write(struct.pack("<I", found[3][0]))
    with tifffile.TiffFile(path) as tif:
        page = tif.pages.first
        with pytest.raises(ValueError, match=r"m\.tif: the file is damaged.*page 11 .*before it"):
            survey(str(path), page)


@pytest.mark.parametrize("number", [2**33, 2**40, 2**62, 2**64 - 1])
@pytest.mark.parametrize("where", ["link", "entries"])
def test_garbled_numbers_of_a_large_file(tmp_path, images, number, where):
    path = tmp_path / "m.tif"
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        tif.write(images, photometric="minisblack", metadata=None)
    assert len(offsets(str(path))) == 20
    data = bytearray(path.read_bytes())
    (first,) = struct.unpack_from("<Q", data, 8)
    struct.pack_into("<Q", data, 8 if where == "link" else first, number)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.tif: the file is damaged.*page 0 is not"):
        offsets(str(path))
    with pytest.raises(ValueError, match=r"m\.tif"):
        open_movie(path)
