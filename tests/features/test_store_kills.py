"""Processes that write are killed, at random moments and at every step: what is finished later is as if nothing was."""

import os
import random
import signal
import sys
import time

import numpy as np
import pytest

from features import store
from tests.features.store_cases import ROWS, STEP, begin, carry_on, key, make, numbers, partial_records

_STEPS = ("pwrite", "fdatasync", "fsync", "rename", "replace", "unlink", "posix_fallocate")


def _in_a_child(act) -> int:
    """Run a function in a process of its own; its process id."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        act()
        status = 0
    finally:
        sys.stderr.flush()
        os._exit(status)


def _work() -> None:
    with store.lock(key()):
        if store.find(key()) is None:
            file = begin(key())
            carry_on(file, numbers())
            file.publish()


@pytest.fixture
def expected(home, tmp_path, monkeypatch) -> bytes:
    """The bytes of an unbroken run, made in another home."""
    monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / "unbroken"))
    data = make(key()).path.read_bytes()
    monkeypatch.setenv("LAYERPROBE_HOME", str(home))
    return data


def test_kills_at_random_moments_change_no_byte(home, expected):
    started = time.perf_counter()
    assert os.waitpid(_in_a_child(_work), 0)[1] == 0
    unbroken = time.perf_counter() - started
    clock, killed, kept = random.Random(7), 0, 0
    # However busy the machine: until enough of the kills fell into the writing, and not before or after it.
    while killed < 25 or (kept < 5 and killed < 500):
        if file := store.find(key()):
            assert file.path.read_bytes() == expected
            # A kill right after the renaming leaves the record of progress, which says nothing any more.
            assert {path.suffix for path in file.path.parent.iterdir()} <= {".h5", ".lock", ".json"}
            file.path.unlink()
        kept += any(partial.rows_done for partial in partial_records())
        child = _in_a_child(_work)
        time.sleep(clock.uniform(0, unbroken))
        os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert os.WIFSIGNALED(status) or status == 0
        killed += os.WIFSIGNALED(status)
        # The first run may have been slower, or faster, than those that follow.
        unbroken *= 1.1 if os.WIFSIGNALED(status) else 0.9
    assert kept >= 5, f"{killed} kills, and {kept} left a part of the work"
    _work()
    assert store.find(key()).path.read_bytes() == expected


def _die_at(step: int) -> None:
    """Let the process die at its n-th step that changes the disk; a write is torn in the middle."""
    left = [step]

    def deadly(name, real):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                if name == "pwrite":
                    real(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*arguments, **options)

        return call

    for name in _STEPS:
        setattr(os, name, deadly(name, getattr(os, name)))


def test_a_kill_at_each_single_step_changes_no_byte(home, expected, monkeypatch, tmp_path):
    def act():
        _die_at(step)
        file = begin(key())
        carry_on(file, numbers(), every=4)
        file.publish()

    step, status = 0, None
    while status != 0:
        step += 1
        monkeypatch.setenv("LAYERPROBE_HOME", str(tmp_path / f"step{step}"))
        status = os.waitpid(_in_a_child(act), 0)[1]
        assert status in (0, signal.SIGKILL)
        _work()
        path = store.find(key()).path
        assert path.read_bytes() == expected, f"killed at step {step}"
        assert {one.suffix for one in path.parent.iterdir()} <= {".h5", ".json"}
    assert step > 25


def test_one_works_and_the_others_use_its_result(home):
    log = home / "log"

    def act():
        with store.lock(key(), say=lambda message: print(message, file=log.open("a"))):
            if store.find(key()) is None:
                with log.open("a") as stream:
                    print("works", file=stream)
                make(key())

    children = [_in_a_child(act) for _ in range(8)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 8
    lines = log.read_text().splitlines()
    assert lines.count("works") == 1 and len(store.list_files()) == 1
    assert {line for line in lines if line != "works"} <= {
        "another process is extracting the same features; waiting to use its result"
    }
    np.testing.assert_array_equal(store.find(key()).features(), numbers())


def test_never_two_hold_a_lock_though_its_file_comes_and_goes(home):
    count = home / "count"
    count.write_text("0")

    def act():
        for _ in range(100):
            with store.lock(key()):
                before = int(count.read_text())
                time.sleep(0.0005)
                count.write_text(str(before + 1))

    children = [_in_a_child(act) for _ in range(5)]
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 5
    assert count.read_text() == "500" and list((home / "features").iterdir()) == []


def test_a_dead_holder_lets_go_and_another_carries_on(home):
    def hold():
        with store.lock(key()):
            file = begin(key())
            carry_on(file, numbers(), until=4 * STEP)
            (home / "holding").touch()
            time.sleep(60)

    said = []
    holder = _in_a_child(hold)
    while not (home / "holding").exists():
        time.sleep(0.01)

    def told(message):
        said.append(message)
        os.kill(holder, signal.SIGKILL)

    with store.lock(key(), say=told):
        assert len(said) == 1
        file = begin(key())
        assert file.rows_done == 4 * STEP < ROWS
    os.waitpid(holder, 0)
    # Another key's lock is another lock.
    with store.lock(key(layer="layer3"), say=said.append), store.lock(key(), say=said.append):
        assert len(said) == 1


def test_a_file_system_without_locks_is_said_to_be_one(home, monkeypatch):
    import errno
    import fcntl

    def refuse(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    said = []
    with store.lock(key(), say=said.append):
        make(key())
    assert len(said) == 1 and "knows no locks" in said[0]
