"""One session of a recording, by its name."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.testing import raise_if_dask_computes, simulate


@pytest.fixture(scope="module")
def sessions():
    movie, rois, _ = simulate(4, (30, 41), 200, fs=10.0, chunks=30)
    joined = xs2p.concat({"rest": movie[:90], "touch": movie[90:150], "0": movie[150:]}, gap=1.0)
    return movie, joined, rois


def test_a_segment_by_its_name_or_label(sessions):
    movie, joined, rois = sessions
    with raise_if_dask_computes():
        part = joined.s2p.segment("touch")
        again = joined.s2p.segment(1)
    np.testing.assert_array_equal(part, movie[90:150])
    xr.testing.assert_identical(part, again)
    np.testing.assert_array_equal(joined.s2p.segment("0"), movie[150:])  # a name before a label
    ds = joined.s2p.extract(rois, tau=1.0, min_neuropil_pixels=50)
    alone = movie[90:150].s2p.extract(rois, tau=1.0, min_neuropil_pixels=50)
    np.testing.assert_array_equal(ds.s2p.segment("touch").spks, alone.spks)
    each = ds.Fc.s2p.noise(by_segment=True)
    assert each.s2p.segment("touch").equals(each.isel(segment=1))
    assert each.to_dataset(name="noise").s2p.segment("rest").noise.equals(each[0])
    labelled = joined.assign_coords(segment=("time", np.repeat(["a", "b"], [120, 80])))
    assert labelled.s2p.segment("b").sizes["time"] == 80


def test_what_there_is_is_listed(sessions):
    movie, joined, _ = sessions
    with pytest.raises(ValueError, match="no segment 'toch'; there are 'rest', 'touch', '0'"):
        joined.s2p.segment("toch")
    with pytest.raises(ValueError, match="needs a coordinate segment"):
        movie.s2p.segment("rest")
    assert "segment()" in repr(joined.s2p) and "segment()" not in repr(movie.s2p)
