"""What OME-Zarr says of time: the scale of its axis, where that has a unit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_SECONDS = {
    "second": 1.0, "millisecond": 1e-3, "microsecond": 1e-6, "nanosecond": 1e-9,
    "minute": 60.0, "hour": 3600.0,
}  # fmt: skip


def seconds_per_frame(attrs: Mapping[str, Any]) -> float | None:
    """Seconds from frame to frame; None where no unit says that the scale is of time."""
    image = ((attrs.get("ome") or attrs).get("multiscales") or [{}])[0]
    axes = image.get("axes", ())
    at = [i for i, axis in enumerate(axes) if isinstance(axis, Mapping) and axis.get("name") == "t"]
    if len(at) != 1 or axes[at[0]].get("unit") not in _SECONDS:
        return None
    step = _SECONDS[axes[at[0]]["unit"]]
    datasets = image.get("datasets") or [{}]
    for part in (image, datasets[0]):
        for change in part.get("coordinateTransformations", ()):
            scale = change.get("scale")
            if change.get("type") == "scale" and isinstance(scale, list) and len(scale) > at[0]:
                step *= float(scale[at[0]])
    return step if math.isfinite(step) and step > 0 else None


def with_times(movie: xr.DataArray, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Give a movie the times that the metadata of its group say."""
    from xs2p._attrs import time_attrs

    step = seconds_per_frame(attrs)
    if step is None:
        return movie
    seconds = np.arange(movie.sizes["time"]) * step
    timed = movie.assign_coords(time=("time", seconds, time_attrs()))
    return timed.assign_attrs(fs=1 / step)
