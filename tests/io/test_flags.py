"""What bits mean, in words."""

from __future__ import annotations

import dask.array as da
import numpy as np
import pytest
import xarray as xr
from flagged import FLAGS

from xs2p._flags import count_flags, flags_of, meanings_of

WORDS = ["F0 not positive", "F0 below noise", "neuropil above 90 percent", "dFF above 10"]


def flags(values, **attrs):
    return xr.DataArray(values, dims="roi", name="dff_flag", attrs={**FLAGS, **attrs})


@pytest.mark.parametrize("lazy", [False, True])
def test_every_sum_of_flags_in_words(lazy):
    bits = np.arange(16, dtype="u1")
    found = flags_of(flags(da.from_array(bits, chunks=5) if lazy else bits))
    for bit, words in zip(bits.tolist(), found, strict=True):
        assert words == [word for n, word in enumerate(WORDS) if bit >> n & 1]
    assert count_flags(flags(bits).variable) == dict.fromkeys(WORDS, 8)
    assert count_flags(flags(bits[:2])) == dict(zip(WORDS, (1, 0, 0, 0), strict=True))
    assert meanings_of(flags(bits)) == dict(zip((1, 2, 4, 8), WORDS, strict=True))


@pytest.mark.parametrize("masks", [[1, 2, 4, 8], (1, 2, 4, 8), np.array([1, 2, 4, 8], "u1")])
@pytest.mark.parametrize("as_list", [False, True])
def test_attributes_as_stores_give_them_back(masks, as_list):
    meanings = FLAGS["flag_meanings"].split() if as_list else FLAGS["flag_meanings"]
    found = flags_of(flags(np.array([10], "u1"), flag_masks=masks, flag_meanings=meanings))
    assert found == [[WORDS[1], WORDS[3]]]


def test_one_flag_and_flags_without_a_name():
    one = {"flag_masks": np.int64(4), "flag_meanings": "odd_one"}  # as NetCDF has a list of one
    assert flags_of(flags([0, 4, 20], **one)) == [[], ["odd one"], ["odd one", "flag 16"]]
    assert flags_of(xr.DataArray([5, 0], dims="roi")) == [["flag 1", "flag 4"], []]
    assert flags_of(flags([np.nan, 2.0])) == [[], [WORDS[1]]]  # joined with ROIs that have none
    assert flags_of(flags(np.empty(0, "u1"))) == []
    assert meanings_of(xr.DataArray([5, 0], dims="roi")) == {}


def test_what_does_not_fit():
    with pytest.raises(ValueError, match="dff_flag has 2 flag_masks and 4 flag_meanings"):
        flags_of(flags([1], flag_masks=[1, 2]))
    with pytest.raises(ValueError, match=r"are over \('channel', 'roi'\)"):
        flags_of(xr.DataArray([[1, 2]], dims=("channel", "roi"), attrs=FLAGS))


def test_a_comparison_of_flags_is_no_flag():
    """xarray keeps attributes in ``ds.dff_flag == 0``."""
    flag = xr.DataArray(
        [0, 1], dims="roi", attrs={"flag_masks": [1], "flag_meanings": "F0_not_positive"}
    )
    good = (flag == 0).assign_attrs(flag.attrs)
    assert meanings_of(good) == {} and flags_of(flag) == [[], ["F0 not positive"]]
