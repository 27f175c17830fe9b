"""The one door for ROIs: every source, what each keeps, and what is wrong with others."""

from __future__ import annotations

import pickle
import shutil
import types
import warnings

import h5py
import numpy as np
import pytest
import scipy.sparse as sp
import tifffile
import xarray as xr
from loaders import DATA, square

import xs2p
from xs2p.io import load_npy
from xs2p.testing import raise_if_dask_computes, simulate

REAL = DATA / "suite2p-folder-2p"
FRAME = (142, 247)


def same_pixels(rois, other):
    for name in ("npix", "ypix", "xpix", "lam"):
        np.testing.assert_array_equal(rois[name].values, other[name].values)


def saved(path, stat):
    array = np.empty(len(stat), dtype=object)
    array[:] = stat
    np.save(path, array)
    return path


class TestSuite2p:
    @pytest.fixture
    def stat(self):
        return list(load_npy(REAL / "stat.npy"))

    def test_a_folder_brings_its_flags(self):
        for source in (REAL, str(REAL) + "/", REAL / "stat.npy"):
            with raise_if_dask_computes():
                rois = xs2p.read_rois(source)
            whole = xs2p.read_suite2p(REAL)
            for name in ("iscell", "iscell_prob", "npix", "lam", "skew"):
                xr.testing.assert_identical(rois[name].variable, whole[name].variable)

    def test_cells_only(self):
        iscell = np.load(REAL / "iscell.npy")[:, 0] == 1
        rois = xs2p.read_rois(REAL, cells_only=True)
        assert 0 < iscell.sum() < iscell.size
        assert rois.roi.values.tolist() == np.flatnonzero(iscell).tolist()
        assert rois.sizes["pixel"] == rois.npix.sum()
        whole = xs2p.read_rois(REAL)
        same_pixels(rois, whole.isel(roi=iscell, pixel=iscell[whole.pixel_roi]))
        stat = [square(0, 0), square(5, 5)]
        with pytest.raises(ValueError, match=r"cells_only=True, but .* there are .*radius"):
            xs2p.read_rois(stat, shape=(9, 9), cells_only=True)

    @pytest.mark.parametrize(
        "field",
        ["overlap", "radius", "med", "npix", "soma_crop", "aspect_ratio", "compact", "footprint",
         "mrs", "mrs0", "skew", "std", "neuropil_mask", "lam"],
    )  # fmt: skip
    def test_without_one_field(self, field, stat, tmp_path):
        """No version of suite2p from 0.7 to 1.1 has all of them."""
        assert field in stat[0]
        for entry in stat:
            del entry[field]
        path = saved(tmp_path / "stat.npy", stat)
        expected = xs2p.read_rois(REAL)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rois = xs2p.read_rois(path, shape=FRAME)
        assert [f"no ROI has {field}" in str(w.message) for w in caught] == [True] * (
            field == "lam"
        )
        if field == "lam":
            assert (rois.lam == 1).all()
            expected = expected.assign(lam=rois.lam)
        same_pixels(rois, expected)
        kept = {"overlap", "radius"} & set(rois.variables)
        assert kept == {"overlap", "radius"}, "computed where absent"
        if field == "overlap":
            flags = xs2p.recompute_overlap(expected).overlap
            np.testing.assert_array_equal(rois.overlap, flags)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert xs2p.build_masks(rois).n_rois == len(stat)

    def test_nothing_but_pixels(self, stat, tmp_path):
        path = saved(tmp_path / "stat.npy", [{k: s[k] for k in ("ypix", "xpix")} for s in stat])
        with pytest.warns(UserWarning, match=r"stat\.npy: no ROI has lam.*the weight 1"):
            rois = xs2p.read_rois(path, shape=FRAME)
        assert rois.npix.values.tolist() == [s["ypix"].size for s in stat]

    @pytest.mark.parametrize("field", ["overlap", "soma_crop"])
    def test_some_rois_without(self, field, stat, tmp_path):
        """As ROIs drawn by hand lack them."""
        del stat[3][field]
        path = saved(tmp_path / "stat.npy", stat)
        with pytest.warns(UserWarning, match=rf"1 of 55 ROIs have no {field} \(roi 3\)"):
            rois = xs2p.read_rois(path, shape=FRAME)
        for entry in stat:
            entry.pop(field, None)
        xr.testing.assert_identical(rois, xs2p.rois_from_stat(stat, FRAME))

    @pytest.mark.parametrize("key", ["ypix", "xpix"])
    def test_pixels_are_necessary(self, key, stat, tmp_path):
        del stat[2][key]
        path = saved(tmp_path / "stat.npy", stat)
        with pytest.raises(ValueError, match=rf"stat\.npy: stat\[2\] has no {key}"):
            xs2p.read_rois(path, shape=FRAME)
        del stat[1]["lam"]
        with pytest.raises(ValueError, match=r"stat\[1\] has no lam"):
            xs2p.read_rois(stat[:2], shape=FRAME)

    def test_ops_as_a_bare_pickle(self, tmp_path):
        shutil.copy(REAL / "stat.npy", tmp_path)
        for protocol in (2, 4, 5):
            ops = {"Ly": 142, "Lx": 247, "meanImg": np.zeros((2, 2))}
            (tmp_path / "ops.npy").write_bytes(pickle.dumps(ops, protocol))
            assert xs2p.read_rois(tmp_path).attrs == {"Ly": 142, "Lx": 247}
        (tmp_path / "ops.npy").write_bytes(pickle.dumps(ops)[:-20])
        with pytest.raises(ValueError, match=r"ops\.npy: damaged"):
            xs2p.read_rois(tmp_path)
        (tmp_path / "ops.npy").write_bytes(pickle.dumps(shutil.rmtree))
        with pytest.raises(xs2p.io.UnsafePickleError, match="rmtree"):
            xs2p.read_rois(tmp_path)

    def test_flags_that_disagree(self, tmp_path):
        for name in ("stat", "ops"):
            shutil.copy(REAL / f"{name}.npy", tmp_path)
        np.save(tmp_path / "iscell.npy", np.ones((3, 2)))
        with pytest.raises(ValueError, match=r"iscell\.npy: 3 ROIs, but stat\.npy .* has 55"):
            xs2p.read_rois(tmp_path)

    def test_folders_above(self, tmp_path):
        planes = tmp_path / "s" / "suite2p"
        shutil.copytree(REAL, planes / "plane0")
        one = xs2p.read_rois(planes / "plane0")
        for above in (tmp_path / "s", planes):
            xr.testing.assert_identical(xs2p.read_rois(above), one)
        with pytest.raises(FileNotFoundError, match=r"no stat\.npy, neither has a plane"):
            xs2p.read_rois(tmp_path)

    def test_all_planes_of_a_folder(self, tmp_path):
        """As `open_movie` takes the folder: each ROI is extracted from its own plane."""
        movies = {}
        for plane in (0, 2, 10):
            movie, rois, _ = simulate(3 + plane % 4, (24, 30), 12, seed=plane)
            folder = tmp_path / "suite2p" / f"plane{plane}"
            folder.mkdir(parents=True)
            movie.values.tofile(folder / "data.bin")
            xs2p.write_rois(rois, folder / "stat.npy")
            np.save(folder / "ops.npy", {"Ly": 24, "Lx": 30, "fs": 7.5})
            movies[plane] = movie, xs2p.read_rois(folder)
        movie, rois = xs2p.open_movie(tmp_path / "suite2p"), xs2p.read_rois(tmp_path / "suite2p")
        n_rois = [own.sizes["roi"] for _, own in movies.values()]
        np.testing.assert_array_equal(rois.roi, np.arange(sum(n_rois)))
        np.testing.assert_array_equal(rois.plane, np.repeat([0, 2, 10], n_rois))
        options = {"min_neuropil_pixels": 20, "win_baseline": 1.0}
        ds = movie.s2p.extract(rois, tau=0.7, **options).compute()
        for plane, (one, own) in movies.items():
            expected = one.drop_vars("time").s2p.extract(own, fs=7.5, tau=0.7, **options).compute()
            some = ds.isel(roi=ds.plane.values == plane)
            for name in expected.data_vars:
                np.testing.assert_array_equal(some[name], expected[name])
        moved = xs2p.read_rois(tmp_path / "suite2p", shape=(24, 30), shift=(0, 0))
        np.testing.assert_array_equal(moved.plane, rois.plane)
        with pytest.raises(ValueError, match=r"planes \[0, 2, 10\].*write each: ds\.isel"):
            xs2p.write_suite2p(ds, tmp_path / "out" / "plane0")
        xs2p.write_suite2p(ds, tmp_path / "out")
        np.testing.assert_array_equal(xs2p.read_suite2p(tmp_path / "out").plane, ds.plane)
        np.save(tmp_path / "suite2p" / "plane2" / "ops.npy", {"Ly": 25, "Lx": 30, "fs": 7.5})
        with pytest.raises(ValueError, match=r"different sizes, \{0: \(24, 30\), 2: \(25, 30\)"):
            xs2p.read_rois(tmp_path / "suite2p")


