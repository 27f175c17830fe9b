"""Later steps with other parameters: the same numbers as all at once, and labels that say so."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from loaders import DATA

import xs2p
from xs2p.disk.npy import load_npy
from xs2p.testing import raise_if_dask_computes, simulate

TRACES = ("F", "Fneu", "Fc", "F0", "spks")
OTHER = {"neuropil_coefficient": 0.5, "baseline": "constant", "sig_baseline": 4.0, "tau": 2.0}


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (30, 41), 240, fs=10.0, chunks=50)
    return movie, rois


def made(recording, **options):
    movie, rois = recording
    return movie.s2p.extract(rois, **{"win_baseline": 5.0, "tau": 1.0, **options})


def check_same(found, expected):
    for name in expected.data_vars:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
        assert found[name].attrs == expected[name].attrs, name
    assert found.attrs == expected.attrs
    assert set(found.coords) == set(expected.coords)


@pytest.mark.parametrize("where", ["memory", "lazy", "store"])
@pytest.mark.parametrize(
    "change",
    [
        OTHER,
        {"tau": 0.3},
        {"win_baseline": 3.0},
        {"neuropil_coefficient": 0.2},
        {"neuropil": "centred", "dark_offset": 20.0},
        {"baseline": "inactive_median", "detrend": "exponential"},
        {"polarity": -1},
        {"dff": True},
        {"s_min": 30.0},
        {"penalty": "noise", "denoised": True},
        {"denoised": True},
        {},
    ],
    ids=lambda change: "-".join(change) or "nothing",
)
def test_same_as_extracted_with_these(recording, tmp_path, where, change):
    movie, _ = recording
    expected = made(recording, movie_chan2=movie + np.int16(3), **change).compute()
    ds = made(recording, movie_chan2=movie + np.int16(3))
    if where == "memory":
        ds = ds.compute()
    elif where == "store":
        ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
        ds = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
    before = {name: ds[name].attrs.copy() for name in ds.data_vars}, ds.attrs.copy()
    with raise_if_dask_computes():
        found = ds.s2p.reprocess(**change)
    assert all((found[name].chunks is None) == (where == "memory") for name in TRACES)
    check_same(found, expected)
    assert ({name: ds[name].attrs for name in ds.data_vars}, ds.attrs) == before
    untouched = {"tau": 4, "win_baseline": 3, "polarity": 3, "dff": 5, "none": 5}
    untouched |= {"s_min": 4, "penalty": 4, "denoised": 5}
    for name in TRACES[: untouched.get(next(iter(change), "none"), 2)]:
        assert found[name].variable._data is ds[name].variable._data, name
    if where == "store":
        found.to_zarr(tmp_path / "b.zarr", consolidated=False)
        check_same(xr.open_zarr(tmp_path / "b.zarr", consolidated=False).compute(), expected)


def test_channels_and_a_tau_of_each_roi(recording):
    movie, rois = recording
    both = xr.concat([movie, movie + np.int16(3)], "channel").assign_attrs(movie.attrs)
    taus = xr.DataArray(np.linspace(0.5, 2, 6), dims="roi", coords={"roi": rois.roi})
    expected = made((both, rois), **{**OTHER, "tau": taus}).compute()
    ds = made((both, rois))
    check_same(ds.s2p.reprocess(**{**OTHER, "tau": taus}), expected)
    # What each ROI had stays where it is not given, and goes where one for all is.
    check_same(made((both, rois), tau=taus).s2p.reprocess(**{**OTHER, "tau": None}), expected)
    check_same(expected.s2p.reprocess(tau=2.0), made((both, rois), **OTHER).compute())


def test_dff_is_made_anew_where_it_is(recording):
    ds = made(recording, dff=True)
    for change in ({"win_baseline": 3.0}, {"neuropil": "centred"}, {"polarity": -1}):
        check_same(ds.s2p.reprocess(**change), made(recording, dff=True, **change).compute())
    same = ds.s2p.reprocess(tau=0.5)
    assert same.dFF.variable._data is ds.dFF.variable._data and "noise" in same
    gone = ds.s2p.reprocess(dff=False)
    assert not {"dFF", "noise", "dff_flag"} & set(gone.variables)
    check_same(made(recording).s2p.dff(), made(recording, dff=True).compute())
    centred = made(recording, neuropil="centred", detrend="exponential", dff=True)
    check_same(centred.s2p.reprocess(neuropil="full", detrend="none"), ds.compute())
    # What another program made is not taken for ours.
    other = ds.assign(dFF=(ds.Fc / ds.F0).assign_attrs(description="F / F0", units="1"))
    with pytest.warns(UserWarning, match="dFF is left out: another program made it"):
        assert "dFF" not in other.s2p.reprocess(baseline="prctile")
    assert other.s2p.reprocess(tau=0.5).dFF.attrs["description"] == "F / F0"
    check_same(other.s2p.reprocess(dff=True), ds.compute())


def test_sparse_spikes_and_calcium_are_made_anew_where_they_are(recording):
    _, rois = recording
    each = xr.DataArray([0.0, 10, 20, 30, 40, np.nan], dims="roi", coords={"roi": rois.roi})
    plain, sparse = made(recording), made(recording, penalty="noise", denoised=True)
    own = made(recording, s_min=each, denoised=True)
    assert own.s_min.dims == ("roi",) and "s_min" not in own.attrs
    assert sparse.attrs["penalty"] == "noise" and "penalty" not in plain.attrs
    both = {"denoised": True}
    for ds in (sparse, own, sparse.compute()):
        same = {"s_min": each} if ds is own else {"penalty": "noise"}
        check_same(
            ds.s2p.reprocess(win_baseline=3.0),
            made(recording, win_baseline=3.0, **same, **both).compute(),
        )
        assert ds.s2p.reprocess().spks.variable._data is ds.spks.variable._data
    check_same(sparse.s2p.reprocess(s_min=each), own.compute())
    check_same(own.s2p.reprocess(penalty="noise"), sparse.compute())
    check_same(own.s2p.reprocess(s_min=5.0), made(recording, s_min=5.0, **both).compute())
    check_same(own.s2p.reprocess(s_min=0.0, denoised=False), plain.compute())
    check_same(sparse.s2p.reprocess(penalty="none", denoised=False), plain.compute())
    check_same(plain.s2p.reprocess(s_min=each, denoised=True), own.compute())
    less = sparse.s2p.reprocess(denoised=False)
    assert "denoised" not in less and less.spks.variable._data is sparse.spks.variable._data
    other = plain.assign(denoised=plain.Fc.assign_attrs(description="CaImAn's"))
    assert other.s2p.reprocess(dff=True).denoised.attrs["description"] == "CaImAn's"
    with pytest.warns(UserWarning, match="denoised is left out: another program made it"):
        assert "denoised" not in other.s2p.reprocess(tau=0.5)
    lost = own.drop_vars("s_min")
    assert lost.s2p.reprocess().spks.variable._data is lost.spks.variable._data
    with pytest.raises(ValueError, match="made with an s_min of each ROI that ds does not have"):
        lost.s2p.reprocess(win_baseline=3.0)
    with pytest.raises(ValueError, match="penalty plays no part: ds has no spks; give tau"):
        plain.drop_vars("spks").s2p.reprocess(penalty="noise")
    for options in ({"penalty": "noise"}, {"s_min": 1.0}, {"denoised": True}):
        name = next(iter(options))
        with pytest.raises(ValueError, match=f"{name} plays no part without spikes"):
            made(recording, tau=None, **options)


def test_a_lazy_result_is_in_one_set_of_chunks(recording):
    for how in ({"s_min": 30.0}, {"penalty": "noise"}):
        ds = made(recording, denoised=True, **how)
        assert ds.chunks["time"] == ds.Fc.chunksizes["time"]


def test_smallest_spikes_of_rois_that_stay(recording):
    _, rois = recording
    each = xr.DataArray(np.linspace(5, 30, 6), dims="roi", coords={"roi": rois.roi})
    plain = made(recording)
    level = float(plain.Fc.s2p.snr().compute().median())
    with pytest.warns(UserWarning, match="are dropped"):
        ds = made(recording, s_min=each, snr_threshold=level)
    np.testing.assert_array_equal(ds.s_min, each.sel(roi=ds.roi))
    with pytest.raises(ValueError, match="give s_min with roi labels"):
        made(recording, s_min=each.drop_vars("roi"), snr_threshold=level)


def test_dark_offsets_of_each_roi(recording):
    _, rois = recording
    darks = xr.DataArray(np.arange(6.0), dims="roi", coords={"roi": rois.roi})
    ds = made(recording, neuropil="centred", dark_offset=darks)
    np.testing.assert_array_equal(ds.dark_offset, darks)
    plain = made(recording, neuropil="centred")
    np.testing.assert_allclose(ds.Fc, plain.Fc - darks.astype("f4"), rtol=1e-6)
    check_same(plain.s2p.reprocess(dark_offset=darks), ds.compute())
    check_same(ds.s2p.reprocess(dark_offset=0.0), plain.compute())
    check_same(ds.s2p.reprocess(tau=1.0, neuropil="centred"), ds.compute())
    with pytest.raises(ValueError, match="plays no part"):
        made(recording, dark_offset=5.0)
    with pytest.raises(ValueError, match="one value per roi"):
        made(recording, neuropil="centred", dark_offset=darks[:3])
    with pytest.raises(ValueError, match="roi labels of dark_offset"):
        made(recording, neuropil="centred", dark_offset=darks.assign_coords(roi=range(9, 15)))
    with pytest.raises(ValueError, match="unknown neuropil 'half'"):
        made(recording, neuropil="half")


@pytest.mark.parametrize("neuropil", ["full", "centred"])
def test_other_frames_that_count_and_sessions(recording, neuropil):
    valid = np.random.default_rng(0).random(240) > 0.2
    segments = np.arange(240) // 100
    said = {"valid": valid, "segments": segments}
    plain = made(recording, neuropil=neuropil, dff=True)
    expected = made(recording, neuropil=neuropil, dff=True, **said).compute()
    check_same(plain.s2p.reprocess(**said), expected)
    check_same(
        expected.s2p.reprocess(valid=np.ones(240, bool), segments=segments * 0),
        made(
            recording, neuropil=neuropil, dff=True, valid=np.ones(240, bool), segments=segments * 0
        ).compute(),
    )
    each = xr.DataArray(np.tile(valid, (6, 1)), dims=("roi", "time"), coords={"roi": plain.roi})
    each[2] = True
    check_same(
        plain.s2p.reprocess(valid=each),
        made(recording, neuropil=neuropil, dff=True, valid=each).compute(),
    )
    with_snr = plain.assign_coords(snr=plain.Fc.s2p.snr()).s2p.reprocess(**said)
    np.testing.assert_array_equal(with_snr.snr, expected.Fc.s2p.snr())


def test_dff_wants_traces_and_a_baseline(recording):
    ds = made(recording)
    with pytest.raises(ValueError, match=r"ds has no F0: ds\.s2p\.reprocess\(dff=True\)"):
        ds.drop_vars("F0").s2p.dff()
    with pytest.raises(ValueError, match="polarity must be"):
        ds.s2p.dff(polarity=3)
    with pytest.raises(ValueError, match="dff must be True or False"):
        made(recording, dff="yes")
    silent = ds.drop_attrs()
    with pytest.raises(ValueError, match="fs is not known"):
        silent.assign_coords(time=np.arange(240) * 1.0).drop_vars("time").s2p.dff()
    np.testing.assert_array_equal(silent.s2p.dff(fs=10.0).dFF, ds.s2p.dff().dFF)


def test_statistics_are_of_the_new_traces(recording):
    ds = made(recording)
    ds = ds.assign_coords(snr=ds.Fc.s2p.snr(), std=ds.Fc.s2p.std(), skew=ds.Fc.s2p.skew())
    found = ds.s2p.reprocess(neuropil_coefficient=0.1)
    for name in ("snr", "std", "skew"):
        expected = getattr(found.Fc.s2p, name)()
        assert not np.array_equal(expected, ds[name])
        np.testing.assert_array_equal(found[name], expected)
    assert ds.s2p.reprocess(tau=3.0).snr.variable._data is ds.snr.variable._data
    with pytest.warns(UserWarning, match="dFF is left out"):
        found = ds.assign(dFF=ds.Fc / ds.F0).s2p.reprocess(baseline="prctile")
    assert "dFF" not in found and found.F0.attrs["prctile_baseline"] == 8.0


def test_statistics_of_an_fc_that_was_replaced_are_not_shown(recording):
    from xs2p.plot.traces import best_rois

    ds = made(recording).compute()
    ds = ds.assign_coords(snr=ds.Fc.s2p.snr())
    other = ds.assign(Fc=made(recording, neuropil_coefficient=5.0).Fc.compute())
    expected = other.Fc.s2p.snr()
    assert not np.array_equal(expected, ds.snr)
    np.testing.assert_array_equal(other.s2p.to_dataframe("rois")["snr"], expected)
    best = expected.sortby(-expected).roi.values[:5].tolist()
    assert best_rois(other, slice(0, 240)) == best
    assert expected.attrs["long_name"] == "suite2p SNR, 1 − ½ var(diff)/var"


def test_a_folder_of_suite2p(tmp_path):
    folder = xs2p.read_suite2p(DATA / "suite2p-folder-2p")
    assert folder.spks.attrs["tau"] == 1.5 and folder.F.attrs["fs"] == 5.0
    same = folder.s2p.reprocess()
    np.testing.assert_array_equal(same.spks, folder.spks)  # the folder's own parameters
    xr.testing.assert_identical(same["skew"].variable, folder["skew"].variable)
    new = folder.s2p.reprocess(**OTHER)
    xs2p.write_suite2p(new, tmp_path / "plane0")
    again = xs2p.read_suite2p(tmp_path / "plane0")
    np.testing.assert_array_equal(again.spks, new.spks)
    np.testing.assert_allclose(again["skew"], xs2p.skew(new.Fc), rtol=1e-5)
    for name in ("neuropil_coefficient", "tau", "sig_baseline"):
        assert again.attrs[name] == again.spks.attrs[name] == OTHER[name]


def test_what_was_replaced_by_hand_says_itself_what_made_it(recording, tmp_path):
    """Attributes of the Dataset, which say 0.7 and maximin, are not believed."""
    ds = made(recording).compute()
    Fc = (ds.F - 0.5 * ds.Fneu).assign_attrs(neuropil_coefficient=0.5)
    F0 = Fc.s2p.baseline("prctile", prctile_baseline=20)
    ds = ds.assign(Fc=Fc, F0=F0, spks=(Fc - F0).assign_attrs(F0.attrs).s2p.deconvolve(tau=2.0))
    assert ds.attrs["neuropil_coefficient"] == 0.7
    xs2p.write_suite2p(ds, tmp_path / "plane0")
    ops = load_npy(tmp_path / "plane0" / "ops.npy").item()
    told = [ops[key] for key in ("neucoeff", "baseline", "prctile_baseline", "tau")]
    assert told == [0.5, "prctile", 20.0, 2.0]
    legend = ds.s2p.plot_traces([0]).get_legend()
    assert "0.5 · Fneu (neuropil)" in [text.get_text() for text in legend.get_texts()]
    assert ds.s2p.reprocess().attrs["baseline"] == "prctile"
    # And what nobody says is warned of, not taken from elsewhere.
    silent = ds.assign(Fc=Fc.drop_attrs())
    with pytest.warns(UserWarning, match=r"Fc does not say .* neuropil_coefficient .*ds\['Fc'\]"):
        xs2p.write_suite2p(silent, tmp_path / "other")
    with pytest.warns(UserWarning, match="F0 is not drawn"):
        silent.s2p.plot_traces([0])
    # A baseline of an Fc that was replaced is not of this one.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mended = ds.assign(Fc=made(recording).Fc.compute()).s2p.reprocess()
    np.testing.assert_array_equal(mended.F0, mended.Fc.s2p.baseline("prctile", prctile_baseline=20))
    assert mended.spks.attrs["neuropil_coefficient"] == 0.7


def test_one_tau_in_ops_for_a_tau_of_each_roi(recording, tmp_path):
    taus = xr.DataArray([1.0, 1.0, 1.0, 2.0, 3.0, 3.0], dims="roi")
    with pytest.warns(UserWarning, match="has room for one: 1.5 s, the median"):
        xs2p.write_suite2p(made(recording, tau=taus), tmp_path / "plane0")
    assert load_npy(tmp_path / "plane0" / "ops.npy").item()["tau"] == 1.5


def test_nwb_says_what_made_each_series(recording, tmp_path):
    pytest.importorskip("pynwb")
    from datetime import UTC, datetime

    start = datetime(2024, 5, 1, tzinfo=UTC)
    ds = made(recording).s2p.reprocess(**OTHER)
    xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=start)
    again = xs2p.read_nwb(tmp_path / "a.nwb").s2p.reprocess(tau=1.0)
    for name in ("neuropil_coefficient", "baseline", "sig_baseline"):
        assert again.attrs[name] == again.spks.attrs[name] == OTHER[name]
    check_labels = {"tau": 1.0, "fs": 10.0}
    each = xr.DataArray(np.linspace(0, 50, 6), dims="roi", coords={"roi": ds.roi})
    for how in ({"penalty": "noise"}, {"s_min": 5.0}, {"s_min": each}):
        sparse = ds.s2p.reprocess(denoised=True, **how)
        xs2p.write_nwb(sparse, tmp_path / "b.nwb", session_start_time=start, overwrite=True)
        read = xs2p.read_nwb(tmp_path / "b.nwb")
        np.testing.assert_array_equal(read.denoised, sparse.denoised)
        same = read.s2p.reprocess()
        assert same.spks.variable._data is read.spks.variable._data
        anew = {"baseline": "maximin", "win_baseline": 3.0}
        new, expected = (x.s2p.reprocess(**anew) for x in (read, sparse))
        for name in ("spks", "denoised"):
            np.testing.assert_array_equal(new[name], expected[name])
            assert new[name].attrs == expected[name].attrs
    assert check_labels.items() <= again.attrs.items()
    np.testing.assert_array_equal(again.F0, ds.F0)


@pytest.mark.parametrize(
    ("gone", "options", "message"),
    [
        (["Fneu"], {"neuropil_coefficient": 0.5}, "plays no part: ds has no Fneu"),
        (["F"], {"neuropil_coefficient": 0.5}, "ds has no F"),
        ([], {"prctile_baseline": 5}, "plays no part in the baseline 'maximin'.*one of prctile"),
        ([], {"baseline": "median"}, "unknown baseline 'median'; choose one of"),
        ([], {"neuropil_coefficient": "much"}, "must be a number"),
        ([], {"tau": -1.0}, "tau must be a positive number"),
        ([], {"fs": 20.0}, "time coordinate steps by 0.1 s"),
        (["F", "Fc"], {}, "needs F or Fc over roi and time"),
    ],
)
def test_errors_come_before_any_work(recording, gone, options, message):
    ds = made(recording).drop_vars(gone)
    with raise_if_dask_computes(), pytest.raises(ValueError, match=message):
        ds.s2p.reprocess(**options)


def test_what_is_not_known_is_asked_for(recording):
    ds = made(recording).drop_attrs()
    bare = ds[["F", "Fneu"]].drop_vars("time")
    with pytest.raises(ValueError, match="give neuropil_coefficient"):
        bare.s2p.reprocess(baseline="constant")
    with pytest.raises(ValueError, match="fs is not known"):
        bare.s2p.reprocess(neuropil_coefficient=0.7)
    found = bare.s2p.reprocess(neuropil_coefficient=0.7, win_baseline=5.0, fs=10.0, tau=1.0)
    np.testing.assert_array_equal(found.spks, made(recording).spks)
    assert all(found[name].attrs["fs"] == 10.0 for name in TRACES)
    with pytest.raises(ValueError, match="do not say by which method"):
        ds.s2p.reprocess(neuropil_coefficient=0.5)
    with pytest.raises(ValueError, match="do not say with which tau"):
        ds.s2p.reprocess(baseline="constant")
    with pytest.raises(TypeError, match="here it is called neuropil_coefficient"):
        ds.s2p.reprocess(neucoeff=0.5)
    with pytest.raises(ValueError, match="takes a Dataset of traces, got DataArray"):
        xs2p.reprocess(ds.F)
