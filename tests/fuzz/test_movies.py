"""Damaged movies: the same frames, or an error that names the file; never anything else.

Seed and number of mutants are fixed; ``XS2P_FUZZ_SEED`` and ``XS2P_FUZZ_MUTANTS`` set others.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fuzz.campaign import run
from fuzz.movies import MOVIES
from fuzz.mutate import mutant

SEED = int(os.environ.get("XS2P_FUZZ_SEED", "18"))
MUTANTS = int(os.environ.get("XS2P_FUZZ_MUTANTS", "2000"))  # of each reader
READERS: dict[str, list[str]] = {}
for movie in MOVIES:
    READERS.setdefault(movie.removeprefix("ome_").split("_")[0].rstrip("23"), []).append(movie)
# In these each byte of a frame is held by a checksum: frames are right, or are not read.
CHECKED = {"hdf5_chunks", "zarr_crc", "zarr_zip"}


def test_a_seed_makes_the_same_mutants():
    data, soft = bytes(range(200)), np.zeros(200, bool)
    twice = [[mutant(np.random.default_rng(n), data, soft)[0] for n in range(50)] for _ in "ab"]
    assert twice[0] == twice[1] and len(set(twice[0])) > 40


@pytest.mark.slow
@pytest.mark.skipif(not os.path.exists("/proc/self/clear_refs"), reason="measures memory on Linux")
@pytest.mark.parametrize("reader", READERS)
def test_mutants(reader):
    pytest.importorskip({"avi": "av", "mkv": "av", "lif": "liffile"}.get(reader, "numpy"))
    kinds = READERS[reader]
    each = -(-MUTANTS // len(kinds))
    half = each // 2 if len(kinds) == 1 else 0
    spans = [(0, half), (half, each)] if half else [(0, each)]
    jobs = [(kind, *span) for kind in kinds for span in spans]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda job: run(job[0], SEED, *job[1:]), jobs))
    results = [(job[0], said) for job, part in zip(jobs, found, strict=True) for said in part]
    assert len(results) >= MUTANTS
    faults = [(kind, said) for kind, said in results if "fault" in said]
    assert not faults, f"{len(faults)} of {len(results)}, the first: {faults[0]}"
    others = [(k, s) for k, s in results if k in CHECKED and s["end"] in ("pixels", "zeros")]
    assert not others, f"frames that a checksum tells are damaged: {others[:3]}"
    assert {said["end"] for _, said in results} >= {"error", "equal"}
