"""Nikon's ``.nd2``, read by the library nd2: all channels of a frame lie together.

Frames are numbered over the loops of the experiment, the slowest first; a map at the end of the
file says where each of them is. The library gives zeros for one that is not in that map, so it is
looked at first.
"""

from __future__ import annotations

import contextlib
import math
import os
import struct
import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import Stamp
from xs2p.movie.microscopes import PlacedFrames, advice, clock, library, picked, shape_text

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

_LOOPS = {"TimeLoop": "T", "NETimeLoop": "T", "XYPosLoop": "P", "ZStackLoop": "Z"}
_MAP = b"ND2 CHUNK MAP SIGNATURE 0000001!"
_FRAME = b"ImageDataSeq|"
_HEADER = 24 + 4072  # bytes of a chunk before its pixels
_TIMES = "acquisition time that the ND2 file has of each frame, from the first on."


@dataclass(frozen=True)
class Nd2Frames(PlacedFrames):
    """Frames of one position: those of ``loops``, slowest first, then the channels.

    ``at`` is the place in each loop that is taken, -1 for all.
    """

    loops: tuple[int, ...] = ()
    at: tuple[int, ...] = ()
    channels: int = 1

    def numbers(self, wanted: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Numbers in the file of frames that are counted without the channels."""
        free = [n for n, at in zip(self.loops, self.at, strict=True) if at < 0]
        places = iter(np.unravel_index(wanted, free) if free else ())
        index = [np.full_like(wanted, at) if at >= 0 else next(places) for at in self.at]
        return np.asarray(np.ravel_multi_index(index, self.loops)) if index else wanted

    def fill(self, wanted: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        """Read the channels that are wanted; frames of the library are views into its map."""
        nd2 = library("nd2", self.stamp.path)
        pages, channels = np.divmod(wanted, self.channels)
        with nd2.ND2File(self.stamp.path) as file:
            last, every = -1, None
            for i, (page, channel) in enumerate(zip(self.numbers(pages), channels, strict=True)):
                if page != last or every is None:
                    every = file.read_frame(int(page)).reshape(self.channels, *self.shape[1:])
                    last = page
                out[i] = self.check(every[channel])
            del every


def nd2_stack(name: str, variable: str | None, plain: bool) -> Stack:
    """Find the frames of an ND2 file: of one position, and those that are really there."""
    from xs2p.movie.turns import Stack

    nd2 = library("nd2", name)
    stamp = Stamp.of(name)
    here = _places(name)
    with nd2.ND2File(name) as file:
        said = file.attributes
        _check_kind(name, said)
        loops = [(_LOOPS.get(loop.type, "U"), int(loop.count)) for loop in file.experiment]
        positions = _positions(file)
        stored = np.dtype(file.dtype)
        times = _times(file, len(here))
    channels, frame = int(said.channelCount or 1), (int(said.heightPx), int(said.widthPx))
    _check_there(name, here, stamp.size, frame, said)
    told = math.prod(n for _, n in loops)
    if len(here) > told:
        if not plain:
            raise ValueError(
                f"{name}: its metadata tell of {told} frames, and {len(here)} are in it, so which "
                "is which is not sure; say how they come, as in open_movie(path, order=('time',)), "
                "with planes= and channels= where there are several"
            )
        loops, positions = [("T", len(here))], positions[:1]
    others = [(letter, n) for letter, n in loops if letter != "P"]
    shown = {key: shape_text([*others, ("C", channels)], frame) for key in positions}
    chosen = positions.index(picked(name, "position", shown, variable))
    at = [chosen if letter == "P" and len(positions) > 1 else -1 for letter, _ in loops]
    axes = [axis for axis, place in zip(loops, at, strict=True) if place < 0] + [("C", channels)]
    shape = (math.prod(n for _, n in axes), *frame)
    sizes = tuple(n for _, n in loops)
    frames = Nd2Frames(stamp, shape, stored.str, sizes, tuple(at), channels)
    frames, axes, lacks = _whole(name, frames, axes, here)
    seconds, rate = _of_time(times, frames, axes)
    return Stack(
        frames,
        tuple(axes),
        said=True,
        lacks=lacks,
        fs=rate,
        times=seconds,
        times_by=_TIMES,
        mend=advice("nd2.imread(path)"),
    )


def _check_kind(name: str, said: Any) -> None:
    channels = int(said.channelCount or 1)
    if int(said.componentCount) != channels:
        raise ValueError(
            f"{name}: {said.componentCount} components in {channels} channels, expected grey "
            f"channels and not colours. {advice('nd2.imread(path)')}"
        )
    if said.compressionType == "lossy" or said.tileWidthPx or said.tileHeightPx:
        raise ValueError(
            f"{name}: its frames are compressed with losses or in tiles, which nd2 does not read; "
            "write them as TIFF in NIS-Elements (File > Export ND Document)"
        )


def _places(name: str) -> dict[int, int]:
    """Read the map at the end of a file: where the frames are that it has, by their number."""
    with open(name, "rb") as file:
        if file.read(4) == b"\x00\x00\x00\x0c":
            raise ValueError(
                f"{name}: an ND2 file of the older kind (JPEG 2000), which is not read here; write "
                "it anew as ND2 or TIFF in NIS-Elements"
            )
        file.seek(0, os.SEEK_END)
        size = file.tell()
        file.seek(max(0, size - 40))
        tail = file.read()
        start = struct.unpack("<Q", tail[32:])[0] if len(tail) == 40 else size
        if tail[:32] != _MAP or start + 16 > size:
            raise ValueError(
                f"{name}: its last bytes are not those of an ND2 file: it was cut while it was "
                "written or copied, or is none; copy it anew, or take the frames that are in it "
                "with nd2.rescue_nd2(path, frame_shape)"
            )
        file.seek(start)
        _, named, length = struct.unpack("<IIQ", file.read(16))
        file.seek(named, os.SEEK_CUR)
        if length > size:
            raise ValueError(f"{name}: a map of {length} bytes in {size}: the file is damaged")
        data = file.read(length)
    found, at = {}, 0
    others: list[int] = []
    while data[at : at + 32] != _MAP:
        end = data.find(b"!", at) + 1
        if not end:
            raise ValueError(f"{name}: the map of its frames does not end: the file is damaged")
        key = data[at:end]
        if key.startswith(_FRAME):
            found[int(key[len(_FRAME) : -1])] = struct.unpack_from("<Q", data, end)[0]
        else:
            others.append(struct.unpack_from("<Q", data, end)[0])
        at = end + 16
    _check_lengths(name, others, size)
    return found


def _check_lengths(name: str, places: list[int], size: int) -> None:
    """Raise where a chunk of settings claims more bytes than the file has."""
    with open(name, "rb") as file:
        for place in places:
            file.seek(min(place, size))
            head = file.read(16)
            named, length = struct.unpack("<4xIQ", head) if len(head) == 16 else (0, size)
            if place + 16 + named + length > size:
                raise ValueError(
                    f"{name}: its map has settings of {length} bytes at byte {place}, and the file "
                    f"has {size}: it is damaged"
                )


def _check_there(
    name: str, here: dict[int, int], size: int, frame: tuple[int, int], said: Any
) -> None:
    """Raise where the map tells of pixels that are after the end of the file."""
    if not here:
        raise ValueError(f"{name}: holds no frames")
    whole = 0 if said.compressionType else int(said.widthBytes or 0) * frame[0]
    outside = [number for number, start in here.items() if start + _HEADER + whole > size]
    if outside:
        raise ValueError(
            f"{name}: frame {min(outside)} is not whole in its {size} bytes: the file is damaged"
        )


def _positions(file: Any) -> list[str]:
    """Names of the positions, by their number where they have none of their own."""
    points = [loop.parameters.points for loop in file.experiment if loop.type == "XYPosLoop"]
    if len(points) != 1 or len(points[0]) < 2:
        return ["XYPos:0"]
    names = [str(point.name or f"XYPos:{i}") for i, point in enumerate(points[0])]
    return [key if names.count(key) == 1 else f"{key}:{i}" for i, key in enumerate(names)]


def _whole(
    name: str, frames: Nd2Frames, axes: list[tuple[str, int]], here: dict[int, int]
) -> tuple[Nd2Frames, list[tuple[str, int]], str]:
    """Leave out what a recording lacks at its end; one that lacks more is none."""
    numbers = frames.numbers(np.arange(frames.shape[0] // frames.channels))
    missing = np.array([number not in here for number in numbers.tolist()])
    if not missing.any():
        return frames, axes, ""
    first = int(missing.argmax())
    each = max(1, math.prod(n for _, n in axes[1:]) // frames.channels)
    kept = first // each
    if not missing[first:].all() or axes[0][0] != "T" or not kept:
        raise ValueError(
            f"{name}: its metadata tell of {missing.size} frames, and {int(missing.sum())} of "
            f"them, from number {int(numbers[first])} on, are not in it, so it is no whole movie. "
            "NIS-Elements can write those that are there as TIFF"
        )
    lacks = (
        f"its metadata tell of {missing.size} frames, and {first} are in it, as of a recording "
        f"that was stopped: the first {kept} times are whole, and taken"
    )
    shape = (kept * each * frames.channels, *frames.shape[1:])
    return replace(frames, shape=shape), [("T", kept), *axes[1:]], lacks


def _times(file: Any, number: int) -> np.ndarray | None:
    """Seconds of every frame, by its number in the file, where that has them."""
    with warnings.catch_warnings(), contextlib.suppress(Exception):  # free text, in parts
        warnings.simplefilter("ignore")
        found = {
            int(event["Index"]): float(event["Time [s]"])
            for event in file.events()
            if "Index" in event and "Time [s]" in event
        }
        if found:
            times = np.full(max(number, *found) + 1, np.nan)
            times[list(found)] = list(found.values())
            return times
    return None


def _of_time(
    times: np.ndarray | None, frames: Nd2Frames, axes: list[tuple[str, int]]
) -> tuple[np.ndarray | None, float | None]:
    """Take the times of the first plane of each volume, where time is the slowest loop."""
    loops = [axis for axis in axes if axis[1] > 1 and axis[0] != "C"]
    if times is None or not loops or loops[0][0] != "T":
        return None, None
    numbers = frames.numbers(np.arange(frames.shape[0] // frames.channels))
    if numbers.max() >= times.size:
        return None, None
    return clock(times[numbers].reshape(loops[0][1], -1)[:, 0], loops[0][1])
