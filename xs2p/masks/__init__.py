"""From ROIs to what extraction applies: cell and neuropil masks."""

from typing import TYPE_CHECKING

from xs2p._lazy import lazy

__all__ = [
    "Masks",
    "build_masks",
    "cell_image",
]

if TYPE_CHECKING:
    from xs2p.masks.build import build_masks, cell_image
    from xs2p.masks.masks import Masks
else:
    __getattr__, __dir__ = lazy(
        __name__,
        {
            "xs2p.masks.build": ["build_masks", "cell_image"],
            "xs2p.masks.masks": ["Masks"],
        },
    )
