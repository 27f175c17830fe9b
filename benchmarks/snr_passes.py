"""What the second pass of ``snr_threshold`` costs, by how many ROIs are dropped.

python -m benchmarks.snr_passes
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr

from benchmarks.reading import DIMS, in_turn
from benchmarks.scaling import table
from benchmarks.suite.recordings import FS, make_frames, make_stat

SHAPE = (512, 512)
OPTIONS: dict[str, Any] = {"fs": FS, "baseline": "none", "neuropil_coefficient": 0.0}


def main(arguments: list[str] | None = None) -> None:
    """Print the table."""
    import xs2p

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=500)
    parser.add_argument("--rois", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    warnings.filterwarnings("ignore")
    frames = make_frames(options.frames, SHAPE)
    frames += np.linspace(0, 200, options.frames).astype(np.int16)[:, None, None]
    movie = xr.DataArray(frames, dims=DIMS)
    rois = xs2p.rois_from_stat(make_stat(options.rois), SHAPE)
    ratio = np.sort(xs2p.snr(movie.s2p.extract(rois, **OPTIONS).Fc).values)
    ratio = ratio[np.isfinite(ratio)]

    def work(threshold: float) -> Callable[[], Any]:
        return lambda: movie.s2p.extract(rois, snr_threshold=threshold, **OPTIONS)

    drops = {"none": 0, "1 %": options.rois // 100, "10 %": options.rois // 10}
    works = {"no threshold": lambda: movie.s2p.extract(rois, **OPTIONS)}
    low = {name: float(ratio[n - 1]) if n else float(ratio[0]) - 1e-6 for name, n in drops.items()}
    if low["none"] <= 0:
        raise SystemExit(f"the smallest ratio is {ratio[0]:.3f}: nothing can be kept by it")
    works |= {name: work(threshold) for name, threshold in low.items()}
    took = in_turn(works, options.repeats)
    once = took["no threshold"][1]
    rows = [(name, f"{busy:.2f}", f"**{busy / once:.2f} ×**") for name, (_, busy) in took.items()]
    print(f"\n{options.frames} frames of 512 × 512 int16 in memory, {options.rois} ROIs")
    table("dropped | s of the cores | ratio to no threshold", rows)


if __name__ == "__main__":
    main()
