"""dF/F and what speaks against it in pictures: said in words, and no ROI ruins the colours."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pytest
import xarray as xr
from counting import CountingFrames
from flagged import with_dff
from matplotlib import pyplot
from pictures import check_legible, words

import xs2p
from xs2p.plot import plot_traces
from xs2p.plot.raster import shown_as
from xs2p.testing import raise_if_dask_computes, simulate

WORDS = ["F0 not positive", "F0 below noise", "neuropil above 90 percent", "dFF above 10"]


@pytest.fixture(scope="module")
def plain():
    return xs2p.sample_movie(None).s2p.extract(xs2p.sample_rois(), tau=1.0)


@pytest.fixture(scope="module")
def ds(plain):
    """ROI 1 has the flag 1, ROI 2 the flag 2, … and ROI 15 all; none beyond."""
    return with_dff(plain, np.where(np.arange(98) < 16, np.arange(98), 0))


@pytest.fixture
def counted():
    """Lazy traces of a movie that counts how often each frame is read, with lazy flags."""
    movie, rois, _ = simulate(12, (40, 60), 300, seed=1)
    frames = CountingFrames(movie.values)
    lazy = movie.copy(data=frames.to_dask((50, 40, 60)))
    ds = lazy.s2p.extract_traces(xs2p.build_masks(rois)).assign_coords(rois.variables)
    ds = ds.assign(Fc=ds.F - 0.7 * ds.Fneu, F0=ds.F * 0 + 1000).assign_attrs(rois.attrs)
    ds = with_dff(ds, [0] * 12)
    flags = (ds.noise > 0).astype("u1") * np.uint8(3)
    ds["dff_flag"] = flags.assign_attrs(ds.dff_flag.attrs)
    frames.reads[:] = 0
    return frames, ds


def said(figure):
    return [word for word in words(figure) if any(flag in word for flag in WORDS)]


def lines_of(ax):
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def test_traces_say_their_flags(ds, plain):
    ax = ds.s2p.plot_traces([4, 5, 15, 40])
    check_legible(ax.figure)
    assert said(ax.figure) == [WORDS[2], f"{WORDS[0]}, {WORDS[2]}", ", ".join(WORDS)]
    ax.figure.canvas.draw()
    to_axes = ax.transData.inverted()
    for text in ax.texts:
        if text.get_text() in said(ax.figure):
            box = text.get_window_extent().transformed(to_axes)
            row = int(box.y1)
            assert box.y0 > row + 0.7 and box.x0 > -1e-9
            for line in lines_of(ax):  # no trace is written over
                x, y = line.get_data()
                own = y[(y > row) & (y < row + 1) & (x <= box.x1)]
                assert not (own > box.y0).any()
    for alone in (ds.isel(roi=slice(20, 40)), plain):
        ax = alone.s2p.plot_traces([20, 21])
        assert said(ax.figure) == []
        tops = [line.get_ydata().max() % 1 for line in lines_of(ax)[1::3]]
        assert tops == pytest.approx([0.94, 0.94])


def test_the_scale_stays_the_same(ds):
    """Also where words take some of the room of one row."""
    ax = ds.s2p.plot_traces([4, 40, 41], same_scale=True, corrected=True)
    slopes = []
    for line, roi in zip(lines_of(ax)[::2], (4, 40, 41), strict=True):
        slopes.append(np.polyfit(ds.Fc.sel(roi=roi), line.get_ydata(), 1)[0])
    np.testing.assert_allclose(slopes, slopes[0], rtol=1e-4)


def test_many_rows_have_no_room_for_words(ds):
    figure, ax = pyplot.subplots(figsize=(8, 3))
    ds.s2p.plot_traces(range(30), ax)
    assert said(figure) == []
    assert len(said(ds.s2p.plot_traces(range(30)).figure)) == 15


def test_words_of_status_and_of_flags_stand_together(ds):
    status = np.array(["ok"] * 98, object)
    status[[3, 4, 15]] = "zero_trace"
    some = ds.copy(deep=True).assign_coords(status=("roi", status))
    some["F"][3] = 0.0
    ax = some.s2p.plot_traces([15, 4, 3, 2])
    check_legible(ax.figure)
    assert f"no trace: zero_trace, {', '.join(WORDS)}" in words(ax.figure)
    assert "no trace: zero_trace" in words(ax.figure)  # of nothing, flags say nothing
    assert WORDS[1] in words(ax.figure)


def test_flags_that_are_to_be_made_are_not_waited_for(counted, tmp_path):
    frames, ds = counted
    ax = ds.s2p.plot_traces([3, 4], time=(2, 3), neuropil_coefficient=0.7)
    assert frames.reads[50:100].tolist() == [1] * 50 and frames.reads.sum() == 50
    assert said(ax.figure) == []
    ds.drop_encoding().to_zarr(tmp_path / "ds.zarr", consolidated=False)
    for chunks in ({}, None):
        stored = xr.open_zarr(tmp_path / "ds.zarr", chunks=chunks, consolidated=False)
        ax = stored.s2p.plot_traces([3, 4], time=(2, 3), neuropil_coefficient=0.7)
        assert said(ax.figure) == [f"{WORDS[0]}, {WORDS[1]}"] * 2
        title = stored.s2p.plot_roi(3).figure
        assert any(word.startswith("noise ") for word in words(title))


def test_the_summary_counts_flags(ds, plain):
    figure = ds.s2p.plot_summary()
    check_legible(figure)
    told = ", ".join(f"8 × {word}" for word in WORDS)
    assert f"dF/F flags: {told}; 83 of 98 ROIs have none" in words(figure)
    none = ds.assign(dff_flag=("roi", np.zeros(98, "u1"), ds.dff_flag.attrs))
    assert "dF/F: none of 98 ROIs has a flag" in words(none.s2p.plot_summary())
    of_planes = ds.assign_coords(plane=("roi", np.arange(98) % 2))
    check_legible(of_planes.s2p.plot_summary())
    assert not [word for word in words(plain.s2p.plot_summary()) if "flag" in word]
    best = int(plain.roi[np.argmax(plain.Fc.s2p.snr().values)])
    bits = np.where(np.arange(98) == best, 9, 0).astype("u1")
    some = ds.assign(dff_flag=("roi", bits, ds.dff_flag.attrs)).s2p.plot_summary()
    assert f"{WORDS[0]}, {WORDS[3]}" in words(some)
    told = f"dF/F flags: 1 × {WORDS[0]}, 1 × {WORDS[3]}; 97 of 98 ROIs have none"
    assert told in words(some)


def raster_of(figure):
    ax = next(ax for ax in figure.axes if "of all ROIs" in ax.get_title(loc="left"))
    image = ax.images[0]
    return np.ma.filled(image.get_array(), np.nan), image.get_clim(), ax.get_title(loc="left")


def test_the_map_is_of_the_variable(ds, plain):
    ds = ds.drop_vars("dff_flag")
    other = ds.assign(dFF=ds.dFF + 3)
    values, (low, high), title = raster_of(other.s2p.plot_summary(raster="dFF"))
    order = np.argsort(-ds.Fc.s2p.snr().values, kind="stable")
    np.testing.assert_allclose(values, np.clip(other.dFF.values[order], low, high), rtol=1e-5)
    assert title == "dFF of all ROIs" and low > 2
    # Without the variable it is made of Fc and F0, as ever.
    values, ends, title = raster_of(plain.s2p.plot_summary(raster="dFF"))
    base = plain.F0.values[order]
    expected = (plain.Fc.values[order] - base) / np.where(base > 0, base, np.nan)
    np.testing.assert_allclose(values, expected, rtol=1e-4)
    np.testing.assert_allclose(ends, np.nanpercentile(expected, (5, 99)), rtol=1e-4)
    assert title.startswith("Fc of all ROIs, dF/F")
    no_baseline = ds.drop_vars("F0").s2p.plot_summary(raster="dFF")
    assert raster_of(no_baseline)[2] == "dFF of all ROIs"
    with pytest.raises(ValueError, match="needs a baseline F0, or dFF"):
        plain.drop_vars("F0").s2p.plot_summary(raster="dFF")


def ends(values, doubtful=None):
    values = np.asarray(values, np.float64)
    shown = shown_as({"F": (values,) * 3, "dFF": (values,) * 3}, "dFF", doubtful)
    assert shown.values.shape == values.shape and not np.isinf(shown.values).any()
    return shown.ends


@pytest.mark.parametrize("factor", [1e3, -1e6, np.inf, np.nan])
@pytest.mark.parametrize(("n", "wild"), [(40, 1), (40, 9), (5, 1), (2, 1)])
def test_wild_rois_do_not_ruin_the_colours(n, wild, factor):
    values = np.abs(np.random.default_rng(0).normal(0, 1, (n, 300)))
    calm = ends(values[wild:])
    values[:wild] *= factor
    assert ends(values) == pytest.approx(calm, rel=1e-9)


def test_flags_say_which_rois_the_colours_are_of():
    values = np.abs(np.random.default_rng(0).normal(0, 1, (10, 300)))
    values[:7] *= 100  # most of them: nothing but the flags tells that these are the wild ones
    doubtful = np.arange(10) < 7
    assert ends(values, doubtful) == pytest.approx(ends(values[7:]))
    assert ends(values)[1] > 50
    assert ends(values, np.ones(10, bool)) == ends(values)  # of nothing but doubtful ones, all


def test_colours_of_nothing():
    assert ends(np.full((3, 5), np.nan)) == (0.0, 1.0)
    low, high = ends(np.zeros((3, 5)))
    assert low == 0 and high > 0
    one = np.zeros((3, 5))
    one[1] = [0, 1, 2, 3, 4]
    assert ends(one)[1] > 3


def test_the_summary_reads_everything_once(counted):
    frames, ds = counted
    with raise_if_dask_computes(max_computes=1):
        figure = ds.s2p.plot_summary(raster="dFF")
    assert frames.reads.tolist() == [1] * 300
    assert f"dF/F flags: 12 × {WORDS[0]}, 12 × {WORDS[1]}; 0 of 12 ROIs have none" in words(figure)


def test_one_roi_says_its_noise_and_flags(ds, plain):
    ax = ds.s2p.plot_roi(15)
    check_legible(ax.figure)
    (text,) = [word for word in words(ax.figure) if word.startswith("noise")]
    expected = f"noise {float(ds.noise[15]):.3g} a.u., {', '.join(WORDS)}"
    assert text.replace("\n", " ") == expected
    assert ax.get_title(loc="left") == "ROI 15"
    ax = ds.s2p.plot_roi(40)
    assert f"noise {float(ds.noise[40]):.3g} a.u." in words(ax.figure)
    assert not [w for w in words(plain.s2p.plot_roi(40).figure) if "noise" in w]
    unknown = ds.copy(deep=True)
    unknown["noise"][15] = np.nan
    assert ", ".join(WORDS) in [
        w.replace("\n", " ") for w in words(unknown.s2p.plot_roi(15).figure)
    ]


DEMIXED = {"flag_masks": [1, 2], "flag_meanings": "vif_above_5 collinear"}


def test_flags_of_demixing_are_said_beside_those_of_dff(ds, plain):
    status = np.array(["ok"] * 98, object)
    status[3] = "collinear"
    more = {
        "status": ("roi", status),
        "vif": ("roi", np.where(np.arange(98) == 3, np.inf, 7.25)),
        "demix_flag": ("roi", np.isin(np.arange(98), [2, 3]) + 2 * (np.arange(98) == 3), DEMIXED),
    }
    both = ds.assign_coords(more)
    both["F"] = both.F.where(both.status == "ok")
    ax = both.s2p.plot_traces([2, 3, 4])
    assert said(ax.figure) == [f"vif above 5, {WORDS[1]}", WORDS[2]]
    assert "no trace: collinear" in words(ax.figure)
    for roi, told in ((2, f"vif 7.25, vif above 5, {WORDS[1]}"), (3, "vif inf, vif above 5, coll")):
        ax = both.s2p.plot_roi(roi)
        assert any(told in word for word in words(ax.figure))
    figure = both.s2p.plot_summary()
    check_legible(figure)
    counts = "Demixing flags: 2 × vif above 5, 1 × collinear; 96 of 98 ROIs have none"
    assert any(counts in word for word in words(figure))
    alone = plain.assign_coords(more)
    assert any(counts in word for word in words(alone.s2p.plot_summary()))
    ax = xs2p.plot.plot_rois(both, color="demix_flag")
    assert {"vif above 5 (1)", "no flag (96)"} <= set(words(ax.figure))


def test_maps_are_coloured_by_flags_in_words(ds):
    ax = ds.s2p.plot(color="dff_flag")
    legend = [text.get_text().replace("\n", " ") for text in ax.get_legend().get_texts()]
    assert legend[0] == "no flag (83)" and legend[-1].endswith("others (10)")
    assert "dff_flag" in ax.get_legend().get_title().get_text()
    few = ds.isel(roi=[1, 2, 3, 40])
    legend = [
        t.get_text().replace("\n", " ")
        for t in few.s2p.plot(color="dff_flag").get_legend().get_texts()
    ]
    assert set(legend) == {f"{w} (1)" for w in (*WORDS[:2], ", ".join(WORDS[:2]), "no flag")}


def test_a_browser_says_flags(ds, counted):
    pytest.importorskip("panel")
    browser = ds.s2p.browse(roi=3, variables=["dFF"])
    title = f"ROI 3: {WORDS[0]}, {WORDS[1]}"
    assert browser.traces.title.text == title
    assert browser.traces.yaxis.axis_label == "dF/F"
    assert f"noise {float(ds.noise[3]):.3g} a.u." in browser._about.object
    browser.select(40)
    assert browser.traces.title.text == "ROI 40"
    assert ds.s2p.browse(roi=3).traces.yaxis.axis_label == "fluorescence (a.u.)"
    some = ds.copy(deep=True)
    some = some.assign_coords(status=("roi", np.where(np.arange(98) == 3, "no_cell_pixels", "ok")))
    some["Fc"][3] = some["F0"][3] = some["spks"][3] = np.nan
    browser = some.s2p.browse(roi=3)
    assert browser.traces.title.text == f"ROI 3: no trace: no_cell_pixels, {WORDS[0]}, {WORDS[1]}"

    frames, lazy = counted
    browser = lazy.s2p.browse(roi=3)
    frames.reads[:] = 0
    browser.show_range(0, 1)
    assert browser.traces.title.text == "ROI 3"
    assert frames.reads.tolist() == [1] * 50 + [0] * 250  # of what is in view, and not for flags


def test_a_few_rows_of_a_figure_of_ones_own(ds):
    """Words are there in small figures too, and the picture is not changed around them."""
    figure, axes = pyplot.subplots(2, figsize=(6, 4))
    plot_traces(ds, [1, 2], axes[0])
    assert said(figure) == WORDS[:2] and not axes[1].texts
