"""Movies and suite2p's folders through xarray's own doors."""

import pickle
import tracemalloc

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.io.backends import MovieBackend, Suite2pBackend


@pytest.fixture(scope="module")
def traces():
    ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0).compute()
    ds["F"][4] = ds["F"][7] = 0.0  # as suite2p writes an ROI without a trace
    ds["F"][9, :20] = 0.0
    return ds


@pytest.fixture(scope="module")
def folder(traces, tmp_path_factory):
    """A folder of suite2p's with two planes, one of which has no spikes, and its movie."""
    top = tmp_path_factory.mktemp("run") / "suite2p"
    movie = xs2p.sample_movie().values
    for n, part in enumerate((traces, traces.drop_vars("spks").isel(roi=slice(0, 40)))):
        xs2p.write_suite2p(part, top / f"plane{n}")
        (movie + n).astype("<i2").tofile(top / f"plane{n}" / "data.bin")
    (top / "plane1" / "spks.npy").unlink()
    return top


def test_the_installed_package_tells_xarray_of_them():
    engines = xr.backends.list_engines()
    assert isinstance(engines["suite2p"], Suite2pBackend)
    assert isinstance(engines["xs2p"], MovieBackend)


@pytest.mark.parametrize("where", ["plane0", "plane1", ""])
@pytest.mark.parametrize("chunks", [None, {}, {"roi": 20, "time": 33}])
def test_a_folder_is_what_read_suite2p_reads_and_lazy(folder, where, chunks):
    expected = xs2p.read_suite2p(folder / where)
    lazy = xr.open_dataset(folder / where, engine=Suite2pBackend, chunks=chunks)
    for name in {"F", "Fneu", "spks"} & set(expected):
        assert not lazy[name].variable._in_memory
        assert (lazy[name].chunks is None) == (chunks is None)
    if chunks:
        assert lazy.F.chunks[1][0] == 33 and lazy.F.chunks[0][0] == 20
    xr.testing.assert_identical(lazy.compute(), expected)
    xr.testing.assert_identical(pickle.loads(pickle.dumps(lazy)).compute(), expected)


KEYS = [
    {"roi": 3, "time": 4},
    {"roi": slice(5, 130, 7), "time": slice(400, 20, -9)},
    {"roi": [120, 3, 3, 99], "time": [5, 1]},
    {"roi": [97, 98], "time": 7},
    {"roi": -1, "time": slice(3, 3)},
    {"roi": xr.DataArray([0, 137], dims="k"), "time": xr.DataArray([3, 2], dims="k")},
]


@pytest.mark.parametrize("key", KEYS)
def test_what_is_sliced_is_what_is_read(folder, key):
    expected = xs2p.read_suite2p(folder)
    lazy = xr.open_dataset(folder, engine=Suite2pBackend)
    for name in ("F", "spks"):
        xr.testing.assert_identical(lazy[name].isel(key).compute(), expected[name].isel(key))


def test_a_stretch_of_time_reads_no_whole_rows(tmp_path):
    rows = np.zeros((60, 40_000), "f4")
    rows[:] = np.arange(60)[:, None] + 1
    for n in range(2):
        folder = tmp_path / f"plane{n}"
        folder.mkdir()
        np.save(folder / "F.npy", rows)
        np.save(folder / "ops.npy", {"fs": 10.0})
    for lazy in (xr.open_dataset(path, engine=Suite2pBackend) for path in (tmp_path, folder)):
        tracemalloc.start()
        found = lazy.F.isel(time=slice(10, 20), roi=[5, 7, 30]).values
        whole = lazy.F.isel(time=slice(10, 20)).values
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 500_000 and found[:, 0].tolist() == [6.0, 8.0, 31.0]
        assert whole.shape == (lazy.sizes["roi"], 10)


def test_the_statuses_of_zeros_are_known_without_reading_all(folder, monkeypatch):
    lazy = xr.open_dataset(folder / "plane0", engine=Suite2pBackend)
    assert np.flatnonzero(lazy.status.values != "ok").tolist() == [4, 7]
    assert lazy.status.values[9] == "ok"


