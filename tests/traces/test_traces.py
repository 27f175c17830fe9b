"""Baselines, OASIS and quality against naive versions, and their errors."""

from __future__ import annotations

import naive
import numpy as np
import pytest
import scipy.ndimage as ndi
import scipy.stats
import xarray as xr

import xs2p
from xs2p.testing import raise_if_dask_computes
from xs2p.traces.baseline_methods import METHODS, USED_BY

FS = 10.0


def make_traces(n_rois=6, n_frames=300, seed=0, mean=300, **attrs):
    rng = np.random.default_rng(seed)
    spikes = rng.poisson(0.03, (n_rois, n_frames)).astype(float)
    calcium = np.zeros_like(spikes)
    for t in range(1, n_frames):
        calcium[:, t] = 0.9 * calcium[:, t - 1] + spikes[:, t]
    values = 100 * calcium + rng.normal(mean, 20, spikes.shape)
    return xr.DataArray(
        values.astype(np.float32),
        dims=("roi", "time"),
        coords={"roi": 10 * np.arange(n_rois), "time": np.arange(n_frames) / FS},
        attrs={"fs": FS, "units": "photons", **attrs},
        name="Fc",
    )


def naive_filter(trace, window, function, pad):
    half = window // 2
    padded = np.pad(trace, (half, window - 1 - half), mode=pad)
    return np.array([function(padded[t : t + window]) for t in range(trace.size)])


def naive_baseline(trace, method, window_s, sigma, percentile):
    """F0 of one trace as SPEC writes it, in float64 (but SciPy's own Gaussian)."""
    if method == "none":
        return np.zeros(trace.size)
    if method == "prctile":
        return np.full(trace.size, np.percentile(trace.astype(np.float64), percentile))
    if method.startswith(("rolling", "inactive")):
        return naive.baseline(trace, method, FS, window_s, sigma, percentile)
    window = int(window_s * FS)
    if method == "maximin":
        radius = int(round(3 * sigma))
        kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma) ** 2)
        padded = np.pad(trace.astype(np.float64), radius, mode="edge")
        smooth = np.convolve(padded, kernel / kernel.sum(), mode="valid")
        window += window % 2 == 0
        low = naive_filter(smooth, window, np.min, "edge")
        return naive_filter(low, window, np.max, "edge")
    smooth = ndi.gaussian_filter1d(trace, sigma)
    if method == "maximin_legacy":
        low = naive_filter(smooth, window, np.min, "symmetric")
        return naive_filter(low, window, np.max, "symmetric")
    return np.full(trace.size, smooth.min())


OPTIONS = {"win_baseline": 4.0, "sig_baseline": 2.5, "prctile_baseline": 12.5}


@pytest.mark.parametrize("n_frames", [1, 2, 7, 41, 300])
@pytest.mark.parametrize("method", METHODS)
def test_baseline_equals_naive(method, n_frames):
    F = make_traces(n_frames=n_frames)
    before = F.copy(deep=True)
    expected = np.stack([naive_baseline(f, method, 4.0, 2.5, 12.5) for f in F.values])
    if method == "constant_global":
        expected[:] = expected.min()
    for chunks in (None, {"roi": 4, "time": -1}, {"roi": 1, "time": -1}):
        traces = F if chunks is None else F.chunk(chunks)
        with raise_if_dask_computes():
            F0 = xs2p.baseline(traces, method, **OPTIONS)
            corrected = xs2p.preprocess(traces, method, **OPTIONS)
        assert F0.dims == F.dims and F0.name == "F0" and F0.dtype == np.float32
        assert (F0.chunks is None) == (chunks is None)
        if n_frames >= 41 or method not in ("maximin_legacy",):
            # np.pad folds a short trace over otherwise than SciPy does.
            np.testing.assert_allclose(F0, expected, rtol=1e-5)
        np.testing.assert_array_equal(corrected, F - F0)
        xr.testing.assert_equal(F0.coords.to_dataset(), F.coords.to_dataset())
        assert F0.attrs["units"] == corrected.attrs["units"] == "photons"
        assert F0.attrs["baseline"] == method
        assert F0.attrs["xs2p_version"] == xs2p.__version__
        assert ("win_baseline" in F0.attrs) == (method in USED_BY["win_baseline"])
    xr.testing.assert_identical(F, before)


def test_baseline_of_each_roi_is_its_own():
    F = make_traces()
    F[2] = np.nan
    F[4, 100] = np.nan
    for method in METHODS:
        F0 = xs2p.baseline(F, method, **OPTIONS)
        for n in (0, 1, 3, 5):
            if method != "constant_global":
                alone = xs2p.baseline(F.isel(roi=[n]), method, **OPTIONS)
                np.testing.assert_array_equal(F0.isel(roi=[n]), alone)
            assert np.isfinite(F0[n]).all()
        if method != "none":
            corrected = xs2p.preprocess(F, method, **OPTIONS)
            assert np.isnan(corrected[2]).all()
            assert np.isfinite(xs2p.preprocess(F[[0, 1]], method, **OPTIONS)).all()


