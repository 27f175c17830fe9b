"""xs2p.quality: each measure against a naive one, in any chunks, of frames and segments."""

from __future__ import annotations

import re
from pathlib import Path

import naive_quality as naive
import numpy as np
import pytest
import scipy.signal
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

import xs2p
from xs2p.pipeline.quality import OF_TRACES
from xs2p.rois.inflation import free_pixels, variance_inflation
from xs2p.rois.pixels import pixel_table, shared_pixels
from xs2p.testing import raise_if_dask_computes, time_chunks
from xs2p.traces import measures

FS, N, R = 10.0, 4500, 0.7
TRACES = ("F", "Fneu", "Fc", "F0", "dFF")
LABELS = np.repeat([3, 7, 1], [1200, 2900, 400])


def roi_set():
    """Four ROIs of which three overlap, the last by itself."""
    boxes = [(0, 0, 4, 4), (2, 2, 6, 5), (5, 3, 8, 9), (12, 12, 15, 15)]
    rng, stat = np.random.default_rng(0), []
    for top, left, bottom, right in boxes:
        ypix, xpix = (i.ravel() for i in np.mgrid[top:bottom, left:right])
        stat.append({"ypix": ypix, "xpix": xpix, "lam": rng.random(ypix.size) + 0.2})
    return xs2p.rois_from_stat(stat, (16, 16))


def made(valid=None, segment=None, polarity=1, n_frames=N):
    """Traces of the four ROIs, the third darker than its neuropil."""
    rng = np.random.default_rng(1)
    events = scipy.signal.lfilter([1], [1, -0.95], rng.poisson(0.01, (4, n_frames)))
    light = np.array([100, 300, 4, 50])[:, None] * np.linspace(1, 0.8, n_frames)
    Fneu = 40 + scipy.signal.lfilter([1], [1, -0.9], rng.normal(size=(4, n_frames)))
    F = light + polarity * 8 * events + 0.8 * Fneu + rng.normal(size=(4, n_frames)) - 26
    arrays = {"F": F, "Fneu": Fneu, "Fc": F - R * Fneu, "F0": light + 0.1 * Fneu - 26}
    arrays["dFF"] = polarity * (arrays["Fc"] - arrays["F0"]) / 60
    of_light = {"fs": FS, "units": "counts"}
    attrs = {n: {**of_light, "neuropil_coefficient": R} for n in ("Fc", "F0", "dFF")}
    if polarity == -1:
        attrs["F0"]["polarity"] = attrs["dFF"]["polarity"] = -1
    ds = roi_set().assign(
        {
            name: (("roi", "time"), values.astype(np.float32), attrs.get(name, of_light))
            for name, values in arrays.items()
        }
    )
    coords = {"time": ("time", np.arange(n_frames) / FS, {"units": "s"})}
    if valid is not None:
        coords["valid"] = (("roi", "time")[-valid.ndim :], valid)
    if segment is not None:
        coords["segment"] = ("time", segment)
    return ds.assign_coords(coords)


def holes(seed, by_roi=False):
    rng = np.random.default_rng(seed)
    valid = rng.random((4, N) if by_roi else N) > 0.002
    valid[..., 700:760] = False
    return valid


def check(ds, found, polarity=1):
    """Compare with the naive measures of the same frames."""
    valid = ds["valid"].values if "valid" in ds.coords else np.ones(N, bool)
    segment = ds["segment"].values if "segment" in ds.coords else np.zeros(N)
    arrays = {name: np.where(valid, ds[name].values, np.nan) for name in TRACES}
    expected = naive.measures(arrays, segment, FS, R, polarity)
    for name, values in expected.items():
        assert np.isfinite(values).sum() >= 3, name
        np.testing.assert_allclose(found[name], values, rtol=2e-5, atol=1e-6, err_msg=name)
    assert set(found) == {*expected, "snr", "free_pixels", "free_share", "vif"}
    np.testing.assert_array_equal(found["snr"], xs2p.snr(ds["Fc"]))


@pytest.mark.parametrize("polarity", [1, -1])
def test_each_measure_is_its_naive_version(polarity):
    ds = made(polarity=polarity)
    found = xs2p.quality(ds)
    check(ds, found, polarity)
    # What goes down is an event where the indicator darkens.
    assert (found.snr_events > 8).all() and found["skew"][2] > 1
    assert found.attrs == {} and list(found.coords) == ["roi"]


