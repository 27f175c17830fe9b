"""Regions of ImageJ: against the masks that ImageJ itself makes of them, and back."""

from __future__ import annotations

import itertools
import math
import tracemalloc
import zipfile
from fractions import Fraction

import numpy as np
import pytest
import roifile
import xarray as xr
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from loaders import DATA

import xs2p
from xs2p.io.rois.imagej import fill, flatten, pixels_of
from xs2p.io.rois.outlines import outlines, region
from xs2p.io.rois.runs import runs_of_oval
from xs2p.testing import raise_if_dask_computes

ROISET = DATA / "imagej_regions.zip"


def theirs():
    """Regions written by ImageJ 1.53t, and the pixels of its own masks of them."""
    z = np.load(DATA / "imagej_masks.npz")
    wanted = {
        str(name): set(zip(z["ypix"][a:b].tolist(), z["xpix"][a:b].tolist(), strict=True))
        for name, a, b in zip(z["name"], z["offsets"], z["offsets"][1:], strict=False)
    }
    regions = {roi.name: roi for roi in roifile.roiread(ROISET)}
    return regions, wanted


REGIONS, MASKS = theirs()
ODD = sorted(set(REGIONS) - set(MASKS))


def pixels(ypix, xpix):
    assert len(ypix) == len(xpix)
    found = set(zip(np.asarray(ypix).tolist(), np.asarray(xpix).tolist(), strict=True))
    assert len(found) == len(ypix), "a pixel twice"
    return found


def by_centres(x, y, shape):
    """Even-odd rule by its definition: how many edges a ray from a centre to the right crosses.

    Also how near an edge comes to a centre in its row: at 0 the rule does not say.
    """
    inside, nearest = np.zeros(shape, bool), np.inf
    edges = list(zip(x, y, np.roll(x, -1), np.roll(y, -1), strict=True))
    for row, column in np.ndindex(shape):
        cy, cx = row + 0.5, column + 0.5
        for xa, ya, xb, yb in edges:
            if (ya > cy) != (yb > cy):
                crossing = xa + (cy - ya) / (yb - ya) * (xb - xa)
                inside[row, column] ^= cx < crossing
                nearest = min(nearest, abs(crossing - cx))
    return inside, nearest


@pytest.mark.parametrize("name", sorted(MASKS))
def test_pixels_are_those_of_imagej(name):
    assert pixels(*pixels_of(REGIONS[name])) == MASKS[name]


def test_the_file_holds_every_kind():
    kinds = {(int(roi.roitype), int(roi.subtype)) for roi in REGIONS.values()}
    # polygon, rectangle, oval, freehand, ellipse, rotated rectangle, traced, points
    assert {(0, 0), (1, 0), (2, 0), (7, 0), (7, 3), (7, 5), (8, 0), (10, 0)} <= kinds
    some = [name.split("-")[0] for name in MASKS]
    assert {"shape", "curve", "round", "neg", "thr"} <= set(some)
    assert len(MASKS) > 140 and len(ODD) == 7


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("line", "a straight line, and no area"),
        ("arrow", "a straight line, and no area"),
        ("polyline", "a polyline, and no area"),
        ("freeline", "a freehand line, and no area.*Line to Area"),
        ("angle", "an angle, and no area"),
        ("text", "a text, and no area: take it out"),
        ("spline-0", "a spline .* Interpolate"),
    ],
)
def test_what_has_no_area_is_named(name, what, tmp_path):
    assert name in ODD
    (tmp_path / "a.roi").write_bytes(REGIONS[name].tobytes())
    with pytest.raises(ValueError, match=rf"a\.roi: the region '{name}' is {what}"):
        xs2p.read_rois(tmp_path / "a.roi", shape=(40, 40))


corners = st.lists(
    st.tuples(st.integers(0, 72), st.integers(0, 72)), min_size=3, max_size=8, unique=True
)


