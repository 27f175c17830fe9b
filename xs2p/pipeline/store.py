"""Runs that survive: traces go to a Zarr store region by region, and a killed run goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, NamedTuple

import xarray as xr

from xs2p._attrs import check_flag, check_number
from xs2p._names import explain_names, keywords, with_options_of
from xs2p._warnings import hearing
from xs2p.compute.device import kernels_named
from xs2p.compute.stopping import stoppable
from xs2p.disk.inputs import paths_read
from xs2p.disk.lock import LostLock, is_free, locked
from xs2p.disk.replace import holds_only_zarr, put_in_place, remove_written
from xs2p.pipeline import regions as _regions
from xs2p.pipeline.extract import extract, extracted, finished, relative_in
from xs2p.pipeline.history import Earlier, Session
from xs2p.pipeline.identity import check_same, digests_of, identity_of
from xs2p.pipeline.inputs import Job, check_job, method_or_baseline
from xs2p.pipeline.ledger import check_ledger, check_whole
from xs2p.pipeline.place import check_target, clear, lock_of, partial_path
from xs2p.pipeline.snr_filter import drop_noisy_rois, keep_rois
from xs2p.pipeline.spans import on_its_way, regions_of
from xs2p.pipeline.whole import Writer, complete, is_whole
from xs2p.traces.neuropil import ESTIMATED


@with_options_of(extract)
def extract_to_zarr(
    movie: xr.DataArray | str | os.PathLike[str],
    rois: xr.Dataset | str | os.PathLike[str],
    path: str | os.PathLike[str],
    *,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    frames_per_region: int | None = None,
    verify: bool = False,
    wait: float = 0.0,
    durable: bool = True,
    **options: Any,
) -> xr.Dataset:
    """Extract traces and spikes into a Zarr store, in a run that can be killed and resumed.

    The movie is read once. ``F`` and ``Fneu`` are written region by region, a region being some
    thousand frames and a file of the store; then ``Fc``, ``F0`` and ``spks`` are made from what is
    stored. A region is marked complete once it is on disk. With many ROIs a file is a shard of
    Zarr's: some million samples, in chunks of 500 ROIs or fewer that are read alone. Memory follows
    the movie's chunks and the number of ROIs, not the number of frames.

    Until it is complete the store is called ``<name>.partial.zarr`` and says in its attributes
    that it is unfinished; then it gets its name. A run that failed or was killed goes on with
    ``resume=True``, and only reads what is not on disk yet; the store is in the end the same, to
    the last byte but for its history: who made it and when, as :func:`xs2p.provenance` tells it.
    It also keeps the size and a checksum of each of its files, by which
    :func:`xs2p.check_store` tells whether they are still what was written.

    One run at a time writes a store: a lock beside it says which. That of a process that has
    ended, or gave no sign of life for a minute, is taken over, and a line of the log ``xs2p`` says
    so; who lost it writes no more.

    With a ``distributed.Client``, workers read and write: all must see the movie and the folder.
    What a worker had when it died is done again by others. A task that was on four workers that
    died fails the run, since it may be what they died of; where workers die of other things, as
    on nodes that are taken away, Dask's setting ``distributed.scheduler.allowed-failures`` allows
    more.

    Parameters
    ----------
    movie, rois
        As for :func:`xs2p.extract`.
    path
        The store, a folder whose name ends in ``.zarr``.
    resume
        Go on with the unfinished store of an earlier run, if there is one. It must be of the
        same movie (its size, labels, and first, middle and last frame are compared), ROIs and
        parameters.
    overwrite
        Replace an existing store, once the new one is complete.
    progress
        Show frames per second, gigabytes read and the time that is left; nothing where the
        output is no terminal.
    frames_per_region
        Frames of a region, by default a multiple of the movie's chunks that makes some 64 MB of
        each variable.
    verify
        On going on, compare the checksum of everything that is on disk, where otherwise sizes are
        compared; what does not hold is made anew, with a warning.
    wait
        For how many seconds to wait where another run is writing this store; then, or at once by
        default, that is an error.
    durable
        See to it that everything is on disk before it is marked, so that nothing is lost or wrong
        also where the power goes. False, for scratch, saves that; a run that is killed loses
        nothing then either.
    **options
        Of :func:`xs2p.extract`: ``fs``, ``tau``, ``baseline`` and so on. With ``snr_threshold``
        the pass that drops ROIs comes first; a resumed run has its result in the store.
        ``device`` and ``kernels``, as they were found, are among the parameters: a run that began
        on a GPU goes on on one, with the same.

    Returns
    -------
    Dataset
        The store, opened lazily.

    Raises
    ------
    FileExistsError
        The store, or an unfinished one, exists.
    BlockingIOError
        Another run is writing the store; the message says which, and since when.
    ValueError
        An input does not fit, or the store to resume was made from another movie, ROIs or
        parameters: the message names which.
    OSError, MemoryError
        A chunk of the movie cannot be read, or does not fit in the memory of a worker: the
        message names the file and the frames. Or another run has taken over the store, after this
        one gave no sign of life for a minute.

    Examples
    --------
    >>> ds = xs2p.extract_to_zarr(movie, rois, "traces.zarr", tau=1.0, resume=True)
    ... # doctest: +SKIP
    """
    how = How(resume, overwrite, progress, frames_per_region, verify, wait, durable).checked()
    growing = partial_path(os.path.abspath(os.fspath(path)))
    with hearing() as heard, stoppable(), disk_named(growing):
        return _run(movie, rois, path, options, heard, how)


class How(NamedTuple):
    """How a run goes; none of it is part of what it makes, but for the frames of a region."""

    resume: bool
    overwrite: bool
    progress: bool
    frames_per_region: int | None
    verify: bool
    wait: float
    durable: bool

    def checked(self) -> How:
        """Raise a ValueError where something is of a wrong kind."""
        for name in ("resume", "overwrite", "progress", "verify", "durable"):
            check_flag(name, getattr(self, name))
        check_number("wait", self.wait, low=0, unit="s")
        return self

    @property
    def adds(self) -> bool:
        """Whether what an earlier run has made is kept."""
        return self.resume and not self.overwrite


class Run(NamedTuple):
    """What is to be made, of what, and in which regions."""

    job: Job
    identity: dict[str, Any]
    regions: tuple[int, ...]
    session: Session


def prepared(
    movie: Any, rois: Any, options: dict[str, Any], heard: list[str], frames: int | None
) -> Run:
    """Check a job, and tell what it is made from; ``options`` are all of ``extract``'s."""
    job = on_its_way(check_job(movie, rois, **options))
    # Part of what a run is: a GPU may round otherwise than the CPU that goes on with it.
    kernels = kernels_named(job.device)
    options = {**options, "kernels": kernels, "device": "cpu" if kernels is None else "gpu"}
    if options["tau"] is None and job.decay is not None:  # the movie said it
        options["tau"] = job.decay.tau
    regions = regions_of(job, frames)
    session = Session(job, rois, kernels, heard)
    return Run(job, identity_of(job, options, regions), regions, session)


