"""The neuropil coefficient of each ROI: naive, in any chunks, by segments, and in every job."""

from __future__ import annotations

import naive_neuropil as naive
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from loaders import DATA
from naive_rolling import rolling_percentile

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate, time_chunks

FS, N = 1.0, 300
WINDOW = 61
METHODS = ("binned", "mutualinfo")
TRUE = np.array([0.3, 0.7, 1.0, 1.4])


def traces(n_frames=N, seed=0, ratios=TRUE, noise=0.5):
    """F of cells that fire rarely over so much of a neuropil that goes up and down."""
    rng = np.random.default_rng(seed)
    shape = (len(ratios), n_frames)
    steps = rng.normal(0, 1, shape)
    Fneu = 100 + 10 * np.apply_along_axis(np.convolve, 1, steps, np.ones(8) / 3, "same")
    events = 60 * (rng.random(shape) < 0.03)
    cell = np.apply_along_axis(np.convolve, 1, events, np.exp(-np.arange(9) / 3))[:, :n_frames]
    F = 50 + cell + np.asarray(ratios)[:, None] * Fneu + rng.normal(0, noise, shape)
    labels = {"roi": np.arange(10, 10 + len(ratios))}
    return tuple(
        xr.DataArray(x.astype("f4"), labels, ("roi", "time"), attrs={"fs": FS}) for x in (F, Fneu)
    )


@settings(max_examples=10, deadline=None)
@given(
    chunks=time_chunks(N),
    roi=st.sampled_from([-1, 1, 3]),
    cut=st.integers(1, N - 1),
    method=st.sampled_from(METHODS),
)
def test_estimates_are_naive_in_any_chunks(chunks, roi, cut, method):
    F, Fneu = traces(seed=cut)
    valid = np.random.default_rng(cut).random(N) > 0.2
    frames = {"valid": ("time", valid), "segment": ("time", np.arange(N) >= cut)}
    F, Fneu = F.assign_coords(frames), Fneu.assign_coords(frames)
    seen = [np.where(valid, x.values, np.nan) for x in (F, Fneu)]
    if method == "binned":
        # Windows stay within a segment, and one line is drawn through all of them.
        for x in seen:
            for part in (np.s_[:, :cut], np.s_[:, cut:]):
                x[part] = x[part] - rolling_percentile(x[part], WINDOW, 5)
    find = naive.slope if method == "binned" else naive.mutualinfo
    expected = np.array([find(f, n) for f, n in zip(*seen, strict=True)])
    whole = xs2p.neuropil_coefficient(F, Fneu, method)
    assert whole.dims == ("roi",) and list(whole.roi) == [10, 11, 12, 13]
    # A sample at the border of two bins can be in either: of 120 cuts that is so of one.
    np.testing.assert_allclose(whole.raw, expected, rtol=1e-4, atol=1e-3)
    lazy = [x.chunk(time=chunks, roi=roi) for x in (F, Fneu)]
    with raise_if_dask_computes():
        found = xs2p.neuropil_coefficient(*lazy, method)
    assert found.chunks is not None
    xr.testing.assert_identical(found.compute(), whole)


def test_naive_versions_find_what_was_put_in():
    F, Fneu = traces(3000, ratios=(0.3, 0.9))
    for trace, around, r in zip(F.values, Fneu.values, (0.3, 0.9), strict=True):
        assert abs(naive.binned(trace, around, 5 * WINDOW) - r) < 0.06
        assert abs(naive.mutualinfo(trace, around) - r) < 0.06


def test_known_coefficients_are_found():
    F, Fneu = traces(4000)
    for method in METHODS:
        found = xs2p.neuropil_coefficient(F, Fneu, method, fs=5.0)
        assert np.abs(found.raw - TRUE).max() < 0.08, method
        assert found.attrs["method"] == method


