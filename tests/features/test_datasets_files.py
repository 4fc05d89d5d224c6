"""Data sets made of image files: folders, ImageNet's layout, CSV lists, and how a single image is read."""

import os
import pickle
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from features.datasets import ImageFiles, open_dataset
from features.datasets.imagenet import wordnet_ids
from features.errors import UserError


@pytest.fixture
def photos(tmp_path, home):
    """Ten images of each of two classes, every one different."""
    root = tmp_path / "photos"
    for shade, name in enumerate(("cat", "dog")):
        (root / name).mkdir(parents=True)
        for number in range(10):
            save(np.full((4, 5, 3), [shade, number, 7], np.uint8), root / name / f"{number}.png")
    return root


def save(pixels, path, mode=None, **options):
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(path, **options)
    return path


def one_line(error):
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_folder_is_cut_into_a_fixed_stratified_test_set(photos):
    dataset = open_dataset(f"folder:{photos}")
    train, test = dataset.load("train"), dataset.load("test")
    assert dataset.name == "folder-photos" and dataset.classes == ("cat", "dog")
    assert np.bincount(train.labels).tolist() == [8, 8] and np.bincount(test.labels).tolist() == [2, 2]
    assert train.labels.dtype == np.int64
    assert not set(train.images.paths) & set(test.images.paths)
    assert {path.parent.name for path, label in zip(test.images.paths, test.labels, strict=True) if label} == {"dog"}
    # The same rows for ever: a test set that moves would let old training rows into new tests.
    assert [path.relative_to(photos).as_posix() for path in test.images.paths] == [
        "cat/5.png",
        "cat/7.png",
        "dog/4.png",
        "dog/7.png",
    ]
    assert open_dataset(dataset.spec).load("test").images == test.images


def test_the_fingerprint_follows_content_and_not_place(photos, tmp_path):
    first = open_dataset(f"folder:{photos}").fingerprint()
    moved = tmp_path / "moved"
    shutil.copytree(photos, moved)
    assert open_dataset(f"folder:{moved}").fingerprint() == first
    save(np.zeros((4, 5, 3), np.uint8), moved / "dog" / "3.png")
    changed = open_dataset(f"folder:{moved}").fingerprint()
    assert changed != first
    (moved / "dog").rename(moved / "wolf")
    assert open_dataset(f"folder:{moved}").fingerprint() not in (first, changed)


def test_a_folder_says_its_splits(photos, tmp_path):
    root = tmp_path / "laid-out"
    shutil.copytree(photos, root / "train")
    shutil.copytree(photos / "dog", root / "val" / "dog")
    dataset = open_dataset(f"folder:{root}")
    assert len(dataset.load("train").labels) == 20
    assert dataset.load("test").labels.tolist() == [1] * 10
    shutil.copytree(photos / "cat", root / "test" / "cat")
    assert open_dataset(f"folder:{root}").load("test").labels.tolist() == [0] * 10
    (root / "test" / "fox").mkdir()
    with pytest.raises(UserError, match="class 'fox', which .*train has not"):
        open_dataset(f"folder:{root}")


