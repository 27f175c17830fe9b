"""Traces of ROIs that overlap: footprints as given and a smooth background, fitted to the movie."""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import check_flag
from xs2p._given import rois_given
from xs2p._names import explain_names, without_other
from xs2p._warnings import names, warn
from xs2p.compute.arrays import unread
from xs2p.compute.device import resolve_device
from xs2p.masks.footprints import footprints_of
from xs2p.masks.layout import Layout, layout
from xs2p.movie.check import check_movie
from xs2p.movie.open import open_movie
from xs2p.movie.sources import is_paths
from xs2p.rois.assemble import COLLINEAR, NO_CELL_PIXELS, OUTSIDE_FRAME
from xs2p.rois.pixels import pixel_table
from xs2p.rois.planes import Plane, join_traces, split_planes, warn_of_strange
from xs2p.traces.blocks import in_chunks
from xs2p.traces.equations import Certainty, System, system_of
from xs2p.traces.extraction import (
    in_memory,
    labelled,
    map_blocks,
    map_finished,
    map_tiles,
    whole_frames,
)
from xs2p.traces.neuropil import Neuropil, correct

GRID = (5, 5)
METHODS = ("masks", "demix")
HARD = 5.0  # variance inflation from which on an ROI is flagged
_DESCRIPTIONS = {
    "F": "Light of the ROI's own footprint, as fitted together with all others and a smooth "
    "background, and of the background beneath it: weighted means over its pixels, by xs2p.demix.",
    "Fneu": "The smooth background beneath the ROI, as fitted together with all footprints: its "
    "weighted mean over the ROI's pixels, by xs2p.demix.",
}
_STATUS = {
    "long_name": "why the ROI has no trace, or ok",
    "description": "ok, no_cell_pixels, outside_frame, other_plane (than the movie's) or "
    "collinear: other footprints and the background add up to the ROI's own; an ROI that is not "
    "ok has NaN in place of a trace.",
}
_VIF = {
    "long_name": "variance inflation by what lies beneath and beside",
    "units": "1",
    "description": "By how much the other ROIs and the background inflate the variance of the "
    "demixed trace: diagonal of the inverse Gram matrix of footprints and background as unit "
    "vectors. 1 is an ROI by itself, and inf one that others add up to.",
}
_FLAG = {
    "long_name": "how far to trust the demixed trace",
    "flag_masks": [1, 2],
    "flag_meanings": "vif_above_5 collinear",
    "description": "Sum of the bits that hold: other ROIs and the background inflate the variance "
    "of the trace by more than 5; the ROI cannot be told from others and has no trace. 0: neither.",
}


class Demixing(NamedTuple):
    """How a movie is demixed, checked."""

    grid: tuple[int, int] | None
    nonnegative: bool

    @property
    def attrs(self) -> dict[str, Any]:
        """What the results say of it, but for what they say by saying nothing."""
        grid = [0, 0] if self.grid is None else list(self.grid)
        said: dict[str, Any] = {"method": "demix", "background": grid}
        return said | ({"nonnegative": True} if self.nonnegative else {})


