"""`--tensorboard [FOLDER]`, which `run` and `compare` share."""

import argparse
import contextlib
from collections.abc import Collection, Iterator
from typing import Any

from features.commands.options import Add
from features.errors import UserError

FOLDER = "tensorboard"


def add_tensorboard_option(add: Add) -> None:
    """The option; `add` is a section's."""
    curves = f"write the networks' training curves for TensorBoard (default {FOLDER}/)"
    add("--tensorboard", nargs="?", const=FOLDER, metavar="FOLDER", help=curves)


@contextlib.contextmanager
def tensorboard_log(options: argparse.Namespace, trained: Collection[str]) -> Iterator[Any]:
    """The log that was asked for, or None. trained: the networks that are trained; UserError if there are none."""
    if options.tensorboard is None:
        yield None
        return
    if not trained:
        raise UserError("--tensorboard is about networks that are trained, and none was asked for; leave it out")
    from classify.show.tensorboard import TensorBoardLog
    from features.commands.speaking import tell

    with TensorBoardLog(options.tensorboard) as log:
        yield log
    tell(f"training curves: tensorboard --logdir {options.tensorboard}")
