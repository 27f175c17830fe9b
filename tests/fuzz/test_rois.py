"""Damaged files of ROIs: the same ROIs, or an error that names the file; never anything else.

Seed and number of mutants are fixed; ``XS2P_FUZZ_SEED`` and ``XS2P_FUZZ_MUTANTS`` set others, as
``XS2P_FUZZ_MUTANTS=20000`` for a long look by hand.
"""

from __future__ import annotations

import itertools
import json
import os
import selectors
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fuzz.rois import READERS

SEED = int(os.environ.get("XS2P_FUZZ_SEED", "18"))
MUTANTS = int(os.environ.get("XS2P_FUZZ_MUTANTS", "2000"))  # of each reader
GROUPS = {
    "suite2p": ("stat", "plane", "suite2p", "fall"),
    "imagej": ("roi", "oval", "roiset", "overlays"),
    "labels": ("tif", "tif_zlib", "png", "npy", "cellpose"),
    "caiman": ("caiman",),
    "minian": ("minian",),
    "own": ("zarr", "nc"),
    "matlab": ("mat_labels", "mat_sparse", "mat73"),
    "nwb": ("nwb_rois", "nwb_lists", "nwb"),
}
DEAR = 4  # so many times fewer of NWB in CI: its library takes a quarter of a second for a file
HANG, START = 10.0, 120.0  # s


def tried(folder: Path, reader: str, first: int, stop: int) -> list[dict]:
    """What became of some mutants; a process that hangs or dies is started anew after the one."""
    found: list[dict] = []
    while first < stop:
        lines, fault = one_process(folder / f"{reader}{first}", reader, first, stop)
        found += lines
        first += len(lines)
        if first < stop:
            found.append({"n": first, "reader": reader, **fault})
            first += 1
    return found


def one_process(folder: Path, reader: str, first: int, stop: int) -> tuple[list[dict], dict]:
    script = str(Path(__file__).with_name("mutate_rois.py"))
    command = [sys.executable, script, str(folder), reader, *map(str, (SEED, first, stop))]
    lines, rest, ready, fault = [], b"", False, None
    with open(f"{folder}.log", "wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    with process, selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        while True:
            if not selector.select(HANG if ready else START):
                process.kill()
                fault = {"fault": "hang", "said": f"more than {HANG:g} s"}
                break
            got = os.read(process.stdout.fileno(), 1 << 16)
            if not got:
                break
            *whole, rest = (rest + got).split(b"\n")
            ready |= b"ready" in whole
            lines += [json.loads(line) for line in whole if line.startswith(b"{")]
    said = Path(f"{folder}.log").read_text(errors="replace")[-800:]
    assert ready, said
    return lines, fault or {"fault": "dead", "said": f"exit {process.returncode}: {said}"}


def test_every_reader_is_tried() -> None:
    assert sorted(sum(GROUPS.values(), ())) == sorted(READERS)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory on Linux")
@pytest.mark.parametrize("group", GROUPS)
def test_mutants(group: str, tmp_path: Path) -> None:
    number = MUTANTS // (DEAR if group == "nwb" and "XS2P_FUZZ_MUTANTS" not in os.environ else 1)
    each = -(-number // len(GROUPS[group]))
    # To start a process costs seconds: one for each reader, where there are several.
    cuts = (0, each) if len(GROUPS[group]) > 1 else (0, each // 2, each)
    jobs = [(r, *span) for r in GROUPS[group] for span in itertools.pairwise(cuts)]
    with ThreadPoolExecutor(2) as pool:
        found = [
            said for part in pool.map(lambda job: tried(tmp_path, *job), jobs) for said in part
        ]
    assert len(found) >= number
    faults = [said for said in found if "fault" in said]
    assert not faults, f"{len(faults)} of {len(found)}, the first: {faults[0]}"
    ends = Counter(said["end"] for said in found)
    print(group, dict(ends))
    assert {"error", "equal"} <= set(ends), ends
