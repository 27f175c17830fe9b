"""Read the folder of a field of view under ALF's names."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import ARBITRARY, TEXT, time_attrs
from xs2p._frames import BAD
from xs2p._warnings import warn
from xs2p.disk.reads import naming
from xs2p.io.alf import names as alf
from xs2p.io.alf.kept import OF_EACH_ROI, known_of, read_kept
from xs2p.rois.assemble import DESCRIPTIONS, status_of_zeros

if TYPE_CHECKING:
    import xarray as xr

_MEANINGS = {
    "F": "fluorescence",
    "Fneu": "neuropil fluorescence",
    "spks": "deconvolved activity",
}
_PLANE = {"long_name": "plane of the ROI", "description": "Number of the field of view, FOV_<n>."}
_NO_COORDINATE = (alf.MASKS, alf.NEUROPIL_MASKS, alf.TYPES, alf.CLASSIFIER, alf.POSITIONS)
# What the Dataset has under these names is of the masks, the traces or xs2p itself.
_RESERVED = {
    *(*DESCRIPTIONS, *alf.TRACES, "Fc", "F0", "dFF", BAD, alf.QC, "valid", "segment", "time"),
    *("pixel", "channel", "y", "x", "meanImg", "neuropil_mask", "neuropil_mask_roi", "roi_type"),
    "roi_type_value",
}


def read_alf(path: str | os.PathLike[str]) -> xr.Dataset:
    """Read traces and ROIs under the names of the International Brain Laboratory's ALF.

    Parameters
    ----------
    path
        The folder of a field of view, such as ``session/alf/FOV_00``, or one above it that has
        one, or several of one frame size with the same times: their ROIs are numbered through. A
        frame is bad then where it is in one of them, and attributes are those that all share.

    Returns
    -------
    Dataset
        ``F``, ``Fneu`` and ``spks`` over ``(roi, time)``, float32, of ``mpci.ROIActivityF``,
        ``mpci.ROINeuropilActivityF`` and ``mpci.ROIActivityDeconvolved``; ``time`` in s, of
        ``mpci.times``, and ``attrs["fs"]`` in Hz where it is regular. The ROI set of
        ``mpciROIs.masks`` as coordinates over ``roi`` and ``pixel``, with its neuropil masks in
        ``neuropil_mask``, pixels ``y · Lx + x``. Over ``roi``: ``iscell`` (bool) and
        ``iscell_prob`` of ``mpciROIs.mpciROITypes`` and ``cellClassifier``, ``uuids``, ``plane``,
        the number of the folder, and what else ``mpciROIs`` has with one value for each. Over
        ``time``: ``badframes`` of ``mpci.badFrames``, which is used only where
        ``valid="badframes"`` is given, and ``frame_qc`` of ``mpci.mpciFrameQC``. ``meanImg`` over
        ``(y, x)``. What is absent is left out. Of a folder of :func:`write_alf` also ``roi``,
        ``status`` and the parameters in ``attrs`` come back.

    Raises
    ------
    FileNotFoundError
        There is no such folder, or neither ROIs nor traces in it.
    ValueError
        A file is damaged or missing of a set of :func:`write_alf`, two disagree in their number of
        ROIs or frames, or fields of view differ in frame size, times or in what they have.

    Warns
    -----
    UserWarning
        ROIs are of other types than cell and no cell: ``roi_type`` has their names and
        ``roi_type_value`` the numbers, and there is no ``iscell``. A file of ``mpciROIs`` has a
        name of the ROI set's own, fields of view differ in ``frame_qc``, or some have no neuropil
        masks: these are left out. One that was written at once with these is not there.

    Examples
    --------
    >>> ds = read_alf("session/alf/FOV_00")  # doctest: +SKIP
    """
    return _read(os.fspath(path))


def _read(path: str, traces: bool = True) -> xr.Dataset:
    """Read all fields of view."""
    from xs2p.io.alf.fovs import join_fovs, warn_of_absent

    folders = alf.folders_in(path)
    sets = {folder: _read_fov(folder, traces) for folder in folders}
    warn_of_absent(folders, path)
    if len(sets) == 1:
        return next(iter(sets.values()))
    return join_fovs(sets, path)


def rois_of_alf(path: str, shape: tuple[int, int] | None) -> xr.Dataset:
    """ROI set of a folder: what :func:`read_alf` gives, and no trace is read."""
    from xs2p.io.rois.stored import rois_of_dataset
    from xs2p.rois.convert import compact

    ds = _read(path, traces=False).reset_coords(["npix", "ypix", "xpix", "lam", "overlap"])
    ds.attrs.pop("source", None)
    return compact(rois_of_dataset(ds, shape))


def _read_fov(folder: str, traces: bool) -> xr.Dataset:
    """Read one field of view, or its ROIs alone."""
    with naming(folder):
        found = _Folder(folder)
        if traces:
            return found.dataset()
        if found.where(alf.MASKS) is None:
            raise ValueError(f"{folder}: there are no masks of ROIs, {alf.MASKS}")
        return found.rois(found.ours())


class _Folder:
    """Files of a field of view, each read once and counted against the others."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.files = os.listdir(path)
        self.counts: dict[str, dict[str, int]] = {"ROIs": {}, "frames": {}}

    def where(self, dataset: str) -> str | None:
        """Path of a dataset, None where it is absent."""
        found = alf.find(self.files, dataset)
        return None if found is None else os.path.join(self.path, found)

    def counted(self, path: str, what: str, number: int) -> None:
        """Note how many ROIs or frames a file has: all must have the same."""
        for other, count in self.counts[what].items():
            if count != number:
                raise ValueError(f"{path}: {number} {what}, but {other} beside it has {count}")
        self.counts[what][os.path.basename(path)] = number

    def array(self, dataset: str, *what: str) -> np.ndarray | None:
        """Read numbers over ``what``, ROIs or frames; None where they are absent."""
        from xs2p.disk.npy import load_npy

        path = self.where(dataset)
        if path is None:
            return None
        array = np.asarray(load_npy(path))
        if array.dtype.kind not in "biuf" or (what and array.ndim != len(what)):
            raise ValueError(
                f"{path}: expected numbers over ({', '.join(what)}), found {array.dtype} of shape "
                f"{array.shape}"
            )
        for axis, each in enumerate(what):
            if each in self.counts:
                self.counted(path, each, array.shape[axis])
        return array

    def dataset(self) -> xr.Dataset:
        """Put together all that is there."""
        import xarray as xr

        data: dict[str, Any] = {}
        for key, dataset in alf.TRACES.items():
            traces = self.array(dataset, "frames", "ROIs")
            if traces is not None:
                about = {
                    "units": ARBITRARY,
                    "long_name": _MEANINGS[key],
                    "description": f"{dataset} of the folder, as it has it.",
                }
                rows = np.ascontiguousarray(traces.T, dtype=np.float32)
                data[key] = xr.Variable(("roi", "time"), rows, about)
        ours = self.ours()
        image = self.array(alf.MEAN_IMAGE)
        rois = self.rois(ours)
        coords: dict[str, Any] = {str(key): v for key, v in rois.variables.items()}
        coords |= self.of_frames(data)
        if "F" in data:
            absent = np.isnan(data["F"].values).all(axis=1)
            zeros = xr.Variable(("roi", "time"), np.where(absent[:, None], 0, data["F"].values))
            coords |= {} if "status" in ours else status_of_zeros(coords, zeros)
        ds = xr.Dataset(data, coords, {**rois.attrs, "source": self.path})
        if image is not None and image.squeeze().ndim == 2:
            about = {"long_name": "mean image", "description": f"{alf.MEAN_IMAGE} of the folder."}
            ds["meanImg"] = ("y", "x"), image.squeeze(), about
            ds.attrs = dict(zip(("Ly", "Lx"), image.squeeze().shape, strict=True)) | ds.attrs
        return _with_attributes(ds, ours)

    def of_frames(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """Coordinates over ``time``."""
        coords: dict[str, Any] = {}
        times = self.array(alf.TIMES, "frames")
        if times is not None:
            coords["time"] = ("time", times.astype(np.float64), time_attrs("file"))
        bad = self.array(alf.BAD_FRAMES, "frames")
        if bad is not None and data:
            about = {
                "long_name": "bad frame",
                "description": f"{alf.BAD_FRAMES} of the folder, as it has it.",
            }
            coords[BAD] = ("time", bad.astype(bool), about)
        quality = self.array(alf.FRAME_QC, "frames")
        if quality is not None and data:
            about = {
                "long_name": "quality of the frame",
                "description": f"{alf.FRAME_QC}, by value.",
            }
            coords[alf.QC] = ("time", quality, about | _flags(self.table(alf.FRAME_QC_NAMES)))
        return coords

    def rois(self, ours: Mapping[str, Any]) -> xr.Dataset:
        """ROI set, or the coordinates over ``roi`` where there are no masks."""
        columns = self.columns()
        path = self.where(alf.MASKS)
        if path is None:
            return self.without_masks(columns, ours)
        from xs2p.io.alf.masks import read_masks
        from xs2p.rois.assemble import Fields, assemble
        from xs2p.rois.stat import describe

        masks = read_masks(path)
        self.counted(path, "ROIs", masks.npix.size)
        ragged = {}
        around = self.where(alf.NEUROPIL_MASKS)
        if around is not None:
            import xarray as xr

            ring = read_masks(around)
            self.counted(around, "ROIs", ring.npix.size)
            if ring.frame != masks.frame:
                raise ValueError(f"{around}: frames of {ring.frame}, but {path} has {masks.frame}")
            owner = np.repeat(np.arange(ring.npix.size), ring.npix)
            name = "neuropil_mask"
            about = describe(name)
            ragged[name] = owner, xr.Variable(f"{name}_element", ring.flat, about)
        if (n := alf.fov_number(self.path)) is not None:
            columns["plane"] = _variable(np.full(masks.npix.size, n), _PLANE)
        ypix, xpix = np.divmod(masks.flat, max(masks.frame[1], 1))
        try:
            rois = assemble(
                roi=self.labels(ours, masks.npix.size),
                npix=masks.npix,
                ypix=ypix,
                xpix=xpix,
                lam=masks.values,
                shape=masks.frame,
                fields=Fields(
                    per_roi=columns,
                    ragged=ragged,
                    radius=known_of(ours, "radius"),
                    med=known_of(ours, "med_y", "med_x"),
                    status=np.array(ours["status"], TEXT) if "status" in ours else None,
                ),
            )
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
        return rois.set_coords(list(rois.data_vars))

    def without_masks(self, columns: dict[str, Any], ours: Mapping[str, Any]) -> xr.Dataset:
        """Label ROIs of which nothing but their traces and places is known."""
        import xarray as xr

        places = self.array(alf.POSITIONS, "ROIs", "axes")
        if places is not None and places.shape[1] >= 2:
            for axis, name in enumerate(("med_y", "med_x")):
                columns[name] = _variable(places[:, axis], DESCRIPTIONS[name])
        n_rois = next(iter(self.counts["ROIs"].values()))
        return xr.Dataset(coords={"roi": ("roi", self.labels(ours, n_rois)), **columns})

    def labels(self, ours: Mapping[str, Any], n_rois: int) -> np.ndarray:
        """Labels of the ROIs, as they were where `write_alf` wrote them, or from 0."""
        for key in OF_EACH_ROI:
            if key in ours:
                self.counted(alf.OURS, "ROIs", len(ours[key]))
        return np.array(ours["roi"]) if "roi" in ours else np.arange(n_rois)

    def columns(self) -> dict[str, Any]:
        """Collect what is said of each ROI."""
        found: dict[str, Any] = {}
        types = self.array(alf.TYPES, "ROIs")
        if types is not None:
            found |= _types(types, self.table(alf.TYPE_NAMES), str(self.where(alf.TYPES)))
        score = self.array(alf.CLASSIFIER, "ROIs")
        if score is not None:
            about = {
                "long_name": "probability of iscell",
                "units": "1",
                "description": f"{alf.CLASSIFIER} of the folder, as it has it.",
            }
            found["iscell_prob"] = _variable(score, about)
        ids = self.where(alf.UUIDS)
        if ids is not None:
            rows = [row[0] for row in _rows(ids, ",")[1:]]
            self.counted(ids, "ROIs", len(rows))
            about = {"long_name": "UUID of the ROI", "description": f"{alf.UUIDS}, of the folder."}
            found[alf.UUID] = _variable(np.array(rows, TEXT), about)
        for file in sorted(self.files):
            own = file.startswith(alf.OF_ROIS) and file.endswith(".npy")
            name = file.removeprefix(alf.OF_ROIS).partition(".")[0]
            dataset = f"{alf.OF_ROIS}{name}.npy"
            if own and dataset not in _NO_COORDINATE and name.isidentifier():
                values = self.array(dataset)
                if values is not None and values.ndim == 1:
                    self.counted(os.path.join(self.path, file), "ROIs", values.size)
                    if name in _RESERVED:
                        warn(f"{self.path}: {file} is left out, {name} is a name of xs2p's own")
                        continue
                    about = {"long_name": name, "description": f"{dataset} of the folder."}
                    found.setdefault(name, _variable(values, about))
        return found

    def table(self, dataset: str) -> dict[int, str]:
        """Names by value, of a table of the two; empty where it is absent."""
        path = self.where(dataset)
        if path is None:
            return {}
        try:
            return {int(row[0]): row[1] for row in _rows(path, "\t")[1:]}
        except (ValueError, IndexError) as error:
            raise ValueError(f"{path}: expected rows of a value and its name ({error})") from error

    def ours(self) -> dict[str, Any]:
        """Read what `write_alf` kept beside what ALF has names for."""
        path = self.where(alf.OURS)
        if path is None:
            return {}
        return read_kept(path)


def _variable(values: np.ndarray, attrs: dict[str, Any]) -> xr.Variable:
    import xarray as xr

    return xr.Variable("roi", values, attrs)


def _rows(path: str, delimiter: str) -> list[list[str]]:
    with open(path, encoding="utf-8", newline="") as file:
        return [row for row in csv.reader(file, delimiter=delimiter) if row]


def _flags(names: Mapping[int, str]) -> dict[str, Any]:
    """Meanings of values as CF has them."""
    if not names:
        return {}
    words = " ".join("_".join(name.split()) for name in names.values())
    return {"flag_values": list(names), "flag_meanings": words}


def _types(types: np.ndarray, names: Mapping[int, str], path: str) -> dict[str, Any]:
    """``iscell`` where ROIs are cells or none, else ``roi_type``."""
    if not (np.isfinite(types) & (types == np.floor(types))).all():
        raise ValueError(f"{path}: its types are {types[:9].tolist()} …, expected whole numbers")
    if np.isin(types, (0, 1)).all() and _of_cells(names):
        about = {"long_name": "cell", "description": f"{alf.TYPES}: 1 is a cell, 0 is none."}
        return {"iscell": _variable(types > 0, about)}
    words = np.array([names.get(int(value), str(int(value))) for value in types], TEXT)
    warn(
        f"{path}: ROIs are of the types {', '.join(sorted(set(words.tolist())))}; roi_type has "
        "them, and which are cells is not said by iscell"
    )
    about = {"long_name": "type of the ROI", "description": f"{alf.TYPES}, by name."}
    value = {"long_name": "number of the type", "description": f"{alf.TYPES}, as it has it."}
    numbers = _variable(types.astype(np.int64), value)
    return {"roi_type": _variable(words, about), "roi_type_value": numbers}


def _of_cells(names: Mapping[int, str]) -> bool:
    """Whether 1 is called a cell and 0 none, or neither has a name."""
    words = [re.sub("[^a-z]", "", names.get(n, "").casefold()) for n in (0, 1)]
    none = ("", "nocell", "notcell", "notacell", "noncell", "none")
    return words[0] in none and words[1] in ("", "cell")


def _with_attributes(ds: xr.Dataset, ours: Mapping[str, Any]) -> xr.Dataset:
    """Add what is known of how the traces were made, and the frame rate."""
    from xs2p.movie.check import rate_of

    for key, attrs in ours.get("variables", {}).items():
        if key in ds.data_vars and isinstance(attrs, dict):
            ds[key].attrs |= attrs
    frame = {key: ds.attrs[key] for key in ("Ly", "Lx", "source") if key in ds.attrs}
    ds = ds.assign_attrs({**ours.get("attrs", {}), **frame})
    if "time" in ds.coords and "fs" not in ds.attrs:
        fs = rate_of(ds["time"].values)
        ds = ds if fs is None else ds.assign_attrs(fs=float(fs))
    return ds
