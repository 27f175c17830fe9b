"""Damaged files of ROIs: the same ROIs, or an error that names the file; never anything else.

Seed and number of mutants are fixed, 2,000 of the readers of a program together; with
``XS2P_FUZZ_SEED`` and ``XS2P_FUZZ_MUTANTS`` others, the number then of each reader, as
``XS2P_FUZZ_MUTANTS=20000`` for a long look by hand.
"""

from __future__ import annotations

import os
from collections import Counter

import pytest

from fuzz.campaign import run_all
from fuzz.rois import READERS

SEED = int(os.environ.get("XS2P_FUZZ_SEED", "18"))
MUTANTS = int(os.environ.get("XS2P_FUZZ_MUTANTS", "0"))
OF_A_PROGRAM = 2000
GROUPS = {
    "suite2p": ("stat", "plane", "suite2p", "fall"),
    "imagej": ("roi", "oval", "roiset", "overlays"),
    "labels": ("tif", "tif_zlib", "png", "npy", "cellpose"),
    "caiman": ("caiman",),
    "minian": ("minian",),
    "own": ("zarr", "nc"),
    "matlab": ("mat_labels", "mat_sparse", "mat73"),
    "alf": ("alf", "alf_rois"),
    "nwb": ("nwb_rois", "nwb_lists", "nwb"),
}
DEAR = 4  # so many times fewer of NWB in CI: its library takes a quarter of a second for a file


def test_every_reader_is_tried() -> None:
    assert sorted(sum(GROUPS.values(), ())) == sorted(READERS)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory on Linux")
@pytest.mark.parametrize("group", GROUPS)
def test_mutants(group: str) -> None:
    number = OF_A_PROGRAM // (DEAR if group == "nwb" else 1)
    each = MUTANTS or -(-number // len(GROUPS[group]))
    parts = run_all(dict.fromkeys(GROUPS[group], each), SEED, "trial_rois.py")
    found = [{"reader": reader, **said} for reader, part in parts.items() for said in part]
    assert len(found) == each * len(GROUPS[group])
    faults = [said for said in found if "fault" in said]
    assert not faults, f"{len(faults)} of {len(found)}, the first: {faults[0]}"
    assert {said["end"] for said in found} >= {"error", "equal"}, Counter(s["end"] for s in found)
