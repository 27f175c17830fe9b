"""Traces and ROIs under the names of IBL's ALF: out, as ONE loads it, in, and of others' hands."""

from __future__ import annotations

import itertools
import json
import uuid

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.io.alf.masks import read_masks
from xs2p.testing import raise_if_dask_computes, simulate

LY, LX, N, T = 30, 41, 12, 200
KEYS = ("F", "Fneu", "spks")


@pytest.fixture(scope="module")
def recording():
    movie, rois, _ = simulate(N, (LY, LX), T, fs=10.0, chunks=70)
    return movie, rois


@pytest.fixture(scope="module")
def masks(recording):
    return xs2p.build_masks(recording[1], min_neuropil_pixels=60)


@pytest.fixture(scope="module")
def ds(recording):
    movie, rois = recording
    valid = np.ones(T, bool)
    valid[[0, 7, 8]] = False
    made = movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=60, valid=valid, dff=True)
    made = made.assign_coords(
        iscell=("roi", np.arange(N) % 3 > 0), iscell_prob=("roi", np.linspace(0, 1, N))
    )
    made["meanImg"] = movie.s2p.mean_image()
    return made.compute()


@pytest.fixture(scope="module")
def fov(ds, masks, tmp_path_factory):
    path = tmp_path_factory.mktemp("session") / "alf"
    xs2p.write_alf(ds, path, masks=masks)
    return path / "FOV_00"


def check_same(found, ds, *more):
    for name in (*KEYS, "roi", "time", "ypix", "xpix", "lam", "overlap", "npix", "status", *more):
        np.testing.assert_array_equal(found[name], ds[name], err_msg=name)
        assert found[name].dims == ds[name].dims


def dense(masks):
    image = np.zeros((masks.npix.size, *masks.frame), masks.values.dtype)
    image.reshape(masks.npix.size, -1)[
        np.repeat(np.arange(masks.npix.size), masks.npix), masks.flat
    ] = masks.values
    return image


def test_files_have_the_shapes_and_dtypes_of_alf(ds, fov, masks):
    for key, name in zip(
        KEYS, ("ROIActivityF", "ROINeuropilActivityF", "ROIActivityDeconvolved"), strict=True
    ):
        array = np.load(fov / f"mpci.{name}.npy")
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, ds[key].T)
    of = {path.name: np.load(path) for path in fov.glob("*.npy")}
    np.testing.assert_allclose(of["mpci.times.npy"], np.arange(T) / 10)
    assert np.flatnonzero(of["mpci.badFrames.npy"]).tolist() == [0, 7, 8]
    assert of["mpci.badFrames.npy"].dtype == bool
    assert of["mpciROIs.mpciROITypes.npy"].dtype == np.int16
    np.testing.assert_array_equal(of["mpciROIs.mpciROITypes.npy"], ds.iscell)
    np.testing.assert_array_equal(of["mpciROIs.cellClassifier.npy"], ds.iscell_prob)
    want = np.stack([np.rint(ds.med_y), np.rint(ds.med_x), 0 * ds.med_x], axis=1)
    np.testing.assert_array_equal(of["mpciROIs.stackPos.npy"], want)
    np.testing.assert_array_equal(of["mpciMeanImage.images.npy"], ds.meanImg)
    rows = (fov / "mpciROIs.uuids.csv").read_text().split()
    assert rows[0] == "uuids" and len({uuid.UUID(row) for row in rows[1:]}) == N
    assert (fov / "mpciROITypes.names.tsv").read_text().splitlines() == [
        "roi_values\troi_labels", "0\tno cell", "1\tcell",
    ]  # fmt: skip
    found = dense(read_masks(fov / "mpciROIs.masks.sparse_npz"))
    want = np.zeros((N, LY, LX), "f4")
    want[np.repeat(np.arange(N), ds.npix), ds.ypix, ds.xpix] = ds.lam
    np.testing.assert_array_equal(found, want)
    around = dense(read_masks(fov / "mpciROIs.neuropilMasks.sparse_npz"))
    np.testing.assert_array_equal(around.reshape(N, -1), masks.neuropil.toarray().T > 0)
    assert around.dtype == bool