@settings(max_examples=60, deadline=None)
@given(corners)
def test_filling_is_the_even_odd_rule(points):
    x, y = np.array(points).T / 8 + [[0.013], [0.017]]  # eighths of a pixel, off the centres
    wanted, nearest = by_centres(x, y, (11, 11))
    assume(nearest > 1e-6)
    ypix, xpix = fill([np.stack([x, y], 1)])
    image = np.zeros((11, 11), bool)
    image[ypix, xpix] = True
    np.testing.assert_array_equal(image, wanted)


def exactly(points, shape):
    """Pixels of a polygon of whole coordinates, in fractions: no rounding decides."""
    half, inside = Fraction(1, 2), np.zeros(shape, bool)
    for row in range(shape[0]):
        crossings = sorted(
            xa + (row + half - ya) * Fraction(xb - xa) / (yb - ya)
            for (xa, ya), (xb, yb) in zip(points, points[1:] + points[:1], strict=True)
            if (ya < row + half) != (yb < row + half)
        )
        for start, stop in zip(crossings[::2], crossings[1::2], strict=True):
            inside[row, math.floor(start + half) : math.floor(stop + half)] = True
    return inside


@pytest.mark.parametrize(
    "points",
    [
        [(9, 23), (1, 33), (37, 5)],
        [(39, 7), (39, 34), (6, 22)],
        [(2, 31), (20, 17), (13, 38)],
        [(1, 21), (10, 14), (34, 6)],
    ],
)
def test_rounding_does_not_decide_of_centres_on_the_outline(points):
    """Of these triangles a crossing comes out just left of the centre that it goes through."""
    image = np.zeros((40, 40), bool)
    image[fill([np.array(points, float)])] = True
    np.testing.assert_array_equal(image, exactly(points, (40, 40)))


def test_points_are_the_pixels_they_lie_in():
    """ImageJ's PointRoi.getContainedPoints; its masks of such points cover others."""
    points = roifile.ImagejRoi.frompoints([[9.2, 3.2], [9.5, 3.5], [9.99, 3.99], [0.0, 7.0]])
    points.roitype = roifile.ROI_TYPE.POINT
    assert pixels(*pixels_of(points)) == {(3, 9), (7, 0)}


class TestSet:
    @pytest.fixture
    def path(self, tmp_path):
        roifile.roiwrite(tmp_path / "RoiSet.zip", [REGIONS[name] for name in MASKS])
        return tmp_path / "RoiSet.zip"

    def test_reads_a_roiset(self, path):
        with (
            raise_if_dask_computes(),
            pytest.warns(UserWarning, match=r"pixels of 4 ROIs .*neg-oval, neg-pol"),
        ):
            rois = xs2p.read_rois(path, shape=(250, 260))
        assert rois.name.values.tolist() == list(MASKS)
        assert rois.roi.values.tolist() == list(range(len(MASKS)))
        assert (rois.lam == 1).all() and rois.attrs == {"Ly": 250, "Lx": 260}
        for i, mask in enumerate(MASKS.values()):
            own = rois.pixel_roi.values == i
            inside = {p for p in mask if min(p) >= 0}
            assert pixels(rois.ypix.values[own], rois.xpix.values[own]) == inside
        index = list(MASKS).index("pos")
        assert [int(rois[f"{key}_position"][index]) for key in "czt"] == [1, 2, 3]

    def test_needs_the_frame(self, path):
        with pytest.raises(ValueError, match=r"RoiSet\.zip: .* size of the frame.*shape=\(Ly, Lx"):
            xs2p.read_rois(path)

    def test_objects_of_roifile(self):
        for source in (REGIONS["rect-0"], [REGIONS["rect-0"]], np.array([REGIONS["rect-0"]])):
            rois = xs2p.read_rois(source, shape=(40, 40))
            assert pixels(rois.ypix.values, rois.xpix.values) == MASKS["rect-0"]

    def test_wholly_outside(self):
        with pytest.warns(UserWarning, match=r"1 ROIs lie wholly outside .* outside_frame"):
            rois = xs2p.read_rois([REGIONS["rect-0"], REGIONS["rect-1"]], shape=(3, 9))
        assert "outside_frame" in rois.status.values

    def test_archives(self, tmp_path, path):
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            archive.writestr("__MACOSX/._b.roi", b"junk")
            archive.writestr("note.txt", b"junk")
        with pytest.raises(ValueError, match=r"a\.zip: no \.roi is in it \(of 2 files\)"):
            xs2p.read_rois(tmp_path / "a.zip", shape=(9, 9))
        nameless = REGIONS["rect-0"].tobytes()
        nameless = nameless[:60] + bytes(4) + nameless[64:]  # as before ImageJ 1.43: no header 2
        with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
            archive.writestr("in/first.roi", nameless)
        rois = xs2p.read_rois(tmp_path / "a.zip", shape=(40, 40))
        assert rois.name.values.tolist() == ["first"]
        with zipfile.ZipFile(tmp_path / "a.zip", "a") as archive:
            archive.writestr("bad.roi", b"Iout" + bytes(3))
        with pytest.raises(ValueError, match=r"a\.zip: bad\.roi is no region of ImageJ's"):
            xs2p.read_rois(tmp_path / "a.zip", shape=(9, 9))
        path.write_bytes(path.read_bytes()[:500])
        with pytest.raises(ValueError, match=r"RoiSet\.zip: no zip archive can be read"):
            xs2p.read_rois(path, shape=(9, 9))

    def test_damaged_outlines(self):
        composite = next(r for r in REGIONS.values() if r.shape_roi_size)
        for steps in ([7.0, 1, 2], [1.0, 2, 3], [0.0, 1]):
            roi = roifile.ImagejRoi.frombytes(composite.tobytes())
            roi.multi_coordinates = np.array(steps, np.float32)
            with pytest.raises(ValueError, match="is damaged"):
                xs2p.read_rois(roi, shape=(40, 40))
        roi = roifile.ImagejRoi.frompoints([[1.0, 2], [3, 3], [4, 5]])
        roi.subpixel_coordinates[1, 0] = np.nan
        with pytest.raises(ValueError, match="is damaged .* not finite"):
            xs2p.read_rois(roi, shape=(40, 40))