def _run(
    movie: Any, rois: Any, path: Any, options: dict[str, Any], heard: list[str], how: How
) -> xr.Dataset:
    given = paths_read(movie, rois, options.get("movie_chan2"))
    check_target(path, how.resume, how.overwrite, given)
    run = prepared(movie, rois, with_defaults(options), heard, how.frames_per_region)
    # Patterns and lists have become files by now.
    given |= paths_read(run.job.movie, run.job.movie_chan2)
    final, growing = check_target(path, how.resume, how.overwrite, given)
    lock = lock_of(growing)
    ended = not os.path.lexists(growing) and is_free(lock)
    if how.adds and ended and os.path.exists(final):
        return _whole(final, run.identity, how.verify)
    with locked(lock, growing, how.wait) as hold:
        check_target(path, how.resume, how.overwrite, given, alone=True)
        if how.adds and os.path.exists(final):  # another made it meanwhile
            return _whole(final, run.identity, how.verify)
        make(Writer(growing, hold, how.durable), run, how)
        hold.check()
        put_in_place(growing, final, how.overwrite, how.durable)
        if how.overwrite or how.resume:
            clear(final, given)
    return _regions.open_store(final)


def make(writer: Writer, run: Run, how: How) -> None:
    """Make a store, or what is missing of one that was begun."""
    job, traces = _begun(writer, run, how)
    fill(writer, job, traces, run.regions[0], how.progress, run.session)


