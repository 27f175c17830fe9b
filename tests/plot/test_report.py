"""A report: one file, with all that is known and nothing that runs but its own script."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import xs2p
from xs2p.cli import app
from xs2p.testing import simulate


class Page(HTMLParser):
    """The table of a page, its pictures and its data."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.images, self.at, self.data = [], [], "", ""
        self.feed(text)
        self.data = json.loads(self.data)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if tag == "img":
            kind, _, code = attrs["src"].partition(",")
            assert kind == "data:image/png;base64"
            self.images.append(base64.b64decode(code))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        self.at = "data" if attrs.get("id") == "data" else tag

    def handle_endtag(self, tag):
        self.at = ""

    def handle_data(self, text):
        if self.at == "data":
            self.data += text
        elif self.at in ("td", "th"):
            self.rows[-1][-1] += text


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    movie, rois, _ = simulate(6, (30, 41), 400, fs=10.0)
    path = tmp_path_factory.mktemp("report") / "<b>mouse & co.zarr"
    options = {"tau": 0.5, "dff": True, "min_neuropil_pixels": 50, "progress": False}
    xs2p.extract_to_zarr(movie, rois, path, **options)
    return path


@pytest.fixture(scope="module")
def report(store):
    path = store.parent / "out.html"
    xs2p.write_report(store, path)
    return path.read_text()


def test_the_table_has_each_roi_and_its_measures(store, report):
    page, ds = Page(report), xr.open_zarr(store, consolidated=False)
    names, *rows = page.rows
    assert names[:3] == ["roi", "status", "dff_flag"] and len(rows) == 6
    quality = ds.s2p.quality().compute()
    for name in ("snr", "noise_level", "free_share"):
        column = names.index(name)
        for row, value in zip(rows, quality[name].values, strict=True):
            assert row[column] == f"{value:.4g}"
    assert "npix" in names and "roi_id" not in names


def test_pictures_parameters_and_versions_are_in_it(store, report):
    page = Page(report)
    assert len(page.images) == 3 and all(image[1:4] == b"PNG" for image in page.images)
    told = dict(re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", report))
    assert told["tau"] == "0.5" and told["min_neuropil_pixels"] == "50"
    assert f"xs2p {xs2p.__version__}" in told["versions"] and told["resumes"] == "0"
    assert "<b>mouse" not in report and "&lt;b&gt;mouse &amp; co.zarr" in report


def test_nothing_is_fetched_from_elsewhere(report):
    assert not re.findall(r"""(?:src|href)=["'](?!data:)""", report)
    assert "http" not in re.sub(r"https://doi\.org", "", report.partition("<script>")[2])


def test_traces_are_the_lowest_and_highest_of_their_bins(store, report):
    data, ds = Page(report).data, xr.open_zarr(store, consolidated=False)
    for k in range(6):
        pairs = np.frombuffer(base64.b64decode(data["traces"][k]), np.uint8).reshape(-1, 2)
        trace = ds.dFF[k].values
        each = trace.reshape(len(pairs), -1)
        low, high = trace.min(), trace.max()
        expected = np.stack([each.min(1), each.max(1)], -1)
        shown = low + pairs / 254 * (high - low)
        np.testing.assert_allclose(shown, expected, atol=(high - low) / 254)
        assert data["low"][k] == f"{low:.4g}" and data["high"][k] == f"{high:.4g}"


def test_warnings_and_lost_rois_are_said(tmp_path):
    movie, rois, _ = simulate(5, (30, 41), 200, fs=10.0)
    stat = [{k: s[k] for k in ("ypix", "xpix", "lam")} for s in rois.s2p.to_stat()]
    same = xs2p.rois_from_stat([*stat, stat[0]], (30, 41))
    with pytest.warns(UserWarning, match="lack a mask"):
        ds = xs2p.extract_to_zarr(movie, same, tmp_path / "o.zarr", min_neuropil_pixels=50)
    ds.s2p.write_report(tmp_path / "o.html")
    text = (tmp_path / "o.html").read_text()
    assert "Warnings</h2><ul><li>" in text and "lack a mask" in text
    page = Page(text)
    assert page.rows[-1][1] == "no_cell_pixels" and page.data["low"][-1] == "nan"
    assert set(base64.b64decode(page.data["traces"][-1])) == {255}


def test_what_is_there_is_not_replaced(store, report, tmp_path):
    other = tmp_path / "other.html"
    other.write_text("mine")
    with pytest.raises(FileExistsError, match="is no report of xs2p"):
        xs2p.write_report(store, other, overwrite=True)
    assert other.read_text() == "mine"
    (tmp_path / "ours.html").write_text(report)
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        xs2p.write_report(store, tmp_path / "ours.html")
    for path, error in (("a.pdf", ValueError), ("none/a.html", FileNotFoundError)):
        with pytest.raises(error):
            xs2p.write_report(store, tmp_path / path)
    with pytest.raises(FileNotFoundError, match="no store"):
        xs2p.write_report(tmp_path / "none.zarr", tmp_path / "a.html")


def test_the_command_writes_it(store, tmp_path):
    target = tmp_path / "r.html"
    result = CliRunner().invoke(app, ["report", str(store), str(target)])
    assert result.exit_code == 0, result.output
    assert len(Page(target.read_text()).rows) == 7
