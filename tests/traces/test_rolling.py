"""Rolling percentiles and noise against numpy, on the CPU and as on a GPU."""

from __future__ import annotations

import inspect

import naive_rolling as naive
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loaders import DATA

from xs2p.compute.device import gpu_status
from xs2p.traces import rolling_cpu, rolling_gpu

PERCENTS = st.sampled_from([0.0, 8.0, 10.0, 33.3, 50.0, 99.9, 100.0])
ODD = st.integers(0, 60).map(lambda half: 2 * half + 1)


def on_numpy(name):
    """A function of the GPU's module, that takes and gives numpy arrays."""
    return inspect.unwrap(getattr(rolling_gpu, name))


BOTH = [pytest.param(lambda n: getattr(rolling_cpu, n), id="cpu"), pytest.param(on_numpy, id="gpu")]


def traces(seed, n_frames, few_values=False, gaps=0.3, n_traces=4):
    """One trace without NaN, one with some, one with gaps, one of NaN only."""
    rng = np.random.default_rng(seed)
    F = rng.normal(300, 50, (n_traces, n_frames))
    if few_values:
        F = (np.round(F / 60) - 5) * rng.choice([-1, 1], F.shape)  # ties, and zeros of both signs
    F = F.astype(np.float32)
    F[1, rng.random(n_frames) < gaps] = -np.nan
    start = int(rng.integers(n_frames))
    F[2, start : start + int(rng.integers(1, n_frames + 1))] = np.nan
    F[3] = np.nan
    return F


@pytest.mark.parametrize("of", BOTH)
@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(1, 90), ODD, PERCENTS, st.booleans())
def test_rolling_percentile_is_numpys(of, seed, n_frames, window, percent, few_values):
    F = traces(seed, n_frames, few_values)
    before = F.copy()
    result = of("rolling_percentile")(F, window, percent)
    assert result.dtype == np.float32 and result.shape == F.shape
    np.testing.assert_array_equal(F, before)
    expected = naive.rolling_percentile(F, window, percent)
    np.testing.assert_allclose(result, expected, rtol=2e-7, atol=1e-30)


@settings(max_examples=60)
@given(st.integers(0, 999), st.integers(1, 300), ODD, PERCENTS, st.booleans())
def test_bits_are_the_same_on_a_gpu(seed, n_frames, window, percent, few_values):
    F = traces(seed, n_frames, few_values)
    a = rolling_cpu.rolling_percentile(F, window, percent)
    b = on_numpy("rolling_percentile")(F, window, percent)
    np.testing.assert_array_equal(a.view(np.int32), b.view(np.int32))


@pytest.mark.parametrize(("window", "percent"), [(1, 10), (31, 50), (301, 8), (2001, 50)])
def test_long_traces_are_worked_on_in_blocks(window, percent):
    """Of which there are several, of traces and of time; the naive version looks at some frames."""
    rng = np.random.default_rng(1)
    F = rng.normal(300, 50, (40, 9000)).astype(np.float32)
    F[:, ::7] = np.nan
    F[3, 2000:6500] = np.nan
    F[4] = np.cumsum(rng.normal(size=9000))
    result = rolling_cpu.rolling_percentile(F, window, percent)
    half = window // 2
    padded = np.pad(F, [(0, 0), (half, half)], mode="symmetric")
    for t in (0, 1, 1023, 1024, 3333, 5000, 8998, 8999):
        expected = naive.percentile(padded[:, t : t + window], percent)
        np.testing.assert_allclose(result[:, t], expected, rtol=2e-7)
    np.testing.assert_array_equal(
        result[:5], on_numpy("rolling_percentile")(F[:5], window, percent)
    )


@pytest.mark.parametrize("of", BOTH)
@settings(max_examples=30)
@given(st.integers(0, 999), ODD, PERCENTS, st.booleans(), st.data())
def test_pieces_that_see_half_a_window_have_the_same_bits(
    of, seed, window, percent, few_values, data
):
    F = traces(seed, 400, few_values, gaps=0.1)
    start = data.draw(st.integers(0, 399))
    stop = data.draw(st.integers(start + 1, 400))
    half = window // 2
    first, last = max(start - half, 0), min(stop + half, 400)
    whole = of("rolling_percentile")(F, window, percent)[:, start:stop]
    piece = of("rolling_percentile")(F[:, first:last], window, percent)
    piece = piece[:, start - first : stop - first]
    np.testing.assert_array_equal(piece.view(np.int32), whole.view(np.int32))


