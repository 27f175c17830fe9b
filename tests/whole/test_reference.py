"""Every file of the reference, through the xarray functions, through Dask and the drop-in."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import xarray as xr
from loaders import REFERENCE, as_movie, names, reference

import xs2p
from xs2p import suite2p

TOLERANCE = {"rtol": 1e-4, "atol": 1e-2}


def missing(npix):
    """ROIs for which the reference has an empty mask: zeros there, NaN here."""
    return np.flatnonzero(npix == 0)


def build(stat, shape, options):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ROIs lack a mask.*")
        rois = xs2p.rois_from_stat(stat, shape)
        return rois, xs2p.build_masks(rois, **options)


@pytest.mark.parametrize("name", names("masks_*"))
def test_masks(name):
    z, stat, shape, options = reference(name)
    rois, masks = build(stat, shape, options)
    image = xs2p.cell_image(rois, options.get("lam_percentile", 50.0))
    np.testing.assert_array_equal(image, z["cell_mask_image"])
    ends = np.cumsum(z["cell_n"])
    np.testing.assert_array_equal(masks.cell.indptr[1:], ends)
    for start, end, n in zip(ends - z["cell_n"], ends, range(ends.size), strict=True):
        order = np.argsort(z["cell_pix"][start:end]) + start
        own = slice(masks.cell.indptr[n], masks.cell.indptr[n + 1])
        np.testing.assert_array_equal(masks.cell.indices[own], z["cell_pix"][order])
        np.testing.assert_array_equal(masks.cell.data[own], z["cell_lam"][order])
    if "neu_pix" in z.files:
        np.testing.assert_array_equal(np.diff(masks.neuropil.indptr), z["neu_n"])
        np.testing.assert_array_equal(masks.neuropil.indices, z["neu_pix"])
    else:
        assert masks.neuropil is None
    empty = missing(z["cell_n"])
    assert (masks.rois.status.values[empty] == "no_cell_pixels").all()


@pytest.mark.parametrize("name", names("masks_*"))
def test_masks_drop_in(name):
    z, stat, shape, options = reference(name)
    cell, neuropil = suite2p.create_masks(stat, *shape, **options)
    np.testing.assert_array_equal([len(pixels) for pixels, _ in cell], z["cell_n"])
    np.testing.assert_array_equal(np.concatenate([p for p, _ in cell]), z["cell_pix"])
    np.testing.assert_array_equal(np.concatenate([w for _, w in cell]), z["cell_lam"])
    assert all(p.dtype == np.int64 and w.dtype == np.float32 for p, w in cell)
    image = suite2p.create_cell_pix(stat, *shape, options.get("lam_percentile", 50.0))
    np.testing.assert_array_equal(image, z["cell_mask_image"])
    if "neu_pix" in z.files:
        np.testing.assert_array_equal([p.size for p in neuropil], z["neu_n"])
        np.testing.assert_array_equal(np.concatenate(neuropil), z["neu_pix"])
        assert all(pixels.dtype == np.int64 for pixels in neuropil)
    else:
        assert neuropil is None


CHUNKS = [
    None,
    {"time": 130},
    {"time": 37},
    {"time": (1, 100, 29)},
    {"time": 1},
    {"time": 50, "y": 31, "x": 40},
    {"time": (64, 66), "y": -1, "x": 7},
]


@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
@pytest.mark.parametrize("name", names("extract_*"))
def test_extract(name, chunks):
    z, stat, shape, options = reference(name)
    rois, masks = build(stat, shape, options)
    for suffix in ("", "_chan2"):
        movie = as_movie(z[f"movie{suffix}"])
        movie = movie if chunks is None else movie.chunk(chunks)
        traces = xs2p.extract_traces(movie, masks)
        for kind in ("F", "Fneu"):
            actual, expected = traces[kind], z[f"{kind}{suffix}"].copy()
            assert (actual.chunks is None) == (chunks is None)
            assert actual.dtype == np.float32
            assert actual.values.flags.c_contiguous
            if kind == "F":
                empty = missing(np.diff(masks.cell.indptr))
                assert not expected[empty].any()
                expected[empty] = np.nan
            np.testing.assert_allclose(actual, expected, **TOLERANCE)


@pytest.mark.parametrize("name", names("extract_*"))
def test_extract_drop_in(name):
    z, stat, shape, options = reference(name)
    for batch_size in (500, 37):
        result = suite2p.extraction_wrapper(
            np.array(stat),
            z["movie"],
            z["movie_chan2"],
            settings={**suite2p.DEFAULTS, **options, "batch_size": batch_size},
            device="cuda:0",
        )
        for actual, kind in zip(result, ("F", "Fneu", "F_chan2", "Fneu_chan2"), strict=True):
            assert actual.dtype == np.float32
            np.testing.assert_allclose(actual, z[kind], **TOLERANCE)


def traces_of(z, key="F", **attrs):
    return xr.DataArray(z[key], dims=("roi", "time"), attrs={"fs": z["fs"].item(), **attrs})


METHODS = {"maximin": "maximin", "constant": "constant_global", "prctile": "prctile"}


@pytest.mark.parametrize("chunks", [None, {"roi": 5}, {"roi": 1}], ids=str)
@pytest.mark.parametrize("reference_method", METHODS)
@pytest.mark.parametrize("name", names("dcnv_*"))
def test_baseline_and_spikes(name, reference_method, chunks):
    z = np.load(REFERENCE / f"{name}.npz")
    F = traces_of(z)
    F = F if chunks is None else F.chunk({**chunks, "time": -1})
    options = {k: z[k].item() for k in ("win_baseline", "sig_baseline", "prctile_baseline")}
    corrected = xs2p.preprocess(F, METHODS[reference_method], **options)
    F0 = xs2p.baseline(F, METHODS[reference_method], **options)
    assert corrected.dtype == F0.dtype == np.float32
    np.testing.assert_array_equal(corrected, F.astype(np.float32) - F0)
    np.testing.assert_allclose(corrected, z[reference_method], **TOLERANCE)
    spks = xs2p.deconvolve(corrected, tau=z["tau"].item())
    assert spks.dtype == np.float32
    assert (spks.chunks is None) == (chunks is None)
    np.testing.assert_allclose(spks, z[f"spks_{reference_method}"], **TOLERANCE)
    # From the reference's own baselined traces the spikes agree to the last bit.
    exact = xs2p.deconvolve(traces_of(z, reference_method), tau=z["tau"].item())
    np.testing.assert_array_equal(exact, z[f"spks_{reference_method}"])


@pytest.mark.parametrize("name", names("dcnv_*"))
def test_baseline_and_spikes_drop_in(name):
    z = np.load(REFERENCE / f"{name}.npz")
    F = z["F"].copy()
    fs, tau = z["fs"].item(), z["tau"].item()
    window, sigma = z["win_baseline"].item(), z["sig_baseline"].item()
    for method in METHODS:
        actual = suite2p.preprocess(F, method, window, sigma, fs, z["prctile_baseline"].item())
        np.testing.assert_allclose(actual, z[method], **TOLERANCE)
        spikes = suite2p.oasis(z[method], 10, tau, fs)
        np.testing.assert_array_equal(spikes, z[f"spks_{method}"])
    np.testing.assert_array_equal(suite2p.oasis(F, 500, tau, fs), z["spks_raw"])
    np.testing.assert_array_equal(
        suite2p.baseline_maximin(F, window, sigma, fs),
        suite2p.preprocess(F, "maximin", window, sigma, fs),
    )
    np.testing.assert_array_equal(suite2p.preprocess(F, "sliding", window, sigma, fs), F)
    np.testing.assert_array_equal(F, z["F"])


def test_oasis_arrays_of_the_caller():
    z = np.load(REFERENCE / "dcnv_short.npz")
    F = z["F"]
    v, w, s = (np.zeros(F.shape, np.float32) for _ in range(3))
    t, length = (np.zeros(F.shape, np.int64) for _ in range(2))
    suite2p.oasis_matrix(F, v, w, t, length, s, z["tau"].item(), z["fs"].item())
    np.testing.assert_array_equal(s, z["spks_raw"])
    n_pools = (length > 0).sum(axis=1)
    for n in range(F.shape[0]):
        pools = slice(0, n_pools[n])
        assert length[n, pools].sum() == F.shape[1]
        np.testing.assert_array_equal(t[n, pools], np.cumsum(length[n, pools]) - length[n, pools])


def test_drop_in_where_it_differs_on_purpose():
    _, stat, shape, _ = reference("masks_dense_default")
    movie = np.ones((3, *shape), np.int16)
    empty = (np.zeros(0, np.int64), np.zeros(0, np.float32))
    F, Fneu = suite2p.extract_traces(movie, [empty], [np.zeros(0, np.int64)])
    assert not F.any() and np.isnan(Fneu).all()
    F, Fneu = suite2p.extract_traces(movie, [empty], None)
    assert not F.any() and not Fneu.any()
    without = {**suite2p.DEFAULTS, "neuropil_extract": False}
    result = suite2p.extraction_wrapper(stat, movie, settings=without)
    assert result[2] is None and result[3] is None and not result[1].any()
    everything_dropped = {**suite2p.DEFAULTS, "snr_threshold": 2.0}
    assert suite2p.extraction_wrapper(stat, movie, settings=everything_dropped)[0].shape[0] == 90
    with pytest.raises(ValueError, match=r"pixel \(y, x\) = .*, outside .* = \(20, 20\)"):
        suite2p.create_masks(stat, 20, 20)
    with pytest.raises(ValueError, match="device must be 'cpu' or 'cuda'"):
        suite2p.extract_traces(movie, [empty], None, device="mps")


@pytest.mark.parametrize("neuropil_extract", [True, False])
def test_drop_in_uses_the_masks_it_is_given(neuropil_extract):
    _, stat, shape, _ = reference("masks_sparse_default")
    movie = np.random.default_rng(0).integers(0, 99, (5, *shape)).astype(np.int16)
    settings = {**suite2p.DEFAULTS, "neuropil_extract": neuropil_extract}
    mine = [np.arange(n, n + 40) for n in range(len(stat))]
    F, Fneu, F2, Fneu2 = suite2p.extraction_wrapper(
        stat, movie, movie + 1, neuropil_masks=mine, settings=settings
    )
    expected = [movie.reshape(5, -1)[:, pixels].mean(1) for pixels in mine]
    np.testing.assert_allclose(Fneu, expected, **TOLERANCE)
    np.testing.assert_allclose(Fneu2, np.add(expected, 1), **TOLERANCE)
    np.testing.assert_array_equal(F, suite2p.extraction_wrapper(stat, movie)[0])
    cells = suite2p.create_masks(stat, *shape)[0][::-1]
    turned = suite2p.extraction_wrapper(stat, movie, None, cells, mine, {"batch_size": 2})
    np.testing.assert_array_equal(turned[0], F[::-1])
    np.testing.assert_array_equal(turned[1], Fneu)


def test_drop_in_takes_no_setting_for_granted():
    _, stat, shape, _ = reference("masks_sparse_default")
    movie = np.ones((3, *shape), np.int16)
    for name in ("batch_size", "allow_overlap", "neuropil_extract"):
        settings = {key: v for key, v in suite2p.DEFAULTS.items() if key != name}
        with pytest.raises(KeyError, match=f"settings has no '{name}'"):
            suite2p.extraction_wrapper(stat, movie, settings=settings)
    nested = {"fs": 10.0, "extraction": {**suite2p.DEFAULTS}}
    with pytest.raises(KeyError, match=r"pass settings\['extraction'\]"):
        suite2p.extraction_wrapper(stat, movie, settings=nested)
    suite2p.extraction_wrapper(stat, movie, settings=nested["extraction"])


def test_whole_pipeline_on_the_reference_is_the_sum_of_its_steps():
    z, stat, shape, options = reference("extract_sparse")
    rois, masks = build(stat, shape, options)
    movie = as_movie(z["movie"], fs=30.0).chunk(time=50)
    second = as_movie(z["movie_chan2"]).chunk(time=40)
    ds = movie.s2p.extract(rois, tau=1.0, movie_chan2=second, win_baseline=1.0, **options)
    ds = ds.compute()
    for kind in ("F", "Fneu", "F_chan2", "Fneu_chan2"):
        np.testing.assert_allclose(ds[kind], z[kind], **TOLERANCE)
    Fc = ds.F - np.float32(0.7) * ds.Fneu
    np.testing.assert_array_equal(ds.Fc, Fc)
    F0 = xs2p.baseline(Fc, fs=30.0, win_baseline=1.0)
    np.testing.assert_array_equal(ds.F0, F0)
    np.testing.assert_array_equal(ds.spks, xs2p.deconvolve(Fc - F0, tau=1.0, fs=30.0))
    assert masks.n_rois == ds.sizes["roi"]


@pytest.mark.parametrize("baseline", ["none", "maximin", "constant", "prctile", "anything"])
def test_the_drop_in_gives_new_arrays(baseline):
    """Where suite2p changes its input, or gives it back, this gives a new array."""
    F = np.random.default_rng(0).normal(100, 5, (3, 60)).astype(np.float32)
    before = F.copy()
    made = suite2p.preprocess(F, baseline, 2.0, 3.0, 10.0)
    assert not np.shares_memory(made, F)
    made[:] = 0
    suite2p.oasis(F, 100, 1.0, 10.0)[:] = 0
    suite2p.baseline_maximin(F, 2.0, 3.0, 10.0)[:] = 0
    np.testing.assert_array_equal(F, before)
