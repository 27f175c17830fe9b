"""Runs that survive: traces go to a Zarr store region by region, and a killed run goes on."""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
from collections.abc import Iterable, Iterator
from typing import Any

import xarray as xr

from xs2p._attrs import check_flag
from xs2p._names import explain_names, with_options_of
from xs2p._warnings import hearing
from xs2p.compute.device import kernels_named
from xs2p.compute.stopping import stoppable
from xs2p.disk.inputs import paths_read
from xs2p.disk.replace import (
    check_place,
    foreign_store,
    holds_only_zarr,
    put_in_place,
    remove,
    remove_written,
)
from xs2p.movie.array import open_array
from xs2p.movie.chunks import TARGET_BYTES
from xs2p.pipeline import regions as _regions
from xs2p.pipeline.extract import extract, extracted, finished, relative_in
from xs2p.pipeline.history import Session, settle
from xs2p.pipeline.identity import check_same, digests_of, identity_of
from xs2p.pipeline.inputs import Job, Part, check_job, method_or_baseline
from xs2p.pipeline.snr_filter import drop_noisy_rois, keep_rois
from xs2p.traces.neuropil import ESTIMATED

_REGION_SAMPLES = 2**22  # of a variable, about
_REGION_FRAMES = 2**14  # with few ROIs: longer ones save nothing, and take memory
_REGION_BYTES = 8e9  # of the movie, at most: what a killed run reads again


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
    **options: Any,
) -> xr.Dataset:
    """Extract traces and spikes into a Zarr store, in a run that can be killed and resumed.

    The movie is read once. ``F`` and ``Fneu`` are written region by region, a region being some
    thousand frames and a chunk of the store; then ``Fc``, ``F0`` and ``spks`` are made from what is
    stored. A region is marked complete once it is on disk. Memory follows the movie's chunks and
    the number of ROIs, not the number of frames.

    Until it is complete the store is called ``<name>.partial.zarr`` and says in its attributes
    that it is unfinished; then it gets its name. A run that failed or was killed goes on with
    ``resume=True``, and only reads what is not on disk yet; the store is in the end the same, to
    the last byte but for its history: who made it and when, as :func:`xs2p.provenance` tells it.

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
    ValueError
        An input does not fit, or the store to resume was made from another movie, ROIs or
        parameters: the message names which.
    OSError, MemoryError
        A chunk of the movie cannot be read, or does not fit in the memory of a worker: the
        message names the file and the frames.

    Examples
    --------
    >>> ds = xs2p.extract_to_zarr(movie, rois, "traces.zarr", tau=1.0, resume=True)
    ... # doctest: +SKIP
    """
    for name, flag in (("resume", resume), ("overwrite", overwrite), ("progress", progress)):
        check_flag(name, flag)
    growing = partial_path(os.path.abspath(os.fspath(path)))
    with hearing() as heard, stoppable(), _disk_named(growing):
        asked = (resume, overwrite, progress, frames_per_region)
        return _run(movie, rois, path, options, heard, *asked)


