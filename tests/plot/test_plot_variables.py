"""What is drawn of traces when somebody chooses: variables, segments, stimuli, saturation."""

import matplotlib as mpl

mpl.use("Agg")
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.colors import same_color, to_hex
from pictures import check_legible, words

import xs2p
from xs2p.plot.rows import RED
from xs2p.plot.stimuli import SHADES


def traces(n=300, **more):
    """Traces of 12 ROIs at 10 Hz: two sessions, 20 s apart."""
    labels = np.zeros((20, 40), int)
    for k in range(12):
        labels[2 + 9 * (k // 6) : 6 + 9 * (k // 6), 2 + 6 * (k % 6) : 5 + 6 * (k % 6)] = k + 1
    rois = xs2p.rois_from_labels(labels)
    F = np.random.default_rng(0).normal(100, 5, (12, n)).astype("f4")
    time = np.arange(n) / 10 + 20 * (np.arange(n) >= n // 2)
    coords = {
        "time": ("time", time, {"units": "s"}),
        "segment": ("time", np.repeat([0, 1], [n // 2, n - n // 2]), {"names": ["rest", "touch"]}),
        **more,
    }
    data = {
        "F": (("roi", "time"), F, {"units": "1"}),
        "Fc": (("roi", "time"), F - 40, {"units": "1"}),
        "F0": (("roi", "time"), np.full_like(F, 55), {"units": "1"}),
        "dFF": (("roi", "time"), (F - 95) / 55, {"units": "1"}),
        "spks": (("roi", "time"), np.clip(F - 105, 0, None), {"units": "1"}),
    }
    ds = xr.Dataset(data, coords, rois.attrs).assign_coords(dict(rois.variables))
    return ds.assign_coords(snr=("roi", np.linspace(1, 0, 12)))


def lines(ax):
    """Lines of traces, not the bars of scales or borders."""
    return [line for line in ax.get_lines() if len(line.get_xdata()) > 2]


def test_variables_of_one_unit_share_a_row():
    ds = traces()
    ax = ds.s2p.plot_traces([3, 5], variables=["dFF", "Fc", "F0", "spks"])
    rows = [text for text in words(ax.figure) if text.startswith("ROI")]
    assert rows == ["ROI 3\nFc, F0", "ROI 3\ndFF", "ROI 5\nFc, F0", "ROI 5\ndFF"] or set(rows) == {
        *("ROI 3\ndFF", "ROI 3\nFc, F0", "ROI 5\ndFF", "ROI 5\nFc, F0")
    }
    drawn = lines(ax)
    assert len(drawn) == 6
    for line, name in zip(drawn, ["dFF", "Fc", "F0"] * 2, strict=True):
        x, y = line.get_data()
        roi = 3 if y[0] > 2 else 5
        found = y[np.isfinite(y)]
        slope, offset = np.polyfit(ds[name].sel(roi=roi), found, 1) if name != "F0" else (0, 55)
        if name != "F0":
            np.testing.assert_allclose(slope * ds[name].sel(roi=roi) + offset, found, atol=1e-4)
    # Both rows of an ROI have its colour.
    assert same_color(drawn[0].get_color(), drawn[1].get_color())
    assert not same_color(drawn[0].get_color(), drawn[3].get_color())
    assert sum(isinstance(c, LineCollection) for c in ax.collections) == 2  # spikes once an ROI
    assert {"dFF, Fc", "F0 (baseline)"} <= set(words(ax.figure))
    check_legible(ax.figure)
    alone = ds.s2p.plot_traces([3], variables=["spks"])
    np.testing.assert_allclose(np.ptp(lines(alone)[0].get_ydata()[:150]) > 0, True)


def test_ten_rois_have_ten_colours():
    ax = traces().s2p.plot_traces(list(range(1, 11)), variables=["dFF"])
    assert len({to_hex(line.get_color()) for line in lines(ax)}) == 10


def test_segments_are_chosen_by_name_or_label():
    ds = traces()
    for some in ("touch", 1, ["touch"]):
        x = lines(ds.s2p.plot_traces([3], segments=some))[0].get_xdata()
        np.testing.assert_allclose(x, ds.time[150:])
    both = lines(ds.s2p.plot_traces([3], segments=["touch", "rest"]))[0].get_xdata()
    assert np.isnan(both).sum() == 1 and len(both) == 301
    again = ds.assign_coords(time=("time", np.arange(300) % 150 / 10, {"units": "s"}))
    x = lines(again.s2p.plot_traces([3], segments="touch"))[0].get_xdata()
    np.testing.assert_allclose(x, np.arange(150) / 10)  # time that begins anew in each
    with pytest.raises(ValueError, match="no segment 'run'; there are 'rest', 'touch'"):
        ds.s2p.plot_traces([3], segments="run")
    with pytest.raises(ValueError, match="needs a coordinate segment"):
        ds.drop_vars("segment").s2p.plot_traces([3], segments="run")


def test_a_segment_stands_where_it_is_in_the_recording():
    """Of traces without times too, and of dates, that are counted from the first of all."""
    ds = traces().drop_vars("time").assign_attrs(fs=7.0)
    ax = ds.s2p.plot_traces([3], segments="touch")
    x, y = lines(ax)[0].get_data()
    np.testing.assert_allclose(x, np.arange(150, 300) / 7)
    some = ds.s2p.plot_traces([3], segments="touch", time=(25, 30))
    x, y = lines(some)[0].get_data()
    np.testing.assert_allclose(x, np.arange(175, 211) / 7)
    assert np.corrcoef(y, ds.F[2, 175:211])[0, 1] > 0.9999
    with pytest.raises(ValueError, match=r"no frames.*goes from 21.4286 to 42.7143"):
        ds.s2p.plot_traces([3], segments="touch", time=(0, 10))
    dated = in_unit(traces(), "date")
    ax = dated.s2p.plot_traces([3], segments="touch")
    assert ax.get_xlabel() == "time (s from 2024-01-01T10:00:00)"
    np.testing.assert_allclose(lines(ax)[0].get_xdata(), np.arange(150, 300) / 10)


def test_the_legend_names_every_line():
    ds = traces()
    for name in ("x", "y"):
        ds[name] = ds.F.assign_attrs(units="mV")
    ds["z"] = ds.F
    ax = ds.s2p.plot_traces([3], variables=["F", "Fc", "z", "x", "y"])
    told = [text.get_text() for text in ax.get_legend().get_texts()]
    assert told == ["F, x", "Fc, y", "z"]


def shaded(ax, number=0):
    return [
        (round(p.vertices[:, 0].min(), 6), round(p.vertices[:, 0].max(), 6))
        for c in ax.collections
        if isinstance(c, PolyCollection)
        and same_color(to_hex(c.get_facecolor()[0]), SHADES[number])
        for p in c.get_paths()
    ]


@pytest.mark.parametrize(
    "events",
    [
        [[2.0, 3.0], [12.5, 21.0], [80, 90]],
        {"tone": np.array([[2.0, 3.0], [12.5, 21.0]])},
        pd.DataFrame({"start_time": [2.0, 12.5], "stop_time": [3.0, 21.0], "side": ["l", "r"]}),
        pd.DataFrame({"onset": [2.0, 12.5], "duration": [1.0, 8.5]}),
        pd.DataFrame({"start": [2.0, 12.5], "end": [3.0, 21.0]}),
    ],
)
def test_stimuli_are_spans(events):
    ax = traces().s2p.plot_traces([3, 5], events=events)
    assert shaded(ax) == [(2.0, 3.0), (12.5, 21.0)]  # what is out of view is left out
    name = next(iter(events)) if isinstance(events, dict) else "events"
    assert name in words(ax.figure)
    check_legible(ax.figure)
    cut = traces().s2p.plot_traces([3], events=events, time=(0, 14))
    assert shaded(cut) == [(2.0, 3.0), (12.5, 14.0)]


def in_unit(ds, unit, fs=10.0):
    """The same traces, whose frames follow one another, with time in another unit."""
    frames = np.arange(ds.sizes["time"])
    if unit == "date":
        time = np.datetime64("2024-01-01T10:00:00", "ns") + (frames * 1e9 / fs).astype("m8[ns]")
        return ds.assign_coords(time=time)
    if unit is None:
        return ds.drop_vars("time")
    per_frame = {"frames": 1.0, "ms": 1000 / fs, "min": 1 / (60 * fs), "s": 1 / fs}[unit]
    return ds.assign_coords(time=("time", frames * per_frame, {"units": unit}))


UNITS = {"frames": 10.0, "ms": 1000.0, "min": 1 / 60, "s": 1.0, "date": 1.0, None: 1.0}


@pytest.mark.parametrize("segments", [None, 1])
@pytest.mark.parametrize(("unit", "per_second"), UNITS.items())
def test_events_that_were_found_lie_at_their_frames(unit, per_second, segments):
    ds = in_unit(traces(), unit).assign_attrs(fs=10.0)
    ds["spks"] = ds.spks * 0
    ds.spks[2, [50, 51, 52, 200, 201, 202]] = 4.0
    found = xs2p.events(ds.spks, fs=10.0, threshold=0)
    np.testing.assert_allclose(found.onset, [5.0, 20.0])
    ax = ds.s2p.plot_traces([3], events=found, segments=segments)
    expected = [(t * per_second, (t + 0.3) * per_second) for t in (5.0, 20.0)]
    np.testing.assert_allclose(shaded(ax), expected[1:] if segments else expected, atol=1e-6)


def test_events_in_seconds_need_an_axis_that_knows_them():
    ds = in_unit(traces(), None)
    found = xs2p.events(ds.spks, fs=10.0, threshold=1)
    with pytest.raises(ValueError, match=r"events 'events' are in s.*frames.*ds.attrs\['fs'\]"):
        ds.s2p.plot_traces([3], events=found)
    odd = ds.assign_coords(time=("time", np.arange(300.0), {"units": "volumes"}))
    with pytest.raises(ValueError, match=r"'bursts' are in s.*volumes.*ds.time.attrs"):
        odd.s2p.plot_traces([3], events={"bursts": found})


@pytest.mark.parametrize("word", ["ms", "milliseconds", "min", "us", "s"])
@pytest.mark.parametrize(("unit", "per_second"), UNITS.items())
def test_times_whose_units_are_said_are_put_in_that_of_the_axis(unit, per_second, word):
    ds = in_unit(traces(), unit).assign_attrs(fs=10.0)
    of_seconds = {"ms": 1e3, "milliseconds": 1e3, "min": 1 / 60, "us": 1e6, "s": 1.0}[word]
    said = {"units": word}
    table = {"onset": ("event", [5 * of_seconds], said), "duration": ("event", [of_seconds], said)}
    onsets = xr.DataArray([[5 * of_seconds, 6 * of_seconds]], dims=("event", "end"), attrs=said)
    for events in (xr.Dataset(table), onsets):
        ax = ds.s2p.plot_traces([3], events=events)
        np.testing.assert_allclose(shaded(ax), [(5 * per_second, 6 * per_second)], atol=1e-6)


def test_times_in_units_that_nobody_knows_are_refused():
    onsets = xr.DataArray([5.0], dims="event", attrs={"units": "volumes"})
    with pytest.raises(ValueError, match=r"'a' are in 'volumes', and the axis is time \(s\)"):
        traces().s2p.plot_traces([3], events={"a": onsets})


@pytest.mark.parametrize(("unit", "per_second"), UNITS.items())
def test_timedeltas_are_put_in_the_unit_of_the_axis(unit, per_second):
    ds = in_unit(traces(), unit).assign_attrs(fs=10.0)
    two = pd.to_timedelta([2.0], unit="s")
    tables = [
        pd.DataFrame({"onset": [5.0 * per_second], "duration": two}),
        pd.DataFrame({"onset": [5.0 * per_second], "duration": pd.Series(list(two), dtype=object)}),
        pd.DataFrame({"start": pd.to_timedelta([5.0], unit="s"), "end": [pd.Timedelta("7s")]}),
        [[pd.Timedelta("5s"), pd.Timedelta("7s")]],
    ]
    if unit == "date":
        start = pd.Timestamp("2024-01-01T10:00:05")
        tables.append(pd.DataFrame({"onset": [start], "duration": two}))
    for events in tables:
        ax = ds.s2p.plot_traces([3], events=events)
        np.testing.assert_allclose(shaded(ax), [(5 * per_second, 7 * per_second)], atol=1e-6)
    ax = ds.s2p.plot_traces([3], time=(pd.Timedelta("5.01s"), pd.Timedelta("6.99s")))
    x = lines(ax)[0].get_xdata()
    np.testing.assert_allclose([x[0], x[-1]], [5.1 * per_second, 6.9 * per_second])


def test_onsets_are_lines_and_kinds_have_colours():
    ax = traces().s2p.plot_traces([3, 5], events={"tone": [1.0, 4.0], "touch": [[6.0, 7.0]]})
    (onsets,) = (
        c
        for c in ax.collections
        if isinstance(c, LineCollection) and same_color(c.get_colors()[0], SHADES[0])
    )
    np.testing.assert_allclose(onsets.get_segments(), [[[1, 0], [1, 2]], [[4, 0], [4, 2]]])
    assert shaded(ax, 1) == [(6.0, 7.0)]
    assert {"tone", "touch"} <= set(words(ax.figure))


def test_events_of_rois_are_behind_their_rows():
    ds = traces()
    found = xs2p.events(ds.spks.isel(time=slice(0, 150)), fs=10.0, threshold=1)
    ax = ds.s2p.plot_traces([3, 5], events=found)
    (spans,) = (
        c
        for c in ax.collections
        if isinstance(c, PolyCollection) and same_color(to_hex(c.get_facecolor()[0]), SHADES[0])
    )
    rows = [p.vertices[:, 1].min() for p in spans.get_paths()]
    assert rows.count(1.0) == int((found.roi == 3).sum()) > 0
    assert rows.count(0.0) == int((found.roi == 5).sum()) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"events": [[3.0, 2.0]]}, "number 0 goes from 3 to 2"),
        ({"events": [[1, 2, 3]]}, r"got shape \(1, 3\)"),
        ({"events": ["now"]}, "must be times on the axis"),
        ({"events": pd.DataFrame({"when": [1.0]})}, "it has when"),
        ({"variables": ["dF"]}, "there are F, Fc, F0, dFF, spks"),
        ({"variables": []}, "must be names of traces"),
        ({"variables": ["dFF"], "corrected": True}, "drawn as they are"),
        ({"saturation": "high"}, "saturation must be a number"),
    ],
)
def test_bad_choices_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        traces().s2p.plot_traces([3], **options)
    assert not pyplot.get_fignums()


def red(ax):
    return [
        [np.round(one[:, 0], 6).tolist() for one in c.get_segments()]
        for c in ax.collections
        if isinstance(c, LineCollection)
        and len(c.get_colors())
        and same_color(c.get_colors()[0], RED)
    ]


def test_saturation_is_marked():
    ds = traces()
    ds.F[2, 10:13] = ds.F[2, 40] = 255.0
    for some in (
        ds.s2p.plot_traces([3, 5], saturation=255),
        ds.assign_coords(saturated=ds.F >= 255).s2p.plot_traces([3, 5]),
        ds.chunk(time=100).s2p.plot_traces([3, 5], variables=["dFF"], saturation=255),
    ):
        assert red(some)[0] == [[0.95, 1.25], [3.95, 4.05]]
        assert "saturated" in words(some.figure)
    ds = ds.assign_coords(saturated=("time", np.arange(300) == 7))
    assert red(ds.s2p.plot_traces([3, 5])) == [[[0.65, 0.75]]] * 2
    assert "saturated" not in words(traces().s2p.plot_traces([3], saturation=255).figure)


def test_no_bar_of_saturation_is_over_a_gap():
    ds = traces()
    ds.F[2, 148:152] = ds.F[4, 150] = 255.0  # 20 s pass before frame 150
    one, two = (red(ds.s2p.plot_traces([roi], saturation=255))[0] for roi in (3, 5))
    assert one == [[14.75, 14.95], [34.95, 35.15]] and two == [[34.95, 35.05]]


@pytest.mark.parametrize("n", [300, 12_000])
def test_lines_break_where_frames_do_not_count(n):
    valid = np.ones(n, bool)
    valid[50:90] = valid[91:100] = False
    ds = traces(n, valid=("time", valid))
    for line in lines(ds.s2p.plot_traces([3])):
        x, y = line.get_data()
        drawn = x[np.isfinite(y)]
        assert not ((drawn >= 5) & (drawn < 9 - 1e-6)).any()
        assert ((drawn >= 9 - 1e-6) & (drawn < 10 - 1e-6)).sum() == 2  # one frame alone is a dot
        if n == 300:
            assert np.isnan(y).sum() == 3  # two stretches, and a session


def test_a_summary_leaves_what_is_current_alone():
    figure, ax = pyplot.subplots()
    ds = traces()
    page = ds.s2p.plot_summary()
    assert pyplot.gcf() is figure and pyplot.gca() is ax
    assert page.number in pyplot.get_fignums()  # and plt.show() shows it
