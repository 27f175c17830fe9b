"""Cell and neuropil masks: sparse, pixel × roi."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from xs2p.compute.arrays import as_array
from xs2p.compute.device import require_gpu
from xs2p.masks.layout import Layout, layout
from xs2p.masks.packing import MaskArrays

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
        """Hash of the pixels and weights: equal masks have equal tokens, whatever their labels."""
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

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        # Of what goes into results: the pixels by which they are made, and all that labels them.
        labels = {str(name): coord.variable for name, coord in self.rois.coords.items()}
        told = {name: (v.dims, v.values.tolist(), v.attrs) for name, v in labels.items()}
        return "xs2p.Masks", self.token, sorted(told.items()), sorted(self.attrs.items())

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

    def to_cupyx(self) -> tuple[Any, Any]:
        """Copy the masks to the current GPU.

        Returns
        -------
        tuple of two cupyx.scipy.sparse.csc_matrix
            ``cell`` and ``neuropil``, float32 ``(Ly · Lx, roi)`` with the weights that they have
            here; None in the place of neuropil that is not extracted. Means of frames
            ``(time, y, x)`` over the masks are ``frames.reshape(len(frames), -1) @ cell``.

        Raises
        ------
        ValueError
            If there is no GPU that can be used.

        Examples
        --------
        >>> cell, neuropil = xs2p.build_masks(rois).to_cupyx()  # doctest: +SKIP
        """
        require_gpu()
        import cupy
        from cupyx.scipy.sparse import csc_matrix

        def copied(matrix: csc_array | None) -> Any:
            if matrix is None:
                return None
            parts = (as_array(cupy, part) for part in (matrix.data, matrix.indices, matrix.indptr))
            return csc_matrix(tuple(parts), shape=matrix.shape)

        return copied(self.cell), copied(self.neuropil)

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
        cell = csc(ds["cell_npix"].values, ds["cell_ipix"].values, ds["cell_weight"].values, shape)
        if "neuropil_npix" in ds:
            npix = ds["neuropil_npix"].values
            neuropil = csc(npix, ds["neuropil_ipix"].values, equal_weights(npix), shape)
        labels = roi_labels(ds).drop_vars("mask_id", errors="ignore")
        attrs = {key: value for key, value in ds.attrs.items() if key not in ("Ly", "Lx")}
        return cls(cell, neuropil, labels, shape, attrs)


def _described(kind: str, part: str) -> dict[str, str]:
    made = "made by xs2p.build_masks"
    return {
        "npix": {
            "long_name": f"number of pixels of the {kind} mask",
            "units": "1",
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


def roi_labels(ds: xr.Dataset) -> xr.Dataset:
    """Keep the coordinates over ``roi``, which label the traces."""
    labels = ds.drop_vars([str(v) for v in ds.data_vars])
    return labels.drop_dims([d for d in labels.dims if d != "roi"]).drop_attrs(deep=False)


def csc(npix: np.ndarray, indices: np.ndarray, data: Any, shape: tuple[int, int]) -> csc_array:
    """Make the matrix of masks, checked."""
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
    if max(n_pixels, indptr[-1]) < 2**31:  # of one dtype, or scipy copies both
        indices, indptr = np.asarray(indices, np.int32), indptr.astype(np.int32)
    return csc_array(
        (np.asarray(data, dtype=np.float32), indices, indptr), shape=(n_pixels, npix.size)
    )


def same_masks(one: Masks, other: Masks) -> np.ndarray:
    """Whether two sets of as many masks have, ROI by ROI, the same pixels and weights; bool."""
    same = np.ones(one.n_rois, bool)
    for a, b in ((one.cell, other.cell), (one.neuropil, other.neuropil)):
        if a is None or b is None:
            same &= a is b
            continue
        npix = np.diff(a.indptr)
        same &= npix == np.diff(b.indptr)
        # Of those with as many pixels these stand side by side.
        in_a, in_b = (np.repeat(same, np.diff(m.indptr)) for m in (a, b))
        differs = (a.indices[in_a] != b.indices[in_b]) | (a.data[in_a] != b.data[in_b])
        same[np.repeat(np.arange(one.n_rois), npix)[in_a][differs]] = False
    return same


def equal_weights(npix: np.ndarray) -> np.ndarray:
    """Weights of masks whose pixels count the same."""
    return np.repeat((1.0 / np.maximum(npix, 1)).astype(np.float32), npix)


def _columns_are_means(matrix: csc_array) -> bool:
    starts = matrix.indptr[:-1][np.diff(matrix.indptr) > 0]
    npix = np.diff(matrix.indptr)[np.diff(matrix.indptr) > 0]
    if not np.array_equal(matrix.data[starts], (1.0 / npix).astype(np.float32)):
        return False
    changes = np.flatnonzero(matrix.data[1:] != matrix.data[:-1]) + 1
    return bool(np.isin(changes, starts).all())
