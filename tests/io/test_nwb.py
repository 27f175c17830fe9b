"""NWB in and out, read and written by pynwb, judged by nwbinspector, read back by roiextractors."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr
from loaders import DATA

import xs2p
from xs2p.io import open_nwb_movie
from xs2p.io.nwb import write as nwb
from xs2p.movie.check import rate_of
from xs2p.testing import raise_if_dask_computes, simulate

pynwb = pytest.importorskip("pynwb")
REAL = DATA / "suite2p-folder-2p"
START = datetime(2024, 5, 1, 14, 30, tzinfo=UTC)
PERSONAL = {
    "subject": {"subject_id": "m1", "species": "Rattus norvegicus", "sex": "F", "age": "P60D"},
    "experimenter": ["Doe, Jane"],
    "institution": "none",
    "keywords": ["calcium"],
    "experiment_description": "a test",
}


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(9, (30, 41), 260, fs=10.0, chunks=70)
    return movie, rois


@pytest.fixture(scope="module")
def ds(recording):
    """Lazy traces of every kind, with what suite2p's classifier says."""
    movie, rois = recording
    ds = movie.s2p.extract(rois, tau=1.0, win_baseline=5.0)
    ds["dFF"] = (ds.Fc - ds.F0) / ds.F0
    ds["meanImg"] = movie.mean("time").astype("f4")
    flags = np.arange(9) % 3 > 0
    prob = ("roi", np.linspace(0, 1, 9).astype("f4"))
    return ds.assign_coords(roi=np.arange(9) * 2 + 5, iscell=("roi", flags), iscell_prob=prob)


@pytest.fixture(scope="module")
def written(ds, tmp_path_factory):
    path = tmp_path_factory.mktemp("nwb") / "session.nwb"
    with raise_if_dask_computes(max_computes=2):  # all traces in one; the images
        xs2p.write_nwb(ds, path, session_start_time=START, location="V1", **PERSONAL)
    assert os.listdir(path.parent) == ["session.nwb"]
    return path


def only(ds, *names):
    """Traces of some kinds, with their ROI set."""
    gone = {"F", "Fneu", "Fc", "F0", "spks", "dFF", "meanImg"} - set(names)
    return ds.drop_vars(gone)


def messages(path, least="CRITICAL"):
    from nwbinspector import Importance, inspect_nwbfile

    found = list(inspect_nwbfile(nwbfile_path=str(path)))
    return [m for m in found if m.importance.value >= Importance[least].value]


