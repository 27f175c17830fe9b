"""What goes on around the CUDA kernels, on a machine without a GPU.

Plain logic by itself, array expressions on numpy, and every public function on a stand-in for CuPy
whose kernels are the CUDA source run as C++. It says nothing about CuPy: test_gpu.py does.
"""

from __future__ import annotations

import contextlib
import gc
import importlib.util
import logging
import sys
import threading
import time
import types
import weakref
from concurrent.futures import ThreadPoolExecutor

import cuda_on_cpu
import dask
import fake_cupy
import gpu_checks as checks
import numpy as np
import pytest
import xarray as xr
from gpu_checks import BACKENDS
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_cases import random_masks

import xs2p
from xs2p.compute import arrays, gpu, gpu_copies, gpu_frames, gpu_memory, gpu_traces
from xs2p.compute import device as devices
from xs2p.masks.layout import layout
from xs2p.movie import images_gpu
from xs2p.testing import raise_if_dask_computes
from xs2p.traces import (
    columns,
    equations,
    equations_cpu,
    equations_cupyx,
    filters_cpu,
    filters_cupyx,
    filters_gpu,
    rolling_gpu,
    sums_cpu,
    sums_cupyx,
    sums_gpu,
)
from xs2p.traces.columns import from_columns, to_columns

# One ROI of the recording has no pixel of its own.
pytestmark = pytest.mark.filterwarnings("ignore:.* of .* ROIs")

# Where there is a device, test_gpu.py does all this on it.
REAL = devices.gpu_status()[0]


@pytest.fixture
def cupy(monkeypatch):
    if REAL:
        pytest.skip("there is a GPU: test_gpu.py checks this on it")
    if cuda_on_cpu.why_not() is not None:
        pytest.skip(cuda_on_cpu.why_not())
    yield fake_cupy.install(monkeypatch)
    monkeypatch.undo()
    fake_cupy.forget()


@pytest.fixture(params=checks.KERNELS)
def kernels(request):
    return request.param


@pytest.fixture
def no_gpu(monkeypatch):
    """Make CuPy absent."""
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *a: None if name == "cupy" else found(name, *a)
    )
    fake_cupy.forget()
    yield
    monkeypatch.undo()
    fake_cupy.forget()


# Memory, batches, uploads, pipelines


def test_batch_size():
    assert gpu_memory.batch_size(10, 1000, 500) == 100
    assert gpu_memory.batch_size(10, 1000, 50) == 50
    assert gpu_memory.batch_size(10, 1000, 500, multiple=32) == 96
    assert gpu_memory.batch_size(10, 250, 500, multiple=32) == 25
    assert gpu_memory.batch_size(10, 1000, 70, multiple=32) == 70
    assert gpu_memory.batch_size(10, -5, 500) == 1
    assert gpu_memory.batch_size(0, 100, 500) == 100


@pytest.mark.parametrize(
    ("gigabytes", "frames"),
    [(500, 9000), (100, 5696), (10, 320), (5, 128), (1, 29), (0.1, 2), (0, 1)],
)
def test_frames_at_once_of_a_large_movie(monkeypatch, gigabytes, frames):
    """17 MB for a frame and 539 for the rows of 32; where those of 256 are too much, of fewer."""
    arrays = random_masks(np.random.default_rng(0), (4, 4), 2)[0]
    masks = layout(arrays)
    n_segments = 2048 * 2048 // 256
    masks = masks._replace(segments=masks.segments._replace(first=np.zeros(n_segments)))
    monkeypatch.setattr(sums_gpu, "available", lambda: int(gigabytes * 1e9))
    size = sums_gpu.frames_at_once((2048, 2048), np.dtype(np.int16), masks, 9000)
    assert size == frames


@given(st.integers(0, 50), st.integers(1, 60), st.integers(1, 60))
def test_batches_are_halved_until_they_fit(n, size, fits):
    done, released = [], []

    def work(start, stop):
        if stop - start > fits:
            raise MemoryError("too much")
        done.extend(range(start, stop))

    enough = gpu_memory.in_batches(n, size, work, lambda: released.append(1), "frame")
    assert done == list(range(n))
    assert enough <= max(fits, size if n <= fits else 0) and len(released) <= 6


def test_what_failed_is_let_go_before_the_next_try():
    class Large:
        pass

    seen = []

    def work(start, stop):
        large = Large()
        if stop - start > 1:
            seen.append(weakref.ref(large))
            raise MemoryError

    gpu_memory.in_batches(2, 2, work, lambda: seen.append(seen[0]()), "frame")
    assert seen[1] is None


def test_not_even_one_frame_fits():
    def never(start, stop):
        raise MemoryError("allocating 7 bytes")

    with pytest.raises(MemoryError, match="what one frame needs .allocating 7 bytes.; free some"):
        gpu_memory.in_batches(9, 4, never, lambda: None, "frame")

    def nested(start, stop):
        gpu_memory.in_batches(3, 3, never, lambda: None, "trace")

    with pytest.raises(MemoryError, match="what one trace needs .allocating 7 bytes.;"):
        gpu_memory.in_batches(9, 4, nested, lambda: None, "frame")


def test_uploads_are_made_once_and_go_with_their_source():
    uploads, made = gpu_memory.Uploads(), []
    source, other = np.zeros(3), np.zeros(3)

    def upload():
        made.append(1)
        return object()

    with ThreadPoolExecutor(8) as pool:
        copies = set(pool.map(uploads.get, [source] * 50, [0] * 50, [upload] * 50))
    assert len(copies) == len(made) == uploads.count == 1
    assert uploads.get(other, 0, upload) not in copies
    assert uploads.get(source, 1, upload) not in copies  # another device
    assert uploads.count == len(uploads) == 3
    del source
    gc.collect()
    assert len(uploads) == 1 and uploads.count == 3


def test_pipelines_are_few_and_each_is_with_one_thread():
    made, now, most = [], [0], [0]
    lent = gpu_memory.Lent(lambda: made.append(1) or object(), lambda _: 3)
    lock = threading.Lock()

    def use(_):
        with lent.on(0):
            with lock:
                now[0] += 1
                most[0] = max(most[0], now[0])
            threading.Event().wait(0.001)
            with lock:
                now[0] -= 1

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(use, range(100)))
    assert most[0] <= 3 and len(made) <= 3
    with pytest.raises(RuntimeError), lent.on(0):
        raise RuntimeError
    with lent.on(0), lent.on(0), lent.on(0), lent.on(1), lent.alone(2):
        pass

    def alone(_):
        with lent.alone(0):
            assert now[0] == 0

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: (alone if n % 5 == 0 else use)(n), range(100)))


