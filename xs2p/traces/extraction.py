"""movie × masks → F, Fneu: the only place that maps over the blocks of a movie."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes
from xs2p.compute.device import array_module, meta, on_gpu, require_gpu, resolve_device, unread
from xs2p.masks.build import Masks
from xs2p.masks.layout import LANES, Layout, PackedMasks
from xs2p.masks.packing import MaskArrays, pack, tiles
from xs2p.traces.blocks import in_chunks

if TYPE_CHECKING:
    import dask.array as da

_DIMS = ("time", "y", "x")
# Bytes of frames that the kernels see at once.
_BATCH_BYTES = 2**25
_GPU_BATCH_BYTES = 2**29
_LONG_NAMES = {
    "F": "fluorescence of the cell",
    "Fneu": "fluorescence of the surrounding neuropil",
}
_DESCRIPTIONS = {
    "F": "Mean of the ROI's pixels, weighted by its cell mask, in each frame, by "
    "xs2p.extract_traces.",
    "Fneu": "Mean of the pixels of the ROI's neuropil mask in each frame, by xs2p.extract_traces.",
}


def extract_traces(movie: xr.DataArray, masks: Masks, *, device: str | None = None) -> xr.Dataset:
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
        If the movie's dims, dtype or frame size are not as above, or the device cannot be used.

    Examples
    --------
    >>> import xs2p
    >>> masks = xs2p.build_masks(xs2p.sample_rois())
    >>> extract_traces(xs2p.sample_movie(), masks).F.sizes
    Frozen({'roi': 98, 'time': 500})
    """
    return extract_in_chunks(movie, masks, device=device)


def extract_in_chunks(
    movie: xr.DataArray,
    masks: Masks,
    *,
    device: str | None,
    frames: tuple[int, ...] | None = None,
) -> xr.Dataset:
    """:func:`extract_traces`; lazy traces are chunked into so many ``frames``, if given.

    Chunks are joined before ``F`` and ``Fneu`` are taken apart, so that a chunk of the movie takes
    one task and no more.
    """
    if not isinstance(masks, Masks):
        raise ValueError(
            f"masks must be Masks, got {type(masks).__name__}; xs2p.build_masks(rois) makes them"
        )
    check_movie(movie, masks.shape, taken=masks.rois.coords)
    device = resolve_device(device, unread(movie), "the movie")
    values: dict[str, Any]
    if movie.chunks is None:
        values = _eager(movie.data, masks, device)
    else:
        blocks = _lazy(movie.data, masks, device)
        blocks = in_chunks(blocks, frames or movie.chunksizes["time"])
        values = {name: blocks[..., kind, :, :] for kind, name in enumerate(_names(masks))}
    coords = _coords(movie, masks)
    ds = xr.Dataset(coords=coords)
    for name, data in values.items():
        attrs = {
            "long_name": _LONG_NAMES[name],
            "description": _DESCRIPTIONS[name],
            "units": movie.attrs.get("units", "a.u."),
            **{key: movie.attrs[key] for key in ("fs",) if key in movie.attrs},
            **attributes(**masks.attrs),
        }
        ds[name] = ((*movie.dims[:-3], "roi", "time"), data, attrs)
    return ds.assign_attrs(attributes(**masks.attrs))


def check_movie(
    movie: Any,
    shape: tuple[int, int] | None = None,
    name: str = "movie",
    taken: Container[Hashable] = (),
) -> None:
    """Raise a ValueError unless ``movie`` is one that :func:`extract_traces` takes.

    ``taken`` are the names that the ROIs use, which no coordinate of the movie may have.
    """
    if not isinstance(movie, xr.DataArray):
        raise ValueError(
            f"{name} must be an xarray DataArray, got {type(movie).__name__}; wrap an array with "
            'xr.DataArray(array, dims=("time", "y", "x")) or open a file with xs2p.open_movie'
        )
    dims = movie.dims
    if dims not in (_DIMS, ("channel", *_DIMS)):
        if sorted(map(str, dims)) in (sorted(_DIMS), sorted(("channel", *_DIMS))):
            order = ("channel", *_DIMS) if "channel" in dims else _DIMS
            mend = f"reorder them with {name}.transpose{order}"
        elif len(dims) == 3:
            renames = {d: want for d, want in zip(dims, _DIMS, strict=True) if d != want}
            mend = f"if these are they, rename them with {name}.rename({renames})"
        else:
            mend = f"select or rename, as in {name}.rename({{{str(dims[0])!r}: 'time', ...}})"
        raise ValueError(
            f"{name} has dims {dims}, expected ('time', 'y', 'x') or "
            f"('channel', 'time', 'y', 'x'); {mend}"
        )
    if movie.dtype.kind not in "iufb" or movie.dtype.itemsize > 8:
        raise ValueError(
            f"{name} must be of real numbers, got dtype {movie.dtype}; "
            f"{name}.astype('int16') or abs({name}) makes them"
        )
    frame = (movie.sizes["y"], movie.sizes["x"])
    if shape is not None and frame != shape:
        raise ValueError(
            f"frames of {name} are (y, x) = {frame}, but the ROIs are for (Ly, Lx) = {shape}; "
            "ROIs and movie must be of the same field of view"
        )
    clash = [
        str(key)
        for key, coord in movie.coords.items()
        if key in taken and not {"y", "x"} & set(coord.dims)
    ]
    if clash:
        raise ValueError(
            f"{name} has the coordinate {clash[0]!r}, a name that the ROIs use; rename it with "
            f"{name}.rename({{{clash[0]!r}: ...}}) or leave it out with "
            f"{name}.drop_vars({clash[0]!r})"
        )


