"""A stand-in for CuPy on a machine without a GPU: strict about what CuPy is strict about.

Its arrays are numpy's inside, and refuse to be turned into numpy's unasked or to be mixed with
them, as CuPy's do. Kernels run through the C++ shim. Copies on a stream happen as late as they may:
work that does not wait for them reads old frames. Memory can be limited. It verifies the logic
around CuPy, and says nothing about CuPy itself.
"""

from __future__ import annotations

import functools
import importlib.machinery
import sys
import threading
import types
import warnings
import weakref

import cuda_on_cpu
import numpy as np
import scipy.ndimage
import scipy.sparse

_local = threading.local()
USED = set()  # names of CuPy's own that were used: test_gpu_logic.py looks for them in CuPy


class OutOfMemoryError(MemoryError):
    pass


class PerformanceWarning(RuntimeWarning):
    pass


class _Pool:
    """Counts bytes of arrays; fails above a limit."""

    def __init__(self):
        self.used, self.limit, self.failures, self.freed = 0, 0, 0, 0
        self._lock = threading.Lock()

    def take(self, nbytes, owner):
        with self._lock:
            if self.limit and self.used + nbytes > self.limit:
                self.failures += 1
                raise OutOfMemoryError(f"Out of memory allocating {nbytes:,} bytes")
            self.used += nbytes
        weakref.finalize(owner, self._give, nbytes)

    def _give(self, nbytes):
        self.used -= nbytes

    def set_limit(self, size=None):
        self.limit = size or 0

    def used_bytes(self):
        return self.used

    def free_bytes(self):
        return 0

    def free_all_blocks(self):
        self.freed += 1


class _Pinned(_Pool):
    """Counts pinned memory, the most that there ever was too."""

    most = 0

    def empty(self, shape, dtype):
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        array = np.empty(shape, dtype)
        self.take(nbytes, array)
        self.most = max(self.most, self.used)
        return array


POOL, PINNED = _Pool(), _Pinned()


class _Memory:
    def __init__(self, nbytes):
        POOL.take(nbytes, self)


def _unwrap(value):
    """Take numpy arrays out of ours; what CuPy would not take is refused."""
    if isinstance(value, ndarray):
        return value._host
    if isinstance(value, np.ndarray) and value.ndim:
        raise TypeError(f"Unsupported type {type(value)}")
    if isinstance(value, tuple | list):
        return type(value)(_unwrap(v) for v in value)
    if isinstance(value, dict):
        return {k: _unwrap(v) for k, v in value.items()}
    return value


def _index(key):
    """Arrays of numpy may be indices, and only that."""
    if isinstance(key, tuple):
        return tuple(_index(k) for k in key)
    return key._host if isinstance(key, ndarray) else key


def _wrap(value, source=None):
    if isinstance(value, tuple | list):
        return type(value)(_wrap(v, source) for v in value)
    if not isinstance(value, np.ndarray | np.generic):
        return value
    shared = source is not None and np.may_share_memory(value, source._host)
    return ndarray(np.asarray(value), source._memory if shared else None)


class ndarray(np.lib.mixins.NDArrayOperatorsMixin):  # noqa: N801  (CuPy's name)
    __module__ = "cupy"

    def __init__(self, host, memory=None):
        self._host = host
        self._memory = _Memory(host.nbytes) if memory is None else memory

    shape = property(lambda self: self._host.shape)
    dtype = property(lambda self: self._host.dtype)
    ndim = property(lambda self: self._host.ndim)
    size = property(lambda self: self._host.size)
    nbytes = property(lambda self: self._host.nbytes)
    itemsize = property(lambda self: self._host.itemsize)
    flags = property(lambda self: self._host.flags)
    device = property(lambda self: Device())
    T = property(lambda self: self.transpose())

    def __array__(self, *args, **kwargs):
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    def __array_namespace__(self, *, api_version=None):
        return sys.modules["cupy"]

    def __array_ufunc__(self, ufunc, method, *args, out=(), **kwargs):
        USED.add(ufunc.__name__)
        hosts = _unwrap(args)
        if out:
            kwargs["out"] = tuple(o._host for o in out)
        result = getattr(ufunc, method)(*hosts, **kwargs)
        return out[0] if out else _wrap(result)

    def __array_function__(self, function, kinds, args, kwargs):
        USED.add(".".join([*function.__module__.split(".")[1:], function.__name__]))
        if function in (np.asarray, np.array):  # as Dask calls it: like= one of ours
            return ndarray(function(*args, **{k: v for k, v in kwargs.items() if k != "like"}))
        result = function(*_unwrap(args), **_unwrap(kwargs))
        return _wrap(result, next(a for a in (*args, self) if isinstance(a, ndarray)))

    def __len__(self):
        return len(self._host)

    def __bool__(self):
        return bool(self._host)

    def __float__(self):
        return float(self._host)

    def __int__(self):
        return int(self._host)

    def __getitem__(self, key):
        return _wrap(self._host[_index(key)], self)

    def __setitem__(self, key, value):
        self._host[_index(key)] = _unwrap(value)

    def get(self, stream=None, order="C", out=None, blocking=True):
        if not blocking:
            assert out.flags.c_contiguous and self._host.flags.c_contiguous
            assert out.shape == self.shape and out.dtype == self.dtype
            stream.later(lambda: np.copyto(out, self._host))
            return out
        if stream is not None:
            stream.synchronize()
        if out is None:
            return self._host.copy()
        out[...] = self._host
        return out

    def set(self, host, stream=None):
        assert isinstance(host, np.ndarray) and host.flags.c_contiguous
        assert host.shape == self.shape and host.dtype == self.dtype
        if stream is None:  # of memory that is not pinned a copy is taken at once
            np.copyto(self._host, host)
        else:
            stream.later(lambda: np.copyto(self._host, host))

    def __dask_tokenize__(self):
        from dask.base import tokenize

        return "fake", tokenize(self._host)


