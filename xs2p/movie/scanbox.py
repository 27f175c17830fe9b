"""Scanbox's ``.sbx``, frames without a header, and the ``.mat`` beside it that describes them.

A pixel's channels lie beside each other, pixels line by line, as 16 bits that are turned around:
65535 is dark. ``info`` of the ``.mat`` has ``sz`` (lines, pixels in a line), ``channels`` (1: both,
2 and 3: the first, the second) or ``chan.nchan``, ``resfreq`` (lines per second in one direction),
``scanmode`` (0: lines in both directions) and, with an optotune, ``volscan`` and ``otwave``.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import Frames, Stamp

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

_CHANNELS = {1: 2, 2: 1, 3: 1}
_DARK = np.uint16(65535)


@dataclass(frozen=True)
class SbxFrames(Frames):
    """Frames whose channels come in turn: frame ``t · channels + c``."""

    channels: int = 1

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames, bright where the sample is."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame, and of other times none."""
        self.stamp.check()
        n, ly, lx = self.shape
        shape = (n // self.channels, ly, lx, self.channels)
        stored = np.memmap(self.stamp.path, self.stored, "r", shape=shape)
        out = np.empty((count, ly, lx), self.dtype)
        for i, frame in enumerate(range(start, start + step * count, step)):
            time, channel = divmod(frame, self.channels)
            np.subtract(_DARK, stored[time, :, :, channel], out=out[i])
        return out


def sbx_stack(name: str) -> Stack:
    """Find the frames of a ``.sbx`` file by the ``.mat`` beside it."""
    from xs2p.movie.turns import Stack, Turn

    beside = os.path.splitext(name)[0] + ".mat"
    info = _info(name, beside)
    size = np.ravel(info.get("sz", ()))
    channels = _channels(info)
    if size.size != 2 or channels is None or min(size) < 1:
        raise ValueError(
            f"{beside}: info says the size of frames {size.tolist()} (sz) and {channels} channels, "
            "expected two numbers of pixels, and channels of 1, 2 or 3 or chan.nchan"
        )
    ly, lx = int(size[0]), int(size[1])
    planes = _planes(info)
    stamp = Stamp.of(name)
    volume = ly * lx * channels * 2
    if stamp.size == 0 or stamp.size % volume:
        raise ValueError(
            f"{name}: {stamp.size} bytes are not a multiple of the {volume} bytes of a frame of "
            f"{ly} x {lx} pixels and {channels} channels, as {os.path.basename(beside)} beside it "
            "says: it was cut, or is of another recording"
        )
    frames = SbxFrames(stamp, (stamp.size // volume * channels, ly, lx), "<u2", channels)
    turns = [Turn("plane", planes)] if planes > 1 else []
    turns += [Turn("channel", channels)] if channels > 1 else []
    return Stack(frames, turns=tuple(turns), fs=_rate(info, ly, planes))


def _info(name: str, beside: str) -> dict[str, Any]:
    from xs2p.disk.mat import load_mat, simple

    if not os.path.exists(beside):
        raise FileNotFoundError(
            f"open_movie: {name!r} has no header, and the file that describes it, {beside!r}, is "
            "not there; put it back"
        )
    info = load_mat(beside, ["info"]).get("info")
    if not isinstance(info, dict):
        raise ValueError(f"{beside}: holds no struct info, expected the file of Scanbox")
    found: dict[str, Any] = simple(info)
    return found


def _channels(info: dict[str, Any]) -> int | None:
    chan = info.get("chan")
    if isinstance(chan, dict) and chan.get("nchan") is not None:
        return int(chan["nchan"]) or None
    code = info.get("channels")
    return None if code is None else _CHANNELS.get(int(code))


def _planes(info: dict[str, Any]) -> int:
    """Count the settings of the optotune that frames come in turn of."""
    waves = info.get("otwave")
    return int(np.size(waves)) if info.get("volscan") and waves is not None else 1


def _rate(info: dict[str, Any], lines: int, planes: int) -> float | None:
    """Frames per second of each plane, in Hz: lines are scanned at ``resfreq``, or twice that."""
    if not info.get("resfreq"):
        return None
    directions = 2 if info.get("scanmode") is not None and not info["scanmode"] else 1
    return float(info["resfreq"]) * directions / lines / planes
