"""What the package makes public, imported all at once when the first of it is asked for.

``__all__`` of the package lists them.
"""

# ruff: noqa: F401
# mypy: implicit-reexport

from xs2p.io.alf.read import read_alf
from xs2p.io.alf.write import write_alf
from xs2p.io.nwb.read import read_nwb
from xs2p.io.nwb.rois import rois_from_nwb
from xs2p.io.nwb.write import write_nwb
from xs2p.io.rois.read import read_rois
from xs2p.io.rois.write import write_rois
from xs2p.io.suite2p.folder import read_suite2p, write_suite2p
from xs2p.io.suite2p.iscell import write_iscell
from xs2p.io.table import write_table
from xs2p.masks.build import build_masks, cell_image
from xs2p.masks.masks import Masks
from xs2p.movie.images import mean_image, summary_images
from xs2p.movie.open import open_movie
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
