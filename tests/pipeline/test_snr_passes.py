"""A threshold extracts again what has changed, and nothing else; results are the same bits."""

from __future__ import annotations

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from hypothesis import given, settings
from hypothesis import strategies as st
from loaders import as_movie, square

import xs2p
from xs2p.masks.masks import same_masks
from xs2p.pipeline import snr_filter
from xs2p.traces import extraction

pytestmark = pytest.mark.filterwarnings("ignore:.*ROIs lack a mask", "ignore:.*are dropped")
SHAPE, N, FS = (40, 90), 120, 10.0
OPTIONS = {"min_neuropil_pixels": 60, "win_baseline": 2.0, "fs": FS}
# Pairs share pixels, or (10, 30) and (10, 38) neuropil alone; the last two are far from all others.
PLACES = [(2, 2), (10, 38), (3, 4), (20, 5), (21, 7), (10, 30), (30, 30), (33, 33)]
PLACES += [(2, 80), (32, 80)]


def case(dtype=np.int16):
    rng = np.random.default_rng(5)
    frames = rng.normal(500, 30, (N, *SHAPE))
    signal = np.zeros((N, len(PLACES)))
    for t in range(1, N):
        signal[t] = 0.95 * signal[t - 1] + (rng.random(len(PLACES)) < 0.1) * 300
    for n, (y, x) in enumerate(PLACES):
        frames[:, y : y + 5, x : x + 5] += (n + 1) ** 2 / 20 * signal[:, n, None, None]
    rois = xs2p.rois_from_stat([square(y, x, size=5) for y, x in PLACES], SHAPE)
    return frames.astype(dtype), rois.assign_coords(roi=10 + np.arange(len(PLACES)))


FRAMES, ROIS = case()
RATIO = xs2p.snr(as_movie(FRAMES).s2p.extract(ROIS, **OPTIONS).Fc)


def without(labels):
    return xs2p.recompute_overlap(ROIS.isel(roi=np.flatnonzero(~np.isin(ROIS.roi, labels))))


def changed_by(labels, neuropil=True):
    """ROIs whose masks are others when some are dropped."""
    options = {"min_neuropil_pixels": 60, "neuropil_extract": neuropil}
    first, second = (xs2p.build_masks(r, **options) for r in (ROIS, without(labels)))
    stays = np.flatnonzero(~np.isin(ROIS.roi, labels))
    same = [
        all(
            np.array_equal(a[:, [n]].toarray(), b[:, [m]].toarray())
            for a, b in ((first.cell, second.cell), (first.neuropil, second.neuropil))
            if a is not None
        )
        for m, n in enumerate(stays)
    ]
    assert same_masks(first.select(stays), second).tolist() == same
    return ROIS.roi.values[stays][~np.array(same)].tolist()


@pytest.fixture
def extracted(monkeypatch):
    """Labels of the ROIs that are extracted, call by call."""
    seen, real = [], extraction._extracted

    def listening(movie, masks, *others):
        seen.append(masks.rois.roi.values.tolist())
        return real(movie, masks, *others)

    monkeypatch.setattr(extraction, "_extracted", listening)
    return seen


def threshold_that_drops(n):
    order = np.sort(RATIO.values)
    return float((order[n - 1] + order[n]) / 2) if n else float(order[0] / 2)


def dropped_by(threshold):
    return ROIS.roi.values[RATIO.values <= threshold].tolist()


@pytest.mark.parametrize("chunks", [None, 37], ids=str)
@pytest.mark.parametrize(
    "n, neuropil, changed",
    [(0, True, []), (1, True, [12]), (2, True, []), (3, True, [15]), (1, False, [12])],
)
def test_only_what_has_changed_is_extracted_again(extracted, chunks, n, neuropil, changed):
    threshold = threshold_that_drops(n)
    options = {**OPTIONS, "neuropil_extract": neuropil}
    if not neuropil:
        threshold = float(np.sort(xs2p.snr(as_movie(FRAMES).s2p.extract(ROIS, **options).F))[0])
        extracted.clear()
    movie = as_movie(FRAMES) if chunks is None else as_movie(FRAMES).chunk(time=chunks)
    result = movie.s2p.extract(ROIS, snr_threshold=threshold, **options)
    assert extracted == [ROIS.roi.values.tolist(), *([changed] if changed else [])]
    dropped = ROIS.roi.values[~np.isin(ROIS.roi, result.roi)].tolist()
    assert len(dropped) == n and changed_by(dropped, neuropil) == changed
    expected = as_movie(FRAMES).s2p.extract(without(dropped), **options)
    xr.testing.assert_equal(result.compute().drop_vars("snr"), expected)


