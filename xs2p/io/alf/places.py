"""Where a set of ALF's files may be written, and what an earlier one has left there."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterable
from typing import Any

from xs2p.io.alf import names as alf

_LEFT = re.compile(r"\.(.+)\.[0-9a-f]{16}\.(tmp|old)")


def check_places(folders: Iterable[str], read: Iterable[str], overwrite: bool) -> None:
    """Raise a FileExistsError where a file of a set may not be put into its folder."""
    from xs2p.disk.replace import check_absent

    for folder in folders:
        if not overwrite:
            check_absent(folder, alf.KNOWN)
        _check_longer(folder)
        _check_folder(folder, read)


def fovs_to_remove(
    path: str, folders: Iterable[str], read: Iterable[str], overwrite: bool
) -> list[str]:
    """Other fields of view that an earlier `write_alf` left, which would be read with the new ones.

    One that was written by itself beside a new one that is written by itself is none.

    Raises
    ------
    FileExistsError
        There are such, and they may not be removed.
    """
    new = {alf.fov_number(folder): os.path.basename(folder) for folder in folders}
    if not os.path.isdir(path) or alf.fov_number(path) is not None:
        return []
    found = []
    for folder in alf.fovs_in(path):
        name, number = os.path.basename(folder), alf.fov_number(folder)
        if name in new.values():
            continue
        with_it = sorted(set(_said(folder).get("together", ())) & set(new.values()))
        if number in new:
            why = f"is field of view {number} too, as {new[number]} is"
        elif len(new) == 1 and not with_it:
            continue
        elif len(new) == 1:
            why = (
                f"was written together with {with_it[0]}, and would be read with the new one; give "
                f"{os.path.join(path, with_it[0])!r} to replace it alone"
            )
        elif not overwrite:
            why = "would be read with the new ones; overwrite=True removes what is xs2p's in it"
        else:
            _check_longer(folder)
            _check_folder(folder, read)
            found.append(folder)
            continue
        raise FileExistsError(f"write_alf: {folder} is there and {why}")
    return found


def remove_set(folder: str) -> None:
    """Remove the files of a set that was written here, and its folder where nothing else is in it.

    What says that they are ours goes last, so that a removal that is killed can be taken up.
    """
    for name in (*_said(folder).get("files", ()), alf.OURS):
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, name))
    with contextlib.suppress(OSError):
        os.rmdir(folder)


def clear_away(folder: str) -> None:
    """Remove what a `write_alf` that was killed has left under temporary names."""
    for name in os.listdir(folder):
        left = _LEFT.fullmatch(name)
        if left and left[1] in alf.KNOWN:
            os.remove(os.path.join(folder, name))


def _check_folder(folder: str, read: Iterable[str]) -> None:
    from xs2p.disk.replace import check_place

    for name in alf.KNOWN:
        check_place(
            os.path.join(folder, name),
            overwrite=True,
            foreign=_foreign,
            inputs=read,
            step="write_alf",
        )


def _check_longer(folder: str) -> None:
    """Raise where a dataset is there under a longer name, beside which ours would be a second."""
    files = os.listdir(folder) if os.path.isdir(folder) else []
    found = [file for name in alf.KNOWN for file in alf.longer(files, name)]
    if found:
        raise FileExistsError(
            f"write_alf: {folder!r} holds {', '.join(found)}, by ALF the same as what is to be "
            "written; it is left as it is: choose another folder, or move it away"
        )


def _foreign(path: str) -> str | None:
    """Why a file is not of a set that was written here: our file beside it says which are."""
    said = _said(os.path.dirname(path))
    if os.path.basename(path) in (*said.get("files", ()), *([alf.OURS] if said else [])):
        return None
    return "is another program's, or somebody's (another folder leaves it)"


def _said(folder: str) -> dict[str, Any]:
    """Read what our file in a folder says of the set; nothing where it is not ours."""
    with contextlib.suppress(ValueError, OSError):
        with open(os.path.join(folder, alf.OURS), encoding="utf-8") as file:
            found = json.load(file)
        if isinstance(found, dict) and "xs2p_version" in found:
            lists = {key: found.get(key, []) for key in ("files", "together")}
            kept = {k: v for k, v in lists.items() if isinstance(v, list)}
            return {
                k: [name for name in v if name in alf.KNOWN or k != "files"]
                for k, v in kept.items()
            }
    return {}
