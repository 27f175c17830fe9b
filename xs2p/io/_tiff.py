"""Find the frames of a TIFF stack, and what it says of channels and planes."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.io._interleaved import Stack, Turn

if TYPE_CHECKING:
    from xs2p.io._lazy import Stamp, _Frames


@dataclass
class _Opened:
    """A TIFF file whose headers have been read."""

    name: str
    stamp: Stamp
    tif: Any
    n_pages: int


@contextlib.contextmanager
def _headers(name: str) -> Iterator[None]:
    """Raise where tifffile fails on the headers, or logs an error and reads on without a part."""
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("tifffile")
    log.addHandler(handler)
    propagate, log.propagate = log.propagate, False
    try:
        yield
    except Exception as error:  # whatever a damaged header makes of the parser
        raise ValueError(f"{name}: not a readable TIFF file ({error})") from error
    finally:
        log.removeHandler(handler)
        log.propagate = propagate
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

    from xs2p.io._lazy import Stamp

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
        return _series(_Opened(name, stamp, tif, n_pages), all_series, alone)


def _series(file: _Opened, all_series: list[Any], alone: bool) -> Stack:
    from xs2p.io._lazy import RawFrames, TiffPages

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
    axes, shape = first.axes, tuple(int(n) for n in first.shape)
    if axes[-2:] != "YX" or "S" in axes:
        raise ValueError(
            f"{name}: a TIFF of shape {shape} with axes {axes!r}, expected one grey-scale frame "
            "after the other, (time, y, x), and not colours: take one of them with "
            "tifffile.imread(path) and write it with tifffile.imwrite(path, frames, "
            "photometric='minisblack')"
        )
    n_frames = int(np.prod(shape[:-2]))
    frame = (n_frames, shape[-2], shape[-1])
    named = tuple(zip(axes[:-2], shape[:-2], strict=True))
    stored = np.dtype(first.dtype)
    if first.dataoffset is not None:
        stored = stored.newbyteorder(file.tif.byteorder)
        needed = first.dataoffset + int(np.prod(shape)) * stored.itemsize
        if file.stamp.size < needed:
            raise ValueError(
                f"{name}: {file.stamp.size} bytes, but {shape} of {stored} needs {needed}: "
                "the file was cut"
            )
        return Stack(RawFrames(file.stamp, frame, stored.str, first.dataoffset), named)
    if len(first.pages) != n_frames:
        raise ValueError(
            f"{name}: {len(first.pages)} pages for {n_frames} frames, expected a page a "
            "frame; write it anew with tifffile.imwrite(path, tifffile.imread(path), "
            "photometric='minisblack')"
        )
    _check_codec(name, first.keyframe)
    stored = stored.newbyteorder("=")
    if first.kind == "ome":
        return Stack(_ome_frames(file, first, alone, frame, stored), named)
    if file.n_pages != n_frames:
        return Stack(TiffPages(file.stamp, frame, stored.str, 0), named)
    return Stack(_all_pages(file, first.keyframe, file.n_pages), named)


def _all_pages(file: _Opened, page: Any, n_pages: int | None = None) -> _Frames:
    """Frames that are all pages of a file, in their order: raw where they lie evenly."""
    from xs2p.io._ifd import survey
    from xs2p.io._lazy import RawFrames, TiffPages

    pages = survey(file.stamp.path, page)
    number = n_pages
    if number is None and pages is not None:
        number = pages.number
    if number is None:
        with _headers(file.name):
            number = len(file.tif.pages)
    shape = (number, int(page.shape[0]), int(page.shape[1]))
    stored = np.dtype(page.dtype).newbyteorder("=")
    if pages is None or pages.offset is None or pages.number != number:
        return TiffPages(file.stamp, shape, stored.str, None)
    if pages.offset + pages.stride * (number - 1) + page.nbytes > file.stamp.size:
        raise ValueError(
            f"{file.name}: the last of its {number} pages is not whole: the file was cut"
        )
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


def _ome_frames(
    file: _Opened, series: Any, alone: bool, frame: tuple[int, int, int], dtype: np.dtype[Any]
) -> _Frames:
    """Frames of an OME-TIFF, whose metadata tell the page and the file of each."""
    from xs2p.io._lazy import ScatteredPages, Stamp

    if series.is_multifile and not alone:
        raise ValueError(
            f"{file.name}: its OME metadata name other files of the same movie; open this one "
            f"alone, and they come with it: open_movie({file.name!r})"
        )
    pages = list(series.pages)
    absent = sum(page is None for page in pages)
    if absent:
        raise ValueError(
            f"{file.name}: its OME metadata tell of {len(pages)} frames, but {absent} of them "
            "are not there: the recording was cut, or files that belong to it are missing"
        )
    own = {id(file.tif): 0}
    stamps = [file.stamp]
    runs: list[tuple[int, int, int]] = []
    for page in pages:
        tif = page.parent
        if id(tif) not in own:
            own[id(tif)] = len(stamps)
            stamps.append(Stamp.of(tif.filehandle.path))
        at, index = own[id(tif)], int(page.index)
        if runs and runs[-1][0] == at and runs[-1][1] + runs[-1][2] == index:
            runs[-1] = (at, runs[-1][1], runs[-1][2] + 1)
        else:
            runs.append((at, index, 1))
    if runs == [(0, 0, file.n_pages)]:
        return _all_pages(file, series.keyframe, file.n_pages)
    return ScatteredPages(file.stamp, frame, dtype.str, tuple(stamps), tuple(runs))


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
    channels = said.get("SI.hChannels.channelSave")
    if channels is None:
        raise ValueError(
            f"{file.name}: this version of ScanImage does not say its channels in a way that is "
            "known here; say how many channels and planes come in turn, and in which order, as in "
            "open_movie(path, channels=2, planes=1, order=('time', 'plane', 'channel'))"
        )
    turns = [Turn("channel", int(np.size(channels)))]
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
