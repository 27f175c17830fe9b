"""How variables lie in the files of a store: chunks are read alone, shards are written at once."""

from __future__ import annotations

from typing import Any, NamedTuple

import xarray as xr

from xs2p.pipeline.marks import MADE

_CHUNK_SAMPLES, _CHUNK_ROIS = 2**20, 500  # of a variable in a chunk of the store, at most
_SHARD_SAMPLES = 2**22  # of a variable in a file that is made of others, about


class Layout(NamedTuple):
    """Chunks and shards ``(…, roi, time)`` of a variable, ``shards`` None where they are the same.

    A shard is a file, and is written at once.
    """

    chunks: tuple[int, ...]
    shards: tuple[int, ...] | None


def layouts(ds: xr.Dataset, frames: int) -> dict[str, Layout]:
    """Layouts of what is over time, of a store whose regions have so many ``frames``.

    What is extracted comes region by region, so its shards have all ROIs; what is made of that
    comes some ROIs at a time, and its shards have several regions.
    """
    n_rois, n_regions = ds.sizes["roi"], -(-ds.sizes["time"] // frames)
    widest = max(ds["F"].chunksizes["roi"], default=1)
    most = max(min(_CHUNK_SAMPLES // frames, _CHUNK_ROIS, widest), 1)
    per_chunk = max(-(-n_rois // max(-(-n_rois // most), 1)), 1)
    n_chunks = -(-n_rois // per_chunk)
    regions = max(min(_SHARD_SAMPLES // (per_chunk * frames), n_regions), 1)
    found = {}
    for name, array in ds.data_vars.items():
        lead = (1,) * (array.ndim - 2)
        chunks = (*lead, per_chunk, frames)
        if name in MADE:
            shards = (*lead, per_chunk, regions * frames)
        else:
            shards = (*lead, max(n_chunks, 1) * per_chunk, frames)
        several = n_chunks > 1 and shards != chunks
        found[str(name)] = Layout(chunks, shards if several else None)
    return found


def written(array: Any) -> tuple[int, ...]:
    """Sizes of what an array of Zarr's is written in: its shards, else its chunks."""
    return tuple(array.shards or array.chunks)


def grid_of(array: Any) -> tuple[int, ...]:
    """Return how many files an array of Zarr's is in along each dim."""
    return tuple(-(-n // size) for n, size in zip(array.shape, written(array), strict=True))


def written_of(variable: xr.DataArray) -> tuple[int, ...]:
    """:func:`written` of a variable that xarray has opened, in the chunks of its store."""
    return tuple(variable.encoding.get("shards") or variable.encoding["chunks"])


def cut(length: int, size: int) -> tuple[int, ...]:
    """Cut a dim into chunks of one size, the last shorter where it has to be."""
    rest = length % size
    return (*(size,) * (length // size), *((rest,) if rest or not length else ()))
