"""How work is fitted to a device's memory and shared out among threads: plain Python.

What needs CuPy is handed in, so that all of it is tested without a device.
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Hashable, Iterator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def batch_size(each: int, available: int, most: int, multiple: int = 1) -> int:
    """How many things of ``each`` bytes fit into the available ones: at least 1, at most ``most``.

    A multiple of ``multiple`` where that many fit, but not all.
    """
    size = max(min(available // max(each, 1), most), 1)
    return size if size < multiple or size == most else size // multiple * multiple


def in_batches(
    n: int,
    size: int,
    work: Callable[[int, int], None],
    release: Callable[[], None],
    unit: str,
) -> int:
    """Call ``work(start, stop)`` until all of ``n`` things are done, ``size`` at a time.

    Where that is more than the memory holds, what no one uses is released and half as many are
    tried, also from then on. Returns the size that was enough.

    Raises
    ------
    MemoryError
        If not even one fits.
    """
    start = 0
    while start < n:
        stop = min(start + size, n)
        try:
            work(start, stop)
        except MemoryError as error:
            if stop - start == 1:
                if isinstance(error, _NotEvenOne):
                    raise
                raise _NotEvenOne(
                    f"the GPU's memory does not hold what one {unit} needs ({error}); free some "
                    "of it, use fewer ROIs or frames at a time, or give device='cpu'"
                ) from error
            size = (stop - start) // 2
        else:
            start = stop
            continue
        # Only here has the error let go of what was allocated on the way to it.
        release()
    return size


class _NotEvenOne(MemoryError):
    """What cannot be mended by doing less at a time."""


class Uploads(Generic[T]):
    """What was copied to a device for an object of the host: once, until that object is gone.

    Tasks of all threads are given the same object, and so share one copy. ``count`` says how
    many copies were ever made.
    """

    def __init__(self) -> None:
        self.count = 0
        self._lock = threading.RLock()  # an object may be collected while a thread is inside
        self._copies: dict[tuple[int, Hashable], tuple[weakref.ref[Any], T]] = {}

    def __len__(self) -> int:
        return len(self._copies)

    def get(self, source: Any, device: Hashable, upload: Callable[[], T]) -> T:
        """Return the copy that stands for ``source``, which can be referred to weakly."""
        key = id(source), device
        with self._lock:
            known = self._copies.get(key)
            if known is not None and known[0]() is source:
                return known[1]
            copy = upload()
            self.count += 1
            copies = self._copies
            self._copies[key] = (weakref.ref(source, lambda _: copies.pop(key, None)), copy)
            return copy


class Lent(Generic[T]):
    """At most ``most(device)`` things on each device, each lent to one thread at a time.

    They are made when they are needed and kept; a thread that finds none waits.
    """

    def __init__(self, make: Callable[[], T], most: Callable[[Any], int]) -> None:
        self.most = most
        self._make = make
        self._lock, self._one_alone = threading.Lock(), threading.Lock()
        self._turns: dict[Hashable, threading.Semaphore] = {}
        self._free: dict[Hashable, list[T]] = {}

    @contextlib.contextmanager
    def on(self, device: Hashable) -> Iterator[T]:
        """Lend one of the things of a device."""
        with self._turns_of(device), self._thing(self._free[device]) as thing:
            yield thing

    @contextlib.contextmanager
    def alone(self, device: Hashable) -> Iterator[T]:
        """Lend one while no other of that device is lent."""
        turns = self._turns_of(device)
        with contextlib.ExitStack() as all_turns:
            with self._one_alone:  # two that each wait for the other's turns would wait for ever
                for _ in range(self.most(device)):
                    all_turns.enter_context(turns)
            with self._thing(self._free[device]) as thing:
                yield thing

    def _turns_of(self, device: Hashable) -> threading.Semaphore:
        with self._lock:
            self._free.setdefault(device, [])
            return self._turns.setdefault(device, threading.Semaphore(self.most(device)))

    @contextlib.contextmanager
    def _thing(self, free: list[T]) -> Iterator[T]:
        try:
            thing = free.pop()
        except IndexError:
            thing = self._make()
        try:
            yield thing
        finally:
            free.append(thing)


def pieces_of_time(n_traces: int, n_frames: int, reach: int, threads: int) -> tuple[int, int]:
    """Cut time into pieces that are worked on at once: their number, and the frames of each.

    As many as it takes for ``threads`` traces and pieces of traces; but none so short that the
    frames that it sees of its neighbours, ``reach`` on each side, are more than a quarter.
    """
    wanted = -(-threads // max(n_traces, 1))
    count = max(min(wanted, n_frames // max(8 * reach, 1)), 1)
    step = max(-(-n_frames // count), 1)
    return max(-(-n_frames // step), 1), step
