import json
import os
import shutil
import subprocess
import sys
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from loaders import DATA

from xs2p.io import load_npy, read_rois, read_stat, read_suite2p, write_suite2p
from xs2p.io.suite2p import export as write_module
from xs2p.rois.build import rois_from_stat

REAL = DATA / "suite2p-folder-2p"
LY, LX, N, T = 20, 30, 5, 40


def stat_of(n=N):
    rng = np.random.default_rng(1)
    return [
        {
            "ypix": np.array([2, 2, 3]) + 3 * i,
            "xpix": np.array([5, 6, 5]) + 2 * i,
            "lam": rng.random(3).astype("f4") + 0.1,
            "med": [2 + 3 * i, 5 + 2 * i],
            "radius": 1.5 + i,
            "npix": 3,
            "overlap": np.zeros(3, bool),
            "skew": np.float32(i),
        }
        for i in range(n)
    ]


@pytest.fixture
def folder(tmp_path):
    """A plane folder with a second channel."""
    path = tmp_path / "plane0"
    path.mkdir()
    rng = np.random.default_rng(0)
    for key in ("F", "Fneu", "spks", "F_chan2", "Fneu_chan2"):
        np.save(path / f"{key}.npy", rng.normal(size=(N, T)).astype("f4"))
    np.save(path / "stat.npy", np.array(stat_of(), dtype=object))
    np.save(path / "iscell.npy", np.stack([np.arange(N) % 2, rng.random(N)], 1))
    np.save(path / "redcell.npy", np.stack([np.arange(N) % 3 == 0, rng.random(N)], 1))
    ops = {
        "Ly": LY, "Lx": LX, "fs": 10.0, "tau": 0.7, "neucoeff": 0.6, "baseline": "maximin",
        "win_baseline": 30.0, "nframes": T, "meanImg": rng.random((LY, LX)).astype("f4"),
        "F": np.ones((LY, LX)), "max_proj": rng.random((101, 120)),
        "yoff": np.arange(T, dtype="i4"),
        "Vmap": [np.ones((101, 120)), np.zeros((101, 120), "f4")], "yblock": [np.array([0, 8])],
        "nested": {"a": np.float32(1.5), "b": (1, 2), 3: "key"}, "nan": float("nan"), "none": None,
        "names": np.array(["a", "bc"]), "empty": np.empty((0, 3)), "c": 1 + 2j, "raw": b"\xff",
        "when": np.array(["2020-01-01", "NaT"], "M8[D]"),
        "objects": np.array([np.arange(3), None, "x"], dtype=object),
    }  # fmt: skip
    np.save(path / "ops.npy", ops)
    return path


def dataset(chunks=None):
    """Traces with their ROIs, as extraction gives them."""
    rng = np.random.default_rng(2)
    rois = rois_from_stat(stat_of(), (LY, LX))
    values = {key: rng.normal(size=(N, T)).astype("f4") for key in ("F", "Fneu", "spks", "Fc")}
    data = {k: v if chunks is None else da.from_array(v, chunks=chunks) for k, v in values.items()}
    ds = xr.Dataset({key: (("roi", "time"), value) for key, value in data.items()})
    ds = ds.assign_coords({str(k): v for k, v in rois.variables.items()})
    return ds.assign_attrs(rois.attrs, fs=15.0, tau=0.5, neuropil_coefficient=0.7)