def test_sparse_itself_reads_the_masks(fov):
    sparse = pytest.importorskip("sparse")
    for name in ("masks", "neuropilMasks"):
        path = fov / f"mpciROIs.{name}.sparse_npz"
        found = sparse.load_npz(path)
        assert found.shape == (N, LY, LX)
        np.testing.assert_array_equal(found.todense(), dense(read_masks(path)))


def test_one_loads_it(ds, fov):
    alfio = pytest.importorskip("one.alf.io")
    pytest.importorskip("sparse")
    mpci = alfio.load_object(fov, "mpci")  # which compares the numbers of rows
    np.testing.assert_array_equal(mpci["ROIActivityF"], ds.F.T)
    assert set(mpci) == {
        *("ROIActivityF", "ROINeuropilActivityF", "ROIActivityDeconvolved", "times", "badFrames")
    }
    rois = alfio.load_object(fov, "mpciROIs")
    assert rois["masks"].shape == (N, LY, LX) and len(rois["uuids"]) == N
    assert alfio.load_object(fov, "mpciROITypes")["names"]["roi_labels"].tolist() == [
        *("no cell", "cell")
    ]


def test_it_comes_back(ds, fov, tmp_path):
    found = xs2p.read_alf(fov)
    check_same(found, ds, "iscell", "iscell_prob", "radius", "med_y", "med_x", "meanImg")
    np.testing.assert_array_equal(found.badframes, ~ds.valid)
    for key in KEYS:
        for name in ("tau", "baseline", "min_neuropil_pixels", "fs"):
            assert found[key].attrs.get(name) == ds[key].attrs.get(name)
    assert found.attrs["tau"] == 1.0 and (found.attrs["Ly"], found.attrs["Lx"]) == (LY, LX)
    assert found.plane.values.tolist() == [0] * N
    for folder in (fov.parent, fov.parent.parent):
        xr.testing.assert_equal(xs2p.read_alf(folder), found)
        rois = xs2p.read_rois(folder, cells_only=True, shape=(LY, LX))
        assert rois.roi.values.tolist() == ds.roi[ds.iscell].values.tolist()
    xs2p.write_alf(found, tmp_path / "FOV_03")  # neuropil masks and uuids as they were read
    again = xs2p.read_alf(tmp_path)
    check_same(again, found, "uuids", "neuropil_mask", "badframes", "meanImg")
    assert again.plane.values.tolist() == [3] * N
    redone = found.s2p.reprocess(tau=0.5, valid="badframes").compute()
    assert np.isnan(redone.spks[:, 7]).all()


def test_lazily_and_of_rois_without_a_trace(recording, ds, tmp_path):
    movie, rois = recording
    lost = rois.copy(deep=True)
    lost["overlap"] = lost.overlap | (lost.pixel_roi == 2)
    with pytest.warns(UserWarning, match="1 of 12 ROIs"):
        lazy = movie.s2p.extract(lost, tau=1.0, min_neuropil_pixels=60)
    labels = [*"abcdefghijkl"]
    lazy = lazy.assign_coords(roi=labels)
    with raise_if_dask_computes(max_computes=1):
        xs2p.write_alf(lazy, tmp_path)
    found = xs2p.read_alf(tmp_path)
    check_same(found.drop_vars("overlap").assign_coords(overlap=lazy.overlap), lazy.compute())
    assert found.roi.values.tolist() == labels
    assert found.status.values[2] == "no_cell_pixels" and np.isnan(found.F[2]).all()
    (tmp_path / "FOV_00" / "_xs2p_ROIData.attributes.json").unlink()  # as of somebody else
    other = xs2p.read_alf(tmp_path)
    assert other.status.values[2] == "zero_trace" and other.roi.values.tolist() == [*range(N)]
    assert other.attrs["fs"] == pytest.approx(10.0)


def test_times_by_the_frame_rate_alone(ds, tmp_path):
    bare = ds.drop_vars([n for n, c in ds.coords.items() if "time" in c.dims])
    xs2p.write_alf(bare, tmp_path)
    found = xs2p.read_alf(tmp_path)
    np.testing.assert_allclose(found.time, np.arange(T) / 10)
    assert not found.badframes.any() and found.badframes.size == T


