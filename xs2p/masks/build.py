"""From ROIs to what extraction applies: cell and neuropil masks, sparse and pixel × roi."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT, attributes, check_number
from xs2p._warnings import names, warn
from xs2p.masks.layout import Layout, layout
from xs2p.masks.packing import MaskArrays
from xs2p.rois import build as _rois
from xs2p.rois.pixels import PixelTable, pixel_table, planes_of, shared_pixels

if TYPE_CHECKING:
    from scipy.sparse import csc_array


@dataclasses.dataclass(frozen=True, eq=False)
class Masks:
    """Cell and neuropil masks of an ROI set; made by :func:`xs2p.build_masks`.

    Attributes
    ----------
    cell
        ``csc_array`` of float32, ``(Ly · Lx, roi)``: pixel weights, each column adding up to 1.
        Row ``y · Lx + x`` is the pixel at row ``y``, column ``x``.
    neuropil
        ``csc_array`` of float32, ``(Ly · Lx, roi)``: equal weights ``1 / n`` in each column;
        None where neuropil is not extracted.
    rois
        Dataset of the coordinates over ``roi`` that label the traces, ``status`` among them.
    shape
        Frame size ``(Ly, Lx)``.
    attrs
        The parameters that made the masks.
    """

    cell: csc_array
    neuropil: csc_array | None
    rois: xr.Dataset
    shape: tuple[int, int]
    attrs: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        n_pixels, n_rois = self.shape[0] * self.shape[1], self.rois.sizes["roi"]
        for name, matrix in (("cell", self.cell), ("neuropil", self.neuropil)):
            if matrix is None:
                continue
            if matrix.shape != (n_pixels, n_rois):
                raise ValueError(
                    f"the {name} masks are {matrix.shape}, expected (Ly · Lx, roi) = "
                    f"({n_pixels}, {n_rois}) for a frame of {self.shape}"
                )
        if self.neuropil is not None and not _columns_are_means(self.neuropil):
            raise ValueError("the neuropil weights of an ROI must be equal and add up to 1")

    @property
    def n_rois(self) -> int:
        """Number of ROIs."""
        return int(self.rois.sizes["roi"])

    @functools.cached_property
    def token(self) -> str:
        """Hash of what the masks hold; equal masks have equal tokens."""
        import hashlib

        digest = hashlib.blake2b(repr((self.shape, self.n_rois)).encode(), digest_size=16)
        for matrix in (self.cell, self.neuropil):
            for part in () if matrix is None else (matrix.indptr, matrix.indices, matrix.data):
                digest.update(np.ascontiguousarray(part).data)
            digest.update(b"|")
        return digest.hexdigest()

    @functools.cached_property
    def layout(self) -> Layout:
        """The masks as the kernels read them; a GPU has one copy of it for as long as it lives."""
        return layout(self.arrays())

    def __dask_tokenize__(self) -> tuple[str, str]:
        return "xs2p.Masks", self.token

    def __repr__(self) -> str:
        neuropil = "none" if self.neuropil is None else f"{self.neuropil.nnz} pixels"
        return (
            f"<xs2p.Masks: {self.n_rois} ROIs on {self.shape[0]} × {self.shape[1]}, "
            f"cell {self.cell.nnz} pixels, neuropil {neuropil}>"
        )

    def arrays(self) -> MaskArrays:
        """Return the masks as plain arrays."""
        neuropil = self.neuropil
        return MaskArrays(
            self.cell.indptr,
            self.cell.indices,
            self.cell.data,
            None if neuropil is None else neuropil.indptr,
            None if neuropil is None else neuropil.indices,
            self.shape,
        )

    def select(self, keep: np.ndarray | slice) -> Masks:
        """Masks of some ROIs; ``keep`` is boolean or positions over ``roi``."""
        keep = np.arange(self.n_rois)[keep]
        return dataclasses.replace(
            self,
            cell=self.cell[:, keep],
            neuropil=None if self.neuropil is None else self.neuropil[:, keep],
            rois=self.rois.isel(roi=keep),
        )

    def to_dataset(self) -> xr.Dataset:
        """Return the masks as a Dataset that Zarr and NetCDF can hold.

        Returns
        -------
        Dataset
            CF contiguous ragged arrays: ``cell_npix(roi)``, ``cell_ipix(cell_pixel)`` (flat
            index ``y · Lx + x``), ``cell_weight(cell_pixel)``; ``neuropil_npix(roi)`` and
            ``neuropil_ipix(neuropil_pixel)``; ``cell_mask_id`` and ``neuropil_mask_id`` say
            beside each pixel whose it is, by ``mask_id(roi)``; attributes ``Ly``, ``Lx`` and
            the parameters.
        """
        npix = np.diff(self.cell.indptr)
        ids = np.arange(self.n_rois)
        number = {"long_name": "number of the mask", "description": "What the mask ids refer to."}
        ds = self.rois.assign_coords(mask_id=("roi", ids, number)).assign(
            cell_npix=("roi", npix, _described("cell", "npix")),
            cell_ipix=(
                "cell_pixel",
                self.cell.indices.astype(np.int64),
                _described("cell", "ipix"),
            ),
            cell_weight=("cell_pixel", self.cell.data, _described("cell", "weight")),
            cell_mask_id=("cell_pixel", np.repeat(ids, npix), _described("cell", "mask_id")),
        )
        if self.neuropil is not None:
            npix = np.diff(self.neuropil.indptr)
            ds = ds.assign(
                neuropil_npix=("roi", npix, _described("neuropil", "npix")),
                neuropil_ipix=(
                    "neuropil_pixel",
                    self.neuropil.indices.astype(np.int64),
                    _described("neuropil", "ipix"),
                ),
                neuropil_mask_id=(
                    "neuropil_pixel",
                    np.repeat(ids, npix),
                    _described("neuropil", "mask_id"),
                ),
            )
        return ds.assign_attrs(self.attrs, Ly=self.shape[0], Lx=self.shape[1])

    @classmethod
    def from_dataset(cls, ds: xr.Dataset) -> Masks:
        """Read masks back from the Dataset of :meth:`to_dataset`.

        Raises
        ------
        ValueError
            If the Dataset lacks a part, or its parts disagree.
        """
        needed = ("cell_npix", "cell_ipix", "cell_weight")
        absent = [name for name in needed if name not in ds]
        absent += [name for name in ("Ly", "Lx") if name not in ds.attrs]
        if absent:
            raise ValueError(
                f"this Dataset holds no masks: it lacks {', '.join(absent)}; "
                "Masks.to_dataset() makes one"
            )
        shape = int(ds.attrs["Ly"]), int(ds.attrs["Lx"])
        for kind in ("cell", "neuropil"):
            if f"{kind}_mask_id" in ds.variables:
                owner = np.repeat(ds["mask_id"].values, ds[f"{kind}_npix"].values)
                if not np.array_equal(owner, ds[f"{kind}_mask_id"].values):
                    raise ValueError(
                        f"the {kind} pixels are no longer those of the ROIs beside them: this "
                        "Dataset was sorted or selected. Read it as it was stored, then choose "
                        "ROIs with Masks.select(keep)"
                    )
        neuropil = None
        cell = _csc(ds["cell_npix"].values, ds["cell_ipix"].values, ds["cell_weight"].values, shape)
        if "neuropil_npix" in ds:
            npix = ds["neuropil_npix"].values
            neuropil = _csc(npix, ds["neuropil_ipix"].values, _equal_weights(npix), shape)
        labels = _roi_labels(ds).drop_vars("mask_id", errors="ignore")
        attrs = {key: value for key, value in ds.attrs.items() if key not in ("Ly", "Lx")}
        return cls(cell, neuropil, labels, shape, attrs)


def _described(kind: str, part: str) -> dict[str, str]:
    made = "made by xs2p.build_masks"
    return {
        "npix": {
            "long_name": f"number of pixels of the {kind} mask",
            "units": "pixel",
            "description": f"How many of the {kind} pixels are the ROI's, {made}.",
            "sample_dimension": f"{kind}_pixel",
        },
        "ipix": {
            "long_name": f"flat index of a pixel of the {kind} mask",
            "description": f"Row times Lx plus column, {made}.",
        },
        "weight": {
            "long_name": f"weight of a pixel of the {kind} mask",
            "units": "1",
            "description": f"Weights of an ROI add up to 1, {made}.",
        },
        "mask_id": {
            "long_name": f"mask_id of the ROI whose {kind} mask the pixel is of",
            "description": "Ties pixels to their ROI, so that Datasets that were sorted are seen.",
        },
    }[part]


def build_masks(
    rois: xr.Dataset,
    *,
    lam_percentile: float = 50.0,
    allow_overlap: bool = False,
    neuropil_extract: bool = True,
    inner_neuropil_radius: int = 2,
    min_neuropil_pixels: int = 350,
    circular_neuropil: bool = False,
) -> Masks:
    """Build the cell and neuropil masks of an ROI set, equal to suite2p 1.1.0's.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``.
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
        traces will be NaN; one warning counts them.

    Raises
    ------
    ValueError
        If ``rois`` is no valid ROI set or a parameter is out of its range.

    Examples
    --------
    >>> import xs2p
    >>> build_masks(xs2p.sample_rois())
    <xs2p.Masks: 98 ROIs on 64 × 64, cell 2024 pixels, neuropil 44931 pixels>
    """
    check_number("inner_neuropil_radius", inner_neuropil_radius, low=0, unit="pixels")
    if inner_neuropil_radius != int(inner_neuropil_radius):
        raise ValueError(
            f"inner_neuropil_radius must be a whole number of pixels, got {inner_neuropil_radius!r}"
        )
    check_number("min_neuropil_pixels", min_neuropil_pixels, low=0, unit="pixels")
    check_number("lam_percentile", lam_percentile, 0, 100)
    table = pixel_table(rois)
    shape = table.shape
    if not allow_overlap:
        _compare_overlap(table, planes_of(rois))
    used = np.ones(table.lam.size, bool) if allow_overlap else ~table.overlap
    cell = _cell_masks(table, used)
    cell_npix = np.diff(cell.indptr)
    status = np.full(cell_npix.shape, _rois.OK, dtype=TEXT)
    if "status" in rois:
        status[rois["status"].values == _rois.OUTSIDE_FRAME] = _rois.OUTSIDE_FRAME
    neuropil = None
    if neuropil_extract:
        image = cell_pixels(table, rois["radius"].values, lam_percentile)
        indptr, indices = neuropil_pixels(
            table, image, int(inner_neuropil_radius), min_neuropil_pixels, circular_neuropil
        )
        npix = np.diff(indptr)
        neuropil = _csc(npix, indices, _equal_weights(npix), shape)
        status[(npix == 0) & (status == _rois.OK)] = _rois.NO_NEUROPIL_PIXELS
    status[(cell_npix == 0) & (status != _rois.OUTSIDE_FRAME)] = _rois.NO_CELL_PIXELS
    attrs = attributes(
        lam_percentile=float(lam_percentile),
        allow_overlap=allow_overlap,
        neuropil_extract=neuropil_extract,
        inner_neuropil_radius=int(inner_neuropil_radius),
        min_neuropil_pixels=min_neuropil_pixels,
        circular_neuropil=circular_neuropil,
    )
    _report(status, table.roi, allow_overlap)
    why = ("roi", status, _rois.STATUS)
    return Masks(cell, neuropil, _roi_labels(rois).assign_coords(status=why), shape, attrs)


def cell_image(rois: xr.Dataset, lam_percentile: float = 50.0) -> xr.DataArray:
    """Mark the pixels that belong to cells and that no neuropil mask may use.

    Parameters
    ----------
    rois
        ROI set over ``roi`` and ``pixel``.
    lam_percentile
        A pixel counts where its largest weight reaches this percentile, 0 to 100, of the
        weights in a square of five median radii around it; 0: wherever an ROI is.

    Returns
    -------
    DataArray
        Bool ``(y, x)``.
    """
    check_number("lam_percentile", lam_percentile, 0, 100)
    table = pixel_table(rois)
    image = cell_pixels(table, rois["radius"].values, lam_percentile)
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
        from xs2p.compute import kernels as _cpu

        size = max(int(5 * np.median(radius)), 1)
        # The rank that scipy.ndimage.percentile_filter picks.
        rank = min(int(size * size * lam_percentile / 100.0), size * size - 1)
        offsets = np.searchsorted(heaviest, table.offsets)
        heaviest = heaviest[np.argsort(table.key[heaviest])]
        y, x = (p[heaviest].astype(np.int64) for p in (table.ypix, table.xpix))
        heaviest = heaviest[_cpu.rank_at_least(weight, y, x, offsets, size, rank)]
    image.ravel()[table.flat[heaviest]] = True
    return image


def neuropil_pixels(
    table: PixelTable, cell: np.ndarray, inner: int, min_pixels: float, circular: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Neuropil masks as ``(indptr, flat indices)``.

    ``cell`` is the cell image: written to on the way, and at the end as it was.
    """
    from xs2p.compute import kernels as _cpu

    grow = _cpu.circular_neuropil if circular else _cpu.rectangular_neuropil
    # Counts are whole, so growing while count ≤ 350.5 is growing while count ≤ 350.
    least = int(np.floor(min_pixels))
    ypix, xpix = table.ypix.astype(np.int64), table.xpix.astype(np.int64)
    return grow(ypix, xpix, table.offsets, cell, inner, least)


