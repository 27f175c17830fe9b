"""What the tests read: the reference's files, real result folders, small movies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr

from xs2p.io import open_movie
from xs2p.testing import raise_if_dask_computes

HERE = Path(__file__).parent
REFERENCE = HERE / "reference"
DATA = HERE / "data"
# The small movie that is written in every format.
LY, LX, T = 7, 9, 23


def names(pattern):
    """Stems of the reference files that match; an empty list would make tests vanish."""
    found = sorted(path.stem for path in REFERENCE.glob(f"{pattern}.npz"))
    assert found, f"no reference file matches {pattern}"
    return found


def stat_of(z, offsets=None):
    """Suite2p's stat from the plain arrays of a reference file."""
    if offsets is None:
        offsets = np.concatenate([[0], np.cumsum(z["npix"])])
    fields = ("ypix", "xpix", "lam", "overlap")
    return [
        {key: z[key][a:b] for key in fields} | {"radius": radius}
        for a, b, radius in zip(offsets[:-1], offsets[1:], z["radius"], strict=True)
    ]


def reference(name):
    """``(npz, stat, (Ly, Lx), options)`` of a reference file with ROIs."""
    z = np.load(REFERENCE / f"{name}.npz")
    options = {key[3:]: z[key].item() for key in z.files if key.startswith("kw_")}
    return z, stat_of(z), (int(z["Ly"]), int(z["Lx"])), options


def as_movie(array, **attrs):
    """Wrap frames as a movie."""
    return xr.DataArray(array, dims=("time", "y", "x"), attrs=attrs)


def square(y, x, size=3, lam=1.0, **fields):
    """One square ROI as a stat dict."""
    ypix, xpix = (i.ravel() for i in np.mgrid[y : y + size, x : x + size])
    return {"ypix": ypix, "xpix": xpix, "lam": np.full(ypix.size, lam, np.float32), **fields}


def opened(path, **kwargs):
    """Open a movie file; the test fails where more than headers is read."""
    with raise_if_dask_computes():
        return open_movie(path, **kwargs)
