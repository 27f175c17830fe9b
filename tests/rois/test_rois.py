from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import xarray as xr
from loaders import DATA, reference, square, stat_of

import xs2p
from xs2p.rois.convert import rois_to_stat


def assert_same_pixels(rois, stat):
    back = rois_to_stat(rois)
    assert len(back) == len(stat)
    for entry, expected in zip(back, stat, strict=True):
        for key in ("ypix", "xpix", "lam"):
            np.testing.assert_array_equal(entry[key], expected[key])


def test_schema_and_computed_fields():
    stat = [square(1, 2), square(3, 4), square(10, 10, size=2, lam=0.5)]
    rois = xs2p.rois_from_stat(stat, (16, 20))
    assert dict(rois.sizes) == {"roi": 3, "pixel": 22}
    assert rois.attrs == {"Ly": 16, "Lx": 20}
    assert rois.npix.values.tolist() == [9, 9, 4]
    assert rois.med_y.values.tolist() == [2, 4, 10.5]
    assert rois.med_x.values.tolist() == [3, 5, 10.5]
    assert rois.overlap.values.sum() == 2
    np.testing.assert_allclose(rois.frac_overlap, [1 / 9, 1 / 9, 0])
    assert rois.status.values.tolist() == ["ok"] * 3
    np.testing.assert_array_equal(rois.pixel_roi, np.repeat([0, 1, 2], [9, 9, 4]))
    # Side by side pixels 0, 1, 2 have variance 2/3, pixels 0, 1 have 1/4.
    np.testing.assert_allclose(rois.radius, [2 * np.sqrt(2 / 3)] * 2 + [1.0])
    assert_same_pixels(rois, stat)


@pytest.mark.parametrize("name", ["nape_ofc_vta_2p", "pynapple_a0662_1p"])
def test_computed_overlap_equals_counting(name):
    z = np.load(DATA / f"{name}.npz")
    stat = [
        {k: v for k, v in s.items() if k in ("ypix", "xpix", "lam")}
        for s in stat_of(z, z["roi_offsets"])
    ]
    Ly, Lx = int(z["ops_Ly"]), int(z["ops_Lx"])
    count = np.zeros((Ly, Lx), int)
    for s in stat:
        count[s["ypix"], s["xpix"]] += 1
    rois = xs2p.rois_from_stat(stat, (Ly, Lx))
    np.testing.assert_array_equal(rois.overlap, count[rois.ypix, rois.xpix] > 1)
    flagged = rois.assign(overlap=rois.overlap | True)
    np.testing.assert_array_equal(xs2p.recompute_overlap(flagged).overlap, rois.overlap)


def test_radius_is_the_references():
    stat = xs2p.read_rois(DATA / "suite2p-folder-2p")
    stored = stat.radius.values
    fields = [{k: v for k, v in s.items() if k != "radius"} for s in rois_to_stat(stat)]
    computed = xs2p.rois_from_stat(fields, (stat.attrs["Ly"], stat.attrs["Lx"])).radius
    np.testing.assert_allclose(computed, stored, rtol=1e-6)


