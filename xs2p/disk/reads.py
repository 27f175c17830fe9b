"""Reads of a movie that say which frames of which file they are about."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

READS = "xs2p-reads"  # of a cluster's scheduler: the topic where workers say what they read


class TooLargeError(OSError, MemoryError):
    """What is read of a file does not fit in memory: an error of the file, and one of memory."""


def is_matlab_file(path: str) -> bool:
    """Whether a file is of MATLAB's version 7.3: HDF5 after a block of 512 bytes that says so."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        return file.read(10) == b"MATLAB 7.3"


@contextlib.contextmanager
def naming(told: str, *names: str) -> Iterator[None]:
    """Name the file in whatever error opening it ends in: libraries fail on damage as they like.

    ``names`` are files that ``told`` stands for. Errors of the disk stay ``OSError``, a package
    that is absent an ``ImportError``; the others are a ``ValueError``. What does not fit in memory
    is a `TooLargeError`.
    """
    try:
        yield
    except (ImportError, Warning):
        raise
    except Exception as error:
        if type(error).__module__.startswith("xs2p."):  # of ours, which names its file
            raise
        text = str(error)
        named = any(name in text for name in (told, *names))
        if isinstance(error, MemoryError):
            raise TooLargeError(
                f"{told}: does not fit in memory, or is damaged ({text})"
            ) from error
        ours = type(error) is ValueError or isinstance(error, OSError)
        if ours and named:
            raise
        if isinstance(error, OSError):
            raise OSError(f"{told}: {text}") from error
        if ours:
            raise ValueError(f"{told}: {text}") from error
        raise ValueError(
            f"{told}: the file is damaged, or holds what is not known here "
            f"({type(error).__name__}: {text})"
        ) from error


@contextlib.contextmanager
def named_read(path: str, start: int, stop: int, step: int = 1) -> Iterator[None]:
    """Name the frames ``start:stop:step`` of a file where they cannot be read.

    A worker that is killed cannot raise anything: each says beforehand what it is about to read.
    """
    what = f"{path}: the chunk with frames {start} to {stop - 1}"
    if step > 1 and stop - start > 1:
        what += f", one in {step},"
    _tell_scheduler(what)
    try:
        yield
    except TooLargeError:
        raise
    except MemoryError as error:
        raise TooLargeError(
            f"{what} does not fit in memory; open the movie with smaller chunks ({error})"
        ) from error
    except Exception as error:
        if isinstance(error, OSError) and ": the chunk with frames " in str(error):
            raise  # of a file within this one, which says its own frames
        raise OSError(f"{what} cannot be read ({type(error).__name__}: {error})") from error


def _tell_scheduler(what: str) -> None:
    distributed: Any = sys.modules.get("distributed")
    if not hasattr(distributed, "get_worker"):  # also where it is being imported
        return
    with contextlib.suppress(ValueError):  # not on a worker
        distributed.get_worker().log_event(READS, {"reads": what})


def check_claim(name: str, what: str, claimed: int, limit: int) -> None:
    """Raise where a file says that it has more of something than can be in it."""
    if claimed > limit:
        raise ValueError(
            f"{name}: it tells of {claimed} {what}, and can hold {limit} at most: it is damaged"
        )
