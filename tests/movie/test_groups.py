"""Chunks of one frame are read many to a task, and what comes out is the same."""

from __future__ import annotations

import collections
import threading

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.movie import groups
from xs2p.movie.groups import grouped

N, SIDE = 300, 24


@pytest.fixture(scope="module")
def frames():
    return np.random.default_rng(0).integers(0, 500, (N, SIDE, SIDE)).astype(np.int16)


def movie_of(data):
    return xr.DataArray(data, dims=("time", "y", "x"), attrs={"fs": 30.0})


def counting(frames, per_chunk=1):
    """A lazy movie of small chunks, and how often each was read."""
    reads, lock = collections.Counter(), threading.Lock()

    def read(at):
        with lock:
            reads[int(at[0, 0, 0])] += 1
        return frames[at[:, 0, 0]]

    starts = da.arange(len(frames), chunks=per_chunk)[:, None, None]
    sizes = (starts.chunks[0], (SIDE,), (SIDE,))
    data = da.map_blocks(read, starts, chunks=sizes, dtype=np.int16, meta=frames[:0])
    return movie_of(data), reads


def rois():
    labels = np.zeros((SIDE, SIDE), int)
    labels[3:8, 3:8], labels[6:12, 12:18], labels[15:20, 4:9] = 1, 2, 3
    return xs2p.rois_from_labels(labels)


OPTIONS = {"tau": 1.0, "min_neuropil_pixels": 40}


def same(a, b):
    for name in b.data_vars:
        np.testing.assert_array_equal(a[name].values, b[name].values, err_msg=name)


def test_traces_are_the_same_and_each_chunk_is_read_once(frames):
    movie, reads = counting(frames)
    lazy = xs2p.extract(movie, rois(), **OPTIONS)
    assert not reads
    same(lazy.compute(), xs2p.extract(movie_of(frames), rois(), **OPTIONS))
    assert set(reads) == set(range(N)) and set(reads.values()) == {1}


def test_tasks_are_as_many_as_groups(frames):
    movie, _ = counting(frames)
    few = xs2p.extract(movie, rois(), **OPTIONS)
    (few,) = dask.optimize(few)
    assert len(few.__dask_graph__()) < N / 4


@pytest.mark.filterwarnings("ignore:.*are dropped")
def test_the_first_pass_of_a_threshold_and_a_store_too(frames, tmp_path):
    movie, reads = counting(frames)
    options = {**OPTIONS, "snr_threshold": 1e-9}
    got = xs2p.extract_to_zarr(
        movie, rois(), tmp_path / "a.zarr", progress=False, frames_per_region=70, **options
    )
    same(got, xs2p.extract(movie_of(frames), rois(), **options))
    # A region ends where a group does. First, middle and last frame say which movie it is.
    assert collections.Counter(reads.values()) == {2: N - 3, 3: 3}


def test_groups_end_at_borders_of_chunks_that_are_wanted(frames):
    movie, _ = counting(frames)
    sizes = grouped(movie, (70, 70, 70, 70, 20)).chunksizes["time"]
    assert set(np.cumsum(sizes)) >= {70, 140, 210, 280, 300}
    assert max(sizes) <= 128


def test_a_part_reads_no_more_than_its_groups(frames):
    movie, reads = counting(frames)
    joined = grouped(movie)
    np.testing.assert_array_equal(joined[5:9].values, frames[5:9])
    assert max(reads) < 128


def test_what_chunks_share_is_computed_once(frames):
    opened = []

    def open_file():
        opened.append(1)
        return frames

    source = dask.delayed(open_file)()
    chunk = dask.delayed(lambda file, n: file[n : n + 1])
    parts = [da.from_delayed(chunk(source, n), (1, SIDE, SIDE), np.int16) for n in range(N)]
    movie = grouped(movie_of(da.concatenate(parts)))
    assert movie.data.npartitions < 5
    np.testing.assert_array_equal(movie.values, frames)
    assert opened == [1]


def test_what_a_later_frame_needs_of_an_earlier_one(frames):
    movie, _ = counting(frames)
    steps = movie.copy(data=da.cumsum(movie.data.astype(np.int64), axis=0, method="sequential"))
    joined = grouped(steps)
    assert joined.data.npartitions < 5
    np.testing.assert_array_equal(joined.values, np.cumsum(frames, 0))


def test_movies_that_stay_as_they_are(frames):
    movie, _ = counting(frames)
    few = movie[:200]
    assert grouped(few) is few
    tiles = movie.chunk(y=12)
    assert grouped(tiles) is tiles
    with dask.annotate(resources={"disk": 1}):
        marked = movie_of(da.from_array(frames, chunks=(1, -1, -1), name="marked"))
    assert grouped(marked) is marked
    in_memory = movie_of(frames)
    assert grouped(in_memory) is in_memory


def test_results_that_are_on_a_cluster_stay_there(frames):
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(1, processes=False, dashboard_address=None) as cluster,
        distributed.Client(cluster),
    ):
        movie = movie_of(da.from_array(frames, chunks=(1, -1, -1)))
        held = movie.persist()
        assert grouped(held) is held
        assert grouped(movie) is not movie
        got = xs2p.extract(movie, rois(), **OPTIONS).compute()
    same(got, xs2p.extract(movie_of(frames), rois(), **OPTIONS))


def test_chunks_that_are_other_than_they_say_are_an_error(frames):
    data = da.map_blocks(lambda b: b[:, 1:], da.from_array(frames, chunks=(1, -1, -1)), dtype="i2")
    wrong = movie_of(da.Array(data.dask, data.name, data.chunks, dtype=np.int16))
    with pytest.raises(ValueError, match="returns other than it was said to"):
        xs2p.extract(wrong, rois(), **OPTIONS).compute()


def test_planes_of_one_file_are_read_once(frames):
    """A chunk that has both planes is not read by each."""
    both, reads = counting(frames)
    movie = xr.concat([both, both + 1], "plane").assign_attrs(fs=30.0)
    where = rois().assign_coords(plane=("roi", [0, 1, 1]))
    xs2p.extract(movie, where, **OPTIONS).compute()
    assert set(reads.values()) == {1}


def test_groups_keep_to_their_size(frames, monkeypatch):
    monkeypatch.setattr(groups, "_BYTES", 20 * frames[0].nbytes)
    movie, _ = counting(frames)
    assert set(grouped(movie).chunksizes["time"]) == {20}


def test_labels_that_were_cut_with_the_movie_come_along():
    values = np.arange(300 * 12, dtype="i2").reshape(300, 3, 4)
    movie = xr.DataArray(values, {"seen": ("time", np.arange(300))}, ("time", "y", "x"))
    found = groups.grouped(movie.chunk(time=1))
    assert len(found.chunksizes["time"]) < 300
    xr.testing.assert_identical(found.compute(), movie)


def test_a_crop_reads_its_own_part_alone():
    class Source:
        shape, dtype, ndim, read = (300, 4, 8, 8), np.dtype("i2"), 4, 0

        def __getitem__(self, key):
            part = np.zeros(self.shape, self.dtype)[key]
            self.read += part.nbytes
            return part

    source = Source()
    data = da.from_array(source, chunks=(1, 4, 8, 8))[:, 2]
    movie = groups.grouped(xr.DataArray(data, dims=("time", "y", "x")))
    assert len(movie.chunksizes["time"]) < 300
    movie.compute()
    assert source.read == 300 * 8 * 8 * 2
