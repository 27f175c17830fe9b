"""Read ``.npy`` files, those that hold a pickle included, without running what is in them.

An object ``.npy`` file is a pickle, and a pickle is a program. Admitting numpy's own
constructors by name is not enough: ``dtype.__setstate__`` takes its flags on trust, so a
crafted file makes numpy follow bytes of the file as object pointers. Therefore no numpy
object exists while the pickle runs. The names a pickle may use stand for the inert
recorders below, and `_resolve` builds the arrays afterwards from what they recorded, by
numpy's public and checked constructors.
"""

from __future__ import annotations

import datetime
import io
import os
import pathlib
import pickle
import re
from collections.abc import Callable
from typing import IO, Any, NoReturn

import numpy as np

from xs2p.disk.pickle_claims import check_pickle
from xs2p.disk.reads import naming

MAGIC = b"\x93NUMPY"


class UnsafePickleError(ValueError):
    """An object ``.npy`` file asks for something other than data.

    Attributes
    ----------
    path : str
        The file.
    name : str
        What it asks for, as ``module.name``.
    """

    def __init__(self, path: str, name: str) -> None:
        super().__init__(
            f"{path}: its pickle asks for {name!r}, which is neither a numpy array, a plain "
            "container, a number, a string, a date nor a path, so nothing of it was loaded. "
            "If you trust where the file comes from, load it with "
            "numpy.load(path, allow_pickle=True) and pass on what it holds."
        )
        self.path = path
        self.name = name

    def __reduce__(self) -> tuple[type[UnsafePickleError], tuple[str, str]]:
        """Rebuild from both arguments, so that the error crosses process borders."""
        return type(self), (self.path, self.name)


def load_npy(path: str | os.PathLike[str]) -> Any:
    """Load an ``.npy`` file; of an object array admit nothing but data.

    Parameters
    ----------
    path : str or path-like
        The ``.npy`` file.

    Returns
    -------
    numpy.ndarray
        The array, as `numpy.load` gives it. Paths come back as the pure path of their own
        flavour, an ``OrderedDict`` as a ``dict``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    UnsafePickleError
        The pickle asks for anything but arrays, plain containers, numbers, strings, dates
        and paths.
    ValueError
        The file is damaged or not an ``.npy`` file.

    Examples
    --------
    >>> import numpy as np, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "ops.npy")
    >>> np.save(path, {"Ly": 64, "meanImg": np.zeros((2, 2))})
    >>> load_npy(path).item()["Ly"]
    64
    """
    name = os.fspath(path)
    with open(name, "rb") as file:
        shape, _, dtype = read_header(file, name)
        if not dtype.hasobject:
            size = np.prod((*shape, dtype.itemsize), dtype=object)
            if size > os.path.getsize(name) - file.tell():
                raise ValueError(f"{name}: damaged .npy file (its header tells of {size} bytes)")
            file.seek(0)
            with naming(f"{name}: damaged .npy file"):
                return np.lib.format.read_array(file, allow_pickle=False)
        data = file.read()
    if dtype != np.dtype(object):
        raise ValueError(
            f"{name}: holds the structured dtype {dtype} with Python objects inside, expected "
            "a plain object array; save an array of dicts, or one per field"
        )
    array = _unpickle(data, name)
    size = int(np.prod(shape, dtype=np.int64))
    if not isinstance(array, np.ndarray) or array.dtype != object or array.size != size:
        found = getattr(array, "dtype", type(array).__name__)
        said = f"its header promises an object array of shape {shape}, its pickle holds: {found}"
        raise ValueError(f"{name}: damaged .npy file ({said})")
    return array.reshape(shape)


def load_pickled(path: str) -> np.ndarray:
    """Load an ``.npy`` file, or one that is a bare pickle, as `numpy.load` reads too."""
    with open(path, "rb") as file:
        start = file.read(2)
        if start[:1] != b"\x80" or start[1:] > bytes([pickle.HIGHEST_PROTOCOL]):
            return np.asarray(load_npy(path))
        file.seek(0)
        found = _unpickle(file.read(), path)
    array = np.empty((), dtype=object)
    array[()] = found
    return found if isinstance(found, np.ndarray) else array


