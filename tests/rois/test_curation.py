"""Choices of ROIs: tables, what is refused, and the order in which ROIs are gone through."""

import numpy as np
import pytest
import xarray as xr

import xs2p
from xs2p.plot.curating import Curation, measures_at_hand
from xs2p.rois.curation import write_choices


@pytest.fixture
def rois():
    labels = np.kron(np.arange(1, 7).reshape(2, 3), np.ones((4, 4), int))
    return xs2p.rois_from_labels(labels)


def test_a_table_is_read_as_it_was_written(rois, tmp_path):
    names = np.array(['a "b", c', "é\n2", "3", "4", "5", "6"], object)
    rois = rois.assign_coords(roi=names)
    flags = np.array([True, False, True, True, False, False])
    write_choices(names, flags, tmp_path / "c.csv", overwrite=False)
    found = rois.s2p.curated(tmp_path / "c.csv")
    np.testing.assert_array_equal(found.iscell, flags)
    assert found.iscell.dtype == bool and found.iscell.attrs["long_name"]
    xr.testing.assert_identical(found.drop_vars("iscell"), rois)
    with pytest.raises(FileExistsError, match="overwrite=True"):
        write_choices(names, ~flags, tmp_path / "c.csv", overwrite=False)
    write_choices(names, ~flags, tmp_path / "c.csv", overwrite=True)
    np.testing.assert_array_equal(rois.s2p.curated(tmp_path / "c.csv").iscell, ~flags)
    (tmp_path / "other.csv").write_text("roi,score\n1,2\n")
    with pytest.raises(FileExistsError, match="is no table of choices"):
        write_choices(names, flags, tmp_path / "other.csv", overwrite=True)


def test_what_is_not_chosen_stays(rois):
    rois = rois.assign_coords(iscell=("roi", [1, 0, 1, 0, 1, 0]))
    found = rois.s2p.curated({2: True, 5: False}).iscell
    assert found.values.tolist() == [True, True, True, False, False, False]
    some = xr.DataArray([False, True], {"roi": [1, 4]}, "roi")
    assert rois.s2p.curated(some).iscell.values.tolist() == [False, False, True, True, True, False]
    fresh = rois.drop_vars("iscell").s2p.curated({3: False})
    assert fresh.iscell.values.tolist() == [True, True, False, True, True, True]


def test_tables_of_other_programs(rois, tmp_path):
    path = tmp_path / "c.csv"
    path.write_bytes("\ufeffname, roi ,iscell\r\nx,1,False\r\ny,6,0.0\r\n\r\nz,2,TRUE\r\n".encode())
    assert rois.s2p.curated(path).iscell.values.tolist() == [False, True, True, True, True, False]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns roi and iscell; this has none"),
        ("roi,cell\n1,1\n", "this has roi, cell"),
        ("roi,iscell\n1,yes\n", "1 or 0, True or False; got yes"),
        ("roi,iscell\n1,1\n1,0\n", "more than once: 1"),
        ("roi,iscell\n77,1\n", r"not in ds \(roi 77\)"),
        ("roi,iscell\n1\n", "line 2 has 1 columns"),
    ],
)
def test_bad_tables_are_named(rois, tmp_path, text, message):
    (tmp_path / "c.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        rois.s2p.curated(tmp_path / "c.csv")


def test_bad_choices_are_named(rois, tmp_path):
    (tmp_path / "c.csv").write_bytes(b"\xff\xfe\x00")
    for choices, message in (
        (tmp_path / "c.csv", "is no text"),
        ([1, 2], "got list"),
        (rois.npix, "got int"),
    ):
        with pytest.raises(ValueError, match=message):
            rois.s2p.curated(choices)
    with pytest.raises(ValueError, match="labels over the dim roi"):
        xs2p.curated(rois.drop_vars("roi"), {1: True})


def curation():
    values = np.array([0.5, np.nan, 0.9, 0.1, 0.9])
    return Curation(np.array([True, True, False, True, True]), {"snr": values})


def test_order():
    some = curation()
    assert [some.step(0, 1), some.step(4, 1), some.step(0, -1), some.step(3, -1)] == [1, 4, 0, 2]
    some.sort("snr")
    assert some.order.tolist() == [2, 4, 0, 3, 1]  # what is not known is last
    some.sort("snr", descending=False)
    assert some.order.tolist() == [3, 0, 2, 4, 1]
    some.filter("snr", low=0.5)
    assert some.order.tolist() == [0, 2, 4]
    some.filter("snr", high=0.5)
    assert some.order.tolist() == [3, 0] and some.step(2, 1) == 3  # from what is filtered out
    some.filter("rejected")
    assert some.order.tolist() == [2]
    some.filter("snr", low=2)
    assert some.order.size == 0 and some.step(1, 1) == 1
    with pytest.raises(ValueError, match="no numbers 'size' over roi; there are snr"):
        some.sort("size")


def test_choices_are_taken_back_one_after_another():
    some = curation()
    assert some.decide(0, False) == 1 and some.decide(1, True) == 2 and some.decide(2, True) == 3
    assert some.accepted.tolist() == [False, True, True, True, True]
    assert [some.undo(), some.undo(), some.undo(), some.undo()] == [2, 1, 0, None]
    assert some.accepted.tolist() == [True, True, False, True, True]
    some.filter("accepted")
    assert some.decide(0, False) == 1 and some.order.tolist() == [1, 3, 4]


def test_measures_of_lazy_traces_are_left_out(rois):
    F = xr.DataArray(np.ones((6, 50), "f4"), dims=("roi", "time")).chunk(time=10)
    ds = rois.assign(F=F, lazy=F.mean("time"), known=("roi", np.arange(6)))
    assert {"known", "npix", "radius"} <= set(measures_at_hand(ds))
    assert not {"lazy", "roi", "roi_id", "status"} & set(measures_at_hand(ds))


def test_a_flag_that_is_neither_is_refused(rois):
    joined = rois.assign_coords(iscell=("roi", [1.0, 0.0, 1.0, 0.0, 1.0, 0.0]))
    found = joined.s2p.curated({3: False}).iscell
    assert found.values.tolist() == [True, False, False, False, True, False]
    values = np.array([True, None, np.nan, False, True, True], object)
    with pytest.raises(ValueError, match=r"of roi 2, 3 it is None, nan"):
        rois.assign_coords(iscell=("roi", values)).s2p.curated({1: False})


def test_labels_that_stand_twice_are_refused(rois):
    with pytest.raises(ValueError, match=r"more than once \(1\)"):
        rois.assign_coords(roi=[1, 1, 2, 3, 4, 5]).s2p.curated({1: False})


def test_what_other_programs_said_goes(rois):
    said = rois.assign_coords(
        Accepted=("roi", [1, 0, 1, 1, 1, 1]), Rejected=("roi", [0, 1] + [0] * 4)
    )
    found = said.s2p.curated({6: False})
    assert found.iscell.values.tolist() == [True, False, True, True, True, False]
    assert not {"Accepted", "Rejected"} & set(found.variables)
