"""Stores of many ROIs: chunks are read alone, and lie together in a bounded number of files."""

from __future__ import annotations

import inspect
import os
from pathlib import Path

import dask
import dask.array as da
import numpy as np
import pytest
import xarray as xr
import zarr
from stores import files

import xs2p
from xs2p.pipeline import regions as _regions
from xs2p.pipeline import shards
from xs2p.pipeline.marks import marked_files
from xs2p.testing import simulate

FS, N, REGION = 10.0, 250, 50
OPTIONS = {
    "tau": 0.1,
    "min_neuropil_pixels": 50,
    "win_baseline": 1.0,
    "sig_baseline": 2.0,
    "frames_per_region": REGION,
    "progress": False,
}


@pytest.fixture(scope="module")
def recording():
    return simulate(8, (40, 44), N, fs=FS, chunks=25)[:2]


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Chunks of 3 ROIs, and shards of what is made of F of two regions."""
    monkeypatch.setattr(shards, "_CHUNK_SAMPLES", 3 * REGION)
    monkeypatch.setattr(shards, "_SHARD_SAMPLES", 6 * REGION)


def stored(path, name):
    found = (Path(path) / name / "c").rglob("*")
    return sorted(file.relative_to(path).as_posix() for file in found if file.is_file())


def test_files_are_of_shards_and_chunks_are_read_alone(recording, tmp_path):
    ds = xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", **OPTIONS)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r")
    assert group["F"].chunks == group["spks"].chunks == (3, REGION)
    assert group["F"].shards == (9, REGION) and group["spks"].shards == (3, 2 * REGION)
    assert stored(tmp_path / "a.zarr", "F") == [f"F/c/0/{n}" for n in range(5)]
    assert len(stored(tmp_path / "a.zarr", "spks")) == 3 * 3
    assert ds.F.chunks == ((3, 3, 2), (REGION,) * 5)
    options = {k: v for k, v in OPTIONS.items() if k not in ("frames_per_region", "progress")}
    for name, array in xs2p.extract(*recording, **options).compute().items():
        np.testing.assert_array_equal(ds[name], array)
    with xr.open_zarr(tmp_path / "a.zarr") as opened:
        np.testing.assert_array_equal(opened.spks[5], ds.spks[5])


class Stopped(BaseException):
    """Ends a run in the middle."""


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("_write_block", 7),
        pytest.param("_write_block", 14, marks=pytest.mark.slow),
        ("_mark_block", 6),
    ],
)
def test_a_run_that_stops_goes_on_to_the_same_bytes(recording, tmp_path, monkeypatch, what, number):
    xs2p.extract_to_zarr(*recording, tmp_path / "whole.zarr", **OPTIONS)
    plain, calls = getattr(_regions, what), []

    def once(*args, **kwargs):
        calls.append(1)
        if len(calls) > number:
            raise Stopped
        return plain(*args, **kwargs)

    once.__signature__ = inspect.signature(plain)  # Dask looks at it
    with monkeypatch.context() as patched, dask.config.set(scheduler="synchronous"):
        patched.setattr(_regions, what, once)
        with pytest.raises(Stopped):
            xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", **OPTIONS)
    again = {**OPTIONS, "resume": True, "verify": True}
    if number != 7:
        xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", **again)
    else:
        partial = tmp_path / "a.partial.zarr"
        marked = [name for _, _, name, _ in marked_files(str(partial)) if name.startswith("F/")]
        assert 0 < len(marked) < 5
        # A disk that lost one, and half of those that were not marked yet.
        for name in {f"F/c/0/{n}" for n in range(5)} - set(marked[1:]):
            (partial / name).write_bytes(b"half of it")
        with pytest.warns(UserWarning, match="1 of the regions .* done again"):
            xs2p.extract_to_zarr(*recording, tmp_path / "a.zarr", **again)
    assert files(tmp_path / "a.zarr") == files(tmp_path / "whole.zarr")


def test_damage_is_found_and_mended(recording, tmp_path):
    path = tmp_path / "a.zarr"
    xs2p.extract_to_zarr(*recording, path, **OPTIONS)
    before = files(path)
    for name in ("F/c/0/4", "spks/c/1/2"):
        data = bytearray((path / name).read_bytes())
        data[20] ^= 1
        (path / name).write_bytes(data)
    found = xs2p.check_store(path).set_index("file")
    assert found.loc["F/c/0/4"].tolist()[:5] == ["F", 0, 7, 200, 249]
    assert found.loc["spks/c/1/2"].tolist()[:5] == ["spks", 3, 5, 200, 249]
    xs2p.repair_store(path, recording[0], progress=False)
    assert files(path) == before and os.listdir(tmp_path) == ["a.zarr"]


@pytest.mark.parametrize("n_rois", [1, 3, 500, 501, 10_000])
@pytest.mark.parametrize(("n_frames", "frames"), [(1000, 419), (500_000, 419), (500_000, 16384)])
def test_files_are_bounded(monkeypatch, n_rois, n_frames, frames):
    """However many ROIs and frames, files hold some million samples on the average."""
    monkeypatch.undo()
    data = da.zeros((n_rois, n_frames), dtype="f4", chunks=(n_rois, 16384))
    ds = xr.Dataset({name: (("roi", "time"), data) for name in ("F", "spks")})
    for layout in shards.layouts(ds, frames).values():
        sizes = layout.shards or layout.chunks
        assert all(a % b == 0 for a, b in zip(sizes, layout.chunks, strict=True))
        number = np.prod([-(-n // size) for n, size in zip(data.shape, sizes, strict=True)])
        at_least = -(-n_rois // layout.chunks[0])
        assert number <= at_least + 1 + 1.5 * n_rois * n_frames / min(2**22, n_rois * frames)
        assert np.prod(layout.chunks) <= 2**20
