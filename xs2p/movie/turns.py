"""Which frame of a file is of which channel, plane and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from xs2p._warnings import warn
from xs2p.movie.frames import Frames
from xs2p.movie.recording import Grid, Recording, Run, shortened, split

MOST_CHANNELS = 4
MOST_SAID = 32  # channels, as of a spectral detector, of files whose axes are called by somebody
LETTERS = {"time": "T", "plane": "Z", "channel": "C"}
_OTHERS = {  # letters of tifffile's and of microscopes' files, which are never time
    "R": "positions or regions",
    "P": "positions or phases",
    "J": "unknown",
    "K": "unknown",
    "M": "tiles of a mosaic",
    "V": "views or events",
    "A": "angles",
    "E": "wavelengths",
    "H": "phases or lifetimes",
    "L": "exposures",
    "I": "illuminations",
    "B": "blocks of the acquisition",
    "S": "colours",
    "U": "a loop of no known kind",
}
_OF_TIFF = (
    "If these are time, channels or planes all the same, say which, as in dims='tczyx'; else take "
    "one of the others with tifffile.imread(path) and write it with tifffile.imwrite(path, frames, "
    "photometric='minisblack')"
)


@dataclass(frozen=True)
class Turn:
    """Frames of ``number`` channels or planes come in turn; only the first ``kept`` are data."""

    dim: str
    number: int
    kept: int | None = None


@dataclass(frozen=True)
class Stack:
    """The frames of a file, and what the file says of them.

    ``axes`` are the letters of OME and their sizes, slowest first, in this file alone;
    ``turns``, slowest first, go on from one file of a recording to the next. ``said``: the axes
    are what they are called, and no other of them is time. ``flipped``: frames are ``(x, y)``.
    ``told`` is how many frames metadata tell of that are not followed, ``lacks`` what of them is
    not there, ``files`` those that came with this one. ``mend``: what helps where the axes are no
    movie's. ``times`` are those that the file has of each frame, in s, and ``times_by`` says which.
    """

    frames: Frames
    axes: tuple[tuple[str, int], ...] = ()
    turns: tuple[Turn, ...] = ()
    note: str = ""
    said: bool = False
    flipped: bool = False
    told: int = 0
    lacks: str = ""
    files: frozenset[str] = frozenset()
    called: bool = False  # axes have their names from metadata that know time too, as OME's do
    fs: float | None = None  # in Hz, of each channel and plane, where the file says it
    times: np.ndarray | None = field(default=None, compare=False)
    times_by: str = ""
    mend: str = _OF_TIFF
    channels: tuple[int, ...] = ()  # their numbers, where the file says them
    periods: tuple[tuple[str, float], ...] = ()  # line_period, plane_period in s, where it says so

    @property
    def name(self) -> str:
        """Path of the file."""
        return self.frames.stamp.path


def lay_out(
    stacks: Sequence[Stack],
    channels: int | None = None,
    planes: int | None = None,
    order: Sequence[str] | None = None,
) -> tuple[tuple[str, ...], Grid]:
    """Find the frames of each channel and plane: their dims, and an array of `Recording`."""
    asked = {"channel": channels, "plane": planes}
    if order is not None:
        return _without_ones(*_by_order(stacks, asked, order), stacks[-1].name)
    grids, left = zip(*(_by_axes(stack, asked) for stack in stacks), strict=True)
    _warn_of_guess(stacks[0], asked)
    sizes = [grid.shape for grid in grids]
    for stack, size in zip(stacks, sizes, strict=True):
        if size != sizes[0] or stack.turns != stacks[0].turns:
            raise ValueError(
                f"{stack.name} has {_told(stack, size)}, but {stacks[0].name} has "
                f"{_told(stacks[0], sizes[0])}: files of one recording must have the same "
                "channels and planes"
            )
    joined: Grid = np.empty(sizes[0], object)
    for index in np.ndindex(*sizes[0]):
        joined[index] = Recording(tuple(grid[index] for grid in grids))
    turns = _turns(stacks[0], left[0])
    grid: Grid = np.empty((*joined.shape, *(turn.number for turn in turns)), object)
    for index in np.ndindex(*joined.shape):
        grid[index] = split(joined[index], [turn.number for turn in turns])
    grid = grid[(..., *(slice(turn.kept) for turn in turns))]
    # Dims of the grid: channel and plane of the axes, then those that come in turn.
    dims = ["channel", "plane", *(turn.dim for turn in turns)]
    return _without_ones(dims, grid, stacks[-1].name)


def _without_ones(dims: Sequence[str], grid: Grid, name: str) -> tuple[tuple[str, ...], Grid]:
    """Keep the dims of the grid that are of several, channel first, and end after a whole turn."""
    kept, places = [], []
    for dim in ("channel", "plane"):
        at = [i for i, d in enumerate(dims) if d == dim and grid.shape[i] > 1]
        kept += [dim] * len(at)
        places += at
    rest = [i for i in range(grid.ndim) if i not in places]
    grid = grid.transpose(*places, *rest).reshape([grid.shape[i] for i in places])
    return tuple(kept), _whole_turns(grid, kept, name)


def _by_order(
    stacks: Sequence[Stack], asked: dict[str, int | None], order: Sequence[str]
) -> tuple[tuple[str, ...], Grid]:
    """Take the user's word for the order of a recording's frames, and not that of its files."""
    counts = {dim: asked[dim] or 1 for dim in asked}
    recording = Recording(tuple(Run.of(stack.frames) for stack in stacks))
    at = list(order).index("time")
    dims = (*order[:at], *order[at + 1 :])
    sizes = [counts[dim] for dim in dims]
    n_frames, one_of_each = recording.shape[0], math.prod(sizes)
    if at > 0 and n_frames % one_of_each:
        names = stacks[0].name if len(stacks) == 1 else f"{stacks[0].name} … {stacks[-1].name}"
        raise ValueError(
            f"{names}: {n_frames} frames are not {' times '.join(_listed(counts))} times "
            f"a number of frames, as order={tuple(order)} needs where time is not the first"
        )
    # Dims before time part the whole recording, those after it come in turn within each part.
    grid: Grid = np.empty(sizes, object)
    length = n_frames // math.prod(sizes[:at])
    for place, index in enumerate(np.ndindex(*sizes[:at])):
        part = recording.cut(place * length, (place + 1) * length)
        grid[(*index, ...)] = split(part, sizes[at:])
    return dims, grid


def _by_axes(stack: Stack, asked: dict[str, int | None]) -> tuple[Grid, dict[str, int | None]]:
    """Find the runs ``(channel, plane)`` of a file, and the counts that its axes do not say."""
    axes = [(letter, size) for letter, size in stack.axes if size > 1]
    letters = "".join(letter for letter, _ in axes)
    if len(set(letters)) < len(letters):
        raise _unclear(stack)
    sizes = dict(axes)
    time = "T" if "T" in sizes or stack.said else _time_by_guess(stack, sizes, asked)
    if set(letters) - {time} - {"C", "Z"}:
        raise _unclear(stack)
    left = dict(asked)
    strides, found = {}, {}
    stride = stack.frames.shape[0]
    for letter, size in axes:
        stride //= size
        strides[letter] = stride
    for dim in ("channel", "plane"):
        letter = LETTERS[dim]
        if letter == time or letter not in sizes:
            found[dim] = 1
            continue
        found[dim] = sizes[letter]
        if asked[dim] not in (None, sizes[letter]):
            raise ValueError(
                f"{dim}s={asked[dim]} disagrees with {stack.name}, which says that it has "
                f"{sizes[letter]} (axes {letters + 'YX'!r}); leave {dim}s out, or, if the file is "
                "wrong, give the order of its frames too: order=('time', 'plane', 'channel')"
            )
        left[dim] = None
    n_frames = sizes.get(time, 1) if time else 1
    if not axes:
        n_frames = stack.frames.shape[0]
    grid: Grid = np.empty((found["channel"], found["plane"]), object)
    for c, z in np.ndindex(*grid.shape):
        first = c * strides.get("C", 0) * (time != "C") + z * strides.get("Z", 0) * (time != "Z")
        grid[c, z] = Run(stack.frames, first, strides.get(time or "", 1), n_frames)
    return grid, left


def _time_by_guess(stack: Stack, sizes: dict[str, int], asked: dict[str, int | None]) -> str | None:
    """Tell which axis is time where none is called so.

    Writers that are told nothing call the frames of a stack slices, or channels: nobody has that
    many of these. Positions, tiles and whatever else has a letter of its own are never time.
    """
    time: str | None = next((letter for letter in ("Z", "I", "Q") if letter in sizes), None)
    if time is None and sizes.get("C", 0) > (MOST_SAID if stack.called else MOST_CHANNELS):
        time = "C"
    if time is None and "C" in sizes and not set(sizes) - {"C"}:
        if asked["channel"] is None:
            raise ValueError(
                f"{stack.name}: a TIFF of axes 'CYX', {sizes['C']} images and no time: say "
                f"channels={sizes['C']} if they are channels, channels=1 if they are frames "
                "(dims='tyx')"
            )
        time = "C" if asked["channel"] == 1 else None
    return time


def _warn_of_guess(stack: Stack, asked: dict[str, int | None]) -> None:
    """Say of what was called otherwise, by metadata that know time, that it was taken for time."""
    sizes = {letter: size for letter, size in stack.axes if size > 1}
    if not stack.called or stack.said or "T" in sizes:
        return
    time = _time_by_guess(stack, sizes, asked)
    dim = {"Z": "plane", "C": "channel"}.get(time or "")
    if time is None or dim is None or asked[dim] is not None:
        return
    axes = "".join(sizes)
    warn(
        f"{stack.name}: a TIFF of axes {axes + 'YX'!r} and one time point; its {sizes[time]} "
        f"{dim}s ({time}) are taken as frames over time. "
        f"dims={axes.replace(time, 'T').lower() + 'yx'!r} says that they are, {dim}s={sizes[time]} "
        f"that they are {dim}s"
    )


def _turns(stack: Stack, left: dict[str, int | None]) -> list[Turn]:
    """Channels and planes that come in turn, by the file where it says so, else by the user."""
    if not stack.turns:
        return [Turn(dim, left[dim] or 1) for dim in ("plane", "channel")]
    turns = []
    for turn in stack.turns:
        given = left[turn.dim]
        if given not in (None, turn.number, turn.kept):
            number = turn.kept or turn.number
            flyback = f" and {turn.number - number} of fly-back" if number < turn.number else ""
            raise ValueError(
                f"{turn.dim}s={given} disagrees with {stack.name}, which says that {number} "
                f"{turn.dim}s{flyback} come in turn; leave {turn.dim}s out, or, if the file is "
                "wrong, give the order of its frames too: order=('time', 'plane', 'channel')"
            )
        turns.append(
            Turn(turn.dim, turn.number, turn.number if given == turn.number else turn.kept)
        )
    said = {turn.dim for turn in turns}
    extra = [dim for dim, given in left.items() if dim not in said and given not in (None, 1)]
    for dim in extra:
        raise ValueError(
            f"{dim}s={left[dim]} disagrees with {stack.name}, which says that it has one {dim}; "
            f"leave {dim}s out, or, if the file is wrong, give the order of its frames too: "
            "order=('time', 'plane', 'channel')"
        )
    return turns


def _whole_turns(grid: Grid, dims: Sequence[str], name: str) -> Grid:
    """Leave out what a recording has of a turn that it did not end."""
    lengths = [part.shape[0] for part in grid.flat]
    shortest, longest = min(lengths), max(lengths)
    counts = dict(zip(dims, grid.shape, strict=True))
    if shortest == 0:
        raise ValueError(
            f"{name}: {sum(lengths)} frames are fewer than {' times '.join(_listed(counts))}"
        )
    if shortest == longest:
        return grid
    lost = sum(lengths) - shortest * grid.size
    last = "its last frame is" if lost == 1 else f"its last {lost} frames are"
    warn(
        f"{name}: the recording ends before all of its {' times '.join(_listed(counts))} have had "
        f"their turn: {last} left out, and {shortest} of each remain"
    )
    return shortened(grid, shortest)


def _listed(counts: dict[str, int]) -> list[str]:
    return [f"{number} {dim}s" for dim, number in counts.items() if number > 1]


def _told(stack: Stack, size: tuple[int, ...]) -> str:
    counts = dict(zip(("channel", "plane"), size, strict=True))
    counts |= {turn.dim: turn.number for turn in stack.turns}
    return " and ".join(_listed(counts)) or "one channel and plane"


def _unclear(stack: Stack) -> ValueError:
    axes = "".join(letter for letter, _ in stack.axes)
    odd = [f"{letter} ({_OTHERS[letter]})" for letter in axes if letter in _OTHERS]
    return ValueError(
        f"{stack.name}: it has axes {axes + 'YX'!r}{' with ' * bool(odd) + ', '.join(odd)}, "
        f"expected frames over time, of several channels (C) and planes (Z) at most. {stack.mend}"
    )