def _lazy(movie: da.Array, masks: Masks, device: str) -> da.Array:
    """Traces ``([channel,] kind, roi, time)`` of a Dask movie, kind 0 is F and 1 Fneu.

    One task a chunk, the masks in the graph once.
    """
    ychunks, xchunks = movie.chunks[-2:]
    if len(ychunks) == len(xchunks) == 1:
        key = f"masks-{masks.token}"
        return _map_blocks(movie, _extract_block, masks.arrays(), key, device)
    return _lazy_tiles(movie, masks, device)


def _lazy_tiles(movie: da.Array, masks: Masks, device: str) -> da.Array:
    """Traces of a movie chunked in y or x: sums of each tile over its own ROIs, then their sum."""
    import dask
    import dask.array as da

    ychunks, xchunks = movie.chunks[-2:]
    token = dask.base.tokenize(masks.token, ychunks, xchunks)
    parts, owners = [], []
    for i, row in enumerate(tiles(masks.arrays(), ychunks, xchunks)):
        for j, (owner, tile) in enumerate(row):
            if owner.size:  # nobody needs the other tiles: they are not read
                window = movie.blocks[..., i, j]
                key = f"masks-{token}-{i}-{j}"
                parts.append(_map_blocks(window, _sum_block, tile, key, device))
                owners.append(owner)
    npix = [np.diff(m.indptr) for m in (masks.cell, masks.neuropil) if m is not None]
    *lead, frames = movie.chunks[:-2]
    as_movie = meta(movie, movie.ndim, np.float32)
    if not parts:
        empty = da.full(
            (*movie.shape[:-3], len(npix), masks.n_rois, movie.shape[-3]),
            np.float32(np.nan),
            chunks=(*lead, -1, -1, frames),
            meta=as_movie,
        )
        return empty.map_blocks(array_module(movie).asarray, meta=as_movie)
    sums = da.concatenate(parts, axis=-2)
    *others, roi, time = range(sums.ndim)
    return da.blockwise(
        _add_tiles,
        (*others, sums.ndim, time),
        sums,
        (*others, roi, time),
        tiles=dask.delayed(_Tiles(owners, npix), name=f"tiles-{token}", traverse=False),
        new_axes={sums.ndim: masks.n_rois},
        concatenate=True,
        dtype=np.float32,
        meta=as_movie,
    )


class _Tiles(NamedTuple):
    owners: list[np.ndarray]  # the ROIs that each tile has a part of
    npix: list[np.ndarray]  # pixels of each mask, by kind


def _add_tiles(sums: np.ndarray, tiles: _Tiles) -> np.ndarray:
    """Traces of one chunk of time from the sums of its tiles, side by side along ``roi``."""
    *lead, kinds, _, n_frames = sums.shape
    xp = array_module(sums)
    whole = xp.zeros((*lead, kinds, tiles.npix[0].size, n_frames))
    start = 0
    for owner in tiles.owners:
        whole[..., xp.asarray(owner), :] += sums[..., start : start + owner.size, :]
        start += owner.size
    return _finish_kinds(whole, tiles.npix)


def _map_blocks(movie: da.Array, block: Any, arrays: MaskArrays, key: str, device: str) -> da.Array:
    """Map over the movie's chunks to ``([channel,] kind, roi, time)``, kind 0 is F and 1 Fneu.

    Keeping as many dims as the movie has lets Dask fuse reading and extracting into one task.
    """
    import dask
    import dask.array as da

    shared = dask.delayed(PackedMasks(pack(arrays)), name=key, traverse=False)
    *lead, time, y, x = range(movie.ndim)
    dtype = np.float32 if block is _extract_block else np.float64
    return da.blockwise(
        _with_masks,
        (*lead, x, y, time),
        movie,
        (*lead, time, y, x),
        block=block,
        masks=shared,
        device=device,
        adjust_chunks={
            x: (1 if arrays.neuropil_indptr is None else 2,),
            y: (arrays.cell_indptr.size - 1,),
        },
        dtype=dtype,
        meta=meta(movie, movie.ndim, dtype),
        name=f"xs2p-extract-{dask.base.tokenize(movie.name, key, block.__name__, device)}",
    )


