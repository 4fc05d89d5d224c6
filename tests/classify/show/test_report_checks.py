"""What `check` found on the page of the report: lines, thumbnails with their paths, and what is left out."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from classify.experiments.check import check
from classify.show.report import checks, write_report
from features.errors import UserError
from features.request import Request

pytest.importorskip("jinja2")


@pytest.fixture
def checked(tmp_path, home):
    """A folder in which one image stands in both splits, its folder of results, and where a page goes."""
    generator = np.random.default_rng(0)
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            folder = tmp_path / "<b>pets" / split / name
            folder.mkdir(parents=True)
            for number in range(4):
                pixels = generator.integers(0, 256, (40, 30, 3)).astype(np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.png")
    root = tmp_path / "<b>pets"
    shutil.copy(root / "train" / "cat" / "0.png", root / "test" / "cat" / "leak & more.png")
    check(Request(dataset=f"folder:{root}"), features=False, results=tmp_path / "results").save()
    return root, tmp_path / "results", tmp_path / "page.html"


def test_a_page_of_a_check_alone(checked):
    root, results, page = checked
    text = write_report(results, page).read_text()
    assert "1 of 9 test images is also in train" in text and "2 things to look at in 17 images" in text
    pictures = re.findall(r'<img src="data:image/png;base64,([^"]*)"', text)
    assert [Image.open(io.BytesIO(base64.b64decode(text, validate=True))).size for text in pictures] == [(30, 40)] * 2
    assert 'alt="test/cat/leak &amp; more.png"' in text and "<b>pets" not in text
    assert "data:image" not in write_report(results, page, images=False).read_text()


def test_images_that_changed_are_left_out_and_it_is_said(checked):
    root, results, page = checked
    (root / "train" / "cat" / "1.png").unlink()
    text = write_report(results, page).read_text()
    assert "is no longer the one that was looked at" in text and "data:image" not in text
    check(Request(dataset=f"folder:{root}"), features=False, results=results).save()
    text = write_report(results, page).read_text()
    assert "in 16 images" in text and "in 17 images" not in text


def test_a_damaged_check_is_named(checked):
    _, results, page = checked
    (path,) = results.glob("check-*.json")
    document = json.loads(path.read_text())
    document["findings"] = [{"kind": 3}]
    path.write_text(json.dumps(document))
    with pytest.raises(UserError, match=f"{path.name}: this answer is damaged .its findings cannot be"):
        write_report(results, page)


def test_a_check_of_somebody_elses_opens_nothing_that_it_names(checked, tmp_path, monkeypatch):
    _, results, page = checked
    (path,) = results.glob("check-*.json")
    document = json.loads(path.read_text())
    private = tmp_path / "private.csv"
    private.write_text("first cell of a private table,1\n")
    for spec in (f"csv:{private}", f"folder:{tmp_path}", f"folder:{tmp_path}?group_by=(a%2B)%2B%24"):
        document["question"]["request"]["dataset"] = spec
        path.write_text(json.dumps(document))
        with monkeypatch.context() as patch:
            patch.setattr(checks, "open_dataset", lambda spec: pytest.fail("it was opened"))
            text = write_report(results, page).read_text()
        assert "nothing was made from those here" in text and "first cell" not in text