@pytest.mark.parametrize("by_roi", [False, True])
def test_frames_that_do_not_count_and_borders_of_segments(by_roi):
    ds = made(holes(0, by_roi), LABELS)
    ds["Fneu"][1, 1000:1400] = np.nan
    check(ds, ds.s2p.quality())
    holed = ds.assign({name: ds[name].where(ds.valid) for name in TRACES}).drop_vars("valid")
    xr.testing.assert_identical(ds.s2p.quality(), holed.s2p.quality())


@settings(max_examples=6)
@given(chunks=time_chunks(N), roi=st.sampled_from([-1, 1, 3]), seed=st.integers(0, 99))
def test_chunks_change_no_bit(chunks, roi, seed):
    ds = made(holes(seed, by_roi=seed % 2 == 0), LABELS)
    whole, parts = xs2p.quality(ds), xs2p.quality(ds, by_segment=True)
    cut = ds.assign({name: ds[name].chunk(time=chunks, roi=roi) for name in TRACES})
    with raise_if_dask_computes():
        lazy, lazy_parts = xs2p.quality(cut), xs2p.quality(cut, by_segment=True)
    assert all(lazy[name].chunks is not None for name in OF_TRACES)
    xr.testing.assert_identical(lazy.compute(), whole)
    xr.testing.assert_identical(lazy_parts.compute(), parts)


@given(chunks=time_chunks(9000))
def test_chunks_change_no_bit_of_a_mean(chunks):
    F = xr.DataArray(np.random.default_rng(0).normal(size=(20, 9000)), dims=("roi", "time"))
    np.testing.assert_array_equal(measures.mean(F.chunk(time=chunks)), measures.mean(F))


@pytest.mark.parametrize("chunk", [None, 800])
def test_of_each_segment_is_as_of_the_parts(chunk):
    ds = made(holes(1), LABELS)
    ds = ds if chunk is None else ds.chunk(time=chunk)
    found = xs2p.quality(ds, by_segment=True)
    assert found.noise.dims == ("segment", "roi") and found.vif.dims == ("roi",)
    assert found.segment.values.tolist() == [3, 7, 1]
    for label in (3, 7, 1):
        part = ds.isel(time=np.flatnonzero(LABELS == label)).drop_vars("segment")
        alone = xs2p.quality(part)
        xr.testing.assert_identical(found.sel(segment=label, drop=True).compute(), alone.compute())
    rows = found.to_dataframe()
    assert rows.index.names == ["segment", "roi"] and len(rows) == 12


def test_the_noise_level_is_cascades():
    """As github.com/HelmchenLabSoftware/Cascade has it in cascade2p/utils.py."""
    dFF = made().dFF
    cascade = np.nanmedian(np.abs(np.diff(dFF.values, axis=-1)), axis=-1) / np.sqrt(FS) * 100
    np.testing.assert_allclose(xs2p.quality(made()).noise_level, cascade, rtol=1e-6)


def test_white_noise_of_1_is_1():
    F = xr.DataArray(np.random.default_rng(0).normal(size=(8, 100_000)), dims=("roi", "time"))
    np.testing.assert_allclose(measures.noise_psd(F, "cpu"), 1, atol=0.01)
    np.testing.assert_allclose(xs2p.noise(F, fs=30.0), 1, atol=0.02)
    # One slow wave, ten times as large, is no noise.
    slow = F + 10 * np.sin(2 * np.pi * np.arange(100_000) / 50)
    np.testing.assert_allclose(measures.noise_psd(slow, "cpu"), 1, atol=0.01)


@pytest.mark.parametrize("n_frames", [8, 9, 100, 255, 256, 257, 1000])
def test_the_spectrum_is_welchs(n_frames):
    F = xr.DataArray(np.random.default_rng(0).normal(size=(3, n_frames)), dims=("roi", "time"))
    f, power = scipy.signal.welch(F.values, nperseg=min(n_frames, 256), fs=FS)
    if n_frames % 2 == 0 or n_frames > 256:
        power[:, -1] *= 2
    expected = np.sqrt(power[:, f >= FS / 4].mean(axis=1) * FS / 2)
    np.testing.assert_allclose(measures.noise_psd(F, "cpu"), expected, rtol=1e-6)


