"""MNIST and its family: the real files in every form and damaged, and the others' peculiarities on small files."""

import gzip
import shutil
import struct
import subprocess
import sys

import numpy as np
import pytest

from features.datasets import open_dataset
from features.datasets.idx import read_idx
from features.datasets.mnist import FAMILY
from features.errors import UserError

TRAIN_LABELS = "train-labels-idx1-ubyte"


@pytest.fixture
def packed(real_mnist, tmp_path):
    """A folder that holds nothing but copies of MNIST's four gzipped files, as the root of mnist:PATH."""
    raw = tmp_path / "elsewhere" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (real_mnist / "raw").glob("*.gz"):
        shutil.copyfile(path, raw / path.name)
    return raw


def unpack(raw):
    for path in raw.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))


def spec(raw):
    return f"mnist:{raw.parent.parent}"


def test_the_rows_are_torchvisions(packed):
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    ours = {split: open_dataset(spec(packed)).load(split) for split in ("train", "test")}
    for split, rows in ours.items():
        theirs = torchvision_datasets.MNIST(packed.parent.parent, train=split == "train", download=True)
        assert rows.images.dtype == np.uint8 and rows.labels.dtype == np.int64
        assert np.array_equal(rows.images, theirs.data.numpy())
        assert np.array_equal(rows.labels, theirs.targets.numpy())


def test_reading_leaves_the_folder_as_it_was(packed):
    before = sorted(packed.parent.parent.rglob("*"))
    dataset = open_dataset(spec(packed))
    dataset.fingerprint()
    dataset.load("test")
    assert sorted(packed.parent.parent.rglob("*")) == before


def test_a_gzipped_file_is_unpacked_once_and_anew_where_it_has_changed(packed, monkeypatch):
    unpacked = []
    plain = gzip.open
    monkeypatch.setattr(gzip, "open", lambda *given: unpacked.append(given) or plain(*given))
    dataset = open_dataset(spec(packed))
    first = dataset.load("test")
    first.images[:] = 0
    again = dataset.load("test")
    assert len(unpacked) == 2 and again.images.any()
    labels = packed / "t10k-labels-idx1-ubyte.gz"
    content = gzip.decompress(labels.read_bytes())
    labels.write_bytes(gzip.compress(content[:8] + content[8:][::-1]))
    assert np.array_equal(read_idx(labels), again.labels[::-1]) and len(unpacked) == 3


def test_the_fingerprint_is_of_the_content_whatever_its_form_and_place(packed, real_mnist):
    linked = open_dataset("mnist").fingerprint()
    gzipped = open_dataset(spec(packed)).fingerprint()
    unpack(packed)
    both = open_dataset(spec(packed)).fingerprint()
    for path in packed.glob("*.gz"):
        path.unlink()
    unpacked = open_dataset(spec(packed)).fingerprint()
    assert linked == gzipped == both == unpacked
    assert len(linked) == 64
    changed = bytearray((packed / TRAIN_LABELS).read_bytes())
    changed[100] = (changed[100] + 1) % 10
    (packed / TRAIN_LABELS).write_bytes(changed)
    assert open_dataset(spec(packed)).fingerprint() != unpacked


def test_a_second_fingerprint_imports_neither_torch_nor_sklearn(packed, home):
    open_dataset(spec(packed)).fingerprint()
    code = (
        "import sys; from features.datasets import open_dataset; open_dataset(sys.argv[1]).fingerprint(); "
        "print([name for name in ('torch', 'torchvision', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, spec(packed)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content[:-1] + b"x"])
def test_a_damaged_gzipped_file_is_named(packed, damage):
    path = packed / f"{TRAIN_LABELS}.gz"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match=f"{path.name}.*delete it and run again") as caught:
        open_dataset(spec(packed)).fingerprint()
    assert "\n" not in str(caught.value)


def test_an_unpacked_file_that_differs_from_the_gzipped_one_is_named(packed):
    unpack(packed)
    path = packed / TRAIN_LABELS
    changed = bytearray(path.read_bytes())
    changed[100] = (changed[100] + 1) % 10
    path.write_bytes(changed)
    with pytest.raises(UserError, match=f"{TRAIN_LABELS} is cut short or altered.*differs"):
        open_dataset(spec(packed)).load("train")


