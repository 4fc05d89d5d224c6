"""Folders as people bring them: parts by many names, hidden folders, files that stand there twice."""

import itertools
import shutil

import numpy as np
import pytest
from PIL import Image

from features.datasets import listed, open_dataset
from features.datasets.parts import are_folds, part_called
from features.errors import UserError
from features.first_use import accept, recognise
from features.notes import Notes

CLASSES = ("cat", "dog")


@pytest.fixture
def sorted_into(tmp_path, home):
    """A function that puts five images, every one different, into each of some folders of the folder it gives."""
    numbers = itertools.count()

    def sort(*folders):
        root = tmp_path / "data"
        for folder in folders:
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in range(5):
                number = next(numbers)
                pixels = np.full((4, 4, 3), [number % 256, number // 256, 7], np.uint8)
                pixels[0] = 255
                Image.fromarray(pixels).save(root / folder / f"{name}.png")
        return root

    return sort


def parts(*names):
    return [f"{name}/{class_name}" for name in names for class_name in CLASSES]


def opened(root):
    return open_dataset(f"folder:{root}")


def counts(dataset):
    return {split: len(dataset.load(split).labels) for split in dataset.splits}


def remarks(dataset):
    return "\n".join(dataset.survey().remarks)


def first_folders(dataset, split, root):
    return {path.relative_to(root).parts[0] for path in dataset.load(split).images.paths}


@pytest.mark.parametrize(
    ("train", "test"),
    [
        *[("training", "testing"), ("Train", "Test"), ("TRAIN", "TEST"), ("seg_train", "seg_test")],
        *[("training_set", "test_set"), ("Training Data", "Testing Data"), ("dataset-train", "dataset-test")],
        *[("train", "valid"), ("train", "Validation"), ("trainset", "testset"), ("imgs_train", "test"), ("trn", "tst")],
        *[("train2017", "val2017"), ("TrainingImages", "TestImages"), ("train", "cross-validation"), ("train", "eval")],
        *[("Treino", "Teste"), ("treinamento", "validação"), ("Entrenamiento", "Pruebas"), ("entraînement", "test")],
    ],
)
def test_parts_are_known_by_the_names_that_people_give_them(sorted_into, train, test):
    root = sorted_into(*parts(train, test))
    dataset = opened(root)
    assert dataset.classes == CLASSES and counts(dataset) == {"train": 10, "test": 10}
    assert first_folders(dataset, "train", root) == {train} and first_folders(dataset, "test", root) == {test}
    assert f"{test}/" in remarks(dataset) and dataset.survey().rule == 2


def test_a_validation_folder_without_another_is_the_test_set_as_it_was(sorted_into):
    dataset = opened(sorted_into(*parts("train", "val")))
    assert counts(dataset) == {"train": 10, "test": 10}
    assert "val/ is the test set, since there is no other" in remarks(dataset) and dataset.survey().rule == 1


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "cross-validation", "dev"])
def test_a_validation_folder_beside_a_test_set_is_a_split(sorted_into, name):
    root = sorted_into(*parts("train", name, "test"))
    dataset = opened(root)
    assert counts(dataset) == {"train": 10, "validation": 10, "test": 10}
    assert first_folders(dataset, "validation", root) == {name}
    assert f"{name}/ is the validation set" in remarks(dataset) and dataset.survey().rule == 2


def test_what_0_1_0_read_alike_is_said_nothing_of(sorted_into):
    dataset = opened(sorted_into(*parts("train", "test")))
    assert remarks(dataset) == "" and dataset.survey().rule == 1


def test_archives_unpacked_into_folders_of_their_own_name(sorted_into):
    root = sorted_into(*parts("seg_train/seg_train", "seg_test/seg_test"))
    assert counts(opened(root)) == {"train": 10, "test": 10}


@pytest.mark.parametrize(
    ("folders", "complaint"),
    [
        (parts("train"), "has train/ and neither test/ nor val/"),
        (parts("Testing"), "has Testing/ and no train/"),
        (parts("train", "old"), "holds train/ and old/, which have the same sub-folders"),
        (parts("train", "my_test"), "holds my_test/ and train/, which have the same sub-folders"),
        (parts("train", "Train", "test"), "several parts of one kind"),
        (parts("fold1", "fold2", "fold3"), "the folds of a cross-validation"),
        (["cat/train", "cat/test", "dog/train", "dog/test"], "cat is split for itself into test, train"),
        (parts("images/train", "images/test"), "if the classes are in it, name"),
    ],
)
def test_what_could_be_parts_or_classes_is_refused(sorted_into, folders, complaint):
    with pytest.raises(UserError, match=complaint) as error:
        opened(sorted_into(*folders))
    assert "\n" not in str(error.value)


def test_test_images_without_a_class_are_no_test_set(sorted_into):
    root = sorted_into(*parts("train"), "test")
    with pytest.raises(UserError, match="test holds images without a class"):
        opened(root)


@pytest.mark.parametrize("classes", [("bus", "car", "train"), ("invalid", "valid"), ("bullet train", "night train")])
def test_classes_that_are_called_like_parts(sorted_into, classes):
    dataset = opened(sorted_into(*classes))
    assert dataset.classes == classes and sum(counts(dataset).values()) == 5 * len(classes)


def test_folders_that_could_be_domains_are_said(sorted_into):
    assert "all hold the same folders (cat, dog)" in remarks(opened(sorted_into(*parts("amazon", "webcam"))))


