"""Sets of ALF's files: what an earlier write, a kill and other programs leave, and several FOVs."""

from __future__ import annotations

import os
import tracemalloc

import numpy as np
import pytest

import xs2p
from xs2p.testing import simulate

LY, LX, N, T = 24, 30, 6, 40


@pytest.fixture(scope="module")
def movie():
    return simulate(N, (LY, LX), T, fs=10.0, chunks=T)[0]


@pytest.fixture(scope="module")
def rois():
    return simulate(N, (LY, LX), T, fs=10.0, chunks=T)[1]


@pytest.fixture(scope="module")
def ds(movie, rois):
    return movie.s2p.extract(rois, tau=1.0, min_neuropil_pixels=40).compute()


@pytest.fixture(scope="module")
def placed(ds):
    """Of three planes, two ROIs each."""
    return xs2p.recompute_overlap(ds.assign_coords(plane=("roi", np.arange(N) // 2)))


def of(ds, *planes):
    return ds.isel(roi=np.isin(ds.plane.values, planes)).s2p.compact()


def test_fields_of_view_of_an_earlier_write_are_not_read_with_the_new(placed, tmp_path):
    xs2p.write_alf(placed, tmp_path)
    with pytest.raises(FileExistsError):
        xs2p.write_alf(of(placed, 0, 1), tmp_path)
    (tmp_path / "FOV_02" / "mine.txt").write_text("kept")
    xs2p.write_alf(of(placed, 0, 1), tmp_path, overwrite=True)
    assert xs2p.read_alf(tmp_path).plane.values.tolist() == [0, 0, 1, 1]
    assert os.listdir(tmp_path / "FOV_02") == ["mine.txt"]
    with pytest.raises(FileExistsError, match=r"FOV_01 is there.*together with FOV_00"):
        xs2p.write_alf(of(placed, 0), tmp_path, overwrite=True)
    xs2p.write_alf(of(placed, 0), tmp_path / "FOV_00", overwrite=True)
    assert xs2p.read_alf(tmp_path).sizes["roi"] == 4
    with pytest.raises(FileExistsError, match=r"FOV_00 is there.*overwrite=True removes"):
        xs2p.write_alf(of(placed.assign_coords(plane=placed.plane + 2), 2, 3), tmp_path)


def test_planes_may_be_written_one_by_one_again_and_again(placed, tmp_path):
    for _ in range(2):
        for n in range(3):
            xs2p.write_alf(of(placed, n), tmp_path, overwrite=True)
    assert xs2p.read_alf(tmp_path).sizes["roi"] == N


def test_a_field_of_view_of_somebody_is_left(placed, tmp_path):
    theirs = tmp_path / "FOV_05"
    theirs.mkdir()
    np.save(theirs / "mpci.ROIActivityF.npy", np.zeros((T, 2), "f4"))
    with pytest.raises(FileExistsError, match=r"FOV_05.*another program's"):
        xs2p.write_alf(placed, tmp_path, overwrite=True)
    theirs.rename(tmp_path / "FOV_1")
    with pytest.raises(FileExistsError, match=r"FOV_1 is there and is field of view 1 too"):
        xs2p.write_alf(placed, tmp_path, overwrite=True)
    assert os.listdir(tmp_path) == ["FOV_1"]


def test_two_folders_of_one_number(placed, tmp_path):
    xs2p.write_alf(placed, tmp_path)
    (tmp_path / "FOV_02").rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="FOV_02 was written together with FOV_00, FOV_01"):
        assert xs2p.read_alf(tmp_path).sizes["roi"] == 4
    (tmp_path / "FOV_01").rename(tmp_path / "FOV_0")
    with pytest.raises(ValueError, match=r"FOV_0 and .*FOV_00 are both field of view 0"):
        xs2p.read_alf(tmp_path)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("again", [False, True])
def test_what_a_kill_leaves_is_no_whole_set(ds, tmp_path, monkeypatch, again):
    """Killed while the files get their names: nothing is cleared away then."""
    folder = tmp_path / "FOV_00"
    if again:
        xs2p.write_alf(ds, tmp_path)
    states, rename = [], os.rename

    def kept(old, new):
        rename(old, new)
        copy = tmp_path / f"state{len(states)}" / "FOV_00"
        copy.mkdir(parents=True)
        for name in os.listdir(folder):
            os.link(folder / name, copy / name)
        states.append(copy)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", kept)
        xs2p.write_alf(ds.isel(roi=slice(4)), tmp_path, overwrite=True)
    assert len(states) > 10
    for state in states[:-1]:
        with pytest.raises((ValueError, FileNotFoundError)) as told:
            xs2p.read_alf(state)
        if told.type is ValueError:
            assert "write it again with overwrite=True" in str(told.value)
        xs2p.write_alf(ds, state, overwrite=True)
        assert xs2p.read_alf(state).sizes["roi"] == N
        assert not [name for name in os.listdir(state) if name.startswith(".")]


def test_files_of_others_in_our_folder_are_left(ds, tmp_path):
    xs2p.write_alf(ds, tmp_path)
    quality = tmp_path / "FOV_00" / "mpci.mpciFrameQC.npy"
    np.save(quality, np.zeros(T, "u1"))
    with pytest.raises(FileExistsError, match=r"mpciFrameQC.npy exists and is another program's"):
        xs2p.write_alf(ds, tmp_path, overwrite=True)
    assert quality.exists()


def test_a_dataset_under_a_longer_name(ds, tmp_path):
    folder = tmp_path / "FOV_00"
    folder.mkdir()
    for part in ("1234", "5678"):
        np.save(folder / f"mpci.ROIActivityF.{part}.npy", np.zeros((T, N), "f4"))
        with pytest.raises(FileExistsError, match=rf"mpci.ROIActivityF.{part}.npy"):
            xs2p.write_alf(ds, tmp_path)
    with pytest.raises(ValueError, match=r"1234.npy and .*5678.npy are both"):
        xs2p.read_alf(tmp_path)


def test_places_come_back_and_neuropil_is_the_same(movie, rois, tmp_path):
    moved = rois.assign_coords(radius=rois.radius * 1.7, med_y=rois.med_y + 0.25)
    want = movie.s2p.extract(moved, tau=1.0, min_neuropil_pixels=40).compute()
    xs2p.write_alf(want, tmp_path)
    back = xs2p.read_rois(tmp_path)
    for name in ("radius", "med_y", "med_x"):
        np.testing.assert_array_equal(back[name], moved[name])
    found = movie.s2p.extract(back, tau=1.0, min_neuropil_pixels=40)
    np.testing.assert_array_equal(found.Fneu, want.Fneu)


def test_types_of_rois_come_back(ds, tmp_path):
    folder = tmp_path / "a" / "FOV_00"
    xs2p.write_alf(ds, folder)
    np.save(folder / "mpciROIs.mpciROITypes.npy", np.arange(N) % 2 + 1)
    (folder / "mpciROITypes.names.tsv").write_text("v\tn\n0\tnone\n1\tsoma\n2\tdendrite\n")
    with pytest.warns(UserWarning, match="of the types dendrite, soma"):
        found = xs2p.read_alf(folder)
    xs2p.write_alf(found, tmp_path / "b")
    np.testing.assert_array_equal(
        np.load(tmp_path / "b" / "FOV_00" / "mpciROIs.mpciROITypes.npy"), np.arange(N) % 2 + 1
    )
    with pytest.warns(UserWarning, match="of the types dendrite, soma"):
        again = xs2p.read_alf(tmp_path / "b")
    np.testing.assert_array_equal(again.roi_type, found.roi_type)
    np.testing.assert_array_equal(again.iscell_prob, found.iscell_prob)


@pytest.mark.parametrize("names", ["0\tsoma\n1\tdendrite\n", "0\tno cell\n1\tsoma\n"])
def test_types_0_and_1_with_other_names_are_no_iscell(ds, tmp_path, names):
    xs2p.write_alf(ds, tmp_path)
    (tmp_path / "FOV_00" / "mpciROITypes.names.tsv").write_text("v\tn\n" + names)
    with pytest.warns(UserWarning, match="which are cells is not said"):
        assert "iscell" not in xs2p.read_alf(tmp_path).variables
    np.save(tmp_path / "FOV_00" / "mpciROIs.mpciROITypes.npy", np.full(N, np.nan))
    with pytest.raises(ValueError, match=r"mpciROITypes.npy: its types are \[nan.*whole numbers"):
        xs2p.read_alf(tmp_path)


@pytest.mark.parametrize("name", ["npix", "roi_id", "roi", "time", "status", "F", "radius"])
def test_names_of_the_roi_set_are_not_those_of_a_file(ds, tmp_path, name):
    xs2p.write_alf(ds, tmp_path)
    want = xs2p.read_alf(tmp_path)
    np.save(tmp_path / "FOV_00" / f"mpciROIs.{name}.npy", np.arange(N) + 100)
    with pytest.warns(UserWarning, match=rf"mpciROIs.{name}.npy is left out"):
        assert xs2p.read_alf(tmp_path).identical(want)


def test_frames_and_parameters_of_several_fields_of_view(placed, tmp_path):
    for n in range(3):
        part = of(placed, n).assign_coords(badframes=("time", np.arange(T) == n))
        part = part.assign_coords(frame_qc=("time", (np.arange(T) > 30).astype("u1")))
        part.F.attrs["tau"] = part.spks.attrs["tau"] = part.attrs["tau"] = 1.0 + (n == 2)
        xs2p.write_alf(part, tmp_path)
    found = xs2p.read_alf(tmp_path)
    assert np.flatnonzero(found.badframes).tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found.frame_qc, np.arange(T) > 30)
    assert not any("tau" in each.attrs for each in (found, found.F, found.spks))
    assert found.attrs["baseline"] == placed.attrs["baseline"] and "units" in found.F.attrs
    assert found.spks.attrs["baseline"] == placed.spks.attrs["baseline"]
    np.save(tmp_path / "FOV_01" / "mpci.mpciFrameQC.npy", np.zeros(T, "u1"))
    with pytest.warns(UserWarning, match="differ in frame_qc"):
        assert "frame_qc" not in xs2p.read_alf(tmp_path).coords


def test_neuropil_masks_of_several_fields_of_view(placed, tmp_path):
    for n in range(3):
        part = of(placed, n)
        xs2p.write_alf(part, tmp_path / "a", masks=xs2p.build_masks(part, min_neuropil_pixels=40))
    found = xs2p.read_alf(tmp_path / "a")
    xs2p.write_alf(found, tmp_path / "b")
    for n in range(3):
        name = f"FOV_{n:02}/mpciROIs.neuropilMasks.sparse_npz"
        one, other = (np.load(tmp_path / path / name) for path in "ab")
        assert one["indptr"][-1] > 0
        for key in ("indices", "indptr", "shape"):
            np.testing.assert_array_equal(one[key], other[key])
    os.remove(tmp_path / "b" / "FOV_01" / "_xs2p_ROIData.attributes.json")
    os.remove(tmp_path / "b" / "FOV_01" / "mpciROIs.neuropilMasks.sparse_npz")
    with pytest.warns(UserWarning, match="FOV_01 has no mpciROIs.neuropilMasks"):
        assert "neuropil_mask" not in xs2p.read_alf(tmp_path / "b").variables


@pytest.mark.parametrize(
    "name", ["mpciROIs.cellClassifier.npy", "mpci.ROIActivityF.npy", "mpciROIs.masks.sparse_npz"]
)
def test_a_field_of_view_without_a_file_that_others_have(placed, tmp_path, name):
    xs2p.write_alf(placed, tmp_path)
    os.remove(tmp_path / "FOV_01" / "_xs2p_ROIData.attributes.json")
    os.remove(tmp_path / "FOV_01" / name)
    with pytest.raises(ValueError, match=r"FOV_01 has no .*and FOV_00 has"):
        xs2p.read_alf(tmp_path)


def test_rois_are_read_where_times_differ(placed, tmp_path):
    xs2p.write_alf(placed, tmp_path)
    want = xs2p.read_rois(tmp_path)
    times = tmp_path / "FOV_01" / "mpci.times.npy"
    np.save(times, np.load(times) + 0.02)
    assert xs2p.read_rois(tmp_path).identical(want) and set(want.attrs) == {"Ly", "Lx"}
    for name in ("npix", "ypix", "xpix", "lam", "overlap"):
        np.testing.assert_array_equal(want[name], placed.s2p.compact()[name])
        assert name in want.data_vars


def test_labels_that_cannot_be_read_again(ds, tmp_path):
    mixed = ds.assign_coords(roi=np.array([0, "a", 1, 2, 3, 4], object))
    with pytest.raises(ValueError, match="labels of the ROIs are int, str, expected"):
        xs2p.write_alf(mixed, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_segments_are_told_of(ds, tmp_path):
    parts = ds.assign_coords(segment=("time", np.arange(T) // 20))
    with pytest.warns(UserWarning, match="no place for segment"):
        xs2p.write_alf(parts, tmp_path)


def test_the_mean_image_of_the_one_plane_there_is(placed, tmp_path):
    image = np.arange(LY * LX, dtype=float).reshape(LY, LX)
    some = placed.assign({f"meanImg_plane{n}": (("y", "x"), image * n) for n in range(3)})
    xs2p.write_alf(of(some, 2), tmp_path)
    np.testing.assert_array_equal(xs2p.read_alf(tmp_path).meanImg, image * 2)
    xs2p.write_alf(of(some, 1), tmp_path / "FOV_07")
    np.testing.assert_array_equal(xs2p.read_alf(tmp_path / "FOV_07").meanImg, image)


def bomb(held):
    """Zeros by the million, of which a file has next to nothing."""
    many = np.zeros(5_000_000, np.int64)
    return {**held, "data": many.astype(bool), "indices": many}


@pytest.mark.parametrize(
    ("damage", "match"),
    [
        (bomb, "tells of 45000000 bytes"),
        (lambda held: {**held, "data": np.zeros(10**7)}, "weights, but .* places"),
        (lambda held: {**held, "indptr": np.zeros(10**7, int)}, "indptr is .* of masks"),
        (lambda held: {**held, "indptr": np.int64(0)}, "indptr is .* of masks"),
        (lambda held: {**held, "shape": np.ones(10**7, int)}, "its shape is"),
        (lambda held: {**held, "fill_value": np.zeros(10**7)}, "its fill_value is"),
    ],
)
def test_what_would_unpack_to_much_is_not_unpacked(ds, tmp_path, damage, match):
    xs2p.write_alf(ds, tmp_path)
    path = tmp_path / "FOV_00" / "mpciROIs.masks.sparse_npz"
    held = damage(dict(np.load(path)))
    with open(path, "wb") as file:
        np.savez_compressed(file, **held)
    tracemalloc.start()
    with pytest.raises(ValueError, match=match) as told:
        xs2p.read_rois(tmp_path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert "mpciROIs.masks" in str(told.value) and most < 2e7