def test_a_file_that_changed_is_not_read_on(traces, tmp_path):
    xs2p.write_suite2p(traces, tmp_path / "plane0")
    lazy = xr.open_dataset(tmp_path / "plane0", engine=Suite2pBackend)
    np.save(tmp_path / "plane0" / "F.npy", np.ones((98, 400), "f4"))
    with pytest.raises((OSError, ValueError), match=r"F\.npy .*it was cut"):
        lazy.F.load()


def test_a_damaged_file_is_named_before_it_is_read(traces, tmp_path):
    xs2p.write_suite2p(traces, tmp_path / "plane0")
    path = tmp_path / "plane0" / "F.npy"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"F\.npy: damaged .npy file"):
        xr.open_dataset(tmp_path / "plane0", engine=Suite2pBackend)


def test_planes_are_groups_and_have_their_movie_where_it_is_asked_for(folder):
    tree = xr.open_datatree(folder, engine=Suite2pBackend)
    assert tree.groups == ("/", "/plane0", "/plane1")
    for name in ("plane0", "plane1"):
        found = tree[name].to_dataset()
        xr.testing.assert_identical(found.compute(), xs2p.read_suite2p(folder / name))
    groups = xr.open_groups(folder, engine=Suite2pBackend, movie=True)
    movie = groups["/plane1"].movie
    assert not movie.variable._in_memory
    np.testing.assert_array_equal(movie[5:7], xs2p.sample_movie()[5:7] + 1)


def test_a_movie_without_traces_has_its_times(folder, tmp_path):
    """As before the first extraction: suite2p stopped after detection."""
    for name in ("data.bin", "ops.npy", "stat.npy"):
        (tmp_path / name).write_bytes((folder / "plane0" / name).read_bytes())
    found = xr.open_dataset(tmp_path, engine=Suite2pBackend, movie=True)
    expected = xr.open_dataset(folder / "plane0", engine=Suite2pBackend)
    np.testing.assert_array_equal(found.time, expected.time)
    assert found.time.attrs["units"] == "s" and "time" in found.movie.coords
    tree = xr.open_datatree(tmp_path, engine=Suite2pBackend, movie=True, chunks={})
    made = tree.s2p.extract()[f"/{tmp_path.name}"].F
    np.testing.assert_array_equal(made.time, expected.time)


def test_folders_are_recognised_and_nothing_else(folder, tmp_path):
    guess = Suite2pBackend().guess_can_open
    assert guess(str(folder)) and guess(folder / "plane0") and guess(folder.parent)
    (tmp_path / "F.npy").touch()
    for other in (tmp_path, tmp_path / "F.npy", tmp_path / "none", b"abc", 3, None):
        assert not guess(other)
    with pytest.raises(FileNotFoundError, match="no plane folder of suite2p's"):
        xr.open_datatree(tmp_path, engine=Suite2pBackend)


@pytest.mark.parametrize("chunks", [None, {}, {"time": 500}])
def test_a_movie_is_what_open_movie_opens(folder, chunks):
    path, size = folder / "plane0" / "data.bin", {"shape": (64, 64), "fs": 7.0}
    expected = xs2p.open_movie(path, **size)
    found = xr.open_dataset(path, engine=MovieBackend, chunks=chunks, **size)
    assert list(found.data_vars) == ["movie"] and not found.movie.variable._in_memory
    assert (found.movie.chunks is None) == (chunks is None)
    np.testing.assert_array_equal(found.movie[[7, 2], 3, ::5], expected[[7, 2], 3, ::5])
    xr.testing.assert_identical(found.movie.compute(), expected.compute())
    rois = xs2p.sample_rois()
    xr.testing.assert_identical(
        found.movie.s2p.extract(rois).F.compute(), expected.s2p.extract(rois).F.compute()
    )


def test_planes_and_channels_of_a_movie(folder):
    path = folder / "plane0" / "data.bin"
    options = {"shape": (64, 64), "planes": 5, "channels": 2}
    found = xr.open_dataset(path, engine=MovieBackend, chunks={}, **options)
    expected = xs2p.open_movie(path, **options)
    assert found.movie.chunks == expected.chunks
    xr.testing.assert_identical(found.movie.compute(), expected.compute())
