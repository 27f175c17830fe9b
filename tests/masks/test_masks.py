"""Masks of any ROIs equal the naive versions: odd sizes, borders, crowded and starved frames."""

from __future__ import annotations

import dataclasses
import time
import warnings

import hypothesis.strategies as st
import naive
import numpy as np
import pytest
from hypothesis import given, settings
from loaders import square

import xs2p


@st.composite
def roi_sets(draw):
    Ly, Lx = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    stat = []
    for _ in range(draw(st.integers(1, 12))):
        height, width = rng.integers(1, min(8, Ly) + 1), rng.integers(1, min(8, Lx) + 1)
        y, x = rng.integers(0, Ly - height + 1), rng.integers(0, Lx - width + 1)
        ypix, xpix = np.nonzero(rng.random((height, width)) < 0.8)
        if not ypix.size:
            ypix = xpix = np.zeros(1, int)
        lam = (
            rng.choice([0.5, 1.0, 2.0], ypix.size) if rng.random() < 0.3 else rng.random(ypix.size)
        )
        order = rng.permutation(ypix.size)
        stat.append(
            {"ypix": (ypix + y)[order], "xpix": (xpix + x)[order], "lam": lam.astype(np.float32)}
        )
    return stat, (Ly, Lx)


@settings(max_examples=150, deadline=None)
@given(
    roi_sets(),
    st.sampled_from([0.0, 10.0, 50.0, 80.0, 99.9, 100.0]),
    st.booleans(),
    st.booleans(),
    st.integers(0, 4),
    st.sampled_from([0, 1, 30, 350, 10_000]),
)
def test_masks_equal_naive(rois, lam_percentile, circular, allow_overlap, inner, min_pixels):
    stat, shape = rois
    dataset = xs2p.rois_from_stat(stat, shape)
    for s, flags in zip(stat, naive.overlap(stat, shape), strict=True):
        s["overlap"] = flags
        s["radius"] = naive.radius(s)
    np.testing.assert_array_equal(dataset.overlap, np.concatenate([s["overlap"] for s in stat]))
    np.testing.assert_allclose(dataset.radius, [s["radius"] for s in stat], rtol=1e-9, atol=1e-9)
    dataset = dataset.assign_coords(radius=("roi", [s["radius"] for s in stat]))
    if 5 * np.median(dataset.radius) < 1:  # no window at all: SciPy refuses, we take one pixel
        lam_percentile = 0.0
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*ROIs lack a mask.*")
        masks = xs2p.build_masks(
            dataset,
            lam_percentile=lam_percentile,
            allow_overlap=allow_overlap,
            inner_neuropil_radius=inner,
            min_neuropil_pixels=min_pixels,
            circular_neuropil=circular,
        )
    cells = naive.cell_image(stat, shape, lam_percentile)
    np.testing.assert_array_equal(xs2p.cell_image(dataset, lam_percentile), cells)
    for n, s in enumerate(stat):
        pixels, weights = naive.cell_mask(s, shape, allow_overlap)
        order = np.argsort(pixels)
        own = slice(*masks.cell.indptr[n : n + 2])
        np.testing.assert_array_equal(masks.cell.indices[own], pixels[order])
        np.testing.assert_array_equal(masks.cell.data[own], weights[order])
        ring = naive.neuropil_mask(s, cells, inner, min_pixels, circular)
        own = slice(*masks.neuropil.indptr[n : n + 2])
        np.testing.assert_array_equal(masks.neuropil.indices[own], ring)
        status = "ok" if ring.size else "no_neuropil_pixels"
        assert masks.rois.status[n] == (status if pixels.size else "no_cell_pixels")


@pytest.mark.parametrize("circular", [False, True])
def test_growth_ends_after_100_rounds(circular):
    shape = (3, 1300)
    stat = [square(0, 10, size=2)]
    rois = xs2p.rois_from_stat(stat, shape)
    masks = xs2p.build_masks(rois, min_neuropil_pixels=10**10, circular_neuropil=circular)
    cells = xs2p.cell_image(rois).values
    ring = naive.neuropil_mask(stat[0], cells, 2, 10**10, circular)
    np.testing.assert_array_equal(masks.neuropil.indices, ring)
    assert (ring % 1300).max() == 11 + 2 + 500