def test_where_no_window_is_left_there_is_no_spectrum():
    F = np.random.default_rng(0).normal(size=(2, 1000))
    F[1, ::200] = np.nan  # windows of 256 frames hold one of them each, those of 128 do not
    found = measures.noise_psd(xr.DataArray(F, dims=("roi", "time")), "cpu")
    expected = naive.noise_psd(F, np.zeros(1000))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(found, 1, atol=0.1)
    F[1, ::5] = np.nan
    found = measures.noise_psd(xr.DataArray(F, dims=("roi", "time")), "cpu")
    assert np.isnan(found).values.tolist() == [False, True]
    short = xr.DataArray(F[:, :7], dims=("roi", "time"))
    assert np.isnan(measures.noise_psd(short, "cpu")).all()


def test_what_is_not_there_is_left_out():
    ds, all_of_it = made(), set(xs2p.quality(made()))
    without = {
        "Fneu": {"neuropil_ratio", "neuropil_corr"},
        "F": {"neuropil_ratio"},
        "F0": {"snr_events", "F0_drift"},
        "Fc": {"snr_events", "neuropil_corr"},
        "lam": {"free_pixels", "free_share", "vif"},
    }
    for name, lost in without.items():
        assert all_of_it - set(xs2p.quality(ds.drop_vars(name))) == lost, name
    assert "noise_level" not in xs2p.quality(ds.drop_vars(["dFF", "F0"]))
    assert set(xs2p.quality(roi_set())) == without["lam"]
    of_F = xs2p.quality(ds.drop_vars(["Fc", "dFF"]))
    np.testing.assert_array_equal(of_F["std"], xs2p.std(ds.F))
    assert "of F from fs/4" in of_F.noise_psd.attrs["description"]


def test_without_dff_it_is_of_what_dff_makes():
    ds = made(segment=LABELS)
    expected = xs2p.quality(ds.assign(dFF=xs2p.dff(ds.Fc, ds.F0)))
    xr.testing.assert_identical(xs2p.quality(ds.drop_vars("dFF")), expected)


def test_a_dark_roi_has_no_share_of_light():
    ds = made()
    ds["F"][0] -= 1000.0
    ds["F0"][1] = 0.5  # below the noise
    found = xs2p.quality(ds)
    assert np.isnan(found.neuropil_ratio).values.tolist() == [True, False, False, False]
    assert np.isnan(found.F0_drift).values[1] and np.isfinite(found.F0_drift).values[[0, 3]].all()


def test_an_roi_without_trace_is_nan():
    ds = made()
    for name in TRACES:
        ds[name][1] = np.nan
    ds["Fc"][3] = 2.5  # constant
    found = xs2p.quality(ds)
    assert found.valid_share.values.tolist() == [1, 0, 1, 1]
    for name in set(OF_TRACES) - {"valid_share"}:
        assert np.isnan(found[name][1]), name
    for name in ("snr", "skew", "snr_events", "neuropil_corr"):
        assert np.isnan(found[name][3]), name
    none = xs2p.quality(ds.isel(roi=[]))
    assert set(none) == set(found) and all(v.size == 0 for v in none.values())


@pytest.mark.parametrize("n_frames", [1, 2, 9])
def test_few_frames(n_frames):
    ds = made(n_frames=n_frames)
    found = xs2p.quality(ds)
    assert np.isnan(found.noise_level).all() == (n_frames == 1)
    xr.testing.assert_identical(xs2p.quality(ds.chunk(time=1)).compute(), found)


def test_channels():
    ds = made()
    two = ds.assign(
        {n: xr.concat([ds[n], 2 * ds[n]], "channel").assign_attrs(ds[n].attrs) for n in TRACES}
    ).assign_coords(channel=["green", "red"])
    found = xs2p.quality(two)
    assert found.noise.dims == ("channel", "roi") and found.vif.dims == ("roi",)
    green = found.sel(channel="green", drop=True)
    xr.testing.assert_identical(green, xs2p.quality(ds))
    table = two.assign(found).s2p.to_dataframe("rois")
    assert len(table) == 8
    red = table[table.channel == "red"]
    np.testing.assert_array_equal(red.noise, 2 * table[table.channel == "green"].noise)
    np.testing.assert_array_equal(red.vif, found.vif)


