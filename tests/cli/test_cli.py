"""The command line: what it writes, what it says, and what it leaves behind when it fails."""

import functools
import inspect
import os
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse as sparse
import xarray as xr
from typer.testing import CliRunner

import xs2p
from xs2p import cli
from xs2p.cli import demo
from xs2p.cli.report import reporting
from xs2p.pipeline import regions as _regions
from xs2p.traces.baseline_methods import METHODS

FRAMES, LY, LX, FS = 120, 64, 64, 7.0


class Shell:
    """Runs ``xs2p …`` in a folder of its own, in this process."""

    def __init__(self, capsys):
        self._capsys = capsys

    def __call__(self, *args):
        with pytest.raises(SystemExit) as stopped:
            cli.main([str(a) for a in args])
        out, err = self._capsys.readouterr()
        return stopped.value.code, out, err


@pytest.fixture
def xs2p_shell(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    return Shell(capsys)


@pytest.fixture
def recording(tmp_path):
    """A movie as .bin and .npy, and ROIs as stat.npy and label images, in the current folder."""
    movie = xs2p.sample_movie(None).values[:FRAMES]
    rois = xs2p.recompute_overlap(xs2p.sample_rois().isel(roi=range(12)))
    movie.astype("<i2").tofile(tmp_path / "data.bin")
    np.save(tmp_path / "movie.npy", movie)
    stat = np.empty(12, dtype=object)
    stat[:] = rois.s2p.to_stat()
    np.save(tmp_path / "stat.npy", stat, allow_pickle=True)
    np.save(tmp_path / "labels.npy", rois.s2p.to_labels().values)
    return xr.DataArray(movie, dims=("time", "y", "x")), rois


def everything_in(folder):
    """Every file with its bytes, to show that nothing was touched."""
    return {p: p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def one_line(err):
    assert err.startswith("xs2p: "), err
    assert err.count("\n") == 1 and err.endswith("\n"), err
    assert "Traceback" not in err
    return err


def test_demo_makes_both_files(xs2p_shell, tmp_path):
    code, out, err = xs2p_shell("demo")
    assert code == 0
    assert sorted(os.listdir(tmp_path)) == ["xs2p-demo.png", "xs2p-demo.zarr"]
    with xr.open_zarr("xs2p-demo.zarr") as ds:
        assert sorted(ds.data_vars) == ["F", "F0", "Fc", "Fneu", "spks"]
        assert dict(ds.F.sizes) == {"roi": 98, "time": 500}
        expected = xs2p.sample_movie(None).s2p.extract(xs2p.sample_rois(), tau=1.0)
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name], expected[name])
    assert Path("xs2p-demo.png").read_bytes().startswith(b"\x89PNG")
    assert "98 ROIs, 500 frames, 0 without a trace" in out
    assert "xs2p-demo.png" in out
    assert err == ""  # no bar where there is no terminal


def test_demo_replaces_its_own_files_and_its_python_lines_run(xs2p_shell, tmp_path):
    assert xs2p_shell("demo", "-q") == xs2p_shell("demo", "-q")
    assert sorted(os.listdir(tmp_path)) == ["xs2p-demo.png", "xs2p-demo.zarr"]
    _, out, err = xs2p_shell("demo", "--quiet")
    assert err == ""
    lines = out.split("Try next, in Python:\n\n")[1]
    assert lines.count("\n") == 3
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", lines], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("roi\n")


def test_demo_leaves_what_is_not_its_own(xs2p_shell):
    Path("xs2p-demo.zarr").mkdir()
    Path("xs2p-demo.zarr/thesis.txt").write_text("all of it")
    code, out, err = xs2p_shell("demo")
    assert code == 2 and out == ""
    assert (
        "xs2p-demo.zarr exists and is no Zarr store, but a folder that holds thesis.txt"
        in one_line(err)
    )
    assert Path("xs2p-demo.zarr/thesis.txt").read_text() == "all of it"


