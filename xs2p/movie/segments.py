"""Which file or folder each frame is of, and which frames suite2p calls bad."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._frames import BAD, SEGMENT, segment_coord
from xs2p._warnings import warn
from xs2p.disk.suite2p_ops import frames_said

if TYPE_CHECKING:
    from xs2p.movie.recording import Grid, Recording

BY_SOURCE = ("files", "folders")
_HOW = "give a label for each frame, segments=labels, or segments='gaps'"
_BAD = {
    "long_name": "frames that suite2p calls bad",
    "description": "True where badframes of suite2p's ops calls a frame bad; it is used only where "
    "valid='badframes' is given to extract or reprocess.",
}


def by_source(segments: Any) -> str | None:
    """Which of ``"files"`` and ``"folders"`` segments are asked by, if by one of them."""
    if isinstance(segments, str) and segments not in (*BY_SOURCE, "gaps"):
        raise ValueError(
            f"segments={segments!r}: expected 'files', 'folders', 'gaps' or a label for each frame"
        )
    return segments if isinstance(segments, str) and segments in BY_SOURCE else None


def refuse_segments(segments: str | None, told: str) -> None:
    """Raise where segments are asked by files of what is not in several."""
    if segments is not None:
        raise ValueError(
            f"segments={segments!r}: {told} does not say of which {segments} its frames are; {_HOW}"
        )


def of_files(grid: Grid, segments: str, told: str, given: Sequence[str]) -> xr.Variable:
    """Make the coordinate ``segment(time)`` of a recording of several files, or their folders.

    Where channels and planes come in turn, a frame is of the file that the turn begins in.
    """
    paths: list[str] = []
    every = [_file_of_frames(recording, paths) for recording in grid.flat]
    label = list(range(len(paths)))
    names = short_names([os.path.abspath(path) for path in paths])
    if segments == "folders":
        folders = [os.path.dirname(os.path.abspath(path)) for path in paths]
        found = list(dict.fromkeys(folders))
        label, names = [found.index(folder) for folder in folders], short_names(found)
    if len(names) == 1 and (segments == "folders" or given[0] == told):
        refuse_segments(segments, told)
    ofs = [np.array(label)[files] for files in every]
    counts = [np.bincount(of, minlength=len(names)) for of in ofs]
    edges = np.cumsum(counts, axis=1)
    if np.abs(edges - edges[0]).max() > 1 or any((np.diff(of) < 0).any() for of in ofs):
        raise ValueError(
            f"segments={segments!r}: the {segments} of {told} do not follow each other in time: "
            f"they hold channels or planes, or frames by turns; {_HOW}"
        )
    return segment_coord(counts[0].tolist(), names)


def of_cycles(of: Sequence[int], names: Sequence[str], segments: str, told: str) -> xr.Variable:
    """Make ``segment(time)`` of the cycles of a recording of Prairie View's, ``of`` each time.

    Cycles without a frame, as of a recording that was stopped, are none.
    """
    if segments != "files":
        refuse_segments(segments, repr(told))
    found, lengths = np.unique(of, return_counts=True)
    if found.size == 1:
        raise ValueError(
            f"segments={segments!r}: {told!r} has one cycle with frames, so there is nothing to "
            f"tell apart: leave segments out; or {_HOW}"
        )
    if lengths.max() == 1:
        raise ValueError(
            f"segments={segments!r}: each cycle of {told!r} is one frame or one volume, and no run "
            f"of them; {_HOW}"
        )
    return segment_coord(lengths.tolist(), [names[n] for n in found])


def _file_of_frames(recording: Recording, paths: list[str]) -> np.ndarray:
    """Place in ``paths`` of the file of each frame; those that are new are added to them."""
    from xs2p.movie.frames import ScatteredPages

    def place(path: str) -> int:
        if path not in paths:
            paths.append(path)
        return paths.index(path)

    parts = [np.empty(0, np.int64)]
    for run in recording.runs:
        frames = run.frames
        if isinstance(frames, ScatteredPages):
            files = [place(stamp.path) for stamp in frames.files]
            of = np.repeat(
                [files[file] for file, _, _ in frames.runs], [n for *_, n in frames.runs]
            )
            parts.append(of[run.first :: run.step][: run.count])
        else:
            parts.append(np.full(run.count, place(frames.stamp.path)))
    return np.concatenate(parts)


def short_names(paths: Sequence[str]) -> list[str]:
    """Names without the folders before them, where they still differ."""
    names = [re.split(r"[/\\]", path.rstrip("/\\"))[-1] for path in paths]
    return names if len(set(names)) == len(names) else list(paths)


def said_of_plane(
    folder: str, ops: Mapping[str, Any], n_frames: int, segments: str | None = None
) -> dict[str, xr.Variable]:
    """Coordinates over ``time`` that suite2p's ops say of a plane: ``badframes``, ``segment``.

    Raises
    ------
    ValueError
        If segments are asked for, and it says nothing of them, or of other numbers of frames.

    Warns
    -----
    UserWarning
        If ``badframes`` is not of so many frames: it is left out.
    """
    said = frames_said(folder, ops)
    found = {}
    if BAD in said:
        bad = np.asarray(said[BAD]).ravel()
        if bad.size == n_frames and bad.dtype.kind in "biuf" and np.isin(bad, (0, 1)).all():
            found[BAD] = xr.Variable(("time",), bad.astype(bool), _BAD)
        else:
            warn(
                f"{folder}: badframes of its ops are {bad.size} of {bad.dtype}, expected True or "
                f"False for each of {n_frames} frames; they are left out"
            )
    if segments is not None:
        found[SEGMENT] = _said_segments(folder, said, n_frames, segments)
    return found


def _said_segments(
    folder: str, said: Mapping[str, Any], n_frames: int, segments: str
) -> xr.Variable:
    if segments not in said:
        raise ValueError(
            f"segments={segments!r}: what suite2p says of {folder} has no frames_per_"
            f"{segments.removesuffix('s')}; {_HOW}"
        )
    lengths = np.asarray(said[segments]).ravel()
    if lengths.dtype.kind not in "iuf" or (lengths < 0).any() or (lengths % 1).any():
        raise ValueError(f"segments={segments!r}: {folder} has no numbers of frames: {lengths}")
    if lengths.sum() != n_frames:
        raise ValueError(
            f"segments={segments!r}: by suite2p's ops the {lengths.size} {segments} of {folder} "
            f"have {int(lengths.sum())} frames together, and there are {n_frames}; {_HOW}"
        )
    files, first = said.get("filelist"), said.get("first")
    names = [] if files is None else [str(name) for name in np.ravel(np.asarray(files, object))]
    if segments == "folders":
        begins = np.asarray([] if first is None else first).ravel().astype(bool)
        begins = begins if begins.size == len(names) else np.zeros(len(names), bool)
        names = [re.split(r"[/\\][^/\\]*$", names[n])[0] for n in np.flatnonzero(begins)]
    return segment_coord(
        lengths.astype(int).tolist(), short_names(names) if len(names) == lengths.size else None
    )


def of_planes(
    planes: Sequence[Mapping[str, xr.Variable]], n_frames: int, told: str
) -> dict[str, xr.Variable]:
    """Make one of what is said of each plane: bad in any is bad, and segments begin together."""
    found: dict[str, xr.Variable] = {}
    bad = [plane[BAD][:n_frames] for plane in planes if BAD in plane]
    if bad:
        found[BAD] = bad[0].copy(data=np.any([each.values for each in bad], axis=0))
        if len(planes) > 1:
            text = _BAD["description"].replace("a frame bad", "a frame bad in any plane")
            found[BAD].attrs["description"] = text
    segments = [plane[SEGMENT][:n_frames] for plane in planes if SEGMENT in plane]
    if segments:
        most = max(int(each.values.max(initial=0)) for each in segments) + 1
        edges = [np.searchsorted(each.values, np.arange(most)) for each in segments]
        off = int(np.abs(np.array(edges) - edges[0]).max())
        if off > 1:
            raise ValueError(
                f"{told}: segments of its planes begin up to {off} frames apart by suite2p's ops; "
                f"{_HOW}"
            )
        found[SEGMENT] = segments[0]
    return found
