"""Open damaged movies one after the other; a line of JSON for each says how it ended.

Run as a process of its own, which may die: ``python trial.py FOLDER READER SEED FIRST STOP``.
"""

from __future__ import annotations

import json
import logging
import resource
import shutil
import sys
import traceback
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import dask  # noqa: E402
import numpy as np  # noqa: E402

import xs2p  # noqa: E402
from fuzz.memory import highest, highest_from_here  # noqa: E402
from fuzz.movies import FRAMES, MOVIES  # noqa: E402
from fuzz.mutate import mutant  # noqa: E402

ROOM = 4 << 30  # bytes of addresses: what asks for more fails, and does not take the machine along
BOUND = 64 << 20


def main(folder: Path, reader: str, seed: int, first: int, stop: int) -> None:
    """Try the mutants ``first`` to ``stop``."""
    case, names, whole, soft = _made(folder / "whole", reader)
    valid, _ = _opened(folder / "whole", case)
    logging.disable()  # no reader may need what a library logs
    resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    size = sum(map(len, whole.values()))
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for n in range(first, stop):
        rng = np.random.default_rng([seed, n, sum(reader.encode())])
        name = names[int(rng.integers(len(names)))]
        data, hard = mutant(rng, whole[name], soft[name])
        here = folder / "damaged"
        shutil.rmtree(here, ignore_errors=True)
        shutil.copytree(folder / "whole", here)
        if not case.kept and len(names) > 1 and rng.random() < 0.03:
            (here / name).unlink()
        else:
            (here / name).write_bytes(data)
        said = _tried(here, case, valid, hard, size)
        sys.stdout.write(json.dumps({"n": n, "file": name, **said}) + "\n")
        sys.stdout.flush()


def _made(folder, reader):
    folder.mkdir(parents=True)
    case = MOVIES[reader](folder)
    every = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    whole = {str(p.relative_to(folder)): p.read_bytes() for p in every}
    soft = {name: _pixels(data) for name, data in whole.items()}
    hard = [name for name in whole if not soft[name].all()]
    few = [name for name in whole if soft[name].all()]
    return case, hard * 3 + few if hard else few, whole, soft


def _pixels(data: bytes) -> np.ndarray:
    """Places of frames in the bytes of a file."""
    soft = np.zeros(len(data), bool)
    turned = FRAMES.transpose(0, 2, 1)
    kinds = [FRAMES, FRAMES.astype(">u2"), turned, 65535 - FRAMES, turned.astype("<f4")]
    for frames in kinds:
        for frame in np.ascontiguousarray(frames):
            at = data.find(frame.tobytes())
            if at >= 0:
                soft[at : at + frame.nbytes] = True
    for t in (0, 2, 4):  # two channels of a pixel beside each other
        pair = np.stack([FRAMES[t], FRAMES[t + 1]], -1)
        for kept in (pair, 65535 - pair):
            at = data.find(np.ascontiguousarray(kept).tobytes())
            if at >= 0:
                soft[at : at + kept.nbytes] = True
    for kept in (
        FRAMES.tobytes(),
        np.asfortranarray(FRAMES).tobytes("F"),
        FRAMES.transpose(1, 2, 0).tobytes("F"),
    ):
        at = data.find(kept)
        if at >= 0:
            soft[at : at + len(kept)] = True
    return soft


def _opened(folder, case):
    movie = xs2p.open_movie(str(folder / case.path), **case.options)
    peak = highest()
    with dask.config.set(scheduler="synchronous"):
        return movie.compute(), peak


def _tried(folder, case, valid, hard, size):
    before = highest_from_here()
    told: list[str] = []
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found, peak = _opened(folder, case)
        told = [str(w.message) for w in caught]
    except BaseException as error:
        return _of_error(error, folder, highest() - before, size)
    if peak - before > BOUND + 4 * size:
        return {"fault": "memory", "said": f"{peak - before >> 20} MB"}
    if not _plain(found):
        return {"fault": "type", "said": f"opened as {found.dtype}, {found.coords}"}
    same = found.shape == valid.shape and found.dtype == valid.dtype
    if same and np.array_equal(found, valid, equal_nan=found.dtype.kind == "f"):
        return {"end": "equal"}
    if not hard:
        return {"end": "pixels"}
    if told:
        return {"end": "warned"}
    what = f"{found.dims} {found.shape} {found.dtype} of {valid.shape} {valid.dtype}"
    if same or found.shape[-2:] == valid.shape[-2:]:
        dark = ~found.values.reshape(-1, *found.shape[-2:]).any((1, 2))
        if dark.any():
            return {"end": "zeros", "said": f"{int(dark.sum())} frames of zeros, {what}"}
    kind = "fewer" if found.size < valid.size else "other"
    return {"end": kind, "said": what}


def _plain(movie):
    return movie.dtype.kind in "iufb"


def _of_error(error, folder, used, size):
    text = "".join(traceback.format_exception(error))
    short = f"{type(error).__name__}: {error}"
    chain, every = error, []
    while chain is not None:
        every.append(chain)
        chain = chain.__cause__ or chain.__context__
    if isinstance(error, ImportError) and str(folder) in str(error):
        return {"end": "needs", "said": short.replace(str(folder), "")[:200]}  # another package
    if not isinstance(error, (ValueError, OSError)) or isinstance(error, UnicodeError):
        return {"fault": "type", "said": short, "trace": text[-1500:]}
    if any(isinstance(e, MemoryError) for e in every):
        return {"fault": "memory", "said": short, "trace": text[-1500:]}
    if used > BOUND + 4 * size:
        return {"fault": "memory", "said": f"{used >> 20} MB; {short}", "trace": text[-1500:]}
    if str(folder) not in str(error):
        return {"fault": "unnamed", "said": short, "trace": text[-1500:]}
    return {"end": "error", "said": short.replace(str(folder), "")[:200]}


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6]))
