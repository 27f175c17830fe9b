"""Raw recordings read with the shifts that suite2p's registration found, in place of `data.bin`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.disk.suite2p_ops import frame_in, has_ops, rate_in, shifts_said, tau_in
from xs2p.movie.check import PLANE
from xs2p.movie.chunks import even_chunks
from xs2p.movie.segments import of_planes, said_of_plane
from xs2p.movie.sources import natural, plane_number

TRIED = ("1.1.0",)  # versions of suite2p whose data.bin was compared with what is read here
# As suite2p writes them into its int16 binaries: what they are divided by.
_HALVED = {"int16": 1, "uint8": 1, "uint16": 2}


class Axis(NamedTuple):
    """Between which blocks each pixel of an axis lies: the one before it, and how far from it."""

    low: np.ndarray
    weight: np.ndarray
    blocks: int


class Moves(NamedTuple):
    """How a plane's frames were moved: a row for each frame, first y and x in whole pixels.

    Behind these are, where ``rows`` and ``columns`` are given, y of all blocks, then x of all.
    """

    shifts: np.ndarray
    bidiphase: int
    rows: Axis | None
    columns: Axis | None


def registered(
    movie: xr.DataArray, registration: Any, told: str, sources: Sequence[str] = ()
) -> tuple[xr.DataArray, float | None]:
    """Move the frames of a raw movie as suite2p did; the frame rate too, where it says one."""
    _check_raw(sources, told)
    folders = _folders(registration)
    ops = [shifts_said(folder) for folder in folders]
    numbers = [_number(folder, said) for folder, said in zip(folders, ops, strict=True)]
    _check_turns(movie, folders[0], ops[0], told)
    if "plane" in movie.dims:
        movie = _planes_of(movie, numbers, folders, told)
    elif len(folders) > 1:
        raise ValueError(
            f"registration={registration!r} is of {len(folders)} planes, and {told} has one: give "
            f"the folder of its plane, as in registration={folders[0]!r}, or tell how planes come "
            f"in turn, as in planes={len(folders)}"
        )
    _check_movie(movie, told)
    parts, n_frames = [], movie.sizes["time"]
    for at, (folder, said) in enumerate(zip(folders, ops, strict=True)):
        one = movie.isel(plane=at) if "plane" in movie.dims else movie
        parts.append(_moved(one, _moves(folder, said, one, told)))
    data = parts[0] if "plane" not in movie.dims else _stacked(parts, movie)
    # Frames of several planes lie as they did: channel, plane, time.
    moved = movie.copy(data=data)
    ops = [_as_long(said, n_frames) for said in ops]
    of_time = [said_of_plane(f, said, n_frames) for f, said in zip(folders, ops, strict=True)]
    moved = moved.assign_coords(of_planes(of_time, n_frames, told))
    if "plane" in moved.dims:
        moved = moved.assign_coords(plane=("plane", np.array(numbers), PLANE))
    elif numbers[0] is not None:
        moved = moved.assign_coords(plane=((), numbers[0], PLANE))
    taus = {tau_in(said) for said in ops}
    if len(taus) == 1 and None not in taus:
        moved = moved.assign_attrs(tau=taus.pop())
    moved.attrs |= {
        "registration": ", ".join(folders),
        "description": "Frames of a raw recording, moved as suite2p registered them, opened by "
        "xs2p.open_movie.",
    }
    rate = next((rate for said in ops if (rate := rate_in(said)) is not None), None)
    own = movie.attrs.get("fs")
    if own is not None and rate is not None and not math.isclose(own, rate, rel_tol=0.01):
        warn(
            f"{told} says {own:g} Hz, and the ops of {folders[0]} {rate:g}: the first is taken; "
            "fs= says another"
        )
    return moved, rate


def _check_raw(sources: Sequence[str], told: str) -> None:
    """Raise where a movie is what suite2p has moved already: it would be moved twice."""
    for path in map(os.path.abspath, sources):
        folder, name = os.path.split(path)
        if os.path.isfile(os.path.join(path, "data.bin")):
            name = "data.bin"
        if name in ("data.bin", "data_chan2.bin") or os.path.basename(folder).startswith("reg_tif"):
            raise ValueError(
                f"{told} is registered already ({name} of suite2p's): give the raw recording with "
                "registration=, or open this without"
            )


def _folders(registration: Any) -> list[str]:
    """Find the plane folders that registration names: one, several, or the folder they lie in."""
    given = [registration] if isinstance(registration, str | os.PathLike) else registration
    if not (isinstance(given, Sequence) and given):
        given = None
    if given is None or not all(isinstance(one, str | os.PathLike) for one in given):
        raise ValueError(
            f"registration={registration!r}: expected a folder of suite2p's, as in "
            "registration='suite2p/plane0', or a list of them"
        )
    folders = [os.fspath(one) for one in given]
    for folder in folders:
        if not os.path.isdir(folder):
            raise FileNotFoundError(f"registration={registration!r}: there is no folder {folder!r}")
    if len(folders) > 1 or _is_plane(folders[0]):
        return folders
    for top in (folders[0], os.path.join(folders[0], "suite2p")):
        inside = sorted(os.listdir(top), key=natural) if os.path.isdir(top) else []
        planes = [os.path.join(top, name) for name in inside if plane_number(name) is not None]
        planes = [plane for plane in planes if _is_plane(plane)]
        if planes:
            return planes
    raise ValueError(
        f"registration={registration!r}: neither ops.npy nor reg_outputs.npy is in it, and no "
        "plane0 that has them"
    )


def _is_plane(folder: str) -> bool:
    # suite2p puts a db.npy and settings.npy of all planes beside the plane folders.
    inside = ("ops.npy", "reg_outputs.npy")
    one = plane_number(os.path.abspath(folder)) is not None and has_ops(folder)
    return one or any(os.path.exists(os.path.join(folder, name)) for name in inside)


def _number(folder: str, ops: Mapping[str, Any]) -> int | None:
    number = plane_number(os.path.abspath(folder))
    return int(ops["iplane"]) if number is None and ops.get("iplane") is not None else number


def _check_turns(movie: xr.DataArray, folder: str, ops: Mapping[str, Any], told: str) -> None:
    """Raise where a movie has other numbers of channels or planes than suite2p was told."""
    for dim in ("channel", "plane"):
        known = ops.get(f"n{dim}s")
        if dim in movie.dims and known is not None and movie.sizes[dim] != known:
            raise ValueError(
                f"{told} has {movie.sizes[dim]} {dim}s, and suite2p was told n{dim}s={known} for "
                f"{folder}: is open_movie(…, {dim}s={known}) the recording?"
            )


def _planes_of(
    movie: xr.DataArray, numbers: list[int | None], folders: list[str], told: str
) -> xr.DataArray:
    """Pick the planes that were registered of those of a movie."""
    there = list(range(movie.sizes["plane"]))
    unknown = [f for f, n in zip(folders, numbers, strict=True) if n not in there]
    if unknown:
        raise ValueError(
            f"{told} has {len(there)} planes, numbered from 0, and {names(unknown)} is none of "
            "them: are channels= and planes= those of the recording?"
        )
    if len(folders) == 1:
        return movie.isel(plane=numbers[0], drop=True)
    if left_out := sorted(set(there) - set(numbers)):
        warn(
            f"{told}: planes {names(left_out)} are left out, for suite2p registered only "
            f"{names(sorted(int(n) for n in numbers if n is not None))}"
        )
    return movie.isel(plane=numbers)


def _check_movie(movie: xr.DataArray, told: str) -> None:
    if movie.dtype.name not in _HALVED:
        raise ValueError(
            f"{told} is {movie.dtype}, and suite2p's registered movie int16: how it makes one of "
            f"the other is known for {names(list(_HALVED))}. Convert it, as in "
            "xs2p.open_movie(movie.astype('int16'), registration=...)"
        )


def _moves(folder: str, ops: Mapping[str, Any], movie: xr.DataArray, told: str) -> Moves:
    """Check what suite2p says of a plane's registration against the movie, and gather it."""
    if ops.get("yoff") is None or ops.get("xoff") is None:
        raise ValueError(
            f"{folder}: nothing in it says how frames were moved (yoff and xoff of ops.npy or "
            "reg_outputs.npy): was it registered (do_registration)?"
        )
    frame, shape = frame_in(ops), (movie.sizes["y"], movie.sizes["x"])
    if frame is not None and frame != shape:
        raise ValueError(f"{told}: its frames are (Ly, Lx) = {shape}, those of {folder} {frame}")
    settings = ops.get("registration")
    settings = settings if isinstance(settings, Mapping) else ops
    rigid = [_numbers(folder, ops, key, (len(np.atleast_1d(ops["yoff"])),)) for key in _RIGID]
    if any((part != np.rint(part)).any() for part in rigid):
        raise ValueError(f"{folder}: yoff or xoff are no whole numbers of pixels")
    n_shifts = len(rigid[0])
    _check_count(n_shifts, movie, folder, ops, told)
    moved = np.stack(rigid, axis=1)
    bidiphase = _bidiphase(folder, ops, settings)
    if ops.get("yoff1") is None or np.size(ops["yoff1"]) == 0:
        _check_version(folder, ops, bool(settings.get("two_step_registration")))
        return Moves(moved[: movie.sizes["time"]].astype(np.float32), bidiphase, None, None)
    _check_version(folder, ops, True)
    rows, columns = _axes(folder, settings.get("block_size"), shape)
    count = (n_shifts, rows.blocks * columns.blocks)
    blocks = [_numbers(folder, ops, key, count) for key in ("yoff1", "xoff1")]
    moved = np.concatenate([moved, *blocks], axis=1)
    return Moves(moved[: movie.sizes["time"]].astype(np.float32), bidiphase, rows, columns)