def test_radius_of_nothing_takes_a_window_of_one_pixel():
    rois = xs2p.rois_from_stat([square(3, 3, size=1), square(9, 9, size=1)], (20, 20))
    assert (rois.radius == 0).all()
    assert xs2p.cell_image(rois).sum() == 2


def test_options_are_kept():
    rois = xs2p.rois_from_stat([square(3, 3)], (20, 20))
    masks = xs2p.build_masks(rois, allow_overlap=True, min_neuropil_pixels=50)
    assert masks.attrs["allow_overlap"] == 1 and masks.attrs["min_neuropil_pixels"] == 50
    assert repr(masks) == (
        f"<xs2p.Masks: 1 ROIs on 20 × 20, cell 9 pixels, neuropil {masks.neuropil.nnz} pixels>"
    )


def test_masks_refuse_matrices_that_do_not_fit():
    import dataclasses

    rois = xs2p.rois_from_stat([square(3, 3), square(9, 9)], (20, 20))
    masks = xs2p.build_masks(rois)
    with pytest.raises(ValueError, match=r"the cell masks are \(400, 1\), expected .* \(400, 2\)"):
        dataclasses.replace(masks, cell=masks.cell[:, [0]])
    with pytest.raises(ValueError, match="neuropil weights of an ROI must be equal"):
        dataclasses.replace(masks, neuropil=masks.neuropil * 2)


def test_tokens_cover_labels():
    """Equal pixels of other ROIs are other masks; what goes into a graph for pixels is shared."""
    from dask.base import tokenize

    rois = xs2p.sample_rois()
    masks = xs2p.build_masks(rois)
    assert tokenize(masks) == tokenize(xs2p.build_masks(xs2p.sample_rois()))
    other = xs2p.build_masks(rois.assign_coords(roi=rois.roi + 1000))
    named = xs2p.build_masks(rois.assign_coords(depth=("roi", np.arange(98.0))))
    assert masks.token == other.token == named.token
    assert len({tokenize(masks), tokenize(other), tokenize(named)}) == 3
    status = masks.rois.status.copy(data=np.array(["no_cell_pixels"] * 98, object))
    changed = dataclasses.replace(masks, rois=masks.rois.assign_coords(status=status))
    assert tokenize(changed) != tokenize(masks)


@pytest.mark.parametrize("inner", [0, 2])
def test_crowded_frames_grow_by_tables_of_the_frame(
    inner: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same masks with tables and without, where ROIs touch and where they are few."""
    from xs2p.masks import masks_cpu

    rng = np.random.default_rng(0)
    labels = rng.integers(0, 400, (50, 61)) * (rng.random((50, 61)) < 0.6)
    rois = xs2p.rois_from_labels(labels)
    found = []
    for crowded in (0, 10**9):
        monkeypatch.setattr(masks_cpu, "_CROWDED", crowded)
        masks = xs2p.build_masks(rois, inner_neuropil_radius=inner, min_neuropil_pixels=30)
        assert masks.neuropil is not None and masks.neuropil.nnz
        found.append(masks.token)
    assert found[0] == found[1]


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_a_radius_that_is_none_is_named(wrong: float) -> None:
    rois = xs2p.sample_rois()
    odd = rois.assign_coords(radius=rois.radius.where(rois.roi != 7, wrong))
    for call in (xs2p.build_masks, xs2p.cell_image, xs2p.sample_movie().s2p.extract):
        with pytest.raises(
            ValueError, match=rf"radius must be finite.* is {wrong} for roi 7; give"
        ):
            call(odd)
        with pytest.raises(ValueError, match="the ROI set has no radius over roi"):
            call(rois.drop_vars("radius"))


@pytest.mark.slow
def test_masks_of_many_rois_that_touch_take_no_time_by_their_square() -> None:
    labels = np.arange(1, 200**2 + 1).reshape(200, 200)
    with pytest.warns(UserWarning, match="no_neuropil_pixels"):
        start = time.perf_counter()
        xs2p.build_masks(xs2p.rois_from_labels(labels))
    assert time.perf_counter() - start < 5  # 13 s and more by boxes
