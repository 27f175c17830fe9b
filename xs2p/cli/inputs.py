"""Files of the command line: ROIs in any format, and stores that are whole or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import xarray as xr


def parse_shape(text: str) -> tuple[int, int]:
    """Read ``512x512`` as rows and columns."""
    rows, cross, columns = text.lower().replace("×", "x").replace(",", "x").partition("x")
    try:
        shape = int(rows), int(columns)
    except ValueError:
        shape = 0, 0
    if not cross or min(shape) < 1:
        raise ValueError(f"--shape {text}: expected rows x columns in pixels, as in 512x512")
    return shape


def require_shape(movie: str, shape: tuple[int, int] | None) -> None:
    """Say in the shell's words what a raw movie lacks; the rest is for open_movie to check."""
    from xs2p.disk.suite2p_ops import has_ops

    raw = movie.lower().endswith((".bin", ".raw"))
    if raw and shape is None and os.path.exists(movie) and not has_ops(os.path.dirname(movie)):
        raise ValueError(
            f"{movie} does not say the size of its frames; give rows x columns in pixels, as "
            "--shape 512x512"
        )


class MovieOptions(NamedTuple):
    """How a movie is opened, and the channels that are taken of it, as the shell says them."""

    fs: float | None = None
    shape: str | None = None
    dtype: str | None = None
    variable: str | None = None
    channels: int | None = None
    planes: int | None = None
    order: str | None = None
    dims: str | None = None
    segments: str | None = None
    channel: int | None = None
    channel_chan2: int | None = None
    movie_chan2: str | None = None
    variable_chan2: str | None = None
    registration: str | None = None


def movies_of(path: str, given: MovieOptions) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Open the movie, and the second channel where one is asked for."""
    import xs2p

    frame = None if given.shape is None else parse_shape(given.shape)
    require_shape(path, frame)
    kind = None if given.dtype is None else parse_dtype(given.dtype)
    how: dict[str, Any] = {"shape": frame, "fs": given.fs, "dtype": kind}
    how |= {name: getattr(given, name) for name in ("channels", "planes", "order", "dims")}
    how["registration"] = given.registration
    own: dict[str, Any] = {"variable": given.variable, "segments": given.segments}
    movie, second = xs2p.open_movie(path, **own, **how), None
    if given.movie_chan2 is not None:
        of_it = of_second_movie(given.movie_chan2, how)
        second = xs2p.open_movie(given.movie_chan2, variable=given.variable_chan2, **of_it)
    elif given.variable_chan2 is not None:
        raise ValueError("--variable-chan2 needs --movie-chan2, the store that holds it")
    return pick_channels(movie, second, given.channel, given.channel_chan2)


def of_second_movie(path: str, how: dict[str, Any]) -> dict[str, Any]:
    """Say how to open the movie of a second channel: it has that one, in a format of its own."""
    from xs2p.movie.sources import STACKS, suffix_of

    mine = {key: how[key] for key in ("shape", "fs", "registration")}
    suffix = suffix_of(path)
    if suffix in (".bin", ".raw"):
        mine["dtype"] = how["dtype"]
    if suffix not in STACKS and how["order"] in ("xy", "yx"):
        mine["order"] = how["order"]
    if suffix in STACKS and (how["planes"] or 1) > 1:
        mine["planes"] = how["planes"]
        if how["order"] is not None:
            kept = how["order"].replace(",", " ").split()
            mine["order"] = [dim for dim in kept if dim != "channel"]
    axes = (how["dims"] or "tyx").lower().replace("channel", "").replace("c", "")
    if axes != "tyx" and suffix not in (".bin", ".raw"):
        mine["dims"] = axes
    return mine


def pick_channels(
    movie: xr.DataArray, second: xr.DataArray | None, first_of: int | None, second_of: int | None
) -> tuple[xr.DataArray, xr.DataArray | None]:
    """Take the channels asked for, as the movie and the second channel of it."""
    have = movie.sizes.get("channel", 1)
    for option, number in (("--channel", first_of), ("--channel-chan2", second_of)):
        if number is not None and not 0 <= number < have:
            count = f"{have} channels, 0 to {have - 1}" if have > 1 else "one channel"
            raise ValueError(f"{option} {number}: the movie has {count}")
    if second_of is not None:
        if second is not None or first_of is None:
            raise ValueError(
                "--channel-chan2 is the second channel of the movie itself: give it with --channel "
                "and without --movie-chan2"
            )
        second = movie.isel(channel=second_of) if have > 1 else movie
    if have > 1 and first_of is None and second is not None:
        raise ValueError(
            f"the movie has {have} channels; say which one to extract, as --channel 0, and which "
            "one beside it, as --channel-chan2 1"
        )
    return movie if first_of is None or have == 1 else movie.isel(channel=first_of), second


def rate_unknown(movie: xr.DataArray, path: str) -> str:
    """Say that a movie lacks its frame rate, and what its times look like."""
    from xs2p._time import rate_shown

    shown = rate_shown(movie)
    looks = f"{shown:g}, as its times look like" if shown else "30"
    return f"{path} does not say its frame rate; give --fs in Hz, as --fs {looks}"


def of_plane(movie: xr.DataArray, plane: int | None, path: str, rois: xr.Dataset) -> xr.DataArray:
    """Say which plane a movie of one plane is of, which it must where ROIs are of several."""
    from xs2p._warnings import names
    from xs2p.rois.pixels import planes_of
    from xs2p.rois.planes import plane_of

    if "plane" in movie.dims:
        if plane is not None:
            raise ValueError(
                f"--plane {plane}: {path} has {movie.sizes['plane']} planes, and the ROIs say "
                "which they are in; leave --plane out"
            )
        return movie
    here = plane_of(movie)
    if plane is None:
        own = planes_of(rois)
        several = set() if own is None else set(own.tolist())
        if here is None and len(several) > 1:
            raise ValueError(
                f"the ROIs lie in {len(several)} planes ({names(sorted(several))}), and {path} "
                f"does not say which of them it is of; give it, as --plane {min(several)}"
            )
        return movie
    if here is not None and here != plane:
        raise ValueError(f"--plane {plane}: {path} says itself that it is of plane {here}")
    return movie.assign_coords(plane=plane)


def parse_dtype(text: str) -> Any:
    """Read the name of a number type."""
    import numpy as np

    try:
        return np.dtype(text)
    except (TypeError, ValueError, SyntaxError):
        raise ValueError(f"--dtype {text}: expected a number type, as int16 or float32") from None


def parse_numbers(option: str, text: str | None) -> Any:
    """One number, or two with a comma between them."""
    if text is None:
        return None
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in ((2,) if option == "--roi-shift" else (1, 2)):
        expected = {
            "--roi-shift": "rows,columns in pixels, as in 3,-2",
            "--roi-scale": "a number, or two for rows,columns, as in 1.5 or 2,1",
        }[option]
        raise ValueError(f"{option} {text}: expected {expected}")
    return numbers if len(numbers) == 2 else numbers[0]
