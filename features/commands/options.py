"""The command line's shared part: options spelled and defaulted once, and what happens to a user's mistake."""

import argparse
import dataclasses
import gc
import itertools
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from features.commands import completion
from features.commands.parser import Add, Parser
from features.commands.speaking import complain, decoders_unheard
from features.commands.stopping import status_of, told_to_stop
from features.datasets.catalogue import READABLE, dataset_names, with_columns, with_groups
from features.datasets.pixels import IN_FLIGHT, MAX_PIXELS, limits_put_back
from features.errors import UserError
from features.families import SOURCES
from features.home import home
from features.plugins import plugins
from features.preprocessing import CROP_MODES, DECODE, INTERPOLATIONS
from features.views import AUGMENTATIONS, USUAL

if TYPE_CHECKING:
    from features.request import Request


def positive(text: str) -> int:
    """A whole number of 1 or more."""
    count = int(text)
    if count < 1:
        raise argparse.ArgumentTypeError(f"{count} is too few: give a whole number of 1 or more")
    return count


def _cores(text: str) -> int:
    """A number of processor cores, at most as many as there are."""
    count = positive(text)
    return min(count, os.cpu_count() or count)


class _Limit(argparse.Action):
    """A limit of this machine, which processes that are started are to find as well."""

    def __init__(self, option_strings: list[str], dest: str, *, variable: str, **settings: Any) -> None:
        super().__init__(option_strings, dest, type=positive, metavar="N", **settings)
        self.variable = variable

    def __call__(self, parser: Any, namespace: argparse.Namespace, value: Any, *_: Any) -> None:
        """Take it."""
        setattr(namespace, self.dest, value)
        os.environ[self.variable] = str(value)


