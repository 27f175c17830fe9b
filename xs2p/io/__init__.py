"""Read and write files: movies, ROI sets, suite2p's folders and NWB."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from xs2p.io._unpickle import UnsafePickleError, load_npy
from xs2p.io.movie import open_movie
from xs2p.io.nwb import open_nwb_movie, read_nwb, rois_from_nwb, write_nwb
from xs2p.io.suite2p import read_stat, read_suite2p, write_suite2p

if TYPE_CHECKING:
    import xarray as xr

__all__ = [
    "UnsafePickleError",
    "load_npy",
    "open_movie",
    "open_nwb_movie",
    "read_nwb",
    "read_rois",
    "read_stat",
    "read_suite2p",
    "rois_from_nwb",
    "write_nwb",
    "write_suite2p",
]

_ACCEPTED = (
    "a path to suite2p's stat.npy, a suite2p plane folder, a list or array of stat dicts, or an "
    "ROI set (a Dataset over roi and pixel). Label images: xs2p.rois.rois_from_labels; footprints: "
    "xs2p.rois.rois_from_footprints; an ROI set in Zarr: xarray.open_zarr(path)"
)


def read_rois(
    source: str | os.PathLike[str] | Iterable[Mapping[str, Any]] | xr.Dataset,
    shape: tuple[int, int] | None = None,
) -> xr.Dataset:
    """Read an ROI set from whatever holds it.

    Parameters
    ----------
    source : path, list or array of dict, or xarray.Dataset
        suite2p's ``stat.npy``, or the plane folder it is in; suite2p's ``stat`` itself; or
        an ROI set, which is given back as it is.
    shape : (int, int), optional
        ``(Ly, Lx)``, the size of the frame in pixels. Needed for a ``stat`` without
        ``ops.npy`` beside it; elsewhere it must agree with what is there.

    Returns
    -------
    xarray.Dataset
        The ROI set over ``roi`` and ``pixel``, with ``attrs`` ``Ly`` and ``Lx``.

    Raises
    ------
    FileNotFoundError
        There is no such file or folder.
    ValueError
        The frame size is not known or disagrees; the file is damaged; or ``source`` is
        none of the above.

    Examples
    --------
    >>> rois = read_rois([{"ypix": [1, 1], "xpix": [2, 3], "lam": [1.0, 2.0]}], shape=(4, 6))
    >>> rois.npix.values.tolist(), rois.attrs["Ly"]
    ([2], 4)
    """
    import numpy as np
    import xarray as xr

    if isinstance(source, xr.Dataset):
        return _as_rois(source, shape)
    if isinstance(source, str | os.PathLike):
        path = os.fspath(source)
        if os.path.isdir(path):
            return read_stat(os.path.join(path, "stat.npy"), shape)
        if not os.path.exists(path):
            raise FileNotFoundError(f"read_rois: no file or folder {path!r}")
        if path.lower().endswith(".npy"):
            return read_stat(path, shape)
        raise ValueError(f"read_rois: {path!r} is not an .npy file; expected {_ACCEPTED}")
    array = isinstance(source, np.ndarray) and source.ndim == 1
    stat: list[Any] | None = list(source) if array or isinstance(source, list | tuple) else None
    if stat is not None and all(isinstance(entry, Mapping) for entry in stat):
        from xs2p.rois import rois_from_stat

        if shape is None:
            raise ValueError(
                "read_rois: stat dicts do not say the size of the frame; give it in pixels: "
                "read_rois(stat, shape=(Ly, Lx))"
            )
        return rois_from_stat(stat, shape)
    raise ValueError(f"read_rois: cannot read {type(source).__name__}; expected {_ACCEPTED}")


def _as_rois(rois: xr.Dataset, shape: tuple[int, int] | None) -> xr.Dataset:
    absent = [name for name in ("roi", "npix", "ypix", "xpix", "lam") if name not in rois]
    absent += [name for name in ("Ly", "Lx") if name not in rois.attrs]
    if absent:
        raise ValueError(
            f"read_rois: the Dataset is no ROI set, it lacks {', '.join(absent)}; "
            f"expected {_ACCEPTED}"
        )
    frame = (int(rois.attrs["Ly"]), int(rois.attrs["Lx"]))
    if shape is not None and tuple(shape) != frame:
        raise ValueError(f"shape={tuple(shape)} disagrees with the ROI set's (Ly, Lx) = {frame}")
    return rois
