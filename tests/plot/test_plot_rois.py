"""Maps of ROIs and of one ROI's masks: what is where, in which colour, and what is said of it."""

import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib import pyplot
from matplotlib.colors import to_hex, to_rgba
from naive import pixel_edges
from pictures import TOLERANCE, axes, check_legible, difference, words

import xs2p
from xs2p.plot.drawing import outline_paths
from xs2p.plot.outlines import apart
from xs2p.plot.roi import _around
from xs2p.plot.rois import filled_image
from xs2p.rois.pixels import pixel_table
from xs2p.testing import simulate


@pytest.fixture(scope="module")
def sample():
    movie, rois = xs2p.sample_movie(None), xs2p.sample_rois()
    return movie.mean("time"), rois, movie.s2p.extract(rois, tau=1.0)


@pytest.fixture(scope="module")
def few():
    """Seven ROIs, some overlap, on a wide frame, and one without a pixel."""
    _, rois, _ = simulate(7, (40, 70), 2, seed=3)
    stat = rois.s2p.to_stat()
    stat[3] |= {"xpix": stat[2]["xpix"] + 2, "ypix": stat[2]["ypix"] + 1, "lam": stat[2]["lam"]}
    keys = ("ypix", "xpix", "lam")
    stat = [{k: s[k] for k in keys} for s in stat] + [{k: [] for k in keys}]
    rois = xs2p.rois_from_stat(stat, (40, 70))
    quality = [0.1, 0.9, 0.5, 0.3, np.nan, 0.7, 0.2, 0.4]
    return rois.assign_coords(
        quality=("roi", quality, {"long_name": "how good it is", "units": "dB"}),
        iscell=("roi", np.arange(8) % 2 == 0),
    )


def test_map_as_it_was(few, tmp_path, monkeypatch):
    def draw(rois):
        image = np.add.outer(np.arange(40.0), np.arange(70.0))
        ax = xs2p.plot.plot_rois(
            rois, axes(210, 120), background=image, color="quality", filled=True, legend=False
        )
        return difference(ax.figure, "rois", tmp_path)

    assert draw(few) <= TOLERANCE
    assert draw(few.assign(ypix=(few.ypix + 1) % 40)) > 2 * TOLERANCE
    assert draw(few.assign_coords(quality=-few.quality)) > 2 * TOLERANCE
    monkeypatch.setattr("xs2p.plot.rois.filled_image", lambda table, rgba: np.zeros((40, 70, 4)))
    assert draw(few) > 2 * TOLERANCE


def test_masks_as_they_were(few, tmp_path, monkeypatch):
    def draw(**options):
        ax = xs2p.plot.plot_roi(few, 2, axes(144, 144), min_neuropil_pixels=200, **options)
        return difference(ax.figure, "roi", tmp_path)

    with pytest.warns(UserWarning, match="lack a mask"):
        assert draw() <= TOLERANCE
        assert draw(inner_neuropil_radius=3) > 2 * TOLERANCE
        monkeypatch.setattr("xs2p.plot.roi._hatch", lambda *args: None)
        assert draw() > 2 * TOLERANCE


def test_outlines_are_those_of_each_roi(few):
    table = pixel_table(few)
    paths = outline_paths(table)
    assert len(paths) == 8 and not len(paths[7].vertices)
    for i, path in enumerate(paths):
        own = slice(*table.offsets[i : i + 2])
        expected = pixel_edges(table.ypix[own], table.xpix[own])
        lines = path.vertices.reshape(-1, 2, 2)
        assert sorted(map(str, lines.tolist())) == sorted(map(str, expected.tolist()))
    # Edges do not reach around the border of the frame to the row above or below.
    rois = xs2p.rois_from_labels(np.array([[0, 0, 1], [1, 0, 0]]))
    assert len(outline_paths(pixel_table(rois))[0].vertices) == 16


