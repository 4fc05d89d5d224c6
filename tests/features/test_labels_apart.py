"""Labels of arrays and lists: what is different stays apart, what is one text is one class."""

import unicodedata

import numpy as np
import pytest
from PIL import Image

from features.datasets import open_dataset
from features.errors import UserError

COMPOSED, DECOMPOSED = unicodedata.normalize("NFC", "café"), unicodedata.normalize("NFD", "café")


def _npz(folder, labels):
    images = np.random.default_rng(0).integers(0, 256, (len(labels), 8, 8), np.uint8)
    np.savez(folder / "data.npz", x_train=images, y_train=labels, x_test=images[::-1], y_test=labels[::-1])
    return open_dataset(f"npz:{folder / 'data.npz'}")


@pytest.mark.parametrize(
    "labels",
    [
        np.array([1e19, 2e19, 1e19, 2e19]),
        np.array([-1e19, 1e30, -1e19, 1e30]),
        np.array([2.0**53 + 2, 2.0**53 + 4] * 2),
        np.array([b"\xe9t\xe9", b"\xe8t\xe8"] * 2),
        np.array([b"\xff", b"\xfe", b"cat", b"\xff"]),
    ],
    ids=["1e19", "1e30", "2**53", "latin-1", "no text"],
)
def test_labels_that_would_become_one_are_refused(home, tmp_path, labels):
    with pytest.raises(UserError, match=r"data\.npz.*save"):
        _ = _npz(tmp_path, labels).classes


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([2.0**53, 1.0] * 2), ("1", str(2**53))),
        (np.array([2**64 - 1, 2**63] * 2, np.uint64), (str(2**63), str(2**64 - 1))),
        (np.array([b"\xc3\xa9t\xc3\xa9", b"hiver"] * 2), ("hiver", "été")),
        (np.array([DECOMPOSED, "tea"] * 2), (DECOMPOSED, "tea")),
    ],
    ids=["2**53", "uint64", "utf-8", "decomposed alone"],
)
def test_labels_that_can_be_told_apart_are_read_as_they_were(home, tmp_path, labels, classes):
    assert _npz(tmp_path, labels).classes == classes


def test_two_forms_of_one_text_are_one_class_of_an_array(home, tmp_path):
    data = _npz(tmp_path, np.array([COMPOSED, DECOMPOSED, "tea", "tea"]))
    assert data.classes == (COMPOSED, "tea")
    assert data.load("train").labels.tolist() == [0, 0, 1, 1]
    assert any("Unicode" in remark for remark in data.survey().remarks)
    (tmp_path / "other").mkdir()
    other = _npz(tmp_path / "other", np.array([COMPOSED, COMPOSED, "tea", "tea"]))
    assert other.fingerprint() != data.fingerprint()


def test_two_forms_of_one_text_are_one_class_of_a_list(home, tmp_path):
    lines = ["path,label"]
    for number, label in enumerate([COMPOSED, DECOMPOSED, COMPOSED, DECOMPOSED, *["tea"] * 4]):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,{label}")
    (tmp_path / "list.csv").write_text("\n".join(lines), encoding="utf-8")
    data = open_dataset(f"csv:{tmp_path / 'list.csv'}")
    assert data.classes == (COMPOSED, "tea")
    assert any("Unicode" in remark for remark in data.survey().remarks)
