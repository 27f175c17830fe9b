"""What others' tools for units and flags make of our results, by the CF conventions."""

import cf_xarray  # noqa: F401  (registers .cf)
import numpy as np
import pint
import pint_xarray  # noqa: F401  (registers .pint)
import pytest
import xarray as xr

import xs2p
from xs2p._attrs import unit_shown


@pytest.fixture(scope="module")
def traces():
    return xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0, dff=True).compute()


def test_units_are_known_to_pint(traces):
    registry = pint.get_application_registry()
    sets = (traces, xs2p.sample_rois().s2p.build_masks().to_dataset(), xs2p.indicators())
    for ds in (*sets, traces.s2p.quality(), xs2p.sample_movie().to_dataset(name="movie")):
        for name, variable in ds.variables.items():
            if (unit := variable.attrs.get("units")) is not None:
                assert registry.parse_units(unit).dimensionality in ({}, {"[time]": 1}), name
    found = traces.pint.quantify()
    assert found.F.pint.units == registry.dimensionless
    slow = (found.F / registry.Quantity(2.0, "s")).pint.dequantify()
    np.testing.assert_array_equal(slow, traces.F / 2)


def test_what_comes_back_from_pint_is_still_ours(traces):
    back = traces.pint.quantify().pint.dequantify()
    xr.testing.assert_equal(back, traces)
    assert unit_shown("F", back.F.attrs) == "a.u." and unit_shown("dFF", back.dFF.attrs) == ""
    spks = xs2p.deconvolve(back.Fc - back.F0, tau=1.0)
    np.testing.assert_array_equal(spks, traces.spks)
    assert back.isel(roi=slice(0, 3)).s2p.quality().sizes["roi"] == 3


def test_flags_and_axes_are_known_to_cf_xarray(traces):
    assert traces.cf.axes == {"T": ["time"]}
    flags = traces.dff_flag
    assert flags.cf.is_flag_variable
    words = flags.attrs["flag_meanings"].split()
    for bit, word in enumerate(words):
        np.testing.assert_array_equal(flags.cf == word, (flags.values >> bit & 1).astype(bool))
