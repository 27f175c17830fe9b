"""From ROIs to what extraction applies: cell and neuropil masks, sparse and pixel × roi."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT, attributes, check_flag, check_number
from xs2p._given import rois_given
from xs2p._names import explain_names, without_other
from xs2p._warnings import names, warn
from xs2p.masks.masks import Masks, csc, equal_weights, roi_labels
from xs2p.rois.assemble import (
    NO_CELL_PIXELS,
    NO_NEUROPIL_PIXELS,
    OK,
    OTHER_PLANE,
    OUTSIDE_FRAME,
    STATUS,
)
from xs2p.rois.convert import contiguous
from xs2p.rois.pixels import PixelTable, given_radii, pixel_table, planes_of, shared_pixels
from xs2p.rois.planes import check_one_plane

if TYPE_CHECKING:
    from scipy.sparse import csc_array


_OF_ONE = ("masks are of one", "xs2p.extract(movie, rois) takes each from its own plane")


@without_other
def build_masks(
    rois: xr.Dataset | str | os.PathLike[str],
    *,
    lam_percentile: float = 50.0,
    allow_overlap: bool = False,
    neuropil_extract: bool = True,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular_neuropil: bool = False,
    **other: Any,
) -> Masks:
    """Build the cell and neuropil masks of an ROI set, equal to suite2p 1.1.0's.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``, or the path of one that says its frame's size.
    lam_percentile
        Percentile, 0 to 100, that a pixel's weight must reach among its surroundings to count
        as a cell pixel, which no neuropil mask may use; 0 makes every ROI pixel one.
    allow_overlap
        Keep pixels that several ROIs have in the cell masks. ``overlap(pixel)`` of ``rois``
        says which those are.
    neuropil_extract
        Build neuropil masks too.
    inner_neuropil_radius
        Pixels around an ROI that its neuropil mask leaves out.
    min_neuropil_pixels
        A neuropil mask grows until it has more pixels than this.
    circular_neuropil
        Grow neuropil masks as the ROI's own shape instead of a rectangle.

    Returns
    -------
    Masks
        Cell and neuropil masks, ``(Ly · Lx, roi)``, with ``rois.status`` saying which ROIs
        have none: ``no_cell_pixels``, ``no_neuropil_pixels`` or ``outside_frame``. Their
        traces will be NaN, but for ``F`` of those that lack neuropil alone, which is as suite2p
        has it: ``Fneu`` and what is made with it are NaN. One warning counts them.

    Raises
    ------
    ValueError
        If ``rois`` is no valid ROI set, or of several planes, or a parameter is out of its
        range.

    Examples
    --------
    >>> import xs2p
    >>> build_masks(xs2p.sample_rois())
    <xs2p.Masks: 98 ROIs on 64 × 64, cell 2024 pixels, neuropil 44931 pixels>
    """
    explain_names("build_masks", build_masks, other)
    options = check_mask_options(
        lam_percentile=lam_percentile,
        allow_overlap=allow_overlap,
        neuropil_extract=neuropil_extract,
        inner_neuropil_radius=inner_neuropil_radius,
        min_neuropil_pixels=min_neuropil_pixels,
        circular_neuropil=circular_neuropil,
    )
    given = rois_given(rois)
    table = pixel_table(given)  # says what is wrong with what is no ROI set
    check_one_plane(given, *_OF_ONE)
    compare_overlap(given, options, table)
    return _masks_of(given, options, table)


class MaskOptions(NamedTuple):
    """How masks are made: what :func:`build_masks` and :func:`xs2p.extract` take for it."""

    lam_percentile: float = 50.0
    allow_overlap: bool = False
    neuropil_extract: bool = True
    inner_neuropil_radius: int = 2
    min_neuropil_pixels: int = 350
    circular_neuropil: bool = False


def check_mask_options(**given: Any) -> MaskOptions:
    """Check the options of :func:`build_masks`; what is not given is as by default."""
    options = MaskOptions(**given)
    radius = options.inner_neuropil_radius
    check_number("inner_neuropil_radius", radius, low=0, unit="pixels")
    if radius != int(radius):
        raise ValueError(f"inner_neuropil_radius must be a whole number of pixels, got {radius!r}")
    check_number("min_neuropil_pixels", options.min_neuropil_pixels, low=0, unit="pixels")
    check_number("lam_percentile", options.lam_percentile, 0, 100)
    for name in ("allow_overlap", "neuropil_extract", "circular_neuropil"):
        check_flag(name, getattr(options, name))
    return options._replace(
        lam_percentile=float(options.lam_percentile), inner_neuropil_radius=int(radius)
    )


def mask_options_in(attrs: Mapping[Any, Any]) -> dict[str, Any]:
    """Options that attributes say masks were made with; flags are numbers there."""
    found = {name: attrs[name] for name in MaskOptions._fields if name in attrs}
    default = MaskOptions()._asdict()
    return {n: bool(v) if isinstance(default[n], bool) else v for n, v in found.items()}


def masks_of(rois: xr.Dataset, options: MaskOptions, plane: Any = None) -> Masks:
    """:func:`build_masks` by options that are checked, of ROIs that were compared.

    Of a ``plane`` those of its own ROIs; the others are in nobody's way, and have no pixels and the
    status ``other_plane``.
    """
    if plane is None:
        return _masks_of(rois, options, pixel_table(rois))
    here = np.asarray(planes_of(rois) == plane)
    some = contiguous(rois.isel(roi=np.flatnonzero(here)))
    own = _masks_of(some, options, pixel_table(some))
    spread = []
    for matrix in (own.cell, own.neuropil):
        if matrix is not None:
            npix = np.zeros(here.size, np.int64)
            npix[here] = np.diff(matrix.indptr)
            spread.append(csc(npix, matrix.indices, matrix.data, own.shape))
    status = np.full(here.size, OTHER_PLANE, dtype=TEXT)
    status[here] = own.rois["status"].values
    labels = roi_labels(rois).assign_coords(status=("roi", status, STATUS))
    cell, neuropil = spread if len(spread) == 2 else (spread[0], None)
    return Masks(cell, neuropil, labels, own.shape, own.attrs)


def _masks_of(rois: xr.Dataset, options: MaskOptions, table: PixelTable) -> Masks:
    shape = table.shape
    used = np.ones(table.lam.size, bool) if options.allow_overlap else ~table.overlap
    cell = cell_masks(table, used)
    cell_npix = np.diff(cell.indptr)
    status = np.full(cell_npix.shape, OK, dtype=TEXT)
    if "status" in rois:
        status[rois["status"].values == OUTSIDE_FRAME] = OUTSIDE_FRAME
    neuropil = None
    if options.neuropil_extract:
        image = cell_pixels(table, given_radii(rois), options.lam_percentile)
        indptr, indices = neuropil_pixels(
            table,
            image,
            options.inner_neuropil_radius,
            options.min_neuropil_pixels,
            options.circular_neuropil,
        )
        npix = np.diff(indptr)
        neuropil = csc(npix, indices, equal_weights(npix), shape)
        status[(npix == 0) & (status == OK)] = NO_NEUROPIL_PIXELS
    status[(cell_npix == 0) & (status != OUTSIDE_FRAME)] = NO_CELL_PIXELS
    _report(status, table.roi, options.allow_overlap)
    labels = roi_labels(rois).assign_coords(status=("roi", status, STATUS))
    return Masks(cell, neuropil, labels, shape, attributes(**options._asdict()))


def cell_image(
    rois: xr.Dataset | str | os.PathLike[str], lam_percentile: float = 50.0
) -> xr.DataArray:
    """Mark the pixels that belong to cells and that no neuropil mask may use.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``, or the path of one that says its frame's size.
    lam_percentile
        A pixel counts where its largest weight reaches this percentile, 0 to 100, of the
        weights in a square of five median radii around it; 0: wherever an ROI is.

    Returns
    -------
    DataArray
        Bool ``(y, x)``.
    """
    check_number("lam_percentile", lam_percentile, 0, 100)
    given = rois_given(rois)
    table = pixel_table(given)
    check_one_plane(given, *_OF_ONE)
    image = cell_pixels(table, given_radii(given), lam_percentile)
    return xr.DataArray(
        image,
        dims=("y", "x"),
        name="cell_image",
        attrs={
            "long_name": "pixels of cells",
            "description": "Pixels that no neuropil mask may use, found by xs2p.cell_image.",
            **attributes(lam_percentile=float(lam_percentile)),
        },
    )


def cell_pixels(table: PixelTable, radius: np.ndarray, lam_percentile: float) -> np.ndarray:
    """Bool ``(Ly, Lx)``: see :func:`cell_image`."""
    weight = np.zeros(table.shape, table.lam.dtype)
    np.maximum.at(weight.ravel(), table.flat, table.lam)
    image = np.zeros(table.shape, bool)
    # Only where an ROI is: nothing here goes over the whole frame.
    heaviest = np.flatnonzero((table.lam > 0) & (table.lam == weight.ravel()[table.flat]))
    if lam_percentile > 0 and table.roi.size:
        from xs2p.masks.masks_cpu import rank_at_least

        size = max(int(5 * np.median(radius)), 1)
        # The rank that scipy.ndimage.percentile_filter picks.
        rank = min(int(size * size * lam_percentile / 100.0), size * size - 1)
        offsets = np.searchsorted(heaviest, table.offsets)
        heaviest = heaviest[np.argsort(table.key[heaviest])]
        y, x = (p[heaviest].astype(np.int64) for p in (table.ypix, table.xpix))
        heaviest = heaviest[rank_at_least(weight, y, x, offsets, size, rank)]
    image.ravel()[table.flat[heaviest]] = True
    return image


def neuropil_pixels(
    table: PixelTable, cell: np.ndarray, inner: int, min_pixels: float, circular: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Neuropil masks as ``(indptr, flat indices)``.

    ``cell`` is the cell image: written to on the way, and at the end as it was.
    """
    from xs2p.masks.masks_cpu import circular_neuropil, rectangular_neuropil

    grow = circular_neuropil if circular else rectangular_neuropil
    # Counts are whole, so growing while count ≤ 350.5 is growing while count ≤ 350.
    least = int(np.floor(min_pixels))
    ypix, xpix = table.ypix.astype(np.int64), table.xpix.astype(np.int64)
    return grow(ypix, xpix, table.offsets, cell, inner, least)


