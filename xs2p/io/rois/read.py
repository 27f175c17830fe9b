"""The one door for ROIs: whatever holds them, an ROI set comes out."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

from xs2p._attrs import check_flag
from xs2p.disk.reads import is_matlab_file, naming
from xs2p.io.alf.names import holds_alf
from xs2p.io.nwb.file import is_nwb_store
from xs2p.movie.sources import ADVICE

if TYPE_CHECKING:
    import xarray as xr

Shape = tuple[int, int]

ACCEPTED = """
  suite2p         a path to suite2p's stat.npy, a plane folder or the folder of the planes, or a
                  list or array of stat dicts
  MATLAB          suite2p's Fall.mat; .mat of version 5 to 7.3: a label image, masks
                  (y, x, roi), a sparse matrix
  label image     .npy, .tif or .png, or an array or DataArray (y, x), of integers, 0 for background
  Cellpose        its _seg.npy
  ImageJ, Fiji    .roi, RoiSet.zip or roifile.ImagejRoi objects, with shape=(Ly, Lx); .tif with
                  overlays
  CaImAn          its .hdf5 file of results, an estimates or CNMF object, or a scipy sparse matrix
                  of pixels x ROIs, numbered down the columns of the frame
  Minian          its A(unit_id, height, width), a DataArray or a .zarr store
  NWB             .nwb, also .nwb.zarr with hdmf-zarr, or a pynwb PlaneSegmentation
  ALF, of IBL     the folder of a field of view, such as alf/FOV_00
  roiextractors   a SegmentationExtractor
  xs2p            an ROI set or a result of extract: a Dataset, .zarr or .nc
