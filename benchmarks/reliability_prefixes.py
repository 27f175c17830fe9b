"""Power that goes at any moment of a run: every state that a disk can be found in, and what it is.

All that a run does to a folder is recorded. A state is what is there before one of its steps: with
everything written, with the names but not the contents that were not synced, and with neither.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dask
import xarray as xr

import xs2p
from benchmarks.store_files import files
from xs2p.disk import lock
from xs2p.pipeline.ledger import fault, faults, read_ledger
from xs2p.pipeline.marks import marked_files
from xs2p.testing import simulate

OPTIONS: dict[str, Any] = {
    "fs": 10.0,
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "win_baseline": 1.0,
    "sig_baseline": 2.0,
    "frames_per_region": 50,
    "dff": True,
    "progress": False,
}
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate"}
Tree = dict[str, bytes | None]  # files, and folders, which are None

_recorders: list[Recorder] = []
_hooked: list[bool] = []  # such a hook stays for good


class Recorder:
    """What is in a folder before each change of it, and what of that is on disk for sure."""

    def __init__(self, root: Path) -> None:
        self.states: list[Tree] = []
        self._root, self._busy, self._lock = root, threading.local(), threading.RLock()
        self._seen: set[str] = set()
        self._numbers: dict[int, int] = {}  # of things by inode, which come into use again
        self._next = 0
        self._folders: set[int] = set()
        self._read: dict[tuple[int, ...], bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        self._contents: dict[int, bytes] = {}
        self._sure_names: dict[int, dict[str, int]] = {}
        self._sure_contents: dict[int, bytes] = {}

    def audit(self, event: str, args: tuple[Any, ...]) -> None:
        changes = event in CHANGES or (
            event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        )
        if changes and not getattr(self._busy, "now", False):
            self.look()

    def look(self) -> None:
        """Keep the states that the disk may be in now."""
        with self._quiet():
            self._scan()
            root = self._numbers[os.stat(self._root).st_ino]
            for names, contents in (
                (self._names, self._contents),
                (self._names, self._sure_contents),
                (self._sure_names, self._sure_contents),
            ):
                tree = dict(self._tree(root, names, contents, ""))
                key = hashlib.sha256(repr(sorted(tree.items())).encode()).hexdigest()
                if key not in self._seen:
                    self._seen.add(key)
                    self.states.append(tree)

    def synced(self, file: int) -> None:
        with self._quiet():
            self._scan()
            number = self._numbers.get(os.fstat(file).st_ino)
            if number in self._names:
                self._sure_names[number] = dict(self._names[number])
            elif number in self._contents:
                self._sure_contents[number] = self._contents[number]

    @contextlib.contextmanager
    def _quiet(self) -> Iterator[None]:
        with self._lock:
            self._busy.now = True
            try:
                yield
            finally:
                self._busy.now = False

    def _scan(self) -> None:
        names: dict[int, dict[str, int]] = {}
        contents: dict[int, bytes] = {}
        there: dict[int, int] = {}

        def number(inode: int) -> int:
            if inode not in there:
                if inode not in self._numbers:
                    self._next += 1
                there[inode] = self._numbers.get(inode, self._next)
            return there[inode]

        folders = [str(self._root)]
        while folders:
            folder = folders.pop()
            here = number(os.stat(folder).st_ino)
            self._folders.add(here)
            own = names.setdefault(here, {})
            for entry in os.scandir(folder):
                with contextlib.suppress(FileNotFoundError):
                    stat = os.stat(entry.path)
                    own[entry.name] = number(stat.st_ino)
                    if entry.is_dir():
                        folders.append(entry.path)
                        continue
                    key = stat.st_ino, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size
                    if key not in self._read:
                        self._read[key] = Path(entry.path).read_bytes()
                    contents[number(stat.st_ino)] = self._read[key]
        self._numbers, self._names, self._contents = there, names, contents
        if not self._sure_names:  # what was there before
            self._sure_names[self._numbers[os.stat(self._root).st_ino]] = {}

    def _tree(
        self, number: int, names: dict[int, dict[str, int]], contents: dict[int, bytes], to: str
    ) -> Iterator[tuple[str, bytes | None]]:
        for name, other in names.get(number, {}).items():
            path = f"{to}{name}"
            if other in self._folders:
                yield path, None
                yield from self._tree(other, names, contents, f"{path}/")
            else:
                yield path, contents.get(other, b"")


@contextlib.contextmanager
def recording(root: Path) -> Iterator[Recorder]:
    """Record what happens in a folder; everything goes on in turn then."""
    recorder, plain = Recorder(root), os.fsync
    if not _hooked:
        sys.addaudithook(lambda event, args: [r.audit(event, args) for r in _recorders] and None)
        _hooked.append(True)

    def fsync(file: Any) -> None:
        plain(file)
        recorder.synced(file if isinstance(file, int) else file.fileno())

    recorder.look()
    _recorders.append(recorder)
    os.fsync = fsync
    try:
        with dask.config.set(scheduler="synchronous"):
            yield recorder
        recorder.look()
    finally:
        os.fsync = plain
        _recorders.clear()


def put(tree: Tree, folder: Path) -> None:
    """Make a folder such as a disk would be found."""
    for name, content in sorted(tree.items()):
        path = folder / name
        if content is None:
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            os.utime(path, (0, 0))  # the power was away for a while


def verdict(folder: Path, whole: dict[str, bytes]) -> str:
    """Say what a store is found as: "nothing", "unfinished" or "whole"; else why it is neither."""
    final, growing = folder / "a.zarr", folder / "a.partial.zarr"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            if final.exists():
                xr.open_zarr(final).close()
                return "whole" if files(final) == whole else "a store that is not what was written"
            if not growing.exists():
                return "nothing"
            with xr.open_zarr(growing, consolidated=False) as ds:
                open_ended = "xs2p_unfinished" in ds.attrs
            if open_ended:
                for _, _, name, number in marked_files(str(growing)):
                    if fault(str(growing / name), number):
                        return f"{name} is marked, and is not what was written"
                return "unfinished"
            found = faults(str(growing), read_ledger(str(growing))[0])
            return f"{found} in a store that says it is whole" if found else "whole"
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def states_of(folder: Path, run: Callable[[], Any]) -> tuple[list[Tree], dict[str, bytes]]:
    """All states that a folder may be found in as a run goes on, and the store in the end."""
    with recording(folder) as recorder:
        run()
    return recorder.states, files(folder / "a.zarr")


def replay(
    states: list[Tree], whole: dict[str, bytes], run: Callable[[Path], Any], every: int
) -> Counter[str]:
    """Count what states are found as; some also go on from there, and must end the same."""
    found: Counter[str] = Counter()
    kept, lock.BEAT = lock.BEAT, 0.01
    try:
        for number, tree in enumerate(states):
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name)
                put(tree, folder)
                found[verdict(folder, whole)] += 1
                if number % every == 0:
                    found[_went_on(folder, whole, run)] += 1
    finally:
        lock.BEAT = kept
    return found


def _went_on(folder: Path, whole: dict[str, bytes], run: Callable[[Path], Any]) -> str:
    try:
        run(folder)
    except Exception as error:
        return f"does not go on: {type(error).__name__}: {error}"
    there = set(os.listdir(folder))
    if files(folder / "a.zarr") != whole:
        return "goes on to another store"
    return "goes on, to the same bytes" + (
        f" beside {there - {'a.zarr'}}" if len(there) > 1 else ""
    )


def job(durable: bool = True) -> Callable[[Path], Any]:
    """Return a small run, that goes on where there is something to go on with."""
    how = {**OPTIONS, "durable": durable, "resume": True}
    movie, rois, _ = simulate(5, (40, 44), 100, fs=10.0, chunks=50)

    def run(folder: Path) -> Any:
        return xs2p.extract_to_zarr(movie, rois, folder / "a.zarr", **how)

    return run


def main() -> None:
    """Print how many states there are, and what each is found as."""
    run = job()
    with tempfile.TemporaryDirectory() as name:
        states, whole = states_of(Path(name), lambda: run(Path(name)))
    print("| power that goes at any moment of a run | states |\n|---|---|")
    print(f"| states that the disk may be found in | {len(states)} |")
    for what, count in replay(states, whole, run, every=10).most_common():
        print(f"| {what} | {count} |")


if __name__ == "__main__":
    main()
