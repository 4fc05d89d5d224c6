"""Where the network looked: the parts of places are the margin, and lie where what tells the classes apart was put."""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from classify.__main__ import main
from classify.measure.results import load_results
from classify.use.explaining import Explainer, explain
from classify.use.saved import SavedModel
from features.commands.options import run_command
from features.errors import UserError

SIDE, PATCH = 64, 16
# Of each model, what is typed beside the data set, and the maps that its places are told of.
MODELS = {
    "logistic": (["--layer", "layer2", "--model", "logistic"], ("layer2 (8 x 8)",)),
    "svm": (["--layer", "layer2", "--model", "svm"], ("layer2 (8 x 8)",)),
    "mlp": (["--layer", "layer2", "--pool", "grid:2", "--model", "mlp"], ("layer2 (8 x 8)",)),
    "lda": (["--layer", "fc", "--model", "lda"], ("layer4 (2 x 2)",)),
    "ridge": (["--layer", "layer1+layer3", "--model", "ridge"], ("layer1 (16 x 16)", "layer3 (4 x 4)")),
    "finetune": (["--model", "finetune", "--unfreeze", "fc", "--epochs", "2"], ("layer4 (2 x 2)",)),
    "knn": (["--layer", "layer2", "--model", "knn"], ()),
    "convnet": (["--model", "convnet", "--epochs", "1"], ()),
}