def _run(
    movie: Any,
    rois: Any,
    path: Any,
    options: dict[str, Any],
    heard: list[str],
    resume: bool,
    overwrite: bool,
    progress: bool,
    frames_per_region: int | None,
) -> xr.Dataset:
    given = paths_read(movie, rois, options.get("movie_chan2"))
    check_target(path, resume, overwrite, given)
    options = _with_defaults(options)
    job = _on_its_way(check_job(movie, rois, **options))
    # Patterns and lists have become files by now.
    given |= paths_read(job.movie, job.movie_chan2)
    final, growing = check_target(path, resume, overwrite, given)
    # Part of what a run is: a GPU may round otherwise than the CPU that goes on with it.
    options["kernels"] = kernels_named(job.device)
    options["device"] = "cpu" if options["kernels"] is None else "gpu"
    if options["tau"] is None and job.decay is not None:  # the movie said it
        options["tau"] = job.decay.tau
    regions = _regions_of(job, frames_per_region)
    session = Session(job, rois, options["kernels"], heard)
    run = identity_of(job, options, regions)
    goes_on = resume and os.path.exists(growing)
    if goes_on:
        check_same(run, growing)
    elif resume and os.path.exists(final) and not overwrite:
        check_same(run, final)
        return _regions.open_store(final)
    if job.snr_threshold > 0:
        # A run that goes on has the ratio in its store.
        known = _regions.open_store(growing)["snr"] if goes_on else None
        job = drop_noisy_rois(job) if known is None else keep_rois(job, known)
    traces = extracted(job, regions)
    whole = finished(traces, job)
    run["labels"] = digests_of(whole)
    if goes_on:
        check_same(run, growing)
    else:
        if os.path.lexists(growing):
            remove(growing)
        _regions.create(growing, whole, regions[0], run)
    try:
        session.begin(growing)
        _write(growing, traces, job, regions[0], progress)
        session.end(growing)
        settle(growing)
        _regions.complete(growing)
    except BaseException as error:
        _check_not_gone(growing, error)
        _keep_what_is_done(growing, error)
        with contextlib.suppress(Exception):  # a disk that takes no more
            session.end(growing, error)
        raise
    put_in_place(growing, final, overwrite)
    return _regions.open_store(final)


def _write(store: str, traces: xr.Dataset, job: Job, frames: int, progress: bool) -> None:
    """Write what is not on disk yet: what is extracted, then what is made of that."""
    _regions.write_traces(store, traces, frames, job.movie, progress)
    stored = _regions.open_store(store)
    variables = {n: v.drop_attrs(deep=False).assign_attrs(v.attrs) for n, v in traces.items()}
    same = xr.Dataset({n: v.copy(data=stored[n].data) for n, v in variables.items()})
    rest = finished(same, job, in_passes=True)
    _regions.write_rest(store, rest, frames, progress)
    _write_found(store, job, rest)


def _write_found(store: str, job: Job, rest: xr.Dataset) -> None:
    """Write what is known of each ROI once its traces are there; lazily they were made again."""
    coefficients = [name for name in ESTIMATED if name in rest.data_vars]
    if coefficients:
        _regions.write_found(store, xr.Dataset({n: rest[n].variable for n in coefficients}))
    if not job.dff:
        return
    made = relative_in(_regions.open_store(store), job, in_passes=True)
    found = xr.Dataset({name: made[name] for name in ("noise", "dff_flag")})
    _regions.write_found(store, found.compute())


def partial_path(path: str) -> str:
    """Return what a store is called while it is not complete."""
    return f"{os.path.splitext(path)[0]}.partial.zarr"


# What is asked for


def check_target(
    path: str | os.PathLike[str], resume: bool, overwrite: bool, inputs: Iterable[str]
) -> tuple[str, str]:
    """Check where a run is to write; what its store is called in the end, and until then.

    Raises
    ------
    ValueError, FileNotFoundError
        If there can be no store of that name.
    FileExistsError
        If something is there that must stay: see :mod:`xs2p.disk.replace`.
    """
    final = os.path.abspath(os.fspath(path))
    if os.path.splitext(final)[1].lower() != ".zarr":
        raise ValueError(
            f"the store {os.fspath(path)!r} must be a folder whose name ends in .zarr, "
            "as in 'traces.zarr'"
        )
    if not os.path.isdir(os.path.dirname(final)):
        raise FileNotFoundError(
            f"no folder {os.path.dirname(final)!r} to write {os.path.basename(final)} into; "
            "make it first, with os.makedirs"
        )
    growing, inputs = partial_path(final), list(inputs)
    _check_unfinished(final, growing, resume, overwrite, inputs)
    if overwrite or not resume:
        foreign = functools.partial(foreign_store, marks=("xs2p_version", _regions.RUN))
        check_place(final, overwrite=overwrite, foreign=foreign, inputs=inputs)
    return final, growing


