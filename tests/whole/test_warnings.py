"""A warning points at the line that the user wrote."""

from __future__ import annotations

import doctest
import functools
import os
import warnings

import dask
import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p._attrs import UNFINISHED
from xs2p.traces import deconvolve as module

PACKAGE = os.path.dirname(xs2p.__file__)
F = xr.DataArray(np.zeros((2, 5), "f4"), {"roi": [0, 1]}, ("roi", "time"), attrs={"fs": 1.0})
SLOW = {"tau": 700.0}  # warns that this may be milliseconds
UNDONE = xr.Dataset(attrs={UNFINISHED: "half of it"})
CALLS = {
    "plain": lambda: xs2p.deconvolve(F, **SLOW),
    "accessor": lambda: F.s2p.deconvolve(**SLOW),
    "lazy": lambda: F.chunk(time=2).s2p.deconvolve(**SLOW),
    "the accessor itself": lambda: UNDONE.copy().s2p,
    "a method of it": lambda: UNDONE.copy().s2p.compute(),
    "pipe": lambda: F.pipe(xs2p.deconvolve, **SLOW),
    "partial": lambda: functools.partial(xs2p.deconvolve, **SLOW)(F),
    "groups": lambda: F.groupby("roi").map(xs2p.deconvolve, **SLOW),
    "blocks": lambda: dask.delayed(xs2p.deconvolve)(F, **SLOW).compute(scheduler="sync"),
}


def where(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert {w.category for w in caught} == {UserWarning}
    return {(w.filename, w.lineno) for w in caught}


@pytest.mark.parametrize("case", CALLS)
def test_a_warning_points_at_the_users_line(case):
    call = CALLS[case]
    assert where(call) == {(__file__, call.__code__.co_firstlineno)}


def test_a_warning_points_into_a_module_of_the_user():
    """Also where its name begins as the package's, and it lies beside it."""
    path = f"{PACKAGE}_tools.py"
    names = {"__name__": "xs2p_tools", "xs2p": xs2p}
    code = "def spikes(F):\n    F = F + 1\n    return xs2p.deconvolve(F, tau=700.0, fs=1.0)\n"
    exec(compile(code, path, "exec"), names)
    assert where(lambda: names["spikes"](F)) == {(path, 3)}
    assert where(lambda: F.map_blocks(names["spikes"])) == {(path, 3)}


def test_a_warning_points_into_a_doctest():
    names = {**vars(module), "F": F}
    text = ">>> spikes = F.s2p.deconvolve(tau=700.0)\n"
    test = doctest.DocTestParser().get_doctest(text, names, "example", "example.py", 0)
    found = where(lambda: doctest.DocTestRunner().run(test))
    assert found == {("<doctest example[0]>", 1)}


def test_in_a_thread_of_dask_a_warning_points_at_the_package():
    lazy = dask.delayed(xs2p.deconvolve)(F, **SLOW)
    for path, line in where(lambda: lazy.compute(scheduler="threads")):
        assert os.path.dirname(path).startswith(PACKAGE) and line > 1
