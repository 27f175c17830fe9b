"""movie × masks → F, Fneu: the only place that maps over the blocks of a movie."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import ARBITRARY, attributes
from xs2p._warnings import names
from xs2p.compute.arrays import array_module, as_array, meta, unread
from xs2p.compute.device import kernels_on, resolve_device, with_kernels
from xs2p.compute.progress import READS
from xs2p.compute.threads import in_threads
from xs2p.masks.layout import Layout, PackedMasks
from xs2p.masks.masks import Masks
from xs2p.masks.packing import MaskArrays, tiles
from xs2p.movie.check import check_movie
from xs2p.movie.in_file import in_file
from xs2p.movie.open import open_movie
from xs2p.movie.sources import is_paths
from xs2p.rois.pixels import planes_of
from xs2p.rois.planes import plane_of
from xs2p.traces.blocks import in_chunks, storable
from xs2p.traces.kept import Kept, with_kept

if TYPE_CHECKING:
    import dask.array as da

_SUMS = "xs2p.traces.sums"
_LONG_NAMES = {
    "F": "fluorescence of the cell",
    "Fneu": "fluorescence of the surrounding neuropil",
}
_DESCRIPTIONS = {
    "F": "Mean of the ROI's pixels, weighted by its cell mask, in each frame, by "
    "xs2p.extract_traces.",
    "Fneu": "Mean of the pixels of the ROI's neuropil mask in each frame, by xs2p.extract_traces.",
}


def extract_traces(
    movie: xr.DataArray,
    masks: Masks,
    *,
    device: str | None = None,
    kernels: str | None = None,
) -> xr.Dataset:
    """Extract the fluorescence of cells and neuropil from a movie.

    Parameters
    ----------
    movie
        ``(time, y, x)`` or ``(channel, time, y, x)``, any real dtype, over numpy, CuPy or Dask
        in any chunks. It is never rechunked, changed, or turned to float as a whole.
    masks
        Masks for frames of the movie's size, from :func:`xs2p.build_masks`.
    device
        ``"cpu"``, ``"gpu"`` or ``"auto"``, the GPU where there is one; by default where the
        movie is. Traces of a movie on the host are on the host, those of CuPy arrays are CuPy's.
    kernels
        Of a GPU, ``"cupyx"`` or ``"own"``: see :func:`xs2p.extract`.

    Returns
    -------
    Dataset
        ``F`` and, where the masks have neuropil, ``Fneu``: float32 ``([channel,] roi, time)``
        in the movie's units. ``F`` is the sum of the pixels times the cell mask's weights,
        ``Fneu`` the mean over the neuropil mask; sums are made in float64 (of integers
        below 64 bits exactly).
        ROIs without a mask are NaN; the coordinate ``status`` says why. Lazy where the movie
        is: one task a chunk, chunked in time as the movie is.

    Raises
    ------
    ValueError
        If the movie's dims, dtype or frame size are not as above, the masks are of another plane
        than the movie says it is of, or the device cannot be used.

    Examples
    --------
    >>> import xs2p
    >>> masks = xs2p.build_masks(xs2p.sample_rois())
    >>> extract_traces(xs2p.sample_movie(), masks).F.sizes
    Frozen({'roi': 98, 'time': 500})
    """
    if not isinstance(masks, Masks):
        raise ValueError(
            f"masks must be Masks, got {type(masks).__name__}; xs2p.build_masks(rois) makes them"
        )
    if is_paths(movie):
        movie = open_movie(movie)
    movie = _of_their_plane(movie, masks)
    check_movie(movie, masks.shape, taken=masks.rois.coords)
    device = resolve_device(device, unread(movie), "the movie", kernels)
    return extract_in_chunks(movie, masks, device=device)


def _of_their_plane(movie: Any, masks: Masks) -> Any:
    """Leave out the movie's plane where it is that of the masks, which they say ROI by ROI."""
    own = planes_of(masks.rois)
    here = plane_of(movie) if isinstance(movie, xr.DataArray) else None
    if own is None or here is None:
        return movie
    if (own != here).any():
        raise ValueError(
            f"movie is of plane {here}, and the masks are of ROIs in plane "
            f"{names(np.unique(own))}; take the ROIs of its plane, as in xs2p.build_masks("
            f"rois.isel(roi=rois.plane.values == {here})), or xs2p.extract(movie, rois), which "
            "takes each from its own"
        )
    return movie.drop_vars("plane")


