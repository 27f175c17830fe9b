"""Whether a finished store is what was written, and how what is not is made anew."""

from __future__ import annotations

import inspect
import json
import os
import re
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._attrs import TRACES
from xs2p._warnings import names, warn
from xs2p.disk.lock import locked
from xs2p.disk.replace import put_in_place
from xs2p.disk.traces import groups_in, place_of
from xs2p.pipeline import regions as _regions
from xs2p.pipeline.extract import extract, extracted, finished
from xs2p.pipeline.history import Earlier
from xs2p.pipeline.identity import check_same, identity_of
from xs2p.pipeline.inputs import Job, check_job
from xs2p.pipeline.ledger import faults, read_ledger
from xs2p.pipeline.marks import DONE, files_of, grids_of, write_mark
from xs2p.pipeline.place import clear, left_behind, lock_of, partial_path
from xs2p.pipeline.snr_filter import keep_rois
from xs2p.pipeline.spans import on_its_way, regions_of
from xs2p.pipeline.store import fill, with_defaults
from xs2p.pipeline.whole import Writer

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("file", "variable", "first_roi", "last_roi", "first_frame", "last_frame", "fault")


def check_store(path: str | os.PathLike[str]) -> pd.DataFrame:
    """Check whether a store of :func:`xs2p.extract_to_zarr` is still what was written.

    Every file of it is read, and compared by size and checksum with what the run wrote. What has
    been added since is passed over.

    Parameters
    ----------
    path
        The finished store; also one of ``tree.s2p.extract_to_zarr``, or a group of it.

    Returns
    -------
    DataFrame
        A row for each file that is not what was written, none where all are: ``file`` within the
        store, ``variable``, the numbers of the first and last ROI and frame in it, counted from 0
        (-1 where it is of none), and the ``fault``.

    Raises
    ------
    FileNotFoundError
        There is no store.
    ValueError
        It is not finished, has no checksums, or these are damaged themselves.

    See Also
    --------
    xs2p.repair_store : makes anew what is damaged.

    Examples
    --------
    >>> xs2p.check_store("traces.zarr").empty  # doctest: +SKIP
    True
    """
    import pandas as pd

    store = _finished(path)
    ledger, _ = read_ledger(store)
    for old in left_behind(store):
        warn(
            f"{old} is what {store} was before a run that was killed as it replaced it; the next "
            "run into that store removes it, or delete it"
        )
    found = faults(store, ledger)
    for group in groups_in(store) or ():
        place = place_of(store, group)
        its = faults(place, read_ledger(place)[0]) if os.path.isdir(place) else {"": "missing"}
        found |= {f"{group.strip('/')}/{name}".rstrip("/"): why for name, why in its.items()}
    rows = [(name, *_where(store, name), why) for name, why in found.items()]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def repair_store(
    path: str | os.PathLike[str],
    movie: xr.DataArray | str | os.PathLike[str],
    rois: xr.Dataset | str | os.PathLike[str] | None = None,
    *,
    progress: bool = True,
    **options: Any,
) -> pd.DataFrame:
    """Make anew what is damaged in a store of :func:`xs2p.extract_to_zarr`, to the same bits.

    Only what is damaged is read from the movie. It is put together beside the store, with what is
    sound, and takes its place once every file has the checksum that the run wrote down; until then
    the store stays as it is.

    Parameters
    ----------
    path
        The finished store; of one with several groups the path of a group in it, as
        ``"traces.zarr/plane0"``.
    movie, rois
        What it was made from. ROIs are taken from the store, unless they are given.
    progress
        Show frames per second, gigabytes read and the time that is left.
    **options
        Of :func:`xs2p.extract`, such as the store keeps no copy of: ``movie_chan2``, and
        ``valid``, ``segments``, ``tau``, ``dark_offset`` and ``neuropil_coefficient`` where they
        were arrays.

    Returns
    -------
    DataFrame
        What was damaged, as of :func:`xs2p.check_store`.

    Raises
    ------
    ValueError
        The movie, ROIs or parameters are others than the store was made from, or what is made of
        them is not what was written.
    BlockingIOError
        A run is writing a store of this name.
    """
    _check_single(path)
    damaged = check_store(path)
    if damaged.empty:
        return damaged
    final = _finished(path)
    ledger, text = read_ledger(final)
    job, regions = _job_again(final, json.loads(text), movie, rois, options, damaged)
    growing = partial_path(final)
    with locked(lock_of(growing), growing) as hold:
        if os.path.lexists(growing):
            mend = "resume=True, overwrite=True of extract_to_zarr goes on with it"
            mend = mend if final.endswith(".zarr") else "delete it"  # a repair of a group
            raise FileExistsError(f"{growing} exists, from a run that did not end; {mend}")
        writer = Writer(growing, hold, durable=True)
        traces = extracted(job, regions)
        _regions.create(writer, finished(traces, job), regions[0], text)
        if _lie_otherwise(final, growing):
            _regions.discard(growing)
            raise ValueError(
                f"{final} cannot be repaired, and is as it was: its arrays are in other files than "
                "this version of xs2p writes; extract anew with overwrite=True"
            )
        _adopt(final, growing, set(damaged["file"]))
        fill(writer, job, traces, regions[0], progress, Earlier(final))
        made, _ = read_ledger(growing)
        # Those of the store also tell who made it; its arrays have files of their own.
        compared = {**ledger, **made}.keys() - {"zarr.json"}
        other = [name for name in compared if ledger.get(name) != made.get(name)]
        if other:
            _regions.discard(growing)
            raise ValueError(
                f"{final} cannot be repaired, and is as it was: {names(sorted(other), 3)}, made "
                "anew, is not what was written, with other versions of libraries or on other "
                "hardware; extract anew with overwrite=True"
            )
        hold.check()
        put_in_place(growing, final, overwrite=True)
        clear(final)
    return damaged


