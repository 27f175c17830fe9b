"""Recordings of one field, one after the other."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xs2p._attrs import UNFINISHED, check_number, parameters_in
from xs2p._flags import DFF_FLAG, NOISE
from xs2p._frames import BAD, SEGMENT, VALID, names_of, segment_coord, starts_of, valid_of
from xs2p._time import Clock, check_increasing, clock_of
from xs2p._warnings import warn
from xs2p.movie.segments import short_names
from xs2p.pipeline.dff import flags_anew
from xs2p.traces.dff import made_here
from xs2p.traces.neuropil import ESTIMATED

Recording = TypeVar("Recording", xr.DataArray, xr.Dataset)
_ITSELF = "xs2p concat"  # what a movie is called as a variable
# What makes ROIs the same, of one plane.
_SAME = ("roi", "npix", "ypix", "xpix", "lam", "overlap", "plane", "channel")
_KEPT = ("fs", "tau")
_RATE = 1e-3  # frame rates that differ by less, relatively, are of one clock


def concat(movies: Sequence[Recording] | Mapping[str, Recording], gap: float | None = None) -> Any:
    """Join recordings of one field, so that time goes on and each is a segment.

    Nothing is read: what is lazy stays so, in the chunks that it has.

    Parameters
    ----------
    movies
        Movies ``([channel, plane,] time, y, x)``, or Datasets of traces ``(roi, time)`` of the same
        ROIs, in their order. Of a mapping, as ``{"day 1": a, "day 2": b}``, the keys are the names
        of the segments.
    gap
        Seconds between the end of the last frame of one and the first frame of the next; 0 unless
        given. Dates (``datetime64``, cftime) stay as they are.

    Returns
    -------
    DataArray or Dataset
        As the first one, with the frames of all. ``time`` goes on from the first one's, in its
        unit, each frame as far from the one before as it was; without ``time`` there is none.
        ``segment(time)`` numbers the recordings from 0, with ``names`` in its attributes: the keys,
        or the ``source`` of each; one that has segments itself keeps these, counted on. ``valid``
        and ``badframes`` of one that has none say that all its frames are good. Attributes that
        differ are left out; ``fs`` and ``tau`` stay where those that have them agree.

    Raises
    ------
    ValueError
        Recordings differ in dims, sizes, labels, dtype, variables, ROIs, plane, or by more than a
        thousandth in ``fs``; ``time`` is there in some only, is of different units, or dates go
        back or overlap; or ``gap`` is given where there is no time to put it into.

    Warns
    -----
    UserWarning
        Coordinates and images that differ, or that some do not have, are left out.

    Examples
    --------
    >>> import xs2p
    >>> movie = xs2p.sample_movie()
    >>> both = concat({"rest": movie[:200], "task": movie[300:]})
    >>> both.sizes["time"], float(both.time[200] * both.attrs["fs"])
    (400, 200.0)
    >>> both.segment.attrs["names"], both.segment.values[[199, 200]].tolist()
    (['rest', 'task'], [0, 1])
    """
    if not isinstance(movies, Mapping | Sequence) or isinstance(movies, str) or not len(movies):
        raise ValueError(
            "concat takes a list of recordings, or a dict of them by name, as in "
            f"xs2p.concat([a, b]); got {type(movies).__name__}"
        )
    named = isinstance(movies, Mapping)
    keys = [str(key) for key in movies] if named else [f"movies[{n}]" for n in range(len(movies))]
    given = list(movies.values() if isinstance(movies, Mapping) else movies)
    if gap is not None:
        check_number("gap", gap, 0.0, unit="seconds")
    _check_kind(given, keys)
    first = given[0]
    if isinstance(first, xr.DataArray):
        parts = [part.rename(_ITSELF).to_dataset() for part in given]
        whole = _joined(parts, keys, gap, named)
        return whole[_ITSELF].transpose(*first.dims).rename(first.name)
    if not all({"Fc", "F0", "dFF"} <= set(part) and made_here(part["dFF"]) for part in given):
        return _joined(given, keys, gap, named)
    # Of the whole recording they are others, and to compare lazy ones would be to make them.
    given = [part.drop_vars([NOISE, DFF_FLAG], errors="ignore") for part in given]
    return flags_anew(_joined(given, keys, gap, named))


def _check_kind(given: Sequence[Any], keys: Sequence[str]) -> None:
    for part, key in zip(given, keys, strict=True):
        if not isinstance(part, xr.DataArray | xr.Dataset) or type(part) is not type(given[0]):
            raise ValueError(
                f"concat: {key} is a {type(part).__name__}, expected movies (DataArray) or traces "
                f"(Dataset), all of one kind; {keys[0]} is a {type(given[0]).__name__}"
            )
        if "time" not in part.dims:
            raise ValueError(f"concat: {key} has no dim time, only {tuple(part.dims)}")
        if UNFINISHED in part.attrs:
            raise ValueError(f"concat: {key} is not complete: {part.attrs[UNFINISHED]}")


def _joined(
    parts: Sequence[xr.Dataset], keys: Sequence[str], gap: float | None, named: bool
) -> xr.Dataset:
    first, *others = parts
    for part, key in zip(others, keys[1:], strict=True):
        _check_alike(first, part, keys[0], key)
    fs = _rate(parts, keys)
    times = _times(parts, keys, fs, gap)
    variables: dict[Hashable, xr.Variable] = {}
    left: list[str] = []
    for name in dict.fromkeys(name for part in parts for name in part.variables):
        if name in (VALID, BAD, SEGMENT, "time"):
            continue
        having = [part.variables[name] for part in parts if name in part.variables]
        # Estimates of two recordings are two: lazy ones are not made to see it.
        other = name in ESTIMATED and any(each.chunks is not None for each in having)
        whole = _whole(having) if len(having) == len(parts) and not other else None
        if whole is None:
            left.append(str(name))
        else:
            variables[name] = whole
    if left:
        warn(
            f"concat: {', '.join(left)} differ from recording to recording, or are not there in "
            "all, and are left out"
        )
    data = {name: v for name, v in variables.items() if name in first.data_vars}
    coords: dict[Hashable, xr.Variable]
    coords = {name: v for name, v in variables.items() if name not in data}
    if times is not None:
        coords["time"] = xr.Variable.concat([t.drop_encoding() for t in times], "time")
    coords.update(_marks(parts))
    coords[SEGMENT] = _segments(parts, keys, named)
    return xr.Dataset(data, coords, _common([part.attrs for part in parts]))


def _check_alike(first: xr.Dataset, part: xr.Dataset, one: str, other: str) -> None:
    """Raise where two recordings are not of one field, or of other ROIs."""
    what = f"concat: {one} and {other} differ in"
    sizes, theirs = ({d: n for d, n in ds.sizes.items() if d != "time"} for ds in (first, part))
    if set(sizes) != set(theirs) or any(sizes[d] != theirs[d] for d in sizes if d != "pixel"):
        raise ValueError(f"{what} their sizes, {sizes} and {theirs}: they must be of one field")
    data = [{n for n, v in ds.data_vars.items() if "time" in v.dims} for ds in (first, part)]
    if data[0] != data[1]:
        odd = ", ".join(sorted(map(str, data[0] ^ data[1])))
        raise ValueError(f"{what} their variables: {odd} only in one; choose those of both")
    for name in data[0]:
        a, b = first[name], part[name]
        if set(a.dims) != set(b.dims) or a.dtype != b.dtype:
            words = [f"{v.dtype} {v.dims}" for v in (a, b)]
            told = "" if name == _ITSELF else f" of {name}"
            raise ValueError(
                f"{what} dtype or dims{told}: {words[0]} and {words[1]}; .astype() or "
                ".transpose() makes them alike"
            )
    for name in dict.fromkeys((*_SAME, *(set(sizes) & {*first.indexes, *part.indexes}))):
        here = [name in ds.variables for ds in (first, part)]
        if any(here) and not (all(here) and first.variables[name].equals(part.variables[name])):
            raise ValueError(
                f"{what} {name}: join recordings of the same ROIs and plane; "
                + ("drop_vars(...) leaves labels out" if name in sizes else "choose the same first")
            )
    for name in ("Ly", "Lx"):
        if first.attrs.get(name) != part.attrs.get(name):
            told = f"{first.attrs.get(name)} and {part.attrs.get(name)}"
            raise ValueError(f"{what} {name}, {told}: they must be of one field")


def _whole(having: Sequence[xr.Variable]) -> xr.Variable | None:
    """Join a variable of all recordings; None where it differs, or may."""
    first = having[0]
    attrs = _common([each.attrs for each in having])
    if any("time" in each.dims for each in having):
        if any(set(each.dims) != set(first.dims) for each in having):
            return None
        some = [each.to_base_variable().transpose(*first.dims) for each in having]
        joined = xr.Variable.concat([xr.Variable(each.dims, each.data) for each in some], "time")
        joined.attrs = attrs
        return joined
    if not all(_equal(first, each) for each in having[1:]):
        return None
    first = first.copy(deep=False)
    first.attrs = attrs
    return first


def _equal(one: xr.Variable, other: xr.Variable) -> bool:
    """Whether two are equal; of what is lazy and no ROI's, whether they are made alike."""
    if one.chunks is None and other.chunks is None or {"roi", "pixel"} & {*one.dims}:
        return bool(one.equals(other))
    names = [getattr(variable.data, "name", None) for variable in (one, other)]
    return names[0] is not None and names[0] == names[1]


