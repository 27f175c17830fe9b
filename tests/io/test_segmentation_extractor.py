"""ROIs of roiextractors' own extractors, beside what is read of the same files here."""

from __future__ import annotations

import os
import warnings
from datetime import UTC, datetime

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
from loaders import DATA

import xs2p

roiextractors = pytest.importorskip("roiextractors")
testing = pytest.importorskip("roiextractors.testing")
LY, LX, N = 12, 16, 5


@pytest.fixture
def footprints():
    """(roi, y, x), none of them symmetric."""
    made = np.zeros((N, LY, LX), "f4")
    rng = np.random.default_rng(0)
    for i in range(N):
        made[i, 2 * i : 2 * i + 2, i : i + 9] = rng.random((2, 9)) + 0.1
    return made


def extractor_of(footprints, **kwargs):
    masks = np.moveaxis(footprints, 0, -1)
    return roiextractors.NumpySegmentationExtractor(masks, np.zeros((7, len(footprints))), **kwargs)


def pixels(footprints):
    """Rows of (y, x, weight) of each ROI."""
    return [np.column_stack([*np.nonzero(a), a[a > 0]]) for a in footprints]


def in_order(rois, *names):
    """Columns over pixels by ROI, row and column."""
    order = np.lexsort((rois.xpix, rois.ypix, rois.pixel_roi))
    return {name: rois[name].values[order] for name in ("ypix", "xpix", "lam", *names)}


def same_pixels(rois, footprints):
    expected = xs2p.rois_from_footprints(footprints)
    np.testing.assert_array_equal(rois.npix, expected.npix)
    for name, values in in_order(expected).items():
        np.testing.assert_array_equal(in_order(rois)[name], values)
    assert rois.attrs == {"Ly": LY, "Lx": LX}


class Older:
    """The methods of releases to 0.5, whose lists and conventions differ; all warn of their age."""

    def __init__(self, footprints, order="yx", said=(LY, LX), layout="yxn", accepted=None, no=None):
        self.footprints, self.order, self.said, self.layout = footprints, order, said, layout
        self.accepted, self.no = accepted, no

    def get_roi_ids(self):
        return list(range(len(self.footprints)))

    def get_roi_pixel_masks(self, roi_ids=None):
        warnings.warn("old", DeprecationWarning, stacklevel=2)
        turned = {"yx": [0, 1, 2], "xy": [1, 0, 2]}.get(self.order)
        masks = pixels(self.footprints[list(roi_ids)])
        return [m[:, turned] if turned else m + [1, 0, 0] for m in masks]

    def get_roi_image_masks(self, roi_ids=None):
        warnings.warn("old", FutureWarning, stacklevel=2)
        chosen = self.footprints[list(roi_ids)]
        if self.layout == "yxn":
            return np.moveaxis(chosen, 0, -1)
        return chosen[0] if len(chosen) == 1 else chosen

    def get_image_size(self):
        return list(self.said)

    def get_accepted_list(self):
        return list(range(N)) if self.accepted is None else self.accepted

    def get_rejected_list(self):
        return self.no


