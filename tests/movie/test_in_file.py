"""Chunks that are still in their files: read some frames at a time, to the same traces."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.io import open_movie
from xs2p.movie.columns import ColumnFrames
from xs2p.movie.frames import RawFrames, Stamp
from xs2p.movie.in_file import InFile, in_file
from xs2p.movie.recording import Recording, Run
from xs2p.movie.thor import ChosenFrames
from xs2p.traces import sums_cpu

LY, LX = 12, 10


def frames_of(n, dtype="<i2", seed=0):
    return np.random.default_rng(seed).integers(0, 900, (n, LY, LX)).astype(dtype)


@pytest.fixture(scope="module")
def rois():
    y, x = np.mgrid[:LY, :LX]
    labels = np.where((y // 4 + x // 5) % 2 == 0, 1 + 3 * (y // 4) + x // 5, 0)
    return xs2p.rois_from_labels(labels)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    path = tmp_path_factory.mktemp("raw") / "data.bin"
    frames_of(300).tofile(path)
    return path


def recording(folder, dtype="<i2"):
    """Frames of three files, the last with a header and something between its frames."""
    parts = [frames_of(n, dtype, n) for n in (5, 40, 23)]
    runs = []
    for part, offset, gap in zip(parts, (0, 0, 7), (0, 0, 3), strict=True):
        path = folder / f"{len(part)}.bin"
        rest = bytes(gap)
        path.write_bytes(bytes(offset) + b"".join(frame.tobytes() + rest for frame in part))
        stride = part[0].nbytes + gap if gap else 0
        runs.append(Run.of(RawFrames(Stamp.of(path), part.shape, dtype, offset, stride)))
    return Recording(tuple(runs)), np.concatenate(parts)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_some_frames_at_a_time_are_the_frames(tmp_path_factory, data):
    whole, expected = recording(tmp_path_factory.mktemp("recording"))
    start = data.draw(st.integers(0, len(expected)))
    stop = data.draw(st.integers(start, len(expected)))
    nth = data.draw(st.integers(1, 4))
    source = whole.every(nth, 0) if nth > 1 else whole
    expected = expected[::nth]
    start, stop = min(start, len(expected)), min(stop, len(expected))
    chunk = InFile(source, start, stop)
    assert chunk.shape == (stop - start, LY, LX) and chunk.dtype == expected.dtype
    step = data.draw(st.integers(1, 30))
    spans = [slice(at, at + step) for at in range(0, stop - start, step)]
    seen = [(span, some.copy()) for span, some in chunk.some(spans)]
    assert [span for span, _ in seen] == spans
    for span, some in seen:
        np.testing.assert_array_equal(some, expected[start:stop][span])


def test_memory_is_used_again(raw):
    chunk = InFile(RawFrames(Stamp.of(raw), (300, LY, LX), "<i2"), 10, 200)
    spans = [slice(at, at + 32) for at in range(0, 190, 32)]
    places = {some.ctypes.data for _, some in chunk.some(spans)}
    assert len(places) == 1


@pytest.mark.parametrize("dtype", ["u1", "<i2", "<u4", "<i8", "<f2", "<f4", "<f8"])
@pytest.mark.parametrize("chunks", [None, 7, 64])
def test_traces_are_those_of_frames_in_memory(tmp_path, rois, monkeypatch, dtype, chunks):
    monkeypatch.setattr(sums_cpu, "_BATCH_BYTES", 32 * LY * LX)  # of 32 frames and fewer
    frames = frames_of(150, dtype)
    path = tmp_path / "movie.bin"
    frames.tofile(path)
    movie = open_movie(path, shape=(LY, LX), dtype=dtype, fs=10, chunks=chunks)
    assert in_file(movie.data) is not None
    read = []
    some = InFile.some
    monkeypatch.setattr(InFile, "some", lambda self, spans: read.append(self) or some(self, spans))
    traces = xs2p.extract_traces(movie, xs2p.build_masks(rois)).compute()
    assert len(read) == movie.data.numblocks[0]
    held = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": 10.0})
    expected = xs2p.extract_traces(held, xs2p.build_masks(rois))
    np.testing.assert_array_equal(traces.F, expected.F)
    np.testing.assert_array_equal(traces.Fneu, expected.Fneu)


def test_several_files_and_demixing(tmp_path, rois):
    paths, parts = [], []
    for n in (30, 50):
        paths.append(tmp_path / f"{n}.tif")
        parts.append(frames_of(n, seed=n))
        tifffile.imwrite(paths[-1], parts[-1], photometric="minisblack")
    movie = open_movie(paths, fs=10, chunks=20)
    assert in_file(movie.data) is not None
    held = xr.DataArray(np.concatenate(parts), dims=("time", "y", "x"), attrs={"fs": 10.0})
    for how in ({}, {"method": "demix"}):
        got, expected = (m.s2p.extract(rois, **how).compute() for m in (movie, held))
        np.testing.assert_allclose(got.F, expected.F, rtol=1e-6)
        np.testing.assert_allclose(got.Fneu, expected.Fneu, rtol=1e-6)


def test_a_chunk_is_never_in_memory_as_a_whole(tmp_path, rois, monkeypatch):
    monkeypatch.setattr(sums_cpu, "_BATCH_BYTES", 32 * 2 * LY * LX)
    path = tmp_path / "movie.bin"
    frames_of(20_000).tofile(path)  # 4.8 MB
    movie = open_movie(path, shape=(LY, LX), fs=10, chunks=20_000)
    masks = xs2p.build_masks(rois)
    xs2p.extract_traces(movie[:64], masks).compute()
    traces = xs2p.extract_traces(movie, masks)
    tracemalloc.start()
    traces.compute(scheduler="synchronous")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5e6, peak  # traces of 6 ROIs are 1 MB, and once more in their order


def test_what_is_not_known_to_lie_in_a_file_is_read_as_before(raw, tmp_path):
    movie = open_movie(raw, shape=(LY, LX), fs=10, chunks=50)
    assert in_file(movie[10:].data) is None and in_file((movie + 1).data) is None
    foreign = tmp_path / "foreign.bin"
    frames_of(20, ">i2").tofile(foreign)
    assert in_file(open_movie(foreign, shape=(LY, LX), dtype=">i2").data) is None
    packed = tmp_path / "packed.tif"
    tifffile.imwrite(packed, frames_of(20), photometric="minisblack", compression="zlib")
    assert in_file(open_movie(packed, fs=10).data) is None


def test_frames_in_memory_by_now_are_not_read_again(tmp_path, rois):
    path = tmp_path / "movie.bin"
    frames_of(20).tofile(path)
    movie = open_movie(path, shape=(LY, LX), fs=10).persist()
    expected = xs2p.extract_traces(movie.compute(), xs2p.build_masks(rois))
    path.unlink()
    got = xs2p.extract_traces(movie, xs2p.build_masks(rois)).compute()
    np.testing.assert_array_equal(got.F, expected.F)


def test_movies_that_share_chunks_read_them_once(raw, rois, monkeypatch):
    read, reads = [], RawFrames.read
    monkeypatch.setattr(
        RawFrames, "read", lambda self, *span: read.append(span) or reads(self, *span)
    )
    movie = open_movie(raw, shape=(LY, LX), fs=10, chunks=100)
    tree = xr.DataTree.from_dict(
        {name: xr.Dataset({"movie": movie}) for name in ("cells", "boutons")}
    )
    tree.s2p.extract(rois, movie="movie").load()
    assert sorted(read) == [(0, 100), (100, 200), (200, 300)]


def test_frames_that_are_turned_as_they_are_read_stay_so(raw):
    shape = (300, LY, LX)
    for kind in (ColumnFrames, ChosenFrames):
        assert not kind(Stamp.of(raw), shape, "<i2").reads_into
    assert RawFrames(Stamp.of(raw), shape, "<i2").reads_into


def test_a_file_that_changes_while_it_is_read_is_named(tmp_path, rois, monkeypatch):
    monkeypatch.setattr(sums_cpu, "_BATCH_BYTES", 32 * 2 * LY * LX)
    path = tmp_path / "movie.bin"
    frames_of(300).tofile(path)
    movie = open_movie(path, shape=(LY, LX), fs=10)
    traces = xs2p.extract_traces(movie, xs2p.build_masks(rois))
    calls, read_into = [], RawFrames.read_into

    def cut(self, start, *args):
        calls.append(start)
        if len(calls) == 3:
            os.truncate(path, 100 * LY * LX * 2)
        return read_into(self, start, *args)

    monkeypatch.setattr(RawFrames, "read_into", cut)
    with pytest.raises(OSError, match=r"movie\.bin.*frames 0 to 299.*cut, written on or replaced"):
        traces.compute(scheduler="synchronous")
    assert calls == [0, 32, 64]


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_anywhere(raw, rois, scheduler):
    movie = open_movie(raw, shape=(LY, LX), fs=10, chunks=64)
    got = xs2p.extract_traces(movie, xs2p.build_masks(rois)).compute(scheduler=scheduler)
    expected = xs2p.extract_traces(movie.compute(), xs2p.build_masks(rois))
    np.testing.assert_array_equal(got.F, expected.F)
