"""Which frames count and which belong together: the coordinates ``valid`` and ``segment``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from xs2p._time import clock_of
from xs2p._warnings import warn

Labelled = TypeVar("Labelled", xr.DataArray, xr.Dataset)

VALID, SEGMENT, BAD = "valid", "segment", "badframes"
_VALID = {
    "long_name": "frames that count",
    "description": "Where False, a frame counts in nothing over time: baselines are interpolated "
    "over it, statistics pass it over, spks and dFF are NaN.",
}
_SEGMENT = {
    "long_name": "segment of the recording",
    "description": "Session, epoch or file that a frame is of; nothing over time crosses from one "
    "to the next.",
}
_GAP = 1.5  # steps of time, in frames, that are longer are gaps


def segment_coord(lengths: Sequence[int], names: Sequence[str] | None = None) -> xr.Variable:
    """Make the coordinate ``segment(time)`` of parts of so many frames: numbers from 0.

    ``names`` of the parts are kept in its attribute of that name.
    """
    numbers = np.repeat(np.arange(len(lengths), dtype=np.int32), lengths)
    more = {} if names is None else {"names": [str(name) for name in names]}
    return xr.Variable(("time",), numbers, {**_SEGMENT, **more})


def valid_coord(mask: np.ndarray) -> xr.Variable:
    """Make the coordinate ``valid`` of booleans ``(time,)`` or ``(roi, time)``."""
    return xr.Variable(("roi", "time")[-mask.ndim :], mask, _VALID)


def starts_of(array: xr.DataArray | xr.Dataset) -> tuple[int, ...]:
    """First frame of each segment, by the coordinate ``segment(time)``; ``(0,)`` without one.

    Raises
    ------
    ValueError
        If the coordinate is not of whole numbers or text over time, or a segment comes back.
    """
    if SEGMENT not in array.coords:
        return (0,)
    coord = array[SEGMENT]
    if coord.dims == ():
        return (0,)
    # Cut with the traces by ds.chunk, labels are lazy, and needed now.
    labels = coord.values if coord.chunks is None else coord.data.compute(scheduler="synchronous")
    if coord.dims != ("time",) or labels.dtype.kind not in "iubOUT":
        raise ValueError(
            f"segment must be whole numbers or names over time, it is {labels.dtype} over "
            f"{coord.dims}; give .assign_coords(segment=('time', labels))"
        )
    starts = np.flatnonzero(labels[1:] != labels[:-1]) + 1
    first = labels[[0, *starts]].tolist() if labels.size else []
    seen: set[Any] = set()
    for frame, label in zip((0, *starts.tolist()), first, strict=False):
        if label in seen:
            raise ValueError(
                f"segment {label!r} comes back at frame {frame}; frames of a segment must be next "
                "to each other: give each part a label of its own"
            )
        seen.add(label)
    return (0, *starts.tolist())


def spans_of(array: xr.DataArray | xr.Dataset) -> list[slice]:
    """Frames of each segment."""
    edges = (*starts_of(array), array.sizes["time"])
    return [slice(a, b) for a, b in zip(edges, edges[1:], strict=False)]


def valid_of(array: xr.DataArray | xr.Dataset) -> xr.DataArray | None:
    """Which frames count, boolean ``(time,)`` or ``(roi, time)``; None where all are known to.

    Raises
    ------
    ValueError
        If the coordinate ``valid`` is not boolean over time, or over roi and time.
    """
    if VALID not in array.coords:
        return None
    valid = array[VALID].reset_coords(drop=True)
    if valid.dtype != bool or set(valid.dims) not in ({"time"}, {"roi", "time"}, set()):
        raise ValueError(
            f"valid must be True or False over time, or over roi and time; it is {valid.dtype} "
            f"over {valid.dims}: give .assign_coords(valid=('time', mask)), with a boolean mask"
        )
    if not valid.dims:
        valid = valid.expand_dims(time=array.sizes["time"])
    valid = valid.transpose(..., "time")
    return None if valid.chunks is None and bool(valid.all()) else valid


def with_frames(array: Labelled, valid: Any = None, segments: Any = None) -> Labelled:
    """Add the coordinates ``valid`` and ``segment`` as a user gives them, checked.

    Parameters
    ----------
    array
        With a dim ``time``, and, for a ``valid`` over it, ``roi``.
    valid
        True or False for each frame, an array or a DataArray over ``time`` or ``(roi, time)``; or
        whole numbers, the frames to leave out; or the path of a ``.npy`` of these, as suite2p's
        ``bad_frames.npy`` (of booleans, True is a bad frame there); or ``"badframes"``, the
        coordinate that movies and traces of suite2p's have.
    segments
        A label for each frame, or ``"gaps"``: a segment ends where time steps on by more than 1.5
        frames.
    """
    coords = {}
    if valid is not None:
        coords[VALID] = _checked_valid(valid, array)
    if segments is not None:
        coords[SEGMENT] = _checked_segments(segments, array)
    return array.assign_coords(coords) if coords else array


def _checked_valid(valid: Any, array: xr.DataArray | xr.Dataset) -> xr.Variable:
    n_frames, told = array.sizes["time"], "valid"
    bad = False
    if isinstance(valid, str) and valid == BAD:
        if BAD not in array.coords:
            raise ValueError(
                "valid='badframes' takes what suite2p said of its frames, and the movie has no "
                "coordinate badframes; open suite2p's folder, or give its bad_frames.npy"
            )
        valid, bad = array[BAD], True
    elif isinstance(valid, str | os.PathLike):
        told, valid, bad = f"valid: {os.fspath(valid)}", _frames_in(os.fspath(valid)), True
    dims: tuple[Any, ...] = ("time",)
    if isinstance(valid, xr.DataArray):
        if {"roi", "time"} == set(valid.dims):
            valid, dims = _by_roi(valid, array), ("roi", "time")
        _check_times(valid, array)
    found = np.asarray(valid)
    if found.ndim == 1 and found.dtype.kind in "iu" or found.size == 0:
        found, bad = _listed(found, n_frames, told), True
    elif found.ndim == 2 and "roi" in array.dims:
        dims = ("roi", "time")
    sizes = tuple(array.sizes[dim] for dim in dims if dim in array.sizes)
    if found.dtype != bool or found.shape != sizes:
        raise ValueError(
            f"{told}: expected True or False for each of {n_frames} frames, or the numbers of the "
            f"frames to leave out; got {_shown(valid, found)}. By time: "
            "valid=(movie.time < 24) | (movie.time >= 27)"
        )
    found = ~found if bad else found.copy()
    if not found.any():
        raise ValueError(f"{told}: leaves no frame that counts; True is a frame that does")
    return xr.Variable(dims, found, _VALID)


def _shown(valid: Any, found: np.ndarray) -> str:
    return repr(valid) if not found.ndim else f"{found.dtype} of shape {found.shape}"


def _frames_in(path: str) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (ValueError, EOFError) as error:
        raise ValueError(
            f"valid: {path} is no .npy of frame numbers, or of a True for each bad frame: {error}"
        ) from error


def _listed(frames: np.ndarray, n_frames: int, told: str) -> np.ndarray:
    """Frames that are listed, as a mask."""
    outside = frames[(frames < 0) | (frames >= n_frames)]
    if outside.size:
        raise ValueError(
            f"{told}: frame {outside[0]} is to be left out, and frames go from 0 to {n_frames - 1}"
        )
    mask = np.zeros(n_frames, bool)
    mask[frames.astype(np.int64)] = True
    return mask


def _by_roi(valid: xr.DataArray, array: xr.DataArray | xr.Dataset) -> xr.DataArray:
    """Bring ``valid(roi, time)`` into the order of the ROIs."""
    if "roi" not in array.dims:
        raise ValueError(
            "valid over roi and time belongs to traces; of a movie give valid over time"
        )
    if {"roi"} <= set(valid.indexes) & set(array.indexes):
        missing = array.indexes["roi"].difference(valid.indexes["roi"])
        if missing.size:
            raise ValueError(f"valid says nothing of roi {missing[0]}; give it for every ROI")
        valid = valid.sel(roi=array["roi"])
    return valid.transpose("roi", "time")


def _check_times(valid: xr.DataArray, array: xr.DataArray | xr.Dataset) -> None:
    both = {"time"} <= set(valid.indexes) & set(array.indexes)
    if both and not valid.indexes["time"].equals(array.indexes["time"]):
        raise ValueError(
            "valid has other times than the frames; valid.reindex_like(movie.time) or "
            "valid.drop_vars('time') says what is meant"
        )


def _checked_segments(segments: Any, array: xr.DataArray | xr.Dataset) -> xr.Variable:
    n_frames = array.sizes["time"]
    if isinstance(segments, str):
        if segments != "gaps":
            raise ValueError(
                f"segments must be a label for each frame or 'gaps', got {segments!r}; segments "
                "of files are known to open_movie(paths, segments='files')"
            )
        clock = clock_of(array, array.attrs.get("fs"))
        if clock is None:
            raise ValueError("segments='gaps' needs a coordinate time, and there is none")
        edges = np.array([0, *gaps_of(array), n_frames])
        return segment_coord(np.diff(edges).tolist())
    if isinstance(segments, xr.DataArray):
        _check_times(segments, array)
    labels = np.asarray(segments)
    if labels.shape != (n_frames,):
        raise ValueError(
            f"segments: expected a label for each of {n_frames} frames, got an array of shape "
            f"{labels.shape}"
        )
    if labels.dtype.kind == "U":
        labels = labels.astype(object)  # of any length in a store, and one string for many frames
    variable = xr.Variable(("time",), labels, _SEGMENT)
    starts_of(xr.Dataset(coords={SEGMENT: variable}))
    return variable


def gaps_of(array: xr.DataArray | xr.Dataset) -> list[int]:
    """Frames before which time steps on by more than 1.5 of its usual steps."""
    clock = clock_of(array, array.attrs.get("fs"))
    if clock is None or clock.values.size < 2:
        return []
    return (np.flatnonzero(np.diff(clock.values) > _GAP * clock.step) + 1).tolist()


def warn_of_gaps(array: xr.DataArray | xr.Dataset, name: str) -> None:
    """Say where time makes a pause within a segment: filters go by frames, and not by time.

    Where a frame rate is given beside such times, the comparison of the two says it.
    """
    gaps = sorted(set(gaps_of(array)) - set(starts_of(array)))
    if not gaps:
        return
    times, frame = array["time"].values, gaps[0]
    more = f", and at {len(gaps) - 1} more" if len(gaps) > 1 else ""
    warn(
        f"time of {name} pauses before frame {frame}: {times[frame]} after {times[frame - 1]}"
        f"{more}. Baselines and spikes go from frame to frame as if there were no pause; "
        "segments='gaps' lets each part stand by itself"
    )


def by_segment(array: Labelled) -> list[Labelled]:
    """Parts of an array, one of each segment."""
    return [array.isel(time=span) for span in spans_of(array)]


def labels_of(array: xr.DataArray | xr.Dataset) -> xr.Variable:
    """Label of each segment, ``(segment,)``; the number 0 where nothing tells of segments."""
    if SEGMENT not in array.coords or array[SEGMENT].dims == ():
        label = array[SEGMENT].values[None] if SEGMENT in array.coords else np.zeros(1, np.int32)
        return xr.Variable((SEGMENT,), label, _SEGMENT)
    first = array[SEGMENT].variable[list(starts_of(array))].compute(scheduler="synchronous")
    return xr.Variable((SEGMENT,), first.values, first.attrs)


def names_of(array: xr.DataArray | xr.Dataset) -> list[str] | None:
    """Name of each segment, or its label where it has none; None where nothing tells of segments.

    Numbers find their names in the coordinate's attribute ``names``.
    """
    if SEGMENT not in array.coords or array[SEGMENT].dims != ("time",) or not array.sizes["time"]:
        return None
    return named(labels_of(array).values, array[SEGMENT].attrs.get("names"))


def named(labels: np.ndarray, names: Any) -> list[str]:
    """Name of each label of a segment; numbers find theirs in ``names``."""
    names = [names] if isinstance(names, str) else names  # as NetCDF gives back a list of one
    if isinstance(names, list | tuple | np.ndarray) and labels.dtype.kind in "iu":
        if 0 <= labels.min() and labels.max() < len(names):
            return [str(names[label]) for label in labels]
    return [str(label) for label in labels]
