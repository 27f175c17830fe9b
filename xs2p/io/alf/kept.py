"""What ALF has no name for, and which files are ours: a file of our own beside the others."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import HISTORY
from xs2p._version import __version__
from xs2p.io.alf import names as alf
from xs2p.rois.assemble import KNOWN_STATUS, Known

if TYPE_CHECKING:
    import xarray as xr

_NOT_KEPT = ("source", "xs2p_run", HISTORY, "ops", "long_name", "units", "description")
_LISTS: dict[str, tuple[type, ...]] = {
    "files": (str,),
    "together": (str,),
    "roi": (int, float, str),
    "status": (str,),
    "radius": (int, float, type(None)),
    "med_y": (int, float, type(None)),
    "med_x": (int, float, type(None)),
}
OF_EACH_ROI = ("roi", "status", "radius", "med_y", "med_x")


def to_keep(
    ds: xr.Dataset, rest: xr.Dataset, files: Sequence[str], together: Sequence[str]
) -> dict[str, Any]:
    """Collect what ALF has no name for: labels, places, status and what made the traces.

    ``files`` are the names of the others of the set, ``together`` the fields of view that were
    written at once.
    """
    labels = rest["roi"].values
    found: dict[str, Any] = {
        "xs2p_version": __version__,
        "files": sorted(files),
        "attrs": _kept(ds.attrs),
        "variables": {key: _kept(ds[key].attrs) for key in alf.TRACES if key in ds},
    }
    if len(together) > 1:
        found["together"] = list(together)
    if not np.array_equal(labels, np.arange(labels.size)):
        found["roi"] = labels.tolist()
    if "status" in rest.variables:
        found["status"] = [str(word) for word in rest["status"].values]
    for key in ("radius", "med_y", "med_x"):
        if key in rest.variables and rest[key].dims == ("roi",):
            values = rest[key].values.astype(np.float64).tolist()
            found[key] = [value if np.isfinite(value) else None for value in values]
    return found


def as_json(kept: Mapping[str, Any]) -> str:
    """Give what is kept as the text of its file."""
    return json.dumps(kept, default=_plain)


def _kept(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): value for key, value in attrs.items() if key not in _NOT_KEPT}


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else str(value)


def read_kept(path: str) -> dict[str, Any]:
    """Read what `write_alf` kept, and see that all files of its set are there.

    Raises
    ------
    ValueError
        If it is damaged, or a file of the set is missing.
    """
    with open(path, encoding="utf-8") as file:
        try:
            found = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path}: is no JSON ({error})") from error
    found = _checked(found, path)
    there = set(os.listdir(os.path.dirname(path)))
    missing = [name for name in found.get("files", []) if name not in there]
    if missing:
        raise ValueError(
            f"{path} tells of {', '.join(missing)}, which is not there: the folder was killed "
            "while being written, or files were taken away; write it again with overwrite=True"
        )
    return found


def known_of(kept: Mapping[str, Any], *keys: str) -> Known | None:
    """Values over ``roi`` that were kept, for an ROI set: of one key, or side by side of two."""
    if not all(key in kept for key in keys):
        return None
    values = np.array([kept[key] for key in keys], np.float64).T
    where = np.asarray(np.isfinite(values).all(axis=1))
    return Known(where, values[:, 0] if len(keys) == 1 else values)


def _checked(found: Any, path: str) -> dict[str, Any]:
    """Raise where what `write_alf` kept is not of the kinds that it keeps."""
    if not isinstance(found, dict):
        raise ValueError(f"{path}: expected an object, found {type(found).__name__}")
    for key in ("attrs", "variables"):
        if not isinstance(found.get(key, {}), dict):
            raise ValueError(f"{path}: {key} is a {type(found[key]).__name__}, expected an object")
    for key, kinds in _LISTS.items():
        entries = found.get(key, [])
        if not isinstance(entries, list) or not all(isinstance(e, kinds) for e in entries):
            raise ValueError(f"{path}: {key} is no list of what write_alf keeps there")
    strange = set(found.get("status", [])) - set(KNOWN_STATUS)
    if strange or len(set(found.get("roi", []))) < len(found.get("roi", [])):
        raise ValueError(f"{path}: its status is {sorted(strange)}, or its labels repeat")
    return found
