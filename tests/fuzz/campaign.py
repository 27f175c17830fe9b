"""Run trials under a watchdog: who hangs is killed, who dies is started anew after the mutant."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

HANG = 10.0  # s
START = 120.0


def run(reader: str, seed: int, first: int, stop: int) -> list[dict]:
    """Try mutants of a reader's movie; what became of each."""
    found: list[dict] = []
    where = {"dir": "/dev/shm" if os.path.isdir("/dev/shm") else None, "prefix": "xs2p-fuzz-"}
    with tempfile.TemporaryDirectory(**where) as top:
        part = 0
        while first < stop:
            folder = Path(top) / str(part)
            lines, how = _one(folder, reader, seed, first, stop)
            found += lines
            first += len(lines)
            if first < stop:
                found.append({"n": first, "file": "?", "fault": how[0], "said": how[1]})
                first += 1
            shutil.rmtree(folder, ignore_errors=True)
            part += 1
    return found


def _one(folder, reader, seed, first, stop):
    command = [sys.executable, str(Path(__file__).with_name("trial.py")), str(folder), reader]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, str(seed), str(first), str(stop)], stdout=subprocess.PIPE, stderr=errors
        )
        lines, how, rest, ready = [], None, b"", False
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while how is None:
                if not selector.select(HANG if ready else START):
                    process.kill()
                    how = ("hang", f"more than {HANG:g} s")
                    break
                got = os.read(process.stdout.fileno(), 1 << 16)
                if not got:
                    break
                *whole, rest = (rest + got).split(b"\n")
                for line in whole:
                    if line == b"ready":
                        ready = True
                    elif line.startswith(b'{"n"'):
                        lines.append(json.loads(line))
        code = process.wait()
        process.stdout.close()
        errors.seek(0)
        text = errors.read().decode(errors="replace")
        if not ready:
            raise RuntimeError(f"{reader}: the trial did not start: {text[-2000:]}")
    return lines, how or ("dead", f"exit {code}: {text[-1500:]}")


def main() -> None:
    """Show what becomes of mutants: ``campaign.py SEED NUMBER READER …``."""
    from movies import MOVIES

    seed, number, *readers = sys.argv[1:]
    for reader in readers or MOVIES:
        begins = time.monotonic()
        found = run(reader, int(seed), 0, int(number))
        ends = Counter(f["fault"].upper() if "fault" in f else f["end"] for f in found)
        print(f"{reader}: {dict(ends)} in {time.monotonic() - begins:.1f} s", flush=True)
        with open(os.environ.get("FUZZ_LOG", "fuzz.jsonl"), "a") as file:
            for line in found:
                file.write(json.dumps({"reader": reader, "seed": seed, **line}) + "\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    sys.path.insert(0, str(Path(__file__).parent))
    main()
