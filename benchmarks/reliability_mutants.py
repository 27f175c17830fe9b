"""Damaged files of every format that is read: what becomes of so many mutants of each reader.

python -m benchmarks.reliability_mutants [READER …] prints the tables of RESULTS.md. The number of
mutants, 2,000 of each reader, and their seed are set by XS2P_FUZZ_MUTANTS and XS2P_FUZZ_SEED.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzz.campaign import run_all  # noqa: E402
from fuzz.movies import MOVIES  # noqa: E402
from fuzz.rois import READERS  # noqa: E402

NUMBER = int(os.environ.get("XS2P_FUZZ_MUTANTS", "2000"))
SEED = int(os.environ.get("XS2P_FUZZ_SEED", "18"))
LOG = Path(os.environ.get("XS2P_FUZZ_LOG", Path(tempfile.gettempdir()) / "xs2p-mutants.jsonl"))


def main(readers: Iterable[str] = ()) -> None:
    """Print how many mutants are read as the same, warned of, refused by name, or a fault."""
    asked = set(readers) or {*MOVIES, *READERS}
    unknown = sorted(asked - {*MOVIES, *READERS})
    if unknown:
        raise SystemExit(f"no readers: {', '.join(unknown)}; there are {[*MOVIES, *READERS]}")
    faults: list[tuple[str, dict[str, Any]]] = []
    for what, known, script in (
        ("movie", MOVIES, "trial.py"),
        ("ROIs or traces", READERS, "trial_rois.py"),
    ):
        chosen = [reader for reader in known if reader in asked]
        if chosen:
            faults += table(what, chosen, script)
    for reader, said in faults:
        print(f"  {reader}, mutant {said['n']}: {said['fault']}: {said['said']}", file=sys.stderr)


def table(what: str, readers: list[str], script: str) -> list[tuple[str, dict[str, Any]]]:
    """Print the rows of some readers; return their faults."""
    print(
        f"| {what} | mutants | equal | told by an error that names the file | told by a warning "
        "| other values, of which the format has no checksum | faults | s |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---:|", flush=True)
    faults, every = [], Counter[str]()
    for reader in readers:
        began = time.monotonic()
        found = run_all({reader: NUMBER}, SEED, script)[reader]
        with open(LOG, "a") as log:
            log.writelines(json.dumps({"reader": reader, **said}) + "\n" for said in found)
        ends = Counter("faults" if "fault" in said else said["end"] for said in found)
        _row(reader, ends, time.monotonic() - began)
        every += ends
        faults += [(reader, said) for said in found if "fault" in said]
    _row("all", every, None)
    print(flush=True)
    return faults


def _row(name: str, ends: Counter[str], took: float | None) -> None:
    told = ends["error"] + ends["needs"]
    rest = ends.total() - sum(ends[end] for end in ("equal", "error", "needs", "warned", "faults"))
    numbers = (ends.total(), ends["equal"], told, ends["warned"], rest, ends["faults"])
    shown = " | ".join(f"{number:,}" for number in numbers)
    print(f"| {name} | {shown} | {'' if took is None else f'{took:.0f}'} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
