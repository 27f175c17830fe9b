"""Whole runs of suite2p, registration to classification, without xs2p's extraction and with it.

From the top of the checkout, in an environment with xs2p:

    pip install -r benchmarks/requirements-suite2p.txt
    python -m benchmarks.suite2p_run

Makes a recording of 2 planes and 2 channels whose tissue moves and bends, runs suite2p on it twice,
prints times and what differs, and ends with an error where more differs than may. Then it reads the
raw recording with the shifts that were found, beside the frames that suite2p wrote.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np

import xs2p
from benchmarks.versus_suite2p import HOW, machine, short

PLANES, CHANNELS, FS = 2, 2, 10.0
TRACES = ("F", "Fneu", "F_chan2", "Fneu_chan2")
BINARIES = ("data.bin", "data_chan2.bin")


def write_recording(path: Path, n_frames: int, size: int, n_cells: int, seed: int = 0) -> None:
    """Write a TIFF, planes and channels in turn: cells fire, and the tissue moves and bends."""
    import tifffile
    from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates

    rng = np.random.default_rng(seed)
    margin, frames = 20, np.empty((n_frames, PLANES, CHANNELS, size, size), np.int16)
    y, x = np.mgrid[: size + 2 * margin, : size + 2 * margin].astype(np.float32)
    inner = (slice(margin, -margin),) * 2
    for plane in range(PLANES):
        noise = rng.normal(size=(3, *y.shape))
        green = 400 + 300 * gaussian_filter(noise[0], 3) + 150 * gaussian_filter(noise[1], 1)
        red = 300 + 300 * gaussian_filter(noise[2], 2)
        at = rng.uniform(margin + 6, margin + size - 6, (n_cells, 2))
        cells = np.exp(-((((y - at[:, :1, None]) ** 2 + (x - at[:, 1:, None]) ** 2) / 18) ** 2))
        red += 500 * cells[::3].sum(axis=0)
        fired = (rng.random((n_cells, n_frames)) < 0.03) * rng.uniform(
            0.5, 1.5, (n_cells, n_frames)
        )
        fades = np.exp(-np.arange(30) / FS)
        light = np.stack([np.convolve(row, fades)[:n_frames] for row in fired])
        walk = 0.5 * rng.normal(size=(2, n_frames)).cumsum(axis=1)
        down, right = walk - gaussian_filter1d(walk, 20, axis=1)
        for t in range(n_frames):
            seen = green + 600 * np.tensordot(light[:, t], cells, 1)
            rows = (y + down[t] + 1.5 * np.sin(2 * np.pi * x / size + t / 9))[inner]
            columns = (x + right[t] + 1.5 * np.cos(2 * np.pi * y / size + t / 7))[inner]
            for channel, image in enumerate((seen, red)):
                photons = rng.poisson(map_coordinates(image, [rows, columns], order=1).clip(1) / 4)
                frames[t, plane, channel] = 4 * photons + rng.normal(0, 10, photons.shape)
    tifffile.imwrite(path, frames.reshape(-1, size, size), photometric="minisblack")


def run(raw: Path, out: Path, patched: Any) -> float:
    """Run suite2p on the CPU as a user would; seconds."""
    import suite2p

    db, settings = suite2p.default_db(), suite2p.default_settings()
    db |= {"data_path": [str(raw)], "save_path0": str(out), "nplanes": PLANES}
    db |= {"nchannels": CHANNELS}
    settings |= {"torch_device": "cpu", "fs": FS}
    settings["registration"] |= {"block_size": (64, 64)}
    settings["run"] |= {"do_regmetrics": False}
    start = time.perf_counter()
    with patched, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        suite2p.run_s2p(db=db, settings=settings)
    return time.perf_counter() - start


def compare(theirs: Path, ours: Path) -> list[str]:
    """Compare two plane folders; a line for each thing that is not as it should be."""
    wrong = []
    for name in ("iscell", "redcell"):
        a, b = (np.load(folder / f"{name}.npy") for folder in (theirs, ours))
        if not np.array_equal(a, b):
            wrong.append(f"{name} differs")
    for name in TRACES:
        a, b = (np.load(folder / f"{name}.npy") for folder in (theirs, ours))
        if a.shape != b.shape or not np.allclose(a, b, rtol=1e-4, atol=1e-2):
            wrong.append(f"{name} differs")
    a, b = (np.load(folder / "spks.npy") for folder in (theirs, ours))
    if a.shape != b.shape or np.corrcoef(a.ravel(), b.ravel())[0, 1] < 0.9999:
        wrong.append("spks differ")
    stats = [np.load(folder / "stat.npy", allow_pickle=True) for folder in (theirs, ours)]
    for one, other in zip(*stats, strict=True):
        for key, value in one.items():
            of_traces = key in ("skew", "std", "snr")
            same = np.allclose if of_traces else np.array_equal
            if not same(value, other[key], **({"rtol": 1e-4, "atol": 1e-5} if of_traces else {})):
                wrong.append(f"stat[n][{key!r}] differs")
        if other["neuropil_mask"].size == 0 or "neuropil_mask" in one:
            wrong.append("neuropil masks were not kept")
    return sorted(set(wrong))


def told(theirs: Path, ours: Path) -> str:
    """Say how far the results of two plane folders are from each other."""
    far = []
    for name in (*TRACES, "spks"):
        a, b = (np.load(folder / f"{name}.npy").astype(float) for folder in (theirs, ours))
        far.append(f"{name} within {np.abs(a - b).max():.1g} of {np.abs(a).max():.0f}")
    iscell = np.load(ours / "iscell.npy")
    return f"{len(iscell)} ROIs, {int(iscell[:, 0].sum())} cells; " + ", ".join(far)


def replayed(raw: Path, top: Path) -> tuple[list[str], list[str]]:
    """Compare the raw recording, read as registered, with suite2p's binaries: told, and wrong."""
    movie = xs2p.open_movie(raw, planes=PLANES, channels=CHANNELS, registration=top)
    lines, wrong = [], []
    for plane, channel in np.ndindex(PLANES, CHANNELS):
        path = top / f"plane{plane}" / BINARIES[channel]
        ours = movie.isel(plane=plane, channel=channel).values.astype(int)
        off = np.abs(ours - np.fromfile(path, "<i2").reshape(ours.shape))
        lines.append(
            f"plane{plane}/{path.name}: {(off == 0).mean():.3%} of pixels equal, "
            f"furthest {off.max()}"
        )
        if off.max() > 1 or (off > 0).mean() > 0.005:
            wrong.append(f"frames of plane{plane}/{path.name} are not those read from the raw file")
    return lines, wrong