def _with_masks(frames: Any, block: Any, masks: PackedMasks, device: str) -> Any:
    return block(frames, masks.layout(), device)


def _extract_block(block: Any, masks: Layout, device: str = "cpu") -> Any:
    """Traces of one block of whole frames, float32 ``([channel,] kind, roi, time)``."""

    def finish(sums: Any) -> Any:
        return _finish_kinds(sums, (masks.cell_npix, masks.neuropil_npix))

    return _map_sums(block, masks, device, finish, np.float32)


def _sum_block(block: Any, masks: Layout, device: str = "cpu") -> Any:
    """Weighted sums and plain sums of one block, float64 ``([channel,] kind, roi, time)``."""
    return _map_sums(block, masks, device, lambda sums: sums, np.float64)


def _map_sums(
    block: Any, masks: Layout, device: str, finish: Callable[[Any], Any], dtype: Any
) -> Any:
    """Return what ``finish`` makes of sums ``(…, kind, roi, time)``, where the block is."""
    if on_gpu(block, device):
        from xs2p.traces import sums_gpu as _gpu_sums

        require_gpu()
        return _gpu_sums.map_sums(block, masks, finish, dtype)
    lead, n_frames = block.shape[:-3], block.shape[-3]
    kinds = 1 if masks.neuropil_npix is None else 2
    made = np.empty((*lead, kinds, masks.cell_npix.size, n_frames), dtype)
    # Some frames at a time: sums are float64, and a copy of odd frames stays small.
    for now in _batches(block, masks):
        made[..., now] = finish(_sum_frames(block[..., now, :, :], masks))
    return made


def _eager(movie: Any, masks: Masks, device: str) -> dict[str, Any]:
    """Traces of a movie in memory, by the same kernels on all cores or on the GPU."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    arrays = masks.layout
    names = _names(masks)
    if array_module(movie) is not np:
        block = _extract_block(movie, arrays)
        return {name: block[..., kind, :, :] for kind, name in enumerate(names)}
    shape = (len(names), *movie.shape[:-3], masks.n_rois, movie.shape[-3])
    traces = np.empty(shape, np.float32)

    def extract(now: slice) -> None:
        block = _extract_block(movie[..., now, :, :], arrays, device)
        for kind in range(len(names)):
            traces[kind, ..., now] = block[..., kind, :, :]

    some = _batches(movie, arrays, _BATCH_BYTES if device == "cpu" else _GPU_BATCH_BYTES)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(extract, some))
    return dict(zip(names, traces, strict=True))


def _batches(frames: np.ndarray, masks: Layout, batch_bytes: int = _BATCH_BYTES) -> Iterator[slice]:
    """Cut the time of frames ``(…, time, y, x)`` so that what a batch needs beside them is small.

    That is their sums and, where they do not lie in memory as the kernels want them, a copy.
    """
    n_frames, height, width = frames.shape[-3:]
    itemsize = max(frames.dtype.itemsize, 4 if frames.dtype.kind == "f" else 1)
    frame_bytes = max(height * width * itemsize, 1)
    copied = not (frames.flags.c_contiguous and frames.dtype.isnative)
    copied |= frames.dtype == np.float16  # the kernels know none
    step = batch_bytes // max(frame_bytes, 64 * masks.cell_npix.size)
    step = max(step // LANES * LANES, min(batch_bytes // frame_bytes, LANES) if copied else LANES)
    step = max(step, 1)
    for start in range(0, n_frames, step):
        yield slice(start, start + step)


def _sum_frames(frames: np.ndarray, masks: Layout) -> np.ndarray:
    """Weighted sums and plain sums of some frames, float64 ``([channel,] kind, roi, time)``."""
    from xs2p.compute import kernels as _cpu

    lead, n_frames = frames.shape[:-3], frames.shape[-3]
    kinds = 1 if masks.neuropil_npix is None else 2
    sums = np.empty((*lead, kinds, masks.cell_npix.size, n_frames), np.float64)
    for channel in np.ndindex(*lead):
        _cpu.mask_sums(_cpu.native(frames[channel]), masks, sums[channel])
    return sums


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
            sums = sums / xp.asarray(np.maximum(npix, 1))[:, None]
        traces = sums.astype(np.float32)
    blank = np.flatnonzero(npix == 0)
    if blank.size:
        traces[..., xp.asarray(blank), :] = np.nan
    return traces


def _names(masks: Masks) -> tuple[str, ...]:
    return ("F",) if masks.neuropil is None else ("F", "Fneu")


def _coords(movie: xr.DataArray, masks: Masks) -> xr.Coordinates:
    """Label the traces: the movie's coordinates but for y and x, and the ROIs'."""
    kept = {name: coord for name, coord in movie.coords.items() if not {"y", "x"} & set(coord.dims)}
    # Statistics of other traces would label these.
    rois = masks.rois.drop_vars(["snr", "skew", "std"], errors="ignore")
    return rois.assign_coords(kept).coords
