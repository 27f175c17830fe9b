"""Read and write files: movies, ROI sets, suite2p's folders, NWB and ALF."""

from typing import TYPE_CHECKING

from xs2p._lazy import lazy

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
    "write_alf",
    "write_iscell",
    "write_nwb",
    "write_rois",
    "write_suite2p",
    "write_table",
]

if TYPE_CHECKING:
    from xs2p.disk.npy import UnsafePickleError, load_npy
    from xs2p.io.alf.read import read_alf
    from xs2p.io.alf.write import write_alf
    from xs2p.io.nwb.read import read_nwb
    from xs2p.io.nwb.rois import rois_from_nwb
    from xs2p.io.nwb.write import write_nwb
    from xs2p.io.rois.read import read_rois
    from xs2p.io.rois.write import write_rois
    from xs2p.io.suite2p.folder import read_suite2p, write_suite2p
    from xs2p.io.suite2p.iscell import write_iscell
    from xs2p.io.suite2p.stat import read_stat
    from xs2p.io.table import write_table
    from xs2p.movie.nwb import open_nwb_movie
    from xs2p.movie.open import open_movie
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "xs2p.disk.npy": ["UnsafePickleError", "load_npy"],
            "xs2p.io.alf.read": ["read_alf"],
            "xs2p.io.alf.write": ["write_alf"],
            "xs2p.io.nwb.read": ["read_nwb"],
            "xs2p.io.nwb.rois": ["rois_from_nwb"],
            "xs2p.io.nwb.write": ["write_nwb"],
            "xs2p.io.rois.read": ["read_rois"],
            "xs2p.io.rois.write": ["write_rois"],
            "xs2p.io.suite2p.folder": ["read_suite2p", "write_suite2p"],
            "xs2p.io.suite2p.iscell": ["write_iscell"],
            "xs2p.io.suite2p.stat": ["read_stat"],
            "xs2p.io.table": ["write_table"],
            "xs2p.movie.nwb": ["open_nwb_movie"],
            "xs2p.movie.open": ["open_movie"],
        },
    )