_RIGID = ("yoff", "xoff")


def _as_long(ops: Mapping[str, Any], n_frames: int) -> dict[str, Any]:
    """Leave out of ``badframes`` the last frame of a plane that has one more than the others."""
    bad = np.ravel(ops.get("badframes", ()))
    as_shifts = bad.size == np.size(ops["yoff"])
    return {**ops, "badframes": bad[:n_frames]} if bad.size and as_shifts else dict(ops)


def _numbers(folder: str, ops: Mapping[str, Any], key: str, shape: tuple[int, ...]) -> np.ndarray:
    values = np.asarray(ops.get(key))
    if values.dtype.kind not in "iuf" or values.shape != shape or not np.isfinite(values).all():
        raise ValueError(
            f"{folder}: {key} is {values.dtype} {values.shape}, expected finite numbers {shape}"
        )
    return values


def _check_count(
    n_shifts: int, movie: xr.DataArray, folder: str, ops: Mapping[str, Any], told: str
) -> None:
    """Raise where shifts are not of a movie's frames.

    Of planes in turn, the first may have one frame more, where a recording ended within a volume.
    """
    n_frames = movie.sizes["time"]
    turns = {key: int(ops.get(f"n{key}") or 1) for key in ("planes", "channels")}
    if n_frames == n_shifts or (n_frames == n_shifts - 1 and turns["planes"] > 1):
        return
    hint = "is it the recording that was registered, with all its files in their order?"
    if math.prod(turns.values()) > 1:
        told_turns = ", ".join(f"{key}={number}" for key, number in turns.items())
        hint += f" suite2p was told how frames come in turn, and so is open_movie: {told_turns}"
    raise ValueError(
        f"{told} has {n_frames} frames of a plane and channel, and {folder} shifts of "
        f"{n_shifts}: {hint}"
    )


