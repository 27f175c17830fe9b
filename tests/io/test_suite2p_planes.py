"""suite2p's folder of several planes, read and written at once; its combined/; 1.x without ops."""

import numpy as np
import pytest

import xs2p
from xs2p.io import load_npy

LY, LX, T = 24, 40, 60


def square(y, x, **more):
    ypix, xpix = np.repeat(np.arange(y, y + 5), 5), np.tile(np.arange(x, x + 5), 5)
    return {"ypix": ypix, "xpix": xpix, "lam": np.ones(25, "f4"), **more}


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for p in (0, 2):
        plane = tmp_path / "suite2p" / f"plane{p}"
        plane.mkdir(parents=True)
        image = rng.random((LY, LX)).astype("f4")
        ops = {"Ly": LY, "Lx": LX, "fs": 10.0, "tau": 0.7, "dy": 0, "dx": LX * p // 2}
        ops |= {"neucoeff": 0.7, "baseline": "maximin", "win_baseline": 60.0, "sig_baseline": 10.0}
        np.save(plane / "ops.npy", {**ops, "meanImg": image, "yoff": rng.random(10_001 + p)})
        np.save(plane / "stat.npy", np.array([square(3, 4 + p), square(12, 20 + p)]))
        np.save(plane / "iscell.npy", np.array([[1, 0.9], [p > 0, 0.5]]))
        for key in ("F", "Fneu", "spks"):
            np.save(plane / f"{key}.npy", rng.random((2, T + (p == 0))).astype("f4"))
    return tmp_path / "suite2p"


def test_all_planes_in_and_out(folder, tmp_path):
    with pytest.warns(UserWarning, match=r"planes \[0\] have 61 frames and the others 60"):
        ds = xs2p.read_suite2p(folder)
    assert ds.plane.values.tolist() == [0, 0, 2, 2] and ds.roi.values.tolist() == [0, 1, 2, 3]
    alone = xs2p.read_suite2p(folder / "plane2")
    assert alone.plane.values.tolist() == [2, 2]
    for name in ("F", "Fneu", "spks", "iscell", "npix", "time"):
        some = ds[name][2:] if "roi" in ds[name].dims else ds[name]
        np.testing.assert_array_equal(some, alone[name])
    np.testing.assert_array_equal(ds.meanImg_plane2, alone.meanImg)
    assert (ds.attrs["fs"], ds.attrs["tau"]) == (10.0, 0.7)
    assert xs2p.recompute_overlap(ds).overlap.equals(ds.overlap) and not ds.overlap.any()

    xs2p.write_suite2p(ds, tmp_path / "out")
    back = xs2p.read_suite2p(tmp_path / "out")
    for name in ds.variables:
        np.testing.assert_array_equal(ds[name], back[name], err_msg=name)
    of_plane = load_npy(tmp_path / "out" / "plane2" / "ops.npy").item()
    assert of_plane["nplanes"] == 2 and of_plane["yoff"].size == 10_003
    with pytest.raises(ValueError, match=r"planes \[0, 2\], and .*plane0' is the folder of one"):
        xs2p.write_suite2p(ds, tmp_path / "plane0")
    with pytest.raises(FileExistsError):
        xs2p.write_suite2p(ds, tmp_path / "out")
    holes = ds.copy(deep=True)
    holes["F"][3, 5] = np.nan
    with pytest.raises(ValueError, match="F is NaN in 1 of"):
        xs2p.write_suite2p(holes, tmp_path / "none")
    assert not list((tmp_path / "none").rglob("*.npy"))  # all planes or none
    np.save(folder / "plane0" / "F.npy", np.ones((2, T + 5), "f4"))
    for key in ("Fneu", "spks"):
        (folder / "plane0" / f"{key}.npy").unlink()
    with pytest.raises(ValueError, match=r"frames: plane 0 has 65, plane 2 has 60; read each$"):
        xs2p.read_suite2p(folder)


@pytest.mark.filterwarnings("ignore:.*planes .0. have 61 frames")
def test_a_plane_of_an_earlier_set_is_told_of(folder, tmp_path):
    ds = xs2p.read_suite2p(folder)
    third = ds.isel(roi=[2, 3]).assign_coords(plane=("roi", [3, 3]), roi=[4, 5])
    xs2p.write_suite2p(ds, tmp_path / "out")
    xs2p.write_suite2p(third, tmp_path / "out" / "plane3")
    (tmp_path / "out" / "plane4").touch()  # no folder
    before = (tmp_path / "out" / "plane3" / "F.npy").read_bytes()
    with pytest.warns(UserWarning, match="write_suite2p: plane3 in .*out stays as it is"):
        xs2p.write_suite2p(ds, tmp_path / "out", overwrite=True)
    assert (tmp_path / "out" / "plane3" / "F.npy").read_bytes() == before


def test_all_planes_are_told_of_at_once(folder, tmp_path, caplog):
    for key in ("F", "Fneu", "spks"):
        np.save(folder / "plane0" / f"{key}.npy", np.ones((2, T), "f4"))
    ds = xs2p.read_suite2p(folder).drop_vars(["meanImg_plane0", "meanImg_plane2"])
    ds = ds.assign_coords(tau=("roi", [0.5, 0.7, 1.0, 1.4]))
    ds["spks"].attrs.clear()
    with pytest.warns(UserWarning) as told:
        xs2p.write_suite2p(ds, tmp_path / "out")
    messages = [str(one.message) for one in told]
    assert len(messages) == 2 and "0.6 s, 1.2 s, the median of each plane" in messages[0]
    assert "spks does not say with which" in messages[1]
    assert caplog.text.count("no mean image of plane0, plane2") == len(caplog.records) == 1
    assert "ds['meanImg_plane0'] =" in caplog.text
    taus = [load_npy(tmp_path / "out" / f"plane{n}" / "ops.npy").item()["tau"] for n in (0, 2)]
    np.testing.assert_allclose(taus, [0.6, 1.2])


def test_combined_is_the_mosaic_of_its_planes(folder):
    combined = folder / "combined"
    combined.mkdir()
    np.save(combined / "stat.npy", np.array([square(3, 4, iplane=0), square(3, 50, iplane=2)]))
    np.save(combined / "F.npy", np.ones((2, T), "f4"))
    for db in (None, {"Ly": LY, "Lx": LX}):  # of one plane, as some versions say
        if db:
            np.save(combined / "db.npy", db)
        ds = xs2p.read_suite2p(combined)
        rois = xs2p.read_rois(combined)
        assert (ds.attrs["Ly"], ds.attrs["Lx"]) == (rois.attrs["Ly"], rois.attrs["Lx"]) == (24, 80)
        assert (ds.attrs["fs"], ds.attrs["tau"], ds.sizes["time"]) == (10.0, 0.7, T)
    np.save(combined / "ops.npy", {"Ly": 30, "Lx": 100, "fs": 7.0})
    assert xs2p.read_rois(combined).attrs == {"Ly": 30, "Lx": 100}


def test_a_folder_of_suite2p_1(folder):
    plane = folder / "plane2"
    ops = load_npy(plane / "ops.npy").item()
    (plane / "ops.npy").unlink()
    np.save(plane / "db.npy", {"Ly": LY, "Lx": LX, "nplanes": 3})
    settings = {"fs": 10.0, "tau": 1.25, "extraction": {"neuropil_coefficient": 0.6}}
    np.save(plane / "settings.npy", settings)
    np.save(plane / "reg_outputs.npy", {"meanImg": ops["meanImg"], "yoff": ops["yoff"]})
    np.save(plane / "detect_outputs.npy", {"max_proj": ops["meanImg"] + 1, "diameter": None})
    ds = xs2p.read_suite2p(plane)
    assert (ds.attrs["fs"], ds.attrs["tau"], ds.attrs["neuropil_coefficient"]) == (10.0, 1.25, 0.6)
    np.testing.assert_array_equal(ds.max_proj, ds.meanImg + 1)
    assert xs2p.read_rois(plane).attrs == {"Ly": LY, "Lx": LX} and "time" in ds.coords
