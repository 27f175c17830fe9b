"""The argument ``device`` of suite2p's functions."""

from __future__ import annotations

from typing import Any


def check_device(device: Any) -> None:
    """Raise where it is no device that suite2p would take."""
    name = str(device)
    if name != "cpu" and not name.startswith("cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', as suite2p has it; got {device!r}")
