"""Find the frames of a TIFF stack, and what it says of channels and planes."""

from __future__ import annotations

import contextlib
import logging
import math
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.turns import Stack, Turn

if TYPE_CHECKING:
    from xs2p.movie.frames import Frames, Stamp


@dataclass
class _Opened:
    """A TIFF file whose headers have been read."""

    name: str
    stamp: Stamp
    tif: Any
    n_pages: int


_LISTENING = threading.Lock()  # a logger's filters must not change while it goes through them


@contextlib.contextmanager
def _headers(name: str) -> Iterator[None]:
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


def tiff_stack(name: str, alone: bool, plain: bool = False) -> Stack:
    """Read the headers of a grey-scale stack.

    ``alone``: no other files are opened with it. ``plain``: the user says how frames come in turn,
    whatever the file says.
    """
    import tifffile

    from xs2p.movie.frames import Stamp

    stamp = Stamp.of(name)
    with contextlib.ExitStack() as stack:
        with _headers(name):
            tif = stack.enter_context(tifffile.TiffFile(name))
            scanimage = tif.is_scanimage
            # Of a large file ScanImage's pages are counted once, where they are looked at.
            n_pages = 0 if scanimage else len(tif.pages)
            all_series = [] if scanimage else list(tif.series)
        if scanimage:
            return _scanimage(_Opened(name, stamp, tif, n_pages), plain)
        if not all_series:
            raise ValueError(f"{name}: a TIFF file without pages")
        return _series(_Opened(name, stamp, tif, n_pages), all_series, alone, plain)


def _check_number(file: _Opened, n_frames: int, expected: tuple[int, ...]) -> None:
    """Raise where metadata tell of fewer frames than the file has pages."""
    if file.n_pages not in expected:
        raise ValueError(
            f"{file.name}: {file.n_pages} pages, but its metadata tell of {n_frames} frames: they "
            "are not of this file. To have all pages as frames, write it anew with "
            f"tifffile.imwrite(path, tifffile.imread({file.name!r}, key=range({file.n_pages})), "
            "photometric='minisblack')"
        )


def _check_directories(file: _Opened, found: Sequence[Any]) -> None:
    """Raise where tifffile has left out pages; walking the directories raises where it cannot."""
    if len(found) != file.n_pages:
        raise ValueError(
            f"{file.name}: the file is damaged: it has {len(found)} pages, and tifffile reads "
            f"{file.n_pages} of them"
        )


def _series(file: _Opened, all_series: list[Any], alone: bool, plain: bool) -> Stack:
    name, first = file.name, all_series[0]
    alike = {(s.shape, str(s.dtype), s.axes) for s in all_series}
    if len(all_series) > 1 and len(alike) == 1 and first.axes == "YX":
        # Written frame by frame: every page is a series of its own.
        _check_codec(name, first.keyframe)
        return Stack(_all_pages(file, first.keyframe, file.n_pages))
    if len(all_series) > 1:
        found = ", ".join(f"{s.shape} {s.dtype}" for s in all_series[:8])
        raise ValueError(
            f"{name}: holds {len(all_series)} series ({found}), expected one stack of frames. "
            "Read the one you want with tifffile.imread(path, series=i) and write it with "
            "tifffile.imwrite(path, frames, photometric='minisblack')"
        )
    if first.axes[-2:] != "YX" or "S" in first.axes:
        shape = tuple(int(n) for n in first.shape)
        raise ValueError(
            f"{name}: a TIFF of shape {shape} with axes {first.axes!r}, expected one grey-scale "
            "frame after the other, (time, y, x), and not colours: take one of them with "
            "tifffile.imread(path) and write it with tifffile.imwrite(path, frames, "
            "photometric='minisblack')"
        )
    if first.kind in ("mmstack", "ndtiff") and plain:
        # All pages as they were written: also of a recording that was stopped within a turn.
        _check_codec(name, file.tif.pages.first)
        return Stack(_all_pages(file, file.tif.pages.first, file.n_pages))
    if first.is_multifile and not alone:
        raise ValueError(
            f"{name}: its metadata name other files of the same movie; open this one alone, and "
            f"they come with it: open_movie({name!r})"
        )
    return _one_series(file, first, alone)


