"""Read and write files: movies, ROI sets, suite2p's folders, NWB and ALF."""

from xs2p.disk.npy import UnsafePickleError, load_npy
from xs2p.io.alf import read_alf, write_alf
from xs2p.io.nwb import read_nwb, rois_from_nwb, write_nwb
from xs2p.io.read_rois import read_rois
from xs2p.io.suite2p import read_stat, read_suite2p, write_iscell, write_suite2p
from xs2p.io.table import write_table
from xs2p.io.write_rois import write_rois
from xs2p.movie.nwb import open_nwb_movie
from xs2p.movie.open import open_movie

__all__ = [
    "UnsafePickleError",
    "load_npy",
    "open_movie",
    "open_nwb_movie",
    "read_alf",
    "read_nwb",
    "read_rois",
    "read_stat",
    "read_suite2p",
    "rois_from_nwb",
    "write_iscell",
    "write_alf",
    "write_nwb",
    "write_rois",
    "write_suite2p",
    "write_table",
]
