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
from xs2p.masks.layout import layout
from xs2p.traces import sums_cpu, sums_gpu

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


@pytest.fixture(params=BACKENDS)
def backend(request):
    return request.param


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "float32", "float64"])
def test_extract(cupy, backend, dtype):
    checks.check_extract(backend, cupy, "gpu", dtype)
    if backend.endswith("cupy"):
        checks.check_extract(backend, cupy, None, dtype)
    checks.check_extract(backend, cupy, "auto", dtype)


@pytest.mark.parametrize("dtype", ["bool", "int8", "float16", "int32", "uint32", "int64", "uint64"])
def test_extract_of_any_dtype(cupy, backend, dtype):
    movie, rois = checks.recording(dtype=dtype)
    masks = xs2p.build_masks(rois)
    result = xs2p.extract_traces(checks.on(backend, movie, cupy), masks, device="gpu")
    checks.equal(checks.checked(result, backend, cupy), xs2p.extract_traces(movie, masks))


def test_other_movies(cupy, backend):
    if backend.startswith("dask"):
        checks.check_tiles(backend, cupy, "gpu")
    checks.check_channels(backend, cupy, "gpu")
    checks.check_snr_threshold(backend, cupy, "gpu")


APPROXIMATE = ("prctile", "detrend")


@pytest.mark.parametrize("step", checks.STEPS)
def test_step(cupy, backend, step):
    checks.check_step(step, backend, cupy, "gpu", exact=step not in APPROXIMATE)
    if backend.endswith("cupy"):
        checks.check_step(step, backend, cupy, None, exact=step not in APPROXIMATE)


def test_dff(cupy, backend):
    checks.check_dff(backend, cupy, "gpu")


def test_neuropil_of_each_roi(cupy, backend):
    checks.check_own_neuropil(backend, cupy, "gpu")


def test_decay_and_times(cupy, backend):
    checks.check_decay_and_times(backend, cupy, "gpu")


def test_demix(cupy, backend):
    checks.check_demix(backend, cupy, "gpu")


def test_quality(cupy, backend):
    checks.check_quality(backend, cupy)


def test_tau_of_each_roi(cupy, backend):
    checks.check_taus(backend, cupy, "gpu")


@pytest.mark.parametrize("name", checks.STATISTICS)
def test_statistic(cupy, backend, name):
    checks.check_statistic(name, backend, cupy)


def test_long_traces_are_cut_in_time(cupy):
    F = checks.traces(3, 200_000) - np.float32(300)
    checks.equal(xs2p.deconvolve(F, tau=0.5, device="gpu"), xs2p.deconvolve(F, tau=0.5))


def test_windows_beyond_shared_memory(cupy):
    F = checks.traces(3, 20_000)
    options = {"win_baseline": 900.0, "fs": 10.0}
    checks.equal(xs2p.baseline(F, device="gpu", **options), xs2p.baseline(F, **options))


def test_products_with_a_sparse_matrix_are_the_kernels_sums(cupy):
    from cupyx.scipy.sparse import csc_matrix

    movie, rois = checks.recording()
    masks = xs2p.build_masks(rois)
    matrix = sums_gpu.mask_matrix(masks.arrays(), csc_matrix)
    products = sums_gpu.mask_products(cupy.asarray(movie.values), matrix).get()
    sums = np.empty((2, masks.n_rois, movie.sizes["time"]))
    own = layout(masks.arrays())
    sums_cpu.mask_sums(movie.values, own, sums)
    means = sums[1] / np.maximum(own.neuropil_npix, 1)[:, None]
    expected = np.concatenate([sums[0], means])
    np.testing.assert_allclose(products.T, expected, rtol=1e-4, atol=1e-2)


def test_masks_are_uploaded_once(cupy):
    checks.check_uploaded_once(cupy)


def test_eight_threads_at_once(cupy):
    checks.check_threads_at_once(cupy)


def test_results_are_the_same_from_run_to_run(cupy):
    checks.check_stable(cupy, 10)


@pytest.mark.parametrize("megabytes", [4, 2])
def test_out_of_memory(cupy, megabytes):
    checks.check_out_of_memory(cupy, megabytes * 2**20, n_frames=2000)


def test_a_store(cupy, backend, tmp_path):
    movie, rois = checks.recording()
    options = {"tau": 0.7, "win_baseline": 2.0}
    expected = xs2p.extract(movie, rois, **options)
    given, path = checks.on(backend, movie, cupy), tmp_path / "traces.zarr"
    ds = xs2p.extract_to_zarr(given, rois, path, device="gpu", progress=False, **options)
    for name in expected.data_vars:
        np.testing.assert_array_equal(ds[name], expected[name])


def test_distributed_with_one_worker(cupy):
    from distributed import Client, LocalCluster

    movie, rois = checks.recording(n_frames=120)
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract(movie, rois, tau=0.7, win_baseline=2.0)
    with (
        LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        for backend in ("dask", "dask-cupy"):
            lazy = checks.on(backend, movie, cupy, (11, -1))
            ds = xs2p.extract(lazy, rois, tau=0.7, win_baseline=2.0, device="gpu")
            checks.equal(checks.checked(ds, backend, cupy), expected)
        before = sum(client.run(lambda: sums_gpu.UPLOADS.count).values())
        lazy = checks.on("dask", movie, cupy, (7, -1))
        xs2p.extract_traces(lazy, masks, device="gpu").compute()
        assert sum(client.run(lambda: sums_gpu.UPLOADS.count).values()) == before + 1
