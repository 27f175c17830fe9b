"""One store for the groups of a tree: as each would be alone, and it can be killed as well."""

import json
import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import dask
import pytest
import xarray as xr
from counting import CountingFrames
from stores import files

import xs2p
from xs2p import cli
from xs2p._attrs import UNFINISHED
from xs2p.disk.lock import locked
from xs2p.disk.traces import groups_in
from xs2p.pipeline import regions
from xs2p.testing import raise_if_dask_computes, simulate

N, REGION = 300, 100
OF_EXTRACT = {"tau": 0.1, "min_neuropil_pixels": 50, "win_baseline": 1.0, "sig_baseline": 2.0}
OPTIONS = {**OF_EXTRACT, "frames_per_region": REGION, "progress": False}
GROUPS = ("/day 1/plane0", "/day 1/plane1", "/day2")


def tree_of(movies):
    held = {path: movie.to_dataset(name="movie") for path, movie in movies.items()}
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"mouse": "m1"}), **held})


@pytest.fixture(scope="module")
def recording():
    movie, rois = simulate(6, (40, 44), N, fs=10.0, chunks=50)[:2]
    return {path: (movie[: N - 50 * n] + n).chunk(time=50) for n, path in enumerate(GROUPS)}, rois


@pytest.fixture(scope="module")
def made(recording, tmp_path_factory):
    """The store of a run that nothing happened to."""
    path = tmp_path_factory.mktemp("made") / "a.zarr"
    tree_of(recording[0]).s2p.extract_to_zarr(path, recording[1], **OPTIONS)
    return path


def plain(store):
    """Every file of a store to the byte, but for when it was made, and checksums of that."""

    def without(held):
        if isinstance(held, dict):
            ledger = json.loads(held.get("ledger", "{}")).get("files", {})
            sums = {"files": {name: n for name, n in ledger.items() if name != "zarr.json"}}
            kept = {k: v for k, v in held.items() if k not in ("xs2p_history", "ledger", "crc32")}
            return {k: without(v) for k, v in kept.items()} | (sums if ledger else {})
        return held

    return {
        name: without(json.loads(data)) if name.endswith("zarr.json") else data
        for name, data in files(store).items()
    }


def test_a_store_holds_what_the_tree_gives(recording, made):
    movies, rois = recording
    lazy = tree_of(movies).s2p.extract(rois, **OF_EXTRACT)
    for engine in ("xs2p", "zarr"):
        with xr.open_datatree(made, engine=engine, chunks={}) as found:
            assert {*found.groups} == {"/", "/day 1", *GROUPS} and found.attrs["mouse"] == "m1"
            with raise_if_dask_computes():
                parts = {path: found[path].to_dataset() for path in GROUPS}
            for path, part in parts.items():
                assert part.F.chunks is not None
                xr.testing.assert_equal(part.compute(), lazy[path].to_dataset().compute())
    assert [path.name for path in made.parent.iterdir()] == ["a.zarr"]
    told = xs2p.provenance(made)
    assert told["complete"] and {*told["groups"]} == {*GROUPS}
    assert told["groups"]["/day2"]["movie"]["shape"][0] == N - 100
    assert xs2p.check_store(made).empty


def ran(arguments):
    """The exit code of a command."""
    with pytest.raises(SystemExit) as ended:
        cli.main(arguments)
    return ended.value.code


class Stopped(BaseException):
    """Stands for what ends a run in the middle."""


@pytest.mark.parametrize(("number", "done"), [(0, 0), (1, 0), (4, 1), (9, 1), (11, 2)])
def test_a_run_that_stops_goes_on_and_reads_no_group_again(
    recording, made, tmp_path, monkeypatch, number, done
):
    movies, rois = recording
    read = {path: CountingFrames(movie.values) for path, movie in movies.items()}
    lazy = {p: m.copy(data=read[p].to_dask((50, *m.shape[1:]))) for p, m in movies.items()}
    tree, path, marks = tree_of(lazy), tmp_path / "a.zarr", []

    def stops(*args):
        marks.append(args)
        if len(marks) > number:
            raise Stopped
        return write(*args)

    write = regions.write_mark
    in_turn = dask.config.set(scheduler="synchronous")
    with monkeypatch.context() as patched, in_turn, pytest.raises(Stopped) as stopped:
        patched.setattr(regions, "write_mark", stops)
        tree.s2p.extract_to_zarr(path, rois, **OPTIONS)
    notes = " ".join(stopped.value.__notes__)
    assert "in the group '/day" in notes
    assert [p.name for p in tmp_path.iterdir()] == (["a.partial.zarr"] if number else [])
    assert f"{done} of 3 groups" in notes if done else "of 3 groups" not in notes
    before = {p: frames.reads.sum() for p, frames in read.items()}
    tree.s2p.extract_to_zarr(path, rois, resume=True, **OPTIONS)
    assert plain(path) == plain(made)
    # Of a group that is complete three frames are read again, to tell that it is the same movie.
    assert sum(read[p].reads.sum() - before[p] <= 3 for p in before) >= done