class TestMasks:
    def test_images(self, footprints):
        rois = xs2p.read_rois(extractor_of(footprints))
        same_pixels(rois, footprints)
        assert rois.roi.values.tolist() == list(range(N)) and "name" not in rois.coords
        same_pixels(xs2p.read_rois(extractor_of(footprints), shape=(LY, LX)), footprints)

    @pytest.mark.parametrize("kind", ["image", "pixel"])
    def test_the_dummy(self, kind):
        size = {"num_rois": 3, "num_rows": LY, "num_columns": LX, "seed": 2}
        extractor = testing.generate_dummy_segmentation_extractor(mask_type=kind, **size)
        rois = xs2p.read_rois(extractor)
        same_pixels(rois, np.moveaxis(extractor.get_roi_image_masks(), -1, 0))
        assert rois.name.values.tolist() == extractor.get_roi_ids()
        assert rois.accepted.values.all()

    @pytest.mark.parametrize("layout", ["yxn", "nyx"])
    @pytest.mark.parametrize("said", [(LY, LX), (LX, LY)])
    @pytest.mark.parametrize("order", ["yx", "xy", "beside"])
    def test_conventions_of_older_ones(self, footprints, order, said, layout):
        """What image masks show is taken, where the others disagree with it."""
        rois = xs2p.read_rois(Older(footprints, order, said, layout))
        same_pixels(rois, footprints)

    def test_symmetric_ones_decide_nothing(self, footprints):
        footprints[0] = 0
        footprints[0, 3:6, 3:6] = 1
        same_pixels(xs2p.read_rois(Older(footprints, "xy")), footprints)

    def test_pixel_masks_alone(self, footprints, monkeypatch):
        monkeypatch.delattr(Older, "get_roi_image_masks")
        same_pixels(xs2p.read_rois(Older(footprints)), footprints)
        monkeypatch.delattr(Older, "get_image_size")
        with pytest.raises(ValueError, match=r"does not say the size .* shape=\(Ly, Lx\)"):
            xs2p.read_rois(Older(footprints))
        same_pixels(xs2p.read_rois(Older(footprints), shape=(LY, LX)), footprints)
        moved = xs2p.read_rois(Older(footprints), shape=(LY, LX), shift=(1, 2))
        same_pixels(moved, np.roll(footprints, (1, 2), (1, 2)))

    def test_image_masks_alone(self, footprints, monkeypatch):
        monkeypatch.delattr(Older, "get_roi_pixel_masks")
        same_pixels(xs2p.read_rois(Older(footprints)), footprints)

    def test_volumes(self, footprints):
        """Masks (y, x, z): an ROI of one plane has its number."""
        extractor = extractor_of(footprints[:2])
        rows = [np.insert(mask, 2, 3 * i, axis=1) for i, mask in enumerate(pixels(footprints[:2]))]
        extractor._roi_masks.data, extractor._roi_masks.mask_tpe = rows, "nwb-voxel_mask"
        extractor._roi_masks.field_of_view_shape = (LY, LX, 4)
        rois = xs2p.read_rois(extractor)
        same_pixels(rois, footprints[:2])
        assert rois.plane.values.tolist() == [0, 3] and not rois.overlap.any()
        rows[1][4, 2] = 2
        with pytest.raises(ValueError, match="roi 1 lies in z 2 to 3"):
            xs2p.read_rois(extractor)


class TestCells:
    def test_properties(self, footprints):
        rois = xs2p.read_rois(extractor_of(footprints, accepted_list=[1, 4]))
        assert rois.accepted.values.tolist() == [False, True, False, False, True]
        rois = xs2p.read_rois(extractor_of(footprints, rejected_list=[1]), cells_only=True)
        assert rois.roi.values.tolist() == [0, 2, 3, 4]
        assert "accepted" not in xs2p.read_rois(extractor_of(footprints)).coords

    @pytest.mark.parametrize(
        ("accepted", "no", "found"),
        [(None, None, [0, 1, 2, 3, 4]), ([2, 0], [1, 3, 4], [0, 2]), (None, [1], [0, 2, 3, 4])],
    )
    def test_lists_of_older_ones(self, footprints, accepted, no, found):
        rois = xs2p.read_rois(Older(footprints, accepted=accepted, no=no), cells_only=True)
        assert rois.roi.values.tolist() == found

    def test_both(self, footprints):
        with pytest.raises(ValueError, match=r"among the accepted and the rejected: \[2\]"):
            xs2p.read_rois(Older(footprints, accepted=[2, 0], no=[2]))


