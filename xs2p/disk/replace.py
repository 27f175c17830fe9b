"""A new file or folder in the place of an old one: the ONE way, with its guard.

Every writer asks `check_place` at its door, before any work: what is there is replaced only where
this package made it, and never where it is an input or holds one. The new one is written under
another name, whole and on disk, before the old one goes.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import secrets
import shutil
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any

# What file managers and Snakemake leave in folders.
_LITTER = (".DS_Store", "Thumbs.db", "desktop.ini", ".snakemake_timestamp")
_ZARR = ("zarr.json", ".zgroup", ".zattrs", ".zmetadata", ".zarray")
# What Zarr leaves of a write that was killed.
HALF_WRITTEN = re.compile(r"\.[0-9a-f]{32}\.partial$")
Look = Callable[[str], str | None]


def check_place(
    path: str, *, overwrite: bool, foreign: Look, inputs: Iterable[str] = (), step: str = ""
) -> None:
    """Raise a FileExistsError unless a file or folder may be put there.

    ``foreign`` says of what is there why this package did not make it, or None; ``inputs`` are
    paths of what is being read; ``step`` is who asks.
    """
    who = f"{step}: " if step else ""
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise FileExistsError(
            f"{who}{path} exists; overwrite=True replaces it once the new one is complete, "
            "another name leaves it"
        )
    check_not_read(path, inputs, who)
    why = foreign(path)
    if why is not None:
        raise FileExistsError(
            f"{who}{path} exists and {why}; xs2p replaces only what it made: it is left as it is, "
            "choose another name or delete it first"
        )


def check_not_read(path: str, inputs: Iterable[str], who: str = "") -> None:
    """Raise a FileExistsError where a path is one of the inputs, or a folder that holds one."""
    here = os.path.normcase(os.path.realpath(path))
    for source in sorted(inputs, key=len):
        there = os.path.normcase(os.path.realpath(source))
        if there == here or there.startswith(here.rstrip(os.sep) + os.sep):
            told = "is" if there == here else "holds"
            raise FileExistsError(
                f"{who}{path} {told} the input {source}, which is being read; it is left as it is: "
                "choose another output"
            )


def foreign_file(path: str, ours: Callable[[bytes], bool], what: str) -> str | None:
    """Why a file is not this package's, by how it begins: it is no ``what``."""
    try:
        with open(path, "rb") as file:
            return None if ours(file.read(200)) else f"is no {what}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def check_page(target: str, what: str, mark: bytes, *, overwrite: bool, step: str) -> None:
    """Raise unless an HTML file may be put there; ``mark`` is at the head of those made here."""
    if os.path.splitext(target)[1].lower() not in (".html", ".htm"):
        raise ValueError(f"a {what} is a file whose name ends in .html, got {target!r}")
    if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise FileNotFoundError(f"no folder {os.path.dirname(target)!r} for the {what} {target!r}")
    foreign = functools.partial(
        foreign_file, ours=lambda head: mark in head, what=f"{what} of xs2p"
    )
    check_place(target, overwrite=overwrite, foreign=foreign, step=step)


def foreign_store(path: str, marks: Iterable[str]) -> str | None:
    """Why a Zarr store is not this package's: its root has none of the marks, or more is in it.

    ``marks`` are attributes of the root that this package sets.
    """
    why = foreign_folder(path)
    if why is not None:
        return why
    import zarr

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what it does not know, which was looked at
            group = zarr.open_group(path, mode="r", use_consolidated=False)
            attrs, arrays = dict(group.attrs), dict(group.arrays())
        dims = {key: _dims(array) for key, array in arrays.items()}
    except Exception as error:
        return f"cannot be read as a Zarr store ({type(error).__name__}: {error})"
    if not set(marks) & set(attrs):
        return f"is a Zarr store of something else ({_listed(arrays) or 'no arrays'})"
    movies = [key for key in dims if {"time", "y", "x"} <= dims[key]]
    return f"holds a movie ({_listed(movies)})" if movies else None


def _dims(array: Any) -> set[Any]:
    names = getattr(array.metadata, "dimension_names", None)
    return set(names or array.attrs.get("_ARRAY_DIMENSIONS") or ())


def foreign_folder(path: str) -> str | None:
    """Why a folder is no Zarr store: nothing of Zarr's is in it, or something else beside it."""
    if not os.path.isdir(path):
        return "is a file"
    inside = sorted(set(os.listdir(path)) - set(_LITTER))
    if not set(_ZARR) & set(inside):
        return f"is no Zarr store, but a folder that holds {_listed(inside) or 'nothing'}"
    odd = [
        name
        for name in inside
        if name not in _ZARR
        and not any(os.path.exists(os.path.join(path, name, part)) for part in _ZARR)
        and not holds_only_zarr(os.path.join(path, name))
    ]
    return f"holds {_listed(odd)}, which is not of a Zarr store" if odd else None


