"""A folder of results from a stranger: what its records name on this machine is not opened, and not shown."""

import numpy as np
import pytest
from PIL import Image

from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result
from classify.measure.saving import save_result
from classify.show.report import images, write_report
from classify.show.report.folder import read_folder
from classify.show.report.images import TestImages, open_images
from features.commands.options import run_command
from features.datasets import open_dataset
from features.request import Request, plan


@pytest.fixture
def photos(tmp_path):
    """A folder of private photos, and a private table beside it."""
    random = np.random.default_rng(0)
    for part in ("train", "test"):
        for name in ("me", "you"):
            folder = tmp_path / "photos" / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.fromarray(random.integers(0, 256, (16, 16, 3), np.uint8)).save(folder / f"{number}.png")
    (tmp_path / "salaries.csv").write_text("classified-first-cell,1\nsecond,2\n")
    return tmp_path


def _record(folder, spec, digest="0" * 64, places=True):
    labels = np.arange(8) % 2
    config = {"dataset": "photos", "dataset_sha256": digest, "layer": "layer2", "head": "ridge"}
    result = Result(
        config=config,
        metrics=measure(labels, 1 - labels, None, ("me", "you")),
        command="" if places else f"python -m classify --dataset '{spec}'",
        extra={"places": {"dataset": spec}} if places else {},
    )
    return save_result(folder, result, Predictions(np.arange(8), labels, 1 - labels))


@pytest.mark.parametrize("places", [True, False])
@pytest.mark.parametrize("spec", ["csv:{}/salaries.csv", "folder:{}/photos", "readable:folder:{}/photos", "mnist:{}"])
def test_files_that_a_record_alone_names_are_not_opened(home, photos, monkeypatch, spec, places):
    _record(photos / "results", spec.format(photos), places=places)
    opened = []
    monkeypatch.setattr(images, "open_dataset", lambda name: opened.append(name) or open_dataset(name))
    page = write_report(photos / "results", photos / "page.html").read_text()
    assert "classified-first-cell" not in page and "data:image/png" not in page
    assert not any(":" in name for name in opened)
    assert "are not opened" in page and "--dataset" in page


def test_files_that_were_used_here_or_that_the_user_names_are_shown(home, photos, capsys):
    spec = f"folder:{photos / 'photos'}"
    _record(photos / "results", spec, open_dataset(spec).fingerprint())
    (section,) = read_folder(photos / "results")
    assert isinstance(open_images(section), str)
    assert isinstance(open_images(section, spec), TestImages)
    assert isinstance(open_images(section, f"csv:{photos / 'salaries.csv'}"), str)
    plan(Request(dataset=spec, weights="random", image_size=32))
    assert isinstance(open_images(section), TestImages)
    # The content counts, too.
    Image.new("L", (16, 16)).save(photos / "photos" / "test" / "me" / "0.png")
    assert "no longer the one" in open_images(section)


def test_a_row_of_files_that_a_record_alone_names_is_not_repeated(home, photos, capsys):
    from classify.__main__ import main

    saved = _record(photos / "results", f"csv:{photos / 'salaries.csv'}")
    assert run_command(main, ["repeat", str(saved.path)]) == 2
    told = capsys.readouterr().err
    assert "are not opened" in told and "classified-first-cell" not in told