def extract_in_chunks(
    movie: xr.DataArray,
    masks: Masks,
    *,
    device: str,
    frames: tuple[int, ...] | None = None,
    kept: Kept | None = None,
) -> xr.Dataset:
    """:func:`extract_traces` of what is checked; lazy traces in chunks of so many ``frames``.

    Of ROIs whose traces are ``kept`` nothing is read.
    """
    if movie.chunks is not None:
        frames = frames or movie.chunksizes["time"]
    if kept is None:
        values = _extracted(movie, masks, device, frames)
    else:
        some = masks.select(kept.changed)
        fresh = _extracted(movie, some, device, frames) if some.n_rois else {}
        values = with_kept(fresh, kept, frames if movie.chunks is not None else None)
    return labelled(values, movie, masks.rois, masks.attrs, _DESCRIPTIONS, device)


def _extracted(
    movie: xr.DataArray, masks: Masks, device: str, frames: tuple[int, ...] | None
) -> dict[str, Any]:
    """``F`` and ``Fneu`` of a movie, ``([channel,] roi, time)``.

    Chunks are joined before they are taken apart, so that a chunk of the movie takes one task and
    no more.
    """
    kinds, packed = _names(masks), masks.arrays()
    if movie.chunks is None:
        work = functools.partial(_extract_into, masks=masks.layout, device=device)
        data = in_memory(movie.data, masks.layout, work, (len(kinds), masks.n_rois), device)
        return dict(zip(kinds, data, strict=True))
    if whole_frames(movie):
        key = f"masks-{masks.token}"
        blocks = map_blocks(movie.data, _extract_block, packed, key, device, masks.n_rois)
    else:
        npix = [np.diff(m.indptr) for m in (masks.cell, masks.neuropil) if m is not None]
        finish = functools.partial(_finish_kinds, npix=npix)
        blocks = map_tiles(movie.data, packed, masks.token, device, finish, masks.n_rois)
    blocks = in_chunks(blocks, frames or movie.chunksizes["time"])
    return {name: blocks[..., kind, :, :] for kind, name in enumerate(kinds)}


def labelled(
    values: dict[str, Any],
    movie: xr.DataArray,
    rois: xr.Dataset,
    attrs: dict[str, Any],
    descriptions: dict[str, str],
    device: str,
) -> xr.Dataset:
    """Put traces ``([channel,] roi, time)`` into a Dataset, with what labels the movie and ROIs."""
    ds = xr.Dataset(coords=_coords(movie, rois))
    for name, data in values.items():
        said = {
            "long_name": _LONG_NAMES[name],
            "description": descriptions[name],
            "units": movie.attrs.get("units", ARBITRARY),
            **{key: movie.attrs[key] for key in ("fs",) if key in movie.attrs},
            **with_kernels(attributes(**attrs), device),
        }
        ds[name] = ((*movie.dims[:-3], "roi", "time"), data, said)
    return storable(ds.assign_attrs(attributes(**attrs)))


def whole_frames(movie: xr.DataArray) -> bool:
    """Whether a lazy movie is chunked in time alone."""
    return len(movie.chunksizes["y"]) == len(movie.chunksizes["x"]) == 1


