"""What must hold on a GPU: run by test_gpu.py on one, by test_gpu_logic.py on a stand-in."""

from __future__ import annotations

import contextlib
import functools
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import xarray as xr
from dask.base import tokenize

import xs2p
from xs2p.compute.arrays import as_array, to_host
from xs2p.testing import raise_if_dask_computes
from xs2p.traces import (
    equations_cupyx,
    equations_gpu,
    filters_cpu,
    filters_gpu,
    oasis_cpu,
    sparse_cpu,
    sparse_cupyx,
    sparse_gpu,
    sums_cupyx,
    sums_gpu,
)

BACKENDS = ("numpy", "dask", "cupy", "dask-cupy")
KERNELS = ("cupyx", "own")
# What their results are made by on a GPU: the CPU's to the last bit, or to rounding.
EXACT = {"cupyx": False, "own": True}
FS = 10.0


@functools.cache
def recording(n_frames=70, seed=0, dtype="int16", shape=(40, 37), n_rois=6):
    """A movie ``(time, y, x)`` in memory and an ROI set, one ROI of them without a mask."""
    rng = np.random.default_rng(seed)
    frames = rng.integers(0, 200, (n_frames, *shape)).astype(dtype)
    stat = []
    for n in range(n_rois):
        y, x = rng.integers(1, shape[0] - 6), rng.integers(1, shape[1] - 6)
        ypix, xpix = (i.ravel() for i in np.mgrid[y : y + 4, x : x + 5])
        if n == 2:  # inside the one before: no pixel is its own
            ypix, xpix = stat[1]["ypix"][:3], stat[1]["xpix"][:3]
        stat.append({"ypix": ypix, "xpix": xpix, "lam": rng.random(ypix.size) + 0.5})
    movie = xr.DataArray(frames, dims=("time", "y", "x"), attrs={"fs": FS})
    return movie, xs2p.rois_from_stat(stat, shape)


def traces(n_rois=7, n_frames=400, seed=0):
    rng = np.random.default_rng(seed)
    spikes = rng.poisson(0.03, (n_rois, n_frames)).astype(float)
    for t in range(1, n_frames):
        spikes[:, t] += 0.9 * spikes[:, t - 1]
    values = 100 * spikes + rng.normal(300, 20, spikes.shape)
    return xr.DataArray(
        values.astype(np.float32),
        dims=("roi", "time"),
        coords={"roi": 10 * np.arange(n_rois)},
        attrs={"fs": FS},
    )


def on(backend, array, cupy, chunks=(29, -1)):
    """The same array over one of the backends; ``chunks`` are of time and of the rest."""
    if backend.endswith("cupy"):
        array = array.copy(data=as_array(cupy, array.values))
    if backend.startswith("dask"):
        array = array.chunk({d: chunks[0] if d == "time" else chunks[1] for d in array.dims})
    return array


def checked(result, backend, cupy):
    """The values of a result on the host, once its type is known to be the backend's."""
    kind = cupy.ndarray if backend.endswith("cupy") else np.ndarray
    if isinstance(result, xr.Dataset):
        return result.assign({n: checked(v, backend, cupy) for n, v in result.data_vars.items()})
    assert (result.chunks is not None) == backend.startswith("dask"), result.name
    if result.chunks is not None:
        assert type(result.data._meta) is kind, (result.name, type(result.data._meta))
        assert result.data._meta.dtype == result.dtype
        result = result.compute()
    assert type(result.data) is kind, (result.name, type(result.data))
    return result.copy(data=cupy.asnumpy(result.data))


def said(attrs):
    """Attributes but for the one that tells on which device a result was made."""
    return {name: value for name, value in attrs.items() if name != "kernels"}


def made_by(result, kernels):
    """Look whether a result says which kernels made it."""
    if isinstance(result, xr.Dataset):
        for name in {"F", "Fneu", "F0", "spks", "denoised", "dFF", "noise"} & set(result.data_vars):
            made_by(result[name], kernels)
    else:
        assert result.attrs.get("kernels") == kernels, result.name


