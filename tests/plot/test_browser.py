"""The browser, through the events that a click and a zoom in bokeh send."""

import base64
import json
import sys

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.plot import browse
from xs2p.plot.page import _finite

pytest.importorskip("panel")
pytestmark = pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:panel")


@pytest.fixture(scope="module")
def sample():
    movie, rois = xs2p.sample_movie(None), xs2p.sample_rois()
    return movie, movie.s2p.extract(rois, tau=1.0)


def tap(browser, x, y):
    """Click on the image, as bokeh's server hands it on."""
    from bokeh.events import Tap

    browser.image._trigger_event(Tap(browser.image, x=x, y=y))


def zoom(browser, start, end):
    from bokeh.events import RangesUpdate

    browser.traces._trigger_event(RangesUpdate(browser.traces, x0=start, x1=end, y0=0, y1=1))


def drawn(browser, name):
    data = browser.lines[name].data
    return data["time"], data["value"]


def test_it_opens_at_an_roi(sample):
    movie, ds = sample
    browser = ds.s2p.browse(background=movie.mean("time"), roi=5)
    assert browser.roi == 5 and browser.traces.title.text == "ROI 5"
    assert browser.traces.yaxis.axis_label == "fluorescence (a.u.)"
    assert browser.spikes.xaxis.axis_label == "time (s)"
    time, value = drawn(browser, "Fc")
    np.testing.assert_array_equal(value, ds.Fc.sel(roi=5))
    np.testing.assert_array_equal(time, ds.time)
    np.testing.assert_array_equal(drawn(browser, "F0")[1], ds.F0.sel(roi=5))
    spks = ds.spks.sel(roi=5).values
    np.testing.assert_array_equal(drawn(browser, "spks")[1], spks[spks > 0])
    assert browser.traces.y_range.start < value.min() < value.max() < browser.traces.y_range.end
    # The image, its first row on top.
    assert (browser.image.y_range.start, browser.image.y_range.end) == (63.5, -0.5)
    shown = browser.image.renderers[0].data_source.data["image"][0]
    grey = shown.view(np.uint8).reshape(64, 64, 4)[..., 0]
    mean = movie.mean("time").values
    low, high = np.percentile(mean, (1, 99.5))
    np.testing.assert_allclose(grey, 255 * np.clip((mean - low) / (high - low), 0, 1), atol=0.51)
    assert browse(ds).roi == ds.roi.values[np.argmax(ds.Fc.s2p.snr().values)]


def test_a_click_shows_the_roi_that_is_there(sample):
    movie, ds = sample
    browser = ds.s2p.browse(roi=5)
    alone = (ds.pixel_roi == 40) & ~ds.overlap
    x, y = (float(ds[n].values[alone.values][0]) for n in ("xpix", "ypix"))
    tap(browser, x + 0.3, y - 0.3)
    assert browser.roi == 40
    np.testing.assert_array_equal(drawn(browser, "Fc")[1], ds.Fc.sel(roi=40))
    outline = browser._map.outline.data
    own = ds.pixel_roi == 40
    assert outline["x0"].min() == ds.xpix.values[own].min() - 0.5
    assert outline["y1"].max() == ds.ypix.values[own].max() + 0.5
    assert browser._choice.value == 40
    tap(browser, x + 0.3, y - 0.3)  # nobody else is there
    assert browser.roi == 40
    shared = np.flatnonzero((ds.pixel_roi == 5).values & ds.overlap.values)[0]
    x, y = float(ds.xpix[shared]), float(ds.ypix[shared])
    seen = set()
    for _ in range(6):
        tap(browser, x, y)
        seen.add(browser.roi)
    there = (ds.xpix == x) & (ds.ypix == y)
    assert seen == set(ds.pixel_roi.values[there.values].tolist()) and len(seen) > 1


def test_a_zoom_shows_what_comes_into_view(sample):
    _, ds = sample
    browser = ds.s2p.browse(roi=4)
    zoom(browser, 10.0, 20.0)
    time, value = drawn(browser, "Fc")
    assert 9.8 < time[0] <= 10 and 20 <= time[-1] < 20.2
    inside = ds.Fc.sel(roi=4, time=slice(time[0], time[-1]))
    np.testing.assert_array_equal(value, inside)
    tap(browser, float(ds.med_x.sel(roi=3)), float(ds.med_y.sel(roi=3)))
    assert drawn(browser, "Fc")[0][0] == time[0]  # another ROI, the same range
    browser.show_range(0, 3)
    assert browser.range == (0, 3) and browser.traces.x_range.end == 3
    assert drawn(browser, "Fc")[0][-1] < 3.2
    with pytest.raises(ValueError, match="after its start"):
        browser.show_range(3, 3)


