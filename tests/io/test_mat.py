"""suite2p's Fall.mat, and ROIs in other MAT-files, as scipy writes them."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from loaders import DATA
from scipy import sparse
from scipy.io import loadmat, savemat

import xs2p
from xs2p.io import load_npy, read_rois, read_suite2p, write_suite2p

REAL = DATA / "suite2p-folder-2p"


@pytest.fixture
def fall(tmp_path):
    """The real folder's files in one, the way suite2p itself saves them for MATLAB."""
    held = {path.stem: load_npy(path) for path in REAL.glob("*.npy")}
    ops = held["ops"].item().items()
    held["ops"] = {
        k: str(v) if k == "date_proc" else v for k, v in ops if v is not None and not k[0].isdigit()
    }
    path = tmp_path / "Fall.mat"
    savemat(path, held, long_field_names=True)
    return path


def same_rois(a, b):
    for key in ("ypix", "xpix", "lam", "npix", "overlap", "med_y", "radius", "iscell"):
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
    assert (a.attrs["Ly"], a.attrs["Lx"]) == (b.attrs["Ly"], b.attrs["Lx"])


def test_a_fall_is_of_one_plane_which_its_folder_tells(tmp_path):
    stat = [{"ypix": np.array([1, 2]), "xpix": np.array([1, 1]), "lam": np.ones(2)}] * 2
    ds = xs2p.rois_from_stat(stat, shape=(8, 9)).assign(F=(("roi", "time"), np.ones((2, 5), "f4")))
    ds = ds.assign_attrs(fs=5.0)
    two = ds.assign_coords(plane=("roi", [0, 1]))
    with pytest.raises(ValueError, match=r"of the planes \[0, 1\], and a Fall.mat is of one"):
        xs2p.write_suite2p(two, tmp_path / "Fall.mat")
    assert not list(tmp_path.iterdir())
    for folder, plane in (("plane3", [3, 3]), ("other", None)):
        xs2p.write_suite2p(ds, tmp_path / folder / "Fall.mat")
        back = xs2p.read_suite2p(tmp_path / folder / "Fall.mat")
        assert ("plane" in back.coords) == (plane is not None)
        assert plane is None or back.plane.values.tolist() == plane


def test_fall_is_what_the_folder_is(fall):
    ds, folder = read_suite2p(fall), read_suite2p(REAL)
    for key in ("F", "Fneu", "spks"):
        np.testing.assert_array_equal(ds[key], folder[key])
    same_rois(ds, folder)
    np.testing.assert_array_equal(ds.time, folder.time)
    for key in ("fs", "tau", "neuropil_coefficient", "baseline"):
        assert ds.attrs.get(key) == folder.attrs.get(key), key
    assert ds.attrs["source"] == str(fall)
    same_rois(read_rois(fall), folder)
    same_rois(read_rois(fall, cells_only=True), read_rois(REAL, cells_only=True))


def test_fall_out_and_in(fall, tmp_path):
    ds = read_suite2p(REAL)
    out = tmp_path / "new" / "Fall.mat"
    write_suite2p(ds.chunk(time=50), out)
    again = read_suite2p(out)
    np.testing.assert_array_equal(again.F, ds.F)
    same_rois(again, ds)
    assert [path.name for path in out.parent.iterdir()] == ["Fall.mat"]
    held = loadmat(out)
    assert held["stat"].shape == (1, ds.sizes["roi"]) and held["iscell"].shape[1] == 2
    assert held["stat"][0, 0]["ypix"][0, 0].shape == (1, int(ds.npix[0]))
    with pytest.raises(FileExistsError):
        write_suite2p(ds, out)
    write_suite2p(ds.isel(time=slice(20)), out, overwrite=True)
    assert read_suite2p(out).sizes["time"] == 20
    before = fall.read_bytes()
    with pytest.raises(FileExistsError, match="suite2p's own"):
        write_suite2p(ds, fall, overwrite=True)
    assert fall.read_bytes() == before