# What more than one command takes.
SHARED: dict[str, dict[str, Any]] = {
    "--again": {"action": "store_true", "help": "make rows again that stand in the results folder"},
    "--class-weight": {"choices": ("balanced",), "help": "weigh rare classes up", "rare": True},
    "--cluster": {
        "typed_only": True,
        "metavar": "C",
        "help": "have the workers of a Dask cluster work: tcp://HOST:PORT, a scheduler file, or local:N (N processes)",
        "rare": True,
    },
    "--compile": {
        "default": "auto",
        "choices": ("auto", "on", "off"),
        "help": "auto: what pays, by the number of images; on: the whole network, by torch; off: nothing",
        "rare": True,
    },
    "--device": {
        "default": "auto",
        "metavar": "D",
        "help": "auto (default), cpu, cuda, cuda:1 or mps",
        "completer": completion.one_of("auto", "cpu", "cuda", "mps"),
    },
    "--jobs": {"type": _cores, "metavar": "J", "help": "processor cores to use (default: all)", "rare": True},
    "--max-pixels": {
        "action": _Limit,
        "variable": MAX_PIXELS,
        "help": "refuse images of more pixels (default: 89,478,485, which Pillow takes for harmless)",
        "rare": True,
    },
    "--pixels-in-flight": {
        "action": _Limit,
        "variable": IN_FLIGHT,
        "help": "decode no more pixels than this at a time, over all threads (default: 100,000,000; 30 bytes each)",
        "rare": True,
    },
    "--no-calibrate": {"action": "store_true", "help": "leave probabilities as the head has them", "rare": True},
    "--no-refit": {"action": "store_true", "help": "do not fit again on training + validation rows", "rare": True},
    "--no-search": {"action": "store_true", "help": "take each head's untuned default", "rare": True},
    "--overwrite": {
        "typed_only": True,
        "action": "store_true",
        "help": "let outputs replace files that no command here wrote, or that were changed since",
        "rare": True,
    },
    "--pool": {
        "nargs": "+",
        "default": ["avg"],
        "metavar": "P",
        "help": "avg (default), max, cls or cls+avg (tokens), grid:N or none",
        "completer": completion.one_of("avg", "max", "cls", "cls+avg", "grid:2", "grid:4", "none"),
    },
    "--progress": {
        "default": "auto",
        "choices": ("auto", "on", "off"),
        "help": "how far the whole is and the time left: on a terminal (auto), now and then elsewhere too (on), or not",
        "rare": True,
    },
    "--quick": {"action": "store_true", "help": "an answer in minutes; says what it cut"},
    "--results": {"default": "results", "metavar": "FOLDER", "help": "folder of results (results/)"},
    "--test-views": {
        "type": int,
        "default": 1,
        "metavar": "T",
        "help": "decide about an image over T of its views (default 1, the image itself; heads need --views)",
        "rare": True,
    },
    "--view-augment": {
        "nargs": "+",
        "metavar": "A",
        "help": f"how views differ: {', '.join(AUGMENTATIONS)}; default {', '.join(USUAL)}",
        "completer": completion.one_of(*AUGMENTATIONS),
        "rare": True,
    },
    "--views": {
        "type": int,
        "default": 1,
        "metavar": "N",
        "help": "learn from N views of each image, N times the cost",
    },
    "--tensorboard": {
        "nargs": "?",
        "const": "tensorboard",
        "metavar": "FOLDER",
        "help": "write the networks' training curves for TensorBoard (default tensorboard/)",
        "rare": True,
    },
    "--score": {
        "default": "accuracy",
        "metavar": "S",
        "help": "what is chosen by: accuracy (default), macro-f1, balanced-accuracy or log-loss",
        "completer": completion.one_of("accuracy", "macro-f1", "balanced-accuracy", "log-loss"),
        "rare": True,
    },
    "--seeds": {"nargs": "+", "type": int, "metavar": "K", "help": "several seeds (default --seed)"},
    "--trust": {
        "typed_only": True,
        "action": "store_true",
        "help": "run code that a record or a configuration names (python:...), load a pickle or an altered head",
        "rare": True,
    },
    "--test": {
        "default": "auto",
        "metavar": "T",
        "help": "what is tested on: split, cv:K (all images, each out of a fold, the choice included), or auto "
        "(default): cv:5 of heads where a folder or csv names no test part and has fewer than 2,000 images",
        "completer": completion.one_of("auto", "split", "cv:5"),
    },
    "--validate": {
        "default": "auto",
        "metavar": "V",
        "help": "what is chosen on: holdout, cv:K (folds), cv:KxR (drawn R times), or auto (default), which says what "
        "it takes, of networks a hold-out",
        "completer": completion.one_of("auto", "holdout", "cv:5", "cv:5x3"),
    },
}


def add_shared(add: Add, *names: str) -> None:
    """Options of these names, as every command that has them spells them; `add` is a parser's or a section's."""
    for name in names:
        add(name, **SHARED[name])


def offered(values: Sequence[str], default: str) -> str:
    """Legal values as `--help` lists them: 'adamw (default), adam or sgd'."""
    *others, last = (f"{value} (default)" if value == default else value for value in values)
    return f"{', '.join(others)} or {last}"