def _roi_labels(ds: xr.Dataset) -> xr.Dataset:
    """Keep the coordinates over ``roi``, which label the traces."""
    labels = ds.drop_vars([str(v) for v in ds.data_vars])
    return labels.drop_dims([d for d in labels.dims if d != "roi"]).drop_attrs(deep=False)


def _cell_masks(table: PixelTable, used: np.ndarray) -> csc_array:
    """Weights of the used pixels, normalised to sum 1 in every ROI."""
    owner, flat = table.owner[used], table.flat[used]
    weights = table.lam[used].astype(np.float32)
    ends = np.cumsum(np.bincount(owner, minlength=table.roi.size)).tolist()
    # Added up in float32 and in the order of the pixels, as the reference does: same bits.
    sums = [np.add.reduce(weights[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    totals = np.array(sums, np.float32)
    kept = totals[owner] > 0  # a mask of zero weights only would give zeros for a trace
    owner, flat = owner[kept], flat[kept]
    weights = weights[kept] / totals[owner]
    order = np.argsort(table.key[used][kept])
    npix = np.bincount(owner, minlength=table.roi.size)
    return _csc(npix, flat[order], weights[order], table.shape)


def _csc(npix: np.ndarray, indices: np.ndarray, data: Any, shape: tuple[int, int]) -> csc_array:
    from scipy.sparse import csc_array

    npix = np.asarray(npix, dtype=np.int64)
    indptr = np.concatenate([[0], np.cumsum(npix)])
    if not indptr[-1] == np.size(indices) == np.size(data):
        raise ValueError(
            f"the pixel counts of the masks add up to {indptr[-1]}, but there are "
            f"{np.size(indices)} pixels and {np.size(data)} weights"
        )
    n_pixels = shape[0] * shape[1]
    if np.size(indices) and not 0 <= np.min(indices) <= np.max(indices) < n_pixels:
        raise ValueError(f"masks hold pixel {np.max(indices)}, outside a frame of {shape}")
    matrix = csc_array(
        (np.asarray(data, dtype=np.float32), indices, indptr), shape=(n_pixels, npix.size)
    )
    return matrix


def _equal_weights(npix: np.ndarray) -> np.ndarray:
    return np.repeat((1.0 / np.maximum(npix, 1)).astype(np.float32), npix)


def _columns_are_means(matrix: csc_array) -> bool:
    return bool(np.array_equal(matrix.data, _equal_weights(np.diff(matrix.indptr))))


def _compare_overlap(table: PixelTable, plane: np.ndarray | None) -> None:
    """Warn where stored overlap flags are not those of the ROIs at hand."""
    differs = shared_pixels(table, plane) != table.overlap
    if differs.any():
        stale = np.unique(table.owner[differs])
        warn(
            f"the stored overlap flags of {stale.size} of {table.roi.size} ROIs disagree with the "
            f"ROIs at hand (roi {names(table.roi[stale])}) and are used as stored; "
            "xs2p.recompute_overlap(rois) computes them anew"
        )


def _report(status: np.ndarray, roi: np.ndarray, allow_overlap: bool) -> None:
    """Say once which ROIs get no trace, and why."""
    parts = []
    for reason in (_rois.NO_CELL_PIXELS, _rois.NO_NEUROPIL_PIXELS, _rois.OUTSIDE_FRAME):
        which = roi[status == reason]
        if which.size:
            parts.append(f"{which.size} {reason} (roi {names(which)})")
    if parts:
        hint = "" if allow_overlap else "; allow_overlap=True keeps pixels that ROIs share"
        missing = (status != _rois.OK).sum()
        warn(
            f"{missing} of {roi.size} ROIs lack a mask and get NaN instead of a trace: "
            f"{', '.join(parts)}{hint}"
        )