def _one_series(file: _Opened, series: Any, alone: bool) -> Stack:
    """Frames of the only series: raw, of pages wherever they lie, or of all pages."""
    from xs2p.movie.frames import RawFrames, TiffPages
    from xs2p.movie.tiff_pages import offsets

    name, shape = file.name, tuple(int(n) for n in series.shape)
    n_frames = int(np.prod(shape[:-2]))
    frame = (n_frames, shape[-2], shape[-1])
    named = tuple(zip(series.axes[:-2], shape[:-2], strict=True))
    stored = np.dtype(series.dtype)
    if series.dataoffset is not None and not series.is_multifile:
        if series.kind in ("imagej", "ome"):
            _check_number(file, n_frames, (1, n_frames))
        stored = stored.newbyteorder(file.tif.byteorder)
        needed = series.dataoffset + int(np.prod(shape)) * stored.itemsize
        if file.stamp.size < needed:
            raise ValueError(
                f"{name}: {file.stamp.size} bytes, but {shape} of {stored} needs {needed}: "
                "the file was cut"
            )
        return Stack(RawFrames(file.stamp, frame, stored.str, series.dataoffset), named)
    if len(series.pages) != n_frames:
        raise ValueError(
            f"{name}: {len(series.pages)} pages for {n_frames} frames, expected a page a "
            "frame; write it anew with tifffile.imwrite(path, tifffile.imread(path), "
            "photometric='minisblack')"
        )
    _check_codec(name, series.keyframe)
    stored = stored.newbyteorder("=")
    if series.is_multifile or series.kind in ("ome", "mmstack", "ndtiff"):
        return Stack(_scattered(file, series, frame, stored, alone), named)
    if file.n_pages != n_frames:
        _check_directories(file, offsets(name))
        return Stack(TiffPages(file.stamp, frame, stored.str, 0), named)
    return Stack(_all_pages(file, series.keyframe, file.n_pages), named)


def _all_pages(file: _Opened, page: Any, n_pages: int | None = None) -> Frames:
    """Frames that are all pages of a file, in their order: raw where they lie evenly."""
    from xs2p.movie.frames import RawFrames, TiffPages
    from xs2p.movie.tiff_pages import survey

    pages = survey(file.name, page)
    number = pages.number
    if n_pages is not None:
        _check_directories(file, range(number))
    shape = (number, int(page.shape[0]), int(page.shape[1]))
    stored = np.dtype(page.dtype).newbyteorder("=")
    if pages.offset is None:
        return TiffPages(file.stamp, shape, stored.str, None)
    stored = stored.newbyteorder(file.tif.byteorder)
    return RawFrames(file.stamp, shape, stored.str, pages.offset, pages.stride)


def _check_codec(name: str, page: Any) -> None:
    """Raise where pages are compressed in a way that tifffile alone cannot read."""
    try:
        page.decode(None, 0)
    except (ValueError, NotImplementedError) as error:
        message = f"{name}: its pages cannot be decoded: {error}"
        if "imagecodecs" in str(error):
            raise ImportError(f"{message}; pip install imagecodecs") from error
        raise ValueError(message) from error


