"""Reaches far beyond the recording: every step ends, lazily with the same bits as in memory."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.traces.taps import gaussian_taps

pytestmark = pytest.mark.filterwarnings("ignore:tau is:UserWarning")

STEPS: dict[str, Callable[[xr.DataArray], Any]] = {
    **{
        f"{method}, sigma {sigma:g}": lambda F, m=method, s=sigma: xs2p.baseline(
            F, m, fs=30.0, win_baseline=2.0, sig_baseline=s
        )
        for method in ("maximin", "maximin_legacy", "constant", "constant_global")
        for sigma in (1e4, 2e9)
    },
    **{
        f"{method}, window": lambda F, m=method: xs2p.baseline(F, m, fs=1e5, win_baseline=1e4)
        for method in (
            "maximin",
            "maximin_legacy",
            "rolling_prctile",
            "rolling_median",
            "inactive_median",
        )
    },
    "deconvolve": lambda F: xs2p.deconvolve(F, fs=30.0, tau=1e9),
    "deconvolve, float32's largest": lambda F: xs2p.deconvolve(F, fs=1e20, tau=1e18),
    "deconvolve, sparse": lambda F: xs2p.deconvolve(F, fs=1e6, tau=1e9, penalty="noise"),
    "noise": lambda F: xs2p.noise(F, fs=1e8),
    "dff": lambda F: xs2p.dff(F, xs2p.baseline(F, "prctile"), fs=1e8),
    "detrend": lambda F: xs2p.baseline(
        F, "rolling_median", fs=1e5, win_baseline=1e4, detrend="exponential"
    ),
}


@pytest.fixture(autouse=True)
def watchdog() -> Iterator[None]:
    def late(*_: Any) -> None:
        raise TimeoutError("longer than a minute")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(60)  # kernels are compiled meanwhile
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("segments", [False, True])
@pytest.mark.parametrize("step", STEPS)
def test_a_reach_beyond_the_recording(step: str, segments: bool) -> None:
    rng = np.random.default_rng(0)
    F = xr.DataArray(rng.normal(100, 5, (20, 47)).astype("f4"), dims=("roi", "time"), name="F")
    if segments:
        F = F.assign_coords(segment=("time", np.repeat([0, 1], [20, 27])))
    whole = STEPS[step](F)
    assert np.isfinite(whole).all()
    xr.testing.assert_equal(STEPS[step](F.chunk(time=10)).compute(), whole)


@pytest.mark.parametrize("reflect", [False, True])
@pytest.mark.parametrize("n_frames", [1, 2, 7, 50])
@pytest.mark.parametrize("sigma", [3.0, 40.0, 1e5])
def test_taps_that_are_folded(sigma: float, n_frames: int, reflect: bool) -> None:
    """The filter of a padded trace, all taps of it: numpy's."""
    trace = np.random.default_rng(0).normal(100, 5, n_frames)
    radius = int(4 * sigma)
    bell = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
    padded = np.pad(trace, radius, mode="symmetric" if reflect else "edge")
    want = [padded[i : i + bell.size] @ bell / bell.sum() for i in range(n_frames)]
    taps = gaussian_taps(sigma, radius, n_frames, reflect)
    assert taps.size <= n_frames + 1 or radius <= n_frames
    padded = np.pad(trace, taps.size - 1, mode="symmetric" if reflect else "edge")
    both = np.concatenate([taps[:0:-1], taps])
    found = [padded[i : i + both.size] @ both for i in range(n_frames)]
    np.testing.assert_allclose(found, want, rtol=1e-7)


def test_rates_that_nothing_has() -> None:
    F = xr.DataArray(np.ones((2, 9), "f4"), dims=("roi", "time"))
    with pytest.raises(ValueError, match=r"fs=.*Hz"):
        xs2p.noise(F, fs=1e12)
    with pytest.raises(ValueError, match="sig_baseline=.*frames"):
        xs2p.baseline(F, "constant", sig_baseline=1e12)
