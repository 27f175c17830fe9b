"""Frames that do not count and segments in pictures: what is grey, where lines stand and break."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pytest
import xarray as xr
from matplotlib.collections import PolyCollection
from matplotlib.colors import same_color
from pictures import check_legible, words

import xs2p
from xs2p.plot.bins import bin_time, join_bins
from xs2p.plot.marks import BORDER, GREY
from xs2p.plot.times import first_frames, stretches


def recording(n=400, bad=(), border=150, of=None):
    """Traces of two ROIs at 10 Hz: frame numbers, and 1e6 where frames do not count."""
    labels = np.zeros((12, 16), int)
    labels[2:5, 3:6], labels[7:10, 9:13] = 1, 2
    rois = xs2p.rois_from_labels(labels)
    values = np.stack([np.arange(n), 2.0 * np.arange(n)]).astype("f4")
    valid = np.ones((2, n), bool)
    valid[:, list(bad)] = False
    values[~valid] = 1e6
    coords = {
        "time": ("time", np.arange(n) / 10, {"units": "s"}),
        "segment": ("time", np.repeat([0, 1], [border, n - border])),
        "valid": ("time", valid[0]),
    }
    if of is not None:
        valid[1 - of] = True
        coords["valid"] = (("roi", "time"), valid)
    data = {"F": (("roi", "time"), values), "spks": (("roi", "time"), np.abs(values))}
    return xr.Dataset(data, coords, rois.attrs).assign_coords(dict(rois.variables))


def spans(ax):
    """Grey spans: (start, stop, floor, top)."""
    found = []
    for part in ax.collections:
        if isinstance(part, PolyCollection) and len(part.get_paths()):
            if same_color(part.get_facecolor()[0], GREY):
                for path in part.get_paths():
                    (x0, y0), (x1, y1) = path.vertices.min(0), path.vertices.max(0)
                    found.append(tuple(np.round((x0, x1, y0, y1), 6).tolist()))
    return sorted(found)


def borders(ax):
    lines = [line for line in ax.get_lines() if same_color(line.get_color(), BORDER)]
    return [round(float(line.get_xdata()[0]), 6) for line in lines]


def line_of(ax):
    """The longest line: that of a trace."""
    x, y = max((line.get_data() for line in ax.get_lines()), key=lambda xy: len(xy[0]))
    return np.asarray(x), np.asarray(y)


BAD = (0, 20, 21, 22, 399)


@pytest.mark.parametrize("n", [400, 12_000])
def test_traces(n):
    ds = recording(n, BAD, border=150)
    ax = ds.s2p.plot_traces([1])
    expected = [(-0.05, 0.05), (1.95, 2.25), (39.85, 39.95)]
    assert [span[:2] for span in spans(ax)] == expected and spans(ax)[0][2:] == (0, 1)
    assert borders(ax) == [14.95]
    x, y = line_of(ax)
    edge = int(np.flatnonzero(x == 14.9)[-1])
    assert np.isnan(y[edge + 1]) and x[edge + 2] == 15.0
    # The scale is of what counts; what does not is drawn within the row all the same.
    assert 0 < np.nanmin(y) and np.nanmax(y) < 1 and np.ptp(y[np.isfinite(y)]) > 0.5
    assert "not counted" in words(ax.figure)
    check_legible(ax.figure)


def test_only_what_is_in_view_is_marked():
    ds = recording(400, BAD)
    ax = ds.s2p.plot_traces([1], time=(3.0, 10.0))
    assert spans(ax) == [] and borders(ax) == [] and "not counted" not in words(ax.figure)
    assert borders(ds.s2p.plot_traces([1], time=(10, 20))) == [14.95]
    plain = ds.drop_vars(["valid", "segment"]).s2p.plot_traces([1])
    assert spans(plain) == [] and borders(plain) == []


def test_frames_that_do_not_count_for_one_roi():
    ax = recording(400, (20, 21), of=1).s2p.plot_traces([1, 2])
    assert spans(ax) == [(1.95, 2.15, 0.0, 1.0)]  # the lower row


@pytest.mark.parametrize("n", [400, 12_000])
def test_summary(n):
    ds = recording(n, range(100, 160), border=n // 2 + 7).assign_coords(snr=("roi", [0.9, 0.4]))
    figure = ds.s2p.plot_summary(n_traces=2)
    raster, example = figure.axes[3:5]
    assert [round(s[0], 3) for s in spans(example)] == [9.95] * 2
    for ax in (raster, example):
        assert borders(ax) == [round((n // 2 + 7) / 10 - 0.05, 6)]
    image = np.ma.filled(raster.get_images()[0].get_array(), np.nan)
    width = n / 10 / image.shape[1]
    middle = (np.arange(image.shape[1]) + 0.5) * width
    inside = (middle > 10 + width) & (middle < 15.9 - width)
    assert inside.any() and np.isnan(image[:, inside]).all()
    outside = (middle < 9.9 - width) | (middle > 16 + width)
    assert np.isfinite(image[:, outside]).all() and np.abs(image[:, outside]).max() < 5
    assert any("tinted: frames that do not count" in word for word in words(figure))
    assert not any("no frames" in word for word in words(figure))
    check_legible(figure)


@pytest.mark.parametrize("dims", [("time",), ("roi", "time")])
def test_bins_pass_over_frames_that_do_not_count(dims):
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3, 50))
    values[0, 7] = np.nan
    valid = rng.random((3, 50)) > 0.3
    valid[:, 20:25] = False
    valid = valid[0] if dims == ("time",) else valid
    array = xr.DataArray(values, dims=("roi", "time"))
    for some in (array, array.chunk(roi=2, time=7)):
        low, high, mean = join_bins(np.asarray(bin_time(some, 5, valid)), some, 5)
        kept = np.where(valid, values, np.nan).reshape(3, 10, 5)
        for k in range(10):
            for roi in range(3):
                own = kept[roi, k][np.isfinite(kept[roi, k])]
                found = [low[roi, k], high[roi, k], mean[roi, k]]
                wanted = [own.min(), own.max(), own.mean()] if own.size else [np.nan] * 3
                np.testing.assert_allclose(found, wanted)


def test_stretches_end_with_segments():
    times = np.arange(8) / 10
    assert stretches(times, starts=(0, 3)).tolist() == [0, 0, 0, 1, 1, 1, 1, 1]
    first, runs, width = first_frames(np.arange(100.0), 10, (0, 33))
    assert 33 in first and width == 10 and runs[list(first).index(33)] == 1
    # Of more segments than there may be bins, none is kept apart.
    many = tuple(range(0, 100, 2))
    assert first_frames(np.arange(100.0), 10, many)[0].size <= 20


def test_many_spans_are_few_shapes():
    ds = recording(12_000, range(0, 12_000, 2))
    assert 0 < len(spans(ds.s2p.plot_traces([1]))) <= 2000


def test_the_browser():
    pytest.importorskip("panel")
    pytest.importorskip("bokeh")
    from bokeh.models import Span

    browser = recording(400, (20, 21), of=1).s2p.browse(roi=2)
    np.testing.assert_allclose(
        [browser._over_time.grey.data["x0"], browser._over_time.grey.data["x1"]], [[1.95], [2.15]]
    )
    places = [part.location for part in browser.traces.center if isinstance(part, Span)]
    np.testing.assert_allclose(places, [14.95])
    time, value = (np.asarray(browser.lines["F"].data[key]) for key in ("time", "value"))
    assert np.isnan(value[int(np.flatnonzero(time == 14.9)[-1]) + 1])
    browser.select(1)
    assert len(browser._over_time.grey.data["x0"]) == 0


def test_segments_are_named_where_there_is_room():
    ds = recording(border=300)
    ds.segment.attrs["names"] = ["rest", "a long session"]
    shown = words(ds.s2p.plot_traces([1, 2]).figure)
    assert "rest" in shown and "a long session" in shown
    narrow = words(ds.s2p.plot_traces([1, 2], time=(28.0, 30.2)).figure)
    assert "rest" in narrow and "a long session" not in narrow
    within = words(ds.s2p.plot_traces([1, 2], time=(0, 20)).figure)
    assert "rest" not in within  # no border is in view
    summary = ds.s2p.plot_summary()
    assert words(summary).count("rest") == 2  # over the map, and over the traces
    check_legible(summary)
    many = ds.assign_coords(segment=("time", np.arange(400) // 4))
    assert "7" not in words(many.s2p.plot_traces([1, 2]).figure)