def test_extract_from_suite2p_files(xs2p_shell, recording):
    movie, rois = recording
    code, out, err = xs2p_shell(
        "extract", "data.bin", "stat.npy", "out.zarr", "--shape", "64x64", "--fs", FS, "--tau", 1
    )
    assert code == 0, err
    assert out.count("\n") == 1
    assert out.startswith("wrote out.zarr: 12 ROIs, 120 frames, 0 without a trace")
    assert err == ""  # no bar where there is no terminal
    expected = movie.s2p.extract(rois, fs=FS, tau=1.0)
    with xr.open_zarr("out.zarr") as ds:
        assert sorted(ds.data_vars) == sorted(expected.data_vars)
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name], expected[name])
        assert ds.attrs["fs"] == FS and ds.attrs["tau"] == 1.0


def test_fs_and_tau_of_the_ops_beside_the_movie(xs2p_shell, recording):
    movie, rois = recording
    np.save("ops.npy", {"Ly": LY, "Lx": LX, "fs": FS, "tau": 1.5})
    code, out, err = xs2p_shell("extract", "data.bin", "stat.npy", "out.zarr")
    assert code == 0 and "tau is 1.5 s, as suite2p says of data.bin" in one_line(err)
    assert out.rstrip().endswith("F, F0, Fc, Fneu, spks")
    with xr.open_zarr("out.zarr") as ds:
        assert ds.attrs["fs"] == FS and ds.spks.attrs["tau"] == 1.5
        np.testing.assert_array_equal(ds.spks, movie.s2p.extract(rois, fs=FS, tau=1.5).spks)
    code, out, err = xs2p_shell("extract", "movie.npy", "stat.npy", "b.zarr", "--fs", FS)
    assert code == 0 and err == "" and out.count("\n") == 1
    assert "no spikes were made, for tau is not known: --tau 1.0" in out


@pytest.mark.parametrize("path", ["RoiSet.zip", "rois.nc", "a_seg.npy", "results.hdf5", "plane0"])
def test_extract_with_what_other_programs_leave(xs2p_shell, recording, path):
    movie, rois = recording
    frame = (LY, LX)
    if path == "a_seg.npy":
        np.save(path, {"masks": np.load("labels.npy"), "filename": "movie.tif"})
    elif path == "results.hdf5":
        flat = rois.xpix.values * LY + rois.ypix.values
        A = sparse.csc_matrix((rois.lam.values, (flat, rois.pixel_roi.values)), (LY * LX, 12))
        with h5py.File(path, "w") as file:
            for key in ("data", "indices", "indptr", "shape"):
                file[f"estimates/A/{key}"] = getattr(A, key)
            file["dims"] = frame
    elif path == "plane0":
        os.mkdir(path)
        os.rename("stat.npy", "plane0/stat.npy")
        np.save("plane0/iscell.npy", np.stack([np.arange(12) % 2, np.ones(12)], 1))
    else:
        xs2p.write_rois(rois, path)
    code, out, err = xs2p_shell("extract", "movie.npy", path, "out.zarr", "--fs", FS, "-q")
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        expected = movie.s2p.extract(xs2p.read_rois(path, shape=frame), fs=FS)
        assert set(ds.coords) == {*expected.coords, "time"}
        np.testing.assert_array_equal(ds.F, expected.F)


def test_rois_of_another_session(xs2p_shell, recording):
    movie, rois = recording
    np.save("iscell.npy", np.stack([np.arange(12) % 2, np.ones(12)], 1))
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q", "--cells-only"]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, _, err = xs2p_shell(*args, "--roi-shift=-3,2.5", "--roi-scale", "1.1")
        assert code == 0
        moved = xs2p.read_rois(
            "stat.npy", shape=(LY, LX), shift=(-3, 2.5), scale=1.1, cells_only=True
        )
        expected = movie.s2p.extract(moved, fs=FS)
    with xr.open_zarr("out.zarr") as ds:
        assert ds.roi.values.tolist() == [1, 3, 5, 7, 9, 11]
        np.testing.assert_array_equal(ds.F, expected.F)


