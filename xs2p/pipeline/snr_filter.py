"""Dropping the ROIs whose traces are noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from xs2p._warnings import names, warn
from xs2p.compute.arrays import to_host
from xs2p.compute.progress import count_reads, reading, watch
from xs2p.masks.build import build_masks
from xs2p.masks.masks import Masks
from xs2p.rois.convert import compact, recompute_overlap
from xs2p.traces.blocks import joined
from xs2p.traces.extraction import extract_traces
from xs2p.traces.neuropil import correct
from xs2p.traces.quality import snr


def filter_by_snr(
    movie: xr.DataArray,
    rois: xr.Dataset,
    masks: Masks,
    threshold: float,
    coefficient: float,
    mask_options: dict[str, Any],
    reach: int,
    device: str,
) -> tuple[xr.Dataset, xr.Dataset, Masks]:
    """First pass, drop of the noisy ROIs, and a second pass over those whose masks changed."""
    # persist, not compute: on a cluster the traces stay on the workers.
    first = joined(extract_traces(movie, masks, device=device), reach)
    reads = 0 if movie.chunks is None else count_reads(first["F"].data)
    with watch(reading(movie.sizes["time"], movie.nbytes), reads) as watched, watched.part(reads):
        first = first.persist() if movie.chunks is not None else first
        ratio = snr(correct(first, coefficient)).compute()
    ratio = ratio.copy(data=to_host(ratio.data))
    noisy = (ratio <= threshold).values
    if noisy.any():
        warn(
            f"{noisy.sum()} of {noisy.size} ROIs have a signal to noise of {threshold} or less "
            f"and are dropped (roi {names(rois.roi.values[noisy])})"
        )
    kept = np.flatnonzero(~noisy)
    ratio = ratio.isel(roi=kept).drop_vars([v for v in ratio.coords if v != "roi"])
    rois = compact(rois.isel(roi=kept)).assign_coords(snr=ratio)
    if not noisy.any():
        return first.assign_coords(snr=ratio), rois, masks
    rois = recompute_overlap(rois)
    before = masks.select(kept)
    masks = build_masks(rois, **mask_options)
    changed = _changed(before, masks)
    traces = first.isel(roi=kept)
    if changed.any():
        again = joined(extract_traces(movie, masks.select(changed), device=device), reach)
        same = traces.isel(roi=np.flatnonzero(~changed))
        order = np.argsort(np.r_[np.flatnonzero(~changed), np.flatnonzero(changed)])
        parts = [part.drop_vars([c for c in part.coords if c != "time"]) for part in (same, again)]
        merged = xr.concat(parts, "roi", coords="minimal", compat="override", join="override")
        traces = merged.isel(roi=order)
        if traces.chunks:
            traces = traces.chunk(roi=first.chunksizes["roi"][0])
    traces = traces.drop_vars([v for v in traces.coords if "roi" in traces[v].dims])
    coords = {n: c for n, c in masks.rois.coords.items() if "roi" in c.dims}
    return traces.assign_coords(coords), rois, masks


def _changed(before: Masks, after: Masks) -> np.ndarray:
    """Which ROIs have another cell or neuropil mask than before, bool ``(roi,)``."""
    changed = np.zeros(after.n_rois, bool)
    for old, new in ((before.cell, after.cell), (before.neuropil, after.neuropil)):
        if old is None or new is None:
            continue
        for n in range(after.n_rois):
            a, b = slice(*old.indptr[n : n + 2]), slice(*new.indptr[n : n + 2])
            changed[n] |= not (
                np.array_equal(old.indices[a], new.indices[b])
                and np.array_equal(old.data[a], new.data[b])
            )
    return changed