class TestLabels:
    def test_every_way(self, tmp_path):
        labels = np.zeros((9, 7), np.uint16)
        labels[1:3, 2:5], labels[5:, 6] = 7, 300
        expected = xs2p.rois_from_labels(labels)
        assert expected.roi.values.tolist() == [7, 300]
        np.save(tmp_path / "a.npy", labels)
        np.save(tmp_path / "b.npy", labels.astype(">i8"))
        tifffile.imwrite(tmp_path / "a.tif", labels)
        tifffile.imwrite(tmp_path / "b.TIFF", labels[None].astype(np.uint32))
        images = [labels, xr.DataArray(labels, dims=("y", "x")), {"masks": labels[None]}]
        files = [tmp_path / name for name in ("a.npy", "b.npy", "a.tif", "b.TIFF")]
        for source in [*images, *files]:
            for shape in (None, (9, 7)):
                xr.testing.assert_identical(xs2p.read_rois(source, shape=shape), expected)
            with pytest.raises(ValueError, match=r"shape=\(7, 9\) disagrees with .*\(9, 7\)"):
                xs2p.read_rois(source, shape=(7, 9))

    @pytest.mark.parametrize(
        ("image", "what"),
        [
            (np.zeros((4, 5)), r"labels must be integers, got float64"),
            (np.zeros((4, 5), bool), r"labels must be .* scipy\.ndimage\.label"),
            (np.zeros((2, 4, 5), int), r"labels must be an image \(y, x\)"),
            (np.full((4, 5), -1), "labels must be 0 .* or positive"),
        ],
    )
    def test_what_is_none(self, image, what, tmp_path):
        np.save(tmp_path / "a.npy", image)
        tifffile.imwrite(tmp_path / "a.tif", image)
        for name in ("a.npy", "a.tif"):
            with pytest.raises(ValueError, match=rf"{name}: {what}"):
                xs2p.read_rois(tmp_path / name)
        if image.ndim == 2:
            with pytest.raises(ValueError, match=rf"the label image: {what}"):
                xs2p.read_rois(image)

    def test_a_movie_is_refused_unread(self, tmp_path):
        """Files of a terabyte, whose pixels are not there."""
        path = tmp_path / "movie.npy"
        with open(path, "wb") as file:
            header = {"descr": "<i2", "fortran_order": False, "shape": (2_000_000, 512, 512)}
            np.lib.format.write_array_header_1_0(file, header)
        with pytest.raises(ValueError, match=r"movie\.npy: .* got shape \(2000000, 512, 512\)"):
            xs2p.read_rois(path)
        path = tmp_path / "movie.tif"
        tifffile.imwrite(path, shape=(3, 40, 50), dtype="i2", photometric="minisblack")
        path.write_bytes(path.read_bytes()[:4000])
        with pytest.raises(ValueError, match=r"movie\.tif: .* got shape \(3, 40, 50\)"):
            xs2p.read_rois(path)

    def test_cellpose(self, tmp_path):
        """A file that Cellpose 3.1.1 wrote."""
        path = DATA / "cellpose_seg.npy"
        masks = np.load(path, allow_pickle=True).item()["masks"]
        rois = xs2p.read_rois(path)
        xr.testing.assert_identical(rois, xs2p.rois_from_labels(masks))
        assert rois.roi.values.tolist() == [1, 2, 3, 5] and rois.attrs == {"Ly": 24, "Lx": 30}
        np.save(tmp_path / "v_seg.npy", {"masks": np.zeros((3, 5, 5), int)})
        with pytest.raises(ValueError, match=r"its masks are a volume of \(3, 5, 5\)"):
            xs2p.read_rois(tmp_path / "v_seg.npy")
        np.save(tmp_path / "ops.npy", {"Ly": 3})
        with pytest.raises(ValueError, match=r"a dict without 'masks'.*ops\.npy"):
            xs2p.read_rois(tmp_path / "ops.npy")

    def test_the_outlines_that_cellpose_saves_for_imagej(self):
        """They run through the centres of border pixels, so ImageJ fills fewer pixels."""
        rois = xs2p.read_rois(DATA / "cellpose_rois.zip", shape=(24, 30))
        masks = xs2p.read_rois(DATA / "cellpose_seg.npy").s2p.to_labels().values
        assert rois.sizes["roi"] == 3 and (rois.npix > 10).all()
        for i in range(3):
            own = rois.pixel_roi.values == i
            assert len(set(masks[rois.ypix[own], rois.xpix[own]])) == 1


