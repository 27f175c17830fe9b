"""Segments and frames that do not count, as intervals of time of an NWB file.

Segments are its ``epochs``, their label the first tag; runs of frames that do not count are its
``invalid_times``. A second tag says that they are xs2p's: what others call invalid, or an epoch, is
not taken for these when a file is read. Where a file has such tables already they stay as they are,
and ours are beside them.

NWB has no place for intervals of single ROIs. Of units it has: ``obs_intervals`` of the table of
``Units`` are those in which a unit was observed, and a column of that name in our table of ROIs
holds those in which an ROI counts. It is two arrays, however many intervals there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._frames import (
    SEGMENT,
    VALID,
    gaps_of,
    labels_of,
    names_of,
    spans_of,
    starts_of,
    valid_coord,
    valid_of,
    with_frames,
)
from xs2p._warnings import warn
from xs2p.io.nwb.columns import OBSERVED
from xs2p.io.nwb.events import add_events
from xs2p.io.nwb.parts import is_ours

if TYPE_CHECKING:
    Row = tuple[float, float, list[str]]

_NOT_VALID = "xs2p: frames that do not count"
_OF_SEGMENT = re.compile(r"xs2p: segment(?: (-?\d+))?")
# Table -> what ours is called where there is one of that name.
_OURS = {"invalid_times": "frames_that_do_not_count", "epochs": "segments"}
_CLOSE = 1e-3  # of a frame, within which times are the same
_CELLS = 1 << 26  # frames of ROIs that are looked at in one go


def add_intervals(
    pynwb: Any,
    nwbfile: Any,
    ds: xr.Dataset,
    clock: dict[str, Any],
    events: xr.Dataset | None,
    undo: ExitStack,
) -> None:
    """Add segments, frames that do not count and events; ``undo`` takes them away."""
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
    add_events(pynwb, nwbfile, events, ds, times, undo)


def _times_of(n_frames: int, clock: dict[str, Any]) -> tuple[np.ndarray, np.ndarray]:
    """When frames begin and end, in s: with the next one, or after the usual step."""
    if "rate" in clock:
        step = 1 / clock["rate"]
        times = clock["starting_time"] + np.arange(n_frames) * step
    else:
        times, frames = np.asarray(clock["timestamps"], float), np.arange(n_frames)
        known = np.isfinite(times)
        times = np.interp(frames, frames[known], times[known]) if known.any() else frames * 1.0
        step = _step(times) or 1.0
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


def observed(ds: xr.Dataset, where: np.ndarray, clock: dict[str, Any]) -> list[Any]:
    """Make the columns of a table of ROIs, those at ``where``, that say when each counts.

    There are none where ``valid`` is of all ROIs.
    """
    from hdmf.backends.hdf5.h5_utils import H5DataIO
    from hdmf.common import VectorData, VectorIndex

    valid = valid_of(ds)
    if valid is None or "roi" not in valid.dims:
        return []
    times, ends = _times_of(ds.sizes["time"], clock)
    begins, stops = np.zeros((2, times.size), bool)
    begins[[*starts_of(ds), *gaps_of(ds)]] = True  # nothing is observed in a pause
    stops[:-1], stops[-1] = begins[1:], True
    counts, found = [np.zeros(0, int)], [np.zeros((0, 2))]
    rows = max(1, _CELLS // times.size)
    for n in range(0, where.size, rows):
        counted = valid.isel(roi=where[n : n + rows]).values
        with_none = np.pad(counted, ((0, 0), (1, 1)))
        row, first = np.nonzero(counted & (begins | ~with_none[:, :-2]))
        _, last = np.nonzero(counted & (stops | ~with_none[:, 2:]))
        counts.append(np.bincount(row, minlength=len(counted)))
        found.append(np.stack([times[first], ends[last]], axis=1))
    spans = np.concatenate(found)
    column = VectorData(
        name=OBSERVED,
        description="intervals (start, stop) in s in which the ROI counts; in its other frames it "
        "does not, though there may be values",
        data=H5DataIO(spans, compression="gzip", shuffle=True) if spans.size else spans,
    )
    ends = np.cumsum(np.concatenate(counts))
    return [VectorIndex(name=f"{OBSERVED}_index", data=ends, target=column), column]


def with_intervals(ds: xr.Dataset, file: Any, tables: list[Any], path: str) -> xr.Dataset:
    """Add the coordinates ``valid`` and ``segment`` of traces, where a file of ours has them.

    ``tables`` are those of the ROIs, in their order.
    """
    rows = sorted(row for table in _tables(file) for row in _rows(table))
    times = ds["time"].values
    close = _CLOSE * _step(times)
    valid = _observed(tables, times, close)
    of = np.full(times.size, -1)
    labels: list[tuple[str, str | None]] = []
    for start, stop, tags in rows:
        inside = slice(*np.searchsorted(times, [start - close, stop - close]))
        if _NOT_VALID in tags:
            valid[..., inside] = False
        found = [match for tag in tags if (match := _OF_SEGMENT.fullmatch(tag))]
        if found:
            of[inside] = len(labels)
            labels.append((tags[0], found[0][1]))
    if not valid.all():
        ds = ds.assign_coords({VALID: valid_coord(valid)})
    if labels and (of < 0).any():
        warn(f"{path}: its segments are not of all frames; they are left out")
    elif labels:
        ds = _with_segments(ds, of, labels)
    return ds


def _observed(tables: list[Any], times: np.ndarray, close: float) -> np.ndarray:
    """Which frames count, of each ROI ``(roi, time)`` where a table of ours says it, of all."""
    if not any(is_ours(table) and OBSERVED in table.colnames for table in tables):
        return np.ones(times.size, bool)
    found = []
    for table in tables:
        if not (is_ours(table) and OBSERVED in table.colnames):
            found.append(np.ones((len(table), times.size), bool))
            continue
        index = table[OBSERVED]
        spans = np.asarray(index.target.data[:], np.float64).reshape(-1, 2)
        row = np.repeat(np.arange(len(table)), np.diff(np.asarray(index.data[:], int), prepend=0))
        edges = np.zeros((len(table), times.size + 1), np.int8)
        np.add.at(edges, (row, np.searchsorted(times, spans[:, 0] - close)), 1)
        np.add.at(edges, (row, np.searchsorted(times, spans[:, 1] - close)), -1)
        found.append(np.cumsum(edges, axis=1, dtype=np.int8)[:, :-1] > 0)
    return np.concatenate(found)


def _tables(file: Any) -> list[Any]:
    """Find all tables of intervals in a file."""
    own = [file.epochs, file.invalid_times, *file.intervals.values()]
    return [table for table in own if table is not None and "tags" in table.colnames]


def _rows(table: Any) -> Iterator[Row]:
    starts, stops = (np.asarray(table[key].data[:], float) for key in ("start_time", "stop_time"))
    for start, stop, tags in zip(starts.tolist(), stops.tolist(), table["tags"][:], strict=True):
        tags = [str(tag) for tag in tags]
        if _NOT_VALID in tags or any(map(_OF_SEGMENT.fullmatch, tags)):
            yield start, stop, tags


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
