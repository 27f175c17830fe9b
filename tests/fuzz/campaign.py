"""Run trials of mutants under a watchdog: a hang is killed, a dead process is started anew."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HANG = 10.0  # s
START = 120.0


def run(reader: str, seed: int, first: int, stop: int, script: str = "trial.py") -> list[dict]:
    """Try mutants of what a reader reads; what became of each."""
    found: list[dict] = []
    where = {"dir": "/dev/shm" if os.path.isdir("/dev/shm") else None, "prefix": "xs2p-fuzz-"}
    with tempfile.TemporaryDirectory(**where) as top:
        part = 0
        while first < stop:
            folder = Path(top) / str(part)
            lines, how = _one(folder, script, reader, seed, first, stop)
            found += lines
            first += len(lines)
            if first < stop:
                found.append({"n": first, "file": "?", "fault": how[0], "said": how[1]})
                first += 1
            shutil.rmtree(folder, ignore_errors=True)
            part += 1
    return found


def run_all(readers: dict[str, int], seed: int, script: str = "trial.py") -> dict[str, list[dict]]:
    """Try so many mutants of each reader, of two at once; what became of each."""
    # To start a process costs seconds: one for each reader, two where there is one alone.
    jobs = [
        (reader, *span)
        for reader, number in readers.items()
        for span in ([(0, number)] if len(readers) > 1 else _halves(number))
    ]
    with ThreadPoolExecutor(2) as pool:
        parts = list(pool.map(lambda job: run(job[0], seed, *job[1:], script), jobs))
    found: dict[str, list[dict]] = {reader: [] for reader in readers}
    for (reader, *_), part in zip(jobs, parts, strict=True):
        found[reader] += part
    return found


def _halves(number: int) -> list[tuple[int, int]]:
    return [(0, number // 2), (number // 2, number)]


def _speaks(selector: selectors.BaseSelector, pid: int, limit: float) -> bool:
    """Whether a process says something in time: its own, as others may keep it waiting."""
    before = _worked(pid)
    for _ in range(6):
        if selector.select(limit):
            return True
        if _worked(pid) - before > 0.9 * limit:
            break
    return False


def _worked(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _one(folder, script, reader, seed, first, stop):
    command = [sys.executable, str(Path(__file__).with_name(script)), str(folder), reader]
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [*command, str(seed), str(first), str(stop)], stdout=subprocess.PIPE, stderr=errors
        )
        lines, how, rest, ready = [], None, b"", False
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while how is None:
                if not _speaks(selector, process.pid, HANG if ready else START):
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
