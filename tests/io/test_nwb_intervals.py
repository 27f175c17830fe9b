"""Segments and frames that do not count in NWB files, as pynwb reads them and as we do."""

from datetime import UTC, datetime

import numpy as np
import pytest
import xarray as xr

import xs2p

pynwb = pytest.importorskip("pynwb")

START = datetime(2024, 5, 1, 14, 30, tzinfo=UTC)
N = 32


@pytest.fixture(scope="module")
def ds():
    labels = np.zeros((12, 16), int)
    labels[2:5, 3:6], labels[7:10, 9:13] = 1, 2
    movie = np.random.default_rng(0).integers(0, 900, (N, 12, 16)).astype("i2")
    movie = xs2p.open_movie(movie, fs=10.0)
    ds = movie.s2p.extract(xs2p.rois_from_labels(labels), tau=1.0, min_neuropil_pixels=20)
    valid = np.ones(N, bool)
    valid[[0, 5, 6, 7, 31]] = False
    segments = ("time", np.repeat([0, 1], [20, 12]).astype("i4"), {"names": ["rest", "task"]})
    return ds.compute().assign_coords(valid=("time", valid), segment=segments)


def written(ds, path, **more):
    more = more or {"session_start_time": START}
    xs2p.write_nwb(ds, path, overwrite=True, **more)
    return path


def rows(table):
    return [
        (round(table["start_time"][n], 6), round(table["stop_time"][n], 6), table["tags"][n][0])
        for n in range(len(table))
    ]


