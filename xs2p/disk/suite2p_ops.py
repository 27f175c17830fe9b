"""What suite2p says of a plane folder, read in one place."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Where suite2p from 1.0 on says what its ops.npy says in one.
PARTS = ("db", "settings", "reg_outputs", "detect_outputs")
# What is read of it here, and whether it is a whole number of pixels.
_NUMBERS = {"Ly": True, "Lx": True, "fs": False, "tau": False}
# What is said of frames, by the names that versions have for it.
_OF_FRAMES = {
    "badframes": ("badframes",),
    "files": ("frames_per_file",),
    "folders": ("frames_per_folder", "nframes_per_folder"),
    "filelist": ("filelist", "file_list"),
    "first": ("first_tiffs", "first_files"),
}


def read_ops(folder: str) -> dict[str, Any]:
    """Read what suite2p says of a folder, checked; an empty dict where it says nothing.

    That is ``ops.npy``. From suite2p 1.0 on there may be none, but ``db.npy``, ``settings.npy``,
    ``reg_outputs.npy`` and ``detect_outputs.npy``: these are joined as suite2p joins them in its
    ``ops.npy``, and make good what that one does not say of size, rate and tau.

    Raises
    ------
    ValueError
        A file is damaged or holds no dict, or a size or rate in it is none.
    """
    ops = _ops_of(folder)
    return _of_mosaic(folder, ops) if _name(folder) == "combined" else ops


def _name(folder: str) -> str:
    return os.path.basename(os.path.abspath(folder))


def _of_mosaic(folder: str, ops: dict[str, Any]) -> dict[str, Any]:
    """Make good what a ``combined`` folder does not say, from the plane folders beside it.

    Its frame is a mosaic of theirs, each at its ``dy`` and ``dx``.
    """
    top = os.path.dirname(os.path.abspath(folder))
    beside = sorted(os.listdir(top)) if os.path.isdir(top) else []
    planes = [_ops_of(os.path.join(top, name)) for name in beside if name.startswith("plane")]
    planes = [plane for plane in planes if frame_in(plane) is not None]
    more = {k: planes[0][k] for k in ("fs", "tau") if planes and planes[0].get(k) is not None}
    if planes and all(plane.get(key) is not None for plane in planes for key in ("dy", "dx")):
        for size, at in (("Ly", "dy"), ("Lx", "dx")):
            more[size] = max(int(plane[at]) + int(plane[size]) for plane in planes)
    whole = frame_in(ops)
    known = frame_in(more)
    if whole is None or known is None or (whole[0] >= known[0] and whole[1] >= known[1]):
        return {**more, **_said(ops)}
    return {**more, **_said(ops), "Ly": more["Ly"], "Lx": more["Lx"]}


def _ops_of(folder: str) -> dict[str, Any]:
    found = _read_dict(os.path.join(folder, "ops.npy"))
    if found is not None and all(found.get(key) is not None for key in _NUMBERS):
        return found
    parts = [_read_dict(os.path.join(folder, f"{part}.npy")) or {} for part in PARTS]
    joined = {key: value for part in parts for key, value in part.items() if value is not None}
    if found is None:
        return joined
    return {**{key: joined[key] for key in _NUMBERS if key in joined}, **_said(found)}


def frames_said(folder: str, ops: Mapping[str, Any]) -> dict[str, Any]:
    """Find what suite2p says of the frames of a folder; ``ops`` are what `read_ops` gave.

    ``badframes``, ``files`` and ``folders`` (frames of each), ``filelist``, and ``first``: whether
    a file is the first of its folder. What is not in ``ops.npy`` is looked for beside it.
    """
    said = _first_of(ops)
    for part in PARTS:
        if len(said) < len(_OF_FRAMES):
            said = {**_first_of(_read_dict(os.path.join(folder, f"{part}.npy")) or {}), **said}
    return said


def _first_of(ops: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for what, keys in _OF_FRAMES.items():
        values = [ops[key] for key in keys if ops.get(key) is not None and np.size(ops[key])]
        found |= {what: values[0]} if values else {}
    return found


def has_ops(folder: str) -> bool:
    """Whether suite2p says anything of a folder."""
    return any(os.path.exists(os.path.join(folder, f"{part}.npy")) for part in ("ops", *PARTS))


def ignored_planes(folder: str) -> set[int]:
    """Planes that suite2p was told to ignore, for the mirror flew back in them."""
    planes = read_ops(folder).get("ignore_flyback")
    listed = np.atleast_1d(np.asarray([] if planes is None else planes, dtype=object)).tolist()
    whole = [n for n in listed if isinstance(n, int | float) and not isinstance(n, bool)]
    return {int(n) for n in whole if n == int(n) and n >= 0}


def _said(ops: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in ops.items() if not (k in _NUMBERS and v is None)}


def _read_dict(path: str) -> dict[str, Any] | None:
    from xs2p.disk.npy import load_pickled

    if not os.path.exists(path):
        return None
    ops = load_pickled(path)
    if ops.dtype != object or ops.size != 1 or not isinstance(ops.item(), dict):
        raise ValueError(f"{path}: expected a dict, found an array of {ops.dtype} {ops.shape}")
    found = dict(ops.item())
    for key, whole in _NUMBERS.items():
        value = found.get(key)
        if value is None:
            continue
        number = isinstance(value, int | float | np.number) and not isinstance(value, bool)
        if not (number and np.isfinite(value) and value > 0 and (not whole or value == int(value))):
            kind = "a whole number of pixels" if whole else "a number"
            raise ValueError(f"{path}: {key} is {value!r}, expected {kind} above 0")
    return found


def frame_in(ops: Mapping[str, Any]) -> tuple[int, int] | None:
    """``(Ly, Lx)`` in pixels, where it says both."""
    if ops.get("Ly") is None or ops.get("Lx") is None:
        return None
    return int(ops["Ly"]), int(ops["Lx"])


def rate_in(ops: Mapping[str, Any]) -> float | None:
    """Frames per second in Hz, where it says them."""
    return None if ops.get("fs") is None else float(ops["fs"])


def tau_in(ops: Mapping[str, Any]) -> float | None:
    """Decay time of the indicator in seconds, where it says it."""
    return None if ops.get("tau") is None else float(ops["tau"])


def shifts_said(folder: str) -> dict[str, Any]:
    """Read what suite2p says of a folder, its registration too, which ``ops.npy`` may lack."""
    ops = read_ops(folder)
    if ops.get("yoff") is None:
        parts = [_read_dict(os.path.join(folder, f"{part}.npy")) or {} for part in PARTS]
        for part in parts:
            ops = {**part, **_said(ops)}
    return ops
