"""One session, epoch or file of a recording, by its name."""

from __future__ import annotations

from typing import Any, TypeVar

import xarray as xr

from xs2p._frames import SEGMENT, labels_of, named, names_of, spans_of

Recording = TypeVar("Recording", xr.DataArray, xr.Dataset)


def segment(recording: Recording, name: Any) -> Recording:
    """Choose one segment of a recording, by its name or its label.

    Parameters
    ----------
    recording
        Movie or traces with a dim ``time`` and the coordinate ``segment(time)``, lazy or not; or
        measures over a dim ``segment``, as ``by_segment=True`` makes them.
    name
        What the segment is called, such as ``"day 1"`` of ``xs2p.concat({"day 1": a, ...})``, or
        its label in the coordinate.

    Returns
    -------
    DataArray or Dataset
        Its frames, a view where the recording is in memory. Of measures, those of the segment.

    Raises
    ------
    ValueError
        If there is no such segment, or nothing tells of segments; the message lists them.

    Examples
    --------
    >>> import xs2p
    >>> movie = xs2p.sample_movie()
    >>> movie = xs2p.concat({"rest": movie[:200], "touch": movie[200:]}, gap=10)
    >>> movie.s2p.segment("touch").sizes["time"]
    300
    """
    if not isinstance(recording, xr.DataArray | xr.Dataset) or SEGMENT not in recording.coords:
        raise ValueError(
            "segment needs a coordinate segment, which tells of sessions, epochs or files; "
            "open_movie(..., segments=) and xs2p.concat make one"
        )
    over = recording[SEGMENT].dims
    if over == (SEGMENT,):
        labels = recording[SEGMENT].values
        names = named(labels, recording[SEGMENT].attrs.get("names"))
        return recording.isel(segment=_place(name, labels.tolist(), names))
    if over != ("time",):
        raise ValueError(f"segment must be over time or by itself; it is over {over}")
    place = _place(name, labels_of(recording).values.tolist(), names_of(recording) or [])
    return recording.isel(time=spans_of(recording)[place])


def _place(name: Any, labels: list[Any], names: list[str]) -> int:
    for known in (names, labels):
        if name in known and known.count(name) == 1:
            return known.index(name)
    shown = ", ".join(map(repr, names or labels))
    raise ValueError(f"there is no segment {name!r}; there are {shown}")
