"""ROIs in MAT-files of version 5 to 7: suite2p's ``Fall.mat``, images of labels, masks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import xarray as xr

    Shape = tuple[int, int]


def read_mat(path: str, shape: Shape | None, moved: bool, labels: bool) -> xr.Dataset:
    """ROI set of a MAT-file that holds one, and no other image or matrix beside it."""
    from scipy.io import whosmat

    from xs2p.disk.mat import is_hdf5, load_mat

    held = [] if is_hdf5(path) else _whos(path, whosmat)
    if any(name == "stat" and kind in ("cell", "struct") for name, _, kind in held):
        return _of_fall(path, shape, moved)
    found = [
        name
        for name, size, kind in held
        if kind == "sparse" or (kind not in ("cell", "struct", "char") and min(size) > 1)
    ]
    if held and len(found) != 1:
        listed = ", ".join(f"{name} {size} {kind}" for name, size, kind in held)
        raise ValueError(
            f"{path}: expected suite2p's Fall.mat with stat, or one image of labels, stack of "
            f"masks or sparse matrix; it holds {listed}. Load it with scipy.io.loadmat and pass "
            "the array"
        )
    value = load_mat(path, found or None)
    return _of_array(next(iter(value.values()), None), shape, moved, path, labels)


def _whos(path: str, whosmat: Any) -> list[Any]:
    try:
        held: list[Any] = whosmat(path)
    except OSError:
        raise
    except Exception as error:  # scipy raises whatever the bytes lead it to
        raise ValueError(f"{path}: no MAT-file can be read ({error})") from error
    if not held:
        raise ValueError(f"{path}: the MAT-file is empty")
    return held


def _of_fall(path: str, shape: Shape | None, moved: bool) -> xr.Dataset:
    from xs2p.io.suite2p.fall import read_fall
    from xs2p.io.suite2p.stat import read_plane_rois

    def read(file: str, shape: Shape | None) -> xr.Dataset:
        return read_plane_rois(file, shape, moved)

    return read_fall(path, shape, read, "stat.npy")


def _of_array(value: Any, shape: Shape | None, moved: bool, path: str, labels: bool) -> xr.Dataset:
    from xs2p.io.rois.labels import rois_of_labels
    from xs2p.rois.build import rois_from_footprints

    if hasattr(value, "tocsc"):
        if shape is None:
            raise ValueError(
                f"{path}: a sparse matrix of pixels × ROIs does not say the size of the frame; "
                "give it in pixels: shape=(Ly, Lx)"
            )
        return rois_from_footprints(value, shape=shape, order="F")
    own = None if moved else shape
    if isinstance(value, np.ndarray) and value.ndim == 3:
        # MATLAB's stacks go on in their last dim.
        return rois_from_footprints(np.moveaxis(value, -1, 0), shape=own)
    if not isinstance(value, np.ndarray):
        raise ValueError(f"{path}: a {type(value).__name__} holds no ROIs")
    if value.dtype.kind == "f" and np.array_equal(value, np.trunc(value)):
        value = value.astype(np.int64)  # MATLAB's numbers are doubles, if nobody says otherwise
    return rois_of_labels(value, own, path, labels)
