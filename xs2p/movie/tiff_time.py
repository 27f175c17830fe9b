"""The frame rate that ImageJ and OME write into a TIFF file."""

from __future__ import annotations

import contextlib
import math
from typing import Any

# As programs spell them, in s. ImageJ leaves seconds out, as OME does by its schema.
_SECONDS = {
    **dict.fromkeys(("s", "sec", "secs", "second", "seconds"), 1.0),
    **dict.fromkeys(("ms", "msec", "millisecond", "milliseconds"), 1e-3),
    **dict.fromkeys(("us", "µs", "μs", "usec", "microsecond", "microseconds"), 1e-6),
    **dict.fromkeys(("min", "mins", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hrs", "hour", "hours"), 3600.0),
    **dict.fromkeys(("ns", "nsec", "nanosecond", "nanoseconds"), 1e-9),
}


def rate_of_tiff(tif: Any, kind: str) -> float | None:
    """Find times (volumes) per second, in Hz, of ImageJ's and OME's files; None where unsaid.

    Of ImageJ ``fps`` is how fast it plays a stack, and no rate.
    """
    steps: set[tuple[Any, Any]] = set()
    with contextlib.suppress(Exception):  # settings are free text
        if kind == "imagej":
            said = tif.imagej_metadata or {}
            steps = {(said.get("finterval"), said.get("tunit", "s"))}
        elif kind == "ome":
            steps = _of_ome(tif.ome_metadata)
    if len(steps) != 1:
        return None
    ((step, unit),) = steps
    try:
        seconds = float(step) * _SECONDS[str(unit).strip().lower()]
    except (TypeError, ValueError, KeyError):
        return None
    return 1 / seconds if math.isfinite(seconds) and seconds > 0 else None


def _of_ome(text: str) -> set[tuple[Any, Any]]:
    """``TimeIncrement`` and its unit of all images in OME's XML."""
    from xml.etree import ElementTree

    return {
        (pixels.get("TimeIncrement"), pixels.get("TimeIncrementUnit", "s"))
        for pixels in ElementTree.fromstring(text).iter()
        if pixels.tag.rpartition("}")[2] == "Pixels"
    }
