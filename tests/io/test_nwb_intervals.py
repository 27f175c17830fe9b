"""Segments and frames that do not count in NWB files, as pynwb reads them and as we do."""

from datetime import UTC, datetime

import numpy as np
import pytest

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


def test_valid_of_each_roi(ds, tmp_path):
    valid = np.ones((2, N), bool)
    valid[0, 3:6] = valid[1, 4:9] = False
    with pytest.warns(UserWarning, match="those frames are in them that count for none"):
        path = written(ds.assign_coords(valid=(("roi", "time"), valid)), tmp_path / "a.nwb")
    assert np.flatnonzero(~xs2p.read_nwb(path).valid.values).tolist() == [4, 5]


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
