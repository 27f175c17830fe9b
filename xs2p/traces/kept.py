"""Traces that are known already, beside those of ROIs whose pixels are other ones now."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from xs2p.compute.arrays import array_module, meta
from xs2p.traces.blocks import in_chunks

if TYPE_CHECKING:
    import dask.array as da


class Kept(NamedTuple):
    """Traces that were extracted before, of ROIs whose masks are the same now."""

    traces: dict[str, Any]
    """``F`` and ``Fneu``, ``(roi, time)``, of the ROIs that there were."""
    rows: np.ndarray
    """Which of them each ROI is; -1 where its masks are other ones."""

    @property
    def changed(self) -> np.ndarray:
        """Positions of the ROIs that are to be extracted."""
        return np.flatnonzero(self.rows < 0)


def with_kept(fresh: dict[str, Any], kept: Kept, frames: tuple[int, ...] | None) -> dict[str, Any]:
    """Put traces that are known beside ``fresh`` ones; lazily in chunks of so many ``frames``."""
    if frames is None:
        return {n: _beside(known, fresh.get(n), kept.rows) for n, known in kept.traces.items()}
    return {
        name: _lazily(in_chunks(known, frames), fresh.get(name), kept.rows)
        for name, known in kept.traces.items()
    }


def _lazily(known: da.Array, fresh: da.Array | None, rows: np.ndarray) -> da.Array:
    import dask.array as da

    more: list[Any] = [None, None] if fresh is None else [fresh, (2, 1)]
    return da.blockwise(
        _beside,
        (3, 1),
        known,
        (0, 1),
        *more,
        rows=rows,
        new_axes={3: rows.size},
        concatenate=True,
        align_arrays=False,
        dtype=np.float32,
        meta=meta(known, 2, np.float32),
    )


def _beside(known: Any, fresh: Any, rows: np.ndarray) -> Any:
    """Traces ``(roi, time)``: of each ROI the row of ``known``, or the next one of ``fresh``."""
    if fresh is None:
        return known[rows]
    traces = array_module(known).empty((rows.size, known.shape[1]), np.float32)
    there = rows >= 0
    traces[there], traces[~there] = known[rows[there]], fresh
    return traces
