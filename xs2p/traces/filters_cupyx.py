"""Baselines on a GPU by CuPy's own filters: the names of ``filters_cpu.py``, and its results.

Those of Gaussians to rounding. Imported inside functions only; CuPy inside those that need it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xs2p.compute.arrays import as_array
from xs2p.compute.gpu_traces import BATCH_BYTES, of_host_too
from xs2p.traces.filters_gpu import Filters, percentile, running_by_doubling
from xs2p.traces.taps import gaussian_taps

__all__ = ["gaussian_scipy", "maximin", "percentile"]

# Frames of the longest window whose every sample is looked at: beyond it, passes over all traces
# for 2, 4, 8 … samples cost less.
SHORT = 64


@of_host_too(at_once=BATCH_BYTES)
def maximin(F: Any, sigma: float, size: int, *, legacy: bool = False) -> Any:
    """Gaussian, running minimum and maximum of CuPy traces."""
    return Filters(_smooth, _running).maximin(F, sigma, size, legacy)


@of_host_too(at_once=BATCH_BYTES)
def gaussian_scipy(F: Any, sigma: float) -> Any:
    """SciPy's own Gaussian along time of CuPy traces."""
    return Filters(_smooth, _running).gaussian_scipy(F, sigma)


def _smooth(traces: Any, sigma: float, radius: int, reflect: bool, skip_nan: bool) -> Any:
    import cupy
    from cupyx.scipy.ndimage import correlate1d

    if skip_nan:
        traces = cupy.where(cupy.isnan(traces), np.float32(0), traces)
    taps = gaussian_taps(sigma, radius, traces.shape[-1], reflect)
    both = as_array(cupy, np.concatenate([taps[:0:-1], taps]))
    return correlate1d(traces, both, axis=-1, mode="reflect" if reflect else "nearest")


def _running(traces: Any, left: int, right: int, smallest: bool) -> Any:
    from cupyx.scipy.ndimage import maximum_filter1d, minimum_filter1d

    window = left + right + 1
    if window > SHORT or left - right not in (0, 1):
        return running_by_doubling(traces, left, right, smallest)
    # What is replicated beyond an end is a sample that the window has anyway.
    extreme = minimum_filter1d if smallest else maximum_filter1d
    return extreme(traces, window, axis=-1, mode="nearest")