class TestFiles:
    """Their readers and ours, of one file."""

    def same(self, found, ours, *more):
        for name in ("npix", "roi", *more):
            np.testing.assert_array_equal(found[name], ours[name])
        theirs = in_order(found, "overlap")
        for name, values in in_order(ours, "overlap").items():
            np.testing.assert_array_equal(theirs[name], values)
        assert all(found.attrs[key] == ours.attrs[key] for key in ("Ly", "Lx"))

    def test_suite2p(self, tmp_path):
        ours = xs2p.read_rois(DATA / "suite2p-folder-2p")
        os.symlink(DATA / "suite2p-folder-2p", tmp_path / "plane0")
        extractor = roiextractors.Suite2pSegmentationExtractor(tmp_path)
        found = xs2p.read_rois(extractor)
        if "iscell" not in found.coords:  # a list, in older releases
            found = found.rename(accepted="iscell")
        self.same(found, ours, "iscell")

    def test_nwb(self, tmp_path, footprints):
        rois = xs2p.rois_from_footprints(footprints)
        movie = xr.DataArray(np.ones((40, LY, LX), "f4"), dims=("time", "y", "x"))
        ds = xs2p.extract(movie, rois, fs=10.0, tau=1.0, min_neuropil_pixels=5)
        ds = ds.assign_coords(iscell=("roi", np.arange(N) % 2 > 0))
        start = datetime(2024, 5, 1, tzinfo=UTC)
        xs2p.write_nwb(ds, tmp_path / "a.nwb", session_start_time=start, image_masks=True)
        found = xs2p.read_rois(roiextractors.NwbSegmentationExtractor(tmp_path / "a.nwb"))
        self.same(found, xs2p.read_rois(tmp_path / "a.nwb"))
        np.testing.assert_array_equal(found.accepted, ds.iscell)

    def test_caiman(self, tmp_path, footprints):
        A = sp.csc_matrix(np.stack([a.ravel(order="F") for a in footprints], 1).astype("f8"))
        with h5py.File(tmp_path / "r.hdf5", "w") as file:
            group = file.create_group("estimates")
            for key in ("data", "indices", "indptr", "shape"):
                group[f"A/{key}"] = getattr(A, key)
            file["dims"] = (LY, LX)
            file["params/data/dims"] = (LY, LX)
            file["params/data/fr"] = 10.0
            for key in ("C", "F_dff", "S", "YrA"):
                group[key] = np.zeros((N, 20))
            group["idx_components"], group["idx_components_bad"] = [3, 0], [1, 2, 4]
        extractor = roiextractors.CaimanSegmentationExtractor(tmp_path / "r.hdf5")
        found = xs2p.read_rois(extractor)
        self.same(found, xs2p.read_rois(tmp_path / "r.hdf5"), "accepted")


class TestRefused:
    def test_frames(self, footprints):
        with pytest.raises(ValueError, match=r"says that its frame is \(3, 4\), and .* \(12, 16\)"):
            xs2p.read_rois(Older(footprints, said=(3, 4)))
        with pytest.raises(ValueError, match=r"shape=\(16, 12\) disagrees with the NumpySegm"):
            xs2p.read_rois(extractor_of(footprints), shape=(LX, LY))

    def test_pixels(self, footprints, monkeypatch):
        monkeypatch.delattr(Older, "get_roi_image_masks")
        for masks, message in (
            ([np.zeros((2, 2))] * N, r"a pixel mask of \(2, 2\) of roi 0, expected rows"),
            ([np.array([[0.5, 1, 1]])] * N, r"a pixel at \[0.5, 1.0\] in roi 0"),
            ([np.array([[1, LX, 1]])] * N, r"the Older: xpix of roi 0 is 16, outside"),
        ):
            monkeypatch.setattr(Older, "get_roi_pixel_masks", lambda self, roi_ids, m=masks: m)
            with pytest.raises(ValueError, match=message):
                xs2p.read_rois(Older(footprints))
        with pytest.raises(ValueError, match="neither pixel masks nor image masks"):
            monkeypatch.setattr(Older, "get_roi_pixel_masks", lambda self, roi_ids: None)
            xs2p.read_rois(Older(footprints))

    def test_no_rois(self, footprints, monkeypatch):
        monkeypatch.setattr(Older, "get_roi_ids", lambda self: ["background0"])
        assert xs2p.read_rois(Older(footprints)).sizes["roi"] == 0