def _bidiphase(folder: str, ops: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    value = ops.get("bidiphase")
    value = settings.get("bidiphase", 0) if value is None else value
    if np.ndim(value) or not float(value).is_integer():
        raise ValueError(f"{folder}: bidiphase is {value!r}, expected a whole number of pixels")
    if value > 0:
        warn(
            f"{folder}: bidiphase is {int(value)}, above 0, for which suite2p 1.1.0 on a CPU "
            "copies parts of lines over themselves, so that its data.bin repeats pixels; here "
            "lines are shifted as they should be"
        )
    return int(value)


def _check_version(folder: str, ops: Mapping[str, Any], intricate: bool) -> None:
    found = ops.get("version") or ops.get("suite2p_version") or "of unknown version"
    if found in TRIED:
        return
    said = f"{folder}: registered by suite2p {found}"
    if intricate:
        raise ValueError(
            f"{said}, and non-rigid shifts, or those of two steps, can be replayed of "
            f"{names(list(TRIED))} only, with which they were compared; read its data.bin"
        )
    warn(f"{said}; its shifts are applied as {TRIED[-1]} does, with which this was compared")


def _axes(folder: str, block_size: Any, shape: tuple[int, int]) -> tuple[Axis, Axis]:
    sizes = [] if block_size is None else np.ravel(np.asarray(block_size)).tolist()
    if len(sizes) != 2 or not all(isinstance(n, int | float) and n >= 1 for n in sizes):
        raise ValueError(
            f"{folder}: block_size of its settings is {block_size!r}, expected two numbers of "
            "pixels; without them nobody knows where the blocks of yoff1 lie"
        )
    rows, columns = (_axis(n, int(size)) for n, size in zip(shape, sizes, strict=True))
    return rows, columns


def _axis(length: int, size: int) -> Axis:
    """Find between which blocks the pixels of an axis lie.

    Blocks overlap: there are one and a half times as many as fit, at even distances. Between the
    middles of the first and the last, shifts are interpolated; beyond, they are those of these.
    """
    size = min(size, length)
    count = 1 if size == length else math.ceil(1.5 * length / size)
    first = np.floor(np.linspace(0, length - size, count)).astype(int) + size // 2
    between = max(int(first[-1] - first[0]), 2)
    at = np.clip(np.arange(length) - first[0], 0, between - 1).astype(np.float32)
    place = at * np.float32((count - 1) / (between - 1))
    low = np.minimum(place.astype(np.int64), count - 1)
    return Axis(low, (place - low).astype(np.float32), count)


def _moved(movie: xr.DataArray, moves: Moves) -> Any:
    """Move frames lazily: Dask ``(…, time, y, x)``, whole frames, with the shifts of each chunk."""
    import dask.array as da

    *lead, height, width = movie.dims
    if movie.chunks is None:
        n_frames, rows, columns = movie.shape[-3:]
        movie = movie.chunk(time=even_chunks((n_frames, rows, columns), movie.dtype.itemsize))
    movie = movie.chunk({height: -1, width: -1})
    shifts = da.from_array(moves.shifts, chunks=(movie.chunksizes["time"], -1))
    return da.blockwise(
        move,
        movie.dims,
        movie.data,
        movie.dims,
        shifts,
        (lead[-1], "shift"),
        moves=moves._replace(shifts=np.empty((0, 2), np.float32)),
        concatenate=True,
        dtype=np.int16,
        meta=np.empty((0,) * movie.ndim, np.int16),
    )


def _stacked(parts: list[Any], movie: xr.DataArray) -> Any:
    import dask.array as da

    return da.stack(parts, axis=movie.dims.index("plane"))


def move(frames: np.ndarray, shifts: np.ndarray, moves: Moves) -> np.ndarray:
    """Move frames in memory, ``(…, time, y, x)``, as suite2p does: int16."""
    halved = _HALVED[frames.dtype.name]
    frames = (frames if halved == 1 else frames // halved).astype(np.int16)
    if moves.bidiphase:
        frames = _lines_in_phase(frames, moves.bidiphase)
    out = np.empty_like(frames)
    for channel in np.ndindex(frames.shape[:-3]):
        _move(frames[channel], shifts, moves, out[channel])
    return out


def _lines_in_phase(frames: np.ndarray, by: int) -> np.ndarray:
    """Shift every second row; the pixels at the side that nothing comes to stay as they are."""
    out = frames.copy()
    if by > 0:
        out[..., 1::2, by:] = frames[..., 1::2, :-by]
    else:
        out[..., 1::2, :by] = frames[..., 1::2, -by:]
    return out


def _move(frames: np.ndarray, shifts: np.ndarray, moves: Moves, out: np.ndarray) -> None:
    rigid = shifts[:, :2].astype(np.int64)
    if moves.rows is None or moves.columns is None:
        for n, (down, right) in enumerate(rigid):
            out[n] = np.roll(frames[n], (-down, -right), (0, 1))
        return
    from xs2p.movie.shifts_cpu import move_by_blocks

    grid = (moves.rows.blocks, moves.columns.blocks)
    number = math.prod(grid)
    by_blocks = (
        np.ascontiguousarray(part.reshape(-1, *grid), np.float32)
        for part in (shifts[:, 2 : 2 + number], shifts[:, 2 + number :])
    )
    move_by_blocks(
        np.ascontiguousarray(frames), rigid, *by_blocks, *moves.rows[:2], *moves.columns[:2], out
    )