def holds_only_zarr(folder: str) -> bool:
    """Whether all files in a folder are such as a write of Zarr's leaves, also one that was killed.

    That is metadata, and chunks in a folder ``c``.
    """
    if not os.path.isdir(folder) or os.path.islink(folder):
        return False
    for within, _, files in os.walk(folder):
        of_chunks = "c" in os.path.relpath(within, folder).split(os.sep)
        own = (*_LITTER, *(name for name in files if HALF_WRITTEN.search(name)))
        odd = [name for name in files if not name.startswith(_ZARR) and name not in own]
        if odd and not of_chunks:
            return False
    return True


def _listed(names: Iterable[Any], most: int = 5) -> str:
    shown = [str(name) for name in names]
    return ", ".join(shown[:most]) + (f", … ({len(shown)} in all)" if len(shown) > most else "")


def put_in_place(new: str, path: str, overwrite: bool, durable: bool = True) -> None:
    """Give a complete folder its final name, in the place of an old one with ``overwrite``.

    All of it is on disk before that, and the name after it; unless ``durable`` is False.
    """
    if durable:
        sync_tree(new)
    if overwrite and os.path.lexists(path):
        old = hidden(path, ".old")
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(old, path)
            raise
        if durable:
            sync_folder(os.path.dirname(path))
        remove(old)
    elif os.path.lexists(path):
        raise FileExistsError(f"{path} has come into being meanwhile; it is left as it is")
    else:
        os.rename(new, path)
    if durable:
        sync_folder(os.path.dirname(path))


def put_bytes(data: bytes, path: str, durable: bool = True, made_in: str | None = None) -> None:
    """Write a file that is there whole or not at all, also where the power goes.

    It is made in its own folder, or in another one of that disk.
    """
    folder = os.path.dirname(path)
    # As Zarr calls its own, and cleared away with those.
    new = os.path.join(made_in or folder, f"{os.path.basename(path)}.{uuid.uuid4().hex}.partial")
    try:
        with open(new, "xb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(new)
        raise
    if durable:
        sync_folder(folder)


def put_file_in_place(new: str, path: str, overwrite: bool) -> None:
    """Give a complete file its final name, as :func:`put_in_place` does a folder."""
    sync_file(new)
    sync_folder(os.path.dirname(new))
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{path} has come into being meanwhile; it is left as it is")
    os.replace(new, path)
    sync_folder(os.path.dirname(path))


def remove(path: str) -> None:
    """Remove what has been replaced: a link, and not what it leads to."""
    if os.path.islink(path) or not os.path.isdir(path):
        os.remove(path)
    else:
        shutil.rmtree(path, ignore_errors=True)


def hidden(path: str, suffix: str) -> str:
    """Return a name beside ``path`` that nothing has."""
    folder, name = os.path.split(path)
    return os.path.join(folder, f".{name}.{uuid.uuid4().hex[:8]}{suffix}")


@contextlib.contextmanager
def scratch_folder(path: str) -> Iterator[str]:
    """Give the name of a folder beside ``path`` to work in; it is gone afterwards."""
    scratch = hidden(path, ".tmp")
    os.mkdir(scratch)  # now, so that a folder that cannot be written to is known before the work
    try:
        yield scratch
    except BaseException:
        remove_written(scratch)
        raise
    shutil.rmtree(scratch, ignore_errors=True)


def remove_written(folder: str) -> None:
    """Remove a folder of ours, also where a writer's threads still put files into it.

    Zarr raises the first error of its threads while the others go on, and those make the folders
    that they need again.
    """
    for _ in range(50):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
        if not os.path.lexists(folder):
            return


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
            sync_file(temporary)
        sync_folder(folder)
        if not overwrite:
            check_absent(folder, known)
        _exchange(folder, pending, known)
        sync_folder(folder)
    except BaseException:
        for temporary in pending.values():
            with contextlib.suppress(FileNotFoundError):
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


def sync_tree(folder: str) -> None:
    """See to it that a folder and all in it are on disk."""
    for within, _, files in os.walk(folder, topdown=False):
        for name in files:
            sync_file(os.path.join(within, name))
        sync_folder(within)


def sync_file(path: str) -> None:
    """See to it that a file is on disk, and not on its way there."""
    handle = os.open(path, os.O_RDWR | getattr(os, "O_BINARY", 0))  # Windows syncs no other
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sync_folder(folder: str) -> None:
    """See to it that the names in a folder are on disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(folder or ".", os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
