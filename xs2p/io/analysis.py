"""Traces as the tools take them that analyse activity: Pynapple and Cascade."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import TRACES, check_complete, resolve
from xs2p._frames import gaps_of, named, starts_of, valid_of
from xs2p._time import check_increasing, check_known, seconds_of
from xs2p.compute.progress import compute
from xs2p.traces.measures import noise_level

if TYPE_CHECKING:
    import pynapple

_BEST = ("dFF", "Fc", "F")  # what is looked at, the first that is there


class Cascade(NamedTuple):
    """What Cascade predicts spike rates from."""

    dFF: np.ndarray
    """dF/F as a fraction (1 is 100 %), float32 ``(roi, time)``."""
    frame_rate: float
    """Frames per second, in Hz."""
    noise_levels: np.ndarray
    """ν of each ROI in % / √Hz, float32 ``(roi,)``, by which Cascade chooses among its networks."""
    roi: np.ndarray
    """Labels of the ROIs."""


def to_cascade(ds: xr.Dataset) -> Cascade:
    """Give dF/F as Cascade takes it, with the noise of each ROI beside.

    ``cascade.predict(model, found.dFF)`` wants a model for ``found.frame_rate``, and rows without
    NaN: ROIs that have no trace are left out.

    Parameters
    ----------
    ds
        Traces with ``dFF`` over ``(roi, time)``, as of ``extract(dff=True)`` or
        ``ds.s2p.reprocess(dff=True)``, and ``fs`` in its attributes.

    Returns
    -------
    Cascade
        ``dFF``, ``frame_rate``, ``noise_levels`` and the labels ``roi`` of their rows.

    Raises
    ------
    ValueError
        There is no ``dFF``, no frame rate, no ROI with a trace, or a trace has NaN in some frames:
        Cascade would make NaN of what lies near them.

    Notes
    -----
    ν is the median step of dF/F from a frame to the next over √fs, in per cent: Rupprecht et al.
    2021, doi:10.1038/s41593-021-00895-5. Frames that do not count and borders of segments are left
    out of it. ``dFF`` of xs2p is NaN in frames that do not count: leave them out before, by
    ``ds.isel(time=np.flatnonzero(ds.valid))``, or choose another stretch.

    Examples
    --------
    >>> import xs2p
    >>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), dff=True)
    >>> found = to_cascade(ds)
    >>> found.dFF.shape, found.frame_rate, found.noise_levels.dtype
    ((98, 500), 7.0, dtype('float32'))
    """
    _check(ds, "to_cascade")
    if "dFF" not in ds.data_vars or set(ds["dFF"].dims) != {"roi", "time"}:
        raise ValueError(
            "to_cascade needs dFF over (roi, time), which the Dataset has not; "
            "ds.s2p.reprocess(dff=True) makes it"
        )
    dFF = ds["dFF"].transpose("roi", "time")
    fs = resolve("fs", ds.attrs.get("fs"), dFF)
    both = compute(xr.Dataset({"dFF": dFF, "nu": noise_level(dFF, fs, "cpu")})).as_numpy()
    rows = _complete(both["dFF"], "to_cascade")
    labels = both["roi"].values
    values = both["dFF"].values[rows].astype(np.float32, copy=False)
    return Cascade(values, fs, both["nu"].values[rows], labels[rows])


def to_pynapple(ds: xr.Dataset, variable: str | None = None) -> Any:
    """Give traces as a ``TsdFrame`` of Pynapple, or events as a ``TsGroup``.

    Parameters
    ----------
    ds
        Traces ``(roi, time)`` with what is known of each ROI, or what :func:`xs2p.events` returns.
    variable
        Which traces: by default ``dFF``, else ``Fc``, else ``F``.

    Returns
    -------
    pynapple.TsdFrame or pynapple.TsGroup
        Of traces: a column for each ROI, by its label, times in s; coordinates and variables over
        ``roi`` are its metadata. Its time support has an interval for each stretch of frames that
        follow each other: it ends at the border of a segment, at a gap of time, and at frames that
        do not count (for no ROI), which are left out. ``pynapple.IntervalSet`` has the labels of
        segments as metadata. Of events: a ``Ts`` of onsets for each ROI that has any, with the
        number of its events and their mean amplitude.

    Raises
    ------
    ImportError
        Pynapple is not installed: ``pip install pynapple``.
    ValueError
        There are no such traces, or times are not known in seconds or do not go on.

    Examples
    --------
    >>> frame = to_pynapple(ds)                              # doctest: +SKIP
    >>> frame[:, frame.status == "ok"].get(10, 20)           # doctest: +SKIP
    >>> to_pynapple(xs2p.events(ds.spks)).count(1.0)         # doctest: +SKIP
    """
    nap = _pynapple()
    if isinstance(ds, xr.Dataset) and "event" in ds.dims:
        return _events(nap, ds)
    _check(ds, "to_pynapple")
    name = variable or next((n for n in _BEST if n in ds.data_vars), None)
    if name is None or name not in ds.data_vars or set(ds[name].dims) != {"roi", "time"}:
        there = [str(n) for n, v in ds.data_vars.items() if set(v.dims) == {"roi", "time"}]
        raise ValueError(
            f"to_pynapple: no traces {name or ' or '.join(_BEST)} over (roi, time) are in the "
            f"Dataset, which has {', '.join(there) or 'none'}; choose with variable="
        )
    check_increasing(ds[name], name)
    check_known(ds[name], name, "to_pynapple")
    fs = resolve("fs", ds.attrs.get("fs"), ds[name])
    seconds = seconds_of(ds[name], fs, "Pynapple's times are")
    support, counts = _support(nap, ds[name], seconds, fs)
    known = [str(n) for n, v in ds.variables.items() if v.dims == ("roi",) and n != "roi"]
    whole = compute(ds[[name]].assign({n: ds[n] for n in known})).as_numpy()
    labels = whole["roi"].values
    return nap.TsdFrame(
        t=seconds[counts],
        d=whole[name].transpose("time", "roi").values[counts],
        columns=labels,
        time_support=support,
        metadata={n: whole[n].values for n in known},
    )


def _pynapple() -> Any:
    try:
        import pynapple
    except ImportError as error:
        raise ImportError("to_pynapple needs Pynapple: pip install pynapple") from error
    return pynapple


def _check(ds: Any, step: str) -> None:
    if not isinstance(ds, xr.Dataset):
        raise ValueError(f"{step} takes a Dataset, got {type(ds).__name__}")
    check_complete(ds, step)
    if not any(name in ds.data_vars for name in TRACES):
        raise ValueError(
            f"{step} needs traces over (roi, time), the Dataset has "
            f"{', '.join(map(str, ds.data_vars)) or 'none'}"
        )


def _complete(dFF: xr.DataArray, step: str) -> np.ndarray:
    """Which rows have a trace; a row with NaN in some frames is refused."""
    lost = np.isnan(dFF.values)
    some = np.flatnonzero(lost.any(axis=1) & ~lost.all(axis=1))
    if some.size:
        raise ValueError(
            f"{step}: dFF is NaN in {int(lost[some[0]].sum())} of {lost.shape[1]} frames of roi "
            f"{dFF['roi'].values[some[0]]} (and of "
            f"{some.size - 1} more ROIs), near which Cascade would make NaN; choose frames that "
            "have numbers, as by ds.isel(time=np.flatnonzero(ds.valid))"
        )
    rows = np.flatnonzero(~lost.all(axis=1))
    if not rows.size:
        raise ValueError(f"{step}: no ROI has a trace: {dFF.sizes['roi']} are NaN in all frames")
    return rows


def _support(
    nap: Any, traces: xr.DataArray, seconds: np.ndarray, fs: float
) -> tuple[pynapple.IntervalSet, np.ndarray]:
    """Stretches of frames that follow each other and count, and which frames these are."""
    valid = valid_of(traces)
    here = np.ones((1, seconds.size), bool)
    if valid is not None:
        here = np.asarray(valid.compute().values).reshape(-1, seconds.size)
    here = np.asarray(here.any(axis=0))
    ends = np.zeros(seconds.size + 1, bool)
    ends[[0, seconds.size, *starts_of(traces), *gaps_of(traces)]] = True
    ends[1:-1] |= here[1:] != here[:-1]
    edges = np.flatnonzero(ends)
    spans = [(a, b) for a, b in zip(edges, edges[1:], strict=False) if here[a]]
    # A frame lasts: an interval of a single one would be empty.
    begin = [seconds[a] for a, _ in spans]
    end = [seconds[b - 1] + 0.5 / fs for _, b in spans]
    own = {"segment": [labels[a] for a, _ in spans]} if (labels := _segments(traces)) else None
    return nap.IntervalSet(begin, end, metadata=own), here


def _segments(traces: xr.DataArray) -> list[str]:
    """Name of the segment of each frame; none where there are no segments."""
    if "segment" not in traces.coords or traces["segment"].dims != ("time",):
        return []
    labels = traces["segment"]
    return named(labels.compute().values, labels.attrs.get("names"))


def _events(nap: Any, events: xr.Dataset) -> Any:
    """Onsets by ROI."""
    missing = {"roi", "onset", "amplitude", "duration"} - set(events.variables)
    if missing:
        raise ValueError(
            f"to_pynapple: the Dataset over event has no {', '.join(sorted(missing))}; "
            "xs2p.events(ds.spks) makes one"
        )
    if "channel" in events.variables:
        raise ValueError(
            "to_pynapple: events are of several channels; choose one: "
            "events.isel(event=events.channel == 0).drop_vars('channel')"
        )
    roi, onset = events["roi"].values, events["onset"].values
    labels, first = np.unique(roi, return_index=True)
    numbers = labels[np.argsort(first)]  # as they come
    rows = [np.flatnonzero(roi == label) for label in numbers]
    if not rows:
        raise ValueError("to_pynapple: there are no events, and a TsGroup of none has no times")
    if numbers.dtype.kind not in "iu":
        numbers = np.arange(len(rows))  # a TsGroup counts; the labels are among its metadata
    end = onset + events["duration"].values
    support = nap.IntervalSet(onset.min(), end.max())  # of all: one event alone has none
    return nap.TsGroup(
        {
            int(n): nap.Ts(np.sort(onset[here]), time_support=support)
            for n, here in zip(numbers, rows, strict=True)
        },
        time_support=support,
        metadata={
            "roi": roi[[here[0] for here in rows]],
            "events": [here.size for here in rows],
            "mean_amplitude": [float(events["amplitude"].values[here].mean()) for here in rows],
        },
    )
