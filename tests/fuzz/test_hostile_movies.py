"""Movies that were made to harm: an error that names the file, before anything is believed."""

from __future__ import annotations

import io
import json
import logging
import re
import shutil
import struct
import tracemalloc
import zipfile
from dataclasses import dataclass

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
import zarr
from scipy.io import savemat

from fuzz.movies import FRAMES, LX, LY, MOVIES, T
from xs2p.disk.mat import load_mat
from xs2p.disk.npy import load_npy
from xs2p.disk.reads import TooLargeError, named_read, naming
from xs2p.io import open_movie
from xs2p.movie.compound import check_chains
from xs2p.movie.frames import Frames, Stamp

RAISED = [
    KeyError("x"),
    IndexError(),
    TypeError("x"),
    EOFError(),
    OverflowError(),
    RecursionError(),
]
RAISED += [
    RuntimeError("x"),
    MemoryError(),
    AttributeError("x"),
    UnicodeDecodeError("u", b"", 0, 1, ""),
]


@dataclass(frozen=True)
class Raising(Frames):
    """A new reader, of somebody who thought of no error."""

    error: object = None

    def read(self, start, stop):
        raise self.error


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_whatever_a_library_raises_names_the_file(tmp_path, error):
    path = tmp_path / "m.new"
    path.touch()
    frames = Raising(Stamp.of(path), (T, LY, LX), "<u2", error)
    with pytest.raises(OSError, match="m.new: the chunk with frames 2 to 3") as caught:
        frames[2:4]
    assert caught.value.__cause__ is error
    with pytest.raises((ValueError, OSError), match="m.new") as caught:
        with naming(str(path)):
            raise error
    assert caught.value.__cause__ is error and not isinstance(caught.value, UnicodeError)
    assert isinstance(caught.value, TooLargeError) == isinstance(error, MemoryError)


def test_the_guard_lets_through_what_is_no_error_of_the_file():
    for guard in (naming("a"), named_read("a", 0, 1)):
        with pytest.raises(KeyboardInterrupt), guard:
            raise KeyboardInterrupt
    with pytest.raises(
        OSError, match="^a: the chunk with frames 0 to 0 cannot be read .OSError: x.$"
    ):
        with named_read("b", 4, 9), named_read("a", 0, 1):
            raise OSError("x")


@pytest.mark.parametrize("what", ["offset", "count", "header"])
@pytest.mark.parametrize("kind", ["tiff_pages", "tiff_deflate", "tiff_strips"])
def test_pixels_that_are_nowhere(tmp_path, kind, what):
    path = tmp_path / MOVIES[kind](tmp_path).path
    with tifffile.TiffFile(path) as tif:
        tag = tif.pages[3].tags["StripByteCounts" if what == "count" else "StripOffsets"]
        size = 2 if tag.dtype == 3 else 4
        at = tag.valueoffset + size * (tag.count - 1)
    data = bytearray(path.read_bytes())
    data[at : at + size] = int(what == "header").to_bytes(size, "little")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.tif: the file is damaged.*page 3 is not readable"):
        open_movie(path)