@without_other
def demix(
    movie: xr.DataArray | str | os.PathLike[str],
    rois: xr.Dataset | str | os.PathLike[str],
    *,
    background: tuple[int, int] | None = GRID,
    nonnegative: bool = False,
    device: str | None = None,
    kernels: str | None = None,
    **other: Any,
) -> xr.Dataset:
    """Fit the footprints of all ROIs, and a smooth background, to a movie: traces of what overlaps.

    Every frame is what is nearest to it, by least squares, of the ROIs' footprints as they are
    given and of a background. An ROI keeps the pixels that it shares with others, and one that
    shares all of them gets a trace too, where masks have none for it.

    Parameters
    ----------
    movie
        ``([channel,] [plane,] time, y, x)``, any real dtype, over numpy, CuPy or Dask in any
        chunks. Each ROI is fitted to its own plane, as :func:`xs2p.extract` does. A path is opened.
    rois
        ROI set for frames of the movie's size, or the path of one. All pixels of an ROI count, by
        their ``lam``; ``overlap`` plays no part.
    background
        Rows and columns of bilinear hats over the frame, of which the background is made. They
        must be farther apart than an ROI is wide, or the ROI is part of the background, as ``vif``
        tells. Along a side of more than 64 pixels they go in 32 steps. ``None``: there is none,
        and no ``Fneu``; then the light of the neuropil goes into the ROIs.
    nonnegative
        Fit with no ROI below 0, by coordinate descent: 30 sweeps, or until no change in a frame is
        more than 10⁻⁴ of the largest. What is below 0 by noise is 0, so that baselines lie higher.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``: where the pixels are added up and the equations solved;
        by default where the movie is. Of a movie of the host that is chunked in ``y`` or ``x``,
        sums of the parts are added up, and equations solved, on the host.
    kernels
        Of a GPU: ``"cupyx"``, as by default, or ``"own"``; see :func:`xs2p.extract`. ``"own"``
        solves by the sparse factor, to the CPU's bits whatever the chunks. ``"cupyx"`` multiplies
        by the inverse, up to 1 GiB (11,585 ROIs and hats), to 10⁻⁴ of the CPU's; of more, and with
        ``nonnegative``, it solves by ``"own"``.

    Returns
    -------
    Dataset
        ``F``, ``Fneu`` and ``Fc = F − Fneu``, float32 ``([channel,] roi, time)`` in the movie's
        units, lazy where it is, one task a chunk. By weights ``w``, ``lam`` as parts of 1,
        ``Fneu`` is the sum over the ROI's pixels of ``w`` times the background, and ``Fc`` that of
        ``w`` times the ROI's own light, so that values are as large as those of masks; the
        attribute ``neuropil_coefficient`` is 1.
        With ``status(roi)``: an ROI of ``collinear`` footprint, as two of the same pixels have, is
        NaN. ``vif(roi)`` says by how much the variance of the trace is larger than that of an ROI
        by itself, and ``demix_flag(roi)`` where that is more than 5. A frame with a
        pixel that is NaN is NaN in all ROIs.

    Raises
    ------
    ValueError
        If movie, ROIs or options do not fit; before any work starts.

    Warns
    -----
    UserWarning
        ROIs have no trace, and why.

    See Also
    --------
    xs2p.extract : the same with ``method="demix"``, and all that comes after.

    Examples
    --------
    >>> import xs2p
    >>> ds = demix(xs2p.sample_movie(), xs2p.sample_rois())
    >>> ds.Fc.sizes, float(ds.vif.max().round(1))
    (Frozen({'roi': 98, 'time': 500}), 3.5)
    """
    explain_names("demix", demix, other)
    how = check_demixing(background, nonnegative)
    if is_paths(movie):
        movie = open_movie(movie)
    frame = None
    if isinstance(movie, xr.DataArray) and {"y", "x"} <= set(movie.dims):
        frame = (movie.sizes["y"], movie.sizes["x"])
    given = rois_given(rois, frame)
    shape = pixel_table(given).shape
    parts = split_planes(movie, given, "movie")
    for part in parts:
        check_movie(part.movie, shape, taken=given.variables)
    warn_of_strange(parts, "movie")
    device = resolve_device(device, unread(movie), "the movie", kernels)
    made = [_of_plane(part, how, device) for part in parts]
    traces = join_traces(made, given["roi"].values)
    return traces.assign(Fc=correct(traces, Neuropil(1.0), device))


def _of_plane(part: Plane, how: Demixing, device: str) -> xr.Dataset:
    return Demixer(part.rois, how, part.label).traces(part.movie, device)


def check_demixing(background: Any, nonnegative: Any) -> Demixing:
    """Check the options of :func:`demix`.

    Raises
    ------
    ValueError
        If any of it is out of range.
    """
    check_flag("nonnegative", nonnegative)
    if background is None:
        return Demixing(None, bool(nonnegative))
    many = isinstance(background, tuple | list | np.ndarray) and np.shape(background) == (2,)
    whole = many and all(isinstance(n, int | np.integer) and n > 0 for n in background)
    if not whole or isinstance(background[0], bool | np.bool_):
        raise ValueError(
            "background must be the rows and columns of its grid, two whole numbers from 1 on, as "
            f"in background=(5, 5), or None; got {background!r}"
        )
    return Demixing((int(background[0]), int(background[1])), bool(nonnegative))


