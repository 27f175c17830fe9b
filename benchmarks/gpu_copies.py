"""What ``extract`` copies between the host and a GPU: bytes, copies, and how many at once.

From the top of the checkout, wherever CuPy has a device:

    python -m benchmarks.gpu_copies

Times say nothing here; the number of bytes is the same on every device. A copy counts as on its
way from its start until the device says that it has ended, so that how many there are at once does
depend on the device.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import threading
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import dask
import xarray as xr

import xs2p
from benchmarks.suite.recordings import FS, make_frames, make_stat
from xs2p.compute.device import KERNELS, gpu_status
from xs2p.traces.detrend import DETREND


@dataclass
class Copies:
    """What was copied, by direction: ``"up"`` to the device, ``"down"`` to the host."""

    nbytes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    count: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    at_once: int = 0
    _under_way: list[Any] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def started(self, direction: str, nbytes: int, stream: Any) -> None:
        """Count a copy that was given to a stream; None is a copy that has ended already."""
        with self._lock:
            self.nbytes[direction] += nbytes
            self.count[direction] += 1
            self._under_way = [event for event in self._under_way if not event.done]
            if stream is not None:
                self._under_way.append(stream.record())
            self.at_once = max(self.at_once, len(self._under_way) + (stream is None))


@contextlib.contextmanager
def counted() -> Iterator[Copies]:
    """Count the copies that CuPy's arrays make in either direction."""
    import cupy

    copies, kind = Copies(), cupy.ndarray
    get, put, asarray, array = kind.get, kind.set, cupy.asarray, cupy.array

    @functools.wraps(get)
    def down(self: Any, stream: Any = None, *args: Any, **options: Any) -> Any:
        made = get(self, stream, *args, **options)
        waits = options.get("blocking", True)
        copies.started("down", self.nbytes, None if waits else stream)
        return made

    @functools.wraps(put)
    def up(self: Any, host: Any, stream: Any = None) -> None:
        put(self, host, stream)
        copies.started("up", self.nbytes, stream)

    def making(function: Any) -> Any:
        @functools.wraps(function)
        def make(source: Any, *args: Any, **options: Any) -> Any:
            made = function(source, *args, **options)
            if not isinstance(source, kind):
                copies.started("up", made.nbytes, None)
            return made

        return make

    try:
        kind.get, kind.set = down, up
        cupy.asarray, cupy.array = making(asarray), making(array)
        yield copies
    finally:
        kind.get, kind.set = get, put
        cupy.asarray, cupy.array = asarray, array


def recording(n_rois: int, n_frames: int, shape: tuple[int, int]) -> tuple[xr.DataArray, Any]:
    """A movie of the host and an ROI set."""
    frames = make_frames(n_frames, shape)
    movie = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": FS})
    return movie, xs2p.rois_from_stat(make_stat(n_rois, shape), shape)


def row(movie: xr.DataArray, rois: Any, kernels: str, baseline: str, **options: Any) -> str:
    """Extract, and say in a line of the table what was copied."""
    how = {"device": "gpu", "kernels": kernels, **options}
    how |= {"detrend": baseline} if baseline in DETREND else {"baseline": baseline}
    with counted() as copies:
        ds = xs2p.extract(movie, rois, **how).compute()
    traces = ds.F.nbytes
    of_traces = copies.nbytes["up"] - movie.nbytes, copies.nbytes["down"]
    cells = [
        "memory" if movie.chunks is None else f"Dask, chunks of {movie.chunks[0][0]}",
        kernels,
        baseline,
        *(f"{copies.nbytes[way] / 1e6:,.1f} MB in {copies.count[way]}" for way in ("up", "down")),
        *(f"{nbytes / traces:.2f}" for nbytes in of_traces),
        str(copies.at_once),
    ]
    return f"| {' | '.join(cells)} |"


# The first stands for all that move; with both kernels, the others with the default.
BASELINES = ("maximin", "prctile", "constant", "constant_global", *DETREND)
HEAD = """| movie in | kernels | baseline | up | down | up, of traces, in F | down, in F | at once |
|---|---|---|---|---|---|---|---|"""


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rois", type=int, default=60)
    parser.add_argument("--frames", type=int, default=9000)
    parser.add_argument("--pixels", type=int, default=32, help="of a side of the frames")
    parser.add_argument("--window", type=float, default=2.0, help="of the baseline, in seconds")
    parser.add_argument("--tau", type=float, default=0.2, help="in seconds")
    parser.add_argument("--chunk", type=int, default=1500, help="frames of one, over Dask")
    parser.add_argument("--baselines", nargs="+", default=BASELINES, choices=BASELINES)
    given = parser.parse_args(arguments)
    usable, reason = gpu_status()
    if not usable:
        raise SystemExit(f"benchmarks.gpu_copies needs a GPU: {reason}")
    warnings.filterwarnings("ignore", message=".*ROIs")
    movie, rois = recording(given.rois, given.frames, (given.pixels, given.pixels))
    print(
        f"{reason}: {given.rois} ROIs, {given.frames} frames of {given.pixels} × {given.pixels}; "
        f"F is {4e-6 * given.rois * given.frames:,.1f} MB, the movie {movie.nbytes / 1e6:,.1f} MB\n"
    )
    print(HEAD)
    with dask.config.set(num_workers=4):
        first, *others = given.baselines
        for kernels, baseline in [*product(KERNELS, [first]), *product(KERNELS[:1], others)]:
            for some in (movie, movie.chunk(time=given.chunk)):
                print(row(some, rois, kernels, baseline, tau=given.tau, win_baseline=given.window))


if __name__ == "__main__":
    main()