class TestCaiman:
    """Built by the documented layout; roiextractors 0.10 reads the same masks from such a file."""

    @pytest.fixture
    def footprints(self):
        A = np.zeros((4, 12, 9))
        rng = np.random.default_rng(0)
        for i in range(4):
            A[i, 2 * i : 2 * i + 3, i : i + 4] = rng.random((3, 4)) + 0.1
        return A

    @staticmethod
    def sparse(A):
        return sp.csc_matrix(np.stack([a.ravel(order="F") for a in A], 1))

    def file(self, path, A, top="estimates", dims="dims", **fields):
        matrix = self.sparse(A)
        with h5py.File(path, "w") as file:
            group = file.require_group(top) if top else file
            for key in ("data", "indices", "indptr"):
                group[f"A/{key}"] = getattr(matrix, key)
            group["A/shape"] = matrix.shape
            if dims:
                file[dims] = A.shape[1:]
            for key, value in fields.items():
                group[key] = value
        return path

    @pytest.mark.parametrize("dims", ["dims", "estimates/dims", "params/data/dims"])
    def test_file(self, dims, footprints, tmp_path):
        path = self.file(
            tmp_path / "r.hdf5", footprints, dims=dims, idx_components=[2, 0],
            idx_components_bad=[1, 3], SNR_comp=np.arange(4.0), cnn_preds="NoneType",
        )  # fmt: skip
        expected = xs2p.rois_from_footprints(footprints)
        rois = xs2p.read_rois(path)
        same_pixels(rois, expected)
        assert rois.accepted.values.tolist() == [True, False, True, False]
        assert rois.SNR_comp.values.tolist() == [0, 1, 2, 3] and "cnn_preds" not in rois.variables
        assert xs2p.read_rois(path, cells_only=True).roi.values.tolist() == [0, 2]
        with pytest.raises(ValueError, match=r"shape=\(9, 12\) disagrees.*\(12, 9\)"):
            xs2p.read_rois(path, shape=(9, 12))

    def test_other_files(self, footprints, tmp_path):
        """Of before 2019, all at the top; without dims; not assessed; footprints not sparse."""
        expected = xs2p.rois_from_footprints(footprints)
        same_pixels(xs2p.read_rois(self.file(tmp_path / "a.h5", footprints, top="")), expected)
        path = self.file(tmp_path / "b.hdf5", footprints, dims=None, dims_="x",
                         idx_components="NoneType")  # fmt: skip
        with pytest.raises(ValueError, match=r"b\.hdf5 does not say the size .* shape=\(Ly, Lx\)"):
            xs2p.read_rois(path)
        rois = xs2p.read_rois(path, shape=(12, 9))
        same_pixels(rois, expected)
        assert "accepted" not in rois.variables
        with h5py.File(tmp_path / "c.hdf5", "w") as file:
            file["estimates/A"] = self.sparse(footprints).toarray()
            file["dims"] = (12, 9)
        same_pixels(xs2p.read_rois(tmp_path / "c.hdf5"), expected)

    def test_damage(self, footprints, tmp_path):
        path = tmp_path / "a.hdf5"
        path.write_bytes(b"no HDF5 at all")
        with pytest.raises(ValueError, match=r"a\.hdf5: no HDF5 file can be read"):
            xs2p.read_rois(path)
        with h5py.File(path, "w") as file:
            file["mov"] = np.zeros((3, 4, 5))
        with pytest.raises(ValueError, match=r"no footprints .* estimates/A; it holds mov"):
            xs2p.read_rois(path)
        path = self.file(tmp_path / "b.hdf5", footprints)
        with h5py.File(path, "a") as file:
            file["estimates/A/indices"][3] = 10_000
        with pytest.raises(ValueError, match=r"b\.hdf5: estimates/A is damaged"):
            xs2p.read_rois(path)
        with h5py.File(path, "a") as file:
            del file["estimates/A/indptr"]
        with pytest.raises(ValueError, match=r"estimates/A lacks indptr"):
            xs2p.read_rois(path)
        path = self.file(tmp_path / "c.hdf5", footprints, idx_components=[0, 9])
        with pytest.raises(ValueError, match="idx_components holds 9, but A has 4 columns"):
            xs2p.read_rois(path)
        volume = self.file(tmp_path / "d.hdf5", footprints, dims=None)
        with h5py.File(volume, "a") as file:
            file["dims"] = (3, 4, 9)
        with pytest.raises(ValueError, match=r"its frame has the dims \(3, 4, 9\)"):
            xs2p.read_rois(volume)

    def test_in_memory(self, footprints):
        A, expected = self.sparse(footprints), xs2p.rois_from_footprints(footprints)
        estimates = types.SimpleNamespace(A=A, dims=(12, 9), idx_components=np.array([1]))
        bare = types.SimpleNamespace(A=A.toarray(), dims=None)
        cnmf = types.SimpleNamespace(estimates=bare, dims=(12, 9))
        for source in (estimates, cnmf):
            same_pixels(xs2p.read_rois(source), expected)
        assert xs2p.read_rois(estimates).accepted.values.tolist() == [False, True, False, False]
        for matrix in (A, A.tocsr(), sp.coo_array(A)):
            same_pixels(xs2p.read_rois(matrix, shape=(12, 9)), expected)
            with pytest.raises(ValueError, match=r"sparse matrix .* shape=\(Ly, Lx\)"):
                xs2p.read_rois(matrix)
        with pytest.raises(ValueError, match="A has 108 rows but shape"):
            xs2p.read_rois(A, shape=(12, 10))
        dense = xr.DataArray(footprints, dims=("roi", "y", "x"), coords={"roi": [4, 5, 6, 9]})
        assert xs2p.read_rois(dense).roi.values.tolist() == [4, 5, 6, 9]


