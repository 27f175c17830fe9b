"""Traces out of NWB files."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xs2p._attrs import restated, time_attrs, unit_read
from xs2p._warnings import warn
from xs2p.disk.reads import naming
from xs2p.io.nwb.columns import variables_in
from xs2p.io.nwb.intervals import with_intervals
from xs2p.io.nwb.parts import IMAGES
from xs2p.io.nwb.series import common_times, is_square, is_turned, series_of, values_of
from xs2p.movie.check import rate_of
from xs2p.rois.assemble import status_of_zeros

if TYPE_CHECKING:
    import xarray as xr

_FRAME = ("Ly", "Lx")


def read_nwb(
    path: str | os.PathLike[str],
    *,
    shape: tuple[int, int] | None = None,
    name: str | None = None,
    order: Literal["xy", "yx"] | None = None,
) -> xr.Dataset:
    """Read the traces of an NWB file and their ROIs as one labelled Dataset.

    Parameters
    ----------
    path
        The ``.nwb`` file: of :func:`xs2p.write_nwb`, neuroconv, or another program; in Zarr form
        (``.nwb.zarr``) with hdmf-zarr.
    shape
        Frame size ``(Ly, Lx)`` in pixels, where the file does not say it.
    name
        Which table of ROIs (``PlaneSegmentation``), where there are several. Those of the planes of
        a recording, in one container and named ``…plane0`` and so on or each of an imaging plane
        of its own, are read all where it is not given.
    order
        How the file numbers pixels, ``"xy"`` or ``"yx"``, as for :func:`xs2p.rois_from_nwb`: told
        by the writer where it is not given.

    Returns
    -------
    Dataset
        A float32 variable ``(roi, time)``, in memory, for each ``RoiResponseSeries`` of the table:
        those that :func:`xs2p.write_nwb` writes under xs2p's names (``F``, ``Fneu``, ``Fc``,
        ``F0``, ``spks``, ``denoised``, ``dFF``), series that are named after a plane, as
        suite2p's ``plane0``, under that of their container (``F``, ``Fneu``, ``spks``, with
        ``_chan2``), joined over the ROIs of all planes; others under their own, with the
        container's before it where several have that name. The ROI set as coordinates, as
        :func:`xs2p.rois_from_nwb` gives it; ``time`` in s, and ``attrs["fs"]`` in Hz where frames
        are regular. Values are in ``attrs["units"]``: a series' ``conversion`` and ``offset`` are
        applied. ``segment(time)`` and ``valid``, over ``time`` or ``(roi, time)``, of a file of
        :func:`xs2p.write_nwb` come back; the epochs, invalid times and ``obs_intervals`` of others
        are not taken for these.
        ROIs that a series does not have are NaN; those whose ``F`` is 0 in all frames have the
        ``status`` ``no_cell_pixels`` where they have no pixel of their own, else ``zero_trace``,
        as :func:`xs2p.read_suite2p` has it. Of several planes ROIs have the coordinate ``plane``.
        What was a data variable over ``roi``, such as ``noise`` and ``dff_flag``, is one again,
        with its attributes.
        Images ``(y, x)`` of ``SegmentationImages`` are variables too.

    Raises
    ------
    ImportError
        If pynwb is not installed, or, of a file in Zarr form, hdmf-zarr.
    FileNotFoundError
        If there is no such file.
    ValueError
        As :func:`xs2p.rois_from_nwb`; or if the table has no traces, a series is not over
        ``(time, roi)``, or those of planes differ by more than one frame.

    Warns
    -----
    UserWarning
        Traces that are stored as ``(roi, time)`` are turned where only that fits; series at other
        times than the first, and frames that not all planes have, are left out; timestamps are
        NaN.

    Examples
    --------
    >>> ds = read_nwb("session.nwb")  # doctest: +SKIP
    """
    from xs2p.io.nwb.file import opened, pick
    from xs2p.io.nwb.planes import join_tables, tables_of_planes

    where = os.fspath(path)
    with naming(where), opened(where) as file:
        planes = tables_of_planes(file, where) if name is None else {}
        tables = planes or {0: pick(file, name, where)}
        sets = {n: _read(file, table, shape, order, where) for n, table in tables.items()}
        ds = join_tables(sets, where) if planes else sets[0]
        ds = with_intervals(ds, file, list(tables.values()), where)
        for key, image in _images(file, ds.attrs):
            ds[key] = image
        return ds.assign_attrs(source=where)


def _read(
    file: Any, table: Any, shape: tuple[int, int] | None, order: str | None, where: str
) -> xr.Dataset:
    """Traces and ROIs of one table."""
    from xs2p.io.nwb.rois import rois_of_table

    rois = rois_of_table(table, shape, order, where)
    found = series_of(file, table)
    if not found:
        raise ValueError(
            f"{where}: the table {table.name!r} has no traces (RoiResponseSeries); "
            "rois_from_nwb reads the ROIs alone"
        )
    turned = _turned(found, where)
    time, odd = common_times(found, turned, where)
    kept = {key: items for key, items in found.items() if key not in odd}
    first = next(iter(kept.values()))[0]
    if odd:
        warn(
            f"{where}: {', '.join(odd)} are left out, whose frames are at other times than "
            f"those of {next(iter(kept))}"
        )
    ds = rois.reset_coords()
    ds = ds.set_coords(list(ds.data_vars))
    ds = ds.assign_coords(time=("time", time, time_attrs("file")))
    common: dict[str, Any] = {}
    for key, items in kept.items():
        attrs = _attrs(items[0])
        data = values_of(items, turned, len(table), time.size)
        common |= {k: v for k, v in attrs.items() if k not in _OF_ONE}
        ds[key] = ("roi", "time"), data, {k: v for k, v in attrs.items() if k not in _FRAME}
    if "F" in ds:
        ds = ds.assign_coords(status_of_zeros(ds.coords, ds["F"].values))
    ds = ds.reset_coords([name for name in variables_in(table) if name in ds.coords])
    fs = first.rate if first.rate is not None else rate_of(time)
    times = {} if fs is None else {"fs": float(fs)}
    return restated(ds.assign_attrs({**common, **ds.attrs})).assign_attrs(times)


_OF_ONE = ("units", "long_name", "description")


def _turned(found: dict[str, list[Any]], where: str) -> dict[str, bool]:
    """Which series are ``(roi, time)``, by their id; they are said in one warning."""
    turned = {s.object_id: is_turned(s, key, where) for key, items in found.items() for s in items}
    square = {s.object_id for items in found.values() for s in items if is_square(s)}
    if any(turns for series, turns in turned.items() if series not in square):
        turned |= dict.fromkeys(square, True)  # as many frames as ROIs: as the others are
    names = [key for key, items in found.items() if any(turned[s.object_id] for s in items)]
    if names:
        warn(
            f"{where}: {', '.join(names)} are stored as (roi, time), against NWB's schema, as "
            "suite2p 0.11 wrote them; they are turned, since nothing else fits the ROIs"
        )
    return turned


def _attrs(series: Any) -> dict[str, Any]:
    attrs = {"units": unit_read(str(series.unit)), "long_name": str(series.description)}
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
    ours = {theirs: key for key, theirs in IMAGES.items()} | {"MeanImage": "meanImg"}  # NeuroConv
    for name, image in () if images is None else images.images.items():
        data = np.asarray(image.data[:]).T
        if data.shape == (attrs["Ly"], attrs["Lx"]):
            about = {
                "long_name": str(image.description or name),
                "description": f"Image {name} of SegmentationImages, as the file has it.",
            }
            yield ours.get(name, name), (("y", "x"), data, about)
