"""Saving a result in place of an earlier one: whatever stops it, one of the two is there, whole."""

import contextlib
import multiprocessing
import os
import shutil
import signal
import stat
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify.heads import HEADS
from classify.measure import results
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result, find_result, load_results
from classify.measure.saving import save_result
from features import whole

CONFIG = {"dataset": "digits", "head": "ridge"}
_FORK = multiprocessing.get_context("fork")


def _made(number):
    """One row's result as a run of its own makes it: another head, other predictions."""
    images, labels = load_digits(return_X_y=True)
    head = HEADS["ridge"].build(alpha=float(number)).fit(images[:200].astype(np.float32), labels[:200])
    predicted = np.full(50, number % 10)
    command = f"run {number}"
    return (
        Result(CONFIG, measure(labels[:50], predicted), command=command),
        Predictions(np.arange(50), labels[:50], predicted),
        head,
    )


def _require_whole(folder):
    (saved,) = load_results(folder)
    number = int(saved.result.command.split()[1])
    assert saved.predictions().predicted.tolist() == [number % 10] * 50
    assert saved.load_head().alpha == number
    return number


class _Killed(BaseException):
    pass


def _calls(monkeypatch, stop_at):
    """Every step that changes a name, or fsync, counted; the process 'dies' before step number `stop_at`."""
    steps = []

    def counted(original):
        def step(*arguments, **options):
            steps.append(1)
            if len(steps) == stop_at:
                raise _Killed
            if len(steps) > stop_at > 0:
                raise _Killed  # whatever tidies up would have been killed too
            return original(*arguments, **options)

        return step

    for owner, name in ((os, "fsync"), (Path, "replace"), (Path, "unlink"), (shutil, "rmtree")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))
    return steps


def test_a_kill_at_any_step_leaves_one_of_the_two_whole(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        save_result(tmp_path / "count", *_made(1))
        steps = _calls(patch, 0)
        save_result(tmp_path / "count", *_made(2))
        count = len(steps)
    assert count > 8
    seen = set()
    for stop_at in range(1, count + 1):
        folder = tmp_path / str(stop_at)
        save_result(folder, *_made(1))
        with pytest.MonkeyPatch.context() as patch:
            _calls(patch, stop_at)
            with pytest.raises(_Killed):
                save_result(folder, *_made(2))
        seen.add(_require_whole(folder))
        save_result(folder, *_made(3))
        assert _require_whole(folder) == 3
        assert sorted(path.suffix for path in folder.iterdir()) == [".joblib", ".json", ".npz", ".skops"]
    assert seen == {1, 2}


def test_a_network_is_replaced_with_its_record(tmp_path):
    labels = np.arange(4) % 2

    def save(folder, content):
        network = tmp_path / "trained"
        shutil.rmtree(network, ignore_errors=True)
        network.mkdir()
        (network / "network.safetensors").write_text(content)
        extra = {"network_sha256": content * 64}
        result = Result({"dataset": "digits", "head": "finetune"}, measure(labels, labels), extra=extra)
        return save_result(folder, result, Predictions(np.arange(4), labels, labels), network)

    def content(folder):
        (saved,) = load_results(folder)
        assert (saved.network_path / "network.safetensors").read_text() * 64 == saved.result.extra.network_sha256
        return saved.result.extra.network_sha256[0]

    save(tmp_path / "count", "a")
    with pytest.MonkeyPatch.context() as patch:
        steps = _calls(patch, 0)
        save(tmp_path / "count", "b")
        count = len(steps)
    seen = set()
    for stop_at in range(1, count + 1):
        folder = tmp_path / str(stop_at)
        save(folder, "a")
        with pytest.MonkeyPatch.context() as patch:
            _calls(patch, stop_at + 1)  # the first is the test's own
            with contextlib.suppress(_Killed):
                save(folder, "b")
        seen.add(content(folder))
        save(folder, "c")
        assert content(folder) == "c" and len(list(folder.iterdir())) == 3
    assert seen == {"a", "b"}


def _save_often(folder, number, barrier):
    made = _made(number)
    for _ in range(5):
        barrier.wait()
        save_result(folder, *made)


def test_processes_that_save_the_same_row_leave_one_whole_result(tmp_path):
    barrier = _FORK.Barrier(3)
    processes = [_FORK.Process(target=_save_often, args=(tmp_path, number, barrier)) for number in (1, 2, 3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    assert _require_whole(tmp_path) in (1, 2, 3)
    assert len(list(tmp_path.iterdir())) == 4


def test_the_real_signal_leaves_one_of_the_two_too(tmp_path):
    save_result(tmp_path, *_made(1))

    def save():
        made = _made(2)
        os.kill(os.getpid(), signal.SIGSTOP)
        save_result(tmp_path, *made)

    for delay in np.linspace(0, 0.02, 8):
        process = _FORK.Process(target=save)
        process.start()
        os.waitpid(process.pid, os.WUNTRACED)
        os.kill(process.pid, signal.SIGCONT)
        process.join(delay)
        os.kill(process.pid, signal.SIGKILL)
        process.join(60)
        _require_whole(tmp_path)


@pytest.mark.parametrize("umask", [0o002, 0o022, 0o077])
def test_everything_of_a_result_follows_the_umask(tmp_path, umask):
    before = os.umask(umask)
    try:
        save_result(tmp_path / "results", *_made(1))
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "results").iterdir()}
    assert set(modes.values()) == {0o666 & ~umask}, modes


def test_a_full_disk_is_told_with_its_path_and_leaves_the_earlier_result(tmp_path, monkeypatch):
    save_result(tmp_path, *_made(1))

    def full(self, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(whole.NewFile, "write", full)
    with pytest.raises(results.UserError, match="No space") as caught:
        save_result(tmp_path, *_made(2))
    assert str(tmp_path) in str(caught.value) and "LAYERPROBE_HOME" not in str(caught.value)
    assert _require_whole(tmp_path) == 1
    assert find_result(tmp_path, CONFIG) is not None and len(list(tmp_path.iterdir())) == 4
