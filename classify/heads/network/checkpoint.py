"""The state of a run after an epoch, on disk: tensors as safetensors, the rest as JSON, nothing pickled.

The JSON is written last and names the tensor files with their SHA-256, so a killed writer leaves the state before it
in force, and a run never goes on from numbers that have changed on the disk. What is
random in an epoch follows from the seed and the epoch's number, so there is no generator to be kept.
"""

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from features.digests import sha256_json
from features.errors import UserError
from features.notes import read_json, write_json
from features.regular import open_regular
from features.store.disk import refusals_told
from features.whole import left_aside

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
        index = self._index()
        if index is None:
            return None
        if index["identity"] != self.identity:
            other, identity = index["identity"], self.identity
            name = next(name for name in sorted({*other, *identity}) if other.get(name) != identity.get(name))
            raise UserError(
                f"{self.folder} holds a run with {name} {other.get(name)!r} instead of {identity.get(name)!r}; finish "
                "that one, give another folder, or remove this one"
            )
        try:
            for name, digest in index["files"].items():
                with open_regular(self.folder / name) as stream:
                    if hashlib.file_digest(stream, "sha256").hexdigest() != digest:
                        raise self.damaged(f"{name} is not what was written")
            best = load_file(self.folder / index["best"]) if index["best"] else None
            return RunState(load_file(self.folder / index["tensors"]), best, index["values"])
        except (SafetensorError, FileNotFoundError) as error:
            raise self.damaged(str(error)) from error

    def _index(self) -> dict[str, Any] | None:
        index = read_json(self.folder / "run.json")
        if index is None and not (self.folder / "run.json").exists():
            return None
        content = index.get("content") if isinstance(index, dict) else None
        if not _is_index(content) or index.get("sha256") != sha256_json(content):
            raise self.damaged("run.json is not what was written")
        return content

    def damaged(self, reason: str) -> UserError:
        """What to raise where the folder does not hold what was written, for whatever reason."""
        return UserError(f"the run in {self.folder} is damaged ({reason}); remove the folder to start over")

    def save(self, number: int, state: RunState, new_best: bool) -> None:
        """Write the state after round `number`; the best tensors only where they have changed since."""
        self.folder.mkdir(parents=True, exist_ok=True)
        before = self._index() or {}
        tensors = f"state-{number:05d}.safetensors"
        files = {tensors: write_tensors(self.folder / tensors, state.tensors)}
        best = before.get("best")
        if state.best is not None and (new_best or not best):
            best = f"best-{number:05d}.safetensors"
            files[best] = write_tensors(self.folder / best, state.best)
        elif best:
            files[best] = before["files"][best]
        content = {"identity": self.identity, "tensors": tensors, "best": best, "values": state.values, "files": files}
        content = json.loads(json.dumps(content))
        with refusals_told(self.folder / "run.json"):
            write_json(self.folder / "run.json", {"content": content, "sha256": sha256_json(content)})
        for path in self.folder.glob("*.safetensors"):
            if path.name not in (tensors, best):
                path.unlink()


def _is_index(content: Any) -> bool:
    """Whether this has the parts of an index, and names files that stand beside it."""
    if not isinstance(content, dict) or not {"tensors", "best"} <= content.keys():
        return False
    parts = [content.get(name) for name in ("identity", "values", "files")]
    if not all(isinstance(part, dict) for part in parts):
        return False
    files, named = content["files"], [content["tensors"], *([content["best"]] if content["best"] is not None else [])]
    beside = all(Path(name).name == name and isinstance(digest, str) for name, digest in files.items())
    return beside and all(isinstance(name, str) and name in files for name in named)


def write_network(folder: Path, tensors: Tensors, fields: dict[str, Any]) -> None:
    """Write a finished network: network.safetensors, and network.json with `fields` and the digests of both."""
    content = {**fields, "file_sha256": write_tensors(folder / "network.safetensors", tensors)}
    content = json.loads(json.dumps(content))
    write_json(folder / "network.json", {**content, "digest": sha256_json(content)})


def read_network(folder: Path) -> dict[str, Any]:
    """The fields that `write_network` was given; UserError where a file is absent or is not what was written."""
    fields, weights = read_json(folder / "network.json"), folder / "network.safetensors"
    if not isinstance(fields, dict) or not weights.is_file():
        raise UserError(f"{folder} holds no saved network (network.json and network.safetensors); train one first")
    # Networks saved before there were digests have none.
    if (digest := fields.pop("digest", None)) is not None:
        if digest != sha256_json(fields):
            raise UserError(f"{folder / 'network.json'} is damaged: it is not what was written; train again")
        with open_regular(weights) as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() != fields.pop("file_sha256"):
                raise UserError(f"{weights} is damaged: it is not what was written; train again")
    return fields


def write_tensors(path: Path, tensors: Tensors) -> str:
    """Write a safetensors file so that a reader finds all of it or none; its SHA-256.

    UserError where the disk is full or the folder cannot be written.
    """
    ready = _apart(tensors)
    size = sum(tensor.nbytes for tensor in ready.values())
    with refusals_told(path, size):
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.with_name(f"{left_aside(path)}{os.urandom(4).hex()}.tmp")
        try:
            aside.touch(exist_ok=False)
            shared = aside.stat().st_mode  # as the umask has it; the library makes the file for its owner alone
            _save(ready, str(aside))
            aside.chmod(shared)
            with aside.open("rb") as stream:
                os.fsync(stream.fileno())
                digest = hashlib.file_digest(stream, "sha256").hexdigest()
            aside.replace(path)
        finally:
            aside.unlink(missing_ok=True)
    return digest


def _apart(tensors: Tensors) -> Tensors:
    """The tensors on the CPU, none over the memory of another or over part of one, as the library wants them."""
    apart, taken = {}, set()
    for name, tensor in tensors.items():
        ready = tensor.detach().cpu().contiguous()
        memory = ready.untyped_storage()
        if memory.nbytes() != ready.nbytes or memory.data_ptr() in taken:
            ready = ready.clone()
        taken.add(memory.data_ptr())
        apart[name] = ready
    return apart


def _save(tensors: Tensors, name: str) -> None:
    try:
        save_file(tensors, name)
    except SafetensorError as error:
        # The library tells of the system's refusals (a full disk) in words alone, which are others before 0.5.
        number = re.search(r"\b(?:os error|code:) (\d+)", str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), name) from error
