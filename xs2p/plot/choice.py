"""Which frames and variables of traces are shown, and the rows that they make."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import coefficient_in, parameters_in, unit_shown
from xs2p._frames import SEGMENT, labels_of, names_of, spans_of
from xs2p._warnings import warn
from xs2p.plot.drawing import has_baseline
from xs2p.plot.rows import Row, why

SATURATED = "saturated"


def frames_of(ds: xr.Dataset, segments: Any) -> np.ndarray | None:
    """Frames of some segments, by name or label, in the order of time; None where all are meant.

    Raises
    ------
    ValueError
        If there is no such segment, or nothing tells of segments.
    """
    if segments is None:
        return None
    names = names_of(ds)
    if names is None:
        raise ValueError(
            f"segments={segments!r} needs a coordinate segment(time), which tells of sessions or "
            "epochs; open_movie(..., segments=) and xs2p.concat make one"
        )
    labels = labels_of(ds).values.tolist()
    alone = isinstance(segments, str) or np.ndim(segments) == 0
    wanted = [segments] if alone else list(segments)
    places = []
    for one in wanted:
        known = names if one in names else labels
        if one not in known:
            shown = ", ".join(map(repr, names))
            raise ValueError(f"there is no {SEGMENT} {one!r}; there are {shown}")
        places.append(known.index(one))
    spans = spans_of(ds)
    frames = [np.arange(ds.sizes["time"])[spans[k]] for k in sorted(set(places))]
    return np.concatenate(frames) if frames else np.empty(0, np.int64)


def check_variables(ds: xr.Dataset, variables: Any) -> list[str]:
    """Check names of traces that are to be drawn as they are."""
    known = [str(n) for n, v in ds.data_vars.items() if set(v.dims) == {"roi", "time"}]
    names = [variables] if isinstance(variables, str) else list(variables)
    absent = [name for name in names if name not in known]
    if absent or not names:
        raise ValueError(
            f"variables={variables!r} must be names of traces over roi and time; there are "
            f"{', '.join(known)}"
        )
    return list(dict.fromkeys(names))


def by_unit(ds: xr.Dataset, variables: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Group variables by unit: they share a scale; dF/F and spikes have their own."""
    found: dict[tuple[str, str], list[str]] = {}
    for name in variables:
        own = name if name == "dFF" else ""
        if name != "spks":
            found.setdefault((unit_shown(name, ds[name].attrs), own), []).append(name)
    if not found:
        return [(unit_shown("spks", ds["spks"].attrs), ["spks"])]
    return [(unit, names) for (unit, _), names in found.items()]


def others_in(names: list[str]) -> list[str]:
    """Variables of a row that have a line without a style of their own."""
    return [name for name in names[1:] if name not in ("Fneu", "F0")]


def rows_of(
    one: xr.Dataset, groups: list[tuple[str, list[str]]], spikes: bool, number: int
) -> list[Row]:
    """Rows of one ROI, one for each unit of its variables; spikes stand in the first."""
    values = {str(n): v.values.astype(np.float64) for n, v in one.data_vars.items()}
    rows = []
    for k, (unit, names) in enumerate(groups):
        main, rest = names[0], names[1:]
        rows.append(
            Row(
                one["roi"].item(),
                values[main],
                next((values[n] for n in rest if n == "Fneu"), None),
                next((values[n] for n in rest if n == "F0"), None),
                values["spks"] if spikes and k == 0 else None,
                why(one),
                others=tuple(values[n] for n in others_in(names)),
                units=unit,
                name=", ".join(names) if len(groups) > 1 else "",
                number=number,
            )
        )
    return rows


def saturated_in(some: xr.Dataset, level: float | None) -> np.ndarray | None:
    """Which samples of traces that are in memory are saturated, bool ``(roi, time)``, or None."""
    sizes = (some.sizes["roi"], some.sizes["time"])
    if level is not None:
        return np.asarray(some["F"].transpose("roi", "time").values >= level)
    if SATURATED not in some.variables:
        return None
    own = some[SATURATED]
    values = own.transpose(*[d for d in ("roi", "time") if d in own.dims]).values
    return np.broadcast_to(values > 0, sizes)


def default_variables(
    ds: xr.Dataset, corrected: bool, coefficient: float | None
) -> tuple[list[str], float | xr.DataArray | None]:
    """Names of what is needed, what is drawn in colour first; and the neuropil coefficient."""
    if corrected and "Fc" not in ds:
        raise ValueError("corrected=True needs Fc, which ds has not; leave it out to see F")
    main = "Fc" if corrected or "F" not in ds else "F"
    show = [main]
    known: float | xr.DataArray | None = coefficient
    if main == "F" and "Fneu" in ds:
        show.append("Fneu")
        if coefficient is None:
            known = coefficient_in(ds)
    if has_baseline(ds):
        if "Fneu" in show and "Fc" in ds and parameters_in(ds).get("neuropil") == "centred":
            show += ["Fc", "F0"]  # F0 is not a baseline of F − c · Fneu
        elif "Fneu" in show and known is None:
            warn(
                "F0 is not drawn: it is a baseline of F − c · Fneu, and c is not known; give "
                "neuropil_coefficient=..."
            )
        else:
            show.append("F0")
    return show + (["spks"] if "spks" in ds else []), known


def default_row(one: xr.Dataset, coefficient: float | None, number: int, units: str) -> Row:
    """Row of one ROI: F over neuropil and baseline, or corrected."""
    values = {str(n): v.values.astype(np.float64) for n, v in one.data_vars.items()}
    main = values["F" if "F" in values else "Fc"]
    neuropil = baseline = None
    if "Fneu" in values:
        neuropil = values["Fneu"] * (1.0 if coefficient is None else coefficient)
    if "F0" in values:
        baseline = values["F0"] if neuropil is None else values["F0"] + neuropil
        if {"F", "Fc"} <= set(values):
            baseline = values["F0"] + (values["F"] - values["Fc"])
    return Row(
        one["roi"].item(),
        main,
        neuropil,
        baseline,
        values.get("spks"),
        why(one),
        units=units,
        number=number,
    )