def times(folder: Path) -> dict[str, float]:
    """Seconds of each step, as suite2p keeps them in the ops of a plane."""
    ops = np.load(folder / "ops.npy", allow_pickle=True).item()
    return {key: float(value) for key, value in ops["plane_times"].items()}


def main(arguments: list[str] | None = None) -> None:
    """Run, print, and raise SystemExit where results differ."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=500, help="of each plane")
    parser.add_argument("--size", type=int, default=160, help="rows and columns, in pixels")
    parser.add_argument("--cells", type=int, default=60, help="of each plane")
    parser.add_argument("--warm-up", type=int, default=250, help="frames of runs not counted")
    parser.add_argument("--folder", type=Path, help="where all is written, and removed")
    options = parser.parse_args(arguments)
    try:
        import suite2p  # noqa: F401
    except ImportError:
        raise SystemExit(HOW) from None
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        if options.warm_up:  # so that neither pays for what is compiled or loaded once
            both(folder / "first", options.warm_up, 96, 20)
        walls = both(folder, options.frames, options.size, options.cells)
        wrong = report(folder, walls, options)
    if wrong:
        sys.exit("\n".join(["results differ:", *wrong]))


def both(folder: Path, n_frames: int, size: int, n_cells: int) -> dict[str, float]:
    """Run suite2p on a recording without and with xs2p; seconds of each."""
    (folder / "raw").mkdir(parents=True)
    write_recording(folder / "raw" / "rec.tif", n_frames, size, n_cells)
    runs = {"suite2p": nullcontext(), "with xs2p": xs2p.suite2p.patched(keep_masks=True)}
    return {kind: run(folder / "raw", folder / kind, how) for kind, how in runs.items()}


def report(folder: Path, walls: dict[str, float], options: Any) -> list[str]:
    """Print what was measured; what is wrong of it."""
    import importlib.metadata
    from types import SimpleNamespace

    print(machine(SimpleNamespace(name=f"suite2p {importlib.metadata.version('suite2p')}")))
    print(
        f"{PLANES} planes, {CHANNELS} channels, {options.frames} frames of "
        f"{options.size} × {options.size} of each\n"
    )
    print("| step | suite2p | with xs2p | ratio |\n|---|---|---|---|")
    wrong: list[str] = []
    for plane in range(PLANES):
        a, b = (times(folder / kind / "suite2p" / f"plane{plane}") for kind in walls)
        for step in a:
            pair = f"{a[step]:.2f} s | {b[step]:.2f} s"
            print(f"| plane {plane}, {step} | {pair} | {short(a[step] / max(b[step], 1e-9))} × |")
    a, b = walls.values()
    print(f"| **whole run** | {a:.1f} s | {b:.1f} s | {short(a / b)} × |\n")
    for plane in range(PLANES):
        pair = [folder / kind / "suite2p" / f"plane{plane}" for kind in walls]
        print(f"- plane {plane}: {told(*pair)}")
        wrong += [f"plane {plane}: {what}" for what in compare(*pair)]
    lines, more = replayed(folder / "raw" / "rec.tif", folder / "suite2p" / "suite2p")
    print("\n".join(f"- {line}" for line in lines))
    return wrong + more


if __name__ == "__main__":
    main()