def test_colours_by_numbers(sample, few):
    image, rois, ds = sample
    ax = ds.s2p.plot(color="snr", background=image, filled=False)
    check_legible(ax.figure)
    assert "snr: suite2p SNR, 1 − ½ var(diff)/var" in words(ax.figure)
    drawn = ax.collections[0].get_edgecolor()
    quality = ds.Fc.s2p.snr().values
    order = np.argsort(quality)
    assert drawn[order[-1], 1] > 0.9 and drawn[order[0], 1] < 0.2  # plasma ends in yellow
    same = xs2p.plot.plot_rois(
        ds.assign_coords(snr=("roi", quality)), background=image, color="snr", filled=False
    )
    np.testing.assert_allclose(same.collections[0].get_edgecolor(), drawn, atol=1e-6)
    by_label = ds.Fc.s2p.snr()[::-1]  # not by place
    array = rois.s2p.plot(color=by_label, background=image, filled=False)
    np.testing.assert_allclose(array.collections[0].get_edgecolor(), drawn, atol=1e-6)

    ax = few.s2p.plot(color="quality", vmin=0, vmax=1, cmap="gray", filled=True, labels=True)
    check_legible(ax.figure)
    assert {"quality: how good it is (dB)", "no value (1)"} <= set(words(ax.figure))
    drawn = ax.collections[0].get_edgecolor()
    np.testing.assert_allclose(drawn[:3, 0], [0.1, 0.9, 0.5], atol=0.01)
    assert to_hex(drawn[4]) == "#bdbdbd"


def test_colours_by_kind(few):
    ax = few.s2p.plot(color="iscell")
    check_legible(ax.figure)
    assert words(ax.figure)[-3:] == ["iscell", "True (4)", "False (4)"] or {
        "iscell",
        "True (4)",
        "False (4)",
    } <= set(words(ax.figure))
    shades = {to_hex(c) for c in ax.collections[0].get_edgecolor()}
    assert shades == {"#e69f00", "#bdbdbd"}  # rejected ones are grey
    ax = few.rename(iscell="responds").assign_coords(
        responds=("roi", few.iscell.values, {"units": "a.u.", "long_name": "it responds"})
    )
    ax = ax.s2p.plot(color="responds")
    assert "responds: it responds" in words(ax.figure)  # and no unit
    assert "#56b4e9" in {to_hex(c) for c in ax.collections[0].get_edgecolor()}
    ax = few.s2p.plot(color="status", filled=True)
    assert {"ok (7)", "no_cell_pixels (1)"} <= set(words(ax.figure))
    many = few.assign_coords(kind=("roi", list("abcdefgh")))
    ax = many.s2p.plot(color="kind")
    check_legible(ax.figure)
    assert "2 others (2)" in words(ax.figure)
    assert len({to_hex(c) for c in ax.collections[0].get_edgecolor()}) == 7
    ax = few.s2p.plot(color="#ff0000", legend=False, labels=[5, 1])
    drawn = [to_hex(c) for c in ax.collections[0].get_edgecolor()]
    assert drawn == ["#bdbdbd"] * 4 + ["#ff0000"] * 4  # rejected ones behind
    assert set(words(ax.figure)) == {"5", "1", "10 pixels", "8 ROIs, 4 of them rejected"}
    assert {"accepted (4)", "rejected (4)"} <= set(words(few.s2p.plot().figure))


def test_pixels_of_several_rois_are_seen(few):
    table = pixel_table(few)
    rgba = np.zeros((8, 4))
    rgba[2], rgba[3] = to_rgba("red"), to_rgba("blue")
    tint = filled_image(table, rgba).reshape(-1, 4)
    a, b = (table.flat[slice(*table.offsets[i : i + 2])] for i in (2, 3))
    both = np.intersect1d(a, b)
    alone = np.setdiff1d(a, b)
    assert both.size > 5 and alone.size > 5
    np.testing.assert_allclose(tint[both, :3], [[0.5, 0, 0.5]] * both.size)
    np.testing.assert_allclose(tint[alone, :3], [[1, 0, 0]] * alone.size)
    assert tint[both, 3].min() > tint[alone, 3].max() > 0
    assert not tint[np.setdiff1d(np.arange(40 * 70), table.flat)].any()