def test_folders_that_cannot_be_used(photos, tmp_path):
    def complaint():
        with pytest.raises(UserError) as caught:
            open_dataset(f"folder:{photos}")
        return one_line(caught)

    (photos / "fox").mkdir()
    assert f"{photos / 'fox'} holds no image" in complaint()
    save(np.zeros((4, 4), np.uint8), photos / "fox" / "0.png")
    assert "class 'fox' in" in complaint() and "has one image and needs two" in complaint()
    shutil.rmtree(photos / "fox")
    shutil.rmtree(photos / "dog")
    assert "the one class 'cat'" in complaint()
    (photos / "cat").rename(photos / "train")
    assert "has train/ and neither test/ nor val/" in complaint()
    shutil.rmtree(photos / "train")
    assert f"{photos} holds no images" in complaint()
    save(np.zeros((4, 4), np.uint8), photos / "0.png")
    assert "holds images but no sub-folders" in complaint()
    with pytest.raises(UserError, match="does not exist"):
        open_dataset(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(UserError, match="cannot list"):
        open_dataset(f"folder:{photos / '0.png'}")


def test_a_link_to_nothing_is_named(photos):
    (photos / "cat" / "gone.png").symlink_to(photos / "nowhere.png")
    with pytest.raises(UserError, match="cannot read .*gone.png"):
        open_dataset(f"folder:{photos}").fingerprint()


def test_a_pipe_under_an_images_name_is_named_and_not_waited_for(photos):
    os.mkfifo(photos / "cat" / "pipe.png")
    with pytest.raises(UserError, match="pipe.png.*is no regular file"):
        open_dataset(f"folder:{photos}").fingerprint()


def test_real_imagenet_images_have_the_rank_of_their_id(real_imagenet):
    dataset = open_dataset("imagenet")
    assert dataset.splits == ("test",) and len(dataset.classes) == 1000
    rows = dataset.load("test")
    for row in range(0, len(rows.labels), 50):
        path, label = rows.images.paths[row], rows.labels[row]
        assert dataset.classes[label] == path.parent.name
        assert rows.images.read(row).shape == (227, 227, 3)
    assert list(wordnet_ids()) == sorted(wordnet_ids()) and len(set(wordnet_ids())) == 1000
    assert wordnet_ids().index("n01440764") == 0 and wordnet_ids().index("n02123045") == 281
    assert dataset.fingerprint() == open_dataset(f"imagenet:{real_imagenet}").fingerprint()
    with pytest.raises(UserError, match="has no split 'train', only test"):
        dataset.load("train")


@pytest.mark.parametrize(
    ("train", "validation"),
    [("train", "val"), ("Train", "Validation"), ("train", "valid"), ("ILSVRC2012_img_train", "ILSVRC2012_img_val")],
)
def test_imagenet_in_torchvisions_layout(photos, tmp_path, train, validation):
    root = tmp_path / "ilsvrc"
    (root / "test").mkdir(parents=True)  # theirs has no labels
    for split, wordnet_id in ((train, "n02123045"), (validation, "n01440764")):
        shutil.copytree(photos / "cat", root / split / wordnet_id)
    dataset = open_dataset(f"imagenet:{root}")
    assert dataset.splits == ("train", "test")
    assert set(dataset.load("train").labels) == {281} and set(dataset.load("test").labels) == {0}
    assert dataset.survey().rule == (1 if validation == "val" and train == "train" else 2)
    shutil.copytree(root / validation, root / "Val_2")
    with pytest.raises(UserError, match="several parts of one kind"):
        open_dataset(f"imagenet:{root}")


def test_imagenet_that_is_not_there_or_not_sorted(photos, home):
    with pytest.raises(UserError, match="cat is not named after one of ImageNet's 1,000 WordNet ids"):
        open_dataset(f"imagenet:{photos}")
    with pytest.raises(UserError, match="holds no image in a sub-folder"):
        open_dataset(f"imagenet:{photos / 'cat'}")
    link = home / "datasets" / "imagenet"
    link.unlink(missing_ok=True)
    with pytest.raises(UserError, match="ImageNet is not at"):
        open_dataset("imagenet")


def test_a_repeated_fingerprint_imports_no_torch_and_no_pillow(photos):
    code = (
        "import sys; from features.datasets import open_dataset; open_dataset(sys.argv[1]).fingerprint(); "
        "print([name for name in ('torch', 'torchvision', 'PIL') if name in sys.modules])"
    )
    open_dataset(f"folder:{photos}").fingerprint()
    done = subprocess.run(
        [sys.executable, "-c", code, f"folder:{photos}"], capture_output=True, text=True, check=True
    )  # fmt: skip
    assert done.stdout.strip() == "[]"


def write(photos, text, name="list.csv"):
    (photos / name).write_text(text, encoding="utf-8")
    return f"csv:{photos / name}"


def test_a_list_with_a_header_in_any_order(photos):
    spec = write(
        photos,
        "\ufeffid,Label,Split,Filename\n1,10,train,cat/0.png\n2,2,train,cat/1.png\n\n3,10,test,dog/0.png\n"
        "4,2,val,dog/1.png\n",
    )
    dataset = open_dataset(spec)
    assert dataset.name == "csv-list" and dataset.classes == ("2", "10")
    train, test = dataset.load("train"), dataset.load("test")
    assert train.labels.tolist() == [1, 0] and test.labels.tolist() == [1]
    assert train.images.paths[1] == photos / "cat" / "1.png"


def test_a_list_without_header_and_without_split(photos, tmp_path):
    lines = [f"{photos / kind / f'{number}.png'},{kind}" for kind in ("dog", "cat") for number in range(10)]
    dataset = open_dataset(write(photos, "\n".join(lines)))
    assert dataset.classes == ("cat", "dog")
    assert len(dataset.load("train").labels) == 16 and np.bincount(dataset.load("test").labels).tolist() == [2, 2]
    shutil.copytree(photos, tmp_path / "moved")
    relative = [line.removeprefix(f"{photos}/") for line in lines]
    (tmp_path / "moved" / "other.csv").write_text("path,label\n" + "\n".join(relative))
    assert open_dataset(f"csv:{tmp_path / 'moved' / 'other.csv'}").fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty"),
        ("path,label\n", "a header and no rows"),
        ("path,kind\ncat/0.png,a\n", "no column 'label'"),
        ("cat/0.png\n", "has one column"),
        ("cat/0.png,a\ncat/nowhere.png,b\n", "line 2: there is no file .*nowhere.png"),
        ("cat/0.png,a\ncat/1.png\n", "line 2, has 1 columns and needs 2"),
        ("cat/0.png,a\ncat/1.png,\n", "line 2: the label is empty"),
        ("cat/0.png,a,train\ncat/1.png,b,later\n", "line 2: the split is 'later'"),
        ("cat/0.png,a\ncat/1.png,a\n", "the one class 'a'"),
        ("cat/0.png,a\ncat/1.png,a\ndog/0.png,b\n", "class 'b' in .* has one image"),
        ("cat/0.png,a,train\ncat/1.png,b,test\n", "no training image of class 'b'"),
    ],
)
def test_lists_that_cannot_be_used(photos, text, complaint):
    with pytest.raises(UserError, match=complaint) as caught:
        open_dataset(write(photos, text))
    one_line(caught)


