"""Write traces and their ROIs under ALF's names."""

from __future__ import annotations

import contextlib
import os
import uuid
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import check_complete, check_flag
from xs2p._frames import BAD, SEGMENT, valid_of
from xs2p._time import check_increasing, check_known, rate_shown, seconds_of
from xs2p._warnings import warn
from xs2p.io.alf import names as alf
from xs2p.io.alf.kept import as_json, to_keep
from xs2p.masks.masks import Masks

if TYPE_CHECKING:
    import xarray as xr


def write_alf(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    masks: Masks | None = None,
    overwrite: bool = False,
) -> None:
    """Write traces and their ROIs under the names of the International Brain Laboratory's ALF.

    Each plane is a field of view, a folder ``FOV_00`` and so on, that ONE loads with
    ``one.alf.io.load_object(folder, "mpci")``. Everything lazy is computed in one pass for each
    plane, and traces go to their files block by block: they need not fit in memory. All files are
    complete under temporary names before the first gets its own, and the first says which the
    others are: :func:`read_alf` refuses a set of which some are missing.

    Parameters
    ----------
    ds
        ``F`` over ``(roi, time)``, and ``Fneu`` and ``spks`` where there; the ROI set as
        coordinates; ``time`` in what its ``units`` say, or ``attrs["fs"]`` in Hz. ALF's times
        are in s from the start of the session: dates are counted from the first frame.
    path
        The folder ``alf`` of the session, in which each plane gets its folder, ``FOV_00`` where
        the plane is not known; or, for one plane, that folder itself.
    masks
        What ``F`` and ``Fneu`` were extracted with, of :func:`xs2p.build_masks`, for
        ``mpciROIs.neuropilMasks``; only of one plane. Without it they are those of
        ``neuropil_mask`` of suite2p's stat or of :func:`read_alf`, or left out.
    overwrite
        Replace the files of an earlier `write_alf`; of no other program. Of several planes, fields
        of view of an earlier one that are none of the new ones are removed.

    Raises
    ------
    FileExistsError
        A file of the set exists and ``overwrite`` is False, or it was not written here, also under
        a longer name of ALF's, or what is still to be computed is read from it; or another field
        of view in the folder would be read with the new ones.
    ValueError
        The Dataset has no ``F``, no ROI set or no times, ROIs of several planes were to go into
        the folder of one, or ``masks`` are of other ROIs.

    Warns
    -----
    UserWarning
        ROIs have frames of their own that do not count: ALF holds frames that count for none. The
        Dataset has ``segment``: ALF has no place for it.

    Notes
    -----
    Of ``mpci``: ``ROIActivityF``, ``ROINeuropilActivityF``, ``ROIActivityDeconvolved``, float32
    ``(frame, roi)``, NaN where an ROI has no trace; ``times``, float64 in s; ``badFrames``, bool,
    of ``valid``, else of ``badframes``; ``mpciFrameQC`` of ``frame_qc``. Of ``mpciROIs``:
    ``masks`` and ``neuropilMasks``, which pydata's ``sparse.load_npz`` reads as ``(roi, y, x)``;
    ``mpciROITypes``, 1 for a cell and 0 for none, and ``cellClassifier`` (without ``iscell`` all
    are cells with 1; of ``roi_type`` without it its types); ``stackPos``, whole pixels
    ``(y, x, 0)``; ``uuids``, new ones where there is no such coordinate.
    ``mpciMeanImage.images`` of ``meanImg``. ``roi``, ``status``, ``radius``, ``med_y``, ``med_x``,
    the parameters and the names of the files go to
    ``_xs2p_ROIData.attributes.json``. What else is in the Dataset, as ``Fc``, ``F0`` and ``dFF``,
    has no name in ALF and is left out.

    Examples
    --------
    >>> write_alf(ds, "session/alf", masks=xs2p.build_masks(rois))  # doctest: +SKIP
    """
    from xs2p.disk.inputs import paths_read
    from xs2p.disk.replace import file_set
    from xs2p.io.alf.places import check_places, clear_away, fovs_to_remove, remove_set

    check_flag("overwrite", overwrite)
    _check(ds)
    name = os.fspath(path)
    parts = _folders_of(ds, name)
    _check_masks(masks, ds, len(parts))
    read = paths_read(ds)
    check_places(parts, read, overwrite)
    old = fovs_to_remove(name, parts, read, overwrite)
    seconds = _seconds(ds)
    if SEGMENT in ds.coords and ds[SEGMENT].dims == ("time",):
        warn("write_alf: ALF has no place for segment, which frames are of one recording; left out")
    with contextlib.ExitStack() as sets:
        for folder, part in parts.items():
            new = _Set(sets.enter_context(file_set(folder, alf.KNOWN, overwrite=overwrite)))
            _write_fov(part, new, seconds, masks, [os.path.basename(each) for each in parts])
    for folder in old:
        remove_set(folder)
    for folder in parts if overwrite else ():
        clear_away(folder)


