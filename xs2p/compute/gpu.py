"""How work is given to a GPU: kernels, memory, and pipelines for what comes from the host.

Streams: work on CuPy arrays goes to the stream that is current, as CuPy's own does. Arrays of the
host are worked on by pipelines, a few on a device, each with a stream for copies and one for work,
and whatever a pipeline allocates on the device is gone when it is given back. CuPy is imported
inside the functions that need it.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from xs2p.compute.arrays import as_array, is_cupy, to_host
from xs2p.compute.gpu_memory import Lent, batch_size, in_batches

_OF_A_COPY_ENGINE = 2  # pipelines: one is on the bus while the other fills or empties its buffer
_SHARE = 0.5  # of the free memory that all pipelines together plan with
_FLOOR = 2**26  # bytes
_SHARED = 48 * 2**10  # bytes of shared memory that a block has on every device, unasked

SOURCES = ("kernels.cu", "oasis.cu")  # compiled as one

# Beside CuPy's own, of which -ftz=true is one: products and sums are rounded one by one.
OPTIONS = ("--std=c++14", "--fmad=false")
OPTIONS_OF_ROCM = ("-std=c++14", "-ffp-contract=off")

_COMPILING = threading.Lock()  # functools.cache lets threads in side by side


class Pipeline(NamedTuple):
    """Streams of the device: for copies from the host, for work, and for copies back."""

    copy: Any
    work: Any
    back: Any


def kernel_source() -> str:
    """Return the CUDA source of all kernels."""
    from importlib.resources import files

    here = files("xs2p.compute")
    return "".join(here.joinpath(name).read_text(encoding="utf-8") for name in SOURCES)


@functools.cache
def _kernel(name: str) -> Any:
    return _module().get_function(name)


def _module() -> Any:
    with _COMPILING:
        return _compiled()


@functools.cache
def _compiled() -> Any:
    import cupy

    options = OPTIONS_OF_ROCM if cupy.cuda.runtime.is_hip else OPTIONS
    return cupy.RawModule(code=kernel_source(), options=options)


def compile_kernels() -> None:
    """Compile the kernels for the current device; raises what CuPy does where that fails."""
    _module().compile()


def launch(
    name: str, grid: tuple[int, ...], block: tuple[int, ...], *args: Any, shared: int = 0
) -> None:
    """Start a kernel on the current stream; numbers must have the kernel's own types.

    ``shared`` bytes of shared memory are for what it sizes at its start.
    """
    if not all(grid):
        return
    kernel = _kernel(name)
    if shared > _SHARED:  # always as much, since threads set it side by side
        kernel.max_dynamic_shared_size_bytes = _most_shared()
    kernel(grid, block, args, shared_mem=shared)


def fits_shared(nbytes: int) -> bool:
    """Whether a block of the current device can have so much shared memory."""
    return nbytes <= _SHARED or nbytes <= _most_shared()


def _most_shared() -> int:
    """Bytes of shared memory that a block can have if it asks for them."""
    import cupy

    known = {} if cupy.cuda.runtime.is_hip else cupy.cuda.Device().attributes
    return int(known.get("MaxSharedMemoryPerBlockOptin", _SHARED))


def _new_pipeline() -> Pipeline:
    import cupy

    return Pipeline(*(cupy.cuda.Stream(non_blocking=True) for _ in range(3)))


@functools.cache
def pipelines_of(device: int) -> int:
    """How many pipelines a device has: more threads than these wait for one.

    By what the device says of itself, two for each of its copy engines; which number is best has
    not been measured.
    """
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(device)
    engines = int(properties.get("asyncEngineCount", 2))  # ROCm may not say it
    return _OF_A_COPY_ENGINE * max(engines, 1)


PIPELINES = Lent(_new_pipeline, pipelines_of)


def release() -> None:
    """Give back the memory that CuPy keeps for later; another allocator has its own way."""
    import cupy

    cupy.get_default_memory_pool().free_all_blocks()
    cupy.get_default_pinned_memory_pool().free_all_blocks()


def available() -> int:
    """Bytes of device memory that one of several pipelines plans with.

    What other programs' pools hold is not known to be free or not: a few megabytes are tried even
    where none seem to be left, and halved where they are not.
    """
    import cupy

    free, _ = cupy.cuda.runtime.memGetInfo()
    kept = cupy.get_default_memory_pool().free_bytes() + _pool_of_rmm()
    return max(int((free + kept) * _SHARE / pipelines_of(cupy.cuda.Device().id)), _FLOOR)


def _pool_of_rmm() -> int:
    """Bytes of the pool that RMM allocates from, where it is CuPy's allocator, as in a cluster."""
    import cupy

    allocator = cupy.cuda.get_allocator()
    if str(getattr(allocator, "__module__", None)).partition(".")[0] != "rmm":
        return 0
    resource = sys.modules["rmm"].mr.get_current_device_resource()
    while resource is not None and not hasattr(resource, "pool_size"):
        resource = getattr(resource, "upstream_mr", None)
    return 0 if resource is None else int(resource.pool_size())


def by_pipeline(n: int, size: int, work: Callable[[Pipeline, int, int], None], unit: str) -> None:
    """Do work in batches with a pipeline whose stream for work is the current one.

    Where not even one thing fits beside what other threads do, it is done while they wait.
    """
    import cupy

    device = cupy.cuda.Device().id
    for lend in (PIPELINES.on, PIPELINES.alone):

        def now(start: int, stop: int, lend: Any = lend) -> None:
            with lend(device) as pipeline, pipeline.work:
                work(pipeline, start, stop)

        try:
            in_batches(n, size, now, release, unit)
            return
        except MemoryError:
            if lend == PIPELINES.alone:
                raise
        release()


def on_its_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Let a function of a CuPy array run on the device that holds it, whichever is current."""

    @functools.wraps(function)
    def there(array: Any, *args: Any, **kwargs: Any) -> Any:
        if not is_cupy(array):
            return function(array, *args, **kwargs)
        with array.device:
            return function(array, *args, **kwargs)

    return there


def on_host(function: Callable[..., Any], array: Any, *args: Any) -> Any:
    """Call a function of the host with CuPy's arrays, too: the result is where the first is."""
    import cupy

    here = [to_host(a) for a in (array, *args)]
    if not is_cupy(array):
        return function(*here)
    with array.device:
        return as_array(cupy, function(*here))


def by_traces(
    n_traces: int,
    n_frames: int,
    bytes_per_sample: int,
    work: Callable[[int, int], None],
    samples: int | None = None,
) -> None:
    """Do work on some traces at a time, as many as memory holds what it needs for each sample.

    That is for no more than so many ``samples``, where they are counted in 32 bits.
    """
    most = n_traces if samples is None else max(samples // max(n_frames, 1), 1)
    size = batch_size(bytes_per_sample * n_frames, available(), most)
    in_batches(n_traces, size, work, release, "trace")