def test_each_has_a_name_a_unit_and_how_to_read_it():
    found = xs2p.quality(made())
    for name, variable in found.data_vars.items():
        assert {"long_name", "units", "description"} <= set(variable.attrs), name
        assert variable.attrs["description"].replace("et al. ", "").find(". ") == -1, name
    units = {name: variable.attrs["units"] for name, variable in found.data_vars.items()}
    assert units["noise"] == units["noise_psd"] == units["std"] == "counts"
    assert units["noise_level"] == units["free_pixels"] == "1"


def test_the_guide_tells_of_each():
    guide = (Path(__file__).parents[2] / "docs" / "guide.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \|", guide, re.M)
    assert {name for name, _ in rows} == set(xs2p.quality(made()))


def test_measures_are_columns_of_the_table():
    ds = made()
    found = ds.s2p.quality()
    for whole in (ds.assign(found), ds.merge(found), ds.chunk(time=900).assign(found)):
        table = whole.s2p.to_dataframe("rois")
        for name, values in found.data_vars.items():
            np.testing.assert_array_equal(table[name], values, err_msg=name)
        assert table.attrs["units"]["noise_level"] == "1"
    known = ds.assign_coords(snr=("roi", np.arange(4.0)))  # a coordinate, as of a threshold
    assert known.assign(found).s2p.to_dataframe("rois").snr.tolist() == found.snr.values.tolist()


def test_reprocess_leaves_out_what_was_of_other_traces():
    ds = xs2p.sample_movie()[:200].s2p.extract(xs2p.sample_rois(), tau=1.0)
    ds = ds.assign(ds.s2p.quality())
    with pytest.warns(UserWarning, match=r"noise, noise_psd, .*F0_drift: left out.*s2p.quality"):
        new = ds.s2p.reprocess(neuropil_coefficient=0.3)
    assert {"snr", "skew", "std", "vif", "free_pixels"} <= set(new.variables)
    assert not {"noise", "noise_level", "snr_events", "neuropil_corr"} & set(new.variables)
    np.testing.assert_array_equal(new["skew"], xs2p.skew(new.Fc))
    assert set(ds.s2p.reprocess(tau=0.5)) == set(ds)  # no trace that they are of is another
    ds = made(polarity=-1).drop_vars("dFF")
    with pytest.warns(UserWarning, match="F0_drift, skew: left out"):
        ds.assign(xs2p.quality(ds)).s2p.reprocess(baseline="prctile")


WRONG = {
    "no Dataset": (lambda ds: xs2p.quality(ds.Fc), "takes a Dataset.*xs2p.snr"),
    "no traces": (lambda ds: xs2p.quality(ds[["F0"]]), r"needs Fc or F.*xs2p.extract\(movie"),
    "flag": (lambda ds: ds.s2p.quality(by_segment="no"), "by_segment must be True or False"),
    "fs": (lambda ds: xs2p.quality(ds, fs=-1.0), "fs must be a positive number"),
    "no fs": (
        lambda ds: xs2p.quality(ds.drop_vars("time").drop_attrs(deep=True)),
        "attrs",
    ),
    "no frames": (lambda ds: xs2p.quality(ds.isel(time=[])), "at least one frame"),
    "unfinished": (
        lambda ds: xs2p.quality(ds.assign_attrs(xs2p_unfinished="half")),
        "not complete: half",
    ),
}


@pytest.mark.filterwarnings("ignore:these traces are from a store")
@pytest.mark.parametrize("what", WRONG)
def test_errors(what):
    call, message = WRONG[what]
    with raise_if_dask_computes(), pytest.raises(ValueError, match=message):
        call(made(n_frames=50).chunk(time=20))


# Pixels


def grid_rois(n, seed, shape=(40, 40), size=5):
    """Random boxes with random weights."""
    rng, stat = np.random.default_rng(seed), []
    for _ in range(n):
        height, width = rng.integers(1, size + 1, 2)
        top, left = rng.integers(0, shape[0] - height + 1), rng.integers(0, shape[1] - width + 1)
        ypix, xpix = (i.ravel() for i in np.mgrid[top : top + height, left : left + width])
        stat.append({"ypix": ypix, "xpix": xpix, "lam": rng.random(ypix.size) + 0.05})
    return xs2p.rois_from_stat(stat, shape)