def test_planes_are_fields_of_view(ds, tmp_path):
    placed = xs2p.recompute_overlap(
        ds.drop_vars("meanImg").assign_coords(plane=("roi", np.arange(N) % 2 * 3))
    )
    placed["meanImg_plane3"] = ds.meanImg
    xs2p.write_alf(placed, tmp_path / "alf")
    assert sorted(p.name for p in (tmp_path / "alf").iterdir()) == ["FOV_00", "FOV_03"]
    found = xs2p.read_alf(tmp_path)
    order = [*range(0, N, 2), *range(1, N, 2)]
    assert found.plane.values.tolist() == [0] * 6 + [3] * 6
    check_same(found, placed.isel(roi=order).s2p.compact())
    np.testing.assert_array_equal(found.meanImg_plane3, ds.meanImg)
    times = tmp_path / "alf" / "FOV_03" / "mpci.times.npy"
    np.save(times, np.load(times) + 0.02)
    with pytest.raises(ValueError, match=r"different times.*DataTree"):
        xs2p.read_alf(tmp_path)
    for path, match in (("FOV_01", r"of the planes \[0, 3\]"), ("x", "masks are of one plane")):
        given = {"masks": xs2p.build_masks(ds)} if path == "x" else {}
        with pytest.raises(ValueError, match=match):
            xs2p.write_alf(placed, tmp_path / path, **given)
        assert not (tmp_path / path).exists()


def as_coo(image):
    at = np.nonzero(image)
    return {"coords": np.stack(at), "data": image[at], "shape": np.array(image.shape)}


def as_gcxs(image, axes):
    """Compress an array along some axes, one value after the other."""
    rest = [a for a in range(3) if a not in axes]
    turned = image.transpose(*axes, *rest)
    rows = turned.reshape(np.prod([image.shape[a] for a in axes]), -1)
    counts = [np.count_nonzero(row) for row in rows]
    return {
        "data": np.concatenate([row[row != 0] for row in rows]),
        "indices": np.concatenate([np.flatnonzero(row) for row in rows]),
        "indptr": np.concatenate([[0], np.cumsum(counts)]),
        "compressed_axes": np.array(axes),
        "shape": np.array(image.shape),
        "fill_value": np.float32(0),
    }


AXES = [axes for n in (1, 2) for axes in itertools.permutations(range(3), n)]


@pytest.mark.parametrize("axes", [None, *AXES])
def test_masks_of_any_form_are_read(axes, tmp_path):
    rng = np.random.default_rng(0)
    image = (rng.random((5, 7, 9)) * (rng.random((5, 7, 9)) > 0.8)).astype("f4")
    held = as_coo(image) if axes is None else as_gcxs(image, axes)
    path = tmp_path / "m.sparse_npz"
    with open(path, "wb") as file:
        np.savez(file, **held)
    np.testing.assert_array_equal(dense(read_masks(path)), image)


@pytest.mark.parametrize("axes", [(0,), (1,), (2,), (0, 1), (0, 2)])
def test_masks_as_sparse_writes_them(axes, tmp_path):
    sparse = pytest.importorskip("sparse")
    rng = np.random.default_rng(0)
    image = (rng.random((5, 7, 9)) * (rng.random((5, 7, 9)) > 0.8)).astype("f4")
    made = sparse.COO.from_numpy(image)
    for each in (
        made,
        sparse.GCXS.from_coo(made, compressed_axes=axes),
        sparse.GCXS.from_coo(made),
    ):
        with open(tmp_path / "m.sparse_npz", "wb") as file:
            sparse.save_npz(file, each)
        np.testing.assert_array_equal(dense(read_masks(tmp_path / "m.sparse_npz")), image)


