"""dF/F, its noise and flags in Zarr, NetCDF, suite2p's files and tables."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from flagged import with_dff

import xs2p
from xs2p._flags import flags_of
from xs2p.testing import raise_if_dask_computes, simulate

BITS = [0, 1, 2, 12, 8, 15]


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(6, (30, 41), 150, fs=10.0, chunks=70)
    return movie, rois


@pytest.fixture(scope="module")
def ds(recording):
    movie, rois = recording
    valid = np.ones(150, bool)
    valid[40:45] = False
    return with_dff(movie.s2p.extract(rois, tau=1.0, valid=valid).compute(), BITS, polarity=-1)


@pytest.mark.parametrize("kind", ["zarr", "h5netcdf", "scipy"])
def test_stores_give_it_back(ds, kind, tmp_path):
    path = tmp_path / "a"
    if kind == "scipy":  # NetCDF 3, which has no booleans and no unsigned numbers
        ds = ds[["dFF", "noise", "dff_flag"]]
        ds = ds.drop_vars([n for n in ds.coords if n != "time"])
    if kind == "zarr":
        ds.to_zarr(path)
        back = xr.open_zarr(path)
    else:
        ds.to_netcdf(path, engine=kind)
        back = xr.load_dataset(path, engine=kind)
    for name in ("dFF", "noise", "dff_flag"):
        assert name in back.data_vars
        assert back[name].dtype == ds[name].dtype or kind == "scipy"
        np.testing.assert_array_equal(back[name], ds[name])
        for key, value in ds[name].attrs.items():
            assert np.array_equal(back[name].attrs[key], value), (name, key)
    assert back.dFF.attrs["polarity"] == -1
    assert flags_of(back.dff_flag) == flags_of(ds.dff_flag)
    if kind != "scipy":  # and goes on from there
        xs2p.write_suite2p(back, tmp_path / "plane0")
        back[["dFF", "noise", "dff_flag"]].drop_vars("status").to_zarr(tmp_path / "again")
        again = xr.open_zarr(tmp_path / "again")
        for name in ("dFF", "noise", "dff_flag"):
            xr.testing.assert_identical(again[name].variable.load(), ds[name].variable)


def test_suite2p_has_a_place_for_what_is_said_of_an_roi(ds, tmp_path):
    """In its stat, as for every other variable over roi; dFF has none, as Fc and F0."""
    xs2p.write_suite2p(ds, tmp_path / "plane0")
    files = {path.name for path in (tmp_path / "plane0").iterdir()}
    assert files == {f"{n}.npy" for n in ("F", "Fneu", "spks", "stat", "iscell", "ops")}
    stat = np.load(tmp_path / "plane0" / "stat.npy", allow_pickle=True)
    assert [entry["dff_flag"] for entry in stat] == BITS
    assert [entry["noise"] for entry in stat] == ds.noise.values.tolist()
    back = xs2p.read_suite2p(tmp_path / "plane0")
    assert not {"dFF", "Fc", "F0"} & set(back.variables)
    np.testing.assert_array_equal(back.dff_flag, ds.dff_flag)
    np.testing.assert_array_equal(back.noise, ds.noise)
    plain = ds.drop_vars(["dFF", "noise", "dff_flag"])
    xs2p.write_suite2p(plain, tmp_path / "plain")
    for name in ("F", "Fneu", "spks"):
        one, other = (np.load(tmp_path / f / f"{name}.npy") for f in ("plane0", "plain"))
        np.testing.assert_array_equal(one, other)


def test_suite2ps_files_take_one_pass_and_no_dff(recording, tmp_path):
    movie, rois = recording
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((50, 30, 41)))
    ds = with_dff(lazy.s2p.extract(rois, tau=1.0, baseline="constant"), BITS)

    def never(block):
        raise AssertionError("dFF is computed, and has no place")

    dFF = ds.dFF.copy(data=ds.dFF.data.map_blocks(never, meta=np.empty((0, 0), "f4")))
    frames.reads[:] = 0
    with raise_if_dask_computes(max_computes=1):
        xs2p.write_suite2p(ds.assign(dFF=dFF), tmp_path / "plane0")
    assert frames.reads.tolist() == [1] * 150
    np.testing.assert_array_equal(xs2p.read_suite2p(tmp_path / "plane0").noise, ds.noise)


def test_a_table_of_rois_has_them(ds, recording):
    table = ds.s2p.to_dataframe("rois")
    assert table.dff_flag.tolist() == BITS and table.dff_flag.dtype == np.uint8
    np.testing.assert_array_equal(table.noise, ds.noise)
    assert table.attrs["units"]["noise"] == "1" and "dff_flag" not in table.attrs["units"]
    assert table[table.dff_flag & (1 | 8) == 0].roi.tolist() == [0, 2]
    assert "dFF" in ds.s2p.to_dataframe() and "noise" not in ds.s2p.to_dataframe()
    chosen = ds.s2p.to_dataframe("rois", variables=["noise", "dff_flag"])
    assert chosen.columns.tolist() == ["roi", "noise", "dff_flag"]
    movie, rois = recording
    lazy = with_dff(movie.s2p.extract(rois, tau=1.0, baseline="constant"), BITS)
    with raise_if_dask_computes(max_computes=1):
        table = lazy.s2p.to_dataframe("rois")
    np.testing.assert_array_equal(table.noise, lazy.noise)


def test_a_table_of_rois_of_channels(ds):
    """A row for each ROI and channel, as for snr."""
    how = {"data_vars": "all", "coords": "minimal", "compat": "override"}
    two = xr.concat([ds, ds.assign(noise=ds.noise * 2)], "channel", **how)
    two["dff_flag"][1] = 0
    two = two.assign_coords(channel=["green", "red"])
    table = two.s2p.to_dataframe("rois", variables=["npix", "noise", "dff_flag"])
    assert table.columns.tolist() == ["roi", "channel", "npix", "noise", "dff_flag"]
    assert table.dff_flag.tolist() == np.stack([BITS, [0] * 6], 1).ravel().tolist()
    np.testing.assert_array_equal(table.noise[1::2], 2 * ds.noise)
