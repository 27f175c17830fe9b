"""dF/F, its noise and flags, and other data variables over roi in NWB: out, judged, and back."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from flagged import FLAGS, with_dff

import xs2p
from xs2p._flags import flags_of
from xs2p.testing import raise_if_dask_computes, simulate

pynwb = pytest.importorskip("pynwb")
START = datetime(2024, 5, 1, 14, 30, tzinfo=UTC)
BITS = [0, 1, 2, 4, 8, 15, 0, 9]


def check_same(found, ds, names):
    """Variables as they were, attributes included, data variables or coordinates as they were."""
    for name in names:
        assert (name in found.data_vars) == (name in ds.data_vars), name
        assert found[name].dtype == ds[name].dtype and found[name].dims == ds[name].dims
        np.testing.assert_array_equal(found[name], ds[name])
        assert found[name].attrs == ds[name].attrs, name


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(8, (30, 41), 200, fs=10.0, chunks=70)
    return movie, rois


@pytest.fixture(scope="module")
def ds(recording):
    movie, rois = recording
    valid = np.ones(200, bool)
    valid[[0, 1, 50, 199]] = False
    ds = movie.s2p.extract(rois, tau=1.0, win_baseline=5.0, valid=valid).compute()
    some = np.random.default_rng(0)
    attrs = {"long_name": "variance inflation", "units": "1", "description": "Of the traces."}
    return with_dff(ds, BITS, polarity=-1).assign(
        vif=("roi", some.random(8), attrs),
        n_events=("roi", np.arange(8) * 3),
        kind=("roi", np.array([*"abcdefgh"], object), {"long_name": "kind"}),
        good=("roi", np.arange(8) % 2 == 0),
    )


@pytest.fixture(scope="module")
def written(ds, tmp_path_factory):
    path = tmp_path_factory.mktemp("nwb") / "a.nwb"
    xs2p.write_nwb(ds, path, session_start_time=START)
    return path


def test_it_comes_back(ds, written):
    found = xs2p.read_nwb(written)
    names = ["dFF", "noise", "dff_flag", "vif", "n_events", "kind", "good", "radius"]
    check_same(found.drop_attrs(), ds.drop_attrs(), names)
    check_same(found, ds, names[:-1])
    assert found.dFF.attrs["polarity"] == -1 and found.dFF.attrs["fs"] == 10.0
    assert np.isnan(found.dFF[:, [0, 1, 50, 199]]).all() and np.isfinite(found.dFF[:, 2:50]).all()
    np.testing.assert_array_equal(found.valid, ds.valid)
    assert set(found.data_vars) == set(ds.data_vars)
    assert flags_of(found.dff_flag) == flags_of(ds.dff_flag)
    again = written.parent / "again.nwb"  # what was read is written as it was
    xs2p.write_nwb(found, again, session_start_time=START)
    check_same(xs2p.read_nwb(again), ds, names[:-1])
    rois = xs2p.rois_from_nwb(written)
    assert {"noise", "dff_flag"} <= set(rois.coords) and rois.dff_flag.attrs == FLAGS


def test_others_can_read_it(ds, written):
    from nwbinspector import Importance, inspect_nwbfile

    assert not pynwb.validate(path=str(written))
    found = [m for m in inspect_nwbfile(nwbfile_path=str(written)) if "subject" not in m.message]
    worst = [m for m in found if m.importance.value >= Importance.BEST_PRACTICE_VIOLATION.value]
    assert {m.check_function_name for m in worst} <= {"check_subject_exists"}
    with pynwb.NWBHDF5IO(written, "r") as io:
        module = io.read().processing["ophys"]
        series = module["DfOverF"]["RoiResponseSeries"]
        np.testing.assert_array_equal(series.data[:], ds.dFF.values.T)
        assert (series.unit, series.rate, series.description) == ("1", 10.0, "dF/F")
        table = series.rois.table
        assert table["dff_flag"][:].tolist() == BITS and table["dff_flag"].data.dtype == np.uint8
        np.testing.assert_array_equal(table["noise"][:], ds.noise)
        said = table["dff_flag"].description
        assert said.startswith(FLAGS["description"])
        assert "add up: 1 = F0 not positive, 2 = F0 below noise, 4 = neuropil above 90" in said
        said = table["noise"].description
        assert said.startswith(ds.noise.attrs["description"] + " [")
        assert table["n_events"].description.startswith("n_events [")
        assert table["radius"].description == ds.radius.attrs["description"]


def test_of_planes(ds, tmp_path):
    plane = xr.Variable("roi", np.arange(8) % 2, {"long_name": "plane"})
    placed = xs2p.recompute_overlap(ds.assign_coords(plane=plane))
    xs2p.write_nwb(placed, tmp_path / "p.nwb", session_start_time=START)
    found = xs2p.read_nwb(tmp_path / "p.nwb")
    assert found.roi.values.tolist() == [0, 2, 4, 6, 1, 3, 5, 7]
    names = ["dFF", "noise", "dff_flag", "vif", "n_events", "kind", "good"]
    check_same(found, placed.sel(roi=found.roi), names)
    one = xs2p.read_nwb(tmp_path / "p.nwb", name="PlaneSegmentationPlane1")
    check_same(one, placed.isel(roi=slice(1, None, 2)), names)


def test_of_channels(recording, ds, tmp_path):
    """The second channel's end in _chan2, as its traces do."""
    how = {"coords": "minimal", "compat": "override", "combine_attrs": "override"}
    two = xr.concat([ds, ds.assign(noise=ds.noise * 2)], "channel", data_vars="all", **how)
    two["dff_flag"][1] = two.dff_flag[1] ^ 1
    two = two.drop_vars(["vif", "kind"]).assign_coords(good=two.good)
    xs2p.write_nwb(two, tmp_path / "c.nwb", session_start_time=START)
    found = xs2p.read_nwb(tmp_path / "c.nwb")
    for n, ending in enumerate(("", "_chan2")):
        for name in ("noise", "dff_flag", "n_events"):
            one = two[name].isel(channel=n)
            assert name + ending in found.data_vars and found[name + ending].attrs == one.attrs
            np.testing.assert_array_equal(found[name + ending], one)
        assert f"good{ending}" in found.coords
    assert found["RoiResponseSeriesChan2"].shape == (8, 200)  # dFF of the second


