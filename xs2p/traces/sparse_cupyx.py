"""OASIS with a penalty, or a smallest spike, beside CuPy's own kernels: as ``oasis_cupyx.py``.

Imported inside functions only.
"""

from __future__ import annotations

from typing import Any

from xs2p.traces.columns import own_or_host

__all__ = ["penalties", "sparse"]


def sparse(F: Any, tau_fs: Any, penalty: Any, s_min: Any, calcium: bool = False) -> Any:
    """Spikes, or ``calcium``, of traces ``(…, time)`` that is never below 0; float32."""
    from xs2p.traces import sparse_cpu, sparse_gpu

    return own_or_host(F, sparse_gpu.sparse, sparse_cpu.sparse, tau_fs, penalty, s_min, calcium)


def penalties(F: Any, tau_fs: Any, sigma: Any) -> Any:
    """Penalties ``(…)``, float64, by which what is left of traces ``(…, time)`` is the noise."""
    from xs2p.traces import sparse_cpu, sparse_gpu

    return own_or_host(F, sparse_gpu.penalties, sparse_cpu.penalties, tau_fs, sigma)
