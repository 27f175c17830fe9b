"""ROI sets into the files of other programs, and back through the one door."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import roifile
import tifffile
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from loaders import DATA, square
from scipy.sparse import csc_array

import xs2p
from xs2p.io import load_npy
from xs2p.rois.convert import rois_to_labels

REAL = DATA / "suite2p-folder-2p"
SHAPE = (9, 11)


def pixel_sets(rois):
    place = np.repeat(np.arange(rois.sizes["roi"]), rois.npix)
    sets = [set() for _ in range(rois.sizes["roi"])]
    for i, y, x in zip(place, rois.ypix.values, rois.xpix.values, strict=True):
        sets[i].add((int(y), int(x)))
    return sets


masks = st.lists(
    st.lists(st.booleans(), min_size=99, max_size=99)
    .filter(any)
    .map(lambda flags: np.array(flags).reshape(SHAPE)),
    min_size=1,
    max_size=4,
)


@settings(max_examples=12, deadline=None)
@given(masks, st.sampled_from([1.0, 0.25]))
def test_every_format_gives_the_same_pixels(tmp_path_factory, blobs, weight):
    """Random ROIs that overlap, with holes and several parts, to the frame's very border."""
    folder = tmp_path_factory.mktemp("any")
    rois = xs2p.rois_from_footprints(np.array(blobs) * weight)
    plain = rois
    rois = rois.assign_coords(roi=("roi", 3 * np.arange(len(blobs)) + 2, rois.roi.attrs))
    for name in ("RoiSet.zip", "stat.npy", "a.nc"):
        here = plain if name == "stat.npy" else rois
        back = xs2p.read_rois(xs2p.write_rois(here, folder / name, overwrite=True), shape=SHAPE)
        assert pixel_sets(back) == pixel_sets(rois)
        weights = 1.0 if name == "RoiSet.zip" else weight
        assert (back.lam == weights).all()
        if name != "stat.npy":
            assert back.roi.values.tolist() == rois.roi.values.tolist()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name in ("a.tif", "a.npy"):
            back = xs2p.read_rois(xs2p.write_rois(rois, folder / name), shape=SHAPE)
            np.testing.assert_array_equal(rois_to_labels(back), rois_to_labels(rois))


def test_own_formats_lose_nothing(tmp_path):
    rois = xs2p.read_rois(REAL)
    for name in ("a.zarr", "a.nc", "stat.npy"):
        back = xs2p.read_rois(xs2p.write_rois(rois, tmp_path / name), shape=(142, 247))
        assert set(back.variables) == set(rois.variables)
        for key in rois.variables:
            a, b = back[key].values, rois[key].values
            assert a.dtype.kind == b.dtype.kind, key
            np.testing.assert_array_equal(a, b, err_msg=f"{key} in {name}")


def test_from_one_format_to_the_next(tmp_path):
    rois = xs2p.rois_from_stat([square(0, 0), square(5, 5)], SHAPE)
    rois = rois.assign_coords(name=("roi", np.array(["a", "b"], object)))
    there = rois
    for name in ("a.zarr", "a.nc", "b.zarr", "stat.npy", "a.zip"):
        there = xs2p.read_rois(xs2p.write_rois(there, tmp_path / name), shape=SHAPE)
        assert pixel_sets(there) == pixel_sets(rois)
        assert there.name.values.tolist() == ["a", "b"] and there.name.dtype == object


def test_a_selection(tmp_path):
    rois = xs2p.sample_rois().isel(roi=[7, 3, 50])
    for name in ("a.zip", "a.zarr", "a.nc"):
        back = xs2p.read_rois(xs2p.write_rois(rois, tmp_path / name), shape=(64, 64))
        assert back.roi.values.tolist() == [7, 3, 50]
        assert back.sizes["pixel"] == rois.npix.sum()


