"""What state a Zarr array was opened in, whether it is still in it, and servers that fail."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import logging
import os
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xs2p.movie.frames import Stamp

log = logging.getLogger("xs2p")
MOST_FILES = 10_000  # of a store's chunks, that are looked at to tell its state
_METADATA = ("zarr.json", ".zarray")
# Seconds between two tries of a server that fails; a try itself ends by the library's own limits.
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0)
_OF_S3 = ("ConnectTimeoutError", "EndpointConnectionError")  # which s3fs does not try again
STALLED = 60.0  # seconds without a byte, of an http server


@dataclass(frozen=True)
class State:
    """Which state of an array was opened: its metadata's or ZIP's stamp, its files' last time.

    ``newest`` is None where nobody can tell it: there are many files, or they are elsewhere.
    """

    token: Any
    stamp: Stamp | None = None
    folder: str = ""
    newest: int | None = None
    array: Any = None

    @contextlib.contextmanager
    def holding(self, key: tuple[Any, ...]) -> Iterator[None]:
        """Raise where an array, or what ``key`` has of it, is replaced before or while it is read.

        Zarr takes a chunk that is gone for one that nobody has written, and gives its fill value.
        """
        self._check(key)
        yield
        self._check(key)

    def _check(self, key: tuple[Any, ...]) -> None:
        if self.stamp is None:
            return
        self.stamp.check()
        if self.newest is None or not self.stamp.is_here():
            return
        for path in self._files(key):
            while not os.path.exists(path):  # written by nobody; a folder tells if it was removed
                path = os.path.dirname(path)
            if os.stat(path).st_mtime_ns > self.newest:
                raise OSError(
                    f"{path} was written or removed since the movie was opened; open it anew with "
                    "xs2p.open_movie"
                )

    def _files(self, key: tuple[Any, ...]) -> Iterator[str]:
        array = self.array
        grid = getattr(array, "shards", None) or array.chunks
        spans = []
        for part, size, stored in itertools.zip_longest(key, array.shape, grid):
            whole = range(*part.indices(size)) if isinstance(part, slice) else range(size)
            ends = (whole[0], whole[-1]) if len(whole) else (0, -1)
            spans.append(range(min(ends) // stored, max(ends) // stored + 1))
        for at in itertools.product(*spans):
            yield os.path.join(self.folder, array.metadata.encode_chunk_key(at))


def state_of(array: Any) -> State:
    """Tell stores apart, and the states of a folder or file; what is elsewhere is new each time."""
    import zarr

    store = array.store
    if isinstance(store, zarr.storage.ZipStore) and os.path.isfile(store.path):
        stamp = Stamp.of(store.path)
        return State((stamp, array.path), stamp)
    if isinstance(store, zarr.storage.LocalStore):
        folder = os.path.abspath(os.path.join(store.root, array.path))
        there = [os.path.join(folder, name) for name in _METADATA]
        stamps = [Stamp.of(path) for path in there if os.path.isfile(path)]
        stamp_of_it = stamps[0] if stamps else None
        with contextlib.suppress(OSError):  # somebody is writing to it
            found = _files(folder)
            if found is not None:
                newest = max((when for _, _, when in found), default=0)
                digest = hashlib.sha256(repr(sorted(found)).encode()).hexdigest()
                return State((folder, digest), stamp_of_it, folder, newest, array)
        return State(uuid.uuid4(), stamp_of_it)
    return State(uuid.uuid4())


def _files(folder: str) -> list[tuple[str, int, int]] | None:
    """Names, sizes and times of an array's files and folders; None where they are many."""
    found = [(folder, 0, os.stat(folder).st_mtime_ns)]
    folders = [folder]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                stat = entry.stat()
                found.append((entry.path, stat.st_size, stat.st_mtime_ns))
                if entry.is_dir():
                    folders.append(entry.path)
                if len(found) > MOST_FILES:
                    return None
    return found


def patient(read: Callable[[], Any]) -> Any:
    """Read, and again after a pause where a server is busy, stalls or hangs up; not for ever."""
    for number, pause in enumerate((*PAUSES, None), start=1):
        try:
            return read()
        except Exception as error:
            if not passing(error):
                raise
            if pause is None:
                raise OSError(
                    f"the server failed {number} times, the last with {type(error).__name__}: "
                    f"{error}"
                ) from error
            log.info("%s: %s; another try in %g s", type(error).__name__, error, pause)
            time.sleep(pause)


def stalls() -> Any:
    """Limits of an http connection: a chunk may take its time, but not stand still."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=STALLED / 2, sock_read=STALLED)


def patience(address: str) -> dict[str, Any]:
    """Options of a store elsewhere, so that no try of it takes for ever.

    s3fs tries again itself some times, and botocore as often within each of these.
    """
    if address.startswith(("http://", "https://")):
        return {"storage_options": {"client_kwargs": {"timeout": stalls()}}}
    if address.startswith("s3://"):
        limits = {"connect_timeout": STALLED / 2, "read_timeout": STALLED / 4}
        own = {**limits, "retries": {"max_attempts": 0}}
        return {"storage_options": {"config_kwargs": own}}
    return {}


def passing(error: BaseException) -> bool:
    """Whether an error is of a server or the way to it, and may pass: busy, stalled, hung up."""
    status = getattr(error, "status", None) or getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in (408, 429) or status >= 500
    if isinstance(error, OSError) and error.errno == errno.EBUSY:  # what s3fs makes of 503
        return True
    kinds = {kind.__name__ for kind in type(error).__mro__ if kind.__module__ != "builtins"}
    if kinds & {"ClientConnectionError", "ClientPayloadError", "FSTimeoutError", *_OF_S3}:
        return True
    return isinstance(error, ConnectionError | TimeoutError)
