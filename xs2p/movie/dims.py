"""Which axis of an array in a file is which, where the user or its sizes say it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from xs2p.movie.check import DIMS

LETTERS = {"t": "time", "c": "channel", "z": "plane", "y": "y", "x": "x"}
MOST = 5  # time, channel, plane, y and x


def checked_dims(dims: Any) -> tuple[str, ...] | None:
    """Read ``"tczyx"``, or a list of such letters or of names, as the names of the axes."""
    if dims is None:
        return None
    given: list[Any] = []
    if isinstance(dims, str) and not set(dims) & set(", "):
        given = [dims] if dims in LETTERS.values() else list(dims)
    elif isinstance(dims, str):
        given = dims.replace(",", " ").split()
    elif isinstance(dims, Iterable):
        given = list(dims)
    names = [LETTERS.get(str(d).lower(), str(d).lower()) for d in given]
    odd = set(names) - set(LETTERS.values())
    if odd or len(set(names)) < len(names) or not set(DIMS) <= set(names):
        raise ValueError(
            f"dims={dims!r}: expected the axes as they are stored, the slowest first, of the "
            "letters t, c (channel), z (plane), y and x, each once, with t, y and x among them, as "
            "in dims='tczyx'; an axis of length 1 can be called c or z"
        )
    return tuple(names)


def assumed_dims(shape: Sequence[int]) -> tuple[str, ...] | None:
    """Dims of an array of which nobody said them: (time, y, x), beside axes of length 1."""
    long = [n for n in shape if n != 1]
    if len(shape) == 3:
        return DIMS
    if len(shape) > MOST or len(long) != 3:
        return None
    names, ones = iter(DIMS), iter(("channel", "plane"))
    return tuple(next(ones) if n == 1 else next(names) for n in shape)


def dims_of(shape: Sequence[int], dims: tuple[str, ...] | None, told: str) -> tuple[str, ...]:
    """Dims of an array: as they were said, else as its shape leaves no choice; or raise."""
    found = assumed_dims(shape) if dims is None else dims
    if found is None:
        raise ValueError(f"{told}: {asking(shape)}")
    if len(found) != len(shape):
        raise ValueError(
            f"dims={letters(found)!r} names {len(found)} axes, but {told} has the shape "
            f"{tuple(shape)}, of {len(shape)}"
        )
    return found


def asking(shape: Sequence[int]) -> str:
    """Say of an array of too many or too few axes what can be done."""
    sizes = f"an array of {len(shape)} dims, shape {tuple(int(n) for n in shape)}"
    if not 3 < len(shape) <= MOST:
        return f"{sizes}, expected 3: (time, y, x), or 4 or 5 with dims= to say which is which"
    example = ("time", "plane", "y", "x") if len(shape) == 4 else tuple(LETTERS.values())
    return (
        f"{sizes}, expected 3: (time, y, x), or the names of all, the slowest first: "
        f"dims={example}, in short dims={letters(example)!r}"
    )


def letters(dims: Sequence[str]) -> str:
    """Dims as the argument ``dims=`` spells them."""
    return "".join(next(k for k, v in LETTERS.items() if v == dim) for dim in dims)


def lead(dims: Sequence[str], shape: Sequence[int]) -> tuple[tuple[str, int], ...]:
    """Letters of OME and the sizes of the axes that number frames, as `turns.Stack` has them."""
    return tuple(
        (letters([dim]).upper(), int(n))
        for dim, n in zip(dims, shape, strict=True)
        if dim not in ("y", "x")
    )