class TestOwn:
    @pytest.mark.parametrize("suffix", ["zarr", "nc"])
    def test_a_result_of_extract(self, suffix, tmp_path):
        rois = xs2p.sample_rois()
        movie = xs2p.sample_movie(None).isel(time=slice(20))
        ds = movie.s2p.extract(rois, baseline="none")
        ds["meanImg"] = movie.mean("time")
        path = tmp_path / f"traces.{suffix}"
        if suffix == "nc":
            ds.to_netcdf(path, engine="h5netcdf")
        else:
            ds.to_zarr(path, consolidated=False)
        for source in (ds, path, str(path)):
            back = xs2p.read_rois(source, shape=(64, 64))
            same_pixels(back, rois)
            assert set(back.dims) == set(rois.dims) and back.attrs == {"Ly": 64, "Lx": 64}
            assert set(back.data_vars) == set(rois.data_vars)
            assert {"snr", "tau"}.isdisjoint(back.attrs)
        again = movie.s2p.extract(xs2p.read_rois(path), baseline="none")
        np.testing.assert_array_equal(again.F, ds.F)

    def test_the_traces_are_not_read(self, tmp_path):
        ds = xs2p.sample_movie().s2p.extract(xs2p.sample_rois(), tau=1.0)
        with raise_if_dask_computes():
            same_pixels(xs2p.read_rois(ds), xs2p.sample_rois())
        ds.to_zarr(tmp_path / "a.zarr", consolidated=False)
        shutil.rmtree(tmp_path / "a.zarr" / "F" / "c")
        same_pixels(xs2p.read_rois(tmp_path / "a.zarr"), xs2p.sample_rois())
        (tmp_path / "a.zarr").rename(tmp_path / "another name")
        same_pixels(xs2p.read_rois(tmp_path / "another name"), xs2p.sample_rois())

    def test_what_is_none(self, tmp_path):
        xr.Dataset({"movie": (("time", "y", "x"), np.zeros((2, 3, 4)))}).to_zarr(
            tmp_path / "m.zarr", consolidated=False
        )
        with pytest.raises(ValueError, match=r"m\.zarr: it is no ROI set, it lacks roi, npix"):
            xs2p.read_rois(tmp_path / "m.zarr")
        (tmp_path / "e.zarr").mkdir()
        (tmp_path / "e.nc").write_bytes(b"nothing of the kind")
        for name in ("e.zarr", "e.nc"):
            with pytest.raises(ValueError, match=rf"{name}: no ROI set can be read from it"):
                xs2p.read_rois(tmp_path / name)


