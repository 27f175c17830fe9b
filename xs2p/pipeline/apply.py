"""From the pixels of one plane to F and Fneu, by masks or by demixing."""

from __future__ import annotations

import functools
from collections.abc import Callable

import xarray as xr

from xs2p.masks.build import masks_of
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