def test_the_movie_is_read_once(recording, tmp_path):
    """What is said of an ROI is made of the traces, and in the same pass."""
    movie, rois = recording
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((50, 30, 41)))
    ds = with_dff(lazy.s2p.extract(rois, tau=1.0, baseline="constant"), BITS)
    ds = ds.assign_coords(snr=ds.Fc.s2p.snr())
    assert ds.noise.chunks is not None and ds.snr.chunks is not None
    frames.reads[:] = 0
    with raise_if_dask_computes(max_computes=1):
        xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=START)
    assert frames.reads.tolist() == [1] * 200
    found = xs2p.read_nwb(tmp_path / "a.nwb")
    np.testing.assert_array_equal(found.noise, ds.noise)
    np.testing.assert_array_equal(found.snr, ds.snr)


def test_a_name_that_the_table_has(ds, tmp_path):
    odd = ds.assign(name=("roi", np.arange(8) / 2, {"units": "s", "flag_masks": np.array([1, 2])}))
    xs2p.write_nwb(odd, tmp_path / "a.nwb", session_start_time=START)
    found = xs2p.read_nwb(tmp_path / "a.nwb")["name"]
    assert "name" in xs2p.read_nwb(tmp_path / "a.nwb").data_vars
    assert found.values.tolist() == odd["name"].values.tolist()
    assert found.attrs == {"units": "s", "flag_masks": [1, 2]}
    with pytest.raises(ValueError, match="'a/b' cannot be the name of a column"):
        xs2p.write_nwb(ds.assign({"a/b": ds.noise}), tmp_path / "b.nwb", session_start_time=START)


def test_what_another_hand_has_written(ds, tmp_path):
    """A description that was changed is taken as it is, and its column for a coordinate."""
    from xs2p.io.nwb.columns import column_attrs

    for said in ('noise [xs2p variable {"units": "V"', "noise [xs2p variable {3}]", "about noise"):
        attrs = column_attrs("noise", said)
        assert attrs["long_name"] == "noise" and said.startswith(attrs["description"])


def test_a_tau_of_each_roi_comes_back(recording, tmp_path):
    movie, rois = recording
    tau = xr.DataArray(np.linspace(0.5, 2.0, 8), dims="roi")
    ds = movie.s2p.extract(rois, tau=tau, win_baseline=5.0).compute()
    xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=START)
    found = xs2p.read_nwb(tmp_path / "a.nwb")
    np.testing.assert_array_equal(found.tau, ds.tau)
    assert found.tau.dims == ("roi",) and not [name for name in found.coords if "nwb_" in str(name)]
    xs2p.rois_from_nwb(tmp_path / "a.nwb")
    spikes = [xs2p.deconvolve(one.Fc - one.F0, tau=one.tau, fs=10.0) for one in (found, ds)]
    np.testing.assert_array_equal(*spikes)
