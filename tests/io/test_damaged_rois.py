"""What ROIs must not be: values that wrap, overflow or lose a part without a word."""

from __future__ import annotations

import logging
import struct

import h5py
import numpy as np
import pytest
import tifffile
import xarray as xr
from scipy.io import savemat
from scipy.sparse import csc_array

import xs2p
from xs2p.disk.hdf5_damage import check_heaps

ENTRY = {"ypix": [1, 1], "xpix": [2, 3], "lam": [1.0, 2.0]}


@pytest.mark.parametrize(
    "field",
    [
        {"lam": [1e39, 1]},
        {"lam": [1 + 1j, 1]},
        {"ypix": [True, False]},
        {"ypix": [2**64 - 1, 1]},
        {"ypix": np.array([2**63, 1], np.uint64)},
        {"xpix": [1e19, 1]},
        {"radius": 1e19},
        {"radius": 1e300},
        {"overlap": [0.5, 0]},
        {"overlap": ["a", "b"]},
        {"overlap": [2, 3]},
    ],
    ids=str,
)
def test_fields_that_are_none(field):
    with pytest.raises(ValueError, match=next(iter(field))):
        xs2p.rois_from_stat([{**ENTRY, **field}], (6, 8))


def test_a_median_that_is_no_place_is_computed():
    rois = xs2p.rois_from_stat([{**ENTRY, "med": [np.inf, 1]}], (6, 8))
    assert (rois.med_y.item(), rois.med_x.item()) == (1, 2.5)


def test_weights_near_the_largest_number_give_the_trace_that_others_do():
    movie = xr.DataArray(np.arange(240).reshape(5, 6, 8), dims=("time", "y", "x"))
    lam = np.array([3e38, 1e38], np.float32)
    with np.errstate(all="raise"):
        big, plain = (
            xs2p.extract(
                movie,
                xs2p.rois_from_stat([{**ENTRY, "lam": weights}], (6, 8)),
                fs=30.0,
                tau=1.0,
                neuropil_extract=False,
            )
            for weights in (lam, lam / np.float32(2**100))
        )
    np.testing.assert_array_equal(big.F, plain.F)
    assert big.F.values.all()


@pytest.mark.parametrize("shape", [(2**31, 4), (2**40, 2**40), (10**30, 1), (np.inf, 4)])
def test_frames_that_are_none(shape):
    with pytest.raises(ValueError, match="shape"):
        xs2p.rois_from_stat([ENTRY], shape)


def test_labels_beyond_int64():
    with pytest.raises(ValueError, match="int64, got 9223372036854775813"):
        xs2p.rois_from_labels(np.array([[0, 2**63 + 5]], np.uint64))
    largest = xs2p.rois_from_labels(np.array([[0, 2**63 - 1]]))
    assert largest.roi.values.tolist() == [2**63 - 1]


@pytest.mark.parametrize("dense", [True, False])
def test_complex_footprints(dense):
    A = np.zeros((48, 1), complex)
    A[3] = 1 + 1j
    with pytest.raises(ValueError, match="real"):
        if dense:
            xs2p.rois_from_footprints(A.reshape(1, 6, 8))
        else:
            xs2p.rois_from_footprints(csc_array(A), shape=(6, 8), order="F")


class Extractor:
    def __init__(self, mask, size=(6, 8)):
        self.mask, self.size = np.asarray(mask), size

    def get_roi_ids(self):
        return [0]

    def get_roi_pixel_masks(self, roi_ids):
        return [self.mask]

    def get_image_size(self):
        return self.size


@pytest.mark.parametrize(
    "made",
    [
        Extractor([[1 + 1j, 2, 1]]),
        Extractor([[np.inf, 2, 1]]),
        Extractor([[1e19, 2, 1]]),
        Extractor([[1, 2, 1]], (6.5, 8)),
        Extractor([[1, 2, 1]], (2**40, 2**40)),
        Extractor([[1, 2, 1]], ("a", 8)),
    ],
)
def test_extractors(made):
    with pytest.raises(ValueError, match=r"the Extractor (has|says)"):
        xs2p.read_rois(made)