def _check_single(path: str | os.PathLike[str]) -> None:
    """Raise a ValueError where a store has several groups: each is made of its own movie."""
    groups = groups_in(os.fspath(path))
    if groups is not None:
        first = place_of(os.fspath(path), groups[0])
        raise ValueError(
            f"{os.fspath(path)} has the groups {names(groups)}, each of a movie of its own: repair "
            f"the one that is damaged, as {first!r}"
        )


def _lie_otherwise(final: str, growing: str) -> bool:
    """Whether any array that can be read is in other files than it would be written in now."""
    for name in {name for stage in range(len(DONE)) for name in grids_of(growing, stage)}:
        shapes = []
        for store in (final, growing):
            try:
                with open(os.path.join(store, name, "zarr.json"), "rb") as file:
                    shapes.append(json.load(file)["chunk_grid"]["configuration"]["chunk_shape"])
            except (OSError, ValueError, KeyError, TypeError):  # that is what is damaged
                break
        if len(shapes) == 2 and shapes[0] != shapes[1]:
            return True
    return False


def _adopt(final: str, growing: str, damaged: set[str]) -> None:
    """Let a new store have what is sound of an old one, and mark it as done."""
    for stage in range(len(DONE)):
        grids = grids_of(growing, stage)
        shape = next(iter(grids.values()))[-1 - stage :] if grids else ()
        for where in np.ndindex(*shape):
            files = list(files_of(grids, where))
            for file in set(files) - damaged:
                _link(os.path.join(final, file), os.path.join(growing, file))
            if not damaged.intersection(files):
                write_mark(growing, stage, where, durable=True)


def _link(old: str, new: str) -> None:
    try:
        os.link(old, new)
    except FileNotFoundError:  # a chunk of nothing but NaN has no file
        pass
    except OSError:  # the disk has no links
        shutil.copyfile(old, new)


def _finished(path: str | os.PathLike[str]) -> str:
    store = os.path.abspath(os.fspath(path))
    if not os.path.isdir(store):
        old = left_behind(store)
        mend = f"; {old[-1]} is what it was before a run that was killed: rename it" if old else ""
        raise FileNotFoundError(f"there is no store {os.fspath(path)!r}{mend}")
    if store.endswith(".partial.zarr"):
        raise ValueError(
            f"{store} is not finished: extract_to_zarr goes on with it with resume=True, and "
            "checks what is there with verify=True"
        )
    return store


def _where(store: str, name: str) -> tuple[str, int, int, int, int]:
    """Variable, first and last ROI, first and last frame of a file; -1 where it is of none."""
    variable, _, key = name.partition("/c/")
    nowhere = -1, -1, -1, -1
    if not key:
        variable = name.removesuffix("zarr.json").rstrip("/") or "(metadata of the store)"
        return variable, *nowhere
    try:
        with open(os.path.join(store, variable, "zarr.json"), "rb") as file:
            array = json.load(file)
        chunks = array["chunk_grid"]["configuration"]["chunk_shape"]
        spans = {
            dim: (at * chunk, min((at + 1) * chunk, size) - 1)
            for dim, at, chunk, size in zip(
                array["dimension_names"],
                map(int, key.split("/")),
                chunks,
                array["shape"],
                strict=True,
            )
        }
    except (OSError, ValueError, KeyError, TypeError):
        return variable, *nowhere
    return variable, *spans.get("roi", (-1, -1)), *spans.get("time", (-1, -1))


def _job_again(
    store: str, run: dict[str, Any], movie: Any, rois: Any, options: dict[str, Any], damaged: Any
) -> tuple[Job, tuple[int, ...]]:
    """Return the job that a store was made by, and its regions."""
    now = {name: value for name, value in run.items() if _is_said(value)}
    own = rois is None
    if own:
        rois, now["snr_threshold"] = _rois_of(store, damaged), 0.0
    known = inspect.signature(extract).parameters
    options = with_defaults({**{n: v for n, v in now.items() if n in known}, **options})
    job = on_its_way(check_job(movie, rois, **options))
    regions = regions_of(job, run["frames_per_region"])
    again = identity_of(job, options, regions)
    for name in ("labels", *(("rois", "snr_threshold") if own else ())):
        run.pop(name, None)
        again.pop(name, None)
    check_same(again, store, run)
    if job.snr_threshold > 0:
        job = keep_rois(job, _regions.open_store(store)["snr"])
    return job, regions


def _is_said(value: Any) -> bool:
    """Whether what a run says of an option is the option itself, and not its digest."""
    digest = isinstance(value, str) and re.fullmatch("[0-9a-f]{32}", value)
    return not digest and not isinstance(value, dict)


def _rois_of(store: str, damaged: pd.DataFrame) -> xr.Dataset:
    """Return the ROI set that a store carries, where that is not damaged itself."""
    of_traces = [name for name in damaged["file"] if "/c/" in name and name.split("/")[0] in TRACES]
    others = sorted(set(damaged["file"]) - set(of_traces))
    if others:
        raise ValueError(
            f"{store}: the ROIs that it carries may be damaged ({names(others, 3)}): give those "
            "that it was made from, rois="
        )
    return _regions.open_store(store)
