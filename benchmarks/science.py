"""From F to a signal, in numbers: dF/F, lost frames, noise, neuropil, tau, demixing, time.

From the top of a checkout:

    python -m benchmarks.science

What can be shipped is in ``tests/data``. Where the environment variable ``XS2P_DATA`` names a
folder with the recordings that cannot, they are used too: ``suite2p-folder-1p`` and
``suite2p-folder-2p`` (suite2p's own output), ``movie-2p-2000x128x128/oracle_suite2p_1.1.0.npz`` and
``movie-2p-500x64x64/oracle_suite2p_1.1.0.npz`` (F and Fneu), and ``spikes/spikes_a.npz`` (F, Fneu
and the spikes of a cell-attached electrode). The whole takes some ten minutes, and 1 GB in
``--folder``.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import xs2p
from benchmarks import plain
from benchmarks.science_cost import STEPS, Sizes, graphs, row, table, times
from benchmarks.science_demix import demixing
from benchmarks.science_spikes import spikes
from benchmarks.science_tau import wise as tables_of_tau
from benchmarks.versus_suite2p import machine

DATA = Path(__file__).parent.parent / "tests" / "data"
RATIO, TAU = 0.7, 0.7
SECTIONS = (
    *("dff", "frames", "noise", "baselines", "spikes", "wise", "demix"),
    *("times", "graphs"),
)
ORACLE = "movie-2p-2000x128x128/oracle_suite2p_1.1.0.npz"
NO_SPIKES = "Not measured: XS2P_DATA names no folder with spikes/spikes_a.npz."


class Recording(NamedTuple):
    name: str
    traces: xr.Dataset
    """F and Fneu."""


def dataset(F: np.ndarray, Fneu: np.ndarray, fs: float) -> xr.Dataset:
    ds = {name: (("roi", "time"), a, {"fs": fs}) for name, a in (("F", F), ("Fneu", Fneu))}
    return xr.Dataset(ds)


def private(name: str) -> Path | None:
    """A file or folder of the recordings that cannot be shipped, where it is."""
    folder = os.environ.get("XS2P_DATA")
    path = Path(folder) / name if folder else None
    return path if path is not None and path.exists() else None


def recordings(toy: bool) -> list[Recording]:
    """Real F and Fneu; ROIs that have no pixel of their own, with rows of zeros, are left out."""
    found = []
    for name, shipped in (
        ("suite2p-folder-1p", "pynapple_a0662_1p.npz"),
        ("suite2p-folder-2p", "nape_ofc_vta_2p.npz"),
        ("movie-2p-2000x128x128", None),
        ("movie-2p-500x64x64", "thunder_oracle.npz"),
    ):
        path = private(name)
        if path is None and shipped is None:
            continue
        if path is not None and name.startswith("suite2p"):
            ds = xs2p.read_suite2p(path)
            F, Fneu, fs = ds.F.values, ds.Fneu.values, ds.attrs["fs"]
        else:
            z = np.load(DATA / str(shipped) if path is None else path / "oracle_suite2p_1.1.0.npz")
            F, Fneu, fs = z["F"], z["Fneu"], float(z["fs" if "fs" in z.files else "ops_fs"])
        kept = np.flatnonzero(np.nan_to_num(F).any(axis=1))[: 12 if toy else None]
        found.append(Recording(name if path else str(shipped), dataset(F[kept], Fneu[kept], fs)))
    return found


def dff(toy: bool) -> Iterator[str]:
    """How often dF/F explodes, plain and guarded, with neuropil taken off in full or centred."""
    yield "\n### dF/F\n"
    yield f"maximin of 60 s, neuropil coefficient {RATIO}; numbers of ROIs"
    yield table(
        *("recording", "ROIs", "neuropil", "F0 ≤ 0 somewhere", "abs((Fc − F0) / F0) > 10"),
        *("abs(dFF) > 10", "of them no other flag", "no flag", "largest abs(dFF) of these"),
    )
    all_of = {"full": [0, 0, 0, 0, 0, 0, 0.0], "centred": [0, 0, 0, 0, 0, 0, 0.0]}
    for recording in recordings(toy):
        for neuropil, total in all_of.items():
            counts = exploded(recording.traces, neuropil)
            yield row(recording.name, counts[0], neuropil, *counts[1:])
            total[:] = [a + b for a, b in zip(total[:-1], counts, strict=False)] + [
                max(total[-1], counts[-1])
            ]
    for neuropil, total in all_of.items():
        yield row("**all**", total[0], neuropil, *total[1:])
    yield "\nClaimed of all 684 ROIs of the four: F0 ≤ 0 in 134, centred 26; above 10: 188, 21."


def exploded(traces: xr.Dataset, neuropil: str) -> list[Any]:
    """Numbers of ROIs of which something is true; the last is the largest dF/F without a flag."""
    ds = traces.s2p.reprocess(
        neuropil_coefficient=RATIO, neuropil=neuropil, baseline="maximin", dff=True
    )
    Fc, F0, flags = ds.Fc.values, ds.F0.values, ds.dff_flag.values
    with np.errstate(all="ignore"):
        unguarded = plain.largest((Fc - F0) / F0)
    guarded, good = plain.largest(ds.dFF.values), flags == 0
    return [
        len(flags),
        int((F0 <= 0).any(axis=1).sum()),
        int((unguarded > 10).sum()),
        int((guarded > 10).sum()),
        int(((guarded > 10) & (flags & 7 == 0)).sum()),
        int(good.sum()),
        float(guarded[good].max(initial=0)),
    ]


class Cell(NamedTuple):
    """A recording with known spikes."""

    F: np.ndarray
    Fneu: np.ndarray
    fs: float
    spikes: np.ndarray
    """Spikes of each frame."""
    times: np.ndarray
    """Of each spike, in s."""
    name: str = ""


def cells(toy: bool) -> list[Cell] | None:
    path = private("spikes/spikes_a.npz")
    if path is None:
        return None
    z, found = np.load(path), []
    frames, spikes = (np.cumsum([0, *z[n]]) for n in ("n", "n_spikes"))
    for n, fs in enumerate(z["fs"][: 3 if toy else None].tolist()):
        F, Fneu = (z[name][frames[n] : frames[n + 1]] for name in ("F", "Fneu"))
        times = z["spikes"][spikes[n] : spikes[n + 1]]
        count = np.histogram(times, np.arange(F.size + 1) / fs)[0].astype(float)
        found.append(Cell(F, Fneu, fs, count, times, str(z["name"][n])))
    return found


def frames(toy: bool) -> Iterator[str]:
    """What becomes of spikes where 100 ms of every second are lost."""
    yield "\n### Frames that do not count\n"
    known = cells(toy)
    if known is None:
        yield NO_SPIKES
        return
    yield f"{len(known)} cells; 100 ms of every second are lost, from its first frame on. OASIS of"
    yield f"F − {RATIO} · Fneu, maximin, tau {TAU} s; r with the true spikes in all frames, both"
    yield "smoothed with a Gaussian of 0.1 s; NaN in spks is 0"
    yield table("frames", "median r", "quartiles", "claimed")
    found = [correlations(cell) for cell in known]
    for way, claim in CLAIMS.items():
        low, middle, high = np.percentile([r[way] for r in found], (25, 50, 75))
        yield row(way, f"**{middle:.3f}**", f"{low:.3f} to {high:.3f}", claim)


ALL, VALID, COUNTED = "all, none lost", "lost, not `valid`", "the same, r in frames that count"
INTERPOLATED = "lost, interpolated linearly by hand"
AFTER, BEFORE = "lost, 0 after the baseline is taken off", "lost, F and Fneu are 0"
HALF, WHOLE = "kept: F is half its median higher there", "kept: F is its median higher there"
CLAIMS = {
    ALL: "0.89",
    VALID: "≥ 0.88",
    COUNTED: "–",
    INTERPOLATED: "–",
    AFTER: "0.86",
    BEFORE: "0.86",
    HALF: "0.58",
    WHOLE: "0.58",
}


def correlations(cell: Cell) -> dict[str, float]:
    """Correlation of spikes with the true ones by what is done with frames that are lost."""
    seconds = np.arange(cell.F.size) / cell.fs
    lost = seconds % 1.0 < 0.1
    Fc = cell.F - np.float32(RATIO) * cell.Fneu
    light = np.float32(np.median(cell.F))

    def spikes(F: np.ndarray, valid: np.ndarray | None = None, after: Any = None) -> np.ndarray:
        traces = xr.DataArray(F[None].astype(np.float32), dims=("roi", "time"))
        if valid is not None:
            traces = traces.assign_coords(valid=("time", valid))
        flat = xs2p.preprocess(traces, "maximin", fs=cell.fs)
        flat = flat if after is None else flat.where(after, 0.0)
        return xs2p.deconvolve(flat, tau=TAU, fs=cell.fs).values[0]

    bridged = Fc.copy()
    bridged[lost] = np.interp(seconds[lost], seconds[~lost], Fc[~lost])
    marked, known = spikes(Fc, valid=~lost), xr.DataArray(~lost, dims="time")
    found = {
        ALL: spikes(Fc),
        VALID: marked,
        INTERPOLATED: spikes(bridged),
        AFTER: spikes(Fc, after=known),
        BEFORE: spikes(np.where(lost, 0, Fc)),
        HALF: spikes(Fc + 0.5 * light * lost),
        WHOLE: spikes(Fc + light * lost),
    }
    r = {way: correlation(spks, cell) for way, spks in found.items()}
    return {**r, COUNTED: correlation(marked, cell, ~lost)}


def correlation(spks: np.ndarray, cell: Cell, where: Any = slice(None)) -> float:
    from scipy.ndimage import gaussian_filter1d

    both = [np.nan_to_num(spks).astype(float), cell.spikes]
    smooth = [gaussian_filter1d(x, 0.1 * cell.fs)[where] for x in both]
    return float(np.corrcoef(*smooth)[0, 1])


def noise(toy: bool) -> Iterator[str]:
    """Whether the noise level ν is the same at another frame rate."""
    yield "\n### Noise level ν\n"
    known = cells(toy)
    if known is None:
        yield NO_SPIKES
        return
    yield f"`xs2p.quality` of dF/F (maximin, coefficient {RATIO}) of {len(known)} cells, in % / √Hz"
    yield table("frames", "median Hz", "median ν", "quartiles", "claimed")
    levels = {together: [noise_level(cell, together) for cell in known] for together in (1, 4)}
    fs = float(np.median([cell.fs for cell in known]))
    for together, claim in ((1, 1.42), (4, 1.41)):
        low, middle, high = np.percentile(levels[together], (25, 50, 75))
        which = "as recorded" if together == 1 else f"means of {together}"
        quartiles = f"{low:.2f} to {high:.2f}"
        yield row(which, f"{fs / together:.1f}", f"**{middle:.3f}**", quartiles, claim)
    change = np.abs(np.divide(levels[4], levels[1]) - 1)
    yield f"\nOf one cell the two differ by {np.median(change):.1%} (median), {change.max():.1%} at"
    yield "most."


def noise_level(cell: Cell, together: int) -> float:
    """ν of the means of so many frames."""
    n = cell.F.size // together * together
    F, Fneu = (a[:n].reshape(1, -1, together).mean(axis=-1) for a in (cell.F, cell.Fneu))
    ds = dataset(F, Fneu, cell.fs / together).s2p.reprocess(
        neuropil_coefficient=RATIO, baseline="maximin", dff=True
    )
    return float(xs2p.quality(ds).noise_level[0])


def wise(toy: bool) -> Iterator[str]:
    """How much neuropil, and which tau."""
    known = cells(toy)
    if known is None:
        yield f"\n### How much neuropil, which tau\n\n{NO_SPIKES}"
        return
    yield from tables_of_tau(known, correlation, recordings(toy))


def baselines(toy: bool) -> Iterator[str]:
    """Whether rolling baselines are those of naive windows, and aind-ophys-utils' numbers."""
    yield "\n### Baselines beside naive ones\n"
    yield "Windows of 60 s of real traces, each sorted in float64; every fifth ROI. Difference over"
    yield "the largest F0 of the trace, at most"
    methods = ("rolling_prctile", "rolling_median", "inactive_median")
    yield table("recording", "traces × frames", *methods, "noise")
    for recording in recordings(toy):
        ds = recording.traces.isel(roi=slice(None, None, 5))
        ds = ds.isel(time=slice(0, 200 if toy else None))
        Fc = (ds.F - np.float32(RATIO) * ds.Fneu).assign_attrs(ds.F.attrs)
        far = [f"{furthest(Fc, method):.1g}" for method in (*methods, "noise")]
        yield row(recording.name, f"{Fc.sizes['roi']} × {Fc.sizes['time']}", *far)
    yield from beside_aind()
    if importlib.util.find_spec("aind_ophys_utils") is not None:
        yield from beside_installed(toy)