class _Set:
    """Names of the files of a set as they are written; ours is the first to get its own."""

    def __init__(self, new: Callable[[str], str]) -> None:
        self.files: list[str] = []
        self.new = new
        self.ours = new(alf.OURS)

    def __call__(self, name: str) -> str:
        self.files.append(name)
        return self.new(name)


def _check(ds: Any) -> None:
    """Raise unless the Dataset has what is needed, before anything is computed."""
    import xarray as xr

    from xs2p.rois.pixels import pixel_order

    if not isinstance(ds, xr.Dataset):
        raise ValueError(
            f"write_alf: ds is a {type(ds).__name__}, expected the Dataset of traces and ROIs that "
            "xs2p.extract(movie, rois, ...) gives"
        )
    check_complete(ds, "write_alf")
    if "F" not in ds:
        raise ValueError(
            "write_alf: the Dataset has no F(roi, time), only "
            f"{sorted(map(str, ds.data_vars))}; make it with xs2p.extract(movie, rois, ...)"
        )
    for key in alf.TRACES:
        if key in ds and set(ds[key].dims) != {"roi", "time"}:
            raise ValueError(
                f"write_alf: {key} has dims {ds[key].dims}, expected ('roi', 'time'); take one "
                "channel with ds.isel(channel=0), or rename with ds.rename({old: new})"
            )
    _check_labels(ds)
    pixel_order(ds)  # says what is wrong with what is no ROI set


def _check_labels(ds: xr.Dataset) -> None:
    """Raise unless labels of ROIs are all numbers or all texts, as they can be read again."""
    labels = ds["roi"].values.ravel().tolist() if "roi" in ds.coords else []
    texts = sum(isinstance(label, str) for label in labels)
    numbers = sum(isinstance(label, int | float) for label in labels)
    if max(texts, numbers) < len(labels):
        kinds = sorted({type(label).__name__ for label in labels})
        raise ValueError(
            f"write_alf: the labels of the ROIs are {', '.join(kinds)}, expected all numbers or "
            "all texts; make them so: ds.assign_coords(roi=[str(label) for label in ds.roi.values])"
        )


def _check_masks(masks: Masks | None, ds: xr.Dataset, n_planes: int) -> None:
    if masks is None:
        return
    if not isinstance(masks, Masks):
        raise ValueError(
            f"write_alf: masks is a {type(masks).__name__}, expected what xs2p.build_masks returns"
        )
    if n_planes > 1:
        raise ValueError(
            f"write_alf: masks are of one plane, and the ROIs of {n_planes}; write each plane: "
            f"ds.isel(roi=ds.plane.values == {np.unique(ds['plane'].values)[0]})"
        )
    frame = (int(ds.attrs["Ly"]), int(ds.attrs["Lx"]))
    if masks.shape != frame or not np.array_equal(masks.rois["roi"].values, ds["roi"].values):
        raise ValueError(
            f"write_alf: masks are of {masks.n_rois} ROIs on {masks.shape}, and the traces of "
            f"{ds.sizes['roi']} on {frame}, or their labels differ; choose the same ROIs: "
            "masks.select(keep)"
        )


