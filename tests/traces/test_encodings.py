"""How an array was packed in a file says nothing of what is made of it."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xs2p

pytestmark = pytest.mark.filterwarnings("ignore:The specified chunks separate")

PACKED = {"dtype": "int16", "scale_factor": 0.5, "add_offset": 100.0, "_FillValue": -32768}
STEPS = {
    "baseline": lambda F: F.s2p.baseline(fs=10.0, win_baseline=2.0),
    "prctile": lambda F: F.s2p.baseline("prctile"),
    "constant": lambda F: F.s2p.baseline("constant"),
    "none": lambda F: F.s2p.baseline("none"),
    "preprocess": lambda F: F.s2p.preprocess(fs=10.0, win_baseline=2.0),
    "no preprocess": lambda F: F.s2p.preprocess("none"),
    "deconvolve": lambda F: F.s2p.deconvolve(tau=0.5, fs=10.0),
    "snr": lambda F: F.s2p.snr(),
    "skew": lambda F: F.s2p.skew(),
    "std": lambda F: F.s2p.std(),
}


@pytest.fixture(scope="module", params=["zarr", "nc"])
def packed(request, tmp_path_factory):
    """Open traces, and a movie, that were packed when they were written."""
    rng = np.random.default_rng(0)
    arrays = {
        "F": xr.DataArray(rng.integers(0, 999, (4, 300)) / 2, dims=("roi", "time")),
        "movie": xr.DataArray(rng.integers(0, 999, (30, 20, 24)) / 2, dims=("time", "y", "x")),
    }

    def opened(name, chunks):
        path = tmp_path_factory.mktemp("packed") / f"{name}.{request.param}"
        ds = arrays[name].to_dataset(name=name)
        if request.param == "zarr":
            ds.to_zarr(path, encoding={name: PACKED}, consolidated=False)
            found = xr.open_zarr(path, chunks=chunks, consolidated=False)[name]
        else:
            ds.to_netcdf(path, encoding={name: PACKED}, engine="h5netcdf")
            found = xr.open_dataset(path, chunks=chunks)[name]
        assert found.encoding["scale_factor"] == 0.5
        np.testing.assert_array_equal(found, arrays[name])
        return found

    return opened


def stays_as_it_is(array, folder):
    """No encoding, and the same when it was written and read."""
    assert not array.encoding
    array = array.rename("made")
    array.to_dataset().to_netcdf(folder / "made.nc", engine="h5netcdf")
    array.to_dataset().to_zarr(folder / "made.zarr", consolidated=False)
    with xr.open_dataset(folder / "made.nc") as nc:
        np.testing.assert_array_equal(nc.made, array)
    np.testing.assert_array_equal(
        xr.open_zarr(folder / "made.zarr", consolidated=False).made, array
    )


@pytest.mark.parametrize("chunks", [None, {"time": 90}], ids=["eager", "lazy"])
@pytest.mark.parametrize("step", STEPS)
def test_steps_on_packed_traces(packed, tmp_path, step, chunks):
    stays_as_it_is(STEPS[step](packed("F", chunks)), tmp_path)


def test_corrected_traces_without_neuropil(packed):
    """Fc is F as it is, and yet no copy of how F was packed."""
    from xs2p.traces.neuropil import Neuropil, correct

    F = packed("F", None)
    assert not correct(F.to_dataset(name="F"), Neuropil(0.7)).encoding
    assert F.encoding["scale_factor"] == 0.5


@pytest.mark.parametrize("chunks", [None, {"time": 9}], ids=["eager", "lazy"])
def test_traces_of_a_packed_movie(packed, tmp_path, chunks):
    rois = xs2p.rois_from_stat(
        [{"ypix": [3, 3, 4], "xpix": [5, 6, 5], "lam": [1.0, 1.0, 1.0]}], (20, 24)
    )
    movie = packed("movie", chunks)
    ds = movie.s2p.extract(rois, fs=10.0, tau=0.5, win_baseline=2.0, min_neuropil_pixels=50)
    for name, array in ds.data_vars.items():
        (tmp_path / name).mkdir()
        stays_as_it_is(array.reset_coords(drop=True), tmp_path / name)
