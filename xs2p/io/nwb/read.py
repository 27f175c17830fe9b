"""Traces out of NWB files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import numpy as np

from xs2p._attrs import restated, time_attrs
from xs2p._warnings import warn
from xs2p.io.nwb.file import SERIES
from xs2p.io.nwb.parts import IMAGES
from xs2p.movie.check import rate_of

if TYPE_CHECKING:
    import xarray as xr

_FRAME = ("Ly", "Lx")


def read_nwb(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | None = None,
    name: str | None = None,
) -> xr.Dataset:
    """Read the traces of an NWB file and their ROIs as one labelled Dataset.

    Parameters
    ----------
    path
        The ``.nwb`` file: of :func:`xs2p.write_nwb`, neuroconv, or another program.
    shape
        Frame size ``(Ly, Lx)`` in pixels, where the file does not say it.
    name
        Which table of ROIs (``PlaneSegmentation``), where there are several.

    Returns
    -------
    Dataset
        A float32 variable ``(roi, time)``, in memory, for each ``RoiResponseSeries`` of the table:
        those that :func:`xs2p.write_nwb` writes under xs2p's names (``F``, ``Fneu``, ``Fc``,
        ``F0``, ``spks``, ``dFF``), others under their own. The ROI set as coordinates, as
        :func:`xs2p.rois_from_nwb` gives it; ``time`` in s, and ``attrs["fs"]`` in Hz where frames
        are regular. Values are in ``attrs["units"]``: a series' ``conversion`` and ``offset`` are
        applied. ROIs that a series does not have are NaN. Images ``(y, x)`` of
        ``SegmentationImages`` are variables too.

    Raises
    ------
    ImportError
        If pynwb is not installed.
    FileNotFoundError
        If there is no such file.
    ValueError
        As :func:`xs2p.rois_from_nwb`; or if the table has no traces, or a series is not over
        ``(time, roi)``.

    Examples
    --------
    >>> ds = read_nwb("session.nwb")  # doctest: +SKIP
    """
    from xs2p.io.nwb.file import opened, pick
    from xs2p.io.nwb.rois import rois_of_table

    where = os.fspath(path)
    with opened(where) as file:
        table = pick(file, name, where)
        rois = rois_of_table(table, shape, "xy", where)
        found = _series(file, table)
        if not found:
            raise ValueError(
                f"{where}: the table {table.name!r} has no traces (RoiResponseSeries); "
                "rois_from_nwb reads the ROIs alone"
            )
        for key, series in found.items():
            _check(series, key, where)
        first = next(iter(found.values()))
        time = _times(first)
        odd = [key for key, s in found.items() if not np.array_equal(_times(s), time)]
        if odd:
            warn(
                f"{where}: {', '.join(odd)} are left out, whose frames are at other times than "
                f"those of {next(iter(found))}"
            )
        ds = rois.reset_coords()
        ds = ds.set_coords(list(ds.data_vars))
        ds = ds.assign_coords(time=("time", time, time_attrs("file")))
        common: dict[str, Any] = {}
        for key, series in found.items():
            if key not in odd:
                attrs = _attrs(series)
                data = _values(series, len(table), time.size)
                common |= {k: v for k, v in attrs.items() if k not in _OF_ONE}
                kept = {k: v for k, v in attrs.items() if k not in _FRAME}
                ds[key] = ("roi", "time"), data, kept
        for key, image in _images(file, ds.attrs):
            ds[key] = image
        fs = first.rate if first.rate is not None else rate_of(time)
        times = {} if fs is None else {"fs": float(fs)}
        ds = restated(ds.assign_attrs({**common, **ds.attrs}))
        return ds.assign_attrs({**times, "source": where})


_OF_ONE = ("units", "long_name", "description")


def _series(file: Any, table: Any) -> dict[str, Any]:
    """Series whose ROIs are in the table, by the name that they get here."""
    from pynwb.ophys import RoiResponseSeries

    suffix = table.name.removeprefix("PlaneSegmentation")
    ours = {place: key for key, place in SERIES.items()}
    found = {}
    for item in file.objects.values():
        if not isinstance(item, RoiResponseSeries) or item.rois.table is not table:
            continue
        container = type(item.parent).__name__
        plain = item.name.removesuffix(suffix) if suffix else item.name
        key = ours.get((container, plain), item.name)
        found[key if key not in found else f"{item.parent.name}_{key}"] = item
    order = [*(key for key in SERIES if key in found), *(k for k in found if k not in SERIES)]
    return {key: found[key] for key in order}


def _times(series: Any) -> np.ndarray:
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], dtype=np.float64)
    start = series.starting_time or 0.0
    return np.asarray(start + np.arange(series.data.shape[0]) / series.rate, dtype=np.float64)


def _check(series: Any, key: str, where: str) -> None:
    """Raise a ValueError where data is not ``(time, roi)``, or ``(time,)`` of a single ROI."""
    shape = tuple(int(n) for n in np.shape(series.data))
    times = len(series.timestamps) if series.timestamps is not None else shape[0]
    expected = (times, len(series.rois.data))
    if shape == expected or (len(shape) == 1 and expected == (*shape, 1)):
        return
    swapped = len(shape) == 2 and shape[0] == expected[1]
    raise ValueError(
        f"{where}: {series.name} (here {key}) has data of shape {shape}, expected (time, roi) = "
        f"{expected}"
        + (
            "; it seems to be stored as (roi, time), against NWB's schema: mend the file, or read "
            "the array with pynwb and turn it"
            if swapped
            else "; the file is damaged"
        )
    )


def _values(series: Any, n_rois: int, n_frames: int) -> np.ndarray:
    data = np.asarray(series.data[:]).reshape(n_frames, -1)
    factor = 1.0 if series.conversion is None else float(series.conversion)
    offset = float(series.offset or 0.0)
    if (factor, offset) != (1.0, 0.0):
        data = data * np.float64(factor) + offset
    data = data.astype(np.float32)
    rows = np.asarray(series.rois.data[:], dtype=np.int64)
    values = np.full((n_rois, n_frames), np.nan, np.float32)
    values[rows] = data.T
    return values


def _attrs(series: Any) -> dict[str, Any]:
    attrs = {"units": str(series.unit), "long_name": str(series.description)}
    try:
        told = json.loads(series.comments or "")
    except ValueError:
        told = None
    if isinstance(told, dict) and "xs2p_version" in told:
        return {**told, **attrs}
    return {**attrs, "description": f"{series.name} of {series.parent.name}, as the file has it."}


def _images(file: Any, attrs: dict[str, Any]) -> Any:
    module = file.processing.get("ophys")
    images = None if module is None else module.data_interfaces.get("SegmentationImages")
    ours = {theirs: key for key, theirs in IMAGES.items()}
    for name, image in () if images is None else images.images.items():
        data = np.asarray(image.data[:]).T
        if data.shape == (attrs["Ly"], attrs["Lx"]):
            about = {
                "long_name": str(image.description or name),
                "description": f"Image {name} of SegmentationImages, as the file has it.",
            }
            yield ours.get(name, name), (("y", "x"), data, about)
