"""Double exponentials of bleaching: simulated ones come back, as well as SciPy finds them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import lfilter

from xs2p.compute.device import gpu_status
from xs2p.traces import bleaching

FS = 10.0


def simulated(n_traces=12, n_frames=4000, rate=0.0, noise=10.0, seed=0):
    """Parameters, trends and traces with events, ``rate`` of them in a second."""
    rng = np.random.default_rng(seed)
    length = n_frames / FS
    parameters = np.stack(
        [
            rng.uniform(100, 400, n_traces),
            rng.uniform(20, 200, n_traces),
            length * 10 ** rng.uniform(-1.6, -0.9, n_traces),
            rng.uniform(20, 300, n_traces),
            length * 10 ** rng.uniform(-0.5, 0.2, n_traces),
        ],
        axis=1,
    )
    c, a1, tau1, a2, tau2 = parameters.T[:, :, None]
    t = np.arange(n_frames) / FS
    trends = c + a1 * np.exp(-t / tau1) + a2 * np.exp(-t / tau2)
    spikes = rng.poisson(rate / FS, trends.shape).astype(float)
    events = 0.5 * lfilter([1], [1, -np.exp(-1 / (0.7 * FS))], spikes)
    F = trends * (1 + events) + rng.normal(0, noise, trends.shape)
    return parameters, trends, F.astype(np.float32)


def fitted(F, fs=FS):
    parameters = bleaching.fit_double_exponential(F, fs)
    assert parameters.shape == (*F.shape[:-1], 5) and parameters.dtype == np.float64
    return parameters, bleaching.trend(parameters, np.arange(F.shape[-1]), fs)


@pytest.mark.parametrize(
    ("rate", "noise", "within", "most"),
    [(0, 0, 1e-3, 0.01), (0, 10, 0.01, 0.03), (0.1, 10, 0.02, 0.1)],
)
def test_a_simulated_double_exponential_comes_back(rate, noise, within, most):
    _, trends, F = simulated(rate=rate, noise=noise)
    F[:, 1000:1300] = np.nan
    F[::2, ::3] = np.nan
    _, result = fitted(F)
    assert result.dtype == np.float32 and np.isfinite(result).all()
    off = np.abs(result / trends - 1)
    assert np.sqrt((off**2).mean(axis=-1)).max() < within and off.max() < most


def test_trend_is_the_formula():
    parameters = np.array([[[100, 50, 3.0, 20, 40.0]], [[7, 0, 1.0, 0, 1.0]]])
    result = bleaching.trend(parameters, np.array([0, 5, 17]), 2.0)
    t = np.array([0, 2.5, 8.5])
    np.testing.assert_allclose(result[0, 0], 100 + 50 * np.exp(-t / 3) + 20 * np.exp(-t / 40))
    np.testing.assert_array_equal(result[1, 0], [7, 7, 7])


def naive_bins(trace, size):
    """Times, medians and shares of bins of ``size`` frames, those without a sample left out."""
    starts = range(0, trace.size, size)
    bins = [trace[s : s + size].astype(np.float64) for s in starts]
    share = np.array([np.isfinite(b).sum() / size for b in bins])
    level = np.array([np.median(b[np.isfinite(b)]) if np.isfinite(b).any() else 0 for b in bins])
    time = np.array([s + (b.size - 1) / 2 for s, b in zip(starts, bins, strict=True)])
    return time[share > 0] / FS, level[share > 0], share[share > 0]


def naive_weights(off, share):
    sigma = 1.4826 * np.median(-off[off < 0])
    high, low = off > 1.5 * sigma, off < -4 * sigma
    weights = np.ones(off.size)
    weights[high] = (1.5 * sigma / off[high]) ** 2
    weights[low] = 4 * sigma / -off[low]
    return weights * share


@pytest.mark.parametrize("rate", [0.0, 0.1])
def test_the_loss_is_that_of_scipy(rate):
    """Of the same weighted bins, from several starts."""
    _, _, F = simulated(5, 3997, rate)
    F[1, 300:500] = np.nan
    parameters, _ = fitted(F)
    length = F.shape[-1] / FS
    for trace, ours in zip(F, parameters, strict=True):
        t, level, share = naive_bins(trace, 10)

        def model(p, t=t):
            return p[0] + p[1] * np.exp(-t / p[2]) + p[3] * np.exp(-t / p[4])

        weights = naive_weights(level - model(ours), share)

        def off(p, level=level, weights=weights):
            return np.sqrt(weights) * (model(p) - level)

        bounds = (
            [0, 0, 6 * length / 400, 0, 6 * length / 400],
            [1e4, 1e4, 5 * length, 1e4, 5 * length],
        )
        starts = [[200, 100, 0.05 * length, 100, 0.5 * length], [50, 50, 0.1 * length, 300, length]]
        scale = [100, 100, 0.1 * length, 100, length]
        theirs = min(
            2 * scipy.optimize.least_squares(off, start, bounds=bounds, x_scale=scale).cost
            for start in starts
        )
        assert (off(ours) ** 2).sum() < 1.02 * theirs


@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 900), st.floats(0.01, 1), st.floats(-300, 1000))
def test_trends_are_never_negative_nor_explode(seed, n_frames, left, level):
    rng = np.random.default_rng(seed)
    F = rng.normal(level, rng.choice([0, 1, 100]), (3, n_frames))
    F += np.cumsum(rng.normal(0, rng.choice([0, 20]), F.shape), axis=-1)
    F[rng.random(F.shape) > left] = np.nan
    F[1, : n_frames // 2] = np.nan
    F = F.astype(np.float32)
    parameters, result = fitted(F)
    for trace, p, trend in zip(F, parameters, result, strict=True):
        valid = trace[np.isfinite(trace)]
        if not valid.size:
            assert np.isnan(trend).all()
            continue
        assert np.isfinite(p).all() and (p[[1, 3]] >= 0).all() and 0 < p[2] <= p[4]
        assert (np.diff(trend) <= 0).all()
        if p[0] < 0 or trend[0] == trend[-1]:
            assert (trend == trend[0]).all()
            margin = 0.01 + 1e-4 * np.abs(valid).max()
            assert valid.min() - margin <= trend[0] <= valid.max() + margin
        else:
            assert (trend >= 0).all() and trend[0] <= 4 * valid.max()


def test_flat_traces_have_their_level():
    F = np.full((3, 1000), 250, np.float32)
    F[1] += np.random.default_rng(0).normal(0, 5, 1000)
    F[2, 200:] = np.nan
    _, result = fitted(F)
    np.testing.assert_allclose(result[[0, 2]], 250, rtol=1e-6)
    np.testing.assert_allclose(result[1].mean(), 250, rtol=2e-3)
    np.testing.assert_allclose(result[1], 250, rtol=0.03)


def test_what_makes_no_sense_to_divide_by_is_constant():
    t = np.arange(800)
    F = np.stack([np.exp(-t / 100) * 50 - 200, np.exp(-t / 100) * 50 + 200]).astype(np.float32)
    F = np.stack([F, F])
    F[1, 1, 19:] = np.nan  # 10 bins of 2 frames; one of them less is too few
    parameters, result = fitted(F)
    assert (result[:, 0] == result[:, 0, :1]).all()
    np.testing.assert_allclose(result[0, 0, 0], np.median(F[0, 0]), rtol=0.01)
    assert result[0, 1, 0] > 1.1 * result[0, 1, -1] and parameters[1, 1, 1:4:2].any()
    F[1, 1, 18:] = np.nan
    parameters, result = fitted(F)
    np.testing.assert_allclose(result[1, 1], np.median(F[1, 1, :18]), rtol=1e-3)
    assert not parameters[1, 1, 1:4:2].any()


def test_a_trace_has_the_same_bits_alone_and_among_others():
    _, _, F = simulated(70, 900, 0.1)
    F[3:9, 100:300] = np.nan
    F[9] = -1
    together = bleaching.fit_double_exponential(F, FS)
    for rows in (slice(0, 1), slice(5, 6), slice(7, 40), slice(66, 70)):
        part = bleaching.fit_double_exponential(F[rows], FS)
        np.testing.assert_array_equal(part, together[rows])
    cube = bleaching.fit_double_exponential(F.reshape(2, 35, 900), FS)
    np.testing.assert_array_equal(cube.reshape(70, 5), together)


def test_no_traces_and_no_frames():
    assert bleaching.fit_double_exponential(np.zeros((0, 50), np.float32), FS).shape == (0, 5)
    nothing = bleaching.fit_double_exponential(np.zeros((2, 0), np.float32), FS)
    assert nothing.shape == (2, 5) and np.isnan(nothing).all()


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_status()[0], reason=gpu_status()[1])
def test_on_a_gpu():
    cupy = pytest.importorskip("cupy")
    _, _, F = simulated(6, 1200, 0.1)
    F[1, :200], F[2], F[3] = np.nan, np.nan, -5
    F = F.reshape(2, 3, -1)
    parameters = bleaching.fit_double_exponential(cupy.asarray(F), FS)
    assert isinstance(parameters, cupy.ndarray)
    result = bleaching.trend(parameters, np.arange(1200), FS)
    _, expected = fitted(F)
    np.testing.assert_allclose(result.get(), expected, rtol=1e-3)