class TestImagej:
    def test_what_roifile_reads(self, tmp_path):
        ring = square(2, 2, size=3)
        keep = np.arange(9) != 4
        ring = {key: value[keep] for key, value in ring.items()}
        rois = xs2p.rois_from_stat([square(0, 0, size=2), ring, square(8, 10, size=1)], SHAPE)
        path = xs2p.write_rois(rois, tmp_path / "RoiSet.zip")
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["0.roi", "1.roi", "2.roi"] and archive.testzip() is None
        regions = roifile.roiread(path)
        assert [r.name for r in regions] == ["0", "1", "2"]
        assert [r.roitype.name for r in regions] == ["TRACED", "RECT", "TRACED"]
        boxes = [(r.top, r.left, r.bottom, r.right) for r in regions]
        assert boxes == [(0, 0, 2, 2), (2, 2, 5, 5), (8, 10, 9, 11)]
        assert sorted(regions[0].coordinates().tolist()) == [[0, 0], [0, 2], [2, 0], [2, 2]]
        assert len(regions[1].coordinates(multi=True)) == 2

    def test_one_roi(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3)], SHAPE)
        path = xs2p.write_rois(rois.isel(roi=[1]), tmp_path / "one.roi")
        back = xs2p.read_rois(path, shape=SHAPE)
        assert pixel_sets(back) == pixel_sets(rois)[1:] and back.roi.values.tolist() == [1]
        with pytest.raises(ValueError, match=r"one ROI, and there are 2; write a \.zip"):
            xs2p.write_rois(rois, tmp_path / "two.roi")

    def test_names(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3), square(5, 5)], SHAPE)
        given = np.array(["a/b", "a_b", "Purkinje ü"], object)
        named = rois.assign_coords(name=("roi", given), z_position=("roi", [0, 2, 3]))
        path = xs2p.write_rois(named, tmp_path / "a.zip")
        with zipfile.ZipFile(path) as archive:
            assert archive.namelist() == ["a_b.roi", "a_b-2.roi", "Purkinje ü.roi"]
        back = xs2p.read_rois(path, shape=SHAPE)
        assert back.name.values.tolist() == given.tolist()
        assert back.z_position.values.tolist() == [0, 2, 3]
        for same in (["a", "a", "b"], ["a", "b", ""]):  # names that do not tell ROIs apart
            named = rois.assign_coords(name=("roi", np.array(same, object)))
            path = xs2p.write_rois(named, tmp_path / "a.zip", overwrite=True)
            assert xs2p.read_rois(path, shape=SHAPE).name.values.tolist() == ["0", "1", "2"]

    def test_names_that_are_labels(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3)], SHAPE)
        for titles, labels in (
            (["12", "5"], [12, 5]),
            (["012", "5"], [0, 1]),
            (["5", "x"], [0, 1]),
            (["0001-0032", "7"], [0, 1]),
            (["-3", "7"], [0, 1]),
        ):
            named = rois.assign_coords(roi=labels, name=("roi", np.array(titles, object)))
            path = xs2p.write_rois(named, tmp_path / "a.zip", overwrite=True)
            back = xs2p.read_rois(path, shape=SHAPE)
            assert back.roi.values.tolist() == labels and back.name.values.tolist() == titles

    def test_names_that_are_other_labels(self, tmp_path):
        """ROIs keep their labels; else a trace would be found under another ROI's number."""
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3), square(5, 5)], SHAPE)
        rois = rois.assign_coords(roi=[10, 20, 30], name=("roi", np.array(list("123"), object)))
        message = r"names \(1, 2, 3\) are other .*labels \(10, 20, 30\).*names are left out"
        with pytest.warns(UserWarning, match=message) as caught:
            path = xs2p.write_rois(rois, tmp_path / "a.zip")
        assert len(caught) == 1
        back = xs2p.read_rois(path, shape=SHAPE)
        assert back.roi.values.tolist() == [10, 20, 30]
        assert back.name.values.tolist() == ["10", "20", "30"]

    def test_labels_that_the_names_hide(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3)], SHAPE)
        rois = rois.assign_coords(roi=[7, 4], name=("roi", np.array(["a", "b"], object)))
        message = r"labels \(7, 4\) will not come back: read again, the ROIs are 0, 1"
        with pytest.warns(UserWarning, match=message) as caught:
            path = xs2p.write_rois(rois, tmp_path / "a.zip")
        assert len(caught) == 1
        back = xs2p.read_rois(path, shape=SHAPE)
        assert back.roi.values.tolist() == [0, 1] and back.name.values.tolist() == ["a", "b"]
        path = xs2p.write_rois(rois.drop_vars("name"), path, overwrite=True)  # as it says
        assert xs2p.read_rois(path, shape=SHAPE).roi.values.tolist() == [7, 4]

    def test_nothing_to_outline(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3)], SHAPE)
        with pytest.raises(ValueError, match=r"no ROI has pixels to outline \(0 ROIs\)"):
            xs2p.write_rois(rois.isel(roi=[]), tmp_path / "a.zip")
        with pytest.warns(UserWarning, match="wholly outside"):
            gone = xs2p.read_rois(rois, shift=(-9, 0))
        with pytest.raises(ValueError, match=r"no ROI has pixels to outline \(2 ROIs\)"):
            xs2p.write_rois(gone, tmp_path / "a.zip")
        assert os.listdir(tmp_path) == []

    def test_rois_without_pixels(self, tmp_path):
        with pytest.warns(UserWarning, match="wholly outside"):
            rois = xs2p.read_rois([square(0, 0), square(5, 5)], shape=SHAPE, shift=(-3, 0))
        with pytest.warns(UserWarning, match=r"1 ROIs without pixels .* \(roi 0\)") as caught:
            path = xs2p.write_rois(rois, tmp_path / "a.zip")
        assert len(caught) == 1
        assert xs2p.read_rois(path, shape=SHAPE).roi.values.tolist() == [1]
        with pytest.raises(ValueError, match="roi 0 has no pixels to outline"):
            xs2p.write_rois(rois.isel(roi=[0]), tmp_path / "a.roi")

    def test_frames_beyond_the_format(self, tmp_path):
        far = xs2p.rois_from_stat([square(40_000, 60_530)], (50_000, 70_000))
        path = xs2p.write_rois(far, tmp_path / "a.zip")
        assert pixel_sets(xs2p.read_rois(path, shape=(50_000, 70_000))) == pixel_sets(far)
        far = xs2p.rois_from_stat([square(40_000, 60_540)], (50_000, 70_000))
        with pytest.raises(ValueError, match="coordinates up to 60535"):
            xs2p.write_rois(far, tmp_path / "b.zip")

    @pytest.mark.parametrize("planes", [[0, 1], [3, 3]])
    def test_planes_are_z_positions(self, tmp_path, planes):
        stat = [{**square(2, 3), "iplane": n} for n in planes]
        stat[1]["xpix"] = stat[1]["xpix"] + (planes[0] == planes[1]) * 5
        rois = xs2p.rois_from_stat(stat, SHAPE)
        path = xs2p.write_rois(rois, tmp_path / "RoiSet.zip")
        assert [r.z_position for r in roifile.roiread(path)] == [n + 1 for n in planes]
        again = xs2p.read_rois(path, shape=SHAPE)
        assert again.plane.values.tolist() == planes and not again.overlap.any()
        # Of another program one z for all may be that of a stack of times.
        others = xs2p.read_rois(roifile.roiread(path), shape=SHAPE)
        assert ("plane" in others) == (planes[0] != planes[1])
        back = xs2p.read_rois(xs2p.write_rois(rois, tmp_path / "stat.npy"), shape=SHAPE)
        assert back.iplane.values.tolist() == planes
        named = rois.drop_vars("iplane").assign_coords(plane=("roi", planes))
        back = xs2p.read_rois(xs2p.write_rois(named, tmp_path / "b_stat.npy"), shape=SHAPE)
        assert back.iplane.values.tolist() == planes

    def test_planes_that_do_not_come_back_are_said(self, tmp_path):
        rois = xs2p.rois_from_stat([square(2, 3), square(2, 3)], SHAPE)
        depths = rois.assign_coords(plane=("roi", ["deep", "low"]))
        with pytest.warns(UserWarning, match=r"planes \(deep, low\) are left out"):
            xs2p.write_rois(depths, tmp_path / "RoiSet.zip")
        with pytest.warns(UserWarning, match=r"planes 0, 1 are drawn|another ROI|no pixel"):
            xs2p.write_rois(rois.assign_coords(plane=("roi", [0, 1])), tmp_path / "labels.tif")


