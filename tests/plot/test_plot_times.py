"""Pictures of recordings with gaps, dates and other times: what is where."""

from __future__ import annotations

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.plot.bins import bin_time, join_bins
from xs2p.plot.times import broken, first_frames, stretches, time_axis

GAP = 160.0


def recording(n=400, at=100, lone=False, **attrs):
    """Traces of two ROIs at 10 Hz with a pause, the value of a frame being its number."""
    labels = np.zeros((20, 24), int)
    labels[3:8, 3:9], labels[12:16, 3:9] = 1, 2
    rois = xs2p.rois_from_labels(labels)
    times = np.arange(n) / 10 + np.where(np.arange(n) < at, 0, GAP)
    times[at + 1 :] += 20 if lone else 0
    values = np.stack([np.arange(n), -np.arange(n)]).astype("f4")
    ds = xr.Dataset(
        {"F": (("roi", "time"), values), "spks": (("roi", "time"), np.abs(values))},
        coords={"time": ("time", times, {"units": "s", **attrs})},
        attrs=rois.attrs,
    )
    return ds.assign_coords(dict(rois.variables))


def line_of(ax):
    """The longest line: that of a trace."""
    x, y = max((line.get_data() for line in ax.get_lines()), key=lambda xy: len(xy[0]))
    return np.asarray(x), np.asarray(y)


def check_gap(x, y, start, end):
    """A line is nowhere between two times, which it is at."""
    assert start in x and end in x and not ((x > start) & (x < end)).any()
    edge = int(np.flatnonzero(x == start)[-1])
    assert np.isnan(y[edge + 1 : int(np.flatnonzero(x == end)[0])]).any()


@pytest.mark.parametrize("n", [400, 12_000])
def test_lines_break_at_gaps(n):
    ds = recording(n)
    x, y = line_of(ds.s2p.plot_traces([1]))
    check_gap(x, y, 9.9, 10 + GAP)
    assert np.isfinite(line_of(ds.isel(time=slice(100)).s2p.plot_traces([1]))[1]).all()


def test_a_frame_between_two_gaps_is_seen():
    """As a dot: a line through one point alone is not drawn."""
    x, y = line_of(recording(lone=True).s2p.plot_traces([1]))
    near = np.flatnonzero(np.abs(x - (10 + GAP)) < 0.5)
    assert near.size == 2 and 0 < np.ptp(x[near]) < 0.2 and np.ptp(y[near]) == 0


