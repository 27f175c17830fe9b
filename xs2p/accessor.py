"""``.s2p`` on DataArrays and Datasets: the package's functions as methods."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import xarray as xr

from xs2p._attrs import UNFINISHED
from xs2p._warnings import warn
from xs2p.compute.progress import compute
from xs2p.io.dataframe import to_dataframe
from xs2p.masks.build import build_masks, cell_image
from xs2p.pipeline.extract import extract
from xs2p.plot import browse, plot_roi, plot_rois, plot_summary, plot_traces
from xs2p.rois.convert import compact, recompute_overlap, rois_to_labels, rois_to_stat
from xs2p.traces.baseline import baseline, preprocess
from xs2p.traces.deconvolve import deconvolve
from xs2p.traces.extraction import extract_traces
from xs2p.traces.quality import skew, snr, std


def _method(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make the method that passes its object as the function's first argument."""

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self._obj, *args, **kwargs)

    signature = inspect.signature(function)
    first, *others = signature.parameters.values()
    itself = inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    method.__signature__ = signature.replace(parameters=[itself, *others])  # type: ignore[attr-defined]
    return method


@xr.register_dataarray_accessor("s2p")
class S2pDataArray:
    """Methods of a movie ``(time, y, x)`` and of traces ``(roi, time)``."""

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    extract = _method(extract)
    extract_traces = _method(extract_traces)
    baseline = _method(baseline)
    preprocess = _method(preprocess)
    deconvolve = _method(deconvolve)
    snr = _method(snr)
    skew = _method(skew)
    std = _method(std)
    compute = _method(compute)


@xr.register_dataset_accessor("s2p")
class S2pDataset:
    """Methods of an ROI set, and of a Dataset of traces, which carries one."""

    def __init__(self, obj: xr.Dataset) -> None:
        if UNFINISHED in obj.attrs:
            warn(f"these traces are from a store that is not complete: {obj.attrs[UNFINISHED]}")
        self._obj = obj

    build_masks = _method(build_masks)
    cell_image = _method(cell_image)
    compact = _method(compact)
    recompute_overlap = _method(recompute_overlap)
    to_labels = _method(rois_to_labels)
    to_stat = _method(rois_to_stat)
    to_dataframe = _method(to_dataframe)
    plot = _method(plot_rois)
    plot_roi = _method(plot_roi)
    plot_traces = _method(plot_traces)
    plot_summary = _method(plot_summary)
    browse = _method(browse)
    compute = _method(compute)
