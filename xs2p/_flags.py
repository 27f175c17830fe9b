"""Flags in words: what the bits of a variable mean, as its CF attributes say it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

DFF_FLAG, NOISE = "dff_flag", "noise"
DEMIX_FLAG, VIF = "demix_flag", "vif"
FLAG_ATTRS = ("flag_masks", "flag_meanings")


def meanings_of(variable: xr.DataArray | xr.Variable) -> dict[int, str]:
    """Say in words what each bit of a variable means; empty where its attributes do not.

    The attributes are ``flag_masks`` and ``flag_meanings`` of the CF conventions (section 3.5), as
    they are set or as Zarr and NetCDF give them back: a list, an array or, of one flag, a number.

    Raises
    ------
    ValueError
        If there are not as many masks as meanings.
    """
    if not set(FLAG_ATTRS) <= set(variable.attrs) or variable.dtype == bool:
        return {}  # a comparison, as ds.dff_flag == 0, keeps attributes
    masks, meanings = (variable.attrs[name] for name in FLAG_ATTRS)
    named = meanings.split() if isinstance(meanings, str) else [str(word) for word in meanings]
    bits = [int(mask) for mask in np.atleast_1d(masks)]
    if len(bits) != len(named):
        raise ValueError(
            f"{getattr(variable, 'name', None) or 'the variable'} has {len(bits)} flag_masks and "
            f"{len(named)} flag_meanings, expected one meaning, without blanks, for each mask"
        )
    return {bit: word.replace("_", " ") for bit, word in zip(bits, named, strict=True)}


def flags_of(variable: xr.DataArray | xr.Variable) -> list[list[str]]:
    """List in words the flags that each ROI has, in the order of the masks.

    Parameters
    ----------
    variable
        Flags ``(roi,)``, sums of the masks; computed where it is lazy. NaN, as joining with ROIs
        that have none gives, is no flag. A bit that no mask names is ``"flag 16"``, by its value.

    Examples
    --------
    >>> attrs = {"flag_masks": [1, 2], "flag_meanings": "F0_not_positive dFF_above_10"}
    >>> flags_of(xr.DataArray([0, 3, 2], dims="roi", attrs=attrs))
    [[], ['F0 not positive', 'dFF above 10'], ['dFF above 10']]
    """
    values = _whole(variable)
    if values.ndim != 1:
        raise ValueError(f"flags are over roi, these are over {variable.dims}; choose one: isel(…)")
    named = meanings_of(variable)
    named |= {bit: f"flag {bit}" for bit in _bits(values) if not bit & _all(list(named))}
    return [[word for bit, word in named.items() if value & bit] for value in values.tolist()]


def count_flags(variable: xr.DataArray | xr.Variable) -> dict[str, int]:
    """How many ROIs have each flag, by its words; 0 also of those that none has."""
    counts = dict.fromkeys(meanings_of(variable).values(), 0)
    for words in flags_of(variable):
        for word in words:
            counts[word] = counts.get(word, 0) + 1
    return counts


def _whole(variable: xr.DataArray | xr.Variable) -> np.ndarray:
    values = variable.as_numpy().values
    return np.nan_to_num(values).astype(np.int64)


def _bits(values: np.ndarray) -> list[int]:
    """Bits that are set in any of the values."""
    found = _all(values.tolist())
    return [1 << n for n in range(found.bit_length()) if found >> n & 1]


def _all(masks: Sequence[int]) -> int:
    return int(np.bitwise_or.reduce(np.array(masks, np.int64), initial=0))
