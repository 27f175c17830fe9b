"""From the pixels of one plane to F and Fneu, by masks or by demixing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import xarray as xr

from xs2p.masks.build import masks_of
from xs2p.movie.groups import grouped
from xs2p.pipeline.inputs import Job, Part
from xs2p.traces.demix import Demixer
from xs2p.traces.extraction import extract_in_chunks


def extractor(part: Part, job: Job) -> Callable[..., xr.Dataset]:
    """Return what makes traces of a movie of a part's frames; lazily in chunks of ``frames``."""
    if job.demixing is not None:
        demixer = Demixer(part.rois, job.demixing, part.plane)
        return functools.partial(demixer.traces, device=job.device)
    masks = masks_of(part.rois, job.mask_options, part.plane)
    return functools.partial(extract_in_chunks, masks=masks, device=job.device)


def in_groups(job: Job, frames: Iterable[int] = ()) -> Job:
    """Let small chunks of a movie be read several to a task, none across borders of ``frames``.

    Not where parts may share a chunk, as planes and channels of one file do: each would read it.
    """
    (part, *others) = job.parts
    if others or part.movie_chan2 is not None:
        return job
    return job._replace(parts=[part._replace(movie=grouped(part.movie, frames))])
