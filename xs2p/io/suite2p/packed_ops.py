"""Keep suite2p's ``ops`` in a Dataset, and give it back.

Numbers, strings, lists and dicts go into one JSON text. Images of the size of the frame
become variables over ``(y, x)`` under their own name, other numeric arrays of more than
10,000 elements variables ``ops_<key>`` with dims ``ops_<key>_0``, ``ops_<key>_1`` …; the
JSON keeps their place as ``{"__variable__": name, "shape": […]}``. Smaller arrays are in
the JSON, ``{"__array__": [flat list], "dtype": …, "shape": […]}``, so that they come back
as arrays of their dtype. Tuples come back as lists, dates as ISO strings, paths as strings
and numpy scalars as Python numbers.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import ARBITRARY

if TYPE_CHECKING:
    import xarray as xr

MOST_IN_JSON = 10_000
_TAGS = ("__variable__", "__array__", "__items__", "__bytes__", "__complex__")
_GONE = object()
_IN_UNITS_OF_THE_MOVIE = ("meanImg", "meanImg_chan2", "refImg", "max_proj")


def pack_ops(
    ops: Mapping[str, Any], frame: tuple[int, int] | None, taken: Collection[str]
) -> tuple[str, dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]]]:
    """Turn ``ops`` into a JSON text and the variables that hold its large arrays.

    ``taken`` are the names of variables and dims that the Dataset has already.
    """
    packer = _Packer(frame, set(taken), set(ops))
    return json.dumps(packer.encode(dict(ops), "")), packer.variables


def unpack_ops(text: str, ds: xr.Dataset) -> dict[str, Any]:
    """Rebuild ``ops``; what the Dataset no longer holds, or holds cropped, is left out."""
    decoded = {key: _decode(value, ds) for key, value in parse_ops(text).items()}
    return {key: value for key, value in decoded.items() if not _incomplete(value)}


def parse_ops(text: Any) -> dict[str, Any]:
    """Parse the JSON text alone: large arrays stay references to variables."""
    try:
        ops = json.loads(text)
        if not isinstance(ops, dict):
            raise ValueError(f"it holds {type(ops).__name__}")
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"attrs['ops'] is not the JSON text that read_suite2p wrote ({error}); remove it with "
            "del ds.attrs['ops'] to write without it"
        ) from error
    return ops


class _Packer:
    def __init__(self, frame: tuple[int, int] | None, taken: set[str], keys: set[str]) -> None:
        self.frame = frame
        self.keys = keys
        self.taken = taken
        self.variables: dict[str, tuple[tuple[str, ...], np.ndarray, dict[str, str]]] = {}

    def encode(self, value: Any, path: str) -> Any:
        if isinstance(value, np.generic):
            value = value.item()
        if value is None or isinstance(value, bool | int | float | str):
            return value
        if isinstance(value, np.ndarray):
            return self._array(value, path)
        if isinstance(value, Mapping):
            plain = all(isinstance(key, str) for key in value) and not set(_TAGS) & set(value)
            if plain:
                return {key: self.encode(item, _join(path, key)) for key, item in value.items()}
            items = enumerate(value.items())
            return {
                "__items__": [[self.encode(part, _join(path, i)) for part in kv] for i, kv in items]
            }
        if isinstance(value, list | tuple | set | frozenset | range):
            return [self.encode(item, _join(path, i)) for i, item in enumerate(value)]
        if isinstance(value, bytes | bytearray):
            return {"__bytes__": bytes(value).decode("latin1")}
        if isinstance(value, complex):
            return {"__complex__": [value.real, value.imag]}
        return value.isoformat() if hasattr(value, "isoformat") else str(value)

    def _array(self, array: np.ndarray, path: str) -> dict[str, Any]:
        image = array.shape == self.frame and array.dtype.kind in "biuf"
        if image or (array.size > MOST_IN_JSON and array.dtype.kind in "biuf"):
            name = self._store(array, path, image)
            return {"__variable__": name, "shape": list(array.shape)}
        if array.dtype.kind in "mM":
            flat: list[Any] = array.ravel().astype(np.int64).tolist()
        else:
            flat = [self.encode(item, _join(path, i)) for i, item in enumerate(array.ravel())]
        dtype = "object" if array.dtype == object else array.dtype.str
        return {"__array__": flat, "dtype": dtype, "shape": list(array.shape)}

    def _store(self, array: np.ndarray, path: str, image: bool) -> str:
        word = re.sub(r"\W", "_", path)
        own = image and word in self.keys and word not in self.taken
        name = word if own else f"ops_{word}"
        while True:
            dims = tuple(f"{name}_{i}" for i in range(array.ndim))
            if not self.taken & {name, *dims}:
                break
            name += "_"
        dims = ("y", "x") if image else dims
        self.taken |= {name, *dims} - {"y", "x"}
        native = array.astype(array.dtype.newbyteorder("="), copy=False)
        attrs = {
            "long_name": f"suite2p ops {path}",
            "description": f"The array {path} of the folder's ops, as suite2p made it.",
        }
        if path in _IN_UNITS_OF_THE_MOVIE:
            attrs["units"] = ARBITRARY
        self.variables[name] = (dims, native, attrs)
        return name


def _join(path: str, key: object) -> str:
    return f"{path}_{key}" if path else str(key)


def _decode(value: Any, ds: xr.Dataset) -> Any:
    if isinstance(value, list):
        return [_decode(item, ds) for item in value]
    if not isinstance(value, dict):
        return value
    if "__variable__" in value:
        name, shape = value["__variable__"], tuple(value["shape"])
        return ds[name].values if name in ds and ds[name].shape == shape else _GONE
    if "__array__" in value:
        shape = tuple(value["shape"])
        items = [_decode(item, ds) for item in value["__array__"]]
        if value["dtype"] != "object":
            dtype = np.dtype(value["dtype"])
            raw = np.dtype(np.int64) if dtype.kind in "mM" else dtype
            return np.array(items, raw).astype(dtype).reshape(shape)
        array = np.empty(math.prod(shape), object)
        for i, item in enumerate(items):  # array[:] = would merge arrays of one shape
            array[i] = item
        return array.reshape(shape)
    if "__items__" in value:
        return {_hashable(_decode(k, ds)): _decode(v, ds) for k, v in value["__items__"]}
    if "__bytes__" in value:
        return value["__bytes__"].encode("latin1")
    if "__complex__" in value:
        return complex(*value["__complex__"])
    return {key: _decode(item, ds) for key, item in value.items()}


def _hashable(key: Any) -> Any:
    return tuple(_hashable(part) for part in key) if isinstance(key, list) else key


def _incomplete(value: Any) -> bool:
    if isinstance(value, dict):
        value = list(value.values())
    elif isinstance(value, np.ndarray) and value.dtype.kind == "O":
        value = list(value.flat)
    if isinstance(value, list):
        return any(_incomplete(item) for item in value)
    return value is _GONE
