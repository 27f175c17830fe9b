"""Masks ``(roi, y, x)`` as pydata's ``sparse`` stores them in an ``.npz`` file.

Such a file has the arrays of a compressed form, ``gcxs``, or of coordinates, ``coo``. They are read
with numpy and checked: ``sparse`` itself follows what a damaged file says.
"""

from __future__ import annotations

import math
import os
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xs2p.disk.npy import read_header
from xs2p.disk.reads import check_claim, naming

_SMALL = 1000  # bytes of what says the shape
_UNSEEN = 2**25  # bytes that masks may have whatever the size of their file
_PACKED = 100  # bytes of a weight and its place that one may have been packed from


class Entries(NamedTuple):
    """What is stored of masks, ROI after ROI and within each row by row."""

    npix: np.ndarray
    """How many entries each ROI has, int64 ``(roi,)``."""
    flat: np.ndarray
    """Pixels ``y · Lx + x``, int64 ``(pixel,)``."""
    values: np.ndarray
    """Their weights, ``(pixel,)``."""
    frame: tuple[int, int]
    """``(Ly, Lx)``."""


def write_masks(path: str, entries: Entries) -> None:
    """Write masks, compressed along their ROIs."""
    npix, flat, values, frame = entries
    owner = np.repeat(np.arange(npix.size), npix)
    order = np.lexsort((flat, owner))
    with open(path, "wb") as file:  # numpy would add .npz to a name
        np.savez_compressed(
            file,
            format=np.array("gcxs"),
            shape=np.array([npix.size, *frame], np.int64),
            data=values[order],
            indices=flat[order].astype(np.int64),
            indptr=np.concatenate([[0], np.cumsum(npix)]).astype(np.int64),
            compressed_axes=np.array([0], np.int64),
            fill_value=np.zeros((), values.dtype),
        )


def read_masks(path: str) -> Entries:
    """Read masks of either form.

    Raises
    ------
    ValueError
        If the file is damaged, or holds something else than masks over ``(roi, y, x)``.
    """
    with naming(path):
        with np.load(path, allow_pickle=False) as file:
            kinds = (("indices", "indptr", "compressed_axes"), ("coords",))
            have = [names for names in kinds if {"data", "shape", *names} <= set(file.files)]
            if not have:
                raise ValueError(
                    f"{path}: holds {', '.join(file.files)}, expected a sparse array, as "
                    "sparse.save_npz stores it"
                )
            more = [name for name in ("fill_value",) if name in file.files]
            _check_sizes(path, file.zip, ("data", "shape", *have[0], *more))
            held = {name: file[name] for name in ("data", "shape", *have[0])}
            fill = file["fill_value"] if "fill_value" in file.files else np.zeros(())
        shape = _shape(path, held["shape"])
        data = held["data"]
        if data.ndim != 1 or data.dtype.kind not in "biuf" or fill.size != 1 or fill.any():
            raise ValueError(
                f"{path}: its weights are {data.dtype} over {data.shape} on a background of "
                f"{fill}, expected numbers on 0"
            )
        places = _of_coo(held) if "coords" in held else _of_gcxs(held, shape)
        if len(places) != 3 or any(
            place.shape != data.shape or ((place < 0) | (place >= size)).any()
            for place, size in zip(places, shape, strict=True)
        ):
            raise ValueError(f"{path}: it places weights outside of {shape}: it is damaged")
        n_rois, *frame = shape
        flat = places[1] * frame[1] + places[2]
        order = np.lexsort((flat, places[0]))
        npix = np.bincount(places[0], minlength=n_rois)
        return Entries(npix, flat[order], data[order], (frame[0], frame[1]))