def test_known_coefficients_of_real_neuropil_are_found():
    """As `benchmarks.science` measures it at 30 Hz; this is a recording that can be shipped."""
    z, rng = np.load(DATA / "pynapple_a0662_1p.npz"), np.random.default_rng(0)
    F, Fneu, fs = z["F"], z["Fneu"], float(z["ops_fs"])
    kept = np.flatnonzero(F.any(axis=1))
    F, Fneu = F[kept], Fneu[kept]
    spikes = (rng.random(Fneu.shape) < 0.2 / fs).astype(float)
    calcium = np.apply_along_axis(np.convolve, 1, spikes, np.exp(-np.arange(24) / (0.7 * fs)))
    light = np.median(Fneu, axis=1)[:, None]
    sigma = 1.4826 * np.median(np.abs(np.diff(F)), axis=1)[:, None] / np.sqrt(2)
    own = light * (0.5 + 0.3 * calcium[:, : F.shape[1]]) + sigma * rng.normal(0, 1, F.shape)
    ratios = rng.choice([0.3, 0.5, 0.7, 0.9], kept.size)
    both = own + ratios[:, None] * Fneu, Fneu
    for method in METHODS:
        some = (xr.DataArray(x.astype("f4"), dims=("roi", "time")) for x in both)
        raw = xs2p.neuropil_coefficient(*some, method, fs=fs).raw
        assert np.nanmedian(np.abs(raw - ratios)) <= 0.06, method
        # Of some there is nothing to be seen: neuropil of 0 but for a few frames.
        silent = np.percentile(Fneu, 90, axis=1) == 0
        assert 0 < silent.sum() < 10
        np.testing.assert_array_equal(raw.isnull(), silent if method == "binned" else False)


def test_what_is_clipped_replaced_and_not_found():
    F, Fneu = traces(2000, ratios=(-0.5, 0.4, 2.5, 0.6, 0.5))
    Fneu[4] = 3.0
    found = xs2p.neuropil_coefficient(F, Fneu)
    assert found.flag.values.tolist() == [1, 0, 1, 0, 4]
    np.testing.assert_allclose(found[[0, 2, 4]], [0, 2, 0.7])
    np.testing.assert_array_equal(found[[1, 3]], found.raw[[1, 3]])
    assert np.isnan(found.raw[4]) and found.raw[0] < 0 and found.raw[2] > 2
    words = xs2p.io.dataframe.flags_of(found.flag)
    assert words == [["clipped to 0 to 2"], [], ["clipped to 0 to 2"], [], ["no estimate"]]
    for ratios, mean in (((0.2, 0.4, 0.5, 0.6, 0.3, 1.3, 1.6), None), ((0.2, 1.3), 0.8)):
        some = traces(2000, ratios=ratios)
        found = xs2p.neuropil_coefficient(*some, "mutualinfo")
        below = found.raw < 1
        assert below.values.tolist() == [r < 1 for r in ratios]
        np.testing.assert_array_equal(found.flag, np.where(below, 0, 2))
        other = found.raw.values[below].mean() if mean is None else mean
        np.testing.assert_allclose(found, np.where(below, found.raw, other))
        lazy = xs2p.neuropil_coefficient(*(x.chunk(roi=2, time=99) for x in some), "mutualinfo")
        np.testing.assert_array_equal(lazy, found)
    empty = xs2p.neuropil_coefficient(F * np.nan, Fneu, "mutualinfo")
    assert (empty == 0.7).all() and (empty.flag == 4).all()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"method": "lasso"}, "method one of binned, mutualinfo; got 'lasso'"),
        ({"fs": -1}, "fs must be a positive number"),
        ({"Fneu": traces()[1][:2]}, "same ROIs and frames"),
        ({"Fneu": traces()[1].assign_coords(roi=range(4))}, "different labels of roi"),
        ({"F": traces()[0].values}, "takes a DataArray"),
    ],
)
def test_what_does_not_fit_is_told(change, told):
    F, Fneu = traces()
    with pytest.raises(ValueError, match=told):
        xs2p.neuropil_coefficient(**{"F": F, "Fneu": Fneu, **change})
    with pytest.raises(ValueError, match="fs is not known"):
        xs2p.neuropil_coefficient(F.drop_attrs(), Fneu)
    xs2p.neuropil_coefficient(F.drop_attrs(), Fneu, "mutualinfo")


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (30, 41), 240, fs=10.0, chunks=50)
    return movie, rois


OPTIONS = {"win_baseline": 5.0, "tau": 1.0, "dff": True}
THREE = ("neuropil_coefficient", "neuropil_coefficient_raw", "neuropil_flag")


