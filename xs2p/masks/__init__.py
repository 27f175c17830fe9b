"""From ROIs to what extraction applies: cell and neuropil masks."""

from xs2p.masks.build import Masks, build_masks, cell_image

__all__ = ["Masks", "build_masks", "cell_image"]
