"""Predictions of new images as a table."""

from collections.abc import Iterable

from classify.show.table import Column, Table
from classify.use.predicting import Guess, Prediction


def predictions_table(predictions: Iterable[Prediction], title: str = "") -> Table:
    """The images with their classes; what was wrong with an image is left to be said elsewhere."""
    rows: list[tuple[str | None, ...]] = []
    probable = True
    for prediction in predictions:
        if prediction.problem is not None:
            rows.append((prediction.image, "not read", None, ""))
            continue
        first, *others = prediction.guesses
        probable = probable and first.probability is not None
        following = ", ".join(f"{guess.name} {_spelled(guess)}" for guess in others)
        rows.append((prediction.image, first.name, _spelled(first), following))
    columns = (
        Column("image", align="left"),
        Column("class", align="left"),
        Column("sureness", "probability" if probable else "decision value", format=lambda text: text or ""),
        Column("next", align="left", prose=True),
    )
    shown = 4 if any(row[3] for row in rows) else 3
    return Table(title, columns[:shown], tuple(row[:shown] for row in rows))


def _spelled(guess: Guess) -> str:
    return f"{guess.score:.3f}" if guess.probability is None else f"{100 * guess.probability:.2f} %"
