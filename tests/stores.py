"""Stores of traces, compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

LEDGER = "xs2p_files/zarr.json"


def files(store: Any) -> dict[str, bytes]:
    """Every file of a store, to the byte; but for the history, which tells times."""
    found = {
        path.relative_to(store).as_posix(): path.read_bytes()
        for path in sorted(Path(store).rglob("*"))
        if path.is_file()
    }
    if "zarr.json" in found:
        found["zarr.json"] = without_history(found["zarr.json"])
    if LEDGER in found:
        found[LEDGER] = without_root(found[LEDGER])
    return found


def without_history(metadata: bytes) -> bytes:
    """Metadata of a group without the history in its attributes; all else as it is written."""
    read = json.loads(metadata)
    read["attributes"].pop("xs2p_history", None)
    return json.dumps(read).encode()


def without_root(metadata: bytes) -> bytes:
    """The ledger without the checksum of the file that has the history."""
    read = json.loads(metadata)
    ledger = json.loads(read["attributes"].get("ledger", "{}"))
    ledger.get("files", {}).pop("zarr.json", None)
    return json.dumps(ledger).encode()
