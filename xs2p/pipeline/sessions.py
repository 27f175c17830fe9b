"""Where a store keeps its history: in a group until it is whole, then as an attribute."""

from __future__ import annotations

import json
import os
from typing import Any

from xs2p._attrs import HISTORY, LEDGER
from xs2p.disk.replace import put_bytes


def empty_sessions(store: str) -> None:
    """Make the group that the history will be in, so that the store never has half of one."""
    os.mkdir(os.path.join(store, HISTORY))
    put_sessions(store, [])


def put_sessions(store: str, sessions: list[dict[str, Any]]) -> None:
    """Let an unfinished store tell of these sessions, and of no others."""
    attributes = {"sessions": json.dumps(sessions)}
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    # Made where Zarr does not look for members of the store.
    within = os.path.join(store, LEDGER)
    place = os.path.join(store, HISTORY, "zarr.json")
    put_bytes(json.dumps(group).encode(), place, made_in=within)


def sessions_in(store: str) -> list[dict[str, Any]]:
    """Sessions that a store tells of, the first first; of a history that is lost, none."""
    text = _told(os.path.join(store, HISTORY), "sessions") or _told(store, HISTORY)
    found: list[dict[str, Any]] = json.loads(text or "[]")
    return found


def _told(group: str, name: str) -> str | None:
    try:
        with open(os.path.join(group, "zarr.json"), "rb") as file:
            return str(json.load(file)["attributes"][name])
    except (FileNotFoundError, KeyError):
        return None
