"""Demixing: what is fitted is what numpy's least squares fit, however the movie lies."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import hypothesis.strategies as st
import naive
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from hypothesis import given, settings
from loaders import square

import xs2p
from xs2p.testing import chunked_movies, raise_if_dask_computes
from xs2p.traces import equations_cpu

SHAPE = (12, 15)


@st.composite
def layouts(draw):
    """Up to six ROIs of any pixels, of any weights, that may be the same."""
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    stat = []
    for _ in range(draw(st.integers(1, 6))):
        height, width = rng.integers(1, 7, 2)
        y, x = rng.integers(0, SHAPE[0] - height + 1), rng.integers(0, SHAPE[1] - width + 1)
        ypix, xpix = (i.ravel() for i in np.mgrid[y : y + height, x : x + width])
        stat.append({"ypix": ypix, "xpix": xpix, "lam": rng.random(ypix.size) + 0.1})
    if draw(st.booleans()):
        stat.append({**stat[0], "lam": 3 * stat[0]["lam"]})
    return stat


def fit(movie, stat, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*cannot be demixed")
        return xs2p.demix(movie, xs2p.rois_from_stat(stat, SHAPE), **options)


@settings(max_examples=16)
@given(chunked_movies(SHAPE), layouts(), st.sampled_from([(1, 1), (2, 3), (5, 5), (9, 4)]))
def test_any_layout_dtype_and_chunks_are_numpys_least_squares(movie, stat, grid):
    F, Fneu, known = naive.demixed(movie.values, stat, grid)
    with raise_if_dask_computes():
        lazy = fit(movie, stat, background=grid)
    lazy, eager = lazy.compute(), fit(movie.compute(), stat, background=grid)
    assert (eager.status == np.where(known, "ok", "collinear")).all()
    large = np.abs(movie.values.astype(float)).max()
    # What overlap blows up, it blows up of rounding too.
    close = {"rtol": 1e-6, "atol": 1e-6 * large}
    np.testing.assert_allclose(eager.F[known], F[known], **close)
    np.testing.assert_allclose(eager.Fneu[known], Fneu[known], **close)
    np.testing.assert_array_equal(eager.Fc, eager.F - eager.Fneu)
    assert eager[["F", "Fneu", "Fc"]].isel(roi=~known).isnull().all().to_array().all()
    for name in ("F", "Fneu"):
        if len(movie.chunksizes["y"]) == len(movie.chunksizes["x"]) == 1:
            np.testing.assert_array_equal(lazy[name], eager[name])
        else:  # tiles add up in another order
            np.testing.assert_allclose(lazy[name], eager[name], **close)


def crossing():
    """Three ROIs, the middle one sharing all of its pixels, and frames of known light."""
    rng = np.random.default_rng(0)
    stat = [square(1, 1, size=6), square(3, 4, size=4), square(5, 6, size=6)]
    stat[1] = {"ypix": np.repeat(np.arange(5, 7), 6), "xpix": np.tile(np.arange(3, 9), 2)}
    stat[1]["lam"] = np.ones(12)
    light = rng.random((3, 40)) * 100
    frames = np.full((40, *SHAPE), 50.0)
    for roi, own in zip(stat, light, strict=True):
        frames[:, roi["ypix"], roi["xpix"]] += own[:, None] * roi["lam"]
    return xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": 10.0}), stat, light


def test_units_are_those_of_masks():
    movie, stat, light = crossing()
    ds = fit(movie, stat)
    np.testing.assert_allclose(ds.Fneu, 50.0, rtol=1e-5)
    for n, roi in enumerate(stat):
        weights = roi["lam"] / roi["lam"].sum()
        np.testing.assert_allclose(ds.Fc[n], light[n] * (weights @ roi["lam"]), rtol=1e-4)
    masks = xs2p.build_masks(xs2p.rois_from_stat(stat[:1], SHAPE), min_neuropil_pixels=20)
    np.testing.assert_allclose(
        fit(movie, stat[:1]).F, xs2p.extract_traces(movie, masks).F, rtol=0.2
    )
    assert ds.F.attrs["units"] == "1" and ds.Fc.attrs["neuropil_coefficient"] == 1.0
    assert ds.attrs["method"] == "demix" and ds.attrs["background"] == [5, 5]


def test_an_roi_that_shares_all_its_pixels_has_a_trace():
    movie, stat, light = crossing()
    stat[1] = {**stat[1], "ypix": stat[1]["ypix"][:4], "xpix": stat[1]["xpix"][:4]}
    stat[1]["lam"] = stat[1]["lam"][:4]
    with pytest.warns(UserWarning, match="1 no_cell_pixels"):
        masked = xs2p.extract(movie, xs2p.rois_from_stat(stat, SHAPE), baseline="none")
    assert masked.F[1].isnull().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ds = xs2p.demix(movie, xs2p.rois_from_stat(stat, SHAPE))
    assert (ds.status == "ok").all() and not ds.F.isnull().any()


def test_footprints_that_cannot_be_told_apart_are_named():
    movie, stat, _ = crossing()
    both = {
        "ypix": np.concatenate([stat[0]["ypix"], np.full(3, 11)]),
        "xpix": np.concatenate([stat[0]["xpix"], np.arange(3)]),
        "lam": np.concatenate([stat[0]["lam"], np.ones(3)]),
    }
    part = {"ypix": np.full(3, 11), "xpix": np.arange(3), "lam": np.ones(3)}
    rois = xs2p.rois_from_stat([*stat, both, part], SHAPE)
    rois = rois.assign_coords(roi=[10, 20, 30, 40, 50])
    with pytest.warns(UserWarning) as caught:
        ds = xs2p.demix(movie, rois, background=(2, 2))
    assert len(caught) == 1
    assert "3 of 5 ROIs cannot be demixed" in str(caught[0].message)
    assert "3 collinear (roi 10, 40, 50, which others add up to" in str(caught[0].message)
    np.testing.assert_array_equal(ds.roi[ds.status == "collinear"], [10, 40, 50])
    np.testing.assert_array_equal(ds.demix_flag, [3, 0, 0, 3, 3])
    assert np.isinf(ds.vif[[0, 3, 4]]).all()
    F, Fneu, known = naive.demixed(movie.values, [*stat, both, part], (2, 2))
    np.testing.assert_array_equal(known, [False, True, True, False, False])
    np.testing.assert_allclose(ds.F[known], F[known], rtol=1e-5)


def test_an_roi_that_is_all_background_is_collinear():
    movie, stat, _ = crossing()
    whole = {"ypix": np.repeat(np.arange(12), 15), "xpix": np.tile(np.arange(15), 12)}
    stat.append({**whole, "lam": np.ones(180)})
    ds = fit(movie, stat)
    np.testing.assert_array_equal(ds.status, ["ok", "ok", "ok", "collinear"])
    np.testing.assert_allclose(ds.Fneu[:3], 50.0, rtol=1e-5)
    assert ds.demix_flag[3] == 3 and np.isinf(ds.vif[3])
    assert not fit(movie, stat, background=None).F.isnull().any()


@pytest.mark.parametrize("background", [(2, 2), (5, 5), None])
def test_what_noise_costs_is_told(background):
    movie, stat, _ = crossing()
    stat.append({**stat[0], "lam": stat[0]["lam"] + np.linspace(0, 1.5, 36)})
    ds = fit(movie, stat, background=background)
    a, b = np.zeros((180, 4)), np.zeros((180, 0))
    for n, roi in enumerate(stat):
        a[naive.flat(roi, SHAPE), n] = roi["lam"]
    if background:
        b = np.kron(*(naive.hats(*along) for along in zip(SHAPE, background, strict=True)))
    both = np.hstack([a, b])
    gram = both.T @ both
    vif = (np.diag(np.linalg.inv(gram)) * np.diag(gram))[:4]
    np.testing.assert_allclose(ds.vif, vif, rtol=1e-5)
    np.testing.assert_array_equal(ds.demix_flag, (vif > 5).astype(int))
    assert ds.demix_flag.attrs["flag_meanings"] == "vif_above_5 collinear"
    by_overlap = xs2p.quality(xs2p.rois_from_stat(stat, SHAPE)).vif
    if background is None:
        np.testing.assert_allclose(ds.vif, by_overlap, rtol=1e-6)
    else:
        assert (ds.vif > by_overlap + 1e-3).all()


def test_without_background_there_is_no_fneu():
    movie, stat, light = crossing()
    ds = fit(movie - 50.0, stat, background=None)
    assert "Fneu" not in ds
    np.testing.assert_array_equal(ds.Fc, ds.F)
    np.testing.assert_allclose(ds.F[0], light[0], rtol=1e-4)


@pytest.mark.parametrize("background", [(5, 5), (2, 2), None])
def test_nonnegative_is_scipys_bounded_least_squares(background):
    from scipy.optimize import lsq_linear

    movie, stat, _ = crossing()
    noisy = movie + 60 * np.random.default_rng(1).normal(size=movie.shape)
    ds = fit(noisy, stat, nonnegative=True, background=background)
    free = fit(noisy, stat, background=background)
    assert (ds.Fc >= 0).all() and (free.Fc < 0).any() and ds.attrs["nonnegative"] == 1
    a = np.zeros((180, 3))
    for n, roi in enumerate(stat):
        a[naive.flat(roi, SHAPE), n] = roi["lam"] / roi["lam"].sum()
    b = np.zeros((180, 0))
    if background:
        b = np.kron(*(naive.hats(*along) for along in zip(SHAPE, background, strict=True)))
    low = np.concatenate([np.zeros(3), np.full(b.shape[1], -np.inf)])
    for t in range(0, 40, 5):
        light = np.asarray(noisy[t]).ravel()
        best = lsq_linear(np.hstack([a, b]), light, (low, np.inf), tol=1e-12).x
        expected = (a**2).sum(axis=0) * best[:3]
        np.testing.assert_allclose(ds.Fc[:, t], expected, atol=2e-3 * expected.max() + 1e-3)


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("chunk", [1, 7, 100, 333])
def test_chunks_change_no_bit(nonnegative, chunk):
    movie, rois = xs2p.sample_movie().isel(time=slice(0, 333)), xs2p.sample_rois()
    eager = xs2p.demix(movie.compute(), rois, nonnegative=nonnegative)
    lazy = xs2p.demix(movie.chunk(time=chunk), rois, nonnegative=nonnegative)
    for name in ("F", "Fneu", "Fc"):
        np.testing.assert_array_equal(lazy[name], eager[name])


def test_frames_that_need_few_sweeps_do_not_go_on_with_others():
    movie, rois = xs2p.sample_movie().compute(), xs2p.sample_rois()
    alone = xs2p.demix(movie.isel(time=[17]), rois, nonnegative=True)
    np.testing.assert_array_equal(alone.F[:, 0], xs2p.demix(movie, rois, nonnegative=True).F[:, 17])


@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_pixel_that_is_no_number_takes_its_frame_and_no_other(nonnegative, bad):
    movie, stat, _ = crossing()
    broken = movie.copy(deep=True)
    broken[7, 0, 14] = bad
    ds = fit(broken, stat, nonnegative=nonnegative)
    whole = fit(movie, stat, nonnegative=nonnegative)
    assert ds.isel(time=7)[["F", "Fneu", "Fc"]].isnull().all().to_array().all()
    kept = np.arange(40) != 7
    np.testing.assert_array_equal(ds.F[:, kept], whole.F[:, kept])


def test_one_task_a_chunk_and_every_frame_is_read_once():
    import dask

    movie, stat, _ = crossing()
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((5, -1, -1)))
    ds = fit(lazy, stat)
    graph = dask.optimize(ds.F.data)[0].dask
    # A task and its slice for each of 8 chunks, the masks and the equations.
    assert len(dict(graph)) <= 2 * 8 + 2
    ds.compute()
    np.testing.assert_array_equal(frames.reads, 1)


def test_channels_and_planes_are_each_their_own():
    movie, stat, _ = crossing()
    two = xr.concat([movie, movie[::-1]], "channel")
    ds = fit(two, stat)
    for n in (0, 1):
        np.testing.assert_array_equal(ds.F[n], fit(two[n], stat).F)
    planes = two.rename(channel="plane").assign_coords(plane=[3, 7])
    rois = xs2p.rois_from_stat(stat, SHAPE).assign_coords(plane=("roi", [7, 3, 7]))
    ds = xs2p.demix(planes.chunk(time=9), rois)
    assert ds.roi.values.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(ds.F[[0, 2]], fit(two[1], [stat[0], stat[2]]).F)
    np.testing.assert_array_equal(ds.F[[1]], fit(two[0], [stat[1]]).F)
    with pytest.warns(UserWarning, match="planes that movie has not"):
        ds = xs2p.demix(planes.sel(plane=[7]), rois)
    np.testing.assert_array_equal(ds.status, ["ok", "other_plane", "ok"])
    assert ds.F[1].isnull().all()
    np.testing.assert_array_equal(ds.F[[0, 2]], fit(two[1], [stat[0], stat[2]]).F)


def test_what_goes_to_workers_survives_the_way():
    movie, stat, _ = crossing()
    lazy = fit(movie.chunk(time=11, y=5), stat, nonnegative=True)
    back = pickle.loads(pickle.dumps(lazy))
    xr.testing.assert_identical(back.compute(), lazy.compute())


def test_an_roi_without_weight_has_no_trace():
    movie, stat, _ = crossing()
    dark = {**stat[0], "lam": np.zeros(36)}
    with pytest.warns(UserWarning, match=r"1 of 2 ROIs cannot .* 1 no_cell_pixels \(roi 0\)"):
        ds = xs2p.demix(movie, xs2p.rois_from_stat([dark, stat[2]], SHAPE))
    assert ds.F[0].isnull().all()
    np.testing.assert_array_equal(ds.F[1], fit(movie, [stat[2]]).F[0])


def test_hats_of_large_frames_are_steps_of_a_bilinear_hat():
    from xs2p.masks.footprints import background_of

    made = background_of((200, 61), (5, 3))
    values = made.hats.toarray()[:, made.squares]
    np.testing.assert_allclose(values.sum(axis=0), 1.0)
    smooth = np.kron(naive.hats(200, 5), naive.hats(61, 3)).T
    assert 0 < np.abs(values - smooth).max() < 3.1 / 50
    assert made.npix.max() == 7 * 1 and made.npix.sum() == 200 * 61
    small = background_of((61, 64), (5, 3))
    np.testing.assert_allclose(
        small.hats.toarray()[:, small.squares],
        np.kron(naive.hats(61, 5), naive.hats(64, 3)).T,
        atol=1e-12,
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": 5}, r"background must be .* background=\(5, 5\), or None; got 5"),
        ({"background": (0, 5)}, "from 1 on"),
        ({"background": (2.5, 5)}, "two whole numbers"),
        ({"background": (True, 5)}, "two whole numbers"),
        ({"background": "5x5"}, "two whole numbers"),
        ({"nonnegative": "no"}, "nonnegative must be True or False, got 'no'"),
        ({"device": "tpu"}, "device must be"),
    ],
)
def test_options_are_checked(options, message):
    movie, stat, _ = crossing()
    with pytest.raises(ValueError, match=message):
        fit(movie, stat, **options)


def test_other_words_and_movies_are_told():
    movie, stat, _ = crossing()
    with pytest.raises(TypeError, match="did you mean nonnegative"):
        fit(movie, stat, non_negative=True)
    with pytest.raises(ValueError, match="movie"):
        fit(movie[:, 1:], stat)


def test_kernels_are_the_same_from_frame_to_frame():
    rng = np.random.default_rng(0)
    half = rng.normal(size=(9, 9))
    gram = half @ half.T + np.eye(9)
    pivots = np.linalg.cholesky(gram)
    d, lower = np.diag(pivots) ** 2, pivots / np.diag(pivots)
    column, row = np.triu_indices(9, 1)
    order = rng.permutation(9)
    start = np.concatenate([[0], np.cumsum(np.arange(8, -1, -1))])
    b = rng.normal(size=(9, 130))
    x = np.empty_like(b)
    x[order] = b
    equations_cpu.solve(order, start, order[row], lower[row, column], d, x)
    np.testing.assert_allclose(x[order], np.linalg.solve(gram, b), rtol=1e-9)


def test_one_photon_rois_that_share_all_their_pixels_have_traces():
    z = np.load(Path(__file__).parents[1] / "data" / "pynapple_a0662_1p.npz")
    columns = ("ypix", "xpix", "lam", "overlap")
    ends = zip(z["roi_offsets"][:-1], z["roi_offsets"][1:], strict=True)
    stat = [{name: z[name][start:stop] for name in columns} for start, stop in ends]
    none_free = np.array([roi["overlap"].all() for roi in stat])
    assert none_free.sum() == 47
    frames = np.random.default_rng(0).integers(0, 500, (2, 608, 608)).astype(np.int16)
    movie = xr.DataArray(frames, dims=("time", "y", "x"))
    ds = xs2p.demix(movie, xs2p.rois_from_stat(stat, (608, 608)))
    assert (ds.status == "ok").all() and not ds.Fc.isnull().any() and ds.vif.max() < 2
    assert (ds.Fc[none_free].std("time") > 0).all()
