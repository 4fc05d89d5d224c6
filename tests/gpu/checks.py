"""The checks, each a function that says what it found, or raises: AssertionError where something is not as it must be,
LeftOut where it cannot be made here."""

import contextlib
import dataclasses
import itertools
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from sklearn.datasets import load_digits

from classify.heads import HEADS
from classify.heads.network.classifier import NetworkClassifier
from classify.heads.network.settings import TrainingSettings
from extract.__main__ import main as extract
from extract.trunk import Output, Trunk, choose_recipe
from features import load_features
from features.backbones import Backbone, load_backbone
from features.commands.options import run_command
from features.cut import Cut
from features.errors import UserError

NETWORKS = ("resnet18", "resnet50", "vit_b_16")
# How far the largest difference from the processor's float32 may be, as a part of the largest feature.
BOUNDS = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 6e-2}


class LeftOut(Exception):
    """A check that cannot be made on this machine, and why."""


@dataclass
class Bench:
    """Where the checks are made. small: on the processor, with little work."""

    device: torch.device
    small: bool
    folder: Path

    @property
    def machine(self) -> str:
        """One line."""
        name = "the processor" if self.device.type == "cpu" else torch.cuda.get_device_name(self.device)
        return f"{name}, torch {torch.__version__}, CUDA {torch.version.cuda}"

    @property
    def is_gpu(self) -> bool:
        """Whether it is one."""
        return self.device.type == "cuda"

    def network(self, name: str) -> tuple[Backbone, Cut]:
        """A network of random weights, and its cut at the size that is tried."""
        backbone = load_backbone(name, "random")
        size = 224 if name.startswith("vit") or not self.small else 64
        return backbone, backbone.cut(size)

    def trunk(self, cut: Cut, layers: tuple[str, ...], precision: str, **asked: Any) -> Trunk:
        """What computes these layers here, averaged over places."""
        outputs = [Output(cut.resolve(layer), "avg") for layer in layers]
        device = asked.pop("device", self.device)
        compiled = asked.pop("compiled", "off")
        recipe = choose_recipe(cut, outputs, images=64, precision=precision, device=device, compiled=compiled)
        return Trunk(cut, outputs, dataclasses.replace(recipe, **asked), device)

    def synchronise(self) -> None:
        """Wait for the device."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)


def images_for(cut: Cut, count: int, seed: int = 0) -> torch.Tensor:
    """Normalised noise, float32 (N, 3, S, S)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, cut.image_size, cut.image_size, generator=generator)


def far(here: torch.Tensor, there: torch.Tensor) -> float:
    """The largest difference, as a part of the largest number."""
    there = there.float()
    return float((here.float().cpu() - there).abs().max() / there.abs().max())


def _layers(cut: Cut) -> tuple[str, ...]:
    return cut.stages[-3:]


def precisions(bench: Bench) -> str:
    """Every precision against the processor's float32, three networks, the last three stages."""
    found: dict[str, float] = {}
    for name in NETWORKS[:2] if bench.small else NETWORKS:
        _, cut = bench.network(name)
        images = images_for(cut, 8)
        wanted = bench.trunk(cut, _layers(cut), "float32", device=torch.device("cpu"))(images)
        for precision in BOUNDS:
            outputs = bench.trunk(cut, _layers(cut), precision)(images.to(bench.device))
            for layer, here, there in zip(_layers(cut), outputs, wanted, strict=True):
                gap = far(here, there)
                assert gap <= BOUNDS[precision], f"{name} {layer} in {precision} is off by {gap:.1e}"
                found[precision] = max(gap, found.get(precision, 0.0))
    return ", ".join(f"{precision} within {gap:.1e}" for precision, gap in found.items())


def no_tf32(bench: Bench) -> str:
    """float32 is float32, whatever the process allows: TF32 would be off by a thousandth."""
    if not bench.is_gpu:
        raise LeftOut("TF32 is a GPU's")
    _, cut = bench.network("resnet18")
    images = images_for(cut, 8)
    wanted = bench.trunk(cut, ("avgpool",), "float32", device=torch.device("cpu"))(images)[0]
    with mock.patch.object(torch.backends.cudnn, "allow_tf32", True):
        gap = far(bench.trunk(cut, ("avgpool",), "float32")(images.to(bench.device))[0], wanted)
    assert gap <= BOUNDS["float32"], f"off by {gap:.1e} where TF32 is allowed"
    return f"within {gap:.1e}"


