from __future__ import annotations

import dask
import dask.array as da
import hypothesis.strategies as st
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from dask.callbacks import Callback
from hypothesis import given, settings
from loaders import as_movie, reference, square

import xs2p
from xs2p.masks import layout as _layout
from xs2p.masks import masks_cpu
from xs2p.masks.packing import MaskArrays, pack, unpack
from xs2p.testing import raise_if_dask_computes
from xs2p.traces import filters_cpu, oasis_cpu, sums_cpu

RNG = np.random.default_rng(0)
DTYPES = ["int16", "uint16", "uint8", "int32", "float32", "float64", "bool", ">i2", ">f4", "int64"]
DTYPES += ["int8", "uint32", "uint64", "float16"]


def naive(movie, masks):
    """F and Fneu as SPEC writes them, in float64 with one loop a ROI."""
    frames = np.asarray(movie, dtype=np.float64).reshape(movie.shape[0], -1)
    F, Fneu = (np.full((masks.n_rois, len(frames)), np.nan, np.float32) for _ in range(2))
    for n in range(masks.n_rois):
        cell = masks.cell[:, [n]].tocoo()
        if cell.nnz:
            F[n] = frames[:, cell.row] @ cell.data.astype(np.float64)
        ring = masks.neuropil[:, [n]].tocoo().row
        if ring.size:
            Fneu[n] = frames[:, ring].mean(axis=1)
    return F, Fneu


def small_rois(shape=(12, 15)):
    stat = [square(0, 0), square(1, 2, lam=2.0), square(8, 11, size=4), square(9, 0, size=1)]
    stat[1]["lam"] = np.arange(1, 10, dtype=np.float32)
    return xs2p.rois_from_stat(stat, shape)


SMALL = xs2p.build_masks(small_rois(), min_neuropil_pixels=20)


def random_frames(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    kind = np.dtype(dtype).kind
    if kind == "f":
        return (rng.normal(size=shape) * 1000).astype(dtype)
    if kind == "b":
        return rng.integers(0, 2, shape).astype(bool)
    info = np.iinfo(np.dtype(dtype).newbyteorder("="))
    low, high = max(info.min, -(2**40)), min(info.max, 2**40)
    return rng.integers(low, high, shape, endpoint=True).astype(dtype)


@st.composite
def chunked(draw, sizes):
    """Any way of cutting every dim into chunks."""

    def cut(size):
        cuts = draw(st.sets(st.integers(1, size - 1), max_size=4)) if size > 1 else set()
        return tuple(int(n) for n in np.diff([0, *sorted(cuts), size]))

    return tuple(cut(size) for size in sizes)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_chunking_any_dtype_equals_naive(data):
    dtype = data.draw(st.sampled_from(DTYPES))
    n_frames = data.draw(st.integers(1, 12))
    frames = random_frames(dtype, (n_frames, 12, 15), seed=data.draw(st.integers(0, 99)))
    chunks = data.draw(chunked(frames.shape))
    expected = naive(frames, SMALL)
    whole_frames = len(chunks[1]) == len(chunks[2]) == 1
    eager = xs2p.extract_traces(as_movie(frames), SMALL)
    with raise_if_dask_computes():
        lazy = xs2p.extract_traces(as_movie(da.from_array(frames, chunks=chunks)), SMALL)
    lazy = lazy.compute(scheduler="synchronous")
    for name, values in zip(("F", "Fneu"), expected, strict=True):
        assert lazy[name].dtype == eager[name].dtype == np.float32
        np.testing.assert_allclose(eager[name], values, rtol=2e-6, atol=1e-3)
        if whole_frames or (name == "Fneu" and np.dtype(dtype).kind != "f"):
            np.testing.assert_array_equal(lazy[name], eager[name])
        else:  # tiles add up in another order
            np.testing.assert_allclose(lazy[name], eager[name], rtol=1e-6, atol=1e-3)


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8", "int32"])
@pytest.mark.parametrize("extreme", ["min", "max"])
def test_sums_do_not_overflow(dtype, extreme):
    value = getattr(np.iinfo(dtype), extreme)
    # 200 × 200 pixels of 2^31 pass 2^46; one neuropil mask takes nearly all of them.
    rois = xs2p.rois_from_stat([square(90, 90, size=10)], (200, 200))
    masks = xs2p.build_masks(rois, min_neuropil_pixels=39_000)
    assert masks.neuropil.nnz > 39_000
    frames = np.full((3, 200, 200), value, dtype)
    frames[1, 0, 0] //= 2
    traces = xs2p.extract_traces(as_movie(frames), masks)
    np.testing.assert_allclose(traces.F, np.full((1, 3), float(value)), rtol=1e-6)
    inside = frames.reshape(3, -1)[:, masks.neuropil.indices].astype(object).sum(axis=1)
    exact = np.array([float(total) / masks.neuropil.nnz for total in inside]).astype(np.float32)
    np.testing.assert_array_equal(traces.Fneu[0], exact)


def test_channels():
    frames = random_frames("int16", (2, 7, 12, 15))
    movie = xr.DataArray(
        frames, dims=("channel", "time", "y", "x"), coords={"channel": ["green", "red"]}
    )
    eager = xs2p.extract_traces(movie, SMALL)
    assert eager.F.dims == ("channel", "roi", "time")
    for c, name in enumerate(("green", "red")):
        one = xs2p.extract_traces(movie.isel(channel=c, drop=True), SMALL)
        np.testing.assert_array_equal(eager.F.sel(channel=name), one.F)
        np.testing.assert_array_equal(eager.Fneu.sel(channel=name), one.Fneu)
    for chunks in ({"time": 3}, {"channel": 1, "time": 3}, {"time": 2, "y": 5, "x": 8}):
        lazy = xs2p.extract_traces(movie.chunk(chunks), SMALL)
        xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-6)
        assert lazy.F.dims == ("channel", "roi", "time")


