"""movie × masks → F, Fneu: the only place that maps over the blocks of a movie."""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from xs2p._attrs import attributes
from xs2p._backend import array_module, meta, on_gpu, require_gpu, resolve_device, unread
from xs2p._layout import LANES, Layout, PackedMasks
from xs2p._packing import MaskArrays, pack, tiles
from xs2p.masks import Masks

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
        values = _lazy(movie.data, masks, device)
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
        raise ValueError(f"{name} must be of real numbers, got dtype {movie.dtype}")
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


def _lazy(movie: da.Array, masks: Masks, device: str) -> dict[str, da.Array]:
    """Traces of a Dask movie: one task a chunk, the masks in the graph once."""
    ychunks, xchunks = movie.chunks[-2:]
    if len(ychunks) == len(xchunks) == 1:
        key = f"masks-{masks.token}"
        blocks = _map_blocks(movie, _extract_block, masks.arrays(), key, device)
        return {name: _take(blocks, k) for k, name in enumerate(_names(masks))}
    return _lazy_tiles(movie, masks, device)


def _lazy_tiles(movie: da.Array, masks: Masks, device: str) -> dict[str, da.Array]:
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
    names = _names(masks)
    npix = [np.diff(m.indptr) for m in (masks.cell, masks.neuropil) if m is not None]
    if not parts:
        empty = da.full(
            (*movie.shape[:-2], masks.n_rois, len(names)),
            np.float32(np.nan),
            chunks=(*movie.chunks[:-2], -1, -1),
            meta=meta(movie, movie.ndim, np.float32),
        ).map_blocks(array_module(movie).asarray, meta=meta(movie, movie.ndim, np.float32))
        return {name: _take(empty, k) for k, name in enumerate(names)}
    sums = da.concatenate(parts, axis=-2)
    *lead, roi, kind = range(sums.ndim)
    blocks = da.blockwise(
        _add_tiles,
        (*lead, sums.ndim, kind),
        sums,
        (*lead, roi, kind),
        tiles=dask.delayed(_Tiles(owners, npix), name=f"tiles-{token}", traverse=False),
        new_axes={sums.ndim: masks.n_rois},
        concatenate=True,
        dtype=np.float32,
        meta=meta(movie, sums.ndim, np.float32),
    )
    return {name: _take(blocks, k) for k, name in enumerate(names)}


class _Tiles(NamedTuple):
    owners: list[np.ndarray]  # the ROIs that each tile has a part of
    npix: list[np.ndarray]  # pixels of each mask, by kind


def _add_tiles(sums: np.ndarray, tiles: _Tiles) -> np.ndarray:
    """Traces of one chunk of time from the sums of its tiles, side by side along ``roi``."""
    *lead, n_frames, _, kinds = sums.shape
    xp = array_module(sums)
    whole = xp.zeros((*lead, n_frames, tiles.npix[0].size, kinds))
    start = 0
    for owner in tiles.owners:
        whole[..., xp.asarray(owner), :] += sums[..., start : start + owner.size, :]
        start += owner.size
    traces = xp.empty((*lead, kinds, whole.shape[-2], n_frames), np.float32)
    for kind, npix in enumerate(tiles.npix):
        traces[..., kind, :, :] = _finish(whole[..., kind].swapaxes(-1, -2), npix, kind == 1)
    return traces.swapaxes(-1, -3)


def _map_blocks(movie: da.Array, block: Any, arrays: MaskArrays, key: str, device: str) -> da.Array:
    """Map over the movie's chunks; ``([channel,] time, roi, kind)``, kind 0 is F and 1 Fneu.

    Keeping as many dims as the movie has lets Dask fuse reading and extracting into one task.
    """
    import dask
    import dask.array as da

    shared = dask.delayed(PackedMasks(pack(arrays)), name=key, traverse=False)
    n_rois = arrays.cell_indptr.size - 1
    n_kinds = 1 if arrays.neuropil_indptr is None else 2
    dtype = np.float32 if block is _extract_block else np.float64
    return da.map_blocks(
        _with_masks,
        movie,
        block=block,
        masks=shared,
        device=device,
        chunks=(*movie.chunks[:-2], (n_rois,), (n_kinds,)),
        dtype=dtype,
        meta=meta(movie, movie.ndim, dtype),
        name=f"xs2p-extract-{dask.base.tokenize(movie.name, key, block.__name__, device)}",
    )


