"""Leica's ``.lif``: images in XML, each with a block of memory, found by the library liffile.

The XML says of every axis and channel how many bytes lie from one of its elements to the next, so
frames are read where they are, without the library.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.disk.reads import check_claim
from xs2p.movie.frames import Stamp
from xs2p.movie.microscopes import PlacedFrames, advice, clock, library, picked

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

_IMAGE = "./Data/Image/ImageDescription/"
_LETTERS = {1: "X", 2: "Y", 3: "Z", 4: "T", 5: "E", 6: "A", 9: "E", 10: "M"}
_WHOLE = advice("liffile.imread(path, image=name)")
_TIMES = "time that the LIF file has of each frame (TimeStampList), from the first on."


@dataclass(frozen=True)
class LifFrames(PlacedFrames):
    """Frames over axes of ``sizes``, whose elements lie ``strides`` bytes from each other."""

    offset: int = 0
    sizes: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    row: int = 0  # bytes from line to line

    def fill(self, wanted: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        """Read each frame from its offset in the file."""
        index = np.unravel_index(wanted, self.sizes) if self.sizes else ()
        offsets = np.full(wanted.shape, self.offset, np.int64)
        for places, stride in zip(index, self.strides, strict=True):
            offsets += places * stride
        ly, lx = self.shape[1:]
        stored = np.dtype(self.stored)
        page = np.zeros((ly, self.row), np.uint8)
        nbytes = (ly - 1) * self.row + lx * stored.itemsize
        view = memoryview(page.reshape(-1).data)[:nbytes]
        with open(self.stamp.path, "rb", buffering=0) as file:
            for i, offset in enumerate(offsets.tolist()):
                file.seek(offset)
                done = 0
                while done < nbytes:
                    got = file.readinto(view[done:])
                    if not got:
                        raise OSError("the file ends before it")
                    done += got
                out[i] = page[:, : lx * stored.itemsize].view(stored)


class _Axis(NamedTuple):
    letter: str
    size: int
    stride: int
    length: float  # from the first element to the last, in s


def lif_stack(name: str, variable: str | None) -> Stack:
    """Find the frames of an image in a LIF file."""
    from xs2p.movie.turns import Stack

    liffile = library("liffile", name)
    stamp = Stamp.of(name)
    with _opened(liffile, name) as file:
        shown = {image.path: _shown(image) for image in file.images}
        path = picked(name, "image", shown, variable)
        image = next(image for image in file.images if image.path == path)
        what = f"{name}: its image {path!r}"
        if image.is_flim:
            raise ValueError(f"{what} is of lifetimes (FLIM), expected intensities. {_WHOLE}")
        axes, stored = _axes(image, what), _dtype(image, what)
        memory = _memory(image, what, stamp.size)
        stamps = image.timestamps
    frames, others = _frames(axes, stored, stamp, memory, what)
    seconds, rate = _of_time(stamps, others)
    return Stack(
        frames,
        tuple((axis.letter, axis.size) for axis in others),
        said=True,
        fs=rate,
        times=seconds,
        times_by=_TIMES,
        mend=_WHOLE,
    )


def _frames(
    axes: list[_Axis], stored: np.dtype[Any], stamp: Stamp, memory: tuple[int, int], what: str
) -> tuple[LifFrames, list[_Axis]]:
    """Frames of an image, and the axes that they are over."""
    by_letter = {axis.letter: axis for axis in axes}
    if not {"X", "Y"} <= set(by_letter):
        letters = "".join(axis.letter for axis in axes)
        raise ValueError(f"{what} has the axes {letters!r}, expected frames (y, x). {_WHOLE}")
    x, y = by_letter["X"], by_letter["Y"]
    others = [axis for axis in axes if axis.letter not in "XY"]
    if x.stride != stored.itemsize or y.stride < x.size * x.stride:
        raise ValueError(
            f"{what} has pixels {x.stride} bytes from each other and lines {y.stride}, expected "
            f"those of grey frames of {stored}, not colours. "
            f"{_WHOLE}"
        )
    last = sum((axis.size - 1) * axis.stride for axis in (*others, y)) + x.size * x.stride
    offset, nbytes = memory
    if last > nbytes:
        raise ValueError(
            f"{what} needs {last} bytes, and its block of memory has {nbytes}: the recording was "
            "stopped while it was written, or the file is damaged"
        )
    sizes = tuple(axis.size for axis in others)
    strides = tuple(axis.stride for axis in others)
    shape = (int(np.prod(sizes, dtype=int)), y.size, x.size)
    return LifFrames(stamp, shape, stored.str, offset, sizes, strides, y.stride), others


@contextlib.contextmanager
def _opened(liffile: Any, name: str) -> Iterator[Any]:
    """Open a LIF file, to be closed."""
    with open(name, "rb") as head:
        (letters,) = struct.unpack("<9xI", head.read(13).ljust(13, b"\0"))
        check_claim(name, "letters of XML", letters, os.fstat(head.fileno()).st_size // 2)
    try:
        file = liffile.LifFile(name)
    except Exception as error:  # whatever a damaged header makes of the parser
        raise ValueError(
            f"{name}: not a readable LIF file ({error}): it was cut, or is none"
        ) from error
    with file:
        yield file


def _axes(image: Any, what: str) -> list[_Axis]:
    """Axes of an image and its channels, those with the largest steps first."""
    axes = [
        _Axis(
            _LETTERS.get(int(said.get("DimID")), "U"),
            int(said.get("NumberOfElements")),
            int(said.get("BytesInc")),
            float(said.get("Length") or 0) if said.get("Unit") == "s" else 0.0,
        )
        for said in image.xml_element.findall(f"{_IMAGE}Dimensions/DimensionDescription")
    ]
    channels = _channels(image)
    steps = set(np.diff(channels).tolist())
    if len(steps) > 1 or (channels and channels[0]):
        raise ValueError(f"{what} has channels at {channels} bytes, expected even steps")
    if steps:
        axes.append(_Axis("C", len(channels), steps.pop(), 0))
    return sorted(axes, key=lambda axis: -axis.stride)


def _channels(image: Any) -> list[int]:
    found = image.xml_element.findall(f"{_IMAGE}Channels/ChannelDescription")
    return sorted(int(said.get("BytesInc")) for said in found)


def _dtype(image: Any, what: str) -> np.dtype[Any]:
    """Dtype of the pixels, the same in all channels."""
    found = {
        (int(said.get("DataType")), int(said.get("Resolution")))
        for said in image.xml_element.findall(f"{_IMAGE}Channels/ChannelDescription")
    }
    kinds = {
        np.dtype(f"<{'f' if kind else 'u'}{next((n for n in (1, 2, 4) if bits <= 8 * n), 8)}")
        for kind, bits in found
        if not (kind and bits <= 8)
    }
    if len(kinds) != 1:
        raise ValueError(
            f"{what} has channels of {sorted(found)} (kind, bits), expected one dtype in all"
        )
    return kinds.pop()


def _memory(image: Any, what: str, size: int) -> tuple[int, int]:
    """Offset and size in bytes of the block of an image."""
    try:
        block = image.memory_block
    except KeyError:
        block = None
    if block is None or block.offset + block.size > size:
        raise ValueError(
            f"{what} is not whole in the {size} bytes of the file: it was cut while it was written "
            "or copied"
        )
    if not block.size:
        raise ValueError(f"{what} has no pixels in this file")
    return int(block.offset), int(block.size)


def _shown(image: Any) -> str:
    try:
        return "(" + ", ".join(f"{letter} {n}" for letter, n in image.sizes.items()) + ")"
    except Exception:  # of an image that is not asked for
        return ""


def _of_time(stamps: Any, others: list[_Axis]) -> tuple[np.ndarray | None, float | None]:
    """Take the stamps of frames where time is the slowest axis, else the rate of the axis.

    There is a stamp for each time, or for each plane or channel of it too.
    """
    axes = [axis for axis in others if axis.size > 1]
    time = next((axis for axis in axes if axis.letter == "T"), None)
    if time is None:
        return None, None
    slowest = next(axis for axis in axes if axis.letter != "C")
    if stamps is not None and len(stamps) and slowest is time:
        seconds = (stamps - stamps[0]) / np.timedelta64(1, "s")
        if seconds.size % time.size == 0 and (np.diff(seconds) >= 0).all():
            times, rate = clock(seconds.reshape(time.size, -1)[:, 0], time.size)
            if times is not None:
                return times, rate
    return None, (time.size - 1) / time.length if time.length > 0 else None
