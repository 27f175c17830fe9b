"""Write ROI sets in the formats that other programs read."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import check_flag
from xs2p.disk.inputs import paths_read
from xs2p.disk.npy import read_header
from xs2p.disk.replace import check_place, file_set, foreign_folder, put_in_place, scratch_folder
from xs2p.io.rois.imagej import MADE_BY

if TYPE_CHECKING:
    import xarray as xr

    from xs2p.rois.pixels import PixelTable

SUFFIXES = (".tif", ".tiff", ".npy", ".zip", ".roi", ".zarr", ".nc")
# What ImageJ's files can hold of a coordinate.
_MOST = 60_535


def write_rois(rois: xr.Dataset, path: str | os.PathLike[str], *, overwrite: bool = False) -> str:
    """Write an ROI set to a file of the format that the path's ending names.

    Parameters
    ----------
    rois
        An ROI set over ``roi`` and ``pixel``, or a Dataset of traces that carries one.
    path
        The file to write:

        - ``.zip``, ImageJ's and Fiji's ``RoiSet.zip``, or ``.roi`` for a single ROI: outlines
          along the edges of pixels, which ImageJ and `read_rois` fill to the same pixels. ROIs of
          one outline are traced regions, those with holes or several parts composite ones. They
          are named after the coordinate ``name`` where all its names differ, else, or where the
          names are other whole numbers than the labels, after the ``roi`` labels. ROIs may share
          pixels. An ROI without pixels is left out. The z position is the plane plus 1.
        - ``.tif`` or ``.npy``, a label image as `rois_to_labels` draws it: the ``roi`` labels
          where all are positive, else each ROI's position plus 1. It has one ROI per pixel: one
          that several share goes to the one with the largest weight.
        - a name that ends in ``stat.npy``: suite2p's ``stat``, with weights and all fields.
        - ``.zarr`` or ``.nc``, the ROI set as it is. Nothing is lost.

        ImageJ's files and label images hold no weights: read again, every pixel weighs 1.
    overwrite
        Replace an existing file that this made, once the new one is complete. Of ``.npy``,
        ``.roi``, Zarr stores and NetCDF files, which do not say who made them: a label image, a
        stat, a region or an ROI set only, and neither traces nor a movie.

    Returns
    -------
    str
        The path, so that ``read_rois(write_rois(rois, path))`` reads it again.

    Raises
    ------
    FileExistsError
        The path exists and ``overwrite`` is False, or a store there holds something else.
    FileNotFoundError
        The folder to write into does not exist.
    ValueError
        ``rois`` is no ROI set, the path has another ending, or the format cannot hold the set:
        ``.roi`` of several ROIs or none, ``.zip`` of none that has pixels.

    Warns
    -----
    UserWarning
        What the file does not hold: pixels that ROIs share, in a label image, ROIs without
        pixels, and ``roi`` labels that will not come back. (In a label image 0 is the background,
        so that the labels 0, 1, 2 … are 1, 2, 3 … there; of that alone there is no warning.)

    Examples
    --------
    >>> import os, tempfile, xs2p
    >>> path = os.path.join(tempfile.mkdtemp(), "RoiSet.zip")
    >>> rois = xs2p.read_rois(write_rois(xs2p.sample_rois(), path), shape=(64, 64))
    >>> rois.sizes["roi"]
    98
    """
    from xs2p.io.rois.stored import rois_of_dataset
    from xs2p.rois.convert import compact
    from xs2p.rois.pixels import pixel_table

    check_flag("overwrite", overwrite)
    name = os.fspath(path).rstrip("/" + os.sep)
    suffix = os.path.splitext(name)[1].lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"write_rois: {name!r} ends in {suffix or 'nothing'}; choose .zip or .roi (ImageJ), "
            ".tif or .npy (label image), stat.npy (suite2p), .zarr or .nc (the ROI set as it is)"
        )
    read = paths_read(rois)
    pixel_table(rois)  # says what is wrong with what is no ROI set
    rois = compact(rois_of_dataset(rois, None))
    table = pixel_table(rois)
    if suffix == ".roi" and table.roi.size != 1:
        raise ValueError(
            f"write_rois: a .roi file holds one ROI, and there are {table.roi.size}; write a .zip, "
            "or choose one with rois.isel(roi=[0])"
        )
    folder = os.path.dirname(name) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"write_rois: no folder {folder!r} to write into")
    check_place(name, overwrite=overwrite, foreign=_foreign, inputs=read, step="write_rois")
    if suffix == ".zarr":
        _write_zarr(rois, name, overwrite)
        return name
    if suffix == ".nc":
        content: Any = None
    elif suffix in (".zip", ".roi"):
        content = _imagej(rois, table, name)
    elif name.endswith("stat.npy"):
        content = _stat(rois, table, name)
    else:
        content = _labels(rois, table, name)
    _write_file(rois, content, name, suffix, overwrite)
    return name


def _write_file(rois: xr.Dataset, content: Any, name: str, suffix: str, overwrite: bool) -> None:
    folder, file = os.path.split(name)
    with file_set(folder or ".", [file], overwrite=overwrite) as new:
        path = new(file)
        if suffix == ".nc":
            rois.to_netcdf(path, engine="h5netcdf")
        elif suffix == ".zip":
            _write_zip(content, path)
        elif suffix == ".roi":
            with open(path, "wb") as opened:
                opened.write(content[0].tobytes())
        elif suffix == ".npy":
            with open(path, "wb") as opened:
                np.lib.format.write_array(opened, content)
        else:
            import tifffile

            tifffile.imwrite(path, content, software=MADE_BY)


def _imagej(rois: xr.Dataset, table: PixelTable, path: str) -> list[Any]:
    from xs2p._warnings import names, warn
    from xs2p.io.rois.outlines import region

    empty = np.diff(table.offsets) == 0
    if empty.all() and path.lower().endswith(".zip"):
        raise ValueError(
            f"write_rois: {path}: no ROI has pixels to outline ({table.roi.size} ROIs), and ImageJ "
            "has no empty RoiSet.zip; write .zarr or .nc"
        )
    if table.ypix.size and max(int(table.ypix.max()), int(table.xpix.max())) >= _MOST:
        raise ValueError(
            f"write_rois: {path}: ImageJ's files hold coordinates up to {_MOST}, and the frame is "
            f"{table.shape}; write stat.npy, .zarr or .nc"
        )
    if empty.any():
        if path.lower().endswith(".roi"):
            raise ValueError(f"write_rois: {path}: roi {table.roi[0]} has no pixels to outline")
        warn(
            f"write_rois: {path}: {empty.sum()} ROIs without pixels are left out "
            f"(roi {names(table.roi[empty])})"
        )
    titles = _titles(rois, table, ~empty, path)
    positions = _positions(rois, path)
    regions = []
    for i in np.flatnonzero(~empty):
        own = slice(table.offsets[i], table.offsets[i + 1])
        made = region(table.ypix[own], table.xpix[own], titles[i])
        for key, values in positions.items():
            setattr(made, key, int(values[i]))
        regions.append(made)
    return regions


def _positions(rois: xr.Dataset, path: str) -> dict[str, np.ndarray]:
    """Positions of the regions in a hyperstack, from 1; z is the plane where that is known."""
    from xs2p._warnings import names, warn
    from xs2p.rois.pixels import planes_of

    keys = ("position", "c_position", "z_position", "t_position")
    found = {k: rois[k].values for k in keys if k in rois.variables and rois[k].dims == ("roi",)}
    plane = planes_of(rois)
    if plane is None:
        return found
    numbers = plane if plane.dtype.kind in "iuf" else np.full(plane.size, np.nan)
    whole = np.isfinite(numbers) & (numbers >= 0) & (numbers < _MOST) & (numbers % 1 == 0)
    if whole.all():
        return {**found, "z_position": numbers.astype(np.int64) + 1}
    warn(
        f"write_rois: {path}: the planes ({names(np.unique(plane))}) are left out: ImageJ holds "
        "them as z positions, whole numbers from 1 on; .zarr and .nc keep them"
    )
    return found


def _titles(rois: xr.Dataset, table: PixelTable, kept: np.ndarray, path: str) -> list[str]:
    """Names of the regions; one warning where the labels or the names will not come back."""
    from xs2p._warnings import names, warn
    from xs2p.io.rois.imagej import labels_of

    labels = [str(label) for label in table.roi.tolist()]
    titles = labels
    if "name" in rois.variables and rois["name"].dims == ("roi",):
        given = [str(title) for title in rois["name"].values]
        titles = given if all(given) and len(set(given)) == len(given) else labels

    def read_again(some: list[str]) -> np.ndarray:
        return labels_of([some[i] for i in np.flatnonzero(kept)])

    own, back = table.roi[kept], read_again(titles)
    if np.array_equal(back, own):
        return titles
    numbers = [titles[i] for i in np.flatnonzero(kept)] == [str(n) for n in back.tolist()]
    if numbers and np.array_equal(read_again(labels), own):
        warn(
            f"write_rois: {path}: the names ({names(titles)}) are other whole numbers than the roi "
            f"labels ({names(own)}), and such names are read as labels; the regions are named "
            "after the labels, and the names are left out"
        )
        return labels
    warn(
        f"write_rois: {path}: the roi labels ({names(own)}) will not come back: read again, the "
        f"ROIs are {names(back)}. Names of regions are labels where all are different whole "
        'numbers: rois.drop_vars("name") names them after the labels; .zarr and .nc keep both'
    )
    return titles


def _write_zip(regions: list[Any], path: str) -> None:
    import zipfile

    taken: set[str] = set()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for made in regions:
            # ImageJ shows the name of the entry: as near to that of the ROI as a file's can be.
            plain = "".join("_" if c in '/\\:*?"<>|' or ord(c) < 32 else c for c in made.name)
            entry, n = plain, 1
            while entry.lower() in taken:
                n += 1
                entry = f"{plain}-{n}"
            taken.add(entry.lower())
            archive.writestr(f"{entry}.roi", made.tobytes())
        archive.comment = MADE_BY.encode()


def _labels(rois: xr.Dataset, table: PixelTable, path: str) -> np.ndarray:
    from xs2p._warnings import names, warn
    from xs2p.rois.convert import rois_to_labels
    from xs2p.rois.pixels import planes_of

    planes = planes_of(rois)
    if planes is not None and np.unique(planes).size > 1:
        warn(
            f"write_rois: {path}: ROIs of the planes {names(np.unique(planes))} are drawn into one "
            "image, and it does not hold which plane they are of; write each: "
            f"rois.isel(roi=rois.plane.values == {planes[0]}), or .zip, stat.npy, .zarr or .nc"
        )
    labels = rois_to_labels(rois)
    image = labels.values
    values = table.roi if labels.attrs["values"] == "roi labels" else np.arange(table.roi.size) + 1
    if labels.attrs["values"] != "roi labels" and not _is_range(table.roi):
        _warn_of_labels(table.roi, values, path, "labels that are 0 or negative")
    lost = image.ravel()[table.flat] != values[table.owner]
    if lost.any():
        who = np.unique(table.owner[lost])
        warn(
            f"write_rois: {path}: {lost.sum()} pixels of {who.size} ROIs belong to another ROI, "
            "of the larger weight there, and a label image holds one ROI per pixel (roi "
            f"{names(table.roi[who])}); .zip, stat.npy, .zarr and .nc hold them all"
        )
    gone = ~np.isin(values, image)
    if gone.any():
        warn(
            f"write_rois: {path}: {gone.sum()} ROIs have no pixel in the label image "
            f"(roi {names(table.roi[gone])})"
        )
    largest = int(values.max(initial=0))
    if path.lower().endswith(".npy") or largest >= 2**32:
        return image
    return image.astype(np.uint16 if largest < 2**16 else np.uint32)


def _is_range(roi: np.ndarray) -> bool:
    return bool(np.array_equal(roi, np.arange(roi.size)))


def _warn_of_labels(roi: np.ndarray, back: np.ndarray, path: str, what: str) -> None:
    from xs2p._warnings import names, warn

    warn(
        f"write_rois: {path}: the roi labels ({names(roi)}) will not come back, for the format "
        f"does not hold {what}: read again, the ROIs are {names(back)}; .zarr and .nc keep them"
    )


def _stat(rois: xr.Dataset, table: PixelTable, path: str) -> np.ndarray:
    from xs2p.rois.convert import rois_to_stat

    if not _is_range(table.roi):
        _warn_of_labels(table.roi, np.arange(table.roi.size), path, "labels")
    stat = np.empty(rois.sizes["roi"], dtype=object)
    stat[:] = rois_to_stat(rois)
    return stat


def _foreign(path: str) -> str | None:
    """Why what is there is not of the kind that is written, or None."""
    suffix = os.path.splitext(path)[1].lower()
    if suffix in (".zarr", ".nc"):
        return _foreign_set(path, suffix)
    if os.path.isdir(path):
        return "is a folder"
    try:
        return _foreign_file(path, suffix)
    except Exception as error:  # whatever a library says of a file that is none of its own
        return f"cannot be read as {suffix} ({type(error).__name__}: {error})"


def _foreign_file(path: str, suffix: str) -> str | None:
    if suffix == ".zip":
        import zipfile

        with zipfile.ZipFile(path) as archive:
            odd = [name for name in archive.namelist() if not name.lower().endswith(".roi")]
            ours = archive.comment == MADE_BY.encode()
        if odd:
            return f"is an archive of other things ({odd[0]})"
        return None if ours else "is an archive of regions that another program made"
    if suffix == ".roi":
        with open(path, "rb") as file:
            return None if file.read(4) == b"Iout" else "is no file of ImageJ's"
    if suffix == ".npy":
        with open(path, "rb") as file:
            shape, _, dtype = read_header(file, path)
        ours = dtype.hasobject if path.endswith("stat.npy") else _is_image(shape, dtype)
        return None if ours else f"is an array of {dtype} of shape {shape}"
    import tifffile

    with tifffile.TiffFile(path) as tif:
        shape, dtype = tif.series[0].shape, tif.series[0].dtype
        ours = len(tif.pages) == 1 and tif.pages.first.software == MADE_BY
    return None if ours else f"is an image of {dtype} of shape {shape} that another program made"


def _is_image(shape: tuple[int, ...], dtype: np.dtype) -> bool:
    return len(shape) == 2 and dtype.kind in "iu"


def _foreign_set(path: str, suffix: str) -> str | None:
    """Why a store or NetCDF file is more than an ROI set, or none at all."""
    import xarray as xr

    why = foreign_folder(path) if suffix == ".zarr" else None
    if why is not None:
        return why
    try:
        stores = suffix == ".zarr"
        with xr.open_zarr(path, consolidated=False) if stores else xr.open_dataset(path) as stored:
            held = sorted(map(str, stored.data_vars))
            more = [dim for dim in ("time", "y", "x") if dim in stored.dims]
            known = {"roi", "npix", "ypix", "xpix", "lam"} <= set(stored.variables)
    except (ValueError, OSError, KeyError, TypeError) as error:
        return f"cannot be read ({error})"
    if known and not more:
        return None
    what = f"data over {', '.join(more)}" if more else "no ROI set"
    return f"holds {what} ({', '.join(held) or 'no variables'}), which no ROI set replaces"


def _write_zarr(rois: xr.Dataset, path: str, overwrite: bool) -> None:
    import warnings

    path = os.path.realpath(path)
    with scratch_folder(path) as scratch:
        new = os.path.join(scratch, os.path.basename(path))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            rois.to_zarr(new, mode="w", consolidated=True)
        put_in_place(new, path, overwrite)