@pytest.mark.filterwarnings("ignore:tau · fs is")
@pytest.mark.parametrize("tau", [0.05, 0.7, 30.0])
@pytest.mark.parametrize("n_frames", [1, 2, 3, 300])
def test_oasis_equals_naive(tau, n_frames):
    F = make_traces(n_frames=n_frames) - 300
    expected = np.stack([naive.oasis(f, tau, FS) for f in F.values])
    for chunks in (None, {"roi": 4, "time": -1}):
        traces = F if chunks is None else F.chunk(chunks)
        with raise_if_dask_computes():
            spks = xs2p.deconvolve(traces, tau=tau, fs=FS)
        assert spks.name == "spks" and spks.dtype == np.float32 and spks.dims == F.dims
        np.testing.assert_allclose(spks, expected, rtol=1e-5, atol=1e-4)
        assert (spks >= 0).all() and (spks[:, 0] == 0).all()
        assert spks.attrs["tau"] == tau and spks.attrs["fs"] == FS


def test_fs_that_no_longer_fits_the_time_is_refused():
    F = make_traces()
    F["time"].attrs["units"] = "s"
    xs2p.baseline(F)
    with pytest.raises(ValueError, match=r"attrs\['fs'\] is 10.0 Hz, but .* 0.2 s \(5 Hz\)"):
        xs2p.deconvolve(F[:, ::2], tau=1.0)
    for wrong in ("fast", 0, None):
        with pytest.raises(ValueError, match="fs (must be a positive number|is not known)"):
            xs2p.baseline(F.assign_attrs(fs=wrong))
    assert xs2p.deconvolve(F[:, ::2], tau=1.0, fs=5.0).attrs["fs"] == 5.0
    assert xs2p.baseline(F[:, 20:]).attrs["fs"] == 10.0


def test_steps_keep_what_made_their_input():
    F = make_traces(neuropil_coefficient=0.7)
    for result in (xs2p.baseline(F), xs2p.preprocess(F), xs2p.deconvolve(F, tau=1.0)):
        assert result.attrs["neuropil_coefficient"] == 0.7
        assert result.attrs["units"] == "photons"


def test_oasis_is_optimal():
    """No non-negative spike train that differs a little fits better."""
    F = (make_traces(n_rois=1, n_frames=120)[0] - 300).values.astype(np.float64)
    g = np.exp(-1 / (0.7 * FS))
    s = xs2p.deconvolve(xr.DataArray(F[None], dims=("roi", "time")), tau=0.7, fs=FS).values[0]

    starts = np.linspace(-200, 200, 4001)
    decay = g ** np.arange(F.size)

    def error(spikes):
        """Least error over what calcium may begin with."""
        c = np.zeros(F.size)
        for t in range(1, F.size):
            c[t] = g * c[t - 1] + spikes[t]
        off = c - F
        squares = (decay**2).sum() * starts**2 + 2 * (decay * off).sum() * starts
        return (squares + (off**2).sum()).min()

    best = error(s)
    rng = np.random.default_rng(3)
    for _ in range(300):
        other = np.maximum(s + rng.normal(0, 2, s.size) * (rng.random(s.size) < 0.05), 0)
        assert error(other) > best * (1 - 1e-6)


def test_tau_of_each_roi():
    F = make_traces(mean=0)
    tau = xr.DataArray([0.5, 1.0, 0.5, 2.0, 1.0, 0.7], dims="roi", coords={"roi": F.roi})
    expected = xr.concat(
        [xs2p.deconvolve(F.isel(roi=[n]), tau=t.item()) for n, t in enumerate(tau)], "roi"
    )
    for traces in (F, F.chunk(roi=4), F.chunk(roi=1)):
        spks = xs2p.deconvolve(traces, tau=tau)
        np.testing.assert_array_equal(spks, expected)
        np.testing.assert_array_equal(spks.tau, tau)
        assert "tau" not in spks.attrs
    channels = xr.concat([F, F + 5], "channel").assign_attrs(F.attrs).chunk(roi=4, channel=1)
    spks = xs2p.deconvolve(channels, tau=tau)
    np.testing.assert_array_equal(spks[0], expected)
    behind = xs2p.deconvolve(channels.transpose("roi", "time", "channel"), tau=tau)
    np.testing.assert_array_equal(behind, spks)
    again = xs2p.deconvolve(F.assign_coords(tau=tau), tau=1.0)
    assert "tau" not in again.coords and again.attrs["tau"] == 1.0
    np.testing.assert_array_equal(xs2p.deconvolve(F[3], tau=2.0), expected[3])


def test_quality_equals_naive():
    F = make_traces()
    F[1] = 7.25
    F[2] = np.nan
    x = F.values.astype(np.float64)
    with np.errstate(all="ignore"):
        expected = {
            "std": x.std(axis=1),
            "skew": scipy.stats.skew(x[[0, 3, 4, 5]], axis=1),
            "snr": 1 - 0.5 * np.diff(x, axis=1).var(axis=1) / x.var(axis=1),
        }
    expected["skew"] = np.insert(expected["skew"], 1, [np.nan, np.nan])
    expected["snr"][1] = np.nan
    for traces in (F, F.chunk(roi=4)):
        for name, values in expected.items():
            with raise_if_dask_computes():
                result = getattr(traces.s2p, name)()
            assert result.dims == ("roi",) and result.name == name and result.dtype == np.float64
            np.testing.assert_allclose(result, values, rtol=1e-9)
            np.testing.assert_array_equal(result.roi, F.roi)
    assert xs2p.std(F).attrs["units"] == "photons"
    assert np.isnan(xs2p.snr(F.isel(time=[0]))).all()


