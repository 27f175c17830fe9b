"""The history of a store: who worked on it, when, by what, and what was warned of."""

from __future__ import annotations

import datetime
import os
import platform
import time
from typing import Any

from xs2p._version import __version__
from xs2p.compute.cluster import has_client
from xs2p.compute.device import gpu_status
from xs2p.disk.inputs import paths_read
from xs2p.pipeline.inputs import Job
from xs2p.pipeline.sessions import put_sessions, sessions_in

_PACKAGES = ("numpy", "scipy", "pandas", "xarray", "dask", "distributed", "zarr", "numba")
_MOST_FILES = 100  # that are listed of a movie


class Session:
    """One process's work on a store, from its start to its end."""

    def __init__(self, job: Job, rois: Any, kernels: str | None, heard: list[str]) -> None:
        self._began = time.monotonic()
        on_gpu = job.device != "cpu"
        self._said: dict[str, Any] = {
            "start": now(),
            "end": None,
            "seconds": None,
            "ended": None,
            "host": platform.node(),
            "pid": os.getpid(),
            "movie": _movie(job.movie),
            "movie_chan2": None if job.movie_chan2 is None else _movie(job.movie_chan2),
            "rois": _files(rois) | {"number": job.rois.sizes["roi"]},
            "versions": versions(),
            "device": gpu_status()[1] if on_gpu else f"cpu ({platform.machine()})",
            "kernels": kernels,
            "workers": _workers(),
            "warnings": heard,
        }

    def hears(self, heard: list[str]) -> None:
        """Keep what is heard from now on, after what was heard before."""
        heard[:0] = [text for text in self._said["warnings"] if text not in heard]
        self._said["warnings"] = heard

    def begin(self, store: str) -> None:
        """Note the start in an unfinished store."""
        self._before = sessions_in(store)
        self._write(store)

    def end(self, store: str, error: BaseException | None = None) -> None:
        """Note the end; ``error`` is what ended it early."""
        # By a clock that nobody sets.
        self._said |= {"end": now(), "seconds": round(time.monotonic() - self._began, 3)}
        self._said["ended"] = (
            "complete" if error is None else f"{type(error).__name__}: {error}".strip(": ")
        )
        self._write(store)

    def _write(self, store: str) -> None:
        _put(store, [*self._before, self._said])


class Earlier:
    """Sessions that a store keeps which is made anew to the same bits."""

    def __init__(self, store: str) -> None:
        try:
            self._sessions = sessions_in(store)
        except Exception:  # what is damaged may be what tells of them
            self._sessions = []

    def begin(self, store: str) -> None:
        """Put them into the store that is made."""
        _put(store, self._sessions)

    def end(self, store: str, error: BaseException | None = None) -> None:
        """Leave them as they are."""


def _put(store: str, sessions: list[dict[str, Any]]) -> None:
    if os.path.exists(os.path.join(store, "zarr.json")):  # else it has gone: nothing was done
        put_sessions(store, sessions)


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of what results may depend on, where installed."""
    import importlib.metadata

    found = {"xs2p": __version__, "python": platform.python_version()}
    for package in (*_PACKAGES, "cupy", "cupy-cuda12x", "cupy-cuda13x"):
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def now() -> str:
    """Return the time of day in UTC, as ISO 8601 writes it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _movie(movie: Any) -> dict[str, Any]:
    return {"source": movie.attrs.get("source"), **_files(movie)}


def _files(read: Any) -> dict[str, Any]:
    """Paths of what is read, with the bytes of files; of folders only the path."""
    found = sorted(os.path.abspath(path) for path in paths_read(read))
    sizes = {path: os.path.getsize(path) if os.path.isfile(path) else None for path in found}
    known = [size for size in sizes.values() if size is not None]
    return {
        "files": [{"path": p, "bytes": size} for p, size in list(sizes.items())[:_MOST_FILES]],
        "number_of_files": len(sizes),
        "bytes": sum(known) if len(known) == len(sizes) and known else None,
    }


def _workers() -> int | None:
    """Workers of the cluster; None where this process does the work."""
    if not has_client():
        return None
    from distributed import get_client

    return len(get_client().scheduler_info(n_workers=-1)["workers"])
