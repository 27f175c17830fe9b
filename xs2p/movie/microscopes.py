"""What the files of Nikon, Leica, Zeiss and Olympus have in common: a library for each.

Each has frames at places of their own, in axes that the file names; several fields of view or
images may be in one file, of which one is picked.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from xs2p.movie.frames import Frames

_OFF = 0.5  # a step may be so much longer or shorter than most, of it, and none is missing


@dataclass(frozen=True)
class PlacedFrames(Frames):
    """Frames each at a place of its own in the file, which `fill` finds by their numbers."""

    def read(self, start: int, stop: int) -> np.ndarray[Any, Any]:
        """Read these frames."""
        return self.take(start, 1, stop - start)

    def take(self, start: int, step: int, count: int) -> np.ndarray[Any, Any]:
        """Read every ``step``-th frame, and none of those between."""
        self.stamp.check()
        out = np.empty((count, *self.shape[1:]), self.dtype)
        if count:
            self.fill(start + step * np.arange(count), out)
        return out

    def fill(self, wanted: np.ndarray[Any, Any], out: np.ndarray[Any, Any]) -> None:
        """Read the frames ``wanted`` into ``out``, with a handle that is of this call alone."""
        raise NotImplementedError

    def check(self, page: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """Raise where a frame is not as the file said when it was opened."""
        if page.shape != self.shape[1:] or page.dtype.newbyteorder("=") != self.dtype:
            raise OSError(
                f"a frame is {page.shape} of {page.dtype}, expected {self.shape[1:]} of "
                f"{self.dtype} as the file says: it is damaged"
            )
        return page


def library(module: str, name: str) -> Any:
    """Import the library that reads a file."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"{name}: read with {module}, which is not there ({error}): "
            "pip install 'xs2p[microscopes]'"
        ) from error


def picked(name: str, what: str, shown: dict[str, str], variable: str | None) -> str:
    """Pick by ``variable`` one of what a file has several of, ``shown`` by name with its shape."""
    if variable is None and len(shown) == 1:
        return next(iter(shown))
    if variable in shown:
        return str(variable)
    found = ", ".join(f"{key!r} {text}".strip() for key, text in list(shown.items())[:30])
    more = f" and {len(shown) - 30} more" if len(shown) > 30 else ""
    if not shown:
        raise ValueError(f"{name}: holds no {what}")
    if variable is None:
        raise ValueError(
            f"{name}: holds {len(shown)} {what}s: {found}{more}; pick one with "
            f"variable={next(iter(shown))!r}"
        )
    raise ValueError(f"{name}: holds no {what} {variable!r}, but {found}{more}")


def shape_text(axes: Sequence[tuple[str, int]], frame: Sequence[int]) -> str:
    """Show the sizes of the axes, ``(T 100, Y 12, X 16)``."""
    every = [*axes, ("Y", frame[0]), ("X", frame[1])]
    return "(" + ", ".join(f"{letter} {n}" for letter, n in every) + ")"


def clock(seconds: Any, number: int) -> tuple[np.ndarray | None, float | None]:
    """Take times of frames from the first on, in s, and find their mean rate in Hz.

    No times where these are not finite or do not go on, or are not of ``number`` frames; no rate
    where a step is so long or short that frames are missing, or the recording paused.
    """
    times = np.asarray(seconds, np.float64)
    if times.shape != (number,) or number < 2 or not np.isfinite(times).all():
        return None, None
    steps = np.diff(times)
    if not (steps > 0).all():
        return None, None
    middle = float(np.median(steps))
    steady = (np.abs(steps - middle) <= _OFF * middle).all()
    rate = (number - 1) / float(times[-1] - times[0])
    return times - times[0], rate if steady else None


def whole_times(
    name: str, places: list[tuple[int, ...]], letters: Sequence[str]
) -> tuple[list[tuple[int, ...]], str]:
    """Leave out a last time that is not whole; where more is missing, that is no movie.

    ``places`` are those that there are in the axes ``letters``. Returns what is lacking, too.
    """
    sizes = [len(set(column)) for column in zip(*places, strict=True)]
    if math.prod(sizes) == len(places):
        return places, ""
    if "T" in letters:
        time = list(letters).index("T")
        last = max(place[time] for place in places)
        kept = [place for place in places if place[time] < last]
        if kept and math.prod(len(set(column)) for column in zip(*kept, strict=True)) == len(kept):
            return kept, (
                f"its last time has {len(places) - len(kept)} frames of "
                f"{len(kept) // (sizes[time] - 1)}, as of a recording that was stopped, and is "
                "left out"
            )
    told = ", ".join(f"{letter} {n}" for letter, n in zip(letters, sizes, strict=True))
    raise ValueError(
        f"{name} has {len(places)} frames, expected {math.prod(sizes)} for {told}: some are lost, "
        "and which times are whole is not looked for; copy it anew, or have the program of the "
        "microscope write whole times of it"
    )


def advice(call: str) -> str:
    """Say what helps where a file's axes are no movie's, ``call`` reads it whole as an array."""
    return (
        f"Take one of the others with {call}, and open that array with xs2p.open_movie(array, "
        "dims='tzcyx'), where the letters say its axes"
    )
