"""NWB files as suite2p, CaImAn and others write them, and times that are no plain seconds."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta, timezone

import h5py
import numpy as np
import pytest
import xarray as xr

import xs2p

pynwb = pytest.importorskip("pynwb")
START = datetime(2024, 5, 1, 14, 30, tzinfo=UTC)
SHAPE = (12, 20)
Y, X = np.repeat(np.arange(2, 5), 2), np.tile([15, 16], 3)
TRANSPOSED = pytest.mark.filterwarnings("ignore:.*dimension of data does not match:UserWarning")


class Session:
    """An NWB file with one table of ROIs."""

    def __init__(self, description="ROIs", session="a test", table="PlaneSegmentation", **fields):
        self.file = pynwb.NWBFile(session, "id", START, **fields)
        self.plane = self.file.create_imaging_plane(
            name="plane",
            description="the plane",
            optical_channel=pynwb.ophys.OpticalChannel(
                name="c", description="green", emission_lambda=520.0
            ),
            device=self.file.create_device(name="microscope"),
            excitation_lambda=920.0,
            indicator="GCaMP6s",
            location="V1",
        )
        self.segmentation = pynwb.ophys.ImageSegmentation()
        self.table = table and self.segmentation.create_plane_segmentation(
            name=table, description=description, imaging_plane=self.plane
        )
        self.module = self.file.create_processing_module("ophys", "ophys")
        self.module.add(self.segmentation)

    def add(self, container, name, data, rows, **time):
        into = self.module.data_interfaces.get(container)
        if into is None:
            into = pynwb.ophys.Fluorescence(name=container)
            self.module.add(into)
        rois = self.table.create_roi_table_region(description="some", region=list(rows))
        series = pynwb.ophys.RoiResponseSeries(
            name=name, data=data, rois=rois, unit="lumens", **(time or {"rate": 10.0})
        )
        into.add_roi_response_series(series)

    def save(self, folder):
        with pynwb.NWBHDF5IO(folder / "a.nwb", "w") as io:
            io.write(self.file)
        return folder / "a.nwb"


def pixels(rois):
    return sorted(zip(rois.ypix.values.tolist(), rois.xpix.values.tolist(), strict=True))


WANTED = sorted(zip(Y.tolist(), X.tolist(), strict=True))


@pytest.mark.parametrize("kind", ["pixel_mask", "voxel_mask"])
@pytest.mark.parametrize("told", [("suite2p output", "x"), ("ROIs", "suite2p_proc")])
def test_suite2p_has_y_first(tmp_path, kind, told):
    made = Session(*told)
    ones = np.ones(Y.size)
    rows = [Y, X, ones] if kind == "pixel_mask" else [Y, X, 0 * ones, ones]
    made.table.add_roi(**{kind: np.array(rows).T})
    series = pynwb.ophys.TwoPhotonSeries(
        name="movie", imaging_plane=made.plane, external_file=["a.tif"], format="external",
        dimension=list(SHAPE), timestamps=np.arange(9.0), starting_frame=[0],
    )  # fmt: skip
    made.file.add_acquisition(series)
    made.add("Fluorescence", "plane0", np.zeros((5, 1)), [0])
    path = made.save(tmp_path)
    for read in (xs2p.read_rois, xs2p.rois_from_nwb, xs2p.read_nwb):
        for shape in (None, SHAPE):
            found = read(path, shape=shape)
            assert pixels(found) == WANTED and (found.attrs["Ly"], found.attrs["Lx"]) == SHAPE
            assert found.attrs["nwb_order"] == "yx" and "suite2p" in found.attrs["nwb_order_source"]
        said = read(path, shape=(20, 12), order="xy")
        assert pixels(said) == sorted((x, y) for y, x in WANTED)
        assert said.attrs["nwb_order"] == "xy"


def test_square_frame_of_an_unknown_writer(tmp_path):
    made = Session()
    made.table.add_roi(pixel_mask=np.array([X, Y, np.ones(Y.size)]).T)
    path = made.save(tmp_path)
    found = xs2p.read_rois(path, shape=(20, 20))
    assert pixels(found) == WANTED
    assert found.attrs["nwb_order"] == "xy" and "schema" in found.attrs["nwb_order_source"]
    assert pixels(xs2p.read_rois(path, shape=(20, 20), order="yx")) != WANTED
    with pytest.raises(ValueError, match="order='zx': expected 'xy'"):
        xs2p.read_rois(path, shape=(20, 20), order="zx")
    with pytest.raises(ValueError, match="order='xy' says how an NWB file"):
        xs2p.read_rois(np.eye(3, dtype=int), order="xy")


def test_the_stored_shape_reversed_says_the_order(tmp_path):
    made = Session()
    mask = np.zeros(SHAPE, "f4")
    mask[Y, X] = 1
    made.table.add_roi(image_mask=mask)
    path = made.save(tmp_path)
    with pytest.raises(ValueError, match='disagrees.*axes reversed.*order="yx"'):
        xs2p.read_rois(path, shape=SHAPE)
    assert pixels(xs2p.read_rois(path, shape=SHAPE, order="yx")) == WANTED


@pytest.mark.parametrize("shape", [SHAPE, (20, 20)])
@pytest.mark.parametrize("known", ["columns", "text"])
def test_caiman_writes_columns_as_rows(tmp_path, shape, known):
    made = Session("CNMF_ROIs", "by CaImAn" if known == "text" else "a test")
    image = np.zeros(shape, "f4")
    image[Y, X] = 1
    made.table.add_roi(image_mask=image.ravel(order="F").reshape(shape))  # A[:, n].reshape(dims)
    if known == "columns":
        for name in ("r", "snr"):
            made.table.add_column(name, "of the component", data=[0.9])
    found = xs2p.read_rois(made.save(tmp_path))
    assert pixels(found) == WANTED and (found.attrs["Ly"], found.attrs["Lx"]) == shape
    assert "CaImAn" in found.attrs["nwb_order_source"]


def test_another_cnmf_is_read_as_the_schema_has_it(tmp_path):
    mask = np.zeros(SHAPE[::-1], "f4")
    mask[X, Y] = 1
    made = Session("CNMF_ROIs")
    made.table.add_roi(image_mask=mask)
    with pytest.warns(UserWarning, match=r"a\.nwb: .*CNMF_ROIs.*nothing else says that CaImAn"):
        found = xs2p.read_rois(made.save(tmp_path))
    assert pixels(found) == WANTED and found.attrs["nwb_order"] == "xy"
    given = {"source_script": "by NeuroConv", "source_script_file_name": "a.py"}
    made = Session("CNMF_ROIs", "from CaImAn", **given)
    made.table.add_roi(image_mask=mask)
    assert pixels(xs2p.read_rois(made.save(tmp_path))) == WANTED


@pytest.mark.parametrize(("script", "turned"), [(None, False), ("by NeuroConv", True)])
def test_minian_has_y_first_unless_neuroconv_wrote_it(tmp_path, script, turned):
    fields = {"source_script": script, "source_script_file_name": "a.py"} if script else {}
    made = Session("minian output", **fields)
    mask = np.zeros(SHAPE[::-1] if turned else SHAPE, "f4")
    mask[(X, Y) if turned else (Y, X)] = 1
    made.table.add_roi(image_mask=mask)
    assert pixels(xs2p.read_rois(made.save(tmp_path))) == WANTED


def nwb_movie(path, data):
    import h5py

    with h5py.File(path, "w") as file:
        series = file.create_group("acquisition/movie")
        series.attrs["neurodata_type"] = "TwoPhotonSeries"
        series["data"] = data
        series["starting_time"] = 0.0
        series["starting_time"].attrs["rate"] = 10.0


def test_movies_whose_rows_come_first(tmp_path):
    frames = np.random.default_rng(1).integers(0, 900, (6, *SHAPE)).astype("i2")
    path = tmp_path / "a.nwb"
    nwb_movie(path, frames)
    found = xs2p.open_movie(path, order="yx", shape=SHAPE)
    np.testing.assert_array_equal(found, frames)
    assert found.attrs["nwb_order"] == "yx" and "given" in found.attrs["nwb_order_source"]
    plain = xs2p.open_movie(path)
    assert plain.shape == (6, 20, 12) and plain.attrs["nwb_order"] == "xy"
    with pytest.raises(ValueError, match='disagrees.*give order="yx"'):
        xs2p.open_movie(path, shape=SHAPE)
    np.save(tmp_path / "a.npy", frames)
    for source in (tmp_path / "a.npy", frames):
        with pytest.raises(ValueError, match="order='yx' says which axis .* is none"):
            xs2p.open_movie(source, order="yx")


def test_the_order_on_the_command_line(tmp_path, capsys):
    from typer.testing import CliRunner

    from xs2p.cli import app

    frames = np.random.default_rng(1).integers(0, 900, (6, *SHAPE)).astype("i2")
    nwb_movie(tmp_path / "movie.nwb", frames)
    made = Session()
    made.table.add_roi(pixel_mask=np.array([Y, X, np.ones(Y.size)]).T)
    files = (tmp_path / "movie.nwb", made.save(tmp_path), tmp_path / "out.zarr")
    call = ["extract", *map(str, files), "--quiet", "--min-neuropil-pixels", "20", "--order", "yx"]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 2 and "order='yx'" in result.output
    result = CliRunner().invoke(app, [*call, "--roi-order", "yx"])
    assert result.exit_code == 0, result.output
    import xarray as xr

    F = xr.open_zarr(tmp_path / "out.zarr", consolidated=False).F.values[0]
    np.testing.assert_allclose(F, frames[:, Y, X].mean(1), rtol=1e-5)


def zarr_session(path, frames):
    """NWB as hdmf-zarr writes it, with arrays of objects that zarr 3 cannot read."""
    import json

    import zarr

    root = zarr.open_group(path, mode="w", zarr_format=2)
    root.attrs.update({"neurodata_type": "NWBFile", "nwb_version": "2.8.0"})
    series = root.create_group("acquisition").create_group("movie")
    series.attrs["neurodata_type"] = "TwoPhotonSeries"
    data = series.create_array("data", shape=frames.shape, dtype="i2", chunks=(4, 20, 12))
    data[:] = frames
    data.attrs.update({"_ARRAY_DIMENSIONS": ["num_frames", "x", "y"], "unit": "n.a."})
    start = series.create_array("starting_time", shape=(1,), dtype="f8", chunks=(1,))
    start[:] = 2.0
    start.attrs["rate"] = 10.0
    odd = {"zarr_format": 2, "shape": [1], "chunks": [1], "dtype": "|O", "fill_value": None}
    odd |= {"order": "C", "compressor": None, "filters": [{"id": "pickle", "protocol": 5}]}
    for folder in (path, path / "acquisition" / "movie"):
        (folder / "keywords").mkdir()
        (folder / "keywords" / ".zarray").write_text(json.dumps(odd))
    return root


def test_zarr_form(tmp_path):
    import zarr

    frames = np.random.default_rng(1).integers(0, 900, (6, *SHAPE)).astype("i2")
    path = tmp_path / "a.nwb.zarr"
    root = zarr_session(path, frames.transpose(0, 2, 1))
    inner = path / "acquisition" / "movie"
    sources = (path, inner, inner / "data", zarr.open_group(path, mode="r"),
               zarr.open_group(path, mode="r")["acquisition/movie/data"])  # fmt: skip
    for source in sources:
        np.testing.assert_array_equal(xs2p.open_movie(source), frames)
    found = xs2p.open_movie(path, variable="acquisition/movie/data")
    np.testing.assert_array_equal(found.time, 2 + np.arange(6) / 10)
    assert found.attrs["fs"] == 10.0 and found.attrs["nwb_order"] == "xy"
    turned = xs2p.open_movie(path, order="yx")
    np.testing.assert_array_equal(turned, frames.transpose(0, 2, 1))
    root.attrs.clear()
    with pytest.raises(ValueError, match=r"a\.nwb\.zarr: zarr cannot read all arrays"):
        xs2p.open_movie(path)


def four_rois(description="ROIs"):
    made = Session(description)
    for n in range(4):
        made.table.add_roi(pixel_mask=[(3 + n, 4, 1.0)])
    return made


@TRANSPOSED
def test_planes_are_joined_and_containers_name_series(tmp_path):
    made = four_rois("suite2p output")
    values = {}
    for n, name in enumerate(("Fluorescence", "Neuropil", "Deconvolved", "Fluorescence_chan2",
                              "Neuropil_chan2", "Other")):  # fmt: skip
        values[name] = np.arange(24.0).reshape(4, 6) + 100 * n
        made.add(name, "plane0", values[name][:1].copy(), [0])  # (roi, time), as 0.11 has it
        made.add(name, "plane1", values[name][1:].T.copy(), [1, 2, 3])
    made.add("Deconvolved", "mine", np.ones((6, 1)), [0])
    path = made.save(tmp_path)
    with pytest.warns(UserWarning, match=r"F, Fneu, spks.* are stored as \(roi, time\)") as caught:
        ds = xs2p.read_nwb(path, shape=SHAPE)
    assert len(caught) == 1
    names = ("F", "Fneu", "spks", "F_chan2", "Fneu_chan2", "Other")
    assert set(ds.data_vars) == {*names, "mine"}
    for key, name in zip(names, values, strict=True):
        np.testing.assert_array_equal(ds[key], values[name], err_msg=key)


def test_names_that_several_containers_have(tmp_path):
    made = four_rois()
    for n, container in enumerate(("Red", "Green", "Neuropil", "Fluorescence")):
        made.add(container, "traces", np.full((6, 4), float(n)), range(4))
        made.add(container, "RoiResponseSeries", np.full((6, 4), 10.0 + n), range(4))
    ds = xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)
    got = {key: float(v[0, 0]) for key, v in ds.data_vars.items()}
    assert got["F"] == 13 and got["Fneu"] == 12
    assert (got["Red_traces"], got["Green_traces"], got["Red_RoiResponseSeries"]) == (0, 1, 10)
    assert len(got) == 8


def test_planes_that_differ_by_a_frame(tmp_path):
    made = four_rois("suite2p output")
    made.add("Fluorescence", "plane0", np.ones((6, 2)), [0, 1])
    made.add("Fluorescence", "plane1", np.ones((5, 2)), [2, 3])
    with pytest.warns(UserWarning, match="after the first 5 are left out"):
        ds = xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)
    assert ds.F.shape == (4, 5) and ds.F.notnull().all()


def test_planes_that_differ_by_more(tmp_path):
    made = four_rois("suite2p output")
    made.add("Fluorescence", "plane0", np.ones((6, 2)), [0, 1])
    made.add("Fluorescence", "plane1", np.ones((8, 2)), [2, 3])
    with pytest.raises(ValueError, match=r"a\.nwb.* of F .*: plane0 has 6, plane1 has 8; "):
        xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)


@TRANSPOSED
def test_as_many_frames_as_rois_are_turned_as_the_others(tmp_path):
    made = four_rois("suite2p output")
    values = np.arange(12.0).reshape(4, 3)
    made.add("Fluorescence", "plane0", values[:1].copy(), [0])  # (roi, time)
    made.add("Fluorescence", "plane1", values[1:].copy(), [1, 2, 3])  # 3 x 3: either way fits
    with pytest.warns(UserWarning, match=r"stored as \(roi, time\)"):
        ds = xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)
    np.testing.assert_array_equal(ds.F, values)


def test_timestamps_that_go_back_are_told(tmp_path):
    made = four_rois()
    times = np.array([0.0, 1.0, 2.0, 0.0, 1.0, 2.0])
    made.add("Fluorescence", "RoiResponseSeries", np.ones((6, 4)), range(4), timestamps=times)
    path = made.save(tmp_path)
    with pytest.warns(UserWarning, match=r"go back or repeat at frame 3 \(0 s\)"):
        ds = xs2p.read_nwb(path, shape=SHAPE)
    np.testing.assert_array_equal(ds.time, times)


def test_a_timestamp_that_is_nan(tmp_path):
    made = four_rois()
    times = np.arange(6.0)
    times[2] = np.nan
    for name in ("RoiResponseSeries", "Neuropil"):
        made.add("Fluorescence", name, np.ones((6, 4)), range(4), timestamps=times)
    with pytest.warns(UserWarning, match="1 of 6 timestamps are NaN, the first of frame 2"):
        ds = xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)
    assert set(ds.data_vars) == {"F", "Fneu"}
    np.testing.assert_array_equal(ds.time, times)
    with pytest.raises(ValueError, match="write_nwb: time of ds is nan at frame 2; give each"):
        xs2p.write_nwb(ds, tmp_path / "b.nwb", session_start_time=START)


@pytest.fixture(scope="module")
def ds():
    label = np.zeros(SHAPE, int)
    label[Y, X] = 1
    frames = np.random.default_rng(0).integers(0, 900, (50, *SHAPE)).astype("i2")
    made = xs2p.open_movie(frames, fs=20.0).s2p.extract(
        xs2p.rois_from_labels(label), min_neuropil_pixels=20
    )
    return made.drop_vars(set(made.data_vars) - {"F"})


class Date(str):
    """A date as cftime has them, which is not installed everywhere."""

    __slots__ = ()

    def isoformat(self):
        return str(self)


def written(ds, folder, start=START):
    xs2p.write_nwb(ds, folder / "a.nwb", session_start_time=start, image_masks=False)
    with pynwb.NWBHDF5IO(folder / "a.nwb", "r") as io:
        series = io.read().processing["ophys"]["Fluorescence"]["RoiResponseSeries"]
        stamps = None if series.timestamps is None else series.timestamps[:]
        return series.rate, series.starting_time, stamps


@pytest.mark.parametrize(
    ("time", "looks"),
    [
        (np.arange(50), r"as seconds that is 1 Hz; they look like frame numbers"),
        (np.arange(50) * 50.0, "look like ms"),
        (np.arange(50) / 15.0, r"fs=20 Hz.*15 Hz"),
        (np.r_[np.arange(20), np.arange(25, 55)], "look like frame numbers"),
    ],
)
def test_no_rate_of_what_is_no_seconds(ds, tmp_path, time, looks):
    odd = ds.drop_vars("time").assign_coords(time=("time", time))
    with pytest.raises(ValueError, match=looks):
        written(odd, tmp_path)
    assert not list(tmp_path.iterdir())


def test_frame_numbers_without_a_rate(ds, tmp_path):
    odd = ds.drop_vars("time").drop_attrs().assign_attrs(Ly=SHAPE[0], Lx=SHAPE[1])
    odd = odd.assign_coords(time=np.arange(50))
    with pytest.raises(ValueError, match="look like frame numbers"):
        written(odd, tmp_path)


@pytest.mark.parametrize("regular", [True, False])
@pytest.mark.parametrize("kind", ["ms", "timedelta", "date", "cftime"])
def test_times_in_other_forms(ds, tmp_path, kind, regular):
    ms = np.arange(50) * 50 + 250
    ms[30:] += 0 if regular else 1000
    start = START
    if kind == "ms":
        time = ("time", ms, {"units": "ms"})
    elif kind == "timedelta":
        time = ("time", ms.astype("m8[ms]").astype("m8[ns]"))
    else:
        start = datetime(2024, 5, 1, 14, 30, tzinfo=timezone(timedelta(hours=2)))
        time = np.datetime64("2024-05-01T14:30", "ns") + ms.astype("m8[ms]")
        if kind == "cftime":
            time = np.array([Date(str(t)) for t in time], object)
        time = ("time", time)
    made = ds.drop_vars("time").assign_coords(time=time)
    rate, first, stamps = written(made, tmp_path, start)
    if regular:
        assert (rate, first, stamps) == (20.0, 0.25, None)
    else:
        assert rate is None
        np.testing.assert_allclose(stamps, ms / 1000)


def test_dates_before_the_session(ds, tmp_path):
    dates = np.datetime64("2024-05-01T12:00", "ns") + (np.arange(50) * 50).astype("m8[ms]")
    with pytest.raises(ValueError, match=r"before the session began.*clock of its time zone"):
        written(ds.drop_vars("time").assign_coords(time=dates), tmp_path)


def tables_of(folder, named, imaged, frames=(6, 6), start=(0.0, 0.0), inside=(0, 0), series=None):
    """Write two tables of two ROIs each, whose ids are 0 and 1, and their F, which all differ."""
    made = Session(table=None)
    for n, (name, imaging) in enumerate(zip(named, imaged, strict=True)):
        plane = made.file.imaging_planes.get(imaging)
        if plane is None:
            plane = made.file.create_imaging_plane(
                name=imaging, description="d", optical_channel=pynwb.ophys.OpticalChannel(
                    name="c", description="green", emission_lambda=520.0
                ),
                device=made.file.devices["microscope"], excitation_lambda=920.0,
                indicator="GCaMP6s", location="V1",
            )  # fmt: skip
        if inside[n]:
            made.segmentation = pynwb.ophys.ImageSegmentation(name="Other")
            made.module.add(made.segmentation)
        made.table = made.segmentation.create_plane_segmentation(
            name=name, description="ROIs", imaging_plane=plane
        )
        for k in range(2):
            made.table.add_roi(pixel_mask=[(3 + k, 4 + n, 1.0)])
        values = np.arange(2.0 * frames[n]).reshape(-1, 2) + 100 * n
        time = {"rate": 10.0, "starting_time": start[n]}
        if series and n:
            made.table.add_column("depth", "in µm", data=[10.0, 20.0])
        own = f"{series}{n}" if series else f"RoiResponseSeries{name}"
        made.add("Fluorescence", own, values, [0, 1], **time)
    return made.save(folder)


@pytest.mark.parametrize(
    ("named", "imaged", "planes"),
    [
        (("SegPlane3", "SegPlane1"), ("one", "one"), [1, 3]),
        (("b", "a"), ("ImagingPlane1", "ImagingPlane0"), [0, 1]),
        (("Seg_plane_10", "Seg_plane_9"), ("x", "y"), [9, 10]),
    ],
)
def test_tables_of_planes_are_read_at_once(tmp_path, named, imaged, planes):
    path = tables_of(tmp_path, named, imaged)
    for read in (xs2p.read_rois, xs2p.read_nwb):
        ds = read(path, shape=SHAPE)
        assert ds.plane.values.tolist() == np.repeat(planes, 2).tolist()
        assert ds.roi.values.tolist() == [0, 1, 2, 3]
        assert pixels(ds) == [(4, 3), (4, 4), (5, 3), (5, 4)]
        assert ds.ypix.values.tolist() == [5, 5, 4, 4]  # the second table is the first plane
        assert not ds.overlap.any() and ds.attrs["Ly"] == SHAPE[0]
    assert ds.F[:2, 0].values.tolist() == [100, 101] and ds.F[2:, 1].values.tolist() == [2, 3]
    assert set(ds.data_vars) == {"F"} and ds.sizes["time"] == 6
    one = xs2p.read_nwb(path, shape=SHAPE, name=named[0])
    assert one.roi.values.tolist() == [0, 1] and "plane" not in one.coords


def test_tables_that_may_be_no_planes_are_asked_for(tmp_path):
    for n, (named, imaged, inside) in enumerate([
        (("a", "b"), ("one", "one"), (0, 0)),
        (("Seg1", "Seg2"), ("one", "one"), (0, 0)),
        (("SegPlane0", "SegPlane1"), ("one", "two"), (0, 1)),
        (("SegGreen", "SegRed"), ("one", "two"), (0, 0)),
        (("Seg1", "Seg2"), ("PlaneChan1", "PlaneChan2"), (0, 0)),
    ]):  # fmt: skip
        (tmp_path / str(n)).mkdir()
        path = tables_of(tmp_path / str(n), named, imaged, inside=inside)
        for read in (xs2p.read_rois, xs2p.read_nwb):
            with pytest.raises(ValueError, match=r"a\.nwb: holds 2 tables of ROIs: .*pick one"):
                read(path, shape=SHAPE)


def test_planes_without_numbers_are_told(tmp_path):
    path = tables_of(tmp_path, ("V2", "V1"), ("left", "right"))
    with pytest.warns(UserWarning, match="in the order of their names: 0 is V1 of right, 1 is V2"):
        rois = xs2p.read_rois(path, shape=SHAPE)
    assert rois.plane.values.tolist() == [0, 0, 1, 1] and rois.ypix.values.tolist() == [5, 5, 4, 4]


def test_what_only_some_planes_have(tmp_path):
    path = tables_of(tmp_path, ("SegPlane0", "SegPlane1"), ("one", "two"), series="s")
    with pytest.warns(UserWarning, match=r"a\.nwb: s0, s1 are of some planes only"):
        ds = xs2p.read_nwb(path, shape=SHAPE)
    assert ds.s0.isnull().values[:, 0].tolist() == ds.s1.notnull().values[:, 0].tolist()
    assert ds.s1.values[2, 0] == 100
    np.testing.assert_array_equal(ds.depth, [np.nan, np.nan, 10, 20])


def test_planes_that_do_not_fit_together(tmp_path):
    names = ("SegPlane0", "SegPlane1"), ("one", "two")
    with pytest.warns(UserWarning, match=r"planes \[1\] have 7 frames and the others 6"):
        ds = xs2p.read_nwb(tables_of(tmp_path, *names, frames=(6, 7)), shape=SHAPE)
    assert ds.sizes["time"] == 6 and ds.attrs["fs"] == 10.0
    with pytest.raises(ValueError, match=r"a\.nwb.*: plane 0 has 9, plane 1 has 6; .*name="):
        xs2p.read_nwb(tables_of(tmp_path, *names, frames=(9, 6)), shape=SHAPE)
    with pytest.raises(ValueError, match=r"a\.nwb.* frames at different times.*name="):
        xs2p.read_nwb(tables_of(tmp_path, *names, start=(0.0, 0.05)), shape=SHAPE)


def test_errors_of_libraries_name_the_file(tmp_path):
    made = Session()
    made.table.add_roi(pixel_mask=np.array([X, Y, np.ones(Y.size)]).T)
    made.add("Fluorescence", "RoiResponseSeries", np.ones((5, 1)), [0])
    path = made.save(tmp_path)
    with h5py.File(path, "a") as file:
        table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
        attrs = dict(table["pixel_mask"].attrs)
        del table["pixel_mask"]
        table["pixel_mask"] = np.ones(6)
        table["pixel_mask"].attrs.update(attrs)
    for read in (xs2p.read_nwb, xs2p.read_rois, xs2p.rois_from_nwb):
        with pytest.raises(ValueError, match=r"a\.nwb: the file is damaged.*float64"):
            read(path, shape=SHAPE)


def test_a_file_that_cannot_be_read_is_closed(tmp_path):
    made = Session()
    path = made.save(tmp_path)
    with h5py.File(path, "a") as file:
        del file["session_start_time"]
    with pytest.raises(ValueError, match=r"a\.nwb: cannot be read as NWB"):
        xs2p.read_nwb(path)
    h5py.File(path, "a").close()


def test_status_says_where_f_is_zero(tmp_path):
    made = Session()
    for masks in ([(3, 4, 1.0)], [(5, 4, 1.0)], [(7, 4, 1.0)], [(7, 4, 1.0)]):
        made.table.add_roi(pixel_mask=masks)
    values = np.ones((6, 4))
    values[:, 1:3] = 0
    values[3, 0] = 0
    made.add("Fluorescence", "RoiResponseSeries", values, range(4))
    ds = xs2p.read_nwb(made.save(tmp_path), shape=SHAPE)
    assert ds.status.values.tolist() == ["ok", "zero_trace", "no_cell_pixels", "ok"]
    assert "npy" not in ds.status.attrs["description"]
    np.testing.assert_array_equal(ds.F, values.T)


def test_zarr_form_needs_a_package(tmp_path, monkeypatch):
    zarr_session(tmp_path / "a.nwb.zarr", np.zeros((6, 20, 12), "i2"))
    monkeypatch.setitem(sys.modules, "hdmf_zarr", None)
    for read in (xs2p.read_rois, xs2p.read_nwb):
        with pytest.raises(ImportError, match=r"a\.nwb\.zarr: .*hdmf-zarr.*export"):
            read(tmp_path / "a.nwb.zarr", shape=SHAPE)
    (tmp_path / "none.nwb").mkdir()
    with pytest.raises(ValueError, match=r"none\.nwb: a folder that is no NWB"):
        xs2p.read_nwb(tmp_path / "none.nwb")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("kind", ["pixel_mask", "image_mask"])
def test_rois_and_traces_in_zarr_form_are_those_of_hdf5(tmp_path, kind):
    hdmf_zarr = pytest.importorskip("hdmf_zarr")

    def session():
        made = Session()
        for n in range(4):
            mask = np.zeros(SHAPE[::-1], "f4")
            mask[3 + n, [4, 5]] = 1, 0.5
            pixels = [(3 + n, 4, 1.0), (3 + n, 5, 0.5)]
            made.table.add_roi(**{kind: mask if kind == "image_mask" else pixels})
        made.table.add_column("cell_type", "as somebody saw it", data=["a", "b", "a", "c"])
        made.table.add_column("iscell", "a cell", data=[True, False, True, True])
        values = np.random.default_rng(0).normal(size=(6, 4))
        stamps = {"timestamps": np.array([0.0, 0.1, 0.2, 0.9, 1.0, 1.1])}
        made.add("Fluorescence", "RoiResponseSeries", values, range(4), **stamps)
        made.add("Fluorescence", "Neuropil", values + 1, range(4), **stamps)
        return made

    with hdmf_zarr.NWBZarrIO(tmp_path / "a.nwb.zarr", "w") as io:
        io.write(session().file)
    path = session().save(tmp_path)
    for read in (xs2p.read_rois, xs2p.rois_from_nwb, xs2p.read_nwb):
        found, wanted = read(tmp_path / "a.nwb.zarr", shape=SHAPE), read(path, shape=SHAPE)
        found.attrs.pop("source", None), wanted.attrs.pop("source", None)
        xr.testing.assert_identical(found, wanted)
    assert set(found.data_vars) == {"F", "Fneu"} and found.cell_type.values.tolist()[3] == "c"