def _check_sizes(path: str, packed: zipfile.ZipFile, names: Sequence[str]) -> None:
    """Raise where arrays would unpack to more than such masks can have, before they do.

    Each pixel has a weight and a place, which do not pack as well as nothing does; what counts
    pixels has one number for each row.
    """
    shapes, sizes = {}, {}
    for name in names:
        info = packed.getinfo(f"{name}.npy")
        with packed.open(info) as file:
            shapes[name], _, dtype = read_header(file, f"{path}: {name}")
            sizes[name] = math.prod(shapes[name]) * dtype.itemsize
            if info.file_size - file.tell() != sizes[name]:
                raise ValueError(
                    f"{path}: {name} has {info.file_size - file.tell()} bytes, and its header "
                    f"tells of {sizes[name]}: it is damaged"
                )
    for name in ("shape", "compressed_axes", "fill_value"):
        if sizes.get(name, 0) > _SMALL:
            raise ValueError(f"{path}: its {name} is {shapes[name]} numbers: it is damaged")
    places = shapes["coords"][1:] if "coords" in names else shapes["indices"]
    if shapes["data"] != places or len(places) != 1:
        raise ValueError(f"{path}: {shapes['data']} weights, but {places} places: it is damaged")
    n_bytes = os.path.getsize(path)
    much = sum(sizes.get(name, 0) for name in ("data", "coords", "indices"))
    check_claim(path, "bytes of weights and places", much, _UNSEEN + _PACKED * n_bytes)
    if "indptr" in names:
        n_rois, y, x = (int(size) for size in _shape(path, np.load(packed.open("shape.npy"))))
        rows = max(n_rois, y, x, n_rois * y, n_rois * x, y * x)  # along one axis or two
        if len(shapes["indptr"]) != 1 or shapes["indptr"][0] > rows + 1:
            raise ValueError(
                f"{path}: its indptr is {shapes['indptr']}, of masks {(n_rois, y, x)}: it is "
                "damaged"
            )
        check_claim(path, "bytes of counts", sizes["indptr"], 8 * _UNSEEN + _PACKED * n_bytes)


def _shape(path: str, stored: np.ndarray) -> tuple[int, ...]:
    whole = stored.ndim == 1 and stored.size == 3 and stored.dtype.kind in "iu"
    if not whole or (stored < 0).any() or float(np.prod(stored, dtype=float)) > 2**62:
        raise ValueError(f"{path}: its shape is {stored.tolist()}, expected (roi, y, x)")
    return tuple(stored.tolist())


def _whole(values: np.ndarray, what: str) -> np.ndarray:
    if values.dtype.kind not in "iu":
        raise ValueError(f"{what} of it are {values.dtype}, expected whole numbers")
    return values.astype(np.int64)


def _of_coo(held: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Positions along each axis, of coordinates ``(3, pixel)``."""
    return list(_whole(held["coords"], "coords"))


def _of_gcxs(held: dict[str, np.ndarray], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Positions along each axis: rows are the compressed axes, columns the others, in order."""
    axes = _whole(held["compressed_axes"], "compressed_axes").tolist()
    if not axes or len(set(axes)) < len(axes) or not set(axes) < {0, 1, 2}:
        raise ValueError(f"compressed_axes of it are {axes}, expected one or two of 0, 1 and 2")
    ordered = [*axes, *(axis for axis in range(3) if axis not in axes)]
    sizes = [shape[axis] for axis in ordered]
    rows, columns = int(np.prod(sizes[: len(axes)])), int(np.prod(sizes[len(axes) :]))
    indptr, indices = _whole(held["indptr"], "indptr"), _whole(held["indices"], "indices")
    fits = indptr.ndim == 1 and indptr.size == rows + 1 and indptr[0] == 0
    count = np.diff(indptr) if fits else indptr
    if not fits or (count < 0).any() or indices.ndim != 1 or indptr[-1] != indices.size:
        raise ValueError("its indptr does not count its indices: it is damaged")
    if ((indices < 0) | (indices >= columns)).any():
        raise ValueError(f"its indices are not all below {columns}: it is damaged")
    linear = np.repeat(np.arange(rows), count) * columns + indices
    places: dict[int, np.ndarray] = {}
    for axis, size in zip(ordered[::-1], sizes[::-1], strict=True):
        linear, places[axis] = np.divmod(linear, size) if linear.size else (linear, linear)
    return [places[axis] for axis in range(3)]