@pytest.mark.parametrize("content", [b"", b"\0\0\x08\x01\0\0", b"hello, this is no idx file"])
def test_an_unpacked_file_without_a_header_is_named(packed, content):
    unpack(packed)
    (packed / f"{TRAIN_LABELS}.gz").unlink()
    (packed / TRAIN_LABELS).write_bytes(content)
    with pytest.raises(UserError, match=f"{TRAIN_LABELS} is cut short or altered"):
        open_dataset(spec(packed)).fingerprint()


def test_an_unpacked_file_cut_short_is_named(packed):
    unpack(packed)
    (packed / f"{TRAIN_LABELS}.gz").unlink()
    path = packed / TRAIN_LABELS
    path.write_bytes(path.read_bytes()[:30_000])
    with pytest.raises(UserError, match="promises 60008 bytes and it has 30000"):
        open_dataset(spec(packed)).fingerprint()


def idx(array):
    code = {1: 0x08, 4: 0x0C}[array.dtype.itemsize]
    head = struct.pack(f">HBB{array.ndim}I", 0, code, array.ndim, *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def write_family_member(name, root, labels):
    """Unpacked files of a small data set: image i has its only bright pixel in row 2, column 5."""
    member = FAMILY[name]
    folder = root / member.source.folder
    folder.mkdir(parents=True)
    images = np.zeros((len(labels), 28, 28), np.uint8)
    images[:, 2, 5] = 255
    for image_name, label_name in member.files.values():
        (folder / image_name).write_bytes(idx(images))
        (folder / label_name).write_bytes(idx(labels))


def test_emnist_letters_are_upright_and_numbered_from_nought(home, tmp_path):
    write_family_member("emnist-letters", tmp_path / "small", np.array([1, 26, 3], np.uint8))
    dataset = open_dataset(f"emnist-letters:{tmp_path / 'small'}")
    rows = dataset.load("test")
    assert rows.labels.tolist() == [0, 25, 2]
    assert [dataset.classes[label] for label in rows.labels] == ["a", "z", "c"]
    assert rows.images[0, 5, 2] == 255 and rows.images.sum() == 3 * 255


def test_qmnist_takes_the_class_from_the_first_of_eight_numbers(home, tmp_path):
    labels = np.arange(16, dtype=np.int32).reshape(2, 8)
    write_family_member("qmnist", tmp_path / "small", labels)
    rows = open_dataset(f"qmnist:{tmp_path / 'small'}").load("train")
    assert rows.labels.tolist() == [0, 8]
    assert rows.images[0, 2, 5] == 255


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist", "emnist-digits"])
def test_the_other_members_are_found_where_torchvision_keeps_them(home, tmp_path, name):
    write_family_member(name, tmp_path / "small", np.array([3, 9], np.uint8))
    dataset = open_dataset(f"{name}:{tmp_path / 'small'}")
    assert dataset.load("test").labels.tolist() == [3, 9]
    assert len(dataset.classes) == 10


def test_the_members_are_torchvisions():
    """Class names, folders and files, held against the installed torchvision."""
    torchvision_datasets = pytest.importorskip("torchvision.datasets")
    for name, member in FAMILY.items():
        theirs = member.source.torchvision_class()
        assert member.source.folder == f"{theirs.__name__}/raw"
        if name in ("fashion-mnist", "kmnist"):
            assert list(member.classes) == theirs.classes
        if not name.startswith("emnist"):
            gzipped = {f"{file}.gz" for names in member.files.values() for file in names}
            assert gzipped <= set(member.source.checksums())
    letters = torchvision_datasets.EMNIST.classes_split_dict["letters"]
    assert tuple(letters[1:]) == FAMILY["emnist-letters"].classes


def test_labels_that_do_not_match_the_images_are_refused(home, tmp_path):
    write_family_member("kmnist", tmp_path / "small", np.array([3, 9], np.uint8))
    path = tmp_path / "small" / "KMNIST" / "raw" / TRAIN_LABELS
    path.write_bytes(idx(np.array([1, 2, 3], np.uint8)))
    with pytest.raises(UserError, match="3 labels for the 2 images"):
        open_dataset(f"kmnist:{tmp_path / 'small'}").load("train")
    path.write_bytes(idx(np.array([1, 10], np.uint8)))
    with pytest.raises(UserError, match="labels beyond the 10 classes"):
        open_dataset(f"kmnist:{tmp_path / 'small'}").load("train")
