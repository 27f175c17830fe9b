"""The browser in a real web browser, headless: what is seen, clicked on and typed.

Skipped where there is no Chromium, or no playwright: ``pip install playwright``, and a Chromium of
the system, or of ``playwright install chromium``.
"""

import csv
import os
import time

import numpy as np
import pytest

from xs2p.testing import simulate

playwright = pytest.importorskip("playwright.sync_api")


def recording(n=30):
    movie, rois, _ = simulate(n, (60, 90), 400, fs=10.0, seed=2)
    ds = movie.s2p.extract(rois, tau=0.5, min_neuropil_pixels=50)
    rng = np.random.default_rng(0)
    score = rng.random(n)
    score[4] = np.nan
    flags = np.arange(n) % 5 > 0
    ds = ds.assign_coords(score=("roi", score), iscell=("roi", flags))
    return ds.assign_coords(meanImg=(("y", "x"), movie.mean("time").values))


@pytest.fixture
def page(chromium, tmp_path):
    ds = recording()
    ds.s2p.browse(roi=3).save(tmp_path / "one <file>.html")
    context = chromium.new_context(viewport={"width": 1400, "height": 850}, offline=True)
    shown = context.new_page()
    errors, asked = [], []
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.on("request", lambda request: asked.append(request.url))
    shown.goto((tmp_path / "one <file>.html").as_uri())
    yield ds, shown
    assert not errors
    assert all(url.startswith(("file:", "data:", "blob:")) for url in asked)
    context.close()


def text(page, name):
    return page.locator(f"#{name}").inner_text()


def test_keys_go_on_and_back_choose_and_undo(page):
    ds, shown = page
    assert text(shown, "name") == "ROI 3" and text(shown, "state") == "accepted"
    assert text(shown, "count") == "30 ROIs, 24 accepted, 6 rejected"
    shown.keyboard.press("r")
    assert text(shown, "name") == "ROI 4" and "23 accepted" in text(shown, "count")
    shown.keyboard.press("ArrowLeft")
    assert text(shown, "name") == "ROI 3" and text(shown, "state") == "rejected"
    for key in ("n", "ArrowRight"):
        shown.keyboard.press(key)
    assert text(shown, "name") == "ROI 5" and text(shown, "state") == "rejected"
    shown.keyboard.press("a")
    assert "24 accepted" in text(shown, "count")
    shown.keyboard.press("u")
    assert text(shown, "name") == "ROI 5" and text(shown, "state") == "rejected"
    shown.keyboard.press("u")
    assert text(shown, "name") == "ROI 3" and text(shown, "state") == "accepted"
    shown.keyboard.press("Control+r")  # is the web browser's


def test_choices_come_back(page, tmp_path):
    ds, shown = page
    for key in "rra":
        shown.keyboard.press(key)
    shown.reload()  # a page that is closed loses none
    assert "23 accepted" in text(shown, "count")
    with shown.expect_download() as waiting:
        shown.keyboard.press("s")
    waiting.value.save_as(tmp_path / "choices.csv")
    with open(tmp_path / "choices.csv", newline="") as file:
        assert list(csv.reader(file))[:5] == [
            ["roi", "iscell"],
            *(["0", "0"], ["1", "1"], ["2", "1"], ["3", "0"]),
        ]
    cells = ds.s2p.curated(tmp_path / "choices.csv").iscell.values
    expected = ds.iscell.values.copy()
    expected[[3, 4, 5]] = [False, False, True]
    np.testing.assert_array_equal(cells, expected)


def test_sort_filter_and_colour(page):
    ds, shown = page
    score = ds.score.values
    shown.select_option("#sort", "-score")
    best = np.argsort(-np.where(np.isnan(score), -np.inf, score))
    assert text(shown, "name") == f"ROI {best[0]}"
    shown.evaluate("document.activeElement.blur()")
    shown.keyboard.press("n")
    assert text(shown, "name") == f"ROI {best[1]}"
    shown.select_option("#sort", "")
    shown.select_option("#filter", "score")
    shown.fill("#low", "0.5")
    inside = np.flatnonzero(score >= 0.5)
    assert f"{inside.size} pass the filter" in text(shown, "count")
    shown.keyboard.type("1")  # a number in a field is no key
    shown.fill("#low", "0.5")
    shown.evaluate("document.activeElement.blur()")
    for _ in range(40):
        shown.keyboard.press("p")
    seen = [text(shown, "name")]
    for _ in range(inside.size):
        shown.keyboard.press("n")
        seen.append(text(shown, "name"))
    assert list(dict.fromkeys(seen)) == [f"ROI {i}" for i in inside]
    before = shown.locator("#map").screenshot()
    shown.select_option("#color", "score")
    assert shown.locator("#map").screenshot() != before


