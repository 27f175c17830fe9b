"""ROI sets of ``stat.npy``, with the flags beside it."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import xarray as xr

from xs2p.disk.reads import naming
from xs2p.disk.suite2p_ops import frame_in, read_ops
from xs2p.io.suite2p.names import FLAGS, PLANE, Path


def read_stat(path: Path, *, shape: tuple[int, int] | None = None) -> xr.Dataset:
    """Read suite2p's ``stat.npy`` as an ROI set.

    Parameters
    ----------
    path : str or path-like
        The file.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels. By default that of ``ops.npy`` beside
        the file.

    Returns
    -------
    xarray.Dataset
        The ROI set, as `xs2p.rois.rois_from_stat` makes it: over ``roi`` and ``pixel``.

    Raises
    ------
    FileNotFoundError
        There is no such file.
    ValueError
        The frame size is neither given nor beside the file, or disagrees with it; or the
        file is damaged or holds no ROIs of suite2p's.
    """
    name = os.fspath(path)
    with naming(name):
        ops = read_ops(os.path.dirname(name))
        return of_folder(rois_in(name, frame_shape_in(name, shape, ops)), name)


def of_folder(rois: xr.Dataset, stat: str) -> xr.Dataset:
    """Say the plane of ROIs that are of a plane folder's ``stat.npy``, as its name has it."""
    from xs2p.movie.sources import plane_number

    plane = plane_number(os.path.dirname(os.path.abspath(stat)))
    if plane is None or os.path.basename(stat) != "stat.npy":
        return rois
    return rois.assign_coords(plane=("roi", np.full(rois.sizes["roi"], plane), PLANE))


def read_plane_rois(path: str, shape: tuple[int, int] | None, moved: bool = False) -> xr.Dataset:
    """ROI set of a ``stat.npy``, with ``iscell`` and ``redcell`` of the files beside it.

    ``moved``: the ROIs go to another frame afterwards, and ``shape`` is that one's.
    """
    from xs2p.rois.stat import widened

    folder = os.path.dirname(path)
    ops = read_ops(folder)
    stat = load_stat(path)
    known = frame_in(ops) is not None
    frame = frame_shape_in(path, None if moved and known else shape, ops)
    rois = rois_in(path, widened(stat, frame) if moved and not known else frame, stat)
    if os.path.basename(path) != "stat.npy":
        return rois  # the flags beside it are those of another one
    here = [file for file in os.listdir(folder or ".") if file.endswith(".npy")]
    rois = rois.assign_coords(flags_in(folder, here, {"stat.npy": rois.sizes["roi"]}))
    return of_folder(rois, path)


def frame_shape_in(
    path: str, shape: tuple[int, int] | None, ops: Mapping[str, Any]
) -> tuple[int, int]:
    """Frame size as given, else of ``ops``; they must agree."""
    from xs2p.movie.check import checked_shape
    from xs2p.rois.pixels import agreed_frame

    frame = agreed_frame(checked_shape(shape), frame_in(ops), f"ops.npy beside {path}")
    if frame is None:
        raise ValueError(
            f"{path}: the size of the frame is not known, since no ops.npy with Ly and Lx lies "
            "beside it; give shape=(Ly, Lx) in pixels, as in shape=(512, 512)"
        )
    return frame


def rois_in(path: str, shape: tuple[int, int], stat: Any = None) -> xr.Dataset:
    """ROI set of a ``stat.npy``, or of the stat that was read from it."""
    from xs2p.rois.build import rois_from_stat
    from xs2p.rois.stat import completed

    stat = load_stat(path) if stat is None else stat
    try:
        return rois_from_stat(completed(stat, path), shape)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def load_stat(path: str) -> np.ndarray:
    """Read a ``stat.npy`` as an array of dicts."""
    from xs2p.disk.npy import load_npy

    stat = load_npy(path)
    if stat.ndim != 1 or not all(isinstance(entry, dict) for entry in stat):
        raise ValueError(
            f"{path}: expected suite2p's stat, an array of one dict per ROI; found an array of "
            f"{stat.dtype} with shape {stat.shape}"
        )
    return np.asarray(stat)


def _read_flags(path: str, counts: dict[str, int]) -> np.ndarray:
    from xs2p.disk.npy import load_npy

    table = load_npy(path)
    if table.ndim != 2 or table.shape[1] != 2 or table.dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: expected one row (flag, probability) per ROI, found {table.dtype} of shape "
            f"{table.shape}"
        )
    count_rows(path, len(table), counts)
    return np.asarray(table)


def flags_in(name: str, here: Collection[str], counts: dict[str, int]) -> dict[str, Any]:
    """``iscell`` and ``redcell`` of those that are there, as coordinates over ``roi``."""
    coords: dict[str, Any] = {}
    for key, meaning in FLAGS.items():
        if f"{key}.npy" in here:
            table = _read_flags(os.path.join(name, f"{key}.npy"), counts)
            of = f"column of {key}.npy, as the folder has it."
            flag = {"long_name": meaning, "description": f"First {of}"}
            chance = {
                "long_name": f"probability of {key}",
                "units": "1",
                "description": f"Second {of}",
            }
            coords[key] = ("roi", table[:, 0] > 0, flag)
            coords[f"{key}_prob"] = ("roi", table[:, 1], chance)
    return coords


def count_rows(path: str, rows: int, counts: dict[str, int]) -> None:
    """Note how many ROIs a file has: all must have the same."""
    for file, number in counts.items():
        if rows != number:
            raise ValueError(f"{path}: {rows} ROIs, but {file} beside it has {number}")
    counts[os.path.basename(path)] = rows