@pytest.mark.parametrize("n", [400, 5000])
def test_the_map_of_all_rois_shows_each_frame_at_its_time(n):
    """Of bins none reaches over a gap, and nothing is drawn in it."""
    ds = recording(n, at=n // 2 + 7)
    figure = ds.s2p.plot_summary()
    raster, example = figure.axes[3], figure.axes[4]
    image = raster.images[0]
    left, right = image.get_extent()[:2]
    time = ds.time.values
    np.testing.assert_allclose([left, right], [time[0] - 0.05, time[-1] + 0.05])
    assert raster.get_xlim() == pytest.approx(example.get_xlim())
    columns = image.get_array().filled(np.nan)
    middle = left + (np.arange(columns.shape[1]) + 0.5) * (right - left) / columns.shape[1]
    frames = np.interp(middle, time, np.arange(n))
    pause = (middle > time[n // 2 + 6] + 0.1) & (middle < time[n // 2 + 7] - 0.1)
    assert np.isnan(columns[:, pause]).all() and pause.sum() > 100
    seen = np.isfinite(columns[0])
    assert seen[~pause].mean() > 0.99
    # Values grow with the frame's number, in the order of the map's rows either way.
    drawn = columns[0] * np.sign(columns[0, seen][-1] - columns[0, seen][0])
    fit = np.polyfit(frames[seen], drawn[seen], 1)
    off = np.abs(np.polyval(fit, frames[seen]) - drawn[seen]) / fit[0]
    assert off.max() <= 5
    assert "white: no frames" in raster.get_title(loc="left")
    check_gap(*line_of(example), *(example_edges(ds, n)))


def example_edges(ds, n):
    first, _, width = first_frames(ds.time.values, 1000)
    place = int(np.flatnonzero(first == n // 2 + 7)[0])
    last = np.append(first[1:], n) - 1
    time = ds.time.values
    return tuple(((time[first] + time[last]) / 2)[[place - 1, place]].tolist())


def test_bins_end_at_gaps_in_any_chunks():
    ds = recording(5000, at=2507)
    first, runs, width = first_frames(ds.time.values, 1000)
    assert width == 5 and 2507 in first and runs[-1] == 1 and first.size <= 2000
    for F in (ds.F, ds.F.chunk(time=777)):
        low, high, mean = join_bins(np.asarray(bin_time(F, first)), F, first)
        place = int(np.flatnonzero(first == 2507)[0])
        assert (low[0, place - 1], high[0, place - 1], mean[0, place - 1]) == (2505, 2506, 2505.5)
        assert low[0, place] == 2507


def test_gaps_of_all_kinds():
    assert not stretches(np.cumsum(np.tile([1.0, 3.0], 50))).any()  # a plane scanned to and fro
    some = np.delete(np.arange(100) / 10, [20, 50, 51])
    assert stretches(some).max() == 2 and stretches(some, most=1).max() == 1
    assert stretches(np.empty(0)).size == 0 and stretches(np.array([3.0])).tolist() == [0]
    x, y = np.arange(3.0), np.arange(3)
    assert broken(x, y, np.zeros(3, int))[0] is x


def test_the_browser_breaks_its_lines():
    pytest.importorskip("panel")
    pytest.importorskip("bokeh")
    data = recording().s2p.browse(roi=1).lines["F"].data
    check_gap(np.asarray(data["time"]), np.asarray(data["value"]), 9.9, 10 + GAP)


@pytest.mark.parametrize(
    ("times", "attrs", "label"),
    [
        (np.arange(400) / 10, {}, "time (s)"),
        (np.arange(400) * 100, {}, "time (ms)"),
        (np.arange(400), {}, "time (frames)"),
        (np.arange(400) * 0.7, {}, "time (no unit)"),
        (np.arange(400) / 600, {"units": "minutes"}, "time (min)"),
        ((np.arange(400) * 1e8).astype("m8[ns]"), {}, "time (s)"),
        (np.datetime64("2024-01-01T10:00:00", "ns") + (np.arange(400) * 1e8).astype("m8[ns]"), {},
         "time (s from 2024-01-01T10:00:00)"),
    ],
)  # fmt: skip
def test_an_axis_is_called_what_it_is(times, attrs, label):
    ds = recording(400).assign_coords(time=("time", times, attrs)).assign_attrs(fs=10.0)
    assert ds.s2p.plot_traces([1]).get_xlabel() == label
    assert ds.s2p.plot_summary().axes[4].get_xlabel() == label


def test_a_range_of_dates():
    start = np.datetime64("2024-01-01T10:00:00", "ns")
    ds = recording(400).assign_coords(time=start + (np.arange(400) * 1e8).astype("m8[ns]"))
    for ends in ((5, 20), ("2024-01-01T10:00:05", start + np.timedelta64(20, "s"))):
        x, _ = line_of(ds.s2p.plot_traces([1], time=ends))
        assert (x[0], x[-1]) == (5, 20)
    with pytest.raises(ValueError, match=r"time must be \(start, end\).*from 2024"):
        ds.s2p.plot_traces([1], time=("yesterday", None))


def test_dates_of_cftime():
    cftime = pytest.importorskip("cftime")
    times = xr.date_range("2024-01-01", periods=400, freq="s", calendar="noleap", use_cftime=True)
    axis = time_axis(recording(400).assign_coords(time=times))
    assert axis.label == "time (s from 2024-01-01 00:00:00)" and axis.values[7] == 7
    assert axis.clock.at(cftime.DatetimeNoLeap(2024, 1, 1, 0, 0, 9)) == 9


def test_time_that_goes_back_is_not_drawn():
    ds = recording(400)
    joined = ds.isel(time=np.tile(np.arange(400), 2))
    for draw in (joined.s2p.plot_traces, joined.s2p.plot_summary):
        with pytest.raises(ValueError, match=r"goes back at frame 400.*assign_coords"):
            draw()
