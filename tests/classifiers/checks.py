"""What is tried with a network, a column each: 'ok', 'refused: ' with the line that a user gets, or what went wrong."""

import contextlib
import importlib
import io
import json
import os
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch import nn
from torchvision import models

from features.backbones import Backbone, load_backbone
from features.commands.options import run_command
from features.cut import Cut
from features.errors import UserError
from features.preprocessing import Preparation
from tests.classifiers.networks import Network, downloaded
from tests.classifiers.others import Other

COLUMNS = ("loads", "stages", "hooks", "logistic", "finetune", "predict", "onnx", "state dict")
# Above so many million parameters only the new classifier trains: for the machine's memory and time, not for anything
# that could not be done.
_WHOLLY_TRAINED = 100
_SIZES = (64, 96, 224)


@dataclass
class Bench:
    """A folder to work in, a network, and what the columns so far have left for the next ones."""

    folder: Path
    network: Network
    file: Path = field(init=False)
    backbone: Backbone = field(init=False)
    size: int = field(init=False)

    def __post_init__(self) -> None:
        self.file = self.network.written(self.folder / "weights.pth")

    # ---- the columns -----------------------------------------------------------------------------------------------

    def loads(self) -> str:
        """The entry asked for by name gives the file's tensors and the entry's crop."""
        with downloaded(self.file):
            self.backbone = load_backbone(self.network.name, self.network.entry.name)
        wanted, state = self.network.state(), self.backbone.model.state_dict()
        _require(all(torch.equal(state[name], wanted[name]) for name in wanted), "other tensors than the file's")
        crop, own = self.network.entry.transforms().crop_size[0], self.backbone.preprocessing.crop
        _require(own == crop, f"images are cropped to {own} pixels, and the entry's are to {crop}")
        return "ok"

    def stages(self) -> str:
        """There are at least three between images and pooling, at the smallest size that the network takes."""
        stages = self._smallest(lambda size: self.backbone)
        _require(stages[-2:] == ("avgpool", "fc") and len(stages) >= 5, f"only {stages}")
        return f"ok ({len(stages)} at {self.size} px)"

    def _smallest(self, backbone_for: Callable[[int], Backbone]) -> tuple[str, ...]:
        """The stages at the smallest size that the network takes; the error of its own where there is none."""
        *sizes, last = *_SIZES, self.backbone.preprocessing.crop
        for size in sizes:
            with contextlib.suppress(UserError):
                return self._stages_at(size, backbone_for)
        return self._stages_at(last, backbone_for)

    def _stages_at(self, size: int, backbone_for: Callable[[int], Backbone]) -> tuple[str, ...]:
        backbone = backbone_for(size)
        stages = backbone.cut(size).stages
        self.size, self.backbone = size, backbone
        return stages

    def hooks(self) -> str:
        """At every stage the cut gives what hooks take on the network of torchvision's own builder."""
        theirs, cut = self.network.by_torchvision(self.file), self.backbone.cut(self.size)
        pixels = torch.rand(2, 3, self.size, self.size, generator=torch.Generator().manual_seed(1))
        entry, own = self.network.entry.transforms(), self.backbone.preprocessing
        taken = _taken(theirs, _normalised(pixels, entry.mean, entry.std))
        nodes = [cut.resolve(stage) for stage in cut.stages]
        with torch.no_grad():
            outputs = cut.trunk(nodes)(_normalised(pixels, own.mean, own.std))
        # Two networks of torchvision's undo the normalisation inside; ours is another one from the start.
        exact = tuple(entry.mean) == tuple(own.mean)
        for stage, node, output in zip(cut.stages, nodes, outputs, strict=True):
            wanted = _by_hooks(cut, stage, node, taken).reshape(output.shape)
            gap = float((output - wanted).abs().max() / wanted.abs().max())
            _require(torch.equal(output, wanted) or (not exact and gap < 1e-4), f"{stage} is off by {gap:.1e}")
        return "ok"

    def finetune(self) -> str:
        """One step of training, to a saved result."""
        _images(self.folder)
        del self.backbone  # the command reads it again
        point = "all" if self.network.million_parameters <= _WHOLLY_TRAINED else "fc"
        _command(
            "classify", "--model", "finetune", "--unfreeze", point, "--steps", "1", "--batch-size", "6", "--dataset",
            "npz:images.npz", "--backbone", self.network.name, "--weights", self.file, "--image-size", self.size,
            "--precision", "float32", "--train-precision", "float32", "--compile", "off", "--jobs", "1",
        )  # fmt: skip
        return "ok" if point == "all" else f"ok ({point} alone)"

    def predict(self) -> str:
        """The trained network is read again, and names a class for an image."""
        _command("classify", "predict", "image.png", "--from", "results", "--json", "answer.json")
        (answer,) = json.loads(Path("answer.json").read_text())["images"]
        _require(answer["class"] in ("0", "1", "2") and 0 < answer["probability"] <= 1, str(answer))
        return "ok"

    def onnx(self) -> str:
        """Exported and, by the command itself, checked with onnxruntime."""
        _command("classify", "export", "--from", "results", "--output", "model.onnx")
        return "ok"

    def state_dict(self) -> str:
        """Plain weights, which torchvision's own class loads strictly."""
        _command("classify", "export", "--from", "results", "--format", "state-dict", "--output", "plain.pth")
        beside = json.loads(Path("plain.pth.json").read_text())
        model = models.get_model(beside["architecture"], num_classes=3, **beside.get("options", {}))
        model.load_state_dict(torch.load("plain.pth", weights_only=True), strict=True)
        return "ok"