def furthest(Fc: xr.DataArray, method: str) -> float:
    """Largest difference of a baseline, or of the noise, from the naive one."""
    fs = Fc.attrs["fs"]
    window, short = (int(seconds * fs / 2) * 2 + 1 for seconds in (60.0, 3.33))
    ours = xs2p.noise(Fc) if method == "noise" else xs2p.baseline(Fc, method)
    far = 0.0
    for trace, made in zip(Fc.values.astype(float), ours.values, strict=True):
        sigma = plain.naive_noise(trace, short) if method in ("noise", "inactive_median") else 0.0
        if method == "noise":
            naive = np.array(sigma)
        elif method == "inactive_median":
            naive = plain.naive_inactive(trace, window, window, 3 * sigma)
        else:
            naive = plain.naive_rolling(trace, window, 8.0 if method == "rolling_prctile" else 50.0)
        most = np.abs(naive).max()
        far = max(far, float(np.abs(made - naive).max() / (most if most > 0 else 1.0)))
    return far


def beside_aind() -> Iterator[str]:
    """Differences from numbers of aind-ophys-utils 0.2.0, of two simulated traces."""
    from xs2p.traces import rolling_cpu

    z = np.load(DATA / "aind_dff.npz")
    F = xr.DataArray(z["F"], dims=("roi", "time"), attrs={"fs": z["fs"].item()})
    window = int(60 * z["fs"] / 2) * 2 + 1
    low = xs2p.baseline(F, "rolling_prctile", prctile_baseline=10)[:, ::5]
    own = rolling_cpu.inactive_median(z["F"], window, window, 3 * z["sigma"][:, None])[:, ::5]
    ours = xs2p.baseline(F, "inactive_median")[:, ::5]
    yield "\nBeside the numbers of aind-ophys-utils 0.2.0, of two simulated traces (relative, at"
    yield "most):"
    yield table("what", "difference")
    yield row("rolling 10th percentile over 60 s", float(np.abs(low / z["low"] - 1).max()))
    yield row("median of inactive frames, by its own σ", float(np.abs(own / z["F0"] - 1).max()))
    yield row("the same by `xs2p.noise`", float(np.abs(ours / z["F0"] - 1).max()))
    yield row("`xs2p.noise` beside its σ", float(np.abs(xs2p.noise(F) / z["sigma"] - 1).max()))


