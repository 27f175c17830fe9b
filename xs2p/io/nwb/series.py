"""Which series of an NWB file become which traces: their names, planes, axes and times."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from xs2p._warnings import warn
from xs2p.io.nwb.file import SERIES

# What containers hold, by their name; the second channel's end in _chan2.
_HELD = {"Fluorescence": "F", "Neuropil": "Fneu", "Deconvolved": "spks", "DfOverF": "dFF"}
_PLANE = re.compile(r"plane[ _-]?\d+", re.IGNORECASE)  # one series a plane, as suite2p has them
_CHANNEL = re.compile(r"[ _-]?chan(nel)?[ _-]?2$", re.IGNORECASE)
_DEFAULT = "RoiResponseSeries"


def series_of(file: Any, table: Any) -> dict[str, list[Any]]:
    """Series whose ROIs are in the table, by the name that they get here.

    A name has several series where each is of other ROIs, as those of a plane are.
    """
    from pynwb.ophys import RoiResponseSeries

    suffix = table.name.removeprefix("PlaneSegmentation")
    named: dict[str, list[Any]] = {}
    for item in file.objects.values():
        if isinstance(item, RoiResponseSeries) and item.rois.table is table:
            named.setdefault(_name(item, suffix), []).append(item)
    for longer in (_with_container, _with_module):
        found: dict[str, list[Any]] = {}
        for key, items in named.items():
            if _apart(items):
                found.setdefault(key, []).extend(items)
                continue
            usual = [item for item in items if item.parent.name in _HELD]
            usual = usual if usual and _apart(usual) else []
            for item in items:
                name = key if item in usual else longer(item, key)
                found.setdefault(name, []).append(item)
        named = found
    named = {key: sorted(items, key=lambda s: _numbers(s.name)) for key, items in named.items()}
    order = [*(key for key in SERIES if key in named), *(k for k in named if k not in SERIES)]
    return {key: named[key] for key in order}


def _name(item: Any, suffix: str) -> str:
    """Name a series: by its container where that says more than the name of its own."""
    container = str(item.parent.name)
    held = _HELD.get(_CHANNEL.sub("", container))
    plain = item.name.removesuffix(suffix) if suffix else item.name
    second = "_chan2" if _CHANNEL.search(container) or _CHANNEL.search(plain) else ""
    if _PLANE.fullmatch(_CHANNEL.sub("", plain)):
        return f"{held}{second}" if held else container
    if held and plain == _DEFAULT and (second or container in ("Neuropil", "Deconvolved")):
        return f"{held}{second}"
    ours = {place: key for key, place in SERIES.items()}
    return ours.get((type(item.parent).__name__, plain), str(item.name))


def _with_container(item: Any, key: str) -> str:
    return f"{item.parent.name}_{item.name}"


def _with_module(item: Any, key: str) -> str:
    module = getattr(item.parent.parent, "name", "") or ""
    return f"{module}_{key}".strip("_")


def _apart(items: list[Any]) -> bool:
    """Whether no ROI is in two of the series."""
    rows = np.concatenate([np.asarray(s.rois.data[:], dtype=np.int64) for s in items])
    return len(items) == 1 or np.unique(rows).size == rows.size


def _numbers(name: str) -> list[Any]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)]


def is_turned(series: Any, key: str, where: str) -> bool:
    """Whether data is ``(roi, time)``, against the schema; a ValueError where it is neither way."""
    shape = tuple(int(n) for n in np.shape(series.data))
    n_rois = len(series.rois.data)
    times = len(series.timestamps) if series.timestamps is not None else None
    frames = shape[0] if times is None and shape else times
    if shape == (frames, n_rois) or (len(shape) == 1 and n_rois == 1 and shape == (frames,)):
        return False
    if len(shape) == 2 and shape[0] == n_rois and times in (None, shape[1]):
        return True
    raise ValueError(
        f"{where}: {series.name} (here {key}) has data of shape {shape}, expected (time, roi) = "
        f"{(frames, n_rois)}; the file is damaged"
    )


def is_square(series: Any) -> bool:
    """Whether data has as many frames as ROIs, so that its shape does not tell which is which."""
    shape = np.shape(series.data)
    return len(shape) == 2 and shape[0] == shape[1]


def times_of(series: Any, turned: bool) -> np.ndarray:
    """Read the times of the frames in s, as the file has them."""
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], dtype=np.float64)
    start = series.starting_time or 0.0
    n_frames = series.data.shape[1 if turned else 0]
    return np.asarray(start + np.arange(n_frames) / series.rate, dtype=np.float64)


def values_of(items: list[Any], turned: dict[str, bool], n_rois: int, n_frames: int) -> np.ndarray:
    """Traces ``(roi, time)`` of one name; ROIs that no series has are NaN."""
    values = np.full((n_rois, n_frames), np.nan, np.float32)
    for series in items:
        data = np.asarray(series.data[:])
        data = data if turned[series.object_id] else data.reshape(data.shape[0], -1).T
        factor = 1.0 if series.conversion is None else float(series.conversion)
        offset = float(series.offset or 0.0)
        if (factor, offset) != (1.0, 0.0):
            data = data * np.float64(factor) + offset
        rows = np.asarray(series.rois.data[:], dtype=np.int64)
        values[rows] = data[:, :n_frames].astype(np.float32)
    return values


def same_clock(times: list[np.ndarray]) -> bool:
    """Whether frames are at the same times, NaN where the other has NaN."""
    return all(np.array_equal(times[0], other, equal_nan=True) for other in times[1:])


def common_times(found: dict[str, list[Any]], turned: dict[str, bool], where: str) -> Any:
    """Find the times of the frames, those of the first name, and the names that have others.

    Planes of one recording may differ by a frame at the end: what all of them have is taken. By
    more they may not: a ValueError.
    """
    clocks = {
        key: [times_of(s, turned[s.object_id]) for s in items] for key, items in found.items()
    }
    time, cut, odd = None, [], []
    for key, own in clocks.items():
        least = min(t.size for t in own)
        if not same_clock([t[:least] for t in own]):
            odd.append(key)
            continue
        lengths = {s.name: t.size for s, t in zip(found[key], own, strict=True)}
        if max(lengths.values()) > least + 1:
            told = ", ".join(f"{name} has {size}" for name, size in lengths.items())
            raise ValueError(
                f"{where}: the planes of {key} have different numbers of frames: {told}; those of "
                "one recording differ by one at most, so the file is damaged or holds several "
                "recordings: read each series with pynwb"
            )
        if any(t.size > least for t in own):
            cut.append(key)
        if time is None:
            time = own[0][:least]
        elif not same_clock([time, own[0][:least]]):
            odd.append(key)
    if time is None:
        raise ValueError(
            f"{where}: the planes of {', '.join(odd)} have frames at different times, and traces "
            "here have one time; read each series with pynwb"
        )
    if cut:
        warn(
            f"{where}: the planes of {', '.join(cut)} have not the same number of frames; those "
            f"after the first {time.size} are left out"
        )
    if np.isnan(time).any():
        warn(
            f"{where}: {int(np.isnan(time).sum())} of {time.size} timestamps are NaN, the first of "
            f"frame {int(np.flatnonzero(np.isnan(time))[0])}; they are kept as they are, and steps "
            "on these traces will ask for others, as by assign_coords(time=...)"
        )
    known = np.flatnonzero(np.isfinite(time))
    back = known[1:][np.diff(time[known]) <= 0]
    if back.size:
        warn(
            f"{where}: its timestamps go back or repeat at frame {back[0]} ({time[back[0]]:g} s), "
            "as where recordings were joined; they are kept as they are, and steps on these traces "
            "will ask for times that go on, as by assign_coords(time=...)"
        )
    return time, odd
