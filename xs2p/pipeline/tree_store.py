"""One store for the groups of a tree: each is the store of a run of its own, within a larger one.

A group's store is made, marked and checked as that of a single movie is. One lock beside the whole
says who writes; the whole gets its name once every group in it is complete.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from typing import Any

import xarray as xr

from xs2p._attrs import GROUPS, LEDGER, UNFINISHED
from xs2p._names import explain_names, keywords, with_options_of
from xs2p._version import __version__
from xs2p._warnings import hearing, names, warn
from xs2p.compute.stopping import stoppable
from xs2p.disk.inputs import paths_read
from xs2p.disk.lock import is_free, locked
from xs2p.disk.replace import HALF_WRITTEN, put_bytes, put_in_place, remove_written
from xs2p.disk.traces import groups_in, groups_to, open_tree, place_of
from xs2p.pipeline import regions as _regions
from xs2p.pipeline.identity import check_same
from xs2p.pipeline.ledger import (
    check_ledger,
    check_whole,
    empty_ledger,
    faults,
    read_ledger,
    write_ledger,
)
from xs2p.pipeline.marks import sum_of
from xs2p.pipeline.place import check_target, clear, lock_of, partial_path
from xs2p.pipeline.store import How, Run, disk_named, extract_to_zarr, make, prepared, with_defaults
from xs2p.pipeline.tree import check_beside, groups_above, naming_group, rois_of_groups
from xs2p.pipeline.whole import Writer, clear_half_written, consolidated, is_whole

_UNFINISHED = "not all groups are there; tree.s2p.extract_to_zarr resumes the run"
_FROM_STORE = ("resume", "overwrite", "progress", "frames_per_region", "verify", "wait", "durable")


@with_options_of(extract_to_zarr)
def extract_tree_to_zarr(
    tree: xr.DataTree,
    path: str | os.PathLike[str],
    rois: xr.Dataset | xr.DataTree | Mapping[str, Any] | None = None,
    *,
    movie: str = "movie",
    **options: Any,
) -> xr.DataTree:
    """Extract every group that has a movie into one Zarr store, in a run that can be resumed.

    Planes or sessions, the groups of the tree, become groups of the store. They are made one after
    the other, each as :func:`xs2p.extract_to_zarr` makes it: region by region, marked once it is on
    disk, with a checksum of each file. A movie is read once; planes that lie in the same chunks of
    one array, as frames in turn do, read these once for each plane.

    Until all groups are complete the store is called ``<name>.partial.zarr``. A run that failed or
    was killed goes on with ``resume=True``: it passes over groups that are complete, and the store
    is in the end the same to the last byte, but for its history. One run at a time writes a store.
    :func:`xs2p.check_store` looks at all groups; :func:`xs2p.repair_store` takes one of them, by
    its path in the store.

    Parameters
    ----------
    tree, rois, movie
        As for :func:`xs2p.pipeline.tree.extract_tree`.
    path
        The store, a folder whose name ends in ``.zarr``.
    **options
        Of :func:`xs2p.extract_to_zarr`, the same for all groups: ``resume``, ``overwrite``,
        ``tau`` and so on.

    Returns
    -------
    DataTree
        The store, opened lazily: traces ``(roi, time)`` in the place of each group that has a
        movie. ``xr.open_datatree(path, engine="xs2p")`` opens it again.

    Raises
    ------
    FileExistsError
        The store, or an unfinished one, exists.
    BlockingIOError
        Another run is writing the store; the message says which, and since when.
    ValueError
        No group has a movie, an input does not fit, or the store to resume was made from other
        groups, movies, ROIs or parameters; with the path of the group. All groups are looked at
        before any work.
    OSError, MemoryError
        As :func:`xs2p.extract_to_zarr`.

    Examples
    --------
    >>> tree = xr.open_datatree("suite2p", engine="suite2p", movie=True)  # doctest: +SKIP
    >>> traces = tree.s2p.extract_to_zarr("traces.zarr", resume=True)  # doctest: +SKIP
    """
    defaults = keywords(extract_to_zarr)
    known = keywords(extract_tree_to_zarr)
    other = {name: value for name, value in options.items() if name not in known}
    explain_names("extract_to_zarr", extract_tree_to_zarr, other)
    how = How(*(options.get(name, defaults[name]) for name in _FROM_STORE)).checked()
    of_extract = with_defaults({n: v for n, v in options.items() if n not in _FROM_STORE})
    given = rois_of_groups(tree, rois, movie)
    check_beside(list(given))
    for group in given:
        _check_name(group)
    growing = partial_path(os.path.abspath(os.fspath(path)))
    with stoppable(), disk_named(growing):
        return _run(tree, path, given, movie, of_extract, how)


def _check_name(group: str) -> None:
    """Raise where a group cannot be a folder of a store, or would be taken for one of its own."""
    for name in group.strip("/").split("/"):
        taken = name in ("c", "zarr.json") or name.startswith((".", "__", "xs2p_"))
        if taken or "\\" in name or not name or HALF_WRITTEN.search(name):
            why = "it is the tree's root: put the movie into a group" if not name else repr(name)
            raise ValueError(
                f"the group {group!r} cannot be one of a store ({why}); rename it, as in "
                "xr.DataTree.from_dict({'plane0': ds})"
            )


def _run(
    tree: xr.DataTree,
    path: Any,
    rois: Mapping[str, Any],
    movie: str,
    options: dict[str, Any],
    how: How,
) -> xr.DataTree:
    movies = {group: tree[group].dataset[movie] for group in rois}
    read = paths_read(*movies.values(), *rois.values(), options.get("movie_chan2"))
    check_target(path, how.resume, how.overwrite, read)
    runs: dict[str, Run] = {}
    for group, its_rois in rois.items():
        with naming_group(group), hearing() as heard:
            how_cut = how.frames_per_region
            runs[group] = prepared(movies[group], its_rois, options, heard, how_cut)
    final, growing = check_target(path, how.resume, how.overwrite, read)
    lock = lock_of(growing)
    ended = not os.path.lexists(growing) and is_free(lock)
    if how.adds and ended and os.path.exists(final):
        return _whole(final, runs, how.verify)
    with locked(lock, growing, how.wait) as hold:
        check_target(path, how.resume, how.overwrite, read, alone=True)
        if how.adds and os.path.exists(final):  # another made it meanwhile
            return _whole(final, runs, how.verify)
        writer = Writer(growing, hold, how.durable)
        if how.resume and os.path.exists(growing):
            _check_begun(growing, runs)
        else:
            _create(writer, tree, list(runs))
        _fill(writer, runs, how)
        _complete(writer, list(runs))
        hold.check()
        put_in_place(growing, final, how.overwrite, how.durable)
        if how.overwrite or how.resume:
            clear(final, read)
    return open_tree(final)


def _create(writer: Writer, tree: xr.DataTree, groups: list[str]) -> None:
    """Make a store that has the groups above those with movies, and what it is to become."""
    growing = writer.store
    new = _regions.scratch_of(growing)
    _regions.discard(growing)
    try:
        above = xr.DataTree.from_dict(groups_above(tree, groups))
        told = {GROUPS: json.dumps(groups), UNFINISHED: _UNFINISHED, "xs2p_version": __version__}
        above.attrs = {**above.attrs, **told}
        above.to_zarr(new, consolidated=False)
        empty_ledger(new)
        put_in_place(new, growing, overwrite=False, durable=writer.durable)
    except BaseException:
        remove_written(new)
        raise


def _check_begun(store: str, runs: Mapping[str, Run]) -> None:
    """Raise unless a store is of these groups, and each of what is there was made from the same."""
    begun = groups_in(store)
    if begun is None:
        raise ValueError(
            f"{store} cannot be resumed: it is not of a DataTree; choose another store, or start "
            "anew with overwrite=True, resume=False"
        )
    if sorted(begun) != sorted(runs):
        raise ValueError(
            f"{store} cannot be resumed: it was made with the groups {', '.join(begun)}, and "
            f"{', '.join(runs)} are given now. Give what it was made with, choose another store, "
            "or start anew with overwrite=True, resume=False"
        )
    check_ledger(store)
    for group, run in runs.items():
        place = place_of(store, group)
        if os.path.exists(place):
            with naming_group(group):
                check_same(run.identity, place)


def _whole(final: str, runs: Mapping[str, Run], verify: bool) -> xr.DataTree:
    """Open a store that an earlier run has finished."""
    _check_begun(final, runs)
    lost = [group for group in runs if not os.path.isdir(place_of(final, group))]
    if lost:
        raise ValueError(
            f"{final} was complete, and lacks {names(lost)} now; overwrite=True, resume=False "
            "extracts anew"
        )
    for group in runs if verify else ():
        check_whole(place_of(final, group))
    if verify:
        check_whole(final)
    return open_tree(final)


def _fill(writer: Writer, runs: Mapping[str, Run], how: How) -> None:
    """Make every group that is not complete yet."""
    for group, run in runs.items():
        place = place_of(writer.store, group)
        its = Writer(place, writer.hold, writer.durable)
        try:
            with naming_group(group), hearing() as heard:
                run.session.hears(heard)
                _recheck(place, how.verify)
                make(its, run, how)
        except BaseException as error:
            _tell_what_is_kept(writer, runs, error)
            raise


def _recheck(place: str, verify: bool) -> None:
    """Take away a complete group that is not what was written any more, so that it is made anew."""
    if not (os.path.exists(place) and is_whole(place)):
        return
    found = faults(place, read_ledger(place)[0], verify)
    if found:
        shown = names([f"{name}: {why}" for name, why in found.items()], 3)
        warn(f"{place} is not what was written any more ({shown}), and is made anew")
        _regions.discard(place)


def _tell_what_is_kept(writer: Writer, runs: Mapping[str, Run], error: BaseException) -> None:
    """Say how many groups are complete; a store in which nothing is goes."""
    places = [place_of(writer.store, group) for group in runs]
    try:
        writer.hold.check()
        there = [place for place in places if os.path.exists(place)]
        done = sum(is_whole(place) for place in there)
    except Exception:  # the store has gone, or is another's
        return
    if not there:
        _regions.discard(writer.store)
        remove_written(writer.store)
    elif done:
        error.add_note(f"{done} of {len(places)} groups of {writer.store} are complete")


def _complete(writer: Writer, groups: Iterable[str]) -> None:
    """Make a store whose groups are complete a finished one: by one file, put in place at once."""
    store = writer.store
    if is_whole(store):  # a run was killed in the midst of making it one
        return
    clear_half_written(store)
    members = {name for name in os.listdir(store) if os.path.isdir(os.path.join(store, name))}
    root = _metadata(store)
    told = json.dumps({GROUPS: json.dumps(list(groups)), "xs2p_version": __version__})
    above = {path for group in groups for path in groups_to(group)} - {"/"}
    files = sorted(f"{path.strip('/')}/zarr.json" for path in above)
    sums = {name: sum_of(os.path.join(store, name)) for name in files}
    write_ledger(store, sums, root, told, writer.durable, without=members)
    writer.hold.check()
    within = os.path.join(store, LEDGER)
    put_bytes(root, os.path.join(store, "zarr.json"), writer.durable, made_in=within)


def _metadata(store: str) -> bytes:
    """Metadata of the finished store, with those of all in it."""
    files = {}
    for within, folders, inside in os.walk(store):
        folders[:] = sorted(name for name in folders if name not in (LEDGER, "c"))
        if "zarr.json" in inside:
            path = os.path.join(within, "zarr.json")
            with open(path, "rb") as file:
                held = json.load(file)
            held.pop("consolidated_metadata", None)
            held["attributes"].pop(UNFINISHED, None)
            key = os.path.relpath(path, store).replace(os.sep, "/")
            files[key] = json.dumps(held).encode()
    return consolidated(files)