def engines(bench: Bench) -> str:
    """Compiled, with CUDA graphs, against eager, batch after batch: a graph writes into the same memory each time."""
    if not bench.is_gpu:
        raise LeftOut("kernels are chosen by trying, and graphs made, on a GPU alone")
    _, cut = bench.network("resnet18")
    found = []
    for precision in ("float32", "bfloat16"):
        eager = bench.trunk(cut, ("layer3", "avgpool"), precision, batch=16)
        compiled = bench.trunk(cut, ("layer3", "avgpool"), precision, batch=16, compiled="on")
        kept = []
        for seed in range(4):
            images = images_for(cut, 16, seed).to(bench.device)
            kept.append([(eager(images), [output.float().cpu() for output in compiled(images)])])
        gaps = [far(one, other.cpu()) for [(plain, quick)] in kept for one, other in zip(quick, plain, strict=True)]
        assert max(gaps) <= BOUNDS[precision], f"{precision} is off by {max(gaps):.1e}"
        found.append(f"{precision} within {max(gaps):.1e}")
    return ", ".join(found)


def int8_is_refused(bench: Bench) -> str:
    """In a line: its kernels are a processor's."""
    if not bench.is_gpu:
        raise LeftOut("on a processor it is computed")
    words = ["--dataset", "digits", "--limit", "40", "--weights", "random", "--image-size", "32"]
    status, said = _command(bench, [*words, "--precision", "int8", "--device", str(bench.device)])
    assert status == 2 and "Traceback" not in said, said[-300:]
    return said.strip().splitlines()[-1][:100]


def extraction(bench: Bench) -> str:
    """Whole extractions, from files of the data set to features: the device's against the processor's."""
    asked = {"weights": "random", "image_size": 32, "precision": "float32", "limit": 200, "limit_test": 100}
    found = []
    for place, device in enumerate(("cpu", str(bench.device))):
        words = ["--dataset", "digits", "--layer", "layer2", "avgpool", "--device", device, *_words(asked)]
        with _home(bench, f"extraction {place}"):
            status, said = _command(bench, words)
            assert status == 0, said[-300:]
            found.append(load_features("digits", "avgpool", "test", device=device, **asked)[0])
    gap = far(torch.tensor(found[-1]), torch.tensor(found[0]))
    assert gap <= BOUNDS["float32"], f"off by {gap:.1e}"
    return f"within {gap:.1e}"


def out_of_memory(bench: Bench) -> str:
    """A batch that does not fit is halved until it does."""
    asked = {"weights": "random", "image_size": 224, "precision": "float32", "limit": 2000, "limit_test": 10}
    if not bench.is_gpu:
        raise LeftOut("a processor's memory does not run out like a GPU's; tests/extract has it with a fake")
    words = ["--dataset", "digits", "--layer", "layer1", *_words(asked), "--device", str(bench.device)]
    torch.cuda.empty_cache()
    total = torch.cuda.get_device_properties(bench.device).total_memory
    # Room for the weights and some images, and not for 512.
    room = torch.cuda.memory_reserved(bench.device) + 1.2e9
    torch.cuda.set_per_process_memory_fraction(min(1.0, room / total), bench.device)
    try:
        with _home(bench, "memory"):
            status, said = _command(bench, words)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, bench.device)
        torch.cuda.empty_cache()
    assert status == 0, said[-300:]
    halved = said.count("does not fit into the memory")
    assert halved, "nothing was halved; the limit is too high"
    return f"halved {halved} times"


def heads(bench: Bench) -> str:
    """Logistic, linear SVM, ridge and nearest neighbours on the device against numpy."""
    X, y = load_digits(return_X_y=True)
    X = (X + np.random.default_rng(0).normal(0, 4, X.shape)).astype(np.float32)
    found = []
    for name, tight in (("logistic", {"tol": 1e-6}), ("linear-svm", {"tol": 1e-6}), ("ridge", {}), ("knn", {})):
        here, there = (
            HEADS[name].build(**({} if device is None else {"device": device}), **tight).fit(X[:1200], y[:1200])
            for device in (None, str(bench.device))
        )
        same = float(np.mean(here.predict(X[1200:]) == there.predict(X[1200:])))
        assert same >= 0.995, f"{name}: {same:.1%} of the predictions are the same"
        found.append(f"{name} {same:.1%}")
    return "the same predictions: " + ", ".join(found)


