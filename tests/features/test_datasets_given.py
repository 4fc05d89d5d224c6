"""Data given from Python: arrays, lists, torch data sets; what they become, and what is refused in a line."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from features.datasets import open_dataset
from features.datasets.given import spec_of
from features.errors import UserError


@pytest.fixture
def digits(home):
    """Real digits as uint8 (60, 8, 8), and their labels."""
    images, labels = load_digits(n_class=3, return_X_y=True)
    return (images[:60].reshape(-1, 8, 8) * 15).astype(np.uint8), labels[:60]


class Pairs(torch.utils.data.Dataset):
    """A data set of torch's."""

    classes = ("zero", "one", "two")

    def __init__(self, images, labels, change=lambda image: image):
        self.rows, self.change = list(zip(images, labels, strict=True)), change

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, row):
        if row >= len(self.rows):
            raise IndexError(row)
        image, label = self.rows[row]
        return self.change(image), int(label)


def _all(dataset):
    """Images and the names of their classes, in the order of training rows and test rows."""
    splits = [dataset.load(split) for split in dataset.splits]
    read = [np.stack([split.images[row] for row in range(len(split.labels))]) for split in splits]
    names = [[dataset.classes[label] for label in split.labels] for split in splits]
    return np.concatenate(read), sum(names, [])


def test_the_same_images_in_whatever_arrays_are_the_same_data_set(digits):
    images, labels = digits
    colour = np.stack([images, images // 2, 255 - images], axis=-1)
    for whole, other in (
        (images, [images[..., None], images[:, None], images / 255, (images / 255).astype(np.float32), list(images)]),
        (colour, [np.moveaxis(colour, -1, 1), torch.tensor(colour).permute(0, 3, 1, 2) / 255, list(colour)]),
    ):
        spec = spec_of((whole, labels))
        assert spec.startswith("npz:") and spec == spec_of((whole, labels.tolist()))
        for same in other:
            assert spec_of((same, torch.tensor(labels))) == spec
        assert spec_of((whole, labels[::-1])) != spec and spec_of((255 - whole, labels)) != spec
    dataset = open_dataset((images, labels))
    assert dataset.splits == ("train", "test") and dataset.cuts_test
    read, names = _all(dataset)
    assert sorted(zip(map(bytes, read), map(int, names), strict=True)) == sorted(
        zip(map(bytes, images), labels.tolist(), strict=True)
    )


def test_parts_are_taken_by_place_and_by_name(digits):
    images, labels = digits
    train, validation, test = (images[:30], labels[:30]), (images[30:40], labels[30:40]), (images[40:], labels[40:])
    for given in ((train, test), {"train": train, "test": test}, {"training": train, "hold-out": test}):
        dataset = open_dataset(given)
        assert dataset.splits == ("train", "test") and not dataset.cuts_test
        np.testing.assert_array_equal(dataset.load("test").images, images[40:])
        np.testing.assert_array_equal(dataset.load("test").labels, labels[40:])
    dataset = open_dataset((train, validation, test))
    assert {split: len(dataset.load(split).labels) for split in dataset.splits} == {
        "train": 30, "validation": 10, "test": 20,
    }  # fmt: skip


def test_images_of_several_sizes_and_paths_become_a_list(digits, tmp_path):
    images, labels = digits
    words = np.array(["cat", "dog", "a, b"])[labels]
    pictures = [Image.fromarray(image).resize((8 + row % 2, 8)) for row, image in enumerate(images)]
    dataset = open_dataset((pictures, words))
    assert dataset.spec.startswith("csv:") and dataset.classes == ("a, b", "cat", "dog")
    shapes = {dataset.load("train").images.read(row).shape for row in range(10)}
    assert shapes == {(8, 8), (8, 9)}
    assert spec_of((pictures, words)) == dataset.spec
    paths = [tmp_path / f"{row}.png" for row in range(len(images))]
    for path, picture in zip(paths, pictures, strict=True):
        picture.save(path)
    listed = open_dataset(((paths[:40], words[:40]), ([str(path) for path in paths[40:]], words[40:])))
    assert listed.load("test").images.paths == tuple(paths[40:])
    np.testing.assert_array_equal(listed.load("train").labels, np.searchsorted(listed.classes, words[:40]))


def test_torch_data_sets_are_streamed_and_their_classes_named(digits):
    images, labels = digits
    whole = open_dataset(Pairs(images, labels))
    assert set(whole.classes) == {"zero", "one", "two"} and whole.spec.startswith("npz:")
    as_floats = Pairs(images, labels, lambda image: torch.tensor(image)[None] / 255)
    assert open_dataset(as_floats).fingerprint() == whole.fingerprint()
    assert open_dataset((as_floats, Pairs(images[:20], labels[:20]))).splits == ("train", "test")
    mixed = Pairs(images, labels, lambda image: Image.fromarray(image).resize((8 + image[3, 3] % 2, 8)))
    assert open_dataset(mixed).spec.startswith("csv:")


def test_what_cannot_be_taken_is_said_in_a_line(digits):
    images, labels = digits
    several = [[0, 1] if label else [0] for label in labels]
    normalised = Pairs(images, labels, lambda image: torch.tensor(image).float() / 255 - 0.5)
    drawn = Pairs(images, labels, lambda image: np.random.permutation(image))
    cases = [
        ((images, np.eye(3)[labels]), "one-hot"),
        ((images, np.ones((60, 3))), "multi-label"),
        ((images, several), "multi-label"),
        ((images, labels[:5]), "60 images and 5 labels"),
        ((images, labels + 0.5), "give classes"),
        (([], []), "no images"),
        (images, "a ndarray is no data set"),
        (torch.utils.data.DataLoader(normalised), "give its dataset"),
        (normalised, "before it is normalised"),
        (drawn, "another one each time"),
        (Pairs(images, labels, lambda image: {"a": 1}), "give a path, a PIL image or an array"),
        ({"cats": (images, labels)}, "does not name parts"),
        ((images.astype(float) - 100, labels), "0 to 255"),
        ((np.zeros((60, 2, 8, 8, 8), np.uint8), labels), "has the shape"),
        (([object()] * 60, labels), "give a path"),
        (3, "no data set"),
    ]
    for given, said in cases:
        with pytest.raises(UserError, match=said) as error:
            open_dataset(given)
        assert "\n" not in str(error.value)


def test_a_probe_takes_arrays_and_its_record_names_them(digits, tmp_path):
    import layerprobe as lp

    asked = {"weights": "random", "image_size": 32, "precision": "float32"}
    parts = {"controls": False, "widths": False, "scores": False, "validate": "holdout", "test": "split", "jobs": 1}
    result = lp.probe(digits, layers="layer1", heads="ridge", results=tmp_path / "results", **parts, **asked)
    record = json.loads(result.rows[0].saved.path.read_text())["result"]
    assert open_dataset(record["extra"]["places"]["dataset"]).fingerprint() == open_dataset(digits).fingerprint()
    X, y, names = lp.load_features(digits, "layer1", names=True, **asked)
    assert len(X) == len(y) == len(names) == 48 and names[0].startswith("row ")