def _image(draw, patched):
    """Noise, and in it a bright patch somewhere; its upper left corner."""
    pixels = draw.integers(0, 80, (SIDE, SIDE, 3), np.uint8)
    top, left = draw.integers(0, SIDE // PATCH, 2) * PATCH
    if patched:
        pixels[top : top + PATCH, left : left + PATCH] = (255, 220, 0)
    return pixels, (top, left)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder in which all models learnt to tell images with a bright patch from those without."""
    folder, draw = tmp_path_factory.mktemp("explained"), np.random.default_rng(0)
    for split, count in (("train", 30), ("test", 10)):
        for name in ("patch", "plain"):
            (folder / "seen" / split / name).mkdir(parents=True)
            for number in range(count):
                image, _ = _image(draw, name == "patch")
                Image.fromarray(image).save(folder / "seen" / split / name / f"{number}.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        shared = ["--dataset", "folder:seen", "--weights", "random", "--image-size", str(SIDE), "--device", "cpu"]
        for options, _ in MODELS.values():
            asked = ["--no-search"] if "--layer" in options else ["--train-precision", "float32"]
            assert run_command(main, [*shared, "--precision", "float32", *asked, *options]) == 0
        yield folder


def _model(name):
    (found,) = (saved for saved in load_results("results") if saved.result.config["head"] == name)
    return SavedModel.open(found, device="cpu")


def _margins(model, images):
    """Of the classes decided for over the others, of two."""
    logs = np.log(model.predict_proba(list(images)))
    return logs.max(1) - logs.min(1)


def _explained(model, images):
    explainer = Explainer(model)
    outputs = model.answers(ready := model.prepare(np.stack(images))).predicted
    found = explainer.explain(ready, [[output, 1 - output] for output in outputs])
    for one, again in zip(explain(model, list(images)), found, strict=True):
        assert np.allclose(one.places, again.places, rtol=1e-3, atol=1e-4) and one.over == again.over
    return explainer, found


@pytest.mark.parametrize("name", [name for name, (_, maps) in MODELS.items() if maps])
def test_the_parts_of_all_places_are_the_margin(trained, name):
    draw = np.random.default_rng(1)
    images = [_image(draw, number % 2)[0] for number in range(6)]
    model = _model(name)
    explainer, found = _explained(model, images)
    assert explainer.maps == MODELS[name][1]
    cropped = model.cropped(np.stack(images)).permute(0, 2, 3, 1).numpy()
    for why, margin, pixels in zip(found, _margins(model, images), cropped, strict=True):
        assert why.margin == pytest.approx(margin, rel=1e-3, abs=1e-4)
        assert why.places.sum() == pytest.approx(why.margin, rel=1e-4, abs=1e-4)
        assert np.abs(why.pixels.astype(int) - pixels).max() <= 1


def test_a_linear_head_says_of_a_place_what_it_says_of_an_image_that_looks_everywhere_so(trained):
    model, (image, _) = _model("logistic"), _image(np.random.default_rng(2), True)
    _, (why,) = _explained(model, [image])
    ready = model.prepare(image[None])
    with torch.no_grad():
        found = model.reader.cut.trunk([model.reader.cut.resolve("layer2")]).eval()(ready)[0]
    everywhere = found[0].flatten(1).T.numpy()  # a row of features for each place
    logs = np.log(model.head.predict_proba(everywhere))
    first = model.answers(ready).predicted[0]
    np.testing.assert_allclose(why.places.ravel() * 64, logs[:, first] - logs[:, 1 - first], rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["logistic", "svm", "ridge"])
def test_what_speaks_for_the_patch_lies_where_it_is(trained, name):
    draw, model, there = np.random.default_rng(3), _model(name), 0
    drawn = [_image(draw, True) for _ in range(24)]
    named = model.predict([image for image, _ in drawn])
    drawn = [one for one, name in zip(drawn, named, strict=True) if name == "patch"]
    assert len(drawn) >= 20
    _, found = _explained(model, [image for image, _ in drawn])
    for why, (_, (top, left)) in zip(found, drawn, strict=True):
        side = SIDE // len(why.places)
        row, column = (place * side + side / 2 for place in np.unravel_index(why.places.argmax(), why.places.shape))
        # Within one place of the patch: what a place sees is larger than itself.
        there += top - side <= row <= top + PATCH + side and left - side <= column <= left + PATCH + side
    assert there >= 0.9 * len(drawn), (there, len(drawn))


@pytest.mark.parametrize(("name", "words"), [("knn", "decides by votes"), ("convnet", "what convnet decides is not")])
def test_what_cannot_be_explained_is_said(trained, name, words):
    with pytest.raises(UserError, match=words):
        _explained(_model(name), [_image(np.random.default_rng(4), True)[0]])


def test_the_command_writes_a_picture_of_each_image_that_is_read(trained, tmp_path, capsys):
    draw = np.random.default_rng(5)
    for place, patched in (("one/a.png", True), ("two/a.png", False), ("one/b.jpg", True)):
        (tmp_path / place).parent.mkdir(exist_ok=True)
        Image.fromarray(_image(draw, patched)[0]).save(tmp_path / place)
    (tmp_path / "one" / "broken.png").write_bytes(b"\x89PNG")
    record = str(_model("svm").saved.path)
    asked = ["predict", str(tmp_path / "one"), str(tmp_path / "two"), "--from", record]
    assert run_command(main, [*asked, "--csv", str(tmp_path / "plain.csv")]) == 1
    why = tmp_path / "why"
    assert run_command(main, [*asked, "--csv", str(tmp_path / "same.csv"), "--explain", str(why)]) == 1
    assert "against it in blue, at the places of layer2 (8 x 8)" in capsys.readouterr().err
    assert (tmp_path / "same.csv").read_bytes() == (tmp_path / "plain.csv").read_bytes()
    with (why / "explained.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [Path(row["image"]).relative_to(tmp_path).as_posix() for row in rows] == [
        "one/a.png",
        "one/b.jpg",
        "two/a.png",
    ]
    assert [(row["file"], row["class"], row["over"]) for row in rows] == [
        ("a.png", "patch", "plain"),
        ("b.png", "patch", "plain"),
        ("a-2.png", "plain", "patch"),
    ]
    assert all(Image.open(why / row["file"]).size == (2 * 256 + 8, 256) for row in rows)
    assert run_command(main, [*asked, "--explain", str(why)]) == 2
    assert "--explain" in (said := capsys.readouterr().err) and "something already" in said
    assert run_command(main, [*asked, "--explain", str(tmp_path / "one" / "why")]) == 2


def test_where_a_class_token_is_taken_the_places_of_the_layer_before_it_are_told(home, tmp_path, monkeypatch):
    pytest.importorskip("timm")
    monkeypatch.chdir(tmp_path)
    shared = ["--dataset", "digits", "--backbone", "timm:vit_tiny_patch16_224", "--weights", "random", "--no-search"]
    shared += ["--image-size", "64", "--limit", "60", "--limit-test", "20", "--device", "cpu", "--precision", "float32"]
    assert run_command(main, [*shared, "--layer", "avgpool", "--model", "ridge"]) == 0
    model = _model("ridge")
    images = np.random.default_rng(6).integers(0, 256, (3, 28, 28), np.uint8)
    explainer = Explainer(model)
    found = explainer.explain(model.prepare(images), [[0, 1]] * 3)
    assert explainer.maps == ("blocks.10.add_1 (4 x 4)",)
    for why in found:
        assert why.places.shape == (4, 4) and why.places.std() > 0
        assert why.places.sum() == pytest.approx(why.margin, rel=1e-4, abs=1e-5)
