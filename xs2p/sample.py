"""The recording that ships with the package: mouse two-photon, 500 frames of 64 × 64 pixels."""

from __future__ import annotations

from importlib.resources import as_file, files
from typing import Any

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, time_attrs

_FS = 7.0


def sample_movie(chunks: int | None = 100) -> xr.DataArray:
    """Return the sample movie: two-photon calcium imaging of mouse somatosensory cortex.

    Parameters
    ----------
    chunks
        Frames a Dask chunk; None for a numpy array.

    Returns
    -------
    DataArray
        Int16 ``(time, y, x)``, 500 × 64 × 64, ``fs`` 7 Hz (nominal) in its attributes and
        ``time`` in seconds. From the Thunder project (Apache-2.0).

    Examples
    --------
    >>> sample_movie().shape
    (500, 64, 64)
    """
    (frames,) = _load("movie")
    movie = xr.DataArray(
        frames,
        dims=("time", "y", "x"),
        coords={
            "time": ("time", np.arange(len(frames)) / _FS, time_attrs()),
        },
        name="movie",
        attrs={
            "long_name": "fluorescence movie",
            "description": "Two-photon calcium imaging of mouse somatosensory cortex.",
            "units": ARBITRARY,
            "fs": _FS,
            "source": "thunder-project/thunder, thunder/utils/data/mouse (Apache-2.0)",
        },
    )
    if chunks is None:
        return movie
    if isinstance(chunks, bool) or chunks < 1 or chunks != int(chunks):
        raise ValueError(f"chunks={chunks!r}: expected frames per chunk, a whole number from 1 on")
    return movie.chunk(time=int(chunks))


def sample_rois() -> xr.Dataset:
    """Return the ROIs of the sample movie, as suite2p 1.1.0 detected them.

    Returns
    -------
    Dataset
        ROI set of 98 ROIs on 64 × 64 pixels.

    Examples
    --------
    >>> sample_rois().sizes["roi"]
    98
    """
    from xs2p.rois.build import rois_from_stat

    keys = ("ypix", "xpix", "lam", "overlap", "radius", "med", "roi_offsets")
    ypix, xpix, lam, overlap, radius, med, offsets = _load(*keys)
    stat = [
        {
            "ypix": ypix[a:b].astype(np.int32),
            "xpix": xpix[a:b].astype(np.int32),
            "lam": lam[a:b],
            "overlap": overlap[a:b],
            "radius": radius[i],
            "med": med[i],
        }
        for i, (a, b) in enumerate(zip(offsets[:-1], offsets[1:], strict=True))
    ]
    return rois_from_stat(stat, (64, 64))


def _load(*keys: str) -> list[Any]:
    with as_file(files("xs2p") / "data" / "thunder_mouse_2p.npz") as path:
        with np.load(path) as arrays:
            return [arrays[key] for key in keys]
