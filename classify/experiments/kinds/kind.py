"""What every kind of head is asked for, and what goes back and forth."""

import abc
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np

from classify.experiments import waiting
from classify.experiments.settings import How, Settings
from classify.experiments.sources import Rows, Source
from classify.measure.record import RowConfig
from features.errors import UserError
from features.home import home
from features.request import Request


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """What a head learns from, and how.

    rows: None where the data set has no training split. train, validation: sorted numbers into `rows`; the second may
    be none. folds: of each repeat the fold of every row, (R, N), where rows are chosen on folds: all of them are both
    learnt from and chosen on; else None. place: where the row waits for its test, and where a killed run left what it
    had. called: in what is said of it. tell: told every `Epoch`.
    """

    source: Source
    settings: Settings
    how: How
    place: Path
    called: str
    tell: Callable[[Any], None]
    rows: Rows | None = None
    train: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    validation: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    folds: np.ndarray | None = None

    def at(self, name: str, called: str) -> Self:
        """The same for one of several trainings of a row, which leaves what it has in a folder of this name; called:
        which of them it is."""
        called = f"{self.called}, {called}"

        def tell(epoch: Any) -> None:
            self.how.say(f"{called}: {epoch}")

        return dataclasses.replace(self, place=self.place / name, called=called, tell=tell)

    def required(self) -> Rows:
        """The rows; UserError where there are none."""
        if self.rows is None:
            raise UserError(f"{self.source.request.dataset} has no training rows, and nothing can be learnt without")
        return self.rows


@dataclass(frozen=True, eq=False)
class Learned:
    """What came of learning.

    predicted: labels of the validation rows (V,), before any refit, or of each repeat of folds (R, V); None where there
    were none. scores: for those rows, (V, K) or (R, V, K), as `classify.heads.folds.class_scores` gives them, K the
    sorted classes of the training rows; None where they were not worked out. All others are fields of the `Result`.
    """

    classifier: Any
    predicted: np.ndarray | None
    scores: np.ndarray | None = None
    chosen: dict[str, Any] = field(default_factory=dict)
    refit: bool = False
    converged: bool | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Predicted:
    """What a fitted head says of N rows: labels (N,), probabilities (N, classes) or None, and the seconds it took."""

    predicted: np.ndarray
    probabilities: np.ndarray | None
    seconds: float


class Kind(abc.ABC):
    """A head with all its parameters; subclasses are frozen dataclasses, and compare as such.

    verb: what has been done to it when it waits for its test. one_at_a_time: a second process waits for the first one's
    result instead of learning the same, and what is learnt is put aside before it is tested. announced: a line is said
    of each when it is fitted.
    """

    verb: ClassVar[str] = "fitted"
    one_at_a_time: ClassVar[bool] = False
    announced: ClassVar[bool] = False

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """As typed after `--model`."""

    @abc.abstractmethod
    def label(self, source: Source) -> str:
        """A row of this head in a few words."""

    @property
    def holds_out(self) -> bool:
        """Whether it holds out some of the rows that it learns from by itself."""
        return False

    @property
    def unread(self) -> tuple[str, ...]:
        """The fields of the source's configuration that change nothing for this head."""
        return ()

    @abc.abstractmethod
    def config(self, source: Source, settings: Settings) -> dict[str, Any]:
        """What it always writes into a row's configuration, beside the source's fields."""

    def options(self, source: Source, settings: Settings) -> dict[str, Any]:
        """What it writes where that is not `RowConfig`'s default, which is what version 0.1.0 did."""
        return {}

    @classmethod
    @abc.abstractmethod
    def from_config(cls, config: RowConfig, request: Request) -> tuple[Source, Self]:
        """The source and the head that a configuration describes, on the data and the weights of a request."""

    @abc.abstractmethod
    def check(self, source: Source, settings: Settings) -> None:
        """Raise UserError for what cannot be learnt as asked, before anything is extracted."""

    def cost(self, source: Source) -> float:
        """What orders rows from the one that takes longest to the one that is done soonest; in no unit."""
        return 0.0

    def on_threads(self, settings: Settings, threads: int) -> Settings:
        """The settings for one of several processes, each of which has its share of the cores."""
        return settings

    def take(self, inputs: Any, rows: np.ndarray) -> Any:
        """These rows of the source's inputs."""
        return inputs.take(rows, axis=0)

    @abc.abstractmethod
    def learn(self, training: Training) -> Learned:
        """Learn; the test split is not opened."""

    def once(self, place: Path, work_out: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """What came of learning on some of the rows, worked out now; a head that learns for long finds at the place
        what an earlier run had of it, or got as far as."""
        return work_out()

    @abc.abstractmethod
    def predict(self, classifier: Any, rows: Rows, source: Source) -> Predicted:
        """What the fitted classifier says of rows."""

    def tested(self, classifier: Any, rows: Rows, source: Source, keep: bool) -> dict[str, Any]:
        """Fields of the result's `extra` that only the test has to say."""
        return {}

    def kept(self, classifier: Any, keep: bool) -> Any:
        """The head that is saved with the result, or the folder of a network, or None."""
        return classifier if keep else None

    def place(self, digest: str, folder: Path) -> Path:
        """Where a fitted row waits for its test; folder: that of the results."""
        return home() / "fitted" / f"{digest}.fitted"

    def put_aside(self, content: dict[str, Any], place: Path) -> bool:
        """Leave a fitted row where it waits; False where that is not possible."""
        return waiting.write(place, content)

    def take_up(self, place: Path) -> dict[str, Any] | None:
        """What was left there; None where there is nothing that this version wrote."""
        return waiting.read(place)

    def forget(self, place: Path) -> None:
        """Remove what waits there."""
        place.unlink(missing_ok=True)


def wide(probabilities: np.ndarray | None, labels: np.ndarray, classes: int) -> np.ndarray | None:
    """Probabilities (N, classes) of those for some labels alone, nought for one that no row was trained on."""
    if probabilities is None:
        return None
    spread = np.zeros((len(probabilities), classes), probabilities.dtype)
    spread[:, labels] = probabilities
    return spread