def test_pynwb_reads_epochs_and_invalid_times(ds, tmp_path):
    path = written(ds, tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        assert rows(file.epochs) == [(0.0, 2.0, "rest"), (2.0, 3.2, "task")]
        spans = [row[:2] for row in rows(file.invalid_times)]
        assert spans == [(0.0, 0.1), (0.5, 0.8), (3.1, 3.2)]
        assert "do not count" in file.invalid_times.description
    from nwbinspector import inspect_nwbfile

    told = list(inspect_nwbfile(nwbfile_path=str(path)))
    assert told and not {m.object_name for m in told} & {"epochs", "invalid_times"}


@pytest.mark.parametrize("kind", ["rate", "jitter", "pause", "ms"])
def test_they_come_back(ds, tmp_path, kind):
    times = {
        "rate": 7.3 + np.arange(N) / 10,
        "jitter": np.cumsum(np.random.default_rng(0).uniform(0.05, 0.15, N)),
        "pause": np.arange(N) / 10 + 60.0 * (np.arange(N) >= 20),
        "ms": np.arange(N) * 100.0,
    }[kind]
    some = ds.assign_coords(time=("time", times, {"units": "ms" if kind == "ms" else "s"}))
    back = xs2p.read_nwb(written(some, tmp_path / "a.nwb"))
    for name in ("valid", "segment"):
        assert back[name].dims == ("time",) and back[name].dtype == ds[name].dtype
        np.testing.assert_array_equal(back[name], ds[name])
    assert back.segment.attrs["names"] == ["rest", "task"]
    if kind == "pause":  # what lies between two segments is in none
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            assert rows(io.read().epochs) == [(0.0, 2.0, "rest"), (62.0, 63.2, "task")]


@pytest.mark.parametrize("labels", [np.repeat(["b", "a"], 16), np.repeat([9, 3], 16)])
def test_labels_come_back(ds, tmp_path, labels):
    back = xs2p.read_nwb(written(ds.assign_coords(segment=("time", labels)), tmp_path / "a.nwb"))
    assert back.segment.values.tolist() == labels.tolist()
    assert "names" not in back.segment.attrs


def test_without_them_a_file_has_none(ds, tmp_path):
    path = written(ds.drop_vars(["valid", "segment"]), tmp_path / "a.nwb")
    with pynwb.NWBHDF5IO(path, "r") as io:
        file = io.read()
        assert file.epochs is None and file.invalid_times is None
    assert not {"valid", "segment"} & set(xs2p.read_nwb(path).coords)


def of_each(ds, seed=0):
    """Frames that count for some ROIs only, and two that count for none."""
    valid = np.random.default_rng(seed).random((ds.sizes["roi"], N)) > 0.3
    valid[:, 4:6], valid[0, 12:16] = False, True
    return ds.assign_coords(valid=(("roi", "time"), valid))


class TestOfEachRoi:
    def test_pynwb_reads_when_each_counts(self, ds, tmp_path):
        valid = np.ones((2, N), bool)
        valid[0, 3:6] = valid[0, 31] = valid[1, 4:9] = False
        path = written(ds.assign_coords(valid=(("roi", "time"), valid)), tmp_path / "a.nwb")
        with pynwb.NWBHDF5IO(path, "r") as io:
            file = io.read()
            assert [row[:2] for row in rows(file.invalid_times)] == [(0.4, 0.6)]  # for none
            table = file.processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
            spans = [np.round(each, 6).tolist() for each in table["obs_intervals"][:]]
            # The first segment ends at 2 s.
            assert spans[0] == [[0.0, 0.3], [0.6, 2.0], [2.0, 3.1]]
            assert spans[1] == [[0.0, 0.4], [0.9, 2.0], [2.0, 3.2]]
            assert len(table.to_dataframe().obs_intervals.iloc[0]) == 3
            assert "in which the ROI counts" in table["obs_intervals"].target.description
        from nwbinspector import inspect_nwbfile

        told = list(inspect_nwbfile(nwbfile_path=str(path)))
        assert told and not [m for m in told if "obs_intervals" in m.message]

    @pytest.mark.parametrize(
        ("kind", "cells"), [("rate", 1), ("jitter", 1 << 26), ("pause", 1 << 26)]
    )
    def test_it_comes_back(self, ds, tmp_path, kind, cells, monkeypatch):
        monkeypatch.setattr("xs2p.io.nwb.intervals._CELLS", cells)
        times = {
            "rate": 7.3 + np.arange(N) / 10,
            "jitter": np.cumsum(np.random.default_rng(0).uniform(0.05, 0.15, N)),
            "pause": np.arange(N) / 10 + 60.0 * (np.arange(N) >= 14),  # none of the segments'
        }[kind]
        some = of_each(ds).assign_coords(time=("time", times, {"units": "s"}))
        for given in (some, some.chunk(roi=1, time=10).transpose("time", "roi", ...)):
            back = xs2p.read_nwb(written(given, tmp_path / "a.nwb"))
            assert back.valid.dims == ("roi", "time") and back.valid.dtype == bool
            np.testing.assert_array_equal(back.valid, some.valid)
            assert back.valid.attrs["long_name"] == "frames that count"
            np.testing.assert_array_equal(back.segment, some.segment)
        with pynwb.NWBHDF5IO(tmp_path / "a.nwb", "r") as io:
            table = io.read().processing["ophys"]["ImageSegmentation"]["PlaneSegmentation"]
            spans = np.concatenate(table["obs_intervals"][:])
        assert (spans[:, 1] - spans[:, 0]).max() < 5  # none goes over a pause

    def test_of_planes(self, ds, tmp_path):
        two = xr.concat([ds, ds.assign_coords(roi=ds.roi + 2)], "roi", data_vars="minimal")
        two = two.drop_dims("pixel", errors="ignore")
        rois = xs2p.rois_from_stat(
            [{"ypix": np.r_[n, n], "xpix": np.r_[2, 3], "lam": np.ones(2)} for n in range(4)],
            shape=(12, 16),
        )
        two = two[["F"]].drop_vars([v for v in two.coords if two[v].dims == ("roi",)])
        two = two.assign_coords(rois.variables).assign_coords(plane=("roi", [1, 0, 1, 0]))
        two = of_each(two.assign_attrs(rois.attrs))
        two.valid[3] = False  # counts nowhere
        back = xs2p.read_nwb(written(two, tmp_path / "a.nwb"))
        assert back.roi.values.tolist() == [1, 3, 0, 2]
        np.testing.assert_array_equal(back.valid, two.valid.sel(roi=back.roi))

    def test_extremes(self, ds, tmp_path):
        alike = np.tile(ds.valid, (2, 1))
        never = np.zeros((2, N), bool)
        for valid in (alike, never, never | (np.arange(N) == 31)):
            some = ds.assign_coords(valid=(("roi", "time"), valid))
            back = xs2p.read_nwb(written(some, tmp_path / "a.nwb"))
            np.testing.assert_array_equal(back.valid, some.valid)
        back = xs2p.read_nwb(
            written(some.assign_coords(valid=(("roi", "time"), ~never)), tmp_path / "b.nwb")
        )
        assert "valid" not in back.coords
        one = of_each(ds).isel(time=[9]).drop_attrs().assign_attrs(Ly=12, Lx=16)
        one["valid"] = ("roi", "time"), [[True], [False]]
        back = xs2p.read_nwb(written(one.set_coords("valid"), tmp_path / "c.nwb"))
        assert back.valid.values.tolist() == [[True], [False]]

    def test_it_is_of_traces(self, ds, tmp_path):
        path = written(of_each(ds).assign_coords(obs_intervals=("roi", [5, 6])), tmp_path / "a.nwb")
        rois = xs2p.rois_from_nwb(path)  # and no warning
        assert "valid" not in rois.variables and rois.obs_intervals.values.tolist() == [5, 6]

    def test_of_others_it_is_not_taken(self, ds, tmp_path):
        import h5py

        path = written(of_each(ds), tmp_path / "a.nwb")
        with h5py.File(path, "a") as file:
            table = file["processing/ophys/ImageSegmentation/PlaneSegmentation"]
            table.attrs["description"] = "of somebody"
            del file["intervals/invalid_times"]
        with pytest.warns(UserWarning, match="obs_intervals of 'PlaneSegmentation' are left out"):
            assert "valid" not in xs2p.read_nwb(path).coords


@pytest.mark.parametrize("name", ["valid", "segment"])
def test_times_that_go_back_tell_no_frames(ds, tmp_path, name):
    times = np.arange(N) % 20 / 10
    some = ds.assign_coords(time=("time", times, {"units": "s"}))
    other = {"valid": "segment", "segment": "valid"}[name]
    with pytest.raises(ValueError, match=r"time of ds goes back at frame 20.*xs2p\.concat"):
        written(some.drop_vars(other), tmp_path / "a.nwb")
    written(some.drop_vars(["valid", "segment"]), tmp_path / "a.nwb")


def a_file(**more):
    return pynwb.NWBFile("a test", "id", START, **more)


@pytest.mark.parametrize("stored", [False, True])
def test_beside_those_that_a_file_has(ds, tmp_path, stored):
    file = a_file()
    file.add_epoch(0.0, 1.0, ["theirs"])
    file.add_invalid_time_interval(0.2, 0.4, ["theirs"])
    new = tmp_path / "new.nwb"
    if stored:
        with pynwb.NWBHDF5IO(tmp_path / "old.nwb", "w") as io:
            io.write(file)
        with pynwb.NWBHDF5IO(tmp_path / "old.nwb", "r") as io:
            written(ds, new, nwbfile=io.read())
    else:
        written(ds, new, nwbfile=file)
    with pynwb.NWBHDF5IO(new, "r") as io:
        file = io.read()
        assert rows(file.epochs) == [(0.0, 1.0, "theirs")] and len(file.invalid_times) == 1
        assert len(file.intervals["segments"]) == 2
    back = xs2p.read_nwb(new)
    np.testing.assert_array_equal(back.valid, ds.valid)
    np.testing.assert_array_equal(back.segment, ds.segment)


def test_those_of_others_are_not_taken_for_ours(ds, tmp_path):
    file = a_file()
    file.add_epoch(0.0, 3.2, ["theirs"])
    file.add_invalid_time_interval(0.2, 0.4, ["theirs"])
    path = written(ds.drop_vars(["valid", "segment"]), tmp_path / "a.nwb", nwbfile=file)
    assert not {"valid", "segment"} & set(xs2p.read_nwb(path).coords)


def test_a_failed_write_leaves_a_given_file_as_it_was(ds, tmp_path, monkeypatch):
    file = a_file()

    def fail(*args):
        raise OSError("the disk is full")

    monkeypatch.setattr("xs2p.io.nwb.write._write", fail)
    with pytest.raises(OSError, match="disk is full"):
        written(ds, tmp_path / "a.nwb", nwbfile=file)
    assert file.epochs is None and file.invalid_times is None
    monkeypatch.undo()
    back = xs2p.read_nwb(written(ds, tmp_path / "a.nwb", nwbfile=file))
    np.testing.assert_array_equal(back.segment, ds.segment)


class TestEvents:
    def test_each_is_a_row(self, ds, tmp_path):
        from nwbinspector import Importance, inspect_nwbfile

        found = xs2p.events(ds.spks, threshold=0.0)
        assert found.sizes["event"] >= 2
        path = written(ds, tmp_path / "a.nwb", events=found, session_start_time=START)
        assert not pynwb.validate(path=str(path))
        said = [m for m in inspect_nwbfile(nwbfile_path=str(path)) if "subject" not in m.message]
        worst = [m for m in said if m.importance.value >= Importance.BEST_PRACTICE_VIOLATION.value]
        assert not [m for m in worst if m.object_name == "calcium_events"]
        with pynwb.NWBHDF5IO(path, "r") as io:
            table = io.read().intervals["calcium_events"].to_dataframe()
        found = found.isel(event=np.argsort(found.onset.values, kind="stable"))
        np.testing.assert_array_equal(table.roi, found.roi)
        np.testing.assert_allclose(table.start_time, found.onset)
        np.testing.assert_allclose(table.stop_time - table.start_time, found.duration)
        np.testing.assert_array_equal(table.amplitude, found.amplitude)
        np.testing.assert_array_equal(table["size"], found["size"])
        np.testing.assert_array_equal(xs2p.read_nwb(path).segment, ds.segment)

    def test_times_are_the_sessions(self, ds, tmp_path):
        later = ds.drop_vars(["valid", "segment"])
        dates = np.datetime64(START.replace(tzinfo=None), "ns") + np.round(
            (later.time.values + 60) * 1e9
        ).astype("m8[ns]")
        later = later.assign_coords(time=("time", dates))
        found = xs2p.events(later.spks, threshold=0.0)
        path = written(later, tmp_path / "a.nwb", events=found, session_start_time=START)
        with pynwb.NWBHDF5IO(path, "r") as io:
            file = io.read()
            start = file.intervals["calcium_events"]["start_time"][:]
            first = file.processing["ophys"]["Fluorescence"]["RoiResponseSeries"].starting_time
        assert first == pytest.approx(60 + float(ds.time[0]))
        np.testing.assert_allclose(start, np.sort(found.onset) + first, atol=1e-6)

    def test_those_of_others_are_refused(self, ds, tmp_path):
        found = xs2p.events(ds.spks, threshold=0.0)
        for events, match in (
            (found.assign(roi=found.roi + 100), "which the traces have not"),
            (found.assign(onset=found.onset + 0.013), "no frame of the traces is there"),
            (found.drop_vars("amplitude"), "have no amplitude"),
            (ds.spks, "expected the Dataset over event"),
        ):
            with pytest.raises(ValueError, match=match):
                written(ds, tmp_path / "a.nwb", events=events, session_start_time=START)
            assert not list(tmp_path.iterdir())
