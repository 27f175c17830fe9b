"""Stacked traces and the page about a recording: no peak is lost, nothing is read twice."""

import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from matplotlib import pyplot
from matplotlib.collections import LineCollection
from pictures import TOLERANCE, axes, check_legible, difference, words

import xs2p
from xs2p.plot import plot_summary, plot_traces
from xs2p.plot.drawing import color_scale
from xs2p.testing import raise_if_dask_computes, simulate


@pytest.fixture(scope="module")
def sample():
    movie, rois = xs2p.sample_movie(None), xs2p.sample_rois()
    return movie, movie.s2p.extract(rois, tau=1.0)


@pytest.fixture
def counted():
    """Lazy traces of a movie that counts how often each frame is read, and the movie."""
    movie, rois, _ = simulate(12, (40, 60), 300, seed=1)
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((50, 40, 60)))
    ds = lazy.s2p.extract(rois, tau=1.0, baseline="constant")
    return frames, lazy, ds


def made(n_frames, values, **more):
    """Traces as given, ``(roi, time)``, at 30 Hz."""
    values = np.asarray(values, np.float32)
    return xr.Dataset(
        {"Fc": (("roi", "time"), values, {"units": "photons"}), **more},
        coords={"roi": np.arange(len(values)) + 5},
        attrs={"fs": 30.0},
    )


