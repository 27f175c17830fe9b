"""Which arrays and which device the work is done with: numpy or CuPy, CPU or GPU.

CuPy is imported when a GPU is asked for and not before; nothing here needs it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import threading
from types import ModuleType
from typing import Any

import numpy as np

from xs2p.compute.arrays import is_cupy

DEVICES = ("cpu", "gpu", "auto")
INSTALL = 'pip install "xs2p[gpu13]" (CUDA 13) or "xs2p[gpu12]" (CUDA 12)'

_log = logging.getLogger("xs2p")
_LOOKING = threading.Lock()  # two threads that import CuPy at once see parts of it


def gpu_status() -> tuple[bool, str]:
    """Whether a GPU can be used, and why not, or which one it is; never raises.

    Found out at the first call by a small product on the device, and then remembered.
    """
    with _LOOKING:
        return _look()


@functools.cache
def _look() -> tuple[bool, str]:
    try:
        if importlib.util.find_spec("cupy") is None:
            return False, "CuPy is not installed"
        # Both, since each imports the other: threads that began with one each would see half.
        import cupy
        import cupyx  # noqa: F401
    except Exception as error:  # a broken installation is no GPU, whatever it raises
        return False, f"CuPy cannot be imported ({_brief(error)})"
    try:
        if not cupy.cuda.is_available():
            return False, "CuPy finds no CUDA device or no driver"
        one = cupy.ones((1, 1), np.float32)
        # A product needs cuBLAS, a sum of our own a compiler: both must be there.
        double = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x + x", "xs2p_double")
        if float(double(one @ one)[0, 0]) != 2.0:
            return False, "the CUDA device adds 1 and 1 wrongly"
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        name = properties["name"]
        return True, name.decode() if isinstance(name, bytes) else str(name)
    except Exception as error:
        return False, f"the CUDA device does not work ({_brief(error)})"


def resolve_device(device: str | None, array: Any = None, name: str = "the input") -> str:
    """Choose ``"cpu"`` or ``"gpu"``: as asked, else where ``array`` is.

    Raises
    ------
    ValueError
        If the device is unknown or cannot be used; before any work.
    """
    if device is not None and device not in DEVICES:
        raise ValueError(
            f'device must be "cpu", "gpu", "auto" or None (where the data is), got {device!r}'
        )
    there = is_cupy(array)
    if there and device == "cpu":
        raise ValueError(
            f"device='cpu', but {name} is made of CuPy arrays, on a GPU; leave device out, or "
            "copy them first: array.copy(data=array.data.map_blocks(cupy.asnumpy)) where it is "
            "lazy, array.as_numpy() where not"
        )
    if there:
        return "gpu"
    if device == "gpu":
        require_gpu(everywhere=getattr(array, "dask", None) is not None)
        return "gpu"
    return _automatic() if device == "auto" else "cpu"


def kernels_on(device: str, step: str) -> ModuleType:
    """Return the kernels of a step, the module ``<step>_cpu`` or ``<step>_gpu``.

    The one place where the pair is picked. Both have the same functions, for arrays of the host;
    those of the GPU take CuPy's too, and leave the result where the array was.
    """
    if device == "gpu":
        require_gpu()
    return importlib.import_module(f"{step}_{device}")


def require_gpu(everywhere: bool = False) -> None:
    """Raise unless there is a GPU here or, where work goes to a cluster, on every worker."""
    from xs2p.compute.cluster import has_client

    if everywhere and has_client():
        from distributed import get_client

        found = get_client().run(gpu_status)
        without = {worker: reason for worker, (usable, reason) in found.items() if not usable}
        if not without:
            return
        worker, reason = next(iter(without.items()))
        where = f" on {len(without)} of {len(found)} workers (the first, {worker})"
    else:
        usable, reason = gpu_status()
        if usable:
            return
        where = ""
    raise ValueError(
        f"device='gpu' cannot be used{where}: {reason}. With an NVIDIA GPU and its driver: "
        f'{INSTALL}; device="auto" takes the CPU where there is none'
    )


@functools.cache
def _automatic() -> str:
    usable, reason = gpu_status()
    _log.info("device='auto': %s (%s)", "GPU" if usable else "CPU", reason)
    return "gpu" if usable else "cpu"


def _brief(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]
