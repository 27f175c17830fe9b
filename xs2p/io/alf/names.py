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
# Last in KNOWN: it is the last to go where a set is replaced, as it says whose the others are.
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
    if dataset in files:
        return dataset
    found = longer(files, dataset)
    if len(found) > 1:
        raise ValueError(
            f"{' and '.join(found)} are both {dataset}, and which is meant is not said; move all "
            "but one of them away"
        )
    return found[0] if found else None


def longer(files: list[str], dataset: str) -> list[str]:
    """Files of a dataset that have further parts in their names."""
    stem, ending = dataset.rsplit(".", 1)
    named = [f for f in files if f.startswith(f"{stem}.") and f.endswith(f".{ending}")]
    return sorted(f for f in named if f != dataset)


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
        if has_results(top):
            return [top]
        found = fovs_in(top)
        if found:
            return found
    raise FileNotFoundError(
        f"read_alf: neither {MASKS} nor {TRACES['F']} is in {path!r}, nor in a folder FOV_00, "
        "FOV_01, … in it"
    )


def fovs_in(top: str) -> list[str]:
    """Folders of fields of view in a folder that have results, by their names."""
    names = [name for name in sorted(os.listdir(top)) if _FOV.fullmatch(name)]
    folders = [os.path.join(top, name) for name in names]
    found = [folder for folder in folders if os.path.isdir(folder) and has_results(folder)]
    numbers = [fov_number(folder) for folder in found]
    for n, number in enumerate(numbers):
        if number in numbers[:n]:
            raise ValueError(
                f"{found[numbers.index(number)]} and {found[n]} are both field of view {number}; "
                "rename one of them"
            )
    return found


def has_results(folder: str) -> bool:
    """Whether a folder has ROIs or traces under ALF's names."""
    files = os.listdir(folder)
    return any(name in files or longer(files, name) for name in (MASKS, *TRACES.values()))


def holds_alf(folder: str) -> bool:
    """Whether ROIs under ALF's names are in a folder, or in a field of view in it."""
    try:
        return any(_has_masks(path) for path in folders_in(folder))
    except FileNotFoundError:
        return False


def _has_masks(folder: str) -> bool:
    files = os.listdir(folder)
    return MASKS in files or bool(longer(files, MASKS))
