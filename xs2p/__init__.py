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

# ruff: noqa: F405  (the names are those of _public)
from typing import TYPE_CHECKING

from xs2p import _register  # noqa: F401  (.s2p)
from xs2p._lazy import lazy
from xs2p._version import __version__

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

if TYPE_CHECKING:  # where a __getattr__ would let any name pass
    from xs2p import io, masks, plot, rois, suite2p, testing  # noqa: F401
    from xs2p._public import *  # noqa: F403
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {"xs2p._public": __all__},
        modules=("io", "masks", "plot", "rois", "suite2p", "testing"),
    )
