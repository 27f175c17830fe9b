"""Ctrl-C and SIGTERM: the first lets what is under way be finished, the second ends it now."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from xs2p.compute.cluster import has_client
from xs2p.compute.progress import MARKS, is_counted

# Which signals, and what a process does with them that nobody has told otherwise.
_PLAIN: dict[int, Any] = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}


class _Asked:
    """What a signal has asked for, while something is computed that can be finished."""

    by: int | None = None
    finishing = False

    def now(self) -> BaseException:
        """Return what ends a run that was asked to end."""
        if self.by == signal.SIGTERM:
            return SystemExit(128 + signal.SIGTERM)
        return KeyboardInterrupt()


_asked = _Asked()


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Let a signal be taken by :func:`compute_marks`, and raised at once everywhere else.

    Only in the main thread, where Python has signals, and where nobody else handles them.
    """
    ours: list[int] = []
    if threading.current_thread() is threading.main_thread():
        ours = [number for number, plain in _PLAIN.items() if signal.getsignal(number) == plain]
    for number in ours:
        signal.signal(number, _handle)
    _asked.by = None
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, _PLAIN[number])


def _handle(number: int, frame: FrameType | None) -> None:
    first, _asked.by = _asked.by is None, number
    if not (first and _asked.finishing):
        raise _asked.now()
    again = "Ctrl-C again" if number == signal.SIGINT else "SIGTERM again"
    with contextlib.suppress(Exception):
        print(f"xs2p: stops after the region under way; {again} stops now", file=sys.stderr)


def compute_marks(marks: list[Any]) -> None:
    """Compute tasks that note what is on disk; after a signal no more than the next of them.

    Raises
    ------
    KeyboardInterrupt, SystemExit
        After Ctrl-C, after SIGTERM: what was noted is on disk.
    """
    import dask

    if threading.current_thread() is not threading.main_thread():
        dask.compute(*marks)
        return
    _asked.finishing = True
    try:
        if has_client():
            _on_cluster(marks)
            return
        from dask.callbacks import Callback

        with Callback(posttask=_look):
            dask.compute(*marks)
    finally:
        _asked.finishing = False


def _look(key: Any, *_: Any) -> None:
    if _asked.by is not None and (is_counted(key, MARKS) or MARKS in str(key)):
        raise _asked.now()


def _on_cluster(marks: list[Any]) -> None:
    from distributed import as_completed, get_client

    client = get_client()
    futures = client.compute(marks)
    try:
        for future in as_completed(futures):
            future.result()
            if _asked.by is not None:
                raise _asked.now()
    finally:
        client.cancel(futures)