@pytest.mark.parametrize("of", BOTH)
@pytest.mark.parametrize("percent", [50, 30])
def test_two_levels_far_apart(of, percent):
    """The percentile jumps over thousands of ranks, up and down, that are not in the window."""
    rng = np.random.default_rng(0)
    F = rng.normal(size=(1, 12_000)).astype(np.float32)
    F[0, 4500:] += 500
    F[0, :4500] += 1000 * (np.arange(4500) % 10 >= percent // 10)
    window, frames = 3001, np.arange(1300, 3100)
    result = of("rolling_percentile")(F, window, percent)[0, frames]
    assert np.count_nonzero(np.abs(np.diff(result)) > 900) > 100
    padded = np.pad(F[0], window // 2, mode="symmetric")
    windows = np.lib.stride_tricks.sliding_window_view(padded, window)[frames]
    np.testing.assert_allclose(result, naive.percentile(windows, percent), rtol=2e-7, atol=1e-7)


@pytest.mark.parametrize("of", BOTH)
def test_any_shape_and_dtype(of):
    F = np.random.default_rng(0).integers(-50, 50, (2, 3, 40)).astype(np.int16)
    expected = naive.rolling_percentile(F, 7, 10)
    for given_ in (F, F.astype(np.float64), np.asfortranarray(F), F[0, 0]):
        want = expected if given_.ndim == 3 else expected[0, 0]
        np.testing.assert_allclose(of("rolling_percentile")(given_, 7, 10), want, rtol=1e-6)
    assert of("rolling_percentile")(F[:0], 7, 10).shape == (0, 3, 40)
    assert of("rolling_percentile")(F[..., :0], 7, 10).shape == (2, 3, 0)
    assert np.isnan(of("median")(F[..., :0])).all()
    assert of("noise")(F, 7).shape == (2, 3)


@pytest.mark.parametrize("of", BOTH)
@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 70), ODD, PERCENTS, st.booleans())
def test_noise_and_its_parts(of, seed, n_frames, window, percent, few_values):
    F = traces(seed, n_frames, few_values)
    level = of("percentile")(F, percent)
    assert level.dtype == np.float32
    np.testing.assert_allclose(level, naive.percentile(F, percent), rtol=2e-7, atol=1e-30)
    np.testing.assert_array_equal(of("median")(F), of("percentile")(F, 50))
    rolling = of("rolling_median")(F, window)
    np.testing.assert_array_equal(rolling, of("rolling_percentile")(F, window, 50))
    np.testing.assert_array_equal(of("deviation")(F, window), np.abs(F - rolling))
    sigma = of("noise")(F, window)
    assert sigma.dtype == np.float32 and np.isnan(sigma[3])
    np.testing.assert_allclose(sigma, naive.noise(F, window), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(sigma, rolling_cpu.noise(F, window))


def test_noise_of_a_signal_is_that_of_its_noise():
    rng = np.random.default_rng(0)
    F = rng.normal(0, 12, (3, 20000)) + 300 + 50 * np.sin(np.arange(20000) / 400)
    F[1, 1000:3000] = np.nan
    F[2, ::50] += 500
    np.testing.assert_allclose(rolling_cpu.noise(F.astype(np.float32), 101), 12, rtol=0.03)


@pytest.mark.parametrize("of", BOTH)
@settings(max_examples=40)
@given(st.integers(0, 999), st.integers(1, 60), ODD, ODD, st.booleans())
def test_inactive_median_is_the_naive_one(of, seed, n_frames, low_window, window, each):
    F = traces(seed, n_frames)
    # None of the frames is exactly that far away.
    threshold = np.array([[30.0], [0.001], [70.0], [5.0]], np.float32) if each else 40.0
    result = of("inactive_median")(F, low_window, window, threshold)
    assert result.dtype == np.float32
    expected = naive.inactive_median(F, low_window, window, threshold)
    np.testing.assert_allclose(result, expected, rtol=1e-6)
    np.testing.assert_array_equal(
        result, rolling_cpu.inactive_median(F, low_window, window, threshold)
    )


@pytest.mark.parametrize("of", BOTH)
def test_inactive_median_is_that_of_aind_ophys_utils(of):
    """Numbers of aind-ophys-utils 0.2.0, its edges and windows included; every fifth frame.

    ``low = signal_utils.percentile_filter(F[n], 10, long)``, where its windows of seconds become
    ``long = int(60 * fs / 2) * 2 + 1`` frames; ``_, F0, sigma = dff.dff(F, 60, 3.333, fs)``, where
    sigma is its own, without outliers. F are two traces of transients, 2 and 0.5 s long, and
    noise, rounded to quarters.
    """
    z = np.load(DATA / "aind_dff.npz")
    F, window = z["F"], int(60 * z["fs"] / 2) * 2 + 1
    low = of("rolling_percentile")(F, window, 10)
    np.testing.assert_allclose(low[:, ::5], z["low"], rtol=1e-6)
    threshold = 3 * z["sigma"][:, None]
    assert 0.05 < (np.abs(F - low) > threshold).mean() < 0.9
    F0 = of("inactive_median")(F, window, window, threshold)
    np.testing.assert_allclose(F0[:, ::5], z["F0"], rtol=1e-6)


@pytest.mark.gpu
@pytest.mark.skipif(not gpu_status()[0], reason=gpu_status()[1])
@pytest.mark.parametrize("where", ["host", "device"])
def test_on_a_gpu(where):
    cupy = pytest.importorskip("cupy")
    F = np.stack([traces(n, 700) for n in range(3)])
    given_ = cupy.asarray(F) if where == "device" else F
    thresholds = np.random.default_rng(0).uniform(1, 80, (3, 4, 1)).astype(np.float32)
    calls = [
        ("rolling_percentile", 31, 10),
        ("rolling_percentile", 2001, 62.5),
        ("rolling_median", 101),
        ("deviation", 31),
        ("median",),
        ("percentile", 12.5),
        ("noise", 31),
        ("inactive_median", 101, 61, np.float32(40.0)),
        ("inactive_median", 101, 61, thresholds),
    ]
    for name, *args in calls:
        result = getattr(rolling_gpu, name)(given_, *args)
        assert type(result) is type(given_)
        expected = getattr(rolling_cpu, name)(F, *args)
        np.testing.assert_array_equal(cupy.asnumpy(result), expected, err_msg=name)