def add_request_options(parser: Parser, layer: str | None = "avgpool", several: bool = False) -> None:
    """The options that say which features of which data; `request_from` reads them back.

    layer: what `--layer` is by default; None leaves out `--layer` and `--pool`. several: `--backbone`,
    `--weights` and `--image-size` take several.
    """
    add = parser.section("which features of which data")
    names = offered(dataset_names(), "mnist")
    add("--dataset", default="mnist", metavar="NAME", help=names, completer=completion.datasets)
    by_name = "(default: by its name)"
    add(
        "--path-column",
        metavar="C",
        help=f"of csv:PATH or hf:PATH, the column of the images' paths {by_name}",
        rare=True,
    )
    add("--label-column", metavar="C", help=f"of csv:PATH or hf:PATH, the column of their labels {by_name}", rare=True)
    add(
        "--group-column",
        metavar="C",
        help="of csv:PATH or hf:PATH, the column that says which images belong together (group)",
        rare=True,
    )
    add(
        "--group-by",
        metavar="REGEX",
        help="which images belong together (one patient, part, video or day), by this expression's first group in the "
        "path; no split parts them",
    )
    brought = "".join(f", {name} ({plugin.summary})" for name, plugin in plugins("backbones").items())
    names = "; ".join(source.in_help for source in SOURCES if source.summary) + brought
    names += "; several are compared" if several else ""
    many: dict[str, Any] = {"nargs": "+"} if several else {}
    backbone, weights = (["resnet18"], ["default"]) if several else ("resnet18", "default")
    add("--backbone", default=backbone, metavar="NAME", help=names, completer=completion.backbones, **many)
    words = "default (ImageNet), the name of a torchvision enum's entry, random, or a .pth or .safetensors file"
    words += "; of several backbones one word for all, one for each, or NAME=W for some" if several else ""
    add("--weights", default=weights, metavar="W", help=words, completer=completion.weights, **many)
    if layer is not None:
        add(
            "--layer",
            nargs="+",
            default=[layer],
            metavar="L",
            help=f"stages or nodes (layer3), joined ones (layer2+layer3), or all (every stage); default {layer}",
            completer=completion.one_of("all", "avgpool", "fc"),
        )
        add_shared(add, "--pool")
    size = f"pixels that the network sees (the weights' own){'; several are compared' if several else ''}"
    add("--image-size", type=int, metavar="S", help=size, **many)
    _add_preparation_options(add)
    add(
        "--precision",
        default="auto",
        choices=("auto", "float32", "bfloat16", "float16", "int8"),
        help="of the computation: auto (default) is bfloat16 where the processor has it, else float32; int8 is fastest "
        "on a processor and least exact, its ranges fixed on 256 training images",
        rare=True,
    )
    add("--dtype", default="float32", choices=("float32", "float16"), help="of the stored features", rare=True)
    add(
        "--limit",
        type=int,
        metavar="N",
        help="N training rows (and N of a part to validate on), stratified; smaller limits nest in larger ones",
    )
    add("--limit-test", type=int, metavar="M", help="take M test rows")
    add("--seed", type=int, default=0, metavar="K", help="of row selection, validation split, heads, random weights")
    unreadable = "leave out images that are broken or absent, and say which"
    add("--skip-unreadable", action="store_true", help=unreadable, rare=True)
    add_shared(add, "--device", "--jobs", "--max-pixels", "--pixels-in-flight", "--trust")


def _add_preparation_options(add: Add) -> None:
    """How images are prepared where that is not as the weights want it."""
    add(
        "--crop-mode",
        default="center",
        choices=CROP_MODES,
        help="how an image becomes a square: center (default) loses the ends of a long one, and an eighth of one that "
        "is larger than the network's input; squash loses its proportions; pad loses nothing",
        rare=True,
    )
    own = "(default: the weights' own)"
    add("--resize", type=int, metavar="R", help=f"pixels of the short side before the crop {own}", rare=True)
    add("--interpolation", choices=INTERPOLATIONS, help=f"in resizing {own}", rare=True)
    own = f"of each channel, pixels being 0 to 1 {own}"
    add("--mean", nargs="+", type=float, metavar="X", help=f"mean {own}", rare=True)
    add("--std", nargs="+", type=float, metavar="X", help=f"standard deviation {own}", rare=True)
    add(
        "--decode",
        default="full",
        choices=DECODE,
        help="of JPEG files: draft decodes large ones at a half, a quarter or an eighth where that leaves twice the "
        "pixels that the network gets, several times as fast (default: full)",
        rare=True,
    )


def request_from(options: argparse.Namespace) -> "Request":
    """The request that the options spell; a command without `--layer` and `--pool` asks for the usual ones."""
    from features.request import Request

    return Request(**request_fields(options))


