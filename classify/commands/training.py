"""The options about networks, which `run` and `compare` share, and the rows that they spell.

An option that nothing would read is refused: whoever gives `--epochs` with an SVM has something else in mind.
"""

import argparse
import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classify.heads import ANY_HEAD, HEADS
from classify.heads.legal import OneOf
from classify.heads.network import NETWORKS
from classify.heads.network.recipes import RECIPES, Recipe
from classify.heads.network.settings import AUGMENTATIONS, LEGAL, TrainingSettings
from classify.heads.regularizers import REGULARIZERS, RegularizerSpec, parse_regularizers
from features.commands.options import Parser, offered
from features.commands.speaking import tell
from features.errors import UserError, unknown

if TYPE_CHECKING:
    from classify.experiments.settings import How

# A field of TrainingSettings, its option, a metavar and what `--help` says; the settings know what is legal and usual.
_TRAINING = (
    ("epochs", "--epochs", "N", "passes over the training images ({default:g})"),
    ("steps", "--steps", "N", "a fixed number of batches instead; the last weights are the result"),
    ("batch_size", "--batch-size", "N", "images in a batch ({default:g})"),
    ("optimizer", "--optimizer", "O", "{values}"),
    ("learning_rate", "--lr", "R", "learning rate ({default:g})"),
    ("head_multiple", "--head-multiple", "X", "learning rate of the new layer, in units of the others' ({default:g})"),
    ("schedule", "--schedule", "S", "{values}"),
    ("weight_decay", "--weight-decay", "W", "weight decay ({default:g})"),
    ("patience", "--patience", "N", "stop after N epochs without a better one on validation (never)"),
    ("batch_norm", "--batch-norm", "B", "{values}"),
    ("precision", "--train-precision", "P", "of training: {values}"),
    ("label_smoothing", "--label-smoothing", "E", "share of the label given to all classes ({default:g})"),
    ("init_head", "--init-head", "I", "{values}: start from a fitted linear probe (LP-FT)"),
    ("layer_decay", "--layer-decay", "X", "learning rate of a stage, in units of that above it ({default:g})"),
)

_OFTEN = ("epochs", "learning_rate")
REGULARIZERS_TITLE = "regularisers, with their default strengths"


@dataclass(frozen=True)
class Rule:
    """Options that some models read, and the complaint where none of these is asked for.

    options: as they are typed. readers: names of heads and networks. complaint: what is said of the first of the
    options that was given; {models} stands for all that was asked for.
    """

    options: tuple[str, ...]
    readers: Collection[str]
    complaint: str


_TRAINED = tuple(name for name, network in NETWORKS.items() if network.trains)
_PRETRAINED = tuple(name for name in _TRAINED if not NETWORKS[name].drawn)
_UNFROZEN = tuple(name for name, network in NETWORKS.items() if network.unfreezes)
_REGULARISED = tuple(name for name, network in NETWORKS.items() if network.regularised)
_ABOUT_TRAINING = (
    *(option for _, option, *_ in _TRAINING),
    *("--recipe", "--augment", "--regularizer", "--map-dtype", "--frozen", "--tensorboard"),
)