@dataclass
class OtherBench(Bench):
    """The same for a network of another family, with random weights."""

    network: Other  # type: ignore[assignment]  # it has what is asked for here

    def _weights(self) -> tuple[str, ...]:
        return "--backbone", self.network.name, "--weights", "random", "--image-size", str(self.size)

    def loads(self) -> str:
        """Twice the same weights from one seed."""
        self.backbone = load_backbone(self.network.name, "random")
        again = load_backbone(self.network.name, "random", 0).weights_sha256
        _require(again == self.backbone.weights_sha256, "other weights from the same seed")
        return "ok"

    def stages(self) -> str:
        stages = self._smallest(lambda size: load_backbone(self.network.name, "random", prepared=Preparation(size)))
        _require("avgpool" in stages[-2:] and len(stages) >= 4, f"only {stages}")
        return f"ok ({len(stages)} at {self.size} px)"

    def hooks(self) -> str:
        """All stages from one pass; from each of them the tail gives what the network gives."""
        cut, model = self.backbone.cut(self.size), self.backbone.model
        pixels = torch.randn(3, 3, self.size, self.size, generator=torch.Generator().manual_seed(1))
        for name in self.backbone.family.classifiers(model):
            # Some start at 0, and would give the same whatever they are given.
            if isinstance(weight := getattr(model.get_submodule(name), "weight", None), torch.Tensor):
                weight.data.normal_(generator=torch.Generator().manual_seed(2))
        taken = _taken(model, pixels)
        nodes = [cut.resolve(stage) for stage in cut.stages]
        with torch.no_grad():
            outputs = cut.trunk(nodes)(pixels)
            for stage, node, output in zip(cut.stages, nodes, outputs, strict=True):
                _require(node in cut.legal, f"{stage} is no cut")
                if stage in taken:
                    _require(torch.equal(output, taken[stage]), f"{stage} is not what a hook takes")
                tail = output if stage == "fc" else cut.tail(node)(output)
                gap = float((tail - taken["<logits>"]).abs().max() / taken["<logits>"].abs().max())
                _require(gap == 0, f"above {stage} the tail is off by {gap:.1e}")
        return "ok"

    def logistic(self) -> str:
        """A head on every stage, chosen and tested by a probe."""
        _images(self.folder)
        _command(
            "classify", "probe", "--model", "logistic", "--layer", "all", "--dataset", "npz:images.npz",
            *self._weights(), "--no-controls", "--no-widths", "--jobs", "1",
        )  # fmt: skip
        return "ok"

    def finetune(self) -> str:
        """One step of training above a frozen half, to a saved result."""
        _images(self.folder)
        point = self.backbone.cut(self.size).inner_stages[-1]
        _command(
            "classify", "--model", "finetune", "--unfreeze", point, "--steps", "1", "--batch-size", "6", "--dataset",
            "npz:images.npz", *self._weights(), "--precision", "float32", "--train-precision", "float32",
            "--compile", "off", "--jobs", "1", "--results", "results",
        )  # fmt: skip
        return f"ok (from {point})"

    def predict(self) -> str:
        _command("classify", "predict", "image.png", "--from", self._record(), "--json", "answer.json", "--trust")
        (answer,) = json.loads(Path("answer.json").read_text())["images"]
        _require(answer["class"] in ("0", "1", "2") and 0 < answer["probability"] <= 1, str(answer))
        return "ok"

    def onnx(self) -> str:
        _command("classify", "export", "--from", self._record(), "--output", "model.onnx", "--trust")
        return "ok"

    def state_dict(self) -> str:
        _command(
            "classify", "export", "--from", self._record(), "--format", "state-dict", "--output", "plain.pth", "--trust"
        )
        return "ok"

    def _record(self) -> str:
        """Of the network that was trained."""
        records = {path: json.loads(path.read_text()) for path in Path("results").glob("*.json")}
        configs = {path: record.get("result", {}).get("config", {}) for path, record in records.items()}
        return next(str(path) for path, config in configs.items() if config.get("unfreeze"))