def test_a_killed_process_goes_on(recording, made, tmp_path):
    movies, rois = recording
    script = """
        import os, signal, sys
        import xarray as xr
        import xs2p
        from xs2p.pipeline import regions

        write, marks = regions.write_mark, []
        def dies(*args):
            marks.append(args)
            if len(marks) == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return write(*args)
        regions.write_mark = dies
        tree = xr.open_datatree("in.zarr", engine="zarr", chunks={"time": 50}, consolidated=False)
        for group in tree.subtree:
            if "movie" in group.data_vars:
                group["movie"].encoding.clear()
        # A folder lists its groups in any order: that of the run that goes on, which is kept.
        parts = {p: tree[p].to_dataset() for p in GROUPS}
        tree = xr.DataTree.from_dict({"/": tree.to_dataset(), **parts})
        tree.s2p.extract_to_zarr("a.zarr", xr.open_zarr("rois.zarr", consolidated=False), **OPTIONS)
    """
    tree_of(movies).to_zarr(tmp_path / "in.zarr", consolidated=False)
    rois.to_zarr(tmp_path / "rois.zarr", consolidated=False)
    script = textwrap.dedent(script).replace("OPTIONS", repr(OPTIONS))
    script = script.replace("GROUPS", repr(GROUPS))
    ended = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True)
    assert ended.returncode == -9, ended.stderr.decode()
    assert (tmp_path / "a.partial.zarr").exists() and not (tmp_path / "a.zarr").exists()
    begun = xr.open_datatree(tmp_path / "a.partial.zarr", engine="xs2p")
    # In which order groups are opened is the file system's.
    (half,) = [g for g in begun.subtree if "F" in g.data_vars and UNFINISHED in g.attrs]
    with pytest.warns(UserWarning, match="not complete"):
        assert half.to_dataset().s2p is not None
    told = xs2p.provenance(tmp_path / "a.partial.zarr")
    assert not told["complete"] and 1 <= len(told["groups"]) < 3
    tree_of(movies).s2p.extract_to_zarr(tmp_path / "a.zarr", rois, resume=True, **OPTIONS)
    assert plain(tmp_path / "a.zarr") == plain(made)
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]
    # Once more: all is there, and nothing is done.
    tree_of(movies).s2p.extract_to_zarr(
        tmp_path / "a.zarr", rois, resume=True, verify=True, **OPTIONS
    )


def test_damage_is_found_in_its_group_and_made_good(recording, made, tmp_path, monkeypatch, capsys):
    movies, rois = recording
    path = tmp_path / "b.zarr"
    tree_of(movies).s2p.extract_to_zarr(path, rois, overwrite=True, **OPTIONS)
    monkeypatch.chdir(tmp_path)
    assert ran(["check", "b.zarr"]) == 0
    data = bytearray((path / "day 1/plane1/spks/c/0/1").read_bytes())
    data[-1] ^= 1
    (path / "day 1/plane1/spks/c/0/1").write_bytes(data)
    (path / "day 1/zarr.json").unlink()
    assert ran(["check", "b.zarr"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert "day 1/plane1/spks, ROIs 0 to 5, frames 100 to 199: other bytes" in said
    assert "day 1: missing (day 1/zarr.json)" in said
    with pytest.raises(
        ValueError, match=r"groups .*repair the one that is damaged, as 'b.zarr/day"
    ):
        xs2p.repair_store("b.zarr", movies["/day 1/plane1"])
    xs2p.repair_store("b.zarr/day 1/plane1", movies["/day 1/plane1"], progress=False)
    assert xs2p.check_store("b.zarr").file.tolist() == ["day 1/zarr.json"]
    (path / "day2").rename(tmp_path / "away")
    assert {*xs2p.check_store("b.zarr").file} == {"day 1/zarr.json", "day2"}
    assert ran(["info", str(made)]) == 0
    assert "3 groups" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (
            {"groups": GROUPS[:2]},
            ValueError,
            "groups /day2, .*, and /day 1/plane0, /day 1/plane1 are",
        ),
        ({"more": 1}, ValueError, "other movie .content.*in the group '/day2'"),
        ({"tau": 0.2}, ValueError, "tau=0.1, and 0.2 is given now"),
        ({"resume": False}, FileExistsError, "resume|overwrite=True replaces it"),
        ({"resume": 1}, ValueError, "resume"),
        ({"taus": 1.0}, TypeError, "extract_to_zarr.* 'taus'; did you mean tau"),
        ({"names": {"/day2": "/xs2p_files"}}, ValueError, "'/xs2p_files' cannot be one of a store"),
        ({"names": {"/day2": "/zarr.json"}}, ValueError, "'/zarr.json' cannot be one of a store"),
        ({"names": {"/day2": "/"}, "groups": ["/day2"]}, ValueError, "it is the tree's root"),
        ({"fs": -1.0}, ValueError, "fs"),
    ],
)
def test_what_does_not_fit_is_told_and_nothing_is_written(recording, made, changes, error, message):
    changes = dict(changes)
    names, more = changes.pop("names", {}), changes.pop("more", 0)
    movies = {names.get(p, p): recording[0][p] + more for p in changes.pop("groups", GROUPS)}
    before = plain(made)
    with pytest.raises(error) as told:
        options = {**OPTIONS, "resume": True, **changes}
        tree_of(movies).s2p.extract_to_zarr(made, recording[1], **options)
    said = " ".join([str(told.value), *getattr(told.value, "__notes__", [])])
    assert re.search(message, said), said
    assert plain(made) == before and [p.name for p in made.parent.iterdir()] == ["a.zarr"]


