"""Damaged movies: the same frames, or an error that names the file; never anything else.

Seed and number of mutants are fixed, 2,000 of a format in all its ways; ``XS2P_FUZZ_SEED`` and
``XS2P_FUZZ_MUTANTS`` set others, the number then of each way.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

from fuzz.campaign import run_all
from fuzz.movies import MOVIES
from fuzz.mutate import mutant

SEED = int(os.environ.get("XS2P_FUZZ_SEED", "18"))
MUTANTS = int(os.environ.get("XS2P_FUZZ_MUTANTS", "0"))
OF_A_FORMAT = 2000
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
    each = MUTANTS or -(-OF_A_FORMAT // len(READERS[reader]))
    found = run_all(dict.fromkeys(READERS[reader], each), SEED)
    results = [(kind, said) for kind, part in found.items() for said in part]
    assert len(results) == each * len(READERS[reader])
    faults = [(kind, said) for kind, said in results if "fault" in said]
    assert not faults, f"{len(faults)} of {len(results)}, the first: {faults[0]}"
    others = [(k, s) for k, s in results if k in CHECKED and s["end"] in ("pixels", "zeros")]
    assert not others, f"frames that a checksum tells are damaged: {others[:3]}"
    assert {said["end"] for _, said in results} >= {"error", "equal"}