class TestLabelImages:
    def test_values_and_dtypes(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(5, 5)], SHAPE)
        image = tifffile.imread(xs2p.write_rois(rois, tmp_path / "a.tif"))
        assert image.dtype == np.uint16 and image.shape == SHAPE
        assert np.unique(image).tolist() == [0, 1, 2]  # labels 0 and 1, plus one
        large = rois.assign_coords(roi=[7, 70_000])
        image = tifffile.imread(xs2p.write_rois(large, tmp_path / "b.tif"))
        assert image.dtype == np.uint32 and np.unique(image).tolist() == [0, 7, 70_000]
        image = np.load(xs2p.write_rois(large, tmp_path / "b.npy"))
        np.testing.assert_array_equal(image, large.s2p.to_labels())

    @pytest.mark.parametrize("name", ["a.tif", "a.npy"])
    def test_shared_pixels_are_said(self, name, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0, lam=1), square(1, 1, lam=2)], SHAPE)
        with pytest.warns(UserWarning, match=r"4 pixels of 1 ROIs belong to .*\(roi 0\)") as caught:
            path = xs2p.write_rois(rois, tmp_path / name)
        assert len(caught) == 1
        assert xs2p.read_rois(path).npix.values.tolist() == [5, 9]
        hidden = xs2p.rois_from_stat([square(0, 0, lam=1), square(0, 0, lam=2)], SHAPE)
        with pytest.warns(UserWarning) as caught:
            xs2p.write_rois(hidden, tmp_path / name, overwrite=True)
        assert "1 ROIs have no pixel in the label image (roi 0)" in str(caught[-1].message)

    def test_labels_that_are_not_all_positive(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(3, 3), square(5, 6)], SHAPE)
        with pytest.warns(UserWarning, match=r"\(0, 20, 30\) will not .* the ROIs are 1, 2, 3"):
            path = xs2p.write_rois(rois.assign_coords(roi=[0, 20, 30]), tmp_path / "a.tif")
        assert xs2p.read_rois(path).roi.values.tolist() == [1, 2, 3]