def read_header(file: Any, name: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Read an ``.npy`` header: shape, Fortran order, dtype; the file then stands at the data."""
    start = file.read(len(MAGIC))
    if start != MAGIC:
        what = "is empty" if not start else f"starts with {start!r}"
        raise ValueError(f"{name}: not an .npy file: it {what}, expected {MAGIC!r}")
    file.seek(0)
    try:
        version = np.lib.format.read_magic(file)
        if version == (1, 0):
            return np.lib.format.read_array_header_1_0(file)
        if version == (2, 0):
            return np.lib.format.read_array_header_2_0(file)
    except Exception as error:  # numpy parses the header as Python, which fails in many ways
        raise ValueError(f"{name}: damaged .npy header ({error})") from error
    raise ValueError(
        f"{name}: .npy format version {version[0]}.{version[1]}, expected 1.0 or 2.0; "
        "save the array anew with numpy.save and without structured field names"
    )


def _unpickle(data: bytes, name: str) -> Any:
    try:
        check_pickle(data)
        return _resolve(_Unpickler(data, name).load(), {})
    except UnsafePickleError:
        raise
    except Exception as error:  # a damaged pickle fails in any way it likes
        raise ValueError(
            f"{name}: damaged .npy file ({str(error) or type(error).__name__})"
        ) from error


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, path: str) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """Give the recorder that stands for a name, or refuse it."""
        try:
            return _ADMITTED[module, name]
        except KeyError:
            raise UnsafePickleError(self._path, f"{module}.{name}") from None

    def persistent_load(self, pid: Any) -> NoReturn:
        """Refuse what lies outside the file."""
        raise UnsafePickleError(self._path, f"persistent id {pid!r}")


class _Inert:
    """Something a pickle may name. It cannot be altered by the pickle (BUILD opcode)."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> NoReturn:
        raise ValueError("the pickle alters something other than its own data")


class _Call(_Inert):
    __slots__ = ("_make",)

    def __init__(self, make: Callable[..., Any]) -> None:
        self._make = make

    def __call__(self, *args: Any) -> Any:
        return self._make(*args)


class _DType:
    """Records a dtype: its type string, then the state that numpy would trust."""

    __slots__ = ("_spec", "_state")
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, spec: Any, align: Any = False, copy: Any = False) -> None:
        self._spec = spec
        self._state: Any = None

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def build(self) -> np.dtype[Any]:
        spec = self._spec
        if not (isinstance(spec, str) and re.fullmatch(r"[|<>=]?[?biufcOSUVMm]\d{0,9}", spec)):
            raise ValueError(f"dtype {spec!r} is not one of numpy's plain ones")
        if self._state is None:
            return np.dtype(spec)
        _, order, base, names, fields, itemsize = self._state[:6]
        if base is not None:
            return np.dtype((base[0].build(), base[1]))
        if names is not None:
            formats = [fields[key][0].build() for key in names]
            if any(dtype.hasobject for dtype in formats):
                raise ValueError("structured dtypes with Python objects are not admitted")
            offsets = [fields[key][1] for key in names]
            layout = {"names": list(names), "formats": formats, "offsets": offsets}
            return np.dtype({**layout, "itemsize": itemsize})  # type: ignore[call-overload]
        if spec.lstrip("|<>=")[0] in "Mm":
            unit, number = self._state[8][1][:2]
            unit = unit.decode() if isinstance(unit, bytes) else unit
            spec = spec if unit == "generic" else f"{spec}[{number}{unit}]"
        dtype = np.dtype(spec).newbyteorder(order)
        return dtype.newbyteorder("=") if dtype.isnative else dtype


class _Array:
    """Records an array: shape, dtype, order and its bytes or its list of objects."""

    __slots__ = ("_state",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, state: Any = None) -> None:
        self._state = state

    def __setstate__(self, state: Any) -> None:
        self._state = state

    def build(self, memo: dict[int, Any]) -> np.ndarray[Any, Any]:
        shape, dtype, fortran, data = self._state[-4:]
        return _array(data, dtype.build(), shape, "F" if fortran else "C", memo, self)


def _array(
    data: Any, dtype: np.dtype[Any], shape: Any, order: Any, memo: dict[int, Any], key: Any
) -> np.ndarray[Any, Any]:
    if order not in ("C", "F"):
        raise ValueError(f"array order {order!r}")
    if dtype.hasobject:
        if dtype.kind != "O" or type(data) is not list:
            raise ValueError("an object array without its list of objects")
        flat = np.empty(len(data), dtype=object)
        result = flat.reshape(shape)  # numpy lists the objects in C order, whatever the order
        memo[id(key)] = (key, result)  # before its elements, which may refer to it
        for i, item in enumerate(data):
            flat[i] = _resolve(item, memo)
        return result
    raw = data.encode("latin1") if isinstance(data, str) else data
    if not isinstance(raw, bytes | bytearray):
        raise ValueError("an array without its bytes")
    if dtype.itemsize == 0:
        return np.zeros(shape if not raw else (-1,), dtype)
    return np.frombuffer(bytearray(raw), dtype).reshape(shape, order=order)