class TestReadRealFolder:
    def test_everything_is_there(self):
        ds = read_suite2p(REAL)
        for key in ("F", "Fneu", "spks"):
            np.testing.assert_array_equal(ds[key], np.load(REAL / f"{key}.npy"))
            assert ds[key].dims == ("roi", "time") and ds[key].dtype == np.float32
            assert ds[key].attrs["units"] == "1" and ds[key].attrs["long_name"]
        iscell = np.load(REAL / "iscell.npy")
        assert ds.iscell.dtype == bool and ds.iscell.dims == ("roi",)
        np.testing.assert_array_equal(ds.iscell, iscell[:, 0] == 1)
        np.testing.assert_array_equal(ds.iscell_prob, iscell[:, 1])
        np.testing.assert_allclose(ds.time, np.arange(201) / 5.0)
        assert ds.time.attrs["units"] == "s"
        wanted = {"Ly": 142, "Lx": 247, "fs": 5.0, "tau": 1.5, "neuropil_coefficient": 0.7,
                  "baseline": "maximin_legacy", "win_baseline": 60.0, "sig_baseline": 10.0,
                  "prctile_baseline": 8.0}  # fmt: skip
        assert {key: ds.attrs[key] for key in wanted} == wanted
        rois = read_stat(REAL / "stat.npy")
        for key in rois.variables:
            assert key in ds.coords
            xr.testing.assert_identical(ds[key].variable, rois[key].variable)

    def test_ops_are_kept(self):
        ds = read_suite2p(REAL)
        ops = np.load(REAL / "ops.npy", allow_pickle=True).item()
        kept = json.loads(ds.attrs["ops"])
        assert list(kept) == list(ops)
        assert kept["fs"] == 5.0 and kept["date_proc"].startswith("2022-03-21T12:57:49")
        assert kept["block_size"] == [128, 128] and kept["rmin"] == 14
        for key in ("meanImg", "refImg", "meanImgE"):
            assert ds[key].dims == ("y", "x") and ds[key].dtype == ops[key].dtype
            np.testing.assert_array_equal(ds[key], ops[key])
        np.testing.assert_array_equal(ds.ops_Vcorr, ops["Vcorr"])

    def test_round_trip(self, tmp_path):
        ds = read_suite2p(REAL)
        write_suite2p(ds, tmp_path / "out")
        for key in ("F", "Fneu", "spks", "iscell"):
            np.testing.assert_array_equal(
                np.load(tmp_path / "out" / f"{key}.npy"), np.load(REAL / f"{key}.npy")
            )
        before, after = (load_npy(f / "stat.npy") for f in (REAL, tmp_path / "out"))
        assert len(before) == len(after) == 55
        for a, b in zip(before, after, strict=True):
            assert set(a) == set(b)
            for key in a:
                np.testing.assert_array_equal(a[key], b[key])
        before, after = (load_npy(f / "ops.npy").item() for f in (REAL, tmp_path / "out"))
        assert set(before) | {"xs2p_version"} == set(after)
        for key, value in before.items():
            if isinstance(value, np.ndarray):
                assert after[key].dtype == value.dtype
                np.testing.assert_array_equal(after[key], value)
            elif key not in ("block_size", "date_proc", "Vmap", "yblock", "xblock"):
                assert after[key] == value
        assert [type(v) for v in after["yblock"]] == [np.ndarray] * len(before["yblock"])
        np.testing.assert_array_equal(after["Vmap"][0], before["Vmap"][0])
        again = read_suite2p(tmp_path / "out")
        xr.testing.assert_identical(again.drop_attrs(), ds.drop_attrs())

    def test_goes_to_zarr_and_back(self, tmp_path):
        ds = read_suite2p(REAL)
        # Format 2: the oldest zarr warns of strings (status) in format 3.
        ds.to_zarr(tmp_path / "ds.zarr", consolidated=False, zarr_format=2)
        xr.testing.assert_identical(
            xr.open_zarr(tmp_path / "ds.zarr", consolidated=False).load(), ds
        )

    def test_a_selection_writes_its_own_rois(self, tmp_path):
        ds = read_suite2p(REAL).isel(roi=[7, 3])
        write_suite2p(ds, tmp_path / "out")
        stat, before = load_npy(tmp_path / "out" / "stat.npy"), load_npy(REAL / "stat.npy")
        assert len(stat) == 2
        for entry, i in zip(stat, (7, 3), strict=True):
            np.testing.assert_array_equal(entry["ypix"], before[i]["ypix"])
            np.testing.assert_array_equal(entry["lam"], before[i]["lam"])
        np.testing.assert_array_equal(
            np.load(tmp_path / "out" / "F.npy"), np.load(REAL / "F.npy")[[7, 3]]
        )


