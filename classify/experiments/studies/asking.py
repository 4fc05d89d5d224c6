"""What a study is asked, and how its rows are made: rows like any other, taken from `results/` where they stand."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from classify.experiments.kinds.classical import Classical
from classify.experiments.learning_rows import limits_that_cut
from classify.experiments.making import Making
from classify.experiments.models import Model
from classify.experiments.row import Row, network_row
from classify.experiments.settings import PLAINLY, How, Settings
from classify.experiments.sources import CachedLayer
from classify.experiments.studies.outcome import StudyResult
from classify.heads import HEADS
from classify.heads.network.network import layer_below, unfreeze_points
from classify.heads.network.settings import TrainingSettings
from classify.measure.results import SavedResult
from classify.measure.wording import percent
from extract.planning import plan
from features.backbones import requested_backbone
from features.cut import Cut
from features.datasets import Dataset, ImageFiles
from features.errors import UserError
from features.request import Request

QUICK_TEST_ROWS = 2_000
QUICK_IMAGE_SIZE = 32


@dataclass(frozen=True)
class Asked:
    """What every study is asked.

    request: data and backbone; its seed is that of studies that have one. seeds: of those that have several. models:
    what is compared, None for the study's own. training: settings of networks that were given by name; a study decides
    about the others. quick: a smaller study, which says what it cut (`cuts`). how: how rows are made; a result that
    was kept without its model is of no use to a study that looks at more images.
    """

    request: Request
    seeds: tuple[int, ...] = (0,)
    models: tuple[Model, ...] | None = None
    training: dict[str, Any] = dataclasses.field(default_factory=dict)
    quick: bool = False
    how: How = How(with_models=True)
    cuts: tuple[str, ...] = ()

    @property
    def has_length(self) -> bool:
        """Whether it was given how long networks train."""
        return bool({"epochs", "steps"} & set(self.training))

    @property
    def weights(self) -> str | None:
        """The weights' file, where they come from one."""
        return self.request.weights if Path(self.request.weights).is_file() else None

    def quickly(
        self,
        rows: int | None = None,
        test_rows: int = QUICK_TEST_ROWS,
        epochs: tuple[int, int] | None = None,
        image_size: int = QUICK_IMAGE_SIZE,
    ) -> "Asked":
        """The same with smaller images and fewer rows where it is to be quick and none were named, and what that cuts.

        epochs: the quick and the usual number, where the study counts in them; it sets them itself.
        """
        if not self.quick:
            return self
        cuts: list[str] = []
        changes: dict[str, Any] = {}
        if self.request.image_size is None:
            changes["image_size"] = image_size
            cuts.append(f"images of {image_size} pixels")
        if rows is not None and self.request.limit is None:
            changes["limit"] = rows
        if self.request.limit_test is None:
            changes["limit_test"] = test_rows
        request = dataclasses.replace(self.request, **changes)
        limits = {"limit": "train", "limit_test": "test"}
        cuts += limits_that_cut(request, [split for limit, split in limits.items() if limit in changes])
        if epochs and not self.has_length:
            cuts.append(f"{epochs[0]} epochs instead of {epochs[1]}")
        return dataclasses.replace(self, request=request, cuts=tuple(cuts))

    def settings(self, **decided: Any) -> TrainingSettings:
        """The settings of a network: what was given by name, then what the study decides."""
        # Epochs and steps are two ways to say one thing: whoever gives one does not want the study's other.
        if self.has_length:
            decided = {name: value for name, value in decided.items() if name not in ("epochs", "steps")}
        return TrainingSettings(**{**decided, **self.training})

    def for_epochs(self, epochs: tuple[int, int], **decided: Any) -> TrainingSettings:
        """The settings of a network that trains for the quick or the usual number of epochs."""
        return self.settings(epochs=epochs[0] if self.quick else epochs[1], **decided)

    def outcome(self, study: str, question: dict[str, Any], *, notes: Sequence[str], **parts: Any) -> StudyResult:
        """The outcome of a study. question: what the study adds to what every study is asked, as plain values. parts:
        answer, tables, panels and results."""
        request = self.request.to_json()
        del request["device"], request["layers"], request["pools"]
        asked = {"seeds": list(self.seeds), "training": dict(self.training), "quick": self.quick}
        cut = [f"cut to be quick: {'; '.join(self.cuts)}"] if self.cuts else []
        return StudyResult(
            study=study,
            question={**request, **asked, **question},
            notes=(*notes, *cut),
            folder=self.how.folder,
            **parts,
        )

    def points(self) -> tuple[str, ...]:
        """Where the backbone can be unfrozen, from the top."""
        return unfreeze_points(self.cut())

    def cut(self) -> Cut:
        """The backbone's cut, at the size asked for."""
        backbone = requested_backbone(self.request)
        return backbone.cut(self.request.image_size)

    def below(self, point: str) -> str:
        """The layer that a network unfrozen from `point` on is cut at."""
        return layer_below(self.cut(), point)

    def stages(self, named: Sequence[str] | None, offered: str) -> tuple[str, ...]:
        """The stages named, each once, by default all whose output can be taken over, from the bottom; what follows the
        last one is the classifier. UserError for another, with those that are `offered`."""
        inner = self.cut().inner_stages
        chosen = tuple(dict.fromkeys(named or inner))
        for stage in chosen:
            if stage not in inner:
                raise UserError(f"--stages {stage}: {self.request.backbone} {offered} {', '.join(inner)}")
        return chosen

    def network_row(self, model: Model, request: Request, training: TrainingSettings, **more: Any) -> Row:
        """The row of a model that is a network; nothing is trained yet. more: as for `row.network_row`."""
        described = {"unfreeze": model.unfreeze, "regularizers": model.regularizers, "keep": False}
        return network_row(request, model.name, training=training, **{**described, **more})

    def make_models(
        self, models: Sequence[Model], request: Request, settings: Settings, training: TrainingSettings, **more: Any
    ) -> dict[Model, SavedResult]:
        """Fit and test models: heads first, each on its one layer, after one pass over the images for all of them.

        more: other fields of `Row`.
        """
        options = {"settings": settings, "keep": False, **more}
        heads, made = [model for model in models if model.is_head], {}
        if heads:
            layers = tuple(dict.fromkeys(model.layers[0] for model in heads))
            planned = plan(dataclasses.replace(request, layers=layers, pools=("avg",)))
        for model in heads:
            source, head = CachedLayer(planned, model.layers[0], "avg"), Classical(head=HEADS[model.name])
            made[model] = self.make(Row(source=source, head=head, **options), str(model))
        for model in models:
            if not model.is_head:
                made[model] = self.make_network(self.network_row(model, request, training, **options))
        return {model: made[model] for model in models}

    def features_of(self, model: Model, split: str) -> tuple[np.ndarray, np.ndarray]:
        """The features (N, D) and labels (N,) that a head has read; they are in the cache since it was made."""
        wanted = dataclasses.replace(self.request, layers=model.layers, pools=("avg",))
        rows = CachedLayer(plan(wanted), model.layers[0], "avg").read(split)
        return np.asarray(rows.features), rows.labels

    def make_network(self, row: Row) -> SavedResult:
        """Train and test it, or take what stands in the folder."""
        row.check()
        return self.make(row, row.label)

    def make(self, row: Row, name: str) -> SavedResult:
        """The result of a row, and a line on it. A study trains many networks: it tells of each when it is done, not of
        its epochs."""
        how = dataclasses.replace(self.how, say=PLAINLY.say)
        making = Making(how)
        remark = ", known" if making.knows(row) else ""
        saved = making.make(row)
        result = saved.result
        self.how.say(f"{name}, {result.rows['train']:,} images: {percent(result.metrics.accuracy)} % on test{remark}")
        return saved


def images_at(dataset: Dataset, split: str, rows: np.ndarray) -> Any:
    """These images of a data set's split: one uint8 array, or files to be read one by one."""
    images = dataset.load(split).images
    return images.take(rows) if isinstance(images, ImageFiles) else images[rows]


def features_and_networks(asked: Asked) -> tuple[Model, ...]:
    """The models asked for, heads and networks that train; by default logistic regression on the pooled output and on
    the layer below it, fine-tuning, and from scratch. Raises UserError for others, and for heads without a layer."""
    for model in asked.models or ():
        if model.name == "untouched" or (model.is_head and len(model.layers) > 1):
            raise UserError(f"--model {model}: give heads with a layer, as in svm@layer3, and networks that train")
    if asked.models:
        return asked.models
    layers = dict.fromkeys(("avgpool", asked.below(asked.points()[1])))
    heads = [Model("logistic", (layer,)) for layer in layers]
    return (*heads, Model("finetune", unfreeze="all"), Model("scratch"))
