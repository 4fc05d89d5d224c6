"""`--tensorboard [FOLDER]`, which `run` and `compare` share."""

import contextlib
from collections.abc import Iterator
from typing import Any

from features.commands.options import Add

FOLDER = "tensorboard"


def add_tensorboard_option(add: Add) -> None:
    """The option; `add` is a section's."""
    curves = f"write the networks' training curves for TensorBoard (default {FOLDER}/)"
    add("--tensorboard", nargs="?", const=FOLDER, metavar="FOLDER", help=curves)


@contextlib.contextmanager
def tensorboard_log(folder: str | None) -> Iterator[Any]:
    """The log in the folder that was asked for, or None."""
    if folder is None:
        yield None
        return
    from classify.show.tensorboard import TensorBoardLog
    from features.commands.speaking import tell

    with TensorBoardLog(folder) as log:
        yield log
    tell(f"training curves: tensorboard --logdir {folder}")
