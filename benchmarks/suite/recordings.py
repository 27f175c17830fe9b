"""What the benchmarks work on: ROIs, movies and traces of any size, the same at every run."""

from __future__ import annotations

import numpy as np

SHAPE = (512, 512)
FS, TAU = 30.0, 1.0


def make_stat(n_rois, shape=SHAPE, seed=0, area=100.0):
    """suite2p's ``stat`` of ellipses thrown at random, about ``area`` pixels each.

    1000 of them on 512 × 512 leave some 68,000 cell pixels that only one ROI has.
    """
    rng = np.random.default_rng(seed)
    stat = []
    for _ in range(n_rois):
        y0, x0 = rng.uniform(4, shape[0] - 4), rng.uniform(4, shape[1] - 4)
        stretch, angle = rng.uniform(0.8, 1.25), rng.uniform(0, np.pi)
        a, b = np.sqrt(area / np.pi) * np.array([stretch, 1 / stretch])
        reach = int(max(a, b)) + 1
        y = np.arange(max(int(y0) - reach, 0), min(int(y0) + reach + 1, shape[0]))[:, None]
        x = np.arange(max(int(x0) - reach, 0), min(int(x0) + reach + 1, shape[1]))
        along = ((y - y0) * np.sin(angle) + (x - x0) * np.cos(angle)) / a
        across = ((y - y0) * np.cos(angle) - (x - x0) * np.sin(angle)) / b
        distance = along**2 + across**2
        iy, ix = np.nonzero(distance <= 1)
        lam = np.exp(-distance[iy, ix]).astype(np.float32)
        stat.append({"ypix": y[iy, 0], "xpix": x[ix], "lam": lam})
    times = np.zeros(shape, np.int64)
    for roi in stat:
        times[roi["ypix"], roi["xpix"]] += 1
    for roi in stat:
        roi["overlap"] = times[roi["ypix"], roi["xpix"]] > 1
        roi["radius"] = float(np.sqrt(roi["ypix"].size / np.pi))
        roi["med"] = [float(np.median(roi["ypix"])), float(np.median(roi["xpix"]))]
        roi["npix"] = roi["ypix"].size
    return stat


def make_frames(n_frames, shape=SHAPE, dtype="int16", seed=0):
    """Frames of noise around 300, ``(time, y, x)``: what a sum costs does not depend on them."""
    rng = np.random.default_rng(seed)
    bank = np.clip(rng.normal(300, 60, (min(n_frames, 64), *shape)), 0, None)
    if np.dtype(dtype).kind in "iu":
        bank = np.clip(np.rint(bank), 0, np.iinfo(dtype).max)
    bank = bank.astype(dtype)
    frames = np.empty((n_frames, *shape), dtype)
    for start in range(0, n_frames, len(bank)):
        part = frames[start : start + len(bank)]
        part[:] = np.roll(bank[: len(part)], start, axis=-1)
    return frames


def transients(rng, n_rois, n_frames):
    """Light of cells that fire at random and fade with ``TAU``, ``(roi, time)``."""
    from scipy.signal import lfilter

    spikes = rng.poisson(0.5 / FS, (n_rois, n_frames))
    return lfilter([1.0], [1.0, -np.exp(-1 / (TAU * FS))], 150 * spikes, axis=1)


def make_traces(n_rois, n_frames, seed=0):
    """Traces as a cell gives them, float32 ``(roi, time)``: drift, transients, noise."""
    rng = np.random.default_rng(seed)
    light = transients(rng, n_rois, n_frames)
    drift = 50 * np.sin(np.arange(n_frames) / n_frames * 20)
    return (300 + drift + light + rng.normal(0, 15, (n_rois, n_frames))).astype(np.float32)


def write_movie(path, stat, n_frames, shape=SHAPE, seed=0):
    """Write a movie of cells that flash to ``path``, raw int16 as suite2p's ``data.bin``."""
    from scipy.sparse import csr_array

    rng = np.random.default_rng(seed)
    owner = np.repeat(np.arange(len(stat)), [roi["npix"] for roi in stat])
    pixel = np.concatenate([roi["ypix"] * shape[1] + roi["xpix"] for roi in stat])
    lam = np.concatenate([roi["lam"] for roi in stat])
    light = csr_array((lam, (pixel, owner)), shape=(shape[0] * shape[1], len(stat)))
    calcium = transients(rng, len(stat), n_frames)
    noise = make_frames(64, shape)
    with open(path, "wb") as file:
        for start in range(0, n_frames, 64):
            now = calcium[:, start : start + 64]
            flashes = (light @ now).T.reshape(-1, *shape).astype(np.int16)
            frames = np.roll(noise[: len(flashes)], 7 * start, axis=-1) + flashes
            file.write(frames.tobytes())
