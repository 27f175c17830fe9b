"""Reads of a movie that say which frames of which file they are about."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator

READS = "xs2p-reads"  # of a cluster's scheduler: the topic where workers say what they read


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
    except MemoryError as error:
        raise MemoryError(
            f"{what} does not fit in memory; open the movie with smaller chunks ({error})"
        ) from error
    except Exception as error:
        raise OSError(f"{what} cannot be read ({type(error).__name__}: {error})") from error


def _tell_scheduler(what: str) -> None:
    distributed = sys.modules.get("distributed")
    if distributed is None:
        return
    with contextlib.suppress(ValueError):  # not on a worker
        distributed.get_worker().log_event(READS, {"reads": what})
