"""What `--tensorboard [FOLDER]` asks for, which `run` and `compare` share."""

import contextlib
from collections.abc import Iterator
from typing import Any


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
