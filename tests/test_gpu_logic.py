"""Everything of the GPU that a machine without one can check.

The CUDA kernels are compiled with nvcc or NVRTC, and their source runs as C++; what goes on around
them runs on a stand-in for CuPy, which says nothing about CuPy itself: test_gpu.py does.
"""

from __future__ import annotations

import gpu_checks as checks
import pytest

import cuda_on_cpu
import fake_cupy
