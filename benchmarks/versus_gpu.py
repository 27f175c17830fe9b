"""xs2p on a GPU beside its own CPU code, PyTorch, and what bus and memory allow.

From the top of the checkout, on a machine with a CUDA device, in an environment with xs2p:

    pip install -e ".[gpu13]"
    python -m benchmarks.versus_gpu

It needs 25 GB of memory and as much on the device; with less it takes fewer frames and traces, and
says so. PyTorch, where it is installed, does the products and the pooling that suite2p does.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib.metadata
import importlib.util
import platform
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import numpy as np
import xarray as xr

import xs2p
from benchmarks.suite.recordings import FS, SHAPE, TAU, make_frames, make_stat, make_traces
from xs2p.compute.arrays import to_host
from xs2p.compute.device import KERNELS, gpu_status
from xs2p.compute.threads import cores
from xs2p.traces import sums_gpu

WITHOUT_TORCH = (
    "PyTorch is not installed; its rows are left out. With it (pip install torch), they are what "
    "suite2p does: a product with a sparse CSC matrix, and max-pooling"
)
AIMS = (
    "frames of the host at 0.8 of the bus; frames of the device at 10 × PyTorch's product; maximin "
    "at 20 × max-pooling; OASIS at 20 × two cores"
)


@dataclass
class Row:
    """One way to do some work."""

    step: str
    work: str
    how: str
    seconds: float
    amount: float  # frames or samples
    moved: float  # bytes that must go over the bus or be read from and written to memory
    limit: str = "memory"
    agreement: str = ""

    @property
    def rate(self) -> float:
        return self.amount / self.seconds

    @property
    def bytes_per_second(self) -> float:
        return self.moved / self.seconds


@dataclass
class Sizes:
    """How much of everything."""

    rois: tuple[int, ...] = (1000, 5000, 20_000)
    shape: tuple[int, int] = SHAPE
    frames: int = 20_000
    cpu_frames: int = 2000
    traces: int = 5000
    samples: int = 100_000
    cpu_traces: int = 200
    window: float = 60.0
    batch: int = 500  # frames of a product, as suite2p has it
    repeats: int = 5


TOY = Sizes((20,), (64, 48), 70, 40, 12, 500, 6, 2.0, 30, 1)


class Device:
    """The GPU, or, to try the script, numpy in its place."""

    def __init__(self, gpu: bool) -> None:
        self.gpu = gpu
        if gpu:
            import cupy

            self.xp: Any = cupy
        else:
            self.xp = np

    def wait(self) -> None:
        """Let all that was started end."""
        if self.gpu:
            self.xp.cuda.Device().synchronize()

    def free(self) -> int:
        """Bytes of memory that can be had."""
        if not self.gpu:
            return 2**34
        self.xp.get_default_memory_pool().free_all_blocks()
        return int(self.xp.cuda.runtime.memGetInfo()[0])

    def ways(self) -> list[tuple[str, dict[str, Any]]]:
        """Names of what is compared, and how it is asked for."""
        if not self.gpu:
            return [("xs2p", {})]
        return [(f"xs2p, {kernels}", {"device": "gpu", "kernels": kernels}) for kernels in KERNELS]

    def upload(self, array: np.ndarray) -> Any:
        """Copy an array in small parts: CuPy would pin as much memory as all of it, and keep it."""
        there = self.xp.empty(array.shape, array.dtype)
        step = max(2**26 // max(array[:1].nbytes, 1), 1)
        for start in range(0, len(array), step):
            there[start : start + step] = self.xp.asarray(array[start : start + step])
        return there

    def filters(self) -> Any:
        if self.gpu:
            import cupyx.scipy.ndimage as filters
        else:
            import scipy.ndimage as filters
        return filters

    def timed(self, work: Callable[[], Any], repeats: int) -> tuple[float, Any]:
        """Median seconds, after one run for compilation and caches, and a result."""
        result = work()
        self.wait()
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            work()
            self.wait()
            times.append(time.perf_counter() - start)
        return float(np.median(times)), result


def limits(device: Device, repeats: int, size: int) -> dict[str, float]:
    """Bytes a second that a copy from pinned memory and one within the memory reach."""
    source = np.ones(size, np.uint8)
    if device.gpu:
        import cupyx

        source = cupyx.empty_pinned((size,), np.uint8)
        source[:] = 1
    target, other = device.xp.empty(size, np.uint8), device.xp.empty(size, np.uint8)

    def upload() -> None:
        if device.gpu:
            target.set(source, stream=device.xp.cuda.get_current_stream())
        else:
            target[...] = source

    def copy() -> None:
        other[...] = target

    bus = size / device.timed(upload, repeats)[0]
    # Each byte is read and written.
    memory = 2 * size / device.timed(copy, repeats)[0]
    if device.gpu:
        del source
        device.xp.get_default_pinned_memory_pool().free_all_blocks()
    return {"bus": bus, "memory": memory}


def extraction(device: Device, sizes: Sizes, n_rois: int, torch: Any) -> Iterator[Row]:
    """Frames of the host and of the device, by both sets of kernels, and PyTorch's products."""
    frame_bytes = 2 * sizes.shape[0] * sizes.shape[1]
    n_frames = int(min(sizes.frames, max(0.4 * device.free() // frame_bytes, 1)))
    frames = make_frames(n_frames, sizes.shape)
    # The same share of the frame is covered whatever the number.
    area = 100.0 * min(1.0, 1000 / n_rois)
    rois = xs2p.rois_from_stat(make_stat(n_rois, sizes.shape, area=area), sizes.shape)
    masks = xs2p.build_masks(rois)
    cell, ring = masks.cell.nnz / 1e3, masks.neuropil.nnz / 1e3
    work = f"{n_rois} ROIs ({cell:.0f} k cell, {ring:.0f} k neuropil pixels), int16"
    some = xr.DataArray(frames[: sizes.cpu_frames], dims=("time", "y", "x"))

    def row(how: str, seconds: float, n: int, limit: str, agreement: str = "") -> Row:
        return Row("extraction", work, how, seconds, n, n * frame_bytes, limit, agreement)

    seconds, cpu = device.timed(lambda: xs2p.extract_traces(some, masks), 1)
    yield row(f"xs2p, CPU ({cores()} cores)", seconds, len(some), "none")
    expected = np.concatenate([cpu.F.values, cpu.Fneu.values])

    def apart(found: np.ndarray) -> str:
        """How far traces ``(mask, time)`` are from the CPU's; empty masks are NaN there."""
        n = min(found.shape[1], expected.shape[1])
        off = np.abs(found[:, :n].astype(np.float64) - expected[:, :n])
        return "identical" if np.nanmax(off) == 0 else f"within {np.nanmax(off):.1g}"

    def traces_of(ds: xr.Dataset) -> np.ndarray:
        return np.concatenate([to_host(ds.F.data), to_host(ds.Fneu.data)])

    movie = xr.DataArray(frames, dims=("time", "y", "x"))
    lazy = movie.chunk(time=max(n_frames // 40, 1))
    there = device.upload(frames)
    on_device = xr.DataArray(there, dims=("time", "y", "x"))
    for name, on in device.ways():

        def measured(given: xr.DataArray, on: dict[str, Any] = on) -> tuple[float, str]:
            work = functools.partial(xs2p.extract_traces, given, masks, **on)
            seconds, ds = device.timed(lambda: work().compute(), sizes.repeats)
            return seconds, apart(traces_of(ds))

        seconds, agreement = measured(movie)
        yield row(f"{name}, frames of the host", seconds, n_frames, "bus", agreement)
        with dask.config.set(scheduler="threads", num_workers=8):
            seconds, agreement = measured(lazy)
        how = f"{name}, frames of the host, Dask, 8 threads"
        yield row(how, seconds, n_frames, "bus", agreement)
        seconds, agreement = measured(on_device)
        yield row(f"{name}, frames of the device", seconds, n_frames, "memory", agreement)
    if device.gpu:
        default = sums_gpu._GROUPS
        for groups in (1, 2, 4, 16, 32):
            sums_gpu._GROUPS = groups
            seconds, _ = measured(on_device)  # the last way is by our own kernels
            how = f"xs2p, own, with {groups} groups of 32 frames (default {default})"
            yield row(how, seconds, n_frames, "memory")
        sums_gpu._GROUPS = default
    if torch is None:
        return
    n = min(n_frames, 4 * sizes.batch)  # some batches are enough for a rate
    csc = torch_matrix(torch, masks, device)
    tensor = torch.as_tensor(there[:n], device="cuda" if device.gpu else "cpu")

    def torch_products() -> Any:
        parts = [tensor[i : i + sizes.batch] for i in range(0, n, sizes.batch)]
        return [p.reshape(len(p), -1).to(torch.float32) @ csc for p in parts]

    try:
        seconds, parts = device.timed(torch_products, sizes.repeats)
    except RuntimeError as error:  # a release of PyTorch that has no such product
        print(f"PyTorch's product of {work} failed: {str(error).splitlines()[0]}")
        return
    found = torch.cat(parts).cpu().numpy().T
    yield row("PyTorch, dense @ CSC, frames of the device", seconds, n, "memory", apart(found))


def torch_matrix(torch: Any, masks: Any, device: Device) -> Any:
    """Cell and neuropil masks as one sparse CSC tensor."""
    from scipy.sparse import hstack

    matrix = hstack([masks.cell, masks.neuropil], format="csc")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*beta state.*")
        tensor = torch.sparse_csc_tensor(
            torch.as_tensor(matrix.indptr.astype(np.int64)),
            torch.as_tensor(matrix.indices.astype(np.int64)),
            torch.as_tensor(matrix.data),
            size=matrix.shape,
            check_invariants=False,
        )
    return tensor.to("cuda" if device.gpu else "cpu")


def many_traces(n_traces: int, n_samples: int) -> np.ndarray:
    """Traces without a baseline: some hundred, over and over."""
    own = make_traces(min(n_traces, 200), n_samples) - np.float32(300)
    return np.concatenate([own] * -(-n_traces // len(own)))[:n_traces]


def steps(device: Device, sizes: Sizes, torch: Any) -> Iterator[Row]:
    """Baseline and spikes of traces of the device."""
    n = int(min(sizes.traces, max(device.free() // (60 * sizes.samples), 1)))
    work = f"{n} traces × {sizes.samples} samples"
    F = many_traces(n, sizes.samples)
    some = xr.DataArray(F[: sizes.cpu_traces], dims=("roi", "time"), attrs={"fs": FS})
    there = device.upload(F)
    on_host = xr.DataArray(F, dims=("roi", "time"), attrs={"fs": FS})
    traces = on_host.copy(data=there)

    def maximin(F: xr.DataArray, **on: Any) -> xr.DataArray:
        return xs2p.baseline(F, "maximin", win_baseline=sizes.window, **on)

    def prctile(F: xr.DataArray, **on: Any) -> xr.DataArray:
        return xs2p.baseline(F, "prctile", **on)

    def rolling(F: xr.DataArray, **on: Any) -> xr.DataArray:
        return xs2p.baseline(F, "rolling_prctile", win_baseline=sizes.window, **on)

    def oasis(F: xr.DataArray, **on: Any) -> xr.DataArray:
        return xs2p.deconvolve(F, tau=TAU, **on)

    def row(step: str, how: str, seconds: float, n: int, agreement: str = "") -> Row:
        limit = "bus" if "of the host" in how else "none" if "CPU" in how else "memory"
        # Each sample goes in and comes out; a bus does both at once.
        moved = (4.0 if limit == "bus" else 8.0) * n * sizes.samples
        return Row(step, work, how, seconds, n * sizes.samples, moved, limit, agreement)

    work_on = {"maximin": maximin, "prctile": prctile, "rolling": rolling, "OASIS": oasis}
    for step, do in work_on.items():
        cpu_seconds, cpu = device.timed(lambda do=do: do(some), 1)
        expected = cpu.values

        def apart(found: Any, expected: np.ndarray = expected) -> str:
            off = np.abs(to_host(found[: len(expected)]) - expected).max()
            return "identical" if off == 0 else f"within {off:.1g}"

        yield row(step, f"xs2p, CPU ({cores()} cores)", cpu_seconds, len(some))
        for name, on in device.ways():
            for where, given in (("traces of the device", traces), ("traces of the host", on_host)):
                seconds, result = device.timed(
                    lambda do=do, given=given, on=on: do(given, **on), sizes.repeats
                )
                yield row(step, f"{name}, {where}", seconds, n, apart(result.data))
                del result
        if step != "maximin":
            continue
        few = min(n, 200)
        for how, filtered in pooled(device, there[:few], sizes, torch):
            seconds, found = device.timed(filtered, sizes.repeats)
            yield row(step, how, seconds, few, apart(found))


def pooled(device: Device, F: Any, sizes: Sizes, torch: Any) -> Iterator[tuple[str, Any]]:
    """The same baseline by filters that cost as much as their window is long."""
    xp, filters = device.xp, device.filters()
    window = int(sizes.window * FS)
    window += window % 2 == 0
    taps = np.exp(-0.5 * (np.arange(-30, 31) / 10.0) ** 2)
    taps = (taps / taps.sum()).astype(np.float32)

    def filtered() -> Any:
        smooth = filters.correlate1d(F, xp.asarray(taps), axis=1, mode="nearest")
        low = filters.minimum_filter1d(smooth, window, axis=1, mode="nearest")
        return filters.maximum_filter1d(low, window, axis=1, mode="nearest")

    yield "cupyx, filters of the window's cost", filtered
    if torch is None:
        return
    functional = torch.nn.functional
    place = "cuda" if device.gpu else "cpu"
    tensor = torch.as_tensor(F, device=place)[:, None]
    kernel = torch.as_tensor(taps, device=place)[None, None]

    def max_pooled() -> Any:
        smooth = functional.conv1d(functional.pad(tensor, (30, 30), mode="replicate"), kernel)
        low = -functional.max_pool1d(-smooth, window, stride=1, padding=window // 2)
        high = functional.max_pool1d(low, window, stride=1, padding=window // 2)[:, 0]
        return xp.asarray(high) if device.gpu else high.numpy()

    yield "PyTorch, max-pooling", max_pooled


def table(rows: list[Row], found: dict[str, float]) -> str:
    """Write all rows, each against the CPU and PyTorch at the same work."""
    lines = [
        "| step | work | how | time | a second | GB/s | of limit | × CPU | × PyTorch | result |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        same = [other for other in rows if (other.step, other.work) == (row.step, row.work)]
        ratios = []
        for name in ("CPU (", "PyTorch"):
            base = next((other for other in same if name in other.how), None)
            ratios.append("–" if base in (None, row) else f"{row.rate / base.rate:.1f} ×")
        unit = "frames" if row.step == "extraction" else "samples"
        limit = found.get(row.limit)
        share = "–" if limit is None else f"{row.bytes_per_second / limit:.2f} of the {row.limit}"
        cells = (
            row.step,
            row.work,
            row.how,
            f"{row.seconds * 1e3:.1f} ms",
            f"{row.rate:,.0f} {unit}",
            f"{row.bytes_per_second / 1e9:.1f}",
            share,
            *ratios,
            row.agreement or "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def draw(rows: list[Row], found: dict[str, float], path: Path) -> None:
    """Bytes moved a second by each way, against what bus and memory allow."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 1.5 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    colors = {"bus": "tab:orange", "memory": "tab:blue", "none": "tab:gray"}
    for n, row in enumerate(rows):
        axes.barh(n, row.bytes_per_second / 1e9, color=colors[row.limit])
    for name, limit in found.items():
        axes.axvline(limit / 1e9, color=colors[name], linestyle="--", label=f"copy, {name}")
    names = [f"{row.step}, {row.work.split(' (')[0]}: {row.how}" for row in rows]
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("GB/s of frames read, or of traces read and written")
    axes.legend(loc="lower right", fontsize=7)
    figure.savefig(path, dpi=150)


def machine(device: Device) -> str:
    """Describe the machine and the versions."""
    versions = []
    for name in ("numpy", "numba", "dask", "xarray", "cupy-cuda12x", "cupy-cuda13x", "torch"):
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            pass
    where = gpu_status()[1] if device.gpu else "no GPU: numpy stands for it"
    return (
        f"{datetime.date.today()}; {where}; {cores()} cores; {platform.system()}, "
        f"Python {platform.python_version()}; xs2p {xs2p.__version__}; {', '.join(versions)}"
    )


def main(arguments: list[str] | None = None) -> None:
    """Print the table and draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--png", type=Path, default=Path("versus_gpu.png"), help="the picture")
    parser.add_argument("--rois", type=int, nargs="+", help="instead of 1000, 5000 and 20000")
    parser.add_argument("--frames", type=int, help="instead of 20000")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: only to see it run")
    options = parser.parse_args(arguments)
    usable, reason = gpu_status()
    if not usable and not options.toy:
        raise SystemExit(
            f"no GPU can be used: {reason}. This measures one: run it on a machine with a CUDA "
            'device, after pip install -e ".[gpu13]". --toy runs it at tiny sizes on the CPU'
        )
    sizes = TOY if options.toy else Sizes()
    if options.rois:
        sizes.rois = tuple(options.rois)
    sizes.frames = options.frames or sizes.frames
    device, torch = Device(usable), None
    print(machine(device))
    if importlib.util.find_spec("torch") is not None:
        import torch
    else:
        print(WITHOUT_TORCH)
    found = limits(device, sizes.repeats, 2**16 if options.toy else 2**30)
    for name, limit in found.items():
        print(f"{name}: {limit / 1e9:.1f} GB/s")
    rows: list[Row] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*ROIs lack a mask")
        for n_rois in sizes.rois:
            rows += extraction(device, sizes, n_rois, torch)
        rows += steps(device, sizes, torch)
    print(f"medians of {sizes.repeats} runs, after one that is not counted\naims: {AIMS}\n")
    print(table(rows, found))
    draw(rows, found, options.png)
    print(f"\nwrote {options.png}")


if __name__ == "__main__":
    main()
