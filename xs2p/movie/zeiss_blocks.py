"""The pixels of one block of a CZI file, as they are or compressed."""

from __future__ import annotations

import os
import struct
from typing import Any, NamedTuple

import numpy as np

HEADER = (
    32 + 16
)  # bytes of a block's segment and its sizes, before what the directory has of it too
_KINDS = {1: "JPEG", 2: "LZW", 4: "JPEG XR", 5: "Zstandard", 6: "Zstandard"}
_CODECS = {1: "jpeg8_decode", 2: "lzw_decode", 4: "jpegxr_decode"}  # of imagecodecs


class Block(NamedTuple):
    """What the directory says of a block."""

    dims: dict[str, tuple[int, int]]  # start and size of each axis
    stored: tuple[int, ...]  # (y, x) as they are stored
    dtype: str
    grey: bool
    compression: int
    place: int  # byte in the file

    @property
    def frame(self) -> tuple[int, int]:
        """Lines and pixels in a line."""
        return self.dims["Y"][1], self.dims["X"][1]

    @property
    def scene(self) -> int | None:
        """Number of the scene."""
        return self.dims["S"][0] if "S" in self.dims else None


def read_block(file: Any, block: Block) -> np.ndarray[Any, Any]:
    """Read the pixels (y, x) of a block."""
    file.seek(block.place)
    header = file.read(HEADER + 32)
    if len(header) < HEADER + 32 or not header.startswith(b"ZISRAWSUBBLOCK"):
        raise OSError(f"no block is at byte {block.place}: the file is damaged, or was cut")
    about, _, nbytes = struct.unpack_from("<iiq", header, 32)
    entry = 32 + 20 * struct.unpack_from("<i", header, HEADER + 28)[0]
    file.seek(block.place + HEADER + max(240, entry) + about)
    needed = block.frame[0] * block.frame[1] * np.dtype(block.dtype).itemsize
    wanted = nbytes if block.compression else needed
    here = os.fstat(file.fileno()).st_size
    data = file.read(wanted) if wanted <= min(nbytes, here) else b""
    if len(data) < wanted:
        raise OSError(f"its block at byte {block.place} is not whole: the file was cut")
    page = data if block.compression == 0 else _decoded(data, block)
    if isinstance(page, np.ndarray):
        return np.asarray(page).reshape(block.frame)
    if len(page) != needed:
        raise OSError(f"its block at byte {block.place} is {len(page)} bytes, expected {needed}")
    return np.frombuffer(page, block.dtype).reshape(block.frame)


def check_codecs(name: str, blocks: tuple[Block, ...]) -> None:
    """Raise where blocks are compressed in a way that cannot be read here; tries one of each."""
    for kind, block in {block.compression: block for block in blocks if block.compression}.items():
        told = f"{name}: its blocks are compressed ({_KINDS.get(kind, f'as kind {kind}')})"
        try:
            with open(name, "rb") as file:
                read_block(file, block)
        except ImportError as error:
            raise ImportError(
                f"{told}, which needs imagecodecs: pip install imagecodecs; or save it "
                f"uncompressed in ZEN ({error})"
            ) from error
        except Exception as error:  # whatever damage makes of a decoder
            raise ValueError(
                f"{told} and cannot be decoded ({type(error).__name__}: {error}); save it "
                "uncompressed in ZEN"
            ) from error


def _decoded(data: bytes, block: Block) -> Any:
    """Decode the pixels of a block: their bytes, or an array."""
    kind = block.compression
    if kind in _CODECS:
        import imagecodecs

        return getattr(imagecodecs, _CODECS[kind])(data)
    if kind not in _KINDS:
        raise ValueError(f"compression {kind} is not known here")
    from numcodecs.zstd import decompress

    if kind == 5:
        return bytes(decompress(data))
    # Its own size, then 1 and whether all low bytes come before all high ones.
    size = data[0]
    if size not in (1, 3) or (size == 3 and data[1] != 1):
        raise ValueError(f"a header of {data[: min(size, 8)].hex()} is not known here")
    plain = bytes(decompress(data[size:]))
    if size == 3 and data[2] & 1:
        return np.frombuffer(plain, np.uint8).reshape(2, -1).T.tobytes()
    return plain
