"""ROIs of roiextractors: whatever its ``SegmentationExtractor`` opens, through its own methods.

Pixel masks are rows of ``(y, x, weight)``, of volumes ``(y, x, z, weight)``, though some
documentation has x first; image masks are ``(y, x, roi)``, or of some extractors ``(roi, y, x)``.
The image mask of single ROIs tells which order pixel masks have, and the size of the frame. What
was accepted is a property in newer releases, in older ones a list. Nothing of roiextractors is
imported.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p._attrs import TEXT
from xs2p.io.suite2p.names import FLAGS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import xarray as xr

    Shape = tuple[int, int]

_SHAPE = ("get_frame_shape", "get_image_shape", "get_image_size")
_YES = ("is_accepted", "accepted", "Accepted")
_NO = ("is_rejected", "rejected", "Rejected")
_ACCEPTED = {"long_name": "accepted, as the extractor says"}
_PLANE = {"long_name": "plane of the ROI", "description": "z of the ROI's voxels."}


class _Pixels(NamedTuple):
    """Pixels of ROIs, one after the other."""

    npix: np.ndarray
    yxz: np.ndarray
    """``(pixel, 2)``, or ``(pixel, 3)`` of a volume."""
    weight: np.ndarray


def is_segmentation(source: Any) -> bool:
    """Whether something has the methods of a ``SegmentationExtractor``."""
    masks = ("get_roi_pixel_masks", "get_roi_image_masks")
    return (
        not isinstance(source, type)
        and _has(source, "get_roi_ids")
        and any(_has(source, name) for name in masks)
    )


def rois_of_extractor(source: Any, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of a ``SegmentationExtractor``; background components are left out."""
    from xs2p.rois.assemble import Fields, assemble
    from xs2p.rois.pixels import agreed_frame

    told = f"the {type(source).__name__}"
    ids = [i for i in _call(source, "get_roi_ids") if not str(i).startswith("background")]
    pixels, frame = _read(source, ids, told)
    known = agreed_frame(shape, frame, told)
    if known is None:
        raise ValueError(
            f"{told} does not say the size of the frame; give it in pixels: shape=(Ly, Lx)"
        )
    roi, columns = _labels(ids)
    columns |= _flags(source, ids, told)
    if pixels.yxz.shape[1] == 3:
        columns["plane"] = _plane(pixels, ids, told)
    try:
        return assemble(
            roi=roi,
            npix=pixels.npix,
            ypix=pixels.yxz[:, 0],
            xpix=pixels.yxz[:, 1],
            lam=pixels.weight,
            shape=known,
            fields=Fields(per_roi=columns),
        )
    except ValueError as error:
        raise ValueError(f"{told}: {error}") from error


def _read(source: Any, ids: Sequence[Any], told: str) -> tuple[_Pixels, Shape | None]:
    """Pixels of all ROIs, and the size of the frame, by image masks where there are some."""
    image = _image(source, ids[0], told) if ids else None
    frame = _frame(image, source, told)
    listed = _pixel_masks(source, ids, told)
    if listed is None and image is None and ids:
        raise ValueError(f"{told} has neither pixel masks nor image masks of its ROIs")
    order = None
    if listed is not None:
        order = "yx" if image is None else _order(source, ids, listed, told)
    if listed is None or order is None:
        found = [_image(source, roi, told) for roi in ids]
        return _of_images([image for image in found if image is not None]), frame
    pixels = _of_lists(listed, ids, told)
    if order == "xy":
        pixels = pixels._replace(yxz=pixels.yxz[:, [1, 0, *range(2, pixels.yxz.shape[1])]])
    return pixels, frame


def _order(source: Any, ids: Sequence[Any], listed: list[np.ndarray], told: str) -> str | None:
    """Tell which axis pixel masks have first, by image masks; None where they are of neither."""
    for roi, mask in zip(ids, listed, strict=True):
        image = _image(source, roi, told)
        fits = [] if image is None else [o for o in ("yx", "xy") if _fits(mask, image, o)]
        if not fits:
            return None
        if len(fits) == 1:
            return fits[0]
    return "yx"  # all are symmetric