def lines_of(ax):
    """Lines of traces: those longer than a scale bar."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def test_traces_as_they_were(sample, tmp_path):
    def draw(ds, **options):
        ax = plot_traces(ds, [4, 5, 97], axes(360, 180), legend=False, time=(8, 30), **options)
        return difference(ax.figure, "traces", tmp_path)

    ds = sample[1]
    assert draw(ds) <= TOLERANCE
    assert draw(ds, corrected=True) > 2 * TOLERANCE
    assert draw(ds, neuropil_coefficient=0.6) > 2 * TOLERANCE
    assert draw(ds, same_scale=True) > 2 * TOLERANCE
    assert draw(ds.drop_vars("spks")) > 2 * TOLERANCE
    assert draw(ds.drop_vars("F0")) > 2 * TOLERANCE
    assert draw(ds.assign(spks=ds.spks.shift(time=3))) > 2 * TOLERANCE


def test_summary_as_it_was(sample, tmp_path):
    # In pixels of a page of 480: two for a pixel of the movie and for a frame of the raster.
    places = [
        (10, 340, 128, 128),
        (150, 340, 128, 128),
        (300, 340, 160, 128),
        (16, 190, 444, 104),
        (16, 30, 444, 140),
    ]

    def draw(ds, **options):
        figure = plot_summary(ds, **options)
        figure.set_layout_engine("none")
        figure.set_size_inches(10, 10)
        for ax, place in zip(figure.axes, places, strict=True):
            ax.set_position(np.array(place) / 480)
        return difference(figure, "summary", tmp_path, dpi=48)

    movie, ds = sample
    some = xs2p.recompute_overlap(ds.isel(roi=slice(0, 98, 8), time=slice(50, 251)))
    image = movie.mean("time")
    assert draw(some, background=image) <= TOLERANCE
    assert draw(some, background=image[::-1]) > 2 * TOLERANCE
    assert draw(some, background=image, raster="dFF") > 2 * TOLERANCE
    assert draw(some.assign_coords(snr=("roi", np.arange(13.0))), background=image) > 2 * TOLERANCE
    assert draw(some, background=image, n_traces=4) > 2 * TOLERANCE


def test_what_is_drawn_is_f_neuropil_and_baseline(sample):
    ds = sample[1]
    ax = ds.s2p.plot_traces([4])
    check_legible(ax.figure)
    neuropil, F, baseline = (line.get_ydata() for line in lines_of(ax))
    one = ds.sel(roi=4)
    # All three on one scale: from the picture back to the numbers.
    slope, offset = np.polyfit(F, one.F.values, 1)
    np.testing.assert_allclose(slope * F + offset, one.F, rtol=1e-4)
    np.testing.assert_allclose(slope * neuropil + offset, 0.7 * one.Fneu, rtol=1e-4)
    np.testing.assert_allclose(slope * baseline + offset, 0.7 * one.Fneu + one.F0, rtol=1e-4)
    assert {"ROI 4", "time (s)", "F", "0.7 · Fneu (neuropil)", "0.7 · Fneu + F0 (baseline)"} <= set(
        words(ax.figure)
    )
    np.testing.assert_array_equal(lines_of(ax)[0].get_xdata(), ds.time)
    bar = next(line for line in ax.get_lines() if len(line.get_xdata()) == 2)
    height = np.ptp(bar.get_ydata()) * slope
    assert f"{height:.0f} a.u." in words(ax.figure)
    spikes = next(c for c in ax.collections if isinstance(c, LineCollection))
    heights = np.array([np.ptp(s[:, 1]) for s in spikes.get_segments()])
    fired = one.spks.values[one.spks.values > 0]
    np.testing.assert_allclose(heights / heights.max(), fired / fired.max(), atol=1e-5)

    ax = ds.s2p.plot_traces([4], corrected=True)
    Fc, F0 = (line.get_ydata() for line in lines_of(ax))
    slope, offset = np.polyfit(Fc, one.Fc.values, 1)
    np.testing.assert_allclose(slope * F0 + offset, one.F0, rtol=1e-4)
    assert "F0 (baseline)" in words(ax.figure)


def test_the_best_rois_are_chosen(sample):
    ds = sample[1]
    best = ds.roi.values[np.argsort(-ds.Fc.s2p.snr().values)[:5]]
    ax = ds.s2p.plot_traces()
    check_legible(ax.figure)
    assert [t.get_text() for t in ax.get_yticklabels()] == [f"ROI {label}" for label in best]
    ax = ds.assign_coords(snr=("roi", np.arange(98.0))).s2p.plot_traces()
    assert [t.get_text() for t in ax.get_yticklabels()][:2] == ["ROI 97", "ROI 96"]


@pytest.mark.parametrize("n", [1, 20])
def test_few_and_many_rows(sample, n):
    ax = sample[1].s2p.plot_traces(range(n))
    check_legible(ax.figure)
    assert len(ax.get_yticklabels()) == n


def test_what_is_absent_is_left_out(sample):
    ds = sample[1]
    ax = ds[["F"]].drop_vars("time").s2p.plot_traces([0])
    assert set(words(ax.figure)) >= {"F", "time (s)"} and len(lines_of(ax)) == 1
    bare = ds[["F", "Fneu"]].drop_vars("time").drop_attrs()
    ax = bare.s2p.plot_traces([0], time=(100, 120))
    assert {"Fneu (neuropil)", "time (frames)"} <= set(words(ax.figure))
    assert lines_of(ax)[0].get_xdata().tolist() == list(range(100, 121))
    with pytest.warns(UserWarning, match="F0 is not drawn.*give neuropil_coefficient"):
        ds.drop_attrs().s2p.plot_traces([0])
    empty = ds.assign({n: v.where(ds.roi != 3) for n, v in ds.data_vars.items()})
    status = np.array(["ok"] * 98, object)
    status[3] = "no_cell_pixels"
    ax = empty.assign_coords(status=("roi", status)).s2p.plot_traces([3, 4])
    check_legible(ax.figure)
    assert "no trace: no_cell_pixels" in words(ax.figure)


def test_zeros_that_are_no_trace_are_said(sample):
    ds = sample[1].copy(deep=True)
    status = np.array(["ok"] * 98, object)
    status[3] = "zero_trace"
    ds["F"][[3, 5]] = 0.0
    ds = ds.assign_coords(status=("roi", status))
    ax = ds.s2p.plot_traces([4, 3, 5])
    check_legible(ax.figure)
    assert [w for w in words(ax.figure) if "no trace" in w] == ["no trace: zero_trace"]
    assert len(lines_of(ax)) == 6  # F, neuropil and baseline of the others, of real zeros too
    ax = ds.s2p.plot_traces([4, 3], corrected=True)  # Fc is that of the neuropil
    check_legible(ax.figure)
    assert "no trace: zero_trace" in words(ax.figure) and len(lines_of(ax)) == 4
    summary = ds.drop_vars(["Fc", "F0"]).s2p.plot_summary(n_traces=98)
    assert "no trace: zero_trace" in words(summary)


def test_a_million_frames_keep_their_peaks():
    n = 1_000_000
    rng = np.random.default_rng(0)
    values = rng.normal(size=(2, n)).astype("f4")
    values[0, 123_456], values[0, 777_777] = 50, -40
    spks = np.zeros((2, n), "f4")
    spks[0, 999_999] = 3
    spks[0, 5] = 6
    ax = plot_traces(made(n, values, spks=(("roi", "time"), spks)), [5, 6])
    check_legible(ax.figure)
    line = lines_of(ax)[0]
    assert len(line.get_xdata()) <= 4000
    x, y = line.get_data()
    assert x[np.argmax(y)] == pytest.approx(123_456 / 30)
    assert x[np.argmin(y)] == pytest.approx(777_777 / 30)
    segments = ax.collections[0].get_segments()
    assert [s[0, 0] for s in segments] == pytest.approx([5 / 30, 999_999 / 30])
    heights = [np.ptp(s[:, 1]) for s in segments]
    assert heights[0] == pytest.approx(2 * heights[1])


def test_only_what_is_shown_is_read_and_once(counted):
    frames, movie, ds = counted
    traces = movie.s2p.extract_traces(xs2p.build_masks(ds))
    ax = traces.s2p.plot_traces([3, 4], time=(2, 3), neuropil_coefficient=0.7)
    assert ax.get_xlabel() == "time (s)"
    # Frames 60 to 90 lie in one chunk; Dask reads nothing else.
    assert frames.reads[50:100].tolist() == [1] * 50 and frames.reads.sum() == 50
    frames.reads[:] = 0
    ds.s2p.plot_traces([3, 4])  # the baseline needs all frames, each still read once
    assert frames.reads.tolist() == [1] * 300
    with raise_if_dask_computes(max_computes=1):
        ds.s2p.plot_traces([3, 4])


def test_the_summary_reads_everything_once(counted):
    frames, movie, ds = counted
    figure = ds.s2p.plot_summary(movie=movie)
    assert frames.reads.tolist() == [1] * 300
    image = figure.axes[0].images[0].get_array()
    np.testing.assert_allclose(image, frames.frames.mean(0), rtol=1e-5)


def test_the_summary_says_what_it_shows(sample):
    movie, ds = sample
    figure = ds.s2p.plot_summary(movie=movie)
    check_legible(figure)
    said = words(figure)
    assert {"Mean image", "98 ROIs", "suite2p SNR", "Fc of all ROIs, z-score"} <= set(said)
    fov, rois, histogram, raster, traces = figure.axes[:5]
    assert sum(bar.get_height() for bar in histogram.patches) == 98
    shown = np.asarray(raster.images[0].get_array())
    order = np.argsort(-ds.Fc.s2p.snr().values, kind="stable")
    z = (ds.Fc - ds.Fc.mean("time")) / ds.Fc.std("time")
    np.testing.assert_allclose(shown, z.values[order], rtol=1e-3, atol=1e-4)
    assert raster.get_xlim() == pytest.approx(traces.get_xlim())  # one time axis for both


def test_the_summary_of_a_long_recording_is_binned():
    rng = np.random.default_rng(0)
    movie, rois, _ = simulate(6, (30, 80), 4, seed=2)
    n = 7003
    F = rng.normal(100, 1, (6, n)).astype("f4")
    F[2] = np.nan
    F[0, 4321] = 500
    ds = xs2p.extract(movie, rois, fs=30.0).isel(time=[])
    ds = ds.drop_vars(["time", *ds.data_vars]).assign(
        F=(("roi", "time"), F, {"units": "photons"}),
    )
    lazy = ds.chunk(time=1000)
    figures = [d.s2p.plot_summary(n_traces=8) for d in (ds, lazy)]
    for figure in figures:
        check_legible(figure)
        raster = np.asarray(figure.axes[3].images[0].get_array())
        assert raster.shape == (6, 876)  # of 8 frames each
        assert np.isnan(raster[5]).all() and np.isfinite(raster[:5]).all()
        said = " ".join(words(figure))
        assert "means of 0.267 s (tinted: no trace)" in said and "1 without a trace" in said
        assert "Pixel weights" in said
    one, two = (np.asarray(f.axes[3].images[0].get_array()) for f in figures)
    np.testing.assert_allclose(one, two, rtol=1e-6)
    top = figures[0].axes[4]
    best = [t.get_text() for t in top.get_yticklabels()].index("ROI 0")
    y = lines_of(top)[best].get_ydata()
    assert np.argmax(y) == 2 * (4321 // 8) + 1


def test_the_summary_of_hundreds_of_rois(sample):
    rng = np.random.default_rng(0)
    labels = np.zeros((200, 300), int)
    for k in range(600):
        y, x = 1 + 10 * (k // 30), 1 + 10 * (k % 30)
        labels[y : y + 7, x : x + 7] = k + 1
    movie = xr.DataArray(rng.integers(0, 99, (30, 200, 300)), dims=("time", "y", "x"))
    ds = movie.s2p.extract(xs2p.rois_from_labels(labels), fs=3.0, baseline="none")
    check_legible(ds.s2p.plot_summary(background=movie.mean("time")))


def test_a_stored_recording_is_drawn(sample, tmp_path):
    """Coordinates are chunks of Dask's too, cut otherwise than the traces."""
    image, ds = sample[0].mean("time"), sample[1]
    encoding = {name: {"chunks": (30, 100)} for name in ds.data_vars}
    ds.to_zarr(tmp_path / "ds.zarr", encoding=encoding, consolidated=False)
    for chunks in ({}, None):
        stored = xr.open_zarr(tmp_path / "ds.zarr", chunks=chunks, consolidated=False)
        figure = stored.s2p.plot_summary(background=image)
        check_legible(figure)
        fresh = ds.s2p.plot_summary(background=image)
        one, two = (np.asarray(f.axes[3].images[0].get_array()) for f in (figure, fresh))
        np.testing.assert_allclose(one, two, atol=1e-9)
        ax = stored.s2p.plot_traces([4])
        np.testing.assert_array_equal(
            lines_of(ax)[1].get_ydata(), lines_of(ds.s2p.plot_traces([4]))[1].get_ydata()
        )
        stored.s2p.plot(color="radius")
        stored.s2p.plot_roi(5)