@pytest.fixture
def theirs(tmp_path, ds):
    """A field of view as IBL's own pipeline leaves it, with what it adds."""
    folder = tmp_path / "alf" / "FOV_02"
    folder.mkdir(parents=True)
    traces = np.where(np.arange(N)[:, None] == 4, 0, ds.F).astype("f4")
    np.save(folder / "mpci.ROIActivityF.npy", traces.T)
    np.save(folder / "mpci.times.npy", 3.25 + np.arange(T) / 5.07)
    np.save(folder / "mpci.mpciFrameQC.npy", (np.arange(T) > 190).astype("u1"))
    (folder / "mpciFrameQC.names.tsv").write_text("qc_values\tqc_labels\n0\tok\n1\tPMT off\n")
    np.save(folder / "mpciROIs.mpciROITypes.npy", (np.arange(N) % 2).astype("i2"))
    np.save(folder / "mpciROIs.cellClassifier.npy", np.arange(N) / N)
    np.save(folder / "mpciROIs.brainLocationIds_ccf_2017.npy", np.arange(N) + 300)
    np.save(folder / "mpciROIs.mlapdv.npy", np.zeros((N, 3)))
    np.save(folder / "mpciMeanImage.images.npy", np.ones((LY, LX, 1, 1)))
    image = np.zeros((N, LY, LX), "f4")
    image[np.repeat(np.arange(N), ds.npix), ds.ypix, ds.xpix] = ds.lam
    with open(folder / "mpciROIs.masks.sparse_npz", "wb") as file:
        np.savez(file, **as_gcxs(image, (0,)))
    return folder


def test_what_ibl_wrote(theirs, ds):
    found = xs2p.read_alf(theirs)
    for name in ("ypix", "xpix", "lam", "npix", "overlap"):
        np.testing.assert_array_equal(found[name], ds[name])
    assert found.attrs["fs"] == pytest.approx(5.07) and found.time[0] == 3.25
    assert found.status.values[4] == "zero_trace" and (found.status.values[:4] == "ok").all()
    assert set(found.data_vars) == {"F", "meanImg"} and found.meanImg.shape == (LY, LX)
    np.testing.assert_array_equal(found.brainLocationIds_ccf_2017, np.arange(N) + 300)
    assert found.frame_qc.attrs["flag_meanings"] == "ok PMT_off"
    assert found.plane.values.tolist() == [2] * N and "mlapdv" not in found.variables
    xs2p.write_alf(found, theirs.parent.parent / "new")
    again = xs2p.read_alf(theirs.parent.parent / "new")
    np.testing.assert_array_equal(again.frame_qc, found.frame_qc)
    assert again.frame_qc.attrs["flag_meanings"] == "ok PMT_off"
    np.testing.assert_array_equal(again.time, found.time)
    with pytest.raises(FileExistsError, match="another program's"):
        xs2p.write_alf(found.copy(deep=True).drop_attrs(deep=False).assign_attrs(
            Ly=LY, Lx=LX, fs=5.07), theirs, overwrite=True)  # fmt: skip


def test_types_that_are_not_two(theirs):
    np.save(theirs / "mpciROIs.mpciROITypes.npy", np.arange(N) % 3)
    (theirs / "mpciROITypes.names.tsv").write_text("v\tn\n0\tnone\n1\tsoma\n2\tdendrite\n")
    with pytest.warns(UserWarning, match="of the types dendrite, none, soma"):
        found = xs2p.read_alf(theirs)
    assert found.roi_type.values[:3].tolist() == ["none", "soma", "dendrite"]
    assert "iscell" not in found.variables


def test_without_masks(theirs):
    (theirs / "mpciROIs.masks.sparse_npz").unlink()
    np.save(theirs / "mpciROIs.stackPos.npy", np.arange(3 * N).reshape(N, 3))
    found = xs2p.read_alf(theirs)
    assert found.F.shape == (N, T) and found.med_x.values.tolist() == [*range(1, 3 * N, 3)]
    with pytest.raises(FileNotFoundError, match="no stat.npy"):
        xs2p.read_rois(theirs)


def test_what_is_there_is_replaced_only_where_it_is_ours(ds, tmp_path):
    xs2p.write_alf(ds, tmp_path, masks=xs2p.build_masks(ds, min_neuropil_pixels=60))
    with pytest.raises(FileExistsError, match="overwrite=True"):
        xs2p.write_alf(ds, tmp_path)
    xs2p.write_alf(ds.isel(time=slice(90)), tmp_path, overwrite=True)
    assert xs2p.read_alf(tmp_path).sizes["time"] == 90
    assert not (tmp_path / "FOV_00" / "mpciROIs.neuropilMasks.sparse_npz").exists()


