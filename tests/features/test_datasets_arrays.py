"""Data sets of arrays that need no download (npz, digits, USPS at hand), and the catalogue of names."""

import bz2
import subprocess
import sys

import numpy as np
import pytest

from features.datasets import dataset_names, open_dataset
from features.datasets.dataset import Survey
from features.datasets.white import White
from features.errors import UserError

IMAGES = np.random.default_rng(0).integers(0, 256, (20, 5, 6)).astype(np.uint8)
LABELS = np.arange(20) % 2 + 3


@pytest.fixture
def npz(tmp_path, home):
    def write(**arrays):
        np.savez(tmp_path / "some data.npz", **arrays)
        return f"npz:{tmp_path / 'some data.npz'}"

    return write


def test_four_arrays(npz):
    dataset = open_dataset(npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:4], y_test=LABELS[:4]))
    assert dataset.name == "npz-some-data" and dataset.classes == ("3", "4")
    train, test = dataset.load("train"), dataset.load("test")
    assert np.array_equal(train.images, IMAGES) and np.array_equal(train.labels, LABELS - 3)
    assert test.labels.tolist() == [0, 1, 0, 1] and test.labels.dtype == np.int64


def test_two_arrays_are_cut_or_say_their_split(npz):
    cut = open_dataset(npz(images=IMAGES, labels=LABELS))
    fingerprint = cut.fingerprint()
    train, test = cut.load("train"), cut.load("test")
    assert np.bincount(train.labels).tolist() == [8, 8] and np.bincount(test.labels).tolist() == [2, 2]
    both = np.concatenate([train.images, test.images])
    assert sorted(image.tobytes() for image in both) == sorted(image.tobytes() for image in IMAGES)
    said = open_dataset(npz(images=IMAGES, labels=LABELS, split=np.array(["train"] * 15 + ["test"] * 5)))
    assert np.array_equal(said.load("test").images, IMAGES[15:])
    assert said.fingerprint() != fingerprint


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (IMAGES[..., None], IMAGES),
        (np.stack([IMAGES] * 3, -1), np.stack([IMAGES] * 3, -1)),
        (IMAGES.astype(np.int64), IMAGES),
        (IMAGES.astype(np.float32) / 255, IMAGES),
        (IMAGES / 255, IMAGES),
        (IMAGES.astype(np.float32), IMAGES),
        (IMAGES.astype(np.uint16) * 257, IMAGES),
        (IMAGES.astype(np.uint16) * 16, np.round(IMAGES * (16 * 255 / 4095))),
        (IMAGES // 128, IMAGES // 128 * 255),
        (IMAGES // 16, IMAGES // 16 * 17),
        ((IMAGES // 128).astype(np.float32), IMAGES // 128 * 255),
        (IMAGES > 127, IMAGES // 128 * 255),
        (IMAGES[:, None], IMAGES),
        (np.stack([IMAGES] * 3, 1), np.stack([IMAGES] * 3, -1)),
    ],
)
def test_what_images_become(npz, images, expected):
    rows = open_dataset(npz(x_train=images, y_train=LABELS, x_test=images, y_test=LABELS)).load("train")
    assert rows.images.dtype == np.uint8 and np.array_equal(rows.images, expected)


def test_a_part_for_validation_is_one_by_whatever_usual_name(npz):
    parts = {"train": slice(0, 12), "val": slice(12, 16), "test": slice(16, 20)}
    arrays = {f"{part}_images": IMAGES[rows] for part, rows in parts.items()}
    arrays |= {f"{part}_labels": LABELS[rows, None] for part, rows in parts.items()}
    dataset = open_dataset(npz(**arrays))
    assert dataset.splits == ("train", "validation", "test")
    assert np.array_equal(dataset.load("validation").images, IMAGES[12:16])
    assert any("4 images are for validation" in line for line in dataset.survey().remarks)
    words = np.array(["train"] * 12 + ["valid"] * 4 + ["test"] * 4)
    said = open_dataset(npz(images=IMAGES, labels=LABELS, split=words))
    assert np.array_equal(said.load("validation").images, IMAGES[12:16])
    usual = {"x_train": IMAGES[:12], "y_train": LABELS[:12], "x_test": IMAGES[16:], "y_test": LABELS[16:]}
    without = open_dataset(npz(**usual)).fingerprint()
    with_part = open_dataset(npz(**usual, x_val=IMAGES[12:16], y_val=LABELS[12:16]))
    assert with_part.splits == ("train", "validation", "test") and with_part.fingerprint() != without


def test_without_a_test_set_the_part_for_validation_is_that_and_it_is_said(npz):
    arrays = {"x_train": IMAGES[:12], "y_train": LABELS[:12], "x_valid": IMAGES[12:], "y_valid": LABELS[12:]}
    words = {"images": IMAGES, "labels": LABELS, "split": np.array(["train"] * 12 + ["val"] * 8)}
    for content in (arrays, words):
        dataset = open_dataset(npz(**content))
        assert dataset.splits == ("train", "test") and np.array_equal(dataset.load("test").images, IMAGES[12:])
        assert any("validation are the test set" in line for line in dataset.survey().remarks)


def test_arrays_for_one_part_that_could_both_be_meant_are_refused(npz):
    arrays = {"train_x": IMAGES, "train_images": IMAGES, "train_y": LABELS, "test_x": IMAGES, "test_y": LABELS}
    with pytest.raises(UserError, match="several arrays for train"):
        open_dataset(npz(**arrays))


def test_equal_images_are_said_and_cut_to_one_side(npz):
    plain = open_dataset(npz(images=IMAGES, labels=LABELS))
    cut = plain.load("test").images
    twice = np.concatenate([IMAGES, cut, IMAGES[:1]])
    labels = np.concatenate([LABELS, plain.load("test").labels + 3, [9]])
    dataset = open_dataset(npz(images=np.concatenate([twice, IMAGES[1:2] // 2]), labels=np.append(labels, 9)))
    train, test = ({image.tobytes() for image in dataset.load(split).images} for split in dataset.splits)
    assert not train & test
    said = "\n".join(dataset.survey().remarks)
    assert "under several labels" in said and "row 0 of images" in said
    leaking = open_dataset(npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:4] / 255, y_test=LABELS[:4]))
    assert not any("also in train" in line for line in leaking.survey().remarks)
    leaking = open_dataset(npz(x_train=IMAGES, y_train=LABELS, x_test=IMAGES[:4], y_test=LABELS[:4]))
    assert any("4 of 4 test images are also in train (row 0 of x" in line for line in leaking.survey().remarks)


def test_what_is_white_is_said_and_part_of_the_fingerprint(npz):
    usual = open_dataset(npz(images=IMAGES, labels=LABELS))
    assert usual.survey() == Survey(white=White()) and usual.load("train").images.max() == 255
    dim = open_dataset(npz(images=IMAGES // 16, labels=LABELS))
    assert dim.survey().white == White(shallow=15) and dim.survey().rule == 2
    assert "no image holds whole numbers beyond 15, which is taken for white" in dim.survey().remarks[0]
    floats = open_dataset(npz(images=IMAGES.astype(np.float64), labels=LABELS))
    assert floats.survey().white == White(real=255) and floats.survey().rule == 2
    deep = open_dataset(npz(images=IMAGES.astype(np.uint16) * 16, labels=LABELS))
    assert deep.survey().white == White(deep=4095)


def test_arrays_in_which_nothing_can_be_seen_are_named(npz):
    images = IMAGES.copy()
    images[3], images[4] = 7, IMAGES[4] // 16
    said = "\n".join(open_dataset(npz(images=images, labels=LABELS)).survey().remarks)
    assert "1 image is of one colour, or all but (row 3 of images)" in said
    assert "1 image is nearly black (row 4 of images)" in said


def test_labels_may_be_words_or_a_column(npz):
    words = np.where(LABELS == 3, "cat", "dog")
    dataset = open_dataset(npz(images=IMAGES, labels=words))
    assert dataset.classes == ("cat", "dog")
    column = open_dataset(npz(images=IMAGES, labels=np.where(LABELS == 3, 10, 2)[:, None]))
    assert column.classes == ("2", "10")


@pytest.mark.parametrize(
    ("arrays", "complaint"),
    [
        ({"x": IMAGES}, "holds the arrays x; it should hold x_train"),
        ({"images": IMAGES}, "should hold"),
        ({"images": IMAGES, "labels": LABELS[:-1]}, "19 labels for the 20 images"),
        ({"images": IMAGES[0], "labels": LABELS[:5]}, r"shape \(5, 6\)"),
        ({"images": np.stack([IMAGES] * 4, -1), "labels": LABELS}, r"shape \(20, 5, 6, 4\)"),
        ({"images": np.stack([IMAGES] * 2, 1), "labels": LABELS}, r"shape \(20, 2, 5, 6\)"),
        ({"images": IMAGES.astype(np.int64) * 300, "labels": LABELS}, "values reach to 76,500, beyond 16 bits"),
        ({"images": IMAGES.astype(np.int64) - 9, "labels": LABELS}, "values reach from -9 to 246"),
        ({"images": (IMAGES - 127.5) / 127.5, "labels": LABELS}, "values reach from -1 to 1"),
        ({"images": np.full(IMAGES.shape, np.nan), "labels": LABELS}, "holds NaN or infinity"),
        ({"images": IMAGES.astype(complex), "labels": LABELS}, "of type complex128"),
        (
            {"x_train": IMAGES, "y_train": LABELS, "x_test": IMAGES // 128, "y_test": LABELS},
            "'x_test' in .* holds numbers up to 1, and the array 'x_train' in .* up to 255: these are not of one scale",
        ),
        ({"images": IMAGES, "labels": np.eye(20)}, "one-hot"),
        ({"images": IMAGES, "labels": LABELS + 0.5}, "labels should be whole numbers"),
        ({"images": IMAGES, "labels": LABELS * 0}, "has 1 class"),
        ({"images": IMAGES, "labels": np.array([0] * 19 + [1])}, "class '1' in .* has one image"),
        ({"images": IMAGES, "labels": LABELS.astype(object)}, "pickled objects"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["train"] * 20)}, "no image to test"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["later"] * 20)}, "says 'later'"),
        ({"images": IMAGES, "labels": LABELS, "split": np.array(["test"] * 3)}, "3 entries in 'split'"),
    ],
)
def test_arrays_that_cannot_be_used(npz, arrays, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        open_dataset(npz(**arrays)).load("train")
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_or_altered_is_named(npz, tmp_path):
    spec = npz(images=IMAGES, labels=LABELS)
    path = tmp_path / "some data.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:-40])
    with pytest.raises(UserError, match="some data.npz.*cut short"):
        open_dataset(spec)
    position = whole.index(IMAGES[3].tobytes())
    path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
    with pytest.raises(UserError, match="cannot read the array 'images'"):
        open_dataset(spec).load("train")


def test_digits_have_a_fixed_test_set(home):
    from sklearn.datasets import load_digits

    dataset = open_dataset("digits")
    train, test = dataset.load("train"), dataset.load("test")
    assert train.images.shape == (1198, 8, 8) and test.images.shape == (599, 8, 8)
    assert train.images.dtype == np.uint8 and train.images.max() == 255 and train.images.min() == 0
    shares = np.bincount(test.labels) / np.bincount(load_digits().target)
    assert abs(shares - 1 / 3).max() < 0.005
    theirs = {(np.round(image * 255 / 16).astype(np.uint8).tobytes(), label) for image, label in
              zip(load_digits().images, load_digits().target, strict=True)}  # fmt: skip
    ours = {(image.tobytes(), label) for rows in (train, test) for image, label in
            zip(rows.images, rows.labels, strict=True)}  # fmt: skip
    assert ours == theirs
    # The same rows for ever, whatever the versions of numpy and of Python.
    assert test.labels[:12].tolist() == [5, 6, 7, 4, 7, 4, 7, 9, 9, 5, 6, 5]


def test_a_second_fingerprint_of_digits_imports_no_sklearn(home):
    code = (
        "import sys; from features.datasets import open_dataset; print(open_dataset('digits').fingerprint()); "
        "print([name for name in ('torch', 'sklearn') if name in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split("\n")
        for _ in range(2)
    ]
    assert runs[0][0] == runs[1][0] and len(runs[0][0]) == 64
    assert runs[1][1] == "[]"


def test_real_usps(real_usps, tmp_path):
    dataset = open_dataset("usps")
    train, test = dataset.load("train"), dataset.load("test")
    assert train.images.shape == (7291, 16, 16) and test.images.shape == (2007, 16, 16)
    assert np.bincount(train.labels).tolist() == [1194, 1005, 731, 658, 652, 556, 664, 645, 542, 644]
    again = tmp_path / "again"
    again.mkdir()
    for path in real_usps.glob("*.bz2"):
        (again / path.name).write_bytes(bz2.compress(bz2.decompress(path.read_bytes()), 1))
    assert open_dataset(f"usps:{again}").fingerprint() == dataset.fingerprint()
    content = (again / "usps.bz2").read_bytes()
    for damaged in (content[:-1000], content[:5000] + bytes([content[5000] ^ 4]) + content[5001:], b"text"):
        (again / "usps.bz2").write_bytes(damaged)
        with pytest.raises(UserError, match="usps.bz2 is cut short or altered"):
            open_dataset(f"usps:{again}").load("test")
    rows = bz2.decompress(content).splitlines(keepends=True)
    (again / "usps.bz2").write_bytes(bz2.compress(b"".join(rows[:-1])))
    with pytest.raises(UserError, match="7290 rows in place of 7291"):
        open_dataset(f"usps:{again}").fingerprint()


def test_the_names_and_what_is_no_name(home, tmp_path):
    assert dataset_names()[0] == "mnist" and {"digits", "folder:PATH", "csv:PATH", "npz:PATH"} <= set(dataset_names())
    for spec, complaint in {
        "minst": "did you mean mnist",
        "cifar-10": "did you mean cifar10",
        "nothing like it": "the names are mnist",
        "folder": "write folder:PATH",
        "mnist:": "ends after the colon",
        "digits:/tmp": "takes no path",
        f"mnist:{tmp_path}/nowhere": "does not exist",
        str(tmp_path): f"write folder:{tmp_path}",
    }.items():
        with pytest.raises(UserError, match=complaint):
            open_dataset(spec)
    assert open_dataset("EMNIST_Digits").name == "emnist-digits"


def test_opening_by_name_imports_nothing_heavy(home):
    code = "import sys; from features.datasets import dataset_names; dataset_names(); print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