def equal(a, b, exact=True):
    """Compare results; ``exact``: to the last bit."""
    variables = a.data_vars if isinstance(a, xr.Dataset) else {a.name: a}
    for name in variables:
        x, y = (d[name] if isinstance(d, xr.Dataset) else d for d in (a, b))
        assert x.dtype == y.dtype and x.dims == y.dims and said(x.attrs) == said(y.attrs), name
        if exact:
            np.testing.assert_array_equal(x.values, y.values, err_msg=str(name))
        else:
            np.testing.assert_allclose(x.values, y.values, rtol=1e-4, atol=1e-2, err_msg=str(name))


STEPS = {
    "maximin": lambda F, **o: xs2p.baseline(F, "maximin", win_baseline=4.0, **o),
    "maximin_legacy": lambda F, **o: xs2p.baseline(F, "maximin_legacy", win_baseline=4.1, **o),
    "constant": lambda F, **o: xs2p.baseline(F, "constant", sig_baseline=3.0, **o),
    "constant_global": lambda F, **o: xs2p.baseline(F, "constant_global", **o),
    "prctile": lambda F, **o: xs2p.baseline(F, "prctile", prctile_baseline=12.5, **o),
    "none": lambda F, **o: xs2p.baseline(F, "none", **o),
    "rolling_prctile": lambda F, **o: xs2p.baseline(F, "rolling_prctile", win_baseline=4.0, **o),
    "rolling_median": lambda F, **o: xs2p.baseline(F, "rolling_median", win_baseline=4.0, **o),
    "inactive_median": lambda F, **o: xs2p.baseline(F, "inactive_median", win_baseline=4.0, **o),
    "detrend": lambda F, **o: xs2p.baseline(F, win_baseline=4.0, detrend="exponential", **o),
    "darkens": lambda F, **o: xs2p.preprocess(F, win_baseline=3.0, polarity=-1, **o),
    "dff": lambda F, **o: xs2p.dff(F, xs2p.baseline(F, win_baseline=4.0, **o), **o),
    "noise": lambda F, **o: xs2p.noise(F, **o),
    "preprocess": lambda F, **o: xs2p.preprocess(F, win_baseline=3.0, **o),
    "deconvolve": lambda F, **o: xs2p.deconvolve(F - np.float32(300), tau=0.7, fs=FS, **o),
    "denoised": lambda F, **o: calcium(F, **o),
    "s_min": lambda F, **o: calcium(F, s_min=40.0, **o),
    "s_min of each": lambda F, **o: calcium(F, s_min=smallest(F), **o),
    "penalty": lambda F, **o: calcium(F, penalty="noise", **o),
    "lambda": lambda F, **o: calcium(F, penalty=30.0, **o),
}
OF_EACH_FUNCTION = ("maximin", "preprocess", "dff", "noise", "denoised")
# Those whose kernels are the package's own, whichever are asked for.
OASIS = ("deconvolve", "denoised", "s_min", "s_min of each", "penalty", "lambda")
STATISTICS = {"snr": xs2p.snr, "skew": xs2p.skew, "std": xs2p.std}


def calcium(F, **options):
    return xs2p.deconvolve(F - np.float32(300), tau=0.7, fs=FS, return_denoised=True, **options)


def smallest(F):
    """The smallest spike of each ROI; of one it is not known."""
    values = np.linspace(0, 60, F.sizes["roi"])
    values[4] = np.nan
    return xr.DataArray(values, dims="roi", coords={"roi": F.roi})


@contextlib.contextmanager
def without_the_hosts_oasis():
    """Whoever deconvolves on the CPU now fails."""
    with contextlib.ExitStack() as stack:
        for module in (oasis_cpu, sparse_cpu):
            for name in module.__all__:
                fails = mock.Mock(side_effect=AssertionError(f"{name} of the host was called"))
                stack.enter_context(mock.patch.object(module, name, fails))
        yield


_OF_THE_CPU = {}


def of_the_cpu(function, dtype, **options):
    """What the CPU makes of the recording, found once."""
    key = function.__name__, dtype, tokenize(options)
    if key not in _OF_THE_CPU:
        movie, rois = recording(dtype=dtype)
        given = xs2p.build_masks(rois) if function is xs2p.extract_traces else rois
        _OF_THE_CPU[key] = function(movie, given, **options)
    return _OF_THE_CPU[key]


