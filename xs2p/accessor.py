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
from xs2p.io.analysis import to_cascade, to_pynapple
from xs2p.io.dataframe import to_dataframe
from xs2p.masks.build import build_masks, cell_image
from xs2p.movie.images import mean_image, summary_images
from xs2p.pipeline.align import align_time
from xs2p.pipeline.dff import dff_of
from xs2p.pipeline.extract import extract
from xs2p.pipeline.quality import quality
from xs2p.pipeline.reprocess import reprocess
from xs2p.pipeline.segment import segment
from xs2p.pipeline.store import extract_to_zarr
from xs2p.pipeline.tree import extract_tree
from xs2p.pipeline.tree_store import extract_tree_to_zarr
from xs2p.plot.browser import browse
from xs2p.plot.roi import plot_roi
from xs2p.plot.rois import plot_rois
from xs2p.plot.summary import plot_summary
from xs2p.plot.traces import plot_traces
from xs2p.report import write_report
from xs2p.rois.convert import compact, recompute_overlap, rois_to_labels, rois_to_stat
from xs2p.rois.curation import curated
from xs2p.traces.baseline import baseline, preprocess
from xs2p.traces.deconvolve import deconvolve
from xs2p.traces.demix import demix
from xs2p.traces.dff import dff
from xs2p.traces.events import events
from xs2p.traces.extraction import extract_traces
from xs2p.traces.noise import noise
from xs2p.traces.quality import skew, snr, std
from xs2p.traces.tau import estimate_tau


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


class _Methods:
    """What completion and ``repr`` show of an accessor: its methods, and nothing else."""

    _obj: Any

    def __dir__(self) -> list[str]:
        return [name for name in vars(type(self)) if not name.startswith("_")]

    def _fitting(self) -> list[str]:
        """Names of the methods that make sense for the object at hand."""
        return list(self.__dir__())

    def __repr__(self) -> str:
        names = self._fitting()
        width = max(map(len, names)) + 2
        lines = [f"  {name + '()':<{width}}  {_first_line(type(self), name)}" for name in names]
        return "\n".join([f"{self._obj_is()} has these methods in .s2p:", *lines])

    def _obj_is(self) -> str:
        dims = ", ".join(map(str, self._obj.dims))
        return f"{type(self._obj).__name__} ({dims})"


def _first_line(cls: type, name: str) -> str:
    return (inspect.getdoc(getattr(cls, name)) or "").partition("\n")[0]


class S2pDataArray(_Methods):
    """Methods of a movie ``(time, y, x)`` and of traces ``(roi, time)``."""

    def __init__(self, obj: xr.DataArray) -> None:
        self._obj = obj

    def _fitting(self) -> list[str]:
        of_movies = (
            *("extract", "extract_to_zarr", "extract_traces", "demix"),
            *("mean_image", "summary_images"),
        )
        parts = ["segment"] * ("segment" in self._obj.coords)
        if {"y", "x"} <= set(self._obj.dims):
            return [*of_movies, *parts, "compute"]
        known = [name for name in self.__dir__() if parts or name != "segment"]
        if "roi" in self._obj.dims:
            return [name for name in known if name not in of_movies]
        return known

    extract = _method(extract)
    extract_to_zarr = _method(extract_to_zarr)
    extract_traces = _method(extract_traces)
    demix = _method(demix)
    mean_image = _method(mean_image)
    summary_images = _method(summary_images)
    baseline = _method(baseline)
    preprocess = _method(preprocess)
    deconvolve = _method(deconvolve)
    estimate_tau = _method(estimate_tau)
    events = _method(events)
    dff = _method(dff)
    noise = _method(noise)
    snr = _method(snr)
    skew = _method(skew)
    std = _method(std)
    segment = _method(segment)
    compute = _method(compute)


class S2pDataset(_Methods):
    """Methods of an ROI set, and of a Dataset of traces, which carries one."""

    def __init__(self, obj: xr.Dataset) -> None:
        if UNFINISHED in obj.attrs:
            warn(f"these traces are from a store that is not complete: {obj.attrs[UNFINISHED]}")
        self._obj = obj

    def _fitting(self) -> list[str]:
        of_traces = {
            *("align_time", "dff", "reprocess", "plot_traces", "plot_summary", "browse"),
            *("to_pynapple", "to_cascade", "write_report"),
        }
        traces, parts = "time" in self._obj.dims, "segment" in self._obj.coords
        known = [name for name in self.__dir__() if parts or name != "segment"]
        return [name for name in known if traces or name not in of_traces]

    build_masks = _method(build_masks)
    cell_image = _method(cell_image)
    compact = _method(compact)
    recompute_overlap = _method(recompute_overlap)
    dff = _method(dff_of)
    reprocess = _method(reprocess)
    align_time = _method(align_time)
    quality = _method(quality)
    segment = _method(segment)
    to_labels = _method(rois_to_labels)
    to_stat = _method(rois_to_stat)
    to_dataframe = _method(to_dataframe)
    to_pynapple = _method(to_pynapple)
    to_cascade = _method(to_cascade)
    plot = _method(plot_rois)
    plot_roi = _method(plot_roi)
    plot_traces = _method(plot_traces)
    plot_summary = _method(plot_summary)
    browse = _method(browse)
    curated = _method(curated)
    write_report = _method(write_report)
    compute = _method(compute)


class S2pDataTree(_Methods):
    """Methods of a tree whose groups are planes or sessions."""

    def __init__(self, obj: xr.DataTree) -> None:
        self._obj = obj

    def _obj_is(self) -> str:
        return f"DataTree of {len(self._obj.groups)} groups"

    extract = _method(extract_tree)
    extract_to_zarr = _method(extract_tree_to_zarr)
    compute = _method(compute)
