"""Power that goes at any moment: what the disk is found with is unfinished, or whole."""

from __future__ import annotations

import pytest

prefixes = pytest.importorskip("benchmarks.reliability_prefixes")

GOOD = {"nothing", "unfinished", "whole", "goes on, to the same bytes"}


def recorded(tmp_path, **how):
    run = prefixes.job(**how)
    folder = tmp_path / "run"
    folder.mkdir()
    return *prefixes.states_of(folder, lambda: run(folder)), run


def test_some_states(tmp_path):
    states, whole, run = recorded(tmp_path)
    assert len(states) > 300
    # Most are of the making of an empty store.
    found = prefixes.replay(states[1:-60:90] + states[-60::7], whole, run, every=7)
    assert set(found) == GOOD


def test_without_syncing_there_are_others(tmp_path):
    """So that the states above can be told from such as are wrong."""
    states, whole, run = recorded(tmp_path, durable=False)
    found = {prefixes.verdict(put(state, tmp_path / str(i)), whole) for i, state in
             enumerate(states[-12:])}  # fmt: skip
    assert found - GOOD


def put(state, folder):
    folder.mkdir()
    prefixes.put(state, folder)
    return folder


def test_what_the_power_left_of_a_lock_goes_though_the_store_is_complete(tmp_path):
    run = prefixes.job()
    run(tmp_path)
    (tmp_path / f".a.partial.zarr.lock.{'0' * 32}").write_text("{}")
    run(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["a.zarr"]


@pytest.mark.slow
def test_every_state(tmp_path):
    states, whole, run = recorded(tmp_path)
    assert set(prefixes.replay(states, whole, run, every=10)) == GOOD
