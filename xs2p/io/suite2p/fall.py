"""suite2p's ``Fall.mat``: what a plane folder holds, in one file for MATLAB.

The file has the variables ``F``, ``Fneu``, ``spks``, ``iscell``, ``redcell``, ``stat`` (a cell of
structs) and ``ops`` (a struct), as the folder's files of these names; pixels are numbered from 0
in it too. It is read by unpacking it into a folder, and written by packing one.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._warnings import warn
from xs2p.io.suite2p.names import FLAGS, STORED

if TYPE_CHECKING:
    import xarray as xr

    Shape = tuple[int, int] | None

FALL = "Fall.mat"
_PER_PIXEL = ("ypix", "xpix", "lam", "overlap", "soma_crop")
_FLAGS_OF_PIXELS = ("overlap", "soma_crop")


def is_fall(path: str) -> bool:
    """Whether a path is of a MAT-file, by its name."""
    return path.lower().endswith(".mat") and not os.path.isdir(path)


def read_fall(path: str, shape: Shape, read: Callable[..., xr.Dataset], what: str) -> xr.Dataset:
    """Unpack the file into a folder, and let ``read`` read that or the file ``what`` in it."""
    from xs2p.movie.sources import plane_number

    if not os.path.exists(path):
        raise FileNotFoundError(f"no file {path!r}")
    with tempfile.TemporaryDirectory() as top:
        above = os.path.basename(os.path.dirname(os.path.abspath(path)))
        folder = os.path.join(top, "fall" if plane_number(above) is None else above)
        os.mkdir(folder)
        _unpack(path, folder)

        def told(text: Any) -> str:
            return str(text).replace(folder + os.sep, f"{path}: ").replace(folder, path)

        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                found = read(os.path.join(folder, what) if what else folder, shape=shape)
            except (ValueError, FileNotFoundError) as error:
                raise type(error)(told(error)) from error
    for each in said:
        warn(told(each.message))
    if found.attrs.get("source", "").startswith(folder):
        found.attrs["source"] = path
    return found


def write_fall(ds: xr.Dataset, path: str, overwrite: bool, write: Callable[..., None]) -> None:
    """Write a folder with ``write``, beside the file, and pack it."""
    from xs2p.disk.inputs import paths_read
    from xs2p.disk.replace import check_place, file_set, scratch_folder

    if "plane" in ds.variables and np.unique(ds["plane"].values).size > 1:
        raise ValueError(
            f"write_suite2p: the ROIs are of the planes {np.unique(ds['plane'].values).tolist()}, "
            f"and a Fall.mat is of one; give a folder, or write each: "
            f"ds.isel(roi=ds.plane.values == {ds['plane'].values.min()})"
        )
    check_place(
        path,
        overwrite=overwrite,
        foreign=foreign_fall,
        inputs=paths_read(ds),
        step="write_suite2p",
    )
    above, name = os.path.split(path)
    os.makedirs(above or ".", exist_ok=True)
    with scratch_folder(path) as folder:
        write(ds, folder)
        paths = {file: os.path.join(folder, file) for file in os.listdir(folder)}
        with file_set(above or ".", [name], overwrite=overwrite) as new:
            pack_fall(paths, above, new(name))


def pack_fall(paths: Mapping[str, str], folder: str, into: str) -> None:
    """Write the ``Fall.mat`` of the files of a plane folder, which are ``paths`` by their names."""
    from scipy.io import savemat

    packed = _pack(paths)
    packed["ops"]["save_path"] = os.path.abspath(folder)
    savemat(into, packed, appendmat=False, long_field_names=True)


def own_fall(folder: str) -> bool:
    """Whether a plane folder has a ``Fall.mat`` that was written here."""
    path = os.path.join(folder, FALL)
    return os.path.isfile(path) and foreign_fall(path) is None


def foreign_fall(path: str) -> str | None:
    """Why a MAT-file is not one that was written here: its ops say who did."""
    from xs2p.disk.mat import load_mat

    try:
        ops = load_mat(path, ["ops"]).get("ops")
    except ValueError as error:
        return f"cannot be read ({error})"
    if isinstance(ops, dict) and "xs2p_version" in ops:
        return None
    return "is suite2p's own, or somebody's (another name leaves it)"


def _unpack(path: str, folder: str) -> None:
    """Write what the file holds as the files of a plane folder."""
    from xs2p.disk.mat import load_mat, simple

    names = (*STORED, *FLAGS, "stat", "ops")
    held = load_mat(path, names)
    if not {*STORED, "stat"} & held.keys():
        raise ValueError(
            f"{path}: neither stat nor F, Fneu or spks is in it, expected suite2p's Fall.mat"
        )
    for key in (*STORED, *FLAGS):
        if key in held and np.size(held[key]):
            np.save(os.path.join(folder, f"{key}.npy"), held[key])
    if "stat" in held:
        entries = held["stat"] if isinstance(held["stat"], list) else [held["stat"]]
        if not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"{path}: stat is no cell of structs, expected suite2p's Fall.mat")
        stat = np.empty(len(entries), dtype=object)
        stat[:] = _fields(entries)
        np.save(os.path.join(folder, "stat.npy"), stat)
    if isinstance(held.get("ops"), dict):
        ops = {key: value for key, value in simple(held["ops"]).items() if value is not None}
        np.save(os.path.join(folder, "ops.npy"), np.array(ops, dtype=object))


def _fields(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Fields as stat has them: lists stay lists in ROIs where they are of one element."""
    keys = {key for entry in entries for key in entry}
    arrays = {
        key: [entry[key] for entry in entries if isinstance(entry.get(key), np.ndarray)]
        for key in keys
    }
    listed = {key for key, values in arrays.items() if any(v.size != 1 for v in values)}
    found = []
    for entry in entries:
        fields = {}
        for key, value in entry.items():
            if isinstance(value, np.ndarray):
                value = value.reshape(-1)
                value = value if key in listed or key in _PER_PIXEL else value[0]
                value = value.astype(bool) if key in _FLAGS_OF_PIXELS else value
            fields[key] = value
        found.append(fields)
    return found


