"""A new file or folder in the place of an old one: the old one stays until the new is whole."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator


def put_in_place(new: str, path: str, overwrite: bool) -> None:
    """Give a complete folder its final name, in the place of an old one with ``overwrite``."""
    if overwrite and os.path.exists(path):
        old = hidden(path, ".old")
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)
    elif os.path.exists(path):
        raise FileExistsError(f"{path} has come into being meanwhile; it is left as it is")
    else:
        os.rename(new, path)


def hidden(path: str, suffix: str) -> str:
    """Return a name beside ``path`` that nothing has."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}{suffix}")


def check_absent(folder: str, names: Iterable[str]) -> None:
    """Raise where one of the files exists."""
    found = [name for name in names if os.path.lexists(os.path.join(folder, name))]
    if found:
        raise FileExistsError(
            f"{folder!r} holds {', '.join(found)} already; write to another folder, "
            "or replace them with overwrite=True: what is only in these files is lost then"
        )


@contextlib.contextmanager
def file_set(
    folder: str, known: Iterable[str], *, overwrite: bool
) -> Iterator[Callable[[str], str]]:
    """Let all files be written under temporary names, and only then give each its own.

    Yields a function from a file's name to the path to write it to. ``known`` are the names
    that belong to the set: with ``overwrite`` those of them that are not written are removed.
    """
    known = list(known)
    made = not os.path.isdir(folder)
    os.makedirs(folder, exist_ok=True)
    pending: dict[str, str] = {}

    def new(name: str) -> str:
        temporary = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.tmp")
        with open(temporary, "xb"):
            pending[name] = temporary
        return temporary

    try:
        yield new
        for temporary in pending.values():
            with open(temporary, "r+b") as file:
                os.fsync(file.fileno())
        if not overwrite:
            check_absent(folder, known)
        _exchange(folder, pending, known)
        _sync_folder(folder)
    except BaseException:
        for temporary in pending.values():
            os.remove(temporary)
        if made and not os.listdir(folder):
            os.rmdir(folder)
        raise


def _exchange(folder: str, pending: dict[str, str], known: Iterable[str]) -> None:
    """Put the new files in the place of the old ones, or leave the old ones as they were."""
    aside: dict[str, str] = {}
    placed: list[str] = []
    try:
        for name in known:
            path = os.path.join(folder, name)
            if os.path.isdir(path) and not os.path.islink(path):
                raise IsADirectoryError(f"{path!r} is a folder, expected a file")
            if os.path.lexists(path):
                old = os.path.join(folder, f".{name}.{secrets.token_hex(8)}.old")
                os.rename(path, old)
                aside[name] = old
        for name in list(pending):
            os.rename(pending[name], os.path.join(folder, name))
            placed.append(name)
            del pending[name]
    except BaseException:
        for name in placed:
            os.remove(os.path.join(folder, name))
        for name, old in aside.items():
            os.rename(old, os.path.join(folder, name))
        raise
    for old in aside.values():
        os.remove(old)


def _sync_folder(folder: str) -> None:
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
