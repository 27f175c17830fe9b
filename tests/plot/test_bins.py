"""What of long traces is read and kept: extremes, bins of time, windows; an ROI at a place."""

import threading

import numpy as np
import pytest
import xarray as xr
import zarr
from hypothesis import given
from hypothesis import strategies as st

import xs2p
from xs2p.plot.bins import bin_time, extremes, join_bins
from xs2p.plot.reader import DIRECT, GROUP, Reader, frames_in_view, pick_roi
from xs2p.rois.pixels import pixel_table
from xs2p.testing import raise_if_dask_computes, time_chunks


@given(st.lists(st.sampled_from([0.0, 1.0, 2.5, -3.0, np.nan]), max_size=60), st.integers(1, 9))
def test_extremes_of_every_column_are_kept(values, columns):
    values = np.array(values, float)
    kept = extremes(values, columns)
    assert (np.diff(kept) > 0).all()
    if values.size <= 2 * columns:
        assert kept.tolist() == list(range(values.size))
        return
    assert kept.size <= 2 * columns
    width = -(-values.size // columns)
    for start in range(0, values.size, width):
        part = values[start : start + width]
        own = values[kept[(kept >= start) & (kept < start + width)]]
        assert own.size
        if np.isfinite(part).any():
            assert np.nanmin(own) == np.nanmin(part) and np.nanmax(own) == np.nanmax(part)
        else:
            assert np.isnan(own).all()


@given(st.data())
def test_bins_are_the_same_in_any_chunks(data):
    n = data.draw(st.integers(1, 40))
    width = data.draw(st.integers(1, 12))
    values = np.random.default_rng(n).integers(-9, 9, (3, n)).astype("f4")
    values[1] = np.nan
    array = xr.DataArray(values, dims=("roi", "time"))
    lazy = array.chunk(roi=2, time=data.draw(time_chunks(n)))
    with raise_if_dask_computes():
        parts = bin_time(lazy, width)
    low, high, mean = join_bins(np.asarray(parts), lazy, width)
    for k, start in enumerate(range(0, n, width)):
        part = values[:, start : start + width]
        np.testing.assert_array_equal(low[:, k], part.min(1))
        np.testing.assert_array_equal(high[:, k], part.max(1))
        np.testing.assert_allclose(mean[:, k], part.mean(1))
    assert low.shape[1] == -(-n // width)
    for one, two in zip(
        (low, high, mean), join_bins(bin_time(array, width), array, width), strict=True
    ):
        np.testing.assert_allclose(one, two)


def test_an_roi_is_found_at_a_place():
    stat = [
        {"ypix": [5, 5, 6], "xpix": [5, 6, 5], "lam": [1.0, 1.0, 1.0]},
        {"ypix": [5, 5], "xpix": [6, 7], "lam": [3.0, 1.0]},
        {"ypix": [0], "xpix": [0], "lam": [1.0]},
        {"ypix": [], "xpix": [], "lam": []},
    ]
    table = pixel_table(xs2p.rois_from_stat(stat, (20, 20)))
    assert pick_roi(table, 5.4, 4.6) == 0
    assert pick_roi(table, 5.2, 6.3) == 1  # of its weight 3/4, of the other's 1/3
    assert pick_roi(table, 5.2, 6.3, after=1) == 0
    assert pick_roi(table, 5.2, 6.3, after=0) == 1
    assert pick_roi(table, 5.2, 6.3, after=2) == 1
    assert pick_roi(table, 5, 9.4) == 1  # 2.4 pixels beside it
    assert pick_roi(table, 5, 11) is None
    assert pick_roi(table, -3, 50) is None
    nobody = pixel_table(xs2p.rois_from_stat([], (20, 20)))
    assert pick_roi(nobody, 5, 5) is None


def test_frames_in_view():
    seconds = np.arange(100) / 10
    assert frames_in_view(seconds, 2.05, 2.95) == slice(20, 31)  # one more at either side
    assert frames_in_view(seconds, 2.0, 3.0) == slice(20, 31)
    assert frames_in_view(seconds, -5, 50) == slice(0, 100)
    assert frames_in_view(seconds, 2.01, 2.02) == slice(20, 22)
    assert frames_in_view(seconds, 90, 95) == slice(98, 100)
    assert frames_in_view(seconds, -9, -8) == slice(0, 2)


class CountingStore(zarr.storage.WrapperStore):
    """Counts how often each chunk is read, by its key."""

    def __init__(self, store):
        super().__init__(store)
        self.reads = {}
        self._lock = threading.Lock()

    def with_read_only(self, read_only=False):
        other = type(self)(self._store.with_read_only(read_only))
        other.reads, other._lock = self.reads, self._lock
        return other

    async def get(self, key, prototype, byte_range=None):
        if "/c/" in key:
            with self._lock:
                self.reads[key] = self.reads.get(key, 0) + 1
        return await super().get(key, prototype, byte_range)

    def of(self, name):
        return {key: n for key, n in self.reads.items() if key.startswith(f"{name}/")}


N, CHUNK = 60_000, 4000


@pytest.fixture(scope="module")
def recording():
    """Traces of 7 ROIs and 60,000 frames with one peak, of 5 ROIs × 4000 frames a chunk, stored."""
    values = np.random.default_rng(0).normal(size=(7, N)).astype("f4")
    values[6, 43_210] = 99
    ds = xr.Dataset(
        {"Fc": (("roi", "time"), values), "spks": (("roi", "time"), np.maximum(values, 0))},
        coords={"roi": np.arange(7)},
    )
    store = zarr.storage.MemoryStore()
    encoding = {name: {"chunks": (5, CHUNK)} for name in ds.data_vars}
    ds.to_zarr(store, encoding=encoding, consolidated=False)
    return store, values


@pytest.fixture(params=["dask", "zarr"])
def reader(request, recording):
    """A reader of the stored traces, opened with Dask and without, and what it has read."""
    store = CountingStore(recording[0])
    chunks = {} if request.param == "dask" else None
    ds = xr.open_zarr(store, chunks=chunks, consolidated=False)
    store.reads.clear()
    return Reader(ds, ["Fc", "spks"]), store, recording[1]


def test_a_narrow_window_reads_its_chunks_only(reader):
    reading, store, values = reader
    lines = reading.read(6, slice(9000, 10_000), columns=2000)
    assert store.of("Fc") == {"Fc/c/1/2": 1} and store.of("spks") == {"spks/c/1/2": 1}
    np.testing.assert_array_equal(lines["Fc"].frames, np.arange(9000, 10_000))
    np.testing.assert_array_equal(lines["Fc"].values, values[6, 9000:10_000])
    few = reading.read(6, slice(7990, 8010), columns=5)["spks"]
    assert sorted(store.of("Fc")) == ["Fc/c/1/1", "Fc/c/1/2"]
    assert few.frames.size <= 10
    assert few.values.max() == np.maximum(values[6, 7990:8010], 0).max()


def test_a_wide_window_reads_each_chunk_once_ever(reader):
    reading, store, values = reader
    line = reading.read(6, slice(30_000, 30_000 + DIRECT + 5000), columns=200)["Fc"]
    assert sorted(store.of("Fc")) == sorted(f"Fc/c/1/{j}" for j in range(7, 14))
    assert set(store.reads.values()) == {1}
    assert line.frames.size <= 400
    peak = int(np.argmax(line.values))
    assert line.values[peak] == 99 and abs(line.frames[peak] - 43_210) <= GROUP
    # All of it: what was read is not read again; nor is it for another ROI of the same chunks.
    line = reading.read(6, slice(0, N))["Fc"]
    assert len(store.of("Fc")) == 15 and set(store.reads.values()) == {1}
    assert line.values.max() == 99 and line.values.min() == values[6].min()
    reading.read(5, slice(0, N))
    assert set(store.reads.values()) == {1} and len(store.of("Fc")) == 15
    reading.read(0, slice(0, N))
    assert set(store.reads.values()) == {1} and len(store.of("Fc")) == 30


def test_a_wide_window_of_dask_is_one_computation(recording):
    ds = xr.open_zarr(recording[0], chunks={}, consolidated=False)
    reading = Reader(ds, ["Fc", "spks"])
    with raise_if_dask_computes(max_computes=1):
        reading.read(6, slice(0, N))
    with raise_if_dask_computes():
        reading.read(5, slice(0, N))
    kept = sum(part.nbytes for part in reading._kept.values())
    assert kept <= 2 * 2 * 2 * 4 * N * 1.05 / GROUP + 2 * 15 * 64  # extremes of 2 ROIs, 2 variables


def test_traces_in_memory_are_exact_at_any_zoom(recording):
    values = recording[1]
    ds = xr.Dataset({"Fc": (("roi", "time"), values)})
    line = Reader(ds, ["Fc"]).read(6, slice(0, N), columns=100)["Fc"]
    assert line.frames[np.argmax(line.values)] == 43_210


def test_gaps_stay_gaps(recording):
    ds = xr.Dataset({"Fc": (("roi", "time"), np.full((1, N), np.nan, "f4"))}).chunk(time=CHUNK)
    line = Reader(ds, ["Fc"]).read(0, slice(0, N))["Fc"]
    assert np.isnan(line.values).all() and line.frames.size