def _resolve(item: Any, memo: dict[int, Any]) -> Any:
    """Put real arrays and dtypes where the recorders are; lists and dicts in place."""
    kind = type(item)
    if kind not in (list, dict, tuple, _Array, _DType):
        return item
    if id(item) in memo:
        return memo[id(item)][1]
    if kind is _Array:
        result: Any = item.build(memo)
    elif kind is _DType:
        result = item.build()
    elif kind is tuple:
        result = tuple(_resolve(value, memo) for value in item)
    else:
        result = item
        memo[id(item)] = (item, item)
        for key in range(len(item)) if kind is list else list(item):
            item[key] = _resolve(item[key], memo)
    memo[id(item)] = (item, result)  # the item too: its id must not be given away again
    return result


_NDARRAY = _Inert()


def _reconstruct(subtype: Any, shape: Any, typecode: Any) -> _Array:
    if subtype is not _NDARRAY:
        raise ValueError("an array subclass, expected numpy.ndarray")
    return _Array()


def _frombuffer(buffer: Any, dtype: _DType, shape: Any, order: Any, axes: Any = None) -> _Array:
    if axes is not None:
        raise ValueError("an array with permuted axes, expected C or Fortran order")
    return _Array((shape, dtype, order == "F", buffer))


def _scalar(dtype: _DType, data: Any = b"") -> Any:
    real = dtype.build()
    return _array(data, _no_objects(real), (1,), "C", {}, None)[0]


def _no_objects(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.hasobject:
        raise ValueError("a numpy scalar that is a Python object")
    return dtype


def _encode(text: str, encoding: str = "") -> bytes:
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise ValueError(f"codecs.encode to {encoding!r}, expected 'latin1'")
    return text.encode("latin1")


def _bytearray(data: Any = b"", encoding: str = "latin-1") -> bytearray:
    return bytearray(_encode(data, encoding) if isinstance(data, str) else memoryview(data))


def _bytes() -> bytes:
    return b""


def _container(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(items: Any = ()) -> Any:
        if type(items) not in (list, tuple, dict, set, frozenset):
            raise ValueError(f"a container made from {type(items).__name__}")
        return kind(items)

    return make


def _of_numbers(kind: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any) -> Any:
        if not all(arg is None or isinstance(arg, int | float) for arg in args):
            raise ValueError("numbers expected")
        return kind(*args)

    return make


def _admitted() -> dict[tuple[str, str], _Inert]:
    table: dict[tuple[str, str], _Inert] = {
        ("numpy", "ndarray"): _NDARRAY,
        ("numpy", "dtype"): _Call(_DType),
        ("collections", "OrderedDict"): _Call(_container(dict)),
        ("datetime", "datetime"): _Call(datetime.datetime),
        ("datetime", "date"): _Call(datetime.date),
        ("datetime", "time"): _Call(datetime.time),
        ("datetime", "timedelta"): _Call(_of_numbers(datetime.timedelta)),
        ("datetime", "timezone"): _Call(datetime.timezone),
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = _Call(_reconstruct)
        table[f"{core}.multiarray", "scalar"] = _Call(_scalar)
        table[f"{core}.numeric", "_frombuffer"] = _Call(_frombuffer)
    for module in ("codecs", "_codecs"):
        table[module, "encode"] = _Call(_encode)
    for module in ("builtins", "__builtin__"):
        for container in (list, tuple, dict, set, frozenset):
            table[module, container.__name__] = _Call(_container(container))
        table[module, "complex"] = _Call(_of_numbers(complex))
        table[module, "slice"] = _Call(_of_numbers(slice))
        table[module, "range"] = table[module, "xrange"] = _Call(_of_numbers(range))
        table[module, "bytearray"] = _Call(_bytearray)
        table[module, "bytes"] = _Call(_bytes)
    for module in ("pathlib", "pathlib._local"):
        for flavour in ("", "Posix", "Windows"):
            pure = _Call(getattr(pathlib, f"Pure{flavour}Path"))
            table[module, f"{flavour}Path"] = table[module, f"Pure{flavour}Path"] = pure
    return table


_ADMITTED = _admitted()


def make_npy(path: str, shape: tuple[int, ...]) -> None:
    """Make a float32 file of zeros; disks that can do so store none of them."""
    header = {"descr": "<f4", "fortran_order": False, "shape": tuple(map(int, shape))}
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        file.truncate(file.tell() + 4 * int(np.prod(shape)))


def data_offset(file: IO[bytes]) -> int:
    """Find where the numbers of an open ``.npy`` file begin."""
    np.lib.format.read_magic(file)
    np.lib.format.read_array_header_1_0(file)
    return file.tell()