def test_a_list_in_another_encoding_is_refused(photos):
    (photos / "list.csv").write_bytes(b"path,label\ncat/0.png,\xe9\n")
    with pytest.raises(UserError, match="UTF-8"):
        open_dataset(f"csv:{photos / 'list.csv'}")


def read(path):
    return ImageFiles((path,)).read(0)


def test_grey_stays_grey_and_the_rest_becomes_rgb(tmp_path):
    grey = np.arange(12, dtype=np.uint8).reshape(3, 4)
    colour = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    assert np.array_equal(read(save(grey, tmp_path / "l.png")), grey)
    assert np.array_equal(read(save(colour, tmp_path / "rgb.png")), colour)
    assert read(save(grey > 5, tmp_path / "1.png")).tolist() == ((grey > 5) * 255).tolist()
    deep = (grey.astype(np.uint16) * 5000) + 257
    assert read(save(deep, tmp_path / "16.png")).tolist() == np.round(deep / 257).tolist()
    palette = read(save(colour, tmp_path / "p.png", mode="P"))
    assert palette.shape == (3, 4, 3) and palette.dtype == np.uint8
    assert read(save(colour, tmp_path / "cmyk.jpg", mode="CMYK")).shape == (3, 4, 3)


def test_transparency_lies_over_white(tmp_path):
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 3] = [0, 128, 255]
    assert read(save(pixels, tmp_path / "rgba.png"))[0, :, 0].tolist() == [255, 127, 0]
    assert read(save(pixels, tmp_path / "la.png", mode="LA")).tolist() == [[255, 127, 0]]


def test_the_orientation_of_a_photograph_is_applied(tmp_path):
    pixels = np.zeros((8, 16, 3), np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = read(save(pixels, tmp_path / "turned.jpg", exif=exif, quality=95))
    assert turned.shape == (16, 8, 3) and turned[0].min() > 200 and turned[-1].max() < 50


def test_unreadable_images_are_named(tmp_path, monkeypatch):
    whole = save(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8), tmp_path / "whole.jpg")
    broken = {"cut.jpg": whole.read_bytes()[:-300], "text.png": b"no image", "empty.png": b""}
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    for name in (*broken, "absent.png"):
        with pytest.raises(UserError, match=f"cannot read the image .*{name}") as caught:
            read(tmp_path / name)
        one_line(caught)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 64 - 1)
    with pytest.warns(Image.DecompressionBombWarning), pytest.raises(UserError, match="whole.jpg .*64 x 64 pixels"):
        read(whole)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(UserError, match="cannot read the image .*whole.jpg"):
        read(whole)


def test_images_can_be_pickled_and_read_from_threads(photos):
    images = open_dataset(f"folder:{photos}").load("train").images
    copy = pickle.loads(pickle.dumps(images))
    assert copy == images and len(copy) == 16
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(copy.read, list(range(16)) * 10))
    assert all(np.array_equal(image, images.read(number % 16)) for number, image in enumerate(together))
