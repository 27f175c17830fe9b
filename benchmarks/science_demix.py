"""Demixing beside masks: simulated activity on real layouts of ROIs, and what it costs.

Every ROI fires at random (0.3 Hz) and decays with 0.7 s at 30 Hz; its light has the shape of its
``lam``. Four smooth fields, of 32 pixels and half a second, are the neuropil, as large as the light
of one spike, and the noise of a pixel is a seventh of that; of finer neuropil, and of one-photon
ROIs, fields of a part of the frame, half as large, and noise of a fifth. The neuropil is added
everywhere alike, so that the right coefficient for masks is 1. How large and smooth noise and
neuropil are was chosen so that masks and least squares of the 359 ROIs are as near to the truth as
was claimed. The footprints that are fitted are those of the light, but where they are a pixel off.
"""

from __future__ import annotations

import functools
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import xarray as xr

import xs2p
from benchmarks.scaling import make_rois
from benchmarks.science_cost import row, table
from xs2p.traces.demix import Demixer, check_demixing

DATA = Path(__file__).parent.parent / "tests" / "data"
FS, TAU, RATE, MODES = 30.0, 0.7, 0.3, 4
ROUNDS = 11
SPIKE, LIGHT = 100.0, 200.0
PIXELS = 32  # of the fields of neuropil


class Simulation(NamedTuple):
    rois: xr.Dataset
    movie: xr.DataArray
    calcium: np.ndarray
    """True signal ``(roi, time)``."""


def simulate(
    rois: xr.Dataset,
    n_frames: int,
    part: float = 6.0,
    neuropil: float = 50.0,
    noise: float = 20.0,
    seed: int = 0,
) -> Simulation:
    """Activity on a layout, with noise and with neuropil of one ``part`` of the frame."""
    from scipy.ndimage import gaussian_filter, gaussian_filter1d

    rng, n = np.random.default_rng(seed), rois.sizes["roi"]
    shape = rois.attrs["Ly"], rois.attrs["Lx"]
    spikes = rng.poisson(RATE / FS, (n, n_frames)) * rng.uniform(0.5, 1.5, (n, n_frames))
    kernel = np.exp(-np.arange(int(6 * TAU * FS)) / (TAU * FS))
    calcium = np.array([np.convolve(s, kernel)[:n_frames] for s in spikes])
    light = np.zeros((n_frames, shape[0] * shape[1]), np.float32)
    ends = np.cumsum(rois.npix.values)
    flat = rois.ypix.values.astype(int) * shape[1] + rois.xpix.values
    for i, (stop, npix) in enumerate(zip(ends, rois.npix.values, strict=True)):
        own = slice(stop - npix, stop)
        lam = rois.lam.values[own]
        light[:, flat[own]] += SPIKE * calcium[i][:, None] * (lam * npix / lam.sum())
    for _ in range(MODES):
        field = gaussian_filter(rng.normal(size=shape), shape[0] / part, mode="nearest").ravel()
        course = gaussian_filter1d(rng.normal(size=n_frames + 200), FS / 2)[100:-100]
        both = np.outer(course / course.std(), field / field.std())
        light += np.float32(neuropil / np.sqrt(MODES)) * both.astype(np.float32)
    light += LIGHT
    light += np.float32(noise) * rng.standard_normal(light.shape, np.float32)
    movie = light.reshape(n_frames, *shape)
    return Simulation(rois, xr.DataArray(movie, dims=("time", "y", "x")), calcium)


def layout(path: Path) -> xr.Dataset:
    """ROIs that were detected in a real movie, as plain arrays keep them."""
    z, stat = np.load(path), []
    prefix = "ops_" if "ops_Ly" in z.files else ""
    for start, stop in zip(z["roi_offsets"][:-1], z["roi_offsets"][1:], strict=True):
        own = {name: z[name][start:stop] for name in ("ypix", "xpix", "lam", "overlap")}
        stat.append(own)
    return xs2p.rois_from_stat(stat, (int(z[f"{prefix}Ly"]), int(z[f"{prefix}Lx"])))