blobs = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(
    lambda shape: (
        st.lists(st.booleans(), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1])
        .filter(any)
        .map(lambda flags: np.array(flags).reshape(shape))
    )
)


@settings(max_examples=150, deadline=None)
@given(blobs, st.integers(0, 3), st.integers(0, 3))
def test_outlines_enclose_the_very_pixels(blob, top, left):
    """Of any blob: with holes, several parts, one pixel; filled by roifile's coordinates."""
    ypix, xpix = np.nonzero(blob)
    ypix, xpix = ypix + top, xpix + left
    made = roifile.ImagejRoi.frombytes(region(ypix, xpix, "blob").tobytes())
    assert pixels(*pixels_of(made)) == pixels(ypix, xpix)
    # And by roifile's own coordinates, with the rule as it is defined.
    inside = np.zeros((13, 13), int)
    for path in made.coordinates(multi=True):
        inside += by_centres(path[:, 0], path[:, 1], (13, 13))[0]
    assert pixels(*np.nonzero(inside % 2)) == pixels(ypix, xpix)
    # Corner points only: no outline goes straight on.
    for path in outlines(ypix, xpix):
        steps = np.diff(np.vstack([path, path[:1]]), axis=0)
        assert (np.count_nonzero(steps, axis=1) == 1).all()
        assert (np.count_nonzero(steps[:-1] * steps[1:], axis=1) == 0).all()


def test_one_part_is_traced_and_others_composite():
    square = np.ones((3, 3), bool)
    ring = square.copy()
    ring[1, 1] = False
    corner = np.eye(2, dtype=bool)
    apart = np.array([[True, False, True]])
    kinds = [region(*np.nonzero(b), "r").roitype.name for b in (square, ring, corner, apart)]
    assert kinds == ["TRACED", "RECT", "TRACED", "RECT"]
    assert [len(outlines(*np.nonzero(b))) for b in (square, ring, corner, apart)] == [1, 2, 1, 2]
    whole = region(*np.nonzero(square), "r").coordinates().tolist()
    assert sorted(whole) == [[0, 0], [0, 3], [3, 0], [3, 3]]


