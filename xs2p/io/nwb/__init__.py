"""ROI sets and traces out of NWB files, and results into them."""

from xs2p.io.nwb.read import read_nwb
from xs2p.io.nwb.rois import rois_from_nwb
from xs2p.io.nwb.write import write_nwb

__all__ = ["read_nwb", "rois_from_nwb", "write_nwb"]
