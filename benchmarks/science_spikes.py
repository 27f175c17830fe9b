"""Spikes one can read: events beside true spikes, oasis-deconv's numbers, a tau of each ROI."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

import xs2p
from benchmarks.science_cost import row, table
from xs2p.traces import sparse_cpu

DATA = Path(__file__).parent.parent / "tests" / "data"
RATIO, TAU, NEAR = 0.7, 0.7, 0.1
THRESHOLDS = (2, 3, 4, 6)


def spikes(known: Sequence[Any] | None, repeats: int, toy: bool) -> Iterator[str]:
    """All of it; ``known`` are cells with true spikes."""
    yield "\n### Spikes one can read\n"
    yield from _taus(repeats, toy)
    yield from _costs(repeats, toy)
    yield from _beside_oasis_deconv()
    if known is None:
        yield "\nEvents: not measured, XS2P_DATA names no folder with spikes/spikes_a.npz."
    else:
        yield from _events(known)


def _simulated(n_rois: int, n_frames: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    c = rng.poisson(0.02, (n_rois, n_frames)).astype(np.float32)
    for t in range(1, n_frames):
        c[:, t] += np.float32(0.97) * c[:, t - 1]
    return 3 * c + rng.normal(0, 1, c.shape).astype(np.float32)


def _timed(calls: dict[str, Callable[[], Any]], repeats: int) -> dict[str, tuple[float, float]]:
    """Median time of each and of the cores at it, in turn, after one that is not counted."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for n in range(repeats + 1):
        for name, call in calls.items():
            start, work = time.perf_counter(), time.process_time()
            call()
            if n:
                taken[name].append((time.perf_counter() - start, time.process_time() - work))
    found = {name: np.median(each, axis=0).tolist() for name, each in taken.items()}
    return {name: (wall, work) for name, (wall, work) in found.items()}


def _rows(calls: dict[str, Callable[[], Any]], repeats: int, *before: str) -> Iterator[str]:
    """Rows of times, and the ratio of the cores' to that of the first."""
    taken = _timed(calls, repeats)
    first = next(iter(taken.values()))[1]
    for name, (wall, work) in taken.items():
        yield row(*before, name, f"{wall:.3f} s", f"{work:.3f} s", f"**{work / first:.2f}**")


def _taus(repeats: int, toy: bool) -> Iterator[str]:
    n_rois, n_frames = (40, 300) if toy else (10_000, 5_000)
    F = xr.DataArray(_simulated(n_rois, n_frames), dims=("roi", "time"), attrs={"fs": 30.0})
    lost = F.assign_coords(valid=("time", np.arange(n_frames) % 4000 >= 0.15 * min(n_frames, 4000)))
    each = xr.DataArray(np.linspace(0.3, 2.0, n_rois), dims="roi")
    two = xr.where(each > 1, 1.0, 0.5)
    yield f"OASIS of {n_rois} ROIs × {n_frames} frames at 30 Hz, medians of {repeats}; ratios"
    yield "are of the time of the cores, which others on the machine change less"
    yield table("frames", "tau", "time", "of the cores", "ratio to one tau for all")
    for name, traces in (("all count", F), ("gaps of 600, which are forgotten", lost)):
        calls: dict[str, Callable[[], Any]] = {
            how: lambda tau=tau, traces=traces: xs2p.deconvolve(traces, tau=tau)
            for how, tau in (("1 s for all", 1.0), ("two", two), ("0.3 to 2 s, all differ", each))
        }
        yield from _rows(calls, repeats, name)


def _costs(repeats: int, toy: bool) -> Iterator[str]:
    n_rois, n_frames = (20, 300) if toy else (1000, 5_000)
    F = xr.DataArray(_simulated(n_rois, n_frames), dims=("roi", "time"), attrs={"fs": 30.0})
    calls: dict[str, Callable[[], Any]] = {
        name: lambda how=how: xs2p.deconvolve(F, tau=1.0, **how)
        for name, how in (
            ("plain", {}),
            ("`return_denoised=True`", {"return_denoised": True}),
            ("`s_min=2`", {"s_min": 2.0}),
            ("`penalty=2`", {"penalty": 2.0}),
            ('`penalty="noise"`', {"penalty": "noise"}),
        )
    }
    yield f"\n{n_rois} ROIs × {n_frames} frames that all count, medians of {repeats} in turn"
    yield table("deconvolve", "time", "of the cores", "ratio to plain")
    yield from _rows(calls, repeats)