Footprints in other layouts: xs2p.rois_from_footprints"""


def read_rois(
    source: Any,
    *,
    shape: Shape | None = None,
    shift: tuple[float, float] | None = None,
    scale: float | tuple[float, float] | None = None,
    cells_only: bool = False,
    name: str | None = None,
    labels: bool = False,
    order: Literal["xy", "yx"] | None = None,
) -> xr.Dataset:
    """Read an ROI set from whatever holds it.

    Parameters
    ----------
    source
        One of:

        - suite2p's ``stat.npy``, of version 0.7 to 1.1, or the plane folder it is in, with
          ``iscell.npy`` beside it; or the folder of all plane folders, whose ROIs are numbered
          through and get the coordinate ``plane``, as the movie of that folder has it; or a
          ``stat`` in memory, a list or array of dicts. Only ``ypix`` and ``xpix`` are
          necessary: where no ROI has ``lam``, every pixel weighs 1.
        - suite2p's ``Fall.mat``.
        - a label image, integers over ``(y, x)`` with 0 for background: ``.npy``, ``.tif``,
          ``.png``, an array or a DataArray; of a ``.tif`` with ImageJ's overlays, these.
        - a MATLAB file, ``.mat``, of a label image, of masks ``(y, x, roi)`` or of a sparse
          matrix as CaImAn has it, which MATLAB stores with its axes reversed.
        - Cellpose's ``_seg.npy``.
        - ImageJ's or Fiji's ``.roi`` or ``RoiSet.zip``, or `roifile.ImagejRoi` objects. Outlines
          are filled as ImageJ fills them. Lines, angles and texts hold no pixels and raise.
        - CaImAn's HDF5 file of results, its ``estimates`` or ``CNMF`` object, or a scipy sparse
          matrix of pixels × ROIs whose pixels are numbered as CaImAn does, ``x · Ly + y``
          (for others: `xs2p.rois_from_footprints`).
        - Minian's footprints ``A(unit_id, height, width)``: a DataArray or its ``.zarr`` store.
        - an ``.nwb`` file (``.nwb.zarr`` with hdmf-zarr), or a `pynwb.ophys.PlaneSegmentation`.
        - a folder under IBL's ALF names, such as ``alf/FOV_00``, or one above it.
        - a ``SegmentationExtractor`` of roiextractors. Its background components are left out.
        - an ROI set of xs2p or a result of `xs2p.extract`: the Dataset, a ``.zarr`` store or an
          ``.nc`` file.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels. Needed where the source does not say it:
        a ``stat`` without ``ops.npy`` beside it, ImageJ's files, a bare sparse matrix. Where
        the source says it, the two must agree, but for ROIs that are shifted or scaled: of
        those it is the frame they are to lie on.
    shift : (float, float), optional
        ``(dy, dx)`` in pixels: move all ROIs down by ``dy`` and to the right by ``dx``, as from
        the frame of another session to that of this one. By whole pixels that is exact.
    scale : float or (float, float), optional
        Pixels here per pixel there, one number or ``(sy, sx)``, as from another zoom. ROIs are
        scaled about the upper left corner of the frame and then shifted; for two zooms about
        one centre the shift is ``((1 - sy) · Ly / 2, (1 - sx) · Lx / 2)`` beside what else they
        moved. Needs ``shape``. A new pixel gets the weights of the old ones that lie on it, by
        the share of its area that they cover, and belongs to the ROI where that is half of it
        or more (or, of ROIs that cover half of no pixel, where it is most).
    cells_only : bool
        Keep only what the source marks as a cell: ``iscell`` (suite2p) or ``accepted`` (CaImAn,
        roiextractors).
        Flags of shared pixels stay those of all ROIs, as with any selection;
        `xs2p.recompute_overlap` finds them anew.
    name : str, optional
        Which ``PlaneSegmentation``, where an NWB file has several; of a MATLAB file, which
        variable.
    labels : bool
        The file or array is a label image, also where it looks like a grey one: without background,
        or of values that fall into scattered pixels, which raise otherwise.
    order : {"xy", "yx"}, optional
        How an NWB file numbers pixels: as the schema has it, or y first. By default it is told by
        the writer (suite2p's, CaImAn's and Minian's own files are known), else as the schema has
        it; ``attrs["nwb_order"]`` says what was taken.

    Returns
    -------
    xarray.Dataset
        The ROI set over ``roi`` and ``pixel``, with ``attrs`` ``Ly`` and ``Lx``, as
        `xs2p.rois_from_stat` describes it. Coordinates over ``roi`` where the source has them:
        ``iscell``, ``iscell_prob``, ``redcell``, ``redcell_prob`` (suite2p); ``accepted``,
        ``SNR_comp``, ``r_values``, ``cnn_preds`` (CaImAn); ``accepted`` or ``iscell``, and ``name``
        where ids are no numbers (roiextractors); ``name`` and ``position``, ``c_position``,
        ``z_position``, ``t_position`` (ImageJ, from 1; 0 for none) and ``plane``, z less 1, where z
        differs or `xs2p.write_rois` wrote it; the names are the ``roi`` labels where all of them
        are different whole numbers; columns (NWB).

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    ImportError
        An NWB file is to be read, and pynwb, or of its Zarr form hdmf-zarr, is not installed.
    ValueError
        The frame size is not known or disagrees; the file is damaged; an ROI of ImageJ has no
        area; or ``source`` is none of the above: the message lists them.

    Warns
    -----
    UserWarning
        Pixels lie outside the frame, of ROIs of ImageJ or after ``shift`` and ``scale``: they are
        left out. An ROI with none left stays, with the status ``outside_frame``.

    Notes
    -----
    ImageJ fills a polygon with the pixels whose centres are inside; a centre on the outline is
    inside on the right and lower side only (``ij.process.PolygonFiller``). Ovals hold the centres
    in the ellipse that touches the four sides of the box, points the pixel that they are in.

    Examples
    --------
    >>> rois = read_rois([{"ypix": [1, 1], "xpix": [2, 3], "lam": [1.0, 2.0]}], shape=(4, 6))
    >>> rois.npix.values.tolist(), rois.attrs["Ly"]
    ([2], 4)
    >>> read_rois(rois, shape=(4, 6), shift=(2, -1)).xpix.values.tolist()
    [1, 2]
    """
    check_flag("cells_only", cells_only)
    check_flag("labels", labels)
    moved = shift is not None or scale is not None
    if moved:
        from xs2p.rois.warp import pair

        by = pair("shift", (0.0, 0.0) if shift is None else shift)
        times = pair("scale", 1.0 if scale is None else scale)
        if times != (1.0, 1.0) and shape is None:
            raise ValueError(
                f"scale={scale!r} changes the size of ROIs, and nothing says the frame they are to "
                "lie on; give it in pixels: shape=(Ly, Lx)"
            )
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    with naming(path) if path else contextlib.nullcontext():
        rois = _read(source, shape, name, moved, labels, order)
    if moved:
        from xs2p.rois.warp import warp_rois

        frame = (int(rois.attrs["Ly"]), int(rois.attrs["Lx"])) if shape is None else shape
        rois = warp_rois(rois, frame, by, times)
    # Afterwards: flags of shared pixels are those of all ROIs, moved or not.
    rois = _cells(rois) if cells_only else rois
    if path:
        rois.encoding["source"] = os.path.abspath(path)  # as xarray says it
    return rois


def _read(
    source: Any, shape: Shape | None, name: str | None, moved: bool, labels: bool, order: Any
) -> xr.Dataset:
    """Read by the kind of ``source``; one that knows its frame keeps it where ROIs are moved."""
    kind = type(source).__name__
    segmentation = kind == "PlaneSegmentation"
    path = os.fspath(source) if isinstance(source, str | os.PathLike) else ""
    if segmentation or path.lower().endswith(".nwb") or (path and is_nwb_store(path)):
        from xs2p.io.nwb.rois import rois_from_nwb

        if path and not os.path.exists(path):
            raise FileNotFoundError(f"read_rois: no file {path!r}")
        read = functools.partial(rois_from_nwb, name=name, order=order)
        return _framed(read, source, shape, moved)
    if order is not None:
        raise ValueError(
            f"read_rois: order={order!r} says how an NWB file numbers pixels, and the source is "
            f"{path or kind}; leave order out"
        )
    if path and is_matlab_file(path):
        from xs2p.io.rois.matlab import read_matlab

        return _framed(functools.partial(read_matlab, name=name), path, shape, moved)
    if name is not None:
        raise ValueError(
            f"read_rois: name={name!r} chooses a PlaneSegmentation of an NWB file, and the source "
            f"is {path or kind}; leave name out"
        )
    own = None if moved else shape
    if not path:
        return _read_object(source, shape, moved, labels)
    if labels and path.lower().endswith((".tif", ".tiff")) and os.path.exists(path):
        from xs2p.io.rois.labels import read_tif

        return read_tif(path, own, insist=True)
    if labels and not path.lower().endswith((".npy", ".png", ".mat")):
        raise ValueError(
            f"labels=True insists on a label image, .tif, .npy, .png or .mat, and the source is "
            f"{path}; leave labels out"
        )
    return _read_path(path, shape, moved, labels)


def _read_object(source: Any, shape: Shape | None, moved: bool, labels: bool) -> xr.Dataset:
    """Read what is in memory."""
    import numpy as np
    import xarray as xr

    from xs2p.io.rois.extractor import is_segmentation, rois_of_extractor

    own = None if moved else shape
    kind = type(source).__name__
    if isinstance(source, xr.Dataset):
        from xs2p.io.rois.stored import rois_of_dataset

        return rois_of_dataset(source, own)
    if isinstance(source, xr.DataArray) and "unit_id" in source.dims:
        from xs2p.io.rois.minian import rois_of_minian

        return rois_of_minian(source, own, "the footprints")
    if isinstance(source, xr.DataArray) and "roi" in source.dims:
        from xs2p.rois.build import rois_from_footprints

        return rois_from_footprints(source, shape=own)
    if isinstance(source, xr.DataArray) or (isinstance(source, np.ndarray) and source.ndim == 2):
        from xs2p.io.rois.labels import rois_of_labels

        return rois_of_labels(source, own, "the label image", labels)
    if isinstance(source, Mapping) and "masks" in source:
        from xs2p.io.rois.labels import rois_of_cellpose

        return rois_of_cellpose(source, own, "Cellpose's masks")
    if hasattr(source, "tocsc"):
        from xs2p.io.rois.caiman import rois_of_sparse

        return rois_of_sparse(source, shape)
    if is_segmentation(source):
        return _framed(rois_of_extractor, source, shape, moved)
    if hasattr(getattr(source, "estimates", source), "A") and not isinstance(source, np.ndarray):
        from xs2p.io.rois.caiman import rois_of_estimates

        return _framed(rois_of_estimates, source, shape, moved)
    listed: list[Any] | None = None
    if isinstance(source, list | tuple) or (isinstance(source, np.ndarray) and source.ndim == 1):
        listed = list(source)
    if kind == "ImagejRoi" or (listed and all(type(r).__name__ == "ImagejRoi" for r in listed)):
        from xs2p.io.rois.imagej import rois_of_imagej

        return rois_of_imagej(listed or [source], shape, "roifile.ImagejRoi", moved)
    if listed is not None and all(isinstance(entry, Mapping) for entry in listed):
        return _of_stat(listed, shape, moved)
    raise ValueError(f"read_rois: cannot read {kind} {_brief(source)}; expected one of{ACCEPTED}")


def _framed(
    read: Callable[..., xr.Dataset], source: Any, shape: Shape | None, moved: bool
) -> xr.Dataset:
    """Read what may or may not say its frame; one that does keeps it where ROIs are moved."""
    try:
        return read(source, shape=None if moved else shape)
    except ValueError as error:
        if not moved or shape is None or "shape=(Ly, Lx)" not in str(error):
            raise
    return read(source, shape=shape)


def _read_path(path: str, shape: Shape | None, moved: bool, labels: bool) -> xr.Dataset:
    own = None if moved else shape
    suffix = os.path.splitext(path.rstrip("/" + os.sep))[1].lower()
    if not os.path.exists(path):
        raise FileNotFoundError(f"read_rois: no file or folder {path!r}")
    if suffix in (".zarr", ".nc") or _is_store(path):
        from xs2p.io.rois.stored import read_own

        return read_own(path, own)
    if os.path.isdir(path):
        return _read_folder(path, shape, moved)
    if suffix in (".tif", ".tiff"):
        from xs2p.io.rois.labels import read_tif

        return read_tif(path, own)
    if suffix == ".png":
        from xs2p.io.rois.labels import read_png

        return read_png(path, own, labels)
    if suffix in (".roi", ".zip"):
        from xs2p.io.rois.imagej import read_imagej

        return read_imagej(path, shape, moved)
    if suffix in (".hdf5", ".h5", ".hdf"):
        from xs2p.io.rois.caiman import read_caiman

        return _framed(read_caiman, path, shape, moved)
    if suffix == ".mat":
        from xs2p.io.rois.mat import read_mat

        return read_mat(path, shape, moved, labels)
    if suffix == ".npy":
        from xs2p.io.rois.npy import read_npy

        return read_npy(path, shape, moved, labels, ACCEPTED)
    known = ADVICE.get(suffix)
    helps = f"; {known}" if known else ""
    raise ValueError(f"read_rois: cannot read {path!r}{helps}; expected one of{ACCEPTED}")


def _is_store(path: str) -> bool:
    return any(os.path.exists(os.path.join(path, file)) for file in ("zarr.json", ".zgroup"))


def _read_folder(path: str, shape: Shape | None, moved: bool) -> xr.Dataset:
    """ROI set of suite2p's plane folder, or of all planes of the folder above them."""
    from xs2p.io.suite2p.planes import join_plane_rois
    from xs2p.io.suite2p.stat import read_plane_rois
    from xs2p.movie.sources import plane_folders, plane_number

    file = os.path.join(path, "stat.npy")
    if os.path.exists(file):
        return read_plane_rois(file, shape, moved)
    files = [os.path.join(plane, "stat.npy") for plane in plane_folders(path)]
    files = [file for file in files if os.path.exists(file)]
    if not files and holds_alf(path):
        from xs2p.io.alf.read import rois_of_alf

        return rois_of_alf(path, None if moved else shape)
    if not files:
        raise FileNotFoundError(
            f"read_rois: the folder {path!r} has no stat.npy, neither has a plane folder in it, "
            f"and it is no Zarr store; expected one of{ACCEPTED}"
        )
    sets = {file: read_plane_rois(file, shape, moved) for file in files}
    if len(sets) == 1:
        return sets[files[0]]
    by_plane = {plane_number(os.path.dirname(file)) or 0: sets[file] for file in files}
    return join_plane_rois(by_plane, path)


def _of_stat(stat: list[Any], shape: Shape | None, moved: bool) -> xr.Dataset:
    from xs2p.rois.build import rois_from_stat
    from xs2p.rois.stat import completed, widened

    if shape is None:
        raise ValueError(
            "read_rois: stat dicts do not say the size of the frame; give it in pixels: "
            "read_rois(stat, shape=(Ly, Lx))"
        )
    frame = widened(stat, shape) if moved else shape
    return rois_from_stat(completed(stat, "stat"), frame)


def _cells(rois: xr.Dataset) -> xr.Dataset:
    from xs2p.rois.convert import contiguous

    for key in ("iscell", "accepted"):
        if key in rois.variables and rois[key].dims == ("roi",):
            return contiguous(rois.isel(roi=rois[key].values > 0))
    raise ValueError(
        "cells_only=True, but the source does not say which ROIs are cells: there is neither "
        "iscell.npy beside suite2p's stat.npy nor CaImAn's idx_components. Choose by another "
        f"coordinate, as in rois.isel(roi=rois.npix > 20); there are {_listed(rois)}"
    )


def _listed(rois: xr.Dataset) -> str:
    return ", ".join(sorted(str(key) for key in rois.coords if rois[key].dims == ("roi",)))


def _brief(source: Any) -> str:
    shape = getattr(source, "shape", None)
    if shape is not None:
        return f"of shape {tuple(shape)}"
    text = repr(source)
    return text if len(text) < 60 else text[:57] + "..."
