"""Saved models on new images: a stream of predictions, one for each image, in the order in which they were given."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from classify.use.explanation import Explanation
from classify.use.images import Given, batches
from classify.use.saved import UNSURE, Answers, SavedModel, require_probabilities
from features.datasets.white import White


@dataclass(frozen=True)
class Guess:
    """A class, by name and by the data set's number, with its probability (None where the head has none) and its
    decision value."""

    name: str
    label: int
    probability: float | None
    score: float

    @property
    def sureness(self) -> float:
        """The probability, or the decision value of a head without."""
        return self.score if self.probability is None else self.probability


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image: the class that it decides for, then the next likeliest; or what is wrong.

    unsure: the first is less probable than was asked for. unlike: the image is unlike the training images, None where
    the model does not know. explanation: why the first and not the second, where that was asked for.
    """

    image: str
    guesses: tuple[Guess, ...] = ()
    problem: str | None = None
    unsure: bool = False
    unlike: bool | None = None
    explanation: Explanation | None = None

    @property
    def named(self) -> str:
        """The class, or 'unsure'."""
        return UNSURE if self.unsure else self.guesses[0].name

    def to_json(self) -> dict[str, Any]:
        """image and error, or image, class, label, probability, score, unlike and top (as many as were asked for). Of
        an unsure one the class is 'unsure', without a label, and `likeliest` says which it might be."""
        if self.problem is not None:
            return {"image": self.image, "error": self.problem}
        top = [_plain(guess) for guess in self.guesses]
        return {"image": self.image, **self._first(), **({"top": top} if len(top) > 1 else {})}

    def records(self) -> Iterator[dict[str, Any]]:
        """A flat record for each guess, or one for what is wrong."""
        if self.problem is not None:
            yield {"image": self.image, "error": self.problem}
        for rank, guess in enumerate(self.guesses, start=1):
            yield {"image": self.image, "rank": rank, **(self._first() if rank == 1 else _plain(guess))}

    def _first(self) -> dict[str, Any]:
        first = {**_plain(self.guesses[0]), "unlike": self.unlike}
        return first | {"class": UNSURE, "label": None, "likeliest": first["class"]} if self.unsure else first


CSV_FIELDS = ("image", "rank", "class", "label", "probability", "score", "unlike", "likeliest", "error")


def predictions(
    model: SavedModel,
    given: Iterable[Given],
    top: int = 1,
    threads: int = 4,
    white: White | None = None,
    reject: float = 0.0,
    explain: Callable[..., list[Explanation]] | None = None,
) -> Iterator[Prediction]:
    """A prediction for each image; one that cannot be read has a `problem`, and the others are still done.

    white: what is white in them; None: what the model's record says. reject: unsure below this probability.
    explain: `Explainer.explain`, of each.
    """
    require_probabilities(model, reject)
    top = min(top, len(model.classes))
    for batch in batches(given, model.batch, model.prepare, threads, white or model.white, model.least):
        answered = {}
        if batch.places:
            outputs = model.answers(batch.ready)
            orders = [likeliest(outputs, row) for row in range(len(batch.places))]
            why = explain(batch.ready, [order[:2] for order in orders]) if explain else ()
            answered = {place: row for row, place in enumerate(batch.places)}
        for place, image in enumerate(batch.given):
            if place not in answered:
                yield Prediction(image.name, problem=batch.problems[place])
                continue
            row = answered[place]
            guesses = tuple(_guess(model, outputs, row, output) for output in orders[row][:top])
            unlike = None if outputs.distance is None else bool(outputs.distance[row] > 1)
            unsure = bool(reject) and guesses[0].sureness < reject
            yield Prediction(image.name, guesses, None, unsure, unlike, why[row] if why else None)


def _plain(guess: Guess) -> dict[str, Any]:
    return {"class": guess.name, "label": guess.label, "probability": guess.probability, "score": guess.score}


def likeliest(outputs: Answers, row: int) -> list[int]:
    """All outputs for one image: the one that is decided for, then the next likeliest."""
    values = outputs.scores[row] if outputs.probabilities is None else outputs.probabilities[row]
    first = int(outputs.predicted[row])
    # What the head decides for comes first: votes may be even, where these values are not.
    return [first, *(output for output in np.argsort(-values, kind="stable").tolist() if output != first)]


def _guess(model: SavedModel, outputs: Answers, row: int, output: int) -> Guess:
    return Guess(
        model.classes[output],
        int(model.labels[output]),
        None if outputs.probabilities is None else float(outputs.probabilities[row, output]),
        float(outputs.scores[row, output]),
    )