def test_stat_holds_no_labels(tmp_path):
    rois = xs2p.sample_rois().isel(roi=[5, 3, 1])
    message = r"labels \(5, 3, 1\) will not come back.*hold labels: .* the ROIs are 0, 1, 2;"
    with pytest.warns(UserWarning, match=message) as caught:
        path = xs2p.write_rois(rois, tmp_path / "stat.npy")
    assert len(caught) == 1
    assert xs2p.read_rois(path, shape=(64, 64)).roi.values.tolist() == [0, 1, 2]


def test_stat_is_suite2ps(tmp_path):
    rois = xs2p.read_rois(REAL)
    stat = load_npy(xs2p.write_rois(rois, tmp_path / "my_stat.npy"))
    theirs = load_npy(REAL / "stat.npy")
    for entry, expected in zip(stat, theirs, strict=True):
        assert set(expected) <= set(entry)
        for key, value in expected.items():
            np.testing.assert_array_equal(entry[key], value, err_msg=key)


class TestSafety:
    NAMES = ("a.zip", "a.tif", "a.npy", "stat.npy", "a.nc", "a.zarr")

    @pytest.mark.parametrize("name", NAMES)
    def test_nothing_is_overwritten_unless_told(self, name, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0), square(5, 5)], SHAPE)
        path = xs2p.write_rois(rois, tmp_path / name)
        with pytest.raises(FileExistsError, match=rf"{name} exists; .*overwrite=True"):
            xs2p.write_rois(rois.isel(roi=[0]), path)
        assert xs2p.read_rois(path, shape=SHAPE).sizes["roi"] == 2
        assert xs2p.write_rois(rois.isel(roi=[0]), path, overwrite=True) == path
        assert xs2p.read_rois(path, shape=SHAPE).sizes["roi"] == 1
        assert os.listdir(tmp_path) == [name]

    @pytest.mark.parametrize("name", NAMES)
    def test_an_error_leaves_what_was_there(self, name, tmp_path, monkeypatch):
        rois = xs2p.rois_from_stat([square(0, 0), square(5, 5)], SHAPE)
        path = xs2p.write_rois(rois, tmp_path / name)

        def full(*args, **kwargs):
            raise OSError(28, "No space left on device")

        for place in ("xarray.Dataset.to_zarr", "xarray.Dataset.to_netcdf", "tifffile.imwrite",
                      "numpy.lib.format.write_array", "zipfile.ZipFile.writestr"):  # fmt: skip
            monkeypatch.setattr(place, full)
        with pytest.raises(OSError, match="No space"):
            xs2p.write_rois(rois.isel(roi=[0]), path, overwrite=True)
        monkeypatch.undo()
        assert os.listdir(tmp_path) == [name]
        assert xs2p.read_rois(path, shape=SHAPE).sizes["roi"] == 2

    def test_what_is_wrong_is_said_first(self, tmp_path):
        rois = xs2p.rois_from_stat([square(0, 0)], SHAPE)
        for name in ("a.png", "a", "a.mat"):
            with pytest.raises(ValueError, match=r"choose \.zip or \.roi \(ImageJ\), \.tif or"):
                xs2p.write_rois(rois, tmp_path / name)
        with pytest.raises(FileNotFoundError, match="no folder .*nowhere"):
            xs2p.write_rois(rois, tmp_path / "nowhere" / "a.zip")
        with pytest.raises(ValueError, match="rois must be an ROI set"):
            xs2p.write_rois([square(0, 0)], tmp_path / "a.zip")
        (tmp_path / "b.zarr").mkdir()
        with pytest.raises(FileExistsError, match="is no Zarr store, .* it is left as it is"):
            xs2p.write_rois(rois, tmp_path / "b.zarr", overwrite=True)
        assert os.listdir(tmp_path) == ["b.zarr"]

    @pytest.mark.parametrize("kind", ["zarr", "nc"])
    def test_only_an_roi_set_is_replaced(self, kind, tmp_path):
        """Not a movie, nor the very store that the traces at hand are read from."""
        movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
        stores = {
            "movie": (movie[:9].to_dataset(name="movie"), "data over time, y, x .*movie"),
            "traces": (movie[:30].s2p.extract(rois, tau=1.0), "is the input .*traces"),
            "other": (xr.Dataset({"a": ("n", np.arange(4))}), "holds no ROI set .*a"),
        }
        for name, (ds, message) in stores.items():
            path = tmp_path / f"{name}.{kind}"
            if kind == "zarr":
                ds.to_zarr(path, consolidated=False)
            else:
                ds.to_netcdf(path, engine="h5netcdf")
            with (xr.open_zarr(path, consolidated=False) if kind == "zarr"
                  else xr.open_dataset(path)) as there:  # fmt: skip
                some = there if name == "traces" else rois
                with pytest.raises(FileExistsError, match=message + ".*left as it is"):
                    xs2p.write_rois(some, path, overwrite=True)
                assert set(there.load().data_vars) == set(ds.data_vars)
        if kind == "nc":
            (tmp_path / "odd.nc").write_bytes(b"no HDF5")
            with pytest.raises(FileExistsError, match=r"odd\.nc exists and cannot be read"):
                xs2p.write_rois(rois, tmp_path / "odd.nc", overwrite=True)

    def test_a_folder_in_the_place_of_the_file(self, tmp_path):
        (tmp_path / "a.tif").mkdir()
        rois = xs2p.rois_from_stat([square(0, 0)], SHAPE)
        with pytest.raises(FileExistsError, match=r"a\.tif exists and is a folder"):
            xs2p.write_rois(rois, tmp_path / "a.tif", overwrite=True)
        assert os.listdir(tmp_path) == ["a.tif"]

    def test_a_path_without_a_folder(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        rois = xs2p.rois_from_stat([square(0, 0)], SHAPE)
        for name in ("a.zip", "a.zarr"):
            assert xs2p.write_rois(rois, name) == name
            assert xs2p.read_rois(name, shape=SHAPE).sizes["roi"] == 1


def test_a_result_leaves_its_scalars_behind(tmp_path):
    """What belongs to traces goes with them, also where it has no dim."""
    rois = xs2p.sample_rois()
    ds = xs2p.sample_movie()[:30].s2p.extract(rois, tau=1.0)
    ds = ds.assign(gain=2.0).assign_coords(trial=7)
    for back in (
        xs2p.read_rois(ds),
        xs2p.read_rois(xs2p.write_rois(ds, tmp_path / "a.zarr")),
    ):
        assert set(back.variables) == set(rois.variables)


def test_components_that_caiman_does_not_have():
    footprints = csc_array(np.eye(99)[:, 40:45])
    for index, odd in (([0, -1, 4], -1), ([0, 5], 5), ([-2, 9], -2)):
        found = SimpleNamespace(A=footprints, dims=SHAPE, idx_components=np.array(index))
        with pytest.raises(ValueError, match=rf"idx_components holds {odd}, but A has 5 columns"):
            xs2p.read_rois(found)


def test_netcdf_and_zarr_are_silent_to_open(tmp_path):
    """A user opens them with xarray alone, and no warning is in the way."""
    xs2p.write_rois(xs2p.sample_rois(), tmp_path / "a.nc")
    xs2p.write_rois(xs2p.sample_rois(), tmp_path / "a.zarr")
    code = "import xarray; xarray.open_dataset('a.nc').load(); xarray.open_zarr('a.zarr').load()"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    xr.testing.assert_equal(xr.open_dataset(tmp_path / "a.nc").load().npix, xs2p.sample_rois().npix)
