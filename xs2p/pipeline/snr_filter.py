"""Dropping the ROIs whose traces are noise."""

from __future__ import annotations

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.compute.arrays import to_host
from xs2p.compute.progress import count_reads, reading, watch
from xs2p.pipeline.apply import extractor, in_groups
from xs2p.pipeline.inputs import Job, Part
from xs2p.rois.convert import contiguous, recompute_overlap
from xs2p.rois.planes import join_planes
from xs2p.traces.blocks import joined
from xs2p.traces.neuropil import correct
from xs2p.traces.quality import SNR, snr


def drop_noisy_rois(job: Job) -> Job:
    """Find the signal to noise of all ROIs, and make the job one of those that stay.

    The movie is read once for it. Only the ratio is computed, part by part as the chunks come:
    traces are not kept.
    """
    ratio = _ratio(job)
    noisy = (ratio <= job.snr_threshold).values
    if noisy.any():
        warn(
            f"{noisy.sum()} of {noisy.size} ROIs have a signal to noise ({SNR}) of "
            f"{job.snr_threshold} or less and are dropped (roi {names(ratio.roi.values[noisy])})"
        )
    return keep_rois(job, ratio.isel(roi=np.flatnonzero(~noisy)))


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


def _ratio(job: Job) -> xr.DataArray:
    """Signal to noise of every ROI, computed."""
    import dask

    ratios = [_ratio_of_part(part, job) for part in in_groups(job).parts]
    lazy = [ratio.data for ratio in ratios if ratio.chunks is not None]
    reads = count_reads(*lazy)
    movie = job.movie
    with watch(reading(movie.sizes["time"], movie.nbytes), reads) as watched, watched.part(reads):
        computed = dask.compute(*(ratio.data for ratio in ratios))
    held = [r.copy(data=to_host(data)) for r, data in zip(ratios, computed, strict=True)]
    return held[0] if len(held) == 1 else xr.concat(held, "roi", combine_attrs="override")


def _ratio_of_part(part: Part, job: Job) -> xr.DataArray:
    traces = job.counting(extractor(part, job)(part.movie))
    own = job.rois.indexes["roi"].get_indexer(part.rois.indexes["roi"])
    traces = joined(traces, job.reach)
    ratio = snr(correct(traces, job.neuropil.of_rois(own), job.device))
    return ratio.drop_vars([name for name in ratio.coords if name != "roi"])