def _fits(mask: np.ndarray, image: np.ndarray, order: str) -> bool:
    """Whether pixels make the image; some releases leave out those with weights below 0."""
    at = mask[:, :-1].astype(np.int64)
    at = at[:, [1, 0, *range(2, at.shape[1])]] if order == "xy" else at
    if at.shape[1] != image.ndim or (at < 0).any() or (at >= image.shape).any():
        return False
    made = np.zeros(image.shape)
    made[tuple(at.T)] = mask[:, -1]
    return any(np.allclose(made, wanted, rtol=1e-5) for wanted in (image, np.maximum(image, 0)))


def _image(source: Any, roi: Any, told: str) -> np.ndarray | None:
    """Image mask ``(y, x)`` of one ROI, of a volume ``(y, x, z)``; None where there is none."""
    got = _call(source, "get_roi_image_masks", roi_ids=[roi])
    if got is None:
        return None
    image = _real(got, told)
    of_roi = next((axis for axis in (-1, 2, 0) if image.ndim > 2 and image.shape[axis] == 1), None)
    image = image if of_roi is None else np.take(image, 0, axis=of_roi)
    if image.ndim not in (2, 3):
        raise ValueError(
            f"{told} has an image mask of {np.shape(got)} of roi {roi}, expected (y, x, 1)"
        )
    return image


def _real(got: Any, told: str) -> np.ndarray:
    values = np.asarray(got)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{told} has masks of {values.dtype}, expected real numbers")
    return values.astype(np.float64)


def _whole(size: Any, told: str) -> tuple[int, ...]:
    sizes = np.ravel(np.asarray(size))
    if sizes.dtype.kind not in "iuf" or not (np.abs(sizes) < 2**31).all() or (sizes % 1).any():
        raise ValueError(f"{told} says that its frame is {size}, expected whole numbers of pixels")
    return tuple(int(n) for n in sizes)


def _frame(image: np.ndarray | None, source: Any, told: str) -> Shape | None:
    """Size of the frame: that of an image mask; some say it as (width, height)."""
    name = next((name for name in _SHAPE if _has(source, name)), None)
    size = None if name is None else _call(source, name)
    said = None if size is None else _whole(size, told)
    if image is None:
        return said[:2] if said is not None and len(said) == 2 else None  # type: ignore[return-value]
    frame = (int(image.shape[0]), int(image.shape[1]))
    known = None if said is None else [sorted(said), sorted(said[:2])]  # also (y, x, roi)
    if known and sorted(image.shape) not in known and sorted(frame) not in known:
        raise ValueError(
            f"{told} says that its frame is {said}, and its image masks are {image.shape}; make "
            "an ROI set of the masks: xs2p.rois_from_footprints(masks), an array (roi, y, x)"
        )
    return frame


def _pixel_masks(source: Any, ids: Sequence[Any], told: str) -> list[np.ndarray] | None:
    """Pixel masks as arrays of rows; None where they are not there, or not one for each ROI."""
    got = _call(source, "get_roi_pixel_masks", roi_ids=list(ids)) if ids else []
    masks = None if got is None else [_real(mask, told) for mask in got]
    if masks is None or len(masks) != len(ids):
        return None
    for roi, mask in zip(ids, masks, strict=True):
        if mask.ndim != 2 or mask.shape[1] not in (3, 4) or mask.shape[1] != masks[0].shape[1]:
            raise ValueError(
                f"{told} has a pixel mask of {mask.shape} of roi {roi}, expected rows of "
                "(y, x, weight), or (y, x, z, weight) of all ROIs"
            )
    return masks