class TestWrite:
    def test_pynwb_reads_it_equal(self, ds, written):
        with pynwb.NWBHDF5IO(written, "r") as io:
            file = io.read()
            assert file.session_start_time == START and file.subject.subject_id == "m1"
            module = file.processing["ophys"]
            for key, (container, name) in nwb.SERIES.items():
                if key not in ds:
                    continue
                series = module[container][name]
                assert series.data.dtype == np.float32
                np.testing.assert_array_equal(series.data[:], ds[key].values.T)
                assert (series.rate, series.starting_time) == (10.0, 0.0)
                assert series.unit == ("1" if key == "dFF" else "a.u.")
                table = series.rois.table
            assert json.loads(module["Fluorescence"]["Deconvolved"].comments)["tau"] == 1.0
            assert table.id[:].tolist() == ds.roi.values.tolist()
            for label, row in enumerate(table["pixel_mask"][:]):
                own = ds.pixel_roi.values == label
                x, y, weight = (np.array([p[i] for p in row]) for i in range(3))
                np.testing.assert_array_equal(x, ds.xpix.values[own])
                np.testing.assert_array_equal(y, ds.ypix.values[own])
                np.testing.assert_array_equal(weight, ds.lam.values[own])
            np.testing.assert_array_equal(table["iscell"][:], ds.iscell)
            np.testing.assert_array_equal(table["Rejected"][:], ~ds.iscell.values)
            assert set(table["status"][:]) == {"ok"}
            image = module["SegmentationImages"]["mean"].data[:]
            np.testing.assert_array_equal(image, ds.meanImg.values.T)

    def test_nwbinspector_has_nothing_to_say(self, written):
        assert messages(written, "BEST_PRACTICE_VIOLATION") == []

    def test_roiextractors_reads_it_equal(self, ds, written):
        from roiextractors import NwbSegmentationExtractor

        found = NwbSegmentationExtractor(written)
        assert found.get_frame_shape() == (30, 41) and found.get_sampling_frequency() == 10.0
        assert list(found.get_roi_ids()) == ds.roi.values.tolist()
        of = {"raw": "F", "neuropil": "Fneu", "deconvolved": "spks", "baseline": "F0", "dff": "dFF"}
        for name, key in of.items():
            np.testing.assert_array_equal(np.asarray(found.get_traces(name=name)), ds[key].T)
        masks = found.get_roi_image_masks()
        for i in range(9):
            own = ds.pixel_roi.values == i
            image = np.zeros((30, 41), np.float32)
            image[ds.ypix.values[own], ds.xpix.values[own]] = ds.lam.values[own]
            np.testing.assert_array_equal(masks[..., i], image)
        np.testing.assert_array_equal(found.get_property("accepted", ds.roi.values), ds.iscell)
        np.testing.assert_array_equal(found.get_images_dict()["mean"], ds.meanImg)

    def test_rois_come_back(self, ds, written):
        found = xs2p.rois_from_nwb(written)
        assert set(found.variables) == {n for n, v in ds.variables.items() if "time" not in v.dims
                                        and "y" not in v.dims}  # fmt: skip
        for name in found.variables:
            assert found[name].dtype == ds[name].dtype
            xr.testing.assert_equal(found[name].variable, ds[name].variable)
        assert found.s2p.build_masks().n_rois == 9

    def test_traces_come_back(self, ds, written):
        found = xs2p.read_nwb(written)
        assert set(found.variables) == set(ds.variables)
        for name, variable in ds.variables.items():
            assert found[name].dtype == variable.dtype
            np.testing.assert_array_equal(found[name], variable)
            if {"roi", "time"} == set(variable.dims) and name != "dFF":
                assert found[name].attrs == variable.attrs
        assert {**ds.attrs, **found.attrs} == found.attrs
        again = xs2p.read_nwb(written).s2p.build_masks()
        assert again.token == ds.s2p.build_masks().token

    def test_a_folder_of_suite2p(self, tmp_path):
        ds = xs2p.read_suite2p(REAL)
        xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=START)
        found = xs2p.read_nwb(tmp_path / "a.nwb")
        for name in found.variables:
            assert found[name].dtype == ds[name].dtype
            np.testing.assert_array_equal(found[name], ds[name])
        assert {"F", "Fneu", "spks", "iscell", "iscell_prob", "meanImg"} <= set(found.variables)

    def test_planes_and_channels(self, recording, tmp_path):
        movie, rois = recording
        stack = xr.concat([movie, movie + np.int16(9)], "plane").assign_attrs(movie.attrs)
        placed = rois.assign_coords(plane=("roi", np.arange(9) % 2))
        planes = stack.s2p.extract(placed, tau=1.0)
        xs2p.write_nwb(planes, tmp_path / "p.nwb", session_start_time=START)
        with pynwb.NWBHDF5IO(tmp_path / "p.nwb", "r") as io:
            file = io.read()
            series = file.processing["ophys"]["Fluorescence"]["DeconvolvedPlane1"]
            np.testing.assert_array_equal(series.data[:], planes.spks.values[1::2].T)
            assert series.rois.table.name == "PlaneSegmentationPlane1"
            assert sorted(file.imaging_planes) == ["ImagingPlanePlane0", "ImagingPlanePlane1"]
        order = [0, 2, 4, 6, 8, 1, 3, 5, 7]
        for read in (xs2p.read_rois, xs2p.rois_from_nwb, xs2p.read_nwb):
            found = read(tmp_path / "p.nwb")
            assert found.roi.values.tolist() == order
            for name in ("plane", "npix", "med_y", "frac_overlap", "status"):
                np.testing.assert_array_equal(found[name], planes[name].sel(roi=order))
            by_pixel = [placed.pixel_roi.values == n for n in order]
            for name in ("ypix", "xpix", "lam"):
                want = np.concatenate([placed[name].values[own] for own in by_pixel])
                np.testing.assert_array_equal(found[name], want)
        for name in ("F", "Fneu", "Fc", "F0", "spks"):
            np.testing.assert_array_equal(found[name], planes[name].sel(roi=order))
            assert found[name].attrs["units"] == planes[name].attrs["units"]
        np.testing.assert_array_equal(found.time, planes.time)
        assert found.attrs["fs"] == 10.0 and found.attrs["Ly"] == 30
        again = stack.s2p.extract(found, tau=1.0)
        np.testing.assert_array_equal(again.F, found.F)
        one = xs2p.rois_from_nwb(tmp_path / "p.nwb", name="PlaneSegmentationPlane1")
        assert one.roi.values.tolist() == [1, 3, 5, 7] and set(one.plane.values) == {1}
        one = xs2p.read_nwb(tmp_path / "p.nwb", name="PlaneSegmentationPlane1")
        np.testing.assert_array_equal(one.spks, planes.spks.values[1::2])

        two = xr.concat([movie, movie + np.int16(9)], "channel").assign_attrs(movie.attrs)
        channels = two.s2p.extract(rois)
        xs2p.write_nwb(channels, tmp_path / "c.nwb", session_start_time=START)
        with pynwb.NWBHDF5IO(tmp_path / "c.nwb", "r") as io:
            file = io.read()
            found = file.processing["ophys"]["Fluorescence"]
            for n, name in enumerate(("Neuropil", "NeuropilChan2")):
                np.testing.assert_array_equal(found[name].data[:], channels.Fneu.values[n].T)
            assert len(file.imaging_planes["ImagingPlane"].optical_channel) == 2

    def test_added_to_a_file_with_the_movie(self, recording, ds, tmp_path):
        movie, rois = recording
        path = movie_file(tmp_path, movie)
        with pynwb.NWBHDF5IO(path, "r") as io:
            file = io.read()
            plane = file.imaging_planes["plane"]
            new = tmp_path / "new.nwb"
            xs2p.write_nwb(ds, new, nwbfile=file, imaging_plane=plane, image_masks=False)
        assert messages(new)[0].check_function_name == "check_subject_exists"
        with pynwb.NWBHDF5IO(new, "r") as io:
            file = io.read()
            series = file.processing["ophys"]["Fluorescence"]["Neuropil"]
            np.testing.assert_array_equal(series.data[:], ds.Fneu.values.T)
            assert series.rois.table.imaging_plane is file.acquisition["movie"].imaging_plane
        # The movie of the same imaging plane says how large the frame is.
        found = xs2p.rois_from_nwb(new)
        np.testing.assert_array_equal(found.ypix, rois.ypix)
        assert (found.attrs["Ly"], found.attrs["Lx"]) == (30, 41)

    def test_times(self, ds, tmp_path):
        ds = ds.drop_vars(["Fneu", "Fc", "F0", "spks", "dFF", "meanImg"])
        shifted = ds.assign_coords(time=("time", ds.time.values + 3.5, {"units": "s"}))
        jitter = np.cumsum(np.random.default_rng(0).uniform(0.05, 0.15, 260))
        for name, some, expected in (
            ("a", ds.drop_vars("time"), (10.0, 0.0, None)),
            ("b", shifted, (10.0, 3.5, None)),
            ("c", ds.assign_coords(time=jitter), (None, None, jitter)),
        ):
            xs2p.write_nwb(some, tmp_path / f"{name}.nwb", session_start_time=START)
            with pynwb.NWBHDF5IO(tmp_path / f"{name}.nwb", "r") as io:
                series = io.read().processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
                assert (series.rate, series.starting_time) == expected[:2]
                if name == "c":
                    np.testing.assert_array_equal(series.timestamps[:], jitter)
        with pytest.raises(ValueError, match="expected seconds from the start"):
            odd = ds.assign_coords(time=("time", np.arange(260), {"units": "frames"}))
            xs2p.write_nwb(odd, tmp_path / "d.nwb", session_start_time=START)

    def test_the_rate_is_the_one_that_was_given(self, ds, tmp_path):
        """Not that of times that were made of it, which rounding has moved."""
        times = 7.0 + np.arange(260) / 30.03
        one = only(ds, "F").assign_coords(time=times).assign_attrs(ds.attrs | {"fs": 30.03})
        assert rate_of(times) != 30.03
        xs2p.write_nwb(one, tmp_path / "a.nwb", session_start_time=START)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            series = io.read().processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
            assert series.rate == 30.03 and series.starting_time == 7.0
        assert xs2p.read_nwb(tmp_path / "a.nwb").attrs["fs"] == 30.03

    def test_columns_whose_names_the_table_has(self, ds, tmp_path):
        """They are read again, by pynwb too, and no warning is in the way (pytest -W error)."""
        names = ["id", "name", "description", "colnames", "columns", "object_id", "parent",
                 "pixel_mask", "image_mask", "voxel_mask", "pixel_mask_index", "copy",
                 "xs2p_name", "xs2p_xs2p_id", "xs2p_mine", "mine", "namespace"]  # fmt: skip
        values = {name: ("roi", np.arange(9) + 10 * n) for n, name in enumerate(names)}
        values["name"] = "roi", np.array([f"Purkinje {n}" for n in range(9)], object)
        one = only(ds, "F").assign_coords(values)
        xs2p.write_nwb(one, tmp_path / "a.nwb", session_start_time=START)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            table = io.read().processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
            assert table.id[:].tolist() == ds.roi.values.tolist()
            assert table["xs2p_name"][:].tolist() == one.name.values.tolist()
            assert {"mine", "xs2p_mine", "xs2p_id", "xs2p_xs2p_name"} <= set(table.colnames)
        for found in (xs2p.read_nwb(tmp_path / "a.nwb"), xs2p.rois_from_nwb(tmp_path / "a.nwb")):
            for name in names:
                np.testing.assert_array_equal(found[name], one[name], err_msg=name)
            assert not {"xs2p_id", "xs2p_description"} & set(found.variables)
            assert found.s2p.build_masks().n_rois == 9

    @pytest.mark.parametrize("name", ["a/b", "a:b"])
    def test_a_name_that_hdf5_does_not_take(self, ds, tmp_path, name):
        file, _ = imaging()
        odd = ds.assign_coords({name: ("roi", np.arange(9))})
        with (
            pytest.raises(ValueError, match=rf"'{name}' cannot be the name .*ds\.rename"),
            raise_if_dask_computes(),
        ):
            xs2p.write_nwb(odd, tmp_path / "a.nwb", nwbfile=file)
        assert not file.processing and os.listdir(tmp_path) == []

    def test_a_failed_write_leaves_a_given_file_as_it_was(self, ds, tmp_path, monkeypatch):
        file, plane = imaging()
        ds = ds.compute()

        def fail(*args):
            raise OSError("the disk is full")

        monkeypatch.setattr("xs2p.io.nwb.parts._blocks", fail)
        with pytest.raises(OSError, match="disk is full"):
            xs2p.write_nwb(ds, tmp_path / "a.nwb", nwbfile=file, imaging_plane=plane)
        monkeypatch.undo()
        xs2p.write_nwb(ds, tmp_path / "a.nwb", nwbfile=file, imaging_plane=plane)
        np.testing.assert_array_equal(xs2p.read_nwb(tmp_path / "a.nwb").spks, ds.spks)

    def test_images_x_y_and_of_other_sizes(self, ds, tmp_path):
        turned = only(ds, "F", "meanImg").compute()
        turned["meanImg"] = turned.meanImg.transpose("x", "y")
        xs2p.write_nwb(turned, tmp_path / "a.nwb", session_start_time=START)
        found = xs2p.read_nwb(tmp_path / "a.nwb").meanImg
        assert found.dims == ("y", "x")
        np.testing.assert_array_equal(found, ds.meanImg)

        odd = only(ds, "F").compute().drop_dims(["y", "x"], errors="ignore")
        odd["small"] = ("y", "x"), np.ones((30, 40))
        odd["two"] = ("c", "y", "x"), np.ones((2, 30, 40))
        message = r"small \('y', 'x'\) of shape \(30, 40\).*two .*left out.*frame \(30, 41\)"
        with pytest.warns(UserWarning, match=message) as caught:
            xs2p.write_nwb(odd, tmp_path / "b.nwb", session_start_time=START)
        assert len(caught) == 1

    def test_nan_traces_stay_nan(self, ds, tmp_path):
        whole = ds.compute()
        whole["F"][2] = np.nan
        xs2p.write_nwb(whole, tmp_path / "a.nwb", session_start_time=START)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            series = io.read().processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
            np.testing.assert_array_equal(series.data[:], whole.F.values.T)

    @pytest.mark.parametrize(
        ("change", "more", "kind", "message"),
        [
            ({}, {"session_start_time": None}, ValueError, "NWB requires the date and time"),
            ({}, {"session_start_time": datetime(2024, 5, 1)}, ValueError, "has no time zone"),
            ({}, {"path": "a.h5"}, ValueError, "ends in .nwb"),
            ({}, {"path": "no/a.nwb"}, FileNotFoundError, "no folder"),
            ({}, {"path": "there.nwb"}, FileExistsError, "overwrite=True"),
            ({}, {"nwbfile": 3, "session_start_time": None}, ValueError, "expected a pynwb.NWB"),
            ({"drop_vars": ["ypix"]}, {}, ValueError, "lacks ypix.*assign_coords"),
            ({"isel": {"time": slice(0, 0)}}, {}, ValueError, "nothing to write"),
            ({"drop_vars": [*nwb.SERIES]}, {}, ValueError, "has no traces"),
        ],
        ids=lambda value: str(value)[:30],
    )
    def test_refused_before_any_work(self, ds, tmp_path, change, more, kind, message):
        (tmp_path / "there.nwb").write_text("mine")
        for method, value in change.items():
            value = [v for v in value if v in ds] if method == "drop_vars" else value
            ds = getattr(ds, method)(value)
        arguments = {"session_start_time": START, "path": "out.nwb", **more}
        arguments["path"] = tmp_path / arguments["path"]
        with pytest.raises(kind, match=message), raise_if_dask_computes():
            xs2p.write_nwb(ds, **arguments)
        assert os.listdir(tmp_path) == ["there.nwb"]

    def test_a_failed_write_leaves_nothing(self, ds, tmp_path, monkeypatch):
        target = tmp_path / "a.nwb"
        xs2p.write_nwb(ds, target, session_start_time=START)
        old = target.read_bytes()

        def fail(*args):
            raise OSError("the disk is full")

        monkeypatch.setattr("xs2p.io.nwb.parts._blocks", fail)
        with pytest.raises(OSError, match="disk is full"):
            xs2p.write_nwb(ds, target, session_start_time=START, overwrite=True)
        assert os.listdir(tmp_path) == ["a.nwb"] and target.read_bytes() == old

    def test_without_pynwb(self, ds, tmp_path, monkeypatch):
        monkeypatch.setitem(__import__("sys").modules, "pynwb", None)
        for call in (
            lambda: xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=START),
            lambda: xs2p.rois_from_nwb(tmp_path / "a.nwb"),
        ):
            with pytest.raises(ImportError, match=r'pip install "xs2p\[nwb\]"'):
                call()


