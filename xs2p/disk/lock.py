"""One writer: a lock file beside what is written, which counts while its writer's heart beats.

Only exclusive creation is relied on, which also network disks give; `flock` they may not. The
holder creates the lock with a token in it and touches it every few seconds. Whoever takes a lock
over creates a file that is named after the token of the old holder, so that of several one wins,
and the last file of such a chain is the holder's. A holder that is to let go ends its own token in
the same way: nobody can take over what is just being released.

How long ago a heart beat is read from the disk alone, by a file that is made there for it: clocks
of machines differ.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import platform
import re
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

BEAT = 10.0  # s from one sign of life to the next
STALE = 60.0  # s without one, after which a lock may be taken over
_GONE = (errno.ENOENT, errno.ESTALE) if hasattr(errno, "ESTALE") else (errno.ENOENT,)
_TAKEN = b"\n"  # added to the file of a holder that was taken over: its own it reads for sure

_log = logging.getLogger("xs2p")
_mine: set[str] = set()  # tokens that this process holds


class LostLock(OSError):
    """Another has taken over the lock, or it was deleted."""


@dataclass(frozen=True)
class Hold:
    """A lock that is held; those who work for the holder have a copy, on whatever machine."""

    path: str
    token: str

    def check(self) -> None:
        """Raise a LostLock unless the lock is still held."""
        chain = _chain(self.path)
        if not chain or chain[-1].token != self.token or chain[-1].taken:
            by = f" by {chain[-1].holder}" if chain and chain[-1].token != self.token else ""
            how = f"was taken over{by}" if chain else "is gone"
            raise LostLock(
                f"the lock {self.path} {how}, so this run writes no more: what it has marked as "
                "done is kept, and resume=True goes on with it once nobody else does"
            )


@dataclass(frozen=True)
class _Entry:
    """A file of the chain: what its writer said of itself."""

    path: str
    token: str
    said: dict[str, Any]
    touched: float
    taken: bool

    @property
    def holder(self) -> str:
        if "pid" not in self.said:
            return "a process that has not said who it is"
        return "process {pid} on {host} since {since}".format(**self.said)


@contextlib.contextmanager
def locked(path: str, what: str, wait: float = 0.0) -> Iterator[Hold]:
    """Hold the lock ``path`` of ``what``, waiting for it so many seconds where another has it.

    Raises
    ------
    BlockingIOError
        Another has it; the message says who and since when.
    """
    token = uuid.uuid4().hex
    _mine.add(token)
    try:
        held, file = _acquire(path, token, what, wait)
        try:
            _sweep(path, token)
            with _beating(held, file):
                yield Hold(path, token)
        finally:
            _close(file)
            with contextlib.suppress(OSError):  # it goes stale, then
                _release(path, token)
    finally:
        _mine.discard(token)


def _acquire(path: str, token: str, what: str, wait: float) -> tuple[str, int | None]:
    """Return the file of the chain that is ours now, and its descriptor."""
    until = time.monotonic() + wait
    before, since, waiting = None, 0.0, False
    while True:
        chain = _chain(path)
        old = chain[-1] if chain else None
        if old != before:
            before, since = old, time.monotonic()
        why = "" if old is None else _why_stale(old, time.monotonic() - since)
        if old is None or why:
            new = path if old is None else _after(path, old.token)
            made, file = _create(new, token)
            if made and _is_last(path, token):
                if old is not None:
                    _take_over(old, what, str(why))
                return new, file
            if made:  # the chain that it belongs to went meanwhile
                _close(file)
                _unlink(new)
            continue
        # A heart that seems not to beat is watched: that tells it from a clock that is wrong.
        if why is None and time.monotonic() >= until:
            raise BlockingIOError(
                f"{what} is being written by {old.holder}; wait=600 waits so many seconds for it "
                "to end. One that gives no sign of life for a minute is taken over"
            )
        if why is None and not waiting:
            _log.warning("%s is being written by %s: waiting for it to end", what, old.holder)
            waiting = True
        time.sleep(min(1.0, BEAT / 10))


def _why_stale(entry: _Entry, watched: float) -> str | None:
    """Why a lock is nobody's; "" where that is not sure yet, None where somebody holds it."""
    if entry.said.get("released"):
        # Its writer is about to delete it.
        return "it has ended" if watched > 1.5 * BEAT else ""
    if _has_ended(entry.said):
        return "that process has ended"
    age = _now(entry.path) - entry.touched
    if age <= STALE:
        return None
    return f"no sign of life for {age:.0f} s" if watched > 1.5 * BEAT else ""


def _take_over(old: _Entry, what: str, why: str) -> None:
    with contextlib.suppress(OSError), open(old.path, "r+b") as file:
        file.seek(0, os.SEEK_END)
        file.write(_TAKEN)
    if not old.said.get("released"):
        _log.warning("%s: the lock of %s is taken over: %s", what, old.holder, why)


def is_free(path: str) -> bool:
    """Whether nothing of a lock is there, not even what the next who holds it would remove."""
    return not (os.path.lexists(path) or _ended(path))