def _method(name):
    def method(self, *args, **kwargs):
        USED.add(f"ndarray.{name}")
        return _wrap(getattr(self._host, name)(*_unwrap(args), **_unwrap(kwargs)), self)

    return method


for _name in ("reshape", "transpose", "swapaxes", "ravel", "argmax", "any", "all", "min", "max",
              "sum", "mean", "var", "std", "squeeze", "copy"):  # fmt: skip
    setattr(ndarray, _name, _method(_name))


def _astype(self, dtype, order="K", casting=None, subok=None, copy=True):
    return _wrap(self._host.astype(dtype, order=order, copy=copy), self)


ndarray.astype = _astype


def asarray(array, dtype=None, order=None):
    if isinstance(array, ndarray):
        return _wrap(np.asarray(array._host, dtype), array)
    assert dtype is None or np.asarray(array).dtype == dtype or not isinstance(array, np.ndarray)
    array = np.array(array, dtype)
    # It goes through pinned memory of the next power of two.
    pinned = PINNED.used + (1 << max(array.nbytes - 1, 0).bit_length())
    if PINNED.limit and pinned > PINNED.limit:
        warnings.warn("Using synchronous transfer", PerformanceWarning, stacklevel=2)
    PINNED.most = max(PINNED.most, pinned)
    return ndarray(array)


def ascontiguousarray(array, dtype=None):
    return _wrap(np.ascontiguousarray(array._host, dtype), array)


def making(name):
    def make(*args, **kwargs):
        USED.add(name)
        return ndarray(getattr(np, name)(*args, **kwargs))

    return make


def _working(name):
    def work(*args, **kwargs):
        USED.add(name)
        first = next((a for a in args if isinstance(a, ndarray)), None)
        return _wrap(getattr(np, name)(*_unwrap(args), **_unwrap(kwargs)), first)

    return work


# Streams


class Stream:
    """Copies that were asked for and have not happened."""

    def __init__(self, non_blocking=False):
        self._todo = []
        self._done = 0

    def later(self, copy):
        self._todo.append(copy)

    def run_until(self, n):
        while self._done < n:
            self._todo[self._done]()
            self._todo[self._done] = None
            self._done += 1

    def synchronize(self):
        self.run_until(len(self._todo))

    def wait_event(self, event):
        event.synchronize()

    def record(self, event=None):
        event = event or Event()
        event.record(self)
        return event

    def __enter__(self):
        self._before = getattr(_local, "stream", NULL)
        _local.stream = self
        return self

    def __exit__(self, *_):
        _local.stream = self._before


NULL = Stream()


class Event:
    def __init__(self, block=False, disable_timing=False):
        self._stream, self._position = None, 0

    def record(self, stream=None):
        self._stream, self._position = stream, len(stream._todo)

    @property
    def done(self):
        return self._stream is None or self._stream._done >= self._position

    def synchronize(self):
        if self._stream is not None:
            self._stream.run_until(self._position)


