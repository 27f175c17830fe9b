"""Real recordings: stored results of suite2p come out again."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from loaders import DATA, stat_of

import xs2p
from xs2p import suite2p

FOLDERS = ["nape_ofc_vta_2p", "pynapple_a0662_1p"]


def load(name):
    z = np.load(DATA / f"{name}.npz")
    stat = stat_of(z, z["roi_offsets"])
    shape = int(z["ops_Ly"]), int(z["ops_Lx"])
    return z, stat, shape


def corrected(z):
    return z["F"] - np.float32(z["ops_neucoeff"]) * z["Fneu"]


@pytest.mark.parametrize("name", FOLDERS)
def test_stored_neuropil_masks(name):
    z, stat, shape = load(name)
    rois = xs2p.rois_from_stat(stat, shape)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        masks = xs2p.build_masks(rois)
    np.testing.assert_array_equal(masks.neuropil.indptr, z["neuropil_offsets"])
    np.testing.assert_array_equal(masks.neuropil.indices, z["neuropil_ipix"])
    _, neuropil = suite2p.create_masks(stat, *shape)
    np.testing.assert_array_equal(np.concatenate(neuropil), z["neuropil_ipix"])
    # Rows of zeros in the stored F are the ROIs without a pixel of their own.
    empty = ~z["F"].any(axis=1)
    np.testing.assert_array_equal(masks.rois.status == "no_cell_pixels", empty)
    said = " ".join(str(w.message) for w in caught)
    if name == "pynapple_a0662_1p":
        assert empty.sum() == 47 and "47 of 219 ROIs lack a mask" in said
        assert "stored overlap flags of" in said and "recompute_overlap(rois)" in said
        assert xs2p.recompute_overlap(rois).overlap.sum() == 8381 < rois.overlap.sum() == 15408


@pytest.mark.parametrize("name", FOLDERS)
def test_stored_statistics(name):
    z, _, _ = load(name)
    Fc = xr.DataArray(corrected(z), dims=("roi", "time")).chunk(roi=20)
    np.testing.assert_allclose(xs2p.std(Fc), z["std"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(xs2p.skew(Fc), z["skew"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("chunks", [None, {"roi": 17}], ids=str)
@pytest.mark.parametrize("name", FOLDERS)
def test_stored_spikes_bit_for_bit(name, chunks):
    z, _, _ = load(name)
    attrs = {"fs": z["ops_fs"].item(), "tau": z["ops_tau"].item()}
    Fc = xr.DataArray(corrected(z), dims=("roi", "time"), attrs=attrs)
    Fc = Fc if chunks is None else Fc.chunk(chunks)
    options = {f"{k}_baseline": z[f"ops_{k}_baseline"].item() for k in ("win", "sig")}
    legacy = Fc.s2p.preprocess("maximin_legacy", **options)
    spks = legacy.assign_attrs(tau=attrs["tau"]).s2p.deconvolve()
    np.testing.assert_array_equal(spks, z["spks"])
    today = Fc.s2p.preprocess("maximin", **options).s2p.deconvolve(tau=attrs["tau"])
    assert not np.array_equal(today, z["spks"])
    assert np.corrcoef(today.values.ravel(), z["spks"].ravel())[0, 1] > 0.99


def assert_equals_oracle(ds, oracle):
    """F, Fneu, baselined Fc and spks within tolerance; NaN where the oracle has no mask."""
    missing = (ds.status != "ok").values
    assert not oracle["F"][missing].any()
    expected = {
        "F": oracle["F"],
        "Fneu": oracle["Fneu"],
        "baselined": oracle["Fc_baselined"],
        "spks": oracle["spks"],
    }
    actual = ds.assign(baselined=ds.Fc - ds.F0)
    for name, values in expected.items():
        ok = slice(None) if name == "Fneu" else ~missing
        np.testing.assert_allclose(
            actual[name].values[ok], values[ok], rtol=1e-4, atol=1e-2, err_msg=name
        )
        if name != "Fneu":
            assert np.isnan(actual[name].values[missing]).all()


def quiet_extract(movie, rois, **options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ROIs lack a mask.*")
        return movie.s2p.extract(rois, **options)


@pytest.mark.parametrize("chunks", [{"time": 100}, {"time": 73, "y": 40}, None], ids=str)
def test_sample_movie_equals_suite2p(chunks):
    oracle = np.load(DATA / "thunder_oracle.npz")
    movie = xs2p.sample_movie(chunks=None)
    movie = movie if chunks is None else movie.chunk(chunks)
    ds = quiet_extract(movie, xs2p.sample_rois(), tau=oracle["tau"].item()).compute()
    assert_equals_oracle(ds, oracle)
    np.testing.assert_array_equal(ds.time, xs2p.sample_movie().time)


def test_large_movie_equals_suite2p():
    """The GPL recording that cannot be shipped: name its folder to run this."""
    folder = os.environ.get("XS2P_TEST_MOVIE_2000X128X128")
    if not folder:
        pytest.skip("XS2P_TEST_MOVIE_2000X128X128 names no folder with the recording")
    oracle = np.load(Path(folder) / "oracle_suite2p_1.1.0.npz")
    movie = xs2p.open_movie(Path(folder) / "sample_mouse2p_image.tiff", fs=30.0, chunks=300)
    movie = (movie // 2).astype("int16").assign_attrs(movie.attrs)
    rois = xs2p.rois_from_stat(stat_of(oracle, oracle["roi_offsets"]), (128, 128))
    ds = quiet_extract(movie, rois, tau=oracle["tau"].item()).compute()
    assert_equals_oracle(ds, oracle)


def test_a_folder_says_what_made_its_spikes():
    ds = xs2p.read_suite2p(DATA / "suite2p-folder-2p")
    Fc = ds.F - np.float32(ds.attrs["neuropil_coefficient"]) * ds.Fneu
    corrected = Fc.s2p.preprocess(ds.attrs["baseline"], fs=ds.attrs["fs"])
    spks = corrected.s2p.deconvolve(tau=ds.attrs["tau"])
    np.testing.assert_array_equal(spks, ds.spks)