def columns_of(network: Network | Other, columns: Sequence[str]) -> tuple[str, ...]:
    """Those of these columns that are tried with a network."""
    return tuple(column for column in columns if hasattr(_bench_of(network), column.replace(" ", "_")))


def _bench_of(network: Network | Other) -> Callable[..., Bench]:
    return OtherBench if isinstance(network, Other) else Bench


def row(network: Network | Other, columns: Sequence[str], folder: Path, seen: Callable[[dict[str, Any]], None]) -> None:
    """Try these columns, in a folder of its own; `seen` gets the row as it grows."""
    os.chdir(folder)
    os.environ["LAYERPROBE_HOME"] = str(folder / "home")
    bench = _bench_of(network)(folder, network)
    done: dict[str, Any] = {"network": str(network), "seconds": {}}
    for column in columns_of(network, columns):
        started = time.monotonic()
        try:
            done[column] = getattr(bench, column.replace(" ", "_"))()
        except UserError as error:
            done[column] = f"refused: {error}"
        except Exception as error:
            done[column] = f"FAILS: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            done["traceback"] = traceback.format_exc()
        done["seconds"][column] = round(time.monotonic() - started, 1)
        seen(done)
        # Nothing above a network that does not load, and nothing from a result that there is not.
        if not done[column].startswith("ok") and column in ("loads", "stages", "finetune"):
            break


def _require(right: bool, otherwise: str) -> None:
    if not right:
        raise AssertionError(otherwise)


def _normalised(pixels: torch.Tensor, mean: Any, std: Any) -> torch.Tensor:
    return (pixels - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)


def _taken(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """What hooks take: the outputs of modules by their names (`relu_1` for a second run), what the classifier's
    outermost module reads as 'avgpool', and the network's own output as 'fc'."""
    taken: dict[str, torch.Tensor] = {}

    def take(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, torch.Tensor):
                runs = sum(key == name or key.startswith(f"{name}_run") for key in taken)
                taken[f"{name}_run{runs}" if runs else name] = output.clone()

        return hook

    hooks = [module.register_forward_hook(take(name)) for name, module in model.named_modules() if name]
    last = [child for name, child in model.named_children() if not name.lower().startswith("aux")][-1]
    hooks.append(last.register_forward_pre_hook(lambda module, inputs: taken.update({"<read>": inputs[0].clone()})))
    with torch.no_grad():
        taken["<logits>"] = model(images)
    for hook in hooks:
        hook.remove()
    return taken


def _by_hooks(cut: Cut, stage: str, node: str, taken: dict[str, torch.Tensor]) -> torch.Tensor:
    """What hooks took that a stage is."""
    if stage == "fc":
        return taken["<logits>"]
    name, _, run = node.rpartition("_")
    if run.isdigit() and f"{name}_run{run}" in taken:
        return taken[f"{name}_run{run}"]
    if node in taken:
        return taken[node]
    # What a function gives: the output of the module that ends with it, or what the classifier reads.
    path = node
    while path := path.rpartition(".")[0]:
        if path in taken and cut.resolve(path) == node:
            return taken[path]
    if stage == "avgpool":
        return taken["<read>"]
    _require(node == "relu", f"no hook takes {stage} ({node})")
    # DenseNet's last activation is a function, over all that its features give.
    return taken["features"].relu()


def _images(folder: Path) -> None:
    """Three classes of coloured noise, and one image of them."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1, 2], 4)
    pixels = random.integers(0, 100, (12, 48, 48, 3)).astype(np.uint8)
    pixels[np.arange(12), :, :, labels] += 120
    np.savez(folder / "images.npz", x_train=pixels, y_train=labels, x_test=pixels[::-1], y_test=labels[::-1])
    Image.fromarray(pixels[0]).save(folder / "image.png")


def _command(module: str, *arguments: Any) -> None:
    """A command line in this process; UserError with its last line where it exits with status 2."""
    told = io.StringIO()
    with contextlib.redirect_stdout(told), contextlib.redirect_stderr(told), _argv(module, arguments):
        try:
            status = run_command(importlib.import_module(f"{module}.__main__").main)
        except SystemExit as end:
            status = end.code
    if status == 2:
        raise UserError(told.getvalue().strip().splitlines()[-1].removeprefix("error: "))
    _require(status == 0, f"status {status}: {told.getvalue()[-300:]}")


@contextlib.contextmanager
def _argv(module: str, arguments: Sequence[Any]) -> Iterator[None]:
    with mock.patch("sys.argv", [module, *map(str, arguments)]):
        yield