def test_what_cannot_be_written_is_told_first(ds, masks, tmp_path):
    own = np.ones((N, T), bool)
    own[0, :5] = False
    with pytest.warns(UserWarning, match="1 of 12 ROIs have frames of their own"):
        xs2p.write_alf(ds.assign_coords(valid=(("roi", "time"), own)), tmp_path / "own")
    assert not np.load(tmp_path / "own" / "FOV_00" / "mpci.badFrames.npy").any()
    bare = ds.drop_vars(["time", "valid"]).drop_attrs().assign_attrs(Ly=LY, Lx=LX)
    cases = [
        (ds.F, {}, "ds is a DataArray"),
        (ds[["spks"]], {}, r"has no F\(roi, time\)"),
        (ds[["F"]].expand_dims(channel=2), {}, "F has dims"),
        (ds[["F"]].drop_vars("npix"), {}, "no ROI set"),
        (bare, {}, "frame rate is not known"),
        (ds.assign_coords(time=-ds.time), {}, "goes back"),
        (ds, {"masks": 3}, "masks is a int"),
        (ds, {"masks": masks.select(np.arange(3))}, "masks are of 3 ROIs"),
        (ds.assign_coords(plane=("roi", ["a"] * N)), {}, "no numbers of fields of view"),
        (ds.assign_attrs(xs2p_unfinished="x"), {}, "not complete"),
    ]
    for given, more, match in cases:
        with pytest.raises(ValueError, match=match):
            xs2p.write_alf(given, tmp_path / "no", **more)
        assert not (tmp_path / "no").exists()


BROKEN = {
    "short": ("mpci.times.npy", lambda p: np.save(p, np.arange(9.0)), r"times.*9 frames, but"),
    "text": ("mpci.times.npy", lambda p: np.save(p, ["a"] * T), "expected numbers over"),
    "rois": ("mpciROIs.cellClassifier.npy", lambda p: np.save(p, np.ones(3)), "3 ROIs, but"),
    "uuids": ("mpciROIs.uuids.csv", lambda p: p.write_text("uuids\na\n"), "1 ROIs, but"),
    "names": ("mpciROITypes.names.tsv", lambda p: p.write_text("v\nx\n"), "a value and its name"),
    "json": ("_xs2p_ROIData.attributes.json", lambda p: p.write_text("{"), "is no JSON"),
    "list": ("_xs2p_ROIData.attributes.json", lambda p: p.write_text("[]"), "expected an object"),
    "status": (
        "_xs2p_ROIData.attributes.json",
        lambda p: p.write_text(json.dumps({"status": ["x"] * N})),
        "its status is",
    ),
    "masks": ("mpciROIs.masks.sparse_npz", lambda p: p.write_bytes(b"PK"), "masks"),
    "other": ("mpciROIs.masks.sparse_npz", lambda p: resave(p, drop="indptr"), "a sparse array"),
    "outside": ("mpciROIs.masks.sparse_npz", lambda p: resave(p, indices=99999), "all below"),
    "count": ("mpciROIs.masks.sparse_npz", lambda p: resave(p, indptr=3), "does not count"),
    "axes": ("mpciROIs.masks.sparse_npz", lambda p: resave(p, compressed_axes=7), "one or two of"),
    "frame": (
        "mpciROIs.neuropilMasks.sparse_npz",
        lambda p: resave(p, shape=(N, 31, 41)),
        "frames of",
    ),
}  # fmt: skip


def resave(path, drop=None, **values):
    held = dict(np.load(path))
    for key, value in values.items():
        held[key] = np.full(held[key].shape, value, held[key].dtype)
    held.pop(drop, None)
    with open(path, "wb") as file:
        np.savez(file, **held)


@pytest.mark.parametrize("case", BROKEN)
def test_a_damaged_file_is_named(case, ds, masks, tmp_path):
    name, damage, match = BROKEN[case]
    xs2p.write_alf(ds, tmp_path, masks=masks)
    damage(tmp_path / "FOV_00" / name)
    with pytest.raises(ValueError, match=match) as told:
        xs2p.read_alf(tmp_path)
    assert name in str(told.value)


def test_no_such_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        xs2p.read_alf(tmp_path / "x")
    with pytest.raises(FileNotFoundError, match="nor in a folder FOV_00"):
        xs2p.read_alf(tmp_path)
