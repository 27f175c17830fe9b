"""What ALF calls the files of a field of view, and where they lie."""

from __future__ import annotations

import os
import re

# Traces -> the dataset, ``(frame, roi)``.
TRACES = {
    "F": "mpci.ROIActivityF.npy",
    "Fneu": "mpci.ROINeuropilActivityF.npy",
    "spks": "mpci.ROIActivityDeconvolved.npy",
}
TIMES = "mpci.times.npy"
BAD_FRAMES = "mpci.badFrames.npy"
FRAME_QC = "mpci.mpciFrameQC.npy"
FRAME_QC_NAMES = "mpciFrameQC.names.tsv"
MASKS = "mpciROIs.masks.sparse_npz"
NEUROPIL_MASKS = "mpciROIs.neuropilMasks.sparse_npz"
TYPES = "mpciROIs.mpciROITypes.npy"
TYPE_NAMES = "mpciROITypes.names.tsv"
CLASSIFIER = "mpciROIs.cellClassifier.npy"
POSITIONS = "mpciROIs.stackPos.npy"
UUIDS = "mpciROIs.uuids.csv"
MEAN_IMAGE = "mpciMeanImage.images.npy"
# Of a namespace of our own, as ALF has it for what a lab adds: labels and what made the traces.
OURS = "_xs2p_ROIData.attributes.json"
KNOWN = (
    *TRACES.values(),
    *(TIMES, BAD_FRAMES, FRAME_QC, FRAME_QC_NAMES, MASKS, NEUROPIL_MASKS, TYPES, TYPE_NAMES),
    *(CLASSIFIER, POSITIONS, UUIDS, MEAN_IMAGE, OURS),
)
OF_ROIS = "mpciROIs."
QC, UUID = "frame_qc", "uuids"  # what the coordinates are called here
_FOV = re.compile(r"FOV_(\d+)$")


def fov_number(folder: str) -> int | None:
    """Return the number of the field of view that a folder is named after."""
    found = _FOV.fullmatch(os.path.basename(os.path.abspath(folder)))
    return int(found[1]) if found else None


def find(files: list[str], dataset: str) -> str | None:
    """File of a dataset; ALF may have further parts, such as a UUID, before the extension."""
    stem, ending = dataset.rsplit(".", 1)
    if dataset in files:
        return dataset
    longer = [f for f in files if f.startswith(f"{stem}.") and f.endswith(f".{ending}")]
    return min(longer, default=None)


def folders_in(path: str) -> list[str]:
    """Find the folders of fields of view: the path itself, or in it, or in its folder ``alf``."""
    if not os.path.isdir(path):
        kind = "is a file" if os.path.exists(path) else "does not exist"
        raise FileNotFoundError(
            f"read_alf: {path!r} {kind}, expected the folder of a field of view, such as "
            "'session/alf/FOV_00'"
        )
    for top in (path, os.path.join(path, "alf")):
        if not os.path.isdir(top):
            continue
        if _has_results(top):
            return [top]
        inside = sorted(os.listdir(top))
        found = [os.path.join(top, name) for name in inside if _FOV.fullmatch(name)]
        found = [folder for folder in found if os.path.isdir(folder) and _has_results(folder)]
        if found:
            return found
    raise FileNotFoundError(
        f"read_alf: neither {MASKS} nor {TRACES['F']} is in {path!r}, nor in a folder FOV_00, "
        "FOV_01, … in it"
    )


def _has_results(folder: str) -> bool:
    files = os.listdir(folder)
    return any(find(files, name) for name in (MASKS, *TRACES.values()))


def holds_alf(folder: str) -> bool:
    """Whether ROIs under ALF's names are in a folder, or in a field of view in it."""
    try:
        return any(find(os.listdir(path), MASKS) for path in folders_in(folder))
    except FileNotFoundError:
        return False
