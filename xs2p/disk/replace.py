"""A new file or folder in the place of an old one: the old one stays until the new is whole."""

from __future__ import annotations

import os
import shutil
import uuid


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
