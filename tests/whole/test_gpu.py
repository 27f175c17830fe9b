"""Everything on a real GPU: ``pytest -m gpu`` on a machine with a CUDA device and CuPy.

Skips as a whole, with the reason, where there is none. test_gpu_logic.py makes the same checks on
a stand-in for CuPy.
"""

from __future__ import annotations

import gpu_checks as checks
import numpy as np
import pytest
from gpu_checks import BACKENDS

import xs2p
from xs2p.compute.device import gpu_status
from xs2p.traces import sums_cupyx, sums_gpu

USABLE, REASON = gpu_status()
if not USABLE:
    pytest.skip(f"no GPU: {REASON}", allow_module_level=True)
pytestmark = [
    pytest.mark.gpu,
    # One ROI of the recording has no pixel of its own.
    pytest.mark.filterwarnings("ignore:.* of .* ROIs"),
]


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


def without(work, why):
    """Skip what needs something that this device or installation has not."""
    try:
        work()
    except Exception as error:
        pytest.skip(f"{why}: {type(error).__name__}: {error}")


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.fixture(params=checks.KERNELS)
def kernels(request):
    return request.param


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float32", "float64"])
def test_extract(cupy, kernels, backend, dtype):
    checks.check_extract(backend, cupy, "gpu", kernels, dtype)
    if dtype != "int16":
        return
    if backend.endswith("cupy"):
        checks.check_extract(backend, cupy, None, kernels, dtype)
    checks.check_extract(backend, cupy, "auto", kernels, dtype)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "int32", "uint32", "int64", "uint64"])
def test_extract_of_any_dtype(cupy, kernels, backend, dtype):
    checks.check_dtype(backend, cupy, kernels, dtype)


def test_other_movies(cupy, kernels, backend):
    if backend.startswith("dask"):
        checks.check_tiles(backend, cupy, "gpu", kernels)
    checks.check_channels(backend, cupy, "gpu", kernels)
    checks.check_snr_threshold(backend, cupy, "gpu", kernels)


APPROXIMATE = ("prctile", "detrend")


@pytest.mark.parametrize("step", checks.STEPS)
def test_step(cupy, kernels, backend, step):
    checks.check_step(step, backend, cupy, "gpu", kernels, step not in APPROXIMATE)
    if backend.endswith("cupy") and step in checks.OF_EACH_FUNCTION:
        checks.check_step(step, backend, cupy, None, kernels)


@pytest.mark.parametrize("backend", ["numpy", "dask"])  # of CuPy's arrays nothing is copied
@pytest.mark.parametrize("name", checks.BESIDE)
def test_baseline_beside_spikes(cupy, kernels, backend, name):
    checks.check_beside(name, backend, cupy, "gpu", kernels)


def test_dff(cupy, kernels, backend):
    checks.check_dff(backend, cupy, "gpu", kernels)


def test_neuropil_of_each_roi(cupy, kernels, backend):
    checks.check_own_neuropil(backend, cupy, "gpu", kernels)


def test_decay_and_times(cupy, backend):
    checks.check_decay_and_times(backend, cupy, "gpu")


def test_images(cupy, backend):
    checks.check_images(backend, cupy)


def test_demix(cupy, kernels, backend):
    checks.check_demix(backend, cupy, "gpu", kernels)


def test_demix_of_any_chunks(cupy, kernels):
    checks.check_demix_of_any_chunks(cupy, kernels)


def test_quality(cupy, backend):
    if backend.endswith("cupy"):
        without(lambda: cupy.fft.rfft(cupy.ones(8)), "spectra need cuFFT")
    where = {} if backend.endswith("cupy") else {"device": "gpu", "kernels": "own"}
    checks.check_quality(backend, cupy, **where)


