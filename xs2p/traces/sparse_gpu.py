"""OASIS with a penalty, or a smallest spike, on a GPU: the names and bits of ``sparse_cpu.py``.

Imported inside functions only; CuPy inside those that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.arrays import as_array, to_host
from xs2p.compute.gpu import by_traces, launch
from xs2p.compute.gpu_traces import of_host_too
from xs2p.traces.columns import decays_there, solved

__all__ = ["penalties", "sparse"]


def sparse(F: Any, tau_fs: Any, penalty: Any, s_min: Any, calcium: bool = False) -> Any:
    """Spikes, or ``calcium``, of traces ``(…, time)`` that is never below 0; float32.

    The others broadcast over the leading dims.
    """
    known = _of_each(F, tau_fs, penalty, s_min)
    return _sparse(_rows(F), *known, calcium=calcium).reshape(F.shape)


def penalties(F: Any, tau_fs: Any, sigma: Any) -> Any:
    """Penalties ``(…)``, float64, by which what is left of traces ``(…, time)`` is the noise."""
    return _penalties(_rows(F), *_of_each(F, tau_fs, sigma)).reshape(F.shape[:-1])


def _rows(F: Any) -> Any:
    return F.reshape(int(np.prod(F.shape[:-1])), F.shape[-1])


def _of_each(F: Any, tau_fs: Any, *others: Any) -> list[np.ndarray]:
    """Return what is known of each row, on the host: some numbers beside so many frames."""
    known = [np.asarray(to_host(tau_fs), np.float32)]
    known += [np.asarray(to_host(a), np.float64) for a in others]
    return [np.broadcast_to(a, F.shape[:-1]).ravel() for a in known]


@of_host_too
def _sparse(
    rows: Any, tau_fs: np.ndarray, penalty: np.ndarray, s_min: np.ndarray, calcium: bool
) -> Any:
    import cupy

    of_each = as_array(cupy, penalty), as_array(cupy, s_min)
    # With a smallest spike a frame can depend on others at any distance.
    return solved(rows, tau_fs, *of_each, calcium=calcium, in_pieces=not s_min.any())


@of_host_too
def _penalties(rows: Any, tau_fs: np.ndarray, sigma: np.ndarray) -> Any:
    import cupy

    made = cupy.zeros(len(rows), np.float64)

    def work(start: int, stop: int) -> None:
        made[start:stop] = _some_penalties(rows[start:stop], tau_fs[start:stop], sigma[start:stop])

    if rows.size:
        by_traces(len(rows), rows.shape[1], 32, work)
    return made


def _some_penalties(rows: Any, tau_fs: np.ndarray, sigma: np.ndarray) -> Any:
    import cupy

    from xs2p.traces.sparse_cpu import CLOSE, MOST_STEPS

    n_traces, n_frames = rows.shape
    *decays, _ = decays_there(tau_fs, n_frames)
    room = (n_frames + 1, n_traces)
    out = cupy.zeros(n_traces, np.float64)
    launch(
        "oasis_penalty",
        (-(-n_traces // 64),),
        (64,),
        cupy.ascontiguousarray(rows.T, dtype=np.float32),
        np.int64(n_traces),
        np.int32(n_frames),
        *decays,
        as_array(cupy, sigma),
        np.int32(MOST_STEPS),
        np.float64(CLOSE),
        np.float64(np.inf),
        cupy.empty(room, np.float64),
        cupy.empty(room, np.float64),
        cupy.empty(room, np.int32),
        out,
    )
    return out
