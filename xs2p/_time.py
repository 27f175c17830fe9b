"""The times of frames: what they are in, whether they go on, and whether a frame rate is theirs."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._warnings import warn

_FRAMES = "frames"
# How many there are in a second.
_PER_SECOND = {"s": 1.0, "ms": 1e3, "µs": 1e6, "ns": 1e9, "min": 1 / 60, "h": 1 / 3600}
_SAME = 0.01  # steps that differ by less are of one frame rate
_KNOWN = {
    "s": "s sec secs second seconds",
    "ms": "ms msec msecs millisecond milliseconds",
    "µs": "us µs μs usec microsecond microseconds",
    "ns": "ns nanosecond nanoseconds",
    "min": "min mins minute minutes",
    "h": "h hr hour hours",
    _FRAMES: "frame frames sample samples index",
}
_UNITS = {word: unit for unit, words in _KNOWN.items() for word in words.split()}


def unit_of(word: Any) -> str:
    """Name a unit of time as here, however it is written; one that is not known as it is."""
    return _UNITS.get(str(word), str(word))


def per_second(unit: str) -> float | None:
    """How many of a unit there are in a second; None of frames and of what is not known."""
    return _PER_SECOND.get(unit)


class Clock(NamedTuple):
    """Times of frames as numbers of one unit."""

    values: np.ndarray
    """float64 ``(time,)``; NaN where a frame has no time."""
    unit: str
    """``"s"``, ``"ms"``, …, ``"frames"``, another that the array says, or ``""``: not known."""
    start: Any = None
    """The date that ``values`` are counted from, where the times are dates."""

    @property
    def step(self) -> float:
        """The usual step from frame to frame; NaN where there is none."""
        steps = np.diff(self.values)
        steps = steps[np.isfinite(steps)]
        return float(np.median(steps)) if steps.size else math.nan

    @property
    def label(self) -> str:
        """What an axis of these times is called."""
        if self.start is not None:
            return f"time ({self.unit} from {str(self.start).partition('.')[0]})"
        return f"time ({self.unit or 'no unit'})"

    def per_second(self, fs: float) -> float | None:
        """How many of the unit there are in a second, at so many frames in one."""
        return fs if self.unit == _FRAMES else per_second(self.unit)

    def at(self, when: Any) -> float:
        """Where a time lies: a number of the unit, or a date or a timedelta where these are."""
        if self.start is not None and not isinstance(when, float | int | np.number):
            start = self.start
            if isinstance(start, np.datetime64):
                return float((np.datetime64(when, "ns") - start) / np.timedelta64(1, "s"))
            return float((when - start).total_seconds())
        if isinstance(when, np.timedelta64) or hasattr(when, "total_seconds"):
            return float(np.timedelta64(when, "ns") / np.timedelta64(1, "s"))
        return float(when)


def clock_of(array: xr.DataArray | xr.Dataset, fs: float | None = None) -> Clock | None:
    """Read the coordinate ``time``; None where there is none, or one of no times (text, tuples).

    Numbers without ``units`` are recognised as s, ms or frame numbers by ``fs``, in Hz.
    """
    if "time" not in array.coords or array["time"].dims != ("time",):
        return None
    coord = array["time"]
    times = coord.values
    if times.dtype.kind == "m":
        return Clock(_seconds(times), "s")
    if times.dtype.kind == "M":
        known = times[~np.isnat(times)].astype("M8[ns]")
        start = known[0] if known.size else np.datetime64(0, "ns")
        return Clock(_seconds(times - start), "s", start)
    if times.dtype.kind == "O" and times.size and hasattr(times[0], "calendar"):  # cftime's
        return Clock(np.array([(t - times[0]).total_seconds() for t in times]), "s", times[0])
    if times.dtype.kind not in "iuf":
        return None
    named = coord.attrs.get("units")
    clock = Clock(times.astype(np.float64), unit_of(named or ""))
    if named is None and (fs or times.dtype.kind != "f"):
        clock = clock._replace(unit=_recognised(clock.step, fs))
    return clock


def seconds_of(array: xr.DataArray | xr.Dataset, fs: float, what: str) -> np.ndarray:
    """Time of each frame in s, from the first one on where there are dates; ``what`` is in s."""
    clock = clock_of(array, fs)
    if clock is None:
        return np.arange(array.sizes["time"]) / fs
    rate = clock.per_second(fs)
    if rate is None:
        name = getattr(array, "name", None) or ("ds" if isinstance(array, xr.Dataset) else "F")
        raise ValueError(
            f"{what} in seconds, and what time is in is not known ({clock.unit or 'no unit'}); "
            f"say it: {name}.time.attrs['units'] = 's'"
        )
    return clock.values / rate


def _seconds(times: np.ndarray) -> np.ndarray:
    return times / np.timedelta64(1, "s")


def _recognised(step: float, fs: float | None) -> str:
    """Find the unit of times that do not say it: the one in which frames come at ``fs``."""
    for unit in ("s", "ms", _FRAMES, "µs"):
        frames = step if unit == _FRAMES else step * (fs or math.nan) / _PER_SECOND[unit]
        if math.isclose(frames, 1.0, rel_tol=_SAME):
            return unit
    return ""


def rate_shown(array: xr.DataArray | xr.Dataset) -> float | None:
    """Frame rate in Hz that regular times show; None where they do not, or may be no times.

    Numbers without ``units`` that step by less than 1 are taken for seconds.
    """
    clock = clock_of(array)
    if clock is None or not clock.step > 0 or not np.isfinite(clock.values).all():
        return None
    per_second = _PER_SECOND.get(clock.unit or ("s" if clock.step < 1 else ""))
    steps = np.diff(clock.values)
    if per_second is None or (abs(steps - clock.step) > _SAME * clock.step).any():
        return None
    return float(f"{per_second * steps.size / steps.sum():.6g}")


def check_known(array: xr.DataArray | xr.Dataset, name: str, step: str = "") -> None:
    """Raise a ValueError where a frame has no time: NaN, or NaT; ``step`` is who asks."""
    clock = clock_of(array)
    lost = np.flatnonzero(~np.isfinite(clock.values)) if clock is not None else np.empty(0, int)
    if not lost.size:
        return
    first, times = lost[0], array["time"].values
    more = f", and of {lost.size - 1} more" if lost.size > 1 else ""
    raise ValueError(
        f"{step}time of {name} is {times[first]} at frame {first}{more}; {_mend(name, times.size)}"
    )


def check_increasing(
    array: xr.DataArray | xr.Dataset, name: str, *, allow_missing: bool = False
) -> None:
    """Raise a ValueError where time goes back or repeats, or a frame has none.

    ``allow_missing``: frames without a time, NaN or NaT, are passed over.
    """
    clock = clock_of(array)
    if clock is None:
        return
    known = np.flatnonzero(np.isfinite(clock.values))
    wrong = np.flatnonzero(np.diff(clock.values[known]) <= 0)
    if not wrong.size:
        if not allow_missing:
            check_known(array, name)
        return
    before, frame = known[wrong[0] : wrong[0] + 2].tolist()
    times = array["time"].values
    how = "repeats" if clock.values[frame] == clock.values[before] else "goes back"
    more = f", and at {wrong.size - 1} more" if wrong.size > 1 else ""
    raise ValueError(
        f"time of {name} {how} at frame {frame}: {times[frame]} after {times[before]} of frame "
        f"{before}{more}, as where recordings were joined: join them with xs2p.concat([a, b]), or "
        f"{_mend(name, times.size)}"
    )


def _mend(name: str, n_frames: int) -> str:
    return (
        f"give each frame a time of its own, as in {name}.assign_coords(time=('time', "
        f"numpy.arange({n_frames}) / fs, {{'units': 's'}}))"
    )


def check_rate(fs: float, array: xr.DataArray) -> None:
    """Raise where times no longer step as ``attrs["fs"]`` says."""
    told = _other_rate(fs, array)
    if told:
        raise ValueError(
            f"attrs['fs'] is {fs} Hz, but the time coordinate {told}, as after movie[::2]; say "
            "which is right: fs=..., or assign_attrs(fs=...)"
        )


def compare_rate(fs: float, array: xr.DataArray, opened: bool = False) -> None:
    """Warn where the times, which are kept, and ``fs`` are half a frame apart somewhere, or more.

    ``opened``: the same has been said when the movie was opened; only another rate is new.
    """
    told = _other_rate(fs, array)
    apart = "" if told and opened else _apart(fs, array)
    if told or (apart and not opened):
        told = f"the time coordinate {told}" if told else "the time coordinate is not that of it"
        warn(
            f"fs={fs:g} Hz is taken as the frame rate, but {told}{apart}; the times are kept as "
            "they are: give others with assign_coords(time=...) if they are wrong; where they "
            "pause, segments='gaps' lets each part stand by itself"
        )


def _other_rate(fs: float, array: xr.DataArray) -> str:
    """Say how times step, where it is not as a frame rate in Hz does."""
    clock = clock_of(array, fs)
    if clock is None or not math.isfinite(clock.step):
        return ""
    step, unit = clock.step, clock.unit
    if not unit:
        if "units" in array["time"].attrs:
            return ""
        return (
            f"steps by {step:g} and does not say its unit: in s that is {_hz(step)}, in ms "
            f"{_hz(step / 1e3)}, as frame numbers {fs / step if step else math.inf:g} Hz "
            "(time.attrs['units'] = 's', 'ms' or 'frames' says it)"
        )
    per_second = clock.per_second(fs)
    if per_second is None or math.isclose(step * fs, per_second, rel_tol=_SAME):
        return ""
    return f"steps by {step:g} {unit} ({_hz(step / per_second)})"


def _hz(seconds: float) -> str:
    return f"{1 / seconds if seconds else math.inf:g} Hz"


def _begins(array: xr.DataArray, known: np.ndarray) -> np.ndarray:
    """First frame with a time of the segment that each frame is in: a pause may be before it."""
    starts = np.zeros(1, np.int64)
    if "segment" in array.coords and array["segment"].dims == ("time",):
        labels = array["segment"].values
        starts = np.append(starts, np.flatnonzero(labels[1:] != labels[:-1]) + 1)
    lengths = np.diff(np.append(starts, known.size))
    spans = zip(starts, lengths, strict=True)
    first = [a + int(known[a : a + n].argmax()) for a, n in spans]
    return np.repeat(first, lengths)


def _apart(fs: float, array: xr.DataArray) -> str:
    """Say where times and a frame rate differ most, if that is more than half a frame."""
    clock = clock_of(array, fs)
    per_second = None if clock is None else clock.per_second(fs)
    if clock is None or per_second is None or not np.isfinite(clock.values).any():
        return ""
    frames = np.arange(clock.values.size)
    first = _begins(array, np.isfinite(clock.values))
    by_fs = clock.values[first] + (frames - first) * (per_second / fs)
    off = np.abs(clock.values - by_fs) * (fs / per_second)
    most = int(np.nanargmax(np.round(off, 3)))  # the first of those that are as far off
    if off[most] <= 0.5:
        return ""
    return (
        f": frame {most} is at {clock.values[most]:g} {clock.unit}, and by fs at {by_fs[most]:g} "
        f"{clock.unit}"
    )
