from __future__ import annotations

import contextlib
import io
import re
import sys
import time
import tracemalloc
import warnings

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from loaders import as_movie, square

import xs2p
from xs2p.pipeline import snr_filter
from xs2p.testing import raise_if_dask_computes


def noisy_case():
    """Eight ROIs, some of which carry nothing but noise and overlap their neighbours."""
    rng = np.random.default_rng(5)
    shape, n_frames = (40, 50), 200
    places = [(2, 2), (3, 4), (20, 5), (21, 7), (10, 30), (30, 30), (31, 31), (30, 45)]
    stat = [square(y, x, size=5) for y, x in places]
    frames = rng.normal(500, 30, (n_frames, *shape))
    signal = np.zeros((n_frames, 8))
    for t in range(1, n_frames):
        signal[t] = 0.95 * signal[t - 1] + (rng.random(8) < 0.05) * 300
    for n in (0, 2, 4, 5, 7):
        y, x = places[n]
        frames[:, y : y + 5, x : x + 5] += signal[:, n, None, None]
    rois = xs2p.rois_from_stat(stat, shape).assign_coords(roi=10 + np.arange(8))
    return frames.astype(np.int16), rois


OPTIONS = {"min_neuropil_pixels": 60, "win_baseline": 2.0}


@pytest.mark.filterwarnings("ignore:.*ROIs lack a mask")
@pytest.mark.parametrize("chunks", [None, 37], ids=str)
def test_snr_filter(chunks):
    frames, rois = noisy_case()
    source = CountingFrames(frames)
    if chunks is None:
        movie = as_movie(frames, fs=10.0)
    else:
        movie = as_movie(source.to_dask((chunks, 40, 50)), fs=10.0)
    Fc = movie.s2p.extract(rois, **OPTIONS).Fc.compute()
    ratio = xs2p.snr(Fc)
    threshold = float(np.sort(ratio.values)[2])
    keep = (ratio > threshold).values
    assert 3 <= keep.sum() <= 6
    source.reads[:] = 0
    with pytest.warns(UserWarning, match="suite2p SNR, 1 − ½ var.* of .* or less and are dropped"):
        ds = movie.s2p.extract(rois, tau=1.0, snr_threshold=threshold, **OPTIONS)
    if chunks is not None:
        # The first pass has been read, the second is lazy.
        np.testing.assert_array_equal(source.reads, 1)
        assert ds.spks.chunks
    kept = rois.isel(roi=np.flatnonzero(keep))
    expected = movie.s2p.extract(xs2p.recompute_overlap(kept), tau=1.0, **OPTIONS)
    assert ds.roi.values.tolist() == (10 + np.flatnonzero(keep)).tolist()
    np.testing.assert_array_equal(ds.snr, ratio[keep])
    result = ds.compute()
    if chunks is not None:
        np.testing.assert_array_equal(source.reads, 2)
    for name in ("F", "Fneu", "Fc", "F0", "spks"):
        assert result[name].dims == ("roi", "time")
        np.testing.assert_array_equal(result[name], expected[name], err_msg=name)
        assert result[name].attrs == expected[name].attrs
    np.testing.assert_array_equal(result.frac_overlap, expected.frac_overlap)
    np.testing.assert_array_equal(result.status, expected.status)
    assert result.attrs["snr_threshold"] == threshold


