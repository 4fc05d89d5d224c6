"""The best of several results: one rule for whoever asks, under which few validation rows prove little."""

import dataclasses

import numpy as np
import pytest
from sklearn.datasets import load_digits

from classify import load_model
from classify.experiments.run import RunOutcome
from classify.heads.centroid import Centroid
from classify.measure.metrics import measure
from classify.measure.results import Predictions, Result
from classify.measure.saving import save_result
from classify.show.report.folder import read_folder
from classify.use import saved as saved_module
from classify.use.choosing import choose_result


@pytest.fixture(scope="module")
def made():
    """A function that saves a result with so many validation rows, and so many of them right."""
    images, labels = load_digits(return_X_y=True)
    head = Centroid().fit(images[:1000], labels[:1000])
    predicted = head.predict(images[1000:])
    predictions = Predictions(np.arange(1000, len(labels)), labels[1000:], predicted)
    config = {"dataset": "digits", "backbone": "resnet18", "layer": "layer2", "head": "centroid", "seed": 0}

    def save(folder, right: int, rows: int):
        result = Result(
            config={**config, "limit": rows},
            metrics=measure(labels[1000:], predicted),
            validation_accuracy=right / rows,
            rows={"train": 10 * rows, "validation": rows, "test": len(predicted)},
        )
        return save_result(folder, result, predictions, head)

    return save


@pytest.mark.parametrize(
    ("few", "many", "best"),
    [
        # All of three right proves less than 930 of 1,000.
        ((3, 3), (930, 1000), 1),
        ((3, 3), (400, 1000), 0),
        ((298, 300), (950, 1000), 0),
        ((95, 100), (94, 101), 0),
    ],
)
def test_few_validation_rows_are_taken_before_many_only_where_they_prove_more(
    made, tmp_path, monkeypatch, few, many, best
):
    both = [made(tmp_path, *few), made(tmp_path, *many)]
    chosen = both[best].path
    assert choose_result(tmp_path).path == chosen
    assert read_folder(tmp_path)[0].best.saved.path == chosen
    monkeypatch.setattr(saved_module.SavedModel, "open", lambda saved: saved)
    assert load_model(tmp_path).path == chosen
    assert RunOutcome(tuple(saved.result for saved in both)).best is both[best].result


def test_a_result_without_validation_comes_last(made, tmp_path):
    one = made(tmp_path, 0, 10)
    bare = dataclasses.replace(one.result, validation_accuracy=None, config={**one.result.config, "seed": 1})
    save_result(tmp_path, bare, one.predictions(), one.load_head())
    assert choose_result(tmp_path).path == one.path
