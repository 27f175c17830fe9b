"""How much neuropil and which tau, in numbers: known ones found, and spikes beside true ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

import xs2p
from benchmarks.science_cost import row, table

if TYPE_CHECKING:
    from benchmarks.science import Cell, Recording

RATIO, TAU = 0.7, 0.7
METHODS = ("binned", "mutualinfo")
RATIOS = (0.3, 0.5, 0.7, 0.9)
TOGETHER = 4  # frames of 122 Hz that make one of 30 Hz
Correlation = Callable[[np.ndarray, "Cell"], float]


def wise(known: list[Cell], correlation: Correlation, others: list[Recording]) -> Iterator[str]:
    """Tables of the neuropil coefficient and of tau."""
    yield "\n### How much neuropil, which tau\n"
    yield from known_ratios(known)
    yield from short_ratios(others)
    yield from ratios(known, correlation)
    yield from taus(known, correlation)


def means(x: np.ndarray, together: int) -> np.ndarray:
    n = x.size // together * together
    return x[:n].reshape(-1, together).mean(axis=1)


def found(F: np.ndarray, Fneu: np.ndarray, fs: float, method: str) -> xr.DataArray:
    """Coefficients of traces ``(roi, time)``."""
    traces = (xr.DataArray(x.astype("f4"), dims=("roi", "time")) for x in (F, Fneu))
    return xs2p.neuropil_coefficient(*traces, method, fs=fs)


def known_ratios(known: list[Cell]) -> Iterator[str]:
    """Whether a known r of real neuropil is found."""
    yield f"A known r ({', '.join(map(str, RATIOS))}) of the real Fneu of {len(known)} cells, as"
    yield f"means of {TOGETHER} frames (30 Hz), under a cell of the true spikes (decay 0.5 s, 30 %"
    yield "of the median Fneu each, over 50 %) with white noise as that of F by its steps, or twice"
    yield "of it:"
    yield table("method", "noise", "median error", "90th percentile", "median bias", "claimed")
    rng = np.random.default_rng(0)
    errors: dict[tuple[str, int], list[float]] = {(m, n): [] for m in METHODS for n in (1, 2)}
    for cell in known:
        fs = cell.fs / TOGETHER
        F, Fneu = (means(x, TOGETHER) for x in (cell.F, cell.Fneu))
        spikes, light = TOGETHER * means(cell.spikes, TOGETHER), np.median(Fneu)
        decay = np.exp(-np.arange(int(2.5 * fs)) / (0.5 * fs))
        own = light * (0.5 + 0.3 * np.convolve(spikes, decay)[: F.size])
        sigma = 1.4826 * np.median(np.abs(np.diff(F))) / np.sqrt(2)
        whole = np.stack([own + r * Fneu for r in RATIOS])
        noise = rng.normal(0, sigma, whole.shape)
        for method, times in errors:
            seen = whole + times * noise
            raw = found(seen, np.broadcast_to(Fneu, seen.shape), fs, method).raw
            errors[method, times] += (raw.values - RATIOS).tolist()
    for (method, times), off in errors.items():
        cells = (float(np.percentile(np.abs(off), 90)), float(np.median(off)))
        claim = "≤ 0.06" if times == 1 else "–"
        yield row(method, f"{times} ×", f"**{np.median(np.abs(off)):.3f}**", *cells, claim)


def short_ratios(others: list[Recording]) -> Iterator[str]:
    """Whether it is found in about a minute of neuropil."""
    yield "\nThe same of short recordings, cells of random spikes (0.2 / s, decay 0.7 s):"
    yield table("recording", "ROIs", "minutes", "method", "median error", "90th percentile")
    rng = np.random.default_rng(0)
    for recording in others:
        fs, Fneu = recording.traces.F.attrs["fs"], recording.traces.Fneu.values
        sigma = 1.4826 * np.median(np.abs(np.diff(recording.traces.F.values)), axis=1) / np.sqrt(2)
        spikes = (rng.random(Fneu.shape) < 0.2 / fs).astype(float)
        decay = np.exp(-np.arange(int(3.5 * fs)) / (0.7 * fs))
        calcium = np.apply_along_axis(np.convolve, 1, spikes, decay)[:, : Fneu.shape[1]]
        light = np.median(Fneu, axis=1)[:, None]
        own = light * (0.5 + 0.3 * calcium) + rng.normal(0, 1, Fneu.shape) * sigma[:, None]
        for method in METHODS:
            off = [found(own + r * Fneu, Fneu, fs, method).raw.values - r for r in RATIOS]
            errors = np.abs(np.concatenate(off))
            errors = errors[np.isfinite(errors)]
            minutes = Fneu.shape[1] / fs / 60
            about = (recording.name, len(Fneu), f"{minutes:.1f}", method)
            yield row(*about, f"**{np.median(errors):.3f}**", float(np.percentile(errors, 90)))


def spiking(cell: Cell, ratio: float, tau: float) -> np.ndarray:
    """Spikes as in the table of frames that do not count."""
    Fc = (cell.F - np.float32(ratio) * cell.Fneu).astype(np.float32)
    flat = xs2p.preprocess(xr.DataArray(Fc[None], dims=("roi", "time")), "maximin", fs=cell.fs)
    return xs2p.deconvolve(flat, tau=tau, fs=cell.fs).values[0]


def shared(values: list[float] | np.ndarray) -> str:
    low, high = np.percentile(values, (25, 75))
    return f"{low:.2f} to {high:.2f}"


def ratios(known: list[Cell], correlation: Correlation) -> Iterator[str]:
    """Spikes with a coefficient of each cell, beside those with 0.7."""
    yield f"\nSpikes (maximin, tau {TAU} s) with the coefficient of each cell; r with the true"
    yield "spikes, both smoothed with a Gaussian of 0.1 s:"
    yield table("coefficient", "median", "quartiles", "median r", "beside 0.7", "claimed")
    usual = np.median([correlation(spiking(cell, RATIO, TAU), cell) for cell in known])
    yield row("0.7 for all", 0.7, "–", f"**{usual:.4f}**", "–", "–")
    for together, words in ((1, "122 Hz"), (TOGETHER, "means of 4 frames")):
        for method in METHODS:
            parts = [[means(x, together) for x in (c.F, c.Fneu)] for c in known]
            whole = [np.stack(each) for each in zip(*parts, strict=True)]
            used = found(*whole, known[0].fs / together, method).values
            r = np.median(
                [
                    correlation(spiking(cell, ratio, TAU), cell)
                    for cell, ratio in zip(known, used, strict=True)
                ]
            )
            cells = (float(np.median(used)), shared(used), f"**{r:.4f}**", f"{r - usual:+.4f}")
            yield row(f"{method}, {words}", *cells, "≥ −0.005")


def taus(known: list[Cell], correlation: Correlation) -> Iterator[str]:
    """Spikes with an estimated tau, and with others, beside those with 0.7 s."""
    yield f"\nSpikes (maximin, coefficient {RATIO}) by tau; the last {sum(map(is_7f, known))} cells"
    yield "are of jGCaMP7f, the others of XCaMP-Gf:"
    yield table("tau", "s", "median r", "beside 0.7 s", "of jGCaMP7f", "claimed")
    flat = [
        xs2p.preprocess(
            xr.DataArray(
                (c.F - np.float32(RATIO) * c.Fneu)[None].astype("f4"), dims=("roi", "time")
            ),
            "maximin",
            fs=c.fs,
        )
        for c in known
    ]
    whole = xr.concat(flat, "roi")
    estimate = xs2p.estimate_tau(whole, fs=known[0].fs)
    pooled, each = float(estimate.tau), estimate.tau_of_roi.values
    spread = f"{float(estimate.tau_low):.2f} to {float(estimate.tau_high):.2f}"
    listed = float(xs2p.indicators().tau.sel(indicator="jGCaMP7f"))
    ways: dict[str, tuple[str, list[float], str]] = {
        "fixed": ("0.7", [TAU] * len(known), "–"),
        f"pooled (ROIs: {spread})": (f"{pooled:.2f}", [pooled] * len(known), "≥ −0.006"),
        "each ROI's own, a diagnostic": ("–", np.where(each > 0, each, pooled).tolist(), "–"),
        '`"jGCaMP7f"`': (f"{listed:.2f}", [listed] * len(known), "–"),
        "fixed ": ("0.4", [0.4] * len(known), "–"),
        "fixed  ": ("1.0", [1.0] * len(known), "–"),
    }
    usual = 0.0
    late = np.array([is_7f(cell) for cell in known])
    for way, (shown, seconds, claim) in ways.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "tau is ")  # that of a single ROI may be anything
            r = [
                correlation(spiking(cell, RATIO, tau), cell)
                for cell, tau in zip(known, seconds, strict=True)
            ]
        usual = usual or float(np.median(r))
        of_7f = f"{np.median(np.array(r)[late]):.4f}" if late.any() else "–"
        beside = f"{np.median(r) - usual:+.4f}"
        yield row(way.strip(), shown, f"**{np.median(r):.4f}**", beside, of_7f, claim)


def is_7f(cell: Cell) -> bool:
    return "7f" in cell.name