@given(st.integers(1, 10**5), st.integers(1, 10**7), st.integers(0, 5000))
def test_pieces_of_time(n_traces, n_frames, reach):
    n_pieces, step = gpu_memory.pieces_of_time(n_traces, n_frames, reach, 2**16)
    assert (n_pieces - 1) * step < n_frames <= n_pieces * step
    assert n_pieces == 1 or step >= 8 * reach
    assert n_pieces == 1 or (n_pieces - 1) * n_traces < 2**16


# Array expressions, on numpy


@given(st.integers(1, 4), st.integers(1, 90), st.integers(0, 12), st.integers(1, 6))
def test_columns_there_and_back(n_traces, n_frames, reach, n_pieces):
    F = np.arange(n_traces * n_frames, dtype=np.float32).reshape(n_traces, n_frames)
    step = -(-n_frames // n_pieces)
    n_pieces = -(-n_frames // step)
    columns, first, last = to_columns(F, n_pieces, step, reach)
    assert columns.flags.c_contiguous and columns.shape[1] == n_pieces * n_traces
    for piece in range(n_pieces):
        start = piece * step - reach if n_pieces > 1 else 0
        for trace in range(n_traces):
            column = columns[first[piece] : last[piece], piece * n_traces + trace]
            expected = F[trace, start + first[piece] : start + last[piece]]
            np.testing.assert_array_equal(column, expected)
            assert column.size >= min(step, n_frames - piece * step)
    np.testing.assert_array_equal(from_columns(columns, n_frames, n_pieces, step, reach), F)


@given(st.integers(1, 60), st.sampled_from([0.0, 8.0, 12.5, 50.0, 99.9, 100.0]), st.integers(0, 9))
def test_percentile_is_numpys(n_frames, percent, seed):
    F = np.random.default_rng(seed).normal(300, 50, (4, n_frames)).astype(np.float32)
    F[2, n_frames // 2] = np.nan
    level = filters_gpu.percentile.__wrapped__(F, percent)
    assert level.dtype == np.float32
    np.testing.assert_allclose(level, filters_cpu.percentile(F, percent), rtol=3e-7)


@settings(max_examples=20)
@given(st.sampled_from(["int16", "uint8", "float32"]), st.booleans(), st.integers(0, 9))
def test_products_with_a_sparse_matrix_are_the_kernels_sums(dtype, neuropil, seed):
    rng = np.random.default_rng(seed)
    masks = random_masks(rng, (23, 47), 5)[0]  # of several segments
    if not neuropil:
        masks = masks._replace(neuropil_indptr=None, neuropil_indices=None)
    frames = (rng.random((9, 23, 47)) * 100).astype(dtype)
    own = layout(masks)
    matrix = sums_cupyx.sum_matrix(own, 23 * 47)
    assert matrix.shape == (23 * 47, 5 + 5 * neuropil) and matrix.dtype == np.float32
    assert matrix.has_canonical_format
    products = frames.reshape(9, -1).astype(np.float32) @ matrix
    sums = np.empty((1 + neuropil, 5, 9))
    sums_cpu.mask_sums(frames, own, sums)
    np.testing.assert_allclose(products.T.reshape(sums.shape), sums, rtol=1e-5, atol=1e-3)


# Choice of the device


def test_without_cupy(no_gpu):
    assert devices.gpu_status() == devices.own_kernels() == (False, "CuPy is not installed")
    movie, rois = checks.recording()
    masks = xs2p.build_masks(rois)
    F = checks.traces()
    match = r'CuPy is not installed. With an NVIDIA .* pip install "xs2p\[gpu13\]"'
    for call in (
        lambda **o: xs2p.extract(movie, rois, **o),
        lambda **o: xs2p.extract_traces(movie, masks, **o),
        lambda **o: xs2p.baseline(F, **o),
        lambda **o: xs2p.preprocess(F, "prctile", **o),
        lambda **o: xs2p.baseline(F, "constant", **o),
        lambda **o: xs2p.deconvolve(F, tau=1.0, **o),
        lambda **o: xs2p.deconvolve(F.chunk(roi=2), tau=1.0, **o),
    ):
        with raise_if_dask_computes(), pytest.raises(ValueError, match=match):
            call(device="gpu")
        with pytest.raises(ValueError, match="device must be .* got 'cuda'"):
            call(device="cuda")
        for device in ("auto", "cpu", None):
            call(device=device)


def test_auto_logs_its_choice_once(no_gpu, caplog):
    with caplog.at_level(logging.INFO, logger="xs2p"):
        for _ in range(3):
            assert devices.resolve_device("auto") == "cpu"
    assert [r.getMessage() for r in caplog.records] == [
        "device='auto': CPU (CuPy is not installed)"
    ]


def test_a_broken_cupy_is_no_gpu(monkeypatch):
    spec = importlib.util.find_spec("math")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *a: spec)
    monkeypatch.setitem(sys.modules, "cupy", None)
    fake_cupy.forget()
    usable, reason = devices.gpu_status()
    assert not usable and reason.startswith("CuPy cannot be imported (ModuleNotFoundError")
    fake_cupy.forget()


def test_a_device_that_fails_is_no_gpu(cupy, monkeypatch):
    assert devices.gpu_status() == (True, "stand-in")

    def fails(*_):
        raise RuntimeError("cudaErrorNoKernelImageForDevice: no kernel image\nmore")

    monkeypatch.setattr(cupy, "ElementwiseKernel", fails)
    fake_cupy.forget()
    assert devices.gpu_status() == (
        False,
        "the CUDA device does not work (RuntimeError: cudaErrorNoKernelImageForDevice: no kernel "
        "image)",
    )
    monkeypatch.setattr(cupy.cuda, "is_available", lambda: False)
    fake_cupy.forget()
    assert devices.gpu_status()[1] == "CuPy finds no CUDA device or no driver"


def test_cupy_arrays_stay_on_the_gpu(cupy):
    F = checks.on("cupy", checks.traces(), cupy)
    with pytest.raises(ValueError, match=r"device='cpu', but the array of traces is made of CuPy"):
        xs2p.baseline(F, device="cpu")
    movie, rois = checks.recording()
    with pytest.raises(ValueError, match=r"device='cpu', but movie is made of CuPy .*as_numpy"):
        xs2p.extract(checks.on("dask-cupy", movie, cupy), rois, device="cpu")
    assert devices.resolve_device("auto", F.data) == "cupyx"


def test_which_kernels(cupy, monkeypatch):
    """As asked, else as the environment says, else CuPy's; on the CPU there is no choice."""
    F = checks.traces()
    assert xs2p.noise(F, device="gpu").attrs["kernels"] == "cupyx"
    monkeypatch.setenv(devices.VARIABLE, "own")
    assert xs2p.noise(F, device="gpu").attrs["kernels"] == "own"
    assert xs2p.noise(F, device="gpu", kernels="cupyx").attrs["kernels"] == "cupyx"
    F0 = xs2p.baseline(F, device="gpu")
    for made in (xs2p.noise(F0), xs2p.baseline(F0), xs2p.deconvolve(F0, tau=1.0)):
        assert "kernels" not in made.attrs  # whatever it was made of
    monkeypatch.setenv(devices.VARIABLE, "mine")
    with pytest.raises(ValueError, match="XS2P_GPU_KERNELS='mine', which must be cupyx or own"):
        xs2p.noise(F, device="gpu")
    assert "kernels" not in xs2p.noise(F).attrs
    with pytest.raises(ValueError, match="kernels must be .* got 'mine'"):
        xs2p.noise(F, kernels="mine")
    for device in ("cpu", None):
        with pytest.raises(ValueError, match="kernels='own' plays no part on the CPU; give devi"):
            xs2p.noise(F, device=device, kernels="own")


def test_own_kernels_that_do_not_compile(cupy, monkeypatch, caplog):
    """CuPy's are taken, and OASIS, which CuPy has not, is the CPU's: each is told once."""

    def fails(*_):
        raise RuntimeError("nvrtc: error: invalid value for --gpu-architecture\nmore")

    monkeypatch.setattr(cupy.RawModule, "compile", fails)
    monkeypatch.setattr(cupy.RawModule, "get_function", fails)
    F = checks.traces()
    with caplog.at_level(logging.INFO, logger="xs2p"):
        for backend in BACKENDS:
            checks.check_extract(backend, cupy, "gpu", "cupyx")
            movie, rois = checks.recording()
            given_ = checks.on(backend, movie, cupy)
            ds = xs2p.extract(given_, rois, tau=0.7, device="gpu", kernels="own")
            checks.made_by(checks.checked(ds, backend, cupy), "cupyx")
            found = checks.STEPS["penalty"](checks.on(backend, F, cupy), device="gpu")
            checks.equal(checks.checked(found, backend, cupy), checks.STEPS["penalty"](F))
    reason = "RuntimeError: nvrtc: error: invalid value for --gpu-architecture"
    assert [r.getMessage() for r in caplog.records] == [
        f"OASIS runs on the CPU, since its kernel does not compile for the device: {reason}",
        f"kernels='own' do not compile, CuPy's are taken: {reason}",
    ]


def test_rocm_has_flags_of_its_own(cupy, monkeypatch):
    given_ = []
    monkeypatch.setattr(cupy, "RawModule", lambda code, options: given_.append(options))
    for hip in (False, True):
        monkeypatch.setattr(cupy.cuda.runtime, "is_hip", hip)
        fake_cupy.forget()
        with contextlib.suppress(AttributeError):
            gpu.compile_kernels()
    assert given_ == [("--std=c++14", "--fmad=false"), ("-std=c++14", "-ffp-contract=off")]


def test_a_gpu_that_failed_once_is_tried_again(cupy, monkeypatch):
    """It may have been full: a long-running process must not do without it for ever."""

    def full(*_):
        raise fake_cupy.OutOfMemoryError("Out of memory allocating 512 bytes")

    monkeypatch.setattr(cupy, "ones", full)
    usable, reason = devices.gpu_status()
    assert not usable and "Out of memory" in reason
    monkeypatch.setattr(cupy, "ones", fake_cupy.making("ones"))
    assert devices.gpu_status() == (True, "stand-in")
    monkeypatch.setattr(cupy, "ones", full)
    assert devices.gpu_status() == (True, "stand-in")


def test_threads_that_begin_at_once_look_one_by_one_and_once(monkeypatch):
    """The first tasks of a worker begin together, and CuPy is looked at by one thread at a time."""
    inside, most, looks = 0, 0, 0

    def look():
        nonlocal inside, most, looks
        inside, looks = inside + 1, looks + 1
        most = max(most, inside)
        time.sleep(0.02)
        inside -= 1
        return True, "stand-in"

    monkeypatch.setattr(devices, "_look", look)
    monkeypatch.setattr(devices, "_found", {})
    barrier = threading.Barrier(8)

    def begin(_):
        barrier.wait()
        return devices.gpu_status()

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(begin, range(8))) == {(True, "stand-in")}
    assert (most, looks) == (1, 1)


def test_cupy_is_imported_with_all_that_is_used_of_it(monkeypatch, tmp_path):
    """`import cupy` alone leaves cupyx to whoever needs it first: threads, which saw half of it."""
    for name in ("cupy", "cupyx"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
    monkeypatch.syspath_prepend(tmp_path)
    assert devices._import.__wrapped__() == ""
    assert {"cupy", "cupyx"} <= set(sys.modules)
    for name in ("cupy", "cupyx"):
        del sys.modules[name]  # by monkeypatch it would come back


def on_workers_alone():
    """What a GPU's status is where workers have one and their client has none."""
    on_client = threading.current_thread() is threading.main_thread()
    return (False, "none on the client") if on_client else (True, "stand-in")


def on_the_client_alone():
    usable, reason = on_workers_alone()
    return not usable, reason


def test_auto_asks_the_workers(cupy, monkeypatch, caplog):
    """Where the work goes to a cluster, it is they that have a GPU, or have none."""
    from distributed import Client

    movie, rois = checks.recording()
    masks, lazy = xs2p.build_masks(rois), movie.chunk(time=9)
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"):
        monkeypatch.setattr(devices, "gpu_status", on_workers_alone)
        F = xs2p.extract_traces(lazy, masks, device="auto").F
        assert F.attrs["kernels"] == "cupyx"
        assert "kernels" not in xs2p.extract_traces(movie, masks, device="auto").F.attrs
        monkeypatch.setattr(devices, "gpu_status", on_the_client_alone)
        F = xs2p.extract_traces(lazy, masks, device="auto").F
        assert "kernels" not in F.attrs
        with pytest.raises(ValueError, match="device='gpu' cannot be used on 1 of 1 workers"):
            xs2p.extract_traces(lazy, masks, device="gpu")


def test_workers_without_a_gpu_are_named(no_gpu):
    from distributed import Client

    movie, rois = checks.recording()
    with Client(processes=False, n_workers=1, threads_per_worker=1, dashboard_address=":0"):
        with pytest.raises(ValueError, match="cannot be used on 1 of 1 workers .the first, inproc"):
            xs2p.extract_traces(movie.chunk(time=9), xs2p.build_masks(rois), device="gpu")


def test_a_file_is_not_read_for_a_look_at_its_type(tmp_path):
    checks.traces().to_dataset(name="F").to_zarr(tmp_path / "F.zarr", consolidated=False)
    lazy = xr.open_zarr(tmp_path / "F.zarr", chunks=None, consolidated=False).F
    assert devices.resolve_device(None, arrays.unread(lazy)) == "cpu"
    assert not lazy.variable._in_memory


# Every public function, on the stand-in


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_extract(cupy, kernels, backend, dtype):
    checks.check_extract(backend, cupy, "gpu", kernels, dtype)
    if backend.endswith("cupy"):
        checks.check_extract(backend, cupy, None, kernels, dtype)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float16", "float64", "uint64", ">i2"])
@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_extract_of_any_dtype(cupy, kernels, backend, dtype):
    if backend == "cupy":  # which has native byte order only
        dtype = dtype.replace(">", "=")
    checks.check_dtype(backend, cupy, kernels, dtype)


def test_frames_that_do_not_lie_in_a_row(cupy, kernels):
    movie, rois = checks.recording(n_frames=140)
    masks = xs2p.build_masks(rois)
    for some in (movie[::2], movie[::-1], movie.transpose("y", "x", "time").copy(deep=True)):
        some = some.transpose("time", "y", "x")
        for backend in ("numpy", "cupy"):
            result = xs2p.extract_traces(
                checks.on(backend, some, cupy), masks, device="gpu", kernels=kernels
            )
            result = checks.checked(result, backend, cupy)
            checks.equal(result, xs2p.extract_traces(some, masks), checks.EXACT[kernels])


def test_many_batches_of_frames(cupy, kernels, monkeypatch):
    """More than two, so that buffers are used again; and groups that do not end with a batch."""
    monkeypatch.setattr(gpu_frames, "STAGE_BYTES", 32 * 40 * 37 * 2)
    monkeypatch.setattr(sums_gpu, "_GROUPS", 2)
    movie, rois = checks.recording(n_frames=333)
    masks = xs2p.build_masks(rois)
    expected = xs2p.extract_traces(movie, masks)
    for backend in ("numpy", "cupy"):
        result = xs2p.extract_traces(
            checks.on(backend, movie, cupy), masks, device="gpu", kernels=kernels
        )
        checks.equal(checks.checked(result, backend, cupy), expected, checks.EXACT[kernels])


@pytest.mark.parametrize("backend", BACKENDS)
def test_other_movies(cupy, kernels, backend):
    if backend.startswith("dask"):
        checks.check_tiles(backend, cupy, "gpu", kernels)
    checks.check_channels(backend, cupy, "gpu", kernels)
    checks.check_snr_threshold(backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_empty_movies_and_roi_sets(cupy, kernels, backend):
    movie, rois = checks.recording()
    none = xs2p.build_masks(rois).select(np.zeros(rois.sizes["roi"], bool))
    for given_, masks in ((movie, none), (movie[:0], xs2p.build_masks(rois))):
        result = xs2p.extract_traces(
            checks.on(backend, given_, cupy), masks, device="gpu", kernels=kernels
        )
        expected = xs2p.extract_traces(given_, masks)
        checks.equal(checks.checked(result, backend, cupy), expected)


APPROXIMATE = ("prctile", "detrend")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("step", checks.STEPS)
def test_step(cupy, kernels, step, backend):
    checks.check_step(step, backend, cupy, "gpu", kernels, step not in APPROXIMATE)
    if backend.endswith("cupy") and step in checks.OF_EACH_FUNCTION:
        checks.check_step(step, backend, cupy, None, kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_tau_of_each_roi(cupy, kernels, backend):
    checks.check_taus(backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_a_penalty_that_is_too_large(cupy, kernels, backend):
    checks.check_steps_back(backend, cupy, kernels)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", checks.STATISTICS)
def test_statistic(cupy, name, backend, monkeypatch):
    monkeypatch.setattr(np, "einsum", None)  # CuPy's is a matrix product for each trace
    checks.check_statistic(name, backend, cupy)


@pytest.mark.parametrize("backend", ["numpy", "dask"])
@pytest.mark.parametrize("name", checks.BESIDE)
def test_baseline_beside_spikes(cupy, kernels, name, backend):
    checks.check_beside(name, backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_dff(cupy, kernels, backend):
    checks.check_dff(backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_neuropil_of_each_roi(cupy, kernels, backend):
    checks.check_own_neuropil(backend, cupy, "gpu", kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_decay_and_times(cupy, backend):
    checks.check_decay_and_times(backend, cupy, "gpu")


@pytest.mark.parametrize("backend", BACKENDS)
def test_images(cupy, backend, monkeypatch):
    monkeypatch.setattr(images_gpu, "_VALUES", 20_000)  # some frames at once
    checks.check_images(backend, cupy)


@pytest.mark.parametrize("backend", BACKENDS)
def test_demix(cupy, kernels, backend):
    checks.check_demix(backend, cupy, "gpu", kernels)


def test_demix_of_any_chunks(cupy, kernels):
    checks.check_demix_of_any_chunks(cupy, kernels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_equations_are_solved_on_the_device(cupy, kernels, backend, monkeypatch):
    solved = []

    def solve(self, sums, out, device, known=equations.System._solve):
        solved.append((arrays.is_cupy(sums), arrays.is_cupy(out), devices.kernels_named(device)))
        known(self, sums, out, device)

    def never(*_):
        raise AssertionError("solved on the host")

    monkeypatch.setattr(equations.System, "_solve", solve)
    monkeypatch.setattr(equations_cpu, "descend", never)
    movie, rois = checks.recording()
    given_ = checks.on(backend, movie, cupy)
    made = xs2p.extract(
        given_, rois, method="demix", nonnegative=True, device="gpu", kernels=kernels
    )
    made.F.compute()
    assert set(solved) == {(True, True, kernels)}


@pytest.mark.parametrize("room", ["limit", "free", "failed"])
def test_an_inverse_that_has_no_room(cupy, monkeypatch, caplog, room):
    """The sparse factor solves in its place, which is told once."""
    if room == "limit":
        monkeypatch.setattr(equations_cupyx, "_MOST", 8 * 30**2)
    elif room == "free":
        monkeypatch.setattr(equations_cupyx, "available", lambda: 8 * 30**2)
    else:

        def full(shape, dtype=None, known=cupy.zeros):
            if shape == (31, 31):
                raise fake_cupy.OutOfMemoryError("Out of memory")
            return known(shape, dtype)

        monkeypatch.setattr(cupy, "zeros", full)
    with caplog.at_level(logging.INFO, logger="xs2p"):
        checks.check_demix("dask-cupy", cupy, "gpu", "cupyx")
    told = [r.getMessage() for r in caplog.records]
    assert told == ["demixing: an inverse of 31 equations takes 0 MiB, more than there is room for "
                    "on the GPU; they are solved by their sparse factor"]  # fmt: skip


def test_equations_without_kernels_of_their_own(cupy, monkeypatch, caplog):
    def fails(*_):
        raise RuntimeError("nvrtc: error: none")

    monkeypatch.setattr(cupy.RawModule, "compile", fails)
    monkeypatch.setattr(cupy.RawModule, "get_function", fails)
    with caplog.at_level(logging.INFO, logger="xs2p"):
        checks.check_demix("cupy", cupy, "gpu", "cupyx")
        monkeypatch.setattr(equations_cupyx, "_MOST", 0)
        checks.check_demix("numpy", cupy, "gpu", "cupyx")
    told = [r.getMessage() for r in caplog.records]
    assert told.count("equations are solved on the CPU, since kernels do not compile for the "
                      "device: RuntimeError: nvrtc: error: none") == 1  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
def test_quality(cupy, backend):
    where = {} if backend.endswith("cupy") else {"device": "gpu", "kernels": "own"}
    checks.check_quality(backend, cupy, **where)


def test_traces_of_other_shapes(cupy, kernels):
    F = checks.traces() - np.float32(300)
    both = xr.concat([F, F + 5], "channel").assign_attrs(F.attrs)
    for traces in (F[0], both, both.transpose("time", "roi", "channel"), F[:0]):
        for call in (
            lambda x, **o: xs2p.deconvolve(x, tau=0.7, **o),
            lambda x, **o: xs2p.baseline(x, win_baseline=3.0, **o),
            lambda x, **o: xs2p.deconvolve(x, tau=0.7, return_denoised=True, **o),
            lambda x, **o: xs2p.deconvolve(x, tau=0.7, penalty="noise", **o),
        ):
            for backend in ("numpy", "cupy"):
                result = call(checks.on(backend, traces, cupy), device="gpu", kernels=kernels)
                checks.equal(
                    checks.checked(result, backend, cupy), call(traces), checks.EXACT[kernels]
                )


@pytest.mark.parametrize(
    ("radius", "n_frames", "fits"), [(1, 300, True), (2178, 2300, True), (15_000, 300, False)]
)
def test_gaussians(cupy, radius, n_frames, fits, monkeypatch):
    launched = []
    if not fits:
        monkeypatch.setattr(filters_gpu, "fits_shared", lambda nbytes: False)
    monkeypatch.setattr(
        filters_gpu,
        "launch",
        lambda name, *a, **k: launched.append(name) or gpu.launch(name, *a, **k),
    )
    for backend in ("numpy", "cupy"):
        checks.check_gaussians(cupy, radius, backend, n_frames)
    assert ("smooth" in launched) == (not fits)


def test_windows_beyond_shared_memory(cupy):
    F = checks.traces(2, 9000)
    options = {"win_baseline": 700.0, "fs": 10.0}
    checks.equal(
        xs2p.baseline(F, device="gpu", kernels="own", **options), xs2p.baseline(F, **options)
    )


def test_long_traces_are_cut_in_time(cupy):
    F = checks.traces(2, 20000) - np.float32(300)
    checks.equal(xs2p.deconvolve(F, tau=0.1, device="gpu"), xs2p.deconvolve(F, tau=0.1))
    options = {"tau": 0.1, "penalty": 30.0, "return_denoised": True}
    checks.equal(xs2p.deconvolve(F, device="gpu", **options), xs2p.deconvolve(F, **options))


def test_masks_are_uploaded_once(cupy, kernels):
    checks.check_uploaded_once(cupy, kernels)


def test_threads_at_once(cupy, kernels):
    checks.check_threads_at_once(cupy, kernels, 4)


def test_results_are_stable(cupy, kernels):
    checks.check_stable(cupy, kernels)


TRACES_STEPS = {
    "maximin": lambda F, **o: xs2p.baseline(F, win_baseline=4.0, **o),
    "rolling": lambda F, **o: xs2p.baseline(F, "rolling_median", win_baseline=4.0, **o),
    "prctile": lambda F, **o: xs2p.baseline(F, "prctile", **o),
    "noise": lambda F, **o: xs2p.noise(F, **o),
    "oasis": lambda F, **o: xs2p.deconvolve(F, tau=xr.ones_like(F.roi, float), **o),
    "sparse": lambda F, **o: xs2p.deconvolve(
        F, tau=xr.ones_like(F.roi, float), s_min=0.01 * F.roi, **o
    ),
    "penalty": lambda F, **o: xs2p.deconvolve(F, tau=1.0, penalty="noise", **o),
}


def small_batches(monkeypatch, stage=4096, batch=9000):
    """Let traces of the host go in many batches, and each through pinned memory in many parts."""
    monkeypatch.setattr(gpu_traces, "STAGE_BYTES", stage)
    monkeypatch.setattr(gpu_traces, "BATCH_BYTES", batch)
    for module in (filters_cupyx, filters_gpu, rolling_gpu):
        for name in module.__all__:
            function = getattr(module, name)
            inner = getattr(function, "__wrapped__", None)
            if inner is not None and getattr(inner, "__wrapped__", None) is None:
                made = gpu_traces.of_host_too(at_once=batch)(inner)
                monkeypatch.setattr(module, name, made)


@pytest.mark.parametrize("step", TRACES_STEPS)
def test_traces_of_the_host_go_in_small_parts(cupy, kernels, step, monkeypatch):
    """However many there are, by little pinned memory, into one array, on several pipelines."""
    small_batches(monkeypatch)
    make = gpu.PIPELINES._make
    # So long that other threads look for one before the first is free again.
    monkeypatch.setattr(gpu.PIPELINES, "_make", lambda: (time.sleep(0.1), make())[1])
    F = checks.traces(60, 700)  # 168 kB, of which CuPy itself would pin 256
    F[7, 100] = np.nan
    F = F if step != "oasis" else checks.traces(60, 700)
    both = (
        xr.concat([F, F + 5], "channel").assign_attrs(F.attrs).transpose("roi", "channel", "time")
    )
    for traces in (F, both) if step != "oasis" else (F,):
        fake_cupy.PINNED.most = fake_cupy.PINNED.used
        with dask.config.set(num_workers=gpu.pipelines_of(0)):
            result = TRACES_STEPS[step](traces, device="gpu", kernels=kernels)
        assert fake_cupy.PINNED.most <= gpu.pipelines_of(0) * 4 * 4096 + 2**15
        exact = checks.EXACT[kernels] and step != "prctile"
        checks.equal(result, TRACES_STEPS[step](traces), exact)
    assert len(gpu.PIPELINES._free[0]) > 1


def little_at_a_time(monkeypatch):
    """Let two traces of :func:`checks.check_beside` be a batch, and no trace fit into a buffer."""
    monkeypatch.setattr(gpu_traces, "STAGE_BYTES", 1000)
    monkeypatch.setattr(gpu_traces, "available", lambda: 400_000)


@pytest.mark.parametrize("backend", ["numpy", "dask"])
def test_baseline_beside_spikes_in_small_parts(cupy, backend, monkeypatch):
    """By little pinned memory, in batches that still are too large for the device at times."""
    little_at_a_time(monkeypatch)
    gc.collect()
    fake_cupy.POOL.failures = 0
    pool = cupy.get_default_memory_pool()
    for limit in (0, pool.used_bytes() + 350_000):
        pool.set_limit(size=limit)
        try:
            checks.check_beside("maximin", backend, cupy, "gpu", "own")
        finally:
            pool.set_limit(size=0)
    assert fake_cupy.POOL.failures > 0


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_stops_half_way_keeps_nothing(cupy, error, monkeypatch):
    """Copies under way arrive, memory of both kinds is given back, and the next call is right."""
    little_at_a_time(monkeypatch)
    gc.collect()
    pools, calls = (fake_cupy.POOL, fake_cupy.PINNED), []
    before = [pool.used for pool in pools]
    launch = columns.launch

    def fails(*args):
        calls.append(1)
        if len(calls) == 2:
            raise error("stopped")
        launch(*args)

    monkeypatch.setattr(columns, "launch", fails)
    with contextlib.suppress(error):
        xs2p.reprocess(checks.traces(5, 2700).to_dataset(name="F"), tau=0.3, device="gpu")
    gc.collect()
    assert len(calls) == 2 and [pool.used for pool in pools] == before
    assert all(len(s._todo) == s._done for p in gpu.PIPELINES._free[0] for s in p)
    checks.check_beside("maximin", "numpy", cupy, "gpu", "own")


@pytest.mark.parametrize("backend", ["numpy", "dask"])
def test_what_is_copied(cupy, kernels, backend):
    """The movie, the masks and Fc go up once, Fc with what chunks see of others; no more is made
    to come down than F, Fneu, F0 and spks.
    """
    gpu_copies = pytest.importorskip("benchmarks.gpu_copies", reason="not in this copy")
    movie, rois = checks.recording(n_frames=9000, n_rois=40, shape=(30, 31))
    given_ = checks.on(backend, movie, cupy, (1500, -1))
    where = {"device": "gpu", "kernels": kernels}
    with gpu_copies.counted() as of_frames:
        F = xs2p.extract_traces(given_, xs2p.build_masks(rois), **where).F.compute()
    with gpu_copies.counted() as copies:
        ds = xs2p.extract(given_, rois, tau=0.2, win_baseline=2.0, **where)
        seen = 1.0
        if backend == "dask":
            n_chunks, ds = ds.F0.data.numblocks[-1], ds.compute()
            assert n_chunks > 1
            seen = 1 + (n_chunks - 1) * 2 * (30 + 20 + 111) / 9000
    assert of_frames.nbytes["down"] == 2 * F.nbytes
    assert copies.nbytes["down"] == 4 * F.nbytes
    of_traces = copies.nbytes["up"] - of_frames.nbytes["up"]
    assert F.nbytes <= of_traces < (seen + 0.1) * F.nbytes  # beside them tables, and ends of gaps
    assert copies.count["down"] <= 2 * of_frames.count["down"] + 8 and copies.at_once > 1


@pytest.mark.parametrize("baseline", ["prctile", "constant"])
def test_what_is_copied_for_a_level(cupy, kernels, baseline):
    """Traces in memory go up once, and beside spks one number of each comes down; lazily they go
    up a second time, since what is one number wants all of time before the first spike.
    """
    gpu_copies = pytest.importorskip("benchmarks.gpu_copies", reason="not in this copy")
    F = checks.traces(40, 9000)
    for traces, times in ((F, 1), (F.chunk(time=1500), 2)):
        with gpu_copies.counted() as copies:
            xs2p.reprocess(
                traces.to_dataset(name="F"),
                tau=0.2,
                baseline=baseline,
                device="gpu",
                kernels=kernels,
            ).compute()
        seen = (times - 1) * 0.15  # of neighbours
        assert F.nbytes <= copies.nbytes["down"] < (1.01 + seen) * F.nbytes
        assert times * F.nbytes <= copies.nbytes["up"] < times * (1.1 + seen) * F.nbytes


def test_the_count_of_copies_runs(cupy, capsys):
    gpu_copies = pytest.importorskip("benchmarks.gpu_copies", reason="not in this copy")
    gpu_copies.main(["--frames", "400", "--rois", "5", "--chunk", "90"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert [line.split(" | ")[1] for line in table[1:]] == 2 * ["cupyx"] + 2 * ["own"] + 8 * [
        "cupyx"
    ]
    # F, Fneu, F0 and spks come down, or of F0 some numbers; with bleaching it goes by steps.
    rounded = [round(float(line.split(" | ")[6])) for line in table[1:]]
    assert rounded == 4 * [4] + 6 * [3] + 2 * [4]


@pytest.mark.parametrize("limit", [1, 100_000, 3_000_000])
def test_little_pinned_memory(cupy, kernels, limit, monkeypatch):
    """As where memory must not be locked: smaller buffers, and in the end memory of any kind."""
    monkeypatch.setattr(gpu_copies, "_LEAST", 2**12)
    fake_cupy.PINNED.failures = 0
    gc.collect()
    fake_cupy.PINNED.set_limit(fake_cupy.PINNED.used + limit)
    for backend in ("numpy", "cupy"):  # CuPy's own uploads would warn
        checks.check_extract(backend, cupy, "gpu", kernels)
        checks.check_step("deconvolve", backend, cupy, "gpu", kernels)
    assert fake_cupy.PINNED.failures > 0 or limit == 3_000_000
    assert fake_cupy.PINNED.used <= fake_cupy.PINNED.limit


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_percentiles_with_little_memory(cupy, kernels, backend):
    """Sorting wants much beside the traces: some of them at a time where it is not there."""
    F = checks.traces(200, 500)
    given_ = checks.on(backend, F, cupy)
    gc.collect()
    pool = cupy.get_default_memory_pool()
    for step in ("prctile", "noise") if backend == "numpy" else ("prctile",):
        fake_cupy.POOL.failures = 0
        pool.set_limit(size=pool.used_bytes() + 600_000)
        try:
            result = TRACES_STEPS[step](given_, device="gpu", kernels=kernels)
        finally:
            pool.set_limit(size=0)
        assert fake_cupy.POOL.failures > 0
        checks.equal(checks.checked(result, backend, cupy), TRACES_STEPS[step](F), step == "noise")


def test_memory_decides_how_many_traces_are_worked_on(cupy, monkeypatch):
    """OASIS takes as long for some as for all; what counts in 32 bits takes no more than these."""
    monkeypatch.setattr(gpu, "available", lambda: 2**37)
    done = []
    gpu.by_traces(5000, 100_000, 40, lambda *some: done.append(some))
    gpu.by_traces(5000, 100_000, 40, lambda *some: done.append(some), 2**28)
    assert done == [(0, 5000), (0, 2684), (2684, 5000)]


@pytest.mark.parametrize(("said", "count"), [({}, 4), ({"asyncEngineCount": 3}, 6)])
def test_pipelines_by_copy_engines(cupy, said, count, monkeypatch):
    monkeypatch.setattr(cupy.cuda.runtime, "getDeviceProperties", lambda n: said)
    gpu.pipelines_of.cache_clear()
    assert gpu.pipelines_of(0) == gpu.PIPELINES.most(0) == count
    assert gpu.available() == int(cupy.cuda.runtime.memGetInfo()[0] / (2 * count))


def test_memory_that_another_pool_holds(cupy, monkeypatch):
    """Little seems to be free, and batches must not become frames one by one for it."""
    free = 4 * 2**33
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (free, 2**36))
    assert gpu.available() == free // 8
    monkeypatch.setattr(cupy.cuda.runtime, "memGetInfo", lambda: (1000, 2**36))
    assert gpu.available() == 2**26

    def allocate(nbytes):
        raise AssertionError

    allocate.__module__ = "rmm.allocators.cupy"
    pool = types.SimpleNamespace(pool_size=lambda: 2**35)
    resource = types.SimpleNamespace(upstream_mr=pool)
    mr = types.SimpleNamespace(get_current_device_resource=lambda: resource)
    monkeypatch.setitem(sys.modules, "rmm", types.SimpleNamespace(mr=mr))
    monkeypatch.setattr(cupy.cuda, "get_allocator", lambda: allocate)
    assert gpu.available() == (2**35 + 1000) // 8


@pytest.mark.parametrize("limit", [2_000_000, 500_000])
def test_out_of_memory(cupy, kernels, limit):
    fake_cupy.POOL.failures = fake_cupy.POOL.freed = 0
    gc.collect()
    checks.check_out_of_memory(cupy, kernels, limit)
    assert fake_cupy.POOL.failures >= 1 and fake_cupy.POOL.freed >= fake_cupy.POOL.failures


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_copies_of_frames_are_batched_too(cupy, kernels, dtype):
    """Frames that do not lie in a row, or are read as another dtype, are copied on the device."""
    movie, rois = checks.recording(n_frames=800, dtype=dtype)
    movie = movie[::2]
    masks = xs2p.build_masks(rois)
    frames = cupy.asarray(np.repeat(movie.values, 2, axis=0))[::2]
    given_ = movie.copy(data=frames)
    gc.collect()
    pool = cupy.get_default_memory_pool()
    pool.set_limit(size=pool.used_bytes() + 700_000)  # a whole copy takes 1,184,000
    try:
        result = xs2p.extract_traces(given_, masks, kernels=kernels)
    finally:
        pool.set_limit(size=0)
    expected = xs2p.extract_traces(movie, masks)
    checks.equal(checks.checked(result, "cupy", cupy), expected, checks.EXACT[kernels])


def test_out_of_memory_for_good(cupy, kernels):
    gc.collect()
    with pytest.raises(MemoryError, match="what one frame needs .Out of memory allocating"):
        checks.check_out_of_memory(cupy, kernels, 1000)
    cupy.get_default_memory_pool().set_limit(size=cupy.get_default_memory_pool().used_bytes() + 9)
    try:
        with pytest.raises(MemoryError, match="what one trace needs"):
            xs2p.deconvolve(checks.traces(), tau=1.0, device="gpu")
    finally:
        cupy.get_default_memory_pool().set_limit(size=0)


def test_nothing_stays_on_the_device(cupy, kernels):
    gc.collect()
    before = fake_cupy.POOL.used
    movie, rois = checks.recording()
    xs2p.extract(movie, rois, tau=1.0, win_baseline=2.0, device="gpu", kernels=kernels)
    gc.collect()
    assert fake_cupy.POOL.used == before


def test_a_store_made_on_the_gpu(cupy, kernels, tmp_path):
    movie, rois = checks.recording()
    options = {"tau": 0.7, "win_baseline": 2.0, "neuropil": "centred", "dff": True}
    options |= {"penalty": "noise", "denoised": True}
    expected = xs2p.extract(movie, rois, **options)
    options["progress"] = False
    for backend in BACKENDS:
        path = tmp_path / f"{backend}.zarr"
        given_ = checks.on(backend, movie, cupy)
        ds = xs2p.extract_to_zarr(given_, rois, path, device="gpu", kernels=kernels, **options)
        for name in ("F", "Fneu", "F0", "spks", "denoised", "dFF", "noise", "dff_flag"):
            checks.equal(ds[name].compute(), expected[name], checks.EXACT[kernels])
        checks.made_by(ds, kernels)
    resumed = tmp_path / "numpy.zarr"
    other = "own" if kernels == "cupyx" else "cupyx"
    with pytest.raises(ValueError, match=f"kernels='{kernels}', and '{other}' is given now"):
        xs2p.extract_to_zarr(
            movie, rois, resumed, device="gpu", kernels=other, resume=True, **options
        )
    with pytest.raises(ValueError, match="device='gpu', and 'cpu' is given now"):
        xs2p.extract_to_zarr(movie, rois, resumed, device="cpu", resume=True, **options)


def test_a_cluster_of_one_worker(cupy, kernels):
    from distributed import Client

    uploads = {"cupyx": sums_cupyx, "own": sums_gpu}[kernels].UPLOADS
    movie, rois = checks.recording(n_frames=120)
    masks = xs2p.build_masks(rois)
    lazy = checks.on("dask", movie, cupy, (11, -1))
    with Client(processes=False, n_workers=1, threads_per_worker=4, dashboard_address=":0"):
        before = uploads.count
        result = xs2p.extract_traces(lazy, masks, device="gpu", kernels=kernels).compute()
        assert uploads.count == before + 1
    checks.equal(result, xs2p.extract_traces(movie, masks), checks.EXACT[kernels])


def test_the_benchmark_runs(cupy, capsys, tmp_path):
    versus_gpu = pytest.importorskip("benchmarks.versus_gpu", reason="not in this copy")
    versus_gpu.main(["--toy", "--png", str(tmp_path / "gpu.png"), "--rois", "10"])
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    ways = [line.split(" | ")[2] for line in table]
    for kernels in checks.KERNELS:
        for what in ("frames", "traces"):
            assert f"xs2p, {kernels}, {what} of the device" in ways
            assert f"xs2p, {kernels}, {what} of the host" in ways
    own = [line for line in table if "| xs2p, own, " in line and "groups" not in line]
    exact = [line for line in own if not line.startswith("| prctile")]
    assert len(own) == 11 and all("| identical |" in line for line in exact)
    assert (tmp_path / "gpu.png").stat().st_size > 10_000


def test_masks_as_matrices_of_cupyx(cupy):
    checks.check_to_cupyx(cupy)


def test_cupy_has_what_was_used():
    """Runs last: CuPy can be imported, and looked into, without a device."""
    if importlib.util.find_spec("cupy") is None:
        pytest.skip("CuPy is not installed, so its names cannot be looked up")
    import cupy
    import cupyx

    absent = set()
    for name in fake_cupy.USED:
        found = cupy
        for part in name.split("."):
            found = getattr(found, part, None)
        absent |= {name} if found is None else set()
    assert not absent
    for name in ("Device", "Event", "Stream", "get_current_stream", "is_available", "runtime"):
        assert hasattr(cupy.cuda, name)
    for name in ("memGetInfo", "getDeviceProperties", "getDeviceCount", "runtimeGetVersion"):
        assert hasattr(cupy.cuda.runtime, name)
    for name in ("record", "synchronize", "wait_event"):
        assert hasattr(cupy.cuda.Stream, name)
    for name in ("free_all_blocks", "free_bytes", "set_limit", "used_bytes"):
        assert hasattr(cupy.cuda.MemoryPool, name)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
    assert callable(cupyx.empty_pinned) and callable(cupy.RawModule.get_function)


def test_graphs_name_the_device(cupy):
    """Traces of a GPU and of the CPU must not be taken for each other."""
    F = xr.DataArray(np.ones((4, 60), np.float32), dims=("roi", "time")).chunk(time=20)

    def how(device, kernels=None):
        return {"device": device, "kernels": kernels}

    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    masks = xs2p.build_masks(rois)
    for step in (
        lambda *where: xs2p.deconvolve(F, tau=1.0, fs=5.0, **how(*where)),
        lambda *where: xs2p.baseline(F, fs=0.2, sig_baseline=1, **how(*where)),
        lambda *where: xs2p.baseline(F, "prctile", **how(*where)),
        lambda *where: xs2p.baseline(F, "constant", **how(*where)),
        lambda *where: xs2p.extract_traces(movie, masks, **how(*where)).F,
        lambda *where: xs2p.demix(movie, rois, **how(*where)).F,
        lambda *where: xs2p.demix(movie.chunk(y=30), rois, **how(*where)).F,
    ):
        names = [
            step(*where).data.name for where in 2 * [("cpu",), ("gpu", "cupyx"), ("gpu", "own")]
        ]
        assert names[:3] == names[3:] and len(set(names)) == 3