def _with_masks(frames: Any, block: Any, masks: PackedMasks, device: str) -> Any:
    return block(frames, masks.layout(), device)


def _take(blocks: da.Array, kind: int) -> da.Array:
    """One kind of trace, ``([channel,] roi, time)``: a view of each block, already contiguous."""
    import dask.array as da

    *lead, time, roi, _ = range(blocks.ndim)
    return da.blockwise(
        _take_block,
        (*lead, roi, time),
        blocks,
        (*lead, time, roi, blocks.ndim - 1),
        kind=kind,
        concatenate=True,
        dtype=blocks.dtype,
        meta=meta(blocks, blocks.ndim - 1, blocks.dtype),
    )


def _take_block(block: np.ndarray, kind: int) -> np.ndarray:
    return block[..., kind].swapaxes(-1, -2)


def _extract_block(block: Any, masks: Layout, device: str = "cpu") -> Any:
    """Traces of one block of whole frames, float32 ``([channel,] time, roi, kind)``."""
    return _map_sums(block, masks, device, _finish_kinds, np.float32)


def _sum_block(block: Any, masks: Layout, device: str = "cpu") -> Any:
    """Weighted sums and plain sums of one block, float64 ``([channel,] time, roi, kind)``."""
    return _map_sums(block, masks, device, _as_they_are, np.float64)


def _map_sums(
    block: Any, masks: Layout, device: str, finish: Callable[[Any, Layout], Any], dtype: Any
) -> Any:
    """Return what ``finish`` makes of sums ``(…, kind, roi, time)``, where the block is."""
    if on_gpu(block, device):
        from xs2p import _gpu_sums

        require_gpu()
        made = _gpu_sums.map_sums(block, masks, lambda sums: finish(sums, masks), dtype)
        return made.swapaxes(-1, -3)
    lead, n_frames = block.shape[:-3], block.shape[-3]
    kinds = 1 if masks.neuropil_npix is None else 2
    made = np.empty((*lead, kinds, masks.cell_npix.size, n_frames), dtype)
    # Some frames at a time: sums are float64, and a copy of odd frames stays small.
    for now in _batches(block, masks):
        made[..., now] = finish(_sum_frames(block[..., now, :, :], masks), masks)
    return made.swapaxes(-1, -3)


def _eager(movie: Any, masks: Masks, device: str) -> dict[str, Any]:
    """Traces of a movie in memory, by the same kernels on all cores or on the GPU."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    arrays = masks.layout
    names = _names(masks)
    if array_module(movie) is not np:
        block = _extract_block(movie, arrays)
        return {name: _take_block(block, kind) for kind, name in enumerate(names)}
    shape = (len(names), *movie.shape[:-3], masks.n_rois, movie.shape[-3])
    traces = np.empty(shape, np.float32)

    def extract(now: slice) -> None:
        block = _extract_block(movie[..., now, :, :], arrays, device)
        for kind in range(len(names)):
            traces[kind, ..., now] = _take_block(block, kind)

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
    from xs2p import _cpu

    lead, n_frames = frames.shape[:-3], frames.shape[-3]
    kinds = 1 if masks.neuropil_npix is None else 2
    sums = np.empty((*lead, kinds, masks.cell_npix.size, n_frames), np.float64)
    for channel in np.ndindex(*lead):
        _cpu.mask_sums(_cpu.native(frames[channel]), masks, sums[channel])
    return sums


def _finish_kinds(sums: Any, masks: Layout) -> Any:
    """Turn sums ``(…, kind, roi, time)`` into float32 traces."""
    traces = array_module(sums).empty(sums.shape, np.float32)
    for kind, npix in enumerate((masks.cell_npix, masks.neuropil_npix)):
        if npix is not None:
            traces[..., kind, :, :] = _finish(sums[..., kind, :, :], npix, kind == 1)
    return traces


def _as_they_are(sums: Any, masks: Layout) -> Any:
    return sums


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
    return masks.rois.assign_coords(kept).coords
