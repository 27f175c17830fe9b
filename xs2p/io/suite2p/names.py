"""What suite2p calls things: its files, its parameters, its baselines."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np

# Traces that a folder holds, each in a file of its name, and what suite2p's are.
STORED = {
    "F": "fluorescence",
    "Fneu": "neuropil fluorescence",
    "spks": "deconvolved activity",
    "F_chan2": "fluorescence, second channel",
    "Fneu_chan2": "neuropil fluorescence, second channel",
}

# Images of ops; those of the second kind are of the part of the frame that yrange and xrange say.
CROPPED = ("max_proj", "Vcorr")
IMAGES = ("meanImg", "meanImgE", "refImg", *CROPPED)

FLAGS = {"iscell": "cell, by suite2p's classifier or by hand", "redcell": "red cell"}

PLANE = {"long_name": "plane of the ROI", "description": "Number of suite2p's plane folder."}

# Attribute of a Dataset -> key in ops, and the section of ops that suite2p 1.x has it in.
PARAMETERS = {
    "fs": ("fs", None),
    "tau": ("tau", None),
    "neuropil_coefficient": ("neucoeff", "extraction"),
    "baseline": ("baseline", "dcnv_preprocess"),
    "win_baseline": ("win_baseline", "dcnv_preprocess"),
    "sig_baseline": ("sig_baseline", "dcnv_preprocess"),
    "prctile_baseline": ("prctile_baseline", "dcnv_preprocess"),
}

Path = str | os.PathLike[str]


def check_traces(path: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise where a file of suite2p's traces has something else."""
    if len(shape) != 2 or dtype.kind not in "biuf":
        raise ValueError(
            f"{path}: expected numbers over (roi, time), found {dtype} of shape {shape}"
        )


def parameters_of(ops: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that ``ops`` says, by our names."""
    found = {}
    for name, (key, section) in PARAMETERS.items():
        inner = ops.get(section) if section else None
        value = inner.get(name, inner.get(key)) if isinstance(inner, dict) else None
        value = ops.get(key) if value is None else value
        if isinstance(value, np.generic):
            value = value.item()
        if isinstance(value, str | int | float):
            found[name] = value
    if "baseline" in found:
        found["baseline"] = _baseline_by_our_name(found["baseline"], ops.get("suite2p_version"))
    return found


def _baseline_by_our_name(baseline: Any, version: Any) -> Any:
    """Name what the folder's suite2p computed under the name that xs2p gives it."""
    if baseline == "constant":
        return "constant_global"
    if baseline == "maximin" and str(version).startswith("0."):
        return "maximin_legacy"
    return baseline
