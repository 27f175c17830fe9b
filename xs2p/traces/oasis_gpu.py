"""OASIS on a GPU: the names of ``oasis_cpu.py``, and its results to the last bit.

Imported inside functions only; CuPy inside those that need it. Array expressions take their array
module from what they are given, and so run on numpy too.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from xs2p.compute.arrays import array_module, as_array
from xs2p.compute.gpu import by_traces, launch, on_host
from xs2p.compute.gpu_memory import pieces_of_time
from xs2p.compute.gpu_traces import of_host_too

__all__ = ["calcium", "oasis"]

_THREADS = 2**16  # columns that are deconvolved at once, if there are so many


@of_host_too
def oasis(F: Any, tau_fs: Any) -> Any:
    """Deconvolve CuPy traces ``(…, time)``.

    ``tau_fs``, float32 and of the host, broadcasts over the leading dims.
    """
    import cupy

    n_frames = F.shape[-1]
    if F.size == 0:
        return cupy.empty(F.shape, np.float32)
    traces = cupy.ascontiguousarray(F, dtype=np.float32).reshape(-1, n_frames)
    made = cupy.empty(traces.shape, np.float32)
    tau_fs = np.broadcast_to(np.asarray(tau_fs, np.float32), F.shape[:-1]).ravel()

    def work(start: int, stop: int) -> None:
        made[start:stop] = _oasis_of(traces[start:stop], tau_fs[start:stop])

    by_traces(len(traces), n_frames, 40, work)
    return made.reshape(F.shape)


def calcium(F: Any, tau_fs: Any) -> Any:
    """Calcium of CuPy traces ``(…, time)``: copied to the host, computed there and copied back."""
    from xs2p.traces.oasis_cpu import calcium as there

    return on_host(there, F, tau_fs)


def _oasis_of(traces: Any, tau_fs: np.ndarray) -> Any:
    import cupy

    n_traces, n_frames = traces.shape
    reach = math.ceil(55.5 * float(tau_fs.max()))
    n_pieces, step = pieces_of_time(n_traces, n_frames, reach, _THREADS)
    columns, first, last = to_columns(traces, n_pieces, step, reach)
    taus, which = np.unique(tau_fs, return_inverse=True)
    table = decay_tables(taus, n_frames)
    n_columns, room = columns.shape[1], (columns.shape[0] + 1, columns.shape[1])
    spikes = cupy.zeros(columns.shape, np.float32)
    launch(
        "oasis",
        (-(-n_columns // 64),),
        (64,),
        columns,
        np.int64(n_columns),
        as_array(cupy, np.repeat(first, n_traces)),
        as_array(cupy, np.repeat(last, n_traces)),
        as_array(cupy, table),
        np.int32(table.shape[1]),
        as_array(cupy, np.tile(which.astype(np.int32), n_pieces)),
        as_array(cupy, forgotten_frames(taus)),
        cupy.empty(room, np.float32),
        cupy.empty(room, np.float32),
        cupy.empty(room, np.int32),
        spikes,
    )
    return from_columns(spikes, n_frames, n_pieces, step, reach)


def decay_tables(tau_fs: np.ndarray, n_frames: int) -> np.ndarray:
    """Decays ``exp(−l / (tau·fs))`` of each tau, float64 ``(tau, l)``: the CPU's, to the last bit.

    Those of a short tau end in zeros.
    """
    from xs2p.traces.decays import decay_length, decay_table

    lengths = [decay_length(value, n_frames) for value in tau_fs]
    tables = np.zeros((len(lengths), max(lengths)))
    for table, value, length in zip(tables, tau_fs, lengths, strict=True):
        table[:length] = decay_table(value, length)
    return tables


def forgotten_frames(tau_fs: np.ndarray) -> np.ndarray:
    """After how long a gap each tau knows nothing of what was before it, int32 ``(tau,)``."""
    from xs2p.traces.decays import forgotten

    return np.array([forgotten(value) for value in tau_fs], np.int32)


def to_columns(
    traces: Any, n_pieces: int, step: int, reach: int
) -> tuple[Any, np.ndarray, np.ndarray]:
    """Lay pieces of traces side by side, float32 ``(row, piece · trace)``, time going down.

    A piece has ``step`` rows of its own between ``reach`` rows of its neighbours on each side.
    Also for each piece its first row and the one behind its last: at the ends of a trace there
    are fewer.
    """
    xp = array_module(traces)
    n_traces, n_frames = traces.shape
    if n_pieces == 1:
        one = np.ones(1, np.int32)
        return xp.ascontiguousarray(traces.T), 0 * one, n_frames * one
    start, n_rows = np.arange(n_pieces) * step - reach, step + 2 * reach
    frame = np.clip(start + np.arange(n_rows)[:, None], 0, n_frames - 1)
    columns = traces.T[as_array(xp, frame)].reshape(n_rows, n_pieces * n_traces)
    first, last = np.maximum(-start, 0), np.minimum(n_frames - start, n_rows)
    return xp.ascontiguousarray(columns), first.astype(np.int32), last.astype(np.int32)


def from_columns(columns: Any, n_frames: int, n_pieces: int, step: int, reach: int) -> Any:
    """Undo :func:`to_columns`: each piece's own rows, ``(trace, time)``."""
    xp = array_module(columns)
    if n_pieces == 1:
        return xp.ascontiguousarray(columns.T)
    own = columns.reshape(len(columns), n_pieces, -1)[reach : reach + step]
    traces = own.transpose(2, 1, 0).reshape(own.shape[2], n_pieces * step)
    return traces[:, :n_frames]
