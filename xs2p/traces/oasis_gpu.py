"""OASIS on a GPU: the names of ``oasis_cpu.py``, and its results to the last bit.

Imported inside functions only.
"""

from __future__ import annotations

from typing import Any

from xs2p.compute.gpu_traces import of_host_too
from xs2p.traces.columns import solved

__all__ = ["calcium", "oasis"]


@of_host_too
def oasis(F: Any, tau_fs: Any) -> Any:
    """Deconvolve CuPy traces ``(…, time)``.

    ``tau_fs``, float32 and of the host, broadcasts over the leading dims.
    """
    return solved(F, tau_fs)


@of_host_too
def calcium(F: Any, tau_fs: Any) -> Any:
    """Calcium ``(…, time)``, float32, that :func:`oasis` fits; NaN where a trace is."""
    return solved(F, tau_fs, calcium=True)
