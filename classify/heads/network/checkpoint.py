"""The state of a run after an epoch, on disk: tensors as safetensors, the rest as JSON, nothing pickled.

The JSON is written last and names the tensor files, so a killed writer leaves the state before it in force. What is
random in an epoch follows from the seed and the epoch's number, so there is no generator to be kept.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from features.digests import read_json, write_json
from features.errors import UserError

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class RunState:
    """What a run needs to go on: all tensors after a round, those of the best one, and plain values about both."""

    tensors: Tensors
    best: Tensors | None
    values: dict[str, Any]


class Checkpoint:
    """A folder that holds the last state of one run, told from other runs by `identity`, a dict of plain values."""

    def __init__(self, folder: Path | str, identity: dict[str, Any]) -> None:
        self.folder = Path(folder)
        self.identity = identity

    def load(self) -> RunState | None:
        """The last state; None where there is none. UserError where the folder holds another run, or is damaged."""
        index = read_json(self.folder / "run.json")
        if index is None:
            return None
        if index["identity"] != self.identity:
            theirs, mine = index["identity"], self.identity
            name = next(name for name in sorted({*theirs, *mine}) if theirs.get(name) != mine.get(name))
            raise UserError(
                f"{self.folder} holds a run with {name} {theirs.get(name)!r} instead of {mine.get(name)!r}; finish "
                "that one, give another folder, or remove this one"
            )
        try:
            best = load_file(self.folder / index["best"]) if index["best"] else None
            return RunState(load_file(self.folder / index["tensors"]), best, index["values"])
        except (SafetensorError, FileNotFoundError) as error:
            raise UserError(
                f"the run in {self.folder} is damaged ({error}); remove the folder to start over"
            ) from error

    def save(self, number: int, state: RunState, new_best: bool) -> None:
        """Write the state after round `number`; the best tensors only where they have changed since."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = read_json(self.folder / "run.json", default={})
        tensors = f"state-{number:05d}.safetensors"
        write_tensors(self.folder / tensors, state.tensors)
        best = before.get("best")
        if state.best is not None and (new_best or not best):
            best = f"best-{number:05d}.safetensors"
            write_tensors(self.folder / best, state.best)
        index = {"identity": self.identity, "tensors": tensors, "best": best, "values": state.values}
        write_json(self.folder / "run.json", index)
        for path in self.folder.glob("*.safetensors"):
            if path.name not in (tensors, best):
                path.unlink()

    def remove(self) -> None:
        """Delete the run's files, and the folder if nothing else is in it."""
        for path in [self.folder / "run.json", *self.folder.glob("*.safetensors")]:
            path.unlink(missing_ok=True)
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()


def write_tensors(path: Path, tensors: Tensors) -> None:
    """Write a safetensors file so that a reader finds all of it or none."""
    ready = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    os.close(descriptor)
    try:
        save_file(ready, name)
        with open(name, "rb") as stream:  # noqa: PTH123
            os.fsync(stream.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
