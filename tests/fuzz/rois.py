"""Small whole files of ROIs and results in every format that is read, to be damaged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np
import tifffile
import xarray as xr
from scipy.io import savemat
from scipy.sparse import csc_matrix

import xs2p

LY, LX = 12, 16


class Case(NamedTuple):
    """Files in a folder: what is read, how, and with which arguments."""

    path: str
    read: Callable[..., xr.Dataset] = xs2p.read_rois
    options: dict[str, Any] = {}  # noqa: RUF012  (a tuple's default, never changed)


def labels() -> np.ndarray:
    """Three ROIs, two of which touch."""
    image = np.zeros((LY, LX), np.uint16)
    image[2:5, 3:6], image[5:7, 4:9], image[8:11, 11:14] = 1, 2, 5
    return image


def rois() -> xr.Dataset:
    """The same as an ROI set with weights."""
    made = xs2p.rois_from_labels(labels())
    lam = np.linspace(0.5, 1.5, made.sizes["pixel"], dtype=np.float32)
    made["lam"] = made["lam"].copy(data=lam)
    return made.assign_coords(roi=np.arange(3), iscell=("roi", np.array([True, False, True])))


def traces() -> xr.Dataset:
    """Traces of these ROIs, with what writers need."""
    movie = np.random.default_rng(3).integers(1, 400, (9, LY, LX)).astype("i2")
    return xs2p.extract(
        xr.DataArray(movie, dims=("time", "y", "x")),
        rois(),
        fs=30.0,
        tau=1.0,
        min_neuropil_pixels=20,
    )


def _suite2p(folder: Path, reads: Callable[..., xr.Dataset] = xs2p.read_rois) -> Case:
    made = traces().assign_coords(iscell=("roi", np.array([True, False, True])))
    made["meanImg"] = (("y", "x"), np.ones((LY, LX), "f4"))
    xs2p.write_suite2p(made, folder / "plane0")
    return Case("plane0", reads)


def _fall(folder: Path) -> Case:
    made = traces().assign_coords(iscell=("roi", np.array([True, False, True])))
    made["meanImg"] = (("y", "x"), np.ones((LY, LX), "f4"))
    xs2p.write_suite2p(made, folder / "Fall.mat")
    return Case("Fall.mat")


def _stat(folder: Path) -> Case:
    np.save(folder / "stat.npy", np.array(rois().s2p.to_stat(), dtype=object))
    return Case("stat.npy", options={"shape": (LY, LX)})


def _imagej(folder: Path, name: str) -> Case:
    import roifile

    made = rois() if name.endswith("zip") else rois().isel(roi=[0])
    xs2p.write_rois(made, folder / "RoiSet.zip")
    if name.endswith("zip"):
        return Case("RoiSet.zip", options={"shape": (LY, LX)})
    (folder / "RoiSet.zip").unlink()
    box = np.array([[2, 2], [8, 2], [8.5, 8], [2, 8]])
    roifile.ImagejRoi.frompoints(box).tofile(folder / name)
    return Case(name, options={"shape": (LY, LX)})


def _oval(folder: Path) -> Case:
    import roifile

    made = roifile.ImagejRoi.frompoints(np.array([[2, 2], [9, 2], [9, 8], [2, 8]]))
    made.roitype = roifile.ROI_TYPE.OVAL
    made.integer_coordinates, made.n_coordinates = None, 0
    made.tofile(folder / "oval.roi")
    return Case("oval.roi", options={"shape": (LY, LX)})


def _tif(folder: Path, **options: Any) -> Case:
    tifffile.imwrite(folder / "l.tif", labels(), **options)
    return Case("l.tif")


def _overlays(folder: Path) -> Case:
    import roifile

    made = [
        roifile.ImagejRoi.frompoints(np.array([[a, 2], [a + 4, 2], [a + 4, 6]])).tobytes()
        for a in (2, 7)
    ]
    tifffile.imwrite(folder / "o.tif", labels(), imagej=True, metadata={"Overlays": made})
    return Case("o.tif")


def _png(folder: Path) -> Case:
    from PIL import Image

    Image.fromarray(labels().astype(np.uint8)).save(folder / "l.png")
    return Case("l.png")


def _npy(folder: Path) -> Case:
    np.save(folder / "l.npy", labels())
    return Case("l.npy")


def _cellpose(folder: Path) -> Case:
    np.save(folder / "a_seg.npy", np.array({"masks": labels(), "filename": "a.tif"}, object))
    return Case("a_seg.npy")


def _footprints() -> csc_matrix:
    columns = [np.where(labels() == n, 0.5 + n, 0).ravel("F") for n in (1, 2, 5)]
    return csc_matrix(np.stack(columns, 1))


def _caiman(folder: Path) -> Case:
    A = _footprints()
    with h5py.File(folder / "c.hdf5", "w") as file:
        for key in ("data", "indices", "indptr", "shape"):
            file[f"estimates/A/{key}"] = np.asarray(getattr(A, key))
        file["estimates/dims"] = np.array([LY, LX])
        file["estimates/idx_components"] = np.array([0, 2])
        file["estimates/SNR_comp"] = np.array([1.0, 2.0, 3.0])
        file["estimates/r_values"] = "NoneType"
    return Case("c.hdf5")


def _minian(folder: Path) -> Case:
    A = np.stack([np.where(labels() == n, 0.5 + n, 0) for n in (1, 2, 5)])
    made = xr.DataArray(A, dims=("unit_id", "height", "width"), coords={"unit_id": [3, 4, 7]})
    made.to_dataset(name="A").to_zarr(folder / "A.zarr", zarr_format=2, consolidated=False)
    return Case("A.zarr")


def _own(folder: Path, name: str) -> Case:
    xs2p.write_rois(rois(), folder / name)
    return Case(name)


def _nwb(folder: Path, reads: Callable[..., xr.Dataset], **options: Any) -> Case:
    import datetime

    when = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    xs2p.write_nwb(traces(), folder / "s.nwb", session_start_time=when, **options)
    return Case("s.nwb", reads, {"shape": (LY, LX)})


def _alf(folder: Path, reads: Callable[..., xr.Dataset]) -> Case:
    made = traces().assign_coords(iscell=("roi", np.array([True, False, True])))
    made["meanImg"] = (("y", "x"), np.ones((LY, LX), "f4"))
    masks = xs2p.build_masks(rois(), min_neuropil_pixels=20)
    xs2p.write_alf(made, folder / "alf", masks=masks)
    return Case("alf", reads)


def _mat(folder: Path, value: Any) -> Case:
    savemat(folder / "m.mat", {"found": value}, do_compression=True)
    return Case("m.mat", options={"shape": (LY, LX)})


def _mat73(folder: Path) -> Case:
    A = _footprints()
    with h5py.File(folder / "m.mat", "w", userblock_size=512) as file:
        group = file.create_group("A")
        group.attrs["MATLAB_sparse"] = np.uint64(A.shape[0])
        group["data"], group["ir"], group["jc"] = A.data, A.indices, A.indptr
    with open(folder / "m.mat", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM")
    return Case("m.mat", options={"shape": (LY, LX)})


READERS: dict[str, Callable[[Path], Case]] = {
    "stat": _stat,
    "plane": _suite2p,
    "suite2p": lambda f: _suite2p(f, xs2p.read_suite2p),
    "fall": _fall,
    "roi": lambda f: _imagej(f, "one.roi"),
    "oval": _oval,
    "roiset": lambda f: _imagej(f, "RoiSet.zip"),
    "tif": _tif,
    "tif_zlib": lambda f: _tif(f, compression="zlib"),
    "overlays": _overlays,
    "png": _png,
    "npy": _npy,
    "cellpose": _cellpose,
    "caiman": _caiman,
    "minian": _minian,
    "zarr": lambda f: _own(f, "r.zarr"),
    "nc": lambda f: _own(f, "r.nc"),
    "nwb_rois": lambda f: _nwb(f, xs2p.read_rois),
    "nwb_lists": lambda f: _nwb(f, xs2p.read_rois, image_masks=False),
    "nwb": lambda f: _nwb(f, xs2p.read_nwb),
    "alf": lambda f: _alf(f, xs2p.read_alf),
    "alf_rois": lambda f: _alf(f, xs2p.read_rois),
    "mat_labels": lambda f: _mat(f, labels().astype(float)),
    "mat_sparse": lambda f: _mat(f, _footprints()),
    "mat73": _mat73,
}
# In these a checksum holds each byte of the regions or labels.
CHECKED = ("roiset", "png", "tif_zlib", "mat_labels", "mat_sparse")
