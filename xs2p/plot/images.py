"""The images that a summary shows: where they are from, and which plane each is of."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p.plot.drawing import check_image, how_to_flatten
from xs2p.plot.panels import image_of_plane
from xs2p.rois.pixels import PixelTable, planes_of

_IMAGES = ("meanImg", "mean_image")
_DIMS = ({"y", "x"}, {"plane", "y", "x"})


class Picture(NamedTuple):
    """One image, and what it is of."""

    name: str
    """In words; "" where there is no image."""
    image: Any
    """``(y, x)``, lazy or not; None where there is none."""


def pictures(ds: xr.Dataset, background: Any, movie: Any, shape: tuple[int, int]) -> list[Picture]:
    """One image for each plane, or one alone where nobody speaks of planes; none is computed."""
    own = planes_of(ds)
    planes = [] if own is None else np.unique(own).tolist()
    needed = {"time", "y", "x"}
    if movie is not None and set(movie.dims) not in (
        needed,
        needed | ({"plane"} if planes else set()),
    ):
        expected = "('time', 'y', 'x')" + (", or also 'plane'" if planes else "")
        raise ValueError(f"movie has dims {movie.dims}, expected {expected}")
    found = [_of_plane(ds, plane, background, movie) for plane in planes or [None]]
    for picture in found:
        if picture.image is not None:
            _check_size(picture.image, shape)
    return found


def finished(picture: Picture, computed: Any, table: PixelTable) -> tuple[str, np.ndarray]:
    """Name and image once it is computed; the weights of the pixels where there is none."""
    if computed is None:
        return "Pixel weights", weights_image(table)
    dims = picture.image.dims if isinstance(picture.image, xr.DataArray) else ("y", "x")
    return picture.name, check_image(xr.DataArray(computed, dims=dims), table.shape)


def weights_image(table: PixelTable) -> np.ndarray:
    """Image of the ROIs: each pixel's weight over the largest of its ROI."""
    largest = np.zeros(table.roi.size)
    np.maximum.at(largest, table.owner, table.lam)
    image = np.zeros(table.shape)
    shares = table.lam / np.maximum(largest[table.owner], 1e-30)
    np.maximum.at(image.ravel(), table.flat, shares)
    return image


def _of_plane(ds: xr.Dataset, plane: Any, background: Any, movie: Any) -> Picture:
    """Image of one plane; of all where ``plane`` is None."""
    if background is not None:
        own = background.attrs.get("long_name") if isinstance(background, xr.DataArray) else None
        name = str(own).capitalize() if own else "Image"
        return Picture(name, background if plane is None else image_of_plane(background, plane))
    if movie is not None:
        if plane is not None:
            movie = image_of_plane(movie, plane, "movie")
        return Picture("Mean image", movie.mean("time", dtype=np.float64))
    label = int(plane) if isinstance(plane, float) and plane.is_integer() else plane
    own_names = [] if plane is None else [f"{name}_plane{label}" for name in _IMAGES]
    for key in (*own_names, *_IMAGES):
        if key in ds.variables and set(ds[key].dims) in _DIMS[: 1 if plane is None else 2]:
            image = ds[key] if plane is None else image_of_plane(ds[key], plane, key)
            return Picture("Mean image", image)
    return Picture("", None)


def _check_size(image: Any, shape: tuple[int, int]) -> None:
    """Raise before anything is computed."""
    is_frame = isinstance(image, xr.DataArray) and set(image.dims) == {"y", "x"}
    found = (image.sizes["y"], image.sizes["x"]) if is_frame else tuple(np.shape(image))
    if found != shape:
        more = f"; {how_to_flatten(image)}" if len(found) > 2 else ""
        raise ValueError(
            f"the image must be (y, x) of {shape}, the ROIs' frame; it is {found}{more}"
        )
