"""The axis of time: what it is called, and where it has gaps."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import parameters_in
from xs2p._frames import starts_of
from xs2p._time import Clock, check_increasing, clock_of

_GAP = 1.5  # times the usual step
_DOT = 5e-4  # of all the time that is shown: less than a pixel
_SHARE = 0.75  # of all steps, that are no longer than the usual one: planes may come in turn


class TimeAxis(NamedTuple):
    """Times of all frames, as an axis shows them."""

    values: np.ndarray
    """Places on the axis, float64 ``(time,)``."""
    label: str
    clock: Clock
    starts: tuple[int, ...] = (0,)
    """First frame of each segment."""
    fs: float | None = None
    """Frame rate in Hz, where the traces say it."""

    @property
    def runs(self) -> np.ndarray:
        """Which stretch each frame is in, without a gap and of one segment."""
        return stretches(self.values, starts=self.starts)

    @property
    def step(self) -> float:
        """How long a frame is."""
        return _usual(self.values)

    def at(self, when: Any) -> float:
        """Where a time lies: a number of the axis' unit, a date where these are, or a timedelta.

        Raises
        ------
        TypeError, ValueError
            If it is no time, or a timedelta and how long a unit is is not known.
        """
        if isinstance(when, np.timedelta64) or hasattr(when, "total_seconds"):
            return self.of_seconds(np.timedelta64(when, "ns") / np.timedelta64(1, "s"))
        return self.clock.at(when)

    def of_seconds(self, seconds: Any) -> Any:
        """Convert s to the unit of the axis.

        Raises
        ------
        ValueError
            If how long a unit is is not known.
        """
        rate = self.clock.per_second(math.nan if self.fs is None else self.fs)
        if rate is None or math.isnan(rate):
            way = "ds.time.attrs['units'] = 's'" if rate is None else "ds.attrs['fs'] = 30.0, in Hz"
            raise ValueError(
                f"are in s, and how many units of {self.label} a second has is not known; say it, "
                f"as in {way}"
            )
        return seconds * rate


def time_axis(ds: xr.Dataset, frames: np.ndarray | None = None) -> TimeAxis:
    """Give the times of the frames, and what the axis is called.

    ``frames`` are those that are shown, None all: their times are those of the whole recording.

    Raises
    ------
    ValueError
        If time goes back or repeats.
    """
    fs = _rate(ds)
    clock = clock_of(ds, fs)
    numbers = np.arange(ds.sizes["time"], dtype=np.float64)
    if clock is None:
        clock = Clock(numbers, "frames") if fs is None else Clock(numbers / fs, "s")
    places = _filled(clock.values, numbers)
    if frames is not None:
        ds = ds.isel(time=frames)
        places, clock = places[frames], clock._replace(values=clock.values[frames])
    check_increasing(ds, "ds", allow_missing=True)
    return TimeAxis(places, clock.label, clock, starts_of(ds), fs)


def _rate(ds: xr.Dataset) -> float | None:
    fs = parameters_in(ds).get("fs")
    return None if fs is None else float(fs)


def _filled(times: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Place a frame without a time between its neighbours."""
    known = np.isfinite(times)
    if known.all() or not known.any():
        return times if known.any() else frames
    return np.interp(frames, frames[known], times[known])


def _usual(times: np.ndarray) -> float:
    steps = np.diff(times)
    return float(np.quantile(steps, _SHARE, method="lower")) if steps.size else 1.0


def stretches(
    times: np.ndarray, most: int | None = None, starts: tuple[int, ...] = (0,)
) -> np.ndarray:
    """Tell, by a number from 0, which stretch without a gap in time each frame is in.

    A segment ends a stretch as a gap does.

    Parameters
    ----------
    times
        Of the frames, ``(time,)``, increasing.
    most
        How many gaps to tell at most: the longest. Of more segments none ends a stretch.
    starts
        First frame of each segment.

    Examples
    --------
    >>> stretches(np.array([0.0, 0.1, 0.2, 60.3, 60.4])).tolist()
    [0, 0, 0, 1, 1]
    """
    steps = np.diff(times)
    gap = steps > _GAP * _usual(times)
    borders = np.array(starts[1:], np.int64) - 1
    if most is None or borders.size <= most:
        gap[borders] = True
        steps[borders] = np.inf
    if most is not None and gap.sum() > most:
        gap &= steps >= np.sort(steps)[-most]
    return np.concatenate([np.zeros(min(times.size, 1), np.int64), np.cumsum(gap)])


def broken(
    times: np.ndarray, values: np.ndarray, runs: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Break a line where the stretch changes, by NaN; a frame alone in its own becomes a dot.

    Parameters
    ----------
    times, values, runs
        Of the samples that are drawn: place, value, and what :func:`stretches` says.

    Examples
    --------
    >>> broken(np.array([0.0, 1.0, 9.0, 10.0]), np.array([5, 6, 7, 8]), np.array([0, 0, 1, 1]))
    (array([ 0.,  1., nan,  9., 10.]), array([ 5.,  6., nan,  7.,  8.]))
    """
    new = np.flatnonzero(np.diff(runs)) + 1
    if not new.size:
        return times, values
    starts, stops = np.append(0, new), np.append(new, runs.size)
    alone = starts[times[starts] == times[stops - 1]]
    dots = times[alone] + _DOT * (times[-1] - times[0])  # no length is not drawn
    # Before NaN, which comes in front of the next stretch.
    at = np.concatenate([alone + 1, new])
    nothing = np.full(new.size, np.nan)
    return (
        np.insert(times, at, np.concatenate([dots, nothing])),
        np.insert(values.astype(np.float64), at, np.concatenate([values[alone], nothing])),
    )


def first_frames(
    times: np.ndarray, most: int, starts: tuple[int, ...] = (0,)
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut time into bins of equal numbers of frames, none of which reaches over a gap.

    ``starts`` are the first frames of segments, over whose ends none reaches either.

    Returns
    -------
    first : ndarray of int
        The first frame of each bin; no more than ``2 · most``.
    runs : ndarray of int
        The stretch that each bin is in.
    width : int
        Frames in a bin; one at the end of a stretch may have fewer.
    """
    width = 1 if times.size <= 2 * most else -(-times.size // most)
    runs = stretches(times, most, starts)
    begin = np.flatnonzero(np.diff(runs, prepend=-1))
    stops = np.append(begin[1:], times.size)
    first = np.concatenate(
        [np.arange(a, b, width) for a, b in zip(begin, stops, strict=True)] or [begin]
    )
    return first, runs[first], width


def frames_in(axis: TimeAxis, time: Any) -> slice:
    """Frames of a range of time, both ends included."""
    places = axis.values
    if time is None:
        return slice(0, places.size)
    try:
        start, end = (None if one is None else axis.at(one) for one in time)
    except (TypeError, ValueError):
        raise ValueError(
            f"time must be (start, end), as in time=(10, 20), on the axis {axis.label}; got "
            f"{time!r}"
        ) from None
    first = 0 if start is None else int(np.searchsorted(places, start, "left"))
    last = places.size if end is None else int(np.searchsorted(places, end, "right"))
    if last <= first:
        known = f"{places[0]:g} to {places[-1]:g}" if places.size else "nothing"
        raise ValueError(f"no frames in time={time!r}; {axis.label} goes from {known}")
    return slice(first, last)
