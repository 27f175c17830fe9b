"""What a bug report needs to say about the machine, and what a store says of its origin."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import sys
from collections.abc import Iterator
from typing import Any

from xs2p._version import __version__
from xs2p.compute.device import gpu_status, own_kernels
from xs2p.compute.threads import cores

_PACKAGES = ("numpy", "scipy", "pandas", "xarray", "dask", "distributed", "zarr", "numba")
_CUPY = ("cupy", "cupy-cuda12x", "cupy-cuda13x")


def info() -> str:
    """Versions, processors, memory, numba's threads and the GPU, a line each."""
    lines = [("xs2p", __version__), ("Python", f"{platform.python_version()} ({sys.executable})")]
    lines += [("system", platform.platform())]
    lines += list(_versions())
    lines += [("CPUs", _cpus()), ("memory", _memory()), ("numba threads", _threading_layer())]
    usable, reason = gpu_status()
    lines += [("GPU", reason if usable else f"none: {reason}")]
    if usable:
        lines += [("own kernels", own_kernels()[1])]
    if importlib.util.find_spec("cupy") is not None:
        lines += list(_devices())
    return _in_columns(lines)


def told_of_store(store: str, as_json: bool) -> str:
    """Where the traces of a store come from, a line each, or as JSON."""
    from xs2p.pipeline.provenance import provenance

    told = provenance(store)
    if as_json:
        return json.dumps(told, indent=2)
    if "groups" not in told:
        return _of_one(store, told)
    state = "" if told["complete"] else ", unfinished"
    head = f"{store}{state}: {len(told['groups'])} groups"
    return "\n\n".join([head, *(_of_one(f"{store}{g}", of) for g, of in told["groups"].items())])


def _of_one(store: str, told: dict[str, Any]) -> str:
    lines = [("store", store if told["complete"] else f"{store}, unfinished")]
    lines += [(key, _read(told[key])) for key in ("movie", "movie_chan2", "rois") if told[key]]
    parameters = told["parameters"].items()
    lines += [("parameters", ", ".join(f"{name}={value!r}" for name, value in parameters))]
    made = ", ".join(f"{name} {version}" for name, version in told["versions"].items())
    lines += [("versions", f"{made}; results of format {told['results_format']}")]
    kernels = f", kernels {told['kernels']}" if told["kernels"] else ""
    lines += [("device", f"{told['device']}{kernels}")]
    lines += [("start", str(told["start"])), ("end", str(told["end"]))]
    lines += [("resumed", f"{told['resumes']} times" if told["resumes"] != 1 else "once")]
    lines += [("session", _session(each)) for each in told["sessions"]]
    lines += [("warning", text) for text in told["warnings"]] or [("warnings", "none")]
    return _in_columns(lines)


def _read(of: dict[str, Any]) -> str:
    """Tell what was read: its files, how large they are, and what is in them."""
    paths = [file["path"] for file in of.get("files", ())]
    more = f" and {of['number_of_files'] - 1} more" if len(paths) > 1 else ""
    told = [f"{paths[0]}{more}" if paths else of.get("source") or "from memory"]
    told += [f"{of['bytes']:,} bytes"] if of.get("bytes") is not None else []
    if "shape" in of:
        told += [f"{' x '.join(map(str, of['shape']))} of {of['dtype']}"]
    told += [f"{of['number']} ROIs"] if "number" in of else []
    return ", ".join([*told, f"content {of['content']}"])


def _session(of: dict[str, Any]) -> str:
    ended = of["ended"] or "did not end by itself"
    took = "" if of["seconds"] is None else f", {of['seconds']:,.0f} s"
    return f"{of['start']} on {of['host']}, xs2p {of['versions']['xs2p']}{took}: {ended}"


def _in_columns(lines: list[tuple[str, str]]) -> str:
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name:<{width}}  {value}" for name, value in lines)


def _versions() -> Iterator[tuple[str, str]]:
    for package in (*_PACKAGES, *_CUPY):
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            if package not in _CUPY:
                yield package, "not installed"


def _cpus() -> str:
    return f"{os.cpu_count() or 1}, {cores()} of them for this process"


def _memory() -> str:
    try:
        size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return "not known"
    return f"{size / 2**30:.1f} GiB"


def _threading_layer() -> str:
    import numba

    config: Any = numba.config
    return f"{config.NUMBA_NUM_THREADS}, layer {config.THREADING_LAYER}; xs2p uses Dask's instead"


def _devices() -> Iterator[tuple[str, str]]:
    """Tell what CUDA says, as far as it says anything."""
    try:
        import cupy

        runtime = cupy.cuda.runtime
        yield "CUDA runtime", _version(runtime.runtimeGetVersion())
        yield "CUDA driver", _version(runtime.driverGetVersion())
        for n in range(runtime.getDeviceCount()):
            properties = runtime.getDeviceProperties(n)
            name = properties["name"]
            name = name.decode() if isinstance(name, bytes) else name
            with cupy.cuda.Device(n):
                free, total = runtime.memGetInfo()
            yield (
                f"device {n}",
                f"{name}, compute {properties['major']}.{properties['minor']}, "
                f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free",
            )
    except Exception as error:
        yield "CUDA", f"{type(error).__name__}: {error}"
    yield "CUDA_VISIBLE_DEVICES", os.environ.get("CUDA_VISIBLE_DEVICES", "not set")


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}" if number else "none"
