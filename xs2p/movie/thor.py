"""Raw recordings of Thorlabs' ThorImage LS, and the ``Experiment.xml`` beside them.

``Image_001_001.raw`` holds 16-bit unsigned frames without a header: of each time the planes, of
each plane the channels. ``Experiment.xml`` says their size (``LSM`` ``pixelX``, ``pixelY``, or
``Camera`` ``width``, ``height``), the channels (``Wavelengths``: a ``Wavelength`` for each, and the
bits of ``ChannelEnable`` ``Set``), whether the file has only these or all four (``RawData``
``onlyEnabledChannels``), planes (``ZStage`` ``steps``) and frames of the fly-back after them
(``Streaming`` ``flybackFrames``) where ``zFastEnable`` is set, and the rate of frames before they
are averaged (``LSM`` ``frameRate``, ``averageMode``, ``averageNum``).
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import RawFrames, Stamp
from xs2p.movie.sources import thor_file

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from xs2p.movie.turns import Stack

_ALL = 4  # channels of the detector
_DTYPE = np.dtype("<u2")
_ORDER = "order=('time', 'plane', 'channel') with planes= and channels="


@dataclass(frozen=True)
class ChosenFrames(RawFrames):
    """Frames of some channels alone, of a file in which ``of`` of them come in turn."""

    of: int = 1
    kept: tuple[int, ...] = (0,)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames, and none of the other channels."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame, counted among those of the chosen channels."""
        turns = -(-self.shape[0] // len(self.kept))
        whole = RawFrames(self.stamp, (turns * self.of, *self.shape[1:]), self.stored)
        out = np.empty((count, *self.shape[1:]), self.dtype)
        for i in range(count):
            turn, at = divmod(start + i * step, len(self.kept))
            first = turn * self.of + self.kept[at]
            out[i] = whole.read(first, first + 1)[0]
        return out


def thor_stack(
    name: str,
    names: Sequence[str],
    described: str,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    turns: dict[str, Any],
) -> Stack:
    """Find the frames of a raw file, one of ``names``, by the XML file beside it.

    ``turns`` are what the user says of channels and planes.
    """
    from xs2p.movie.turns import Stack, Turn

    root = thor_root(described)
    if dtype is not None and dtype.newbyteorder("=") != _DTYPE.newbyteorder("="):
        raise ValueError(
            f"dtype={dtype} disagrees with {described}: ThorImage writes uint16 into {name}; leave "
            "dtype out, or move the .raw file, if it is of another program, out of this folder"
        )
    size = _frame(root, described, frame)
    stamp = Stamp.of(name)
    frame_bytes = math.prod(size) * _DTYPE.itemsize
    if stamp.size == 0 or stamp.size % frame_bytes:
        raise ValueError(
            f"{name}: {stamp.size} bytes are not a multiple of the {frame_bytes} bytes of a frame "
            f"of {size[0]} x {size[1]} pixels (uint16), as {described} says: the file was cut, or "
            "is of another recording"
        )
    frames = RawFrames(stamp, (stamp.size // frame_bytes, *size), _DTYPE.str)
    if turns["order"] is not None:  # the user's word for how frames come in turn
        return Stack(frames)
    planes, flyback = _planes(root, described)
    period = planes + flyback
    channels = _channels(root, described)
    number = sum(os.path.getsize(part) for part in names) // frame_bytes
    stored = _stored(root, described, len(channels), number, period, turns["channels"])
    rate, note = _rate(root, period)
    return Stack(
        _chosen(frames, stored, tuple(channels.values()), len(names) > 1),
        turns=(Turn("plane", period, planes), Turn("channel", len(channels))),
        note=note,
        lacks=_lacks(_frames_told(root), number, stored, period, described),
        fs=rate,
        channels=tuple(place + 1 for place in channels.values()),
    )


def _chosen(frames: RawFrames, stored: int, kept: tuple[int, ...], goes_on: bool) -> RawFrames:
    """Leave out the channels that were off, where the file has them too."""
    if stored == len(kept):
        return frames
    whole, rest = divmod(frames.shape[0], stored)
    if rest and goes_on:
        raise ValueError(
            f"{frames.stamp.path}: {frames.shape[0]} frames are not a multiple of the {stored} "
            "channels in it, and other files come with it: it was cut"
        )
    number = whole * len(kept) + sum(place < rest for place in kept)
    shape = (number, *frames.shape[1:])
    return ChosenFrames(frames.stamp, shape, frames.stored, of=stored, kept=kept)


def one_recording(names: Sequence[str], folder: str) -> list[str]:
    """Raw files of a folder, in natural order, where they are one recording; else raise.

    They are where ``Experiment.xml`` tells of as many frames as they have together.
    """
    if len(names) == 1:
        return list(names)
    described = thor_file(names[0]) or ""
    root = thor_root(described)
    told, channels = _frames_told(root), _channels(root, described)
    frame_bytes = math.prod(_frame(root, described, None)) * _DTYPE.itemsize
    sizes = [os.path.getsize(name) for name in names]
    if told and sum(sizes) in {told * n * frame_bytes for n in (len(channels), _ALL)}:
        return list(names)
    listed = ", ".join(os.path.basename(name) for name in names)
    raise ValueError(
        f"open_movie: the folder {folder!r} holds {len(names)} .raw files, {listed}, and "
        f"Experiment.xml tells of {told or 'no'} frames, not of as many as they have together: "
        f"they are recordings of their own, so open one, as in open_movie({names[0]!r}); files "
        "that go on from each other can be given in a list"
    )


def thor_root(path: str) -> Element:
    """Parse an ``Experiment.xml``."""
    from xml.etree import ElementTree

    try:
        root = ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{path}: no XML file can be read ({error})") from error
    if root.tag != "ThorImageExperiment":
        raise ValueError(f"{path}: <{root.tag}>, expected <ThorImageExperiment> of ThorImage")
    return root


def _number(root: Element, path: str, key: str, default: int = 0) -> int:
    """Attribute of an element as a whole number; flags may be ``True`` too."""
    element = root.find(path)
    text = "" if element is None else element.get(key, "").strip()
    if text.lower() in ("true", "false"):
        return int(text.lower() == "true")
    try:
        value = float(text) if text else float(default)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value != int(value):
        raise ValueError(f"<{path}> has {key}={text!r}, expected a whole number")
    return int(value)


def _frame(root: Element, described: str, given: tuple[int, int] | None) -> tuple[int, int]:
    """``(Ly, Lx)`` of the detector that recorded: the scanner's, or the camera's."""
    scanner = _number(root, "LSM", "pixelY"), _number(root, "LSM", "pixelX")
    camera = _number(root, "Camera", "height"), _number(root, "Camera", "width")
    modality = root.find("Modality")
    kind = "" if modality is None else modality.get("primaryDetectorType", "")
    known = {"LSM pixelY, pixelX": scanner, "Camera height, width": camera}
    if kind in ("0", "1"):
        del known["LSM pixelY, pixelX" if kind == "0" else "Camera height, width"]
    elif _unused(root.find("Camera")):
        del known["Camera height, width"]
    known = {key: size for key, size in known.items() if min(size) > 0}
    told = " or ".join(f"{size} ({key})" for key, size in known.items())
    if given is not None and given in known.values():
        return given
    if given is not None and known:
        raise ValueError(
            f"shape={given} disagrees with {described}, which says that frames are (Ly, Lx) = "
            f"{told}; leave shape out, or move the .raw file, if it is of another program, out of "
            "this folder"
        )
    if len(known) != 1:
        raise ValueError(
            f"{described}: says that frames are (Ly, Lx) = {told or 'of no size'}, expected that "
            f"of one detector; {'give it: shape=(Ly, Lx)' if known else 'it is damaged'}"
        )
    return next(iter(known.values()))


def _unused(camera: Element | None) -> bool:
    return camera is None or camera.get("name", "").lower() in ("", "none")


def _channels(root: Element, described: str) -> dict[str, int]:
    """Names of the channels that were on, and their places among the four of the detector."""
    names = [e.get("name", "") for e in root.iterfind("Wavelengths/Wavelength")]
    if not names:
        raise ValueError(f"{described}: <Wavelengths> names no channel, expected one <Wavelength>")
    letters = {f"Chan{letter}": i for i, letter in enumerate("ABCD")}
    places = {name: letters.get(name, i) for i, name in enumerate(names)}
    bits = _number(root, "Wavelengths/ChannelEnable", "Set")
    if not bits:
        return places
    on = {name: place for name, place in places.items() if bits >> place & 1}
    if len(on) == bits.bit_count():
        return on
    raise ValueError(
        f"{described}: <ChannelEnable> has Set={bits}, which turns on {bits.bit_count()} channels, "
        f"and the <Wavelength> are {', '.join(names)}; say how frames come in turn: {_ORDER}"
    )


def _planes(root: Element, described: str) -> tuple[int, int]:
    """Count planes, and frames of the fly-back after them."""
    mode = _number(root, "CaptureMode", "mode", 1)
    if mode not in (1, 2):
        what = {0: "a Z and time series, which ThorImage stores as TIFF", 3: "hyperspectral"}
        raise ValueError(
            f"{described}: <CaptureMode> has mode={mode}, {what.get(mode, 'which is not known')}, "
            f"expected 1, streaming; say how frames come in turn: {_ORDER}"
        )
    custom = _number(root, "RemoteFocus", "IsRemoteFocus")
    several = max(_number(root, "LSM", key, 1) for key in ("NumberOfPlanes", "numberOfPlanes"))
    if custom or several > 1:
        raise ValueError(
            f"{described}: planes of remote focus or of several beams, whose order is not known "
            f"here; say how frames come in turn: {_ORDER}"
        )
    on = mode == 1 and _number(root, "Streaming", "enable", 1)
    if not (on and _number(root, "Streaming", "zFastEnable")):
        return 1, 0
    planes = _number(root, "ZStage", "steps", 1)
    flyback = _number(root, "Streaming", "flybackFrames")
    if planes < 1 or flyback < 0 or (planes == 1 and flyback):
        raise ValueError(
            f"{described}: a fast Z series of {planes} planes (steps) and {flyback} frames of "
            "fly-back, expected at least 2 planes; say how frames come in turn: order='time' if "
            f"all are of one plane, else {_ORDER}"
        )
    return planes, flyback


def _frames_told(root: Element) -> int:
    """Count the frames of a channel that were to be recorded; 0 where it is not said."""
    streaming = _number(root, "CaptureMode", "mode", 1) == 1
    return _number(root, "Streaming", "frames") if streaming else 0


def _stored(
    root: Element, described: str, channels: int, number: int, period: int, given: int | None
) -> int:
    """Count the channels in the file: those that were on, or all four; its size must agree."""
    told = _frames_told(root)
    fit = [n for n in range(1, _ALL + 1) if told and number in (told * n, told * period * n)]
    only = channels == _ALL or _number(root, "RawData", "onlyEnabledChannels")
    if only and (not fit or channels in fit or given == channels):
        return channels
    possible = {channels, _ALL} & set(fit)
    if not only and len(possible) == 1:
        return possible.pop()
    if not only and given in (channels, _ALL):
        return int(given or 0)
    others = f"; they would fit {fit[0]}" if len(fit) == 1 else ""
    raise ValueError(
        f"{described}: {channels} channels were on, and {number} frames in the .raw file are not "
        f"the {told or 'unknown number'} of each that it tells of{others}; whether the file holds "
        f"these channels or all {_ALL} is not clear. Say how frames come in turn: "
        f"order=('time', 'plane', 'channel'), channels=…, planes={period}"
    )


def _rate(root: Element, period: int) -> tuple[float | None, str]:
    """Frames per second of each plane, in Hz; and what to tell of it."""
    scanner = root.find("LSM")
    modality = root.find("Modality")
    camera = modality is not None and modality.get("primaryDetectorType") == "0"
    text = "" if scanner is None or camera else scanner.get("frameRate", "")
    try:
        rate = float(text)
    except ValueError:
        return None, ""
    if not (math.isfinite(rate) and rate > 0):
        return None, ""
    if _number(root, "Streaming", "stimulusTriggering"):
        return None, (
            f"frameRate is {rate:g} Hz, and frames were recorded about stimuli (stimulusTriggering)"
            ": times between them are not known; give fs= where there are no pauses"
        )
    averaged = _number(root, "LSM", "averageNum", 1) if _number(root, "LSM", "averageMode") else 1
    return rate / max(1, averaged) / period, ""


def _lacks(told: int, number: int, stored: int, period: int, described: str) -> str:
    """Say that there are other frames than the XML file tells of, where no turn is cut."""
    times = number // stored
    if not told or times in (told, told * period) or number % (stored * period):
        return ""
    return f"{os.path.basename(described)} tells of {told} frames, and {times} are here"
