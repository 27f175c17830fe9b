"""What a user types and reads: names, flags, completion, warnings."""

from __future__ import annotations

import datetime
import inspect
import os
import pydoc
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest
import xarray as xr
from loaders import square

import xs2p
from xs2p.testing import raise_if_dask_computes

F = xr.DataArray(np.random.default_rng(0).normal(size=(3, 90)), dims=("roi", "time"))
START = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)


@pytest.fixture(scope="module")
def ds():
    return xs2p.sample_movie()[:60].s2p.extract(xs2p.sample_rois(), tau=1.0)


# Names


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m, r: m.s2p.extract(r, neucoeff=0.7), "here it is called neuropil_coefficient"),
        (lambda m, r: xs2p.extract(m, r, framerate=7.0), "here it is called fs"),
        (lambda m, r: xs2p.extract(m, r, decay_time=1.0), "here it is called tau"),
        (lambda m, r: xs2p.extract(m, r, batch_size=500), "not needed here: chunks of the movie"),
        (lambda m, r: xs2p.extract(m, r, win_baselin=3), "did you mean win_baseline"),
        (lambda m, r: xs2p.extract(m, r, what=3), "it takes movie, rois, fs, tau"),
        (lambda m, r: xs2p.extract_to_zarr(m, r, "x.zarr", neucoeff=1), "neuropil_coefficient"),
        (lambda m, r: m.s2p.extract_to_zarr(r, "x.zarr", chan2=1), "is called movie_chan2"),
        (lambda m, r: xs2p.build_masks(r, min_neuropil_pix=3), "called min_neuropil_pixels"),
        (lambda m, r: r.s2p.build_masks(overlap=True), "here it is called allow_overlap"),
        (lambda m, r: F.s2p.baseline(window=3), "here it is called win_baseline"),
        (lambda m, r: F.s2p.preprocess(percentile=3), "here it is called prctile_baseline"),
        (lambda m, r: F.s2p.deconvolve(frame_rate=3), "here it is called fs"),
    ],
)
def test_other_names_are_told(call, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with raise_if_dask_computes(), pytest.raises(TypeError, match=message):
        call(xs2p.sample_movie(), xs2p.sample_rois())
    assert not list(tmp_path.iterdir())


def test_method_and_baseline_are_the_same():
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    ds = movie.s2p.extract(rois, method="prctile")
    assert ds.attrs["baseline"] == "prctile"
    xr.testing.assert_identical(
        F.s2p.baseline(baseline="prctile"), F.s2p.baseline(method="prctile")
    )
    xr.testing.assert_identical(F.s2p.preprocess(baseline="prctile"), F.s2p.preprocess("prctile"))
    for call in (
        lambda: F.s2p.baseline("prctile", baseline="constant"),
        lambda: F.s2p.preprocess("prctile", baseline="constant"),
        lambda: movie.s2p.extract(rois, baseline="prctile", method="constant"),
        lambda: xs2p.extract_to_zarr(movie, rois, "x.zarr", baseline="prctile", method="none"),
    ):
        with pytest.raises(TypeError, match="are the same thing; give one"):
            call()


def test_tau_and_fs_go_by_their_names():
    with pytest.raises(TypeError, match="positional"):
        xs2p.deconvolve(F, 7.0, 1.0)
    with pytest.raises(TypeError, match="positional"):
        F.s2p.deconvolve(7.0, 1.0)


@pytest.mark.parametrize(
    "function",
    [xs2p.extract, xs2p.extract_to_zarr, xs2p.baseline, xs2p.build_masks, xs2p.deconvolve],
)
def test_signatures_show_each_argument_and_no_others(function):
    kinds = {p.kind for p in inspect.signature(function).parameters.values()}
    assert inspect.Parameter.VAR_KEYWORD not in kinds
    assert "**" not in pydoc.render_doc(function).split("\n\n")[1].splitlines()[0]


def test_whatever_has_a_device_has_kernels():
    with_device = set()
    for name in xs2p.__all__:
        function = getattr(xs2p, name)
        if inspect.isfunction(function):
            shown = inspect.signature(function).parameters
            assert ("device" in shown) == ("kernels" in shown), name
            with_device |= {name} if "device" in shown else set()
    assert {"neuropil_coefficient", "estimate_tau", "quality", "demix"} <= with_device
    for work in (
        lambda **o: xs2p.neuropil_coefficient(F, F, "mutualinfo", **o),
        lambda **o: xs2p.estimate_tau(F, fs=10.0, **o),
        lambda **o: xs2p.quality(F.to_dataset(name="F"), fs=10.0, **o),
    ):
        with pytest.raises(ValueError, match="kernels must be"):
            work(kernels="mine")
        with pytest.raises(ValueError, match="kernels='own' plays no part on the CPU"):
            work(kernels="own")


def test_the_accessor_has_every_option_of_extract_to_zarr():
    shown = inspect.signature(xs2p.sample_movie().s2p.extract_to_zarr).parameters
    assert {"path", "resume", "tau", "neuropil_coefficient", "device"} <= set(shown)
    assert set(inspect.signature(xs2p.extract).parameters) - {"movie"} <= set(shown)


# Flags


@pytest.mark.parametrize("value", ["no", 1, None, "False"], ids=repr)
def test_flags_are_true_or_false_everywhere(ds, tmp_path, value, monkeypatch):
    rois = xs2p.sample_rois()
    calls = {
        "allow_overlap": lambda o: xs2p.build_masks(rois, **o),
        "neuropil_extract": lambda o: xs2p.build_masks(rois, **o),
        "circular_neuropil": lambda o: xs2p.build_masks(rois, **o),
        "cells_only": lambda o: xs2p.read_rois(rois, **o),
        "overwrite": lambda o: xs2p.write_rois(rois, tmp_path / "a.zip", **o),
        "overwrite ": lambda o: xs2p.write_suite2p(ds, tmp_path / "plane0", **o),
        "overwrite  ": lambda o: xs2p.write_nwb(
            ds, tmp_path / "a.nwb", session_start_time=START, **o
        ),
        "image_masks": lambda o: xs2p.write_nwb(
            ds, tmp_path / "a.nwb", session_start_time=START, **o
        ),
        "progress": lambda o: ds.s2p.compute(**o),
        "filled": lambda o: rois.s2p.plot(**o),
        "legend": lambda o: rois.s2p.plot_roi(0, **o),
        "corrected": lambda o: ds.s2p.plot_traces(**o),
        "same_scale": lambda o: ds.s2p.plot_traces(**o),
    }
    for name, call in calls.items():
        if name == "filled" and value is None:  # where ROIs overlap much
            continue
        with raise_if_dask_computes(), pytest.raises(ValueError, match="must be True or False"):
            call({name.strip(): value})
    assert not list(tmp_path.iterdir())


# Completion and help


def test_dir_is_what_is_public():
    modules = {"io", "masks", "plot", "rois", "suite2p", "testing"}
    assert set(dir(xs2p)) == {*xs2p.__all__, *modules}
    for name in dir(xs2p):
        assert getattr(xs2p, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'quite_new'; it has Masks"):
        xs2p.quite_new  # noqa: B018


def test_what_is_public_comes_when_it_is_asked_for():
    from xs2p import _public, accessor

    brought = {name for name in vars(_public) if not name.startswith("_")}
    assert {*brought, "__version__"} == set(xs2p.__all__)
    code = (
        "import sys, xs2p, xarray as xr\n"
        "ours = {name for name in sys.modules if name.startswith('xs2p')}\n"
        "few = {'xs2p', *(f'xs2p._{name}' for name in ('given', 'lazy', 'register', 'version'))}\n"
        "assert ours == few, ours\n"
        "array = xr.DataArray([[1.0, 2.0]], dims=('roi', 'time'))\n"
        "assert array.s2p is array.s2p and array.s2p.dff.__name__ == 'dff'\n"
        "from xs2p import *\n"
        "assert build_masks is xs2p.build_masks and 'build_masks' in vars(xs2p)\n"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    for kind, its in (("DataArray", "S2pDataArray"), ("Dataset", "S2pDataset")):
        shown, whole = getattr(xr, kind).s2p, getattr(accessor, its)
        assert "dff" in dir(shown) and shown.dff is whole.dff


def test_suite2p_is_there_without_an_import_of_its_own():
    code = (
        "import sys, xs2p; assert 'xs2p.suite2p' not in sys.modules;"
        "print(xs2p.suite2p.oasis.__name__, xs2p.extract.__name__, xs2p.baseline.__name__)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "oasis extract baseline\n", done.stderr


def test_repr_lists_the_methods_that_fit(ds):
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    told = {name: repr(thing.s2p) for name, thing in
            {"movie": movie, "F": ds.F, "rois": rois, "ds": ds}.items()}  # fmt: skip
    assert "extract_to_zarr()" in told["movie"] and "baseline()" not in told["movie"]
    assert "deconvolve()" in told["F"] and "extract()" not in told["F"]
    assert "to_stat()" in told["rois"] and "plot_traces()" not in told["rois"]
    assert "plot_traces()" in told["ds"]
    for thing, text in zip((movie, ds.F, rois, ds), told.values(), strict=True):
        first, *lines = text.splitlines()
        assert type(thing).__name__ in first and "(" in first
        assert all(line.split("()")[0].strip() in dir(thing.s2p) for line in lines)
        assert all(line.endswith(".") for line in lines)
        assert not [name for name in dir(thing.s2p) if name.startswith("_")]


# Warnings


USER = """
import warnings
import numpy as np
import xarray as xr
import xs2p

def helper(rois):
    return rois.s2p.build_masks()  # line 8

def plain(rois):
    return xs2p.build_masks(rois)  # line 11

def whole(rois):
    movie = xs2p.sample_movie()
    return movie.s2p.extract(rois)  # line 15

def opened(ds):
    return ds.s2p  # line 18

def slow(F):
    return F.s2p.deconvolve(tau=700.0, fs=1.0)  # line 21
"""


def test_warnings_point_at_the_line_of_the_user(tmp_path):
    """Also where the call goes through xarray, and where the file's name begins as ours does."""
    import importlib.util

    for folder in ("project", "xs2p-analysis"):
        path = tmp_path / folder / "script.py"
        path.parent.mkdir()
        path.write_text(USER)
        spec = importlib.util.spec_from_file_location("script", path)
        script = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(script)
        # Wholly shared, so that there is something to warn of.
        rois = xs2p.rois_from_stat([square(2, 3), square(2, 3)], (64, 64))
        unfinished = xr.Dataset(attrs={"xs2p_unfinished": "half of it"})
        for call, argument, line in (
            (script.helper, rois, 8),
            (script.plain, rois, 11),
            (script.whole, rois, 15),
            (script.opened, unfinished, 18),
            (script.slow, F, 21),
        ):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                call(argument)
            where = [(w.filename, w.lineno) for w in caught if w.category is UserWarning]
            assert where and set(where) == {(str(path), line)}, call.__name__


def test_a_package_beside_ours_is_the_user_s(tmp_path):
    """``xs2p_lab/`` lies beside ``xs2p/``, and its name begins as ours does."""
    from xs2p import _warnings

    code = compile(textwrap.dedent("def f():\n    warn('careful')\n"), "x", "exec")
    space = {"warn": _warnings.warn, "__name__": "xs2p_lab"}
    beside = os.path.dirname(_warnings.__file__) + "_lab/module.py"
    exec(code.replace(co_filename=beside), space)
    function = space["f"]
    function.__code__ = function.__code__.replace(co_filename=beside)
    with pytest.warns(UserWarning, match="careful") as caught:
        function()
    assert caught[0].filename == beside and caught[0].lineno == 2
