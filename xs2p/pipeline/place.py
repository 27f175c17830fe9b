"""Where a run is to write, and what may be there."""

from __future__ import annotations

import functools
import logging
import os
import re
from collections.abc import Iterable

from xs2p._attrs import GROUPS, LEDGER
from xs2p.disk.replace import (
    check_place,
    foreign_folder,
    foreign_store,
    holds_only_zarr,
    remove,
)
from xs2p.disk.traces import groups_in, groups_to, place_of
from xs2p.pipeline.marks import RUN

log = logging.getLogger("xs2p")


def _foreign(path: str, marks: tuple[str, ...] = ("xs2p_version", RUN, GROUPS)) -> str | None:
    """Why a store is not this package's: it, or one of its groups, or there is more in it."""
    why = foreign_store(path, marks)
    groups = groups_in(path) if why is None else None
    if groups is None:
        return why
    known: dict[str, set[str]] = {}  # folders within each that leads to groups
    for group in groups:
        for above in groups_to(group):
            inner = group.strip("/").removeprefix(above.strip("/")).strip("/")
            known.setdefault(above, {LEDGER}).add(inner.split("/")[0])
        place = place_of(path, group)
        why = foreign_store(place, ("xs2p_version", RUN)) if os.path.lexists(place) else None
        if why is not None:
            return f"has a group {group} that {why}"
    for above, names in known.items():
        folder = place_of(path, above)
        why = foreign_folder(folder) if os.path.lexists(folder) else None
        if why is not None:
            return f"has a group {above} that {why}"
        inside = os.scandir(folder) if os.path.isdir(folder) else ()
        own = names | {f".{name}.new" for name in names}  # of a run that was killed
        more = sorted(entry.name for entry in inside if entry.is_dir() and entry.name not in own)
        if more:
            return f"holds {', '.join(more)}, which is not of its groups"
    return None


def partial_path(path: str) -> str:
    """Return what a store is called while it is not complete."""
    return f"{os.path.splitext(path)[0]}.partial.zarr"


def lock_of(growing: str) -> str:
    """Return the lock of an unfinished store: beside it, for it also covers its making and end."""
    return os.path.join(os.path.dirname(growing), f".{os.path.basename(growing)}.lock")


def check_target(
    path: str | os.PathLike[str],
    resume: bool,
    overwrite: bool,
    inputs: Iterable[str],
    alone: bool = False,
) -> tuple[str, str]:
    """Check where a run is to write; what its store is called in the end, and until then.

    Where another may be writing just now, what it writes is looked at once we are ``alone``.

    Raises
    ------
    ValueError, FileNotFoundError
        If there can be no store of that name.
    FileExistsError
        If something is there that must stay: see :mod:`xs2p.disk.replace`.
    """
    final = os.path.abspath(os.fspath(path))
    if os.path.splitext(final)[1].lower() != ".zarr":
        raise ValueError(
            f"the store {os.fspath(path)!r} must be a folder whose name ends in .zarr, "
            "as in 'traces.zarr'"
        )
    if not os.path.isdir(os.path.dirname(final)):
        raise FileNotFoundError(
            f"no folder {os.path.dirname(final)!r} to write {os.path.basename(final)} into; "
            "make it first, with os.makedirs"
        )
    growing, inputs = partial_path(final), list(inputs)
    if not alone and os.path.exists(lock_of(growing)):
        return final, growing
    _check_unfinished(final, growing, resume, overwrite, inputs)
    if overwrite or not resume:
        check_place(final, overwrite=overwrite, foreign=_foreign, inputs=inputs)
    return final, growing


def _check_unfinished(
    final: str, growing: str, resume: bool, overwrite: bool, inputs: list[str]
) -> None:
    if not os.path.lexists(growing):
        return
    if resume and not overwrite and os.path.lexists(final):
        raise FileExistsError(
            f"{growing} is from a run that did not end and was to replace {final}; "
            "resume=True, overwrite=True goes on with it"
        )
    # Whatever is done with it, it must be of a run.
    foreign = functools.partial(_foreign, marks=(RUN, GROUPS))
    check_place(growing, overwrite=True, foreign=foreign, inputs=inputs)
    if not (overwrite or resume):
        raise FileExistsError(
            f"{growing} exists, from a run that did not end; resume=True goes on with it, "
            "overwrite=True starts anew"
        )


def left_behind(final: str) -> list[str]:
    """Return stores that a run had replaced, or was about to, when it was killed.

    They have names that nobody else gives, and hold what this package made, or what is left of it.
    """
    folder, name = os.path.split(final)
    ours = re.compile(rf"\.{re.escape(name)}\.[0-9a-f]{{8}}\.old")
    inside = os.listdir(folder) if os.path.isdir(folder) else []
    found = [os.path.join(folder, other) for other in sorted(inside) if ours.fullmatch(other)]
    return [old for old in found if _is_ours(old)]


def _is_ours(old: str) -> bool:
    half = not os.path.lexists(os.path.join(old, "zarr.json"))  # it was being removed
    try:
        return holds_only_zarr(old) if half else _foreign(old) is None
    except OSError:  # just now
        return False


def clear(final: str, inputs: Iterable[str] = ()) -> None:
    """Remove what killed runs had replaced, now that a complete store is in its place.

    What is among the ``inputs`` of the run stays.
    """
    kept = {os.path.abspath(path) for path in inputs}
    for old in left_behind(final):
        if any(path == old or path.startswith(old + os.sep) for path in kept):
            continue
        log.warning("%s is removed: a run was killed as it replaced it by %s", old, final)
        remove(old)