def _of_lists(listed: list[np.ndarray], ids: Sequence[Any], told: str) -> _Pixels:
    rows = np.concatenate(listed) if listed else np.empty((0, 3))
    npix = np.array([len(mask) for mask in listed], np.int64)
    places = rows[:, :-1]
    odd = np.flatnonzero(((places != np.rint(places)) | (np.abs(places) > 2**31)).any(axis=1))
    if odd.size:
        roi = ids[int(np.repeat(np.arange(npix.size), npix)[odd[0]])]
        raise ValueError(
            f"{told} has a pixel at {places[odd[0]].tolist()} in roi {roi}, expected whole numbers"
        )
    return _Pixels(npix, places.astype(np.int64), rows[:, -1])


def _of_images(images: list[np.ndarray]) -> _Pixels:
    dims = images[0].ndim if images else 2
    at = [np.argwhere(image != 0) for image in images]
    weights = [image[image != 0] for image in images]
    return _Pixels(
        np.array([len(part) for part in at], np.int64),
        np.concatenate(at) if at else np.empty((0, dims), np.int64),
        np.concatenate(weights) if weights else np.empty(0),
    )


def _plane(pixels: _Pixels, ids: Sequence[Any], told: str) -> xr.Variable:
    """Plane of each ROI of a volume; a ValueError where one lies in several."""
    import xarray as xr

    z = np.split(pixels.yxz[:, 2], np.cumsum(pixels.npix)[:-1])
    for roi, planes in zip(ids, z, strict=True):
        if len(set(planes.tolist())) > 1:
            raise ValueError(
                f"{told}: roi {roi} lies in z {planes.min()} to {planes.max()}, and an ROI here "
                "belongs to one plane: cut it into one ROI a plane"
            )
    return xr.Variable("roi", [int(planes[0]) if planes.size else 0 for planes in z], _PLANE)


def _labels(ids: Sequence[Any]) -> tuple[np.ndarray, dict[str, xr.Variable]]:
    """Labels of ROIs: their ids where these are different whole numbers, else names beside."""
    import xarray as xr

    whole = [str(i) for i in ids]
    if all(text.isdecimal() for text in whole) and len({int(text) for text in whole}) == len(ids):
        return np.array([int(text) for text in whole], np.int64), {}
    about = {"long_name": "name of the ROI", "description": "Its id in the extractor."}
    return np.arange(len(ids)), {"name": xr.Variable("roi", np.array(whole, TEXT), about)}


def _flags(source: Any, ids: Sequence[Any], told: str) -> dict[str, xr.Variable]:
    """``iscell`` and ``accepted``, of properties or of lists of ROIs, where there are such."""
    import xarray as xr

    found = {}
    said: dict[str, np.ndarray | None] = {"yes": None, "no": None}
    keys = list(source.get_property_keys()) if _has(source, "get_property_keys") else []
    if "iscell" in keys:
        cells = np.asarray(source.get_property("iscell", ids)) > 0
        found["iscell"] = xr.Variable("roi", cells, {"long_name": FLAGS["iscell"]})
    for which, names, method in (
        ("yes", _YES, "get_accepted_list"),
        ("no", _NO, "get_rejected_list"),
    ):
        key = next((name for name in names if name in keys), None)
        listed = None if key or "iscell" in keys else _call(source, method)
        if key:
            said[which] = np.asarray(source.get_property(key, ids)) > 0
        elif listed is not None:
            chosen = set(np.asarray(listed).tolist())
            said[which] = np.array([i in chosen for i in ids], bool)
    yes, no = said["yes"], said["no"]
    if yes is not None and no is not None and (yes & no).any() and not yes.all():
        both = [i for i, twice in zip(ids, yes & no, strict=True) if twice]
        raise ValueError(f"{told} has ROIs both among the accepted and the rejected: {both[:5]}")
    if no is not None and (yes is None or yes.all()):  # all: nobody said which
        yes = ~no
    if yes is not None:
        found["accepted"] = xr.Variable("roi", yes, _ACCEPTED)
    return found


def _has(source: Any, name: str) -> bool:
    return callable(getattr(source, name, None))


def _call(source: Any, name: str, **given: Any) -> Any:
    """Call a method, whatever warning of its age it has; None where it is not there."""
    if not _has(source, name):
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        try:
            return getattr(source, name)(**given)
        except NotImplementedError:
            return None
