"""One writer: who holds a lock, who may take it over, and what who lost it notices."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from xs2p.disk import lock
from xs2p.disk.lock import LostLock, locked


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "a.lock")


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.05)
    monkeypatch.setattr(lock, "STALE", 0.3)


def left_by(path, said=None, age=0.0):
    """A lock whose process is elsewhere, last touched so long ago."""
    said = {"token": "t0", "pid": 7, "host": "elsewhere", "since": "noon"} if said is None else said
    with open(path, "w") as file:
        file.write(said if isinstance(said, str) else json.dumps(said))
    then = time.time() - age
    os.utime(path, (then, then))


def held_by_child(path, more="time.sleep(60)"):
    code = f"""
    import sys, time
    from xs2p.disk.lock import locked
    with locked({path!r}, "it"):
        print("held", flush=True)
        {more}
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "held\n"
    return child


def ended(child):
    child.kill()
    child.wait()
    child.stdout.close()


def test_it_goes_when_it_is_let_go(path):
    with locked(path, "it") as hold:
        hold.check()
        assert os.listdir(os.path.dirname(path)) == ["a.lock"]
        with pytest.raises(BlockingIOError, match=f"it is being written by process {os.getpid()}"):
            with locked(path, "it"):
                pass
        hold.check()
    assert os.listdir(os.path.dirname(path)) == []
    with pytest.raises(LostLock, match="is gone"):
        hold.check()


def test_another_process_is_named_and_one_that_was_killed_is_followed(path, caplog):
    child = held_by_child(path)
    try:
        with pytest.raises(BlockingIOError, match=f"process {child.pid} on .* since 20"):
            with locked(path, "it"):
                pass
    finally:
        child.kill()
        # It is a zombie now: nobody has waited for it.
        while lock._started(child.pid) != "ended":
            time.sleep(0.01)
    with locked(path, "it") as hold:
        hold.check()
    ended(child)
    assert [r.getMessage() for r in caplog.records] == [
        f"it: the lock of process {child.pid} on {lock._place()['host']} since "
        f"{caplog.records[0].args[1].split('since ')[1]} is taken over: that process has ended"
    ]
    assert os.listdir(os.path.dirname(path)) == []


def test_a_number_of_a_process_that_another_has_now(path):
    said = {**lock._who(), "token": "t0", "pid": os.getppid(), "started": "1"}
    left_by(path, said)
    with locked(path, "it"):
        pass
    left_by(path, {**said, "started": lock._started(os.getppid())})
    with pytest.raises(BlockingIOError), locked(path, "it"):
        pass


@pytest.mark.parametrize("other", ["host", "boot", "space"])
def test_elsewhere_the_number_of_a_process_says_nothing(path, other):
    """Machines of one name, and containers on one machine."""
    left_by(path, {**lock._who(), "token": "t0", "pid": 2**22 + 1, other: "of another"})
    with pytest.raises(BlockingIOError), locked(path, "it"):
        pass


def test_a_heart_that_beats_is_let_be_and_one_that_does_not_is_not(path, quick, caplog):
    with locked(path, "it"):
        time.sleep(0.5)
        with pytest.raises(BlockingIOError), locked(path, "it"):
            pass
    left_by(path, age=100.0)
    with locked(path, "it"):
        pass
    assert "process 7 on elsewhere since noon is taken over: no sign of life for 1" in caplog.text


def test_clocks_of_machines_play_no_part(path, quick, monkeypatch):
    left_by(path)
    monkeypatch.setattr(lock.time, "time", lambda: 1e10)
    with pytest.raises(BlockingIOError), locked(path, "it"):
        pass


def test_a_heart_that_beats_by_a_wrong_clock_is_let_be(path, quick):
    """Some disks stamp files by the clock of who writes them."""
    left_by(path, age=100.0)
    stop = threading.Event()

    def beat():
        behind = 100.0
        while not stop.wait(0.01):
            behind -= 0.001
            with contextlib.suppress(FileNotFoundError):
                os.utime(path, (time.time() - behind, time.time() - behind))

    heart = threading.Thread(target=beat)
    heart.start()
    failed = []

    def take():
        try:
            with locked(path, "it"):
                failed.append("taken")
        except Exception as error:
            failed.append(error)

    taker = threading.Thread(target=take, daemon=True)
    taker.start()
    time.sleep(1.0)
    held = not failed
    with open(path, "w") as file:  # its writer has ended: what it said of itself is from here
        file.write(json.dumps({**lock._who(), "token": "t0", "pid": 2**22 + 1}))
    taker.join()
    stop.set()
    heart.join()
    assert held and failed == ["taken"]