class TestRead:
    def test_second_channel_and_red_cells(self, folder):
        ds = read_suite2p(folder)
        for key in ("F_chan2", "Fneu_chan2"):
            np.testing.assert_array_equal(ds[key], np.load(folder / f"{key}.npy"))
        assert ds.redcell.values.tolist() == [True, False, False, True, False]
        assert ds.redcell_prob.dims == ("roi",)

    def test_every_kind_of_ops_comes_back(self, folder, tmp_path):
        ds = read_suite2p(folder)
        write_suite2p(ds, tmp_path / "out")
        before, after = (load_npy(f / "ops.npy").item() for f in (folder, tmp_path / "out"))
        assert set(before) < set(after)
        for key in ("meanImg", "F", "max_proj", "yoff", "names", "empty", "when"):
            assert after[key].dtype == before[key].dtype
            np.testing.assert_array_equal(after[key], before[key])
        for a, b in zip(after["Vmap"], before["Vmap"], strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert after["nested"] == {"a": 1.5, "b": [1, 2], 3: "key"}
        assert np.isnan(after["nan"]) and after["none"] is None
        assert after["c"] == 1 + 2j and after["raw"] == b"\xff"
        assert after["objects"].dtype == object and after["objects"][1:].tolist() == [None, "x"]
        np.testing.assert_array_equal(after["objects"][0], [0, 1, 2])
        # An image whose key is taken by a trace keeps out of its way.
        assert ds.F.dims == ("roi", "time") and ds.ops_F.dims == ("y", "x")

    def test_ops_without_a_dropped_or_cropped_image(self, folder, tmp_path):
        ds = read_suite2p(folder).drop_vars("meanImg").isel(y=slice(0, 4))
        write_suite2p(ds, tmp_path / "out")
        ops = load_npy(tmp_path / "out" / "ops.npy").item()
        assert "meanImg" not in ops and "F" not in ops and "max_proj" in ops

    def test_status_says_where_f_is_zero(self, folder, tmp_path):
        F = np.load(folder / "F.npy")
        F[[1, 2]] = 0
        np.save(folder / "F.npy", F)
        stat = np.load(folder / "stat.npy", allow_pickle=True)
        stat[2]["overlap"][:] = True
        np.save(folder / "stat.npy", stat)
        ds = read_suite2p(folder)
        np.testing.assert_array_equal(ds.F, F)
        expected = ["ok", "zero_trace", "no_cell_pixels", *["ok"] * (N - 3)]
        assert ds.status.values.tolist() == expected
        write_suite2p(ds, tmp_path / "out")
        assert read_suite2p(tmp_path / "out").status.values.tolist() == expected
        ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
        back = xr.open_zarr(tmp_path / "a.zarr", consolidated=False)
        assert back.status.values.tolist() == expected
        (folder / "stat.npy").unlink()
        assert read_suite2p(folder).status.values.tolist()[1:3] == ["zero_trace"] * 2

    def test_settings_of_suite2p_1(self, folder):
        ops = {
            "Ly": LY, "Lx": LX, "fs": 7.0, "tau": 1.0,
            "extraction": {"neuropil_coefficient": 0.8},
            "dcnv_preprocess": {"baseline": "prctile", "prctile_baseline": 5.0},
        }  # fmt: skip
        np.save(folder / "ops.npy", ops)
        ds = read_suite2p(folder)
        assert ds.attrs["neuropil_coefficient"] == 0.8 and ds.attrs["baseline"] == "prctile"
        assert ds.spks.attrs["neuropil_coefficient"] == 0.8 and "baseline" not in ds.F.attrs
        ds.spks.attrs["neuropil_coefficient"] = 0.5
        write_suite2p(ds, folder / "new")
        ops = load_npy(folder / "new" / "ops.npy").item()
        assert ops["neucoeff"] == ops["extraction"]["neuropil_coefficient"] == 0.5

    @pytest.mark.parametrize("absent", ["F", "Fneu", "spks", "iscell", "ops", "stat", "redcell"])
    def test_absent_files_are_left_out(self, folder, absent):
        (folder / f"{absent}.npy").unlink()
        ds = read_suite2p(folder, shape=(LY, LX))
        assert absent not in ds.variables and ds.sizes["roi"] == N
        assert ("time" in ds.coords) == (absent != "ops") == ("ops" in ds.attrs)
        assert ("ypix" in ds.coords) == (absent != "stat")
        assert (ds.attrs["Ly"], ds.attrs["Lx"]) == (LY, LX)

    def test_shape(self, folder):
        with pytest.raises(ValueError, match=r"shape=\(3, 4\) disagrees.*\(20, 30\)"):
            read_suite2p(folder, shape=(3, 4))
        (folder / "ops.npy").unlink()
        with pytest.raises(ValueError, match=r"stat\.npy.*give shape=\(Ly, Lx\)"):
            read_suite2p(folder)

    @pytest.mark.parametrize("file", ["Fneu", "spks", "iscell", "F_chan2", "redcell"])
    def test_rows_that_disagree(self, folder, file):
        array = np.load(folder / f"{file}.npy")
        np.save(folder / f"{file}.npy", array[:-1])
        with pytest.raises(ValueError, match=rf"{file}\.npy: 4 ROIs, but stat\.npy .* has 5"):
            read_suite2p(folder)

    def test_frames_that_disagree(self, folder):
        np.save(folder / "spks.npy", np.zeros((N, T - 3)))
        with pytest.raises(ValueError, match=r"spks\.npy: 37 frames, but F\.npy .* has 40"):
            read_suite2p(folder)

    @pytest.mark.parametrize("file", ["F", "stat", "ops", "iscell"])
    def test_damage(self, folder, file):
        path = folder / f"{file}.npy"
        whole = path.read_bytes()
        for damaged in (whole[:-7], whole[:200], b"", b"\0" * len(whole)):
            path.write_bytes(damaged)
            with pytest.raises(ValueError, match=rf"{file}\.npy"):
                read_suite2p(folder)

    def test_errors_of_libraries_name_the_folder(self, folder):
        ops = np.load(folder / "ops.npy", allow_pickle=True).item()
        np.save(folder / "ops.npy", np.array({**ops, "fs": 10**30}, dtype=object))
        with pytest.raises(ValueError, match=r"plane0: the file is damaged.*TypeError: ufunc"):
            read_suite2p(folder)
        np.save(folder / "ops.npy", np.array({**ops, "Ly": 10**30}, dtype=object))
        with pytest.raises(ValueError, match=r"stat\.npy: the file is damaged.*TypeError: ufunc"):
            read_stat(folder / "stat.npy")

    @pytest.mark.parametrize(
        ("file", "content"),
        [
            ("F", np.zeros(N)),
            ("F", np.zeros((N, T), complex)),
            ("spks", np.array([[None] * T] * N)),
            ("iscell", np.zeros(N)),
            ("iscell", np.zeros((N, 3))),
            ("ops", np.zeros(3)),
            ("ops", np.array([1, "a"], dtype=object)),
            ("stat", np.zeros(N)),
            ("stat", np.array([None] * N)),
            ("stat", np.array([{"ypix": [1], "lam": [1.0]}] * N)),
            ("stat", np.array([{"ypix": [99], "xpix": [1], "lam": [1.0]}] * N)),
        ],
    )
    def test_wrong_content(self, folder, file, content):
        np.save(folder / f"{file}.npy", content)
        with pytest.raises(ValueError, match=rf"{file}\.npy"):
            read_suite2p(folder)

    def test_folder_above_or_none(self, folder, tmp_path):
        top = tmp_path / "top"
        shutil.copytree(folder, top / "suite2p" / "plane0")
        shutil.copytree(folder, top / "suite2p" / "plane1")
        for above in (top, top / "suite2p"):
            assert read_suite2p(above).plane.values.tolist() == [0] * N + [1] * N
        (tmp_path / "nothing").mkdir()
        for path in (tmp_path / "nothing", tmp_path / "gone", folder / "F.npy"):
            with pytest.raises(FileNotFoundError, match="read_suite2p"):
                read_suite2p(path)


class TestReadRois:
    def test_sources(self, folder):
        expected = rois_from_stat(stat_of(), (LY, LX))
        stat = stat_of()
        flags = ["iscell", "iscell_prob", "redcell", "redcell_prob"]
        for source in (folder, str(folder / "stat.npy")):
            for rois in (read_rois(source), read_rois(source, shape=(LY, LX))):
                assert rois.iscell.values.tolist() == [False, True, False, True, False]
                assert rois.plane.values.tolist() == [0] * 5
                xr.testing.assert_identical(rois.drop_vars([*flags, "plane"]), expected)
        for source in (stat, tuple(stat), np.array(stat, dtype=object)):
            xr.testing.assert_identical(read_rois(source, shape=(LY, LX)), expected)
        assert read_rois(expected) is expected
        assert read_rois([], shape=(LY, LX)).sizes["roi"] == 0

    def test_errors(self, folder, tmp_path):
        with pytest.raises(ValueError, match=r"read_rois\(stat, shape=\(Ly, Lx\)\)"):
            read_rois(stat_of())
        for source in (3, None, ["a"], {"ypix": [1]}, np.zeros(())):
            with pytest.raises(ValueError, match=r"expected one of\s+suite2p  .*stat\.npy"):
                read_rois(source, shape=(LY, LX))
        rois = rois_from_stat(stat_of(), (LY, LX))
        with pytest.raises(ValueError, match=r"shape=\(1, 2\) disagrees.*\(20, 30\)"):
            read_rois(rois, shape=(1, 2))
        with pytest.raises(ValueError, match="lacks ypix"):
            read_rois(rois.drop_vars("ypix"))
        (tmp_path / "rois.zip").write_bytes(b"")
        with pytest.raises(ValueError, match="no zip archive can be read"):
            read_rois(tmp_path / "rois.zip", shape=(LY, LX))
        with pytest.raises(FileNotFoundError, match="no file or folder"):
            read_rois(tmp_path / "gone.npy")
        (tmp_path / "empty").mkdir()
        with pytest.raises(FileNotFoundError, match="has no stat"):
            read_rois(tmp_path / "empty", shape=(LY, LX))
        with pytest.raises(ValueError, match="shape=5: expected"):
            read_rois(folder, shape=5)
        with pytest.raises(ValueError, match="disagrees"):
            read_rois(folder, shape=(1, 2))


class TestWrite:
    def test_what_suite2p_needs(self, tmp_path):
        ds = dataset()
        write_suite2p(ds, tmp_path / "suite2p" / "plane0")
        out = tmp_path / "suite2p" / "plane0"
        names = ["F.npy", "Fneu.npy", "iscell.npy", "ops.npy", "spks.npy", "stat.npy"]
        assert sorted(os.listdir(out)) == names
        for key in ("F", "Fneu", "spks"):
            array = np.load(out / f"{key}.npy")
            assert array.dtype == np.float32 and array.flags.c_contiguous
            np.testing.assert_array_equal(array, ds[key])
        iscell = np.load(out / "iscell.npy")
        assert iscell.dtype == np.float32 and (iscell == 1).all() and iscell.shape == (N, 2)
        stat = np.load(out / "stat.npy", allow_pickle=True)
        assert stat.dtype == object and stat.shape == (N,)
        assert {"ypix", "xpix", "lam", "med", "npix", "radius", "overlap", "skew"} <= set(stat[0])
        ops = np.load(out / "ops.npy", allow_pickle=True).item()
        wanted = {"Ly": LY, "Lx": LX, "fs": 15.0, "tau": 0.5, "neucoeff": 0.7, "nframes": T,
                  "baseline": "maximin", "win_baseline": 60.0, "sig_baseline": 10.0,
                  "prctile_baseline": 8.0, "nplanes": 1, "nchannels": 1, "functional_chan": 1,
                  "save_path": str(out)}  # fmt: skip
        assert {key: ops[key] for key in wanted} == wanted
        assert ops["diameter"].shape == (2,)  # suite2p 1.1.0's viewer raises KeyError without

    def test_no_image_of_zeros(self, tmp_path, caplog):
        """The viewer needs a mean image, and is told how it gets one."""
        black = dataset().assign(meanImg=(("y", "x"), np.zeros((LY, LX), "f4")))
        for n, ds in enumerate([dataset(), black]):
            caplog.clear()
            write_suite2p(ds, tmp_path / str(n))
            ops = load_npy(tmp_path / str(n) / "ops.npy").item()
            assert not [k for k, v in ops.items() if np.ndim(v) == 2 and not np.any(v)]
            assert "ds['meanImg'] = movie.mean('time')" in caplog.text

    def test_statistics_are_those_of_the_traces(self, tmp_path):
        """Extracted anew, ROIs of another session do not bring its skew, std and neuropil."""
        rois = read_rois(REAL)
        assert {"skew", "std", "neuropil_mask"} <= set(rois.variables)
        frames = np.random.default_rng(0).integers(0, 99, (30, 142, 247), dtype="i2")
        movie = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": 5.0})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=100)
        assert not {"skew", "std", "neuropil_mask"} & set(ds.variables)
        write_suite2p(ds, tmp_path / "out")
        stat = np.load(tmp_path / "out" / "stat.npy", allow_pickle=True)
        for name in ("skew", "std"):
            expected = np.nan_to_num(getattr(ds.Fc.s2p, name)())
            np.testing.assert_allclose([s[name] for s in stat], expected, rtol=1e-5)
        assert "neuropil_mask" not in stat[0] and "footprint" in stat[0]

    def test_an_error_among_the_renames_puts_everything_back(self, tmp_path, monkeypatch):
        ds = dataset()
        out = tmp_path / "out"
        write_suite2p(ds, out)
        before = {p.name: p.read_bytes() for p in out.iterdir()}
        rename, calls = os.rename, []

        def failing(source, target):
            calls.append(target)
            if len(calls) == 9:
                raise OSError(5, "Input/output error", target)
            rename(source, target)

        monkeypatch.setattr(os, "rename", failing)
        with pytest.raises(OSError, match="Input/output error"):
            write_suite2p(ds.assign(F=ds.F + 1), out, overwrite=True)
        monkeypatch.undo()
        assert len(calls) > 9
        assert {p.name: p.read_bytes() for p in out.iterdir()} == before
        (out / "spks.npy").unlink()
        (out / "spks.npy").mkdir()
        with pytest.raises(IsADirectoryError, match="spks.npy' is a folder"):
            write_suite2p(ds.assign(F=ds.F + 1), out, overwrite=True)
        assert (out / "F.npy").read_bytes() == before["F.npy"]
        assert sorted(p.name for p in out.iterdir()) == sorted(before)

    @pytest.mark.parametrize(
        ("key", "value"), [("fs", 0), ("fs", "5"), ("tau", -1.0), ("Ly", "abc"), ("Lx", 2.5)]
    )
    def test_ops_that_make_no_sense(self, tmp_path, key, value):
        write_suite2p(dataset(), tmp_path / "out")
        ops = np.load(tmp_path / "out" / "ops.npy", allow_pickle=True).item()
        np.save(tmp_path / "out" / "ops.npy", {**ops, key: value}, allow_pickle=True)
        with pytest.raises(ValueError, match=rf"ops\.npy: {key} is {value!r}, expected"):
            read_suite2p(tmp_path / "out")

    def test_mean_image(self, tmp_path):
        image = np.arange(LY * LX, dtype="f4").reshape(LY, LX)
        ds = dataset(chunks=(N, 10)).assign(meanImg=(("y", "x"), da.from_array(image, chunks=7)))
        write_suite2p(ds, tmp_path / "out")
        ops = load_npy(tmp_path / "out" / "ops.npy").item()
        np.testing.assert_array_equal(ops["meanImg"], image)

    def test_lazy_input_is_computed_once(self, tmp_path):
        calls = []

        def count(block):
            calls.append(1)
            return block

        source = da.ones((N, T), chunks=(N, 10), dtype="f4").map_blocks(
            count, meta=np.empty((0, 0), "f4")
        )
        ds = dataset()
        for key in ("F", "Fneu", "spks", "Fc"):
            ds[key] = (("roi", "time"), source * len(key))
        runs = []
        with dask.config.set(scheduler=lambda *a, **k: runs.append(1) or dask.get(*a, **k)):
            write_suite2p(ds, tmp_path / "out")
        assert len(runs) == 1 and len(calls) == 4
        assert (np.load(tmp_path / "out" / "Fneu.npy") == 4).all()
        assert isinstance(ds.F.data, da.Array)

    def test_any_order_of_dims_and_dtype(self, tmp_path):
        ds = dataset()
        expected = ds.F.values.copy()
        write_suite2p(ds.transpose("time", ...).assign(F=ds.F.astype("f8").T), tmp_path / "out")
        array = np.load(tmp_path / "out" / "F.npy")
        assert array.dtype == np.float32 and array.flags.c_contiguous
        np.testing.assert_array_equal(array, expected)

    def test_rois_without_a_trace_are_zeros(self, tmp_path):
        ds = dataset()
        ds["F"][1] = np.nan
        ds["spks"][1] = np.nan
        ds["F"][3, 4:] = np.nan
        ds["status"][3] = "no_neuropil_pixels"
        before = ds.copy(deep=True)
        write_suite2p(ds, tmp_path / "out")
        xr.testing.assert_identical(ds, before)
        array = np.load(tmp_path / "out" / "F.npy")
        assert (array[[1, 3]] == 0).all() and (array[[0, 2, 4]] != 0).all()
        assert (np.load(tmp_path / "out" / "spks.npy")[1] == 0).all()

    def test_nan_in_some_frames_is_an_error(self, tmp_path):
        ds = dataset()
        ds["Fneu"][2, :7] = np.nan
        with pytest.raises(ValueError, match=r"Fneu is NaN in 7 of 40 frames of roi 2.*fillna"):
            write_suite2p(ds, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_traces_that_were_not_made_are_zeros(self, tmp_path):
        write_suite2p(dataset().drop_vars(["Fneu", "spks"]), tmp_path / "out")
        for key in ("Fneu", "spks"):
            assert (np.load(tmp_path / "out" / f"{key}.npy") == np.zeros((N, T))).all()

    def test_second_channel_and_flags(self, folder, tmp_path):
        ds = read_suite2p(folder)
        write_suite2p(ds, tmp_path / "out")
        for key in ("F_chan2", "Fneu_chan2", "redcell", "iscell"):
            np.testing.assert_array_equal(
                np.load(tmp_path / "out" / f"{key}.npy"), np.load(folder / f"{key}.npy")
            )
        assert load_npy(tmp_path / "out" / "ops.npy").item()["nchannels"] == 2
        assert not {"iscell", "redcell_prob"} & set(load_npy(tmp_path / "out" / "stat.npy")[0])

    def test_own_baselines_get_suite2ps_names(self, tmp_path):
        for ours, theirs in [("maximin_legacy", "maximin"), ("constant_global", "constant")]:
            write_suite2p(dataset().assign_attrs(baseline=ours), tmp_path / ours)
            assert load_npy(tmp_path / ours / "ops.npy").item()["baseline"] == theirs

    def test_existing_files(self, folder):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        lazy = dataset(chunks=(N, 10))
        with pytest.raises(FileExistsError, match="overwrite=True"):
            write_suite2p(lazy, folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        (folder / "data.bin").write_bytes(b"movie")
        with pytest.raises(FileExistsError, match=r"F\.npy exists and is suite2p's own"):
            write_suite2p(lazy, folder, overwrite=True)
        for name in before:
            assert (folder / name).read_bytes() == before[name]
            (folder / name).unlink()
        write_suite2p(dataset().assign(F_chan2=dataset().F), folder)
        write_suite2p(lazy, folder, overwrite=True)
        names = ["F", "Fneu", "iscell", "ops", "spks", "stat"]
        assert sorted(os.listdir(folder)) == [*(f"{n}.npy" for n in names[:2]), "data.bin",
                                              *(f"{n}.npy" for n in names[2:])]  # fmt: skip
        np.testing.assert_array_equal(read_suite2p(folder).F, lazy.F)

    @pytest.mark.parametrize("when", ["write", "fsync"])
    @pytest.mark.parametrize("number", [1, 3])
    def test_an_error_on_the_way_leaves_nothing_new(self, tmp_path, monkeypatch, when, number):
        folder = tmp_path / "old"
        write_suite2p(dataset(), folder)
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        calls = []

        def failing(plain):
            def call(*args, **kwargs):
                calls.append(1)
                if len(calls) == number:
                    raise OSError("disk full")
                return plain(*args, **kwargs)

            return call

        if when == "write":
            plain = np.lib.format.write_array
            monkeypatch.setattr(write_module.np.lib.format, "write_array", failing(plain))
        else:
            monkeypatch.setattr(write_module.os, "fsync", failing(os.fsync))
        for target, overwrite in ((folder, True), (tmp_path / "new", False)):
            calls.clear()
            with pytest.raises(OSError, match="disk full"):
                write_suite2p(dataset(), target, overwrite=overwrite)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert not (tmp_path / "new").exists()

    def test_what_is_missing_is_named(self, tmp_path):
        ds = dataset(chunks=(N, 10))

        def refuse(*args, **kwargs):
            raise AssertionError("computed before the check")

        bare = xr.Dataset({"F": (("roi", "time"), ds.F.data)}, attrs=ds.attrs)
        wrong = [
            (ds.F, "ds is a DataArray"),
            (ds.drop_vars("F"), "no F"),
            (bare, "no ROI set"),
            (ds.drop_attrs(), "no ROI set"),
            (ds.drop_vars("lam"), "no ROI set.*lam"),
            (ds.rename(time="frame"), "dims"),
            (ds.expand_dims(channel=2), "channel=0"),
            (ds.assign_attrs(fs=None), r"ds.attrs\['fs'\] = 30.0"),
            (ds.assign_attrs(fs=None, ops='{"tau": 1.0}'), r"ds.attrs\['fs'\] = 30.0"),
            (ds.assign_attrs(ops="{oops"), r"attrs\['ops'\] is not the JSON"),
            (ds.assign_attrs(ops="[]"), r"attrs\['ops'\] is not the JSON"),
        ]
        with dask.config.set(scheduler=refuse):
            for broken, message in wrong:
                with pytest.raises(ValueError, match=message):
                    write_suite2p(broken, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_no_rois(self, tmp_path):
        write_suite2p(dataset().isel(roi=slice(0, 0)), tmp_path / "out")
        assert np.load(tmp_path / "out" / "F.npy").shape == (0, T)
        assert read_suite2p(tmp_path / "out").sizes["roi"] == 0


def test_import_is_light():
    code = (
        "import sys, xarray\n"
        "there = set(sys.modules)\n"
        "import xs2p.io\n"
        "heavy = {'dask', 'zarr', 'tifffile', 'scipy', 'numba', 'distributed'}\n"
        "assert not heavy & set(sys.modules) - there"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=DATA.parents[1])


def test_roiextractors_reads_what_is_written_equal(tmp_path):
    """Another program's reader of suite2p folders: traces, masks, the frame rate, cells."""
    extractors = pytest.importorskip("roiextractors")
    prob = np.linspace(0, 1, N, dtype="f4")
    ds = dataset(chunks=(2, 17)).assign_coords(
        iscell=("roi", np.arange(N) % 2 > 0), iscell_prob=("roi", prob)
    )
    ds["meanImg"] = ("y", "x"), np.arange(LY * LX, dtype="f4").reshape(LY, LX)
    write_suite2p(ds, tmp_path / "suite2p" / "plane0")
    found = extractors.Suite2pSegmentationExtractor(tmp_path / "suite2p")
    assert found.get_frame_shape() == (LY, LX) and found.get_sampling_frequency() == 15.0
    for name, key in {"raw": "F", "neuropil": "Fneu", "deconvolved": "spks"}.items():
        np.testing.assert_array_equal(np.asarray(found.get_traces(name=name)), ds[key].values.T)
    masks = found.get_roi_image_masks()
    for i, entry in enumerate(stat_of()):
        image = np.zeros((LY, LX), "f4")
        image[entry["ypix"], entry["xpix"]] = entry["lam"]
        np.testing.assert_array_equal(masks[..., i], image)
    if "iscell" in found.get_property_keys():  # of the newer releases
        np.testing.assert_array_equal(found.get_property("iscell", found.get_roi_ids()), ds.iscell)
    np.testing.assert_array_equal(found.get_images_dict()["mean"], ds.meanImg)
