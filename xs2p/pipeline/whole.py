"""What makes a store of a run a finished one."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xs2p._attrs import HISTORY, LEDGER, UNFINISHED
from xs2p.disk.lock import Hold
from xs2p.disk.replace import HALF_WRITTEN, put_bytes
from xs2p.pipeline.ledger import write_ledger
from xs2p.pipeline.marks import DONE, RUN, marked_files
from xs2p.pipeline.sessions import sessions_in

_UNTIL_WHOLE = (*DONE, HISTORY)  # members that only an unfinished store has


@dataclass(frozen=True)
class Writer:
    """Who writes a store: tasks write as long as their run holds its lock."""

    store: str
    hold: Hold
    durable: bool
    """Whether what is written is on disk before it is marked."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A worker unpacks what it is sent in one thread and runs tasks in others: where two of them
        # are the first to import Zarr, one sees half of it, and the worker is lost.
        import zarr  # noqa: F401

        self.__dict__.update(state)


def complete(writer: Writer) -> None:
    """Take away what only an unfinished store has.

    What makes it a finished one is one file, put in place at once; the rest follows, again and
    again if need be.
    """
    store = writer.store
    writer.hold.check()
    clear_half_written(store)
    root = _metadata_of_whole(store)
    if root is not None:
        sums = {name: number for _, _, name, number in marked_files(store)}
        written = json.loads(root)["attributes"]
        write_ledger(store, sums, root, written[RUN], writer.durable, without=_UNTIL_WHOLE)
        writer.hold.check()
        # Made where Zarr does not look for members of the store.
        within = os.path.join(store, LEDGER)
        put_bytes(root, os.path.join(store, "zarr.json"), writer.durable, made_in=within)
    for name in _UNTIL_WHOLE:
        # Half of an array is nothing that Zarr knows: it goes out of its sight first.
        aside = os.path.join(store, LEDGER, name)
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(os.path.join(store, name), aside)
        shutil.rmtree(aside, ignore_errors=True)


def clear_half_written(store: str) -> None:
    """Remove files that a run was writing when it was killed."""
    for path in Path(store).rglob("*.partial"):
        if HALF_WRITTEN.search(path.name):
            path.unlink()


def is_whole(store: str) -> bool:
    """Whether all is written, and the metadata are those of a finished store."""
    root = json.loads((Path(store) / "zarr.json").read_bytes())
    return UNFINISHED not in root["attributes"]


def _metadata_of_whole(store: str) -> bytes | None:
    """Metadata of the finished store, with those of its arrays; None where it has them already."""
    files = {}
    for path in (Path(store), *sorted(Path(store).iterdir())):
        if path.name not in (*_UNTIL_WHOLE, LEDGER) and (path / "zarr.json").exists():
            key = (path.relative_to(store) / "zarr.json").as_posix()
            files[key] = (path / "zarr.json").read_bytes()
    root = json.loads(files["zarr.json"])
    if root["attributes"].pop(UNFINISHED, None) is None:
        return None
    root["attributes"][HISTORY] = json.dumps(sessions_in(store))
    files["zarr.json"] = json.dumps(root).encode()
    return consolidated(files)


def consolidated(files: dict[str, bytes]) -> bytes:
    """Metadata of a group that hold those of its members too, of all by their keys."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    held: dict[str, Any] = {key: buffer.from_bytes(data) for key, data in files.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        zarr.consolidate_metadata(zarr.storage.MemoryStore(held))
    return bytes(held["zarr.json"].to_bytes())