class Device:
    id, shared = 0, 99 * 2**10
    attributes = property(lambda self: {"MaxSharedMemoryPerBlockOptin": self.shared})

    def synchronize(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


class csc_matrix:  # noqa: N801  (cupyx's name)
    __module__ = "cupyx.scipy.sparse"
    __array_ufunc__ = None

    def __init__(self, arrays, shape):
        self._host = scipy.sparse.csc_matrix(tuple(a._host for a in arrays), shape=shape)

    shape = property(lambda self: self._host.shape)

    def __rmatmul__(self, dense):
        return ndarray(dense._host @ self._host)


class RawModule:
    made = 0

    def __init__(self, code, options):
        assert "--fmad=false" in options and "__global__" in code
        RawModule.made += 1

    def compile(self):
        pass

    def get_function(self, name):
        return Kernel(name)


class Kernel:
    def __init__(self, name):
        self._name, self.max_dynamic_shared_size_bytes = name, 48 * 2**10

    def __call__(self, grid, block, args, *, shared_mem=0):
        assert shared_mem <= self.max_dynamic_shared_size_bytes <= Device.shared
        args = tuple(_unwrap(a) for a in args)
        cuda_on_cpu.launch(self._name, grid, block, args, shared=shared_mem)


class ElementwiseKernel:
    def __init__(self, inputs, outputs, operation, name):
        assert operation == "y = x + x"

    def __call__(self, x):
        return x + x


def module():
    """Modules that can stand in ``sys.modules`` for cupy and cupyx."""
    cupy, cupyx = types.ModuleType("cupy"), types.ModuleType("cupyx")
    for made in (cupy, cupyx):
        made.__spec__ = importlib.machinery.ModuleSpec(made.__name__, None)
    cupy.__version__ = "14.0"
    # Whatever else numpy has: constants, types and functions.
    cupy.__getattr__ = lambda name: (
        getattr(np, name)
        if isinstance(getattr(np, name), type | float | int | None)
        else _working(name)
    )
    for name in ("empty", "zeros", "ones", "full", "arange"):
        setattr(cupy, name, making(name))
    for name in ("isnan", "minimum", "maximum", "sort", "where", "concatenate", "take",
                 "array_equal", "transpose", "abs", "sum", "empty_like", "matmul"):  # fmt: skip
        setattr(cupy, name, _working(name))
    cupy.ndarray, cupy.asarray, cupy.ascontiguousarray = ndarray, asarray, ascontiguousarray
    cupy.array = asarray
    cupy.asnumpy = lambda a: a.get() if isinstance(a, ndarray) else np.asarray(a)
    cupy.float32 = np.float32
    cupy.RawModule, cupy.ElementwiseKernel = RawModule, ElementwiseKernel
    cupy.get_default_memory_pool = lambda: POOL
    cupy.get_default_pinned_memory_pool = lambda: PINNED
    runtime = types.SimpleNamespace(
        memGetInfo=lambda: (2**33 - POOL.used, 2**34),
        getDeviceProperties=lambda n: {"name": b"stand-in", "major": 0, "minor": 0},
        getDeviceCount=lambda: 1,
        runtimeGetVersion=lambda: 0,
        driverGetVersion=lambda: 0,
        is_hip=False,
    )
    cupy.cuda = types.SimpleNamespace(
        is_available=lambda: True,
        Device=Device,
        Stream=Stream,
        Event=Event,
        get_allocator=lambda: [].append,  # a builtin: of no module, as CuPy's
        get_current_stream=lambda: getattr(_local, "stream", NULL),
        runtime=runtime,
        memory=types.SimpleNamespace(OutOfMemoryError=OutOfMemoryError),
    )
    cupyx.empty_pinned = PINNED.empty
    cupyx.scipy = types.ModuleType("cupyx.scipy")
    cupyx.scipy.sparse = types.SimpleNamespace(csc_matrix=csc_matrix)
    cupyx.scipy.ndimage = types.SimpleNamespace(
        **{
            name: functools.partial(_filtered, getattr(scipy.ndimage, name))
            for name in ("correlate1d", "minimum_filter1d", "maximum_filter1d")
        }
    )
    return cupy, cupyx


def _filtered(function, *args, **kwargs):
    return _wrap(function(*_unwrap(args), **kwargs))


def install(monkeypatch):
    """Let the package find this in CuPy's place until the test ends."""
    from dask.array import dispatch
    from xarray.namedarray import pycompat

    from xs2p.compute import gpu
    from xs2p.compute.gpu_memory import Lent, Uploads
    from xs2p.traces import equations_cupyx, equations_gpu, sums_cupyx, sums_gpu

    cupy, cupyx = module()
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "cupyx", cupyx)
    monkeypatch.setitem(sys.modules, "cupyx.scipy", cupyx.scipy)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.sparse", cupyx.scipy.sparse)
    monkeypatch.setitem(sys.modules, "cupyx.scipy.ndimage", cupyx.scipy.ndimage)
    # xarray remembers which modules there are.
    monkeypatch.setattr(pycompat, "_cached_duck_array_modules", {})
    dispatch.concatenate_lookup.register(ndarray, cupy.concatenate)
    dispatch.take_lookup.register(ndarray, cupy.take)
    dispatch.empty_lookup.register(ndarray, cupy.empty)
    dispatch.numel_lookup.register(ndarray, lambda a, **kw: _wrap(np.ma.size(a._host)))
    for kernels in (sums_gpu, sums_cupyx, equations_gpu, equations_cupyx):
        monkeypatch.setattr(kernels, "UPLOADS", Uploads())
    monkeypatch.delenv("XS2P_GPU_KERNELS", raising=False)
    monkeypatch.setattr(gpu, "PIPELINES", Lent(gpu._new_pipeline, gpu.pipelines_of))
    POOL.set_limit(0)
    PINNED.set_limit(0)
    PINNED.most = PINNED.used
    forget()
    return cupy


def forget():
    """Forget what was found out about a device."""
    from xs2p.compute import device, gpu

    for cached in (device._import, gpu._compiled, gpu._kernel, gpu.pipelines_of):
        cached.cache_clear()
    device._found.clear()
    device._told.clear()