def test_a_notebook_shows_the_page_once(sample, monkeypatch):
    monkeypatch.setattr(
        "matplotlib.get_backend", lambda: "module://matplotlib_inline.backend_inline"
    )
    figure = sample[1].s2p.plot_summary()
    assert figure.axes and not pyplot.get_fignums()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.s2p.plot_traces([999]), "no roi 999; there are 98.*0, 1, 2"),
        (lambda d: d.s2p.plot_traces(d.roi == 3), "rois=ds.roi.mask..values"),
        (
            lambda d: d.s2p.plot_traces(time=(80, 90)),
            r"time=\(80, 90\); time \(s\) goes from 0 to 71",
        ),
        (lambda d: d.s2p.plot_traces(time=3), r"time must be \(start, end\).*got 3"),
        (lambda d: d[["F"]].s2p.plot_traces(corrected=True), "needs Fc"),
        (lambda d: d[["spks"]].s2p.plot_traces(), "neither F nor Fc.*has spks"),
        (lambda d: d.expand_dims(channel=2).s2p.plot_traces(), "isel"),
        (lambda d: d.s2p.plot_summary(raster="z"), "'zscore' or 'dFF'"),
        (lambda d: d.drop_vars("F0").s2p.plot_summary(raster="dFF"), "needs a baseline"),
        (lambda d: d.drop_vars("npix").s2p.plot_summary(), "lacks npix"),
        (lambda d: d.s2p.plot_summary(background=np.zeros((3, 4))), r"\(64, 64\).*\(3, 4\)"),
        (lambda d: d.s2p.plot_summary(movie=d.F), "expected .'time', 'y', 'x'"),
        (lambda d: d.isel(time=[]).s2p.plot_summary(), "no frames"),
    ],
)
def test_bad_input_is_named_before_a_figure_is_made(sample, call, message):
    with pytest.raises(ValueError, match=message):
        call(sample[1])
    assert not pyplot.get_fignums()


