"""Files that may be no ROIs, or are damaged: grey images, overlays, MATLAB's, cut and odd ones."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile

import h5py
import numpy as np
import pytest
import roifile
import tifffile
import zarr
from scipy.sparse import csc_array

import xs2p
from xs2p import open_movie, read_rois

LABELS = np.zeros((30, 40), np.uint16)
LABELS[3:9, 4:9], LABELS[12:20, 20:30], LABELS[3, 20], LABELS[3, 24] = 1, 2, 3, 3


def square(at, name):
    corners = np.array([[at, at], [at + 6, at], [at + 6, at + 6], [at, at + 6]], float)
    region = roifile.ImagejRoi.frompoints(corners)
    region.name = name
    return region


def grey_images():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 900, (30, 40)).astype("u2")
    noise[0, 0] = 0
    smooth = np.cumsum(np.cumsum(rng.normal(size=(30, 40)), 0), 1)
    smooth = ((smooth - smooth.min()) / np.ptp(smooth) * 250).astype("u1")
    mask = np.kron(np.indices((6, 8)).sum(0) % 2, np.ones((5, 5), int)).astype("u1")
    mask[4::5] = 0
    mask[:, 4::5] = 0
    return {
        "no background": noise + 1,
        "noise": noise,
        "noise, most of it dark": np.where(rng.random((30, 40)) < 0.6, 0, noise % 30),
        "smooth": np.maximum(smooth, 1),
        "a mask of all": mask * 255,
    }


@pytest.mark.parametrize("what", grey_images())
@pytest.mark.parametrize("kind", ["array", "npy", "tif"])
def test_a_grey_image_is_no_label_image(tmp_path, what, kind):
    image = grey_images()[what]
    source = image if kind == "array" else tmp_path / f"mean.{kind}"
    if kind == "npy":
        np.save(source, image)
    elif kind == "tif":
        tifffile.imwrite(source, image, photometric="minisblack")
    with pytest.raises(ValueError, match=r"(?s)mean|label image.*labels=True"):
        read_rois(source)
    assert read_rois(source, labels=True).sizes["roi"] == np.unique(image[image > 0]).size
    assert xs2p.rois_from_labels(image).sizes["roi"]  # says by its name what it takes


def test_label_images_are_none(tmp_path):
    points = np.zeros((30, 40), int)
    points[::2, ::2] = np.arange(300).reshape(15, 20)
    for image in (LABELS, LABELS > 5, points, np.kron(LABELS, np.ones((3, 3), int))):
        image = np.asarray(image, np.int32)
        assert read_rois(image).sizes["roi"] == np.unique(image[image > 0]).size
    with pytest.raises(ValueError, match=r"labels=True.*\.roi"):
        square(3, "a").tofile(tmp_path / "a.roi")
        read_rois(tmp_path / "a.roi", shape=(30, 40), labels=True)


@pytest.mark.parametrize("frames", [1, 3])
@pytest.mark.parametrize("n", [1, 2])
def test_overlays_of_a_tiff_are_its_rois(tmp_path, frames, n):
    path = tmp_path / "mean.tif"
    regions = [square(3 + 10 * k, f"cell {k}") for k in range(n)]
    image = np.random.default_rng(0).integers(1, 900, (frames, 30, 40)).astype("u2").squeeze()
    overlays = {"Overlays": [region.tobytes() for region in regions]}
    tifffile.imwrite(path, image, imagej=True, metadata=overlays)
    rois = read_rois(path)
    want = read_rois(regions, shape=(30, 40))
    assert (rois.attrs["Ly"], rois.attrs["Lx"]) == (30, 40)
    for key in ("npix", "ypix", "xpix", "name"):
        np.testing.assert_array_equal(rois[key], want[key])
    with pytest.raises(ValueError, match="disagree"):
        read_rois(path, shape=(40, 30))


def test_rois_of_matlab(tmp_path):
    path = tmp_path / "rois.mat"
    want = read_rois(LABELS)
    masks = np.stack([LABELS == k for k in (1, 2, 3)], -1)
    columns = csc_array(masks.transpose(1, 0, 2).reshape(-1, 3).astype(float))  # down the columns
    for variable in ("labels", "masks", "A"):
        with h5py.File(path, "w", userblock_size=512) as file:
            if variable == "A":
                group = file.create_group("A")
                group.attrs["MATLAB_sparse"] = np.uint64(columns.shape[0])
                for key, part in (("data", "data"), ("ir", "indices"), ("jc", "indptr")):
                    group[key] = getattr(columns, part)
            else:
                array = LABELS.astype(float) if variable == "labels" else masks.astype("u1")
                file[variable] = array.T
            file[variable].attrs["MATLAB_class"] = np.bytes_("double")
        with open(path, "r+b") as file:
            file.write(b"MATLAB 7.3 MAT-file".ljust(128))
        rois = read_rois(path, shape=(30, 40) if variable == "A" else None, name=variable)
        for key in ("npix", "ypix", "xpix"):
            np.testing.assert_array_equal(rois[key], want[key])
    with pytest.raises(ValueError, match=r"rois\.mat.*name='b'"):
        read_rois(path, name="b", shape=(30, 40))


def test_archives_lose_no_region(tmp_path):
    path = tmp_path / "RoiSet.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.roi", square(3, "a").tobytes())
        archive.writestr("b", square(12, "b").tobytes())
        archive.writestr("note.txt", "by me")
    assert read_rois(path, shape=(30, 40)).sizes["roi"] == 2
    data = bytearray(path.read_bytes())
    end = data.rfind(b"PK\5\6")
    data[end + 10] += 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"RoiSet\.zip.* damaged: it counts 4 entries, and 3"):
        read_rois(path, shape=(30, 40))


@pytest.mark.parametrize("odd", [np.inf, 12.5, -3.0])
@pytest.mark.parametrize("key", ["dims", "indices", "indptr"])
def test_odd_numbers_of_caiman(tmp_path, key, odd):
    path = tmp_path / "c.hdf5"
    parts = {"data": np.ones(3), "indices": np.arange(3.0), "indptr": np.array([0, 3.0]),
             "shape": np.array([192, 1]), "dims": np.array([12.0, 16.0])}  # fmt: skip
    parts[key][-1] = odd
    with h5py.File(path, "w") as file:
        file["estimates/dims"] = parts.pop("dims")
        for name, part in parts.items():
            file[f"estimates/A/{name}"] = part
    with pytest.raises(ValueError, match=r"c\.hdf5.*(whole number|damaged)"):
        read_rois(path)


def test_a_dangling_dataset_of_ome_zarr(tmp_path):
    path = tmp_path / "m.zarr"
    group = zarr.open_group(path, mode="w")
    group.create_array("1", shape=(20, 12, 16), chunks=(7, 12, 16), dtype="i2")
    group.attrs["multiscales"] = [{"axes": ["t", "y", "x"], "datasets": [{"path": "0"}]}]
    with pytest.raises(ValueError, match=r"m\.zarr: .*'0', which is not there.* 1"):
        open_movie(path)
    np.save(tmp_path / "l.npy", LABELS)
    shell = subprocess.run(
        [sys.executable, "-m", "xs2p.cli", "extract", "m.zarr", "l.npy", "o.zarr"],
        capture_output=True, text=True, cwd=tmp_path,
    )  # fmt: skip
    assert (shell.returncode, shell.stderr.count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "edit",
    [
        {"shape": [-20, 12, 16]},
        {"shape": [20, 10**9, 10**9]},
        {"chunks": "a"},
        {"compressor": {"id": "evil"}},
    ],
)
def test_damaged_metadata_of_zarr(tmp_path, edit):
    path = tmp_path / "m.zarr"
    zarr.create_array(path, shape=(20, 12, 16), chunks=(7, 12, 16), dtype="i2", zarr_format=2)
    header = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(header | edit))
    with pytest.raises(ValueError, match=r"m\.zarr"):
        open_movie(path)


@pytest.mark.parametrize("source", [".", "x.h5"])
def test_a_virtual_dataset_of_itself(tmp_path, source):
    path = tmp_path / "x.h5"
    layout = h5py.VirtualLayout((20, 12, 16), "i2")
    layout[:] = h5py.VirtualSource(source, "mov", (20, 12, 16))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("mov", layout)
    with pytest.raises(ValueError, match=r"x\.h5/mov is a virtual dataset of which it is a part"):
        open_movie(path)  # and HDF5 would crash
