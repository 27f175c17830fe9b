"""OASIS beside CuPy's own kernels, among which there is none for it: that of ``oasis_gpu.py``.

Where that does not compile for the device, the CPU's is taken. Imported inside functions only.
"""

from __future__ import annotations

from typing import Any

from xs2p.traces.columns import own_or_host

__all__ = ["calcium", "oasis"]


def oasis(F: Any, tau_fs: Any) -> Any:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, of the host, broadcasts over the other dims."""
    from xs2p.traces import oasis_cpu, oasis_gpu

    return own_or_host(F, oasis_gpu.oasis, oasis_cpu.oasis, tau_fs)


def calcium(F: Any, tau_fs: Any) -> Any:
    """Calcium ``(…, time)``, float32, that :func:`oasis` fits; NaN where a trace is."""
    from xs2p.traces import oasis_cpu, oasis_gpu

    return own_or_host(F, oasis_gpu.calcium, oasis_cpu.calcium, tau_fs)
