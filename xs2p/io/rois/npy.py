"""ROIs in ``.npy`` files: suite2p's stat, Cellpose's masks, label images."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


def read_npy(
    path: str, shape: tuple[int, int] | None, moved: bool, labels: bool, accepted: str
) -> xr.Dataset:
    """Read what an ``.npy`` file holds: a stat, Cellpose's dict, or a label image."""
    from xs2p.disk.npy import load_npy, read_header
    from xs2p.io.rois.labels import check_image, rois_of_cellpose, rois_of_labels
    from xs2p.io.suite2p.stat import read_plane_rois

    with open(path, "rb") as file:
        stored, _, dtype = read_header(file, path)
    if not dtype.hasobject:
        try:
            check_image(stored)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    array = load_npy(path)
    own = None if moved else shape
    if array.dtype != object:
        return rois_of_labels(array, own, path, labels)
    if array.ndim == 0 and isinstance(array.item(), dict):
        seg = array.item()
        if "masks" not in seg:
            raise ValueError(
                f"{path}: it holds a dict without 'masks', so it is not Cellpose's _seg.npy (is it "
                f"an ops.npy?); expected one of{accepted}"
            )
        return rois_of_cellpose(seg, own, path)
    return read_plane_rois(path, shape, moved)
