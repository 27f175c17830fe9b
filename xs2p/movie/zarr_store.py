"""The store that a Zarr array is in: what it claims, and which chunks are there."""

from __future__ import annotations

import itertools
import math
import os
import re
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np

from xs2p._warnings import warn
from xs2p.disk.reads import check_claim
from xs2p.movie.chunks import is_all

_MOST_UNSEEN = 2**23  # frames that a store may tell of without a byte for each
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_MOST_METADATA = 2**21  # bytes that metadata may be unpacked to, or as many as the whole file has
_MOST_NAMES = 10**6  # of chunks in a .zip, that are looked at
_CHUNK = re.compile(r"(c[./])?\d+([./]\d+)*")
_BLOSC_HEADER = 16  # bytes: versions, flags, size of an item, then three sizes
_MORE = 4  # times a chunk's own bytes that one of Blosc's may unpack to
_GAP = 64  # bytes between the entries of a .zip: what their headers have more than their names


def check_zip(name: str) -> None:
    """Raise where metadata in a ``.zip`` unpack to much more than the file has.

    Or where its directory has lost an entry: Zarr would take the fill value for that chunk.
    """
    import zipfile

    if not os.path.isfile(name):
        return
    most = max(_MOST_METADATA, os.path.getsize(name))
    with zipfile.ZipFile(name) as file:
        end = 0
        for info in sorted(file.infolist(), key=lambda info: info.header_offset):
            _check_gap(name, info.header_offset - end)
            end = info.header_offset + 30 + len(info.filename.encode()) + info.compress_size
            if info.filename.rpartition("/")[2] in _METADATA:
                check_claim(f"{name}/{info.filename}", "bytes of metadata", info.file_size, most)
        _check_gap(name, file.start_dir - end)


def _check_gap(name: str, gap: int) -> None:
    if gap > _GAP:
        raise ValueError(
            f"{name}: {gap} bytes of it are of no entry of its directory: the file is damaged"
        )


def check_shape(array: Any, name: str) -> None:
    """Raise where an array is longer than anything that the files of its store can hold."""
    import zarr

    if isinstance(array.store, zarr.storage.ZipStore) and os.path.isfile(array.store.path):
        _check_entries(array, name)
    store, longest = array.store, max(map(int, array.shape), default=0)
    if longest <= _MOST_UNSEEN:
        return
    if isinstance(store, zarr.storage.ZipStore) and os.path.isfile(store.path):
        size = os.path.getsize(store.path)
    elif isinstance(store, zarr.storage.LocalStore):
        folders = os.walk(os.path.join(store.root, array.path))
        size = sum(os.path.getsize(os.path.join(at, f)) for at, _, files in folders for f in files)
    else:
        return
    most = _MOST_UNSEEN + 1000 * size
    check_claim(name, "frames or pixels along an axis", longest, most)


def check_chunks(array: Any, name: str, time: int) -> None:
    """Warn where chunks of an array are not in its folder or ``.zip``: Zarr has its fill value.

    It leaves out such as are of that alone; others were lost, or never written, and which it is
    nobody can tell. ``time`` is the axis of frames.
    """
    counts = _counts(array)
    fill, needed = array.metadata.fill_value, math.prod(counts)
    if fill is None or needed > _MOST_NAMES:  # without one, who reads is told
        return
    inside = _chunk_names(array)
    if inside is None or len(inside) >= needed:
        return
    keyed = ((at, array.metadata.encode_chunk_key(at)) for at in np.ndindex(*counts))
    lost = [(at, key) for at, key in keyed if key not in inside]
    if not lost:
        return
    n = _stored(array)[time]
    first = min(at[time] for at, _ in lost) * n
    warn(
        f"{name}: {len(lost)} of its {needed} chunks are not there, the first of frames {first} to "
        f"{min(first + n, array.shape[time]) - 1}: they were lost, or never written, or are of "
        f"{fill} alone, which Zarr leaves out and all of them are taken for"
    )


def _chunk_names(array: Any) -> set[str] | None:
    """Return names of the chunks that are in a folder or ``.zip``; None of what is elsewhere."""
    import zarr

    store = array.store
    if isinstance(store, zarr.storage.ZipStore) and os.path.isfile(store.path):
        found = _inside(array)
    elif isinstance(store, zarr.storage.LocalStore):
        top = os.path.join(store.root, array.path)
        found = {
            os.path.relpath(os.path.join(at, file), top).replace(os.sep, "/")
            for at, _, files in os.walk(top)
            for file in files
        }
    else:
        return None
    return {name for name in found if _CHUNK.fullmatch(name)}


def _stored(array: Any) -> tuple[int, ...]:
    """Shape of what is stored together."""
    return tuple(getattr(array, "shards", None) or array.chunks)