def test_a_result_of_extract_goes_to_imagej(tmp_path):
    rois = xs2p.sample_rois()
    ds = xs2p.sample_movie().s2p.extract(rois, tau=1.0)
    with raise_if_dask_computes():
        path = xs2p.write_rois(ds, tmp_path / "RoiSet.zip")
    back = xs2p.read_rois(path, shape=(64, 64))
    for key in ("roi", "npix"):
        xr.testing.assert_equal(back[key].variable, rois[key].variable)


def test_curves_of_both_orders():
    """A quadratic curve, and the cubic one that is the same."""
    p = np.array([[2.0, 3.0], [20.0, -4.0], [17.0, 19.0]])
    cubic = [p[0], p[0] + 2 / 3 * (p[1] - p[0]), p[2] + 2 / 3 * (p[1] - p[2]), p[2]]
    paths = [[0, *p[0], 2, *p[1], *p[2], 4], [0, *cubic[0], 3, *np.ravel(cubic[1:]), 4]]
    t = np.linspace(0, 1, 20_000)[:, None]
    fine = (1 - t) ** 2 * p[0] + 2 * t * (1 - t) * p[1] + t**2 * p[2]
    wanted = pixels(*fill([fine]))
    assert len(wanted) > 50
    for path in paths:
        found = pixels(*fill(flatten(np.array(path, float))))
        assert len(found ^ wanted) <= 1


def test_ovals_of_any_size():
    """Row by row, the pixels that a look at all of the box finds."""
    for height, width in itertools.product((0, 1, 2, 3, 8, 9, 40, 301), repeat=2):
        b, a = height / 2, width / 2
        y, x = np.arange(height)[:, None], np.arange(width)
        inside = np.zeros((height, width), bool)
        if inside.size:
            inside = (x - (a - 0.5)) ** 2 / (a * a) + (y - (b - 0.5)) ** 2 / (b * b) <= 1
        ypix, xpix = runs_of_oval(3, -2, 3 + height, -2 + width).pixels()
        np.testing.assert_array_equal(np.stack(np.nonzero(inside)), [ypix - 3, xpix + 2])


@pytest.mark.parametrize("kind", ["box", "oval", "polygon", "vertex", "points", "zigzag"])
def test_regions_far_larger_than_the_frame(kind, tmp_path):
    """A few bytes tell of 1e9 pixels and more: those in the frame are read, the others counted."""
    far = {"vertex": 1e9, "points": 3e4, "zigzag": 3e4}.get(kind, 20_000)
    corners = np.array([[2, 1], [far, 1], [far, far], [2, far]], np.float32)
    if kind == "zigzag":
        corners = np.array([[2 + 9 * (k % 2), far * (k % 2)] for k in range(4000)], np.float32)
    region = roifile.ImagejRoi.frompoints(corners)
    if kind in ("box", "oval"):
        region.roitype = roifile.ROI_TYPE.RECT if kind == "box" else roifile.ROI_TYPE.OVAL
        region.top, region.left, region.bottom, region.right = 1, 2, 20_001, 20_002
    elif kind == "points":
        region.roitype = roifile.ROI_TYPE.POINT
    region.tofile(tmp_path / "far.roi")
    tracemalloc.start()
    with pytest.warns(UserWarning, match=r"far.roi: \d+ pixels of 1 ROIs lie outside"):
        rois = xs2p.read_rois(tmp_path / "far.roi", shape=(10, 12))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6
    if kind in ("box", "polygon", "vertex"):
        assert rois.npix.values.tolist() == [9 * 10]


def test_a_region_that_goes_elsewhere_is_bounded(tmp_path):
    region = roifile.ImagejRoi.frompoints(np.array([[0, 0], [30_000, 0], [30_000, 30_000]], float))
    region.tofile(tmp_path / "far.roi")
    with pytest.raises(ValueError, match=r"far.roi.*pixels.*shifted or scaled"):
        xs2p.read_rois(tmp_path / "far.roi", shape=(10, 12), scale=0.1)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    path = tmp_path / "RoiSet.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.roi", b"Iout" + bytes(10**8))
    with pytest.raises(ValueError, match=r"RoiSet.zip.*bytes unpacked"):
        xs2p.read_rois(path, shape=(10, 12))
