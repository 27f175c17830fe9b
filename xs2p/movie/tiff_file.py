"""A TIFF file whose headers have been read, and its pages as they lie."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xs2p.movie.frames import Frames, Stamp


@dataclass
class Opened:
    """A TIFF file whose headers have been read."""

    name: str
    stamp: Stamp
    tif: Any
    n_pages: int


_TELLING = ("shaped", "mmstack", "ome", "imagej", "ndtiff")  # metadata that say what is in a file
_LISTENING = threading.Lock()  # a logger's filters must not change while it goes through them


@contextlib.contextmanager
def headers(name: str) -> Iterator[None]:
    """Raise where tifffile fails on the headers, or logs an error and reads on without a part.

    What tifffile logs of them is shown nowhere else. It may be told to log nothing: that a file is
    whole is looked at in its directories too.
    """
    said: list[str] = []
    here = threading.get_ident()

    def listen(record: logging.LogRecord) -> bool:
        if record.thread != here:
            return True
        if record.levelno >= logging.ERROR:
            said.append(record.getMessage())
        return False

    log = logging.getLogger("tifffile")
    with _LISTENING:
        log.addFilter(listen)
        try:
            yield
        except Exception as error:  # whatever a damaged header makes of the parser
            raise ValueError(f"{name}: not a readable TIFF file ({error})") from error
        finally:
            log.removeFilter(listen)
    if said:
        raise ValueError(
            f"{name}: the file is damaged, or was cut while it was written or copied: tifffile "
            f"says {said[0]!r}"
        )


def check_number(file: Opened, n_frames: int, expected: tuple[int, ...]) -> None:
    """Raise where metadata tell of fewer frames than the file has pages."""
    if file.n_pages not in expected:
        raise ValueError(
            f"{file.name}: {file.n_pages} pages, but its metadata tell of {n_frames} frames: they "
            "are not of this file. To have all pages as frames, write it anew with "
            f"tifffile.imwrite(path, tifffile.imread({file.name!r}, key=range({file.n_pages})), "
            "photometric='minisblack')"
        )


def told_by(tif: Any) -> list[str]:
    """Whose metadata a file has that say what is in it."""
    return [kind for kind in _TELLING if getattr(tif, f"is_{kind}")]


def check_followed(file: Opened, series: Sequence[Any]) -> None:
    """Raise where a file tells of a stack, and tifffile could not follow it.

    It then takes the pages that are there, the first alone of a stack that has one header: what it
    logs of that may be shown nowhere.
    """
    tif, first = file.tif, series[0]
    said = told_by(tif)
    page = tif.pages.first
    left = (
        file.stamp.size - page.dataoffsets[-1] - page.databytecounts[-1] if page.dataoffsets else 0
    )
    lost = (
        len(series) == 1 and first.size == page.size and file.n_pages == 1 and left >= page.nbytes
    )
    if (said and first.kind not in said) or (said and lost):
        told = {"imagej": "ImageJ", "ome": "OME"}.get(said[0], said[0])
        raise ValueError(
            f"{file.name}: it tells of a stack by its {told} metadata, which do not fit what is in "
            f"it, {file.n_pages} pages in {file.stamp.size} bytes: the file is damaged, or was cut "
            "while it was written or copied. order=('time', 'plane', 'channel') takes the pages "
            "that are there one after the other"
        )


def check_directories(file: Opened, found: Sequence[Any]) -> None:
    """Raise where tifffile has left out pages; walking the directories raises where it cannot."""
    if len(found) != file.n_pages:
        raise ValueError(
            f"{file.name}: the file is damaged: it has {len(found)} pages, and tifffile reads "
            f"{file.n_pages} of them"
        )


def all_pages(file: Opened, page: Any, n_pages: int | None = None) -> Frames:
    """Frames that are all pages of a file, in their order: raw where they lie evenly."""
    from xs2p.movie.frames import RawFrames, TiffPages
    from xs2p.movie.tiff_pages import survey

    pages = survey(file.name, page)
    number = pages.number
    if n_pages is not None:
        check_directories(file, range(number))
    shape = (number, int(page.shape[0]), int(page.shape[1]))
    stored = np.dtype(page.dtype).newbyteorder("=")
    if pages.offset is None:
        return TiffPages(file.stamp, shape, stored.str, None)
    stored = stored.newbyteorder(file.tif.byteorder)
    return RawFrames(file.stamp, shape, stored.str, pages.offset, pages.stride)


def check_codec(name: str, page: Any) -> None:
    """Raise where pages are compressed in a way that tifffile alone cannot read."""
    try:
        page.decode(None, 0)
    except (ValueError, NotImplementedError) as error:
        message = f"{name}: its pages cannot be decoded: {error}"
        if "imagecodecs" in str(error):
            raise ImportError(f"{message}; pip install imagecodecs") from error
        raise ValueError(message) from error


def number_of(said: dict[str, Any], *keys: str) -> int | None:
    """Take the first of these settings that is a number from 0 on, as a whole one."""
    for key in keys:
        value = said.get(key)
        if isinstance(value, int | float) and np.isfinite(value) and value >= 0:
            return int(value)
    return None