def test_nothing_of_a_stat_is_lost():
    stat = [
        square(
            i,
            i,
            med=[i, i + 1],
            iscell=i % 2,
            skew=np.float32(i) / 3,
            label=f"cell {i}",
            manual=bool(i),
            soma_crop=np.arange(9) > i,
            neuropil_mask=np.arange(5 + i),
            roi="taken",
        )
        for i in range(4)
    ]
    stat[2]["chan2_prob"] = 0.25
    rois = xs2p.rois_from_stat(stat, (20, 20))
    assert rois.skew.dtype == np.float32
    assert rois.iscell.dims == ("roi",)
    assert rois.soma_crop.dims == ("pixel",)
    for i, (entry, expected) in enumerate(zip(rois_to_stat(rois), stat, strict=True)):
        for key, value in expected.items():
            np.testing.assert_array_equal(entry[key], value, err_msg=f"{key} of ROI {i}")
        assert ("chan2_prob" in entry) == (i == 2)
    # And after a selection, out of order.
    some = rois_to_stat(rois.isel(roi=[3, 1]))
    for entry, expected in zip(some, (stat[3], stat[1]), strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(entry[key], value, err_msg=key)


def test_fields_that_cannot_be_kept_are_named():
    stat = [square(0, 0, weird={"a": 1}), square(4, 4, weird={"b": 2})]
    with pytest.warns(UserWarning, match="'weird' is left out"):
        rois = xs2p.rois_from_stat(stat, (9, 9))
    assert "weird" not in rois


def test_selection_over_roi_keeps_a_valid_set():
    _, stat, shape, _ = reference("masks_dense_default")
    rois = xs2p.rois_from_stat(stat, shape)
    order = [50, 3, 88, 0]
    picked = rois.isel(roi=order)
    assert_same_pixels(picked, [stat[i] for i in order])
    assert_same_pixels(rois.sel(roi=rois.npix > 80), [s for s in stat if len(s["lam"]) > 80])
    assert_same_pixels(rois.isel(roi=[]), [])
    with pytest.raises(ValueError, match=r"Select over roi only: rois\.isel\(roi=\.\.\.\)"):
        xs2p.build_masks(rois.isel(pixel=slice(10, None)))
    with pytest.raises(ValueError, match="roi labels are not unique"):
        xs2p.build_masks(rois.isel(roi=[1, 1]))


def test_other_labels_keep_their_pixels():
    stat = [square(i, 2 * i) for i in (1, 5, 9)]
    rois = xs2p.rois_from_stat(stat, (20, 30))
    for labels in ([2, 1, 0], [7, 8, 9], [1, 2, 3]):
        renamed = rois.assign_coords(roi=labels)
        assert_same_pixels(renamed, stat)
        assert_same_pixels(renamed.sel(roi=labels[::-1]), stat[::-1])
        assert_same_pixels(renamed.sortby("roi"), [stat[i] for i in np.argsort(labels)])
    with pytest.raises(ValueError, match="an ROI is in the set twice, or two sets were joined"):
        xs2p.build_masks(rois.isel(roi=[0, 0]).assign_coords(roi=[0, 1]))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda rois: rois.isel(roi=1),
        lambda rois: rois.sel(roi=1),
        lambda rois: rois.where(rois.npix > 5, drop=True),
        lambda rois: rois.astype(float),
    ],
)
def test_what_is_no_roi_set_any_more_is_said(spoil):
    rois = xs2p.rois_from_stat([square(1, 1), square(5, 5, size=2)], (20, 30))
    with pytest.raises(ValueError, match=r"no ROI set any more: .*rois\.isel\(roi=\[3\]\)"):
        xs2p.build_masks(spoil(rois))


def test_fields_that_some_rois_lack_come_back_as_they_were():
    stat = [square(4 * i, 4 * i) for i in range(4)]
    for i in (0, 2):
        stat[i] |= {"med": [4 * i, 4 * i + 2], "radius": 9.0, "day": np.int64(i), "good": True}
        stat[i] |= {"neuropil_mask": np.arange(i), "who": "me", "spks": 3.0, "tau": 0.7}
    rois = xs2p.rois_from_stat(stat, (20, 20))
    assert rois.radius.values[[0, 2]].tolist() == [9, 9] and rois.radius.values[1] < 3
    assert rois.med_x.values.tolist() == [2, 5, 10, 13]
    for entry, expected in zip(rois_to_stat(rois), stat, strict=True):
        for key, value in expected.items():
            np.testing.assert_array_equal(entry[key], value, err_msg=key)
            if key in ("day", "good"):
                assert type(entry[key]) is np.asarray(value).dtype.type
        extra = {"overlap", "npix", "med", "radius"}
        assert set(entry) == set(expected) | extra


def test_fields_of_mixed_kinds_are_named():
    stat = [square(0, 0, note=1), square(4, 4, note="a")]
    with pytest.warns(UserWarning, match="'note' is left out"):
        assert "note" not in xs2p.rois_from_stat(stat, (9, 9))


def test_labels_of_footprints_are_kept():
    A = xr.DataArray(
        np.eye(4).reshape(2, 2, 4)[:, :, :3],
        dims=("roi", "y", "x"),
        coords={"roi": [10, 20], "depth": ("roi", [80.0, 90.0]), "y": [0, 1]},
    )
    rois = xs2p.rois_from_footprints(A)
    assert rois.roi.values.tolist() == [10, 20] and rois.depth.values.tolist() == [80, 90]
    assert "y" not in rois.coords


def test_large_labels_do_not_wrap():
    image = np.zeros((3, 3), np.int64)
    image[1, 1] = 2**40 + 5
    np.testing.assert_array_equal(xs2p.rois_from_labels(image).s2p.to_labels(), image)


def test_labels_round_trip():
    image = np.zeros((30, 40), np.uint16)
    image[2:6, 3:9] = 7
    image[20:25, 30:39] = 3
    image[29, 39] = 65535
    rois = xs2p.rois_from_labels(image)
    assert rois.roi.values.tolist() == [3, 7, 65535]
    assert (rois.lam == 1).all()
    np.testing.assert_array_equal(rois.s2p.to_labels(), image)
    labels = xr.DataArray(image, dims=("y", "x"))
    xr.testing.assert_identical(xs2p.rois_from_labels(labels), rois)


