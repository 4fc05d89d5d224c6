"""Predictions of new images as a table."""

from collections.abc import Iterable

from classify.show.table import Column, Table
from classify.use.predicting import Guess, Prediction

UNLIKE = "unlike the training images"


def predictions_table(predictions: Iterable[Prediction], title: str = "") -> Table:
    """The images with their classes; what was wrong with an image is left to be said elsewhere."""
    rows: list[tuple[str | None, ...]] = []
    probable = True
    for prediction in predictions:
        if prediction.problem is not None:
            rows.append((prediction.image, "not read", None, "", ""))
            continue
        first, *others = prediction.guesses
        probable = probable and first.probability is not None
        following = ", ".join(f"{guess.name} {_spelled(guess)}" for guess in others)
        named = f"{prediction.named} ({first.name}?)" if prediction.unsure else prediction.named
        rows.append((prediction.image, named, _spelled(first), following, UNLIKE if prediction.unlike else ""))
    columns = (
        Column("image", align="left", path=True),
        Column("class", align="left"),
        Column("sureness", "probability" if probable else "decision value", format=lambda text: text or ""),
        Column("next", align="left", prose=True),
        Column("remark", align="left", prose=True),
    )
    # The last two are there where they have something to say.
    shown = [place for place in range(len(columns)) if place < 3 or any(row[place] for row in rows)]
    lines = tuple(tuple(row[place] for place in shown) for row in rows)
    return Table(title, tuple(columns[place] for place in shown), lines)


def _spelled(guess: Guess) -> str:
    return f"{guess.score:.3f}" if guess.probability is None else f"{100 * guess.probability:.2f} %"
