"""What every step on traces asks of its input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

_PARALLEL = 2**20  # samples that are worth a second thread


def check_traces(F: Any, step: str) -> None:
    """Raise a ValueError unless ``F`` is an array of real traces with ``time`` in one chunk."""
    if not isinstance(F, xr.DataArray):
        raise ValueError(
            f"{step} takes a DataArray of traces, got {type(F).__name__}; choose a variable, as "
            'in ds.Fc, or wrap an array with xr.DataArray(array, dims=("roi", "time"))'
        )
    if "time" not in F.dims:
        raise ValueError(
            f"{step} works along the dim time, but the traces have dims {F.dims}; rename the "
            "right one with F.rename({...: 'time'})"
        )
    if F.sizes["time"] == 0:
        raise ValueError(f"{step} needs at least one frame; the traces have none")
    if F.dtype.kind not in "iufb":
        raise ValueError(f"{step} takes traces of real numbers, got dtype {F.dtype}")
    if F.chunks is not None:
        n = len(F.chunksizes["time"])
        if n > 1:
            raise ValueError(
                f"{step} needs whole traces, but time is cut into {n} chunks; join them with "
                "F.chunk(time=-1)"
            )


def map_traces(
    block: Callable[..., np.ndarray],
    F: xr.DataArray,
    *per_trace: Any,
    dtype: Any = np.float32,
    reduce: bool = False,
    **options: Any,
) -> xr.DataArray:
    """Map a function of whole traces ``(…, time)`` over a checked array, eager or lazy.

    ``per_trace`` arrays, ``(roi or 1, 1)``, are cut into blocks with the traces; ``reduce`` says
    that the function returns one value for each trace. Coordinates and name are kept.
    """
    order = ("roi", "time") if "roi" in F.dims else ("time",)
    F = F.transpose(..., *order)
    if F.chunks is None:
        data = _eager(block, F.values, per_trace, options, dtype, reduce)
    else:
        import dask.array as da

        ndim = F.ndim - reduce
        data = da.map_blocks(
            block,
            F.data,
            *(da.from_array(a, (F.chunks[-2] if len(a) > 1 else 1, 1)) for a in per_trace),
            drop_axis=F.ndim - 1 if reduce else None,
            dtype=dtype,
            meta=np.empty((0,) * ndim, dtype),
            **options,
        )
    dims = F.dims[:-1] if reduce else F.dims
    coords = {k: v for k, v in F.coords.items() if not (reduce and "time" in v.dims)}
    return xr.DataArray(data, dims=dims, coords=coords, name=F.name)


def _eager(
    block: Callable[..., np.ndarray],
    F: np.ndarray,
    per_trace: Any,
    options: dict[str, Any],
    dtype: Any,
    reduce: bool,
) -> np.ndarray:
    """Apply ``block`` to traces in memory, on all cores where there is work for them."""
    import os
    from concurrent.futures import ThreadPoolExecutor

    cores = os.cpu_count() or 1
    if F.ndim < 2 or cores == 1 or F.size < _PARALLEL:
        return block(F, *per_trace, **options)
    n_blocks = min(max(4 * cores, F.size // _PARALLEL), F.shape[-2])
    edges = np.linspace(0, F.shape[-2], n_blocks + 1).astype(int)
    out = np.empty(F.shape[:-1] if reduce else F.shape, dtype)

    def apply(start: int, stop: int) -> None:
        own = [a[start:stop] if len(a) > 1 else a for a in per_trace]
        result = block(F[..., start:stop, :], *own, **options)
        if reduce:
            out[..., start:stop] = result
        else:
            out[..., start:stop, :] = result

    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(apply, edges[:-1], edges[1:]))
    return out