def _common(attrs: Sequence[Mapping[Any, Any]]) -> dict[Any, Any]:
    """Attributes that all have alike; ``fs`` and ``tau`` where none has others."""
    first, *others = attrs
    kept = {k: v for k, v in first.items() if all(k in o and _same(o[k], v) for o in others)}
    for name in _KEPT:
        known = [each[name] for each in attrs if each.get(name) is not None]
        rel = _RATE if name == "fs" else 1e-9
        if known and all(_close(known[0], value, rel) for value in known):
            kept[name] = known[0]
    return kept


def _same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one, object), np.asarray(other, object))


def _close(one: Any, other: Any, rel: float) -> bool:
    try:
        return math.isclose(float(one), float(other), rel_tol=rel)
    except (TypeError, ValueError):
        return _same(one, other)


def _rate(parts: Sequence[xr.Dataset], keys: Sequence[str]) -> float | None:
    """Frame rate of those that say it, in Hz."""
    known: dict[str, float] = {}
    for part, key in zip(parts, keys, strict=True):
        fs = parameters_in(part).get("fs")
        fs = part[_ITSELF].attrs.get("fs") if _ITSELF in part else fs
        if fs is not None:
            known[key] = float(fs)
    for key, fs in known.items():
        one, value = next(iter(known.items()))
        if not math.isclose(fs, value, rel_tol=_RATE):
            raise ValueError(
                f"concat: fs of {one} is {value:g} Hz, that of {key} {fs:g} Hz; frames over which "
                "filters go must be of one rate: resample one, or say which is right with "
                "assign_attrs(fs=...)"
            )
    return next(iter(known.values()), None)