@pytest.mark.parametrize("suffix", ["npy", "tif", "zarr"])
def test_extract_with_other_kinds_of_rois(xs2p_shell, recording, suffix):
    movie, rois = recording
    path = f"labels.{suffix}"
    labelled = xs2p.rois_from_labels(np.load("labels.npy"))
    if suffix == "tif":
        import tifffile

        tifffile.imwrite(path, np.load("labels.npy").astype(np.uint16))
    elif suffix == "zarr":
        labelled = rois
        rois.to_zarr(path, consolidated=False)
    code, out, err = xs2p_shell("extract", "movie.npy", path, "out.zarr", "--fs", FS, "-q")
    assert (code, err) == (0, "")
    with xr.open_zarr("out.zarr") as ds:
        assert "spks" not in ds
        np.testing.assert_array_equal(ds.F, movie.s2p.extract(labelled, fs=FS).F)


def test_a_store_of_traces_serves_as_rois(xs2p_shell, recording):
    assert xs2p_shell("extract", "movie.npy", "stat.npy", "a.zarr", "--fs", FS, "-q")[0] == 0
    assert xs2p_shell("extract", "movie.npy", "a.zarr", "b.zarr", "--fs", FS, "-q")[0] == 0
    with xr.open_zarr("a.zarr") as a, xr.open_zarr("b.zarr") as b:
        del a.attrs["xs2p_history"], b.attrs["xs2p_history"]  # of other inputs, and at other times
        xr.testing.assert_identical(a.load(), b.load())


def test_second_channel(xs2p_shell, recording):
    np.save("red.npy", np.load("movie.npy")[::-1])
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q"]
    assert xs2p_shell(*args, "--movie-chan2", "red.npy")[0] == 0
    with xr.open_zarr("out.zarr") as ds:
        np.testing.assert_array_equal(ds.F_chan2, ds.F[:, ::-1])


def test_every_parameter_of_extract_is_an_option_with_its_default():
    options = inspect.signature(cli.extract.extract).parameters
    for name, parameter in inspect.signature(xs2p.extract).parameters.items():
        assert name in options
        if parameter.default is not inspect.Parameter.empty:
            default = options[name].default
            assert getattr(default, "value", default) == parameter.default, name
    assert [method.value for method in cli.options.Baseline] == list(METHODS)


def test_a_gpu_that_is_not_there_is_told(xs2p_shell, recording, monkeypatch):
    monkeypatch.setattr(xs2p.compute.device, "gpu_status", lambda: (False, "CuPy is not installed"))
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q", "--device"]
    code, out, err = xs2p_shell(*args, "gpu")
    assert (code, out) == (2, "") and not os.path.exists("out.zarr")
    assert "device='gpu' cannot be used: CuPy is not installed" in one_line(err)
    assert 'pip install "xs2p[gpu13]"' in err
    code, out, err = xs2p_shell(*args, "cpu", "--kernels", "own")
    assert (code, out) == (2, "") and not os.path.exists("out.zarr")
    assert "kernels='own' plays no part on the CPU" in one_line(err)
    assert xs2p_shell(*args, "auto", "--kernels", "own")[0] == 0
    with xr.open_zarr("out.zarr") as ds:
        assert '"device": "cpu"' in ds.attrs["xs2p_run"]
        assert '"kernels": null' in ds.attrs["xs2p_run"] and "kernels" not in ds.F.attrs
    assert [device.value for device in cli.options.Device] == list(xs2p.compute.device.DEVICES)
    assert [kind.value for kind in cli.options.Kernels] == list(xs2p.compute.device.KERNELS)


def test_info_says_what_a_bug_report_needs(xs2p_shell):
    code, out, err = xs2p_shell("info")
    assert (code, err) == (0, "")
    told = dict(line.split("  ", 1) for line in out.splitlines())
    assert told["xs2p"].strip() == xs2p.__version__ and np.__version__ in told["numpy"]
    for name in ("Python", "system", "CPUs", "memory", "numba threads", "GPU"):
        assert told[name].strip(), name
    assert xs2p.compute.device.gpu_status()[1] in told["GPU"]


