"""Label images: in memory, in ``.npy`` and ``.tif`` files, and in Cellpose's ``_seg.npy``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr


def rois_of_labels(labels: Any, shape: tuple[int, int] | None, name: str) -> xr.Dataset:
    """ROI set of a label image; ``name`` is what errors call it."""
    from xs2p.rois.build import rois_from_labels
    from xs2p.rois.pixels import agreed_frame

    try:
        rois = rois_from_labels(labels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    agreed_frame(shape, (rois.attrs["Ly"], rois.attrs["Lx"]), name)
    return rois


def read_tif(path: str, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of a label image in a TIFF file."""
    import tifffile

    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            check_image(series.shape)
            image = series.asarray()
            image = np.squeeze(image) if image.ndim > 2 else image
    except (ValueError, tifffile.TiffFileError) as error:
        raise ValueError(f"{path}: {error}") from error
    return rois_of_labels(image, shape, path)


def check_image(shape: tuple[int, ...]) -> None:
    """Raise where a file holds no single image, such as a movie, before its pixels are read."""
    if len(shape) < 2 or (len(shape) > 2 and sum(n != 1 for n in shape) != 2):
        raise ValueError(f"labels must be an image (y, x), got shape {shape}")


def rois_of_cellpose(
    seg: Mapping[str, Any], shape: tuple[int, int] | None, name: str
) -> xr.Dataset:
    """ROI set of what Cellpose keeps in ``_seg.npy``: a dict, of which ``masks`` is used."""
    masks = np.asarray(seg["masks"])
    if masks.ndim == 3 and masks.shape[0] == 1:
        masks = masks[0]
    if masks.ndim == 3:
        raise ValueError(
            f"{name}: its masks are a volume of {masks.shape}; read one plane: "
            "xs2p.rois_from_labels(xs2p.io.load_npy(path).item()['masks'][0])"
        )
    return rois_of_labels(masks, shape, name)
