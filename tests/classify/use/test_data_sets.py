"""Which data set a saved model is for: told by content and place, never by the last folder's name alone."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify.measure.metrics import measure
from classify.measure.outcome import Result
from classify.measure.results import SavedResult
from classify.use.data_sets import for_one_data_set
from features.datasets import open_dataset
from features.errors import UserError

HERE = Path("results")


def saved(dataset, digest, place=None, created="2026-01-01T00:00:00", command=""):
    config = {
        "dataset": dataset,
        "dataset_sha256": digest,
        "backbone": "resnet18",
        "layer": "fc",
        "head": "ridge",
        "seed": 0,
    }
    result = Result(
        config=config,
        metrics=measure(np.array([0, 1]), np.array([0, 1])),
        chosen={},
        validation_accuracy=1.0,
        refit=True,
        converged=None,
        seconds={},
        rows={},
        keys={},
        extra={"places": {"dataset": place}} if place else {},
        command=command,
        created=created,
    )
    return SavedResult(HERE / f"{digest}-{created}.json", result, {})


PETS = saved("folder-train", "a" * 64, "folder:/pets/train")
FLOWERS = saved("folder-train", "b" * 64, "folder:/flowers/train")


def test_two_data_sets_of_one_name_have_no_best():
    with pytest.raises(UserError, match="models for folder:/flowers/train, folder:/pets/train, and"):
        for_one_data_set([PETS, FLOWERS], HERE, None)
    with pytest.raises(UserError, match="say which with --dataset folder:/flowers/train"):
        for_one_data_set([PETS, FLOWERS], HERE, "folder-train")


@pytest.mark.parametrize("asked", ["folder:/pets/train", "FOLDER:/pets/train/", " folder: /pets/train"])
def test_a_data_set_is_named_as_in_training(asked):
    assert for_one_data_set([FLOWERS, PETS], HERE, asked) == [PETS]


def test_a_relative_place_is_taken_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    old = saved("folder-train", "c" * 64, command="classify --model svm --dataset folder:pets/train")
    assert for_one_data_set([PETS, old], HERE, "folder:pets/train") == [old]
    assert for_one_data_set([PETS, old], HERE, f"folder:{tmp_path}/pets/train") == [old]


def test_records_that_do_not_say_where_are_told_apart_by_content():
    with pytest.raises(UserError, match="of SHA-256 aaaaaaaa, folder-train of SHA-256 bbbbbbbb"):
        for_one_data_set([saved("folder-train", "a" * 64), saved("folder-train", "b" * 64)], HERE, None)


def test_a_name_alone_is_enough_where_it_means_one():
    mnist = saved("mnist", "d" * 64, "mnist")
    some = saved("mnist-2of10-123456", "e" * 64, "mnist[3,5]")
    assert for_one_data_set([PETS, mnist, some], HERE, "mnist") == [mnist]
    assert for_one_data_set([PETS, mnist, some], HERE, "mnist[3, 5]") == [some]
    with pytest.raises(UserError, match="models for folder-train, mnist, mnist-2of10-123456"):
        for_one_data_set([PETS, mnist, some], HERE, None)
    with pytest.raises(UserError, match="no model for usps, but for folder-train, mnist"):
        for_one_data_set([PETS, mnist], HERE, "usps")


def test_of_what_changed_in_its_place_the_last_counts():
    later = saved("folder-train", "f" * 64, "folder:/pets/train", created="2026-02-01T00:00:00")
    for asked in (None, "folder-train", "folder:/pets/train"):
        assert for_one_data_set([later, PETS], HERE, asked) == [later]


def test_a_data_set_without_its_broken_images_is_asked_for_as_the_whole():
    part = saved("folder-train", "9" * 64, "readable:folder:/pets/train")
    assert for_one_data_set([part], HERE, "folder:/pets/train") == [part]
    assert for_one_data_set([part, PETS], HERE, "folder:/pets/train") == [PETS]
    assert for_one_data_set([part, PETS], HERE, "readable:folder:/pets/train") == [part]


def test_a_list_is_meant_by_whichever_of_its_columns_where_these_are_not_said():
    breeds = saved("csv-dogs", "7" * 64, "csv:/dogs.csv?label=breed")
    sizes = saved("csv-dogs", "8" * 64, "readable:csv:/dogs.csv?label=size[small,large]")
    assert for_one_data_set([breeds, sizes], HERE, "csv:/dogs.csv") == [breeds]
    assert for_one_data_set([breeds, sizes], HERE, "csv:/dogs.csv[small,large]") == [sizes]
    assert for_one_data_set([breeds, sizes], HERE, "csv:/dogs.csv?label=breed") == [breeds]
    with pytest.raises(UserError, match="for csv:/dogs.csv.label=age, but for"):
        for_one_data_set([breeds, sizes], HERE, "csv:/dogs.csv?label=age")


def test_what_was_moved_is_found_by_its_content(tmp_path, home):
    for shade in range(4):
        path = tmp_path / "moved" / "ab"[shade % 2] / f"{shade}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((4, 4), shade, np.uint8)).save(path)
    digest = open_dataset(f"folder:{tmp_path / 'moved'}").fingerprint()
    moved = saved("folder-train", digest, "folder:/elsewhere/train")
    assert for_one_data_set([PETS, moved], HERE, f"folder:{tmp_path / 'moved'}") == [moved]