@settings(max_examples=15, deadline=None)
@given(
    n=st.integers(0, len(PLACES)),
    chunks=st.none() | st.lists(st.integers(1, 50), min_size=1, max_size=5),
    tiled=st.booleans(),
    neuropil=st.booleans(),
    second=st.booleans(),
    floats=st.booleans(),
    keeps=st.booleans(),
)
def test_same_bits_as_a_whole_second_pass(n, chunks, tiled, neuropil, second, floats, keeps):
    frames = FRAMES.astype(np.float32) * np.float32(1.1) if floats else FRAMES
    movie = as_movie(frames)
    if chunks is not None:
        sizes = (*chunks, N)
        sizes = np.diff(np.minimum(np.cumsum([0, *sizes]), N))
        sizes = {"time": tuple(int(size) for size in sizes if size)}
        movie = movie.chunk(**sizes, **({"y": 17, "x": 50} if tiled else {}))
    options = {**OPTIONS, "tau": 1.0, "neuropil_extract": neuropil}
    ratio = xs2p.snr(as_movie(frames).s2p.extract(ROIS, **options).Fc)
    order = np.sort(ratio.values)
    threshold = float(order[n - 1]) if n else float(order[0] / 2)
    if second:
        options["movie_chan2"] = movie + frames.dtype.type(1)
    limit = snr_filter._KEPT
    try:
        snr_filter._KEPT = limit if keeps else 0
        result = movie.s2p.extract(ROIS, snr_threshold=threshold, **options)
    finally:
        snr_filter._KEPT = limit
    labels = ROIS.roi.values[ratio.values <= threshold]
    assert result.sizes["roi"] == len(PLACES) - n
    expected = movie.s2p.extract(without(labels), **options).compute()
    for name in expected:
        assert result[name].attrs == expected[name].attrs
        assert (result[name].chunks is None) == (chunks is None)
    xr.testing.assert_equal(result.compute().drop_vars("snr"), expected)


@pytest.mark.parametrize("n, times", [(0, 1), (1, 2)])
def test_where_no_mask_changes_the_movie_is_read_once(n, times, tmp_path):
    source = CountingFrames(FRAMES)
    movie = as_movie(source.to_dask((30, *SHAPE)), fs=FS)
    threshold = threshold_that_drops(n)
    assert bool(changed_by(dropped_by(threshold))) == (times == 2)
    result = movie.s2p.extract(ROIS, snr_threshold=threshold, tau=1.0, **OPTIONS)
    np.testing.assert_array_equal(source.reads, 1)
    result.compute()
    np.testing.assert_array_equal(source.reads, times)
    source.reads[:] = 0
    options = {**OPTIONS, "snr_threshold": threshold, "tau": 1.0, "frames_per_region": 60}
    stored = xs2p.extract_to_zarr(movie, ROIS, tmp_path / "a.zarr", progress=False, **options)
    looked_at = np.isin(np.arange(N) // 30, [0, 2, 3])  # first, middle, last, to know it again
    np.testing.assert_array_equal(source.reads[~looked_at], times)
    for name in result.data_vars:
        np.testing.assert_array_equal(stored[name], result[name], err_msg=name)


def test_a_mask_that_is_far_from_what_is_dropped_is_not_read_in_tiles():
    """Of a movie in tiles only those are read again that changed ROIs have pixels in."""
    read = []

    def tile(block, block_info=None):
        read.append(tuple(block_info[0]["array-location"][2]))
        return block

    data = da.from_array(FRAMES, chunks=(N, *SHAPE)).rechunk((N, 40, 30))
    movie = as_movie(data.map_blocks(tile, dtype=np.int16, meta=FRAMES[:0]), fs=FS)
    result = movie.s2p.extract(ROIS, snr_threshold=threshold_that_drops(1), **OPTIONS)
    assert set(read) == {(0, 30), (30, 60), (60, 90)}
    read.clear()
    with dask.config.set(scheduler="sync"):
        result.F.compute()
    assert set(read) == {(0, 30)}


def test_what_is_demixed_is_kept_where_nothing_is_dropped():
    for n, times in ((0, 1), (1, 2)):
        source = CountingFrames(FRAMES)
        movie = as_movie(source.to_dask((30, *SHAPE)), fs=FS)
        ratio = np.sort(xs2p.snr(as_movie(FRAMES).s2p.extract(ROIS, method="demix", fs=FS).Fc))
        threshold = float(ratio[n - 1]) if n else float(ratio[0] / 2)
        options = {"method": "demix", "snr_threshold": threshold, "fs": FS}
        result = movie.s2p.extract(ROIS, **options).compute()
        np.testing.assert_array_equal(source.reads, times)
        expected = as_movie(FRAMES).s2p.extract(ROIS.sel(roi=result.roi), method="demix", fs=FS)
        np.testing.assert_array_equal(result.F, expected.F)


def test_planes_keep_what_they_have(extracted):
    stack = xr.concat([as_movie(FRAMES), as_movie(FRAMES)], "plane").chunk(time=50)
    rois = ROIS.assign_coords(plane=("roi", np.array([int(x > 20) for _, x in PLACES])))
    alone = stack.s2p.extract(rois, **OPTIONS)
    ratio = xs2p.snr(alone.Fc.compute())
    noisy = rois.roi.values[np.argmin(ratio.values)]
    extracted.clear()
    threshold = float(ratio.min())
    result = stack.s2p.extract(rois, snr_threshold=threshold, **OPTIONS)
    plane = int(rois.plane.sel(roi=noisy))
    again = [label for labels in extracted[2:] for label in labels]
    assert len(extracted) <= 3
    assert set(again) <= set(rois.roi.values[rois.plane.values == plane])
    some = xs2p.recompute_overlap(rois.isel(roi=np.flatnonzero(rois.roi.values != noisy)))
    expected = stack.s2p.extract(some, **OPTIONS).compute()
    xr.testing.assert_equal(result.compute().drop_vars("snr"), expected)
