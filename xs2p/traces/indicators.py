"""How fast indicators decay, as the papers say that measured it."""

from __future__ import annotations

import difflib
import math
from typing import NamedTuple

import xarray as xr


class Indicator(NamedTuple):
    """A measurement of an indicator."""

    tau: float
    """Time constant of the decay, in s."""
    what: str
    """What was measured."""
    doi: str


def _half(milliseconds: float, spread: float) -> Indicator:
    """Time constant of a decay by half in so many ms."""
    return Indicator(
        round(milliseconds / 1000 / math.log(2), 3),
        f"half-decay of {milliseconds} ± {spread} ms after one spike, over ln 2",
        "10.1038/s41586-023-05828-9",
    )


_IN_VIVO = "10.7554/eLife.51675"
# Of the jGCaMPs: as the authors of the paper list them, janelia.org/jgcamp8-calcium-indicators.
_INDICATORS = {
    "GCaMP6f": Indicator(
        0.25, "decay constant of 200 to 300 ms after 4 to 5 spikes, mouse V1 in vivo", _IN_VIVO
    ),
    "GCaMP6s": Indicator(
        0.75, "decay constant of about 750 ms after 4 to 5 spikes, mouse V1 in vivo", _IN_VIVO
    ),
    "jGCaMP7f": _half(181.9, 76.0),
    "jGCaMP8f": _half(67.4, 11.2),
    "jGCaMP8m": _half(118.3, 13.2),
    "jGCaMP8s": _half(306.7, 32.2),
}


def indicators() -> xr.Dataset:
    """List the indicators that ``tau`` may be the name of, and the paper of each number.

    They are times of one spike or a few. In traces of populations decays are longer, and a ``tau``
    that is too short makes worse spikes than one that is too long: see the guide. Case, hyphens and
    the ``j`` in front do not matter: ``tau="GCaMP8m"`` is jGCaMP8m.

    Returns
    -------
    Dataset
        Over ``indicator``, its name: ``tau``, the time constant of the decay in s, ``measured``,
        what it is taken from, and the paper's ``doi``. ``indicators().to_dataframe()`` is a table.

    Examples
    --------
    >>> indicators().tau.to_series().round(2).to_dict()
    ... # doctest: +NORMALIZE_WHITESPACE
    {'GCaMP6f': 0.25, 'GCaMP6s': 0.75, 'jGCaMP7f': 0.26, 'jGCaMP8f': 0.1, 'jGCaMP8m': 0.17,
     'jGCaMP8s': 0.44}
    """
    seconds = {
        "long_name": "decay time of the indicator",
        "units": "s",
        "description": "Time constant of an exponential decay, as measured says.",
    }
    kinds = _INDICATORS.values()
    return xr.Dataset(
        {
            "tau": ("indicator", [kind.tau for kind in kinds], seconds),
            "measured": ("indicator", [kind.what for kind in kinds]),
            "doi": ("indicator", [kind.doi for kind in kinds]),
        },
        {"indicator": list(_INDICATORS)},
    )


def find_indicator(name: str) -> tuple[str, float]:
    """Find the name of an indicator as it is written here, and its ``tau`` in s.

    Raises
    ------
    ValueError
        If there is none of that name; it says which is nearest.
    """
    known = {_plain(each): each for each in _INDICATORS}
    found = known.get(_plain(name))
    if found is None:
        near = difflib.get_close_matches(_plain(name), list(known), 1, 0.5)
        hint = f"did you mean {known[near[0]]!r}? " if near else ""
        raise ValueError(
            f"tau={name!r} is no indicator that is known here; {hint}It takes "
            f"{', '.join(_INDICATORS)} (xs2p.indicators() lists them with their papers), or a "
            "number of seconds; xs2p.estimate_tau(F) finds one in the traces"
        )
    return found, _INDICATORS[found].tau


def _plain(name: str) -> str:
    return "".join(c for c in name.lower() if c.isalnum()).removeprefix("j")
