"""Label images: in memory, in ``.npy`` and ``.tif`` files, and in Cellpose's ``_seg.npy``."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

# A grey image's values fall into more parts than this, of few pixels; the only label of a mask of
# all ROIs into more parts than an ROI has.
_MANY, _PARTS = 100, 16


def rois_of_labels(
    labels: Any, shape: tuple[int, int] | None, name: str, insist: bool = True
) -> xr.Dataset:
    """ROI set of a label image; ``name`` is what errors call it.

    ``insist``: it is one, also where it looks like a grey image.
    """
    from xs2p.rois.build import rois_from_labels
    from xs2p.rois.pixels import agreed_frame

    try:
        if not insist:
            _check_no_grey(np.asarray(labels))
        rois = rois_from_labels(labels)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    agreed_frame(shape, (rois.attrs["Ly"], rois.attrs["Lx"]), name)
    return rois


def _check_no_grey(image: np.ndarray) -> None:
    """Raise where an image of integers is of intensities, and not of labels."""
    if image.ndim != 2 or image.dtype.kind not in "iu" or image.size < 2 or image.min() < 0:
        return
    insist = "labels=True reads it as labels all the same"
    if image.all():
        raise ValueError(
            "it has no background, 0, so that it is a grey image and not one of labels; give the "
            f"label image that a segmentation made of it; {insist}"
        )
    n_labels, n_parts, n_pixels = _parts(image)
    if n_labels == 1 and n_parts > _PARTS and n_pixels >= 4 * n_parts:
        raise ValueError(
            f"it has one label, in {n_parts} parts, as a mask of all ROIs has; number the parts "
            f"with scipy.ndimage.label(image)[0]; {insist}, one ROI of all parts"
        )
    pixels = n_pixels / max(n_parts, 1)
    single = pixels < 2 and n_parts > 1.05 * n_labels
    if n_parts > _MANY and (single or (pixels < 8 and n_parts > 4 * n_labels)):
        raise ValueError(
            f"its {n_labels} labels fall into {n_parts} parts of {pixels:.1f} pixels "
            "on average, so that it is a grey image and not one of labels; give the label image "
            f"that a segmentation made of it; {insist}"
        )


def _parts(image: np.ndarray) -> tuple[int, int, int]:
    """Count the labels of an image, the connected parts that they lie in, and their pixels."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    flat = np.flatnonzero(image)
    values, column, width = image.ravel()[flat], flat % image.shape[1], image.shape[1]
    n_pixels = flat.size
    pairs = [np.empty((2, 0), np.int64)]
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):  # pixels that are there, and not the frame
        place = np.searchsorted(flat, flat + dy * width + dx)
        here = np.flatnonzero((place < n_pixels) & (column + dx >= 0) & (column + dx < width))
        there = place[here]
        same = (flat[there] == flat[here] + dy * width + dx) & (values[there] == values[here])
        pairs.append(np.stack([here[same], there[same]]))
    rows, columns = np.concatenate(pairs, axis=1)
    graph = coo_array((np.ones(rows.size, bool), (rows, columns)), shape=(n_pixels, n_pixels))
    n_parts, _ = connected_components(graph, directed=False) if n_pixels else (0, None)
    return int(np.unique(values).size), int(n_parts), n_pixels


def read_tif(path: str, shape: tuple[int, int] | None, insist: bool = False) -> xr.Dataset:
    """ROI set of a label image in a TIFF file, or of the overlays that ImageJ has on an image."""
    import tifffile

    from xs2p.movie.tiff_file import headers

    found: tuple[int, ...] | None = None
    try:
        with headers(path), tifffile.TiffFile(path) as file:
            page = file.pages.first
            frame = (int(page.imagelength), int(page.imagewidth))
            overlays = None if insist or not file.is_imagej else _overlays(file)
            found = file.series[0].shape
            single = overlays is None and _is_image(found)
            if single:
                _check_there(file, os.path.getsize(path))
            image = file.series[0].asarray() if single else None
    except ValueError:
        if found is not None and not _is_image(found):  # what else is wrong with it does not matter
            raise ValueError(_no_image(found, path)) from None
        raise
    if overlays is not None:
        return _rois_of_overlays(overlays, frame, shape, path)
    if image is None:
        raise ValueError(_no_image(found, path))
    return rois_of_labels(np.squeeze(image) if image.ndim > 2 else image, shape, path, insist)


_MOST = 1100  # bytes that one of a compressed file can hold at most (of deflate's, 1032)


def _check_there(file: Any, size: int) -> None:
    """Raise where parts of an image are nowhere in the file, which tifffile takes for zeros.

    Or where its directory does not fit its metadata, which tifffile only logs.
    """
    from xs2p.movie.tiff_file import told_by

    series, page, told = file.series[0], file.pages.first, told_by(file)
    if (told and series.kind not in told) or len(page.dataoffsets) != math.prod(page.chunked):
        raise ValueError("the file is damaged: what it tells of its image does not fit together")
    for page in series.pages:
        if page is None or not all(page.dataoffsets) or not all(page.databytecounts):
            raise ValueError("the file is damaged: parts of the image are not in it")
    if series.nbytes > _MOST * size:
        raise ValueError(
            f"the file is damaged: it tells of an image of {series.nbytes} bytes, and has {size}"
        )


def _no_image(shape: Any, path: str) -> str:
    return f"{path}: labels must be an image (y, x), got shape {shape}"


def _overlays(file: Any) -> list[bytes] | None:
    """Regions that ImageJ shows over an image, as it has them in the file."""
    found = (file.imagej_metadata or {}).get("Overlays")
    return [found] if isinstance(found, bytes) else list(found) if found else None


def _rois_of_overlays(
    overlays: list[bytes], frame: tuple[int, int], shape: tuple[int, int] | None, path: str
) -> xr.Dataset:
    from xs2p.io.rois.imagej import decoded, rois_of_imagej
    from xs2p.rois.pixels import agreed_frame

    agreed_frame(shape, frame, path)
    regions = [decoded(data, f"overlay {n + 1}", path) for n, data in enumerate(overlays)]
    return rois_of_imagej(regions, frame, path)


def read_png(path: str, shape: tuple[int, int] | None, labels: bool) -> xr.Dataset:
    """ROI set of a label image in a PNG file; its pixels' numbers are the labels."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            width, height = image.size
            if width * height > 8 * _MOST * os.path.getsize(path):
                raise ValueError(f"it tells of {width} × {height} pixels: it is damaged")
            image.verify()  # checksums, which are not looked at when pixels are read
        with Image.open(path) as image:
            mode = image.mode
            # Of a palette the numbers are the labels, and the colours only paint.
            pixels = np.asarray(image) if mode in ("1", "L", "P", "I", "I;16", "I;16B") else None
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: no PNG image can be read ({error})") from error
    if pixels is None:
        raise ValueError(
            f"{path}: its pixels are colours ({mode}), and which ROI has which is not known; "
            "save labels as a grey image of 8 or 16 bits, or as .tif or .npy"
        )
    whole = pixels.astype(np.uint8) if pixels.dtype == bool else pixels
    return rois_of_labels(whole, shape, path, labels)


def check_image(shape: tuple[int, ...]) -> None:
    """Raise where a file holds no single image, such as a movie, before its pixels are read."""
    if not _is_image(shape):
        raise ValueError(f"labels must be an image (y, x), got shape {shape}")


def _is_image(shape: tuple[int, ...]) -> bool:
    return len(shape) == 2 or (len(shape) > 2 and sum(n != 1 for n in shape) == 2)


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