def test_a_choice_from_the_list(sample):
    browser = sample[1].s2p.browse(roi=5)
    browser._choice.value = 17
    assert browser.roi == 17 and browser.traces.title.text == "ROI 17"
    browser.select(3)
    assert browser._choice.value == 3
    with pytest.raises(ValueError, match="no roi 999"):
        browser.select(999)


def test_lazy_traces_are_read_only_in_view(sample, tmp_path):
    _, ds = sample
    rng = np.random.default_rng(0)
    n = 40_000
    long = ds.drop_dims("time").assign(
        Fc=(("roi", "time"), rng.normal(size=(98, n)).astype("f4")),
        spks=(("roi", "time"), rng.normal(size=(98, n)).astype("f4")),
    )
    read = np.zeros(n // 1000, int)

    def note(block, block_info=None):
        read[block_info[0]["chunk-location"][1]] += 1
        return block

    lazy = long.chunk(time=1000)
    lazy["Fc"] = ("roi", "time"), lazy.Fc.data.map_blocks(note, dtype="f4", meta=np.empty((0, 0)))
    lazy.attrs["fs"] = 10.0
    browser = lazy.assign_coords(snr=("roi", np.arange(98.0))).s2p.browse()
    assert browser.roi == 97 and browser.range == (0, 499.9)
    assert read.tolist() == [1] * 5 + [0] * 35 or read.tolist() == [1] * 6 + [0] * 34
    read[:] = 0
    zoom(browser, 1000.0, 1050.0)
    assert np.flatnonzero(read).tolist() == [10] or np.flatnonzero(read).tolist() == [9, 10]
    read[:] = 0
    zoom(browser, 0, 4000)
    assert read.tolist() == [1] * 40
    assert len(drawn(browser, "Fc")[0]) <= 3000
    tap(browser, 30, 30)
    zoom(browser, 1, 3999)
    assert read.tolist() == [1] * 40


def test_labels_may_be_names(sample):
    names = np.array([f"cell {k}" for k in range(98)], object)
    browser = sample[1].assign_coords(roi=names).s2p.browse(roi="cell 5")
    assert browser.roi == "cell 5"
    browser._choice.value = "cell 7"
    assert browser.traces.title.text == "ROI cell 7"


def test_an_roi_without_a_trace(sample):
    _, ds = sample
    ds = ds.copy(deep=True)
    ds["Fc"][5] = ds["F0"][5] = ds["spks"][5] = np.nan
    ds = ds.assign_coords(status=("roi", np.where(np.arange(98) == 5, "no_cell_pixels", "ok")))
    browser = ds.s2p.browse(roi=5)
    assert browser.traces.title.text == "ROI 5: no trace: no_cell_pixels"
    browser.select(6)
    assert browser.traces.title.text == "ROI 6"
    ds["status"][6] = "zero_trace"
    browser = ds.s2p.browse(roi=6)
    assert browser.traces.title.text == "ROI 6: no trace: zero_trace"
    assert "zero_trace" in browser._about.object


def test_planes_are_shown_one_at_a_time(sample):
    _, ds = sample
    plane = np.arange(98) % 2 * 3  # 0 and 3
    means = np.random.default_rng(0).random((2, 64, 64))
    images = {f"meanImg_plane{n}": (("y", "x"), means[n // 3]) for n in (0, 3)}
    ds = ds.assign_coords(plane=("roi", plane)).assign(images)
    browser = ds.s2p.browse(roi=5)

    def shows():
        pixels = browser.image.renderers[0].data_source.data["image"][0].view(np.uint8)
        tint = browser.image.renderers[1].data_source.data["tint"][0].view(np.uint8)
        return pixels.reshape(64, 64, 4)[..., 0], tint.reshape(64, 64, 4)[..., 3] > 0

    def expected(n):
        image = ds[f"meanImg_plane{n}"].values
        low, high = np.percentile(image, (1, 99.5))
        has = np.zeros((64, 64), bool)
        own = np.isin(ds.pixel_roi, ds.roi_id[plane == n])
        has[ds.ypix.values[own], ds.xpix.values[own]] = True
        return 255 * np.clip((image - low) / (high - low), 0, 1), has

    def check(n):
        assert browser.image.title.text == f"Plane {n}: 49 ROIs: click on one"
        for found, wanted in zip(shows(), expected(n), strict=True):
            np.testing.assert_allclose(found, wanted, atol=0.51)
        assert browser._plane.value == n

    check(3)
    both = (ds.ypix * 64 + ds.xpix).values
    own = plane[ds.pixel_roi.values]
    shared = np.intersect1d(both[own == 3], both[own == 0])[0]
    seen = set()
    for _ in range(6):  # a pixel that ROIs of both planes have
        tap(browser, shared % 64, shared // 64)
        seen.add(browser.roi)
    assert {n % 2 for n in seen} == {1}
    browser.select(6)
    check(0)
    browser._plane.value = 3
    assert browser.roi == 1
    check(3)
    stack = xr.DataArray(means, dims=("plane", "y", "x"), coords={"plane": [0, 3]})
    browser = ds.s2p.browse(background=stack.chunk(), roi=6)
    check(0)
    stack = stack.isel(plane=[0])
    with pytest.raises(ValueError, match="no image of plane 3"):
        ds.s2p.browse(background=stack)


def test_it_is_written_as_a_page(sample, tmp_path):
    browser = sample[1].s2p.browse(variables=["F", "Fneu"])
    assert browser.spikes is None
    browser.layout.save(tmp_path / "page.html", title="a page")
    assert "bokeh" in (tmp_path / "page.html").read_text().lower()
    assert browser._repr_mimebundle_() is not None or "ipykernel" not in sys.modules


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda d: d.s2p.browse(roi=999), "no roi 999"),
        (lambda d: d.s2p.browse(variables=["Fx"]), "there are F, Fneu, Fc, F0, spks"),
        (lambda d: d.s2p.browse(variables="F"), "must be a list"),
        (lambda d: d.s2p.browse(background=np.zeros((3, 4))), r"\(64, 64\).*\(3, 4\)"),
        (lambda d: d.s2p.browse(background=np.zeros((5, 64, 64))), "take a mean over time"),
        (lambda d: d[["spks"]].s2p.browse(), "neither F nor Fc"),
        (lambda d: d.isel(roi=[]).s2p.browse(), "0 ROIs"),
        (lambda d: d.isel(time=[0]).s2p.browse(), "1 frames"),
    ],
)
def test_bad_input_is_named(sample, call, message):
    with pytest.raises(ValueError, match=message):
        call(sample[1])


def test_without_panel_it_says_what_to_install(sample, monkeypatch):
    monkeypatch.setitem(sys.modules, "panel", None)
    with pytest.raises(ImportError, match=r'panel.*pip install "xs2p\[browser\]"'):
        browse(sample[1])


def test_inputs_stay_as_they_are(sample):
    copy = sample[1].copy(deep=True)
    zoom(copy.s2p.browse(roi=3), 3, 5)
    xr.testing.assert_identical(copy, sample[1])


def test_no_key_is_lost(sample):
    _, ds = sample
    browser = ds.s2p.browse(roi=5)
    box = browser.layout
    box.pressed = ["one view", "r"]
    assert browser.roi == 6
    box.pressed = ["one view", "r", "r", "n", "r"]  # three came before the first was told
    assert browser.roi == 9
    box.pressed = ["another view", "p"]  # the same browser, shown once more
    box.pressed = ["one view", "r", "r", "n", "r", "u"]
    assert np.flatnonzero(~browser.curated().iscell.values).tolist() == [5, 6]


def test_choices_are_made_sorted_and_taken_back(sample, tmp_path):
    _, ds = sample
    score = np.arange(98.0)[::-1]
    ds = ds.assign_coords(iscell=("roi", np.arange(98) % 2 == 0), score=("roi", score))
    browser = ds.s2p.browse(roi=5)
    browser.press("a")
    assert browser.roi == 6 and browser._about is not None
    browser.press("r")
    browser.press("ArrowLeft")
    assert browser.roi == 6 and "**rejected**" in browser._controls.state.object
    browser.press("u")
    assert browser.roi == 6 and bool(browser.curated().iscell[6])
    expected = ds.iscell.values.copy()
    expected[5] = True
    np.testing.assert_array_equal(browser.curated().iscell, expected)
    xr.testing.assert_identical(browser.curated().drop_vars("iscell"), ds.drop_vars("iscell"))
    browser.save_choices(tmp_path / "c.csv")
    np.testing.assert_array_equal(ds.s2p.curated(tmp_path / "c.csv").iscell, expected)
    browser.sort("score", descending=False)
    assert browser.roi == 97
    browser.next()
    assert browser.roi == 96
    browser.filter("score", 10, 20)
    browser.previous()
    assert browser.roi == 87  # the lowest that passes
    with pytest.raises(ValueError, match="no numbers 'size' over roi; there are"):
        browser.color("size")


def test_the_map_is_coloured_by_choice_or_number(sample):
    _, ds = sample
    ds = ds.assign_coords(score=("roi", np.arange(98.0)))
    browser = ds.s2p.browse(roi=5)

    def shade(roi):
        tint = browser.image.renderers[1].data_source.data["tint"][0].view(np.uint8)
        alone = np.flatnonzero((ds.pixel_roi == roi).values & ~ds.overlap.values)[0]
        y, x = int(ds.ypix[alone]), int(ds.xpix[alone])
        return tint.reshape(64, 64, 4)[y, x]

    blue = shade(40)
    browser.select(40)
    browser.reject()
    assert shade(40)[0] == shade(40)[2] == 0xBD and not np.array_equal(blue, shade(40))
    browser.color("score")
    assert shade(90)[0] > shade(8)[0] and shade(90)[2] < shade(8)[2]  # from blue to yellow
    assert shade(40)[0] == shade(40)[2]
    before = shade(90)[3]
    browser.filter("score", 0, 50)
    assert shade(90)[3] < before


def test_pages_replace_nothing_else(sample, tmp_path):
    browser = sample[1].s2p.browse(variables=["F"])
    (tmp_path / "mine.html").write_text("mine")
    with pytest.raises(FileExistsError, match="is no browser of xs2p"):
        browser.save(tmp_path / "mine.html", overwrite=True)
    browser.save(tmp_path / "b.html")
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        browser.save(tmp_path / "b.html")
    browser.save(tmp_path / "b.html", overwrite=True)
    for path, error in (("a.pdf", ValueError), ("none/a.html", FileNotFoundError)):
        with pytest.raises(error):
            browser.save(tmp_path / path)
    text = (tmp_path / "b.html").read_text()
    assert "http" not in text and "<script src" not in text


def data_of(page):
    text = page.read_text()
    start = text.index('id="data">') + len('id="data">')
    return json.loads(text[start : text.index("</script>", start)])


def bytes_of(line, place):
    return np.frombuffer(base64.b64decode(line["traces"][place]), np.uint8).reshape(-1, 2)


def test_a_page_shows_what_is_finite(sample, tmp_path):
    """One value that is infinite or none takes no other away, and is told by no number."""
    ds = sample[1].isel(roi=slice(0, 4)).copy(deep=True)
    ds.F[0, 7], ds.F[0, 9] = np.inf, -np.inf
    ds.F[1], ds.spks[1] = np.nan, np.nan
    ds.F[2], ds.Fneu[2] = np.nan, np.inf
    ds.s2p.browse(variables=["F", "Fneu", "spks"]).save(tmp_path / "page.html")
    data = data_of(tmp_path / "page.html")
    traces, spikes = data["lanes"]
    F, Fneu = traces["lines"]
    assert len(data["times"]) == ds.sizes["time"]
    both = np.stack([ds.F[0], ds.Fneu[0]])
    both = both[np.isfinite(both)]
    low, high = both.min(), both.max()
    assert (traces["low"][0], traces["high"][0]) == (f"{low:.4g}", f"{high:.4g}")
    expected = (ds.F[0].values - low) / (high - low) * 254
    expected[[7, 9]] = 255  # a gap
    np.testing.assert_allclose(bytes_of(F, 0), np.repeat(expected[:, None], 2, 1), atol=0.51)
    # Neuropil is drawn, and has a scale: F alone is said to be none.
    own = ds.Fneu[1].values
    assert (traces["low"][1], traces["high"][1]) == (f"{own.min():.4g}", f"{own.max():.4g}")
    assert F["absent"] == [False, True, True, False] and Fneu["absent"] == [False] * 2 + [
        True,
        False,
    ]
    assert (traces["low"][2], traces["high"][2]) == (None, None)
    assert (spikes["low"][1], spikes["high"][1]) == (None, None)
    assert spikes["low"][0] == "0" and (bytes_of(spikes["lines"][0], 1) == 255).all()


def test_bins_with_an_infinite_value_keep_their_finite_one():
    low, high = np.array([[1.0, -np.inf, np.inf]]), np.array([[np.inf, 2.0, np.inf]])
    np.testing.assert_array_equal(_finite(low, high), [[[1, 1], [2, 2], [np.nan, np.nan]]])


def test_an_infinite_value_leaves_the_scale_of_the_browser(sample):
    ds = sample[1].copy(deep=True)
    ds.F[3, 7] = np.inf
    browser = ds.s2p.browse(roi=int(ds.roi[3]), variables=["F"])
    finite = ds.F[3].values[np.isfinite(ds.F[3])]
    ends = browser.traces.y_range.start, browser.traces.y_range.end
    assert ends[0] < finite.min() and finite.max() < ends[1] < finite.max() + np.ptp(finite)


def test_choices_are_kept_for_each_recording(sample, tmp_path):
    """Pages of the same ROIs in two recordings, or of two names, do not share choices."""
    ds = sample[1]
    ids = []
    for folder, name, some in (
        ("a", "day.html", ds),
        ("b", "day.html", ds),
        ("c", "day.html", ds.assign(F=ds.F.roll(time=5))),
        ("d", "other.html", ds),
    ):
        (tmp_path / folder).mkdir()
        some.s2p.browse(variables=["F"]).save(tmp_path / folder / name)
        ids.append(data_of(tmp_path / folder / name)["id"])
    assert ids[0] == ids[1] and len(set(ids)) == 3
