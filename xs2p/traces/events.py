"""Events of deconvolved traces: when something happened, and how much."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, attributes, check_number, resolve
from xs2p._frames import starts_of
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing, seconds_of
from xs2p._warnings import warn
from xs2p.compute.arrays import to_host
from xs2p.traces.blocks import check_traces, ordered
from xs2p.traces.pieces import counted
from xs2p.traces.reductions import whole_in_time

_SIGMA = 1.4826  # of a normal distribution around 0, over the median of what is above 0


@without_other
def events(
    spks: xr.DataArray, threshold: float = 3, *, fs: float | None = None, **other: Any
) -> xr.Dataset:
    """Find events: runs of frames in which deconvolved fluorescence is above a threshold.

    Parameters
    ----------
    spks
        Deconvolved traces with a dim ``time``, as ``(roi, time)``, of :func:`xs2p.deconvolve`.
        Lazy ones are computed now, all of time of some ROIs in one chunk, and no more is kept of a
        chunk than its events.
    threshold
        In ``sigma`` of the trace, ``1.4826 · median`` of its values above 0: were all of these
        noise around 0, that would be their standard deviation. 0 takes every frame above 0, which
        is right for spikes with ``s_min``.
    fs
        Frame rate in Hz; by default ``spks.attrs["fs"]``.

    Returns
    -------
    Dataset
        Over ``event``, ordered by ROI and then by time:

        - ``roi``, its label, or its number where there are none (and ``channel``, of several);
        - ``onset``, the time of the first frame, in s: of the coordinate ``time``, from the first
          frame on where that has dates, and else the number of the frame over ``fs``;
        - ``amplitude`` and ``size``, the largest value and the sum, in the units of ``spks``;
        - ``duration``, how many frames it has, over ``fs``, in s.

        A run ends where a segment ends, and at frames that do not count. ``.to_dataframe()`` makes
        a table of it.

    Raises
    ------
    ValueError
        If ``fs`` or ``threshold`` do not fit, or the times cannot be told in seconds.

    Warns
    -----
    UserWarning
        ``spks`` were made with ``s_min`` and ``threshold`` is not 0.

    Examples
    --------
    >>> spks = xr.DataArray([[0.0, 0.1, 0.0, 0.1, 2.0, 1.0, 0.1, 0.0]], dims=("roi", "time"))
    >>> events(spks, fs=2.0).to_dataframe().to_dict("records")
    [{'roi': 0, 'onset': 2.0, 'amplitude': 2.0, 'size': 3.0, 'duration': 1.0}]
    """
    explain_names("events", events, other)
    check_traces(spks, "events")
    check_increasing(spks, "spks")
    check_number("threshold", threshold, 0.0)
    fs = resolve("fs", fs, spks)
    if threshold and "s_min" in spks.attrs:
        warn(
            f"spks were made with s_min={spks.attrs['s_min']}, and are no noise: threshold=0 takes "
            f"every one of them, threshold={threshold} may take none"
        )
    spks = ordered(spks)
    seconds = seconds_of(spks, fs, "onsets are")
    trace, frame, length, amplitude, size = _found(counted(spks), float(threshold))
    units = {"units": spks.attrs.get("units", ARBITRARY)}
    ds = xr.Dataset(
        {
            **_labels(spks, trace.astype(np.int64)),
            "onset": ("event", seconds[frame.astype(np.int64)], {"units": "s"}),
            "amplitude": ("event", amplitude.astype(np.float32), units),
            "size": ("event", size.astype(np.float32), units),
            "duration": ("event", length / fs, {"units": "s"}),
        },
        attrs=attributes(fs=fs, threshold=float(threshold)),
    )
    for name, what in _DESCRIBED.items():
        ds[name].attrs |= {"long_name": f"{name} of the event", "description": what}
    return ds


_DESCRIBED = {
    "onset": "Time of the first frame above the threshold.",
    "amplitude": "Largest value of the run: grows with the spikes of one frame, and is no number.",
    "size": "Sum of the run: grows with its spikes as long as the indicator is not saturated.",
    "duration": "Frames above the threshold in a row, over fs.",
}


def _labels(spks: xr.DataArray, trace: np.ndarray) -> dict[str, Any]:
    """Labels of the traces that events are of, by dim."""
    dims = spks.dims[:-1]
    numbers = np.unravel_index(trace, spks.shape[:-1]) if dims else ()
    found: dict[str, Any] = {}
    for dim, number in list(zip(dims, numbers, strict=True))[::-1]:
        labels = spks[dim].values if dim in spks.coords else np.arange(spks.sizes[dim])
        found[str(dim)] = ("event", labels[number])
    return found


def _found(spks: xr.DataArray, threshold: float) -> np.ndarray:
    """Events of checked traces: trace, frame, frames, largest value and sum, float64 ``(5, n)``."""
    starts = starts_of(spks)
    if spks.chunks is None:
        return _events_of(spks.data, threshold, starts)
    import dask

    traces = whole_in_time(spks.data)
    numbers = np.arange(int(np.prod(spks.shape[:-1]))).reshape(spks.shape[:-1])
    edges = [np.cumsum((0, *chunks)) for chunks in traces.chunks[:-1]]
    parts, own = [], []
    for place, block in np.ndenumerate(traces.to_delayed()):
        some = tuple(slice(e[k], e[k + 1]) for e, k in zip(edges, place[:-1], strict=True))
        parts.append(dask.delayed(_events_of)(block, threshold, starts))
        own.append(numbers[some].ravel())
    found = []
    for part, of_block in zip(dask.compute(*parts), own, strict=True):
        part[0] = of_block[part[0].astype(np.int64)]
        found.append(part)
    joined = np.concatenate(found, axis=1)
    return joined[:, np.lexsort((joined[1], joined[0]))]


def _events_of(traces: Any, threshold: float, starts: tuple[int, ...]) -> np.ndarray:
    rows = to_host(traces).reshape(-1, traces.shape[-1])
    found = [_of_trace(row, n, threshold, starts) for n, row in enumerate(rows)]
    return np.concatenate(found, axis=1) if found else np.zeros((5, 0))


def _of_trace(s: np.ndarray, number: int, threshold: float, starts: tuple[int, ...]) -> np.ndarray:
    above = s[s > 0]
    if not above.size:
        return np.zeros((5, 0))
    on = s > threshold * _SIGMA * np.median(above.astype(np.float64))
    goes_on = np.zeros(s.size, bool)
    goes_on[1:] = on[:-1]
    goes_on[list(starts)] = False
    first = np.flatnonzero(on & ~goes_on)
    ends = np.append(~(on & goes_on)[1:], True)
    length = np.flatnonzero(on & ends) - first + 1
    values = np.where(on, s, 0).astype(np.float64)
    size = np.add.reduceat(values, first) if first.size else values[:0]
    largest = np.maximum.reduceat(values, first) if first.size else values[:0]
    return np.stack([np.full(first.size, float(number)), first, length, largest, size])