def imaging(**fields):
    """An NWB file in memory, and its imaging plane."""
    file = pynwb.NWBFile("a test", "id", START, **fields)
    channel = pynwb.ophys.OpticalChannel(name="c", description="green", emission_lambda=520.0)
    plane = file.create_imaging_plane(
        name="plane",
        description="the plane",
        optical_channel=channel,
        device=file.create_device(name="microscope"),
        excitation_lambda=920.0,
        indicator="GCaMP6s",
        location="V1",
    )
    return file, plane


def three_rois():
    """A file with ROIs 0, 10 and 20 of one pixel each, and an empty container for traces."""
    file, plane = imaging()
    made = pynwb.ophys.PlaneSegmentation(name="rois", description="ROIs", imaging_plane=plane)
    for n in range(3):
        made.add_roi(pixel_mask=[(20 + n, 3, 1.0)], id=10 * n)
    module = file.create_processing_module("ophys", "ophys")
    module.add(pynwb.ophys.ImageSegmentation(name="seg", plane_segmentations=[made]))
    traces = pynwb.ophys.Fluorescence(name="Fluorescence")
    module.add(traces)
    return file, made, traces


def saved(file, path):
    with pynwb.NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def movie_file(folder, movie, **series):
    file, plane = imaging()
    series = {"rate": 10.0, "starting_time": 0.0, "unit": "n.a.", **series}
    data = movie.transpose("time", "x", "y").values
    file.add_acquisition(
        pynwb.ophys.TwoPhotonSeries(name="movie", data=data, imaging_plane=plane, **series)
    )
    return saved(file, folder / "movie.nwb")


