"""References to the heaps of an HDF5 file: sound ones pass, those that lead nowhere are named."""

import struct

import h5py
import numpy as np
import pytest

from xs2p.disk import hdf5_texts
from xs2p.disk.hdf5_damage import objects_in
from xs2p.disk.hdf5_texts import check_references

TEXTS = ["a", "some longer text", "", "ü" * 300]
FORMS = [{}, {"libver": "latest"}, {"userblock_size": 512}, {"track_order": True}]


def write(path, **how):
    with h5py.File(path, "w", **how) as file:
        many = file.create_group("many")
        for n in range(40):  # more than fit into the first block of a header
            many.attrs[f"text {n}"] = f"{n} " * n
        file.attrs["list"] = TEXTS
        file.attrs["number"] = np.arange(5.0)
        kind = h5py.string_dtype()
        whole = file.create_dataset("texts", data=np.array(TEXTS, object), dtype=kind)
        whole.attrs["unit"] = "s"
        file.create_dataset("cut", data=np.array(TEXTS, object), dtype=kind, chunks=(2,))
        file.create_dataset("packed", data=np.array(TEXTS, object), chunks=(2,), compression="gzip")
        lists = file.create_dataset("lists", (3,), dtype=h5py.vlen_dtype("i4"))
        for n in range(3):
            lists[n] = np.arange(n * 100)
        file.create_dataset("one", data="a text alone")
        file.create_dataset("none", data=h5py.Empty("f4"))


def check(path):
    with h5py.File(path) as file:
        check_references(objects_in(file), str(path))


@pytest.mark.parametrize("how", FORMS, ids=str)
def test_sound_files_pass_and_their_references_are_found(tmp_path, how, monkeypatch):
    path, found = tmp_path / "a.h5", []
    write(path, **how)
    plain = hdf5_texts._references

    def seen(*args):
        for reference in plain(*args):
            found.append(reference)
            yield reference

    monkeypatch.setattr(hdf5_texts, "_references", seen)
    check(path)
    lengths = [number for number, *_ in found]
    assert len("some longer text") in lengths and 600 in lengths
    if how != {"libver": "latest"}:  # there many attributes lie elsewhere
        assert {len(f"{n} " * n) for n in range(40)} <= set(lengths)


@pytest.mark.parametrize("how", [{}, {"userblock_size": 512}], ids=str)
@pytest.mark.parametrize("what", ["length", "place"])
def test_each_reference_that_leads_nowhere_is_named(tmp_path, how, what):
    path = tmp_path / "a.h5"
    write(path, **how)
    whole = path.read_bytes()
    base = how.get("userblock_size", 0)
    heap = struct.pack("<Q", whole.find(b"GCOL") - base)
    at, tried, named = whole.find(heap), 0, 0
    while at >= 0:
        number = struct.unpack_from("<I", whole, at - 4)[0]
        if 0 < number < 2000:
            wrong = struct.pack("<I", 2**30) if what == "length" else struct.pack("<Q", 24)
            place = at - 4 if what == "length" else at
            path.write_bytes(whole[:place] + wrong + whole[place + len(wrong) :])
            tried += 1
            try:
                check(path)
            except ValueError as error:
                assert "is damaged: a text of" in str(error)
                named += 1
        at = whole.find(heap, at + 8)
    # Four bytes by chance before one; behind a user block datasets are not looked at.
    assert tried > 40 and named >= tried - (1 if not base else 12)
