"""How rows are fitted, which is part of what they are, and how they are made, which is not."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.rows import VALIDATION_SHARE

Say = Callable[[str], None]
# What is told of every epoch of a row: the row and an `Epoch`.
OnEpoch = Callable[[Any, Any], None]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How heads are fitted, the same for every row of a table.

    class_weight: None or 'balanced'. search: look for hyper-parameters on validation (else the untuned default).
    refit: fit the chosen head again on training and validation rows together. jobs: processor cores (None: all).
    search_rows: for heads that search on a part of the rows, a smaller part than their own. validation: False trains
    on every row; as there is nothing to choose on, a head takes its untuned default, and a network the weights after
    its last step. validation_share: of the training rows, held out. validate: 'holdout', which is the data set's own
    part for validation where it brings one, or folds of the training rows ('cv:5', 'cv:5x3'; see `validating`), after
    which the head is fitted on all of them. score: by which hyper-parameters and rows are chosen, of
    `classify.measure.scores.SCORES`. test: 'split', the data set's test images, or 'cv:5', all images, each out of a
    fold (`cross_testing`). calibrate: the probabilities of heads on features, on rows that they have not seen. blocks:
    'auto' leaves features in the store that would not fit into memory, 'on' all, 'off' none; the same numbers to
    rounding. jobs and blocks are no part of what a row is.
    """

    seed: int = 0
    class_weight: str | None = None
    search: bool = True
    refit: bool = True
    jobs: int | None = None
    search_rows: int | None = None
    validation: bool = True
    validation_share: float = VALIDATION_SHARE
    validate: str = "holdout"
    score: str = "accuracy"
    test: str = "split"
    calibrate: bool = True
    blocks: str = "auto"


@dataclass(frozen=True, kw_only=True)
class How:
    """How rows are made: where results are kept, whether known ones are made again, on how many cores (None: all).

    with_models: a known result whose model was not kept is made again where the row wants its model kept. on_epoch:
    told a row and an `Epoch` after each epoch of a network. progress: of the whole, shown on a terminal and in a
    notebook ('auto'), everywhere ('on') or nowhere ('off').
    """

    folder: Path = Path("results")
    command: str = ""
    again: bool = False
    compiled: str = "auto"
    jobs: int | None = None
    with_models: bool = False
    say: Say = lambda line: None
    on_epoch: OnEpoch | None = None
    progress: str = "auto"

    @classmethod
    def of(cls, results: Path | str, options: dict[str, Any]) -> "How":
        """Results in that folder, and the other fields from a call's options, which are taken out of them; one that is
        None was not given."""
        taken = {name: options.pop(name) for name in cls.__dataclass_fields__ if name in options}
        return cls(folder=Path(results), **{name: value for name, value in taken.items() if value is not None})


# As users get it where they say nothing.
PLAINLY = How()
