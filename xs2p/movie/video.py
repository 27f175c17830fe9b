"""Videos, as Miniscopes record them: ``.avi`` and ``.mkv``, decoded by PyAV.

Frames are grey, as the camera's are: formats of one channel as they are, and of colour videos the
grey that all three colours have; one that is of colours is refused.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.frames import Frames, Stamp
from xs2p.movie.video_sums import check_packet, seconds_told

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

log = logging.getLogger("xs2p")


@dataclass(frozen=True)
class VideoFrames(Frames):
    """Frames of the first video in a file, which are at regular times."""

    first: int = 0  # timestamp of the first frame, and how many there are from frame to frame
    step: Fraction = Fraction(1)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Decode these frames, from the key frame before them on."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Decode every ``step``-th frame; those between are decoded and left out."""
        self.stamp.check()
        out = np.empty((count, *self.shape[1:]), self.dtype)
        if not count:
            return out
        done = 0
        for at, frame in self._decoded(start):
            if at < start or (at - start) % step:
                continue
            if at != start + step * done:
                break
            out[done] = grey(frame, self.dtype)
            done += 1
            if done == count:  # what comes after may be damaged
                break
        if done < count:
            raise OSError(f"frame {start + step * done} of it cannot be decoded")
        return out

    def _decoded(self, start: int) -> Iterator[tuple[int, Any]]:
        """Frames with their numbers, from one at or before ``start`` on."""
        with opened(self.stamp.path) as file:
            stream = file.streams.video[0]
            if start:
                file.seek(self.first + int(start * self.step), stream=stream, backward=True)
            strict(stream)
            for frame in decoded(file, stream):
                if frame.pts is None:
                    raise OSError("a frame of it has no timestamp")
                yield round((frame.pts - self.first) / self.step), frame


def video_stack(name: str) -> Stack:
    """Find the frames of a video; they are counted, and not decoded but for the first."""
    from xs2p.movie.turns import Stack

    stamp = Stamp.of(name)
    _check_whole(name, stamp.size)
    with opened(name) as file:
        if not file.streams.video:
            raise ValueError(f"{name}: holds no video")
        stream = file.streams.video[0]
        rate, number = stream.average_rate, stream.frames
        times = _timestamps(file, stream)
        if not times or not rate:
            raise ValueError(f"{name}: holds no frames")
        step = 1 / (rate * stream.time_base)
        told, begin = seconds_told(file, stream), float(times[0] * stream.time_base)
    if told is not None:
        # What is told is when the last frame ends; the first may begin later than at 0.
        number = max(number, round((told - begin) * rate))
    if len(times) < number:
        raise ValueError(
            f"{name}: it tells of {number} frames, and {len(times)} are in it: it is damaged, or "
            "was cut while it was written or copied; write those anew with: "
            "ffmpeg -i in -c:v ffv1 out.avi"
        )
    numbers = [round((t - times[0]) / step) for t in times]
    if numbers != list(range(len(times))):
        raise ValueError(
            f"{name}: its frames are not one every {float(1 / rate):g} s, so which is which is not "
            "sure; write it anew with: ffmpeg -i in -fps_mode passthrough -enc_time_base -1 "
            "-c:v ffv1 out.avi, or as TIFF in Fiji"
        )
    with opened(name) as file:
        stream = file.streams.video[0]
        strict(stream)
        frame = next(decoded(file, stream))
        dtype = np.dtype("u2" if _sixteen(frame) else "u1")
        shape = (len(times), *grey(frame, dtype).shape)
    note = f"the video says {float(rate):g} Hz, which is what it is played with; fs= says another"
    frames = VideoFrames(stamp, (shape[0], shape[1], shape[2]), dtype.str, times[0], step)
    return Stack(frames, note=note)


def opened(name: str) -> Any:
    """Open a video file, to be closed."""
    try:
        import av
    except ImportError as error:
        raise ImportError(
            f"{name}: videos are read with PyAV: pip install 'xs2p[video]'"
        ) from error
    try:
        return av.open(name)
    except av.error.FFmpegError as error:
        raise ValueError(f"{name}: no video can be read ({error})") from error


def _check_whole(name: str, size: int) -> None:
    """Raise where a Matroska file is shorter than it says of its one segment."""
    with open(name, "rb") as file:
        head = file.read(4096)
    at = head.find(b"\x18\x53\x80\x67")  # of the segment, after the header
    if not head.startswith(b"\x1a\x45\xdf\xa3") or at < 0 or at + 12 > len(head):
        return
    length = 9 - head[at + 4].bit_length()  # bytes of the number, whose first bit says how many
    number = int.from_bytes(head[at + 4 : at + 4 + length]) & ((1 << 7 * length) - 1)
    unknown = number == (1 << 7 * length) - 1  # as of one that was not ended
    if length < 9 and not unknown and at + 4 + length + number > size:
        raise ValueError(
            f"{name}: it says that it has {at + 4 + length + number} bytes, and has {size}: it was "
            "cut while it was copied"
        )


def strict(stream: Any) -> None:
    """Have a decoder check what its codec has checksums for, and stop where it finds damage."""
    stream.codec_context.options = {"err_detect": "crccheck+bitstream+buffer+explode"}


def decoded(file: Any, stream: Any) -> Iterator[Any]:
    """Decode from where a file is, and raise an OSError at the first frame that is damaged."""
    codec = stream.codec_context
    for packet in file.demux(stream):
        try:
            check_packet(codec, bytes(packet))
        except OSError:
            yield from codec.decode(None)  # frames before it, which threads still have
            raise
        for frame in packet.decode():
            if frame.is_corrupt:
                raise OSError("a frame of it is damaged")
            yield frame


def _timestamps(file: Any, stream: Any) -> list[int]:
    """Timestamps of all frames: by the index of an AVI, else by going through the packets."""
    entries = stream.index_entries
    if file.format.name == "avi" and 0 < len(entries) == stream.frames:
        return sorted(entry.timestamp for entry in entries)
    return sorted(p.pts for p in file.demux(stream) if p.size and p.pts is not None)


def _sixteen(frame: Any) -> bool:
    return bool(frame.format.components[0].bits > 8)


def grey(frame: Any, dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Pixels of a frame (y, x)."""
    if len(frame.format.components) == 1 and not frame.format.has_palette:
        kind = frame.format.name if dtype.itemsize == 2 else "gray"
        pixels: np.ndarray[Any, Any] = frame.to_ndarray(format=kind)
        return pixels.astype(dtype, copy=False)
    if frame.format.is_rgb and not _sixteen(frame):
        colours = frame.to_ndarray(format="rgb24")
        if (colours == colours[..., :1]).all():
            return np.ascontiguousarray(colours[..., 0])
    elif dtype.itemsize == 1:
        return np.asarray(frame.to_ndarray(format="gray"))
    raise ValueError(
        f"its frames are of colours ({frame.format.name}), expected grey ones; make them so with: "
        "ffmpeg -i in -pix_fmt gray -c:v ffv1 out.avi"
    )