def _pack(paths: Mapping[str, str]) -> dict[str, Any]:
    """Collect what the files of a plane folder hold, as MATLAB can have it."""
    from xs2p.disk.npy import load_npy

    packed: dict[str, Any] = {}
    for file, path in sorted(paths.items()):
        key, suffix = os.path.splitext(file)
        if suffix == ".npy":
            array = load_npy(path)
            packed[key] = array.item() if array.ndim == 0 else array
    packed["ops"] = _for_matlab(packed["ops"])
    stat = np.empty(len(packed["stat"]), dtype=object)
    stat[:] = [_for_matlab(entry) for entry in packed["stat"]]
    # Named by suite2p whether or not there is a second channel.
    packed.setdefault("redcell", np.zeros((len(stat), 2), np.float32))
    return {**packed, "stat": stat}


def _for_matlab(value: Any) -> Any:
    """MATLAB has no None, and names of fields that begin with a letter."""
    if isinstance(value, dict):
        kept = {str(key): entry for key, entry in value.items()}
        return {
            key: _for_matlab(entry)
            for key, entry in kept.items()
            if key.isidentifier() and key.isascii() and key[0].isalpha() and len(key) < 64
        }
    if isinstance(value, list | tuple):
        if all(isinstance(entry, int | float) for entry in value):
            return np.array(value, dtype=float if not value else None)
        cell = np.empty(len(value), dtype=object)
        cell[:] = [_for_matlab(entry) for entry in value]
        return cell
    if isinstance(value, np.ndarray) and value.dtype.kind == "O":
        return _for_matlab(value.tolist())
    if value is None:
        return np.empty((0, 0))
    kind = np.asarray(value).dtype.kind
    return value if kind in "biufcU" else str(value)
