"""Pictures: they render, say their units, and nothing lies over anything else."""

import itertools
import re
import sys

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p import plot
from xs2p.cli.demo import choose_rois, plot_demo
from xs2p.plot.drawing import round_number


@pytest.fixture(scope="module")
def sample():
    """Mean image, ROIs, masks and traces of the sample recording."""
    movie, rois = xs2p.sample_movie(None), xs2p.sample_rois()
    return movie.mean("time"), rois, xs2p.build_masks(rois), movie.s2p.extract(rois, tau=1.0)


@pytest.fixture
def ax():
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure()
    FigureCanvasAgg(figure)
    return figure.add_subplot()


def some(sample, positions):
    """The recording with some of its ROIs only."""
    image, rois, _, _ = sample
    rois = xs2p.recompute_overlap(rois.isel(roi=positions))
    ds = xs2p.sample_movie(None).s2p.extract(rois, tau=1.0)
    return image, rois, xs2p.build_masks(rois), ds


def texts(figure):
    """Every piece of text that is shown, with its box in pixels."""
    from matplotlib.text import Text

    figure.canvas.draw()
    shown = [t for t in figure.findobj(Text) if t.get_text().strip() and t.get_visible()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown]
    return [(text, box) for text, box in boxes if box.width > 0]


def check_layout(figure):
    """All text is inside the figure, apart from other text, and beside the traces and images."""
    page = figure.bbox
    found = texts(figure)
    for text, box in found:
        assert page.x0 <= box.x0 and box.x1 <= page.x1, text
        assert page.y0 <= box.y0 and box.y1 <= page.y1, text
    for (one, a), (other, b) in itertools.combinations(found, 2):
        assert not a.overlaps(b), f"{one!r} lies over {other!r}"
    for ax in figure.axes[2:]:
        for line in ax.get_lines()[:2]:
            points = line.get_transform().transform(line.get_xydata())
            for text, box in found:
                inside = (points >= box.min).all(1) & (points <= box.max).all(1)
                assert not inside.any(), f"{text!r} lies over a trace"
    box = figure.get_tightbbox().transformed(figure.dpi_scale_trans)
    assert page.x0 <= box.x0 and box.x1 <= page.x1
    assert page.y0 <= box.y0 and box.y1 <= page.y1


def test_demo_figure(sample, tmp_path):
    figure = plot_demo(*sample, path=tmp_path / "demo.png")
    assert (tmp_path / "demo.png").stat().st_size < 300_000
    check_layout(figure)
    view, masks, traces = figure.axes
    assert view.images and view.collections and masks.images
    lines = [line for line in traces.get_lines() if len(line.get_xdata()) == 500]
    assert len(lines) == 3 * 5  # neuropil, fluorescence and baseline
    assert all(np.isfinite(line.get_ydata()).all() for line in lines)
    assert len(traces.collections) == 5, "no spikes"
    words = [text for text, _ in texts(figure)]
    assert "Mean image and 98 ROIs" in words
    assert "time (s)" in words
    assert sum(word.endswith(" a.u.") for word in words) == 5
    assert sum(bool(re.fullmatch(r"\d+ pixels", word)) for word in words) == 2


def test_demo_figure_changes_nothing_around_it(sample):
    import matplotlib

    before = dict(matplotlib.rcParams), sys.modules.get("matplotlib.pyplot")
    copies = [part.copy(deep=True) for part in (sample[0], sample[1], sample[3])]
    plot_demo(*sample)
    assert (dict(matplotlib.rcParams), sys.modules.get("matplotlib.pyplot")) == before
    for part, copy in zip((sample[0], sample[1], sample[3]), copies, strict=True):
        xr.testing.assert_identical(part, copy)


@pytest.mark.parametrize("positions", [[], [4], [0, 4], [97, 4, 5, 50]], ids=len)
def test_demo_figure_of_few_rois(sample, positions):
    figure = plot_demo(*some(sample, positions))
    check_layout(figure)
    assert sum(text.startswith("ROI ") for text, _ in texts(figure)) == len(positions)
    if not positions:
        assert {"no masks to show", "no traces to show"} <= {text for text, _ in texts(figure)}


@pytest.mark.filterwarnings("ignore:.* lack a mask")
def test_demo_figure_with_rois_without_a_trace(sample):
    stat = sample[1].s2p.to_stat()
    stat = [{k: s[k] for k in ("ypix", "xpix", "lam")} for s in (stat[4], stat[5], stat[5])]
    rois = xs2p.rois_from_stat(stat, (64, 64))
    masks = xs2p.build_masks(rois)
    ds = xs2p.sample_movie(None).s2p.extract(rois, tau=1.0)
    assert ds.status.values.tolist() == ["ok", "no_cell_pixels", "no_cell_pixels"]
    assert choose_rois(ds) == [0]
    check_layout(plot_demo(sample[0], rois, masks, ds))
    nobody = ds.isel(roi=[1, 2])
    assert choose_rois(nobody) == []
    check_layout(plot_demo(sample[0], rois.isel(roi=[1, 2]), masks, nobody))


