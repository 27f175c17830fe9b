"""Stacks of frames in formats of one program or microscope each, by their suffix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p.movie.sources import VIDEOS

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
    if suffix == ".nd2":
        from xs2p.movie.nikon import nd2_stack

        return nd2_stack(name, variable, plain)
    if suffix == ".lif":
        from xs2p.movie.leica import lif_stack

        return lif_stack(name, variable)
    if suffix == ".czi":
        from xs2p.movie.zeiss import czi_stack

        return czi_stack(name, variable)
    if suffix in (".oib", ".oif"):
        from xs2p.movie.olympus import oif_stack

        return oif_stack(name, variable)
    raise ValueError(f"{name}: no reader for {suffix}")
