"""OASIS beside CuPy's own kernels, among which there is none for it: that of ``oasis_gpu.py``.

Where that does not compile for the device, the CPU's is taken. Imported inside functions only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xs2p.compute.device import own_kernels, tell
from xs2p.compute.gpu import on_host, on_its_device

__all__ = ["calcium", "oasis"]


def oasis(F: Any, tau_fs: Any) -> Any:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, of the host, broadcasts over the other dims."""
    from xs2p.traces import oasis_cpu, oasis_gpu

    return own_or_host(F, oasis_gpu.oasis, oasis_cpu.oasis, tau_fs)


def calcium(F: Any, tau_fs: Any) -> Any:
    """Calcium ``(…, time)``, float32, that :func:`oasis` fits; NaN where a trace is."""
    from xs2p.traces import oasis_cpu, oasis_gpu

    return own_or_host(F, oasis_gpu.calcium, oasis_cpu.calcium, tau_fs)


@on_its_device
def own_or_host(F: Any, own: Callable[..., Any], host: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the package's kernels or, where these do not compile, one of the host."""
    compiled, reason = own_kernels()
    if compiled:
        return own(F, *args)
    tell(f"OASIS runs on the CPU, since its kernel does not compile for the device: {reason}")
    return on_host(host, F, *args)
