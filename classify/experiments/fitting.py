"""A row fitted, and a fitted row tested: the one place where a test split is opened.

What the kinds of heads do in other ways is asked of the head.
"""

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.experiments.cross_testing import cross_test
from classify.experiments.known import set_aside_superseded
from classify.experiments.learning_rows import learning_rows
from classify.experiments.row import Row
from classify.experiments.settings import PLAINLY, How
from classify.experiments.sources import Rows
from classify.experiments.validating import SPLIT
from classify.measure.memory import Peak, peak_memory
from classify.measure.metrics import measure
from classify.measure.outcome import Predictions, Result, plain_json
from classify.measure.results import SavedResult
from classify.measure.saving import save_result
from classify.measure.scores import validation_scores
from extract.cluster import where_this_runs


@dataclass(frozen=True, eq=False)
class Fitted:
    """A row whose head stands, with all that was found on training and validation rows; the test is still to come.

    classifier: what the row's head learnt. fields: of the `Result`, as plain JSON values. validation_rows,
    validation_predicted, validation_labels and validation_folds: as in `Predictions`.
    """

    row: Row
    classifier: Any
    fields: dict[str, Any]
    validation_rows: np.ndarray | None
    validation_predicted: np.ndarray | None
    validation_labels: np.ndarray | None = None
    validation_folds: np.ndarray | None = None
    tested: dict[str, Any] | None = None


def fit(row: Row, how: How = PLAINLY, *, weighed: bool = True) -> Fitted:
    """Fit a row's head on the training split, whose features are in the cache; the test split is not opened.

    A row that is tested by cross-validation is fitted on all images, and outside each fold for those inside. weighed:
    whether its memory is measured, which takes a fifth of a second.
    """
    with peak_memory() if weighed else contextlib.nullcontext(Peak()) as peak:
        training = row.training(how)
        learned = row.head.learn(training)
        outer = None if row.settings.test == SPLIT else cross_test(row.head, training)
    counted: dict[str, int] = {}
    rows, labels, accuracy, extracting = None, None, None, None
    scores: dict[str, float] = {}
    if training.rows is not None:
        counted = {"train": len(training.train), "validation": len(training.validation)}
        extracting = row.source.extract_seconds()
        if learned.predicted is not None:
            rows = training.rows.index[training.validation]
            labels = training.rows.labels[training.validation]
            accuracy = float(np.mean(learned.predicted == labels))
            scores = validation_scores(labels, learned.predicted, learned.scores, np.unique(training.rows.labels))
    cluster = where_this_runs()
    fields = {
        "chosen": learned.chosen,
        "validation_accuracy": accuracy,
        "refit": learned.refit,
        "converged": learned.converged,
        "seconds": learned.seconds | ({} if extracting is None else {"extract": extracting}),
        "rows": {**counted, **learned.rows},
        "keys": row.source.keys(),
        "extra": {
            "places": row.source.places(),
            "white": row.source.white(),
            "crop_mode": row.source.request.crop_mode,
            **({"validation_scores": scores} if scores else {}),
            **learned.extra,
            **({} if outer is None else {"outer": outer.outer}),
            **peak.to_json(),
            **({} if cluster is None else {"cluster": cluster}),
        },
    }
    tested = None
    if outer is not None:
        # What learns from shuffled labels is tested on the right ones.
        read, _, _ = learning_rows(row.source, row.settings)
        tested = {"rows": read.index, "labels": read.labels, **vars(outer)}
        del tested["outer"]
    plain = plain_json(fields, "fields")
    return Fitted(row, learned.classifier, plain, rows, learned.predicted, labels, training.folds, tested)


def test(fitted: Fitted, rows: Rows, how: How = PLAINLY) -> SavedResult:
    """Test a fitted row on the rows of its source's test split, and keep the result.

    What was tested by cross-validation has been tested, and is only asked how long it takes.
    """
    row, source, head = fitted.row, fitted.row.source, fitted.row.head
    outputs = head.predict(fitted.classifier, rows, source)
    tested: dict[str, Any] = {"rows": rows.index, "labels": rows.labels}
    tested |= {"predicted": outputs.predicted, "probabilities": outputs.probabilities}
    predictions = Predictions(
        **(tested if fitted.tested is None else fitted.tested),
        validation_rows=fitted.validation_rows,
        validation_predicted=fitted.validation_predicted,
        validation_labels=fitted.validation_labels,
        validation_folds=fitted.validation_folds,
    )
    fields = fitted.fields
    result = Result(
        config=row.config,
        metrics=measure(predictions.labels, predictions.predicted, predictions.probabilities, source.classes),
        command=how.command,
        **{
            **fields,
            "seconds": {**fields["seconds"], "predict": outputs.seconds},
            "rows": {**fields["rows"], "test": len(predictions.labels)},
            "extra": {**fields["extra"], **head.tested(fitted.classifier, rows, source, row.keep)},
        },
    )
    kept = head.kept(fitted.classifier, row.keep)
    saved = save_result(how.folder, result, predictions, kept)
    set_aside_superseded(row, how.folder)
    return saved


# pytest would take the name for that of a test.
test.__test__ = False  # type: ignore[attr-defined]  # a function has any attribute
