"""What `patched` replaces and puts back, on modules laid out as suite2p's are.

That suite2p itself then comes to the same results is in test_whole_run.py, which needs it.
"""

from __future__ import annotations

import importlib.metadata
import logging
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import xs2p
from xs2p.suite2p import patched

STAT = Path(__file__).parents[1] / "data" / "suite2p-folder-2p" / "stat.npy"
NAMES = ("extraction_wrapper", "preprocess", "oasis")


def module(monkeypatch, name, **names):
    made = types.ModuleType(name)
    vars(made).update(names)
    monkeypatch.setitem(sys.modules, name, made)
    return made


@pytest.fixture
def theirs(monkeypatch):
    """Modules with functions that raise, and suite2p's version."""

    def untouched(*arguments, **options):
        raise AssertionError("suite2p's own was called")

    own = {name: types.FunctionType(untouched.__code__, {}, name) for name in NAMES}
    wrapper, of_traces = {NAMES[0]: own[NAMES[0]]}, {name: own[name] for name in NAMES[1:]}
    made = types.SimpleNamespace(own=own, monkeypatch=monkeypatch)
    made.extract = module(monkeypatch, "suite2p.extraction.extract", **wrapper)
    made.dcnv = module(monkeypatch, "suite2p.extraction.dcnv", **of_traces)
    made.extraction = module(monkeypatch, "suite2p.extraction", **own)
    made.top = module(monkeypatch, "suite2p", extraction=made.extraction, **wrapper)
    made.drawroi = module(monkeypatch, "suite2p.gui.drawroi", make_traces=own[NAMES[0]])
    made.other = module(monkeypatch, "suite2pish", oasis=own["oasis"])
    whole = importlib.metadata.version
    told = {"suite2p": "1.1.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: told.get(name) or whole(name))
    return made


def bound(theirs):
    """Names that are suite2p's own now, of all its modules."""
    modules = [m for name, m in sys.modules.items() if name.partition(".")[0] == "suite2p"]
    mine = {id(function) for function in theirs.own.values()}
    return sum(id(value) in mine for m in modules for value in vars(m).values())


def test_replaced_wherever_bound_and_put_back(theirs):
    before = bound(theirs)
    assert before == 8
    with patched():
        assert bound(theirs) == 0
        assert theirs.top.extraction_wrapper is theirs.drawroi.make_traces
        assert theirs.other.oasis is theirs.own["oasis"]
        # As suite2p's GUI does it when it is opened now.
        merge = module(theirs.monkeypatch, "suite2p.gui.merge", oasis=theirs.dcnv.oasis)
        assert merge.oasis is not theirs.own["oasis"]
    assert bound(theirs) == before + 1 and merge.oasis is theirs.own["oasis"]


def test_put_back_after_an_error_and_one_in_another(theirs):
    before = bound(theirs)
    with pytest.raises(KeyError), patched():
        with patched(keep_masks=True):
            inner = theirs.dcnv.oasis
        assert bound(theirs) == 0 and theirs.dcnv.oasis is not inner
        raise KeyError
    assert bound(theirs) == before


def test_other_versions_are_refused_before_anything_is_replaced(theirs, monkeypatch):
    before = bound(theirs)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.14.4")
    with (
        pytest.raises(RuntimeError, match=r"suite2p 0\.14\.4 .* tried with 1\.1\.0 only"),
        patched(),
    ):
        pass
    assert bound(theirs) == before
    with (
        pytest.raises(ValueError, match="keep_masks=1: must be True or False"),
        patched(keep_masks=1),
    ):
        pass


def test_without_suite2p(monkeypatch):
    def version(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(ImportError, match=r"not installed here.*pip install suite2p==1\.1\.0"):
        patched().__enter__()


def test_what_stands_there_is_the_drop_in_and_logs(theirs, caplog):
    stat = list(np.load(STAT, allow_pickle=True))[:7]
    for roi in stat:
        del roi["neuropil_mask"]
    Ly, Lx = (max(int(np.max(roi[k])) for roi in stat) + 30 for k in ("ypix", "xpix"))
    frames = np.random.default_rng(0).integers(0, 900, (60, Ly, Lx)).astype(np.int16)
    settings = {**xs2p.suite2p.DEFAULTS, "batch_size": 7}
    expected = xs2p.suite2p.extraction_wrapper(stat, frames, frames[::-1], settings=settings)
    _, masks = xs2p.suite2p.create_masks(stat, Ly, Lx)
    with caplog.at_level(logging.INFO, "suite2p"), patched():
        wrapper = theirs.top.extraction_wrapper
        for got in (
            wrapper(stat, frames, frames[::-1], settings=settings, device="mps"),
            wrapper(stat, frames, frames[::-1], None, masks, settings),
        ):
            for a, b in zip(got, expected, strict=True):
                np.testing.assert_array_equal(a, b)
        assert "neuropil_mask" not in stat[0]
        F = theirs.dcnv.preprocess(got[0], "maximin", 1.0, 2.0, 10.0, 8, device="mps")
        np.testing.assert_array_equal(
            theirs.dcnv.oasis(F, 500, 1.0, 10.0), xs2p.suite2p.oasis(F, 500, 1.0, 10.0)
        )
    said = [(r.name, r.getMessage()) for r in caplog.records]
    assert {name for name, _ in said} == {"suite2p.extraction.extract", "suite2p.extraction.dcnv"}
    assert any("21 of 60 frames" in text for _, text in said)
    assert any("traces of 7 ROIs over 60 frames" in text for _, text in said)
    with patched(keep_masks=True):
        got = theirs.extraction.extraction_wrapper(stat, frames, settings=settings)
    for roi, mask in zip(stat, masks, strict=True):
        np.testing.assert_array_equal(roi["neuropil_mask"], mask)
    np.testing.assert_array_equal(got[1], expected[1])


def test_the_command_says_what_is_missing():
    code = """
import importlib.metadata, sys
whole = importlib.metadata.version
def version(name):
    if name == "suite2p":
        raise importlib.metadata.PackageNotFoundError(name)
    return whole(name)
importlib.metadata.version = version
sys.argv = ["", "--version"]
import runpy
runpy.run_module("xs2p.suite2p", run_name="__main__")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert (
        done.stderr.startswith("suite2p is not installed here") and "Traceback" not in done.stderr
    )
