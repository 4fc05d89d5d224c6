"""`--decode draft`: JPEG files decoded at a part of their size are so for the cache, in training and in prediction."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image

from classify.__main__ import main
from classify.measure.results import load_results
from classify.use.saved import SavedModel, load_model
from extract import FeatureExtractor
from extract.__main__ import main as extract
from features import load_features
from features.commands.options import run_command
from features.datasets import ImageFiles, open_dataset
from features.preprocessing import Preprocessing

DRAFT = Preprocessing((0.5,) * 3, (0.25,) * 3, resize=37, crop=32, decode="draft")
SMALL = ["--weights", "random", "--image-size", "32", "--precision", "float32", "--device", "cpu"]


def photograph(path, *, size=(900, 640), seed=0, **saving) -> None:
    """A picture of smooth colours with some noise, upright or not."""
    draw = np.random.default_rng(seed)
    pixels = np.asarray(Image.fromarray(draw.integers(0, 256, (6, 9, 3), np.uint8)).resize(size), np.int16)
    pixels = (pixels + draw.integers(-20, 20, pixels.shape)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, **saving)


@pytest.fixture
def photographs(home, tmp_path, monkeypatch) -> str:
    """A data set of large JPEG files, one of them turned, with a small one and a PNG among them."""
    monkeypatch.chdir(tmp_path)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    for place, label in enumerate(("cat", "dog")):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            name = tmp_path / "photos" / label / f"{number}.{'png' if number == 3 else 'jpg'}"
            size = (60, 50) if number == 5 else (900 - 10 * number, 640)
            saving = {"exif": turned} if number == 7 else {}
            photograph(name, size=size, seed=100 * place + number, **saving)
    return f"folder:{tmp_path / 'photos'}"


@pytest.mark.parametrize(
    ("name", "size", "saving", "wanted"),
    [
        ("large.jpg", (4000, 3000), {}, (375, 500, 3)),
        ("by_its_content.png", (4000, 3000), {"format": "JPEG"}, (375, 500, 3)),
        ("several.jpg", (4000, 3000), {"format": "MPO"}, (375, 500, 3)),
        ("half.jpg", (300, 200), {}, (100, 150, 3)),
        ("small.jpg", (140, 110), {}, (110, 140, 3)),
        ("other.png", (4000, 3000), {"compress_level": 0}, (3000, 4000, 3)),
        ("long.jpg", (8000, 90), {}, (90, 8000, 3)),
    ],
)
def test_twice_what_the_network_gets_is_left(name, size, saving, wanted, tmp_path):
    photograph(tmp_path / name, size=size, **saving)
    files = ImageFiles((tmp_path / name,))
    assert files.decoded_at(DRAFT.decoded).read(0).shape == wanted
    assert files.read(0).shape == (size[1], size[0], 3)


def test_what_is_left_are_means_of_the_whole(tmp_path):
    photograph(tmp_path / "image.jpg", size=(1600, 1200), quality=95)
    files = ImageFiles((tmp_path / "image.jpg",))
    whole, part = files.read(0).astype(float), files.decoded_at(DRAFT.decoded).read(0)
    assert part.shape == (150, 200, 3)
    means = whole.reshape(150, 8, 200, 8, 3).mean(axis=(1, 3))
    assert np.abs(means - part).mean() < 1


def test_a_turned_photograph_is_measured_upright(tmp_path):
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 8
    photograph(tmp_path / "image.jpg", size=(640, 160), exif=turned)
    padded = Preprocessing((0.5,) * 3, (0.25,) * 3, resize=37, crop=32, crop_mode="pad", decode="draft")
    files = ImageFiles((tmp_path / "image.jpg",))
    assert files.read(0).shape == (640, 160, 3)
    assert files.decoded_at(padded.decoded).read(0).shape == (80, 20, 3)


def test_features_have_a_key_of_their_own_and_are_near_those_of_whole_images(photographs):
    words = ["--dataset", photographs, *SMALL, "--layer", "layer2"]
    asked = {"weights": "random", "image_size": 32, "precision": "float32", "device": "cpu"}
    assert run_command(extract, words) == run_command(extract, [*words, "--decode", "draft"]) == 0
    whole, _ = load_features(photographs, "layer2", "train", **asked)
    part, _ = load_features(photographs, "layer2", "train", decode="draft", **asked)
    norms = np.linalg.norm(whole, axis=1) * np.linalg.norm(part, axis=1)
    cosines = (whole * part).sum(axis=1) / norms
    assert 0.999 < cosines.min() < cosines.max() <= 1 + 1e-6
    assert not np.array_equal(whole, part)
    unlike = (whole != part).any(axis=1)
    names = [path.name for path in open_dataset(photographs).load("train").images.paths]
    assert all(unlike[row] == (name not in ("3.png", "5.jpg")) for row, name in enumerate(names))
    extractor = FeatureExtractor(layer="layer2", weights="random", image_size=32, precision="float32", decode="draft")
    again = extractor.fit_transform(list(open_dataset(photographs).load("train").images.paths))
    assert np.allclose(again, part, atol=1e-5)


def test_full_is_what_it_was_and_no_part_of_a_key(photographs):
    words = ["--dataset", photographs, *SMALL, "--layer", "layer1"]
    assert run_command(extract, words) == 0
    assert "decode" not in Preprocessing((0.5,) * 3, (0.5,) * 3, 37, 32).describe()
    assert run_command(extract, [*words, "--decode", "full", "--dry-run"]) == 0


@pytest.mark.parametrize("model", [["ridge"], ["finetune", "--unfreeze", "fc"], ["finetune", "--unfreeze", "all"]])
def test_a_model_of_drafts_is_asked_about_drafts(photographs, model, capsys):
    trains = ["--epochs", "1", "--batch-size", "8", "--train-precision", "float32"] if model != ["ridge"] else []
    words = ["--dataset", photographs, *SMALL, *trains, "--test", "split", "--decode", "draft", "--model", *model]
    assert run_command(main, words if model == ["ridge"] else [w for w in words if w not in ("--test", "split")]) == 0
    (saved,) = load_results("results")
    opened = SavedModel.open(saved, device="cpu")
    assert opened.preprocessing.decode == "draft"
    kept, data = saved.predictions(), open_dataset(photographs).load("test")
    paths = [data.images.paths[row] for row in kept.rows]
    scores = load_model(saved.path).predict_proba(paths)
    assert np.allclose(scores, kept.probabilities, atol=1e-5)
    capsys.readouterr()
    assert run_command(main, ["predict", *map(str, paths), "--from", str(saved.path), "--json", "told.json"]) == 0
    told = json.loads(Path("told.json").read_text())["images"]
    assert np.allclose([image["probability"] for image in told], kept.probabilities.max(axis=1), atol=1e-5)
    assert run_command(main, ["repeat", str(saved.path), "--dataset", photographs]) == 0
    assert "the same: all" in capsys.readouterr().out
    assert run_command(main, ["export", "--from", str(saved.path), "--format", "torch", "--output", "model.pt2"]) == 0
    assert "a JPEG decoded at a half" in Path("model.pt2.json").read_text()


def test_arrays_are_not_decoded(home, capsys):
    assert run_command(extract, ["--dataset", "digits", *SMALL, "--decode", "draft"]) == 2
    assert "--decode draft is about images in files" in capsys.readouterr().err


def test_where_decoding_takes_the_time_the_option_is_named(home, tmp_path, capsys):
    for label in "ab":
        (tmp_path / "large" / label).mkdir(parents=True)
        for number in range(14):
            photograph(tmp_path / "large" / label / f"{number}.jpg", size=(1800, 1200), seed=number)
    words = ["--dataset", f"folder:{tmp_path / 'large'}", *SMALL, "--layer", "maxpool"]
    assert run_command(extract, words) == 0
    assert "--decode draft reads large JPEGs" in capsys.readouterr().out
    assert run_command(extract, [*words, "--decode", "draft"]) == 0
    assert "--decode" not in capsys.readouterr().out