def _begun(writer: Writer, run: Run, how: How) -> tuple[Job, xr.Dataset]:
    """Make the store, or see what of it is there; return what is to be written into it."""
    growing, job, identity = writer.store, run.job, run.identity
    goes_on = how.resume and os.path.exists(growing)
    if goes_on:
        check_same(identity, growing)
        check_ledger(growing)
    if job.snr_threshold > 0:
        # A run that goes on has the ratio in its store.
        known = _regions.open_store(growing)["snr"] if goes_on else None
        job = drop_noisy_rois(job) if known is None else keep_rois(job, known)
    traces, job = extracted(job, run.regions), job.without_first()
    whole = finished(traces, job)
    identity["labels"] = digests_of(whole)
    if goes_on:
        check_same(identity, growing)
        _regions.recheck(writer, how.verify)
    else:
        _regions.create(writer, whole, run.regions[0], json.dumps(identity))
    return job, traces


def _whole(final: str, run: dict[str, Any], verify: bool) -> xr.Dataset:
    """Open a store that an earlier run has finished."""
    check_same(run, final)
    if verify:
        check_whole(final)
    return _regions.open_store(final)


def fill(
    writer: Writer,
    job: Job,
    traces: xr.Dataset,
    frames: int,
    progress: bool,
    session: Session | Earlier,
) -> None:
    """Write all that is not in a store yet, and make it a finished one."""
    store = writer.store
    if is_whole(store):  # a run was killed in the midst of making it one
        complete(writer)
        return
    try:
        session.begin(store)
        _write(writer, job, traces, frames, progress)
        session.end(store)
        complete(writer)
    except BaseException as error:
        if not isinstance(error, LostLock):
            _check_not_gone(store, error)
        if _keep_what_is_done(writer, error):
            with contextlib.suppress(Exception):  # a disk that takes no more
                session.end(store, error)
        raise


def _write(writer: Writer, job: Job, traces: xr.Dataset, frames: int, progress: bool) -> None:
    """Write what is not on disk yet: what is extracted, then what is made of that."""
    _regions.write_traces(writer, traces, frames, job.movie, progress)
    stored = _regions.open_store(writer.store)
    variables = {n: v.drop_attrs(deep=False).assign_attrs(v.attrs) for n, v in traces.items()}
    same = xr.Dataset({n: v.copy(data=stored[n].data) for n, v in variables.items()})
    rest = finished(same, job, in_passes=True)
    _regions.write_rest(writer, rest, progress)
    _write_found(writer, job, rest)


def _write_found(writer: Writer, job: Job, rest: xr.Dataset) -> None:
    """Write what is known of each ROI once its traces are there; lazily they were made again."""
    coefficients = [name for name in ESTIMATED if name in rest.data_vars]
    if coefficients:
        _regions.write_found(writer, xr.Dataset({n: rest[n].variable for n in coefficients}))
    if not job.dff:
        return
    made = relative_in(_regions.open_store(writer.store), job, in_passes=True)
    found = xr.Dataset({name: made[name] for name in ("noise", "dff_flag")})
    _regions.write_found(writer, found.compute())


def with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of :func:`xs2p.extract`, which also knows which there are."""
    defaults = keywords(extract)
    other = {name: value for name, value in options.items() if name not in defaults}
    explain_names("extract_to_zarr", extract_to_zarr, other)
    options = {**defaults, **options}
    method, baseline = method_or_baseline(options["method"], options["baseline"])
    return {**options, "method": method, "baseline": baseline}


@contextlib.contextmanager
def disk_named(store: str) -> Iterator[None]:
    """Name the store where its disk takes no more, is over the quota, read-only or broken.

    Errors of reading a movie name it themselves, and have no number.
    """
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = store
        raise


def _check_not_gone(store: str, error: BaseException) -> None:
    """Raise, in place of whatever followed from it, where the store is no longer there."""
    if os.path.exists(os.path.join(store, "zarr.json")) or not isinstance(error, Exception):
        return
    if holds_only_zarr(store):
        remove_written(store)  # chunks that were being written when it went
    raise FileNotFoundError(
        f"{store} has gone: it was renamed or deleted, or its disk taken away, while this run "
        "wrote to it. Give it its name back, and resume=True goes on with it; without it, "
        "resume=True starts anew"
    ) from error


def _keep_what_is_done(writer: Writer, error: BaseException) -> bool:
    """Say how to go on; whether anything is kept, and is still ours."""
    store = writer.store
    try:
        writer.hold.check()
        done = _regions.done_regions(store, 0)
    except Exception:  # the store has gone, or is another's: that error is not the one to tell
        return False
    if done is not None and not done.any():
        _regions.discard(store)
        remove_written(store)  # what threads have made again
        return False
    part = "all" if done is None else f"{int(done.sum())} of {done.size} regions"
    error.add_note(f"{part} of F are kept in {store}; resume=True goes on from there")
    return True