def test_thousands_of_rois_are_one_artist():
    labels = np.zeros((500, 600), int)
    for k in range(3000):
        y, x = 1 + 10 * (k // 60), 1 + 10 * (k % 60)
        labels[y : y + 8, x : x + 8] = k + 1
    rois = xs2p.rois_from_labels(labels)
    ax = rois.s2p.plot(color="npix", filled=True)
    assert len(ax.collections) == 1 and len(ax.images) == 1
    check_legible(ax.figure)


def test_masks_of_an_roi_are_where_they_are(sample):
    _, rois, ds = sample
    masks = xs2p.build_masks(rois, inner_neuropil_radius=3, min_neuropil_pixels=200)
    ax = rois.s2p.plot_roi(5, masks=masks)
    check_legible(ax.figure)
    tint = np.asarray(ax.images[0].get_array()).reshape(-1, 4)
    pixels = {
        kind: m.indices[m.indptr[5] : m.indptr[6]]
        for kind, m in (("cell", masks.cell), ("neuropil", masks.neuropil))
    }
    weights = masks.cell.data[masks.cell.indptr[5] : masks.cell.indptr[6]]
    strength = 1 - tint[pixels["cell"], 2]  # orange: blue is what is missing
    assert (np.diff(strength[np.argsort(weights)]) >= -1e-9).all() and np.ptp(strength) > 0.3
    purple = np.flatnonzero((tint == tint[pixels["neuropil"][0]]).all(1))
    np.testing.assert_array_equal(purple, np.sort(pixels["neuropil"]))
    said = " ".join(words(ax.figure))
    assert f"neuropil, {pixels['neuropil'].size} pixels" in said
    assert "inner_neuropil_radius 3" in said and "shared, not used, 2 pixels" in said
    built = rois.s2p.plot_roi(5, inner_neuropil_radius=3, min_neuropil_pixels=200)
    np.testing.assert_array_equal(np.asarray(built.images[0].get_array()).reshape(-1, 4), tint)
    # Traces say what masks they were made with.
    made = xs2p.sample_movie().s2p.extract(
        rois, tau=1.0, inner_neuropil_radius=3, min_neuropil_pixels=200
    )
    again = made.s2p.plot_roi(5)
    np.testing.assert_array_equal(np.asarray(again.images[0].get_array()).reshape(-1, 4), tint)
    used = rois.s2p.plot_roi(5, allow_overlap=True, neuropil_extract=False)
    check_legible(used.figure)
    said = " ".join(words(used.figure))
    assert "shared, used, 2 pixels" in said and "neuropil" not in said


@pytest.mark.parametrize("inner", [0, 1, 2, 4])
def test_the_ring_is_what_no_neuropil_mask_has(sample, inner):
    """Growing begins outside it: just outside are neuropil pixels, inside none."""
    rois = xs2p.rois_from_stat(
        [{k: s[k] for k in ("ypix", "xpix", "lam")} for s in sample[1].s2p.to_stat()[4:5]], (64, 64)
    )
    own = pixel_table(rois).flat
    masks = xs2p.build_masks(rois, inner_neuropil_radius=inner, circular_neuropil=True)
    ring = _around(own, (64, 64), inner)
    assert not np.isin(masks.neuropil.indices, ring).any()
    outside = np.setdiff1d(_around(own, (64, 64), inner + 1), ring)
    assert np.isin(outside, masks.neuropil.indices).all()


def test_roi_is_a_label(few):
    rois = few.assign_coords(roi=few.roi + 100)
    with pytest.warns(UserWarning, match="lack a mask"):
        ax = rois.s2p.plot_roi(102, background=np.zeros((40, 70)))
    assert ax.get_title(loc="left") == "ROI 102"
    with pytest.raises(ValueError, match=r"no roi 2; there are 8.*100, 101, 102, 103, 104, …"):
        rois.s2p.plot_roi(2)


def test_rois_of_other_planes_have_no_part_in_the_masks(sample):
    stat = sample[1].s2p.to_stat()
    stat = [{k: s[k] for k in ("ypix", "xpix", "lam")} for s in stat]
    two = xs2p.rois_from_stat(stat, (64, 64))
    planes = ("roi", np.repeat([0, 1], [40, 58]))
    two = xs2p.recompute_overlap(two.assign_coords(plane=planes))
    alone = xs2p.recompute_overlap(xs2p.rois_from_stat(stat[:40], (64, 64)))
    one, other = two.s2p.plot_roi(5), alone.s2p.plot_roi(5)
    np.testing.assert_array_equal(one.images[0].get_array(), other.images[0].get_array())
    assert words(one.figure) == words(other.figure)
    everyone = xs2p.recompute_overlap(two.drop_vars("plane")).s2p.plot_roi(5)
    assert not np.array_equal(one.images[0].get_array(), everyone.images[0].get_array())


def test_given_axes_are_used_and_pyplot_is_not(sample):
    code = "matplotlib.pyplot"
    had = sys.modules.get(code)
    before = pyplot.get_fignums()
    ax = axes()
    assert xs2p.plot.plot_rois(sample[1], ax, background=sample[0]) is ax
    assert pyplot.get_fignums() == before and sys.modules.get(code) is had


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda r, d: r.s2p.plot(color="snrr"), "'snrr' is neither.*There are frac_overlap, med_x"),
        (lambda r, d: r.s2p.plot(color="snr"), r"made of traces: color=ds.Fc.s2p.snr\(\)"),
        (lambda r, d: r.s2p.plot(color="lam"), r"dims \('pixel',\).*frac_overlap"),
        (lambda r, d: r.s2p.plot(color=np.arange(5)), r"of shape \(5,\) is neither.*98 values"),
        (lambda r, d: r.s2p.plot(color=r.radius[:4]), "no values for 94 ROIs, as roi 4"),
        (lambda r, d: r.s2p.plot(color=r.lam), r"dims \('pixel',\)"),
        (lambda r, d: r.s2p.plot(color="radius", vmin=9, vmax=3), "vmax must be above vmin"),
        (lambda r, d: r.s2p.plot(labels=[3, 999]), "no roi 999"),
        (lambda r, d: r.s2p.plot(background=np.zeros((3, 4))), r"\(64, 64\).*\(3, 4\)"),
        (lambda r, d: r.s2p.plot(background=np.zeros((2, 64, 64))), "movie.mean"),
        (lambda r, d: d[["F"]].drop_vars("npix").s2p.plot(), "no ROI set"),
        (lambda r, d: r.s2p.plot_roi(5, masks=xs2p.build_masks(r), lam_percentile=0), "leave one"),
        (lambda r, d: r.s2p.plot_roi(5, inner_neuropil_radius=-1), "inner_neuropil_radius"),
        (
            lambda r, d: r.s2p.plot_roi(5, masks=xs2p.build_masks(r.assign_attrs(Ly=65))),
            r"\(65, 64\)",
        ),
    ],
)
def test_bad_input_is_named_before_a_figure_is_made(sample, call, message):
    with pytest.raises(ValueError, match=message):
        call(sample[1], sample[2])
    assert not pyplot.get_fignums()