def _times(
    parts: Sequence[xr.Dataset], keys: Sequence[str], fs: float | None, gap: float | None
) -> list[xr.Variable] | None:
    """Find the times of each recording as they are in the whole; None where there are none."""
    here = ["time" in part.coords for part in parts]
    if not any(here):
        if gap is not None:
            raise ValueError(f"concat: gap={gap:g} s, and the recordings have no coordinate time")
        return None
    if not all(here):
        have, lack = keys[here.index(True)], keys[here.index(False)]
        raise ValueError(
            f"concat: {have} has a coordinate time and {lack} has none; give it one, or leave that "
            "of the others out: .drop_vars('time')"
        )
    for part, key in zip(parts, keys, strict=True):
        check_increasing(part, key)
    clocks = [clock_of(part, fs) for part in parts]
    known = [clock for clock in clocks if clock is not None]
    told = [_kind(clock) for clock in clocks]
    if len(set(told)) > 1:
        other = next(n for n, kind in enumerate(told) if kind != told[0])
        raise ValueError(
            f"concat: time of {keys[0]} is in {told[0]}, that of {keys[other]} in {told[other]}; "
            "give both in one unit, as in assign_coords(time=('time', seconds, {'units': 's'}))"
        )
    variables = [part.variables["time"].to_base_variable() for part in parts]
    if not known or known[0].start is not None:
        if gap is not None:
            raise ValueError(f"concat: gap={gap:g} s, and time is of {told[0]}, which stay")
        if known:
            _check_dates(parts, keys)
        return variables
    shifts = _shifts(known, keys, fs, gap)
    return [_moved(v, by, variables[0].attrs) for v, by in zip(variables, shifts, strict=True)]


def _kind(clock: Clock | None) -> str:
    if clock is None:
        return "labels"
    return "dates" if clock.start is not None else clock.unit or "no unit"


