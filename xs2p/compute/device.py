"""Which arrays, which device and which kernels the work is done with.

CuPy is imported when a GPU is asked for and not before; nothing here needs it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import logging
import os
import threading
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

import numpy as np

from xs2p.compute.arrays import is_cupy

DEVICES = ("cpu", "gpu", "auto")
KERNELS = ("cupyx", "own")  # the first is the default
VARIABLE = "XS2P_GPU_KERNELS"  # of the environment: another default
INSTALL = 'pip install "xs2p[gpu13]" (CUDA 13) or "xs2p[gpu12]" (CUDA 12)'

# What a resolved device is called below the doors: the ending of a step's module of kernels.
_MODULES = {"own": "gpu", "cupyx": "cupyx"}

_log = logging.getLogger("xs2p")
_LOOKING = threading.Lock()  # two threads that import CuPy at once see parts of it
_found: dict[str, tuple[bool, str]] = {}
_told: set[str] = set()  # what was logged: once is enough


def gpu_status() -> tuple[bool, str]:
    """Whether a GPU can be used, and why not, or which one it is; never raises.

    Found out by small work on the device, such as will be given to it. A GPU that can be used is
    remembered; one that cannot is tried again at the next call, since it may just be full.
    """
    with _LOOKING:
        found = _found.get("gpu") or _look()
        if found[0]:
            _found["gpu"] = found
        return found


def own_kernels() -> tuple[bool, str]:
    """Whether the package's own CUDA kernels compile for the device, and why not; never raises."""
    usable, reason = gpu_status()
    if not usable:
        return False, reason
    with _LOOKING:
        if "own" not in _found:
            _found["own"] = _compile()
        return _found["own"]


@functools.cache
def _import() -> str:
    """Import CuPy; why not, or nothing."""
    try:
        if importlib.util.find_spec("cupy") is None:
            return "CuPy is not installed"
        # Both, since each imports the other: threads that began with one each would see half.
        import cupy  # noqa: F401
        import cupyx  # noqa: F401
    except Exception as error:  # a broken installation is no GPU, whatever it raises
        return f"CuPy cannot be imported ({_brief(error)})"
    return ""


def _look() -> tuple[bool, str]:
    reason = _import()
    if reason:
        return False, reason
    try:
        import cupy
        from cupyx.scipy.sparse import csc_matrix

        if not cupy.cuda.is_available():
            return False, "CuPy finds no CUDA device or no driver"
        # Products need cuBLAS and cuSPARSE, a sum of our own a compiler: all must be there.
        one = cupy.ones((1, 1), np.float32)
        bounds = cupy.arange(2, dtype=np.int32)
        sparse = csc_matrix((cupy.ones(1, np.float32), bounds[:1], bounds), shape=(1, 1))
        double = cupy.ElementwiseKernel("float32 x", "float32 y", "y = x + x", "xs2p_double")
        if float(double((one @ one) @ sparse)[0, 0]) != 2.0:
            return False, "the CUDA device adds 1 and 1 wrongly"
        properties = cupy.cuda.runtime.getDeviceProperties(cupy.cuda.Device().id)
        name = properties["name"]
        return True, name.decode() if isinstance(name, bytes) else str(name)
    except Exception as error:
        return False, f"the CUDA device does not work ({_brief(error)})"


def _compile() -> tuple[bool, str]:
    from xs2p.compute.gpu import compile_kernels

    try:
        compile_kernels()
    except Exception as error:  # the compiler's own, the driver's, or that of a missing header
        return False, _brief(error)
    return True, "they compile"


def resolve_device(
    device: str | None, array: Any = None, name: str = "the input", kernels: str | None = None
) -> str:
    """Choose the device as asked, else where ``array`` is, and on a GPU its kernels.

    What comes out goes down to :func:`kernels_on` in the place of both: ``"cpu"``, ``"gpu"`` (with
    the package's own kernels) or ``"cupyx"``.

    Raises
    ------
    ValueError
        If either is unknown or cannot be used; before any work.
    """
    if kernels is not None and kernels not in KERNELS:
        raise ValueError(
            f'kernels must be "cupyx", "own" or None (${VARIABLE}, else "cupyx"), got {kernels!r}'
        )
    if _device(device, array, name) == "gpu":
        return _MODULES[_resolve_kernels(kernels, array)]
    if kernels is not None and device != "auto":
        raise ValueError(
            f"kernels={kernels!r} plays no part on the CPU; give device='gpu', or leave it out"
        )
    return "cpu"