def _scattered(
    file: _Opened, series: Any, frame: tuple[int, int, int], dtype: np.dtype[Any], alone: bool
) -> Frames:
    """Frames of OME or Micro-Manager, whose metadata tell the page and the file of each."""
    from xs2p.movie.frames import ScatteredPages, Stamp
    from xs2p.movie.tiff_pages import offsets

    pages = list(series.pages)
    # Of pages beyond the end of a file tifffile says that they have no bytes, and reads zeros.
    absent = sum(page is None or page.databytecounts == (0,) for page in pages)
    if absent:
        mend = ". Open what is there with order=('time', 'plane', 'channel')"
        raise ValueError(
            f"{file.name}: its {series.kind} metadata tell of {len(pages)} frames, but {absent} of "
            "them are not there: the recording was stopped or cut, or files that belong to it are "
            f"missing{mend if series.kind != 'ome' else ''}"
        )
    if series.kind == "mmstack" and alone:
        _tell_absent(file, len(pages))
    own = {id(file.tif): 0}
    stamps = [file.stamp]
    found = offsets(file.name)
    _check_directories(file, found)
    places = [{at: n for n, at in enumerate(found)}]
    runs: list[tuple[int, int, int]] = []
    for page in pages:
        tif = page.parent
        if id(tif) not in own:
            own[id(tif)] = len(stamps)
            stamps.append(Stamp.of(tif.filehandle.path))
            places.append({at: n for n, at in enumerate(offsets(stamps[-1].path))})
        at = own[id(tif)]
        # The others number their pages within the series.
        number = page.index if series.kind == "ome" else places[at].get(page.dataoffsets[0])
        if number is None:
            raise ValueError(
                f"{file.name}: its metadata tell of a frame at byte {page.dataoffsets[0]} of "
                f"{stamps[at].path}, where no page is: the file is damaged"
            )
        index = int(number)
        if runs and runs[-1][0] == at and runs[-1][1] + runs[-1][2] == index:
            runs[-1] = (at, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((at, index, 1))
    if series.kind == "ome":
        mine = sum(run[2] for run in runs if run[0] == 0)
        _check_number(file, mine, (mine,))
    if runs == [(0, 0, file.n_pages)]:
        return _all_pages(file, series.keyframe, file.n_pages)
    return ScatteredPages(file.stamp, frame, dtype.str, tuple(stamps), tuple(runs))


def _tell_absent(file: _Opened, n_frames: int) -> None:
    """Warn of a Micro-Manager recording of fewer frames than it was to have."""
    from xs2p._warnings import warn

    summary: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # settings are free text
        summary = (file.tif.micromanager_metadata or {})["Summary"]
    counts = [_number(summary, key) or 1 for key in ("Frames", "Slices", "Channels", "Positions")]
    if math.prod(counts) > n_frames:
        warn(
            f"{file.name}: Micro-Manager was to take {math.prod(counts)} frames, and {n_frames} "
            "are here: the recording was stopped early, or files that belong to it are missing"
        )


def _scanimage(file: _Opened, plain: bool) -> Stack:
    """Frames of a ScanImage file: channels in turn, then planes, then frames of the flyback."""
    page = file.tif.pages.first
    if len(page.shape) != 2:
        raise ValueError(f"{file.name}: pages of shape {page.shape}, expected (y, x)")
    _check_codec(file.name, page)
    frames = _all_pages(file, page)
    if plain:
        return Stack(frames)
    said = _said_by_scanimage(file)
    channels = np.asarray(said.get("SI.hChannels.channelSave", ""))  # their numbers
    if channels.dtype.kind not in "iuf" or not channels.size:
        raise ValueError(
            f"{file.name}: this version of ScanImage does not say its channels in a way that is "
            "known here; say how many channels and planes come in turn, and in which order, as in "
            "open_movie(path, channels=2, planes=1, order=('time', 'plane', 'channel'))"
        )
    turns = [Turn("channel", int(channels.size))]
    planes = _planes_of_scanimage(file.name, said)
    if planes is not None:
        turns.insert(0, planes)
    rate = "SI.hRoiManager.scanVolumeRate" if planes else "SI.hRoiManager.scanFrameRate"
    notes = [f"{rate} = {said[rate]} Hz, which fs= would take"] if rate in said else []
    if said.get("SI.hRoiManager.mroiEnable"):
        notes.append("frames are of several fields (mROI), one below the other")
    note = f"ScanImage says {'; '.join(notes)}" if notes else ""
    return Stack(frames, turns=tuple(turns), note=note)


def _said_by_scanimage(file: _Opened) -> dict[str, Any]:
    """Read the settings that ScanImage has in the file's header or in the first page's tags."""
    import tifffile

    said: Any = None
    with contextlib.suppress(Exception):  # settings are free text
        said = (file.tif.scanimage_metadata or {}).get("FrameData")
    if not said:
        with contextlib.suppress(Exception):
            said = tifffile.matlabstr2py(file.tif.pages.first.software)
    return said if isinstance(said, dict) else {}


def _planes_of_scanimage(name: str, said: dict[str, Any]) -> Turn | None:
    stack, fast = "SI.hStackManager.", "SI.hFastZ."
    if not (said.get(f"{stack}enable") or said.get(f"{fast}enable")):
        return None  # the numbers of slices are those of an earlier recording
    slices = _number(said, f"{stack}actualNumSlices", f"{stack}numSlices")
    if slices in (None, 1):
        return None
    averaged = _number(said, "SI.hScan2D.logAverageFactor") or 1
    at_each = _number(said, f"{stack}framesPerSlice") or 1
    if at_each > averaged:
        raise ValueError(
            f"{name}: ScanImage took {at_each} frames at each of {slices} depths, one depth after "
            "the other: that is no movie of planes. Open it with the depths apart by "
            f"open_movie(path, planes={slices}, order=('plane', 'time', 'channel')) with channels= "
            "where there are several"
        )
    in_turn = _number(said, f"{stack}numFramesPerVolumeWithFlyback", f"{fast}numFramesPerVolume")
    if in_turn is None:
        discarded = said.get(f"{fast}enable") and said.get(f"{fast}discardFlybackFrames")
        flyback = _number(said, f"{fast}numDiscardFlybackFrames") if discarded else 0
        in_turn = slices + (flyback or 0)
    imaged = _number(said, f"{stack}numFramesPerVolume") or slices
    if in_turn < slices or imaged != slices:
        raise ValueError(
            f"{name}: ScanImage's settings contradict each other: {slices} slices, {imaged} frames "
            f"a volume, {in_turn} with flyback. Say yourself how many planes come in turn, flyback "
            "included, as in open_movie(path, planes=4, order=('time', 'plane', 'channel')), and "
            "leave out the flyback with movie.isel(plane=slice(0, 3))"
        )
    return Turn("plane", in_turn, slices)


def _number(said: dict[str, Any], *keys: str) -> int | None:
    for key in keys:
        value = said.get(key)
        if isinstance(value, int | float) and np.isfinite(value) and value >= 0:
            return int(value)
    return None
