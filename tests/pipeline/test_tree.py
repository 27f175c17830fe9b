"""Planes and sessions as the groups of a tree."""

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr

import xs2p

MOVIE, ROIS = xs2p.sample_movie().isel(time=slice(0, 120)), xs2p.sample_rois()


def tree(**groups):
    held = {name: m.chunk(time=50).to_dataset(name="movie") for name, m in groups.items()}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"mouse": "m1"}), **held})


def test_each_group_is_what_extract_makes_of_it():
    sessions = tree(**{"day1/plane0": MOVIE, "day2/plane0": MOVIE[:90] + 5})
    own = ROIS.isel(roi=slice(0, 30)).s2p.recompute_overlap()
    traces = sessions.s2p.extract({"day1/plane0": ROIS, "/day2/plane0": own}, tau=1.0)
    assert traces.groups == ("/", "/day1", "/day2", "/day1/plane0", "/day2/plane0")
    assert traces.attrs == {"mouse": "m1"}
    for path, movie, rois in (("day1/plane0", MOVIE, ROIS), ("day2/plane0", MOVIE[:90] + 5, own)):
        found = traces[path].to_dataset()
        assert found.spks.chunks is not None
        xr.testing.assert_identical(found.compute(), movie.s2p.extract(rois, tau=1.0).compute())


def test_all_groups_are_one_graph(tmp_path):
    reads = []

    def read(block):
        reads.append(len(block))
        return block

    lazy = {
        name: MOVIE.copy(
            data=(MOVIE + n)
            .chunk(time=60)
            .data.map_blocks(read, dtype=MOVIE.dtype, meta=np.empty((0, 0, 0), MOVIE.dtype))
        )
        for n, name in enumerate("ab")
    }
    traces = tree(**lazy).s2p.extract(ROIS, tau=1.0)
    runs = []

    def counted(graph, keys, **options):
        runs.append(list(keys))
        return dask.threaded.get(graph, keys, **options)

    with dask.config.set(scheduler=counted):
        done = traces.s2p.compute()
    assert len(runs) == 1 and sum(n for n in reads if n) == 2 * MOVIE.sizes["time"]
    traces.to_zarr(tmp_path / "traces.zarr", consolidated=False)
    with xr.open_datatree(tmp_path / "traces.zarr", engine="zarr", consolidated=False) as back:
        for name in "ab":
            xr.testing.assert_equal(back[name].to_dataset().compute(), done[name].to_dataset())


def test_planes_of_one_array_are_read_once():
    reads = []

    def read(block):
        reads.append(block.nbytes)
        return block

    frames = np.zeros((300, 2, *MOVIE.shape[1:]), MOVIE.dtype)
    both = da.from_array(frames, chunks=(1, 2, -1, -1)).map_blocks(
        read, dtype=frames.dtype, meta=frames[:0]
    )
    planes = {f"p{n}": xr.DataArray(both[:, n], dims=("time", "y", "x")) for n in range(2)}
    held = {name: plane.to_dataset(name="movie") for name, plane in planes.items()}
    xr.DataTree.from_dict(held).s2p.extract(ROIS, baseline="none").load()
    assert sum(reads) == frames.nbytes


def test_rois_of_the_group_or_of_one_above_it():
    held = {f"day1/{n}": MOVIE.to_dataset(name="movie") for n in ("a", "b")}
    above = xr.DataTree.from_dict({"day1": ROIS, **held})
    beside = xr.DataTree.from_dict({"day1/a": ROIS.assign(movie=MOVIE)})
    expected = MOVIE.s2p.extract(ROIS).compute()
    for given in (above, beside):
        xr.testing.assert_identical(given.s2p.extract()["day1/a"].to_dataset().compute(), expected)
    others = xr.DataTree.from_dict({"day1": ROIS, "day1/a": xr.Dataset(), "day1/b": xr.Dataset()})
    made = xr.DataTree.from_dict(held).s2p.extract(others)
    xr.testing.assert_identical(made["day1/b"].to_dataset().compute(), expected)


def test_a_folder_of_suite2p_goes_in_and_its_traces_come_out(tmp_path):
    traces = MOVIE.s2p.extract(ROIS, tau=1.0).compute()
    for n in range(2):
        xs2p.write_suite2p(traces, tmp_path / f"plane{n}")
        (MOVIE + n).values.astype("<i2").tofile(tmp_path / f"plane{n}" / "data.bin")
    planes = xr.open_datatree(tmp_path, engine="suite2p", movie=True, chunks={})
    again = planes.s2p.extract(tau=1.0)
    np.testing.assert_array_equal(again["plane0"].F, traces.F)
    assert (again["plane1"].F > traces.F).all()


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"rois": ROIS, "movie": "mov"}, ValueError, "no group .* 'mov'.*/a has movie.*; movie="),
        ({}, ValueError, "group '/a' has a movie and no ROIs; give them: rois={'/a'"),
        ({"rois": {"a": ROIS, "c": ROIS}}, ValueError, "path '/c', and the movies .* '/a', '/b'"),
        ({"rois": {"a": ROIS}}, ValueError, "group '/b' has a movie and no ROIs"),
        ({"rois": ROIS, "taus": 1.0}, TypeError, "extract.* 'taus'; did you mean tau"),
    ],
)
def test_what_does_not_fit_is_told(given, error, message):
    with pytest.raises(error, match=message):
        tree(a=MOVIE, b=MOVIE).s2p.extract(**given)


def test_errors_name_the_group():
    with pytest.raises(ValueError, match="fs") as caught:
        tree(a=MOVIE, b=MOVIE.drop_vars("time").drop_attrs()).s2p.extract(ROIS, tau=1.0)
    assert caught.value.__notes__ == ["in the group '/b' of the DataTree"]
    nested = tree(**{"a": MOVIE, "a/b": MOVIE})
    with pytest.raises(ValueError, match="'/a' and '/a/b' have a movie each, one in the other"):
        nested.s2p.extract(ROIS)
