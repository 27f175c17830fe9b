"""Frames of a file as small duck arrays that Dask can slice without opening the file early.

Handing Dask a ``numpy.memmap`` copies the whole file into memory. These objects hold a path
and a layout, pickle in a few hundred bytes, and open the file inside each read, so they
work the same on threads, processes and remote workers.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterator
from dataclasses import astuple, dataclass
from typing import Any

import numpy as np

from xs2p.disk.reads import named_read

BLOCK_BYTES = 2**24  # frames read at once where only a part of each frame is wanted


@dataclass(frozen=True)
class Stamp:
    """Which state of which file a lazy array was opened on."""

    path: str
    size: int
    mtime_ns: int

    def __post_init__(self) -> None:
        # No field, so that it is in no token: a movie is the same wherever it is opened.
        object.__setattr__(self, "_host", platform.node())

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Stamp:
        """Stamp a file as it is now, by its absolute path."""
        stat = os.stat(path)
        return cls(os.path.abspath(path), stat.st_size, stat.st_mtime_ns)

    def is_here(self) -> bool:
        """Whether this is the machine that it was made on, whose times of files it has."""
        return bool(self.__dict__["_host"] == platform.node())

    def check(self) -> None:
        """Raise where the file is not as it was: what is read would go by the old one's name.

        Other machines may see other times of the same file, by a cache, a coarser clock of their
        file system or a copy of their own; there the size alone must agree.
        """
        stat = os.stat(self.path)
        if stat.st_size != self.size:
            what = (
                f"has {stat.st_size} bytes now, and had {self.size} bytes when it was opened: it "
                "was cut, written on or replaced since"
            )
        elif stat.st_mtime_ns != self.mtime_ns and self.is_here():
            what = "was written anew since it was opened"
        else:
            return
        raise OSError(f"{self.path} {what}; open it anew with xs2p.open_movie")


@contextlib.contextmanager
def read_of(stamp: Stamp, start: int, stop: int, step: int = 1) -> Iterator[None]:
    """Name frames where they cannot be read, and let none pass of another file than was opened.

    That is looked at before and after, since a file may be replaced while it is read.
    """
    with named_read(stamp.path, start, stop, step):
        stamp.check()
        try:
            yield
        except Exception:
            stamp.check()  # that says more than what followed from it
            raise
        stamp.check()


class Sliced:
    """Indexing of a duck array ``(time, y, x)``, over a `read` of whole frames."""

    shape: tuple[int, int, int]
    ndim = 3

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the frames read, in this machine's byte order."""
        raise NotImplementedError

    def named(self, start: int, stop: int) -> contextlib.AbstractContextManager[None]:
        """Say in errors which file the frames ``start:stop`` are of."""
        raise NotImplementedError

    def __getitem__(self, key: Any) -> np.ndarray[Any, Any]:
        keys = list(key) if isinstance(key, tuple) else [key]
        at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
        keys[at : at + 1] = [slice(None)] * (3 - len(keys) + (at < len(keys)))
        time = keys[0]
        if isinstance(time, slice):
            wanted = np.arange(*time.indices(self.shape[0]))
        else:
            wanted = np.asarray(np.arange(self.shape[0])[time])
        every = np.atleast_1d(wanted)
        with self.named(int(every.min(initial=self.shape[0])), int(every.max(initial=0)) + 1):
            frames = self._select(every, (slice(None), *keys[1:]))
        return frames if wanted.ndim else np.asarray(frames[0])

    def _select(self, wanted: np.ndarray[Any, Any], space: Any) -> np.ndarray[Any, Any]:
        # Dask writes slice(0, n) for a whole dim; frames that are wanted whole are read in place.
        whole = all(
            isinstance(k, slice) and k.indices(n) == (0, n, 1)
            for k, n in zip(space, self.shape, strict=False)
        )
        frame_bytes = max(1, self.shape[1] * self.shape[2] * self.dtype.itemsize)
        limit = max(1, len(wanted) if whole else BLOCK_BYTES // frame_bytes)
        breaks = np.flatnonzero(np.diff(wanted) != 1) + 1
        runs = [
            (int(run[i]), int(run[min(i + limit, len(run)) - 1]) + 1)
            for run in np.split(wanted, breaks)
            if len(run)
            for i in range(0, len(run), limit)
        ]
        if len(runs) == 1:
            return np.ascontiguousarray(self.read(*runs[0])[space])
        probe = np.empty((0, *self.shape[1:]), self.dtype)[space]
        out = np.empty((len(wanted), *probe.shape[1:]), self.dtype)
        at = 0
        for start, stop in runs:
            out[at : at + stop - start] = self.read(start, stop)[space]
            at += stop - start
        return out

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read the frames ``start:stop``, whole, in this machine's byte order."""
        raise NotImplementedError

    reads_into = False  # whether `read_into` can: some frames then cost no more than many

    def read_into(self, start: int, out: np.ndarray[Any, Any], step: int = 1) -> None:
        """Read every ``step``-th frame from ``start`` on into ``out``, as many as it has."""
        raise NotImplementedError


@dataclass(frozen=True)
class Frames(Sliced):
    """Base of the frames of one file."""

    stamp: Stamp
    shape: tuple[int, int, int]
    stored: str  # dtype of the file, byte order included

    @property
    def dtype(self) -> np.dtype[Any]:
        """The dtype of the frames read: that of the file in this machine's byte order."""
        return np.dtype(self.stored).newbyteorder("=")

    def __dask_tokenize__(self) -> tuple[object, ...]:
        return (type(self).__name__,) + astuple(self)

    def named(self, start: int, stop: int) -> contextlib.AbstractContextManager[None]:
        """Say in errors which file the frames ``start:stop`` are of."""
        return read_of(self.stamp, start, stop)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame, ``count`` of them, and none of those between."""
        out = np.empty((count, *self.shape[1:]), self.dtype)
        for i in range(count):
            out[i] = self.read(start + i * step, start + i * step + 1)[0]
        return out


@dataclass(frozen=True)
class RawFrames(Frames):
    """Frames that lie one after the other in a file, from a byte offset on.

    ``stride`` is the distance of their beginnings in bytes where something lies between them.
    """

    offset: int = 0
    stride: int = 0

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Seek and read exactly these frames."""
        return self._read(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Seek to each of these frames."""
        return self._read(start, step, count)

    def _read(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        frames = np.empty((count, *self.shape[1:]), self.stored)
        self.read_into(start, frames, step)
        return frames.astype(self.dtype, copy=False)

    @property
    def reads_into(self) -> bool:  # type: ignore[override]
        """Where they are frames as they lie there, and in this machine's byte order."""
        kind = type(self)
        as_here = kind.read is RawFrames.read and kind.take is RawFrames.take
        return as_here and np.dtype(self.stored).isnative

    def read_into(self, start: int, out: np.ndarray[Any, Any], step: int = 1) -> None:
        """Read them to where they are to be."""
        self.stamp.check()
        with open(self.stamp.path, "rb", buffering=0) as file:
            if step == 1 and not self.stride:
                self._fill(file, start, out)
                return
            for i in range(len(out)):
                self._fill(file, start + i * step, out[i : i + 1])

    def _fill(self, file: Any, start: int, frames: np.ndarray[Any, Any]) -> None:
        view = memoryview(frames.reshape(-1).view(np.uint8).data)
        frame_bytes = self.stride or frames.nbytes // max(1, len(frames))
        done = 0
        file.seek(self.offset + start * frame_bytes)
        while done < len(view):
            got = file.readinto(view[done:])
            if not got:
                size = os.fstat(file.fileno()).st_size
                raise truncated(self, (size - self.offset) // frame_bytes, size)
            done += got


@dataclass(frozen=True)
class FortranFrames(Frames):
    """Frames of an array in Fortran order: a frame's pixels lie all over the file."""

    offset: int = 0

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Gather the frames through a memory map of the file."""
        self.stamp.check()
        mapped = np.memmap(
            self.stamp.path, self.stored, "r", self.offset, shape=self.shape, order="F"
        )
        return np.array(mapped[start:stop], dtype=self.dtype, order="C", subok=False)


@dataclass(frozen=True)
class TiffPages(Frames):
    """Frames that are the pages of a TIFF file, compressed or scattered."""

    series: int | None = 0  # None: every page of the file

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Decode these pages."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Decode every ``step``-th page, and none of those between."""
        import tifffile

        self.stamp.check()
        stop = start + step * (count - 1) + 1
        with tifffile.TiffFile(self.stamp.path) as tif:
            pages = tif.pages if self.series is None else tif.series[self.series].pages
            if len(pages) < stop:
                size = os.path.getsize(self.stamp.path)
                raise truncated(self, len(pages), size)
            for n in range(start, stop, step):
                check_page(self, pages[n])
            # maxworkers=1: the threads are Dask's.
            key = slice(start, stop, step)
            frames = tif.asarray(key=key, series=self.series, maxworkers=1)
        return _as_opened(self, frames, count)


@dataclass(frozen=True)
class ScatteredPages(Frames):
    """Frames that are pages of one or several TIFF files, in any order, as OME-TIFF has them."""

    files: tuple[Stamp, ...] = ()
    runs: tuple[tuple[int, int, int], ...] = ()  # (file, first page, number of pages)

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Decode the pages of these frames."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Decode the pages of every ``step``-th frame."""
        import tifffile

        lengths = np.array([run[2] for run in self.runs])
        before = np.cumsum(lengths) - lengths
        wanted = start + step * np.arange(count)
        of_run = np.searchsorted(before, wanted, side="right") - 1
        file, first = np.array([run[:2] for run in self.runs]).T
        pages = first[of_run] + wanted - before[of_run]
        out = np.empty((count, *self.shape[1:]), self.dtype)
        for n in np.unique(file[of_run]):
            here = np.flatnonzero(file[of_run] == n)
            self.files[n].check()
            with tifffile.TiffFile(self.files[n].path) as tif:
                if len(tif.pages) <= pages[here].max():
                    path = self.files[n].path
                    raise OSError(f"{path} now holds {len(tif.pages)} pages: open it anew")
                for page in pages[here].tolist():
                    check_page(self, tif.pages[page])
                frames = tif.asarray(key=pages[here].tolist(), maxworkers=1)
            out[here] = _as_opened(self, frames, len(here))
        return out


def check_page(frames: Frames, page: Any) -> None:
    """Raise where a page of a TIFF is no such frame, or has pixels nowhere in its file.

    tifffile makes room for whatever a page claims, and has zeros for pixels that are nowhere.
    """
    if page is None:
        raise OSError("a page of it is gone since it was opened: open it anew")
    if tuple(page.shape[-2:]) != frames.shape[1:]:
        raise _other_page(frames, tuple(page.shape), np.dtype(page.dtype).newbyteorder("="))
    size = page.parent.filehandle.size
    ends = [at + n for at, n in zip(page.dataoffsets, page.databytecounts, strict=False)]
    empty = not ends or 0 in page.dataoffsets or 0 in page.databytecounts
    if empty or max(ends) > size or len(page.dataoffsets) != len(page.databytecounts):
        raise OSError(
            f"page {page.index} has pixels that are nowhere in its {size} bytes: the file is "
            "damaged, or was cut"
        )


def _as_opened(frames: Frames, pages: np.ndarray[Any, Any], count: int) -> np.ndarray[Any, Any]:
    """Take decoded pages for frames; another file in the place of the one opened has others."""
    pages = pages.reshape(count, *pages.shape[-2:])
    kind, wanted = pages.dtype.newbyteorder("="), frames.dtype
    if kind != wanted or pages.shape[1:] != frames.shape[1:]:
        raise _other_page(frames, pages.shape[1:], kind)
    return pages.astype(wanted, copy=False)


def _other_page(frames: Frames, shape: tuple[int, ...], kind: np.dtype[Any]) -> OSError:
    return OSError(
        f"its pages are {shape} of {kind} now, and were {frames.shape[1:]} of {frames.dtype} when "
        "it was opened: open it anew with xs2p.open_movie"
    )


def truncated(frames: Frames, found: int, size: int) -> OSError:
    """Error of a file that holds less than when it was opened."""
    return OSError(
        f"the file now holds {max(0, found)} whole frames, {size} bytes, and held "
        f"{frames.shape[0]} frames, {frames.stamp.size} bytes, when it was opened. It was cut or "
        "replaced since: open it anew with xs2p.open_movie"
    )
