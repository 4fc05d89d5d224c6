"""What a study is asked, and how its rows are made: rows like any other, taken from `results/` where they stand."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from classify.experiments.comparing.models import Model
from classify.experiments.evaluate import Row, Settings, evaluate_row
from classify.experiments.networks import NetworkRow, check_row, evaluate_network
from classify.experiments.sources import CachedLayer
from classify.heads import HEADS
from classify.heads.network.network import layer_below, unfreeze_points
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import SavedResult, find_result
from classify.measure.wording import percent
from extract.commands.ensure import ensure_features
from features.backbones import load_backbone
from features.cut import Cut
from features.request import Request

Say = Callable[[str], None]

QUICK_TEST_ROWS = 2_000
QUICK_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Asked:
    """What every study is asked.

    request: data and backbone; its seed is that of studies that have one. seeds: of those that have several. models:
    what is compared, None for the study's own. training: settings of networks that were given by name; a study decides
    about the others. quick: a smaller study, which says what it cut. The rest is how rows are made.
    """

    request: Request
    seeds: tuple[int, ...] = (0,)
    models: tuple[Model, ...] | None = None
    training: dict[str, object] = dataclasses.field(default_factory=dict)
    quick: bool = False
    folder: Path = Path("results")
    command: str = ""
    again: bool = False
    compiled: str = "auto"
    jobs: int | None = None
    say: Say = lambda line: None

    def quickly(self) -> tuple["Asked", tuple[str, ...]]:
        """The same with smaller images and fewer test rows where it is to be quick, and what that cut."""
        if not self.quick:
            return self, ()
        cuts, changes = [], {}
        if self.request.image_size is None:
            changes["image_size"] = QUICK_IMAGE_SIZE
            cuts.append(f"images of {QUICK_IMAGE_SIZE} pixels")
        if self.request.limit_test is None:
            changes["limit_test"] = QUICK_TEST_ROWS
            cuts.append(f"at most {QUICK_TEST_ROWS:,} test images")
        return dataclasses.replace(self, request=dataclasses.replace(self.request, **changes)), tuple(cuts)

    def settings(self, **decided: object) -> TrainingSettings:
        """The settings of a network: what was given by name, then what the study decides."""
        # Epochs and steps are two ways to say one thing: whoever gives one does not want the study's other.
        if {"epochs", "steps"} & set(self.training):
            decided = {name: value for name, value in decided.items() if name not in ("epochs", "steps")}
        return TrainingSettings(**{**decided, **self.training})

    def question(self, **more: object) -> dict[str, object]:
        """What was asked, as plain values, with what the study adds."""
        request = dataclasses.asdict(self.request)
        del request["device"], request["layers"], request["pools"]
        return {**request, "seeds": list(self.seeds), "training": dict(self.training), "quick": self.quick, **more}

    def points(self) -> tuple[str, ...]:
        """Where the backbone can be unfrozen, from the top."""
        return unfreeze_points(self.cut())

    def cut(self) -> Cut:
        """The backbone's cut, at the size asked for."""
        backbone = load_backbone(self.request.backbone, self.request.weights, self.request.seed)
        size = backbone.preprocessing.at(self.request.image_size).crop
        return Cut(backbone.model, size, backbone.headless)

    def below(self, point: str) -> str:
        """The layer that a network unfrozen from `point` on is cut at."""
        return layer_below(self.cut(), point)

    def network_row(
        self, model: Model, request: Request, settings: TrainingSettings, validation: bool = True
    ) -> NetworkRow:
        """The row of a model that is a network; nothing is trained yet."""
        return NetworkRow(
            request,
            model.name,
            settings=settings,
            unfreeze=model.unfreeze,
            regularizers=model.regularizers,
            keep=False,
            validation=validation,
        )

    def make_network(self, row: NetworkRow) -> SavedResult:
        """Train and test it, or take what stands in the folder."""
        check_row(row)
        making = {"folder": self.folder, "command": self.command, "again": self.again}
        known = None if self.again else find_result(self.folder, row.config)
        saved = known or evaluate_network(row, **making, compiled=self.compiled, jobs=self.jobs, say=_silent)
        self._tell(row.label, saved, known is not None)
        return saved

    def make_heads(self, models: Sequence[Model], request: Request, settings: Settings) -> dict[Model, SavedResult]:
        """Fit and test heads, each on its one layer, after one pass over the images for all of them."""
        if not models:
            return {}
        layers = tuple(dict.fromkeys(model.layers[0] for model in models))
        wanted = dataclasses.replace(request, layers=layers, pools=("avg",))
        answer = ensure_features(wanted, compiled=self.compiled, jobs=self.jobs, quiet=True)
        made = {}
        for model in models:
            row = Row(CachedLayer(answer, model.layers[0], "avg"), HEADS[model.name], settings, keep_head=False)
            known = not self.again and find_result(self.folder, row.config) is not None
            made[model] = evaluate_row(row, folder=self.folder, command=self.command, again=self.again)
            self._tell(str(model), made[model], known)
        return made

    def _tell(self, name: str, saved: SavedResult, known: bool) -> None:
        result = saved.result
        there = ", known" if known else ""
        self.say(f"{name}, {result.rows['train']:,} images: {percent(result.metrics.accuracy)} % on test{there}")


def _silent(line: str) -> None:
    """A study trains many networks: it tells of each when it is done, not of its epochs."""
