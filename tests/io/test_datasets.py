"""Every Dataset that the public functions make says what is in it, and survives Zarr and NetCDF."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import xarray as xr
from loaders import DATA

import xs2p
from xs2p.testing import simulate
from xs2p.traces.baseline_methods import METHODS

REAL = DATA / "suite2p-folder-2p"
OPTIONS = {"tau": 1.0, "win_baseline": 5.0}
STAT = [
    {"ypix": [1], "xpix": [2], "lam": [1.0], "kind": "a", "maybe": 3, "rag": [1, 2], "skew": 0.5},
    {"ypix": [1], "xpix": [2], "lam": [1.0], "kind": "bc", "skew": 1.5},
]


@functools.cache
def recording():
    return simulate(8, (40, 44), 300, fs=10.0, chunks=70)


def movie():
    return recording()[0]


def rois():
    return recording()[1]


def lead(dim):
    return xr.concat([movie(), movie() + np.int16(9)], dim).assign_attrs(movie().attrs)


def traces(**options):
    return xs2p.extract(movie(), rois(), **{**OPTIONS, **options})


def of_array(step, **options):
    return getattr(traces()["Fc"].s2p, step)(**options).to_dataset()


DATASETS = {
    "rois of simulate": rois,
    "no rois": lambda: rois().isel(roi=[]),
    "no rois from the start": lambda: xs2p.rois_from_labels(np.zeros((4, 5), int)),
    "some rois": lambda: rois().isel(roi=[5, 2]),
    "rois from stat": lambda: xs2p.rois_from_stat(STAT, (4, 5)),
    "rois from labels": lambda: xs2p.rois_from_labels(np.eye(3, dtype=int)),
    "rois from footprints": lambda: xs2p.rois_from_footprints(np.ones((2, 3, 4))),
    "overlap anew": lambda: xs2p.recompute_overlap(rois()),
    "sample rois": xs2p.sample_rois,
    "sample movie": lambda: xs2p.sample_movie().to_dataset(),
    "simulated movie": lambda: movie().to_dataset(),
    "simulated truth": lambda: recording()[2],
    "masks": lambda: xs2p.build_masks(rois()).to_dataset(),
    "masks without neuropil": lambda: xs2p.build_masks(rois(), neuropil_extract=False).to_dataset(),
    "extract_traces": lambda: xs2p.extract_traces(movie(), xs2p.build_masks(rois())),
    **{f"extract, {method}": functools.partial(traces, baseline=method) for method in METHODS},
    "extract, in memory": lambda: traces().compute(),
    "extract, no neuropil, no tau": lambda: traces(neuropil_extract=False, tau=None),
    "extract, no fs": lambda: xs2p.extract(
        movie().drop_vars("time").drop_attrs(), rois(), baseline="none"
    ),
    "extract, a tau for each roi": lambda: traces(
        tau=xr.DataArray(np.linspace(0.5, 1, 8), dims="roi", coords={"roi": rois().roi})
    ),
    "extract, snr_threshold": lambda: traces(snr_threshold=0.1),
    "extract, numbers of numpy": lambda: traces(
        allow_overlap=np.bool_(True),
        circular_neuropil=True,
        lam_percentile=np.float32(30),
        inner_neuropil_radius=np.int32(3),
        min_neuropil_pixels=np.int16(60),
        neuropil_coefficient=np.float32(0.5),
    ),
    "extract, planes": lambda: xs2p.extract(
        lead("plane"), rois().assign_coords(plane=("roi", np.arange(8) % 2)), **OPTIONS
    ),
    "extract, channels": lambda: xs2p.extract(lead("channel"), rois(), **OPTIONS),
    "extract, movie_chan2": lambda: traces(movie_chan2=movie()),
    "read_suite2p": lambda: xs2p.read_suite2p(REAL),
    "labels": lambda: rois().s2p.to_labels().to_dataset(),
    "cell_image": lambda: rois().s2p.cell_image().to_dataset(),
    "snr": lambda: of_array("snr"),
    "skew": lambda: of_array("skew"),
    "std": lambda: of_array("std"),
    "baseline": lambda: of_array("baseline"),
    "preprocess": lambda: of_array("preprocess"),
    "deconvolve": lambda: of_array("deconvolve", tau=1.0),
}
# What counts or names, has a unit that nobody knows, or holds text or flags.
UNITLESS = ("roi", "roi_id", "pixel_roi", "plane", "labels", "mask_id", "cell_ipix", "cell_mask_id",
            "neuropil_ipix", "neuropil_mask_id", "neuropil_mask", "maybe", "rag",
            "rag_roi", "neuropil_mask_roi")  # fmt: skip
UNKNOWN = ("footprint", "mrs", "mrs0", "solidity", "npix_norm_no_crop", "meanImgE", "ops_Vcorr",
           "ops_Vmap_0")  # fmt: skip

every = pytest.mark.parametrize("name", DATASETS)


@functools.cache
def computed(name):
    return DATASETS[name]().compute()


def check_labels(ds):
    for name, variable in ds.variables.items():
        attrs = variable.attrs
        assert attrs.get("long_name"), f"{name} has no long_name"
        assert attrs.get("description", "").endswith("."), f"{name} has no description"
        assert attrs["description"].count(". ") == 0, f"{name}: one sentence"
        quantity = variable.dtype.kind in "iuf" and name not in (*UNITLESS, *UNKNOWN)
        assert bool(attrs.get("units")) == quantity, f"{name}: units {attrs.get('units')!r}"
    told = [v.attrs["description"] for name, v in ds.data_vars.items() if "time" in v.dims]
    assert len(set(told)) == len(told), "an attribute of one variable was left on another"


def check_same(back, ds):
    assert set(back.variables) == set(ds.variables) and set(back.coords) == set(ds.coords)
    assert back.sizes == ds.sizes
    for name, variable in ds.variables.items():
        read = back[name].variable
        if variable.dtype.kind == "O":  # text: of another dtype in each format
            assert read.dtype.kind in "OUT"
            assert read.values.tolist() == variable.values.tolist()
        else:
            assert read.dtype == variable.dtype, name
            np.testing.assert_array_equal(read.values, variable.values)
        assert read.dims == variable.dims
        assert read.attrs == variable.attrs, name
    assert back.attrs == ds.attrs


@every
def test_every_variable_says_what_it_is(name):
    check_labels(DATASETS[name]())


def test_a_store_of_a_run_says_what_is_in_it(tmp_path):
    ds = xs2p.extract_to_zarr(movie(), rois(), tmp_path / "o.zarr", progress=False, **OPTIONS)
    check_labels(ds)
    check_same(xr.open_zarr(tmp_path / "o.zarr").load(), traces().assign_attrs(ds.attrs))
    ds.to_netcdf(tmp_path / "o.nc")
    check_same(xr.load_dataset(tmp_path / "o.nc"), ds)


def test_movies_that_are_opened_say_what_they_are(tmp_path):
    np.save(tmp_path / "movie.npy", movie().values)
    opened = xs2p.open_movie(tmp_path / "movie.npy", fs=10.0)
    check_labels(opened.to_dataset())


@every
def test_zarr(name, tmp_path):
    ds = computed(name)
    ds.to_zarr(tmp_path / "ds.zarr")
    check_same(xr.open_zarr(tmp_path / "ds.zarr").load(), ds)


@pytest.mark.parametrize("engine", ["h5netcdf", "netcdf4"])
@every
def test_netcdf(name, engine, tmp_path):
    if engine == "netcdf4":
        pytest.importorskip("netCDF4")
    ds = computed(name)
    ds.to_netcdf(tmp_path / "ds.nc", engine=engine)
    check_same(xr.load_dataset(tmp_path / "ds.nc", engine=engine), ds)


@pytest.mark.parametrize("kind", ["zarr", "netcdf"])
def test_what_is_read_back_does_the_same_work(kind, tmp_path):
    def stored(ds, name):
        if kind == "zarr":
            ds.to_zarr(tmp_path / f"{name}.zarr")
            return xr.open_zarr(tmp_path / f"{name}.zarr")
        ds.to_netcdf(tmp_path / f"{name}.nc")
        return xr.load_dataset(tmp_path / f"{name}.nc")

    back = stored(rois(), "rois")
    xr.testing.assert_identical(movie().s2p.extract(back, **OPTIONS).compute(), traces().compute())
    masks = xs2p.build_masks(rois())
    assert xs2p.Masks.from_dataset(stored(masks.to_dataset(), "masks")).token == masks.token
    ds = stored(traces(), "traces")
    again = ds.Fc.s2p.deconvolve(tau=0.5)  # fs from the attributes
    np.testing.assert_array_equal(again, traces().Fc.s2p.deconvolve(tau=0.5))
    xs2p.write_suite2p(ds, tmp_path / "plane0")
    np.testing.assert_array_equal(np.load(tmp_path / "plane0" / "spks.npy"), traces().spks)


def test_a_long_text_survives_netcdf(tmp_path):
    """HDF5 keeps attributes of at most 64 kB in the place where it keeps short ones."""
    ds = rois().assign_attrs(ops="x" * 200_000)
    ds.to_netcdf(tmp_path / "ds.nc")
    assert xr.load_dataset(tmp_path / "ds.nc").attrs == ds.attrs
