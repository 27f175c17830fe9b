"""What speaks against the traces of ROIs, and their noise, said in pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from xs2p._attrs import unit_shown
from xs2p._flags import DEMIX_FLAG, DFF_FLAG, NOISE, VIF, count_flags, flags_of

_OF = {DEMIX_FLAG: "Demixing", DFF_FLAG: "dF/F"}


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


def flags_in(ds: xr.Dataset) -> list[xr.DataArray]:
    """List what flags over ``roi`` there are: of demixing and of the dF/F."""
    return [ds[name] for name in _OF if name in ds.variables and ds[name].dims == ("roi",)]


def doubts_of(ds: xr.Dataset, places: Sequence[int] | None = None) -> list[str] | None:
    """Say what speaks against the traces of each ROI, "" where nothing does; None where not known.

    ``places`` are positions of ROIs; None is all.
    """
    known = [flags for flags in flags_in(ds) if at_hand(ds, str(flags.name))]
    if not known:
        return None
    each = [flags_of(f if places is None else f.isel(roi=list(places))) for f in known]
    return [", ".join(sum(words, [])) for words in zip(*each, strict=True)]


def facts_of(ds: xr.Dataset, place: int) -> list[str]:
    """Noise of an ROI, variance inflation and flags, in words, as far as they are known."""
    facts = []
    for name in (NOISE, VIF):
        if not at_hand(ds, name):
            continue
        own = ds[name].isel(roi=place)
        value = float(own.as_numpy().values)
        units = unit_shown(name, own.attrs) if name == NOISE else ""
        facts += [] if np.isnan(value) else [f"{name} {value:.3g} {units}".rstrip()]
    doubts = doubts_of(ds, [place])
    return facts + [word for word in doubts or () if word]


def counted(flags: xr.DataArray) -> str:
    """Say in a line how many ROIs have which flag, and how many have none."""
    of = _OF[str(flags.name)]
    n_rois, counts = flags.size, {word: n for word, n in count_flags(flags).items() if n}
    without = sum(not words for words in flags_of(flags))
    if not counts:
        return f"{of}: none of {n_rois} ROIs has a flag"
    told = [f"{n} × {word}" for word, n in counts.items()]
    return f"{of} flags: {', '.join(told)}; {without} of {n_rois} ROIs have none"