def test_nwb_is_handed_on(monkeypatch, tmp_path):
    """`xs2p.io.nwb` reads it; here only that it is asked, and with what."""
    calls = []
    rois = xs2p.rois_from_stat([square(2, 2)], (9, 9))
    reader = "xs2p.io.nwb.rois.rois_from_nwb"
    monkeypatch.setattr(reader, lambda *args, **kwargs: calls.append((args, kwargs)) or rois)
    PlaneSegmentation = type("PlaneSegmentation", (), {})
    table = PlaneSegmentation()
    path = tmp_path / "a.NWB"
    path.write_bytes(b"")
    assert xs2p.read_rois(table) is rois
    assert xs2p.read_rois(path, shape=(9, 9), name="second") is rois
    assert xs2p.read_rois(path, shape=(7, 7), shift=(1, 1)).attrs["Ly"] == 7
    assert calls == [
        ((table,), {"name": None, "order": None, "shape": None}),
        ((path,), {"name": "second", "order": None, "shape": (9, 9)}),
        ((path,), {"name": None, "order": None, "shape": None}),
    ]

    def without_frame(source, shape, name, order):
        if shape is None:
            raise ValueError("give shape=(Ly, Lx) in pixels")
        return rois

    monkeypatch.setattr(reader, without_frame)
    assert xs2p.read_rois(path, shape=(9, 9), shift=(1, 1)).attrs["Ly"] == 9
    for options in ({}, {"shift": (1, 1)}):
        with pytest.raises(ValueError, match="give shape"):
            xs2p.read_rois(path, **options)
    with pytest.raises(FileNotFoundError, match="gone.nwb"):
        xs2p.read_rois(tmp_path / "gone.nwb")
    with pytest.raises(ValueError, match=r"name='second' chooses a PlaneSegmentation"):
        xs2p.read_rois(rois, name="second")