@pytest.mark.filterwarnings("ignore:.*are dropped")
@pytest.mark.parametrize("to_zarr", [False, True])
def test_snr_filter_keeps_traces_up_to_a_limit(tmp_path, to_zarr, monkeypatch):
    """F and Fneu of all ROIs would be 38 MB here; what is done at once is a few chunks of them."""
    monkeypatch.setattr(snr_filter, "_KEPT", 38e6)
    n_rois, shape = 80, (24, 24)
    places = np.random.default_rng(0).integers(0, 20, (n_rois, 2))
    rois = xs2p.rois_from_stat([square(y, x, size=4) for y, x in places], shape)

    def noise(block_info=None):
        (start, stop), *_ = block_info[None]["array-location"]
        return np.random.default_rng(start).integers(0, 99, (stop - start, *shape), np.uint8)

    data = da.map_blocks(noise, chunks=((1000,) * 60, (24,), (24,)), dtype=np.uint8)
    movie = as_movie(data, fs=10.0)
    options = {"allow_overlap": True, "min_neuropil_pixels": 20, "baseline": "none"}
    movie[:2000].s2p.extract(rois, snr_threshold=0.9, **options)  # kernels are compiled
    tracemalloc.start()
    try:
        with dask.config.set(scheduler="threads", num_workers=2):
            if to_zarr:
                xs2p.extract_to_zarr(
                    movie, rois, tmp_path / "out.zarr", snr_threshold=0.9, progress=False, **options
                )
            else:
                movie.s2p.extract(rois, snr_threshold=0.9, **options)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.filterwarnings("ignore:.*ROIs lack a mask")
def test_snr_filter_that_drops_nothing_or_everything():
    frames, rois = noisy_case()
    movie = as_movie(frames, fs=10.0).chunk(time=50)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*dropped")
        ds = movie.s2p.extract(rois, snr_threshold=1e-9, allow_overlap=True, **OPTIONS)
    assert ds.sizes["roi"] == 8 and "snr" in ds.coords
    with pytest.warns(UserWarning, match="8 of 8 ROIs .* dropped"):
        ds = movie.s2p.extract(rois, tau=1.0, snr_threshold=2.0, allow_overlap=True, **OPTIONS)
    assert ds.compute().spks.shape == (0, 200)


def test_every_variable_is_labelled():
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    with raise_if_dask_computes():
        ds = movie.s2p.extract(rois, tau=1.0, movie_chan2=movie, baseline="prctile")
    assert list(ds.data_vars) == ["F", "Fneu", "Fc", "F0", "spks", "F_chan2", "Fneu_chan2"]
    for name, variable in ds.data_vars.items():
        assert variable.dims == ("roi", "time") and variable.dtype == np.float32
        assert variable.attrs["units"] == "1" and variable.attrs["long_name"], name
        assert variable.attrs["xs2p_version"] == xs2p.__version__
        assert "status" in variable.coords and "radius" in variable.coords
    assert len({v.attrs["long_name"] for v in ds.data_vars.values()}) == 7
    assert all(v.attrs["fs"] == 7.0 for v in ds.data_vars.values())
    assert ds.F0.attrs["neuropil_coefficient"] == ds.spks.attrs["neuropil_coefficient"] == 0.7
    assert ds.spks.attrs["tau"] == 1.0 and ds.spks.attrs["fs"] == 7.0
    assert ds.spks.attrs["baseline"] == ds.F0.attrs["baseline"] == "prctile"
    assert ds.F0.attrs["prctile_baseline"] == 8.0
    assert ds.Fc.attrs["neuropil_coefficient"] == 0.7
    assert ds.attrs["Ly"] == 64 and ds.attrs["tau"] == 1.0 and ds.attrs["lam_percentile"] == 50.0
    # The ROI set rides along, also through a selection.
    some = ds.isel(roi=[4, 2]).s2p.to_stat()
    np.testing.assert_array_equal(some[1]["ypix"], rois.s2p.to_stat()[2]["ypix"])


def test_steps_on_the_result():
    ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    F0 = ds.F.s2p.baseline("maximin", win_baseline=10.0)
    assert F0.attrs["fs"] == 7.0 and F0.chunks
    spks = ds.Fc.s2p.deconvolve(tau=0.7)
    assert spks.chunks and spks.attrs["tau"] == 0.7
    assert ds.Fc.s2p.snr().compute().shape == (98,)


