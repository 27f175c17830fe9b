"""What is there of a recording whose metadata tell of frames that are not: stopped, or in part."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

_NAMES = {"C": "channel", "Z": "plane", "T": "time"}


class Present(NamedTuple):
    """The pages of a series that are taken, their axes, and what is said of the others."""

    axes: tuple[tuple[str, int], ...]
    pages: list[int]
    told: str
    cut: bool  # frames that are there are left out


def present(
    here: np.ndarray, axes: Sequence[tuple[str, int]], plain: bool, name: str, kind: str
) -> Present:
    """Choose whole channels and planes, and the first frames of which all of these are there.

    ``plain``: just all that are there, in their order.

    Raises
    ------
    ValueError
        Frames lack in the midst of the recording, so that those after them would go by the times
        of others; or none is there.
    """
    told = f"its {kind} metadata tell of {here.size} frames, of which {int(here.sum())} are there"
    if not here.any():
        raise ValueError(f"{name}: {told}: files that belong to it are missing")
    if plain:
        return Present((), np.flatnonzero(here).tolist(), f"{told}, and are taken in order", False)
    grid = here.reshape([size for _, size in axes])
    kept = [
        np.flatnonzero(grid.any(axis=tuple(j for j in range(grid.ndim) if j != i)))
        for i in range(grid.ndim)
    ]
    time = next((i for i, (letter, _) in enumerate(axes) if letter == "T"), None)
    box = grid[np.ix_(*kept)]
    if time is None:
        whole = bool(box.all())
    else:
        full = np.asarray(box.all(axis=tuple(j for j in range(grid.ndim) if j != time)))
        n = int(np.argmin(full)) if not full.all() else full.size
        whole = n > 0 and not full[n:].any() and bool((np.diff(kept[time][:n]) == 1).all())
        kept[time] = kept[time][:n]
    if not whole:
        raise ValueError(
            f"{name}: {told}: the others lie between them, so that times would be wrong: "
            "files that belong to it are missing. order=('time', 'plane', 'channel') takes what is "
            "there one after the other"
        )
    pages = np.arange(here.size).reshape(grid.shape)[np.ix_(*kept)].ravel().tolist()
    parts = [
        f"{_NAMES[letter]} {', '.join(str(k + 1) for k in some)} of {size}"
        if letter in "CZ"
        else f"the first {len(some)} of {size} times"
        for (letter, size), some in zip(axes, kept, strict=True)
        if len(some) < size and letter in _NAMES
    ]
    left = tuple((letter, len(some)) for (letter, _), some in zip(axes, kept, strict=True))
    told += f": {'; '.join(parts)}" if parts else ""
    cut = int(here.sum()) - len(pages)
    told += f"; {cut} more are left out, which order= takes too" if cut else ""
    return Present(left, pages, f"{told}; the movie has these", cut > 0)
