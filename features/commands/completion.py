"""Completion in the shell, by argcomplete (extra `completion`): verbs, options, choices and names.

The shell runs the command itself with the line typed so far in its environment. Nothing here imports torch or numpy:
an answer has to be there before the finger has left the key.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from typing import Any

from features.errors import UserError
from features.families import SOURCES, plain_names


def is_completing() -> bool:
    """Whether a shell asks what could be typed, rather than a person for something to be done."""
    return "_ARGCOMPLETE" in os.environ


def complete(parser: argparse.ArgumentParser) -> None:
    """Answer the shell, if it asks, and end the process."""
    if is_completing():
        _argcomplete().autocomplete(parser, always_complete_options="long")


def _argcomplete() -> Any:
    try:
        import argcomplete
    except ImportError as error:
        raise UserError("completion needs one more package: pip install 'layerprobe[completion]'") from error
    return argcomplete


def words_typed(verbs: Sequence[str]) -> list[str]:
    """The arguments on the line that the shell asks about, up to the word that is to be completed.

    Where that word is the first and no option, it may be a verb: then this answers the shell. A verb is passed over
    when what follows it is completed.
    """
    argcomplete = _argcomplete()
    _, prefix, _, words, _ = argcomplete.split_line(os.environ["COMP_LINE"], int(os.environ["COMP_POINT"]))
    first = int(os.environ["_ARGCOMPLETE"])
    if len(words) > first:
        if words[first] in verbs:
            os.environ["_ARGCOMPLETE"] = str(first + 1)
        return words[first:]
    if not prefix.startswith("-"):
        parser = argparse.ArgumentParser(add_help=False)
        parser.add_argument("verb", choices=verbs)
        argcomplete.autocomplete(parser)
    return []


def backbones(**_: object) -> list[str]:
    """The names that `--backbone` takes."""
    return sorted([*plain_names(), *(source.prefix for source in SOURCES if source.prefix)])


def datasets(**_: object) -> list[str]:
    """The names that `--dataset` takes."""
    from features.datasets import dataset_names

    return list(dataset_names())


def cached_names(**_: object) -> list[str]:
    """The names of what is in the cache."""
    from features.home import features_folder

    return sorted(path.name for path in features_folder().glob("*.h5"))


def one_of(*names: str) -> Callable[..., tuple[str, ...]]:
    """A completer that offers these names."""
    return lambda **_: names


def weights(prefix: str, **_: object) -> list[str]:
    """What `--weights` takes, behind NAME= too: words, and files of weights with the folders on the way to them."""
    name, equals, path = prefix.rpartition("=")
    files = _argcomplete().FilesCompleter(("pth", "pt", "safetensors"))(path)
    return [f"{name}{equals}{value}" for value in ("default", "random", *files)]