def test_tau_of_each_roi(cupy, kernels, backend):
    checks.check_taus(backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_a_penalty_that_is_too_large(cupy, kernels, backend):
    checks.check_steps_back(backend, cupy, kernels)


@pytest.mark.parametrize("name", checks.STATISTICS)
def test_statistic(cupy, backend, name):
    checks.check_statistic(name, backend, cupy)


def test_long_traces_are_cut_in_time(cupy):
    F = checks.traces(3, 200_000) - np.float32(300)
    checks.equal(
        xs2p.deconvolve(F, tau=0.5, device="gpu", kernels="own"), xs2p.deconvolve(F, tau=0.5)
    )
    options = {"tau": 0.5, "penalty": 30.0, "return_denoised": True}
    checks.equal(xs2p.deconvolve(F, device="gpu", **options), xs2p.deconvolve(F, **options))


def test_windows_beyond_shared_memory(cupy, kernels):
    F = checks.traces(3, 20_000)
    options = {"win_baseline": 900.0, "fs": 10.0}
    result = xs2p.baseline(F, device="gpu", kernels=kernels, **options)
    checks.equal(result, xs2p.baseline(F, **options), checks.EXACT[kernels])


def test_masks_as_matrices_of_cupyx(cupy):
    checks.check_to_cupyx(cupy)


def test_masks_are_uploaded_once(cupy, kernels):
    checks.check_uploaded_once(cupy, kernels)


def test_eight_threads_at_once(cupy, kernels):
    checks.check_threads_at_once(cupy, kernels)


def test_results_are_the_same_from_run_to_run(cupy, kernels):
    checks.check_stable(cupy, kernels, 10)


@pytest.mark.parametrize("radius", checks.RADII)
def test_gaussians(cupy, radius):
    for backend in ("numpy", "cupy"):
        checks.check_gaussians(cupy, radius, backend, 300 if radius > 10_000 else 1793)


def test_the_current_device_is_not_the_first(cupy, kernels):
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("there is one device")
    with cupy.cuda.Device(1):
        for backend in ("numpy", "cupy"):
            checks.check_extract(backend, cupy, "gpu", kernels)
            for step in ("maximin", "rolling_median", "deconvolve", "noise"):
                checks.check_step(step, backend, cupy, "gpu", kernels)
        checks.check_gaussians(cupy, 2178, "cupy", 70)


def test_without_pinned_memory(cupy, kernels):
    checks.check_without_pinned_memory(cupy, kernels)


@pytest.mark.parametrize("megabytes", [4, 2])
def test_out_of_memory(cupy, kernels, megabytes):
    checks.check_out_of_memory(cupy, kernels, megabytes * 2**20, n_frames=2000)


def test_a_store(cupy, kernels, backend, tmp_path):
    movie, rois = checks.recording()
    options = {"tau": 0.7, "win_baseline": 2.0, "penalty": "noise", "denoised": True}
    expected = xs2p.extract(movie, rois, **options)
    given, path = checks.on(backend, movie, cupy), tmp_path / "traces.zarr"
    options |= {"device": "gpu", "kernels": kernels, "progress": False}
    ds = xs2p.extract_to_zarr(given, rois, path, **options)
    checks.equal(ds.compute(), expected, checks.EXACT[kernels])
    checks.made_by(ds, kernels)


def numba_cuda():
    from numba import cuda

    cuda.current_context()


@pytest.mark.parametrize("backend", ["dask", "dask-cupy"])
def test_distributed_with_one_worker(cupy, kernels, backend):
    from distributed import Client, LocalCluster

    if backend == "dask-cupy":
        without(numba_cuda, "CuPy's blocks go between processes by numba.cuda")
    uploads = {"cupyx": sums_cupyx, "own": sums_gpu}[kernels]
    movie, rois = checks.recording(n_frames=120)
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract(movie, rois, tau=0.7, win_baseline=2.0)
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        where = {"device": "gpu", "kernels": kernels}
        lazy = checks.on(backend, movie, cupy, (11, -1))
        ds = xs2p.extract(lazy, rois, tau=0.7, win_baseline=2.0, **where)
        checks.equal(checks.checked(ds, backend, cupy), expected, checks.EXACT[kernels])
        before = sum(client.run(lambda: uploads.UPLOADS.count).values())
        lazy = checks.on("dask", movie, cupy, (7, -1))
        xs2p.extract_traces(lazy, masks, **where).compute()
        assert sum(client.run(lambda: uploads.UPLOADS.count).values()) == before + 1
