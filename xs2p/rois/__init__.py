"""ROI sets: one Dataset over ``roi`` with a ragged table of pixels.

An ROI set holds ``npix(roi)`` and, over ``pixel``, ``ypix``, ``xpix``, ``lam`` (weight) and
``overlap`` (another ROI has the pixel too), ROI after ROI. ``pixel_roi`` says beside each pixel
which ROI it belongs to, by ``roi_id(roi)``, so that ``rois.isel(roi=[3, 5])``, every other
selection or order over ``roi``, and other labels stay a valid ROI set. `compact` then drops and
orders pixels, and makes it a contiguous ragged array of the CF conventions, for other programs.
"""

from typing import TYPE_CHECKING

from xs2p._lazy import lazy

__all__ = [
    "compact",
    "recompute_overlap",
    "rois_from_footprints",
    "rois_from_labels",
    "rois_from_stat",
    "rois_to_labels",
    "rois_to_stat",
]

if TYPE_CHECKING:
    from xs2p.rois.build import rois_from_footprints, rois_from_labels, rois_from_stat
    from xs2p.rois.convert import compact, recompute_overlap, rois_to_labels, rois_to_stat
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "xs2p.rois.build": ["rois_from_footprints", "rois_from_labels", "rois_from_stat"],
            "xs2p.rois.convert": ["compact", "recompute_overlap", "rois_to_labels", "rois_to_stat"],
        },
    )
