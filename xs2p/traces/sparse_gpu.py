"""OASIS with a penalty, or a smallest spike: the names of ``sparse_cpu.py``.

No kernel of a GPU's does it: traces are copied to the host, computed there and copied back.
"""

from __future__ import annotations

from typing import Any

from xs2p.compute.gpu import on_host

__all__ = ["penalties", "sparse"]


def sparse(F: Any, tau_fs: Any, penalty: Any, s_min: Any, calcium: bool = False) -> Any:
    """Spikes, or ``calcium``, of CuPy traces ``(…, time)``, computed on the host."""
    from xs2p.traces.sparse_cpu import sparse as there

    return on_host(there, F, tau_fs, penalty, s_min, calcium)


def penalties(F: Any, tau_fs: Any, sigma: Any) -> Any:
    """Penalties of CuPy traces ``(…, time)``, computed on the host."""
    from xs2p.traces.sparse_cpu import penalties as there

    return on_host(there, F, tau_fs, sigma)