@settings(max_examples=25)
@given(n=st.integers(1, 60), seed=st.integers(0, 999), planes=st.integers(1, 3))
def test_variance_inflation_is_of_the_inverse(n, seed, planes):
    """Groups of all sizes; where two boxes are nearly the same pixel, numbers are large."""
    table = pixel_table(grid_rois(n, seed))
    plane = np.random.default_rng(seed).integers(0, planes, n)
    found = variance_inflation(table, plane)
    footprints = naive.footprints(table, plane)
    conditioned = np.linalg.cond(footprints.T @ footprints) < 1e4
    if conditioned:
        np.testing.assert_allclose(found, naive.vif(table, plane), rtol=1e-6)
    shared = np.bincount(table.owner, shared_pixels(table, plane), n) > 0
    assert (found[~shared] == 1).all() and (found >= 1).all()


def test_a_group_of_hundreds_is_solved_too():
    table = pixel_table(grid_rois(400, 0, (60, 60), 9))
    found, expected = variance_inflation(table), naive.vif(table)
    assert (found > 1).mean() > 0.95
    np.testing.assert_allclose(found, expected, rtol=1e-7)


def test_a_long_chain_whose_fill_is_too_small_for_a_number():
    """A row of ROIs, each beside the next, and one across all."""
    n = 300
    stat = [{"ypix": [0, 0], "xpix": [k, k + 1], "lam": [1.0, 1e-9]} for k in range(n)]
    stat.append({"ypix": [0, 0, 1], "xpix": [0, n, 0], "lam": [1.0, 1.0, 1.0]})
    table = pixel_table(xs2p.rois_from_stat(stat, (2, n + 1)))
    np.testing.assert_allclose(variance_inflation(table), naive.vif(table), rtol=1e-7)


def test_rois_that_others_add_up_to_are_infinite():
    a, b = {"ypix": [0, 0], "xpix": [0, 1]}, {"ypix": [1, 1], "xpix": [0, 1]}
    both = {key: a[key] + b[key] for key in a}
    alone = {"ypix": [3], "xpix": [3]}
    stat = [{**roi, "lam": np.ones(len(roi["ypix"]))} for roi in (a, both, b, alone)]
    rois = xs2p.rois_from_stat(stat, (4, 4))
    assert rois.s2p.quality().vif.values.tolist() == [np.inf, np.inf, np.inf, 1]
    same = xs2p.rois_from_stat([stat[0], {**stat[0], "lam": [0.3, 0.3]}, stat[2]], (4, 4))
    assert same.s2p.quality().vif.values.tolist() == [np.inf, np.inf, 1]
    # In different planes nothing is shared.
    apart = same.assign_coords(plane=("roi", [0, 1, 0]))
    assert apart.s2p.quality().vif.values.tolist() == [1, 1, 1]
    assert rois.isel(roi=[0, 2]).s2p.quality().vif.values.tolist() == [1, 1]


def test_an_roi_without_weight_has_no_inflation():
    table = pixel_table(grid_rois(3, 0))
    lam = np.where(table.owner == 1, 0.0, table.lam)
    assert np.isnan(variance_inflation(table._replace(lam=lam))).tolist() == [False, True, False]
    none = table._replace(lam=np.zeros(lam.size))
    assert np.isnan(variance_inflation(none)).all()


def test_free_pixels_go_by_the_flag_that_cell_masks_go_by():
    rois = roi_set()
    found = rois.s2p.quality()
    np.testing.assert_allclose(found.free_share, 1 - rois.frac_overlap)
    assert found.free_pixels.values.tolist() == [12, 6, 16, 9]
    some = rois.isel(roi=[0, 3])  # traces of which were of the pixels that were free then
    assert some.s2p.quality().free_pixels.values.tolist() == [12, 9]
    anew = some.s2p.recompute_overlap().s2p.quality()
    assert anew.free_pixels.values.tolist() == [16, 9]
    assert free_pixels(pixel_table(rois)).dtype == np.int64