class TestRois:
    """Tables as pynwb writes them, of a frame that is not square."""

    def table(self, tmp_path, add, size=3, more=None, **fields):
        file, plane = imaging()
        made = pynwb.ophys.PlaneSegmentation(
            name="rois", description="ROIs", imaging_plane=plane, **fields
        )
        for n in range(size):
            made.add_roi(**add(n))
        for name, values in (more or {}).items():
            made.add_column(name=name, description=f"the {name}", data=values)
        segmentation = pynwb.ophys.ImageSegmentation(name="seg")
        segmentation.add_plane_segmentation(made)
        file.create_processing_module("ophys", "ophys").add(segmentation)
        return saved(file, tmp_path / "rois.nwb"), made

    def test_pixel_masks_are_x_y(self, tmp_path):
        path, made = self.table(
            tmp_path,
            lambda n: {"pixel_mask": [(20 + n, 3, 1.0), (21 + n, 4, 0.5)], "id": 10 * n},
            more={"Accepted": [1, 0, 1], "kind": ["a", "b", "a"], "F": [0.5, 1, 2],
                  "where": [[0, 1], [2, 3], [4, 5]]},
        )  # fmt: skip
        with pytest.warns(UserWarning, match="columns where of 'rois' are left out"):
            rois = xs2p.rois_from_nwb(path, shape=(8, 30))
        assert rois.roi.values.tolist() == [0, 10, 20]
        assert rois.xpix.values.tolist() == [20, 21, 21, 22, 22, 23]
        assert rois.ypix.values.tolist() == [3, 4] * 3
        assert rois.lam.values.tolist() == [1, 0.5] * 3
        assert rois.Accepted.values.tolist() == [1, 0, 1]
        assert rois.kind.values.tolist() == ["a", "b", "a"]
        assert rois.nwb_F.values.tolist() == [0.5, 1, 2]  # F is what traces are called
        assert rois.kind.attrs["description"] == "the kind"
        with pytest.warns(UserWarning, match="left out"):
            xr.testing.assert_identical(xs2p.rois_from_nwb(made, shape=(8, 30)), rois)
        with pytest.raises(ValueError, match=r"size of the frame is not known.*shape=\(Ly, Lx\)"):
            xs2p.rois_from_nwb(path)

    def test_pixel_masks_the_other_way_round(self, tmp_path):
        path, _ = self.table(tmp_path, lambda n: {"pixel_mask": [(3, 20 + n, 1.0)]})
        with pytest.raises(ValueError, match=r"'rois' has no traces \(RoiResponseSeries\)"):
            xs2p.read_nwb(path, shape=(30, 8))
        for read in (xs2p.rois_from_nwb, xs2p.read_rois):
            with pytest.raises(ValueError, match=r"outside the frame .*order='yx'\) reads"):
                read(path, shape=(8, 30))
        rois = xs2p.rois_from_nwb(path, shape=(8, 30), order="yx")
        assert rois.ypix.values.tolist() == [3, 3, 3] and rois.xpix.values.tolist() == [20, 21, 22]

    def test_image_masks_are_x_y(self, tmp_path):
        masks = np.zeros((3, 30, 8), np.float32)
        masks[0, 5:8, 2] = (1, 2, 3)
        masks[1, 29, 7] = 1
        path, _ = self.table(tmp_path, lambda n: {"image_mask": masks[n]})
        rois = xs2p.rois_from_nwb(path)
        assert (rois.attrs["Ly"], rois.attrs["Lx"]) == (8, 30)
        assert rois.npix.values.tolist() == [3, 1, 0]
        assert rois.xpix.values.tolist() == [5, 6, 7, 29] and rois.ypix.values.tolist() == [
            2
        ] * 3 + [7]
        expected = xs2p.rois_from_footprints(masks.transpose(0, 2, 1))
        for name in expected.variables:
            xr.testing.assert_identical(rois[name].variable, expected[name].variable)
        with pytest.raises(ValueError, match=r"shape=\(30, 8\) disagrees.*\(8, 30\)"):
            xs2p.rois_from_nwb(path, shape=(30, 8))

    def test_voxel_masks(self, tmp_path):
        path, _ = self.table(tmp_path, lambda n: {"voxel_mask": [(20, 3, n, 1.0), (21, 3, n, 2.0)]})
        rois = xs2p.rois_from_nwb(path, shape=(8, 30))
        assert rois.plane.values.tolist() == [0, 1, 2] and not rois.overlap.any()
        path, _ = self.table(
            tmp_path, lambda n: {"voxel_mask": [(2, 3, 0, 1.0), (2, 3, n, 2.0)]}, 2
        )
        with pytest.raises(ValueError, match=r"1 ROIs lie in several planes \(roi 1;.*z 0 to 1"):
            xs2p.rois_from_nwb(path, shape=(8, 30))

    def test_traces_of_others(self, tmp_path):
        """Some ROIs of a table, in another order, and frames that are not regular."""
        file, made, traces = three_rois()
        values, times = np.arange(8.0).reshape(4, 2), np.array([0.0, 1.0, 3.0, 4.0])
        for name, at in (("RoiResponseSeries", times), ("mine", times), ("late", times + 1)):
            rois = made.create_roi_table_region(description="two", region=[2, 0])
            some = {"name": name, "data": values, "unit": "V", "timestamps": at, "rois": rois}
            traces.add_roi_response_series(pynwb.ophys.RoiResponseSeries(**some))
        with pytest.warns(UserWarning, match="late are left out, whose frames are at other times"):
            ds = xs2p.read_nwb(saved(file, tmp_path / "a.nwb"), shape=(8, 30))
        assert list(ds.data_vars) == ["F", "mine"] and "fs" not in ds.attrs
        assert ds.time.values.tolist() == times.tolist()
        np.testing.assert_array_equal(ds.F.sel(roi=20), values[:, 0])
        np.testing.assert_array_equal(ds.mine.sel(roi=0), values[:, 1])
        assert ds.F.sel(roi=10).isnull().all() and ds.F.attrs["units"] == "V"

    def with_traces(self, tmp_path, data, **more):
        file, made, traces = three_rois()
        rois = made.create_roi_table_region(description="two", region=more.pop("region", [2, 0]))
        some = {"name": "RoiResponseSeries", "data": data, "rois": rois, "unit": "volts", **more}
        traces.add_roi_response_series(pynwb.ophys.RoiResponseSeries(rate=10.0, **some))
        return saved(file, tmp_path / "traces.nwb")

    @pytest.mark.parametrize("dtype", ["f8", "i2"])
    def test_conversion_and_offset(self, tmp_path, dtype):
        data = np.arange(8, dtype=dtype).reshape(4, 2)
        path = self.with_traces(tmp_path, data, conversion=10.0, offset=100.0)
        F = xs2p.read_nwb(path, shape=(8, 30)).F
        assert F.sel(roi=20).values.tolist() == [100, 120, 140, 160]
        assert F.sel(roi=0).values.tolist() == [110, 130, 150, 170]
        assert F.dtype == np.float32 and F.attrs["units"] == "volts"

    @pytest.mark.filterwarnings("ignore:.*dimension of data does not match:UserWarning")
    def test_traces_that_are_not_time_roi(self, tmp_path):
        turned = self.with_traces(tmp_path, np.arange(8.0).reshape(2, 4))
        with pytest.warns(UserWarning, match=r"F are stored as \(roi, time\).*are turned"):
            ds = xs2p.read_nwb(turned, shape=(8, 30))
        assert ds.F.sel(roi=20).values.tolist() == [0, 1, 2, 3] and ds.time.values[-1] == 0.3
        assert ds.F.sel(roi=0).values.tolist() == [4, 5, 6, 7]
        with pytest.raises(ValueError, match=r"shape \(3, 4\), expected \(time, roi\) = \(3, 2\)"):
            xs2p.read_nwb(self.with_traces(tmp_path, np.zeros((3, 4))), shape=(8, 30))
        one = self.with_traces(tmp_path, np.arange(4.0), region=[1])
        assert xs2p.read_nwb(one, shape=(8, 30)).F.sel(roi=10).values.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        "name", ["lam", "overlap", "ypix", "xpix", "med", "soma_crop", "pixel_roi", "status"]
    )
    def test_columns_with_names_of_pixels(self, tmp_path, name):
        path, _ = self.table(
            tmp_path, lambda n: {"pixel_mask": [(20 + n, 3, 1.0), (21 + n, 4, 0.5)]},
            more={name: [1.0, 2.0, 4.0], f"nwb_{name}": [5.0, 6.0, 7.0]},
        )  # fmt: skip
        rois = xs2p.rois_from_nwb(path, shape=(8, 30))
        assert rois[f"nwb_nwb_{name}"].values.tolist() == [1, 2, 4]
        assert rois[f"nwb_{name}"].values.tolist() == [5, 6, 7]
        assert rois.lam.values.tolist() == [1, 0.5] * 3
        assert xs2p.recompute_overlap(rois).s2p.build_masks().n_rois == 3

    def test_measures_that_are_not_known(self, tmp_path):
        pixels = [[(20 + n, 3, 1.0), (21 + n, 4, 0.5)] for n in range(4)]
        path, _ = self.table(
            tmp_path, lambda n: {"pixel_mask": pixels[n]}, 4,
            more={"radius": [3.0, -1.0, np.nan, np.inf], "med_y": [9.0, np.nan, 7.0, 6.0],
                  "med_x": [2.0, 2.0, 2.0, np.inf]},
        )  # fmt: skip
        rois = xs2p.rois_from_nwb(path, shape=(8, 30))
        path, _ = self.table(
            tmp_path, lambda n: {"pixel_mask": pixels[n]}, 4, more={"radius": list("abcd")}
        )
        computed = xs2p.rois_from_nwb(path, shape=(8, 30))
        assert computed.nwb_radius.values.tolist() == list("abcd")
        assert rois.radius.values.tolist() == [3, *computed.radius.values[1:]]
        assert rois.med_y.values.tolist() == [9, 3.5, 7, 3.5]
        assert rois.med_x.values.tolist() == [2, 21.5, 2, 23.5]

    def test_frame_of_reference_images(self, tmp_path):
        stack = pynwb.image.ImageSeries(
            name="ref", data=np.zeros((2, 30, 8)), unit="n.a.", rate=1.0
        )
        path, _ = self.table(
            tmp_path, lambda n: {"pixel_mask": [(20 + n, 3, 1.0)]}, reference_images=stack
        )
        rois = xs2p.rois_from_nwb(path)
        assert (rois.attrs["Ly"], rois.attrs["Lx"]) == (8, 30)

    def test_what_is_no_table_of_rois(self, tmp_path, recording):
        with pytest.raises(FileNotFoundError, match="no file"):
            xs2p.rois_from_nwb(tmp_path / "no.nwb")
        (tmp_path / "odd.nwb").write_bytes(b"no HDF5")
        with pytest.raises(ValueError, match="cannot be read as NWB"):
            xs2p.rois_from_nwb(tmp_path / "odd.nwb")
        with pytest.raises(ValueError, match="holds no PlaneSegmentation"):
            xs2p.rois_from_nwb(movie_file(tmp_path, recording[0]))
        with pytest.raises(ValueError, match="holds no PlaneSegmentation"):
            xs2p.read_nwb(movie_file(tmp_path, recording[0]))
        with pytest.raises(ValueError, match="got list"):
            xs2p.rois_from_nwb([1, 2])