def beside_installed(toy: bool) -> Iterator[str]:
    """aind-ophys-utils itself, where it is installed, of real traces."""
    from aind_ophys_utils.dff import dff as theirs

    yield "\n`aind_ophys_utils.dff.dff` of real traces, every third ROI, neuropil centred; of each"
    yield "ROI σ over theirs, the largest difference of F0 over its largest, and r of dF/F: the"
    yield "median and what nine of ten ROIs keep to."
    yield table("recording", "ROIs", "σ", "F0", "r of dF/F")
    for recording in recordings(toy):
        ds = recording.traces.isel(roi=slice(None, None, 3)).s2p.reprocess(
            neuropil_coefficient=RATIO, neuropil="centred", baseline="inactive_median", dff=True
        )
        found = []
        for n, Fc in enumerate(ds.Fc.values.astype(float)):
            dFF, F0, sigma = theirs(Fc, 60, 3.333, ds.Fc.attrs["fs"])
            if sigma > 0:  # else theirs is infinite and ours is NaN
                far = np.abs(ds.F0.values[n] - F0).max() / np.abs(F0).max()
                r = np.corrcoef(ds.dFF.values[n], dFF)[0, 1]
                found.append((float(ds.noise[n]) / sigma, far, r))
        sigma, far, r = np.transpose(found)
        yield row(
            recording.name,
            len(found),
            f"{np.median(sigma):.3f}, {np.percentile(sigma, 90):.3f}",
            f"{np.median(far):.1%}, {np.percentile(far, 90):.1%}",
            f"{np.median(r):.5f}, {np.percentile(r, 10):.5f}",
        )


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="of each time; median")
    parser.add_argument("--folder", type=Path, help="where the movie is written, and removed")
    parser.add_argument("--movie-frames", type=int, default=2000, help="of 512 × 512, int16")
    parser.add_argument("--sections", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS, help="of the times")
    parser.add_argument("--toy", action="store_true", help="tiny sizes: only to see it run")
    options = parser.parse_args(arguments)
    sizes = (
        Sizes.toy()
        if options.toy
        else Sizes(of_movie=options.movie_frames, repeats=options.repeats)
    )
    print(machine(), flush=True)
    for section in options.sections:
        with tempfile.TemporaryDirectory(dir=options.folder) as folder, warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*ROIs lack a mask")
            lines = {
                "dff": lambda: dff(options.toy),
                "frames": lambda: frames(options.toy),
                "noise": lambda: noise(options.toy),
                "baselines": lambda: baselines(options.toy),
                "spikes": lambda: spikes(cells(options.toy), sizes.repeats, options.toy),
                "wise": lambda: wise(options.toy),
                "demix": lambda: demixing(private(ORACLE), options.toy),
                "times": lambda folder=folder: times(sizes, Path(folder), options.steps),
                "graphs": lambda: graphs(sizes),
            }[section]()
            for line in lines:
                print(line, flush=True)


if __name__ == "__main__":
    main()
