"""A job on its way to a store: its movie in chunks, and cut into regions."""

from __future__ import annotations

from typing import Any

import xarray as xr

from xs2p.movie.array import open_array
from xs2p.movie.chunks import TARGET_BYTES
from xs2p.pipeline.inputs import Job, Part

_REGION_SAMPLES = 2**22  # of a variable, about
_REGION_FRAMES = 2**14  # with few ROIs: longer ones save nothing, and take memory
_REGION_BYTES = 8e9  # of the movie, at most: what a killed run reads again


def on_its_way(job: Job) -> Job:
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


def regions_of(job: Job, asked: int | None) -> tuple[int, ...]:
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
