"""Frames cut in y and x, huge ones, and several planes."""

from __future__ import annotations

import warnings

import dask
import numpy as np
import pytest
import xarray as xr
from dask._task_spec import convert_legacy_graph

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate

FS = 10.0
OPTIONS = {"tau": 0.3, "min_neuropil_pixels": 60, "win_baseline": 2.0, "sig_baseline": 2.0}
TILES = [{"y": 20}, {"x": (1, 30, 17)}, {"y": (13, 14, 13), "x": 16, "time": 30}]


@pytest.fixture(scope="module")
def recording():
    return simulate(12, (40, 48), 80, fs=FS)[:2]


@pytest.mark.parametrize("tiles", TILES, ids=str)
def test_tiles_give_what_whole_frames_give(recording, tiles):
    movie, rois = recording
    expected = movie.s2p.extract(rois, **OPTIONS)
    cut = movie.chunk({"time": 25, **tiles})
    with raise_if_dask_computes():
        ds = cut.s2p.extract(rois, **OPTIONS)
    # Sums of integers are exact, in whatever order.
    np.testing.assert_array_equal(ds.Fneu, expected.Fneu)
    for name in expected.data_vars:
        np.testing.assert_allclose(ds[name], expected[name], rtol=1e-5, atol=1e-3)


def extracting(traces):
    """The tasks that read a tile, and the masks that each of them is given."""
    graph = convert_legacy_graph(dict(traces.__dask_graph__()))
    return {
        key: [d for d in task.dependencies if str(d).startswith("masks-")]
        for key, task in graph.items()
        if isinstance(key, tuple) and key[0].startswith("xs2p-extract")
    }


def test_the_masks_of_a_tile_go_to_its_tasks_alone(recording):
    movie, rois = recording
    cut = movie.chunk(time=20, y=20, x=24)
    given = extracting(
        xs2p.extract_traces(cut, xs2p.build_masks(rois, min_neuropil_pixels=60)).F.data
    )
    assert len(given) == 4 * 4
    by_tile = {}
    for key, masks in given.items():
        (own,) = masks
        by_tile.setdefault(own, []).append(key)
    # Four tiles, each with masks of its own, for all chunks of time.
    assert sorted(len(keys) for keys in by_tile.values()) == [4] * 4
    assert all(len({key[0] for key in keys}) == 1 for keys in by_tile.values())


def test_tiles_that_no_roi_needs_are_not_read(recording):
    movie, rois = recording
    one = rois.isel(roi=[0])
    masks = xs2p.build_masks(one, min_neuropil_pixels=20)
    used = np.zeros(movie.shape[1:], bool).ravel()
    used[masks.cell.indices] = used[masks.neuropil.indices] = True
    tiles = used.reshape(40 // 4, 4, 48 // 4, 4).any(axis=(1, 3))
    assert not tiles.all()
    given = extracting(xs2p.extract_traces(movie.chunk(time=-1, y=4, x=4), masks).F.data)
    assert len(given) == tiles.sum()


@pytest.mark.slow
def test_a_mosaic_of_a_hundred_million_pixels():
    scaling = pytest.importorskip("benchmarks.scaling")
    assert scaling.in_new_process("mosaic", 10_000, 1024, 32, 5_000)["peak"] < 2000


@pytest.fixture
def planes(recording):
    """Three planes with different frames; the ROIs of each are not next to each other."""
    movie, rois = recording
    stack = xr.concat(
        [movie, movie[::-1].assign_coords(time=movie.time), movie + np.int16(7)], "plane"
    )
    own = np.arange(rois.sizes["roi"]) % 3
    return stack.assign_attrs(movie.attrs), rois.assign_coords(plane=("roi", own))


@pytest.mark.parametrize(
    "chunks", [None, {"time": 25, "plane": 1}, {"time": 30, "plane": -1, "y": 20}]
)
def test_planes(planes, chunks):
    stack, rois = planes
    ds = (stack if chunks is None else stack.chunk(chunks)).s2p.extract(rois, **OPTIONS)
    assert ds.spks.dims == ("roi", "time") and ds.sizes["roi"] == 12
    np.testing.assert_array_equal(ds.roi, rois.roi)
    np.testing.assert_array_equal(ds.npix, rois.npix)
    np.testing.assert_array_equal(ds.plane, rois.plane)
    for n in range(3):
        alone = stack.isel(plane=n).s2p.extract(rois.isel(roi=rois.plane.values == n), **OPTIONS)
        some = ds.isel(roi=ds.plane.values == n)
        for name in alone.data_vars:
            np.testing.assert_allclose(some[name], alone[name], rtol=1e-5, atol=1e-3)
        np.testing.assert_array_equal(some.status, alone.status)


def test_planes_of_suite2p_and_by_label(planes):
    stack, rois = planes
    expected = stack.s2p.extract(rois, **OPTIONS)
    iplane = rois.drop_vars("plane").assign_coords(iplane=("roi", rois.plane.values))
    np.testing.assert_array_equal(stack.s2p.extract(iplane, **OPTIONS).F, expected.F)
    depths = stack.assign_coords(plane=[50, 90, 130])
    at = rois.assign_coords(plane=("roi", np.array([50, 90, 130])[rois.plane.values]))
    ds = depths.s2p.extract(at, **OPTIONS)
    np.testing.assert_array_equal(ds.F, expected.F)
    assert set(ds.plane.values) == {50, 90, 130}
    second = stack.s2p.extract(rois, movie_chan2=stack + np.int16(1), **OPTIONS)
    assert second.F_chan2.shape == second.F.shape
    with dask.config.set(scheduler="sync"):
        kept = stack.chunk(time=20).s2p.extract(rois, snr_threshold=-5.0, **OPTIONS)
    np.testing.assert_array_equal(kept.F, expected.F)


def test_stale_flags_in_several_planes_are_one_warning(planes):
    stack, rois = planes
    flags = rois.overlap.values.copy()
    flags[np.cumsum(rois.npix.values) - rois.npix.values] = True  # a pixel of each ROI
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        stack.s2p.extract(rois.assign(overlap=("pixel", flags)), **OPTIONS)
    told = [str(w.message) for w in said if "overlap flags" in str(w.message)]
    assert len(told) == 1 and "ROIs that were dropped stay excluded" in told[0]


def test_planes_that_do_not_fit_are_refused(planes):
    stack, rois = planes
    for movie, some, more, message in (
        (stack, rois.drop_vars("plane"), {}, "do not say which plane"),
        (
            stack.isel(plane=slice(2)),
            rois,
            {},
            r"4 ROIs are in planes .*\[0, 1\], counted",
        ),
        (stack[1], rois, {}, r"lie in 3 planes \(0, 1, 2\), and movie does not say which"),
        (stack[1].assign_coords(plane=7), rois, {}, r"none .* plane 7, and they are in 0, 1, 2"),
        (
            stack[1].assign_coords(plane=1),
            rois,
            {"movie_chan2": stack[0].assign_coords(plane=0)},
            "must have the same planes",
        ),
        (stack, rois, {"movie_chan2": stack.isel(plane=slice(2))}, "movie_chan2"),
    ):
        with pytest.raises(ValueError, match=message), raise_if_dask_computes():
            movie.s2p.extract(some, **OPTIONS, **more)
