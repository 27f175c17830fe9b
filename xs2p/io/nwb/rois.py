"""ROI sets out of the tables of NWB files.

NWB numbers pixels as ``(x, y)``, x along the rows of a frame: a ``pixel_mask`` is a list of
``(x, y, weight)``, an ``image_mask`` is ``(roi, x, y)`` and a movie ``(time, x, y)``. That is how
the schema words it (``width`` before ``height``) and how roiextractors and neuroconv read and write
it. xs2p has ``(y, x)``; what is read is turned, lazily, and what is written is turned back.
Writers that do it otherwise are told in ``writers.py``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xs2p._warnings import names, warn
from xs2p.disk.reads import naming
from xs2p.io.nwb.file import opened, pick, require_pynwb
from xs2p.io.nwb.planes import join_tables, tables_of_planes
from xs2p.io.nwb.writers import Order, pixel_order
from xs2p.rois.pixels import agreed_frame

if TYPE_CHECKING:
    import xarray as xr

MASKS = ("pixel_mask", "image_mask", "voxel_mask")
_PREFIX = "nwb_"  # of a column whose name an ROI set or traces use for something else
# Found anew from the pixels.
_DERIVED = ("frac_overlap", "med_y", "med_x", "radius", "status")
_MEASURED = ("med_y", "med_x", "radius")  # taken where they are numbers
# Names over `pixel` of an ROI set, and `med`, which stands for two of its coordinates.
_OF_PIXELS = ("ypix", "xpix", "lam", "overlap", "soma_crop", "med")


def rois_from_nwb(
    source: Any,
    *,
    shape: tuple[int, int] | None = None,
    name: str | None = None,
    order: Literal["xy", "yx"] | None = None,
) -> xr.Dataset:
    """Read an ROI set from a table of ROIs (``PlaneSegmentation``) of an NWB file.

    Parameters
    ----------
    source
        An ``.nwb`` file, in Zarr form (``.nwb.zarr``) too, or a ``pynwb.ophys.PlaneSegmentation``
        of one that is open.
    shape
        Frame size ``(Ly, Lx)`` in pixels. Needed only where the file does not say it, neither by
        image masks, reference images nor a movie of the same imaging plane.
    name
        Which ``PlaneSegmentation``, where the file has several. Those of the planes of a recording,
        in one container and named ``…plane0`` and so on or each of an imaging plane of its own, are
        read all where it is not given, numbered through, with the coordinate ``plane``.
    order
        How the file numbers the pixels of its masks: ``"xy"``, as the NWB schema has it, or
        ``"yx"`` for files whose writer had them the other way round. By default it is told by the
        writer: files of suite2p and Minian have y first, those of CaImAn's masks are put in order,
        all others follow the schema. ``attrs["nwb_order"]`` and ``attrs["nwb_order_source"]`` say
        which was taken, and why.

    Returns
    -------
    Dataset
        An ROI set over ``roi`` and ``pixel``, as :func:`xs2p.rois_from_stat` returns it. The
        table's ``id`` becomes the ``roi`` label. Of several kinds of masks ``pixel_mask`` is
        taken before ``image_mask`` before ``voxel_mask``; pixels of an ``image_mask`` are those
        that are not 0. Where masks are volumes, each ROI must lie in one plane, and ``z`` is
        given as the coordinate ``plane``. Other columns of one number, string or bool per ROI
        become coordinates over ``roi`` of the same name (``nwb_<name>`` where that is taken);
        ``radius``, ``med_y`` and ``med_x`` are used where they are there and finite, and computed
        from the pixels of the other ROIs.

    Raises
    ------
    ImportError
        If pynwb is not installed, or, of a file in Zarr form, hdmf-zarr.
    FileNotFoundError
        If there is no such file.
    ValueError
        If there is no table of that name, or several; if the frame size is not known or
        disagrees; if an ROI lies in several planes, or pixels outside the frame.

    Examples
    --------
    >>> rois = rois_from_nwb("session.nwb")      # doctest: +SKIP
    >>> rois.isel(roi=rois.Accepted.values == 1)  # doctest: +SKIP
    """
    require_pynwb()
    if not isinstance(source, str | os.PathLike):
        return rois_of_table(source, shape, order, "rois_from_nwb")
    path = os.fspath(source)
    with naming(path), opened(path) as file:
        planes = tables_of_planes(file, path) if name is None else {}
        if planes:
            sets = {n: rois_of_table(t, shape, order, path) for n, t in planes.items()}
            return join_tables(sets, path)
        return rois_of_table(pick(file, name, path), shape, order, path)


def rois_of_table(
    table: Any, shape: tuple[int, int] | None, order: str | None, where: str
) -> xr.Dataset:
    """ROI set of a ``PlaneSegmentation``; ``where`` is what errors call it."""
    from pynwb.ophys import PlaneSegmentation

    if not isinstance(table, PlaneSegmentation):
        raise ValueError(
            f"rois_from_nwb takes a path to an .nwb file or a pynwb PlaneSegmentation, got "
            f"{type(table).__name__}"
        )
    kind = next((kind for kind in MASKS if kind in table.colnames), None)
    if kind is None:
        raise ValueError(
            f"{where}: the table {table.name!r} has none of the columns {', '.join(MASKS)}, only "
            f"{', '.join(table.colnames)}: no ROIs can be made of it"
        )
    read = _image_masks if kind == "image_mask" else _listed_masks
    taken = pixel_order(table, kind, order, where)
    x, y, z, weight, npix = read(table, kind)
    frame = _frame(table, shape, taken, where)
    if taken.columns_first:
        place = x * frame[1] + y
        y, x = place % frame[0], place // frame[0]
    elif taken.axes == "yx":
        x, y = y, x
    roi = np.asarray(table.id[:], dtype=np.int64)
    if np.unique(roi).size != roi.size:
        warn(f"{where}: the ids of {table.name!r} are not unique; ROIs are numbered from 0 instead")
        roi = np.arange(roi.size)
    columns = _columns(table, where)
    if z is not None:
        columns["plane"] = _plane_of(z, npix, roi, where)
    try:
        found = _assembled(roi, npix, y, x, weight, frame, columns)
        return found.assign_attrs(taken.attrs)
    except ValueError as error:
        hint = ""
        if "outside the frame" in str(error) and kind != "image_mask":
            hint = (
                ". Some writers have x and y the other way round: xs2p.read_rois(path, "
                f"order={_other(taken)!r}) reads those"
            )
        raise ValueError(f"{where}: {error}{hint}") from error


def _assembled(
    roi: np.ndarray,
    npix: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    weight: np.ndarray,
    frame: tuple[int, int],
    columns: dict[str, xr.Variable],
) -> xr.Dataset:
    from xs2p.rois.assemble import Fields, Known, assemble

    fields = Fields(per_roi={key: v for key, v in columns.items() if key not in _DERIVED})
    if "radius" in columns:
        radius = columns["radius"].values.astype(np.float64)
        fields = fields._replace(radius=Known(np.isfinite(radius) & (radius >= 0), radius))
    if "med_y" in columns and "med_x" in columns:
        med = np.stack([columns[k].values.astype(np.float64) for k in ("med_y", "med_x")], axis=1)
        fields = fields._replace(med=Known(np.isfinite(med.sum(axis=1)), med))
    if "status" in columns:
        fields = fields._replace(status=columns["status"].values)
    return assemble(roi=roi, npix=npix, ypix=y, xpix=x, lam=weight, shape=frame, fields=fields)


Masks = tuple[np.ndarray, np.ndarray, "np.ndarray | None", np.ndarray, np.ndarray]


def _listed_masks(table: Any, kind: str) -> Masks:
    """Pixels of ``pixel_mask`` or ``voxel_mask``: x, y, z, weight, and how many of each ROI."""
    from hdmf.common import VectorIndex

    index = table[kind]
    if not isinstance(index, VectorIndex):
        raise ValueError(f"the column {kind} of {table.name!r} has no index: it is damaged")
    ends = np.asarray(index.data[:], dtype=np.int64)
    # In memory pynwb holds lists of tuples, in files records.
    data: Any = index.target.data[:] if len(index.target.data) else []
    fields = ("x", "y", "z", "weight") if kind == "voxel_mask" else ("x", "y", "weight")
    if getattr(np.asarray(data).dtype, "names", None):
        values = [np.asarray(data[field]) for field in fields]
    else:
        rows = np.array([tuple(row) for row in data], dtype=np.float64).reshape(-1, len(fields))
        values = list(rows.T)
    parts = dict(zip(fields, values, strict=True))
    whole = {key: parts[key].astype(np.int64) for key in ("x", "y", "z") if key in parts}
    return whole["x"], whole["y"], whole.get("z"), parts["weight"], np.diff(ends, prepend=0)


def _image_masks(table: Any, kind: str) -> Masks:
    """Pixels of ``image_mask``, one ROI at a time: the table can be larger than memory."""
    data = table[kind].data
    found: list[list[np.ndarray]] = [[], [], [], []]
    npix = np.zeros(len(data), np.int64)
    depth = np.ndim(data[0]) if len(data) else 2
    for n in range(len(data)):
        mask = np.asarray(data[n])
        mask = np.where(np.isfinite(mask), mask, 0) if mask.dtype.kind == "f" else mask
        # Row by row, as every other way of reading ROIs gives them.
        at = np.nonzero(mask.swapaxes(0, 1))
        npix[n] = at[0].size
        found[0].append(at[1])
        found[1].append(at[0])
        found[2].append(at[2] if depth == 3 else at[0])
        found[3].append(mask.swapaxes(0, 1)[at].astype(np.float32))
    x, y, z, weight = (np.concatenate(part) if part else np.empty(0, np.int64) for part in found)
    return x, y, z if depth == 3 else None, weight, npix


def _plane_of(z: np.ndarray, npix: np.ndarray, roi: np.ndarray, where: str) -> xr.Variable:
    """Plane of each ROI of a volume; a ValueError where one lies in several."""
    import xarray as xr

    owner = np.repeat(np.arange(npix.size), npix)
    low, high = np.full(npix.size, np.iinfo(np.int64).max), np.full(npix.size, -1)
    np.minimum.at(low, owner, z)
    np.maximum.at(high, owner, z)
    several = (high != low) & (npix > 0)
    if several.any():
        first = np.flatnonzero(several)[0]
        raise ValueError(
            f"{where}: {several.sum()} ROIs lie in several planes (roi {names(roi[several])}; the "
            f"first in z {low[first]} to {high[first]}), and an ROI here belongs to one plane: cut "
            "them into one ROI a plane"
        )
    attrs = {"long_name": "plane of the ROI", "description": "z of the ROI's voxels in the file."}
    return xr.Variable("roi", np.where(npix > 0, low, 0), attrs)


def _columns(table: Any, where: str) -> dict[str, xr.Variable]:
    """Columns of one value per ROI, as coordinates."""
    import xarray as xr
    from hdmf.common import VectorIndex

    from xs2p.io.nwb.columns import OBSERVED, column_attrs, name_here
    from xs2p.io.nwb.parts import is_ours
    from xs2p.rois.stat import TAKEN

    found: dict[str, xr.Variable] = {}
    odd = []
    ragged = {column.target.name for column in table.columns if isinstance(column, VectorIndex)}
    for column in table.columns:
        name = column.name
        if isinstance(column, VectorIndex) or name in (*MASKS, "npix", "roi_id"):
            continue
        if name == OBSERVED and is_ours(table):  # of traces, which read_nwb gives it to
            continue
        values = None if name in ragged else _plain(column, len(table))
        if values is None:
            odd.append(name)
            continue
        name = name_here(name)
        attrs = column_attrs(name, str(column.description))
        if values.ndim == 2:  # suite2p's own: flag and probability side by side
            found[name] = xr.Variable("roi", values[:, 0] > 0, attrs)
            found[f"{name}_prob"] = xr.Variable("roi", values[:, 1], {**attrs, "units": "1"})
            continue
        key = name
        of_ours = name == "tau" and values.dtype.kind == "f" and is_ours(table)
        of_rois = of_ours or _is_of_rois(name, values)
        if name in (*TAKEN, *_OF_PIXELS, *_MEASURED) and not of_rois:
            key = _PREFIX + name
            while key in table.colnames:
                key = _PREFIX + key
        found[key] = xr.Variable("roi", values, attrs)
    if "iscell" in found and "Accepted" in found:
        # What write_nwb adds for programs that know these two.
        flags = found["iscell"].values.astype(bool)
        if np.array_equal(found["Accepted"].values.astype(bool), flags):
            del found["Accepted"]
            found.pop("Rejected", None)
    if odd:
        warn(
            f"{where}: the columns {', '.join(odd)} of {table.name!r} are left out: they hold no "
            "single number, string or bool per ROI"
        )
    return found


def _is_of_rois(name: str, values: np.ndarray) -> bool:
    """Whether a column can be what an ROI set has under that name."""
    from xs2p.rois.assemble import KNOWN_STATUS

    if name == "status":
        return set(values.tolist()) <= set(KNOWN_STATUS)
    return name == "frac_overlap" or (name in _MEASURED and values.dtype.kind in "biuf")


def _plain(column: Any, length: int) -> np.ndarray | None:
    from hdmf.common import DynamicTableRegion

    if isinstance(column, DynamicTableRegion) or len(column.data) != length:
        return None
    values = np.asarray(column.data[:])
    if values.dtype.kind in "OSU" and values.ndim == 1:
        text = [v.decode() if isinstance(v, bytes) else v for v in values.tolist()]
        return np.array(text, object) if all(isinstance(v, str) for v in text) else None
    pair = values.shape == (length, 2) and column.name in ("iscell", "redcell")
    return values if values.dtype.kind in "biuf" and (values.ndim == 1 or pair) else None


def _frame(table: Any, shape: tuple[int, int] | None, order: Order, where: str) -> tuple[int, int]:
    stored = None
    for width, height in _known_shapes(table):
        stored = (height, width) if order.frame_axes == "xy" else (width, height)
        break
    turned = shape is not None and stored is not None and tuple(shape) == stored[::-1] != stored
    if turned and order.given and "image_mask" not in table.colnames:
        # The movie or image that says the size has its axes the other way round than the pixels.
        stored = shape
    try:
        frame = agreed_frame(shape, stored, where)
    except ValueError as error:
        if not turned:
            raise
        raise ValueError(
            f"{error}. That is the shape given with its axes reversed, read in the order "
            f"{order.axes!r} ({order.source}); if the writer had them the other way round, give "
            f'order="{_other(order)}"'
        ) from error
    if frame is None:
        raise ValueError(
            f"{where}: the size of the frame is not known, since {table.name!r} has no image "
            "masks or reference images, and the file no SegmentationImages and no movie of its "
            "imaging plane; give shape=(Ly, Lx) in pixels, as in shape=(512, 512)"
        )
    return frame


def _other(order: Order) -> str:
    return "yx" if order.axes == "xy" else "xy"


def _known_shapes(table: Any) -> Iterator[tuple[int, int]]:
    """``(width, height)`` of the frame, as the file says it in one place or another."""
    from pynwb.ophys import OnePhotonSeries, TwoPhotonSeries

    if "image_mask" in table.colnames and len(table):
        shape = np.shape(table["image_mask"].data)
        yield int(shape[1]), int(shape[2])
    file = table.get_ancestor("NWBFile")
    movies = [
        item
        for item in (file.objects.values() if file is not None else ())
        if isinstance(item, OnePhotonSeries | TwoPhotonSeries)
        and item.imaging_plane is table.imaging_plane
    ]
    for series in [*(table.reference_images or ()), *movies]:
        size = list(np.shape(series.data)[1:]) if series.data is not None else []
        if len(size) < 2 or 0 in size[:2]:  # frames are in other files
            size = [] if series.dimension is None else list(series.dimension[:])
        if len(size) >= 2:
            yield int(size[0]), int(size[1])
    module = table.get_ancestor("ProcessingModule")
    images = module and module.data_interfaces.get("SegmentationImages")  # as neuroconv calls them
    sizes = {np.shape(image.data)[:2] for image in images.images.values()} if images else set()
    if len(sizes) == 1:
        yield from sizes