def test_options_reach_extract(xs2p_shell, recording):
    movie, rois = recording
    given = {
        "neuropil_coefficient": 0.5,
        "inner_neuropil_radius": 3,
        "min_neuropil_pixels": 100,
        "lam_percentile": 30.0,
        "allow_overlap": True,
        "circular_neuropil": True,
        "baseline": "prctile",
        "prctile_baseline": 20.0,
        "sig_baseline": 5.0,
        "win_baseline": 10.0,
        "snr_threshold": 0.1,
        "neuropil": "centred",
        "dark_offset": 3.0,
        "detrend": "exponential",
        "polarity": -1,
        "dff": True,
    }
    args = []
    for name, value in given.items():
        option = "--" + name.replace("_", "-")
        args += [option] if value is True else [option, value]
    code, _, err = xs2p_shell(
        "extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q", *args
    )
    assert code == 0, err
    expected = movie.s2p.extract(rois, fs=FS, **given)
    with xr.open_zarr("out.zarr") as ds:
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name], expected[name])
        own = ("xs2p_run", "xs2p_history")
        assert {k: v for k, v in ds.attrs.items() if k not in own} == expected.attrs
    args = ["extract", "movie.npy", "stat.npy", "bare.zarr", "--fs", FS, "-q"]
    assert xs2p_shell(*args, "--no-neuropil-extract")[0] == 0
    with xr.open_zarr("bare.zarr") as ds:
        assert "Fneu" not in ds


def test_names_of_indicators_and_methods_and_periods(xs2p_shell, recording):
    movie, rois = recording
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q"]
    given = ["--tau", "gcamp6s", "--neuropil-coefficient", "mutualinfo", "--line-period", 0.001]
    assert xs2p_shell(*args, *given, "--plane-period", 0.02)[0] == 0
    movie = movie.assign_attrs(line_period=0.001)
    expected = movie.s2p.extract(rois, fs=FS, tau="GCaMP6s", neuropil_coefficient="mutualinfo")
    with xr.open_zarr("out.zarr") as ds:
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name], expected[name])
        assert ds.spks.attrs["indicator"] == "GCaMP6s"
        np.testing.assert_array_equal(ds.time_offset, expected.time_offset)
    for option, value, told in (
        ("--tau", "GCaMP9", "is no indicator that is known here; did you mean"),
        ("--neuropil-coefficient", "much", "or one of binned, mutualinfo; got 'much'"),
    ):
        code, _, err = xs2p_shell(*args[:3], "b.zarr", *args[4:], option, value)
        assert code == 2 and told in one_line(err)
    code, _, err = xs2p_shell(
        *args[:3], "b.zarr", "-q", "--neuropil-coefficient", "binned", "--baseline", "none"
    )
    assert code == 2 and "--fs" in err


def test_sparse_spikes_from_the_shell(xs2p_shell, recording):
    movie, rois = recording
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q", "--tau", 0.5]
    for given in ({"penalty": "noise"}, {"penalty": 4.5}, {"s_min": 12.0}):
        (name, value) = next(iter(given.items()))
        option = "--" + name.replace("_", "-")
        assert xs2p_shell(*args, option, value, "--denoised", "--overwrite")[0] == 0
        expected = movie.s2p.extract(rois, fs=FS, tau=0.5, denoised=True, **given)
        with xr.open_zarr("out.zarr") as ds:
            for variable in expected.data_vars:
                np.testing.assert_array_equal(ds[variable], expected[variable])
            assert ds.attrs[name] == value
    code, _, err = xs2p_shell(*args, "--penalty", "much", "--overwrite")
    assert code == 2 and "penalty must be 'noise', a number" in one_line(err)
    code, _, err = xs2p_shell(*args[:-2], "--denoised", "--overwrite")
    assert code == 2 and "denoised plays no part without spikes" in one_line(err)


def test_demixing_from_the_shell(xs2p_shell, recording):
    movie, rois = recording
    args = ["extract", "movie.npy", "stat.npy", "out.zarr", "--fs", FS, "-q", "--method", "demix"]
    assert xs2p_shell(*args, "--background", "3x2", "--nonnegative")[0] == 0
    how = {"method": "demix", "background": (3, 2), "nonnegative": True}
    expected = movie.s2p.extract(rois, fs=FS, **how)
    with xr.open_zarr("out.zarr") as ds:
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name], expected[name])
        own = ("xs2p_run", "xs2p_history")
        assert {k: v for k, v in ds.attrs.items() if k not in own} == expected.attrs
    assert xs2p_shell(*args, "--background", "none", "--overwrite")[0] == 0
    expected = movie.s2p.extract(rois, fs=FS, method="demix", background=None)
    with xr.open_zarr("out.zarr") as ds:
        np.testing.assert_array_equal(ds.F, expected.F)
        assert "Fneu" not in ds and ds.attrs["background"] == [0, 0]
    for text, told in (("3", "rows x columns, as in 5x5, nor none"), ("0x3", "from 1 on")):
        code, out, err = xs2p_shell(*args, "--background", text, "--overwrite")
        assert (code, out) == (2, "") and told in " ".join(err.split())
    code, out, err = xs2p_shell(*args, "--allow-overlap", "--overwrite")
    assert (code, out) == (2, "") and "allow_overlap=True plays no part" in one_line(err)


