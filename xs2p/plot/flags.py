"""What speaks against the dF/F of ROIs, and their noise, said in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xs2p._flags import DFF_FLAG, NOISE, count_flags, flags_of


def at_hand(ds: xr.Dataset, name: str) -> bool:
    """Whether a variable over ``roi`` is there, and known without computing the traces.

    Of lazy traces whoever looks at a minute of one ROI would wait for all frames of it.
    """
    if name not in ds.variables or ds[name].dims != ("roi",):
        return False
    own = _layers(ds[name])
    return not any(own & _layers(v) for v in ds.data_vars.values() if "time" in v.dims)


def _layers(array: xr.DataArray) -> set[str]:
    """Names of the steps that a lazy array is made by; none where it is not Dask's."""
    return set() if array.chunks is None else set(array.data.dask.layers)


def doubts_of(ds: xr.Dataset, places: Sequence[int] | None = None) -> list[str] | None:
    """Say what speaks against the dF/F of each ROI, "" where nothing does; None where not known.

    ``places`` are positions of ROIs; None is all.
    """
    if not at_hand(ds, DFF_FLAG):
        return None
    flags = ds[DFF_FLAG] if places is None else ds[DFF_FLAG].isel(roi=list(places))
    return [", ".join(words) for words in flags_of(flags)]


def facts_of(ds: xr.Dataset, place: int) -> list[str]:
    """Noise of an ROI and the flags of its dF/F, in words, as far as they are known."""
    facts = []
    if at_hand(ds, NOISE):
        noise = ds[NOISE].isel(roi=place)
        value = float(noise.as_numpy().values)
        units = str(noise.attrs.get("units", "")).removeprefix("1")
        facts += [f"noise {value:.3g} {units}".rstrip()] if np.isfinite(value) else []
    doubts = doubts_of(ds, [place])
    return facts + [word for word in doubts or () if word]


def counted(flags: xr.DataArray) -> str:
    """Say in a line how many ROIs have which flag, and how many have none."""
    n_rois, counts = flags.size, {word: n for word, n in count_flags(flags).items() if n}
    without = sum(not words for words in flags_of(flags))
    if not counts:
        return f"dF/F: none of {n_rois} ROIs has a flag"
    told = [f"{n} × {word}" for word, n in counts.items()]
    return f"dF/F flags: {', '.join(told)}; {without} of {n_rois} ROIs have none"
