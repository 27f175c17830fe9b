"""Which files and stores an array reads when it is computed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# What leads from an object in a graph to the file that it reads: of this package's frames, of
# zarr, of xarray's wrappers and of h5py and numpy. One step at a time, and not many.
_ON = ("frames", "runs", "stamp", "files", "array", "_array", "datastore", "store", "file", "base")
_NAMES = ("path", "root", "filename", "_filename")
_DEPTH = 9


def paths_read(*objects: Any) -> set[str]:
    """Paths of local files and folders that DataArrays and Datasets read, as far as they say it.

    They say it in ``attrs["source"]`` or ``encoding["source"]``, or their graph holds the arrays of
    files. A function that reads a file by a name of its own, in ``dask.delayed``, is not seen.
    """
    found: set[str] = set()
    for thing in objects:
        if isinstance(thing, str | os.PathLike):
            found.add(os.fspath(thing))
            continue
        for part in _parts(thing):
            for said in (getattr(part, "attrs", {}), getattr(part, "encoding", {})):
                if isinstance(said.get("source"), str):
                    found.add(said["source"])
            data = getattr(part, "_data", None)
            if data is not None:
                found.update(_of_array(data))
    return {path for path in found if "://" not in path and os.path.lexists(path)}


def _parts(thing: Any) -> list[Any]:
    """Return what holds attributes and data: a Dataset or DataArray, and its variables."""
    variables = getattr(thing, "variables", None)
    if isinstance(variables, Mapping):  # a Dataset
        return [thing, *variables.values()]
    if hasattr(thing, "variable") and hasattr(thing, "coords"):
        return [thing, thing.variable, *(coord.variable for coord in thing.coords.values())]
    return []


def _of_array(data: Any) -> Iterator[str]:
    graph = getattr(data, "dask", None)
    if graph is None:
        yield from _followed(data)
        return
    seen: set[int] = set()
    for layer in getattr(graph, "layers", {"": graph}).values():
        for held in _held(layer):
            if id(held) not in seen:
                seen.add(id(held))
                yield from _followed(held)


def _held(layer: Any) -> Iterator[Any]:
    """Yield what the tasks of a layer are given that is no result of another task."""
    for given, indices in getattr(layer, "indices", ()) or ():
        if indices is None:
            yield from _opened(given)
    for given in (getattr(layer, "io_deps", {}) or {}).values():
        yield from getattr(given, "mapping", {}).values()
    if hasattr(layer, "indices"):
        yield from _opened(getattr(layer, "task", None))
        return
    for task in getattr(layer, "mapping", layer).values():
        yield from _opened(task)


def _opened(task: Any) -> Iterator[Any]:
    """Yield a task's arguments, or what a node of data holds."""
    if hasattr(task, "value") and not hasattr(task, "args"):
        yield task.value
        return
    yield task
    inside: Iterable[Any] = task if isinstance(task, tuple | list) else getattr(task, "args", ())
    for part in inside or ():
        yield from _opened(part) if not isinstance(part, str) else ()
    kwargs = getattr(task, "kwargs", None)
    for part in kwargs.values() if isinstance(kwargs, Mapping) else ():
        yield from _opened(part) if not isinstance(part, str) else ()


def _followed(thing: Any, depth: int = 0) -> Iterator[str]:
    """Yield paths that an object names, or that those which it holds do."""
    if depth > _DEPTH or thing is None or isinstance(thing, str | bytes | int | float | slice):
        return
    if isinstance(thing, tuple | list):
        for part in thing:
            yield from _followed(part, depth + 1)
        return
    # The path of an array of Zarr's is that within its store.
    kind = type(thing)
    within = kind.__module__.startswith("zarr") and not kind.__name__.endswith("Store")
    for name in () if within else _NAMES:
        path = _attribute(thing, name)
        if isinstance(path, str | os.PathLike):
            yield os.fspath(path)
    for name in _ON:
        inner = _attribute(thing, name)
        if inner is not thing and not callable(inner):
            yield from _followed(inner, depth + 1)


def _attribute(thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name, None)
    except Exception:  # a file that is closed
        return None