def _check_dates(parts: Sequence[xr.Dataset], keys: Sequence[str]) -> None:
    last: tuple[Any, str] | None = None
    for part, key in zip(parts, keys, strict=True):
        times = part["time"].values
        if not times.size:
            continue
        if last is not None and not times[0] > last[0]:
            raise ValueError(
                f"concat: {key} begins at {times[0]}, and {last[1]} before it ends at {last[0]}; "
                "give recordings in the order of their times, none over another"
            )
        last = times[-1], key


def _shifts(
    clocks: Sequence[Clock], keys: Sequence[str], fs: float | None, gap: float | None
) -> list[float]:
    """By how much the times of each recording move, in their unit."""
    unit = clocks[0].unit
    per_second = clocks[0].per_second(fs or math.nan)
    per_second = None if per_second is None or math.isnan(per_second) else per_second
    if gap and per_second is None:
        raise ValueError(
            f"concat: gap={gap:g} s, and time is in {unit or 'no unit'}, of which it is not known "
            "how much a second is; give fs: movie.assign_attrs(fs=...), or time.attrs['units']"
        )
    step = per_second / fs if fs and per_second else math.nan
    if math.isnan(step):
        step = next((clock.step for clock in clocks if math.isfinite(clock.step)), math.nan)
    between = step + (gap or 0.0) * (per_second or 0.0)
    shifts: list[float] = []
    end: float | None = None
    for clock, key in zip(clocks, keys, strict=True):
        by = 0.0
        if clock.values.size:
            by = 0.0 if end is None else end + between - float(clock.values[0])
            end = float(clock.values[-1]) + by
        if math.isnan(by):
            raise ValueError(
                f"concat: when {key} begins is not known: recordings of one frame do not say their "
                "rate; give it with assign_attrs(fs=...)"
            )
        shifts.append(by)
    return shifts


def _moved(times: xr.Variable, by: float, attrs: Mapping[Any, Any]) -> xr.Variable:
    values = times.values
    if values.dtype.kind == "m":
        values = values.astype("m8[ns]") + np.timedelta64(round(by * 1e9), "ns")
    elif values.dtype.kind in "iu" and by == round(by):
        values = values.astype(np.int64) + int(by)
    elif by:
        values = values + by
    return xr.Variable(("time",), values, attrs)


def _marks(parts: Sequence[xr.Dataset]) -> dict[Hashable, xr.Variable]:
    """Join ``valid`` and ``badframes`` of all, where one has them."""
    found: dict[Hashable, xr.Variable] = {}
    if any(VALID in part.coords for part in parts):
        masks = [valid_of(part) for part in parts]
        dims = ("roi", "time") if any(m is not None and m.ndim == 2 for m in masks) else ("time",)
        arrays = []
        for mask, part in zip(masks, parts, strict=True):
            shape = tuple(part.sizes[dim] for dim in dims)
            arrays.append(np.broadcast_to(True if mask is None else mask.values, shape))
        attrs = next(part[VALID].attrs for part in parts if VALID in part.coords)
        found[VALID] = xr.Variable(dims, np.concatenate(arrays, axis=-1), attrs)
    if any(BAD in part.coords for part in parts):
        arrays = [
            part[BAD].values if BAD in part.coords else np.zeros(part.sizes["time"], bool)
            for part in parts
        ]
        attrs = next(part[BAD].attrs for part in parts if BAD in part.coords)
        found[BAD] = xr.Variable(("time",), np.concatenate(arrays), attrs)
    return found


def _segments(parts: Sequence[xr.Dataset], keys: Sequence[str], named: bool) -> xr.Variable:
    """Give a number to each segment of all recordings, one to a recording that has none itself."""
    sources = [part.attrs.get("source") for part in parts]
    if _ITSELF in parts[0]:
        sources = [part[_ITSELF].attrs.get("source") for part in parts]
    whole = [str(source) for source in sources if source]
    own = list(keys) if named else short_names(whole) if len(whole) == len(parts) else []
    lengths: list[int] = []
    names: list[str] = []
    for n, part in enumerate(parts):
        edges = [*starts_of(part), part.sizes["time"]]
        lengths += np.diff(edges).tolist()
        inner = names_of(part)
        before = own[n] if own else f"{n}"
        names += [before] if inner is None else [f"{before}/{name}" for name in inner]
    has_names = bool(own) or any(
        "names" in part[SEGMENT].attrs for part in parts if SEGMENT in part
    )
    return segment_coord(lengths, names if has_names else None)