def _folders_of(ds: xr.Dataset, path: str) -> dict[str, xr.Dataset]:
    """Folders to write, and the Dataset of each."""
    from xs2p.io.suite2p.planes import of_plane
    from xs2p.rois.pixels import planes_of

    given = alf.fov_number(path)
    found = planes_of(ds)
    planes = np.unique(found) if found is not None and found.size else np.zeros(1, int)
    if planes.dtype.kind not in "iuf" or (planes != planes.astype(int)).any() or planes[0] < 0:
        raise ValueError(
            f"write_alf: the planes {planes.tolist()} are no numbers of fields of view, 0, 1, 2 …; "
            "give them such: ds.assign_coords(plane=('roi', numbers))"
        )
    if planes.size > 1 and given is not None:
        raise ValueError(
            f"write_alf: the ROIs are of the planes {planes.tolist()}, and {path!r} is the folder "
            "of one; give the folder above it, or write each: "
            f"ds.isel(roi=ds.plane.values == {planes[0]})"
        )
    numbers = planes.astype(int).tolist()
    own = f"meanImg_plane{numbers[0]}"
    if len(numbers) == 1 and own in ds and "meanImg" not in ds:  # the others are of no ROI here
        ds = ds.assign(meanImg=ds[own])
    if given is not None:
        return {path: ds}
    if len(numbers) == 1:
        return {os.path.join(path, f"FOV_{numbers[0]:02}"): ds}
    ds = ds.assign_coords(plane=("roi", np.asarray(found)))
    return {os.path.join(path, f"FOV_{n:02}"): of_plane(ds, n) for n in numbers}


def _seconds(ds: xr.Dataset) -> np.ndarray:
    """When the frames are, in s."""
    fs = ds["F"].attrs.get("fs", ds.attrs.get("fs", rate_shown(ds)))
    if fs is None and "time" not in ds.coords:
        raise ValueError(
            "write_alf: there are no times, and the frame rate is not known; give it in Hz: "
            "ds.attrs['fs'] = 30.0"
        )
    check_increasing(ds["F"], "F")
    check_known(ds["F"], "F", "write_alf: ")
    return seconds_of(ds["F"], float("nan") if fs is None else float(fs), f"{alf.TIMES} are")


def _write_fov(
    ds: xr.Dataset, new: _Set, seconds: np.ndarray, masks: Masks | None, together: list[str]
) -> None:
    """Write one field of view."""
    import dask

    from xs2p.compute.cluster import naming_what_was_lost
    from xs2p.io.suite2p.export import watching, write_lazily

    traces = {key: ds[key] for key in alf.TRACES if key in ds}
    rest = ds.drop_vars([key for key in ds.data_vars if "time" in ds[key].dims])
    written = [
        write_lazily(array.transpose("time", "roi"), new(alf.TRACES[key]))
        for key, array in traces.items()
    ]
    with naming_what_was_lost(), watching(written):
        _, rest = dask.compute(written, rest)
    rest = rest.as_numpy()
    _save(new, alf.TIMES, seconds)
    _save(new, alf.BAD_FRAMES, _bad_frames(rest, seconds.size))
    if alf.QC in rest.coords and rest[alf.QC].dims == ("time",):
        _write_quality(rest[alf.QC], new)
    _write_types(rest, new)
    place = np.stack([rest["med_y"], rest["med_x"], np.zeros(rest.sizes["roi"])], axis=1)
    _save(new, alf.POSITIONS, np.rint(place).astype(np.int64))
    ids = [str(uuid.uuid4()) for _ in range(rest.sizes["roi"])]
    if alf.UUID in rest.variables:
        ids = [str(own) for own in rest[alf.UUID].values]
    _write_text(new, alf.UUIDS, [alf.UUID, *ids])
    _write_masks(rest, new, masks)
    frame = (rest.attrs["Ly"], rest.attrs["Lx"])
    if "meanImg" in rest and rest["meanImg"].shape == frame:
        _save(new, alf.MEAN_IMAGE, rest["meanImg"].values.astype(np.float64))
    with open(new.ours, "w", encoding="utf-8", newline="") as file:
        file.write(as_json(to_keep(ds, rest, new.files, together)) + "\n")


def _save(new: Callable[[str], str], name: str, array: np.ndarray) -> None:
    with open(new(name), "wb") as file:
        np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)


def _write_text(new: Callable[[str], str], name: str, lines: list[str]) -> None:
    with open(new(name), "w", encoding="utf-8", newline="") as file:
        file.write("\n".join(lines) + "\n")


def _write_names(new: Callable[[str], str], name: str, what: str, names: Mapping[int, str]) -> None:
    rows = [f"{what}_values\t{what}_labels", *(f"{value}\t{word}" for value, word in names.items())]
    _write_text(new, name, rows)


