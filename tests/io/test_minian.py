"""Minian's stores, as xarray writes them for it: Zarr of version 2."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import xarray as xr
import zarr
from loaders import LX, LY, T, opened

import xs2p


def store(path, dims, values, name, **coords):
    array = xr.DataArray(values, dims=dims, name=name, coords=coords)
    array.to_dataset().to_zarr(path, zarr_format=2, consolidated=False)
    return path


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 2, 0)])
def test_a_movie(tmp_path, frames, order):
    dims = np.array(["frame", "height", "width"])[list(order)]
    numbers = np.arange(10, 10 + T)
    coords = {"frame": numbers, "height": np.arange(LY) + 5, "width": np.arange(LX)}
    path = tmp_path / "Y_fm_chk.zarr"
    store(path, dims, frames.astype("u1").transpose(order), "Y_fm_chk", **coords)
    if order != (0, 1, 2):
        with pytest.raises(ValueError, match=r"\(time, y, x\)"):
            xs2p.open_movie(path)
        movie = opened(path, dims="yxt")
    else:
        movie = opened(path)
        # Frame numbers are no seconds.
        np.testing.assert_array_equal(movie["frame"], numbers)
        assert movie["frame"].dims == ("time",) and "time" not in movie.coords
    assert movie.dims == ("time", "y", "x") and movie.dtype == np.uint8
    np.testing.assert_array_equal(movie, frames.astype("u1"))
    assert opened(path, dims="tyx" if order[0] == 0 else "yxt", fs=20).attrs["fs"] == 20


def test_footprints(tmp_path, frames):
    A = np.zeros((3, LY, LX))
    A[0, 1:3, 2:4], A[1, 4, 4], A[2, 5:7, 7] = 0.5, 1, [0.2, 0.4]
    coords = {"unit_id": [0, 2, 5], "height": np.arange(LY) + 5, "width": np.arange(LX)}
    dims = ("unit_id", "height", "width")
    path = store(tmp_path / "A.zarr", dims, A, "A", **coords)
    want = xs2p.rois_from_footprints(A)
    for source in (path, xr.open_zarr(path, consolidated=False).A, path.as_posix()):
        rois = xs2p.read_rois(source, shape=(LY, LX))
        assert rois.roi.values.tolist() == [0, 2, 5]
        for key in ("ypix", "xpix", "lam", "npix"):
            np.testing.assert_array_equal(rois[key], want[key])
    with pytest.raises(ValueError, match=r"\(9, 7\)"):
        xs2p.read_rois(path, shape=(LX, LY))
    movie = store(tmp_path / "Y.zarr", ("frame", "height", "width"), frames, "Y", frame=range(T))
    ds = xs2p.open_movie(movie, fs=20).s2p.extract(rois, tau=1.0)
    np.testing.assert_allclose(ds.F.sel(roi=2), frames[:, 4, 4])


def test_footprints_are_read_chunk_by_chunk(tmp_path):
    A = np.zeros((40, 250, 300))
    for i in range(40):
        A[i, i * 6 : i * 6 + 5, 20:30] = np.linspace(0.1, 1, 50).reshape(5, 10)
    made = xr.DataArray(A, dims=("unit_id", "height", "width"), coords={"unit_id": np.arange(40)})
    path, how = tmp_path / "A.zarr", {"A": {"chunks": (4, 125, 300)}}
    made.to_dataset(name="A").to_zarr(path, zarr_format=2, consolidated=False, encoding=how)
    xs2p.read_rois(path)  # what is imported for it
    tracemalloc.start()
    rois = xs2p.read_rois(path)
    used = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert used < A.nbytes / 2
    want = xs2p.rois_from_footprints(A)
    xr.testing.assert_identical(
        rois.drop_attrs().drop_vars("roi"), want.drop_attrs().drop_vars("roi")
    )


@pytest.mark.parametrize(
    ("shape", "chunks", "what"),
    [
        ((3, 40_000, 40_000), (1, 40_000, 40_000), "A: it tells of 12800000000 bytes"),
        ((10**7, 10, 10), (10**5, 10, 10), r"\w+: it tells of 80000000 bytes"),
        ((10**5, 10, 10), (1, 10, 10), "A: it tells of 100000 chunks"),
    ],
)
def test_footprints_that_claim_what_nobody_has(tmp_path, shape, chunks, what):
    group = zarr.open_group(tmp_path / "A.zarr", mode="w", zarr_format=2)
    A = group.create_array("A", shape=shape, chunks=chunks, dtype="f8")
    A.attrs["_ARRAY_DIMENSIONS"] = ["unit_id", "height", "width"]
    units = group.create_array("unit_id", shape=shape[:1], chunks=(10,), dtype="i8")
    units.attrs["_ARRAY_DIMENSIONS"] = ["unit_id"]
    with pytest.raises(ValueError, match=rf"A\.zarr/{what}"):
        xs2p.read_rois(tmp_path / "A.zarr")