@pytest.mark.parametrize("neuropil", ["full", "centred"])
@pytest.mark.parametrize("method", METHODS)
def test_extract_estimates_and_says_so(recording, tmp_path, method, neuropil):
    movie, rois = recording
    options = {**OPTIONS, "neuropil": neuropil}
    with raise_if_dask_computes():
        ds = movie.s2p.extract(rois, neuropil_coefficient=method, **options)
    assert set(THREE) <= set(ds.data_vars) and ds.neuropil_coefficient.chunks is not None
    assert "neuropil_coefficient" not in {*ds.attrs, *ds.Fc.attrs, *ds.dFF.attrs}
    ds = ds.compute()
    found = xs2p.neuropil_coefficient(ds.F, ds.Fneu, method)
    for name, array in zip(THREE, (found, found.raw, found.flag), strict=True):
        np.testing.assert_array_equal(ds[name], array)
    r = found.astype("f4").reset_coords(drop=True)
    around = ds.Fneu - (ds.Fneu.median("time") if neuropil == "centred" else 0)
    np.testing.assert_allclose(ds.Fc, ds.F - r * around, rtol=1e-6, atol=1e-4)
    # As given: the same numbers, and a coordinate.
    given_ = movie.s2p.extract(rois, neuropil_coefficient=found, **options)
    assert given_.neuropil_coefficient.dims == ("roi",)
    assert "neuropil_coefficient" in given_.Fc.coords and "neuropil_flag" not in given_.variables
    for name in ("Fc", "F0", "spks", "dFF", "dff_flag"):
        np.testing.assert_array_equal(given_[name], ds[name], err_msg=name)
    stored = xs2p.extract_to_zarr(
        movie, rois, tmp_path / "a.zarr", neuropil_coefficient=method, progress=False, **options
    )
    for name, array in ds.data_vars.items():
        np.testing.assert_array_equal(stored[name], array, err_msg=str(name))
    assert set(THREE) <= set(stored.data_vars)
    assert stored.neuropil_coefficient.attrs == ds.neuropil_coefficient.attrs


def check_same(found, expected):
    xr.testing.assert_allclose(found.compute(), expected.compute(), rtol=0, atol=0)
    assert found.attrs == expected.attrs
    for name in expected.variables:
        assert found[name].attrs == expected[name].attrs, name
        assert (name in found.coords) == (name in expected.coords), name


def test_reprocess_goes_from_any_to_any(recording):
    movie, rois = recording
    given_ = xr.DataArray(np.linspace(0.2, 0.9, 6), dims="roi", coords={"roi": rois.roi})
    ways = [{"neuropil_coefficient": r} for r in (0.7, given_, "binned", "mutualinfo")]
    made = [movie.s2p.extract(rois, **OPTIONS, **way) for way in ways]
    for n, before in enumerate(made):
        for way, after in zip(ways, made, strict=True):
            with raise_if_dask_computes():
                found = before.s2p.reprocess(**way)
            check_same(found, after)
        # What is not said stays as it is, whatever it was.
        same = before.s2p.reprocess(tau=0.5)
        assert same.Fc.variable._data is before.Fc.variable._data
        with raise_if_dask_computes():
            centred = before.s2p.reprocess(neuropil="centred")
        check_same(centred, movie.s2p.extract(rois, neuropil="centred", **OPTIONS, **ways[n]))
    # Of other frames an estimate is another one, and what was given stays.
    valid = np.arange(240) >= 60
    for n in (1, 2):
        anew = made[n].s2p.reprocess(valid=valid)
        check_same(anew, movie.s2p.extract(rois, valid=valid, **OPTIONS, **ways[n]))
    assert made[1].s2p.reprocess(neuropil_coefficient=given_).Fc.variable._data is (
        made[1].Fc.variable._data
    )


def test_what_does_not_fit_a_job_is_told(recording):
    movie, rois = recording
    for value, told in (
        ("much", "must be a number, a DataArray over roi, or one of binned.*'much'"),
        (xr.DataArray([0.5, 0.7], dims="roi"), "one value per roi"),
        (xr.DataArray([np.nan] * 6, dims="roi"), "every neuropil_coefficient must be a finite"),
        (xr.DataArray([0.5] * 6, {"roi": range(1, 7)}, ("roi",)), "labels of neuropil_coefficient"),
    ):
        with pytest.raises(ValueError, match=told):
            movie.s2p.extract(rois, neuropil_coefficient=value)
    bare = movie.s2p.extract(rois, neuropil_extract=False, neuropil_coefficient="binned")
    assert not set(THREE) & set(bare.variables)
    with pytest.raises(ValueError, match="plays no part: ds has no Fneu"):
        bare.s2p.reprocess(neuropil_coefficient="binned")