def check_dtype(backend, cupy, kernels, dtype):
    movie, rois = recording(dtype=dtype)
    given = on(backend, movie, cupy)
    result = xs2p.extract_traces(given, xs2p.build_masks(rois), device="gpu", kernels=kernels)
    expected = of_the_cpu(xs2p.extract_traces, dtype)
    equal(checked(result, backend, cupy), expected, EXACT[kernels])


def check_extract(backend, cupy, device, kernels, dtype="int16", **options):
    movie, rois = recording(dtype=dtype)
    options |= {"tau": 0.7, "win_baseline": 2.0}
    expected = of_the_cpu(xs2p.extract, dtype, **options)
    given = on(backend, movie, cupy)
    with raise_if_dask_computes():
        ds = xs2p.extract(given, rois, device=device, kernels=kernels, **options)
    result = checked(ds, backend, cupy)
    equal(result, expected, EXACT[kernels])
    made_by(result, kernels)
    assert (result.status == expected.status).all()


def check_dff(backend, cupy, device, kernels):
    """What is made of medians and noise, of two sessions."""
    options = {"neuropil": "centred", "dff": True, "segments": np.arange(70) // 40}
    check_extract(backend, cupy, device, kernels, baseline="rolling_median", **options)
    check_extract(backend, cupy, device, kernels, polarity=-1, dark_offset=2.0, **options)
    rois = recording()[1].roi
    darks = xr.DataArray(np.linspace(-3, 9, rois.size), dims="roi", coords={"roi": rois})
    check_extract(backend, cupy, device, kernels, dark_offset=darks, **options)


def check_own_neuropil(backend, cupy, device, kernels):
    """A coefficient of each ROI: given, and estimated."""
    ratios = xr.DataArray(np.linspace(0.2, 0.8, recording()[1].sizes["roi"]), dims="roi")
    check_extract(backend, cupy, device, kernels, neuropil_coefficient=ratios, dff=True)
    # Of few ROIs, and of "mutualinfo" one: what a pair shares is counted for every coefficient.
    movie, rois = recording(n_frames=300, shape=(16, 17), n_rois=2)
    ds = xs2p.extract(movie, rois).compute()
    F, Fneu = (on(backend, ds[name], cupy, (70, 1)) for name in ("F", "Fneu"))
    for method, n_rois in (("binned", 2), ("mutualinfo", 1)):
        some = slice(n_rois)
        expected = xs2p.neuropil_coefficient(ds.F[some], ds.Fneu[some], method)
        with raise_if_dask_computes():
            found = xs2p.neuropil_coefficient(
                F[some], Fneu[some], method, device=device, kernels=kernels
            )
        np.testing.assert_allclose(checked(found.reset_coords(drop=True), backend, cupy), expected)
    made = xs2p.extract(
        on(backend, movie, cupy),
        rois,
        neuropil_coefficient="binned",
        win_baseline=2.0,
        device=device,
        kernels=kernels,
    )
    expected = xs2p.neuropil_coefficient(ds.F, ds.Fneu, "binned").astype("f4")
    np.testing.assert_allclose(
        checked(made.Fc.reset_coords(drop=True), backend, cupy),
        ds.F - expected * ds.Fneu,
        rtol=1e-4,
        atol=1e-2,
    )


def check_decay_and_times(backend, cupy, device):
    """The decay time that is estimated, and traces at the times of the frames."""
    F = traces()
    given = on(backend, F, cupy, (70, 3))
    with raise_if_dask_computes():
        found = xs2p.estimate_tau(given, device=device, kernels="cupyx")
    expected = xs2p.estimate_tau(F)
    for name in expected.data_vars:
        result = checked(found[name], backend, cupy)
        np.testing.assert_allclose(result, expected[name], rtol=1e-6)
    offsets = ("roi", np.linspace(0, 0.3, F.sizes["roi"]))
    one, other = (x.to_dataset(name="F").assign_coords(time_offset=offsets) for x in (F, given))
    moved = other.s2p.align_time()
    np.testing.assert_array_equal(checked(moved.F, backend, cupy), one.s2p.align_time().F)


def check_images(backend, cupy):
    """Images of the whole movie, on the host wherever the movie is, in one batch and in several."""
    movie = recording()[0]
    expected = movie.s2p.summary_images()
    for given in (on(backend, movie, cupy), on(backend, movie, cupy, (29, 16))):
        found = given.s2p.summary_images()
        for name, image in expected.items():
            assert type(found[name].data) is np.ndarray and found[name].dtype == image.dtype
            np.testing.assert_allclose(found[name], image, rtol=1e-6, atol=1e-6, err_msg=name)
        np.testing.assert_array_equal(given.s2p.mean_image(), found["mean"])


def check_demix(backend, cupy, device, kernels):
    """What is fitted to the last bit, or to rounding, is what the CPU fits."""
    movie, rois = recording()
    for options in ({}, {"nonnegative": True}, {"background": None}):
        expected = xs2p.demix(movie, rois, **options)
        with raise_if_dask_computes():
            given = on(backend, movie, cupy)
            made = xs2p.demix(given, rois, device=device, kernels=kernels, **options)
        equal(checked(made, backend, cupy), expected, EXACT[kernels])
        assert (made.status == expected.status).all()
    given = on(backend, movie, cupy, (29, 16))
    made = xs2p.demix(given, rois, device=device, kernels=kernels)
    equal(checked(made, backend, cupy), xs2p.demix(movie, rois), exact=False)


def check_demix_of_any_chunks(cupy, kernels, n_frames=70):
    """Chunks change nothing; what the device solves by is uploaded once, and goes with its user."""
    import gc

    movie, rois = recording(n_frames=n_frames, shape=(20, 21))
    uploads = {"cupyx": equations_cupyx, "own": equations_gpu}[kernels].UPLOADS
    for options, n_parts in (({}, 3), ({"nonnegative": True}, 4), ({"background": None}, 1)):
        expected = xs2p.demix(movie, rois, **options)
        before, kept = uploads.count, len(uploads)
        for n, backend in enumerate(("dask", "dask-cupy"), 1):
            lazy = on(backend, movie, cupy, (13 * n, -1))
            made = xs2p.demix(lazy, rois, device="gpu", kernels=kernels, **options)
            equal(checked(made, backend, cupy), expected, EXACT[kernels])
            own = n_parts - (kernels == "cupyx" and "nonnegative" in options)
            assert uploads.count == before + n * own
            del lazy, made
            gc.collect()
            assert len(uploads) == kept


def check_quality(backend, cupy, **where):
    """Spectra and sums may differ in the last bits: a GPU adds up in another order."""
    movie, rois = recording(n_frames=2500, shape=(16, 17))
    segment, valid = np.arange(2500) // 1450, np.random.default_rng(0).random(2500) > 0.002
    ds = xs2p.extract(movie, rois, tau=0.7, win_baseline=2.0, valid=valid, segments=segment)
    ds = ds.compute()
    given = ds.assign(
        {name: on(backend, ds[name], cupy, (350, 3)) for name in ("F", "Fneu", "Fc", "F0")}
    )
    for by_segment in (False, True):
        expected = xs2p.quality(ds, by_segment=by_segment)
        with raise_if_dask_computes():
            found = xs2p.quality(given, by_segment=by_segment, **where)
        for name in expected:
            result = found[name]
            if name not in ("vif", "free_pixels", "free_share"):
                result = checked(result, backend, cupy)
            exact = name in ("noise", "noise_level", "neuropil_ratio", "valid_share")
            rtol = 0 if exact else 1e-6
            np.testing.assert_allclose(result, expected[name], rtol=rtol, err_msg=name)


# Baselines that are found beside the spikes, some of them in memory only, and two that are not.
BESIDE = {
    "maximin": {"win_baseline": 4.0},
    "darkens": {"win_baseline": 4.0, "polarity": -1},
    "legacy": {"baseline": "maximin_legacy", "win_baseline": 4.1},
    "rolling": {"baseline": "rolling_prctile", "win_baseline": 3.0},
    "inactive": {"baseline": "inactive_median", "win_baseline": 5.0},
    "prctile": {"baseline": "prctile"},
    "prctile darkens": {"baseline": "prctile", "polarity": -1},
    "constant": {"baseline": "constant", "sig_baseline": 3.0},
    "constant darkens": {"baseline": "constant", "sig_baseline": 60.0, "polarity": -1},
    "global": {"baseline": "constant_global", "sig_baseline": 3.0},
    "detrend": {"win_baseline": 4.0, "detrend": "exponential"},
}


@functools.cache
def sessions():
    """Traces of two sessions, with gaps, and the decay time of each."""
    F = traces(5, 2570)
    F[1, 40:60] = F[2, 600:1900] = F[3] = np.nan
    tau = xr.DataArray([0.3, 0.2, 0.3, 0.1, 0.2], dims="roi", coords={"roi": F.roi})
    valid = np.random.default_rng(0).random(2570) > 0.05
    valid[1010:1400] = False
    return F.assign_coords(valid=("time", valid), segment=("time", np.arange(2570) // 1500)), tau


@functools.cache
def beside_one_by_one(name, device, kernels):
    """F0 and spikes of these, by two steps in memory."""
    (F, tau), options = sessions(), dict(BESIDE[name])
    where, sign = {"device": device, "kernels": kernels}, options.get("polarity", 1)
    F0 = xs2p.baseline(F, options.pop("baseline", "maximin"), **options, **where)
    upward = (F - F0).assign_attrs(F0.attrs)
    return F0, xs2p.deconvolve(upward, tau=tau, polarity=sign, **where)


def check_beside(name, backend, cupy, device, kernels):
    """F0 and spikes that are made by one way there and back are those of the two steps, bit by bit.

    Of traces with gaps, of two sessions, and with a last chunk all of which its neighbour sees.
    """
    F, tau = sessions()
    options = BESIDE[name]
    given = on(backend, F.drop_vars(["valid", "segment"]), cupy, (200, -1))
    given = given.assign_coords(valid=F.valid, segment=F.segment)
    with raise_if_dask_computes():
        made = xs2p.reprocess(
            given.to_dataset(name="F"), tau=tau, device=device, kernels=kernels, **options
        )
    if backend.startswith("dask"):
        assert made.spks.data.numblocks[-1] > 1 or name in ("inactive", "detrend")
    made = checked(made, backend, cupy)
    F0, spks = beside_one_by_one(name, device, kernels)
    for result, expected in ((made.F0, F0), (made.spks, spks)):
        np.testing.assert_array_equal(result.values, expected.values)
        assert result.dtype == np.float32 and result.dims == expected.dims
        for key in set(expected.attrs) - {"polarity"}:
            assert result.attrs[key] == expected.attrs[key], key
    np.testing.assert_array_equal(made.tau, tau)


def check_tiles(backend, cupy, device, kernels):
    movie, rois = recording()
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract_traces(movie, masks)
    given = on(backend, movie, cupy, (29, 16))
    assert given.data.numblocks[1:] == (3, 3)
    result = checked(
        xs2p.extract_traces(given, masks, device=device, kernels=kernels), backend, cupy
    )
    equal(result, expected, exact=False)


def check_channels(backend, cupy, device, kernels):
    movie, rois = recording()
    both = xr.concat([movie, movie + 5], "channel").assign_attrs(movie.attrs)
    masks = xs2p.build_masks(rois, neuropil_extract=False)
    expected = xs2p.extract_traces(both, masks)
    result = xs2p.extract_traces(on(backend, both, cupy), masks, device=device, kernels=kernels)
    equal(checked(result, backend, cupy), expected, EXACT[kernels])


@functools.cache
def step_of_the_cpu(step):
    """Traces with gaps, and what a step makes of them on the CPU."""
    F = traces()
    F[3, 200] = np.nan
    F[5] = np.nan
    return F, STEPS[step](F)


def check_step(step, backend, cupy, device, kernels, exact=True):
    F, expected = step_of_the_cpu(step)
    for chunks in ((400, 3), (150, -1))[: 2 if backend.startswith("dask") else 1]:
        there = without_the_hosts_oasis() if step in OASIS else contextlib.nullcontext()
        with there:
            with raise_if_dask_computes():
                result = STEPS[step](on(backend, F, cupy, chunks), device=device, kernels=kernels)
            result = checked(result, backend, cupy)
        equal(result, expected, exact and (EXACT[kernels] or step in OASIS))
        made_by(result, kernels)


def check_taus(backend, cupy, device, kernels):
    F = traces() - np.float32(300)
    tau = xr.DataArray([0.5, 1.0, 0.5, 2.0, 1.0, 0.7, 0.1], dims="roi", coords={"roi": F.roi})
    expected = xs2p.deconvolve(F, tau=tau, fs=FS)
    result = xs2p.deconvolve(
        on(backend, F, cupy, (400, 3)), tau=tau, fs=FS, device=device, kernels=kernels
    )
    equal(checked(result, backend, cupy), expected)


def clean_decays(n_traces=40, n_frames=60, tau_fs=20.0):
    """Calcium with no noise but what float32 rounds, and how much is to be left of each trace.

    That is so little that the rounding of sums decides whether they are above it: on the way to a
    penalty some steps go too far, and the next ones back.
    """
    rng = np.random.default_rng(0)
    F = (rng.random((n_traces, n_frames)) < 0.05) * rng.uniform(0.5, 1, (n_traces, n_frames))
    for t in range(1, n_frames):
        F[:, t] += np.exp(-1 / tau_fs) * F[:, t - 1]
    return F.astype(np.float32), np.float32(tau_fs), 10 ** rng.uniform(-8, -6, n_traces)


def check_steps_back(backend, cupy, kernels):
    """A penalty that was too large is made smaller in the CPU's steps: its bits come out."""
    F, tau_fs, sigma = clean_decays()
    given = as_array(cupy, F) if backend == "cupy" else F
    found = {"cupyx": sparse_cupyx, "own": sparse_gpu}[kernels].penalties(given, tau_fs, sigma)
    assert type(found) is type(given)
    np.testing.assert_array_equal(to_host(found), sparse_cpu.penalties(F, tau_fs, sigma))


def check_statistic(name, backend, cupy):
    F = traces()
    F[1], F[2] = 7.25, np.nan
    with raise_if_dask_computes():
        result = STATISTICS[name](on(backend, F, cupy, (150, 3)))
    result, expected = checked(result, backend, cupy), STATISTICS[name](F)
    np.testing.assert_allclose(result, expected, rtol=1e-9)


def check_snr_threshold(backend, cupy, device, kernels):
    movie, rois = recording()
    options = {"tau": 0.7, "win_baseline": 2.0, "snr_threshold": 0.0001}
    expected = xs2p.extract(movie, rois, **options)
    result = xs2p.extract(on(backend, movie, cupy), rois, device=device, kernels=kernels, **options)
    assert 0 < result.sizes["roi"] < rois.sizes["roi"]
    equal(checked(result, backend, cupy), expected, exact=False)


def check_uploaded_once(cupy, kernels, n_threads=8):
    """Whatever the number of chunks and threads; and freed with the last user."""
    import gc

    import dask

    uploads = {"cupyx": sums_cupyx, "own": sums_gpu}[kernels].UPLOADS
    movie, rois = recording(n_frames=200)
    masks = xs2p.build_masks(rois)
    before, kept = uploads.count, len(uploads)
    lazy = xs2p.extract_traces(
        on("dask", movie, cupy, (5, -1)), masks, device="gpu", kernels=kernels
    )
    with dask.config.set(scheduler="threads", num_workers=n_threads):
        result = lazy.compute()
    assert uploads.count == before + 1
    del lazy  # the graph has the masks
    gc.collect()
    assert len(uploads) == kept
    expected = xs2p.extract_traces(movie, masks)
    equal(result, expected, EXACT[kernels])
    for backend in ("numpy", "cupy", "numpy"):  # in memory: as long as the masks live
        result = xs2p.extract_traces(on(backend, movie, cupy), masks, device="gpu", kernels=kernels)
        equal(checked(result, backend, cupy), expected, EXACT[kernels])
    assert uploads.count == before + 2
    del masks
    gc.collect()
    assert len(uploads) == kept


def check_threads_at_once(cupy, kernels, n_threads=8):
    movie, rois = recording(n_frames=150)
    masks = xs2p.build_masks(rois)
    F = traces() - np.float32(300)
    expected = xs2p.extract_traces(movie, masks), xs2p.deconvolve(F, tau=0.7, fs=FS)

    def both(_):
        return (
            xs2p.extract_traces(movie, masks, device="gpu", kernels=kernels),
            xs2p.deconvolve(F, tau=0.7, fs=FS, device="gpu", kernels=kernels),
        )

    with ThreadPoolExecutor(n_threads) as pool:
        for result in pool.map(both, range(3 * n_threads)):
            for a, b in zip(result, expected, strict=True):
                equal(a, b, EXACT[kernels])


def check_out_of_memory(cupy, kernels, limit, n_frames=300):
    """With too little memory for the batch it starts with, the same results in smaller ones."""
    movie, rois = recording(n_frames=n_frames)
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract_traces(movie, masks)
    pool = cupy.get_default_memory_pool()
    pool.free_all_blocks()
    pool.set_limit(size=pool.used_bytes() + limit)
    try:
        result = xs2p.extract_traces(movie, masks, device="gpu", kernels=kernels)
    finally:
        pool.set_limit(size=0)
    equal(result, expected, EXACT[kernels])


# Gaussians whose samples 48 kB of shared memory just hold, and not; then more than any device has.
RADII = (0, 1, 30, 2175, 2178, 2400, 15_000)


def check_gaussians(cupy, radius, backend, n_frames):
    """The CPU's bits, whatever of a trace's neighbours is in shared memory."""
    for length in (1, 70, n_frames):
        F = traces(3, length).values
        F[1, length // 2] = np.nan
        given = as_array(cupy, F) if backend == "cupy" else F
        for legacy, sigma in ((False, radius / 3), (True, radius / 4)):
            expected = filters_cpu.maximin(F, sigma, 1, legacy=legacy)
            result = to_host(filters_gpu.maximin(given, sigma, 1, legacy=legacy))
            np.testing.assert_array_equal(result, expected)
        expected = filters_cpu.gaussian_scipy(F[::2], radius / 4)
        result = to_host(filters_gpu.gaussian_scipy(given[::2], radius / 4))
        np.testing.assert_array_equal(result, expected)


def check_without_pinned_memory(cupy, kernels):
    """Where memory must not be locked nothing warns, and all is as it was."""

    def refuse(nbytes):
        raise cupy.cuda.runtime.CUDARuntimeError(2)  # cudaErrorMemoryAllocation

    cupy.cuda.set_pinned_memory_allocator(refuse)
    try:
        for backend in ("numpy", "cupy"):
            check_extract(backend, cupy, "gpu", kernels, dff=True, baseline="rolling_median")
            for step in ("maximin", "deconvolve", "detrend", "noise"):
                check_step(step, backend, cupy, "gpu", kernels, exact=False)
        check_to_cupyx(cupy)
    finally:
        cupy.cuda.set_pinned_memory_allocator(cupy.get_default_pinned_memory_pool().malloc)


def check_stable(cupy, kernels, runs=3):
    """The same bits from run to run."""
    movie, rois = recording(dtype="float32")
    first = xs2p.extract(movie, rois, tau=0.7, win_baseline=2.0, device="gpu", kernels=kernels)
    for _ in range(runs):
        equal(
            xs2p.extract(movie, rois, tau=0.7, win_baseline=2.0, device="gpu", kernels=kernels),
            first,
        )


def check_to_cupyx(cupy):
    """The masks' own products, as a user makes them, are the traces."""
    movie, rois = recording()
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract_traces(movie, masks)
    frames = as_array(cupy, movie.values).reshape(movie.sizes["time"], -1).astype(np.float32)
    for matrix, name in zip(masks.to_cupyx(), ("F", "Fneu"), strict=True):
        assert type(matrix).__module__.startswith("cupyx.scipy.sparse")
        assert matrix.shape == (40 * 37, 6)
        products = cupy.asnumpy(frames @ matrix).T
        known = np.nan_to_num(expected[name].values)
        np.testing.assert_allclose(products, known, rtol=1e-4, atol=1e-2)
    assert xs2p.build_masks(rois, neuropil_extract=False).to_cupyx()[1] is None
