"""Tables as CSV and Parquet files, as pandas and PyArrow read them."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate


@pytest.fixture(scope="module")
def ds():
    movie, rois, _ = simulate(4, (24, 30), 60, fs=10.0)
    made = movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=40, dff=True).compute()
    valid = np.arange(60) != 7
    made = made.assign_coords(roi=[3, 5, 8, 9], valid=("time", valid))
    return made.assign(xs2p.quality(made))


def test_a_column_for_each_roi(ds):
    table = ds.s2p.to_dataframe("frames")
    assert table.columns.tolist() == ["time", "valid", 3, 5, 8, 9]
    assert table.attrs == {"units": {"time": "s", "dFF": "1"}, "variable": "dFF"}
    np.testing.assert_array_equal(table[8], ds.dFF.sel(roi=8))
    np.testing.assert_array_equal(table.time, ds.time)
    lazy = ds.chunk(time=20, roi=2)
    with raise_if_dask_computes(max_computes=1):
        spks = lazy.s2p.to_dataframe("frames", variables=["spks"])
    np.testing.assert_array_equal(spks[[3, 5, 8, 9]].T, ds.spks)
    bare = ds[["F"]].drop_vars(["time", "roi"])
    assert bare.s2p.to_dataframe("frames").columns.tolist() == ["frame", "valid", 0, 1, 2, 3]


@pytest.mark.parametrize("ending", [".csv", ".csv.gz", ".parquet"])
@pytest.mark.parametrize("what", ["traces", "frames", "rois"])
def test_pandas_reads_what_was_written(ds, tmp_path, ending, what):
    if ending == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"a{ending}"
    xs2p.write_table(ds, path, what)
    want = ds.s2p.to_dataframe(what).rename(columns=str)
    if ending == ".parquet":
        found = pd.read_parquet(path)
    else:  # pandas before 3 gets the last bits of long numbers wrong
        exact = {n: lambda t: float(t or "nan") for n in want if want[n].dtype.kind == "f"}
        found = pd.read_csv(path, converters=exact)
    assert found.columns.tolist() == want.columns.tolist() and len(found) == len(want)
    for name in want:
        if want[name].dtype.kind in "biuf":
            values = found[name].to_numpy().astype(want[name].dtype)
            np.testing.assert_array_equal(values, want[name].to_numpy(), err_msg=name)
        else:
            told = [("" if pd.isna(each) else each) for each in found[name]]
            assert told == want[name].tolist()
    if ending == ".parquet":
        assert found.attrs["units"] == want.attrs["units"]
    with pytest.raises(FileExistsError, match="overwrite=True"):
        xs2p.write_table(ds, path, what)
    xs2p.write_table(ds.isel(roi=[0]), path, what, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_pyarrow_itself_reads_it(ds, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    xs2p.write_table(ds, tmp_path / "a.parquet", "frames", variables=["F"])
    table = parquet.read_table(tmp_path / "a.parquet")
    assert table.column_names == ["time", "valid", "3", "5", "8", "9"]
    assert [str(t) for t in table.schema.types] == ["double", "bool", *["float"] * 4]
    np.testing.assert_array_equal(table["5"].to_numpy(), ds.F.sel(roi=5))


def test_without_pyarrow(ds, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ImportError, match="pip install pyarrow"):
        xs2p.write_table(ds, tmp_path / "a.parquet")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_written_is_told_first(ds, tmp_path):
    two = xr.concat([ds[["F"]]] * 2, "channel", coords="minimal", compat="override")
    for given, path, more, match in (
        (ds, "a.xlsx", {}, "choose .csv, .csv.gz or .parquet"),
        (ds, "a.csv", {"what": "wide"}, "choose 'traces', 'frames' or 'rois'"),
        (ds, "a.csv", {"what": "frames", "variables": ["F", "Fc"]}, "takes one variable"),
        (ds, "a.csv", {"what": "frames", "variables": ["noise"]}, "choose from F, Fneu"),
        (ds, "a.csv", {"what": "frames", "max_bytes": 100}, "max_bytes=100"),
        (two, "a.csv", {"what": "frames"}, "takes one variable"),
        (ds.assign_attrs(xs2p_unfinished="x"), "a.csv", {}, "not complete"),
        (ds.F, "a.csv", {}, "takes a Dataset"),
    ):
        with pytest.raises(ValueError, match=match):
            xs2p.write_table(given, tmp_path / path, **more)
    with pytest.raises(FileNotFoundError, match="to write into"):
        xs2p.write_table(ds, tmp_path / "b" / "a.csv")
    assert not list(tmp_path.iterdir())
    (tmp_path / "c.csv").mkdir()
    with pytest.raises(FileExistsError, match="is a folder"):
        xs2p.write_table(ds, tmp_path / "c.csv", overwrite=True)


def test_columns_of_one_name(ds, tmp_path):
    for label, told in (("time", "a column of frames"), ("valid", "a column of frames")):
        named = ds.assign_coords(roi=["a", label, "b", "c"])
        with pytest.raises(ValueError, match=f"the ROI '{label}' would have .*as {told} has"):
            xs2p.write_table(named, tmp_path / "a.csv", "frames")
        xs2p.write_table(named, tmp_path / f"{label}.csv", "traces")
    mixed = ds.assign_coords(roi=np.array([1, "1", 2, 3], object))
    with pytest.raises(ValueError, match="the ROI '1' would have .*as another ROI, 1 has"):
        xs2p.write_table(mixed, tmp_path / "a.csv", "frames")
    assert not (tmp_path / "a.csv").exists()


def test_what_has_no_column_is_told(ds, tmp_path):
    own = ds.assign_coords(valid=(("roi", "time"), np.ones((4, 60), bool)))
    with pytest.warns(UserWarning, match="valid of each ROI and frame has no column"):
        xs2p.write_table(own, tmp_path / "a.csv", "frames")
    xs2p.write_table(own, tmp_path / "b.csv", "traces")
    assert "valid" in pd.read_csv(tmp_path / "b.csv")
