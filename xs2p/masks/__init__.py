"""From ROIs to what extraction applies: cell and neuropil masks."""

from xs2p.masks.build import build_masks, cell_image
from xs2p.masks.masks import Masks

__all__ = ["Masks", "build_masks", "cell_image"]
