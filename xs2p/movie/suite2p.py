"""The registered movies that suite2p keeps in its plane folders."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr

from xs2p._warnings import warn
from xs2p.disk.suite2p_ops import frame_in, rate_in, read_ops, tau_in
from xs2p.movie.check import DIMS, PLANE
from xs2p.movie.chunks import to_dask
from xs2p.movie.frames import RawFrames
from xs2p.movie.recording import Grid, Recording, Run, recordings_to_dask, shortened
from xs2p.movie.segments import of_planes, said_of_plane
from xs2p.movie.sources import plane_number

CHANNELS = ("data.bin", "data_chan2.bin")


def open_planes(
    folders: Sequence[str],
    told: str,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    chunks: int | None,
    fs: float | None,
    segments: str | None = None,
) -> tuple[xr.DataArray, float | None]:
    """Open the binaries of plane folders: the movie, and ``fs``, where not given that of ops.

    Of a folder of planes, ``told``, those that suite2p ignored are left out.
    """
    if len(folders) > 1 and os.path.isdir(told):
        folders = _without_ignored(folders, told)
    planes = [_plane(folder, frame, dtype) for folder in folders]
    first = planes[0]
    _check_alike([channels for channels, _ in planes], folders, told)
    grid: Grid = np.empty((len(first[0]), len(planes)), object)
    for (c, p), _ in np.ndenumerate(grid):
        grid[c, p] = Recording((Run.of(planes[p][0][c]),))
    of_time = [
        said_of_plane(folder, ops, channels[0].shape[0], segments)
        for folder, (channels, ops) in zip(folders, planes, strict=True)
    ]
    grid = _equally_long(grid, folders, told)
    rates = sorted({rate for _, ops in planes if (rate := rate_in(ops)) is not None})
    if fs is None and len(rates) > 1:
        raise ValueError(
            f"{told}: the ops of its planes have different frame rates, "
            f"{', '.join(map(str, rates))} Hz; give fs="
        )
    dims: list[str] = []
    coords: dict[str, Any] = {**of_planes(of_time, grid.flat[0].shape[0], told)}
    numbers = [plane_number(os.path.abspath(folder)) for folder in folders]
    if len(first[0]) > 1:
        dims.append("channel")
    if len(planes) > 1:
        dims.append("plane")
        if None not in numbers and len(set(numbers)) == len(numbers):
            coords["plane"] = ("plane", np.array(numbers), PLANE)
    elif numbers[0] is not None:
        coords["plane"] = ((), numbers[0], PLANE)
    grid = grid.reshape([n for n in grid.shape if n > 1])
    data = recordings_to_dask(grid, chunks) if grid.ndim else to_dask(first[0][0], chunks)
    movie = xr.DataArray(data, coords, (*dims, *DIMS), name="movie")
    taus = {tau_in(ops) for _, ops in planes}
    if len(taus) == 1 and None not in taus:
        movie = movie.assign_attrs(tau=taus.pop())
    return movie, next(iter(rates), None) if fs is None else fs


def _check_alike(planes: Sequence[list[RawFrames]], folders: Sequence[str], told: str) -> None:
    first = planes[0]
    for folder, channels in zip(folders, planes, strict=True):
        if len(channels) != len(first):
            raise ValueError(
                f"{told}: {CHANNELS[1]} is in some plane folders but not in all: {folder} has "
                f"{len(channels)} channels, {folders[0]} {len(first)}"
            )
        for frames in channels:
            if frames.shape[1:] != first[0].shape[1:]:
                raise ValueError(
                    f"{told}: frames of {folder} are (Ly, Lx) = {frames.shape[1:]}, those of "
                    f"{folders[0]} {first[0].shape[1:]}: planes of different sizes are no one "
                    f"array; open each alone, as in open_movie({folder!r})"
                )


def _without_ignored(folders: Sequence[str], told: str) -> Sequence[str]:
    """Leave out the planes that suite2p did not work on, where there are others."""
    from xs2p.disk.suite2p_ops import has_ops, ignored_planes

    ignored = set().union(*map(ignored_planes, folders))
    out = {folder: "is in ignore_flyback" for folder in folders if plane_number(folder) in ignored}
    done = [os.path.exists(os.path.join(folder, "stat.npy")) for folder in folders]
    for folder, worked_on in zip(folders, done, strict=True):
        if any(done) and not worked_on and not has_ops(folder):
            out.setdefault(folder, "has neither ops.npy nor db.npy nor stat.npy")
    if not out or len(out) == len(folders):
        return folders
    why = ", ".join(f"{os.path.basename(folder)} {reason}" for folder, reason in out.items())
    warn(
        f"{told}: planes that suite2p left out are left out here too: {why}; open_movie("
        f"{next(iter(out))!r}) opens one alone, and a list of plane folders those in it"
    )
    return [folder for folder in folders if folder not in out]


def _plane(
    folder: str, frame: tuple[int, int] | None, dtype: np.dtype[Any] | None
) -> tuple[list[RawFrames], dict[str, Any]]:
    """Find the frames of a plane's channels, and its ops."""
    from xs2p.movie.raw import raw_frames

    names = [os.path.join(folder, name) for name in CHANNELS]
    if not os.path.exists(names[0]):
        raw = os.path.join(folder, "data_raw.bin")
        hint = f"; the frames before registration are in {raw!r}" if os.path.exists(raw) else ""
        raise FileNotFoundError(
            f"open_movie: no {CHANNELS[0]} in {folder!r}: suite2p deletes it where its setting "
            f"delete_bin is on{hint}"
        )
    ops = read_ops(folder)
    frame = frame or frame_in(ops)
    if frame is None:
        raise ValueError(
            f"open_movie: no ops.npy with Ly and Lx in {folder!r}, and binaries do not "
            "say the size of their frames; give it in pixels: shape=(Ly, Lx)"
        )
    channels = [raw_frames(name, frame, dtype) for name in names if os.path.exists(name)]
    if len({frames.shape for frames in channels}) > 1:
        raise ValueError(
            f"open_movie: {names[0]!r} holds {channels[0].shape[0]} frames and {names[1]!r} "
            f"{channels[1].shape[0]}: they must be of the same frames"
        )
    return channels, ops


def _equally_long(grid: Grid, folders: Sequence[str], told: str) -> Grid:
    """Leave out the last frame of planes that have one more: the recording ended in a volume."""
    lengths = [part.shape[0] for part in grid[0]]
    shortest, longest = min(lengths), max(lengths)
    if longest - shortest > 1:
        counts = ", ".join(f"{f}: {n}" for f, n in zip(folders, lengths, strict=True))
        raise ValueError(
            f"{told}: planes differ by more than one frame ({counts}); they are not of one "
            "recording, or one of them was not written to its end. Open each alone"
        )
    if longest == shortest:
        return grid
    longer = [os.path.basename(f) for f, n in zip(folders, lengths, strict=True) if n > shortest]
    warn(
        f"{told}: {', '.join(longer)} have {longest} frames and the others {shortest}, since the "
        "recording ended within a volume; the last frame of these is left out"
    )
    return shortened(grid, shortest)