def test_an_roi_without_pixels_is_named(few):
    with (
        pytest.warns(UserWarning, match="lack a mask"),
        pytest.raises(ValueError, match="roi 7 has no"),
    ):
        few.s2p.plot_roi(7)


def test_inputs_stay_as_they_are(sample):
    image, rois, ds = (part.copy(deep=True) for part in sample)
    ds.s2p.plot(color="snr", background=image, filled=True, labels=True)
    rois.s2p.plot_roi(5, background=image)
    for part, copy in zip((image, rois, ds), sample, strict=True):
        xr.testing.assert_identical(part, copy)


def test_a_tuple_is_a_colour(few):
    ax = few.drop_vars("iscell").isel(roi=[0, 1, 2]).s2p.plot(color=(1.0, 0.0, 0.0))
    assert {to_hex(c) for c in ax.collections[0].get_edgecolors()} == {"#ff0000"}


def test_a_panel_for_each_plane():
    rois = xs2p.sample_rois()
    own = np.arange(rois.sizes["roi"]) % 2
    rois = rois.assign_coords(plane=("roi", own))
    images = xr.DataArray(np.stack([np.zeros((64, 64)), np.eye(64)]), dims=("plane", "y", "x"))
    first = rois.s2p.plot(background=images, highlight=[2, 3])
    panels = first.figure.axes
    assert [ax.get_title(loc="left") for ax in panels] == [
        "Plane 0: 49 ROIs",
        "Plane 1: 49 ROIs",
    ]
    assert [len(ax.collections[0].get_paths()) for ax in panels] == [
        (own == n).sum() for n in (0, 1)
    ]
    for ax, image in zip(panels, images, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    # A list gives each ROI one colour, whichever panel it is in.
    marked = [ax.collections[0].get_edgecolors()[-1] for ax in panels]
    assert not np.array_equal(*marked)


def crowd(n, shape=(60, 70), seed=0):
    """Discs with weights that fall to their edge, many on top of each other."""
    rng = np.random.default_rng(seed)
    y, x = np.indices(shape)
    stat = []
    for cy, cx in rng.uniform(5, np.array(shape) - 5, (n, 2)):
        far = (y - cy) ** 2 + (x - cx) ** 2
        ypix, xpix = np.nonzero(far < 16)
        stat.append({"ypix": ypix, "xpix": xpix, "lam": np.exp(-far[ypix, xpix] / 8)})
    return xs2p.rois_from_stat(stat, shape)


def test_a_crowd_is_filled_each_pixel_by_its_strongest_roi():
    rois = crowd(80)
    table = pixel_table(rois)
    ax = rois.s2p.plot(color=np.arange(80.0), vmin=0, vmax=79, cmap="gray")
    (tint,) = (np.asarray(im.get_array()) for im in ax.images)
    for y, x in ((20, 30), (40, 50), (11, 9), (33, 33)):
        here = np.flatnonzero((table.ypix == y) & (table.xpix == x))
        share = [table.lam[i] / table.lam[table.owner == table.owner[i]].max() for i in here]
        if not here.size:
            assert tint[y, x, 3] == 0
            continue
        strongest = table.owner[here[np.argmax(share)]]
        np.testing.assert_allclose(tint[y, x, 0], strongest / 79, atol=0.01)
    # A line wherever the colours differ, and nowhere else.
    (lines,) = ax.collections
    steps = sum(int((np.diff(tint[..., 0] + 2 * tint[..., 3], axis=k) != 0).sum()) for k in (0, 1))
    assert len(lines.get_segments()) == steps
    assert ax.get_title(loc="left") == "80 ROIs"
    check_legible(ax.figure)
    # Fewer ROIs, fewer shared pixels, or filled=False: outlines.
    for ax in (
        rois.isel(roi=slice(0, 40)).s2p.plot(),
        crowd(80, (200, 200)).s2p.plot(),
        rois.s2p.plot(filled=False),
        rois.s2p.plot(highlight=[3]),
    ):
        assert not ax.images


def test_rois_that_share_pixels_have_different_colours_and_rejects_are_behind():
    rois = crowd(60)
    flags = np.arange(60) % 3 > 0
    ax = rois.assign_coords(iscell=("roi", flags)).s2p.plot()
    tint = np.asarray(ax.images[0].get_array())
    table = pixel_table(rois)
    kept = np.zeros((60, 70), bool)
    kept[table.ypix[flags[table.owner]], table.xpix[flags[table.owner]]] = True
    grey = np.abs(tint[..., :3] - to_rgba("#BDBDBD")[:3]).max(-1) < 1e-6
    has = tint[..., 3] > 0
    np.testing.assert_array_equal(has & grey, has & ~kept)
    assert ax.get_title(loc="left") == "60 ROIs, 20 of them rejected"
    colors = apart(table, 7)
    pairs = same = 0
    pixels = [set(table.flat[table.owner == i].tolist()) for i in range(60)]
    for i in range(60):
        for j in range(i):
            if pixels[i] & pixels[j]:
                pairs, same = pairs + 1, same + (colors[i] == colors[j])
    assert pairs > 90 and same <= 2


def test_contours_at_a_weight():
    rois = crowd(5)
    ax = rois.s2p.plot(contour=0.5)
    table = pixel_table(rois)
    for i, path in enumerate(ax.collections[0].get_paths()):
        own = slice(*table.offsets[i : i + 2])
        core = table.lam[own] >= 0.5 * table.lam[own].max()
        assert 0 < core.sum() < core.size
        expected = pixel_edges(table.ypix[own][core], table.xpix[own][core])
        found = path.vertices.reshape(-1, 2, 2)
        assert sorted(map(str, found.tolist())) == sorted(map(str, expected.tolist()))
    # What is outside counts for nothing: the cores of this crowd share few pixels.
    many = crowd(70, (90, 90))
    assert many.s2p.plot().images and not many.s2p.plot(contour=0.9).images
    with pytest.raises(ValueError, match="contour must be a number from 0 to 1"):
        rois.s2p.plot(contour=30)


def test_lines_are_thinner_the_more_there_are():
    widths = [
        crowd(n, (300, 300)).s2p.plot(filled=False).collections[0].get_linewidths()[0]
        for n in (20, 200, 800)
    ]
    np.testing.assert_allclose(widths, [1.5, 0.75, 0.4])
