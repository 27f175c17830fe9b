"""suite2p's own names and signatures, on numpy: change one import line and a script runs on.

``from xs2p.suite2p import extraction_wrapper, preprocess, oasis`` takes the place of
``from suite2p.extraction.extract import extraction_wrapper`` and its like. Arguments, return
types and choices are those of suite2p 1.1.0, also where the rest of xs2p differs on purpose:
an ROI without cell pixels gives zeros, an empty neuropil mask NaN, ``constant`` takes one
minimum for all ROIs, an unknown baseline is none, and ``extraction_wrapper`` leaves
``snr_threshold`` alone. Only inputs are never changed in place, as suite2p does for some
baselines.

``device`` is accepted as a string or a ``torch.device``; the work is done on the CPU.
"""

from typing import TYPE_CHECKING

from xs2p._lazy import lazy

__all__ = [
    "DEFAULTS",
    "baseline_maximin",
    "create_cell_mask",
    "create_cell_pix",
    "create_masks",
    "create_neuropil_masks",
    "extract_traces",
    "extraction_wrapper",
    "oasis",
    "oasis_matrix",
    "oasis_trace",
    "patched",
    "preprocess",
]

if TYPE_CHECKING:
    from xs2p.suite2p.dcnv import baseline_maximin, oasis, oasis_matrix, oasis_trace, preprocess
    from xs2p.suite2p.extraction import DEFAULTS, extract_traces, extraction_wrapper
    from xs2p.suite2p.masks import (
        create_cell_mask,
        create_cell_pix,
        create_masks,
        create_neuropil_masks,
    )
    from xs2p.suite2p.patch import patched
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "xs2p.suite2p.dcnv": [
                "baseline_maximin",
                "oasis",
                "oasis_matrix",
                "oasis_trace",
                "preprocess",
            ],
            "xs2p.suite2p.extraction": ["DEFAULTS", "extract_traces", "extraction_wrapper"],
            "xs2p.suite2p.masks": [
                "create_cell_mask",
                "create_cell_pix",
                "create_masks",
                "create_neuropil_masks",
            ],
            "xs2p.suite2p.patch": ["patched"],
        },
    )
