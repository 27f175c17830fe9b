"""Find the frames of a TIFF stack, and what it says of channels and planes."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xs2p.movie.tiff_file import (
    Opened,
    all_pages,
    check_codec,
    check_directories,
    check_followed,
    check_number,
    headers,
    number_of,
)
from xs2p.movie.tiff_scattered import scattered
from xs2p.movie.tiff_time import rate_of_tiff
from xs2p.movie.turns import Stack, Turn

# Kinds of TIFF whose metadata call each axis by a name, time too.
_CALLED = ("ome", "mmstack", "ndtiff")


def tiff_stack(name: str, given: Sequence[str], plain: bool = False) -> Stack:
    """Read the headers of a grey-scale stack.

    ``given``: the files that are opened together. ``plain``: the user says how frames come in
    turn, whatever the file says.
    """
    import tifffile

    from xs2p.movie.frames import Stamp

    stamp = Stamp.of(name)
    with contextlib.ExitStack() as stack:
        with headers(name):
            tif = stack.enter_context(tifffile.TiffFile(name))
            scanimage = tif.is_scanimage
            # Of a large file ScanImage's pages are counted once, where they are looked at.
            n_pages = 0 if scanimage else len(tif.pages)
            # Of files whose pages are taken as they are, the first alone is asked what it tells:
            # each would have all the others opened.
            bare = plain and tif.is_ome and name != given[0]
            all_series = [] if scanimage or bare else list(tif.series)
        file = Opened(name, stamp, tif, n_pages)
        if scanimage:
            return _scanimage(file, plain)
        if bare:
            return _plain(file, 0)
        if not all_series:
            raise ValueError(f"{name}: a TIFF file without pages")
        if not plain:
            check_followed(file, all_series)
        found = _series(file, all_series, given, plain)
        found = replace(found, called=all_series[0].kind in _CALLED)
        timed = dict(found.axes).get("T", 1) > 1  # the interval of other axes is not one of time
        return replace(found, fs=rate_of_tiff(tif, all_series[0].kind)) if timed else found


def _plain(file: Opened, told: int, axes: tuple[tuple[str, int], ...] = ()) -> Stack:
    """All pages of a file as they were written, whatever its metadata tell of ``told`` frames."""
    page = file.tif.pages.first
    if len(page.shape) != 2:
        raise ValueError(f"{file.name}: pages of shape {page.shape}, expected grey ones, (y, x)")
    check_codec(file.name, page)
    frames = all_pages(file, page, file.n_pages)
    return Stack(frames, axes if frames.shape[0] == told else (), told=told)


def _series(file: Opened, all_series: list[Any], given: Sequence[str], plain: bool) -> Stack:
    name, first, alone = file.name, all_series[0], len(given) == 1
    alike = {(s.shape, str(s.dtype), s.axes) for s in all_series}
    positions = first.kind in _CALLED  # or whatever else has a name there
    if (
        len(all_series) > 1
        and len(alike) == 1
        and (plain or (first.axes == "YX" and not positions))
    ):
        # Written frame by frame: every page is a series of its own.
        return _plain(file, sum(len(s.pages) for s in all_series))
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
    axes = tuple(zip(first.axes[:-2], map(int, first.shape[:-2]), strict=True))
    number = math.prod(size for _, size in axes)
    own = not first.is_multifile or not alone
    if (
        plain
        and own
        and (positions or (first.kind == "imagej" and file.n_pages not in (1, number)))
    ):
        # All pages as they were written: also of a recording that was stopped within a turn.
        return _plain(file, number, axes)
    return _one_series(file, first, given, plain)


def _one_series(file: Opened, series: Any, given: Sequence[str], plain: bool) -> Stack:
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
            check_number(file, n_frames, (1, n_frames))
        check_directories(file, offsets(name))
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
    check_codec(name, series.keyframe)
    stored = stored.newbyteorder("=")
    if series.is_multifile or series.kind in _CALLED:
        return scattered(file, series, frame, given, plain)
    if file.n_pages != n_frames:
        check_directories(file, offsets(name))
        return Stack(TiffPages(file.stamp, frame, stored.str, 0), named)
    return Stack(all_pages(file, series.keyframe, file.n_pages), named)


def _scanimage(file: Opened, plain: bool) -> Stack:
    """Frames of a ScanImage file: channels in turn, then planes, then frames of the flyback."""
    page = file.tif.pages.first
    if len(page.shape) != 2:
        raise ValueError(f"{file.name}: pages of shape {page.shape}, expected (y, x)")
    check_codec(file.name, page)
    frames = all_pages(file, page)
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
    periods = _periods_of_scanimage(said, planes is not None)
    return Stack(frames, turns=tuple(turns), note=note, periods=periods)


def _periods_of_scanimage(said: dict[str, Any], planes: bool) -> tuple[tuple[str, float], ...]:
    """Find how long a line takes and, of ``planes``, how long after one the next begins, in s.

    Of several fields (mROI), which lie one below the other, the lines do not tell when.
    """
    manager = "SI.hRoiManager."
    if said.get(f"{manager}mroiEnable"):
        return ()
    found = {"line_period": _positive(said.get(f"{manager}linePeriod"))}
    if planes:
        rate = _positive(said.get(f"{manager}scanFrameRate"))
        period = 1 / rate if rate else _positive(said.get(f"{manager}scanFramePeriod"))
        at_each = number_of(said, "SI.hStackManager.framesPerSlice") or 1
        found["plane_period"] = None if period is None else at_each * period
    return tuple((name, value) for name, value in found.items() if value is not None)


def _positive(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number and math.isfinite(value) and value > 0 else None


def _said_by_scanimage(file: Opened) -> dict[str, Any]:
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
    slices = number_of(said, f"{stack}actualNumSlices", f"{stack}numSlices")
    if slices in (None, 1):
        return None
    averaged = number_of(said, "SI.hScan2D.logAverageFactor") or 1
    at_each = number_of(said, f"{stack}framesPerSlice") or 1
    if at_each > averaged:
        raise ValueError(
            f"{name}: ScanImage took {at_each} frames at each of {slices} depths, one depth after "
            "the other: that is no movie of planes. Open it with the depths apart by "
            f"open_movie(path, planes={slices}, order=('plane', 'time', 'channel')) with channels= "
            "where there are several"
        )
    in_turn = number_of(said, f"{stack}numFramesPerVolumeWithFlyback", f"{fast}numFramesPerVolume")
    if in_turn is None:
        discarded = said.get(f"{fast}enable") and said.get(f"{fast}discardFlybackFrames")
        flyback = number_of(said, f"{fast}numDiscardFlybackFrames") if discarded else 0
        in_turn = slices + (flyback or 0)
    imaged = number_of(said, f"{stack}numFramesPerVolume") or slices
    if in_turn < slices or imaged != slices:
        raise ValueError(
            f"{name}: ScanImage's settings contradict each other: {slices} slices, {imaged} frames "
            f"a volume, {in_turn} with flyback. Say yourself how many planes come in turn, flyback "
            "included, as in open_movie(path, planes=4, order=('time', 'plane', 'channel')), and "
            "leave out the flyback with movie.isel(plane=slice(0, 3))"
        )
    return Turn("plane", in_turn, slices)