def test_who_lost_it_notices_and_leaves_that_of_the_other(path, quick):
    with locked(path, "it") as hold:
        hold.check()
        lock._mine.discard(hold.token)  # as if this process had been suspended, and seen as dead
        with locked(path, "it") as other:
            with pytest.raises(LostLock, match="taken over by process"):
                hold.check()
            other.check()
    assert sorted(os.listdir(os.path.dirname(path))) == []
    with locked(path, "it") as hold:
        lock._mine.discard(hold.token)
        taken = locked(path, "it")
        other = taken.__enter__()
    other.check()
    taken.__exit__(None, None, None)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_name_that_a_network_disk_has_not_seen_yet(path, monkeypatch):
    """The holder reads in its own file that it was taken over."""
    with locked(path, "it") as hold:
        lock._mine.discard(hold.token)
        with locked(path, "it"):
            plain = lock._read
            monkeypatch.setattr(lock, "_read", lambda p: plain(p) if p == path else None)
            with pytest.raises(LostLock):
                hold.check()
            monkeypatch.undo()


@pytest.mark.parametrize("text", ["", "{", '{"token": 1', "[]"])
def test_a_lock_that_says_nothing(path, quick, text, caplog):
    """Its writer was killed, or is just about to write."""
    left_by(path, text)
    with pytest.raises(BlockingIOError, match="has not said who it is"), locked(path, "it"):
        pass
    left_by(path, text, age=100.0)
    with locked(path, "it") as hold:
        hold.check()
    assert os.listdir(os.path.dirname(path)) == []


def test_it_waits(path, caplog):
    child = held_by_child(path, "time.sleep(1.5)")
    with pytest.raises(BlockingIOError), locked(path, "it", wait=0.1):
        pass
    began = time.monotonic()
    with locked(path, "it", wait=60.0) as hold:
        hold.check()
    assert time.monotonic() - began < 10
    child.wait()
    child.stdout.close()
    assert "waiting for it to end" in caplog.text


def _hold_in_turn(path, log, times, dies):
    lock.BEAT, lock.STALE = 0.02, 60.0
    for i in range(times):
        with locked(path, "it", wait=600.0) as hold:
            with open(log, "a") as file:
                file.write("in\n")
            hold.check()
            if dies and i == times - 1:
                os._exit(0)
            with open(log, "a") as file:
                file.write("out\n")


def test_of_many_that_take_over_at_once_one_holds(path, tmp_path):
    """Some die as they hold it; never are two within."""
    log = tmp_path / "log"
    spawn = multiprocessing.get_context("spawn")
    all_of_them = [
        spawn.Process(target=_hold_in_turn, args=(path, str(log), 6, i % 2)) for i in range(4)
    ]
    for process in all_of_them:
        process.start()
    for process in all_of_them:
        process.join(120)
        assert process.exitcode == 0
    lines = log.read_text().split()
    assert lines.count("in") == 24 and lines.count("out") == 22
    inside = False
    deaths = 0
    for line in lines:
        deaths += line == "in" and inside
        assert line == "in" or inside
        inside = line == "in"
    assert deaths + inside == 2
    with locked(path, "it"):  # where the last one died
        pass
    assert os.listdir(tmp_path) == ["log"]


def test_what_is_left_of_a_chain_that_has_gone_is_removed(tmp_path):
    """Of what was deleted as the power went, the first file may be gone and its end still there."""
    path = str(tmp_path / ".a.lock")
    with locked(path, "a"):
        held = set(os.listdir(tmp_path))
    left = tmp_path / f".a.lock.{'0123abcd' * 4}"
    others = {".a.lock.txt", f".b.lock.{'0' * 32}", f".a.lock.{'0' * 31}"}
    for name in (left.name, *others):
        (tmp_path / name).write_text("")
    with locked(path, "a") as hold:
        assert set(os.listdir(tmp_path)) == held | others
        hold.check()
    assert set(os.listdir(tmp_path)) == others
