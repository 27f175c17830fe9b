"""Run the CUDA kernels on the CPU: their very source, compiled as C++ beside a small shim.

This checks what they compute, their indices and barriers, and the types of what they are called
with; not how fast they are, nor what only a device does.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from xs2p.compute import gpu

SHIM = Path(__file__).parent / "cuda_shim.h"
# All kernels of the source, and of these the ones whose threads wait for each other.
KERNELS = tuple(
    made or plain
    for made, plain in re.findall(
        r'^(?:LOAD|GATHER)\((\w+)|^extern "C" __global__ void (\w+)\(', gpu.kernel_source(), re.M
    )
)
BARRIERS = ("load", "running", "smooth_tile")


def why_not():
    """Why there is nothing to compile the kernels with; None where there is."""
    if sys.platform != "linux":
        return "the shim for CUDA kernels needs Linux"
    return None if _compiler() else "no C++ compiler (g++ or clang++) was found"


def _compiler():
    return shutil.which("g++") or shutil.which("clang++")


@functools.cache
def library():
    """Compile all kernels."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernels.cpp"
        exports = "\n".join(f"EXPORT({name})" for name in KERNELS)
        source.write_text(f'#include "{SHIM}"\n{gpu.kernel_source()}\n{exports}\n')
        built = Path(folder) / "kernels.so"
        # Without contraction, as on the device; a read beyond an array's end is an error.
        command = [_compiler(), "-std=c++17", "-O1", "-ffp-contract=off", "-fPIC", "-shared"]
        command += ["-Wall", "-Wno-unknown-pragmas", "-Werror"]
        result = subprocess.run(
            [*command, str(source), "-o", str(built)],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "LC_ALL": "C"},
        )
        assert result.returncode == 0, result.stderr
        loaded = ctypes.CDLL(str(built))
    for name in KERNELS:
        getattr(loaded, f"signature_{name}").restype = ctypes.c_char_p
    return loaded


class Guarded:
    """A copy of an array at the edge of memory that may be touched: beyond its end or its start."""

    def __init__(self, array, at_start):
        page = mmap.PAGESIZE
        size = -(-max(array.nbytes, 1) // page) * page
        self._map = mmap.mmap(-1, size + 2 * page)
        whole = np.frombuffer(self._map, np.uint8)
        first = page if at_start else page + size - array.nbytes
        self.array = whole[first : first + array.nbytes].view(array.dtype).reshape(array.shape)
        self.array[...] = array
        libc = ctypes.CDLL(None)
        for fence in (0, page + size):
            address = ctypes.c_void_p(whole.ctypes.data + fence)
            assert libc.mprotect(address, ctypes.c_size_t(page), 0) == 0


def launch_guarded(name, grid, block, args, backwards=False, at_start=False, shared=0):
    """Run a kernel so that a step outside of any array ends the process."""
    own = [Guarded(a, at_start) if isinstance(a, np.ndarray) else None for a in args]
    inside = [a if g is None else g.array for a, g in zip(args, own, strict=True)]
    launch(name, grid, block, tuple(inside), backwards, shared)
    for array, copy in zip(args, inside, strict=True):
        if isinstance(array, np.ndarray):
            array[...] = copy


def signature(name):
    """The types that a kernel declares, as ``["*f4", "i8"]``."""
    return getattr(library(), f"signature_{name}")().decode().split()


def launch(name, grid, block, args, backwards=False, shared=0):
    """Run a kernel as CuPy would, on numpy arrays; wrong types are an error, not a crash.

    ``shared`` bytes, float64, are what the kernel takes as ``extern __shared__``.
    """
    declared = signature(name)
    assert len(args) == len(declared), f"{name} takes {len(declared)} arguments, got {len(args)}"
    values = []
    for arg, kind in zip(args, declared, strict=True):
        own = f"{arg.dtype.kind}{arg.dtype.itemsize}"
        if kind.startswith("*"):
            assert isinstance(arg, np.ndarray) and own == kind[1:], (name, own, kind)
            assert arg.flags.c_contiguous, f"{name} got an array that is not contiguous"
            values.append(ctypes.c_void_p(arg.ctypes.data))
        else:
            assert isinstance(arg, np.generic) and own == kind, (name, own, kind)
            values.append(np.ctypeslib.as_ctypes_type(arg.dtype)(arg.item()))
    assert 0 < np.prod(block) <= 1024 and grid[0] < 2**31 and max(grid[1:], default=1) < 2**16
    pointers = [ctypes.cast(ctypes.byref(v), ctypes.c_void_p) for v in values]
    sizes = [(ctypes.c_uint * 2)(*(*size, 1)[:2]) for size in (grid, block)]
    failed = getattr(library(), f"run_{name}")(
        *sizes,
        ctypes.c_size_t(shared // 8),
        int(backwards),
        int(name.startswith(BARRIERS)),
        (ctypes.c_void_p * len(pointers))(*pointers),
    )
    assert failed != 1, f"{name}: some threads ended while others waited at a barrier"
    assert not failed, f"{name}: writes behind its shared memory"
