"""From the pixels of one plane to F and Fneu, by masks or by demixing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable

import numpy as np
import xarray as xr

from xs2p.compute.device import kernels_named
from xs2p.masks.build import masks_of
from xs2p.masks.masks import Masks, same_masks
from xs2p.movie.groups import grouped
from xs2p.pipeline.inputs import First, Job, Part
from xs2p.traces.blocks import in_chunks
from xs2p.traces.demix import Demixer
from xs2p.traces.extraction import extract_in_chunks
from xs2p.traces.kept import Kept


def masks_for(part: Part, job: Job) -> Masks | None:
    """Masks of a part's ROIs; None where they are demixed."""
    return None if job.demixing else masks_of(part.rois, job.mask_options, part.plane)


def extractor(part: Part, job: Job, masks: Masks | None) -> Callable[..., xr.Dataset]:
    """Return what makes traces of a movie of a part's frames; lazily in chunks of ``frames``."""
    if masks is None:
        assert job.demixing is not None
        demixer = Demixer(part.rois, job.demixing, part.plane)
        return functools.partial(demixer.traces, device=job.device)
    return functools.partial(extract_in_chunks, masks=masks, device=job.device)


def traces_of(part: Part, job: Job, frames: tuple[int, ...] | None) -> xr.Dataset:
    """``F``, ``Fneu`` and those of the second channel of one part, lazily in chunks of ``frames``.

    What a first pass has extracted is not extracted again.
    """
    first, second = part.first, part.movie_chan2
    stays = first is not None and first.traces.sizes["roi"] == part.rois.sizes["roi"]
    if first is not None and stays and second is None:
        return _cut(first.traces, frames)
    masks = masks_for(part, job)
    extract_from = extractor(part, job, masks)
    if first is not None and stays:
        traces = _cut(first.traces, frames)
    elif first is None or first.masks is None or masks is None or kernels_named(job.device):
        traces = extract_from(part.movie, frames=frames)  # a GPU may round by what is beside it
    else:
        traces = extract_from(part.movie, frames=frames, kept=_kept(first, masks))
    if second is None:
        return traces
    named = {
        f"{name}_chan2": array.assign_attrs(
            long_name=f"{array.attrs['long_name']}, second channel",
            description=f"{array.attrs['description'][:-1]}, of movie_chan2.",
        )
        for name, array in extract_from(second, frames=frames).data_vars.items()
    }
    return traces.assign(named)


def _cut(traces: xr.Dataset, frames: tuple[int, ...] | None) -> xr.Dataset:
    """Cut lazy traces into chunks of so many frames."""
    if frames is None:
        return traces
    data = {n: v.copy(data=in_chunks(v.data, frames)) for n, v in traces.data_vars.items()}
    return traces.assign(data)


def _kept(first: First, masks: Masks) -> Kept:
    """Find the ROIs that have the masks that they had."""
    assert first.masks is not None
    rows = first.masks.rois.indexes["roi"].get_indexer(masks.rois.indexes["roi"])
    rows = np.where(same_masks(first.masks.select(rows), masks), rows, -1)
    return Kept({str(n): v.data for n, v in first.traces.data_vars.items()}, rows)


def in_groups(job: Job, frames: Iterable[int] = ()) -> Job:
    """Let small chunks of a movie be read several to a task, none across borders of ``frames``.

    Not where parts may share a chunk, as planes and channels of one file do: each would read it.
    """
    (part, *others) = job.parts
    if others or part.movie_chan2 is not None:
        return job
    return job._replace(parts=[part._replace(movie=grouped(part.movie, frames))])