def cell_masks(table: PixelTable, used: np.ndarray) -> csc_array:
    """Weights of the used pixels, normalised to sum 1 in every ROI."""
    owner, flat = table.owner[used], table.flat[used]
    weights = table.lam[used].astype(np.float32)
    npix = np.bincount(owner, minlength=table.roi.size)
    with np.errstate(over="ignore"):
        totals = _sums(weights, npix)
    if not np.isfinite(totals).all():  # weights near the largest number: by a power of two less
        weights = np.where(np.isfinite(totals)[owner], weights, weights * np.float32(2.0**-40))
        totals = _sums(weights, npix)
    kept = totals[owner] > 0  # a mask of zero weights only would give zeros for a trace
    owner, flat = owner[kept], flat[kept]
    weights = weights[kept] / totals[owner]
    order = np.argsort(table.key[used][kept])
    npix = np.bincount(owner, minlength=table.roi.size)
    return csc(npix, flat[order], weights[order], table.shape)


def _sums(weights: np.ndarray, npix: np.ndarray) -> np.ndarray:
    """Add up the weights of each ROI, in float32 and pairs as the reference does: same bits."""
    first, totals = np.cumsum(npix) - npix, np.zeros(npix.size, np.float32)
    for n in np.unique(npix[npix > 0]):  # ROIs of one size are rows
        rows = np.flatnonzero(npix == n)
        totals[rows] = np.add.reduce(weights[first[rows, None] + np.arange(n)], axis=1)
    return totals