def test_a_click_chooses_and_a_wheel_zooms(page):
    ds, shown = page
    box = shown.locator("#map").bounding_box()
    scale = min(box["width"] / 90, box["height"] / 60)
    left, top = (box["width"] - 90 * scale) / 2, (box["height"] - 60 * scale) / 2
    alone = np.flatnonzero(~ds.overlap.values)
    pixel = alone[len(alone) // 2]
    x, y, owner = (float(ds[k].values[pixel]) for k in ("xpix", "ypix", "pixel_roi"))
    shown.mouse.click(box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale)
    assert text(shown, "name") == f"ROI {int(owner)}"
    before = shown.evaluate("view.slice()")
    place = shown.locator("#traces").bounding_box()
    shown.mouse.move(place["x"] + 400, place["y"] + 100)
    shown.mouse.wheel(0, -300)
    shown.wait_for_function("view[1] - view[0] < 39")
    shown.mouse.dblclick(place["x"] + 400, place["y"] + 100)
    assert shown.evaluate("view.slice()") == before


def test_the_map_zooms_and_moves_and_clicks_still_find_their_pixel(page):
    ds, shown = page
    box = shown.locator("#map").bounding_box()
    whole = shown.locator("#map").screenshot()

    def on_screen(pixel):
        scale, left, top = shown.evaluate("place()")
        x, y = (float(ds[k].values[pixel]) for k in ("xpix", "ypix"))
        return box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale

    alone = np.flatnonzero(~ds.overlap.values)
    pixel = int(alone[len(alone) // 2])
    owner = int(ds.pixel_roi.values[pixel])
    spot = on_screen(pixel)
    shown.mouse.move(*spot)
    for _ in range(8):
        shown.mouse.wheel(0, -300)
    shown.wait_for_function("field.zoom > 5")
    # It stays under the pointer, whose place is told in whole points.
    np.testing.assert_allclose(on_screen(pixel), spot, atol=shown.evaluate("field.zoom"))
    before, start = text(shown, "name"), on_screen(pixel)
    shown.mouse.down()
    shown.mouse.move(spot[0] + 30, spot[1] + 20, steps=4)
    shown.mouse.up()
    assert text(shown, "name") == before  # a drag chooses nothing
    np.testing.assert_allclose(on_screen(pixel), (start[0] + 30, start[1] + 20), atol=1)
    shown.mouse.click(*on_screen(pixel))
    assert text(shown, "name") == f"ROI {owner}"
    # The next ROI is brought into view where it is not in it.
    for _ in range(5):
        shown.keyboard.press("n")
        roi = int(text(shown, "name").split()[1])
        places = [on_screen(p) for p in np.flatnonzero(ds.pixel_roi.values == roi)]
        x, y = np.transpose(places)
        inside = (x > box["x"]) & (x < box["x"] + box["width"])
        assert (inside & (y > box["y"]) & (y < box["y"] + box["height"])).any(), roi
    shown.evaluate(f"choose({owner})")
    shown.mouse.move(box["x"] + 20, box["y"] + 20)
    for _ in range(30):
        shown.mouse.wheel(0, 300)
    shown.wait_for_function("field.zoom === 1")
    shown.evaluate("choose(3)")
    assert shown.locator("#map").screenshot() == whole
    shown.mouse.wheel(0, -300)
    shown.wait_for_function("field.zoom > 1")
    shown.mouse.dblclick(box["x"] + 3, box["y"] + 3)
    assert shown.evaluate("field.zoom") == 1


def test_the_window_is_filled_and_traces_are_the_extremes(page, tmp_path):
    ds, shown = page
    for width, height in ((1400, 850), (2400, 1300)):
        shown.set_viewport_size({"width": width, "height": height})
        box = shown.locator("#traces").bounding_box()
        assert box["height"] > 0.8 * height and box["width"] > 0.5 * width
        assert not shown.evaluate("document.documentElement.scrollHeight > innerHeight")
    lanes = shown.evaluate("data.lanes.map(lane => lane.lines.map(line => line.name))")
    assert lanes == [["Fc (a.u.)", "F0 (a.u.)"], ["Fneu (a.u.)"], ["spks (a.u.)"]]
    pairs = shown.evaluate("[...bytes(data.lanes[1].lines[0].traces[7])]")
    Fneu = ds.Fneu.values[7]
    low, high = Fneu.min(), Fneu.max()
    expected = np.repeat((Fneu - low) / (high - low) * 254, 2)
    np.testing.assert_allclose(pairs, expected, atol=0.51)
    if folder := os.environ.get("XS2P_PICTURES"):
        shown.set_viewport_size({"width": 1400, "height": 850})
        shown.screenshot(path=f"{folder}/page.png")


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning:panel")
def test_keys_of_the_browser_that_python_serves(chromium):
    panel = pytest.importorskip("panel")
    ds = recording()
    browser = ds.s2p.browse(roi=3)
    server = panel.serve(browser.layout, port=0, show=False, threaded=True, verbose=False)
    context = chromium.new_context(viewport={"width": 1800, "height": 1000})
    try:
        shown = context.new_page()
        for _ in range(100):
            if server.is_alive() and getattr(server, "_port", None) or panel.state._servers:
                break
            time.sleep(0.1)
        port = next(iter(panel.state._servers.values()))[0].port
        shown.goto(f"http://localhost:{port}")
        shown.wait_for_selector("text=ROI 3 is accepted")
        shown.keyboard.press("r")  # nobody clicked on it yet: the key is not for it
        shown.mouse.click(*middle_of(shown.locator("text=ROI 3 is accepted")))
        for key, told in (
            ("r", "ROI 4 is accepted"),
            ("ArrowLeft", "ROI 3 is rejected"),
            ("u", "ROI 3 is accepted"),
            ("n", "ROI 4 is accepted"),
            ("n", "ROI 5 is rejected"),
            ("a", "ROI 6 is accepted"),
        ):
            shown.keyboard.press(key)
            shown.wait_for_selector(f"text={told}")
        if folder := os.environ.get("XS2P_PICTURES"):
            shown.wait_for_timeout(500)
            shown.screenshot(path=f"{folder}/panel.png")
        expected = ds.iscell.values.copy()
        expected[5] = True
        np.testing.assert_array_equal(browser.curated().iscell, expected)
    finally:
        context.close()
        server.stop()


def middle_of(locator):
    box = locator.bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
