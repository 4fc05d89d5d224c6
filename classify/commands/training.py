"""The options about networks, which `run` and `compare` share, and the rows that they spell.

An option that nothing would read is refused: whoever gives `--epochs` with an SVM has something else in mind.
"""

import argparse
from collections.abc import Iterable, Mapping

from classify.heads import HEADS, Head
from classify.heads.legal import OneOf
from classify.heads.network import NETWORKS, NetworkHead
from classify.heads.network.settings import AUGMENTATIONS, LEGAL, TrainingSettings
from classify.heads.regularizers import REGULARIZERS, RegularizerSpec, parse_regularizers
from features.commands.options import Parser, offered
from features.errors import UserError, unknown

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
        add(option, dest=f"training_{field}", type=kind, metavar=metavar, help=text)
    *others, last = AUGMENTATIONS
    augment = f"any of {', '.join(others)} and {last}"
    add("--augment", dest="training_augment", nargs="+", metavar="A", help=augment)
    if not cuts:
        return
    names = ", ".join(REGULARIZERS)
    add("--regularizer", nargs="+", metavar="R", help=f"as in l2-sp=0.01 bss=0.001 (below); {names}")
    add("--map-dtype", choices=("float32", "float16"), help="of cached maps below the cut; default float32")
    add("--frozen", choices=("cached", "loop"), help="read the frozen part's output from the cache (default) or run it")


def models_explained(*registries: Mapping[str, Head] | Mapping[str, NetworkHead]) -> str:
    """What `--help` says below the options: each head and network by name."""
    models = (model for registry in registries for model in registry.values())
    return "\n".join(["models:", *(f"  {model.name:<12} {model.summary}" for model in models)])


def regularizers_explained() -> str:
    """What `--help` says below the options: each regulariser with the strengths that it takes by itself."""
    lines = []
    for kind in REGULARIZERS.values():
        where = " [@LAYER+LAYER]" if kind.layers else ""
        lines.append(f"  {RegularizerSpec(kind.name, kind.strengths)!s:<23} {kind.summary}{where}")
    return "\n".join(["regularisers, with their default strengths:", *lines])


def given(options: argparse.Namespace) -> tuple[str, ...]:
    """The options about networks that were given, as they are typed."""
    names = {option: f"training_{field}" for field, option, *_ in _TRAINING}
    names |= {"--augment": "training_augment", "--regularizer": "regularizer", "--map-dtype": "map_dtype"}
    names |= {"--frozen": "frozen"}
    return tuple(option for option, name in names.items() if getattr(options, name) is not None)


def training_fields(options: argparse.Namespace) -> dict:
    """The fields of `TrainingSettings` that were given. Raises UserError for two that contradict each other."""
    prefix = "training_"
    fields = {name.removeprefix(prefix): value for name, value in vars(options).items() if name.startswith(prefix)}
    fields = {name: value for name, value in fields.items() if value is not None}
    if {"epochs", "steps"} <= set(fields):
        raise UserError("--epochs and --steps both say how long to train; give one of them")
    return fields


def row_options(options: argparse.Namespace) -> dict:
    """What `NetworkRow` takes besides request, network and cut: settings, regularizers and in_loop."""
    return {
        "settings": TrainingSettings(**training_fields(options)),
        "regularizers": parse_regularizers(options.regularizer or ()),
        "in_loop": options.frozen == "loop",
    }


def find_models(names: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The names of heads and those of networks, each once; UserError with the nearest names for an unknown one."""
    names, known = tuple(dict.fromkeys(names)), (*HEADS, *NETWORKS)
    for name in names:
        if name not in known:
            raise unknown(f"there is no model called {name!r}", name, known)
    return tuple(name for name in names if name in HEADS), tuple(name for name in names if name in NETWORKS)


def refuse_unread(options: argparse.Namespace, heads: tuple[str, ...], networks: tuple[str, ...]) -> None:
    """Raise UserError for an option that none of the models would read."""
    trained = [name for name in networks if name != "untouched"]
    if not trained and (told := given(options)):
        raise UserError(
            f"{told[0]} is about networks that are trained, and {', '.join((*heads, *networks))} is none; leave it "
            "out, or add --model finetune"
        )
    if "finetune" not in trained and options.unfreeze is not None:
        raise UserError("--unfreeze is about --model finetune, which was not asked for; leave it out or add that model")
    if "finetune" not in trained and (options.map_dtype or options.frozen):
        raise UserError("--map-dtype and --frozen are about --model finetune, which was not asked for; leave them out")
    if (options.map_dtype or options.frozen) and set(options.unfreeze or ["all"]) == {"all"}:
        raise UserError(
            "--map-dtype and --frozen are about the part below the cut, and with --unfreeze all there is none; leave "
            "them out, or unfreeze less"
        )
    if options.training_augment and (options.map_dtype or options.frozen == "cached"):
        raise UserError(
            "--augment draws every image anew, so the frozen part runs on it each time and no maps are cached; leave "
            "out --map-dtype and --frozen cached, or --augment"
        )
    if options.training_head_multiple is not None and not {"finetune", "spottune"} & set(trained):
        raise UserError(
            f"--head-multiple is about a new layer on pre-trained ones, and {', '.join(trained)} has none; leave it out"
        )
    if options.regularizer and not {"finetune", "scratch"} & set(trained):
        raise UserError("--regularizer acts on a backbone that trains; take --model finetune, or leave it out")
    for option, value in (
        ("--class-weight", options.class_weight),
        ("--no-search", options.no_search),
        ("--no-refit", options.no_refit),
        ("--in-blocks", options.in_blocks != "auto"),
    ):
        if not heads and value:
            raise UserError(f"{option} is about heads on cached features, and none was asked for; leave it out")
    if not heads and (options.layer, options.pool) != (["avgpool"], ["avg"]):
        raise UserError("--layer and --pool are about heads on cached features; --unfreeze says where a network is cut")