def test_labels_of_overlapping_rois_go_to_the_heavier():
    stat = [square(0, 0, lam=1.0), square(2, 2, lam=2.0), square(4, 4, lam=2.0)]
    labels = xs2p.rois_from_stat(stat, (8, 8)).s2p.to_labels()
    assert labels.attrs["values"] == "position in roi, plus 1"
    assert labels[2, 2] == 2  # the heavier of 1 and 2
    assert labels[4, 4] == 2  # the first of equals
    assert labels[0, 0] == 1 and labels[6, 6] == 3 and labels[7, 0] == 0


def test_footprints_dense_and_sparse_in_both_orders():
    _, stat, shape, _ = reference("masks_sparse_default")
    dense = np.zeros((len(stat), *shape), np.float32)
    for n, s in enumerate(stat):
        dense[n, s["ypix"], s["xpix"]] = s["lam"]
    expected = xs2p.rois_from_footprints(dense)
    np.testing.assert_array_equal(expected.npix, [len(s["lam"]) for s in stat])
    labelled = xr.DataArray(dense, dims=("roi", "y", "x"))
    xr.testing.assert_identical(xs2p.rois_from_footprints(labelled), expected)
    in_c = sp.csr_matrix(dense.reshape(len(stat), -1).T)
    in_f = sp.coo_array(dense.transpose(0, 2, 1).reshape(len(stat), -1).T)
    for matrix, order in ((in_c, "C"), (in_f, "F")):
        rois = xs2p.rois_from_footprints(matrix, shape=shape, order=order)
        masks = xs2p.build_masks(rois)
        assert masks.token == xs2p.build_masks(expected).token


def without_warning(function, *args, **kwargs):
    return lambda: function(*args, **kwargs)