def request_fields(options: argparse.Namespace) -> dict[str, Any]:
    """The same field by field, each a tuple where the command takes several."""
    from features.request import Request

    singular = {"layers": "layer", "pools": "pool"}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(Request):
        value = getattr(options, singular.get(field.name, field.name), field.default)
        value = () if value is None and field.default == () else value  # a list that was not given
        fields[field.name] = tuple(value) if isinstance(value, list) else value
    columns = {kind: getattr(options, f"{kind}_column", None) for kind in ("path", "label", "group")}
    fields["dataset"] = with_groups(with_columns(fields["dataset"], **columns), getattr(options, "group_by", None))
    if getattr(options, "skip_unreadable", False):
        fields["dataset"] = READABLE + fields["dataset"].removeprefix(READABLE)
    return fields


def check_request(options: argparse.Namespace, heads: bool = True) -> None:
    """UserError for what is wrong with the request that the options spell, its data set included, as far as it can be
    told without torch, whose import takes seconds. heads: whether any is to learn from it."""
    from features.datasets import open_dataset
    from features.request import Request

    fields = request_fields(options)
    names = ("backbone", "weights", "image_size")
    values = [fields[name] if isinstance(fields[name], tuple) else (fields[name],) for name in names]
    for backbone, weights, size in itertools.product(*values):
        name, _, file = weights.partition("=")  # NAME=W, or a file with = in its own name
        own = file if name in values[0] else weights
        Request(**{**fields, "backbone": backbone, "weights": own, "image_size": size}).check(heads)
    if fields["dataset"] is not None:  # of a study that has its own
        open_dataset(fields["dataset"])


def run_command(main: Callable[[Sequence[str]], int | None], arguments: Sequence[str] | None = None) -> int:
    """Run a command: a user's mistake becomes one line and exit status 2, Ctrl-C one line and 130, SIGTERM 143."""
    _reopen_closed()
    if arguments is None:
        # Libraries make objects by the ten thousand, and they stay: to look for those that could go took a second.
        gc.set_threshold(10_000, 20, 20)
    if sys.stdout is None:
        complain("error: the standard output is closed; leave it open, or send it to /dev/null")
        return 2
    for stream in (sys.stdout, sys.stderr):
        # A terminal that has not the letters of a name shows their numbers.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with told_to_stop(), decoders_unheard(), limits_put_back():
            status = main(sys.argv[1:] if arguments is None else arguments) or 0
        # Here a full disk or a reader that has gone can still be told apart; at the interpreter's end they cannot.
        if sys.stdout:
            sys.stdout.flush()
        return status
    except UserError as error:
        complain(f"error: {error}")
        return 2
    except KeyboardInterrupt as stop:
        complain(_stopped(typed=arguments is None))
        return status_of(stop)
    except BrokenPipeError:
        # The reader of our output has gone (`| head`): not an error, and nobody is left to tell.
        _drop_output()
        return 141
    except OSError as error:
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        own = error.filename is None or str(error.filename).startswith(str(home()))
        another = "set $LAYERPROBE_HOME to another folder" if own else "name another place"
        complain(
            f"error: {where}{error.strerror}; make the place readable and writable and see that it has room, or "
            f"{another}"
        )
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        return 2


def _reopen_closed() -> None:
    """Have nothing be opened under the numbers of closed standard streams, where others would write into it."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the least number that is free is this one


def _stopped(typed: bool) -> str:
    """What to say after Ctrl-C; typed: whether this process is the command, as a shell started it."""
    if not typed:
        return "stopped; what is complete is saved, and the same command carries on from there"
    # --again would begin with what is complete.
    command = shlex.join(word for word in sys.orig_argv if word != "--again")
    return f"stopped; what is complete is saved; carry on with: {command}"


def _drop_output() -> None:
    """Let what is still to be written to a broken output go nowhere, lest the interpreter's end complain of it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