def _counts(array: Any) -> list[int]:
    """How many of them there are along each axis."""
    return [-(-n // size) for n, size in zip(array.shape, _stored(array), strict=True)]


def _inside(array: Any) -> set[str]:
    """Names of all that a ``.zip`` has of an array."""
    import zipfile

    above = f"{array.path}/".lstrip("/")
    with zipfile.ZipFile(array.store.path) as file:
        return {key.removeprefix(above) for key in file.namelist() if key.startswith(above)}


def _check_entries(array: Any, name: str) -> None:
    """Raise where a ``.zip`` has chunks that are none of the array's: their names are damaged."""
    counts = _counts(array)
    if math.prod(counts) > _MOST_NAMES:
        return
    known = {array.metadata.encode_chunk_key(at) for at in itertools.product(*map(range, counts))}
    inside = _inside(array)
    odd = sorted(
        key
        for key in inside - known - set(_METADATA)
        if not any(part.startswith((".", "__")) for part in key.split("/")[:-1] + [key])
    )
    if odd and known - inside:
        raise ValueError(
            f"{name}: it has {odd[0]!r}, which is no chunk of the array, and not the chunk "
            f"{min(known - inside)!r}: the directory of the .zip file is damaged"
        )


def check_there(array: Any, key: tuple[slice, ...]) -> None:
    """Raise where chunks of a part are not in a store that says no value for them.

    Zarr leaves out chunks that are of the fill value alone; without one there are none of these,
    and who reads has zeros for chunks that were lost.
    """
    for at in _touched(array, key):
        if not _is_there(array, at):
            raise OSError(
                f"its chunk {array.metadata.encode_chunk_key(at)} is not there, and the array has "
                "no fill value for chunks that are not: it was lost, or never written"
            )


def check_filled(array: Any, key: tuple[slice, ...], part: np.ndarray[Any, Any], name: str) -> None:
    """Warn where a part that was read is of the fill value as its chunks are not in the store.

    Of folders and ``.zip`` files :func:`check_chunks` tells it before.
    """
    import zarr

    local = isinstance(array.store, zarr.storage.LocalStore | zarr.storage.ZipStore)
    fill = array.metadata.fill_value
    if local or fill is None or any((s.step or 1) != 1 for s in key):
        return
    starts = [s.indices(n)[0] for s, n in zip(key, array.shape, strict=True)]
    for at in _touched(array, key):
        inside = tuple(
            slice(max(i * n - start, 0), (i + 1) * n - start)
            for i, n, start in zip(at, _stored(array), starts, strict=True)
        )
        if is_all(part[inside], fill) and not _is_there(array, at):
            warn(
                f"{name}: its chunk {array.metadata.encode_chunk_key(at)} is not there: it was "
                f"lost, or never written, or is of {fill} alone, which Zarr leaves out and all of "
                "it is taken for"
            )


def check_blosc(array: Any, key: tuple[slice, ...] | None = None) -> None:
    """Raise where a chunk in a folder says that it is longer than its file, or unpacks to more.

    Blosc's library believes that, and reads on behind the end. ``key`` is the part that is going to
    be read, all by default. Stores that are no folders are not looked at: archives and servers
    have checksums and lengths of their own.
    """
    import zarr

    if not isinstance(array.store, zarr.storage.LocalStore) or not _has_blosc(array):
        return
    most = _MORE * math.prod(array.chunks) * array.dtype.itemsize
    folder = os.path.join(array.store.root, array.path)
    for at in _touched(array, key or (slice(None),) * array.ndim):
        path = os.path.join(folder, *array.metadata.encode_chunk_key(at).split("/"))
        try:
            with open(path, "rb") as file:
                head, size = file.read(_BLOSC_HEADER), os.fstat(file.fileno()).st_size
        except OSError:  # not there, or not to be read: Zarr says what it makes of that
            continue
        whole = len(head) == _BLOSC_HEADER
        unpacked, packed = struct.unpack_from("<I4xI", head, 4) if whole else (0, 0)
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


def _touched(array: Any, key: tuple[slice, ...]) -> Iterator[tuple[int, ...]]:
    """Places of the chunks that a part is in."""
    spans = [
        range(start // n, -(-stop // n))
        for (start, stop, _), n in zip(
            (part.indices(size) for part, size in zip(key, array.shape, strict=True)),
            _stored(array),
            strict=True,
        )
    ]
    return itertools.product(*spans)


def _is_there(array: Any, at: tuple[int, ...]) -> bool:
    from zarr.core.sync import sync

    path = f"{array.path}/{array.metadata.encode_chunk_key(at)}".strip("/")
    return bool(sync(array.store.exists(path)))
