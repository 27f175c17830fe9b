"""When frames were taken, as series of an NWB file say it: a rate, or all the timestamps."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._frames import names_of, valid_of
from xs2p._time import check_increasing, check_known
from xs2p.io.nwb.file import SERIES
from xs2p.movie.check import rate_of

if TYPE_CHECKING:
    import xarray as xr

# Seconds of the units that times are said to be in.
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("ns", "nanosecond", "nanoseconds"), 1e-9),
    **dict.fromkeys(("min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
}
_MEND = "ds.assign_coords(time=('time', seconds, {'units': 's'}))"


def clock_of(ds: xr.Dataset, start: datetime.datetime | None) -> dict[str, Any]:
    """When frames were taken, as arguments of a series; ``start`` is that of the session."""
    first = ds[next(name for name in SERIES if name in ds)]
    fs = ds.attrs.get("fs", first.attrs.get("fs"))
    if "time" not in ds.coords:
        if fs is None:
            raise ValueError(
                "write_nwb: the frame rate is not known; give it in Hz: ds.attrs['fs'] = 30.0"
            )
        return {"rate": float(fs), "starting_time": 0.0}
    check_known(ds, "ds", "write_nwb: ")
    if valid_of(ds) is not None or names_of(ds) is not None:
        check_increasing(ds, "ds")  # intervals of time tell which frames these are
    time = _seconds(ds["time"], fs, start)
    rate = rate_of(time)
    if rate is None and time.size == 1 and fs is not None:
        rate = float(fs)
    if rate is None:
        return {"timestamps": time}
    # The rate that was given, where the times were made of it.
    if fs is not None and abs(rate / float(fs) - 1) < 1e-6:
        rate = float(fs)
    return {"rate": rate, "starting_time": float(time[0])}


def _seconds(time: xr.DataArray, fs: Any, start: datetime.datetime | None) -> np.ndarray:
    """Give times in s from the start of the session, or raise."""
    values, unit = time.values, time.attrs.get("units")
    if values.dtype == object and values.size and hasattr(values[0], "isoformat"):  # cftime
        try:
            values = np.array([value.isoformat() for value in values], "M8[us]")
        except ValueError as error:
            raise ValueError(
                f"write_nwb: time has dates of a calendar that is not ours ({error}); give {_MEND}"
            ) from error
    if values.dtype.kind == "m":
        # Exact nanoseconds would not fit where the unit is coarse and the span long.
        return _as_seconds(values)
    if values.dtype.kind == "M":
        return _since(values, start)
    if values.dtype.kind not in "iuf" or not (unit is None or str(unit).lower() in _SECONDS):
        raise ValueError(
            f"write_nwb: time is {values.dtype} in {unit or 'no unit'!r}, expected seconds from "
            f"the start of the session; give {_MEND}"
        )
    seconds = values.astype(np.float64)
    if unit is not None:
        return seconds * _SECONDS[str(unit).lower()]
    _check_without_unit(seconds, values.dtype.kind in "iu", fs)
    return seconds


def _as_seconds(spans: np.ndarray) -> np.ndarray:
    return np.where(np.isnat(spans), np.nan, spans / np.timedelta64(1, "s"))


def _since(dates: np.ndarray, start: datetime.datetime | None) -> np.ndarray:
    """Seconds from the start of the session to dates on the clock of its time zone."""
    if start is None:
        return _as_seconds(dates - dates[0])
    wall = np.datetime64(start.replace(tzinfo=None))
    seconds = _as_seconds(dates - wall)
    if np.nanmin(seconds) < 0:
        raise ValueError(
            f"write_nwb: the first frame was at {np.nanmin(dates)}, before the session began, "
            f"session_start_time={start}; dates are read on the clock of its time zone: give the "
            f"start there, or {_MEND}"
        )
    return seconds


def _check_without_unit(time: np.ndarray, whole: bool, fs: Any) -> None:
    """Raise where numbers without a unit are no seconds, as frame numbers and ms are not."""
    steps = np.diff(time)
    steps = steps[np.isfinite(steps)]
    step = float(np.median(steps)) if steps.size else 0.0
    if not step > 0:
        return
    if fs is None:
        if whole and step == 1:
            raise ValueError(
                "write_nwb: time has whole numbers without a unit, which look like frame numbers; "
                "say the frame rate in Hz, ds.drop_vars('time').assign_attrs(fs=30.0), or give "
                f"{_MEND}"
            )
        return
    rate = float(fs)
    # One frame in a hundred: the clocks of microscopes are nearer to what they are set to.
    regular = rate_of(time) is not None
    if (abs(step * rate - 1) < 0.01) if regular else (0.5 < step * rate < 2):
        return
    looks = "they may be seconds of another recording"
    if abs(step - 1) < 1e-6:
        looks = "they look like frame numbers"
    elif abs(step * rate / 1e3 - 1) < 0.01:
        looks = "they look like ms"
    elif abs(step * rate / 1e6 - 1) < 0.01:
        looks = "they look like µs"
    raise ValueError(
        f"write_nwb: fs={rate:g} Hz, and time has {step:g} a frame, without a unit: as seconds "
        f"that is {1 / step:g} Hz; {looks}. Leave time out, ds.drop_vars('time'), to write "
        f"fs={rate:g} Hz, or give {_MEND}"
    )
