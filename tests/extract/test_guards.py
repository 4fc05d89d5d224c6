"""What a pass refuses to write, and what a killed one leaves to be finished: no file ever holds what its key denies."""

import os
import shutil

import numpy as np
import pytest
import torch

import extract.__main__ as extract
from extract import extraction
from features import store
from features.commands.options import run_command
from features.errors import UserError
from features.request import Request, plan


def _silently(request: Request) -> None:
    extraction.extract(plan(request), say=lambda line: None)


def test_weights_swapped_behind_size_and_time_are_never_written_under_the_old_name(home, tmp_path):
    from torchvision import models

    path = tmp_path / "mine.pth"
    request = Request(dataset="digits", weights=str(path), image_size=32, limit=10, limit_test=10)
    torch.manual_seed(0)
    torch.save(models.resnet18(weights=None).state_dict(), path)
    times = path.stat()
    answer = plan(request)
    torch.save(models.resnet18(weights=None).state_dict(), path)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert path.stat().st_size == times.st_size
    with pytest.raises(UserError, match="the weights changed|not what it was when it was first used"):
        extraction.extract(answer, say=lambda line: None)
    assert not store.list_files()


def test_data_that_changed_since_the_plan_are_never_written_under_the_old_name(home, tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8), np.uint8)
    np.savez(tmp_path / "mine.npz", images=images, labels=np.arange(20) % 2)
    answer = plan(Request(dataset=f"npz:{tmp_path / 'mine.npz'}", weights="random", image_size=32))
    np.savez(tmp_path / "mine.npz", images=255 - images, labels=np.arange(20) % 2)
    with pytest.raises(UserError, match="the data changed"):
        extraction.extract(answer, say=lambda line: None)


def test_a_downloaded_file_of_weights_that_was_altered_is_refused(home):
    torch.save({}, home / "weights" / "alexnet-owt-7be5be79.pth")
    with pytest.raises(UserError, match="not the file that its name promises"):
        plan(Request(dataset="digits", backbone="alexnet"))


def test_a_kill_between_two_layers_names_costs_nothing(home, monkeypatch):
    request = Request(dataset="digits", weights="random", image_size=32, limit=20, limit_test=10, layers=("all",))
    _silently(request)
    wanted = {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")}
    shutil.rmtree(home / "features")
    publish, published = store.PartialFile.publish, []

    def stopping(file):
        if len(published) == 2:
            raise KeyboardInterrupt
        published.append(file)
        return publish(file)

    monkeypatch.setattr(store.PartialFile, "publish", stopping)
    with pytest.raises(KeyboardInterrupt):
        _silently(request)
    monkeypatch.setattr(store.PartialFile, "publish", publish)
    passes = extraction.extract(plan(request), say=lambda line: None)
    assert [each.split for each in passes] == ["test"]
    assert {path.name: path.read_bytes() for path in (home / "features").glob("*.h5")} == wanted


def test_a_test_split_made_later_is_computed_as_the_training_split_was(home):
    request = Request(dataset="digits", weights="random", image_size=32, limit=200, limit_test=10)
    _silently(request)
    (path,) = (home / "features").glob("*-test-*.h5")
    wanted = path.read_bytes()
    path.unlink()
    _silently(request)
    assert path.read_bytes() == wanted


def test_numbers_that_are_none_are_not_cached(home, tmp_path, capsys):
    from torchvision import models

    state = models.resnet18(weights=None).state_dict()
    state["layer1.0.conv1.weight"][0] = float("nan")
    torch.save(state, tmp_path / "nan.pth")
    arguments = ["--dataset", "digits", "--limit", "20", "--limit-test", "10", "--image-size", "32"]
    assert run_command(extract.main, [*arguments, "--weights", str(tmp_path / "nan.pth")]) == 2
    assert "NaN or infini" in capsys.readouterr().err
    assert not store.list_files()