BAD = {
    "outside": (
        without_warning(xs2p.rois_from_stat, [square(0, 0), square(7, 0)], (9, 9)),
        r"ypix of roi 1 is 9, outside the frame \(Ly, Lx\) = \(9, 9\); 1 ROIs .*outside='drop'",
    ),
    "negative pixel": (
        without_warning(xs2p.rois_from_stat, [square(0, -1)], (9, 9)),
        "xpix of roi 0 is -1, outside",
    ),
    "twice": (
        without_warning(
            xs2p.rois_from_stat, [{"ypix": [1, 1], "xpix": [2, 2], "lam": [1, 1]}], (9, 9)
        ),
        r"roi 0 has pixels more than once, the first being \(y=1, x=2\)",
    ),
    "negative weight": (
        without_warning(xs2p.rois_from_stat, [square(0, 0, lam=-1)], (9, 9)),
        "lam of roi 0 holds -1.0; weights must be finite and not negative",
    ),
    "nan weight": (
        without_warning(xs2p.rois_from_stat, [square(0, 0, lam=np.nan)], (9, 9)),
        "lam of roi 0 holds nan",
    ),
    "lengths": (
        without_warning(xs2p.rois_from_stat, [{"ypix": [1], "xpix": [1, 2], "lam": [1]}], (9, 9)),
        r"stat\[0\]: ypix, xpix and lam must be 1-D and equally long",
    ),
    "no lam": (
        without_warning(xs2p.rois_from_stat, [{"ypix": [1], "xpix": [1]}], (9, 9)),
        r"stat\[0\] has no lam",
    ),
    "no dict": (
        without_warning(xs2p.rois_from_stat, [3], (9, 9)),
        r"stat\[0\] is int, not a dict",
    ),
    "odd key": (
        without_warning(xs2p.rois_from_stat, [square(0, 0) | {0: 1}], (9, 9)),
        r"stat\[0\] has the key 0; fields are named by strings",
    ),
    "half pixel": (
        without_warning(xs2p.rois_from_stat, [{"ypix": [1.5], "xpix": [1], "lam": [1]}], (9, 9)),
        "ypix must be whole pixel numbers, got 1.5",
    ),
    "shape": (
        without_warning(xs2p.rois_from_stat, [], (9, 9, 3)),
        r"shape must be \(Ly, Lx\), two positive integers, got \(9, 9, 3\)",
    ),
    "some overlap flags": (
        without_warning(
            xs2p.rois_from_stat,
            [square(0, 0, overlap=np.zeros(9, bool)), square(4, 4)],
            (9, 9),
        ),
        "'overlap' must hold one value per pixel in every ROI or be absent from all.* ROIs 1",
    ),
    "bad radius": (
        without_warning(xs2p.rois_from_stat, [square(0, 0, radius=np.nan)], (9, 9)),
        "radius must be finite and not negative, but is nan for roi 0",
    ),
    "float labels": (
        without_warning(xs2p.rois_from_labels, np.zeros((4, 4))),
        "labels must be integers, got float64",
    ),
    "bool labels": (
        without_warning(xs2p.rois_from_labels, np.zeros((4, 4), bool)),
        r"scipy\.ndimage\.label",
    ),
    "negative labels": (
        without_warning(xs2p.rois_from_labels, np.full((4, 4), -1)),
        r"labels must be 0 .* got -1; np.where\(labels < 0",
    ),
    "labels dims": (
        without_warning(xs2p.rois_from_labels, xr.DataArray(np.zeros((4, 4), int))),
        "rename",
    ),
    "labels 3-D": (
        without_warning(xs2p.rois_from_labels, np.zeros((4, 4, 4), int)),
        r"labels must be an image \(y, x\), got shape \(4, 4, 4\); choose one",
    ),
    "path of labels": (
        without_warning(xs2p.rois_from_labels, "labels.tif"),
        r"labels must be an array of integers \(y, x\), got str; tifffile.imread",
    ),
    "no stat": (
        without_warning(xs2p.rois_from_stat, None, (9, 9)),
        "stat must be a list or array of dicts, one per ROI, got NoneType; xs2p.read_rois",
    ),
    "sparse without order": (
        without_warning(xs2p.rois_from_footprints, sp.csc_array((16, 2)), shape=(4, 4)),
        "order='F'",
    ),
    "sparse transposed": (
        without_warning(xs2p.rois_from_footprints, sp.csc_array((2, 16)), shape=(4, 4), order="C"),
        "pass A.T if it is rois × pixels",
    ),
    "dense shape": (
        without_warning(xs2p.rois_from_footprints, np.zeros((2, 4, 4)), shape=(4, 5)),
        r"shape=\(4, 5\) disagrees with the array of footprints.*\(4, 4\); leave shape out",
    ),
    "not rois": (
        without_warning(xs2p.build_masks, [square(0, 0)]),
        "rois must be an ROI set .* got list",
    ),
    "other dataset": (
        without_warning(xs2p.build_masks, xr.Dataset()),
        "this Dataset is no ROI set: it lacks npix, ypix, xpix, lam, overlap, Ly, Lx",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_named(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_outside_pixels_can_be_dropped():
    stat = [square(0, 0), square(7, 7), square(20, 20)]
    with pytest.warns(UserWarning, match="14 pixels of 2 ROIs lie outside"):
        rois = xs2p.rois_from_stat(stat, (9, 9), outside="drop")
    assert rois.npix.values.tolist() == [9, 4, 0]
    assert rois.status.values.tolist() == ["ok", "ok", "outside_frame"]
    with pytest.warns(UserWarning, match=r"1 outside_frame \(roi 2\)"):
        masks = xs2p.build_masks(rois)
    assert masks.rois.status.values.tolist() == ["ok", "ok", "outside_frame"]


def test_inputs_are_not_modified():
    _, stat, shape, _ = reference("masks_dense_default")
    for s in stat:
        for values in s.values():
            if isinstance(values, np.ndarray):
                values.flags.writeable = False
    rois = xs2p.rois_from_stat(stat, shape)
    before = rois.copy(deep=True)
    xs2p.recompute_overlap(rois)
    rois.s2p.to_labels()
    rois.s2p.to_stat()
    rois.isel(roi=[2]).s2p.recompute_overlap()
    with pytest.warns(UserWarning):
        xs2p.build_masks(rois)
    xr.testing.assert_identical(rois, before)


def test_names_of_traces_are_not_taken_by_fields_of_a_stat():
    from xs2p._attrs import TRACES
    from xs2p.io.nwb.file import SERIES
    from xs2p.io.suite2p.names import STORED

    assert tuple(SERIES) == TRACES and set(STORED) < set(TRACES)
    stat = [{**square(1, 1), **dict.fromkeys(TRACES, 0.5)}]
    rois = xs2p.rois_from_stat(stat, (9, 9))
    assert not set(TRACES) & set(rois.variables)
    assert rois_to_stat(rois)[0]["dFF"] == 0.5


@pytest.mark.parametrize(
    "reader", ["read_rois", "rois_from_footprints", "rois_from_nwb", "read_nwb"]
)
def test_readers_take_shape_by_name_only(reader):
    with pytest.raises(TypeError, match="positional"):
        getattr(xs2p, reader)("stat.npy", (9, 9))
