"""Names of a package that come from its files when they are first asked for.

So that the import of one file imports what that file needs, and no package waits for its own
files: threads that import different files at once cannot wait for each other.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def lazy(
    package: str, files: Mapping[str, Sequence[str]], modules: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` of a package whose ``files`` have these names.

    Its ``modules`` are public themselves.
    """
    where = {name: file for file, names in files.items() for name in names}

    def its_dir() -> list[str]:
        return sorted([*sys.modules[package].__all__, *modules])

    def its_getattr(name: str) -> Any:
        if name in modules:
            return importlib.import_module(f"{package}.{name}")
        if name in where:
            found = getattr(importlib.import_module(where[name]), name)
            return vars(sys.modules[package]).setdefault(name, found)
        if name.startswith("__"):  # asked for by Python and by tools, not by people
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        raise AttributeError(
            f"module {package!r} has no attribute {name!r}; it has {', '.join(its_dir())}"
        )

    return its_getattr, its_dir
