"""Marks: which regions of a store are on disk, and what was written there, chunk by chunk.

A mark is made once all of its region is on disk. It is a chunk of an array of the store, which this
package writes and reads itself, since it must be there whole or not at all: for each file of the
region its size and checksum, and last a checksum of those.
"""

from __future__ import annotations

import contextlib
import json
import os
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from xs2p._attrs import UNFINISHED
from xs2p.disk.replace import put_bytes, sync_folder

RUN = "xs2p_run"  # attribute: what the traces were made from
DONE = ("xs2p_done_traces", "xs2p_done_rest")
MADE = ("Fc", "F0", "spks", "denoised", "dFF")  # of what the movie was read for: the second stage
_READ = 2**22  # bytes at once


class Marks(NamedTuple):
    """What is marked of a stage."""

    done: np.ndarray
    """Over regions; or over chunks of ROIs, and shards of time."""
    sums: np.ndarray
    """Size and checksum of each file, as :func:`sum_of` gives them; files are the last axis."""


def create_marks(group: Any, grids: dict[str, tuple[int, ...]]) -> None:
    """Make the arrays that marks are kept in, of variables in so many files along each dim."""
    for stage in range(len(DONE)):
        names = [name for name in grids if (name in MADE) == bool(stage)]
        lead = grids[names[0]][-1 - stage :]
        each = sum(int(np.prod(grids[name][: -len(lead)])) for name in names)
        dims = [f"{DONE[stage]}_file", *(("region",), ("roi_chunk", "shard"))[stage]]
        group.create_array(
            DONE[stage],
            shape=(each + 1, *lead),
            chunks=(each + 1, *(1,) * len(lead)),
            dtype="u8",
            compressors=None,
            dimension_names=dims,
            attributes={"grids": {name: list(grids[name]) for name in names}},
        )


def files_of(grids: dict[str, tuple[int, ...]], where: tuple[int, ...]) -> Iterator[str]:
    """Files of a region, as they are called within the store: ``F/c/0/3``."""
    for name, grid in grids.items():
        for lead in np.ndindex(*grid[: -len(where)]):
            yield "/".join((name, "c", *map(str, (*lead, *where))))


def sum_of(path: str) -> int:
    """Size of a file, and crc32 of what is in it, in one number; 0 where there is none."""
    size = crc = 0
    try:
        with open(path, "rb") as file:
            while block := file.read(_READ):
                size, crc = size + len(block), zlib.crc32(block, crc)
    except FileNotFoundError:
        return 0
    return (size << 32) | crc


def size_of(path: str) -> int:
    """Size of a file; 0 where there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def write_mark(store: str, stage: int, where: tuple[int, ...], durable: bool) -> None:
    """Note that a region is on disk, and what it is."""
    files = files_of(grids_of(store, stage), where)
    sums = np.array([sum_of(os.path.join(store, name)) for name in files], "<u8")
    own = np.array([_sum_of_sums(sums)], "<u8")
    put_bytes(sums.tobytes() + own.tobytes(), _mark(store, stage, where), durable)


def read_marks(store: str, stage: int) -> Marks | None:
    """Return what is marked; None where the store is complete."""
    array = _metadata(store, DONE[stage])
    if array is None or UNFINISHED not in (_metadata(store, "") or {}).get("attributes", {}):
        return None
    each, *grid = array["shape"]
    done, sums = np.zeros(grid, bool), np.zeros((*grid, each - 1), "u8")
    for where in np.ndindex(*grid):
        with contextlib.suppress(FileNotFoundError):
            numbers = np.fromfile(_mark(store, stage, where), "<u8")
            done[where] = numbers.size == each and numbers[-1] == _sum_of_sums(numbers[:-1])
            sums[where] = numbers[:-1] if done[where] else 0
    return Marks(done, sums)


def done_regions(store: str, stage: int) -> np.ndarray | None:
    """Which regions are on disk; None where the store is complete."""
    marks = read_marks(store, stage)
    return None if marks is None else marks.done


def unmark(store: str, stage: int, where: tuple[int, ...], durable: bool) -> None:
    """Let a region be done again."""
    path = _mark(store, stage, where)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        if durable:
            sync_folder(os.path.dirname(path))


def marked_files(store: str) -> Iterator[tuple[int, tuple[int, ...], str, int]]:
    """Stage, region, name and sum of every file that is marked."""
    for stage in range(len(DONE)):
        marks = read_marks(store, stage)
        if marks is None:
            continue
        grids = grids_of(store, stage)
        for where in map(tuple, np.argwhere(marks.done).tolist()):
            for name, number in zip(
                files_of(grids, where), marks.sums[where].tolist(), strict=True
            ):
                yield stage, where, name, number


def _mark(store: str, stage: int, where: tuple[int, ...]) -> str:
    return os.path.join(store, DONE[stage], "c", "0", *map(str, where))


def _sum_of_sums(sums: np.ndarray) -> int:
    return (1 << 32) | zlib.crc32(sums.tobytes())  # never 0, which is what nobody wrote


def grids_of(store: str, stage: int) -> dict[str, tuple[int, ...]]:
    """Return in how many chunks along each dim the variables of a stage are."""
    array = _metadata(store, DONE[stage]) or {}
    return {name: tuple(grid) for name, grid in array["attributes"]["grids"].items()}


def _metadata(store: str, name: str) -> dict[str, Any] | None:
    try:
        with open(os.path.join(store, name, "zarr.json"), "rb") as file:
            return dict(json.load(file))
    except FileNotFoundError:
        return None