def shifted(rois: xr.Dataset) -> xr.Dataset:
    """The same ROIs a pixel further down, as where frames were registered badly."""
    stat = rois.s2p.to_stat()
    for roi in stat:
        low = np.asarray(roi["ypix"]) + 1 < rois.attrs["Ly"]
        roi["ypix"] = np.where(low, roi["ypix"] + 1, -1)
    moved = [
        {name: np.asarray(roi[name])[roi["ypix"] >= 0] for name in ("ypix", "xpix", "lam")}
        for roi in stat
    ]
    return xs2p.rois_from_stat(moved, (rois.attrs["Ly"], rois.attrs["Lx"]))


def by_masks(coefficient: float) -> Callable[[xr.DataArray, xr.Dataset], np.ndarray]:
    def extract(movie: xr.DataArray, rois: xr.Dataset) -> np.ndarray:
        traces = xs2p.extract_traces(movie, xs2p.build_masks(rois))
        return (traces.F - np.float32(coefficient) * traces.Fneu).values

    return extract


WAYS: dict[str, Callable[[xr.DataArray, xr.Dataset], np.ndarray]] = {
    "masks, coefficient 0.7": by_masks(0.7),
    "masks, coefficient 1": by_masks(1.0),
    "least squares, no background": lambda m, r: xs2p.demix(m, r, background=None).Fc.values,
    "`demix`": lambda m, r: xs2p.demix(m, r).Fc.values,
    "`demix`, nonnegative": lambda m, r: xs2p.demix(m, r, nonnegative=True).Fc.values,
}
SHIFTED = ("masks, coefficient 1", "`demix`")
# Of all ROIs that masks have a trace of; of those that share more than half of their pixels.
CLAIMS = {
    (359, "masks, coefficient 1"): ("0.976", "0.961"),
    (359, "least squares, no background"): ("0.693", "–"),
    (359, "`demix`"): ("≥ 0.987", "≥ 0.985"),
    (98, "masks, coefficient 1"): ("–", "0.905"),
    (98, "`demix`"): ("–", "≥ 0.975"),
}


def correlations(traces: np.ndarray, calcium: np.ndarray) -> np.ndarray:
    """Pearson's r of each ROI; NaN where there is no trace."""
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(traces, calcium, strict=True)])


def demixing(oracle: Path | None, toy: bool) -> Iterator[str]:
    """How near to the truth traces of overlapping ROIs are, by each way, and what they cost."""
    yield "\n### Demixing\n"
    yield "Activity simulated on the layouts of real ROIs; r with the true signal, median over the"
    yield "ROIs that masks have a trace of (and over those of them that share more than half of"
    yield "their pixels)."
    yield "Claimed: all; more than half shared"
    yield table("ROIs", "traces by", "median r", "more than half shared", "claimed")
    layouts = [xs2p.sample_rois()]
    if oracle is not None:
        layouts.insert(0, layout(oracle))
    for rois in layouts:
        yield from on_layout(rois, 60 if toy else 1000)
    if oracle is None:
        yield "\n359 ROIs: not measured, XS2P_DATA names no folder with movie-2p-2000x128x128."
    yield from finer(layouts[0], 60 if toy else 500)
    yield from one_photon()
    yield from costs(toy)


def on_layout(rois: xr.Dataset, n_frames: int) -> Iterator[str]:
    n, made = rois.sizes["roi"], simulate(rois, n_frames, rois.attrs["Ly"] / PIXELS, 100.0, 15.0)
    known = xs2p.build_masks(rois).rois.status.values == "ok"
    hard = known & (rois.frac_overlap.values > 0.5)
    ways = [(way, way, rois) for way in WAYS]
    ways += [(f"{way}, a pixel off", way, shifted(rois)) for way in SHIFTED]
    for shown, way, footprints in ways:
        r = correlations(WAYS[way](made.movie, footprints), made.calcium)
        claim = "; ".join(CLAIMS.get((n, shown), ("–", "–")))
        figures = (f"**{np.nanmedian(r[known]):.3f}**", f"**{np.nanmedian(r[hard]):.3f}**")
        yield row(f"{known.sum()} of {n}, {hard.sum()}", shown, *figures, claim)