def test_a_complete_group_that_was_damaged_meanwhile_is_made_anew(
    recording, made, tmp_path, monkeypatch
):
    movies, rois = recording
    path, marks = tmp_path / "a.zarr", []

    def stops(*args):
        marks.append(args)
        if len(marks) > 4:
            raise Stopped
        return write(*args)

    write = regions.write_mark
    in_turn = dask.config.set(scheduler="synchronous")
    with monkeypatch.context() as patched, in_turn, pytest.raises(Stopped):
        patched.setattr(regions, "write_mark", stops)
        tree_of(movies).s2p.extract_to_zarr(path, rois, **OPTIONS)
    (tmp_path / "a.partial.zarr/day2/F/c/0/1").unlink()
    with pytest.warns(UserWarning, match="day2 is not what was written any more.*made anew"):
        tree_of(movies).s2p.extract_to_zarr(path, rois, resume=True, **OPTIONS)
    assert plain(path) == plain(made)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("day2/notes.csv", "has a group /day2 that holds notes.csv"),
        ("day 1/notes.csv", "has a group /day 1 that holds notes.csv"),
        ("day 1/raw/zarr.json", "holds raw, which is not of its groups"),
        ("raw/zarr.json", "holds raw, which is not of its groups"),
    ],
)
def test_what_others_put_into_a_store_is_not_replaced(recording, made, tmp_path, file, message):
    movies, rois = recording
    path = tmp_path / "a.zarr"
    shutil.copytree(made, path)
    (path / file).parent.mkdir(exist_ok=True)
    text = '{"zarr_format": 3, "node_type": "group", "attributes": {}}'
    (path / file).write_text(text)
    with pytest.raises(FileExistsError, match=re.escape(message)):
        tree_of(movies).s2p.extract_to_zarr(path, rois, overwrite=True, **OPTIONS)
    assert (path / file).read_text() == text


def test_a_group_that_is_lost_is_missed(recording, made, tmp_path):
    movies, rois = recording
    path = tmp_path / "a.zarr"
    shutil.copytree(made, path)
    shutil.rmtree(path / "day2")
    with pytest.raises(ValueError, match="was complete, and lacks /day2 now"):
        tree_of(movies).s2p.extract_to_zarr(path, rois, resume=True, **OPTIONS)
    with pytest.raises(ValueError, match="is no store of traces") as told:
        xr.open_datatree(path, engine="xs2p")
    assert "lacks the group /day2" in str(told.value.__cause__)


def test_one_run_at_a_time(recording, tmp_path):
    movies, rois = recording
    with (
        locked(str(tmp_path / ".a.partial.zarr.lock"), "it"),
        pytest.raises(BlockingIOError, match="being written by"),
    ):
        tree_of(movies).s2p.extract_to_zarr(tmp_path / "a.zarr", rois, **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_stores_of_one_movie_and_of_several_are_not_taken_for_each_other(recording, made, tmp_path):
    movies, rois = recording
    path = tmp_path / "one.zarr"
    xs2p.extract_to_zarr(movies["/day2"], rois, path, **OPTIONS)
    with pytest.raises(ValueError, match="it is not of a DataTree"):
        tree_of(movies).s2p.extract_to_zarr(path, rois, resume=True, **OPTIONS)
    with pytest.raises(ValueError, match="has the groups .*no store of one movie"):
        xs2p.extract_to_zarr(movies["/day2"], rois, made, resume=True, **OPTIONS)
    one = xr.open_datatree(path, engine="xs2p")
    xr.testing.assert_equal(
        one.to_dataset(), xr.open_datatree(made, engine="xs2p")["day2"].to_dataset()
    )
    assert groups_in(str(path)) is None
    with pytest.raises(ValueError, match="no store of traces: engine='xs2p' opens trees"):
        xr.open_datatree(Path(__file__).parent, engine="xs2p")
