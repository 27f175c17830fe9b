"""Frames of OME, Micro-Manager and NDTiff, whose metadata tell the page and the file of each."""

from __future__ import annotations

import contextlib
import functools
import math
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.tiff_file import Opened, all_pages, check_directories, check_number, number_of
from xs2p.movie.tiff_missing import present
from xs2p.movie.turns import Stack

if TYPE_CHECKING:
    from xs2p.movie.frames import Frames, Stamp


def scattered(
    file: Opened, series: Any, frame: tuple[int, int, int], given: Sequence[str], plain: bool
) -> Stack:
    """Frames of OME or Micro-Manager, whose metadata tell the page and the file of each."""
    from xs2p.movie.frames import ScatteredPages

    pages = list(series.pages)
    # Of pages beyond the end of a file tifffile says that they have no bytes, and reads zeros.
    here = np.array([page is not None and page.databytecounts != (0,) for page in pages])
    absent, wanted = int((~here).sum()), _given_files(given)
    # Also files of which nothing is taken: alone they would bring all the others along again.
    belong = frozenset(_real(page) for page in pages if page is not None)
    if wanted:
        here &= [ok and _real(page) in wanted for ok, page in zip(here, pages, strict=True)]
    axes = tuple(zip(series.axes[:-2], map(int, series.shape[:-2]), strict=True))
    lacks = ""
    if not here.all():
        there = present(here, axes, plain, file.name, series.kind)
        axes, pages, lacks = there.axes, [pages[n] for n in there.pages], there.told
        if not absent and not there.cut:  # what is left out was not asked for
            lacks = ""
    frame = (len(pages), *frame[1:])
    dtype = np.dtype(series.dtype).newbyteorder("=")
    if series.kind == "mmstack" and len(given) == 1 and not lacks:
        _tell_absent(file, len(pages))
    stamps, runs = _places(file, series.kind, pages)
    if series.kind == "ome" and not lacks:
        mine = sum(run[2] for run in runs if run[0] == 0)
        check_number(file, mine, (mine,) if 0 in {run[0] for run in runs} else (file.n_pages,))
    frames: Frames
    if runs == [(0, 0, file.n_pages)]:
        frames = all_pages(file, series.keyframe, file.n_pages)
    else:
        frames = ScatteredPages(file.stamp, frame, dtype.str, tuple(stamps), tuple(runs))
    return Stack(frames, axes, lacks=lacks, files=belong)


def _given_files(given: Sequence[str]) -> set[str]:
    """Files that the user named; none where it is one, and the others come with it."""
    return {os.path.realpath(name) for name in given} if len(given) > 1 else set()


@functools.lru_cache(maxsize=4096)
def _real_path(path: str) -> str:
    return os.path.realpath(path)


def _real(page: Any) -> str:
    return _real_path(page.parent.filehandle.path)


def _places(
    file: Opened, kind: str, pages: list[Any]
) -> tuple[list[Stamp], list[tuple[int, int, int]]]:
    """Find the files of pages, and the runs of them: (file, first page, number of pages)."""
    from xs2p.movie.frames import Stamp
    from xs2p.movie.tiff_pages import offsets

    own = {id(file.tif): 0}
    stamps = [file.stamp]
    found = offsets(file.name)
    check_directories(file, found)
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
        number = page.index if kind == "ome" else places[at].get(page.dataoffsets[0])
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
    return stamps, runs


def _tell_absent(file: Opened, n_frames: int) -> None:
    """Warn of a Micro-Manager recording of fewer frames than it was to have."""
    from xs2p._warnings import warn

    summary: dict[str, Any] = {}
    with contextlib.suppress(Exception):  # settings are free text
        summary = (file.tif.micromanager_metadata or {})["Summary"]
    counts = [number_of(summary, key) or 1 for key in ("Frames", "Slices", "Channels", "Positions")]
    if math.prod(counts) > n_frames:
        warn(
            f"{file.name}: Micro-Manager was to take {math.prod(counts)} frames, and {n_frames} "
            "are here: the recording was stopped early, or files that belong to it are missing"
        )