def compare_overlap(
    rois: xr.Dataset, options: MaskOptions, table: PixelTable | None = None
) -> None:
    """Warn, once for all planes, where stored overlap flags are not those of the ROIs at hand."""
    if options.allow_overlap:
        return
    table = pixel_table(rois) if table is None else table
    shared = shared_pixels(table, planes_of(rois))
    differs = shared != table.overlap
    if not differs.any():
        return
    stale = np.unique(table.owner[differs])
    means = []
    if (table.overlap & ~shared).any():
        means.append("pixels shared with ROIs that were dropped stay excluded")
    if (shared & ~table.overlap).any():
        means.append("pixels shared with ROIs that were added count for both")
    warn(
        f"the stored overlap flags of {stale.size} of {table.roi.size} ROIs disagree with the "
        f"ROIs at hand (roi {names(table.roi[stale])}) and are used as stored: "
        f"{', '.join(means)}; xs2p.recompute_overlap(rois) computes them anew"
    )


def _report(status: np.ndarray, roi: np.ndarray, allow_overlap: bool) -> None:
    """Say once which ROIs get no trace, and why."""
    parts = []
    for reason in (NO_CELL_PIXELS, NO_NEUROPIL_PIXELS, OUTSIDE_FRAME):
        which = roi[status == reason]
        if which.size:
            parts.append(f"{which.size} {reason} (roi {names(which)})")
    if parts:
        hint = "" if allow_overlap else "; allow_overlap=True keeps pixels that ROIs share"
        missing = (status != OK).sum()
        kept = "; those without neuropil alone keep F" if NO_NEUROPIL_PIXELS in status else ""
        warn(
            f"{missing} of {roi.size} ROIs lack a mask and get NaN instead of a trace: "
            f"{', '.join(parts)}{kept}{hint}"
        )