def test_what_libraries_say_to_programmers_is_not_shown(capsys):
    with reporting(debug=False):
        warnings.simplefilter("always")  # as some libraries do when they are imported
        warnings.warn("crc32c is deprecated", DeprecationWarning, stacklevel=1)
        warnings.warn("fs is 1000 Hz", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "xs2p: warning: fs is 1000 Hz\n"


def test_a_warning_is_one_line_and_rois_without_a_trace_are_counted(xs2p_shell, recording):
    rois = recording[1].s2p.to_stat()
    stat = np.empty(3, dtype=object)
    stat[:] = [rois[4], {**rois[5]}, {**rois[5]}]
    for entry in stat:
        del entry["overlap"]
    np.save("twins.npy", stat, allow_pickle=True)
    code, out, err = xs2p_shell("extract", "movie.npy", "twins.npy", "out.zarr", "--fs", FS, "-q")
    assert code == 0
    assert "3 ROIs, 120 frames, 2 without a trace (2 no_cell_pixels)" in out
    assert one_line(err).startswith("xs2p: warning: 2 ")


NPY = ("movie.npy", "stat.npy", "out.zarr")
BIN = ("data.bin", "stat.npy", "out.zarr")


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (("nope.npy", "stat.npy", "out.zarr", "--fs", 7), "nope.npy"),
        (("movie.npy", "nope.npy", "out.zarr", "--fs", 7), "nope.npy"),
        (("movie.npy", "movie.npy", "out.zarr", "--fs", 7), "movie.npy: labels"),
        (("movie.npy", "garbage.npy", "out.zarr", "--fs", 7), "garbage.npy"),
        (("movie.npy", "garbage.tif", "out.zarr", "--fs", 7), "garbage.tif"),
        (("movie.npy", "garbage.zarr", "out.zarr", "--fs", 7), "garbage.zarr"),
        (("movie.npy", "folder", "out.zarr", "--fs", 7), "stat.npy"),
        (("garbage.npy", "stat.npy", "out.zarr", "--fs", 7), "garbage.npy"),
        (("movie.npy", "stat.npy", "out", "--fs", 7), ".zarr"),
        (("movie.npy", "stat.npy", "nowhere/out.zarr", "--fs", 7), "nowhere"),
        (("movie.npy", "stat.npy", "folder.zarr", "--fs", 7, "--overwrite"), "no Zarr store"),
        (NPY, "--fs"),
        ((*NPY, "--tau", 1, "--baseline", "none"), "--fs"),
        ((*NPY, "--fs", 0), "fs"),
        ((*NPY, "--fs", "fast"), "--fs"),
        ((*NPY, "--fs", 7, "--tau", -1), "tau"),
        ((*NPY, "--fs", 7, "--baseline", "minimax"), "minimax"),
        ((*NPY, "--fs", 7, "--lam-percentile", 150), "lam_percentile"),
        ((*NPY, "--fs", 7, "--shape", "64x60"), "(64, 60)"),
        ((*NPY, "--fs", 7, "--movie-chan2", "nope.npy"), "nope.npy"),
        ((*NPY, "--fs", 7, "--variable-chan2", "red"), "--movie-chan2"),
        ((*NPY, "--fs", 7, "--frobnicate"), "--frobnicate"),
        ((*BIN, "--fs", 7), "--shape 512x512"),
        ((*BIN, "--fs", 7, "--shape", "64"), "--shape 64"),
        ((*BIN, "--fs", 7, "--shape", "0x64"), "--shape 0x64"),
        ((*NPY, "--fs", 7, "--roi-shift", "3"), "--roi-shift 3: expected rows,columns"),
        ((*NPY, "--fs", 7, "--roi-scale", "big"), "--roi-scale big: expected a number"),
        ((*NPY, "--fs", 7, "--roi-scale", "0"), "must be above 0"),
        ((*NPY, "--fs", 7, "--cells-only"), "--cells-only, but the source does not say"),
        (("movie.npy", "data.bin", "out.zarr", "--fs", 7), "expected one of suite2p a path to"),
        ((*BIN, "--fs", 7, "--shape", "64x63"), "8064"),
        ((*BIN, "--fs", 7, "--shape", "64x64", "--dtype", "fine"), "--dtype fine"),
        ((*BIN, "--fs", 7, "--shape", "64x64", "--dtype", "i2,("), "--dtype i2,("),
        ((*NPY, "--fs", 1e300), "win_baseline"),
        ((*NPY, "--fs", 7, "--win-baseline", 1e300), "win_baseline"),
        (("movie.npy", "stat.npy"), "OUT.zarr"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_line_and_exit_code_2(xs2p_shell, recording, args, named):
    for name in ("garbage.npy", "garbage.tif"):
        Path(name).write_text("not what it says")
    for name in ("folder", "folder.zarr", "garbage.zarr"):
        Path(name).mkdir()
    before = everything_in(".")
    code, out, err = xs2p_shell("extract", *args)
    assert code == 2
    assert out == ""
    assert named in one_line(err)
    assert everything_in(".") == before
    assert not any(name.startswith(".") for name in os.listdir("."))


def test_debug_shows_the_traceback(recording, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nope"):
        cli.main(["extract", "nope.npy", "stat.npy", "out.zarr", "--debug"])


def test_an_existing_store_is_kept_unless_told(xs2p_shell, recording):
    args = ("extract", *NPY, "--fs", FS, "-q")
    assert xs2p_shell(*args)[0] == 0
    before = everything_in("out.zarr")
    code, _, err = xs2p_shell(*args, "--tau", 1)
    assert code == 2
    assert "out.zarr exists" in one_line(err) and "--overwrite" in err
    code, _, err = xs2p_shell(*args, "--overwrite", "--tau", -1)
    assert code == 2
    code, _, err = xs2p_shell("extract", "out.zarr", *NPY[1:], "--overwrite")
    assert code == 2
    assert "out.zarr is the input out.zarr, which is being read" in one_line(err)
    assert everything_in("out.zarr") == before
    assert xs2p_shell(*args, "--tau", 1, "--overwrite")[0] == 0
    with xr.open_zarr("out.zarr") as ds:
        assert "spks" in ds
    assert not any(name.startswith(".") for name in os.listdir("."))


@pytest.mark.parametrize("existing", [False, True])
@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (OSError(28, "No space left on device"), 2, "No space left on device: "),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
    ids=["full disk", "interrupt"],
)
def test_half_a_store_never_has_the_final_name(
    xs2p_shell, recording, monkeypatch, existing, failure, code, message
):
    args = ("extract", *NPY, "--fs", FS, "-q", "--overwrite")
    if existing:
        assert xs2p_shell(*args)[0] == 0
    before = everything_in(".")
    whole = _regions._write_block

    @functools.wraps(whole)  # Dask looks at the signature
    def half(block, *args, **kwargs):
        whole(block, *args, **kwargs)
        raise failure

    monkeypatch.setattr(_regions, "_write_block", half)
    got, out, err = xs2p_shell(*args, "--tau", 1)
    assert (got, out) == (code, "")
    assert message in one_line(err)
    assert everything_in(".") == before
    assert os.path.exists("out.zarr") == existing
    assert not any(name.startswith(".") for name in os.listdir("."))


def test_a_failing_rename_puts_the_old_store_back(xs2p_shell, recording, monkeypatch):
    args = ("extract", *NPY, "--fs", FS, "-q", "--overwrite")
    assert xs2p_shell(*args)[0] == 0
    before = everything_in("out.zarr")
    rename = os.rename

    def refuse_the_new(source, target):
        if str(source).endswith("out.partial.zarr"):
            raise PermissionError(13, "Permission denied", str(source))
        rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(os, "rename", refuse_the_new)
        code, _, err = xs2p_shell(*args, "--tau", 1)
    assert code == 2
    assert "Permission denied" in one_line(err) and "out.partial.zarr" in err
    assert everything_in("out.zarr") == before
    code, _, err = xs2p_shell(*args[:-1], "--tau", 1, "--resume")
    assert code == 2 and "--resume --overwrite goes on with it" in one_line(err)
    assert xs2p_shell(*args, "--tau", 1, "--resume")[0] == 0
    code, _, err = xs2p_shell(*args[:-1], "--tau", 2, "--resume")
    assert code == 2 and "tau=1.0, and 2.0 is given now" in one_line(err)
    assert "start anew with --overwrite and without --resume" in err
    with xr.open_zarr("out.zarr") as ds:
        assert "spks" in ds


def test_demo_keeps_its_old_figure_when_the_new_one_fails(xs2p_shell, monkeypatch):
    old = b"\x89PNG of an earlier xs2p demo"
    Path("xs2p-demo.png").write_bytes(old)

    def fail(*args, path, **kwargs):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(demo, "plot_demo", fail)
    code, _, err = xs2p_shell("demo", "-q")
    assert code == 2
    one_line(err)
    assert Path("xs2p-demo.png").read_bytes() == old
    assert sorted(os.listdir(".")) == ["xs2p-demo.png", "xs2p-demo.zarr"]


def test_help_and_version():
    runner = CliRunner()
    for args in ([], ["--help"], ["-h"]):
        result = runner.invoke(cli.app, args)
        assert result.exit_code == 0
        assert "extract" in result.output and "demo" in result.output
    result = runner.invoke(cli.app, ["extract", "--help"], terminal_width=80)
    assert result.exit_code == 0
    for text in ("MOVIE", "ROIS", "OUT.zarr", "Example", "--neuropil-coefficient", "Baseline"):
        assert text in result.output
    result = runner.invoke(cli.app, ["--version"])
    assert (result.exit_code, result.output) == (0, f"xs2p {xs2p.__version__}\n")


def test_as_a_process(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(Path(xs2p.__file__).parents[1])}
    command = [sys.executable, "-W", "error", "-m", "xs2p.cli"]

    def run(*args):
        return subprocess.run(
            [*command, *args], cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    done = run("extract", "nope.bin", "stat.npy", "out.zarr")
    assert (done.returncode, done.stdout) == (2, "")
    assert "nope.bin" in one_line(done.stderr)
    done = run("frobnicate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "frobnicate" in one_line(done.stderr)
    done = run("demo")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir(tmp_path)) == ["xs2p-demo.png", "xs2p-demo.zarr"]


def test_help_imports_nothing_heavy():
    code = (
        "import sys, xarray\n"
        "there = set(sys.modules)\n"
        "from xs2p.cli import main\n"
        "try:\n    main(['extract', '--help'])\nexcept SystemExit:\n    pass\n"
        "heavy = {'dask', 'numba', 'scipy', 'zarr', 'matplotlib', 'tifffile'}\n"
        "assert not heavy & set(sys.modules) - there\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(xs2p.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()


def test_a_damaged_chunk_is_one_line(xs2p_shell, recording):
    movie = xs2p.sample_movie(chunks=None)
    movie.to_dataset(name="movie").to_zarr("movie.zarr", consolidated=False)
    chunks = [path for path in Path("movie.zarr/movie/c").rglob("*") if path.is_file()]
    for path in chunks:
        path.write_bytes(path.read_bytes()[:20] + bytes(40))
    code, out, err = xs2p_shell("extract", "movie.zarr", "stat.npy", "out.zarr", "-q")
    assert (code, out) == (2, "")
    assert "movie.zarr/movie: the chunk with frames 0 to 499 cannot be read" in one_line(err)
    assert not os.path.exists("out.zarr")


def test_an_error_that_nobody_foresaw_is_one_line_too(xs2p_shell, recording, monkeypatch):
    def broken(*args, **kwargs):
        raise KeyError("surprise")

    monkeypatch.setattr(xs2p, "open_movie", broken)
    code, out, err = xs2p_shell("extract", *NPY, "--fs", FS)
    assert (code, out) == (2, "")
    assert "KeyError: 'surprise' (not foreseen; --debug shows where)" in one_line(err)
