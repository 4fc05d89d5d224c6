"""`python -m classify predict` as a user meets it; saved models held to the predictions that they were kept with."""

import csv
import dataclasses
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify import load_model
from classify.__main__ import main
from classify.heads.around import plain_head
from classify.measure.results import load_results, sealed
from classify.use.images import given_images
from classify.use.predicting import predictions
from classify.use.saved import SavedModel
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError

DIGITS = ["--dataset", "digits", "--weights", "random", "--image-size", "32", "--limit", "100", "--limit-test", "40"]
EXACT = ["--precision", "float32", "--device", "cpu"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A working folder with results of every kind that can predict, on real digits."""
    folder = tmp_path_factory.mktemp("use")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAYERPROBE_HOME", str(folder / "home"))
        patch.chdir(folder)
        joined = ["--layer", "layer1+layer2", "--pool", "grid:2"]
        assert run_command(main, [*DIGITS, *EXACT, *joined, "--model", "svm", "knn", "--no-search"]) == 0
        assert run_command(main, [*DIGITS, *EXACT, "--pca", "12", "--model", "logistic", "--no-search"]) == 0
        assert run_command(main, [*DIGITS, *EXACT, "--dtype", "float16", "--model", "ridge"]) == 0
        short = ["--epochs", "1", "--train-precision", "float32", "--unfreeze", "layer4"]
        assert run_command(main, [*DIGITS, *EXACT, *short, "--model", "finetune", "convnet", "untouched"]) == 0
        yield folder


@pytest.fixture
def pictures(trained, tmp_path, monkeypatch):
    """Test images as files, in a folder of their own."""
    monkeypatch.chdir(trained)
    data = open_dataset("digits").load("test")
    folder = tmp_path / "pictures"
    folder.mkdir()
    for place in range(6):
        Image.fromarray(data.images[place]).save(folder / f"{place}.png")
    return folder


def _record(head, **config):
    (found,) = (
        saved
        for saved in load_results("results")
        if saved.result.config["head"] == head and config.items() <= saved.result.config.items()
    )
    return found


def _answered(capsys, *arguments):
    status = run_command(main, ["predict", *map(str, arguments), "--json", "-", "--device", "cpu"])
    told = capsys.readouterr()
    return status, json.loads(told.out), told.err


def test_every_saved_model_says_what_it_said_in_its_test(trained, monkeypatch):
    monkeypatch.chdir(trained)
    data, seen = open_dataset("digits").load("test"), set()
    for saved in load_results("results"):
        kept, model = saved.predictions(), SavedModel.open(saved, device="cpu")
        answers = model.answers(model.prepare(data.images[kept.rows]))
        assert np.array_equal(model.labels[answers.predicted], kept.predicted), saved.path
        if kept.probabilities is not None:
            assert np.allclose(answers.probabilities, kept.probabilities[:, model.labels], atol=1e-5), saved.path
        seen.add(saved.result.config["head"])
    assert seen == {"svm", "knn", "logistic", "ridge", "finetune", "convnet", "untouched"}


def test_in_bfloat16_nearly_all_images_get_the_class_they_got(trained, monkeypatch):
    monkeypatch.chdir(trained)
    half = ["--precision", "bfloat16", "--device", "cpu", "--results", "half"]
    assert run_command(main, [*DIGITS, *half, "--layer", "layer2", "--model", "logistic", "--no-search"]) == 0
    (saved,) = load_results("half")
    kept, model = saved.predictions(), load_model(saved, device="cpu")
    images = open_dataset("digits").load("test").images[kept.rows]
    # Batches of another size round differently, by about 0.4 % of a number.
    probabilities = np.concatenate([model.predict_proba(images[:7]), model.predict_proba(images[7:])])
    assert np.abs(probabilities - kept.probabilities).max() < 0.05
    assert np.mean(model.predict(images) == np.array(model.classes)[kept.predicted]) > 0.95


def test_a_table_names_the_model_that_was_best_on_validation(pictures, capsys):
    assert run_command(main, ["predict", str(pictures), "--top", "3"]) == 0
    said = capsys.readouterr().out
    best = max(load_results("results"), key=lambda saved: saved.result.validation_accuracy)
    assert str(best.path) in said
    assert f"{best.result.config['head']} for digits" in said
    assert "0.png" in said


def test_an_image_that_cannot_be_read_is_named_and_the_others_are_done(pictures, capsys):
    whole = (pictures / "1.png").read_bytes()
    (pictures / "cut.png").write_bytes(whole[: len(whole) - 30])
    (pictures / "text.jpg").write_text("no image")
    (pictures / "empty").mkdir()
    bomb = b"P5\n11000 11000\n255\n"
    (pictures / "bomb.pgm").write_bytes(bomb)
    os.mkfifo(pictures / "pipe.png")
    (pictures / "gone.png").symlink_to("nowhere.png")
    status, found, told = _answered(capsys, pictures, pictures / "empty", "absent.png", "/dev/null")
    assert status == 1
    wrong = {Path(image["image"]).name for image in found["images"] if "error" in image}
    assert wrong == {"cut.png", "text.jpg", "bomb.pgm", "pipe.png", "gone.png", "empty", "absent.png", "null"}
    assert sum("class" in image for image in found["images"]) == 6
    assert all(name in told for name in wrong)
    assert "harmless" in told
    assert len(told.splitlines()) == len(wrong)


def test_images_of_every_kind_are_read_as_data_sets_read_them(pictures, capsys):
    plain = Image.open(pictures / "2.png").resize((48, 48))
    kinds = {
        "rgb.png": plain.convert("RGB"),
        "alpha.png": plain.convert("RGBA"),
        "palette.gif": plain.convert("P"),
        "deep.png": Image.fromarray(np.asarray(plain).astype(np.uint16) * 257),
    }
    folder = pictures / "kinds"
    folder.mkdir()
    plain.save(folder / "grey.png")
    for name, image in kinds.items():
        image.save(folder / name)
    turned = Image.Exif()
    turned[0x0112] = 6
    plain.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.png", exif=turned)
    status, found, _ = _answered(capsys, folder, "--from", _record("logistic").path, "--top", 2)
    assert status == 0
    assert len({image["class"] for image in found["images"]}) == 1
    chances = [image["probability"] for image in found["images"]]
    assert len(chances) == 6
    assert max(chances) - min(chances) < 1e-4


def test_top_k_begins_with_the_class_decided_for_and_says_by_what(pictures, capsys):
    for head in ("svm", "knn", "ridge", "convnet"):
        status, found, _ = _answered(capsys, pictures, "--from", _record(head).path, "--top", 99)
        assert status == 0
        model = load_model(_record(head), device="cpu")
        predicted = model.predict(sorted(pictures.iterdir()))
        for image, name in zip(found["images"], predicted, strict=True):
            assert image["class"] == name == image["top"][0]["class"]
            assert len({guess["class"] for guess in image["top"]}) == 10
            assert sum(guess["probability"] for guess in image["top"]) == pytest.approx(1)
            assert image["probability"] == max(guess["probability"] for guess in image["top"])


def test_a_head_of_an_earlier_version_has_decision_values_and_cannot_reject(pictures):
    images = sorted(pictures.iterdir())
    model = load_model(_record("svm"), device="cpu")
    earlier = dataclasses.replace(model, head=plain_head(model.head))
    assert earlier.predict(images).tolist() == model.predict(images).tolist()
    with pytest.raises(AttributeError, match="no probabilities"):
        earlier.predict_proba(images)
    with pytest.raises(AttributeError, match="what its training images look like"):
        earlier.unlike(images)
    with pytest.raises(UserError, match="the svm in .* has no probabilities, by which answers would be rejected"):
        earlier.predict(images, reject=0.5)
    (first, *_) = predictions(earlier, given_images([str(images[0])], io.BytesIO()))
    assert (first.guesses[0].probability, first.unlike) == (None, None)


@pytest.mark.parametrize("head", ["svm", "logistic", "knn", "finetune"])
def test_what_is_less_probable_than_asked_for_is_unsure(pictures, capsys, head):
    images = sorted(pictures.iterdir())
    model = load_model(_record(head), device="cpu")
    names, largest = model.predict(images), model.predict_proba(images).max(axis=1)
    limit = float(np.sort(largest)[len(largest) // 2])
    expected = np.where(largest < limit, "unsure", names).tolist()
    assert model.predict(images, reject=limit).tolist() == expected and "unsure" in expected
    arguments = ["predict", str(pictures), "--from", str(_record(head).path), "--device", "cpu", "--reject", str(limit)]
    assert run_command(main, arguments) == 0
    assert f"unsure ({names[expected.index('unsure')]}?)" in capsys.readouterr().out
    assert run_command(main, [*arguments, "--top", "2", "--csv", "told.csv", "--json", "told.json"]) == 0
    records = json.loads(Path("told.json").read_text())["images"]
    with Path("told.csv").open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["rank"] == "1"]
    for record, row, said, name in zip(records, rows, expected, names, strict=True):
        assert (record["class"], row["class"], record["top"][0]["class"]) == (said, said, name)
        assert (record["label"] is None, row["label"] == "", record.get("likeliest") == name) == (said == "unsure",) * 3


@pytest.mark.parametrize("text", ["1.5", "-0.1", "nan", "half"])
def test_a_probability_below_which_nothing_is_answered_is_one(capsys, trained, monkeypatch, text):
    monkeypatch.chdir(trained)
    assert run_command(main, ["predict", "x.png", f"--reject={text}"]) == 2
    assert "--reject" in capsys.readouterr().err


class _Stream:
    def __init__(self, content):
        self.buffer = io.BytesIO(content)


@pytest.mark.parametrize("suffix", ["png", "bmp", "jpg", "gif", "tif", "pgm", "webp"])
def test_an_image_on_the_standard_input(pictures, capsys, monkeypatch, suffix):
    content = io.BytesIO()
    with Image.open(pictures / "0.png") as image:
        image.save(content, {"jpg": "jpeg", "tif": "tiff", "pgm": "ppm"}.get(suffix, suffix))
    monkeypatch.setattr(sys, "stdin", _Stream(content.getvalue()))
    status, found, _ = _answered(capsys, "-", "--from", _record("logistic").path)
    assert status == 0
    (image,) = found["images"]
    assert image["image"] == "standard input"
    assert "class" in image


def test_paths_on_the_standard_input_give_what_they_give_as_arguments(pictures, capsys, monkeypatch):
    paths = [str(path) for path in sorted(pictures.iterdir())]
    _, named, _ = _answered(capsys, *paths)
    monkeypatch.setattr(sys, "stdin", _Stream("\r\n".join([*paths, "", "gone.png"]).encode()))
    status, listed, told = _answered(capsys, "-")
    assert status == 1
    assert listed["images"][:-1] == named["images"]
    assert "gone.png" in told
    monkeypatch.setattr(sys, "stdin", _Stream(b""))
    assert _answered(capsys, "-")[0] == 1


def test_json_and_csv_files_hold_the_same_beside_the_table(pictures, capsys, tmp_path):
    out = [tmp_path / "out.json", tmp_path / "out.csv"]
    written = ["--json", str(out[0]), "--csv", str(out[1])]
    assert run_command(main, ["predict", str(pictures), "absent.png", "--top", "2", *written]) == 1
    assert "absent.png" in capsys.readouterr().out
    images = json.loads(out[0].read_text())["images"]
    rows = list(csv.DictReader(out[1].read_text().splitlines()))
    assert [row["image"] for row in rows if row["rank"] in ("1", "")] == [image["image"] for image in images]
    for image in images[:-1]:
        told = [row["class"] for row in rows if row["image"] == image["image"]]
        assert told == [guess["class"] for guess in image["top"]]
    assert rows[-1]["error"] == images[-1]["error"] != ""


@pytest.mark.parametrize("way", ["link", "copy"])
def test_images_are_sorted_by_class_with_a_list_beside_them(pictures, capsys, tmp_path, way):
    (pictures / "more").mkdir()
    (pictures / "more" / "0.png").write_bytes((pictures / "0.png").read_bytes())
    (pictures / "broken.png").write_bytes(b"no image")
    place = tmp_path / "sorted"
    asked = ["predict", str(pictures), "--from", str(_record("ridge").path), "--sort-into", str(place)]
    assert run_command(main, [*asked, "--sort-as", way]) == 1  # one image cannot be read
    rows = list(csv.DictReader(io.StringIO((place / "predictions.csv").read_text())))
    assert len(rows) == 8 and sum(row["file"] == "" for row in rows) == 1
    for row in rows:
        if row["file"]:
            file = place / row["file"]
            assert file.parent.name == row["class"] and file.is_symlink() == (way == "link")
            assert file.read_bytes() == Path(row["image"]).read_bytes()
        else:
            assert "broken.png" in row["image"] and row["error"]
    assert len({row["file"] for row in rows}) == 8
    capsys.readouterr()
    assert run_command(main, asked) == 2
    assert "there is something already; name a new or an empty folder" in capsys.readouterr().err
    inside = ["predict", str(pictures), "--sort-into", str(pictures / "sorted")]
    assert run_command(main, inside) == 2
    assert "whose images are classified; name another place" in capsys.readouterr().err
    assert not (pictures / "sorted").exists()


def _fails(capsys, *arguments):
    assert run_command(main, ["predict", *map(str, arguments)]) == 2
    told = capsys.readouterr().err.strip()
    assert told.startswith("error: ")
    assert "\n" not in told
    return told


def test_mistakes_are_one_line(pictures, capsys, tmp_path):
    assert "train a model first" in _fails(capsys, pictures, "--from", tmp_path)
    assert "no record" in _fails(capsys, pictures, "--from", tmp_path / "gone.json")
    (tmp_path / "other.json").write_text("{}")
    assert "not the record" in _fails(capsys, pictures, "--from", tmp_path / "other.json")
    assert "both write" in _fails(capsys, pictures, "--json", "-", "--csv", "-")
    assert "no folder" in _fails(capsys, pictures, "--json", tmp_path / "no" / "where.json")
    assert "for mnist" in _fails(capsys, pictures, "--dataset", "mnist")
    assert "--top" in _fails(capsys, pictures, "--top", "0")
    assert "--device" in _fails(capsys, pictures, "--device", "tpu")


def test_a_folder_with_models_for_two_data_sets_has_no_best(pictures, capsys, tmp_path):
    for head, name in (("svm", "digits"), ("ridge", "letters")):
        saved = _record(head)
        config = {**saved.result.config, "dataset": name}
        from dataclasses import replace

        from classify.measure.saving import save_result

        save_result(tmp_path, replace(saved.result, config=config), saved.predictions(), saved.load_head())
    assert "--dataset digits" in _fails(capsys, pictures, "--from", tmp_path)
    status, found, _ = _answered(capsys, pictures, "--from", tmp_path, "--dataset", "letters")
    assert status == 0
    assert found["model"]["about"].startswith("ridge for letters")


def test_a_tampered_head_is_refused_unless_it_is_trusted(pictures, capsys, tmp_path):
    import shutil

    shutil.copytree("results", tmp_path / "results")
    (saved,) = (each for each in load_results(tmp_path / "results") if each.result.config["head"] == "knn")
    path = saved.skops_path or saved.head_path
    path.write_bytes(path.read_bytes() + b"\0")
    assert "--trust" in _fails(capsys, pictures, "--from", saved.path)
    assert run_command(main, ["predict", str(pictures), "--from", str(saved.path), "--trust"]) == 0


@pytest.mark.parametrize("name", ["network.safetensors", "network.json"])
def test_a_network_that_is_not_the_one_it_was_is_refused(pictures, capsys, tmp_path, name):
    import shutil

    shutil.copytree("results", tmp_path / "results")
    (saved,) = (each for each in load_results(tmp_path / "results") if each.result.config["head"] == "convnet")
    path = saved.path.with_suffix("") / name
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    assert "not the network" in _fails(capsys, pictures, "--from", saved.path)


def test_a_head_of_other_features_than_the_record_names_is_refused(pictures, capsys, tmp_path):
    import joblib
    from sklearn.dummy import DummyClassifier

    saved = _record("ridge")
    for name in (saved.path.name, f"{saved.path.stem}.npz"):
        (tmp_path / name).write_bytes((saved.path.parent / name).read_bytes())
    record = json.loads((tmp_path / saved.path.name).read_text())
    record["files"].pop("skops", None)
    (tmp_path / saved.path.name).write_text(json.dumps(sealed(record)))
    other = tmp_path / f"{saved.path.stem}.joblib"
    for head in (DummyClassifier().fit(np.zeros((2, 3)), [0, 1]), {"no": "head"}):
        joblib.dump(head, other)
        assert "do not belong together" in _fails(capsys, pictures, "--from", tmp_path, "--trust")


def test_an_image_of_another_size_is_resized_for_the_convnet(pictures, capsys):
    Image.new("L", (20, 20)).save(pictures / "larger.png")
    status, found, told = _answered(capsys, pictures, "--from", _record("convnet").path)
    assert (status, told) == (0, "")
    assert not [image for image in found["images"] if "error" in image]


def test_more_images_than_two_batches_come_in_their_order(trained, tmp_path, monkeypatch):
    from classify.use.images import given_images
    from classify.use.predicting import predictions

    monkeypatch.chdir(trained)
    data = open_dataset("digits").load("test")
    for place, image in enumerate(data.images[:150]):
        Image.fromarray(image).save(tmp_path / f"{place:03}.png")
    (tmp_path / "077.png").write_bytes(b"broken")
    model = load_model(_record("ridge"), device="cpu")
    found = list(predictions(model, given_images([str(tmp_path)], io.BytesIO()), threads=2))
    assert [Path(one.image).name for one in found] == [f"{place:03}.png" for place in range(150)]
    whole = model.predict(data.images[:150])
    for place, one in enumerate(found):
        assert (one.problem is not None) == (place == 77)
        if one.problem is None:
            assert one.guesses[0].name == whole[place]


def test_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom classify.__main__ import main\n"
        "try: main(['predict', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'numpy', 'torch', 'sklearn', 'rich', 'PIL'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "--reject" in done.stdout


def test_no_images_at_all_is_a_mistake(trained, monkeypatch):
    monkeypatch.chdir(trained)
    with pytest.raises(UserError, match="no images"):
        load_model(_record("ridge")).predict([])