def _device(device: str | None, array: Any, name: str) -> str:
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
        require_gpu(everywhere=_is_lazy(array))
        return "gpu"
    return _automatic(_is_lazy(array)) if device == "auto" else "cpu"


def _resolve_kernels(kernels: str | None, array: Any) -> str:
    """Choose the kernels of a GPU: as asked, else as the environment says, else CuPy's."""
    if kernels is None:
        kernels = os.environ.get(VARIABLE) or KERNELS[0]
        if kernels not in KERNELS:
            raise ValueError(
                f"the environment has {VARIABLE}={kernels!r}, which must be cupyx or own; unset it"
            )
    if kernels != "own":
        return kernels
    without, n, reason = _without(own_kernels, everywhere=_is_lazy(array))
    if not without:
        return kernels
    tell(f"kernels='own' do not compile{_on_some(without, n)}, CuPy's are taken: {reason}")
    return "cupyx"


def kernels_named(device: str) -> str | None:
    """Return what the kernels of a resolved device are called: None on the CPU."""
    return {module: name for name, module in _MODULES.items()}.get(device)


def with_kernels(attrs: Mapping[str, Any], device: str) -> dict[str, Any]:
    """Attributes that say which kernels made a result; of the CPU none, whatever they said."""
    kept = {name: value for name, value in attrs.items() if name != "kernels"}
    named = kernels_named(device)
    return kept if named is None else {**kept, "kernels": named}


def kernels_on(device: str, step: str) -> ModuleType:
    """Return the kernels of a step on a resolved device: ``<step>_cpu``, ``_gpu`` or ``_cupyx``.

    The one place where they are picked. All have the same functions, for arrays of the host; those
    of the GPU take CuPy's too, and leave the result where the array was. Steps that have no form of
    CuPy's own filters and products work by ``<step>_gpu`` with either.
    """
    if device != "cpu":
        require_gpu()
    if device == "cupyx" and not _exists(f"{step}_cupyx"):
        device = "gpu"
    return importlib.import_module(f"{step}_{device}")


@functools.cache
def _exists(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def require_gpu(everywhere: bool = False) -> None:
    """Raise unless there is a GPU here or, where work goes to a cluster, on every worker."""
    without, n, reason = _without(gpu_status, everywhere)
    if not without:
        return
    raise ValueError(
        f"device='gpu' cannot be used{_on_some(without, n)}: {reason}. With an NVIDIA GPU and its "
        f'driver: {INSTALL}; device="auto" takes the CPU where there is none'
    )


def _without(ask: Callable[[], tuple[bool, str]], everywhere: bool) -> tuple[list[str], int, str]:
    """Where something cannot be used, of how many workers, and why at the first, or what it is.

    Here, which has no name, unless work goes to a cluster: then the workers must have it.
    """
    from xs2p.compute.cluster import has_client

    found = {"": ask()} if not (everywhere and has_client()) else {}
    if not found:
        from distributed import get_client

        found = get_client().run(ask)
    without = [where for where, (usable, _) in found.items() if not usable]
    first = without[0] if without else next(iter(found), None)
    return without, len(found), "" if first is None else found[first][1]


def _on_some(without: list[str], n: int) -> str:
    here = not any(without)
    return "" if here else f" on {len(without)} of {n} workers (the first, {without[0]})"


def _is_lazy(array: Any) -> bool:
    return getattr(array, "dask", None) is not None


def _automatic(everywhere: bool) -> str:
    """Choose a GPU where there is one: on a cluster, where each worker has one."""
    without, n, reason = _without(gpu_status, everywhere)
    if n and not without:
        tell(f"device='auto': GPU ({reason})")
        return "gpu"
    reason = f"{reason}{_on_some(without, n)}" if n else "the cluster has no workers to ask"
    tell(f"device='auto': CPU ({reason})")
    return "cpu"


def tell(what: str) -> None:
    """Log a choice that the package made, the first time that it makes it."""
    if what not in _told:
        _told.add(what)
        _log.info("%s", what)


def _brief(error: BaseException) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"[:300]
