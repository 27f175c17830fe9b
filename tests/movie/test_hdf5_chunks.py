"""Chunks of HDF5 that are unpacked here are what HDF5 makes of them; the others are left to it."""

import threading
import zlib

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes

import xs2p
from xs2p.movie import hdf5, hdf5_chunks
from xs2p.movie.hdf5_chunks import read_chunks

PACKED = {
    "gzip": {"compression": "gzip"},
    "shuffled gzip": {"compression": "gzip", "shuffle": True},
    "shuffled": {"shuffle": True},
    "plain": {},
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(hdf5_chunks, "LEAST", 1)


def numbers(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 200, shape).astype(dtype)


@settings(max_examples=12)
@given(data=st.data())
@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("dtype", ["<i2", ">u2", "u1", ">f4", "<f8", "<i4"])
def test_a_part_is_what_hdf5_reads(packed, dtype, data, tmp_path_factory):
    shape = data.draw(array_shapes(min_dims=3, max_dims=4, max_side=9))
    chunks = tuple(data.draw(st.integers(1, n)) for n in shape)
    key = []
    for n in shape:
        start = data.draw(st.integers(0, n))
        key.append(slice(start, data.draw(st.integers(start, n))))
    key = tuple(key)
    path = tmp_path_factory.mktemp("a") / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("mov", data=numbers(shape, dtype), chunks=chunks, **PACKED[packed])
    with h5py.File(path) as file:
        stored = file["mov"]
        expected, found = stored[key], read_chunks(stored, key)
    whole = key[1:] == tuple(slice(0, n) for n in shape[1:]) and chunks[1:] == shape[1:]
    assert (found is None) == (packed == "shuffled" or (packed == "plain" and not whole))
    if found is not None:
        np.testing.assert_array_equal(found, expected)
        assert found.dtype == expected.dtype


def made(path, shape=(30, 8, 9), dtype="<i2", **options):
    frames = numbers(shape, dtype)
    with h5py.File(path, "w", userblock_size=options.pop("userblock", 0)) as file:
        stored = file.create_dataset("mov", data=frames, **{"chunks": (7, 8, 9), **options})
        assert stored.shape == shape
    return frames


def chunk_by_chunk(path):
    with h5py.File(path) as file:
        return read_chunks(file["mov"], (slice(None),) * 3)


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": None},
        {"compression": "lzf"},
        {"fletcher32": True, "compression": "gzip"},
        {"scaleoffset": 0},
        {"userblock": 512},
        {"dtype": "?"},
    ],
    ids=str,
)
def test_what_is_not_known_here_hdf5_reads(options, tmp_path):
    frames = made(tmp_path / "a.h5", **options)
    assert chunk_by_chunk(tmp_path / "a.h5") is None
    with h5py.File(tmp_path / "a.h5") as file:
        np.testing.assert_array_equal(file["mov"][:], frames)


def test_the_block_of_a_user_moves_no_chunk(tmp_path):
    """MATLAB's files begin with one. HDF5's versions differ in what they count from."""
    frames = made(tmp_path / "a.h5", userblock=512, compression="gzip")
    found = chunk_by_chunk(tmp_path / "a.h5")
    assert found is None or np.array_equal(found, frames)
    movie = xs2p.open_movie(tmp_path / "a.h5", fs=10.0)
    np.testing.assert_array_equal(movie, frames)


def test_numbers_of_fewer_bits_are_hdf5s_to_read(tmp_path):
    frames = numbers((30, 8, 9), "<i2")
    kind = h5py.h5t.STD_I16LE.copy()
    kind.set_precision(12)
    kind.set_offset(2)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        properties.set_chunk((7, 8, 9))
        properties.set_deflate(4)
        space = h5py.h5s.create_simple(frames.shape)
        h5py.h5d.create(file.id, b"mov", kind, space, dcpl=properties)
        file["mov"][:] = frames
    assert chunk_by_chunk(tmp_path / "a.h5") is None
    np.testing.assert_array_equal(xs2p.open_movie(tmp_path / "a.h5", fs=10.0), frames)


def test_a_chunk_that_is_not_there_or_not_packed_is_hdf5s(tmp_path):
    path = tmp_path / "a.h5"
    frames = numbers((30, 8, 9), "<i2")
    with h5py.File(path, "w") as file:
        stored = file.create_dataset(
            "mov", frames.shape, "<i2", chunks=(7, 8, 9), compression="gzip", fillvalue=5
        )
        stored[:14] = frames[:14]
        stored.id.write_direct_chunk((21, 0, 0), frames[:7].tobytes(), filter_mask=1)
    with h5py.File(path) as file:
        stored = file["mov"]
        for key, known in (((0, 14), True), ((7, 20), False), ((21, 28), False)):
            part = (slice(*key), slice(None), slice(None))
            found = read_chunks(stored, part)
            assert (found is not None) == known
            if known:
                np.testing.assert_array_equal(found, frames[part])
    with pytest.warns(UserWarning, match="2 of its 5 chunks were never written"):
        movie = xs2p.open_movie(path, fs=10.0)
    np.testing.assert_array_equal(movie[21:28], frames[:7])
    assert (movie[14:21] == 5).all()


@pytest.mark.parametrize("change", ["byte", "cut", "short", "long"])
def test_a_damaged_chunk_is_an_error_and_no_pixels(change, tmp_path):
    path = tmp_path / "a.h5"
    made(path, compression="gzip")
    with h5py.File(path, "r+") as file:
        stored = file["mov"]
        info = stored.id.get_chunk_info_by_coord((7, 0, 0))
        if change in ("short", "long"):
            count = {"short": 100, "long": 5000}[change]
            stored.id.write_direct_chunk((7, 0, 0), zlib.compress(bytes(count)))
    if change in ("byte", "cut"):
        data = bytearray(path.read_bytes())
        data[info.byte_offset + info.size // 2] ^= 0xFF
        path.write_bytes(data if change == "byte" else data[: info.byte_offset + 9])
    if change == "cut":
        with pytest.raises((OSError, ValueError)):
            xs2p.open_movie(path, fs=10.0)
        return
    assert chunk_by_chunk(path) is None
    movie = xs2p.open_movie(path, fs=10.0)
    if change == "byte":
        with pytest.raises(OSError, match=r"a\.h5"):
            movie.values  # noqa: B018


def test_threads_unpack_at_once(tmp_path, monkeypatch):
    """Each of two threads waits in its chunk for the other: under HDF5's lock they never meet."""
    frames = made(tmp_path / "a.h5", compression="gzip")
    meeting = threading.Barrier(2, timeout=60)
    inflated = hdf5_chunks._inflated

    def meet(packed, size):
        meeting.wait()
        return inflated(packed, size)

    monkeypatch.setattr(hdf5_chunks, "_inflated", meet)
    movie = xs2p.open_movie(tmp_path / "a.h5", fs=10.0, chunks=7)[:28]
    found = movie.data.compute(scheduler="threads", num_workers=2)
    np.testing.assert_array_equal(found, frames[:28])


def test_movies_and_nwb_are_read_so(tmp_path, monkeypatch):
    frames = made(tmp_path / "a.h5", compression="gzip", shuffle=True)
    read = []

    def seen(stored, key):
        found = read_chunks(stored, key)
        read.append(found is not None)
        return found

    monkeypatch.setattr(hdf5, "read_chunks", seen)
    movie = xs2p.open_movie(tmp_path / "a.h5", fs=10.0)
    np.testing.assert_array_equal(movie, frames)
    np.testing.assert_array_equal(movie[3:9, 2:5, 1:4], frames[3:9, 2:5, 1:4])
    assert read and all(read)
