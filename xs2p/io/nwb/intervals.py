"""Segments and frames that do not count, as intervals of time of an NWB file.

Segments are its ``epochs``, their label the first tag; runs of frames that do not count are its
``invalid_times``. A second tag says that they are xs2p's: what others call invalid, or an epoch, is
not taken for these when a file is read. Where a file has such tables already they stay as they are,
and ours are beside them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._frames import SEGMENT, labels_of, names_of, spans_of, valid_of, with_frames
from xs2p._warnings import warn

if TYPE_CHECKING:
    Row = tuple[float, float, list[str]]

_NOT_VALID = "xs2p: frames that do not count"
_OF_SEGMENT = re.compile(r"xs2p: segment(?: (-?\d+))?")
# Table -> what ours is called where there is one of that name.
_OURS = {"invalid_times": "frames_that_do_not_count", "epochs": "segments"}
_CLOSE = 1e-3  # of a frame, within which times are the same


def add_intervals(
    pynwb: Any, nwbfile: Any, ds: xr.Dataset, clock: dict[str, Any], undo: ExitStack
) -> None:
    """Add the segments of traces and the frames that do not count; ``undo`` takes them away."""
    times, ends = _times_of(ds.sizes["time"], clock)
    for name, rows in (
        ("invalid_times", list(_not_valid(ds, times, ends))),
        ("epochs", list(_segments(ds, times, ends))),
    ):
        if not rows:
            continue
        taken = getattr(nwbfile, name) is not None
        called = _OURS[name] if taken else name
        about = {
            "invalid_times": "frames that do not count, of the traces in the module ophys",
            "epochs": "segments of the recording: sessions, epochs or files",
        }[name]
        table = pynwb.epoch.TimeIntervals(name=called, description=about)
        for start, stop, tags in rows:
            table.add_row(start_time=start, stop_time=stop, tags=tags)
        if taken:
            nwbfile.add_time_intervals(table)
            undo.callback(nwbfile.intervals.pop, called)
        else:
            setattr(nwbfile, name, table)
            undo.callback(nwbfile.fields.pop, called)


def _times_of(n_frames: int, clock: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """When frames begin and end, in s: with the next one, or after the usual step."""
    if "rate" in clock:
        step = 1 / clock["rate"]
        times = clock["starting_time"] + np.arange(n_frames) * step
    else:
        times, frames = np.asarray(clock["timestamps"], float), np.arange(n_frames)
        known = np.isfinite(times)
        times = np.interp(frames, frames[known], times[known]) if known.any() else frames * 1.0
        step = _step(times)
    ends = times + step
    ends[:-1] = np.minimum(ends[:-1], times[1:])
    return times, ends


def _step(times: np.ndarray) -> float:
    return float(np.median(np.diff(times))) if times.size > 1 else 0.0


def _not_valid(ds: xr.Dataset, times: np.ndarray, ends: np.ndarray) -> Iterator[Row]:
    valid = valid_of(ds)
    if valid is None:
        return
    if "roi" in valid.dims:
        warn(
            "write_nwb: valid is of each ROI, and invalid_times of an NWB file are of all: those "
            "frames are in them that count for none"
        )
        valid = valid.any("roi")
    steps = np.diff(np.concatenate([[0], ~valid.values, [0]]))
    for first, stop in zip(np.flatnonzero(steps > 0), np.flatnonzero(steps < 0), strict=True):
        yield float(times[first]), float(ends[stop - 1]), [_NOT_VALID]


def _segments(ds: xr.Dataset, times: np.ndarray, ends: np.ndarray) -> Iterator[Row]:
    names = names_of(ds)
    if names is None:
        return
    for span, label, name in zip(spans_of(ds), labels_of(ds).values, names, strict=True):
        number = f" {label}" if isinstance(label, np.integer) else ""
        tags = [name, f"xs2p: segment{number}"]
        yield float(times[span.start]), float(ends[span.stop - 1]), tags


def with_intervals(ds: xr.Dataset, file: Any, path: str) -> xr.Dataset:
    """Add the coordinates ``valid`` and ``segment`` of traces, where a file of ours has them."""
    rows = sorted(row for table in _tables(file) for row in _rows(table))
    times = ds["time"].values
    close = _CLOSE * _step(times)
    valid = np.ones(times.size, bool)
    of = np.full(times.size, -1)
    labels: list[tuple[str, str | None]] = []
    for start, stop, tags in rows:
        inside = (times >= start - close) & (times < stop - close)
        if _NOT_VALID in tags:
            valid &= ~inside
        found = [match for tag in tags if (match := _OF_SEGMENT.fullmatch(tag))]
        if found:
            of[inside] = len(labels)
            labels.append((tags[0], found[0][1]))
    if not valid.all():
        ds = with_frames(ds, valid=valid)
    if labels and (of < 0).any():
        warn(f"{path}: its segments are not of all frames; they are left out")
    elif labels:
        ds = _with_segments(ds, of, labels)
    return ds


def _tables(file: Any) -> list[Any]:
    """Find all tables of intervals in a file."""
    own = [file.epochs, file.invalid_times, *file.intervals.values()]
    return [table for table in own if table is not None and "tags" in table.colnames]


def _rows(table: Any) -> Iterator[Row]:
    for n in range(len(table)):
        tags = [str(tag) for tag in table["tags"][n]]
        if _NOT_VALID in tags or any(map(_OF_SEGMENT.fullmatch, tags)):
            yield float(table["start_time"][n]), float(table["stop_time"][n]), tags


def _with_segments(
    ds: xr.Dataset, of: np.ndarray, labels: list[tuple[str, str | None]]
) -> xr.Dataset:
    if any(number is None for _, number in labels):
        return with_frames(ds, segments=np.array([name for name, _ in labels], object)[of])
    numbers = np.array([int(number or 0) for _, number in labels], np.int32)
    ds = with_frames(ds, segments=numbers[of])
    if [name for name, _ in labels] != [str(number) for number in numbers]:
        names = [""] * (int(numbers.max()) + 1)
        for number, (name, _) in zip(numbers.tolist(), labels, strict=True):
            names[number] = name
        ds[SEGMENT].attrs["names"] = names
    return ds
