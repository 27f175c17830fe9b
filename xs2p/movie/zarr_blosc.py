"""Chunks of Zarr that Blosc has packed: whether they are as long as they say.

Blosc's library believes what a chunk says of its own length, and reads on behind its end.
"""

from __future__ import annotations

import itertools
import math
import os
import struct
from collections.abc import Iterator
from typing import Any

_HEADER = 16  # bytes: versions, flags, size of an item, then three sizes
_MORE = 4  # times a chunk's own bytes that it may unpack to


def check_blosc(array: Any, key: Any = None) -> None:
    """Raise where a chunk in a folder says that it is longer than its file, or unpacks to more.

    ``key`` are the slices or indices that are going to be read, all by default. Stores that are no
    folders are not looked at: archives and servers have checksums and lengths of their own.
    """
    import zarr

    if not isinstance(array.store, zarr.storage.LocalStore) or not _has_blosc(array):
        return
    most = _MORE * math.prod(array.chunks) * array.dtype.itemsize
    folder = os.path.join(array.store.root, array.path)
    for where in itertools.product(*_chunks(array, key)):
        path = os.path.join(folder, *array.metadata.encode_chunk_key(where).split("/"))
        try:
            with open(path, "rb") as file:
                head, size = file.read(_HEADER), os.fstat(file.fileno()).st_size
        except OSError:  # not there, or not to be read: Zarr says what it makes of that
            continue
        unpacked, packed = struct.unpack_from("<I4xI", head, 4) if len(head) == _HEADER else (0, 0)
        if not packed or packed > size or unpacked > most:
            raise OSError(
                f"the chunk {os.path.relpath(path, array.store.root)} says that it is {packed} "
                f"bytes, unpacked {unpacked}, and it is {size}: it is damaged, or was cut"
            )


def _has_blosc(array: Any) -> bool:
    """Whether files of an array are what Blosc makes, with at most a checksum behind."""
    packers = array.metadata.codecs if hasattr(array.metadata, "codecs") else array.compressors
    kinds = [type(codec).__name__ for codec in packers or ()]
    return any(kind in ("Blosc", "BloscCodec") for kind in kinds)


def _chunks(array: Any, key: Any) -> Iterator[range]:
    """Numbers of the chunks along each dim that a selection is in."""
    keys = key if isinstance(key, tuple) else (key,) * (key is not None)
    for n, size, at in itertools.zip_longest(array.shape, array.chunks, keys):
        if isinstance(at, slice):
            wanted = range(n)[at]
            low, high = (min(wanted), max(wanted)) if wanted else (0, -1)
        elif at is None:
            low, high = 0, n - 1
        else:
            low, high = (min(at), max(at)) if hasattr(at, "__len__") and len(at) else (0, n - 1)
        yield range(low // size, high // size + 1)