def test_the_names_of_parts():
    assert part_called("seg_train") == ("train", "seg") and part_called("bullet train") == ("train", "bullet")
    assert part_called("crossValidation_2") == part_called("CV") == ("validation", "")
    for name in ("contest", "trainer", "invalid", "medieval", "constrain", "testimony", "teststrip", "protest"):
        assert part_called(name) is None
    assert are_folds(["fold_1", "Fold 2"]) and are_folds(["cv1", "k-fold-2"]) and not are_folds(["folder1", "fold2"])


@pytest.mark.parametrize(
    "hidden", [".ipynb_checkpoints", "@eaDir", "__MACOSX", ".thumbnails", "lost+found", "$RECYCLE.BIN", "deep/.git/x"]
)
def test_hidden_folders_are_not_entered(sorted_into, tmp_path, hidden):
    root = sorted_into(*CLASSES)
    plain = opened(root).fingerprint()
    shutil.copytree(root / "cat", root / "dog" / hidden)
    if "/" not in hidden:
        shutil.copytree(root / "cat", root / hidden / "cat")
    (root / "cat" / "Thumbs.db").write_bytes(b"x")
    (root / "cat" / ".DS_Store").write_bytes(b"x")
    dataset = opened(root)
    assert dataset.classes == CLASSES and dataset.fingerprint() == plain
    assert f"hidden folders are skipped ({hidden if hidden[0] not in '.d' else 'dog/'}" in remarks(dataset)
    assert dataset.survey().rule == 2


def test_links_to_folders_are_classes_and_loops_are_not_followed(sorted_into, tmp_path):
    root = sorted_into(*CLASSES, "elk")
    (root / "elk").rename(tmp_path / ".elsewhere")
    (root / "elk").symlink_to(tmp_path / ".elsewhere")
    (root / "cat" / "loop").symlink_to(root)
    dataset = opened(root)
    assert dataset.classes == ("cat", "dog", "elk") and sum(counts(dataset).values()) == 15


def test_files_in_train_and_test_are_said(sorted_into):
    root = sorted_into(*parts("train", "test"))
    for name in ("1", "2"):
        shutil.copy(root / "train/cat" / f"{name}.png", root / "test/cat" / f"copy{name}.png")
    line = "2 of 12 test images are also in train (train/cat/1.png, the same file)"
    assert line in remarks(opened(root)) and opened(root).survey().rule == 1


def test_rows_are_cut_once_and_too_few_are_told_before_a_file_is_read(sorted_into, monkeypatch):
    calls, cut = [], listed.cut_test_rows
    monkeypatch.setattr(listed, "cut_test_rows", lambda *given, **more: calls.append(1) or cut(*given, **more))
    dataset = opened(sorted_into(*CLASSES))
    assert dataset.fingerprint() and dataset.survey() and len(dataset.load("test").labels) and calls == [1]
    monkeypatch.setattr(listed, "sha256_files", None)
    (dataset.root / "elk").mkdir()
    shutil.copy(dataset.root / "cat/1.png", dataset.root / "elk/1.png")
    with pytest.raises(UserError, match=r"class 'elk' in .* has one image and needs two"):
        opened(dataset.root)


def test_a_file_under_two_labels_is_said_and_is_for_training(sorted_into):
    root = sorted_into(*CLASSES)
    shutil.copy(root / "cat/3.png", root / "dog/other.png")
    dataset = opened(root)
    line = "1 image stands under several labels (cat/3.png, the same file under 'cat' and 'dog')"
    assert line in remarks(dataset)
    assert {"3.png", "other.png"} <= {path.name for path in dataset.load("train").images.paths}


def test_equal_files_are_cut_into_one_split(sorted_into):
    root = sorted_into(*CLASSES)
    for number in range(5):
        shutil.copy(root / f"cat/{number}.png", root / f"cat/{number}-copy.png")
    dataset = opened(root)
    train, test = ({path.name[0] for path in dataset.load(split).images.paths if path.parent.name == "cat"}
                   for split in dataset.splits)  # fmt: skip
    assert train | test == set("01234") and not train & test and test
    assert "5 images are copies of another one" in remarks(dataset) and dataset.survey().rule == 2


def test_some_classes_of_a_folder_have_its_remarks(sorted_into):
    root = sorted_into(*parts("Train", "Test"))
    assert open_dataset(f"folder:{root}[dog,cat]").survey() == opened(root).survey()


def test_a_newer_rule_is_no_change_of_data(home):
    recognise("folder:/here", "a" * 64)
    known = Notes("known")
    known.put("folder:/old", {"sha256": "a" * 64, "seen": 1})
    line = recognise("folder:/old", "b" * 64, rule=2)
    assert line is not None and "without a change of its files" in line
    assert recognise("folder:/old", "b" * 64, rule=2) is None
    # From now on another digest means other files, and so it does where the rule makes no difference.
    for name in ("folder:/old", "folder:/here"):
        with pytest.raises(UserError, match="is not what it was"):
            recognise(name, "c" * 64, rule=2)
    assert accept("folder:/old") == "c" * 64
    assert recognise("folder:/old", "c" * 64, rule=2) is None


def test_an_older_note_of_the_same_content_is_kept_and_renewed(home):
    known = Notes("known")
    known.put("folder:/same", {"sha256": "a" * 64, "seen": 1})
    assert recognise("folder:/same", "a" * 64, rule=2) is None
    with pytest.raises(UserError, match="is not what it was"):
        recognise("folder:/same", "b" * 64, rule=2)
    known.put("folder:/unaffected", {"sha256": "a" * 64, "seen": 1})
    with pytest.raises(UserError, match="is not what it was"):
        recognise("folder:/unaffected", "b" * 64)
