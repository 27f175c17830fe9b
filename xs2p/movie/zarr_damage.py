"""Zarr groups of which some array cannot be opened: what of them can, and a view without it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def sorted_out(node: Any) -> tuple[dict[str, Any], dict[str, Exception]]:
    """Arrays of a group that can be opened, by name, and the errors of the others."""
    import zarr

    sound: dict[str, Any] = {}
    damaged: dict[str, Exception] = {}
    for name in names_in(node.store, node.path):
        path = f"{node.path}/{name}".strip("/")
        if not {".zarray", ".zgroup", "zarr.json"} & set(names_in(node.store, path)):
            continue
        try:
            member = zarr.open(node.store, path=path, mode="r", use_consolidated=False)
        except Exception as error:
            damaged[name] = error
            continue
        if isinstance(member, zarr.Array):
            sound[name] = member
    return sound, damaged


def names_in(store: Any, path: str) -> list[str]:
    """Names of the files and folders in a folder of a store."""
    from zarr.core.sync import sync

    async def listed() -> list[str]:
        return [name.rstrip("/") async for name in store.list_dir(path)]

    return sorted(sync(listed()))


def sound_part(store: Any, group: str, needed: Collection[str]) -> Any:
    """View a store without the members of a group that cannot be opened.

    To be called where an error is handled: it is raised again where there are no such members.
    """
    import zarr

    node = zarr.open_group(store, path=group, mode="r", use_consolidated=False)
    damaged = sorted_out(node)[1]
    if not damaged:
        raise
    for name in sorted(set(needed) & set(damaged)):
        raise ValueError(
            f"{node.store_path}: {name}, a coordinate of the movie, cannot be read "
            f"({type(damaged[name]).__name__}: {damaged[name]})"
        ) from damaged[name]
    return _without(store, group, tuple(damaged))


def _without(store: Any, group: str, hidden: Collection[str]) -> Any:
    from zarr.storage import WrapperStore

    class Without(WrapperStore):  # type: ignore[misc]
        """Lists all but what is hidden."""

        def __reduce__(self) -> Any:  # a class of no module's
            return _without, (self._store, group, tuple(hidden))

        def _with_store(self, store: Any) -> Any:
            return _without(store, group, hidden)

        async def list_dir(self, prefix: str) -> Any:
            async for name in self._store.list_dir(prefix):
                if prefix.strip("/") != group.strip("/") or name.rstrip("/") not in hidden:
                    yield name

    return Without(store)
