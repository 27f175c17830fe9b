"""What a run is made from: what a store must have been made from for a run to go on with it."""

from __future__ import annotations

import hashlib
import inspect
import json
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY
from xs2p._version import RESULTS, RESULTS_TOO, __version__
from xs2p._warnings import names
from xs2p.compute.arrays import to_host
from xs2p.compute.cluster import naming_what_was_lost
from xs2p.disk.traces import groups_in
from xs2p.pipeline.extract import extract
from xs2p.pipeline.inputs import Job
from xs2p.pipeline.marks import RUN
from xs2p.rois.pixels import pixel_table

_MOVIES = ("movie", "movie_chan2")
FORMAT = "results_format"  # of a run: the number that says what its results are


def identity_of(job: Job, options: dict[str, Any], regions: tuple[int, ...]) -> dict[str, Any]:
    """Tell what makes a run this one: movie, ROIs, parameters, and what its results are."""
    table = pixel_table(job.rois)
    identity: dict[str, Any] = {
        "movie": _fingerprint(job.movie),
        "rois": _digest(*table[:-1], job.rois["radius"].values, *table.shape),
    }
    for name, value in options.items():
        if name == "movie_chan2":
            value = None if job.movie_chan2 is None else _fingerprint(job.movie_chan2)
        elif name in ("valid", "segments"):
            value = job.frames_said(name)
        if isinstance(value, xr.DataArray | np.ndarray) and np.ndim(value):
            value = _digest(np.asarray(value))
        identity[name] = _plain(value)
    identity |= {"frames_per_region": regions[0], "xs2p_version": __version__}
    return {**identity, FORMAT: RESULTS}


def digests_of(ds: xr.Dataset) -> dict[str, str]:
    """Whatever labels a result: planes, status, what the user has put there."""
    return {str(n): _digest(c.values) for n, c in sorted(ds.coords.items())}


def _plain(value: Any) -> Any:
    """Return a number of Python's for one of numpy's."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and not value.ndim else value


@naming_what_was_lost()
def _fingerprint(movie: xr.DataArray) -> dict[str, Any]:
    """Size, dtype, labels, and what is in the first frame, the middle one and the last."""
    import dask

    n = movie.sizes["time"]
    # Dask can push a slice into a read; a list of frames reads whole chunks.
    picked = [movie.isel(time=slice(i, i + 1)).data for i in sorted({0, n // 2, n - 1})]
    some = [to_host(part) for part in dask.compute(*picked)]
    labels = [movie["time"].values] if "time" in movie.coords else []
    return {
        "shape": list(movie.shape),
        "dtype": str(movie.dtype),
        "fs": _plain(movie.attrs.get("fs")),
        "units": _unit_of(movie),
        "content": _digest(*some, *labels),
    }


def _unit_of(movie: xr.DataArray) -> str:
    """Return the unit; what is arbitrary by the name that it had when first runs were stored."""
    unit = str(movie.attrs.get("units"))
    return "a.u." if unit == ARBITRARY else unit


def _digest(*arrays: Any) -> str:
    digest = hashlib.sha256()
    for array in map(np.asarray, arrays):
        digest.update(f"{array.dtype}{array.shape}".encode())
        text = array.dtype.kind in "OT"  # memory holds addresses
        digest.update(str(array.tolist()).encode() if text else array.tobytes())
    return digest.hexdigest()[:32]


def check_same(run: dict[str, Any], store: str, kept: dict[str, Any] | None = None) -> None:
    """Raise, naming what differs, unless a store was made from the same (or ``kept`` was)."""
    import zarr

    groups = groups_in(store) if kept is None else None
    if groups is not None:
        raise ValueError(
            f"{store} has the groups {names(groups)}, of tree.s2p.extract_to_zarr, and is no store "
            "of one movie; choose another store"
        )
    try:
        if kept is None:
            kept = dict(json.loads(str(zarr.open_group(store, mode="r").attrs[RUN])))
    except Exception as error:
        raise ValueError(
            f"{store} is no store that extract_to_zarr made; overwrite=True replaces it"
        ) from error
    run, kept = _with_rate(json.loads(json.dumps(run))), _with_rate(kept)
    _check_format(run, kept, store)
    differs = []
    for name in dict.fromkeys([*run, *kept]):
        if name == "labels" and name not in run:  # these come out later
            continue
        # An option that the version which began had not: what it does by default is the same.
        now, then = run.get(name), kept.get(name, _default(name))
        if now == then or name in ("xs2p_version", FORMAT):
            continue
        if isinstance(now, dict) and isinstance(then, dict):
            parts = [part for part in {**now, **then} if now.get(part) != then.get(part)]
            differs.append(f"other {name} ({', '.join(parts)})")
        elif name == "rois" or isinstance(now, dict) or isinstance(then, dict):
            differs.append(f"other {name}")
        else:
            differs.append(f"{name}={then!r}, and {now!r} is given now")
    if differs:
        raise ValueError(
            f"{store} cannot be resumed: it was made with {'; '.join(differs)}. Give what "
            "it was made with, choose another store, or start anew with overwrite=True, "
            "resume=False"
        )


def _with_rate(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run with the frame rate that it goes by: given, or what the movie says, is one."""
    said = [run.get("fs"), *((run.get(name) or {}).get("fs") for name in _MOVIES)]
    rate = next((fs for fs in said if fs is not None), None)
    movies = {name: {**run[name], "fs": rate} for name in _MOVIES if run.get(name)}
    return {**run, **movies, "fs": rate}


def _default(name: str) -> Any:
    known = inspect.signature(extract).parameters.get(name)
    plain = known is not None and known.kind is known.KEYWORD_ONLY
    return json.loads(json.dumps(known.default)) if plain and known is not None else None


def _check_format(run: dict[str, Any], kept: dict[str, Any], store: str) -> None:
    """Raise, naming the version, where another one began a run whose results are not these.

    Before there was the number, results went by the version.
    """
    then, now = kept.get("xs2p_version"), run["xs2p_version"]
    if kept.get(FORMAT, None if then != now else run[FORMAT]) in (run[FORMAT], *RESULTS_TOO):
        return
    raise ValueError(
        f"{store} cannot be resumed: xs2p {then} made it, whose results are of format "
        f"{kept.get(FORMAT, 0)}, and those of xs2p {now} of format {run[FORMAT]}. Go on with "
        f"pip install xs2p=={then}, choose another store, or start anew with overwrite=True, "
        "resume=False"
    )
