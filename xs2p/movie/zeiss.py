"""Zeiss's ``.czi``: blocks of pixels and a directory of them, read by the library czifile.

A block is a plane of one channel and time here. Blocks of a mosaic's tiles are refused; smaller
copies (pyramids) are passed over. The library has two interfaces, of 2019 and of later years.
"""

from __future__ import annotations

import contextlib
import functools
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.movie.frames import Stamp
from xs2p.movie.microscopes import (
    PlacedFrames,
    advice,
    clock,
    library,
    picked,
    shape_text,
    whole_times,
)
from xs2p.movie.zeiss_blocks import HEADER, Block, check_codecs, read_block

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack

_WHOLE = advice("czifile.imread(path)")
_ORDER = "BVIHRTZC"  # axes of blocks, slowest first; X and Y are those of a frame
_TIMES = "time that the CZI file has of each time point (TimeStamps), from the first on."
_DATES = 20_000.0  # from here on a number of days since 1899 is one too, as some writers have it


class _Scene(NamedTuple):
    """Axes of a scene but Y and X, and its blocks in their order, the last axis fastest."""

    axes: tuple[tuple[str, int], ...]
    blocks: tuple[Block, ...]
    lacks: str  # what of it is not there


@dataclass(frozen=True)
class CziFrames(PlacedFrames):
    """Frames of a scene, in the order of `_ORDER`, which the directory is asked for."""

    scene: int | None = None

    def fill(self, wanted: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        """Read the blocks of these frames."""
        blocks = _of_scene(self.stamp, self.scene).blocks
        with open(self.stamp.path, "rb") as file:
            for i, number in enumerate(wanted.tolist()):
                out[i] = self.check(read_block(file, blocks[number]))


def czi_stack(name: str, variable: str | None) -> Stack:
    """Find the frames of a scene in a CZI file."""
    from xs2p.movie.turns import Stack

    stamp = Stamp.of(name)
    every = _directory(stamp)
    numbers = sorted({block.scene for block in every}, key=lambda n: -1 if n is None else n)
    scenes = {f"S{number or 0}": number for number in numbers}
    shown = {key: _shown([b for b in every if b.scene == n]) for key, n in scenes.items()}
    scene = scenes[picked(name, "scene", shown, variable)]
    axes, blocks, lacks = _of_scene(stamp, scene)
    first = blocks[0]
    check_codecs(stamp.path, blocks)
    frames = CziFrames(stamp, (len(blocks), *first.frame), first.dtype, scene)
    seconds, rate, note = _times(stamp, dict(axes).get("T", 1), bool(lacks))
    return Stack(
        frames,
        axes,
        note=note,
        said=True,
        lacks=lacks,
        fs=rate,
        times=seconds,
        times_by=_TIMES,
        mend=_WHOLE,
    )


def _shown(blocks: list[Block]) -> str:
    """Show the sizes of a scene."""
    letters = [d for d in _ORDER + "M" if any(d in block.dims for block in blocks)]
    sizes = [len({block.dims[d][0] for block in blocks if d in block.dims}) for d in letters]
    return shape_text(list(zip(letters, sizes, strict=True)), blocks[0].frame)


def _header(name: str, size: int) -> bool:
    """Raise unless a file is a whole CZI, and tell whether it has attachments.

    Where what its header tells of is not there, the library goes through all of the file instead.
    """
    with open(name, "rb") as file:
        header = file.read(112)
        if len(header) < 112 or not header.startswith(b"ZISRAWFILE"):
            raise ValueError(f"{name}: no CZI file can be read: it was cut, or is none")
        part, blocks, _, pending, attachments = struct.unpack_from("<iqqiq", header, 80)
        if part:
            raise ValueError(f"{name}: is a part of a CZI in several files, which is not read")
        found = []
        for place, kind in ((blocks, b"ZISRAWDIRECTORY"), (attachments, b"ZISRAWATTDIR")):
            file.seek(place if 0 < place < size else size)
            found.append(file.read(16).startswith(kind))
    if not found[0] or pending:
        raise ValueError(
            f"{name}: the directory of its blocks is not in its {size} bytes: it was cut while it "
            "was written or copied, or the recording was not ended; copy it anew, or open and save "
            "it in ZEN"
        )
    return found[1]


@functools.lru_cache(maxsize=8)
def _directory(stamp: Stamp) -> tuple[Block, ...]:
    """Read the directory of a file, once per process."""
    name = stamp.path
    czifile = library("czifile", name)
    _header(name, stamp.size)
    with czifile.CziFile(name) as file:
        entries = file.subblock_directory
        if any(entry.file_part for entry in entries):
            raise ValueError(f"{name}: its blocks are in several files, which are not read")
        blocks = [_block(entry) for entry in entries]
    if not blocks:
        raise ValueError(f"{name}: holds no blocks of pixels")
    outside = [block.place for block in blocks if block.place + HEADER > stamp.size]
    if outside:
        raise ValueError(
            f"{name}: its directory has a block at byte {max(outside)}, after its end at "
            f"{stamp.size}: the file was cut while it was copied"
        )
    whole = [block for block in blocks if block.stored == block.frame]
    return tuple(whole or blocks)


def _block(entry: Any) -> Block:
    """Take what an entry of the directory says, in either interface of the library."""
    if hasattr(entry, "dimension_entries"):
        dims = {d.dimension: (int(d.start), int(d.size)) for d in entry.dimension_entries}
        sizes = {d.dimension: int(d.stored_size) for d in entry.dimension_entries}
        dtype = np.dtype(entry.dtype)
        grey = not dtype.shape
    else:
        spans = zip(entry.dims, entry.start, entry.shape, entry.stored_shape, strict=True)
        every = [(d, int(start), int(n), int(kept)) for d, start, n, kept in spans if d != "S"]
        dims = {d: (start, n) for d, start, n, _ in every}
        sizes = {d: kept for d, _, _, kept in every}
        if entry.scene_index >= 0:
            dims["S"] = (int(entry.scene_index), 1)
        if entry.mosaic_index >= 0:
            dims["M"] = (int(entry.mosaic_index), 1)
        dtype = np.dtype(entry.pixel_type.dtype)
        grey = int(entry.pixel_type.samples) == 1
    kept = tuple(sizes.get(d, 0) for d in "YX")
    place = int(entry.file_position)
    codec = int(getattr(entry.compression, "value", entry.compression))
    return Block(dims, kept, dtype.base.str, grey, codec, place)


@functools.lru_cache(maxsize=8)
def _of_scene(stamp: Stamp, scene: int | None) -> _Scene:
    """Find the blocks of a scene in their order."""
    name = f"{stamp.path}: scene S{scene or 0}"
    blocks = [b for b in _directory(stamp) if b.scene == scene]
    _check_blocks(name, blocks)
    every = {d for b in blocks for d in b.dims} - set("YXSM")
    letters = [d for d in _ORDER if d in every] + sorted(every - set(_ORDER)) or ["T"]
    at = {tuple(b.dims.get(d, (0, 1))[0] for d in letters): b for b in blocks}
    if len(at) < len(blocks):
        tiles = {b.dims["M"][0] for b in blocks if "M" in b.dims}
        raise ValueError(
            f"{name} has {len(blocks)} blocks at {len(at)} places"
            f"{f', in {len(tiles)} tiles of a mosaic (M)' if len(tiles) > 1 else ''}, expected one "
            f"frame at each. {_WHOLE}"
        )
    places, lacks = whole_times(name, sorted(at), letters)
    sizes = [len(set(column)) for column in zip(*places, strict=True)]
    axes = tuple(zip(letters, sizes, strict=True))
    return _Scene(axes, tuple(at[place] for place in places), lacks)


def _check_blocks(name: str, blocks: list[Block]) -> None:
    """Raise unless blocks are grey frames of one size and dtype."""
    first = blocks[0]
    for block in blocks:
        if not block.grey:
            raise ValueError(f"{name}: its pixels are of colours, expected grey channels. {_WHOLE}")
        if block.stored != block.frame:
            raise ValueError(
                f"{name}: blocks of {block.stored} pixels stand for frames of {block.frame}, "
                f"expected pixels as they were recorded. {_WHOLE}"
            )
        deep = [d for d, (_, n) in block.dims.items() if d not in "YX" and n != 1]
        if deep:
            raise ValueError(
                f"{name}: a block has {block.dims[deep[0]][1]} of the axis {deep[0]}, expected one "
                f"frame in each. {_WHOLE}"
            )
        if (block.frame, block.dtype) != (first.frame, first.dtype):
            raise ValueError(
                f"{name}: blocks of {block.frame} {block.dtype} and of {first.frame} "
                f"{first.dtype}, expected frames of one size and dtype, not tiles. {_WHOLE}"
            )


def _times(stamp: Stamp, number: int, cut: bool) -> tuple[np.ndarray | None, float | None, str]:
    """Find times of the time points, their rate in Hz, and what is to say of them.

    Writers count in seconds, some in days since 1899: what may be either is not taken.
    """
    found = np.empty(0)
    if _header(stamp.path, stamp.size):
        czifile = library("czifile", stamp.path)
        with contextlib.suppress(Exception), czifile.CziFile(stamp.path) as file:
            for attachment in file.attachments():
                if attachment.attachment_entry.name.strip("\0") == "TimeStamps":
                    found = np.asarray(attachment.data(), np.float64)
    if found.size < max(number, 2) or (found.size > number and not cut):
        return None, None, ""
    if abs(found[0]) >= _DATES:
        return None, None, "its TimeStamps may be dates, and are not taken: fs= says the rate"
    return *clock(found[:number], number), ""