_DECIDING = Rule(("--test-views",), (*HEADS, *_TRAINED), "is about what learns, and {models} does not; leave it out")
# Which option goes with which model: first come, first said.
RULES = (
    Rule(
        _ABOUT_TRAINING,
        _TRAINED,
        "is about networks that are trained, and {models} is none; leave it out, or add --model finetune",
    ),
    Rule(
        ("--unfreeze", "--map-dtype", "--frozen"),
        _UNFROZEN,
        "is about --model finetune, which was not asked for; leave it out or add that model",
    ),
    Rule(
        ("--head-multiple",),
        _PRETRAINED,
        "is about a new layer on pre-trained ones, and {models} has none; leave it out",
    ),
    Rule(
        ("--layer-decay",), _UNFROZEN, "is about the stages of --model finetune, which was not asked for; leave it out"
    ),
    Rule(("--regularizer",), _REGULARISED, "acts on a backbone that trains; take --model finetune, or leave it out"),
    Rule(
        (
            "--class-weight",
            "--no-search",
            "--no-refit",
            "--no-calibrate",
            "--in-blocks",
            "--score",
        ),
        HEADS,
        "is about heads on cached features, and none was asked for; leave it out",
    ),
    Rule(
        ("--views", "--view-augment"),
        HEADS,
        "is about heads on cached features, and {models} is none; --augment changes the images that networks train on",
    ),
    _DECIDING,
    Rule(("--layer", "--pool"), HEADS, "is about heads on cached features; --unfreeze says where a network is cut"),
)
RULES_OF_COMPARE = (
    _DECIDING,
    Rule(_ABOUT_TRAINING, _TRAINED, "is about networks that are trained, and none is compared; leave it out"),
    Rule(
        ("--views", "--view-augment"),
        HEADS,
        "is about heads on cached features, and none is compared; --augment changes the images that networks train on",
    ),
)


def add_training_options(parser: Parser, cuts: bool = True) -> None:
    """The options about networks; without any of them `TrainingSettings` as it is. cuts: with those about regularisers
    and about what lies below the cut."""
    add = parser.section("how networks are trained")
    for field, option, metavar, text in _TRAINING:
        rule, default = LEGAL[field][-1], getattr(TrainingSettings, field)
        values = offered(rule.values, default) if isinstance(rule, OneOf) else ""
        kind = str if values else int if rule.integer else float
        text = text.format(default=default, values=values)
        rare = field not in _OFTEN
        add(option, dest=f"training_{field}", type=kind, metavar=metavar, help=text, rare=rare)
    *others, last = AUGMENTATIONS
    augment = f"any of {', '.join(others)} and {last}; alone: none"
    add("--augment", dest="training_augment", nargs="*", metavar="A", help=augment)
    if not cuts:
        return
    recipe = f"{' or '.join(RECIPES)}: a set of these; what is typed wins"
    add("--recipe", choices=tuple(RECIPES), metavar="R", help=recipe)
    names = ", ".join(REGULARIZERS)
    add("--regularizer", nargs="+", metavar="R", help=f"{names}; as in bss=0.001")
    maps = "of cached maps below the cut; default float32"
    add("--map-dtype", choices=("float32", "float16"), help=maps, rare=True)
    frozen = "read the frozen part's output from the cache (default) or run it"
    add("--frozen", choices=("cached", "loop"), help=frozen, rare=True)


def models_explained(*, networks: bool = True) -> list[tuple[str, str]]:
    """What `--help` says below the options: each head, and each network, by name."""
    heads = [*HEADS.summaries().items(), ANY_HEAD]
    return heads + [(network.name, network.summary) for network in NETWORKS.values() if networks]


def regularizers_explained() -> list[tuple[str, str]]:
    """What `--help` says below the options: each regulariser with the strengths that it takes by itself."""
    return [
        (str(RegularizerSpec(kind.name, kind.strengths)), kind.summary + (" [@LAYER+LAYER]" if kind.layers else ""))
        for kind in REGULARIZERS.values()
    ]


def training_fields(options: argparse.Namespace) -> dict:
    """The fields of `TrainingSettings` that were given. Raises UserError for two that contradict each other."""
    typed = {name: value for name, value in vars(options).items() if name.startswith("training_")}
    fields = {name.removeprefix("training_"): value for name, value in typed.items() if value is not None}
    if {"epochs", "steps"} <= set(fields):
        raise UserError("--epochs and --steps both say how long to train; give one of them")
    return fields


def recipe_from(options: argparse.Namespace) -> Recipe:
    """How networks are trained: what was typed, over what the recipe says, where one was asked for."""
    return Recipe.of(options.recipe, **training_fields(options))


