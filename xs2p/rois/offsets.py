"""When within a frame, or a volume, each ROI is scanned."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_number
from xs2p._warnings import warn
from xs2p.rois.pixels import planes_of

OFFSET = "time_offset"
_ATTRS = {
    "long_name": "time of the ROI within the frame",
    "units": "s",
    "description": "How long after the time of the frame the middle line of the ROI is scanned: "
    "plane · plane_period + med_y · line_period of the movie.",
}


class Periods(NamedTuple):
    """How a movie is scanned, in s; None where that is not known."""

    line: float | None = None
    plane: float | None = None


def check_periods(movie: xr.DataArray) -> Periods:
    """Take the attributes ``line_period`` and ``plane_period`` of a movie.

    Raises
    ------
    ValueError
        If one of them is no time.
    """
    found = []
    for name in ("line_period", "plane_period"):
        value = movie.attrs.get(name)
        if value is not None:
            check_number(f"movie.attrs[{name!r}]", value, 0.0, unit="seconds")
        found.append(None if value is None else float(value))
    return Periods(*found)


def with_offsets(rois: xr.Dataset, periods: Periods) -> xr.Dataset:
    """Add the coordinate ``time_offset(roi)`` to ROIs, where it is known how they are scanned."""
    if periods.line is None and periods.plane is None:
        return rois
    offsets = np.zeros(rois.sizes["roi"])
    if periods.line is not None:
        offsets += rois["med_y"].values * periods.line
    planes = planes_of(rois)
    if periods.plane is not None and planes is not None:
        if planes.dtype.kind not in "iuf":
            warn(
                "time_offset of ROIs is left out: the labels of planes are no numbers, which say "
                "how many planes are scanned before; ds.assign_coords(time_offset=('roi', "
                "seconds)) adds it, movie.drop_attrs() makes this silent"
            )
            return rois
        offsets += planes * periods.plane
    return rois.assign_coords({OFFSET: ("roi", offsets, _ATTRS)})
