"""One shape for the package's warnings."""

from __future__ import annotations

import contextlib
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any

import numpy as np

# Whose lines say nothing to a user: ours, and what calls us or is called by us on the way.
_NOT_THE_USERS = {
    *("xs2p", "xarray", "dask", "distributed", "numpy", "numba"),
    *("contextlib", "functools", "concurrent", "threading", "typer", "click"),
}


# Who keeps what is warned of: the thread that asked, and its list.
_listening: list[tuple[int, list[str]]] = []
_lock = threading.Lock()
_shown_before: list[Any] = []  # what showed warnings before somebody listened


def warn(message: str) -> None:
    """Warn at the line of the caller's own code, not inside the package or xarray.

    In a thread of Dask's there is no such line: the warning then points at the outermost of ours.
    """
    _hear(message)  # also where Python shows it once only, or not at all
    level = ours = 1
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        level += 1
        if _is_users(frame):
            break
        if _package(frame) == "xs2p":
            ours = level
        frame = frame.f_back
    warnings.warn(message, UserWarning, stacklevel=ours if frame is None else level)


@contextlib.contextmanager
def hearing() -> Iterator[list[str]]:
    """Keep what is warned of meanwhile, each text once; of an outer one in this thread too.

    Warnings of threads that listen are theirs; those of Dask's threads are of all that listen.
    """
    here = threading.get_ident()
    with _lock:
        heard = [text for thread, said in _listening if thread == here for text in said]
        if not _listening:
            _shown_before[:] = [warnings.showwarning]
            warnings.showwarning = _show
        _listening.append((here, heard))
    try:
        yield heard
    finally:
        with _lock:
            at = next(i for i, (_, said) in enumerate(_listening) if said is heard)
            del _listening[at]
            if not _listening and warnings.showwarning is _show:
                warnings.showwarning = _shown_before[0]


def _hear(text: str) -> None:
    here = threading.get_ident()
    own = [said for thread, said in _listening if thread == here]
    for said in own or [said for _, said in list(_listening)]:
        if text not in said:
            said.append(text)


def _show(message: Warning | str, *args: Any, **kwargs: Any) -> None:
    _hear(str(message))
    _shown_before[0](message, *args, **kwargs)


def _is_users(frame: FrameType) -> bool:
    # A doctest or a cell of a notebook is the user's, also where it runs among a module's names.
    return frame.f_code.co_filename.startswith("<doctest") or _package(frame) not in _NOT_THE_USERS


def _package(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


def names(values: Any, most: int = 5) -> str:
    """Write the first few labels: ``3, 7, 9, … (12 in all)``."""
    listed = [str(v) for v in np.asarray(values).tolist()]
    text = ", ".join(listed[:most])
    return text if len(listed) <= most else f"{text}, … ({len(listed)} in all)"
