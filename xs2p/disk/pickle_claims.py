"""What a pickle claims of its own size, checked before Python makes room for it."""

from __future__ import annotations

import pickletools

_NUMBERED = ("LONG_BINPUT", "BINPUT", "PUT")


def check_pickle(data: bytes) -> None:
    """Raise a ValueError where an opcode claims more than the pickle has bytes.

    The number of an entry of the memo is such a claim too: Python makes room for all before it.
    """
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _NUMBERED and not 0 <= int(argument or 0) <= len(data):
            raise ValueError(f"its pickle claims {argument} entries in {len(data)} bytes")