@pytest.mark.parametrize("kind", ["tiff_imagej", "tiff"])
def test_cut_stacks_where_nothing_is_logged(tmp_path, kind, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tifffile"), "disabled", True)
    path = tmp_path / MOVIES[kind](tmp_path).path
    path.write_bytes(path.read_bytes()[:800])  # within the frames, before most headers
    with pytest.raises(ValueError, match=r"m\.tif: .*cut"):
        open_movie(path)


def virtual(path, source, key="mov"):
    with h5py.File(path, "a") as file:
        layout = h5py.VirtualLayout((T, LY, LX), "u2")
        layout[:] = h5py.VirtualSource(source, key, (T, LY, LX))
        file.create_virtual_dataset(key, layout)


def test_virtual_datasets_that_go_in_a_circle(tmp_path):
    virtual(tmp_path / "a.h5", "b.h5")
    virtual(tmp_path / "b.h5", "a.h5")
    with pytest.raises(ValueError, match="a.h5/mov is a virtual dataset of which it is a part"):
        open_movie(tmp_path / "a.h5")
    for n in range(20):
        virtual(tmp_path / f"{n}.h5", f"{n + 1}.h5")
    with h5py.File(tmp_path / "20.h5", "w") as file:
        file["mov"] = FRAMES
    np.testing.assert_array_equal(open_movie(tmp_path / "8.h5"), FRAMES)
    with pytest.raises(ValueError, match="0.h5.*more than 16 deep"):
        open_movie(tmp_path / "0.h5")
    path = tmp_path / MOVIES["nwb"](tmp_path).path
    with h5py.File(path, "a") as file:
        key = "acquisition/TwoPhotonSeries/timestamps"
        layout = h5py.VirtualLayout((T,), "f8")
        layout[:] = h5py.VirtualSource(".", key, (T,))
        file.create_virtual_dataset(key, layout)
    with pytest.raises(ValueError, match=r"m\.nwb/.*timestamps is a virtual dataset of which"):
        open_movie(path)


@pytest.mark.parametrize("kind", ["virtual", "external", "link"])
def test_frames_in_another_folder_only_where_asked(tmp_path, kind, monkeypatch):
    inner, outer = tmp_path / "mine", tmp_path / "theirs"
    inner.mkdir(), outer.mkdir()
    with h5py.File(outer / "s.h5", "w") as file:
        file["mov"] = FRAMES
    FRAMES.tofile(outer / "s.raw")
    if kind == "virtual":
        virtual(inner / "m.h5", str(outer / "s.h5"))
    with h5py.File(inner / "m.h5", "a") as file:
        if kind == "external":
            told = [(str(outer / "s.raw"), 0, FRAMES.nbytes)]
            file.create_dataset("mov", FRAMES.shape, "u2", external=told)
        elif kind == "link":
            file["mov"] = h5py.ExternalLink(str(outer / "s.h5"), "mov")
    with pytest.raises(ValueError, match=r"m\.h5/mov.*theirs.*outside.*HDF5_\w+_PREFIX"):
        open_movie(inner / "m.h5", variable="mov")
    names = {"virtual": "HDF5_VDS_PREFIX", "external": "HDF5_EXTFILE_PREFIX"}
    monkeypatch.setenv(names.get(kind, "HDF5_EXT_PREFIX"), str(outer))
    np.testing.assert_array_equal(open_movie(inner / "m.h5", variable="mov"), FRAMES)


def test_chunks_of_hdf5_that_were_never_written(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("mov", FRAMES.shape, "u2", chunks=(2, LY, LX))[:4] = FRAMES[:4]
    with pytest.warns(UserWarning, match=r"m\.h5/mov: 1 of its 3 chunks were never written"):
        open_movie(tmp_path / "m.h5")


def peak(call):
    tracemalloc.start()
    try:
        with pytest.raises((ValueError, OSError)) as caught:
            call()
        return tracemalloc.get_traced_memory()[1] / 2**20, str(caught.value)
    finally:
        tracemalloc.stop()


def test_claims_are_held_against_what_is_there(tmp_path):
    with h5py.File(tmp_path / "m.h5", "w") as file:
        file.create_dataset("mov", (10**9, 1, 1), "u1", chunks=(10**5, 1, 1))
    bomb = tmp_path / "m.zarr.zip"
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("zarr.json", b"[" + b"0," * 2**26 + b"0]")
    long = tmp_path / "m.zarr"
    zarr.create_array(long, shape=(10**10, 2, 2), chunks=(10**9, 2, 2), dtype="u1")
    for path in (tmp_path / "m.h5", bomb, long):
        used, text = peak(lambda path=path: open_movie(path, fs=10))
        assert used < 64 and str(path) in text and "damaged" in text
    head = io.BytesIO()
    about = {"descr": "|O", "fortran_order": False, "shape": ()}
    np.lib.format.write_array_header_1_0(head, about)
    ops = tmp_path / "ops.npy"
    ops.write_bytes(head.getvalue() + b"\x80\x02}r" + struct.pack("<I", 10**8) + b".")
    used, text = peak(lambda: load_npy(ops))
    assert used < 64 and str(ops) in text and "claims 100000000 entries" in text


def test_shapes_of_npy_that_are_none(tmp_path):
    np.save(tmp_path / "m.npy", FRAMES)
    data = (tmp_path / "m.npy").read_bytes()
    (tmp_path / "m.npy").write_bytes(data.replace(b"(6, 8, 10)", b"(-6,-8,10)"))
    with pytest.raises(ValueError, match=r"m\.npy: .*shape \(-6, -8, 10\)"):
        open_movie(tmp_path / "m.npy")


def test_arrays_of_mat_that_claim_more_than_they_have(tmp_path):
    path = tmp_path / "m.mat"
    savemat(path, {"info": {"sz": [LY, LX], "more": {"name": "x"}}})
    assert load_mat(str(path))["info"]["more"]["name"] == "x"
    data = path.read_bytes()
    at = data.index(struct.pack("<IIii", 5, 8, 1, 1))
    path.write_bytes(data[: at + 8] + struct.pack("<ii", 2**20, 2**10) + data[at + 16 :])
    with pytest.raises(ValueError, match=r"m\.mat: .*shape \(1048576, 1024\)"):
        load_mat(str(path))


def test_sectors_in_a_circle(tmp_path):
    path = tmp_path / MOVIES["oib"](tmp_path).path
    check_chains(str(path))
    data = bytearray(path.read_bytes())
    (table,) = struct.unpack_from("<I", data, 76)
    struct.pack_into("<I", data, (table + 1) * 512 + 4, 0)
    struct.pack_into("<I", data, (table + 1) * 512, 1)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.oib: its sectors follow each other in a circle"):
        open_movie(path)


@pytest.mark.parametrize("version", [2, 3])
def test_units_of_the_movie_are_no_dates(tmp_path, version):
    path = tmp_path / "m.zarr"
    days = np.arange("2020-01-01", "2020-01-07", dtype="M8[D]").astype("M8[ns]")
    movie = xr.DataArray(FRAMES, {"time": days}, ("time", "y", "x"), name="movie")
    movie.to_dataset().to_zarr(path, consolidated=False, zarr_format=version)
    zarr.open(path / "movie", mode="a").attrs["units"] = "days since 2000-01-01"
    found = open_movie(path)
    np.testing.assert_array_equal(found, FRAMES)
    assert found.dtype == np.uint16 and found.time.dtype.kind == "M"
    assert found.attrs["units"] == "days since 2000-01-01"


def test_chunks_of_zarr_that_are_lost(tmp_path):
    path = tmp_path / "m.zarr"
    stored = zarr.create_array(
        path, shape=FRAMES.shape, chunks=(2, LY, LX), dtype="u2", zarr_format=2, fill_value=None
    )
    stored[:] = FRAMES
    about = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(about | {"fill_value": None}))
    np.testing.assert_array_equal(open_movie(path), FRAMES)
    (path / "1.0.0").unlink()
    with pytest.raises(
        OSError, match=r"m\.zarr: the chunk with frames .*chunk 1\.0\.0 is not there"
    ):
        open_movie(path).compute()
    shutil.rmtree(path)
    path = tmp_path / MOVIES["zarr_zip"](tmp_path).path
    data = bytearray(path.read_bytes())
    last = data.rindex(b"PK\1\2")
    end = data.rindex(b"PK\5\6")
    number, size = struct.unpack_from("<H", data, end + 10)[0], end - last
    (whole,) = struct.unpack_from("<I", data, end + 12)
    tail = bytearray(data[end:])
    struct.pack_into("<HHI", tail, 8, number - 1, number - 1, whole - size)
    path.write_bytes(data[:last] + tail)
    with pytest.raises(ValueError, match=r"m\.zarr\.zip.*bytes of it are of no entry"):
        open_movie(path)


@pytest.mark.parametrize("kind", ["zarr2", "zarr3", "ome_zarr3"])
def test_chunks_of_zarr_that_have_a_fill_value_and_are_lost(tmp_path, kind):
    path = tmp_path / MOVIES[kind](tmp_path).path
    np.testing.assert_array_equal(open_movie(path), FRAMES)
    lost = [p for p in path.rglob("*") if p.is_file() and re.search(r"\b1[./]0[./]0", str(p))]
    lost[0].unlink()
    with pytest.warns(UserWarning, match=r"1 of its 3 chunks are not there.* frames 2 to 3: "):
        movie = open_movie(path)
    np.testing.assert_array_equal(movie[:2], FRAMES[:2])
    assert not movie[2:4].any()


def test_a_video_that_was_cut(tmp_path):
    pytest.importorskip("av")
    path = tmp_path / MOVIES["mkv"](tmp_path).path
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(ValueError, match=r"m\.mkv: it says that it has \d+ bytes"):
        open_movie(path)


def test_heaps_and_settings_that_claim_what_nobody_has(tmp_path):
    path = tmp_path / MOVIES["nwb"](tmp_path).path
    data = bytearray(path.read_bytes())
    first = data.index(b"GCOL") + 16  # an entry of no size, which HDF5 never gets past
    data[first : first + 16] = bytes(16)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.nwb: the HDF5 file is damaged: the heap of texts at"):
        open_movie(path)
    path = tmp_path / MOVIES["lif"](tmp_path).path
    data = bytearray(path.read_bytes())
    data[9:13] = b"\xff\xff\xff\x7f"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.lif: it tells of 2147483647 letters of XML"):
        open_movie(path)
    path = tmp_path / MOVIES["nd2"](tmp_path).path
    data = bytearray(path.read_bytes())
    at = data.index(b"ImageMetadata!") - 8
    data[at : at + 8] = struct.pack("<Q", 2**60)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.nd2: its map has settings of 1152921504606846976 by"):
        open_movie(path)


def test_complex_arrays_of_mat_without_their_other_part(tmp_path):
    path = tmp_path / "m.mat"
    savemat(path, {"info": {"sz": [LY, LX]}})
    data = bytearray(path.read_bytes())
    inner = data.index(struct.pack("<II", 6, 8), data.index(struct.pack("<II", 6, 8)) + 8)
    data[inner + 9] = 0x08
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.mat: .*has no imaginary part"):
        load_mat(str(path))


def test_a_chunk_of_another_name_in_a_zip(tmp_path):
    path = tmp_path / MOVIES["zarr_zip"](tmp_path).path
    data = bytearray(path.read_bytes())
    at = data.rindex(b"c/1/0/0")
    data[at : at + 7] = b"c/7/0/0"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.zarr\.zip: it has 'c/7/0/0', which is no chunk"):
        open_movie(path)


def test_a_chunk_of_hdf5_without_bytes(tmp_path):
    path = tmp_path / MOVIES["hdf5_chunks"](tmp_path).path
    with h5py.File(path) as file:
        chunk = file["mov"].id.get_chunk_info(1)
    data = bytearray(path.read_bytes())
    key = struct.pack("<IIQQQQ", chunk.size, 0, 2, 0, 0, 0)  # as the tree of chunks has it
    at = data.index(key)
    data[at : at + 4] = bytes(4)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"m\.h5/mov: its chunk at \(2, 0, 0\) has 0 bytes"):
        open_movie(path)


def test_a_chunk_of_hdf5_that_its_index_does_not_lead_to(tmp_path):
    """The file tells of it, and HDF5 reads zeros in its place."""
    path = tmp_path / "movie.h5"
    frames = np.random.default_rng(0).integers(1, 500, (6, 8, 10)).astype(np.uint16)
    frames[:2] = 0  # as they are: no damage
    with h5py.File(path, "w") as file:
        file.create_dataset("mov", data=frames, chunks=(2, 8, 10), compression="gzip")
        address = file["mov"].id.get_chunk_info(2).byte_offset.to_bytes(8, "little")
    data = bytearray(path.read_bytes())
    # Behind the address of the last chunk is the last key: size, mask, and where chunks end.
    at = data.find(address) + 16
    np.testing.assert_array_equal(open_movie(path), frames)
    data[at : at + 32] = bytes(32)
    path.write_bytes(data)
    with h5py.File(path) as file:
        assert not file["mov"][4:].any() and file["mov"].id.get_num_chunks() == 3
    with pytest.raises(OSError, match=r"movie.h5.*chunk at \(4, 0, 0\).*does not lead there"):
        open_movie(path).compute()