class Estimates:
    A = csc_array(np.eye(48, 1))
    dims = (6, 8)


@pytest.mark.parametrize(
    "odd",
    [{"idx_components": [0.5]}, {"idx_components": ["a"]}, {"dims": (6 + 1j, 8)}],
    ids=str,
)
def test_estimates(odd):
    made = Estimates()
    made.__dict__ |= odd
    with pytest.raises(ValueError, match="the Estimates: "):
        xs2p.read_rois(made)


def test_a_label_image_that_is_not_in_its_file(tmp_path):
    """tifffile takes a strip of no bytes for zeros: there would be no ROI at all."""
    path = tmp_path / "l.tif"
    tifffile.imwrite(path, np.eye(12, 16, dtype=np.uint16), compression="zlib")
    with tifffile.TiffFile(path) as file:
        place = file.pages.first.tags["StripByteCounts"].valueoffset
    with open(path, "r+b") as raw:
        raw.seek(place)
        raw.write(bytes(4))
    with pytest.raises(ValueError, match=r"l.tif.*not in it"):
        xs2p.read_rois(path, labels=True)


def test_an_array_that_claims_more_than_its_file_has(tmp_path):
    path = tmp_path / "l.npy"
    np.save(path, np.zeros((4, 4), np.int32))
    data = path.read_bytes().replace(b"(4, 4), }      ", b"(40000, 40000),}")
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"l.npy"):
        xs2p.read_rois(path, labels=True)


def test_a_heap_that_does_not_end(tmp_path):
    """The HDF5 library would go round in it for ever."""
    path = tmp_path / "c.hdf5"
    with h5py.File(path, "w") as file:
        file["estimates/A"] = np.eye(48, 2)
        for n in range(5):
            file.attrs[f"said {n}"] = ["a text of any length"] * 3
    check_heaps(str(path))
    data = bytearray(path.read_bytes())
    struct.pack_into("<QQ", data, data.find(b"GCOL") + 16, 0, 0)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"c.hdf5: .* heap"):
        xs2p.read_rois(path, shape=(6, 8))


@pytest.mark.parametrize("name", ["status", "med_y", "radius"])
def test_a_part_of_a_store_that_is_gone(name, tmp_path):
    path = tmp_path / "r.zarr"
    xs2p.write_rois(xs2p.rois_from_stat([ENTRY], (6, 8)), path)
    (path / name / "c" / "0").unlink()
    with pytest.raises(ValueError, match=rf"r.zarr.*{name}"):
        xs2p.read_rois(path)


def test_labels_of_a_store_that_are_not_unique(tmp_path):
    rois = xs2p.rois_from_stat([ENTRY, {**ENTRY, "ypix": [2, 2]}], (6, 8))
    rois.assign_coords(roi=[3, 3]).to_zarr(tmp_path / "r.zarr", consolidated=False)
    with pytest.raises(ValueError, match=r"r.zarr.*not unique"):
        xs2p.read_rois(tmp_path / "r.zarr")


def _changed(path, old, new):
    data = path.read_bytes()
    assert data.count(old) == 1
    path.write_bytes(data.replace(old, new))


@pytest.mark.parametrize("what", ["row", "column", "unpacked"])
def test_a_sparse_matrix_of_matlab_that_does_not_hold(what, tmp_path):
    """scipy's reader would take the process along."""
    path = tmp_path / "m.mat"
    savemat(path, {"A": csc_array(np.eye(48, 3, k=-5))}, do_compression=what == "unpacked")
    if what == "row":
        _changed(path, struct.pack("<3i", 5, 6, 7), struct.pack("<3i", 5, 6, 48))
    elif what == "column":
        _changed(path, struct.pack("<4i", 0, 1, 2, 3), struct.pack("<4i", 0, 1, 2, 99))
    else:
        path.write_bytes(path.read_bytes()[:-4] + bytes(4))
    with pytest.raises(ValueError, match=r"m.mat: no MAT-file can be read"):
        xs2p.read_rois(path, shape=(6, 8))