def test_tau_none_leaves_spikes_out_and_fs_is_asked_for_only_where_needed():
    movie = as_movie(np.ones((5, 12, 15), np.int16))
    rois = xs2p.rois_from_stat([square(3, 3)], (12, 15))
    ds = movie.s2p.extract(rois, baseline="constant", min_neuropil_pixels=20)
    assert list(ds.data_vars) == ["F", "Fneu", "Fc", "F0"]
    with pytest.raises(ValueError, match="fs is not known: give frames per second"):
        movie.s2p.extract(rois)
    with pytest.raises(ValueError, match="fs is not known"):
        movie.s2p.extract(rois, baseline="none", tau=1.0)


def test_tau_that_the_movie_says_is_used_unless_another_is_given(tmp_path):
    rng = np.random.default_rng(0)
    movie = as_movie(rng.integers(0, 99, (60, 12, 15)).astype(np.int16), fs=10.0, tau=1.5)
    rois = xs2p.rois_from_stat([square(3, 3)], (12, 15))
    how = {"min_neuropil_pixels": 20, "win_baseline": 2.0}
    ds = movie.s2p.extract(rois, **how)
    assert ds.spks.attrs["tau"] == ds.attrs["tau"] == 1.5
    np.testing.assert_array_equal(ds.spks, (ds.Fc - ds.F0).s2p.deconvolve(tau=1.5, fs=10.0))
    assert movie.s2p.extract(rois, tau=0.5, **how).attrs["tau"] == 0.5
    stored = movie.s2p.extract_to_zarr(rois, tmp_path / "a.zarr", progress=False, **how)
    np.testing.assert_array_equal(stored.spks, ds.spks)
    with pytest.raises(ValueError, match=r"tau=1.5, and 2.0 is given now"):
        movie.assign_attrs(tau=2.0).s2p.extract_to_zarr(
            rois, tmp_path / "a.zarr", resume=True, progress=False, **how
        )


@pytest.mark.parametrize("scheduler", ["synchronous", "threads", "processes"])
def test_schedulers_agree(scheduler):
    movie, rois = xs2p.sample_movie(chunks=130), xs2p.sample_rois()
    expected = xs2p.sample_movie(chunks=None).s2p.extract(rois, tau=1.0)
    ds = movie.s2p.extract(rois, tau=1.0).compute(scheduler=scheduler, num_workers=2)
    xr.testing.assert_identical(ds, expected)


def test_compute_shows_progress(capsys):
    ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois())
    quiet = ds.s2p.compute(progress=False)
    xr.testing.assert_identical(ds.s2p.compute(), quiet)
    assert capsys.readouterr() == ("", "")  # nobody looks at a bar in a file
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    with contextlib.redirect_stderr(terminal):
        shown = ds.s2p.compute()
    assert re.search(r"500 of 500 frames .* 100 % +[\d,]+ frames/s", terminal.getvalue())
    xr.testing.assert_identical(quiet, shown)
    xr.testing.assert_identical(shown.s2p.compute(), shown)
    assert isinstance(ds.F.s2p.compute(progress=False).data, np.ndarray)


def test_result_goes_to_zarr_and_comes_back(tmp_path):
    ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
    for name, data in (("lazy", ds), ("computed", ds.compute())):
        data.to_zarr(tmp_path / f"{name}.zarr")
        with xr.open_zarr(tmp_path / f"{name}.zarr") as stored:
            stored = stored.load()
        xr.testing.assert_equal(stored, ds.compute())
        assert stored.spks.attrs == ds.spks.attrs
        assert stored.status.values.tolist() == ds.status.values.tolist()
        assert len(stored.s2p.to_stat()) == 98
        assert stored.s2p.build_masks().token == xs2p.build_masks(xs2p.sample_rois()).token


