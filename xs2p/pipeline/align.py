"""Traces at the times of the frames, of ROIs that are scanned later than these."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import TRACES, check_complete, parameters_in, resolve
from xs2p._frames import warn_of_gaps
from xs2p._names import explain_names, without_other
from xs2p._time import check_increasing
from xs2p.compute.arrays import array_module, unread
from xs2p.compute.device import resolve_device
from xs2p.rois.offsets import OFFSET
from xs2p.traces.blocks import map_traces, ordered

_ALIGNED = "time_aligned"  # attribute of what is interpolated


@without_other
def align_time(ds: xr.Dataset, *, fs: float | None = None, **other: Any) -> xr.Dataset:
    """Interpolate traces to the times of their frames, where ROIs are scanned later than these.

    A frame takes time: an ROI at its end is scanned almost a frame after one at its beginning, one
    of the last plane almost a volume after one of the first. ``time_offset(roi)`` says by how much;
    nothing but this function takes it into account, and it is never called by itself.
    Interpolation smooths: noise gets less, and neighbouring frames share it.

    Parameters
    ----------
    ds
        Traces ``([channel,] roi, time)`` with the coordinate ``time_offset(roi)`` in s, of
        :func:`xs2p.extract` or given, as in ``ds.assign_coords(time_offset=("roi", seconds))``;
        lazy in any chunks or not.
    fs
        Frame rate in Hz, where ``ds`` does not say it.

    Returns
    -------
    Dataset
        As ``ds``, with every trace (``F``, ``Fneu``, ``Fc``, ``F0``, ``spks``, ``dFF`` …) at the
        times of the frames: ``(1 − w) · F[t] + w · F[t − 1]`` of an offset of w frames. Within each
        segment; NaN where one of the two frames is not there, does not count or is NaN. Without
        ``time_offset``, and with the attribute ``time_aligned`` of each trace.

    Raises
    ------
    ValueError
        If ``ds`` has no traces or no ``time_offset``, an offset is no number, or ``fs`` is not
        known or not the rate of the times.

    Examples
    --------
    >>> import xs2p
    >>> movie = xs2p.sample_movie().assign_attrs(line_period=0.002)
    >>> ds = movie.s2p.extract(xs2p.sample_rois())
    >>> float(ds.time_offset.max().round(3)), "time_offset" in align_time(ds).coords
    (0.124, False)
    """
    explain_names("align_time", align_time, other)
    names = _check(ds)
    offsets = np.asarray(ds[OFFSET].values, dtype=np.float64)
    if not np.isfinite(offsets).all():
        raise ValueError("every time_offset must be a finite number of seconds")
    known = parameters_in(ds)
    first = ds[names[0]].assign_attrs({"fs": known["fs"]} if "fs" in known else {})
    check_increasing(first, "ds")
    rate = resolve("fs", fs, first)
    if fs is None:
        warn_of_gaps(first, "ds")
    frames = (offsets * rate)[:, None]
    reach = math.ceil(float(np.abs(frames).max(initial=0.0))) + 1
    whole = resolve_device(None, unread(first), "the array of traces") != "cpu"
    made = {}
    for name in names:
        traces = ordered(ds[name].drop_vars(OFFSET))
        moved = map_traces(_moved, traces, frames, reach=reach, whole=whole)
        moved.attrs = {**ds[name].attrs, _ALIGNED: 1}
        made[name] = moved.transpose(*ds[name].dims)
    return ds.drop_vars(OFFSET).assign({name: array.variable for name, array in made.items()})


def _check(ds: Any) -> list[str]:
    """Return the names of the traces."""
    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"align_time takes a Dataset of traces, got {type(ds).__name__}; xs2p.extract(movie, "
            "rois, ...) makes one"
        )
    check_complete(ds, "align_time")
    names = [n for n in TRACES if n in ds.data_vars and {"roi", "time"} <= set(ds[n].dims)]
    if not names:
        raise ValueError(
            f"align_time needs traces over roi and time; ds has {sorted(map(str, ds.data_vars))}"
        )
    aligned = [name for name in names if _ALIGNED in ds[name].attrs]
    if aligned:
        raise ValueError(
            f"align_time: {', '.join(aligned)} of ds are at the times of frames already"
        )
    if OFFSET not in ds.coords or ds[OFFSET].dims != ("roi",):
        raise ValueError(
            "ds has no time_offset(roi), seconds from the time of a frame to that of the ROI: "
            "extract(movie.assign_attrs(line_period=..., plane_period=...), rois) makes it, "
            "ds.assign_coords(time_offset=('roi', seconds)) adds it"
        )
    return names


def _moved(F: Any, frames: np.ndarray) -> Any:
    """Traces ``(…, roi, time)`` at the times of frames, of samples that are ``frames`` later."""
    xp, n_frames = array_module(F), F.shape[-1]
    out = xp.full(F.shape, np.nan, np.float32)
    for row, late in enumerate(frames[:, 0].tolist()):
        whole = math.floor(late)
        if abs(whole) >= n_frames:
            continue
        share = np.float32(late - whole)
        some = F[..., row, :].astype(np.float32, copy=False)
        at = slice(max(whole, 0), n_frames + min(whole, 0))
        now = some[..., : n_frames - whole] if whole >= 0 else some[..., -whole:]
        if share == 0:
            out[..., row, at] = now
            continue
        # The sample before is one further back: the first has none.
        before = xp.concatenate([xp.full((*some.shape[:-1], 1), np.nan, np.float32), some], axis=-1)
        before = before[..., :-1]
        before = before[..., : n_frames - whole] if whole >= 0 else before[..., -whole:]
        out[..., row, at] = (1 - share) * now + share * before
    return out
