"""The book's practice on a made-up folder of Office-31's layout: its protocol, its six transfers, their average."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classify.__main__ import main
from classify.experiments.row import Row
from classify.experiments.studies.office31 import DOMAINS, TRANSFERS, average
from classify.measure.results import load_results
from features.commands.options import run_command
from features.datasets import open_dataset
from features.errors import UserError

COUNTS = {"amazon": 10, "webcam": 5, "dslr": 6}


@pytest.fixture
def domains(home, tmp_path, monkeypatch) -> Path:
    """Three domains of two classes: bright above or bright below; amazon's in `images`, as it is given out."""
    monkeypatch.chdir(tmp_path)
    draw = np.random.default_rng(0)
    for domain, size in COUNTS.items():
        for number, name in enumerate(("back_pack", "bike")):
            folder = tmp_path / "office" / domain / ("images" if domain == "amazon" else "") / name
            folder.mkdir(parents=True)
            for image in range(size):
                pixels = draw.integers(0, 60, (40, 40, 3), dtype=np.uint8)
                pixels[20 * number : 20 * number + 20] += 150
                Image.fromarray(pixels).save(folder / f"frame_{image}.png")
    return tmp_path / "office"


def test_one_folder_trains_and_the_other_tests(domains):
    dataset = open_dataset(f"transfer:{domains}/dslr->{domains}/webcam")
    assert dataset.classes == ("back_pack", "bike")
    assert dataset.name == "transfer-dslr-to-webcam"
    assert [len(dataset.load(split).labels) for split in ("train", "test")] == [12, 10]
    assert all("dslr" in str(path) for path in dataset.load("train").images.paths)
    assert dataset.fingerprint() != open_dataset(f"transfer:{domains}/webcam->{domains}/dslr").fingerprint()
    assert open_dataset(dataset.spec).fingerprint() == dataset.fingerprint()


def test_what_is_no_pair_of_folders_is_told(domains):
    (domains / "webcam" / "mug").mkdir()
    wrong = {
        "transfer:office": "two folders",
        "transfer:office/dslr->": "two folders",
        "transfer:office/dslr->office/nowhere": "no folder",
        "transfer:office/webcam->office/dslr": "'mug'",
        "transfer:office/dslr->office/webcam": "'mug'",
    }
    for spec, told in wrong.items():
        with pytest.raises(UserError, match=told) as caught:
            open_dataset(spec)
        assert "\n" not in str(caught.value)


def test_the_six_transfers_are_all_ordered_pairs_and_count_the_same():
    assert sorted(TRANSFERS) == sorted((a, b) for a in DOMAINS for b in DOMAINS if a != b)
    found = dict(zip(TRANSFERS, (0.684, 0.967, 0.993, 0.689, 0.625, 0.607), strict=True))
    assert average(found) == pytest.approx(0.761, abs=5e-4)


def test_the_study_keeps_the_books_protocol(domains, capsys):
    pytest.importorskip("matplotlib")
    arguments = ["study", "office31", "--data", str(domains), "--weights", "random", "--image-size", "32"]
    arguments += ["--models", "finetune:fc", "--device", "cpu", "--precision", "float32"]
    assert run_command(main, [*arguments, "--epochs", "2", "--patience", "1", "--csv", "table.csv"]) == 0
    said = capsys.readouterr().out
    assert "on average over 6 transfers" in said
    saved = load_results("results")
    assert len(saved) == 6
    networks = [each.result for each in saved]
    for result in networks:
        training = result.config["training"]
        assert (training["optimizer"], training["learning_rate"], training["head_multiple"]) == ("sgd", 1e-4, 10)
        assert (training["batch_size"], training["epochs"], training["patience"]) == (64, 2, 1)
        assert result.config["validation_share"] == 0.2
        source, target = result.config["dataset"].removeprefix("transfer-").split("-to-")
        held = 2 * max(1, round(0.2 * COUNTS[source]))
        assert result.rows == {"train": 2 * COUNTS[source] - held, "validation": held, "test": 2 * COUNTS[target]}
        assert 1 <= result.chosen["epoch"] <= 2
    assert {len(each.predictions().validation_rows) for each in saved} == {4, 2}
    kept = json.loads(next(Path("results").glob("study-office31-*.json")).read_text())
    # A to W, in two forms: the table, and its record.
    record = next(each for each in networks if each.config["dataset"] == "transfer-amazon-to-webcam")
    row = next(row for row in kept["tables"][0]["rows"] if row["method"] == "finetune fc")
    assert row["amazon_webcam"] == pytest.approx(record.metrics.accuracy)
    assert row["average"] == pytest.approx(np.mean([row[f"{a}_{b}"] for a, b in TRANSFERS]))
    assert len(Path("table.csv").read_text().splitlines()) == 2
    spec = f"transfer:{domains}/amazon/images->{domains}/webcam"
    assert Row.from_config(record.config, dataset=spec).config == record.config


@pytest.mark.parametrize(
    ("arguments", "told"),
    [([], "--data"), (["--data", "office", "--dataset", "mnist"], "--dataset"), (["--data", "."], "amazon")],
)
def test_mistakes_are_one_line(domains, capsys, arguments, told):
    assert run_command(main, ["study", "office31", *arguments]) == 2
    error = capsys.readouterr().err
    assert told in error
    assert error.count("\n") == 1