def recipe_lines(options: argparse.Namespace, models: Sequence[str]) -> list[str]:
    """What the recipe that was asked for is to the networks among these models, as options that say the same."""
    if options.recipe is None:
        return []
    recipe, usual = recipe_from(options), TrainingSettings()
    readers: dict[str, list[str]] = {}
    for name in dict.fromkeys(model for model in models if model in _TRAINED):
        settings = recipe.settings(name)
        words = [
            f"{option} {value:g}" if isinstance(value, float) else f"{option} {value}"
            for field, option, *_ in _TRAINING
            if (value := getattr(settings, field)) != getattr(usual, field)
        ]
        words += [f"--augment {' '.join(settings.augment)}"] if settings.augment else []
        readers.setdefault(" ".join(words), []).append(name)
    return [f"recipe {options.recipe} for {' and '.join(names)}: {words}" for words, names in readers.items()]


def row_options(options: argparse.Namespace) -> dict:
    """What `compare` takes about networks: settings, regularizers and in_loop."""
    return {
        "settings": recipe_from(options),
        "regularizers": parse_regularizers(options.regularizer or ()),
        "in_loop": options.frozen == "loop",
    }


def making_options(options: argparse.Namespace) -> dict[str, Any]:
    """Where results are kept and how they are made, as `compare` and `probe` take it."""
    making = {name: getattr(options, name, None) for name in ("results", "again", "jobs", "progress")}
    return {**making, "compiled": options.compile, "command": options.command_line}


def how_from(options: argparse.Namespace, **more: Any) -> "How":
    """How the rows are made that the options ask for; more: other fields of `How`."""
    from classify.experiments.settings import How

    return How.of(options.results, {**making_options(options), **more})


@contextlib.contextmanager
def tensorboard_log(options: argparse.Namespace) -> Iterator[Any]:
    """The log that `--tensorboard` asks for, or None."""
    if options.tensorboard is None:
        yield None
        return
    from classify.show.tensorboard import TensorBoardLog

    with TensorBoardLog(options.tensorboard) as log:
        yield log
    tell(f"training curves: tensorboard --logdir {options.tensorboard}")


def find_models(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of heads and those of networks, each once; UserError with the nearest names for an unknown one."""
    names, models = tuple(dict.fromkeys(names)), (*HEADS, *NETWORKS)
    for name in names:
        if name not in models and name not in HEADS:
            raise unknown(f"there is no model called {name!r}", name, models)
    return tuple(name for name in names if name in HEADS), tuple(name for name in names if name in NETWORKS)


def check_choice(options: argparse.Namespace) -> None:
    """Raise UserError for what rows cannot be chosen on, or by."""
    from classify.experiments.validating import check_score, parse_folds

    parse_folds(options.validate)
    check_score(options.score)


def refuse_unread(options: argparse.Namespace, models: Sequence[str], rules: Iterable[Rule]) -> None:
    """Raise UserError for an option that none of the models would read. models: names of heads and networks."""
    for rule in rules:
        given = [option for option in rule.options if option in options.given]
        if given and not any(model in rule.readers for model in models):
            raise UserError(f"{given[0]} {rule.complaint.format(models=', '.join(models))}")


def refuse_contradictions(options: argparse.Namespace) -> None:
    """Raise UserError for options about what lies below the cut where nothing does, or where it is not cached."""
    if (options.map_dtype or options.frozen) and set(options.unfreeze or ["all"]) == {"all"}:
        raise UserError(
            "--map-dtype and --frozen are about the part below the cut, and with --unfreeze all there is none; leave "
            "them out, or unfreeze less"
        )
    if recipe_from(options).pretrained.augment and (options.map_dtype or options.frozen == "cached"):
        raise UserError(
            "--augment draws every image anew, so the frozen part runs on it each time and no maps are cached; leave "
            f"out --map-dtype and --frozen cached, or {'give --augment nothing' if options.recipe else '--augment'}"
        )
