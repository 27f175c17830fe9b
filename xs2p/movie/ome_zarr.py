"""What OME-Zarr says: which array is the image, of which axes, and the scale of time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

_DIMS = {"t": "time", "c": "channel", "z": "plane", "y": "y", "x": "x"}
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


def find_image(node: Any, told: str) -> tuple[Any, tuple[str, ...]] | None:
    """Find the finest image of an OME-Zarr group, and the dims of its axes."""
    scales = (node.attrs.get("ome") or node.attrs).get("multiscales")
    if not scales:
        return None
    axes = [a["name"] if isinstance(a, dict) else a for a in scales[0].get("axes", "tczyx")]
    path = scales[0]["datasets"][0]["path"]
    if path not in node:
        raise ValueError(
            f"{told}: its OME metadata name the dataset {path!r}, which is not there: the store "
            "was copied in part, or its metadata are of another; variable= picks what is there, "
            f"{', '.join(sorted(node)) or 'nothing'}"
        )
    array = node[path]
    dims = tuple(_DIMS.get(axis, axis) for axis in axes)
    if set(dims) - set(_DIMS.values()) or "time" not in dims or dims[-2:] != ("y", "x"):
        raise ValueError(
            f"{told}: an OME-Zarr image of axes {axes} and shape {array.shape}, expected a movie "
            "with the axes t, y and x, and c and z where there are several"
        )
    return array, dims


def with_times(movie: xr.DataArray, attrs: Mapping[str, Any]) -> xr.DataArray:
    """Give a movie the times that the metadata of its group say."""
    from xs2p._attrs import time_attrs

    step = seconds_per_frame(attrs)
    if step is None:
        return movie
    seconds = np.arange(movie.sizes["time"]) * step
    timed = movie.assign_coords(time=("time", seconds, time_attrs()))
    return timed.assign_attrs(fs=1 / step)
