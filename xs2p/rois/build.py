"""ROI sets made of stats, of label images and of footprints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from xs2p.rois.assemble import assemble, cut_to_frame, status_of, warn_of_lost
from xs2p.rois.convert import recompute_overlap
from xs2p.rois.pixels import agreed_frame, frame_shape, planes_of
from xs2p.rois.stat import REQUIRED, check_radius, stat_fields


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
        their own, so that `rois_to_stat` gives all of it back.
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
    return _of_columns(columns, entries, shape, outside)


def _of_columns(
    columns: Mapping[str, list[np.ndarray]],
    entries: Sequence[Mapping[str, Any]],
    shape: tuple[int, int],
    outside: str,
) -> xr.Dataset:
    """ROI set of checked pixels and weights of each ROI, and of the other fields of its stat."""
    npix = np.array([y.size for y in columns["ypix"]], dtype=np.int64)
    fields = stat_fields(entries, npix)
    ypix = _concatenate(columns["ypix"], np.int64, "ypix")
    xpix = _concatenate(columns["xpix"], np.int64, "xpix")
    lam = _concatenate(columns["lam"], np.float64, "lam")
    if outside not in ("raise", "drop"):
        raise ValueError(f"outside={outside!r}; choose 'raise' or 'drop'")
    roi, frame = np.arange(npix.size), frame_shape(shape)
    check_radius(fields, frame)
    if outside == "drop":
        cut = cut_to_frame(np.repeat(roi, npix), ypix, xpix, roi.size, frame)
        warn_of_lost(cut, roi, str(frame), "rois_from_stat: ")
        npix, ypix, xpix, lam = cut.npix, ypix[cut.inside], xpix[cut.inside], lam[cut.inside]
        fields = fields._replace(
            pixels={key: values[cut.inside] for key, values in fields.pixels.items()},
            status=status_of(npix, cut.gone),
        )
    return assemble(roi=roi, npix=npix, ypix=ypix, xpix=xpix, lam=lam, shape=frame, fields=fields)


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
    values = image.ravel()[flat]
    if values.size and values.max() > np.iinfo(np.int64).max:
        raise ValueError(f"labels must fit in int64, got {values.max()}; number them anew")
    values = values.astype(np.int64)
    if values.size and values.min() < 0:
        raise ValueError(
            f"labels must be 0 (background) or positive, got {values.min()}; "
            "np.where(labels < 0, 0, labels) makes background of the others"
        )
    order = np.argsort(values, kind="stable")
    roi, npix = np.unique(values, return_counts=True)
    ypix, xpix = np.divmod(flat[order], image.shape[1])
    weights = np.ones(flat.size)
    return assemble(roi=roi, npix=npix, ypix=ypix, xpix=xpix, lam=weights, shape=image.shape)


def rois_from_footprints(
    A: Any, *, shape: tuple[int, int] | None = None, order: Literal["C", "F"] | None = None
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
        return _of_sparse(A, shape, order)
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
    agreed_frame(shape, (dense.shape[1], dense.shape[2]), "the array of footprints")
    owner, ypix, xpix = np.nonzero(dense)
    npix = np.bincount(owner, minlength=dense.shape[0])
    rois = assemble(
        roi=np.arange(dense.shape[0]),
        npix=npix,
        ypix=ypix,
        xpix=xpix,
        lam=dense[owner, ypix, xpix],
        shape=dense.shape[1:],
    )
    rois = rois.assign_coords({k: v for k, v in labels.items() if k == "roi" or k not in rois})
    return rois if planes_of(rois) is None else recompute_overlap(rois)


def _of_sparse(A: Any, shape: tuple[int, int] | None, order: str | None) -> xr.Dataset:
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
    return assemble(
        roi=np.arange(npix.size),
        npix=npix,
        ypix=ypix[rows],
        xpix=xpix[rows],
        lam=columns.data[rows],
        shape=(ly, lx),
    )


def _require_dims(array: xr.DataArray, dims: tuple[str, ...], name: str) -> xr.DataArray:
    if array.dims != dims:
        raise ValueError(
            f"{name} has dims {array.dims}, expected {dims}; rename with "
            f"{name}.rename({{...}}) or reorder with {name}.transpose{dims}"
        )
    return array


def _concatenate(parts: list[np.ndarray], dtype: Any, name: str) -> np.ndarray:
    joined = np.concatenate(parts) if parts else np.empty(0, dtype)
    if np.issubdtype(dtype, np.integer) and any(a.size and a.dtype.kind == "b" for a in parts):
        raise ValueError(f"{name} must be pixel numbers, got True and False; np.nonzero finds them")
    if joined.dtype.kind not in "iufb":
        raise ValueError(f"{name} must be numbers, got dtype {joined.dtype}")
    with np.errstate(invalid="ignore"):  # of what is told below
        converted = joined.astype(dtype)
    # Beyond int64 they wrap, and seem equal when they are compared as floats.
    wrong = (converted != joined) | (np.abs(joined.astype(np.float64)) > 2**62)
    if np.issubdtype(dtype, np.integer) and wrong.any():
        raise ValueError(
            f"{name} must be whole pixel numbers, got {joined[wrong][0]}; "
            "round them, as with np.rint"
        )
    return converted