ERRORS = {
    "baseline": ({"baseline": "sliding"}, "unknown baseline 'sliding'; choose one of maximin"),
    "tau": ({"tau": 0.0}, "tau must be a positive number, got 0.0"),
    "coefficient": ({"neuropil_coefficient": np.nan}, "neuropil_coefficient must be a number"),
    "window": ({"win_baseline": -1.0}, "win_baseline must be a number of seconds, 0 or more"),
    "percentile": (
        {"prctile_baseline": 200.0},
        "prctile_baseline must be a number from 0 to 100; got 200.0",
    ),
    "snr": ({"snr_threshold": np.nan}, "snr_threshold must be a number"),
    "taus": ({"tau": xr.DataArray([1.0, 2.0], dims="roi")}, "one value per roi"),
    "coefficient list": ({"neuropil_coefficient": [0.7]}, r"must be a number; got an array of sha"),
    "no lam_percentile": (
        {"lam_percentile": None},
        "lam_percentile must be a number from 0 to 100",
    ),
    "radius text": ({"inner_neuropil_radius": "2"}, "inner_neuropil_radius must be a number"),
    "snr tau": (
        {"snr_threshold": 0.5, "tau": xr.DataArray(np.ones(98), dims="roi")},
        "give tau with roi labels",
    ),
    "chan2 frames": (
        {"movie_chan2": as_movie(np.zeros((4, 64, 64)))},
        "movie has 500 frames and movie_chan2 4",
    ),
    "chan2 size": (
        {"movie_chan2": as_movie(np.zeros((500, 60, 64)))},
        r"frames of movie_chan2 are \(y, x\) = \(60, 64\)",
    ),
    "chan2 array": ({"movie_chan2": np.zeros((500, 64, 64))}, "movie_chan2 must be an xarray"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors_come_before_any_work(case):
    options, message = ERRORS[case]
    with raise_if_dask_computes(), pytest.raises(ValueError, match=message):
        xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), **options)


def test_masks_are_one_key_in_the_graph_of_the_whole_result():
    ds = xs2p.sample_movie(chunks=10).s2p.extract(xs2p.sample_rois(), tau=1.0)
    graph = dict(ds.__dask_graph__())
    assert sum(str(key).startswith("masks-") for key in graph) == 1
    assert dask.base.tokenize(ds.F.data) == dask.base.tokenize(
        xs2p.sample_movie(chunks=10).s2p.extract(xs2p.sample_rois(), tau=1.0).F.data
    )


def test_a_channel_dim_goes_through_every_step():
    movie = xs2p.sample_movie(chunks=None)
    both = xr.concat([movie, movie[::-1].assign_coords(time=movie.time)], "channel")
    both = both.transpose("channel", "time", "y", "x").assign_attrs(movie.attrs)
    expected = movie.s2p.extract(xs2p.sample_rois(), tau=1.0)
    for m in (both, both.chunk(channel=1, time=100), both.chunk(time=130)):
        ds = m.s2p.extract(xs2p.sample_rois(), tau=1.0)
        assert ds.spks.dims == ("channel", "roi", "time")
        ds = ds.compute()
        for name in expected.data_vars:
            np.testing.assert_array_equal(ds[name][0], expected[name])
            assert not np.array_equal(ds[name][1], expected[name])
    with pytest.raises(ValueError, match="give channels in one way"):
        both.s2p.extract(xs2p.sample_rois(), movie_chan2=movie)
    with raise_if_dask_computes(), pytest.raises(ValueError, match="snr_threshold needs one"):
        both.chunk(time=100).s2p.extract(xs2p.sample_rois(), snr_threshold=0.5)


def test_one_frame_chunks_of_one_frame():
    movie = xs2p.sample_movie(chunks=None).isel(time=slice(0, 9))
    expected = movie.s2p.extract(xs2p.sample_rois(), tau=1.0)
    ds = movie.chunk(time=1).s2p.extract(xs2p.sample_rois(), tau=1.0)
    xr.testing.assert_identical(ds.compute(), expected)


def test_tau_of_each_roi_by_label():
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    tau = xr.DataArray(np.linspace(0.5, 1.5, 98), dims="roi", coords={"roi": rois.roi})
    ds = movie.s2p.extract(rois, tau=tau).compute()
    np.testing.assert_array_equal(ds.tau, tau)
    assert "tau" not in ds.attrs
    for n in (0, 97):
        one = movie.s2p.extract(rois, tau=tau[n].item()).spks
        np.testing.assert_array_equal(ds.spks[n], one[n])
    quieter = xs2p.snr(ds.Fc)
    threshold = float(np.sort(quieter.values)[3])
    with pytest.warns(UserWarning, match="dropped"):
        some = movie.s2p.extract(rois, tau=tau, snr_threshold=threshold)
    np.testing.assert_array_equal(some.tau, tau.sel(roi=some.roi))