def test_snr_threshold_and_channels(recording):
    movie, rois = recording
    given_ = xr.DataArray(np.linspace(0.2, 0.9, 6), dims="roi", coords={"roi": rois.roi})
    whole = movie.s2p.extract(rois, neuropil_coefficient=given_, **OPTIONS)
    limit = float(np.sort(xs2p.snr(whole.Fc).values)[2])
    with pytest.warns(UserWarning, match="3 of 6 ROIs"):
        some = movie.s2p.extract(rois, neuropil_coefficient=given_, snr_threshold=limit, **OPTIONS)
    np.testing.assert_array_equal(some.neuropil_coefficient, given_.sel(roi=some.roi))
    both = xr.concat([movie, movie[::-1].drop_vars("time")], "channel").assign_attrs(movie.attrs)
    both = both.assign_coords(time=movie.time)
    ds = both.s2p.extract(rois, neuropil_coefficient="binned").compute()
    assert ds.neuropil_coefficient.dims == ("channel", "roi")
    for n in range(2):
        alone = both.isel(channel=n).s2p.extract(rois, neuropil_coefficient="binned").compute()
        for name in ("Fc", *THREE):
            np.testing.assert_array_equal(ds[name].isel(channel=n), alone[name])


def test_others_cope(recording, tmp_path):
    movie, rois = recording
    ds = movie.s2p.extract(rois, neuropil_coefficient="binned", **OPTIONS)
    ratio = ds.neuropil_coefficient * ds.Fneu.median("time") / ds.F.median("time")
    np.testing.assert_allclose(xs2p.quality(ds).neuropil_ratio, ratio, rtol=1e-5)
    np.testing.assert_array_equal((ds.dff_flag & 4) > 0, ratio > 0.9)
    np.testing.assert_array_equal(ds.s2p.dff().dff_flag, ds.dff_flag)
    table = ds.s2p.to_dataframe("rois")
    np.testing.assert_array_equal(table.neuropil_coefficient, ds.neuropil_coefficient)
    with pytest.warns(UserWarning, match="neuropil coefficient of its own.*the median"):
        xs2p.write_suite2p(ds, tmp_path / "plane0")
    back = xs2p.read_suite2p(tmp_path / "plane0")
    median = float(ds.neuropil_coefficient.compute().median())
    np.testing.assert_allclose(back.spks.attrs["neuropil_coefficient"], median)
    np.testing.assert_allclose(back["skew"], xs2p.skew(ds.Fc), rtol=1e-4)
    ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
    again = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    check_same(again.s2p.reprocess(), ds)


def test_pictures_and_joined_recordings(recording):
    movie, rois = recording
    ds = movie.s2p.extract(rois, neuropil_coefficient="binned", **OPTIONS)
    ax = ds.s2p.plot_traces([0, 3])
    assert "c · Fneu (neuropil)" in [text.get_text() for text in ax.get_legend().get_texts()]
    pytest.importorskip("matplotlib.pyplot").close("all")
    bare = ds.drop_vars(["dFF", "noise", "dff_flag"])
    with (
        raise_if_dask_computes(),
        pytest.warns(UserWarning, match="neuropil_coefficient, .*differ"),
    ):
        both = xs2p.concat([bare, bare])
    assert not set(THREE) & set(both.variables)
    given_ = ds.neuropil_coefficient.compute()
    one = movie.s2p.extract(rois, neuropil_coefficient=given_, **OPTIONS).compute()
    both = xs2p.concat([one, one])
    np.testing.assert_array_equal(both.neuropil_coefficient, given_)


def test_nwb_keeps_the_coefficients(recording, tmp_path):
    pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    movie, rois = recording
    ds = movie.s2p.extract(rois, neuropil_coefficient="binned", **OPTIONS).compute()
    start = datetime(2024, 5, 1, tzinfo=UTC)
    xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=start)
    back = xs2p.read_nwb(tmp_path / "a.nwb")
    for name in THREE:
        np.testing.assert_array_equal(back[name], ds[name])
        assert back[name].attrs == ds[name].attrs and name in back.data_vars
    assert "neuropil_coefficient" not in back.s2p.reprocess(tau=0.5).attrs
    np.testing.assert_array_equal(back.s2p.reprocess(neuropil_coefficient="binned").Fc, ds.Fc)
