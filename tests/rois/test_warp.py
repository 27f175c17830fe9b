"""ROIs of another session or zoom: shifted and scaled onto this frame."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from loaders import DATA, square

import xs2p
from xs2p.testing import raise_if_dask_computes

REAL = DATA / "suite2p-folder-2p"


def dense(rois, fill="lam"):
    image = np.zeros((rois.sizes["roi"], rois.attrs["Ly"], rois.attrs["Lx"]))
    place = np.searchsorted(rois.roi_id.values, rois.pixel_roi.values)
    image[place, rois.ypix, rois.xpix] = rois[fill].values
    return image


def by_areas(weights, shape, shift, scale):
    """Weight and share of each new pixel, pixel against pixel: ``(weight, covered)``."""
    weight, covered = np.zeros(shape), np.zeros(shape)
    for y, x in np.argwhere(weights > 0):
        for row, column in np.ndindex(shape):
            low, high = scale[0] * y + shift[0], scale[0] * (y + 1) + shift[0]
            tall = max(min(high, row + 1) - max(low, row), 0)
            low, high = scale[1] * x + shift[1], scale[1] * (x + 1) + shift[1]
            wide = max(min(high, column + 1) - max(low, column), 0)
            weight[row, column] += weights[y, x] * tall * wide
            covered[row, column] += tall * wide
    return weight, covered


class TestWholePixels:
    def test_every_pixel_moves_and_keeps_what_is_known_of_it(self):
        stat = [
            square(2, 3, med=[3, 5], radius=7.5, skew=1.5, soma_crop=np.arange(9) > 2),
            square(4, 4, size=3, lam=0.5, soma_crop=np.ones(9, bool), med=[5, 5], radius=2.0),
        ]
        rois = xs2p.rois_from_stat(stat, (20, 20))
        with raise_if_dask_computes():
            moved = xs2p.read_rois(rois, shape=(30, 25), shift=(3, -2))
        np.testing.assert_array_equal(moved.ypix, rois.ypix + 3)
        np.testing.assert_array_equal(moved.xpix, rois.xpix - 2)
        assert moved.attrs == {"Ly": 30, "Lx": 25}
        np.testing.assert_array_equal(moved.med_y, rois.med_y + 3)
        np.testing.assert_array_equal(moved.med_x, rois.med_x - 2)
        gone = ["ypix", "xpix", "med_y", "med_x"]
        xr.testing.assert_identical(
            moved.drop_vars(gone).drop_attrs(deep=False),
            rois.drop_vars(gone).drop_attrs(deep=False),
        )
        for name in rois.variables:
            assert moved[name].dtype == rois[name].dtype and moved[name].attrs == rois[name].attrs

    def test_real_rois_there_and_back(self):
        rois = xs2p.read_rois(REAL)
        frame = (200, 300)
        there = xs2p.read_rois(REAL, shape=frame, shift=(40, 20))
        back = xs2p.read_rois(there, shape=(142, 247), shift=(-40, -20))
        assert "neuropil_mask" in rois.variables  # pixels of the old frame, so they go
        names = [n for n in rois.variables if rois[n].dims in (("roi",), ("pixel",))]
        names = [n for n in names if not str(n).endswith("_present")]
        assert set(names) <= set(back.variables) and "neuropil_mask" not in back.variables
        for name in names:
            xr.testing.assert_identical(back[name].variable, rois[name].variable)

    def test_pixels_that_leave_the_frame(self):
        rois = xs2p.rois_from_stat([square(0, 0), square(4, 4), square(10, 10)], (13, 13))
        with pytest.warns(UserWarning) as caught:
            moved = xs2p.read_rois(rois, shift=(-1, -5))
        assert len(caught) == 1
        text = str(caught[0].message)
        assert "12 pixels of 2 ROIs lie outside the frame (13, 13)" in text
        assert "(roi 0, 1)" in text and "1 ROIs lie wholly outside" in text
        assert moved.roi.values.tolist() == [0, 1, 2]
        assert moved.npix.values.tolist() == [0, 6, 9]
        assert moved.status.values.tolist() == ["outside_frame", "ok", "ok"]
        assert np.isnan(moved.med_x[0]) and moved.med_x[1:].values.tolist() == [0.5, 6]
        # Of the ROI that lost pixels, one column of three, they are measured anew.
        left = {"ypix": [3, 3, 4, 4, 5, 5], "xpix": [0, 1] * 3, "lam": np.ones(6)}
        alone = xs2p.rois_from_stat([left], (13, 13))
        np.testing.assert_allclose(moved.radius[1], alone.radius[0])

    def test_extraction_says_outside_frame(self):
        movie = xr.DataArray(np.ones((4, 13, 13), "f4"), dims=("time", "y", "x"))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            stat = [square(0, 0), square(6, 6)]
            moved = xs2p.read_rois(stat, shape=(13, 13), shift=(0, -9))
            moved = xs2p.read_rois(stat, shape=(13, 13), shift=(0, -4))
            ds = movie.s2p.extract_traces(xs2p.build_masks(moved, min_neuropil_pixels=5))
        assert ds.status.values.tolist() == ["outside_frame", "ok"]
        assert np.isnan(ds.F[0]).all() and (ds.F[1] == 1).all()

    def test_a_selection_in_any_order(self):
        rois = xs2p.rois_from_stat([square(i, i, lam=i + 1) for i in range(5)], (12, 12))
        moved = xs2p.read_rois(rois.isel(roi=[3, 1]), shift=(2, 2))
        assert moved.roi.values.tolist() == [3, 1]
        whole = dense(xs2p.rois_from_stat([square(5, 5, lam=4), square(3, 3, lam=2)], (12, 12)))
        np.testing.assert_array_equal(dense(moved), whole)

    def test_no_shift_is_the_same_set(self):
        rois = xs2p.sample_rois()
        moved = xs2p.read_rois(rois, shift=(0, 0), scale=1, shape=(64, 64))
        xr.testing.assert_equal(moved.ypix, rois.ypix)


numbers = st.integers(-12, 12).map(lambda k: k / 4)
scales = st.sampled_from([0.3, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 3.0])
images = st.lists(st.integers(0, 3), min_size=20, max_size=20).filter(any)


class TestResampled:
    @settings(max_examples=25, deadline=None)
    @given(images, numbers, numbers, scales, scales)
    def test_equals_adding_up_areas(self, weights, dy, dx, sy, sx):
        weights = np.array(weights, float).reshape(4, 5)
        rois = xs2p.rois_from_footprints(weights[None])
        # A frame with a margin, so that nothing leaves it.
        shift, shape = (dy + 4, dx + 4), (20, 24)
        moved = xs2p.read_rois(rois, shape=shape, shift=shift, scale=(sy, sx))
        weight, covered = by_areas(weights, shape, shift, (sy, sx))
        most = min(covered.max(), 0.5)
        wanted = np.where(covered >= most - 1e-9, weight, 0)
        np.testing.assert_allclose(dense(moved)[0], wanted, rtol=1e-5, atol=1e-6)
        assert moved.npix[0] > 0, "an ROI inside the frame is never lost"

    def test_a_whole_scale_repeats_pixels_and_its_inverse_undoes_it(self):
        rois = xs2p.sample_rois()
        large = xs2p.read_rois(rois, shape=(128, 192), scale=(2, 3))
        np.testing.assert_array_equal(
            dense(large), dense(rois).repeat(2, axis=1).repeat(3, axis=2).astype("f4")
        )
        np.testing.assert_array_equal(dense(large, "overlap"),
                                      dense(rois, "overlap").repeat(2, 1).repeat(3, 2))  # fmt: skip
        np.testing.assert_allclose(large.med_y, 2 * rois.med_y + 0.5)
        np.testing.assert_allclose(large.med_x, 3 * rois.med_x + 1)
        back = xs2p.read_rois(large, shape=(64, 64), scale=(1 / 2, 1 / 3))
        np.testing.assert_allclose(dense(back), dense(rois), rtol=1e-6)

    @pytest.mark.parametrize("scale", [1.1, 1.37, 2.5, 7.3])
    @pytest.mark.parametrize("shift", [(0, 0), (0.3, 0.7), (2.5, 1.5)])
    def test_scaling_up_leaves_no_holes(self, scale, shift):
        moved = xs2p.read_rois([square(2, 3, size=6)], shape=(90, 99), scale=scale, shift=shift)
        image = dense(moved)[0] > 0
        rows, columns = image.any(1), image.any(0)
        missing = np.argwhere(~image & np.outer(rows, columns))
        ends = [np.flatnonzero(part)[[0, -1]] for part in (rows, columns)]
        assert len(missing) <= 4  # corners of which less than half is covered
        assert all(y in ends[0] and x in ends[1] for y, x in missing)
        assert abs(rows.sum() - 6 * scale) <= 1 and abs(columns.sum() - 6 * scale) <= 1

    def test_half_a_pixel_belongs_to_both_sides(self):
        moved = xs2p.read_rois([square(2, 2, size=2, lam=3)], shape=(9, 9), shift=(0, 0.5))
        np.testing.assert_array_equal(dense(moved)[0][2], [0, 0, 1.5, 3, 1.5, 0, 0, 0, 0])

    def test_less_than_half_is_left_to_the_neighbour(self):
        """Cells that touch stay apart: a shift of a third makes no overlap between them."""
        stat = [square(2, 2, size=3), square(2, 5, size=3)]
        moved = xs2p.read_rois(stat, shape=(9, 12), shift=(0, 1 / 3))
        assert not moved.overlap.any() and moved.npix.values.tolist() == [9, 9]

    def test_rois_of_two_planes_share_nothing(self):
        rois = xs2p.rois_from_stat([square(2, 2), square(2, 3), square(2, 2)], (9, 9))
        moved = xs2p.read_rois(
            rois.assign_coords(plane=("roi", [0, 1, 1])), shape=(18, 18), scale=2
        )
        owner = moved.pixel_roi.values
        assert not moved.overlap.values[owner == 0].any()
        for i in (1, 2):
            np.testing.assert_allclose(moved.overlap.values[owner == i].mean(), 2 / 3)

    def test_a_tiny_roi_is_not_lost(self):
        moved = xs2p.read_rois([square(4, 5, size=1)], shape=(5, 5), scale=0.25)
        assert moved.npix.values.tolist() == [1]
        assert (int(moved.ypix[0]), int(moved.xpix[0])) == (1, 1)
        assert float(moved.lam[0]) == 0.25**2

    def test_two_zooms_about_one_centre(self):
        """The shift that the docstring gives keeps the middle of the frame where it is."""
        shape, s = (21, 21), 3
        shift = ((1 - s) * 21 / 2, (1 - s) * 21 / 2)
        moved = xs2p.read_rois([square(10, 10, size=1)], shape=shape, scale=s, shift=shift)
        image = np.zeros(shape)
        image[9:12, 9:12] = 1
        np.testing.assert_array_equal(dense(moved)[0], image)

    def test_labels_and_what_is_known_of_rois_stay(self):
        rois = xs2p.read_rois(REAL)
        moved = xs2p.read_rois(REAL, shape=(300, 500), scale=2, shift=(0.5, 0))
        for name in ("roi", "skew", "iscell"):
            xr.testing.assert_equal(moved[name].variable, rois[name].variable)
        np.testing.assert_allclose(moved.radius, 2 * rois.radius)
        assert (moved.status == "ok").all()
        xs2p.build_masks(xs2p.recompute_overlap(moved))

    def test_goes_to_zarr(self, tmp_path):
        moved = xs2p.read_rois(xs2p.sample_rois(), shape=(96, 96), scale=1.5)
        back = xs2p.read_rois(xs2p.write_rois(moved, tmp_path / "rois.zarr"))
        xr.testing.assert_identical(back.drop_encoding(), moved)


class TestSources:
    def test_a_source_that_knows_its_frame_may_have_another(self):
        labels = np.zeros((10, 12), int)
        labels[2:4, 8:11] = 5
        moved = xs2p.read_rois(labels, shape=(8, 8), shift=(0, -4))
        assert moved.attrs == {"Ly": 8, "Lx": 8} and moved.xpix.values.tolist() == [4, 5, 6] * 2
        assert xs2p.read_rois(labels, shift=(1, 0)).attrs == {"Ly": 10, "Lx": 12}

    def test_one_that_does_not_may_reach_beyond_it(self):
        """Pixels outside this frame that the shift brings in are not lost, and raise nothing."""
        moved = xs2p.read_rois([square(2, 9)], shape=(10, 10), shift=(0, -3))
        assert moved.xpix.values.tolist() == [6, 7, 8] * 3 and moved.attrs["Lx"] == 10
        rois = xs2p.rois_from_stat([square(2, 9)], (10, 12))
        moved = xs2p.read_rois(rois, shape=(10, 10), shift=(0, -3))
        assert moved.npix.values.tolist() == [9]

    def test_what_is_wrong_is_said_before_anything_is_read(self, tmp_path):
        gone = tmp_path / "gone.npy"
        for shift in (3, (1, 2, 3), ("a", 1), (np.nan, 0)):
            with pytest.raises(ValueError, match=r"shift=.*expected \(dy, dx\)"):
                xs2p.read_rois(gone, shape=(9, 9), shift=shift)
        for scale in ((1, 2, 3), "a", np.inf):
            with pytest.raises(ValueError, match=r"scale=.*expected a number or \(sy, sx\)"):
                xs2p.read_rois(gone, shape=(9, 9), scale=scale)
        for scale in (0, -1, (1, 0)):
            with pytest.raises(ValueError, match=r"scale=.*must be above 0"):
                xs2p.read_rois(gone, shape=(9, 9), scale=scale)
        with pytest.raises(ValueError, match=r"scale=2 .*give it in pixels: shape=\(Ly, Lx\)"):
            xs2p.read_rois(gone, scale=2)
        with pytest.raises(FileNotFoundError):
            xs2p.read_rois(gone, shape=(9, 9), scale=2)
