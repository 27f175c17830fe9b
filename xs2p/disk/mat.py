"""MATLAB's MAT-files of version 5 to 7, read into plain arrays, dicts and lists."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from xs2p.disk.mat_claims import check_mat

_HDF5 = b"\x89HDF\r\n\x1a\n"


def is_hdf5(path: str) -> bool:
    """Whether a MAT-file is of version 7.3, HDF5 behind 512 bytes of MATLAB's own, or none."""
    with open(path, "rb") as file:
        head = file.read(520)
    return _HDF5 in (head[:8], head[512:])


def load_mat(path: str, names: Collection[str] | None = None) -> dict[str, Any]:
    """Read variables of a MAT-file: structs as dicts, cells as lists, text as str.

    Numbers keep MATLAB's two dims or more. A cell of one element stays a list of one.

    Raises
    ------
    ValueError
        The file is damaged, no MAT-file, or of version 7.3.
    """
    from scipy.io import loadmat

    if is_hdf5(path):
        raise ValueError(
            f"{path}: a MAT-file of version 7.3; in MATLAB, save(name, ..., '-v7') writes what "
            "can be read here"
        )
    try:
        check_mat(path, names)
        found = loadmat(
            path,
            variable_names=None if names is None else list(names),
            chars_as_strings=True,
            spmatrix=False,
        )
    except OSError:
        raise
    except Exception as error:  # scipy raises whatever the bytes lead it to
        raise ValueError(f"{path}: no MAT-file can be read ({error})") from error
    return {key: _plain(value) for key, value in found.items() if not key.startswith("__")}


def _plain(value: Any) -> Any:
    if not isinstance(value, np.ndarray):
        return value
    if value.dtype.names is not None:
        dicts = [
            {name: _plain(entry[name]) for name in value.dtype.names} for entry in value.ravel("F")
        ]
        return dicts[0] if len(dicts) == 1 else dicts
    if value.dtype.kind == "O":
        return [_plain(entry) for entry in value.ravel("F")]
    if value.dtype.kind in "US":
        return str(value.ravel()[0]) if value.size == 1 else [str(text) for text in value.ravel()]
    return value


def simple(value: Any) -> Any:
    """Numbers as Python has them: one alone, a row as a 1-D array; None for what is empty."""
    if isinstance(value, dict):
        return {key: simple(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [simple(entry) for entry in value]
    if not isinstance(value, np.ndarray):
        return value
    if value.size == 0:
        return None if value.shape == (0, 0) else value.reshape(-1)
    if value.size == 1:
        return value.reshape(-1)[0]
    return value[0] if value.ndim == 2 and value.shape[0] == 1 else value
