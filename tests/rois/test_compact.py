"""What a selection of ROIs keeps of the others, and what programs that know only CF make of it."""

from __future__ import annotations

import datetime

import numpy as np
import pytest
import xarray as xr
from loaders import square

import xs2p
from xs2p.rois import compact
from xs2p.testing import raise_if_dask_computes, simulate

ORDER = [5, 3]
START = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)


def read_as_cf(ds: xr.Dataset) -> dict[int, list[tuple[int, int]]] | None:
    """Pixels of each ROI by the CF conventions alone; None where nothing says so."""
    if ds["npix"].attrs.get("sample_dimension") != "pixel":
        return None
    found, first = {}, 0
    for label, count in zip(ds["roi"].values.tolist(), ds["npix"].values.tolist(), strict=True):
        own = slice(first, first + count)
        found[label] = list(zip(ds["ypix"].values[own], ds["xpix"].values[own], strict=True))
        first += count
    return found


def stored(ds: xr.Dataset, path) -> xr.Dataset:
    ds.to_zarr(path, consolidated=False)
    return xr.open_zarr(path, consolidated=False)


@pytest.fixture
def recording():
    movie, rois, _ = simulate(8, (40, 44), 300, fs=10.0, chunks=70)
    return movie, rois


@pytest.fixture
def expected(recording):
    _, rois = recording
    own = {label: rois.isel(pixel=rois.pixel_roi.values == label) for label in ORDER}
    return {label: list(zip(o.ypix.values, o.xpix.values, strict=True)) for label, o in own.items()}


def test_compact_keeps_the_pixels_of_the_rois_at_hand():
    rois = xs2p.rois_from_stat([square(i, 2 * i, lam=i) for i in (1, 5, 9)], (20, 30))
    picked = rois.isel(roi=[2, 0])
    assert picked.sizes["pixel"] == 27
    made = picked.s2p.compact()
    assert made.sizes == {"roi": 2, "pixel": 18}
    assert made.lam.values.tolist() == [9] * 9 + [1] * 9
    assert made.npix.attrs["sample_dimension"] == "pixel"
    xr.testing.assert_equal(made, picked.isel(pixel=[*range(18, 27), *range(9)]))
    assert "sample_dimension" not in picked.npix.attrs
    assert compact(rois).sizes == rois.sizes
    xr.testing.assert_identical(compact(made), made)


def test_compact_leaves_out_what_stat_lists_of_other_rois():
    rings = [{**square(i, i), "ring": np.arange(n)} for i, n in ((1, 20), (5, 30), (9, 40))]
    some = xs2p.rois_from_stat(rings, (20, 30)).isel(roi=[2, 0])
    made = some.s2p.compact()
    assert made.sizes["ring_element"] == 60 < some.sizes["ring_element"]
    for entry, n in zip(made.s2p.to_stat(), (40, 20), strict=True):
        assert entry["ring"].tolist() == list(range(n))


def test_compact_of_traces_leaves_them_lazy(recording, expected):
    ds = xs2p.extract(*recording, tau=1.0)
    with raise_if_dask_computes():
        made = ds.isel(roi=ORDER).s2p.compact()
    assert made.F.chunks == ds.F.isel(roi=ORDER).chunks
    assert "npix" in made.coords and list(made.data_vars) == list(ds.data_vars)
    assert read_as_cf(made) == expected
    xr.testing.assert_equal(made.F, ds.F.isel(roi=ORDER))


def test_compact_of_what_is_no_roi_set():
    with pytest.raises(ValueError, match="no ROI set"):
        xr.Dataset({"F": (("roi", "time"), np.zeros((2, 3)))}, {"roi": [0, 1]}).s2p.compact()
    rois = xs2p.sample_rois()
    with pytest.raises(ValueError, match="Select over roi only"):
        compact(rois.isel(pixel=slice(3, None)))


@pytest.mark.parametrize("suffix", [".zarr", ".nc"])
def test_cf_programs_read_what_write_rois_wrote(recording, expected, tmp_path, suffix):
    _, rois = recording
    path = str(tmp_path / f"rois{suffix}")
    xs2p.write_rois(rois.isel(roi=ORDER), path)
    opened = xr.open_zarr(path) if suffix == ".zarr" else xr.open_dataset(path)
    with opened:
        assert read_as_cf(opened) == expected
    # What was read is selected from again: nothing may say any more that it is contiguous.
    again = xs2p.read_rois(path).isel(roi=[1])
    assert read_as_cf(stored(again, tmp_path / "again.zarr")) is None
    assert read_as_cf(stored(again.s2p.compact(), tmp_path / "compact.zarr")) == {3: expected[3]}


def test_cf_programs_never_read_wrong_pixels_of_a_selection(recording, tmp_path):
    movie, rois = recording
    ds = xs2p.extract(movie, rois, tau=1.0)
    assert read_as_cf(stored(rois.isel(roi=ORDER), tmp_path / "rois.zarr")) is None
    assert read_as_cf(stored(ds.isel(roi=ORDER), tmp_path / "traces.zarr")) is None
    store = xs2p.extract_to_zarr(movie, rois.s2p.compact(), tmp_path / "job.zarr", tau=1.0)
    assert read_as_cf(stored(store.isel(roi=ORDER), tmp_path / "part.zarr")) is None
    moved = xs2p.read_rois(rois.s2p.compact(), shape=(50, 50), shift=(1, 0)).isel(roi=ORDER)
    assert read_as_cf(stored(moved, tmp_path / "moved.zarr")) is None


@pytest.mark.parametrize("how", ["extract", "extract_to_zarr", "suite2p", "nwb"])
def test_writers_of_traces_leave_the_pixels_of_other_rois_out(recording, expected, tmp_path, how):
    movie, rois = recording
    some = rois.isel(roi=ORDER)
    if how == "extract":
        ds = stored(xs2p.extract(movie, some, tau=1.0), tmp_path / "ds.zarr")
    elif how == "extract_to_zarr":
        ds = xs2p.extract_to_zarr(movie, some, tmp_path / "ds.zarr", tau=1.0)
    elif how == "suite2p":
        xs2p.write_suite2p(xs2p.extract(movie, rois, tau=1.0).isel(roi=ORDER), tmp_path / "plane0")
        ds = xs2p.read_suite2p(tmp_path / "plane0").assign_coords(roi=ORDER)
    else:
        pytest.importorskip("pynwb")
        whole = xs2p.extract(movie, rois, tau=1.0).isel(roi=ORDER)
        xs2p.write_nwb(whole, tmp_path / "a.nwb", session_start_time=START)
        ds = xs2p.read_nwb(tmp_path / "a.nwb")
    assert ds.sizes["pixel"] == int(ds.npix.sum())
    assert read_as_cf(ds.s2p.compact()) == expected


def test_masks_of_a_selection_are_contiguous(recording):
    _, rois = recording
    ds = xs2p.build_masks(rois.isel(roi=ORDER)).to_dataset()
    for kind in ("cell", "neuropil"):
        assert ds[f"{kind}_npix"].attrs["sample_dimension"] == f"{kind}_pixel"
        assert ds.sizes[f"{kind}_pixel"] == int(ds[f"{kind}_npix"].sum())