def _bad_frames(ds: xr.Dataset, n_frames: int) -> np.ndarray:
    """Frames that count for no ROI, or that are said to be bad."""
    valid = valid_of(ds)
    if valid is None:
        said = BAD in ds.coords and ds[BAD].dims == ("time",)
        return ds[BAD].values.astype(bool) if said else np.zeros(n_frames, bool)
    if "roi" not in valid.dims:
        return ~np.asarray(valid.values)
    any_roi = valid.values.any(axis=0)
    own = int((~valid.values & any_roi).any(axis=1).sum())
    if own:
        warn(
            f"write_alf: {own} of {ds.sizes['roi']} ROIs have frames of their own that do not "
            "count (valid over roi and time), and ALF has no place for these: mpci.badFrames are "
            "the frames that count for none of the ROIs"
        )
    return np.asarray(~any_roi)


def _write_quality(quality: xr.DataArray, new: Callable[[str], str]) -> None:
    _save(new, alf.FRAME_QC, quality.values)
    values, words = quality.attrs.get("flag_values"), quality.attrs.get("flag_meanings")
    if values is not None and words is not None:
        names = dict(zip(np.atleast_1d(values).tolist(), str(words).split(), strict=False))
        _write_names(new, alf.FRAME_QC_NAMES, "qc", names)


def _write_types(ds: xr.Dataset, new: Callable[[str], str]) -> None:
    """Write which ROIs are cells, or of which type each is where that alone is known."""
    from xs2p.io.suite2p.export import flag_table

    names = {0: "no cell", 1: "cell"}
    if "roi_type" in ds.variables and "iscell" not in ds.variables:
        words = [str(word) for word in ds["roi_type"].values]
        of = {word: n for n, word in enumerate(dict.fromkeys(words))}
        numbers = np.array([of[word] for word in words], np.int64)
        if "roi_type_value" in ds.variables:
            numbers = ds["roi_type_value"].values.astype(np.int64)
        names = dict(sorted(zip(numbers.tolist(), words, strict=True)))
        if words:
            small = numbers.astype(np.int16)
            _save(new, alf.TYPES, small if (small == numbers).all() else numbers)
        if "iscell_prob" in ds.variables:
            _save(new, alf.CLASSIFIER, ds["iscell_prob"].values.astype(np.float64))
    elif ds.sizes["roi"]:
        cells = flag_table(ds, "iscell")
        _save(new, alf.TYPES, cells[:, 0].astype(np.int16))
        _save(new, alf.CLASSIFIER, cells[:, 1].astype(np.float64))
    _write_names(new, alf.TYPE_NAMES, "roi", names)


def _write_masks(ds: xr.Dataset, new: Callable[[str], str], masks: Masks | None) -> None:
    from xs2p.io.alf.masks import Entries, write_masks
    from xs2p.rois.pixels import pixel_table

    table = pixel_table(ds)
    npix = np.diff(table.offsets)
    write_masks(new(alf.MASKS), Entries(npix, table.flat, table.lam.astype("f4"), table.shape))
    around: tuple[np.ndarray, np.ndarray] | None = None
    if masks is not None and masks.neuropil is not None:
        ring = masks.neuropil.tocsc()
        around = np.diff(ring.indptr), ring.indices
    elif {"neuropil_mask", "neuropil_mask_roi"} <= set(ds.variables):
        around = _stored(ds)
    if around is not None:
        entries = Entries(*around, np.ones(around[1].size, bool), table.shape)
        write_masks(new(alf.NEUROPIL_MASKS), entries)


def _stored(ds: xr.Dataset) -> tuple[np.ndarray, np.ndarray]:
    """Neuropil masks that a stat had, of the ROIs that are here."""
    owner, flat = ds["neuropil_mask_roi"].values, ds["neuropil_mask"].values
    ids = ds["roi_id"].values
    place = {int(own): n for n, own in enumerate(ids)}
    rows = np.array([place.get(int(own), -1) for own in owner], np.int64)
    kept = rows >= 0
    order = np.argsort(rows[kept], kind="stable")
    return np.bincount(rows[kept], minlength=ids.size), flat[kept][order]