def _check_unfinished(
    final: str, growing: str, resume: bool, overwrite: bool, inputs: list[str]
) -> None:
    if not os.path.lexists(growing):
        return
    if resume and not overwrite and os.path.lexists(final):
        raise FileExistsError(
            f"{growing} is from a run that did not end and was to replace {final}; "
            "resume=True, overwrite=True goes on with it"
        )
    # Whatever is done with it, it must be of a run.
    foreign = functools.partial(foreign_store, marks=(_regions.RUN,))
    check_place(growing, overwrite=True, foreign=foreign, inputs=inputs)
    if not (overwrite or resume):
        raise FileExistsError(
            f"{growing} exists, from a run that did not end; resume=True goes on with it, "
            "overwrite=True starts anew"
        )


def _with_defaults(options: dict[str, Any]) -> dict[str, Any]:
    """Options with the defaults of :func:`xs2p.extract`, which also knows which there are."""
    known = inspect.signature(extract).parameters.values()
    defaults = {p.name: p.default for p in known if p.kind is p.KEYWORD_ONLY}
    other = {name: value for name, value in options.items() if name not in defaults}
    explain_names("extract_to_zarr", extract_to_zarr, other)
    options = {**defaults, **options}
    method, baseline = method_or_baseline(options["method"], options["baseline"])
    return {**options, "method": method, "baseline": baseline}


def _on_its_way(job: Job) -> Job:
    """Make the movie one of chunks, and compute what labels the results: it is written at once."""
    whole = {id(movie): _chunked(movie) for movie in (job.movie, job.movie_chan2)}

    def of_part(movie: Any) -> Any:  # a movie without planes is its own part
        return whole[id(movie)] if id(movie) in whole else _chunked(movie)

    return job._replace(
        movie=whole[id(job.movie)],
        movie_chan2=whole[id(job.movie_chan2)],
        rois=job.rois.compute(),
        parts=[
            Part(of_part(p.movie), of_part(p.movie_chan2), p.rois.compute(), p.plane)
            for p in job.parts
        ],
    )


def _chunked(movie: Any) -> Any:
    """Let a movie in memory, or mapped from a file, go the way of every other one."""
    if movie is None:
        return None
    movie = movie.assign_coords({n: c.compute() for n, c in movie.coords.items() if c.chunks})
    if movie.chunks is None:
        movie = open_array(movie, None)  # a map of a file is read from there, and not copied
    if movie.chunks is None:
        frame = max(movie.nbytes // max(movie.sizes["time"], 1), 1)
        chunks = {"time": max(TARGET_BYTES // frame, 1)}
        movie = movie.copy(data=movie.variable.chunk(chunks).data)  # labels must not become lazy
    return movie


def _regions_of(job: Job, asked: int | None) -> tuple[int, ...]:
    """Frames of each region: all but the last have the same number."""
    n_frames = job.movie.sizes["time"]
    frames = _frames_per_region(job.movie, job.rois.sizes["roi"], asked)
    rest = n_frames % frames
    return (*(frames,) * (n_frames // frames), *((rest,) if rest else ()))


def _frames_per_region(movie: xr.DataArray, n_rois: int, asked: int | None) -> int:
    n_frames = movie.sizes["time"]
    if asked is not None:
        if isinstance(asked, bool) or int(asked) != asked or asked < 1:
            raise ValueError(f"frames_per_region must be a positive number, got {asked!r}")
        return min(int(asked), n_frames)
    chunk = max(movie.chunksizes["time"])
    frame_bytes = max(movie.nbytes // n_frames, 1)
    most = min(_REGION_FRAMES, _REGION_SAMPLES // max(n_rois, 1), _REGION_BYTES / frame_bytes)
    return min(max(int(most // chunk), 1) * chunk, n_frames)


@contextlib.contextmanager
def _disk_named(store: str) -> Iterator[None]:
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


def _keep_what_is_done(store: str, error: BaseException) -> None:
    try:
        done = _regions.done_regions(store, 0)
    except Exception:  # the store has gone: that error is not the one to tell
        return
    if done is not None and not done.any():
        remove_written(store)
        return
    part = "all" if done is None else f"{int(done.sum())} of {done.size} regions"
    error.add_note(f"{part} of F are kept in {store}; resume=True goes on from there")
