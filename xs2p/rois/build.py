"""ROI sets: one Dataset over ``roi`` with a ragged table of pixels.

An ROI set holds ``npix(roi)`` and, over ``pixel``, ``ypix``, ``xpix``, ``lam`` (weight) and
``overlap`` (another ROI has the pixel too): a CF contiguous ragged array. ``pixel_roi`` says
beside each pixel which ROI it belongs to, by ``roi_id(roi)``, so that ``rois.isel(roi=[3, 5])``,
every other selection or order over ``roi``, and other labels stay a valid ROI set.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np
import xarray as xr

from xs2p._attrs import TEXT
from xs2p._warnings import names, warn
from xs2p.rois.pixels import (
    PixelTable,
    check_pixels,
    compact,
    frame_shape,
    medians,
    pixel_table,
    planes_of,
    radii,
    shared_pixels,
)
from xs2p.rois.stat import REQUIRED, describe, stat_fields, stat_from_fields

OK = "ok"
NO_CELL_PIXELS = "no_cell_pixels"
NO_NEUROPIL_PIXELS = "no_neuropil_pixels"
OUTSIDE_FRAME = "outside_frame"

STATUS = {
    "long_name": "why the ROI has no trace, or ok",
    "description": "ok, no_cell_pixels, no_neuropil_pixels or outside_frame; an ROI that is not ok "
    "has NaN in place of a trace.",
}
_DESCRIPTIONS = {
    "npix": {
        "long_name": "number of pixels",
        "units": "pixel",
        "description": "How many of the pixels, in the order of roi, are the ROI's.",
        "sample_dimension": "pixel",
    },
    "ypix": {
        "long_name": "row of the pixel in the frame",
        "units": "pixel",
        "description": "Row y of the frame, from 0, as the ROI set was given.",
    },
    "xpix": {
        "long_name": "column of the pixel in the frame",
        "units": "pixel",
        "description": "Column x of the frame, from 0, as the ROI set was given.",
    },
    "lam": {
        "long_name": "pixel weight",
        "units": "1",
        "description": "Weight of the pixel in its ROI, as given and not normalised; 1 where the "
        "ROIs came without weights.",
    },
    "overlap": {
        "long_name": "another ROI has the pixel too",
        "description": "Cell masks leave such pixels out unless allow_overlap is set; "
        "xs2p.recompute_overlap finds them anew.",
    },
    "pixel_roi": {
        "long_name": "roi_id of the ROI that the pixel belongs to",
        "description": "Ties pixels to their ROI, so that a selection over roi stays an ROI set.",
    },
    "roi_id": {
        "long_name": "number of the ROI in its table of pixels, whatever its label",
        "description": "What pixel_roi refers to; it stays when ROIs are selected or relabelled.",
    },
    "roi": {
        "long_name": "ROI label",
        "description": "Names the ROI in every result; as given, or numbered from 0.",
    },
    "med_y": {
        "long_name": "row of the ROI's median pixel",
        "units": "pixel",
        "description": "Median of ypix, or as the ROI set was given.",
    },
    "med_x": {
        "long_name": "column of the ROI's median pixel",
        "units": "pixel",
        "description": "Median of xpix, or as the ROI set was given.",
    },
    "radius": {
        "long_name": "twice the major-axis standard deviation",
        "units": "pixel",
        "description": "Of the weighted pixels, along their longest axis; or as the ROI set was "
        "given.",
    },
    "frac_overlap": {
        "long_name": "fraction of the pixels that another ROI has too",
        "units": "1",
        "description": "Mean of overlap over the ROI's pixels.",
    },
    "status": STATUS,
}


def rois_from_stat(
    stat: Iterable[Mapping[str, Any]],
    shape: tuple[int, int],
    *,
    outside: Literal["raise", "drop"] = "raise",
) -> xr.Dataset:
    """Build an ROI set from suite2p's ``stat``.

    Parameters
    ----------
    stat
        A list or array of dicts, one per ROI, with ``ypix``, ``xpix`` and ``lam`` (1-D, equal
        lengths). ``radius``, ``overlap`` and ``med`` are used where present. Every other
        scalar becomes a coordinate over ``roi``, every other array of one value per pixel a
        variable over ``pixel``, and other 1-D arrays ragged variables with a dimension of
        their own, so that :func:`xs2p.rois.rois_to_stat` gives all of it back.
    shape
        Frame size ``(Ly, Lx)`` in pixels.
    outside
        What to do with pixels outside the frame: ``"raise"``, or ``"drop"`` them. An ROI
        whose every pixel was dropped stays in the set with the status ``outside_frame``.

    Returns
    -------
    Dataset
        ``npix(roi)``; ``ypix, xpix, lam, overlap`` over ``pixel``; coordinates ``roi`` (0, 1,
        …), ``pixel_roi``, ``med_y``, ``med_x``, ``radius``, ``frac_overlap``, ``status``;
        attributes ``Ly``, ``Lx``. A missing ``radius`` is twice the major-axis standard
        deviation of the weighted pixels (those of ``soma_crop`` where the stat has it, as the
        reference does); a missing ``overlap`` is computed from the ROIs at hand.

    Raises
    ------
    ValueError
        If a field is missing or of the wrong length, or a pixel is outside the frame, twice
        in one ROI, or has a negative or non-finite weight.

    Examples
    --------
    >>> stat = [{"ypix": [1, 1, 2], "xpix": [3, 4, 3], "lam": [1.0, 2.0, 1.0], "skew": 0.5}]
    >>> rois = rois_from_stat(stat, (10, 12))
    >>> int(rois.npix[0]), float(rois.skew[0])
    (3, 0.5)
    """
    if not isinstance(stat, Iterable):
        raise ValueError(
            f"stat must be a list or array of dicts, one per ROI, got {type(stat).__name__}; "
            "xs2p.read_rois('stat.npy', shape=(Ly, Lx)) reads the file"
        )
    entries = list(stat)
    for i, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ValueError(
                f"stat[{i}] is {type(entry).__name__}, not a dict; stat is suite2p's stat.npy: "
                "xs2p.read_rois('stat.npy', shape=(Ly, Lx)) reads the file"
            )
        odd = [key for key in entry if not isinstance(key, str)]
        if odd:
            raise ValueError(f"stat[{i}] has the key {odd[0]!r}; fields are named by strings")
        absent = [key for key in REQUIRED if key not in entry]
        if absent:
            raise ValueError(
                f"stat[{i}] has no {', '.join(absent)}; every ROI needs {', '.join(REQUIRED)}. "
                "For pixels without weights pass lam = np.ones(len(ypix))"
            )
    columns: dict[str, list[np.ndarray]] = {key: [] for key in REQUIRED}
    for i, entry in enumerate(entries):
        for key in REQUIRED:
            columns[key].append(np.atleast_1d(np.asarray(entry[key])))
        lengths = {key: columns[key][i].shape for key in REQUIRED}
        if len(set(lengths.values())) != 1 or columns["ypix"][i].ndim != 1:
            raise ValueError(
                f"stat[{i}]: ypix, xpix and lam must be 1-D and equally long: {lengths}"
            )
    npix = np.array([y.size for y in columns["ypix"]], dtype=np.int64)
    fields = stat_fields(entries, npix)
    return _build(
        roi=np.arange(npix.size),
        npix=npix,
        ypix=_concatenate(columns["ypix"], np.int64, "ypix"),
        xpix=_concatenate(columns["xpix"], np.int64, "xpix"),
        lam=_concatenate(columns["lam"], np.float64, "lam"),
        shape=shape,
        outside=outside,
        fields=fields,
    )


def rois_from_labels(labels: Any) -> xr.Dataset:
    """Build an ROI set from a label image; every pixel has weight 1.

    Parameters
    ----------
    labels
        Integer image ``(y, x)``, an array or DataArray: 0 is background, every other value is
        one ROI and becomes its ``roi`` label.

    Returns
    -------
    Dataset
        An ROI set, as :func:`xs2p.rois_from_stat` returns it, in the order of the labels.

    Raises
    ------
    ValueError
        If the image is not 2-D, not of integers, or has negative labels.

    Examples
    --------
    >>> rois = rois_from_labels(np.array([[0, 7, 7], [3, 0, 7]]))
    >>> rois.roi.values.tolist(), rois.npix.values.tolist()
    ([3, 7], [1, 3])
    """
    if isinstance(labels, xr.DataArray):
        labels = _require_dims(labels, ("y", "x"), "labels").values
    image = np.asarray(labels)
    if image.ndim == 0:
        raise ValueError(
            f"labels must be an array of integers (y, x), got {type(labels).__name__}; "
            "tifffile.imread(path) and numpy.load(path) read files"
        )
    if image.ndim != 2:
        raise ValueError(
            f"labels must be an image (y, x), got shape {image.shape}; choose one, as in labels[0]"
        )
    if image.dtype.kind not in "iu":
        hint = (
            "scipy.ndimage.label(image)[0] numbers the connected parts of a boolean image"
            if image.dtype.kind == "b"
            else "labels.astype(int) converts whole numbers"
        )
        raise ValueError(f"labels must be integers, got {image.dtype}; {hint}")
    flat = np.flatnonzero(image)
    values = image.ravel()[flat].astype(np.int64)
    if values.size and values.min() < 0:
        raise ValueError(
            f"labels must be 0 (background) or positive, got {values.min()}; "
            "np.where(labels < 0, 0, labels) makes background of the others"
        )
    order = np.argsort(values, kind="stable")
    roi, npix = np.unique(values, return_counts=True)
    ypix, xpix = np.divmod(flat[order], image.shape[1])
    return _build(roi, npix, ypix, xpix, np.ones(flat.size), image.shape)


def rois_from_footprints(
    A: Any, shape: tuple[int, int] | None = None, *, order: Literal["C", "F"] | None = None
) -> xr.Dataset:
    """Build an ROI set from spatial footprints, dense or sparse.

    Parameters
    ----------
    A
        Dense ``(roi, y, x)`` (array or DataArray), or a scipy sparse matrix ``pixels × rois``
        as CaImAn keeps it. Non-zero entries are the ROI's pixels and their weights.
    shape
        Frame size ``(Ly, Lx)`` in pixels; needed for a sparse matrix.
    order
        How pixels are numbered in a sparse matrix: ``"C"`` for ``y · Lx + x`` or ``"F"`` for
        ``x · Ly + y`` (CaImAn). It has no default: the wrong one would scatter every ROI.

    Returns
    -------
    Dataset
        An ROI set, as :func:`xs2p.rois_from_stat` returns it, with the coordinates over
        ``roi`` that ``A`` has.

    Raises
    ------
    ValueError
        If shapes disagree, ``order`` is missing, or weights are negative or not finite.

    Examples
    --------
    >>> A = np.zeros((2, 4, 5))
    >>> A[0, 1, 1:3] = 0.5
    >>> A[1, 2, 2] = 1.0
    >>> rois_from_footprints(A).npix.values.tolist()
    [2, 1]
    """
    if hasattr(A, "tocsc"):
        if shape is None or order not in ("C", "F"):
            raise ValueError(
                "a sparse matrix of footprints needs shape=(Ly, Lx) and order='C' (pixel "
                f"y*Lx + x) or order='F' (x*Ly + y, CaImAn); got shape={shape}, order={order!r}"
            )
        ly, lx = frame_shape(shape)
        if A.shape[0] != ly * lx:
            raise ValueError(
                f"A has {A.shape[0]} rows but shape={shape} has {ly * lx} pixels; A is "
                "pixels × rois: pass A.T if it is rois × pixels"
            )
        columns = A.tocsc(copy=True)
        columns.sum_duplicates()
        columns.eliminate_zeros()
        npix = np.diff(columns.indptr)
        flat = columns.indices.astype(np.int64)
        if order == "C":
            ypix, xpix = np.divmod(flat, lx)
        else:
            xpix, ypix = np.divmod(flat, ly)
        # Row by row in either numbering: equal footprints give equal ROI sets.
        rows = np.lexsort((xpix, ypix, np.repeat(np.arange(npix.size), npix)))
        return _build(
            np.arange(npix.size), npix, ypix[rows], xpix[rows], columns.data[rows], (ly, lx)
        )
    labels: dict[Any, Any] = {}
    if isinstance(A, xr.DataArray):
        A = _require_dims(A, ("roi", "y", "x"), "A")
        labels = {name: c.variable for name, c in A.coords.items() if c.dims == ("roi",)}
    dense = np.asarray(A)
    if dense.ndim != 3:
        raise ValueError(
            f"dense footprints must be (roi, y, x), got shape {dense.shape}; pass a scipy sparse "
            "matrix pixels × rois with shape= and order= otherwise"
        )
    if shape is not None and frame_shape(shape) != dense.shape[1:]:
        raise ValueError(
            f"shape={shape} but the footprints are {dense.shape[1:]}; leave shape out, or give the "
            "footprints of that frame"
        )
    owner, ypix, xpix = np.nonzero(dense)
    npix = np.bincount(owner, minlength=dense.shape[0])
    weights = dense[owner, ypix, xpix]
    rois = _build(np.arange(dense.shape[0]), npix, ypix, xpix, weights, dense.shape[1:])
    rois = rois.assign_coords({k: v for k, v in labels.items() if k == "roi" or k not in rois})
    return rois if planes_of(rois) is None else recompute_overlap(rois)


def recompute_overlap(rois: xr.Dataset) -> xr.Dataset:
    """Flag anew which pixels more than one ROI of the set has.

    Parameters
    ----------
    rois
        An ROI set over ``roi`` and ``pixel``, also one selected over ``roi``.

    Returns
    -------
    Dataset
        The same ROI set with ``overlap(pixel)`` and ``frac_overlap(roi)`` of the ROIs at hand.

    Examples
    --------
    >>> stat = [{"ypix": [0, 0], "xpix": [x, x + 1], "lam": [1, 1]} for x in (0, 1)]
    >>> rois = rois_from_stat(stat, (1, 3))
    >>> recompute_overlap(rois.isel(roi=[0])).overlap.values.tolist()
    [False, False]
    """
    rois = compact(rois)
    table = pixel_table(rois)
    overlap = shared_pixels(table, planes_of(rois))
    rois = rois.copy()
    rois["overlap"] = ("pixel", overlap, _DESCRIPTIONS["overlap"])
    return rois.assign_coords(frac_overlap=_frac_overlap(overlap, table.offsets))


def rois_to_labels(rois: xr.Dataset) -> xr.DataArray:
    """Draw an ROI set as a label image.

    Parameters
    ----------
    rois
        An ROI set, or a Dataset of traces that carries one.

    Returns
    -------
    DataArray
        Integer image ``(y, x)``, 0 is background. Values are the ``roi`` labels where all of
        them are whole numbers from 1 on, else one more than the ROI's position;
        ``attrs["values"]`` says which. A pixel of several ROIs goes to the one with the largest
        weight, the first of equals.
    """
    table = pixel_table(rois)
    positive = table.roi.dtype.kind in "iu" and bool((table.roi > 0).all())
    values = table.roi if positive else np.arange(table.roi.size) + 1
    small = not values.size or values.max() < 2**31
    image = np.zeros(table.shape, np.int32 if small else np.int64)
    # Written from the lightest to the heaviest, and among equals from the last to the first.
    order = np.lexsort((-table.owner, table.lam))
    image.ravel()[table.flat[order]] = values[table.owner[order]]
    attrs = {
        "long_name": "ROI labels",
        "description": "ROI set drawn as an image by to_labels, 0 where no ROI is.",
        "values": "roi labels" if positive else "position in roi, plus 1",
    }
    return xr.DataArray(image, dims=("y", "x"), name="labels", attrs=attrs)


def rois_to_stat(rois: xr.Dataset) -> list[dict[str, Any]]:
    """Give an ROI set back as suite2p's ``stat``, a list of dicts.

    Parameters
    ----------
    rois
        An ROI set, or a Dataset of traces that carries one.

    Returns
    -------
    list of dict
        ``ypix, xpix, lam, overlap, npix, med, radius`` and every further field that
        :func:`xs2p.rois_from_stat` took, of the same types.
    """
    rois = compact(rois)
    return stat_from_fields(rois, pixel_table(rois))


def _build(
    roi: np.ndarray,
    npix: np.ndarray,
    ypix: np.ndarray,
    xpix: np.ndarray,
    lam: np.ndarray,
    shape: tuple[int, ...],
    outside: str = "raise",
    fields: dict[str, Any] | None = None,
) -> xr.Dataset:
    """Check pixels and assemble the Dataset; what is not given is computed."""
    if outside not in ("raise", "drop"):
        raise ValueError(f"outside={outside!r}; choose 'raise' or 'drop'")
    fields = fields or {}
    pixels: dict[str, np.ndarray] = fields.pop("pixels", {})
    per_roi: dict[str, Any] = fields.pop("per_roi", {})
    ragged: dict[str, tuple[np.ndarray, np.ndarray]] = fields.pop("ragged", {})
    ly, lx = frame_shape(shape)
    npix = np.asarray(npix, dtype=np.int64)
    status = np.full(npix.size, OK, dtype=TEXT)
    status[npix == 0] = NO_CELL_PIXELS
    inside = (ypix >= 0) & (ypix < ly) & (xpix >= 0) & (xpix < lx)
    if outside == "drop" and not inside.all():
        owner = np.repeat(np.arange(npix.size), npix)[inside]
        left = np.bincount(owner, minlength=npix.size)
        status[(left == 0) & (npix > 0)] = OUTSIDE_FRAME
        lost = np.flatnonzero(left < npix)
        warn(
            f"{lost.size} ROIs have pixels outside the frame ({ly}, {lx}); those pixels are left "
            f"out (roi {names(roi[lost])}); {(status == OUTSIDE_FRAME).sum()} ROIs lie wholly "
            "outside and get the status outside_frame"
        )
        npix, ypix, xpix, lam = left, ypix[inside], xpix[inside], lam[inside]
        pixels = {key: values[inside] for key, values in pixels.items()}
    offsets = np.concatenate([[0], np.cumsum(npix)]).astype(np.int64)
    no_overlap = np.zeros(ypix.size, bool)
    table = PixelTable(roi, offsets, ypix, xpix, np.asarray(lam), no_overlap, (ly, lx))
    check_pixels(table)
    overlap = pixels.pop("overlap", None)
    if overlap is None:
        plane = per_roi.get("plane", per_roi.get("iplane"))
        overlap = shared_pixels(table, None if plane is None else plane[1])
    overlap = overlap.astype(bool)
    table = table._replace(overlap=overlap)
    crop = pixels.get("soma_crop")
    radius = radii(table, None if crop is None else crop.astype(bool))
    given, values = per_roi.pop("radius", (np.zeros(npix.size, bool), radius))
    wrong = given & ~(np.isfinite(values) & (values >= 0))
    if wrong.any():
        raise ValueError(
            f"radius must be finite and not negative, but is {values[wrong][0]} for roi "
            f"{names(roi[wrong])}; leave it out of stat and it is computed"
        )
    radius = np.where(given, values, radius)
    given, values = per_roi.pop("med", (np.zeros(npix.size, bool), np.zeros((npix.size, 2))))
    med = np.where(given[:, None], values, medians(table))
    ds = xr.Dataset(
        {
            "npix": ("roi", npix),
            "ypix": ("pixel", ypix.astype(np.int32)),
            "xpix": ("pixel", xpix.astype(np.int32)),
            "lam": ("pixel", np.asarray(lam).astype(np.float32)),
            "overlap": ("pixel", overlap),
        },
        coords={
            "roi": ("roi", np.asarray(roi, dtype=np.int64)),
            "roi_id": ("roi", np.arange(npix.size)),
            "pixel_roi": ("pixel", np.repeat(np.arange(npix.size), npix)),
            "med_y": ("roi", med[:, 0]),
            "med_x": ("roi", med[:, 1]),
            "radius": ("roi", np.asarray(radius, dtype=np.float64)),
            "frac_overlap": _frac_overlap(overlap, offsets),
            "status": ("roi", status),
        },
        attrs={"Ly": ly, "Lx": lx},
    )
    for key, values in pixels.items():
        ds[key] = ("pixel", values, describe(key.removeprefix("stat_")))
    for key, coordinate in per_roi.items():
        ds = ds.assign_coords({key: coordinate})
    for key, (owner, values) in ragged.items():
        ds = ds.assign({key: (f"{key}_element", values, describe(key.removeprefix("stat_")))})
        ds = ds.assign_coords({f"{key}_roi": (f"{key}_element", owner, _owner_of(key))})
    for name, attrs in _DESCRIPTIONS.items():
        ds[name].attrs.update(attrs)
    return ds


def _owner_of(key: str) -> dict[str, str]:
    return {
        "long_name": f"roi_id of the ROI that the element of {key} belongs to",
        "description": f"Ties the elements of {key} to their ROI.",
    }


def _frac_overlap(overlap: np.ndarray, offsets: np.ndarray) -> tuple[str, np.ndarray, dict]:
    npix = np.diff(offsets)
    owner = np.repeat(np.arange(npix.size), npix)
    shared = np.bincount(owner, weights=overlap, minlength=npix.size)
    return "roi", shared / np.maximum(npix, 1), _DESCRIPTIONS["frac_overlap"]


def _require_dims(array: xr.DataArray, dims: tuple[str, ...], name: str) -> xr.DataArray:
    if array.dims != dims:
        raise ValueError(
            f"{name} has dims {array.dims}, expected {dims}; rename with "
            f"{name}.rename({{...}}) or reorder with {name}.transpose{dims}"
        )
    return array


def _concatenate(parts: list[np.ndarray], dtype: Any, name: str) -> np.ndarray:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype)
    if joined.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers, got dtype {joined.dtype}")
    converted = joined.astype(dtype)
    if np.issubdtype(dtype, np.integer) and not np.array_equal(converted, joined):
        raise ValueError(
            f"{name} must be whole pixel numbers, got {joined[converted != joined][0]}; "
            "round them, as with np.rint"
        )
    return converted