def test_accessor_methods_are_the_functions():
    import inspect

    F = make_traces(mean=0)
    xr.testing.assert_identical(F.s2p.baseline("prctile"), xs2p.baseline(F, "prctile"))
    xr.testing.assert_identical(F.s2p.preprocess(), xs2p.preprocess(F))
    xr.testing.assert_identical(F.s2p.deconvolve(tau=0.7), xs2p.deconvolve(F, tau=0.7))
    for name in ("baseline", "preprocess", "deconvolve", "snr", "skew", "std", "extract"):
        method, function = getattr(F.s2p, name), getattr(xs2p, name)
        assert method.__doc__ == function.__doc__
        ours = list(inspect.signature(function).parameters.values())
        assert list(inspect.signature(method).parameters.values()) == ours[1:]


def bare(**kwargs):
    return make_traces().drop_attrs(**kwargs)


ERRORS = {
    "unknown": (
        lambda: xs2p.baseline(make_traces(), "sliding"),
        "unknown baseline 'sliding'; choose one of maximin",
    ),
    "no fs": (
        lambda: xs2p.baseline(bare()),
        r"fs is not known: give .* fs=30.0, or movie.attrs\['fs'\]",
    ),
    "fs 0": (lambda: xs2p.baseline(bare(), fs=0), "fs must be a positive number, got 0"),
    "fs text": (
        lambda: xs2p.deconvolve(bare(), tau=1.0, fs="fast"),
        "fs must be a positive number, got 'fast'",
    ),
    "tau text": (
        lambda: xs2p.deconvolve(bare(), tau="1.0", fs=FS),
        "tau must be a positive number, got '1.0'",
    ),
    "no tau": (lambda: xs2p.deconvolve(make_traces()), "tau is not known: give the decay time"),
    "tau": (
        lambda: xs2p.deconvolve(make_traces(), tau=-1.0),
        "tau must be a positive number, got -1.0",
    ),
    "window": (
        lambda: xs2p.baseline(make_traces(), win_baseline=-1),
        "win_baseline must be a number of seconds, 0 or more; got -1",
    ),
    "endless window": (
        lambda: xs2p.baseline(make_traces(), win_baseline=1e300),
        r"win_baseline=1e\+300 s at fs=10.0 Hz is 1e\+301 frames; win_baseline is in seconds",
    ),
    "sigma": (
        lambda: xs2p.baseline(make_traces(), sig_baseline=np.nan),
        "sig_baseline must be a number",
    ),
    "percentile": (
        lambda: xs2p.baseline(make_traces(), "prctile", prctile_baseline=101),
        "prctile_baseline must be a number from 0 to 100; got 101",
    ),
    "tau list": (lambda: xs2p.deconvolve(make_traces(), tau=[1.0] * 6), "or a DataArray over roi"),
    "tau tiny": (lambda: xs2p.deconvolve(make_traces(), tau=1e-46), "leave none in float32"),
    "sigma text": (lambda: xs2p.baseline(make_traces(), sig_baseline="10"), "number of frames"),
    "array": (
        lambda: xs2p.deconvolve(np.zeros((2, 3)), tau=1.0, fs=1.0),
        "deconvolve takes a DataArray of traces, got ndarray",
    ),
    "dims": (lambda: xs2p.snr(make_traces().rename(time="t")), r"rename\({...: 'time'}\)"),
    "complex": (
        lambda: xs2p.snr(make_traces().astype(complex)),
        "real numbers, got dtype complex128",
    ),
    "no frames": (lambda: xs2p.std(make_traces().isel(time=[])), "at least one frame"),
    "tau dims": (
        lambda: xs2p.deconvolve(make_traces(), tau=xr.DataArray([1.0, 2.0], dims="roi")),
        "one value per roi",
    ),
    "tau labels": (
        lambda: xs2p.deconvolve(
            make_traces(), tau=xr.DataArray(np.ones(6), dims="roi", coords={"roi": range(6)})
        ),
        "roi labels of tau are not those of the traces",
    ),
    "tau values": (
        lambda: xs2p.deconvolve(make_traces(), tau=xr.DataArray(np.zeros(6), dims="roi")),
        "every tau must be a positive number of seconds; it is 0.0 for roi 0",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_name_the_thing(case):
    call, message = ERRORS[case]
    with pytest.raises(ValueError, match=message), raise_if_dask_computes():
        call()


def test_tau_in_milliseconds_is_doubted():
    with pytest.warns(UserWarning, match="tau is 700 s.*not in milliseconds"):
        xs2p.deconvolve(bare(), tau=700.0, fs=FS)
