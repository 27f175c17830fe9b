"""The store that a Zarr array is in: what it claims, and which chunks are there."""

from __future__ import annotations

import itertools
import math
import os
from typing import Any

from xs2p.disk.reads import check_claim

_MOST_UNSEEN = 2**23  # frames that a store may tell of without a byte for each
_METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
_MOST_METADATA = 2**21  # bytes that metadata may be unpacked to, or as many as the whole file has
_MOST_NAMES = 10**6  # of chunks in a .zip, that are looked at
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


def _check_entries(array: Any, name: str) -> None:
    """Raise where a ``.zip`` has chunks that are none of the array's: their names are damaged."""
    import zipfile

    stored = getattr(array, "shards", None) or array.chunks
    counts = [-(-n // size) for n, size in zip(array.shape, stored, strict=True)]
    if math.prod(counts) > _MOST_NAMES:
        return
    known = {array.metadata.encode_chunk_key(at) for at in itertools.product(*map(range, counts))}
    above = f"{array.path}/".lstrip("/")
    with zipfile.ZipFile(array.store.path) as file:
        inside = {key.removeprefix(above) for key in file.namelist() if key.startswith(above)}
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
    from zarr.core.sync import sync

    spans = [
        range(start // n, -(-stop // n))
        for (start, stop, _), n in zip(
            (part.indices(size) for part, size in zip(key, array.shape, strict=True)),
            getattr(array, "shards", None) or array.chunks,
            strict=True,
        )
    ]
    for at in itertools.product(*spans):
        chunk = array.metadata.encode_chunk_key(at)
        path = f"{array.path}/{chunk}".strip("/")
        if not sync(array.store.exists(path)):
            raise OSError(
                f"its chunk {chunk} is not there, and the array has no fill value for chunks that "
                "are not: it was lost, or never written"
            )
