"""Where the best model looked in what it got wrong, on the page of real results."""

import re

import numpy as np
import pytest

from classify.__main__ import main
from classify.show.report.folder import read_folder


def test_it_shows_where_the_best_looked_in_what_it_got_wrong(report_folder):
    page = report_folder.page.read_text()
    best = read_folder(report_folder.results)[0].best
    predictions = best.saved.predictions()
    wrong = np.flatnonzero(predictions.labels != predictions.predicted)
    surest = sorted(wrong, key=lambda place: -predictions.probabilities[place].max())[:6]
    figure = re.search(r'id="s0-looked".*?</figure>', page, re.S)[0]
    wide = re.search(r'<svg class="chart wide".*?</svg>', figure, re.S)[0]
    assert len(surest) > 2 and wide.count("<image ") == 2 * len(surest)
    said = re.findall(r"said to be (\d) \((\d+) % sure\).*?>is (\d)<", wide)
    assert said == [
        (
            str(predictions.predicted[place]),
            f"{100 * predictions.probabilities[place].max():.0f}",
            str(predictions.labels[place]),
        )
        for place in surest
    ]
    assert f"{best.name}: beside each image" in figure and "image/jpeg" in wide


def test_without_the_weights_it_is_left_out_which_is_said(report_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("LAYERPROBE_HOME", str(report_folder.home))
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("something is downloaded"))
    page = tmp_path / "page.html"
    arguments = ["report", "--results", str(report_folder.results), "--output", str(page), "--no-maps"]
    report_folder.weights.rename(tmp_path / "gone.pth")
    try:
        assert main(arguments) == 0
    finally:
        (tmp_path / "gone.pth").rename(report_folder.weights)
    text = page.read_text()
    assert "where the network looked is left out" in text and 'id="s0-looked"' not in text
    assert main([*arguments, "--overwrite", "--no-stages"]) == 0
    assert "where the network looked" not in page.read_text() and 'id="s0-looked"' not in page.read_text()