def test_inputs_stay_as_they_are(sample):
    copy = sample[1].copy(deep=True)
    copy.s2p.plot_summary()
    copy.s2p.plot_traces()
    xr.testing.assert_identical(copy, sample[1])


def in_planes(ds, n):
    """The sample's traces, its ROIs dealt out to planes, with an image of each."""
    ds = ds.assign_coords(plane=("roi", np.arange(ds.sizes["roi"]) % n))
    return ds.assign({f"meanImg_plane{k}": (("y", "x"), np.eye(64) * (k + 1)) for k in range(n)})


def test_the_summary_has_a_panel_for_each_plane(sample):
    ds = in_planes(sample[1], 2)
    figure = ds.s2p.plot_summary()
    names = [ax.get_title(loc="left") for ax in figure.axes]
    assert names[:3] == [f"Plane {k}: 49 ROIs\nMean image" for k in (0, 1)] + ["suite2p SNR"]
    for k, ax in enumerate(figure.axes[:2]):
        np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(64) * (k + 1))
    # A colour means the same in all panels: that of the histogram beside them.
    colors = [ax.collections[0].get_edgecolors() for ax in figure.axes[:2]]
    quality = sample[1].Fc.s2p.snr()
    expected = color_scale(quality, on_image=True).to_rgba(quality.values)
    for k in (0, 1):
        np.testing.assert_allclose(colors[k], expected[k::2])
    check_legible(figure)


