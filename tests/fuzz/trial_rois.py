"""Read damaged files of ROIs one after the other; a line of JSON for each says how it ended.

As a process of its own, which may die: ``python trial_rois.py FOLDER READER SEED FIRST STOP``.
"""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np  # noqa: E402

from fuzz.memory import highest, highest_from_here  # noqa: E402
from fuzz.mutate import mutant  # noqa: E402
from fuzz.rois import CHECKED, READERS  # noqa: E402
from xs2p.rois.pixels import pixel_table  # noqa: E402

ROOM = 4 << 30  # bytes of addresses: what asks for more fails, and does not take the machine along
BOUND = 64 << 20


def main(folder: Path, reader: str, seed: int, first: int, stop: int) -> None:
    """Try the mutants ``first`` to ``stop``."""
    whole = folder / "whole"
    whole.mkdir(parents=True)
    warnings.simplefilter("ignore")
    case = READERS[reader](whole)
    files = {p.relative_to(whole): p.read_bytes() for p in whole.rglob("*") if p.is_file()}
    names = sorted(files)
    valid = _read(whole, case)
    logging.disable()  # no reader may need what a library logs
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    print("ready", flush=True)
    for n in range(first, stop):
        rng = np.random.default_rng([seed, n, sum(reader.encode())])
        name = names[int(rng.integers(len(names)))]
        data, _ = mutant(rng, files[name], np.ones(len(files[name]), bool))
        here = folder / str(n)  # another each time: libraries keep files that they have open
        shutil.copytree(whole, here, copy_function=os.link)
        gone = len(names) > 1 and rng.random() < 0.05
        (here / name).unlink()
        if not gone:
            (here / name).write_bytes(data)
        size = sum(map(len, files.values()))
        whole_or_none = reader in CHECKED or (gone and case.path.endswith(".zarr"))
        said = _tried(here, case, valid, size, whole_or_none)
        shutil.rmtree(here, ignore_errors=True)
        print(json.dumps({"n": n, "reader": reader, "file": str(name), **said}), flush=True)


def _read(folder, case):
    return case.read(str(folder / case.path), **case.options).load()


def _tried(folder, case, valid, size, whole_or_none):
    before = highest_from_here()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = _read(folder, case)
    except BaseException as error:
        return _of_error(error, folder, highest() - before, size)
    used = highest() - before
    if used > BOUND + 4 * size:
        return {"fault": "memory", "said": f"{used >> 20} MB"}
    try:
        if "npix" in found.variables:
            pixel_table(found)
    except Exception as error:
        return {"fault": "no ROI set", "said": f"{type(error).__name__}: {error}"}
    same = all(
        name in found.variables and np.array_equal(found[name].values, valid[name].values)
        for name in ("npix", "ypix", "xpix", "lam")
    )
    if whole_or_none and not same:
        return {"fault": "other pixels", "said": str(found)[:300]}
    return {"end": "equal" if same and found.drop_attrs().equals(valid.drop_attrs()) else "other"}


def _of_error(error, folder, used, size):
    trace = "".join(traceback.format_exception(error))[-1800:]
    short = f"{type(error).__name__}: {error}"[:400]
    if not isinstance(error, ValueError | OSError) or isinstance(error, UnicodeError):
        return {"fault": "type", "said": short, "trace": trace}
    if used > BOUND + 4 * size:
        return {"fault": "memory", "said": f"{used >> 20} MB; {short}", "trace": trace}
    if str(folder) not in str(error):
        return {"fault": "unnamed", "said": short, "trace": trace}
    return {"end": "error", "said": short.replace(str(folder), "")[:200]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
