"""A study by name: asked, made, and kept in the folder of results."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from classify.experiments.following import followed
from classify.experiments.models import Model, parse_model
from classify.experiments.settings import How
from classify.experiments.studies import find_study
from classify.experiments.studies.asking import Asked
from classify.experiments.studies.outcome import StudyResult
from classify.heads.own import heads_by_name
from features.errors import UserError
from features.request import Request, as_items


@followed
def study(
    name: str,
    dataset: Any = None,
    backbone: str = "resnet18",
    *,
    models: Any = None,
    seeds: int | Sequence[int] | None = None,
    training: Mapping[str, Any] | None = None,
    quick: bool = False,
    results: Path | str = "results",
    **options: Any,
) -> StudyResult:
    """Run one of the studies; its outcome, also kept in the folder `results`.

    name: 'data-size', 'convergence', 'robustness', 'out-of-domain', 'transferability', 'where' or 'office31'. dataset:
    by default 'mnist'. models: as `compare` takes them, None for the study's own. seeds: of the studies that have
    several, by default the one seed. training: fields of `TrainingSettings` that are given, as {'epochs': 3}; about the
    others the study decides. quick: a smaller study, which says what it cut. options: what that study alone takes
    (per_class, corruptions, others, foreign, stages, data); the other fields of `How` (jobs, again, say, ...) and of
    `features.request.Request` (weights, image_size, limit, seed, device, ...).

    A text or number where a list can be given is a list of one.

    Raises UserError for what cannot be studied.
    """
    wanted = find_study(name)
    own = {option: options.pop(option, None) for option in wanted.options if option not in ("models", "seeds")}
    if wanted.own_data:
        if dataset is not None:
            raise UserError(f"--dataset {dataset}: {name} takes its data from --data alone; leave it out")
        dataset = f"folder:{own['data']}"
    own = {
        option: [value] if isinstance(value, str | int) and option != "data" else value for option, value in own.items()
    }
    how = How.of(results, {**options, "with_models": True})
    options = {option: value for option, value in options.items() if option not in How.__dataclass_fields__}
    request = Request(dataset="mnist" if dataset is None else dataset, backbone=backbone, **options).normalised()
    asked = Asked(
        request=request,
        seeds=tuple(dict.fromkeys(as_items(request.seed if seeds is None else seeds))) or (request.seed,),
        models=None if models is None else tuple(dict.fromkeys(map(_model, heads_by_name(models)))),
        training=dict(training or {}),
        quick=quick,
        how=how,
    )
    result = wanted.load()(asked, **own)
    result.save()
    return result


def _model(model: str | Model) -> Model:
    return model if isinstance(model, Model) else parse_model(model)