class Demixer:
    """The equations of an ROI set, for any movie of its frames."""

    def __init__(self, rois: xr.Dataset, how: Demixing, plane: Any = None) -> None:
        self._how = how
        self._footprints = footprints_of(rois, how.grid, plane)
        self._system, certainty = system_of(self._footprints, how.nonnegative)
        self._labels = _labels(self._footprints.rois, certainty)
        self._pixels = self._footprints.arrays()

    @functools.cached_property
    def _layout(self) -> Layout:
        """Pixels as the kernels read them; a GPU has one copy for as long as this lives."""
        return layout(self._pixels)

    def traces(
        self, movie: xr.DataArray, device: str, frames: tuple[int, ...] | None = None
    ) -> xr.Dataset:
        """``F`` and ``Fneu`` of a movie ``([channel,] time, y, x)`` that is checked.

        Lazy ones are in chunks of so many ``frames``.
        """
        footprints, system = self._footprints, self._system
        kinds = ("F",) if footprints.background is None else ("F", "Fneu")
        pixels, n = self._pixels, footprints.n_rois
        if movie.chunks is None:
            own = self._layout
            work = functools.partial(_demix_into, masks=own, device=device, system=system)
            data = in_memory(movie.data, own, work, (len(kinds), n), device)
            values = dict(zip(kinds, data, strict=True))
        else:
            key = f"footprints-{footprints.token()}-{int(self._how.nonnegative)}"
            if whole_frames(movie):
                blocks = map_blocks(movie.data, _demix_block, pixels, key, device, n, system=system)
            else:
                finish = functools.partial(system.traces, device=device)
                blocks = map_tiles(movie.data, pixels, key, device, finish, n)
            blocks = in_chunks(blocks, frames or movie.chunksizes["time"])
            values = {name: blocks[..., kind, :, :] for kind, name in enumerate(kinds)}
        return labelled(values, movie, self._labels, self._how.attrs, _DESCRIPTIONS, device)


def _demix_block(block: Any, masks: Layout, device: str, system: System) -> Any:
    """Traces of one block of whole frames, float32 ``([channel,] kind, roi, time)``."""
    finish = functools.partial(system.traces, device=device)
    return map_finished(block, masks, device, finish, system.length.size)


def _demix_into(block: Any, out: Any, masks: Layout, device: str, system: System) -> None:
    finish = functools.partial(system.traces, device=device)
    map_finished(block, masks, device, finish, system.length.size, out)


def _labels(labels: xr.Dataset, certainty: Certainty) -> xr.Dataset:
    """Label the traces; warn of ROIs that have none."""
    roi, vif = labels["roi"].values, certainty.vif
    status = labels["status"].values.copy()
    status[certainty.collinear] = COLLINEAR
    flag = (vif > HARD).astype(np.uint8) + 2 * (status == COLLINEAR).astype(np.uint8)
    reasons = (
        (COLLINEAR, ", which others add up to, as where two ROIs have the same pixels"),
        (NO_CELL_PIXELS, ""),
        (OUTSIDE_FRAME, ""),
    )
    parts = []
    for reason, why in reasons:
        which = roi[status == reason]
        if which.size:
            parts.append(f"{which.size} {reason} (roi {names(which)}{why})")
    if parts:
        without = np.isin(status, [reason for reason, _ in reasons]).sum()
        warn(
            f"{without} of {status.size} ROIs cannot be demixed and get NaN instead of a trace: "
            f"{', '.join(parts)}"
        )
    return labels.assign_coords(
        status=("roi", status, _STATUS),
        vif=("roi", vif, _VIF),
        demix_flag=("roi", flag.astype(np.uint8), _FLAG),
    )