ACCEPTED = ("stat.npy", "_seg.npy", "RoiSet.zip", "CaImAn", "PlaneSegmentation", ".zarr or .nc")


@pytest.mark.parametrize(
    "source",
    [3, None, ["a"], {"ypix": [1]}, np.zeros(()), np.zeros((2, 3, 4), int), object(), [object()]],
    ids=lambda source: type(source).__name__,
)
def test_what_is_no_source_lists_what_is(source):
    with pytest.raises(ValueError, match="read_rois: cannot read") as caught:
        xs2p.read_rois(source, shape=(9, 9))
    assert type(source).__name__ in str(caught.value)
    assert all(word in str(caught.value) for word in ACCEPTED)


def test_files_of_other_kinds(tmp_path):
    (tmp_path / "a.xyz").write_bytes(b"x")
    (tmp_path / "a.xyz").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"cannot read '.*a\.xyz'.*; expected one of") as caught:
        xs2p.read_rois(tmp_path / "a.xyz")
        xs2p.read_rois(tmp_path / "a.xyz")
    assert all(word in str(caught.value) for word in ACCEPTED)


class TestFromReview:
    def test_flags_are_those_of_stat_npy_alone(self, tmp_path):
        folder = tmp_path / "plane0"
        shutil.copytree(REAL, folder)
        rois = xs2p.read_rois(folder)
        with pytest.warns(UserWarning, match="labels .* will not come back"):
            xs2p.write_rois(rois.isel(roi=slice(None, None, -1)), tmp_path / "stat.npy")
        shutil.move(tmp_path / "stat.npy", folder / "reversed.npy")
        back = xs2p.read_rois(folder / "reversed.npy")
        np.testing.assert_array_equal(back.iscell, rois.iscell[::-1])

    def test_cells_only_keeps_the_flags_of_all_wherever_rois_go(self):
        stat = [{"ypix": [3, 3], "xpix": [3, 4], "lam": [1.0, 1.0]}] * 2
        rois = xs2p.rois_from_stat(stat, (9, 9)).assign_coords(iscell=("roi", [True, False]))
        for shift in ((0, 0), (1, 1), (1.25, 1)):
            kept = xs2p.read_rois(rois, shape=(9, 9), shift=shift, cells_only=True)
            assert kept.sizes["roi"] == 1 and kept.overlap.all()

    def test_a_source_without_a_frame_can_be_shifted(self, tmp_path):
        A = sp.csc_array(np.eye(20)[:, [7]])
        estimates = types.SimpleNamespace(A=A, dims=None)
        moved = xs2p.read_rois(estimates, shape=(4, 5), shift=(0, 1))
        assert (moved.ypix.item(), moved.xpix.item()) == (3, 2)

    def test_footprints_overlap_within_their_plane(self):
        weights = xr.DataArray(np.ones((2, 3, 3)), dims=("roi", "y", "x"))
        assert xs2p.rois_from_footprints(weights).overlap.all()
        apart = weights.assign_coords(plane=("roi", [0, 1]))
        assert not xs2p.rois_from_footprints(apart).overlap.any()

    @pytest.mark.parametrize("labels", [["a", "b"], [1.2, 1.7]])
    def test_label_images_of_labels_that_are_no_integers(self, labels):
        rois = xs2p.rois_from_labels(np.array([[5, 0], [0, 9]])).assign_coords(roi=labels)
        image = rois.s2p.to_labels()
        assert image.values.tolist() == [[1, 0], [0, 2]] and "position" in image.attrs["values"]
