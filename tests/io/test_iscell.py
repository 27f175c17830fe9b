"""Choices go back into suite2p's folder: rows, probabilities, and what was there before."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import xs2p

REAL = Path(__file__).parent.parent / "data" / "suite2p-folder-2p"


@pytest.fixture
def folder(tmp_path):
    found = REAL if (REAL / "stat.npy").exists() else next(REAL.rglob("stat.npy")).parent
    shutil.copytree(found, tmp_path / "plane0")
    return tmp_path / "plane0"


def test_choices_go_back_into_the_folder(folder):
    before = np.load(folder / "iscell.npy")
    rois = xs2p.read_rois(folder)
    flips = {int(i): not bool(rois.iscell[i]) for i in (0, 3, 7)}
    rois = rois.s2p.curated(flips)
    with pytest.raises(FileExistsError, match="keeps what it was before as iscell_before_xs2p"):
        xs2p.write_iscell(rois, folder)
    np.testing.assert_array_equal(np.load(folder / "iscell.npy"), before)
    xs2p.write_iscell(rois, folder, overwrite=True)
    after = np.load(folder / "iscell.npy")
    assert np.flatnonzero(after[:, 0] != before[:, 0]).tolist() == [0, 3, 7]
    np.testing.assert_array_equal(after[:, 1], before[:, 1])
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(np.load(folder / "iscell_before_xs2p.npy"), before)
    np.testing.assert_array_equal(xs2p.read_rois(folder).iscell, rois.iscell)
    # A second time the first backup stays, and what was chosen since, as by suite2p, is another.
    since = after.copy()
    since[9, 0] = 1 - since[9, 0]
    np.save(folder / "iscell.npy", since)
    for _ in range(3):
        xs2p.write_iscell(rois.s2p.curated({5: False}), folder, overwrite=True)
    np.testing.assert_array_equal(np.load(folder / "iscell_before_xs2p.npy"), before)
    np.testing.assert_array_equal(np.load(folder / "iscell_before_xs2p_2.npy"), since)
    assert len(list(folder.glob("iscell_before_xs2p*"))) == 3  # ours is the third, once
    assert not [p for p in folder.iterdir() if p.name.endswith(".partial")]


def test_rois_that_are_left_out_keep_theirs(folder):
    before = np.load(folder / "iscell.npy")
    cells = xs2p.read_rois(folder, cells_only=True)
    first = int(cells.roi[0])
    xs2p.write_iscell(cells.s2p.curated({first: False}), folder, overwrite=True)
    after = np.load(folder / "iscell.npy")
    assert np.flatnonzero(after[:, 0] != before[:, 0]).tolist() == [first]
    (folder / "iscell.npy").unlink()
    xs2p.write_iscell(cells.s2p.curated({first: False}), folder)
    table = np.load(folder / "iscell.npy")
    assert np.flatnonzero(table[:, 0] == 0).tolist() == [first] and (table[:, 1] == 1).all()


def test_a_folder_of_planes(folder):
    shutil.copytree(folder, folder.parent / "plane1")
    rois = xs2p.read_rois(folder.parent)
    n = rois.sizes["roi"] // 2
    before = np.load(folder / "iscell.npy")
    flips = {1: not bool(rois.iscell[1]), n + 4: not bool(rois.iscell[n + 4])}
    xs2p.write_iscell(rois.s2p.curated(flips), folder.parent, overwrite=True)
    for plane, place in ((0, 1), (1, 4)):
        after = np.load(folder.parent / f"plane{plane}" / "iscell.npy")
        assert np.flatnonzero(after[:, 0] != before[:, 0]).tolist() == [place]


def test_rois_of_another_detection_are_refused(folder, tmp_path):
    rois = xs2p.read_rois(folder).s2p.curated({})
    before = (folder / "iscell.npy").read_bytes()
    order = rois.roi.values[::-1]
    for wrong, message in (
        (rois.assign_coords(roi=order), "are others than those of"),
        (rois.assign_coords(roi=rois.roi + 5), "and ds has roi"),
        (rois.assign_coords(roi=rois.roi.values.astype(str)), "are no positions in stat.npy"),
        (rois.drop_vars("iscell"), "has no iscell over roi"),
    ):
        with pytest.raises(ValueError, match=message):
            xs2p.write_iscell(wrong, folder, overwrite=True)
    assert (folder / "iscell.npy").read_bytes() == before
    (folder / "stat.npy").unlink()
    with pytest.raises(FileNotFoundError, match="no .*stat.npy"):
        xs2p.write_iscell(rois, folder, overwrite=True)
