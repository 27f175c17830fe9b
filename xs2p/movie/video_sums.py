"""What of a video can be checked: the checksums of FFV1, and how long the file says that it is.

FFmpeg conceals a slice of FFV1 whose checksum does not hold by that of the frame before, and does
not tell; so packets are checked here before it has them. Of version 3 on (RFC 9043) a slice ends
with its size and, if the writer chose so, a CRC of all of it.
"""

from __future__ import annotations

import re
import zlib
from typing import Any

_TURNED = bytes(int(f"{n:08b}"[::-1], 2) for n in range(256))
# The register before the first byte, and after the last of what is whole: of RFC 9043, and FFmpeg's
# second way.
_STARTS = (0, 0x7A8C4079)
_SIZE, _SIZE_AND_SUM = 3, 8  # bytes at the end of a slice


def check_packet(codec: Any, data: bytes) -> None:
    """Raise an OSError where a packet of FFV1 is not what was written."""
    if codec.name != "ffv1" or not data:
        return
    slices = _slices(data, _SIZE_AND_SUM)
    sound = slices is not None and all(map(_holds, slices))
    settings = bytes(codec.extradata or b"")
    if not settings:  # of versions before 3, which have no checksums
        if sound:
            raise OSError("the settings of its codec are lost: the file is damaged")
    elif not _holds(settings):
        raise OSError("the settings of its codec are damaged: their checksum does not hold")
    elif not sound and (slices is not None or _slices(data, _SIZE) is None):
        raise OSError("a frame of it is damaged: the checksum of FFV1 does not hold")


def _slices(data: bytes, footer: int) -> list[bytes] | None:
    """Cut a packet into its slices, from the last on; None where sizes do not add up to it."""
    found, end = [], len(data)
    while end > 0:
        size = int.from_bytes(data[end - footer : end - footer + 3]) if end >= footer else end
        start = end - footer - size
        if start < 0:
            return None
        found.append(data[start:end])
        end = start
    return found


def _holds(data: bytes) -> bool:
    # zlib has each byte's bits the other way round, and turns all bits before and after.
    turned = data.translate(_TURNED)
    return any(zlib.crc32(turned, _back(s) ^ 0xFFFFFFFF) ^ 0xFFFFFFFF == _back(s) for s in _STARTS)


def _back(number: int) -> int:
    return int(f"{number:032b}"[::-1], 2)


def seconds_told(file: Any, stream: Any) -> float | None:
    """How long a Matroska file says that its video is, in s; None where it says nothing of it."""
    if "matroska" not in file.format.name:
        return None
    told = re.fullmatch(r"(\d+):(\d+):(\d+(?:\.\d+)?)", stream.metadata.get("DURATION", ""))
    if told:
        hours, minutes, seconds = map(float, told.groups())
        return 3600 * hours + 60 * minutes + seconds
    alone = len(file.streams) == 1 and file.duration is not None
    return file.duration / 1e6 if alone else None
