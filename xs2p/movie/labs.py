"""Stacks of frames in formats of one program or microscope each, by their suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.sources import MICROSCOPES, VIDEOS

if TYPE_CHECKING:
    from xs2p.movie.turns import Stack


def lab_stack(
    suffix: str,
    name: str,
    frame: tuple[int, int] | None,
    dtype: np.dtype[Any] | None,
    variable: str | None,
    plain: bool,
) -> Stack:
    """Open a file of one of the suffixes in `xs2p.movie.sources.LABS`.

    ``plain``: the user says the order of its frames, whatever the file says.
    """
    if suffix == ".mmap":
        from xs2p.movie.columns import mmap_stack

        return mmap_stack(name, dtype)
    if suffix == ".sbx":
        from xs2p.movie.scanbox import sbx_stack

        return sbx_stack(name)
    if suffix in VIDEOS:
        from xs2p.movie.video import video_stack

        return video_stack(name)
    if suffix in MICROSCOPES:
        from xs2p.movie.microscopes import microscope_stack

        return microscope_stack(suffix, name, variable, plain)
    raise ValueError(f"{name}: no reader for {suffix}")