def training(bench: Bench) -> str:
    """Fine-tuning learns; killed and carried on it ends with the weights of a run that was not."""
    images, labels = _shapes(256 if bench.small else 1024)
    held = images[-64:], labels[-64:]
    settings = TrainingSettings(epochs=3, batch_size=32, precision="float32")
    asked: dict[str, Any] = {
        "weights": "random", "unfreeze": "all", "image_size": 32 if bench.small else 64, "settings": settings,
        "device": str(bench.device),
    }  # fmt: skip

    def fitted(**more: Any) -> NetworkClassifier:
        return NetworkClassifier("resnet18", **asked).fit(images[:-64], labels[:-64], held, **more)

    whole = fitted()
    reached = float(np.mean(whole.predict(held[0]) == held[1]))
    assert reached > 0.9, f"{reached:.0%} of held-out images right, where all can be"

    def kill(epoch: Any) -> None:
        if epoch.epoch == 2:
            raise KeyboardInterrupt

    with contextlib.suppress(KeyboardInterrupt):
        fitted(checkpoint=bench.folder / "run", on_epoch=kill)
    again = fitted(checkpoint=bench.folder / "run")
    one, other = (network.network_.model.state_dict() for network in (whole, again))
    gap = max(float((one[name].double() - other[name].double()).abs().max()) for name in one)
    # A GPU may sum in another order from one run to the next.
    assert gap <= (5e-2 if bench.is_gpu else 0.0), f"the weights are off by {gap:.1e}"
    return f"{reached:.0%} right; carried on, the weights are within {gap:.1e}"


def streams(bench: Bench) -> str:
    """Two trunks in two threads and two streams give what they give one after the other."""
    if not bench.is_gpu:
        raise LeftOut("streams are a GPU's")
    _, cut = bench.network("resnet18")
    trunks = [bench.trunk(cut, (layer,), "float32", batch=16) for layer in ("layer2", "avgpool")]
    batches = [images_for(cut, 16, seed).to(bench.device) for seed in range(8)]
    alone = [[trunk(batch)[0].cpu() for batch in batches] for trunk in trunks]

    def run(trunk: Trunk) -> list[torch.Tensor]:
        stream = torch.cuda.Stream(bench.device)
        stream.wait_stream(torch.cuda.default_stream(bench.device))
        with torch.cuda.stream(stream):
            outputs = [trunk(batch)[0] for batch in batches]
        stream.synchronize()
        return [output.cpu() for output in outputs]

    with ThreadPoolExecutor(2) as pool:
        together = list(pool.map(run, trunks))
    pairs = zip(itertools.chain(*together), itertools.chain(*alone), strict=True)
    gap = max(far(one, other) for one, other in pairs)
    assert gap <= 1e-5, f"off by {gap:.1e}"
    return f"within {gap:.1e}"


CHECKS: dict[str, Callable[[Bench], str]] = {
    "precisions": precisions,
    "no TF32 in float32": no_tf32,
    "extraction": extraction,
    "int8": int8_is_refused,
    "out of memory": out_of_memory,
    "heads": heads,
    "training, and carried on": training,
    "two streams": streams,
    "compiled, CUDA graphs": engines,
}


@contextlib.contextmanager
def _home(bench: Bench, name: str) -> Iterator[None]:
    """Meanwhile the home is a new folder."""
    with mock.patch.dict(os.environ, {"LAYERPROBE_HOME": str(bench.folder / name.replace(" ", "-"))}):
        yield


def _words(asked: dict[str, Any]) -> list[str]:
    return [word for name, value in asked.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def _command(bench: Bench, words: list[str]) -> tuple[int, str]:
    """An extraction's exit status, and what it said."""
    told = (bench.folder / "told.txt").open("w+")
    with told, contextlib.redirect_stdout(told), contextlib.redirect_stderr(told):
        try:
            status = run_command(extract, words)
        except UserError as error:
            return 2, str(error)
        told.seek(0)
        return status, told.read()


def _shapes(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images of three classes that anybody can tell apart: red, green and blue noise."""
    draw = np.random.default_rng(0)
    labels = draw.permutation(np.arange(count) % 3)
    images = draw.integers(0, 100, (count, 32, 32, 3)).astype(np.uint8)
    images[np.arange(count), :, :, labels] += 120
    return images, labels
