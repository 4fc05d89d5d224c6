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
    """When, what and where to transfer: one of seven studies.

    Parameters
    ----------
    name : {'data-size', 'convergence', 'robustness', 'out-of-domain', 'transferability', 'where', 'office31'}
        Which one. 'transferability' is that of Yosinski et al. (2014), 'where' has SpotTune (Guo et al. 2019), L2T-ww
        (Jang et al. 2019) and surgical fine-tuning (Lee et al. 2022).
    dataset : str, optional
        As `probe` takes it; by default 'mnist'. 'office31' takes `data`, a folder, instead.
    backbone : str
        As `probe` takes it.
    models : str or list of str, optional
        As `compare` takes them; by default the study's own.
    seeds : int or list of int, optional
        Of the studies that have several; by default the one `seed`.
    training : dict, optional
        Fields of `TrainingSettings` to set, as {'epochs': 3}; the study decides about the others.
    quick : bool
        A smaller study; its notes say what was cut.
    results : path
        Folder for records and for the study's own.
    weights, image_size, limit, limit_test, device : optional
        As in `probe`, of one network and at one size.
    **options
        What that study alone takes (`per_class`, `corruptions`, `others`, `foreign`, `stages`, `data`), `jobs`,
        `again`, `say`, `progress`, and the fields of `features.request.Request`.

    Returns
    -------
    StudyResult
        An answer in sentences, tables and panels; also saved in `results`.

    Raises
    ------
    UserError
        For what cannot be studied.

    Examples
    --------
    >>> import layerprobe as lp
    >>> result = lp.study("data-size", "digits", "efficientnet_lite0", models="ridge@avgpool", per_class=[2, 5],
    ...                   image_size=32, limit_test=50, jobs=1)
    >>> result.study, len(result.results)
    ('data-size', 2)
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
    request = Request.of(dataset="mnist" if dataset is None else dataset, backbone=backbone, **options).normalised()
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