def _sweep(path: str, token: str) -> None:
    """Remove files of chains that have gone, of which the power took their end alone."""
    found = _ended(path)
    ours = {entry.token for entry in _chain(path)}
    for one in found:
        # Whoever is just creating one finds that it is no part of the chain, and removes it too.
        if one[1] not in ours and _is_last(path, token):
            _unlink(os.path.join(os.path.dirname(path), one[0]))


def _ended(path: str) -> list[re.Match[str]]:
    """Files that end tokens of a lock, by their names."""
    folder, name = os.path.split(path)
    ends = re.compile(rf"{re.escape(name)}\.([0-9a-f]{{32}})")
    found = [ends.fullmatch(other) for other in os.listdir(folder or os.curdir)]
    return [one for one in found if one is not None]


def _release(path: str, token: str) -> None:
    if not _is_last(path, token):
        return
    made, file = _create(_after(path, token), uuid.uuid4().hex, released=True)
    if not made:  # it is being taken over
        return
    _close(file)
    # The first one first: whoever sees a part of the chain finds that it leads nowhere.
    for entry in _chain(path):
        _unlink(entry.path)


# The chain


def _chain(path: str) -> list[_Entry]:
    """All who have the lock one after another; the last one holds it."""
    chain: list[_Entry] = []
    at = path
    while True:
        entry = _read(at)
        if entry is None:
            return chain
        chain.append(entry)
        at = _after(path, entry.token)


def _after(path: str, token: str) -> str:
    """Return the file that ends a token: of its successor, or of its own release."""
    return f"{path}.{token}"


def _read(path: str) -> _Entry | None:
    try:
        # To open it asks the file server, where a look at its name may be answered from memory.
        with open(path, "rb") as file:
            text, touched = file.read(), os.fstat(file.fileno()).st_mtime
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    try:
        said = json.loads(text)
        token = str(said["token"])
    except (ValueError, TypeError, KeyError):  # just being written, or its writer was killed then
        said, token = {}, f"void-{len(os.path.basename(path))}"
    return _Entry(path, token, said, touched, text.endswith(_TAKEN))


def _create(path: str, token: str, released: bool = False) -> tuple[bool, int | None]:
    """Create a file and say in it who we are, and give its descriptor; False where it is there."""
    try:
        file = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0), 0o644)
    except FileExistsError:
        return False, None
    said = {**_who(), "token": token} | ({"released": True} if released else {})
    try:
        os.write(file, json.dumps(said).encode())
        os.fsync(file)
    except BaseException:  # the disk is full
        os.close(file)
        _unlink(path)
        raise
    if os.utime in os.supports_fd:
        return True, file
    os.close(file)
    return True, None


def _is_last(path: str, token: str) -> bool:
    chain = _chain(path)
    return bool(chain) and chain[-1].token == token


def _unlink(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def _close(file: int | None) -> None:
    if file is not None:
        os.close(file)


@contextlib.contextmanager
def _beating(path: str, file: int | None) -> Iterator[None]:
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):  # the next beat may reach the disk again
                os.utime(path if file is None else file)  # without times: the file server's own

    heart = threading.Thread(target=beat, name="xs2p-lock", daemon=True)
    heart.start()
    try:
        yield
    finally:
        ended.set()
        heart.join()


def _now(path: str) -> float:
    """Return the time by the clock of the disk."""
    probe = f"{path}.{uuid.uuid4().hex}.now"
    file = os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    try:
        os.write(file, b".")
        os.fsync(file)
        return os.fstat(file).st_mtime
    finally:
        os.close(file)
        _unlink(probe)


# Processes


def _who() -> dict[str, Any]:
    return {
        **_place(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _place() -> dict[str, str]:
    """Return what tells machines, and containers on one, apart: numbers of processes hold there."""
    place = {"host": platform.node(), "boot": "", "space": ""}
    if sys.platform == "linux":
        with contextlib.suppress(OSError), open("/proc/sys/kernel/random/boot_id") as file:
            place["boot"] = file.read().strip()
        with contextlib.suppress(OSError):
            place["space"] = os.readlink("/proc/self/ns/pid")
    elif os.name == "posix":  # the number of a network card
        place["boot"], place["space"] = f"{uuid.getnode():x}", "all"
    return place


def _has_ended(said: dict[str, Any]) -> bool:
    """Whether a process has ended, so far as that can be seen from here."""
    place = _place()
    here = all(place.values()) and all(said.get(key) == value for key, value in place.items())
    if not here or not isinstance(said.get("pid"), int):
        return False
    pid = int(said["pid"])
    if pid == os.getpid() and said.get("started") == _started(pid):
        return said["token"] not in _mine
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        pass
    now = _started(pid)
    return now is not None and now != said.get("started")


def _started(pid: int) -> str | None:
    """When a process started, in the machine's own units: another may have its number later."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            state, *rest = file.read().rpartition(")")[2].split()
    except (OSError, ValueError):
        return None
    return "ended" if state in "ZX" else rest[18]