def _beside_oasis_deconv() -> Iterator[str]:
    with np.load(DATA / "oasis_deconv_sparse.npz") as kept:
        z = dict(kept)
    tau_fs = np.float32(z["tau"])
    yield "\nBeside the numbers of oasis-deconv 0.3.2, of four simulated traces of 600 frames, with"
    yield "and without frames that are NaN: largest difference, in float32, of"
    yield f"calcium up to {np.nanmax(z['F']):.1f}"
    yield table("what", "c", "s")
    for name, how in (("s_min", (0.0, 0.5)), ("penalty", (0.8, 0.0)), ("both", (0.2, 0.4))):
        far = []
        for what, calcium in (("c", True), ("s", False)):
            pairs = ((z["F"], ""), (z["holed"], "_holed"))
            each = [
                np.abs(sparse_cpu.sparse(F, tau_fs, *how, calcium) - z[f"{what}_{name}{holed}"])
                for F, holed in pairs
            ]
            far.append(f"{max(float(np.nanmax(a)) for a in each):.1g}")
        yield row(f"`{name}`", *far)
    found = sparse_cpu.penalties(z["F"], tau_fs, z["sigma"])
    apart = np.abs(found / z["lam"] - 1)
    left = (((z["F"] - z["c_noise"]) / z["sigma"]) ** 2).mean(axis=1)
    yield "\nThe penalty by the noise: λ differs by " + ", ".join(f"{a:.1g}" for a in apart) + ","
    yield "its sum of squares from the one wanted by " + ", ".join(f"{a:.1g}" for a in left - 1)
    yield "(its steps end early; ours by less than 1e-10)."


WAYS: dict[str, dict[str, Any]] = {
    "plain": {},
    '`penalty="noise"`': {"penalty": "noise"},
    "`s_min` of 2 · noise": {"s_min": 2.0},
}


def _events(known: Sequence[Any]) -> Iterator[str]:
    yield f"\n`xs2p.events` of {len(known)} cells with an electrode; F − {RATIO} · Fneu, maximin,"
    yield f"tau {TAU} s. An event is right where there is a spike within ±{NEAR * 1000:g} ms, a"
    yield "spike is found where there is an event; F1 of both, medians over cells. In a burst, one"
    yield "event may find several spikes; one to one, each event finds one spike at most"
    yield table(
        *("deconvolve", "threshold", "right", "found", "**F1**", "quartiles"),
        *("F1 one to one", "events for each spike"),
    )
    for name, how in WAYS.items():
        found = [_spikes_of(cell, how) for cell in known]
        for threshold in (0,) if "s_min" in how else THRESHOLDS:
            each = np.array(
                [
                    _scores(xs2p.events(spks, threshold).onset.values, cell)
                    for spks, cell in zip(found, known, strict=True)
                ]
            )
            right, hit, f1, single, many = np.median(each, axis=0)
            low, high = np.percentile(each[:, 2], (25, 75))
            yield row(
                *(name, threshold, f"{right:.2f}", f"{hit:.2f}", f"**{f1:.3f}**"),
                *(f"{low:.2f} to {high:.2f}", f"{single:.2f}", f"{many:.2f}"),
            )


def _spikes_of(cell: Any, how: dict[str, Any]) -> xr.DataArray:
    Fc = (cell.F - np.float32(RATIO) * cell.Fneu)[None].astype(np.float32)
    traces = xr.DataArray(Fc, dims=("roi", "time"), attrs={"fs": cell.fs})
    flat = xs2p.preprocess(traces, "maximin")
    scale = float(xs2p.noise(traces)[0])
    how = {name: value * scale if name == "s_min" else value for name, value in how.items()}
    return xs2p.deconvolve(flat, tau=TAU, **how)


def _scores(onsets: np.ndarray, cell: Any) -> tuple[float, ...]:
    """Share that is right and found, F1, F1 one to one, events for each spike."""
    true = np.sort(cell.times)
    if not onsets.size or not true.size:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    near = np.abs(onsets[:, None] - true) <= NEAR
    right, found = float(near.any(axis=1).mean()), float(near.any(axis=0).mean())
    f1 = 2 * right * found / max(right + found, 1e-9)
    n = m = pairs = 0
    while n < onsets.size and m < true.size:  # both in order: the first that fits is the best
        apart = onsets[n] - true[m]
        both = abs(apart) <= NEAR
        pairs += both
        n, m = n + (both or apart < 0), m + (both or apart > 0)
    single = 2 * pairs / (onsets.size + true.size)
    return right, found, f1, single, onsets.size / true.size