def test_a_result_serves_as_roi_set():
    movie, rois = xs2p.sample_movie(), xs2p.sample_rois()
    taus = xr.DataArray(np.full(98, 0.5), dims="roi", coords={"roi": rois.roi})
    first = movie.s2p.extract(rois, tau=taus)
    again = movie.s2p.extract(first, tau=1.0)
    xr.testing.assert_identical(again.compute(), movie.s2p.extract(rois, tau=1.0).compute())
    some = first.isel(roi=[4, 2])
    with pytest.warns(UserWarning, match=r"overlap flags of 2 of 2 ROIs disagree .*\(roi 4, 2\)"):
        assert movie.s2p.extract(some, tau=1.0).spks.shape == (2, 500)
    with warnings.catch_warnings(record=True) as said:  # masks are made twice, it is said once
        warnings.simplefilter("always")
        movie.s2p.extract(some, snr_threshold=1e-9)
    assert sum("overlap flags" in str(warning.message) for warning in said) == 1
    fresh = xs2p.recompute_overlap(some)
    assert list(fresh.data_vars) == list(some.data_vars)
    assert movie.s2p.extract(fresh, tau=1.0).roi.values.tolist() == [4, 2]


def test_pictures_that_take_long_show_progress(monkeypatch, capsys):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    movie = xs2p.sample_movie()
    ds = movie.s2p.extract(xs2p.sample_rois(), tau=1.0).compute()
    slow = movie.copy(data=movie.data.map_blocks(lambda block: (time.sleep(0.3), block)[1]))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with dask.config.set(scheduler="synchronous"):
        ds.s2p.plot_summary(movie=slow)
    assert "100 %" in capsys.readouterr().err
    ds.s2p.plot_traces([4])
    assert capsys.readouterr().err == ""
    pyplot.close("all")


@pytest.mark.parametrize("chan2", [False, True])
def test_chunks_are_joined_before_f_and_fneu_are_taken_apart(chan2):
    """A chunk of the movie is one task, or a hundred small ones; what follows is of joined ones."""
    movie = xr.DataArray(
        da.zeros((40_000, 8, 8), chunks=(100, 8, 8), dtype="i2"),
        dims=("time", "y", "x"),
        attrs={"fs": 10.0},
    )
    rois = xs2p.rois_from_labels(np.kron(np.eye(2, dtype=int), np.ones((4, 4), int)))
    options = {"movie_chan2": movie + np.int16(1)} if chan2 else {}
    ds = movie.s2p.extract(rois, min_neuropil_pixels=5, win_baseline=10.0, tau=0.5, **options)
    (optimised,) = dask.optimize({name: array.data for name, array in ds.data_vars.items()})
    tasks = set().union(*(array.dask.keys() for array in optimised.values()))
    joined = ds.F.data.numblocks[1]
    n_movies = 2 if chan2 else 1
    extracted = [key for key in tasks if "xs2p-extract" in str(key) and "rechunk" not in str(key)]
    assert joined < 10 and len(extracted) == (800 if chan2 else 4)
    assert len(tasks) < (400 + 40 * joined) * n_movies


@pytest.mark.parametrize("baseline", ["maximin", "constant", "constant_global", "prctile", "none"])
@pytest.mark.parametrize("chunks", [None, 100])
def test_no_rois_have_no_traces(baseline, chunks):
    rois = xs2p.sample_rois().isel(roi=[])
    ds = xs2p.sample_movie(chunks).s2p.extract(rois, tau=1.0, baseline=baseline).compute()
    assert ds.F0.shape == ds.spks.shape == (0, 500)
