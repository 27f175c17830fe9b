"""Dropping the ROIs whose traces are noise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.compute.arrays import is_cupy, to_host, unread
from xs2p.compute.cluster import has_client
from xs2p.compute.progress import count_reads, reading, watch
from xs2p.pipeline.apply import extractor, in_groups, masks_for
from xs2p.pipeline.inputs import First, Job, Part
from xs2p.rois.convert import contiguous, recompute_overlap
from xs2p.rois.planes import join_planes
from xs2p.traces.blocks import joined
from xs2p.traces.neuropil import correct
from xs2p.traces.quality import SNR, snr

# Bytes of lazy F and Fneu that stay in memory from the first pass to the second.
_KEPT = 2**28


def drop_noisy_rois(job: Job) -> Job:
    """Find the signal to noise of all ROIs, and make the job one of those that stay.

    The movie is read once for it, part by part as the chunks come. Traces are kept where that is
    not much memory: those of ROIs whose masks stay as they are need not be extracted again.
    """
    ratio, found = _ratio(job)
    noisy = (ratio <= job.snr_threshold).values
    if noisy.any():
        warn(
            f"{noisy.sum()} of {noisy.size} ROIs have a signal to noise ({SNR}) of "
            f"{job.snr_threshold} or less and are dropped (roi {names(ratio.roi.values[noisy])})"
        )
    kept = keep_rois(job, ratio.isel(roi=np.flatnonzero(~noisy)))
    parts = [p._replace(first=first) for p, first in zip(kept.parts, found, strict=True)]
    return kept._replace(parts=parts)


def keep_rois(job: Job, ratio: xr.DataArray) -> Job:
    """Make the job one of the ROIs that ``ratio`` has, whose signal to noise it keeps.

    Where some of a plane are dropped, the others get back the pixels that they shared with them.
    """
    parts = []
    for part in job.parts:
        kept = np.flatnonzero(np.isin(part.rois["roi"].values, ratio["roi"].values))
        rois = part.rois
        if kept.size < rois.sizes["roi"]:
            rois = recompute_overlap(contiguous(rois.isel(roi=kept)))
        own = ratio.sel(roi=rois["roi"].values)
        parts.append(part._replace(rois=rois.assign_coords(snr=own.variable)))
    rois = join_planes([part.rois for part in parts], job.rois["roi"].values)
    stays = np.flatnonzero(np.isin(job.rois["roi"].values, rois["roi"].values))
    decay = None if job.decay is None else job.decay.of_rois(stays)
    neuropil, sparsity = job.neuropil.of_rois(stays), job.sparsity.of_rois(stays)
    return job._replace(parts=parts, rois=rois, decay=decay, neuropil=neuropil, sparsity=sparsity)


def _ratio(job: Job) -> tuple[xr.DataArray, list[First | None]]:
    """Signal to noise of every ROI, computed, and what is kept of each part."""
    import dask

    found = [_first_of_part(part, job) for part in in_groups(job).parts]
    ratios = [_ratio_of_part(part, job, f) for part, f in zip(job.parts, found, strict=True)]
    keeps = _stay([first.traces for first in found])
    traces = [v.data for first in found if keeps for v in first.traces.data_vars.values()]
    lazy = [ratio.data for ratio in ratios if ratio.chunks is not None]
    reads = count_reads(*lazy)
    movie = job.movie
    with watch(reading(movie.sizes["time"], movie.nbytes), reads) as watched, watched.part(reads):
        # What is kept stays in chunks; in memory all is as it is.
        computed, *kept = dask.persist([ratio.data for ratio in ratios], *traces)
        (computed,) = dask.compute(computed)
    held = [r.copy(data=to_host(data)) for r, data in zip(ratios, computed, strict=True)]
    whole = held[0] if len(held) == 1 else xr.concat(held, "roi", combine_attrs="override")
    if not keeps:
        return whole, [None for _ in found]
    left = iter(kept)
    return whole, [first._replace(traces=_holding(first.traces, left)) for first in found]


def _stay(traces: list[xr.Dataset]) -> bool:
    """Whether traces stay in memory from the first pass to the second."""
    if all(ds["F"].chunks is None for ds in traces):
        return True
    # On a cluster they would be gone with it, or travel; those of CuPy are the device's.
    size = sum(v.nbytes for ds in traces for v in ds.data_vars.values())
    here = not has_client() and not any(is_cupy(unread(ds["F"])) for ds in traces)
    return here and size <= _KEPT


def _holding(traces: xr.Dataset, data: Iterator[Any]) -> xr.Dataset:
    return traces.assign({n: v.copy(data=next(data)) for n, v in traces.data_vars.items()})


def _first_of_part(part: Part, job: Job) -> First:
    masks = masks_for(part, job)
    return First(extractor(part, job, masks)(part.movie), masks)


def _ratio_of_part(part: Part, job: Job, first: First) -> xr.DataArray:
    own = job.rois.indexes["roi"].get_indexer(part.rois.indexes["roi"])
    traces = joined(job.counting(first.traces), job.reach)
    ratio = snr(correct(traces, job.neuropil.of_rois(own), job.device))
    return ratio.drop_vars([name for name in ratio.coords if name != "roi"])