def finer(dense: xr.Dataset, n_frames: int) -> Iterator[str]:
    """Neuropil of less than the distance of the background's hats, where ROIs overlap or do not."""
    grids = ((5, 5), (9, 9), (17, 17))
    alone = np.flatnonzero(dense.frac_overlap.values < 0.3)[::3]
    sparse = xs2p.recompute_overlap(dense.isel(roi=alone).s2p.compact())
    yield "\nNeuropil of finer structure, in parts of the frame; median r of all ROIs. Every third"
    yield "of those that share less than 0.3 of their pixels stands for ROIs that lie apart."
    yield table("ROIs", "neuropil of", "masks, coefficient 1", *(f"`demix`, {g}" for g in grids))
    for rois in (dense, sparse):
        for part in (6, 12, 24):
            made = simulate(rois, n_frames, part)
            ways = [by_masks(1.0)]
            ways += [lambda m, r, g=g: xs2p.demix(m, r, background=g).Fc.values for g in grids]
            found = [correlations(way(made.movie, rois), made.calcium) for way in ways]
            yield row(rois.sizes["roi"], f"1/{part}", *(f"{np.nanmedian(r):.3f}" for r in found))


def one_photon() -> Iterator[str]:
    """ROIs whose pixels are all shared: masks have nothing for them."""
    rois = layout(DATA / "pynapple_a0662_1p.npz")
    made = simulate(rois, 60)
    with warnings.catch_warnings():  # suite2p's flags are not those that the ROIs imply
        warnings.simplefilter("ignore")
        without = xs2p.build_masks(rois).rois.status.values == "no_cell_pixels"
    ds = xs2p.demix(made.movie, rois)
    traced = without & ds.F.notnull().all("time").values
    r = np.nanmedian(correlations(ds.Fc.values, made.calcium)[traced])
    yield f"\nOf {without.size} one-photon ROIs {without.sum()} have no pixel of their own as"
    yield f"suite2p flags them: masks give none of them a trace, demixing {traced.sum()} (claimed:"
    yield f"47), with a median r of {r:.3f}; {int((ds.vif.values[traced] > 5).sum())} of them are"
    yield "flagged (variance inflation above 5)."


def costs(toy: bool) -> Iterator[str]:
    """Time of a frame, beside extraction by masks."""
    side, n_frames, counts = (64, 40, (12, 30)) if toy else (512, 512, (1000, 3000))
    area = 20.0 if toy else 100.0
    frames = np.random.default_rng(0).integers(0, 2000, (n_frames, side, side)).astype(np.int16)
    movie = xr.DataArray(frames, dims=("time", "y", "x"))
    yield f"\nA movie of {side} × {side} int16 in memory, discs of {area:g} pixels: µs of"
    yield "processor time a frame, once masks and equations are made (ms, in the last column);"
    yield f"medians of {ROUNDS} rounds, in each of which all ways have their turn"
    yield table("ROIs", "masks", "`demix`", "ratio", "claimed", "nonnegative", "masks; equations")
    for n in counts:
        rois = make_rois(n, (side, side), area)
        build = functools.partial(xs2p.build_masks, rois)
        before, masks = timed(build, build)[1:]
        works = [functools.partial(xs2p.extract_traces, movie, masks)]
        for nonnegative in (False, True):
            how = check_demixing((5, 5), nonnegative)
            make = functools.partial(Demixer, rois, how)
            made, demixer = timed(make, make)[1:]
            works.append(functools.partial(demixer.traces, movie, "cpu"))
        timed(*works)  # they are compiled
        rounds = np.array([timed(*works)[:-1] for _ in range(ROUNDS)])
        each = [f"{1e6 * s / n_frames:.0f}" for s in np.median(rounds, axis=0)]
        ratio = f"**{np.median(rounds[:, 1] / rounds[:, 0]):.2f}**"
        both = f"{1e3 * before:.0f}; {1e3 * made:.0f}"
        yield row(n, each[0], each[1], ratio, "≤ 2", each[2], both)


def timed(*works: Callable[[], Any]) -> tuple[Any, ...]:
    """Seconds of processor time of each, one after another, and the last one's result."""
    seconds, result = [], None
    for work in works:
        start = time.process_time()
        result = work()
        seconds.append(time.process_time() - start)
    return (*seconds, result)