def test_labels_and_coordinates_are_kept():
    movie = as_movie(random_frames("int16", (6, 12, 15)), fs=20.0, units="photons")
    movie = movie.assign_coords(
        time=np.arange(6) / 20, trial=("time", np.arange(6) // 3), y=np.arange(12), session="a"
    )
    traces = xs2p.extract_traces(movie, SMALL)
    np.testing.assert_array_equal(traces.time, movie.time)
    np.testing.assert_array_equal(traces.trial, movie.trial)
    assert traces.session == "a" and "y" not in traces.coords
    assert traces.F.attrs["units"] == "photons" and traces.F.attrs["fs"] == 20.0
    assert traces.F.attrs["xs2p_version"] == xs2p.__version__
    assert traces.F.attrs["min_neuropil_pixels"] == 20
    assert "long_name" in traces.F.attrs and "long_name" in traces.Fneu.attrs
    np.testing.assert_array_equal(traces.radius, small_rois().radius)


def test_building_computes_nothing_and_a_joint_compute_reads_each_chunk_once():
    frames = CountingFrames(random_frames("int16", (23, 12, 15)))
    with raise_if_dask_computes():
        movie = as_movie(frames.to_dask((5, 12, 15)), fs=10.0)
        ds = movie.s2p.extract(small_rois(), tau=1.0, min_neuropil_pixels=20)
    assert frames.reads.sum() == 0
    assert all(ds[name].chunks for name in ("F", "Fneu", "Fc", "F0", "spks"))
    ds.compute(scheduler="threads")
    np.testing.assert_array_equal(frames.reads, 1)
    frames = CountingFrames(random_frames("int16", (2, 23, 12, 15)))
    movie = xr.DataArray(frames.to_dask((2, 5, 12, 15)), dims=("channel", "time", "y", "x"))
    xs2p.extract_traces(movie, SMALL).compute(scheduler="threads")
    np.testing.assert_array_equal(frames.reads, 1)


def tasks_of(array):
    """Keys of the tasks that do something."""
    from dask._task_spec import Alias

    return {key for key, task in dict(array.dask).items() if not isinstance(task, Alias)}


def test_one_task_a_chunk_and_the_masks_once(monkeypatch):
    frames = CountingFrames(random_frames("int16", (40, 12, 15)))
    traces = xs2p.extract_traces(as_movie(frames.to_dask((5, 12, 15))), SMALL)
    graph = dict(traces.F.data.dask)
    assert len([key for key in graph if str(key).startswith("masks-")]) == 1
    (optimised,) = dask.optimize(traces.F.data)
    # The masks, and one task for each of the eight chunks: read, extract and take are fused.
    assert len(tasks_of(optimised)) == 1 + 8
    ran = []
    plain, laid_out = _layout.layout, []
    monkeypatch.setattr(_layout, "layout", lambda masks: laid_out.append(1) or plain(masks))
    with Callback(pretask=lambda key, dsk, state: ran.append(str(key))):
        traces.compute(scheduler="threads", num_workers=4)
    np.testing.assert_array_equal(frames.reads, 1)
    assert len(laid_out) == 1
    assert sum("xs2p-extract" in key for key in ran) == 8
    assert sum("getitem" in key for key in ran) == 16


def test_graph_does_not_grow_with_the_masks_and_is_deterministic():
    _, stat, shape, _ = reference("masks_dense_overlap")
    rois = xs2p.rois_from_stat(stat, shape)
    masks = xs2p.build_masks(rois, allow_overlap=True)
    movie = as_movie(da.zeros((100, *shape), chunks=(1, *shape), dtype="int16"))
    first, again = (xs2p.extract_traces(movie, masks).F.data for _ in range(2))
    assert first.name == again.name
    same = xs2p.build_masks(rois, allow_overlap=True)
    assert same.token == masks.token
    assert xs2p.extract_traces(movie, same).F.data.name == first.name
    other = xs2p.build_masks(rois, allow_overlap=True, inner_neuropil_radius=3)
    assert other.token != masks.token
    import pickle

    import cloudpickle

    packed = len(pickle.dumps(pack(masks.arrays())))
    plain = masks.cell.data.nbytes + masks.cell.indices.nbytes + masks.neuropil.indices.nbytes
    assert packed < plain / 3
    (optimised,) = dask.optimize(first)
    assert len(cloudpickle.dumps(dict(optimised.dask))) < packed + 100 * 1500


@pytest.mark.parametrize("shape", [(12, 15), (40, 2**17)])
def test_packed_masks_come_back(shape):
    stat = [square(0, 0), square(shape[0] - 3, shape[1] - 3), square(4, 4, size=5)]
    masks = xs2p.build_masks(xs2p.rois_from_stat(stat, shape), min_neuropil_pixels=20)
    for keep in (slice(None), np.array([2, 0]), np.zeros(3, bool)):
        arrays = masks.select(keep).arrays()
        for part, expected in zip(unpack(pack(arrays)), arrays, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_packed_pixels_beyond_2_to_31_come_back():
    indices = np.array([5, 6, 7, 2**31 - 1, 2**31, 2**33, 2**33 + 1])
    indptr = np.array([0, 4, 4, 7])
    shape = (2**17, 2**17)
    arrays = MaskArrays(indptr, indices, np.ones(7, np.float32), indptr, indices, shape)
    for part, expected in zip(unpack(pack(arrays)), arrays, strict=True):
        np.testing.assert_array_equal(part, expected)


def test_sums_of_64_bit_integers_do_not_wrap():
    for dtype, value in (("int64", 2**62), ("uint64", 2**63), ("int64", -(2**63))):
        frames = np.full((2, 12, 15), value, dtype)
        for movie in (as_movie(frames), as_movie(frames).chunk(y=5, time=1)):
            Fneu = xs2p.extract_traces(movie, SMALL).Fneu
            np.testing.assert_array_equal(Fneu, np.full((4, 2), np.float32(value)))


def test_coordinates_of_the_movie_must_not_be_those_of_rois():
    movie = as_movie(random_frames("int16", (4, 12, 15)), fs=1.0)
    for name in ("status", "radius"):
        with pytest.raises(ValueError, match=rf"coordinate '{name}', a name that the ROIs use"):
            xs2p.extract_traces(movie.assign_coords({name: 920.0}), SMALL)
    with pytest.raises(ValueError, match=r"movie\.rename\(\{'lam': \.\.\.\}\)"):
        xs2p.extract(movie.assign_coords(lam=920.0), small_rois())
    with pytest.raises(ValueError, match=r"masks must be Masks.*build_masks\(rois\)"):
        xs2p.extract_traces(movie, small_rois())


def test_masks_dataset_round_trip(tmp_path):
    ds = SMALL.to_dataset()
    ds.to_zarr(tmp_path / "masks.zarr", consolidated=False)
    with xr.open_zarr(tmp_path / "masks.zarr", consolidated=False) as stored:
        back = xs2p.Masks.from_dataset(stored.load())
    assert back.token == SMALL.token and back.shape == SMALL.shape
    assert back.attrs == SMALL.attrs
    np.testing.assert_array_equal(back.rois.roi, SMALL.rois.roi)
    assert back.rois.status.values.tolist() == SMALL.rois.status.values.tolist()
    movie = as_movie(random_frames("int16", (4, 12, 15)))
    xr.testing.assert_equal(xs2p.extract_traces(movie, back), xs2p.extract_traces(movie, SMALL))
    without = xs2p.build_masks(small_rois(), neuropil_extract=False)
    assert xs2p.Masks.from_dataset(without.to_dataset()).token == without.token
    with pytest.raises(ValueError, match="holds no masks: it lacks cell_ipix"):
        xs2p.Masks.from_dataset(ds.drop_vars("cell_ipix"))
    # Sorted or selected over roi, the pixels would be those of other ROIs.
    for other in (ds.sortby("radius"), ds.isel(roi=[1, 0, 2, 3]), ds.isel(roi=[0, 1])):
        with pytest.raises(ValueError, match="no longer those of the ROIs beside them"):
            xs2p.Masks.from_dataset(other)
    bare = ds.drop_vars(["cell_mask_id", "neuropil_mask_id"])
    with pytest.raises(ValueError, match="add up to"):
        xs2p.Masks.from_dataset(bare.assign(cell_npix=bare.cell_npix + 1))


def test_mosaic_beyond_float32_pixel_numbers():
    """More than 2^24 pixels: the last ones are right."""
    Ly, Lx = 4200, 4200
    stat = [square(0, 0, size=4), square(Ly - 4, Lx - 4, size=4), square(Ly - 1, Lx - 1, size=1)]
    stat[2]["ypix"], stat[2]["xpix"] = np.array([Ly - 1]), np.array([Lx - 9])
    rois = xs2p.rois_from_stat(stat, (Ly, Lx))
    masks = xs2p.build_masks(rois)

    def frame(block_info=None):
        (t, _), (y0, y1), (x0, x1) = block_info[None]["array-location"]
        y, x = np.mgrid[y0:y1, x0:x1]
        return ((7 * y + 3 * x + t) % 30_000).astype(np.int16)[None]

    for chunks in (((1, 1), (Ly,), (Lx,)), ((1, 1), (2048, 2152), (4000, 200))):
        movie = as_movie(
            da.map_blocks(frame, chunks=chunks, dtype="int16", meta=np.empty((0,) * 3, "int16"))
        )
        traces = xs2p.extract_traces(movie, masks).compute(scheduler="synchronous")
        for n in range(3):
            for t in range(2):
                value = (7 * rois.ypix + 3 * rois.xpix + t).values % 30_000
                expected = value[rois.pixel_roi.values == n].mean()
                assert traces.F[n, t] == np.float32(expected)
            p = masks.neuropil[:, [n]].tocoo().row
            assert p.size > 350 and p.dtype.itemsize >= 4
            value = (7 * (p // Lx) + 3 * (p % Lx)) % 30_000
            assert traces.Fneu[n, 0] == np.float32(value.mean())
    assert masks.neuropil[:, [1]].tocoo().row.max() > 2**24


def test_no_rois_one_roi_one_frame_one_pixel():
    movie = as_movie(random_frames("int16", (1, 12, 15)), fs=30.0)
    none = xs2p.rois_from_stat([], (12, 15))
    for m in (movie, movie.chunk(time=1)):
        ds = m.s2p.extract(none, tau=1.0).compute()
        assert {k: v.shape for k, v in ds.data_vars.items()} == {
            k: (0, 1) for k in ("F", "Fneu", "Fc", "F0", "spks")
        }
        pixel = xs2p.rois_from_stat([square(5, 6, size=1)], (12, 15))
        one = m.s2p.extract(pixel, tau=1.0, min_neuropil_pixels=20).compute()
        assert one.F.item() == movie[0, 5, 6].item()
        assert one.spks.item() == 0


def test_single_pixel_frames():
    movie = as_movie(np.arange(5, dtype=np.int16).reshape(5, 1, 1), fs=1.0)
    rois = xs2p.rois_from_stat([square(0, 0, size=1)], (1, 1))
    with pytest.warns(UserWarning, match="1 no_neuropil_pixels"):
        ds = movie.s2p.extract(rois)
    np.testing.assert_array_equal(ds.F, [[0, 1, 2, 3, 4]])
    assert np.isnan(ds.Fneu).all() and np.isnan(ds.Fc).all()
    ds = movie.s2p.extract(rois, neuropil_extract=False)
    assert "Fneu" not in ds
    np.testing.assert_array_equal(ds.Fc, ds.F)


def test_all_rois_overlapping_are_nan_with_a_status():
    stat = [square(3, 3), square(3, 3), square(8, 8)]
    rois = xs2p.rois_from_stat(stat, (12, 15))
    movie = as_movie(random_frames("int16", (9, 12, 15)), fs=1.0).chunk(time=4)
    with pytest.warns(UserWarning) as caught:
        ds = movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=20)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert "2 of 3 ROIs lack a mask" in message and "no_cell_pixels (roi 0, 1)" in message
    assert caught[0].filename == __file__
    ds = ds.compute()
    assert ds.status.values.tolist() == ["no_cell_pixels", "no_cell_pixels", "ok"]
    for name in ("F", "Fc", "F0", "spks"):
        assert np.isnan(ds[name][:2]).all(), name
        assert np.isfinite(ds[name][2]).all(), name
    kept = movie.s2p.extract(rois, allow_overlap=True, min_neuropil_pixels=20).compute()
    np.testing.assert_array_equal(kept.F[0], kept.F[1])
    assert np.isfinite(kept.F).all()


def test_zero_weights_are_no_mask():
    stat = [square(3, 3, lam=0.0), square(8, 8)]
    with pytest.warns(UserWarning, match=r"1 no_cell_pixels \(roi 0\)"):
        masks = xs2p.build_masks(xs2p.rois_from_stat(stat, (12, 15)), min_neuropil_pixels=20)
    movie = as_movie(random_frames("int16", (4, 12, 15)))
    assert np.isnan(xs2p.extract_traces(movie, masks).F[0]).all()


def test_a_roi_at_each_corner():
    corners = [(0, 0), (0, 12), (9, 0), (9, 12)]
    rois = xs2p.rois_from_stat([square(y, x) for y, x in corners], (12, 15))
    masks = xs2p.build_masks(rois, min_neuropil_pixels=20)
    frames = random_frames("int16", (5, 12, 15))
    traces = xs2p.extract_traces(as_movie(frames).chunk(time=2, y=5, x=4), masks)
    F, Fneu = naive(frames, masks)
    np.testing.assert_allclose(traces.F, F, rtol=1e-6)
    np.testing.assert_array_equal(traces.Fneu, Fneu)


def test_nan_stays_where_it_belongs():
    frames = random_frames("float32", (20, 12, 15))
    clean = xs2p.extract_traces(as_movie(frames), SMALL)
    frames[7, 1, 2] = np.nan  # a pixel of ROIs 0 and 1
    frames[11, 5, 5] = np.inf
    for movie in (as_movie(frames), as_movie(frames).chunk(time=3), as_movie(frames).chunk(y=5)):
        traces = xs2p.extract_traces(movie, SMALL).compute()
        for name in ("F", "Fneu"):
            matrix = SMALL.cell if name == "F" else SMALL.neuropil
            expected = clean[name].values.copy()
            expected[matrix.toarray()[1 * 15 + 2] > 0, 7] = np.nan
            expected[matrix.toarray()[5 * 15 + 5] > 0, 11] = np.inf
            np.testing.assert_allclose(traces[name], expected, rtol=1e-6)


def test_input_is_neither_changed_nor_needs_to_be_writable():
    frames = random_frames("int16", (6, 12, 15))
    copy = frames.copy()
    frames.flags.writeable = False
    expected = xs2p.extract_traces(as_movie(copy), SMALL)
    xr.testing.assert_identical(xs2p.extract_traces(as_movie(frames), SMALL), expected)
    np.testing.assert_array_equal(frames, copy)
    # Neither contiguous nor aligned as the kernels want it.
    backwards = np.asfortranarray(copy)[::-1]
    actual = xs2p.extract_traces(as_movie(backwards), SMALL)
    np.testing.assert_array_equal(actual.F, expected.F[:, ::-1])


@pytest.mark.parametrize("dtype", ["int16", "uint16", "uint8"])
def test_integers_never_become_float(dtype, monkeypatch):
    seen = []
    kernel = sums_cpu.mask_sums

    def spy(frames, *args):
        seen.append((frames.dtype, frames.base is not None))
        return kernel(frames, *args)

    monkeypatch.setattr(sums_cpu, "mask_sums", spy)
    frames = random_frames(dtype, (6, 12, 15))
    xs2p.extract_traces(as_movie(frames), SMALL)
    assert seen == [(np.dtype(dtype), True)]


def test_kernels_release_the_gil():
    import numba

    modules = (filters_cpu, masks_cpu, oasis_cpu, sums_cpu)
    found = [v for module in modules for v in vars(module).values()]
    kernels = [v for v in found if isinstance(v, numba.core.dispatcher.Dispatcher)]
    assert len(kernels) >= 8
    for kernel in kernels:
        assert kernel.targetoptions.get("nogil"), kernel
        assert not kernel.targetoptions.get("parallel"), kernel


BAD_MOVIES = {
    "array": (np.zeros((3, 12, 15)), 'xr.DataArray\\(array, dims=\\("time", "y", "x"\\)\\)'),
    "names": (
        xr.DataArray(np.zeros((3, 12, 15)), dims=("t", "y", "x")),
        r"dims \('t', 'y', 'x'\), expected .* rename them with movie.rename\({'t': 'time'}\)",
    ),
    "transposed": (
        as_movie(np.zeros((3, 12, 15))).transpose("y", "x", "time"),
        r"reorder them with movie.transpose\('time', 'y', 'x'\)",
    ),
    "2-D": (xr.DataArray(np.zeros((12, 15)), dims=("y", "x")), "movie has dims"),
    "frame size": (
        as_movie(np.zeros((3, 15, 12))),
        r"\(y, x\) = \(15, 12\), but the ROIs are for \(Ly, Lx\) = \(12, 15\)",
    ),
    "complex": (as_movie(np.zeros((3, 12, 15), complex)), "real numbers, got dtype complex128"),
}


@pytest.mark.parametrize("case", BAD_MOVIES)
def test_bad_movies_are_named(case):
    movie, message = BAD_MOVIES[case]
    with pytest.raises(ValueError, match=message):
        xs2p.extract_traces(movie, SMALL)
    with pytest.raises(ValueError, match=message):
        xs2p.extract(movie, small_rois(), fs=30.0)


BAD_OPTIONS = [
    ({"lam_percentile": 101}, "lam_percentile must be a number from 0 to 100; got 101"),
    (
        {"lam_percentile": -1, "neuropil_extract": False},
        "lam_percentile must be a number from 0 to 100",
    ),
    ({"inner_neuropil_radius": 1.5}, "inner_neuropil_radius must be a whole number of pixels"),
    ({"min_neuropil_pixels": -1}, "min_neuropil_pixels must be a number of pixels, 0 or more"),
]


@pytest.mark.parametrize(("options", "message"), BAD_OPTIONS)
def test_bad_mask_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        xs2p.build_masks(small_rois(), **options)


def test_stale_overlap_flags_are_used_and_said():
    rois = small_rois()
    stale = rois.copy()
    stale["overlap"] = rois.overlap | (rois.pixel_roi == 2)
    message = (
        r"overlap flags of 1 of 4 ROIs disagree .*\(roi 2\) and are used as stored: pixels shared "
        r"with ROIs that were dropped stay excluded; .*recompute_overlap\(rois\)"
    )
    with pytest.warns(UserWarning, match=message):
        with pytest.warns(UserWarning, match=r"no_cell_pixels \(roi 2\)"):
            masks = xs2p.build_masks(stale, min_neuropil_pixels=20)
    assert np.diff(masks.cell.indptr)[2] == 0
    fresh = xs2p.build_masks(xs2p.recompute_overlap(stale), min_neuropil_pixels=20)
    assert fresh.token == SMALL.token
    unflagged = rois.assign(overlap=rois.overlap & False)
    with pytest.warns(
        UserWarning, match="as stored: pixels shared with ROIs that were added count"
    ):
        xs2p.build_masks(unflagged, min_neuropil_pixels=20)


def test_statistics_of_other_traces_do_not_label_these():
    rois = xs2p.sample_rois()
    rois = rois.assign_coords(skew=("roi", np.ones(98)), std=("roi", np.ones(98)))
    traces = xs2p.extract_traces(xs2p.sample_movie(), xs2p.build_masks(rois))
    assert not {"skew", "std", "snr"} & set(traces.coords)