def test_an_array_of_matlab_without_dims(tmp_path):
    path = tmp_path / "m.mat"
    savemat(path, {"A": np.eye(7, 9)})
    _changed(path, struct.pack("<4I", 5, 8, 7, 9), struct.pack("<4I", 5, 0, 7, 9))
    with pytest.raises(ValueError, match=r"m.mat: no MAT-file can be read"):
        xs2p.read_rois(path, labels=True)


def test_a_type_of_hdf5_that_is_none(tmp_path):
    """h5py calls functions of it that are not there."""
    path = tmp_path / "c.hdf5"
    with h5py.File(path, "w") as file:
        file["estimates/A"] = np.eye(48, 2)
        file.attrs["said"] = "a text"
    _changed(path, b"\x19\x01\x01\x00\x10\x00\x00\x00", b"\x19\xc7\x01\x00\x10\x00\x00\x00")
    with pytest.raises(ValueError, match=r"c.hdf5: .* type that is none"):
        xs2p.read_rois(path, shape=(6, 8))


@pytest.mark.parametrize("kind", ["claims", "virtual of itself", "elsewhere"])
@pytest.mark.parametrize("suffix", ["hdf5", "mat", "nc"])
def test_datasets_of_results_that_lead_elsewhere(tmp_path, kind, suffix):
    """As of movies: HDF5 dies in some of them, and follows others through the whole disk."""
    folder = tmp_path / "from others"
    folder.mkdir()
    path = folder / f"c.{suffix}"
    with h5py.File(tmp_path / "theirs.h5", "w") as file:
        file["data"] = np.arange(8.0)
    with h5py.File(path, "w", userblock_size=512 if suffix == "mat" else 0) as file:
        if kind == "claims":
            file.create_dataset("estimates/A/data", (10**9,), "f8", chunks=(10,))
        elif kind == "elsewhere":
            file["estimates/A/data"] = h5py.ExternalLink("../theirs.h5", "data")
        else:
            layout = h5py.VirtualLayout((8,), "f8")
            layout[:] = h5py.VirtualSource(".", "estimates/A/data", (8,))
            file.create_group("estimates/A").create_virtual_dataset("data", layout)
    if suffix == "mat":
        with open(path, "r+b") as raw:
            raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    said = {"claims": "tells of 8000000000 bytes", "elsewhere": "outside of the folder"}
    with pytest.raises(ValueError, match=rf"c\.{suffix}.*{said.get(kind, 'a part itself')}"):
        xs2p.read_rois(path, shape=(6, 8))


@pytest.mark.parametrize(("tag", "number"), [("RowsPerStrip", 2), ("ImageWidth", 3)])
def test_directories_that_do_not_fit_where_nothing_is_logged(tmp_path, tag, number):
    """Of both tifffile logs an error, and reads other labels."""
    path = tmp_path / "l.tif"
    labels = np.eye(12, 16, dtype=np.uint16)
    tifffile.imwrite(path, labels, compression="zlib")
    assert xs2p.read_rois(path, labels=True).sizes["roi"] == 1
    with tifffile.TiffFile(path, mode="r+") as file:
        file.pages.first.tags[tag].overwrite(number)
    logging.disable()
    try:
        with pytest.raises(ValueError, match=r"l\.tif: .*damaged"):
            xs2p.read_rois(path, labels=True)
    finally:
        logging.disable(logging.NOTSET)


def test_columns_that_go_back_to_nothing(tmp_path):
    """The last end of 0 says that there is nothing: scipy looks no further, and dies."""
    path = tmp_path / "c.hdf5"
    with h5py.File(path, "w") as file:
        for name, value in {
            "data": np.ones(3), "indices": [0, 1, 2], "indptr": [0, 10**6, 0], "shape": [48, 2],
        }.items():  # fmt: skip
            file[f"estimates/A/{name}"] = value
        file["estimates/dims"] = [6, 8]
    with pytest.raises(ValueError, match=r"c\.hdf5: estimates/A is damaged"):
        xs2p.read_rois(path)
