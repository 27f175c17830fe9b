"""Every check of a job, once."""

from __future__ import annotations

import xarray as xr

from xs2p.movie.check import check_movie
from xs2p.rois.planes import Planes


def without_old_results(rois: xr.Dataset) -> xr.Dataset:
    """Leave out what an earlier extraction found: it would label the traces of this one."""
    rois = rois.drop_dims(["time", "channel", "neuropil_mask_element"], errors="ignore")
    return rois.drop_vars(["tau", "snr", "skew", "std", "neuropil_mask_roi"], errors="ignore")


def check_channels(planes: Planes, planes2: Planes | None, shape: tuple[int, int]) -> None:
    """Raise unless a second movie is of the same planes and frames."""
    if planes2 is None:
        return
    if len(planes) != len(planes2):
        raise ValueError(
            f"movie has ROIs in {len(planes)} planes and movie_chan2 in {len(planes2)}; "
            "they must have the same planes"
        )
    for (movie, _), (movie_chan2, _) in zip(planes, planes2, strict=True):
        check_movie(movie_chan2, shape, "movie_chan2")
        if "channel" in movie.dims or "channel" in movie_chan2.dims:
            raise ValueError(
                "give channels in one way: a dim channel on movie, or movie and movie_chan2, both "
                "(time, y, x)"
            )
        if movie.sizes["time"] != movie_chan2.sizes["time"]:
            raise ValueError(
                f"movie has {movie.sizes['time']} frames and movie_chan2 "
                f"{movie_chan2.sizes['time']}; they must be the same frames"
            )
        if "time" in movie.coords and "time" in movie_chan2.coords:
            if not movie.indexes["time"].equals(movie_chan2.indexes["time"]):
                raise ValueError(
                    "movie and movie_chan2 have different time coordinates; where the frames are "
                    "the same, give movie_chan2.assign_coords(time=movie.time)"
                )