def test_demo_figure_without_neuropil_or_spikes(sample):
    rois = sample[1]
    ds = xs2p.sample_movie().s2p.extract(rois, neuropil_extract=False, baseline="none")
    masks = xs2p.build_masks(rois, neuropil_extract=False)
    figure = plot_demo(sample[0], rois, masks, ds)
    check_layout(figure)
    words = " ".join(text for text, _ in texts(figure))
    assert not any(word in words for word in ("spikes", "baseline", "Fneu", "neuropil,"))


def test_demo_figure_of_a_wide_frame_with_many_rois():
    labels = np.zeros((200, 600), int)
    for k in range(1200):
        y, x = 2 + 9 * (k // 60), 4 + 9 * (k % 60)
        labels[y : y + 5, x : x + 5] = 1000 + k
    rng = np.random.default_rng(0)
    movie = xr.DataArray(
        rng.integers(0, 4000, (40, 200, 600)).astype("i2"),
        dims=("time", "y", "x"),
        attrs={"units": "photons"},
    )
    rois = xs2p.rois_from_labels(labels)
    ds = movie.s2p.extract(rois, fs=2.0, tau=1.0)
    figure = plot_demo(movie.mean("time"), rois, xs2p.build_masks(rois), ds)
    check_layout(figure)
    assert sum(text.endswith("\nphotons") for text, _ in texts(figure)) == 5


def test_chosen_rois_are_good_and_apart(sample):
    ds = sample[3]
    chosen = choose_rois(ds, 5)
    quality = ds.Fc.s2p.snr().sel(roi=chosen)
    assert (np.diff(quality) <= 0).all()
    assert (quality > ds.Fc.s2p.snr().median()).all()
    centres = np.stack([ds.med_y.sel(roi=chosen), ds.med_x.sel(roi=chosen)], 1)
    for a, b in itertools.combinations(centres, 2):
        assert np.hypot(*(a - b)) >= 0.15 * 64
    assert len(choose_rois(ds, 98)) == 98
    with pytest.raises(ValueError, match="isel"):
        choose_rois(ds.expand_dims(channel=2))


def test_round_numbers():
    numbers = [round_number(x) for x in (0.3, 1, 4.9, 5, 99, 100, 1e-4)]
    assert numbers == pytest.approx([0.2, 1, 2, 5, 50, 100, 1e-4])


def test_highlighted_rois_have_the_colours_of_their_traces(sample, ax):
    from matplotlib.colors import to_hex

    chosen = [4, 0, 50]
    plot.plot_rois(sample[1], ax, highlight=chosen)
    (outlines,) = ax.collections
    assert [to_hex(c) for c in outlines.get_edgecolors()[-3:]] == [
        color.lower() for color in plot.COLORS[:3]
    ]
    assert len(set(map(tuple, outlines.get_edgecolors()[:-3]))) == 1
    assert (np.asarray(outlines.get_linewidths())[-3:] > outlines.get_linewidths()[0]).all()
    # The last ones are those that were asked for, in their order.
    for path, label in zip(outlines.get_paths()[-3:], chosen, strict=True):
        own = sample[1].ypix.values[sample[1].pixel_roi.values == label]
        assert path.vertices[:, 1].min() == own.min() - 0.5
    assert {text.get_text() for text in ax.texts} >= {"4", "0", "50"}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda ax, s: plot.plot_rois(s[1], ax, highlight=[999]), "no roi 999"),
        (lambda ax, s: plot.plot_rois(s[1], ax, highlight=[4], color="red"), "highlight=.4. ch"),
        (lambda ax, s: plot.plot_rois(s[1], ax, background=np.zeros((3, 4))), r"\(3, 4\)"),
        (lambda ax, s: plot.plot_rois(s[0].to_dataset(name="a"), ax), "ROI set"),
        (lambda ax, s: plot.plot_roi(s[1], 999, ax, masks=s[2]), "no roi 999"),
        (lambda ax, s: plot.plot_traces(s[3], 999, ax), "no roi 999"),
        (lambda ax, s: plot.plot_traces(s[3].expand_dims(channel=2), 4, ax), "isel"),
    ],
)
def test_what_is_not_there_is_named(sample, ax, call, message):
    with pytest.raises(ValueError, match=message):
        call(ax, sample)
