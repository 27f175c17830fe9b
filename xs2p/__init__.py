"""xs2p: calcium-imaging movies and ROIs to labelled fluorescence traces and spikes.

The work of suite2p's ``extraction`` package on xarray and Dask: lazy, out of core, every
result labelled ``(roi, time)``.

Examples
--------
>>> import xs2p
>>> ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
>>> ds.spks.sizes
Frozen({'roi': 98, 'time': 500})
"""

from typing import TYPE_CHECKING

from xs2p import accessor as _accessor  # noqa: F401  (registers .s2p)
from xs2p._version import __version__
from xs2p.io import (
    open_movie,
    read_alf,
    read_nwb,
    read_rois,
    read_suite2p,
    rois_from_nwb,
    write_alf,
    write_iscell,
    write_nwb,
    write_rois,
    write_suite2p,
    write_table,
)
from xs2p.masks.build import build_masks, cell_image
from xs2p.masks.masks import Masks
from xs2p.movie.images import mean_image, summary_images
from xs2p.pipeline.check import check_store, repair_store
from xs2p.pipeline.concat import concat
from xs2p.pipeline.extract import extract
from xs2p.pipeline.provenance import provenance
from xs2p.pipeline.quality import quality
from xs2p.pipeline.reprocess import reprocess
from xs2p.pipeline.store import extract_to_zarr
from xs2p.report import write_report
from xs2p.rois.build import rois_from_footprints, rois_from_labels, rois_from_stat
from xs2p.rois.convert import recompute_overlap
from xs2p.rois.curation import curated
from xs2p.sample import sample_movie, sample_rois
from xs2p.traces.baseline import baseline, preprocess
from xs2p.traces.coefficient import neuropil_coefficient
from xs2p.traces.deconvolve import deconvolve
from xs2p.traces.demix import demix
from xs2p.traces.dff import dff
from xs2p.traces.events import events
from xs2p.traces.extraction import extract_traces
from xs2p.traces.indicators import indicators
from xs2p.traces.noise import noise
from xs2p.traces.quality import skew, snr, std
from xs2p.traces.tau import estimate_tau

__all__ = [
    "Masks",
    "__version__",
    "baseline",
    "build_masks",
    "cell_image",
    "check_store",
    "concat",
    "curated",
    "deconvolve",
    "demix",
    "dff",
    "estimate_tau",
    "events",
    "extract",
    "extract_to_zarr",
    "extract_traces",
    "indicators",
    "mean_image",
    "neuropil_coefficient",
    "noise",
    "open_movie",
    "preprocess",
    "provenance",
    "quality",
    "read_alf",
    "read_nwb",
    "read_rois",
    "read_suite2p",
    "recompute_overlap",
    "repair_store",
    "reprocess",
    "rois_from_footprints",
    "rois_from_labels",
    "rois_from_nwb",
    "rois_from_stat",
    "sample_movie",
    "sample_rois",
    "skew",
    "snr",
    "std",
    "summary_images",
    "write_iscell",
    "write_alf",
    "write_nwb",
    "write_report",
    "write_rois",
    "write_suite2p",
    "write_table",
]

# Modules that are part of what is public, and imported when they are asked for.
_MODULES = ("io", "masks", "plot", "rois", "suite2p", "testing")


def __dir__() -> list[str]:
    """Return what is public, for completion."""
    return sorted([*__all__, *_MODULES])


if TYPE_CHECKING:  # where a __getattr__ would let any name pass
    from xs2p import io, masks, plot, rois, suite2p, testing  # noqa: F401
else:

    def __getattr__(name):
        """Import a public module at its first use: ``xs2p.suite2p`` needs no import of its own."""
        if name in _MODULES:
            import importlib

            return importlib.import_module(f"xs2p.{name}")
        raise AttributeError(
            f"module 'xs2p' has no attribute {name!r}; it has {', '.join(__dir__())}"
        )
