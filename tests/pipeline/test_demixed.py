"""Demixed traces go the way of all others: every step, the store, files, and back."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.testing import raise_if_dask_computes

OPTIONS = {"method": "demix", "tau": 1.0}


@pytest.fixture(scope="module")
def recording():
    return xs2p.sample_movie().isel(time=slice(0, 200)).compute(), xs2p.sample_rois()


@pytest.fixture(scope="module")
def ds(recording):
    return xs2p.extract(*recording, dff=True, **OPTIONS)


def test_all_steps_are_made_of_what_demix_gives(recording, ds):
    alone = xs2p.demix(*recording)
    for name in ("F", "Fneu", "Fc", "vif", "demix_flag", "status"):
        np.testing.assert_array_equal(ds[name], alone[name])
    np.testing.assert_array_equal(ds.Fc, ds.F - ds.Fneu)
    assert set(ds.data_vars) == {"F", "Fneu", "Fc", "F0", "spks", "dFF", "noise", "dff_flag"}
    for name in ("F", "Fneu", "Fc", "F0", "spks", "dFF"):
        assert ds[name].attrs["method"] == "demix" and ds[name].attrs["background"] == [5, 5]
    assert ds.attrs["method"] == "demix" and ds.attrs["neuropil_coefficient"] == 1.0
    assert "lam_percentile" not in ds.attrs
    assert "method" not in xs2p.extract(*recording).attrs


@pytest.mark.parametrize("chunks", [{"time": 33}, {"time": 64, "y": 30, "x": 50}])
def test_lazily_it_is_the_same(recording, ds, chunks):
    movie, rois = recording
    with raise_if_dask_computes():
        lazy = xs2p.extract(movie.chunk(chunks), rois, nonnegative=True, **OPTIONS)
    whole = xs2p.extract(movie, rois, nonnegative=True, **OPTIONS)
    assert lazy.attrs == whole.attrs and lazy.attrs["nonnegative"] == 1
    for name in whole.data_vars:
        np.testing.assert_allclose(lazy[name], whole[name], rtol=1e-4, atol=1e-2)


def test_options_that_are_given_are_used(recording):
    movie, rois = recording
    for options in ({"background": (2, 3)}, {"background": None}, {"nonnegative": True}):
        made = xs2p.extract(movie, rois, method="demix", **options)
        np.testing.assert_array_equal(made.F, xs2p.demix(movie, rois, **options).F)
    assert "Fneu" not in xs2p.extract(movie, rois, method="demix", background=None)


def test_a_second_channel_is_demixed_too(recording):
    movie, rois = recording
    made = xs2p.extract(movie, rois, movie_chan2=movie[::-1].drop_vars("time"), method="demix")
    np.testing.assert_array_equal(made.F_chan2, made.F[:, ::-1])
    np.testing.assert_array_equal(made.Fneu_chan2, made.Fneu[:, ::-1])


def test_noisy_rois_are_dropped_and_the_others_fitted_anew(recording):
    movie, rois = recording
    with pytest.warns(UserWarning, match="signal to noise"):
        made = xs2p.extract(movie, rois, method="demix", snr_threshold=0.3)
    assert 0 < made.sizes["roi"] < 98
    kept = xs2p.demix(movie, rois.sel(roi=made.roi.values))
    np.testing.assert_array_equal(made.F, kept.F)


def test_centred_takes_off_what_the_background_does(recording):
    movie, rois = recording
    made = xs2p.extract(movie, rois, method="demix", neuropil="centred", dark_offset=3.0)
    median = made.Fneu.median("time")
    np.testing.assert_allclose(made.Fc, made.F - 3 - (made.Fneu - median), atol=1e-3)


def test_later_steps_again_take_all_of_the_background_off(ds):
    again = ds.s2p.reprocess(baseline="prctile")
    np.testing.assert_array_equal(again.Fc, ds.Fc)
    bare = ds[["F", "Fneu"]].drop_attrs(deep=False).s2p.reprocess(baseline="constant")
    np.testing.assert_array_equal(bare.Fc, ds.Fc)
    assert bare.attrs["neuropil_coefficient"] == 1.0 and bare.attrs["method"] == "demix"
    same = ds.s2p.reprocess(neuropil_coefficient=1.0)
    np.testing.assert_array_equal(same.Fc, ds.Fc)
    for coefficient in (0.7, 0.0):
        with pytest.raises(ValueError, match="traces were demixed, and their Fneu is the"):
            ds.s2p.reprocess(neuropil_coefficient=coefficient)


def test_masks_of_an_roi_set_that_has_traces_say_nothing_of_demixing(recording, ds):
    masked = xs2p.extract(recording[0], ds)
    assert not {"vif", "demix_flag"} & set(masked.coords) and "method" not in masked.attrs
    assert "method" not in masked.s2p.reprocess(baseline="prctile").attrs
    again = xs2p.extract(recording[0], ds, **OPTIONS)
    np.testing.assert_array_equal(again.F, ds.F)


def test_a_store_is_of_its_method(recording, ds, tmp_path):
    movie, rois = recording
    path = tmp_path / "out.zarr"
    made = xs2p.extract_to_zarr(movie, rois, path, progress=False, **OPTIONS)
    for name in ("F", "Fneu", "Fc", "F0", "spks"):
        np.testing.assert_array_equal(made[name], ds[name])
    np.testing.assert_array_equal(made.vif, ds.vif)
    assert made.demix_flag.attrs == ds.demix_flag.attrs
    again = xs2p.extract_to_zarr(movie, rois, path, progress=False, resume=True, **OPTIONS)
    xr.testing.assert_identical(again, made)
    for other, name in (
        ({"background": (3, 3)}, "background"),
        ({"nonnegative": True}, "nonnegative"),
        ({"method": "masks"}, "method"),
    ):
        options = {**OPTIONS, **other}
        with pytest.raises(ValueError, match=name):
            xs2p.extract_to_zarr(movie, rois, path, progress=False, resume=True, **options)
    np.testing.assert_array_equal(made.s2p.reprocess(baseline="prctile").Fc, ds.Fc)


def test_nwb_and_suite2ps_folder_and_back(ds, tmp_path):
    pytest.importorskip("pynwb")
    start = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    about = {"session_start_time": start, "session_description": "-", "identifier": "-"}
    xs2p.write_nwb(ds, tmp_path / "out.nwb", **about)
    back = xs2p.read_nwb(tmp_path / "out.nwb")
    np.testing.assert_array_equal(back.Fc, ds.Fc)
    assert back.attrs["method"] == "demix" and list(back.attrs["background"]) == [5, 5]
    with pytest.raises(ValueError, match="traces were demixed"):
        back.s2p.reprocess(neuropil_coefficient=0.7)
    xs2p.write_suite2p(ds, tmp_path / "suite2p")
    folder = xs2p.read_suite2p(tmp_path / "suite2p")
    assert folder.attrs["neuropil_coefficient"] == 1.0
    np.testing.assert_allclose(
        folder.drop_vars("noise").s2p.reprocess(baseline="prctile").Fc, ds.Fc, rtol=1e-6
    )


def test_measures_and_pictures(ds):
    pytest.importorskip("matplotlib")
    measured = ds.assign(xs2p.quality(ds))
    np.testing.assert_allclose(measured.vif, ds.vif)
    assert measured.neuropil_ratio.attrs["neuropil_coefficient"] == 1.0
    table = ds.s2p.to_dataframe("rois")
    np.testing.assert_array_equal(table["demix_flag"], ds.demix_flag)
    ds.s2p.plot_traces(rois=[0, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "cnmf"}, "unknown method 'cnmf'; choose one of masks, demix"),
        ({"method": 3}, "unknown method 3"),
        ({"background": (3, 3)}, 'background plays no part without method="demix"'),
        ({"nonnegative": True}, 'nonnegative plays no part without method="demix"'),
        ({"method": "demix", "allow_overlap": True}, "allow_overlap=True plays no part with"),
        ({"method": "demix", "neuropil_extract": False}, "neuropil_extract=False plays no part"),
        ({"method": "demix", "lam_percentile": 30}, "lam_percentile=30.0 plays no part"),
        ({"method": "demix", "neuropil_coefficient": 0.5}, "all of it is taken off; leave it out"),
        ({"method": "demix", "background": 3}, "background must be the rows and columns"),
    ],
)
def test_what_plays_no_part_is_an_error(recording, options, message):
    with raise_if_dask_computes(), pytest.raises(ValueError, match=message):
        xs2p.extract(*recording, **options)


def test_overlap_flags_that_are_stale_play_no_part(recording):
    movie, rois = recording
    one = rois.isel(roi=[0, 1])
    with pytest.warns(UserWarning, match="the stored overlap flags"):
        xs2p.extract(movie, one)
    np.testing.assert_array_equal(
        xs2p.extract(movie, one, method="demix").F, xs2p.demix(movie, one.s2p.compact()).F
    )
