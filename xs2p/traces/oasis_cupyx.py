"""OASIS beside CuPy's own kernels, among which there is none for it: that of ``oasis_gpu.py``.

Where that does not compile for the device, the CPU's is taken. Imported inside functions only.
"""

from __future__ import annotations

from typing import Any

from xs2p.compute.arrays import array_module, as_array, to_host
from xs2p.compute.device import own_kernels, tell
from xs2p.compute.gpu import on_its_device

__all__ = ["calcium", "oasis"]


def calcium(F: Any, tau_fs: Any) -> Any:
    """Calcium of traces ``(…, time)``, computed on the host as ``oasis_gpu.py`` does it."""
    from xs2p.traces import oasis_gpu

    return oasis_gpu.calcium(F, tau_fs)


@on_its_device
def oasis(F: Any, tau_fs: Any) -> Any:
    """Deconvolve traces ``(…, time)``; ``tau_fs``, of the host, broadcasts over the other dims."""
    compiled, reason = own_kernels()
    if compiled:
        from xs2p.traces import oasis_gpu

        return oasis_gpu.oasis(F, tau_fs)
    from xs2p.traces import oasis_cpu

    tell(f"OASIS runs on the CPU, since its kernel does not compile for the device: {reason}")
    spikes = oasis_cpu.oasis(to_host(F), tau_fs)
    return as_array(array_module(F), spikes)
