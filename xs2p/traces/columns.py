"""OASIS on a GPU: traces, or pieces of them, side by side, and what its kernels make of these.

CuPy is imported inside the functions that need it. Array expressions take their array module from
what they are given, and so run on numpy too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from xs2p.compute.arrays import array_module, as_array
from xs2p.compute.device import own_kernels, tell
from xs2p.compute.gpu import by_traces, launch, on_host, on_its_device
from xs2p.compute.gpu_memory import pieces_of_time
from xs2p.traces.decays import decay_length, decay_table, far, forgotten

_THREADS = 2**16  # columns that are deconvolved at once, if there are so many


@on_its_device
def own_or_host(F: Any, own: Callable[..., Any], host: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the package's kernels or, where these do not compile, one of the host."""
    compiled, reason = own_kernels()
    if compiled:
        return own(F, *args)
    tell(f"OASIS runs on the CPU, since its kernel does not compile for the device: {reason}")
    return on_host(host, F, *args)


def solved(
    F: Any, tau_fs: Any, *of_each: Any, calcium: bool = False, in_pieces: bool = True
) -> Any:
    """Spikes or calcium of CuPy traces ``(…, time)``, that may be solved in pieces of time.

    With two more arrays, float64 ``(…)`` on the device, a penalty and a smallest spike.
    """
    import cupy

    n_frames = F.shape[-1]
    if F.size == 0:
        return cupy.empty(F.shape, np.float32)
    traces = cupy.ascontiguousarray(F, dtype=np.float32).reshape(-1, n_frames)
    made = cupy.empty(traces.shape, np.float32)
    tau_fs = np.broadcast_to(np.asarray(tau_fs, np.float32), F.shape[:-1]).ravel()

    def work(start: int, stop: int) -> None:
        own = [a[start:stop] for a in of_each]
        made[start:stop] = _some(
            traces[start:stop], tau_fs[start:stop], own, calcium, _THREADS if in_pieces else 1
        )

    by_traces(len(traces), n_frames, 56 if of_each else 40, work)
    return made.reshape(F.shape)


def _some(traces: Any, tau_fs: np.ndarray, of_each: list[Any], calcium: bool, threads: int) -> Any:
    import cupy

    n_traces, n_frames = traces.shape
    reach = math.ceil(55.5 * float(tau_fs.max()))
    n_pieces, step = pieces_of_time(n_traces, n_frames, reach, threads)
    columns, first, last = to_columns(traces, n_pieces, step, reach)
    n_columns, room = columns.shape[1], (columns.shape[0] + 1, columns.shape[1])
    pools = np.float64 if of_each else np.float32
    out = cupy.zeros(columns.shape, np.float32)
    launch(
        "sparse_oasis" if of_each else "oasis",
        (-(-n_columns // 64),),
        (64,),
        columns,
        np.int64(n_columns),
        as_array(cupy, np.repeat(first, n_traces)),
        as_array(cupy, np.repeat(last, n_traces)),
        *decays_there(tau_fs, n_frames, n_pieces),
        *(cupy.tile(a, n_pieces) for a in of_each),
        cupy.empty(room, pools),
        cupy.empty(room, pools),
        cupy.empty(room, np.int32),
        np.int32(calcium),
        out,
    )
    return from_columns(out, n_frames, n_pieces, step, reach)


def decays_there(tau_fs: np.ndarray, n_frames: int, n_pieces: int = 1) -> list[Any]:
    """:func:`decays_of`, on the device."""
    import cupy

    known = decays_of(tau_fs, n_frames, n_pieces)
    return [as_array(cupy, a) if a.ndim else a for a in known]


def decays_of(tau_fs: np.ndarray, n_frames: int, n_pieces: int = 1) -> tuple[Any, ...]:
    """Return what kernels know of decays, on the host.

    That is a table for each tau, its length, which is a column's, after how long a gap each tau
    knows nothing of what was before it, and after how many frames nothing is left of calcium.
    """
    taus, which = np.unique(tau_fs, return_inverse=True)
    table = decay_tables(taus, n_frames)
    return (
        table,
        np.int32(table.shape[1]),
        np.tile(which.astype(np.int32), n_pieces),
        np.array([forgotten(value) for value in taus], np.int32),
        np.array([far(value) for value in taus], np.int32),
    )


def decay_tables(tau_fs: np.ndarray, n_frames: int) -> np.ndarray:
    """Decays ``exp(−l / (tau·fs))`` of each tau, float64 ``(tau, l)``: the CPU's, to the last bit.

    Those of a short tau end in zeros.
    """
    lengths = [decay_length(value, n_frames) for value in tau_fs]
    tables = np.zeros((len(lengths), max(lengths)))
    for table, value, length in zip(tables, tau_fs, lengths, strict=True):
        table[:length] = decay_table(value, length)
    return tables


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