def test_one_roi_of_one_pixel(tmp_path):
    path = tmp_path / "Fall.mat"
    stat = [{"ypix": np.array([2]), "xpix": np.array([3]), "lam": np.array([0.5]), "med": [2, 3]}]
    held = np.empty(1, dtype=object)
    held[:] = stat
    savemat(path, {"stat": held, "F": np.ones((1, 9), "f4"), "ops": {"Ly": 5, "Lx": 7, "fs": 10}})
    ds = read_suite2p(path)
    assert (ds.ypix.item(), ds.xpix.item(), ds.F.shape) == (2, 3, (1, 9))


def test_what_is_no_fall(tmp_path):
    with pytest.raises(FileNotFoundError, match="Fall.mat"):
        read_suite2p(tmp_path / "Fall.mat")
    path = tmp_path / "a.mat"
    savemat(path, {"x": np.ones(3)})
    with pytest.raises(ValueError, match=r"a\.mat: neither stat nor F"):
        read_suite2p(path)
    path.write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    for read in (read_suite2p, read_rois):
        with pytest.raises(ValueError, match=r"a\.mat"):
            read(path)
    path.write_bytes(bytes(512) + b"\x89HDF\r\n\x1a\n" + bytes(200))
    with pytest.raises(ValueError, match=r"version 7\.3"):
        read_suite2p(path)


def test_labels_masks_and_sparse(tmp_path):
    labels = np.zeros((5, 8), int)
    labels[1:3, 2:5], labels[3, 6] = 1, 4
    want = xs2p.rois_from_labels(labels)
    path = tmp_path / "rois.mat"
    for value in (labels, labels.astype(float), labels.astype("u2")):
        savemat(path, {"labels": value, "note": "by hand"}, do_compression=True)
        xr.testing.assert_identical(read_rois(path, shape=(5, 8)), want)
    masks = np.stack([labels == 1, labels == 4], axis=-1)
    savemat(path, {"masks": masks})
    np.testing.assert_array_equal(read_rois(path).ypix, want.ypix)
    columns = sparse.csc_array(masks.reshape(40, 2, order="F").astype(float))
    savemat(path, {"A": columns})
    np.testing.assert_array_equal(read_rois(path, shape=(5, 8)).xpix, want.xpix)
    with pytest.raises(ValueError, match=r"shape=\(Ly, Lx\)"):
        read_rois(path)
    savemat(path, {"a": labels, "b": labels})
    with pytest.raises(ValueError, match=r"it holds a \(5, 8\)"):
        read_rois(path)


def test_a_folder_can_have_its_fall_beside(tmp_path):
    """The same as the file by itself, but for where it says that it lies."""
    ds = xs2p.sample_movie()[:60].s2p.extract(xs2p.sample_rois(), tau=1.0).compute()
    two = xs2p.recompute_overlap(ds.assign_coords(plane=("roi", [0] * 50 + [1] * 48)))
    xs2p.write_suite2p(two, tmp_path / "all", mat=True)
    for n in (0, 1):
        plane = tmp_path / "all" / f"plane{n}"
        assert loadmat(plane / "Fall.mat")["ops"]["save_path"][0, 0][0] == str(plane)
        packed = xs2p.read_suite2p(plane / "Fall.mat").drop_attrs()
        assert not packed.redcell.any()  # named there whether or not there is a second channel
        packed = packed.drop_vars(["redcell", "redcell_prob"])
        xr.testing.assert_identical(packed, xs2p.read_suite2p(plane).drop_attrs())
    # What another set left is replaced, or removed, but not what somebody else has put there.
    folder = tmp_path / "all" / "plane1"
    xs2p.write_suite2p(ds, folder, mat=True, overwrite=True)
    assert xs2p.read_suite2p(folder / "Fall.mat").sizes["roi"] == 98
    xs2p.write_suite2p(ds, folder, overwrite=True)
    assert not (folder / "Fall.mat").exists()
    savemat(folder / "Fall.mat", {"ops": {"Ly": 3}})
    xs2p.write_suite2p(ds, folder, overwrite=True)
    before = (folder / "F.npy").read_bytes()
    with pytest.raises(FileExistsError, match=r"Fall\.mat exists and is suite2p's own, or"):
        xs2p.write_suite2p(ds * 2, folder, mat=True, overwrite=True)
    assert (folder / "F.npy").read_bytes() == before
    assert loadmat(folder / "Fall.mat")["ops"]["Ly"] == 3
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]