def map_tiles(
    movie: da.Array,
    masks: MaskArrays,
    token: str,
    device: str,
    finish: Callable[[Any], Any],
    n_rois: int,
) -> da.Array:
    """Traces of a movie chunked in y or x: sums of each tile over its own ROIs, then their sum.

    ``finish`` makes float32 ``([channel,] kind, roi, time)`` of all sums, of one chunk of time.
    """
    import dask
    import dask.array as da

    ychunks, xchunks = movie.chunks[-2:]
    token = dask.base.tokenize(token, ychunks, xchunks, device)
    parts, owners = [], []
    for i, row in enumerate(tiles(masks, ychunks, xchunks)):
        for j, (owner, tile) in enumerate(row):
            if owner.size:  # nobody needs the other tiles: they are not read
                window = movie.blocks[..., i, j]
                key = f"masks-{token}-{i}-{j}"
                parts.append(map_blocks(window, _sum_block, tile, key, device, owner.size))
                owners.append(owner)
    *lead, frames = movie.chunks[:-2]
    as_movie = meta(movie, movie.ndim, np.float32)
    if not parts:
        kinds = 1 if masks.neuropil_indptr is None else 2
        empty = da.full(
            (*movie.shape[:-3], kinds, n_rois, movie.shape[-3]),
            np.float32(np.nan),
            chunks=(*lead, -1, -1, frames),
            meta=as_movie,
        )
        return empty.map_blocks(_as_array_like, like=as_movie, meta=as_movie)
    sums = da.concatenate(parts, axis=-2)
    *others, roi, time = range(sums.ndim)
    joined = _Tiles(owners, masks.cell_indptr.size - 1, finish)
    return da.blockwise(
        _add_tiles,
        (*others, sums.ndim, time),
        sums,
        (*others, roi, time),
        tiles=dask.delayed(joined, name=f"tiles-{token}", traverse=False),
        new_axes={sums.ndim: n_rois},
        concatenate=True,
        dtype=np.float32,
        meta=as_movie,
    )


def _as_array_like(block: np.ndarray, like: Any) -> Any:
    return as_array(array_module(like), block)


class _Tiles(NamedTuple):
    owners: list[np.ndarray]  # the ROIs that each tile has a part of
    n_masks: int
    finish: Callable[[Any], Any]


def _add_tiles(sums: np.ndarray, tiles: _Tiles) -> np.ndarray:
    """Traces of one chunk of time from the sums of its tiles, side by side along ``roi``."""
    *lead, kinds, _, n_frames = sums.shape
    xp = array_module(sums)
    whole = xp.zeros((*lead, kinds, tiles.n_masks, n_frames))
    start = 0
    for owner in tiles.owners:
        whole[..., as_array(xp, owner), :] += sums[..., start : start + owner.size, :]
        start += owner.size
    return tiles.finish(whole)


def map_blocks(
    movie: da.Array,
    block: Callable[..., Any],
    masks: MaskArrays,
    key: str,
    device: str,
    n_rois: int,
    **shared: Any,
) -> da.Array:
    """Map over the movie's chunks to ``([channel,] kind, roi, time)``, kind 0 is F and 1 Fneu.

    One task a chunk: keeping as many dims as the movie has lets Dask fuse reading and extracting.
    The masks, and what else ``block`` is given, are in the graph once.
    """
    import dask
    import dask.array as da

    shared = {n: dask.delayed(v, name=f"{n}-{key}", traverse=False) for n, v in shared.items()}
    packed = dask.delayed(PackedMasks(masks), name=key, traverse=False)
    *lead, time, y, x = range(movie.ndim)
    dtype = np.float64 if block is _sum_block else np.float32
    frames = in_file(movie) if device == "cpu" else None
    return da.blockwise(
        _with_masks,
        (*lead, x, y, time),
        movie if frames is None else frames,
        (*lead, time, y, x),
        block=block,
        masks=packed,
        device=device,
        **shared,
        adjust_chunks={x: (1 if masks.neuropil_indptr is None else 2,), y: (n_rois,)},
        dtype=dtype,
        meta=meta(movie, movie.ndim, dtype),
        name=f"{READS}-{dask.base.tokenize(movie.name, key, block.__name__, device)}",
    )


