"""Stores of traces, compared."""

from __future__ import annotations

import json
from pathlib import Path


def files(store):
    """Every file of a store, to the byte; but for the history, which tells times."""
    found = {
        str(path.relative_to(store)): path.read_bytes()
        for path in sorted(Path(store).rglob("*"))
        if path.is_file()
    }
    if "zarr.json" in found:
        found["zarr.json"] = without_history(found["zarr.json"])
    return found


def without_history(metadata):
    """Metadata of a group without the history in its attributes; all else as it is written."""
    read = json.loads(metadata)
    read["attributes"].pop("xs2p_history", None)
    return json.dumps(read).encode()