class TestMovie:
    def test_lazy_equal_and_labelled(self, recording, tmp_path):
        movie = recording[0]
        path = movie_file(tmp_path, movie, starting_time=2.0)
        with raise_if_dask_computes():
            found = open_nwb_movie(path, chunks=64)
        assert found.dims == ("time", "y", "x") and found.dtype == movie.dtype
        assert found.chunksizes["time"] == (64, 64, 64, 64, 4)
        np.testing.assert_array_equal(found, movie)
        np.testing.assert_array_equal(found[3:200:7, 5:9, ::-1], movie[3:200:7, 5:9, ::-1])
        assert found.attrs["fs"] == 10.0 and found.attrs["units"] == "1"
        np.testing.assert_allclose(found.time, 2.0 + np.arange(260) / 10)
        F = found.s2p.extract(recording[1]).F
        np.testing.assert_array_equal(F, movie.s2p.extract(recording[1]).F)

    def test_chunks_are_bounded(self, tmp_path, monkeypatch):
        """A file whose chunks are long in time and small in space."""
        import h5py

        from xs2p.movie import chunks as movie_chunks

        with h5py.File(tmp_path / "a.nwb", "w") as file:
            group = file.create_group("acquisition/movie")
            group.attrs["neurodata_type"] = "TwoPhotonSeries"
            group.create_dataset("data", (200, 48, 40), "u2", chunks=(50, 16, 10))[:] = np.arange(
                48 * 40
            ).reshape(48, 40)
        monkeypatch.setattr(movie_chunks, "TARGET_BYTES", 200 * 16 * 20 * 2)
        movie = open_nwb_movie(tmp_path / "a.nwb")
        assert movie.data.chunksize == (200, 10, 32)
        np.testing.assert_array_equal(movie[7], np.arange(48 * 40).reshape(48, 40).T)

    def test_another_frame_rate(self, recording, tmp_path):
        """The first frame keeps its time."""
        path = movie_file(tmp_path, recording[0], starting_time=5.0)
        with pytest.warns(UserWarning, match="fs=20 Hz .* in place of the rate .* 10 Hz"):
            movie = xs2p.open_movie(path, fs=20)
        np.testing.assert_array_equal(movie.time, 5 + np.arange(260) / 20)
        assert movie.attrs["fs"] == 20.0 and "that of the first" in movie.time.attrs["description"]

    def test_roiextractors_reads_it_the_same_way(self, recording, tmp_path):
        from roiextractors import NwbImagingExtractor

        path = movie_file(tmp_path, recording[0])
        theirs = NwbImagingExtractor(path, optical_series_name="movie").get_series(0, 5)
        np.testing.assert_array_equal(open_nwb_movie(path)[:5], theirs)

    def test_timestamps_and_conversion(self, recording, tmp_path):
        movie = recording[0]
        times = 4.0 + np.arange(260) / 7.5
        some = {"rate": None, "starting_time": None}
        path = movie_file(tmp_path, movie, timestamps=times, conversion=0.5, offset=2.0, unit="V",
                          **some)  # fmt: skip
        found = open_nwb_movie(path)
        assert found.attrs["fs"] == pytest.approx(7.5, rel=1e-9)
        np.testing.assert_array_equal(found.time, times)
        kept = {key: found.attrs[key] for key in ("units", "conversion", "offset", "unit")}
        assert kept == {"units": "1", "conversion": 0.5, "offset": 2.0, "unit": "V"}
        assert found.dtype == np.int16
        times[100:] += 0.5
        found = open_nwb_movie(movie_file(tmp_path, movie, timestamps=times, **some))
        assert "fs" not in found.attrs and found.time.values[-1] == times[-1]

    def test_several_movies_volumes_and_external_files(self, tmp_path):
        file, plane = imaging()
        series = pynwb.ophys.TwoPhotonSeries
        some = {"imaging_plane": plane, "rate": 10.0}
        frames = np.arange(3 * 4 * 5, dtype="u2").reshape(3, 4, 5)
        file.add_acquisition(series(name="a", data=frames, unit="n.a.", **some))
        one = pynwb.ophys.OnePhotonSeries(name="b", data=frames + 1, unit="n.a.", **some)
        file.add_acquisition(one)
        path = saved(file, tmp_path / "a.nwb")
        with pytest.raises(ValueError, match=r"holds 2 movies.*variable='a'.*OnePhotonSeries"):
            open_nwb_movie(path)
        assert open_nwb_movie(path, variable="b")[0, 0, 1] == frames[0, 1, 0] + 1
        assert open_nwb_movie(path, variable="acquisition/b").sizes["y"] == 5
        with pytest.raises(ValueError, match="variable='c' is no image series"):
            open_nwb_movie(path, variable="c")

        file, plane = imaging()
        some["imaging_plane"] = plane
        file.add_acquisition(series(name="v", data=np.zeros((3, 4, 5, 2)), unit="n.a.", **some))
        outside = {"external_file": ["a.tif", "b.tif"], "starting_frame": [0, 5]}
        outside |= {"format": "external", "dimension": [4, 5], "timestamps": np.arange(9.0)}
        file.add_acquisition(series(name="e", imaging_plane=plane, **outside))
        path = saved(file, tmp_path / "b.nwb")
        with pytest.raises(ValueError, match=r"holds volumes.*\(3, 4, 5, 2\)"):
            open_nwb_movie(path, variable="v")
        with pytest.raises(
            ValueError, match=r"not in the NWB file but in a\.tif, b\.tif.*open_movie"
        ):
            open_nwb_movie(path, variable="e")

    def test_what_is_no_movie(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="no file"):
            open_nwb_movie(tmp_path / "no.nwb")
        (tmp_path / "odd.nwb").write_bytes(b"no HDF5")
        with pytest.raises(ValueError, match="cannot be read as HDF5"):
            open_nwb_movie(tmp_path / "odd.nwb")
        path = saved(imaging()[0], tmp_path / "empty.nwb")
        with pytest.raises(ValueError, match="holds no TwoPhotonSeries"):
            open_nwb_movie(path)