def _with_masks(frames: Any, block: Any, masks: PackedMasks, device: str, **shared: Any) -> Any:
    return block(frames, masks.layout(), device, **shared)


def _extract_block(block: Any, masks: Layout, device: str, out: Any = None) -> Any:
    """Traces of one block of whole frames, float32 ``([channel,] kind, roi, time)``."""

    def finish(sums: Any) -> Any:
        return _finish_kinds(sums, (masks.cell_npix, masks.neuropil_npix))

    return kernels_on(device, _SUMS).map_sums(block, masks, finish, np.float32, out=out)


def _extract_into(block: Any, out: Any, masks: Layout, device: str) -> None:
    _extract_block(block, masks, device, out)


def _sum_block(block: Any, masks: Layout, device: str) -> Any:
    """Weighted sums and plain sums of one block, float64 ``([channel,] kind, roi, time)``."""
    return kernels_on(device, _SUMS).map_sums(block, masks, lambda sums: sums, np.float64)


def map_finished(
    frames: Any,
    masks: Layout,
    device: str,
    finish: Callable[[Any], Any],
    n_rois: int,
    out: Any = None,
) -> Any:
    """Traces ``([channel,] kind, roi, time)``, float32, or ``out``: what ``finish`` makes of sums.

    Sums ``(kind, mask, time)`` are of some frames at a time, on the device where they are made
    there; there may be more masks than ROIs.
    """
    return kernels_on(device, _SUMS).map_sums(frames, masks, finish, np.float32, n_rois, out)


def in_memory(
    movie: Any, masks: Layout, work: Callable[[Any, Any], None], shape: tuple[int, int], device: str
) -> Any:
    """Traces ``(kind, [channel,] roi, time)``, ``shape`` the first and third, by all the cores.

    ``work`` puts those of some frames, ``([channel,] kind, roi, time)``, where they are to be.
    """
    kinds, n_rois = shape
    whole = (kinds, *movie.shape[:-3], n_rois, movie.shape[-3])
    traces = array_module(movie).empty(whole, np.float32)

    by_kind = array_module(movie).moveaxis(traces, 0, -3)

    def extract(now: slice) -> None:
        work(movie[..., now, :, :], by_kind[..., now])

    in_threads(extract, kernels_on(device, _SUMS).batches(movie, masks))
    return traces


def _finish_kinds(sums: Any, npix: Sequence[np.ndarray | None]) -> Any:
    """Turn sums ``(…, kind, roi, time)`` into float32 traces; ``npix`` by kind."""
    traces = array_module(sums).empty(sums.shape, np.float32)
    for kind, of_mask in enumerate(npix):
        if of_mask is not None:
            traces[..., kind, :, :] = _finish(sums[..., kind, :, :], of_mask, kind == 1)
    return traces


def _finish(sums: Any, npix: np.ndarray, divide: bool) -> Any:
    """Added-up sums ``(…, roi, time)`` to float32 traces; ``npix`` is of the host."""
    xp = array_module(sums)
    with np.errstate(over="ignore"):
        if divide:
            sums = sums / as_array(xp, np.maximum(npix, 1))[:, None]
        traces = sums.astype(np.float32)
    blank = np.flatnonzero(npix == 0)
    if blank.size:
        traces[..., as_array(xp, blank), :] = np.nan
    return traces


def _names(masks: Masks) -> tuple[str, ...]:
    return ("F",) if masks.neuropil is None else ("F", "Fneu")


def _coords(movie: xr.DataArray, labels: xr.Dataset) -> xr.Coordinates:
    """Label the traces: the movie's coordinates but for y and x, and the ROIs'."""
    kept = {name: coord for name, coord in movie.coords.items() if not {"y", "x"} & set(coord.dims)}
    # Statistics of other traces would label these.
    rois = labels.drop_vars(["snr", "skew", "std"], errors="ignore")
    return rois.assign_coords(kept).coords