def test_images_of_the_planes_of_a_summary(sample):
    movie, ds = sample
    ds = in_planes(ds, 3).drop_vars([f"meanImg_plane{k}" for k in range(3)])
    few = movie.isel(time=slice(0, 9)).astype(float)
    both = xr.concat([few, few * 2 + 1], "plane")
    with pytest.raises(ValueError, match=r"movie has no image of plane 2.*0, 1"):
        ds.s2p.plot_summary(movie=both)
    three = xr.concat([few, few * 2 + 1, few**2], "plane").assign_coords(plane=[2, 1, 0])
    mean = three.mean("time", dtype=np.float64)
    for given in ({"movie": three}, {"background": mean}):
        axes = ds.s2p.plot_summary(**given).axes
        for k in range(3):
            np.testing.assert_allclose(axes[k].images[0].get_array(), mean.sel(plane=k))
    # Of a selection of one plane the same page as ever, with that plane's image.
    one = in_planes(sample[1], 3).pipe(lambda d: d.isel(roi=d.plane.values == 1))
    axes = one.s2p.plot_summary().axes
    assert axes[1].get_title(loc="left") == "33 ROIs"
    np.testing.assert_array_equal(axes[0].images[0].get_array(), np.eye(64) * 2)


def test_the_baseline_of_centred_neuropil_lies_where_f_is_silent():
    movie, rois, _ = simulate(4, (30, 41), 300, fs=10.0)
    ds = movie.s2p.extract(rois, neuropil="centred", dark_offset=3.0, min_neuropil_pixels=50)
    ax = ds.s2p.plot_traces([1], legend=True)
    dashed = [line for line in ax.get_lines() if line.get_linestyle() == "--"]
    assert len(dashed) == 1
    one = ds.sel(roi=1)
    silent = (one.F0 + (one.F - one.Fc)).values
    # Rows are scaled: what is drawn is linear in the trace.
    drawn = dashed[0].get_ydata()
    slope, level = np.polyfit(silent, drawn, 1)
    np.testing.assert_allclose(drawn, slope * silent + level, atol=1e-6)
    trace = max(
        (line for line in ax.get_lines() if line not in dashed), key=lambda x: x.get_zorder()
    )
    assert (silent < one.F.values.max()).all() and trace is not None
    assert "F − Fc + F0 (baseline)" in words(ax.figure)
    full = words(movie.s2p.extract(rois, min_neuropil_pixels=50).s2p.plot_traces([1]).figure)
    assert "0.7 · Fneu + F0 (baseline)" in full


def test_the_summary_has_colours_of_any_measure():
    movie, rois, _ = simulate(6, (30, 41), 300, fs=10.0)
    ds = movie.s2p.extract(rois, dff=True, min_neuropil_pixels=50).compute()
    ds = ds.assign(ds.s2p.quality())
    figure = ds.s2p.plot_summary(color="noise_level")
    assert figure.axes[2].get_title(loc="left") == "noise_level"
    assert "noise_level (%/√Hz)" in figure.axes[2].get_xlabel()
    line = next(word for word in words(figure) if word.startswith("Medians:"))
    level = float(ds.noise_level.median())
    assert f"noise level {level:.2g} %/√Hz" in line and "of the pixels free" in line
    check_legible(figure)
    lone = ds.assign(vif=ds.vif.copy(data=[1.0, 2.0, np.inf, 1.0, 1.0, np.nan]))
    assert "2 without a number" in words(lone.s2p.plot_summary(color="vif"))
    plain = ds.drop_vars(["noise_level", "snr_events"]).s2p.plot_summary()
    assert plain.axes[2].get_title(loc="left") == "suite2p SNR"
    with pytest.raises(ValueError, match=r"color='nu'.*ds\.assign\(ds\.s2p\.quality\(\)\)"):
        ds.s2p.plot_summary(color="nu")
