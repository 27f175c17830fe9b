"""The ledger of a finished store: size and checksum of every file that belongs to it.

It is kept in the attributes of an empty group within the store, which Zarr and xarray pass over.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping
from typing import Any

from xs2p._attrs import LEDGER
from xs2p._warnings import names
from xs2p.disk.replace import put_bytes
from xs2p.pipeline.marks import RUN, size_of, sum_of


def empty_ledger(store: str) -> None:
    """Make the group that the ledger will be in, so that the store never has half of one."""
    os.mkdir(os.path.join(store, LEDGER))
    _put(store, {}, durable=True)


def write_ledger(
    store: str,
    sums: Mapping[str, int],
    root: bytes,
    run: str,
    durable: bool,
    without: Iterable[str] = (),
) -> None:
    """Write down what every file is: ``sums`` of those that are known, others are read.

    Members of the store that go before it is complete are left out.

    ``root`` is what the metadata of the store are going to be. ``run``, what it was made from, is
    kept twice: where the metadata are damaged it says how to make them anew.
    """
    files = {name: number for name, number in sums.items() if number}
    for name in files_in(store, {*without, LEDGER}):
        if name not in sums:
            files[name] = sum_of(os.path.join(store, name))
    files["zarr.json"] = (len(root) << 32) | zlib.crc32(root)
    text = json.dumps({"files": dict(sorted(files.items())), "run": run}, separators=(",", ":"))
    _put(store, {"ledger": text, "crc32": zlib.crc32(text.encode())}, durable)


def files_in(store: str, without: Iterable[str]) -> list[str]:
    """Return files of a store by their names within it, but for those of some of its members."""
    found = []
    for within, folders, files in os.walk(store):
        if within == store:
            folders[:] = [name for name in folders if name not in without]
        part = os.path.relpath(within, store).replace(os.sep, "/")
        found += [name if part == "." else f"{part}/{name}" for name in files]
    return sorted(found)


def read_ledger(store: str) -> tuple[dict[str, int], str]:
    """Return size and checksum of each file, in one number, and what the store was made from.

    Raises
    ------
    ValueError
        The store has none, or it is damaged.
    """
    path = os.path.join(store, LEDGER, "zarr.json")
    try:
        with open(path, "rb") as file:
            attrs = json.load(file)["attributes"]
        text = attrs["ledger"]
        if zlib.crc32(text.encode()) != attrs["crc32"]:
            raise ValueError("its own checksum does not hold")
        ledger = json.loads(text)
        return dict(ledger["files"]), str(ledger["run"])
    except FileNotFoundError:
        raise ValueError(
            f"{store} has no checksums to be checked by: extract_to_zarr writes them, to_zarr and "
            "early versions do not, or another program has removed them; extract anew with "
            "overwrite=True for a store that has them"
        ) from None
    except (ValueError, KeyError, TypeError, UnicodeError) as error:
        raise ValueError(
            f"{path}, the checksums of {store}, is damaged itself ({error}): what is in the store "
            "cannot be checked; extract anew with overwrite=True"
        ) from error


def check_ledger(store: str) -> None:
    """Raise a ValueError, naming the version, where an unfinished store is of before ledgers."""
    if not os.path.isdir(os.path.join(store, LEDGER)):
        maker = _maker(store)
        raise ValueError(
            f"{store} cannot be resumed: {maker} began it, before stores had checksums. Go on with "
            f"{maker}, choose another store, or start anew with overwrite=True, resume=False"
        )


def _maker(store: str) -> str:
    try:
        with open(os.path.join(store, "zarr.json"), "rb") as file:
            attributes = json.load(file)["attributes"]
        return f"xs2p {json.loads(attributes[RUN])['xs2p_version']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "a version of xs2p that it does not tell"


def faults(store: str, ledger: Mapping[str, int], checksums: bool = True) -> dict[str, str]:
    """Files that are not what was written, and what is wrong with each."""
    found = {}
    for name, number in ledger.items():
        path = os.path.join(store, name)
        why = fault(path, number, checksums)
        if why:
            found[name] = why
    return found


def fault(path: str, number: int, checksums: bool = True) -> str:
    """Say why a file is not what was written; nothing where it is."""
    try:
        size = size_of(path)
        if size != number >> 32:
            if not size and not os.path.exists(path):
                return "missing"
            return f"{size} bytes, not {number >> 32}"
        if checksums and sum_of(path) != number:
            return "other bytes than were written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    return ""


def check_whole(store: str) -> None:
    """Raise a ValueError unless every file of a finished store is what was written."""
    found = faults(store, read_ledger(store)[0])
    if found:
        shown = names([f"{name}: {why}" for name, why in found.items()], 3)
        raise ValueError(
            f"{store} is not what was written any more ({shown}); "
            "xs2p.repair_store(path, movie) makes that anew"
        )


def _put(store: str, attributes: dict[str, Any], durable: bool) -> None:
    group = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    put_bytes(json.dumps(group).encode(), os.path.join(store, LEDGER, "zarr.json"), durable)
