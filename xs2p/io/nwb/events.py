"""Events of traces as a table of intervals of an NWB file."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._time import rate_shown, seconds_of

if TYPE_CHECKING:
    import xarray as xr

TABLE = "calcium_events"
_OF_EVENTS = ("roi", "onset", "amplitude", "duration")
_CLOSE = 1e-3  # of a frame, within which times are the same


def check_events(events: Any, ds: xr.Dataset, nwbfile: Any = None) -> None:
    """Raise unless ``events`` are such as :func:`xs2p.events` finds, of the traces at hand."""
    import xarray as xr

    if events is None:
        return
    if not isinstance(events, xr.Dataset) or "event" not in events.dims:
        raise ValueError(
            f"write_nwb: events is a {type(events).__name__}, expected the Dataset over event that "
            "xs2p.events(ds.spks) makes"
        )
    absent = [name for name in _OF_EVENTS if name not in events.variables]
    if absent:
        raise ValueError(f"write_nwb: events have no {', '.join(absent)}; xs2p.events makes them")
    strange = np.setdiff1d(events["roi"].values, ds["roi"].values)
    if strange.size:
        raise ValueError(
            f"write_nwb: events are of roi {strange[0]} ({strange.size} such ROIs), which the "
            "traces have not; choose those of them: events.isel(event=events.roi.isin(ds.roi))"
        )
    if TABLE in getattr(nwbfile, "intervals", {}):
        raise ValueError(
            f"write_nwb: nwbfile has a table {TABLE!r} already, and events go to one of that name"
        )
    _frames(events, ds)


def add_events(
    pynwb: Any,
    nwbfile: Any,
    events: xr.Dataset | None,
    ds: xr.Dataset,
    times: np.ndarray,
    undo: ExitStack,
) -> None:
    """Add a table with a row for each event; ``times`` of the frames are in s of the session."""
    from hdmf.common import ElementIdentifiers, VectorData

    if events is None:
        return
    start = times[_frames(events, ds)]
    order = np.argsort(start, kind="stable")  # intervals of NWB go on in time
    start, events = start[order], events.isel(event=order)
    stop = start + events["duration"].values
    known = {name: events[name] for name in ("amplitude", "size", "channel") if name in events}
    about = {
        "roi": "label of the ROI, the id of its row in PlaneSegmentation",
        "amplitude": "largest value of the run, in the units of the deconvolved trace",
        "size": "sum of the run, in the units of the deconvolved trace",
        "channel": "channel of the trace",
    }
    labels = events["roi"].values
    columns = {
        "start_time": (start, "time of the first frame of the event, in s"),
        "stop_time": (stop, "end of its last frame, in s"),
        "roi": (
            labels if labels.dtype.kind in "iu" else [str(each) for each in labels],
            about["roi"],
        ),
        **{name: (values.values, about[name]) for name, values in known.items()},
    }
    threshold = events.attrs.get("threshold")
    above = "" if threshold is None else f", above {threshold:g} standard deviations of its noise"
    table = pynwb.epoch.TimeIntervals(
        name=TABLE,
        description=f"events of the deconvolved traces: frames in a row{above}",
        id=ElementIdentifiers(name="id", data=np.arange(start.size)),
        columns=[VectorData(name=n, description=text, data=d) for n, (d, text) in columns.items()],
        colnames=list(columns),
    )
    nwbfile.add_time_intervals(table)
    undo.callback(nwbfile.intervals.pop, TABLE)


def _frames(events: xr.Dataset, ds: xr.Dataset) -> np.ndarray:
    """Frames that events begin at."""
    fs = events.attrs.get("fs", ds.attrs.get("fs", rate_shown(ds)))
    seconds = seconds_of(ds, float("nan") if fs is None else float(fs), "onsets of events are")
    onset = events["onset"].values
    step = float(np.median(np.diff(seconds))) if seconds.size > 1 else 1.0
    frames = np.searchsorted(seconds, onset - _CLOSE * step)
    near = np.abs(seconds[np.minimum(frames, seconds.size - 1)] - onset) <= _CLOSE * step
    if not near.all():
        raise ValueError(
            f"write_nwb: an event begins at {onset[~near][0]:g} s, and no frame of the traces is "
            "there: events must be of these traces, xs2p.events(ds.spks)"
        )
    return np.asarray(frames)
