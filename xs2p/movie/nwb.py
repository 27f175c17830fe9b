"""The movie of an NWB file, read lazily by h5py alone."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xs2p._attrs import ARBITRARY, time_attrs, unit_read
from xs2p.movie.check import DIMS, rate_of

if TYPE_CHECKING:
    import xarray as xr

# NWB's kinds of series that are movies by themselves.
MOVIES = ("TwoPhotonSeries", "OnePhotonSeries")
_READ = ("data", "timestamps", "starting_time", "external_file")  # of a series, where it has them


def open_nwb_movie(
    path: str | os.PathLike[str],
    chunks: int | None = None,
    variable: str | None = None,
    order: Literal["xy", "yx"] | None = None,
) -> xr.DataArray:
    """Open the movie of an NWB file lazily, in its own dtype.

    Only headers and timestamps are read here. NWB keeps frames as ``(time, x, y)``; each chunk is
    turned to ``(time, y, x)`` when it is read.

    Parameters
    ----------
    path
        The ``.nwb`` file (HDF5).
    chunks
        Frames per chunk; by default a multiple of the file's own chunks, of 64 to 128 MB, whose
        frames are cut in y and x where whole ones are too large.
    variable
        Which ``TwoPhotonSeries`` or ``OnePhotonSeries``, by its name, where there are several.
        An ``ImageSeries``, such as a motion-corrected movie, is opened by name only.
    order
        ``"yx"`` for files whose writer had the rows of frames first, against the schema; by default
        ``"xy"``, as the schema has them. ``attrs["nwb_order"]`` says which was taken.

    Returns
    -------
    DataArray
        ``movie`` ``(time, y, x)``, over Dask. From ``rate`` and ``starting_time`` come the
        coordinate ``time`` in s, from the start of the session, and ``attrs["fs"]`` in Hz; from
        ``timestamps`` the coordinate, and ``fs`` only where they are regular to a thousandth of
        a frame. Values are as stored: where ``conversion`` and ``offset`` turn them into ``unit``,
        the three are in ``attrs`` and are not applied.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is no HDF5 file, holds no movie or several, or one of volumes, or its frames
        are in other files.

    Examples
    --------
    >>> movie = open_nwb_movie("session.nwb", variable="TwoPhotonSeries")  # doctest: +SKIP
    """
    import h5py
    import xarray as xr

    from xs2p.disk.hdf5_damage import BEGINNING, check_heaps, check_types, objects_in
    from xs2p.movie.check import check_dtype
    from xs2p.movie.hdf5 import h5_frames, h5_to_dask
    from xs2p.movie.hdf5_sources import check_dataset

    axes = nwb_axes(order)
    name = os.fspath(path)
    if not os.path.isfile(name):
        raise FileNotFoundError(f"open_nwb_movie: no file {name!r}")
    check_heaps(name, BEGINNING)
    try:
        file = h5py.File(name, "r")
    except OSError as error:
        raise ValueError(f"{name}: cannot be read as HDF5 ({error})") from error
    with file:
        check_types(objects_in(file), name)
        series = pick_series(_series(file), name, variable)
        where = f"{name}{series.name}"
        for item in (series.get(key) for key in _READ):
            if isinstance(item, h5py.Dataset):
                check_dataset(item, name)
        data = series_data(series, where)
        check_dtype(data.dtype, where)
        frames = h5_frames(data, axes)
        attrs, coords = series_labels(series, data, where)
    movie = xr.DataArray(
        h5_to_dask(frames, chunks),
        dims=DIMS,
        name="movie",
        attrs={**attrs, "source": name},
    )
    return movie.assign_attrs(order_attrs(order)).assign_coords(coords)


def nwb_axes(order: str | None) -> tuple[str, str, str]:
    """Dims of frames as the file has them."""
    from xs2p.movie.hdf5 import NWB_DIMS

    if order not in (None, "xy", "yx"):
        raise ValueError(
            f"order={order!r}: expected 'xy', as the NWB schema has frames, or 'yx' for files "
            "whose writer had the rows first"
        )
    return DIMS if order == "yx" else NWB_DIMS


def order_attrs(order: str | None) -> dict[str, str]:
    """Say which order was taken, and why."""
    source = "the NWB schema" if order is None else f"given: order={order!r}"
    return {"nwb_order": order or "xy", "nwb_order_source": source}


def series_labels(
    series: Any, data: Any, where: str
) -> tuple[dict[str, Any], dict[str, tuple[Any, ...]]]:
    """Attributes of the movie of a series, and its coordinate ``time`` where it is known."""
    attrs = _units(data)
    time, fs = _time(series, data.shape[0], where)
    attrs |= {} if fs is None else {"fs": fs}
    told = _text(series.attrs.get("description", "no description"))
    nothing = f"Frames of {series.name}, as the file holds them."
    attrs |= {
        "long_name": "fluorescence movie",
        "description": nothing if told in ("", "no description") else told,
    }
    return attrs, {} if time is None else {"time": ("time", time, time_attrs("file"))}


def is_series(group: Any) -> bool:
    """Whether a group is a series of images that can be a movie."""
    return _text(group.attrs.get("neurodata_type", "")) in (*MOVIES, "ImageSeries")


def _series(file: Any) -> dict[str, Any]:
    import h5py

    found: dict[str, Any] = {}

    def visit(key: str, item: Any) -> None:
        if isinstance(item, h5py.Group) and is_series(item):
            found[key] = item

    file.visititems(visit)
    return found


def pick_series(found: dict[str, Any], name: str, variable: str | None) -> Any:
    """Choose the movie among the series of a file, the only one or that of the name."""
    photon = {k: v for k, v in found.items() if _text(v.attrs["neurodata_type"]) in MOVIES}
    listing = "; ".join(_described(key, item) for key, item in found.items()) or "no image series"
    if variable is None:
        if len(photon) == 1:
            return next(iter(photon.values()))
        if not photon:
            raise ValueError(
                f"{name}: holds no {' or '.join(MOVIES)}, so no movie"
                + (f"; an ImageSeries is opened by name. It holds: {listing}" if found else "")
            )
        first = next(iter(photon)).rsplit("/", 1)[-1]
        raise ValueError(
            f"{name}: holds {len(photon)} movies; pick one, as in variable={first!r}. It holds: "
            f"{listing}"
        )
    asked = variable.strip("/")
    named = [item for key, item in found.items() if key == asked]
    named = named or [item for key, item in found.items() if key.rsplit("/", 1)[-1] == asked]
    if len(named) == 1:
        return named[0]
    problem = "is no image series" if not named else "names several image series"
    raise ValueError(f"variable={variable!r} {problem} of {name}, which holds: {listing}")


def _described(key: str, series: Any) -> str:
    data = series.get("data")
    shape = getattr(data, "shape", None)
    return f"{key} ({_text(series.attrs['neurodata_type'])}, {shape or 'no frames'})"


def series_data(series: Any, where: str) -> Any:
    """Return the frames of a series, or raise a ValueError that says where they are."""
    data = series.get("data")
    if "external_file" in series and (data is None or 0 in data.shape):
        files = [_text(entry) for entry in series["external_file"][:]]
        shown = ", ".join(files[:3]) + (f", … ({len(files)} in all)" if len(files) > 3 else "")
        raise ValueError(
            f"{where}: the frames are not in the NWB file but in {shown}, named from its folder; "
            "open those, as in "
            f"xs2p.open_movie({os.path.join(os.path.dirname(series.file.filename), files[0])!r})"
        )
    if data is None or 0 in data.shape:
        raise ValueError(f"{where}: holds no frames, its shape is {getattr(data, 'shape', None)}")
    if data.ndim == 4:
        raise ValueError(
            f"{where}: holds volumes, (time, x, y, z) = {data.shape}, and a movie here is of one "
            "plane; read the plane you want, as in xarray.DataArray(dask.array.from_array(data"
            "[..., z]).swapaxes(1, 2), dims=('time', 'y', 'x')), and put several together with "
            "xarray.concat(planes, 'plane')"
        )
    if data.ndim != 3:
        raise ValueError(f"{where}: {data.ndim} dims, shape {data.shape}, expected (time, x, y)")
    return data


def _units(data: Any) -> dict[str, Any]:
    conversion, offset = (
        float(data.attrs.get(k, d)) for k, d in (("conversion", 1), ("offset", 0))
    )
    unit = unit_read(_text(data.attrs.get("unit", "")))
    if (conversion, offset) == (1.0, 0.0):
        return {"units": unit}
    return {"units": ARBITRARY, "conversion": conversion, "offset": offset, "unit": unit}


def _time(series: Any, n_frames: int, where: str) -> tuple[np.ndarray | None, float | None]:
    """Find the times of the frames in s and, where they are regular, the frame rate in Hz."""
    if "timestamps" in series:
        stored = series["timestamps"]
        if stored.shape != (n_frames,):
            raise ValueError(
                f"{where}: {n_frames} frames, but {math.prod(stored.shape)} timestamps; the file "
                "is damaged"
            )
        time = np.asarray(stored[:], dtype=np.float64)
        return time, rate_of(time)
    start = series.get("starting_time")
    rate = None if start is None else float(start.attrs.get("rate", np.nan))
    if start is None or rate is None or not (np.isfinite(rate) and rate > 0):
        return None, None
    return float(np.ravel(start[...])[0]) + np.arange(n_frames) / rate, rate


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
